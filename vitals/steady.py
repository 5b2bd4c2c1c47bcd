"""A wall clock that does not jump when somebody moves the machine's clock.

It compares the machine's wall clock with its uptime. A step of the wall clock is noticed at once but followed only
after ``SETTLE_NS``. Until then times go on as before, so that no reading is late, no clock ahead and no timer wrong
because of a step that may be taken back. The slow corrections of a time service are followed as they are made.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from vitals.times import MINUTE_NS, SECOND_NS

STEP_NS: Final = 2 * SECOND_NS
"""A smaller difference between two looks is the slow correction of a time service, or a busy machine."""
SETTLE_NS: Final = 10 * MINUTE_NS
"""How long a step must last before it is followed."""
_ABOUT_NS: Final = 15 * SECOND_NS
"""The processes of a machine follow a step within seconds of each other."""
MOVED: Final = "moved"
SETTLED: Final = "settled"
"""Details of a ``server_clock`` event."""
_LOOKS: Final = 3
"""A process that is put to sleep between two clocks reads a step that there is not: a step is read as often."""


def uptime_ns() -> int:
    """Time since the machine was started, sleep included, where the machine can say that."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ClockStep(NamedTuple):
    """The wall clock was moved by ``moved_ns``. Not ``settled``: it was noticed, and is not followed yet. ``settled``:
    it is followed from now on, by 0 when it was taken back."""

    moved_ns: int
    settled: bool


class SteadyClock:
    """A :class:`vitals.ports.Clock`. ``look`` follows steps; with ``follows`` reading the time does so too.

    Args:
        wall_ns: the machine's wall clock, ns since 1970-01-01 UTC.
        uptime_ns: a clock that nobody moves.
        follows: False for a process that tells others of steps, between ``look`` and ``look``.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        uptime_ns: Callable[[], int] = uptime_ns,
        *,
        follows: bool = True,
    ) -> None:
        self._wall_ns, self._uptime_ns, self._follows = wall_ns, uptime_ns, follows
        self._lock = threading.Lock()
        self._offset_ns = wall_ns() - uptime_ns()
        self._noticed: tuple[int, int] | None = None
        self._followed_ns: int | None = None

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        up_ns = self._uptime_ns()
        offset_ns = self._wall_ns() - up_ns
        if abs(offset_ns - self._offset_ns) < STEP_NS:
            self._offset_ns = offset_ns
        elif self._follows:
            self.look()
        return up_ns + self._offset_ns

    def look(self) -> list[ClockStep]:
        """What happened to the wall clock since the last look: a step noticed, followed, or taken back."""
        with self._lock:
            up_ns, moved_ns = self._uptime_ns(), self._moved()
            if abs(moved_ns) < STEP_NS:
                self._offset_ns += moved_ns
                returned, self._noticed = self._noticed is not None, None
                return [ClockStep(0, True)] if returned else []
            if self._noticed is None or abs(moved_ns - self._noticed[0]) >= STEP_NS:
                self._noticed = (moved_ns, up_ns)
                return [ClockStep(moved_ns, False)]
            if up_ns - self._noticed[1] < SETTLE_NS:
                return []
            self._offset_ns += moved_ns
            self._noticed, self._followed_ns = None, up_ns
            return [ClockStep(moved_ns, True)]

    def turning(self) -> bool:
        """Whether a step is followed about now: another process may still, or already, go by the other time."""
        up_ns, noticed, followed_ns = self._uptime_ns(), self._noticed, self._followed_ns
        soon = noticed is not None and up_ns - noticed[1] >= SETTLE_NS - _ABOUT_NS
        return soon or (followed_ns is not None and up_ns - followed_ns < _ABOUT_NS)

    def _moved(self) -> int:
        """By how much the wall clock differs from what is followed: the least of several looks."""
        looks = []
        for _ in range(_LOOKS):
            up_ns = self._uptime_ns()
            looks.append(self._wall_ns() - up_ns - self._offset_ns)
        return min(looks, key=abs)
