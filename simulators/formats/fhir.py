"""FHIR R4 Observations of a hub, alone and in a Bundle (device-formats.md 4)."""

import json
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from simulators.formats.model import OFFSETS_MIN, Format, Sample, identifier, instant_text, number

LOINC: Final = "http://loinc.org"
MDC: Final = "urn:iso:std:iso:11073:10101"
UCUM: Final = "http://unitsofmeasure.org"
DEVICE: Final = "0024BEFFFE804FF1"
_CATEGORY: Final = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]
}
_PANEL: Final = ("85354-9", "150020")


class _Measurement(NamedTuple):
    """Codes of 4.2, and the units in which it may be written: (UCUM, what stands beside it, decimals)."""

    loinc: str
    mdc: str
    units: tuple[tuple[str, str, int], ...]
    also: str = ""


_PRESSURE: Final = (("mm[Hg]", "mmHg", 0),)
_MEASURED: Final[Mapping[str, _Measurement]] = MappingProxyType({
    "heart_rate": _Measurement("8867-4", "147842", (("/min", "beats/min", 0),)),
    "spo2": _Measurement("59408-5", "150456", (("%", "%", 1),), also="2708-6"),
    "resp_rate": _Measurement("9279-1", "", (("/min", "breaths/min", 1),)),
    "temp": _Measurement("8310-5", "150364", (("Cel", "°C", 1), ("[degF]", "°F", 1))),
    "weight": _Measurement("29463-7", "188736", (("kg", "kg", 2), ("g", "g", 0), ("[lb_av]", "lb", 1))),
    "glucose_bg": _Measurement("41653-7", "160184", (("mg/dL", "mg/dL", 0), ("mmol/L", "mmol/L", 1))),
    "bp_sys": _Measurement("8480-6", "150021", _PRESSURE),
    "bp_dia": _Measurement("8462-4", "150022", _PRESSURE),
    "bp_mean": _Measurement("8478-0", "150023", _PRESSURE),
})  # fmt: skip
_PARTS: Final = ("bp_sys", "bp_dia", "bp_mean")
_STEPS: Final[Mapping[str, float]] = MappingProxyType({
    "heart_rate": 0.5, "spo2": 0.05, "resp_rate": 0.05, "temp": 0.05, "weight": 0.023, "glucose_bg": 0.91,
    "bp_sys": 0.5, "bp_dia": 0.5, "bp_mean": 0.5,
})  # fmt: skip


def _code(loinc: str, mdc: str, also: str, rng: random.Random) -> dict[str, Any]:
    """Any coding that a reader may know stands anywhere among the others."""
    codings = [{"system": LOINC, "code": loinc}]
    codings += [{"system": LOINC, "code": also}] if also else []
    codings += [{"system": MDC, "code": mdc}] if mdc and rng.random() < 0.7 else []
    codings += [{"system": "urn:example:house-codes", "code": "V1"}] if rng.random() < 0.3 else []
    rng.shuffle(codings)
    return {"coding": codings}


def _quantity(key: str, sample: Sample, rng: random.Random) -> dict[str, Any]:
    ucum, shown, decimals = rng.choice(_MEASURED[key].units)
    quantity = {"value": number(key, sample.values[key], ucum, decimals), "unit": shown}
    return quantity | {"system": UCUM, "code": ucum}


def _part(key: str, sample: Sample, rng: random.Random) -> dict[str, Any]:
    """A component; without a value the reason why."""
    measured = _MEASURED[key]
    part: dict[str, Any] = {"code": _code(measured.loinc, measured.mdc, measured.also, rng)}
    if key in sample.values:
        return part | {"valueQuantity": _quantity(key, sample, rng)}
    reason = {"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-a-number"}
    return part | {"dataAbsentReason": {"coding": [reason]}}


def _observation(key: str, sample: Sample, rng: random.Random) -> dict[str, Any]:
    """An Observation of ``key``, ``bp`` for the panel; its identifier names what was measured, and when."""
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": rng.choice(("final", "final", "amended", "preliminary")),
        "identifier": [{"value": f"{DEVICE}-PT-0017-{key}-{identifier(sample, key)}"}],
        "category": [_CATEGORY],
        "subject": {"reference": "Patient/PT-0017"},
        "effectiveDateTime": instant_text(sample.instant(), rng.choice(OFFSETS_MIN), digits=3),
        "device": {"reference": f"Device/{DEVICE}"},
    }
    if rng.random() < 0.5:
        resource["issued"] = instant_text(sample.instant(), 0, digits=3)
    if key == "bp":
        return resource | {
            "code": _code(*_PANEL, "", rng),
            "component": [_part(part, sample, rng) for part in _PARTS],
        }
    measured = _MEASURED[key]
    code = _code(measured.loinc, measured.mdc, measured.also, rng)
    return resource | {"code": code, "valueQuantity": _quantity(key, sample, rng)}


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _one(key: str) -> Callable[[Sample, random.Random], bytes]:
    return lambda sample, rng: _bytes(_observation(key, sample, rng))


def _bundle(sample: Sample, rng: random.Random) -> bytes:
    """One entry per Observation, each with its conditional create (4.4)."""
    keys = [key for key in _MEASURED if key in sample.values and key not in _PARTS]
    keys += ["bp"] if {"bp_sys", "bp_dia"} & sample.values.keys() else []
    entries = []
    for key in keys:
        resource = _observation(key, sample, rng)
        name = resource["identifier"][0]["value"]
        request = {"method": "POST", "url": "Observation", "ifNoneExist": f"identifier={name}"}
        entries.append({"resource": resource, "request": request})
    return _bytes({"resourceType": "Bundle", "type": rng.choice(("transaction", "batch")), "entry": entries})


def _step(*keys: str) -> dict[str, float]:
    return {key: _STEPS[key] for key in keys}


FHIR: Final = (
    Format("fhir", "observation", "blood pressure panel", _step(*_PARTS), _one("bp"), time_step_s=0.001),
    *(
        Format("fhir", "observation", key.replace("_", " "), _step(key), _one(key), time_step_s=0.001)
        for key in _MEASURED
        if key not in _PARTS
    ),
    Format("fhir", "bundle", "bundle of observations", _STEPS, _bundle, time_step_s=0.001, period_s=3600.0),
)
"""One Observation of each measurement, the pressure panel, and a Bundle of them all."""
