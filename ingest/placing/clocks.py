"""Device time to UTC (device-formats.md 8).

The stage turns what a payload says about time into the interval of instants that it can mean. Attribution then asks
whether one person wore the device over the whole interval. Nothing here guesses: a time that cannot be read stays
an interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitals.times import HOUR_NS, MINUTE_NS, NO_TIME

if TYPE_CHECKING:
    import pandas as pd

OFFSET_KEY = "time_offset_min"
"""Context key by which an adapter says how far the user-facing time is from the base time (device-formats.md 2.2)."""
STATED_KEY = "stated_time"
"""Context key of a reading whose time a record states: it may be of any year, for no clock of a device gave it."""
FUTURE_TOLERANCE_NS = 5 * MINUTE_NS
"""A time further ahead of arrival than this is a clock fault (clinical.md 1.3)."""
LIVE_TOLERANCE_NS = 2 * MINUTE_NS
"""A zoneless time this near to arrival is live whatever its zone (device-formats.md 8.3, step 3)."""
PLAUSIBLE_FROM_NS = 1_262_304_000 * 1_000_000_000
"""2010-01-01: a time before it is that of a clock that was never set (1970, 2000, 2009; device-formats.md 8.1)."""
LATEST_NS = 2**62
"""In the year 2116: up to here sums and differences of times stay inside int64."""
RESET_LEAP_NS = 26 * HOUR_NS
"""A sequence that rises while time falls by more than any zone or DST change is a reset clock."""
EAST_NS = 14 * HOUR_NS
WEST_NS = 12 * HOUR_NS

# A change of the date line skips a whole day.
_SEARCH_MIN = 36 * 60

Int16 = npt.NDArray[np.int16]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Instants:
    """Possible instants of wall times, per row: ``early_ns <= late_ns``, and the zone's offset at each in minutes.

    They differ only in the repeated hour of a DST change, or when no zone is known.
    """

    early_ns: Int64
    late_ns: Int64
    early_tz_min: Int16
    late_tz_min: Int16


def in_zone(wall_ns: Int64, zone: str) -> Instants:
    """Wall times (int64 ns, read as if UTC) in IANA ``zone``; times that a DST change skips move forward.

    Worked: 2024-10-27T02:30 in Europe/Berlin is 00:30Z or 01:30Z; 2024-03-10T02:30 in America/New_York is 07:00Z.
    """
    import pandas as pd  # noqa: PLC0415 - loads in half a second, and most payloads name their zone

    naive = pd.DatetimeIndex(wall_ns.view("M8[ns]"))
    summer = np.ones(len(wall_ns), dtype=bool)
    early_ns, early_tz_min = _localised(naive, zone, summer)
    late_ns, late_tz_min = _localised(naive, zone, ~summer)
    return Instants(early_ns, late_ns, early_tz_min, late_tz_min)


def _localised(naive: "pd.DatetimeIndex", zone: str, summer: npt.NDArray[np.bool_]) -> tuple[Int64, Int16]:
    """Instants and offsets of wall times; ``summer`` says which of two is meant."""
    # Not "shift_forward": where offsets are no whole hours, pandas moves past the change.
    instants = naive.tz_localize(zone, ambiguous=summer, nonexistent="NaT").asi8.copy()
    skipped = np.isnat(instants.view("M8[ns]"))
    if skipped.any():
        instants[skipped] = _first_past(naive.asi8[skipped], zone)
    return instants, ((_wall(instants, zone) - instants) // MINUTE_NS).astype(np.int16)


def _wall(instants: Int64, zone: str) -> Int64:
    import pandas as pd  # noqa: PLC0415

    return pd.DatetimeIndex(instants.view("M8[ns]")).tz_localize("UTC").tz_convert(zone).tz_localize(None).asi8


def _first_past(wall_ns: Int64, zone: str) -> Int64:
    """The first instant, to the minute, at which clocks in ``zone`` show more than ``wall_ns``."""
    early, late = wall_ns // MINUTE_NS - _SEARCH_MIN, wall_ns // MINUTE_NS + _SEARCH_MIN
    while (late - early > 1).any():
        middle = (early + late) // 2
        past = _wall(middle * MINUTE_NS, zone) > wall_ns
        early, late = np.where(past, early, middle), np.where(past, middle, late)
    return late * MINUTE_NS


def shown(source_time_ns: Int64, context: Mapping[int, Mapping[str, Any]]) -> Int64:
    """The time the user saw: the time as sent plus the offset that some formats carry beside it (``OFFSET_KEY``)."""
    out = source_time_ns.copy()
    for row, items in context.items():
        if OFFSET_KEY in items:
            out[row] += int(items[OFFSET_KEY]) * MINUTE_NS
    return out


def unset(shown_ns: Int64, context: Mapping[int, Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """Rows whose time is that of a clock that was never set; a time that a record states is not (``STATED_KEY``)."""
    early = shown_ns < PLAUSIBLE_FROM_NS
    for row in np.flatnonzero(early).tolist() if context else ():
        early[row] = STATED_KEY not in context.get(row, {})
    return early


def ends(length_ns: Int64, time_ns: Int64, ended_ns: Int64) -> Int64:
    """Ends of intervals that begin at ``time_ns`` and last ``length_ns``; ``NO_TIME`` where ``ended_ns`` is."""
    return np.where(ended_ns == NO_TIME, ended_ns, time_ns + length_ns)


def anywhere(wall_ns: Int64) -> Instants:
    """Wall times of no known zone: every offset from UTC-12 to UTC+14 is possible."""
    none = np.zeros(len(wall_ns), dtype=np.int16)
    return Instants(wall_ns - EAST_NS, wall_ns + WEST_NS, none, none)


def nearest_past(instants: Instants, received_ns: Int64) -> tuple[Int64, Int16]:
    """The later of the two instants that is not ahead of arrival, and the offset at it: right for live readings in the
    repeated hour."""
    ahead = instants.late_ns > received_ns + FUTURE_TOLERANCE_NS
    time_ns = np.where(ahead, instants.early_ns, instants.late_ns)
    return time_ns, np.where(ahead, instants.early_tz_min, instants.late_tz_min)


def is_reset(source_time_ns: Int64, seq: Int64, head_time_ns: Int64, head_seq: Int64) -> npt.NDArray[np.bool_]:
    """Rows whose sequence is past the newest trusted record but whose time lies far before it."""
    return (seq > head_seq) & (source_time_ns < head_time_ns - RESET_LEAP_NS)
