"""Reports of engine events about readings and rules, in a nurse's words, as the alert book keeps them."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from alerts.rules.limits import Side, describe_limit, quantity, written
from alerts.rules.spec import Kind, Op, RuleSpec
from vitals.catalog import BY_CODE
from vitals.glossary import Flag
from vitals.times import DAY_NS
from vitals.units import UNIT_BY_CODE

_DECIMALS: Final = 2
_LIMIT_DECIMALS: Final = 3


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


_OF_SD: Final = (Op.ROBUST_Z, Op.BELOW_MEAN_SD)


def _sized(spec: RuleSpec, amount: float) -> str:
    """A canonical amount of what a rule compares: ``0.91 kg``, ``4 points``, ``1.3 times``, ``30 %``."""
    if spec.op == Op.RATIO:
        return f"{amount:g} times"
    if spec.op in _OF_SD:
        return f"{amount:g} SD"
    if spec.op == Op.FRACTION:
        return f"{round(100 * amount, _DECIMALS):g} %"
    unit = "%" if spec.op == Op.SHARE_BELOW else BY_CODE[spec.vital].unit
    if unit == "%" and spec.op in (Op.DIFFERENCE, Op.CHANGE):
        return f"{amount:g} points"
    return written(amount, unit)


def _rate(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    moves = "falls" if measured < 0 else "rises"
    return f"{vital.name} {quantity(vital, value)}, {moves} by {_sized(spec, round(abs(measured), _DECIMALS))} a minute"


def _forecast(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    # A line goes on for ever. No further than the sensor measures, or than is plausible, it says anything.
    low, high = vital.sensor_range or vital.implausible
    where, to = ("under", low) if measured < low else ("over", high) if measured > high else ("at", measured)
    return f"{vital.name} {quantity(vital, value)}, expected {where} {quantity(vital, to)} in {spec.a:g} min"


def _deviation(spec: RuleSpec, value: float, measured: float) -> str:
    vital = BY_CODE[spec.vital]
    if spec.op == Op.DIFFERENCE:
        return f"{vital.name} {quantity(vital, value)}, usual at this hour {quantity(vital, value - measured)}"
    joint = "what is usual" if spec.op == Op.RATIO else "from what is usual"
    return f"{vital.name} {quantity(vital, value)}, {_sized(spec, round(measured, _DECIMALS))} {joint} at this hour"


def _trend(spec: RuleSpec, value: float, measured: float) -> str:
    vital, days = BY_CODE[spec.vital], max(1, round(spec.window_ns / DAY_NS))
    span = "a day" if days == 1 else f"{days} days"
    match spec.op:
        case Op.CHANGE:
            sign = "+" if measured > 0 else ""
            return f"{vital.name} {quantity(vital, value)}, {sign}{_sized(spec, round(measured, _DECIMALS))} in {span}"
        case Op.MEAN:
            return f"{vital.name}, mean of {span} {quantity(vital, measured)}"
        case Op.BELOW_MEAN_SD:
            where = "below" if measured < 0 else "above"
            far = _sized(spec, round(abs(measured), _DECIMALS))
            return f"{vital.name} {quantity(vital, value)}, {far} {where} the mean of {span}"
        case Op.FRACTION:
            return f"{vital.name} {_sized(spec, round(measured, _DECIMALS))} of the first day on record"
    share = _sized(spec, round(measured, _DECIMALS))
    return f"{vital.name} under {quantity(vital, spec.a)} in {share} of the readings of {span}"


def _score(spec: RuleSpec, _value: float, measured: float) -> str:
    return f"{BY_CODE[spec.vital].name} {measured:.0f}"


_WORDS: Final[Mapping[int, Callable[[RuleSpec, float, float], str]]] = MappingProxyType({
    Kind.RATE: _rate, Kind.FORECAST: _forecast, Kind.DEVIATION: _deviation, Kind.TREND: _trend, Kind.SCORE: _score,
})  # fmt: skip


def describe(spec: RuleSpec, value: float, flags: int, measured: float) -> str:
    """A reading by a rule in a nurse's words; values are canonical.

    Worked: ``Interstitial glucose (CGM) 62 mg/dL, limit 70 mg/dL (low)``, ``Body weight 82.3 kg, +1.4 kg in a day,
    limit 0.91 kg (high)``.
    """
    vital, spoken = BY_CODE[spec.vital], _WORDS.get(spec.kind)
    if spec.kind == Kind.FAULT:
        return f"{vital.name}: the sensor is faulty or not on the body"
    if spec.kind == Kind.STUCK:
        return f"{vital.name} has been exactly {quantity(vital, value)} for {measured:.0f} min: is the sensor on?"
    if spoken is None:
        return describe_limit(spec, measured if spec.median_of > 1 and not math.isnan(measured) else value, flags)
    if flags & (Flag.BELOW_RANGE | Flag.ABOVE_RANGE):
        seen = f"{vital.name} {'below' if flags & Flag.BELOW_RANGE else 'above'} the sensor's range"
    else:
        seen = spoken(spec, value, measured)
    pace = " a minute" if spec.kind == Kind.RATE else ""
    return f"{seen}, limit {_sized(spec, round(spec.enter, _LIMIT_DECIMALS))}{pace} ({Side(spec.side).word})"


def describe_end(spec: RuleSpec, value: float, flags: int, measured: float, remark: str) -> str:
    """A reading that ended a condition, likewise."""
    vital = BY_CODE[spec.vital]
    if spec.kind == Kind.FAULT:
        return f"{vital.name} is measured without a fault again"
    if spec.kind == Kind.STUCK:
        return f"{vital.name} changes again: {quantity(vital, value)}"
    return f"{describe(spec, value, flags, measured)}: {remark}"
