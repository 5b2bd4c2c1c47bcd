"""Which reading a device took just now, whatever its clock says (DESIGN section 5, judging time; clinical.md 1.3).

Nothing is measured after it arrives. A message whose newest reading lies ahead of its arrival comes from a clock that
is ahead, so the whole message moves back by the excess and the spacing of its readings stays. Within the tolerance that
is all. Beyond it, and for a clock that was never set, the newest live reading of each vital sign is judged at its
arrival with a flag that says so; the other readings are history at an unknown time.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.placing import clocks
from ingest.placing.attribution import Placed, by_time
from ingest.placing.wear import WearTable
from vitals.glossary import Basis, Flag, Statistic
from vitals.model import UNASSIGNED
from vitals.times import NO_TIME, SECOND_NS

SLACK_NS: Final = 2 * SECOND_NS
"""Clocks that are kept by a time server differ by less; a larger excess is flagged as a correction."""
_SUSPECT: Final = np.uint32(Flag.CLOCK_SUSPECT)
_STATED: Final = (SourceClock.INSTANT, SourceClock.WALL, SourceClock.HUB)

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClockFault:
    """The clock of a message's device is wrong: ``ahead_s`` seconds ahead of arrival, None for a clock that was never
    set."""

    message: int
    ahead_s: float | None

    @property
    def detail(self) -> str:
        """The word of the event."""
        return "clock_unset" if self.ahead_s is None else "clock_ahead"


@dataclass(frozen=True, slots=True)
class Settled:
    """``placed`` with the times that readings are judged by, ``now`` the rows that are judged at their arrival although
    their clock is wrong, and the faults, one per device."""

    placed: Placed
    now: Bools
    faults: tuple[ClockFault, ...]


def settle(
    columns: Columns, shown_ns: Int64, placed: Placed, device: Int64, received_ns: Int64, worn: WearTable, live: Bools
) -> Settled:
    """Times by which readings are judged.

    ``shown_ns`` and ``device`` are as :func:`ingest.placing.attribution.place` takes them; ``live`` marks rows of
    messages that a device sends as it measures. ``placed`` is not changed.
    """
    stated = np.isin(columns.clock, _STATED)
    wrong = stated & (placed.basis == Basis.UNKNOWN) & ((placed.flags & _SUSPECT) != 0)
    doubted = stated & (placed.basis != Basis.UNKNOWN) & ((columns.flags & _SUSPECT) != 0)
    if not wrong.any() and not doubted.any():
        known = stated & (placed.basis != Basis.UNKNOWN)
        if not (placed.time_ns[known] > received_ns[known]).any():
            return Settled(placed, np.zeros(len(columns), bool), ())
    out = replace(placed, time_ns=placed.time_ns.copy(), basis=placed.basis.copy(), flags=placed.flags.copy(),
                  tz_min=placed.tz_min.copy(), patient=placed.patient.copy())  # fmt: skip
    # Step 1: messages that are ahead within the tolerance move back as a whole (DESIGN section 5).
    _move_back(columns, out, stated & ~wrong, device, received_ns, worn)
    # Step 2: readings beside one that is further ahead keep their distance from it.
    ahead = wrong & (shown_ns >= clocks.PLAUSIBLE_FROM_NS)
    _spread(columns, shown_ns, out, ahead, stated, received_ns)
    # Step 3: the newest live reading of each vital sign counts as taken when it arrived.
    now = _newest(columns, shown_ns, device, (wrong | doubted) & live & (columns.statistic == Statistic.SINGLE))
    now &= out.patient != UNASSIGNED
    arrived = now & wrong
    out.time_ns[arrived], out.basis[arrived] = received_ns[arrived], Basis.RECEIVED
    out.flags[now] &= ~_SUSPECT
    return Settled(out, now, _faults(columns, shown_ns, device, received_ns, wrong))


def _move_back(columns: Columns, out: Placed, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    known = rows & (out.basis != Basis.UNKNOWN) & (out.basis != Basis.DAY) & (out.time_ns != NO_TIME)
    index = np.flatnonzero(known)
    if not len(index):
        return
    excess = np.zeros(int(columns.message.max()) + 1, np.int64)
    np.maximum.at(excess, columns.message[index], (out.time_ns - received_ns)[index])
    moved = index[excess[columns.message[index]] > 0]
    back_ns = excess[columns.message[moved]]
    out.time_ns[moved] -= back_ns
    out.flags[moved[back_ns > SLACK_NS]] |= np.uint32(Flag.CLOCK_CORRECTED)
    # A move across a change of wearer gives the reading to whoever wore the device then.
    handed = moved[worn.parts[device[moved]] > 1]
    if len(handed):
        mask = np.zeros(len(columns), bool)
        mask[handed] = out.patient[handed] != UNASSIGNED
        out.patient[mask] = UNASSIGNED
        by_time(out, mask, device, worn)


def _spread(columns: Columns, shown_ns: Int64, out: Placed, ahead: Bools, stated: Bools, received_ns: Int64) -> None:
    index = np.flatnonzero(ahead)
    if not len(index):
        return
    newest = np.full(int(columns.message.max()) + 1, NO_TIME, np.int64)
    np.maximum.at(newest, columns.message[index], shown_ns[index])
    beside = stated & (newest[columns.message] != NO_TIME) & (shown_ns >= clocks.PLAUSIBLE_FROM_NS)
    beside &= (out.basis == Basis.UNKNOWN) | (out.basis == Basis.DEVICE) | (out.basis == Basis.DEVICE_ASSUMED_ZONE)
    out.time_ns[beside] = received_ns[beside] - (newest[columns.message] - shown_ns)[beside]
    out.basis[beside] = Basis.UNKNOWN
    out.flags[beside] |= _SUSPECT


def _newest(columns: Columns, shown_ns: Int64, device: Int64, rows: Bools) -> Bools:
    """Of ``rows``, the last one of each (device, vital): by message, then by time as sent and sequence."""
    found = np.zeros(len(columns), bool)
    index = np.flatnonzero(rows)
    if len(index):
        keys = (columns.seq[index], shown_ns[index], columns.message[index], columns.vital[index], device[index])
        order = index[np.lexsort(keys)]
        last = np.append(np.diff(device[order]) != 0, True) | np.append(np.diff(columns.vital[order]) != 0, True)
        found[order[last]] = True
    return found


def _faults(
    columns: Columns, shown_ns: Int64, device: Int64, received_ns: Int64, wrong: Bools
) -> tuple[ClockFault, ...]:
    """The last wrong message of each device."""
    index = np.flatnonzero(wrong)
    order = index[np.lexsort((shown_ns[index], columns.message[index], device[index]))]
    last = order[np.append(np.diff(device[order]) != 0, True)] if len(order) else order
    return tuple(
        ClockFault(
            int(columns.message[row]),
            None if shown_ns[row] < clocks.PLAUSIBLE_FROM_NS else float(shown_ns[row] - received_ns[row]) / SECOND_NS,
        )
        for row in last.tolist()
    )
