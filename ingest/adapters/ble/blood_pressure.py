"""Bluetooth Blood Pressure Measurement 0x2A35: cuffs (device-formats.md 2.8).

Layout: flags u8, systolic, diastolic and mean SFLOAT in mm[Hg] or kPa, [Date Time], [pulse rate SFLOAT], [user id u8],
[measurement status u16].

Identity: the device's timestamp as sent, ``seq`` 0; without one the receipt time and the message's ordinal. A timestamp
with unknown parts leaves only the order, clock STORED: cuffs send their memory too.

A failed measurement comes as values that are no number: an event each. NaN in one does not discard the others. The
pulse range bits make a pulse rate without a number one above or below the range; beside a number they are context.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from ingest.adapters.ble.medfloat import SFLOAT_SPECIALS
from vitals.glossary import Flag
from vitals.model import Message

BLOOD_PRESSURE_MEASUREMENT: Final = 0x2A35
_RESERVED: Final = 0xE0
_LENGTH: Final = tuple(
    7 + 7 * (f >> 1 & 1) + 2 * (f >> 2 & 1) + (f >> 3 & 1) + 2 * (f >> 4 & 1) for f in range(256)
)  # fmt: skip
_UNIT: Final = (unit_code("mm[Hg]"), unit_code("kPa"))
_PER_MINUTE: Final = unit_code("/min")
_SYSTOLIC: Final = vital_code("bp_sys")
_DIASTOLIC: Final = vital_code("bp_dia")
_MEAN: Final = vital_code("bp_mean")
_PULSE_RATE: Final = vital_code("pulse_rate_nibp")

_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "body_movement",
        1: "cuff_too_loose",
        2: "irregular_pulse",
        5: "improper_position",
    }
)
_POOR: Final = 1 << 0 | 1 << 1 | 1 << 5
_LOW_QUALITY: Final = int(Flag.LOW_QUALITY)
_PULSE_RANGE: Final = ("", "above", "below", "reserved")
_PULSE_RANGE_FLAGS: Final = (0, gatt.ABOVE_RANGE, gatt.BELOW_RANGE, 0)


def _fits(payload: bytes) -> bool:
    return len(payload) == _LENGTH[payload[0]]


def _status(status: int, context: dict[str, Any]) -> tuple[int, int]:
    """Flags of all values and of the pulse rate alone, with the status noted in the context."""
    context["status"] = f"0x{status:04x}"
    findings = gatt.bit_names(status, _STATUS)
    if findings:
        context["findings"] = findings
    pulse_range = status >> 3 & 3
    if pulse_range:
        context["pulse_range"] = _PULSE_RANGE[pulse_range]
    return _LOW_QUALITY if status & _POOR else 0, _PULSE_RANGE_FLAGS[pulse_range]


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _LENGTH[present]:
        raise gatt.wrong_length(payload, _LENGTH[present], present & _RESERVED)
    context: dict[str, Any] = {}
    flags, pulse_flags, pulse_at = 0, 0, 0
    at = 14 if present & 0x02 else 7
    if present & 0x04:
        pulse_at = at
        at += 2
    if present & 0x08:
        gatt.check_user(packet, payload[at], context)
        at += 1
    if present & 0x10:
        status = payload[at] | payload[at + 1] << 8
        if status:
            flags, pulse_flags = _status(status, context)
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    identity = gatt.stamp(packet, 7 if present & 0x02 else None, context, output)
    unit = _UNIT[present & 1]
    output.sfloat(packet, _SYSTOLIC, payload[1] | payload[2] << 8, unit, *identity, flags, context)
    output.sfloat(packet, _DIASTOLIC, payload[3] | payload[4] << 8, unit, *identity, flags, context)
    output.sfloat(packet, _MEAN, payload[5] | payload[6] << 8, unit, *identity, flags, context)
    if pulse_at:
        word = gatt.word(payload, pulse_at)
        if pulse_flags and word not in SFLOAT_SPECIALS:
            pulse_flags = 0
        output.sfloat(packet, _PULSE_RATE, word, _PER_MINUTE, *identity, flags | pulse_flags, context)


_CARRIAGE: Final = carriage.carriage(
    {BLOOD_PRESSURE_MEASUREMENT: gatt.Profile(_fits, _parse)}, default=BLOOD_PRESSURE_MEASUREMENT
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Pressures in mm[Hg] or kPa as the cuff reports them and the cuff's pulse rate; events for absent values."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_blood_pressure",
    version=2,
    title="Bluetooth blood pressure monitor",
    kinds=carriage.kinds({"2a35": "Blood Pressure Measurement"}, default="2a35"),
    vitals=frozenset({"bp_sys", "bp_dia", "bp_mean", "pulse_rate_nibp"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    settings=gatt.SETTINGS,
    files=carriage.files("2a35"),
)
