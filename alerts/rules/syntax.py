"""Criteria of protocols: what is measured, against which number, for how long. A rule is a criterion with an owner.

A criterion is text of a protocol; the state of a slot (clear, pending, holding) is its condition.

Numbers are in the unit that is written with them; every one is bounded.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, ValidationInfo, field_validator
from pydantic import model_validator as whole

from alerts.rules.gates import Part
from alerts.rules.limits import Side
from vitals.catalog import BY_KEY, accepts
from vitals.times import DAY_S
from vitals.units import UNIT_BY_NAME

_LARGEST: Final = 1e9

Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]


class Often(Part):
    """So many of the last readings, wherever the others stand among them."""

    readings: int = Field(ge=2, le=32, description="raised by this many readings")
    of: int = Field(ge=2, le=32, description="of so many last ones")
    apart_s: float = Field(
        default=0.0, ge=0, le=DAY_S, description="least seconds between two that count: a faster sensor's are sampled"
    )

    @field_validator("of")
    @classmethod
    def _enough(cls, of: int, info: ValidationInfo) -> int:
        if of < info.data.get("readings", 0):
            raise ValueError("is fewer than readings")
        return of


class Continuous(Part):
    """How long a criterion must be met while its vital is measured continuously."""

    for_s: float | None = Field(
        default=None, ge=0, le=DAY_S, description="raised after the condition has held for this many seconds"
    )
    readings: int = Field(default=1, ge=1, le=20, description="and for at least this many readings")
    often: Often | None = Field(
        default=None, description="raised sooner by so many of the last readings, also with others in between"
    )
    sticky: bool = Field(
        default=True, description="while the condition waits, only a value back at clear cancels it, not one between"
    )
    clear_s: float | None = Field(default=None, ge=0, le=DAY_S, description="over after values were back for so long")
    clear_readings: int = Field(default=1, ge=1, le=20, description="and for at least this many readings")
    median_of: int = Field(default=1, ge=1, le=9, description="compare the median of this many readings")


class Spot(Part):
    """How many readings a criterion takes while its vital is measured now and then."""

    readings: int | None = Field(default=None, ge=1, le=20, description="raised by this many readings in a row")
    apart_s: float | None = Field(
        default=None, ge=0, le=7 * DAY_S, description="least seconds between two counted readings"
    )
    clear_readings: int | None = Field(default=None, ge=1, le=20, description="over after this many readings in a row")
    median_of: int = Field(default=1, ge=1, le=9, description="compare the median of this many readings")


class Threshold(NamedTuple):
    """The one comparator of a rule: its name, number, and what that means."""

    comparator: str
    limit: float
    side: Side
    inclusive: bool


COMPARATORS: Final[Mapping[str, tuple[Side, bool]]] = MappingProxyType({
    "below": (Side.LOW, False), "at_or_below": (Side.LOW, True),
    "above": (Side.HIGH, False), "at_or_above": (Side.HIGH, True),
})  # fmt: skip


class Crossed(Part):
    """Exactly one comparator."""

    below: Number | None = Field(default=None, description="raised below this value")
    at_or_below: Number | None = Field(default=None, description="raised at or below this value")
    above: Number | None = Field(default=None, description="raised above this value")
    at_or_above: Number | None = Field(default=None, description="raised at or above this value")

    @whole(mode="after")
    def _one_comparator(self) -> Self:
        if len(self._given()) != 1:
            raise ValueError(f"needs exactly one of {', '.join(COMPARATORS)}")
        return self

    def _given(self) -> list[str]:
        return [name for name in COMPARATORS if getattr(self, name) is not None]

    @property
    def threshold(self) -> Threshold:
        """The comparator that was given."""
        name = self._given()[0]
        return Threshold(name, getattr(self, name), *COMPARATORS[name])


class Compared(Crossed):
    """A comparator, and the value that ends the criterion: at ``clear``, or ``deadband`` inside of the limit."""

    clear: Number | None = Field(default=None, description="over when back at this value")
    deadband: float | None = Field(
        default=None, ge=0, le=_LARGEST, description="over when back by this much beyond the limit"
    )

    @field_validator("clear")
    @classmethod
    def _good_side(cls, value: float | None, info: ValidationInfo) -> float | None:
        for name, (side, _) in COMPARATORS.items():
            limit = info.data.get(name)
            if value is not None and limit is not None and (value < limit if side is Side.LOW else value > limit):
                raise ValueError(f"is on the wrong side of {name}")
        return value

    @field_validator("deadband")
    @classmethod
    def _either(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("clear") is not None:
            raise ValueError("give clear or deadband, not both")
        return value


class Lasting(Part):
    """How long a criterion must be met in either mode, and at which hours of the patient's day it counts."""

    continuous: Continuous = Field(default=Continuous(), description="persistence while measured continuously")
    spot: Spot = Field(default=Spot(), description="persistence while measured by spot readings")
    from_min: int = Field(default=0, ge=0, lt=1440, description="in force from this minute of the patient's day")
    to_min: int = Field(
        default=0, ge=0, lt=1440, description="in force to this minute, also across midnight; both 0: always"
    )

    @field_validator("to_min")
    @classmethod
    def _some_time(cls, value: int, info: ValidationInfo) -> int:
        if value == info.data.get("from_min") and value:
            raise ValueError("must differ from from_min")
        return value


class Measured(Part):
    """Which vital sign a criterion looks at."""

    vital: str = Field(description="catalogue key")
    also_on: tuple[str, ...] = Field(
        default=(), max_length=3, strict=False, description="other vital signs for the same quantity, one rule each"
    )
    unit: str | None = Field(default=None, description="unit of the numbers, accepted for the vital sign")

    @field_validator("vital")
    @classmethod
    def _known(cls, key: str) -> str:
        return measurable(key)

    @field_validator("also_on")
    @classmethod
    def _all_known(cls, keys: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for key in keys:
            measurable(key)
        if len({*keys, info.data.get("vital")}) != len(keys) + 1:
            raise ValueError("names a vital sign twice")
        return keys

    @field_validator("unit")
    @classmethod
    def _measures(cls, unit: str | None, info: ValidationInfo) -> str | None:
        if unit is None:
            return None
        for key in (info.data.get("vital"), *info.data.get("also_on", ())):
            if key is not None and not accepts(BY_KEY[key], unit):
                raise ValueError(f"does not measure {key}")
        known = UNIT_BY_NAME.get(unit)
        return unit if known is None else known.ucum


def measurable(key: str) -> str:
    vital = BY_KEY.get(key)
    if vital is None:
        raise ValueError(f"{key[:32]} is no vital sign of the catalogue")
    if vital.panel:
        raise ValueError(f"{key} is a panel: name {', '.join(vital.panel)}")
    if vital.derived:
        raise ValueError(f"{key} is computed: use a rule of type score")
    return key


class Suppressor(NamedTuple):
    """What keeps a vital from raising on noise: the on-delay while continuous, and the deadband (canonical)."""

    for_s: float = 0.0
    deadband: float = 0.0


CLEAR_S: Final = 60.0
"""Off-delay while continuous (clinical.md 5.3)."""
APART_S: Final = 60.0
"""How far apart spot readings that confirm each other are at least (clinical.md 4.3)."""
PRESSURES: Final = (
    "bp_sys", "bp_dia", "bp_mean", "bp_avg_sys", "bp_avg_dia", "bp_art_sys", "bp_art_dia", "bp_art_mean",
)  # fmt: skip
SUPPRESSORS: Final[Mapping[str, Suppressor]] = MappingProxyType({
    "spo2": Suppressor(30.0, 2.0),
    **dict.fromkeys(("heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art"), Suppressor(60.0, 5.0)),
    **dict.fromkeys(("resp_rate", "resp_rate_vent"), Suppressor(120.0, 2.0)),
    **dict.fromkeys(PRESSURES, Suppressor(0.0, 5.0)),
    "temp": Suppressor(0.0, 0.3),
    **dict.fromkeys(("glucose_bg", "glucose_isf", "glucose"), Suppressor(0.0, 5.0)),
})  # fmt: skip
"""Defaults where a rule does not say (clinical.md 5.3). Spot readings of these are confirmed by a second one; what a
patient reports, or a device counts over a day, stands alone."""
HIGH_GLUCOSE: Final = 250.0
HIGH_GLUCOSE_DEADBAND: Final = 10.0


class Sized(Lasting, Compared, Measured):
    """A number of one vital sign against a limit: every criterion but a score."""

    def spot_readings(self) -> int:
        """How many spot readings meet the criterion."""
        if self.spot.readings is not None:
            return self.spot.readings
        return 2 if isinstance(self, LimitCriterion | DeviationCriterion) and self.vital in SUPPRESSORS else 1


class LimitCriterion(Sized):
    """The value itself, or the median of the last few, beyond a limit."""

    type: Literal["limit"]
    unit: str = Field(description="unit of the numbers, accepted for the vital sign")


class RateCriterion(Sized):
    """The value rises or falls too fast: least-squares slope, numbers in unit per minute."""

    type: Literal["rate"]
    unit: str = Field(description="unit of the numbers, per minute")
    window_s: int = Field(default=1200, ge=60, le=DAY_S, description="slope over this many seconds")


class DeviationCriterion(Sized):
    """The value against the patient's own usual one at this hour of the day."""

    type: Literal["deviation"]
    measure: Literal["difference", "ratio", "robust_z"] = Field(
        description="difference: value minus the usual value; ratio: value over the usual value; robust_z: difference"
        " in robust standard deviations"
    )
    least_spread: float = Field(default=0.0, ge=0, le=_LARGEST, description="robust_z: noise of the device")

    @whole(mode="after")
    def _unit_fits(self) -> "DeviationCriterion":
        _check_unit(self.unit, self.measure, ("difference",))
        if self.least_spread and self.measure != "robust_z":
            raise ValueError("least_spread is for robust_z")
        return self


class TrendCriterion(Sized):
    """A change over days of the patient's calendar."""

    type: Literal["trend"]
    measure: Literal["change", "mean", "below_mean_sd", "fraction", "share_below"] = Field(
        description="change: today minus the value ``days`` before; mean: of the days without the first; below_mean_sd:"
        " distance from the mean of the days before, in SD; fraction: yesterday over the first day on record;"
        " share_below: percent of readings under a value"
    )
    days: int = Field(default=1, ge=1, le=31, description="over this many days")
    readings: int = Field(
        default=0, ge=0, le=100_000, description="mean, share_below: only with at least this many readings"
    )
    on_days: int = Field(default=0, ge=0, le=31, description="mean: on at least this many days")
    under: Number | None = Field(default=None, description="share_below: under this value")

    @whole(mode="after")
    def _unit_fits(self) -> "TrendCriterion":
        if self.measure == "share_below" and self.under is None:
            raise ValueError("share_below needs under")
        _check_unit(self.unit, self.measure, ("change", "mean", "share_below"))
        for member, measures in _OF_TRENDS.items():
            if getattr(self, member) != type(self).model_fields[member].default and self.measure not in measures:
                raise ValueError(f"{member} is for {' and '.join(measures)}")
        return self


_OF_TRENDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "days": ("change", "mean", "below_mean_sd", "share_below"), "readings": ("mean", "share_below"),
    "on_days": ("mean",), "under": ("share_below",),
})  # fmt: skip
"""Which measures have a member of a trend."""


def _check_unit(unit: str | None, measure: str, wanting: tuple[str, ...]) -> None:
    if (unit is not None) is not (measure in wanting):
        raise ValueError(f"{measure} {'needs a' if measure in wanting else 'has no'} unit")


class ScoreCriterion(Compared):
    """A score that is computed from several vitals: the total, or one parameter that alone has three points."""

    type: Literal["score"]
    score: Literal["news2"] = Field(default="news2", description="which score")
    any_red: bool = Field(default=False, description="raised by any one parameter with 3 points")

    @whole(mode="after")
    def _one_comparator(self) -> Self:
        if len(self._given()) != (0 if self.any_red else 1):
            raise ValueError(f"needs either any_red or exactly one of {', '.join(COMPARATORS)}")
        if not self.any_red and self.threshold.side is Side.LOW:
            raise ValueError("a score is raised above a value, not below")
        return self


Criterion = Annotated[
    LimitCriterion | RateCriterion | DeviationCriterion | TrendCriterion | ScoreCriterion, Field(discriminator="type")
]
