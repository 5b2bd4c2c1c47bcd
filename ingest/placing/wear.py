"""The wearers of each device over time, as arrays that attribution reads."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.placing.ahead import AheadClock
from ingest.placing.epochs import DeviceClock
from vitals.model import UNASSIGNED
from vitals.records import Assignment, Device

EVER: Final = -(2**63)
"""The bound of an assignment that has no beginning."""
NEVER: Final = 2**63 - 1
"""The bound of an assignment that has no end."""
NO_ZONE: Final = -1
Head = tuple[int, int]
"""Wall time (ns, read as UTC) and sequence number of a record."""


class WearTable:
    """Assignments of all devices as arrays: row = device, column = its n-th assignment by time.

    A patient's move splits an assignment into parts of different zones: ``first_ns`` and ``end_ns`` bound the part,
    ``worn_from_ns`` and ``worn_to_ns`` the whole stretch that the patient wore the device without a break.
    ``head_time_ns`` and ``head_seq`` hold the newest record of each device whose wall time was trusted.
    """

    def __init__(self, devices: Sequence[Device], assignments: Iterable[Assignment]) -> None:
        # Step 1: sort the assignments of each device by time.
        self.rows = {device.id: row for row, device in enumerate(devices)}
        self.patients: list[str] = []
        self.zones: list[str] = []
        worn: list[list[Assignment]] = [[] for _ in devices]
        for assignment in sorted(assignments, key=_starts):
            worn[self.rows[assignment.device]].append(assignment)
        # Step 2: allocate one row per device. The last row, never worn, serves devices that the registry does not know.
        shape = (len(devices) + 1, max([len(items) for items in worn], default=0) or 1)
        self.first_ns, self.worn_from_ns = (np.full(shape, NEVER, np.int64) for _ in range(2))
        self.end_ns, self.worn_to_ns = (np.full(shape, EVER, np.int64) for _ in range(2))
        self.zone = np.full(shape, NO_ZONE, np.int16)
        self.patient = np.full(shape, UNASSIGNED, np.int32)
        self.parts, self.wearers = (np.zeros(shape[0], np.int32) for _ in range(2))
        self.clocks: dict[int, DeviceClock] = {}
        """Clocks of the devices whose clock was ever reset, by row."""
        self.ahead: dict[str, AheadClock] = {}
        """Clocks of the devices whose clock is ahead, by token."""
        self.head_time_ns = np.zeros(shape[0], np.int64)
        self.head_seq = np.full(shape[0], NEVER, np.int64)
        # Step 3: fill the rows in.
        self._fill(worn, [device.zone for device in devices])

    def _fill(self, worn: list[list[Assignment]], device_zone: list[str | None]) -> None:
        patients: dict[str, int] = {}
        zones: dict[str, int] = {}
        for row, items in enumerate(worn):
            self.parts[row] = len(items)
            self.wearers[row] = len({item.patient for item in items})
            # Step 1: the part that each assignment covers, within the whole stretch of its patient.
            spans = _stretches(items)
            for column, item in enumerate(items):
                self.first_ns[row, column], self.end_ns[row, column] = _bounds(item)
                self.worn_from_ns[row, column], self.worn_to_ns[row, column] = spans[column]
                self.patient[row, column] = patients.setdefault(item.patient, len(patients))
            # Step 2: device-formats.md 8.1, "no zone in the data". The assignment's zone comes before the device's. A
            # device that nobody wears has its own zone, too.
            for column, zone in enumerate([item.zone or device_zone[row] for item in items] or [device_zone[row]]):
                if zone is not None:
                    self.zone[row, column] = zones.setdefault(zone, len(zones))
        self.patients, self.zones = list(patients), list(zones)

    def row(self, device: str) -> int:
        """The device's row; the row of never-worn devices if the registry does not know the device."""
        return self.rows.get(device, len(self.parts) - 1)

    def wearer(self, device: str, time_ns: int) -> str:
        """Who wore a device at a time; empty for nobody."""
        row = self.row(device)
        held = (self.first_ns[row] <= time_ns) & (time_ns < self.end_ns[row])
        column = np.flatnonzero(held & (np.arange(len(held)) < self.parts[row]))
        return self.patients[self.patient[row, column[0]]] if len(column) else ""

    def ahead_ns(self, devices: Sequence[str]) -> npt.NDArray[np.int64]:
        """How far the clock of each device is known to be ahead; 0 where that is not known."""
        known = (self.ahead.get(device) for device in devices)
        return np.array([0 if clock is None else clock.correction_ns for clock in known], np.int64)

    def clock_of(self, device: str) -> DeviceClock:
        """A copy of a device's clock; the caller may add to it."""
        known = self.clocks.get(self.row(device))
        return DeviceClock() if known is None else known.copy()

    def with_clocks(self, learned: Mapping[str, DeviceClock]) -> "WearTable":
        """The same table with other clocks of some devices; this one stays as it is."""
        other = copy.copy(self)
        other.clocks = {**self.clocks, **{self.row(device): clock for device, clock in learned.items()}}
        return other

    def learn(self, learned: Mapping[str, DeviceClock]) -> None:
        """Replace the clocks of these devices."""
        self.clocks.update({self.row(device): clock for device, clock in learned.items()})

    def trust(self, heads: Mapping[str, Head]) -> None:
        """Move the newest trusted record of devices forward."""
        for token, head in heads.items():
            row = self.rows.get(token)
            if row is not None and (self.head_seq[row] == NEVER or head > (self.head_time_ns[row], self.head_seq[row])):
                self.head_time_ns[row], self.head_seq[row] = head


def _starts(assignment: Assignment) -> int:
    return EVER if assignment.from_ns is None else assignment.from_ns


def _bounds(assignment: Assignment) -> tuple[int, int]:
    return _starts(assignment), NEVER if assignment.to_ns is None else assignment.to_ns


def _stretches(items: list[Assignment]) -> list[tuple[int, int]]:
    """The unbroken stretch, as (first, end), in which the patient of each assignment of a device wore it."""
    spans: list[tuple[int, int]] = []
    unbroken: list[int] = []
    for column, item in enumerate(items):
        # Step 1: an assignment continues the stretch of the same patient if it begins where that one ended.
        first, end = _bounds(item)
        if unbroken and items[column - 1].patient == item.patient and spans[-1][1] == first:
            first = spans[-1][0]
        else:
            unbroken = []
        # Step 2: all assignments of the stretch get its new end.
        unbroken.append(column)
        spans.append((first, end))
        for earlier in unbroken:
            spans[earlier] = (first, end)
    return spans
