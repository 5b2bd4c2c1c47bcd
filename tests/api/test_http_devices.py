"""Devices: enrolment, secrets, wearers, state, ledger."""

import json
from typing import Any

import pytest

from tests.api.api_world import START_NS, Api, World
from tests.support import SECOND
from vitals.canary import CANARY_DEVICE
from vitals.encoding import encode
from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Heartbeat

GOOD = b'{"vital":"spo2","value":97,"unit":"%","time":"2023-11-14T22:10:00Z","seq":1}'


def test_the_name_of_the_canary_cannot_be_taken(api: Api) -> None:
    refused = api.request("POST", "/devices", json={"adapter": "json", "id": CANARY_DEVICE})
    assert (refused.status_code, "reserved" in refused.text) == (422, True)


def test_enrolment_shows_the_secret_once(shared: World, api: Api) -> None:
    body = {"adapter": "json", "id": "oxi-1", "zone": "Europe/Vienna", "settings": {"clock": "wall"}}
    response = api.request("POST", "/devices", json=body)
    assert response.status_code == 201
    assert response.headers["location"] == "/api/v1/devices/oxi-1"
    made = response.json()
    assert set(made) == {"device", "secret", "cannot_page"}
    assert shared.registry.authenticate("oxi-1", made["secret"].encode())
    shown = api.get("/devices/oxi-1")
    assert shown == {
        "device": "oxi-1", "adapter": "json", "hub": False, "parent": None, "zone": "Europe/Vienna",
        "settings": {"clock": "wall"}, "created": "2023-11-14T22:13:20Z", "revoked": None, "last_seen": None,
        "last_measured": None, "online": None, "online_since": None, "online_by": None, "battery": None,
        "battery_low": None, "battery_reported": None, "expected_interval_s": None, "overdue": None, "faults": [],
        "patient": None, "clock": None, "cannot_page": [],
    }  # fmt: skip
    assert made["secret"] not in api.request("GET", "/devices").text


def test_a_source_that_cannot_page_says_so_where_it_is_enrolled_and_assigned(api: Api) -> None:
    reason = (
        "This source cannot page for interstitial glucose (CGM): its values are usually 60 min old when they arrive, "
        "and a value that is more than 15 min old pages nobody."
    )
    told = [{"vital": "glucose_isf", "delay_s": 3600.0, "paging_age_s": 900.0, "reason": reason}]
    device = api.post("/devices", {"adapter": "dexcom"}, 201)
    assert device["cannot_page"] == told
    patient = api.post("/patients", {"name": "Late Cloud"}, 201)["patient"]
    assert api.post(f"/devices/{device['device']}/assign", {"patient": patient})["cannot_page"] == told
    assert api.get(f"/devices/{device['device']}")["cannot_page"] == told
    meter = api.post("/devices", {"adapter": "nightscout"}, 201)
    assert meter["cannot_page"] == []


def test_a_hub_and_its_child(api: Api) -> None:
    hub = api.post("/devices", {"adapter": "json", "hub": True}, 201)["device"]
    child = api.post("/devices", {"adapter": "json", "parent": hub}, 201)["device"]
    assert api.get(f"/devices/{child}")["parent"] == hub
    api.refused("POST", "/devices", 422, "parent", json={"adapter": "json", "parent": child})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"adapter": "abacus"}, "adapter"),
        ({"id": "a/b"}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"hub": "yes"}, "hub"),
        ({"zone": "Nowhere"}, "zone"),
        ({"settings": {"a": 1}}, "settings.a"),
        ({"settings": {str(n): "" for n in range(65)}}, "settings"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_refused_enrolment(shared: World, api: Api, change: dict[str, Any], field: str) -> None:
    before = shared.registry.devices()
    problem = api.refused("POST", "/devices", 422, field, json={"adapter": "json"} | change)
    assert shared.registry.devices() == before
    if field == "adapter":
        assert "json" in problem["detail"]


def test_an_id_is_taken_once(api: Api) -> None:
    api.post("/devices", {"adapter": "json", "id": "taken"}, 201)
    api.refused("POST", "/devices", 422, "id", json={"adapter": "json", "id": "taken"})


def test_rotation_and_revocation(shared: World, api: Api) -> None:
    made = api.post("/devices", {"adapter": "json"}, 201)
    device = made["device"]
    rotated = api.post(f"/devices/{device}/rotate")
    assert rotated["device"] == device
    assert not shared.registry.authenticate(device, made["secret"].encode())
    assert shared.registry.authenticate(device, rotated["secret"].encode())
    assert api.post(f"/devices/{device}/revoke")["revoked"] == "2023-11-14T22:13:20Z"
    assert not shared.registry.authenticate(device, rotated["secret"].encode())


def test_rotation_with_an_overlap(shared: World, api: Api) -> None:
    made = api.post("/devices", {"adapter": "json"}, 201)
    rotated = api.post(f"/devices/{made['device']}/rotate", {"overlap_s": 60})
    for secret in (made["secret"], rotated["secret"]):
        assert shared.registry.authenticate(made["device"], secret.encode())
    api.refused("POST", f"/devices/{made['device']}/rotate", 422, "overlap_s", json={"overlap_s": 86_401})


def test_the_device_side_without_a_gateway_is_unavailable(shared: World) -> None:
    answer = shared.client().post("/v1/devices/d1/readings?adapter=json", content=b"x", auth=("d1", "x"))
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/ledger"), ("POST", "/rotate"), ("POST", "/revoke"), ("POST", "/assign")]
)
def test_unknown_device(shared: World, api: Api, method: str, path: str) -> None:
    arguments = {"json": {"patient": shared.registry.add_patient().id}} if path == "/assign" else {}
    api.refused(method, f"/devices/nobody{path}", 404, **arguments)


class TestAssign:
    def test_the_first_wearer_has_all_history(self, shared: World, api: Api) -> None:
        device = shared.registry.enrol("json")[0].id
        patient = shared.registry.add_patient(zone="Asia/Tokyo").id
        assert api.post(f"/devices/{device}/assign", {"patient": patient}) == {
            "device": device, "patient": patient, "from": None, "to": None, "zone": "Asia/Tokyo",
            "cannot_page": [],
        }  # fmt: skip
        assert api.get(f"/devices/{device}")["patient"] == patient

    def test_the_next_wearer_starts_now(self, world: World) -> None:
        api = world.api("clinician")
        first, device = world.worn()
        world.clock.advance(60)
        second = world.registry.add_patient().id
        assert api.post(f"/devices/{device}/assign", {"patient": second})["from"] == "2023-11-14T22:14:20Z"
        assert api.get(f"/patients/{first}/assignments")["items"][0]["to"] == "2023-11-14T22:14:20Z"
        assert api.get(f"/devices/{device}")["patient"] == second

    def test_with_dates_and_a_zone(self, shared: World, api: Api) -> None:
        device = shared.registry.enrol("json")[0].id
        patient = shared.registry.add_patient().id
        body = {"patient": patient, "from": "2023-01-01T00:00:00Z", "to": "2023-02-01T00:00:00Z", "zone": "Asia/Tokyo"}
        assert api.post(f"/devices/{device}/assign", body) == body | {"device": device, "cannot_page": []}
        assert api.get(f"/devices/{device}")["patient"] is None
        always = api.refused("POST", f"/devices/{device}/assign", 422, "from", json={"patient": patient, "from": None})
        assert "overlap" in always["detail"]

    @pytest.mark.parametrize(
        ("change", "status", "field"),
        [
            ({"patient": "p_none"}, 404, None),
            ({"from": "yesterday"}, 422, "from"),
            ({"to": "2023-11-14"}, 422, "to"),
            ({"from": "2023-02-01T00:00:00Z", "to": "2023-01-01T00:00:00Z"}, 422, "to"),
            ({"zone": "Nowhere"}, 422, "zone"),
            ({"from": 5}, 422, "from"),
            ({"who": "me"}, 422, "who"),
        ],
    )
    def test_refused(self, shared: World, api: Api, change: dict[str, Any], status: int, field: str | None) -> None:
        device = shared.registry.enrol("json")[0].id
        body = {"patient": shared.registry.add_patient().id} | change
        api.refused("POST", f"/devices/{device}/assign", status, field, json=body)
        assert shared.registry.assignments(device=device) == []


def present(world: World, device: str, kind: EventKind, seconds: int, detail: str) -> None:
    """Presence as the gateway tells it."""
    event = DeviceEvent(device, kind, START_NS + seconds * SECOND, detail)
    world.raw.append([("presence", encode([event]))])
    world.ingest.step()


def beat(world: World, *seconds: int) -> None:
    """Heartbeats of the gateway."""
    world.raw.append([("heartbeat", encode(Heartbeat(START_NS + at * SECOND))) for at in seconds])
    world.ingest.step()


def test_what_was_last_seen_of_a_device(shared: World, api: Api) -> None:
    _, device = shared.worn()
    shared.receive(device, GOOD)
    present(shared, device, EventKind.ONLINE, 0, "connected")
    present(shared, device, EventKind.OFFLINE, 60, "will, connection lost")
    shown = api.get(f"/devices/{device}")
    assert (shown["last_seen"], shown["last_measured"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:10:00Z")
    assert (shown["online"], shown["online_since"], shown["online_by"]) == (False, "2023-11-14T22:14:20Z", "will")
    assert (shown["expected_interval_s"], shown["overdue"]) == (48 * 3600, False)
    spare = shared.registry.enrol("json")[0].id
    shared.receive(spare, GOOD)
    shown = api.get(f"/devices/{spare}")
    assert shown["last_measured"] is not None
    assert (shown["expected_interval_s"], shown["overdue"]) == (None, None)


def test_the_history_of_a_device_is_newest_first_and_paged(shared: World, api: Api) -> None:
    _, device = shared.worn("ble_heart_rate")
    present(shared, device, EventKind.ONLINE, 0, "connected")
    shared.receive(device, b"\x04\x50", "ble_heart_rate", "2a37")
    fault = {"kind": "sensor_status", "detail": "no_contact", "vital": None, "first": "2023-11-14T22:13:20Z",
             "last": "2023-11-14T22:13:20Z", "count": 1, "value": None}  # fmt: skip
    assert api.get(f"/devices/{device}")["faults"] == [fault]
    shared.receive(device, b"\x06\x50", "ble_heart_rate", "2a37")
    assert api.get(f"/devices/{device}")["faults"] == []
    first = api.get(f"/devices/{device}/events", limit=3)
    rest = api.get(f"/devices/{device}/events", limit=3, cursor=first["next"])
    assert rest["next"] is None
    items = first["items"] + rest["items"]
    assert [one["kind"] for one in items] == ["fault_over", "fault", "sensor_status", "online"]
    assert items[-1] == {"id": items[-1]["id"], "device": device, "kind": "online", "time": "2023-11-14T22:13:20Z",
                         "detail": "connected", "value": None, "vital": None}  # fmt: skip
    api.refused("GET", f"/devices/{device}/events", 422, "cursor", params={"cursor": "x"})
    api.refused("GET", "/devices/nobody/events", 404)


def test_overdue_is_judged_by_processed_time(world: World) -> None:
    api = world.api("admin")
    device = api.post("/devices", {"adapter": "json", "expected_interval_s": 900}, 201)["device"]

    def overdue() -> Any:
        return api.get(f"/devices/{device}")["overdue"]

    assert overdue() is False
    world.clock.advance(3600)
    assert overdue() is False, "nothing was processed yet"
    beat(world, *range(0, 901, 30))
    assert overdue() is False
    beat(world, 901)
    assert overdue() is True, "it was never heard"
    time = "2023-11-14T22:28:20Z"
    world.receive(device, b'{"vital":"spo2","value":97,"unit":"%","time":"' + time.encode() + b'"}')
    assert overdue() is False
    beat(world, 5_000)
    assert overdue() is False, "the gateway was away"
    beat(world, *range(5_000, 5_931, 30))
    assert overdue() is True
    assert api.post(f"/devices/{device}", {"expected_interval_s": 7200}, method="PATCH")["overdue"] is False
    api.post(f"/devices/{device}/revoke")
    assert overdue() is None


def test_what_is_expected_of_a_device_can_be_changed(shared: World, api: Api) -> None:
    body = {"adapter": "json", "settings": {"clock": "wall"}, "battery_low_percent": 30.0}
    device = api.post("/devices", body, 201)["device"]
    path = f"/devices/{device}"
    assert api.get(path)["settings"] == {"clock": "wall", "battery_low_percent": "30"}
    changed = api.post(path, {"expected_interval_s": 900, "battery_low_percent": 12.5}, method="PATCH")
    assert changed["settings"] == {"clock": "wall", "battery_low_percent": "12.5", "expected_interval_s": "900"}
    assert changed["expected_interval_s"] == 900
    assert api.post(path, {"expected_interval_s": None}, method="PATCH")["expected_interval_s"] is None
    assert shared.registry.device(device).settings == {"clock": "wall", "battery_low_percent": "12.5"}
    changed = api.post(path, {"settings": {"clock": None, "patient": "ignore"}}, method="PATCH")
    assert changed["settings"] == {"battery_low_percent": "12.5", "patient": "ignore"}
    for change, field in [
        ({"expected_interval_s": 0}, "expected_interval_s"),
        ({"expected_interval_s": "15m"}, "expected_interval_s"),
        ({"battery_low_percent": 101}, "battery_low_percent"),
        ({"zone": "UTC"}, "zone"),
    ]:
        api.refused("PATCH", path, 422, field, json=change)
    api.refused("PATCH", "/devices/nobody", 404, json={})
    shared.api("viewer").refused("PATCH", path, 403, json={})


def test_unknown_codes_of_devices(world: World) -> None:
    api = world.api("clinician")
    assert api.get("/unknown-codes") == {"items": [], "next": None}
    device = world.registry.enrol("hl7v2")[0].id
    message = (
        b"MSH|^~\\&|MON|W|||20231114221320+0000||ORU^R01^ORU_R01|1|P|2.6\rPID|||P1\rOBR|1\r"
        b"OBX|1|NM|108^x^99MNDRY||3|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R\r"
    )
    world.receive(device, message, adapter="hl7v2", kind="oru_r01")
    world.stored()
    (one,) = api.get("/unknown-codes")["items"]
    assert one == {
        "id": one["id"], "device": device, "adapter": "hl7v2", "kind": "unknown_code",
        "code": "99MNDRY:108 in mdc:264864", "count": 1, "first": "2023-11-14T22:13:20Z",
        "last": "2023-11-14T22:13:20Z", "samples": [3.0],
    }  # fmt: skip
    assert api.get(f"/unknown-codes?device={device}")["items"] == [one]
    api.refused("GET", "/unknown-codes?device=nobody", 404)


def test_ledger_accounts_for_every_message_and_reading(shared: World, api: Api) -> None:
    _, device = shared.worn()
    zeros = api.get(f"/devices/{device}/ledger")
    assert zeros["messages"]["received"] == 0
    for payload in (GOOD, GOOD, b"\x00not json"):
        shared.receive(device, payload)
    shared.stored()
    ledger = api.get(f"/devices/{device}/ledger")
    assert ledger["device"] == device
    messages, readings = ledger["messages"], ledger["readings"]
    assert messages["received"] == 3
    assert messages["quarantined"] == 1
    assert messages["received"] == sum(messages[key] for key in ("decoded", "duplicate", "quarantined", "in_flight"))
    assert readings["stored"] == 1
    assert readings["emitted"] == sum(
        readings[key] for key in ("stored", "duplicate", "revision", "unassigned", "in_flight")
    )
    total = api.get("/system")["ledger"]
    assert total["device"] == "*"
    assert total["messages"]["received"] >= 3
    assert total["messages"]["received"] == sum(one.messages.received for one in shared.ingest.ledgers())


def test_pages_of_devices(world: World) -> None:
    api = world.api("integrator")
    for number in range(3):
        world.registry.enrol("json", device=f"d{number}")
    first = api.get("/devices", limit=2)
    assert [item["device"] for item in first["items"]] == ["d0", "d1"]
    rest = api.get("/devices", limit=2, cursor=first["next"])
    assert [item["device"] for item in rest["items"]] == ["d2"]
    assert rest["next"] is None


def test_a_wearer_is_shown_while_the_device_is_worn(world: World) -> None:
    api = world.api("viewer")
    patient = world.registry.add_patient().id
    device = world.registry.enrol("json")[0].id
    world.registry.assign(device, patient, from_ns=START_NS + SECOND, to_ns=START_NS + 3 * SECOND)
    seen = []
    for _ in range(4):
        seen.append(api.get(f"/devices/{device}")["patient"])
        world.clock.advance(1)
    assert seen == [None, patient, patient, None]


def test_a_second_secret_for_a_short_time(shared: World, api: Api) -> None:
    made = api.post("/devices", {"adapter": "json"}, 201)
    granted = api.post(f"/devices/{made['device']}/grant", {"ttl_s": 60})
    assert granted["device"] == made["device"]
    for secret in (made["secret"], granted["secret"]):
        assert shared.registry.authenticate(made["device"], secret.encode())
    api.refused("POST", f"/devices/{made['device']}/grant", 422, "ttl_s", json={"ttl_s": 86_401})
    api.refused("POST", "/devices/nobody/grant", 404, json={"ttl_s": 60})


def test_a_clock_that_is_ahead_is_shown_with_what_it_was_learned_from_and_can_be_taken_back(
    shared: World, api: Api
) -> None:
    _, device = shared.worn()
    assert api.get(f"/devices/{device}/clock")["arrivals"] == []
    api.refused("POST", f"/devices/{device}/clock/undo", 422, "device", json={"reason": "nothing there"})
    for minute in (0, 5, 10):
        payload = {"vital": "spo2", "value": 97, "unit": "%", "time": (START_NS + (minute + 20) * 60 * SECOND) // 10**6}
        received_ns = START_NS + minute * 60 * SECOND
        shared.receive(device, json.dumps(payload).encode(), received_ns=received_ns)
    shown = api.get(f"/devices/{device}/clock")
    assert shown == {
        "ahead_s": 1200.0, "since": "2023-11-14T22:23:20Z", "corrects": True, "zone_hours": None,
        "arrivals": [
            {"received": f"2023-11-14T22:{minute}:20Z", "ahead_s": 1200.0} for minute in (13, 18, 23)
        ],
        "undone_by": None, "undone": None, "reason": None,
    }  # fmt: skip
    assert api.get(f"/devices/{device}")["clock"] == shown
    api.refused("POST", f"/devices/{device}/clock/undo", 422, "reason", json={"reason": ""})
    undone = api.post(f"/devices/{device}/clock/undo", {"reason": "the cuff shows another zone"})
    assert (undone["ahead_s"], undone["corrects"], undone["reason"]) == (None, False, "the cuff shows another zone")
    assert api.get(f"/devices/{device}/clock") == undone
    assert undone["undone_by"]
