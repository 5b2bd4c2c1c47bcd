"""Lengths of time as integers: the one home of seconds, minutes, hours and days; and instants as RFC 3339 text."""

from datetime import UTC, datetime, timedelta
from typing import Final, overload

NO_TIME: Final = -(2**63)
"""An absent time."""

MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def rfc3339(time_ns: int) -> str: ...
@overload
def rfc3339(time_ns: int | None) -> str | None: ...
def rfc3339(time_ns: int | None) -> str | None:
    """``1_700_000_000_500_000_000`` is ``2023-11-14T22:13:20.500Z``; None for None and ``NO_TIME``."""
    if time_ns is None or time_ns == NO_TIME:
        return None
    seconds, nanoseconds = divmod(time_ns, SECOND_NS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if nanoseconds:
        fraction = f"{nanoseconds:09d}"
        while fraction.endswith("000"):
            fraction = fraction[:-3]
        text += f".{fraction}"
    return text + "Z"
