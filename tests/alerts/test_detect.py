"""The anomaly scorer: what holds for any series at all, and that it beats a sliding-window Gaussian."""

import math
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.detect.scorer import FIRES_AT, GAUSSIAN, METHODS, Detector
from vitals.errors import InvalidRequest

Array = npt.NDArray[Any]
NAN, INF = math.nan, math.inf
compiled: Final = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="many rows, for compiled kernels only")

anything: Final = st.one_of(
    st.floats(width=64), st.sampled_from([0.0, -0.0, NAN, INF, -INF, 1e308, -1e308, 5e-324]), st.integers(-3, 3)
)
times: Final = st.one_of(st.floats(), st.integers(0, 10).map(lambda day: day * 86400.0))


def wavy(seed: int, rows: int = 3000) -> tuple[Array, Array]:
    """A day's swing with noise, every ten minutes: (values, seconds)."""
    seconds = np.arange(rows) * 600.0
    random = np.random.default_rng(seed)
    return 80 + 10 * np.sin(2 * np.pi * seconds / 86400) + random.normal(size=rows), seconds


def first_fire(scores: Array, start: int, rows: int) -> int:
    """Rows from ``start`` to the first that fires, of the next ``rows``; -1 = none."""
    fired = np.flatnonzero(scores[start : start + rows] >= FIRES_AT)
    return int(fired[0]) if len(fired) else -1


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(rows=st.lists(st.tuples(anything, times), max_size=120), data=st.data())
def test_a_score_depends_on_nothing_behind_it(
    method: str, rows: list[tuple[float, float]], data: st.DataObject
) -> None:
    values, seconds = [row[0] for row in rows], [row[1] for row in rows]
    whole = Detector(method).score(values, seconds)
    assert len(whole) == len(rows)
    assert np.isfinite(whole).all()
    assert ((whole >= 0) & (whole <= 1)).all()
    cut = data.draw(st.integers(0, len(rows)))
    assert Detector(method).score(values[:cut], seconds[:cut]).tobytes() == whole[:cut].tobytes()


@compiled
@pytest.mark.parametrize("method", METHODS)
def test_pieces_and_snapshots_give_the_same_scores(method: str) -> None:
    values, seconds = wavy(1, 9000)
    values[[700, 701]], values[2500:2600] = NAN, 150
    whole = Detector(method).score(values, seconds)
    assert (whole > 0).any()
    detector, found = Detector(method), []
    for start in range(0, len(values), 1700):
        part = slice(start, start + 1700)
        found.append(detector.score(values[part], seconds[part]))
        again = Detector(method)
        again.restore(detector.snapshot())
        detector = again
    assert np.concatenate(found).tobytes() == whole.tobytes()


def test_a_snapshot_does_not_follow_its_detector() -> None:
    values, seconds = wavy(2)
    detector = Detector()
    detector.score(values[:1000], seconds[:1000])
    kept = detector.snapshot()
    first = detector.score(values[1000:], seconds[1000:])
    detector.restore(kept)
    assert detector.score(values[1000:], seconds[1000:]).tobytes() == first.tobytes()


@compiled
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("scale", "shift"), [(4.0, 0.0), (0.125, 32.0), (-2.0, 0.0), (1e-6, 3.7), (1e9, -5e11)])
def test_units_do_not_matter(method: str, scale: float, shift: float) -> None:
    values, seconds = wavy(3)
    values[2000] += 60
    values[2400:] += 25
    values[2700:2800] = values[2699]
    plain = Detector(method).score(values, seconds)
    other = Detector(method).score(scale * values + shift, seconds)
    assert (plain > 0.1).any()
    # Roundings differ, and a histogram's bin may be left for the next one.
    assert np.mean(np.abs(plain - other) > 0.02) < 0.002


def test_the_extremes_of_a_meter_are_extremes() -> None:
    values, seconds = wavy(4)
    values[2000], values[2300] = -INF, INF
    scores = Detector().score(values, seconds)
    plain = np.where(np.isinf(values), NAN, values)
    assert scores[2000] > FIRES_AT
    assert scores[2300] > FIRES_AT / 2
    assert Detector().score(plain, seconds)[[2000, 2300]].tolist() == [0, 0], "a missing value is no event"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values",
    [[], [7.0], [7.0, 7.0], [1.0, 1e308], [NAN] * 50, [INF] * 50, [5.0] * 500,
     [1e308, -1e308] * 100, [0.0] * 200 + [5e-324]],
    ids=["none", "one", "two", "jump", "missing", "beyond", "constant", "huge", "tiny"],
)  # fmt: skip
def test_odd_series_have_scores(method: str, values: list[float]) -> None:
    scores = Detector(method).score(values)
    assert len(scores) == len(values)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(set(values)) > 2 or not (scores[: len(values) - 1] >= FIRES_AT).any() or method == GAUSSIAN


def test_times_out_of_order_twice_or_missing_are_no_obstacle() -> None:
    values, seconds = wavy(5)
    values[2000] += 60
    random = np.random.default_rng(5)
    for clock in (random.permutation(seconds), np.zeros(3000), np.full(3000, NAN), -seconds, None):
        scores = Detector().score(values, clock)
        assert scores[2000] > FIRES_AT
    with pytest.raises(InvalidRequest, match="2999 times for 3000 values"):
        Detector().score(values, seconds[1:])


def test_nothing_is_scored_before_something_is_known() -> None:
    random = np.random.default_rng(6)
    assert not Detector().score(random.normal(size=30) * [*[1.0] * 15, *[50.0] * 15]).any()


def test_an_unknown_method_names_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match="one of default, gaussian, point"):
        Detector("guess")


def disturbed(kind: str, seed: int) -> tuple[Array, Array]:
    values, seconds = wavy(seed)
    match kind:
        case "spike":
            values[2000] += 25
        case "shift":
            values[2000:] += 20
        case "noise":
            values[2000:2100] += 6 * np.random.default_rng(seed).normal(size=100)
        case "flatline":
            values[2000:2100] = values[1999]
        case "missing peak":
            values[2000:2144] = 80 + 0.1 * (values[2000:2144] - 80)
    return values, seconds


@compiled
@pytest.mark.parametrize("kind", ["spike", "shift", "noise", "flatline", "missing peak"])
@pytest.mark.parametrize("clock", [True, False], ids=["clock", "rows"])
def test_every_kind_of_anomaly_fires_soon(kind: str, clock: bool) -> None:
    for seed in range(5):
        values, seconds = disturbed(kind, 100 + seed)
        scores = Detector().score(values, seconds if clock else None)
        assert 0 <= first_fire(scores, 2000, 60) <= 40, seed
        assert (scores[:2000] >= FIRES_AT).sum() <= 3, seed


def test_a_new_normal_fires_once_and_is_learned() -> None:
    values, seconds = wavy(7, 6000)
    values[2000:] += 30
    scores = Detector().score(values, seconds)
    assert scores[2000] > FIRES_AT
    assert (scores[2000:2200] >= FIRES_AT).sum() <= 12, "one event"
    assert not (scores[4500:] >= FIRES_AT).any(), "the new level is normal"
