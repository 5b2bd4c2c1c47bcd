"""Wall time to instants: DST, odd zones, year edges, and each row as the zone database has it."""

from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest

from ingest.placing import clocks
from tests.ingest.zone_reference import ns, row_by_row
from vitals.times import HOUR_NS, MINUTE_NS

ZONES = (
    "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Sydney", "Australia/Lord_Howe",
    "America/St_Johns", "Pacific/Auckland", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca", "Europe/Dublin",
    "America/Sao_Paulo", "Asia/Beirut", "Europe/London", "UTC",
)  # fmt: skip


def column(*times: str) -> npt.NDArray[np.int64]:
    return np.array([ns(text) for text in times], np.int64)


def one(wall: str, zone: str) -> tuple[int, int, int, int]:
    found = clocks.in_zone(column(wall), zone)
    return (
        int(found.early_ns[0]), int(found.late_ns[0]), int(found.early_tz_min[0]), int(found.late_tz_min[0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("zone", "wall", "early", "late", "early_min", "late_min"),
    [
        ("Europe/Berlin", "2024-10-27T02:30", "2024-10-27T00:30Z", "2024-10-27T01:30Z", 120, 60),
        ("America/New_York", "2024-11-03T01:15", "2024-11-03T05:15Z", "2024-11-03T06:15Z", -240, -300),
        ("Australia/Sydney", "2024-04-07T02:30", "2024-04-06T15:30Z", "2024-04-06T16:30Z", 660, 600),
        ("Australia/Lord_Howe", "2024-04-07T01:45", "2024-04-06T14:45Z", "2024-04-06T15:15Z", 660, 630),
        ("America/St_Johns", "2024-11-03T01:30", "2024-11-03T04:00Z", "2024-11-03T05:00Z", -150, -210),
    ],
)
def test_the_repeated_hour_is_both_instants(
    zone: str, wall: str, early: str, late: str, early_min: int, late_min: int
) -> None:
    assert one(wall, zone) == (ns(early), ns(late), early_min, late_min)


@pytest.mark.parametrize(
    ("zone", "wall", "instant", "minutes"),
    [
        ("Europe/Berlin", "2024-03-31T02:30", "2024-03-31T01:00Z", 120),
        ("America/New_York", "2024-03-10T02:30", "2024-03-10T07:00Z", -240),
        ("Australia/Sydney", "2024-10-06T02:15", "2024-10-05T16:00Z", 660),
        # Midnight itself may be skipped, and a whole day.
        ("Asia/Beirut", "2024-03-31T00:30", "2024-03-30T22:00Z", 180),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00Z", 840),
    ],
)
def test_skipped_times_move_forward_to_the_change(zone: str, wall: str, instant: str, minutes: int) -> None:
    assert one(wall, zone) == (ns(instant), ns(instant), minutes, minutes)


@pytest.mark.parametrize(
    ("zone", "wall", "instant", "minutes"),
    [
        ("Europe/Berlin", "2024-10-27T01:59:59", "2024-10-26T23:59:59Z", 120),
        ("Europe/Berlin", "2024-10-27T03:00", "2024-10-27T02:00Z", 60),
        ("Europe/Berlin", "2024-03-31T01:59:59", "2024-03-31T00:59:59Z", 60),
        ("Europe/Berlin", "2024-03-31T03:00", "2024-03-31T01:00Z", 120),
        ("Asia/Kolkata", "2024-06-01T05:00", "2024-05-31T23:30Z", 330),
        ("Asia/Kathmandu", "2024-06-01T05:45", "2024-06-01T00:00Z", 345),
        ("Australia/Sydney", "2024-01-15T12:00", "2024-01-15T01:00Z", 660),
        ("Australia/Sydney", "2024-07-15T12:00", "2024-07-15T02:00Z", 600),
        ("Pacific/Auckland", "2024-01-01T00:00", "2023-12-31T11:00Z", 780),
        ("America/New_York", "2023-12-31T23:59:59", "2024-01-01T04:59:59Z", -300),
        ("UTC", "2024-02-29T12:00", "2024-02-29T12:00Z", 0),
    ],
)
def test_ordinary_times(zone: str, wall: str, instant: str, minutes: int) -> None:
    assert one(wall, zone) == (ns(instant), ns(instant), minutes, minutes)


@pytest.mark.parametrize(
    ("received", "taken", "minutes"),
    [
        ("2024-10-27T00:30:05Z", "2024-10-27T00:30Z", 120),
        ("2024-10-27T01:30:05Z", "2024-10-27T01:30Z", 60),
        # The later one may be ahead of arrival by what clocks are allowed to be off.
        ("2024-10-27T01:25Z", "2024-10-27T01:30Z", 60),
        ("2024-10-27T01:24:59Z", "2024-10-27T00:30Z", 120),
        ("2024-10-29T12:00Z", "2024-10-27T01:30Z", 60),
    ],
)
def test_live_readings_in_the_repeated_hour(received: str, taken: str, minutes: int) -> None:
    instants = clocks.in_zone(column("2024-10-27T02:30"), "Europe/Berlin")
    time_ns, tz_min = clocks.nearest_past(instants, column(received))
    assert (time_ns[0], tz_min[0]) == (ns(taken), minutes)


def test_without_a_zone_every_offset_of_the_world_is_possible() -> None:
    wall = ns("2024-06-01T12:00")
    found = clocks.anywhere(np.array([wall], np.int64))
    assert found.early_ns[0] == ns("2024-05-31T22:00Z"), "UTC+14"
    assert found.late_ns[0] == ns("2024-06-02T00:00Z"), "UTC-12"
    for zone in ZONES:
        early, late, *_ = one("2024-06-01T12:00", zone)
        assert found.early_ns[0] <= early <= late <= found.late_ns[0]


@pytest.mark.parametrize("zone", ZONES)
def test_every_row_is_as_the_zone_database_has_it(zone: str) -> None:
    random = np.random.default_rng(sum(zone.encode()))
    anywhen = random.integers(ns("2010-01-01T00:00"), ns("2037-12-31T00:00"), 2_500) // MINUTE_NS * MINUTE_NS + 1
    # Half of them near the changes of a year, where random times would hardly ever fall.
    hours = np.arange(ns("2024-01-01T00:00"), ns("2025-01-01T00:00"), HOUR_NS)
    offsets = np.array([row_by_row(int(hour), ZoneInfo(zone))[2] for hour in hours[::24]])
    changes = hours[::24][1:][np.diff(offsets) != 0]
    spots = changes if len(changes) else hours[:1]
    near = random.choice(spots, 2_500) + random.integers(-30 * 60, 12 * 60, 2_500) * MINUTE_NS
    walls = np.concatenate([anywhen, near]).astype(np.int64)

    found = clocks.in_zone(walls, zone)

    columns = (found.early_ns, found.late_ns, found.early_tz_min, found.late_tz_min)
    info = ZoneInfo(zone)
    for row, got in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        assert got == row_by_row(int(walls[row]), info), (zone, str(walls[row].view("M8[ns]")))
    if len(changes):
        assert (found.early_ns != found.late_ns).sum() > 10, "no repeated hour was drawn"


def test_a_sequence_that_rises_while_time_falls_is_a_reset() -> None:
    def reset(time: str, seq: int, head_seq: int = 41) -> bool:
        head = np.array([ns("2024-06-10T12:00")]), np.array([head_seq])
        return bool(clocks.is_reset(column(time), np.array([seq]), *head)[0])

    assert reset("2000-01-01T00:00", 42)
    assert reset("2024-06-09T09:59:59", 42)
    assert not reset("2024-06-09T10:00", 42), "26 h: no zone or DST change is larger"
    assert not reset("2000-01-01T00:00", 41), "an old record that comes again"
    assert not reset("2024-06-10T12:01", 42)
    assert not reset("2000-01-01T00:00", 42, head_seq=2**63 - 1), "nothing is known of the device yet"
