"""Hostile clients beside a healthy one: each is refused or contained, counted with its reason, and the healthy client's
acknowledgements go on coming in time."""

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_gateway.settings import GatewaySettings
from tests.gateway.harness import Gateway, RawClient, connect, frame, messages, puback, publish, text
from tests.support import eventually

PING, PONG = b"\xc0\x00", b"\xd0\x00"
OK = b"\x20\x02\x00\x00"
WORST_S = 1.0
"""The longest that the healthy client may wait for one ack: far over what a busy machine needs, far under a stall."""


class Healthy:
    """A QoS 1 client that publishes one message at a time for as long as it is entered, and times every ack."""

    def __init__(self, gateway: Gateway) -> None:
        self._client = RawClient(gateway.port)
        assert self._client.sign_in("d3", client_id="healthy") == OK
        self._stop = threading.Event()
        self.waits_s: list[float] = []
        self.wrong: list[bytes] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            number = len(self.waits_s) % 60_000 + 1
            begun = time.perf_counter()
            self._client.send(publish("vitals/d3/json", b"healthy", packet_id=number))
            answer = self._client.packet()
            self.waits_s.append(time.perf_counter() - begun)
            if answer != puback(number):
                self.wrong.append(answer)
                return

    def __enter__(self) -> "Healthy":
        self._thread.start()
        eventually(lambda: len(self.waits_s) > 5)
        return self

    def __exit__(self, *_: object) -> None:
        seen = len(self.waits_s)
        with contextlib.suppress(AssertionError):
            eventually(lambda: len(self.waits_s) > seen + 5, within_s=5)
        self._stop.set()
        self._thread.join(20)
        self._client.socket.close()
        assert self.wrong == []
        assert len(self.waits_s) > seen + 5, "it still gets its acks after the attack"
        assert max(self.waits_s) < WORST_S
        assert statistics.median(self.waits_s) < 0.1


@contextlib.contextmanager
def attacked(folder: Path, **limits: float) -> Iterator[Gateway]:
    """A gateway with a healthy client that is watched while the body attacks."""
    settings = GatewaySettings(**limits)  # type: ignore[arg-type]
    with Gateway(folder, settings) as gateway, Healthy(gateway):
        yield gateway


def closes(client: RawClient) -> bool:
    """Whether the server closes before it sends anything but a goodbye."""
    return client.packet() == b"" or client.packet() == b""


FOREIGN = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls_on_plaintext"),
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", "not_mqtt"),
    "zeros": (bytes(64), "not_mqtt"),
    "publish first": (publish("vitals/d1/json", b"x"), "not_mqtt"),
    "other protocol name": (frame(0x10, text("AMQP") + b"\x04\x02\x00\x3c" + text("c")), "not_mqtt"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_protocols_on_the_port(tmp_path: Path, name: str) -> None:
    data, reason = FOREIGN[name]
    with attacked(tmp_path) as gateway:
        for _ in range(20):
            with RawClient(gateway.port) as client:
                client.send(data)
                assert closes(client)
        assert gateway.closed(reason) == 20


GIGABYTE = b"\x80\x80\x80\x80\x04"
HOSTILE = {
    "a header of 1 GB": (b"\x30" + b"\xff\xff\xff\x7f", "packet_too_large"),
    "a length that never ends": (b"\x30" + GIGABYTE, "malformed"),
    "a control character in a topic": (publish("vitals/d1/js\x01on", b"x"), "malformed"),
    "NUL in a topic": (publish("vitals/d1/json\0", b"x"), "malformed"),
    "a wildcard in a topic": (publish("vitals/+/json", b"x"), "malformed"),
    "a topic that is not UTF-8": (frame(0x32, b"\x00\x02\xff\xfe\x00\x01x"), "malformed"),
    "a line end and a forged log line": (publish("vitals/d1/json\r\nlevel=error", b"x"), "malformed"),
    "a second CONNECT": (connect(), "protocol_error"),
    "the topic of another": (publish("vitals/d2/json", b"x"), "not_authorised"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packets_of_a_signed_in_device(tmp_path: Path, name: str) -> None:
    data, reason = HOSTILE[name]
    with attacked(tmp_path) as gateway:
        for _ in range(5):
            with RawClient(gateway.port) as client:
                assert client.sign_in("d1") == OK
                client.send(data)
                assert closes(client)
        assert gateway.closed(reason) == 5
        assert {message.device for message in messages(gateway.log)} == {"d3"}


def test_a_header_of_a_gigabyte_before_signing_in(tmp_path: Path) -> None:
    with attacked(tmp_path) as gateway:
        for size in (b"\xff\xff\xff\x7f", b"\xff\xff\x03"):
            with RawClient(gateway.port) as client:
                client.send(b"\x10" + size + text("MQTT") + b"\x04")
                assert closes(client)
        assert gateway.closed("packet_too_large") == 2


def test_slow_loris_before_connect(tmp_path: Path) -> None:
    with attacked(tmp_path, connect_timeout_s=1.0) as gateway, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(50)]
        data = connect("d1")
        for index in range(len(data) - 1):
            with contextlib.suppress(ConnectionError):
                for client in clients:
                    client.send(data[index : index + 1])
            if clients[0].silent(0.04) is False:
                break
        assert all(closes(client) for client in clients), "a byte now and then does not keep a connection"
        assert gateway.closed("connect_timeout") == 50


@pytest.mark.parametrize("keep_alive", [0, 60])
def test_half_packets_for_ever(tmp_path: Path, keep_alive: int) -> None:
    packet = publish("vitals/d1/json", bytes(100))
    with attacked(tmp_path, packet_timeout_s=1.0) as gateway, RawClient(gateway.port) as client:
        assert client.sign_in("d1", keep_alive=keep_alive) == OK
        client.send(packet)
        assert client.packet() == puback(1)
        begun = time.monotonic()
        for index in range(len(packet)):
            with contextlib.suppress(ConnectionError):
                client.send(packet[index : index + 1])
            if not client.silent(0.1):
                break
        assert closes(client)
        assert time.monotonic() - begun < 5
        assert gateway.closed("packet_timeout") == 1


def test_slow_packets_that_are_complete_in_time_are_taken(tmp_path: Path) -> None:
    packet = publish("vitals/d1/json", b"slow")
    half = len(packet) // 2
    with Gateway(tmp_path, GatewaySettings(packet_timeout_s=1.5)) as gateway, RawClient(gateway.port) as client:
        client.sign_in("d1", keep_alive=0)
        client.send(packet[:half])
        for _ in range(6):
            assert client.silent(0.5)
            client.send(packet[half:] + packet[:half])
            assert client.packet() == puback(1)
        assert gateway.closed("packet_timeout") == 0


def test_five_thousand_connections_in_a_second(tmp_path: Path) -> None:
    count = 5000
    with attacked(tmp_path) as gateway, contextlib.ExitStack() as stack:
        begun = time.monotonic()
        socks = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", gateway.port))
            socks.append(sock)
        assert time.monotonic() - begun < 3
        eventually(lambda: gateway.counted("vitalgate_admissions_delayed_total") > count // 2)
        with RawClient(gateway.port) as late:
            assert late.sign_in("d1") == OK, "a device that comes after them waits its turn and gets in"


def test_more_connections_than_can_be_admitted_in_time_are_closed(tmp_path: Path) -> None:
    with attacked(tmp_path, connects_per_s=20, connect_timeout_s=1.0) as gateway, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(80)]
        eventually(lambda: gateway.closed("admission") + gateway.closed("connect_timeout") == len(clients))
        assert gateway.closed("admission") >= 30
        assert gateway.closed("connect_timeout") >= 20


def test_connections_over_the_limit_are_counted(tmp_path: Path) -> None:
    with attacked(tmp_path, max_connections=3) as gateway, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(6)]
        eventually(lambda: gateway.closed("max_connections") == 4)
        assert sum(client.silent(0.05) for client in clients) == 2


def test_guesses_of_secrets(tmp_path: Path) -> None:
    with attacked(tmp_path) as gateway:
        for number in range(200):
            with RawClient(gateway.port) as client:
                client.sign_in("d1", secret=b"guess %d" % number)
                assert closes(client)
        assert gateway.counted('vitalgate_auth_failures_total{reason="bad_credentials"}') == 10
        assert gateway.counted('vitalgate_auth_failures_total{reason="too_many_failures"}') == 190


def test_a_client_that_never_reads_its_acks_is_closed(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, GatewaySettings(write_timeout_s=1.0))
    gateway.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    with gateway, Healthy(gateway), RawClient(gateway.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert client.sign_in("d1", keep_alive=0) == OK
        with contextlib.suppress(ConnectionError):
            client.socket.sendall(PING * 2_000_000)
        eventually(lambda: gateway.closed("write_timeout") == 1)


def test_a_flood_of_small_packets_leaves_the_others_their_turn(tmp_path: Path) -> None:
    with attacked(tmp_path) as gateway, RawClient(gateway.port) as client:
        assert client.sign_in("d1", keep_alive=0) == OK
        answered = 0
        sending = threading.Thread(target=client.socket.sendall, args=(PING * 300_000,))
        sending.start()
        while answered < 600_000:
            answered += len(client.socket.recv(1 << 20))
        sending.join()


def test_a_device_over_its_rate_is_slowed_and_loses_nothing(tmp_path: Path) -> None:
    with attacked(tmp_path, rate_per_s=500, burst=500, packets_per_turn=16) as gateway:
        with RawClient(gateway.port) as client, RawClient(gateway.port) as second:
            assert client.sign_in("d1", keep_alive=1) == OK
            count = 1500
            begun = time.monotonic()
            wire = b"".join(publish("vitals/d1/json", bytes(1000), packet_id=1 + n) for n in range(count))
            client.socket.settimeout(30)
            sender = threading.Thread(target=client.socket.sendall, args=(wire,))
            sender.start()
            assert client.packets(count) == [puback(1 + number) for number in range(count)]
            sender.join()
            took_s = time.monotonic() - begun
            assert 1.5 < took_s < 15, "1000 messages over the burst at 500 a second, its keep-alive of 1 s suspended"
            assert second.sign_in("d2") == OK
            second.send(publish("vitals/d2/json", b"other"))
            assert second.packet() == puback(1), "another device is not held up"
        assert gateway.counted("vitalgate_rate_pauses_total") > 0
        assert gateway.closed("message_rate") == 0


def test_a_device_does_not_get_a_new_burst_by_connecting_again(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(rate_per_s=100, burst=200)) as gateway:
        took_s = []
        for count in (200, 150):
            with RawClient(gateway.port) as client:
                client.sign_in("d1")
                begun = time.monotonic()
                client.send(*(publish("vitals/d1/json", b"x", packet_id=1 + number) for number in range(count)))
                client.packets(count)
                client.send(PING)
                assert client.packet() == PONG
                took_s.append(time.monotonic() - begun)
        assert gateway.counted("vitalgate_rate_pauses_total") == 1
        assert took_s[0] < 1.0 < took_s[1], "the second burst is paid off before the ping is read"


@pytest.mark.parametrize("version", [4, 5])
def test_a_device_beyond_its_burst_is_closed(tmp_path: Path, version: int) -> None:
    with attacked(tmp_path, rate_per_s=1000, burst=10) as gateway, RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(*(publish("vitals/d1/json", b"x", version=version, packet_id=1 + n) for n in range(200)))
        said = []
        while packet := client.packet():
            said.append(packet)
        if version == 5:
            assert said[-1] == b"\xe0\x01\x96"
        assert gateway.closed("message_rate") == 1


def test_what_is_sent_before_admission_is_not_lost(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(connects_per_s=2)) as gateway, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(connect("d1", client_id=f"c{number}"), publish("vitals/d1/json", b"%d" % number))
        for client in clients:
            assert client.packets(2) == [OK, puback(1)]
        assert gateway.counted("vitalgate_admissions_delayed_total") == 3
