"""The patient's days on a calendar: the zone of a time, and the same time of day some days before."""

from datetime import UTC, datetime

import pytest

from tests.support import SECOND
from vitals.days import dates, days_before, wall_ns, zone_at
from vitals.records import DatedZone
from vitals.times import HOUR_NS, rfc3339


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def lives(zone: str) -> list[DatedZone]:
    return [DatedZone(zone, None, None)]


MOVE_NS = ns("2024-06-02T12:00:00Z")
MOVED = [DatedZone("Europe/Berlin", None, MOVE_NS), DatedZone("America/New_York", MOVE_NS, None)]


@pytest.mark.parametrize(
    ("zones", "end", "days", "start"),
    [
        ([], "2024-04-05T10:00:00Z", 14, "2024-03-22T10:00:00Z"),
        (lives("Europe/Berlin"), "2024-04-05T10:00:00Z", 14, "2024-03-22T11:00:00Z"),
        (lives("Europe/Berlin"), "2024-11-05T10:00:00Z", 14, "2024-10-22T09:00:00Z"),
        (lives("Europe/Berlin"), "2024-04-01T00:30:00Z", 1, "2024-03-31T01:30:00Z"),
        (lives("Europe/Berlin"), "2024-10-28T01:30:00Z", 1, "2024-10-27T00:30:00Z"),
        (lives("Pacific/Kiritimati"), "2024-04-05T10:00:00Z", 14, "2024-03-22T10:00:00Z"),
        (lives("Australia/Lord_Howe"), "2024-04-10T00:00:00Z", 7, "2024-04-02T23:30:00Z"),
        (MOVED, "2024-06-10T16:00:00Z", 14, "2024-05-27T10:00:00Z"),
    ],
    ids=["UTC", "23 hours", "25 hours", "skipped", "shown twice", "14 h ahead", "half an hour", "moved"],
)
def test_the_same_time_of_day_some_days_before(zones: list[DatedZone], end: str, days: int, start: str) -> None:
    assert rfc3339(days_before(zones, ns(end), days)) == start


def test_the_zone_of_a_time() -> None:
    assert [zone_at(MOVED, MOVE_NS - 1), zone_at(MOVED, MOVE_NS)] == ["Europe/Berlin", "America/New_York"]
    assert zone_at([], 0) == "UTC"
    assert zone_at([DatedZone("Asia/Tokyo", MOVE_NS, None)], MOVE_NS - 1) == "UTC"


def test_the_date_and_the_clock_where_the_patient_lives() -> None:
    times = [ns("2024-01-15T09:59:59Z"), ns("2024-01-15T10:00:00Z")]
    assert dates(lives("Pacific/Kiritimati"), times) == ["2024-01-15", "2024-01-16"]
    assert dates(lives("Pacific/Pago_Pago"), times) == ["2024-01-14", "2024-01-14"]
    assert wall_ns(lives("Asia/Kathmandu"), times[0]) - times[0] == 5.75 * HOUR_NS
    assert datetime.fromtimestamp(wall_ns(MOVED, MOVE_NS) // SECOND, UTC).hour == 8
