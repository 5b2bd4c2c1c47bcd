"""Clinical context of a patient, and the gates of rules on it (clinical.md 2.1, 4.4, 4.5).

``requires`` wants a value that is known and equal: what nobody has recorded keeps the rule away, and is said so.
``unless`` switches a rule off only where the value is known and equal: unknown is not no.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from vitals.context import CONTEXT_BY_KEY

AgeBand = Literal["unknown", "under_16", "adult"]
Known = Literal["unknown", "no", "yes"]


class Part(BaseModel):
    """A part of a protocol document: immutable, strict, no members beside its own, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class PatientContext(NamedTuple):
    """What rules and scores ask about a patient, members of ``vitals.context``; ``spo2_scale`` 0 was never set.

    Hashable, and equal contexts share rules. Snapshots hold the values in this order: new members go to the end.
    """

    age_band: AgeBand = "unknown"
    pregnancy: Known = "unknown"
    oxygen: Known = "unknown"
    spo2_scale: int = 0
    known_af: Known = "unknown"
    usual_confusion: bool = False
    postpartum: Known = "unknown"
    mechanical_support: Known = "unknown"
    trained_or_paced: Known = "unknown"


class Gate(Part):
    """Values of the clinical context; a member that is not given does not matter."""

    age_band: Literal["under_16", "adult"] | None = Field(default=None, description=CONTEXT_BY_KEY["age_band"].asks)
    pregnancy: Literal["no", "yes"] | None = Field(default=None, description=CONTEXT_BY_KEY["pregnancy"].asks)
    oxygen: Literal["no", "yes"] | None = Field(default=None, description=CONTEXT_BY_KEY["oxygen"].asks)
    spo2_scale: Literal[1, 2] | None = Field(default=None, description=CONTEXT_BY_KEY["spo2_scale"].asks)
    known_af: Literal["no", "yes"] | None = Field(default=None, description=CONTEXT_BY_KEY["known_af"].asks)
    postpartum: Literal["no", "yes"] | None = Field(default=None, description=CONTEXT_BY_KEY["postpartum"].asks)
    mechanical_support: Literal["no", "yes"] | None = Field(
        default=None, description=CONTEXT_BY_KEY["mechanical_support"].asks
    )
    trained_or_paced: Literal["no", "yes"] | None = Field(
        default=None, description=CONTEXT_BY_KEY["trained_or_paced"].asks
    )

    def asked(self) -> list[tuple[str, str | int]]:
        """(member, wanted value) of what matters, in the order of the members."""
        return [(key, value) for key in type(self).model_fields if (value := getattr(self, key)) is not None]


MEMBERS: Final[Mapping[str, tuple[str | int, ...]]] = MappingProxyType(
    {key: tuple(CONTEXT_BY_KEY[key].values) for key in Gate.model_fields}
)
"""The values of each member that rules ask about, beginning with that while nobody has recorded it."""


def said(key: str, value: str | int) -> str:
    """A value of the context as people say it: ``the patient gets no oxygen``."""
    return CONTEXT_BY_KEY[key].values[value]


def shut(requires: Gate, unless: Gate, context: PatientContext) -> str | None:
    """Why a rule does not apply, in words (``the patient gets no oxygen``); None when it does."""
    for key, wanted in requires.asked():
        if (value := getattr(context, key)) != wanted:
            return said(key, value)
    for key, unwanted in unless.asked():
        if getattr(context, key) == unwanted:
            return said(key, unwanted)
    return None


def contradiction(context: PatientContext) -> tuple[str, str] | None:
    """The member of a context that contradicts another, and why; None where they go together."""
    if context.pregnancy == "yes" and context.postpartum == "yes":
        return "postpartum", "contradicts pregnancy: record one of the two"
    return None


def exclusive(first: tuple[Gate, Gate], second: tuple[Gate, Gate]) -> bool:
    """Whether two rules, as (requires, unless), can never apply to the same patient."""
    return _bars(first, second) or _bars(second, first)


def _bars(first: tuple[Gate, Gate], second: tuple[Gate, Gate]) -> bool:
    wanted, other = dict(first[0].asked()), dict(second[0].asked())
    unwanted = dict(second[1].asked())
    return any(unwanted.get(key) == value or other.get(key, value) != value for key, value in wanted.items())
