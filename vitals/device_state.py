"""States of devices as the pipeline sees them, and the device settings that the pipeline itself uses."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from vitals.glossary import EventKind
from vitals.model import DeviceEvent

EXPECTED_INTERVAL_S: Final = "expected_interval_s"
"""Setting of a device: seconds within which a measurement is expected."""
BATTERY_LOW_PERCENT: Final = "battery_low_percent"
"""Setting of a device: level below which its battery is low."""
DEFAULT_BATTERY_LOW_PERCENT: Final = 20.0


def number_setting(settings: Mapping[str, str], name: str) -> float | None:
    """A setting as a finite number; None if it is not set or is not a number."""
    try:
        number = float(settings.get(name, "nan"))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Fault(msgspec.Struct, frozen=True):
    """A fault of a device that is not over. ``kind`` is that of its reports, or ``FLAPPING``; ``vital`` 0 for none.
    ``value`` is what the last report said beside it: seconds that a clock is ahead."""

    kind: EventKind
    detail: str
    vital: int
    first_ns: int
    last_ns: int
    count: int
    value: float | None = None


class Arrival(NamedTuple):
    """A live message whose newest time was ``ahead_ns`` ahead of its receipt."""

    received_ns: int
    ahead_ns: int


class AheadState(msgspec.Struct, frozen=True):
    """What was learned of a device's clock that is ahead.

    ``ahead_ns`` is None while it is not known, ``arrivals`` what it was learned from, or what there is so far.
    ``zone_hours`` is 0, or the hours of another zone or of a summer time that was not set back: then nothing is
    corrected. ``corrects``: readings are corrected by it. ``undone_by`` is who took it back.
    """

    ahead_ns: int | None = None
    since_ns: int | None = None
    arrivals: tuple[Arrival, ...] = ()
    zone_hours: int = 0
    corrects: bool = False
    undone_by: str = ""
    undone_ns: int | None = None
    reason: str = ""


class DeviceState(msgspec.Struct, frozen=True):
    """The present state of a device as the pipeline sees it.

    ``online_by`` is will, status or connection. ``measured_ns`` is the newest measurement with a trusted time.
    ``battery`` is percent, None when it is not known or the device only said ``low``. ``window_ns`` is the shortest
    silence window of the vitals that it has measured.
    """

    device: str
    last_seen_ns: int | None = None
    online: bool | None = None
    online_since_ns: int | None = None
    online_by: str = ""
    measured_ns: int | None = None
    battery: float | None = None
    battery_low: bool | None = None
    battery_ns: int | None = None
    window_ns: int | None = None
    faults: tuple[Fault, ...] = ()


class Processed(msgspec.Struct, frozen=True):
    """How far ingest got: everything received before ``watermark_ns`` (0 before the first tick), and the last time in
    which nothing was processed."""

    watermark_ns: int = 0
    pause_from_ns: int = 0
    pause_to_ns: int = 0

    def since(self, time_ns: int) -> int:
        """Nanoseconds that were processed after ``time_ns``: an outage is no silence."""
        paused = max(0, self.pause_to_ns - max(self.pause_from_ns, time_ns))
        return max(0, self.watermark_ns - time_ns - paused)


class ToldEvent(NamedTuple):
    """An event of a device's history and its place there."""

    id: int
    event: DeviceEvent
