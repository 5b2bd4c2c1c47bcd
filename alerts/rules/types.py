"""The nine types of rules of a protocol: criteria with a name, an urgency, an owner, and whom they are for."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic import model_validator as whole

from alerts.rules.gates import Gate, Part
from alerts.rules.limits import Side
from alerts.rules.syntax import (
    COMPARATORS,
    PRESSURES,
    Criterion,
    Crossed,
    DeviationCriterion,
    LimitCriterion,
    Number,
    RateCriterion,
    ScoreCriterion,
    Sized,
    TrendCriterion,
    measurable,
)
from vitals.times import DAY_S

Ident = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,31}$")]
Line = Annotated[str, Field(min_length=1, max_length=160)]
Text = Annotated[str, Field(max_length=1000)]
Severity = Literal["S1", "S2", "S3", "T"]
Cause = Literal[
    "oxygenation", "breathing", "pulse", "blood pressure", "glucose", "weight", "temperature", "lungs", "symptoms",
    "score", "monitoring",
]  # fmt: skip
OPEN: Final = Gate()
"""A gate that is open for every patient."""

CAUSES: Final[Mapping[str, Cause]] = MappingProxyType({
    **dict.fromkeys(("spo2", "perf_index", "o2_flow", "fio2"), "oxygenation"),
    **dict.fromkeys(("resp_rate", "resp_rate_vent"), "breathing"),
    **dict.fromkeys(("heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art"), "pulse"),
    **dict.fromkeys(("rr_interval", "hrv_sdnn", "ecg_rhythm"), "pulse"),
    **dict.fromkeys(PRESSURES, "blood pressure"),
    **dict.fromkeys(("glucose_bg", "glucose_isf", "glucose"), "glucose"),
    **dict.fromkeys(("weight", "height", "bmi", "body_fat"), "weight"),
    "temp": "temperature",
    **dict.fromkeys(("pef", "fev1", "fvc", "fev1_fvc"), "lungs"),
    **dict.fromkeys(("steps", "sleep", "acvpu", "symptoms", "pain", "rescue_inhaler"), "symptoms"),
})  # fmt: skip
"""Vital sign -> the incident of its alerts, if the rule names no incident."""


class Owned(Part):
    """Members of every rule: its name, urgency, owner, and the patients it is for."""

    id: Ident = Field(description="name of the rule in its protocol")
    title: Line = Field(description="what a nurse reads")
    severity: Severity = Field(description="S1 urgent, S2 same day, S3 review queue, T about devices and connections")
    cause: Cause | None = Field(default=None, description="incident that its alerts join; default by vital sign")
    role: Ident | None = Field(default=None, description="owner of its alerts; default by severity")
    sla_s: int | None = Field(default=None, ge=30, le=7 * DAY_S, description="how long an alert may wait for a person")
    recheck_s: int | None = Field(
        default=None, ge=60, le=31 * DAY_S, description="when an acknowledged alert asks for a new measurement"
    )
    advice: Text = Field(default="", description="what to do")
    unanswered: Literal["S1", "S2"] | None = Field(
        default=None,
        description="S1 by spot readings: what the first one becomes if it is not repeated in 15 minutes; by default S1"
        " for saturation to 87 %, systolic pressure to 90 mmHg, heart rate to 40 /min and glucose below 54 mg/dL, else"
        " S2",
    )
    requires: Gate = Field(default=OPEN, description="applies only if the recorded context is equal")
    unless: Gate = Field(default=OPEN, description="does not apply if the recorded context is equal")

    @field_validator("unanswered")
    @classmethod
    def _urgent(cls, unanswered: str | None, info: ValidationInfo) -> str | None:
        if unanswered is not None and info.data.get("severity") != "S1":
            raise ValueError("is for S1 rules")
        return unanswered

    @field_validator("unless")
    @classmethod
    def _can_apply(cls, unless: Gate, info: ValidationInfo) -> Gate:
        requires = info.data.get("requires", OPEN)
        if set(requires.asked()) & set(unless.asked()):
            raise ValueError("bars what requires wants: the rule would never apply")
        return unless


class LimitRule(Owned, LimitCriterion):
    """The value itself, or the median of the last few, beyond a limit."""

    extreme: Crossed | None = Field(
        default=None, description="S1: a value beyond this pages at once, also if it is doubtful; beyond the limit"
    )

    @field_validator("extreme")
    @classmethod
    def _further_out(cls, extreme: Crossed | None, info: ValidationInfo) -> Crossed | None:
        if extreme is None:
            return None
        if info.data.get("severity") != "S1" or info.data.get("from_min") != info.data.get("to_min"):
            raise ValueError("is for S1 rules that hold at every hour")
        for name, (side, _) in COMPARATORS.items():
            limit, far = info.data.get(name), extreme.threshold
            beyond = limit is None or (far.limit < limit if side is Side.LOW else far.limit > limit)
            if limit is not None and not (beyond and far.side is side):
                raise ValueError(f"must lie beyond the limit: {'below' if side is Side.LOW else 'above'} {limit:g}")
        return extreme


class RateRule(Owned, RateCriterion):
    """The value rises or falls too fast: least-squares slope, numbers in unit per minute."""


class ForecastRule(Owned, Sized):
    """The slope leads beyond a value soon, while the value is near enough and moves towards it fast enough."""

    type: Literal["forecast"]
    unit: str = Field(description="unit of the numbers, accepted for the vital sign")
    ahead_min: float = Field(gt=0, le=240, description="forecast this many minutes ahead")
    while_below: Number | None = Field(default=None, description="of a fall: only while the value is below this")
    slope_below: Number | None = Field(
        default=None, lt=0, description="of a fall: only while the slope per minute is below this"
    )
    while_above: Number | None = Field(default=None, description="of a rise: only while the value is above this")
    slope_above: Number | None = Field(
        default=None, gt=0, description="of a rise: only while the slope per minute is above this"
    )
    at_once_slope: Number | None = Field(
        default=None, description="a steeper slope per minute raises on one evaluation"
    )
    window_s: int = Field(default=1200, ge=60, le=DAY_S, description="slope over this many seconds")

    @whole(mode="after")
    def _one_way(self) -> "ForecastRule":
        falls = self.threshold.side is Side.LOW
        wanted, others = (self.while_below, self.slope_below), (self.while_above, self.slope_above)
        if not falls:
            wanted, others = others, wanted
        if None in wanted or others != (None, None):
            way = "below" if falls else "above"
            raise ValueError(f"a forecast of a {'fall' if falls else 'rise'} needs while_{way} and slope_{way} only")
        steep, slope = self.at_once_slope, self.slope
        if steep is not None and not (steep <= slope if falls else steep >= slope):
            raise ValueError(f"at_once_slope must be at least as steep as {slope:g}")
        return self

    @property
    def bound(self) -> float:
        """The value must be beyond this, on the side of the limit."""
        return float(self.while_below if self.while_below is not None else self.while_above or 0.0)

    @property
    def slope(self) -> float:
        """And its slope per minute beyond this."""
        return float(self.slope_below or self.slope_above or 0.0)


class DeviationRule(Owned, DeviationCriterion):
    """The value against the patient's own usual one at this hour of the day."""


class TrendRule(Owned, TrendCriterion):
    """A change over days of the patient's calendar."""


class ScoreRule(Owned, ScoreCriterion):
    """A score that is computed from several vitals: the total, or one parameter that alone has three points."""


class SilenceRule(Owned):
    """No reading arrived: data are missing, or the patient does not measure."""

    type: Literal["silence"]
    vital: str = Field(description="catalogue key")
    after_s: int = Field(ge=60, le=31 * DAY_S, description="raised after this many seconds without a reading")

    @field_validator("vital")
    @classmethod
    def _known(cls, key: str) -> str:
        return measurable(key)


OF_A_VITAL: Final = frozenset({"stuck", "sensor_fault"})
"""Faults that are visible in the readings of one vital sign."""


class TechnicalRule(Owned):
    """A fault of the patient's device, or of the stream of one vital sign (`stuck`, `sensor_fault`)."""

    type: Literal["technical"]
    trouble: Literal["battery", "clock", "fault", "flapping", "gateway", "stuck", "sensor_fault"] = Field(
        description="battery, clock, fault, flapping, gateway (offline); or of a vital sign: stuck, sensor_fault"
    )
    after_s: int = Field(default=0, ge=0, le=31 * DAY_S, description="raised after it has lasted this many seconds")
    vital: str | None = Field(default=None, description="stuck, sensor_fault: catalogue key")

    @field_validator("vital")
    @classmethod
    def _known(cls, key: str | None) -> str | None:
        return None if key is None else measurable(key)

    @whole(mode="after")
    def _vital_fits(self) -> "TechnicalRule":
        if (self.vital is not None) is not (self.trouble in OF_A_VITAL):
            raise ValueError(f"{self.trouble} {'needs a' if self.trouble in OF_A_VITAL else 'has no'} vital")
        if self.trouble == "stuck" and self.after_s < 60:
            raise ValueError("stuck needs after_s of 60 or more")
        return self


class CombinationRule(Owned):
    """Two to four criteria that are met together."""

    type: Literal["combination"]
    within_s: int = Field(ge=1, le=7 * DAY_S, description="all true within so many seconds of each other")
    members: tuple[Criterion, ...] = Field(
        min_length=2, max_length=4, strict=False,
        description="criteria: rules of type limit, rate, deviation, trend or score without what every rule has",
    )  # fmt: skip

    @field_validator("members")
    @classmethod
    def _one_varies(cls, members: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        if sum(bool(getattr(member, "also_on", ())) for member in members) > 1:
            raise ValueError("only one member may have also_on")
        return members


RULE_TYPES: Final[Mapping[str, type[Owned]]] = MappingProxyType({
    "limit": LimitRule, "rate": RateRule, "forecast": ForecastRule, "deviation": DeviationRule, "trend": TrendRule,
    "score": ScoreRule, "silence": SilenceRule, "technical": TechnicalRule, "combination": CombinationRule,
})  # fmt: skip
"""Rule type -> its model."""
Rule = Annotated[
    LimitRule | RateRule | ForecastRule | DeviationRule | TrendRule | ScoreRule | SilenceRule | TechnicalRule
    | CombinationRule,
    Field(discriminator="type"),
]  # fmt: skip


def cause_of(rule: Rule) -> Cause:
    """The incident that alerts of ``rule`` join: its own word, or that of (the first) vital sign."""
    if rule.cause is not None:
        return rule.cause
    if isinstance(rule, SilenceRule | TechnicalRule):
        return "monitoring"
    first = rule.members[0] if isinstance(rule, CombinationRule) else rule
    return "score" if isinstance(first, ScoreCriterion) else CAUSES[first.vital]


def criteria(rule: Rule) -> Iterator[tuple[str, Criterion | ForecastRule]]:
    """The criteria of a rule with their path inside of it: itself, or the members of a combination."""
    if isinstance(rule, CombinationRule):
        yield from ((f".members[{number}]", member) for number, member in enumerate(rule.members))
    elif not isinstance(rule, SilenceRule | TechnicalRule):
        yield "", rule
