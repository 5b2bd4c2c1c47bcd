"""Usual values: a robust centre and spread per series and bucket of the clock, learned row by row (clinical.md 6.1).

The state is plain arrays, one row per series, so it can be snapshotted beside any other state. Who feeds it decides
what is learned: a rule engine passes only valid values that alarm nothing.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

USABLE_DAYS: Final = 7
"""Distinct days a series must have been seen on before its baseline may judge (clinical.md 6.1)."""
DAY_S: Final = 86400.0
CLIP: Final = 3.0
"""Spreads beyond which a value pulls no harder: what makes centre and spread robust."""
MEAN_TO_SIGMA: Final = 1.2533
"""Standard deviations per mean absolute deviation, for Gaussian values."""


class Baseline(NamedTuple):
    """``center``, ``spread`` (mean absolute deviation, float64) and ``seen`` (values, int64) are series x buckets;
    ``days`` (distinct days, int64) and ``last_day`` (int64, -1 = none) are one per series."""

    center: Array
    spread: Array
    seen: Array
    days: Array
    last_day: Array


def create(series: int, buckets: int) -> Baseline:
    """A baseline that knows nothing."""
    shape = (series, buckets)
    return Baseline(
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape, np.int64),
        np.zeros(series, np.int64),
        np.full(series, -1, np.int64),
    )


@njit(cache=True, nogil=True)
def learn(base: Baseline, series: int, bucket: int, day: int, value: float, memory: int) -> None:
    """Let a finite value into its bucket; after ``memory`` values, older ones fade at that rate."""
    if day > base.last_day[series]:
        base.last_day[series] = day
        base.days[series] += 1
    count = base.seen[series, bucket] + 1
    base.seen[series, bucket] = count
    if count == 1:
        base.center[series, bucket] = value
        return
    gain = 1.0 / min(count, memory)
    error = value - base.center[series, bucket]
    spread = base.spread[series, bucket]
    size = abs(error)
    if count > 5 and size > CLIP * spread * MEAN_TO_SIGMA:
        # A value far out moves the centre no further than one at the edge, and lets the spread grow by a factor at
        # most; a spread of zero has no edge yet.
        edge = CLIP * spread * MEAN_TO_SIGMA
        size = edge if edge > 0.0 else size
        error = size if error > 0.0 else -size
    base.center[series, bucket] += gain * error
    base.spread[series, bucket] += gain * (size - spread)


@njit(cache=True, nogil=True)
def usable(base: Baseline, series: int, bucket: int) -> bool:
    """Whether a bucket may judge: a week has been seen, and this hour of it more than once."""
    return bool(base.days[series] >= USABLE_DAYS and base.seen[series, bucket] > 1)


@njit(cache=True, nogil=True)
def bucket_of(seconds: float, cycle_s: float, buckets: int) -> int:
    """The bucket of a wall-clock time in a cycle (a day, a week) that is cut into ``buckets`` equal parts."""
    part = int((seconds % cycle_s) / cycle_s * buckets)
    return min(max(part, 0), buckets - 1)
