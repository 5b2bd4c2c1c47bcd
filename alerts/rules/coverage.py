"""Gates without gaps: a protocol watches in every context that it accepts what it watches in any of them.

A context is one combination of recorded values, "not recorded" among them. A protocol refuses contexts (``refuses``),
or says in which contexts alone it watches one side of a vital sign, and why (``only_where``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, field_validator

from alerts.rules.gates import MEMBERS, Gate, Part, PatientContext, contradiction, said, shut
from alerts.rules.limits import spoken
from alerts.rules.syntax import ScoreCriterion
from alerts.rules.types import OPEN, Line, Rule, SilenceRule, TechnicalRule, criteria
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest

Gates = tuple[Gate, Gate]
"""``requires`` and ``unless``."""
UNSOUND: Final = frozenset({
    "bp_sys", "bp_dia", "bp_avg_sys", "bp_avg_dia", "bp_art_sys", "bp_art_dia", "pulse_rate", "pulse_rate_nibp",
    "pulse_rate_art", "spo2",
})  # fmt: skip
"""What does not measure a patient with mechanical circulatory support: most have no palpable pulse."""
MEAN_PRESSURES: Final = frozenset({"bp_mean", "bp_art_mean"})
_SUPPORTED: Final = "systolic and diastolic pressure, pulse and saturation are not judged with mechanical support"


class RefusedContext(Part):
    """A context that the protocol is not for, and why."""

    when: Gate = Field(description="refused where the recorded context is equal")
    reason: Line = Field(description="why, as people read it")

    @field_validator("when")
    @classmethod
    def _asks(cls, when: Gate) -> Gate:
        if not when.asked():
            raise ValueError("names no member of the context")
        return when


class OnlyWhere(Part):
    """A vital sign that is watched on one side in some contexts only, and why that is no gap."""

    vital: str = Field(description="catalogue key, or a score")
    side: Literal["low", "high"] = Field(description="which side of it")
    requires: Gate = Field(default=OPEN, description="watched where the recorded context is equal")
    unless: Gate = Field(default=OPEN, description="not watched where the recorded context is equal")
    reason: Line = Field(description="why the other contexts need no rule")

    @field_validator("vital")
    @classmethod
    def _known(cls, key: str) -> str:
        if key not in BY_KEY:
            raise ValueError(f"{key[:32]} is no vital sign of the catalogue")
        return key


class WatchedSide(NamedTuple):
    """Something a rule watches: the type of the rule, the vital sign, and the side (empty for silence and faults)."""

    type: str
    vital: str
    side: str


def watches(rule: Rule) -> Iterator[WatchedSide]:
    """Everything that ``rule`` watches, each vital sign of ``also_on`` too."""
    if isinstance(rule, SilenceRule | TechnicalRule):
        if rule.vital is not None:
            yield WatchedSide(rule.type, rule.vital, "")
        return
    for _, part in criteria(rule):
        if isinstance(part, ScoreCriterion):
            yield WatchedSide(rule.type, f"{part.score}_red" if part.any_red else part.score, "high")
        else:
            for key in (part.vital, *part.also_on):
                yield WatchedSide(rule.type, key, part.threshold.side.word)


def gaps(
    rules: Sequence[Rule], refuses: Sequence[RefusedContext], only_where: Sequence[OnlyWhere]
) -> Iterator[tuple[WatchedSide, Mapping[str, str | int]]]:
    """Every watch that an accepted context leaves out, with the members of that context which the gates ask about."""
    found: dict[WatchedSide, list[Gates]] = {}
    for rule in rules:
        for watch in watches(rule):
            found.setdefault(watch, []).append((rule.requires, rule.unless))
    refused: list[Gates] = [(one.when, OPEN) for one in refuses]
    declared: dict[tuple[str, str], Gates] = {(one.vital, one.side): (one.requires, one.unless) for one in only_where}
    for watch, ways in found.items():
        if (OPEN, OPEN) in ways:
            continue
        wanted = declared.get((watch.vital, watch.side), (OPEN, OPEN))
        for known in _combinations([*ways, wanted, *refused]):
            context = PatientContext("adult")._replace(**known)
            if contradiction(context) or any(shut(*gates, context) is None for gates in refused):
                continue
            if shut(*wanted, context) is None and all(shut(*gates, context) is not None for gates in ways):
                yield watch, known


def _combinations(gates: Iterable[Gates]) -> Iterator[dict[str, Any]]:
    """Every combination of values of the members that these gates ask about; protocols are for adults only."""
    asked = {key for pair in gates for gate in pair for key, _ in gate.asked()} - {"age_band"}
    keys = [key for key in MEMBERS if key in asked]
    for values in product(*(MEMBERS[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def check_gaps(rules: Sequence[Rule], refuses: Sequence[RefusedContext], only_where: Sequence[OnlyWhere]) -> None:
    """Refuse rules that leave a gap; raises ``InvalidRequest`` that names the first context left out."""
    for watch, known in gaps(rules, refuses, only_where):
        side = f" ({watch.side})" if watch.side else ""
        where = " and ".join(said(key, value) for key, value in known.items())
        raise InvalidRequest(
            "rules",
            f"no {watch.type} rule watches {spoken(BY_KEY[watch.vital])}{side} where {where}: add a rule, refuse the "
            "context (refuses), or say in which contexts it is watched (only_where)",
        )


def out_of_place(rule: Rule, context: PatientContext) -> str | None:
    """Why a rule (one vital sign, or parts of one each) cannot judge this patient, in words; None where it can."""
    if context.mechanical_support != "yes":
        return None
    seen = {(watch.type, watch.vital) for watch in _parts(rule)}
    return _SUPPORTED if any(kind == "score" or vital in UNSOUND for kind, vital in seen) else None


def _parts(rule: Rule) -> Iterator[WatchedSide]:
    """The watches of a rule without those of ``also_on``, which are rules of their own."""
    if isinstance(rule, SilenceRule | TechnicalRule):
        yield from watches(rule)
        return
    for _, part in criteria(rule):
        if isinstance(part, ScoreCriterion):
            yield WatchedSide("score", part.score, "high")
        else:
            yield WatchedSide(rule.type, part.vital, part.threshold.side.word)


def check_support(rules: Iterable[Rule], context: PatientContext) -> None:
    """Refuse rules that leave a patient with mechanical support without a low limit of mean arterial pressure; raises
    ``InvalidRequest``. A patient without any rules is not refused."""
    known = list(rules)
    if context.mechanical_support != "yes" or not known:
        return
    in_force = (rule for rule in known if shut(rule.requires, rule.unless, context) is None)
    watched = {watch for rule in in_force for watch in watches(rule)}
    if any(WatchedSide("limit", key, "low") in watched for key in MEAN_PRESSURES):
        return
    raise InvalidRequest(
        "programmes",
        "the patient has mechanical circulatory support: a programme with a low limit of mean arterial pressure is "
        "required",
    )
