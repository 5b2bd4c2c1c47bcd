"""Variability of a trace (:func:`alerts.glucose.metrics.trace`) as its authors define it; mg/dL throughout.

Readings without a number (LO, HI) are left out. Days are days of the patient's clock.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from alerts.glucose.metrics import expected, on_patients_clock, risk, seconds
from vitals.records import DatedZone
from vitals.times import DAY_S, HOUR_S

FloatArray = npt.NDArray[np.float64]

CONGA_HOURS: Final = (1, 2, 4, 24)
DEFINITIONS: Final[Mapping[str, str]] = MappingProxyType({
    "mage_mg_dl": "mean over days of the mean excursion of more than 1 SD of the day, counted in the direction of the"
    " day's first such excursion (Service 1970); days with 70 % of their readings",
    "modd_mg_dl": "mean absolute difference to the reading 24 h before",
    "conga_1_mg_dl": "SD of the differences to the reading 1 h before",
    "adrr": "mean over days of the day's greatest low risk plus its greatest high risk",
    "ea1c_percent": "(46.7 + mean) / 28.7",
    "j_index": "0.001 (mean + SD)^2",
})  # fmt: skip
"""What the report prints of how it counts."""
_FULL_DAY: Final = 0.7
_LEAST_A_DAY: Final = 3
_SPLIT_S: Final = 180 * 60.0


def variability(frame: pd.DataFrame, zones: Sequence[DatedZone] = ()) -> "pd.Series[float]":
    """MAGE, MODD, CONGA, ADRR, estimated A1c and J-index by name; NaN for what the trace is too short for.

    ``ea1c_percent`` is ``(46.7 + mean) / 28.7`` (Nathan, Diabetes Care 2008;31:1473); ``j_index`` is
    ``0.001 (mean + SD)^2`` with divisor n-1 (Wojcicki, Horm Metab Res 1995;27:41).
    """
    value = frame["value"].dropna().to_numpy(np.float64)
    mean = float(value.mean()) if len(value) else np.nan
    sd = float(value.std(ddof=1)) if len(value) > 1 else np.nan
    numbers = {
        "modd_mg_dl": modd(frame),
        **{f"conga_{hours}_mg_dl": conga(frame, hours) for hours in CONGA_HOURS},
        "adrr": adrr(frame, zones),
        "ea1c_percent": (46.7 + mean) / 28.7,
        "j_index": 0.001 * (mean + sd) ** 2,
    }
    return pd.concat([mage(frame, zones), pd.Series(numbers)])


def mage(frame: pd.DataFrame, zones: Sequence[DatedZone] = ()) -> "pd.Series[float]":
    """Mean amplitude of glycaemic excursions (Service, Diabetes 1970;19:644): ``mage_mg_dl``, and ``mage_days``.

    Of each day: excursions from peak to nadir or back that exceed 1 SD of the day's readings; those in the direction of
    the first of them count. The result is the mean of the days' means. Days with less than 70 % of their readings, and
    those of an SD under 1 mg/dL, are left out (design default); no excursion spans a gap of more than 180 minutes.
    ``mage_plus_mg_dl`` and ``mage_minus_mg_dl`` are the means of all rises and of all falls of these days.
    """
    means, legs = [], [np.empty(0)]
    for rows in _days(frame, zones):
        if len(rows) < _FULL_DAY * expected(rows, DAY_S):
            continue
        found = _excursions_of(rows)
        if len(found):
            means.append(float(np.abs(found[np.sign(found) == np.sign(found[0])]).mean()))
            legs.append(found)
    every = np.concatenate(legs)
    return pd.Series({
        "mage_mg_dl": _mean(np.array(means)), "mage_days": float(len(means)) or np.nan,
        "mage_plus_mg_dl": _mean(every[every > 0]), "mage_minus_mg_dl": _mean(-every[every < 0]),
    })  # fmt: skip


def modd(frame: pd.DataFrame) -> float:
    """Mean of daily differences: ``mean(|g(t) - g(t - 24 h)|)`` (Molnar, Diabetologia 1972;8:342)."""
    return _mean(np.abs(_differences(frame, DAY_S)))


def conga(frame: pd.DataFrame, hours: float) -> float:
    """Continuous overall net glycaemic action: the SD (divisor n-1) of ``g(t) - g(t - n h)`` (McDonnell, Diabetes
    Technol Ther 2005;7:253)."""
    found = _differences(frame, hours * HOUR_S)
    return float(found.std(ddof=1)) if len(found) > 1 else np.nan


def adrr(frame: pd.DataFrame, zones: Sequence[DatedZone] = ()) -> float:
    """Average daily risk range: the mean over days of greatest low risk plus greatest high risk (Kovatchev, Diabetes
    Care 2006;29:2433); of days with three readings or more."""
    ranges = []
    for rows in _days(frame, zones):
        low, high = risk(rows["value"].to_numpy(np.float64))
        if len(rows) >= _LEAST_A_DAY:
            ranges.append(float(low.max() + high.max()))
    return _mean(np.array(ranges))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _days(frame: pd.DataFrame, zones: Sequence[DatedZone]) -> list[pd.DataFrame]:
    """The readings with a number, by day of the patient's clock."""
    known = frame[frame["value"].notna()]
    day = on_patients_clock(known["time"], zones).dt.normalize()
    return [rows for _, rows in known.groupby(day.to_numpy())]


def _differences(frame: pd.DataFrame, lag_s: float) -> FloatArray:
    """Each value minus the one ``lag_s`` before it, where there is one within half an interval."""
    known = frame[frame["value"].notna()]
    at_s, value = seconds(known), known["value"].to_numpy(np.float64)
    if len(value) < 2:
        return np.empty(0)
    wanted = at_s - lag_s
    after = np.clip(np.searchsorted(at_s, wanted), 1, len(at_s) - 1)
    nearest = np.where(wanted - at_s[after - 1] <= at_s[after] - wanted, after - 1, after)
    paired = np.abs(at_s[nearest] - wanted) <= known["interval_s"].to_numpy(np.float64) / 2
    return np.asarray(value[paired] - value[nearest[paired]], dtype=np.float64)


def _excursions_of(day: pd.DataFrame) -> FloatArray:
    """Excursions of one day of more than its SD, in order; falls are negative."""
    value: Any = day["value"].to_numpy(np.float64)
    least = float(value.std(ddof=1)) if len(value) > 1 else 0.0
    if least < 1.0:
        return np.empty(0)
    cuts = np.flatnonzero(np.diff(seconds(day)) > _SPLIT_S) + 1
    return np.concatenate([_excursions(stretch, least) for stretch in np.split(value, cuts)])


def _excursions(values: FloatArray, least: float) -> FloatArray:
    """Heights between the turning points that remain when swings of ``least`` and under are dropped."""
    pivots: list[float] = []
    low = high = extreme = float(values[0])
    way = 0
    for value in values[1:].tolist():
        if way == 0:
            low, high = min(low, value), max(high, value)
            if high - low > least:
                way = 1 if value == high else -1
                pivots, extreme = [low if way > 0 else high], value
        elif (value - extreme) * way > 0:
            extreme = value
        elif abs(value - extreme) > least:
            pivots.append(extreme)
            extreme, way = value, -way
    return np.diff([*pivots, extreme]) if pivots else np.empty(0)
