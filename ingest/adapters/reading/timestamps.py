"""RFC 3339 timestamps to int64 nanoseconds, strictly.

Readings of a batch share minutes and zone suffixes, so both parts are memoised; texts that do not parse never are.
"""

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


def from_milliseconds(milliseconds: int) -> int:
    """Nanoseconds of epoch milliseconds; raises ``ValueError`` outside the years 1678 to 2261."""
    time_ns = milliseconds * 1_000_000
    if EARLIEST_NS <= time_ns <= LATEST_NS:
        return time_ns
    raise ValueError("outside the years 1678 to 2261")
