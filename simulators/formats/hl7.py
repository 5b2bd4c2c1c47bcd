"""HL7 v2.6 ORU^R01 in the PCD-01 profile: a device's metrics under its channel (device-formats.md 6.3, 6.4)."""

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from simulators.formats.model import OFFSETS_MIN, Format, Sample, signed_offset, written
from vitals.times import SECOND_NS

DEVICE: Final = "0024BEFFFE804FF1"
_PROFILE: Final = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
_UNITS: Final[Mapping[str, str]] = MappingProxyType({
    # UCUM: the MDC triple of 6.3
    "%": "262688^MDC_DIM_PERCENT^MDC",
    "/min": "264864^MDC_DIM_BEAT_PER_MIN^MDC",
    "mm[Hg]": "266016^MDC_DIM_MMHG^MDC",
    "kPa": "265987^MDC_DIM_KILO_PASCAL^MDC",
    "Cel": "268192^MDC_DIM_DEGC^MDC",
    "mg/dL": "264274^MDC_DIM_MILLI_G_PER_DL^MDC",
    "mmol/L": "266866^MDC_DIM_MILLI_MOLE_PER_L^MDC",
    "kg": "263875^MDC_DIM_KILO_G^MDC",
    "[lb_av]": "263904^MDC_DIM_LB^MDC",
})  # fmt: skip


class _Metric(NamedTuple):
    """Code and name of OBX-3, the units in which it may be sent (UCUM, decimals), and its place in OBX-4."""

    code: str
    units: tuple[tuple[str, int], ...]
    path: str


class _Product(NamedTuple):
    """A device: its profile row, the row of its group if it has one, and its metrics by catalogue key."""

    profile: str
    group: str
    metrics: Mapping[str, _Metric]


_PRESSURE: Final = (("mm[Hg]", 0), ("kPa", 1))
_CUFF: Final = _Product("528391^MDC_DEV_SPEC_PROFILE_BP^MDC", "150020^MDC_PRESS_BLD_NONINV^MDC", {
    "bp_sys": _Metric("150021^MDC_PRESS_BLD_NONINV_SYS^MDC", _PRESSURE, "1.0.1.1"),
    "bp_dia": _Metric("150022^MDC_PRESS_BLD_NONINV_DIA^MDC", _PRESSURE, "1.0.1.2"),
    "bp_mean": _Metric("150023^MDC_PRESS_BLD_NONINV_MEAN^MDC", _PRESSURE, "1.0.1.3"),
    "pulse_rate_nibp": _Metric("149546^MDC_PULS_RATE_NON_INV^MDC", (("/min", 0),), "1.0.0.1"),
})  # fmt: skip
_OXIMETER: Final = _Product("528388^MDC_DEV_SPEC_PROFILE_PULS_OXIM^MDC", "", {
    "spo2": _Metric("150456^MDC_PULS_OXIM_SAT_O2^MDC", (("%", 1),), "1.0.1.1"),
    "pulse_rate": _Metric("149530^MDC_PULS_OXIM_PULS_RATE^MDC", (("/min", 0),), "1.0.1.2"),
})  # fmt: skip
_THERMOMETER: Final = _Product("528392^MDC_DEV_SPEC_PROFILE_TEMP^MDC", "", {
    "temp": _Metric("150364^MDC_TEMP_BODY^MDC", (("Cel", 1),), "1.0.1.1"),
})  # fmt: skip
_SCALE: Final = _Product("528399^MDC_DEV_SPEC_PROFILE_SCALE^MDC", "", {
    "weight": _Metric("188736^MDC_MASS_BODY_ACTUAL^MDC", (("kg", 2), ("[lb_av]", 1)), "1.0.1.1"),
})  # fmt: skip
_METER: Final = _Product("528401^MDC_DEV_SPEC_PROFILE_GLUCOSE^MDC", "", {
    "glucose_bg": _Metric("160184^MDC_CONC_GLU_CAPILLARY_WHOLEBLOOD^MDC", (("mg/dL", 0), ("mmol/L", 1)), "1.0.1.1"),
})  # fmt: skip


def timestamp(sample: Sample, offset_min: int, late_s: int = 0) -> str:
    """``YYYYMMDDHHMMSS±ZZZZ`` of a sample, or of what happened ``late_s`` after it."""
    shown = sample.instant() + timedelta(minutes=offset_min, seconds=late_s)
    return f"{shown:%Y%m%d%H%M%S}{signed_offset(offset_min)}"


def segment(name: str, fields: Mapping[int, str]) -> str:
    """A segment of numbered fields, absent ones empty, nothing after the last."""
    return "|".join([name, *(fields.get(place, "") for place in range(1, max(fields) + 1))])


def _obx(product: _Product, sample: Sample, rng: random.Random, offset_min: int) -> list[str]:
    """The device's row, its group's, and one per metric; a metric without a value has status X."""
    time = timestamp(sample, offset_min)
    equipment = f"{DEVICE}^^{DEVICE}^EUI-64"
    rows = [segment("OBX", {1: "1", 3: product.profile, 4: "1.0.0.0", 11: "X", 18: equipment})]
    if product.group:
        rows.append(segment("OBX", {1: "2", 3: product.group, 4: "1.0.1", 11: "X", 14: time}))
    own_time = bool(rng.random() < 0.7)
    for key, metric in product.metrics.items():
        ucum, decimals = rng.choice(metric.units)
        fields = {1: str(len(rows) + 1), 3: metric.code, 4: metric.path, 11: "X"}
        if key in sample.values:
            unit = f"{_UNITS[ucum]}^{ucum}^{ucum}^UCUM" if rng.random() < 0.3 else _UNITS[ucum]
            value = written(key, sample.values[key], ucum, decimals)
            fields |= {2: "NM", 5: value, 6: unit, 11: rng.choice("RF")}
        rows.append(segment("OBX", fields | ({14: time} if own_time else {})))
    return rows


def _message(product: _Product) -> Callable[[Sample, random.Random], bytes]:
    def encode(sample: Sample, rng: random.Random) -> bytes:
        offset_min = rng.choice(OFFSETS_MIN)
        control = f"HUB17-{sample.time_ns // SECOND_NS:x}-{sample.seq:06}"
        head = {
            2: f"HUB17^{DEVICE}^EUI-64", 4: "RPM", 6: timestamp(sample, offset_min, rng.randint(0, 90)),
            8: "ORU^R01^ORU_R01", 9: control, 10: "P", 11: "2.6", 14: "NE", 15: "AL", 20: _PROFILE,
        }  # fmt: skip
        order = {
            1: "1", 2: f"{control}^HUB17", 3: f"{control}^HUB17", 4: "182777000^monitoring of patient^SCT",
            7: timestamp(sample, offset_min),
        }  # fmt: skip
        segments = [
            segment("MSH", {1: "^~\\&", **head}),
            segment("PID", {1: "1", 3: "PT-0017^^^HOSP^MR", 5: "Doe^Jane"}),
            segment("OBR", order),
            *_obx(product, sample, rng, offset_min),
        ]
        end = rng.choice(("\r", "\r", "\r\n", "\n"))
        data = "".join(line + end for line in segments).encode("ascii")
        return b"\x0b" + data + b"\x1c\r" if rng.random() < 0.3 else data

    return encode


def _format(title: str, product: _Product, resolution: Mapping[str, float]) -> Format:
    return Format("hl7v2", "oru_r01", title, resolution, _message(product))


HL7: Final = (
    _format("cuff", _CUFF, {"bp_sys": 0.51, "bp_dia": 0.51, "bp_mean": 0.51, "pulse_rate_nibp": 0.5}),
    _format("oximeter", _OXIMETER, {"spo2": 0.05, "pulse_rate": 0.5}),
    _format("thermometer", _THERMOMETER, {"temp": 0.05}),
    _format("scale", _SCALE, {"weight": 0.023}),
    _format("glucose meter", _METER, {"glucose_bg": 0.91}),
)
"""A message of each device of 6.3, with or without its MLLP frame."""
