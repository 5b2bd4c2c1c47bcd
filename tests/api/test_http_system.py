"""The state of the system and what stands beside the API."""

from ingest.adapters.hubs.json_schema import json_reading_schema
from tests.api.api_world import Api, World


def test_system_says_how_far_alerts_are_evaluated(world: World) -> None:
    api = world.api("viewer")
    before = api.get("/system")
    assert before["evaluated_to"] is None
    assert before["rates"] == {"messages_per_s": 0.0}
    assert before["ledger"]["readings"] == dict.fromkeys(
        ("emitted", "stored", "duplicate", "revision", "unassigned", "in_flight"), 0
    )
    world.evaluated(world.tick(5))
    assert api.get("/system")["evaluated_to"] == "2023-11-14T22:13:25Z"


def test_readiness_gives_reasons(world: World) -> None:
    client = world.client()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    world.reasons.append("log_not_writable")
    waiting = client.get("/readyz")
    assert (waiting.status_code, waiting.json()) == (503, {"ready": False, "reasons": ["log_not_writable"]})
    assert client.get("/healthz").status_code == 200


def test_the_schema_of_json_readings_is_published(shared: World) -> None:
    client = shared.client()
    response = client.get("/schemas/json-reading.json")
    assert (response.status_code, response.json()) == (200, json_reading_schema())
    assert response.json()["$id"] == "/schemas/json-reading.json"
    unknown = client.get("/schemas/other.json")
    assert (unknown.status_code, unknown.json()["status"]) == (404, 404)


def test_metrics_are_prometheus_text_without_ids(shared: World) -> None:
    patient, device = shared.worn()
    shared.receive(device, b'{"vital":"spo2","value":97,"unit":"%","time":"2023-11-14T22:10:00Z","seq":1}')
    response = shared.client().get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'vitalgate_messages_total{adapter="json"' in response.text
    assert device not in response.text
    assert patient not in response.text


def test_the_document_names_the_routes_of_the_contract(shared: World) -> None:
    document = shared.client().get("/openapi.json").json()
    below = {path.removeprefix("/api/v1/") for path in document["paths"] if path.startswith("/api/v1/")}
    assert below >= {
        "patients", "patients/{patient}", "patients/{patient}/status", "patients/{patient}/latest",
        "patients/{patient}/readings", "patients/{patient}/assignments", "patients/{patient}/limits", "devices",
        "devices/{device}", "devices/{device}/ledger", "devices/{device}/rotate", "devices/{device}/revoke",
        "devices/{device}/assign", "alerts", "alerts/{alert}", "alerts/{alert}/acknowledge", "alerts/{alert}/shelve",
        "alerts/{alert}/note", "alerts/{alert}/resolve", "alerts/{alert}/events", "quarantine", "quarantine/{item}",
        "quarantine/replay", "unassigned", "stream", "system", "tokens", "latest",
        "trends", "patients/{patient}/limits/history",
    }  # fmt: skip
    idents = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(idents) == len(set(idents))


def test_no_page_pulls_scripts_from_elsewhere(shared: World, api: Api) -> None:
    for path in ("/docs", "/redoc"):
        assert shared.client().get(path).status_code == 404
    api.refused("GET", "/docs", 404)
