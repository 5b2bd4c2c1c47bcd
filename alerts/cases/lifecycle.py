"""The life of an alert: one transition table, its triggers, and the ids of alerts and events.

The states are those of clinical.md 5.5. ``TABLE`` is the only place that says what follows what; what is not in it
does not happen. While an alert is shelved or suppressed its *live* state goes on underneath through the same table.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from alerts.rules.monitor_alarms import MONITOR
from vitals.glossary import AlertState, AlertStep, Severity

CONFIRM_SUFFIX: Final = ":confirm"
"""Ends the rule id of an alert that asks for a second reading."""
REVIEW: Final = "review:"
"""Begins the rule id of a task to look at severe values that may not page."""
LATE: Final = "review"
"""The cause of such tasks about values that came too late: a list, not a page."""


class Trigger(StrEnum):
    """What moves an alert: its condition, a person, the system, or time."""

    VIOLATES = "violates"
    RECOVERS = "recovers"
    HOLDS = "holds"
    DOUBTED = "doubted"
    AWAITS = "awaits"
    RECURS = "recurs"
    WORSENS = "worsens"
    REFUTED = "refuted"
    ENDS = "ends"
    ENDS_LATCHED = "ends_latched"
    CHATTERS = "chatters"
    WITHDRAWN = "withdrawn"
    FADES = "fades"
    REVIVES = "revives"
    ADDS = "adds"
    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    ASK_SHELF = "ask_shelf"
    EXPIRE = "expire"
    NOTE = "note"
    RESOLVE = "resolve"
    SUPPRESS = "suppress"
    RELEASE = "release"
    SLA_OVER = "sla_over"
    REALARM = "realarm"
    RECHECK = "recheck"
    ARCHIVE = "archive"


class Step(NamedTuple):
    """Where a trigger leads, and its side effect: the kind of the event that is recorded (none: nobody is told).

    ``to`` None keeps the state; ``breaks_shelf`` ends a shelf whatever its time.
    """

    to: AlertState | None
    kind: AlertStep | None
    breaks_shelf: bool = False


_S, _T, _A = AlertState, Trigger, AlertStep
_ACTIVE: Final = (_S.ACTIVE_UNACK, _S.ACTIVE_ACK)
_OPEN: Final = (*_ACTIVE, _S.RTN_UNACK)

TABLE: Final[Mapping[tuple[AlertState, Trigger], Step]] = MappingProxyType({
    # The kernels take the first two steps themselves; a near miss is counted in the slot.
    (_S.NORMAL, _T.VIOLATES): Step(_S.PENDING, None),
    (_S.PENDING, _T.RECOVERS): Step(_S.NORMAL, None),
    (_S.NORMAL, _T.HOLDS): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.PENDING, _T.HOLDS): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.NORMAL, _T.DOUBTED): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.PENDING, _T.DOUBTED): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.NORMAL, _T.AWAITS): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.PENDING, _T.AWAITS): Step(_S.ACTIVE_UNACK, _A.RAISED),
    (_S.ACTIVE_UNACK, _T.WORSENS): Step(_S.ACTIVE_UNACK, _A.WORSENED, breaks_shelf=True),
    (_S.ACTIVE_ACK, _T.WORSENS): Step(_S.ACTIVE_UNACK, _A.WORSENED, breaks_shelf=True),
    (_S.ACTIVE_UNACK, _T.REFUTED): Step(_S.RESOLVED, _A.RESOLVED),
    (_S.ACTIVE_ACK, _T.REFUTED): Step(_S.RESOLVED, _A.RESOLVED),
    (_S.ACTIVE_UNACK, _T.ENDS): Step(_S.RESOLVED, _A.RESOLVED),
    (_S.ACTIVE_UNACK, _T.ENDS_LATCHED): Step(_S.RTN_UNACK, _A.RETURNED),
    (_S.ACTIVE_ACK, _T.ENDS): Step(_S.RESOLVED, _A.RESOLVED),
    (_S.ACTIVE_ACK, _T.ENDS_LATCHED): Step(_S.RESOLVED, _A.RESOLVED),
    (_S.RTN_UNACK, _T.HOLDS): Step(_S.ACTIVE_UNACK, _A.RECURRED),
    (_S.RTN_UNACK, _T.DOUBTED): Step(_S.ACTIVE_UNACK, _A.RECURRED),
    (_S.RTN_UNACK, _T.AWAITS): Step(_S.ACTIVE_UNACK, _A.RECURRED),
    (_S.RESOLVED, _T.HOLDS): Step(_S.ACTIVE_UNACK, _A.REOPENED),
    (_S.RESOLVED, _T.DOUBTED): Step(_S.ACTIVE_UNACK, _A.REOPENED),
    (_S.RESOLVED, _T.AWAITS): Step(_S.ACTIVE_UNACK, _A.REOPENED),
    (_S.RESOLVED, _T.ARCHIVE): Step(None, _A.ARCHIVED),
    (_S.ACTIVE_UNACK, _T.SLA_OVER): Step(None, _A.ESCALATED),
    (_S.RTN_UNACK, _T.SLA_OVER): Step(None, _A.ESCALATED),
    (_S.ACTIVE_ACK, _T.REALARM): Step(_S.ACTIVE_UNACK, _A.STILL_ABNORMAL),
    (_S.ACTIVE_ACK, _T.RECHECK): Step(_S.ACTIVE_UNACK, _A.RECHECK_DUE),
    (_S.ACTIVE_UNACK, _T.ACKNOWLEDGE): Step(_S.ACTIVE_ACK, _A.ACKNOWLEDGED),
    (_S.RTN_UNACK, _T.ACKNOWLEDGE): Step(_S.RESOLVED, _A.RESOLVED),
    **{(state, _T.CHATTERS): Step(None, _A.HELD) for state in _ACTIVE},
    **{(state, _T.RECURS): Step(None, _A.RECURRED) for state in _ACTIVE},
    **{(state, _T.SHELVE): Step(_S.SHELVED, _A.SHELVED) for state in _OPEN},
    **{(state, _T.ASK_SHELF): Step(None, _A.SHELF_ASKED) for state in _OPEN},
    **{(state, _T.EXPIRE): Step(None, _A.UNSHELVED, breaks_shelf=True) for state in _OPEN},
    **{(state, _T.SUPPRESS): Step(_S.SUPPRESSED, _A.SUPPRESSED) for state in _OPEN},
    **{(state, _T.RELEASE): Step(None, _A.RELEASED) for state in _OPEN},
    **{(state, _T.FADES): Step(None, _A.STALE) for state in _OPEN},
    **{(state, _T.REVIVES): Step(None, _A.STALE_OVER) for state in _OPEN},
    **{(state, _T.ADDS): Step(None, _A.ADDED) for state in _OPEN},
    **{(state, _T.NOTE): Step(None, _A.NOTED) for state in _OPEN},
    **{(state, _T.WITHDRAWN): Step(None, _A.RETRACTED) for state in _OPEN},
    **{(state, _T.RESOLVE): Step(_S.RESOLVED, _A.RESOLVED) for state in _OPEN},
})  # fmt: skip
"""``SHELVED`` and ``SUPPRESSED`` lie over a state that goes on underneath; ``FADES``, no data, ends nothing."""


class Report(NamedTuple):
    """What an event says beside the transition."""

    values: tuple[dict[str, Any], ...] = ()
    quality: tuple[str, ...] = ()
    text: str = ""
    author: str = ""
    note: str = ""


def latches(severity: Severity, rule: str) -> bool:
    """Whether an alert stays until it is acknowledged although its condition ended: S1, and alarms of monitors."""
    return severity is Severity.S1 or rule.startswith(MONITOR)


def digest(prefix: str, *parts: str | int) -> str:
    """``prefix`` and 32 hex digits that depend on every part."""
    return prefix + hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


def alert_id(patient: str, rule: str, message: int, vital: int, source_time_ns: int, seq: int) -> str:
    """``a_`` and 32 hex digits, from the rule and the identity of the first reading of the condition."""
    return digest("a_", patient, rule, message, vital, source_time_ns, seq)


def technical_rule(cause: str) -> str:
    """Rule id of an alert about the system itself: ``technical:pipeline_lag``."""
    return f"technical:{cause}"
