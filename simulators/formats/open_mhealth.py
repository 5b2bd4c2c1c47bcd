"""Open mHealth and IEEE 1752.1 data points, each schema in each version (device-formats.md 3)."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from simulators.formats.model import OFFSETS_MIN, Format, Sample, identifier, instant_text, number

Body = Callable[[Sample, random.Random, str], dict[str, Any]]
"""Members of a body beside its time: (sample, rng, version)."""


def _measure(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit}


def _picked(key: str, sample: Sample, rng: random.Random, units: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """A value in one of ``units``: spelling -> (UCUM, decimals)."""
    spelling = rng.choice(sorted(units))
    ucum, decimals = units[spelling]
    return _measure(number(key, sample.values[key], ucum, decimals), spelling)


def _glucose(sample: Sample, rng: random.Random, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "blood_glucose": _picked("glucose_bg", sample, rng, {"mg/dL": ("mg/dL", 0), "mmol/L": ("mmol/L", 1)})
    }
    if version == "1.0":
        body["blood_specimen_type"] = "whole blood"
    else:
        body["specimen_source"] = "capillary blood"
    if rng.random() < 0.5:
        body["temporal_relationship_to_meal"] = rng.choice(("fasting", "before breakfast", "after meal"))
    if rng.random() < 0.5:
        body["temporal_relationship_to_sleep"] = rng.choice(("on waking", "before sleeping"))
    return body


def _heart_rate(sample: Sample, rng: random.Random, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {"heart_rate": _measure(number("heart_rate", sample.values["heart_rate"], "/min", 0),
                                                   "beats/min")}  # fmt: skip
    if rng.random() < 0.5:
        body["temporal_relationship_to_physical_activity"] = rng.choice(("at rest", "active"))
    if version != "1.0" and rng.random() < 0.5:
        body["temporal_relationship_to_sleep"] = "during sleep"
    return body


def _saturation(sample: Sample, rng: random.Random, _version: str) -> dict[str, Any]:
    body: dict[str, Any] = {"oxygen_saturation": _measure(number("spo2", sample.values["spo2"], "%", 1), "%")}
    if "o2_flow" in sample.values:
        body["supplemental_oxygen_flow_rate"] = _measure(
            number("o2_flow", sample.values["o2_flow"], "L/min", 1), "L/min"
        )
        body["oxygen_therapy_mode_of_administration"] = "nasal cannula"
    if rng.random() < 0.5:
        body |= {"system": "peripheral capillary", "measurement_method": "pulse oximetry"}
    return body


def _pressure(sample: Sample, rng: random.Random, version: str) -> dict[str, Any]:
    parts = (("systolic_blood_pressure", "bp_sys"), ("diastolic_blood_pressure", "bp_dia"))
    body: dict[str, Any] = {name: _measure(number(key, sample.values[key], "mm[Hg]", 0), "mmHg") for name, key in parts}
    if rng.random() < 0.5:
        member = "position_during_measurement" if version == "1.0" else "body_posture"
        body[member] = rng.choice(("sitting", "lying down", "standing"))
    return body


def _temperature(sample: Sample, rng: random.Random, version: str) -> dict[str, Any]:
    units = {"C": ("Cel", 1), "F": ("[degF]", 1), "K": ("K", 2)}
    body: dict[str, Any] = {"body_temperature": _picked("temp", sample, rng, units)}
    if rng.random() < 0.5:
        sites = ("oral", "axillary", "otic") if version == "1.0" else ("oral", "axillary", "tympanic")
        body["measurement_location"] = rng.choice(sites)
    return body


def _respiration(sample: Sample, _rng: random.Random, _version: str) -> dict[str, Any]:
    return {"respiratory_rate": _measure(number("resp_rate", sample.values["resp_rate"], "/min", 1), "breaths/min")}


def _weight(sample: Sample, rng: random.Random, _version: str) -> dict[str, Any]:
    units = {"kg": ("kg", 2), "g": ("g", 0), "lb": ("[lb_av]", 1)}
    return {"body_weight": _picked("weight", sample, rng, units)}


def _steps(sample: Sample, _rng: random.Random, version: str) -> dict[str, Any]:
    count = round(sample.values["steps"])
    return {"step_count": _measure(count, "steps") if version == "3.0" else count}


def _beat(sample: Sample, _rng: random.Random, _version: str) -> dict[str, Any]:
    return {"rr_interval": _measure(number("rr_interval", sample.values["rr_interval"], "ms", 0), "ms")}


def _sleep(sample: Sample, rng: random.Random, _version: str) -> dict[str, Any]:
    return {"sleep_duration": _picked("sleep", sample, rng, {"h": ("h", 2), "min": ("min", 0)})}


_SCHEMAS: Final[dict[str, tuple[tuple[str, ...], dict[str, float], Body, int]]] = {
    # schema: (versions, resolution, body, seconds that it covers)
    "blood-glucose": (("1.0", "2.0", "3.0", "4.0"), {"glucose_bg": 0.91}, _glucose, 0),
    "heart-rate": (("1.0", "1.1", "2.0"), {"heart_rate": 0.5}, _heart_rate, 0),
    "oxygen-saturation": (("1.0", "2.0"), {"spo2": 0.05, "o2_flow": 0.05}, _saturation, 0),
    "blood-pressure": (("1.0", "2.0", "3.0", "3.1", "4.0"), {"bp_sys": 0.5, "bp_dia": 0.5}, _pressure, 0),
    "body-temperature": (("1.0", "2.0", "3.0", "4.0"), {"temp": 0.05}, _temperature, 0),
    "respiratory-rate": (("1.0", "2.0"), {"resp_rate": 0.05}, _respiration, 0),
    "body-weight": (("1.0", "2.0", "3.0"), {"weight": 0.023}, _weight, 0),
    "step-count": (("1.0", "2.0", "3.0"), {"steps": 0.5}, _steps, 900),
    "rr-interval": (("1.0",), {"rr_interval": 0.5}, _beat, 0),
    "sleep-duration": (("1.0", "2.0"), {"sleep": 0.0084}, _sleep, 8 * 3600),
}


def _frame(sample: Sample, rng: random.Random, lasts_s: int) -> dict[str, Any]:
    """An effective time frame: a point, or an interval by its start and end, or one of them and its length."""
    offset = rng.choice((*OFFSETS_MIN, None))
    end = instant_text(sample.instant(), offset)
    if not lasts_s:
        return {"date_time": end}
    start = instant_text(sample.instant() - timedelta(seconds=lasts_s), offset)
    length = _measure(lasts_s // 60, "min")
    return {
        "time_interval": rng.choice(
            (
                {"start_date_time": start, "end_date_time": end},
                {"start_date_time": start, "duration": length},
                {"end_date_time": end, "duration": length},
            )
        )
    }


def _header(sample: Sample, rng: random.Random, schema: str, version: str) -> dict[str, Any]:
    """A header in one of the two dialects of 3.1."""
    identity, made = identifier(sample, schema), instant_text(sample.instant() + timedelta(seconds=5), 0)
    if rng.random() < 0.5:
        return {
            "id": identity,
            "creation_date_time": made,
            "schema_id": {"namespace": "omh", "name": schema, "version": version},
            "acquisition_provenance": {"source_name": "home-hub", "modality": "sensed"},
            "user_id": "patient-17",
        }
    return {
        "uuid": identity,
        "source_creation_date_time": made,
        "schema_id": {"namespace": "omh", "name": schema, "version": version},
        "modality": "sensed",
    }


def _encoder(schema: str, version: str, body: Body, lasts_s: int) -> Callable[[Sample, random.Random], bytes]:
    def encode(sample: Sample, rng: random.Random) -> bytes:
        members = body(sample, rng, version) | {"effective_time_frame": _frame(sample, rng, lasts_s)}
        document = {"header": _header(sample, rng, schema, version), "body": members}
        return json.dumps(document, separators=(",", ":")).encode()

    return encode


OPEN_MHEALTH: Final = tuple(
    Format(
        "omh", f"{schema}-{version}", f"{schema.replace('-', ' ')} {version}", resolution,
        _encoder(schema, version, body, lasts_s), lasts_s=lasts_s,
    )
    for schema, (versions, resolution, body, lasts_s) in _SCHEMAS.items()
    for version in versions
)  # fmt: skip
"""The kind names schema and version, and so does each header."""
