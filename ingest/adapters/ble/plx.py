"""Bluetooth PLX Spot-check 0x2A5E and Continuous 0x2A5F: pulse oximeters (device-formats.md 2.5, 2.6).

Layout of 2A5E: flags u8, SpO2 SFLOAT, pulse rate SFLOAT, [Date Time], [measurement status u16], [device and sensor
status u24], [pulse amplitude index SFLOAT]. Of 2A5F: flags u8, SpO2, pulse rate, [fast pair], [slow pair], [both
status words], [pulse amplitude index]; the flag positions differ. Pulse amplitude index is the perfusion index in %.

Identity: the device's timestamp as sent, ``seq`` 0; without a usable one the receipt time and the message's ordinal.
A device that says its clock is not set has no usable one: after a restart it may repeat a factory time, and a new value
must not pass for an old one. A value from storage without a usable time is STORED: it happened, but not now.

A finger that is out is 127 % or 255 or 511 /min on many oximeters, or 0 in both fields (device-formats.md 2.13). These
are no values: the field is absent, so are SpO2 and perfusion beside a pulse rate that is none, and the event
``sensor_off`` says why.

Fast and slow averages are context of the normal value, not readings of their own.
"""

import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from ingest.adapters.ble.medfloat import SFLOAT, SFLOAT_SPECIALS
from vitals.glossary import EventKind, Flag
from vitals.model import Message

SPOT_CHECK: Final = 0x2A5E
CONTINUOUS: Final = 0x2A5F
_RESERVED: Final = 0xE0
_SPOT_LENGTH: Final = tuple(
    5 + 7 * (f & 1) + 2 * (f >> 1 & 1) + 3 * (f >> 2 & 1) + 2 * (f >> 3 & 1) for f in range(256)
)
_CONTINUOUS_LENGTH: Final = tuple(
    5 + 4 * (f & 1) + 4 * (f >> 1 & 1) + 2 * (f >> 2 & 1) + 3 * (f >> 3 & 1) + 2 * (f >> 4 & 1) for f in range(256)
)
_CLOCK_NOT_SET: Final = 0x10
_PAIR: Final = struct.Struct("<HH")
_AVERAGES: Final = ((0x01, "fast"), (0x02, "slow"))

_SPO2: Final = vital_code("spo2")
_PULSE_RATE: Final = vital_code("pulse_rate")
_PERF_INDEX: Final = vital_code("perf_index")
_PERCENT: Final = unit_code("%")
_PER_MINUTE: Final = unit_code("/min")

_FROM_STORAGE: Final = 1 << 9
_ABSENT: Final[Mapping[int, str]] = MappingProxyType({13: "unavailable", 15: "invalid"})
_ESTIMATED: Final = int(Flag.ESTIMATED)
_TEST_DATA: Final = int(Flag.TEST_DATA)
_LOW_QUALITY: Final = int(Flag.LOW_QUALITY)
_SENSOR_FAULT: Final = int(Flag.SENSOR_FAULT)
_NO_PROBE: Final = _LOW_QUALITY | _SENSOR_FAULT
"""The probe is not on the patient: a number may still be sent, and must not be read as current."""
_MEASUREMENT_FLAGS: Final[Mapping[int, int]] = MappingProxyType(
    {
        6: _ESTIMATED,
        10: _TEST_DATA,
        11: _TEST_DATA,
        12: _LOW_QUALITY,
        14: _LOW_QUALITY,
    }
)
_SENSOR_FLAGS: Final[Mapping[int, int]] = MappingProxyType(
    {
        1: _SENSOR_FAULT,
        **dict.fromkeys((2, 3, 4, 5, 6, 7, 8, 10), _LOW_QUALITY),
        11: _NO_PROBE,
        13: _NO_PROBE,
        14: _SENSOR_FAULT,
        15: _NO_PROBE,
    }
)
_SENSOR_EVENTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "equipment_malfunction",
        11: "sensor_unconnected",
        13: "sensor_displaced",
        14: "sensor_malfunctioning",
        15: "sensor_disconnected",
    }
)
_SPO2_OFF: Final = 127.0
_PULSE_OFF: Final = frozenset({255.0, 511.0})
_ABSENT_MASK: Final = sum(1 << bit for bit in _ABSENT)
_MEASUREMENT_MASK: Final = sum(1 << bit for bit in _MEASUREMENT_FLAGS)
_SENSOR_MASK: Final = sum(1 << bit for bit in _SENSOR_FLAGS)
_EVENT_MASK: Final = sum(1 << bit for bit in _SENSOR_EVENTS)


def _spot_time(
    packet: gatt.Packet, stored: bool, context: dict[str, Any], output: gatt.Output
) -> tuple[int, SourceClock, int]:
    """Source time, clock and seq of a 2A5E value."""
    flags = packet.payload[0]
    time_ns = gatt.date_time(packet.payload, 5) if flags & 0x01 else None
    if flags & _CLOCK_NOT_SET:
        output.event(packet, EventKind.CLOCK_FAULT, "clock_not_set")
    if time_ns is not None and not flags & _CLOCK_NOT_SET:
        gatt.note_hub(packet, context)
        return time_ns, gatt.WALL, 0
    if not stored:
        return packet.time_ns, packet.clock, packet.seq
    gatt.note_hub(packet, context)
    if time_ns is not None:
        # In memory the factory time still tells records apart, and the whole memory comes again at each sync.
        return time_ns, gatt.STORED, 0
    return packet.message.received_ns, gatt.STORED, packet.seq


def _continuous_time(packet: gatt.Packet, stored: bool, context: dict[str, Any]) -> tuple[int, SourceClock, int]:
    """Source time, clock and seq of a 2A5F value."""
    if not stored:
        return packet.time_ns, packet.clock, packet.seq
    gatt.note_hub(packet, context)
    return packet.message.received_ns, gatt.STORED, packet.seq


def _averages(packet: gatt.Packet, output: gatt.Output) -> tuple[dict[str, float], dict[str, float]]:
    """Fast and slow averages of SpO2 and pulse rate in a 2A5F value; an event for one that is no number."""
    payload = packet.payload
    spo2: dict[str, float] = {}
    pulse: dict[str, float] = {}
    at = 5
    for bit, name in _AVERAGES:
        if payload[0] & bit:
            first, second = _PAIR.unpack_from(payload, at)
            for vital, word, values in ((_SPO2, first, spo2), (_PULSE_RATE, second, pulse)):
                value = SFLOAT[word]
                if value - value == 0.0:
                    values[name] = value
                else:
                    output.event(packet, EventKind.VALUE_ABSENT, f"{name}:{SFLOAT_SPECIALS[word].value}", vital)
            at += 4
    return spo2, pulse


def _status(payload: bytes, at: int, present: int, context: dict[str, Any]) -> tuple[int, int, int]:
    """Measurement status, sensor status (0 when absent) and the offset after them, noted in the context.

    Bit 0 of ``present``: a measurement status is there; bit 1: a sensor status.
    """
    measurement = sensor = 0
    if present & 0x01:
        measurement = gatt.word(payload, at)
        context["measurement_status"] = f"0x{measurement:04x}"
        at += 2
    if present & 0x02:
        sensor = int.from_bytes(payload[at : at + 3], "little")
        context["sensor_status"] = f"0x{sensor:06x}"
        at += 3
    return measurement, sensor, at


def _fits_spot(payload: bytes) -> bool:
    return len(payload) == _SPOT_LENGTH[payload[0]]


def _fits_continuous(payload: bytes) -> bool:
    return len(payload) == _CONTINUOUS_LENGTH[payload[0]]


def _parse_spot(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _SPOT_LENGTH[present]:
        raise gatt.wrong_length(payload, _SPOT_LENGTH[present], present & _RESERVED)
    context: dict[str, Any] = {}
    measurement, sensor, at = _status(payload, 12 if present & 0x01 else 5, present >> 1, context)
    identity = _spot_time(packet, bool(measurement & _FROM_STORAGE), context, output)
    _add(packet, measurement, sensor, at if present & 0x08 else 0, identity, context, context, context, output)


def _parse_continuous(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _CONTINUOUS_LENGTH[present]:
        raise gatt.wrong_length(payload, _CONTINUOUS_LENGTH[present], present & _RESERVED)
    context: dict[str, Any] = {}
    at = 5 + 4 * (present & 1) + 4 * (present >> 1 & 1)
    measurement = sensor = 0
    if present & 0x0C:
        measurement, sensor, at = _status(payload, at, present >> 2, context)
    identity = _continuous_time(packet, bool(measurement & _FROM_STORAGE), context)
    spo2_context = pulse_context = context
    if present & 0x03 and not measurement & _ABSENT_MASK:
        spo2, pulse = _averages(packet, output)
        spo2_context, pulse_context = (context | spo2, context | pulse) if context else (spo2, pulse)
    index_at = at if present & 0x10 else 0
    _add(packet, measurement, sensor, index_at, identity, spo2_context, pulse_context, context, output)


def _fields_off(spo2_word: int, pulse_word: int) -> tuple[bool, bool]:
    """Whether SpO2 and pulse rate are absent because the finger is out; each field has codes of its own."""
    spo2, pulse = SFLOAT[spo2_word], SFLOAT[pulse_word]
    both = spo2 == 0.0 and pulse == 0.0
    pulse_off = both or pulse in _PULSE_OFF
    return pulse_off or spo2 == _SPO2_OFF, pulse_off


def _add(
    packet: gatt.Packet, measurement: int, sensor: int, index_at: int, identity: tuple[int, SourceClock, int],
    spo2_context: dict[str, Any], pulse_context: dict[str, Any], context: dict[str, Any], output: gatt.Output,
) -> None:  # fmt: skip
    """Add the values of either characteristic; ``index_at`` is the offset of the pulse amplitude index, 0 for none."""
    payload = packet.payload
    if payload[0] & _RESERVED:
        for each in (context, spo2_context, pulse_context):
            each["reserved_flags"] = f"0x{payload[0] & _RESERVED:02x}"
    if sensor & _EVENT_MASK:
        output.event(packet, EventKind.SENSOR_STATUS, gatt.bit_names(sensor, _SENSOR_EVENTS))
    if measurement & _ABSENT_MASK:
        why = gatt.bit_names(measurement, _ABSENT)
        for vital in (_SPO2, _PULSE_RATE, _PERF_INDEX) if index_at else (_SPO2, _PULSE_RATE):
            output.event(packet, EventKind.VALUE_ABSENT, why, vital)
        return
    flags = 0
    if measurement & _MEASUREMENT_MASK or sensor & _SENSOR_MASK:
        flags = gatt.bit_flags(measurement, _MEASUREMENT_FLAGS) | gatt.bit_flags(sensor, _SENSOR_FLAGS)
    spo2_word, pulse_word = payload[1] | payload[2] << 8, payload[3] | payload[4] << 8
    spo2_off, pulse_off = _fields_off(spo2_word, pulse_word)
    if spo2_off:
        output.event(packet, EventKind.SENSOR_STATUS, "sensor_off")
    else:
        output.sfloat(packet, _SPO2, spo2_word, _PERCENT, *identity, flags, spo2_context)
    if not pulse_off:
        output.sfloat(packet, _PULSE_RATE, pulse_word, _PER_MINUTE, *identity, flags, pulse_context)
    if index_at and not pulse_off:
        output.sfloat(packet, _PERF_INDEX, gatt.word(payload, index_at), _PERCENT, *identity, flags, context)


_CARRIAGE: Final = carriage.carriage(
    {
        SPOT_CHECK: gatt.Profile(_fits_spot, _parse_spot),
        CONTINUOUS: gatt.Profile(_fits_continuous, _parse_continuous),
    }
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """SpO2, pulse rate and perfusion index; events for absent values and a probe that is off or broken."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_plx",
    version=5,
    title="Bluetooth pulse oximeter",
    kinds=carriage.kinds({"2a5e": "PLX Spot-check Measurement", "2a5f": "PLX Continuous Measurement"}),
    vitals=frozenset({"spo2", "pulse_rate", "perf_index"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    files=carriage.files("2a5e"),
)
