"""Every failure is a problem document that says what is wrong and repeats nothing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dashboard_api.app import create_app
from tests.api.api_world import Api, World
from vitals.errors import BackendError, NotAuthorised


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b'"x"', b"\xff\xfe", b"[" * 20_000, b"null"],
    ids=["empty", "cut", "array", "number", "string", "bytes", "deep", "null"],
)
def test_a_body_that_is_no_object(api: Api, content: bytes) -> None:
    response = api.request("POST", "/patients", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"


def test_unknown_members_are_named(api: Api) -> None:
    problem = api.refused("POST", "/patients", 422, "nmae", json={"name": "A", "nmae": "B"})
    assert problem["errors"] == [{"field": "nmae", "problem": "Extra inputs are not permitted"}]


def test_values_are_not_repeated(api: Api) -> None:
    text = api.request("POST", "/patients", json={"name": 12345678, "mrn": "9" * 99}).text
    assert "12345678" not in text
    assert "9" * 99 not in text


def test_unknown_parameters_are_named(api: Api) -> None:
    api.refused("GET", "/alerts", 422, "sate", params={"sate": "active_unack"})
    api.refused("GET", "/patients", 422, "page", params={"page": "2"})


def test_a_lone_surrogate_is_no_text(api: Api) -> None:
    body = b'{"name": "\\ud800"}'
    response = api.request("POST", "/patients", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422


def test_bodies_over_a_mebibyte(api: Api) -> None:
    name = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    whole = api.request("POST", "/patients", content=name, headers=headers)
    assert whole.status_code == 413
    assert whole.headers["content-type"] == "application/problem+json"

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(name), 65_536):
            yield name[start : start + 65_536]

    assert api.request("POST", "/patients", content=chunks(), headers=headers).status_code == 413
    api.get("/patients")


def test_paths_and_methods(api: Api) -> None:
    assert api.refused("GET", "/patients/p_none", 404)["detail"] == "no such patient"
    api.refused("PUT", "/patients", 405)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (BackendError("disk full", retryable=True), 503, {"retry-after": "2"}),
        (BackendError("secret path", retryable=False), 500, {}),
        (RuntimeError("secret path"), 500, {}),
        (NotAuthorised("not yours"), 403, {}),
    ],
)
def test_what_fails_behind_the_api(shared: World, error: Exception, status: int, headers: dict[str, str]) -> None:
    def fail() -> dict[str, Any]:
        raise error

    app = create_app(replace(shared.deps, system=fail))
    try:
        broken = Api(shared.serve(app).client, shared.auth.create("admin"))
        response = broken.request("GET", "/system")
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert headers.items() <= response.headers.items()
        assert "secret" not in response.text
    finally:
        app.state.hub.close()


def test_a_failure_is_logged_by_place_and_not_by_its_words(shared: World, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("Jane Doe")

    app = create_app(replace(shared.deps, system=fail))
    try:
        broken = Api(shared.serve(app).client, shared.auth.create("admin"))
        for _ in range(2):
            broken.refused("GET", "/system", 500)
    finally:
        app.state.hub.close()
    logged = "".join(capsys.readouterr())
    assert "test_http_errors.py" in logged
    assert "/system" in logged
    assert "Jane" not in logged
