"""All alerts that are not archived: by key, by id, by patient, in incidents.

:class:`Cases` takes every step through the table of :mod:`alerts.cases.lifecycle`: one step is one event.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from alerts.cases import ladder
from alerts.cases.cases import Case, Subject, Timers
from alerts.cases.lifecycle import CONFIRM_SUFFIX, LATE, REVIEW, TABLE, Report, Trigger, alert_id, digest
from vitals.canary import is_canary
from vitals.glossary import INTERRUPTING, TELLING, AlertState, AlertStep, Severity
from vitals.records import AlertEvent
from vitals.times import MINUTE_NS

REOPEN_NS: Final = 10 * MINUTE_NS
"""How soon a condition must be back for its alert, and incident, to be the same one (clinical.md 5.5)."""


class Incident(msgspec.Struct, array_like=True):
    """What alerts of one patient and cause belong to; ``quiet_ns`` is when the last member was over."""

    id: str
    quiet_ns: int = 0


class CasesState(msgspec.Struct, array_like=True):
    """A snapshot of :class:`Cases`; equal ones give equal bytes."""

    ordinal: int
    cases: list[Case]
    incidents: list[tuple[str, str, Incident]]


class Cases:
    """Every alert that is not archived. ``said`` holds the events since the last :meth:`drain`."""

    def __init__(self, state: CasesState | None = None) -> None:
        self.timers = Timers()
        self._said: list[AlertEvent] = []
        self._cases: dict[str, Case] = {}
        self._newest: dict[str, Case] = {}
        self._patients: dict[str, dict[str, Case]] = {}
        self._ordinal = 0
        self._incidents: dict[tuple[str, str], Incident] = {}
        if state is not None:
            self._ordinal = state.ordinal
            self._incidents = {(patient, cause): incident for patient, cause, incident in state.incidents}
            for case in state.cases:
                self._cases[case.id] = case
                self._newest[case.key] = case
                if case.open:
                    self._patients.setdefault(case.patient, {})[case.id] = case
                self.timers.arm(case.id, case.timer())

    def dump(self) -> CasesState:
        """Alerts as they were raised, incidents by patient and cause."""
        incidents = [(*key, incident) for key, incident in sorted(self._incidents.items(), key=lambda item: item[0])]
        return CasesState(self._ordinal, sorted(self._cases.values(), key=_by_ordinal), incidents)

    def drain(self) -> list[AlertEvent]:
        """What was said since the last time."""
        said, self._said = self._said, []
        return said

    def by_id(self, ident: str) -> Case | None:
        """An alert that is not archived."""
        return self._cases.get(ident)

    def current(self, key: str) -> Case | None:
        """The open alert of a condition."""
        case = self._newest.get(key)
        return case if case is not None and case.open else None

    def open_of(self, patient: str) -> list[Case]:
        """Open alerts of a patient as they were raised."""
        return sorted(self._patients.get(patient, {}).values(), key=_by_ordinal)

    def all_open(self) -> list[Case]:
        """Open alerts of everybody as they were raised."""
        return sorted((case for some in self._patients.values() for case in some.values()), key=_by_ordinal)

    def pause(self, patient: str) -> None:
        """Open alerts of a patient stay; nobody is asked any more but of an S1 and of tasks to review."""
        for case in self.open_of(patient):
            case.paused = case.severity is not Severity.S1 and not case.rule.startswith(REVIEW)
            self.timers.arm(case.id, case.timer())

    def clock_moved(self, step_ns: int) -> None:
        """Whoever is asked, or asked again, is so after the same time as before; shelves end when people said."""
        for case in self.all_open():
            case.step_ns = None if case.step_ns is None else case.step_ns + step_ns
            case.answer_ns = None if case.answer_ns is None else case.answer_ns + step_ns
            case.held_until_ns = None if case.held_until_ns is None else case.held_until_ns + step_ns
            self.timers.arm(case.id, case.timer())

    def unpause(self, patient: str, at_ns: int) -> None:
        """Who has not been answered asks again."""
        for case in self.open_of(patient):
            if case.paused:
                case.paused = False
                case.resume(at_ns)
                text = f"the patient is monitored again: {case.text}"
                self.step(case, Trigger.RELEASE, at_ns, Report(text=text))

    def enter(self, key: str, subject: Subject, trigger: Trigger, at_ns: int, report: Report, muted: str = "") -> Case:
        """Raise a new alert, or reopen the last one of ``key``: within 10 minutes, or of the very same condition.

        Each of the canary is new: what is never over could never be forgotten.
        """
        ident = alert_id(subject.patient, subject.face.name, *subject.identity)
        last, case = self._newest.get(key), self._cases.get(ident)
        if case is None and last is not None and at_ns - last.resolved_ns <= REOPEN_NS and not is_canary(last.patient):
            case = last
        incident = self._incident(subject.patient, subject.face.cause, ident, at_ns)
        fresh = Case(
            id=ident, key=key, ordinal=self._ordinal, patient=subject.patient, face=subject.face,
            severity=subject.severity, full=subject.severity, spot=subject.spot, limit=subject.limit,
            resolves=subject.resolves, incident=incident.id, suppressed=muted,
        )  # fmt: skip
        self._ordinal += 1
        if last is not None:
            fresh.shelves, fresh.clears = last.shelves, last.clears
        if case is not None:
            fresh.id, fresh.number, fresh.live = case.id, case.number, case.live
        if trigger is not Trigger.HOLDS:
            fresh.doubted, fresh.severity = True, max(Severity.S2, subject.severity)
            fresh.quiet = trigger is Trigger.AWAITS
        self._cases[fresh.id] = self._newest[key] = fresh
        self._patients.setdefault(fresh.patient, {})[fresh.id] = fresh
        fresh.raised_ns = at_ns
        fresh.climb_from(at_ns)
        self.step(fresh, trigger, at_ns, report)
        return fresh

    def again(self, case: Case, subject: Subject, trigger: Trigger, at_ns: int, report: Report) -> None:
        """The condition of an open alert holds (again), perhaps by a changed rule."""
        case.face, case.limit = subject.face._replace(cause=case.face.cause), subject.limit
        case.stale = False
        if trigger is Trigger.HOLDS and (case.doubted or subject.severity < case.severity):
            self.worsen(case, min(subject.severity, case.severity), at_ns, report)
        elif case.live is AlertState.RTN_UNACK:
            case.true = True
            self.step(case, trigger, at_ns, report)
        elif not case.true:
            case.true, case.held_until_ns = True, None
            self.step(case, Trigger.RECURS, at_ns, report)

    def worsen(self, case: Case, severity: Severity, at_ns: int, report: Report) -> None:
        """It is certain, or more urgent: it pages whatever it was, and begins the ladder anew if it did not climb."""
        if (case.live, Trigger.WORSENS) not in TABLE:
            return
        anew = not case.waits
        case.doubted, case.true, case.held_until_ns, case.suppressed = False, True, None, ""
        case.severity = severity
        if severity is Severity.S1:
            case.chattering, case.paused = False, False
        if anew:
            case.climb_from(at_ns)
        else:
            soon_ns = at_ns + ladder.sla_ns(case.face, severity, case.full)
            case.step_ns = soon_ns if case.step_ns is None else min(case.step_ns, soon_ns)
        self.step(case, Trigger.WORSENS, at_ns, report)

    def tell(self, key: str, subject: Subject, at_ns: int, text: str) -> None:
        """An alert of the casebook's own, that no suppressor counts."""
        case = self.current(key)
        if case is None:
            self.enter(key, subject, Trigger.HOLDS, at_ns, Report(text=text))
        else:
            self.again(case, subject, Trigger.HOLDS, at_ns, Report(text=text))

    def finish(self, key: str, at_ns: int, text: str) -> None:
        """What an alert of the casebook's own is about is over."""
        case = self.current(key)
        if case is not None:
            case.true = False
            ends = Trigger.ENDS_LATCHED if case.severity is Severity.S1 else Trigger.ENDS
            self.step(case, ends, at_ns, Report(text=text))

    def release(self, cases: Iterable[Case], at_ns: int) -> None:
        """The system mutes these alerts no longer: who has not been answered asks again."""
        for case in cases:
            case.suppressed = ""
            case.resume(at_ns)
            self.step(case, Trigger.RELEASE, at_ns, Report(text=f"no longer muted: {case.text}"))

    def _incident(self, patient: str, cause: str, ident: str, at_ns: int) -> Incident:
        """The one of patient and cause: open while a member is, and 10 minutes longer."""
        incident = self._incidents.get((patient, cause))
        if incident is None or not (self._members(patient, incident.id) or at_ns - incident.quiet_ns <= REOPEN_NS):
            incident = self._incidents[patient, cause] = Incident(digest("i_", patient, cause, ident))
        return incident

    def _members(self, patient: str, incident: str) -> list[Case]:
        return [case for case in self._patients.get(patient, {}).values() if case.incident == incident]

    def step(self, case: Case, trigger: Trigger, at_ns: int, report: Report) -> bool:
        """Take ``case`` through the table and record it; False when the table has no such step.

        What a step means to the ladder is set by then; it sets the state, and what ends with the alert.
        """
        step = TABLE.get((case.live, trigger))
        if step is None or step.kind is None:
            return False
        if step.breaks_shelf or step.to is AlertState.RESOLVED:
            case.end_shelf(at_ns)
        if step.to not in (None, AlertState.SHELVED, AlertState.SUPPRESSED):
            case.live = step.to
        if step.to is AlertState.RESOLVED:
            self._close(case, at_ns)
        if step.kind in TELLING:
            case.text = report.text
        self._said.append(self._event(case, step.kind, at_ns, report))
        self.timers.arm(case.id, case.timer())
        return True

    def _close(self, case: Case, at_ns: int) -> None:
        case.true, case.stale, case.chattering, case.held_until_ns = False, False, False, None
        case.suppressed, case.paused, case.ask, case.resolved_ns = "", False, None, at_ns
        del self._patients[case.patient][case.id]
        if not self._patients[case.patient]:
            del self._patients[case.patient]
        incident = self._incidents.get((case.patient, case.face.cause))
        if incident is not None and incident.id == case.incident:
            incident.quiet_ns = at_ns

    def archive(self, case: Case, at_ns: int) -> None:
        """The last event of an alert: it is forgotten."""
        self.step(case, Trigger.ARCHIVE, at_ns, Report(text="archived"))
        self.timers.arm(case.id, None)
        del self._cases[case.id]
        if self._newest.get(case.key) is case:
            del self._newest[case.key]
        incident = self._incidents.get((case.patient, case.face.cause))
        if incident is not None and incident.id == case.incident and not self._members(case.patient, incident.id):
            del self._incidents[case.patient, case.face.cause]

    def led(self, case: Case) -> bool:
        """Whether another alert of the incident that is as urgent or more asks people already, and will again.

        One about the means of monitoring never speaks for one about the patient.
        """
        rank = (case.severity, case.ordinal)
        return any(
            other.asks and not other.awaits and (other.severity, other.ordinal) < rank
            and other.face.technical <= case.face.technical
            for other in self._members(case.patient, case.incident)
        )  # fmt: skip

    def _pages(self, case: Case, kind: AlertStep) -> bool:
        if kind not in INTERRUPTING or not case.waits or (kind is AlertStep.RECURRED and case.chattering):
            return False
        if case.face.cause == LATE and kind not in (AlertStep.WORSENED, AlertStep.ESCALATED):
            # Too late to page: a task on the list, until nobody looked at it in time.
            return False
        if case.awaits and kind is not AlertStep.ESCALATED:
            # The first of two readings: a task on the list, until the repeat was not taken.
            return False
        return kind is AlertStep.WORSENED or case.urgent or not self.led(case)

    def _event(self, case: Case, kind: AlertStep, at_ns: int, report: Report) -> AlertEvent:
        number = case.number
        case.number += 1
        quality = report.quality
        quality += ("stale",) if case.stale else ()
        quality += ("chattering",) if case.chattering else ()
        return AlertEvent(
            id=digest("e_", case.id, number, kind), alert=case.id, number=number, kind=kind, at_ns=at_ns,
            patient=case.patient, rule=case.rule + CONFIRM_SUFFIX if case.doubted else case.rule,
            rule_version=case.face.version, severity=case.severity, state=case.state, values=report.values,
            limit=case.limit if report.values or kind in TELLING else {}, quality=quality, text=report.text,
            author=report.author, note=report.note, incident=case.incident, page=self._pages(case, kind),
            level=case.level, role=ladder.role_at(case.face, case.level), due_ns=case.due_ns(), resolves=case.resolves,
        )  # fmt: skip


def _by_ordinal(case: Case) -> int:
    return case.ordinal
