"""FHIR Observations that give no current reading: a severe value asks a person to look, any other is in a list."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.alerts.bedside import HEARTBEAT_S, Bedside
from tests.ingest.ingest_world import DAY
from tests.support import SECOND
from vitals.glossary import AlertState
from vitals.records import AlertEvent


def observed(bed: Bedside, value: float, *, age_ns: int = 0, day: bool = False, **members: Any) -> list[AlertEvent]:
    """An Observation of oxygen saturation from a hub that the patient wears, and what is told of it within a minute."""
    if not bed.world.registry.assignments(device="fhir-1"):
        bed.world.registry.assign(bed.world.device("fhir-1", "fhir"), bed.patient, from_ns=None, to_ns=None)
    bed.wait(HEARTBEAT_S)
    moment = datetime.fromtimestamp((bed.world.clock.now_ns() - age_ns) / SECOND, UTC)
    body = {
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
        "effectiveDateTime": f"{moment:%Y-%m-%d}" if day else moment.isoformat(),
        "valueQuantity": {"value": value, "unit": "%"}, **members,
    }  # fmt: skip
    return bed.send(json.dumps(body).encode(), "fhir") + bed.wait(60)


def reviews(events: list[AlertEvent]) -> list[AlertEvent]:
    return [one for one in events if one.rule.startswith("review:") and one.state is AlertState.ACTIVE_UNACK]


@pytest.mark.parametrize("status", ["registered", "unknown"])
def test_a_severe_value_that_its_sender_does_not_stand_by_is_reviewed(bed: Bedside, status: str) -> None:
    (review,) = reviews(observed(bed, 70, status=status))
    assert review.rule == "review:unclaimed:fhir-1"
    assert review.text.startswith("Perhaps Oxygen saturation 70 % from device fhir-1, ")
    assert not [one for one in bed.world.rows() if one["vital"] == "spo2"]


@pytest.mark.parametrize("status", ["registered", "unknown"])
def test_another_value_of_such_a_status_is_an_event_of_the_device(bed: Bedside, status: str) -> None:
    assert not reviews(observed(bed, 97, status=status))
    assert [(one.detail, one.value) for one in bed.world.events()] == [(f"status_{status}", 97.0)]


def test_a_result_of_last_week_that_is_not_final_is_no_review_of_now(bed: Bedside) -> None:
    assert not reviews(observed(bed, 70, age_ns=8 * DAY, status="unknown"))


def test_a_preliminary_severe_value_is_judged(bed: Bedside) -> None:
    assert [one for one in observed(bed, 70, status="preliminary") if one.values]


def test_a_severe_value_of_a_day_is_reviewed(bed: Bedside) -> None:
    (review,) = reviews(observed(bed, 70, day=True))
    assert review.patient == bed.patient
    assert not reviews(observed(bed, 97, day=True))


def test_a_severe_value_under_codes_of_two_vital_signs_is_reviewed(bed: Bedside) -> None:
    both = [
        {"system": "http://loinc.org", "code": "59408-5"},
        {"system": "http://snomed.info/sct", "code": "364075005"},
    ]
    (review,) = reviews(observed(bed, 70, code={"coding": both}))
    assert "its codes are those of different vital signs" in review.text
    (listed,) = bed.world.service.unknown_codes(device="fhir-1")
    assert (listed.code, listed.samples) == ("loinc:59408-5 sct:364075005", (70.0,))
