"""VITALS: one row per vital sign. Codes, units and ranges live here and nowhere else.

Sources: clinical.md 1.1 (codes, units), 1.3 (implausible and suspect ranges, paging age), 2.3 (staleness). Ranges,
staleness, paging ages and silence windows are design defaults; an organisation approves them before use. ``code`` is
append-only: it is written to logs and stores.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vitals.glossary import Mode
from vitals.times import HOUR_NS, MINUTE_NS
from vitals.units import UNIT_BY_NAME, convertible

INF = float("inf")


@dataclass(frozen=True, slots=True)
class Vital:
    """One vital sign.

    ``mdc`` is the 32-bit ISO/IEEE 11073-10101 code, None if it has no code. ``implausible`` and ``suspect`` are
    inclusive ranges in the canonical unit: a value outside the first is flagged IMPLAUSIBLE, outside the second
    SUSPECT. ``staleness_ns`` and ``paging_age_ns`` are by mode. ``values`` lists the codes of an enumeration.
    ``derived`` streams are computed here and accepted from no device. ``urgent`` are the red limits of one sample, low
    and high, in the words of clinical.md 1.3 (``<=40``, ``>180``; empty: none); see :func:`is_urgent`.
    """

    code: int
    key: str
    name: str
    loinc: tuple[str, ...]
    mdc: int | None
    unit: str
    accepts: tuple[str, ...] = ()
    implausible: tuple[float, float] = (-INF, INF)
    suspect: tuple[float, float] = (-INF, INF)
    mode: Mode = Mode.SPOT
    staleness_spot_h: float = 12.0
    staleness_continuous_min: float = 5.0
    paging_age_spot_h: float = 2.0
    paging_age_continuous_min: float = 5.0
    silence_spot_h: float = 48.0
    silence_continuous_min: float = 60.0
    values: tuple[str, ...] = ()
    derived: bool = False
    sensor_range: tuple[float, float] | None = None
    panel: tuple[str, ...] = ()
    urgent: tuple[str, str] = ("", "")
    other_codes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def staleness_ns(self, mode: Mode) -> int:
        """How long a value may be shown and scored as current."""
        if mode is Mode.SPOT:
            return int(self.staleness_spot_h * HOUR_NS)
        return int(self.staleness_continuous_min * MINUTE_NS)

    def paging_age_ns(self, mode: Mode) -> int:
        """How old a value may be when it arrives and still page as current (clinical.md 1.3)."""
        if mode is Mode.SPOT:
            return int(self.paging_age_spot_h * HOUR_NS)
        return int(self.paging_age_continuous_min * MINUTE_NS)

    def paged_ns(self, *, polled: bool) -> int:
        """The paging age in the usual mode. A continuous vital from a ``polled`` source pages until it is stale."""
        if polled and self.mode is Mode.CONTINUOUS:
            return self.staleness_ns(self.mode)
        return self.paging_age_ns(self.mode)

    def silence_ns(self, mode: Mode) -> int:
        """Time without a reading after which silence is an alert (design default).

        Never shorter than staleness: while a value is shown as current, its source is not silent.
        """
        window = self.silence_spot_h * HOUR_NS if mode is Mode.SPOT else self.silence_continuous_min * MINUTE_NS
        return max(int(window), self.staleness_ns(mode))


_PER_MIN = ("{beats}/min", "{beat}/min", "bpm", "/s")
_PULSE = ("<=40", ">=131")
_PRESSURE = ("kPa",)
_GLUCOSE = ("mmol/L", "kg/L", "mol/L")

VITALS: tuple[Vital, ...] = (
    Vital(1, "heart_rate", "Heart rate", ("8867-4",), 147842, "/min", _PER_MIN, (0, 300), (30, 220),
          urgent=_PULSE),
    Vital(2, "pulse_rate", "Pulse rate (oximeter)", ("8889-8", "8867-4"), 149530, "/min", _PER_MIN, (20, 300),
          (30, 220), urgent=_PULSE),
    Vital(3, "pulse_rate_nibp", "Pulse rate (cuff)", ("8867-4",), 149546, "/min", _PER_MIN, (20, 300), (30, 220),
          urgent=_PULSE),
    Vital(4, "spo2", "Oxygen saturation", ("59408-5", "2708-6"), 150456, "%", ("{fraction}",), (50, 100), (70, 100),
          urgent=("<=91", "")),
    Vital(5, "resp_rate", "Respiratory rate", ("9279-1",), 151562, "/min", ("{breaths}/min", "/s"), (0, 80), (4, 60),
          urgent=("<=8", ">=25")),
    Vital(6, "bp", "Blood pressure panel", ("85354-9",), 150020, "mm[Hg]", panel=("bp_sys", "bp_dia", "bp_mean")),
    Vital(7, "bp_sys", "Systolic blood pressure", ("8480-6",), 150021, "mm[Hg]", _PRESSURE, (40, 300), (60, 260),
          staleness_continuous_min=60.0, urgent=("<=90", ">180")),
    Vital(8, "bp_dia", "Diastolic blood pressure", ("8462-4",), 150022, "mm[Hg]", _PRESSURE, (20, 200), (30, 160),
          staleness_continuous_min=60.0, urgent=("", ">120")),
    Vital(9, "bp_mean", "Mean arterial pressure", ("8478-0",), 150023, "mm[Hg]", _PRESSURE, (25, 250), (40, 200),
          staleness_continuous_min=60.0, urgent=("<65", "")),
    Vital(10, "bp_avg", "Average blood pressure panel", ("96607-7",), None, "mm[Hg]",
          panel=("bp_avg_sys", "bp_avg_dia")),
    Vital(11, "bp_avg_sys", "Average systolic blood pressure", ("96608-5",), None, "mm[Hg]", _PRESSURE, (40, 300),
          (60, 260), staleness_spot_h=168.0),
    Vital(12, "bp_avg_dia", "Average diastolic blood pressure", ("96609-3",), None, "mm[Hg]", _PRESSURE, (20, 200),
          (30, 160), staleness_spot_h=168.0),
    Vital(13, "temp", "Body temperature", ("8310-5",), 150364, "Cel", ("[degF]", "K"), (25, 45), (32, 42.5),
          staleness_continuous_min=240.0, urgent=("<=35.0", ">=39.1"),
          other_codes=MappingProxyType({"oral": 188424, "ear": 188428, "axilla": 188452, "tympanic": 150392})),
    Vital(14, "glucose_bg", "Capillary blood glucose", ("41653-7", "2345-7", "14743-9"), 160184, "mg/dL", _GLUCOSE,
          (10, 1500), (20, 800), urgent=("<54", ">400"), other_codes=MappingProxyType({"capillary_plasma": 160188})),
    Vital(15, "glucose_isf", "Interstitial glucose (CGM)", ("99504-3", "105272-9"), 160212, "mg/dL", _GLUCOSE,
          (20, 600), (40, 400), mode=Mode.CONTINUOUS, staleness_continuous_min=15.0, sensor_range=(40, 400),
          urgent=("<54", "")),
    Vital(16, "glucose", "Glucose, sample type unknown", ("2339-0",), 160364, "mg/dL", _GLUCOSE, (10, 1500),
          (20, 800), urgent=("<54", ">400"), other_codes=MappingProxyType({"undetermined_plasma": 160368})),
    Vital(17, "weight", "Body weight", ("29463-7",), 188736, "kg", ("g", "[lb_av]", "[stone_av]"), (20, 500),
          staleness_spot_h=48.0, paging_age_spot_h=24.0),
    Vital(18, "height", "Body height", ("8302-2",), 188740, "cm", ("m", "[in_i]", "[ft_i]"), (30, 260),
          staleness_spot_h=8760.0),
    Vital(19, "bmi", "Body mass index", ("39156-5",), 188752, "kg/m2", (), (8, 100), (12, 70),
          staleness_spot_h=48.0, paging_age_spot_h=24.0),
    Vital(20, "body_fat", "Body fat", ("41982-0",), 188748, "%", ("{fraction}",), (0, 100), staleness_spot_h=48.0),
    Vital(21, "perf_index", "Perfusion index", ("61006-3",), 150448, "%", (), (0, 30), (0.02, 20),
          other_codes=MappingProxyType({"bedside": 150488})),
    Vital(22, "rr_interval", "R-R interval", ("8637-1",), 147240, "ms", ("s",), (200, 3000), (300, 2000),
          mode=Mode.CONTINUOUS),
    Vital(23, "hrv_sdnn", "Heart rate variability (SDNN)", ("80404-7",), None, "ms", (), (0, 500), (1, 300)),
    Vital(24, "steps", "Step count", ("55423-8", "41950-7"), 8454247, "{steps}", ("1",), (0, 100_000), (0, 60_000),
          staleness_spot_h=36.0),
    Vital(25, "sleep", "Sleep duration", ("93832-4",), 8455148, "h", ("min", "s"), (0, 24), (0, 20),
          staleness_spot_h=36.0),
    Vital(26, "acvpu", "Level of responsiveness", ("67775-7",), None, "{code}",
          values=("A", "C", "V", "P", "U"), staleness_continuous_min=240.0),
    Vital(27, "o2_flow", "Inhaled oxygen flow", ("3151-8",), None, "L/min", (), (0, 60), (0, 15),
          staleness_spot_h=24.0, staleness_continuous_min=60.0),
    Vital(28, "fio2", "Inhaled oxygen concentration", ("3150-0",), None, "%", ("{fraction}",), (15, 100),
          staleness_spot_h=24.0, staleness_continuous_min=60.0),
    Vital(29, "pef", "Peak expiratory flow", ("33452-4",), 152584, "L/min", ("L/s",), (30, 900), (60, 800)),
    Vital(30, "fev1", "Forced expiratory volume in 1 s", ("20150-9",), 152586, "L", ("mL",), (0.2, 8), (0.3, 7)),
    Vital(31, "fvc", "Forced vital capacity", ("19868-9",), 188928, "L", ("mL",)),
    Vital(32, "fev1_fvc", "FEV1/FVC", ("19926-5",), 188948, "%", ("{fraction}",), (0, 100)),
    Vital(33, "ecg_rhythm", "ECG rhythm", ("8884-9",), 184327, "{code}",
          values=("sinus", "af", "tachy", "sv_brady"),
          other_codes=MappingProxyType({"sinus": 147474, "af": 147720, "tachy": 147688, "sv_brady": 147984})),
    Vital(34, "news2", "NEWS2 score", (), None, "{score}", (), (0, 20), derived=True),
    Vital(35, "news2_min", "NEWS2 score, at least", (), None, "{score}", (), (0, 20), derived=True),
    Vital(36, "news2_max", "NEWS2 score, at most", (), None, "{score}", (), (0, 20), derived=True),
    Vital(37, "news2_red", "NEWS2 parameters with 3 points", (), None, "{score}", (), (0, 7), derived=True),
    Vital(38, "symptoms", "Symptoms reported", (), None, "{code}", values=("none", "present", "alarming"),
          staleness_spot_h=24.0),
    Vital(39, "pain", "Pain (0 to 10)", (), None, "{score}", (), (0, 10)),
    Vital(40, "rescue_inhaler", "Rescue inhaler uses a day", (), None, "{uses}/d", (), (0, 100), (0, 30),
          staleness_spot_h=36.0, paging_age_spot_h=24.0),
    Vital(41, "bp_art_sys", "Systolic pressure (arterial line)", (), None, "mm[Hg]", _PRESSURE, (40, 300), (60, 260),
          urgent=("<=90", ">180")),
    Vital(42, "bp_art_dia", "Diastolic pressure (arterial line)", (), None, "mm[Hg]", _PRESSURE, (20, 200), (30, 160),
          urgent=("", ">120")),
    Vital(43, "bp_art_mean", "Mean pressure (arterial line)", (), None, "mm[Hg]", _PRESSURE, (25, 250), (40, 200),
          urgent=("<65", "")),
    Vital(44, "pulse_rate_art", "Pulse rate (arterial line)", (), None, "/min", _PER_MIN, (20, 300), (30, 220),
          urgent=_PULSE),
    Vital(45, "resp_rate_vent", "Respiratory rate (ventilator)", (), None, "/min", ("{breaths}/min",), (2, 80),
          (4, 60), urgent=("<=8", ">=25")),
)  # fmt: skip
"""Every row of clinical.md 1.1. ``bp`` and ``bp_avg`` are panels: they carry no value of their own. From 34 on: scores
that are computed (clinical.md 2.3), what programmes ask people for (clinical.md 4), and from 41 on what monitors
measure by another method: no early-warning score reads those."""

BY_KEY: Mapping[str, Vital] = MappingProxyType({vital.key: vital for vital in VITALS})
BY_CODE: Mapping[int, Vital] = MappingProxyType({vital.code: vital for vital in VITALS})
CODE_SPACE = max(BY_CODE) + 1
"""Size of a lookup table indexed by vital code."""


def table(default: float, values: Mapping[int, float]) -> npt.NDArray[np.float64]:
    """A float64 lookup table over vital codes, for vectorised range checks."""
    out = np.full(CODE_SPACE, default, dtype=np.float64)
    for code, value in values.items():
        out[code] = value
    return out


def _bound(words: str) -> float:
    """The last value that is urgent: ``<=40`` is 40, ``<54`` the greatest number under 54."""
    found = re.fullmatch(r"([<>])(=?)(\d+(?:\.\d+)?)", words)
    assert found is not None, words
    limit = float(found[3])
    return limit if found[2] else math.nextafter(limit, -INF if found[1] == "<" else INF)


_URGENT_LOW = table(-INF, {one.code: _bound(one.urgent[0]) for one in VITALS if one.urgent[0]})
_URGENT_HIGH = table(INF, {one.code: _bound(one.urgent[1]) for one in VITALS if one.urgent[1]})


def is_urgent(vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether canonical values are beyond the red limits of their vital; NaN is not."""
    low, high = _URGENT_LOW[vital], _URGENT_HIGH[vital]
    return ((value <= low) & (low > -INF)) | ((value >= high) & (high < INF))


def accepts(vital: Vital, unit: str) -> bool:
    """Whether ``unit`` (UCUM or a known synonym) measures ``vital``; panels and derived streams accept nothing."""
    known = UNIT_BY_NAME.get(unit)
    if known is None or vital.panel or vital.derived:
        return False
    names = {vital.unit} | {UNIT_BY_NAME[name].ucum for name in vital.accepts if name in UNIT_BY_NAME}
    return known.ucum in names and convertible(known.ucum, vital.unit)
