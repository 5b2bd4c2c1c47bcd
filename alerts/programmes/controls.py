"""Control entries about alerts and limits: their bodies, and the checks of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec

from alerts.rules.limits import Limit, parse_limits
from alerts.rules.monitor_alarms import AlarmBody
from alerts.rules.unclaimed import OtherPatientBody, UnclaimedBody
from vitals.errors import InvalidRequest
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.ports import AlertDecisions, AlertReader
from vitals.times import MINUTE_NS

LONGEST_SHELF_NS: Final[Mapping[Severity, int]] = MappingProxyType(
    {Severity.S1: 60 * MINUTE_NS, Severity.S2: 24 * 60 * MINUTE_NS, Severity.S3: 24 * 60 * MINUTE_NS}
)
"""How long an alert may be muted (clinical.md 5.3, maintenance)."""
SHELF_ALONE_NS: Final = 4 * 60 * MINUTE_NS
"""More than this within 24 hours needs a second person (clinical.md 5.5)."""
TROUBLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pipeline_lag": "Readings are evaluated late: the pipeline is behind",
        "canary": "The check from end to end got no answer: readings may raise no alerts",
        "server_clock": "The clock of the server was moved: readings are judged by the old time until it has settled",
    }
)
"""Causes of a ``technical`` control, and what the alert says."""

_Word = Annotated[str, msgspec.Meta(min_length=1)]


class LimitsBody(msgspec.Struct, frozen=True):
    """Body of a ``limits`` control: the whole set that replaces what was in force."""

    patient: _Word
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    reason: str
    limits: list[Any]


class RecordBody(msgspec.Struct, frozen=True):
    """Body of what ingest writes down about readings that moved (``reassign``, ``assign``, ``discard``)."""

    device: _Word


class AcknowledgeBody(msgspec.Struct, frozen=True):
    """Body of ``acknowledge``."""

    alert: _Word
    note: str = ""


class ShelveBody(msgspec.Struct, frozen=True):
    """Body of ``shelve``; ``until_ns`` is UTC."""

    alert: _Word
    until_ns: int
    reason: _Word


class NoteBody(msgspec.Struct, frozen=True):
    """Body of ``note``."""

    alert: _Word
    note: _Word


class ResolveBody(msgspec.Struct, frozen=True):
    """Body of ``resolve``."""

    alert: _Word
    note: str = ""


class TechnicalBody(msgspec.Struct, frozen=True):
    """Body of ``technical``: a trouble of the system began (``active``) or ended; ``since_ns`` is UTC.

    ``moved_s`` is by how many seconds the server's clock was moved; where that ended, times count by it from now on.
    """

    cause: Literal["pipeline_lag", "canary", "server_clock"]
    active: bool
    since_ns: int
    moved_s: float = 0.0


AlertBody = AcknowledgeBody | ShelveBody | NoteBody | ResolveBody
Body = LimitsBody | AlertBody | TechnicalBody | RecordBody | UnclaimedBody | OtherPatientBody | AlarmBody

_BODIES: Final[Mapping[ControlKind, type[Body]]] = MappingProxyType(
    {
        ControlKind.LIMITS: LimitsBody,
        ControlKind.ACKNOWLEDGE: AcknowledgeBody,
        ControlKind.SHELVE: ShelveBody,
        ControlKind.NOTE: NoteBody,
        ControlKind.RESOLVE: ResolveBody,
        ControlKind.TECHNICAL: TechnicalBody,
        ControlKind.UNCLAIMED: UnclaimedBody,
        ControlKind.OTHER_PATIENT: OtherPatientBody,
        ControlKind.ALARM: AlarmBody,
        ControlKind.REASSIGN: RecordBody,
        ControlKind.ASSIGN: RecordBody,
        ControlKind.DISCARD: RecordBody,
    }
)


ALERT_KINDS: Final = frozenset({ControlKind.ACKNOWLEDGE, ControlKind.SHELVE, ControlKind.NOTE, ControlKind.RESOLVE})
"""Kinds that are about one alert."""

_OF_THE_SYSTEM: Final = frozenset(
    {
        ControlKind.TECHNICAL, ControlKind.REASSIGN, ControlKind.ASSIGN, ControlKind.DISCARD, ControlKind.UNCLAIMED,
        ControlKind.OTHER_PATIENT, ControlKind.ALARM,
    }
)  # fmt: skip
"""Kinds that the desk refuses: the watchdog and ingest write them, beside what they tell of."""


def read_body(control: Control) -> Body:
    """The typed body of a control entry; raises ``InvalidRequest`` with the path of the wrong member."""
    if control.kind not in _BODIES:
        raise InvalidRequest("kind", "is about no alert")
    try:
        return msgspec.convert(control.body, _BODIES[control.kind])
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(path.rstrip("`") or "body", problem) from error


def trouble_text(body: TechnicalBody) -> str:
    """What the alert of a trouble says: ``The clock of the server was moved 3600 s ahead: ...``."""
    text = TROUBLES[body.cause]
    if not body.moved_s:
        return text
    by = f"was moved {abs(body.moved_s):.0f} s {'ahead' if body.moved_s > 0 else 'back'}"
    return text.replace("was moved", by)


def read_limits(control: Control) -> tuple[LimitsBody, list[Limit]]:
    """Body and parsed limits of a ``limits`` control; raises ``InvalidRequest``."""
    body = read_body(control)
    assert isinstance(body, LimitsBody)
    return body, parse_limits(body.limits)


def shelf_problem(severity: Severity, now_ns: int, until_ns: int) -> str | None:
    """Why an alert may not be shelved until then, or None."""
    if until_ns <= now_ns:
        return "is not in the future"
    longest_ns = LONGEST_SHELF_NS[severity]
    if until_ns - now_ns > longest_ns:
        return f"{severity.name} may be shelved for at most {longest_ns // MINUTE_NS} minutes"
    return None


def needs_second(shelved_ns: int, now_ns: int, until_ns: int) -> bool:
    """Whether a shelf until then, after ``shelved_ns`` within the last day, is more than one person may grant."""
    return shelved_ns + until_ns - now_ns > SHELF_ALONE_NS


def check_control(book: AlertReader, decisions: AlertDecisions, control: Control) -> None:
    """Refuse what must not enter the log.

    Raises:
        InvalidRequest: the kind is the system's own, a member of the body is wrong, a shelf is too long, a limits
            version is not new, or the alert is over.
        NotFound: there is no such alert.
    """
    if control.kind in _OF_THE_SYSTEM:
        raise InvalidRequest("kind", "is for the system to say, not for people")
    if control.kind is ControlKind.LIMITS:
        limits, _ = read_limits(control)
        version, _ = decisions.limits(limits.patient)
        if limits.version <= version:
            raise InvalidRequest("version", f"limits were changed meanwhile: version {version} is in force")
        return
    body = read_body(control)
    assert isinstance(body, AlertBody)
    alert = book.alert(body.alert)
    over = alert.state is AlertState.RESOLVED
    if over and isinstance(body, ShelveBody | NoteBody):
        raise InvalidRequest("alert", "is resolved")
    if isinstance(body, ShelveBody):
        problem = shelf_problem(alert.severity, control.time_ns, body.until_ns)
        if problem is not None:
            raise InvalidRequest("until_ns", problem)
