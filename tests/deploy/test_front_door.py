"""The whole pipeline through its other doors: MQTT over TLS with password and certificate, and HTTP ingest."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import Running
from tests.gateway.certificates import Authority
from tests.support import eventually

READING = '{"vital":"spo2","value":%d,"unit":"%%","time":"2026-03-01T08:00:%02dZ","seq":%d}'


def reading(number: int) -> str:
    return READING % (90 + number, number, number)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def secured(data: Path, tmp_path: Path, authority: Authority) -> Iterator[Running]:
    cert, key = authority.issue("server", server=True)
    config = tmp_path / "ward.toml"
    config.write_text(
        f"[mqtt]\ntls_listen = '0.0.0.0:0'\ntls_cert = '{cert}'\ntls_key = '{key}'\n"
        f"tls_client_ca = '{authority.cert}'\n"
    )
    up = Running(data, "--config", str(config))
    yield up
    assert up.stop() == 0


@pytest.mark.servers
def test_tls_beyond_loopback_with_password_and_certificate(secured: Running, authority: Authority) -> None:
    host, port = secured.ready["mqtts"].removeprefix("mqtts://").rsplit(":", 1)
    assert host == "0.0.0.0"
    secret = secured.cli("device", "add", "--adapter", "json", "--id", "ox-1")["secret"]
    cert, key = authority.issue("ox-1")

    def mosquitto(payload: str, *how: str) -> int:
        base = ["mosquitto_pub", "-h", "127.0.0.1", "-p", port, "--cafile", str(authority.cert), "-q", "1"]
        command = [*base, *how, "-t", "vitals/ox-1/json", "-m", payload]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode

    assert mosquitto(reading(1), "-u", "ox-1", "-P", secret) == 0
    assert mosquitto(reading(2), "--cert", str(cert), "--key", str(key)) == 0
    secured.kill("gateway")
    secured.until_ready()
    assert mosquitto(reading(3), "--cert", str(cert), "--key", str(key)) == 0
    assert secured.settled("ox-1")["messages"]["decoded"] == 3
    secured.cli("device", "revoke", "ox-1")
    assert mosquitto(reading(4), "--cert", str(cert), "--key", str(key)) != 0


def test_page_and_ingest_over_https_beyond_loopback(data: Path, tmp_path: Path, authority: Authority) -> None:
    cert, key = authority.issue("server", server=True)
    config = tmp_path / "ward.toml"
    config.write_text(f"[http]\ntls_cert = '{cert}'\ntls_key = '{key}'\n")
    up = Running(data, "--config", str(config), "--http", "0.0.0.0:0")
    try:
        there = up.ready["http"].replace("0.0.0.0", "127.0.0.1")
        assert there.startswith("https://")
        trust = ssl.create_default_context(cafile=str(authority.cert))
        with httpx.Client(base_url=there, verify=trust, timeout=30) as client:
            token = up.ready["sign_in"].partition("?token=")[2]
            entered = client.get("/sign-in", params={"token": token})
            assert entered.status_code == 303, entered.text
            (cookie,) = [line for line in entered.headers.get_list("set-cookie") if "HttpOnly" in line]
            assert "Secure" in cookie
            secret = up.cli("device", "add", "--adapter", "json", "--id", "ox-1")["secret"]
            url = "/v1/devices/ox-1/readings?adapter=json"
            assert client.post(url, content=reading(1), auth=("ox-1", secret)).json() == {"received": 1}
        with pytest.raises(httpx.TransportError):
            httpx.get(there.replace("https://", "http://") + "/healthz", timeout=5)
    finally:
        assert up.stop() == 0


def test_http_ingest_on_the_documented_address(running: Running) -> None:
    secret = running.cli("device", "add", "--adapter", "json", "--id", "ox-1")["secret"]
    url = f"{running.ready['http']}/v1/devices/ox-1/readings?adapter=json"
    with httpx.Client(auth=("ox-1", secret), timeout=30) as client:
        assert client.post(url, content=reading(1)).json() == {"received": 1}
        lines = "\n".join(reading(number) for number in range(2, 6))
        many = client.post(url, content=lines, headers={"Content-Type": "application/x-ndjson"})
        assert (many.status_code, many.json()) == (202, {"received": 4})
        streamed = client.post(url, content=iter([reading(6).encode()]))
        assert streamed.json() == {"received": 1}
        for answer, status in (
            (client.post(url, content=b"x", auth=("ox-1", "guess")), 401),
            (client.post(url.replace("ox-1", "ox-2"), content=b"x"), 403),
            (client.post(url.replace("ox-1", "ox%2F1"), content=b"x"), 404),
            (client.post(url, content=bytes(300_000)), 413),
            (client.post(url, content=bytes(2_000_000)), 413),
            (client.post(url, content=iter([bytes(600_000)] * 3)), 413),
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
        ledger = running.settled("ox-1")
        assert (ledger["messages"]["received"], ledger["readings"]["stored"]) == (6, 0)
        assert ledger["readings"]["unassigned"] == 6
        running.kill("gateway")
        running.until_ready()
        eventually(lambda: client.post(url, content=reading(7)).status_code == 202, what="the new gateway answers")


def test_rotation_overlaps_unless_told_not_to(running: Running) -> None:
    first = running.cli("device", "add", "--adapter", "json", "--id", "ox-1")["secret"]
    second = running.cli("device", "rotate", "ox-1")["secret"]
    url = f"{running.ready['http']}/v1/devices/ox-1/readings?adapter=json"
    statuses = [httpx.post(url, content=reading(1), auth=("ox-1", one)).status_code for one in (first, second)]
    assert statuses == [202, 202]
    third = running.cli("device", "rotate", "ox-1", "--now")["secret"]
    statuses = [httpx.post(url, content=reading(2), auth=("ox-1", one)).status_code for one in (first, second, third)]
    assert statuses == [401, 401, 202]
