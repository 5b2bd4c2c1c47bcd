"""Glucose in 30 minutes, per patient: recursive linear models chosen by their own past error, with an 80 % band.

Causal and O(1) per reading: every forecast is made from earlier readings only, and each reading is folded in once. The
readings of a sensor are put on a five-minute grid; gaps of up to 45 minutes are bridged by a line, which is never
scored; after a longer one the last readings start anew, and what was learned stays.

Three models forecast the change in 30 minutes: *last* (none), *ar* (a linear function of the value and of the last six
changes), *seasonal* (the same, with the usual change at this time of the patient's day). The coefficients are learned
by recursive least squares with forgetting, from the damped line that everybody starts with. The model with the least
recent squared error forecasts. The band is the 10 % and 90 % quantile of past errors, scaled by how much the value
moves and tracked online (Gibbs and Candes, NeurIPS 2021): over time it holds 80 % whatever the errors look like.
"""

from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alerts.judging.compiling import Float64Row, Int32Row, Int64Row, lean, record_type, settle
from alerts.judging.series import Array, Table
from vitals.catalog import BY_KEY
from vitals.times import DAY_NS, MINUTE_NS

AHEAD_MIN: Final = 30
STEPS: Final = 6
"""Grid steps in the horizon."""
LEAST_POINTS: Final = 7
"""Fewer readings in a row make no forecast: six changes are asked for."""
_STEP_NS: Final = 5 * MINUTE_NS
_EARLY_NS: Final = MINUTE_NS // 2
_LONGEST_STEPS: Final = 9
_CHANGES: Final = LEAST_POINTS - 1
_AR: Final = 2 + _CHANGES
_ALL: Final = _AR + 3
_BINS: Final = 48
_CENTER, _SPREAD = 140.0, 50.0
_LOW, _HIGH = BY_KEY["glucose_isf"].sensor_range or (40.0, 400.0)
_FORGET: Final = 0.9995
"""Of the coefficients: a week of readings."""
_RECENT: Final = 400
"""Readings over which models are compared: a day and a half."""
_FIRST_ERROR: Final = 400.0
_FIRST_WEIGHT: Final = 24
_SEASON_READINGS: Final = 60
"""Readings of a half-hour of the day that the usual change is the mean of: ten days of them."""
_CLIP_SD: Final = 4.0
_TAIL: Final = 0.1
_QUANTILE_STEP: Final = 0.04
_CALM, _MOVED, _USUAL_ERROR = 2.0, 0.3, 0.5
"""The scale of an error: what the sensor's noise makes it, the size of the last changes, and the error of late."""
_PRIOR: Final = (0.0, -6.0, 2.2, 1.2, 0.6, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Mean reversion and a damped line: what a patient of whom nothing is known is expected to do."""
_PRIOR_VARIANCE: Final = (0.3, 0.3, 3e-3, 3e-3, 3e-3, 3e-3, 3e-3, 3e-3, 1e-3, 0.1, 0.1)
"""Of the coefficients, in units of the error's variance."""


class ForecastModel(IntEnum):
    """Who forecasts."""

    LAST = 0
    AR = 1
    SEASONAL = 2


class Series(NamedTuple):
    """The state of each sensor; dtypes in ``DTYPES``. ``lags`` are the last values on the grid, the newest first, of
    which ``known`` are there. ``made_*`` are the forecasts whose time has not come, in a ring by ``step``: from which
    value, half-hour of the day and inputs, of which model what, which was chosen, and the scale of its band. ``weight``
    and ``spread`` are coefficients and their covariance of the two models that learn. ``error`` is the recent squared
    error of each model, ``inside`` how many of the ``scored`` forecasts were in their band."""

    last_ns: Array
    step: Array
    known: Array
    lags: Array
    made: Array
    made_from: Array
    made_bin: Array
    made_input: Array
    made_guess: Array
    made_chosen: Array
    made_scale: Array
    weight: Array
    spread: Array
    gain: Array
    error: Array
    scored: Array
    usual: Array
    usual_count: Array
    quantile: Array
    inside: Array


DTYPES: Final = MappingProxyType({
    "last_ns": "<i8", "step": "<i8", "known": "<i4", "lags": "(7,)<f8", "made": "(6,)<u1", "made_from": "(6,)<f8",
    "made_bin": "(6,)<i4", "made_input": "(6,11)<f8", "made_guess": "(6,3)<f8", "made_chosen": "(6,)<f8",
    "made_scale": "(6,)<f8", "weight": "(2,11)<f8", "spread": "(2,11,11)<f8", "gain": "(11,)<f8", "error": "(3,)<f8",
    "scored": "<i8", "usual": "(48,)<f8", "usual_count": "(48,)<i4", "quantile": "(2,)<f8", "inside": "<i8",
})  # fmt: skip
SERIES: Final = record_type(Series, DTYPES, readonly=False)
_MODELS: Final = 3
_LAST: Final = int(ForecastModel.LAST)
_AR_MODEL: Final = int(ForecastModel.AR)


@lean
def _begin(own: Series, s: int) -> None:
    """A sensor of which nothing is known."""
    for learner in range(2):
        for i in range(_ALL):
            own.weight[s, learner, i] = _PRIOR[i]
            for j in range(_ALL):
                own.spread[s, learner, i, j] = _PRIOR_VARIANCE[i] if i == j else 0.0
    for model in range(_MODELS):
        own.error[s, model] = _FIRST_ERROR * (2.0 if model == _LAST else 1.0)
    own.quantile[s, 0], own.quantile[s, 1] = -1.0, 1.0


@lean
def _learn(own: Series, s: int, learner: int, size: int, place: int, error: float) -> None:
    """Recursive least squares with forgetting: an error of the forecast at ``place`` moves a learner's coefficients."""
    # Step 1: P x, and x' P x.
    total = _FORGET
    for i in range(size):
        gain = 0.0
        for j in range(size):
            gain += own.spread[s, learner, i, j] * own.made_input[s, place, j]
        own.gain[s, i] = gain
        total += own.made_input[s, place, i] * gain
    # Step 2: the coefficients; a direction that no reading excites is not forgotten for ever.
    forget = 1.0 / _FORGET
    for i in range(size):
        own.weight[s, learner, i] += own.gain[s, i] / total * error
        if own.spread[s, learner, i, i] > _PRIOR_VARIANCE[i]:
            forget = 1.0
    # Step 3: P.
    for i in range(size):
        for j in range(size):
            left = own.spread[s, learner, i, j] - own.gain[s, i] * own.gain[s, j] / total
            own.spread[s, learner, i, j] = left * forget


@lean
def _score(own: Series, s: int, place: int, value: float) -> None:
    """A reading meets the forecast that was made of it: errors, coefficients, usual change, band."""
    rate = 1.0 / (min(own.scored[s], _RECENT) + _FIRST_WEIGHT)
    for model in range(_MODELS):
        error = value - own.made_guess[s, place, model]
        if model != _LAST:
            edge = _CLIP_SD * np.sqrt(own.error[s, model])
            size = _AR if model == _AR_MODEL else _ALL
            _learn(own, s, model - 1, size, place, min(max(error, -edge), edge))
        own.error[s, model] += rate * (error * error - own.error[s, model])
    part = own.made_bin[s, place]
    days = min(own.usual_count[s, part] + 1, _SEASON_READINGS)
    own.usual_count[s, part] = days
    own.usual[s, part] += (value - own.made_from[s, place] - own.usual[s, part]) / days
    scaled = (value - own.made_chosen[s, place]) / own.made_scale[s, place]
    low, high = own.quantile[s, 0], own.quantile[s, 1]
    step = _QUANTILE_STEP * max(1.0, 10.0 / (1.0 + own.scored[s] / 10.0))
    own.quantile[s, 0] = low - step * (1.0 - _TAIL) if scaled < low else low + step * _TAIL
    own.quantile[s, 1] = high + step * (1.0 - _TAIL) if scaled > high else high - step * _TAIL
    own.inside[s] += 1 if low <= scaled <= high else 0
    own.scored[s] += 1


@lean
def _push(own: Series, s: int, value: float) -> None:
    """A grid step: the newest value, before the others."""
    for place in range(_CHANGES, 0, -1):
        own.lags[s, place] = own.lags[s, place - 1]
    own.lags[s, 0] = value
    own.known[s] = min(own.known[s] + 1, LEAST_POINTS)
    own.step[s] += 1


@lean
def _take(own: Series, s: int, time_ns: int, value: float) -> int:
    """Put a reading on the grid: 1 when it is a step of it, 0 when it is too near to the last one, or older."""
    if own.known[s] == 0 and own.scored[s] == 0 and own.step[s] == 0:
        _begin(own, s)
    steps = (time_ns - own.last_ns[s] + _EARLY_NS) // _STEP_NS
    if own.known[s] > 0 and steps < 1:
        return 0
    if own.known[s] == 0 or steps > _LONGEST_STEPS:
        own.known[s] = 0
        for place in range(STEPS):
            own.made[s, place] = 0
        steps = 1
    before = own.lags[s, 0]
    for number in range(1, steps):
        _push(own, s, before + (value - before) * number / steps)
        own.made[s, own.step[s] % STEPS] = 0
    _push(own, s, value)
    own.last_ns[s] = time_ns
    return 1


@lean
def _make(own: Series, s: int, place: int, time_ns: int, tz_min: int) -> int:
    """Forecast from the values on the grid into ``made_*`` at ``place``; the model that is chosen."""
    # Step 1: what the learners see.
    local_ns = time_ns + tz_min * MINUTE_NS
    share = (local_ns - local_ns // DAY_NS * DAY_NS) / DAY_NS
    part = min(int(share * _BINS), _BINS - 1)
    moved = 0.0
    own.made_input[s, place, 0] = 1.0
    own.made_input[s, place, 1] = (own.lags[s, 0] - _CENTER) / _SPREAD
    for number in range(_CHANGES):
        change = own.lags[s, number] - own.lags[s, number + 1]
        own.made_input[s, place, 2 + number] = change
        moved += abs(change)
    own.made_input[s, place, _AR] = own.usual[s, part]
    own.made_input[s, place, _AR + 1] = np.sin(2.0 * np.pi * share)
    own.made_input[s, place, _AR + 2] = np.cos(2.0 * np.pi * share)
    # Step 2: each model, within the range of the sensor; the least recent error chooses.
    value, chosen = own.lags[s, 0], _LAST
    for model in range(_MODELS):
        guess = value
        if model != _LAST:
            for i in range(_AR if model == _AR_MODEL else _ALL):
                guess += own.weight[s, model - 1, i] * own.made_input[s, place, i]
        own.made_guess[s, place, model] = min(max(guess, _LOW), _HIGH)
        if own.error[s, model] < own.error[s, chosen]:
            chosen = model
    # Step 3: what it will be scored by.
    own.made[s, place], own.made_from[s, place], own.made_bin[s, place] = 1, value, part
    own.made_chosen[s, place] = own.made_guess[s, place, chosen]
    own.made_scale[s, place] = _CALM + _MOVED * moved + _USUAL_ERROR * np.sqrt(own.error[s, chosen])
    return chosen


@lean
def scan(
    own: Series, series: Int32Row, time_ns: Int64Row, tz_min: Int64Row, value: Float64Row, guess: Float64Row,
    low: Float64Row, high: Float64Row, model: Int32Row,
) -> int:  # fmt: skip
    """Fold readings of many sensors in order, each with the forecast that it allows; how many there were.

    ``guess``, ``low`` and ``high`` (mg/dL, 30 minutes after the reading) and ``model`` are filled: NaN and -1 where
    there is no forecast: fewer than seven readings in a row, or a reading between two steps of the grid.
    """
    made = 0
    for row in range(series.size):
        s = series[row]
        guess[row], low[row], high[row], model[row] = np.nan, np.nan, np.nan, -1
        if np.isnan(value[row]) or _take(own, s, time_ns[row], value[row]) == 0:
            continue
        place = own.step[s] % STEPS
        if own.made[s, place] != 0:
            _score(own, s, place, value[row])
        own.made[s, place] = 0
        if own.known[s] < LEAST_POINTS:
            continue
        model[row] = _make(own, s, place, time_ns[row], tz_min[row])
        guess[row], scale = own.made_chosen[s, place], own.made_scale[s, place]
        low[row] = min(max(guess[row] + own.quantile[s, 0] * scale, _LOW), _HIGH)
        high[row] = max(min(guess[row] + own.quantile[s, 1] * scale, _HIGH), low[row])
        made += 1
    return made


def load() -> None:
    """Compile the kernel, or take it from numba's cache; later calls are free."""
    settle(scan)


class Forecasts(NamedTuple):
    """One forecast for each reading, mg/dL; NaN and model -1 where there is none."""

    guess: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    model: npt.NDArray[np.int32]


class GlucoseForecaster:
    """The sensors of many patients. A series is a number from :meth:`add`."""

    def __init__(self) -> None:
        load()
        self.table: Table[Series] = Table(Series, DTYPES, {})

    def add(self, count: int = 1) -> int:
        """``count`` more sensors; the number of the first."""
        return self.table.add(count)

    def observe(
        self, series: npt.ArrayLike, time_ns: npt.ArrayLike, value: npt.ArrayLike, tz_min: npt.ArrayLike = 0
    ) -> Forecasts:
        """Fold readings (mg/dL, in order of time for each sensor) and forecast from each.

        ``series`` (int32), ``time_ns`` (int64, UTC), ``value`` (float64) and ``tz_min`` (the patient's offset) are of
        one length; an older reading than the last one of its sensor is ignored.
        """
        numbers = np.ascontiguousarray(series, np.int32)
        size = len(numbers)
        out = Forecasts(np.empty(size), np.empty(size), np.empty(size), np.empty(size, np.int32))
        scan(
            self.table.state, numbers, np.array(time_ns, np.int64),
            np.array(np.broadcast_to(np.asarray(tz_min, np.int64), size)), np.array(value, np.float64), *out,
        )  # fmt: skip
        return out

    def past_error(self, series: int) -> dict[str, float]:
        """The recent mean squared error (mg/dL)^2 of each model, by name."""
        return {one.name.lower(): float(self.table.state.error[series, one]) for one in ForecastModel}

    def held(self, series: int) -> tuple[int, float]:
        """How many forecasts met their reading, and which share of these readings was in the band."""
        scored = int(self.table.state.scored[series])
        return scored, float(self.table.state.inside[series]) / scored if scored else float("nan")
