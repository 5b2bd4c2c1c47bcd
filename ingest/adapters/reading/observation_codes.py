"""Codes of observations that mean a vital of the catalogue beside the codes that the catalogue itself names.

The catalogue has the codes that are written; these are only read. Method and site of a code are kept in the reading's
context. LOINC and MDC codes are those that the references or a captured message show (clinical.md 1.1;
device-formats.md 4.2): others are told on the worklist of unknown codes, or mapped by a device's setting.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class AlsoNamed(NamedTuple):
    """The catalogue key that a code means, and what it says beside the value."""

    vital: str
    context: Mapping[str, str] = MappingProxyType({})


def _named(vital: str, **context: str) -> AlsoNamed:
    return AlsoNamed(vital, MappingProxyType(context))


LOINC_ALSO: Final[Mapping[str, AlsoNamed]] = MappingProxyType(
    {
        "55284-4": _named("bp"),
        "15074-8": _named("glucose"),
        "14749-6": _named("glucose_bg"),
        "32016-8": _named("glucose_bg", sample="capillary_whole_blood"),
        "8331-1": _named("temp", site="oral"),
        "8328-7": _named("temp", site="axilla"),
        "8332-9": _named("temp", site="rectal"),
        "8333-7": _named("temp", site="tympanic"),
        "3141-9": _named("weight"),
        "2710-2": _named("spo2"),
        "40443-4": _named("heart_rate", activity="at rest"),
    }
)
"""LOINC code -> what it means."""
MDC_ALSO: Final[Mapping[int, AlsoNamed]] = MappingProxyType(
    {
        150_301: _named("bp_sys"),
        150_303: _named("bp_mean"),
        160_020: _named("glucose"),
        160_192: _named("glucose_bg"),
        160_196: _named("glucose_bg"),
        160_200: _named("glucose_bg"),
        160_204: _named("glucose_bg"),
        160_208: _named("glucose"),
    }
)
"""32-bit MDC code -> what it means; samples are told by the code itself."""
SNOMED_ALSO: Final[Mapping[str, AlsoNamed]] = MappingProxyType(
    {
        "75367002": _named("bp"),
        "271649006": _named("bp_sys"),
        "271650006": _named("bp_dia"),
        "78564009": _named("pulse_rate"),
        "431314004": _named("spo2"),
        "386725007": _named("temp"),
        "363808001": _named("weight"),
        "27113001": _named("weight"),
        "365812005": _named("glucose"),
        "364075005": _named("heart_rate"),
        "8499008": _named("pulse_rate"),
        "86290005": _named("resp_rate"),
        "103228002": _named("spo2"),
        "434912009": _named("glucose_bg"),
        "434910001": _named("glucose_isf"),
        "6797001": _named("bp_mean"),
        "276885007": _named("temp", site="core"),
        "307047009": _named("temp", site="rectal"),
        "415882003": _named("temp", site="axilla"),
        "415945006": _named("temp", site="oral"),
        "415974002": _named("temp", site="tympanic"),
        "50373000": _named("height"),
        "60621009": _named("bmi"),
    }
)
"""SNOMED CT code -> what it means: the codes that Open mHealth schemas and public FHIR mapping templates give, and the
observable entities of the same vital signs. 364075005 is a heart rate of any source."""
BATTERY_MDC: Final = 67_996
"""Battery level in percent: an event of the device, no reading."""
