"""The MDC codes that are vital signs (ISO/IEEE 11073-10101), an allow-list: number, name, vital, method, site.

A code outside it is never a reading: settings, alarm limits, pressures of lungs or of a cuff's tube, temperatures of an
injected fluid or a humidifier. Such codes are counted in the worklist of unknown codes, where a person sees them.

A method that gives other numbers for the same person is a series of its own in the catalogue: an arterial line
(``bp_art_sys`` and others, ``pulse_rate_art``), a ventilator that drives the breathing (``resp_rate_vent``), the skin
(``temp_skin``). NEWS2 reads none of those. Other methods and sites stand in the context of the reading, and NEWS2 may
use it. Sources: clinical.md 1.1, device-formats.md 6.3; bedside codes as monitors send them in PCD-01.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from vitals.catalog import BY_KEY
from vitals.glossary import Flag


class Metric(NamedTuple):
    """The vital that a code stands for, with what the code says beside it."""

    vital: int
    flags: int = 0
    context: Mapping[str, str] = MappingProxyType({})


class Code(NamedTuple):
    """One row: ``name`` is empty where the sources give the number alone."""

    number: int
    name: str
    metric: Metric


def _row(number: int, name: str, key: str, flags: Flag = Flag(0), **context: str) -> Code:
    return Code(number, name and f"MDC_{name}", Metric(BY_KEY[key].code, int(flags), MappingProxyType(context)))


CODES: Final = (
    _row(147842, "ECG_HEART_RATE", "heart_rate"),
    _row(149514, "PULS_RATE", "pulse_rate"),
    _row(149522, "BLD_PULS_RATE_INV", "pulse_rate_art", method="invasive"),
    _row(149530, "PULS_OXIM_PULS_RATE", "pulse_rate"),
    _row(149538, "PLETH_PULS_RATE", "pulse_rate"),
    _row(149546, "PULS_RATE_NON_INV", "pulse_rate_nibp"),
    _row(150456, "PULS_OXIM_SAT_O2", "spo2"),
    _row(150448, "PULS_OXIM_PERF_REL", "perf_index"),
    _row(150488, "BLD_PERF_INDEX", "perf_index"),
    # The base code of respiration, as an export of Philips monitors uses it for the rate.
    _row(151552, "", "resp_rate"),
    _row(151562, "RESP_RATE", "resp_rate"),
    _row(151570, "AWAY_RESP_RATE", "resp_rate", method="airway"),
    _row(151578, "TTHOR_RESP_RATE", "resp_rate", method="impedance"),
    _row(151586, "VENT_RESP_RATE", "resp_rate_vent", method="ventilator"),
    _row(151594, "CO2_RESP_RATE", "resp_rate", method="co2"),
    _row(151658, "", "resp_rate"),
    _row(150021, "PRESS_BLD_NONINV_SYS", "bp_sys"),
    _row(150022, "PRESS_BLD_NONINV_DIA", "bp_dia"),
    _row(150023, "PRESS_BLD_NONINV_MEAN", "bp_mean"),
    _row(150301, "PRESS_CUFF_SYS", "bp_sys"),
    _row(150302, "PRESS_CUFF_DIA", "bp_dia"),
    _row(150303, "PRESS_CUFF_MEAN", "bp_mean"),
    _row(150033, "PRESS_BLD_ART_SYS", "bp_art_sys", method="invasive"),
    _row(150034, "PRESS_BLD_ART_DIA", "bp_art_dia", method="invasive"),
    _row(150035, "PRESS_BLD_ART_MEAN", "bp_art_mean", method="invasive"),
    _row(150037, "PRESS_BLD_ART_ABP_SYS", "bp_art_sys", method="invasive"),
    _row(150038, "PRESS_BLD_ART_ABP_DIA", "bp_art_dia", method="invasive"),
    _row(150039, "PRESS_BLD_ART_ABP_MEAN", "bp_art_mean", method="invasive"),
    _row(150344, "TEMP", "temp"),
    _row(150364, "TEMP_BODY", "temp"),
    _row(150352, "TEMP_ART", "temp", site="artery"),
    _row(150368, "TEMP_CORE", "temp", site="core"),
    _row(150372, "TEMP_ESOPH", "temp", site="oesophagus"),
    _row(150380, "TEMP_NASOPH", "temp", site="nasopharynx"),
    _row(150388, "TEMP_SKIN", "temp_skin", site="skin"),
    _row(150392, "TEMP_TYMP", "temp", site="tympanic"),
    _row(188420, "TEMP_RECT", "temp", site="rectum"),
    _row(188424, "TEMP_ORAL", "temp", site="oral"),
    _row(188428, "TEMP_EAR", "temp", site="ear"),
    _row(188432, "TEMP_FINGER", "temp_skin", site="finger"),
    _row(188448, "TEMP_TOE", "temp_skin", site="toe"),
    _row(188452, "TEMP_AXILLA", "temp", site="axilla"),
    _row(188496, "TEMP_AXIL", "temp", site="axilla"),
    _row(160020, "", "glucose"),
    _row(160184, "CONC_GLU_CAPILLARY_WHOLEBLOOD", "glucose_bg", sample="capillary_whole_blood"),
    _row(160188, "CONC_GLU_CAPILLARY_PLASMA", "glucose_bg", sample="capillary_plasma"),
    _row(160192, "", "glucose_bg", sample="venous_whole_blood"),
    _row(160196, "", "glucose_bg", sample="venous_plasma"),
    _row(160200, "", "glucose_bg", sample="arterial_whole_blood"),
    _row(160204, "", "glucose_bg", sample="arterial_plasma"),
    _row(160208, "", "glucose", Flag.CONTROL_SOLUTION, sample="control_solution"),
    _row(160212, "CONC_GLU_ISF", "glucose_isf"),
    _row(160364, "CONC_GLU_UNDETERMINED_WHOLEBLOOD", "glucose", sample="undetermined_whole_blood"),
    _row(160368, "CONC_GLU_UNDETERMINED_PLASMA", "glucose", sample="undetermined_plasma"),
    _row(188736, "MASS_BODY_ACTUAL", "weight"),
    _row(188740, "LEN_BODY_ACTUAL", "height"),
    _row(188748, "BODY_FAT", "body_fat"),
    _row(188752, "RATIO_MASS_BODY_LEN_SQ", "bmi"),
    _row(147240, "ECG_TIME_PD_RR_GL", "rr_interval"),
    _row(184327, "ECG_STAT_RHY", "ecg_rhythm"),
    _row(8454247, "HF_DISTANCE", "steps"),
    _row(8455148, "HF_ACT_SLEEP", "sleep"),
    _row(152584, "FLOW_AWAY_EXP_FORCED_PEAK", "pef"),
    _row(152586, "VOL_AWAY_EXP_FORCED_1S", "fev1"),
    _row(188928, "VOL_AWAY_EXP_FORCED_CAPACITY", "fvc"),
    _row(188948, "RATIO_AWAY_EXP_FORCED_1S_FVC", "fev1_fvc"),
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


def agreed(number: int, name: str) -> tuple[Metric | None, bool]:
    """What a number and a reference name mean together, and whether they contradict each other: then it is the name's.

    A number that no row has leaves the meaning to the name. Two codes of one vital agree, and say only what both say:
    ``150344^MDC_TEMP_AXIL`` is a temperature without a site. A setting or limit is no vital, whatever its number.
    """
    by_number = METRICS.get(number)
    if is_setting(name):
        return None, False
    named = NAMES.get(name)
    by_name = METRICS.get(named) if named is not None else None
    if by_number is None or by_name is None:
        return by_number or by_name, by_number is not None and named is not None
    if by_number.vital != by_name.vital or by_number.flags != by_name.flags:
        return by_name, True
    both = {key: word for key, word in by_number.context.items() if by_name.context.get(key) == word}
    return by_number._replace(context=MappingProxyType(both)), False


def is_setting(name: str) -> bool:
    """Whether a reference name is that of a setting or an alarm limit: ``MDC_..._SETTING``, ``MDC_ATTR_AL_...``."""
    return name.startswith(("MDC_ATTR_", "MDC_LIM_")) or name.endswith(("_SETTING", "_LIMIT", "_LIM", "_SET"))
