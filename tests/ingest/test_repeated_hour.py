"""The hour that the end of summer time repeats: two passes, both stored, each at its own time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.ingest_world import World, reading
from tests.support import SECOND
from vitals.glossary import Flag

CLARITY = Path(__file__).parents[1] / "adapters" / "cases" / "clarity" / "repeated_hour" / "input.csv"
ZONE = "America/New_York"
"""Its clocks go back from 02:00 to 01:00 at 06:00 UTC."""
EXPECTED = [
    (100, "04:57:11"), (54, "05:02:11"), (90, "05:57:11"), (98, "06:02:11"), (60, "06:57:11"), (70, "07:02:11"),
]  # fmt: skip


def until(world: World, time: str, day: str = "2026-11-01") -> None:
    """Let it be a time of the day, UTC."""
    then = datetime.fromisoformat(f"{day}T{time}+00:00")
    world.clock.advance((then - datetime.fromtimestamp(world.clock.now_ns() / SECOND, UTC)) / timedelta(seconds=1))


def placed(world: World, name: str = "d") -> list[tuple[float, str]]:
    """Values and times (UTC) of a device's readings, in the order of the log."""
    return [
        (row["value"], f"{datetime.fromtimestamp(row['time_ns'] // SECOND, UTC):%H:%M:%S}")
        for row in world.rows()
        if row["device"] == name
    ]


def hours(world: World) -> list[str | None]:
    return [row["context"].get("repeated_hour") for row in world.rows()]


def take(world: World, adapter: str, kind: str, *payloads: bytes) -> None:
    for payload in payloads:
        world.send(world.message("d", payload, adapter, kind))
        world.drain()


def counts(world: World) -> tuple[int, int, int]:
    ledger = world.service.ledger("d").readings
    return ledger.stored, ledger.duplicate, ledger.revision


def test_an_export(world: World) -> None:
    """The case clarity-repeated-hour."""
    world.worn("d", "clarity", zone=ZONE)
    until(world, "12:00:00", "2026-11-30")
    take(world, "clarity", "export", CLARITY.read_bytes())
    assert placed(world) == EXPECTED
    assert hours(world) == [None, "first", "first", "second", "second", None]
    assert [row["tz_min"] for row in world.rows()] == [-240, -240, -240, -300, -300, -300]
    take(world, "clarity", "export", CLARITY.read_bytes())
    assert counts(world) == (6, 6, 0)


def test_an_export_newest_first(world: World) -> None:
    world.worn("d", "clarity", zone=ZONE)
    until(world, "12:00:00", "2026-11-30")
    header, *rows = CLARITY.read_text().splitlines()
    take(world, "clarity", "export", "\n".join([header, *reversed(rows)]).encode())
    assert placed(world) == EXPECTED[::-1]


@pytest.mark.parametrize("cut", range(1, 6))
def test_an_export_in_two_parts_merges_nothing(world: World, cut: int) -> None:
    world.worn("d", "clarity", zone=ZONE)
    until(world, "12:00:00", "2026-11-30")
    header, *rows = CLARITY.read_text().splitlines()
    parts = [rows[:cut], rows[cut:]]
    take(world, "clarity", "export", *("\n".join([header, *part]).encode() for part in parts))
    assert counts(world) == (6, 0, 0)
    for (value, time), right, hour in zip(placed(world), EXPECTED, hours(world), strict=True):
        assert value == right[0]
        assert time == right[1] or hour == "unsure", "nothing lands an hour late unmarked"


@pytest.mark.parametrize("cut", [0, *range(1, 6)])
def test_an_export_under_a_zone_that_repeats_no_hour_merges_nothing(world: World, cut: int) -> None:
    """The zone of the device is wrong: both values of a time are stored; where one payload has both, it is marked."""
    world.worn("d", "clarity", zone="Asia/Tokyo")
    until(world, "12:00:00", "2026-11-30")
    header, *rows = CLARITY.read_text().splitlines()
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    for _ in range(2):
        take(world, "clarity", "export", *("\n".join([header, *part]).encode() for part in parts))
    assert counts(world) == (6, 6, 0)
    assert [row["value"] for row in world.rows()] == [value for value, _ in EXPECTED]
    twice = [row for row in world.rows() if "repeated_hour" in row["context"]]
    assert {row["context"]["repeated_hour"] for row in twice} <= {"unsure"}
    assert len(twice) == (2 if cut in {0, 1, 5} else 1 if cut in {2, 4} else 0)


def test_a_day_of_minutes(world: World) -> None:
    world.worn("d", "fitbit", zone=ZONE)
    until(world, "12:00:00", "2026-11-02")
    walls = ("00:59:00", "01:00:00", "01:59:00", "01:00:00", "01:59:00", "02:00:00")
    dataset = [{"time": wall, "value": 60 + n} for n, wall in enumerate(walls)]
    page: dict[str, Any] = {
        "activities-heart": [{"dateTime": "2026-11-01"}],
        "activities-heart-intraday": {"dataset": dataset, "datasetInterval": 1, "datasetType": "minute"},
    }
    take(world, "fitbit", "heart", json.dumps(page).encode())
    times = ["04:59:00", "05:00:00", "05:59:00", "06:00:00", "06:59:00", "07:00:00"]
    assert placed(world) == [(60.0 + n, time) for n, time in enumerate(times)]
    take(world, "fitbit", "heart", json.dumps(page).encode())
    assert counts(world) == (6, 6, 0)


def wall(*times: tuple[str, float]) -> bytes:
    return json.dumps([reading("spo2", value, "%", f"2026-11-01T{time}") for time, value in times]).encode()


def test_a_list_of_readings_under_a_zone_that_repeats_no_hour_merges_nothing(world: World) -> None:
    world.worn("d", zone="Asia/Tokyo")
    until(world, "12:00:00", "2026-11-02")
    payload = wall(("01:10:00", 97), ("01:50:00", 96), ("01:10:00", 98), ("01:50:00", 90))
    take(world, "json", "", payload, payload)
    assert [row["value"] for row in world.rows()] == [97, 96, 98, 90]
    assert hours(world) == [None, None, "unsure", "unsure"]
    assert counts(world) == (4, 4, 0)


def test_a_list_of_readings_in_wall_time(world: World) -> None:
    world.worn("d", zone=ZONE)
    until(world, "12:00:00")
    take(world, "json", "", wall(("01:10:00", 97), ("01:50:00", 96), ("01:10:00", 97), ("01:50:00", 90)))
    assert placed(world) == [(97, "05:10:00"), (96, "05:50:00"), (97, "06:10:00"), (90, "06:50:00")]


def test_readings_as_they_are_measured(world: World) -> None:
    """One message each: the first pass arrives before the second can be meant, the second as it is shown."""
    world.worn("d", zone=ZONE)
    for arrives, value in (("05:10:01", 97), ("06:10:01", 97)):
        until(world, arrives)
        take(world, "json", "", wall(("01:10:00", value)))
    assert placed(world) == [(97, "05:10:00"), (97, "06:10:00")]
    assert hours(world) == ["first", "second"]
    assert not any(row["flags"] & Flag.LATE for row in world.rows())


def test_a_single_reading_that_comes_later_is_marked(world: World) -> None:
    world.worn("d", zone=ZONE)
    until(world, "08:00:00")
    take(world, "json", "", wall(("01:10:00", 97)))
    assert hours(world) == ["unsure"]


def test_a_corrected_assignment_keeps_the_hour(world: World) -> None:
    patient = world.worn("d", "clarity", zone=ZONE)
    until(world, "12:00:00", "2026-11-30")
    take(world, "clarity", "export", CLARITY.read_bytes())
    other = world.registry.add_patient(zone=ZONE).id
    (assignment,) = world.registry.assignments(device="d")
    assert assignment.patient == patient
    world.registry.assign("d", other, from_ns=None, to_ns=None, replace=True)
    world.service.settle("nurse")
    world.drain()
    moved = [
        (row["value"], f"{datetime.fromtimestamp(row['time_ns'] // SECOND, UTC):%H:%M:%S}")
        for row in world.rows()
        if row["patient"] == other
    ]
    assert sorted(moved) == sorted(EXPECTED)
