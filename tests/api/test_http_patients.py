"""Patients: identity, status, assignments, limits."""

from pathlib import Path
from typing import Any

import pytest

from tests.api.api_world import START_NS, Api, World, limit
from tests.support import SECOND

JANE = {"name": "Jane Dóe", "birth_date": "1950-12-31", "mrn": "MRN-1", "zone": "Europe/Vienna", "condition": "copd"}


def test_onboarding_shows_the_whole_record(api: Api) -> None:
    response = api.request("POST", "/patients", json=JANE)
    assert response.status_code == 201
    made = response.json()
    assert made == JANE | {"patient": made["patient"], "status": "active", "created": "2023-11-14T22:13:20Z"}
    assert made["patient"].startswith("p_")
    assert response.headers["location"] == f"/api/v1/patients/{made['patient']}"
    assert response.headers["cache-control"] == "no-store"
    assert api.get(f"/patients/{made['patient']}") == made
    assert made in api.get("/patients", limit=1000)["items"]


def test_only_a_name_is_needed(api: Api) -> None:
    made = api.post("/patients", {"name": "X"}, 201)
    assert [made[key] for key in ("birth_date", "mrn", "zone", "condition")] == [None] * 4


def test_a_patient_of_whom_the_vault_knows_nothing(shared: World, api: Api) -> None:
    token = shared.registry.add_patient().id
    assert api.get(f"/patients/{token}")["name"] is None
    assert api.post(f"/patients/{token}", {"mrn": "7"}, method="PATCH")["mrn"] == "7"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": None}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"birth_date": "31.12.1950"}, "birth_date"),
        ({"birth_date": "1950-02-30"}, "birth_date"),
        ({"birth_date": "2023-11-16"}, "birth_date"),
        ({"mrn": ""}, "mrn"),
        ({"mrn": "a\0b"}, "mrn"),
        ({"name": "a\nb"}, "name"),
        ({"zone": "Nowhere/Land"}, "zone"),
        ({"condition": "x" * 65}, "condition"),
        ({"status": "paused"}, "status"),
    ],
)
def test_what_is_refused_is_named_and_leaves_nothing(
    shared: World, api: Api, change: dict[str, Any], field: str
) -> None:
    before = len(shared.registry.patients())
    api.refused("POST", "/patients", 422, field, json={"name": "A"} | change)
    assert len(shared.registry.patients()) == before
    patient = api.post("/patients", {"name": "A"}, 201)
    api.refused("PATCH", f"/patients/{patient['patient']}", 422, field, json=change)
    assert api.get(f"/patients/{patient['patient']}") == patient


def test_born_today_east_of_greenwich(api: Api) -> None:
    api.post("/patients", {"name": "A", "birth_date": "2023-11-15"}, 201)


def test_changes_are_partial(api: Api) -> None:
    path = f"/patients/{api.post('/patients', JANE, 201)['patient']}"
    assert api.post(path, {"condition": "chf"}, method="PATCH")["condition"] == "chf"
    changed = api.post(path, {"name": "Jane Roe", "birth_date": None, "zone": "Asia/Tokyo"}, method="PATCH")
    assert (changed["name"], changed["birth_date"], changed["mrn"]) == ("Jane Roe", None, "MRN-1")
    assert (changed["zone"], changed["condition"]) == ("Asia/Tokyo", "chf")
    assert api.post(path, {}, method="PATCH") == changed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("PATCH", ""), ("GET", "/status"), ("PUT", "/status"), ("POST", "/status"), ("GET", "/latest"),
        ("GET", "/readings?vital=spo2"), ("GET", "/assignments"), ("GET", "/limits"), ("PUT", "/limits"),
        ("GET", "/limits/history"),
    ],
)  # fmt: skip
def test_unknown_patient(api: Api, method: str, path: str) -> None:
    body: Any = {"status": "paused"} if path == "/status" else [] if path == "/limits" else {}
    arguments = {} if method == "GET" else {"json": body}
    api.refused(method, f"/patients/p_none{path}", 404, **arguments)


def test_pages_follow_the_cursor(world: World) -> None:
    api = world.api("viewer")
    made = [world.registry.add_patient().id for _ in range(5)]
    pages = []
    cursor = ""
    while True:
        page = api.get("/patients", limit=2, cursor=cursor)
        pages.append([item["patient"] for item in page["items"]])
        if page["next"] is None:
            break
        cursor = page["next"]
    assert pages == [made[:2], made[2:4], made[4:]]
    assert api.get("/patients", limit=5)["next"] is None
    api.refused("GET", "/patients", 422, "cursor", params={"cursor": "p_none"})
    for wrong in ("0", "1001", "x"):
        api.refused("GET", "/patients", 422, "limit", params={"limit": wrong})


class TestStatus:
    def test_history_by_time(self, api: Api) -> None:
        path = f"/patients/{api.post('/patients', {'name': 'A'}, 201)['patient']}"
        later = api.post(f"{path}/status", {"status": "discharged", "from": "2023-12-01T00:00:00+01:00"}, method="PUT")
        assert later["status"] == "active"
        assert api.get(f"{path}/status") == {
            "items": [
                {"status": "active", "from": "2023-11-14T22:13:20Z", "to": "2023-11-30T23:00:00Z"},
                {"status": "discharged", "from": "2023-11-30T23:00:00Z", "to": None},
            ],
            "next": None,
        }
        assert api.post(f"{path}/status", {"status": "paused"})["status"] == "paused"

    @pytest.mark.parametrize(
        ("body", "field"),
        [({"status": "asleep"}, "status"), ({"status": "paused", "from": "now"}, "from"), ({}, "status")],
    )
    def test_refused(self, shared: World, api: Api, body: object, field: str) -> None:
        patient = shared.registry.add_patient().id
        api.refused("PUT", f"/patients/{patient}/status", 422, field, json=body)


def test_assignments_over_time(shared: World, api: Api) -> None:
    patient, device = shared.worn()
    shared.registry.assign(device, shared.registry.add_patient().id, from_ns=START_NS + SECOND, to_ns=None)
    assert api.get(f"/patients/{patient}/assignments")["items"] == [
        {"device": device, "patient": patient, "from": None, "to": "2023-11-14T22:13:21Z", "zone": "Europe/Berlin"}
    ]


class TestLimits:
    def test_in_force_when_the_answer_comes(self, shared: World, api: Api) -> None:
        patient = shared.registry.add_patient().id
        empty = api.request("GET", f"/patients/{patient}/limits")
        assert (empty.json(), empty.headers["etag"]) == ([], '"0"')
        first = api.request("PUT", f"/patients/{patient}/limits?reason=admission", json=[limit()])
        assert first.status_code == 200
        assert first.json() == [limit()]
        assert first.headers["etag"] == '"1"'
        assert api.get(f"/patients/{patient}/limits") == [limit()]
        history = shared.book.limits_history(patient)
        assert (history[0].reason, history[0].author[:6]) == ("admission", "admin:")
        assert api.post(f"/patients/{patient}/limits", [], method="PUT") == []
        assert api.request("GET", f"/patients/{patient}/limits").headers["etag"] == '"2"'

    def test_history_is_what_a_chart_draws(self, world: World) -> None:
        api = world.api("admin")
        patient = world.registry.add_patient().id
        glucose = limit(vital="glucose_isf", unit="mmol/L", low=3.9, high=None, severity="S1", deadband=0.2)
        api.request("PUT", f"/patients/{patient}/limits?reason=admission", json=[limit()])
        world.clock.advance(3600)
        world.limits(patient, glucose, api=api)
        newest, first = api.get(f"/patients/{patient}/limits/history")["items"]
        assert (first["version"], first["set"], first["reason"]) == (1, "2023-11-14T22:13:20Z", "admission")
        assert first["limits"] == [{"vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S2"}]
        assert (newest["version"], newest["set"], newest["reason"]) == (2, "2023-11-14T23:13:20Z", None)
        [drawn] = newest["limits"]
        assert (drawn["unit"], drawn["low"]) == ("mg/dL", pytest.approx(70.27, abs=0.01))

    @pytest.mark.parametrize(
        "changes",
        [
            {"vital": "mood"}, {"unit": "mm[Hg]"}, {"low": "90"}, {"severity": "S4"}, {"deadband": -1.0},
            {"colour": "red"}, {"low": None}, {"low": 95.0, "high": 90.0},
        ],
    )  # fmt: skip
    def test_refused_limits_change_nothing(self, shared: World, api: Api, changes: dict[str, Any]) -> None:
        patient = shared.registry.add_patient().id
        problem = api.refused("PUT", f"/patients/{patient}/limits", 422, json=[limit(**changes)])
        assert problem["field"]
        assert api.get(f"/patients/{patient}/limits") == []

    @pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
    def test_a_limit_is_a_number(self, shared: World, api: Api, word: bytes) -> None:
        patient = shared.registry.add_patient().id
        body = b'[{"vital":"spo2","unit":"%","severity":"S2","low":' + word + b"}]"
        headers = {"Content-Type": "application/json"}
        api.refused("PUT", f"/patients/{patient}/limits", 422, content=body, headers=headers)

    def test_a_body_that_is_no_list(self, shared: World, api: Api) -> None:
        patient = shared.registry.add_patient().id
        api.refused("PUT", f"/patients/{patient}/limits", 422, json={"limits": []})
        api.refused("PUT", f"/patients/{patient}/limits", 422, json=[3])


def test_identities_stay_in_the_vault(world: World, tmp_path: Path) -> None:
    api = world.api("admin")
    secret = {"name": "Zebulon Quux", "birth_date": "1931-03-03", "mrn": "MRN-778899"}
    patient = api.post("/patients", secret, 201)["patient"]
    world.alert(patient)
    world.stored()
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for word in secret.values():
        assert word.encode() not in stored
