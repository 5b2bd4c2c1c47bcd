"""A NEWS2 score in a nurse's words: its value, the response it asks for, and the reason of each parameter."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from alerts.scores.news2 import News2
from alerts.scores.tables import (
    BP_SYS,
    CONFUSED,
    PULSE,
    RESP_RATE,
    SCALE_2,
    SPO2_SCALE_1,
    TEMP,
    TOGETHER_NS,
    Band,
    Bands,
    Parameter,
    Pregnancy,
    Refusal,
    Validity,
)
from vitals.catalog import BY_CODE
from vitals.times import HOUR_NS, MINUTE_NS, NO_TIME

_NAMES: Final[Mapping[Parameter, str]] = MappingProxyType({
    Parameter.RESP_RATE: "respiratory rate", Parameter.SPO2: "oxygen saturation", Parameter.OXYGEN: "air or oxygen",
    Parameter.BP_SYS: "systolic blood pressure", Parameter.PULSE: "pulse", Parameter.ACVPU: "consciousness",
    Parameter.TEMP: "temperature",
})  # fmt: skip
_SHOWN: Final[Mapping[Parameter, tuple[Bands, str]]] = MappingProxyType({
    Parameter.RESP_RATE: (RESP_RATE, "per minute"), Parameter.SPO2: (SPO2_SCALE_1, "%"),
    Parameter.BP_SYS: (BP_SYS, "mmHg"), Parameter.PULSE: (PULSE, "per minute"), Parameter.TEMP: (TEMP, "°C"),
})  # fmt: skip
_RESPONSIVENESS: Final[Mapping[str, str]] = MappingProxyType(
    {"A": "alert", "C": "newly confused", "V": "responds to voice", "P": "responds to pain", "U": "unresponsive"}
)
_REFUSALS: Final[Mapping[Refusal, str]] = MappingProxyType({
    Refusal.UNDER_16: "the patient is under 16", Refusal.AGE_UNKNOWN: "the age band is not recorded",
    Refusal.PREGNANT: "the patient is pregnant",
})  # fmt: skip
_SEVERAL_H: Final = 48


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One parameter. ``vital`` is the catalogue key that was read, "" where none was; ``value`` in its canonical unit.

    ``value`` and ``time_ns`` are None where there is none; a value beyond the sensor's range is -inf or inf. ``low``
    and ``high`` are ``NO_SCORE`` where the score does not apply.
    """

    parameter: Parameter
    vital: str
    value: float | None
    time_ns: int | None
    low: int
    high: int
    validity: Validity
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """``text`` is the whole in one sentence, ``parts`` are the seven parameters in order."""

    text: str
    parts: tuple[ScorePart, ...]


def explain(scores: News2, row: int, *, floor: bool = False) -> Explanation:
    """The score of patient ``row`` in words; with ``floor`` also where it is hidden: for an alert that it raised.

    Worked: ``NEWS2 17 to 20, high risk: immediate contact and the local emergency pathway; 3 points alone: respiratory
    rate, oxygen saturation, systolic blood pressure, pulse and consciousness; still to measure: temperature``.
    """
    parts = tuple(_part(scores, which, row) for which in Parameter)
    return Explanation(_headline(scores, row, parts, floor), parts)


def _headline(scores: News2, row: int, parts: Sequence[ScorePart], floor: bool) -> str:
    refusal = Refusal(scores.refusal[row])
    if refusal is not Refusal.NONE:
        return f"NEWS2 does not apply: {_REFUSALS[refusal]}"
    if scores.hidden[row] and not floor:
        never = scores.validity[:, row] == Validity.ABSENT
        lacking = [which for which in scores.programme.unmeasured() if never[which]]
        return f"NEWS2 is not shown: the programme does not measure {_listed(lacking)}"
    missing = [part.parameter for part in parts if scores.missing[part.parameter, row]]
    low, high = Band(scores.band_low[row]), Band(scores.band_high[row])
    risk = low.risk if low.risk == high.risk else f"{low.risk} to {high.risk}"
    said = [f"NEWS2 {_span(scores.low[row], scores.high[row])}, {risk} risk: {low.at_home}"]
    for label, which in (
        ("3 points alone", [part.parameter for part in parts if part.low == 3]),
        ("still to measure", missing),
        ("assumed", [part.parameter for part in parts if part.validity is Validity.ASSUMED]),
    ):
        if which:
            said.append(f"{label}: {_listed(which)}")
    if scores.context.pregnancy[row] == Pregnancy.UNKNOWN:
        said.append("whether pregnant is not recorded")
    return "; ".join(said)


def _part(scores: News2, which: Parameter, row: int) -> ScorePart:
    code, time_ns = int(scores.vital[which, row]), int(scores.time_ns[which, row])
    value, validity = float(scores.value[which, row]), Validity(scores.validity[which, row])
    low, high = int(scores.points_low[which, row]), int(scores.points_high[which, row])
    text = _stated(scores, which, row)
    if scores.refusal[row] == Refusal.NONE:
        text += f": {_span(low, high)} {'point' if low == high == 1 else 'points'}"
    return ScorePart(which, BY_CODE[code].key if code else "", None if math.isnan(value) else value,
                None if time_ns == NO_TIME else time_ns, low, high, validity, text)  # fmt: skip


def _stated(scores: News2, which: Parameter, row: int) -> str:
    """What is known of a parameter, how old it is, and why it does not count where it does not."""
    validity = Validity(scores.validity[which, row])
    if validity is Validity.ASSUMED:
        declared = "Breathing air" if which is Parameter.OXYGEN else f"{_name(which)} alert"
        return f"{declared}, assumed by the programme"
    if validity is Validity.ABSENT:
        return f"{_name(which)} not measured"
    age_ns = max(int(scores.now_ns[row]) - int(scores.time_ns[which, row]), 0)
    if validity is Validity.UNUSABLE:
        return f"{_name(which)}: the latest value, {_ago(age_ns)}, cannot be scored"
    vital = BY_CODE[int(scores.vital[which, row])]
    said = f"{_measured(scores, which, row)}, {_ago(age_ns)}"
    if validity is Validity.AGED:
        return f"{said}, counts for {_duration(vital.staleness_ns(scores.programme.mode(vital.key)))}"
    if validity is Validity.APART:
        return f"{said}, more than {_duration(TOGETHER_NS)} before the newest of its set"
    return f"{said}, doubtful" if scores.doubted[which, row] else said


def _measured(scores: News2, which: Parameter, row: int) -> str:
    value, vital = float(scores.value[which, row]), BY_CODE[int(scores.vital[which, row])]
    if which is Parameter.ACVPU:
        usual = value == CONFUSED and scores.context.usual_confusion[row]
        return f"{_name(which)} {'confused as usual' if usual else _RESPONSIVENESS[vital.values[int(value)]]}"
    name = vital.name if which in (Parameter.PULSE, Parameter.OXYGEN) else _name(which)
    if math.isinf(value):
        shown = f"{'below' if value < 0 else 'above'} the sensor's range"
    elif which is Parameter.OXYGEN:
        shown = f"{value:g} {vital.unit}"
    else:
        bands, unit = _SHOWN[which]
        shown = f"{bands.rounded(scores.value[which, row : row + 1]).item() / bands.scale:g} {unit}"
    scale_2 = which is Parameter.SPO2 and scores.context.spo2_scale[row] == SCALE_2
    return f"{name} {shown}{' (scale 2, target 88-92 %)' if scale_2 else ''}"


def _name(which: Parameter) -> str:
    return _NAMES[which].capitalize()


def _listed(which: Sequence[Parameter]) -> str:
    *first, last = (_NAMES[item] for item in which)
    return f"{', '.join(first)} and {last}" if first else last


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _duration(span_ns: int) -> str:
    """Worked: ``5 min``, ``12 h``, ``3 h 20 min``, ``3 days``."""
    hours, minutes = divmod(span_ns // MINUTE_NS, HOUR_NS // MINUTE_NS)
    if hours >= _SEVERAL_H:
        return f"{hours // 24} days"
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count) or "0 min"


def _ago(age_ns: int) -> str:
    return f"{_duration(age_ns)} ago" if age_ns >= MINUTE_NS else "now"
