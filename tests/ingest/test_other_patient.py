"""A message that names another patient than the wearer of its device is nobody's, and somebody is told (promise 4)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.adapter import Context
from tests.adapters.decoding import ADAPTERS
from tests.ingest.ingest_world import DAY, MINUTE, World
from tests.support import SECOND
from vitals.glossary import ControlKind, Flag
from vitals.model import Control, Message

NUMBER, OTHER = "00012345", "777001"


def stamp(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // SECOND, UTC).strftime("%Y%m%d%H%M%S+0000")


def oru(world: World, pid: str | None, *, control: str = "", value: float = 97, age_ns: int = 0) -> bytes:
    """One SpO2; ``pid`` is the PID segment from its second field on."""
    now, at = stamp(world.clock.now_ns()), stamp(world.clock.now_ns() - age_ns)
    lines = [
        f"MSH|^~\\&|MON|W|||{now}||ORU^R01^ORU_R01|{control or world.raw.end()}|P|2.6",
        *([] if pid is None else [f"PID|1|{pid}"]),
        f"OBR|1|||182777000^monitoring of patient^SCT|||{at}",
        f"OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.1|{value:g}|262688^MDC_DIM_PERCENT^MDC|||||F|||{at}",
    ]
    return "\r".join([*lines, ""]).encode()


def send(world: World, pid: str | None, *, device: str = "mon", kind: str = "oru_r01", **parts: Any) -> None:
    world.send(world.message(device, oru(world, pid, **parts), "hl7v2", kind))
    world.drain()
    world.clock.advance(1)


def monitor(world: World, number: str | None = NUMBER, device: str = "mon") -> str:
    """A monitor and its wearer; the patient."""
    patient = world.worn(device, "hl7v2")
    world.known_as(patient, number)
    return patient


def told(world: World) -> list[Mapping[str, Any]]:
    kind = ControlKind.OTHER_PATIENT
    return [one.body for one in world.entries() if isinstance(one, Control) and one.kind is kind]


def outcome(world: World) -> tuple[int, list[str]]:
    """Readings that are stored, and why the others wait."""
    return len(world.rows()), [row["reason"] for row in world.waiting()]


AGREES = (1, [])
WAITS = (0, ["other_patient"])
PIDS = [
    (f"|{OTHER}^^^HOSP^MR||Doe^John", WAITS),
    (f"|{OTHER}", WAITS),
    (f"|{OTHER}^^^HOSP^pi~V99^^^HOSP^VN", WAITS),
    (f"|{NUMBER}^^^HOSP^MR||Doe^Jane", AGREES),
    ("|12345^^^HOSP^MR", AGREES),
    ("| 12-345 ", AGREES),
    (f"|{OTHER}^^^LAB^PI~{NUMBER}^^^HOSP^MR", AGREES),
    (f"|{NUMBER}^^^HOSP^MR~{OTHER}^^^LAB^PI", AGREES),
    (f"|{OTHER}^^^HOSP^PI~{NUMBER}^^^HOSP^AN", AGREES),
    ("|1234^5^M11^HOSP^MR", AGREES),
    (f"{NUMBER}|{OTHER}", AGREES),
    (f"|{OTHER}|{NUMBER}", AGREES),
    (f"|{OTHER}^^^HOSP^VN", AGREES),
    (f"|{OTHER}^^^^SS~{OTHER}^^^^AN", AGREES),
    ("|", AGREES),
    ('|""', AGREES),
    ("|^^^HOSP^MR", AGREES),
    ("|UNKNOWN^^^HOSP^MR", AGREES),
    ("|00000", AGREES),
    (f"{OTHER}|", AGREES),
    (None, AGREES),
]
"""PID from its second field on, and what becomes of the reading of a wearer with the record number 00012345."""


@pytest.mark.parametrize(("pid", "becomes"), PIDS)
def test_every_form_of_an_identifier(world: World, pid: str | None, becomes: tuple[int, list[str]]) -> None:
    monitor(world)
    send(world, pid)
    assert outcome(world) == becomes
    assert len(told(world)) == len(becomes[1])


def test_escapes_of_an_identifier_are_undone(world: World) -> None:
    monitor(world, "A~12345")
    send(world, "|a\\R\\12345")
    assert outcome(world) == AGREES


@pytest.mark.parametrize("number", [None, "", "UNKNOWN"])
def test_a_wearer_without_a_record_number_cannot_be_another(world: World, number: str | None) -> None:
    monitor(world, number)
    send(world, f"|{OTHER}^^^HOSP^MR")
    assert outcome(world) == AGREES


def test_a_device_that_nobody_wears_contradicts_nothing(world: World) -> None:
    world.device("mon", "hl7v2")
    send(world, f"|{OTHER}^^^HOSP^MR")
    assert outcome(world) == (0, ["no_wearer"])
    assert told(world) == []


def test_a_reading_of_a_former_wearer_is_compared_with_that_one(world: World) -> None:
    monitor(world)
    later = world.registry.add_patient(zone="UTC").id
    world.known_as(later, OTHER)
    world.registry.assign("mon", later, from_ns=world.clock.now_ns() - 2 * MINUTE, to_ns=None)
    send(world, f"|{NUMBER}^^^HOSP^MR", age_ns=5 * MINUTE)
    assert outcome(world) == (1, [])
    send(world, f"|{NUMBER}^^^HOSP^MR", age_ns=MINUTE)
    assert outcome(world) == (1, ["other_patient"])


def test_it_is_told_once_in_a_quarter_of_an_hour_and_of_each_device(world: World) -> None:
    monitor(world)
    monitor(world, device="mon-2")
    send(world, f"|{OTHER}")
    first = world.service.unassigned()
    for _ in range(3):
        send(world, f"|{OTHER}")
    send(world, f"|{OTHER}", device="mon-2")
    assert [body["device"] for body in told(world)] == ["mon", "mon-2"]
    assert told(world)[0]["items"] == [item.id for item in first]
    world.clock.advance(15 * 60)
    send(world, f"|{OTHER}")
    assert len(told(world)) == 3


def test_an_extreme_that_waits_is_told_beside_it(world: World) -> None:
    monitor(world)
    send(world, f"|{OTHER}", value=97)
    send(world, f"|{OTHER}", value=80)
    unclaimed = [one.body for one in world.entries() if isinstance(one, Control) and one.kind is ControlKind.UNCLAIMED]
    assert [(body["value"], body["reason"]) for body in unclaimed] == [(80, "other_patient")]
    assert len(told(world)) == 1


def test_a_resend_is_told_no_second_time(world: World) -> None:
    monitor(world)
    payload = oru(world, f"|{OTHER}")
    for _ in range(2):
        world.send(world.message("mon", payload, "hl7v2", "oru_r01"))
        world.drain()
        world.clock.advance(3600)
    assert len(told(world)) == 1


def test_history_waits_and_tells_nobody(world: World) -> None:
    monitor(world)
    send(world, f"|{OTHER}", kind="oru_r01:history")
    send(world, f"|{OTHER}", age_ns=4 * DAY)
    assert outcome(world) == (0, ["other_patient"] * 2)
    assert told(world) == []


def test_a_replay_from_quarantine_waits_and_tells_nobody(world: World) -> None:
    monitor(world)
    world.send(world.message("mon", oru(world, f"|{OTHER}"), "not-yet", "oru_r01"))
    world.drain()
    world.adapters["not-yet"] = world.adapters["hl7v2"]
    world.restart()
    assert world.service.replay()["decoded"] == 1
    assert outcome(world) == WAITS
    assert told(world) == []


def test_a_corrected_record_number_counts_at_once(world: World) -> None:
    patient = monitor(world, "1")
    send(world, f"|{NUMBER}")
    world.known_as(patient, NUMBER)
    send(world, f"|{NUMBER}")
    assert outcome(world) == (1, ["other_patient"])


def test_a_sender_with_numbers_of_its_own_can_be_exempted(world: World) -> None:
    monitor(world)
    world.registry.configure("mon", {"patient": "ignore"})
    send(world, f"|{OTHER}")
    assert outcome(world) == AGREES
    world.registry.configure("mon", {"patient": "perhaps"})
    send(world, f"|{NUMBER}")
    [item] = world.service.quarantine()
    assert item.detail == "setting patient"


def test_a_changed_assignment_does_not_give_the_readings_to_anybody_but_a_person_may(world: World) -> None:
    monitor(world)
    send(world, f"|{OTHER}")
    other = world.registry.add_patient(zone="UTC").id
    world.known_as(other, OTHER)
    world.registry.assign("mon", other, from_ns=world.clock.now_ns() - MINUTE, to_ns=None)
    world.service.settle("nurse")
    assert outcome(world) == WAITS
    [item] = world.service.unassigned()
    assert world.service.assign_unassigned(item.id, other, author="nurse") == 1
    [row] = world.rows()
    assert (row["patient"], row["time_ns"]) == (other, row["source_time_ns"])
    send(world, f"|{OTHER}")
    assert [row["patient"] for row in world.rows()] == [other, other]


def test_a_withdrawal_takes_the_reading_off_the_worklist(world: World) -> None:
    monitor(world)
    payload = oru(world, f"|{OTHER}")
    world.send(world.message("mon", payload, "hl7v2", "oru_r01"))
    world.drain()
    world.send(world.message("mon", payload.replace(b"|||||F|||", b"|||||D|||"), "hl7v2", "oru_r01"))
    world.drain()
    assert outcome(world) == (0, [])


def test_no_identifier_leaves_the_raw_zone(world: World) -> None:
    patient = monitor(world)
    send(world, f"|{OTHER}^^^HOSP^MR||Roe^Richard")
    send(world, f"|{NUMBER}^^^HOSP^MR||Doe^Jane")
    world.close_core()
    kept = b"".join(path.read_bytes() for path in world.path.iterdir() if path.is_file())
    assert patient.encode() in kept
    for secret in (OTHER, NUMBER, "12345", "Roe", "Doe"):
        assert secret.encode() not in kept
    world.open()


def fhir_spo2(world: World, subject: dict[str, Any], value: float = 97) -> dict[str, Any]:
    at = datetime.fromtimestamp(world.clock.now_ns() / SECOND, UTC).isoformat()
    percent = {"value": value, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    code = {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, "effectiveDateTime": at,
            "valueQuantity": percent, "subject": subject}  # fmt: skip


def identified(number: str, kind: str = "MR", **more: Any) -> dict[str, Any]:
    return {"value": number, "type": {"coding": [{"code": kind}]}, **more}


def patient_resource(ident: str, *identifiers: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": ident, "identifier": list(identifiers)}


SUBJECTS = [
    ({"identifier": {"value": OTHER}}, WAITS),
    ({"identifier": identified(OTHER)}, WAITS),
    ({"identifier": identified(NUMBER)}, AGREES),
    ({"identifier": {"value": "12345"}}, AGREES),
    ({"identifier": identified(OTHER, "VN")}, AGREES),
    ({"identifier": identified(OTHER, use="old")}, AGREES),
    ({"identifier": {"system": "urn:x"}}, AGREES),
    ({"identifier": {"value": 5}}, AGREES),
    ({"reference": f"Patient/{OTHER}", "display": "Roe"}, AGREES),
    ({"reference": "#other"}, WAITS),
    ({"reference": "#own"}, AGREES),
]


@pytest.mark.parametrize(("subject", "becomes"), SUBJECTS)
def test_a_fhir_subject_with_another_identifier(
    world: World, subject: dict[str, Any], becomes: tuple[int, list[str]]
) -> None:
    world.known_as(world.worn("hub", "fhir"), NUMBER)
    contained = [patient_resource("other", identified(OTHER)), patient_resource("own", identified(NUMBER))]
    document = fhir_spo2(world, subject) | {"contained": contained}
    world.send(world.message("hub", json.dumps(document).encode(), "fhir"))
    world.drain()
    assert outcome(world) == becomes
    assert len(told(world)) == len(becomes[1])


def test_each_observation_of_a_bundle_is_compared_by_its_own_subject(world: World) -> None:
    world.known_as(world.worn("hub", "fhir"), NUMBER)
    subjects = [{"reference": "urn:uuid:1"}, {"reference": "Patient/b"}, {"identifier": identified(NUMBER)}]
    resources = [patient_resource("a", identified(NUMBER, "PI")), patient_resource("b", identified(OTHER, "PI")),
                 *(fhir_spo2(world, one, 95 + number) for number, one in enumerate(subjects))]  # fmt: skip
    entries = [{"fullUrl": f"urn:uuid:{number}", "resource": one} for number, one in enumerate(resources, 1)]
    document = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    world.send(world.message("hub", json.dumps(document).encode(), "fhir"))
    world.drain()
    assert [row["value"] for row in world.rows()] == [95, 97]
    assert [(row["value"], row["reason"]) for row in world.waiting()] == [(96, "other_patient")]
    world.registry.configure("hub", {"patient": "ignore"})
    world.clock.advance(60)
    world.send(world.message("hub", json.dumps(fhir_spo2(world, {"identifier": {"value": OTHER}})).encode(), "fhir"))
    world.drain()
    assert outcome(world) == (3, ["other_patient"])


def test_a_message_that_names_nobody_costs_no_comparison() -> None:
    payload = b"MSH|^~\\&|MON|W|||20260301080000+0000||ORU^R01|1|P|2.6\rOBX|1|NM|150456^^MDC|1|97|262688^^MDC|||||F\r"
    decoded = ADAPTERS["hl7v2"].decode([Message("mon", "hl7v2", "oru_r01", 0, payload)], [Context()])
    assert (len(decoded.batch), decoded.named) == (1, {})
    assert not Flag(int(decoded.batch.flags[0]))


def test_the_number_of_another_registered_patient_is_another_patient_also_for_a_wearer_without_one(
    world: World,
) -> None:
    monitor(world, None)
    send(world, f"|{OTHER}^^^HOSP^MR")
    assert outcome(world) == AGREES, "nobody has it"
    world.known_as(world.registry.add_patient(zone=None).id, OTHER)
    send(world, f"|{OTHER}^^^HOSP^MR")
    assert outcome(world) == (1, ["other_patient"])
    assert len(told(world)) == 1


def unworn(world: World) -> None:
    world.device("mon", "hl7v2")


def give(world: World, number: str | None) -> str:
    """Assign the monitor to a patient with this record number, and let what waits follow."""
    patient = world.registry.add_patient(zone="Europe/Berlin").id
    world.known_as(patient, number)
    world.registry.assign("mon", patient, from_ns=None, to_ns=None)
    world.service.settle("dr_a")
    world.drain()
    return patient


@pytest.mark.parametrize(("number", "becomes"), [(NUMBER, AGREES), (OTHER, WAITS), (None, AGREES)])
def test_what_waited_for_a_wearer_is_compared_when_it_gets_one(
    world: World, number: str | None, becomes: tuple[int, list[str]]
) -> None:
    unworn(world)
    send(world, f"|{NUMBER}^^^HOSP^MR")
    assert outcome(world) == (0, ["no_wearer"])
    world.restart()
    give(world, number)
    assert outcome(world) == becomes
    assert len(told(world)) == (becomes == WAITS)
    world.check()


def test_what_is_kept_of_an_identifier_is_a_digest_and_is_gone_when_its_reading_is_placed(world: World) -> None:
    unworn(world)
    send(world, f"|{NUMBER}^^^HOSP^MR")
    (waits,) = world.waiting()
    assert waits["context"]["named"]
    assert NUMBER.lstrip("0") not in str(waits)
    _, shown = world.service.unassigned_item("1")
    assert "named" not in shown.context.get(0, {})
    give(world, NUMBER)
    assert "named" not in world.rows()[0]["context"]


def test_a_part_of_an_item_may_name_another_patient(world: World) -> None:
    """A Bundle of two subjects under one device: each reading goes to its own, or waits."""
    world.device("mon", "fhir")
    entries = []
    for number, value in ((NUMBER, 96), (OTHER, 97)):
        entries.append({"resource": {
            "resourceType": "Observation", "status": "final", "id": f"o-{value}",
            "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
            "subject": {"identifier": {"type": {"coding": [{"code": "MR"}]}, "value": number}},
            "effectiveDateTime": datetime.fromtimestamp(world.clock.now_ns() / SECOND - value, UTC).isoformat(),
            "valueQuantity": {"value": value, "unit": "%"},
        }})  # fmt: skip
    body = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    world.send(world.message("mon", json.dumps(body).encode(), "fhir"))
    world.drain()
    assert outcome(world) == (0, ["no_wearer"] * 2)
    give(world, NUMBER)
    assert [row["value"] for row in world.rows()] == [96.0]
    assert [(row["value"], row["reason"]) for row in world.waiting()] == [(97.0, "other_patient")]
    world.check()
    world.service.assign_unassigned("2", world.registry.add_patient(zone=None).id, author="dr_a")
    world.drain()
    assert [row["value"] for row in world.rows()] == [96.0, 97.0]
    assert all("named" not in row["context"] for row in world.rows())
