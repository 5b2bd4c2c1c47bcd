"""Time frames of Open mHealth bodies (device-formats.md 3.2)."""

import re
from typing import Any, Final, NamedTuple

from ingest.adapter import SourceClock
from ingest.adapters.omh.schemas import CALENDAR, DURATION_NS, NO_LENGTH, PARTS_OF_DAY, SchemaRules
from ingest.adapters.reading.json_document import instant, members, number, one_of, required, text
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.times import MINUTE_NS, NO_TIME

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK_SUSPECT: Final = int(Flag.CLOCK_SUSPECT)
_ABSENT: Final = object()


class Notes:
    """What is found beside values and times: a reading's context, the numbers of members unknown and left out, and what
    is wrong with a value that the others do without."""

    __slots__ = ("context", "left_out", "problem", "unknown")

    def __init__(self) -> None:
        self.context: dict[str, Any] = {}
        self.unknown = 0
        self.left_out = 0
        self.problem: DecodeError | None = None


class When(NamedTuple):
    """When a value was measured; ``shape`` tells apart intervals that begin together."""

    clock: SourceClock
    source_ns: int
    ended_ns: int = NO_TIME
    tz_min: int = 0
    flags: int = 0
    shape: int = 0


def _point(time: tuple[int, int | None], is_utc: bool, notes: Notes) -> When:
    time_ns, offset = time
    if offset is None:
        if not is_utc:
            return When(SourceClock.WALL, time_ns)
        notes.context["zone_assumed"] = True
        return When(SourceClock.INSTANT, time_ns)
    return When(SourceClock.INSTANT, time_ns, tz_min=offset)


def _duration(value: Any, path: str, notes: Notes) -> tuple[int, bool]:
    """Nanoseconds, and whether they are more than a name for the duration."""
    pair = members(value, path)
    notes.unknown += len(pair) - 2
    amount = number(required(pair, "value", path), f"{path}.value")
    unit = text(required(pair, "unit", path), f"{path}.unit")
    if unit not in DURATION_NS:
        raise DecodeError(Reason.UNKNOWN_UNIT, f"{path}.unit")
    length = amount * DURATION_NS[unit]
    if not abs(length) < LATEST_NS - EARLIEST_NS:
        raise DecodeError(Reason.BAD_VALUE, f"{path}.value")
    if unit in CALENDAR:
        notes.context["duration"] = f"{amount:.15g} {unit}"
    return round(length), unit not in NO_LENGTH


def _day(interval: dict[str, Any], path: str, notes: Notes) -> When:
    day = text(interval["date"], f"{path}.date")
    part = one_of(interval["part_of_day"], f"{path}.part_of_day", PARTS_OF_DAY)
    if not _DATE.fullmatch(day):
        raise DecodeError(Reason.BAD_TIME, f"{path}.date")
    midnight_ns, _ = instant(f"{day}T00:00:00Z", f"{path}.date")
    notes.context["part_of_day"] = part
    return When(SourceClock.DAY, midnight_ns, shape=1 + PARTS_OF_DAY.index(part))


def _spanned(start: When, length_ns: int, path: str) -> When:
    """``start`` with its end; an interval that ends before it starts has a clock at fault."""
    ended_ns = start.source_ns + length_ns
    if not (EARLIEST_NS <= start.source_ns <= LATEST_NS and EARLIEST_NS <= ended_ns <= LATEST_NS):
        raise DecodeError(Reason.BAD_TIME, path)
    if length_ns == 0:
        return start
    flags = _CLOCK_SUSPECT if length_ns < 0 else 0
    return start._replace(ended_ns=ended_ns, flags=flags, shape=abs(length_ns) // 1_000 * 8)


def _start_and_end(interval: dict[str, Any], path: str, is_utc: bool, notes: Notes) -> When:
    start = instant(interval["start_date_time"], f"{path}.start_date_time")
    end = instant(interval["end_date_time"], f"{path}.end_date_time")
    if (start[1] is None) != (end[1] is None):
        # Both ends are of one clock, so that the offset of one is that of the other.
        offset = end[1] if start[1] is None else start[1]
        start, end = (
            (time_ns - (offset or 0) * MINUTE_NS, offset) if own is None else (time_ns, own)
            for time_ns, own in (start, end)
        )
        notes.context["zone_assumed"] = True
    when = _point(start, is_utc, notes)
    return _spanned(when, end[0] - start[0], path)


def _interval(value: Any, path: str, rules: SchemaRules, is_utc: bool, notes: Notes) -> When:
    interval = members(value, path)
    notes.unknown += len(interval) - 2
    has_start, has_end = "start_date_time" in interval, "end_date_time" in interval
    has_duration = "duration" in interval
    given = has_start + has_end + has_duration
    if "date" in interval and "part_of_day" in interval:
        if given:
            raise DecodeError(Reason.BAD_TIME, f"{path}: a day beside a time")
        if rules.parts_of_day:
            return _day(interval, path, notes)
        raise DecodeError(Reason.BAD_TIME, f"{path}: IEEE 1752.1 has no part_of_day")
    if not given:
        for name, other in (("date", "part_of_day"), ("part_of_day", "date")):
            if name in interval:
                raise DecodeError(Reason.MISSING_FIELD, f"{path}.{other}")
    if given < 2:
        raise DecodeError(Reason.MISSING_FIELD, f"{path}: no two of start_date_time, end_date_time, duration")
    if given > 2:
        raise DecodeError(Reason.BAD_TIME, f"{path}: start_date_time, end_date_time and duration")
    if not has_duration:
        return _start_and_end(interval, path, is_utc, notes)
    length_ns, has_length = _duration(interval["duration"], f"{path}.duration", notes)
    name = "start_date_time" if has_start else "end_date_time"
    when = _point(instant(interval[name], f"{path}.{name}"), is_utc, notes)
    if not has_length:
        # The other end is a matter of the calendar: only the given one is known.
        ended_ns = NO_TIME if has_start else when.source_ns
        return when._replace(ended_ns=ended_ns, shape=abs(length_ns) // 1_000 * 8)
    if has_start:
        return _spanned(when, length_ns, path)
    return _spanned(when._replace(source_ns=when.source_ns - length_ns), length_ns, path)


def read(body: dict[str, Any], path: str, rules: SchemaRules, is_utc: bool, notes: Notes) -> When | None:
    """When the body's values were measured, None when it does not say."""
    path = f"{path}effective_time_frame"
    value = body.get("effective_time_frame", _ABSENT)
    if value is _ABSENT:
        if rules.time_required:
            raise DecodeError(Reason.MISSING_FIELD, path)
        return None
    frame = members(value, path)
    notes.unknown += len(frame) - 1
    interval = frame.get("time_interval", _ABSENT)
    if "date_time" in frame:
        if interval is not _ABSENT:
            raise DecodeError(Reason.BAD_TIME, f"{path}: date_time and time_interval")
        if rules.interval_only:
            raise DecodeError(Reason.MISSING_FIELD, f"{path}.time_interval")
        return _point(instant(frame["date_time"], f"{path}.date_time"), is_utc, notes)
    if interval is _ABSENT:
        raise DecodeError(Reason.MISSING_FIELD, f"{path}: neither date_time nor time_interval")
    return _interval(interval, f"{path}.time_interval", rules, is_utc, notes)
