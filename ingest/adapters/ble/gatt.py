"""What the Bluetooth GATT adapters share: characteristics, exact lengths, Date Time, users, values that are no number.

A payload is the characteristic's value in binary, all fields little-endian (device-formats.md 0, 2.0), or a hub's
envelope of several (``gatt_carriage``). Lengths are exact: the flags say how long a value is, and bytes missing or
left over reject it whole. Reserved flag bits are tolerated, and noted in the context, while the length fits.

Battery Level 0x2A19 belongs to no family: every adapter takes it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from ingest.adapter import Decoded, ReadingsBuilder, Reject, SourceClock, pack_row
from ingest.adapters.ble.medfloat import SFLOAT, SFLOAT_SPECIALS, Special
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import DeviceEvent, Message
from vitals.times import DAY_NS, NO_TIME, SECOND_NS

MAX_VALUE: Final = 512
"""No GATT characteristic value is longer."""

ABOVE_RANGE: Final = int(Flag.ABOVE_RANGE)
BELOW_RANGE: Final = int(Flag.BELOW_RANGE)
OUT_OF_RANGE: Final = ABOVE_RANGE | BELOW_RANGE
"""Flags as plain integers: operators of ``Flag`` cost half a microsecond each."""

NO_CLOCK: Final = SourceClock.NONE
WALL: Final = SourceClock.WALL
STORED: Final = SourceClock.STORED
HUB: Final = SourceClock.HUB
"""Names of their own: to look one up in its enumeration takes longer than to look a value up in its table."""

_SHORT_FORM: Final = re.compile(r"(?:0x)?([0-9a-f]{4})", re.ASCII | re.IGNORECASE)
_LONG_FORM: Final = re.compile(r"0000([0-9a-f]{4})-0000-1000-8000-00805f9b34fb", re.ASCII | re.IGNORECASE)
_DECIMAL_FORM: Final = re.compile(r"[0-9]{5}", re.ASCII)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EARLIEST_DAY: Final = -(-EARLIEST_NS // DAY_NS)
_LATEST_DAY: Final = LATEST_NS // DAY_NS

USERS_SETTING: Final = "users"
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        USERS_SETTING: "user ids of a shared device that are the person it is assigned to, separated by commas, or"
        " `any`; default `1`. Values of other users, of the unknown user 255 too, are quarantined as `unknown_user`"
    }
)
"""Settings of the adapters whose values name a user (device-formats.md 8.1, shared device)."""
UNKNOWN_USER_ID: Final = 255


class Packet(msgspec.Struct, gc=False):
    """One characteristic value on its way through a parser.

    ``index`` is that of its message in the micro-batch. A value without a usable time of its own takes ``time_ns`` on
    ``clock`` (the hub's, or receipt and NONE) and ``seq``; ``parts`` is the first number for values that hold several
    readings of one vital, one number for each byte of the value. ``beside`` are the values of other characteristics
    in the same envelope.
    """

    index: int
    message: Message
    payload: bytes
    settings: Mapping[str, str]
    time_ns: int
    clock: SourceClock
    seq: int
    parts: int
    beside: Mapping[int, bytes] = MappingProxyType({})


def characteristic(name: str) -> int | None:
    """The 16-bit number of ``2a18``, ``0x2A18``, ``10776`` or the 128-bit form (device-formats.md 0), else None."""
    match = _SHORT_FORM.fullmatch(name) or _LONG_FORM.fullmatch(name)
    if match:
        return int(match[1], 16)
    return int(name) if _DECIMAL_FORM.fullmatch(name) else None


@lru_cache(maxsize=4096)
def _midnight_ns(year_month_day: bytes) -> int | None:
    low, high, month, day = year_month_day
    try:
        days = date(low | high << 8, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * DAY_NS if _EARLIEST_DAY <= days <= _LATEST_DAY else None


def date_time(payload: bytes, at: int) -> int | None:
    """Date Time 0x2A08 at offset ``at`` as nanoseconds, the wall time read as UTC (device-formats.md 2.1).

    None for unknown parts, impossible dates and years that int64 nanoseconds cannot hold.
    Worked: ``E0 07 05 17 11 34 11`` is 2016-05-23 17:52:17.
    """
    hour, minute, second = payload[at + 4], payload[at + 5], payload[at + 6]
    if hour > 23 or minute > 59 or second > 59:
        return None
    midnight_ns = _midnight_ns(payload[at : at + 4])
    if midnight_ns is None:
        return None
    return midnight_ns + (hour * 3_600 + minute * 60 + second) * SECOND_NS


def wrong_length(payload: bytes, expected: int, reserved: int) -> DecodeError:
    """What is wrong with a ``payload`` that is not ``expected`` bytes long; ``reserved`` are its reserved flag bits
    that are set."""
    received = len(payload)
    reason = Reason.TRUNCATED if received < expected else Reason.TRAILING_BYTES
    if reserved:
        reason = Reason.RESERVED_BITS
    return DecodeError(reason, f"{received} bytes, flags say {expected}")


def bit_names(word: int, names: Mapping[int, str]) -> str:
    """Names of the bits of ``word`` that ``names`` knows, joined by commas."""
    return ",".join(name for bit, name in names.items() if word >> bit & 1)


def bit_flags(word: int, table: Mapping[int, int]) -> int:
    """The flags that ``table`` gives for the bits of ``word``, together."""
    flags = 0
    for bit, flag in table.items():
        if word >> bit & 1:
            flags |= flag
    return flags


def word(payload: bytes, at: int) -> int:
    """The u16 at offset ``at``."""
    return payload[at] | payload[at + 1] << 8


class Output:
    """Collects what the messages of a micro-batch give; a parser checks a whole value before it adds anything."""

    def __init__(self) -> None:
        self.readings = ReadingsBuilder()
        self._append = self.readings.append
        self.events: list[DeviceEvent] = []
        self.rejects: list[Reject] = []
        self.unknown_members = 0
        self.left_out = 0
        self.memory: dict[Any, Any] = {}
        """What a parser keeps from one value of the micro-batch to the next."""

    def event(
        self, packet: Packet, kind: EventKind, detail: str, vital: int = 0, value: float | None = None
    ) -> None:  # fmt: skip
        """Add an event at the time of receipt, the only instant that is known in UTC."""
        message = packet.message
        self.events.append(
            DeviceEvent(message.device, kind, message.received_ns, detail, value, vital, message.ordinal)
        )  # fmt: skip

    def sfloat(
        self, packet: Packet, vital: int, word: int, unit: int, time_ns: int, clock: SourceClock, seq: int, flags: int,
        context: Mapping[str, Any] | None, tz_min: int = 0,
    ) -> bool:  # fmt: skip
        """Add the value of SFLOAT ``word``: a number, a value out of range without a number, or its absence. Whether
        there is a reading of it now."""
        value = SFLOAT[word]
        # Of all floats only NaN and the infinities differ from themselves when subtracted.
        if value - value == 0.0:
            self._append(
                pack_row(packet.index, vital, clock, time_ns, NO_TIME, tz_min, seq, value, unit, 0, flags), context
            )  # fmt: skip
            return True
        special = SFLOAT_SPECIALS[word]
        return self.special(packet, vital, special, unit, time_ns, clock, seq, flags, context, tz_min)

    def special(
        self, packet: Packet, vital: int, special: Special, unit: int, time_ns: int, clock: SourceClock, seq: int,
        flags: int, context: Mapping[str, Any] | None, tz_min: int = 0,
    ) -> bool:  # fmt: skip
        """Add what is no number: an infinity, or NaN with a range flag already in ``flags``, is a reading, since
        extremes never go silent; all else is an absent value."""
        if special is Special.POSITIVE_INFINITY:
            flags |= ABOVE_RANGE
        elif special is Special.NEGATIVE_INFINITY:
            flags |= BELOW_RANGE
        elif not flags & OUT_OF_RANGE:
            self.event(packet, EventKind.VALUE_ABSENT, special.value, vital)
            return False
        self.readings.add(
            packet.index, vital, float("nan"), unit, time_ns,
            clock=clock, seq=seq, flags=flags, context=context, tz_min=tz_min,
        )  # fmt: skip
        return True

    def decoded(self) -> Decoded:
        """All of it."""
        return Decoded(self.readings.build(), self.events, self.rejects, self.unknown_members, self.left_out)


def stamp(packet: Packet, at: int | None, context: dict[str, Any], output: Output) -> tuple[int, SourceClock, int]:
    """Source time, clock and seq of a value with a Date Time at offset ``at``, or without one (None).

    Identity (device-formats.md 8.4): the timestamp as sent. One with unknown parts says nothing of when: the value may
    come from a memory, so that only its order is known. The hub's time goes into the context beside a time of its own.
    """
    if at is None:
        return packet.time_ns, packet.clock, packet.seq
    note_hub(packet, context)
    time_ns = date_time(packet.payload, at)
    if time_ns is not None:
        return time_ns, WALL, 0
    output.event(packet, EventKind.CLOCK_FAULT, "timestamp_unknown")
    return packet.message.received_ns, STORED, packet.seq


def note_hub(packet: Packet, context: dict[str, Any]) -> None:
    """Put the hub's time, if there is one, into the context of a value that has a time of its own."""
    if packet.clock is HUB:
        context["hub_time_ns"] = packet.time_ns


@lru_cache(maxsize=1024)
def _users(setting: str) -> frozenset[int] | None:
    """User ids that ``setting`` lists, None for all of them."""
    if setting == "any":
        return None
    try:
        return frozenset(int(name) for name in setting.split(","))
    except ValueError:
        raise DecodeError(Reason.BAD_VALUE, f"setting {USERS_SETTING}") from None


def check_user(packet: Packet, user: int, context: dict[str, Any]) -> None:
    """Note user id ``user`` in the context; raises ``DecodeError`` for one who is not the person of the device."""
    users = _users(packet.settings.get(USERS_SETTING, "1"))
    if users is not None and user not in users:
        raise DecodeError(Reason.UNKNOWN_USER, f"not in the setting {USERS_SETTING}")
    context["user"] = "unknown" if user == UNKNOWN_USER_ID else user


def choice(chosen: str | None, setting: str, choices: Sequence[str]) -> str:
    """What was ``chosen`` for a setting, by default the first of ``choices``; raises ``DecodeError`` for any other."""
    if chosen is None:
        return choices[0]
    if chosen not in choices:
        raise DecodeError(Reason.BAD_VALUE, f"setting {setting}")
    return chosen


class Profile(NamedTuple):
    """How one characteristic is read; the payload has at least one byte.

    ``fits(payload)`` says whether the length is that of the flags; ``parse(packet, output)`` does all of it and raises
    ``DecodeError``.
    """

    fits: Callable[[bytes], bool]
    parse: Callable[[Packet, Output], None]


def _fits_battery(payload: bytes) -> bool:
    return len(payload) == 1


def _parse_battery(packet: Packet, output: Output) -> None:
    if len(packet.payload) != 1:
        raise wrong_length(packet.payload, 1, 0)
    percent = packet.payload[0]
    if percent <= 100:
        output.event(packet, EventKind.BATTERY, "", value=float(percent))
    else:
        output.event(packet, EventKind.VALUE_ABSENT, "battery_level_reserved")


BATTERY_LEVEL: Final = 0x2A19
BATTERY: Final[Mapping[int, Profile]] = MappingProxyType({BATTERY_LEVEL: Profile(_fits_battery, _parse_battery)})
"""Battery Level 0x2A19 (device-formats.md 2.12): an event in percent; 101 to 255 are no level."""
