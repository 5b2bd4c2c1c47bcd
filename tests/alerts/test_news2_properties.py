"""NEWS2 for any values: the range holds every completion and is tight, worse is never less, and rows stand alone."""

import itertools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alerts.scores.news2 import Latest, News2, news2, news2_of_one
from alerts.scores.tables import AgeBand, Band, Parameter, Pregnancy
from tests.alerts.news2_world import KEYS, NOW, SPANS, WARD, columns, context, latest, points_by_hand, score
from vitals.glossary import Flag
from vitals.times import HOUR_NS, MINUTE_NS

_VALUES: Mapping[str, st.SearchStrategy[float]] = {
    "resp_rate": st.integers(2, 40), "spo2": st.integers(70, 100), "o2_flow": st.sampled_from([0.0, 0.5, 4.0]),
    "bp_sys": st.integers(60, 260), "pulse_rate": st.integers(25, 180), "acvpu": st.integers(0, 4),
    "temp": st.integers(320, 420).map(lambda tenths: tenths / 10),
}  # fmt: skip
_SCALES = st.sampled_from([1, 2])
_PATIENTS = st.fixed_dictionaries(dict(_VALUES))
_HIDDEN = st.sets(st.sampled_from(sorted(_VALUES)))
# One value per band of each, so that all bands of what is missing are tried.
_COMPLETIONS: Mapping[str, tuple[float, ...]] = {
    "resp_rate": (8, 10, 16, 22, 30), "spo2": (80, 84, 86, 90, 93, 95, 98), "o2_flow": (0, 2),
    "bp_sys": (80, 95, 105, 120, 230), "pulse_rate": (35, 45, 70, 100, 120, 140), "acvpu": (0, 1),
    "temp": (34, 35.5, 37, 38.5, 40),
}  # fmt: skip
_ENDS: Mapping[str, tuple[float, ...]] = _COMPLETIONS | {
    "resp_rate": (16, 30), "bp_sys": (120, 230), "pulse_rate": (70, 140), "temp": (37, 34)
}  # fmt: skip

_TIMES = st.sampled_from([0, 1, 29, 31, 60, 700, 719, 720, 721, 1500]).map(lambda minutes: NOW - minutes * MINUTE_NS)
_FLAGS = st.sampled_from([0, 0, 0, Flag.SUSPECT, Flag.LOW_QUALITY, Flag.LATE, Flag.BELOW_RANGE, Flag.ABOVE_RANGE]).map(
    int
)
_LEVELS = st.sampled_from([0.0, 1.0, 2.0, 21.0, 28.0, 40.0, 95.0, 97.5, 110.5, float("nan")])
_ANY = st.dictionaries(st.sampled_from(KEYS), st.builds(Latest, _LEVELS, _TIMES, _FLAGS))


def _completed(patient: Mapping[str, float], missing: set[str], values: Mapping[str, tuple[float, ...]]) -> list[Any]:
    choices = itertools.product(*(values[key] for key in sorted(missing)))
    return [{**patient, **dict(zip(sorted(missing), choice, strict=True))} for choice in choices]


@given(_PATIENTS, _SCALES)
def test_a_complete_score_is_that_by_hand(patient: dict[str, float], scale: int) -> None:
    scores = score(patient, spo2_scale=[scale])
    by_hand = points_by_hand(patient, scale)
    total = sum(by_hand)
    assert scores.points_low[:, 0].tolist() == scores.points_high[:, 0].tolist() == by_hand
    assert scores.low[0] == scores.high[0] == total
    assert bool(scores.red_low[0]) is bool(scores.red_high[0]) is (3 in by_hand)
    risk = "high" if total >= 7 else "medium" if total >= 5 else "low-medium" if 3 in by_hand else "low"
    assert Band(scores.band_low[0]).risk == Band(scores.band_high[0]).risk == risk
    assert scores.complete[0]


@given(_PATIENTS, _PATIENTS, _HIDDEN, _SCALES)
def test_the_range_holds_the_true_score(
    patient: dict[str, float], truth: dict[str, float], missing: set[str], scale: int
) -> None:
    seen = {key: None if key in missing else value for key, value in patient.items()}
    partial = score(seen, spo2_scale=[scale])
    whole = score({key: truth[key] if key in missing else patient[key] for key in patient}, spo2_scale=[scale])
    for low, high, true in (
        (partial.low, partial.high, whole.low), (partial.band_low, partial.band_high, whole.band_low),
        (partial.red_low, partial.red_high, whole.red_low), (partial.points_low, partial.points_high, whole.points_low),
    ):  # fmt: skip
        assert (low <= true).all()
        assert (true <= high).all()
    assert bool(partial.complete[0]) is (not missing)


@given(_PATIENTS, _HIDDEN, _SCALES)
def test_both_ends_of_the_range_can_occur(patient: dict[str, float], missing: set[str], scale: int) -> None:
    partial = score({**patient, **dict.fromkeys(missing)}, spo2_scale=[scale])
    every = _completed(patient, missing, _ENDS if len(missing) > 3 else _COMPLETIONS)
    whole = score(*every, spo2_scale=[scale] * len(every))
    assert (partial.low[0], partial.high[0]) == (whole.low.min(), whole.low.max())
    assert (partial.band_low[0], partial.band_high[0]) == (whole.band_low.min(), whole.band_low.max())
    assert (partial.red_low[0], partial.red_high[0]) == (whole.red_low.min(), whole.red_low.max())
    assert partial.points_low[:, 0].tolist() == whole.points_low.min(axis=1).tolist()
    assert partial.points_high[:, 0].tolist() == whole.points_low.max(axis=1).tolist()


@given(_PATIENTS, _HIDDEN, st.sampled_from(sorted(_VALUES)), _SCALES)
def test_knowing_less_never_narrows_the_range(
    patient: dict[str, float], missing: set[str], key: str, scale: int
) -> None:
    seen = {**patient, **dict.fromkeys(missing)}
    scores = score(seen, {**seen, key: None}, spo2_scale=[scale] * 2)
    assert scores.low[1] <= scores.low[0] <= scores.high[0] <= scores.high[1]
    assert scores.band_low[1] <= scores.band_low[0] <= scores.band_high[0] <= scores.band_high[1]
    assert scores.red_low[1] <= scores.red_low[0] <= scores.red_high[0] <= scores.red_high[1]


@given(_PATIENTS, st.lists(st.integers(0, 30 * 60), min_size=7, max_size=7), _SCALES)
def test_ageing_never_raises_the_floor(patient: dict[str, float], minutes: list[int], scale: int) -> None:
    ages = zip(patient.items(), minutes, strict=True)
    aged = {key: Latest(float(value), NOW - age * MINUTE_NS) for (key, value), age in ages}
    sooner, later = (score(aged, spo2_scale=[scale], now_ns=NOW + hours * HOUR_NS) for hours in (0, 1))
    assert later.low[0] <= sooner.low[0] <= sooner.high[0] <= later.high[0]


@given(_PATIENTS, st.sampled_from(list(SPANS)), st.floats(0, 60), st.floats(0, 60))
def test_further_from_normal_is_never_less(
    patient: dict[str, float], which: Parameter, first: float, second: float
) -> None:
    key = {Parameter.PULSE: "pulse_rate"}.get(which, which.key)
    normal = {"resp_rate": 16, "spo2": 97, "bp_sys": 150, "pulse_rate": 70, "temp": 37}[key]
    for side in (-1, 1):
        values = [normal + side * offset for offset in sorted((first, second))]
        scores = score(*({**patient, key: value} for value in values))
        assert scores.low[0] <= scores.low[1]
        assert scores.band_low[0] <= scores.band_low[1]


@given(_PATIENTS, _HIDDEN, _SCALES)
def test_oxygen_and_less_responsiveness_are_never_less(
    patient: dict[str, float], missing: set[str], scale: int
) -> None:
    seen = {**patient, **dict.fromkeys(missing)}
    rows = [{**seen, "o2_flow": flow, "acvpu": level} for flow, level in ((0, 0), (2, 0), (2, 1))]
    scores = score(*rows, spo2_scale=[scale] * 3)
    assert sorted(scores.low) == scores.low.tolist()
    assert sorted(scores.high) == scores.high.tolist()


def _row(scores: News2, row: int) -> dict[str, Any]:
    names = [item.name for item in fields(News2) if isinstance(getattr(scores, item.name), np.ndarray)]
    return {name: getattr(scores, name)[..., row] for name in names}


@given(st.lists(st.tuples(_ANY, st.sampled_from(AgeBand), st.sampled_from(Pregnancy), st.integers(0, 2), st.booleans()),
                min_size=1, max_size=8))  # fmt: skip
def test_many_patients_score_as_each_alone(
    patients: list[tuple[dict[str, Latest], AgeBand, Pregnancy, int, bool]],
) -> None:
    rows, ages, pregnancies, scales, usual = zip(*patients, strict=True)
    together = news2(
        columns(rows),
        context(len(rows), age_band=ages, pregnancy=pregnancies, spo2_scale=scales, usual_confusion=usual),
        NOW, WARD,
    )  # fmt: skip
    for row, (patient, age, pregnancy, scale, confusion) in enumerate(patients):
        alone = news2_of_one(
            {key: latest(patient, key) for key in patient}, NOW, WARD,
            age_band=age, pregnancy=pregnancy, spo2_scale=scale, usual_confusion=confusion,
        )  # fmt: skip
        for name, expected in _row(alone, 0).items():
            np.testing.assert_array_equal(_row(together, row)[name], expected, err_msg=name)


@given(_ANY, _SCALES)
def test_whatever_arrives_the_ends_are_in_order(patient: dict[str, Latest], scale: int) -> None:
    scores = score(patient, spo2_scale=[scale])
    assert 0 <= scores.low[0] <= scores.high[0] <= 20
    assert (scores.points_low <= scores.points_high).all()
    assert bool(scores.complete[0]) is bool(scores.low[0] == scores.high[0])
