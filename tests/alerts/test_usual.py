"""What is usual for a patient at an hour of the day (clinical.md 6.1)."""

from collections import defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.judging.series import MEMORY_DAYS, WHOLE_DAY, Usual, deviation, learn_usual, usual_table
from alerts.rules.spec import Op
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

START = 20_000 * DAY_NS
MORNING = 8 * HOUR_NS


def one_usual() -> Usual:
    table = usual_table()
    table.add()
    return table.state


def learned(days: int, per_day: int, level: float = 70.0, sigma: float = 0.0, into: Usual | None = None,
            first: int = 0, outliers: float = 0.0, seed: int = 1) -> Usual:  # fmt: skip
    """Values of ``per_day`` evenly spaced times on days from ``first``."""
    usual, random = into or one_usual(), np.random.default_rng(seed)
    for day in range(first, first + days):
        for number in range(per_day):
            far = 60.0 if random.random() < outliers else 0.0
            of_day_ns = (MORNING + number * (DAY_NS // per_day)) % DAY_NS
            learn_usual(usual, 0, START + day * DAY_NS + of_day_ns, 0, level + sigma * random.normal() + far)
    return usual


def at(day: int, hour: float = 8.0) -> int:
    return START + day * DAY_NS + round(hour * HOUR_NS)


def center(usual: Usual, day: int, hour: float = 8.0) -> float:
    ok, difference = deviation(usual, 0, Op.DIFFERENCE, 0.0, at(day, hour), 0, 0.0)
    assert ok
    return -difference


def measured(usual: Usual, op: Op, value: float, floor: float = 0.0) -> tuple[int, float]:
    return deviation(usual, 0, op, floor, at(10), 0, value)


def test_robust_z_of_the_reference() -> None:
    usual = one_usual()
    for day in range(7):
        for second, value in enumerate([70.0, 71.0, 69.0, 70.0, 70.0]):
            learn_usual(usual, 0, at(day) + second, 0, value)
    ok, z = deviation(usual, 0, Op.ROBUST_Z, 1.0, at(7), 0, 90.0)
    assert ok == 1
    assert z == pytest.approx(13.49, abs=0.005), "median 70, MAD 1: the floor"


def test_a_spread_above_the_floor_counts() -> None:
    usual = learned(10, 1440, sigma=4.0)
    ok, z = measured(usual, Op.ROBUST_Z, 70.0 + 3 * 4.0, 1.0)
    assert ok == 1
    assert z == pytest.approx(3.0, abs=0.3), "three standard deviations"


def test_difference_and_ratio() -> None:
    usual = learned(10, 24, 60.0)
    assert measured(usual, Op.DIFFERENCE, 56.0) == (1, -4.0)
    assert measured(usual, Op.RATIO, 78.0) == (1, 1.3)


def test_what_cannot_be_divided_is_not_measured() -> None:
    usual = learned(10, 24, 0.0)
    assert measured(usual, Op.RATIO, 78.0) == (0, 0.0)
    assert measured(usual, Op.ROBUST_Z, 78.0) == (0, 0.0), "no spread and no floor"
    assert measured(usual, Op.ROBUST_Z, 2.0, 1.0)[0] == 1


@pytest.mark.parametrize(("days", "ok"), [(0, 0), (6, 0), (7, 1)])
def test_it_judges_after_seven_days(days: int, ok: int) -> None:
    usual = learned(days, 24)
    assert deviation(usual, 0, Op.DIFFERENCE, 0.0, at(days), 0, 71.0) == (ok, float(ok))


def test_a_day_is_not_judged_by_itself() -> None:
    usual = learned(7, 24)
    for minute in range(60):
        learn_usual(usual, 0, at(7) + minute * MINUTE_NS, 0, 90.0)
    assert center(usual, 7) == 70.0
    assert center(usual, 8) == pytest.approx(70 + 20 / 7)


def test_each_hour_has_its_own_centre() -> None:
    usual = one_usual()
    for hour in range(24 * 14):
        learn_usual(usual, 0, START + hour * HOUR_NS, 0, 60.0 + hour % 24)
    assert [center(usual, 14, hour) for hour in range(24)] == pytest.approx([60 + hour for hour in range(24)])


def test_the_hour_is_that_of_the_patient() -> None:
    usual = one_usual()
    for hour in range(24 * 10):
        learn_usual(usual, 0, START + hour * HOUR_NS, 330, 60.0 + ((hour * 60 + 330) // 60) % 24)
    assert deviation(usual, 0, Op.DIFFERENCE, 0.0, START + 10 * DAY_NS + 2 * HOUR_NS, 330, 67.0) == (1, 0.0)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_every_hour_of_a_year_is_learned(zone: str) -> None:
    usual, clock = one_usual(), ZoneInfo(zone)
    for hour in range(365 * 24):
        offset = datetime.fromtimestamp((START + hour * HOUR_NS) / 1e9, clock).utcoffset()
        assert offset is not None
        days = usual.day[0, WHOLE_DAY], usual.learned[0, WHOLE_DAY]
        learn_usual(usual, 0, START + hour * HOUR_NS, int(offset.total_seconds() // 60), 70.0)
        assert (usual.day[0, WHOLE_DAY], usual.learned[0, WHOLE_DAY]) > days, "a change of the clock loses nothing"


def test_spot_measures_fall_back_on_the_whole_day() -> None:
    usual = learned(10, 2, 70.0)
    assert center(usual, 10, 8.0) == 70.0, "the hour"
    assert center(usual, 10, 15.0) == 70.0, "an hour never seen"
    learn_usual(usual, 0, at(9, 15.0), 0, 84.0)
    assert 70 < center(usual, 10, 15.0) < 71, "an hour seen once"


@pytest.mark.parametrize("per_day", [1, 2, 24, 1440])
def test_a_new_level_has_replaced_the_old_one_after_two_to_three_weeks(per_day: int) -> None:
    usual = learned(30, per_day, 70.0, sigma=2.0)
    assert center(usual, 30) == pytest.approx(70, abs=1.5)
    learned(3, per_day, 80.0, sigma=2.0, into=usual, first=30, seed=2)
    assert center(usual, 33) < 75, "three days are no new level yet"
    learned(11, per_day, 80.0, sigma=2.0, into=usual, first=33, seed=3)
    assert center(usual, 44) == pytest.approx(80, abs=2.5)
    learned(7, per_day, 80.0, sigma=2.0, into=usual, first=44, seed=4)
    assert center(usual, 51) == pytest.approx(80, abs=1.5)


@pytest.mark.parametrize("step", [-40.0, 4.0, 60.0])
def test_so_has_a_level_however_far_away(step: float) -> None:
    usual = learned(21, 24, 70.0 + step, sigma=2.0, into=learned(30, 24, 70.0, sigma=2.0), first=30, seed=2)
    assert center(usual, 51) == pytest.approx(70 + step, abs=max(2.0, abs(step) / 10))


@pytest.mark.parametrize("per_day", [2, 24, 1440])
def test_far_values_hardly_move_it(per_day: int) -> None:
    clean, soiled = (learned(42, per_day, 70.0, sigma=2.0, outliers=share) for share in (0.0, 0.03))
    assert abs(center(soiled, 42) - center(clean, 42)) < 1.0
    at_three = (deviation(usual, 0, Op.ROBUST_Z, 1.0, at(42), 0, 90.0)[1] for usual in (clean, soiled))
    assert min(at_three) > 5, "and it still sees what is far"


def test_a_day_of_many_values_weighs_no_more() -> None:
    usual = learned(14, 2, 70.0)
    for second in range(3600):
        learn_usual(usual, 0, at(14) + second * 1_000_000_000, 0, 77.0)
    assert center(usual, 15) == pytest.approx(71.0)


def test_what_is_long_ago_is_not_usual() -> None:
    usual = learned(10, 24)
    assert deviation(usual, 0, Op.DIFFERENCE, 0.0, at(9 + MEMORY_DAYS), 0, 71.0) == (1, 1.0)
    assert deviation(usual, 0, Op.DIFFERENCE, 0.0, at(10 + MEMORY_DAYS), 0, 71.0) == (0, 0.0)
    learned(6, 24, 90.0, into=usual, first=30)
    assert deviation(usual, 0, Op.DIFFERENCE, 0.0, at(36), 0, 71.0) == (0, 0.0), "seven days must be seen anew"
    learned(1, 24, 90.0, into=usual, first=36)
    assert center(usual, 37) == 90.0


def test_it_goes_on_for_years() -> None:
    usual = learned(2000, 1)
    assert center(usual, 2000) == 70.0
    assert usual.days[0, WHOLE_DAY] == MEMORY_DAYS


@pytest.mark.parametrize(("days", "clipped"), [(4, False), (5, True)])
def test_far_values_are_clipped_from_five_days_on(days: int, clipped: bool) -> None:
    usual = learned(days, 24, sigma=2.0)
    learn_usual(usual, 0, at(days), 0, 170.0)
    assert (usual.error[0, WHOLE_DAY] < 10) == clipped


def test_values_of_a_day_that_is_over_are_not_learned() -> None:
    usual = learned(10, 24)
    before = [column.copy() for column in usual]
    learn_usual(usual, 0, at(8), 0, 200.0)
    assert all((now == then).all() for now, then in zip(usual, before, strict=True))


_moves = st.lists(
    st.tuples(st.sampled_from([-1, 0, 0, 1, 3, 12, 24, 24, 24 * 13, 24 * 16]), st.integers(60, 80)), max_size=120
)


def _slow(values: list[tuple[int, int, float]], bucket: int, today: int) -> tuple[int, float]:
    """Days and centre of a bucket on ``today``, from all values (day, bucket, value) in order of arrival."""
    by_day: dict[int, list[float]] = defaultdict(list)
    for day, where, value in values:
        if where == bucket and day >= max(by_day, default=day):
            by_day[day].append(value)
    days, mid, spread, last = 0, 0.0, 0.0, None
    for day in [*sorted(day for day in by_day if day < today), today]:
        if last is not None and day - last > MEMORY_DAYS:
            days = 0
        if day == today:
            break
        mid, spread = (mid, spread) if days else (by_day[day][0], 0.0)
        errors = np.array(by_day[day]) - mid
        if days >= 5 and spread:
            errors = np.clip(errors, -3 * 1.2533 * spread, 3 * 1.2533 * spread)
        days, last = days + 1, day
        mid += errors.mean() / min(days, 7)
        spread += (np.abs(errors).mean() - spread) / min(days, 7)
    return days, mid


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_moves)
def test_it_is_what_the_slow_reference_says(moves: list[tuple[int, int]]) -> None:
    usual, values, hours = one_usual(), list[tuple[int, int, float]](), 20_000 * 24
    for move, value in moves:
        hours += move
        day, hour = divmod(hours, 24)
        for bucket in (hour, WHOLE_DAY):
            values.append((day, bucket, float(value)))
        learn_usual(usual, 0, hours * HOUR_NS, 0, float(value))
    newest = max((day for day, _, _ in values), default=20_000)
    for today in (newest, newest + 1, newest + MEMORY_DAYS + 1):
        for hour in range(24):
            days, mid = _slow(values, hour, today)
            if days < 7:
                days, mid = _slow(values, WHOLE_DAY, today)
            ok, difference = deviation(usual, 0, Op.DIFFERENCE, 0.0, today * DAY_NS + hour * HOUR_NS, 0, 0.0)
            assert ok == (days >= 7)
            assert not ok or -difference == pytest.approx(mid, rel=1e-5)
