"""The MDC codes that are vital signs (ISO/IEEE 11073-10101), an allow-list: number, name, vital, method, site, source.

A code outside it is never a reading: settings, alarm limits, pressures of lungs or of a cuff's tube, temperatures of an
injected fluid or a humidifier. Such codes are counted in the worklist of unknown codes, where a person sees them.

Each code has the source that states it: a section of the reference, or the captured message of a golden case. A number
whose reference name no source states has an empty name; it is then recognised by its number alone.

A method that gives other numbers for the same person is a series of its own in the catalogue: an arterial line
(``bp_art_sys`` and others, ``pulse_rate_art``) and a ventilator that drives the breathing (``resp_rate_vent``). NEWS2
reads none of those. Impedance and CO2 measure the person's own breathing: they are ``resp_rate`` with ``method`` in the
context of the reading, and NEWS2 may use them, as it may use a temperature of any ``site``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from vitals.catalog import BY_KEY
from vitals.glossary import Flag

_CLINICAL: Final = "clinical.md 1.1"
_FORMATS: Final = "device-formats.md 6.3"
_PCD: Final = "interop.md 2.2"
_BEDSIDE: Final = "requirement: codes of bedside monitors"


class Metric(NamedTuple):
    """The vital that a code stands for, with what the code says beside it."""

    vital: int
    flags: int = 0
    context: Mapping[str, str] = MappingProxyType({})


class MdcCode(NamedTuple):
    """One row: ``name`` is empty where the sources give the number alone; ``source`` states the row."""

    number: int
    name: str
    metric: Metric
    source: str


def _row(number: int, name: str, key: str, source: str, flags: Flag = Flag(0), **context: str) -> MdcCode:
    metric = Metric(BY_KEY[key].code, int(flags), MappingProxyType(context))
    return MdcCode(number, name and f"MDC_{name}", metric, source)


CODES: Final = (
    _row(147842, "ECG_HEART_RATE", "heart_rate", _CLINICAL),
    _row(149522, "", "pulse_rate_art", _BEDSIDE, method="invasive"),
    _row(149530, "PULS_OXIM_PULS_RATE", "pulse_rate", _CLINICAL),
    _row(149538, "", "pulse_rate", "case philips_mdil"),
    _row(149546, "PULS_RATE_NON_INV", "pulse_rate_nibp", _CLINICAL),
    _row(150456, "PULS_OXIM_SAT_O2", "spo2", _CLINICAL),
    _row(150448, "PULS_OXIM_PERF_REL", "perf_index", _CLINICAL),
    _row(150488, "BLD_PERF_INDEX", "perf_index", _CLINICAL),
    _row(151552, "", "resp_rate", "case philips_mdil"),
    _row(151562, "RESP_RATE", "resp_rate", _CLINICAL),
    _row(151578, "TTHOR_RESP_RATE", "resp_rate", "case respiration_151578_151594", method="impedance"),
    _row(151586, "", "resp_rate_vent", _BEDSIDE, method="ventilator"),
    _row(151594, "CO2_RESP_RATE", "resp_rate", "case respiration_151578_151594", method="co2"),
    _row(151658, "", "resp_rate", _BEDSIDE),
    _row(150021, "PRESS_BLD_NONINV_SYS", "bp_sys", _CLINICAL),
    _row(150022, "PRESS_BLD_NONINV_DIA", "bp_dia", _CLINICAL),
    _row(150023, "PRESS_BLD_NONINV_MEAN", "bp_mean", _CLINICAL),
    _row(150301, "PRESS_CUFF_SYS", "bp_sys", _PCD),
    _row(150302, "PRESS_CUFF_DIA", "bp_dia", "case name_when_number_unknown"),
    _row(150303, "", "bp_mean", _FORMATS),
    _row(150033, "PRESS_BLD_ART_SYS", "bp_art_sys", "case charset_unicode", method="invasive"),
    _row(150034, "PRESS_BLD_ART_DIA", "bp_art_dia", "case charset_unicode", method="invasive"),
    _row(150035, "PRESS_BLD_ART_MEAN", "bp_art_mean", "case charset_unicode", method="invasive"),
    _row(150037, "", "bp_art_sys", "case philips_mdil", method="invasive"),
    _row(150038, "", "bp_art_dia", "case philips_mdil", method="invasive"),
    _row(150039, "", "bp_art_mean", "case philips_mdil", method="invasive"),
    _row(150344, "TEMP", "temp", "case temp_150344"),
    _row(150364, "TEMP_BODY", "temp", _CLINICAL),
    _row(150368, "", "temp", "case philips_mdil", site="core"),
    _row(150392, "TEMP_TYMP", "temp", _CLINICAL, site="tympanic"),
    _row(188424, "TEMP_ORAL", "temp", _CLINICAL, site="oral"),
    _row(188428, "TEMP_EAR", "temp", _CLINICAL, site="ear"),
    _row(188452, "TEMP_AXILLA", "temp", _CLINICAL, site="axilla"),
    _row(188496, "TEMP_AXIL", "temp", "case temp_150344", site="axilla"),
    _row(160020, "", "glucose", _FORMATS),
    _row(160184, "CONC_GLU_CAPILLARY_WHOLEBLOOD", "glucose_bg", _CLINICAL, sample="capillary_whole_blood"),
    _row(160188, "CONC_GLU_CAPILLARY_PLASMA", "glucose_bg", _CLINICAL, sample="capillary_plasma"),
    _row(160192, "", "glucose_bg", _FORMATS, sample="venous_whole_blood"),
    _row(160196, "", "glucose_bg", _FORMATS, sample="venous_plasma"),
    _row(160200, "", "glucose_bg", _FORMATS, sample="arterial_whole_blood"),
    _row(160204, "", "glucose_bg", _FORMATS, sample="arterial_plasma"),
    _row(160208, "", "glucose", _FORMATS, Flag.CONTROL_SOLUTION, sample="control_solution"),
    _row(160212, "CONC_GLU_ISF", "glucose_isf", _CLINICAL),
    _row(160364, "CONC_GLU_UNDETERMINED_WHOLEBLOOD", "glucose", _CLINICAL, sample="undetermined_whole_blood"),
    _row(160368, "CONC_GLU_UNDETERMINED_PLASMA", "glucose", _CLINICAL, sample="undetermined_plasma"),
    _row(188736, "MASS_BODY_ACTUAL", "weight", _CLINICAL),
    _row(188740, "LEN_BODY_ACTUAL", "height", _CLINICAL),
    _row(188748, "BODY_FAT", "body_fat", _CLINICAL),
    _row(188752, "RATIO_MASS_BODY_LEN_SQ", "bmi", _CLINICAL),
    _row(147240, "ECG_TIME_PD_RR_GL", "rr_interval", _CLINICAL),
    _row(184327, "ECG_STAT_RHY", "ecg_rhythm", _CLINICAL),
    _row(8454247, "HF_DISTANCE", "steps", _CLINICAL),
    _row(8455148, "HF_ACT_SLEEP", "sleep", _CLINICAL),
    _row(152584, "FLOW_AWAY_EXP_FORCED_PEAK", "pef", _CLINICAL),
    _row(152586, "VOL_AWAY_EXP_FORCED_1S", "fev1", _CLINICAL),
    _row(188928, "VOL_AWAY_EXP_FORCED_CAPACITY", "fvc", _CLINICAL),
    _row(188948, "RATIO_AWAY_EXP_FORCED_1S_FVC", "fev1_fvc", _CLINICAL),
)
"""Every MDC code that may become a reading."""
METRICS: Final[Mapping[int, Metric]] = MappingProxyType({code.number: code.metric for code in CODES})
_OTHERS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "MDC_PRESS_BLD_NONINV": 150020,
        "MDC_ECG_SINUS_RHY": 147474,
        "MDC_ECG_ATR_FIB": 147720,
        "MDC_ECG_TACHY": 147688,
        "MDC_ECG_SV_BRADY": 147984,
    }
)
NAMES: Final[Mapping[str, int]] = MappingProxyType(
    {code.name: code.number for code in CODES if code.name} | dict(_OTHERS)
)
"""Reference names to numbers: vitals, the panel of a cuff, and rhythms."""


class Agreement(NamedTuple):
    """``metric`` is what a number and a name mean together, None for no vital sign.

    ``contradicts`` is True when they are those of two things. Then there is no metric, and ``perhaps`` lists the vitals
    that the value may be one of; a setting or limit under the number of a vital sign is none of them.
    """

    metric: Metric | None
    contradicts: bool = False
    perhaps: tuple[int, ...] = ()


def agreed(number: int, name: str, *, is_other: bool = False) -> Agreement:
    """What a number and a reference name mean together. The number decides; a number that no row has, and that is not
    that of something else (``is_other``: a panel, a device, a unit), leaves the meaning to the name.

    Two codes of one vital agree, and say only what both say: ``150344^MDC_TEMP_AXIL`` is a temperature without a site.
    """
    by_number = METRICS.get(number)
    if is_setting(name):
        return Agreement(None, contradicts=by_number is not None)
    named = NAMES.get(name)
    by_name = METRICS.get(named) if named is not None else None
    if by_number is None:
        if is_other and by_name is not None:
            return Agreement(None, contradicts=True, perhaps=(by_name.vital,))
        return Agreement(by_name)
    if by_name is None:
        return (
            Agreement(None, contradicts=True, perhaps=(by_number.vital,)) if named is not None else Agreement(by_number)
        )
    if by_number.vital != by_name.vital or by_number.flags != by_name.flags:
        return Agreement(None, contradicts=True, perhaps=(by_number.vital, by_name.vital))
    both = {key: word for key, word in by_number.context.items() if by_name.context.get(key) == word}
    return Agreement(by_number._replace(context=MappingProxyType(both)))


def is_setting(name: str) -> bool:
    """Whether a reference name is that of a setting or an alarm limit: ``MDC_..._SETTING``, ``MDC_ATTR_AL_...``."""
    return name.startswith(("MDC_ATTR_", "MDC_LIM_")) or name.endswith(("_SETTING", "_LIMIT", "_LIM", "_SET"))
