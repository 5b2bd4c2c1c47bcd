"""Trends over the days of a patient's calendar (clinical.md 4.1 to 4.6)."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.judging.days import NO_DAY, RING_DAYS, Days, push_day, trend
from alerts.judging.series import days_table
from alerts.rules.spec import Op
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

DAY0 = 20_000


def one_days() -> Days:
    table = days_table()
    table.add()
    return table.state


def at(day: int, hour: float = 7.0) -> int:
    return (DAY0 + day) * DAY_NS + round(hour * HOUR_NS)


def put(days: Days, day: int, *values: float, hour: float = 7.0, limit: float = np.nan) -> None:
    for number, value in enumerate(values):
        assert push_day(days, 0, at(day, hour) + number * MINUTE_NS, 0, value, limit)


def mornings(*values: float | None) -> Days:
    """One reading each morning from day 0; None where there was none."""
    days = one_days()
    for day, value in enumerate(values):
        if value is not None:
            put(days, day, value)
    return days


def measure(days: Days, op: Op, n: int, day: int, value: float = 0.0, a: float = 0.0, b: float = 0.0,
            hour: float = 7.0) -> tuple[int, float]:  # fmt: skip
    return trend(days, 0, op, n * DAY_NS, a, b, at(day, hour), 0, value)


def gains(*values: float | None) -> tuple[float, float]:
    """Change since the previous morning and in 7 days, on the last of the days, its reading let in before."""
    days, today, value = mornings(*values), len(values) - 1, values[-1]
    assert value is not None
    return measure(days, Op.CHANGE, 1, today, value)[1], measure(days, Op.CHANGE, 7, today, value)[1]


# Weight (4.2): H1 >= 0.91 in a day, H2 >= 1.36 in a day, H3 >= 2.27 in 7 days


@pytest.mark.parametrize(
    ("values", "day", "week"),
    [
        ((80.0, 80.95), 0.95, 0.0),
        ((80.0, 81.4), 1.4, 0.0),
        ((80.0, 81.36), 1.36, 0.0),
        ((80.0, 80.91), 0.91, 0.0),
        ((80.0, 80.3, 80.6, 81.0, 81.3, 81.6, 82.0, 82.3), 0.3, 2.3),
        ((80.0, 80.4, 80.8, 81.2, 81.6, 81.9, 82.1, 82.3), 0.2, 2.3),
        ((80.2, 79.9, 80.0, 80.4, 80.8, 81.2, 81.6, 81.9, 82.1, 82.3), 0.2, 2.3),
        ((80.1, 80.0, 80.2, 80.95), 0.75, 0.0),
        ((84.0, 83.6, 83.2, 82.8, 82.4, 82.1, 81.9, 81.7), -0.2, -2.3),
    ],
)
def test_gains_of_the_reference(values: tuple[float, ...], day: float, week: float) -> None:
    assert gains(*values) == (day, week), "to the digit"


@pytest.mark.parametrize("wrong", [8.0, 72.0, 78.5, 83.0, 90.8, 800.0])
@pytest.mark.parametrize("when", range(10))
def test_one_mistyped_morning_raises_nothing_on_any_day(wrong: float, when: int) -> None:
    values = [80.0, 80.2, 79.9, 80.1, 80.0, 80.3, 80.1, 79.8, 80.0, 80.2, 80.1, 80.0]
    values[when] = wrong
    for today in range(max(when + 1, 2), len(values)):
        day, week = gains(*values[: today + 1])
        assert abs(day) < 0.91, today
        assert abs(week) < 2.27, today


def test_a_morning_that_is_missing_is_replaced_by_the_nearest() -> None:
    week = [80.0, None, None, None, None, None, None]
    assert gains(*week, 82.3)[1] == 2.3
    assert gains(None, *week, 82.3)[1] == 2.3
    assert gains(None, 80.0, None, None, None, None, None, 82.3)[1] == 2.3, "6 days before"
    assert gains(80.0, None, *[None] * 6, 82.3)[1] == 2.3, "8 days before"
    assert gains(80.0, None, 81.0) == (1.0, 0.0), "the day before yesterday"
    assert measure(mornings(80.0, *week[1:], None, None), Op.CHANGE, 7, 9, 82.3) == (0, 0.0), "9 days before"
    assert measure(mornings(80.0), Op.CHANGE, 1, 3, 82.3) == (0, 0.0)
    assert measure(mornings(80.0), Op.CHANGE, 1, 0, 82.3) == (0, 0.0), "today is no day before"


def test_the_first_reading_of_a_day_is_its_morning_in_whatever_order_they_come() -> None:
    days = one_days()
    put(days, 0, 81.5, hour=19.0)
    put(days, 0, 80.0, hour=7.0)
    put(days, 0, 80.9, hour=11.0)
    assert measure(days, Op.CHANGE, 1, 1, 80.5) == (1, 0.5)


def test_like_is_compared_with_like() -> None:
    days = one_days()
    put(days, 0, 80.0, hour=7.0)
    assert measure(days, Op.CHANGE, 1, 1, 81.2, a=3.0, hour=19.0) == (0, 0.0), "evening with morning"
    assert measure(days, Op.CHANGE, 1, 1, 81.2, a=3.0, hour=10.0) == (1, 1.2)
    assert measure(days, Op.CHANGE, 1, 1, 81.2, a=3.0, hour=4.0) == (1, 1.2)
    assert measure(days, Op.CHANGE, 1, 1, 81.2, a=3.0, hour=3.9) == (0, 0.0)
    put(days, 5, 80.0, hour=23.0)
    assert measure(days, Op.CHANGE, 1, 6, 81.2, a=3.0, hour=1.0) == (1, 1.2), "across midnight"


# Home average of blood pressure (4.3)


def test_the_home_average_drops_the_first_day() -> None:
    days = one_days()
    for day, level in enumerate([180, 130, 132, 134, 136, 138, 140]):
        put(days, day, level, level + 2, hour=7.0)
        put(days, day, level - 1, level + 3, hour=19.0)
    assert measure(days, Op.MEAN, 7, 6, a=12, b=3) == (1, 136.0)
    assert measure(days, Op.MEAN, 7, 6, a=24, b=6) == (1, 136.0)
    assert measure(days, Op.MEAN, 7, 6, a=25, b=6) == (0, 0.0), "24 readings are left"
    assert measure(days, Op.MEAN, 7, 6, a=12, b=7) == (0, 0.0), "on 6 days"
    assert measure(days, Op.MEAN, 7, 11, a=0, b=1) == (1, 141.0), "the first of two days is dropped"
    assert measure(days, Op.MEAN, 7, 12, a=0, b=0) == (0, 0.0)


# Spirometry (4.4 P4), steps (4.6 S8), time below range (4.1 D6)


def test_below_the_mean_of_seven_days() -> None:
    values = [2.50, 2.60, 2.40, 2.55, 2.45, 2.50, 2.52]
    days = mornings(9.9, *values)
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    put(days, 8, 2.0)
    ok, measured = measure(days, Op.BELOW_MEAN_SD, 7, 8, mean - 1.645 * deviation)
    assert (ok, measured) == (1, pytest.approx(-1.645))
    assert measure(days, Op.BELOW_MEAN_SD, 7, 8, mean + 0.5, a=0.25) == (1, pytest.approx(2.0)), "the least SD"


def test_five_days_are_needed_and_some_spread() -> None:
    assert measure(mornings(2.5, 2.6, 2.4, 2.5), Op.BELOW_MEAN_SD, 7, 4, 2.0) == (0, 0.0)
    assert measure(mornings(2.5, 2.6, 2.4, 2.5, 2.5), Op.BELOW_MEAN_SD, 7, 5, 2.0)[0] == 1
    assert measure(mornings(*[2.5] * 5), Op.BELOW_MEAN_SD, 7, 5, 2.0) == (0, 0.0)
    assert measure(mornings(*[2.5] * 5), Op.BELOW_MEAN_SD, 7, 5, 2.0, a=0.1) == (1, pytest.approx(-5.0))


def test_steps_of_yesterday_against_the_day_of_discharge() -> None:
    days = one_days()
    put(days, 0, 500.0, 4000.0)
    for day in range(1, 30):
        put(days, day, 100.0, 1000.0 + day)
    assert measure(days, Op.FRACTION, 1, 29) == (1, 1028 / 4000), "the first day is kept beyond the ring"
    assert measure(days, Op.FRACTION, 1, 31) == (0, 0.0), "nothing yesterday"
    put(days, 20, 5000.0, hour=23.0)
    assert measure(days, Op.FRACTION, 1, 29) == (1, 1028 / 4000)
    assert measure(mornings(0.0, 500.0), Op.FRACTION, 1, 2) == (0, 0.0), "no steps to compare with"


def test_an_earlier_day_that_comes_later_is_the_first_on_record() -> None:
    days = one_days()
    put(days, 3, 1000.0)
    put(days, 1, 4000.0)
    put(days, 2, 2000.0)
    assert measure(days, Op.FRACTION, 1, 4) == (1, 0.25)


def test_time_below_range() -> None:
    days = one_days()
    for day in range(20):
        put(days, day, *[50.0 if day == 0 else 69.9] * 4, *[70.0] * 96, limit=70.0)
    assert measure(days, Op.SHARE_BELOW, 14, 19, b=1400) == (1, 4.0)
    assert measure(days, Op.SHARE_BELOW, 14, 19, b=1401) == (0, 0.0)
    assert measure(days, Op.SHARE_BELOW, 14, 40) == (0, 0.0)
    put(days, 20, 1.0)
    assert measure(days, Op.SHARE_BELOW, 1, 20) == (1, 0.0), "no limit, none under it"


# Days


def test_a_day_before_the_last_sixteen_is_not_let_in() -> None:
    days = mornings(*range(1, 21))
    before = [column.copy() for column in days]
    assert not push_day(days, 0, at(3), 0, 99.0, np.nan)
    assert all((now == then).all() for now, then in zip(days, before, strict=True))
    assert push_day(days, 0, at(4), 0, 99.0, np.nan)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"])
def test_a_change_of_the_clock_loses_no_reading(zone: str) -> None:
    days, clock, start = one_days(), ZoneInfo(zone), datetime(2026, 1, 1, tzinfo=UTC)
    expected: dict[int, int] = defaultdict(int)
    for half_hour in range(365 * 48):
        now = start + timedelta(minutes=30 * half_hour)
        local = now.astimezone(clock)
        day = local.date().toordinal() - 719_163
        expected[day] += 1
        offset = local.utcoffset()
        assert offset is not None
        assert push_day(days, 0, int(now.timestamp()) * 10**9, int(offset.total_seconds() // 60), 1.0, np.nan)
        assert days.readings[0, day % RING_DAYS] == expected[day]
    assert len({expected[day] for day in sorted(expected)[1:-1]}) == 3, "days of three lengths"


class Slow:
    """The same trends from all readings."""

    def __init__(self) -> None:
        self.days: dict[int, list[tuple[int, float, bool]]] = defaultdict(list)
        self.record: list[tuple[int, float]] = []

    def push(self, day: int, time_ns: int, value: float, low: bool) -> None:
        if day > max(self.days, default=day) - RING_DAYS:
            self.days[day].append((time_ns, value, low))

    def of(self, first: int, last: int) -> list[list[tuple[int, float, bool]]]:
        return [self.days[day] for day in range(first, last + 1) if day in self.days]

    def mean(self, n: int, today: int, a: float, b: float) -> float | None:
        rest = self.of(today - n + 1, today)[1:]
        values = [value for day in rest for _, value, _ in day]
        return float(np.mean(values)) if values and len(values) >= a and len(rest) >= b else None

    def below(self, n: int, today: int, value: float, least: float) -> float | None:
        means = [np.mean([v for _, v, _ in day]) for day in self.of(today - n, today - 1)]
        return float((value - np.mean(means)) / max(np.std(means, ddof=1), least)) if len(means) >= 5 else None

    def fraction(self, today: int) -> float | None:
        if today - 1 not in self.days:
            return None
        last = [max(enumerate(self.days[day]), key=lambda item: (item[1][0], item[0]))[1][1]
                for day in (today - 1, min(self.days))]  # fmt: skip
        return last[0] / last[1]

    def share(self, n: int, today: int, b: float) -> float | None:
        lows = [low for day in self.of(today - n + 1, today) for _, _, low in day]
        return 100 * sum(lows) / len(lows) if lows and len(lows) >= b else None

    def change(self, n: int, today: int, value: float) -> float | None:
        backs = [back for back in (n, n - 1, n + 1, n - 2, n + 2) if back > 0 and today - back in self.days][:3]
        if not backs or abs(backs[0] - n) > 1:
            return None
        group = [value - min(self.days[today - back], key=lambda item: item[0])[1] for back in backs]
        support = min(group, key=abs) if len(group) == 2 else float(np.median(group))
        return support if 2 * abs(support) < abs(group[0]) else group[0]


_readings = st.lists(
    st.tuples(st.sampled_from([-17, -2, -1, 0, 0, 1, 1, 1, 2, 9]), st.integers(0, 23), st.integers(60, 90)),
    min_size=1, max_size=60,
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_readings, st.integers(1, 14), st.sampled_from([-300, 0, 330]))
def test_trends_are_those_of_the_slow_reference(readings: list[tuple[int, int, int]], n: int, zone: int) -> None:
    days, slow, newest = one_days(), Slow(), DAY0
    for step, hour, value in readings:
        day = newest + step
        newest = max(newest, day)
        time_ns = day * DAY_NS + hour * HOUR_NS - zone * MINUTE_NS
        slow.push(day, time_ns, float(value), value < 70)
        push_day(days, 0, time_ns, np.int16(zone), float(value), 70.0)
    assert days.newest[0] == (max(slow.days) if slow.days else NO_DAY)
    for today in (newest, newest + 1):
        time_ns = today * DAY_NS - zone * MINUTE_NS
        for op, a, b, expected in [
            (Op.MEAN, 3.0, 2.0, slow.mean(n, today, 3, 2)), (Op.MEAN, 0.0, 0.0, slow.mean(n, today, 0, 0)),
            (Op.BELOW_MEAN_SD, 0.5, 0.0, slow.below(n, today, 77.0, 0.5)),
            (Op.FRACTION, 0.0, 0.0, slow.fraction(today)), (Op.SHARE_BELOW, 0.0, 4.0, slow.share(n, today, 4)),
            (Op.CHANGE, 0.0, 0.0, slow.change(n, today, 77.0)),
        ]:  # fmt: skip
            found = trend(days, 0, op, n * DAY_NS, a, b, time_ns, np.int16(zone), 77.0)
            assert found == ((0, 0.0) if expected is None else (1, pytest.approx(expected))), op
