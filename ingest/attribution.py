"""Device and time to patient, or *unassigned* (promise 4): who wore the device when it was measured.

A row's time is read in the zone of each assignment of its device and given to the one assignment that holds every
instant the row can mean. No such assignment, or two: the row waits as unassigned with a reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from ingest import clocks
from ingest.adapter import Columns, SourceClock
from vitals.glossary import Basis, Flag
from vitals.model import UNASSIGNED
from vitals.ports import Assignment, Device

_MIN, _MAX = -(2**63), 2**63 - 1
NO_ZONE = -1

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


class Unplaced(StrEnum):
    """Why readings wait as unassigned."""

    NO_WEARER = "no_wearer", "nobody wore the device at that time"
    TWO_WEARERS = "two_wearers", "the time is not sure enough to tell two wearers apart"
    CLOCK_RESET = "clock_reset", "the device's clock was reset: its sequence rose while its time fell"
    NO_TIME = "no_time", "a stored record without a usable time"

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> "Unplaced":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


REASONS: tuple[Unplaced, ...] = tuple(Unplaced)
_CODE = {reason: number for number, reason in enumerate(REASONS)}


class WearTable:
    """Assignments of all devices as arrays: row = device, column = its n-th assignment.

    ``head_time_ns`` and ``head_seq`` hold the newest record of each device whose wall time was trusted.
    """

    def __init__(self, devices: Sequence[Device], assignments: Iterable[Assignment]) -> None:
        self.rows = {device.id: row for row, device in enumerate(devices)}
        self.patients: list[str] = []
        self.zones: list[str] = []
        worn: list[list[Assignment]] = [[] for _ in devices]
        for assignment in assignments:
            worn[self.rows[assignment.device]].append(assignment)
        shape = (len(devices) + 1, max([len(items) for items in worn], default=0) or 1)
        # The last row serves devices that the registry does not know: never worn.
        self.first_ns = np.full(shape, _MAX, np.int64)
        self.end_ns = np.full(shape, _MIN, np.int64)
        self.zone = np.full(shape, NO_ZONE, np.int16)
        self.patient = np.full(shape, UNASSIGNED, np.int32)
        self.count = np.zeros(shape[0], np.int32)
        self.head_time_ns = np.zeros(shape[0], np.int64)
        self.head_seq = np.full(shape[0], _MAX, np.int64)
        self._fill(worn, {device.id: device.zone for device in devices})

    def _fill(self, worn: list[list[Assignment]], device_zone: dict[str, str | None]) -> None:
        patients: dict[str, int] = {}
        zones: dict[str, int] = {}
        for row, items in enumerate(worn):
            self.count[row] = len(items)
            for column, item in enumerate(items):
                self.first_ns[row, column] = _MIN if item.from_ns is None else item.from_ns
                self.end_ns[row, column] = _MAX if item.to_ns is None else item.to_ns
                self.patient[row, column] = patients.setdefault(item.patient, len(patients))
                zone = item.zone or device_zone[item.device]
                if zone is not None:
                    self.zone[row, column] = zones.setdefault(zone, len(zones))
        self.patients, self.zones = list(patients), list(zones)

    def row(self, device: str) -> int:
        """The device's row; that of never-worn devices when the registry does not know it."""
        return self.rows.get(device, len(self.count) - 1)


@dataclass(slots=True)
class Placed:
    """Columns per reading. ``patient`` indexes ``WearTable.patients``; where -1, ``reason`` indexes ``REASONS``."""

    time_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]
    flags: npt.NDArray[np.uint32]
    patient: npt.NDArray[np.int32]
    reason: npt.NDArray[np.uint8]


def place(
    columns: Columns, shown_ns: Int64, device: npt.NDArray[np.int64], received_ns: Int64, worn: WearTable
) -> Placed:
    """Time and wearer of readings.

    ``shown_ns`` is the time as the user saw it (base time + offset), ``device`` the row in ``worn``; all as long as
    ``columns``.
    """
    rows, clock = len(columns), columns.clock
    out = Placed(
        shown_ns.copy(), np.full(rows, Basis.DEVICE, np.uint8), columns.tz_min.copy(), np.zeros(rows, np.uint32),
        np.full(rows, UNASSIGNED, np.int32), np.full(rows, _CODE[Unplaced.NO_WEARER], np.uint8),
    )  # fmt: skip
    live = clock == SourceClock.NONE
    out.basis[live] = Basis.RECEIVED
    instant = clock == SourceClock.INSTANT
    future = instant & (out.time_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)
    _by_time(out, live | (instant & ~future), device, worn)
    wall = (clock == SourceClock.WALL) | (clock == SourceClock.DAY)
    reset = wall & clocks.is_reset(
        columns.source_time_ns, columns.seq, worn.head_time_ns[device], worn.head_seq[device]
    )
    if wall.any():
        future |= _walls(out, np.flatnonzero(wall & ~reset), device, received_ns, worn)
    _untrusted(out, future, device, received_ns, worn)
    out.basis[clock == SourceClock.DAY] = Basis.DAY
    _timeless(out, clock == SourceClock.STORED, received_ns, Unplaced.NO_TIME)
    _timeless(out, reset, received_ns, Unplaced.CLOCK_RESET)
    return out


def _by_time(out: Placed, rows: Bools, device: npt.NDArray[np.int64], worn: WearTable) -> None:
    """Give rows to whoever wore the device at ``time_ns``."""
    for column in range(worn.first_ns.shape[1]):
        held = (
            rows
            & (out.time_ns >= worn.first_ns[device, column])
            & (out.time_ns < worn.end_ns[device, column])
        )  # fmt: skip
        out.patient[held] = worn.patient[device[held], column]


def _untrusted(out: Placed, rows: Bools, device: npt.NDArray[np.int64], received_ns: Int64, worn: WearTable) -> None:
    """Rows measured at an unknown time before arrival: given to the only person who ever wore the device, if any."""
    if not rows.any():
        return
    out.time_ns[rows] = received_ns[rows]
    out.basis[rows] = Basis.UNKNOWN
    out.flags[rows] |= np.uint32(Flag.CLOCK_SUSPECT)
    out.patient[rows] = UNASSIGNED
    out.reason[rows] = np.where(worn.count[device[rows]] > 1, _CODE[Unplaced.TWO_WEARERS], _CODE[Unplaced.NO_WEARER])
    always = (worn.count[device] == 1) & (worn.first_ns[device, 0] == _MIN)
    _by_time(out, rows & always, device, worn)


def _timeless(out: Placed, rows: Bools, received_ns: Int64, why: Unplaced) -> None:
    """Rows of which only the order is known: a person decides whose they are."""
    out.time_ns[rows] = received_ns[rows]
    out.basis[rows] = Basis.UNKNOWN
    out.flags[rows] |= np.uint32(Flag.CLOCK_SUSPECT)
    out.reason[rows] = _CODE[why]


def _walls(
    out: Placed, index: npt.NDArray[np.int64], device: npt.NDArray[np.int64], received_ns: Int64, worn: WearTable
) -> Bools:
    """Rows with wall time: read in the zone of each assignment, kept where one holds. Returns the future ones."""
    wall_ns, arrived, dev = out.time_ns[index], received_ns[index], device[index]
    best = _read(wall_ns, arrived, worn.zone[dev, 0], worn)
    touched = np.zeros(len(index), np.int32)
    patient = np.full(len(index), UNASSIGNED, np.int32)
    for column in range(worn.first_ns.shape[1]):
        reading = _read(wall_ns, arrived, worn.zone[dev, column], worn)
        first, end = worn.first_ns[dev, column], worn.end_ns[dev, column]
        touched += (reading.late_ns >= first) & (reading.early_ns < end)
        within = (reading.early_ns >= first) & (reading.late_ns < end)
        patient[within] = worn.patient[dev[within], column]
        best = best.updated(within, reading)
    out.patient[index] = np.where(touched == 1, patient, UNASSIGNED)
    out.reason[index] = np.where(touched > 0, _CODE[Unplaced.TWO_WEARERS], _CODE[Unplaced.NO_WEARER])
    out.time_ns[index], out.basis[index], out.tz_min[index] = best.time_ns, best.basis, best.tz_min
    future = np.zeros(len(device), bool)
    future[index] = (best.time_ns > arrived + clocks.FUTURE_TOLERANCE_NS) & (best.basis != Basis.UNKNOWN)
    return future


@dataclass(frozen=True, slots=True)
class _Reading:
    """Wall times read in one zone per row: the interval they can mean, and the instant taken."""

    early_ns: Int64
    late_ns: Int64
    time_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]

    def updated(self, rows: Bools, other: "_Reading") -> "_Reading":
        names = ("early_ns", "late_ns", "time_ns", "basis", "tz_min")
        return _Reading(*(np.where(rows, getattr(other, name), getattr(self, name)) for name in names))


def _read(wall_ns: Int64, received_ns: Int64, zone: npt.NDArray[np.int16], worn: WearTable) -> _Reading:
    anywhere = clocks.anywhere(wall_ns)
    live = np.abs(received_ns - wall_ns) <= clocks.LIVE_TOLERANCE_NS
    early, late = np.where(live, wall_ns, anywhere.early_ns), np.where(live, wall_ns, anywhere.late_ns)
    basis = np.where(live, Basis.RECEIVED, Basis.UNKNOWN).astype(np.uint8)
    time_ns, tz_min = wall_ns.copy(), anywhere.tz_min.copy()
    for number in np.unique(zone[zone != NO_ZONE]):
        rows = zone == number
        instants = clocks.in_zone(wall_ns[rows], worn.zones[number])
        early[rows], late[rows], tz_min[rows] = instants.early_ns, instants.late_ns, instants.tz_min
        time_ns[rows] = clocks.nearest_past(instants, received_ns[rows])
        basis[rows] = Basis.DEVICE_ASSUMED_ZONE
    return _Reading(early, late, time_ns, basis, tz_min)
