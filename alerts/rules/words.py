"""Protocols in a nurse's words: the raising condition, its delay, the ending condition, and changes of a version."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from alerts.rules.compile import RECHECK_S, ROLES, SLA_S, specs_of
from alerts.rules.coverage import OnlyWhere
from alerts.rules.gates import Gate, said
from alerts.rules.limits import Side, spoken, written
from alerts.rules.protocol import MonitoringProtocol
from alerts.rules.spec import Kind, Op, RuleFace, RuleSpec
from alerts.rules.types import CombinationRule, LimitRule, Rule, SilenceRule, TechnicalRule, cause_of
from alerts.rules.urgency import is_awaited
from vitals.catalog import BY_CODE, BY_KEY
from vitals.glossary import Mode, Severity
from vitals.units import UNIT_BY_CODE, from_canonical

_NS: Final = 1_000_000_000
_DECIMALS: Final = 9
_SHOWN_DECIMALS: Final = 6
_SPANS: Final = (("day", 86_400, 86_400), ("h", 3600, 3600), ("min", 60, 120))
_TROUBLES: Final[Mapping[str, str]] = MappingProxyType({
    "battery": "the battery of a device is low", "clock": "the clock of a device is wrong",
    "fault": "a device reports a fault", "flapping": "a device connects again and again",
    "gateway": "a device is offline",
})  # fmt: skip
_AS_MEASURED: Final[Mapping[str, str]] = MappingProxyType({})


def span(seconds: float) -> str:
    """A time in its largest whole unit: ``50 s``, ``15 min``, ``2 days``."""
    for unit, length, least in _SPANS:
        if seconds >= least and seconds % length == 0:
            count = f"{seconds / length:g}"
            return f"{count} {unit}s" if unit == "day" and count != "1" else f"{count} {unit}"
    return f"{seconds:g} s"


def rule_words(rule: Rule, measures: Mapping[str, str] = _AS_MEASURED) -> str:
    """One sentence: what raises a rule, after how long, what ends it, and for whom it is.

    ``measures`` says how vitals are measured where not as in the catalogue. Worked: ``Raised when oxygen saturation is
    91 % or less in 2 readings at least 5 min apart; ends when it is 93 % or more in 2 readings.``
    """
    urgency = _at_once(rule) + _alone(rule, measures)
    return f"Raised when {_raised(rule, measures)}{urgency}; ends when {_ended(rule, measures)}{_for_whom(rule)}."


def _raised(rule: Rule, measures: Mapping[str, str]) -> str:
    if isinstance(rule, SilenceRule):
        return f"there is no {spoken(BY_KEY[rule.vital])} for {span(rule.after_s)}"
    if isinstance(rule, TechnicalRule) and rule.vital is None:
        lasting = f" for {span(rule.after_s)}" if rule.after_s else ""
        return _TROUBLES[rule.trouble] + lasting
    parts = [criterion_words(spec) + lasting_words(spec) for spec in specs_of(rule, measures)]
    if isinstance(rule, CombinationRule):
        return f"{', and '.join(parts)}, within {span(rule.within_s)} of each other"
    return parts[0]


def _at_once(rule: Rule) -> str:
    """The extreme limit of a rule: ``, at once at 85 % or less``."""
    if not isinstance(rule, LimitRule) or rule.extreme is None:
        return ""
    line = rule.extreme.threshold
    low, amount = line.side is Side.LOW, written(line.limit, rule.unit)
    if line.inclusive:
        return f", at once at {amount} or {'less' if low else 'more'}"
    return f", at once {'below' if low else 'above'} {amount}"


def _alone(rule: Rule, measures: Mapping[str, str]) -> str:
    """What an S1 makes of a first reading that is not repeated: ``; one that is not repeated becomes S2``."""
    spec = next((spec for spec in specs_of(rule, measures) if is_awaited(spec)), None)
    if spec is None:
        return ""
    if not math.isfinite(spec.lone):
        return "; a reading that is not repeated in 15 min becomes S2"
    if spec.lone in (spec.enter, math.nextafter(spec.enter, Side(spec.side).never)):
        return "; a reading that is not repeated in 15 min becomes S1"
    amount = written(_written(spec, spec.lone), _unit(spec))
    return f"; a reading that is not repeated in 15 min becomes S1 at {amount} or less, else S2"


def _ended(rule: Rule, measures: Mapping[str, str]) -> str:
    if isinstance(rule, SilenceRule):
        return "a reading comes"
    if isinstance(rule, CombinationRule):
        return "one of them is over"
    found = specs_of(rule, measures)
    return _end(found[0], "it") if found else "the device says so"


def _for_whom(rule: Rule | OnlyWhere) -> str:
    requires, unless = _gate(rule.requires, " and "), _gate(rule.unless, " or ")
    return (f"; only where {requires}" if requires else "") + (f"; not where {unless}" if unless else "")


def _gate(gate: Gate, joint: str) -> str:
    return joint.join(said(key, value) for key, value in gate.asked())


def criterion_words(spec: RuleSpec) -> str:
    """What a criterion compares, as a clause: ``oxygen saturation is 91 % or less``."""
    return _clause(spec)


def lasting_words(spec: RuleSpec) -> str:
    """How long or how often a criterion must be met, with a leading space; empty for at once."""
    delay, median = span(spec.on_delay_ns / _NS), ""
    out = f" for {delay}" if spec.on_delay_ns else ""
    if out and spec.continuous and not spec.sticky:
        out += " without a break"
    if spec.on_count > 1:
        apart = f" at least {span(spec.apart_ns / _NS)} apart" if spec.apart_ns else ""
        out += f" in {spec.on_count} readings{apart}"
    if spec.often:
        apart = f" at least {span(spec.often_ns / _NS)} apart" if spec.often_ns else ""
        out += f", or in {spec.often} of the last {spec.often_of} readings{apart}"
    if spec.median_of > 1:
        median = f" (median of {spec.median_of} readings)"
    if spec.from_min or spec.to_min:
        median += f" between {_clock(spec.from_min)} and {_clock(spec.to_min)}"
    return out + median


def resolves_words(spec: RuleSpec, face: RuleFace) -> str:
    """When an alert ends, a clause: ``oxygen saturation is 93 % or more for 60 s``; of an S1 a person must know it."""
    over = f"one part is over of: {face.title}" if spec.kind == Kind.COMBINATION else _end(spec, _name(spec))
    return f"{over}, and a person has acknowledged it" if spec.severity == Severity.S1 else over


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _name(spec: RuleSpec) -> str:
    return spoken(BY_CODE[spec.vital])


def _unit(spec: RuleSpec) -> str:
    return UNIT_BY_CODE[spec.unit].ucum


def _amount(spec: RuleSpec, value: float) -> str:
    """A number of a rule with the unit that it is compared in."""
    match spec.op:
        case Op.RATIO:
            return f"{value:g} times"
        case Op.ROBUST_Z | Op.BELOW_MEAN_SD:
            return f"{value:g} SD"
        case Op.FRACTION:
            return f"{round(100 * value, _DECIMALS):g} %"
        case Op.DIFFERENCE | Op.CHANGE if _unit(spec) == "%":
            return f"{value:g} points"
    return written(value, _unit(spec))


def _back(spec: RuleSpec) -> float:
    """Where a criterion stops being met, as written."""
    return round(spec.limit + (spec.deadband if spec.side == Side.LOW else -spec.deadband), _DECIMALS)


def _level(spec: RuleSpec, *, over: bool) -> str:
    """``91 % or less``, ``below 90 %``; where it is over, the good side: ``93 % or more``."""
    low, value = spec.side == Side.LOW, _back(spec) if over else spec.limit
    codes = BY_CODE[spec.vital].values
    if codes and spec.kind == Kind.LIMIT:
        return _listed([word for code, word in enumerate(codes) if _on_side(spec, code, over=over)])
    amount = _amount(spec, value)
    if not over:
        return (
            f"{amount} or {'less' if low else 'more'}" if spec.inclusive else f"{'below' if low else 'above'} {amount}"
        )
    if spec.inclusive and not spec.deadband:
        return f"{'above' if low else 'below'} {amount}"
    return f"{amount} or {'more' if low else 'less'}"


def _on_side(spec: RuleSpec, code: int, *, over: bool) -> bool:
    low, limit = spec.side == Side.LOW, _back(spec) if over else spec.limit
    beyond = code < limit if low else code > limit
    if not over:
        return beyond or bool(spec.inclusive and code == limit)
    return not beyond and not (spec.inclusive and code == spec.limit)


def _listed(names: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:]))) or "nothing"


def _size(spec: RuleSpec, *, over: bool) -> str:
    """How far beyond nothing, without a sign: ``4 points or more``, ``more than 3 mg/dL``; over: ``2 kg or less``."""
    value = abs(_back(spec) if over else spec.limit)
    amount = _amount(spec, value)
    if not over:
        return f"{amount} or more" if spec.inclusive else f"more than {amount}"
    return f"less than {amount}" if spec.inclusive and not spec.deadband else f"{amount} or less"


_SIZED: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    "RATE": ("{name} falls by {size} a minute", "{name} rises by {size} a minute"),
    "DIFFERENCE": ("{name} is {size} below the usual one at this hour",
                    "{name} is {size} above the usual one at this hour"),
    "ROBUST_Z": ("{name} is {size} below the usual one at this hour",
                  "{name} is {size} above the usual one at this hour"),
    "CHANGE": ("{name} is down by {size} in {days}", "{name} is up by {size} in {days}"),
    "BELOW_MEAN_SD": ("{name} is {size} below the mean of the {days} before",
                       "{name} is {size} above the mean of the {days} before"),
})  # fmt: skip
"""How differences are told, falling and rising."""
_LEVELLED: Final[Mapping[str, str]] = MappingProxyType({
    "LIMIT": "{name} is {level}", "SCORE": "{name} is {level}",
    "RATE": "{name} changes by {level} a minute",
    "FORECAST": "{name} will be {level} in {ahead}",
    "RATIO": "{name} is {level} the usual one at this hour",
    "DIFFERENCE": "{name} minus the usual one at this hour is {level}",
    "ROBUST_Z": "{name} is off the usual one at this hour by {level}",
    "CHANGE": "the change of {name} in {days} is {level}",
    "MEAN": "{name} over {days} without the first is on average {level}",
    "BELOW_MEAN_SD": "{name} is off the mean of the {days} before by {level}",
    "FRACTION": "{name} of yesterday is {level} of that of the first day on record",
    "SHARE_BELOW": "the part of the readings of {days} in which {name} is below {under} is {level}",
})  # fmt: skip
"""How everything else is told, and a difference whose number has the other sign."""
_SHORTENED: Final = ("{name} is ", "{name} falls", "{name} rises", "{name} will")
"""What can begin with "it"."""


def _compared(spec: RuleSpec, *, over: bool = False, name: str = "") -> str:
    """A criterion, or with ``over`` its end, as a clause."""
    told = (Kind(spec.kind) if spec.op == Op.NONE else Op(spec.op)).name
    low, value = spec.side == Side.LOW, _back(spec) if over else spec.limit
    sized = _SIZED.get(told)
    fits = value <= 0 if low else value >= 0
    pattern = sized[0 if low else 1] if sized and fits else _LEVELLED[told]
    shown = name if name and pattern.startswith(_SHORTENED) else _name(spec)
    return pattern.format(
        name=shown, days=span(spec.window_ns / _NS), ahead=span(60 * spec.a),
        under=written(spec.a, BY_CODE[spec.vital].unit), size=_size(spec, over=over), level=_level(spec, over=over),
    )  # fmt: skip


def _clause(spec: RuleSpec) -> str:
    name = _name(spec)
    if spec.kind == Kind.STUCK:
        return f"{name} has not changed at all for {span(spec.limit * 60)}"
    if spec.kind == Kind.FAULT:
        return f"{name} is implausible, or its sensor reports a fault,"
    out = _compared(spec)
    if spec.op == Op.MEAN and spec.a:
        out += f" (at least {spec.a:g} readings on {spec.b:g} days)"
    if spec.op == Op.ROBUST_Z and spec.a:
        out += f" (of which one is at least {written(spec.a, _unit(spec))})"
    if spec.op == Op.SHARE_BELOW and spec.b:
        out += f" (at least {spec.b:g} readings)"
    if spec.kind == Kind.RATE:
        out += f" over {span(spec.window_ns / _NS)}"
    if spec.kind == Kind.FORECAST:
        bound, slope, steep = (written(_written(spec, abs(one)), _unit(spec)) for one in (spec.b, spec.c, spec.steep))
        side, moves = ("below", "falls") if spec.side == Side.LOW else ("above", "rises")
        over = span(spec.window_ns / _NS) + (f"; at once if by more than {steep}" if spec.steep else "")
        out += f" (while it is {side} {bound} and {moves} by more than {slope} a minute over {over})"
    return out


def _written(spec: RuleSpec, value: float) -> float:
    """A canonical number in the unit of the rule; units that a forecast can have start at zero."""
    return round(float(from_canonical(value, BY_CODE[spec.vital].unit, _unit(spec))), _SHOWN_DECIMALS)


def _end(spec: RuleSpec, name: str) -> str:
    if spec.kind == Kind.STUCK:
        return f"{name} changes"
    if spec.kind == Kind.FAULT:
        return f"{name} is measured without a fault"
    out = _compared(spec, over=True, name=name)
    if spec.off_count > 1:
        out += f" in {spec.off_count} readings"
    return out + (f" for {span(spec.off_delay_ns / _NS)}" if spec.off_delay_ns else "")


def difference(old: MonitoringProtocol, new: MonitoringProtocol) -> list[str]:
    """What a new version of a protocol changes for patients and staff, a line each; empty when nothing.

    Worked: ``P1-red: raised at 88 % or below (was 91 %)``.
    """
    before, after = ({rule.id: rule for rule in protocol.rules} for protocol in (old, new))
    lines = _document_changes(old, new)
    for rule in new.rules:
        known = before.get(rule.id)
        if known is None:
            lines.append(f"{rule.id}: added. {rule_words(rule, new.measures)}")
        else:
            lines += [f"{rule.id}: {line}" for line in _rule_changes(known, rule, old.measures, new.measures)]
    return lines + [f"{rule.id}: removed ({rule.title})" for rule in old.rules if rule.id not in after]


def _changed(label: str, old: object, new: object) -> list[str]:
    return [] if old == new else [f"{label}{new or 'nothing'} (was {old or 'nothing'})"]


def _document_changes(old: MonitoringProtocol, new: MonitoringProtocol) -> list[str]:
    lines = []
    for key in sorted({*old.measures, *new.measures}):
        lines += _changed(f"{spoken(BY_KEY[key])} measured: ", old.mode(key).value, new.mode(key).value)
    for word, member in (("air", "assume_air"), ("alertness", "assume_alert")):
        was, now = (bool(getattr(one.score, member, False)) for one in (old, new))
        if was is not now:
            lines.append(f"scores: {word} is {'assumed' if now else 'not assumed any more'}")
    for member in ("title", "advice", "disclaimer", "source"):
        lines += _changed(f"{member}: ", getattr(old, member), getattr(new, member))
    before, after = _exceptions(old), _exceptions(new)
    return (
        lines
        + [line for line in after if line not in before]
        + [f"removed: {line}" for line in before if line not in after]
    )


def _exceptions(protocol: MonitoringProtocol) -> list[str]:
    """``refused where the patient gets oxygen: why``, ``NEWS2 score (high) is watched, not where ...: why``."""
    lines = [f"refused where {_gate(one.when, ' and ')}: {one.reason}" for one in protocol.refuses]
    return lines + [
        f"{spoken(BY_KEY[one.vital])} ({one.side}) is watched{_for_whom(one).replace(';', ',')}: {one.reason}"
        for one in protocol.only_where
    ]


def _rule_changes(old: Rule, new: Rule, measured: Mapping[str, str], measures: Mapping[str, str]) -> list[str]:
    lines = _changed("severity ", old.severity, new.severity) + _trigger_changes(old, new, measured, measures)
    lines += _changed(
        "at once: ", *(_at_once(one).removeprefix(", at once ").removeprefix("at ") for one in (old, new))
    )
    lines += _changed("without a repeat: ", *(_alone(*one)[2:] for one in ((old, measured), (new, measures))))
    lines += _changed("for whom: ", _for_whom(old)[2:] or "everybody", _for_whom(new)[2:] or "everybody")
    lines += _changed("title: ", old.title, new.title)
    lines += _changed("incident: ", cause_of(old), cause_of(new))
    lines += _changed("role: ", *(one.role or ROLES[one.severity] for one in (old, new)))
    lines += _changed("may wait ", *(span(one.sla_s or SLA_S[one.severity]) for one in (old, new)))
    lines += _changed("measured again after ", *(span(one.recheck_s or RECHECK_S[one.severity]) for one in (old, new)))
    return lines + _changed("advice: ", old.advice, new.advice)


def _trigger_changes(old: Rule, new: Rule, measured: Mapping[str, str], measures: Mapping[str, str]) -> list[str]:
    """What raises and ends the rule: in the mode in which its vital is measured, and where only the other differs."""
    also = _changed("also on ", _also(old), _also(new))
    pairs = list(zip(specs_of(old, measured), specs_of(new, measures), strict=False))
    if type(old) is not type(new) or len(pairs) != 1 or isinstance(new, CombinationRule):
        lines = _changed("raised ", f"when {_raised(old, measured)}", f"when {_raised(new, measures)}")
        return (
            lines
            + also
            + _changed("ends ", f"when {_parts_ended(old, measured)}", f"when {_parts_ended(new, measures)}")
        )
    ((was_spec, now_spec),) = pairs
    lines = _level_changes(was_spec, now_spec) + also
    for mode in (None, *Mode):
        every = None if mode is None else dict.fromkeys(BY_KEY, mode.value)
        one, two = (specs_of(rule, every or own)[0] for rule, own in ((old, measured), (new, measures)))
        label = "" if mode is None else f"measured {'continuously' if mode is Mode.CONTINUOUS else 'now and then'}: "
        was, now = (lasting_words(spec) or " at once" for spec in (one, two))
        found = [f"{label}raised{now} (was{was})"] if was != now else []
        if _ending(old, one) != _ending(new, two):
            found += _changed(f"{label}ends ", f"when {_end(one, 'it')}", f"when {_end(two, 'it')}")
        if found:
            return lines + found
    return lines


def _parts_ended(rule: Rule, measures: Mapping[str, str]) -> str:
    return " or ".join(_end(spec, _name(spec)) for spec in specs_of(rule, measures)) or _ended(rule, measures)


def _also(rule: Rule) -> str:
    """The other vital signs that a rule, or a part of it, is watched on."""
    parts: tuple[Any, ...] = rule.members if isinstance(rule, CombinationRule) else (rule,)
    found = (spoken(BY_KEY[key]) for part in parts for key in getattr(part, "also_on", ()))
    return ", ".join(found)


def _ending(rule: Any, spec: RuleSpec) -> tuple[float | None, float, int, int]:
    """What says where a criterion stops being met, but for the limit itself."""
    clear = getattr(rule, "clear", None)
    return clear, spec.deadband if clear is None else 0.0, spec.off_count, spec.off_delay_ns


def _level_changes(was: RuleSpec, now: RuleSpec) -> list[str]:
    same = all(getattr(was, member) == getattr(now, member) for member in ("vital", "side", "unit", "inclusive"))
    if not same or now.kind != Kind.LIMIT or BY_CODE[now.vital].values:
        return _changed("raised ", f"when {_clause(was)}", f"when {_clause(now)}")
    if was.limit == now.limit:
        return []
    side, amount = "below" if now.side == Side.LOW else "above", _amount(now, now.limit)
    at = f"at {amount} or {side}" if now.inclusive else f"{side} {amount}"
    return [f"raised {at} (was {_amount(was, was.limit)})"]
