"""NEWS2: the table, the published cases, what is missing, and the shapes of the result."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alerts.scores.news2 import Latest, Programme, VitalColumn, news2, news2_of_one
from alerts.scores.tables import TEMP, AgeBand, Band, Parameter, Pregnancy, Validity
from tests.alerts.news2_world import (
    NOW,
    ROWS,
    SPANS,
    WARD,
    WELL,
    columns,
    context,
    points_by_hand,
    scale_2,
    score,
    table,
    validity,
)
from vitals.catalog import BY_KEY
from vitals.glossary import Flag, Mode
from vitals.times import HOUR_NS
from vitals.units import to_canonical

CASES = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "news2" / "cases.json").read_text(encoding="utf-8")
)["cases"]  # fmt: skip
MONITORING = {
    "12-hourly": "Minimum every 12 hrs", "4-6-hourly": "Minimum every 4-6 hrs", "hourly": "Minimum every hr",
}  # fmt: skip
SOURCE = {Parameter.PULSE: "pulse_rate"}
VECTORS = table("2.4")


def points(scores: Any, row: int = 0) -> list[int]:
    assert (scores.points_low[:, row] == scores.points_high[:, row]).all()
    return [int(value) for value in scores.points_low[:, row]]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_published_case(case: dict[str, Any]) -> None:
    given, expected = dict(case["input"]), case["expected"]
    scale = given.pop("spo2_scale")
    patient = given | {
        "o2_flow": 2.0 if given.pop("oxygen") else 0.0, "pulse_rate": given.pop("pulse"),
        "acvpu": BY_KEY["acvpu"].values.index(given["acvpu"]),
    }  # fmt: skip
    scores = score(patient, spo2_scale=[scale])
    band = Band(scores.band_low[0])
    assert dict(zip([which.key for which in Parameter], points(scores), strict=True)) == expected["parts"]
    assert scores.low[0] == scores.high[0] == expected["total"]
    assert scores.red_low[0] == scores.red_high[0] == expected["any_three"]
    assert (band.risk, MONITORING[band.observe]) == (expected["risk"], expected["monitoring"])


@pytest.mark.parametrize("cells", VECTORS, ids=[cells[0] for cells in VECTORS])
def test_a_vector_of_the_page(cells: list[str]) -> None:
    rate, spo2, scale, oxygen, systolic, pulse, level, temp = cells[1:9]
    patient = {
        "resp_rate": float(rate), "spo2": float(spo2), "o2_flow": 3.0 * int(oxygen), "bp_sys": float(systolic),
        "heart_rate": float(pulse), "acvpu": BY_KEY["acvpu"].values.index(level), "temp": float(temp),
    }  # fmt: skip
    scores = score(patient, spo2_scale=[int(scale)])
    assert points(scores) == [int(number) for number in cells[9].split()]
    assert (scores.low[0], scores.high[0]) == (int(cells[10]), int(cells[10]))
    assert bool(scores.red_low[0]) is bool(scores.red_high[0]) is (cells[11] == "yes")
    assert Band(scores.band_low[0]).risk == Band(scores.band_high[0]).risk == cells[12]
    assert scores.complete[0]


def test_all_vectors_are_read() -> None:
    assert (len(VECTORS), len(CASES), SPANS.keys()) == (20, 8, set(ROWS.values()))


EDGES = [
    (which, edge, points)
    for which, spans in SPANS.items()
    for low, high, points in spans
    for edge in (low, high)
    if math.isfinite(edge)
]


@pytest.mark.parametrize(("which", "edge", "expected"), EDGES)
def test_both_ends_of_every_band(which: Parameter, edge: float, expected: int) -> None:
    key = SOURCE.get(which, which.key)
    step = 0.1 if which is Parameter.TEMP else 1.0
    # Half a step below rounds up into the band, a little less than half a step above rounds down into it.
    shares = (0.0, -0.5, 0.49)
    scores = score(*({**WELL, key: edge + share * step} for share in shares))
    assert scores.points_low[which].tolist() == [expected] * 3
    lows = [low for low, _, _ in SPANS[which]]
    if edge in lows[1:]:
        before = SPANS[which][lows.index(edge) - 1][2]
        outside = score({**WELL, key: edge - 0.51 * step}, {**WELL, key: edge - step})
        assert outside.points_low[which].tolist() == [before] * 2


def test_scale_2_at_every_saturation() -> None:
    for flow in (0.0, 1.0):
        saturations = range(70, 101)
        scores = score(*({**WELL, "spo2": spo2, "o2_flow": flow} for spo2 in saturations), spo2_scale=[2] * 31)
        assert scores.points_low[Parameter.SPO2].tolist() == [scale_2(spo2, flow > 0) for spo2 in saturations]
        assert (scores.points_high == scores.points_low).all()


def test_scale_2_edges_are_rounded_too() -> None:
    # On oxygen: 83 | 84-85 | 86-87 | 88-92 | 93-94 | 95-96 | 97.
    scores = score(
        *({**WELL, "spo2": edge + share, "o2_flow": 1} for edge in (83, 85, 87, 92, 94, 96) for share in (0.49, 0.5)),
        spo2_scale=[2] * 12,
    )
    assert scores.points_low[Parameter.SPO2].tolist() == [3, 2, 2, 1, 1, 0, 0, 1, 1, 2, 2, 3]


def test_the_words_of_the_triggers_are_those_of_the_page() -> None:
    page = [[cell.partition(" (")[0] for cell in cells] for cells in table("2.2")]
    assert [[band.risk, band.observe] for band in Band] == [cells[1:3] for cells in page]
    assert [cells[0] for cells in page] == ["0", "1-4", "any single parameter = 3", "5-6", ">= 7"]


def test_bands_of_every_total() -> None:
    # 0 to 4 with respiration 21 (2), pulse 111 (2); a single 3 by consciousness.
    rows = [
        ({}, Band.ZERO), ({"temp": 38.5}, Band.LOW), ({"resp_rate": 21, "pulse_rate": 111}, Band.LOW),
        ({"acvpu": 2}, Band.LOW_MEDIUM), ({"acvpu": 2, "temp": 38.5}, Band.LOW_MEDIUM),
        ({"acvpu": 2, "resp_rate": 21}, Band.MEDIUM), ({"resp_rate": 21, "pulse_rate": 111, "o2_flow": 1}, Band.MEDIUM),
        ({"acvpu": 2, "resp_rate": 21, "pulse_rate": 111}, Band.HIGH),
    ]  # fmt: skip
    scores = score(*({**WELL, **changes} for changes, _ in rows))
    assert scores.low.tolist() == [0, 1, 4, 3, 4, 5, 6, 7]
    assert scores.band_low.tolist() == scores.band_high.tolist() == [int(band) for _, band in rows]


def test_values_are_converted_then_rounded_then_banded() -> None:
    cases = [
        ("temp", 36.04, 1), ("temp", 36.05, 0), ("temp", 38.05, 1), ("pulse_rate", 90.5, 1), ("pulse_rate", 90.49, 0),
    ]  # fmt: skip
    converted = [("temp", 95.0, "[degF]", 3), ("temp", 102.29, "[degF]", 2), ("bp_sys", 12.0, "kPa", 3),
                 ("bp_sys", 12.1, "kPa", 2)]  # fmt: skip
    cases += [(key, float(to_canonical(value, unit, BY_KEY[key].unit)), n) for key, value, unit, n in converted]
    for key, value, expected in cases:
        assert score({**WELL, key: value}).low[0] == expected, (key, value)


@pytest.mark.parametrize("hundredth", range(3400, 4000, 5))
def test_a_temperature_of_a_half_tenth_rounds_up(hundredth: int) -> None:
    tenth = (hundredth + 5) // 10
    expected = score({**WELL, "temp": tenth / 10}).low[0]
    assert score({**WELL, "temp": hundredth / 100}).low[0] == expected


def test_a_median_of_two_temperatures_rounds_up_too() -> None:
    # 34.3 and 34.4 have a median of 34.349999999999994.
    tenths = np.arange(340, 420)
    pairs = np.stack(np.meshgrid(tenths, tenths)).reshape(2, -1)
    exact = (pairs.sum(axis=0) + 1) // 2
    assert TEMP.rounded(np.median(pairs / 10, axis=0)).tolist() == exact.tolist()


def test_missing_parts_of_the_page() -> None:
    ill = {"resp_rate": 28, "spo2": 91, "o2_flow": 2, "bp_sys": 90, "pulse_rate": 131, "acvpu": 2, "temp": 39.1}
    scores = score({**ill, "temp": None}, {**WELL, "bp_sys": None, "temp": None})
    assert (scores.low.tolist(), scores.high.tolist()) == ([17, 0], [20, 6])
    assert (scores.band_low.tolist(), scores.band_high.tolist()) == ([Band.HIGH, Band.ZERO], [Band.HIGH, Band.MEDIUM])
    assert (scores.red_low.tolist(), scores.red_high.tolist()) == ([True, False], [True, True])
    missing = [[which.key for which in Parameter if scores.missing[which, row]] for row in (0, 1)]
    assert missing == [["temp"], ["bp_sys", "temp"]]
    assert not scores.complete.any()


@pytest.mark.parametrize(
    ("spo2", "scale", "expected"),
    [(97, 1, (0, 2)), (92, 2, (0, 2)), (93, 2, (0, 3)), (95, 2, (0, 4)), (97, 2, (0, 5)), (86, 2, (1, 3)),
     (83, 2, (3, 5)), (None, 1, (0, 5)), (None, 2, (0, 5))],
)  # fmt: skip
def test_unknown_oxygen_is_not_air(spo2: int | None, scale: int, expected: tuple[int, int]) -> None:
    scores = score({**WELL, "spo2": spo2, "o2_flow": None}, spo2_scale=[scale])
    assert (scores.low[0], scores.high[0]) == expected
    assert validity(scores, Parameter.OXYGEN) is Validity.ABSENT
    assert scores.red_high[0] == (scores.points_high[:, 0] == 3).any()


@pytest.mark.parametrize("was", [Latest(2.0, NOW - 25 * HOUR_NS), Latest(2.0, NOW, int(Flag.LATE))])
def test_oxygen_that_no_longer_counts_is_unknown(was: Latest) -> None:
    scores = score({**WELL, "o2_flow": was}, spo2_scale=[2])
    assert (scores.low[0], scores.high[0]) == (0, 5)


@pytest.mark.parametrize("scale", [0, 1, 3])
def test_only_a_scale_that_was_set_is_scale_2(scale: int) -> None:
    assert score({**WELL, "spo2": 90}, spo2_scale=[scale]).low[0] == 3


def test_shapes_and_types_are_those_documented() -> None:
    scores = score(*[WELL] * 3)
    assert {array.shape for array in (scores.points_low, scores.validity, scores.value, scores.doubted)} == {(7, 3)}
    types = {name: str(getattr(scores, name).dtype) for name in (
        "now_ns", "refusal", "low", "high", "band_low", "band_high", "red_low", "hidden", "points_low", "points_high",
        "validity", "vital", "value", "time_ns", "doubted", "complete")}  # fmt: skip
    assert types == {
        "now_ns": "int64", "refusal": "uint8", "low": "int8", "high": "int8", "band_low": "int8", "band_high": "int8",
        "red_low": "bool", "hidden": "bool", "points_low": "int8", "points_high": "int8", "validity": "uint8",
        "vital": "uint16", "value": "float64", "time_ns": "int64", "doubted": "bool", "complete": "bool",
    }  # fmt: skip


def test_nobody_and_nothing() -> None:
    assert len(news2({}, context(0), NOW, WARD).low) == 0
    nothing = news2({}, context(2), NOW, WARD)
    assert (nothing.low.tolist(), nothing.high.tolist()) == ([0, 0], [20, 20])
    assert (nothing.band_low.tolist(), nothing.band_high.tolist()) == ([Band.ZERO] * 2, [Band.HIGH] * 2)


def test_each_patient_may_have_an_instant() -> None:
    given = columns([{**WELL, "temp": Latest(36.8, NOW - 12 * HOUR_NS)}] * 2)
    scores = news2(given, context(2), np.array([NOW, NOW + 1]), WARD)
    assert scores.complete.tolist() == [True, False]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="resp is no vital sign"):
        news2({"resp": columns([WELL])["temp"]}, context(1), NOW, WARD)
    with pytest.raises(ValueError, match="puls is no vital sign"):
        Programme({"puls": Mode.SPOT})
    with pytest.raises(ValueError, match="temp is not as long"):
        news2({"temp": columns([WELL])["temp"]}, context(2), NOW, WARD)
    with pytest.raises(ValueError, match="unequal length"):
        news2({}, context(2, spo2_scale=[1]), NOW, WARD)
    given = columns([WELL])
    weight = VitalColumn(np.array([80.0]), np.array([NOW]), np.array([0], np.uint32))
    assert news2({**given, "weight": weight}, context(1), NOW, WARD).complete.all()


def test_one_patient_is_a_column_of_one() -> None:
    patient = {"resp_rate": 22.0, "spo2": 96.0, "fio2": 28.0, "bp_sys": 122.0, "heart_rate": 72.0, "acvpu": 1.0}
    one = news2_of_one(
        {key: Latest(value, NOW) for key, value in patient.items()}, NOW, WARD,
        age_band=AgeBand.ADULT, pregnancy=Pregnancy.NO, spo2_scale=2, usual_confusion=True,
    )  # fmt: skip
    assert (one.low.tolist(), one.high.tolist()) == ([2 + 2 + 2], [2 + 2 + 2 + 3])
    assert points_by_hand({**WELL, "resp_rate": 22, "spo2": 96, "o2_flow": 2}, 2) == [2, 2, 2, 0, 0, 0, 0]
