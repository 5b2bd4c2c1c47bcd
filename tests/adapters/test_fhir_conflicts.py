"""FHIR codings that name two vital signs."""

import pytest

from ingest.adapters.fhir import codes
from tests.adapters.fhir_documents import LOINC, MDC, Document, observation, quantity, read, rows
from vitals.catalog import BY_KEY
from vitals.glossary import EventKind

CODES = {"loinc": LOINC, "mdc": MDC, "sct": "http://snomed.info/sct"}
CONFLICTS = [
    (["loinc:59408-5", "loinc:8867-4"], 97, "%", "spo2", 97.0),
    (["loinc:59408-5", "mdc:147842"], 30, "/min", "heart_rate", 30.0),
    (["sct:86290005", "loinc:8867-4"], 30, "/min", "resp_rate", 30.0),
    (["loinc:8480-6", "loinc:8462-4"], 125, "mm[Hg]", "bp_dia", 125.0),
    (["loinc:8310-5", "sct:364075005"], 40.5, "Cel", "temp", 40.5),
    (["loinc:59408-5", "sct:364075005"], 70, "", None, 70.0),
]


def of_codes(names: list[str]) -> Document:
    pairs = [name.split(":", 1) for name in names]
    return {"coding": [{"system": CODES[system], "code": code} for system, code in pairs]}


@pytest.mark.parametrize("in_part", [False, True], ids=["own value", "component"])
@pytest.mark.parametrize(("names", "value", "unit", "vital", "told"), CONFLICTS)
def test_codings_of_two_vital_signs_make_no_reading_and_are_told_with_the_one_that_matters_most(
    names: list[str], value: float, unit: str, vital: str | None, told: float, *, in_part: bool
) -> None:
    code, said = of_codes(names), quantity(value, unit)
    whole = observation("85354-9", component=[{"code": code, "valueQuantity": said}])
    decoded = read(whole if in_part else observation(code=code, valueQuantity=said))
    assert not len(decoded.batch)
    (event,) = decoded.events
    assert (event.kind, event.detail, event.value) == (EventKind.CODE_CONFLICT, " ".join(names), told)
    assert event.vital == (BY_KEY[vital].code if vital else 0)


@pytest.mark.parametrize(
    ("names", "vital"),
    [(["loinc:8867-4", "mdc:149530"], "pulse_rate"), (["loinc:2339-0", "mdc:160184"], "glucose_bg"),
     (["sct:75367002", "loinc:8480-6"], "bp"), (["loinc:8310-5", "loinc:8331-1"], "temp"),
     (["sct:364075005", "loinc:8889-8"], "pulse_rate")],
)  # fmt: skip
def test_codings_of_one_vital_sign_by_two_methods_are_no_conflict(names: list[str], vital: str) -> None:
    assert not codes.conflicting([(CODES[name.split(":", 1)[0]], name.split(":", 1)[1]) for name in names])
    if vital != "bp":
        (row,) = rows(observation(code=of_codes(names), valueQuantity=quantity(40, BY_KEY[vital].unit)))
        assert row["vital"] == vital
