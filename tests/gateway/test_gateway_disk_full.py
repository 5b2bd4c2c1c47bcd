"""A log that cannot be written: no acks, no new sessions, a reason to see, and recovery by itself."""

import threading
from pathlib import Path

import pytest

from device_gateway.settings import GatewaySettings
from tests.gateway.harness import Gateway, RawClient, connect, messages, puback, publish, received
from tests.support import eventually

JSON = "vitals/d1/json"
BIG = bytes(50_000)


def limit_pages(gateway: Gateway, pages: int) -> None:
    """SQLite refuses to let the file grow beyond ``pages``: the error of a full disk."""
    with gateway.log.transaction() as tx:
        tx.connection.execute(f"PRAGMA max_page_count={pages}")


def fill(gateway: Gateway) -> None:
    [(pages,)] = gateway.log.query("PRAGMA page_count")
    limit_pages(gateway, pages + 2)


@pytest.mark.parametrize("version", [4, 5])
def test_disk_full(tmp_path: Path, version: int) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as client:
        client.sign_in(version=version)
        fill(gateway)
        client.send(publish(JSON, BIG, version=version))
        eventually(lambda: gateway.status()["reasons"] == ["log_not_writable"])
        assert client.silent(0.1), "nothing is acknowledged"
        client.send(publish(JSON, b"waits behind", version=version, packet_id=2), b"\xc0\x00")
        assert client.packet() == b"\xd0\x00", "the connection is kept"
        with RawClient(gateway.port) as late:
            reply = b"\x20\x02\x00\x03" if version == 4 else b"\x20\x03\x00\x88\x00"
            assert late.sign_in("d2", version=version) == reply
            assert late.packet() == b""
        assert messages(gateway.log) == []
        limit_pages(gateway, 1_000_000)
        assert client.packets(2) == [puback(1), puback(2)]
        assert [message.payload for message in messages(gateway.log)] == [BIG, b"waits behind"]
        assert received(gateway.log) == {"d1": 2}
        eventually(lambda: gateway.status()["ready"])
        with RawClient(gateway.port) as late:
            assert late.sign_in("d2", version=version)[3] == 0


def test_who_waits_for_connack_when_the_disk_fills_is_refused(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as client, RawClient(gateway.port) as late:
        client.sign_in()
        fill(gateway)
        with gateway.log.transaction():
            # The writer hangs here; both CONNECTs are in the loop's hands before it can fail.
            client.send(publish(JSON, BIG))
            late.send(connect("d2", version=5, clean=False, properties=b"\x11\x00\x00\x00\x64"))
            assert late.silent(0.2)
        assert late.packet() == b"\x20\x03\x00\x88\x00"
        limit_pages(gateway, 1_000_000)
        assert client.packet() == puback(1)


def test_memory_is_bounded_while_the_disk_is_full(tmp_path: Path) -> None:
    count = 100
    with Gateway(tmp_path, GatewaySettings(buffer_bytes=10 * len(BIG))) as gateway, RawClient(gateway.port) as client:
        client.sign_in()
        fill(gateway)
        client.send(publish(JSON, BIG, packet_id=1))
        eventually(lambda: not gateway.status()["ready"])
        wire = b"".join(publish(JSON, BIG, packet_id=2 + number) for number in range(count))
        sending = client.socket.dup()
        sending.settimeout(30)
        sender = threading.Thread(target=sending.sendall, args=(wire,))
        sender.start()
        eventually(lambda: _received(gateway) >= 10)
        assert client.silent(0.3)
        assert _received(gateway) < 20, "the rest waits in the sockets"
        limit_pages(gateway, 1_000_000)
        assert client.packets(count + 1) == [puback(1 + number) for number in range(count + 1)]
        sender.join()
        sending.close()


def _received(gateway: Gateway) -> int:
    lines = gateway.status()["metrics"].splitlines()
    [line] = [line for line in lines if line.startswith('vitalgate_messages_received_total{qos="1"}')]
    return int(float(line.split()[1]))


def test_stop_with_a_full_disk_promises_nothing(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as client:
        client.sign_in(version=5)
        fill(gateway)
        client.send(publish(JSON, BIG, version=5))
        eventually(lambda: not gateway.status()["ready"])
        gateway.stop()
        assert client.packet() == b"\xe0\x01\x8b"
        assert client.packet() == b""
        assert messages(gateway.log) == []
