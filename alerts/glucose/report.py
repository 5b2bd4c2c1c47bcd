"""The glucose report of one patient: a sensor's metrics, profile and episodes, and whether the data suffice."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from alerts.glucose import metrics
from alerts.glucose.episodes import EPISODES, RECOVERED, level_1_only, summary
from alerts.glucose.forecaster import AHEAD_MIN, LEAST_POINTS, ForecastModel, GlucoseForecaster
from alerts.glucose.variability import DEFINITIONS, variability
from vitals.catalog import BY_KEY
from vitals.days import wall_ns, zone_at
from vitals.errors import InvalidRequest
from vitals.glossary import Basis, Flag
from vitals.ports import Store
from vitals.records import DatedZone, Patient, Window
from vitals.times import DAY_NS, MINUTE_NS, SECOND_NS, rfc3339
from vitals.units import UNIT_BY_CODE

Json = dict[str, Any]

SUFFICIENT_DAYS: Final = 14
SUFFICIENT_PERCENT: Final = 70.0
MAX_READINGS: Final = 500_000
"""A quarter of one-minute readings of three sensors at once."""
_LEFT_OUT: Final = (
    Flag.IMPLAUSIBLE, Flag.RETRACTED, Flag.CONTROL_SOLUTION, Flag.TEST_DATA, Flag.SENSOR_FAULT, Flag.CLOCK_SUSPECT,
)  # fmt: skip
_UNTIMED: Final = (Basis.DAY, Basis.UNKNOWN)
_CURRENT_NS: Final = 15 * MINUTE_NS
_JUST_NS: Final = 5 * MINUTE_NS
_OUT_OF_RANGE: Final = int(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)


def glucose_report(store: Store, patient: Patient, zones: Sequence[DatedZone], start_ns: int, end_ns: int) -> Json:
    """The report over ``start_ns <= time < end_ns`` as JSON: times RFC 3339, glucose mg/dL, null for what is not known.

    Metrics are those of ``glucose_isf`` alone; ``glucose_bg`` is counted apart (clinical.md 1.1: no time in range over
    fingersticks). Days and hours are those of ``zones``, where the patient lives and lived; UTC where no zone is known.

    Raises:
        InvalidRequest: more than ``MAX_READINGS`` readings.
    """
    sensor, left_out = _usable(_read(store, patient, "glucose_isf", start_ns, end_ns))
    blood, _ = _usable(_read(store, patient, "glucose_bg", start_ns, end_ns))
    frame = metrics.trace(sensor)
    measured = pd.concat([metrics.metrics(frame), variability(frame, zones)])
    known = frame["value"].dropna()
    found = None if frame.empty else metrics.gri_zone(float(measured["gri"]))
    return {
        "patient": patient.id,
        "zone": zone_at(zones, end_ns - 1),
        "start": rfc3339(start_ns),
        "end": rfc3339(end_ns),
        "sufficiency": _sufficiency(frame, zones, start_ns, end_ns),
        "readings": {
            "used": len(frame),
            "below_range": int((frame["side"] < 0).sum()),
            "above_range": int((frame["side"] > 0).sum()),
            "same_instant": len(sensor) - len(frame),
            "left_out": left_out,
        },
        "metrics": {name: _number(value) for name, value in measured.items()} | {"n": len(known), "gri_zone": found},
        "forecast": _forecast(frame, zones, end_ns),
        "definitions": dict(DEFINITIONS),
        "adult_targets": {name: f"{sign} {limit:g}" for name, (sign, limit) in metrics.ADULT_TARGETS.items()},
        "agp": _profile(frame, zones),
        "episodes": _episodes(frame),
        "fingersticks": _fingersticks(blood),
    }


def _read(store: Store, patient: Patient, vital: str, start_ns: int, end_ns: int) -> Window:
    window = store.window(patient.id, BY_KEY[vital].code, start_ns, end_ns, limit=MAX_READINGS + 1)
    if len(window.time_ns) > MAX_READINGS:
        raise InvalidRequest("start", f"more than {MAX_READINGS} readings; ask for less time")
    return window


def _usable(window: Window) -> tuple[pd.DataFrame, dict[str, int]]:
    """Readings as :func:`alerts.glucose.metrics.trace` takes them, and how many others were left out, each by one
    reason."""
    value, flags = window.value, window.flags.astype(np.int64)
    basis = np.asarray(window.basis, dtype=np.int64)
    reasons: list[tuple[str, npt.NDArray[np.bool_]]] = [
        *((str(flag.name).lower(), flags & int(flag) != 0) for flag in _LEFT_OUT),
        ("no_time", np.isin(basis, _UNTIMED)),
        ("no_value", np.isnan(value) & (flags & _OUT_OF_RANGE == 0)),
    ]
    # The first reason that holds.
    why = np.select([holds for _, holds in reasons], range(len(reasons)), len(reasons))
    counts = np.bincount(why, minlength=len(reasons) + 1)
    used = why == len(reasons)
    frame = pd.DataFrame(
        {
            "time": pd.DatetimeIndex(window.time_ns.view("datetime64[ns]"), tz="UTC"),
            "value": value,
            "flags": flags,
            "unit": [UNIT_BY_CODE[code].ucum for code in window.unit],
            "device": list(window.device),
        }
    )
    named = {name: int(count) for (name, _), count in zip(reasons, counts.tolist(), strict=False) if count}
    return frame[used], named


def _sufficiency(frame: pd.DataFrame, zones: Sequence[DatedZone], start_ns: int, end_ns: int) -> Json:
    """Whether 14 days hold at least 70 % of what the sensor gives (clinical.md 3.3), with a line for people."""
    period_s = (end_ns - start_ns) / SECOND_NS
    active = metrics.active_percent(frame, period_s)
    # A day has 23 or 25 hours where clocks change.
    days = (wall_ns(zones, end_ns) - wall_ns(zones, start_ns)) / DAY_NS
    reasons = [
        word
        for word, holds in (
            ("no_readings", frame.empty),
            ("under_14_days", days < SUFFICIENT_DAYS),
            ("under_70_percent_active", active < SUFFICIENT_PERCENT),
        )
        if holds
    ]
    return {
        "sufficient": not reasons,
        "reasons": reasons,
        "text": _in_words(reasons, days, active),
        "days": round(days, 3),
        "days_worn": int(metrics.on_patients_clock(frame["time"], zones).dt.normalize().nunique()),
        "active_percent": active,
        "expected": metrics.expected(frame, period_s),
        "interval_s": sorted(frame["interval_s"].unique().tolist()),
        "shares_of": "readings" if metrics.uniform(frame) else "time",
    }


def _in_words(reasons: list[str], days: float, active: float) -> str:
    if "no_readings" in reasons:
        return "No sensor readings in this period: there is nothing to report."
    have = f"{days:.3g} days, sensor active {active:.1f} % of them"
    if not reasons:
        return f"Enough data: {have}."
    return (
        f"Insufficient data: {have}; {SUFFICIENT_DAYS} days with {SUFFICIENT_PERCENT:.0f} % are needed. "
        "Read the numbers with care, and GMI not as a trend."
    )


def _forecast(frame: pd.DataFrame, zones: Sequence[DatedZone], end_ns: int) -> Json:
    """Glucose 30 minutes after the last reading, learned from the readings of the report; null with the reason where
    fewer than seven came in a row, or the last one is not current at the report's end."""
    value = metrics.with_ends(frame)
    local = metrics.on_patients_clock(frame["time"], zones) - frame["time"].dt.tz_localize(None)
    time_ns = frame["time"].astype("int64").to_numpy()
    forecaster = GlucoseForecaster()
    series = forecaster.add()
    found = forecaster.observe(np.zeros(len(frame)), time_ns, value, local.dt.total_seconds().to_numpy() // 60)
    made = np.flatnonzero(found.model >= 0)
    scored, held = forecaster.held(series)
    out: Json = {
        "at": None, "value_mg_dl": None, "low_mg_dl": None, "high_mg_dl": None, "model": None, "reason": None,
        "scored": scored, "in_band_percent": _number(100.0 * held), "past_error": forecaster.past_error(series),
    }  # fmt: skip
    recent = len(frame) - LEAST_POINTS
    if not len(made) or time_ns[made[-1]] < time_ns[-1] - _JUST_NS or recent < 0:
        return out | {"reason": "too_few_readings"}
    if end_ns - time_ns[-1] > _CURRENT_NS:
        return out | {"reason": "no_current_reading"}
    last = made[-1]
    return out | {
        "at": rfc3339(int(time_ns[last]) + AHEAD_MIN * MINUTE_NS),
        "model": ForecastModel(found.model[last]).name.lower(),
        "value_mg_dl": _number(found.guess[last]), "low_mg_dl": _number(found.low[last]),
        "high_mg_dl": _number(found.high[last]),
    }  # fmt: skip


def _profile(frame: pd.DataFrame, zones: Sequence[DatedZone]) -> Json:
    curve = metrics.agp(frame, zones)
    columns = {str(name): [_number(value) for value in curve[name]] for name in curve}
    return {"bin_minutes": 15, "minute": curve.index.tolist()} | columns


def _episodes(frame: pd.DataFrame) -> Json:
    found = summary(frame)
    only = {
        f"{side}_level_1": level_1_only(found[f"{side}_level_1"], found[f"{side}_level_2"])
        for side in ("hypo", "hyper")
    }
    return {name: _kind(found[name], only.get(name)) for name in EPISODES}


def _kind(rows: pd.DataFrame, only: int | None) -> Json:
    items = [
        {
            "start": rfc3339(row["start"].value),
            "end": rfc3339(row["end"].value),
            "minutes": round(row["minutes"], 3),
            "extreme_mg_dl": _number(row["extreme_mg_dl"]),
            "ended": row["ended"],
        }
        for row in rows.to_dict("records")
    ]
    out: Json = {"count": len(items), "recovered": int((rows["ended"] == RECOVERED).sum())}
    if only is not None:
        out["level_1_only"] = only
    return out | {"minutes": round(float(rows["minutes"].sum()), 3), "items": items}


def _fingersticks(blood: pd.DataFrame) -> Json:
    """Counts and extremes; LO and HI count as under 54 and over 250."""
    frame = metrics.trace(blood)
    level = np.bincount(metrics.levels(frame), minlength=len(metrics.Level)).tolist()
    value = frame["value"]
    return {
        "n": len(frame),
        "mean_mg_dl": _number(value.mean()),
        "minimum_mg_dl": _number(value.min()),
        "maximum_mg_dl": _number(value.max()),
        "below_54": level[metrics.Level.VERY_LOW],
        "below_70": level[metrics.Level.VERY_LOW] + level[metrics.Level.LOW],
        "above_180": level[metrics.Level.HIGH] + level[metrics.Level.VERY_HIGH],
        "above_250": level[metrics.Level.VERY_HIGH],
    }


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
