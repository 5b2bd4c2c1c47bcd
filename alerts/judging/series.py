"""Quantities that rules derive from readings of one (patient, vital): slopes, medians, stuck values, usual values.

Three independent tables of series, each a :class:`Table`: :class:`Recent` (the last minutes), :class:`Usual` (what is
usual at this hour of the patient's day) and :class:`alerts.judging.days.Days`
(the last 16 days). A series is a row of all
columns; which (patient, vital) it stands for is the caller's business. The functions are compiled into the kernels that
call them, and run as Python with ``NUMBA_DISABLE_JIT=1``; they allocate nothing. Values are finite and canonical:
readings without a value (beyond the sensor's range) are not passed. Measures come as ``(ok, measured)``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from alerts.judging.baseline import CLIP, MEAN_TO_SIGMA, USABLE_DAYS
from alerts.judging.compiling import lean, record_type
from alerts.judging.days import DAYS_DTYPES, DAYS_INITIAL, NO_DAY, Days
from alerts.rules.spec import Op
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

Array = npt.NDArray[Any]

LAST_POINTS: Final = 9
"""The last values, for medians: as many as a median may take."""
SLOPE_POINTS: Final = 27
SPACING_NS: Final = 48_000_000_000
"""Points for slopes are so far apart, but for the newest: 27 of them reach 20 minutes back at any rate."""
LEAST_POINTS: Final = 3
FORECAST_POINTS: Final = 4
"""Three points make a slope, but a forecast carries their noise twenty minutes ahead: it takes one more."""
GAP_NS: Final = 10 * MINUTE_NS
"""A slope bridges no longer gap (clinical.md 3.2), nor does a value that never changes."""
MEDIAN_AGE_NS: Final = 5 * MINUTE_NS
"""Values older than this before the newest are in no median (clinical.md 2.3)."""
STUCK_POINTS: Final = 10
"""Equal values from which a series may be stuck."""

BUCKETS: Final = 25
"""24 hours of the day, then the whole day."""
WHOLE_DAY: Final = 24
FADE_DAYS: Final = 7
"""A new day is so great a part of what is usual: its days are 7 days old in the mean, as those of 14 days are."""
MEMORY_DAYS: Final = 14
"""What was not confirmed for so many days is not usual any more (clinical.md 6.1)."""
_CLIP_DAYS: Final = 5
"""Days from which values far out are clipped: a spread of fewer days is not known well enough."""
_NO_POINT: Final = -(2**62)
"""The time of a point that was not: before any window."""
_MAD_PER_SIGMA: Final = 0.6745
_DIFFERENCE: Final = int(Op.DIFFERENCE)
_RATIO: Final = int(Op.RATIO)

_FIRST_SERIES: Final = 64
State = TypeVar("State", bound=tuple[Any, ...])


class Recent(NamedTuple):
    """The last minutes of a series. ``last_*`` (series x 9) are the last ``last_count`` points as they came, the newest
    first; ``slope_*`` (series x 27) is a ring of points that reach further back, the newest at ``slope_place``.
    ``since_ns`` is the time of the first of the last ``repeats`` points, which have the same value."""

    last_ns: Array
    last_value: Array
    last_count: Array
    slope_ns: Array
    slope_value: Array
    slope_place: Array
    since_ns: Array
    repeats: Array


class Usual(NamedTuple):
    """What is usual, series x 25 buckets: ``center`` and ``spread`` (mean absolute deviation) of the ``days`` (at most
    14 are counted) before ``day``, the newest day of the bucket (NO_DAY: none); ``error`` and ``size`` are the sums of
    the deviations of its ``learned`` values from ``center`` and of their sizes, clipped."""

    center: Array
    spread: Array
    error: Array
    size: Array
    learned: Array
    day: Array
    days: Array


RECENT_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "last_ns": "(9,)<i8", "last_value": "(9,)<f8", "last_count": "<i1",
    "slope_ns": "(27,)<i8", "slope_value": "(27,)<f8", "slope_place": "<i1",
    "since_ns": "<i8", "repeats": "<i4",
})  # fmt: skip
RECENT_INITIAL: Final[Mapping[str, int]] = MappingProxyType({"slope_ns": _NO_POINT})
USUAL_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "center": "(25,)<f4", "spread": "(25,)<f4", "error": "(25,)<f4", "size": "(25,)<f4", "learned": "(25,)<i4",
    "day": "(25,)<i4", "days": "(25,)<i1",
})  # fmt: skip
USUAL_INITIAL: Final[Mapping[str, int]] = MappingProxyType({"day": NO_DAY})
RECENT: Final = record_type(Recent, RECENT_DTYPES, readonly=False)
USUAL: Final = record_type(Usual, USUAL_DTYPES, readonly=False)


@lean
def push_recent(recent: Recent, s: int, time_ns: int, value: float) -> bool:
    """Take the newest point of a series; whether it was taken: one that is not newer than the last is not.

    Every point is among the last nine. For slopes the newest point gives way to the next one unless it is
    ``SPACING_NS`` or more after the point before it.
    """
    row = np.uintp(s)
    times, values, known = recent.last_ns, recent.last_value, int(recent.last_count[row])
    before_ns = times[row, 0]
    if known > 0 and time_ns <= before_ns:
        return False
    if known > 0 and value == values[row, 0] and time_ns - before_ns <= GAP_NS:
        recent.repeats[row] += 1
    else:
        recent.since_ns[row], recent.repeats[row] = time_ns, 1
    for place in range(min(known, LAST_POINTS - 1), 0, -1):
        times[row, place], values[row, place] = times[row, place - 1], values[row, place - 1]
    times[row, 0], values[row, 0] = time_ns, value
    recent.last_count[row] = min(known + 1, LAST_POINTS)
    place = int(recent.slope_place[row])
    previous = place - 1 if place > 0 else SLOPE_POINTS - 1
    if recent.slope_ns[row, place] - recent.slope_ns[row, previous] >= SPACING_NS:
        place = place + 1 if place + 1 < SLOPE_POINTS else 0
        recent.slope_place[row] = place
    recent.slope_ns[row, place], recent.slope_value[row, place] = time_ns, value
    return True


@lean
def insert_recent(recent: Recent, s: int, time_ns: int, value: float) -> None:
    """Put a point that others have overtaken among the last nine, where it belongs by its time; for medians only. One
    that is there already is not put in again."""
    row = np.uintp(s)
    times, values, known = recent.last_ns, recent.last_value, int(recent.last_count[row])
    place = 0
    while place < known and times[row, place] > time_ns:
        place += 1
    other = place
    while other < known and times[row, other] == time_ns:
        if values[row, other] == value:
            return
        other += 1
    if place >= LAST_POINTS:
        return
    for later in range(min(known, LAST_POINTS - 1), place, -1):
        times[row, later], values[row, later] = times[row, later - 1], values[row, later - 1]
    times[row, place], values[row, place] = time_ns, value
    recent.last_count[row] = min(known + 1, LAST_POINTS)


@lean
def median_recent(recent: Recent, s: int, n: int) -> float:
    """Median of the last ``n`` values (1 to 9) of a series that has one, or of fewer: those of the last 5 minutes."""
    row = np.uintp(s)
    times, values = recent.last_ns, recent.last_value
    count, oldest_ns, used = min(n, int(recent.last_count[row])), times[row, 0] - MEDIAN_AGE_NS, 1
    while used < count and times[row, used] >= oldest_ns:
        used += 1
    # The k-th of them is the value that not more than k are smaller than, and more than k not greater than.
    lower, upper = 0.0, 0.0
    for i in range(used):
        value, smaller, not_greater = values[row, i], 0, 0
        for j in range(used):
            smaller += values[row, j] < value
            not_greater += values[row, j] <= value
        if smaller <= (used - 1) // 2 < not_greater:
            lower = value
        if smaller <= used // 2 < not_greater:
            upper = value
    return float((lower + upper) / 2.0)


@lean
def unchanged_minutes(recent: Recent, s: int, time_ns: int) -> float:
    """For how long, up to ``time_ns``, the value has not changed at all; 0 for fewer than 10 equal points in a row.

    A gap of more than 10 minutes begins anew: a patient who measures 36.6 degC each morning has no stuck sensor.
    """
    if recent.repeats[s] < STUCK_POINTS:
        return 0.0
    return float(max(time_ns - recent.since_ns[s], 0) / MINUTE_NS)


@lean
def slope(recent: Recent, s: int, window_ns: int) -> tuple[int, float]:
    """Least-squares slope per minute over the points of the ``window_ns`` (20 minutes at most) before the newest.

    Not computable with fewer than 3 points, with a gap of more than 10 minutes between two of them, or when they span
    less than half of the window (clinical.md 3.2).
    """
    return _slope(recent, s, window_ns, LEAST_POINTS)


@lean
def _slope(recent: Recent, s: int, window_ns: int, least: int) -> tuple[int, float]:
    """The slope over ``least`` points or more."""
    row = np.uintp(s)
    times, values = recent.slope_ns, recent.slope_value
    place = int(recent.slope_place[row])
    newest_ns, newest_value = times[row, place], values[row, place]
    after_ns, used = newest_ns, 0
    x_sum, y_sum, xx_sum, xy_sum = 0.0, 0.0, 0.0, 0.0
    for _ in range(SLOPE_POINTS):
        point_ns = times[row, place]
        if newest_ns - point_ns > window_ns:
            break
        if after_ns - point_ns > GAP_NS:
            return 0, 0.0
        x, y = (point_ns - newest_ns) / MINUTE_NS, values[row, place] - newest_value
        x_sum += x
        y_sum += y
        xx_sum += x * x
        xy_sum += x * y
        after_ns = point_ns
        used += 1
        place = place - 1 if place > 0 else SLOPE_POINTS - 1
    if used < least or newest_ns - after_ns < window_ns // 2:
        return 0, 0.0
    return 1, float((used * xy_sum - x_sum * y_sum) / (used * xx_sum - x_sum * x_sum))


@lean
def forecast(
    recent: Recent, s: int, window_ns: int, minutes: float, value: float, limit: float, bound: float,
    slope_bound: float, low: bool,
) -> tuple[int, float]:  # fmt: skip
    """The value ``minutes`` ahead on the line of :func:`slope` (clinical.md 3.5), from 4 points or more.

    1 with the forecast that may raise: ``value`` (the newest) is between ``limit`` and ``bound``, and moves towards the
    limit (down when ``low``, else up) faster than ``slope_bound`` per minute; 0 with one that may only clear; -1 with
    ``value`` when not computable.
    """
    ok, per_minute = _slope(recent, s, window_ns, FORECAST_POINTS)
    if ok == 0:
        return -1, value
    if low:
        may_raise = limit < value < bound and per_minute < slope_bound
    else:
        may_raise = bound < value < limit and per_minute > slope_bound
    return 1 if may_raise else 0, value + minutes * per_minute


@lean
def _settled(usual: Usual, s: int, bucket: int, today: int) -> tuple[int, float, float]:
    """Days, centre and spread of a bucket as the days before ``today`` left them; 0 days when there is nothing."""
    row, part = np.uintp(s), np.uintp(bucket)
    day = int(usual.day[row, part])
    if today - day > MEMORY_DAYS:
        return 0, 0.0, 0.0
    days, center, spread = int(usual.days[row, part]), float(usual.center[row, part]), float(usual.spread[row, part])
    if day < today:
        days = min(days + 1, MEMORY_DAYS)
        gain, count = 1.0 / min(days, FADE_DAYS), int(usual.learned[row, part])
        center += gain * (float(usual.error[row, part]) / count)
        spread += gain * (float(usual.size[row, part]) / count - spread)
    return days, center, spread


@lean
def _learn(usual: Usual, s: int, bucket: int, day: int, value: float) -> None:
    row, part = np.uintp(s), np.uintp(bucket)
    if day > usual.day[row, part]:
        days, center, spread = _settled(usual, s, bucket, day)
        usual.days[row, part] = days
        usual.center[row, part] = center if days > 0 else value
        usual.spread[row, part] = spread
        usual.day[row, part] = day
        usual.learned[row, part] = 0
        usual.error[row, part] = 0.0
        usual.size[row, part] = 0.0
    elif day < usual.day[row, part]:
        return
    error = value - float(usual.center[row, part])
    edge = CLIP * MEAN_TO_SIGMA * float(usual.spread[row, part])
    if usual.days[row, part] >= _CLIP_DAYS and edge > 0.0:
        error = min(max(error, -edge), edge)
    usual.learned[row, part] += 1
    usual.error[row, part] = float(usual.error[row, part]) + error
    usual.size[row, part] = float(usual.size[row, part]) + abs(error)


@lean
def learn_usual(usual: Usual, s: int, time_ns: int, tz_min: int, value: float) -> None:
    """Learn a valid value that alarms nothing, at its hour of the patient's day and for the whole day.

    Each day has the same weight, however many values it has: the mean of its deviations, clipped (robust as
    :mod:`alerts.judging.baseline` is), is folded in when the next day begins, as a seventh (of the first days: its
    share). So the memory is that of 14 days at any rate, and a day is not judged by itself. Values of days before are
    ignored.
    """
    local_ns = time_ns + int(tz_min) * MINUTE_NS
    day = local_ns // DAY_NS
    _learn(usual, s, (local_ns - day * DAY_NS) // HOUR_NS, day, value)
    _learn(usual, s, WHOLE_DAY, day, value)


@lean
def deviation(
    usual: Usual, s: int, op: int, floor: float, time_ns: int, tz_min: int, value: float
) -> tuple[int, float]:
    """What a DEVIATION rule measures: ``value`` against what is usual at this hour (clinical.md 6.1).

    The hour judges when it was seen on 7 of the days before within memory; else the whole day on the same terms; else
    (0, 0.0). ROBUST_Z is ``0.6745 * (value - center) / MAD``; the MAD follows from the mean absolute deviation as for
    Gaussian values, and is ``floor`` (device noise) or more.
    """
    local_ns = time_ns + int(tz_min) * MINUTE_NS
    today = local_ns // DAY_NS
    days, center, spread = _settled(usual, s, (local_ns - today * DAY_NS) // HOUR_NS, today)
    if days < USABLE_DAYS:
        days, center, spread = _settled(usual, s, WHOLE_DAY, today)
    if days < USABLE_DAYS:
        return 0, 0.0
    if op == _DIFFERENCE:
        return 1, value - center
    if op == _RATIO:
        return (1, value / center) if center > 0.0 else (0, 0.0)
    mad = max(_MAD_PER_SIGMA * MEAN_TO_SIGMA * spread, floor)
    return (1, _MAD_PER_SIGMA * (value - center) / mad) if mad > 0.0 else (0, 0.0)


class Table(Generic[State]):
    """Series of one kind as arrays that grow. ``state`` is what the kernels take, anew after each :meth:`add`; its
    first ``size`` rows are in use."""

    def __init__(self, record: type[State], dtypes: Mapping[str, str], initial: Mapping[str, int]) -> None:
        self.size = 0
        self._record, self._dtypes, self._initial = record, dtypes, initial
        self.state = self._room(_FIRST_SERIES)

    def _room(self, rows: int) -> State:
        """Rows of series that know nothing."""
        columns = {name: np.full(rows, self._initial.get(name, 0), dtype) for name, dtype in self._dtypes.items()}
        return self._record(**columns)

    def add(self, count: int = 1) -> int:
        """``count`` new series that know nothing; the row of the first."""
        room = len(self.state[0])
        if self.size + count > room:
            self._fill(self._room(max(2 * room, self.size + count)), self.state)
        self.size += count
        return self.size - count

    def _fill(self, room: State, columns: tuple[Array, ...]) -> None:
        for target, source in zip(room, columns, strict=True):
            target[: len(source)] = source
        self.state = room

    def dump(self) -> dict[str, bytes]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = zip(self._dtypes, self.state, strict=True)
        return {name: column[: self.size].tobytes() for name, column in columns}

    def load(self, stored: Mapping[str, bytes]) -> None:
        """Become what was dumped. Raises ``KeyError`` or ``ValueError`` when ``stored`` is not that."""
        columns = tuple(
            np.frombuffer(stored[name], np.dtype(dtype).base).reshape(-1, *np.dtype(dtype).shape)
            for name, dtype in self._dtypes.items()
        )
        if len({len(column) for column in columns}) != 1:
            raise ValueError("columns differ in length")
        self.size = len(columns[0])
        self._fill(self._room(max(self.size, _FIRST_SERIES)), columns)


def recent_table() -> Table[Recent]:
    """No series of recent points yet."""
    return Table(Recent, RECENT_DTYPES, RECENT_INITIAL)


def usual_table() -> Table[Usual]:
    """No series of usual values yet."""
    return Table(Usual, USUAL_DTYPES, USUAL_INITIAL)


def days_table() -> Table[Days]:
    """No series of days yet."""
    return Table(Days, DAYS_DTYPES, DAYS_INITIAL)
