"""A gateway to talk to: in a thread, or in a process that can be killed; and a client that speaks bytes."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop

from device_gateway.hl7.mllp import MllpEndpoint
from device_gateway.service import GatewaySettings, serve
from device_gateway.sessions import SCHEMA
from device_gateway.tls import TlsEndpoint
from tests.gateway.memory_registry import MemoryRegistry, secret_of
from tests.support import eventually
from vitals.encoding import decode
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent, Heartbeat, Message

ROOT = Path(__file__).parents[2]
DEVICES = ("d1", "d2", "d3", "hub", "loner")
CHILDREN = {"kid": "hub", "kid2": "hub", "stray": "loner"}


class WallClock:
    """The machine's time."""

    def now_ns(self) -> int:
        return time.time_ns()


def listening() -> socket.socket:
    """A bound loopback socket, as a supervisor would own it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def registry() -> MemoryRegistry:
    """The test devices."""
    return MemoryRegistry(*DEVICES, children=CHILDREN)


def raw_log(folder: Path) -> LocalLog:
    """The raw log of ``folder`` with the gateway's tables."""
    return LocalLog(folder / "raw.db", WallClock(), schema=SCHEMA)


class Gateway:
    """``serve`` in a thread of its own. ``with Gateway(tmp_path) as gateway``."""

    def __init__(self, folder: Path, settings: GatewaySettings | None = None, **parts: Any) -> None:
        self.settings = settings or GatewaySettings()
        self.log: LocalLog = parts.get("log") or raw_log(folder)
        self.registry: MemoryRegistry = parts.get("registry") or registry()
        self.clock = parts.get("clock") or WallClock()
        self.socket = listening()
        self.port = int(self.socket.getsockname()[1])
        self.status_path = folder / "gateway.sock"
        self.ingest_path = folder / "ingest.sock"
        self.tls: TlsEndpoint | None = parts.get("tls")
        self.mllp: MllpEndpoint | None = parts.get("mllp")
        self.error: BaseException | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised in the test's thread
            self.error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        sockets = [self.socket.dup()]
        await serve(
            self.log, self.registry, self.clock, sockets, self.settings, self._ready.set, self._stop, self.status_path,
            tls=self.tls, ingest_socket=self.ingest_path, mllp=self.mllp,
        )  # fmt: skip

    def __enter__(self) -> "Gateway":
        self._thread.start()
        assert self._ready.wait(10)
        if self.error is not None:
            raise self.error
        return self

    def stop(self) -> None:
        """An orderly stop; raises what ``serve`` raised."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.socket.close()
        self.log.close()
        if self.error is not None and error is None:
            raise self.error

    def closed(self, reason: str) -> int:
        """How many connections were refused or ended for a reason."""
        return self.counted(f'vitalgate_connections_closed_total{{reason="{reason}"}}')

    def counted(self, name: str) -> int:
        """A metric's value, 0 before it exists."""
        lines = self.status()["metrics"].splitlines()
        return next((int(float(line.split()[-1])) for line in lines if line.startswith(f"{name} ")), 0)

    def status(self) -> dict[str, Any]:
        """What the status socket says."""
        return status(self.status_path)


def status(path: Path) -> dict[str, Any]:
    """One line of JSON off the status socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        with sock.makefile("rb") as lines:
            found: dict[str, Any] = json.loads(lines.readline())
    return found


class GatewayProcess:
    """``serve`` in a process, on a listening socket that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = listening()
        self.socket.listen()
        self.mllp_socket = listening()
        self.mllp_socket.listen()
        self.port, self.mllp_port = (int(sock.getsockname()[1]) for sock in (self.socket, self.mllp_socket))
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start and wait until it is ready."""
        descriptors = [self.socket.fileno(), self.mllp_socket.fileno()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.gateway_process", str(self.folder), *map(str, descriptors)],
            cwd=ROOT,
            pass_fds=descriptors,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self, number: int) -> int:
        """Send a signal and wait; the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def __enter__(self) -> "GatewayProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)
        self.socket.close()
        self.mllp_socket.close()


class RawClient:
    """A client that sends bytes and reads whole packets."""

    def __init__(self, peer: int | socket.socket) -> None:
        connected = isinstance(peer, socket.socket)
        self.socket = peer if connected else socket.create_connection(("127.0.0.1", peer), timeout=10)
        self._buffer = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: bytes) -> None:
        self.socket.sendall(b"".join(packets))

    def packet(self) -> bytes:
        """The next packet; empty when the server has closed."""
        while (end := _end_of_packet(self._buffer)) is None:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return b""
            self._buffer += data
        packet, self._buffer = self._buffer[:end], self._buffer[end:]
        return packet

    def packets(self, count: int) -> list[bytes]:
        return [self.packet() for _ in range(count)]

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for a time."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)
        self._buffer += data
        return False

    def sign_in(self, device: str = "d1", **choices: Any) -> bytes:
        """CONNECT; returns CONNACK."""
        self.send(connect(device, **choices))
        return self.packet()


def _end_of_packet(data: bytes) -> int | None:
    value = 0
    for index, byte in enumerate(data[1:5]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            end = 2 + index + value
            return end if len(data) >= end else None
    return None


def text(value: str | bytes) -> bytes:
    """A string with its length."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def frame(first: int, body: bytes) -> bytes:
    """A fixed header and its body."""
    length, size = b"", len(body)
    while size > 0x7F:
        length += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return bytes((first,)) + length + bytes((size,)) + body


def connect(
    device: str | None = "d1",
    *,
    version: int = 4,
    client_id: str = "c1",
    clean: bool = True,
    keep_alive: int = 60,
    secret: bytes | None = None,
    will: tuple[str, bytes] | None = None,
    properties: bytes = b"",
    will_properties: bytes = b"",
) -> bytes:
    """CONNECT of either version."""
    flags = (0xC0 if device is not None else 0) | (2 if clean else 0) | (0x2C if will else 0)
    body = text("MQTT") + bytes((version, flags)) + keep_alive.to_bytes(2, "big")
    body += _properties(version, properties) + text(client_id)
    if will:
        body += _properties(version, will_properties) + text(will[0]) + text(will[1])
    if device is not None:
        body += text(device) + text(secret if secret is not None else secret_of(device))
    return frame(0x10, body)


def _properties(version: int, properties: bytes) -> bytes:
    return bytes((len(properties),)) + properties if version == 5 else b""


def publish(
    topic: str,
    payload: bytes,
    *,
    version: int = 4,
    qos: int = 1,
    packet_id: int = 1,
    dup: bool = False,
    properties: bytes = b"",
) -> bytes:
    """PUBLISH of either version."""
    body = text(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + _properties(version, properties) + payload
    return frame(0x30 | dup << 3 | qos << 1, body)


def pubrel(packet_id: int) -> bytes:
    return b"\x62\x02" + packet_id.to_bytes(2, "big")


def puback(packet_id: int) -> bytes:
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def pubrec(packet_id: int) -> bytes:
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


def pubcomp(packet_id: int) -> bytes:
    return b"\x70\x02" + packet_id.to_bytes(2, "big")


def messages(log: LocalLog) -> list[Message]:
    """Every message in the log, with its ordinal."""
    found = []
    for row in log.read(0, limit=1_000_000):
        entry = decode(row.body)
        if row.stream.startswith("raw/"):
            assert isinstance(entry, list)
            for index, item in enumerate(entry):
                assert isinstance(item, Message)
                assert row.stream == f"raw/{item.adapter}"
                found.append(
                    Message(
                        item.device, item.adapter, item.kind, item.received_ns, item.payload, item.dup,
                        item.resend_of, row.position << 16 | index,
                    )
                )  # fmt: skip
    return found


def events(log: LocalLog) -> list[tuple[str, str, str]]:
    """(device, kind, detail) of every presence event."""
    found = []
    for row in log.read(0, streams=["presence"], limit=1_000_000):
        entry = decode(row.body)
        assert isinstance(entry, list)
        for item in entry:
            assert isinstance(item, DeviceEvent)
            found.append((item.device, str(item.kind), item.detail))
    return found


def heartbeats(log: LocalLog) -> list[tuple[int, int]]:
    """(position, time) of every heartbeat."""
    found = []
    for row in log.read(0, streams=["heartbeat"], limit=1_000_000):
        entry = decode(row.body)
        assert isinstance(entry, Heartbeat)
        found.append((row.position, entry.time_ns))
    return found


def payloads(log: LocalLog) -> Counter[bytes]:
    """How often each payload is in the log."""
    return Counter(message.payload for message in messages(log))


def received(log: LocalLog) -> dict[str, int]:
    """The ledger's left side."""
    return dict(log.query("SELECT device, n FROM received"))


def wait_for_messages(log: LocalLog, count: int) -> list[Message]:
    """The log's messages once there are ``count`` of them."""
    eventually(lambda: len(messages(log)) >= count, what=f"{count} messages in the log")
    return messages(log)


def descriptor_socket(descriptor: int) -> socket.socket:
    """The listening socket that a parent process passed on."""
    return socket.socket(fileno=os.dup(descriptor))
