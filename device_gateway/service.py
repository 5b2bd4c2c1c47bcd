"""The gateway as a service: everything put together, from a start that heals a crash to an orderly stop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from device_gateway.access import Access
from device_gateway.batcher import Batcher
from device_gateway.hl7.mllp import MllpEndpoint, serve_mllp
from device_gateway.http import serve_http
from device_gateway.intake import Intake
from device_gateway.metrics import GatewayMetrics
from device_gateway.mqtt.server import Server, require_loopback
from device_gateway.sessions import SessionStore, presence
from device_gateway.settings import GatewaySettings
from device_gateway.tls import TlsEndpoint
from vitals.glossary import EventKind
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent
from vitals.ports import Clock, DeviceRegistry
from vitals.steady import MOVED, SETTLED, SteadyClock
from vitals.times import SECOND_NS

__all__ = ["GatewaySettings", "serve"]

_EXPIRE_EVERY = 60
_log = structlog.get_logger(__name__)


class _Gateway:
    """The parts of one running gateway."""

    def __init__(
        self, log: LocalLog, registry: DeviceRegistry, clock: Clock, settings: GatewaySettings, store: SessionStore
    ) -> None:
        self.settings, self.clock, self.store = settings, clock, store
        self.access = Access(registry, settings.auth_failures_per_minute)
        self.batcher = Batcher(
            log,
            clock,
            high_bytes=settings.buffer_bytes,
            on_pressure=self._on_pressure,
            on_blocked=self._on_blocked,
        )
        self.intake = Intake(settings, self.access, clock, self.batcher)
        self.server = Server(self.intake, store)
        self.metrics = GatewayMetrics(self.intake, self.server)
        self.serving = False

    # The server is made after the batcher that calls it.

    def _on_pressure(self, pressed: bool) -> None:
        self.server.on_pressure(pressed)

    def _on_blocked(self, blocked: bool) -> None:
        self.server.on_blocked(blocked)

    def reasons(self) -> list[str]:
        """Why the gateway is not ready; empty when it is."""
        found = {
            "not_serving": not self.serving,
            "log_not_writable": self.batcher.blocked,
            "registry_unavailable": not self.access.available,
        }
        return [reason for reason, holds in found.items() if holds]

    def status(self) -> bytes:
        """One line of JSON for the supervisor."""
        reasons = self.reasons()
        line = {"ready": not reasons, "reasons": reasons, "metrics": self.metrics.text()}
        return msgspec.json.encode(line) + b"\n"

    async def close(self) -> None:
        """End the threads; messages that are not durable yet were not acknowledged."""
        await self.batcher.close()
        self.access.close()

    def look_at_clock(self) -> None:
        """Tell the log of steps of the machine's clock."""
        for step in self.clock.look() if isinstance(self.clock, SteadyClock) else ():
            detail = SETTLED if step.settled else MOVED
            moved_s = step.moved_ns / SECOND_NS
            self.batcher.step(DeviceEvent("", EventKind.SERVER_CLOCK, self.clock.now_ns(), detail, moved_s))
            _log.warning("server_clock", moved_s=moved_s, settled=step.settled)

    async def beat(self, secured: Sequence[TlsEndpoint]) -> None:
        """Heartbeats, and a look at the registry and the certificates, for ever."""
        beats = 0
        while True:
            for tls in secured:
                tls.refresh()
            self.look_at_clock()
            self.batcher.heartbeat()
            devices = await self.access.changed()
            if devices is not None:
                self.server.registry_changed(devices)
            beats += 1
            if beats % _EXPIRE_EVERY == 0:
                self.batcher.change(self.store.expire(self.clock.now_ns()))
            await asyncio.sleep(self.settings.heartbeat_s)


async def serve(
    log: LocalLog,
    registry: DeviceRegistry,
    clock: Clock,
    sockets: Sequence[socket.socket],
    settings: GatewaySettings,
    ready: Callable[[], None],
    stop: asyncio.Event,
    status_socket: Path | None,
    *,
    tls: TlsEndpoint | None = None,
    ingest_socket: Path | None = None,
    mllp: MllpEndpoint | None = None,
) -> None:
    """Serve MQTT on ``sockets`` until ``stop`` is set, then make everything received durable and close.

    Args:
        log: the raw log, opened with ``schema=device_gateway.sessions.SCHEMA``; owned by this process, not closed here.
        registry: devices and credentials.
        clock: receipt times; the steps of a :class:`SteadyClock` are told in the log.
        sockets: bound loopback TCP sockets; closed at the end (duplicates that others hold stay open).
        settings: limits.
        ready: called once connections are accepted.
        stop: ask for an orderly end.
        status_socket: where to tell readiness and metrics, as one line of JSON per connection; None for nowhere.
        tls: where to serve MQTT over TLS, on any address; its sockets are closed at the end as well.
        ingest_socket: where to serve HTTP ingest to a process of the same owner; None for nowhere.
        mllp: where to serve HL7 over MLLP, and for whom; its sockets are closed at the end as well; None for nowhere.

    Raises:
        ConfigError: a socket is bound beyond loopback.
        BackendError: the log failed for good; nothing unacknowledged was promised.
    """
    with contextlib.ExitStack() as closing:
        secured = [one for one in (tls, mllp.tls if mllp is not None else None) if one is not None]
        plain = [*sockets, *(mllp.sockets if mllp is not None else ())]
        for sock in (*plain, *(sock for one in secured for sock in one.sockets)):
            closing.callback(sock.close)
        require_loopback(sockets)
        require_loopback(plain[len(sockets) :], "hl7.mllp")
        gateway = _start(log, registry, clock, settings)
        async with contextlib.AsyncExitStack() as doors:
            # After the gateway's last batch no client is left to answer.
            doors.push_async_callback(gateway.close)
            await doors.enter_async_context(_status(gateway, status_socket))
            await doors.enter_async_context(serve_http(gateway.intake, ingest_socket))
            await doors.enter_async_context(serve_mllp(gateway.intake, mllp))
            await _serve(gateway, sockets, tls, secured, ready, stop)
    _log.info("gateway_stopped")


def _start(log: LocalLog, registry: DeviceRegistry, clock: Clock, settings: GatewaySettings) -> _Gateway:
    """A gateway with the sessions of the log; its first batch ends the connections that a crash left open."""
    now_ns = clock.now_ns()
    store, changes, vanished = SessionStore.load(log, now_ns)
    gateway = _Gateway(log, registry, clock, settings, store)
    for device in vanished:
        changes.append(presence(device, online=False))
        gateway.batcher.event(DeviceEvent(device, EventKind.OFFLINE, now_ns, "gateway restarted"))
    gateway.batcher.change(changes)
    # A step that was noticed before a restart is followed since.
    gateway.batcher.step(DeviceEvent("", EventKind.SERVER_CLOCK, now_ns, SETTLED, 0.0))
    return gateway


async def _serve(
    gateway: _Gateway,
    sockets: Sequence[socket.socket],
    tls: TlsEndpoint | None,
    secured: Sequence[TlsEndpoint],
    ready: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    beat = asyncio.create_task(gateway.beat(secured), name="heartbeat")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await gateway.server.listen(sockets, tls)
        gateway.serving = True
        ready()
        # A log that failed for good, or a bug in the heartbeat, ends the service: silence would hide it.
        await asyncio.wait((beat, stopped, gateway.batcher.failed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gateway.serving = False
        stopped.cancel()
        await gateway.server.stop()
        await _ended(beat)
    if gateway.batcher.failed.done():
        gateway.batcher.failed.result()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _status(gateway: _Gateway, path: Path | None) -> AsyncIterator[None]:
    if path is None:
        yield
        return

    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(gateway.status())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(os.fspath(path))
        # Before it listens: nobody can connect to a socket that is still open to all.
        path.chmod(0o600)
        server = await asyncio.start_unix_server(tell, sock=sock)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)
