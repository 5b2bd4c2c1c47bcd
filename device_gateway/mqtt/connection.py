"""One client's socket: drives a ``Session`` and carries out its actions.

Acks come from the batcher, joined into one write per commit. A connection stops being read while any of ``Pause``
holds, and its keep-alive does not run meanwhile.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Sequence
from enum import Flag, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from device_gateway.mqtt.actions import (
    Accept,
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
from device_gateway.sessions import SessionKey, StoredSession

if TYPE_CHECKING:
    from device_gateway.mqtt.server import Server

_WRITE_HIGH_BYTES = 256 * 1024
_log = structlog.get_logger(__name__)


class Pause(Flag):
    """Why a connection is not read."""

    NONE = 0
    LOG = auto()
    """Too much waits to become durable."""
    OPENING = auto()
    """CONNECT is being decided."""
    WRITING = auto()
    """The client does not take its acks."""
    STOPPING = auto()


_OURS = Pause.LOG | Pause.STOPPING
"""Pauses that are no fault of the client: its keep-alive is suspended."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.session = Session(server.settings, server.access.may_publish, _new_client_id)
        self.key: SessionKey | None = None
        self.stored: StoredSession | None = None
        self.deadline_s = server.loop.time() + server.settings.connect_timeout_s
        self.paused = Pause.NONE
        self._peer = ""
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport and not its class.
        self._transport = transport = cast(asyncio.Transport, transport)
        if not self.server.admit(self):
            transport.abort()
            return
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        # A 3.1.1 client without keep-alive that lost its power would stay connected for ever.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.server.batcher.pressed:
            self.pause(Pause.LOG)

    def data_received(self, data: bytes) -> None:
        server = self.server
        if self.session.keep_alive_s:
            self._alive()
        self.carry_out(self.session.receive(data, server.clock.now_ns()))

    def pause_writing(self) -> None:
        self.pause(Pause.WRITING)

    def resume_writing(self) -> None:
        self.resume(Pause.WRITING)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._opening is not None:
            self._opening.cancel()
        self.server.forget(self)
        self.carry_out(self.session.lost())

    # Batcher's receiver

    def release(self, acks: bytes, settled: int) -> None:
        if self.session.state is State.CONNECTED:
            self.session.settled(settled)
            self._transport.write(acks)

    # Actions

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what the session asks, in order; answers that follow one another leave in one write."""
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
        server = self.server
        if action.hold:
            self._hold(action.hold)
        server.received[action.settles or (2 if action.hold else 0)] += 1
        server.batcher.accept(action)
        if action.ack:
            server.batcher.acknowledge(self, action.ack, action.settles)

    def _hold(self, packet_id: int) -> None:
        assert self.stored is not None
        self.server.batcher.change(self.stored.hold(packet_id))

    def _answer(self, action: Answer) -> None:
        if action.release:
            assert self.stored is not None
            self.server.batcher.change(self.stored.release(action.release))
        self.server.batcher.acknowledge(self, action.ack, action.settles)

    def _presence(self, action: Presence) -> None:
        if action.hold:
            self._hold(action.hold)
        self.server.batcher.event(action.event)
        if action.ack:
            self.server.batcher.acknowledge(self, action.ack, action.settles)

    def _authenticate(self, action: Authenticate) -> None:
        self.pause(Pause.OPENING)
        if self.server.batcher.blocked:
            self.carry_out(self.session.unavailable())
            return
        self._opening = self.server.loop.create_task(self._decide(action), name="mqtt-sign-in")

    async def _decide(self, action: Authenticate) -> None:
        decision = await self.server.access.authenticate(action.device, action.secret, self._peer)
        if decision in self.server.refused:
            self.server.refused[decision] += 1
        self.carry_out(self.session.decided(decision))

    def _open(self, action: Open) -> None:
        self.key = SessionKey(action.device, action.client_id)
        self.stored, present = self.server.open(self, self.key, action)
        stored = self.stored

        def opened() -> None:
            self._alive()
            self.server.watch(self)
            self.carry_out(self.session.opened(stored, present=present, now_ns=self.server.clock.now_ns()))
            self.resume(Pause.OPENING)

        self.server.batcher.when_durable(opened)

    def _expire(self, action: Expire) -> None:
        assert self.stored is not None
        self.stored.expiry_s = action.expiry_s

    def _close(self, action: Close) -> None:
        self.server.left(self, action)
        # Flushes what was written, also to a client that does not read: the wheel aborts it then.
        self.deadline_s = self.server.loop.time() + self.server.settings.stop_timeout_s
        self.server.watch(self)
        self._transport.close()
        _log.debug("connection_closed", device=self.session.device, reason=action.reason)

    def _alive(self) -> None:
        # One and a half times the keep-alive (3.1.2.10); without one a connection is never overdue.
        keep_alive_s = self.session.keep_alive_s
        self.deadline_s = self.server.loop.time() + 1.5 * keep_alive_s if keep_alive_s else float("inf")

    def overdue(self, now_s: float) -> None:
        """The deadline passed: no CONNECT, no sign of life, or a close that the client does not let finish."""
        if self.session.state is State.CLOSED:
            self._transport.abort()
        elif self.paused & _OURS:
            self.deadline_s = now_s + 1.0
        else:
            self.carry_out(self.session.shut(Code.KEEP_ALIVE_TIMEOUT, "timeout"))

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
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
                self._alive()
            self._transport.resume_reading()


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
