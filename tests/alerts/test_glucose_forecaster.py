"""Glucose in 30 minutes: error and band on series that no choice was made from, and what a forecaster must not do."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from alerts.glucose.forecaster import DTYPES, LEAST_POINTS, ForecastModel, Forecasts, GlucoseForecaster, Series
from alerts.glucose.metrics import trace
from alerts.judging.series import Table
from simulators.patients import Condition, EpisodeKind, SyntheticPatient, draw_episodes
from tests.alerts.test_glucose_metrics import recording
from vitals.times import DAY_NS, MINUTE_NS

FloatArray = npt.NDArray[np.float64]
TimeArray = npt.NDArray[np.int64]
START_NS: Final = 1_700_000_000_000_000_000
DAY: Final = 288
AHEAD: Final = 6
AIM: Final = 378.0
"""The best published linear model on such data, (mg/dL)^2."""


def times(count: int, step_min: float = 5.0) -> TimeArray:
    return START_NS + (np.arange(count) * step_min * MINUTE_NS).astype(np.int64)


def sensed(true: FloatArray, seed: int, noise: float = 2.0) -> FloatArray:
    """What a sensor shows: coloured noise, whole numbers, the sensor's range."""
    rng = np.random.default_rng([seed, 5])
    error, white = np.zeros(len(true)), rng.normal(0.0, noise, len(true))
    for row in range(1, len(true)):
        error[row] = 0.7 * error[row - 1] + white[row]
    return np.clip(np.round(true + error), 40.0, 400.0)


def simulated(seed: int, days: int = 10) -> FloatArray:
    """A synthetic patient of the simulator, with a hypoglycaemia of 40 to 80 minutes a day."""
    episodes = draw_episodes(seed, [EpisodeKind.HYPO], START_NS, START_NS + days * DAY_NS)
    patient = SyntheticPatient(seed, Condition.DIABETES, 0, episodes)
    return sensed(patient.signal("glucose_isf", times(days * DAY)), seed)


def dosed(seed: int, days: int = 10) -> FloatArray:
    """Another generator: meals of random size and time, insulin that does not quite fit them, a drifting need."""
    rng, minutes = np.random.default_rng([seed, 77]), days * 1440
    meals, insulin = np.zeros(minutes + 1), np.zeros(minutes + 1)
    for day in range(days):
        for hour, size in ((7.5, 1.0), (12.5, 1.2), (15.5, 0.4), (18.8, 1.4)):
            eaten, at = size * rng.lognormal(0.0, 0.4), day * 1440 + int(60 * (hour + rng.normal(0.0, 0.8)))
            meals[min(max(at, 0), minutes)] += eaten
            insulin[min(max(at + int(rng.normal(5.0, 15.0)), 0), minutes)] += eaten * rng.lognormal(0.0, 0.3)
    age = np.arange(360)
    absorbed = np.convolve(meals, age * np.exp(-age / 40) / (age * np.exp(-age / 40)).sum())
    acting = np.convolve(insulin, age * np.exp(-age / 70) / (age * np.exp(-age / 70)).sum())
    glucose, need = np.full(minutes, 150.0), 0.0
    for minute in range(1, minutes):
        before, need = glucose[minute - 1], need * (1.0 - 1.0 / 600.0) + rng.normal(0.0, 0.02)
        change = 90.0 * absorbed[minute] - 75.0 * acting[minute] * before / 150.0 - (before - 140.0) / 300.0 + need
        glucose[minute] = min(max(before + change, 35.0), 420.0)
    return sensed(glucose[::5], seed)


def forecast(time_ns: TimeArray, value: FloatArray) -> Forecasts:
    forecaster = GlucoseForecaster()
    forecaster.add()
    return forecaster.observe(np.zeros(len(value)), time_ns, value)


class Score:
    """Forecasts against the readings 30 minutes later, within half a minute."""

    def __init__(self, time_ns: TimeArray, value: FloatArray) -> None:
        made = forecast(time_ns, value)
        later = np.minimum(np.searchsorted(time_ns, time_ns + 30 * MINUTE_NS - MINUTE_NS // 2), len(value) - 1)
        met = (made.model >= 0) & (np.abs(time_ns[later] - time_ns - 30 * MINUTE_NS) <= MINUTE_NS // 2)
        true = value[later][met]
        self.error = float(np.mean((true - made.guess[met]) ** 2))
        self.error_of_last = float(np.mean((true - value[met]) ** 2))
        self.held = float(np.mean((true >= made.low[met]) & (true <= made.high[met])))


class TestUnseen:
    def test_a_real_recording(self) -> None:
        rows = trace(recording())
        found = Score(rows["time"].astype("int64").to_numpy(), rows["value"].to_numpy(np.float64))
        assert found.error < AIM < found.error_of_last
        assert 0.78 <= found.held <= 0.82

    @pytest.mark.parametrize("seed", [901, 902, 903])
    def test_the_simulators_patients(self, seed: int) -> None:
        found = Score(times(10 * DAY), simulated(seed))
        assert found.error < 0.85 * found.error_of_last
        assert 0.77 <= found.held <= 0.83

    @pytest.mark.parametrize("seed", [911, 912, 913])
    def test_meals_and_insulin(self, seed: int) -> None:
        found = Score(times(10 * DAY), dosed(seed))
        assert found.error < min(0.85 * found.error_of_last, AIM)
        assert 0.77 <= found.held <= 0.83


class TestRefusals:
    @pytest.mark.parametrize("points", [1, 3, LEAST_POINTS - 1])
    def test_few_points_make_no_forecast(self, points: int) -> None:
        made = forecast(times(points), np.linspace(120.0, 80.0, points))
        assert np.isnan(made.guess).all()
        assert (made.model == -1).all()

    def test_seven_make_one(self) -> None:
        made = forecast(times(LEAST_POINTS), np.linspace(120.0, 90.0, LEAST_POINTS))
        assert (made.model >= 0).tolist() == [False] * (LEAST_POINTS - 1) + [True]
        assert made.low[-1] < made.guess[-1] < 90 < made.high[-1]

    def test_a_gap_of_more_than_45_minutes_begins_anew(self) -> None:
        at_ns, value = times(20), np.full(20, 100.0)
        short, long = at_ns.copy(), at_ns.copy()
        short[10:] += 35 * MINUTE_NS
        long[10:] += 50 * MINUTE_NS
        assert forecast(short, value).model[10] >= 0
        assert (forecast(long, value).model[10:16] == -1).all()
        assert forecast(long, value).model[16] >= 0

    def test_a_reading_without_a_number_and_an_older_one_change_nothing(self) -> None:
        at_ns, value = times(40), simulated(904, 1)[:40]
        plain = forecast(at_ns, value)
        odd_ns, odd = np.insert(at_ns, 20, [at_ns[19] + 1, at_ns[3]]), np.insert(value, 20, [np.nan, 300.0])
        made = forecast(odd_ns, odd)
        np.testing.assert_array_equal(np.delete(made.guess, [20, 21]), plain.guess)
        assert (made.model[20:22] == -1).all()


class TestOrder:
    def test_later_readings_change_no_forecast(self) -> None:
        value = dosed(914, 3)
        whole, begun = forecast(times(len(value)), value), forecast(times(500), value[:500])
        for one, other in zip(whole, begun, strict=True):
            np.testing.assert_array_equal(one[:500], other)

    def test_patients_do_not_see_each_other_however_readings_are_cut(self) -> None:
        series = [dosed(seed, 2) for seed in (915, 916, 917)]
        alone = [forecast(times(2 * DAY), one).guess for one in series]
        together, made = GlucoseForecaster(), []
        together.add(3)
        number, at_ns = np.tile(np.arange(3), 2 * DAY), np.repeat(times(2 * DAY), 3)
        value = np.stack(series).T.ravel()
        for part in np.array_split(np.arange(len(value)), 17):
            made.append(together.observe(number[part], at_ns[part], value[part]).guess)
        np.testing.assert_array_equal(np.concatenate(made).reshape(-1, 3).T, alone)

    def test_a_sensor_goes_on_from_its_state(self) -> None:
        value = dosed(918, 2)
        forecaster, restored = GlucoseForecaster(), GlucoseForecaster()
        forecaster.add()
        forecaster.observe(np.zeros(DAY), times(DAY), value[:DAY])
        table: Table[Series] = Table(Series, DTYPES, {})
        table.load(forecaster.table.dump())
        restored.table = table
        rest = restored.observe(np.zeros(DAY), times(2 * DAY)[DAY:], value[DAY:])
        np.testing.assert_array_equal(rest.guess, forecast(times(2 * DAY), value).guess[DAY:])

    def test_readings_of_every_minute_are_sampled(self) -> None:
        made = forecast(times(200, 1.0), np.full(200, 120.0))
        assert np.flatnonzero(made.model >= 0)[:3].tolist() == [30, 35, 40]


class TestModels:
    def test_what_comes_every_day_is_learned(self) -> None:
        minute = np.arange(14 * DAY) % DAY * 5
        rng = np.random.default_rng(3)
        value = 120.0 + 90.0 * np.exp(-(((minute - 480) / 40.0) ** 2)) + rng.normal(0.0, 2.0, len(minute))
        forecaster = GlucoseForecaster()
        series = forecaster.add()
        made = forecaster.observe(np.zeros(len(value)), times(len(value)), value)
        errors = forecaster.past_error(series)
        assert errors["seasonal"] < errors["ar"] < errors["last"]
        assert made.model[-1] == ForecastModel.SEASONAL

    def test_a_walk_without_direction_is_left_to_its_last_value_or_not_much_worse(self) -> None:
        walk = np.clip(150.0 + np.cumsum(np.random.default_rng(4).normal(0.0, 3.0, 14 * DAY)), 60.0, 380.0)
        found = Score(times(len(walk)), walk)
        assert found.error < 1.1 * found.error_of_last

    def test_no_forecast_leaves_the_range_of_the_sensor(self) -> None:
        fall = np.clip(np.linspace(200.0, 40.0, 20), 40.0, 400.0)
        made = forecast(times(20), fall)
        for one in (made.guess, made.low, made.high):
            assert np.nanmin(one) >= 40.0
        assert np.nanmax(forecast(times(20), np.linspace(200.0, 400.0, 20)).high) <= 400.0
