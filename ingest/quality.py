"""Plausibility: values to flags, never to other values (clinical.md 1.3)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitals.catalog import BY_KEY, VITALS, is_urgent, table
from vitals.glossary import Basis, Flag, Statistic

_IMPLAUSIBLE_LOW = table(-np.inf, {v.code: v.implausible[0] for v in VITALS})
_IMPLAUSIBLE_HIGH = table(np.inf, {v.code: v.implausible[1] for v in VITALS})
_SUSPECT_LOW = table(-np.inf, {v.code: v.suspect[0] for v in VITALS})
_SUSPECT_HIGH = table(np.inf, {v.code: v.suspect[1] for v in VITALS})
_SENSOR_LOW = table(-np.inf, {v.code: v.sensor_range[0] for v in VITALS if v.sensor_range})
_SENSOR_HIGH = table(np.inf, {v.code: v.sensor_range[1] for v in VITALS if v.sensor_range})
_PAGING_AGE_NS, _POLLED_AGE_NS = (
    table(0, {v.code: v.paged_ns(polled=polled) for v in VITALS}).astype(np.int64) for polled in (False, True)
)

PULSE_PRESSURE = (10.0, 150.0)
"""mm[Hg]; outside it the set is suspect."""
PERFUSION_GATE = 0.3
"""%; below it the SpO2 of the same message is suspect."""
_SPO2, _PI = BY_KEY["spo2"].code, BY_KEY["perf_index"].code
_PRESSURES = tuple(
    tuple(BY_KEY[f"{method}_{part}"].code for part in ("sys", "dia", "mean")) for method in ("bp", "bp_art")
)
"""Systolic, diastolic and mean pressure, by cuff and by arterial line."""

_HAS_PARTNERS = table(0, dict.fromkeys((_SPO2, _PI, *sum(_PRESSURES, ())), 1)).astype(np.bool_)
_SPREADS = {Statistic.COUNT, Statistic.STANDARD_DEVIATION, Statistic.VARIANCE, Statistic.QUARTILE_DEVIATION}
IS_VALUE = np.array([statistic not in _SPREADS for statistic in Statistic])

Flags = npt.NDArray[np.uint32]
Int64 = npt.NDArray[np.int64]


def range_flags(
    vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64], statistic: npt.NDArray[np.uint8]
) -> Flags:
    """IMPLAUSIBLE, SUSPECT, BELOW_RANGE and ABOVE_RANGE by the catalogue's ranges; NaN gets none, nor do counts and
    spreads, which are no values of the vital."""
    flags = np.zeros(len(value), np.uint32)
    value = np.where(IS_VALUE[statistic], value, np.nan)
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
    vital: npt.NDArray[np.uint16], time_ns: Int64, received_ns: Int64, basis: npt.NDArray[np.uint8],
    *, polled: bool = False,
) -> Flags:  # fmt: skip
    """LATE for readings older at receipt than their vital's paging age in its usual mode; ``time_ns`` of an interval
    is its end, of an aggregate its start. From a ``polled`` source a continuous vital pages until it is stale."""
    age_ns = _POLLED_AGE_NS if polled else _PAGING_AGE_NS
    late = (received_ns - time_ns > age_ns[vital]) & (basis != Basis.UNKNOWN)
    return np.where(late, np.uint32(Flag.LATE), np.uint32(0)).astype(np.uint32)


def wrong_clock_flags(vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64], flags: Flags) -> Flags:
    """Flags of readings that are judged at their arrival although their device's clock is wrong.

    CLOCK_WRONG, and SUSPECT unless the value is beyond the red limits or the sensor's range: such a value pages at
    once, another one is confirmed first.
    """
    extreme = is_urgent(vital, value) | ((flags & np.uint32(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)) != 0)
    doubt = np.where(extreme, np.uint32(0), np.uint32(Flag.SUSPECT))
    return (doubt | np.uint32(Flag.CLOCK_WRONG)).astype(np.uint32)


def cross_flags(
    message: Int64, source_time_ns: Int64, vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64]
) -> Flags:
    """Checks between the parts of one measurement (same message and source time).

    sys <= dia: IMPLAUSIBLE, both. Pulse pressure outside 10-150 mm[Hg], or a mean outside [dia, sys]: SUSPECT.
    SpO2 beside a perfusion index below the gate: SUSPECT. Of several pressures of one measurement the first systolic
    goes with the first diastolic, and so on.
    """
    flags = np.zeros(len(value), np.uint32)
    rows = np.flatnonzero(_HAS_PARTNERS[vital])
    if not len(rows):
        return flags
    parts = _Parts(vital[rows], value[rows], *_numbered(message[rows], source_time_ns[rows], vital[rows]))
    checked = np.zeros(len(rows), np.uint32)
    for method in _PRESSURES:
        _pressure_flags(parts, checked, *method)
    weak = parts.measurement[(parts.vital == _PI) & (parts.value < PERFUSION_GATE)]
    checked[(parts.vital == _SPO2) & np.isin(parts.measurement, weak)] |= np.uint32(Flag.SUSPECT)
    flags[rows] = checked
    return flags


@dataclass(frozen=True, slots=True)
class _Parts:
    """Rows that stand beside others: ``measurement`` numbers (message, source time), ``nth`` the rows of one vital in
    it."""

    vital: npt.NDArray[np.uint16]
    value: npt.NDArray[np.float64]
    measurement: Int64
    nth: Int64

    def pairs(self, first: int, second: int) -> tuple[Int64, Int64]:
        """Row numbers of ``first`` and ``second`` vitals that belong together."""
        left, right = np.flatnonzero(self.vital == first), np.flatnonzero(self.vital == second)
        keys = self.measurement * len(self.vital) + self.nth
        _, at_left, at_right = np.intersect1d(keys[left], keys[right], assume_unique=True, return_indices=True)
        return left[at_left], right[at_right]


def _numbered(message: Int64, source_time_ns: Int64, vital: npt.NDArray[np.uint16]) -> tuple[Int64, Int64]:
    """``measurement`` and ``nth`` of :class:`_Parts`."""
    order = np.lexsort((vital, source_time_ns, message))
    starts = np.ones((2, len(order)), bool)
    starts[0, 1:] = (np.diff(message[order]) != 0) | (np.diff(source_time_ns[order]) != 0)
    starts[1, 1:] = starts[0, 1:] | (vital[order][1:] != vital[order][:-1])
    places = np.arange(len(order))
    measurement, nth = np.empty((2, len(order)), np.int64)
    measurement[order] = np.cumsum(starts[0])
    nth[order] = places - np.maximum.accumulate(np.where(starts[1], places, 0))
    return measurement, nth


def _pressure_flags(parts: _Parts, flags: Flags, sys: int, dia: int, mean_code: int) -> None:
    low, high = parts.pairs(dia, sys)
    pressure = parts.value[high] - parts.value[low]
    crossed = pressure <= 0
    odd = ~crossed & ((pressure < PULSE_PRESSURE[0]) | (pressure > PULSE_PRESSURE[1]))
    for side in (low, high):
        flags[side[crossed]] |= np.uint32(Flag.IMPLAUSIBLE)
        flags[side[odd]] |= np.uint32(Flag.SUSPECT)
    for code, sign in ((sys, 1.0), (dia, -1.0)):
        mean, other = parts.pairs(mean_code, code)
        flags[mean[sign * (parts.value[mean] - parts.value[other]) > 0]] |= np.uint32(Flag.SUSPECT)
