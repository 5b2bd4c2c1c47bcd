"""Times of payloads to int64 nanoseconds: one reader for all adapters.

``parse_time`` takes RFC 3339 and what devices, phones and people write for it: offsets without a colon or minutes,
missing seconds, 12-hour times, narrow spaces. A text that can be read in two ways is refused: ``01/02/2024`` is no
time. ``parse_epoch`` takes epoch milliseconds as a whole number, with a fraction, or as text of digits.

Readings of a batch share minutes and zone suffixes, so both parts are memoised; texts that do not parse never are.
"""

import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from vitals.times import DAY_NS, DAY_S, MINUTE_NS, SECOND_NS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _year_ns(year: int) -> int:
    return (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH).days * DAY_NS


EARLIEST_NS: Final = _year_ns(1678)
LATEST_NS: Final = _year_ns(2262) - 1
"""Whole years inside int64, so that any zone's offset can still be added without overflow."""

_MINUTE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)", re.ASCII)
_SUFFIX: Final = re.compile(r"(?:\.(\d+))?(?:([Zz])|([+-])([01]\d|2[0-3]):([0-5]\d))?", re.ASCII)
_SECONDS: Final = {f":{second:02}": second * SECOND_NS for second in range(60)}


@lru_cache(maxsize=4096)
def _minute_ns(text: str) -> int:
    match = _MINUTE.fullmatch(text)
    if match is None:
        raise ValueError("not a date and minute")
    year, month, day, hour, minute = map(int, match.groups())
    since = datetime(year, month, day, hour, minute, tzinfo=UTC) - _EPOCH
    return (since.days * DAY_S + since.seconds) * SECOND_NS


@lru_cache(maxsize=4096)
def _suffix(text: str) -> tuple[int, int | None]:
    match = _SUFFIX.fullmatch(text)
    if match is None:
        raise ValueError("not a fraction and offset")
    fraction, utc, sign, hours, minutes = match.groups()
    fraction_ns = int(fraction[:9].ljust(9, "0")) if fraction else 0
    if utc:
        return fraction_ns, 0
    if sign is None:
        return fraction_ns, None
    offset = int(hours) * 60 + int(minutes)
    return fraction_ns, -offset if sign == "-" else offset


def parse_rfc3339(text: str) -> tuple[int, int | None]:
    """Nanoseconds since the epoch and the offset in minutes; without an offset the wall time read as UTC, and None.

    Digits after the ninth decimal are cut off. A leap second (``:60``) is refused: no instant of the epoch has it.
    Worked: ``2024-03-10T08:15:30+01:00`` gives (1710054930000000000, 60).

    Raises:
        ValueError: not RFC 3339, no such day, or outside the years 1678 to 2261.
    """
    second_ns = _SECONDS.get(text[16:19])
    if second_ns is None:
        raise ValueError("not a second")
    fraction_ns, offset = _suffix(text[19:])
    time_ns = _minute_ns(text[:16]) + second_ns + fraction_ns
    if offset:
        time_ns -= offset * MINUTE_NS
    if EARLIEST_NS <= time_ns <= LATEST_NS:
        return time_ns, offset
    raise ValueError("outside the years 1678 to 2261")


_WRITTEN: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt]| +)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"(?: *([AaPp])\.?[Mm]\.?)?(?: *([Zz]|[Uu][Tt][Cc]|[Gg][Mm][Tt])| *([+-]\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u202f", " ") | {"\u2212": "-"})
_NOON: Final = 12


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """``text`` as RFC 3339 writes it, the offset to the minute; raises ``ValueError`` for no time."""
    found = _WRITTEN.fullmatch(text.translate(_SPACES).strip())
    if found is None:
        raise ValueError("not a time")
    day, hour_text, minute, second, fraction, half, utc, zone_hour, zone_minute, zone_second = found.groups()
    hour = int(hour_text)
    if half is not None:
        if not 1 <= hour <= _NOON:
            raise ValueError("not an hour of twelve")
        hour = hour % _NOON + (_NOON if half in "pP" else 0)
    elif len(hour_text) == 1:
        raise ValueError("not an hour")
    offset = "Z" if utc else ""
    if zone_hour:
        # Offsets such as -06:59:58 occur (device-formats.md 5.1): the seconds are drift.
        minutes = round(int(zone_hour[1:]) * 60 + int(zone_minute or 0) + int(zone_second or 0) / 60)
        if int(zone_minute or 0) > 59 or int(zone_second or 0) > 59:
            raise ValueError("not an offset")
        offset = f"{zone_hour[0]}{minutes // 60:02}:{minutes % 60:02}"
    return f"{day}T{hour:02}:{minute}:{second or '00'}{f'.{fraction}' if fraction else ''}{offset}"


def parse_time(text: str) -> tuple[int, int | None]:
    """Nanoseconds since the epoch and the offset in minutes, as :func:`parse_rfc3339`, of a time as it is written.

    Worked: ``2024-09-21 7:57:00 am +1000`` is 2024-09-20T21:57:00Z, 600.

    Raises:
        ValueError: not a time, no such day, or outside the years 1678 to 2261.
    """
    try:
        return parse_rfc3339(text)
    except ValueError:
        return parse_rfc3339(_plain(text))


_OFFSET: Final = re.compile(r"([+-])(\d\d):?([0-5]\d)|([+-]?\d{1,2}(?:\.\d{1,2})?)", re.ASCII)
_LARGEST_OFFSET_MIN: Final = 14 * 60


def parse_offset(sent: float | str) -> int | None:
    """Minutes east of UTC of ``"-0800"``, ``-8`` or ``"-8"`` hours; None for an empty text.

    Raises:
        ValueError: not an offset, or more than 14 hours.
    """
    if sent == "":
        return None
    if isinstance(sent, str):
        found = _OFFSET.fullmatch(sent)
        if found is None:
            raise ValueError("not an offset")
        sent = float(found[4]) if found[4] else float(f"{found[1]}1") * (int(found[2]) + int(found[3]) / 60)
    if not abs(sent) * 60 <= _LARGEST_OFFSET_MIN:
        raise ValueError("more than 14 hours")
    return round(sent * 60)


_DIGITS: Final = re.compile(r"-?\d{9,16}(?:\.\d{1,9})?", re.ASCII)


def parse_epoch(sent: int | float | str) -> int:
    """Nanoseconds of epoch milliseconds: a number, with a fraction or without, or its digits as text.

    Raises:
        ValueError: text that is not digits alone, NaN, or outside the years 1678 to 2261.
    """
    if isinstance(sent, str):
        if not _DIGITS.fullmatch(sent):
            raise ValueError("not digits")
        whole, _, fraction = sent.partition(".")
        part_ns = int(fraction[:6].ljust(6, "0")) if fraction else 0
        return from_milliseconds(int(whole)) + (-part_ns if sent[0] == "-" else part_ns)
    if isinstance(sent, int):
        return from_milliseconds(sent)
    if not math.isfinite(sent):
        raise ValueError("not a number")
    milliseconds = math.floor(sent)
    # A float of this size has no more than a few digits behind the point: the rest is noise of its binary form.
    return from_milliseconds(milliseconds) + round((sent - milliseconds) * 1_000) * 1_000


def from_milliseconds(milliseconds: int) -> int:
    """Nanoseconds of epoch milliseconds; raises ``ValueError`` outside the years 1678 to 2261."""
    time_ns = milliseconds * 1_000_000
    if EARLIEST_NS <= time_ns <= LATEST_NS:
        return time_ns
    raise ValueError("outside the years 1678 to 2261")
