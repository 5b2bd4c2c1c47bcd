"""Sessions of browsers: opened once, ended by time or by their token, and no use to another site."""

from collections.abc import Iterator

import httpx
import pytest

from dashboard_api.auth.session import IDLE_S, LIFETIME_S, LINK_TTL_S, Sessions
from tests.api.api_world import World

PAGE = {"X-Vitalgate": "1"}


@pytest.fixture
def world(shared: World) -> World:
    """One world for all: each test brings links and cookies of its own, and its clock only goes on."""
    return shared


def sessions(world: World) -> Sessions:
    found: Sessions = world.app.state.sessions
    return found


def base(world: World) -> httpx.URL:
    return world.client().base_url


@pytest.fixture
def browser(world: World) -> Iterator[httpx.Client]:
    """A client with a cookie jar of its own."""
    url = base(world)
    with httpx.Client(base_url=f"{url.scheme}://{url.host}:{url.port}") as client:
        yield client


def signed_in(world: World, browser: httpx.Client, role: str = "admin") -> httpx.Client:
    answer = browser.get("/sign-in", params={"token": sessions(world).link(role)})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    return browser


def test_a_link_works_once(world: World, browser: httpx.Client) -> None:
    link = sessions(world).link("viewer")
    assert sessions(world).redeem(link) is not None
    assert sessions(world).redeem(link) is None
    assert browser.get("/sign-in", params={"token": link}).status_code == 403
    assert browser.get("/sign-in").status_code == 403
    assert not browser.cookies


def test_a_link_ends_by_time(world: World) -> None:
    link = sessions(world).link("viewer")
    world.clock.advance(LINK_TTL_S)
    assert sessions(world).redeem(link) is None


def test_asking_about_a_link_does_not_use_it(world: World, browser: httpx.Client) -> None:
    link = sessions(world).link("viewer")
    assert browser.head("/sign-in", params={"token": link}).status_code == 405
    assert sessions(world).redeem(link) is not None


def test_a_used_link_leads_whoever_is_signed_in_to_the_page(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    assert browser.get("/sign-in", params={"token": "used"}).status_code == 303


def test_a_link_and_a_cookie_are_no_bearer_tokens(world: World, browser: httpx.Client) -> None:
    link = sessions(world).link("admin")
    signed_in(world, browser)
    [cookie] = browser.cookies.values()
    for token in (link, cookie):
        answer = httpx.get(base(world).join("/api/v1/patients"), headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_a_session_reads_and_has_the_rights_of_its_role(world: World, browser: httpx.Client) -> None:
    assert browser.get("/api/v1/patients").status_code == 401
    assert browser.get("/session").status_code == 204
    signed_in(world, browser, "viewer")
    assert browser.get("/api/v1/patients").status_code == 200
    told = browser.get("/session").json()
    assert told["role"] == "viewer"
    assert "alerts:act" not in told["permissions"]
    refused = browser.post("/api/v1/patients", json={"name": "A"}, headers=PAGE)
    assert refused.status_code == 403
    assert "patients:write is needed" in refused.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        PAGE | {"Sec-Fetch-Site": "cross-site"},
        PAGE | {"Sec-Fetch-Site": "same-site"},
        PAGE | {"Origin": "http://evil.example"},
        PAGE | {"Origin": "null"},
    ],
    ids=["form", "no_header", "cross_site", "other_port", "foreign_origin", "opaque_origin"],
)
def test_another_site_cannot_write(world: World, browser: httpx.Client, headers: dict[str, str]) -> None:
    signed_in(world, browser)
    before = browser.get("/api/v1/patients").json()["items"]
    answer = browser.post("/api/v1/patients", json={"name": "A"}, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert browser.post("/sign-out", headers=headers).status_code == 403
    assert browser.post("/sign-in", json={"token": world.auth.create("admin")}, headers=headers).status_code == 403
    assert browser.get("/api/v1/patients").json()["items"] == before


def test_the_page_itself_writes(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    origin = str(browser.base_url).rstrip("/")
    headers = PAGE | {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/api/v1/patients", json={"name": "A"}, headers=headers).status_code == 201


def test_a_session_ends_twelve_hours_after_the_last_act_of_a_person(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    world.clock.advance(IDLE_S - 1)
    assert browser.get("/api/v1/patients", headers=PAGE).status_code == 200
    world.clock.advance(IDLE_S - 1)
    assert browser.get("/api/v1/patients").status_code == 200, "the act before kept it open"
    world.clock.advance(1)
    assert browser.get("/api/v1/patients").status_code == 401, "what the page does by itself did not"


def test_no_session_lasts_for_ever(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    for _ in range(LIFETIME_S // (IDLE_S // 2) - 1):
        world.clock.advance(IDLE_S // 2)
        assert browser.get("/session").status_code == 200
    world.clock.advance(IDLE_S // 2)
    assert browser.get("/session").status_code == 204


def test_signing_in_with_a_token_lasts_as_long_as_the_token(world: World, browser: httpx.Client) -> None:
    token = world.auth.create("clinician", None, "patients:read")
    assert browser.post("/sign-in", json={"token": "vg_unknown"}, headers=PAGE).status_code == 401
    assert browser.post("/sign-in", json={"token": token}, headers=PAGE).status_code == 204
    assert browser.get("/session").json()["permissions"] == ["patients:read"], "the scope narrows the session too"
    assert world.auth.revoke(token)
    assert browser.get("/api/v1/patients").status_code == 401


def test_signing_out_ends_the_session_for_a_copied_cookie_too(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    copied = dict(browser.cookies)
    assert browser.post("/sign-out", headers=PAGE).status_code == 204
    assert not browser.cookies
    assert browser.post("/sign-out", headers=PAGE).status_code == 204
    cookie = "; ".join(f"{name}={value}" for name, value in copied.items())
    assert httpx.get(base(world).join("/api/v1/patients"), headers={"Cookie": cookie}).status_code == 401


def test_a_stream_ends_with_its_session(world: World, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    signed_in(world, browser)
    [cookie] = browser.cookies.values()
    monkeypatch.setattr(world.app.state.hub, "_heartbeat_s", 0.05)
    with browser.stream("GET", "/api/v1/stream", timeout=10) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        sessions(world).end(cookie)
        assert not any(line.startswith("data:") for line in lines), "and the stream came to its end"


@pytest.mark.parametrize("cookie", ["", "=", "a=b; ;=", '"\\', "vitalgate_1=x", "\x7f=\x7f"])
def test_strange_cookies_are_nobody(world: World, cookie: str) -> None:
    answer = httpx.get(base(world).join("/api/v1/patients"), headers={"Cookie": cookie})
    assert answer.status_code == 401


def test_an_authorization_header_comes_before_the_cookie(world: World, browser: httpx.Client) -> None:
    signed_in(world, browser)
    assert browser.get("/api/v1/patients", headers={"Authorization": "Bearer vg_no"}).status_code == 401
    bearer = {"Authorization": f"Bearer {world.auth.create('admin')}"}
    assert browser.post("/api/v1/patients", json={"name": "A"}, headers=bearer).status_code == 201


def test_files_are_revalidated_compressed_and_guarded(world: World, browser: httpx.Client) -> None:
    page = browser.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for path in ("/", "/static/js/main.js", "/api/v1/patients", "/static/none.js"):
        headers = browser.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
    script = browser.get("/static/js/main.js")
    assert script.headers["cache-control"] == "no-cache"
    assert script.headers["content-encoding"] == "gzip"
    again = browser.get("/static/js/main.js", headers={"If-None-Match": script.headers["etag"]})
    assert again.status_code == 304
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/"):
        assert browser.get(path).status_code == 404, path


def test_the_tables_of_the_page_are_the_catalogue(world: World, browser: httpx.Client) -> None:
    tables = browser.get("/tables.json").json()
    assert tables["vitals"]["glucose_isf"]["stale_s"] == 15 * 60
    assert tables["vitals"]["acvpu"]["values"] == ["A", "C", "V", "P", "U"]
    assert "bp" not in tables["vitals"], "a panel has no value of its own"
    assert tables["reasons"]["malformed"]
