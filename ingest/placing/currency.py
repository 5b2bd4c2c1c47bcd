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
from ingest.placing.ahead import explains
from ingest.placing.attribution import Placed, by_time, worn_over
from ingest.placing.wear import WearTable
from vitals.catalog import CODE_SPACE
from vitals.currency import AVERAGES
from vitals.glossary import Basis, Flag, Statistic
from vitals.model import UNASSIGNED
from vitals.times import DAY_NS, NO_TIME, SECOND_NS

SLACK_NS: Final = 2 * SECOND_NS
"""Clocks that are kept by a time server differ by less; a larger excess is flagged as a correction."""
MEMORY_NS: Final = 31 * DAY_NS
"""Readings of one message that lie further apart were not stamped by one clock, whose memory spans weeks at most."""
AHEAD: Final = "clock_ahead"
UNSET: Final = "clock_unset"
RESET: Final = "clock_reset"
CLOCK_FAULTS: Final = (RESET, UNSET, AHEAD)
"""Details of the faults that ingest finds; of several in a message the last of these is told."""
_SUSPECT: Final = np.uint32(Flag.CLOCK_SUSPECT)
_STATED: Final = (SourceClock.INSTANT, SourceClock.WALL, SourceClock.HUB)

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClockFault:
    """The clock of a message's device is wrong: ``detail`` is a word of ``CLOCK_FAULTS``, ``ahead_s`` how far a clock
    that is ahead lies before the arrival, at least."""

    message: int
    detail: str
    ahead_s: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """``placed`` with the times that readings are judged by, ``now`` the rows that are judged at their arrival although
    their clock is wrong, and the faults, one per message."""

    placed: Placed
    now: Bools
    faults: tuple[ClockFault, ...]


def settle(
    columns: Columns, placed: Placed, device: Int64, received_ns: Int64, worn: WearTable, live: Bools, learned_ns: Int64
) -> Settled:
    """Times by which readings are judged.

    ``device`` is as :func:`ingest.placing.attribution.place` takes it; ``live`` marks rows of messages that a device
    sends as it measures; ``learned_ns`` is how far their clock is known to be ahead, 0 where that is not known.
    ``placed`` is not changed.
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
    # Step 1: a clock that is known to be ahead is corrected where the message says that it was sent live.
    far = placed.stated_ns > received_ns + clocks.FUTURE_TOLERANCE_NS
    faults = _faults(columns, placed.stated_ns, received_ns, wrong, wrong & far)
    wrong &= ~_correct(columns, out, wrong & far, stated & live, device, received_ns, worn, learned_ns)
    # Step 2: messages that are ahead within the tolerance move back as a whole (DESIGN section 5).
    _move_back(columns, out, stated & ~wrong, device, received_ns, worn)
    # Step 3: readings beside one that is further ahead keep their distance from it, unless they may be of now.
    _spread(columns, out, wrong & far, stated, received_ns)
    # Step 4: the newest live reading of each vital sign counts as taken when it arrived; an average, where no single
    # value comes, as having ended then.
    current = (wrong | doubted) & live & np.isin(columns.statistic, (Statistic.SINGLE, *AVERAGES))
    now = _newest(columns, placed.stated_ns, device, received_ns, current)
    now &= out.patient != UNASSIGNED
    arrived = now & wrong
    lasted_ns = np.where(columns.ended_ns == NO_TIME, 0, np.maximum(columns.ended_ns - columns.source_time_ns, 0))
    out.time_ns[arrived], out.basis[arrived] = (received_ns - lasted_ns)[arrived], Basis.RECEIVED
    out.flags[now] &= ~_SUSPECT
    return Settled(out, now, faults)


def _newest_of(columns: Columns, stated_ns: Int64, rows: Bools) -> Int64:
    """Per row, the newest time that ``rows`` of its message state; ``NO_TIME`` where there are none."""
    newest = np.full(int(columns.message.max()) + 1, NO_TIME, np.int64)
    np.maximum.at(newest, columns.message[rows], stated_ns[rows])
    return newest[columns.message]


def _correct(
    columns: Columns, out: Placed, ahead: Bools, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable,
    learned_ns: Int64,
) -> Bools:  # fmt: skip
    """Take ``learned_ns`` from messages that are so far ahead; the rows that were corrected. A row is not, unless one
    person wore the device from its corrected time to its arrival."""
    moved = np.zeros(len(columns), bool)
    if not (learned_ns[ahead] > 0).any():
        return moved
    newest_ns = _newest_of(columns, out.stated_ns, ahead)
    excess_ns = np.where(newest_ns == NO_TIME, 0, newest_ns - received_ns)
    fits = explains(learned_ns, excess_ns) & (learned_ns > 0) & rows & (out.stated_ns >= clocks.PLAUSIBLE_FROM_NS)
    index = np.flatnonzero(fits & np.isin(out.basis, (Basis.UNKNOWN, Basis.DEVICE, Basis.DEVICE_ASSUMED_ZONE)))
    time_ns = out.stated_ns[index] - learned_ns[index]
    early_ns = np.minimum(time_ns - clocks.LIVE_TOLERANCE_NS, received_ns[index])
    patient = worn_over(early_ns, received_ns[index], device[index], worn)
    sure = patient != UNASSIGNED
    index = index[sure]
    moved[index] = True
    out.time_ns[index], out.patient[index], out.tz_min[index] = time_ns[sure], patient[sure], columns.tz_min[index]
    assumed = columns.clock[index] == SourceClock.WALL
    out.basis[index] = np.where(assumed, Basis.DEVICE_ASSUMED_ZONE, Basis.DEVICE)
    out.flags[index] = (out.flags[index] & ~_SUSPECT) | np.uint32(Flag.CLOCK_CORRECTED)
    return moved


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


def _spread(columns: Columns, out: Placed, ahead: Bools, stated: Bools, received_ns: Int64) -> None:
    if not ahead.any():
        return
    newest_ns = _newest_of(columns, out.stated_ns, ahead)
    beside = stated & (newest_ns != NO_TIME) & (out.stated_ns >= clocks.PLAUSIBLE_FROM_NS)
    known = (out.basis == Basis.DEVICE) | (out.basis == Basis.DEVICE_ASSUMED_ZONE)
    beside &= (out.basis == Basis.UNKNOWN) | known
    beside &= (out.flags & np.uint32(Flag.CLOCK_CORRECTED)) == 0
    # One wild time says nothing of times that are possible by themselves.
    beside &= ahead | (newest_ns - out.stated_ns <= MEMORY_NS)
    beside &= ~_of_another_clock(columns, out, beside & known, ahead)
    out.time_ns[beside] = received_ns[beside] - (newest_ns - out.stated_ns)[beside]
    out.basis[beside] = Basis.UNKNOWN
    out.flags[beside] |= _SUSPECT


def _of_another_clock(columns: Columns, out: Placed, possible: Bools, ahead: Bools) -> Bools:
    """Of ``possible`` rows, whose own time is possible, those that may be of now although others of their message lie
    ahead: rows of a vital sign that has no row ahead, and the newest one of each other vital sign."""
    index = np.flatnonzero(possible)
    found = np.zeros(len(columns), bool)
    if not len(index):
        return found
    series = columns.message.astype(np.int64) * CODE_SPACE + columns.vital
    found[index] = ~np.isin(series[index], series[ahead])
    order = index[np.lexsort((columns.seq[index], out.stated_ns[index], series[index]))]
    found[order[np.append(np.diff(series[order]) != 0, True)]] = True
    return found


def _newest(columns: Columns, stated_ns: Int64, device: Int64, received_ns: Int64, rows: Bools) -> Bools:
    """Of ``rows``, the last one of each (message, device, vital), by time as stated and sequence; single values before
    averages.

    A message whose clock lay further back against its arrival than that of another message of the batch comes from the
    device's memory, and has no such row: a live clock and its arrivals run alike.
    """
    found = np.zeros(len(columns), bool)
    index = np.flatnonzero(rows)
    if not len(index):
        return found
    single = columns.statistic[index] == Statistic.SINGLE
    keys = (columns.seq[index], stated_ns[index], single, columns.message[index], columns.vital[index], device[index])
    order = index[np.lexsort(keys)]
    begins = (np.diff(device[order]) != 0) | (np.diff(columns.vital[order]) != 0)
    last = np.append(begins | (np.diff(columns.message[order]) != 0), True)
    series = np.concatenate(([0], np.cumsum(begins)))[last]
    newest, excess = order[last], (stated_ns - received_ns)[order[last]]
    most = np.full(int(series[-1]) + 1, NO_TIME, np.int64)
    np.maximum.at(most, series, excess)
    found[newest[excess >= most[series] - clocks.LIVE_TOLERANCE_NS]] = True
    return found


def _faults(
    columns: Columns, stated_ns: Int64, received_ns: Int64, wrong: Bools, ahead: Bools
) -> tuple[ClockFault, ...]:
    """One of each message with a wrong time, so that what is told does not depend on how messages were batched."""
    index = np.flatnonzero(wrong)
    unset = stated_ns[index] < clocks.PLAUSIBLE_FROM_NS
    kind = np.where(ahead[index], CLOCK_FAULTS.index(AHEAD), np.where(unset, CLOCK_FAULTS.index(UNSET), 0))
    order = np.lexsort((stated_ns[index], kind, columns.message[index]))
    last = order[np.append(np.diff(columns.message[index][order]) != 0, True)] if len(order) else order
    return tuple(
        ClockFault(int(columns.message[row]), AHEAD, float(stated_ns[row] - received_ns[row]) / SECOND_NS)
        if ahead[row]
        else ClockFault(int(columns.message[row]), CLOCK_FAULTS[number])
        for row, number in zip(index[last].tolist(), kind[last].tolist(), strict=True)
    )
