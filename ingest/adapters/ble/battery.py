"""Bluetooth Battery Level 0x2A19 of devices whose readings come by another way (device-formats.md 2.12).

Layout: level u8 in percent; 101 to 255 are no level.

Identity: none. A level is an event at the time of receipt, not a reading.
"""

from collections.abc import Sequence
from typing import Final

from ingest.adapter import Adapter, Context, Decoded
from ingest.adapters.ble import carriage, gatt
from vitals.model import Message

_CARRIAGE: Final = carriage.carriage({}, default=gatt.BATTERY_LEVEL)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Battery events, no readings."""
    return carriage.decode_each(messages, contexts, _CARRIAGE)


ADAPTER = Adapter(
    name="ble_battery",
    version=2,
    title="Bluetooth battery level",
    kinds=carriage.kinds({}, default="2a19"),
    vitals=frozenset(),
    decode=decode,
    max_payload=carriage.MAX_PAYLOAD,
    files=carriage.files("2a19"),
)
