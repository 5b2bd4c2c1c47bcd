"""The life of a device: presence, battery and faults, folded from what it says and what it does.

The fold has no clock and no I/O: :class:`Life` is a device's state, each function takes it one step on and returns the
events that follow (a fault began or is over, the battery fell below its threshold). Reports and readings are taken in
the order of message ordinals, so the same log gives the same states however its entries were batched.
"""

from bisect import insort
from typing import Final, NamedTuple

import msgspec

from ingest.doubts import IMPLAUSIBLE, UNIT_SUSPECT
from vitals.device_state import Fault
from vitals.glossary import EventKind
from vitals.model import DeviceEvent
from vitals.times import DAY_NS, SECOND_NS

DISORDER_NS: Final = 600 * SECOND_NS
"""Presence this much older than the newest is out of order (device-formats.md 7.3); older still, a clock was set back
and the order of the log decides."""
FLAPPING_NS: Final = 600 * SECOND_NS
MAX_TAKEOVERS: Final = 3
MAX_CONNECTS: Final = 10
"""More of them within ``FLAPPING_NS`` is flapping (device-formats.md 7.2, 8E; the numbers are design defaults)."""
ABSENT_REPEATS: Final = 3
"""A value that is absent this often, with none between, is a fault."""
BATTERY_RISE_PERCENT: Final = 5.0
"""A low battery is over when it is this much above its threshold."""
LOW_WORD_NS: Final = DAY_NS
"""A ``low`` without a level holds for this long after it was said last; then sound readings end it."""
FLAPPING: Final = "flapping"
TAKEN_OVER: Final = "taken over"
SUPERSEDED: Final = "will of an older connection"
_WILL: Final = "will"
_STATUS: Final = "status"
_LOW: Final = "low"
OF_A_VITAL: Final = frozenset({IMPLAUSIBLE, UNIT_SUSPECT})
"""Status words that are about the values of one vital sign."""

_FAULTS: Final = frozenset({EventKind.SENSOR_STATUS, EventKind.VALUE_ABSENT, EventKind.CLOCK_FAULT})
REPORTS: Final = _FAULTS | {EventKind.BATTERY}
"""Events of adapters that say how the device is."""


class FaultReports(msgspec.Struct, array_like=True):
    """Reports of one fault. ``message`` is the ordinal of the last one, ``value`` what it said; ``open`` once there
    were enough of them. New fields go at the end."""

    kind: EventKind
    detail: str
    vital: int
    first_ns: int
    last_ns: int
    message: int
    count: int = 0
    open: bool = False
    value: float | None = None

    def event(self, device: str, kind: EventKind, time_ns: int) -> DeviceEvent:
        """That the fault began or is over."""
        value = self.value if self.detail in OF_A_VITAL else None
        return DeviceEvent(
            device, kind, time_ns, f"{self.kind.value}: {self.detail}", value, vital=self.vital, message=self.message
        )


class Life(msgspec.Struct, array_like=True):
    """State of one device; new fields go at the end, so that older rows stay readable.

    ``presence_ns`` is the time of the newest presence event, ``since_ns`` when the state began. ``connects`` and
    ``takeovers`` are the newest times of each, as many as flapping needs. ``told`` counts rows of its history.
    """

    online: bool | None = None
    since_ns: int | None = None
    presence_ns: int | None = None
    by: str = ""
    battery: float | None = None
    battery_low: bool | None = None
    battery_ns: int | None = None
    troubles: dict[str, FaultReports] = {}
    connects: list[int] = []
    takeovers: list[int] = []
    told: int = 0

    @property
    def watched(self) -> bool:
        """Whether readings or the passing of time can change the state."""
        return bool(self.troubles) or (self.battery_low is True and self.battery is None)

    @property
    def unit_doubted(self) -> bool:
        """Whether an open fault says that values may be in another unit than they claim."""
        return any(one.open and one.detail == UNIT_SUSPECT for one in self.troubles.values())

    def faults(self) -> tuple[Fault, ...]:
        """Open faults, the longest lasting first."""
        found = [one for one in self.troubles.values() if one.open]
        found.sort(key=lambda one: (one.first_ns, one.kind, one.detail, one.vital))
        return tuple(
            Fault(one.kind, one.detail, one.vital, one.first_ns, one.last_ns, one.count, one.value) for one in found
        )


class Sound(NamedTuple):
    """A reading that is current and sound; ``clocked`` when the device's own clock gave its time."""

    message: int
    vital: int
    received_ns: int
    clocked: bool


def presence(life: Life, event: DeviceEvent) -> list[DeviceEvent]:
    """Take in ``online`` or ``offline``; an older one than the newest, and the will of a connection that a newer one
    followed, change nothing."""
    online = event.kind is EventKind.ONLINE
    by = next((word for word in (_WILL, _STATUS) if event.detail.startswith(word)), "connection")
    out = _connected(life, event) if online and by == "connection" else []
    newest = life.presence_ns
    if event.detail == SUPERSEDED or (newest is not None and newest - DISORDER_NS <= event.time_ns < newest):
        return out
    life.presence_ns = event.time_ns
    if life.online is not online:
        life.online, life.since_ns, life.by = online, event.time_ns, by
    return out


def _connected(life: Life, event: DeviceEvent) -> list[DeviceEvent]:
    insort(life.connects, event.time_ns)
    del life.connects[: -MAX_CONNECTS - 1]
    if event.detail == TAKEN_OVER:
        insort(life.takeovers, event.time_ns)
        del life.takeovers[: -MAX_TAKEOVERS - 1]
    ends_ns = flapping_until(life)
    if ends_ns is None or ends_ns <= event.time_ns:
        return []
    taken_over = len(life.takeovers) > MAX_TAKEOVERS and life.takeovers[0] + FLAPPING_NS > event.time_ns
    return _trouble(life, EventKind.FLAPPING, "taken_over" if taken_over else "reconnects", event, key=FLAPPING)


def flapping_until(life: Life) -> int | None:
    """When, without more connections, the device no longer flaps; None when it had too few to do so."""
    ends = [
        times[0] + FLAPPING_NS
        for times, most in ((life.takeovers, MAX_TAKEOVERS), (life.connects, MAX_CONNECTS))
        if len(times) > most
    ]
    return max(ends, default=None)


def passed(life: Life, device: str, watermark_ns: int) -> list[DeviceEvent]:
    """Everything received before ``watermark_ns`` was taken in: flapping may be over."""
    trouble = life.troubles.get(FLAPPING)
    ends_ns = flapping_until(life)
    if trouble is None or (ends_ns is not None and ends_ns > watermark_ns):
        return []
    return _over(life, FLAPPING, device, watermark_ns if ends_ns is None else ends_ns)


def report(life: Life, event: DeviceEvent, low_percent: float) -> tuple[list[DeviceEvent], bool]:
    """Take in a report (``REPORTS``) of now: what follows, and whether it says anything new itself."""
    if event.kind is EventKind.BATTERY:
        return _battery(life, event, low_percent)
    known = len(life.troubles)
    out: list[DeviceEvent] = []
    if event.kind is EventKind.VALUE_ABSENT:
        out += _trouble(life, event.kind, event.detail, event, key=f"{event.kind}:{event.vital}", least=ABSENT_REPEATS)
    else:
        for word in event.detail.split(","):
            of = f":{event.vital}" if event.vital and word in OF_A_VITAL else ""
            out += _trouble(life, event.kind, word, event, key=f"{event.kind}:{word}{of}")
    return out, len(life.troubles) > known


def _trouble(
    life: Life, kind: EventKind, detail: str, event: DeviceEvent, *, key: str, least: int = 1
) -> list[DeviceEvent]:
    trouble = life.troubles.get(key)
    if trouble is None:
        trouble = FaultReports(kind, detail, event.vital, event.time_ns, event.time_ns, event.message)
        life.troubles[key] = trouble
    trouble.detail, trouble.last_ns, trouble.message = detail, max(trouble.last_ns, event.time_ns), event.message
    trouble.count += 1
    trouble.value = event.value
    if trouble.open or trouble.count < least:
        return []
    trouble.open = True
    return [trouble.event(event.device, EventKind.FAULT, event.time_ns)]


def _over(life: Life, key: str, device: str, time_ns: int) -> list[DeviceEvent]:
    trouble = life.troubles.pop(key)
    return [trouble.event(device, EventKind.FAULT_OVER, time_ns)] if trouble.open else []


def _battery(life: Life, event: DeviceEvent, low_percent: float) -> tuple[list[DeviceEvent], bool]:
    level, said_low = event.value, event.detail == _LOW
    older = life.battery_ns is not None and event.time_ns < life.battery_ns
    if older or (level is None and not said_low):
        return [], False
    was_low, before = life.battery_low, (life.battery, life.battery_low)
    threshold = low_percent + (BATTERY_RISE_PERCENT if was_low else 0.0)
    life.battery, life.battery_ns = level, event.time_ns
    life.battery_low = said_low or (level is not None and level < threshold)
    news = (life.battery, life.battery_low) != before
    if life.battery_low == bool(was_low):
        return [], news
    return [_crossed(life, event.device, event.time_ns, event.message)], news


def _crossed(life: Life, device: str, time_ns: int, message: int) -> DeviceEvent:
    kind = EventKind.BATTERY_LOW if life.battery_low else EventKind.BATTERY_OK
    return DeviceEvent(device, kind, time_ns, value=life.battery, message=message)


def sound(life: Life, device: str, reading: Sound) -> list[DeviceEvent]:
    """Take in a sound reading: faults that were reported by earlier messages, and that it disproves, are over."""
    ended = [key for key, one in life.troubles.items() if one.message < reading.message and _disproves(reading, one)]
    out = [event for key in ended for event in _over(life, key, device, reading.received_ns)]
    low_word = life.battery_low is True and life.battery is None and life.battery_ns is not None
    if low_word and reading.received_ns >= (life.battery_ns or 0) + LOW_WORD_NS:
        life.battery_low = None
        out.append(_crossed(life, device, reading.received_ns, reading.message))
    return out


def _disproves(reading: Sound, trouble: FaultReports) -> bool:
    match trouble.kind:
        case EventKind.SENSOR_STATUS:
            # An impossible pressure is not over because a pulse came.
            return trouble.detail not in OF_A_VITAL or trouble.vital in (0, reading.vital)
        case EventKind.CLOCK_FAULT:
            return reading.clocked
        case EventKind.VALUE_ABSENT:
            return trouble.vital in (0, reading.vital)
        case _:
            return False
