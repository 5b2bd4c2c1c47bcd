"""Faults of a patient's devices: battery, clock, faults, flapping, gateway offline (clinical.md 5.1, technical).

What ingest says of devices (``ingest/journal/device_life.py``) opens and closes troubles; who wears a device is learned
from its readings. A trouble belongs to the wearer's rules, by cause; of a device that nobody is known to wear it
belongs to the site (patient ``""``), under a rule of the device's own. One rule of a patient stands once, however many
devices have the trouble, until the last of them is over.

Clocks are the watermark of ticks and the times of events. Wearers and rules that changed count from the next event of
the device or tick on, so that moves do not depend on how readings were cut into batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts.judging.silence import LONGEST_BEAT_NS
from alerts.rules.device_faults import ALWAYS, BATTERY, GATEWAY, cause_of, describe, fault_name, site_rules
from alerts.rules.spec import TroubleRule
from vitals.glossary import EventKind, Flag
from vitals.model import UNASSIGNED, DeviceEvent, Int32, VitalBatch
from vitals.times import MINUTE_NS, NO_TIME

DISORDER_NS: Final = 10 * MINUTE_NS
"""Presence this much older than the newest is out of order (device-formats.md 7.3), as ingest has it."""
SUPERSEDED: Final = "will of an older connection"
GOODBYE: Final = "disconnected"
"""Detail of an ``offline`` that the device announced: no trouble by default, a programme may still count it."""
SKEW_NS: Final = 5 * MINUTE_NS
"""Times of events further from the watermark are those of a wrong clock (clinical.md 1.3)."""
HISTORY: Final = np.uint32(Flag.LATE | Flag.REPLAYED | Flag.RETRACTED | Flag.REVISION)
"""A reading with any of these does not say who wears its device now."""


class TroubleMove(NamedTuple):
    """An alert that begins or ends. ``key`` is ``patient|rule``; ``rule`` is the one in force when it began.

    ``message``, ``vital``, ``since_ns`` and ``number`` are what an alert id is made of: the same in both moves of one
    alert, and of no other.
    """

    key: str
    begins: bool
    at_ns: int
    patient: str
    rule: TroubleRule
    device: str
    text: str
    message: int
    vital: int
    since_ns: int
    number: int


class _Trouble(msgspec.Struct, array_like=True):
    cause: str
    detail: str
    value: float | None
    since_ns: int
    message: int
    vital: int


class _Standing(msgspec.Struct, array_like=True):
    """An alert that began, by :class:`TroubleMove`."""

    patient: str
    rule: TroubleRule
    device: str
    text: str
    message: int
    vital: int
    since_ns: int
    number: int


class _State(msgspec.Struct):
    watermark_ns: int
    count: int
    wearers: list[tuple[str, str]]
    presence: list[tuple[str, int]]
    open: list[tuple[str, str, _Trouble]]
    placed: list[tuple[str, str]]
    rules: list[tuple[TroubleRule, ...]]
    patients: list[tuple[str, int]]
    standing: list[_Standing]


_Place = tuple[str, str]
"""(patient, ""), or ("", device) of a device that nobody is known to wear."""


class DeviceTroubles:
    """State of every device that ever sent or said anything, and what stands of it. Deterministic, no clock."""

    def __init__(self) -> None:
        self._watermark_ns = NO_TIME
        self._count = 0
        self._wearer: dict[str, str] = {}
        # Devices, patients, and which of these wore which of those in the batch before: said again it changes nothing.
        self._seen: tuple[tuple[str, ...], tuple[str, ...], Int32] = ((), (), np.zeros(0, np.int32))
        self._presence_ns: dict[str, int] = {}
        self._rules: dict[str, tuple[TroubleRule, ...]] = {}
        self._open: dict[str, dict[str, _Trouble]] = {}
        self._standing: dict[_Place, dict[str, _Standing]] = {}
        # Where each device with troubles was judged last.
        self._placed: dict[str, _Place] = {}
        # Derived: the devices of a place, what must be judged again, and when at the latest.
        self._at: dict[_Place, set[str]] = {}
        self._moved: set[str] = set()
        self._edited: set[_Place] = set()
        self._due: dict[_Place, int] = {}

    # What the log says.

    def observe(self, batch: VitalBatch) -> None:
        """Learn who wears the devices of a batch: the patient of each one's last current row."""
        now = ((batch.flags & HISTORY) == 0) & (batch.patient != UNASSIGNED)
        patient = np.full(len(batch.devices), UNASSIGNED, np.int32)
        # Of an index that is repeated the last value stays.
        patient[batch.device[now]] = batch.patient[now]
        devices, patients, worn = self._seen
        if batch.devices is devices and batch.patients is patients and np.array_equal(worn, patient):
            return
        self._seen = (batch.devices, batch.patients, patient)
        known = np.flatnonzero(patient >= 0).tolist()
        wearing = batch.devices if len(known) == len(patient) else [batch.devices[number] for number in known]
        worn_by = list(map(batch.patients.__getitem__, patient[known].tolist()))
        if list(map(self._wearer.get, wearing)) == worn_by:
            return
        for device, who in zip(wearing, worn_by, strict=True):
            if self._wearer.get(device) != who:
                self._wearer[device] = who
                if device in self._open:
                    self._moved.add(device)

    def expect(self, patient: str, rules: Sequence[TroubleRule]) -> None:
        """The rules of a patient from now on; what stands stays until its trouble is over."""
        if rules:
            self._rules[patient] = tuple(rules)
        else:
            self._rules.pop(patient, None)
        self._edited.add((patient, ""))

    def events(self, events: Sequence[DeviceEvent]) -> list[TroubleMove]:
        """Take in what happened to devices, in order."""
        moves: list[TroubleMove] = []
        for event in events:
            if self._take(event):
                now_ns = self._time_of(event)
                moves += [move for place in self._placing(event.device) for move in self._judge(place, now_ns, None)]
        return moves

    def advance(self, watermark_ns: int) -> list[TroubleMove]:
        """Move to a tick's watermark: delays elapse, changed wearers and rules count. In order of time, then key."""
        before = self._watermark_ns
        if before != NO_TIME:
            self._bend(before, watermark_ns)
        self._watermark_ns = watermark_ns
        places = self._edited | {place for place, due_ns in self._due.items() if due_ns <= watermark_ns}
        for device in self._moved:
            places.update(self._placing(device))
        self._moved.clear()
        self._edited.clear()
        moves = [move for place in sorted(places) for move in self._judge(place, watermark_ns, before)]
        return sorted(moves, key=lambda move: (move.at_ns, move.key, move.begins))

    def _bend(self, before: int, watermark_ns: int) -> None:
        """A clock that was set back, and time in which nothing was processed, make nobody longer in trouble."""
        gap = watermark_ns - before
        if 0 <= gap <= LONGEST_BEAT_NS:
            return
        for device, troubles in self._open.items():
            for trouble in troubles.values():
                if gap < 0:
                    trouble.since_ns = min(trouble.since_ns, watermark_ns)
                elif trouble.since_ns > before:
                    trouble.since_ns = max(trouble.since_ns, watermark_ns)
                elif trouble.cause == GATEWAY:
                    trouble.since_ns += gap
            self._moved.add(device)

    def _time_of(self, event: DeviceEvent) -> int:
        now = self._watermark_ns
        return event.time_ns if now == NO_TIME else min(max(event.time_ns, now - SKEW_NS), now + SKEW_NS)

    def _take(self, event: DeviceEvent) -> bool:
        """Open or close a trouble; whether anything changed."""
        match event.kind:
            case EventKind.BATTERY_LOW:
                return self._opens(event, BATTERY, BATTERY, event.detail)
            case EventKind.BATTERY_OK:
                return self._closes(event.device, BATTERY)
            case EventKind.OFFLINE | EventKind.ONLINE:
                return self._presence(event)
            case EventKind.FAULT | EventKind.FAULT_OVER:
                kind, _, detail = event.detail.partition(": ")
                name = fault_name(kind, detail, event.vital)
                if event.kind is EventKind.FAULT_OVER:
                    return self._closes(event.device, name)
                cause = cause_of(kind, detail)
                return self._opens(event, name, cause, detail)
            case _:
                return False

    def _presence(self, event: DeviceEvent) -> bool:
        newest = self._presence_ns.get(event.device, NO_TIME)
        if event.detail == SUPERSEDED or newest - DISORDER_NS <= event.time_ns < newest:
            return False
        self._presence_ns[event.device] = event.time_ns
        if event.kind is EventKind.ONLINE:
            return self._closes(event.device, GATEWAY)
        return self._opens(event, GATEWAY, GATEWAY, event.detail)

    def _opens(self, event: DeviceEvent, name: str, cause: str, detail: str) -> bool:
        own = self._open.setdefault(event.device, {})
        if name in own:
            own[name].detail, own[name].value = detail, event.value
            return True
        own[name] = _Trouble(cause, detail, event.value, self._time_of(event), event.message, event.vital)
        return True

    def _closes(self, device: str, name: str) -> bool:
        own = self._open.get(device)
        if own is None or own.pop(name, None) is None:
            return False
        if not own:
            del self._open[device]
        return True

    # What follows.

    def _placing(self, device: str) -> list[_Place]:
        """Put a device where its wearer is; the places to be judged: the one that it left, and that one."""
        left, patient = self._placed.pop(device, None), self._wearer.get(device)
        place = ("", device) if patient is None else (patient, "")
        if left is not None:
            self._at[left].discard(device)
            if not self._at[left]:
                del self._at[left]
        if device in self._open:
            self._placed[device] = place
            self._at.setdefault(place, set()).add(device)
        return [place] if left is None or left == place else [left, place]

    def _judge(self, place: _Place, now_ns: int, before: int | None) -> list[TroubleMove]:
        """What ends and begins at a place; ``before`` is the watermark up to which delays had elapsed already."""
        troubles = [(device, name, trouble) for device in sorted(self._at.get(place, ()))
                    for name, trouble in sorted(self._open[device].items())]  # fmt: skip
        moves = self._ends(place, {trouble.cause for _, _, trouble in troubles}, now_ns)
        standing = self._standing.get(place, {})
        self._due.pop(place, None)
        for rule in (*self._rules.get(place[0], ()), *ALWAYS) if place[0] else site_rules(place[1]):
            key = f"{place[0]}|{rule.face.name}"
            if key in standing:
                continue
            waits = [(trouble.since_ns + rule.after_ns, device, name, trouble) for device, name, trouble in troubles
                     if trouble.cause == rule.cause and (place[0] or trouble.detail != GOODBYE)]  # fmt: skip
            if not waits:
                continue
            due_ns, device, _, trouble = min(waits, key=lambda one: one[:3])
            if due_ns > self._watermark_ns and rule.after_ns:
                self._due[place] = min(due_ns, self._due.get(place, due_ns))
                continue
            # What was due before, or needs no delay, was kept by something else: a rule or a wearer that changed.
            late = before is None or due_ns <= before or not rule.after_ns
            at_ns = now_ns if late else due_ns
            moves.append(self._begin(place, key, rule, device, trouble, at_ns))
        return moves

    def _begin(
        self, place: _Place, key: str, rule: TroubleRule, device: str, trouble: _Trouble, at_ns: int
    ) -> TroubleMove:  # fmt: skip
        self._count += 1
        text = describe(device, trouble.cause, trouble.detail, trouble.value, trouble.vital)
        if not place[0]:
            text += " (nobody is known to wear it)"
        one = _Standing(
            place[0], rule, device, text, trouble.message, trouble.vital, trouble.since_ns, self._count
        )  # fmt: skip
        self._standing.setdefault(place, {})[key] = one
        return _move(key, one, at_ns)

    def _ends(self, place: _Place, causes: set[str], now_ns: int) -> list[TroubleMove]:
        standing = self._standing.get(place, {})
        over = sorted(key for key, one in standing.items() if one.rule.cause not in causes)
        moves = []
        for key in over:
            one = standing.pop(key)
            elsewhere = any(t.cause == one.rule.cause for t in self._open.get(one.device, {}).values())
            moves.append(_move(key, one, now_ns, "worn by somebody else now" if elsewhere else "over"))
        if over and not standing:
            del self._standing[place]
        return moves

    # At rest.

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal states give equal bytes."""
        kinds: dict[tuple[TroubleRule, ...], int] = {}
        patients = [(patient, kinds.setdefault(rules, len(kinds))) for patient, rules in sorted(self._rules.items())]
        state = _State(
            self._watermark_ns, self._count, sorted(self._wearer.items()), sorted(self._presence_ns.items()),
            [(device, name, one) for device, own in sorted(self._open.items()) for name, one in sorted(own.items())],
            sorted((device, patient) for device, (patient, _) in self._placed.items()), list(kinds), patients,
            [one for _, own in sorted(self._standing.items()) for _, one in sorted(own.items())],
        )  # fmt: skip
        return dict(msgspec.to_builtins(state))

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "DeviceTroubles":
        """The inverse of :meth:`dump`. Raises ``msgspec.ValidationError`` or ``KeyError`` when ``state`` is not one."""
        stored = msgspec.convert(state, _State)
        table = cls()
        table._watermark_ns, table._count = stored.watermark_ns, stored.count
        table._wearer, table._presence_ns = dict(stored.wearers), dict(stored.presence)
        kinds = dict(enumerate(stored.rules))
        table._rules = {patient: kinds[number] for patient, number in stored.patients}
        for device, name, trouble in stored.open:
            table._open.setdefault(device, {})[name] = trouble
        for one in stored.standing:
            place = (one.patient, "" if one.patient else one.device)
            table._standing.setdefault(place, {})[f"{one.patient}|{one.rule.face.name}"] = one
        for device, patient in stored.placed:
            table._placed[device] = place = (patient, "" if patient else device)
            table._at.setdefault(place, set()).add(device)
        # Judging again what has not changed moves nothing.
        table._moved = set(table._open)
        return table


def _move(key: str, one: _Standing, at_ns: int, end: str = "") -> TroubleMove:
    text = f"{one.text}: {end}" if end else one.text
    return TroubleMove(
        key, not end, at_ns, one.patient, one.rule, one.device, text, one.message, one.vital, one.since_ns, one.number
    )  # fmt: skip
