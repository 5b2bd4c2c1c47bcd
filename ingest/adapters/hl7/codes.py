"""What OBX-3, OBX-6, OBX-8 and OBX-11 mean: MDC numbers, names and LOINC codes to vitals and units.

Sources: device-formats.md 6.3 and 6.4, clinical.md 1.1, interop.md 2.2. A code is its 32-bit number, its 16-bit term,
``partition::term`` or its reference name; the first triple or the alternate may carry it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapters.reading.observation_codes import LOINC_ALSO
from ingest.adapters.reading.units import MDC_UNIT_NAMES, unit_of
from vitals.catalog import BY_KEY, VITALS
from vitals.glossary import Flag


class Metric(NamedTuple):
    """The vital that a code stands for, with what the code says beside it."""

    vital: int
    flags: int = 0
    context: Mapping[str, str] = MappingProxyType({})


def _metric(key: str, flags: Flag = Flag(0), **context: str) -> Metric:
    return Metric(BY_KEY[key].code, int(flags), MappingProxyType(context))


_RHYTHM: Final = BY_KEY["ecg_rhythm"]
METRICS: Final[Mapping[int, Metric]] = MappingProxyType(
    {
        **{vital.mdc: Metric(vital.code) for vital in VITALS if vital.mdc is not None and not vital.panel},
        **{number: _metric("temp", site=site) for site, number in BY_KEY["temp"].other_codes.items()},
        150301: _metric("bp_sys"),
        150302: _metric("bp_dia"),
        150303: _metric("bp_mean"),
        150488: _metric("perf_index"),
        160020: _metric("glucose"),
        160184: _metric("glucose_bg", sample="capillary_whole_blood"),
        160188: _metric("glucose_bg", sample="capillary_plasma"),
        160192: _metric("glucose_bg", sample="venous_whole_blood"),
        160196: _metric("glucose_bg", sample="venous_plasma"),
        160200: _metric("glucose_bg", sample="arterial_whole_blood"),
        160204: _metric("glucose_bg", sample="arterial_plasma"),
        160208: _metric("glucose", Flag.CONTROL_SOLUTION, sample="control_solution"),
        160364: _metric("glucose", sample="undetermined_whole_blood"),
        160368: _metric("glucose", sample="undetermined_plasma"),
    }
)
PANELS: Final = frozenset({vital.mdc for vital in VITALS if vital.panel and vital.mdc is not None})
LOINC: Final[Mapping[str, Metric]] = MappingProxyType(
    # A code that several vitals share means the first, the plain one: 8867-4 is a heart rate.
    {
        code: Metric(BY_KEY[also.vital].code, 0, also.context)
        for code, also in LOINC_ALSO.items()
        if not BY_KEY[also.vital].panel
    }
    | {code: Metric(vital.code) for vital in reversed(VITALS) for code in vital.loinc if not vital.panel}
)
PANEL_LOINC: Final = frozenset({code for vital in VITALS if vital.panel for code in vital.loinc})

DISTANCE: Final = 8454247
"""Steps when it is in steps; any other distance is no vital (clinical.md 1.1)."""
ABSOLUTE_TIME: Final = 67975
"""The device's clock, beside the hub's in OBX-14."""
MODALITY: Final = 68193
NO_TIME_SYNC: Final = 532224
_NAMES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "MDC_ECG_HEART_RATE": 147842,
        "MDC_PULS_OXIM_PULS_RATE": 149530,
        "MDC_PULS_RATE_NON_INV": 149546,
        "MDC_PULS_OXIM_SAT_O2": 150456,
        "MDC_RESP_RATE": 151562,
        "MDC_PRESS_BLD_NONINV": 150020,
        "MDC_PRESS_BLD_NONINV_SYS": 150021,
        "MDC_PRESS_BLD_NONINV_DIA": 150022,
        "MDC_PRESS_BLD_NONINV_MEAN": 150023,
        "MDC_PRESS_CUFF_SYS": 150301,
        "MDC_PRESS_CUFF_DIA": 150302,
        "MDC_PRESS_CUFF_MEAN": 150303,
        "MDC_TEMP_BODY": 150364,
        "MDC_TEMP_ORAL": 188424,
        "MDC_TEMP_EAR": 188428,
        "MDC_TEMP_AXILLA": 188452,
        "MDC_TEMP_TYMP": 150392,
        "MDC_CONC_GLU_CAPILLARY_WHOLEBLOOD": 160184,
        "MDC_CONC_GLU_CAPILLARY_PLASMA": 160188,
        "MDC_CONC_GLU_ISF": 160212,
        "MDC_CONC_GLU_UNDETERMINED_WHOLEBLOOD": 160364,
        "MDC_CONC_GLU_UNDETERMINED_PLASMA": 160368,
        "MDC_MASS_BODY_ACTUAL": 188736,
        "MDC_LEN_BODY_ACTUAL": 188740,
        "MDC_RATIO_MASS_BODY_LEN_SQ": 188752,
        "MDC_BODY_FAT": 188748,
        "MDC_PULS_OXIM_PERF_REL": 150448,
        "MDC_BLD_PERF_INDEX": 150488,
        "MDC_ECG_TIME_PD_RR_GL": 147240,
        "MDC_HF_DISTANCE": 8454247,
        "MDC_HF_ACT_SLEEP": 8455148,
        "MDC_FLOW_AWAY_EXP_FORCED_PEAK": 152584,
        "MDC_VOL_AWAY_EXP_FORCED_1S": 152586,
        "MDC_VOL_AWAY_EXP_FORCED_CAPACITY": 188928,
        "MDC_RATIO_AWAY_EXP_FORCED_1S_FVC": 188948,
        "MDC_ECG_STAT_RHY": 184327,
        "MDC_ECG_SINUS_RHY": 147474,
        "MDC_ECG_ATR_FIB": 147720,
        "MDC_ECG_TACHY": 147688,
        "MDC_ECG_SV_BRADY": 147984,
    }
)
"""Reference names of clinical.md 1.1 and interop.md 2.2 to numbers."""
PROFILES: Final[Mapping[int, str]] = MappingProxyType(
    {
        528388: "oximeter",
        528391: "blood_pressure",
        528392: "thermometer",
        528397: "respiration",
        528399: "weight_scale",
        528401: "glucose_meter",
        528404: "body_composition",
        528409: "cgm",
    }
)
MODALITIES: Final[Mapping[int, str]] = MappingProxyType({150580: "fast", 150584: "slow", 150588: "spot"})
STATUS_CODES: Final = frozenset({150604, 8417752, 8418060, *range(68164, 68168), *range(68481, 68486)})
"""Status words of devices, and the facets of alerts (interop.md 2.3)."""
ALERT_WORDS: Final = frozenset(
    {
        "tpoint",
        "start",
        "continue",
        "end",
        "update",
        "escalate",
        "de-escalate",
        "reset",
        "inactive",
        "active",
        "latched",
        "enabled",
        "audio-paused",
        "audio-off",
        "alarm-paused",
        "alarm-off",
        "alert-acknowledged",
        "PN",
        "PL",
        "PM",
        "PH",
        "SP",
        "ST",
        "SA",
    }
)
_PARTITIONED: Final = re.compile(r"(\d{1,3})::(\d{1,5})", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,10}", re.ASCII)
_LOINC_FORM: Final = re.compile(r"\d{1,7}-\d", re.ASCII)
_TERMS: Final[Mapping[int, int]] = MappingProxyType(
    {number & 0xFFFF: number for number in (*PROFILES, *METRICS, *PANELS)}
)
_UNIT_PARTITION: Final = 4 << 16


class Coded(NamedTuple):
    """A coded field: its MDC number or LOINC code, what it measures, and whether it names a panel."""

    number: int | None
    loinc: str
    metric: Metric | None
    panel: bool = False

    def __str__(self) -> str:
        return f"mdc:{self.number}" if self.number is not None else f"loinc:{self.loinc}"


def mdc_number(code: str, name: str = "") -> int | None:
    """The 32-bit number of a code in any of its forms, None when it is in none.

    Worked: ``150021``, ``2::18949`` and ``18949`` are 150021, and so is the name ``MDC_PRESS_BLD_NONINV_SYS``.
    """
    if found := _PARTITIONED.fullmatch(code):
        return int(found[1]) << 16 | int(found[2]) & 0xFFFF
    if _NUMBER.fullmatch(code):
        number = int(code)
        return number if number > 0xFFFF else _TERMS.get(number, number)
    return _NAMES.get(code) or _NAMES.get(name)


def _triples(parts: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    padded = [*parts, "", "", "", "", "", ""]
    yield padded[0], padded[1], padded[2]
    if any(parts[3:6]):
        yield padded[3], padded[4], padded[5]


@lru_cache(maxsize=4096)
def observation(parts: tuple[str, ...]) -> Coded | None:
    """What the components of OBX-3 name: the first triple that is a vital, else the first whose code is MDC or LOINC;
    None when there is none."""
    named: Coded | None = None
    for code, name, system in _triples(parts):
        found: Coded | None = None
        if _LOINC_FORM.fullmatch(code):
            found = Coded(None, code, LOINC.get(code), code in PANEL_LOINC)
        elif (number := mdc_number(code, name)) is not None:
            # A bare number that the tables do not know may be anything, a record number too.
            is_mdc = system == "MDC" or name.startswith("MDC_") or code.startswith("MDC_")
            if is_mdc or (not system and number in METRICS):
                found = Coded(number, "", METRICS.get(number), number in PANELS)
        if found is not None and found.metric is not None:
            return found
        named = named or found
    return named


@lru_cache(maxsize=4096)
def unit(vital: int, parts: tuple[str, ...]) -> int | None:
    """The unit that the components of OBX-6 name, None when none of them measures ``vital``."""
    for code, name, _system in _triples(parts):
        number = mdc_number(code)
        term = "" if number is None else str(number if number > 0xFFFF else _UNIT_PARTITION | number)
        for spelling in (term, code, MDC_UNIT_NAMES.get(name, "")):
            found = unit_of(vital, spelling)
            if found is not None:
                return found
    return None


def rhythm(number: int) -> str:
    """The catalogue's word for an MDC rhythm code, empty for another."""
    return next((word for word, code in _RHYTHM.other_codes.items() if code == number), "")
