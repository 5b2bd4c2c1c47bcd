"""Every kind of rule through the engine: what raises it, what does not, what ends it, and how rules come and go."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from alerts.rules.protocol import parse_protocol
from tests.alerts.alert_world import Ward, at, batch, control, kinds, reading
from tests.alerts.programme_world import (
    TICK,
    Enrolled,
    Row,
    daily,
    day,
    document,
    enrolled,
    of_rule,
    programme,
    rows,
    steps,
)
from tests.alerts.protocol_world import doc
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind, EventKind, Flag, Severity
from vitals.model import Control, DeviceEvent
from vitals.records import AlertEvent

CGM = "glucose_isf"
MINUTE, HOUR, DAY = 60, 3600, 86_400
RULE: dict[str, Any] = {
    "id": "A", "type": "limit", "title": "Low saturation", "severity": "S2", "vital": "spo2", "unit": "%",
    "at_or_below": 90,
}  # fmt: skip
STRICT = RULE | {"severity": "S1", "spot": {"readings": 2, "apart_s": 300}}
BOTH = {
    "id": "C", "type": "combination", "title": "Low pressure with symptoms", "severity": "S1", "within_s": 3600,
    "members": [
        {"type": "limit", "vital": "bp_sys", "unit": "mm[Hg]", "below": 90, "spot": {"readings": 1}},
        {"type": "limit", "vital": "symptoms", "unit": "{code}", "at_or_above": 1},
    ],
}  # fmt: skip
CONTINUOUS = {"measures": {"spo2": "continuous"}}
A, C = "test:A", "test:C"


def own(*rules: dict[str, Any], context: dict[str, Any] | None = None, **members: Any) -> Enrolled:
    """A patient under these rules of the protocol ``test``."""
    return Enrolled(doc(*rules, **members), **(context or {}))


def raised(events: Sequence[AlertEvent]) -> set[str]:
    return {event.rule for event in events if event.kind == "raised"}


class TestLimits:
    def test_a_median_takes_no_notice_of_one_reading(self) -> None:
        ward = own(RULE | {"continuous": {"for_s": 0, "median_of": 3}}, **CONTINUOUS)
        assert ward.feed(rows("spo2", 97, 85, 97, 98, every=10)) == []
        (event,) = ward.feed(rows("spo2", 86, 88, start=60, every=10))
        assert event.text == "Oxygen saturation 88 %, limit 90 % (low)", "the median of 98, 86 and 88"

    @pytest.mark.parametrize(
        ("hour", "tz_min", "told"), [(12, 0, True), (23, 0, False), (3, 0, False), (6, 60, True), (12, 720, False)]
    )
    def test_readings_of_other_hours_of_the_patients_day_do_not_count(
        self, hour: float, tz_min: int, told: bool
    ) -> None:
        ward = own(RULE | {"spot": {"readings": 1}, "from_min": 420, "to_min": 1320})
        assert bool(ward.feed([(day(0, hour), "spo2", 85)], tz_min=tz_min)) is told

    @pytest.mark.parametrize(("hour", "told"), [(21.9, False), (22, True), (3, True), (7, False)])
    def test_the_hours_may_pass_midnight(self, hour: float, told: bool) -> None:
        ward = own(RULE | {"spot": {"readings": 1}, "from_min": 1320, "to_min": 420})
        assert bool(ward.feed([(day(1, hour), "spo2", 85)])) is told

    def test_a_low_value_at_night_does_not_end_what_began_by_day(self) -> None:
        ward = own(RULE | {"spot": {"readings": 1, "clear_readings": 1}, "from_min": 420, "to_min": 1320})
        ward.feed([(day(0, 21), "spo2", 85)])
        assert ward.feed([(day(0, 23), "spo2", 85)]) == []
        assert kinds(ward.feed([(day(0, 23.5), "spo2", 95)])) == ["resolved"], "a good one does at any hour"

    def test_two_readings_count_when_they_are_apart(self) -> None:
        ward = own(RULE | {"spot": {"readings": 2, "apart_s": 300}})
        assert ward.feed([(0, "spo2", 88), (200, "spo2", 87)]) == []
        assert kinds(ward.feed([(300, "spo2", 89)])) == ["raised"]

    def test_a_good_one_between_them_starts_anew(self) -> None:
        ward = own(RULE | {"spot": {"readings": 2, "apart_s": 300}})
        assert ward.feed([(0, "spo2", 88), (200, "spo2", 95), (300, "spo2", 89)]) == []
        assert ward.engine.near_misses_by_rule("p_1") == {A: 1}

    @pytest.mark.parametrize(("value", "pages"), [(87, True), (88, False)])
    def test_a_first_urgent_reading_is_a_task_at_once(self, value: float, pages: bool) -> None:
        (event,) = own(STRICT).feed([(0, "spo2", value)])
        assert (event.kind, event.severity, event.rule, event.role) == (
            "raised",
            Severity.S2,
            f"{A}:confirm",
            "clinician",
        )
        assert event.page is pages, "who may become S1 is asked for now"
        assert event.text.endswith("beyond an urgent limit once: please repeat the measurement now")

    @pytest.mark.parametrize(
        ("value", "said", "severity", "why"),
        [(87, {}, Severity.S1, "no second reading within 15 minutes"), (88, {}, Severity.S2, "repeat not taken"),
         (88, {"unanswered": "S1"}, Severity.S1, "no second reading within 15 minutes"),
         (86, {"unanswered": "S2"}, Severity.S2, "repeat not taken")],
    )  # fmt: skip
    def test_without_its_repeat_it_becomes_what_the_rule_says(
        self, value: float, said: dict[str, str], severity: Severity, why: str
    ) -> None:
        ward = own(STRICT | said)
        ward.feed([(0, "spo2", value), (15 * MINUTE, TICK, 0)])
        (event,) = ward.tick(15 * MINUTE + 1)
        assert (event.kind, event.severity, event.page, event.at_ns) == (
            "worsened",
            severity,
            True,
            at(15 * MINUTE + 1),
        )
        assert event.text.endswith(why)
        due_s = 20 * MINUTE if severity is Severity.S1 else HOUR
        assert (event.at_ns, event.due_ns) == (at(15 * MINUTE + 1), at(1 + due_s)), "an hour from the reading on"

    @pytest.mark.parametrize("late", [False, True], ids=["in time", "too late"])
    @pytest.mark.parametrize(
        ("value", "kind", "severity"), [(89, "worsened", Severity.S1), (97, "resolved", Severity.S2)]
    )
    def test_the_second_reading_settles_it(self, value: float, kind: str, severity: Severity, late: bool) -> None:
        ward = own(STRICT)
        ward.feed([(0, "spo2", 88), *([(16 * MINUTE, TICK, 0.0)] if late else [])])
        (event,) = ward.feed([((17 if late else 10) * MINUTE, "spo2", value)])
        assert (event.kind, event.severity, event.rule) == (kind, severity, A if late or value < 90 else f"{A}:confirm")

    def test_a_repeat_that_comes_too_soon_does_not_count_but_a_later_one_does(self) -> None:
        ward = own(STRICT)
        ward.feed([(0, "spo2", 89)])
        assert ward.feed([(200, "spo2", 89)]) == []
        assert kinds(ward.feed([(310, "spo2", 89)])) == ["worsened"]

    def test_a_sound_reading_refutes_also_what_became_s1(self) -> None:
        ward = own(STRICT)
        ward.feed([(0, "spo2", 86), (16 * MINUTE, TICK, 0)])
        assert ward.feed([(17 * MINUTE, "spo2", 97)], flags=int(Flag.SUSPECT)) == [], "a doubtful one does not"
        (event,) = ward.feed([(18 * MINUTE, "spo2", 97)])
        assert (event.kind, event.text.rpartition(": ")[2]) == ("returned", "refuted by a second reading")

    def test_a_second_reading_holds_what_became_s1_by_itself(self) -> None:
        ward = own(STRICT)
        ward.feed([(0, "spo2", 86), (16 * MINUTE, TICK, 0)])
        assert ward.feed([(17 * MINUTE, "spo2", 86)]) == [], "it is told already"
        assert ward.feed([(18 * MINUTE, "spo2", 97)]) == [], "and takes two good readings to end"
        assert kinds(ward.feed([(20 * MINUTE, "spo2", 97)])) == ["returned"]

    def test_a_first_reading_that_is_taken_back_takes_its_task_along(self) -> None:
        ward = own(STRICT)
        ward.feed([(0, "spo2", 86)])
        gone = reading(0, 86, vital="spo2", flags=int(Flag.RETRACTED | Flag.REVISION), received_ns=at(100))
        assert kinds(ward.entry(batch(gone))) == ["retracted", "resolved"]


class TestDerived:
    def test_a_rate_does_not_bridge_a_gap(self) -> None:
        ward = Enrolled(document("diabetes"))
        ward.feed([(0, CGM, 250), (300, CGM, 230), (1000, CGM, 190), (1300, CGM, 170)])
        assert steps(ward.said, "diabetes:D8") == []

    def test_a_rate_tells_what_it_measured_also_when_its_delay_elapses_by_time(self) -> None:
        fast = {"id": "A", "type": "rate", "title": "Fast", "severity": "S2", "vital": CGM, "unit": "mg/dL",
                "below": -3, "clear": -2, "continuous": {"for_s": 400}}  # fmt: skip
        ward = own(fast)
        ward.feed(rows(CGM, 250, 230, 210, 190, every=300))
        (event,) = ward.tick(1000)
        assert event.text == (
            "Interstitial glucose (CGM) 190 mg/dL, falls by 4 mg/dL a minute, limit -3 mg/dL a minute (low)"
        )

    @pytest.mark.parametrize(
        "values", [(75, 68, 61, 54, 47), (150, 142, 134, 126, 118), (60, 59.5, 59, 58.5, 58)],
        ids=["already low", "far above", "hardly falling"],
    )  # fmt: skip
    def test_a_forecast_is_for_a_low_that_is_not_there_yet(self, values: tuple[float, ...]) -> None:
        ward = Enrolled(document("diabetes"))
        ward.feed(rows(CGM, *values, every=300))
        # The first evaluation of the falling one may count; it takes two in a row.
        assert steps(ward.said, "diabetes:D3") == []

    def test_a_low_that_has_come_does_not_end_its_forecast(self) -> None:
        ward = Enrolled(document("diabetes"))
        ward.feed(rows(CGM, 105, 97, 89, 81, 73, every=300))
        assert steps(ward.said, "diabetes:D3") == ["raised"]
        ward.feed(rows(CGM, 60, 52, 50, 50, 50, 50, start=1500, every=300))
        assert steps(ward.said, "diabetes:D3") == ["raised"]
        ward.feed(rows(CGM, 75, 90, 105, start=3300, every=300))
        assert steps(ward.said, "diabetes:D3")[-1] == "resolved"

    @pytest.mark.parametrize(("days", "told"), [(6, False), (7, True)])
    def test_what_is_usual_is_learned_for_seven_days_before_it_judges(self, days: int, told: bool) -> None:
        ward = Enrolled(document("copd"))
        ward.feed(daily("spo2", *[97] * days))
        ward.feed(rows("spo2", 92, 92, start=day(days)))
        assert bool(of_rule(ward.said, "copd:P2")) is told

    def test_neither_doubtful_nor_alarming_nor_unordered_values_are_learned(self) -> None:
        ward = Enrolled(document("copd"))
        for number in range(14):
            ward.feed([(day(number, 7), "spo2", 97)])
            for hour, value, flags in ((7.2, 80, Flag.SUSPECT), (7.3, 80, Flag.LOW_QUALITY), (7.4, 70, 0)):
                ward.feed([(day(number, hour), "spo2", value)], flags=int(flags))
            ward.feed([(day(number, 7.1), "spo2", 71)])
            ward.feed([(day(number, 7.5), "spo2", 97), (day(number, 7.6), "spo2", 97)])
        ward.feed(rows("spo2", 92, 92, start=day(14)))
        assert of_rule(ward.said, "copd:P2")[-1].text.startswith("Oxygen saturation 92 %, usual at this hour 97 %")

    def test_a_deviation_tells_what_was_usual_also_when_its_delay_elapses_by_time(self) -> None:
        ward = Enrolled(document("copd", {"spo2": "continuous"}))
        ward.feed(daily("spo2", *[97] * 8))
        ward.feed(rows("spo2", 92, 92, start=day(8), every=20))
        (event,) = of_rule(ward.feed([(day(8) + 55, TICK, 0)]), "copd:P2")
        assert event.text == "Oxygen saturation 92 %, usual at this hour 97 %, limit -4 points (low)"

    def test_a_value_beyond_the_range_of_the_sensor_deviates_from_everything(self) -> None:
        ward = Enrolled(document("copd"))
        ward.feed(rows("spo2", 60, 60), flags=int(Flag.BELOW_RANGE))
        assert of_rule(ward.said, "copd:P2")[0].text == (
            "Oxygen saturation below the sensor's range, limit -4 points (low)"
        )

    def test_a_deviation_is_no_sole_reason_to_be_urgent(self) -> None:
        alone = {"id": "A", "type": "deviation", "title": "Unusual", "severity": "S1", "vital": "spo2", "unit": "%",
                 "measure": "difference", "at_or_below": -4}  # fmt: skip
        with pytest.raises(InvalidRequest, match="only S1"):
            parse_protocol(doc(alone))

    @pytest.mark.parametrize(
        ("weights", "told"),
        [
            ((80.0, 80.95), {"H1"}),
            ((80.0, 81.4), {"H1", "H2"}),
            ((80.0, 80.4, 80.8, 81.2, 81.6, 81.9, 82.1, 82.3), {"H3"}),
            ((82.3, 81.9, 81.5, 81.1, 80.7, 80.4, 80.2, 80.0), {"H3-loss"}),
            ((80.0, 80.9), set()),
            ((80.0, 80.7, 81.4, 82.1), {"H3-days"}),
            ((80.0, 80.7, 81.4, 82.0), set()),
            (tuple(80.0 + 0.3 * day for day in range(15)), {"H3-drift"}),
            (tuple(80.0 + 0.2 * day for day in range(15)), set()),
        ],
    )
    def test_weights_of_the_reference(self, weights: tuple[float, ...], told: set[str]) -> None:
        ward = Enrolled(document("heart_failure"))
        ward.feed(daily("weight", *weights))
        assert raised(ward.said) == {f"heart_failure:{rule}" for rule in told}

    def test_a_weight_in_doubt_is_no_trend(self) -> None:
        ward = Enrolled(document("heart_failure"))
        ward.feed(daily("weight", 80))
        ward.feed(daily("weight", 86, first=1), flags=int(Flag.SUSPECT))
        assert ward.said == []
        ward.feed(daily("weight", 80.2, first=2))
        assert ward.said == [], "nor a morning to compare with"


def inputs(start: float, **values: float) -> list[Row]:
    well = {"resp_rate": 16, "spo2": 97, "o2_flow": 0, "bp_sys": 122, "heart_rate": 72, "temp": 36.8, "acvpu": 0}
    return [(start, vital, value) for vital, value in (well | values).items()]


class TestScores:
    FIVE = "post_surgical:S3"
    SICK: ClassVar = {"temp": 39.2, "heart_rate": 115, "spo2": 95}

    def test_a_complete_score_is_stored_and_raises(self) -> None:
        ward = Enrolled(document("post_surgical"))
        ward.feed(inputs(0, **self.SICK))
        assert ward.derived is None
        events = ward.tick(60)
        derived = ward.derived
        assert derived is not None
        assert dict(zip(derived.vital.tolist(), derived.value.tolist(), strict=True)) == {
            BY_KEY["news2"].code: 5.0, BY_KEY["news2_red"].code: 0.0,
        }  # fmt: skip
        assert steps(events, self.FIVE) == ["raised"]
        ward.entry(derived)
        assert steps(ward.said, self.FIVE) == ["raised"], "a stored score is not judged again"

    def test_a_range_is_stored_where_an_alert_says_one(self) -> None:
        ward = Enrolled(document("post_surgical"))
        worst = {"resp_rate": 26, "spo2": 88, "o2_flow": 2, "bp_sys": 85, "heart_rate": 135, "acvpu": 2}
        ward.feed([(0, vital, value) for vital, value in worst.items()])
        events = ward.tick(60)
        (text,) = [event.text for event in events if event.rule == "post_surgical:S3-red"]
        assert "NEWS2 17 to 20" in text
        derived = ward.derived
        assert derived is not None
        assert dict(zip(derived.vital.tolist(), derived.value.tolist(), strict=True)) == {
            BY_KEY["news2_min"].code: 17.0, BY_KEY["news2_max"].code: 20.0, BY_KEY["news2_red"].code: 5.0,
        }  # fmt: skip
        assert derived.context[0]["missing"] == ["temp"]

    def test_measured_all_the_time_it_takes_two_evaluations(self) -> None:
        measures = dict.fromkeys(("resp_rate", "spo2", "heart_rate", "temp", "bp_sys"), "continuous")
        ward = Enrolled(document("post_surgical", measures))
        ward.feed([*inputs(0, **self.SICK), (60, TICK, 0)])
        assert steps(ward.said, self.FIVE) == []
        ward.feed([*inputs(61, **self.SICK), (121, TICK, 0)])
        assert steps(ward.said, self.FIVE) == ["raised"]

    def test_a_floor_raises_and_never_ends_what_a_complete_score_raised(self) -> None:
        ward = Enrolled(document("post_surgical"))
        ward.feed([(0, "temp", 39.2), (0, "heart_rate", 115), (0, "spo2", 95), (60, TICK, 0)])
        assert steps(ward.said, self.FIVE) == ["raised"], "5 for certain, whatever is missing"
        for number in range(1, 4):
            start = number * 600
            ward.feed([(start, "temp", 37), (start, "heart_rate", 70), (start, "spo2", 97), (start + 60, TICK, 0)])
        assert "resolved" not in steps(ward.said, self.FIVE)
        ward.feed([*inputs(3000), (3060, TICK, 0), *inputs(3600), (3660, TICK, 0)])
        assert steps(ward.said, self.FIVE)[-1] == "resolved"

    def test_a_child_is_not_scored(self) -> None:
        ward = Enrolled(document("post_surgical"), age_band="under_16")
        ward.feed([*inputs(0, **self.SICK), (60, TICK, 0)])
        assert ward.derived is None
        assert steps(ward.said, self.FIVE) == []


class TestMeansOfMonitoring:
    def test_both_silences_are_told_each_at_its_time_and_end_together(self) -> None:
        ward = Enrolled(document("diabetes"))
        ward.tick(0)
        ward.wait(0, 6 * HOUR + 60)
        assert [(one.rule, one.at_ns) for one in ward.said if one.kind == "raised"] == [
            ("diabetes:D7", at(HOUR)), ("diabetes:D7-long", at(6 * HOUR)),
        ]  # fmt: skip
        assert {event.rule for event in ward.read(6 * HOUR + 70, 100.0, vital=CGM) if event.kind == "resolved"} == {
            "diabetes:D7", "diabetes:D7-long",
        }  # fmt: skip

    def test_a_battery(self) -> None:
        low = {"id": "A", "type": "technical", "title": "Battery", "severity": "T", "trouble": "battery"}
        ward = own(low)
        ward.read(0, 97.0)
        (event,) = ward.entry([DeviceEvent("d", EventKind.BATTERY_LOW, at(10), value=12.0)])
        assert (event.kind, event.rule, event.patient) == ("raised", A, "p_1")
        assert event.text == "Battery of d is low (12 %)"
        assert kinds(ward.entry([DeviceEvent("d", EventKind.BATTERY_OK, at(60))])) == ["resolved"]

    FAULTY: ClassVar[dict[str, Any]] = {
        "id": "A", "type": "technical", "title": "Faulty", "severity": "T", "trouble": "sensor_fault", "vital": "spo2",
    }  # fmt: skip

    @pytest.mark.parametrize("flag", [Flag.IMPLAUSIBLE, Flag.SENSOR_FAULT, Flag.IMPLAUSIBLE | Flag.SUSPECT])
    def test_a_faulty_sensor_is_told_once_and_ends_with_a_sound_reading(self, flag: Flag) -> None:
        ward = own(self.FAULTY)
        (event,) = ward.read(0, 12.0, flags=int(flag))
        assert event.text == "Oxygen saturation: the sensor is faulty or not on the body"
        assert event.resolves == "oxygen saturation is measured without a fault"
        assert ward.feed(rows("spo2", 12, 13, 12, start=10), flags=int(flag)) == []
        (event,) = ward.read(300, 97.0)
        assert (event.kind, event.text) == ("resolved", "Oxygen saturation is measured without a fault again")

    def test_a_fault_that_lasts_is_told_when_it_did_and_still_ends(self) -> None:
        ward = own(self.FAULTY | {"after_s": 100})
        broken = int(Flag.SENSOR_FAULT)
        assert ward.feed(rows("spo2", 0, 0, every=50), flags=broken) == []
        assert kinds(ward.feed(rows("spo2", 0, 0, 0, start=100, every=50), flags=broken)) == ["raised"]
        assert kinds(ward.read(260, 97.0)) == ["resolved"]

    @pytest.mark.parametrize("flag", [Flag.LATE, Flag.TEST_DATA, Flag.CONTROL_SOLUTION])
    def test_a_fault_of_another_time_or_no_patient_is_none(self, flag: Flag) -> None:
        ward = own(self.FAULTY)
        assert ward.read(0, 12.0, flags=int(Flag.SENSOR_FAULT | flag)) == []

    def test_a_fault_that_fell_silent_is_heard_again(self) -> None:
        ward = own(self.FAULTY)
        broken = int(Flag.SENSOR_FAULT)
        ward.read(0, 0.0, flags=broken)
        later = BY_KEY["spo2"].staleness_ns(BY_KEY["spo2"].mode) // 10**9 + 60
        assert "stale" in steps(ward.tick(later), A)
        assert steps(ward.read(later + 10, 0.0, flags=broken), A) == ["stale_over"]

    def test_a_stuck_sensor(self) -> None:
        stuck = {"id": "A", "type": "technical", "title": "Stuck", "severity": "T", "trouble": "stuck",
                 "vital": "spo2", "after_s": 3600}  # fmt: skip
        ward = own(stuck, **CONTINUOUS)
        assert ward.feed(rows("spo2", *[97] * 60)) == []
        (event,) = ward.read(3600, 97.0)
        assert event.text == "Oxygen saturation has been exactly 97 % for 60 min: is the sensor on?"
        (event,) = ward.read(3660, 96.0)
        assert (event.kind, event.text) == ("resolved", "Oxygen saturation changes again: 96 %")


class TestCombinations:
    def test_both_within_the_window(self) -> None:
        ward = own(BOTH)
        assert ward.feed([(0, "symptoms", 1)]) == []
        (event,) = ward.feed([(3600, "bp_sys", 85)])
        assert (event.kind, event.rule, event.severity) == ("raised", C, Severity.S1)
        assert [value["value"] for value in event.values] == [85.0, 1.0]
        assert event.limit["kind"] == "combination"
        assert [part["value"] for part in event.limit["members"]] == [90.0, 1.0]

    @pytest.mark.parametrize("vital", ["bp_sys", "symptoms"])
    def test_one_alone_is_nothing(self, vital: str) -> None:
        ward = own(BOTH)
        ward.feed(rows(vital, *[1 if vital == "symptoms" else 80] * 5))
        ward.wait(300, 2 * HOUR)
        assert ward.said == []

    def test_too_far_apart_is_nothing_until_the_first_is_there_again(self) -> None:
        ward = own(BOTH)
        assert ward.feed([(0, "symptoms", 1), (3601, "bp_sys", 85)]) == []
        assert kinds(ward.feed([(3700, "symptoms", 1)])) == ["raised"]

    def test_a_part_that_becomes_true_by_time_raises_it(self) -> None:
        slow = BOTH | {"members": [{"type": "limit", "vital": "heart_rate", "unit": "/min", "above": 110,
                                    "continuous": {"for_s": 120}}, BOTH["members"][1]]}  # fmt: skip
        ward = own(slow, measures={"heart_rate": "continuous"})
        assert ward.feed([(0, "symptoms", 1), (10, "heart_rate", 120), (70, "heart_rate", 121)]) == []
        assert ward.tick(129) == []
        (event,) = ward.tick(135)
        assert (event.kind, event.at_ns) == ("raised", at(130))
        assert event.text == (
            "Low pressure with symptoms: Heart rate 121 /min, limit 110 /min (high); "
            "Symptoms reported present, limit present (high)"
        )

    def test_a_doubtful_part_counts_when_nobody_refutes_it(self) -> None:
        ward = own(BOTH)
        ward.feed([(0, "symptoms", 1)])
        assert ward.suspect(60, 50.0, vital="bp_sys") == []
        assert ward.tick(60 + 15 * MINUTE) == []
        assert kinds(ward.tick(62 + 15 * MINUTE)) == ["raised"], "extremes never go silent"

    def test_a_doubtful_part_that_is_refuted_does_not(self) -> None:
        ward = own(BOTH)
        ward.feed([(0, "symptoms", 1)])
        ward.suspect(60, 50.0, vital="bp_sys")
        ward.feed([(120, "bp_sys", 120)])
        assert ward.wait(120, HOUR) == []

    @pytest.mark.parametrize("severity", ["S1", "S2"])
    def test_two_doubtful_readings_of_a_part_confirm_each_other(self, severity: str) -> None:
        ward = own(BOTH | {"severity": severity})
        ward.feed([(0, "bp_sys", 85)])
        assert ward.suspect(60, 1.0, vital="symptoms") == []
        (event,) = ward.suspect(120, 1.0, vital="symptoms")
        assert (event.kind, event.severity.name) == ("raised", severity)

    def test_it_ends_when_a_part_is_over_and_not_when_data_stop(self) -> None:
        ward = own(BOTH | {"severity": "S2"})
        ward.feed([(0, "symptoms", 1), (60, "bp_sys", 85)])
        ward.wait(60, HOUR)
        stale = 25 * HOUR
        events = ward.tick(stale)
        assert "stale" in steps(events, C)
        assert "resolved" not in steps(ward.said, C)
        events = ward.feed([(stale + 60, "bp_sys", 85)])
        assert steps(events, C)[0] == "stale_over", "it is heard again"
        events = ward.feed([(stale + 120, "bp_sys", 120), (stale + 180, "bp_sys", 120)])
        assert steps(events, C) == ["resolved"]

    def test_a_reading_of_a_part_that_is_taken_back_is_told(self) -> None:
        ward = own(BOTH | {"severity": "S2"})
        ward.feed([(0, "symptoms", 1), (60, "bp_sys", 85)])
        gone = reading(60, 85, vital="bp_sys", flags=int(Flag.RETRACTED | Flag.REVISION), received_ns=at(100))
        assert [(one.kind, one.rule) for one in ward.entry(batch(gone))] == [("retracted", C), ("resolved", C)]
        assert ward.feed([(120, "symptoms", 1)]) == [], "the part that is gone does not count any more"
        assert kinds(ward.feed([(180, "bp_sys", 85)])) == ["reopened"]


class TestLateValues:
    @pytest.mark.parametrize(
        ("flag", "why"),
        [
            (Flag.LATE, "(low), 5 hours old: it came too late to page"),
            (Flag.REPLAYED, "(low), 5 hours old: it came too late to page"),
            (Flag.CLOCK_SUSPECT, "(low), device clock wrong: nobody knows when it was measured, so it does not page"),
            (Flag.CLOCK_SUSPECT | Flag.LATE, "(low), device clock wrong: it came too late to page"),
        ],
    )
    def test_an_urgent_value_that_comes_too_late_is_a_task(self, flag: Flag, why: str) -> None:
        ward = own(RULE | {"severity": "S1"})
        (event,) = ward.read(0, 80.0, flags=int(flag), received_ns=at(5 * HOUR))
        assert (event.kind, event.rule, event.severity) == ("raised", f"review:{A}", Severity.S3)
        assert event.text.endswith(why)
        assert kinds(ward.read(60, 79.0, flags=int(flag), received_ns=at(5 * HOUR))) == ["added"], "one task"

    @pytest.mark.parametrize(("age_h", "told"), [(72, True), (72.01, False)])
    def test_after_72_hours_it_is_history(self, age_h: float, told: bool) -> None:
        ward = own(RULE | {"severity": "S1"})
        events = ward.read(0, 80.0, flags=int(Flag.LATE), received_ns=at(age_h * HOUR))
        assert bool(events) is told

    @pytest.mark.parametrize(
        ("severity", "value", "flags"),
        [("S2", 80.0, Flag.LATE), ("S1", 95.0, Flag.LATE), ("S1", 80.0, Flag.LATE | Flag.IMPLAUSIBLE)],
    )
    def test_other_late_values_are_nobodys_task(self, severity: str, value: float, flags: Flag) -> None:
        assert own(RULE | {"severity": severity}).read(0, value, flags=int(flags), received_ns=at(HOUR)) == []


class TestStale:
    def test_a_condition_without_readings_is_told_once_stays_and_is_heard_again(self) -> None:
        ward = own(RULE | {"spot": {"readings": 1}})
        ward.feed([(0, "spo2", 85)])
        later = 13 * HOUR
        assert steps(ward.tick(later), A)[-1:] == ["stale"] or "stale" in steps(ward.said, A)
        assert "stale" not in steps(ward.tick(later + 60), A)
        assert steps(ward.feed([(later + 120, "spo2", 86)]), A) == ["stale_over"]
        assert {alert.rule for alert in ward.engine.open_alerts()} == {A}


class TestGates:
    def test_what_nobody_recorded_keeps_a_rule_away_and_says_so(self) -> None:
        ward = Enrolled(document("copd"), oxygen="unknown", spo2_scale=2)
        ward.feed(rows("spo2", 96, 96))
        assert of_rule(ward.said, "copd:P3") == []
        assert ("copd:P3", "it is not recorded whether the patient gets oxygen") in ward.engine.compiled("p_1").gated
        ward.set_context(2, 200, oxygen="yes", spo2_scale=2)
        assert steps(ward.feed(rows("spo2", 96, 96, start=300)), "copd:P3") == ["raised"]

    def test_unknown_is_not_no_for_a_rule_that_is_for_all_but_some(self) -> None:
        ward = Enrolled(document("copd"), spo2_scale=0)
        ward.feed(rows("spo2", 85, 85, every=300))
        assert steps(ward.said, "copd:P1-red") == ["raised"]

    def test_an_alert_of_a_rule_that_goes_stays_and_says_that_nothing_watches_it(self) -> None:
        ward = Enrolled(document("copd"))
        ward.feed(rows("spo2", 85, 85, every=300))
        (event,) = of_rule(ward.set_context(2, 600, spo2_scale=2), "copd:P1-red")
        assert event.kind == "stale"
        assert "not in force any more" in event.text
        assert ward.feed(rows("spo2", 97, 97, start=700)) == []
        assert [alert.rule for alert in ward.engine.open_alerts()] == ["copd:P1-red"]


class TestOverrides:
    ONCE: ClassVar = RULE | {"spot": {"readings": 1, "clear_readings": 1}}

    def test_a_patient_has_a_threshold_of_his_own(self) -> None:
        ward = own(self.ONCE)
        ward.override(2, -5, {"rule": A, "changes": {"at_or_below": 85}})
        assert ward.feed([(0, "spo2", 88)]) == []
        (event,) = ward.feed([(60, "spo2", 85)])
        assert (event.limit["value"], event.limit["override"]) == (85.0, 2)
        assert event.text == "Oxygen saturation 85 %, limit 85 % (low)"

    def test_a_rule_is_off_for_a_time(self) -> None:
        ward = own(self.ONCE)
        ward.override(2, -5, {"rule": A, "off": True, "until_ns": at(600)})
        assert ward.feed([(0, "spo2", 85), (590, TICK, 0), (595, "spo2", 85)]) == []
        ward.tick(600)
        assert kinds(ward.feed([(610, "spo2", 85)])) == ["raised"]

    def test_a_rule_that_is_off_for_good_stays_off(self) -> None:
        ward = own(self.ONCE)
        ward.override(2, -5, {"rule": A, "off": True})
        ward.feed([(0, "spo2", 85), (HOUR, TICK, 0), (HOUR, "spo2", 85)])
        assert ward.said == []
        assert ward.engine.compiled("p_1").gated == ((A, "switched off for this patient (enrolment 2)"),)


class TestVersions:
    TWICE: ClassVar = RULE | {"spot": {"readings": 2, "apart_s": 300}}

    def test_what_did_not_change_keeps_its_state(self) -> None:
        ward = own(self.TWICE)
        ward.feed([(0, "spo2", 85)])
        ward.adopt(2, 100, doc(self.TWICE, RULE | {"id": "B", "at_or_below": 70}))
        (event,) = of_rule(ward.feed([(300, "spo2", 85)]), A)
        assert (event.kind, event.rule_version) == ("raised", 2), "the new version is named"

    def test_what_changed_counts_anew(self) -> None:
        ward = own(self.TWICE)
        ward.feed([(0, "spo2", 85)])
        ward.adopt(2, 100, doc(self.TWICE | {"at_or_below": 86}))
        assert ward.feed([(300, "spo2", 85)]) == []
        assert kinds(ward.feed([(600, "spo2", 85)])) == ["raised"]

    def test_open_alerts_live_on(self) -> None:
        ward = own(self.TWICE)
        ward.feed(rows("spo2", 85, 85, every=300))
        ward.adopt(2, 400, doc(self.TWICE | {"at_or_below": 86, "deadband": 2}))
        assert kinds(ward.feed(rows("spo2", 88, 88, start=500))) == ["resolved"], "by the new line"
        ward.feed(rows("spo2", 85, 85, start=4000, every=300))
        assert ward.said[-1].rule_version == 2

    def test_what_is_usual_outlives_a_version(self) -> None:
        ward = Enrolled(document("copd"))
        ward.feed(daily("spo2", *[97] * 8))
        ward.adopt(2, day(7, 12), document("copd"))
        ward.feed(rows("spo2", 92, 92, start=day(8)))
        assert steps(ward.said, "copd:P2") == ["raised"]


def test_a_combination_is_not_raised_by_enrolling_after_its_readings() -> None:
    ward = Ward()
    ward.read(0, 85.0, vital="bp_sys")
    ward.read(10, 1.0, vital="symptoms")
    late = own(BOTH)
    ward.engine = late.engine
    assert ward.tick(20) == []
    assert ward.read(30, 85.0, vital="bp_sys") == [], "symptoms of before are not known"


def test_a_part_that_becomes_true_by_time_too_late_for_the_other_is_nothing() -> None:
    slow = BOTH | {"members": [{"type": "limit", "vital": "heart_rate", "unit": "/min", "above": 110,
                                "continuous": {"for_s": 120}}, BOTH["members"][1]]}  # fmt: skip
    ward = own(slow, measures={"heart_rate": "continuous"})
    ward.feed([(0, "symptoms", 1), (3500, "heart_rate", 120), (3560, "heart_rate", 121)])
    assert ward.tick(3625) == []
    assert kinds(ward.feed([(3640, "symptoms", 1)])) == ["raised"]


def test_a_device_that_stays_offline_is_told_by_time() -> None:
    offline = {"id": "A", "type": "technical", "title": "Offline", "severity": "T", "trouble": "gateway",
               "after_s": 60}  # fmt: skip
    ward = own(offline)
    ward.feed([(0, "spo2", 97), (1, TICK, 0)])
    assert ward.entry([DeviceEvent("d", EventKind.OFFLINE, at(10), "connection lost")]) == []
    (event,) = ward.wait(1, 91)
    assert (event.rule, event.at_ns, event.text) == (A, at(70), "d is offline: connection lost")


def test_a_silence_that_began_while_monitoring_rested_counts_anew_when_it_goes_on() -> None:
    ward = Enrolled(document("diabetes"))
    ward.tick(0)
    pause = {"patient": "p_1", "from_ns": at(0), "check_ns": None}
    ward.entry(control(ControlKind.STATUS, 0, **pause, status="paused"))
    assert raised(ward.wait(0, 2 * HOUR)) == set()
    ward.entry(control(ControlKind.STATUS, 2 * HOUR, **(pause | {"from_ns": at(2 * HOUR)}), status="active"))
    assert raised(ward.wait(2 * HOUR, 3 * HOUR - 1)) == set()
    assert raised(ward.tick(3 * HOUR)) == {"diabetes:D7"}


def test_a_programme_past_its_review_reminds_once_and_its_rules_go_on() -> None:
    ward = Ward()
    first = programme("ward", [doc(RULE | {"spot": {"readings": 1}})], at(-20))
    ward.entry(Control(first.kind, first.time_ns, first.author, {**first.body, "review_ns": at(100)}))
    for entry in enrolled("p_1", ["ward"], at(-20)):
        ward.entry(entry)
    (event,) = ward.tick(110) + ward.tick(130)
    assert (event.rule, event.patient) == ("technical:review:ward", "")
    assert event.text == "Programme ward (ward) is past its review; its rules go on"
    assert kinds(ward.read(140, 85.0)) == ["raised"]


def test_a_version_reaches_every_patient_of_a_large_ward() -> None:
    once = RULE | {"spot": {"readings": 1}}
    ward = own(once)
    patients = [f"p_{number}" for number in range(100, 200)]
    for patient in patients:
        for entry in enrolled(patient, ["ward"], at(-10)):
            ward.entry(entry)
    assert ward.read(0, 87.0, patient=patients[7])
    ward.adopt(2, 10, doc(once | {"at_or_below": 85}))
    assert ward.entry(batch(*(reading(20, 86.0, patient=patient) for patient in patients))) == []
    events = ward.entry(batch(*(reading(30, 85.0, patient=patient) for patient in patients)))
    assert {event.patient for event in events} == set(patients) - {patients[7]}
    assert {event.rule_version for event in events} == {2}
