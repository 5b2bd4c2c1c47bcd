"""What is derived from the last minutes of a series: slope, forecast, median, stuck value; and the tables of series."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import typeof
from numba.core.dispatcher import Dispatcher

from alerts.judging.days import DAYS, push_day, trend
from alerts.judging.series import (
    GAP_NS,
    LAST_POINTS,
    MEDIAN_AGE_NS,
    RECENT,
    SLOPE_POINTS,
    SPACING_NS,
    USUAL,
    Recent,
    Table,
    days_table,
    deviation,
    forecast,
    learn_usual,
    median_recent,
    push_recent,
    recent_table,
    slope,
    unchanged_minutes,
    usual_table,
)
from alerts.rules.spec import Op
from vitals.times import DAY_NS, MINUTE_NS

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
QUARTER = 15 * MINUTE_NS
TWENTY = 20 * MINUTE_NS


def one_recent(*points: tuple[float, float]) -> Recent:
    """A series that was given points of (minutes, value)."""
    table = recent_table()
    table.add()
    for minutes, value in points:
        push_recent(table.state, 0, START + round(minutes * MINUTE_NS), value)
    return table.state


# Slope (clinical.md 3.2)


@pytest.mark.parametrize("rate", [3.5, 3.0, 2.5, 1.5, 0.0, -1.0, -2.0, -3.0, -3.25])
@pytest.mark.parametrize("every", [1, 5])
def test_the_slope_of_a_line_is_its_rate(rate: float, every: int) -> None:
    recent = one_recent(*((m, 150 + rate * m) for m in range(0, 31, every)))
    assert slope(recent, 0, QUARTER) == (1, pytest.approx(rate, abs=1e-12))


def test_limits_in_mmol_are_those_in_mg_divided() -> None:
    recent = one_recent(*((m, (150 - 3 * m) / 18.0182) for m in (0, 5, 10, 15)))
    assert slope(recent, 0, QUARTER)[1] == pytest.approx(-0.1665, abs=1e-4)


@pytest.mark.parametrize(
    ("minutes", "window", "ok"),
    [
        ((0, 5, 10), QUARTER, 1),
        ((0, 5), QUARTER, 0),
        ((), QUARTER, 0),
        ((0, 5, 15), QUARTER, 1),
        ((0, 5, 15.1), TWENTY, 0),
        ((0, 10, 20), TWENTY, 1),
        ((0, 1, 11.1, 12, 13), QUARTER, 0),
        ((0, 1, 2, 3), QUARTER, 0),
        ((0, 2, 4, 7.4), QUARTER, 0),
        ((0, 2, 4, 7.5), QUARTER, 1),
        ((0, 2, 4, 6, 8), TWENTY, 0),
        ((0, 2, 4, 6, 8, 10), TWENTY, 1),
        ((-60, -55, -50, 0, 1, 2), QUARTER, 0),
        ((-60, -55, -50, 0, 5, 10), QUARTER, 1),
        ((0, 14, 14.5, 15), QUARTER, 0),
    ],
)  # fmt: skip
def test_three_points_without_a_gap_over_the_window(minutes: tuple[float, ...], window: int, ok: int) -> None:
    assert slope(one_recent(*((m, 100 + m) for m in minutes)), 0, window) == (ok, pytest.approx(float(ok)))


def test_points_before_the_window_do_not_count() -> None:
    recent = one_recent((-20, 900), (-15.1, 900), (-15, 100), (-10, 110), (-5, 120), (0, 130))
    assert slope(recent, 0, QUARTER) == (1, pytest.approx(2.0))


def test_a_point_that_is_not_newer_is_not_taken() -> None:
    recent = one_recent((0, 100), (5, 110), (10, 120))
    before = [column.copy() for column in recent]
    assert not push_recent(recent, 0, START + 10 * MINUTE_NS, 500.0)
    assert not push_recent(recent, 0, START + 5 * MINUTE_NS, 500.0)
    assert all((now == then).all() for now, then in zip(recent, before, strict=True))


def test_a_series_may_begin_at_any_time() -> None:
    table = recent_table()
    table.add()
    for minutes in (0, 1, 2):
        push_recent(table.state, 0, minutes * MINUTE_NS, 100.0)
        assert slope(table.state, 0, 4 * MINUTE_NS) == (int(minutes == 2), 0.0)


def test_a_series_of_every_second_reaches_twenty_minutes_back() -> None:
    recent = one_recent(*((s / 60, 90 - 0.5 * s / 60) for s in range(3600)))
    assert slope(recent, 0, TWENTY) == (1, pytest.approx(-0.5))
    assert slope(recent, 0, 2 * MINUTE_NS) == (1, pytest.approx(-0.5))


class Slow:
    """The same measures from lists."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self.sparse: list[tuple[int, float]] = []

    def push(self, time_ns: int, value: float) -> bool:
        if self.points and time_ns <= self.points[-1][0]:
            return False
        self.points.append((time_ns, value))
        if len(self.sparse) > 1 and self.sparse[-1][0] - self.sparse[-2][0] < SPACING_NS:
            self.sparse.pop()
        self.sparse = [*self.sparse, (time_ns, value)][-SLOPE_POINTS:]
        return True

    def slope(self, window_ns: int) -> float | None:
        newest = self.sparse[-1][0]
        used = np.array([point for point in self.sparse if newest - point[0] <= window_ns])
        times = (used[:, 0] - newest) / MINUTE_NS
        if len(used) < 3 or np.diff(times).max() > 10 or -times[0] < window_ns / MINUTE_NS / 2:
            return None
        return float(np.polyfit(times, used[:, 1], 1)[0])

    def median(self, n: int) -> float:
        oldest = self.points[-1][0] - MEDIAN_AGE_NS
        return float(np.median([value for time_ns, value in self.points[-n:] if time_ns >= oldest]))

    def unchanged(self, time_ns: int) -> float:
        first = len(self.points) - 1
        while first and self.points[first - 1][1] == self.points[-1][1] \
                and self.points[first][0] - self.points[first - 1][0] <= GAP_NS:  # fmt: skip
            first -= 1
        return (time_ns - self.points[first][0]) / MINUTE_NS if len(self.points) - first >= 10 else 0.0


_steps = st.lists(
    st.tuples(st.sampled_from([-5, 0, 1, 2, 20, 47, 48, 60, 120, 300, 601]), st.integers(60, 70), st.integers(1, 30)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_steps, st.sampled_from([2, 10, 15, 20]))
def test_measures_are_those_of_the_slow_reference(steps: list[tuple[int, int, int]], window: int) -> None:
    recent, slow, now = one_recent(), Slow(), START
    for number, (seconds, value, repeats) in enumerate(steps):
        for _ in range(repeats):
            now += seconds * SECOND
            shown = value + 5.0 * (number % 3 == 0) * np.sin(now / SECOND)
            assert push_recent(recent, 0, now, shown) == slow.push(now, shown)
            now = max(now, slow.points[-1][0])
        for n in range(1, LAST_POINTS + 1):
            assert median_recent(recent, 0, n) == slow.median(n)
        assert unchanged_minutes(recent, 0, now + SECOND) == pytest.approx(slow.unchanged(now + SECOND))
        ok, measured = slope(recent, 0, window * MINUTE_NS)
        expected = slow.slope(window * MINUTE_NS)
        assert (ok, measured) == (0, 0.0) if expected is None else (ok, measured) == (1, pytest.approx(expected))


# Forecast (clinical.md 3.5)


@pytest.mark.parametrize(
    ("values", "state", "predicted"),
    [
        ((115, 105, 95, 85), 1, 45.0),
        ((119, 113, 107, 101), 0, 77.0),
        ((117, 111, 105, 99), 1, 75.0),
        ((118, 110, 102, 100), 0, 75.2),
        ((73, 67, 61, 55), 0, 31.0),
        ((71, 66, 61, 56), 0, 36.0),
        ((73, 67.9, 62.8, 57.7), 1, 37.3),
        ((60, 65, 70, 75), 0, 95.0),
    ],
)
def test_a_low_in_twenty_minutes(values: tuple[float, ...], state: int, predicted: float) -> None:
    recent = one_recent(*zip((0, 5, 10, 15), values, strict=True))
    found = forecast(recent, 0, QUARTER, 20.0, values[-1], 55.0, 100.0, -1.0, True)
    assert found == (state, pytest.approx(predicted))


@pytest.mark.parametrize(
    ("values", "state", "predicted"),
    [
        ((185, 200, 215, 230), 1, 290.0),
        ((150, 160, 170, 180), 0, 220.0),
        ((190, 200, 210, 220), 0, 260.0),
        ((205, 220, 235, 250), 0, 310.0),
        ((235, 225, 215, 205), 0, 165.0),
    ],
    ids=["rises fast", "not high yet", "2 a minute is not more than 2", "is there", "falls"],
)
def test_a_high_in_twenty_minutes(values: tuple[float, ...], state: int, predicted: float) -> None:
    recent = one_recent(*zip((0, 5, 10, 15), values, strict=True))
    found = forecast(recent, 0, QUARTER, 20.0, values[-1], 250.0, 180.0, 2.0, False)
    assert found == (state, pytest.approx(predicted))


def test_three_points_are_no_forecast() -> None:
    recent = one_recent((0, 110), (5, 95), (10, 80))
    assert slope(recent, 0, TWENTY) == (1, -3.0)
    assert forecast(recent, 0, TWENTY, 20.0, 80.0, 55.0, 100.0, -1.0, True) == (-1, 80.0)


def test_nothing_is_forecast_after_a_gap() -> None:
    recent = one_recent((0, 115), (5, 105), (16, 95))
    assert forecast(recent, 0, QUARTER, 20.0, 95.0, 55.0, 100.0, -1.0, True) == (-1, 95.0)


# Median and stuck value


def test_the_median_of_five_readings_in_fibrillation() -> None:
    recent = one_recent(*((m / 2, rate) for m, rate in enumerate([90, 131, 118, 90, 112, 109])))
    assert [median_recent(recent, 0, n) for n in (1, 2, 3, 4, 5)] == [109, 110.5, 109, 110.5, 112]


def test_values_older_than_five_minutes_are_in_no_median() -> None:
    assert median_recent(one_recent((0, 10), (0.1, 20), (5, 30), (5.1, 40)), 0, 5) == 30
    assert median_recent(one_recent((0, 10), (6, 20)), 0, 5) == 20


def test_a_stuck_sensor_is_told_from_the_tenth_equal_value() -> None:
    recent = one_recent(*((m, 97.0) for m in range(9)))
    assert unchanged_minutes(recent, 0, START + 60 * MINUTE_NS) == 0
    push_recent(recent, 0, START + 9 * MINUTE_NS, 97.0)
    assert unchanged_minutes(recent, 0, START + 60 * MINUTE_NS) == 60
    assert unchanged_minutes(recent, 0, START - MINUTE_NS) == 0, "before it began"
    push_recent(recent, 0, START + 19 * MINUTE_NS, 97.0)
    assert unchanged_minutes(recent, 0, START + 60 * MINUTE_NS) == 60, "ten minutes are no gap"
    push_recent(recent, 0, START + 61 * MINUTE_NS, 97.0)
    assert unchanged_minutes(recent, 0, START + 61 * MINUTE_NS) == 0, "it was silent in between"


def test_the_same_value_each_morning_is_no_stuck_sensor() -> None:
    assert unchanged_minutes(one_recent(*((1440 * day, 36.6) for day in range(30))), 0, START + 60 * DAY_NS) == 0


# Tables


def tables() -> tuple[Table, Table, Table]:  # type: ignore[type-arg]
    return recent_table(), usual_table(), days_table()


def fill(recent: Table, usual: Table, days: Table, first: int, rows: int) -> bytes:  # type: ignore[type-arg]
    """Random readings of three series that the tables have; the bytes of all measures at each of them."""
    told = []
    for number in range(first, first + rows):
        random = np.random.default_rng(number)
        s, now = int(random.integers(0, 3)), START + number * 37 * MINUTE_NS // 10
        value = round(float(random.normal(80 + number // 4000, 3)), 1)
        zone = np.int16(120 if number % 5000 < 2500 else 60)
        push_recent(recent.state, s, now, value)
        push_day(days.state, s, now - DAY_NS * (number % 50 == 0), zone, value, 78.0)
        told.append(float(median_recent(recent.state, s, 1 + number % 9)))
        told += [*slope(recent.state, s, TWENTY), unchanged_minutes(recent.state, s, now)]
        told += forecast(recent.state, s, QUARTER * 2, 20.0, value, 70.0, 85.0, -0.1, True)
        for op in (Op.DIFFERENCE, Op.RATIO, Op.ROBUST_Z):
            told += deviation(usual.state, s, int(op), 0.5, now, zone, value)
        for op in (Op.CHANGE, Op.MEAN, Op.BELOW_MEAN_SD, Op.FRACTION, Op.SHARE_BELOW):
            told += trend(days.state, s, int(op), 7 * DAY_NS, 1.0, 1.0, now, zone, value)
        learn_usual(usual.state, s, now, zone, value)
    return np.array(told).tobytes()


def fixed_measures() -> bytes:
    """Measures and final state of a seeded history of a month."""
    kinds = tables()
    for table in kinds:
        for _ in range(3):
            table.add()
    return fill(*kinds, 0, 12_000) + msgspec.msgpack.encode([table.dump() for table in kinds])


def test_without_the_compiler_the_same_bytes_come_out() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "from alerts.judging.series import slope\n"
        "from tests.alerts.test_series import fixed_measures\n"
        "assert not isinstance(slope, Dispatcher)\n"
        "sys.stdout.buffer.write(fixed_measures())"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == fixed_measures()


@pytest.mark.parametrize("cut", [0, 1, 500, 999])
def test_tables_go_on_from_a_snapshot(cut: int) -> None:
    kinds, restored = tables(), tables()
    for table in kinds:
        for _ in range(3):
            table.add()
    fill(*kinds, 0, cut)
    for table, other in zip(kinds, restored, strict=True):
        saved = msgspec.msgpack.encode(table.dump())
        other.load(msgspec.msgpack.decode(saved))
        assert msgspec.msgpack.encode(other.dump()) == saved
    assert fill(*kinds, cut, 1000) == fill(*restored, cut, 1000)
    assert [table.dump() for table in kinds] == [table.dump() for table in restored]


def test_a_table_grows_and_keeps_what_it_knows() -> None:
    for table, large in zip(tables(), tables(), strict=True):
        numbers = [large.add() for _ in range(300)]
        assert numbers == list(range(300))
        table.add()
        for column, grown in zip(table.state, large.state, strict=True):
            assert grown.dtype == column.dtype
            assert (grown[299] == column[0]).all(), "a new series knows nothing"
    table = recent_table()
    table.add()
    push_recent(table.state, 0, START, 97.0)
    for _ in range(300):
        table.add()
    assert median_recent(table.state, 0, 1) == 97.0
    assert unchanged_minutes(table.state, 300, START) == 0


def test_what_is_not_a_dump_is_refused() -> None:
    table = recent_table()
    table.add()
    saved = table.dump()
    with pytest.raises(ValueError, match="length"):
        table.load(saved | {"since_ns": b"\0" * 16})
    with pytest.raises(ValueError, match="reshape"):
        table.load(saved | {"slope_ns": b"\0" * 16})
    with pytest.raises(KeyError):
        table.load({})


def test_a_series_of_recent_points_takes_no_more_than_600_bytes() -> None:
    assert sum(column[:1].nbytes for column in recent_table().state) <= 600


@pytest.mark.skipif(not isinstance(slope, Dispatcher), reason="not compiled")
def test_the_types_are_those_of_the_tables() -> None:
    assert [typeof(table.state) for table in tables()] == [RECENT, USUAL, DAYS]
