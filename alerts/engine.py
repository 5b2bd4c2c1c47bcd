"""The alert engine: a pure fold over the entries of the vitals log.

``(state, entry) -> (state, Folded(events, derived))``. Its only clock is the entries: the watermark of ticks, the
receipt time of readings, the time of controls. Live, after a crash and from zero the same log gives byte-equal events,
however its readings were cut into batches (DESIGN section 2, promise 8).

Conditions are judged here: by the kernels over slots (rules on readings), watches (silence), device troubles and
scores. What becomes of an alert once its condition began is the casebook's (``alerts.cases.casebook``).
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts.cases.casebook import Casebook
from alerts.cases.cases import Case
from alerts.cases.following import follow
from alerts.cases.lifecycle import Report, Trigger, technical_rule
from alerts.cases.notices import take_notice
from alerts.cases.subjects import (
    Transition,
    silence_report,
    silence_subject,
    site_subject,
    trouble_subject,
)
from alerts.judging import kernels, score_kernels, silence
from alerts.judging.conditions import ONSET
from alerts.judging.effort import with_effort
from alerts.judging.scoring import is_scores, rule_rows, score_rows
from alerts.judging.silence import Contact, Watch
from alerts.judging.slots import emitted, rows_of
from alerts.judging.state import Rows
from alerts.judging.troubles import TroubleMove
from alerts.judging.watching import Watching
from alerts.programmes.bodies import read_status
from alerts.programmes.controls import TechnicalBody, read_body, trouble_text
from alerts.rules.monitor_alarms import AlarmBody
from alerts.rules.reports import describe
from alerts.rules.spec import Compiled, Kind
from alerts.rules.unclaimed import OtherPatientBody, UnclaimedBody
from vitals.errors import BackendError, InvalidRequest
from vitals.glossary import ControlKind, Flag, Severity
from vitals.model import UNASSIGNED, Control, DeviceEvent, Entry, Tick, VitalBatch
from vitals.records import AlertEvent
from vitals.times import SECOND_NS

SNAPSHOT_VERSION: Final = 6
_READABLE: Final = (4, 5, SNAPSHOT_VERSION)
"""A snapshot of version 4 has no lines of urgency, one of version 5 counts no readings n of m: rules are compiled
anew."""
_ROOM: Final = 4096
_DELAY_ELAPSES, _FALLS_SILENT, _TROUBLES = 1, 2, 3


class Folded(NamedTuple):
    """What one entry causes. ``derived`` are scores, to be stored as a stream of their own, or None."""

    events: list[AlertEvent]
    derived: VitalBatch | None = None


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    position: int
    told: int
    watching: dict[str, Any]
    casebook: dict[str, Any]


def key_of(patient: str, rule: str) -> str:
    """What the casebook knows a condition by."""
    return f"{patient}|{rule}"


class Engine:
    """Alert state of every patient. Not thread-safe: one owner folds entries in order of position."""

    def __init__(self) -> None:
        self.position = 0
        self._told = 0
        """Troubles of the site that were ever told: numbers their alerts."""
        self._watching = Watching()
        self._casebook = Casebook()
        self._out = emitted(_ROOM)

    def warm(self) -> None:
        """Compile the kernels, or load them from numba's cache, before the first entry must be fast."""
        kernels.load()
        silence.load()
        score_kernels.load()

    def open_alerts(self) -> list[Case]:
        """Alerts that are not resolved, as they were raised."""
        return self._casebook.open_alerts()

    def slot_count(self) -> int:
        """Slots ever given to a rule of a patient."""
        return self._watching.table.size

    def near_misses(self, patient: str) -> int:
        """How often a condition of this patient ended before its on-delay did."""
        return sum(self._watching.table.near_misses(patient).values())

    def near_misses_by_rule(self, patient: str) -> dict[str, int]:
        """The same by rule, where there were any."""
        return self._watching.table.near_misses(patient)

    def compiled(self, patient: str) -> Compiled:
        """What the programmes of a patient watch him by now."""
        return self._watching.compiled(patient)

    def apply(self, position: int, entry: Entry) -> Folded:
        """Fold one entry; the events that it causes, in order, and the scores.

        Raises:
            ValueError: ``position`` is not after the last one.
        """
        if position <= self.position:
            raise ValueError(f"entry {position} after {self.position}")
        self.position = position
        match entry:
            case VitalBatch():
                return Folded(self._batch(entry))
            case Tick():
                return self._tick(entry.watermark_ns)
            case Control():
                return Folded(self._control(entry))
            case [DeviceEvent(), *_]:
                return Folded(self._events([told for told in entry if isinstance(told, DeviceEvent)]))
            case _:
                return Folded([])

    def _batch(self, batch: VitalBatch) -> list[AlertEvent]:
        """Rows in order; one that is withdrawn splits the batch, as if it had come alone."""
        if is_scores(batch):
            return []
        events: list[AlertEvent] = []
        self._watching.troubles.observe(batch)
        self._watching.scores.observe(batch.patients, rows_of(batch))
        start = 0
        for row in np.flatnonzero(batch.flags & np.uint32(Flag.RETRACTED)).tolist():
            if row > start:
                self._readings(batch.take(np.arange(start, row)), events)
            self._withdraw(batch, row, events)
            start = row + 1
        if start < len(batch):
            self._readings(batch.take(np.arange(start, len(batch))) if start else batch, events)
        return events

    def _withdraw(self, batch: VitalBatch, row: int, events: list[AlertEvent]) -> None:
        """A reading is taken back: it holds up no condition any more, and an alert that it raised says so."""
        if batch.patient[row] == UNASSIGNED:
            return
        token, at_ns = batch.patients[batch.patient[row]], int(batch.received_ns[row])
        reading = (batch.vital[row], batch.source_time_ns[row], batch.seq[row], batch.time_ns[row])
        for slot in sorted(self._watching.table.slots_of(token)):
            told, over = self._watching.table.withdraw(slot, *map(int, reading))
            key = key_of(token, self._watching.table.face(self._watching.table.told_as(slot)).name)
            if not told or not self._casebook.is_open(key):
                continue
            value, flags = float(batch.value[row]), int(batch.flags[row])
            text = f"{describe(self._watching.table.spec(slot), value, flags, value)}: retracted"
            events += self._casebook.move(key, Trigger.WITHDRAWN, at_ns, Report(text=text))
            if over:
                report = Report(text="no reading holds it up any more")
                events += self._casebook.move(key, Trigger.REFUTED, at_ns, report)

    def _readings(self, batch: VitalBatch, events: list[AlertEvent]) -> None:
        rows = with_effort(rows_of(batch), batch.context)
        contacts = deque(self._watching.silence.hear(batch.patients, rows))
        self._judge(batch.patients, rows, contacts, events)

    def _judge(
        self, patients: Sequence[str], rows: Rows, contacts: "deque[Contact]", events: list[AlertEvent]
    ) -> None:  # fmt: skip
        """Let rows move slots; in their order, with the silences that they end, as if each had come alone."""
        table, scan_rows, row, size = self._watching.table, kernels.load().scan_rows, 0, len(rows.value)
        index = table.index(patients)
        while row < size and table.size:
            row, count = scan_rows(
                table.slots, table.rules.rules, table.series.recent.state, table.series.usual.state,
                table.series.days.state, table.true_ns, table.heads, index, rows, row, self._out,
            )  # fmt: skip
            for move in self._drain(count):
                # A device that talks again is told first.
                while contacts and contacts[0].row <= move.row:
                    self._hear(contacts.popleft(), events)
                self._follow(move, events)
        for contact in contacts:
            self._hear(contact, events)

    def _hear(self, contact: Contact, events: list[AlertEvent]) -> None:
        """A reading ends a silence."""
        watch = self._watching.silence.watch(contact.number)
        report = Report(text=f"{watch.face.title}: readings come again")
        events += self._casebook.move(key_of(watch.patient, watch.face.name), Trigger.ENDS, contact.received_ns, report)

    def _drain(self, count: int) -> list[Transition]:
        columns = (column[:count].tolist() for column in self._out)
        return [Transition(*row) for row in zip(*columns, strict=True)]

    def _follow(self, move: Transition, events: list[AlertEvent], *, by_time: bool = False) -> None:
        """Turn a transition of a slot's condition into a step of its alert."""
        table = self._watching.table
        patient = table.token(move.slot)
        scored = table.spec(move.slot).kind == Kind.SCORE
        remark = self._watching.scores.explain(patient) if scored and move.kind == ONSET else ""
        key = key_of(patient, table.face(move.slot).name)
        events += follow(self._casebook, key, table, move, by_time=by_time, explained=remark)

    def _tick(self, watermark_ns: int) -> Folded:
        """What time brings, each at its own deadline: delays, silences, troubles, and the casebook's own timers."""
        events: list[AlertEvent] = []
        reminders, retired = self._watching.due(watermark_ns)
        self._retire(retired, watermark_ns, events)
        for reminder in reminders:
            rule = f"technical:review:{reminder.programme}"
            subject = site_subject(
                rule, "A programme is past its review", (-1, 0, reminder.review_ns, reminder.version)
            )
            text = f"Programme {reminder.programme} ({reminder.title}) is past its review; its rules go on"
            events += self._casebook.begin(
                key_of("", rule), subject, Trigger.HOLDS, reminder.review_ns, Report(text=text)
            )  # fmt: skip
        due: list[tuple[int, int, int, Transition | Watch | TroubleMove]] = []
        scan_tick, slot, table = kernels.load().scan_tick, 0, self._watching.table
        while slot < len(table.slots.condition):
            slot, count = scan_tick(table.slots, table.rules.rules, table.true_ns, watermark_ns, slot, self._out)
            due += [(move.at_ns, _DELAY_ELAPSES, move.slot, move) for move in self._drain(count)]
        silent = self._watching.silence.advance(watermark_ns)
        due += [(watch.deadline_ns, _FALLS_SILENT, watch.number, watch) for watch in silent]
        troubles = self._watching.troubles.advance(watermark_ns)
        due += [(move.at_ns, _TROUBLES, number, move) for number, move in enumerate(troubles)]
        for at_ns, _, _, what in sorted(due, key=lambda item: item[:3]):
            events += self._casebook.advance(at_ns, watermark_ns)
            if isinstance(what, Transition):
                self._follow(what, events, by_time=True)
            elif isinstance(what, Watch):
                if what is silent[0]:
                    # Many who fall silent at once are one alert: known before the first of them is told.
                    events += self._casebook.storm(*self._watching.silence.share(), at_ns)
                self._miss(what, events)
            else:
                self._trouble(what, events)
        events += self._casebook.advance(watermark_ns)
        if not silent:
            events += self._casebook.storm(*self._watching.silence.share(), watermark_ns)
        return Folded(events, self._score(watermark_ns, events))

    def _miss(self, watch: Watch, events: list[AlertEvent]) -> None:
        """A window elapsed with no reading."""
        key = key_of(watch.patient, watch.face.name)
        events += self._casebook.begin(
            key, silence_subject(watch), Trigger.HOLDS, watch.deadline_ns, silence_report(watch)
        )  # fmt: skip

    def _trouble(self, move: TroubleMove, events: list[AlertEvent]) -> None:
        """A trouble of a device began or ended."""
        report = Report(text=move.text)
        if move.begins:
            events += self._casebook.begin(move.key, trouble_subject(move), Trigger.HOLDS, move.at_ns, report)
        else:
            events += self._casebook.move(move.key, Trigger.ENDS, move.at_ns, report)

    def _events(self, told: Sequence[DeviceEvent]) -> list[AlertEvent]:
        events: list[AlertEvent] = []
        for move in self._watching.troubles.events(told):
            self._trouble(move, events)
        return events

    def _score(self, watermark_ns: int, events: list[AlertEvent]) -> VitalBatch | None:
        """Let the scores that are due move slots; what of them is to be stored."""
        scored = self._watching.scores.tick(watermark_ns)
        if not len(scored):
            return None
        stored = score_rows(scored)
        self._judge(scored.patients, rule_rows(scored), deque(), events)
        return stored if len(stored) else None

    def _control(self, control: Control) -> list[AlertEvent]:
        """A malformed control, or one about an alert that is not open, changes nothing."""
        events: list[AlertEvent] = []
        with suppress(InvalidRequest):
            match control.kind:
                case ControlKind.LIMITS:
                    self._retire(self._watching.set_limits(control), control.time_ns, events)
                case ControlKind.PROGRAMME | ControlKind.ENROLMENT | ControlKind.CONTEXT:
                    self._retire(self._watching.set_rules(control), control.time_ns, events)
                case ControlKind.STATUS:
                    self._status(control, events)
                case ControlKind.UNCLAIMED | ControlKind.OTHER_PATIENT | ControlKind.ALARM:
                    self._notice(control, events)
                case ControlKind.TECHNICAL:
                    self._technical(control, events)
                case _:
                    told, closed = self._casebook.control(control)
                    events += told
                    for key in closed:
                        self._close(key, control.time_ns)
        return events

    def _retire(self, retired: Sequence[tuple[str, str]], at_ns: int, events: list[AlertEvent]) -> None:
        """Rules that are not in force any more: an alert that one raised stays, and says that nothing watches it."""
        for patient, rule in retired:
            report = Report(text="its rule is not in force any more: no reading can end this")
            events += self._casebook.stale(key_of(patient, rule), at_ns, report)

    def _close(self, key: str, time_ns: int) -> None:
        """A person closed an alert: its condition is judged anew."""
        patient, _, rule = key.partition("|")
        self._watching.close(patient, rule, time_ns)

    def _status(self, control: Control, events: list[AlertEvent]) -> None:
        body, at_ns, silence_of = read_status(control.body), control.time_ns, self._watching.silence
        if body.status == "active":
            for watch in silence_of.raised(body.patient):
                key = key_of(body.patient, watch.face.name)
                if not self._casebook.is_open(key):
                    # Nobody was told while monitoring rested; what counts is whether readings come from now on.
                    events += self._casebook.move(key, Trigger.ENDS, at_ns, Report())
                    silence_of.rearm(watch.number, at_ns)
            silence_of.restart(body.patient, at_ns)
        events += self._casebook.status(body.patient, body.status, body.from_ns, body.check_ns, at_ns)

    def _notice(self, control: Control, events: list[AlertEvent]) -> None:
        """What ingest tells of readings that belong to nobody yet, and of alarms that devices raise themselves."""
        body = read_body(control)
        assert isinstance(body, AlarmBody | OtherPatientBody | UnclaimedBody)
        self._told += control.kind is not ControlKind.ALARM
        events += take_notice(self._casebook, body, control.time_ns, self._told)

    def _technical(self, control: Control, events: list[AlertEvent]) -> None:
        """A trouble of the system is one alert of the site (patient ``""``), however often it is told."""
        body = read_body(control)
        assert isinstance(body, TechnicalBody)
        rule = technical_rule(body.cause)
        key, text = key_of("", rule), trouble_text(body)
        if not body.active:
            step_ns = round(body.moved_s * SECOND_NS)
            if step_ns:
                self._watching.step(step_ns)
                self._casebook.step(step_ns)
            events += self._casebook.move(key, Trigger.ENDS, control.time_ns, Report(text=f"{text}: over"))
        elif not self._casebook.is_open(key):
            self._told += 1
            subject = site_subject(rule, text, (-1, 0, body.since_ns, self._told), Severity.S2)
            events += self._casebook.begin(key, subject, Trigger.HOLDS, control.time_ns, Report(text=text))

    def snapshot(self) -> bytes:
        """State and last position, versioned; equal states give equal bytes."""
        state = _Snapshot(SNAPSHOT_VERSION, self.position, self._told, self._watching.dump(), self._casebook.dump())
        return msgspec.msgpack.encode(state)

    @classmethod
    def restore(cls, data: bytes) -> "Engine":
        """The engine that :meth:`snapshot` saved.

        Raises:
            BackendError: not retryable; ``data`` is no such snapshot.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_Snapshot)
            if state.version not in _READABLE:
                raise ValueError(f"version {state.version}")
            engine = cls()
            engine._watching = Watching.load(state.watching, renew=state.version < SNAPSHOT_VERSION)
            engine._casebook = Casebook.load(state.casebook)
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            raise BackendError(f"alert snapshot cannot be read: {error}", retryable=False) from error
        engine.position, engine._told = state.position, state.told
        return engine
