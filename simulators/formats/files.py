"""Readings in the pipeline's own JSON, and pieces of files that people export (CONTRACTS.md, device-formats.md 5.8)."""

import random
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from xml.sax.saxutils import quoteattr

from simulators import wire
from simulators.formats.model import OFFSETS_MIN, CarriedTime, Format, Sample, written
from simulators.formats.vendors import SENSOR_RANGE, export_time

_UNITS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "bp_sys": ("mm[Hg]", "kPa"), "bp_dia": ("mm[Hg]", "kPa"), "temp": ("Cel", "[degF]", "K"),
    "weight": ("kg", "g", "[lb_av]", "[stone_av]"), "resp_rate": ("/min", "{breaths}/min"),
    "heart_rate": ("/min", "bpm"), "spo2": ("%", "{fraction}"), "glucose_bg": ("mg/dL", "mmol/L"),
})  # fmt: skip
"""Units in which a generic device may write each vital (clinical.md 1.1)."""
_DECIMALS: Final = 6


def _json(sample: Sample, rng: random.Random) -> bytes:
    readings = []
    time = sample.instant()
    time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    for key, value in sample.values.items():
        unit = rng.choice(_UNITS[key])
        text = written(key, value, {"{breaths}/min": "/min", "bpm": "/min"}.get(unit, unit), _DECIMALS)
        readings.append(wire.JsonReading(key, float(text), unit, time, sample.seq))
    forms = (wire.JsonForm.ARRAY, wire.JsonForm.OBJECT) + ((wire.JsonForm.SINGLE,) if len(readings) == 1 else ())
    return wire.json_readings(readings, form=rng.choice(forms), epoch_ms=rng.random() < 0.5)


def _clarity(sample: Sample, rng: random.Random) -> bytes:
    low, high = SENSOR_RANGE
    value = sample.values["glucose_isf"]
    shown: int | str = "Low" if value < low else "High" if value > high else round(value)
    row = wire.clarity_row(sample.seq + 1, sample.wall(), shown)
    return wire.clarity_chunk([row], bom=rng.random() < 0.3)


_RECORDS: Final[Mapping[str, tuple[str, tuple[tuple[str, str, int], ...]]]] = MappingProxyType({
    # key: (type, units as (what is written, UCUM, decimals))
    "heart_rate": ("HeartRate", (("count/min", "/min", 0),)),
    "spo2": ("OxygenSaturation", (("%", "{fraction}", 3),)),
    "bp_sys": ("BloodPressureSystolic", (("mmHg", "mm[Hg]", 0),)),
    "bp_dia": ("BloodPressureDiastolic", (("mmHg", "mm[Hg]", 0),)),
    "weight": ("BodyMass", (("kg", "kg", 2), ("lb", "[lb_av]", 1))),
    "temp": ("BodyTemperature", (("degC", "Cel", 2), ("degF", "[degF]", 1))),
    "resp_rate": ("RespiratoryRate", (("count/min", "/min", 1),)),
    "glucose": ("BloodGlucose", (("mg/dL", "mg/dL", 0),)),
    "steps": ("StepCount", (("count", "{steps}", 0),)),
})  # fmt: skip


def _record(key: str, sample: Sample, rng: random.Random, offset_min: int, lasts_s: int) -> str:
    kind, units = _RECORDS[key]
    unit, ucum, decimals = rng.choice(units)
    end = export_time(sample.instant(), offset_min)
    members = {
        "type": f"HKQuantityTypeIdentifier{kind}",
        "sourceName": "Ada’s Watch",
        "sourceVersion": "10.3",
        "unit": unit,
        "creationDate": end,
        "startDate": export_time(sample.instant() - timedelta(seconds=lasts_s), offset_min),
        "endDate": end,
        "value": written(key, sample.values[key], ucum, decimals),
    }
    text = " ".join(f"{name}={quoteattr(value)}" for name, value in members.items())
    if key == "heart_rate" and rng.random() < 0.5:
        context = '<MetadataEntry key="HKMetadataKeyHeartRateMotionContext" value="1"/>'
        return f" <Record {text}>\n  {context}\n </Record>\n"
    return f" <Record {text}/>\n"


def _apple(sample: Sample, rng: random.Random, lasts_s: int = 0) -> bytes:
    """A fragment of ``export.xml``: all records of a sample have one start, which pairs the pressures."""
    offset_min = rng.choice(OFFSETS_MIN)
    keys = [key for key in _RECORDS if key in sample.values]
    records = "".join(_record(key, sample, rng, offset_min, lasts_s) for key in keys)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' if rng.random() < 0.5 else ""
    return f"{head}<HealthData>\n{records}</HealthData>\n".encode()


_STEPS_S: Final = 900


def _apple_steps(sample: Sample, rng: random.Random) -> bytes:
    return _apple(sample, rng, _STEPS_S)


_EXPORTED: Final = {
    "heart_rate": 0.5, "spo2": 0.05, "bp_sys": 0.5, "bp_dia": 0.5, "weight": 0.023, "temp": 0.03, "resp_rate": 0.05,
    "glucose": 0.5,
}  # fmt: skip

FILES: Final = (
    Format("json", "", "generic device", dict.fromkeys(_UNITS, 1e-3), _json, time_step_s=0.001),
    Format("clarity", "export", "sensor export", {"glucose_isf": 0.5}, _clarity, CarriedTime.WALL, period_s=300.0),
    Format("apple_health", "export", "phone export", _EXPORTED, _apple),
    Format("apple_health", "export", "phone export, steps", {"steps": 0.5}, _apple_steps, lasts_s=_STEPS_S),
)
