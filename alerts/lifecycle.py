"""The life of an alert: one transition table, the bodies of control entries, and what a person may ask for.

The states are those of clinical.md 5.5. ``TABLE`` is the only place that says what follows what; what is not in it
does not happen. While an alert is shelved its *live* state goes on underneath through the same table.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from alerts.rules import Limit, parse_limits
from vitals.errors import InvalidRequest
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.ports import Alert, AlertEvent

MINUTE_NS: Final = 60 * 1_000_000_000
LONGEST_SHELF_NS: Final[Mapping[Severity, int]] = MappingProxyType(
    {Severity.S1: 60 * MINUTE_NS, Severity.S2: 24 * 60 * MINUTE_NS, Severity.S3: 24 * 60 * MINUTE_NS}
)
"""How long an alert may be muted (clinical.md 5.3, maintenance)."""
TROUBLES: Final[Mapping[str, str]] = MappingProxyType(
    {"pipeline_lag": "Readings are evaluated late: the pipeline is behind"}
)
"""Causes of a ``technical`` control, and what the alert says."""
CONFIRM_SUFFIX: Final = ":confirm"
"""Ends the rule id of an alert that asks for a second reading."""


class Trigger(StrEnum):
    """What moves an alert: its condition, a person, or the time a person set."""

    VIOLATES = "violates"
    RECOVERS = "recovers"
    HOLDS = "holds"
    DOUBTED = "doubted"
    WORSENS = "worsens"
    REFUTED = "refuted"
    ENDS = "ends"
    ENDS_LATCHED = "ends_latched"
    WITHDRAWN = "withdrawn"
    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    EXPIRE = "expire"
    NOTE = "note"
    RESOLVE = "resolve"


class Step(NamedTuple):
    """Where a trigger leads, and its side effect: the kind of the event that is recorded (none: nobody is told).

    ``to`` None keeps the state; ``breaks_shelf`` ends a shelf whatever its time.
    """

    to: AlertState | None
    kind: str | None
    breaks_shelf: bool = False


_S, _T = AlertState, Trigger
_OPEN: Final = (_S.ACTIVE_UNACK, _S.ACTIVE_ACK, _S.RTN_UNACK)

TABLE: Final[Mapping[tuple[AlertState, Trigger], Step]] = MappingProxyType({
    # The kernels take the first two steps themselves; a near miss is counted in the slot.
    (_S.NORMAL, _T.VIOLATES): Step(_S.PENDING, None),
    (_S.PENDING, _T.RECOVERS): Step(_S.NORMAL, None),
    (_S.NORMAL, _T.HOLDS): Step(_S.ACTIVE_UNACK, "raised"),
    (_S.PENDING, _T.HOLDS): Step(_S.ACTIVE_UNACK, "raised"),
    (_S.NORMAL, _T.DOUBTED): Step(_S.ACTIVE_UNACK, "raised"),
    (_S.PENDING, _T.DOUBTED): Step(_S.ACTIVE_UNACK, "raised"),
    (_S.ACTIVE_UNACK, _T.WORSENS): Step(_S.ACTIVE_UNACK, "escalated", breaks_shelf=True),
    (_S.ACTIVE_ACK, _T.WORSENS): Step(_S.ACTIVE_UNACK, "escalated", breaks_shelf=True),
    (_S.ACTIVE_UNACK, _T.REFUTED): Step(_S.RESOLVED, "resolved"),
    (_S.ACTIVE_ACK, _T.REFUTED): Step(_S.RESOLVED, "resolved"),
    (_S.ACTIVE_UNACK, _T.ENDS): Step(_S.RESOLVED, "resolved"),
    (_S.ACTIVE_UNACK, _T.ENDS_LATCHED): Step(_S.RTN_UNACK, "returned"),
    (_S.ACTIVE_ACK, _T.ENDS): Step(_S.RESOLVED, "resolved"),
    (_S.ACTIVE_ACK, _T.ENDS_LATCHED): Step(_S.RESOLVED, "resolved"),
    (_S.RTN_UNACK, _T.HOLDS): Step(_S.ACTIVE_UNACK, "recurred"),
    (_S.RTN_UNACK, _T.DOUBTED): Step(_S.ACTIVE_UNACK, "recurred"),
    (_S.ACTIVE_UNACK, _T.ACKNOWLEDGE): Step(_S.ACTIVE_ACK, "acknowledged"),
    (_S.RTN_UNACK, _T.ACKNOWLEDGE): Step(_S.RESOLVED, "resolved"),
    **{(state, _T.SHELVE): Step(_S.SHELVED, "shelved") for state in _OPEN},
    **{(state, _T.EXPIRE): Step(None, "unshelved", breaks_shelf=True) for state in _OPEN},
    **{(state, _T.NOTE): Step(None, "noted") for state in _OPEN},
    **{(state, _T.WITHDRAWN): Step(None, "retracted") for state in _OPEN},
    **{(state, _T.RESOLVE): Step(_S.RESOLVED, "resolved") for state in _OPEN},
})  # fmt: skip


class OpenAlert(msgspec.Struct):
    """An alert that is not resolved, as the engine carries it.

    It stands on a slot, on a watch for silence, or (both -1) on a trouble of the system. ``live`` is the state
    underneath a shelf; ``number`` the number of its next event; ``doubted`` says that it waits for a second reading.
    """

    id: str
    patient: str
    rule: str
    rule_version: int
    slot: int
    severity: Severity
    live: AlertState
    doubted: bool
    limit: dict[str, Any]
    shelved_until_ns: int | None = None
    number: int = 0
    watch: int = -1

    @property
    def state(self) -> AlertState:
        """The state that people see."""
        return self.live if self.shelved_until_ns is None else AlertState.SHELVED


class Report(NamedTuple):
    """What an event says beside the transition."""

    values: tuple[dict[str, Any], ...] = ()
    quality: tuple[str, ...] = ()
    text: str = ""
    author: str = ""
    note: str = ""


def _digest(prefix: str, *parts: str | int) -> str:
    return prefix + hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def alert_id(patient: str, rule: str, message: int, vital: int, source_time_ns: int, seq: int) -> str:
    """``a_`` and 32 hex digits, from the rule and the identity of the first reading of the condition."""
    return _digest("a_", patient, rule, message, vital, source_time_ns, seq)


def technical_rule(cause: str) -> str:
    """Rule id of an alert about the system itself: ``technical:pipeline_lag``."""
    return f"technical:{cause}"


def _event(alert: OpenAlert, kind: str, at_ns: int, report: Report) -> AlertEvent:
    number = alert.number
    alert.number += 1
    told = bool(report.values)
    return AlertEvent(
        id=_digest("e_", alert.id, number, kind), alert=alert.id, number=number, kind=kind, at_ns=at_ns,
        patient=alert.patient, rule=alert.rule + CONFIRM_SUFFIX if alert.doubted else alert.rule,
        rule_version=alert.rule_version, severity=alert.severity, state=alert.state, values=report.values,
        limit=alert.limit if told else {}, quality=report.quality, text=report.text, author=report.author,
        note=report.note,
    )  # fmt: skip


def raise_alert(alert: OpenAlert, trigger: Trigger, at_ns: int, report: Report) -> AlertEvent:
    """The first event of a new alert; ``alert.live`` is set from the table."""
    step = TABLE[AlertState.NORMAL, trigger]
    assert step.to is not None
    assert step.kind is not None
    alert.live = step.to
    return _event(alert, step.kind, at_ns, report)


def advance(
    alert: OpenAlert, trigger: Trigger, at_ns: int, report: Report, *, until_ns: int | None = None
) -> AlertEvent | None:
    """Move ``alert`` in place; the event, or None when the table has no such step (acknowledging twice).

    ``until_ns`` is the end of the shelf for ``SHELVE``.
    """
    step = TABLE.get((alert.live, trigger))
    if step is None or step.kind is None:
        return None
    if step.breaks_shelf or step.to is AlertState.RESOLVED:
        alert.shelved_until_ns = None
    if step.to is AlertState.SHELVED:
        alert.shelved_until_ns = until_ns
    elif step.to is not None:
        alert.live = step.to
    return _event(alert, step.kind, at_ns, report)


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
    """Body of ``technical``: a trouble of the system began (``active``) or ended; ``since_ns`` is UTC."""

    cause: Literal["pipeline_lag"]
    active: bool
    since_ns: int


AlertBody = AcknowledgeBody | ShelveBody | NoteBody | ResolveBody
Body = LimitsBody | AlertBody | TechnicalBody | RecordBody

_BODIES: Final[Mapping[ControlKind, type[Body]]] = MappingProxyType(
    {
        ControlKind.LIMITS: LimitsBody,
        ControlKind.ACKNOWLEDGE: AcknowledgeBody,
        ControlKind.SHELVE: ShelveBody,
        ControlKind.NOTE: NoteBody,
        ControlKind.RESOLVE: ResolveBody,
        ControlKind.TECHNICAL: TechnicalBody,
        ControlKind.REASSIGN: RecordBody,
        ControlKind.ASSIGN: RecordBody,
        ControlKind.DISCARD: RecordBody,
    }
)


_OF_THE_SYSTEM: Final = frozenset(
    {ControlKind.TECHNICAL, ControlKind.REASSIGN, ControlKind.ASSIGN, ControlKind.DISCARD}
)
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


class AlertReader(Protocol):
    """What checking a control needs of the alert book."""

    def alert(self, ident: str) -> Alert:
        """Raises ``NotFound``."""

    def limits(self, patient: str) -> tuple[int, list[dict[str, Any]]]:
        """(version, limits) in force."""


def check_control(book: AlertReader, control: Control) -> None:
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
        version, _ = book.limits(limits.patient)
        if limits.version <= version:
            raise InvalidRequest("version", f"limits were changed meanwhile: version {version} is in force")
        return
    body = read_body(control)
    assert not isinstance(body, LimitsBody | TechnicalBody | RecordBody)
    alert = book.alert(body.alert)
    over = alert.state is AlertState.RESOLVED
    if over and isinstance(body, ShelveBody | NoteBody):
        raise InvalidRequest("alert", "is resolved")
    if isinstance(body, ShelveBody):
        problem = shelf_problem(alert.severity, control.time_ns, body.until_ns)
        if problem is not None:
            raise InvalidRequest("until_ns", problem)
