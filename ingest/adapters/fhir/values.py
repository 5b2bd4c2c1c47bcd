"""Values of FHIR Observations and components: ``value[x]`` and ``dataAbsentReason`` (device-formats.md 4.2)."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ingest.adapters.fhir import codes
from ingest.adapters.fhir.codes import Node, member, required
from ingest.adapters.reading.units import ucum_of, unit_of
from vitals.catalog import BY_CODE, BY_KEY
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.units import UNIT_BY_CODE, to_canonical

VALUES: Final = (
    "valueQuantity", "valueCodeableConcept", "valueSampledData", "valueInteger", "valueString", "valueBoolean",
    "valueRange", "valueRatio", "valueTime", "valueDateTime", "valuePeriod",
)  # fmt: skip
TOKENS: Final = "ELU"
"""SampledData tokens for an error, below and above the limits (4.2, unconfirmed)."""

_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST: Final = 1e12
"""No measurement, in whatever unit, is a larger number, and conversion keeps it finite."""
_MS_NS: Final = 1e6
_COUNTED: Final = "{steps}"
_SHARE: Final = BY_KEY["fio2"].code
"""A vital that is a share, for the units of one."""
_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
_NAN: Final = float("nan")


class Value(NamedTuple):
    """One value; NaN with a range flag when it is out of range without a number."""

    value: float
    unit: int
    flags: int = 0


class Samples(NamedTuple):
    """A series. ``values`` holds (place, value, flags) of every sample but errors, which ``errors`` counts."""

    values: list[tuple[int, float, int]]
    unit: int
    step_ns: int
    size: int
    errors: int
    limits: Mapping[str, float]


class DataAbsent(NamedTuple):
    """No value, for a reason of the FHIR code system, or ``other``."""

    reason: str


def finite(node: Node, name: str, prefix: str) -> float:
    """A decimal member that has to be there."""
    if name not in node:
        raise DecodeError(Reason.MISSING_FIELD, prefix + name)
    value = node[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError(Reason.BAD_TYPE, prefix + name)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= _LARGEST:
        raise DecodeError(Reason.BAD_VALUE, prefix + name)
    return number


def _unit(node: Node, vital: int, prefix: str) -> int:
    """The unit of a Quantity: its code, without one its text; never assumed."""
    name = "code" if "code" in node else "unit"
    if name not in node:
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}code")
    text = node[name]
    if not isinstance(text, str):
        raise DecodeError(Reason.BAD_TYPE, prefix + name)
    unit = None if BY_CODE[vital].values else unit_of(vital, text)
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, prefix + name)
    return unit


def _quantity(node: Node, vital: int, prefix: str) -> Value:
    value, unit = finite(node, "value", prefix), _unit(node, vital, prefix)
    if "comparator" not in node:
        return Value(value, unit)
    comparator = member(node, "comparator", str, prefix) or ""
    if comparator not in codes.SIDES:
        raise DecodeError(Reason.BAD_VALUE, f"{prefix}comparator")
    return Value(value, unit, codes.SIDES[comparator])


def _concept(node: Node, vital: int, prefix: str) -> Value:
    """A coded vital's value by code, else by a known word in the text."""
    words = codes.WORDS.get(vital)
    if words is None:
        raise DecodeError(Reason.BAD_TYPE, prefix[:-1])
    found = [code for _, code in codes.codings_of(node, prefix)]
    found += [coding["display"] for coding in node.get("coding", ()) if isinstance(coding.get("display"), str)]
    text = member(node, "text", str, prefix)
    for word in (*found, text or ""):
        if word.lower() in words:
            return Value(words[word.lower()], codes.CANONICAL[vital])
    raise DecodeError(Reason.BAD_VALUE, prefix[:-1])


def _integer(node: Node, vital: int, prefix: str) -> Value:
    """A whole number has no unit: only what is counted needs none."""
    if BY_CODE[vital].unit != _COUNTED:
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}valueQuantity.code")
    return Value(finite(node, "valueInteger", prefix), codes.CANONICAL[vital])


def _step_ns(node: Node, prefix: str) -> int:
    period_ms = finite(node, "period", prefix)
    step_ns = round(period_ms * _MS_NS) if 0 < period_ms <= _LARGEST else 0
    if step_ns <= 0:
        raise DecodeError(Reason.BAD_VALUE, f"{prefix}period")
    return step_ns


def _samples(node: Node, vital: int, prefix: str, tokens: str) -> Samples:
    """sample = origin + factor * token; ``period`` ms apart; tokens for an error, below and above the limits."""
    origin_node = required(node, "origin", dict, prefix)
    words = required(node, "data", str, prefix).split()
    unit = _unit(origin_node, vital, f"{prefix}origin.")
    origin, step_ns = finite(origin_node, "value", f"{prefix}origin."), _step_ns(node, prefix)
    factor = finite(node, "factor", prefix) if "factor" in node else 1.0
    if "dimensions" in node and finite(node, "dimensions", prefix) != 1:
        raise DecodeError(Reason.BAD_VALUE, f"{prefix}dimensions")
    limits = {word: finite(node, name, prefix) for name, word in (("lowerLimit", "lower_limit"),
              ("upperLimit", "upper_limit")) if name in node}  # fmt: skip
    if len(set(tokens)) != 3 or len(tokens) != 3:
        raise DecodeError(Reason.BAD_VALUE, "setting sampled_data_tokens")
    error, below, above = tuple(tokens)
    values: list[tuple[int, float, int]] = []
    for place, word in enumerate(words):
        if word in {below, above}:
            values.append((place, _NAN, _BELOW if word == below else _ABOVE))
        elif _NUMBER.fullmatch(word):
            value = origin + factor * float(word)
            if not abs(value) <= _LARGEST:
                raise DecodeError(Reason.BAD_VALUE, f"{prefix}data: sample {place}")
            values.append((place, value, 0))
        elif word != error:
            raise DecodeError(Reason.BAD_VALUE, f"{prefix}data: sample {place}")
    if not words:
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}data")
    return Samples(values, unit, step_ns, len(words), len(words) - len(values), limits)


def _absent(node: Node, vital: int, prefix: str) -> Value | DataAbsent:
    found = [code for _, code in codes.codings(node, "dataAbsentReason", prefix)]
    reason = next((code for code in found if code in codes.ABSENT), "other")
    if reason in codes.SIDES and not BY_CODE[vital].values and not BY_CODE[vital].panel:
        return Value(_NAN, codes.CANONICAL[vital], codes.SIDES[reason])
    return DataAbsent(reason)


def percent(node: Node, prefix: str) -> float:
    """The Quantity of an Observation that is no vital sign, in percent."""
    path = f"{prefix}valueQuantity."
    quantity = required(node, "valueQuantity", dict, prefix)
    unit = unit_of(_SHARE, member(quantity, "code" if "code" in quantity else "unit", str, path) or "")
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, f"{path}code")
    return float(to_canonical(finite(quantity, "value", path), UNIT_BY_CODE[unit].ucum, "%"))


def value_name(node: Node, prefix: str) -> str | None:
    """Name of the one ``value[x]`` that is there."""
    if "valueQuantity" in node and len(node) == 2:
        return "valueQuantity"
    given = [name for name in VALUES if name in node]
    if len(given) > 1:
        raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"{prefix}value[x]")
    return given[0] if given else None


def value(node: Node, vital: int, prefix: str, tokens: str) -> Value | Samples | DataAbsent | None:
    """What an Observation or a component says of ``vital``, None when it says nothing.

    A value beside an absent reason is refused (rule obs-6), but for an infinity: that is on which side it lies.
    """
    name = value_name(node, prefix)
    absent = _absent(node, vital, prefix) if "dataAbsentReason" in node else None
    if name is None:
        return absent
    if isinstance(absent, DataAbsent):
        raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"{prefix}dataAbsentReason")
    if name == "valueInteger":
        found: Value | Samples = _integer(node, vital, prefix)
    elif name in {"valueQuantity", "valueCodeableConcept", "valueSampledData"}:
        found = _of_object(name, required(node, name, dict, prefix), vital, f"{prefix}{name}.", tokens)
    else:
        raise DecodeError(Reason.BAD_TYPE, prefix + name)
    if absent is not None:
        if isinstance(found, Samples):
            raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"{prefix}dataAbsentReason")
        return found._replace(flags=found.flags | absent.flags)
    return found


def _of_object(name: str, node: Node, vital: int, prefix: str, tokens: str) -> Value | Samples:
    if name == "valueQuantity":
        return _quantity(node, vital, prefix)
    return _concept(node, vital, prefix) if name == "valueCodeableConcept" else _samples(node, vital, prefix, tokens)


def other(node: Node, prefix: str) -> Any:
    """A value of no vital, for the context: a number with its known unit, a truth value, a public code; else None."""
    name = value_name(node, prefix)
    if name == "valueBoolean":
        truth = node[name]
        if not isinstance(truth, bool):
            raise DecodeError(Reason.BAD_TYPE, prefix + name)
        return truth
    if name == "valueInteger":
        return finite(node, name, prefix)
    if name == "valueCodeableConcept":
        return codes.safe(codes.codings(node, name, prefix))
    if name == "valueQuantity":
        return _other_quantity(required(node, name, dict, prefix), f"{prefix}{name}.")
    return None


def _other_quantity(quantity: Node, prefix: str) -> dict[str, Any]:
    unit = member(quantity, "code" if "code" in quantity else "unit", str, prefix) or ""
    comparator = member(quantity, "comparator", str, prefix)
    out: dict[str, Any] = {"value": finite(quantity, "value", prefix)}
    ucum = ucum_of(unit)
    if ucum is not None:
        out["unit"] = ucum
    if comparator in codes.SIDES:
        out["comparator"] = comparator
    return out
