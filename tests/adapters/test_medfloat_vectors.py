"""SFLOAT and FLOAT against published words (floats.json) and device-formats.md 1.1, 1.2."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest

from ingest.adapters.ble.medfloat import FLOAT_SPECIALS, SFLOAT, SFLOAT_SPECIALS, float32, scaled_sfloat
from tests.support import FIXTURES

FLOATS = json.loads((FIXTURES / "gatt" / "floats.json").read_text())

SFLOAT_TABLE = [
    (0x0002, "2"), (0xF014, "2.0"), (0xE0C8, "2.00"), (0x1002, "20"), (0x2002, "200"), (0x00C8, "200"),
    (0x04D2, "1234"), (0x0B2E, "-1234"), (0xF16D, "36.5"), (0xC07B, "0.0123"), (0xB07B, "0.00123"),
    (0xE266, "6.14"), (0xF7FF, "204.7"), (0x8001, "1E-8"), (0x7001, "1E+7"),
]  # fmt: skip
FLOAT_TABLE = [
    (0xFF000014, "2.0"), (0xFE0000C8, "2.00"), (0x01000002, "20"), (0x00FFFB2E, "-1234"), (0xFF00016D, "36.5"),
    (0xFE000E42, "36.50"), (0xFF000170, "36.8"), (0xFD00919F, "37.279"),
]  # fmt: skip


@pytest.mark.parametrize("vector", FLOATS["sfloat"], ids=lambda vector: vector["raw"])
def test_published_sfloat(vector: dict[str, Any]) -> None:
    raw = int.from_bytes(bytes.fromhex(vector["gatt_bytes"]), "little")
    assert raw == int(vector["raw"], 16)
    assert SFLOAT[raw] == vector["value"] == float(vector["text"])


@pytest.mark.parametrize("vector", FLOATS["float"], ids=lambda vector: vector["raw"])
def test_published_float(vector: dict[str, Any]) -> None:
    raw = int.from_bytes(bytes.fromhex(vector["gatt_bytes"]), "little")
    assert raw == int(vector["raw"], 16)
    assert float32(raw) == vector["value"] == float(vector["text"])


@pytest.mark.parametrize(("raw", "text"), SFLOAT_TABLE)
def test_sfloat_of_the_reference_table(raw: int, text: str) -> None:
    assert SFLOAT[raw] == float(text)


@pytest.mark.parametrize(("raw", "text"), FLOAT_TABLE)
def test_float_of_the_reference_table(raw: int, text: str) -> None:
    assert float32(raw) == float(text)


def test_every_sfloat_word_is_the_nearest_double_of_its_decimal() -> None:
    for raw in range(1 << 16):
        if raw in SFLOAT_SPECIALS:
            continue
        mantissa = (raw & 0xFFF) - ((raw & 0x800) << 1)
        exponent = (raw >> 12) - ((raw >> 15) << 4)
        assert SFLOAT[raw] == float(Decimal(mantissa).scaleb(exponent)), hex(raw)


@pytest.mark.parametrize("raw", [0x80000001, 0x7F7FFFFF, 0x80800000, 0xEA000001, 0xE9FFFFFF])
def test_float_words_at_the_edges_are_the_nearest_double_of_their_decimal(raw: int) -> None:
    mantissa = (raw & 0xFFFFFF) - ((raw & 0x800000) << 1)
    exponent = (raw >> 24) - ((raw >> 31) << 8)
    assert float32(raw) == float(Decimal(mantissa).scaleb(exponent))


@pytest.mark.parametrize(
    ("sfloat", "medfloat", "number"),
    [(0x07FE, 0x007FFFFE, math.inf), (0x0802, 0x00800002, -math.inf)],
)
def test_infinities(sfloat: int, medfloat: int, number: float) -> None:
    assert SFLOAT[sfloat] == float32(medfloat) == number


@pytest.mark.parametrize(("sfloat", "medfloat"), [(0x07FF, 0x007FFFFF), (0x0800, 0x00800000), (0x0801, 0x00800001)])
def test_words_that_are_no_number(sfloat: int, medfloat: int) -> None:
    assert math.isnan(SFLOAT[sfloat])
    assert math.isnan(float32(medfloat))
    assert SFLOAT_SPECIALS[sfloat] == FLOAT_SPECIALS[medfloat]


def test_a_special_mantissa_with_another_exponent_is_a_number() -> None:
    assert SFLOAT[0xF7FF] == 204.7
    assert float32(0xFF7FFFFF) == 838860.7
    assert sum(not math.isfinite(value) for value in SFLOAT) == len(SFLOAT_SPECIALS) == 5


def test_the_table_holds_what_each_word_decodes_to() -> None:
    words = range(1 << 16)
    assert [repr(SFLOAT[word]) for word in words] == [repr(scaled_sfloat(word, 0)) for word in words]
