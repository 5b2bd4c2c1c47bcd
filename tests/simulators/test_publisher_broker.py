"""The publisher against a real broker: all versions and levels, refusals, a broker that dies and returns."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from simulators.publisher import MqttVersion, Options, Outgoing, Publisher, QoS
from tests.simulators.conftest import Broker
from tests.support import free_port, loopback_server
from vitals.errors import BackendError, InvalidRequest, NotAuthorised

pytestmark = pytest.mark.servers

PAYLOADS = [f"payload {number:03d}".encode() for number in range(200)]
MESSAGES = [Outgoing("json", payload) for payload in PAYLOADS]


def options(broker: Broker, **changes: object) -> Options:
    return replace(Options("127.0.0.1", broker.port, deadline_s=20, backoff_s=0.02), **changes)  # type: ignore[arg-type]


class Inbox:
    """What a subscriber got."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self._changed = asyncio.Condition()

    async def read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            async with self._changed:
                self.messages.append((message.topic.value, message.payload))
                self._changed.notify_all()

    async def holds(self, payloads: list[bytes]) -> None:
        """Wait until every one of ``payloads`` has arrived."""

        def complete() -> bool:
            return not set(payloads) - {payload for _, payload in self.messages}

        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(complete)


@contextlib.asynccontextmanager
async def subscriber(broker: Broker) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("vitals/#", qos=2)
        reading = asyncio.create_task(inbox.read(client))
        try:
            yield inbox
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await reading


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("qos", list(QoS))
@pytest.mark.parametrize("protocol", list(MqttVersion))
def test_every_message_arrives_once_and_in_order(
    broker: Broker, protocol: MqttVersion, qos: QoS, persistent: bool
) -> None:
    async def main() -> None:
        async with subscriber(broker) as inbox:
            wanted = options(broker, protocol=protocol, qos=qos, persistent=persistent)
            async with Publisher("d1", "s", wanted) as publisher:
                acked = await publisher.publish_all(MESSAGES)
            await inbox.holds(PAYLOADS)
            assert inbox.messages == [("vitals/d1/json", payload) for payload in PAYLOADS]
            assert Counter(acked) == Counter(MESSAGES)
            counts = publisher.counts
            assert (counts.sent, counts.acked, counts.refused, counts.connections) == (200, 200, 0, 1)
            assert publisher.failure is None

    asyncio.run(main())


def test_topics_name_device_adapter_and_kind(broker: Broker) -> None:
    async def main() -> None:
        async with subscriber(broker) as inbox, Publisher("hub", None, options(broker)) as publisher:
            assert await publisher.publish(Outgoing("ble_plx", b"1", "2a5e"))
            assert await publisher.publish(Outgoing("json", b"2", device="child"))
            await inbox.holds([b"1", b"2"])
            assert inbox.messages == [("vitals/hub/ble_plx/2a5e", b"1"), ("vitals/child/json", b"2")]

    asyncio.run(main())


@pytest.mark.parametrize("qos", [QoS.AT_LEAST_ONCE, QoS.EXACTLY_ONCE])
@pytest.mark.parametrize("protocol", list(MqttVersion))
@pytest.mark.parametrize("persistent", [False, True])
def test_a_broker_that_dies_in_between_loses_nothing(
    broker: Broker, protocol: MqttVersion, qos: QoS, persistent: bool
) -> None:
    async def main() -> None:
        wanted = options(broker, protocol=protocol, qos=qos, persistent=persistent)
        async with Publisher("d1", "s", wanted) as publisher:
            before = await publisher.publish_all(MESSAGES[:100])
            await asyncio.to_thread(broker.kill)
            rest = asyncio.create_task(publisher.publish_all(MESSAGES[100:]))
            await asyncio.sleep(0)
            await asyncio.to_thread(broker.start)
            after = await rest
        assert Counter([*before, *after]) == Counter(MESSAGES)
        assert publisher.counts.acked == 200
        assert publisher.counts.connections == 2

    asyncio.run(main())


@pytest.mark.parametrize("protocol", list(MqttVersion))
def test_messages_under_way_when_the_broker_dies_are_sent_again(broker: Broker, protocol: MqttVersion) -> None:
    """The broker is stopped, so that messages leave and no acknowledgement comes; then it dies for good."""

    async def main() -> None:
        async with Publisher("d1", "s", options(broker, protocol=protocol, inflight=20)) as publisher:
            broker.pause()
            sending = asyncio.create_task(publisher.publish_all(MESSAGES))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 20:
                    await asyncio.sleep(0.005)
            assert publisher.counts.acked == 0
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            assert Counter(await sending) == Counter(MESSAGES)
        assert (publisher.counts.acked, publisher.counts.connections) == (200, 2)

    asyncio.run(main())


def test_inflight_is_bounded(broker: Broker) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker, inflight=7)) as publisher:
            broker.pause()
            sending = asyncio.create_task(publisher.publish_all(MESSAGES))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 7:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert publisher.counts.sent == 7
            broker.resume()
            assert len(await sending) == 200

    asyncio.run(main())


def test_the_receive_maximum_of_the_server_is_kept(tmp_path: Path) -> None:
    """mosquitto ends a connection that exceeds it (reason 0x93)."""
    broker = Broker(tmp_path, "allow_anonymous true", "max_inflight_messages 3")
    broker.start()

    async def main() -> None:
        async with Publisher("d1", "s", options(broker, protocol=MqttVersion.V5, inflight=500)) as publisher:
            broker.pause()
            sending = asyncio.create_task(publisher.publish_all(MESSAGES))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 3:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert publisher.counts.sent == 3
            broker.resume()
            assert len(await sending) == 200
            assert publisher.counts.connections == 1

    try:
        asyncio.run(main())
    finally:
        broker.kill()


def test_qos_0_lost_on_the_way_is_not_waited_for(broker: Broker) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker, qos=QoS.AT_MOST_ONCE)) as publisher:
            broker.pause()
            # More than the socket's buffers hold: some of it can never be written.
            big = [Outgoing("json", bytes(4_000_000)) for _ in range(10)]
            sending = asyncio.create_task(publisher.publish_all(big))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 10:
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            async with asyncio.timeout(10):
                acked = await sending
            assert len(acked) < 10
            assert await publisher.publish(Outgoing("json", b"after"))

    asyncio.run(main())


@pytest.mark.parametrize("protocol", list(MqttVersion))
@pytest.mark.parametrize("persistent", [False, True])
def test_wrong_credentials_are_refused_at_once(broker: Broker, protocol: MqttVersion, persistent: bool) -> None:
    async def main() -> None:
        with pytest.raises(NotAuthorised, match="d1"):
            async with Publisher("d1", "wrong", options(broker, protocol=protocol, persistent=persistent)):
                pass

    broker.kill()
    broker.configure("allow_anonymous false")
    broker.start()
    asyncio.run(asyncio.wait_for(main(), 5))


@pytest.mark.parametrize("protocol", list(MqttVersion))
def test_credentials_revoked_while_away_end_the_publisher(broker: Broker, protocol: MqttVersion) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker, protocol=protocol)) as publisher:
            assert len(await publisher.publish_all(MESSAGES[:5])) == 5
            await asyncio.to_thread(broker.kill)
            broker.configure("allow_anonymous false")
            await asyncio.to_thread(broker.start)
            async with asyncio.timeout(10):
                assert await publisher.publish_all(MESSAGES[5:]) == []
            assert isinstance(publisher.failure, NotAuthorised)
            assert await publisher.publish(MESSAGES[0]) is False
            assert publisher.counts.acked == 5

    asyncio.run(main())


def test_a_message_refused_by_reason_code_is_not_acknowledged(broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker, protocol=MqttVersion.V5)) as publisher:
            good, bad = Outgoing("json", b"good"), Outgoing("json", b"bad", device="other")
            assert await publisher.publish_all([bad, good, bad]) == [good]
            assert (publisher.counts.acked, publisher.counts.refused) == (1, 2)

    rules = tmp_path / "acl"
    rules.write_text("user d1\ntopic write vitals/d1/#\n")
    broker.kill()
    broker.configure("allow_anonymous true", f"acl_file {rules}")
    broker.start()
    asyncio.run(main())


@pytest.mark.parametrize(("answers", "acked"), [(["92", "00"], True), (["92", "92"], False), (["00"], True)])
def test_a_qos_2_message_that_the_server_forgot_is_sent_once_more(answers: list[str], acked: bool) -> None:
    """A server that lost its session answers PUBREL with 0x92; no broker at hand does, so its bytes are scripted."""

    async def main() -> None:
        script = iter(answers)
        published: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.read(1):
                body = await reader.readexactly((await reader.readexactly(1))[0])
                match head[0] >> 4:
                    case 1:  # CONNECT
                        writer.write(bytes.fromhex("2003000000"))
                    case 3:  # PUBLISH
                        published.append(body)
                        writer.write(b"\x50\x02" + body[16:18])  # PUBREC; the topic is 14 bytes long
                    case 6:  # PUBREL
                        writer.write(b"\x70\x03" + body[:2] + bytes.fromhex(next(script)))

        async with loopback_server(serve) as port:
            wanted = Options("127.0.0.1", port, MqttVersion.V5, QoS.EXACTLY_ONCE, deadline_s=5)
            async with Publisher("d1", "s", wanted) as publisher:
                assert await publisher.publish(Outgoing("json", b"payload")) is acked
            assert publisher.counts.sent == len(published) == len(answers)
            assert publisher.counts.refused == (not acked)

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_packet_id_in_use_is_passed_over(broker: Broker) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker)) as publisher:
            broker.pause()
            first = asyncio.create_task(publisher.publish(MESSAGES[0]))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 1:
                    await asyncio.sleep(0.005)
            publisher._link._client._last_mid = 0  # as after 65,535 more
            second = asyncio.create_task(publisher.publish(MESSAGES[1]))
            await asyncio.sleep(0)
            broker.resume()
            assert await first
            assert await second

    asyncio.run(main())


def test_connecting_can_be_cancelled() -> None:
    async def main() -> None:
        nowhere = Options("127.0.0.1", free_port(), deadline_s=60, backoff_s=0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), Publisher("d1", "s", nowhere):
                pass
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main())


def test_a_server_that_accepts_and_says_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.publisher._CONNACK_S", 0.1)

    async def main() -> None:
        connections: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            number = len(connections)
            while head := await reader.read(1):
                body = await reader.readexactly((await reader.readexactly(1))[0])
                if head[0] >> 4 == 1 and number != 2:
                    writer.write(bytes.fromhex("20020000"))
                if head[0] >> 4 == 3 and number == 1:
                    break
                if head[0] >> 4 == 3:
                    writer.write(b"\x40\x02" + body[16:18])

        async with loopback_server(serve) as port:
            wanted = Options("127.0.0.1", port, deadline_s=5, backoff_s=0.01)
            async with Publisher("d1", "s", wanted) as publisher:
                assert await publisher.publish(Outgoing("json", b"payload"))
            assert (len(connections), publisher.counts.connections) == (3, 2)

    asyncio.run(asyncio.wait_for(main(), 10))


def test_no_server_is_given_up_at_the_deadline() -> None:
    async def main() -> None:
        nowhere = Options("127.0.0.1", free_port(), deadline_s=0.3, backoff_s=0.05)
        with pytest.raises(BackendError, match="no connection in time") as caught:
            async with Publisher("d1", "s", nowhere):
                pass
        assert caught.value.retryable

    asyncio.run(main())


def test_a_server_that_stays_away_ends_with_what_was_acknowledged(broker: Broker) -> None:
    async def main() -> None:
        async with Publisher("d1", "s", options(broker, deadline_s=0.3)) as publisher:
            await publisher.publish_all(MESSAGES[:10])
            broker.pause()
            sending = asyncio.create_task(publisher.publish_all(MESSAGES[10:]))
            async with asyncio.timeout(10):
                while publisher.counts.sent < 30:
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(broker.kill)
            assert await sending == []
            assert isinstance(publisher.failure, BackendError)
            assert publisher.counts.acked == 10

    asyncio.run(main())


def test_an_old_session_cannot_swallow_a_new_message(broker: Broker) -> None:
    """A device that died between the halves of QoS 2 starts again and reuses the packet id for something else."""

    async def main() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(bytes.fromhex("100e00044d5154540400003c00026431"))  # CONNECT d1, session kept
        assert (await reader.readexactly(4))[3] == 0
        topic = b"vitals/d1/json"
        body = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + b"first"
        writer.write(bytes([0x34, len(body)]) + body)  # PUBLISH QoS 2, packet id 1
        assert await reader.readexactly(4) == bytes.fromhex("50020001")  # PUBREC, and no PUBREL follows
        writer.close()
        await writer.wait_closed()
        async with subscriber(broker) as inbox:
            wanted = options(broker, qos=QoS.EXACTLY_ONCE, persistent=True)
            async with Publisher("d1", "s", wanted) as publisher:
                assert await publisher.publish(Outgoing("json", b"second"))
            await inbox.holds([b"second"])

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [{"inflight": 0}, {"inflight": 70_000}, {"deadline_s": 0}, {"backoff_s": 0}], ids=str)
def test_options_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        Options("127.0.0.1", 1883, **wrong)  # type: ignore[arg-type]
