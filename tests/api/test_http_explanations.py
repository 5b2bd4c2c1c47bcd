"""Why an alert is there, over HTTP."""

from typing import Any

import pytest

from tests.api.api_world import START_NS, Api, World, limit
from tests.support import SECOND
from vitals.glossary import AlertState, Flag, Severity
from vitals.records import AlertEvent, BookedEvent

MINUTE = 60.0
DAY = 86_400.0


def explained(api: Api, ident: str) -> Any:
    return api.get(f"/alerts/{ident}/explanation")


def test_a_limit_is_explained_from_the_version_that_was_in_force(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    ident = shared.alert(patient, value=84.0)
    shared.limits(patient, limit(low=80.0), api=api)
    shared.evaluated()
    found = explained(api, ident)
    assert found["text"] == api.get(f"/alerts/{ident}")["text"]
    assert found["rule"] == {
        "id": "limit:spo2:low:S2", "title": "Oxygen saturation under 90 %", "words": "Oxygen saturation under 90 %",
        "version": 1, "source": "own limits",
    }  # fmt: skip
    assert (found["limit"]["value"], found["resolves"]) == (90.0, "oxygen saturation is 92 % or more")
    assert found["values"] == [
        {"vital": "spo2", "value": 84.0, "unit": "%", "time": "2023-11-14T22:13:20Z", "flags": [], "quality": []}
    ]
    assert found["incident"]["members"][0]["id"] == ident
    assert found["incident"]["id"] == api.get(f"/alerts/{ident}")["incident"] is not None
    assert len(found["incident"]["members"]) == 1
    assert found["history"][0]["words"].startswith("raised, asks nurse: Oxygen saturation 84 %")


def test_quality_is_in_words_and_history_has_who_did_what(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    shared.limits(patient, limit(severity="S1"), api=api)
    shared.read(patient, 60.0, flags=int(Flag.SUSPECT))
    shared.evaluated()
    ident = shared.book.alerts(patient=patient)[0].id
    api.post(f"/alerts/{ident}/acknowledge", {"note": "called her"})
    found = explained(api, ident)
    assert found["rule"]["id"] == "limit:spo2:low:S1:confirm"
    assert found["rule"]["words"] == "Oxygen saturation under 90 %"
    assert found["values"][0]["flags"] == ["suspect"]
    assert found["values"][0]["quality"] == ["rare but possible: a single sample does not page unless it is critical"]
    last = found["history"][-1]
    assert last["kind"] == "acknowledged"
    assert last["words"].startswith("acknowledged by admin:")
    assert last["words"].endswith(": called her")
    assert last["meaning"] == "a person acknowledged the alert"


def test_the_signal_of_what_is_measured_all_the_time_is_the_minutes_around(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    shared.limits(patient, limit(), api=api)
    shared.read(patient, *([97.0] * 30), start_s=-30 * MINUTE)
    shared.read(patient, 84.0, 85.0, 86.0)
    shared.evaluated()
    shared.stored()
    signal = explained(api, shared.book.alerts(patient=patient)[0].id)["signal"]
    assert (signal["vital"], signal["unit"], signal["mode"], signal["limit"]) == ("spo2", "%", "continuous", 90.0)
    assert signal["raised"] == "2023-11-14T22:13:20Z"
    assert (signal["time"][0], signal["time"][-1]) == ("2023-11-14T21:58:20Z", "2023-11-14T22:15:20Z")
    assert signal["value"] == [97.0] * 15 + [84.0, 85.0, 86.0]


def test_the_signal_of_what_is_measured_now_and_then_is_the_last_readings(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    shared.limits(patient, limit(), api=api)
    shared.read(patient, *([97.0] * 14), start_s=-14 * DAY, step_s=DAY)
    shared.read(patient, 84.0)
    shared.evaluated()
    shared.stored()
    ident = shared.book.alerts(patient=patient)[0].id
    signal = explained(api, ident)["signal"]
    assert signal["mode"] == "spot"
    assert signal["value"] == [97.0] * 9 + [84.0]
    blind = shared.api("viewer", "alerts:read")
    assert explained(blind, ident)["signal"] is None
    shared.api("integrator").refused("GET", f"/alerts/{ident}/explanation", 403)


def event(alert: str, number: int = 0, kind: str = "raised", **changes: Any) -> AlertEvent:
    fields: dict[str, Any] = {
        "id": f"e_{alert}_{number}", "alert": alert, "number": number, "kind": kind,
        "at_ns": START_NS + number * SECOND, "patient": "p_inc", "rule": "copd:P1-red", "rule_version": 1,
        "severity": Severity.S1, "state": AlertState.ACTIVE_UNACK, "text": "low", "incident": "i_1", "role": "nurse",
    }  # fmt: skip
    return AlertEvent(**(fields | changes))


@pytest.fixture
def incident(world: World) -> Api:
    """Two alerts of one incident of a patient in a programme ``copd``; the second one pages nobody."""
    world.stop_engine()
    position = world.book.position()
    due = START_NS + 300 * SECOND
    said = [
        event("a_1", due_ns=due, resolves="back at 93 % for 60 s"),
        event("a_2", rule="copd:P5-rr", severity=Severity.S2, page=False, text="fast"),
        event("a_1", 1, "escalated", level=1, role="backup", due_ns=due + 150 * SECOND, text="nobody acknowledged"),
    ]
    booked = [BookedEvent(position + 1, one) for one in said]
    world.book.apply(booked, [], expected=position, position=position + 1)
    return world.api("admin")


def test_an_incident_lists_its_members_and_the_ladder_says_who_is_due(incident: Api) -> None:
    found = explained(incident, "a_1")
    assert found["incident"]["id"] == "i_1"
    assert [(one["id"], one["severity"], one["page"]) for one in found["incident"]["members"]] == [
        ("a_1", "S1", True), ("a_2", "S2", False),
    ]  # fmt: skip
    assert found["ladder"] == {"level": 1, "role": "backup", "due": "2023-11-14T22:20:50Z"}
    assert found["resolves"] == "back at 93 % for 60 s"
    assert found["history"][-1]["words"] == "escalated, asks backup: nobody acknowledged"
    assert found["text"] == "low", "a step of the ladder says nothing new about the readings"
    listed = {one["id"]: one for one in incident.get("/alerts")["items"]}
    assert {one["incident"] for one in listed.values()} == {"i_1"}
    assert (listed["a_1"]["role"], listed["a_1"]["due"], listed["a_2"]["page"]) == (
        "backup", "2023-11-14T22:20:50Z", False,
    )  # fmt: skip
    # Nobody adopted the programme: what the alert says stands for the rule.
    assert found["rule"]["source"] == "the system"
    assert found["signal"] is None
