"""Wall times read in the zone of each assignment of their device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ingest.placing import clocks
from ingest.placing.wear import NO_ZONE, WearTable
from vitals.glossary import Basis
from vitals.model import UNASSIGNED

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reading:
    """Wall times read in one zone per row: the interval they can mean, and the instant taken."""

    early_ns: Int64
    late_ns: Int64
    time_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]

    def put(self, rows: Int64, other: "Reading", which: Bools) -> None:
        """Replace ``rows[which]`` by ``other[which]``; ``other`` is as long as ``rows``."""
        for name in ("early_ns", "late_ns", "time_ns", "basis", "tz_min"):
            getattr(self, name)[rows[which]] = getattr(other, name)[which]


class Fit:
    """Wall times compared with the assignments of their device.

    ``patient`` is a patient whose assignment a row can lie in, ``UNASSIGNED`` where there is none. ``alone`` is True
    where the row can lie neither in another patient's assignment nor outside every assignment. ``best`` is the reading
    taken.
    """

    def __init__(self, first_wall_ns: Int64, last_wall_ns: Int64, received_ns: Int64) -> None:
        count = len(first_wall_ns)
        self._first_wall_ns, self._last_wall_ns, self._received_ns = first_wall_ns, last_wall_ns, received_ns
        self._rank = np.full(count, -1, np.int8)
        self.patient = np.full(count, UNASSIGNED, np.int32)
        self.alone = np.ones(count, bool)
        self.best = Reading(
            np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.uint8),
            np.zeros(count, np.int16),
        )  # fmt: skip

    def compare(self, rows: Int64, device: Int64, worn: WearTable) -> None:
        """Compare ``rows`` with each assignment of their device, one column of the table at a time."""
        column = 0
        while len(rows):
            # Step 1: device-formats.md 8.3, step 3. Read the wall time in the zone of the assignment.
            number = device[rows]
            reading = self._read(rows, worn.zone[number, column], worn)
            early, late = reading.early_ns, reading.late_ns
            # Step 2: the row touches the assignment if any of its instants lies in it, and is inside if all of them lie
            # in the unbroken stretch of the patient.
            touches = (late >= worn.first_ns[number, column]) & (early < worn.end_ns[number, column])
            inside = (early >= worn.worn_from_ns[number, column]) & (late < worn.worn_to_ns[number, column])
            # Step 3: keep the reading where it is the best one so far.
            self._offer(rows, reading, worn.patient[number, column], touches, inside)
            column += 1
            rows = rows[worn.parts[number] > column]

    def bridge(self, rows: Int64, device: Int64, worn: WearTable) -> None:
        """Look for ``rows`` between the parts of one stretch: a patient's move to another zone skips wall time.

        Such a time is read in the zone that the patient left.
        """
        for column in range(1, worn.first_ns.shape[1]):
            # Step 1: rows of devices whose patient moved between the column before and this one.
            rows = rows[worn.parts[device[rows]] > column]
            moved = worn.worn_from_ns[device[rows], column] < worn.first_ns[device[rows], column]
            at_move, number = rows[moved], device[rows[moved]]
            # Step 2: the move skipped the wall time if it lies after the move in the old zone and before it in the new.
            left = self._read(at_move, worn.zone[number, column - 1], worn)
            reached = self._read(at_move, worn.zone[number, column], worn)
            move_ns = worn.first_ns[number, column]
            skipped = (left.early_ns >= move_ns) & (reached.late_ns < move_ns)
            inside = (reached.early_ns >= worn.worn_from_ns[number, column]) & (
                left.late_ns < worn.worn_to_ns[number, column]
            )
            self._offer(at_move, left, worn.patient[number, column], skipped, inside)

    def _read(self, rows: Int64, zone: npt.NDArray[np.int16], worn: WearTable) -> Reading:
        return read(self._first_wall_ns[rows], self._last_wall_ns[rows], self._received_ns[rows], zone, worn)

    def _offer(
        self, rows: Int64, reading: Reading, patient: npt.NDArray[np.int32], touches: Bools, inside: Bools
    ) -> None:
        # Step 1: one patient alone remains if no other patient's assignment is touched, and none in part.
        known = self.patient[rows]
        self.alone[rows] &= ~touches | (inside & ((known == UNASSIGNED) | (known == patient)))
        self.patient[rows[touches]] = patient[touches]
        # Step 2: rank the readings of a row: a known zone first, then a time that is not ahead of arrival. Of two equal
        # ones (a move, a repeated hour) the later is taken.
        ahead = reading.time_ns > self._received_ns[rows] + clocks.FUTURE_TOLERANCE_NS
        rank = (touches * (1 + 2 * (reading.basis != Basis.UNKNOWN) + ~ahead)).astype(np.int8)
        later = reading.time_ns > self.best.time_ns[rows]
        better = (rank > self._rank[rows]) | ((rank == self._rank[rows]) & touches & later)
        self.best.put(rows, reading, better)
        self._rank[rows] = np.maximum(self._rank[rows], rank)


def read(
    first_wall_ns: Int64, last_wall_ns: Int64, received_ns: Int64, zone: npt.NDArray[np.int16], worn: WearTable
) -> Reading:
    """Wall times, each read in its zone or in none; ``last_wall_ns`` is the end of a day, else ``first_wall_ns``."""
    # Step 1: device-formats.md 8.3, step 3. A time that is near its arrival is live; else its zone can be any.
    live = (np.abs(received_ns - first_wall_ns) <= clocks.LIVE_TOLERANCE_NS) & (first_wall_ns == last_wall_ns)
    early = np.where(live, first_wall_ns, clocks.anywhere(first_wall_ns).early_ns)
    late = np.where(live, first_wall_ns, clocks.anywhere(last_wall_ns).late_ns)
    basis = np.where(live, Basis.RECEIVED, Basis.UNKNOWN).astype(np.uint8)
    # Step 2: without a zone the wall time is taken as UTC, but no later than the arrival.
    time_ns = np.where(live, first_wall_ns, np.minimum(first_wall_ns, received_ns))
    tz_min = np.zeros(len(zone), np.int16)
    # Step 3: with a zone, the nearest past of the instants that the wall time names, and all of a day.
    for number in np.unique(zone[zone != NO_ZONE]):
        rows = zone == number
        instants = clocks.in_zone(first_wall_ns[rows], worn.zones[number])
        time_ns[rows], tz_min[rows] = clocks.nearest_past(instants, received_ns[rows])
        early[rows], late[rows], basis[rows] = instants.early_ns, instants.late_ns, Basis.DEVICE_ASSUMED_ZONE
        days = rows & (first_wall_ns != last_wall_ns)
        if days.any():
            late[days] = clocks.in_zone(last_wall_ns[days], worn.zones[number]).late_ns
    return Reading(early, late, time_ns, basis, tz_min)
