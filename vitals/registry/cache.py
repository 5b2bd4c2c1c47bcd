"""The registry in memory: rows loaded up to a version, and answers derived from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from vitals.errors import NotFound
from vitals.records import Assignment, Device, Patient
from vitals.registry.tables import ASSIGNMENTS, COUNTER, DEVICES, GRANTS, PATIENTS, STATUSES, ZONES


class Interval(NamedTuple):
    """``value`` over ``from_ns <= time < to_ns`` (None = open)."""

    value: str
    from_ns: int | None
    to_ns: int | None


class Enrolled(NamedTuple):
    """A device and its credential."""

    device: Device
    salt: bytes
    digest: bytes


class Grant(NamedTuple):
    """A second, short-lived secret of a device."""

    salt: bytes
    digest: bytes
    expires_ns: int


class _Worn(NamedTuple):
    device: str
    patient: str
    from_ns: int | None
    to_ns: int | None
    zone: str | None


def declared(declarations: Iterable[tuple[str, int | None]]) -> list[Interval]:
    """Disjoint intervals of (value, from_ns) declarations in the order they were made.

    Each holds from its time on, whatever was declared for later before: ``[("a", None), ("b", 5), ("c", 3)]`` is a
    until 3, then c.
    """
    out: list[Interval] = []
    for value, start in declarations:
        while out and (start is None or (out[-1].from_ns is not None and out[-1].from_ns >= start)):
            out.pop()
        if out and out[-1].value == value:
            out[-1] = out[-1]._replace(to_ns=None)
            continue
        if out:
            out[-1] = out[-1]._replace(to_ns=start)
        out.append(Interval(value, start, None))
    return out


def in_force(intervals: Iterable[Interval], at_ns: int) -> str | None:
    """The value at ``at_ns``; the first value if all start later, None for an empty list."""
    first: str | None = None
    held: str | None = None
    for interval in intervals:
        first = interval.value if first is None else first
        if interval.from_ns is None or interval.from_ns <= at_ns:
            held = interval.value
    return first if held is None else held


def _start(from_ns: int | None) -> tuple[bool, int]:
    return (from_ns is not None, from_ns or 0)


def _later(one: int | None, other: int | None) -> int | None:
    return max((one, other), key=_start)


def _earlier(one: int | None, other: int | None) -> int | None:
    ends = [end for end in (one, other) if end is not None]
    return min(ends, default=None)


@dataclass(slots=True)
class Census:
    """Everything the registry knows, as of ``version``. Not thread-safe: its owner holds a lock."""

    version: int = -1
    devices: dict[str, Enrolled] = field(default_factory=dict)
    patients: dict[str, Patient] = field(default_factory=dict)
    grants: dict[str, list[Grant]] = field(default_factory=dict)
    _statuses: dict[str, dict[int, tuple[str, int | None]]] = field(default_factory=dict)
    _zones: dict[str, dict[int, tuple[str, int | None]]] = field(default_factory=dict)
    _worn: dict[int, _Worn] = field(default_factory=dict)
    _by_device: dict[str, set[int]] = field(default_factory=dict)
    _by_patient: dict[str, set[int]] = field(default_factory=dict)

    def refresh(self, connection: sa.Connection) -> None:
        """Load the rows that changed since ``version``, in one transaction."""
        version = connection.execute(sa.select(COUNTER.c.version)).scalar_one()
        for row in self._changed(connection, PATIENTS):
            self.patients[row.id] = Patient(row.id, condition=row.condition, created_ns=row.created_ns)
        for row in self._changed(connection, STATUSES):
            self._statuses.setdefault(row.patient, {})[row.number] = (row.status, row.from_ns)
        for row in self._changed(connection, ZONES):
            self._zones.setdefault(row.patient, {})[row.number] = (row.zone, row.from_ns)
        for row in self._changed(connection, DEVICES):
            device = Device(
                row.id, row.adapter, hub=row.hub, parent=row.parent, zone=row.zone, settings=row.settings,
                created_ns=row.created_ns, revoked_ns=row.revoked_ns,
            )  # fmt: skip
            before = self.devices.get(row.id)
            if before is not None and before.digest != row.digest:
                self.grants.pop(row.id, None)
            self.devices[row.id] = Enrolled(device, row.salt, row.digest)
        for row in self._changed(connection, GRANTS):
            self.grants.setdefault(row.device, []).append(Grant(row.salt, row.digest, row.expires_ns))
        for row in self._changed(connection, ASSIGNMENTS):
            self._worn[row.number] = _Worn(row.device, row.patient, row.from_ns, row.to_ns, row.zone)
            self._by_device.setdefault(row.device, set()).add(row.number)
            self._by_patient.setdefault(row.patient, set()).add(row.number)
        self.version = version

    def _changed(self, connection: sa.Connection, table: sa.Table) -> sa.CursorResult[Any]:
        return connection.execute(sa.select(table).where(table.c.changed > self.version).order_by(table.c.number))

    def device(self, device: str) -> Device:
        """Raises ``NotFound``."""
        enrolled = self.devices.get(device)
        if enrolled is None:
            raise NotFound("device", device)
        return enrolled.device

    def patient(self, patient: str, now_ns: int) -> Patient:
        """With the zone and the status of ``now_ns``; raises ``NotFound``."""
        known = self.patients.get(patient)
        if known is None:
            raise NotFound("patient", patient)
        status = in_force(self.statuses(patient), now_ns) or known.status
        return replace(known, zone=in_force(self.zones(patient), now_ns), status=status)

    def statuses(self, patient: str) -> list[Interval]:
        """Dated statuses by time."""
        return declared(self._statuses.get(patient, {}).values())

    def zones(self, patient: str) -> list[Interval]:
        """Dated time zones by time."""
        return declared(self._zones.get(patient, {}).values())

    def assignments_of(self, device: str | None, patient: str | None) -> list[Assignment]:
        """Assignments of a device, a patient, both or all, by time. One that spans a move of its patient comes in
        parts, each with the zone of its time."""
        numbers: Iterable[int] = self._worn
        if device is not None:
            numbers = self._by_device.get(device, ())
        elif patient is not None:
            numbers = self._by_patient.get(patient, ())
        # One that another replaced altogether is left empty.
        found = [
            worn for worn in (self._worn[n] for n in numbers) if worn.from_ns is None or worn.from_ns != worn.to_ns
        ]
        parts = [part for worn in found if patient in (None, worn.patient) for part in self._parts(worn)]
        return sorted(parts, key=lambda part: (_start(part.from_ns), part.device))

    def _parts(self, worn: _Worn) -> list[Assignment]:
        if worn.zone is None:
            zones = [zone for zone in self.zones(worn.patient) if _overlap(zone, worn)]
            if zones:
                return [
                    Assignment(
                        worn.device, worn.patient, _later(worn.from_ns, zone.from_ns),
                        _earlier(worn.to_ns, zone.to_ns), zone.value,
                    )
                    for zone in zones
                ]  # fmt: skip
        zone_name = worn.zone if worn.zone is not None else self.devices[worn.device].device.zone
        return [Assignment(worn.device, worn.patient, worn.from_ns, worn.to_ns, zone_name)]


def _overlap(zone: Interval, worn: _Worn) -> bool:
    starts = _later(zone.from_ns, worn.from_ns)
    ends = _earlier(zone.to_ns, worn.to_ns)
    return starts is None or ends is None or starts < ends
