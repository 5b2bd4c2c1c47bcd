"""The robust baseline per bucket of the clock (clinical.md 6.1)."""

import numpy as np
import pytest

from alerts.judging.baseline import DAY_S, USABLE_DAYS, Baseline, bucket_of, create, learn, usable


def week(base: Baseline, days: int, *, seed: int = 0, outliers: float = 0.0) -> None:
    """Heart rates of two patients, each hour: 60 at midnight to 80 at noon; the second is 10 above."""
    random = np.random.default_rng(seed)
    for day in range(days):
        for hour in range(24):
            mean = 70 - 10 * np.cos(2 * np.pi * hour / 24)
            for series in range(2):
                far = 300.0 if random.random() < outliers else 0.0
                learn(base, series, hour, day, mean + 10 * series + 2 * random.normal() + far, 60)


def test_each_hour_of_each_series_has_its_own_centre() -> None:
    base = create(2, 24)
    week(base, 60)
    assert base.center[0, [0, 12]] == pytest.approx([60, 80], abs=1.5)
    assert base.center[1, [0, 12]] == pytest.approx([70, 90], abs=1.5)
    assert base.spread.mean() == pytest.approx(2 * np.sqrt(2 / np.pi), rel=0.15), "mean absolute deviation of sigma 2"


def test_far_values_hardly_move_it() -> None:
    base = create(2, 24)
    week(base, 90, outliers=0.03)
    clean = create(2, 24)
    week(clean, 90)
    assert np.median(np.abs(base.center - clean.center)) < 1
    assert np.median(base.spread) < 3 * np.median(clean.spread)


def test_it_may_judge_after_a_week() -> None:
    base = create(2, 24)
    week(base, USABLE_DAYS - 1)
    assert not usable(base, 0, 12)
    week(base, USABLE_DAYS)
    assert usable(base, 0, 12)
    assert base.days.tolist() == [USABLE_DAYS] * 2, "a day counts once"


def test_an_hour_never_seen_may_not() -> None:
    base = create(1, 24)
    for day in range(30):
        learn(base, 0, 8, day, 70.0, 14)
    assert usable(base, 0, 8)
    assert not usable(base, 0, 9)


def test_a_value_that_never_changed_may_still_change() -> None:
    base = create(1, 1)
    for day in range(50):
        learn(base, 0, 0, day, 5.0, 14)
    assert base.spread[0, 0] == 0
    for day in range(50, 150):
        learn(base, 0, 0, day, 9.0, 14)
    assert base.center[0, 0] == pytest.approx(9, abs=0.1)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (3599.9, 0), (3600.0, 1), (DAY_S - 1e-9, 23), (DAY_S, 0), (-1.0, 23), (5 * DAY_S + 7200.0, 2),
     (1e12, 1)],
)  # fmt: skip
def test_buckets_of_the_day(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds, DAY_S, 24) == bucket
