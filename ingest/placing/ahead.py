"""How far a device's clock is ahead, learned from arrivals: nothing is measured after it arrives.

A live message whose newest time lies ahead of its arrival proves that its clock is ahead at least so much. Messages
that say the same over a while prove a constant, by which later ones of the kind are corrected. What says something else
(a message that was delayed, a clock that was changed) is not corrected, and stays a reading of a wrong clock that is
judged at its arrival. A clock that is behind looks like a delay; it is never learned.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.placing.clocks import FUTURE_TOLERANCE_NS, LIVE_TOLERANCE_NS
from vitals.device_state import AheadState, Arrival
from vitals.times import HOUR_NS, MINUTE_NS

LEAST_MESSAGES: Final = 3
LEAST_SPAN_NS: Final = 10 * MINUTE_NS
_KEPT: Final = 16
Amount = int | npt.NDArray[np.int64]
_FARTHEST_ZONE_NS: Final = 14 * HOUR_NS


class AheadClock(msgspec.Struct):
    """What is known of a clock that is ahead.

    ``arrivals`` are the newest messages that were ahead; ``ahead_ns`` is what was learned, from ``evidence``, at the
    arrival ``since_ns``. ``undone_by`` is the person who took it back: until the clock was right once, nothing is
    learned anew.
    """

    arrivals: list[Arrival] = []
    ahead_ns: int | None = None
    since_ns: int | None = None
    evidence: list[Arrival] = []
    undone_by: str = ""
    undone_ns: int | None = None
    reason: str = ""

    def see(self, arrival: Arrival) -> None:
        """Take in a live message that is ahead beyond the tolerance."""
        self.arrivals = [*self.arrivals, arrival][-_KEPT:]
        if self.undone_by or (self.ahead_ns is not None and explains(self.ahead_ns, arrival.ahead_ns)):
            return
        alike = [one for one in self.arrivals if abs(one.ahead_ns - arrival.ahead_ns) <= LIVE_TOLERANCE_NS]
        times = [one.received_ns for one in alike]
        if len(alike) < LEAST_MESSAGES or max(times) - min(times) < LEAST_SPAN_NS:
            return
        self.ahead_ns, self.since_ns = max(one.ahead_ns for one in alike), arrival.received_ns
        self.evidence = alike

    def right(self) -> None:
        """A live message came whose clock is right: nothing of before holds any more."""
        self.arrivals, self.evidence, self.undone_by, self.reason = [], [], "", ""
        self.ahead_ns = self.since_ns = self.undone_ns = None

    def undo(self, author: str, at_ns: int, reason: str) -> None:
        """A person takes back what was learned."""
        self.right()
        self.undone_by, self.undone_ns, self.reason = author, at_ns, reason

    @property
    def correction_ns(self) -> int:
        """What is taken from times as sent; 0 for nothing learned, and for a clock of another zone: which zone that is
        must be said by a person, or the hour returns with the next change of the clocks."""
        return 0 if self.ahead_ns is None or zone_hours(self.ahead_ns) else self.ahead_ns

    def state(self) -> AheadState:
        """As people see it."""
        hours = 0 if self.ahead_ns is None else zone_hours(self.ahead_ns)
        return AheadState(
            self.ahead_ns, self.since_ns, tuple(self.evidence or self.arrivals), hours, bool(self.correction_ns),
            self.undone_by, self.undone_ns, self.reason,
        )  # fmt: skip


def taught(known: Mapping[str, AheadClock], arrivals: Iterable[tuple[str, int, int | None]]) -> dict[str, AheadClock]:
    """The clocks that live messages taught more of, by device token: (device, receipt, how far ahead), in the order of
    receipt; None for a message whose clock was right. ``known`` is not changed."""
    out: dict[str, AheadClock] = {}
    for device, received_ns, ahead_ns in arrivals:
        clock = out.get(device) or msgspec.structs.replace(known.get(device) or AheadClock())
        out[device] = clock
        if ahead_ns is None:
            clock.right()
        else:
            clock.see(Arrival(received_ns, ahead_ns))
    return out


def explains(ahead_ns: Amount, seen_ns: Amount) -> Any:
    """Whether messages that are ``seen_ns`` ahead were sent live by clocks that are ``ahead_ns`` ahead."""
    return (seen_ns - ahead_ns >= -LIVE_TOLERANCE_NS) & (seen_ns - ahead_ns <= FUTURE_TOLERANCE_NS)


def zone_hours(ahead_ns: int) -> int:
    """The whole hours, up to 14, by which a clock of another zone, or one that was not set back in autumn, is ahead; 0
    for what is none."""
    hours = round(ahead_ns / HOUR_NS)
    near = abs(ahead_ns - hours * HOUR_NS) <= LIVE_TOLERANCE_NS
    return hours if near and 0 < ahead_ns <= _FARTHEST_ZONE_NS + LIVE_TOLERANCE_NS else 0
