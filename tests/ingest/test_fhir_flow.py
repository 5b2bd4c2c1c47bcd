"""FHIR Observations all the way through ingest: resent, corrected, refused in part, by which clock."""

from datetime import UTC, datetime

from tests.adapters.fhir_documents import Document, bundle, dumped, observation, pressure, quantity, spo2
from tests.ingest.ingest_world import HOUR, World
from tests.support import SECOND
from vitals.glossary import Basis, Flag, Reason

KEY: Document = {"identifier": [{"system": "https://hub.example", "value": "k-1"}]}


def at(world: World, age_ns: int = 0, zone: str = "+00:00") -> Document:
    """The member that says when."""
    moment = datetime.fromtimestamp((world.clock.now_ns() - age_ns) // SECOND, UTC)
    return {"effectiveDateTime": f"{moment:%Y-%m-%dT%H:%M:%S}{zone}"}


def take(world: World, *documents: Document) -> None:
    world.send(*[world.message("d", dumped(document), "fhir") for document in documents])
    world.drain()
    world.clock.advance(1)


def test_an_observation_is_a_reading_of_who_wears_the_device(world: World) -> None:
    patient = world.worn("d", "fhir")
    world.registry.add_patient(zone=None)
    take(world, pressure(subject={"reference": "Patient/somebody-else"}, **at(world)))
    assert [(row["vital"], row["value"], row["patient"]) for row in world.rows()] == [
        ("bp_sys", 128.0, patient), ("bp_dia", 82.0, patient),
    ]  # fmt: skip
    assert {row["basis"] for row in world.rows()} == {Basis.DEVICE}


def test_resent_is_a_duplicate_and_amended_a_revision(world: World) -> None:
    world.worn("d", "fhir")
    for key in ({}, KEY):
        first = spo2(**at(world), **key)
        take(world, first, first, first | {"status": "amended", "valueQuantity": quantity(91, "%")})
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.duplicate, ledger.revision) == (2, 2, 2)
    assert [(row["value"], bool(row["flags"] & Flag.REVISION)) for row in world.rows()] == [
        (97.0, False), (91.0, True), (97.0, False), (91.0, True),
    ]  # fmt: skip


def test_hashed_keys_of_wall_times_in_any_order_are_no_reset_clock(world: World) -> None:
    """Numbers that rise while time falls are a reset clock; hashes rise and fall as they like."""
    world.worn("d", "fhir")
    for number, days in enumerate((1, 9, 3, 7, 5, 2, 8, 4)):
        key = {"identifier": [{"value": f"k-{number}"}]}
        take(world, spo2(**at(world, days * 24 * HOUR, zone=""), **key))
    assert {row["basis"] for row in world.rows()} == {Basis.DEVICE_ASSUMED_ZONE}
    assert len(world.rows()) == 8
    assert not world.waiting()


def test_a_day_is_not_midnight_and_a_month_waits(world: World) -> None:
    world.worn("d", "fhir")
    moment = datetime.fromtimestamp(world.clock.now_ns() // SECOND, UTC)
    take(world, spo2(effectiveDateTime=f"{moment:%Y-%m-%d}"), spo2(effectiveDateTime=f"{moment:%Y-%m}"))
    assert [row["basis"] for row in world.rows()] == [Basis.DAY]
    assert [row["basis"] for row in world.waiting()] == [Basis.UNKNOWN]


def test_times_that_a_hub_passed_on_from_a_faulty_clock_wait(world: World) -> None:
    world.worn("d", "fhir")
    fault = observation("67975", id="c", dataAbsentReason={"coding": [{"code": "unknown"}]})
    take(world, bundle(fault, spo2(**at(world), derivedFrom=[{"reference": "Observation/c"}])))
    assert not world.rows()
    (row,) = world.waiting()
    assert Flag.CLOCK_SUSPECT in row["flags"]


def test_a_bad_observation_is_quarantined_and_the_good_ones_beside_it_are_stored(world: World) -> None:
    world.worn("d", "fhir")
    bad = observation("8867-4", valueQuantity=quantity(70, "kg"), **at(world))
    take(world, bundle(spo2(**at(world)), bad, pressure(**at(world))))
    assert [row["vital"] for row in world.rows()] == ["spo2", "bp_sys", "bp_dia"]
    (item,) = world.journal.quarantine(0, 10)
    assert (item.reason, item.detail) == (Reason.UNKNOWN_UNIT, "entry[1].resource.valueQuantity.code")


def test_what_the_adapter_gives_is_what_the_pipeline_takes(world: World) -> None:
    """Every value type, quality and time at once: the sound check refuses a whole message otherwise."""
    world.worn("d", "fhir")
    sampled = {"origin": quantity(0, "/min"), "period": 10, "dimensions": 1, "data": "60 E L U", "lowerLimit": 1}
    take(world, bundle(
        observation("8889-8", valueSampledData=sampled, **at(world)),
        observation("67775-7", valueCodeableConcept={"text": "pain"}, **at(world)),
        spo2(status="entered-in-error", valueQuantity=None, **at(world)),
        observation("8867-4", status="unknown", valueQuantity=quantity(70, "/min"), **at(world)),
        observation("8310-5", dataAbsentReason={"text": "?"}, **at(world)),
        spo2(component=[{"code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "150320"}]},
                         "valueQuantity": quantity(80, "%")}],
             effectiveDateTime=None, issued=at(world, HOUR)["effectiveDateTime"]),
    ))  # fmt: skip
    # The withdrawn one is remembered, not stored.
    assert [row["vital"] for row in world.rows()] == ["pulse_rate"] * 3 + ["acvpu", "spo2"]
    assert [event.detail for event in world.events()] == ["error in 1 of 4 samples", "status_unknown", "other"]
    assert not list(world.journal.quarantine(0, 10))
