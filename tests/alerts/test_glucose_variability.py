"""Variability over time as its authors define it, on series whose figures follow by hand; the profile against numpy."""

import numpy as np
import pandas as pd
import pytest

from alerts.glucose.metrics import active_percent, agp, expected, shares, trace, uniform
from alerts.glucose.variability import adrr, conga, mage, modd, variability
from tests.alerts.test_glucose_metrics import BERLIN, RECORDING, at, every, recording

DAY = 288
RISES_FIRST = [100.0, 200.0, 130.0, 190.0, 100.0]
FALLS_FIRST = [200.0, 100.0, 160.0, 80.0, 80.0]


def day(turns: list[float], points: int = DAY) -> list[float]:
    """A day of readings through turning points that stand as far apart from each other."""
    place = np.round(np.linspace(0, points - 1, len(turns)))
    return [float(value) for value in np.interp(np.arange(points), place, turns)]


class TestMage:
    def test_the_direction_of_the_days_first_excursion_counts(self) -> None:
        # Rises of 100 and 60, falls of 70 and 90; the first is a rise. SD of the day is under 40.
        found = mage(trace(every(day(RISES_FIRST))))
        assert found["mage_mg_dl"] == pytest.approx(80)
        assert (found["mage_plus_mg_dl"], found["mage_minus_mg_dl"]) == (pytest.approx(80), pytest.approx(80))
        assert found["mage_days"] == 1
        # Falls of 100 and 80, a rise of 60; the first is a fall.
        found = mage(trace(every(day(FALLS_FIRST))))
        assert found["mage_mg_dl"] == pytest.approx(90)
        assert found["mage_plus_mg_dl"] == pytest.approx(60)

    def test_it_is_the_mean_of_the_days(self) -> None:
        found = mage(trace(every(day(RISES_FIRST) + day(FALLS_FIRST))))
        assert (found["mage_mg_dl"], found["mage_days"]) == (pytest.approx((80 + 90) / 2), 2)

    def test_each_day_has_its_own_sd(self) -> None:
        calm = [100.0, 112.0, 103.0, 110.0, 100.0]
        found = mage(trace(every(day(RISES_FIRST) + day(calm))))
        # One SD of both days is over 25: the calm day would have no excursion.
        assert found["mage_mg_dl"] == pytest.approx((80 + (12 + 7) / 2) / 2)

    def test_swings_under_one_sd_are_dropped(self) -> None:
        rippled = [100.0, 150.0, 140.0, 200.0, 190.0, 195.0, 100.0, 100.0]
        assert mage(trace(every(day(rippled))))["mage_mg_dl"] == pytest.approx(100)

    def test_days_are_the_patients(self) -> None:
        times = pd.Timestamp("2026-01-05T00:00", tz="Europe/Berlin") + pd.to_timedelta(np.arange(2 * DAY) * 5, unit="m")
        frame = trace(every(day(RISES_FIRST) + day(FALLS_FIRST)).assign(time=times))
        assert mage(frame, BERLIN)["mage_mg_dl"] == pytest.approx(85)
        assert mage(frame)["mage_mg_dl"] != pytest.approx(85)

    @pytest.mark.parametrize(
        "values", [[100.0] * DAY, [100.0, 100.5] * 144, day(RISES_FIRST, 200), [100.0], []],
        ids=["flat", "under 1 mg/dL", "under 70 % of a day", "one", "none"],
    )  # fmt: skip
    def test_not_for_a_flat_or_a_short_day(self, values: list[float]) -> None:
        assert np.isnan(mage(trace(every(values)))["mage_mg_dl"])

    def test_no_excursion_spans_a_gap_of_more_than_three_hours(self) -> None:
        # Up by 60, four hours of nothing, then down from 260 to 200: never a rise to 260.
        up, down = np.linspace(100, 160, 120), np.linspace(260, 200, 120)
        minutes = [*np.arange(120) * 5.0, *(np.arange(120) * 5.0 + 840)]
        frame = trace(at(minutes, [*up.tolist(), *down.tolist()]))
        assert mage(frame)["mage_mg_dl"] == pytest.approx(60), "the rise that was seen"


class TestFormulas:
    def test_daily_differences(self) -> None:
        assert modd(trace(every([100.0] * DAY + [110.0] * DAY + [90.0] * DAY))) == pytest.approx(15)
        assert np.isnan(modd(trace(every([100.0] * DAY))))

    def test_conga_is_the_sd_of_differences(self) -> None:
        values = (150 + 40 * np.sin(np.arange(600) / 17) + np.arange(600) % 7).tolist()
        for hours in (1, 2, 4, 24):
            lag = 12 * hours
            wanted = np.std(np.array(values)[lag:] - np.array(values)[:-lag], ddof=1)
            assert conga(trace(every(values)), hours) == pytest.approx(wanted)

    def test_a_gap_leaves_its_pairs_out(self) -> None:
        frame = trace(at([0, 5, 60, 65, 200], [100, 110, 120, 140, 90]))
        assert conga(frame, 1) == pytest.approx(np.std([20, 30], ddof=1))

    def test_jitter_of_seconds_breaks_no_pair(self) -> None:
        minutes = [number * 5 + (number % 3) / 60 for number in range(DAY * 2)]
        assert modd(trace(at(minutes, [100.0] * DAY + [104.0] * DAY))) == pytest.approx(4)

    def test_daily_risk_range(self) -> None:
        # clinical.md 3.3: 54 has a risk of 18.461, 250 one of 22.435, 112.5 none.
        first, second = [54.0, 112.5, 250.0] * 96, [112.5, 112.5, 250.0] * 96
        assert adrr(trace(every(first + second))) == pytest.approx((18.461 + 22.435 + 22.435) / 2, abs=1e-3)
        assert np.isnan(adrr(trace(every([54.0, 250.0]))))

    def test_of_a_real_recording(self) -> None:
        found = variability(trace(recording()))
        assert found["ea1c_percent"] == pytest.approx(RECORDING["expected"]["ea1c_percent"], rel=1e-9)
        assert found["j_index"] == pytest.approx(RECORDING["expected"]["j_index"], rel=1e-4), "theirs has divisor n"
        assert found["mage_days"] == 7
        assert found[["mage_mg_dl", "modd_mg_dl", "conga_1_mg_dl", "adrr"]].notna().all()


class TestCounting:
    def test_one_odd_interval_changes_no_share(self) -> None:
        values = [60.0] * 20 + [100.0] * 60 + [200.0] * 20
        whole = every(values)
        odd = whole.assign(time=whole["time"] - pd.to_timedelta(np.where(whole.index == 30, 2.0, 0.0), unit="m"))
        for frame in (trace(whole), trace(odd)):
            assert uniform(frame)
            assert shares(frame)[["tbr_54_69_percent", "tir_70_180_percent"]].tolist() == [20, 60]

    @pytest.mark.parametrize(
        ("period_s", "readings"), [(300, 1), (301, 1), (600, 2), (660, 3), (900, 3), (86_400, 288), (1_209_600, 4032)]
    )
    def test_a_period_holds_the_readings_before_its_end(self, period_s: float, readings: int) -> None:
        frame = trace(every([100.0] * 10))
        assert expected(frame, period_s) == readings
        assert active_percent(trace(every([100.0] * readings)), period_s) == 100


def test_the_profile_has_the_percentiles_of_numpy() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(150, 40, 14 * DAY).clip(40, 400)
    curve = agp(trace(every(values.tolist())), ())
    by_bin = values.reshape(14, 96, 3).transpose(1, 0, 2).reshape(96, 42)
    assert curve.index.tolist() == list(range(0, 1440, 15))
    np.testing.assert_allclose(curve.to_numpy(), np.percentile(by_bin, (5, 25, 50, 75, 95), axis=1).T, rtol=1e-12)
