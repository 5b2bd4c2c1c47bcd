"""Lengths of time as integers: the one home of seconds, minutes, hours and days."""

from typing import Final

MILLISECOND_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
