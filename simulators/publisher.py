"""A device's side of MQTT: publish, survive broken connections, and record acknowledgements.

Built on aiomqtt, with one client for the life of the publisher, so that packet ids and unacknowledged messages outlive
a connection: a resumed session must never see an old packet id with a new payload, and QoS 2 stays exactly once.
Three callbacks are extended because aiomqtt drops what a device has to know: the reason of an acknowledgement
(MQTT 5 refuses by reason code, device-formats.md 7.2), the receive maximum, and the CONNACK of a reconnection. One
thing stays out of reach: paho does not look at the reason of a PUBREC, so a QoS 2 message refused there counts as
refused only when the server answers the PUBREL that follows with 0x92, as one that has no such message should.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import TracebackType
from typing import Any, Self

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from vitals.errors import BackendError, InvalidRequest, NotAuthorised, VitalgateError


class MqttVersion(StrEnum):
    """MQTT version."""

    V311 = "3.1.1"
    V5 = "5"


class QoS(IntEnum):
    """Delivery: at most once (no acknowledgement), at least once, exactly once."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1
    EXACTLY_ONCE = 2


_REFUSED_FOR_GOOD = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""CONNACK reasons that another attempt does not change; paho maps the codes of 3.1.1 to these."""
_FAILURE = 0x80
_PACKET_ID_NOT_FOUND = 0x92
_SESSION_EXPIRY_S = 86_400
_CONNACK_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to reach a gateway or broker.

    ``persistent`` asks for a session that outlives the connection (3.1.1: clean session off). ``inflight`` bounds the
    messages under way, lowered to the server's receive maximum. ``deadline_s`` is how long a connection may stay lost
    before the publisher gives up; attempts back off from ``backoff_s`` to ``backoff_max_s``, with jitter.
    """

    host: str
    port: int
    protocol: MqttVersion = MqttVersion.V311
    qos: QoS = QoS.AT_LEAST_ONCE
    persistent: bool = False
    keepalive_s: int = 60
    inflight: int = 20
    deadline_s: float = 60.0
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.inflight <= 65_535:
            raise InvalidRequest("inflight", "must be 1 to 65535")
        if self.deadline_s <= 0 or self.backoff_s <= 0:
            raise InvalidRequest("deadline_s", "deadline and back-off must be positive")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message: the adapter and kind of its topic, and its bytes. ``device`` differs from the user behind a hub."""

    adapter: str
    payload: bytes
    kind: str = ""
    device: str = ""

    def topic(self, publisher: str) -> str:
        """``vitals/{device}/{adapter}[/{kind}]`` (CONTRACTS, MQTT)."""
        return f"vitals/{self.device or publisher}/{self.adapter}" + (f"/{self.kind}" if self.kind else "")


@dataclass(slots=True)
class Counts:
    """What happened: ``sent`` messages handed to the connection; ``acked`` of them acknowledged (QoS 0: written to
    the socket); ``refused`` by an MQTT 5 reason code; ``connections`` made."""

    sent: int = 0
    acked: int = 0
    refused: int = 0
    connections: int = 0


class _Link(aiomqtt.Client):
    """aiomqtt's client, keeping the reasons that it discards."""

    def __init__(self, options: Options, user: str, secret: str | None, client_id: str, counts: Counts) -> None:
        fresh = options.protocol is MqttVersion.V5
        properties: Properties | None = None
        if fresh and options.persistent:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_EXPIRY_S
        super().__init__(
            options.host,
            options.port,
            username=user,
            password=secret,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if fresh else aiomqtt.ProtocolVersion.V311,
            clean_session=None if fresh else not options.persistent,
            clean_start=True if fresh and not options.persistent else paho.MQTT_CLEAN_START_FIRST_ONLY,
            keepalive=options.keepalive_s,
            properties=properties,
        )
        self._client.max_inflight_messages_set(0)
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.receive_maximum = 65_535
        self.refusal: ReasonCode | None = None
        self._qos, self._counts = options.qos, counts
        self._outcomes: dict[int, asyncio.Future[int | None]] = {}

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        super()._on_connect(client, userdata, flags, reason_code, properties)
        self.refusal = reason_code if reason_code.is_failure else None
        if self.refusal is None:
            self.receive_maximum = getattr(properties, "ReceiveMaximum", 65_535)
            self._counts.connections += 1
            self.up.set()

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.lost()
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        super()._on_publish(client, userdata, mid, reason_code, properties)
        outcome = self._outcomes.pop(mid, None)
        if outcome is not None and not outcome.done():
            outcome.set_result(int(reason_code.value))

    def send(self, topic: str, payload: bytes) -> asyncio.Future[int | None]:
        """Hand one message over; the future gets the reason code of its acknowledgement, None when it is abandoned.

        With QoS 1 and 2 paho keeps the message until then and sends it again after a reconnection (DUP, same packet
        id), whatever this attempt's return code says; so the future simply stays open across connections.
        """
        info = self._client.publish(topic, payload, int(self._qos))
        while info.rc == paho.MQTT_ERR_QUEUE_SIZE:  # a packet id still in use; the next one may be free
            info = self._client.publish(topic, payload, int(self._qos))
        outcome: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if self._qos is QoS.AT_MOST_ONCE and (info.rc != paho.MQTT_ERR_SUCCESS or info.is_published()):
            outcome.set_result(None if info.rc else 0)
        else:
            self._outcomes[info.mid] = outcome
        return outcome

    def lost(self) -> None:
        """The connection broke; unacknowledged messages may be lost."""
        self.up.clear()
        self.down.set()
        if self._qos is QoS.AT_MOST_ONCE:
            self.abandon()

    async def ended(self) -> None:
        """Wait for the end of the connection. aiomqtt misses one that comes before it has noticed the reconnection,
        and paho's callback misses a socket error; whichever sign comes first counts."""
        signs = [asyncio.ensure_future(self._drain()), asyncio.ensure_future(self.down.wait())]
        try:
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sign in signs:
                sign.cancel()
            self.lost()

    async def _drain(self) -> bool:
        with contextlib.suppress(aiomqtt.MqttError):
            async for _ in self.messages:
                pass
        return True

    def abandon(self) -> None:
        """End every wait for an acknowledgement: none will arrive."""
        for outcome in self._outcomes.values():
            if not outcome.done():
                outcome.set_result(None)
        self._outcomes.clear()


class Publisher:
    """One device's connection; ``async with`` it. ``failure`` is why it gave up, None while it has not."""

    def __init__(self, device: str, secret: str | None, options: Options, *, client_id: str | None = None) -> None:
        self.device, self.options = device, options
        self.counts = Counts()
        self.failure: VitalgateError | None = None
        self._secret, self._client_id = secret, client_id or device
        self._random = random.Random(device)  # noqa: S311 - jitter, not a secret
        self._ended = asyncio.Event()
        self._link: _Link
        self._slots: asyncio.Semaphore
        self._keeper: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            NotAuthorised: the server refuses these credentials.
            BackendError: no connection before the deadline.
        """
        self._link = _Link(self.options, self.device, self._secret, self._client_id, self.counts)
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"mqtt {self.device}")
        self._keeper.add_done_callback(lambda _: self._end())
        try:
            await _either(self._link.up, self._ended)
        except BaseException:
            await self._stop()
            raise
        if self._ended.is_set():
            await self._stop()
        if self.failure is not None:
            raise self.failure
        self._slots = asyncio.Semaphore(min(self.options.inflight, self._link.receive_maximum))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; messages that are not acknowledged by now never will be."""
        await self._stop()

    async def _stop(self) -> None:
        self._end()
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper

    async def publish(self, message: Outgoing) -> bool:
        """Publish and wait for the acknowledgement, through as many connections as it takes.

        Returns True when it is acknowledged (QoS 0: written to a socket that was still open), False when the server
        refuses the message or the publisher ends.
        """
        async with self._slots:
            code = await self._deliver(message)
            if code == _PACKET_ID_NOT_FOUND:
                # The server lost the session between the halves of a QoS 2 exchange: it may or may not have kept the
                # message, so it goes out once more.
                code = await self._deliver(message)
        self.counts.acked += code is not None and code < _FAILURE
        self.counts.refused += code is not None and code >= _FAILURE
        return code is not None and code < _FAILURE

    async def _deliver(self, message: Outgoing) -> int | None:
        """The reason code of the acknowledgement; None when it was lost (QoS 0) or the publisher ended."""
        while not (self._link.up.is_set() or self._ended.is_set()):
            await _either(self._link.up, self._ended)
        if self._ended.is_set():
            return None
        self.counts.sent += 1
        return await self._link.send(message.topic(self.device), message.payload)

    async def publish_all(self, messages: Iterable[Outgoing]) -> list[Outgoing]:
        """Publish ``messages`` in order, at most ``inflight`` at a time; returns those acknowledged.

        A shorter list than was given means refusals (``counts.refused``) or that the publisher gave up (``failure``).
        """
        source = iter(messages)
        acked: list[Outgoing] = []

        async def worker() -> None:
            for message in source:
                if await self.publish(message):
                    acked.append(message)
                if self._ended.is_set():
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.inflight):
                group.create_task(worker())
        return acked

    async def _keep_connected(self) -> None:
        """Connect, wait for the end of the connection, back off, again; until stopped or given up."""
        loop = asyncio.get_running_loop()
        lost_at, attempt = loop.time(), 0
        while not self._ended.is_set():
            before = self.counts.connections
            with contextlib.suppress(aiomqtt.MqttError):
                await self._one_connection()
            if self.counts.connections > before:
                lost_at, attempt = loop.time(), 0
            refusal = self._link.refusal
            left_s = lost_at + self.options.deadline_s - loop.time()
            if refusal is not None and refusal.value in _REFUSED_FOR_GOOD:
                self._give_up(NotAuthorised(f"{self.device}: connection refused: {refusal}"))
            elif left_s <= 0:
                self._give_up(BackendError(f"{self.device}: no connection in time", retryable=True))
            else:
                pause_s = min(self.options.backoff_max_s, self.options.backoff_s * 2 ** min(attempt, 10))
                attempt += 1
                await asyncio.sleep(min(left_s, pause_s * self._random.uniform(0.5, 1.0)))

    async def _one_connection(self) -> None:
        """Connect and stay until the connection ends; may raise ``MqttError`` then."""
        link = self._link
        if self.counts.connections == 0:
            await self._forget_old_session()
        link.down.clear()
        async with link:
            # On a reconnection aiomqtt does not wait for the CONNACK.
            try:
                async with asyncio.timeout(_CONNACK_S):
                    await _either(link.up, link.down)
            except TimeoutError:
                raise aiomqtt.MqttError("no CONNACK") from None
            if link.up.is_set():
                await link.ended()

    async def _forget_old_session(self) -> None:
        """A device that has just started has no memory of packet ids: an older session of it at the server would take
        a new QoS 2 message for an old one. MQTT 5 says so on its first connection; 3.1.1 needs a clean one first."""
        if not (self.options.persistent and self.options.protocol is MqttVersion.V311):
            return
        with contextlib.suppress(aiomqtt.MqttCodeError):  # the real connection meets the same refusal and reports it
            async with aiomqtt.Client(
                self.options.host,
                self.options.port,
                username=self.device,
                password=self._secret,
                identifier=self._client_id,
                clean_session=True,
            ):
                pass

    def _give_up(self, failure: VitalgateError) -> None:
        self.failure = failure
        self._end()

    def _end(self) -> None:
        self._ended.set()
        self._link.abandon()


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of ``events`` is set."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
