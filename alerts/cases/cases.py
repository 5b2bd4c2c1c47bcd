"""An alert in the casebook, the report of its condition, and the timers of alerts."""

import heapq
from typing import Any, Final, NamedTuple

import msgspec

from alerts.cases import ladder
from alerts.rules.spec import RuleFace
from vitals.canary import is_canary
from vitals.glossary import AlertState, Severity
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

ARCHIVE_NS: Final = 72 * HOUR_NS
GRANT_NS: Final = 15 * MINUTE_NS
"""A second person agrees to a long shelf within this time."""
_CYCLES_NS: Final = 30 * MINUTE_NS

PLAN, SHELF, MUTE, HOLD, STEP, ANSWER, ARCHIVE = range(7)
"""Timers of one instant go off in this order: status, shelf, suppressor, chatter, ladder, answer, archive."""
_UNACKNOWLEDGED: Final = (AlertState.ACTIVE_UNACK, AlertState.RTN_UNACK)

Timer = tuple[int, int]
"""(deadline in UTC nanoseconds, which)."""


class Subject(NamedTuple):
    """What a condition says of itself when it begins.

    ``severity`` is that of the rule, also when it is doubted; ``spot``: measured now and then, not all the time.
    ``identity`` is (message, vital, source time, seq) of its first reading; ``resolves`` says when it ends, a clause.
    """

    patient: str
    face: RuleFace
    severity: Severity
    spot: bool
    limit: dict[str, Any]
    identity: tuple[int, int, int, int]
    resolves: str = ""


class Ask(NamedTuple):
    """Who asked when for a shelf that one person may not grant, and until when."""

    author: str
    at_ns: int
    until_ns: int

    def grants(self, until_ns: int, at_ns: int) -> bool:
        """Whether somebody who asks at ``at_ns`` agrees: in time, and for no longer than was asked, from now on."""
        asked_ns = self.until_ns - self.at_ns
        return 0 <= at_ns - self.at_ns <= GRANT_NS and (until_ns <= self.until_ns or until_ns - at_ns <= asked_ns)


class Case(msgspec.Struct, array_like=True):
    """An alert from its first event until it is archived.

    ``live`` is the state underneath shelf and suppression; ``true`` whether the condition holds; ``full`` the severity
    of the rule where ``severity`` is lower by doubt; ``ordinal`` counts alerts as they are raised, ``number`` the
    alert's next event; ``text`` is what it says. ``shelves`` are the times it was muted by people over a day,
    ``clears`` when its condition ended within half an hour; both are handed on to the next alert of the same key.
    ``quiet``: while it is in doubt it is a task and pages nobody.
    """

    id: str
    key: str
    ordinal: int
    patient: str
    face: RuleFace
    severity: Severity
    full: Severity
    spot: bool
    limit: dict[str, Any]
    resolves: str
    incident: str
    live: AlertState = AlertState.NORMAL
    doubted: bool = False
    true: bool = True
    raised_ns: int = 0
    number: int = 0
    text: str = ""
    level: int = 0
    step_ns: int | None = None
    answer_ns: int | None = None
    recheck: bool = False
    shelved_ns: int = 0
    shelved_until_ns: int | None = None
    shelves: list[tuple[int, int]] = []
    ask: Ask | None = None
    suppressed: str = ""
    paused: bool = False
    clears: list[int] = []
    chattering: bool = False
    held_until_ns: int | None = None
    stale: bool = False
    resolved_ns: int = 0
    quiet: bool = False

    @property
    def rule(self) -> str:
        """The rule id."""
        return self.face.name

    @property
    def open(self) -> bool:
        """Not resolved."""
        return self.live is not AlertState.RESOLVED

    @property
    def state(self) -> AlertState:
        """The state that people see."""
        if self.shelved_until_ns is not None:
            return AlertState.SHELVED
        return AlertState.SUPPRESSED if self.suppressed else self.live

    @property
    def urgent(self) -> bool:
        """No suppressor hides it: an S1, or what may be one."""
        return Severity.S1 in (self.severity, self.full)

    @property
    def awaits(self) -> bool:
        """The first of two readings: a task on the list, not a page."""
        return self.quiet and self.doubted

    @property
    def muted(self) -> bool:
        """Nobody is asked for now; an S1 is never suppressed nor paused, so that a person's shelf alone mutes it."""
        return self.shelved_until_ns is not None or self.paused or bool(self.suppressed)

    @property
    def waits(self) -> bool:
        """Somebody should acknowledge it now."""
        return self.live in _UNACKNOWLEDGED and not self.muted

    @property
    def asks(self) -> bool:
        """Its ladder climbs: somebody will be asked again."""
        return self.waits and self.step_ns is not None

    def due_ns(self) -> int | None:
        """When the alert does something next if nobody acts."""
        if self.shelved_until_ns is not None:
            return self.shelved_until_ns
        if self.muted or not self.open:
            return None
        if self.live is AlertState.ACTIVE_ACK:
            return self.answer_ns if self.true else self.held_until_ns
        return self.step_ns

    def timer(self) -> Timer | None:
        """The next thing that time does to it."""
        if not self.open:
            return self.resolved_ns + ARCHIVE_NS, ARCHIVE
        timers: list[Timer] = []
        if self.shelved_until_ns is not None:
            timers.append((self.shelved_until_ns, SHELF))
        if self.held_until_ns is not None:
            timers.append((self.held_until_ns, HOLD))
        if self.step_ns is not None and self.waits:
            timers.append((self.step_ns, STEP))
        if self.live is AlertState.ACTIVE_ACK and self.true and self.answer_ns is not None and not self.muted:
            timers.append((self.answer_ns, ANSWER))
        return min(timers, default=None)

    def climb_from(self, at_ns: int) -> None:
        """Start the ladder anew, with its owner."""
        self.level, self.step_ns = ladder.OWNER, at_ns + ladder.sla_ns(self.face, self.severity, self.full)

    def resume(self, at_ns: int) -> None:
        """People are asked again, after a time in which they were not."""
        if self.live is AlertState.ACTIVE_ACK:
            self.answer_ns = self.answer_ns and max(self.answer_ns, at_ns)
        else:
            self.climb_from(at_ns)

    def end_shelf(self, at_ns: int) -> None:
        """The shelf is over, for whatever reason; how long it was is remembered."""
        if self.shelved_until_ns is not None:
            ended_ns = min(at_ns, self.shelved_until_ns)
            recent = [span for span in self.shelves if span[1] > at_ns - DAY_NS]
            self.shelves, self.shelved_until_ns = [*recent, (self.shelved_ns, ended_ns)], None

    def shelved_within_day_ns(self, now_ns: int) -> int:
        """How long the key was shelved over the last 24 hours."""
        spans = list(self.shelves)
        if self.shelved_until_ns is not None:
            spans.append((self.shelved_ns, min(now_ns, self.shelved_until_ns)))
        since_ns = now_ns - DAY_NS
        return sum(max(0, end_ns - max(start_ns, since_ns)) for start_ns, end_ns in spans)

    def clear(self, at_ns: int) -> int:
        """Count an end of the condition; how many there were within half an hour. The canary is meant to end often."""
        self.clears = (
            [] if is_canary(self.patient) else [*(then for then in self.clears if then > at_ns - _CYCLES_NS), at_ns]
        )
        return len(self.clears)


class Timers:
    """Deadlines of owners, each with one at a time; a heap in which what was replaced is passed over."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str]] = []
        self._armed: dict[str, Timer] = {}

    def arm(self, owner: str, timer: Timer | None) -> None:
        """Replace the deadline of ``owner``; None: it has none."""
        if timer is None:
            self._armed.pop(owner, None)
        elif self._armed.get(owner) != timer:
            self._armed[owner] = timer
            heapq.heappush(self._heap, (*timer, owner))

    def take(self, until_ns: int) -> tuple[int, int, str] | None:
        """(deadline, which, owner) of the first one that is not after ``until_ns``; it is disarmed."""
        while self._heap and self._heap[0][0] <= until_ns:
            due_ns, which, owner = heapq.heappop(self._heap)
            if self._armed.get(owner) == (due_ns, which):
                del self._armed[owner]
                return due_ns, which, owner
        return None
