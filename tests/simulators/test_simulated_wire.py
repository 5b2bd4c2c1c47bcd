"""The encoders against the worked examples of device-formats.md and the published vectors."""

# ruff: noqa: DTZ001 - wall times have no zone
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulators import wire
from simulators.wire import GlucoseUnit, JsonForm, JsonReading, SpecialWord
from tests.support import FIXTURES

VECTORS = {vector["name"]: vector for vector in json.loads((FIXTURES / "gatt" / "vectors.json").read_text())["vectors"]}
FLOATS = json.loads((FIXTURES / "gatt" / "floats.json").read_text())
SPECIAL_WORDS = {16: {0x07FF, 0x0800, 0x07FE, 0x0802, 0x0801}}
SPECIAL_WORDS[32] = {0x007FFFFF, 0x00800000, 0x007FFFFE, 0x00800002, 0x00800001}


def decoded(data: bytes, mantissa_bits: int) -> Decimal | None:
    """device-formats.md 1.1, read again: None for a special word."""
    word = int.from_bytes(data, "little")
    if word in SPECIAL_WORDS[len(data) * 8]:
        return None
    mantissa = word % (1 << mantissa_bits)
    exponent = word >> mantissa_bits
    if mantissa >= 1 << (mantissa_bits - 1):
        mantissa -= 1 << mantissa_bits
    exponent_bits = len(data) * 8 - mantissa_bits
    if exponent >= 1 << (exponent_bits - 1):
        exponent -= 1 << exponent_bits
    return Decimal(mantissa).scaleb(exponent)


def as_decimal(entry: dict[str, Any]) -> Decimal:
    sign = int(entry["mantissa"] < 0)
    return Decimal((sign, tuple(int(digit) for digit in str(abs(entry["mantissa"]))), entry["exponent"]))


@pytest.mark.parametrize("entry", FLOATS["sfloat"], ids=lambda entry: entry["raw"])
def test_published_sfloats(entry: dict[str, Any]) -> None:
    assert wire.sfloat(as_decimal(entry)) == bytes.fromhex(entry["gatt_bytes"])


@pytest.mark.parametrize("entry", FLOATS["float"], ids=lambda entry: entry["raw"])
def test_published_floats(entry: dict[str, Any]) -> None:
    assert wire.medical_float(as_decimal(entry)) == bytes.fromhex(entry["gatt_bytes"])


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("36.5", "6DF1"), ("0.0123", "7BC0"), ("0.00123", "7BB0"), ("6.14", "66E2"), ("204.7", "FFF7"),
        ("1E-8", "0180"), ("1E7", "0170"), ("-1234", "2E0B"),
    ],
)  # fmt: skip
def test_table_of_sfloats(text: str, encoded: str) -> None:
    assert wire.sfloat(text) == bytes.fromhex(encoded)


@pytest.mark.parametrize(
    ("text", "encoded"), [("36.50", "420E00FE"), ("36.8", "700100FF"), ("37.279", "9F9100FD"), ("-1234", "2EFBFF00")]
)
def test_table_of_floats(text: str, encoded: str) -> None:
    assert wire.medical_float(text) == bytes.fromhex(encoded)


def test_special_values_come_only_by_name() -> None:
    assert [wire.sfloat(special).hex() for special in SpecialWord] == ["ff07", "0008", "fe07", "0208", "0108"]
    assert wire.medical_float(SpecialWord.NAN).hex() == "ffff7f00"
    assert wire.medical_float(SpecialWord.NEGATIVE_INFINITY).hex() == "02008000"
    for forbidden in ("2046", "2047", "-2046", "-2047", "-2048"):
        with pytest.raises(ValueError, match="special"):
            wire.sfloat(forbidden)
    for forbidden in ("8388606", "8388607", "-8388606", "-8388607"):
        with pytest.raises(ValueError, match="special"):
            wire.medical_float(forbidden)
    for word in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match="by name"):
            wire.sfloat(word)


def test_a_special_mantissa_that_can_move_its_exponent_does() -> None:
    data = wire.medical_float("-8388610")
    assert decoded(data, 24) == Decimal("-8388610")
    assert decoded(wire.sfloat("2050"), 12) == Decimal(2050)
    assert wire.sfloat("2045").hex() == "fd07"
    assert wire.sfloat("-2045").hex() == "0308"


def test_inexact_numbers_are_refused_not_rounded() -> None:
    for text in ("1.2345", "1E12", "1E-9", "30001"):
        with pytest.raises(ValueError, match="exactly"):
            wire.sfloat(text)
    assert decoded(wire.sfloat("1000E-10"), 12) == Decimal("1E-7")
    assert decoded(wire.sfloat("2E9"), 12) == Decimal("2E9")
    assert decoded(wire.sfloat("0E20"), 12) == 0


@given(mantissa=st.integers(-2048, 2047), exponent=st.integers(-8, 7))
def test_every_sfloat_number_survives_and_keeps_its_precision(mantissa: int, exponent: int) -> None:
    number = Decimal(mantissa).scaleb(exponent)
    assume(exponent != 0 or -2046 < mantissa < 2046)
    back = decoded(wire.sfloat(number), 12)
    assert back == number
    assert back is not None
    assert back.as_tuple() == number.as_tuple()


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**6), max_value=10**6))
def test_a_number_is_encoded_exactly_or_refused(number: Decimal) -> None:
    try:
        data = wire.sfloat(number)
    except ValueError:
        return
    assert decoded(data, 12) == number


@given(mantissa=st.integers(-8388605, 8388605), exponent=st.integers(-128, 127))
def test_every_float_number_survives(mantissa: int, exponent: int) -> None:
    number = Decimal(mantissa).scaleb(exponent)
    assert decoded(wire.medical_float(number), 24) == number


def test_date_time() -> None:
    assert wire.date_time(datetime(2016, 5, 23, 17, 52, 17)).hex(" ") == "e0 07 05 17 11 34 11"
    assert wire.date_time(None) == bytes(7)
    with pytest.raises(ValueError, match="zone"):
        wire.date_time(datetime(2024, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="1582"):
        wire.date_time(datetime(1581, 1, 1))


def test_glucose_examples() -> None:
    a = wire.glucose_measurement(
        12, datetime(2024, 3, 10, 7, 30), "0.0058", unit=GlucoseUnit.MOL_L, offset_min=60, context_follows=True
    )
    b = wire.glucose_measurement(13, datetime(2024, 3, 10, 12, 5, 9), "0.00105", sample_type=2, status=0)
    c = wire.glucose_measurement(
        14, datetime(2020, 1, 1, 0, 0, 12), SpecialWord.POSITIVE_INFINITY, location=15, offset_min=-90, status=0x0820
    )
    assert a.hex(" ").upper() == "17 0C 00 E8 07 03 0A 07 1E 00 3C 00 3A C0 11"
    assert b.hex(" ").upper() == "0A 0D 00 E8 07 03 0A 0C 05 09 69 B0 12 00 00"
    assert c.hex(" ").upper() == "0B 0E 00 E4 07 01 01 00 00 0C A6 FF FE 07 F1 20 08"
    # 1E FB FF 1E 00 12 05 01: offset -5, 30 kg/L, plasma from a finger, status 0x0105
    fixture = wire.glucose_measurement(
        1, datetime(2019, 2, 27, 11, 10, 30), "30", sample_type=2, offset_min=-5, status=261, context_follows=True
    )
    assert fixture == bytes.fromhex(VECTORS["glucose_full_kg_per_l"]["hex"])


def test_glucose_without_concentration_is_ten_bytes() -> None:
    bare = wire.glucose_measurement(7, datetime(2024, 3, 10), unit=GlucoseUnit.MOL_L)
    assert len(bare) == 10
    assert bare[0] == 0


def test_plx_spot_check_examples() -> None:
    a = wire.plx_spot_check(
        97, 96, time=datetime(2017, 1, 1, 1, 34, 19), status=0x0020, sensor=0x000020, clock_not_set=True
    )
    b = wire.plx_spot_check("97.5", 72, time=datetime(2024, 3, 10, 8, 15, 30), amplitude="4.2")
    c = wire.plx_spot_check(SpecialWord.NAN, SpecialWord.NAN, status=0xA000)
    assert a.hex(" ").upper() == "17 61 00 60 00 E1 07 01 01 01 22 13 20 00 20 00 00"
    assert b.hex(" ").upper() == "09 CF F3 48 00 E8 07 03 0A 08 0F 1E 2A F0"
    assert c.hex(" ").upper() == "02 FF 07 FF 07 00 A0"


def test_plx_continuous_examples() -> None:
    a = wire.plx_continuous(98, 78, status=0x0020, sensor=0)
    b = wire.plx_continuous(96, 81, fast=(95, 84), slow=(97, 79), amplitude="1.8")
    assert a.hex(" ").upper() == "0C 62 00 4E 00 20 00 00 00 00"
    assert b.hex(" ").upper() == "13 60 00 51 00 5F 00 54 00 61 00 4F 00 12 F0"
    assert wire.plx_continuous(100, 90) == bytes.fromhex(VECTORS["plx_continuous_integers"]["hex"])
    assert wire.plx_continuous("100.0", "90.0") == bytes.fromhex(VECTORS["plx_continuous_tenths"]["hex"])


def test_heart_rate_examples() -> None:
    assert wire.heart_rate_measurement(72).hex(" ") == "00 48"
    assert wire.heart_rate_measurement(60, contact=True, rr_1024=[1024, 1014]).hex(" ") == "16 3c 00 04 f6 03"
    c = wire.heart_rate_measurement(260, contact=True, energy_kj=300, rr_1024=[236, 237])
    assert c.hex(" ").upper() == "1F 04 01 2C 01 EC 00 ED 00"
    assert wire.heart_rate_measurement(85) == bytes.fromhex(VECTORS["heart_rate_u8"]["hex"])
    assert wire.heart_rate_measurement(200, wide=True) == bytes.fromhex(VECTORS["heart_rate_u16"]["hex"])
    assert wire.heart_rate_measurement(72, contact=False)[0] == 0b100


READING = JsonReading("glucose_bg", 5.8, "mmol/L", datetime(2024, 3, 10, 8, 30, tzinfo=UTC), 12)


def test_json_forms() -> None:
    member = {"vital": "glucose_bg", "value": 5.8, "unit": "mmol/L", "time": "2024-03-10T08:30:00+00:00", "seq": 12}
    assert json.loads(wire.json_readings([READING], form=JsonForm.SINGLE)) == member
    assert json.loads(wire.json_readings([READING, READING])) == [member, member]
    wrapped = json.loads(wire.json_readings([READING], form=JsonForm.OBJECT, epoch_ms=True))
    assert wrapped == {"readings": [member | {"time": 1_710_059_400_000}]}


@pytest.mark.parametrize(
    ("vital", "unit"), [("glucose", "kPa"), ("nonsense", "kg"), ("bp", "mm[Hg]"), ("spo2", "/min")]
)
def test_json_refuses_units_that_do_not_measure_the_vital(vital: str, unit: str) -> None:
    with pytest.raises(ValueError, match="not measured"):
        wire.json_readings([JsonReading(vital, 1.0, unit, READING.time)])


def test_json_needs_an_instant_and_seq_is_optional() -> None:
    with pytest.raises(ValueError, match="offset"):
        wire.json_readings([JsonReading("temp", 37.0, "Cel", datetime(2024, 3, 10))])
    assert "seq" not in json.loads(wire.json_readings([JsonReading("temp", 37.0, "Cel", READING.time)]))[0]
    with pytest.raises(ValueError, match="not enough"):
        wire.json_readings([], form=JsonForm.SINGLE)


def test_clarity_lines_are_those_of_the_real_export() -> None:
    real = (FIXTURES / "cgm" / "clarity.csv").read_bytes()
    rows = [
        wire.clarity_row(12, datetime(2016, 10, 24, 11, 24, 17), 103, source="iPhone G6"),
        wire.clarity_row(13, datetime(2016, 10, 24, 11, 29, 17), 102, source="iPhone G6"),
    ]
    chunk = wire.clarity_chunk(rows, bom=True)
    header, *lines = chunk.splitlines(keepends=True)
    assert real.startswith(header)
    assert b"".join(lines) in real
    assert wire.clarity_row(1, datetime(2024, 1, 1), "High").split(",")[7] == "High"
    with pytest.raises(ValueError, match="zone"):
        wire.clarity_row(1, datetime(2024, 1, 1, tzinfo=UTC), 100)
