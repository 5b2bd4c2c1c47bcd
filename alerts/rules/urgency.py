"""How urgency grows with the value: extreme limits, what an unanswered reading becomes, and impossibly low values.

A value further out never waits longer, or gets less, than one nearer (clinical.md 1.3, design default).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from alerts.rules.arrest import ARREST_BELOW, EXTREME_NS, EXTREME_OF, PULSES, arrest_line
from alerts.rules.limits import Side
from alerts.rules.own import plain_face
from alerts.rules.protocol import MonitoringProtocol
from alerts.rules.spec import CompiledRule, Kind, RuleFace, RuleSpec
from alerts.rules.syntax import CLEAR_S, Continuous, ScoreCriterion, Spot, Threshold
from alerts.rules.types import CAUSES, CombinationRule, LimitRule, criteria
from vitals.catalog import BY_CODE, BY_KEY, Vital
from vitals.glossary import Severity
from vitals.units import from_canonical, to_canonical

CONFIRM_PULSE_NS: Final = 60_000_000_000
"""A pulse that an oximeter or a cuff counts misses beats: it is confirmed by a second reading, or after this time."""
LONE_S1: Final[Mapping[str, float]] = MappingProxyType({
    "spo2": 87.0, **dict.fromkeys(("bp_sys", "bp_art_sys"), 90.0), **dict.fromkeys(PULSES, 40.0),
    **dict.fromkeys(("glucose_bg", "glucose_isf", "glucose"), math.nextafter(54.0, 0.0)),
})  # fmt: skip
"""Vital sign -> from here down one reading that is not repeated becomes S1 where its rule does not say (canonical)."""
_MOLAR: Final = "mmol/L"
_MOLAR_DECIMALS: Final = 1
"""Meters and sensors show so many decimals of mmol/L."""
_ADVICE: Final = "Look at the patient now: the sensor is off, or the heart or the breathing stands still."
_S1: Final = int(Severity.S1)


def in_both_units(line: float, side: Side, vital: Vital) -> float:
    """The canonical line of an inclusive limit that holds in either unit of its vital sign.

    A glucose limit of 45 mg/dL is one of 2.5 mmol/L to a meter that shows mmol/L with one decimal, and 2.5 mmol/L are
    45.05 mg/dL. No whole number of mg/dL lies between the two. Worked: 45 or below is 45.0455 or below; 400 or above
    stays 400, because 22.2 mmol/L are more.
    """
    if vital.unit != "mg/dL":
        return line
    shown = round(float(from_canonical(line, vital.unit, _MOLAR)), _MOLAR_DECIMALS)
    other = float(to_canonical(shown, _MOLAR, vital.unit))
    return max(line, other) if side is Side.LOW else min(line, other)


def _line(threshold: Threshold, unit: str, vital: Vital) -> float:
    """The last canonical value beyond a comparator, itself included."""
    line = float(to_canonical(threshold.limit, unit, vital.unit))
    if threshold.inclusive:
        return in_both_units(line, threshold.side, vital)
    return math.nextafter(line, threshold.side.never)


def urgent(rule: Any, part: Any, spec: RuleSpec) -> RuleSpec:
    """``spec``, the criterion ``part`` of ``rule``, with its lines of urgency; those of other severities have none."""
    side, vital = Side(spec.side), BY_CODE[spec.vital]
    spec = spec._replace(extreme=side.never, arrest=side.never, lone=side.never)
    if spec.severity != _S1 or isinstance(part, ScoreCriterion):
        return spec
    word, default = rule.unanswered, LONE_S1.get(vital.key)
    if word == "S1":
        spec = spec._replace(lone=spec.enter)
    elif word is None and side is Side.LOW and default is not None and spec.kind == Kind.LIMIT:
        spec = spec._replace(lone=min(spec.enter, default))
    if spec.kind != Kind.LIMIT or isinstance(rule, CombinationRule) or spec.from_min != spec.to_min:
        return spec
    arrest = arrest_line(vital.key) if side is Side.LOW else side.never
    own = getattr(rule, "extreme", None)
    extreme = arrest if own is None else _line(own.threshold, part.unit, vital)
    return _persistence(spec._replace(extreme=extreme, arrest=arrest), vital)


def _persistence(spec: RuleSpec, vital: Vital) -> RuleSpec:
    """How many readings make an extreme certain. A glucose sensor measures every few minutes: one is enough."""
    if spec.continuous and not vital.key.startswith("glucose"):
        return spec._replace(extreme_of=EXTREME_OF, extreme_ns=EXTREME_NS)
    counted = vital.key in PULSES and vital.key != "heart_rate"
    return spec._replace(extreme_ns=CONFIRM_PULSE_NS if counted else 0)


def is_awaited(spec: RuleSpec) -> bool:
    """Whether a person is asked for the second reading of an S1."""
    return spec.severity == _S1 and not spec.continuous and spec.on_count > 1


def without_extreme(rule: Any) -> Any:
    """A rule for a child: no extreme limit holds under 16 years (DESIGN section 8)."""
    return rule.model_copy(update={"extreme": None}) if isinstance(rule, LimitRule) else rule


def arrest_rules(
    protocols: Sequence[tuple[MonitoringProtocol, Mapping[str, str], int]], rules: tuple[CompiledRule, ...]
) -> Iterator[tuple[LimitRule, RuleFace, Mapping[str, str]]]:
    """A rule for impossibly low values of each vital that a protocol names and no S1 rule watches on the low side.

    ``protocols`` are (protocol, how its programme measures, version of the programme); ``rules`` apply already.
    """
    seen = {BY_CODE[rule.spec.vital].key for rule in rules if not math.isinf(rule.spec.arrest)}
    for protocol, measures, version in protocols:
        for key in _named(protocol):
            if key in ARREST_BELOW and key not in seen:
                seen.add(key)
                rule, name = _arrest(key), f"{protocol.name}:arrest@{key}"
                face = plain_face(name, version, rule.title, CAUSES[key], Severity.S1, technical=False)
                yield rule, face._replace(role="clinician", advice=_ADVICE), measures


def _named(protocol: MonitoringProtocol) -> Iterator[str]:
    for rule in protocol.rules:
        for _, part in criteria(rule):
            if not isinstance(part, ScoreCriterion):
                yield from (part.vital, *part.also_on)


@cache
def _arrest(key: str) -> LimitRule:
    vital = BY_KEY[key]
    return LimitRule(
        id="arrest", type="limit", title=f"{vital.name} impossibly low", severity="S1", vital=key, unit=vital.unit,
        below=ARREST_BELOW[vital.key], continuous=Continuous(for_s=EXTREME_NS / 1e9, clear_s=CLEAR_S),
        spot=Spot(readings=1),
    )  # fmt: skip
