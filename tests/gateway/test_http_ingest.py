"""HTTP ingest on the gateway's socket: the promise of 202, every refusal, limits."""

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_gateway.settings import GatewaySettings
from tests.gateway.harness import Gateway, messages, received
from tests.support import eventually

NDJSON = {"Content-Type": "application/x-ndjson"}


def post(gateway: Gateway, device: str = "d1", **options: Any) -> httpx.Response:
    options = {"auth": (device, f"secret-{device}"), "params": {"adapter": "json"}, "content": b"x"} | options
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(gateway.ingest_path)), timeout=20) as client:
        return client.request(
            options.pop("method", "POST"),
            f"http://gateway/v1/devices/{options.pop('path', device)}/{options.pop('leaf', 'readings')}",
            **options,
        )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("http")) as running:
        yield running


def test_what_was_answered_202_is_in_the_log(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        assert stat.S_IMODE(gateway.ingest_path.stat().st_mode) == 0o600
        answer = post(gateway, params={"adapter": "json", "kind": "k1"}, content=b"one")
        assert (answer.status_code, answer.json()) == (202, {"received": 1})
        [message] = messages(gateway.log)
        assert (message.device, message.adapter, message.kind, message.payload) == ("d1", "json", "k1", b"one")
        lines = b'{"n":1}\n\n{"n":2}\r\n  \n{"n":3}'
        assert post(gateway, content=lines, headers=NDJSON).json() == {"received": 3}
        assert [m.payload for m in messages(gateway.log)][1:] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
        assert received(gateway.log) == {"d1": 4}
        assert gateway.counted('vitalgate_messages_received_total{qos="1"}') == 4
    assert not gateway.ingest_path.exists()


def test_a_hub_posts_for_its_children(gateway: Gateway) -> None:
    assert post(gateway, "hub", path="kid").status_code == 202
    assert post(gateway, "hub", path="stray").status_code == 403
    assert post(gateway, "kid", path="hub", auth=("kid", "secret-kid")).status_code == 403


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "wrong secret": ({"auth": ("d2", "guess")}, 401),
    "no credentials": ({"auth": None}, 401),
    "bearer": ({"auth": None, "headers": {"Authorization": "Bearer x"}}, 401),
    "not base64": ({"auth": None, "headers": {"Authorization": "Basic ***"}}, 401),
    "not ascii": ({"auth": ("d\xfc", "x")}, 401),
    "another device": ({"path": "d2"}, 403),
    "no adapter": ({"params": {}}, 422),
    "adapter that cannot be one": ({"params": {"adapter": "a/b"}}, 422),
    "status": ({"params": {"adapter": "status"}}, 422),
    "another method": ({"method": "PUT"}, 405),
    "another path": ({"leaf": "reading"}, 404),
    "compressed": ({"headers": {"Content-Encoding": "gzip"}}, 415),
    "payload over max_packet": ({"content": bytes(300_000)}, 413),
    "line over max_packet": ({"content": b"a\n" + b"x" * 300_000, "headers": NDJSON}, 413),
    "body over http_max_body": ({"content": b"a\n" * 600_000, "headers": NDJSON}, 413),
    "streamed body over http_max_body": ({"content": iter([b"a\n" * 300_000] * 3), "headers": NDJSON}, 413),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(gateway: Gateway, name: str) -> None:
    options, status = REFUSED[name]
    before, counted = len(messages(gateway.log)), gateway.closed(f"http_{status}")
    answer = post(gateway, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert ("www-authenticate" in answer.headers) is (status == 401)
    assert gateway.closed(f"http_{status}") == counted + 1
    assert len(messages(gateway.log)) == before


def test_revoked_throttled_and_away(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        gateway.registry.revoke("d2")
        assert post(gateway, "d2").status_code == 403
        peer = {"X-Forwarded-For": "192.0.2.7"}
        statuses = [post(gateway, auth=("d1", "guess"), headers=peer).status_code for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        throttled = post(gateway, headers=peer)
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "60")
        assert post(gateway, headers={"X-Forwarded-For": "192.0.2.8"}).status_code == 202, "guesses are held by address"
        gateway.registry.down = True
        away = post(gateway, "d3")
        assert (away.status_code, "retry-after" in away.headers) == (503, True)


def test_a_device_over_its_rate_is_told_when_to_come_again(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(rate_per_s=1, burst=5)) as gateway:
        assert post(gateway, content=b"x\n" * 20, headers=NDJSON).status_code == 202
        answer = post(gateway)
        assert answer.status_code == 429
        assert 8 <= int(answer.headers["retry-after"]) <= 16, "15 over the burst, and its own, less the time since"
        assert post(gateway, "d2").status_code == 202
        assert len(messages(gateway.log)) == 21


def test_no_202_before_the_commit_and_none_without_it(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(write_timeout_s=1.0)) as gateway:
        answers: list[httpx.Response] = []
        with gateway.log.transaction():
            waiting = threading.Thread(target=lambda: answers.append(post(gateway)))
            waiting.start()
            waiting.join(0.5)
            assert answers == [], "the log is held by another writer"
        waiting.join(20)
        assert answers[0].status_code == 202
        [(pages,)] = gateway.log.query("PRAGMA page_count")
        with gateway.log.transaction() as tx:
            tx.connection.execute(f"PRAGMA max_page_count={pages + 2}")
        full = post(gateway, content=bytes(50_000))
        assert (full.status_code, full.headers["retry-after"]) == (503, "2")
        eventually(lambda: gateway.status()["reasons"] == ["log_not_writable"])
        assert post(gateway).status_code == 503
        with gateway.log.transaction() as tx:
            tx.connection.execute("PRAGMA max_page_count=1000000")
        eventually(lambda: gateway.status()["ready"])
        assert post(gateway).status_code == 202


def _begun(gateway: Gateway) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(gateway.ingest_path))
    sock.settimeout(10)
    sock.sendall(
        b"POST /v1/devices/d1/readings?adapter=json HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
        b"Authorization: Basic ZDE6c2VjcmV0LWQx\r\n\r\nhalf"
    )
    return sock


def test_slow_bodies_are_bounded_in_time_and_number(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(packet_timeout_s=1.0, http_connections=2)) as gateway:
        with _begun(gateway) as one, _begun(gateway) as two:
            assert eventually(lambda: post(gateway).status_code == 503)
            for sock in (one, two):
                assert sock.recv(1000).startswith(b"HTTP/1.1 408")
        eventually(lambda: post(gateway).status_code == 202)
        _begun(gateway).close()
        eventually(lambda: post(gateway).status_code == 202)
        assert b"half" not in {message.payload for message in messages(gateway.log)}


def test_problems_do_not_repeat_what_was_sent(gateway: Gateway) -> None:
    answer = post(gateway, params={"adapter": "x" * 40})
    assert "xxx" not in json.dumps(answer.json())
