"""Backtests over HTTP: asked for, waited for, looked at; who may, and what is refused."""

from typing import Any

import pytest

from dashboard_api.dependencies import BacktestOrder
from deploy.backtest import desk
from tests.api.api_world import START_NS, Api, World
from tests.support import SECOND, eventually
from vitals.catalog import BY_KEY
from vitals.model import batch_from_rows

LIMIT = {"vital": "spo2", "unit": "%", "low": 90.0, "severity": "S2", "deadband": 2.0}
WELL = [95.0] * 15
"""Minutes after which a condition that comes back is an alert of its own."""
MINUTE = 60 * SECOND
FROM = "2023-11-14T20:00:00Z"
"""Two hours and some minutes before the world's clock."""


def fill(world: World, *values: float) -> str:
    """A patient with a saturation a minute, the first two hours ago."""
    patient = world.registry.add_patient(zone="UTC").id
    rows = [
        {
            "device": "d", "patient": patient, "vital": BY_KEY["spo2"].code, "value": value, "seq": n,
            "time_ns": START_NS - 120 * MINUTE + n * MINUTE, "received_ns": START_NS - 120 * MINUTE + n * MINUTE,
        }
        for n, value in enumerate(values)
    ]  # fmt: skip
    position = world.store.position()
    world.store.write([batch_from_rows(rows)], expected=position, position=position + 1)
    return patient


def finished(api: Api, body: dict[str, Any]) -> dict[str, Any]:
    """The backtest once it does not run any more."""
    begun = api.post("/backtests", body, status=202)
    assert (begun["state"], begun["result"]) == ("running", None)

    def over() -> Any:
        state = api.get(f"/backtests/{begun['backtest']}")
        return state if state["state"] != "running" else None

    found = eventually(over, within_s=60, what="backtest")
    assert isinstance(found, dict)
    return found


def test_limits_are_tried_against_those_in_force(world: World) -> None:
    api = world.api("clinician")
    patient = fill(world, 95, 89, *WELL, 85, 95)
    other = fill(world, 95, 95)
    api.request("PUT", f"/patients/{patient}/limits", json=[LIMIT])
    found = finished(api, {"protocol": [LIMIT | {"low": 88.0}], "from": FROM})
    assert (found["state"], found["progress"], found["error"]) == ("done", 1.0, None)
    result = found["result"]
    assert (result["start"], result["end"]) == (FROM, "2023-11-14T22:13:20Z")
    assert (result["candidate"]["alerts"], result["reference"]["alerts"]) == (1, 2)
    assert (result["reference"]["name"], result["compared"]["gone"]) == ("in force", 0)
    assert result["data"]["readings"] == 21
    assert [row["patient"] for row in result["patients"]] == [patient, other]
    where = f"/backtests/{found['backtest']}/timeline"
    whole = api.get(where)
    assert [(item["side"], item["raised"]) for item in whole["items"]] == [
        ("reference", "2023-11-14T20:14:20Z"), ("candidate", "2023-11-14T20:30:20Z"),
        ("reference", "2023-11-14T20:30:20Z"),
    ]  # fmt: skip
    assert whole["next"] is None
    first = api.get(where, limit=2)
    assert first["items"] + api.get(where, limit=2, cursor=first["next"])["items"] == whole["items"]
    assert api.get(where, match="gone") == api.get(where, patient=other) == {"items": [], "next": None}
    [listed] = api.get("/backtests")["items"]
    assert listed == found | {"result": None}


def test_patients_period_and_the_other_rules_can_be_chosen(world: World) -> None:
    api = world.api("admin")
    fill(world, 85, 95)
    patient = fill(world, 95, 85, 95, 85)
    body = {
        "protocol": [LIMIT], "against": [LIMIT | {"severity": "S1"}], "patients": [patient, patient],
        "from": FROM, "to": "2023-11-14T20:16:00Z",
    }  # fmt: skip
    result = finished(api, body)["result"]
    assert (result["data"]["patients"], result["data"]["readings"]) == (1, 3)
    assert (result["candidate"]["by_severity"]["S2"], result["reference"]["by_severity"]["S1"]) == (1, 1)
    assert finished(api, body | {"as_measured": True})["result"]["replayed"] == "as measured"


def test_what_is_wrong_is_refused_by_name(shared: World, api: Api) -> None:
    patient = shared.registry.add_patient().id

    def refused(field: str, status: int = 422, **changes: Any) -> str:
        body = {"protocol": [LIMIT], "patients": [patient]} | changes
        return str(api.refused("POST", "/backtests", status, field, json=body)["detail"])

    assert "does not measure" in refused("[0].unit", protocol=[LIMIT | {"unit": "mmol/L"}])
    refused("[0].low", against=[LIMIT | {"low": "x"}])
    refused("from", **{"from": "yesterday"})
    refused("from", **{"from": "2023-11-15T00:00:00Z"})
    assert "92 days" in refused("from", **{"from": "2023-01-01T00:00:00Z"})
    refused("unknown", unknown=1)
    api.refused("POST", "/backtests", 404, json={"protocol": [LIMIT], "patients": ["p_none"]})
    api.refused("GET", "/backtests/b_none", 404)
    api.refused("GET", "/backtests/b_none/timeline", 404)
    api.refused("GET", "/backtests/b_none/timeline", 422, "cursor", params={"cursor": "x"})
    assert api.get("/backtests")["items"] == []


def test_rights_are_those_of_limits(shared: World) -> None:
    body = {"protocol": [LIMIT], "patients": [shared.registry.add_patient().id]}
    for role in ("viewer", "integrator"):
        shared.api(role).refused("POST", "/backtests", 403, json=body)
    assert shared.api("viewer").get("/backtests")["items"] == []
    shared.api("integrator").refused("GET", "/backtests", 403)


def test_one_runs_at_a_time_and_the_last_few_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "KEPT", 2)
    api = world.api("admin")
    body = {"protocol": [LIMIT], "patients": [fill(world, 85, 95)]}
    begun = api.post("/backtests", body, status=202)
    api.refused("POST", "/backtests", 409, json=body)

    def over() -> bool:
        return bool(api.get(f"/backtests/{begun['backtest']}")["state"] == "done")

    eventually(over, within_s=60, what="first backtest")
    order = BacktestOrder("", [LIMIT], None, (), START_NS - MINUTE, START_NS, False)
    for _ in range(2):
        assert world.backtests.start(order) is not None
        eventually(lambda: world.backtests.states()[0]["state"] == "done", within_s=60, what="another backtest")
    assert len(api.get("/backtests")["items"]) == 2
    api.refused("GET", f"/backtests/{begun['backtest']}", 404)


def test_closing_ends_the_one_that_runs(world: World) -> None:
    order = BacktestOrder("", [LIMIT], None, (fill(world, 85, 95),), START_NS - 90 * 24 * 60 * MINUTE, START_NS, False)
    assert world.backtests.start(order) is not None
    world.backtests.close()
    assert world.backtests.states()[0]["state"] == "failed"
    assert world.backtests.start(order) is None
