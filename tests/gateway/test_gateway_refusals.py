"""The refusal table of the outside contract against a live gateway, both versions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.harness import (
    Gateway,
    RawClient,
    connect,
    events,
    frame,
    messages,
    puback,
    publish,
    pubrel,
    text,
    wait_for_messages,
)
from tests.support import eventually

CLOSED = b""
OK = {4: b"\x20\x02\x00\x00", 5: b"\x20"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(params=[4, 5])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def by_version(version: int, v311: bytes, v5: bytes) -> bytes:
    return v311 if version == 4 else v5


@pytest.mark.parametrize(("device", "secret"), [("d1", b"wrong"), ("nobody", b"x"), ("not/a name", b"x"), (None, b"")])
def test_bad_credentials(gateway: Gateway, version: int, device: str | None, secret: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(connect(device, version=version, secret=secret))
        assert client.packet() == by_version(version, b"\x20\x02\x00\x05", b"\x20\x03\x00\x86\x00")
        assert client.packet() == CLOSED


def test_revoked(tmp_path: Path, version: int) -> None:
    with Gateway(tmp_path) as gateway:
        gateway.registry.revoke("d2")
        with RawClient(gateway.port) as client:
            assert client.sign_in("d2", version=version) == by_version(
                version, b"\x20\x02\x00\x05", b"\x20\x03\x00\x87\x00"
            )
            assert client.packet() == CLOSED
        assert 'vitalgate_auth_failures_total{reason="revoked"} 1.0' in gateway.status()["metrics"]


def test_too_many_failures(tmp_path: Path, version: int) -> None:
    with Gateway(tmp_path) as gateway:
        answers = []
        for _ in range(12):
            with RawClient(gateway.port) as client:
                answers.append(client.sign_in("d1", version=version, secret=b"guess"))
        throttled = by_version(version, b"\x20\x02\x00\x05", b"\x20\x03\x00\x9f\x00")
        assert answers[10:] == [throttled] * 2
        assert answers[9] == by_version(version, b"\x20\x02\x00\x05", b"\x20\x03\x00\x86\x00")
        metrics = gateway.status()["metrics"]
        assert 'vitalgate_auth_failures_total{reason="bad_credentials"} 10.0' in metrics
        assert 'vitalgate_auth_failures_total{reason="too_many_failures"} 2.0' in metrics
        with RawClient(gateway.port) as client:
            assert client.sign_in("d2", version=version).startswith(OK[version]), "another device is not held up"


def test_registry_down(tmp_path: Path, version: int) -> None:
    with Gateway(tmp_path) as gateway:
        gateway.registry.down = True
        with RawClient(gateway.port) as client:
            reply = by_version(version, b"\x20\x02\x00\x03", b"\x20\x03\x00\x88\x00")
            assert client.sign_in("d1", version=version) == reply
        eventually(lambda: gateway.status()["reasons"] == ["registry_unavailable"])
        gateway.registry.down = False
        eventually(lambda: gateway.status()["ready"])


def test_second_connection_with_the_same_client_id_closes_the_first(gateway: Gateway, version: int) -> None:
    with RawClient(gateway.port) as old, RawClient(gateway.port) as new, RawClient(gateway.port) as other:
        old.sign_in("d1", version=version, client_id="same")
        other.sign_in("d2", version=version, client_id="same")
        assert new.sign_in("d1", version=version, client_id="same").startswith(OK[version])
        if version == 5:
            assert old.packet() == b"\xe0\x01\x8e"
        assert old.packet() == CLOSED
        for client in (new, other):
            client.send(b"\xc0\x00")
            assert client.packet() == b"\xd0\x00"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x00", b"\x81"),
        (b"\x36\x02\x00\x00", b"\x81"),
        (connect(version=5), b"\x82"),
        (b"\x30\x81\x80\x10", b"\x95"),
    ],
    ids=["malformed", "qos 3", "second connect", "packet over max_packet"],
)
def test_protocol_errors(gateway: Gateway, version: int, data: bytes, code: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(data)
        if version == 5:
            assert client.packet() == b"\xe0\x01" + code
        assert client.packet() == CLOSED


def test_a_packet_of_exactly_max_packet_is_taken(gateway: Gateway, version: int) -> None:
    topic = "vitals/d1/exactly"
    overhead = 4 + 2 + len(topic) + 2 + (version == 5)
    whole = publish(topic, bytes(256 * 1024 - overhead), version=version)
    assert len(whole) == 256 * 1024
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(whole)
        assert client.packet() == puback(1)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("vitals/d2/json", b"\x87"),
        ("vitals/stray/json", b"\x87"),
        ("vitals/nobody/json", b"\x87"),
        ("vitals/d1", b"\x90"),
        ("home/kitchen", b"\x90"),
    ],
)
def test_topics_that_a_device_may_not_publish_to(gateway: Gateway, version: int, topic: str, code: bytes) -> None:
    before = len(messages(gateway.log))
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(publish(topic, b"x", version=version))
        assert client.packet() == by_version(version, CLOSED, b"\x40\x03\x00\x01" + code)
        if version == 5:
            client.send(publish(topic, b"x", version=version, qos=0))
            assert client.packet() == b"\xe0\x01" + code
            assert client.packet() == CLOSED
    assert len(messages(gateway.log)) == before


def test_refused_publishes_keep_their_place_among_the_acks(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=5)
        client.send(
            publish("vitals/d1/order", b"1", version=5, packet_id=1),
            publish("vitals/d2/order", b"2", version=5, packet_id=2),
            publish("vitals/d1/order", b"3", version=5, packet_id=3, qos=2),
            publish("nowhere", b"4", version=5, packet_id=4, qos=2),
            pubrel(3),
            publish("vitals/d1/order", b"5", version=5, packet_id=5),
        )
        assert client.packets(6) == [
            puback(1), b"\x40\x03\x00\x02\x87", b"\x50\x02\x00\x03", b"\x50\x03\x00\x04\x90", b"\x70\x02\x00\x03",
            puback(5),
        ]  # fmt: skip
    assert [m.payload for m in messages(gateway.log) if m.adapter == "order"] == [b"1", b"3", b"5"]


def test_a_hub_publishes_for_its_children_and_new_ones_at_once(tmp_path: Path, version: int) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as hub:
        hub.sign_in("hub", version=version)
        gateway.registry.enrol_child("newborn", "hub")
        for number, child in enumerate(("kid", "kid2", "newborn"), 1):
            hub.send(publish(f"vitals/{child}/json", b"x", version=version, packet_id=number))
            assert hub.packet() == puback(number)
        assert [message.device for message in messages(gateway.log)] == ["kid", "kid2", "newborn"]
        gateway.registry.revoke("kid")

        def refused() -> bool:
            hub.send(publish("vitals/kid/json", b"late", version=version, packet_id=9))
            return hub.packet() != puback(9)

        eventually(refused, what="a revoked child being refused")


def test_payloads_are_not_judged_here(gateway: Gateway, version: int) -> None:
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(publish("vitals/d1/no_such_adapter/k", b"\xff\x00", version=version))
        assert client.packet() == puback(1)
    assert any(m.adapter == "no_such_adapter" and m.payload == b"\xff\x00" for m in messages(gateway.log))


@pytest.mark.parametrize("pattern", ["#", "commands/d2", "commands/+", "$share/g/commands/d1"])
def test_subscriptions_to_anything_but_the_own_command_topic(gateway: Gateway, version: int, pattern: str) -> None:
    properties = b"\x00" if version == 5 else b""
    with RawClient(gateway.port) as client:
        client.sign_in("d1", version=version)
        client.send(frame(0x82, b"\x00\x01" + properties + text(pattern) + b"\x01"))
        assert client.packet() == frame(0x90, b"\x00\x01" + properties + by_version(version, b"\x80", b"\x87"))
        client.send(frame(0x82, b"\x00\x02" + properties + text("commands/d1") + b"\x01"))
        assert client.packet() == frame(0x90, b"\x00\x02" + properties + b"\x01")


def test_a_will_on_the_topic_of_another(gateway: Gateway, version: int) -> None:
    with RawClient(gateway.port) as client:
        reply = client.sign_in("d1", version=version, will=("vitals/d2/status", b"offline"))
        assert reply == by_version(version, b"\x20\x02\x00\x05", b"\x20\x03\x00\x87\x00")
    assert ("d2", "offline", "status") not in events(gateway.log)


def test_a_connection_after_a_refusal_works(gateway: Gateway, version: int) -> None:
    with RawClient(gateway.port) as client:
        assert client.sign_in("d3", version=version).startswith(OK[version])
        client.send(publish("vitals/d3/after", b"x", version=version))
        assert client.packet() == puback(1)
    assert any(message.adapter == "after" for message in wait_for_messages(gateway.log, 1))
