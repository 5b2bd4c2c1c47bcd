"""Limits as people write them: refused with the path of the wrong word, compiled to canonical thresholds."""

import math
from typing import Any

import pytest

from alerts.rules.limits import MAX_LIMITS, compile_limit, describe_limit, parse_limits
from alerts.rules.spec import RuleSpec
from tests.alerts.alert_world import limit
from vitals.errors import InvalidRequest
from vitals.glossary import Flag
from vitals.units import to_canonical

GLUCOSE = {"vital": "glucose_isf", "unit": "mmol/L", "low": 3.9, "deadband": 0.3}


def spec_of(**changes: Any) -> RuleSpec:
    return compile_limit(parse_limits([limit(**changes)])[0])[0]


@pytest.mark.parametrize(
    ("wrong", "path", "words"),
    [
        ({"vital": "pulse"}, "[1].vital", "catalogue"),
        ({"vital": "bp", "unit": "mm[Hg]"}, "[1].vital", "bp_sys, bp_dia"),
        ({"unit": "kg"}, "[1].unit", "does not measure spo2"),
        ({"unit": "furlong"}, "[1].unit", "does not measure"),
        ({"low": None}, "[1]", "needs low or high"),
        ({"low": math.nan}, "[1].low", "finite"),
        ({"low": math.inf}, "[1].low", "finite"),
        ({"low": 1e308, "unit": "{fraction}"}, "[1].low", "less than or equal to"),
        ({"low": "90"}, "[1].low", "number"),
        ({"low": True}, "[1].low", "number"),
        ({"high": 90.0}, "[1].high", "above low"),
        ({"high": 85.0}, "[1].high", "above low"),
        ({"severity": "S4"}, "[1].severity", "S1"),
        ({"deadband": -1.0}, "[1].deadband", "greater than or equal to 0"),
        ({"high": 92.0, "deadband": 2.0}, "[1].deadband", "span"),
        ({"on_delay_s": -1.0}, "[1].on_delay_s", "greater than or equal to 0"),
        ({"on_delay_s": 12 * 3600.0}, "[1].on_delay_s", "longer than staleness"),
        (GLUCOSE | {"on_delay_s": 900.0}, "[1].on_delay_s", "longer than staleness"),
        ({"off_delay_s": 1e9}, "[1].off_delay_s", "less than or equal to"),
        ({"colour": "red"}, "[1].colour", "not permitted"),
        ({"severity": "S1"}, "[1].low", "two of limit:spo2:low:S1"),
    ],
)
def test_a_wrong_word_is_refused_with_its_path(wrong: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_limits([limit(severity="S1"), limit(**wrong)])
    assert caught.value.field == path
    assert words in str(caught.value)


@pytest.mark.parametrize("payload", [None, {}, "limits", 3])
def test_what_is_no_list_is_refused(payload: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_limits(payload)
    assert caught.value.field == "limits"


def test_a_patient_has_at_most_so_many_limits() -> None:
    with pytest.raises(InvalidRequest, match=f"at most {MAX_LIMITS}"):
        parse_limits([limit()] * (MAX_LIMITS + 1))


def test_two_severities_for_one_side_are_two_slots() -> None:
    parsed = parse_limits([limit(severity="S1", low=85.0), limit(severity="S2", high=99.5)])
    specs = [spec for item in parsed for spec in compile_limit(item)]
    assert [(spec.side, spec.severity) for spec in specs] == [(0, 1), (0, 2), (1, 2)]


def test_longest_delay_is_just_under_staleness() -> None:
    assert spec_of(**GLUCOSE, on_delay_s=899.0).on_delay_ns == 899_000_000_000


def test_limits_convert_exactly_as_values_do() -> None:
    spec = spec_of(**GLUCOSE)
    assert spec.enter == float(to_canonical(3.9, "mmol/L", "mg/dL"))
    # 3.9 + 0.3 as a person counts: a reading of 4.2 leaves.
    assert spec.leave == float(to_canonical(4.2, "mmol/L", "mg/dL"))


@pytest.mark.parametrize(
    ("changes", "enter", "leave"),
    [
        ({"vital": "temp", "unit": "[degF]", "low": None, "high": 100.4, "deadband": 1.8}, 38.0, 37.0),
        ({"unit": "{fraction}", "low": 0.88, "deadband": 0.02}, 88.0, 90.0),
        ({"vital": "bp_sys", "unit": "mmHg", "low": None, "high": 180.0, "deadband": 5.0}, 180.0, 175.0),
    ],
)
def test_a_deadband_is_a_difference_in_the_limits_unit(changes: dict[str, Any], enter: float, leave: float) -> None:
    spec = spec_of(**changes)
    assert (spec.enter, spec.leave) == pytest.approx((enter, leave))


def test_units_are_kept_in_ucum() -> None:
    assert parse_limits([limit(vital="bp_sys", unit="mmHg", low=90.0)])[0].unit == "mm[Hg]"


@pytest.mark.parametrize(
    ("changes", "value", "flags", "text"),
    [
        (
            {"vital": "glucose_isf", "unit": "mg/dL", "low": 70.0}, 62.0, 0,
            "Interstitial glucose (CGM) 62 mg/dL, limit 70 mg/dL (low)",
        ),
        (
            {"vital": "glucose_isf", "unit": "mg/dL", "low": 70.0}, 69.7, 0,
            "Interstitial glucose (CGM) 69.7 mg/dL, limit 70 mg/dL (low)",
        ),
        (GLUCOSE, 62.0, 0, "Interstitial glucose (CGM) 3.4 mmol/L, limit 3.9 mmol/L (low)"),
        (
            GLUCOSE, math.nan, int(Flag.BELOW_RANGE),
            "Interstitial glucose (CGM) below the sensor's range, limit 3.9 mmol/L (low)",
        ),
        (
            {"vital": "glucose_isf", "unit": "mg/dL", "low": None, "high": 250.0}, 400.0, int(Flag.ABOVE_RANGE),
            "Interstitial glucose (CGM) above the sensor's range, limit 250 mg/dL (high)",
        ),
        (
            {"vital": "temp", "unit": "[degF]", "low": None, "high": 100.4, "deadband": 0.0}, 39.0, 0,
            "Body temperature 102.2 °F, limit 100.4 °F (high)",
        ),
        ({"unit": "{fraction}", "low": 0.9, "deadband": 0.0}, 88.0, 0, "Oxygen saturation 0.88, limit 0.9 (low)"),
        (
            {"vital": "acvpu", "unit": "{code}", "low": None, "high": 0.0, "deadband": 0.0}, 2.0, 0,
            "Level of responsiveness V, limit A (high)",
        ),
        (
            {"vital": "acvpu", "unit": "{code}", "low": None, "high": 0.0, "deadband": 0.0}, 9.0, 0,
            "Level of responsiveness code 9, limit A (high)",
        ),
        ({}, 90.0, 0, "Oxygen saturation 90 %, limit 90 % (low)"),
        ({}, 89.99999, 0, "Oxygen saturation 90.000 %, limit 90 % (low)"),
    ],
)  # fmt: skip
def test_a_reading_is_told_in_a_nurses_words(changes: dict[str, Any], value: float, flags: int, text: str) -> None:
    assert describe_limit(spec_of(**changes), value, flags) == text
