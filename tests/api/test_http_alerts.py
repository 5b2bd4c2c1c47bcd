"""Alerts: the list and its filters, one with its events, and what people do."""

from typing import Any

import pytest

from tests.api.api_world import Api, World, limit

FIELDS = {
    "id", "patient", "rule", "rule_version", "severity", "state", "raised", "updated", "values", "limit", "quality",
    "text", "owner", "incident", "page", "level", "role", "due", "resolves",
}  # fmt: skip


@pytest.fixture
def alert(shared: World) -> str:
    """An S2 alert of a patient of its own."""
    return shared.alert(shared.worn()[0])


def test_an_alert_says_what_and_why(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    ident = shared.alert(patient, value=84.0)
    shown = api.get(f"/alerts/{ident}")
    assert set(shown) == FIELDS | {"events"}
    assert (shown["patient"], shown["severity"], shown["state"]) == (patient, "S2", "active_unack")
    assert shown["values"] == [{"vital": "spo2", "value": 84.0, "unit": "%", "time": "2023-11-14T22:13:20Z"}]
    assert shown["raised"] == shown["updated"] == "2023-11-14T22:13:21Z"
    assert shown["rule_version"] == 1
    assert "84" in shown["text"]
    assert shown["owner"] is None
    assert shown["events"] == api.get(f"/alerts/{ident}/events")["items"]
    assert [(event["number"], event["kind"], event["at"]) for event in shown["events"]] == [
        (0, "raised", "2023-11-14T22:13:21Z")
    ]
    (listed,) = api.get("/alerts", patient=patient)["items"]
    assert listed == {key: value for key, value in shown.items() if key != "events"}


class TestLists:
    def test_filters(self, world: World) -> None:
        api = world.api("clinician")
        first, second = world.worn()[0], world.worn()[0]
        urgent = world.alert(first, severity="S1")
        minor = world.alert(second, severity="S3")
        api.post(f"/alerts/{urgent}/acknowledge")

        def found(**params: Any) -> set[str]:
            return {item["id"] for item in api.get("/alerts", **params)["items"]}

        assert found() == {urgent, minor}
        assert found(severity="S1") == {urgent}
        assert found(state="active_unack") == {minor}
        assert found(state=["active_unack", "active_ack"]) == {urgent, minor}
        assert found(patient=second) == {minor}
        assert found(patient=second, severity="S1") == set()
        assert found(patient="p_none") == set()

    def test_newest_first_in_pages(self, world: World) -> None:
        api = world.api("viewer")
        made = []
        for number in range(5):
            made.append(world.alert(world.worn()[0], start_s=60.0 * number))
        pages, cursor = [], ""
        while cursor is not None:
            page = api.get("/alerts", limit=2, cursor=cursor)
            pages.append([item["id"] for item in page["items"]])
            cursor = page["next"]
        newest = made[::-1]
        assert pages == [newest[:2], newest[2:4], newest[4:]]

    @pytest.mark.parametrize(
        ("params", "field"),
        [
            ({"state": "loud"}, "state.0"),
            ({"severity": "1"}, "severity"),
            ({"limit": "0"}, "limit"),
            ({"p": "x"}, "p"),
            ({"cursor": "a_none"}, "cursor"),
        ],
    )
    def test_refused(self, api: Api, params: dict[str, str], field: str) -> None:
        api.refused("GET", "/alerts", 422, field, params=params)


class TestActs:
    def test_acknowledging_takes_the_alert(self, shared: World, alert: str) -> None:
        clinician = shared.api("clinician")
        taken = clinician.post(f"/alerts/{alert}/acknowledge", {"note": "on my way"})
        assert taken["state"] == "active_ack"
        assert taken["owner"].startswith("clinician:")
        last = taken["events"][-1]
        assert (last["kind"], last["note"], last["author"]) == ("acknowledged", "on my way", taken["owner"])
        again = clinician.post(f"/alerts/{alert}/acknowledge")
        assert again == taken

    def test_two_people_have_two_names(self, shared: World, api: Api, alert: str) -> None:
        one = api.post(f"/alerts/{alert}/note", {"note": "a"})["events"][-1]["author"]
        other = shared.api("clinician").post(f"/alerts/{alert}/note", {"note": "b"})["events"][-1]["author"]
        assert one != other

    def test_a_note_changes_nothing_else(self, api: Api, alert: str) -> None:
        noted = api.post(f"/alerts/{alert}/note", {"note": "called"})
        assert noted["state"] == "active_unack"
        assert [event["note"] for event in noted["events"]] == [None, "called"]
        assert noted["values"]

    def test_resolved_by_a_person(self, api: Api, alert: str) -> None:
        closed = api.post(f"/alerts/{alert}/resolve", {"note": "probe was off"})
        assert closed["state"] == "resolved"
        assert closed["events"][-1]["note"] == "probe was off"
        assert api.post(f"/alerts/{alert}/acknowledge")["state"] == "resolved"
        api.refused("POST", f"/alerts/{alert}/note", 422, json={"note": "late"})

    @pytest.mark.parametrize("until", [{"minutes": 30}, {"until": "2023-11-14T22:43:20Z"}])
    def test_shelved_for_a_time(self, api: Api, alert: str, until: dict[str, Any]) -> None:
        shelved = api.post(f"/alerts/{alert}/shelve", {"reason": "physiotherapy"} | until)
        assert shelved["state"] == "shelved"
        assert shelved["events"][-1]["note"] == "physiotherapy"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"minutes": 30}, "reason"),
            ({"minutes": 30, "reason": ""}, "reason"),
            ({"reason": "r"}, "until"),
            ({"minutes": 30, "until": "2023-11-14T22:43:20Z", "reason": "r"}, "until"),
            ({"minutes": 0, "reason": "r"}, "minutes"),
            ({"minutes": 1.5, "reason": "r"}, "minutes"),
            ({"minutes": 24 * 60 + 1, "reason": "r"}, "minutes"),
            ({"minutes": 10**30, "reason": "r"}, "minutes"),
            ({"until": "2023-11-14T22:13:20Z", "reason": "r"}, "until"),
            ({"until": "2023-11-16T22:13:20Z", "reason": "r"}, "until"),
            ({"until": "later", "reason": "r"}, "until"),
        ],
    )
    def test_refused_shelves(self, api: Api, alert: str, body: object, field: str) -> None:
        api.refused("POST", f"/alerts/{alert}/shelve", 422, field, json=body)
        assert api.get(f"/alerts/{alert}")["state"] == "active_unack"

    def test_high_priority_is_shelved_for_an_hour_at_most(self, shared: World, api: Api) -> None:
        urgent = shared.alert(shared.worn()[0], severity="S1")
        api.refused("POST", f"/alerts/{urgent}/shelve", 422, "minutes", json={"minutes": 61, "reason": "r"})
        assert api.post(f"/alerts/{urgent}/shelve", {"minutes": 60, "reason": "r"})["state"] == "shelved"

    def test_a_resolved_alert_is_not_shelved(self, api: Api, alert: str) -> None:
        api.post(f"/alerts/{alert}/resolve")
        api.refused("POST", f"/alerts/{alert}/shelve", 422, "alert", json={"minutes": 5, "reason": "r"})

    @pytest.mark.parametrize(
        ("act", "body"),
        [
            ("acknowledge", {"note": 5}),
            ("acknowledge", {"nte": "x"}),
            ("note", {}),
            ("note", {"note": ""}),
            ("note", {"note": "a\0b"}),
            ("note", {"note": "x" * 2001}),
            ("resolve", {"why": "x"}),
        ],
    )
    def test_refused_remarks(self, api: Api, alert: str, act: str, body: object) -> None:
        api.refused("POST", f"/alerts/{alert}/{act}", 422, json=body)

    @pytest.mark.parametrize("act", ["acknowledge", "note", "resolve", "shelve"])
    def test_unknown_alert(self, api: Api, act: str) -> None:
        body = {"note": {"note": "x"}, "shelve": {"minutes": 5, "reason": "r"}}.get(act)
        api.refused("POST", f"/alerts/a_none/{act}", 404, json=body)


def test_unknown_alert(api: Api) -> None:
    api.refused("GET", "/alerts/a_none", 404)
    api.refused("GET", "/alerts/a_none/events", 404)


def test_an_engine_that_does_not_keep_up_is_a_503(world: World) -> None:
    api = world.api("admin")
    patient = world.registry.add_patient().id
    world.stop_engine()
    response = api.request("PUT", f"/patients/{patient}/limits", json=[limit()])
    assert response.status_code == 503
    assert response.headers["retry-after"]
