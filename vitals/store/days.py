"""Days of a patient as intervals of instants: from midnight to midnight on the clocks of where the patient lives."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from vitals.records import DatedZone
from vitals.times import DAY_NS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEFORE_NS: Final = 3 * DAY_NS
"""More than the longest day: one of 24 hours, a change of clocks and a move around the world."""


def day_starts(zones: Sequence[DatedZone], first_ns: int, last_ns: int) -> list[int]:
    """Starts of the days of ``first_ns`` to ``last_ns`` (int64 ns UTC), ascending; the first is at or before
    ``first_ns``.

    A day has 23 or 25 hours where clocks change. The day of a move from zone to zone goes from midnight in the old zone
    to the next midnight in the new one. Without zones a day is one of UTC.
    Worked: in Europe/Berlin 2024-03-31 begins at 2024-03-30T23:00Z and 2024-04-01 at 2024-03-31T22:00Z.
    """
    early_ns = first_ns - _BEFORE_NS
    starts: list[int] = []
    for zone in zones or (DatedZone("UTC", None, None),):
        from_ns = early_ns if zone.from_ns is None else max(zone.from_ns, early_ns)
        to_ns = last_ns + 1 if zone.to_ns is None else min(zone.to_ns, last_ns + 1)
        if from_ns < to_ns:
            starts += [start for start in _midnights(ZoneInfo(zone.zone), from_ns, to_ns) if from_ns <= start < to_ns]
    begun = sum(start <= first_ns for start in starts)
    return starts[max(0, begun - 1) :]


def _midnights(zone: ZoneInfo, from_ns: int, to_ns: int) -> Iterator[int]:
    day, last = (_date(time_ns, zone) for time_ns in (from_ns, to_ns))
    while day <= last:
        # Of a midnight that clocks show twice the first; one that they skip is the moment of the change.
        moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        yield (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
        day += timedelta(days=1)


def _date(time_ns: int, zone: ZoneInfo) -> date:
    return (_EPOCH + timedelta(microseconds=time_ns // 1_000)).astimezone(zone).date()
