"""The life of every alert, moved by conditions, people, the system and time (clinical.md 4.7, 5.3, 5.5).

Conditions are named by keys ``patient|rule``. Pure and deterministic: no clock but the times it is given; the same
calls give the same events, through :meth:`Casebook.dump` and :meth:`Casebook.load` at any point.

Time passes in :meth:`Casebook.advance` only. After an outage an alert makes one step of its ladder, not all that fell
into it: people get the time of a rung to answer it. Nothing joins or mutes the canary's alerts: they come and go.
"""

from typing import Any

import msgspec

from alerts.cases import ladder, standing, suppressors
from alerts.cases.cases import ARCHIVE, HOLD, MUTE, PLAN, SHELF, STEP, Ask, Case, Subject
from alerts.cases.lifecycle import LATE, Report, Trigger, latches
from alerts.cases.register import Cases, CasesState
from alerts.cases.standing import HeldBack, PlannedStatus, Standing
from alerts.cases.suppressors import FLOOD, STORM, STORM_KEY, Flood, Floods, Storm, Storms
from alerts.programmes.controls import (
    ALERT_KINDS,
    AcknowledgeBody,
    NoteBody,
    ResolveBody,
    ShelveBody,
    needs_second,
    read_body,
    shelf_problem,
)
from vitals.canary import is_canary
from vitals.errors import InvalidRequest
from vitals.glossary import AlertState, Severity
from vitals.model import Control
from vitals.records import AlertEvent

_ESCALATED = {
    ladder.BACKUP: "not acknowledged in time, the backup is asked",
    ladder.SUPERVISOR: "not acknowledged in time, the supervising clinician is asked",
    ladder.CATCH_ALL: "still not acknowledged, everybody on duty is asked",
}


class _State(msgspec.Struct, array_like=True):
    cases: CasesState
    floods: list[tuple[str, Flood]]
    storm: Storm
    standings: list[tuple[str, Standing]]
    held: list[tuple[str, HeldBack]]


class Casebook:
    """Alerts that are not archived, suppressors, and who is monitored. Not thread-safe."""

    def __init__(self) -> None:
        self._cases = Cases()
        self._floods = Floods(self._cases)
        self._storms = Storms(self._cases)
        self._standings: dict[str, Standing] = {}
        self._held: dict[str, HeldBack] = {}

    # What the engine asks.

    def open_alerts(self) -> list[Case]:
        """Alerts that are not resolved, as they were raised."""
        return self._cases.all_open()

    def is_open(self, key: str) -> bool:
        """Whether the condition has an alert that is not resolved."""
        return self._cases.current(key) is not None

    def monitored(self, patient: str) -> bool:
        """Whether alerts are raised for the patient now; the site always is."""
        return patient not in self._standings or self._standings[patient].active

    def suppressed(self) -> int:
        """How many alerts the system mutes now."""
        return sum(case.state is AlertState.SUPPRESSED for case in self._cases.all_open())

    def dump(self) -> dict[str, Any]:
        """State, packed; equal states give equal bytes."""
        state = _State(
            self._cases.dump(), self._floods.dump(), self._storms.state,
            sorted(self._standings.items(), key=_key), sorted(self._held.items(), key=_key),
        )  # fmt: skip
        return {"casebook": msgspec.msgpack.encode(state)}

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Casebook":
        """The inverse; raises ``KeyError`` or ``msgspec.MsgspecError`` for what is no such state."""
        state = msgspec.msgpack.decode(data["casebook"], type=_State)
        book = cls()
        book._cases = Cases(state.cases)
        book._floods, book._storms = Floods(book._cases, state.floods), Storms(book._cases, state.storm)
        book._standings, book._held = dict(state.standings), dict(state.held)
        for patient, status in state.standings:
            book._cases.timers.arm(_status(patient), status.timer())
        return book

    # Conditions.

    def begin(self, key: str, subject: Subject, trigger: Trigger, at_ns: int, report: Report) -> list[AlertEvent]:
        """A condition holds: ``HOLDS``, or ``DOUBTED`` when a second reading is asked for. Nothing new if it did."""
        case = self._cases.current(key)
        if case is not None:
            self._cases.again(case, subject, trigger, at_ns, report)
        elif self.monitored(subject.patient):
            self._enter(key, subject, trigger, at_ns, report)
        elif key not in self._held:
            self._held[key] = HeldBack(subject, trigger, at_ns, report)
            self._task_of_held(self._held[key], at_ns)
        elif trigger is Trigger.HOLDS:
            self._move_held(key, Trigger.WORSENS, at_ns, report, subject.severity)
        return self._cases.drain()

    def move(
        self, key: str, trigger: Trigger, at_ns: int, report: Report, *, severity: Severity | None = None
    ) -> list[AlertEvent]:
        """A condition ``WORSENS``, is ``REFUTED``, ``ENDS``, or one of its readings is ``WITHDRAWN``.

        ``severity`` is the new one for ``WORSENS``; without it a doubted alert gets its rule's, others keep theirs.
        Whether an alert latches is decided here.
        """
        case = self._cases.current(key)
        if case is None:
            self._move_held(key, trigger, at_ns, report, severity)
            return self._cases.drain()
        case.stale = False
        match trigger:
            case Trigger.WORSENS:
                wanted = severity or (case.full if case.doubted else case.severity)
                if case.doubted or wanted < case.severity or not case.waits:
                    self._cases.worsen(case, min(wanted, case.severity), at_ns, report)
            case Trigger.ENDS | Trigger.REFUTED:
                self._end(case, trigger, at_ns, report)
            case Trigger.WITHDRAWN:
                self._cases.step(case, trigger, at_ns, report)
            case _:
                raise ValueError(f"{trigger} is no move of a condition")
        return self._cases.drain()

    def stale(self, key: str, at_ns: int, report: Report) -> list[AlertEvent]:
        """Data stopped: the alert says so, once, and stays as it is."""
        case = self._cases.current(key)
        if case is not None and not case.stale:
            case.stale = True
            self._cases.step(case, Trigger.FADES, at_ns, report)
        return self._cases.drain()

    def heard(self, key: str, at_ns: int, report: Report) -> list[AlertEvent]:
        """Data came again for an alert that was stale."""
        case = self._cases.current(key)
        if case is not None and case.stale:
            case.stale = False
            self._cases.step(case, Trigger.REVIVES, at_ns, report)
        return self._cases.drain()

    def review(self, subject: Subject, at_ns: int, report: Report) -> list[AlertEvent]:
        """A severe value that may not page: a task for a person, one per rule and patient. ``subject`` is that of the
        rule."""
        self._review(subject, at_ns, report)
        return self._cases.drain()

    def _enter(self, key: str, subject: Subject, trigger: Trigger, at_ns: int, report: Report) -> None:
        muted = ""
        if self._storms.mutes(subject):
            muted = STORM
        elif subject.patient and not is_canary(subject.patient) and self._floods.mutes(subject, at_ns):
            muted = FLOOD
        self._cases.enter(key, subject, trigger, at_ns, report, muted)

    def _end(self, case: Case, trigger: Trigger, at_ns: int, report: Report) -> None:
        if not case.true:
            return
        case.true = False
        if trigger is Trigger.REFUTED and case.doubted:
            self._cases.step(case, trigger, at_ns, report)
        elif latches(case.severity, case.rule):
            self._cases.step(case, Trigger.ENDS_LATCHED, at_ns, report)
        elif (case.clear(at_ns) > suppressors.CYCLES or case.chattering) and not is_canary(case.patient):
            case.chattering, case.held_until_ns = True, at_ns + suppressors.QUIET_NS
            text = f"{report.text}; it comes and goes: stays open until it is quiet for 30 minutes"
            self._cases.step(case, Trigger.CHATTERS, at_ns, report._replace(text=text))
        else:
            self._cases.step(case, Trigger.ENDS, at_ns, report)

    def _review(self, subject: Subject, at_ns: int, report: Report, *, aloud: bool = False) -> None:
        """One task per rule; a value more is added to it, and pages again when it must be told ``aloud``."""
        task = standing.review_subject(subject, "" if aloud else LATE)
        key = f"{task.patient}|{task.face.name}"
        case = self._cases.current(key)
        if case is None:
            self._cases.enter(key, task, Trigger.HOLDS, at_ns, report)
        elif aloud:
            self._cases.worsen(case, case.severity, at_ns, report)
        else:
            self._cases.step(case, Trigger.ADDS, at_ns, report)

    # Time.

    def advance(self, until_ns: int, tick_ns: int | None = None) -> list[AlertEvent]:
        """Every timer that goes off by ``until_ns``, in order, each event at its own deadline; ``tick_ns`` is the
        watermark of the tick that is being processed, when it is done in parts."""
        now_ns = until_ns if tick_ns is None else max(until_ns, tick_ns)
        timers = self._cases.timers
        while (due := timers.take(until_ns)) is not None:
            at_ns, which, owner = due
            if which == PLAN:
                self._plan_due(owner.partition("|")[2], at_ns)
            elif which != MUTE:
                self._time(owner, which, at_ns, now_ns)
            elif owner == STORM:
                self._storms.end(at_ns, "60 minutes are over", spent=True)
            else:
                self._floods.end(owner.partition("|")[2], at_ns, "no further alert for 10 minutes")
        return self._cases.drain()

    def step(self, step_ns: int) -> None:
        """The clock of ticks was moved: timers that run go on by it. What people said by the clock stays so."""
        self._cases.clock_moved(step_ns)
        self._floods.clock_moved(step_ns)
        self._storms.clock_moved(step_ns)

    def _time(self, ident: str, which: int, at_ns: int, now_ns: int) -> None:
        case = self._cases.by_id(ident)
        assert case is not None
        if which == SHELF:
            case.resume(at_ns)
            self._cases.step(case, Trigger.EXPIRE, at_ns, Report(text=f"no longer shelved: {case.text}"))
        elif which == HOLD:
            case.held_until_ns = None
            self._cases.step(case, Trigger.ENDS, at_ns, Report(text="has been quiet for 30 minutes"))
        elif which == STEP:
            self._climb(case, at_ns, now_ns)
        elif which == ARCHIVE:
            self._cases.archive(case, at_ns)
        else:
            case.climb_from(at_ns)
            trigger, text = Trigger.REALARM, "acknowledged a while ago and still abnormal"
            if case.stale:
                text = "acknowledged a while ago, and no newer reading says that it is over"
            if case.recheck:
                trigger, text = Trigger.RECHECK, "a new measurement is due, no normal value since the acknowledgement"
            self._cases.step(case, trigger, at_ns, Report(text=f"{text}: {case.text}"))

    def _climb(self, case: Case, at_ns: int, now_ns: int) -> None:
        """One step of the ladder; the next one lies after ``now_ns``."""
        technical = case.face.technical
        level = ladder.next_level(case.level, case.severity, technical=technical)
        case.level = case.level if level is None else level
        half_ns = max(1, ladder.sla_ns(case.face, case.severity, case.full) // 2)
        following_ns = at_ns + half_ns if at_ns + half_ns > now_ns else now_ns + half_ns
        last = ladder.next_level(case.level, case.severity, technical=technical) is None
        case.step_ns = None if last else following_ns
        self._cases.step(case, Trigger.SLA_OVER, at_ns, Report(text=f"{_ESCALATED[case.level]}: {case.text}"))

    # People.

    def control(self, control: Control) -> tuple[list[AlertEvent], list[str]]:
        """What a person did to an alert; and the keys whose condition was closed with it, which begins anew.

        A malformed one, one about an alert that is not open, and one of another kind change nothing.
        """
        if control.kind not in ALERT_KINDS:
            return [], []
        try:
            body = read_body(control)
        except InvalidRequest:
            return [], []
        assert isinstance(body, AcknowledgeBody | ShelveBody | NoteBody | ResolveBody)
        case = self._cases.by_id(body.alert)
        if case is None or not case.open:
            return [], []
        closed = []
        at_ns, by = control.time_ns, Report(author=control.author)
        match body:
            case AcknowledgeBody():
                self._acknowledge(case, at_ns, by._replace(note=body.note))
            case ShelveBody():
                self._shelve(case, body, at_ns, by._replace(note=body.reason))
            case NoteBody():
                self._cases.step(case, Trigger.NOTE, at_ns, by._replace(note=body.note))
            case ResolveBody():
                closed.append(case.key)
                by = by._replace(note=body.note, text="closed by a person")
                self._cases.step(case, Trigger.RESOLVE, at_ns, by)
                self._closed(case, at_ns)
        return self._cases.drain(), closed

    def _acknowledge(self, case: Case, at_ns: int, by: Report) -> None:
        text = "acknowledged"
        if case.live is AlertState.RTN_UNACK:
            text = "acknowledged after values had come back"
        elif case.live is AlertState.ACTIVE_UNACK:
            wait_ns, case.recheck = ladder.answer_ns(case.severity, case.face.recheck_s, case.spot)
            case.answer_ns = None if wait_ns is None else at_ns + wait_ns
        self._cases.step(case, Trigger.ACKNOWLEDGE, at_ns, by._replace(text=text))

    def _shelve(self, case: Case, body: ShelveBody, at_ns: int, by: Report) -> None:
        if shelf_problem(case.severity, at_ns, body.until_ns) is not None:
            return
        text, ask = "shelved", case.ask
        if needs_second(case.shelved_within_day_ns(at_ns), at_ns, body.until_ns):
            in_time = ask is not None and ask.grants(body.until_ns, at_ns)
            if ask is None or not in_time or ask.author == by.author:
                case.ask = Ask(by.author, at_ns, body.until_ns)
                text = "asks to shelve it for more than 4 hours in a day: a second person must agree within 15 minutes"
                self._cases.step(case, Trigger.ASK_SHELF, at_ns, by._replace(text=text))
                return
            text = f"shelved, as {ask.author} asked"
        case.end_shelf(at_ns)
        case.shelved_ns, case.shelved_until_ns, case.ask = at_ns, body.until_ns, None
        self._cases.step(case, Trigger.SHELVE, at_ns, by._replace(text=text))

    def _closed(self, case: Case, at_ns: int) -> None:
        """A person closed an alert of the casebook's own: what it mutes is heard again."""
        if case.key == STORM_KEY:
            self._storms.end(at_ns, "closed by a person", spent=True)
        elif case.rule == FLOOD:
            self._floods.end(case.patient, at_ns, "closed by a person")

    # Who is monitored, and how many are silent.

    def storm(self, silent: int, watched: int, at_ns: int) -> list[AlertEvent]:
        """How many of the patients that are watched are silent; told at every tick."""
        self._storms.look(silent, watched, at_ns)
        return self._cases.drain()

    def status(self, patient: str, status: str, from_ns: int, check_ns: int | None, at_ns: int) -> list[AlertEvent]:
        """A patient's monitoring status from a time on; what was said of later times is replaced. ``check_ns`` is when
        somebody is asked whether it goes on (None: after ``standing.CHECK_NS``)."""
        own = self._standings.setdefault(patient, Standing())
        own.plan(PlannedStatus(from_ns, status, check_ns))
        self._take_plans(patient, own, at_ns)
        return self._cases.drain()

    def _take_plans(self, patient: str, own: Standing, at_ns: int) -> None:
        while own.planned and own.planned[0].from_ns <= at_ns:
            before = own.active
            own.take()
            self._cases.finish(_check(patient), at_ns, "decided by a person")
            if before and not own.active:
                self._cases.pause(patient)
            elif own.active and not before:
                self._resume(patient, at_ns)
        self._cases.timers.arm(_status(patient), own.timer())
        if own.active and not own.planned:
            del self._standings[patient]

    def _resume(self, patient: str, at_ns: int) -> None:
        self._cases.unpause(patient, at_ns)
        held = [(key, one) for key, one in self._held.items() if one.subject.patient == patient]
        for key, one in sorted(held, key=lambda item: (item[1].at_ns, item[0])):
            del self._held[key]
            text = f"{one.report.text}; began while the patient was not monitored"
            self._enter(key, one.subject, one.trigger, at_ns, one.report._replace(text=text))

    def _plan_due(self, patient: str, at_ns: int) -> None:
        own = self._standings[patient]
        if own.check_ns is not None and own.check_ns <= at_ns and not own.planned_by(at_ns):
            asked_ns, own.check_ns = own.check_ns, at_ns + standing.CHECK_NS[own.status]
            if self._cases.current(_check(patient)) is None:
                self._cases.tell(_check(patient), standing.check_subject(patient, asked_ns), at_ns, own.question())
        self._take_plans(patient, own, at_ns)

    def _move_held(
        self, key: str, trigger: Trigger, at_ns: int, report: Report, severity: Severity | None
    ) -> None:  # fmt: skip
        held = self._held.get(key)
        if held is None:
            return
        if trigger in (Trigger.ENDS, Trigger.REFUTED):
            del self._held[key]
        elif trigger is Trigger.WORSENS:
            told = held.trigger is Trigger.HOLDS and held.subject.severity is Severity.S1
            subject = held.subject._replace(severity=min(severity or held.subject.severity, held.subject.severity))
            self._held[key] = HeldBack(subject, Trigger.HOLDS, held.at_ns, report)
            if not told:
                self._task_of_held(self._held[key], at_ns)

    def _task_of_held(self, held: HeldBack, at_ns: int) -> None:
        """An S1 that is held back becomes a task at once."""
        if held.subject.severity is Severity.S1 and held.trigger is Trigger.HOLDS:
            remark = self._standings[held.subject.patient].remark()
            self._review(held.subject, at_ns, held.report._replace(text=f"{held.report.text}: {remark}"), aloud=True)


def _key(item: tuple[str, Any]) -> str:
    return item[0]


def _status(patient: str) -> str:
    return f"status|{patient}"


def _check(patient: str) -> str:
    return f"{patient}|{standing.RESUME_CHECK}"
