"""Glucose episodes against the vectors and durations of clinical.md 3.4."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.glucose.episodes import BY_GAP, EPISODES, OPEN, RECOVERED, episodes, level_1_only, summary
from alerts.glucose.metrics import trace
from tests.alerts.test_glucose_metrics import NAN, at, every
from vitals.glossary import Flag

START = pd.Timestamp("2026-01-05T00:00Z")


def found(readings: pd.DataFrame, kind: str = "hypo_level_1") -> list[tuple[float, float, str]]:
    """(start, length, how it ended) of each episode, in minutes."""
    rows = episodes(trace(readings), EPISODES[kind])
    starts = (rows["start"] - START) / pd.Timedelta(minutes=1)
    assert ((rows["end"] - rows["start"]) / pd.Timedelta(minutes=1)).tolist() == pytest.approx(rows["minutes"].tolist())
    return list(zip(starts, rows["minutes"], rows["ended"], strict=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([75, 69, 68, 67, 71, 72, 73], [(5, 15, RECOVERED)]),
        ([75, 69, 68, 71, 69, 68, 71], []),
        ([69, 68, 67, 71, 69, 72, 72, 72], [(0, 25, RECOVERED)]),
    ],
)
def test_the_vectors_of_the_reference(values: list[float], expected: list[Any]) -> None:
    assert found(every(values)) == expected


def test_two_low_readings_that_jitter_are_not_three() -> None:
    seconds = [0, 298, 596, 895, 1194, 1493, 1792]
    minutes = [second / 60 for second in seconds]
    assert len(found(at(minutes, [75, 69, 68, 67, 71, 72, 73]))) == 1, "fifteen minutes but for four seconds"
    assert found(at(minutes, [75, 69, 68, 71, 72, 73, 74])) == []
    assert found(at([0, 5, 13, 18, 23, 28, 33, 38], [75, 69, 68, 71, 72, 73, 74, 75])) == [], "13 minutes are not 15"


@pytest.mark.parametrize(("step", "lows", "counts"), [(1, 14, 0), (1, 15, 1), (15, 1, 1), (5, 2, 0), (5, 3, 1)])
def test_fifteen_minutes_at_any_interval(step: float, lows: int, counts: int) -> None:
    values = [100.0] * 20 + [60.0] * lows + [100.0] * 20
    assert len(found(every(values, step))) == counts


def test_level_2_is_counted_inside_level_1() -> None:
    rows = trace(every([100] + [65] * 2 + [50] * 3 + [65] * 3 + [100] * 3 + [65] * 3 + [100] * 3))
    one, two = (episodes(rows, EPISODES[name]) for name in ("hypo_level_1", "hypo_level_2"))
    assert one["minutes"].tolist() == [40, 15]
    assert two["minutes"].tolist() == [15]
    assert one["extreme_mg_dl"].tolist() == [50, 65]
    assert level_1_only(one, two) == 1


def test_high_episodes_have_a_peak() -> None:
    rows = trace(every([180] * 3 + [181, 260, 270, 255] + [250] * 3 + [180] * 3))
    one, two = (episodes(rows, EPISODES[name]) for name in ("hyper_level_1", "hyper_level_2"))
    assert one[["minutes", "extreme_mg_dl", "ended"]].to_numpy().tolist() == [[35, 270, RECOVERED]]
    assert two["minutes"].tolist() == [15]


@pytest.mark.parametrize(("lows", "counts"), [(24, 0), (25, 1)])
def test_an_extended_low_lasts_more_than_two_hours(lows: int, counts: int) -> None:
    readings = every([100.0] * 3 + [60.0] * lows + [100.0] * 3)
    assert len(found(readings, "hypo_extended")) == counts
    assert len(found(readings)) == 1


def test_two_hours_in_two_parts_are_no_extended_low() -> None:
    assert found(every([60.0] * 20 + [71.0] + [60.0] * 20 + [100.0] * 3), "hypo_extended") == []


class TestGaps:
    def test_a_gap_of_more_than_45_minutes_ends_it_without_recovery(self) -> None:
        readings = at([0, 5, 10, 15, 61, 66, 71], [60, 60, 60, 60, 100, 100, 100])
        assert found(readings) == [(0, 20, BY_GAP)]

    def test_a_gap_of_45_minutes_does_not(self) -> None:
        readings = at([0, 5, 10, 15, 60, 65, 70], [60, 60, 60, 60, 100, 100, 100])
        assert found(readings) == [(0, 60, RECOVERED)]

    def test_low_before_and_after_a_gap_is_two(self) -> None:
        readings = at([0, 5, 10, 100, 105, 110, 115, 120, 125], [60, 60, 60, 60, 60, 60, 90, 90, 90])
        assert found(readings) == [(0, 15, BY_GAP), (100, 15, RECOVERED)]

    def test_a_low_cut_in_two_by_a_gap_may_be_none(self) -> None:
        assert found(at([0, 5, 60, 65], [60, 60, 60, 60])) == []

    def test_what_lasts_to_the_last_reading_is_open(self) -> None:
        assert found(every([100, 60, 60, 60])) == [(5, 15, OPEN)]
        assert found(every([60, 60, 60, 71, 72])) == [(0, 25, OPEN)], "ten minutes are no recovery"

    def test_readings_after_it_do_not_make_it_recover(self) -> None:
        readings = at([0, 5, 10, 15, 200, 205, 210, 300], [60, 60, 60, 71, 100, 100, 100, 60])
        assert found(readings) == [(0, 20, BY_GAP)]


def test_lo_readings_are_an_episode_with_no_nadir() -> None:
    low = int(Flag.BELOW_RANGE)
    rows = trace(every([60, 45, NAN, NAN, NAN, 100, 100, 100], flags=[0, 0, low, low, low, 0, 0, 0]))
    one, two = (episodes(rows, EPISODES[name]) for name in ("hypo_level_1", "hypo_level_2"))
    assert one["minutes"].tolist() == [25]
    assert two["minutes"].tolist() == [20]
    assert one["extreme_mg_dl"].isna().all()


def test_the_limit_is_that_of_the_reported_unit() -> None:
    at_edge = [3.9 * 18.0182] * 3 + [10.0 * 18.0182] * 5
    for kind in ("hypo_level_1", "hyper_level_1"):
        assert found(every(at_edge, unit="mmol/L"), kind) == []
    assert len(found(every(at_edge, unit="mg/dL"), "hyper_level_1")) == 1, "180.182 mg/dL is over 180"


def test_an_empty_trace_has_none() -> None:
    for rows in summary(trace(every([]))).values():
        assert rows.empty
        assert list(rows) == ["start", "end", "minutes", "extreme_mg_dl", "ended"]


def by_hand(values: list[float], steps: list[int]) -> list[tuple[int, int, str]]:
    """Low episodes in five-minute steps, one reading after the other."""
    out: list[tuple[int, int, str]] = []
    place = np.cumsum([0, *steps[: len(values) - 1]]).tolist()
    start, low_since, high_since = None, None, None
    for number, (now, value) in enumerate(zip(place, values, strict=True)):
        if number and now - place[number - 1] > 9:
            if start is not None:
                out.append((start, place[number - 1] + 1 - start, BY_GAP))
            start = low_since = high_since = None
        if value < 70:
            low_since, high_since = now if low_since is None else low_since, None
        else:
            low_since, high_since = None, now if high_since is None else high_since
        # A reading stands until the next one of its kind, else for one interval.
        if start is None and low_since is not None and now + 1 - low_since >= 3:
            start = low_since
        if start is not None and high_since is not None and now + 1 - high_since >= 3:
            out.append((start, high_since - start, RECOVERED))
            start = None
    if start is not None:
        out.append((start, place[-1] + 1 - start, OPEN))
    return out


@given(
    st.lists(st.sampled_from([60.0, 65.0, 100.0]), min_size=14, max_size=60),
    st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 9, 10, 40]), min_size=60, max_size=60),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_it_agrees_with_counting_by_hand(values: list[float], steps: list[int]) -> None:
    # Many ones in between keep the interval at five minutes.
    steps = [step if number % 5 == 4 else 1 for number, step in enumerate(steps)]
    place = np.cumsum([0, *steps[: len(values) - 1]]).tolist()
    rows = found(at([5.0 * one for one in place], values))
    assert [(round(start / 5), round(length / 5), ended) for start, length, ended in rows] == by_hand(values, steps)
