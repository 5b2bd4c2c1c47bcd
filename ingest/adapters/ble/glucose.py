"""Bluetooth Glucose Measurement 0x2A18 and its Context 0x2A34: glucometers (device-formats.md 2.2, 2.3).

Layout of 2A18: flags u8, sequence u16, base time (7 bytes), [time offset s16 min], [concentration SFLOAT in kg/L or
mol/L, type and location], [sensor status u16].

Identity (device-formats.md 8.4): sequence number and **base time**, wall time read as UTC, never the user-facing one:
base time stays on one line when the user changes the clock. The user-facing time is base time plus
``context["time_offset_min"]``, which the clock stage adds. A
user-facing time that cannot be known leaves only the order, clock STORED: with a time fault (status bit 11) or an
offset that ran over the base time stays the identity, a base time that is unknown or impossible becomes 0.

A context joins the reading of the same device and sequence number: in one micro-batch its members stand in the
reading's context. Apart from its reading it is a ``context`` event whose detail is JSON, ``{"seq": 12, "meal": ...}``,
with the same members (``ble_glucose_context``).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt, glucose_context
from ingest.adapters.ble.glucose_context import GLUCOSE_CONTEXT
from vitals.glossary import EventKind, Flag
from vitals.model import Message

GLUCOSE_MEASUREMENT: Final = 0x2A18
_RESERVED: Final = 0xE0
_LENGTH: Final = tuple(10 + 2 * (f & 1) + 3 * (f >> 1 & 1) + 2 * (f >> 3 & 1) for f in range(256))
_UNIT: Final = (unit_code("kg/L"), unit_code("mol/L"))
_NOT_A_NUMBER: Final = 0x07FF

_BLOOD: Final = vital_code("glucose_bg")
_INTERSTITIAL: Final = vital_code("glucose_isf")
_UNDETERMINED: Final = vital_code("glucose")
_CONTROL_SAMPLE: Final = 10
_CONTROL_LOCATION: Final = 4

_SAMPLES: Final[Mapping[int, tuple[str, int]]] = MappingProxyType(
    {
        1: ("capillary_whole_blood", _BLOOD),
        2: ("capillary_plasma", _BLOOD),
        3: ("venous_whole_blood", _BLOOD),
        4: ("venous_plasma", _BLOOD),
        5: ("arterial_whole_blood", _BLOOD),
        6: ("arterial_plasma", _BLOOD),
        7: ("undetermined_whole_blood", _UNDETERMINED),
        8: ("undetermined_plasma", _UNDETERMINED),
        9: ("interstitial_fluid", _INTERSTITIAL),
        _CONTROL_SAMPLE: ("control_solution", _UNDETERMINED),
    }
)
_SITES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "finger",
        2: "alternate_site",
        3: "earlobe",
        _CONTROL_LOCATION: "control_solution",
        15: "not_available",
    }
)
_FAULTS: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "sensor_malfunction",
        2: "sample_insufficient",
        3: "strip_insertion_error",
        4: "strip_type_incorrect",
        9: "read_interrupted",
        10: "general_device_fault",
    }
)
_TEMPERATURE: Final[Mapping[int, str]] = MappingProxyType(
    {
        7: "sensor_temperature_too_high",
        8: "sensor_temperature_too_low",
    }
)
_STATUS_EVENTS: Final[Mapping[int, str]] = MappingProxyType({**_FAULTS, **_TEMPERATURE})
_BATTERY_LOW: Final = 1 << 0
_TIME_FAULT: Final = 1 << 11
_CONTROL_SOLUTION: Final = int(Flag.CONTROL_SOLUTION)
_CLOCK_SUSPECT: Final = int(Flag.CLOCK_SUSPECT)
_STATUS_FLAGS: Final[Mapping[int, int]] = MappingProxyType(
    {
        **dict.fromkeys(_FAULTS, int(Flag.SENSOR_FAULT)),
        5: gatt.ABOVE_RANGE,
        6: gatt.BELOW_RANGE,
        **dict.fromkeys(_TEMPERATURE, int(Flag.LOW_QUALITY)),
        11: _CLOCK_SUSPECT,
    }
)
_EVENT_MASK: Final = sum(1 << bit for bit in _STATUS_EVENTS)
_OFFSET_OVERRUN: Final = 0x7FFF
_OFFSET_UNDERRUN: Final = -0x8000


def _status_events(packet: gatt.Packet, status: int, output: gatt.Output) -> None:
    if status & _BATTERY_LOW:
        output.event(packet, EventKind.BATTERY, "low")
    if status & _EVENT_MASK:
        output.event(packet, EventKind.SENSOR_STATUS, gatt.bit_names(status, _STATUS_EVENTS))
    if status & _TIME_FAULT:
        output.event(packet, EventKind.CLOCK_FAULT, "time_fault")


def _offset(payload: bytes, context: dict[str, Any]) -> bool:
    """Note the time offset in the context; False when it ran over, so that the user-facing time is unknown."""
    minutes = int.from_bytes(payload[10:12], "little", signed=True)
    if minutes in (_OFFSET_OVERRUN, _OFFSET_UNDERRUN):
        return False
    context["time_offset_min"] = minutes
    return True


def _time(packet: gatt.Packet, flags: int, is_offset_known: bool, output: gatt.Output) -> tuple[int, SourceClock]:
    """Base time and clock; an event when the user-facing time cannot be known."""
    base_ns = gatt.date_time(packet.payload, 3)
    if base_ns is None:
        output.event(packet, EventKind.CLOCK_FAULT, "base_time_unknown")
        return 0, gatt.STORED
    if not is_offset_known:
        output.event(packet, EventKind.CLOCK_FAULT, "time_offset_out_of_range")
        return base_ns, gatt.STORED
    return base_ns, gatt.STORED if flags & _CLOCK_SUSPECT else gatt.WALL


def _sample(octet: int, context: dict[str, Any]) -> tuple[int, int]:
    """Vital and flags of the type and location octet, noted in the context."""
    kind, location = octet & 0x0F, octet >> 4
    sample, vital = _SAMPLES.get(kind, (f"reserved_{kind}", _UNDETERMINED))
    context["sample"] = sample
    context["site"] = _SITES.get(location) or f"reserved_{location}"
    is_control = kind == _CONTROL_SAMPLE or location == _CONTROL_LOCATION
    return vital, _CONTROL_SOLUTION if is_control else 0


def _fits(payload: bytes) -> bool:
    return len(payload) == _LENGTH[payload[0]]


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _LENGTH[present]:
        raise gatt.wrong_length(payload, _LENGTH[present], present & _RESERVED)
    context: dict[str, Any] = {}
    flags, word, vital, at, is_offset_known = 0, _NOT_A_NUMBER, _UNDETERMINED, 10, True
    if present & 0x01:
        is_offset_known = _offset(payload, context)
        at = 12
    if present & 0x02:
        word = payload[at] | payload[at + 1] << 8
        vital, flags = _sample(payload[at + 2], context)
        at += 3
    if present & 0x08:
        status = payload[at] | payload[at + 1] << 8
        if status:
            context["status"] = f"0x{status:04x}"
            flags |= gatt.bit_flags(status, _STATUS_FLAGS)
            _status_events(packet, status, output)
    if present & 0x10:
        context["context_follows"] = True
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    gatt.note_hub(packet, context)
    base_ns, clock = _time(packet, flags, is_offset_known, output)
    if not present & 0x02 and not flags & gatt.OUT_OF_RANGE:
        output.event(packet, EventKind.VALUE_ABSENT, "no_concentration", vital)
        return
    seq = payload[1] | payload[2] << 8
    if output.sfloat(packet, vital, word, _UNIT[present >> 2 & 1], base_ns, clock, seq, flags, context):
        glucose_context.join_reading(packet, seq, context, output)


_CARRIAGE: Final = carriage.carriage(
    {GLUCOSE_MEASUREMENT: gatt.Profile(_fits, _parse), GLUCOSE_CONTEXT: glucose_context.PROFILE},
    default=GLUCOSE_MEASUREMENT,
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings in kg/L or mol/L as the meter reports them, events for its status bits and absent values."""
    output = carriage.collect(messages, contexts, _CARRIAGE)
    glucose_context.tell_the_rest(output)
    return output.decoded()


ADAPTER = Adapter(
    name="ble_glucose",
    version=3,
    title="Bluetooth glucometer",
    kinds=carriage.kinds({"2a18": "Glucose Measurement", "2a34": "Glucose Measurement Context"}, default="2a18"),
    vitals=frozenset({"glucose_bg", "glucose_isf", "glucose"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    settings=glucose_context.SETTINGS,
    files=carriage.files("2a18"),
)
