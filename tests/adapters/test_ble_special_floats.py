"""Special floats in every field, and random valid values of every characteristic (device-formats.md 1.1, 2)."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.ble.medfloat import FLOAT_SPECIALS, SFLOAT, SFLOAT_SPECIALS, Special, float32
from tests.adapters.decoding import decode, reading_rows
from vitals.catalog import BY_CODE
from vitals.glossary import EventKind, Flag

FIELDS = [
    ("ble_glucose", "2a18", "02 0D 00 E8 07 03 0A 0C 05 09 69 B0 12", 10, "glucose_bg"),
    ("ble_cgm", "2aa7", "06 00 78 00 05 00", 2, "glucose_isf"),
    ("ble_plx", "2a5e", "09 CF F3 48 00 E8 07 03 0A 08 0F 1E 2A F0", 1, "spo2"),
    ("ble_plx", "2a5e", "09 CF F3 48 00 E8 07 03 0A 08 0F 1E 2A F0", 3, "pulse_rate"),
    ("ble_plx", "2a5e", "09 CF F3 48 00 E8 07 03 0A 08 0F 1E 2A F0", 12, "perf_index"),
    ("ble_plx", "2a5f", "10 60 00 51 00 12 F0", 1, "spo2"),
    ("ble_plx", "2a5f", "10 60 00 51 00 12 F0", 3, "pulse_rate"),
    ("ble_plx", "2a5f", "10 60 00 51 00 12 F0", 5, "perf_index"),
    ("ble_blood_pressure", "2a35", "04 7B 00 58 00 63 00 50 00", 1, "bp_sys"),
    ("ble_blood_pressure", "2a35", "04 7B 00 58 00 63 00 50 00", 3, "bp_dia"),
    ("ble_blood_pressure", "2a35", "04 7B 00 58 00 63 00 50 00", 5, "bp_mean"),
    ("ble_blood_pressure", "2a35", "04 7B 00 58 00 63 00 50 00", 7, "pulse_rate_nibp"),
]
BESIDE = [
    ("ble_plx", "2a5f", "03 60 00 51 00 5F 00 54 00 61 00 4F 00", 5, "fast"),
    ("ble_plx", "2a5f", "03 60 00 51 00 5F 00 54 00 61 00 4F 00", 7, "fast"),
    ("ble_plx", "2a5f", "03 60 00 51 00 5F 00 54 00 61 00 4F 00", 9, "slow"),
    ("ble_plx", "2a5f", "03 60 00 51 00 5F 00 54 00 61 00 4F 00", 11, "slow"),
    ("ble_cgm", "2aa7", "0A 03 78 00 05 00 F2 FF 5F 00", 6, "trend_mg_dl_min"),
    ("ble_cgm", "2aa7", "0A 03 78 00 05 00 F2 FF 5F 00", 8, "quality_percent"),
    ("ble_glucose", "2a34", "01 0F 00 02 3C D0", 4, "carbohydrate_g"),
    ("ble_glucose", "2a34", "30 0F 00 01 32 A0", 4, "medication_ml"),
    ("ble_glucose", "2a34", "10 0F 00 01 32 A0", 4, "medication_mg"),
    ("ble_glucose", "2a34", "40 0F 00 41 F0", 3, "hba1c_percent"),
]
RANGES = {Special.POSITIVE_INFINITY: Flag.ABOVE_RANGE, Special.NEGATIVE_INFINITY: Flag.BELOW_RANGE}


def put(text: str, at: int, word: int) -> bytes:
    payload = bytearray.fromhex(text)
    payload[at : at + 2] = struct.pack("<H", word)
    return bytes(payload)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field[1]}-{field[4]}")
@pytest.mark.parametrize("word", SFLOAT_SPECIALS)
def test_a_special_value_is_absent_or_out_of_range(field: tuple[str, str, str, int, str], word: int) -> None:
    adapter, kind, text, at, vital = field
    special = SFLOAT_SPECIALS[word]
    plain = decode(adapter, bytes.fromhex(text), kind)
    decoded = decode(adapter, put(text, at, word), kind)
    assert not decoded.rejects
    others = [row for row in reading_rows(decoded.batch) if row["vital"] != vital]
    assert others == [row for row in reading_rows(plain.batch) if row["vital"] != vital]
    mine = [row for row in reading_rows(decoded.batch) if row["vital"] == vital]
    if special in RANGES:
        (row,) = mine
        assert row["value"] is None
        assert row["flags"] == [str(RANGES[special].name).lower()]
        assert not decoded.events
    else:
        assert not mine
        (event,) = decoded.events
        assert (event.kind, event.detail, BY_CODE[event.vital].key) == (EventKind.VALUE_ABSENT, special.value, vital)


@pytest.mark.parametrize("field", BESIDE, ids=lambda field: f"{field[1]}-{field[3]}-{field[4]}")
@pytest.mark.parametrize("word", SFLOAT_SPECIALS)
def test_a_special_value_beside_a_reading_is_an_event(field: tuple[str, str, str, int, str], word: int) -> None:
    adapter, kind, text, at, name = field
    plain, decoded = decode(adapter, bytes.fromhex(text), kind), decode(adapter, put(text, at, word), kind)
    absent = [event.detail for event in decoded.events if event.kind is EventKind.VALUE_ABSENT]
    assert absent == [f"{name}:{SFLOAT_SPECIALS[word].value}"]
    assert decoded.batch.value.tolist() == plain.batch.value.tolist()


@pytest.mark.parametrize("word", FLOAT_SPECIALS)
def test_a_special_temperature(word: int) -> None:
    special = FLOAT_SPECIALS[word]
    decoded = decode("ble_thermometer", b"\x00" + struct.pack("<I", word))
    if special in RANGES:
        assert decoded.batch.flags.tolist() == [RANGES[special]]
        assert math.isnan(decoded.batch.value[0])
    else:
        assert [(event.kind, event.detail) for event in decoded.events] == [(EventKind.VALUE_ABSENT, special.value)]


def finite(words: list[int]) -> list[float]:
    return [SFLOAT[word] for word in words if word not in SFLOAT_SPECIALS]


WORD = st.integers(0, 65535)
STAMP = st.none() | st.tuples(
    st.integers(1700, 2200), st.integers(1, 12), st.integers(1, 28), st.integers(0, 23), st.integers(0, 59),
    st.integers(0, 59),
)  # fmt: skip


def stamped(stamp: Any) -> bytes:
    return b"" if stamp is None else struct.pack("<HBBBBB", *stamp)


def shown_time(stamp: Any) -> str:
    year, month, day, hour, minute, second = stamp
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    words=st.lists(WORD, min_size=3, max_size=3), pulse=st.none() | WORD, stamp=STAMP, user=st.booleans(),
    status=st.none() | WORD, kpa=st.booleans(),
)  # fmt: skip
def test_random_blood_pressures(
    words: list[int], pulse: int | None, stamp: Any, user: bool, status: int | None, kpa: bool
) -> None:
    present = kpa | 2 * (stamp is not None) | 4 * (pulse is not None) | 8 * user | 16 * (status is not None)
    payload = struct.pack("<B3H", present, *words) + stamped(stamp)
    payload += b"" if pulse is None else struct.pack("<H", pulse)
    payload += b"\x01" * user + (b"" if status is None else struct.pack("<H", status))
    decoded = decode("ble_blood_pressure", payload)
    assert not decoded.rejects
    rows = reading_rows(decoded.batch)
    assert [row["value"] for row in rows if row["value"] is not None] == finite(
        words if pulse is None else [*words, pulse]
    )
    assert {row["unit"] for row in rows} <= {"kPa" if kpa else "mm[Hg]", "/min"}
    assert all(row["context"].get("user") == (1 if user else None) for row in rows)
    if stamp is not None:
        assert {row["source_time"] for row in rows} <= {shown_time(stamp)}
    assert all(("status" in row["context"]) == bool(status) for row in rows)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(word=st.integers(0, 2**32 - 1), stamp=STAMP, site=st.none() | st.integers(0, 255), fahrenheit=st.booleans())
def test_random_temperatures(word: int, stamp: Any, site: int | None, fahrenheit: bool) -> None:
    present = fahrenheit | 2 * (stamp is not None) | 4 * (site is not None)
    payload = struct.pack("<BI", present, word) + stamped(stamp) + (b"" if site is None else bytes([site]))
    decoded = decode("ble_thermometer", payload)
    assert not decoded.rejects
    for row in reading_rows(decoded.batch):
        assert row["value"] is None or row["value"] == float32(word)
        assert row["unit"] == ("[degF]" if fahrenheit else "Cel")
        assert ("site" in row["context"]) == (site is not None)
        assert stamp is None or row["source_time"] == shown_time(stamp)
    assert len(decoded.batch) + len(decoded.events) == 1


@settings(derandomize=True, max_examples=200, deadline=None)
@given(raw=WORD, stamp=STAMP, user=st.booleans(), build=st.none() | st.tuples(WORD, WORD), imperial=st.booleans())
def test_random_weights(raw: int, stamp: Any, user: bool, build: tuple[int, int] | None, imperial: bool) -> None:
    present = imperial | 2 * (stamp is not None) | 4 * user | 8 * (build is not None)
    payload = struct.pack("<BH", present, raw) + stamped(stamp) + b"\x01" * user
    payload += b"" if build is None else struct.pack("<HH", *build)
    rows = reading_rows(decode("ble_scale", payload).batch)
    expected = [] if raw == 0xFFFF else [float(f"{raw}e-2") if imperial else float(f"{raw * 5}e-3")]
    if build is not None:
        expected += [float(f"{build[0]}e-1"), float(f"{build[1]}e-1") if imperial else float(f"{build[1]}e-3")]
    assert [row["value"] for row in rows] == expected


@settings(derandomize=True, max_examples=200, deadline=None)
@given(present=st.integers(0, 0x0FFF), words=st.lists(WORD, min_size=11, max_size=11))
def test_random_body_compositions(present: int, words: list[int]) -> None:
    payload = struct.pack("<HH", present, words[0])
    payload += bytes.fromhex("E807030A070114") * (present >> 1 & 1) + b"\x01" * (present >> 2 & 1)
    bits = [bit for bit in range(3, 12) if present >> bit & 1]
    payload += b"".join(struct.pack("<H", words[bit - 2]) for bit in bits)
    decoded = decode("ble_scale", payload, "2a9c")
    assert not decoded.rejects
    by_vital = {row["vital"]: row for row in reading_rows(decoded.batch)}
    assert ("body_fat" in by_vital) == (words[0] != 0xFFFF)
    assert ("height" in by_vital) == (11 in bits)
    assert ("weight" in by_vital) == (10 in bits and words[8] != 0xFFFF)
    told: dict[str, Any] = {}
    for row in by_vital.values():
        told |= row["context"]
    extras = [bit for bit in bits if bit < 10]
    if by_vital:
        assert len([name for name in told if name != "user"]) == len(extras)
    elif extras:
        assert [event.kind for event in decoded.events][-1] is EventKind.CONTEXT
    if 9 in extras and by_vital:
        assert told["impedance_ohm"] == float(f"{words[7]}e-1")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(present=st.integers(0, 31), words=st.lists(WORD, min_size=7, max_size=7), sensor=st.integers(0, 0xFFFFFF))
def test_random_oximetry(present: int, words: list[int], sensor: int) -> None:
    payload = struct.pack("<B2H", present, *words[:2])
    payload += struct.pack("<2H", *words[2:4]) * (present & 1) + struct.pack("<2H", *words[4:6]) * (present >> 1 & 1)
    payload += b"\x00\x00" * (present >> 2 & 1) + sensor.to_bytes(3, "little") * (present >> 3 & 1)
    payload += struct.pack("<H", words[6]) * (present >> 4 & 1)
    decoded = decode("ble_plx", payload, "2a5f")
    assert not decoded.rejects
    values = [value for value in decoded.batch.value.tolist() if math.isfinite(value)]
    first, second = SFLOAT[words[0]], SFLOAT[words[1]]
    no_pulse = second in {255.0, 511.0} or first == second == 0.0
    spo2 = [] if no_pulse or first == 127.0 else finite(words[:1])
    pulse = [] if no_pulse else finite(words[1:2])
    perfusion = [] if no_pulse else finite(words[6:][: present >> 4 & 1])
    assert values == [*spo2, *pulse, *perfusion]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    rate=WORD, wide=st.booleans(), energy=st.none() | WORD,
    ticks=st.none() | st.lists(WORD, min_size=1, max_size=20),
    contact=st.sampled_from([0, 1, 3]),
)  # fmt: skip
def test_random_heart_rates(rate: int, wide: bool, energy: int | None, ticks: list[int] | None, contact: int) -> None:
    rate = rate if wide else rate & 0xFF
    present = wide | contact << 1 | 8 * (energy is not None) | 16 * (ticks is not None)
    payload = bytes([present]) + rate.to_bytes(1 + wide, "little")
    payload += b"" if energy is None else struct.pack("<H", energy)
    payload += b"".join(struct.pack("<H", tick) for tick in ticks or ())
    decoded = decode("ble_heart_rate", payload)
    assert decoded.batch.value.tolist() == [float(rate), *(tick * 1000 / 1024 for tick in ticks or ())]
    context = decoded.batch.context.get(0, {})
    assert context.get("energy_kj") == energy
    assert context.get("contact") == ("detected" if contact == 3 else None)
