"""IEEE 11073-20601 SFLOAT and FLOAT: decimal floats of medical devices (device-formats.md 1).

Value = mantissa x 10^exponent, both signed. A special value is a whole raw word with exponent field 0; the same
mantissa with another exponent is a number (0xF7FF is 204.7). Numbers come out as the nearest float64.

Worked: 0xF16D has exponent -1 and mantissa 365: 36.5. 0x00FFFB2E has exponent 0 and mantissa -1234: -1234.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final

_INF = float("inf")
_NAN = float("nan")


class Special(StrEnum):
    """What a word says when it is no number (device-formats.md 1.1)."""

    NOT_A_NUMBER = "not_a_number"
    NOT_AT_THIS_RESOLUTION = "not_at_this_resolution"
    POSITIVE_INFINITY = "positive_infinity"
    NEGATIVE_INFINITY = "negative_infinity"
    RESERVED = "reserved"


SFLOAT_SPECIALS: Final[Mapping[int, Special]] = MappingProxyType(
    {
        0x07FF: Special.NOT_A_NUMBER,
        0x0800: Special.NOT_AT_THIS_RESOLUTION,
        0x07FE: Special.POSITIVE_INFINITY,
        0x0802: Special.NEGATIVE_INFINITY,
        0x0801: Special.RESERVED,
    }
)
FLOAT_SPECIALS: Final[Mapping[int, Special]] = MappingProxyType(
    {
        0x007FFFFF: Special.NOT_A_NUMBER,
        0x00800000: Special.NOT_AT_THIS_RESOLUTION,
        0x007FFFFE: Special.POSITIVE_INFINITY,
        0x00800002: Special.NEGATIVE_INFINITY,
        0x00800001: Special.RESERVED,
    }
)
_NO_NUMBER: Final = {Special.POSITIVE_INFINITY: _INF, Special.NEGATIVE_INFINITY: -_INF}


def _decode(
    word: int, mantissa_bits: int, exponent_bits: int, specials: Mapping[int, Special], power: int = 0
) -> float:
    special = specials.get(word)
    if special is not None:
        return _NO_NUMBER.get(special, _NAN)
    mantissa = word & ((1 << mantissa_bits) - 1)
    if mantissa >> (mantissa_bits - 1):
        mantissa -= 1 << mantissa_bits
    exponent = word >> mantissa_bits
    if exponent >> (exponent_bits - 1):
        exponent -= 1 << exponent_bits
    exponent += power
    # Division of integers rounds once, to the nearest float64; a negative power of ten would round twice.
    return float(mantissa * 10**exponent) if exponent >= 0 else mantissa / 10**-exponent


@lru_cache(maxsize=16_384)
def float32(word: int) -> float:
    """FLOAT ``word`` (0 to 2^32-1) as float64; infinities for over and under range, NaN for the other specials."""
    return _decode(word, 24, 8, FLOAT_SPECIALS)


def _all_sfloats() -> tuple[float, ...]:
    """As ``_decode`` of each word, one exponent after the other: every import builds the table."""
    mantissas = (*range(2048), *range(-2048, 0))
    values: list[float] = []
    for exponent in (*range(8), *range(-8, 0)):
        power = 10 ** abs(exponent)
        values += [float(one * power) for one in mantissas] if exponent >= 0 else [one / power for one in mantissas]
    for word, special in SFLOAT_SPECIALS.items():
        values[word] = _NO_NUMBER.get(special, _NAN)
    return tuple(values)


SFLOAT: Final[tuple[float, ...]] = _all_sfloats()
"""SFLOAT word -> float64; infinities for over and under range, NaN for the other specials."""


@lru_cache(maxsize=16_384)
def scaled_sfloat(word: int, power: int) -> float:
    """SFLOAT ``word`` times 10^``power``, still the nearest float64: 0xD03C kg are 60.0 g with power 3."""
    return _decode(word, 12, 4, SFLOAT_SPECIALS, power)
