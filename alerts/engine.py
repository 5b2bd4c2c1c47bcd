"""The alert engine: a pure fold over the entries of the vitals log.

``(state, entry) -> (state, events)``. Its only clock is the entries: the watermark of ticks, the receipt time of
readings, the time of controls. Live, after a crash and from zero the same log gives byte-equal events, however its
readings were cut into batches (DESIGN section 2, promise 8).
"""

from collections import deque
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts import kernels, silence
from alerts.controls import (
    TROUBLES,
    AcknowledgeBody,
    LimitsBody,
    NoteBody,
    RecordBody,
    ResolveBody,
    ShelveBody,
    TechnicalBody,
    read_body,
    read_limits,
    shelf_problem,
)
from alerts.lifecycle import OpenAlert, Report, Trigger, advance, alert_id, raise_alert, technical_rule
from alerts.reports import limit_of, value_of, words
from alerts.rules import SlotSpec, compile_limit, describe
from alerts.silence import Contact, SilenceTable, Watch
from alerts.slots import SlotTable, emitted, rows_of
from vitals.errors import BackendError, InvalidRequest
from vitals.glossary import AlertState, ControlKind, Flag, Severity
from vitals.model import NO_TIME, UNASSIGNED, Control, Entry, Tick, VitalBatch
from vitals.ports import AlertEvent

SNAPSHOT_VERSION: Final = 2
_OLDEST_SNAPSHOT: Final = 1
"""Without watches for silence: they begin with the first tick after it."""
_ROOM: Final = 4096
_EXPIRES_FIRST, _DELAY_ELAPSES, _FALLS_SILENT = 0, 1, 2
_TRIGGERS: Final = MappingProxyType(
    {
        kernels.ONSET: Trigger.HOLDS,
        kernels.DOUBTED: Trigger.DOUBTED,
        kernels.WORSENED: Trigger.WORSENS,
        kernels.REFUTED: Trigger.REFUTED,
        kernels.ENDED: Trigger.ENDS,
    }
)
_ENDINGS: Final = MappingProxyType(
    {
        Trigger.REFUTED: "refuted by a second reading",
        Trigger.ENDS: "back within the limit",
        Trigger.ENDS_LATCHED: "back within the limit, not acknowledged yet",
    }
)


class _Transition(NamedTuple):
    """One element of ``kernels.Emitted`` as Python numbers."""

    slot: int
    kind: int
    at_ns: int
    time_ns: int
    value: float
    flags: int
    first_time_ns: int
    first_value: float
    first_flags: int
    first_message: int
    first_source_ns: int
    first_seq: int
    row: int


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    position: int
    table: dict[str, Any]
    alerts: list[OpenAlert]
    silence: dict[str, Any] | None = None
    troubles: int = 0


class Engine:
    """Alert state of every patient. Not thread-safe: one owner folds entries in order of position."""

    def __init__(self) -> None:
        self.position = 0
        self._table = SlotTable()
        self._alerts: dict[str, OpenAlert] = {}
        self._by_slot: dict[int, OpenAlert] = {}
        self._by_watch: dict[int, OpenAlert] = {}
        self._technical: dict[str, OpenAlert] = {}
        self._troubles = 0
        self._silence = SilenceTable()
        self._out = emitted(_ROOM)

    def warm(self) -> None:
        """Compile the kernels, or load them from numba's cache, before the first entry must be fast."""
        kernels.load()
        silence.load()

    def open_alerts(self) -> list[OpenAlert]:
        """Alerts that are not resolved: those of the system, then by slot, then by watch."""
        return sorted(self._alerts.values(), key=lambda alert: (alert.slot, alert.watch, alert.rule))

    def slot_count(self) -> int:
        """Slots ever given to a side of a patient's limit."""
        return self._table.size

    def near_misses(self, patient: str) -> int:
        """How often a condition of this patient ended before its on-delay did."""
        return sum(int(self._table.slots.near_misses[slot]) for slot in self._table.slots_of(patient))

    def near_misses_by_rule(self, patient: str) -> dict[str, int]:
        """The same by rule, where there were any."""
        counts = self._table.slots.near_misses
        return {self._table.rule(slot): int(counts[slot]) for slot in self._table.slots_of(patient) if counts[slot]}

    def apply(self, position: int, entry: Entry) -> list[AlertEvent]:
        """Fold one entry; the events that it causes, in order.

        Raises:
            ValueError: ``position`` is not after the last one.
        """
        if position <= self.position:
            raise ValueError(f"entry {position} after {self.position}")
        self.position = position
        match entry:
            case VitalBatch():
                return self._batch(entry)
            case Tick():
                return self._tick(entry.watermark_ns)
            case Control():
                return self._control(entry)
            case _:
                return []

    def _batch(self, batch: VitalBatch) -> list[AlertEvent]:
        """Rows in order; one that is withdrawn splits the batch, as if it had come alone."""
        events: list[AlertEvent] = []
        start = 0
        for row in np.flatnonzero(batch.flags & np.uint32(Flag.RETRACTED)).tolist():
            if row > start:
                events += self._readings(batch.take(np.arange(start, row)))
            self._withdraw(batch, row, events)
            start = row + 1
        if start < len(batch):
            events += self._readings(batch.take(np.arange(start, len(batch))) if start else batch)
        return events

    def _withdraw(self, batch: VitalBatch, row: int, events: list[AlertEvent]) -> None:
        """A reading is taken back: it holds up no condition any more, and an alert that it raised says so."""
        if batch.patient[row] == UNASSIGNED:
            return
        token, at_ns = batch.patients[batch.patient[row]], int(batch.received_ns[row])
        reading = (batch.vital[row], batch.source_time_ns[row], batch.seq[row], batch.time_ns[row])
        for slot in sorted(self._table.slots_of(token)):
            told, over = self._table.withdraw(slot, *map(int, reading))
            alert = self._by_slot.get(slot)
            if alert is None or not told:
                continue
            text = f"{describe(self._table.spec(slot), float(batch.value[row]), int(batch.flags[row]))}: retracted"
            self._record(alert, Trigger.WITHDRAWN, at_ns, Report(text=text), events)
            if over:
                latched = Trigger.ENDS_LATCHED if alert.severity is Severity.S1 else Trigger.ENDS
                text = "no reading holds it up any more"
                self._record(alert, Trigger.REFUTED if alert.doubted else latched, at_ns, Report(text=text), events)

    def _readings(self, batch: VitalBatch) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        if not self._table.size:
            return events
        scan_rows = kernels.load().scan_rows
        index, rows, row = self._table.index(batch.patients), rows_of(batch), 0
        contacts = deque(self._silence.hear(batch.patients, rows))
        while row < len(batch):
            row, count = scan_rows(self._table.slots, self._table.heads, index, rows, row, self._out)
            for transition in self._drain(count):
                # In the order of rows, as if each had come alone; a device that talks again is told first.
                while contacts and contacts[0].row <= transition.row:
                    self._hear(contacts.popleft(), events)
                self._follow(transition, "a second reading confirms it", events)
        for contact in contacts:
            self._hear(contact, events)
        return events

    def _hear(self, contact: Contact, events: list[AlertEvent]) -> None:
        """A reading ends a silence."""
        alert = self._by_watch[contact.number]
        text = f"{silence.describe(*self._watched(contact.number))}: readings come again"
        self._record(alert, Trigger.ENDS, contact.received_ns, Report(text=text), events)

    def _watched(self, number: int) -> tuple[int, int]:
        watch = self._silence.watch(number)
        return watch.vital, watch.window_ns

    def _tick(self, watermark_ns: int) -> list[AlertEvent]:
        due: list[tuple[int, int, int, _Transition | OpenAlert | Watch]] = [
            (alert.shelved_until_ns, _EXPIRES_FIRST, rank, alert)
            for rank, alert in enumerate(self.open_alerts())
            if alert.shelved_until_ns is not None and alert.shelved_until_ns <= watermark_ns
        ]
        scan_tick, slot = kernels.load().scan_tick, 0
        while slot < len(self._table.slots.condition):
            slot, count = scan_tick(self._table.slots, watermark_ns, slot, self._out)
            due += [(move.at_ns, _DELAY_ELAPSES, move.slot, move) for move in self._drain(count)]
        silent = self._silence.advance(watermark_ns)
        due += [(watch.deadline_ns, _FALLS_SILENT, watch.number, watch) for watch in silent]
        events: list[AlertEvent] = []
        for at_ns, _, _, what in sorted(due, key=lambda item: item[:3]):
            if isinstance(what, Watch):
                events.append(self._miss(what))
            elif isinstance(what, _Transition):
                self._follow(what, "no second reading within 15 minutes", events)
            elif what.shelved_until_ns is not None:
                self._record(what, Trigger.EXPIRE, at_ns, Report(text="no longer shelved"), events)
        return events

    def _miss(self, watch: Watch) -> AlertEvent:
        """A window elapsed with no reading."""
        rule = silence.rule(watch.vital)
        alert = OpenAlert(
            id=alert_id(watch.patient, rule, -1, watch.vital, watch.deadline_ns, watch.episode), patient=watch.patient,
            rule=rule, rule_version=self._table.version(watch.patient), slot=-1, severity=Severity.S3,
            live=AlertState.NORMAL, doubted=False, limit={}, watch=watch.number,
        )  # fmt: skip
        self._alerts[alert.id] = self._by_watch[watch.number] = alert
        seen = watch.time_ns != NO_TIME
        values = (value_of(watch.vital, watch.time_ns, watch.value, watch.flags),) if seen else ()
        report = Report(values, words(watch.flags), silence.describe(watch.vital, watch.window_ns))
        return raise_alert(alert, Trigger.HOLDS, watch.deadline_ns, report)

    def _drain(self, count: int) -> list[_Transition]:
        columns = (column[:count].tolist() for column in self._out)
        return [_Transition(*row) for row in zip(*columns, strict=True)]

    def _follow(self, move: _Transition, doubt_ended: str, events: list[AlertEvent]) -> None:
        """Turn a transition of a slot's condition into a step of its alert."""
        trigger, alert = _TRIGGERS[move.kind], self._by_slot.get(move.slot)
        if trigger in (Trigger.HOLDS, Trigger.DOUBTED):
            report = self._onset_report(move, ask=trigger is Trigger.DOUBTED)
            if alert is None:
                events.append(self._open(move, trigger, report))
            else:
                self._record(alert, trigger, move.at_ns, report, events)
            return
        assert alert is not None
        if trigger is Trigger.WORSENS:
            if alert.doubted:
                alert.doubted, alert.severity = False, Severity.S1
                self._record(alert, trigger, move.at_ns, self._onset_report(move, remark=doubt_ended), events)
            return
        if alert.severity is Severity.S1:
            trigger = Trigger.ENDS_LATCHED
        spec = self._table.spec(move.slot)
        end = value_of(spec.vital, move.time_ns, move.value, move.flags)
        text = f"{describe(spec, move.value, move.flags)}: {_ENDINGS[trigger]}"
        self._record(alert, trigger, move.at_ns, Report((end,), words(move.flags), text), events)

    def _onset_report(self, move: _Transition, *, ask: bool = False, remark: str = "") -> Report:
        spec = self._table.spec(move.slot)
        first = value_of(spec.vital, move.first_time_ns, move.first_value, move.first_flags)
        acted = value_of(spec.vital, move.time_ns, move.value, move.flags)
        text = describe(spec, move.value, move.flags)
        if ask:
            remark = "unusual value, please repeat the measurement now"
        values = (first,) if first == acted else (first, acted)
        return Report(values, words(move.first_flags | move.flags), f"{text}: {remark}" if remark else text)

    def _open(self, move: _Transition, trigger: Trigger, report: Report) -> AlertEvent:
        table, slot = self._table, move.slot
        patient, rule, spec = table.token(slot), table.rule(slot), table.spec(slot)
        ident = alert_id(patient, rule, move.first_message, spec.vital, move.first_source_ns, move.first_seq)
        doubted = trigger is Trigger.DOUBTED
        alert = OpenAlert(
            id=ident, patient=patient, rule=rule, rule_version=table.version(patient), slot=slot,
            severity=Severity.S2 if doubted else Severity(spec.severity), live=AlertState.NORMAL, doubted=doubted,
            limit=limit_of(spec),
        )  # fmt: skip
        self._alerts[ident] = self._by_slot[slot] = alert
        return raise_alert(alert, trigger, move.at_ns, report)

    def _record(
        self, alert: OpenAlert, trigger: Trigger, at_ns: int, report: Report, events: list[AlertEvent],
        *, until_ns: int | None = None,
    ) -> None:  # fmt: skip
        event = advance(alert, trigger, at_ns, report, until_ns=until_ns)
        if event is None:
            return
        events.append(event)
        if alert.live is AlertState.RESOLVED:
            del self._alerts[alert.id]
            if alert.slot >= 0:
                del self._by_slot[alert.slot]
            elif alert.watch >= 0:
                del self._by_watch[alert.watch]
            else:
                del self._technical[alert.rule]

    def _control(self, control: Control) -> list[AlertEvent]:
        """A malformed control, or one about an alert that is not open, changes nothing."""
        events: list[AlertEvent] = []
        try:
            if control.kind is ControlKind.LIMITS:
                self._limits(control)
                return events
            body = read_body(control)
        except InvalidRequest:
            return events
        assert not isinstance(body, LimitsBody)
        if isinstance(body, RecordBody):
            return events
        if isinstance(body, TechnicalBody):
            self._trouble(body, control, events)
            return events
        alert = self._alerts.get(body.alert)
        if alert is None:
            return events
        trigger, until_ns, note, text = Trigger.NOTE, None, "", ""
        match body:
            case AcknowledgeBody():
                over = alert.live is AlertState.RTN_UNACK
                trigger, note = Trigger.ACKNOWLEDGE, body.note
                text = "acknowledged after values had come back" if over else "acknowledged"
            case ShelveBody():
                if shelf_problem(alert.severity, control.time_ns, body.until_ns) is not None:
                    return events
                trigger, until_ns, note, text = Trigger.SHELVE, body.until_ns, body.reason, "shelved"
            case NoteBody():
                note = body.note
            case ResolveBody():
                trigger, note, text = Trigger.RESOLVE, body.note, "closed by a person"
                if alert.slot >= 0:
                    self._table.reset(alert.slot)
                elif alert.watch >= 0:
                    self._silence.rearm(alert.watch, control.time_ns)
        report = Report(text=text, author=control.author, note=note)
        self._record(alert, trigger, control.time_ns, report, events, until_ns=until_ns)
        return events

    def _limits(self, control: Control) -> None:
        body, limits = read_limits(control)
        if body.version <= self._table.version(body.patient):
            return
        specs: Sequence[SlotSpec] = [spec for limit in limits for spec in compile_limit(limit)]
        self._table.set_limits(body.patient, body.version, specs)
        self._silence.expect(body.patient, {spec.vital for spec in specs}, control.time_ns)

    def _trouble(self, body: TechnicalBody, control: Control, events: list[AlertEvent]) -> None:
        """A trouble of the system is one alert of the site (patient ``""``), however often it is told."""
        rule = technical_rule(body.cause)
        alert = self._technical.get(rule)
        if not body.active:
            if alert is not None:
                text = f"{TROUBLES[body.cause]}: over"
                self._record(alert, Trigger.ENDS, control.time_ns, Report(text=text), events)
            return
        if alert is not None:
            return
        self._troubles += 1
        alert = OpenAlert(
            id=alert_id("", rule, -1, 0, body.since_ns, self._troubles), patient="", rule=rule, rule_version=0, slot=-1,
            severity=Severity.S2, live=AlertState.NORMAL, doubted=False, limit={},
        )  # fmt: skip
        self._alerts[alert.id] = self._technical[rule] = alert
        events.append(raise_alert(alert, Trigger.HOLDS, control.time_ns, Report(text=TROUBLES[body.cause])))

    def snapshot(self) -> bytes:
        """State and last position, versioned; equal states give equal bytes."""
        state = _Snapshot(
            SNAPSHOT_VERSION, self.position, self._table.dump(), self.open_alerts(), self._silence.dump(),
            self._troubles,
        )  # fmt: skip
        return msgspec.msgpack.encode(state)

    @classmethod
    def restore(cls, data: bytes) -> "Engine":
        """The engine that :meth:`snapshot` saved, in this version or an older one.

        Raises:
            BackendError: not retryable; ``data`` is no such snapshot.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_Snapshot)
            if not _OLDEST_SNAPSHOT <= state.version <= SNAPSHOT_VERSION:
                raise ValueError(f"version {state.version}")
            engine = cls()
            engine._table = SlotTable.load(state.table)
            if state.silence is None:
                for patient, vitals in engine._table.in_force():
                    engine._silence.expect(patient, vitals, NO_TIME)
            else:
                engine._silence = SilenceTable.load(state.silence)
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            raise BackendError(f"alert snapshot cannot be read: {error}", retryable=False) from error
        engine.position, engine._troubles = state.position, state.troubles
        engine._alerts = {alert.id: alert for alert in state.alerts}
        engine._by_slot = {alert.slot: alert for alert in state.alerts if alert.slot >= 0}
        engine._by_watch = {alert.watch: alert for alert in state.alerts if alert.watch >= 0}
        engine._technical = {alert.rule: alert for alert in state.alerts if alert.slot < 0 and alert.watch < 0}
        return engine
