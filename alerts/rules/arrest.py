"""Values that are no physiology unless the heart or the breathing stands still: the sensor is off, or it is an arrest.

The lines are design defaults: the low ends of the plausible ranges (clinical.md 1.3), for ECG heart rate and
respiratory rate those that the reference gives although the catalogue takes 0 for a measurement.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PULSES: Final = ("heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art")
"""Vital signs that count heartbeats."""
ARREST_BELOW: Final[Mapping[str, float]] = MappingProxyType({
    "spo2": 50.0, **dict.fromkeys(PULSES, 20.0), **dict.fromkeys(("resp_rate", "resp_rate_vent"), 2.0),
    **dict.fromkeys(("bp_sys", "bp_art_sys"), 40.0),
})  # fmt: skip
"""Vital sign -> the lowest value that is physiology, canonical."""
EXTREME_OF: Final = 3
"""Of five readings of a continuous signal so many must be extreme: one artefact pages nobody."""
EXTREME_NS: Final = 30_000_000_000
"""A continuous signal that is extreme for so long pages, however rarely it is measured."""


def arrest_line(vital: str) -> float:
    """The highest value of ``vital`` (catalogue key) that is no physiology; minus infinity where there is none."""
    return math.nextafter(ARREST_BELOW[vital], -math.inf) if vital in ARREST_BELOW else -math.inf
