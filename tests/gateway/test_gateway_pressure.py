"""Back-pressure in both directions: a slow log, and clients that do not read."""

import contextlib
import socket
import threading
from pathlib import Path

from device_gateway.settings import GatewaySettings
from tests.gateway.harness import (
    Gateway,
    RawClient,
    connect,
    messages,
    puback,
    publish,
)

PING, PONG, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
JSON = "vitals/d1/json"


def test_back_pressure_stops_reading_and_goes_on(tmp_path: Path) -> None:
    settings = GatewaySettings(buffer_bytes=1_000_000)
    count, payload = 200, bytes(200_000)
    with Gateway(tmp_path, settings) as gateway, RawClient(gateway.port) as client:
        client.sign_in(keep_alive=1)
        wire = b"".join(publish(JSON, payload, packet_id=1 + number) for number in range(count))
        # Another writer holds the file: commits wait, as with a slow disk.
        sending = client.socket.dup()
        sending.settimeout(30)
        sender = threading.Thread(target=sending.sendall, args=(wire,))
        with gateway.log.transaction():
            sender.start()
            assert client.silent(3.2), "no ack before the commit, and no close by keep-alive while it is not read"
            assert sender.is_alive(), "the socket is not read"
            with RawClient(gateway.port) as late:
                late.send(connect("d2"))
                assert late.silent(0.1)
        assert client.packets(count) == [puback(1 + number) for number in range(count)]
        sender.join()
        sending.close()
        assert len(messages(gateway.log)) == count


def small_buffers(gateway: Gateway) -> None:
    """Sockets that block early; accepted sockets inherit it."""
    gateway.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    gateway.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def flood(client: RawClient, count: int) -> threading.Thread:
    """Send pings without reading what they are answered with."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sending = client.socket.dup()
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    sending.settimeout(30)

    def run() -> None:
        with sending, contextlib.suppress(ConnectionError):
            sending.sendall(PING * count)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_client_that_reads_no_answers_is_not_read(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    small_buffers(gateway)
    count = 1_000_000
    with gateway, RawClient(gateway.port) as client, RawClient(gateway.port) as other:
        client.sign_in(keep_alive=0)
        other.sign_in("d2")
        thread = flood(client, count)
        thread.join(1.5)
        assert thread.is_alive()
        other.send(PING)
        assert other.packet() == PONG
        answered = 0
        while answered < 2 * count:
            answered += len(client.socket.recv(1 << 20))
        thread.join()
        assert answered == 2 * count


def test_a_close_that_the_client_does_not_let_finish_is_cut(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, GatewaySettings(heartbeat_s=0.1, stop_timeout_s=0.1))
    small_buffers(gateway)
    count = 1_000_000
    with gateway, RawClient(gateway.port) as client:
        client.sign_in(keep_alive=0)
        thread = flood(client, count)
        thread.join(0.5)
        assert thread.is_alive()
        gateway.registry.revoke("d1")
        thread.join(10)
        assert not thread.is_alive(), "the connection was reset, though nothing was read"


def test_a_stop_does_not_wait_for_a_client_that_reads_nothing(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    small_buffers(gateway)
    with gateway, RawClient(gateway.port) as client:
        client.sign_in(keep_alive=0)
        thread = flood(client, 1_000_000)
        thread.join(0.5)
        assert thread.is_alive()
        gateway.stop()
        thread.join(10)
        assert not thread.is_alive()
