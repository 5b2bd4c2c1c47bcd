"""The row loop of the anomaly scorer (alerts/detect/scorer.py), as numba kernels over one series' state.

A row passes four stages: forecast it in several ways and keep the one that has erred least; turn the errors into one
statistic per detector; turn each statistic into a surprise, minus the decimal logarithm of its tail probability in its
own history; and join the surprises into a score that fades while an event lasts.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alerts.judging.baseline import DAY_S, Baseline, bucket_of, learn

Array = npt.NDArray[Any]

RING: Final = 4096
LONGEST_PERIOD: Final = 1024
PERIOD_EVERY: Final = 256
"""Rows between two looks for a period."""

# Forecasts: the last value, a fast average, a slow one, what the time of day and of week usually have, the period found
# in the rows, and the best of those that do not follow the last rows corrected by its last error.
LAST, SMOOTH, CENTER, DAY, WEEK, PERIOD, CORRECTED = range(7)
FORECASTS: Final = 7
DAY_BUCKETS: Final = 288
WEEK_BUCKETS: Final = 672

# Detectors: error of the best forecast, error of the best that does not follow the last rows, its mean, its CUSUM,
# errors larger or smaller than usual, equal values, distance from the slow average.
POINT, SEASON, LEVEL, DRIFT, VARIANCE, QUIET, FLAT, RANGE = range(8)
DETECTORS: Final = 8
BINS: Final = 192

# Places in the vector of single numbers.
(COUNT, ORIGIN, LEAST, MOST, PREVIOUS, PREVIOUS_ERROR, PHI_TOP, PHI_BOTTOM, SMOOTHED, EVER, SQUARES, LEVEL_MEAN, UP,
 DOWN, ENERGY, RUN, SHIELD) = range(17)  # fmt: skip
NUMBERS: Final = 17

LARGEST: Final = 1e100
"""Values are clipped to this size, so that squares stay finite."""
SMALLEST: Final = 1e-200
"""No error is taken for less, so that quotients stay finite."""
WARM_UP: Final = 30
"""Rows with a value before the first score above 0."""
LEVEL_GAIN: Final = 0.08
"""The share of a row in the mean error of the last rows."""
SLACK: Final = 1.0
"""What the CUSUM lets pass per row, in mean absolute errors (clinical.md 6.1)."""
ENERGY_GAIN: Final = 0.06
"""The share of a row in the size of the last errors."""
COINCIDENCE: Final = 2.0
"""Repetitions of a value that rounding alone explains."""
CENTER_MEMORY: Final = 2000.0
"""Rows that the slow average remembers."""
DAY_MEMORY: Final = 14
WEEK_MEMORY: Final = 6
"""Days and weeks that an hour's usual value remembers."""
AGREE_FROM: Final = 2.0
AGREEMENT: Final = 1.3
"""What the surprise of a further detector above ``AGREE_FROM`` adds."""
HABITUATION: Final = 0.5
SHORTEST_MEMORY: Final = 100.0
MEMORY_SHARE: Final = 0.5
"""The memory of a surprise fades over so many rows, or this share of all rows so far, whichever is more."""
HALF_NEWS: Final = 2.1
"""The news that scores 0.5."""
GAUSSIAN_WINDOW: Final = 6400
GAUSSIAN_STEP: Final = 100

_LOG_LOW: Final = -5.0
_LOG_STEP: Final = 0.1
_TAIL: Final = 0.05
"""The share of the history that is taken as the tail."""
_TAIL_PRIOR: Final = 20.0
"""Rows that the presumed tail index counts for."""
_TAIL_INDEX: Final = 0.25


class Model(NamedTuple):
    """All that is known of one series; sizes above."""

    numbers: Array
    ring: Array
    period: Array
    error: Array
    judged: Array
    histogram: Array
    day: Baseline
    week: Baseline


@njit(cache=True, nogil=True)
def find_period(ring: Array, count: int) -> int:
    """The lag of the highest peak of the autocorrelation of the last rows, or 0 when there is none worth the name."""
    size = min(count, RING // 2)
    recent = np.empty(size)
    for place in range(size):
        recent[place] = ring[(count - size + place) % RING]
    middle = np.median(recent)
    spread = np.mean(np.abs(recent - middle))
    if spread <= 0.0:
        return 0
    for place in range(size):
        recent[place] = min(max((recent[place] - middle) / spread, -4.0), 4.0)
    whole = float(np.mean(recent * recent))
    longest = min(LONGEST_PERIOD, size // 2)
    found, highest, lowest = 0, 0.3, 1.0
    for lag in range(2, longest):
        likeness = 0.0
        for place in range(lag, size):
            likeness += recent[place] * recent[place - lag]
        likeness /= (size - lag) * whole
        # Only behind a valley: near lags are alike in any smooth series.
        lowest = min(lowest, likeness)
        if lowest < 0.25 and likeness > highest * 1.05:
            found, highest = lag, likeness
    return found


@njit(cache=True, nogil=True)
def _forecast(model: Model, seconds: float, guess: Array) -> None:
    """Fill ``guess``; NaN where there is nothing to go by."""
    numbers, ring = model.numbers, model.ring
    count = int(numbers[COUNT])
    guess[:] = np.nan
    guess[LAST] = numbers[PREVIOUS]
    if np.isfinite(seconds):
        bucket = bucket_of(seconds, DAY_S, DAY_BUCKETS)
        if model.day.seen[0, bucket] > 1:
            guess[DAY] = model.day.center[0, bucket]
        bucket = bucket_of(seconds, 7 * DAY_S, WEEK_BUCKETS)
        if model.week.seen[0, bucket] > 0:
            guess[WEEK] = model.week.center[0, bucket]
    period = int(model.period[0])
    if period > 0 and count > 3 * period:
        first, second, third = (
            ring[(count - period) % RING],
            ring[(count - 2 * period) % RING],
            ring[(count - 3 * period) % RING],
        )
        # The middle of three cycles: what happened once does not echo.
        guess[PERIOD] = first + second + third - max(first, second, third) - min(first, second, third)


@njit(cache=True, nogil=True)
def surprise(histogram: Array, statistic: float) -> float:
    """-log10 of the share of the history at or above a statistic, and let the statistic into the history.

    Beyond the tail the share follows a Pareto law whose index is that of the tail seen so far.
    """
    place = (np.log(statistic + 1e-9) - _LOG_LOW) / _LOG_STEP
    place = min(max(place, 0.0), BINS - 1.0)
    whole = histogram[BINS]
    above, excess, start = 0.0, 0.0, BINS - 1
    wanted = _TAIL * whole
    # Down to where the tail starts.
    while start > 0 and above + histogram[start] < wanted:
        above += histogram[start]
        excess += histogram[start] * start
        start -= 1
    found = 0.0
    edge = start + 1.0
    if place < edge:
        over = above
        cell = int(place)
        for bin_ in range(start, cell, -1):
            over += histogram[bin_]
        over += histogram[cell] * (cell + 1 - place)
        found = -np.log10(min((over + 1.0) / (whole + 2.0), 1.0))
    else:
        index = ((excess + 0.5 * above - above * edge) * _LOG_STEP + _TAIL_PRIOR * _TAIL_INDEX) / (above + _TAIL_PRIOR)
        found = -np.log10((above + 1.0) / (whole + 2.0)) + (place - edge) * _LOG_STEP / index / np.log(10.0)
    histogram[int(place)] += 1.0
    histogram[BINS] += 1.0
    return float(found)


@njit(cache=True, nogil=True)
def _judge(model: Model, guess: Array, value: float) -> None:
    """Let every forecast's error into its mean absolute error, far ones clipped."""
    for one in range(FORECASTS):
        if np.isnan(guess[one]):
            continue
        size = abs(value - guess[one])
        seen = model.judged[one]
        if seen > 20 and model.error[one] > 0.0:
            size = min(size, 6.0 * model.error[one])
        model.error[one] += (size - model.error[one]) / min(seen + 1.0, 1000.0)
        model.judged[one] = seen + 1.0


@njit(cache=True, nogil=True)
def _best(model: Model, guess: Array, first: int, last: int, otherwise: int) -> int:
    """Which of the forecasts first..last has erred least, or the other one."""
    found = otherwise
    for one in range(first, last + 1):
        if model.judged[one] >= 50 and not np.isnan(guess[one]) and model.error[one] < model.error[found]:
            found = one
    return found


@njit(cache=True, nogil=True)
def _choose(model: Model, seconds: float, guess: Array) -> tuple[int, int]:
    """Fill ``guess``; (best forecast that does not follow the last rows, best one that does)."""
    numbers = model.numbers
    _forecast(model, seconds, guess)
    guess[CENTER] = numbers[EVER]
    guess[SMOOTH] = numbers[SMOOTHED]
    slow = _best(model, guess, DAY, PERIOD, CENTER)
    phi = 0.0 if numbers[PHI_BOTTOM] <= 0.0 else min(max(numbers[PHI_TOP] / numbers[PHI_BOTTOM], 0.0), 0.99)
    guess[CORRECTED] = guess[slow] + phi * numbers[PREVIOUS_ERROR]
    fast = SMOOTH if model.error[SMOOTH] < model.error[LAST] else LAST
    if model.judged[CORRECTED] >= 20 and model.error[CORRECTED] < model.error[fast]:
        fast = CORRECTED
    return slow, fast


@njit(cache=True, nogil=True)
def _statistics(model: Model, value: float, guess: Array, slow: int, fast: int, found: Array) -> None:
    """Fill ``found`` with a statistic per detector, in units of what is usual."""
    numbers, error = model.numbers, model.error
    # A forecast that hardly ever errs must not make a crumb into an event.
    floor = max(0.02 * error[CENTER], SMALLEST)
    near = (value - guess[fast]) / max(error[fast], floor)
    far = (value - guess[slow]) / max(error[slow], floor)
    pull = min(max(far, -6.0), 6.0)
    numbers[LEVEL_MEAN] += LEVEL_GAIN * (pull - numbers[LEVEL_MEAN])
    numbers[UP] = min(max(0.0, numbers[UP] + pull - SLACK), 400.0)
    numbers[DOWN] = min(max(0.0, numbers[DOWN] - pull - SLACK), 400.0)
    numbers[ENERGY] += ENERGY_GAIN * (min(abs(near), 8.0) - numbers[ENERGY])
    numbers[RUN] = numbers[RUN] + 1.0 if value == numbers[PREVIOUS] else 0.0
    found[POINT] = min(abs(near), 1e6)
    found[SEASON] = min(abs(far), 1e6)
    found[QUIET] = 1.0 / (numbers[ENERGY] + 0.01)
    found[LEVEL] = abs(numbers[LEVEL_MEAN])
    found[DRIFT] = max(numbers[UP], numbers[DOWN])
    found[VARIANCE] = numbers[ENERGY]
    found[FLAT] = 1.0 + max(numbers[RUN] - COINCIDENCE, 0.0)
    found[RANGE] = min(abs(value - guess[CENTER]) / max(error[CENTER], SMALLEST), 1e6)


@njit(cache=True, nogil=True)
def _learn(model: Model, value: float, seconds: float, guess: Array, slow: int) -> None:
    """Let a row into everything that forecasts."""
    numbers = model.numbers
    _judge(model, guess, value)
    count = numbers[COUNT]
    reach = 3.0 * model.error[CENTER] if count > 20 else np.inf
    numbers[EVER] += min(max(value - numbers[EVER], -reach), reach) / min(count + 1.0, CENTER_MEMORY)
    numbers[SMOOTHED] = value if count == 0 else numbers[SMOOTHED] + 0.3 * (value - numbers[SMOOTHED])
    miss = value - guess[slow]
    reach = 4.0 * model.error[slow]
    miss = min(max(miss, -reach), reach)
    numbers[PHI_TOP] = 0.998 * numbers[PHI_TOP] + miss * numbers[PREVIOUS_ERROR]
    numbers[PHI_BOTTOM] = 0.998 * numbers[PHI_BOTTOM] + miss * miss
    numbers[PREVIOUS_ERROR] = miss
    numbers[PREVIOUS] = value
    model.ring[int(count) % RING] = value
    if np.isfinite(seconds):
        day = int(seconds // DAY_S)
        rows_per_bucket = 1 + int(count / max(model.day.days[0], 1) / DAY_BUCKETS)
        learn(model.day, 0, bucket_of(seconds, DAY_S, DAY_BUCKETS), day, value, DAY_MEMORY * rows_per_bucket)
        learn(model.week, 0, bucket_of(seconds, 7 * DAY_S, WEEK_BUCKETS), day, value, WEEK_MEMORY * rows_per_bucket)
    numbers[COUNT] = count + 1.0
    if (count + 1.0) % PERIOD_EVERY == 0.0:
        model.period[0] = find_period(model.ring, int(count + 1.0))


@njit(cache=True, nogil=True)
def _finite(numbers: Array, value: float) -> float:
    """A value as the detectors take it: relative to the first one; what a meter calls LO or HI lies a quarter of the
    range seen so far beyond it. NaN when there is nothing to score."""
    if np.isinf(value):
        if numbers[COUNT] == 0.0:
            return np.nan
        beyond = 0.25 * (numbers[MOST] - numbers[LEAST])
        return float(numbers[MOST] + beyond if value > 0.0 else numbers[LEAST] - beyond)
    if np.isnan(value):
        return np.nan
    value = min(max(value, -LARGEST), LARGEST)
    if numbers[COUNT] == 0.0:
        numbers[ORIGIN] = value
    value -= numbers[ORIGIN]
    numbers[LEAST] = min(numbers[LEAST], value)
    numbers[MOST] = max(numbers[MOST], value)
    return float(value)


@njit(cache=True, nogil=True)
def _news(numbers: Array, surprises: Array, weights: Array) -> float:
    """How much more surprising a row is than what its series did before.

    The strongest detector counts, and of the others what exceeds ``AGREE_FROM``. Half of the highest such sum in
    memory is taken off: an event that lasts fades, and a series that often surprises has to surprise more.
    """
    strongest, agreeing = 0.0, 0.0
    for one in range(DETECTORS):
        weighted = weights[one] * surprises[one]
        strongest = max(strongest, weighted)
        agreeing += max(weighted - AGREE_FROM, 0.0)
    strongest += AGREEMENT * (agreeing - max(strongest - AGREE_FROM, 0.0))
    news = strongest - HABITUATION * numbers[SHIELD]
    fade = np.exp(-1.0 / max(SHORTEST_MEMORY, MEMORY_SHARE * numbers[COUNT]))
    numbers[SHIELD] = max(numbers[SHIELD] * fade, strongest)
    return float(news)


@njit(cache=True, nogil=True)
def scan(model: Model, weights: Array, values: Array, seconds: Array, scores: Array) -> None:
    """Score rows in order into ``scores`` (0 to 1), learning each; rows without a value score 0 and teach nothing.

    ``weights``: what the surprise of each detector counts, 0 = not used.
    """
    guess, statistics, surprises = np.empty(FORECASTS), np.empty(DETECTORS), np.empty(DETECTORS)
    numbers = model.numbers
    for row in range(values.size):
        scores[row] = 0.0
        value = _finite(numbers, values[row])
        if np.isnan(value):
            continue
        slow, fast = _choose(model, seconds[row], guess)
        _statistics(model, value, guess, slow, fast, statistics)
        for one in range(DETECTORS):
            surprises[one] = surprise(model.histogram[one], statistics[one])
        news = _news(numbers, surprises, weights)
        if numbers[COUNT] >= WARM_UP and news > 0.0:
            square = (news / HALF_NEWS) ** 2
            scores[row] = square / (1.0 + square)
        _learn(model, value, seconds[row], guess, slow)


@njit(cache=True, nogil=True)
def scan_gaussian(numbers: Array, window: Array, values: Array, scores: Array) -> None:
    """The yardstick: 1 - two-sided Gaussian tail probability under the mean and deviation of a sliding window.

    While the window fills, every row counts at once; then it moves on ``GAUSSIAN_STEP`` rows at a time (clinical.md
    6.3, "Windowed Gaussian").
    """
    for row in range(values.size):
        scores[row] = 0.0
        value = _finite(numbers, values[row])
        if np.isnan(value):
            continue
        count = int(numbers[COUNT])
        if count > 1:
            deviation = np.sqrt(numbers[SQUARES] / min(count, window.size))
            away = abs(value - numbers[EVER])
            if deviation > 0.0:
                scores[row] = 1.0 - math.erfc(away / deviation / math.sqrt(2.0))
            elif away > 0.0:
                scores[row] = 1.0
        window[count % window.size] = value
        count += 1
        numbers[COUNT] = count
        if count <= window.size:
            error = value - numbers[EVER]
            numbers[EVER] += error / count
            numbers[SQUARES] += error * (value - numbers[EVER])
        elif count % GAUSSIAN_STEP == 0:
            numbers[EVER] = np.mean(window)
            numbers[SQUARES] = np.sum((window - numbers[EVER]) ** 2)
