"""What kernels get of a protocol: conversion, defaults, gates, overrides, and one object for equal inputs."""

import json
import sys
import time
from typing import Any

import pytest

from alerts.rules.compile import Adopted, RuleOverride, compile_protocols
from alerts.rules.gates import Gate, PatientContext, exclusive, said, shut
from alerts.rules.limits import compile_limit, parse_limits
from alerts.rules.spec import Kind, Op
from alerts.scores.tables import SOURCES
from tests.alerts.protocol_world import (
    ADULT,
    BOTH,
    FALL,
    LOW,
    MEMBERS,
    RATE,
    SCORE,
    SHIPPED,
    SILENT,
    STUCK,
    USUAL,
    WEIGHT,
    adopted,
    compiled,
    only,
    parsed,
    spec_of,
)
from vitals.catalog import BY_KEY
from vitals.units import UNIT_BY_NAME, to_canonical

SECOND = 1_000_000_000


def over(rule: str, changes: dict[str, Any] | None, version: int = 4) -> RuleOverride:
    return RuleOverride(rule, version, json.dumps(changes, sort_keys=True) if changes else "")


@pytest.mark.parametrize(
    ("vital", "unit", "low", "deadband"),
    [("glucose_isf", "mmol/L", 3.9, 0.3), ("spo2", "{fraction}", 0.88, 0.02), ("temp", "[degF]", 95.0, 1.8)],
)
def test_limits_convert_as_those_of_a_patient_do(vital: str, unit: str, low: float, deadband: float) -> None:
    rule = {**LOW, "vital": vital, "unit": unit, "at_or_below": low, "deadband": deadband}
    (own,) = compile_limit(
        parse_limits([{"vital": vital, "unit": unit, "low": low, "severity": "S2", "deadband": deadband}])[0]
    )
    spec = spec_of(rule)
    assert (spec.enter, spec.leave, spec.unit, spec.limit, spec.deadband) == (
        own.enter, own.leave, own.unit, own.limit, own.deadband,
    )  # fmt: skip


def test_an_absolute_end_is_a_deadband_as_a_person_counts() -> None:
    spec = spec_of(LOW, vital="glucose_isf", unit="mmol/L", at_or_below=3.9, clear=4.2)
    assert spec.deadband == 0.3
    assert spec.leave == float(to_canonical(4.2, "mmol/L", "mg/dL"))


@pytest.mark.parametrize(
    ("vital", "unit", "side", "limit", "leave"),
    [
        ("spo2", "%", "at_or_below", 90, 92),
        ("heart_rate", "/min", "above", 120, 115),
        ("pulse_rate_nibp", "/min", "below", 50, 55),
        ("bp_sys", "mm[Hg]", "above", 160, 155),
        ("bp_sys", "kPa", "above", 20, 19.33),
        ("resp_rate", "/min", "at_or_above", 25, 23),
        ("temp", "Cel", "at_or_above", 38, 37.7),
        ("temp", "[degF]", "above", 100.4, 99.86),
        ("glucose_bg", "mg/dL", "below", 70, 75),
        ("glucose_bg", "mg/dL", "above", 180, 175),
        ("glucose_isf", "mg/dL", "above", 250, 240),
        ("glucose_isf", "mmol/L", "below", 3.9, 4.18),
        ("weight", "kg", "above", 120, 120),
    ],
)
def test_hysteresis_where_a_rule_does_not_say(vital: str, unit: str, side: str, limit: float, leave: float) -> None:
    rule = {key: value for key, value in LOW.items() if key != "at_or_below"}
    spec = spec_of(rule | {"vital": vital, "unit": unit, side: limit})
    assert spec.leave == pytest.approx(float(to_canonical(leave, UNIT_BY_NAME[unit].ucum, BY_KEY[vital].unit)))


@pytest.mark.parametrize(
    ("rule", "mode", "expected"),
    [
        # on-delay s, readings, apart s, off-delay s, readings to clear, sticky
        (LOW, "continuous", (30, 1, 0, 60, 1, 1)),
        (LOW, "spot", (0, 2, 60, 0, 2, 0)),
        ({**LOW, "vital": "heart_rate", "unit": "/min"}, "continuous", (60, 1, 0, 60, 1, 1)),
        ({**LOW, "vital": "resp_rate", "unit": "/min"}, "continuous", (120, 1, 0, 60, 1, 1)),
        ({**LOW, "vital": "pain", "unit": "{score}"}, "spot", (0, 1, 0, 0, 2, 0)),
        ({**LOW, "continuous": {"for_s": 0}}, "continuous", (0, 1, 0, 60, 1, 0)),
        ({**LOW, "continuous": {"for_s": 9, "sticky": False}}, "continuous", (9, 1, 0, 60, 1, 0)),
        (
            {**LOW, "continuous": {"for_s": 9, "readings": 2, "clear_s": 8, "clear_readings": 3}}, "continuous",
            (9, 2, 0, 8, 3, 1),
        ),
        ({**LOW, "spot": {"readings": 3, "apart_s": 300, "clear_readings": 1}}, "spot", (0, 3, 300, 0, 1, 0)),
        (USUAL, "continuous", (30, 1, 0, 60, 1, 1)),
        (USUAL, "spot", (0, 2, 60, 0, 2, 0)),
        (WEIGHT, "spot", (0, 1, 0, 0, 1, 0)),
        (WEIGHT, "continuous", (0, 1, 0, 0, 1, 0)),
        (RATE, "continuous", (0, 1, 0, 60, 1, 0)),
        (FALL, "spot", (0, 1, 0, 0, 2, 0)),
    ],
)  # fmt: skip
def test_delays_where_a_rule_does_not_say(rule: dict[str, Any], mode: str, expected: tuple[int, ...]) -> None:
    spec = spec_of(rule, mode)
    found = (
        spec.on_delay_ns // SECOND, spec.on_count, spec.apart_ns // SECOND, spec.off_delay_ns // SECOND, spec.off_count,
        spec.sticky,
    )  # fmt: skip
    assert found == expected


def test_staleness_and_persistence_follow_the_mode_of_the_programme_else_the_catalogue() -> None:
    assert spec_of(LOW, "spot").staleness_ns == 12 * 3600 * SECOND
    assert spec_of(LOW, "continuous").staleness_ns == 300 * SECOND
    assert only(compiled(RATE)).spec.continuous == 1
    assert only(compiled(LOW)).spec.continuous == 0
    other = parsed({**LOW, "id": "B1"}, measures={"spo2": "continuous"}).model_copy(update={"name": "other"})
    first, second = compile_protocols(adopted(parsed(LOW), other), ADULT).rules
    assert (first.spec.continuous, second.spec.continuous) == (1, 1)


def test_two_days_in_a_row_are_not_stale_for_a_trend() -> None:
    assert spec_of(WEIGHT, vital="fvc", unit="L").staleness_ns == 2 * 86_400 * SECOND


def test_differences_convert_without_the_offset_of_their_unit() -> None:
    rule = {**WEIGHT, "vital": "temp", "unit": "[degF]", "at_or_above": 1.8, "deadband": 0.9}
    spec = spec_of(rule)
    assert (spec.enter, spec.leave, spec.limit) == (pytest.approx(1.0), pytest.approx(0.5), 1.8)
    pounds = spec_of(WEIGHT, unit="[lb_av]", at_or_above=2)
    assert pounds.enter == pytest.approx(0.90718474)
    rate = spec_of(RATE)
    assert (rate.enter, rate.leave) == (pytest.approx(-0.2 * 18.0182), pytest.approx(-0.1 * 18.0182))
    assert (rate.window_ns, rate.side) == (1200 * SECOND, 0)
    mean = spec_of(WEIGHT, vital="temp", unit="[degF]", measure="mean", at_or_above=100.4)
    assert mean.enter == pytest.approx(38.0)


def test_a_forecast_carries_its_horizon_and_both_conditions() -> None:
    spec = spec_of(FALL)
    assert (spec.kind, spec.a, spec.b, spec.c) == (
        Kind.FORECAST, 20.0, pytest.approx(5.5 * 18.0182), pytest.approx(-0.1 * 18.0182),
    )  # fmt: skip


def test_what_has_no_unit_is_compared_as_written() -> None:
    rule = {key: value for key, value in USUAL.items() if key not in {"unit", "at_or_below"}}
    spec = spec_of({**rule, "measure": "robust_z", "above": 3.5, "least_spread": 1})
    assert (spec.op, spec.enter, spec.leave, spec.a) == (Op.ROBUST_Z, 3.5, 3.5, 1.0)
    share = spec_of(
        {**WEIGHT, "vital": "glucose_isf", "unit": "mmol/L", "measure": "share_below", "under": 3.9, "at_or_above": 4}
    )
    assert (share.enter, share.a) == (4, pytest.approx(3.9 * 18.0182))
    assert share.unit == UNIT_BY_NAME["%"].code


@pytest.mark.parametrize(
    ("rule", "measures", "expected"),
    [
        ({"at_or_above": 5}, {}, ("news2", 5, 4, 1, 0, 2)),
        ({"at_or_above": 5}, {"spo2": "continuous"}, ("news2", 5, 4, 2, 60, 1)),
        ({"at_or_above": 7}, {"spo2": "continuous"}, ("news2", 7, 6, 1, 60, 1)),
        ({"at_or_above": 5}, {"weight": "continuous"}, ("news2", 5, 4, 1, 0, 2)),
        ({"above": 4}, {}, ("news2", 4, 4, 1, 0, 2)),
        ({"at_or_above": 5, "clear": 2}, {}, ("news2", 5, 2, 1, 0, 2)),
        ({"any_red": True}, {"resp_rate": "continuous"}, ("news2_red", 1, 0, 2, 60, 1)),
    ],
)
def test_scores_persist_by_mode_and_height(
    rule: dict[str, Any], measures: dict[str, str], expected: tuple[str, float, float, int, int, int]
) -> None:
    base = {key: value for key, value in SCORE.items() if key != "at_or_above"}
    spec = only(compiled({**base, **rule}, measures=measures)).spec
    key, enter, leave, readings, off_s, off_count = expected
    assert (spec.kind, spec.vital, spec.enter, spec.leave) == (Kind.SCORE, BY_KEY[key].code, enter, leave)
    assert (spec.on_count, spec.off_delay_ns // SECOND, spec.off_count) == (readings, off_s, off_count)


def test_troubles_are_of_devices_or_of_the_readings_of_a_vital() -> None:
    battery = {"id": "T1", "type": "technical", "title": "Battery", "severity": "T", "trouble": "battery"}
    fault = {**STUCK, "id": "T2", "trouble": "sensor_fault", "after_s": 300}
    found = compiled(battery, STUCK, fault, measures={"spo2": "continuous"})
    (trouble,) = found.troubles
    assert (trouble.cause, trouble.after_ns, trouble.severity, trouble.face.technical) == ("battery", 0, 3, True)
    stuck, faulty = (rule.spec for rule in found.rules)
    assert (stuck.kind, stuck.enter, stuck.leave, stuck.window_ns) == (Kind.STUCK, 60.0, 60.0, 3600 * SECOND)
    assert (faulty.kind, faulty.enter, faulty.on_delay_ns) == (Kind.FAULT, 1.0, 300 * SECOND)
    assert {spec.severity for spec in (stuck, faulty)} == {3}


@pytest.mark.parametrize(
    ("severity", "owner"),
    [
        ("S1", ("clinician", 300, 900, False)), ("S2", ("nurse", 3600, 3600, False)),
        ("S3", ("nurse", 86400, 86400, False)), ("T", ("technician", 86400, 86400, True)),
    ],
)  # fmt: skip
def test_who_owns_an_alert_where_a_rule_does_not_say(severity: str, owner: tuple[str, int, int, bool]) -> None:
    face = only(compiled({**LOW, "severity": severity})).face
    assert (face.role, face.sla_s, face.recheck_s, face.technical) == owner
    assert (face.name, face.title, face.cause, face.version) == ("test:A1", "Low saturation", "oxygenation", 1)
    own = only(compiled({**LOW, "role": "doctor", "sla_s": 60, "recheck_s": 120, "cause": "lungs", "advice": "x"})).face
    assert (own.role, own.sla_s, own.recheck_s, own.cause, own.advice) == ("doctor", 60, 120, "lungs", "x")


def test_every_vital_has_an_incident_to_join() -> None:
    for vital in BY_KEY.values():
        if not vital.panel and not vital.derived:
            rule = {**LOW, "vital": vital.key, "unit": vital.unit, "deadband": 0}
            assert only(compiled(rule)).face.cause
    assert only(compiled(SCORE)).face.cause == "score"
    assert compiled(SILENT).silences[0].face.cause == "monitoring"
    assert only(compiled(BOTH)).face.cause == "blood pressure"


def test_a_rule_is_watched_on_each_vital_that_measures_the_same() -> None:
    rule = {**LOW, "vital": "heart_rate", "also_on": ["pulse_rate"], "unit": "/min"}
    first, second = compiled(rule, measures={"pulse_rate": "continuous"}).rules
    assert (first.face.name, second.face.name) == ("test:A1", "test:A1@pulse_rate")
    assert second.face.title == "Low saturation (Pulse rate (oximeter))"
    assert (first.spec.continuous, second.spec.continuous) == (0, 1)
    members = [MEMBERS[1], {**MEMBERS[0], "vital": "heart_rate", "also_on": ["pulse_rate"], "unit": "/min"}]
    one, two = compiled({**BOTH, "members": members}).rules
    assert [part.spec.vital for part in two.members] == [BY_KEY["symptoms"].code, BY_KEY["pulse_rate"].code]
    assert [part.face.name for part in two.members] == ["test:A3@pulse_rate#1", "test:A3@pulse_rate#2"]
    assert one.spec == two.spec


GATES: dict[str, tuple[list[Any], Any, Any]] = {
    # member: what can be recorded, wanted, while nobody has recorded it
    "age_band": (["adult", "under_16"], "adult", "unknown"),
    "pregnancy": (["yes", "no"], "yes", "unknown"),
    "oxygen": (["yes", "no"], "yes", "unknown"),
    "spo2_scale": ([2, 1], 2, 0),
    "known_af": (["yes", "no"], "yes", "unknown"),
    "postpartum": (["yes", "no"], "yes", "unknown"),
    "mechanical_support": (["yes", "no"], "yes", "unknown"),
    "trained_or_paced": (["yes", "no"], "yes", "unknown"),
}


@pytest.mark.parametrize("key", GATES)
def test_unknown_is_neither_yes_nor_no(key: str) -> None:
    (equal, other), wanted, unset = GATES[key]
    gate, free = Gate(**{key: wanted}), Gate()
    at = {value: PatientContext()._replace(**{key: value}) for value in (equal, other, unset)}
    assert shut(gate, free, at[equal]) is None
    assert "is not recorded" in str(shut(gate, free, at[unset]))
    assert shut(gate, free, at[other]) == said(key, other) != said(key, equal)
    assert shut(free, gate, at[equal])
    assert shut(free, gate, at[unset]) is None
    assert shut(free, gate, at[other]) is None
    assert shut(free, free, at[unset]) is None


def test_several_gates_all_want_and_any_bars() -> None:
    requires, unless = Gate(oxygen="yes", spo2_scale=2), Gate(pregnancy="yes", known_af="yes")
    fits = PatientContext("adult", "unknown", "yes", 2, "no")
    assert shut(requires, unless, fits) is None
    assert shut(requires, unless, fits._replace(spo2_scale=0)) == said("spo2_scale", 0)
    assert shut(requires, unless, fits._replace(oxygen="no")) == "the patient gets no oxygen"
    assert shut(requires, unless, fits._replace(pregnancy="yes")) == "the patient is pregnant"


@pytest.mark.parametrize(
    ("first", "second", "never"),
    [
        ((Gate(oxygen="yes"), Gate()), (Gate(oxygen="no"), Gate()), True),
        ((Gate(oxygen="yes"), Gate()), (Gate(), Gate(oxygen="yes")), True),
        ((Gate(), Gate(oxygen="yes")), (Gate(oxygen="yes"), Gate()), True),
        ((Gate(oxygen="yes"), Gate()), (Gate(oxygen="yes"), Gate()), False),
        ((Gate(oxygen="yes"), Gate()), (Gate(), Gate(oxygen="no")), False),
        ((Gate(oxygen="yes"), Gate()), (Gate(pregnancy="no"), Gate()), False),
        ((Gate(), Gate()), (Gate(), Gate()), False),
    ],
)
def test_which_rules_never_meet(first: tuple[Gate, Gate], second: tuple[Gate, Gate], never: bool) -> None:
    assert exclusive(first, second) is never


def test_a_gated_rule_is_listed_with_the_reason() -> None:
    found = compile_protocols(adopted(SHIPPED["copd"]), ADULT)
    assert ("copd:P3", "it is not recorded whether the patient gets oxygen") in found.gated
    assert "copd:P3" not in {rule.face.name for rule in found.rules}


def test_an_override_is_the_patients_own_and_says_so() -> None:
    found = compiled(LOW, overrides=(over("test:A1", {"at_or_below": 88, "spot": {"readings": 1}}),))
    rule = only(found)
    assert (rule.spec.enter, rule.spec.on_count, rule.face.override) == (88, 1, 4)
    assert only(compiled(LOW)).face.override == 0


def test_a_rule_that_is_off_is_gone_and_listed() -> None:
    found = compiled(LOW, overrides=(over("test:A1", None),))
    assert found.rules == ()
    assert found.gated == (("test:A1", "switched off for this patient (enrolment 4)"),)


def test_an_override_can_open_and_close_gates() -> None:
    gated = {**LOW, "requires": {"oxygen": "yes"}}
    assert only(compiled(gated, overrides=(over("test:A1", {"requires": {"oxygen": None}}),))).face.override == 4
    assert compiled(LOW, overrides=(over("test:A1", {"requires": {"oxygen": "yes"}}),)).rules == ()


@pytest.mark.parametrize("changes", [{"at_or_below": "low"}, {"above": 99}, {"clear": 3}])
def test_an_override_that_does_not_fit_leaves_the_rule_in_force(changes: dict[str, Any]) -> None:
    rule = only(compiled(LOW, overrides=(over("test:A1", changes), over("test:gone", {"x": 1}))))
    assert (rule.spec.enter, rule.face.override) == (90, 0)


def test_a_rule_that_comes_twice_is_watched_once() -> None:
    twice = (*adopted(parsed(LOW)), *adopted(parsed({**LOW, "at_or_below": 80}), programme="other"))
    assert only(compile_protocols(twice, ADULT)).spec.enter == 90


@pytest.mark.parametrize(
    ("rules", "members", "asked"),
    [
        ((LOW,), {}, False),
        ((LOW,), {"score": {}}, True),
        ((SCORE,), {}, True),
        (({**BOTH, "members": [MEMBERS[0], {"type": "score", "at_or_above": 3}]},), {}, True),
    ],
)
def test_scores_are_asked_for_by_settings_or_by_rules(
    rules: tuple[dict[str, Any], ...], members: dict[str, Any], asked: bool
) -> None:
    assert (compiled(*rules, **members).score is not None) is asked


def test_a_score_is_told_how_vitals_are_measured_and_what_may_be_assumed() -> None:
    one = parsed(SCORE, measures={"spo2": "continuous"}, score={"assume_air": True})
    two = parsed(LOW, measures={"spo2": "spot", "temp": "spot"}, score={"assume_alert": True}).model_copy(
        update={"name": "two"}
    )
    score = compile_protocols((Adopted("a", 1, (one,)), Adopted("b", 1, (two,))), ADULT).score
    assert score is not None
    said = dict(score.measures)
    assert (said["spo2"], said["temp"], score.assume_air, score.assume_alert) == (True, False, True, True)
    # A rule of a score has all inputs of it taken, also those of which no programme says how.
    assert said.keys() == {key for keys in SOURCES.values() for key in keys}
    settings = compile_protocols((Adopted("b", 1, (two,)),), ADULT).score
    assert settings is not None
    assert settings.measures == (("spo2", False), ("temp", False)), "settings alone have taken what they name"


@pytest.mark.skipif(sys.gettrace() is not None, reason="tracing takes the time that is measured")
def test_ten_thousand_patients_share_one_object_at_little_cost() -> None:
    sets = adopted(*SHIPPED.values())
    first = compile_protocols(sets, PatientContext("adult"), ())
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(2000):
            found = compile_protocols(sets, PatientContext("adult"), ())
        best = min(best, time.perf_counter() - begin)
    assert found is first
    assert best / 2000 < 10e-6, "a tenth of a second for all; the key has twelve members of the context"


def test_equal_inputs_share_one_object_however_they_came_about() -> None:
    again = [parsed(LOW), parsed(LOW)]
    assert again[0] is not again[1]
    found = [
        compile_protocols(adopted(one), PatientContext("adult"), (over("test:A1", {"advice": "x"}),)) for one in again
    ]
    assert found[0] is found[1]
