"""Clinical context of a patient, and the gates of rules on it (clinical.md 2.1, 4.4, 4.5).

``requires`` wants a value that is known and equal: what nobody has recorded keeps the rule away, and is said so.
``unless`` switches a rule off only where the value is known and equal: unknown is not no.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

AgeBand = Literal["unknown", "under_16", "adult"]
Known = Literal["unknown", "no", "yes"]


class Part(BaseModel):
    """A part of a protocol document: immutable, strict, no members beside its own, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PatientContext(NamedTuple):
    """What rules ask about a patient; ``spo2_scale`` 0 was never set. Hashable, and equal contexts share rules."""

    age_band: AgeBand = "unknown"
    pregnancy: Known = "unknown"
    oxygen: Known = "unknown"
    spo2_scale: int = 0
    known_af: Known = "unknown"
    usual_confusion: bool = False


class Gate(Part):
    """Values of the clinical context; a member that is not given does not matter."""

    age_band: Literal["under_16", "adult"] | None = Field(default=None, description="age group")
    pregnancy: Literal["no", "yes"] | None = Field(default=None, description="pregnancy")
    oxygen: Literal["no", "yes"] | None = Field(default=None, description="oxygen")
    spo2_scale: Literal[1, 2] | None = Field(default=None, description="oxygen saturation scale")
    known_af: Literal["no", "yes"] | None = Field(default=None, description="known atrial fibrillation")

    def asked(self) -> list[tuple[str, str | int]]:
        """(member, wanted value) of what matters, in the order of the members."""
        return [(key, value) for key in type(self).model_fields if (value := getattr(self, key)) is not None]


UNSET: Final[Mapping[str, str | int]] = MappingProxyType(
    {key: PatientContext._field_defaults[key] for key in Gate.model_fields}
)
"""The value of each member while nobody has recorded it."""


_SAID: Final[Mapping[tuple[str, str | int], str]] = MappingProxyType({
    ("age_band", "under_16"): "the patient is under 16",
    ("age_band", "adult"): "the patient is an adult",
    ("age_band", "unknown"): "it is not recorded whether the patient is an adult",
    ("pregnancy", "no"): "the patient is not pregnant",
    ("pregnancy", "yes"): "the patient is pregnant",
    ("pregnancy", "unknown"): "it is not recorded whether the patient is pregnant",
    ("oxygen", "no"): "the patient gets no oxygen",
    ("oxygen", "yes"): "the patient gets oxygen",
    ("oxygen", "unknown"): "it is not recorded whether the patient gets oxygen",
    ("spo2_scale", 1): "the patient has the usual saturation target",
    ("spo2_scale", 2): "the patient has a saturation target of 88 to 92 %",
    ("spo2_scale", 0): "it is not recorded which saturation target the patient has",
    ("known_af", "no"): "the patient has no known atrial fibrillation",
    ("known_af", "yes"): "the patient has known atrial fibrillation",
    ("known_af", "unknown"): "it is not recorded whether the patient has atrial fibrillation",
})  # fmt: skip


def said(key: str, value: str | int) -> str:
    """A value of the context as people say it: ``the patient gets no oxygen``."""
    return _SAID[key, value]


def shut(requires: Gate, unless: Gate, context: PatientContext) -> str | None:
    """Why a rule does not apply, in words (``the patient gets no oxygen``); None when it does."""
    for key, wanted in requires.asked():
        if (value := getattr(context, key)) != wanted:
            return said(key, value)
    for key, unwanted in unless.asked():
        if getattr(context, key) == unwanted:
            return said(key, unwanted)
    return None


def exclusive(first: tuple[Gate, Gate], second: tuple[Gate, Gate]) -> bool:
    """Whether two rules, as (requires, unless), can never apply to the same patient."""
    return _bars(first, second) or _bars(second, first)


def _bars(first: tuple[Gate, Gate], second: tuple[Gate, Gate]) -> bool:
    wanted, other = dict(first[0].asked()), dict(second[0].asked())
    unwanted = dict(second[1].asked())
    return any(unwanted.get(key) == value or other.get(key, value) != value for key, value in wanted.items())
