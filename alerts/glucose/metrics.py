"""Metrics of a glucose sensor's trace, by the formulas of clinical.md 3.1 and 3.3.

:func:`trace` puts readings in order; every other function takes what it returns. Values are mg/dL; a reading keeps the
unit it was reported in, because the levels of the two units differ at their edges (10.0 mmol/L is in range, and
180.182 mg/dL; clinical.md 1.2). A reading without a number (LO, HI) counts in shares, events and percent active,
stands at the end of the sensor's range in percentiles, and is left out of what needs a number.
"""

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from vitals.catalog import BY_KEY
from vitals.glossary import Flag
from vitals.records import DatedZone
from vitals.units import MMOL_L_TO_MG_DL, from_canonical

FloatArray = npt.NDArray[np.float64]

MG_DL: Final = "mg/dL"
MMOL_L: Final = "mmol/L"
INTERVALS_S: Final = (60.0, 300.0, 900.0)
"""Spacings of sensors (clinical.md 1.3)."""
PERCENTILES: Final = (5, 25, 50, 75, 95)
MAX_INTERPOLATED_S: Final = 45 * 60.0
_DEFAULT_INTERVAL_S: Final = 300.0
_TOLERANCE: Final = 0.9
_OVERLAP: Final = 0.75
_FEW_ODD: Final = 0.05
_LOCAL_STEPS: Final = 13
_LOW, _HIGH = BY_KEY["glucose_isf"].sensor_range or (40.0, 400.0)
_RISK_SCALE: Final = 22.77
_GRI_ZONES: Final = "ABCDE"


class Level(IntEnum):
    """Consensus levels (clinical.md 3.1)."""

    VERY_LOW = 0
    LOW = 1
    IN_RANGE = 2
    HIGH = 3
    VERY_HIGH = 4


_EDGES: Final[Mapping[str, tuple[float, float, float, float]]] = MappingProxyType(
    {MG_DL: (54.0, 70.0, 180.0, 250.0), MMOL_L: (3.0, 3.9, 10.0, 13.9)}
)
_PREGNANCY: Final[Mapping[str, tuple[float, float]]] = MappingProxyType({MG_DL: (63.0, 140.0), MMOL_L: (3.5, 7.8)})

ADULT_TARGETS: Final[Mapping[str, tuple[str, float]]] = MappingProxyType(
    {
        "active_percent": (">", 70.0),
        "cv_percent": ("<", 36.0),
        "tir_70_180_percent": (">", 70.0),
        "tbr_below_70_percent": ("<", 4.0),
        "tbr_below_54_percent": ("<", 1.0),
        "tar_above_180_percent": ("<", 25.0),
        "tar_above_250_percent": ("<", 5.0),
    }
)
"""Targets of adults with type 1 or 2 diabetes, in percent (clinical.md 3.3)."""


def trace(readings: "pd.Series[Any] | pd.DataFrame") -> pd.DataFrame:
    """Readings by time, one per instant, with what the metrics need.

    ``readings`` is a series of mg/dL over aware instants, or a frame with ``time`` (aware), ``value`` (mg/dL, NaN for
    LO and HI) and, when known, ``flags`` (:class:`Flag`), ``unit`` (as reported) and ``device``. Rows in any order.

    Returns ``time`` (UTC), ``value``, ``side`` (-1 below the sensor's range, 1 above it), ``mmol`` (reported in
    mmol/L), ``interval_s``. Rows that say nothing are dropped. Of several values at one instant the lowest counts
    (design default: an extreme never goes silent).

    ``interval_s`` is 60, 300 or 900: the largest that the median of the device's 13 steps around the reading reaches
    (within 10 %); 300 for a device with one reading.

    Raises:
        ValueError: a value under 1 mg/dL.
    """
    given = readings.rename_axis("time").rename("value").reset_index() if isinstance(readings, pd.Series) else readings
    rows = len(given)
    value = given["value"].to_numpy(np.float64, copy=True)
    flags = given["flags"].to_numpy(np.int64) if "flags" in given else np.zeros(rows, np.int64)
    below, above = (flags & int(flag) != 0 for flag in (Flag.BELOW_RANGE, Flag.ABOVE_RANGE))
    if (value < 1.0).any():
        raise ValueError("glucose under 1 mg/dL")
    side = np.where(below, -1, np.where(above, 1, 0))
    frame = pd.DataFrame(
        {
            "time": pd.DatetimeIndex(pd.to_datetime(given["time"], utc=True)).as_unit("ns"),
            "value": np.where(np.isfinite(value), value, np.nan),
            "side": side.astype(np.int8),
            "mmol": (given["unit"] == MMOL_L).to_numpy() if "unit" in given else np.zeros(rows, np.bool_),
            "device": given["device"].to_numpy() if "device" in given else np.zeros(rows, np.int8),
            "rank": np.where(np.isfinite(value), value, np.where(below, -np.inf, np.inf)),
        }
    )
    frame = frame[frame["value"].notna() | (frame["side"] != 0)]
    frame = frame.sort_values(["time", "rank", "side", "mmol", "device"]).drop_duplicates("time", ignore_index=True)
    frame["interval_s"] = _interval_s(frame)
    return frame.drop(columns=["device", "rank"])


def _interval_s(frame: pd.DataFrame) -> FloatArray:
    steps = frame.groupby("device")["time"].diff().dt.total_seconds()
    local = steps.groupby(frame["device"]).rolling(_LOCAL_STEPS, center=True, min_periods=1).median()
    typical = local.droplevel(0).reindex(frame.index).fillna(_DEFAULT_INTERVAL_S).to_numpy(np.float64)
    ladder = np.array(INTERVALS_S)
    place = np.searchsorted(ladder * _TOLERANCE, typical, side="right") - 1
    return np.asarray(ladder[np.maximum(place, 0)], dtype=np.float64)


def seconds(frame: pd.DataFrame) -> FloatArray:
    """Times of a trace as seconds since 1970."""
    return np.asarray(frame["time"].astype("int64").to_numpy(np.float64) / 1e9, dtype=np.float64)


def covered_s(frame: pd.DataFrame) -> FloatArray:
    """How long each reading stands: until the next one, one interval at most."""
    stands: FloatArray = np.minimum(np.diff(seconds(frame), append=np.inf), frame["interval_s"].to_numpy(np.float64))
    return stands


def uniform(frame: pd.DataFrame) -> bool:
    """Whether readings may be counted, as the consensus does: all but one in twenty have one interval, and no step
    well under it, as those of two sensors at once. A few odd intervals change no report."""
    if frame.empty:
        return True
    intervals = frame["interval_s"].to_numpy(np.float64)
    usual = float(frame["interval_s"].mode().iloc[0])
    odd = (intervals != usual) | (np.diff(seconds(frame), prepend=-np.inf) < intervals * _OVERLAP)
    return bool(odd.mean() <= _FEW_ODD)


def _weights(frame: pd.DataFrame) -> FloatArray:
    return np.ones(len(frame)) if uniform(frame) else covered_s(frame)


def active_percent(frame: pd.DataFrame, period_s: float) -> float:
    """Readings present of those expected in ``period_s`` seconds; with varying spacing, time covered of it."""
    if frame.empty:
        return 0.0
    if uniform(frame):
        return min(100.0, 100.0 * len(frame) / expected(frame, period_s))
    return min(100.0, 100.0 * float(covered_s(frame).sum()) / period_s)


def expected(frame: pd.DataFrame, period_s: float) -> int:
    """Readings that the sensor gives in ``period_s`` seconds when it works all the time, at its commonest interval:
    4,032 in 14 days of five-minute readings.

    The period ends before a reading would stand at its end: 10 minutes hold two, at 0 and 5; 11 minutes hold three.
    """
    interval_s = _DEFAULT_INTERVAL_S if frame.empty else float(frame["interval_s"].mode().iloc[0])
    return max(1, math.ceil(period_s / interval_s - (1.0 - _TOLERANCE)))


def levels(frame: pd.DataFrame) -> npt.NDArray[np.int8]:
    """The :class:`Level` of each reading, by the rule of the unit it was reported in."""
    return _banded(frame, _EDGES, 2)


def _banded(frame: pd.DataFrame, edges: Mapping[str, tuple[float, ...]], lows: int) -> npt.NDArray[np.int8]:
    """How many edges each reading has passed: the first ``lows`` by reaching them, the others by exceeding them."""
    value = frame["value"].to_numpy(np.float64)

    def passed(unit: str) -> npt.NDArray[np.intp]:
        shown = from_canonical(value, MG_DL, unit)
        low, high = edges[unit][:lows], edges[unit][lows:]
        return np.searchsorted(low, shown, side="right") + np.searchsorted(high, shown, side="left")

    band = np.where(frame["mmol"].to_numpy(np.bool_), passed(MMOL_L), passed(MG_DL))
    side = frame["side"].to_numpy(np.int8)
    return np.where(side < 0, 0, np.where(side > 0, len(edges[MG_DL]), band)).astype(np.int8)


def shares(frame: pd.DataFrame) -> "pd.Series[float]":
    """Time in each range in percent; NaN for an empty trace. Shares of readings, or of time where spacing varies."""
    weights = _weights(frame)
    whole = weights.sum() or np.nan
    five = 100.0 * np.bincount(levels(frame), weights, 5) / whole
    three = 100.0 * np.bincount(_banded(frame, _PREGNANCY, 1), weights, 3) / whole
    very_low, low, in_range, high, very_high = five.tolist()
    return pd.Series(
        {
            "tbr_below_54_percent": very_low,
            "tbr_54_69_percent": low,
            "tbr_below_70_percent": very_low + low,
            "tir_70_180_percent": in_range,
            "tar_181_250_percent": high,
            "tar_above_250_percent": very_high,
            "tar_above_180_percent": high + very_high,
            "below_63_percent": float(three[0]),
            "range_63_140_percent": float(three[1]),
            "above_140_percent": float(three[2]),
        }
    )


def metrics(frame: pd.DataFrame) -> "pd.Series[float]":
    """The numbers of clinical.md 3.3 but variability over time (:mod:`alerts.glucose.variability`) and AGP; NaN for
    what the trace is too short for."""
    value = frame["value"].dropna().to_numpy(np.float64)
    nothing = len(value) == 0
    mean = np.nan if nothing else float(value.mean())
    sd = float(value.std(ddof=1)) if len(value) > 1 else np.nan
    low_risk, high_risk = risk(value)
    ranges = shares(frame)
    hypo = ranges["tbr_below_54_percent"] + 0.8 * ranges["tbr_54_69_percent"]
    hyper = ranges["tar_above_250_percent"] + 0.5 * ranges["tar_181_250_percent"]
    numbers = {
        "mean_mg_dl": mean,
        "sd_mg_dl": sd,
        "cv_percent": 100.0 * sd / mean,
        "gmi_percent": 3.31 + 0.02392 * mean,
        "gmi_mmol_mol": 12.71 + 4.70587 * mean / MMOL_L_TO_MG_DL,
        "lbgi": np.nan if nothing else float(low_risk.mean()),
        "hbgi": np.nan if nothing else float(high_risk.mean()),
        "gri": min(3.0 * hypo + 1.6 * hyper, 100.0) if len(frame) else np.nan,
        "gri_hypo": hypo,
        "gri_hyper": hyper,
    }
    return pd.concat([pd.Series(numbers), ranges])


def risk(value: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Low and high blood glucose risk of each value (mg/dL): 54 has 18.461 low, 250 has 22.435 high."""
    scaled = np.log(value) ** 1.084 - 5.381
    return _RISK_SCALE * np.minimum(scaled, 0.0) ** 2, _RISK_SCALE * np.maximum(scaled, 0.0) ** 2


def gri_zone(gri: float) -> str:
    """A (to 20) ... E (over 80)."""
    return _GRI_ZONES[max(0, min(4, int(np.ceil(gri / 20.0)) - 1))]


def on_patients_clock(time: "pd.Series[pd.Timestamp]", zones: Sequence[DatedZone]) -> "pd.Series[pd.Timestamp]":
    """Instants as the patient's clock showed them, without a zone; UTC where no zone is known."""
    shown = time.dt.tz_localize(None)
    at_ns = shown.to_numpy().astype("datetime64[ns]").view(np.int64)
    for zone in zones:
        here = np.ones(len(time), np.bool_)
        if zone.from_ns is not None:
            here &= at_ns >= zone.from_ns
        if zone.to_ns is not None:
            here &= at_ns < zone.to_ns
        shown[here] = time[here].dt.tz_convert(zone.zone).dt.tz_localize(None)
    return shown


def with_ends(frame: pd.DataFrame) -> "pd.Series[float]":
    """The values, LO and HI at the end of the sensor's range."""
    return frame["value"].fillna(frame["side"].map({-1: _LOW, 1: _HIGH}))


def agp(frame: pd.DataFrame, zones: Sequence[DatedZone], *, bin_minutes: int = 15) -> pd.DataFrame:
    """The ambulatory glucose profile: percentiles (columns ``p5`` ... ``p95``, mg/dL, linear) by time of day.

    Index: minutes since midnight on the patient's clock, so that a change to summer time moves no meal; only bins with
    readings. Unsmoothed.
    """
    value = with_ends(frame)
    local = on_patients_clock(frame["time"], zones)
    minute = (local.dt.hour * 60 + local.dt.minute) // bin_minutes * bin_minutes
    ranks = np.array(PERCENTILES) / 100
    curve = value.groupby(minute.rename("minute")).quantile(ranks).unstack().reindex(columns=ranks)
    curve.columns = pd.Index([f"p{share}" for share in PERCENTILES])
    return curve
