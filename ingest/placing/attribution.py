"""Device and time to patient, or *unassigned* (promise 4): who wore the device when it was measured.

A row's time is read in the zone of each assignment of its device. The row belongs to the patient who wore the device at
every instant that the time can mean. If there is no such patient, or more than one, the row waits as unassigned with a
reason.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.placing import clocks, repeated, walls
from ingest.placing.wear import EVER, NEVER, WearTable
from vitals.glossary import Basis, Described, Flag
from vitals.model import UNASSIGNED
from vitals.times import DAY_NS, MINUTE_NS, NO_TIME

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
    OTHER_PATIENT = "other_patient", "the message names another patient than the one who wears the device"


REASONS: tuple[Unplaced, ...] = tuple(Unplaced)
_CODE = {reason: number for number, reason in enumerate(REASONS)}


@dataclass(slots=True)
class Placed:
    """Columns per reading. ``patient`` indexes ``WearTable.patients``; where -1, ``reason`` indexes ``REASONS``.

    ``trusted`` rows have a wall time that later records of the device are measured against, ``odd`` ones a time that is
    out of line with their number. ``after_ns`` bounds an unknown time from below, ``NO_TIME`` where nothing does.
    ``stated_ns`` is the instant that the device's clock states, in the zone of its wearer; the earliest one that it can
    mean where no zone is known.
    ``hour`` holds the ``repeated.Pass`` of wall times in an hour that the end of summer time repeats.
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
    stated_ns: Int64
    hour: npt.NDArray[np.int8]

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
    # Step 1: device-formats.md 8.3, step 1. Begin with the time as sent.
    rows, clock = len(columns), columns.clock
    shown_ns = np.minimum(shown_ns, clocks.LATEST_NS)
    out = Placed(
        shown_ns, np.full(rows, Basis.DEVICE, np.uint8), columns.tz_min.copy(), np.zeros(rows, np.uint32),
        np.full(rows, UNASSIGNED, np.int32), np.full(rows, _CODE[Unplaced.NO_WEARER], np.uint8), np.zeros(rows, bool),
        np.zeros(rows, bool), np.full(rows, NO_TIME, np.int64), shown_ns.copy(), np.zeros(rows, np.int8),
    )  # fmt: skip
    # Step 2: 8.3, step 1. Live rows take their arrival, rows with an instant the instant.
    live, hub = clock == SourceClock.NONE, clock == SourceClock.HUB
    bounded_day = (clock == SourceClock.DAY) & (columns.ended_ns != NO_TIME)
    instant = (clock == SourceClock.INSTANT) | hub | bounded_day
    day = (clock == SourceClock.DAY) & ~bounded_day
    wall = (clock == SourceClock.WALL) | day
    unset = (instant | wall) & clocks.unset(shown_ns, columns.context)
    out.basis[live], out.basis[hub], out.basis[bounded_day] = Basis.RECEIVED, Basis.HUB, Basis.DAY
    future = instant & (shown_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)
    by_time(out, live | (instant & ~unset & ~future), device, worn)
    # Step 3: 8.1, "no zone in the data". Wall times are read in the zone of each assignment.
    readable = np.flatnonzero(wall & ~unset)
    if len(readable):
        future[readable] = _walls(out, readable, day[readable], device[readable], received_ns[readable], worn, columns)
    # Step 4: 8.1, "clock never set" and "future times". Such times are untrusted.
    _untrusted(out, unset | future, device, received_ns, worn)
    _timeless(out, clock == SourceClock.STORED, received_ns, Unplaced.NO_TIME)
    # Step 5: 8.3, step 5. Bounds that are known from before.
    if after_ns is not None:
        out.after_ns = after_ns
        bounded = after_ns != NO_TIME
        out.reason[bounded] = _CODE[Unplaced.CLOCK_RESET]
        _between(out, bounded, device, received_ns, worn)
    # Step 6: 8.3, step 4. Records are compared with the newest trusted record of their device. Odd ones are
    # bounded (8.3, step 5), and corrected where a shift is proved (8.3, step 3).
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
    """``rows`` that are out of line, of devices whose clock was reset before."""
    odd = np.zeros(len(columns), bool)
    if worn.clocks:
        for row in np.flatnonzero(rows & np.isin(device, list(worn.clocks))).tolist():
            number = int(device[row])
            head_ns = EVER // 2 if worn.head_seq[number] == NEVER else int(worn.head_time_ns[number])
            odd[row] = worn.clocks[number].is_odd(int(columns.seq[row]), int(columns.source_time_ns[row]), head_ns)
    return odd


def _between(out: Placed, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Assign rows measured between ``after_ns`` and arrival to the patient who wore the device over all that time.

    If the server's clock was set back, arrival lies before ``after_ns``: the time between the two counts.
    """
    index = np.flatnonzero(rows)
    early_ns = np.minimum(out.after_ns[index], received_ns[index])
    late_ns = np.maximum(out.after_ns[index], received_ns[index])
    patient = worn_over(early_ns, late_ns, device[index], worn)
    out.patient[index] = np.where(patient == UNASSIGNED, out.patient[index], patient)


def worn_over(early_ns: Int64, late_ns: Int64, device: Int64, worn: WearTable) -> npt.NDArray[np.int32]:
    """Who wore the device over all the time from ``early_ns`` to ``late_ns``, per row; ``UNASSIGNED`` for nobody."""
    patient = np.full(len(device), UNASSIGNED, np.int32)
    for column in range(worn.first_ns.shape[1]):
        held = (worn.parts[device] > column) & (worn.worn_from_ns[device, column] <= early_ns)
        held &= late_ns < worn.worn_to_ns[device, column]
        patient[held] = worn.patient[device[held], column]
    return patient


def _correct(out: Placed, columns: Columns, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Correct the time of odd rows whose shift is known, and assign them to the wearer at that time."""
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
    # Step 1: without a trusted row in this batch the table's heads stand.
    time_ns, seq = worn.head_time_ns[device], worn.head_seq[device]
    index = np.flatnonzero(trusted)
    if not len(index):
        return time_ns, seq
    # Step 2: rank the trusted rows by time and number, from 1; other rows have rank 0.
    order = index[np.lexsort((columns.seq[index], columns.source_time_ns[index]))]
    rank = np.zeros(len(device), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    # Step 3: the running maximum of the ranks within each device. Devices are segments of one array, each of which
    # begins above all ranks of the one before.
    by_device = np.argsort(device, kind="stable")
    segment = device[by_device] * (len(order) + 1)
    newest = np.maximum.accumulate(rank[by_device] + segment)
    before = np.concatenate(([0], newest[:-1])) - segment
    # Step 4: the maximum before a row, which lies below the segment if it comes from another device.
    rank[by_device] = np.maximum(before, 0)
    # Step 5: the newer of the table's head and the batch's.
    found = order[rank - 1]
    found_ns, found_seq = columns.source_time_ns[found], columns.seq[found]
    newer = (rank > 0) & ((seq == NEVER) | (found_ns > time_ns) | ((found_ns == time_ns) & (found_seq > seq)))
    return np.where(newer, found_ns, time_ns), np.where(newer, found_seq, seq)


def by_time(out: Placed, rows: Bools, device: Int64, worn: WearTable) -> None:
    """Assign rows to the patient who wore the device at ``time_ns``."""
    index = np.flatnonzero(rows)
    for column in range(worn.first_ns.shape[1]):
        index = index[worn.parts[device[index]] > column]
        time_ns, number = out.time_ns[index], device[index]
        held = (time_ns >= worn.first_ns[number, column]) & (time_ns < worn.end_ns[number, column])
        out.patient[index[held]] = worn.patient[number[held], column]


def _untrusted(out: Placed, rows: Bools, device: Int64, received_ns: Int64, worn: WearTable) -> None:
    """Assign rows measured at an unknown time before arrival to the only patient who wore the device until then."""
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
    """Leave rows of which only the order is known unassigned: a person decides whose they are."""
    out.time_ns[rows] = received_ns[rows]
    out.basis[rows] = Basis.UNKNOWN
    out.tz_min[rows] = 0
    out.flags[rows] |= np.uint32(Flag.CLOCK_SUSPECT)
    out.patient[rows] = UNASSIGNED
    out.reason[rows] = _CODE[why]


def _walls(
    out: Placed, index: Int64, day: Bools, device: Int64, received_ns: Int64, worn: WearTable, columns: Columns
) -> Bools:
    """Read the wall times of rows in the zone of each assignment, and assign the rows. Returns the future ones.

    ``day``, ``device`` and ``received_ns`` are those of the rows ``index``.
    """
    first_wall_ns = out.time_ns[index]
    last_wall_ns = np.where(day, first_wall_ns + DAY_NS - 1, first_wall_ns)
    # Step 1: compare with each assignment, then with the time that moves skipped.
    fit = walls.Fit(first_wall_ns, last_wall_ns, received_ns)
    fit.compare(np.arange(len(index)), device, worn)
    fit.bridge(np.flatnonzero(fit.patient == UNASSIGNED), device, worn)
    # Step 2: promise 4. A row that only one patient can have measured is assigned.
    sure = (fit.patient != UNASSIGNED) & fit.alone
    out.patient[index] = np.where(sure, fit.patient, UNASSIGNED)
    touched = fit.patient != UNASSIGNED
    out.reason[index] = np.where(touched, _CODE[Unplaced.TWO_WEARERS], _CODE[Unplaced.NO_WEARER])
    # Step 3: the reading taken, whoever it belongs to.
    best = fit.best
    _tell_passes(out, index, best, received_ns, columns, ~day)
    out.basis[index] = np.where(day, np.uint8(Basis.DAY), best.basis)
    soonest_ns = np.where(best.basis == Basis.UNKNOWN, best.early_ns, best.time_ns)
    out.stated_ns[index] = np.where(best.basis == Basis.UNKNOWN, best.early_ns, out.time_ns[index])
    return np.asarray(soonest_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)


def _tell_passes(
    out: Placed, index: Int64, best: walls.Reading, received_ns: Int64, columns: Columns, instant: Bools
) -> None:
    """Times of rows with wall time, in the repeated hour by the pass that they are of."""
    early_ns = np.where(instant & (best.basis == Basis.DEVICE_ASSUMED_ZONE), best.early_ns, best.late_ns)
    hour = repeated.passes(columns, index, early_ns, best.late_ns, best.time_ns, received_ns)
    first, second = hour == repeated.Pass.FIRST, hour == repeated.Pass.SECOND
    out.hour[index] = hour
    out.time_ns[index] = np.where(first, early_ns, np.where(second, best.late_ns, best.time_ns))
    # Wall time is the instant plus the offset: the offset falls by as much as the instant rises.
    moved_min = (best.time_ns - out.time_ns[index]) // MINUTE_NS
    out.tz_min[index] = (best.tz_min + moved_min).astype(np.int16)
