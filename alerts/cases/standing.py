"""Whether a patient is monitored now: active, paused, in hospital or discharged, from a time on (clinical.md 5.5).

While a patient is not active nothing is raised; conditions that begin are held back until monitoring goes on.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from alerts.cases.cases import PLAN, Subject, Timer
from alerts.cases.lifecycle import LATE, REVIEW, Report, Trigger
from alerts.rules.spec import RuleFace
from vitals.glossary import Severity
from vitals.times import HOUR_NS

ACTIVE: Final = "active"
CHECK_NS: Final[Mapping[str, int]] = MappingProxyType({"paused": 24 * HOUR_NS, "hospitalised": 7 * 24 * HOUR_NS})
"""After how long somebody is asked whether monitoring goes on, where nobody said; never for the discharged."""
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {"paused": "monitoring paused", "hospitalised": "in hospital", "discharged": "discharged"}
)
RESUME_CHECK: Final = "technical:resume_check"
_CHECK_FACE: Final = RuleFace(RESUME_CHECK, 1, "Monitoring is paused", RESUME_CHECK, "nurse", 0, 0, technical=True)
REVIEW_ROLE: Final = "nurse"
REVIEW_SLA_S: Final = 4 * 3600


class PlannedStatus(NamedTuple):
    """A status from a time on; ``check_ns`` is when to ask whether monitoring goes on."""

    from_ns: int
    status: str
    check_ns: int | None


class Standing(msgspec.Struct, array_like=True):
    """What is in force, and what was said of later times, by time."""

    status: str = ACTIVE
    since_ns: int = 0
    check_ns: int | None = None
    planned: list[PlannedStatus] = []

    @property
    def active(self) -> bool:
        """Whether alerts are raised."""
        return self.status == ACTIVE

    def plan(self, plan: PlannedStatus) -> None:
        """Say it of a time to come; what was said of later times is replaced."""
        self.planned = [*(other for other in self.planned if other.from_ns < plan.from_ns), plan]

    def take(self) -> None:
        """The first of the plans comes into force; the same status once more is the same pause, longer."""
        plan, *self.planned = self.planned
        if plan.status != self.status:
            self.since_ns = plan.from_ns
        self.status, self.check_ns = plan.status, None
        if plan.status in CHECK_NS:
            self.check_ns = plan.from_ns + CHECK_NS[plan.status] if plan.check_ns is None else plan.check_ns

    def planned_by(self, at_ns: int) -> bool:
        """Whether it changes by then."""
        return bool(self.planned) and self.planned[0].from_ns <= at_ns

    def timer(self) -> Timer | None:
        """When it changes, or somebody is asked."""
        due = [plan.from_ns for plan in self.planned[:1]]
        due += [] if self.check_ns is None else [self.check_ns]
        return (min(due), PLAN) if due else None

    def question(self) -> str:
        """What is asked when it lasts."""
        since = datetime.fromtimestamp(self.since_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"{_WORDS[self.status]} since {since}: resume or extend?"

    def remark(self) -> str:
        """What a task says of it."""
        return "monitoring is paused" if self.status == "paused" else f"not monitored, {_WORDS[self.status]}"


class HeldBack(msgspec.Struct, array_like=True):
    """A condition that holds while its patient is not monitored."""

    subject: Subject
    trigger: Trigger
    at_ns: int
    report: Report


def check_subject(patient: str, check_ns: int) -> Subject:
    """The question whether monitoring goes on."""
    resolves = "monitoring is resumed or the pause extended"
    return Subject(patient, _CHECK_FACE, Severity.S3, False, {}, (-1, 0, check_ns, 0), resolves)


def review_subject(subject: Subject, cause: str = LATE) -> Subject:
    """The task of a person to look at a severe value that may not page; of one incident for all, or of its own."""
    rule = REVIEW + subject.face.name
    face = subject.face._replace(
        name=rule, cause=cause or rule, role=REVIEW_ROLE, sla_s=REVIEW_SLA_S, recheck_s=0, technical=False
    )
    return subject._replace(face=face, severity=Severity.S3, spot=True, resolves="a person closes it")
