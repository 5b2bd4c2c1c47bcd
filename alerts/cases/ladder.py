"""Escalation: who is asked if nobody acknowledges, and when a person is asked again (clinical.md 4.7, 5.3)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from alerts.rules.spec import RuleFace
from vitals.glossary import Severity
from vitals.times import HOUR_NS, MINUTE_NS, SECOND_NS

OWNER, BACKUP, SUPERVISOR, CATCH_ALL = range(4)
ROLES: Final[Mapping[int, str]] = MappingProxyType({BACKUP: "backup", SUPERVISOR: "supervisor", CATCH_ALL: "catch_all"})
"""Rungs of the ladder above the owner, who is the rule's own role. The last one is asked again and again."""
SLA_NS: Final[Mapping[Severity, int]] = MappingProxyType(
    {Severity.S1: 5 * MINUTE_NS, Severity.S2: 60 * MINUTE_NS, Severity.S3: 24 * HOUR_NS}
)
"""How long an alert may wait for a person where its rule does not say."""
REALARM_NS: Final[Mapping[Severity, int]] = MappingProxyType({Severity.S1: 30 * MINUTE_NS, Severity.S2: 60 * MINUTE_NS})
"""How long an acknowledged alert may stay abnormal before it asks again; S3 never does."""


def sla_ns(face: RuleFace, severity: Severity, full: Severity) -> int:
    """How long the owner has.

    ``severity`` is that of the alert now, ``full`` that of its rule: a doubted S1 waits as an S2, and one that rose
    waits no longer than its new severity may.
    """
    own_ns = face.sla_s * SECOND_NS or SLA_NS[full]
    if severity > full:
        return max(own_ns, SLA_NS[severity])
    return min(own_ns, SLA_NS[severity]) if severity < full else own_ns


def next_level(level: int, severity: Severity, *, technical: bool) -> int | None:
    """The rung after ``level``, None when it stays there.

    S1 always climbs and S2 too, rung by rung, and the last rung repeats. S3, and technical alerts that are not S1, go
    to the supervisor once.
    """
    if severity is Severity.S1 or (severity is Severity.S2 and not technical):
        return min(level + 1, CATCH_ALL)
    return SUPERVISOR if level < SUPERVISOR else None


def role_at(face: RuleFace, level: int) -> str:
    """Who is asked at a rung."""
    return ROLES.get(level, face.role)


def answer_ns(severity: Severity, recheck_s: int, spot: bool) -> tuple[int | None, bool]:
    """(how long after an acknowledgement it asks again, whether for a new measurement).

    What is measured now and then waits for the next measurement; what is measured all the time for the value to come
    back (clinical.md 5.5).
    """
    if spot and recheck_s:
        return recheck_s * SECOND_NS, True
    return REALARM_NS.get(severity), False
