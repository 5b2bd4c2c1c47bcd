"""Device and time to patient, or *unassigned* (promise 4): who wore the device when it was measured.

A row's time is read in the zone of each assignment of its device, and the row is given to the one person who wore the
device at every instant that it can mean. No such person, or two: the row waits as unassigned with a reason.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.placing import clocks
from ingest.placing.epochs import DeviceClock
from vitals.glossary import Basis, Described, Flag
from vitals.model import NO_TIME, UNASSIGNED
from vitals.records import Assignment, Device
from vitals.times import DAY_NS

_MIN, _MAX = -(2**63), 2**63 - 1
NO_ZONE = -1
AFTER_KEY = "after_ns"
"""Context key of a reading of unknown time: it was measured after this instant, and before it arrived."""

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Head = tuple[int, int]
"""Wall time (ns, read as UTC) and sequence number of a record."""


class Unplaced(Described):
    """Why readings wait as unassigned."""

    NO_WEARER = "no_wearer", "nobody wore the device at that time"
    TWO_WEARERS = "two_wearers", "the time is not sure enough to tell two wearers apart"
    CLOCK_RESET = "clock_reset", "the device's clock was reset: its sequence rose while its time fell"
    NO_TIME = "no_time", "a stored record without a usable time"


REASONS: tuple[Unplaced, ...] = tuple(Unplaced)
_CODE = {reason: number for number, reason in enumerate(REASONS)}


class WearTable:
    """Assignments of all devices as arrays: row = device, column = its n-th assignment by time.

    A patient's move splits an assignment into parts of different zones: ``first_ns`` and ``end_ns`` bound the part,
    ``worn_from_ns`` and ``worn_to_ns`` the whole stretch that the patient wore the device without a break.
    ``head_time_ns`` and ``head_seq`` hold the newest record of each device whose wall time was trusted.
    """

    def __init__(self, devices: Sequence[Device], assignments: Iterable[Assignment]) -> None:
        self.rows = {device.id: row for row, device in enumerate(devices)}
        self.patients: list[str] = []
        self.zones: list[str] = []
        worn: list[list[Assignment]] = [[] for _ in devices]
        for assignment in sorted(assignments, key=_starts):
            worn[self.rows[assignment.device]].append(assignment)
        # The last row serves devices that the registry does not know: never worn.
        shape = (len(devices) + 1, max([len(items) for items in worn], default=0) or 1)
        self.first_ns, self.worn_from_ns = (np.full(shape, _MAX, np.int64) for _ in range(2))
        self.end_ns, self.worn_to_ns = (np.full(shape, _MIN, np.int64) for _ in range(2))
        self.zone = np.full(shape, NO_ZONE, np.int16)
        self.patient = np.full(shape, UNASSIGNED, np.int32)
        self.parts, self.wearers = (np.zeros(shape[0], np.int32) for _ in range(2))
        self.clocks: dict[int, DeviceClock] = {}
        """Of the devices whose clock was ever reset, by row."""
        self.head_time_ns = np.zeros(shape[0], np.int64)
        self.head_seq = np.full(shape[0], _MAX, np.int64)
        self._fill(worn, [device.zone for device in devices])

    def _fill(self, worn: list[list[Assignment]], device_zone: list[str | None]) -> None:
        patients: dict[str, int] = {}
        zones: dict[str, int] = {}
        for row, items in enumerate(worn):
            self.parts[row] = len(items)
            self.wearers[row] = len({item.patient for item in items})
            spans = _stretches(items)
            for column, item in enumerate(items):
                self.first_ns[row, column], self.end_ns[row, column] = _bounds(item)
                self.worn_from_ns[row, column], self.worn_to_ns[row, column] = spans[column]
                self.patient[row, column] = patients.setdefault(item.patient, len(patients))
            for column, zone in enumerate([item.zone or device_zone[row] for item in items] or [device_zone[row]]):
                if zone is not None:
                    self.zone[row, column] = zones.setdefault(zone, len(zones))
        self.patients, self.zones = list(patients), list(zones)

    def row(self, device: str) -> int:
        """The device's row; that of never-worn devices when the registry does not know it."""
        return self.rows.get(device, len(self.parts) - 1)

    def clock_of(self, device: str) -> DeviceClock:
        """A copy of what is known of a device's clock, to be learned about."""
        known = self.clocks.get(self.row(device))
        return DeviceClock() if known is None else known.copy()

    def with_clocks(self, learned: Mapping[str, DeviceClock]) -> "WearTable":
        """The same table with other clocks of some devices; this one stays as it is."""
        other = copy.copy(self)
        other.clocks = {**self.clocks, **{self.row(device): clock for device, clock in learned.items()}}
        return other

    def learn(self, learned: Mapping[str, DeviceClock]) -> None:
        """Take over clocks that became known better."""
        self.clocks.update({self.row(device): clock for device, clock in learned.items()})

    def trust(self, heads: Mapping[str, Head]) -> None:
        """Move the newest trusted record of devices forward."""
        for token, head in heads.items():
            row = self.rows.get(token)
            if row is not None and (self.head_seq[row] == _MAX or head > (self.head_time_ns[row], self.head_seq[row])):
                self.head_time_ns[row], self.head_seq[row] = head


def _starts(assignment: Assignment) -> int:
    return _MIN if assignment.from_ns is None else assignment.from_ns


def _bounds(assignment: Assignment) -> tuple[int, int]:
    return _starts(assignment), _MAX if assignment.to_ns is None else assignment.to_ns


def _stretches(items: list[Assignment]) -> list[tuple[int, int]]:
    """For each assignment of a device, by time: from when to when its patient wore the device without a break."""
    spans: list[tuple[int, int]] = []
    unbroken: list[int] = []
    for column, item in enumerate(items):
        first, end = _bounds(item)
        if unbroken and items[column - 1].patient == item.patient and spans[-1][1] == first:
            first = spans[-1][0]
        else:
            unbroken = []
        unbroken.append(column)
        spans.append((first, end))
        for earlier in unbroken:
            spans[earlier] = (first, end)
    return spans


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
    instant = (clock == SourceClock.INSTANT) | hub
    day = clock == SourceClock.DAY
    wall = (clock == SourceClock.WALL) | day
    unset = (instant | wall) & (shown_ns < clocks.PLAUSIBLE_FROM_NS)
    out.basis[live], out.basis[hub] = Basis.RECEIVED, Basis.HUB
    future = instant & (shown_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)
    _by_time(out, live | (instant & ~unset & ~future), device, worn)
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
        far = shown_ns > received_ns + clocks.RESET_LEAP_NS
        out.odd = numbered & (reset | unset | (future & far))
        out.trusted &= ~reset
        _correct(out, columns, device, received_ns, worn)
    return out


def _known_odd(columns: Columns, device: Int64, rows: Bools, worn: WearTable) -> Bools:
    """``rows`` of devices whose clock was reset before that are out of line with what is known since."""
    odd = np.zeros(len(columns), bool)
    if worn.clocks:
        for row in np.flatnonzero(rows & np.isin(device, list(worn.clocks))).tolist():
            number = int(device[row])
            head_ns = _MIN // 2 if worn.head_seq[number] == _MAX else int(worn.head_time_ns[number])
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
    _by_time(out, known, device, worn)


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
    newer = (rank > 0) & ((seq == _MAX) | (found_ns > time_ns) | ((found_ns == time_ns) & (found_seq > seq)))
    return np.where(newer, found_ns, time_ns), np.where(newer, found_seq, seq)


def _by_time(out: Placed, rows: Bools, device: Int64, worn: WearTable) -> None:
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
    always = (worn.worn_from_ns[device, 0] == _MIN) & (received_ns < worn.worn_to_ns[device, 0])
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
    fit = _Fit(first_wall_ns, last_wall_ns, received_ns)
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


@dataclass(frozen=True, slots=True)
class _Reading:
    """Wall times read in one zone per row: the interval they can mean, and the instant taken."""

    early_ns: Int64
    late_ns: Int64
    time_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]

    def put(self, rows: Int64, other: "_Reading", which: Bools) -> None:
        """Replace ``rows[which]`` by what ``other``, as long as ``rows``, says of them."""
        for name in ("early_ns", "late_ns", "time_ns", "basis", "tz_min"):
            getattr(self, name)[rows[which]] = getattr(other, name)[which]


class _Fit:
    """What the assignments say of wall times: ``patient`` is one whose assignment a row can lie in, ``alone`` that it
    can lie in nobody else's and not outside either, ``best`` the reading taken."""

    def __init__(self, first_wall_ns: Int64, last_wall_ns: Int64, received_ns: Int64) -> None:
        count = len(first_wall_ns)
        self._first_wall_ns, self._last_wall_ns, self._received_ns = first_wall_ns, last_wall_ns, received_ns
        self._rank = np.full(count, -1, np.int8)
        self.patient = np.full(count, UNASSIGNED, np.int32)
        self.alone = np.ones(count, bool)
        self.best = _Reading(
            np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.uint8),
            np.zeros(count, np.int16),
        )  # fmt: skip

    def compare(self, rows: Int64, device: Int64, worn: WearTable) -> None:
        """Look for ``rows`` in each assignment of their device."""
        column = 0
        while len(rows):
            number = device[rows]
            reading = self._read(rows, worn.zone[number, column], worn)
            early, late = reading.early_ns, reading.late_ns
            touches = (late >= worn.first_ns[number, column]) & (early < worn.end_ns[number, column])
            inside = (early >= worn.worn_from_ns[number, column]) & (late < worn.worn_to_ns[number, column])
            self._offer(rows, reading, worn.patient[number, column], touches, inside)
            column += 1
            rows = rows[worn.parts[number] > column]

    def bridge(self, rows: Int64, device: Int64, worn: WearTable) -> None:
        """Look for ``rows`` between the parts of one stretch: wall time that a patient's move skipped, read in the zone
        that was left."""
        for column in range(1, worn.first_ns.shape[1]):
            rows = rows[worn.parts[device[rows]] > column]
            moved = worn.worn_from_ns[device[rows], column] < worn.first_ns[device[rows], column]
            at_move, number = rows[moved], device[rows[moved]]
            left = self._read(at_move, worn.zone[number, column - 1], worn)
            reached = self._read(at_move, worn.zone[number, column], worn)
            move_ns = worn.first_ns[number, column]
            skipped = (left.early_ns >= move_ns) & (reached.late_ns < move_ns)
            inside = (reached.early_ns >= worn.worn_from_ns[number, column]) & (
                left.late_ns < worn.worn_to_ns[number, column]
            )
            self._offer(at_move, left, worn.patient[number, column], skipped, inside)

    def _read(self, rows: Int64, zone: npt.NDArray[np.int16], worn: WearTable) -> _Reading:
        return _read(self._first_wall_ns[rows], self._last_wall_ns[rows], self._received_ns[rows], zone, worn)

    def _offer(
        self, rows: Int64, reading: _Reading, patient: npt.NDArray[np.int32], touches: Bools, inside: Bools
    ) -> None:
        known = self.patient[rows]
        self.alone[rows] &= ~touches | (inside & ((known == UNASSIGNED) | (known == patient)))
        self.patient[rows[touches]] = patient[touches]
        # Of several readings for one patient (a move), as of two in a repeated hour: the later that is not ahead.
        ahead = reading.time_ns > self._received_ns[rows] + clocks.FUTURE_TOLERANCE_NS
        rank = (touches * (1 + 2 * (reading.basis != Basis.UNKNOWN) + ~ahead)).astype(np.int8)
        later = reading.time_ns > self.best.time_ns[rows]
        better = (rank > self._rank[rows]) | ((rank == self._rank[rows]) & touches & later)
        self.best.put(rows, reading, better)
        self._rank[rows] = np.maximum(self._rank[rows], rank)


def _read(
    first_wall_ns: Int64, last_wall_ns: Int64, received_ns: Int64, zone: npt.NDArray[np.int16], worn: WearTable
) -> _Reading:
    """Wall times from ``first_wall_ns`` to ``last_wall_ns`` (the same but for days), each in its zone or in none."""
    live = (np.abs(received_ns - first_wall_ns) <= clocks.LIVE_TOLERANCE_NS) & (first_wall_ns == last_wall_ns)
    early = np.where(live, first_wall_ns, clocks.anywhere(first_wall_ns).early_ns)
    late = np.where(live, first_wall_ns, clocks.anywhere(last_wall_ns).late_ns)
    basis = np.where(live, Basis.RECEIVED, Basis.UNKNOWN).astype(np.uint8)
    # Without a zone the wall time stands for itself, but nothing was measured after it arrived.
    time_ns = np.where(live, first_wall_ns, np.minimum(first_wall_ns, received_ns))
    tz_min = np.zeros(len(zone), np.int16)
    for number in np.unique(zone[zone != NO_ZONE]):
        rows = zone == number
        instants = clocks.in_zone(first_wall_ns[rows], worn.zones[number])
        time_ns[rows], tz_min[rows] = clocks.nearest_past(instants, received_ns[rows])
        early[rows], late[rows], basis[rows] = instants.early_ns, instants.late_ns, Basis.DEVICE_ASSUMED_ZONE
        days = rows & (first_wall_ns != last_wall_ns)
        if days.any():
            late[days] = clocks.in_zone(last_wall_ns[days], worn.zones[number]).late_ns
    return _Reading(early, late, time_ns, basis, tz_min)
