"""What a simulated device measured, and a format that puts it on the wire.

Formats are written from ``device-formats.md`` alone and share nothing with the code that decodes: an error in one is
not repeated in the other.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import numpy as np

from vitals.catalog import BY_KEY
from vitals.times import SECOND_NS
from vitals.units import from_canonical


def instant(time_ns: int) -> datetime:
    """Nanoseconds since 1970 as a time in UTC, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a device measured: catalogue key -> value in the canonical unit, when (ns, UTC) and which in its count.

    For a format of wall times ``time_ns`` is the device's wall time read as if it were UTC; for one of intervals
    their end. ``hub_ns`` is the time of the hub that passes it on, UTC, where that differs.
    """

    values: Mapping[str, float]
    time_ns: int
    seq: int
    hub_ns: int | None = None

    def wall(self) -> datetime:
        """``time_ns`` without a zone, to the microsecond."""
        return self.instant().replace(tzinfo=None)

    def instant(self) -> datetime:
        """``time_ns`` in UTC, to the microsecond."""
        return instant(self.time_ns)

    def seconds(self) -> int:
        """``time_ns`` as whole seconds since 1970."""
        return self.time_ns // SECOND_NS


class CarriedTime(StrEnum):
    """The time that a payload carries: an instant, wall time without a zone, the hub's time, minutes since a start
    that it does not tell, or none."""

    INSTANT = "instant"
    WALL = "wall"
    HUB = "hub"
    RELATIVE = "relative"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of payload of one adapter.

    ``resolution`` maps each vital that fits into one payload to the largest error of its encoding, in the canonical
    unit; a battery or a context carries none. ``encode`` draws optional fields, units and forms that do not change
    what is said; a value that the sample lacks is left out. ``time_step_s`` is the finest step of its times;
    ``lasts_s`` the length of the interval that a payload covers; ``period_s`` how often such a device measures.
    """

    adapter: str
    kind: str
    title: str
    resolution: Mapping[str, float]
    encode: Callable[[Sample, random.Random], bytes]
    time: CarriedTime = CarriedTime.INSTANT
    time_step_s: float = 1.0
    lasts_s: int = 0
    period_s: float = 900.0

    @property
    def vitals(self) -> frozenset[str]:
        """Catalogue keys that it can carry together."""
        return frozenset(self.resolution)

    @property
    def name(self) -> str:
        """``adapter/kind``, or the adapter alone where the kind is empty."""
        return f"{self.adapter}/{self.kind}" if self.kind else self.adapter


def written(key: str, value: float, unit: str, decimals: int) -> str:
    """``value`` of the catalogue's ``key`` in ``unit``, as a decimal text of that many places."""
    number = float(from_canonical(np.array([value]), BY_KEY[key].unit, unit)[0])
    return f"{number:.{decimals}f}"


def number(key: str, value: float, unit: str, decimals: int) -> float | int:
    """As `written`, for JSON: whole numbers have no point."""
    text = written(key, value, unit, decimals)
    return float(text) if decimals else int(text)


OFFSETS_MIN = (0, 60, 330, -240, -300, -480)
"""Offsets from UTC that a device may write its instants with."""


def instant_text(sample_time: datetime, offset_min: int | None, *, digits: int = 0) -> str:
    """An instant as RFC 3339 text with ``offset_min``; None leaves the offset out and writes UTC.

    ``digits`` of a fraction of a second, 0, 3 or 6; zero minutes are ``Z``.
    """
    shown = sample_time.astimezone(UTC) + timedelta(minutes=offset_min or 0)
    text = shown.replace(tzinfo=None).isoformat(timespec={0: "seconds", 3: "milliseconds", 6: "microseconds"}[digits])
    if offset_min is None:
        return text
    return f"{text}Z" if offset_min == 0 else f"{text}{signed_offset(offset_min, ':')}"


def signed_offset(offset_min: int, separator: str = "") -> str:
    """``-0500`` or, with a separator, ``-05:00``."""
    hours, minutes = divmod(abs(offset_min), 60)
    return f"{'-' if offset_min < 0 else '+'}{hours:02}{separator}{minutes:02}"


def identifier(sample: Sample, what: str) -> str:
    """A record id (UUID) that follows from ``what``, the sample's time and its number alone."""
    bits = random.Random(f"{what} {sample.time_ns} {sample.seq}").getrandbits(128)  # noqa: S311 - an id
    return str(UUID(int=bits, version=4))
