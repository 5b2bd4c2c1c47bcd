"""The glucose report: which readings are in it, over what time, and what it says about them."""

import math
from typing import Any

import numpy as np
import pytest

from tests.api.api_world import START_NS, World
from tests.support import SECOND
from vitals.glossary import Basis, Flag
from vitals.units import UNIT_BY_NAME

DAY = 86_400
NAN = float("nan")


def report(world: World, patient: str, **params: Any) -> dict[str, Any]:
    world.stored()
    return dict(world.api("viewer").get(f"/patients/{patient}/reports/glucose", **params))


def fill(world: World, patient: str, days: float, *, values: list[float] | None = None, **columns: Any) -> None:
    """Five-minute readings from the world's start on; its clock then stands at their end."""
    count = int(days * 288)
    shown = values or (110 + 20 * np.sin(np.arange(count) / 20)).round().tolist()
    world.read(patient, *shown, vital="glucose_isf", step_s=300.0, **columns)
    world.clock.time_ns = START_NS + int(days * DAY) * SECOND


def test_fourteen_days_of_a_sensor(world: World) -> None:
    patient, device = world.worn()
    fill(world, patient, 14, device=device)
    found = report(world, patient)
    assert (found["patient"], found["zone"]) == (patient, "Europe/Berlin")
    assert (found["start"], found["end"]) == ("2023-11-14T22:13:20Z", "2023-11-28T22:13:20Z")
    enough = found["sufficiency"]
    assert enough == {
        "sufficient": True, "reasons": [], "text": "Enough data: 14 days, sensor active 100.0 % of them.", "days": 14.0,
        "days_worn": 15, "active_percent": 100.0, "expected": 4032, "interval_s": [300.0], "shares_of": "readings",
    }  # fmt: skip
    metrics = found["metrics"]
    assert metrics["n"] == 4032
    assert metrics["tir_70_180_percent"] == 100
    assert metrics["gmi_percent"] == pytest.approx(3.31 + 0.02392 * metrics["mean_mg_dl"])
    assert metrics["gri_zone"] == "A"
    assert metrics["mage_mg_dl"] == pytest.approx(36.31, abs=0.01), "swings of 40, some cut at midnight"
    assert 90 <= found["forecast"]["low_mg_dl"] <= found["forecast"]["value_mg_dl"] <= found["forecast"]["high_mg_dl"]
    assert found["forecast"]["at"] == "2023-11-28T22:38:20Z", "30 minutes after the last reading"
    assert (found["forecast"]["reason"], found["forecast"]["scored"]) == (None, 4020)
    assert found["agp"]["minute"] == list(range(0, 1440, 15))
    assert len(found["agp"]["p95"]) == 96
    assert {name: kind["count"] for name, kind in found["episodes"].items()} == dict.fromkeys(found["episodes"], 0)


def test_too_little_is_reported_and_said(world: World) -> None:
    patient, device = world.worn()
    fill(world, patient, 7, device=device)
    world.clock.advance(7 * DAY)
    half, week = report(world, patient), report(world, patient, end="2023-11-21T22:13:20Z", days=7)
    assert half["sufficiency"]["reasons"] == ["under_70_percent_active"]
    assert half["sufficiency"]["active_percent"] == pytest.approx(50)
    assert week["sufficiency"]["reasons"] == ["under_14_days"]
    assert "Insufficient data: 7 days, sensor active 100.0 %" in week["sufficiency"]["text"]
    assert "GMI not as a trend" in week["sufficiency"]["text"]
    assert half["metrics"] == week["metrics"], "the numbers are printed all the same"


def test_nothing_at_all_is_nulls(world: World) -> None:
    patient, _ = world.worn()
    found = report(world, patient)
    assert found["sufficiency"]["reasons"] == ["no_readings", "under_70_percent_active"]
    assert {value for name, value in found["metrics"].items() if name != "n"} == {None}
    assert found["metrics"]["n"] == 0
    assert found["agp"] == {"bin_minutes": 15, "minute": [], "p5": [], "p25": [], "p50": [], "p75": [], "p95": []}
    assert found["fingersticks"]["n"] == 0
    assert (found["forecast"]["value_mg_dl"], found["forecast"]["reason"]) == (None, "too_few_readings")


def test_no_forecast_stands_on_three_readings_or_on_old_ones(world: World) -> None:
    patient, device = world.worn()
    fill(world, patient, 3 / 288, device=device)
    assert report(world, patient)["forecast"]["reason"] == "too_few_readings"
    fill(world, patient, 1, device=device)
    assert report(world, patient)["forecast"]["reason"] is None
    world.clock.time_ns += 16 * 60 * SECOND
    assert report(world, patient)["forecast"]["reason"] == "no_current_reading"


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2024-03-23T00:00:00+01:00", "2024-04-06T00:00:00+02:00", 14.0),
        ("2024-10-20T00:00:00+02:00", "2024-11-03T00:00:00+01:00", 14.0),
        ("2024-03-23T01:00:00+01:00", "2024-04-06T00:00:00+02:00", 13.958),
    ],
)
def test_fourteen_days_on_the_patients_clock_are_enough_also_where_clocks_change(
    world: World, start: str, end: str, days: float
) -> None:
    patient, _ = world.worn()
    world.clock.advance(400 * DAY)
    enough = report(world, patient, start=start, end=end)["sufficiency"]
    assert enough["days"] == days
    assert ("under_14_days" in enough["reasons"]) is (days < 14)


def test_what_is_no_measurement_of_the_patient_is_left_out_and_counted(world: World) -> None:
    patient, device = world.worn()
    fill(world, patient, 1, device=device)
    bad = {
        Flag.IMPLAUSIBLE | Flag.SENSOR_FAULT: "implausible", Flag.TEST_DATA: "test_data",
        Flag.SENSOR_FAULT: "sensor_fault", Flag.CLOCK_SUSPECT: "clock_suspect",
    }  # fmt: skip
    for number, flags in enumerate(bad, 1):
        world.read(patient, 300.0, vital="glucose_isf", device=f"{device}-{number}", start_s=7, flags=int(flags))
    for number, basis in enumerate((Basis.UNKNOWN, Basis.DAY), 10):
        world.read(patient, 300.0, vital="glucose_isf", device=f"{device}-{number}", start_s=7, basis=int(basis))
    world.read(patient, NAN, vital="glucose_isf", device=f"{device}-20", start_s=7)
    world.read(patient, 300.0, vital="glucose_isf", device=f"{device}-21", start_s=7, flags=int(Flag.RETRACTED))
    late = int(Flag.LATE | Flag.REPLAYED | Flag.SUSPECT)
    world.read(patient, 130.0, vital="glucose_isf", device=f"{device}-30", start_s=DAY - 1, flags=late)
    found = report(world, patient, days=1)
    assert found["readings"] == {
        "used": 289, "below_range": 0, "above_range": 0, "same_instant": 0,
        "left_out": dict.fromkeys(bad.values(), 1) | {"retracted": 1, "no_time": 2, "no_value": 1},
    }  # fmt: skip
    assert found["metrics"]["tar_above_180_percent"] == 0


def test_lo_and_hi_are_counted_and_make_episodes(world: World) -> None:
    patient, device = world.worn()
    fill(world, patient, 1, values=[100.0] * 282, device=device)
    low = int(Flag.BELOW_RANGE)
    world.read(patient, *[NAN] * 3, vital="glucose_isf", device=device, start_s=282 * 300, step_s=300.0, flags=low)
    world.read(patient, *[100.0] * 3, vital="glucose_isf", device=device, start_s=285 * 300, step_s=300.0)
    found = report(world, patient, days=1)
    assert found["readings"]["below_range"] == 3
    assert found["metrics"]["tbr_below_54_percent"] == pytest.approx(100 * 3 / 288)
    assert found["metrics"]["mean_mg_dl"] == 100
    one = found["episodes"]["hypo_level_1"]
    assert (one["count"], one["recovered"], one["level_1_only"], one["minutes"]) == (1, 1, 0, 15.0)
    assert one["items"] == [
        {"start": "2023-11-15T21:43:20Z", "end": "2023-11-15T21:58:20Z", "minutes": 15.0, "extreme_mg_dl": None,
         "ended": "recovered"},
    ]  # fmt: skip


def test_readings_reported_in_mmol_are_judged_by_its_limits(world: World) -> None:
    patient, device = world.worn()
    edge, unit = 10.0 * 18.0182, UNIT_BY_NAME["mmol/L"].code
    fill(world, patient, 1, values=[edge] * 288, device=device, reported=10.0, unit=unit)
    assert report(world, patient, days=1)["metrics"]["tir_70_180_percent"] == 100


def test_fingersticks_are_counted_apart(world: World) -> None:
    patient, device = world.worn()
    world.read(patient, 50.0, 65.0, 100.0, 300.0, vital="glucose_bg", device=device, step_s=3600.0)
    world.read(patient, NAN, vital="glucose_bg", device=device, start_s=9 * 3600, flags=int(Flag.ABOVE_RANGE))
    world.clock.advance(DAY)
    found = report(world, patient, days=1)
    assert found["metrics"]["n"] == 0, "no time in range over fingersticks"
    assert found["fingersticks"] == {
        "n": 5, "mean_mg_dl": 128.75, "minimum_mg_dl": 50.0, "maximum_mg_dl": 300.0, "below_54": 1, "below_70": 2,
        "above_180": 2, "above_250": 2,
    }  # fmt: skip


def test_a_patient_without_a_zone_has_days_of_utc(world: World) -> None:
    patient = world.registry.add_patient().id
    fill(world, patient, 1)
    found = report(world, patient, days=1)
    assert found["zone"] == "UTC"
    assert math.isclose(found["sufficiency"]["days_worn"], 2)


def test_the_end_is_never_later_than_now(world: World) -> None:
    patient, _ = world.worn()
    found = report(world, patient, end="2030-01-01T00:00:00Z")
    assert found["end"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "2023-11-14"}, "end"),
        ({"start": "2023-11-10T00:00:00Z", "days": 3}, "days"),
        ({"start": "2023-11-10T00:00:00Z", "end": "2023-11-10T00:00:00Z"}, "start"),
        ({"start": "2024-01-01T00:00:00Z"}, "start"),
        ({"end": "1700-01-01T00:00:00Z"}, "start"),
        ({"start": "2023-01-01T00:00:00Z"}, "start"),
        ({"days": 0}, "days"),
        ({"days": 93}, "days"),
        ({"unit": "mmol/L"}, "unit"),
    ],
)
def test_what_cannot_be_asked_is_refused(world: World, params: dict[str, Any], field: str) -> None:
    patient, _ = world.worn()
    world.api("viewer").refused("GET", f"/patients/{patient}/reports/glucose", 422, field, params=params)


def test_it_needs_the_right_to_read_vitals_and_a_patient(world: World) -> None:
    patient, _ = world.worn()
    api = world.api("admin", "patients:read")
    api.refused("GET", f"/patients/{patient}/reports/glucose", 403)
    world.api("viewer").refused("GET", "/patients/p_none/reports/glucose", 404)


SUMMER_NS = 1_711_839_600 * SECOND
"""2024-03-30T23:00Z: in Berlin the midnight that begins a day of 23 hours."""


def test_days_of_a_report_are_the_patients_where_clocks_change(world: World) -> None:
    patient, _ = world.worn()
    world.clock.time_ns = SUMMER_NS + 7 * DAY * SECOND
    found = report(world, patient)
    assert (found["start"], found["end"]) == ("2024-03-24T00:00:00Z", "2024-04-06T23:00:00Z")
    assert found["sufficiency"]["days"] == 14.0


def test_a_report_over_a_move_counts_days_and_hours_where_the_patient_lived(world: World) -> None:
    patient, device = world.worn()
    moved_ns = START_NS + DAY * SECOND
    fill(world, patient, 2, device=device)
    world.clock.time_ns = moved_ns
    world.registry.update_patient(patient, zone="Pacific/Kiritimati")
    world.clock.time_ns = START_NS + 2 * DAY * SECOND
    found = report(world, patient, days=2)
    assert found["zone"] == "Pacific/Kiritimati"
    assert found["start"] == "2023-11-15T11:13:20Z"
    assert found["sufficiency"]["days"] == 2.0
