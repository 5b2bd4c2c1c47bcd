"""Backtests against labelled onsets, and what a file can tell of silence and of readings that nobody repeated."""

import tomllib
from importlib import resources
from typing import Any

import pytest

from alerts.backtest.labelled import Detection, Onset, detection, wilson
from alerts.backtest.rules import Decisions, rule_set
from alerts.backtest.run import Coverage, Raised, RuleSet, RuleSetOutcome, RuleSetReplay, Span, lockstep
from tests.alerts.alert_world import at, batch, limit, reading
from tests.alerts.test_backtest import DAY, MINUTE, minutes, result, rules
from vitals.model import VitalBatch

KNOWN = {"version": 1, "reason": "asked", "age_band": "adult", "pregnancy": "no", "oxygen": "no", "spo2_scale": 1}


def told(at_min: float, severity: int = 2, patient: str = "p_1", **changes: object) -> Raised:
    """An alert that was told once."""
    at_ns = at(at_min * 60)
    one = Raised(patient, "r", "spo2 low", severity, at_ns, "words", history=[(at_ns, severity, "words")])
    for name, value in changes.items():
        setattr(one, name, value)
    return one


def found(*alerts: Raised, onset_min: float = 100.0) -> Detection:
    return detection([Onset("p_1", at(onset_min * 60))], alerts, 7)


@pytest.mark.parametrize(("at_min", "hit"), [(39.9, False), (40, True), (100, True), (110, True), (110.1, False)])
def test_an_onset_is_found_from_an_hour_before_to_ten_minutes_after_it(at_min: float, hit: bool) -> None:
    [_, medium, _] = found(told(at_min)).curve
    assert (medium.hits, medium.sensitivity) == ((1, 1.0) if hit else (0, 0.0))
    assert medium.lead_s == (pytest.approx((100 - at_min) * 60) if hit else None)
    assert medium.outside_per_patient_week == (0.0 if hit else 1.0)


def test_the_curve_takes_more_and_more_severities() -> None:
    curve = found(told(90, 2), told(10, 1), told(95, 3)).curve
    assert [(one.severity, one.hits, one.alerts_per_patient_week) for one in curve] == [
        ("S1", 0, 1.0), ("S2", 1, 2.0), ("S3", 1, 3.0),
    ]  # fmt: skip


def test_what_got_worse_later_is_told_again() -> None:
    one = told(0, 2)
    one.severity = 1
    one.history.append((at(95 * 60), 1, "worse"))
    urgent, medium, _ = found(one).curve
    assert (urgent.hits, urgent.lead_s) == (1, 300.0)
    assert (medium.hits, medium.outside_per_patient_week) == (1, 0.0)


def test_another_patients_alert_silence_and_troubles_announce_nothing() -> None:
    curve = found(told(90, patient="p_2"), told(90, silent=True), told(90, rule="technical:battery:d")).curve
    assert [one.hits for one in curve] == [0, 0, 0]
    assert curve[-1].outside_per_patient_week == 1.0


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_the_interval_is_that_of_wilson(hits: int, of: int, low: float, high: float) -> None:
    assert wilson(hits, of) == (low, high)


def test_the_report_has_the_detection_of_both_sides() -> None:
    urgent, mild = rules(limit(severity="S1")), rules(limit(low=80.0), name="against")
    readings = batch(*minutes(95, 85, 85, 95))
    assert result(urgent, mild, readings).candidate.detection is None
    events = [Onset("p_1", at(120))]
    reported = result(urgent, mild, readings, events=events)
    assert reported.candidate.detection is not None
    assert reported.reference.detection is not None
    assert [one.hits for one in reported.candidate.detection.curve] == [1, 1, 1]
    assert [one.hits for one in reported.reference.detection.curve] == [0, 0, 0]


def protocol(name: str) -> RuleSet:
    document = tomllib.loads((resources.files("alerts") / "protocols" / f"{name}.toml").read_text())
    return rule_set("candidate", document, ["p_1"], Decisions(contexts={"p_1": {"patient": "p_1", **KNOWN}}), at(-DAY))


def replay(rules: RuleSet, *batches: VitalBatch, to: float, whole: bool) -> RuleSetOutcome:
    span = Span(at(0), at(to), at(0), whole=whole)
    [outcome] = lockstep(batches, Coverage(span), [RuleSetReplay(rules, span, ["p_1", "p_2"])])
    return outcome


@pytest.mark.parametrize("whole", [False, True])
def test_in_a_file_no_silence_comes_after_a_patients_last_reading(whole: bool) -> None:
    sensor = {"vital": "glucose_isf"}
    first = batch(*minutes(*[120.0] * 5, **sensor))
    # Two hours without a reading, then readings again, and another patient's for a day.
    again = batch(*minutes(*[120.0] * 5, first=7200.0, **sensor))
    other = batch(reading(DAY - MINUTE, 120.0, patient="p_2", **sensor))
    alerts = replay(protocol("diabetes"), first, again, other, to=DAY, whole=whole).alerts
    silences = [one for one in alerts if one.rule in {"diabetes:D7", "diabetes:D7-long"}]
    assert all(one.silent for one in silences)
    inside = [one for one in silences if one.raised_ns < at(7200)]
    assert [one.rule for one in inside] == ["diabetes:D7"], "a gap between readings is a silence"
    assert (len(silences) > 1) is not whole


def test_no_silence_of_a_protocol_comes_after_the_end() -> None:
    sensor = {"vital": "glucose_isf"}
    alerts = replay(protocol("diabetes"), batch(*minutes(*[120.0] * 5, **sensor)), to=400.0, whole=False).alerts
    assert alerts == []


@pytest.mark.parametrize(("second", "promotions"), [([], 1), ([reading(301.0, 86.0)], 0)])
def test_a_lone_urgent_reading_that_nobody_repeats_is_a_promotion(
    second: list[dict[str, Any]], promotions: int
) -> None:
    [one] = replay(protocol("copd"), batch(reading(0.0, 86.0), *second), to=3600.0, whole=False).alerts
    assert [severity for _, severity, _ in one.history] == [2, 1]
    assert (one.severity, one.promotions, one.text) == (1, promotions, one.history[-1][2])
    assert one.text != one.history[0][2], "the words are the last ones"


def test_a_rule_with_many_promotions_is_over_the_budget() -> None:
    readings = batch(reading(0.0, 86.0), reading(4 * DAY, 97.0), reading(6.9 * DAY, 97.0))
    side = result(protocol("copd"), rules(limit(low=80.0), name="against"), readings, to=7 * DAY).candidate
    [row] = [row for row in side.rules if row.promotions]
    assert (row.rule, row.promotions, side.promoting) == ("copd:P1-red", 1, ["copd:P1-red"])
    assert side.promotions_per_patient_week == pytest.approx(7 / 3, abs=1e-4), "of days with readings"
    assert side.within_budget is False
