"""NEWS2 in words: the whole, and parameter by parameter value, points and age."""

from typing import Any

import pytest

from alerts.scores.news2 import Latest, Programme
from alerts.scores.tables import NO_SCORE, AgeBand, Parameter, Pregnancy, Validity
from alerts.scores.words import explain
from tests.alerts.news2_world import HOME, NOW, WELL, score
from vitals.glossary import Flag, Mode
from vitals.times import HOUR_NS, MINUTE_NS

ILL = {"resp_rate": 28, "spo2": 91, "o2_flow": 2, "bp_sys": 90, "heart_rate": 131, "acvpu": 2, "temp": 39.1}


def texts(*args: Any, **changes: Any) -> list[str]:
    return [part.text for part in explain(score(*args, **changes), 0).parts]


def headline(*args: Any, **changes: Any) -> str:
    return explain(score(*args, **changes), 0).text


def test_a_complete_score_in_words() -> None:
    told = explain(score(WELL, ILL), 1)
    assert told.text == (
        "NEWS2 19, high risk: immediate contact and the local emergency pathway; "
        "3 points alone: respiratory rate, oxygen saturation, systolic blood pressure, pulse and consciousness"
    )
    assert [part.text for part in told.parts] == [
        "Respiratory rate 28 per minute, 1 min ago: 3 points", "Oxygen saturation 91 %, 1 min ago: 3 points",
        "Inhaled oxygen flow 2 L/min, 1 min ago: 2 points", "Systolic blood pressure 90 mmHg, 1 min ago: 3 points",
        "Heart rate 131 per minute, 1 min ago: 3 points", "Consciousness responds to voice, 1 min ago: 3 points",
        "Temperature 39.1 °C, 1 min ago: 2 points",
    ]  # fmt: skip
    part = told.parts[Parameter.PULSE]
    assert (part.vital, part.value, part.time_ns) == ("heart_rate", 131.0, NOW - MINUTE_NS)
    assert (part.parameter, part.low, part.high, part.validity) == (Parameter.PULSE, 3, 3, Validity.KNOWN)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "NEWS2 0, low risk: routine monitoring"),
        ({"temp": 38.5},
         "NEWS2 1, low risk: a registered nurse assesses and decides on frequency and escalation"),
        ({"acvpu": 1},
         "NEWS2 3, low-medium risk: urgent review by the medical team; 3 points alone: consciousness"),
        ({"acvpu": 1, "resp_rate": 21},
         "NEWS2 5, medium risk: phone contact within the hour; 3 points alone: consciousness"),
        ({"bp_sys": None, "temp": None},
         "NEWS2 0 to 6, low to medium risk: routine monitoring; "
         "still to measure: systolic blood pressure and temperature"),
    ],
)  # fmt: skip
def test_the_whole_in_one_sentence(changes: dict[str, Any], expected: str) -> None:
    assert headline({**WELL, **changes}) == expected


def test_the_worked_example_of_the_docstring() -> None:
    [example] = [part for part in (explain.__doc__ or "").split("``") if part.startswith("NEWS2 17")]
    assert headline({**ILL, "temp": None}) == " ".join(example.split())


def test_what_is_missing_says_why() -> None:
    patient = {
        "resp_rate": Latest(18, NOW - 2 * HOUR_NS), "spo2": 97, "pulse_rate": 72,
        "bp_sys": Latest(120, NOW - 13 * HOUR_NS - 5 * MINUTE_NS),
        "acvpu": Latest(0, NOW - 60 * HOUR_NS), "temp": Latest(36.8, NOW, int(Flag.TEST_DATA)),
    }  # fmt: skip
    assert texts(patient) == [
        "Respiratory rate 18 per minute, 2 h ago, more than 30 min before the newest of its set: 0 to 3 points",
        "Oxygen saturation 97 %, 1 min ago: 0 points", "Air or oxygen not measured: 0 to 2 points",
        "Systolic blood pressure 120 mmHg, 13 h 5 min ago, counts for 12 h: 0 to 3 points",
        "Pulse rate (oximeter) 72 per minute, 1 min ago: 0 points",
        "Consciousness alert, 2 days ago, counts for 12 h: 0 to 3 points",
        "Temperature: the latest value, now, cannot be scored: 0 to 3 points",
    ]  # fmt: skip


def test_a_part_that_was_never_measured_has_no_value() -> None:
    part = explain(score({**WELL, "temp": None}), 0).parts[Parameter.TEMP]
    assert (part.vital, part.value, part.time_ns, part.validity) == ("", None, None, Validity.ABSENT)


def test_values_read_as_they_were_scored() -> None:
    given = texts({**WELL, "temp": 38.05, "pulse_rate": 90.5, "resp_rate": Latest(11.6, NOW, int(Flag.SUSPECT))})
    assert given[Parameter.TEMP] == "Temperature 38.1 °C, 1 min ago: 1 point"
    assert given[Parameter.PULSE] == "Pulse rate (oximeter) 91 per minute, 1 min ago: 1 point"
    assert given[Parameter.RESP_RATE] == "Respiratory rate 12 per minute, now, doubtful: 0 points"


def test_beyond_the_sensor_and_scale_2() -> None:
    given = texts({**WELL, "spo2": Latest(float("nan"), NOW, int(Flag.BELOW_RANGE))})
    assert given[Parameter.SPO2] == "Oxygen saturation below the sensor's range, now: 3 points"
    given = texts({**WELL, "temp": Latest(42.0, NOW, int(Flag.ABOVE_RANGE))})
    assert given[Parameter.TEMP] == "Temperature above the sensor's range, now: 2 points"
    given = texts({**WELL, "o2_flow": Latest(15.0, NOW, int(Flag.ABOVE_RANGE))})
    assert given[Parameter.OXYGEN] == "Inhaled oxygen flow above the sensor's range, now: 2 points"
    given = texts({**WELL, "o2_flow": None}, spo2_scale=[2])
    assert given[Parameter.SPO2] == "Oxygen saturation 97 % (scale 2, target 88-92 %), 1 min ago: 0 to 3 points"


def test_confusion_is_new_unless_it_is_usual() -> None:
    assert texts({**WELL, "acvpu": 1})[Parameter.ACVPU] == "Consciousness newly confused, 1 min ago: 3 points"
    given = texts({**WELL, "acvpu": 1}, usual_confusion=[True])
    assert given[Parameter.ACVPU] == "Consciousness confused as usual, 1 min ago: 0 points"


def test_what_was_assumed_is_said() -> None:
    patient = {**WELL, "acvpu": None, "o2_flow": None}
    assert headline(patient, programme=HOME) == (
        "NEWS2 0, low risk: routine monitoring; assumed: air or oxygen and consciousness"
    )
    given = texts(patient, programme=HOME)
    assert given[Parameter.OXYGEN] == "Breathing air, assumed by the programme: 0 points"
    assert given[Parameter.ACVPU] == "Consciousness alert, assumed by the programme: 0 points"


def test_hidden_and_refused_scores_show_no_number() -> None:
    programme = Programme({key: Mode.SPOT for key in WELL if key not in {"resp_rate", "temp"}})
    patient = {**WELL, "resp_rate": None}
    assert headline(patient, programme=programme) == (
        "NEWS2 is not shown: the programme does not measure respiratory rate"
    )
    refused = score(*[WELL] * 3, age_band=[AgeBand.UNDER_16, AgeBand.UNKNOWN, AgeBand.ADULT],
                    pregnancy=[Pregnancy.NO, Pregnancy.NO, Pregnancy.YES])  # fmt: skip
    assert [explain(refused, row).text for row in range(3)] == [
        "NEWS2 does not apply: the patient is under 16", "NEWS2 does not apply: the age band is not recorded",
        "NEWS2 does not apply: the patient is pregnant",
    ]  # fmt: skip
    part = explain(refused, 2).parts[Parameter.TEMP]
    assert (part.text, part.low, part.high) == ("Temperature 36.8 °C, 1 min ago", NO_SCORE, NO_SCORE)


def test_a_pregnancy_that_is_not_recorded_is_said() -> None:
    assert headline(WELL, pregnancy=[Pregnancy.UNKNOWN]).endswith("; whether pregnant is not recorded")
