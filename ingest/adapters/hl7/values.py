"""Values of OBX-5, quality words of OBX-8, and the choices of a device where the sources are not sure."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapters.hl7 import code_map, codes
from ingest.adapters.hl7.code_map import CodeMap
from ingest.adapters.hl7.segments import NULL, Delimiters
from ingest.adapters.reading.units import unit_of
from vitals.errors import ConfigError, DecodeError
from vitals.glossary import Flag, Reason

_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
_NUMBER: Final = re.compile(r"(<=|>=|<|>)? ?([+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}))", re.ASCII)
_COMMA: Final = re.compile(r"((?:<=|>=|<|>)? ?[+-]?\d{1,18}),(\d{1,2})", re.ASCII)
"""A decimal comma. Three digits behind it may as well be thousands: such a number is not read."""
_BEFORE_UNIT: Final = re.compile(r"((?:<=|>=|<|>)? ?[+-]?[\d.,]{1,19}) ?([^\d\s.,].{0,23})", re.ASCII)
_FIRST: Final = re.compile(r"\d{1,9}(?:[.,]\d{1,9})?", re.ASCII)
_SIDES: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("<", "<=", "LO", "LOW", "-INF"), _BELOW),
        **dict.fromkeys((">", ">=", "HI", "HIGH", "INF", "+INF"), _ABOVE),
        **dict.fromkeys(("", "="), 0),
    }
)
_NO_NUMBER: Final = frozenset({"NAN", "NRES"})
SENTINELS: Final = frozenset({-100.0, -999.0, 8388607.0})
"""Numbers of OBX-5 by which monitors say that there is no value; no vital sign can have them. 8388607 is the
not-a-number of an IEEE 11073 FLOAT (device-formats.md 1.1)."""
_DASHES: Final = re.compile(r"-{1,4}|\*{1,4}|-\?-|\?{1,3}")
"""What monitors write in place of a number."""
_NUMERIC_TYPES: Final = frozenset({"NM", "ST", "TX", "NA", "SN", ""})
_WORD_TYPES: Final = frozenset({"ST", "CWE", "CE", ""})
_AWAKE: Final[Mapping[str, str]] = MappingProxyType(
    {"ALERT": "A", "CONFUSION": "C", "CONFUSED": "C", "VOICE": "V", "PAIN": "P", "UNRESPONSIVE": "U"}
)
_SETTING: Final = re.compile(r"([A-Z<>]{1,8})=([a-z_]+)")
_STATUS_MEANINGS: Final = frozenset({"value", "corrected", "preliminary", "retracted", "absent"})
_QUALITY_FLAGS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "test_data": int(Flag.TEST_DATA),
        "low_quality": int(Flag.LOW_QUALITY),
        "sensor_fault": int(Flag.SENSOR_FAULT),
        "below_range": _BELOW,
        "above_range": _ABOVE,
        "note": 0,
    }
)


_OBX11: Final = (
    "R=value,F=value,C=corrected,U=value,P=preliminary,S=preliminary,D=retracted,W=retracted,X=absent,I=absent,N=absent,"
    "O=absent"
)
_OBX8: Final = (
    "DEMO=test_data,TEST=test_data,QUES=low_quality,CAL=low_quality,INV=absent,NAV=absent,<=below_range,>=above_range,"
    "L=note,H=note,LL=note,HH=note,N=note,A=note,AA=note"
)
_BATTERY: Final = 67996
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "obx11": "meanings of OBX-11 as LETTER=value, corrected, preliminary, retracted or absent, comma-separated,"
        f" over the defaults {_OBX11}; a letter without a meaning rejects its row",
        "obx8": "meanings of OBX-8 as WORD=test_data, low_quality, sensor_fault, below_range, above_range, absent or"
        f" note, comma-separated, over the defaults {_OBX8}; other words are counted and ignored",
        "empty_obx11": "final (default): a value without OBX-11 is taken as final, context `status` = `assumed_final`;"
        " reject: its row is rejected",
        "patient": "check (default): where PID-3 names another record number than that of the wearer, the readings wait"
        " as unassigned; ignore: the sender's numbers are not the record numbers of the site",
        "code_map": "the sender's code map, a TOML text; `hl7.senders` of the settings file names its file",
        "battery_code": f"MDC number of the battery level in percent (default {_BATTERY})",
    }
)
"""What the sources leave open (device-formats.md 6.4), by setting of a device."""


_NAMES: Final = ("obx11", "obx8", "empty_obx11", "code_map", "battery_code", "patient")


class Number(NamedTuple):
    """A value and its flags; ``text`` is how it was written when a float does not say so (``37.10``)."""

    value: float
    flags: int = 0
    text: str = ""


class Absent(NamedTuple):
    """There is no value, and why."""

    reason: str


class Quality(NamedTuple):
    """What OBX-8 says: flags, why there is no value (empty when there is one), words for the context."""

    flags: int
    absent: str
    context: dict[str, str]
    unknown: int


class Choices(NamedTuple):
    """What is configured for a device: meanings of OBX-11 letters and OBX-8 words, the code of the battery level."""

    obx11: Mapping[str, str]
    obx8: Mapping[str, str]
    battery: int
    empty_is_final: bool
    code_map: CodeMap
    checks_patient: bool

    @staticmethod
    def of(settings: Mapping[str, str]) -> "Choices":
        """The choices of a device's settings; raises ``DecodeError`` BAD_VALUE naming one that cannot be read."""
        return _choices(*(settings.get(name, "") for name in _NAMES))


@lru_cache(maxsize=256)
def _choices(obx11: str, obx8: str, empty: str, local: str, battery: str, patient: str) -> Choices:
    if empty not in {"", "final", "reject"}:
        raise DecodeError(Reason.BAD_VALUE, "setting empty_obx11")
    if patient not in {"", "check", "ignore"}:
        raise DecodeError(Reason.BAD_VALUE, "setting patient")
    if battery and not re.fullmatch(r"\d{1,10}", battery, re.ASCII):
        raise DecodeError(Reason.BAD_VALUE, "setting battery_code")
    return Choices(
        _meanings("obx11", _OBX11, obx11, _STATUS_MEANINGS),
        _meanings("obx8", _OBX8, obx8, _QUALITY_FLAGS.keys() | {"absent"}),
        int(battery or _BATTERY),
        empty != "reject",
        _code_map(local),
        patient != "ignore",
    )


def _code_map(text: str) -> CodeMap:
    try:
        return code_map.parse(text)
    except ConfigError as error:
        raise DecodeError(Reason.BAD_VALUE, f"setting code_map: {error.setting}") from error


def _meanings(name: str, defaults: str, given: str, known: frozenset[str] | set[str]) -> Mapping[str, str]:
    found = {}
    for item in [*defaults.split(","), *filter(None, given.split(","))]:
        match = _SETTING.fullmatch(item.strip())
        if match is None or match[2] not in known:
            raise DecodeError(Reason.BAD_VALUE, f"setting {name}")
        found[match[1]] = match[2]
    return MappingProxyType(found)


def quality_of(field: str, marks: Delimiters, choices: Choices) -> Quality:
    """What the words of OBX-8 mean for a value."""
    flags, absent, unknown, notes = 0, "", 0, []
    for text in marks.repetitions(field) if field else ():
        word = marks.components(text)[0].strip().upper()
        meaning = choices.obx8.get(word)
        if meaning is None:
            unknown += bool(word)
            continue
        notes.append(word)
        if meaning == "absent":
            absent = absent or f"obx8_{word.lower()}"
        else:
            flags |= _QUALITY_FLAGS[meaning]
    return Quality(flags, absent, {"obx8": ",".join(notes)} if notes else {}, unknown)


def number_of(kind: str, parts: Sequence[str]) -> Number | Absent:
    """The number of an OBX-5 of type NM, ST, TX, NA (of one number), SN (comparator and number), or of none.

    A decimal comma is read where it can be nothing else.
    A value under or over what the device can measure (``<40``, ``HI``, ``-INF``) carries its side as a flag, NaN when
    there is no number. Raises ``DecodeError``; details continue ``OBX[n]-``.
    """
    given = [part.strip() for part in parts]
    if not any(part not in {"", NULL} for part in given):
        return Absent("empty")
    if kind not in _NUMERIC_TYPES:
        raise DecodeError(Reason.BAD_TYPE, "2")
    if kind == "SN" or (not kind and len(given) == 2 and given[0] in _SIDES):
        if any(given[2:]) or given[0] not in {"", "=", "<", ">", "<=", ">="}:
            raise DecodeError(Reason.BAD_VALUE, "5: a range or ratio")
        side, given = _SIDES[given[0]], given[1:2]
    else:
        side = 0
    if len(given) != 1:
        raise DecodeError(Reason.BAD_VALUE, f"5: {len(given)} components")
    return _number(given[0], side)


def _number(text: str, side: int) -> Number | Absent:
    word = text.upper()
    if word in _NO_NUMBER:
        return Absent("not_a_number")
    if word and _SIDES.get(word):
        return Number(math.nan, _SIDES[word])
    if _DASHES.fullmatch(text):
        return Absent("no_number_shown")
    found = _NUMBER.fullmatch(_COMMA.sub(r"\1.\2", text) if _COMMA.fullmatch(text) else text)
    if found is None:
        raise DecodeError(Reason.BAD_VALUE, "5")
    value = float(found[2])
    if value in SENTINELS and not found[1]:
        return Absent(f"sentinel_{value:.0f}")
    side |= _SIDES[found[1] or ""]
    # A float forgets trailing zeros and digits past the seventeenth; the text of a number names nobody.
    return Number(value, side, "" if found[2] in {repr(value), f"{value:.0f}"} else found[2])


def coded_value(kind: str, parts: Sequence[str], words: Sequence[str]) -> Number | Absent:
    """The catalogue's code of a coded vital, from its word or an MDC code. Raises ``DecodeError``."""
    if parts[0] in {"", NULL} and not any(parts[1:2]):
        return Absent("empty")
    if kind not in _WORD_TYPES:
        raise DecodeError(Reason.BAD_TYPE, "2")
    number = codes.mdc_number(*parts[:2])
    candidates = [codes.rhythm(number) if number is not None else "", *parts[:2]]
    for candidate in candidates:
        for word in (candidate, _AWAKE.get(candidate.upper(), "")):
            if word and word in words:
                return Number(float(words.index(word)))
    raise DecodeError(Reason.BAD_VALUE, "5")


def before_unit(text: str) -> tuple[str, str]:
    """The number in front of a unit that stands in OBX-5 itself, and the unit: ``70 %`` is ``70`` and ``%``; the text
    and nothing where there is none."""
    found = _BEFORE_UNIT.fullmatch(text.strip())
    return (found[1].strip(), found[2].strip()) if found is not None else (text, "")


def measured(vital: int, kind: str, parts: Sequence[str], unit: int | None) -> tuple[Number | Absent, int | None]:
    """The number of OBX-5 and its unit: ``unit``, that of OBX-6, or the one behind the number, which must be the same.

    Raises ``DecodeError`` as :func:`number_of`, and for a word behind the number that is no unit of the vital.
    """
    text, behind = before_unit(parts[0]) if len(parts) == 1 else (parts[0], "")
    if not behind:
        return number_of(kind, parts), unit
    own = unit_of(vital, behind)
    if own is None or unit not in {None, own}:
        raise DecodeError(Reason.BAD_VALUE, "5: another unit than OBX-6" if own is not None else "5")
    return number_of(kind, [text]), own


def numbers_in(text: str) -> list[float]:
    """Whatever in a text may be a number, for people to look at."""
    return [float(found.replace(",", ".")) for found in _FIRST.findall(text)[:8]]
