"""What the Bluetooth GATT adapters share: carriage, exact lengths, Date Time, values that are no number.

A payload is the characteristic's value in binary, all fields little-endian (device-formats.md 0, 2.0). Lengths are
exact: the flags say how long a value is, and bytes missing or left over reject it whole. Reserved flag bits are
tolerated, and noted in the context, while the length fits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from ingest.adapter import Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.medfloat import SFLOAT, SFLOAT_SPECIALS
from ingest.adapters.timestamps import EARLIEST_NS, LATEST_NS, SECOND_NS
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import DeviceEvent, Message

MAX_PAYLOAD: Final = 512
"""No GATT characteristic value is longer."""

ABOVE_RANGE: Final = int(Flag.ABOVE_RANGE)
BELOW_RANGE: Final = int(Flag.BELOW_RANGE)
OUT_OF_RANGE: Final = ABOVE_RANGE | BELOW_RANGE
"""Flags as plain integers: operators of ``Flag`` cost half a microsecond each."""

_SHORT_FORM: Final = re.compile(r"(?:0x)?([0-9a-f]{4})", re.ASCII | re.IGNORECASE)
_LONG_FORM: Final = re.compile(r"0000([0-9a-f]{4})-0000-1000-8000-00805f9b34fb", re.ASCII | re.IGNORECASE)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def characteristic(kind: str) -> int | None:
    """The 16-bit number of ``2a18``, ``0x2A18`` or the 128-bit form (device-formats.md 0), else None."""
    match = _SHORT_FORM.fullmatch(kind) or _LONG_FORM.fullmatch(kind)
    return int(match[1], 16) if match else None


def date_time(payload: bytes, at: int) -> int | None:
    """Date Time 0x2A08 at offset ``at`` as nanoseconds, the wall time read as UTC (device-formats.md 2.1).

    None for unknown parts, impossible dates and years that int64 nanoseconds cannot hold.
    Worked: ``E0 07 05 17 11 34 11`` is 2016-05-23 17:52:17.
    """
    hour, minute, second = payload[at + 4], payload[at + 5], payload[at + 6]
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:
        day = date(payload[at] | payload[at + 1] << 8, payload[at + 2], payload[at + 3]).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    time_ns = (day * 86_400 + hour * 3_600 + minute * 60 + second) * SECOND_NS
    return time_ns if EARLIEST_NS <= time_ns <= LATEST_NS else None


def check_length(payload: bytes, expected: int, reserved: int) -> None:
    """Raise ``DecodeError`` unless ``payload`` is ``expected`` bytes long; ``reserved`` masks its first byte."""
    received = len(payload)
    if received == expected:
        return
    if payload[0] & reserved:
        reason = Reason.RESERVED_BITS
    else:
        reason = Reason.TRUNCATED if received < expected else Reason.TRAILING_BYTES
    raise DecodeError(reason, f"{received} bytes, flags say {expected}")


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


class Output:
    """Collects what the messages of a micro-batch give; a parser checks a whole value before it adds anything."""

    def __init__(self) -> None:
        self.readings = ReadingsBuilder()
        self.events: list[DeviceEvent] = []
        self.rejects: list[Reject] = []

    def event(self, message: Message, kind: EventKind, detail: str, vital: int = 0) -> None:
        """Add an event at the time of receipt, the only instant that is known in UTC."""
        self.events.append(
            DeviceEvent(message.device, kind, message.received_ns, detail, vital=vital, message=message.ordinal)
        )

    def sfloat(
        self, index: int, message: Message, vital: int, word: int, unit: int, source_time_ns: int, *,
        clock: SourceClock, seq: int, flags: int, context: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Add the value of SFLOAT ``word``: a number, a value out of range without a number, or its absence.

        An infinity, or NaN with a range flag already in ``flags``, is a reading: extremes never go silent.
        """
        value = SFLOAT[word]
        # Of all floats only NaN and the infinities differ from themselves when subtracted.
        if value - value != 0.0:
            special = SFLOAT_SPECIALS[word]
            if value > 0:
                flags |= ABOVE_RANGE
            elif value < 0:
                flags |= BELOW_RANGE
            elif not flags & OUT_OF_RANGE:
                self.event(message, EventKind.VALUE_ABSENT, special.value, vital)
                return
            value = float("nan")
        self.readings.add(
            index, vital, value, unit, source_time_ns, clock=clock, seq=seq, flags=flags, context=context
        )  # fmt: skip


Parser = Callable[[int, int, Message, Output], None]
"""``parse(characteristic, index, message, output)``; raises ``DecodeError``. The payload has at least one byte."""


def decode_each(messages: Sequence[Message], kinds: Mapping[str, int], parse: Parser) -> Decoded:
    """Decode a micro-batch with ``parse``. ``kinds`` maps the usual spellings of a kind to its characteristic."""
    output = Output()
    accepted = frozenset(kinds.values())
    for index, message in enumerate(messages):
        number = kinds.get(message.kind)
        if number is None:
            number = characteristic(message.kind)
        if number not in accepted:
            output.rejects.append(Reject(index, Reason.UNKNOWN_KIND))
        elif not message.payload:
            output.rejects.append(Reject(index, Reason.EMPTY))
        else:
            try:
                parse(number, index, message, output)
            except DecodeError as problem:
                output.rejects.append(Reject(index, problem.reason, problem.detail))
    return Decoded(output.readings.build(), output.events, output.rejects)
