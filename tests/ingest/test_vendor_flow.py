"""Vendor JSON all the way through ingest: pulled again, corrected, withdrawn, refused in part, on wall time."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.adapters.vendor_documents import SAMPLES, Sample
from tests.ingest.ingest_world import HOUR, World
from tests.support import SECOND
from vitals.glossary import Basis, Flag, Reason


def take(world: World, adapter: str, kind: str, *documents: Any) -> None:
    world.send(*[world.message("d", json.dumps(document).encode(), adapter, kind) for document in documents])
    world.drain()
    world.clock.advance(1)


def group(world: World, grpid: int, *measures: tuple[int, int, int], **more: Any) -> Any:
    now_s = world.clock.now_ns() // SECOND
    listed = [{"value": value, "type": kind, "unit": exponent} for value, kind, exponent in measures]
    return {"grpid": grpid, "attrib": 0, "date": now_s - 60, "created": now_s, "modified": now_s, "category": 1,
            "measures": listed, **more}  # fmt: skip


def answer(*groups: Any) -> Any:
    return {"status": 0, "body": {"measuregrps": list(groups)}}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_what_an_adapter_gives_is_what_the_pipeline_takes(world: World, sample: Sample) -> None:
    """Old records, every vital, unit and event at once: the sound check refuses a whole message otherwise."""
    world.worn("d", sample.adapter)
    take(world, sample.adapter, sample.kind, sample.document)
    assert not list(world.journal.quarantine(0, 10))
    assert world.rows() or world.waiting() or world.events()
    assert world.service.ledger("d").messages.decoded == 1


def test_a_corrected_group_is_a_revision_and_a_repeated_one_a_duplicate(world: World) -> None:
    world.worn("d", "withings")
    first = group(world, 7, (72500, 1, -3))
    corrected = group(world, 7, (71500, 1, -3), date=first["date"], modified=first["modified"] + 600)
    take(world, "withings", "getmeas", answer(first), answer(first), answer(corrected))
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.duplicate, ledger.revision) == (1, 1, 1)
    assert [(row["value"], bool(row["flags"] & Flag.REVISION)) for row in world.rows()] == [
        (72.5, False), (71.5, True),
    ]  # fmt: skip


def test_an_ambiguous_owner_waits_in_quarantine_and_the_others_are_stored(world: World) -> None:
    patient = world.worn("d", "withings")
    ambiguous = group(world, 8, (135, 10, 0), (86, 9, 0), attrib=1)
    take(world, "withings", "getmeas", answer(group(world, 7, (72500, 1, -3)), ambiguous))
    assert [(row["vital"], row["patient"]) for row in world.rows()] == [("weight", patient)]
    (item,) = world.journal.quarantine(0, 10)
    assert (item.reason, item.detail) == (Reason.OWNER_AMBIGUOUS, "$.body.measuregrps[1].attrib")


def test_ids_of_wall_times_in_any_order_are_no_reset_clock(world: World) -> None:
    """Numbers that rise while time falls are a reset clock; hashes rise and fall as they like."""
    world.worn("d", "ihealth")
    for number, days in enumerate((1, 9, 3, 7, 5, 2, 8, 4)):
        wall_s = (world.clock.now_ns() - days * 24 * HOUR) // SECOND
        take(world, "ihealth", "spo2", {"BODataList": [{"BO": 97, "DataID": f"r-{number}", "MDate": wall_s}]})
    assert [row["basis"] for row in world.rows()] == [Basis.DEVICE_ASSUMED_ZONE] * 8
    assert not world.waiting()


def test_a_day_that_has_grown_is_a_revision_beside_its_minutes(world: World) -> None:
    world.worn("d", "fitbit")
    day = f"{datetime.fromtimestamp((world.clock.now_ns() - 48 * HOUR) // SECOND, UTC):%Y-%m-%d}"
    minutes = {"dataset": [{"time": "00:00:00", "value": 40}], "datasetInterval": 1, "datasetType": "minute"}
    for steps in ("100", "250"):
        days = [{"dateTime": day, "value": steps}]
        take(world, "fitbit", "steps", {"activities-steps": days, "activities-steps-intraday": minutes})
    assert [(row["value"], row["basis"]) for row in world.rows()] == [
        (100.0, Basis.DAY), (40.0, Basis.DEVICE_ASSUMED_ZONE), (250.0, Basis.DAY),
    ]  # fmt: skip


def test_a_sensor_that_reads_low_without_a_number_is_below_its_range(world: World) -> None:
    world.worn("d", "dexcom")
    egv = {"recordId": "r", "systemTime": "2024-03-10T08:00:00Z", "value": None, "status": "low", "unit": "mg/dL"}
    take(world, "dexcom", "egvs", {"records": [egv]})
    (row,) = world.rows()
    assert row["flags"] & Flag.BELOW_RANGE
