"""Codes of FHIR Observations, and how their members are read (device-formats.md 4.2, 4.5, 6.3; clinical.md 1.1).

A path in an error is that of FHIRPath without the resource's name: ``component[1].valueQuantity.code``. ``prefix`` is
the path of the object with a final dot, empty for the document itself.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from ingest.adapter import vital_code
from ingest.adapters.reading.observation_codes import BATTERY_MDC, LOINC_ALSO, MDC_ALSO, SNOMED_ALSO, AlsoNamed
from vitals.catalog import BY_KEY, VITALS
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.units import UNIT_BY_NAME

LOINC: Final = "http://loinc.org"
MDC: Final = "urn:iso:std:iso:11073:10101"
SNOMED: Final = "http://snomed.info/sct"

Node = dict[str, Any]
Coding = tuple[str, str]
"""System and code."""
_T = TypeVar("_T", dict[str, Any], list[Any], str)


class Meaning(NamedTuple):
    """What a coding names. A generic one (heart rate of any source, glucose of any sample) gives way to others."""

    vital: int
    is_generic: bool = False
    flags: int = 0
    context: Mapping[str, str] = MappingProxyType({})


def mdc_forms(code: int) -> Iterable[str]:
    """The spellings of a 32-bit MDC code (6.3): itself, ``2::18949``, and the bare term of partition 2 (metrics)."""
    partition, term = divmod(code, 65_536)
    yield str(code)
    yield f"{partition}::{term}"
    if partition == 2:
        yield str(term)


_GENERIC: Final = frozenset({"8867-4", "2339-0", "15074-8", "365812005", "364075005", 160_020, 160_364, 160_368})
_CONTROL_SOLUTION: Final = 160_208
_SAMPLES: Final = MappingProxyType(
    {
        160_184: "capillary_whole_blood", 160_188: "capillary_plasma", 160_192: "venous_whole_blood",
        160_196: "venous_plasma", 160_200: "arterial_whole_blood", 160_204: "arterial_plasma",
        160_364: "undetermined_whole_blood", 160_368: "undetermined_plasma", 160_212: "interstitial_fluid",
        _CONTROL_SOLUTION: "control_solution",
    }
)  # fmt: skip


def _mdc_meaning(code: int, vital: int, site: str | None) -> Meaning:
    context = {"site": site} if site else {"sample": _SAMPLES[code]} if code in _SAMPLES else {}
    flags = int(Flag.CONTROL_SOLUTION) if code == _CONTROL_SOLUTION else 0
    return Meaning(vital, code in _GENERIC, flags, MappingProxyType(context))


def _meanings() -> dict[Coding, Meaning]:
    loincs = [(loinc, AlsoNamed(vital.key)) for vital in VITALS for loinc in vital.loinc] + list(LOINC_ALSO.items())
    mdcs = [(vital.mdc, vital.key, None) for vital in VITALS if vital.mdc is not None]
    mdcs += [(code, also.vital, None) for code, also in MDC_ALSO.items()]
    others = [(code, vital.key, word) for vital in VITALS if not vital.values
              for word, code in vital.other_codes.items()]  # fmt: skip
    out: dict[Coding, Meaning] = {}
    for loinc, also in loincs:
        meaning = Meaning(vital_code(also.vital), loinc in _GENERIC, context=also.context)
        out.setdefault((LOINC, loinc), meaning)
    for concept, also in SNOMED_ALSO.items():
        out[SNOMED, concept] = Meaning(vital_code(also.vital), concept in _GENERIC, context=also.context)
    for code, key, word in (*mdcs, *others):
        site = word if key == "temp" else None
        for form in mdc_forms(code):
            out[MDC, form] = _mdc_meaning(code, vital_code(key), site)
    return out


MEANINGS: Final[Mapping[Coding, Meaning]] = MappingProxyType(_meanings())

CANONICAL: Final[Mapping[int, int]] = MappingProxyType({vital.code: UNIT_BY_NAME[vital.unit].code for vital in VITALS})
PANELS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {vital.code: tuple(vital_code(key) for key in vital.panel) for vital in VITALS if vital.panel}
)

_RESPONSIVENESS: Final = MappingProxyType(
    {"alert": "A", "confusion": "C", "confused": "C", "new confusion": "C", "voice": "V", "verbal": "V", "pain": "P",
     "unresponsive": "U"}
)  # fmt: skip


def _words() -> dict[int, dict[str, float]]:
    """Coded vital -> lower-case code or word -> value."""
    out: dict[int, dict[str, float]] = {}
    for vital in VITALS:
        if vital.values:
            numbers = {word: float(number) for number, word in enumerate(vital.values)}
            out[vital.code] = {word.lower(): number for word, number in numbers.items()}
            for word, code in vital.other_codes.items():
                out[vital.code].update(dict.fromkeys(mdc_forms(code), numbers[word]))
    acvpu = BY_KEY["acvpu"]
    out[acvpu.code].update({word: float(acvpu.values.index(code)) for word, code in _RESPONSIVENESS.items()})
    return out


WORDS: Final[Mapping[int, Mapping[str, float]]] = MappingProxyType(_words())

ABSENT: Final = frozenset(
    {"unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked", "not-applicable",
     "unsupported", "as-text", "error", "not-a-number", "negative-infinity", "positive-infinity", "not-performed",
     "not-permitted"}
)  # fmt: skip
SIDES: Final = MappingProxyType(
    {
        "negative-infinity": int(Flag.BELOW_RANGE), "positive-infinity": int(Flag.ABOVE_RANGE),
        "<": int(Flag.BELOW_RANGE), "<=": int(Flag.BELOW_RANGE),
        ">": int(Flag.ABOVE_RANGE), ">=": int(Flag.ABOVE_RANGE),
    }
)  # fmt: skip
"""Absent reasons, comparators and interpretations that mean a value out of the sensor's range, to the flag."""
INTERPRETATIONS: Final = frozenset({"N", "L", "H", "LL", "HH", "A", "AA", "<", ">"})
MODALITIES: Final = MappingProxyType(
    {form: word for code, word in ((150_580, "fast"), (150_584, "slow"), (150_588, "spot")) for form in mdc_forms(code)}
)
BATTERY: Final = frozenset((MDC, form) for form in mdc_forms(BATTERY_MDC))
SUPPLEMENTAL_TYPES: Final = frozenset(mdc_forms(68_193))
COINCIDENT: Final = frozenset((MDC, form) for code in (67_975, 68_226, 67_983, 68_072) for form in mdc_forms(code))
"""Coincident time stamp: absolute, base offset, relative and high-resolution device clocks (4.3)."""


MEASUREMENT_STATUS: Final = "67911"
"""MDC code of the measurement status, of which 4.5 gives the bits alone (unconfirmed)."""


class StatusBit(NamedTuple):
    """One bit of the measurement status (4.5); ``is_absent``: there is no value that could be used."""

    word: str
    flags: int = 0
    is_absent: bool = False


STATUS_BITS: Final[Mapping[str, StatusBit]] = MappingProxyType(
    {
        "0": StatusBit("invalid", is_absent=True),
        "1": StatusBit("questionable", int(Flag.LOW_QUALITY)),
        "2": StatusBit("not_available", is_absent=True),
        "3": StatusBit("calibration_ongoing", int(Flag.LOW_QUALITY)),
        "4": StatusBit("test_data", int(Flag.TEST_DATA)),
        "5": StatusBit("demo_data", int(Flag.TEST_DATA)),
        "8": StatusBit("validated"),
        "9": StatusBit("early_indication", int(Flag.ESTIMATED)),
        "10": StatusBit("ongoing"),
        "14": StatusBit("exceeds_limits"),
        "15": StatusBit("alarm_inhibited"),
    }
)

_SAFE: Final = MappingProxyType(
    {
        LOINC: ("loinc", re.compile(r"(?:LA)?\d{1,7}-\d", re.ASCII)),
        MDC: ("mdc", re.compile(r"\d{1,10}|\d{1,5}::\d{1,5}", re.ASCII)),
        SNOMED: ("sct", re.compile(r"\d{6,18}", re.ASCII)),
    }
)


def member(node: Node, name: str, kind: type[_T], prefix: str) -> _T | None:
    """A member of ``node``, None when it is not there; raises ``DecodeError`` when it is of another type."""
    value = node.get(name)
    if isinstance(value, kind):
        return value
    if value is None and name not in node:
        return None
    raise DecodeError(Reason.BAD_TYPE, prefix + name)


def required(node: Node, name: str, kind: type[_T], prefix: str) -> _T:
    """A member of ``node`` that has to be there."""
    value = member(node, name, kind, prefix)
    if value is None:
        raise DecodeError(Reason.MISSING_FIELD, prefix + name)
    return value


def objects(node: Node, name: str, prefix: str) -> list[Node]:
    """The objects of an array member, none when it is not there."""
    items = member(node, name, list, prefix)
    if items is None:
        return []
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise DecodeError(Reason.BAD_TYPE, f"{prefix}{name}[{number}]")
    return items


def codings(node: Node, name: str, prefix: str) -> list[Coding]:
    """System and code of each coding of a CodeableConcept member that has both."""
    concept = member(node, name, dict, prefix)
    return [] if concept is None else codings_of(concept, f"{prefix}{name}.")


def pairs(node: Node, name: str, word: str, prefix: str) -> list[Coding]:
    """System and ``word`` of each object of the list ``name`` that has a ``word``; "" for no system."""
    out = []
    for number, item in enumerate(objects(node, name, prefix)):
        system, value = item.get("system", ""), item.get(word, "")
        if not isinstance(system, str) or not isinstance(value, str):
            raise DecodeError(Reason.BAD_TYPE, f"{prefix}{name}[{number}]")
        if value:
            out.append((system, value))
    return out


def codings_of(concept: Node, prefix: str) -> list[Coding]:
    """System and code of each coding of a CodeableConcept that has a code; "" for no system."""
    return pairs(concept, "coding", "code", prefix)


def meaning(found: Sequence[Coding]) -> Meaning | None:
    """What the codings name: the first that is known and not generic, else the first known one, else None.

    Flags and context are those of all known codings: one of them may say that it is a control solution.
    """
    known = [MEANINGS[coding] for coding in found if coding in MEANINGS]
    if len(known) < 2:
        return known[0] if known else None
    chosen = next((one for one in known if not one.is_generic), known[0])
    flags = 0
    context: dict[str, str] = {}
    for one in (*known, chosen):
        flags |= one.flags
        context.update(one.context)
    return Meaning(chosen.vital, chosen.is_generic, flags, context)


_FAMILIES: Final = [
    frozenset(map(vital_code, keys))
    for keys in (
        ("heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art"), ("glucose", "glucose_bg", "glucose_isf"),
        ("resp_rate", "resp_rate_vent"), ("bp", "bp_avg"), *(
            tuple(f"{of}_{part}" for of in ("bp", "bp_avg", "bp_art") if f"{of}_{part}" in BY_KEY)
            for part in ("sys", "dia", "mean")
        ),
    )
]  # fmt: skip
"""Vital signs that two codings of one value may name: the same by another method or of another sample."""


def _agree(one: int, other: int) -> bool:
    return (
        one == other
        or any({one, other} <= family for family in _FAMILIES)
        or other in PANELS.get(one, ())
        or one in PANELS.get(other, ())
    )


def conflicting(found: Sequence[Coding]) -> tuple[int, ...]:
    """The vital signs that the codings name, where two of them cannot be meant by one value; else none."""
    vitals = list(dict.fromkeys(MEANINGS[coding].vital for coding in found if coding in MEANINGS))
    return () if all(_agree(one, other) for one in vitals for other in vitals) else tuple(vitals)


def label(found: Sequence[Coding]) -> str:
    """The codings of public systems that name a vital sign: ``loinc:59408-5 sct:364075005``."""
    return " ".join(name for coding in found if coding in MEANINGS and (name := safe([coding])))


def safe(found: Sequence[Coding]) -> str | None:
    """The first coding of a public system as ``loinc:8327-9``; codes of other systems may be anybody's text."""
    for system, code in found:
        if system in _SAFE:
            name, form = _SAFE[system]
            if form.fullmatch(code):
                return f"{name}:{code}"
    return None
