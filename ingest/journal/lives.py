"""Lives of devices at rest, in the file and the transactions of the vitals log; the fold is
:mod:`ingest.journal.device_life`.

What is told of a device (presence, new reports, faults that begin or end) is its history: the newest ``KEPT_EVENTS``
and a few more. Reports beside late or replayed readings are of the past: they change no state.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.adapter import Context
from ingest.journal import device_life
from ingest.journal.device_life import FLAPPING, REPORTS, Life, Sound
from ingest.journal.identities import Cycle, Journal
from vitals.catalog import CODE_SPACE, VITALS
from vitals.device_state import (
    BATTERY_LOW_PERCENT,
    DEFAULT_BATTERY_LOW_PERCENT,
    DeviceState,
    Processed,
    ToldEvent,
    number_setting,
)
from vitals.glossary import NOT_SCORED, Basis, Flag
from vitals.model import DeviceEvent, VitalBatch
from vitals.times import MINUTE_NS, NO_TIME, SECOND_NS

KEPT_EVENTS: Final = 1_000
_SLACK_EVENTS: Final = 100
LONGEST_BEAT_NS: Final = 30 * SECOND_NS
"""A longer pause between two watermarks is an outage: nothing was processed, no device was overdue."""
_FUTURE_NS: Final = 5 * MINUTE_NS
"""A measurement time further ahead of its receipt is a wrong clock (clinical.md 1.3, cross-field checks)."""
_UNSOUND: Final = np.uint32(NOT_SCORED | Flag.LOW_QUALITY | Flag.POSSIBLE_DUPLICATE)
_UNTRUSTED: Final = np.uint32(
    Flag.CLOCK_SUSPECT | Flag.CLOCK_WRONG | Flag.RETRACTED | Flag.TEST_DATA | Flag.CONTROL_SOLUTION
)
_TRUSTED_BASES: Final = np.isin(
    np.arange(len(Basis)), [Basis.DEVICE, Basis.DEVICE_ASSUMED_ZONE, Basis.HUB, Basis.RECEIVED]
)
_FOREVER: Final = 2**63 - 1
_COLUMNS: Final = {"measured_ns": "INTEGER", "window_ns": "INTEGER", "life": "BLOB",
                   "watched": "INTEGER NOT NULL DEFAULT 0"}  # fmt: skip
_SEEN: Final = (
    "INSERT INTO device_states(device, last_seen_ns, measured_ns, window_ns) VALUES(?,?,?,?) "
    "ON CONFLICT(device) DO UPDATE SET "
    # max of a null is null
    "last_seen_ns=coalesce(max(last_seen_ns, excluded.last_seen_ns), last_seen_ns, excluded.last_seen_ns), "
    "measured_ns=coalesce(max(measured_ns, excluded.measured_ns), measured_ns, excluded.measured_ns), "
    "window_ns=coalesce(min(window_ns, excluded.window_ns), window_ns, excluded.window_ns)"
)
_SAVE: Final = (
    "INSERT INTO device_states(device, life, watched) VALUES(?,?,?) "
    "ON CONFLICT(device) DO UPDATE SET life=excluded.life, watched=excluded.watched"
)
# The row behind the newest ones, and all before it.
_PRUNE: Final = (
    "DELETE FROM device_events WHERE device=?1 AND id <= "
    "(SELECT id FROM device_events WHERE device=?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_life: Final = msgspec.msgpack.Decoder(Life).decode
_decode_event: Final = msgspec.msgpack.Decoder(DeviceEvent).decode

Known = Sequence[tuple[VitalBatch, npt.NDArray[np.bool_]]]
"""Readings of a micro-batch, and which of them are no duplicates."""


def _windows() -> npt.NDArray[np.int64]:
    windows = np.full(CODE_SPACE, _FOREVER, np.int64)
    for vital in VITALS:
        windows[vital.code] = vital.silence_ns(vital.mode)
    return windows


_WINDOW_NS: Final = _windows()


class LifeJournal:
    """Reads and writes of device states and histories. Writes happen inside a cycle of ingest, by its thread."""

    def __init__(self, journal: Journal) -> None:
        log = self._log = journal.log
        self._measured: dict[str, int] = {}
        self._window: dict[str, int] = {}
        self._watching: dict[str, Life] | None = None
        self._progress: Processed | None = None
        known = {row[1] for row in log.query("PRAGMA table_info(device_states)")}
        missing = [f"{name} {kind}" for name, kind in _COLUMNS.items() if name not in known]
        if missing:
            with log.transaction() as tx:
                for column in missing:
                    tx.connection.execute(f"ALTER TABLE device_states ADD COLUMN {column}")

    # In a cycle.

    def forget(self) -> None:
        """Drop what was learned in a transaction that did not commit."""
        self._measured, self._window = {}, {}
        self._watching = self._progress = None

    def presence(self, cycle: Cycle, events: Sequence[DeviceEvent]) -> None:
        """Devices that came and went, as the gateway tells."""
        told: list[DeviceEvent] = []
        for event in events:
            life = self._life(cycle, event.device)
            follows = device_life.presence(life, event)
            self._save(cycle, event.device, life, [event, *follows])
            told += follows
        if told:
            cycle.append(told)

    def doubted(self, cycle: Cycle, contexts: Mapping[str, Context]) -> Mapping[str, Context]:
        """The contexts, with a mark on those of devices whose unit is in doubt by now."""
        devices = [device for device, life in self._watched(cycle).items() if life.unit_doubted]
        if not devices:
            return contexts
        return {**contexts, **{one: replace(contexts.get(one, Context()), unit_doubted=True) for one in devices}}

    def flushed(
        self, cycle: Cycle, done: Sequence[tuple[Known, Sequence[DeviceEvent]]], contexts: Mapping[str, Context], *,
        live: bool,
    ) -> None:  # fmt: skip
        """Readings and reports of a stretch of the raw log, all adapters together; ``live`` unless replayed."""
        known = list(chain.from_iterable(readings for readings, _ in done))
        for batch, fresh in known:
            self._note(batch, fresh)
        reports = [event for _, events in done for event in events if event.kind in REPORTS]
        concerned = self._watched(cycle).keys() | {event.device for event in reports}
        if not live or not concerned:
            return
        steps, late = _steps(known, concerned)
        for event in reports:
            if event.message not in late:
                steps.setdefault(event.device, []).append((event.message, 0, event))
        told: list[DeviceEvent] = []
        for device in sorted(steps):
            told += self._fold(cycle, device, steps[device], _low_percent(contexts.get(device)))
        if told:
            cycle.append(told)

    def passed(self, cycle: Cycle, watermark_ns: int) -> None:
        """A tick: everything received before ``watermark_ns`` was taken in."""
        before = self._processed(cycle)
        if watermark_ns <= before.watermark_ns:
            return
        pause = (before.pause_from_ns, before.pause_to_ns)
        if before.watermark_ns and watermark_ns - before.watermark_ns > LONGEST_BEAT_NS:
            pause = (before.watermark_ns, watermark_ns)
        self._progress = Processed(watermark_ns, *pause)
        told: list[DeviceEvent] = []
        for device, life in list(self._watched(cycle).items()):
            if FLAPPING in life.troubles:
                follows = device_life.passed(life, device, watermark_ns)
                self._save(cycle, device, life, follows)
                told += follows
        if told:
            cycle.append(told)

    def stepped(self, cycle: Cycle, step_ns: int) -> None:
        """The gateway's clock was moved: what was processed is told by the new time."""
        before = self._processed(cycle)
        if before.watermark_ns:
            pause_ns = (before.pause_from_ns + step_ns, before.pause_to_ns + step_ns) if before.pause_to_ns else (0, 0)
            self._progress = Processed(before.watermark_ns + step_ns, *pause_ns)

    def write(self, cycle: Cycle, seen: Mapping[str, int]) -> None:
        """Last contacts and measurements of the cycle, which never move back, and how far it got."""
        measured, window = self._measured, self._window
        devices = seen.keys() | measured.keys() | window.keys()
        rows = [(device, seen.get(device), measured.get(device), window.get(device)) for device in devices]
        cycle.sql.executemany(_SEEN, rows)
        measured.clear()
        window.clear()
        if self._progress is not None:
            cycle.sql.execute(
                "UPDATE processed SET watermark_ns=?, pause_from_ns=?, pause_to_ns=?",
                msgspec.structs.astuple(self._progress),
            )

    def _note(self, batch: VitalBatch, fresh: npt.NDArray[np.bool_]) -> None:
        ended = np.where(batch.end_ns == NO_TIME, batch.time_ns, batch.end_ns)
        sure = fresh & ((batch.flags & _UNTRUSTED) == 0) & _TRUSTED_BASES[batch.basis]
        sure &= (ended != NO_TIME) & (ended <= batch.received_ns + _FUTURE_NS)
        newest = np.full(len(batch.devices), NO_TIME, np.int64)
        np.maximum.at(newest, batch.device[sure], ended[sure])
        shortest = np.full(len(batch.devices), _FOREVER, np.int64)
        np.minimum.at(shortest, batch.device[fresh], _WINDOW_NS[batch.vital[fresh]])
        for device, time_ns, window_ns in zip(batch.devices, newest.tolist(), shortest.tolist(), strict=True):
            if time_ns > self._measured.get(device, NO_TIME):
                self._measured[device] = time_ns
            if window_ns < self._window.get(device, _FOREVER):
                self._window[device] = window_ns

    def _fold(
        self, cycle: Cycle, device: str, steps: list[tuple[int, int, DeviceEvent | Sound]], low_percent: float
    ) -> list[DeviceEvent]:
        life = self._life(cycle, device)
        told: list[DeviceEvent] = []
        history: list[DeviceEvent] = []
        for _, _, step in sorted(steps, key=itemgetter(0, 1)):
            if isinstance(step, DeviceEvent):
                follows, news = device_life.report(life, step, low_percent)
                history += [step] if news else []
            else:
                follows = device_life.sound(life, device, step)
            history += follows
            told += follows
        self._save(cycle, device, life, history)
        return told

    def _processed(self, cycle: Cycle) -> Processed:
        if self._progress is None:
            self._progress = Processed(*cycle.sql.execute(_PROCESSED).fetchone())
        return self._progress

    def _watched(self, cycle: Cycle) -> dict[str, Life]:
        """Lives that readings or time can change, in memory."""
        if self._watching is None:
            rows = cycle.sql.execute("SELECT device, life FROM device_states WHERE watched").fetchall()
            self._watching = {device: _decode_life(life) for device, life in rows}
        return self._watching

    def _life(self, cycle: Cycle, device: str) -> Life:
        life = self._watched(cycle).get(device)
        if life is None:
            row = cycle.sql.execute("SELECT life FROM device_states WHERE device=?", (device,)).fetchone()
            life = Life() if row is None or row[0] is None else _decode_life(row[0])
        return life

    def _save(self, cycle: Cycle, device: str, life: Life, history: Sequence[DeviceEvent]) -> None:
        cycle.sql.executemany(
            "INSERT INTO device_events(device, body) VALUES(?,?)", [(device, _encode(event)) for event in history]
        )
        life.told += len(history)
        if life.told > KEPT_EVENTS + _SLACK_EVENTS:
            cycle.sql.execute(_PRUNE, (device, KEPT_EVENTS))
            life.told = KEPT_EVENTS
        cycle.sql.execute(_SAVE, (device, _encode(life), life.watched))
        watching = self._watched(cycle)
        if life.watched:
            watching[device] = life
        else:
            watching.pop(device, None)

    # What people ask.

    def state(self, device: str) -> DeviceState:
        """What is known of a device; nothing of one that was never heard."""
        rows = self._log.query(
            "SELECT last_seen_ns, measured_ns, window_ns, life FROM device_states WHERE device=?", (device,)
        )
        if not rows:
            return DeviceState(device)
        seen_ns, measured_ns, window_ns, body = rows[0]
        life = Life() if body is None else _decode_life(body)
        return DeviceState(
            device, seen_ns, life.online, life.since_ns, life.by, measured_ns, life.battery, life.battery_low,
            life.battery_ns, window_ns, life.faults(),
        )  # fmt: skip

    def events(self, device: str, before: int, limit: int) -> list[ToldEvent]:
        """The history of a device with id < ``before``, newest first."""
        rows = self._log.query(
            "SELECT id, body FROM device_events WHERE device=? AND id<? ORDER BY id DESC LIMIT ?",
            (device, before, limit),
        )
        return [ToldEvent(ident, _decode_event(body)) for ident, body in rows]

    def processed(self) -> Processed:
        """How far ingest got, as of the last commit."""
        return Processed(*self._log.query(_PROCESSED)[0])


_PROCESSED: Final = "SELECT watermark_ns, pause_from_ns, pause_to_ns FROM processed"


def _steps(
    known: Known, concerned: Collection[str]
) -> tuple[dict[str, list[tuple[int, int, DeviceEvent | Sound]]], set[int]]:
    """Sound readings of the devices that are concerned, and messages whose readings are all late."""
    steps: dict[str, list[tuple[int, int, Any]]] = {}
    late: set[int] = set()
    for batch, fresh in known:
        asked = np.array([device in concerned for device in batch.devices], bool)
        rows = np.flatnonzero(fresh & asked[batch.device])
        flags, message = batch.flags[rows], batch.message[rows]
        is_late = (flags & np.uint32(Flag.LATE)) != 0
        late |= set(message[is_late].tolist()) - set(message[~is_late].tolist())
        sound = rows[((flags & _UNSOUND) == 0) & _TRUSTED_BASES[batch.basis[rows]]]
        clocked = batch.basis[sound] <= int(Basis.DEVICE_ASSUMED_ZONE)
        clocked &= (batch.flags[sound] & np.uint32(Flag.CLOCK_WRONG)) == 0
        columns = (batch.device[sound], batch.message[sound], batch.vital[sound], batch.received_ns[sound], clocked)
        for device, ordinal, vital, received_ns, own_clock in zip(*(one.tolist() for one in columns), strict=True):
            reading = Sound(ordinal, vital, received_ns, own_clock)
            steps.setdefault(batch.devices[device], []).append((ordinal, 1, reading))
    return steps, late


def _low_percent(context: Context | None) -> float:
    said = None if context is None else number_setting(context.settings, BATTERY_LOW_PERCENT)
    return DEFAULT_BATTERY_LOW_PERCENT if said is None else said
