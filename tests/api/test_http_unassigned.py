"""Readings that wait for a wearer, and what people do about them."""

from typing import Any

import pytest

from tests.api.api_world import Api, World
from tests.support import eventually
from vitals.encoding import decode
from vitals.glossary import ControlKind, Severity
from vitals.model import Control

READINGS = (
    b'[{"vital":"spo2","value":97,"unit":"%","time":"2023-11-14T22:10:00Z","seq":1},'
    b'{"vital":"spo2","value":82,"unit":"%","time":"2023-11-14T22:11:00Z","seq":2}]'
)


def waiting(world: World) -> tuple[str, str]:
    """A device that nobody wears, and its item on the worklist."""
    device = world.registry.enrol("json")[0].id
    world.receive(device, READINGS)
    (item,) = [item for item in world.api("viewer").get("/unassigned", limit=1000)["items"] if item["device"] == device]
    return device, item["id"]


def spo2(world: World, patient: str) -> list[float]:
    world.evaluated()
    return [item["value"] for item in world.api("viewer").get(f"/patients/{patient}/latest")["items"]]


def test_an_item_with_its_readings(shared: World, api: Api) -> None:
    device, item = waiting(shared)
    shown = api.get(f"/unassigned/{item}")
    assert (shown["device"], shown["readings"], shown["reason"]) == (device, 2, "no_wearer")
    assert [(one["patient"], one["value"], one["sent"]) for one in shown["values"]] == [
        (None, 97.0, "2023-11-14T22:10:00Z"), (None, 82.0, "2023-11-14T22:11:00Z"),
    ]  # fmt: skip
    api.refused("GET", "/unassigned/999", 404)
    # Who sees no values of patients sees none of these.
    shared.api("integrator").refused("GET", f"/unassigned/{item}", 403)


def test_assigned_readings_are_history_of_the_patient(world: World) -> None:
    device, item = waiting(world)
    patient = world.registry.add_patient(zone="Europe/Berlin").id
    world.limits(patient, {"vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S1", "deadband": 2.0,
                           "on_delay_s": 0.0, "off_delay_s": 0.0})  # fmt: skip
    clinician = world.api("clinician")
    answer = clinician.post(f"/unassigned/{item}/assign", {"patient": patient, "shift_s": -60})
    assert answer == {"id": item, "patient": patient, "stored": 2}
    assert spo2(world, patient) == [82.0]
    (task,) = world.book.alerts(patient=patient)
    assert (task.rule, task.severity, task.role) == ("review:limit:spo2:low:S1", Severity.S3, "nurse")
    assert not any(event.page for event in world.book.events(task.id)), "what waited pages nobody"
    world.stored()
    series = clinician.get(f"/patients/{patient}/readings", vital="spo2", resolution="raw",
                           start="2023-11-14T00:00:00Z", end="2023-11-15T00:00:00Z")  # fmt: skip
    assert series["time"] == ["2023-11-14T22:09:00Z", "2023-11-14T22:10:00Z"]
    assert series["flags"] == [["clock_corrected", "late"]] * 2
    assert clinician.get("/unassigned")["items"] == []
    readings = clinician.get(f"/devices/{device}/ledger")["readings"]
    assert (readings["emitted"], readings["stored"], readings["unassigned"], readings["in_flight"]) == (2, 2, 0, 0)
    clinician.refused("POST", f"/unassigned/{item}/assign", 404, json={"patient": patient})


def test_discarded_readings_stay_counted(world: World) -> None:
    device, item = waiting(world)
    api = world.api("clinician")
    api.refused("POST", f"/unassigned/{item}/discard", 422, "reason", json={"reason": ""})
    assert api.post(f"/unassigned/{item}/discard", {"reason": "a drill"}) == {"id": item, "discarded": 2}
    assert api.get("/unassigned")["items"] == []
    readings = api.get(f"/devices/{device}/ledger")["readings"]
    assert (readings["emitted"], readings["unassigned"], readings["in_flight"]) == (2, 2, 0)


def test_decisions_stand_in_the_log(world: World) -> None:
    _, item = waiting(world)
    patient = world.registry.add_patient().id
    world.api("clinician").post(f"/unassigned/{item}/assign", {"patient": patient})
    (unclaimed, given) = [entry for entry in _entries(world) if isinstance(entry, Control)]
    assert (unclaimed.kind, unclaimed.body["items"]) == (ControlKind.UNCLAIMED, [item])
    assert (given.kind, given.body["patient"]) == (ControlKind.ASSIGN, patient)
    assert given.author.startswith("clinician")


def _entries(world: World) -> list[Any]:
    return [decode(row.body) for row in world.log.read(0)]


@pytest.mark.parametrize(
    ("action", "body", "status", "field"),
    [
        ("assign", {"patient": "p_none"}, 404, None),
        ("assign", {}, 422, "patient"),
        ("assign", {"patient": "p", "shift_s": 1e12}, 422, "shift_s"),
        ("assign", {"patient": "p", "shift_s": "1"}, 422, "shift_s"),
        ("discard", {}, 422, "reason"),
        ("discard", {"reason": "r", "patient": "p"}, 422, "patient"),
    ],
)
def test_refused(shared: World, api: Api, action: str, body: object, status: int, field: str | None) -> None:
    _, item = waiting(shared)
    api.refused("POST", f"/unassigned/{item}/{action}", status, field, json=body)
    assert api.get(f"/unassigned/{item}")["readings"] == 2


def test_only_who_may_assign_devices_decides(shared: World) -> None:
    _, item = waiting(shared)
    viewer = shared.api("viewer")
    viewer.refused("POST", f"/unassigned/{item}/assign", 403, json={"patient": "p"})
    viewer.refused("POST", f"/unassigned/{item}/discard", 403, json={"reason": "r"})


def test_a_corrected_assignment_moves_readings_alerts_and_what_is_shown(world: World) -> None:
    api = world.api("clinician")
    first, device = world.worn()
    second = world.registry.add_patient().id
    world.limits(first, {"vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S2", "deadband": 2.0,
                         "on_delay_s": 0.0, "off_delay_s": 0.0})  # fmt: skip
    world.receive(device, READINGS)
    assert spo2(world, first) == [82.0]
    (alert,) = world.book.alerts(patient=first)
    world.stored()
    body = {"patient": second, "from": "2023-11-14T22:10:30Z", "to": "2023-11-14T22:12:00Z"}
    api.post(f"/devices/{device}/assign", body | {"replace": True})
    assert spo2(world, second) == [82.0]
    # Nothing is shown rather than what is another's; once the store has followed, the one before it.
    assert 82.0 not in spo2(world, first)
    world.stored()
    eventually(lambda: spo2(world, first) == [97.0], what="the reading before")
    assert spo2(world, second) == [82.0]
    events = [event["kind"] for event in api.get(f"/alerts/{alert.id}")["events"]]
    assert events == ["raised", "retracted", "resolved"]
    assert world.book.alerts(patient=second) == []
    assert [(one["from"], one["to"]) for one in api.get(f"/patients/{first}/assignments")["items"]] == [
        (None, "2023-11-14T22:10:30Z"), ("2023-11-14T22:12:00Z", None),
    ]  # fmt: skip
