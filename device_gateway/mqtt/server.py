"""The MQTT endpoint: listening sockets, connected devices, presence, back-pressure, and an orderly stop."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from device_gateway import topics
from device_gateway.batcher import Accept
from device_gateway.intake import Intake
from device_gateway.mqtt.actions import Close, Open
from device_gateway.mqtt.connection import Connection, Pause
from device_gateway.mqtt.packets import Code, Will
from device_gateway.mqtt.wheel import Wheel
from device_gateway.rates import Meter
from device_gateway.sessions import SessionKey, SessionStore, StoredSession, presence
from device_gateway.tls import TlsEndpoint, TlsLayer
from vitals.errors import ConfigError
from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Message
from vitals.records import Device

_BACKLOG: Final = 4096
_LOOK_S: Final = 1.0
_SWEEP_LOOKS: Final = 60


def require_loopback(sockets: Sequence[socket.socket], setting: str = "mqtt") -> None:
    """Without TLS the endpoint listens on loopback addresses only.

    Raises:
        ConfigError: a socket is bound to another address.
    """
    for sock in sockets:
        host = sock.getsockname()[0]
        if not ipaddress.ip_address(host.split("%")[0]).is_loopback:
            raise ConfigError(
                setting, f"{host} is not a loopback address, and there is no TLS to leave this machine with"
            )


class _DelayedWill(NamedTuple):
    timer: asyncio.TimerHandle
    will: Will
    reason: str
    opened_ns: int


class Server:
    """All MQTT connections and whose sessions they are."""

    def __init__(self, intake: Intake, store: SessionStore) -> None:
        self._intake, self._loop = intake, intake.loop
        settings = intake.settings
        self._admission = Meter(settings.connects_per_s, settings.connects_per_s)
        self._handshakes = Meter(settings.handshakes_per_s, settings.handshakes_per_s)
        self._looks = 0
        self._store = store
        self._connections: set[Connection] = set()
        self._current: dict[SessionKey, Connection] = {}
        self._by_device: dict[str, set[Connection]] = {}
        self._delayed: dict[SessionKey, _DelayedWill] = {}
        self._wheel: Wheel[Connection] = Wheel()
        self._listeners: list[asyncio.Server] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._look = self._loop.call_later(_LOOK_S, self._look_around)

    def __len__(self) -> int:
        """Devices signed in, counted by session."""
        return len(self._current)

    async def listen(self, sockets: Sequence[socket.socket], tls: TlsEndpoint | None = None) -> None:
        """Serve on bound sockets, and over TLS on those of ``tls``; raises ``ConfigError`` for plaintext beyond
        loopback."""
        require_loopback(sockets)

        def plain() -> asyncio.Protocol:
            return Connection(self._intake, self, self._admission)

        def secured() -> asyncio.Protocol:
            assert tls is not None
            return TlsLayer(Connection(self._intake, self, self._handshakes), tls.context, self._intake.closed)

        await self._listen(plain, sockets)
        if tls is not None:
            await self._listen(secured, tls.sockets)

    async def _listen(self, protocol: Callable[[], asyncio.Protocol], sockets: Sequence[socket.socket]) -> None:
        for sock in sockets:
            self._listeners.append(await self._loop.create_server(protocol, sock=sock, backlog=_BACKLOG))

    # Called by connections: ``connection.Connections``.

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for one more connection."""
        self._connections.add(connection)
        self._empty.clear()
        self.watch(connection)
        return len(self._connections) <= self._intake.settings.max_connections

    def watch(self, connection: Connection) -> None:
        """The deadline of ``connection`` is another one, maybe a nearer one."""
        if connection in self._connections:
            self._wheel.add(connection, self._loop.time())

    def forget(self, connection: Connection) -> None:
        """The socket is gone."""
        self._connections.discard(connection)
        self._wheel.remove(connection)
        if not self._connections:
            self._empty.set()

    def open(self, connection: Connection, key: SessionKey, action: Open) -> tuple[StoredSession, bool]:
        """Make ``connection`` the one of its session. An older one is closed; its will is not published and the device
        does not go offline, as it is plainly here."""
        older = self._current.pop(key, None)
        if older is not None:
            self._by_device[key.device].discard(older)
            older.carry_out(older.session.shut(Code.TAKEN_OVER, "taken over"))
        delayed = self._delayed.pop(key, None)
        if delayed is not None:
            delayed.timer.cancel()
        now_ns = connection.opened_ns = self._intake.clock.now_ns()
        stored, present, changes = self._store.open(
            key, action.connect.version, action.expiry_s, now_ns, clean=action.connect.clean
        )
        self._current[key] = connection
        self._by_device.setdefault(key.device, set()).add(connection)
        self._intake.batcher.change([*changes, presence(key.device, online=True)])
        how = "connected" if older is None else "taken over"
        self._intake.batcher.event(DeviceEvent(key.device, EventKind.ONLINE, now_ns, how))
        return stored, present

    def left(self, connection: Connection, action: Close) -> None:
        """``connection`` is closing: its session waits for its expiry, its will and its device's absence are told."""
        key, stored = connection.key, connection.stored
        if key is None or stored is None or self._current.get(key) is not connection:
            return
        del self._current[key]
        others = self._by_device[key.device]
        others.discard(connection)
        if not others:
            del self._by_device[key.device]
        self._intake.batcher.change(self._store.end(stored, self._intake.clock.now_ns()))
        delay_s = min(action.will.delay_s, stored.expiry_s) if action.will is not None else 0
        if action.will is not None and delay_s:
            timer = self._loop.call_later(delay_s, self._will_is_due, key)
            self._delayed[key] = _DelayedWill(timer, action.will, action.reason, connection.opened_ns)
        else:
            self._departed(key.device, action.will, action.reason, connection.opened_ns)

    def _will_is_due(self, key: SessionKey) -> None:
        delayed = self._delayed.pop(key)
        self._departed(key.device, delayed.will, delayed.reason, delayed.opened_ns)

    def _departed(self, device: str, will: Will | None, reason: str, opened_ns: int) -> None:
        now_ns = self._intake.clock.now_ns()
        said: DeviceEvent | Message | None = None
        if will is not None:
            said = topics.presence_or_message(topics.Route(device, topics.STATUS, ""), will.payload, now_ns)
        others = self._by_device.get(device, ())
        if isinstance(said, Message):
            self._intake.received[will.qos if will is not None else 0] += 1
            self._intake.batcher.accept(Accept(said))
        elif said is not None and said.kind is EventKind.OFFLINE and not others:
            reason = f"will, {reason}"
        elif said is not None:
            # A device that came back before its loss was noticed is plainly here (device-formats.md 7.3).
            older = any(other.opened_ns > opened_ns for other in others)
            detail = "will of an older connection" if older else "will"
            self._intake.batcher.event(msgspec.structs.replace(said, detail=detail))
        if not others:
            self._intake.batcher.change([presence(device, online=False)])
            self._intake.batcher.event(DeviceEvent(device, EventKind.OFFLINE, now_ns, reason))

    # Called by the service.

    def on_pressure(self, pressed: bool) -> None:
        """Stop or go on reading all sockets."""
        for connection in list(self._connections):
            if pressed:
                connection.pause(Pause.LOG)
            else:
                connection.resume(Pause.LOG)

    def on_blocked(self, blocked: bool) -> None:
        """Refuse clients that wait for a CONNACK which cannot become durable."""
        for connection in list(self._connections) if blocked else ():
            connection.carry_out(connection.session.unavailable())

    def registry_changed(self, devices: Mapping[str, Device]) -> None:
        """Disconnect devices that are revoked or removed, and check again which hub may publish for which device."""
        for name, connections in list(self._by_device.items()):
            device = devices.get(name)
            if device is None or device.revoked_ns is not None:
                for connection in list(connections):
                    connection.carry_out(connection.session.shut(Code.NOT_AUTHORISED, "revoked"))
        for connection in self._connections:
            connection.session.forget_routes()

    def _look_around(self) -> None:
        now_s = self._loop.time()
        for connection in self._wheel.due(now_s):
            connection.overdue(now_s)
            self.watch(connection)
        self._looks += 1
        if self._looks % _SWEEP_LOOKS == 0:
            self._intake.forget_meters(self._by_device, now_s)
        self._look = self._loop.call_later(_LOOK_S, self._look_around)

    async def stop(self) -> None:
        """Stop accepting, wait until received messages are durable and acknowledged, send DISCONNECT, close."""
        self._look.cancel()
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.pause(Pause.STOPPING)
        await self._drained()
        for connection in list(self._connections):
            connection.carry_out(connection.session.shut(Code.SHUTTING_DOWN, "gateway stopped"))
        for key, delayed in list(self._delayed.items()):
            delayed.timer.cancel()
            self._will_is_due(key)
        await self._drained()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), _LOOK_S)
        for connection in list(self._connections):
            connection.abort()
        await self._empty.wait()

    async def _drained(self) -> None:
        # What cannot be written in time was never acknowledged: the devices still have it.
        if self._intake.batcher.blocked:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._intake.batcher.drained(), self._intake.settings.stop_timeout_s)
