"""Rules over days and hours go by the clock where the patient lives, whatever zone a device's instants are sent in."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from alerts.engine import Engine
from ingest.placing.local import minutes_east
from tests.alerts.programme_world import document, enrolled, programme
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND, FakeClock
from vitals.encoding import decode, encode
from vitals.model import VitalBatch

GAIN = "heart_failure:H2"
"""Weight up by 1.36 kg in a day."""


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


class Scale:
    """A patient in the heart failure programme, with a scale that tells UTC."""

    def __init__(self, path: Path, zone: str, now: str) -> None:
        self.world, self.engine = World(path, clock=FakeClock(ns(now))), Engine()
        self.patient = self.world.worn("scale", zone=zone)
        for control in (programme("ward", [document("heart_failure")], 0), *enrolled(self.patient, ["ward"], 0)):
            self.world.log.append([("vitals", encode(control))])

    def weigh(self, at: str, kilograms: float) -> list[str]:
        """Rules of the alerts that a weight of now raises."""
        self.world.clock.time_ns = ns(at)
        self.world.send(self.world.message("scale", json.dumps(reading("weight", kilograms, "kg", at)).encode()))
        while self.world.service.step():
            pass
        events = [
            event
            for row in self.world.log.read(self.engine.position, limit=10_000)
            for event in self.engine.apply(row.position, decode(row.body)).events
        ]
        return [event.rule for event in events if event.kind == "raised"]

    def offsets(self) -> list[int]:
        batches = [entry for entry in self.world.entries() if isinstance(entry, VitalBatch)]
        return [int(minutes) for batch in batches for minutes in batch.tz_min]


MakeScale = Callable[[str, str], Scale]


@pytest.fixture
def scale(tmp_path: Path) -> Iterator[MakeScale]:
    made: list[Scale] = []

    def make(zone: str, now: str) -> Scale:
        made.append(Scale(tmp_path, zone, now))
        return made[0]

    yield make
    made[0].world.close()


@pytest.mark.parametrize(
    ("zone", "first", "second", "apart", "offsets"),
    [
        ("Pacific/Kiritimati", "2024-01-15T09:00:00Z", "2024-01-15T11:00:00Z", True, [840, 840]),
        ("Pacific/Kiritimati", "2024-01-15T11:00:00Z", "2024-01-16T01:00:00Z", False, [840, 840]),
        ("Pacific/Pago_Pago", "2024-01-15T10:00:00Z", "2024-01-15T12:00:00Z", True, [-660, -660]),
        ("Europe/Berlin", "2024-03-30T22:30:00Z", "2024-03-30T23:30:00Z", True, [60, 60]),
        ("Europe/Berlin", "2024-03-31T21:30:00Z", "2024-03-31T22:30:00Z", True, [120, 120]),
        ("Europe/Berlin", "2024-10-26T22:30:00Z", "2024-10-27T22:30:00Z", False, [120, 60]),
    ],
    ids=[
        "14 h ahead: next day",
        "14 h ahead: same day",
        "11 h behind",
        "before 23 hours",
        "after 23 hours",
        "25 hours",
    ],
)
def test_a_gain_within_a_day_of_the_patient(
    scale: MakeScale, zone: str, first: str, second: str, apart: bool, offsets: list[int]
) -> None:
    """``apart``: the two weights are of two days on the patient's clock."""
    own = scale(zone, first)
    assert own.weigh(first, 80.0) == []
    assert (GAIN in own.weigh(second, 81.5)) is apart
    assert own.offsets() == offsets


def test_an_offset_that_a_device_states_stays(scale: MakeScale) -> None:
    own = scale("Europe/Berlin", "2024-07-01T10:00:00Z")
    own.weigh("2024-07-01T10:00:00Z", 80.0)
    own.weigh("2024-07-01T21:00:00+09:00", 80.0)
    assert own.offsets() == [120, 540]


def test_a_patient_without_a_zone_has_days_of_utc(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.worn("d", zone=None)
    world.send(world.message("d", json.dumps(reading("weight", 80.0, "kg", world.clock.now_ns())).encode()))
    world.drain()
    assert [row["tz_min"] for row in world.rows()] == [0]
    world.close()


def test_the_zone_is_the_one_of_the_time(tmp_path: Path) -> None:
    """A reading from before a move has the offset of where the patient lived then."""
    world = World(tmp_path, clock=FakeClock(ns("2024-07-05T00:00:00Z")))
    patient = world.worn("d", zone="Europe/Berlin")
    world.registry.update_patient(patient, zone="Asia/Tokyo")
    world.clock.time_ns = ns("2024-07-10T12:00:00Z")
    for seq, day in enumerate(("2024-07-04", "2024-07-06"), 1):
        item = reading("weight", 80.0 + seq, "kg", f"{day}T12:00:00Z", seq)
        world.send(world.message("d", json.dumps(item).encode()))
    world.drain()
    assert [row["tz_min"] for row in world.rows()] == [120, 540]
    world.close()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"])
def test_offsets_of_every_quarter_of_an_hour_are_those_of_the_zone(zone: str) -> None:
    start_s, known = ns("2010-12-31T00:00:00Z") // SECOND, ZoneInfo(zone)
    quarters = [start_s + quarter * 900 for quarter in range(366 * 96)]
    expected = [int(offset.total_seconds()) // 60 for offset in
                (datetime.fromtimestamp(one, known).utcoffset() for one in quarters) if offset is not None]  # fmt: skip
    assert minutes_east(np.array(quarters, np.int64) * SECOND, zone).tolist() == expected
