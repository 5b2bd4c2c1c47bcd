"""Device time to UTC (device-formats.md 8).

The stage turns what a payload says about time into the interval of instants that it can mean. Attribution then asks
whether one person wore the device over the whole interval. Nothing here guesses: a time that cannot be read stays
an interval.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
FUTURE_TOLERANCE_NS = 5 * MINUTE_NS
"""A time further ahead of arrival than this is a clock fault (clinical.md 1.3)."""
LIVE_TOLERANCE_NS = 2 * MINUTE_NS
"""A zoneless time this near to arrival is live whatever its zone (device-formats.md 8.3, step 3)."""
RESET_LEAP_NS = 26 * HOUR_NS
"""A sequence that rises while time falls by more than any zone or DST change is a reset clock."""
EAST_NS = 14 * HOUR_NS
WEST_NS = 12 * HOUR_NS

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Instants:
    """Possible instants of wall times, per row: ``early_ns <= late_ns``, with the zone's offset at ``late_ns``.

    They differ only in the repeated hour of a DST change, or when no zone is known.
    """

    early_ns: Int64
    late_ns: Int64
    tz_min: npt.NDArray[np.int16]


def in_zone(wall_ns: Int64, zone: str) -> Instants:
    """Wall times (int64 ns, read as if UTC) in IANA ``zone``; times that a DST change skips move forward.

    Worked: 2024-10-27T02:30 in Europe/Berlin is 00:30Z or 01:30Z; 2024-03-10T02:30 in America/New_York is 07:00Z.
    """
    naive = pd.DatetimeIndex(wall_ns.view("M8[ns]"))
    summer = np.ones(len(wall_ns), dtype=bool)
    both = [naive.tz_localize(zone, ambiguous=choice, nonexistent="shift_forward") for choice in (summer, ~summer)]
    # asi8 of an aware index is UTC; without its zone it is wall time.
    early, late = both[0].asi8, both[1].asi8
    offset = ((both[1].tz_localize(None).asi8 - late) // MINUTE_NS).astype(np.int16)
    return Instants(early, late, offset)


def anywhere(wall_ns: Int64) -> Instants:
    """Wall times of no known zone: every offset from UTC-12 to UTC+14 is possible."""
    return Instants(wall_ns - EAST_NS, wall_ns + WEST_NS, np.zeros(len(wall_ns), dtype=np.int16))


def nearest_past(instants: Instants, received_ns: Int64) -> Int64:
    """The later of the two instants that is not ahead of arrival: right for live readings in the repeated hour."""
    ahead = instants.late_ns > received_ns + FUTURE_TOLERANCE_NS
    return np.where(ahead, instants.early_ns, instants.late_ns)


def is_reset(source_time_ns: Int64, seq: Int64, head_time_ns: Int64, head_seq: Int64) -> npt.NDArray[np.bool_]:
    """Rows whose sequence is past the newest trusted record but whose time lies far before it."""
    return (seq > head_seq) & (source_time_ns < head_time_ns - RESET_LEAP_NS)
