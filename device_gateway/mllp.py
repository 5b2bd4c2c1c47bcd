"""HL7 v2 over MLLP (interop.md 2.1): the same door as MQTT, with the same promise.

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
import re
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final, NamedTuple

import structlog

from device_gateway.mqtt.actions import Accept, Decision
from device_gateway.mqtt.server import Server
from device_gateway.mqtt.tls import TlsEndpoint, TlsLayer
from device_gateway.sessions import Ticket
from vitals.model import Message

ADAPTER: Final = "hl7v2"
KIND: Final = "oru_r01"
_START: Final = 0x0B
_END: Final = 0x1C
_CR: Final = 0x0D
_READ_BYTES: Final = 64 * 1024
_ECHO_BYTES: Final = 1000
"""More of a field is not sent back: in version 2.6 none of them has more than 227."""
_ACCEPTED: Final = "AA"
_ERROR: Final = "AE"
_REJECTED: Final = "AR"
_TRIGGER: Final = re.compile(rb"[A-Z]\d\d")
_log = structlog.get_logger(__name__)


class BrokenFrame(Exception):
    """The bytes are no frame, and where the next one begins cannot be known; ``reason`` is the word in metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Framer:
    """Bytes to messages. ``cut`` counts frames that another one began in: they are dropped, unacknowledged."""

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()
        self._seen = 0
        self.cut = 0

    @property
    def begun(self) -> bool:
        """Whether a frame waits for its end."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take in bytes."""
        self._buffer += data

    def head(self) -> bytes:
        """The first bytes of the frame that is under way."""
        return bytes(self._buffer[1:_ECHO_BYTES])

    def next(self) -> bytes | None:
        """The next message, None when more bytes are needed; line ends between frames are tolerated.

        Raises:
            BrokenFrame: no start (``mllp_no_frame``), a broken end (``mllp_broken_frame``), or over the largest size
                (``mllp_frame_too_large``).
        """
        buffer = self._buffer
        if not self._seen:
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        if not buffer:
            return None
        if buffer[0] != _START:
            raise BrokenFrame("mllp_no_frame")
        end = buffer.find(_END, self._seen)
        again = buffer.rfind(_START, max(1, self._seen), len(buffer) if end < 0 else end)
        if again > 0:
            self.cut += 1
            del buffer[:again]
            end = end - again if end >= 0 else end
        if (len(buffer) if end < 0 else end) - 1 > self._max_frame:
            raise BrokenFrame("mllp_frame_too_large")
        self._seen = len(buffer) if end < 0 else end
        if end < 0 or end + 1 == len(buffer):
            return None
        if buffer[end + 1] != _CR:
            raise BrokenFrame("mllp_broken_frame")
        message = bytes(buffer[1:end])
        del buffer[: end + 2]
        self._seen = 0
        return message


class Head(NamedTuple):
    """The MSH of a message: ``fields[n]`` is MSH-n."""

    fields: list[bytes]

    def field(self, number: int) -> bytes:
        """MSH-``number``, empty when there is none."""
        return self.fields[number] if number < len(self.fields) else b""

    @property
    def component(self) -> bytes:
        """What separates components."""
        return self.fields[2][:1]

    def parts(self, number: int) -> list[bytes]:
        """Components of a field."""
        return self.field(number).split(self.component)

    def sender(self) -> tuple[str, str]:
        """Application and facility: the name, for an application without one its universal id."""
        application, facility = self.parts(3), self.parts(4)
        named = next((part for part in application[:2] if part), b"")
        return named.decode("latin-1"), facility[0].decode("latin-1")


_NO_HEAD: Final = Head([b"MSH", b"|", b"^~\\&"])


def head_of(message: bytes) -> Head | None:
    """The MSH that a message begins with, None when it begins with none."""
    line = re.split(rb"[\r\n]", message.lstrip(b"\r\n"), maxsplit=1)[0]
    separator = line[3:4]
    if not line.startswith(b"MSH") or separator.isalnum() or separator <= b" ":
        return None
    marks = line[4:].partition(separator)[0]
    if not 1 <= len(marks) <= 5 or any(mark <= 0x20 for mark in marks) or marks[:1].isalnum():
        return None
    return Head([b"MSH", separator, *line[4:].split(separator)])


def acknowledgement(head: Head | None, code: str, reason: str, control: str, now_ns: int) -> bytes:
    """The framed ACK^R01^ACK of a message, in its delimiters: MSA-2 is its MSH-10, MSA-3 the reason of a refusal."""
    known = _NO_HEAD if head is None else head
    separator, component = known.field(1), known.component
    trigger = (known.parts(9)[1:2] or [b""])[0]
    kind = [b"ACK", trigger if _TRIGGER.fullmatch(trigger) else b"R01", b"ACK"]
    time = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).strftime("%Y%m%d%H%M%S+0000")
    header = [
        b"MSH", known.field(2), known.field(5), known.field(6), known.field(3), known.field(4), time.encode(), b"",
        component.join(kind), control.encode(), known.field(11) or b"P", known.field(12) or b"2.6",
    ]  # fmt: skip
    if known.field(18):
        header += [b"", b"", b"", b"", b"", known.field(18)]
    answer = [b"MSA", code.encode(), known.field(10), *([reason.encode()] if reason else [])]
    lines = [separator.join(item[:_ECHO_BYTES] for item in fields) + b"\r" for fields in (header, answer)]
    return b"\x0b" + b"".join(lines) + b"\x1c\r"


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

    def __init__(self, server: Server, endpoint: MllpEndpoint) -> None:
        self._server, self._settings, self._endpoint = server, server.settings, endpoint
        self._servers: list[asyncio.Server] = []
        self._talks: set[asyncio.Task[None]] = set()
        self._reading: set[asyncio.Task[None]] = set()
        self._recent: OrderedDict[bytes, Ticket] = OrderedDict()
        self._numbers = itertools.count(1)
        self._started_ns = server.clock.now_ns()

    async def listen(self) -> None:
        loop, tls = self._server.loop, self._endpoint.tls

        def plain() -> asyncio.Protocol:
            stream = _Stream(self)
            stream.shaken.set()
            return stream

        def secured() -> asyncio.Protocol:
            assert tls is not None
            return TlsLayer(_Stream(self), tls.context, self._server.closed)

        for sock in self._endpoint.sockets:
            self._servers.append(await loop.create_server(plain, sock=sock))
        for sock in tls.sockets if tls is not None else ():
            self._servers.append(await loop.create_server(secured, sock=sock))

    def connected(self, stream: _Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection was made; its handshake may be still to come."""
        if len(self._talks) >= self._settings.mllp_connections:
            self._server.closed["mllp_connections"] += 1
            writer.transport.abort()
            return
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        talk = self._server.loop.create_task(self._talk(stream, reader, writer), name="mllp")
        self._talks.add(talk)
        self._server.mllp_connections = len(self._talks)
        talk.add_done_callback(self._ended)

    def _ended(self, talk: asyncio.Task[None]) -> None:
        self._talks.discard(talk)
        self._server.mllp_connections = len(self._talks)

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
                writer.write(self._acknowledged(head_of(framer.head()), _REJECTED, "frame_too_large"))
        except ConnectionError:
            pass
        finally:
            if framer.cut:
                self._server.closed["mllp_cut_frame"] += framer.cut
            if reason:
                self._server.closed[reason] += 1
                _log.debug("mllp_connection_closed", reason=reason)
            writer.close()
            # What a client does not take is not waited for.
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(writer.wait_closed(), 1.0)
            writer.transport.abort()

    async def _shaken(self, stream: _Stream) -> None:
        try:
            await asyncio.wait_for(stream.shaken.wait(), self._settings.connect_timeout_s)
        except TimeoutError:
            raise BrokenFrame("mllp_handshake_timeout") from None

    async def _message(self, reader: asyncio.StreamReader, framer: Framer) -> bytes | None:
        """The next message, None when the client hung up between two."""
        talk = asyncio.current_task()
        assert talk is not None
        self._reading.add(talk)
        begun_s: float | None = None
        try:
            while (message := framer.next()) is None:
                now_s = self._server.loop.time()
                begun_s = (begun_s or now_s) if framer.begun else None
                # From its first byte on, however slowly the others come.
                ends_s = now_s + self._settings.mllp_idle_s
                if begun_s is not None:
                    ends_s = begun_s + self._settings.packet_timeout_s
                try:
                    async with asyncio.timeout_at(ends_s):
                        data = await reader.read(_READ_BYTES)
                except TimeoutError:
                    raise BrokenFrame("mllp_idle" if begun_s is None else "mllp_frame_timeout") from None
                if not data:
                    framer.cut += framer.begun
                    return None
                framer.feed(data)
            return message
        finally:
            self._reading.discard(talk)

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
        self._server.mllp_answers[code, reason or "stored"] += 1
        if head is not None and head.field(15) == b"AL" and head.field(16) != b"AL":
            code = f"C{code[1]}"
        control = f"VG{self._started_ns:X}-{next(self._numbers)}"
        return acknowledgement(head, code, reason, control, self._server.clock.now_ns())

    async def _verdict(self, head: Head, message: bytes, peer: str) -> tuple[str, str]:
        """The code and, for a refusal, its reason; with ``AA`` the message is durable."""
        server = self._server
        if head.parts(9)[:2] != [b"ORU", b"R01"]:
            return _REJECTED, "unsupported_message"
        device = self._endpoint.device(head)
        if not device:
            return _REJECTED, "unknown_sender"
        decision = await server.access.authenticate(device, b"", peer, certified=device)
        if decision is Decision.UNAVAILABLE:
            return _ERROR, "registry_unavailable"
        if decision is not Decision.ALLOWED:
            return _REJECTED, "revoked" if decision is Decision.REVOKED else "unknown_device"
        if over_s := server.meter(device).over_s(server.loop.time()):
            server.rate_pauses += 1
            await asyncio.sleep(over_s)
        if server.batcher.blocked:
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
        server = self._server
        key = blake2b(message, digest_size=16, key=device.encode()[:64]).digest()
        # Without a number a repeated message may be a new one.
        older = self._recent.get(key) if head.field(10) else None
        ticket = Ticket(0)
        if older is None:
            self._recent[key] = ticket
            if len(self._recent) > self._settings.resend_memory:
                self._recent.popitem(last=False)
        entry = Message(device, ADAPTER, KIND, server.clock.now_ns(), message)
        server.batcher.accept(Accept(entry, ticket=ticket, resend_of=older))
        # At least once, like QoS 1.
        server.received[1] += 1
        server.meter(device).take(1, server.loop.time())
        durable = asyncio.Event()
        server.batcher.when_durable(durable.set)
        return durable

    async def stop(self) -> None:
        """Take nothing more; messages that are in the batcher are still answered, for a while."""
        for server in self._servers:
            server.close()
        for talk in list(self._reading):
            talk.cancel()
        if self._talks:
            await asyncio.wait(list(self._talks), timeout=self._settings.stop_timeout_s)
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@asynccontextmanager
async def serve_mllp(server: Server, endpoint: MllpEndpoint | None) -> AsyncIterator[None]:
    """Serve MLLP while in the context; nothing when it is None. Plain sockets are loopback ones: the caller checks."""
    if endpoint is None:
        yield
        return
    listener = _Listener(server, endpoint)
    await listener.listen()
    try:
        yield
    finally:
        await listener.stop()
