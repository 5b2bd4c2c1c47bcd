"""The refusal table of the outside contract, row by row, as it is written there: one test, both protocol versions.

What the core does with messages that are acknowledged and then quarantined is shown where the whole pipeline runs; here
they are acknowledged and kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from device_gateway.settings import GatewaySettings
from tests.gateway.harness import Gateway, RawClient, connect, frame, messages, publish, text
from tests.support import eventually

CLOSED = b""
PUBACK = b"\x40\x02\x00\x01"
JSON = "vitals/d1/json"


class Case(NamedTuple):
    """What a client was told, by version, and what the gateway counts (a metric and how often)."""

    v311: list[bytes]
    v5: list[bytes]
    counted: str = ""
    times: int = 1
    kept: int = 0
    counted_v5: str = ""


Act = Callable[[Gateway, int], list[bytes]]


def _until_closed(client: RawClient) -> list[bytes]:
    said = []
    while packet := client.packet():
        said.append(packet)
    return [*said, CLOSED]


def _sign_in(device: str = "d1", secret: bytes | None = None) -> Act:
    def act(gateway: Gateway, version: int) -> list[bytes]:
        with RawClient(gateway.port) as client:
            client.send(connect(device, version=version, secret=secret))
            return _until_closed(client)

    return act


def _revoked(gateway: Gateway, version: int) -> list[bytes]:
    gateway.registry.revoke("d1")
    return _sign_in()(gateway, version)


def _guessed(gateway: Gateway, version: int) -> list[bytes]:
    for _ in range(gateway.settings.auth_failures_per_minute):
        _sign_in(secret=b"guess")(gateway, version)
    return _sign_in()(gateway, version)


def _taken_over(gateway: Gateway, version: int) -> list[bytes]:
    with RawClient(gateway.port) as old, RawClient(gateway.port) as new:
        old.sign_in("d1", version=version)
        assert new.sign_in("d1", version=version)[3] == 0
        return _until_closed(old)


def _sent(data: bytes | Callable[[int], bytes], *, closes: bool = True) -> Act:
    """Sign in, send, and what comes back."""

    def act(gateway: Gateway, version: int) -> list[bytes]:
        with RawClient(gateway.port) as client:
            client.sign_in("d1", version=version)
            client.send(data if isinstance(data, bytes) else data(version))
            return _until_closed(client) if closes else [client.packet()]

    return act


def _published(topic: str, payload: bytes = b"x", *, closes_v311: bool = False) -> Act:
    def act(gateway: Gateway, version: int) -> list[bytes]:
        sent = _sent(publish(topic, payload, version=version), closes=closes_v311 and version == 4)
        return sent(gateway, version)

    return act


def _over_rate(gateway: Gateway, version: int) -> list[bytes]:
    wire = b"".join(publish(JSON, b"x", version=version, packet_id=1 + number) for number in range(100))
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(wire)
        # Acks of what was durable before the end may or may not have left.
        return [packet for packet in _until_closed(client) if packet[:1] != b"\x40"]


def _paused(gateway: Gateway, version: int) -> list[bytes]:
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(*(publish(JSON, b"x", version=version, packet_id=1 + number) for number in range(15)))
        assert {packet[:1] for packet in client.packets(15)} == {b"\x40"}
        eventually(lambda: gateway.counted("vitalgate_rate_pauses_total") == 1)
        client.send(b"\xc0\x00")
        return [b"" if client.silent(0.3) else b"read at once", client.packet()]


def _not_writable(gateway: Gateway, version: int) -> list[bytes]:
    with RawClient(gateway.port) as client, RawClient(gateway.port) as late:
        client.sign_in("d1", version=version)
        [(pages,)] = gateway.log.query("PRAGMA page_count")
        # SQLite refuses to let the file grow: the error of a full disk.
        with gateway.log.transaction() as tx:
            tx.connection.execute(f"PRAGMA max_page_count={pages + 2}")
        client.send(publish(JSON, bytes(50_000), version=version))
        eventually(lambda: gateway.status()["reasons"] == ["log_not_writable"])
        refused = late.sign_in("d2", version=version)
        assert client.silent(0.2), "kept, and not acknowledged"
        with gateway.log.transaction() as tx:
            tx.connection.execute("PRAGMA max_page_count=1000000")
        return [refused, client.packet()]


def _subscribed(gateway: Gateway, version: int) -> list[bytes]:
    properties = b"\x00" if version == 5 else b""
    return _sent(frame(0x82, b"\x00\x01" + properties + text("vitals/#") + b"\x01"), closes=False)(gateway, version)


def _auth(reason: str, times: int = 1) -> tuple[str, int]:
    return f'vitalgate_auth_failures_total{{reason="{reason}"}}', times


def _closed(reason: str) -> str:
    return f'vitalgate_connections_closed_total{{reason="{reason}"}}'


def _publish_refused(reason: str) -> tuple[str, int, int, str]:
    return _closed(reason), 1, 0, f'vitalgate_publishes_refused_total{{reason="{reason}"}}'


def _refused_sign_in(code: int, reason: str, times: int = 1) -> Case:
    return Case([b"\x20\x02\x00\x05", CLOSED], [bytes((0x20, 3, 0, code, 0)), CLOSED], *_auth(reason, times))


def _ended(code: int, reason: str) -> Case:
    return Case([CLOSED], [bytes((0xE0, 1, code)), CLOSED], _closed(reason))


BIG = b"x" * 200_000
TABLE: dict[str, tuple[Act, Case]] = {
    "bad credentials": (_sign_in(secret=b"wrong"), _refused_sign_in(0x86, "bad_credentials")),
    "revoked": (_revoked, _refused_sign_in(0x87, "revoked")),
    "too many failures": (_guessed, _refused_sign_in(0x9F, "too_many_failures")),
    "second connection, same client id": (_taken_over, _ended(0x8E, "taken_over")),
    "malformed packet": (_sent(b"\x00\x00"), _ended(0x81, "malformed")),
    "protocol error": (_sent(lambda version: connect(version=version)), _ended(0x82, "protocol_error")),
    "packet over max_packet": (_sent(b"\x30\x81\x80\x10"), _ended(0x95, "packet_too_large")),
    "payload over the adapter's max_payload": (_published(JSON, BIG), Case([PUBACK], [PUBACK], kept=1)),
    "topic of another device": (
        _published("vitals/d2/json", closes_v311=True),
        Case([CLOSED], [b"\x40\x03\x00\x01\x87"], *_publish_refused("not_authorised")),
    ),
    "topic that is no ingest topic": (
        _published("home/kitchen", closes_v311=True),
        Case([CLOSED], [b"\x40\x03\x00\x01\x90"], *_publish_refused("topic_invalid")),
    ),
    "unknown adapter": (_published("vitals/d1/abacus"), Case([PUBACK], [PUBACK], kept=1)),
    "undecodable payload": (_published(JSON, b"\xff\x00"), Case([PUBACK], [PUBACK], kept=1)),
    "device over its rate": (
        _paused, Case([b"", b"\xd0\x00"], [b"", b"\xd0\x00"], "vitalgate_rate_pauses_total", kept=15),
    ),
    "device beyond its burst": (_over_rate, _ended(0x96, "message_rate")._replace(kept=100)),
    "log not writable": (
        _not_writable, Case([b"\x20\x02\x00\x03", PUBACK], [b"\x20\x03\x00\x88\x00", PUBACK], kept=1),
    ),
    "subscription to anything but the own command topic": (
        _subscribed, Case([b"\x90\x03\x00\x01\x80"], [b"\x90\x04\x00\x01\x00\x87"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("row", TABLE)
def test_refusal_table(tmp_path: Path, row: str, version: int) -> None:
    act, case = TABLE[row]
    with Gateway(tmp_path, GatewaySettings(rate_per_s=10, burst=10)) as gateway:
        assert act(gateway, version) == (case.v311 if version == 4 else case.v5)
        counted = case.counted_v5 if case.counted_v5 and version == 5 else case.counted
        if counted:
            eventually(lambda: gateway.counted(counted) == case.times, what=f"{counted} counted")
        eventually(lambda: len(messages(gateway.log)) == case.kept)
        with RawClient(gateway.port) as other:
            assert other.sign_in("d3", version=version)[3] == 0, "the gateway serves others"
