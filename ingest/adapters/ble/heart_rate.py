"""Bluetooth Heart Rate Measurement 0x2A37: chest straps and watches (device-formats.md 2.7).

Layout: flags u8, rate u8 or u16, [energy u16 kJ], [R-R intervals, u16 each in 1/1024 s, oldest first, to the end].

Identity: the format has no time. The rate takes the receipt time and the message's ordinal. R-R intervals are placed
backwards from receipt (each at its closing beat, the newest at receipt) and flagged ESTIMATED; their ``seq`` is
``ordinal * 256 + index``, so two intervals never share an identity, even when both are zero. A hub's time takes the
place of receipt.

A value whose flags announce R-R intervals and that holds none is malformed: its rate may be the start of one.

Without skin contact the numbers mean nothing: an event, no reading.
"""

from collections.abc import Sequence
from typing import Final

from ingest.adapter import Adapter, Context, Decoded, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import Message

HEART_RATE_MEASUREMENT: Final = 0x2A37
_RESERVED: Final = 0xE0
_LENGTH: Final = tuple(2 + (f & 1) + 2 * (f >> 3 & 1) for f in range(256))
_NO_CONTACT: Final = 2
_CONTACT: Final = 3

_HEART_RATE: Final = vital_code("heart_rate")
_RR_INTERVAL: Final = vital_code("rr_interval")
_PER_MINUTE: Final = unit_code("/min")
_MILLISECONDS: Final = unit_code("ms")
_ESTIMATED: Final = int(Flag.ESTIMATED)
_TICK_NS: Final = 1_000_000_000 / 1024


def _fits(payload: bytes) -> bool:
    present, length = payload[0], len(payload)
    fixed = _LENGTH[present]
    if present & 0x10:
        return length > fixed and (length - fixed) % 2 == 0
    return length == fixed


def _wrong_length(payload: bytes) -> DecodeError:
    present = payload[0]
    fixed = _LENGTH[present]
    if not present & 0x10 or len(payload) < fixed:
        return gatt.wrong_length(payload, fixed, present & _RESERVED)
    reason = Reason.RESERVED_BITS if present & _RESERVED else Reason.TRUNCATED
    if len(payload) == fixed:
        return DecodeError(reason, "flags say R-R intervals, there are none")
    return DecodeError(reason, f"{len(payload) - fixed} bytes of R-R intervals of 2 bytes each")


def _add_intervals(packet: gatt.Packet, at: int, output: gatt.Output) -> None:
    payload, time_ns, first = packet.payload, packet.time_ns, packet.parts
    ticks = [payload[place] | payload[place + 1] << 8 for place in range(at, len(payload), 2)]
    later = sum(ticks)
    for number, interval in enumerate(ticks):
        later -= interval
        output.readings.add(
            packet.index, _RR_INTERVAL, interval * 1000 / 1024, _MILLISECONDS, time_ns - round(later * _TICK_NS),
            clock=packet.clock, seq=first + number, flags=_ESTIMATED,
        )  # fmt: skip


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    if not _fits(payload):
        raise _wrong_length(payload)
    present = payload[0]
    contact = present >> 1 & 3
    if contact == _NO_CONTACT:
        output.event(packet, EventKind.SENSOR_STATUS, "no_contact")
        return
    rate, at = (payload[1] | payload[2] << 8, 3) if present & 0x01 else (payload[1], 2)
    context: dict[str, int | str] = {}
    if contact == _CONTACT:
        context["contact"] = "detected"
    if present & 0x08:
        context["energy_kj"] = payload[at] | payload[at + 1] << 8
        at += 2
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    output.readings.add(
        packet.index, _HEART_RATE, float(rate), _PER_MINUTE, packet.time_ns,
        clock=packet.clock, seq=packet.seq, context=context,
    )  # fmt: skip
    if present & 0x10:
        _add_intervals(packet, at, output)


_CARRIAGE: Final = carriage.carriage(
    {HEART_RATE_MEASUREMENT: gatt.Profile(_fits, _parse)}, default=HEART_RATE_MEASUREMENT
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Heart rate, and R-R intervals in ms; an event instead when the sensor has no contact."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_heart_rate",
    version=4,
    title="Bluetooth heart rate sensor",
    kinds=carriage.kinds({"2a37": "Heart Rate Measurement"}, default="2a37"),
    vitals=frozenset({"heart_rate", "rr_interval"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    files=carriage.files("2a37"),
)
