"""HL7 v2 over MLLP (interop.md 2.1): the same path into the log as MQTT, with the same promise.

A frame is ``0x0B`` message ``0x1C 0x0D``; each is answered with one ACK^R01^ACK, ``AA`` only after the durable append.
A message is filed under the device that the settings give its sender (MSH-3 and MSH-4), for the adapter ``hl7v2``.
Whatever has an MSH and is for us is taken: what is in it is looked at by ingest, and quarantined there if need be.
``AR`` says that a message is no HL7 or not for us, ``AE`` that it cannot be kept. A sender that asks for an accept
acknowledgement and no application acknowledgement (MSH-15 AL, MSH-16 not AL) gets CA, CR and CE for AA, AR and AE.

One message of a connection is handled at a time, so that the frames in memory are bounded by the connections.
"""

import asyncio
import contextlib
import itertools
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

import structlog

from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.hl7.frames import BrokenFrame, Framer, Head, acknowledgement, head_of
from device_gateway.intake import Intake
from device_gateway.sessions import Ticket
from device_gateway.tls import TlsEndpoint, TlsLayer
from vitals.model import Message

ADAPTER: Final = "hl7v2"
KIND: Final = "oru_r01"
KINDS: Final[Mapping[bytes, str]] = MappingProxyType({b"R01": KIND, b"R40": "oru_r40", b"R42": "oru_r40"})
"""Trigger events of ORU that are taken, and the kinds of their messages."""
_READ_BYTES: Final = 64 * 1024
_GRACE_S: Final = 1.0
_ACCEPTED: Final = "AA"
_ERROR: Final = "AE"
_REJECTED: Final = "AR"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MllpEndpoint:
    """Where to serve MLLP: bound loopback sockets, TLS on any address, and the device of each sender, by application
    and facility; ``default_device`` takes the messages of all others, empty for none."""

    sockets: Sequence[socket.socket] = ()
    tls: TlsEndpoint | None = None
    senders: Mapping[tuple[str, str], str] = field(default_factory=dict)
    default_device: str = ""

    def device(self, head: Head) -> str:
        """The device that a message is filed under, empty when its sender is unknown."""
        return self.senders.get(head.sender(), self.default_device)


def kind_of(head: Head) -> str | None:
    """The adapter's kind of a message; None for a message of another type."""
    kind, trigger = [*head.parts(9), b"", b""][:2]
    return KINDS.get(trigger) if kind == b"ORU" else None


class _Stream(asyncio.StreamReaderProtocol):
    """A connection as streams; ``shaken`` is set after its TLS handshake, or when it is gone."""

    def __init__(self, listener: "_Listener") -> None:
        self.shaken = asyncio.Event()
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        super().__init__(reader, lambda reader, writer: listener.connected(self, reader, writer))

    def handshaken(self, _name: str) -> None:
        self.shaken.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.shaken.set()
        super().connection_lost(exc)


class _Listener:
    """All MLLP connections."""

    def __init__(self, intake: Intake, endpoint: MllpEndpoint) -> None:
        self._intake, self._settings, self._endpoint = intake, intake.settings, endpoint
        self._servers: list[asyncio.Server] = []
        self._talks: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._recent: OrderedDict[bytes, Ticket] = OrderedDict()
        self._numbers = itertools.count(1)
        self._started_ns = intake.clock.now_ns()

    async def listen(self) -> None:
        loop, tls = self._intake.loop, self._endpoint.tls

        def plain() -> asyncio.Protocol:
            stream = _Stream(self)
            stream.shaken.set()
            return stream

        def secured() -> asyncio.Protocol:
            assert tls is not None
            return TlsLayer(_Stream(self), tls.context, self._intake.closed)

        for sock in self._endpoint.sockets:
            self._servers.append(await loop.create_server(plain, sock=sock))
        for sock in tls.sockets if tls is not None else ():
            self._servers.append(await loop.create_server(secured, sock=sock))

    def connected(self, stream: _Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection was made; its handshake may be still to come."""
        if len(self._talks) >= self._settings.mllp_connections:
            self._intake.closed["mllp_connections"] += 1
            writer.transport.abort()
            return
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        talk = self._intake.loop.create_task(self._talk(stream, reader, writer), name="mllp")
        self._talks.add(talk)
        self._intake.mllp_connections = len(self._talks)
        talk.add_done_callback(self._ended)

    def _ended(self, talk: asyncio.Task[None]) -> None:
        self._talks.discard(talk)
        self._intake.mllp_connections = len(self._talks)
        if not talk.cancelled() and (error := talk.exception()) is not None:
            _log.error("mllp_connection_failed", error=type(error).__name__)

    async def _talk(self, stream: _Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        framer = Framer(self._settings.mllp_max_frame)
        reason = ""
        try:
            await self._shaken(stream)
            while True:
                message = await self._message(reader, framer)
                if message is None:
                    break
                writer.write(await self._answer(message, str(peer[0]) if peer else ""))
                await self._written(writer)
        except BrokenFrame as broken:
            reason = broken.reason
            if reason == "mllp_frame_too_large":
                await self._refuse(
                    self._acknowledged(head_of(framer.head()), _REJECTED, "frame_too_large"), reader, writer
                )
        except ConnectionError:
            pass
        finally:
            if framer.cut:
                self._intake.closed["mllp_cut_frame"] += framer.cut
            if reason:
                self._intake.closed[reason] += 1
                _log.debug("mllp_connection_closed", reason=reason)
            writer.close()
            # What a client does not take is not waited for.
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(writer.wait_closed(), _GRACE_S)
            writer.transport.abort()

    async def _refuse(self, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client in the middle of what it sends: a close with bytes unread would take the answer back."""
        writer.write(answer)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                while await reader.read(_READ_BYTES):
                    pass

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """What a stop need not wait for: no message is under way."""
        talk = asyncio.current_task()
        assert talk is not None
        self._waiting.add(talk)
        try:
            yield
        finally:
            self._waiting.discard(talk)

    async def _shaken(self, stream: _Stream) -> None:
        try:
            with self._interruptible():
                await asyncio.wait_for(stream.shaken.wait(), self._settings.connect_timeout_s)
        except TimeoutError:
            raise BrokenFrame("mllp_handshake_timeout") from None

    async def _message(self, reader: asyncio.StreamReader, framer: Framer) -> bytes | None:
        """The next message, None when the client hung up between two."""
        begun_s: float | None = None
        while (message := framer.next()) is None:
            now_s = self._intake.loop.time()
            begun_s = (begun_s or now_s) if framer.begun else None
            # From its first byte on, however slowly the others come.
            ends_s = now_s + self._settings.mllp_idle_s
            if begun_s is not None:
                ends_s = begun_s + self._settings.packet_timeout_s
            try:
                with self._interruptible():
                    async with asyncio.timeout_at(ends_s):
                        data = await reader.read(_READ_BYTES)
            except TimeoutError:
                raise BrokenFrame("mllp_idle" if begun_s is None else "mllp_frame_timeout") from None
            if not data:
                framer.cut += framer.begun
                return None
            framer.feed(data)
        return message

    async def _written(self, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.wait_for(writer.drain(), self._settings.write_timeout_s)
        except TimeoutError:
            raise BrokenFrame("mllp_write_timeout") from None

    async def _answer(self, message: bytes, peer: str) -> bytes:
        head = head_of(message)
        if head is None:
            return self._acknowledged(None, _REJECTED, "not_hl7")
        return self._acknowledged(head, *await self._verdict(head, message, peer))

    def _acknowledged(self, head: Head | None, code: str, reason: str) -> bytes:
        self._intake.mllp_answers[code, reason or "stored"] += 1
        if head is not None and head.field(15) == b"AL" and head.field(16) != b"AL":
            code = f"C{code[1]}"
        control = f"VG{self._started_ns:X}-{next(self._numbers)}"
        return acknowledgement(head, code, reason, control, self._intake.clock.now_ns())

    async def _verdict(self, head: Head, message: bytes, peer: str) -> tuple[str, str]:
        """The code and, for a refusal, its reason; with ``AA`` the message is durable."""
        intake = self._intake
        if kind_of(head) is None:
            return _REJECTED, "unsupported_message"
        device = self._endpoint.device(head)
        if not device:
            return _REJECTED, "unknown_sender"
        outcome = await intake.access.authenticate(device, b"", peer, certified=device)
        if outcome is SignIn.UNAVAILABLE:
            return _ERROR, "registry_unavailable"
        if outcome is not SignIn.ALLOWED:
            return _REJECTED, "revoked" if outcome is SignIn.REVOKED else "unknown_device"
        if over_s := intake.meter(device).over_s(intake.loop.time()):
            intake.rate_pauses += 1
            await asyncio.sleep(over_s)
        if intake.batcher.blocked:
            return _ERROR, "log_not_writable"
        durable = self._append(device, head, message)
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                await durable.wait()
        except TimeoutError:
            return _ERROR, "log_not_writable"
        return _ACCEPTED, ""

    def _append(self, device: str, head: Head, message: bytes) -> asyncio.Event:
        """Offer a message to the log; the event is set once it is durable."""
        key = blake2b(message, digest_size=16, key=device.encode()[:64]).digest()
        # Without a number a repeated message may be a new one.
        older = self._recent.get(key) if head.field(10) else None
        ticket = Ticket(0)
        if older is None:
            self._recent[key] = ticket
            if len(self._recent) > self._settings.resend_memory:
                self._recent.popitem(last=False)
        entry = Message(device, ADAPTER, kind_of(head) or KIND, self._intake.clock.now_ns(), message)
        return self._intake.take(device, [Accept(entry, ticket=ticket, resend_of=older)])

    async def stop(self) -> None:
        """Take nothing more; messages that are in the batcher are still answered, for a while."""
        for server in self._servers:
            server.close()
        for talk in list(self._waiting):
            talk.cancel()
        if self._talks:
            await asyncio.wait(list(self._talks), timeout=self._settings.stop_timeout_s)
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@asynccontextmanager
async def serve_mllp(intake: Intake, endpoint: MllpEndpoint | None) -> AsyncIterator[None]:
    """Serve MLLP while in the context; nothing when it is None. Plain sockets are loopback ones: the caller checks."""
    if endpoint is None:
        yield
        return
    listener = _Listener(intake, endpoint)
    await listener.listen()
    try:
        yield
    finally:
        await listener.stop()
