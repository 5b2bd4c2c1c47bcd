"""The quantity that a rule compares: a reading's value, or one derived from its series. Called by the kernels only."""

from typing import Final

import numpy as np

from alerts.judging.compiling import lean
from alerts.judging.days import Days, push_day, trend
from alerts.judging.series import Recent, Usual, deviation, forecast, median_recent, slope, unchanged_minutes
from alerts.judging.state import Rows, Rules, Slots
from alerts.judging.urgent_kernels import notice
from alerts.rules.spec import Kind, Op
from vitals.glossary import Flag
from vitals.times import MINUTE_NS

_LOW: Final = 0
_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
JUDGED: Final = _BELOW | _ABOVE
"""A value beyond the sensor's range is judged by its side, whatever its number."""
_ESTIMATED: Final = int(Flag.ESTIMATED)
_LIMIT: Final = int(Kind.LIMIT)
_RATE: Final = int(Kind.RATE)
_FORECAST: Final = int(Kind.FORECAST)
_DEVIATION: Final = int(Kind.DEVIATION)
_TREND: Final = int(Kind.TREND)
_STUCK: Final = int(Kind.STUCK)
_FAULT: Final = int(Kind.FAULT)
_SCORE: Final = int(Kind.SCORE)
_SHARE_BELOW: Final = int(Op.SHARE_BELOW)
_DAY_MIN: Final = 1440


@lean
def outside(value: float, flags: int, low: bool, limit: float, inclusive: int) -> int:
    """1 when a value is beyond ``limit``, 0 when it is not, -1 when there is nothing to compare."""
    if flags & (_BELOW if low else _ABOVE):
        return 1
    if flags & JUDGED:
        return 0
    if np.isnan(value):
        return -1
    if inclusive != 0 and value == limit:
        return 1
    return 1 if (value < limit if low else value > limit) else 0


@lean
def within(value: float, leave: float, low: bool) -> bool:
    """Whether a value is back beyond the line at which the condition may end."""
    return bool(value >= leave if low else value <= leave)


@lean
def _asleep(rules: Rules, rule: int, rows: Rows, row: int) -> bool:
    """Whether a row is of a time of the patient's day that the rule does not watch."""
    begins, ends = rules.from_min[rule], rules.to_min[rule]
    if begins == ends:
        return False
    minute = (rows.time_ns[row] // MINUTE_NS + rows.tz_min[row]) % _DAY_MIN
    within = begins <= minute < ends if begins < ends else (minute >= begins or minute < ends)
    return not within


@lean
def _derived(
    slots: Slots, slot: int, rules: Rules, rule: int, recent: Recent, usual: Usual, days: Days, rows: Rows, row: int
) -> tuple[int, float]:
    """What a sound reading makes of its series: (1 comparable, 0 may only clear, -1 nothing; the number)."""
    kind, value, time_ns, tz_min = rules.kind[rule], rows.value[row], rows.time_ns[row], rows.tz_min[row]
    window_ns, a, b, c = rules.window_ns[rule], rules.a[rule], rules.b[rule], rules.c[rule]
    if kind == _LIMIT and rules.median_of[rule] > 1:
        return 1, median_recent(recent, slots.recent[slot], rules.median_of[rule])
    if kind == _RATE:
        known, measured = slope(recent, slots.recent[slot], window_ns)
        return (1 if known else -1), measured
    if kind == _FORECAST:
        low = rules.side[rule] == _LOW
        return forecast(recent, slots.recent[slot], window_ns, a, value, rules.enter[rule], b, c, low)
    if kind == _STUCK:
        return 1, unchanged_minutes(recent, slots.recent[slot], time_ns)
    if kind == _DEVIATION:
        known, measured = deviation(usual, slots.usual[slot], rules.op[rule], a, time_ns, tz_min, value)
        return (1 if known else -1), measured
    if kind == _TREND:
        share = a if rules.op[rule] == _SHARE_BELOW else np.nan
        push_day(days, slots.days[slot], time_ns, tz_min, value, share)
        known, measured = trend(days, slots.days[slot], rules.op[rule], window_ns, a, b, time_ns, tz_min, value)
        return (1 if known else -1), measured
    return 1, value


@lean
def judge(
    slots: Slots, slot: int, rules: Rules, rule: int, recent: Recent, usual: Usual, days: Days, rows: Rows, row: int,
    sound: bool,
) -> tuple[int, float, bool]:  # fmt: skip
    """A row by a rule: (1 beyond ``enter``, 0 within, -1 nothing to say; what was compared; beyond ``leave`` too).

    ``sound`` rows have a number and no doubt about it; of others only the value itself is compared.
    """
    kind, value, flags, low = rules.kind[rule], rows.value[row], rows.flags[row], rules.side[rule] == _LOW
    if kind == _FAULT:
        return 0, 0.0, True
    known, measured = 1, value
    if kind == _LIMIT:
        notice(slots, slot, rules, rule, value, flags)
    if kind == _LIMIT or kind == _SCORE or kind == _DEVIATION:  # noqa: PLR1714, SIM109  a set is slow in the kernel
        if sound and kind != _SCORE:
            known, measured = _derived(slots, slot, rules, rule, recent, usual, days, rows, row)
        elif kind == _DEVIATION and flags & JUDGED == 0:
            known = -1
    elif not sound:
        known = -1
    else:
        known, measured = _derived(slots, slot, rules, rule, recent, usual, days, rows, row)
    if known < 0:
        return -1, measured, False
    coded = flags & JUDGED != 0
    verdict = outside(measured, flags, low, rules.enter[rule], rules.inclusive[rule])
    if verdict == 1 and (known == 0 or _asleep(rules, rule, rows, row)):
        verdict = -1
    if verdict == 0 and kind == _SCORE and flags & _ESTIMATED != 0:
        verdict = -1
    beyond = coded or within(measured, rules.leave[rule], low)
    if known == 0:
        verdict = 0 if beyond else -1
    return verdict, measured, beyond
