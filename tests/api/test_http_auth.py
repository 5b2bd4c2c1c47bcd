"""Tokens, roles, and the walk over every route."""

import re
from pathlib import Path
from typing import Any

import pytest

from dashboard_api.auth.access import GUARDED, ROLES, Permission, TokenAuth, local_admin, permissions_of
from tests.api.api_world import PROBLEM, START_NS, Api, Server, World
from tests.support import SECOND, FakeClock, eventually
from vitals.errors import BackendError, InvalidRequest

BESIDE = {"/healthz", "/readyz", "/metrics", "/schemas/x.json"}
DEVICE_SIDE = "/v1/devices/x/readings"
"""Passed on to the gateway, which asks for the device's own secret."""


def routes(world: World) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path with ids filled in, operation) of everything the OpenAPI document shows."""
    document = world.app.openapi()
    return [
        (method.upper(), re.sub(r"\{\w+\}", "x", path), operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_every_route_under_the_api_declares_a_permission(shared: World) -> None:
    found = routes(shared)
    assert len(found) >= 35
    for _, path, operation in found:
        if path in BESIDE or path == DEVICE_SIDE:
            assert "x-permission" not in operation
        else:
            assert path.startswith(GUARDED)
            assert operation["x-permission"] in set(Permission)
    assert {operation.get("x-permission") for _, path, operation in found} - {None} == set(Permission)


def test_no_route_answers_without_a_token(shared: World) -> None:
    client = shared.client()
    for method, path, _ in routes(shared):
        if path in BESIDE:
            assert client.request(method, path).status_code in {200, 404}
        if path in BESIDE or path == DEVICE_SIDE:
            continue
        for headers in ({}, {"Authorization": "Bearer vg_wrong"}, {"Authorization": "Basic dTpw"}):
            response = client.request(method, path, headers=headers, content=b"{")
            assert response.status_code == 401, (method, path)
            assert response.headers["content-type"] == PROBLEM
            assert response.headers["www-authenticate"] == "Bearer"


def test_no_route_answers_a_role_that_lacks_its_permission(shared: World) -> None:
    apis = {role: shared.api(role) for role in ROLES}
    refused = 0
    for method, path, operation in routes(shared):
        permission = operation.get("x-permission")
        for role, api in apis.items():
            if permission is None or permission in ROLES[role]:
                continue
            api.refused(method, path.removeprefix("/api/v1"), 403)
            refused += 1
    assert refused >= 25


def test_a_path_that_does_not_exist_needs_a_token_too(shared: World, api: Api) -> None:
    assert shared.client().get("/api/v1/nothing").status_code == 401
    api.refused("GET", "/nothing", 404)
    api.refused("DELETE", "/patients", 405)


class TestRoles:
    """interop.md 7.2."""

    def test_who_may_do_what(self) -> None:
        assert ROLES["admin"] == set(Permission)
        assert not ROLES["viewer"] & {permission for permission in Permission if not permission.endswith(":read")}
        assert ROLES["viewer"] < ROLES["clinician"] < ROLES["admin"]
        assert not ROLES["integrator"] & {Permission.PATIENTS_READ, Permission.VITALS_READ, Permission.STREAM_READ}
        assert Permission.DEVICES_WRITE in ROLES["integrator"]
        assert Permission.QUARANTINE_PAYLOAD not in ROLES["viewer"]

    def test_a_scope_narrows_a_role(self, shared: World) -> None:
        api = shared.api("clinician", "alerts:read devices:read")
        api.get("/alerts")
        api.get("/devices")
        api.refused("GET", "/patients", 403)
        assert permissions_of("viewer", "") == ROLES["viewer"]

    def test_a_scope_never_widens_one(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            permissions_of("viewer", "alerts:act")
        assert caught.value.field == "scope"


class TestTokens:
    def test_created_by_an_administrator_and_good_until_its_time(self, world: World) -> None:
        api = world.api("admin")
        token = api.post("/tokens", {"role": "viewer", "ttl_s": 60}, 201)["token"]
        assert token.startswith("vg_")
        viewer = Api(world.client(), token)
        viewer.get("/patients")
        world.clock.advance(59)
        viewer.get("/patients")
        world.clock.advance(1)
        viewer.refused("GET", "/patients", 401)

    def test_revoked(self, shared: World, api: Api) -> None:
        token = shared.auth.create("viewer")
        assert api.post("/tokens/revoke", {"token": token}) == {"revoked": True}
        Api(shared.client(), token).refused("GET", "/patients", 401)
        api.refused("POST", "/tokens/revoke", 404, json={"token": token})

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"role": "root"}, "role"),
            ({"role": "viewer", "scope": "everything"}, "scope"),
            ({"role": "viewer", "ttl_s": 0}, "ttl_s"),
            ({"role": "viewer", "ttl_s": 10**12}, "ttl_s"),
            ({"role": "viewer", "ttl_s": "60"}, "ttl_s"),
            ({"role": "viewer", "name": "x"}, "name"),
            ({}, "role"),
        ],
    )
    def test_refused(self, api: Api, body: object, field: str) -> None:
        api.refused("POST", "/tokens", 422, field, json=body)

    def test_nobody_grants_what_they_do_not_have(self, shared: World) -> None:
        narrow = shared.api("admin", "tokens:write patients:read")
        narrow.refused("POST", "/tokens", 403, json={"role": "admin"})
        narrow.post("/tokens", {"role": "viewer", "scope": "patients:read"}, 201)

    def test_only_hashes_are_at_rest(self, tmp_path: Path) -> None:
        auth = TokenAuth(tmp_path / "tokens.db", FakeClock(START_NS))
        token = auth.create("admin")
        found = auth.check(token)
        assert found is not None
        assert (found.role, found.expires_ns) == ("admin", START_NS + 30 * 86_400 * SECOND)
        assert found.name.startswith("admin:")
        assert token not in found.name
        auth.close()
        stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert token.encode() not in stored
        assert token.removeprefix("vg_").encode() not in stored

    def test_they_outlive_the_process(self, tmp_path: Path) -> None:
        first = TokenAuth(tmp_path / "tokens.db", FakeClock(START_NS))
        token = first.create("viewer", 60, "alerts:read")
        first.close()
        second = TokenAuth(tmp_path / "tokens.db", FakeClock(START_NS))
        principal = second.check(token)
        second.close()
        assert principal is not None
        assert principal.permissions == {Permission.ALERTS_READ}

    def test_lifetimes_are_bounded(self, shared: World) -> None:
        for ttl_s in (0, -1, 10**10):
            with pytest.raises(InvalidRequest):
                shared.auth.create("viewer", ttl_s)

    def test_no_database_is_a_503(self, world: World, tmp_path: Path) -> None:
        api = world.api("admin")
        (tmp_path / "folder").mkdir()
        with pytest.raises(BackendError) as caught:
            TokenAuth(tmp_path / "folder", world.clock)
        assert caught.value.retryable
        world.auth.close()
        for path in tmp_path.glob("tokens.db*"):
            path.unlink()
        (tmp_path / "tokens.db").mkdir()
        response = api.request("GET", "/patients")
        assert response.status_code == 503
        assert response.headers["retry-after"]


class TestControlSocket:
    def test_its_callers_are_the_local_administrator(self, shared: World) -> None:
        shared.client()
        local = Api(shared.serve(local_admin(shared.app)).client, None)
        assert local.post("/tokens", {"role": "admin"}, 201)["token"].startswith("vg_")
        assert local.get("/patients")["next"] is None

    def test_its_end_leaves_the_application_running(self, shared: World) -> None:
        api = shared.api("viewer")
        patient, _ = shared.worn()
        Server(local_admin(shared.app)).close()
        assert api.get(f"/patients/{patient}/latest")["items"] == []
        shared.evaluated(shared.read(patient, 97.0))
        eventually(lambda: api.get(f"/patients/{patient}/latest")["items"], what="a reading in the live view")

    def test_a_header_does_not_make_one_local(self, shared: World) -> None:
        response = shared.client().get("/api/v1/patients", headers={"vitalgate.principal": "local"})
        assert response.status_code == 401
