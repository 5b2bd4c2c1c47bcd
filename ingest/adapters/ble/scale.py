"""Bluetooth Weight Measurement 0x2A9D and Body Composition Measurement 0x2A9C: scales (device-formats.md 2.10, 2.11).

Layout of 2A9D: flags u8, weight u16, [Date Time], [user id u8], [BMI u16, height u16]. Of 2A9C: flags u16, body fat
u16, [Date Time], [user id u8], [basal metabolism u16], [muscle percentage u16], [muscle, fat-free, soft lean and body
water mass u16 each], [impedance u16], [weight u16], [height u16]. Masses are in 0.005 kg or 0.01 lb, heights in mm or
0.1 in.

Identity: the device's timestamp as sent, ``seq`` 0; without one the receipt time and the message's ordinal. A timestamp
with unknown parts leaves only the order, clock STORED.

Values with no vital of their own are context of the first reading: ``basal_metabolism_kj``, ``muscle_percent``,
``muscle_mass``, ``fat_free_mass``, ``soft_lean_mass``, ``body_water_mass`` (each with ``_kg`` or ``_lb``),
``impedance_ohm``. Without a reading they are a ``context`` event with the same members as JSON.

A composition of two packets (flag bit 12): the second takes time and user of the first, when both are in one
micro-batch within 5 s; the setting ``multiple_packets`` can switch that off. A packet of two that stands alone and
names neither time nor user cannot be told from the second half of somebody else's: its order is known, its time is
not, clock STORED.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.adapter import Adapter, Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag
from vitals.model import Message
from vitals.times import SECOND_NS

WEIGHT_MEASUREMENT: Final = 0x2A9D
BODY_COMPOSITION: Final = 0x2A9C
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **gatt.SETTINGS,
        "all_ones": "what a weight or body fat of 0xFFFF means: `absent` (an unsuccessful measurement, the default) or"
        " `number` (the value as it stands, of low quality)",
        "multiple_packets": "a body composition in two packets: `join` (the second takes time and user of the first"
        " within 5 s, the default) or `separate`",
    }
)
JOIN_NS: Final = 5 * SECOND_NS

_WEIGHT: Final = vital_code("weight")
_BMI: Final = vital_code("bmi")
_HEIGHT: Final = vital_code("height")
_BODY_FAT: Final = vital_code("body_fat")
_PERCENT: Final = unit_code("%")
_KG_M2: Final = unit_code("kg/m2")
_MASS_UNIT: Final = (unit_code("kg"), unit_code("[lb_av]"))
_HEIGHT_UNIT: Final = (unit_code("m"), unit_code("[in_i]"))
# Divided, not multiplied by 0.005: one rounding, to the nearest float64 of the decimal.
_PER_MASS: Final = (200, 100)
_PER_HEIGHT: Final = (1000, 10)
_MASS_SUFFIX: Final = ("_kg", "_lb")
_ALL_ONES: Final = 0xFFFF
_LOW_QUALITY: Final = int(Flag.LOW_QUALITY)

_WEIGHT_RESERVED: Final = 0xF0
_WEIGHT_LENGTH: Final = tuple(3 + 7 * (f >> 1 & 1) + (f >> 2 & 1) + 4 * (f >> 3 & 1) for f in range(256))
_COMPOSITION_RESERVED: Final = 0xE000
_MULTIPLE: Final = 1 << 12
_HAS_TIME: Final = 1 << 1
_HAS_USER: Final = 1 << 2
_HAS_WEIGHT: Final = 1 << 10
_HAS_HEIGHT: Final = 1 << 11
_FIELDS: Final = 0x0FF8
"""Flags of the u16 fields."""
_EXTRAS: Final = ((3, "basal_metabolism_kj", 1), (4, "muscle_percent", 10))
_MASSES: Final = ((5, "muscle_mass"), (6, "fat_free_mass"), (7, "soft_lean_mass"), (8, "body_water_mass"))
_IMPEDANCE: Final = (9, "impedance_ohm", 10)

_Identity = tuple[int, SourceClock, int]


def _fits_weight(payload: bytes) -> bool:
    return len(payload) == _WEIGHT_LENGTH[payload[0]]


def _composition_length(payload: bytes) -> int:
    present = gatt.word(payload, 0) if len(payload) > 1 else 0
    return 4 + 7 * (present >> 1 & 1) + (present >> 2 & 1) + 2 * (present & _FIELDS).bit_count()


def _fits_composition(payload: bytes) -> bool:
    return len(payload) == _composition_length(payload)


def _add(
    packet: gatt.Packet, vital: int, raw: int, per_unit: int, unit: int, identity: _Identity, context: dict[str, Any],
    output: gatt.Output, *, may_fail: bool = False,
) -> bool:  # fmt: skip
    """Add ``raw / per_unit``; whether there is a reading of it. All ones may stand for a failed measurement."""
    flags = 0
    if may_fail and raw == _ALL_ONES:
        if gatt.choice(packet.settings.get("all_ones"), "all_ones", ("absent", "number")) == "absent":
            output.event(packet, EventKind.VALUE_ABSENT, "measurement_unsuccessful", vital)
            return False
        flags = _LOW_QUALITY
    time_ns, clock, seq = identity
    output.readings.add(
        packet.index, vital, raw / per_unit, unit, time_ns, clock=clock, seq=seq, flags=flags, context=context
    )  # fmt: skip
    return True


def _parse_weight(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _WEIGHT_LENGTH[present]:
        raise gatt.wrong_length(payload, _WEIGHT_LENGTH[present], present & _WEIGHT_RESERVED)
    context: dict[str, Any] = {}
    at = 10 if present & 0x02 else 3
    if present & 0x04:
        gatt.check_user(packet, payload[at], context)
        at += 1
    if present & _WEIGHT_RESERVED:
        context["reserved_flags"] = f"0x{present & _WEIGHT_RESERVED:02x}"
    identity = gatt.stamp(packet, 3 if present & 0x02 else None, context, output)
    imperial = present & 1
    _add(
        packet, _WEIGHT, payload[1] | payload[2] << 8, _PER_MASS[imperial], _MASS_UNIT[imperial], identity, context,
        output, may_fail=True,
    )  # fmt: skip
    if present & 0x08:
        bmi, height = gatt.word(payload, at), gatt.word(payload, at + 2)
        _add(packet, _BMI, bmi, 10, _KG_M2, identity, context, output)
        _add(packet, _HEIGHT, height, _PER_HEIGHT[imperial], _HEIGHT_UNIT[imperial], identity, context, output)


@dataclass(frozen=True, slots=True)
class _Half:
    """The first of two packets: who and when, the context of its reading if it gave one, or why it was refused."""

    received_ns: int
    identity: _Identity = (0, gatt.STORED, 0)
    user: int | str | None = None
    context: dict[str, Any] | None = None
    refused: DecodeError | None = None


def _first_half(packet: gatt.Packet, present: int, output: gatt.Output) -> _Half | None:
    """The first packet that this one completes, None when it is a first one itself: a second names nobody and no time,
    or the same time."""
    chosen = packet.settings.get("multiple_packets")
    if gatt.choice(chosen, "multiple_packets", ("join", "separate")) == "separate":
        return None
    half: _Half | None = output.memory.pop(packet.message.device, None)
    if half is None or packet.message.received_ns - half.received_ns > JOIN_NS:
        return None
    if present & _HAS_TIME:
        return half if gatt.date_time(packet.payload, 4) == half.identity[0] else None
    return None if present & _HAS_USER else half


def _parse_composition(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    expected = _composition_length(payload)
    if len(payload) != expected:
        reserved = len(payload) > 1 and gatt.word(payload, 0) & _COMPOSITION_RESERVED
        raise gatt.wrong_length(payload, expected, reserved)
    present = gatt.word(payload, 0)
    context: dict[str, Any] = {}
    if present & _COMPOSITION_RESERVED:
        context["reserved_flags"] = f"0x{present & _COMPOSITION_RESERVED:04x}"
    half = None
    if present & _MULTIPLE:
        context["multiple_packets"] = True
        half = _first_half(packet, present, output)
    try:
        at = _who(packet, present, half, context)
    except DecodeError as problem:
        if present & _MULTIPLE and half is None:
            output.memory[packet.message.device] = _Half(packet.message.received_ns, refused=problem)
        raise
    identity = _when(packet, present, half, context, output)
    extras, at = _extras(payload, at, present)
    if half is not None and half.context is not None:
        half.context.update(extras)
        extras = {}
    # All ones in a second packet say that the body fat was in the first.
    is_told = half is not None and half.context is not None and gatt.word(payload, 2) == _ALL_ONES
    if not _add_composition(packet, present, at, identity, context, extras, is_told, output):
        if extras:
            output.event(packet, EventKind.CONTEXT, msgspec.json.encode(context | extras).decode())
        context = {}
    if present & _MULTIPLE and half is None:
        output.memory[packet.message.device] = _Half(
            packet.message.received_ns, identity, context.get("user"), context or None
        )  # fmt: skip


def _who(packet: gatt.Packet, present: int, half: _Half | None, context: dict[str, Any]) -> int:
    """Offset after time and user; raises ``DecodeError`` for somebody else's value."""
    at = 11 if present & _HAS_TIME else 4
    if present & _HAS_USER:
        gatt.check_user(packet, packet.payload[at], context)
        return at + 1
    if half is not None and half.refused is not None:
        raise half.refused
    if half is not None and half.user is not None:
        context["user"] = half.user
    return at


def _when(
    packet: gatt.Packet, present: int, half: _Half | None, context: dict[str, Any], output: gatt.Output
) -> _Identity:  # fmt: skip
    if present & _HAS_TIME:
        return gatt.stamp(packet, 4, context, output)
    if half is not None:
        return half.identity
    if present & _MULTIPLE and not present & _HAS_USER:
        gatt.note_hub(packet, context)
        return packet.message.received_ns, gatt.STORED, packet.seq
    return gatt.stamp(packet, None, context, output)


def _add_composition(
    packet: gatt.Packet, present: int, at: int, identity: _Identity, context: dict[str, Any], extras: dict[str, Any],
    is_told: bool, output: gatt.Output,
) -> bool:  # fmt: skip
    """Add body fat unless ``is_told``, and weight and height from offset ``at`` on; whether there is a reading.

    The first one has ``extras`` in its context, which is ``context`` itself.
    """
    payload, imperial = packet.payload, present & 1
    plain = dict(context)
    context |= extras
    found = not is_told and _add(
        packet, _BODY_FAT, gatt.word(payload, 2), 10, _PERCENT, identity, context, output, may_fail=True
    )  # fmt: skip
    if present & _HAS_WEIGHT:
        found |= _add(
            packet, _WEIGHT, gatt.word(payload, at), _PER_MASS[imperial], _MASS_UNIT[imperial], identity,
            plain if found else context, output, may_fail=True,
        )  # fmt: skip
        at += 2
    if present & _HAS_HEIGHT:
        found |= _add(
            packet, _HEIGHT, gatt.word(payload, at), _PER_HEIGHT[imperial], _HEIGHT_UNIT[imperial], identity,
            plain if found else context, output,
        )  # fmt: skip
    return found


def _extras(payload: bytes, at: int, present: int) -> tuple[dict[str, Any], int]:
    """The fields from offset ``at`` on that have no vital of their own, and the offset after them."""
    extras: dict[str, Any] = {}
    if not present & 0x03F8:
        return extras, at
    for bit, name, per_unit in _EXTRAS:
        if present >> bit & 1:
            extras[name] = gatt.word(payload, at) / per_unit
            at += 2
    imperial = present & 1
    for bit, mass in _MASSES:
        if present >> bit & 1:
            extras[mass + _MASS_SUFFIX[imperial]] = gatt.word(payload, at) / _PER_MASS[imperial]
            at += 2
    bit, name, per_unit = _IMPEDANCE
    if present >> bit & 1:
        extras[name] = gatt.word(payload, at) / per_unit
        at += 2
    return extras, at


_CARRIAGE: Final = carriage.carriage(
    {
        WEIGHT_MEASUREMENT: gatt.Profile(_fits_weight, _parse_weight),
        BODY_COMPOSITION: gatt.Profile(_fits_composition, _parse_composition),
    }
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Weight, BMI, height and body fat in the units of the scale; what else it measures is context."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_scale",
    version=2,
    title="Bluetooth weight scale and body composition analyser",
    kinds=carriage.kinds({"2a9d": "Weight Measurement", "2a9c": "Body Composition Measurement"}),
    vitals=frozenset({"weight", "bmi", "height", "body_fat"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    settings=SETTINGS,
    files=carriage.files("2a9d"),
)
