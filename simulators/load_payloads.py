"""Payloads of the load: bytes of a fixed length that differ in values, time and ``seq`` only."""

import struct
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

FIRST_SEQ: Final = 1_000_000_001
"""``seq`` of a device's first message: as wide as every later one, so that frames keep their length."""
_NUMBERS: Final = 65_535
"""Sequence numbers of a meter, which has 16 bits for them: 1 to 65,535."""

_JSON_SPO2 = b'{"vital":"spo2","value":%d,"unit":"%%","time":%d,"seq":%d}'
_JSON_HEART = b'{"vital":"heart_rate","value":%d,"unit":"/min","time":%d,"seq":%d}'
_JSON2 = b"[" + _JSON_HEART + b"," + _JSON_SPO2 + b"]"


class Payload(NamedTuple):
    """A kind of payload: the topic's last levels; the bytes of (number of the device's message from 0, time in epoch
    ms, whether it violates a limit); and the ``seq`` that the ledger names."""

    adapter: str
    kind: str
    body: Callable[[int, int, bool], bytes]
    seq: Callable[[int], int]


def _json1(number: int, time_ms: int, alarm: bool) -> bytes:
    return _JSON_SPO2 % (85 if alarm else 94 + number % 6, time_ms, FIRST_SEQ + number)


def _json2(number: int, time_ms: int, alarm: bool) -> bytes:
    seq, spo2 = FIRST_SEQ + number, 85 if alarm else 94 + number % 6
    return _JSON2 % (60 + number % 40, time_ms, seq, spo2, time_ms, seq)


def _seq16(number: int) -> int:
    return number % _NUMBERS + 1


def _glucose(number: int, time_ms: int, alarm: bool) -> bytes:
    """2A18: flags 0x02 (concentration in kg/L, type and location), device-formats.md 2.2; the alarm is 45 mg/dL."""
    concentration = 0xB000 | (45 if alarm else 90 + number % 40)  # SFLOAT, times 10**-5 kg/L: mg/dL
    return struct.pack("<BHH5BHB", 0x02, _seq16(number), *time.gmtime(time_ms / 1000)[:6], concentration, 0x11)


def _heart_rate(number: int, _time_ms: int, alarm: bool) -> bytes:
    """2A37 with an 8-bit rate (device-formats.md 2.7); the alarm is 30 beats per minute."""
    return bytes((0, 30 if alarm else 60 + number % 40))


def _wide(number: int) -> int:
    return FIRST_SEQ + number


PAYLOADS: Final[Mapping[str, Payload]] = MappingProxyType(
    {
        "json2": Payload("json", "", _json2, _wide),
        "json1": Payload("json", "", _json1, _wide),
        "glucose": Payload("ble_glucose", "2a18", _glucose, _seq16),
        "hr": Payload("ble_heart_rate", "2a37", _heart_rate, _wide),
    }
)
"""``json2``: two readings of about 150 bytes; ``hr`` carries no number, so its ledger counts messages."""
