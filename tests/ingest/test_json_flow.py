"""Corrections and withdrawals of ``json`` readings all the way through ingest."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.ingest.ingest_world import World
from tests.support import SECOND
from vitals.glossary import Flag


def take(world: World, **members: Any) -> None:
    """One message with one reading of this minute."""
    moment = f"{datetime.fromtimestamp(1_700_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    reading = {"vital": "weight", "value": 70, "unit": "kg", "time": moment, **members}
    world.send(world.message("d", json.dumps(reading).encode()))
    world.drain()
    world.clock.advance(SECOND)


def shown(world: World) -> list[tuple[float, bool]]:
    return [(row["value"], bool(row["flags"] & Flag.REVISION)) for row in world.rows()]


def test_corrected_revises_the_reading_of_the_same_external_id(world: World) -> None:
    world.worn("d")
    take(world, external_id="a")
    take(world, external_id="b", value=71)
    take(world, external_id="a", value=82, status="corrected")
    take(world, external_id="a", value=82, status="corrected")
    assert shown(world) == [(70.0, False), (71.0, False), (82.0, True)]
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.revision, ledger.duplicate) == (2, 1, 1)


def test_corrected_revises_the_reading_of_the_same_time(world: World) -> None:
    world.worn("d")
    take(world)
    take(world, value=82, status="corrected")
    assert shown(world) == [(70.0, False), (82.0, True)]


def test_deleted_withdraws_the_reading_and_what_comes_of_it_later(world: World) -> None:
    world.worn("d")
    take(world, external_id="a")
    take(world, external_id="a", status="deleted")
    take(world, external_id="a", value=82, status="corrected")
    assert [bool(row["flags"] & Flag.RETRACTED) for row in world.rows()] == [False, True, True]
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.revision) == (1, 2)


def of_interval(world: World, *, apart: bool, **members: Any) -> None:
    """Minimum, mean and maximum of one interval, in one message or in three."""
    moment = f"{datetime.fromtimestamp(1_700_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    items = [{"vital": "heart_rate", "value": value, "unit": "/min", "time": moment, "statistic": word, **members}
             for word, value in (("mean", 30), ("maximum", 60), ("minimum", 28))]  # fmt: skip
    for payload in items if apart else [items]:
        world.send(world.message("d", json.dumps(payload).encode()))
    world.drain()
    world.clock.advance(SECOND)


@pytest.mark.parametrize("members", [{}, {"end": "2023-11-14T22:14:20Z"}, {"seq": 3}], ids=str)
@pytest.mark.parametrize("apart", [True, False])
def test_the_statistics_of_an_interval_are_readings_of_their_own(
    world: World, members: dict[str, Any], *, apart: bool
) -> None:
    world.worn("d")
    for _ in range(2):
        of_interval(world, apart=apart, **members)
    assert shown(world) == [(30.0, False), (60.0, False), (28.0, False)]
    assert world.service.ledger("d").readings.duplicate == 3


def test_two_sites_of_one_time_are_two_measurements_and_each_is_corrected_alone(world: World) -> None:
    world.worn("d")
    for site, value, status in (("oral", 36.5, "final"), ("rectal", 39.4, "final"), ("oral", 36.9, "corrected")):
        take(world, vital="temp", unit="Cel", site=site, value=value, status=status)
    assert shown(world) == [(36.5, False), (39.4, False), (36.9, True)]
    take(world, vital="temp", unit="Cel", site="rectal", status="deleted")
    gone = [row["value"] for row in world.rows() if row["flags"] & Flag.RETRACTED]
    assert gone == [39.4]


def test_two_values_of_one_site_and_time_in_two_messages_are_two_measurements(world: World) -> None:
    world.worn("d")
    for value in (36.5, 39.4):
        take(world, vital="temp", unit="Cel", site="oral", value=value)
    assert shown(world) == [(36.5, False), (39.4, False)]
