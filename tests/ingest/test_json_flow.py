"""Corrections and withdrawals of ``json`` readings all the way through ingest."""

import json
from datetime import UTC, datetime
from typing import Any

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
