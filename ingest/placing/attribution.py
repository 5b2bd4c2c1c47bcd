"""Device and time to patient, or *unassigned* (promise 4): who wore the device when it was measured.

A row's time is read in the zone of each assignment of its device, and the row is given to the one person who wore the
device at every instant that it can mean. No such person, or two: the row waits as unassigned with a reason.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.placing import clocks, walls
from ingest.placing.wear import EVER, NEVER, WearTable
from vitals.glossary import Basis, Described, Flag
from vitals.model import UNASSIGNED
from vitals.times import DAY_NS, NO_TIME

AFTER_KEY = "after_ns"
"""Context key of a reading of unknown time: it was measured after this instant, and before it arrived."""

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


class Unplaced(Described):
    """Why readings wait as unassigned."""

    NO_WEARER = "no_wearer", "nobody wore the device at that time"
    TWO_WEARERS = "two_wearers", "the time is not sure enough to tell two wearers apart"
    CLOCK_RESET = "clock_reset", "the device's clock was reset: its sequence rose while its time fell"
    NO_TIME = "no_time", "a stored record without a usable time"


REASONS: tuple[Unplaced, ...] = tuple(Unplaced)
_CODE = {reason: number for number, reason in enumerate(REASONS)}


@dataclass(slots=True)
class Placed:
    """Columns per reading. ``patient`` indexes ``WearTable.patients``; where -1, ``reason`` indexes ``REASONS``.

    ``trusted`` rows have a wall time that later records of the device are measured against, ``odd`` ones a time that is
    out of line with their number. ``after_ns`` bounds an unknown time from below, ``NO_TIME`` where nothing does.
    """

    time_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]
    flags: npt.NDArray[np.uint32]
    patient: npt.NDArray[np.int32]
    reason: npt.NDArray[np.uint8]
    trusted: Bools
    odd: Bools
    after_ns: Int64

    def take(self, rows: Bools) -> "Placed":
        """The placing of ``rows``."""
        return Placed(*(getattr(self, item.name)[rows] for item in fields(self)))


def place(
    columns: Columns, shown_ns: Int64, device: Int64, received_ns: Int64, worn: WearTable,
    after_ns: Int64 | None = None,
) -> Placed:  # fmt: skip
    """Time and wearer of readings, whatever batches they come in.

    ``shown_ns`` is the time as the user saw it (base time + offset), ``device`` the row in ``worn``; all as long as
    ``columns``, rows in the order of receipt. An instant or wall time before 2010 or more than 5 minutes ahead of
    arrival is untrusted: such a row takes its arrival for its time, on an unknown basis. ``after_ns`` bounds rows
    without a usable time, where it is known (else ``NO_TIME``). ``worn`` is not changed.
    """
    rows, clock = len(columns), columns.clock
    shown_ns = np.minimum(shown_ns, clocks.LATEST_NS)
    out = Placed(
        shown_ns, np.full(rows, Basis.DEVICE, np.uint8), columns.tz_min.copy(), np.zeros(rows, np.uint32),
        np.full(rows, UNASSIGNED, np.int32), np.full(rows, _CODE[Unplaced.NO_WEARER], np.uint8), np.zeros(rows, bool),
        np.zeros(rows, bool), np.full(rows, NO_TIME, np.int64),
    )  # fmt: skip
    live, hub = clock == SourceClock.NONE, clock == SourceClock.HUB
    bounded_day = (clock == SourceClock.DAY) & (columns.ended_ns != NO_TIME)
    instant = (clock == SourceClock.INSTANT) | hub | bounded_day
    day = (clock == SourceClock.DAY) & ~bounded_day
    wall = (clock == SourceClock.WALL) | day
    unset = (instant | wall) & clocks.unset(shown_ns, columns.context)
    out.basis[live], out.basis[hub], out.basis[bounded_day] = Basis.RECEIVED, Basis.HUB, Basis.DAY
    future = instant & (shown_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)
    by_time(out, live | (instant & ~unset & ~future), device, worn)
    readable = np.flatnonzero(wall & ~unset)
    if len(readable):
        future[readable] = _walls(out, readable, day[readable], device[readable], received_ns[readable], worn)
    _untrusted(out, unset | future, device, received_ns, worn)
    _timeless(out, clock == SourceClock.STORED, received_ns, Unplaced.NO_TIME)
    if after_ns is not None:
        out.after_ns = after_ns
        bounded = after_ns != NO_TIME
        out.reason[bounded] = _CODE[Unplaced.CLOCK_RESET]
        _between(out, bounded, device, received_ns, worn)
    numbered = (clock == SourceClock.WALL) & (columns.seq > 0)
    out.trusted = numbered & (out.basis != Basis.UNKNOWN) & (out.patient != UNASSIGNED)
    if wall.any():
        head_time_ns, head_seq = _heads_before(columns, device, out.trusted, worn)
        reset = wall & clocks.is_reset(columns.source_time_ns, columns.seq, head_time_ns, head_seq)
        reset |= _known_odd(columns, device, numbered & ~reset, worn)
        _timeless(out, reset, received_ns, Unplaced.CLOCK_RESET)
        # Trusted time is wall time: the instant lies at most so much before it.
        out.after_ns[reset] = head_time_ns[reset] - clocks.EAST_NS
        _between(out, reset, device, received_ns, worn)
        out.odd = numbered & (reset | unset | (future & (shown_ns > received_ns + clocks.RESET_LEAP_NS)))
        out.trusted &= ~reset
        _correct(out, columns, device, received_ns, worn)
    return out


def _known_odd(columns: Columns, device: Int64, rows: Bools, worn: WearTable) -> Bools:
    """``rows`` of devices whose clock was reset before that are out of line with what is known since."""
    odd = np.zeros(len(columns), bool)
    if worn.clocks:
        for row in np.flatnonzero(rows & np.isin(device, list(worn.clocks))).tolist():
            number = int(device[row])
            head_ns = EVER // 2 if worn.head_seq[number] == NEVER else int(worn.head_time_ns[number])
            odd[row] = worn.clocks[number].is_odd(int(columns.seq[row]), int(columns.source_time_ns[row]), head_ns)
    return odd


def _between(out: Placed, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Rows measured between ``after_ns`` and arrival: given to the person who wore the device over all that time.

    Where the gateway's own clock went back, arrival stands before the other bound: then over the time between the two.
    """
    index = np.flatnonzero(rows)
    early_ns = np.minimum(out.after_ns[index], received_ns[index])
    late_ns = np.maximum(out.after_ns[index], received_ns[index])
    for column in range(worn.first_ns.shape[1]):
        number = device[index]
        held = (worn.parts[number] > column) & (worn.worn_from_ns[number, column] <= early_ns)
        held &= late_ns < worn.worn_to_ns[number, column]
        out.patient[index[held]] = worn.patient[number[held], column]


def _correct(out: Placed, columns: Columns, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Odd rows of a known shift: at their corrected time, whoever wore the device then."""
    if not worn.clocks:
        return
    known = np.zeros(len(columns), bool)
    for row in np.flatnonzero(out.odd & np.isin(device, list(worn.clocks))).tolist():
        clock = worn.clocks[int(device[row])]
        record = (int(columns.seq[row]), int(columns.source_time_ns[row]), int(received_ns[row]))
        shift_ns = clock.shift_ns(*record)
        if shift_ns is not None:
            known[row], out.time_ns[row] = True, columns.source_time_ns[row] + shift_ns
    out.basis[known], out.flags[known] = Basis.DEVICE, np.uint32(Flag.CLOCK_CORRECTED)
    out.after_ns[known] = NO_TIME
    out.patient[known], out.reason[known] = UNASSIGNED, _CODE[Unplaced.NO_WEARER]
    by_time(out, known, device, worn)


def _heads_before(columns: Columns, device: Int64, trusted: Bools, worn: WearTable) -> tuple[Int64, Int64]:
    """Time and sequence of the newest trusted record of each row's device before that row.

    Rows that are resets themselves lie before the head, so that they never raise it and need no second look.
    """
    time_ns, seq = worn.head_time_ns[device], worn.head_seq[device]
    index = np.flatnonzero(trusted)
    if not len(index):
        return time_ns, seq
    order = index[np.lexsort((columns.seq[index], columns.source_time_ns[index]))]
    rank = np.zeros(len(device), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    by_device = np.argsort(device, kind="stable")
    segment = device[by_device] * (len(order) + 1)
    newest = np.maximum.accumulate(rank[by_device] + segment)
    before = np.concatenate(([0], newest[:-1])) - segment
    # What a device before this one has left in the running maximum lies below its segment.
    rank[by_device] = np.maximum(before, 0)
    found = order[rank - 1]
    found_ns, found_seq = columns.source_time_ns[found], columns.seq[found]
    newer = (rank > 0) & ((seq == NEVER) | (found_ns > time_ns) | ((found_ns == time_ns) & (found_seq > seq)))
    return np.where(newer, found_ns, time_ns), np.where(newer, found_seq, seq)


def by_time(out: Placed, rows: Bools, device: Int64, worn: WearTable) -> None:
    """Give rows to whoever wore the device at ``time_ns``."""
    index = np.flatnonzero(rows)
    for column in range(worn.first_ns.shape[1]):
        index = index[worn.parts[device[index]] > column]
        time_ns, number = out.time_ns[index], device[index]
        held = (time_ns >= worn.first_ns[number, column]) & (time_ns < worn.end_ns[number, column])
        out.patient[index[held]] = worn.patient[number[held], column]


def _untrusted(out: Placed, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Rows measured at an unknown time before arrival: given to the only person who wore the device until then."""
    if not rows.any():
        return
    out.time_ns[rows] = received_ns[rows]
    out.basis[rows] = Basis.UNKNOWN
    out.tz_min[rows] = 0
    out.flags[rows] |= np.uint32(Flag.CLOCK_SUSPECT)
    several = worn.wearers[device[rows]] > 1
    out.reason[rows] = np.where(several, _CODE[Unplaced.TWO_WEARERS], _CODE[Unplaced.NO_WEARER])
    always = (worn.worn_from_ns[device, 0] == EVER) & (received_ns < worn.worn_to_ns[device, 0])
    out.patient[rows] = np.where(always[rows], worn.patient[device[rows], 0], UNASSIGNED)


def _timeless(out: Placed, rows: Bools, received_ns: Int64, why: Unplaced) -> None:
    """Rows of which only the order is known: a person decides whose they are."""
    out.time_ns[rows] = received_ns[rows]
    out.basis[rows] = Basis.UNKNOWN
    out.tz_min[rows] = 0
    out.flags[rows] |= np.uint32(Flag.CLOCK_SUSPECT)
    out.patient[rows] = UNASSIGNED
    out.reason[rows] = _CODE[why]


def _walls(out: Placed, index: Int64, day: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> Bools:
    """Rows with wall time: read in the zone of each assignment, kept where one holds. Returns the future ones.

    ``day``, ``device`` and ``received_ns`` are those of the rows ``index``.
    """
    first_wall_ns = out.time_ns[index]
    last_wall_ns = np.where(day, first_wall_ns + DAY_NS - 1, first_wall_ns)
    fit = walls.Fit(first_wall_ns, last_wall_ns, received_ns)
    fit.compare(np.arange(len(index)), device, worn)
    fit.bridge(np.flatnonzero(fit.patient == UNASSIGNED), device, worn)
    sure = (fit.patient != UNASSIGNED) & fit.alone
    out.patient[index] = np.where(sure, fit.patient, UNASSIGNED)
    touched = fit.patient != UNASSIGNED
    out.reason[index] = np.where(touched, _CODE[Unplaced.TWO_WEARERS], _CODE[Unplaced.NO_WEARER])
    best = fit.best
    out.time_ns[index], out.tz_min[index] = best.time_ns, best.tz_min
    out.basis[index] = np.where(day, np.uint8(Basis.DAY), best.basis)
    soonest_ns = np.where(best.basis == Basis.UNKNOWN, best.early_ns, best.time_ns)
    return np.asarray(soonest_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)
