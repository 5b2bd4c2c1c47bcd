"""Packets of simulated Bluetooth devices against the worked examples of device-formats.md 2 and published vectors."""

# ruff: noqa: DTZ001 - wall times have no zone
import base64
import json
import random
from datetime import datetime

import pytest

from simulators.formats import FORMATS, Sample, packets
from simulators.formats.bluetooth import session_start, uuid_text
from simulators.formats.packets import BodyComposition, GlucoseContext, Wearer
from simulators.wire import SpecialWord
from tests.support import FIXTURES

VECTORS = {vector["name"]: vector for vector in json.loads((FIXTURES / "gatt" / "vectors.json").read_text())["vectors"]}
MORNING = datetime(2024, 3, 10, 7, 1, 20)


def shown(data: bytes) -> str:
    return data.hex(" ").upper()


def test_glucose_context_examples() -> None:
    a = GlucoseContext(meal=1, health=(1, 5))
    b = GlucoseContext((2, "0.060"), 2, exercise=(1800, 40), medication=(1, "50E-6"), litres=True)
    assert shown(packets.glucose_context(12, a)) == "06 0C 00 01 51"
    assert shown(packets.glucose_context(15, b)) == "3B 0F 00 02 3C D0 02 08 07 28 01 32 A0"
    assert shown(packets.glucose_context(1, GlucoseContext(hba1c="6.1"))) == "40 01 00 3D F0"


def test_crc_has_its_published_check_value() -> None:
    assert packets.crc(b"123456789") == bytes.fromhex("916F")


def test_cgm_examples() -> None:
    b = packets.cgm_measurement(68, 610, status=0x02, warning=0x05, trend="-1.4", quality=95, with_crc=True)
    assert shown(packets.cgm_measurement(120, 5)) == "06 00 78 00 05 00"
    assert shown(b) == "0E A3 44 00 62 02 02 05 F2 FF 5F 00 83 E4"
    assert shown(packets.cgm_measurement(120, 5) + packets.cgm_measurement(118, 10)) == (
        "06 00 78 00 05 00 06 00 76 00 0A 00"
    )
    assert shown(packets.cgm_measurement(120, 5, with_crc=True)) == "08 00 78 00 05 00 0D E8"
    assert packets.cgm_measurement("12E1", 6) == bytes.fromhex(VECTORS["cgm_minimal"]["hex"])


def test_cgm_session_start_examples() -> None:
    start = datetime(2024, 3, 10, 6)
    assert shown(packets.cgm_session_start(start, -20, 4)) == "E8 07 03 0A 06 00 00 EC 04"
    assert shown(packets.cgm_session_start(start, -20, 4, with_crc=True)) == "E8 07 03 0A 06 00 00 EC 04 B4 C4"


def test_blood_pressure_examples() -> None:
    nan = SpecialWord.NAN
    a = packets.blood_pressure((123, 88, 99), time=datetime(2016, 11, 15, 15, 52, 36), pulse=80, status=0)
    b = packets.blood_pressure(("16.0", "10.7", nan), kilopascal=True)
    c = packets.blood_pressure((135, 86, 102), time=datetime(2024, 3, 10, 21, 4), pulse=77, user=2, status=5)
    d = packets.blood_pressure((nan, nan, nan), time=datetime(2017, 1, 16, 0, 57, 28), pulse=nan, status=0)
    e = packets.blood_pressure((125, 80, 102), time=datetime(2017, 1, 16, 12, 39, 54), pulse=64, status=0)
    assert shown(a) == "16 7B 00 58 00 63 00 E0 07 0B 0F 0F 34 24 50 00 00 00"
    assert shown(b) == "01 A0 F0 6B F0 FF 07"
    assert shown(c) == "1E 87 00 56 00 66 00 E8 07 03 0A 15 04 00 4D 00 02 05 00"
    assert shown(d) == "16 FF 07 FF 07 FF 07 E1 07 01 10 00 39 1C FF 07 00 00"
    assert shown(e) == "16 7D 00 50 00 66 00 E1 07 01 10 0C 27 36 40 00 00 00"
    vector = packets.blood_pressure(("18.9", "11", "15.9"), kilopascal=True, pulse=60, status=18)
    assert vector == bytes.fromhex(VECTORS["blood_pressure_kpa"]["hex"])


def test_temperature_examples() -> None:
    a = packets.temperature("36.8", time=datetime(2024, 3, 10, 6, 45), site=6)
    assert shown(a) == "06 70 01 00 FF E8 07 03 0A 06 2D 00 06"
    assert shown(packets.temperature("98.60", fahrenheit=True)) == "01 84 26 00 FE"
    assert shown(packets.temperature(SpecialWord.NAN)) == "00 FF FF 7F 00"
    vector = packets.temperature("37.60", time=datetime(2012, 12, 5, 11, 50, 27), site=4)
    assert vector == bytes.fromhex(VECTORS["temperature_celsius"]["hex"])


def test_weight_examples() -> None:
    a = packets.weight(14_500, time=MORNING, user=1, bmi_height=(237, 1750))
    assert shown(a) == "0E A4 38 E8 07 03 0A 07 01 14 01 ED 00 D6 06"
    assert shown(packets.weight(16_000, imperial=True)) == "01 80 3E"
    assert packets.weight(14_000) == bytes.fromhex(VECTORS["weight_si"]["hex"])
    assert packets.weight(15_700, imperial=True) == bytes.fromhex(VECTORS["weight_imperial"]["hex"])


def test_body_composition_examples() -> None:
    a = packets.body_composition(228, Wearer(MORNING), BodyComposition(water=8200, impedance=5120))
    b = packets.body_composition(195, Wearer(), BodyComposition(metabolism=6900, muscle_percent=421, weight=15_000))
    assert shown(a) == "02 03 E4 00 E8 07 03 0A 07 01 14 08 20 00 14"
    assert shown(b) == "18 04 C3 00 F4 1A A5 01 98 3A"
    c = packets.body_composition(195, Wearer(user=2, imperial=True), BodyComposition(height=689))
    assert shown(c) == "05 08 C3 00 02 B1 02"


def test_battery_level_examples() -> None:
    assert shown(packets.battery_level(95)) == "5F"
    assert shown(packets.battery_level(100)) == "64"
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match="0 to 100"):
            packets.battery_level(wrong)


def test_a_characteristic_is_spelled_as_hubs_do() -> None:
    spellings = {uuid_text(0x2A35, random.Random(seed)) for seed in range(100)}
    assert spellings == {"2A35", "2a35", "0x2a35", "10805", "00002a35-0000-1000-8000-00805f9b34fb"}


def test_a_hub_wraps_the_packet_that_it_got() -> None:
    (cuff,) = [of for of in FORMATS if of.adapter == "ble_blood_pressure" and of.kind == "envelope"]
    sample = Sample({"bp_sys": 123.0, "bp_dia": 88.0}, 1_710_059_400_000_000_000, 4, hub_ns=1_710_059_401_500_000_000)
    seen = set()
    for seed in range(40):
        packet = json.loads(cuff.encode(sample, random.Random(seed)))
        assert packet.keys() == {"uuid", "value", "encoding", "ts"}
        assert packet["ts"] in (1_710_059_401_500, "2024-03-10T08:30:01.500Z")
        decode = bytes.fromhex if packet["encoding"] == "hex" else base64.b64decode
        value = decode(packet["value"])
        assert value[7:14] == bytes.fromhex("E807030A081E00")
        assert value[5:7] == bytes.fromhex("FF07"), "no mean"
        seen.add(value[1:5].hex())
    # 123/88 mmHg, and 16.4/11.7 kPa
    assert seen == {"7b005800", "a4f075f0"}


def test_minutes_of_a_session_count_from_its_start() -> None:
    (sensor,) = [of for of in FORMATS if of.kind == "2aa7"]
    sample = Sample({"glucose_isf": 101.4}, 1_710_059_400_000_000_000, 4)
    assert session_start(sample) <= sample.wall()
    data = sensor.encode(sample, random.Random(3))
    minutes = int.from_bytes(data[4:6], "little")
    assert (sample.wall() - session_start(sample)).total_seconds() // 60 == minutes
    assert data[2:4] == bytes([101, 0])
