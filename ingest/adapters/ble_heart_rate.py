"""Bluetooth Heart Rate Measurement 0x2A37: chest straps and watches (device-formats.md 2.7).

Layout: flags u8, rate u8 or u16, [energy u16 kJ], [R-R intervals, u16 each in 1/1024 s, oldest first, to the end].

Identity: the format has no time. The rate takes the receipt time and the message's ordinal. R-R intervals are placed
backwards from receipt (each at its closing beat, the newest at receipt) and flagged ESTIMATED; their ``seq`` is
``ordinal * 256 + index``, so two intervals never share an identity, even when both are zero.

Without skin contact the numbers mean nothing: an event, no reading.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters import gatt
from ingest.splitting import Packets
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import Message

HEART_RATE_MEASUREMENT: Final = 0x2A37
INTERVALS_PER_MESSAGE: Final = 256
"""More than fit in the longest characteristic value."""
_RESERVED: Final = 0xE0
_LENGTH: Final = tuple(2 + (f & 1) + 2 * (f >> 3 & 1) for f in range(256))
_NO_CONTACT: Final = 2

_HEART_RATE: Final = vital_code("heart_rate")
_RR_INTERVAL: Final = vital_code("rr_interval")
_PER_MINUTE: Final = unit_code("/min")
_MILLISECONDS: Final = unit_code("ms")
_ESTIMATED: Final = int(Flag.ESTIMATED)
_TICK_NS: Final = 1_000_000_000 / 1024


def _check_length(payload: bytes) -> None:
    present = payload[0]
    fixed = _LENGTH[present]
    if not present & 0x10 or len(payload) < fixed:
        gatt.check_length(payload, fixed, _RESERVED)
    elif (len(payload) - fixed) % 2:
        reason = Reason.RESERVED_BITS if present & _RESERVED else Reason.TRUNCATED
        raise DecodeError(reason, f"{len(payload) - fixed} bytes of R-R intervals of 2 bytes each")
    elif len(payload) > gatt.MAX_PAYLOAD:
        raise DecodeError(Reason.TRAILING_BYTES, f"{len(payload)} bytes, at most {gatt.MAX_PAYLOAD}")


def _add_intervals(index: int, message: Message, at: int, output: gatt.Output) -> None:
    payload = message.payload
    ticks = [payload[place] | payload[place + 1] << 8 for place in range(at, len(payload), 2)]
    later = sum(ticks)
    for number, interval in enumerate(ticks):
        later -= interval
        output.readings.add(
            index, _RR_INTERVAL, interval * 1000 / 1024, _MILLISECONDS,
            message.received_ns - round(later * _TICK_NS),
            clock=SourceClock.NONE, seq=message.ordinal * INTERVALS_PER_MESSAGE + number, flags=_ESTIMATED,
        )  # fmt: skip


def _parse(_characteristic: int, index: int, message: Message, output: gatt.Output) -> None:
    payload = message.payload
    present = payload[0]
    _check_length(payload)
    if present >> 1 & 3 == _NO_CONTACT:
        output.event(message, EventKind.SENSOR_STATUS, "no_contact")
        return
    rate, at = (payload[1] | payload[2] << 8, 3) if present & 0x01 else (payload[1], 2)
    context: dict[str, int | str] = {}
    if present & 0x08:
        context["energy_kj"] = payload[at] | payload[at + 1] << 8
        at += 2
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    output.readings.add(
        index, _HEART_RATE, float(rate), _PER_MINUTE, message.received_ns,
        clock=SourceClock.NONE, seq=message.ordinal, context=context,
    )  # fmt: skip
    if present & 0x10:
        _add_intervals(index, message, at, output)


_KINDS: Final = MappingProxyType(
    {
        "2a37": HEART_RATE_MEASUREMENT,
        "2A37": HEART_RATE_MEASUREMENT,
        "": HEART_RATE_MEASUREMENT,
    }
)


def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
    """Heart rate, and R-R intervals in ms; an event instead when the sensor has no contact."""
    return gatt.decode_each(messages, _KINDS, _parse)


ADAPTER = Adapter(
    name="ble_heart_rate",
    version=1,
    title="Bluetooth heart rate sensor",
    kinds=MappingProxyType(
        {
            "2a37": "Heart Rate Measurement characteristic, binary",
            "": "Heart Rate Measurement characteristic, binary",
        }
    ),
    vitals=frozenset({"heart_rate", "rr_interval"}),
    decode=decode,
    max_payload=gatt.MAX_PAYLOAD,
    files=MappingProxyType({"2a37": Packets()}),
)
