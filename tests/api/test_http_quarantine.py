"""What could not be decoded, and what belongs to nobody yet."""

import base64

import pytest

from tests.api.api_world import Api, World

BAD = b"\x00\x01not json"
GOOD = b'{"vital":"spo2","value":97,"unit":"%","time":"2023-11-14T22:10:00Z","seq":1}'


def test_items_keep_bytes_reason_and_version(shared: World, api: Api) -> None:
    _, device = shared.worn()
    shared.receive(device, BAD)
    item = next(item for item in api.get("/quarantine", limit=1000)["items"] if item["device"] == device)
    assert set(item) == {
        "id", "device", "adapter", "adapter_version", "kind", "reason", "detail", "received", "size",
    }  # fmt: skip
    assert (item["adapter"], item["reason"], item["size"]) == ("json", "malformed", len(BAD))
    assert item["received"] == "2023-11-14T22:13:20Z"
    whole = api.get(f"/quarantine/{item['id']}")
    assert base64.b64decode(whole.pop("payload_base64")) == BAD
    assert whole == item


def test_bytes_have_a_permission_of_their_own(shared: World, api: Api) -> None:
    shared.receive(shared.worn()[1], BAD)
    item = api.get("/quarantine")["items"][0]["id"]
    viewer = shared.api("viewer")
    viewer.get("/quarantine")
    viewer.refused("GET", f"/quarantine/{item}", 403)
    viewer.refused("POST", "/quarantine/replay", 403, json={"id": item})


def test_pages(world: World) -> None:
    api = world.api("integrator")
    _, device = world.worn()
    for number in range(5):
        world.receive(device, BAD + bytes([number]))
    pages, cursor = [], ""
    while cursor is not None:
        page = api.get("/quarantine", limit=2, cursor=cursor)
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert len({ident for page in pages for ident in page}) == 5


class TestReplay:
    def test_counts_per_outcome(self, world: World) -> None:
        api = world.api("integrator")
        _, device = world.worn()
        world.receive(device, GOOD, adapter="later")
        world.receive(device, BAD)
        reasons = {item["reason"]: item["id"] for item in api.get("/quarantine")["items"]}
        assert set(reasons) == {"unknown_adapter", "malformed"}
        assert api.post("/quarantine/replay", {"id": reasons["malformed"]}) == {
            "decoded": 0, "duplicate": 0, "quarantined": 1,
        }  # fmt: skip
        assert api.post("/quarantine/replay", {"reason": "unknown_adapter"})["quarantined"] == 1
        assert api.post("/quarantine/replay", {"adapter": "json"})["quarantined"] == 1
        assert api.post("/quarantine/replay", {"adapter": "nothing"}) == {
            "decoded": 0, "duplicate": 0, "quarantined": 0,
        }  # fmt: skip
        assert api.post("/quarantine/replay", {})["quarantined"] == 2
        assert len(api.get("/quarantine")["items"]) == 2

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"reason": "bad luck"}, "reason"),
            ({"id": "1", "adapter": "json"}, "id"),
            ({"ident": "1"}, "ident"),
            ({"id": 1}, "id"),
        ],
    )
    def test_refused(self, api: Api, body: object, field: str) -> None:
        api.refused("POST", "/quarantine/replay", 422, field, json=body)

    def test_unknown_item(self, api: Api) -> None:
        api.refused("POST", "/quarantine/replay", 404, json={"id": "999999"})
        api.refused("GET", "/quarantine/999999", 404)
        api.refused("GET", "/quarantine/x", 404)


def test_readings_that_wait_for_a_wearer(shared: World, api: Api) -> None:
    device = shared.registry.enrol("json")[0].id
    shared.receive(device, GOOD)
    (item,) = [item for item in api.get("/unassigned", limit=1000)["items"] if item["device"] == device]
    assert set(item) == {"id", "device", "readings", "reason", "first", "last", "received"}
    assert item["readings"] == 1
    assert item["first"] == item["last"] == "2023-11-14T22:10:00Z"
    assert item["reason"]
