"""What events of the engine say of readings and rules, in a nurse's words, and as the alert book keeps it."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from alerts.rules import Side, describe_limit, quantity
from alerts.spec import Kind, Op, RuleSpec
from vitals.catalog import BY_CODE
from vitals.glossary import Flag
from vitals.units import UNIT_BY_CODE

_DAY_NS: Final = 86_400 * 1_000_000_000


def words(flags: int) -> tuple[str, ...]:
    """Flags as the words of the glossary."""
    return tuple(str(flag.name).lower() for flag in Flag if flags & flag)


def value_of(code: int, time_ns: int, value: float, flags: int) -> dict[str, Any]:
    """A reading; None where it has no number."""
    vital = BY_CODE[code]
    number = None if math.isnan(value) else value
    return {"vital": vital.key, "value": number, "unit": vital.unit, "time_ns": time_ns, "flags": list(words(flags))}


def limit_of(spec: RuleSpec) -> dict[str, Any]:
    """The parameters of a rule."""
    return {
        "vital": BY_CODE[spec.vital].key, "side": Side(spec.side).word, "value": spec.limit,
        "unit": UNIT_BY_CODE[spec.unit].ucum, "deadband": spec.deadband, "on_delay_s": spec.on_delay_ns / 1e9,
        "kind": Kind(spec.kind).name.lower(), "inclusive": bool(spec.inclusive),
    }  # fmt: skip


def _rate(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    moves = "falls" if measured < 0 else "rises"
    return f"{vital.name} {quantity(vital, value)}, {moves} by {abs(measured):.1f} {_unit(spec)} a minute"


def _forecast(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    return f"{vital.name} {quantity(vital, value)}, expected at {quantity(vital, measured)} in {spec.a:g} min"


def _deviation(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    if spec.op == Op.RATIO:
        return f"{vital.name} {quantity(vital, value)}, {measured:.1f} times what is usual at this hour"
    if spec.op == Op.ROBUST_Z:
        return f"{vital.name} {quantity(vital, value)}, {abs(measured):.1f} spreads from what is usual at this hour"
    return f"{vital.name} {quantity(vital, value)}, usual at this hour {quantity(vital, value - measured)}"


def _trend(spec: RuleSpec, value: float, measured: float) -> str:
    vital, days = BY_CODE[spec.vital], max(1, round(spec.window_ns / _DAY_NS))
    span = "a day" if days == 1 else f"{days} days"
    match spec.op:
        case Op.CHANGE:
            return f"{vital.name} {quantity(vital, value)}, {measured:+.1f} {_unit(spec)} in {span}"
        case Op.MEAN:
            return f"{vital.name}, mean of {span} {quantity(vital, measured)}"
        case Op.BELOW_MEAN_SD:
            return f"{vital.name} {quantity(vital, value)}, {-measured:.1f} SD below the mean of {span}"
        case Op.FRACTION:
            return f"{vital.name} {100 * measured:.0f} % of the first day on record"
    return f"{vital.name} under {quantity(vital, spec.a)} in {measured:.1f} % of the readings of {span}"


def _stuck(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    return f"{vital.name} has been exactly {quantity(vital, value)} for {measured:.0f} min: is the sensor on?"


def _fault(spec: RuleSpec, _value: float, _measured: float) -> str:
    return f"{BY_CODE[spec.vital].name}: the sensor is faulty or not on the body"


def _score(spec: RuleSpec, _value: float, measured: float) -> str:
    return f"{BY_CODE[spec.vital].name} {measured:.0f}"


_WORDS: Final[Mapping[int, Callable[[RuleSpec, float, float], str]]] = MappingProxyType({
    Kind.RATE: _rate, Kind.FORECAST: _forecast, Kind.DEVIATION: _deviation, Kind.TREND: _trend, Kind.STUCK: _stuck,
    Kind.FAULT: _fault, Kind.SCORE: _score,
})  # fmt: skip


def _unit(spec: RuleSpec) -> str:
    return BY_CODE[spec.vital].unit


def describe(spec: RuleSpec, value: float, flags: int, measured: float) -> str:
    """A reading by a rule in a nurse's words; values are canonical.

    Worked: ``Interstitial glucose (CGM) 62 mg/dL, limit 70 mg/dL (low)``, ``Body weight 82.3 kg, +1.4 kg in a day``.
    """
    spoken = _WORDS.get(spec.kind)
    if spoken is None or flags & (Flag.BELOW_RANGE | Flag.ABOVE_RANGE):
        return describe_limit(spec, measured if spec.median_of > 1 and not math.isnan(measured) else value, flags)
    return spoken(spec, value, measured)
