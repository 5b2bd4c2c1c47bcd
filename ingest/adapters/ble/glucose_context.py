"""Bluetooth Glucose Measurement Context 0x2A34: meal, exercise, medication beside a glucose reading (device-formats.md
2.3).

Layout: flags u8, sequence u16, [extended flags u8], [carbohydrate id u8, mass SFLOAT], [meal u8], [tester and health],
[exercise duration u16 s, intensity u8 %], [medication id u8, amount SFLOAT], [HbA1c SFLOAT %].

Members: ``carbohydrate``, ``carbohydrate_g``, ``meal``, ``tester``, ``health``, ``exercise_s``, ``exercise_percent``,
``medication``, ``medication_mg`` or ``medication_ml``, ``hba1c_percent``; ``exercise`` is ``overrun`` when it lasted
too long to tell, ``scale_suspect`` says that the carbohydrate mass cannot be kilograms.

The record has no time: it joins the measurement of the same device and sequence number, whichever comes first.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.adapters.ble import gatt
from ingest.adapters.ble.medfloat import SFLOAT, SFLOAT_SPECIALS, scaled_sfloat
from vitals.glossary import EventKind

GLUCOSE_CONTEXT: Final = 0x2A34
SCALE_SETTING: Final = "context_scale"
_PLAIN, _SMALL = "kg_l", "g_mg_ml"
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        SCALE_SETTING: f"what the amounts of a Glucose Measurement Context are in: `{_PLAIN}` (kilograms and litres,"
        f" the default) or `{_SMALL}` (carbohydrate in g, medication in mg or mL)"
    }
)

_LENGTH: Final = tuple(
    3 + (f >> 7) + 3 * (f & 1) + (f >> 1 & 1) + (f >> 2 & 1) + 3 * (f >> 3 & 1) + 3 * (f >> 4 & 1) + 2 * (f >> 6 & 1)
    for f in range(256)
)
_OVERRUN: Final = 0xFFFF
_MOST_KG: Final = 1.0


def _words(number: int, *names: str) -> tuple[str, ...]:
    """Names of the codes 1, 2 ... of ``number`` codes; the others are reserved."""
    return tuple(names[code - 1] if 0 < code <= len(names) else f"reserved_{code}" for code in range(number))


_CARBOHYDRATES: Final = _words(256, "breakfast", "lunch", "dinner", "snack", "drink", "supper", "brunch")
_MEALS: Final = _words(256, "preprandial", "postprandial", "fasting", "casual", "bedtime")
_TESTERS: Final = (*_words(15, "self", "professional", "laboratory"), "not_available")
_HEALTH: Final = (
    *_words(15, "minor_issue", "major_issue", "menses", "stress", "no_issue"), "not_available",
)  # fmt: skip
_MEDICATIONS: Final = _words(
    256, "rapid_acting_insulin", "short_acting_insulin", "intermediate_acting_insulin", "long_acting_insulin",
    "premixed_insulin",
)  # fmt: skip


def _fits(payload: bytes) -> bool:
    return len(payload) == _LENGTH[payload[0]]


def _amount(
    packet: gatt.Packet, at: int, power: int, name: str, members: dict[str, Any], output: gatt.Output
) -> None:  # fmt: skip
    """Note an SFLOAT times 10^``power`` under ``name``; an event when it is no number."""
    word = gatt.word(packet.payload, at)
    if word in SFLOAT_SPECIALS:
        output.event(packet, EventKind.VALUE_ABSENT, f"{name}:{SFLOAT_SPECIALS[word].value}")
    else:
        members[name] = scaled_sfloat(word, power)


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _LENGTH[present]:
        raise gatt.wrong_length(payload, _LENGTH[present], 0)
    small = gatt.choice(packet.settings.get(SCALE_SETTING), SCALE_SETTING, (_PLAIN, _SMALL)) == _SMALL
    members: dict[str, Any] = {}
    at = 3
    if present & 0x80:
        if payload[3]:
            members["extended_flags"] = f"0x{payload[3]:02x}"
        at = 4
    if present & 0x01:
        members["carbohydrate"] = _CARBOHYDRATES[payload[at]]
        _amount(packet, at + 1, 0 if small else 3, "carbohydrate_g", members, output)
        if not small and SFLOAT[gatt.word(payload, at + 1)] > _MOST_KG:
            members["scale_suspect"] = True
        at += 3
    if present & 0x02:
        members["meal"] = _MEALS[payload[at]]
        at += 1
    if present & 0x04:
        members["tester"], members["health"] = _TESTERS[payload[at] & 0x0F], _HEALTH[payload[at] >> 4]
        at += 1
    if present & 0x08:
        _exercise(payload, at, members)
        at += 3
    if present & 0x10:
        members["medication"] = _MEDICATIONS[payload[at]]
        unit, power = ("ml", 3) if present & 0x20 else ("mg", 6)
        _amount(packet, at + 1, 0 if small else power, f"medication_{unit}", members, output)
        at += 3
    if present & 0x40:
        _amount(packet, at, 0, "hba1c_percent", members, output)
    _join_context(packet, gatt.word(payload, 1), members, output)


def _exercise(payload: bytes, at: int, members: dict[str, Any]) -> None:
    seconds = gatt.word(payload, at)
    if seconds == _OVERRUN:
        members["exercise"] = "overrun"
    else:
        members["exercise_s"] = seconds
    members["exercise_percent"] = payload[at + 2]


PROFILE: Final = gatt.Profile(_fits, _parse)


def join_reading(packet: gatt.Packet, seq: int, context: dict[str, Any], output: gatt.Output) -> None:
    """Give a reading the context that came before it in the micro-batch; the next one finds the reading."""
    key = packet.message.device, seq
    earlier = output.memory.get(key)
    if earlier.__class__ is tuple:
        context |= earlier[1]
    output.memory[key] = context


def _join_context(packet: gatt.Packet, seq: int, members: dict[str, Any], output: gatt.Output) -> None:
    key = packet.message.device, seq
    earlier = output.memory.get(key)
    if earlier.__class__ is dict:
        earlier |= members
        return
    if earlier is not None:
        members = earlier[1] | members
    output.memory[key] = packet, members


def tell_the_rest(output: gatt.Output) -> None:
    """An event for each context whose reading is not in the micro-batch."""
    for key, kept in output.memory.items():
        if kept.__class__ is tuple:
            packet, members = kept
            detail = msgspec.json.encode({"seq": key[1], **members}).decode()
            output.event(packet, EventKind.CONTEXT, detail)
