"""Days of a patient as intervals of instants: from midnight to midnight on the clocks of where the patient lives."""

from collections.abc import Iterable, Iterator, Sequence
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


def zone_at(zones: Sequence[DatedZone], time_ns: int) -> str:
    """The zone where the patient lives at an instant; UTC where none is known."""
    for zone in zones:
        if (zone.from_ns is None or zone.from_ns <= time_ns) and (zone.to_ns is None or time_ns < zone.to_ns):
            return zone.zone
    return "UTC"


def dates(zones: Sequence[DatedZone], times_ns: Iterable[int]) -> list[str]:
    """The patient's date at each instant, as ``2024-03-31``."""
    return [_date(time_ns, ZoneInfo(zone_at(zones, time_ns))).isoformat() for time_ns in times_ns]


def wall_ns(zones: Sequence[DatedZone], time_ns: int) -> int:
    """What the patient's clock shows at an instant, as ns since 1970-01-01 on that clock."""
    shown = _moment(time_ns).astimezone(ZoneInfo(zone_at(zones, time_ns)))
    return time_ns + int((shown.utcoffset() or timedelta()) / timedelta(microseconds=1)) * 1_000


def days_before(zones: Sequence[DatedZone], time_ns: int, days: int) -> int:
    """When the patient's clock showed the same time of day as at ``time_ns``, ``days`` of the patient's days earlier.

    Worked: in Europe/Berlin 14 days before 2024-04-05T10:00Z (12:00 there) is 2024-03-22T11:00Z. Of a time that clocks
    show twice the earlier is taken, one that they skip moves by the change; so do times that a move skips.
    """
    shown_ns = wall_ns(zones, time_ns) - days * DAY_NS
    taken_ns = _read(shown_ns, zone_at(zones, time_ns))
    return _read(shown_ns, zone_at(zones, taken_ns))


def _read(shown_ns: int, zone: str) -> int:
    moment = _moment(shown_ns).replace(tzinfo=ZoneInfo(zone))
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000 + shown_ns % 1_000


def _midnights(zone: ZoneInfo, from_ns: int, to_ns: int) -> Iterator[int]:
    day, last = (_date(time_ns, zone) for time_ns in (from_ns, to_ns))
    while day <= last:
        # Of a midnight that clocks show twice the first; one that they skip is the moment of the change.
        moment = datetime(day.year, day.month, day.day, tzinfo=zone)
        yield (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
        day += timedelta(days=1)


def _date(time_ns: int, zone: ZoneInfo) -> date:
    return _moment(time_ns).astimezone(zone).date()


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1_000)
