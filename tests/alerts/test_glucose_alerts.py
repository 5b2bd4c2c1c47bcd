"""Sensor glucose under the diabetes protocol: n of m readings, extremes, forecasts both ways, their words."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from alerts.engine import SNAPSHOT_VERSION, Engine
from alerts.rules.words import rule_words
from tests.alerts.alert_world import Ward, at, batch, reading
from tests.alerts.programme_world import TICK, Enrolled, Row, document, of_rule, rows, steps
from tests.alerts.protocol_world import SHIPPED
from vitals.glossary import Flag, Severity

CGM: Final = "glucose_isf"
MINUTE: Final = 60


def cgm(*values: float, start: float = 0, every: float = 300) -> list[Row]:
    return rows(CGM, *values, start=start, every=every)


def ward() -> Enrolled:
    return Enrolled(document("diabetes"))


def raised_min(one: Ward, rule: str) -> float | None:
    """Minutes from the start to the first page of a rule."""
    told = of_rule(one.said, f"diabetes:{rule}")
    return round((told[0].at_ns - at(0)) / 60e9, 1) if told else None


class TestThreeOfFour:
    @pytest.mark.parametrize(
        ("values", "after_min"),
        [
            ((53, 53, 53), 10),
            ((53, 53, 55, 53), 15),
            ((53, 55, 53, 53), 15),
            ((55, 53, 53, 55, 53), 20),
            ((53, 55, 53, 55, 53, 55, 53, 55), None),
            ((53, 53, 90, 90, 90, 53), None),
        ],
        ids=str,
    )
    def test_three_of_the_last_four_readings_page(self, values: tuple[float, ...], after_min: float | None) -> None:
        one = ward()
        one.feed(cgm(*values))
        found = raised_min(one, "D1")
        assert found == (None if after_min is None else pytest.approx(after_min, abs=0.1))

    def test_a_level_1_low_too(self) -> None:
        one = ward()
        one.feed(cgm(69, 69, 71, 69))
        assert raised_min(one, "D2") == pytest.approx(15, abs=0.1)
        assert raised_min(one, "D1") is None

    def test_two_hours_of_high_with_a_reading_at_the_limit(self) -> None:
        one = ward()
        one.feed(cgm(*[260] * 12, 249, *[260] * 12))
        assert raised_min(one, "D4") == pytest.approx(120, abs=0.1)

    def test_a_gap_begins_anew(self) -> None:
        one = ward()
        one.feed([*cgm(53, 53), *cgm(53, start=35 * MINUTE)])
        assert raised_min(one, "D1") is None

    def test_readings_of_every_minute_count_every_fourth_time(self) -> None:
        one = ward()
        one.feed(cgm(*[53] * 8, every=60))
        assert raised_min(one, "D1") is None
        one.feed(cgm(53, start=8 * MINUTE))
        assert raised_min(one, "D1") == pytest.approx(8, abs=0.1)

    def test_a_sensor_of_fifteen_minutes_still_pages_after_fifteen(self) -> None:
        one = ward()
        one.feed([(0, CGM, 53), (15 * MINUTE, TICK, 0)])
        assert raised_min(one, "D1") == pytest.approx(15, abs=0.1)

    def test_a_doubtful_reading_and_one_taken_back_do_not_count(self) -> None:
        doubtful = ward()
        doubtful.feed(cgm(53))
        doubtful.feed(cgm(52, start=300), flags=int(Flag.SUSPECT))
        doubtful.feed(cgm(55, 53, start=600))
        assert raised_min(doubtful, "D1") is None
        back = ward()
        back.feed(cgm(53, 53))
        gone = reading(300, 53, vital=CGM, flags=int(Flag.RETRACTED | Flag.REVISION), received_ns=at(320))
        back.entry(batch(gone))
        back.feed(cgm(55, 53, start=600))
        assert raised_min(back, "D1") is None

    def test_an_alert_that_ended_is_not_raised_by_what_raised_it(self) -> None:
        one = ward()
        one.feed([*cgm(69, 69, 69), *cgm(80, 80, 80, 80, start=900), *cgm(69, start=2100)])
        assert steps(one.said, "diabetes:D2") == ["raised", "resolved"]

    def test_it_goes_on_through_a_snapshot(self) -> None:
        one = ward()
        one.feed(cgm(53, 53, 55))
        one.engine = Engine.restore(one.engine.snapshot())
        one.feed(cgm(53, start=900))
        assert raised_min(one, "D1") == pytest.approx(15, abs=0.1)

    def test_readings_that_come_at_once_say_the_same(self) -> None:
        one = ward()
        one.feed_at_once(cgm(53, 53, 55, 53))
        assert [event.kind for event in of_rule(one.said, "diabetes:D1")] == ["raised"]

    def test_its_words(self) -> None:
        words = {rule.id: rule_words(rule, SHIPPED["diabetes"].measures) for rule in SHIPPED["diabetes"].rules}
        assert words["D1"].startswith(
            "Raised when interstitial glucose (CGM) is below 54 mg/dL for 15 min without a break, or in 3 of the last 4"
            " readings at least 4 min apart, at once at 45 mg/dL or less; "
        )


class TestExtremes:
    @pytest.mark.parametrize(("value", "flags"), [(45, 0), (44, int(Flag.SUSPECT)), (40, int(Flag.BELOW_RANGE))])
    def test_45_and_lo_do_not_wait(self, value: float, flags: int) -> None:
        one = ward()
        one.feed(cgm(value), flags=flags)
        (event,) = of_rule(one.said, "diabetes:D1")
        assert (event.kind, event.severity, event.page) == ("raised", Severity.S1, True)

    def test_46_waits(self) -> None:
        one = ward()
        one.feed(cgm(46))
        assert raised_min(one, "D1") is None


class TestForecasts:
    def test_a_fall_of_more_than_3_a_minute_does_not_wait_for_a_second_evaluation(self) -> None:
        fast, slow = ward(), ward()
        fast.feed(cgm(140, 124, 108, 92))
        slow.feed(cgm(112, 102, 92, 82))
        assert raised_min(fast, "D3") == pytest.approx(15, abs=0.1)
        assert raised_min(slow, "D3") is None
        slow.feed(cgm(72, start=1200))
        assert raised_min(slow, "D3") == pytest.approx(20, abs=0.1)

    def test_three_points_are_refused(self) -> None:
        one = ward()
        one.feed(cgm(120, 104, 88))
        assert raised_min(one, "D3") is None

    def test_a_high_is_forecast_too(self) -> None:
        one = ward()
        one.feed(cgm(170, 185, 200, 215, 230))
        (event,) = of_rule(one.said, "diabetes:D3-high")
        assert (event.severity, event.text) == (
            Severity.S3,
            "Interstitial glucose (CGM) 230 mg/dL, expected at 290 mg/dL in 20 min, limit 250 mg/dL (high)",
        )

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ((140, 120, 100, 80), "80 mg/dL, expected under 40 mg/dL in 20 min, limit 55"),
            ((155, 132, 109, 86), "86 mg/dL, expected under 40 mg/dL in 20 min, limit 55"),
            ((140, 124, 108, 92), "92 mg/dL, expected under 40 mg/dL in 20 min, limit 55"),
            ((145, 170, 195, 220, 245), "245 mg/dL, expected at 345 mg/dL in 20 min, limit 250"),
            ((64, 109, 154, 199, 244), "244 mg/dL, expected over 400 mg/dL in 20 min, limit 250"),
        ],
    )
    def test_no_forecast_leaves_the_range_of_the_sensor(self, values: tuple[float, ...], words: str) -> None:
        one = ward()
        one.feed(cgm(*values))
        (event,) = [event for event in one.said if event.rule in {"diabetes:D3", "diabetes:D3-high"}]
        assert words in event.text

    def test_its_words(self) -> None:
        words = {rule.id: rule_words(rule, SHIPPED["diabetes"].measures) for rule in SHIPPED["diabetes"].rules}
        assert words["D3"].startswith(
            "Raised when interstitial glucose (CGM) will be 55 mg/dL or less in 20 min (while it is below 100 mg/dL and"
            " falls by more than 1 mg/dL a minute over 20 min; at once if by more than 3 mg/dL) in 2 readings; "
        )
        assert words["D3-high"].startswith(
            "Raised when interstitial glucose (CGM) will be above 250 mg/dL in 20 min (while it is above 180 mg/dL and"
            " rises by more than 2 mg/dL a minute over 20 min) in 2 readings; "
        )


class TestFormerSnapshot:
    """A snapshot of version 5 counts no readings n of m: two lows of one patient, a forecast low of another."""

    DATA: Final = (Path(__file__).parents[1] / "fixtures" / "engine" / "snapshot-5.msgpack").read_bytes()

    def test_its_alerts_and_the_rules_it_adopted_go_on(self) -> None:
        one = Ward()
        one.engine = Engine.restore(self.DATA)
        assert [case.rule for case in one.engine.open_alerts()] == ["diabetes:D3"]
        for number, value in enumerate((53.0, 53.0, 55.0, 53.0, 53.0, 53.0, 53.0)):
            one.read(1800 + 300 * number, value, vital=CGM)
        assert raised_min(one, "D1") == pytest.approx(60, abs=0.1), "an unbroken run, until the site adopts the new one"

    def test_it_goes_on_as_a_snapshot_of_now(self) -> None:
        saved = Engine.restore(self.DATA).snapshot()
        assert Engine.restore(saved).snapshot() == saved
        assert msgspec.msgpack.decode(self.DATA)[0] == 5
        assert msgspec.msgpack.decode(saved)[0] == SNAPSHOT_VERSION == 6
