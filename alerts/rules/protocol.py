"""Protocols: rules for a disease, as a team writes them in TOML or JSON, refused with the path of the wrong word.

A protocol is a list of rules of nine types (``RULE_TYPES``). Each says what raises it, how long or how often, what ends
it, how urgent it is and who owns it; ``alerts.rules.compile`` makes of it what the kernels compare. Every number is
bounded.
"""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from alerts.rules.coverage import OnlyWhere, RefusedContext, check_gaps
from alerts.rules.gates import Part, PatientContext, exclusive, said, shut
from alerts.rules.limits import Side
from alerts.rules.syntax import Criterion, DeviationCriterion, ScoreCriterion, TrendCriterion, measurable
from alerts.rules.types import (
    OPEN,
    RULE_TYPES,
    CombinationRule,
    DeviationRule,
    ForecastRule,
    Ident,
    LimitRule,
    Line,
    Rule,
    Text,
    cause_of,
    criteria,
)
from vitals.catalog import BY_KEY, Vital
from vitals.errors import InvalidRequest
from vitals.glossary import Mode
from vitals.units import to_canonical

MAX_RULES: Final = 64
"""Rules one protocol may have."""
_NS: Final = 1_000_000_000
_OF_URGENCY: Final = frozenset({"extreme", "unanswered"})
_RULE: Final[TypeAdapter[Rule]] = TypeAdapter(Rule)


class ScoreSettings(Part):
    """What a programme declares about its patients for a score (clinical.md 2.3)."""

    assume_air: bool = Field(default=False, description="patients breathe air unless oxygen is recorded")
    assume_alert: bool = Field(default=False, description="patients are alert unless something else is recorded")


class LeftOut(Part):
    """A rule of the reference that this protocol does not have, and why."""

    id: Ident
    reason: Line


class MonitoringProtocol(Part):
    """Rules for a disease; equal documents are equal, hashing is cheap."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$", description="the first part of its rules' names: `copd:P1-red`"
    )
    title: Line = Field(description="title that people read")
    version: int = Field(default=1, ge=1, le=2**31 - 1, description="version of the document")
    ages: tuple[Literal["adult"], ...] = Field(
        default=("adult",), min_length=1, max_length=1, strict=False, description="age groups that the protocol is for"
    )
    source: Line = Field(default="not stated", description="source of its numbers")
    advice: Text = Field(default="", description="advice for everybody who uses the protocol")
    disclaimer: Text = Field(default="", description="limits of the protocol's use")
    measures: dict[str, Literal["spot", "continuous"]] = Field(
        default={}, max_length=len(BY_KEY), description="mode of vital signs that differs from the catalogue"
    )
    score: ScoreSettings | None = Field(default=None, description="computes scores, with these assumptions")
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=MAX_RULES, strict=False, description="the rules")
    refuses: tuple[RefusedContext, ...] = Field(
        default=(), max_length=MAX_RULES, strict=False, description="contexts that the protocol is not for, and why"
    )
    only_where: tuple[OnlyWhere, ...] = Field(
        default=(), max_length=MAX_RULES, strict=False,
        description="vital signs that are watched on one side in some contexts only, and why",
    )  # fmt: skip
    left_out: tuple[LeftOut, ...] = Field(
        default=(), max_length=MAX_RULES, strict=False, description="rules of the source that are left out, and why"
    )

    @field_validator("measures")
    @classmethod
    def _all_known(cls, measures: dict[str, str]) -> dict[str, str]:
        for key in measures:
            measurable(key)
        return measures

    def __hash__(self) -> int:
        return hash((self.name, self.version, len(self.rules)))

    def mode(self, key: str) -> Mode:
        """How a vital is measured under this protocol alone."""
        given = self.measures.get(key)
        return BY_KEY[key].mode if given is None else Mode(given)


def parse_protocol(payload: object) -> MonitoringProtocol:
    """A protocol from its document (the JSON or TOML form).

    Raises:
        InvalidRequest: with the path of the first wrong word, such as ``rules[3].at_or_below``.
    """
    try:
        protocol = MonitoringProtocol.model_validate(payload)
    except ValidationError as error:
        raise refused(error) from error
    check_rules(protocol)
    return protocol


def check_rules(protocol: MonitoringProtocol) -> None:
    """Refuse rules that do not go together; raises ``InvalidRequest`` with the path of the later one."""
    _check_names(protocol)
    _check_delays(protocol)
    _check_limits(protocol)
    _check_triggers(protocol)


def refused(error: ValidationError, root: str = "") -> InvalidRequest:
    """The first problem of a document that does not validate, with its path from ``root``."""
    first = error.errors(include_url=False, include_input=False)[0]
    path, chosen = root, bool(root)
    for part in first["loc"]:
        # The types of rules are choices of the model, not members of the document.
        if not (chosen and part in RULE_TYPES):
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        chosen = isinstance(part, int)
    return InvalidRequest(path.lstrip(".") or "protocol", first["msg"].removeprefix("Value error, "))


def patched(rule: Rule, changes: Mapping[str, Any]) -> Rule:
    """``rule`` with members of its document replaced (null removes one; tables are merged).

    Raises:
        InvalidRequest: the result is no such rule; the path begins at ``changes``.
    """
    for member in ("id", "type"):
        if member in changes:
            raise InvalidRequest(f"changes.{member}", "cannot be changed for one patient")
    merged = _merged(rule.model_dump(mode="json", exclude_defaults=True), changes)
    try:
        return _RULE.validate_python(merged)
    except ValidationError as error:
        # A limit that a person moves beyond the protocol's extreme, or makes less urgent, has none.
        unfit = _OF_URGENCY & {str(part) for one in error.errors(include_url=False) for part in one["loc"]}
        if not unfit - changes.keys():
            raise refused(error, "changes") from error
    try:
        return _RULE.validate_python({key: value for key, value in merged.items() if key not in unfit})
    except ValidationError as error:
        raise refused(error, "changes") from error


def _merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    out = dict(document)
    for key, value in changes.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            inner = out.get(key)
            out[key] = _merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            out[key] = value
    return out


def document(protocol: MonitoringProtocol) -> dict[str, Any]:
    """The JSON form that :func:`parse_protocol` reads back to the same protocol."""
    return protocol.model_dump(mode="json", exclude_defaults=True)


def load_protocol(path: Path) -> MonitoringProtocol:
    """A protocol from a TOML file.

    Raises:
        InvalidRequest: names the file and the path inside of it, or where it is no TOML.
        OSError: the file cannot be read.
    """
    return _from_toml(path.name, path.read_bytes())


def _from_toml(name: str, data: bytes) -> MonitoringProtocol:
    try:
        protocol = parse_protocol(tomllib.loads(data.decode()))
        check_complete(protocol)
        return protocol
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.field}", str(error).removeprefix(f"{error.field}: ")) from error
    except ValueError as error:
        raise InvalidRequest(name, f"is no TOML: {error}") from error


@cache
def shipped() -> tuple[MonitoringProtocol, ...]:
    """The protocols that come with the product (clinical.md 4.1 to 4.6), by name."""
    folder = resources.files("alerts") / "protocols"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return tuple(_from_toml(file.name, file.read_bytes()) for file in files)


def check_enrolment(protocols: Iterable[MonitoringProtocol], context: PatientContext) -> None:
    """Refuse protocols that are not for this patient, or that come twice; raises ``InvalidRequest``."""
    names: set[str] = set()
    for protocol in protocols:
        if protocol.name in names:
            raise InvalidRequest("programmes", f"{protocol.name} would watch the patient twice")
        names.add(protocol.name)
        found = unfit(protocol, context)
        if found is not None:
            raise InvalidRequest("programmes", found[1])


def unfit(protocol: MonitoringProtocol, context: PatientContext) -> tuple[str, str] | None:
    """The member of the context for which a protocol is not for the patient, and why; None where it is.

    A protocol for adults wants an adult: a child or an unknown age is refused (DESIGN section 8).
    """
    if context.age_band not in protocol.ages:
        age = "is not recorded" if context.age_band == "unknown" else "is under 16"
        return "age_band", f"{protocol.name} is for adults: the patient's age group {age}"
    for one in protocol.refuses:
        if shut(one.when, OPEN, context) is None:
            asked = one.when.asked()
            because = " and ".join(said(key, value) for key, value in asked)
            return asked[0][0], f"{protocol.name} is refused, as {because}: {one.reason}"
    return None


def check_complete(protocol: MonitoringProtocol) -> None:
    """Refuse a protocol that leaves a vital sign unwatched in a context that it accepts; raises ``InvalidRequest``.

    Asked before a protocol is adopted. A protocol that was adopted before this check was made stays in force.
    """
    check_gaps(protocol.rules, protocol.refuses, protocol.only_where)


def _check_names(protocol: MonitoringProtocol) -> None:
    seen: set[str] = set()
    for number, rule in enumerate(protocol.rules):
        if rule.id in seen:
            raise InvalidRequest(f"rules[{number}].id", f"there are two of {rule.id}")
        seen.add(rule.id)


def _check_delays(protocol: MonitoringProtocol) -> None:
    """Spot readings so far apart that the first is stale when the last comes would never raise.

    Days of a trend are exempt, and continuous criteria: they are kept by readings that go on coming.
    """
    for number, rule in enumerate(protocol.rules):
        for path, part in criteria(rule):
            if isinstance(part, TrendCriterion | ScoreCriterion) or part.spot.apart_s is None:
                continue
            waits_s = part.spot.apart_s * (part.spot_readings() - 1)
            for key in (part.vital, *part.also_on):
                stale_s = BY_KEY[key].staleness_ns(Mode.SPOT) / _NS
                if waits_s > stale_s:
                    problem = f"a delay longer than staleness ({stale_s:g} s for {key}) would never raise"
                    raise InvalidRequest(f"rules[{number}]{path}.spot.apart_s", problem)


def _check_limits(protocol: MonitoringProtocol) -> None:
    """No two limits of a vital contradict each other for a patient to whom both rules apply."""
    limits = [(number, rule) for number, rule in enumerate(protocol.rules) if isinstance(rule, LimitRule)]
    for place, (number, rule) in enumerate(limits):
        for _, other in limits[:place]:
            shared = {rule.vital, *rule.also_on} & {other.vital, *other.also_on}
            if shared and not exclusive((rule.requires, rule.unless), (other.requires, other.unless)):
                problem = _contradiction(rule, other, BY_KEY[min(shared)])
                if problem:
                    raise InvalidRequest(f"rules[{number}].{rule.threshold.comparator}", problem)


def _contradiction(rule: LimitRule, other: LimitRule, vital: Vital) -> str:
    mine, theirs = (float(to_canonical(one.threshold.limit, one.unit, vital.unit)) for one in (rule, other))
    if rule.threshold.side is not other.threshold.side:
        low, high = (mine, theirs) if rule.threshold.side is Side.LOW else (theirs, mine)
        return f"every value is beyond this limit or that of {other.id}" if low >= high else ""
    if cause_of(rule) != cause_of(other) or rule.severity == other.severity:
        return ""
    grave, mild = (mine, theirs) if rule.severity < other.severity else (theirs, mine)
    backwards = grave > mild if rule.threshold.side is Side.LOW else grave < mild
    words = "less" if rule.severity < other.severity else "more"
    return f"is {words} extreme than that of {other.id}, which is {other.severity}" if backwards else ""


def _check_triggers(protocol: MonitoringProtocol) -> None:
    """What compares with the patient's own past or future is no sole reason for S1 (clinical.md 6.2)."""
    urgent = [(number, rule) for number, rule in enumerate(protocol.rules) if rule.severity == "S1"]
    firm = {cause_of(rule) for _, rule in urgent if any(_is_firm(part) for _, part in criteria(rule))}
    for number, rule in urgent:
        if isinstance(rule, ForecastRule | DeviationRule | CombinationRule) and cause_of(rule) not in firm:
            problem = f"a {rule.type} that is the only S1 for {cause_of(rule)} needs one on values beside it"
            raise InvalidRequest(f"rules[{number}].severity", problem)


def _is_firm(part: Criterion | ForecastRule) -> bool:
    return not isinstance(part, DeviationCriterion | ForecastRule)
