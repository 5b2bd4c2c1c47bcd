"""Plausibility: values to flags, never to other values (clinical.md 1.3)."""

import numpy as np
import numpy.typing as npt

from vitals.catalog import BY_KEY, VITALS, table
from vitals.glossary import Basis, Flag

_IMPLAUSIBLE_LOW = table(-np.inf, {v.code: v.implausible[0] for v in VITALS})
_IMPLAUSIBLE_HIGH = table(np.inf, {v.code: v.implausible[1] for v in VITALS})
_SUSPECT_LOW = table(-np.inf, {v.code: v.suspect[0] for v in VITALS})
_SUSPECT_HIGH = table(np.inf, {v.code: v.suspect[1] for v in VITALS})
_SENSOR_LOW = table(-np.inf, {v.code: v.sensor_range[0] for v in VITALS if v.sensor_range})
_SENSOR_HIGH = table(np.inf, {v.code: v.sensor_range[1] for v in VITALS if v.sensor_range})
_PAGING_AGE_NS = table(0, {v.code: v.paging_age_ns(v.mode) for v in VITALS}).astype(np.int64)

PULSE_PRESSURE = (10.0, 150.0)
"""mm[Hg]; outside it the set is suspect."""
PERFUSION_GATE = 0.3
"""%; below it the SpO2 of the same message is suspect."""
_SYS, _DIA, _MEAN, _SPO2, _PI = (BY_KEY[key].code for key in ("bp_sys", "bp_dia", "bp_mean", "spo2", "perf_index"))

Flags = npt.NDArray[np.uint32]


def range_flags(vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64]) -> Flags:
    """IMPLAUSIBLE, SUSPECT, BELOW_RANGE and ABOVE_RANGE by the catalogue's ranges; NaN gets none."""
    flags = np.zeros(len(value), np.uint32)
    with np.errstate(invalid="ignore"):
        implausible = (value < _IMPLAUSIBLE_LOW[vital]) | (value > _IMPLAUSIBLE_HIGH[vital])
        suspect = ~implausible & ((value < _SUSPECT_LOW[vital]) | (value > _SUSPECT_HIGH[vital]))
        below, above = ~implausible & (value < _SENSOR_LOW[vital]), ~implausible & (value > _SENSOR_HIGH[vital])
    flags[implausible] |= np.uint32(Flag.IMPLAUSIBLE)
    flags[suspect] |= np.uint32(Flag.SUSPECT)
    flags[below] |= np.uint32(Flag.BELOW_RANGE)
    flags[above] |= np.uint32(Flag.ABOVE_RANGE)
    return flags


def late_flags(
    vital: npt.NDArray[np.uint16],
    time_ns: npt.NDArray[np.int64],
    received_ns: npt.NDArray[np.int64],
    basis: npt.NDArray[np.uint8],
) -> Flags:
    """LATE for readings older at receipt than their vital's paging age in its usual mode."""
    late = (received_ns - time_ns > _PAGING_AGE_NS[vital]) & (basis != Basis.UNKNOWN)
    return np.where(late, np.uint32(Flag.LATE), np.uint32(0)).astype(np.uint32)


def cross_flags(
    message: npt.NDArray[np.int64],
    source_time_ns: npt.NDArray[np.int64],
    vital: npt.NDArray[np.uint16],
    value: npt.NDArray[np.float64],
) -> Flags:
    """Checks between the parts of one measurement (same message and source time).

    sys <= dia: IMPLAUSIBLE, both. Pulse pressure outside 10-150 mm[Hg], or a mean outside [dia, sys]: SUSPECT.
    SpO2 beside a perfusion index below the gate: SUSPECT.
    """
    flags = np.zeros(len(value), np.uint32)
    for low_code, high_code in ((_DIA, _SYS), (_PI, _SPO2)):
        low, high = _pairs(message, source_time_ns, vital, low_code, high_code)
        if not len(low):
            continue
        if high_code == _SPO2:
            flags[high[value[low] < PERFUSION_GATE]] |= np.uint32(Flag.SUSPECT)
            continue
        pressure = value[high] - value[low]
        crossed = pressure <= 0
        odd = ~crossed & ((pressure < PULSE_PRESSURE[0]) | (pressure > PULSE_PRESSURE[1]))
        for side in (low, high):
            flags[side[crossed]] |= np.uint32(Flag.IMPLAUSIBLE)
            flags[side[odd]] |= np.uint32(Flag.SUSPECT)
        _mean_flags(flags, message, source_time_ns, vital, value)
    return flags


def _mean_flags(
    flags: Flags,
    message: npt.NDArray[np.int64],
    source_time_ns: npt.NDArray[np.int64],
    vital: npt.NDArray[np.uint16],
    value: npt.NDArray[np.float64],
) -> None:
    for code, sign in ((_SYS, 1.0), (_DIA, -1.0)):
        mean, other = _pairs(message, source_time_ns, vital, _MEAN, code)
        flags[mean[sign * (value[mean] - value[other]) > 0]] |= np.uint32(Flag.SUSPECT)


def _pairs(
    message: npt.NDArray[np.int64],
    source_time_ns: npt.NDArray[np.int64],
    vital: npt.NDArray[np.uint16],
    first: int,
    second: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of ``first`` and ``second`` vitals that belong to one measurement."""
    left, right = np.flatnonzero(vital == first), np.flatnonzero(vital == second)
    if not len(left) or not len(right):
        return left[:0], right[:0]
    keys = np.empty(len(vital), dtype=[("message", np.int64), ("time", np.int64)])
    keys["message"], keys["time"] = message, source_time_ns
    _, at_left, at_right = np.intersect1d(keys[left], keys[right], return_indices=True)
    return left[at_left], right[at_right]
