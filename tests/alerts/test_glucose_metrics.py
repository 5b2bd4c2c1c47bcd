"""Glucose metrics against clinical.md 3.3, a real recording, and what must hold for any trace."""

import csv
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.glucose.metrics import (
    Level,
    active_percent,
    agp,
    expected,
    gri_zone,
    levels,
    metrics,
    risk,
    shares,
    trace,
    uniform,
)
from tests.support import FIXTURES
from vitals.glossary import Flag
from vitals.records import DatedZone
from vitals.units import MMOL_L_TO_MG_DL

NAN = float("nan")
BERLIN = [DatedZone("Europe/Berlin", None, None)]
VECTOR = [52, 65, 80, 100, 120, 150, 180, 181, 240, 300]
RECORDING = json.loads((FIXTURES / "cgm" / "expected.json").read_text())
FIVE = ["tbr_below_54_percent", "tbr_54_69_percent", "tir_70_180_percent", "tar_181_250_percent",
        "tar_above_250_percent"]  # fmt: skip


def at(minutes: list[float], values: list[float], **columns: Any) -> pd.DataFrame:
    """Readings some minutes after midnight UTC."""
    time = pd.Timestamp("2026-01-05T00:00Z") + pd.to_timedelta(minutes, unit="min")
    return pd.DataFrame({"time": time, "value": np.array(values, dtype=np.float64)} | columns)


def every(values: list[float], step_min: float = 5.0, **columns: Any) -> pd.DataFrame:
    return at([number * step_min for number in range(len(values))], values, **columns)


def recording() -> pd.DataFrame:
    with (FIXTURES / "cgm" / "clarity.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Event Type"] == "EGV"]
    times = pd.to_datetime([row["Timestamp (YYYY-MM-DDThh:mm:ss)"] for row in rows], utc=True)
    return pd.DataFrame({"time": times, "value": [float(row["Glucose Value (mg/dL)"]) for row in rows]})


class TestReference:
    def test_the_vector_of_the_reference(self) -> None:
        found = metrics(trace(every(VECTOR)))
        assert found["mean_mg_dl"] == pytest.approx(146.8)
        assert found["sd_mg_dl"] == pytest.approx(79.922, abs=5e-4)
        assert found["cv_percent"] == pytest.approx(54.44, abs=5e-3)
        assert found["gmi_percent"] == pytest.approx(6.821, abs=5e-4)
        assert found[FIVE].tolist() == pytest.approx([10, 10, 50, 20, 10])
        assert found["lbgi"] == pytest.approx(3.524, abs=5e-4)
        assert found["hbgi"] == pytest.approx(7.281, abs=5e-4)
        assert found[["gri", "gri_hypo", "gri_hyper"]].tolist() == pytest.approx([86, 18, 20])
        assert gri_zone(found["gri"]) == "E"

    def test_its_percentiles(self) -> None:
        curve = agp(trace(every(VECTOR)), (), bin_minutes=1440)
        assert curve.loc[0].tolist() == pytest.approx([57.85, 85.0, 135.0, 180.75, 273.0])

    def test_point_risks(self) -> None:
        low, high = risk(np.array([40, 54, 70, 112.5, 180, 250, 400]))
        assert (low + high).tolist() == pytest.approx([36.416, 18.461, 7.755, 0, 7.729, 22.435, 57.044], abs=5e-4)
        assert not low[4:].any()
        assert not high[:3].any()

    @pytest.mark.parametrize(("gri", "zone"), [(0, "A"), (20, "A"), (20.1, "B"), (60, "C"), (80, "D"), (100, "E")])
    def test_gri_zones(self, gri: float, zone: str) -> None:
        assert gri_zone(gri) == zone

    def test_the_risk_index_is_capped(self) -> None:
        assert metrics(trace(every([45.0] * 10)))["gri"] == 100

    def test_gmi_in_both_units_agrees(self) -> None:
        found = metrics(trace(every([154.0])))
        assert found["gmi_mmol_mol"] == pytest.approx(10.929 * (found["gmi_percent"] - 2.15), abs=0.1)


def test_a_real_recording_has_its_expected_values() -> None:
    given_rows = recording()
    frame = trace(given_rows)
    found = metrics(frame)
    names = [name for name in RECORDING["expected"] if name in found.index]
    assert len(names) == 15
    assert found["sd_mg_dl"] == pytest.approx(RECORDING["expected"]["sd_n_minus_1_mg_dl"], rel=1e-9)
    assert found[names].tolist() == pytest.approx([RECORDING["expected"][name] for name in names], rel=1e-9)
    assert len(frame) == RECORDING["expected"]["n"]
    period_s = (given_rows["time"].max() - given_rows["time"].min()).total_seconds() + 300
    assert expected(frame, period_s) == RECORDING["file"]["expected_readings_5_min"]
    assert active_percent(frame, period_s) == pytest.approx(RECORDING["file"]["active_percent"], rel=1e-9)


class TestLevels:
    @pytest.mark.parametrize(
        ("value", "level"),
        [(53.9, Level.VERY_LOW), (54, Level.LOW), (69.9, Level.LOW), (70, Level.IN_RANGE), (180, Level.IN_RANGE),
         (180.1, Level.HIGH), (250, Level.HIGH), (250.1, Level.VERY_HIGH)],
    )  # fmt: skip
    def test_edges_in_mg_dl(self, value: float, level: Level) -> None:
        assert levels(trace(every([value]))).tolist() == [level]

    @pytest.mark.parametrize(
        ("mmol", "level"),
        [(2.9, Level.VERY_LOW), (3.0, Level.LOW), (3.8, Level.LOW), (3.9, Level.IN_RANGE), (10.0, Level.IN_RANGE),
         (10.1, Level.HIGH), (13.9, Level.HIGH), (14.0, Level.VERY_HIGH)],
    )  # fmt: skip
    def test_edges_in_the_unit_that_was_reported(self, mmol: float, level: Level) -> None:
        assert levels(trace(every([mmol * MMOL_L_TO_MG_DL], unit="mmol/L"))).tolist() == [level]

    def test_the_pregnancy_range_has_its_own_edges(self) -> None:
        found = shares(trace(every([62.9, 63, 140, 140.1])))
        assert found[["below_63_percent", "range_63_140_percent", "above_140_percent"]].tolist() == [25, 50, 25]
        assert shares(trace(every([7.8 * MMOL_L_TO_MG_DL], unit="mmol/L")))["range_63_140_percent"] == 100

    def test_lo_and_hi_count_where_they_belong_and_not_in_averages(self) -> None:
        flags = [0, int(Flag.BELOW_RANGE), int(Flag.ABOVE_RANGE), int(Flag.ABOVE_RANGE)]
        frame = trace(every([100, NAN, NAN, 401], flags=flags))
        assert levels(frame).tolist() == [Level.IN_RANGE, Level.VERY_LOW, Level.VERY_HIGH, Level.VERY_HIGH]
        assert metrics(frame)["mean_mg_dl"] == 250.5
        assert agp(frame, (), bin_minutes=1440)["p5"].tolist() == pytest.approx([40 + 0.15 * 60])

    def test_what_says_nothing_is_no_reading(self) -> None:
        assert len(trace(every([NAN, float("inf"), 100]))) == 1
        with pytest.raises(ValueError, match="under 1"):
            trace(every([0.0]))


class TestSpacing:
    def test_one_instant_has_one_value_the_lowest(self) -> None:
        frame = trace(at([0, 5, 5, 5], [100, 120, 60, NAN], flags=[0, 0, 0, int(Flag.ABOVE_RANGE)]))
        assert frame["value"].tolist() == [100, 60]
        low = trace(at([0, 0], [60, NAN], flags=[0, int(Flag.BELOW_RANGE)]))
        assert low["side"].tolist() == [-1], "LO is lower than any number"

    @pytest.mark.parametrize(("step_s", "interval_s"), [(60, 60), (298, 300), (302, 300), (899, 900), (600, 300)])
    def test_the_interval_is_the_sensors(self, step_s: float, interval_s: float) -> None:
        assert set(trace(every([100.0] * 20, step_s / 60))["interval_s"]) == {interval_s}

    def test_mixed_spacing_is_weighed_by_time(self) -> None:
        # An hour at 100 by one-minute readings, then an hour at 200 by fifteen-minute readings of another sensor.
        minutes = [*range(60), *range(60, 120, 15)]
        frame = trace(at([float(m) for m in minutes], [100.0] * 60 + [200.0] * 4, device=["a"] * 60 + ["b"] * 4))
        assert not uniform(frame)
        assert shares(frame)["tir_70_180_percent"] == pytest.approx(50)
        assert active_percent(frame, 4 * 3600) == pytest.approx(50)

    def test_one_device_that_changes_its_spacing_too(self) -> None:
        minutes = [*range(600), *range(600, 1200, 5)]
        frame = trace(at([float(m) for m in minutes], [100.0] * 600 + [200.0] * 120))
        assert shares(frame)["tir_70_180_percent"] == pytest.approx(50, abs=0.5)

    def test_a_readings_weight_is_one_interval_at_most(self) -> None:
        # Two sensors at once for an hour, and then three hours of nothing but one reading.
        minutes = [number * 2.5 for number in range(24)] + [240.0]
        frame = trace(at(minutes, [100.0] * 24 + [200.0], device=["a", "b"] * 12 + ["a"]))
        assert shares(frame)["tar_181_250_percent"] == pytest.approx(100 * 5 / (57.5 + 5 + 5))

    def test_percent_active(self) -> None:
        two_weeks = 14 * 86_400
        assert expected(trace(every([100.0] * 10)), two_weeks) == 4032
        enough, short = (active_percent(trace(every([100.0] * n)), two_weeks) for n in (2823, 2822))
        assert short < 70 <= enough
        assert active_percent(trace(every([])), two_weeks) == 0
        assert active_percent(trace(every([100.0] * 100, 0.5)), 600) == 100


class TestProfile:
    def test_breakfast_stays_at_its_time_when_the_clock_changes(self) -> None:
        days = pd.date_range("2026-03-20", "2026-04-08", tz="Europe/Berlin") + pd.Timedelta(0)
        breakfast = [day.replace(hour=8) for day in days]
        curve = agp(trace(pd.Series(200.0, index=pd.DatetimeIndex(breakfast))), BERLIN)
        assert curve.index.tolist() == [8 * 60]

    def test_the_hour_that_comes_twice_and_the_one_that_does_not_come(self) -> None:
        zone = "Europe/Berlin"
        for day, counted in (("2026-10-25", {2: 24}), ("2026-03-29", {})):
            start = pd.Timestamp(day, tz=zone)
            times = pd.date_range(start, start + pd.Timedelta(hours=6), freq="5min", inclusive="left")
            frame = trace(pd.Series(np.arange(len(times)) + 100.0, index=times))
            curve = agp(frame, BERLIN, bin_minutes=60)
            hours = frame["time"].dt.tz_convert(zone).dt.hour
            assert {hour: n for hour, n in hours.value_counts().items() if n != 12} == counted
            assert (120 in curve.index) is (2 in counted)

    def test_quarters_of_an_hour_without_readings_have_no_row(self) -> None:
        curve = agp(trace(at([0, 14, 15, 47], [100, 110, 120, 130])), ())
        assert curve.index.tolist() == [0, 15, 45]
        assert curve["p50"].tolist() == [105, 120, 130]
        assert agp(trace(every([])), ()).empty


NUMBERS = st.lists(st.integers(40, 400).map(float), min_size=1, max_size=60)


class TestInvariants:
    @given(NUMBERS, st.lists(st.sampled_from([0, int(Flag.BELOW_RANGE), int(Flag.ABOVE_RANGE)]), max_size=20))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_shares_sum_to_a_hundred(self, values: list[float], beyond: list[int]) -> None:
        flags = [0] * len(values) + beyond
        frame = trace(every(values + [NAN] * len(beyond), flags=flags))
        found = shares(frame)
        assert found[FIVE].sum() == pytest.approx(100)
        assert found["tbr_below_70_percent"] + found["tir_70_180_percent"] + found[
            "tar_above_180_percent"
        ] == pytest.approx(100)
        assert found[["below_63_percent", "range_63_140_percent", "above_140_percent"]].sum() == pytest.approx(100)

    @given(NUMBERS.flatmap(lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_order_and_repetition_change_nothing(self, case: tuple[list[float], list[int]]) -> None:
        values, order = case
        ordered = every(values, device=["ab"[number % 2] for number in range(len(values))])
        shuffled = pd.concat([ordered.iloc[order], ordered.iloc[: len(values) // 2]])
        pd.testing.assert_frame_equal(trace(ordered), trace(shuffled))

    @given(st.lists(st.integers(22, 222), min_size=2, max_size=60))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_the_unit_changes_only_which_rule_holds_at_an_edge(self, tenths: list[int]) -> None:
        values = [tenth / 10 * MMOL_L_TO_MG_DL for tenth in tenths]
        by_mmol, by_mg = (metrics(trace(every(values, unit=unit))) for unit in ("mmol/L", "mg/dL"))
        same = ["mean_mg_dl", "sd_mg_dl", "gmi_percent", "gmi_mmol_mol", "lbgi", "hbgi"]
        assert by_mmol[same].tolist() == by_mg[same].tolist()
        mmol = np.array(tenths) / 10
        assert by_mmol["tir_70_180_percent"] == pytest.approx(100 * np.mean((mmol >= 3.9) & (mmol <= 10.0)))

    @given(NUMBERS, st.integers(0, 60), st.integers(1, 40))
    @settings(max_examples=50, deadline=None, derandomize=True)
    def test_a_gap_changes_nothing_but_percent_active(self, values: list[float], where: int, hours: int) -> None:
        whole = every(values)
        later = whole["time"].index >= where
        torn = whole.assign(time=whole["time"] + pd.to_timedelta(np.where(later, hours, 0), unit="h"))
        before, after = (metrics(trace(one)) for one in (whole, torn))
        if uniform(trace(torn)):
            pd.testing.assert_series_equal(before, after)
        assert before[["mean_mg_dl", "gmi_percent", "lbgi", "hbgi"]].equals(
            after[["mean_mg_dl", "gmi_percent", "lbgi", "hbgi"]]
        )
