"""Units as devices, hubs and people write them: one table and one reader for all adapters.

A unit is read whatever its case, spaces and degree signs are: ``mmHg``, ``MM HG`` and ``mm[Hg]`` are one unit. Which of
two units a word means depends on the vital sign alone: ``1`` is a fraction for an oxygen saturation and a count for
steps. A word that names no unit of the vital is never guessed.

Sources: clinical.md 1.1 (UCUM and MDC terms), device-formats.md 9; the other spellings are those of public samples.

Worked: ``ºF`` and ``deg F`` of a temperature are ``[degF]``; ``mmol<180.1558800000541>/L`` is ``mmol/L``.
"""

import contextlib
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from vitals.catalog import BY_CODE, Vital, accepts
from vitals.units import UNIT_BY_NAME, UNITS

MDC_UNITS: Final[Mapping[int, str]] = MappingProxyType(
    {
        262_688: "%", 264_864: "/min", 264_928: "/min", 266_016: "mm[Hg]", 265_987: "kPa", 263_875: "kg",
        263_904: "[lb_av]", 264_274: "mg/dL", 266_866: "mmol/L", 268_192: "Cel", 266_560: "[degF]", 264_096: "kg/m2",
        265_216: "L/min", 263_744: "L", 264_338: "ms", 264_320: "s", 268_800: "{steps}", 263_441: "cm",
        263_520: "[in_i]",
    }
)  # fmt: skip
"""32-bit MDC code of a unit -> UCUM (clinical.md 1.1)."""
MDC_UNIT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MDC_DIM_PERCENT": "%", "MDC_DIM_BEAT_PER_MIN": "/min", "MDC_DIM_RESP_PER_MIN": "/min",
        "MDC_DIM_MMHG": "mm[Hg]", "MDC_DIM_KILO_PASCAL": "kPa", "MDC_DIM_DEGC": "Cel", "MDC_DIM_FAHR": "[degF]",
        "MDC_DIM_MILLI_G_PER_DL": "mg/dL", "MDC_DIM_MILLI_MOLE_PER_L": "mmol/L", "MDC_DIM_KILO_G": "kg",
        "MDC_DIM_LB": "[lb_av]", "MDC_DIM_CENTI_M": "cm", "MDC_DIM_INCH": "[in_i]", "MDC_DIM_KG_PER_M_SQ": "kg/m2",
        "MDC_DIM_L_PER_MIN": "L/min", "MDC_DIM_L": "L", "MDC_DIM_MILLI_SEC": "ms", "MDC_DIM_SEC": "s",
        "MDC_DIM_STEP": "{steps}",
    }
)  # fmt: skip
"""Reference name of a unit -> UCUM."""
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "/min": ("1/min", "min-1", "min^-1", "/minute", "per minute", "rpm", "brpm", "beat/min", "beats/minute",
                 "beats per minute", "br/min", "breath/min", "breaths/minute", "breaths per minute", "resp/min",
                 "counts/min", "per min", "b/min", "bt/min", "beats per min", "breaths per min", "x/min"),
        "/s": ("1/s", "s-1", "s^-1", "Hz", "counts/s"),
        "%": ("pct", "%O2", "% SpO2", "%Sat", "per cent", "percentage"),
        "mm[Hg]": ("mm Hg", "mmHg.", "torr"),
        "kPa": ("kilopascal", "kilopascals"),
        "Cel": ("deg C", "deg. C", "degrees C", "celsius", "degrees celsius", "degree celsius", "celcius",
                "centigrade"),
        "[degF]": ("deg F", "deg. F", "degrees F", "fahrenheit", "degrees fahrenheit", "degree fahrenheit"),
        "K": ("kelvin",),
        "mg/dL": ("mgdl", "mg per dl", "mg/100mL", "mg%", "mg %", "mgs/dL"),
        "mmol/L": ("mmoll", "mmol per l", "mmol", "mM", "mmol/litre", "mmol/liter", "mmols/L"),
        "kg": ("kgs", "kilogram", "kilograms", "kilo", "kilos"),
        "g": ("gram", "grams", "gm"),
        "[lb_av]": ("lb_av", "pound", "pounds"),
        "[stone_av]": ("stones",),
        "cm": ("centimeter", "centimeters", "centimetre", "centimetres"),
        "m": ("meter", "meters", "metre", "metres"),
        "[in_i]": ("inches",),
        "[ft_i]": ("foot", "feet"),
        "kg/m2": ("kg/m^2", "kg/m**2", "kg/sqm"),
        "ms": ("msec", "millisecond", "milliseconds"),
        "s": ("sec", "secs", "second", "seconds"),
        "min": ("mins", "minute", "minutes"),
        "h": ("hr", "hrs", "hour", "hours"),
        "L/min": ("lpm", "liter/min", "liters/min", "litre/min", "litres/min"),
        "L": ("liter", "liters", "litre", "litres"),
        "{steps}": ("step", "count", "counts"),
    }
)  # fmt: skip
"""UCUM -> what is written for it beside the synonyms of ``vitals.units``."""
_UNITY: Final = frozenset({"1", "{ratio}"})
_OF_ONE: Final[Mapping[tuple[str, str], str]] = MappingProxyType({("bmi", "count"): "kg/m2"})
"""Words that mean a unit for one vital alone: a phone's export writes its body mass index as a count."""
_DEGREES: Final = str.maketrans({"º": "°", "˚": "°", "\N{DEGREE CELSIUS}": "°C", "\N{DEGREE FAHRENHEIT}": "°F"})
_ANNOTATION: Final = re.compile(r"\{[^{}]*\}")
_MOLAR: Final = re.compile(r"mmol<[\d.]{1,24}>/l", re.ASCII)
_LONGEST: Final = 64


def _folded(text: str) -> str:
    """``text`` without case, spaces and the differences of signs that look alike."""
    with contextlib.suppress(UnicodeError):
        # A payload that was read byte by byte has two characters for a degree sign of UTF-8.
        text = text.encode("latin-1").decode("utf-8")
    return "".join(unicodedata.normalize("NFKC", text.translate(_DEGREES)).casefold().split())


_BY_FOLDED: Final[Mapping[str, str]] = MappingProxyType(
    {_folded(str(code)): ucum for code, ucum in MDC_UNITS.items()}
    | {_folded(name): ucum for name, ucum in MDC_UNIT_NAMES.items()}
    | {_folded(word): ucum for ucum, words in SPELLINGS.items() for word in words}
    | {_folded(name): unit.ucum for unit in UNITS for name in (unit.ucum, *unit.synonyms) if name != "1"}
)


def _names(folded: str) -> tuple[str, ...]:
    """``folded``, and what is left of it without the annotations that UCUM allows beside a unit."""
    bare = _ANNOTATION.sub("", folded)
    if _MOLAR.fullmatch(folded):
        return ("mmol/l",)
    return (folded, bare) if bare and bare != folded else (folded,)


def _named(vital: Vital, text: str) -> str | None:
    folded = _folded(text)
    if folded in _UNITY:
        return next((ucum for ucum in ("{fraction}", "{steps}") if accepts(vital, ucum)), None)
    if (vital.key, folded) in _OF_ONE:
        return _OF_ONE[vital.key, folded]
    for name in _names(folded):
        ucum = _BY_FOLDED.get(name)
        if ucum is not None and accepts(vital, ucum):
            return ucum
    return None


@lru_cache(maxsize=4096)
def unit_of(vital: int, text: str) -> int | None:
    """Code of the unit that ``text`` names, None when no unit of the vital with this catalogue code is named so."""
    if len(text) > _LONGEST:
        return None
    ucum = _named(BY_CODE[vital], text)
    return None if ucum is None else UNIT_BY_NAME[ucum].code


def spellings(vital: int) -> Mapping[str, int]:
    """Every spelling of the tables that measures the vital, as written there, to the code of its unit."""
    words = [name for unit in UNITS for name in (unit.ucum, *unit.synonyms)]
    words += [word for more in SPELLINGS.values() for word in more]
    found = {word: unit_of(vital, word) for word in words}
    return MappingProxyType({word: code for word, code in found.items() if code is not None})


def ucum_of(text: str) -> str | None:
    """The UCUM name of a unit of any vital, None when ``text`` names none."""
    return next((_BY_FOLDED[name] for name in _names(_folded(text[:_LONGEST])) if name in _BY_FOLDED), None)
