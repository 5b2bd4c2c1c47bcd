"""FHIR Observations and Bundles for tests, written after device-formats.md 4 and interop.md 1."""

import json
from typing import Any

from ingest.adapter import Context, Decoded
from tests.adapters.decoding import ADAPTERS, assert_sound, message, reading_rows

Document = dict[str, Any]

LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
TIME = "2024-03-10T08:15:30+01:00"
TIME_NS = 1_710_054_930_000_000_000


def dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def concept(*codes: str) -> Document:
    """A CodeableConcept; codes with a dash are LOINC, others MDC."""
    return {"coding": [{"system": LOINC if "-" in code else MDC, "code": code} for code in codes]}


def absent(reason: str) -> Document:
    return {"coding": [{"system": ABSENT, "code": reason}]}


def quantity(value: Any, unit: str, **members: Any) -> Document:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit, **members}


def observation(*codes: str, **members: Any) -> Document:
    """A final Observation at ``TIME``; a member that is None is left out."""
    document = {
        "resourceType": "Observation",
        "status": "final",
        "code": concept(*codes),
        "effectiveDateTime": TIME,
        **members,
    }
    return {name: value for name, value in document.items() if value is not None}


def spo2(**members: Any) -> Document:
    return observation("59408-5", "2708-6", **{"valueQuantity": quantity(97, "%"), **members})


def pressure(systolic: Any = 128, diastolic: Any = 82, **members: Any) -> Document:
    parts = [component("8480-6", valueQuantity=quantity(systolic, "mm[Hg]")),
             component("8462-4", valueQuantity=quantity(diastolic, "mm[Hg]"))]  # fmt: skip
    return observation("85354-9", "150020", **{"component": parts, **members})


def component(*codes: str, **members: Any) -> Document:
    return {"code": concept(*codes), **members}


def bundle(*resources: Document, kind: str = "transaction") -> Document:
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": resource} for resource in resources]}


def series(data: Any, **members: Any) -> Document:
    sampled = {"origin": quantity(0, "/min"), "period": 1000, "dimensions": 1, "data": data, **members}
    return observation("8889-8", valueSampledData={key: value for key, value in sampled.items() if value is not None})


def read(document: Any, settings: dict[str, str] | None = None) -> Decoded:
    one = message("fhir", dumped(document))
    decoded = ADAPTERS["fhir"].decode([one], [Context(settings=settings or {})])
    assert_sound(decoded, [one])
    return decoded


def rows(document: Any) -> list[dict[str, Any]]:
    decoded = read(document)
    assert not decoded.rejects
    return reading_rows(decoded.batch)
