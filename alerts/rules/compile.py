"""Protocols compiled for one patient's context to what the kernels compare; equal inputs give the same object.

Numbers pass through the same conversion as values (clinical.md 1.2), a deadband as part of its limit. What a rule does
not say is filled in from clinical.md 4.7 (owner, time to act) and 5.3 (delays, hysteresis).
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from alerts.rules import spec
from alerts.rules.coverage import out_of_place
from alerts.rules.gates import PatientContext, shut
from alerts.rules.limits import Side
from alerts.rules.protocol import MonitoringProtocol, patched
from alerts.rules.spec import Compiled, CompiledRule, Kind, Op, RuleFace, RuleSpec, TroubleRule
from alerts.rules.syntax import (
    APART_S,
    CLEAR_S,
    HIGH_GLUCOSE,
    HIGH_GLUCOSE_DEADBAND,
    SUPPRESSORS,
    Compared,
    Criterion,
    DeviationCriterion,
    LimitCriterion,
    RateCriterion,
    ScoreCriterion,
    Sized,
    Suppressor,
    TrendCriterion,
)
from alerts.rules.types import CombinationRule, ForecastRule, Rule, SilenceRule, TechnicalRule, cause_of, criteria
from alerts.rules.urgency import arrest_rules, in_both_units, urgent, without_extreme
from alerts.rules.variants import variants
from alerts.scores.tables import SOURCES
from vitals.catalog import BY_KEY, Vital
from vitals.errors import InvalidRequest
from vitals.glossary import Mode
from vitals.times import DAY_NS
from vitals.units import UNIT_BY_NAME, from_canonical, to_canonical

SLA_S: Final[Mapping[str, int]] = MappingProxyType({"S1": 300, "S2": 3600, "S3": 86_400, "T": 86_400})
"""How long an alert may wait for a person (clinical.md 4.7)."""
RECHECK_S: Final[Mapping[str, int]] = MappingProxyType({"S1": 900, "S2": 3600, "S3": 86_400, "T": 86_400})
"""When an acknowledged alert of a spot-measured vital asks for a new measurement."""
ROLES: Final[Mapping[str, str]] = MappingProxyType({"S1": "clinician", "S2": "nurse", "S3": "nurse", "T": "technician"})
"""Who owns an alert."""
_SEVERITIES: Final[Mapping[str, int]] = MappingProxyType({"S1": 1, "S2": 2, "S3": 3, "T": 3})
_CERTAIN_SCORE: Final = 7
"""A score of so much raises on one evaluation (clinical.md 2.3)."""
_NS: Final = 1_000_000_000
_TREND_STALENESS_NS: Final = 2 * DAY_NS
"""Two days in a row are within this."""
_DECIMALS: Final = 9
_BAND_DECIMALS: Final = 2
_CACHED: Final = 4096
_KINDS: Final[Mapping[type, Kind]] = MappingProxyType(
    {
        LimitCriterion: Kind.LIMIT,
        RateCriterion: Kind.RATE,
        ForecastRule: Kind.FORECAST,
        DeviationCriterion: Kind.DEVIATION,
        TrendCriterion: Kind.TREND,
    }
)
_OPS: Final[Mapping[str, Op]] = MappingProxyType({
    "difference": Op.DIFFERENCE, "ratio": Op.RATIO, "robust_z": Op.ROBUST_Z, "change": Op.CHANGE, "mean": Op.MEAN,
    "below_mean_sd": Op.BELOW_MEAN_SD, "fraction": Op.FRACTION, "share_below": Op.SHARE_BELOW,
})  # fmt: skip
_DIFFERENCES: Final = frozenset({Op.DIFFERENCE, Op.CHANGE})
"""Measures whose numbers are differences of values, as those of a rate are."""


class Adopted(NamedTuple):
    """The protocols of a programme in the version that is in force."""

    programme: str
    version: int
    protocols: tuple[MonitoringProtocol, ...]

    def measures(self) -> dict[str, str]:
        """How the programme measures vital signs; its protocols agree."""
        return {key: mode for protocol in self.protocols for key, mode in protocol.measures.items()}


class RuleOverride(NamedTuple):
    """A patient's own version of a rule: ``changes`` is the JSON of a merge patch, empty where the rule is off."""

    rule: str
    version: int
    changes: str


class _Outcome(NamedTuple):
    """What one rule is for one patient; ``shut`` says why it is nothing."""

    name: str
    rules: tuple[CompiledRule, ...] = ()
    silences: tuple[spec.CompiledSilence, ...] = ()
    troubles: tuple[TroubleRule, ...] = ()
    shut: str = ""


@lru_cache(maxsize=_CACHED)
def compile_protocols(
    adopted: tuple[Adopted, ...], context: PatientContext, overrides: tuple[RuleOverride, ...] = ()
) -> Compiled:
    """Everything that watches a patient, in the order of programmes, protocols and rules.

    Equal inputs give the same object. Ages are not asked here: what is in force goes on when the context changes, and
    is refused before (``check_enrolment``). An override that does not fit its rule any more leaves the rule as the
    protocol has it, and a rule that comes a second time is left out.
    """
    changed = {override.rule: override for override in overrides}
    outcomes, seen = [], set[str]()
    for one in adopted:
        for outcome, rule, protocol in _outcomes(one, context):
            if outcome.name in seen:
                continue
            seen.add(outcome.name)
            override = changed.get(outcome.name)
            outcomes.append(outcome if override is None else _overridden(rule, protocol, one, context, override))
    rules = tuple(rule for outcome in outcomes for rule in outcome.rules)
    named = [(protocol, one.measures(), one.version) for one in adopted for protocol in one.protocols]
    return Compiled(
        rules,
        tuple(rule for outcome in outcomes for rule in outcome.silences),
        tuple(rule for outcome in outcomes for rule in outcome.troubles),
        None if context.mechanical_support == "yes" else _score(adopted),
        tuple((outcome.name, outcome.shut) for outcome in outcomes if outcome.shut),
        tuple(
            _compiled(rule, face, 1, measures)
            for rule, face, measures in arrest_rules(named, rules)
            if out_of_place(rule, context) is None
        ),
    )


@lru_cache(maxsize=_CACHED)
def _outcomes(adopted: Adopted, context: PatientContext) -> tuple[tuple[_Outcome, Rule, MonitoringProtocol], ...]:
    return tuple(
        (_outcome(rule, protocol.name, adopted, context, 0), rule, protocol)
        for protocol in adopted.protocols
        for rule in protocol.rules
    )


def _overridden(
    rule: Rule, protocol: MonitoringProtocol, adopted: Adopted, context: PatientContext, override: RuleOverride
) -> _Outcome:
    if not override.changes:
        reason = f"switched off for this patient (enrolment {override.version})"
        return _Outcome(override.rule, shut=reason)
    try:
        own = patched(rule, json.loads(override.changes))
    except InvalidRequest:
        return _outcome(rule, protocol.name, adopted, context, 0)
    return _outcome(own, protocol.name, adopted, context, override.version)


def _score(adopted: tuple[Adopted, ...]) -> spec.CompiledScore | None:
    """What the patient's scores need, as the first programme measures it; a rule of a score takes all its inputs."""
    protocols = [protocol for one in adopted for protocol in one.protocols]
    declared = [protocol.score for protocol in protocols if protocol.score is not None]
    asked = any(_asks_score(rule) for protocol in protocols for rule in protocol.rules)
    if not declared and not asked:
        return None
    measures: dict[str, bool] = {}
    for one in adopted:
        for key, mode in one.measures().items():
            measures.setdefault(key, mode == Mode.CONTINUOUS)
    usual = {key: BY_KEY[key].mode is Mode.CONTINUOUS for keys in SOURCES.values() for key in keys if asked}
    return spec.CompiledScore(
        tuple(sorted((usual | measures).items())),
        any(settings.assume_air for settings in declared),
        any(settings.assume_alert for settings in declared),
    )


def _asks_score(rule: Rule) -> bool:
    parts = rule.members if isinstance(rule, CombinationRule) else (rule,)
    return any(isinstance(part, ScoreCriterion) for part in parts)


def _outcome(rule: Rule, protocol: str, adopted: Adopted, context: PatientContext, override: int) -> _Outcome:
    name = f"{protocol}:{rule.id}"
    reason = shut(rule.requires, rule.unless, context)
    if reason is not None:
        return _Outcome(name, shut=reason)
    rule = without_extreme(rule) if context.age_band == "under_16" else rule
    face = _face(rule, name, adopted.version, override)
    ways = list(variants(rule, face, context))
    if not ways:
        return _Outcome(name, shut=out_of_place(rule, context) or "")
    measures = adopted.measures()
    severity = _SEVERITIES[rule.severity]
    if isinstance(rule, SilenceRule):
        vital = BY_KEY[rule.vital]
        return _Outcome(
            name,
            silences=(spec.CompiledSilence(face._replace(silence=True), vital.code, rule.after_s * _NS, severity),),
        )
    if isinstance(rule, TechnicalRule):
        if rule.vital is None:
            return _Outcome(name, troubles=(TroubleRule(face, rule.trouble, rule.after_s * _NS, severity),))
        return _Outcome(name, rules=(CompiledRule(face, _technical(rule, rule.vital, measures)),))
    rules = tuple(_compiled(one, named, severity, measures) for one, named in ways)
    return _Outcome(name, rules=rules)


def specs_of(rule: Rule, measures: Mapping[str, str]) -> list[RuleSpec]:
    """What a rule compares, its own vital signs only; nothing for silence and troubles of devices."""
    severity = _SEVERITIES[rule.severity]
    if isinstance(rule, TechnicalRule) and rule.vital is not None:
        return [_technical(rule, rule.vital, measures)]
    return [urgent(rule, part, _criterion_spec(part, severity, measures)) for _, part in criteria(rule)]


def _face(rule: Rule, name: str, version: int, override: int) -> RuleFace:
    return RuleFace(
        name=name, version=version, title=rule.title, cause=cause_of(rule),
        role=ROLES[rule.severity] if rule.role is None else rule.role,
        sla_s=SLA_S[rule.severity] if rule.sla_s is None else rule.sla_s,
        recheck_s=RECHECK_S[rule.severity] if rule.recheck_s is None else rule.recheck_s,
        technical=rule.severity == "T" or isinstance(rule, SilenceRule | TechnicalRule),
        advice=rule.advice, override=override,
    )  # fmt: skip


def _compiled(rule: Any, face: RuleFace, severity: int, measures: Mapping[str, str]) -> CompiledRule:
    if not isinstance(rule, CombinationRule):
        return CompiledRule(face, urgent(rule, rule, _criterion_spec(rule, severity, measures)))
    members = tuple(
        CompiledRule(face._replace(name=f"{face.name}#{number}"), spec_)
        for number, spec_ in enumerate(specs_of(rule, measures), 1)
    )
    together = _BLANK._replace(
        kind=int(Kind.COMBINATION), severity=severity, window_ns=rule.within_s * _NS,
        continuous=max(member.spec.continuous for member in members),
    )  # fmt: skip
    return CompiledRule(face, together, members)


_BLANK: Final = RuleSpec(
    kind=0, vital=0, side=int(Side.HIGH), severity=0, unit=0, limit=1.0, deadband=0.0, enter=1.0, leave=0.0,
    inclusive=1, on_delay_ns=0, on_count=1, apart_ns=0, off_delay_ns=0, off_count=1, staleness_ns=0, continuous=0,
    sticky=0, patient_limit=0, median_of=1, op=int(Op.NONE), window_ns=0, a=0.0, b=0.0, c=0.0, from_min=0, to_min=0,
    extreme=math.inf, extreme_of=1, extreme_ns=0, arrest=math.inf, lone=math.inf,
)  # fmt: skip
"""A criterion that is 1 when met and 0 when not."""


def _mode(key: str, measures: Mapping[str, str]) -> Mode:
    given = measures.get(key)
    return BY_KEY[key].mode if given is None else Mode(given)


def _on(vital: Vital, mode: Mode) -> RuleSpec:
    return _BLANK._replace(
        vital=vital.code, unit=UNIT_BY_NAME[vital.unit].code, staleness_ns=vital.staleness_ns(mode),
        continuous=int(mode is Mode.CONTINUOUS),
    )  # fmt: skip


def _technical(rule: TechnicalRule, key: str, measures: Mapping[str, str]) -> RuleSpec:
    base = _on(BY_KEY[key], _mode(key, measures))._replace(severity=_SEVERITIES[rule.severity])
    if rule.trouble == "sensor_fault":
        return base._replace(kind=int(Kind.FAULT), on_delay_ns=rule.after_s * _NS)
    minutes = rule.after_s / 60
    return base._replace(
        kind=int(Kind.STUCK), unit=UNIT_BY_NAME["min"].code, limit=minutes, enter=minutes, leave=minutes,
        window_ns=rule.after_s * _NS,
    )  # fmt: skip


def _criterion_spec(part: Criterion | ForecastRule, severity: int, measures: Mapping[str, str]) -> RuleSpec:
    if isinstance(part, ScoreCriterion):
        return _of_score(part, measures)._replace(severity=severity)
    vital, mode = BY_KEY[part.vital], _mode(part.vital, measures)
    kind = next(kind for cls, kind in _KINDS.items() if isinstance(part, cls))
    op = _OPS[part.measure] if isinstance(part, DeviationCriterion | TrendCriterion) else Op.NONE
    base = _lasting(part, _on(vital, mode), mode)
    base = base._replace(
        kind=int(kind), severity=severity, op=int(op), from_min=part.from_min, to_min=part.to_min,
        side=int(part.threshold.side), inclusive=int(part.threshold.inclusive),
    )  # fmt: skip
    if op is Op.SHARE_BELOW:
        return _parameters(part, _crossed(part, base, vital, "%", difference=False), vital)
    difference = kind is Kind.RATE or op in _DIFFERENCES
    return _parameters(part, _crossed(part, base, vital, part.unit or vital.unit, difference=difference), vital)


def _of_score(part: ScoreCriterion, measures: Mapping[str, str]) -> RuleSpec:
    """Two evaluations in a row while vitals are measured continuously, but for a high score (clinical.md 2.3)."""
    sources = {key for keys in SOURCES.values() for key in keys}
    mode = Mode.CONTINUOUS if any(measures.get(key) == Mode.CONTINUOUS for key in sources) else Mode.SPOT
    base = _on(BY_KEY[f"{part.score}_red" if part.any_red else part.score], mode)
    limit, inclusive = (1.0, True) if part.any_red else (part.threshold.limit, part.threshold.inclusive)
    certain = not part.any_red and limit >= _CERTAIN_SCORE
    leave = _inner(part, limit, Side.HIGH, 0.0)
    if part.clear is None and inclusive:
        leave = min(leave, limit - 1.0)
    return base._replace(
        kind=int(Kind.SCORE), limit=limit, deadband=limit - leave, enter=limit, leave=leave, inclusive=int(inclusive),
        on_count=2 if mode is Mode.CONTINUOUS and not certain else 1,
        off_delay_ns=round(CLEAR_S * _NS) if mode is Mode.CONTINUOUS else 0,
        off_count=1 if mode is Mode.CONTINUOUS else 2,
    )  # fmt: skip


def _lasting(part: Sized, base: RuleSpec, mode: Mode) -> RuleSpec:
    """Persistence by mode. While pending, only values that are really back cancel a continuous criterion."""
    levelled = isinstance(part, LimitCriterion | DeviationCriterion)
    if mode is Mode.CONTINUOUS:
        kept = part.continuous
        default_s = SUPPRESSORS.get(part.vital, Suppressor()).for_s if levelled else 0.0
        for_s = default_s if kept.for_s is None else kept.for_s
        default_s = 0.0 if isinstance(part, TrendCriterion) else CLEAR_S
        clear_s = default_s if kept.clear_s is None else kept.clear_s
        if (often := kept.often) is not None:
            base = base._replace(often=often.readings, often_of=often.of, often_ns=round(often.apart_s * _NS))
        return base._replace(
            on_delay_ns=round(for_s * _NS), on_count=kept.readings, off_delay_ns=round(clear_s * _NS),
            off_count=kept.clear_readings, sticky=int(kept.sticky and for_s > 0), median_of=kept.median_of,
        )  # fmt: skip
    readings, spot = part.spot_readings(), part.spot
    apart_s = (APART_S if readings > 1 else 0.0) if spot.apart_s is None else spot.apart_s
    clear_readings = (
        (1 if isinstance(part, TrendCriterion) else 2) if spot.clear_readings is None else spot.clear_readings
    )
    return base._replace(
        on_count=readings, apart_ns=round(apart_s * _NS), off_count=clear_readings, median_of=spot.median_of
    )


def _inner(part: Compared, limit: float, side: Side, default: float) -> float:
    """Where the criterion stops being met, as written: rounded as a person adds."""
    if part.clear is not None:
        return part.clear
    band = default if part.deadband is None else part.deadband
    return round(limit + (band if side is Side.LOW else -band), _DECIMALS)


def _crossed(part: Sized, base: RuleSpec, vital: Vital, unit: str, *, difference: bool) -> RuleSpec:
    """Thresholds as written and as compared; a percentage of readings is compared as written."""
    limit, side = part.threshold.limit, part.threshold.side
    default = _deadband(part, unit, vital, limit) if isinstance(part, LimitCriterion) else 0.0
    inner = _inner(part, limit, side, default)
    share = base.op == Op.SHARE_BELOW
    enter, leave = (limit, inner) if share else _canonical([limit, inner], unit, vital, difference=difference)
    if isinstance(part, LimitCriterion) and part.threshold.inclusive:
        enter = in_both_units(enter, side, vital)
    return base._replace(
        unit=UNIT_BY_NAME[unit].code, limit=limit, deadband=round(abs(inner - limit), _DECIMALS), enter=enter,
        leave=leave,
    )  # fmt: skip


def _deadband(part: LimitCriterion, unit: str, vital: Vital, limit: float) -> float:
    """The default deadband in the limit's unit, at its place on the scale."""
    enter = float(to_canonical(limit, unit, vital.unit))
    band = SUPPRESSORS.get(part.vital, Suppressor()).deadband
    if vital.key.startswith("glucose") and part.threshold.side is Side.HIGH and enter >= HIGH_GLUCOSE:
        band = HIGH_GLUCOSE_DEADBAND
    return round(abs(float(from_canonical(enter + band, vital.unit, unit)) - limit), _BAND_DECIMALS)


def _canonical(values: list[float], unit: str | None, vital: Vital, *, difference: bool) -> list[float]:
    """Canonical values, or differences; what has no unit (ratios, SDs) stays as it is."""
    if unit is None or unit == vital.unit:
        return values
    if not difference:
        return [float(value) for value in to_canonical(values, unit, vital.unit)]
    *converted, zero = to_canonical([*values, 0.0], unit, vital.unit).tolist()
    return [round(value - zero, _DECIMALS) for value in converted]


def _parameters(part: Sized, base: RuleSpec, vital: Vital) -> RuleSpec:
    """What the types need beside a threshold: see ``spec.Kind`` and ``spec.Op``."""
    if isinstance(part, RateCriterion):
        return base._replace(window_ns=part.window_s * _NS)
    if isinstance(part, ForecastRule):
        (bound,) = _canonical([part.bound], part.unit, vital, difference=False)
        slope, steep = _canonical([part.slope, part.at_once_slope or 0.0], part.unit, vital, difference=True)
        return base._replace(window_ns=part.window_s * _NS, a=part.ahead_min, b=bound, c=slope, steep=steep)
    if isinstance(part, DeviationCriterion):
        return base._replace(a=part.least_spread)
    if isinstance(part, TrendCriterion):
        base = base._replace(
            window_ns=part.days * DAY_NS, a=float(part.readings), b=float(part.on_days),
            staleness_ns=max(base.staleness_ns, _TREND_STALENESS_NS),
        )  # fmt: skip
        if part.under is not None:
            (under,) = _canonical([part.under], part.unit, vital, difference=False)
            return base._replace(a=under, b=float(part.readings))
    return base
