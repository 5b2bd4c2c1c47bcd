"""TLS and client certificates with real clients, and everything that is no good handshake beside a healthy client."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device_gateway.settings import GatewaySettings
from device_gateway.tls import TlsEndpoint, server_context
from tests.gateway.certificates import Authority
from tests.gateway.harness import Gateway, RawClient, connect, listening, messages, payloads, puback, publish
from tests.support import eventually
from vitals.errors import ConfigError

PING, PONG = b"\xc0\x00", b"\xd0\x00"
OK = {4: b"\x20\x02\x00\x00", 5: b"\x20"}
COUNT = 50


@dataclass
class Secured:
    """A gateway with TLS, its authority, and one that it does not know."""

    gateway: Gateway
    ours: Authority
    theirs: Authority
    port: int

    def context(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ours.cert)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context

    def client(self, certificate: tuple[Path, Path] | None = None) -> RawClient:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        try:
            return RawClient(self.context(certificate).wrap_socket(plain, server_hostname="127.0.0.1"))
        except BaseException:
            plain.close()
            raise


@contextlib.contextmanager
def secured(folder: Path, settings: GatewaySettings | None = None) -> Iterator[Secured]:
    ours, theirs = Authority(folder / "pki"), Authority(folder / "pki", "other")
    sock = listening()
    endpoint = TlsEndpoint([sock.dup()], *ours.issue("server", server=True), ours.cert)
    with contextlib.closing(sock), Gateway(folder, settings, tls=endpoint) as gateway:
        yield Secured(gateway, ours, theirs, int(sock.getsockname()[1]))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("tls")) as running:
        yield running


versions = pytest.mark.parametrize("version", [4, 5])
by_certificate = pytest.mark.parametrize("certified", [False, True], ids=["password", "certificate"])


def _sent(*names: object) -> list[bytes]:
    return [f"{names} {number}".encode() for number in range(COUNT)]


def _all_once(door: Secured, device: str, sent: list[bytes]) -> None:
    found = [message for message in messages(door.gateway.log) if message.payload in set(sent)]
    assert [message.payload for message in found] == sent
    assert {message.device for message in found} == {device}


@versions
@by_certificate
def test_paho_over_tls(door: Secured, version: int, certified: bool) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2, f"paho{version}", protocol=paho.MQTTv311 if version == 4 else paho.MQTTv5
    )
    client.tls_set_context(door.context(door.ours.issue("d1") if certified else None))
    if not certified:
        client.username_pw_set("d1", "secret-d1")
    client.connect("127.0.0.1", door.port)
    client.loop_start()
    eventually(client.is_connected)
    sent = _sent("paho", version, certified)
    for info in [client.publish("vitals/d1/json", payload, 1) for payload in sent]:
        info.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    _all_once(door, "d1", sent)


@versions
@by_certificate
def test_aiomqtt_over_tls(door: Secured, version: int, certified: bool) -> None:
    sent = _sent("aiomqtt", version, certified)
    context = door.context(door.ours.issue("d2") if certified else None)

    async def publish_all() -> None:
        async with aiomqtt.Client(
            "127.0.0.1", door.port, tls_context=context, username=None if certified else "d2",
            password=None if certified else "secret-d2", identifier=f"aiomqtt{version}",
            protocol=aiomqtt.ProtocolVersion.V311 if version == 4 else aiomqtt.ProtocolVersion.V5,
        ) as client:  # fmt: skip
            for payload in sent:
                await client.publish("vitals/d2/json", payload, 1)

    asyncio.run(publish_all())
    _all_once(door, "d2", sent)


@pytest.mark.servers
@versions
@by_certificate
def test_mosquitto_pub_over_tls(door: Secured, version: int, certified: bool) -> None:
    sent = _sent("mosquitto", version, certified)
    cert, key = door.ours.issue("d3")
    how = ["--cert", str(cert), "--key", str(key)] if certified else ["-u", "d3", "-P", "secret-d3"]
    command = [
        "mosquitto_pub", "-h", "127.0.0.1", "-p", str(door.port), "--cafile", str(door.ours.cert), *how, "-V",
        "mqttv311" if version == 4 else "mqttv5", "-q", "1", "-t", "vitals/d3/json", "-l",
    ]  # fmt: skip
    done = subprocess.run(command, input=b"\n".join(sent) + b"\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    _all_once(door, "d3", sent)


@versions
def test_a_certificate_signs_in_its_own_enrolled_device_only(door: Secured, version: int) -> None:
    bad = b"\x20\x02\x00\x05" if version == 4 else b"\x20\x03\x00\x86\x00"
    mine = door.ours.issue("d1")
    with door.client(mine) as client:
        assert client.sign_in("d1", version=version, secret=b"").startswith(OK[version]), "no secret is needed"
        client.send(publish("vitals/d2/json", b"other", version=version))
        refused = client.packet()
        assert refused == (b"" if version == 4 else b"\x40\x03\x00\x01\x87"), "it publishes as itself"
    with door.client(mine) as client:
        assert client.sign_in("d2", version=version) == bad, "not even with the secret of another"
    with door.client(door.ours.issue("nobody")) as client:
        assert client.sign_in(None, version=version) == bad
    with door.client(door.ours.issue("d1", names=2)) as client:
        assert client.sign_in(None, version=version) == bad, "two names are none"
    with door.client() as client:
        assert client.sign_in(None, version=version) == bad


@versions
def test_a_revoked_device_is_refused_with_its_certificate(tmp_path: Path, version: int) -> None:
    with secured(tmp_path) as door:
        door.gateway.registry.revoke("d2")
        with door.client(door.ours.issue("d2")) as client:
            refused = b"\x20\x02\x00\x05" if version == 4 else b"\x20\x03\x00\x87\x00"
            assert client.sign_in(None, version=version) == refused
        assert door.gateway.counted('vitalgate_auth_failures_total{reason="revoked"}') == 1


def _handshake(door: Secured, certificate: tuple[Path, Path]) -> None:
    # In TLS 1.3 a client learns after its own part that its certificate was refused.
    with door.client(certificate) as client:
        client.send(connect(None))
        assert client.packet() == b""


def _plaintext(door: Secured) -> None:
    with RawClient(door.port) as client:
        client.send(connect())
        client.packet()
        assert client.packet() == b""


def _garbage(door: Secured) -> None:
    with RawClient(door.port) as client:
        client.send(b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 2)
        client.packet()
        assert client.packet() == b""


def _old_version(door: Secured) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(sock)


BAD_HANDSHAKES = {
    "unknown authority": (lambda door: _handshake(door, door.theirs.issue("d1")), "tls_certificate"),
    "expired": (lambda door: _handshake(door, door.ours.issue("d1", valid=False)), "tls_certificate"),
    "server certificate": (lambda door: _handshake(door, door.ours.issue("d1", server=True)), "tls_certificate"),
    "plaintext": (_plaintext, "tls_handshake"),
    "garbage": (_garbage, "tls_handshake"),
    "TLS 1.1": (_old_version, "tls_handshake"),
}


@pytest.mark.parametrize("case", BAD_HANDSHAKES)
def test_bad_handshakes_are_refused_and_counted_beside_a_healthy_client(door: Secured, case: str) -> None:
    attempt, reason = BAD_HANDSHAKES[case]
    with door.client() as healthy:
        assert healthy.sign_in("d1") == OK[4]
        before = door.gateway.closed(reason)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            attempt(door)
        eventually(lambda: door.gateway.closed(reason) == before + 1, what=f"{case} counted as {reason}")
        healthy.send(publish("vitals/d1/json", b"still here"))
        assert healthy.packet() == puback(1)


def test_tls_on_the_plaintext_port_is_refused_and_counted(door: Secured) -> None:
    before = door.gateway.closed("tls_on_plaintext")
    with (
        socket.create_connection(("127.0.0.1", door.gateway.port), timeout=10) as sock,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        door.context().wrap_socket(sock, server_hostname="127.0.0.1")
    eventually(lambda: door.gateway.closed("tls_on_plaintext") == before + 1)


def test_a_handshake_that_stops_half_way_is_closed(tmp_path: Path) -> None:
    with secured(tmp_path, GatewaySettings(connect_timeout_s=0.5)) as door, RawClient(door.port) as client:
        client.send(b"\x16\x03\x01")
        assert client.packet() == b""
        eventually(lambda: door.gateway.closed("connect_timeout") == 1)


def test_large_messages_and_back_pressure_over_tls(tmp_path: Path) -> None:
    with secured(tmp_path, GatewaySettings(buffer_bytes=300_000)) as door, door.client() as client:
        client.sign_in("d1")
        count = 40
        wire = [publish("vitals/d1/json", bytes([number]) * 200_000, packet_id=number + 1) for number in range(count)]
        client.send(*wire)
        assert client.packets(count) == [puback(number + 1) for number in range(count)]
        assert sorted(payloads(door.gateway.log).values()) == [1] * count
        client.send(PING)
        assert client.packet() == PONG


def test_more_handshakes_than_are_looked_at_in_a_second_wait(tmp_path: Path) -> None:
    with secured(tmp_path, GatewaySettings(handshakes_per_s=4)) as door:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(door.client()) for _ in range(6)]
            for number, client in enumerate(clients):
                assert client.sign_in("d1", client_id=f"c{number}") == OK[4]
        assert door.gateway.counted("vitalgate_admissions_delayed_total") >= 1


def test_new_certificates_are_taken_while_running(tmp_path: Path) -> None:
    with secured(tmp_path, GatewaySettings(heartbeat_s=0.05)) as door:
        first = ssl.get_server_certificate(("127.0.0.1", door.port))
        (door.ours.folder / "server.crt").write_bytes(b"broken")
        with door.client() as client:
            assert client.sign_in("d1") == OK[4], "files that do not fit are not taken"
        door.ours.issue("server", server=True)
        eventually(lambda: ssl.get_server_certificate(("127.0.0.1", door.port)) != first)
        with door.client() as client:
            assert client.sign_in("d1") == OK[4]


def test_files_that_are_no_certificates_name_their_setting(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    cert, key = ours.issue("server", server=True)
    with pytest.raises(ConfigError, match=r"mqtt\.tls_cert"):
        server_context(key, cert, None)
    with pytest.raises(ConfigError, match=r"mqtt\.tls_cert"):
        server_context(tmp_path / "missing", key, None)
    with pytest.raises(ConfigError, match=r"mqtt\.tls_client_ca"):
        server_context(cert, key, tmp_path / "missing")
