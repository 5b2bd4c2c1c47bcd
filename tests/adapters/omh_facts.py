"""What device-formats.md 3 says of Open mHealth schemas, for tests: written apart from the adapter's own tables."""

import json
from typing import Any

from ingest.adapter import Columns, Context
from tests.adapters.decoding import ADAPTERS, message
from vitals.catalog import BY_CODE
from vitals.glossary import Statistic
from vitals.units import UNIT_BY_CODE, to_canonical

VERSIONS = {
    "blood-glucose": ("1.0", "2.0", "3.0", "4.0"), "heart-rate": ("1.0", "1.1", "2.0"),
    "oxygen-saturation": ("1.0", "2.0"), "blood-pressure": ("1.0", "2.0", "3.0", "3.1", "4.0"),
    "body-temperature": ("1.0", "2.0", "3.0", "4.0"), "respiratory-rate": ("1.0", "2.0"),
    "body-weight": ("1.0", "2.0", "3.0"), "step-count": ("1.0", "2.0", "3.0"), "rr-interval": ("1.0",),
    "sleep-duration": ("1.0", "2.0"),
}  # fmt: skip
UNITS: dict[str, dict[str, float]] = {
    "blood-glucose": {"mg/dL": 1, "mmol/L": 18.0182}, "heart-rate": {"beats/min": 1}, "oxygen-saturation": {"%": 1},
    "blood-pressure": {"mmHg": 1}, "respiratory-rate": {"breaths/min": 1}, "step-count": {"steps": 1},
    "rr-interval": {"ms": 1},
    "body-weight": {
        "fg": 1e-18, "pg": 1e-15, "ng": 1e-12, "ug": 1e-9, "mg": 1e-6, "g": 1e-3, "kg": 1, "Metric Ton": 1e3,
        "gr": 64.79891e-6, "oz": 28.349523125e-3, "lb": 0.45359237, "Ton": 907.18474,
    },
    "sleep-duration": {
        "ps": 1e-12 / 3600, "ns": 1e-9 / 3600, "us": 1e-6 / 3600, "ms": 1e-3 / 3600, "sec": 1 / 3600, "min": 1 / 60,
        "h": 1, "d": 24, "wk": 168,
    },
}  # fmt: skip
"""Schema -> unit as spelled -> factor to the vital's canonical unit; temperatures have no factor."""
MEMBERS = {
    "blood-glucose": ("blood_glucose",), "heart-rate": ("heart_rate",), "oxygen-saturation": ("oxygen_saturation",),
    "blood-pressure": ("systolic_blood_pressure", "diastolic_blood_pressure"),
    "body-temperature": ("body_temperature",), "respiratory-rate": ("respiratory_rate",),
    "body-weight": ("body_weight",), "step-count": ("step_count",), "rr-interval": ("rr_interval",),
    "sleep-duration": ("sleep_duration",),
}  # fmt: skip
VITALS = {
    "blood_glucose": "glucose_bg", "heart_rate": "heart_rate", "oxygen_saturation": "spo2",
    "systolic_blood_pressure": "bp_sys", "diastolic_blood_pressure": "bp_dia", "body_temperature": "temp",
    "respiratory_rate": "resp_rate", "body_weight": "weight", "step_count": "steps", "rr_interval": "rr_interval",
    "sleep_duration": "sleep",
}  # fmt: skip
STATISTICS = {
    "average": Statistic.MEAN, "minimum": Statistic.MINIMUM, "maximum": Statistic.MAXIMUM, "sum": Statistic.SUM,
    "median": Statistic.MEDIAN, "count": Statistic.COUNT, "standard deviation": Statistic.STANDARD_DEVIATION,
    "variance": Statistic.VARIANCE, "quartile deviation": Statistic.QUARTILE_DEVIATION,
    **dict.fromkeys(
        ("20th percentile", "80th percentile", "lower quartile", "upper quartile", "1st quintile", "2nd quintile",
         "3rd quintile", "4th quintile"), Statistic.QUANTILE,
    ),
}  # fmt: skip


def good(document: Any, kind: str, **configured: str) -> Columns:
    """The readings of a message with nothing wrong in it."""
    payload = json.dumps(document).encode()
    decoded = ADAPTERS["omh"].decode([message("omh", payload, kind)], [Context(settings=configured)])
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == []
    return decoded.batch


def canonical(batch: Columns, row: int = 0) -> float:
    """A reading's value in its vital's canonical unit."""
    unit, vital = UNIT_BY_CODE[int(batch.unit[row])], BY_CODE[int(batch.vital[row])]
    return float(to_canonical(batch.value[row], unit.ucum, vital.unit))
