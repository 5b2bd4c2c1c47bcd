"""Values that are impossible in their unit: read in the other unit where that is safe, and always in a list."""

import json

import numpy as np
import pytest

from ingest import doubts
from tests.ingest.ingest_world import World, reading
from vitals.catalog import VITALS
from vitals.glossary import ControlKind, EventKind, Flag
from vitals.model import Control, VitalBatch
from vitals.records import UnknownCode
from vitals.visibility import ShownIn, shown_in


def send(world: World, *values: tuple[str, float, str], **members: object) -> None:
    """One message with readings of now."""
    items = [reading(*value, world.clock.now_ns()) | members for value in values]
    world.send(world.message("d", json.dumps(items).encode()))
    world.clock.advance(1)
    world.drain()


def listed(world: World) -> list[UnknownCode]:
    return world.service.unknown_codes(device="d")


def faults(world: World) -> list[tuple[str, int]]:
    return [(one.detail, one.vital) for one in world.service.device_state("d").faults]


IMPOSSIBLE = [
    ("heart_rate", 400, "/min"), ("pulse_rate", 301, "/min"), ("bp_sys", 320, "mm[Hg]"), ("bp_dia", 210, "mmHg"),
    ("spo2", 127, "%"), ("temp", 24, "Cel"), ("temp", 60, "Cel"), ("glucose_isf", 700, "mg/dL"),
    ("glucose_bg", 1600, "mg/dL"), ("resp_rate", 90, "/min"), ("weight", 900, "kg"), ("bp_mean", 260, "mm[Hg]"),
]  # fmt: skip


@pytest.mark.parametrize(("vital", "value", "unit"), IMPOSSIBLE)
def test_an_impossible_value_is_in_the_worklist_and_a_fault_of_its_device(
    world: World, vital: str, value: float, unit: str
) -> None:
    world.worn("d")
    send(world, (vital, value, unit))
    (row,) = world.rows()
    assert (row["value"], row["flags"] & Flag.IMPLAUSIBLE) == (value, Flag.IMPLAUSIBLE), "as it was sent"
    (batch,) = [entry for entry in world.entries() if isinstance(entry, VitalBatch)]
    assert +shown_in([batch]) == {ShownIn.DOUBTFUL: 1}
    (one,) = listed(world)
    assert (one.kind, one.code.split()[0], one.count, one.samples) == (EventKind.IMPLAUSIBLE, vital, 1, (value,))
    assert faults(world) == [("implausible", batch.vital[0])]


READ = [
    ("glucose_bg", 2.2, "mg/dL", 39.64004), ("glucose_isf", 2.8, "mg/dL", 50.45096), ("glucose", 5.5, "mg/dL", 99.1001),
    ("glucose_bg", 120, "mmol/L", 120.0), ("glucose_isf", 45, "mmol/L", 45.0), ("temp", 104, "Cel", 40.0),
    ("temp", 98.6, "Cel", 37.0), ("temp", 40.2, "[degF]", 40.2),
]  # fmt: skip


@pytest.mark.parametrize(("vital", "value", "unit", "canonical"), READ)
def test_a_value_that_is_possible_in_the_other_unit_is_read_in_it_and_doubted(
    world: World, vital: str, value: float, unit: str, canonical: float
) -> None:
    world.worn("d")
    send(world, (vital, value, unit))
    (row,) = world.rows()
    assert row["value"] == pytest.approx(canonical)
    assert row["flags"] & (Flag.SUSPECT | Flag.IMPLAUSIBLE) == Flag.SUSPECT
    assert row["context"] == {"sent_unit": unit}
    (one,) = listed(world)
    assert (one.kind, one.samples) == (EventKind.UNIT_SUSPECT, (value,))
    assert one.code.startswith(f"{vital} in {unit}, perhaps ")
    assert [word for word, _ in faults(world)] == ["unit_suspect"]
    asked = [one.body["value"] for one in world.entries() if isinstance(one, Control)]
    low = vital != "temp" and canonical < 54
    assert asked == ([pytest.approx(canonical)] if low else []), "of others the rules ask for confirmation"


@pytest.mark.parametrize("vital", ["glucose_isf", "glucose_bg", "glucose"])
@pytest.mark.parametrize(("value", "asked"), [(2.9, [52.25278]), (3.1, []), (5.5, []), (8, [8]), (9.5, [9.5])])
def test_a_glucose_that_may_be_severely_low_in_either_unit_is_asked_about_at_once(
    world: World, vital: str, value: float, asked: list[float]
) -> None:
    world.worn("d")
    send(world, (vital, value, "mg/dL"))
    controls = [one for one in world.entries() if isinstance(one, Control) and one.kind is ControlKind.UNCLAIMED]
    assert [one.body["value"] for one in controls] == [pytest.approx(one, abs=1e-3) for one in asked]
    assert {one.body["reason"] for one in controls} <= {"unit_suspect"}


@pytest.mark.parametrize("value", [10, 12, 15, 18, 19])
def test_a_sensor_glucose_under_its_range_is_no_high_one_by_its_unit_alone(world: World, value: float) -> None:
    world.worn("d")
    send(world, ("glucose_isf", value, "mg/dL"))
    [asked] = [one for one in world.entries() if isinstance(one, Control)]
    assert (asked.body["value"], asked.body["reason"]) == (value, "unit_suspect")


KEPT = [("bp_sys", 29, "mm[Hg]"), ("bp_dia", 16.5, "mm[Hg]"), ("bp_mean", 20, "mm[Hg]"), ("spo2", 0.7, "%")]


@pytest.mark.parametrize(("vital", "value", "unit"), KEPT)
def test_a_number_that_may_be_an_arrest_keeps_its_unit_and_is_asked_about(
    world: World, vital: str, value: float, unit: str
) -> None:
    world.worn("d")
    send(world, (vital, value, unit))
    (row,) = world.rows()
    assert (row["value"], row["flags"] & Flag.IMPLAUSIBLE) == (value, Flag.IMPLAUSIBLE)
    assert [word for word, _ in faults(world)] == ["unit_suspect"]
    controls = [one for one in world.entries() if isinstance(one, Control) and one.kind is ControlKind.UNCLAIMED]
    severe = vital != "bp_mean"
    assert [one.body["reason"] for one in controls] == ["unit_suspect"] * severe
    assert [one.body["vital"] for one in controls] == [vital] * severe


def test_a_sound_value_of_the_same_vital_ends_the_fault_and_no_other(world: World) -> None:
    world.worn("d")
    send(world, ("bp_sys", 320, "mmHg"), ("heart_rate", 400, "/min"))
    assert len(faults(world)) == 2
    send(world, ("heart_rate", 80, "/min"))
    assert len(faults(world)) == 1
    send(world, ("bp_sys", 130, "mmHg"))
    assert faults(world) == []


def test_a_pair_that_crosses_is_in_the_worklist(world: World) -> None:
    world.worn("d")
    send(world, ("bp_sys", 80, "mmHg"), ("bp_dia", 120, "mmHg"))
    assert sorted(one.code for one in listed(world)) == ["bp_dia in mm[Hg]", "bp_sys in mm[Hg]"]


def test_an_old_one_is_in_the_worklist_and_no_fault_of_now(world: World) -> None:
    world.worn("d")
    items = [reading("heart_rate", 400, "/min", world.clock.now_ns() - 10 * 86_400 * 10**9)]
    world.send(world.message("d", json.dumps(items).encode()))
    world.drain()
    assert len(listed(world)) == 1
    assert faults(world) == []


def test_a_resend_is_counted_once(world: World) -> None:
    world.worn("d")
    payload = json.dumps(reading("heart_rate", 400, "/min", world.clock.now_ns())).encode()
    for _ in range(2):
        world.send(world.message("d", payload))
    world.drain()
    assert [one.count for one in listed(world)] == [1]


def test_what_is_withdrawn_or_a_control_solution_is_no_doubt(world: World) -> None:
    world.worn("d")
    send(world, ("glucose_bg", 2.2, "mg/dL"), sample="control_solution")
    assert listed(world) == []
    assert world.rows()[0]["value"] == 2.2


def test_a_spread_is_no_value() -> None:
    """Counts and spreads are not values of their vital, so that no unit of theirs is in doubt."""
    assert {vital.code for vital in VITALS} >= doubts.REREAD
    vital, statistic = np.full(2, min(doubts.REREAD), np.uint16), np.array([0, 7], np.uint8)
    assert doubts._is_implausible(vital, np.array([2.2, 2.2]), statistic).tolist() == [True, False]
