"""One client's socket: drives a ``Session`` and carries out its actions.

Acks come from the batcher, joined into one write per commit. A connection stops being read while any of ``Pause``
holds, and its keep-alive does not run meanwhile.
One call handles a bounded number of packets; what is left waits for the next turn of the loop.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from enum import Flag, auto
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import structlog

from device_gateway.batcher import Accept
from device_gateway.intake import Intake
from device_gateway.mqtt.actions import (
    Action,
    Answer,
    Authenticate,
    Close,
    Expire,
    Open,
    Presence,
    Send,
)
from device_gateway.mqtt.packets import Code
from device_gateway.mqtt.session import Session, State
from device_gateway.rates import Meter
from device_gateway.sessions import SessionKey, StoredSession

_WRITE_HIGH_BYTES = 256 * 1024
_log = structlog.get_logger(__name__)


class Pause(Flag):
    """Why a connection is not read."""

    NONE = 0
    LOG = auto()
    """Too many bytes wait to become durable."""
    OPENING = auto()
    """CONNECT is being decided."""
    WRITING = auto()
    """The client does not take its acks."""
    RATE = auto()
    """The device is over its rate."""
    TURN = auto()
    """Packets already received wait for their turn."""
    ADMISSION = auto()
    """Too many connections came at once: this one waits."""
    STOPPING = auto()


_NEVER = float("inf")
_OURS = Pause.LOG | Pause.RATE | Pause.TURN | Pause.ADMISSION | Pause.STOPPING
"""Pauses that are no fault of the client: its keep-alive is suspended."""


class Connections(Protocol):
    """All connections, as one of them knows them."""

    def admit(self, connection: "Connection") -> bool:
        """Whether there is room for one more connection."""

    def watch(self, connection: "Connection") -> None:
        """``connection.deadline_s`` changed; it may be nearer than before."""

    def open(self, connection: "Connection", key: SessionKey, action: Open) -> tuple[StoredSession, bool]:
        """Make ``connection`` the one of its session; returns the session and whether it was present."""

    def left(self, connection: "Connection", action: Close) -> None:
        """``connection`` is closing."""

    def forget(self, connection: "Connection") -> None:
        """The socket is gone."""


class Connection(asyncio.Protocol):
    """One client, on plain TCP or inside a ``device_gateway.tls.TlsLayer``.

    ``admission`` says when it may begin.
    """

    def __init__(self, intake: Intake, others: Connections, admission: Meter) -> None:
        self._intake, self._others, self._admission = intake, others, admission
        self._loop = intake.loop
        self.session = Session(intake.settings, intake.access.may_publish, _new_client_id)
        self.key: SessionKey | None = None
        self.stored: StoredSession | None = None
        self.opened_ns = 0
        self.deadline_s = self._loop.time() + intake.settings.connect_timeout_s
        self.paused = Pause.NONE
        self._peer = ""
        self._held = b""
        self._meter: Meter | None = None
        self._charged = 0
        self._incomplete = 0
        self._packet_deadline_s = self._write_deadline_s = _NEVER
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport and not its class.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self._admit():
            transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        # A 3.1.1 client without keep-alive that lost its power would stay connected for ever.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._intake.batcher.pressed:
            self.pause(Pause.LOG)

    def _admit(self) -> bool:
        intake, now_s = self._intake, self._loop.time()
        if not self._others.admit(self):
            intake.closed["max_connections"] += 1
            return False
        longest_s = intake.settings.connect_timeout_s
        if self._admission.over_s(now_s) > longest_s:
            intake.closed["admission"] += 1
            return False
        wait_s = self._admission.take(1, now_s)
        if wait_s:
            intake.delayed += 1
            self.deadline_s = now_s + wait_s + longest_s
            self.pause(Pause.ADMISSION)
            self._loop.call_later(wait_s, self.resume, Pause.ADMISSION)
        return True

    def handshaken(self, certified: str) -> None:
        """TLS is up; ``certified`` is the device that the client's certificate names."""
        self.session.certified = certified

    def data_received(self, data: bytes) -> None:
        if self.paused:
            # A pause before the transport has begun to read does not hold it back.
            self._held += data
            self._transport.pause_reading()
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self.session.keep_alive_s:
            self._alive()
        self.carry_out(self.session.receive(data, self._intake.clock.now_ns()))
        self._look_after()

    def _look_after(self) -> None:
        """What the packets just handled mean for rate, deadlines and the next turn."""
        session = self.session
        if session.published != self._charged:
            self._charge()
        if session.incomplete != self._incomplete:
            self._time_packet()
        if session.behind and session.state is not State.CLOSED:
            self.pause(Pause.TURN)
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        if self.session.state is not State.CLOSED:
            self._feed(b"")
        if not self.session.behind:
            self.resume(Pause.TURN)

    def _charge(self) -> None:
        meter, count = self._meter, self.session.published - self._charged
        assert meter is not None
        self._charged = self.session.published
        over_s = meter.take(count, self._loop.time())
        if over_s > meter.burst_s:
            self.carry_out(self.session.shut(Code.MESSAGE_RATE, "over its rate and burst"))
        elif over_s and not self.paused & Pause.RATE:
            self._intake.rate_pauses += 1
            self.pause(Pause.RATE)
            self._loop.call_later(over_s, self._repaid, meter)

    def _repaid(self, meter: Meter) -> None:
        over_s = meter.over_s(self._loop.time())
        if over_s and self.session.state is not State.CLOSED:
            self._loop.call_later(over_s, self._repaid, meter)
        else:
            self.resume(Pause.RATE)

    def _time_packet(self) -> None:
        self._incomplete = self.session.incomplete
        timed = self._incomplete and self.session.state is State.CONNECTED
        timeout_s = self._intake.settings.packet_timeout_s
        self._packet_deadline_s = self._loop.time() + timeout_s if timed else _NEVER
        if timed:
            self._alive()
            self._others.watch(self)

    def pause_writing(self) -> None:
        self.pause(Pause.WRITING)
        self._write_deadline_s = self._loop.time() + self._intake.settings.write_timeout_s
        self.deadline_s = min(self.deadline_s, self._write_deadline_s)
        self._others.watch(self)

    def resume_writing(self) -> None:
        self._write_deadline_s = _NEVER
        self.resume(Pause.WRITING)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._opening is not None:
            self._opening.cancel()
        self._others.forget(self)
        self.carry_out(self.session.lost())

    # Batcher's receiver

    def release(self, acks: bytes, settled: int) -> None:
        if self.session.state is State.CONNECTED:
            self.session.settled(settled)
            self._transport.write(acks)

    # Actions

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Carry out the session's actions in order; consecutive answers are sent in one write."""
        answers = b""
        for action in actions:
            if type(action) is Accept:
                self._accept(action)
            elif type(action) is Send:
                answers += action.data
            else:
                if answers:
                    self._transport.write(answers)
                    answers = b""
                _CARRIERS[type(action)](self, action)
        if answers:
            self._transport.write(answers)

    def _accept(self, action: Accept) -> None:
        intake = self._intake
        if action.hold:
            self._hold(action.hold)
        intake.received[action.settles or (2 if action.hold else 0)] += 1
        intake.batcher.accept(action)
        if action.ack:
            intake.batcher.acknowledge(self, action.ack, action.settles)

    def _hold(self, packet_id: int) -> None:
        assert self.stored is not None
        self._intake.batcher.change(self.stored.hold(packet_id))

    def _answer(self, action: Answer) -> None:
        if action.refused:
            self._intake.publishes_refused[action.refused] += 1
        if action.release:
            assert self.stored is not None
            self._intake.batcher.change(self.stored.release(action.release))
        self._intake.batcher.acknowledge(self, action.ack, action.settles)

    def _presence(self, action: Presence) -> None:
        if action.hold:
            self._hold(action.hold)
        self._intake.batcher.event(action.event)
        if action.ack:
            self._intake.batcher.acknowledge(self, action.ack, action.settles)

    def _authenticate(self, action: Authenticate) -> None:
        self.pause(Pause.OPENING)
        if self._intake.batcher.blocked:
            self.carry_out(self.session.unavailable())
            return
        self._opening = self._loop.create_task(self._decide(action), name="mqtt-sign-in")

    async def _decide(self, action: Authenticate) -> None:
        access = self._intake.access
        outcome = await access.authenticate(action.device, action.secret, self._peer, action.certified)
        self._intake.signed_in(outcome)
        self.carry_out(self.session.decided(outcome))

    def _open(self, action: Open) -> None:
        self.key = SessionKey(action.device, action.client_id)
        self._meter = self._intake.meter(action.device)
        self.stored, present = self._others.open(self, self.key, action)
        stored = self.stored

        def opened() -> None:
            self._alive()
            self._others.watch(self)
            self.carry_out(self.session.opened(stored, present=present, now_ns=self._intake.clock.now_ns()))
            self._look_after()
            self.resume(Pause.OPENING)

        self._intake.batcher.when_durable(opened)

    def _expire(self, action: Expire) -> None:
        assert self.stored is not None
        self.stored.expiry_s = action.expiry_s

    def _close(self, action: Close) -> None:
        self._others.left(self, action)
        if self.session.cause:
            self._intake.closed[self.session.cause] += 1
        # Flushes what was written, also to a client that does not read: the wheel aborts it then.
        self.deadline_s = self._loop.time() + self._intake.settings.stop_timeout_s
        self._others.watch(self)
        self._transport.close()
        _log.debug("connection_closed", device=self.session.device, reason=action.reason)

    def _alive(self) -> None:
        # One and a half times the keep-alive (3.1.2.10); without one a connection is never overdue.
        keep_alive_s = self.session.keep_alive_s
        alive_s = self._loop.time() + 1.5 * keep_alive_s if keep_alive_s else _NEVER
        self.deadline_s = min(alive_s, self._packet_deadline_s, self._write_deadline_s)

    def overdue(self, now_s: float) -> None:
        """The deadline passed: no CONNECT, no sign of life, a packet that is never complete, acks that are never read,
        or a close that the client does not let finish."""
        if self.session.state is State.CLOSED:
            self._transport.abort()
        elif self.paused & _OURS:
            self.deadline_s = now_s + 1.0
        elif self._write_deadline_s <= now_s:
            self.session.cause = "write_timeout"
            self.carry_out(self.session.shut(Code.ADMINISTRATIVE, "does not read"))
            self._transport.abort()
        elif self._packet_deadline_s <= now_s:
            self.session.cause = "packet_timeout"
            self.carry_out(self.session.shut(Code.ADMINISTRATIVE, "packet not completed"))
        else:
            if self.stored is None:
                self.session.cause = "connect_timeout"
            self.carry_out(self.session.shut(Code.KEEP_ALIVE_TIMEOUT, "timeout"))

    def abort(self) -> None:
        """Close at once; unsent bytes are lost."""
        self._transport.abort()

    def pause(self, why: Pause) -> None:
        """Stop reading for one more reason."""
        if not self.paused and not self._transport.is_closing():
            self._transport.pause_reading()
        self.paused |= why

    def resume(self, why: Pause) -> None:
        """Take back one reason; read again when none is left."""
        if not self.paused & why:
            return
        self.paused &= ~why
        if not self.paused and not self._transport.is_closing():
            # What the client sent meanwhile could not be seen: its time starts again.
            if self.session.state is State.CONNECTED:
                self._time_packet()
                self._alive()
            self._transport.resume_reading()
            held, self._held = self._held, b""
            if held:
                self._feed(held)


_CARRIERS: Final[MappingProxyType[type, Callable[[Connection, Any], None]]] = MappingProxyType(
    {
        Answer: Connection._answer,
        Presence: Connection._presence,
        Authenticate: Connection._authenticate,
        Open: Connection._open,
        Expire: Connection._expire,
        Close: Connection._close,
    }
)


def _new_client_id() -> str:
    return f"auto-{secrets.token_hex(8)}"
