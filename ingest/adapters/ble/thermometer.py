"""Bluetooth Temperature Measurement 0x2A1C: thermometers (device-formats.md 2.9).

Layout: flags u8, temperature FLOAT (4 bytes) in Cel or [degF], [Date Time], [type u8]. The type is the site.

Identity: the device's timestamp as sent, ``seq`` 0; without one the receipt time and the message's ordinal. A timestamp
with unknown parts leaves only the order, clock STORED.
"""

from collections.abc import Sequence
from typing import Any, Final

from ingest.adapter import Adapter, Context, Decoded, unit_code, vital_code
from ingest.adapters.ble import carriage, gatt
from ingest.adapters.ble.medfloat import FLOAT_SPECIALS, float32
from vitals.model import Message

TEMPERATURE_MEASUREMENT: Final = 0x2A1C
_RESERVED: Final = 0xF8
_LENGTH: Final = tuple(5 + 7 * (f >> 1 & 1) + (f >> 2 & 1) for f in range(256))
_UNIT: Final = (unit_code("Cel"), unit_code("[degF]"))
_TEMPERATURE: Final = vital_code("temp")
_SITES: Final = (
    "reserved_0", "armpit", "body", "ear", "finger", "gastrointestinal", "mouth", "rectum", "toe", "tympanum",
    *(f"reserved_{code}" for code in range(10, 256)),
)  # fmt: skip


def _fits(payload: bytes) -> bool:
    return len(payload) == _LENGTH[payload[0]]


def _parse(packet: gatt.Packet, output: gatt.Output) -> None:
    payload = packet.payload
    present = payload[0]
    if len(payload) != _LENGTH[present]:
        raise gatt.wrong_length(payload, _LENGTH[present], present & _RESERVED)
    context: dict[str, Any] = {}
    if present & 0x04:
        context["site"] = _SITES[payload[12 if present & 0x02 else 5]]
    if present & _RESERVED:
        context["reserved_flags"] = f"0x{present & _RESERVED:02x}"
    identity = gatt.stamp(packet, 5 if present & 0x02 else None, context, output)
    word = int.from_bytes(payload[1:5], "little")
    unit = _UNIT[present & 1]
    special = FLOAT_SPECIALS.get(word)
    if special is not None:
        output.special(packet, _TEMPERATURE, special, unit, *identity, 0, context)
        return
    time_ns, clock, seq = identity
    output.readings.add(
        packet.index, _TEMPERATURE, float32(word), unit, time_ns, clock=clock, seq=seq, context=context
    )  # fmt: skip


_CARRIAGE: Final = carriage.carriage(
    {TEMPERATURE_MEASUREMENT: gatt.Profile(_fits, _parse)}, default=TEMPERATURE_MEASUREMENT
)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Body temperature in Cel or [degF] as the thermometer reports it, with its site."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_thermometer",
    version=2,
    title="Bluetooth thermometer",
    kinds=carriage.kinds({"2a1c": "Temperature Measurement"}, default="2a1c"),
    vitals=frozenset({"temp"}),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    files=carriage.files("2a1c"),
)
