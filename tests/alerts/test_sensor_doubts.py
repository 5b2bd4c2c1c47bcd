"""Sensors that say they measure nothing, or numbers whose unit is in doubt: from a device's bytes to the engine."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.alerts.bedside import CONFIRM_S, HEARTBEAT_S, MINUTE, RULE_SETS, SPOT, Bedside, urgent
from tests.ingest.ingest_world import World
from tests.support import SECOND
from vitals.catalog import BY_KEY
from vitals.glossary import AlertState, Flag, Severity
from vitals.records import AlertEvent

SOUND, FINGER_OUT, ZEROS = bytes.fromhex("0060004e00"), bytes.fromhex("007f00ff00"), bytes.fromhex("0000000000")
"""PLX Continuous Measurements (2A5F): 96 % at 78/min; 127 % at 255/min; 0 and 0."""
SPO2_WINDOW_S = BY_KEY["spo2"].silence_ns(BY_KEY["spo2"].mode) / SECOND


def worn(bed: Bedside, adapter: str) -> None:
    bed.world.device(f"{adapter}-1", adapter)
    bed.world.registry.assign(f"{adapter}-1", bed.patient, from_ns=None, to_ns=None)


def of_rule(events: Sequence[AlertEvent], start: str) -> list[AlertEvent]:
    return [one for one in events if one.rule.startswith(start)]


def raised(events: Sequence[AlertEvent], start: str) -> list[AlertEvent]:
    return [one for one in of_rule(events, start) if one.kind in {"raised", "reopened"}]


@pytest.mark.parametrize("packet", [FINGER_OUT, ZEROS], ids=["127/255", "0/0"])
def test_the_silence_clock_runs_on_while_the_finger_is_out(bed: Bedside, packet: bytes) -> None:
    worn(bed, "ble_plx")
    bed.wait(HEARTBEAT_S)
    assert not bed.send(SOUND, "ble_plx", "2a5f")
    last_ns = bed.world.clock.now_ns()
    events: list[AlertEvent] = []
    sent_s = SPO2_WINDOW_S / 96
    for _ in range(96):
        events += bed.wait(sent_s - HEARTBEAT_S) + bed.send(packet, "ble_plx", "2a5f") + bed.wait(HEARTBEAT_S)
    silent = {one.rule: one for one in raised(events, "silence:")}
    assert set(silent) >= {"silence:spo2", "silence:pulse_rate"}
    assert silent["silence:spo2"].at_ns == last_ns + int(SPO2_WINDOW_S * SECOND), "at its usual time"
    assert not urgent(events), "255 is no pulse rate"
    assert not bed.send(packet, "ble_plx", "2a5f"), "it ends no silence either"
    over = bed.send(SOUND, "ble_plx", "2a5f")
    assert {one.rule for one in over if one.state is AlertState.RESOLVED} >= {"silence:spo2", "silence:pulse_rate"}


def sgv(bed: Bedside, value: float) -> list[AlertEvent]:
    """A Nightscout entry of now."""
    body = {"type": "sgv", "sgv": value, "date": bed.world.clock.now_ns() // 1_000_000}
    return bed.send(json.dumps(body).encode(), "nightscout", "entries")


def five_minutes_apart(bed: Bedside, *values: float) -> list[AlertEvent]:
    events: list[AlertEvent] = []
    for value in values:
        events += sgv(bed, value) + bed.wait(300)
    return events


def test_a_doubtful_unit_is_one_device_alert_an_episode(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    first = five_minutes_apart(bed, 6.1, 6.2, 6.3, 6.2)
    (alert,) = raised(first, "technical:")
    assert alert.patient == bed.patient
    assert alert.text == "The unit of nightscout-1 is in doubt: check whether it sends mg/dL or mmol/L"
    assert not urgent(first)
    sound = five_minutes_apart(bed, 110, 111, 112)
    (over,) = of_rule(sound, "technical:")
    assert (over.alert, over.state) == (alert.alert, AlertState.RESOLVED)
    assert len(raised(five_minutes_apart(bed, 6.1, 6.2), "technical:")) == 1


@pytest.fixture(params=RULE_SETS, ids=lambda rules: rules.name)
def ruled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bedside]:
    world = World(tmp_path)
    try:
        yield Bedside(world, request.param)
    finally:
        world.close()


def test_lows_in_a_doubtful_unit_ask_for_confirmation_and_page(ruled: Bedside) -> None:
    """Own limits ask at the first one, the shipped protocol once it has lasted 15 minutes."""
    worn(ruled, "nightscout")
    ruled.wait(HEARTBEAT_S)
    events = five_minutes_apart(ruled, *[2.8] * 8)
    assert Flag.SUSPECT in ruled.flags()
    doubt, page = next(one for one in events if one.values), urgent(events)[0]
    assert (doubt.kind, doubt.severity) == ("raised", Severity.S2)
    assert "repeat the measurement" in doubt.text
    assert (page.alert, page.severity) == (doubt.alert, Severity.S1)
    assert len(raised(events, "technical:")) == 1


def test_an_extreme_low_in_a_doubtful_unit_pages_at_once_and_asks_for_confirmation(ruled: Bedside) -> None:
    """2.4 mmol/L is 43 mg/dL. Own limits have no extreme: they ask first, and page unrefuted."""
    worn(ruled, "nightscout")
    ruled.wait(HEARTBEAT_S)
    events = five_minutes_apart(ruled, *[2.4] * 2)
    first = next(one for one in events if one.values)
    own = first.rule.startswith("limit:")
    assert first.severity == (Severity.S2 if own else Severity.S1)
    assert ("repeat the measurement" if own else "confirm now") in first.text
    assert urgent(events)


def test_one_low_in_a_doubtful_unit_that_nothing_refutes_pages(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    asked = sgv(bed, 2.4)
    (doubt,) = [one for one in asked if one.kind == "raised" and one.values]
    assert doubt.severity is Severity.S2
    assert "repeat the measurement" in doubt.text
    assert urgent(bed.wait(CONFIRM_S + MINUTE))


def test_a_second_low_in_a_doubtful_unit_pages_at_once(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    assert not urgent(sgv(bed, 2.4) + bed.wait(300))
    assert urgent(sgv(bed, 2.3))


def test_a_sound_value_refutes_a_low_in_a_doubtful_unit(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    assert not urgent(sgv(bed, 2.4) + bed.wait(300) + sgv(bed, 110) + bed.wait(CONFIRM_S + MINUTE))


def test_3_mmol_is_no_low(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    events = sgv(bed, 3.1) + bed.wait(CONFIRM_S + MINUTE)
    assert not [one for one in events if one.values]


def test_impossible_values_that_go_on_are_one_device_alert_an_episode(bed: Bedside) -> None:
    bed.wait(HEARTBEAT_S)
    assert not bed.read(("bp_sys", 320.0, "mm[Hg]"))
    (alert,) = raised(bed.wait(3 * MINUTE), "technical:")
    assert alert.patient == bed.patient
    assert alert.text == (
        "json-1 sends what cannot be: Systolic blood pressure 320 mmHg; look at the person, then at the device"
    )
    assert not raised(bed.read(("bp_sys", 310.0, "mm[Hg]")) + bed.wait(3 * MINUTE), "technical:")
    (over,) = of_rule(bed.read(("bp_sys", 150.0, "mm[Hg]")), "technical:")
    assert (over.alert, over.state) == (alert.alert, AlertState.RESOLVED)


def test_a_sensor_that_moved_for_a_moment_is_no_alert(bed: Bedside) -> None:
    bed.wait(HEARTBEAT_S)
    events = bed.read(("pulse_rate", 400.0, "/min")) + bed.wait(10) + bed.read(("pulse_rate", 80.0, "/min"))
    assert not raised(events + bed.wait(5 * MINUTE), "technical:")


@pytest.mark.parametrize(
    ("reading", "either"),
    [(("glucose_bg", 2.7, "mg/dL"), "mg/dL or mmol/L"), (("glucose_isf", 45.0, "mmol/L"), "mg/dL or mmol/L")],
    ids=str,
)
def test_a_severe_number_of_the_other_unit_asks_for_confirmation_and_pages(
    bed: Bedside, reading: tuple[str, float, str], either: str
) -> None:
    bed.wait(HEARTBEAT_S)
    events = bed.read(reading)
    (doubt,) = [one for one in events if one.values and one.patient]
    assert (doubt.severity, "repeat the measurement" in doubt.text) == (Severity.S2, True)
    (look,) = raised(events, "review:unclaimed:")
    assert (look.severity, "if it sends another unit than it names" in look.text) == (Severity.S1, True)
    (unit,) = raised(events, "technical:")
    assert unit.text == f"The unit of json-1 is in doubt: check whether it sends {either}"
    assert urgent(bed.wait(CONFIRM_S + MINUTE))


@pytest.mark.parametrize("code", [2.0, 3.0, 2, 3], ids=repr)
@pytest.mark.parametrize("apart", [True, False], ids=["other messages", "one message"])
def test_an_error_code_after_fractions_is_a_low_in_a_doubtful_unit(bed: Bedside, code: float, *, apart: bool) -> None:
    """2 and 3 mmol/L are severe lows: who sent 3.4 before means them."""
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    now_ms = bed.world.clock.now_ns() // 1_000_000
    if apart:
        sgv(bed, 5.4)
        events = bed.wait(300) + sgv(bed, code)
    else:
        entries = [{"type": "sgv", "sgv": value, "date": now_ms - 300_000 * n} for n, value in enumerate((code, 5.4))]
        events = bed.send(json.dumps(entries).encode(), "nightscout", "entries")
    assert Flag.SUSPECT in bed.flags()
    assert [one for one in events if one.values] or code == 3
    assert urgent(events + bed.wait(CONFIRM_S + MINUTE)) or code == 3


def test_an_error_code_of_an_uploader_of_mg_dl_stays_one(bed: Bedside) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    events = five_minutes_apart(bed, 5.4, 120, 2, 3)
    assert not [one for one in events if one.values]
    assert [one.detail for one in bed.world.events()].count("no_antenna") == 1


@pytest.mark.parametrize("vital", ["sgv", "mbg"])
@pytest.mark.parametrize(("value", "units", "severe"), [(2.6, None, True), (120, "mmol", False), (45, "mmol", True)])
def test_meters_and_other_units_are_doubted_the_same_way(
    bed: Bedside, vital: str, value: float, units: str | None, *, severe: bool
) -> None:
    worn(bed, "nightscout")
    bed.wait(HEARTBEAT_S)
    body = {"type": vital, vital: value, "date": bed.world.clock.now_ns() // 1_000_000, "units": units}
    events = bed.send(json.dumps(body).encode(), "nightscout", "entries")
    assert len(raised(events, "technical:unit")) == 1
    assert bool([one for one in events if one.values]) == severe
    assert bool(urgent(bed.wait(CONFIRM_S + MINUTE))) == severe


@pytest.fixture
def spot(tmp_path: Path) -> Iterator[Bedside]:
    world = World(tmp_path)
    try:
        yield Bedside(world, next(rules for rules in RULE_SETS if rules.name == SPOT))
    finally:
        world.close()


@pytest.mark.parametrize(
    ("value", "unit", "extreme"),
    [(2.5, "mmol/L", True), (45, "mg/dL", True), (2.6, "mmol/L", False), (46, "mg/dL", False)],
)
def test_a_limit_of_45_mg_dl_is_one_of_2_5_mmol_l(spot: Bedside, value: float, unit: str, *, extreme: bool) -> None:
    """The shipped protocol tells a sensor's extreme at once, any other low after 15 minutes."""
    spot.wait(HEARTBEAT_S)
    assert bool(urgent(spot.read(("glucose_isf", value, unit)))) == extreme


def test_the_first_2_5_of_an_uploader_in_a_doubtful_unit_asks_at_once(spot: Bedside) -> None:
    worn(spot, "nightscout")
    spot.wait(HEARTBEAT_S)
    (page,) = urgent(sgv(spot, 2.5))
    assert "confirm now" in page.text
