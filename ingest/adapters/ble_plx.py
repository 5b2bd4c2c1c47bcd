"""Bluetooth PLX Spot-check 0x2A5E and Continuous 0x2A5F: pulse oximeters (device-formats.md 2.5, 2.6).

Layout of 2A5E: flags u8, SpO2 SFLOAT, pulse rate SFLOAT, [Date Time], [measurement status u16], [device and sensor
status u24], [pulse amplitude index SFLOAT]. Of 2A5F: flags u8, SpO2, pulse rate, [fast pair], [slow pair], [both
status words], [pulse amplitude index]; the flag positions differ. Pulse amplitude index is the perfusion index in %.

Identity: the device's timestamp as sent, ``seq`` 0; without a usable one the receipt time and the message's ordinal.
A device that says its clock is not set has no usable one: after a restart it may repeat a factory time, and a new value
must not pass for an old one. A value from storage without a usable time is STORED: it happened, but not now.

Fast and slow averages are context of the normal value, not readings of their own.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters import gatt
from ingest.adapters.medfloat import SFLOAT, SFLOAT_SPECIALS
from ingest.splitting import Packets
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
_ABSENT_MASK: Final = sum(1 << bit for bit in _ABSENT)
_MEASUREMENT_MASK: Final = sum(1 << bit for bit in _MEASUREMENT_FLAGS)
_SENSOR_MASK: Final = sum(1 << bit for bit in _SENSOR_FLAGS)
_EVENT_MASK: Final = sum(1 << bit for bit in _SENSOR_EVENTS)


def _word(payload: bytes, at: int) -> int:
    return payload[at] | payload[at + 1] << 8


def _spot_time(message: Message, stored: bool, output: gatt.Output) -> tuple[int, SourceClock, int]:
    """Source time, clock and seq of a 2A5E value."""
    flags = message.payload[0]
    time_ns = gatt.date_time(message.payload, 5) if flags & 0x01 else None
    if flags & _CLOCK_NOT_SET:
        output.event(message, EventKind.CLOCK_FAULT, "clock_not_set")
    if time_ns is not None and not flags & _CLOCK_NOT_SET:
        return time_ns, SourceClock.WALL, 0
    if time_ns is not None and stored:
        # In memory the factory time still tells records apart, and the whole memory comes again at each sync.
        return time_ns, SourceClock.STORED, 0
    return message.received_ns, SourceClock.STORED if stored else SourceClock.NONE, message.ordinal


def _averages(payload: bytes, flags: int) -> tuple[dict[str, float], dict[str, float]]:
    """Fast and slow averages of SpO2 and pulse rate in a 2A5F value; those that are no number are left out."""
    spo2: dict[str, float] = {}
    pulse: dict[str, float] = {}
    at = 5
    for bit, name in ((0x01, "fast"), (0x02, "slow")):
        if flags & bit:
            for values, word in ((spo2, _word(payload, at)), (pulse, _word(payload, at + 2))):
                if word not in SFLOAT_SPECIALS:
                    values[name] = SFLOAT[word]
            at += 4
    return spo2, pulse


def _status(payload: bytes, at: int, present: int, context: dict[str, Any]) -> tuple[int, int, int]:
    """Measurement status, sensor status (0 when absent) and the offset after them, noted in the context.

    Bit 0 of ``present``: a measurement status is there; bit 1: a sensor status.
    """
    measurement = sensor = 0
    if present & 0x01:
        measurement = _word(payload, at)
        context["measurement_status"] = f"0x{measurement:04x}"
        at += 2
    if present & 0x02:
        sensor = int.from_bytes(payload[at : at + 3], "little")
        context["sensor_status"] = f"0x{sensor:06x}"
        at += 3
    return measurement, sensor, at


def _parse(characteristic: int, index: int, message: Message, output: gatt.Output) -> None:
    payload = message.payload
    present = payload[0]
    is_spot = characteristic == SPOT_CHECK
    gatt.check_length(payload, (_SPOT_LENGTH if is_spot else _CONTINUOUS_LENGTH)[present], _RESERVED)
    context: dict[str, Any] = {}
    spo2_context: Mapping[str, Any] = context
    pulse_context: Mapping[str, Any] = context
    if is_spot:
        measurement, sensor, at = _status(payload, 12 if present & 0x01 else 5, present >> 1, context)
        time_ns, clock, seq = _spot_time(message, bool(measurement & _FROM_STORAGE), output)
        has_index = present & 0x08
    else:
        at = 5 + 4 * (present & 1) + 4 * (present >> 1 & 1)
        measurement, sensor, at = _status(payload, at, present >> 2, context)
        clock = SourceClock.STORED if measurement & _FROM_STORAGE else SourceClock.NONE
        time_ns, seq = message.received_ns, message.ordinal
        has_index = present & 0x10
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    if not is_spot and present & 0x03:
        spo2_averages, pulse_averages = _averages(payload, present)
        spo2_context, pulse_context = context | spo2_averages, context | pulse_averages
    if sensor & _EVENT_MASK:
        output.event(message, EventKind.SENSOR_STATUS, gatt.bit_names(sensor, _SENSOR_EVENTS))
    values = [
        (_SPO2, _word(payload, 1), _PERCENT, spo2_context),
        (_PULSE_RATE, _word(payload, 3), _PER_MINUTE, pulse_context),
    ]
    if has_index:
        values.append((_PERF_INDEX, _word(payload, at), _PERCENT, context))
    if measurement & _ABSENT_MASK:
        why = gatt.bit_names(measurement, _ABSENT)
        for vital, *_ in values:
            output.event(message, EventKind.VALUE_ABSENT, why, vital)
        return
    flags = 0
    if measurement & _MEASUREMENT_MASK or sensor & _SENSOR_MASK:
        flags = gatt.bit_flags(measurement, _MEASUREMENT_FLAGS) | gatt.bit_flags(sensor, _SENSOR_FLAGS)
    for vital, word, unit, its_context in values:
        output.sfloat(
            index, message, vital, word, unit, time_ns, clock=clock, seq=seq, flags=flags, context=its_context
        )  # fmt: skip


_KINDS: Final = MappingProxyType(
    {
        "2a5e": SPOT_CHECK,
        "2A5E": SPOT_CHECK,
        "2a5f": CONTINUOUS,
        "2A5F": CONTINUOUS,
    }
)


def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
    """SpO2, pulse rate and perfusion index; events for absent values and a probe that is off or broken."""
    return gatt.decode_each(messages, _KINDS, _parse)


ADAPTER = Adapter(
    name="ble_plx",
    version=1,
    title="Bluetooth pulse oximeter",
    kinds=MappingProxyType(
        {
            "2a5e": "PLX Spot-check Measurement characteristic, binary",
            "2a5f": "PLX Continuous Measurement characteristic, binary",
        }
    ),
    vitals=frozenset({"spo2", "pulse_rate", "perf_index"}),
    decode=decode,
    max_payload=gatt.MAX_PAYLOAD,
    files=MappingProxyType({"2a5e": Packets()}),
)
