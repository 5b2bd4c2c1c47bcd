"""Values of a (patient, vital) series on each of the patient's last 16 calendar days, for trends over days.

A reading belongs to the day that the patient's own clock showed (``time_ns`` + ``tz_min``), so a day of 23 or 25 hours
is one day and keeps all its readings. Days may be filled in any order while they are among the last 16; so may the
readings of a day. State is plain arrays, one row per series (``alerts.judging.series.Table``); callers pass valid
values only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alerts.judging.compiling import lean, record_type
from alerts.rules.spec import Op
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

Array = npt.NDArray[Any]

RING_DAYS: Final = 16
"""Days that are kept; rules may look 14 days back."""
NO_DAY: Final = -(2**31)
LEAST_DAYS: Final = 5
"""Days that a mean and SD must rest on (clinical.md 4.4 P4)."""

_CHANGE: Final = int(Op.CHANGE)
_MEAN: Final = int(Op.MEAN)
_BELOW_MEAN_SD: Final = int(Op.BELOW_MEAN_SD)
_FRACTION: Final = int(Op.FRACTION)
_DECIMALS: Final = 1e6


class Days(NamedTuple):
    """Series x 16, the place of a day is its number modulo 16: ``day`` (days since 1970-01-01 of the patient's clock,
    NO_DAY = none), its ``first`` and ``last`` reading and their times, the ``total`` and number of its ``readings`` and
    how many were ``low`` (under the share limit). One per series: the ``newest`` day, and day and last reading of the
    first day on record."""

    day: Array
    first_ns: Array
    first: Array
    last_ns: Array
    last: Array
    total: Array
    readings: Array
    low: Array
    newest: Array
    record_day: Array
    record_last: Array


DAYS_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "day": "(16,)<i4", "first_ns": "(16,)<i8", "first": "(16,)<f8", "last_ns": "(16,)<i8", "last": "(16,)<f8",
    "total": "(16,)<f8", "readings": "(16,)<i4", "low": "(16,)<i4", "newest": "<i4", "record_day": "<i4",
    "record_last": "<f8",
})  # fmt: skip
DAYS_INITIAL: Final[Mapping[str, int]] = MappingProxyType({"day": NO_DAY, "newest": NO_DAY, "record_day": NO_DAY})
DAYS: Final = record_type(Days, DAYS_DTYPES, readonly=False)


@lean
def local_day(time_ns: int, tz_min: int) -> int:
    """The patient's calendar day of a time, in days since 1970-01-01; ``tz_min`` is minutes east of UTC."""
    return (time_ns + int(tz_min) * MINUTE_NS) // DAY_NS


@lean
def push_day(days: Days, s: int, time_ns: int, tz_min: int, value: float, share_limit: float) -> bool:
    """Let a valid value into its day; whether it was let in (a day before the last 16 is not).

    ``low`` counts values under ``share_limit`` (NaN: none); counts of before keep the limit they were made with.
    """
    day = local_day(time_ns, tz_min)
    newest = int(days.newest[s])
    if day <= newest - RING_DAYS:
        return False
    if day > newest:
        days.newest[s] = day
    place = day % RING_DAYS
    if days.day[s, place] != day:
        days.day[s, place] = day
        days.first_ns[s, place] = time_ns
        days.first[s, place] = value
        days.last_ns[s, place] = time_ns
        days.last[s, place] = value
        days.total[s, place] = 0.0
        days.readings[s, place] = 0
        days.low[s, place] = 0
    if time_ns < days.first_ns[s, place]:
        days.first_ns[s, place] = time_ns
        days.first[s, place] = value
    if time_ns >= days.last_ns[s, place]:
        days.last_ns[s, place] = time_ns
        days.last[s, place] = value
    days.total[s, place] += value
    days.readings[s, place] += 1
    if value < share_limit:
        days.low[s, place] += 1
    if days.record_day[s] == NO_DAY or day <= days.record_day[s]:
        days.record_day[s] = day
        days.record_last[s] = days.last[s, place]
    return True


@lean
def _has(days: Days, s: int, day: int) -> bool:
    return bool(days.day[s, day % RING_DAYS] == day)


@lean
def _has_morning(days: Days, s: int, day: int, time_ns: int, hours: float) -> bool:
    """Whether a day has a first reading, not more than ``hours`` of the clock from that of ``time_ns`` (0: any)."""
    if not _has(days, s, day):
        return False
    apart = (time_ns - days.first_ns[s, day % RING_DAYS]) % DAY_NS
    return bool(hours <= 0.0 or min(apart, DAY_NS - apart) <= hours * HOUR_NS)


@lean
def _change(days: Days, s: int, n: int, hours: float, today: int, time_ns: int, value: float) -> tuple[int, float]:
    """``value`` minus the morning (first reading) of ``n`` days before, or of the nearest day, one day off at most.

    A morning that was mistyped must not raise: the three mornings nearest to that day, two days off at most, say how
    much of the change is real. Where their median (of two: the one nearer to ``value``) knows less than half of the
    change, its own is taken instead (clinical.md 4.2, baseline = median of three mornings).
    """
    change, low, middle, found = 0.0, 0.0, 0.0, 0
    for step in range(5):
        # In the order n, n - 1, n + 1, n - 2, n + 2.
        back = n + (step + 1) // 2 * (1 if step % 2 == 0 else -1)
        if back < 1 or found == 3 or not _has_morning(days, s, today - back, time_ns, hours):
            continue
        other = value - days.first[s, (today - back) % RING_DAYS]
        found += 1
        if found == 1:
            if step > 2:
                return 0, 0.0
            change = low = middle = other
        elif found == 2:
            low, middle = min(low, other), max(low, other)
        else:
            middle = max(low, min(middle, other))
    if found == 0:
        return 0, 0.0
    if found == 2 and abs(low) < abs(middle):
        middle = low
    if 2.0 * abs(middle) < abs(change):
        change = middle
    # Scales tell decimals: 81.36 - 80.0 is 1.36.
    return 1, float(np.rint(change * _DECIMALS) / _DECIMALS)


@lean
def _mean(days: Days, s: int, n: int, readings: float, on_days: float, today: int) -> tuple[int, float]:
    """Mean of the readings of the last ``n`` days, today among them, but for the first day that has some (4.3)."""
    total, count, found = 0.0, 0, 0
    for day in range(today - n + 1, today + 1):
        if _has(days, s, day):
            found += 1
            if found > 1:
                total += days.total[s, day % RING_DAYS]
                count += int(days.readings[s, day % RING_DAYS])
    if count == 0 or count < readings or found - 1 < on_days:
        return 0, 0.0
    return 1, total / count


@lean
def _below_mean_sd(days: Days, s: int, n: int, least: float, today: int, value: float) -> tuple[int, float]:
    """SDs between ``value`` and the mean of the ``n`` days before; SD of daily means, ``least`` or more (4.4 P4)."""
    total, found = 0.0, 0
    for day in range(today - n, today):
        if _has(days, s, day):
            total += days.total[s, day % RING_DAYS] / days.readings[s, day % RING_DAYS]
            found += 1
    if found < LEAST_DAYS:
        return 0, 0.0
    mean, squares = total / found, 0.0
    for day in range(today - n, today):
        if _has(days, s, day):
            error = days.total[s, day % RING_DAYS] / days.readings[s, day % RING_DAYS] - mean
            squares += error * error
    deviation = max(np.sqrt(squares / (found - 1)), least)
    if deviation <= 0.0:
        return 0, 0.0
    return 1, float((value - mean) / deviation)


@lean
def _fraction(days: Days, s: int, today: int) -> tuple[int, float]:
    """Yesterday's last value over that of the first day on record (4.6 S8)."""
    record = float(days.record_last[s])
    if not _has(days, s, today - 1) or record <= 0.0:
        return 0, 0.0
    return 1, float(days.last[s, (today - 1) % RING_DAYS] / record)


@lean
def _share_below(days: Days, s: int, n: int, readings: float, today: int) -> tuple[int, float]:
    """Percent of the readings of the last ``n`` days, today among them, under the share limit (4.1 D6)."""
    low, count = 0, 0
    for day in range(today - n + 1, today + 1):
        if _has(days, s, day):
            low += int(days.low[s, day % RING_DAYS])
            count += int(days.readings[s, day % RING_DAYS])
    if count == 0 or count < readings:
        return 0, 0.0
    return 1, 100.0 * low / count


@lean
def trend(
    days: Days, s: int, op: int, window_ns: int, a: float, b: float, time_ns: int, tz_min: int, value: float
) -> tuple[int, float]:
    """What a TREND rule measures at a reading: (1, measured), or (0, 0.0) when the days do not suffice.

    ``window_ns`` is n whole days (1 to 14). MEAN and SHARE_BELOW count today's readings: push first, then ask.

    ===============  ============================  ==========================================
    op               a                             b
    ===============  ============================  ==========================================
    CHANGE           hours of the clock that the   unused
                     readings may be apart, 0 any
    MEAN             least readings                least days
    BELOW_MEAN_SD    least SD (device noise)       unused
    FRACTION         unused                        unused
    SHARE_BELOW      unused (limit: push_day)      least readings
    ===============  ============================  ==========================================
    """
    today, n = local_day(time_ns, tz_min), window_ns // DAY_NS
    if op == _CHANGE:
        return _change(days, s, n, a, today, time_ns, value)
    if op == _MEAN:
        return _mean(days, s, n, a, b, today)
    if op == _BELOW_MEAN_SD:
        return _below_mean_sd(days, s, n, a, today, value)
    if op == _FRACTION:
        return _fraction(days, s, today)
    return _share_below(days, s, n, b, today)
