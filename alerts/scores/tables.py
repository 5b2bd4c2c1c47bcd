"""NEWS2 as tables: parameters, bands of points, triggers, and the reasons why a value counts or does not.

Source: clinical.md 2.1 (points), 2.2 (triggers), 2.3 (validity, exclusions). Editable in one place, approved by a
clinician before use.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vitals.catalog import BY_KEY
from vitals.model import Float64
from vitals.times import MINUTE_NS

Bool = npt.NDArray[np.bool_]
Int8 = npt.NDArray[np.int8]

TOGETHER_NS: Final = 30 * MINUTE_NS
"""Respiration, saturation and pulse count as one set of observations within this span (clinical.md 2.3)."""
NO_SCORE: Final = -1
"""What totals, bands and points hold where the score does not apply: never 0, which reads as well."""
AIR_FIO2: Final = 21
"""Inspired oxygen in whole percent up to which it is air."""
ALERT: Final = float(BY_KEY["acvpu"].values.index("A"))
CONFUSED: Final = float(BY_KEY["acvpu"].values.index("C"))
SCALE_2: Final = 2


class Parameter(IntEnum):
    """The seven parameters, in the order of clinical.md 2.4: the first axis of every (7, n) array."""

    RESP_RATE = 0
    SPO2 = 1
    OXYGEN = 2
    BP_SYS = 3
    PULSE = 4
    ACVPU = 5
    TEMP = 6

    @property
    def key(self) -> str:
        """``resp_rate``, ``spo2``, ``oxygen``, ``bp_sys``, ``pulse``, ``acvpu`` or ``temp``."""
        return self.name.lower()


SOURCES: Final[Mapping[Parameter, tuple[str, ...]]] = MappingProxyType({
    Parameter.RESP_RATE: ("resp_rate",),
    Parameter.SPO2: ("spo2",),
    Parameter.OXYGEN: ("o2_flow", "fio2"),
    Parameter.BP_SYS: ("bp_sys",),
    Parameter.PULSE: ("heart_rate", "pulse_rate", "pulse_rate_nibp"),
    Parameter.ACVPU: ("acvpu",),
    Parameter.TEMP: ("temp",),
})  # fmt: skip
"""Catalogue keys that a parameter is read from, preferred first.

Pulse is the first in force whose quality is good, else the first in force (clinical.md 1.1). Oxygen is the newer
statement of the two, oxygen where they are equally old: flow above 0 L/min or more than 21 % inspired.
"""
TOGETHER: Final = tuple(
    key for which in (Parameter.RESP_RATE, Parameter.SPO2, Parameter.PULSE) for key in SOURCES[which]
)
"""Keys of the readings that must be of one set."""


class Validity(IntEnum):
    """Why a parameter counts, or does not."""

    KNOWN = 0
    """In force."""
    ASSUMED = 1
    """Declared by the programme: nothing was measured."""
    ABSENT = 2
    """Never measured."""
    AGED = 3
    """Older than its validity (clinical.md 2.3)."""
    APART = 4
    """In force, but more than ``TOGETHER_NS`` older than the newest of respiration, saturation and pulse."""
    UNUSABLE = 5
    """The latest is no number, flagged as not for scoring, or ahead of the clock."""


class Refusal(IntEnum):
    """Why the score does not apply to a patient (clinical.md 2.3, exclusions)."""

    NONE = 0
    UNDER_16 = 1
    AGE_UNKNOWN = 2
    PREGNANT = 3


class AgeBand(IntEnum):
    """Age of a patient as far as scores need it."""

    UNKNOWN = 0
    UNDER_16 = 1
    ADULT = 2


class Pregnancy(IntEnum):
    """As recorded. Not recorded is scored, and the words say that it was not recorded."""

    UNKNOWN = 0
    NO = 1
    YES = 2


class Band(IntEnum):
    """Trigger bands of clinical.md 2.2, in order of urgency; ``NO_SCORE`` beside them.

    ``observe`` is the least frequency of observation. ``at_home`` is what a home programme does instead of the
    ``response`` of a ward; at 5 and more it is a call, never silence (design default).
    """

    risk: str
    observe: str
    response: str
    at_home: str

    def __new__(cls, value: int, risk: str = "", observe: str = "", response: str = "", at_home: str = "") -> "Band":
        member = int.__new__(cls, value)
        member._value_ = value
        member.risk, member.observe, member.response, member.at_home = risk, observe, response, at_home or response
        return member

    ZERO = 0, "low", "12-hourly", "routine monitoring"
    LOW = 1, "low", "4-6-hourly", "a registered nurse assesses and decides on frequency and escalation"
    LOW_MEDIUM = (2, "low-medium", "hourly", "urgent review by the medical team of the ward",
                  "urgent review by the medical team")  # fmt: skip
    MEDIUM = (3, "medium", "hourly", "urgent assessment by a clinician with acute-illness competence within 60 minutes",
              "phone contact within the hour")  # fmt: skip
    HIGH = (4, "high", "continuous", "emergency assessment by a team with critical-care competence within 30 minutes",
            "immediate contact and the local emergency pathway")  # fmt: skip


class Bands(NamedTuple):
    """A row of clinical.md 2.1: upper edges (inclusive, in units of 1/``scale``) and the points up to each, and after.

    A value is rounded half up to a whole number of these units before it is compared.
    """

    edges: tuple[int, ...]
    points: tuple[int, ...]
    scale: int = 1

    def rounded(self, values: Float64) -> Float64:
        """Values in whole units, half up (clinical.md 2.1). Worked: 38.05 with scale 10 is 381."""
        # A median of 34.3 and 34.4 is 34.349999999999994 in binary: a half counts as a half.
        return np.floor(values * self.scale + (0.5 + 1e-6))

    def of(self, values: Float64) -> Int8:
        """Points of each value: int8, same shape. NaN takes the last band: mask it."""
        edges = np.asarray(self.edges, dtype=np.float64)
        return np.asarray(self.points, dtype=np.int8)[np.searchsorted(edges, self.rounded(values))]


RESP_RATE: Final = Bands((8, 11, 20, 24), (3, 1, 0, 2, 3))
SPO2_SCALE_1: Final = Bands((91, 93, 95), (3, 2, 1, 0))
SPO2_SCALE_2_AIR: Final = Bands((83, 85, 87), (3, 2, 1, 0))
SPO2_SCALE_2_OXYGEN: Final = Bands((83, 85, 87, 92, 94, 96), (3, 2, 1, 0, 1, 2, 3))
BP_SYS: Final = Bands((90, 100, 110, 219), (3, 2, 1, 0, 3))
PULSE: Final = Bands((40, 50, 90, 110, 130), (3, 1, 0, 1, 2, 3))
TEMP: Final = Bands((350, 360, 380, 390), (3, 1, 0, 1, 2), scale=10)
OXYGEN_POINTS: Final = 2
NOT_ALERT_POINTS: Final = 3
MOST: Final = tuple(OXYGEN_POINTS if which is Parameter.OXYGEN else 3 for which in Parameter)
"""What each parameter adds at most: what a missing one adds to the upper end."""


def _trigger(total: int, red: bool) -> Band:
    if total >= 7:
        return Band.HIGH
    if total >= 5:
        return Band.MEDIUM
    if red:
        return Band.LOW_MEDIUM
    return Band.LOW if total else Band.ZERO


_BY_TOTAL: Final = np.array(
    [[_trigger(total, red) for red in (False, True)] for total in range(sum(MOST) + 1)], dtype=np.int8
)


def band_of(total: Int8, red: Bool) -> Int8:
    """The :class:`Band` of totals 0 to 20, given whether any parameter has 3 points: int8, same shape."""
    return _BY_TOTAL[total, red.astype(np.intp)]
