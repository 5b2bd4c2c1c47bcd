"""``place`` against its rules in plain Python, one row at a time: any assignments, clocks and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from ingest.placing.wear import Head, WearTable
from tests.ingest.placing import HOUR, MINUTE, Result, Row, placed
from tests.ingest.zone_reference import ns, row_by_row
from vitals.glossary import Basis
from vitals.records import Assignment, Device

AHEAD, LIVE = 5 * MINUTE, 2 * MINUTE
BASES = {SourceClock.NONE: Basis.RECEIVED, SourceClock.HUB: Basis.HUB}
FLOOR = ns("2010-01-01T00:00")
START = ns("2024-10-26T00:00")
"""Before the autumn changes of Berlin and New York."""


@dataclass
class Reference:
    """The rules of the docstrings, read one by one."""

    devices: Sequence[Device]
    assignments: Sequence[Assignment]
    heads: dict[str, Head] = field(default_factory=dict)

    def worn(self, device: Device) -> list[Assignment]:
        mine = [one for one in self.assignments if one.device == device.id]
        return sorted(mine, key=lambda one: -(2**63) if one.from_ns is None else one.from_ns)

    def stretch(self, device: Device, part: Assignment) -> Assignment:
        """The unbroken time around ``part`` over which its patient wore the device."""
        grown = True
        while grown:
            grown = False
            for one in self.worn(device):
                if one.patient != part.patient:
                    continue
                if one.to_ns is not None and one.to_ns == part.from_ns:
                    part, grown = replace(part, from_ns=one.from_ns), True
                elif one.from_ns is not None and one.from_ns == part.to_ns:
                    part, grown = replace(part, to_ns=one.to_ns), True
        return part

    def place(self, row: Row) -> Result:
        device = self.devices[row.device]
        shown_ns = row.source_ns + row.offset_ns
        if row.clock is SourceClock.STORED:
            return self.waits(row, "no_time")
        if row.clock in {SourceClock.WALL, SourceClock.DAY}:
            head = self.heads.get(device.id)
            if head is not None and row.seq > head[1] and row.source_ns < head[0] - 26 * HOUR:
                return self.between(device, row, head[0] - 14 * HOUR)
            result = self.wall(device, row, shown_ns)
        elif row.clock in {SourceClock.INSTANT, SourceClock.HUB} and not FLOOR <= shown_ns <= row.received_ns + AHEAD:
            result = self.untrusted(device, row)
        else:
            basis = BASES.get(row.clock, Basis.DEVICE)
            wearers = [one.patient for one in self.worn(device) if holds(one, shown_ns, shown_ns)]
            result = Result(shown_ns, basis, 0, False, *given_to(wearers, "no_wearer"), trusted=False)
        if row.clock is SourceClock.WALL and row.seq > 0 and result.patient and result.basis is not Basis.UNKNOWN:
            self.heads[device.id] = max(self.heads.get(device.id, (0, 0)), (row.source_ns, row.seq))
            return replace(result, trusted=True)
        return result

    def between(self, device: Device, row: Row, after_ns: int) -> Result:
        waits = self.waits(row, "clock_reset")
        for one in self.worn(device):
            if holds(self.stretch(device, one), min(after_ns, row.received_ns), max(after_ns, row.received_ns)):
                return replace(waits, patient=one.patient, reason=None)
        return waits

    def waits(self, row: Row, why: str) -> Result:
        return Result(row.received_ns, Basis.UNKNOWN, 0, True, None, why, trusted=False)

    def untrusted(self, device: Device, row: Row) -> Result:
        worn = self.worn(device)
        several = len({one.patient for one in worn}) > 1
        waits = self.waits(row, "two_wearers" if several else "no_wearer")
        if worn and worn[0].from_ns is None and holds(self.stretch(device, worn[0]), row.received_ns, row.received_ns):
            return replace(waits, patient=worn[0].patient, reason=None)
        return waits

    def wall(self, device: Device, row: Row, shown_ns: int) -> Result:
        if shown_ns < FLOOR:
            return self.untrusted(device, row)
        worn = self.worn(device)
        whole = [self.stretch(device, one) for one in worn]
        zones = [one.zone or device.zone for one in worn] or [device.zone]
        read = [self.read(row, shown_ns, zone) for zone in zones]
        fits = {number: read[number][:2] for number, one in enumerate(worn) if touches(one, *read[number][:2])}
        if not fits:
            # Skipped by a move: after it in the zone that was left, before it in the one that was reached.
            fits = {
                number: (read[number + 1][0], read[number][1])
                for number, (one, other) in enumerate(pairwise(worn))
                if one.patient == other.patient and one.to_ns is not None and one.to_ns == other.from_ns
                and read[number][0] >= one.to_ns > read[number + 1][1]
            }  # fmt: skip
        known_first = [
            (basis is not Basis.UNKNOWN, time_ns <= row.received_ns + AHEAD, time_ns)
            for _, _, time_ns, basis, _ in read
        ]
        early_ns, _, time_ns, basis, tz_min = read[max(fits, key=lambda number: known_first[number], default=0)]
        if (early_ns if basis is Basis.UNKNOWN else time_ns) > row.received_ns + AHEAD:
            return self.untrusted(device, row)
        sure = all(holds(whole[number], *span) for number, span in fits.items())
        wearers = [worn[number].patient for number in fits]
        patient, reason = given_to(wearers if sure else [], "two_wearers" if fits else "no_wearer")
        taken = Basis.DAY if row.clock is SourceClock.DAY else basis
        return Result(time_ns, taken, tz_min, False, patient, reason, trusted=False)

    def read(self, row: Row, shown_ns: int, zone: str | None) -> tuple[int, int, int, Basis, int]:
        """Earliest and latest instant, the one taken, its basis and offset."""
        last_ns = shown_ns + 24 * HOUR - 1 if row.clock is SourceClock.DAY else shown_ns
        if zone is None:
            if abs(row.received_ns - shown_ns) <= LIVE and last_ns == shown_ns:
                return shown_ns, shown_ns, shown_ns, Basis.RECEIVED, 0
            return shown_ns - 14 * HOUR, last_ns + 12 * HOUR, min(shown_ns, row.received_ns), Basis.UNKNOWN, 0
        early, late, early_min, late_min = row_by_row(shown_ns, ZoneInfo(zone))
        taken = (early, early_min) if late > row.received_ns + AHEAD else (late, late_min)
        return early, row_by_row(last_ns, ZoneInfo(zone))[1], taken[0], Basis.DEVICE_ASSUMED_ZONE, taken[1]


def given_to(wearers: list[str], why_not: str) -> tuple[str | None, str | None]:
    one = set(wearers)
    return (one.pop(), None) if len(one) == 1 else (None, "two_wearers" if one else why_not)


def holds(worn: Assignment, early_ns: int, late_ns: int) -> bool:
    return (worn.from_ns is None or worn.from_ns <= early_ns) and (worn.to_ns is None or late_ns < worn.to_ns)


def touches(worn: Assignment, early_ns: int, late_ns: int) -> bool:
    return (worn.from_ns is None or worn.from_ns <= late_ns) and (worn.to_ns is None or early_ns < worn.to_ns)


ZONES = st.sampled_from([None, "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
DEVICES = st.lists(ZONES, min_size=2, max_size=2).map(
    lambda zones: [Device(f"d{number}", "json", zone=zone) for number, zone in enumerate(zones)]
)
HOURS = st.integers(0, 240)


@st.composite
def assignments(draw: st.DrawFn, device: str) -> list[Assignment]:
    """Any number of them, adjacent or with gaps, open or not, of the same or other patients and zones."""
    cuts = sorted(draw(st.sets(HOURS, max_size=5)))
    bounds: list[int | None] = [START + cut * HOUR for cut in cuts]
    bounds = [None, *bounds] if draw(st.booleans()) else bounds
    bounds = [*bounds, None] if draw(st.booleans()) else bounds
    found = []
    for first, end in pairwise(bounds):
        patient = draw(st.sampled_from([None, "p0", "p0", "p1"]))
        if patient is not None:
            found.append(Assignment(device, patient, first, end, draw(ZONES)))
    return found


@st.composite
def batch_rows(draw: st.DrawFn) -> Row:
    received_ns = START + draw(HOURS) * HOUR + draw(st.integers(0, 59)) * MINUTE
    age = draw(st.sampled_from([0, 1, 3, 29, 60, 60, 300, 360, 720, 1440, 4000, -4, -6, -60, -330, -780]))
    time_ns = received_ns - age * MINUTE
    strange = draw(st.sampled_from([None] * 12 + ["1969-06-01T00:00", "2000-01-01T00:00", "2099-01-01T00:00"]))
    time_ns = ns(strange) if strange else time_ns
    clock = draw(st.sampled_from([SourceClock.WALL] * 4 + list(SourceClock)))
    if clock is SourceClock.DAY:
        time_ns = time_ns // (24 * HOUR) * 24 * HOUR
    offset_ns = draw(st.sampled_from([0, 0, 0, 60, -345])) * MINUTE if clock is SourceClock.WALL else 0
    return Row(draw(st.integers(0, 1)), clock, time_ns, received_ns, draw(st.integers(0, 6)), offset_ns)


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(DEVICES, assignments("d0"), assignments("d1"), st.lists(batch_rows(), min_size=1, max_size=14), st.data())
def test_every_row_goes_where_the_rules_say(
    devices: list[Device], first: list[Assignment], second: list[Assignment], rows: list[Row], data: st.DataObject
) -> None:
    reference = Reference(devices, [*first, *second])
    expected = [reference.place(row) for row in rows]

    assert placed(rows, WearTable(devices, [*second, *first]), devices) == expected

    worn, cut = WearTable(devices, [*first, *second]), data.draw(st.integers(0, len(rows)), label="batch boundary")
    in_two = [result for part in (rows[:cut], rows[cut:]) if part for result in placed(part, worn, devices)]
    assert in_two == expected
