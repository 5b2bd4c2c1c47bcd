"""``vitalgate up``: own the directory and the listening sockets, run gateway and core, restart either.

The supervisor keeps the listening sockets open while a child is down: connections wait in the backlog instead of being
refused. Children end when their life line (a pipe held by the supervisor) closes, so none outlives it.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from deploy import settings as settings_module
from deploy.layout import Layout
from deploy.processes.order import CONFIG_EXIT
from deploy.settings import Settings
from vitals.errors import BackendError, ConfigError

_log = structlog.get_logger(__name__)
BACKLOG = 4096
STOP_S = 15.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0
HEALTHY_S = 10.0
MALLOC_ARENAS = "2"
"""glibc's arenas in each process: with one a thread, which is its default, what threads freed adds up to 150 MB."""
_DOORS = ("mqtts", "mllp", "mllps")


def _problem_of_preparing(layout: Layout, config: Settings) -> list[str]:
    """The answer of a child: no problem, a wrong setting with its error, or the error of a backend."""
    from deploy.wiring import prepare  # noqa: PLC0415 - see _prepare

    try:
        prepare(layout, config)
    except ConfigError as error:
        return [error.setting, str(error).removeprefix(f"{error.setting}: ")]
    except BackendError as error:
        return [str(error)]
    except Exception as error:  # noqa: BLE001 - a forked process must not run on into its parent's code
        _log.exception("prepare_failed")
        return [f"{type(error).__name__} while the data directory was prepared, see the log above"]
    return []


def _prepare(layout: Layout, config: Settings) -> None:
    """``wiring.prepare`` in a separate process: the supervisor lives long and needs none of its libraries (35 MB).

    Raises ``ConfigError`` or ``BackendError`` as it does.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(_problem_of_preparing(layout, config)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    match json.loads(told or '["the process that prepares the data directory died"]'):
        case [setting, text]:
            raise ConfigError(setting, text)
        case [text]:
            raise BackendError(text, retryable=False)


def listen(where: str, setting: str, *, tls: bool = False) -> socket.socket:
    """A bound, listening TCP socket; raises ``ConfigError`` beyond loopback without TLS, ``BackendError`` when it is
    taken."""
    host, port = settings_module.address(where)
    section = setting.partition(".")[0]
    needed = "http.tls_cert and http.tls_key" if section == "http" else f"{section}.tls_listen"
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(setting, f"{host}: {error.strerror}") from error
    if not tls and not target[0].startswith("127.") and target[0] != "::1":  # type: ignore[union-attr]
        raise ConfigError(setting, f"{where} is beyond loopback, which needs TLS ({needed})")
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(target)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise BackendError(f"{setting}: cannot listen on {where}: {error.strerror}", retryable=True) from error
    sock.set_inheritable(True)
    return sock


def shown(sock: socket.socket) -> str:
    """``HOST:PORT`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _doors(config: Settings) -> dict[str, socket.socket]:
    """Listening sockets of the gateway beside plaintext MQTT, by the scheme of their address."""
    asked = {
        "mqtts": (config.mqtt.tls_listen, "mqtt.tls_listen"),
        "mllp": (config.hl7.mllp, "hl7.mllp"),
        "mllps": (config.hl7.tls_listen, "hl7.tls_listen"),
    }
    return {scheme: listen(where, setting, tls=scheme != "mllp") for scheme, (where, setting) in asked.items() if where}


@dataclass(slots=True)
class Child:
    """One child process and the data to restart it."""

    name: str
    start: Callable[[int, int], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    life_line: int = -1
    ready_fd: int = -1
    ready: dict[str, Any] | None = None
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    restart_at: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)

    def launch(self) -> None:
        """Start the process with a fresh life line and ready pipe."""
        life_read, self.life_line = os.pipe()
        self.ready_fd, ready_write = os.pipe()
        os.set_inheritable(life_read, True)
        os.set_inheritable(ready_write, True)
        self.process = self.start(life_read, ready_write)
        os.close(life_read)
        os.close(ready_write)
        self.started_at = time.monotonic()
        self.ready = None
        self.buffer.clear()

    def close(self) -> None:
        """Let go of the pipes of a process that ended."""
        for fd in (self.life_line, self.ready_fd):
            if fd >= 0:
                os.close(fd)
        self.life_line = self.ready_fd = -1


class Supervisor:
    """Runs until SIGTERM or SIGINT; ``on_ready`` gets the core's first ready record."""

    def __init__(self, layout: Layout, config: Settings, http: str, mqtt: str, config_file: Path | None) -> None:
        self._layout, self._config_file = layout, config_file
        self._http = listen(http, "http.listen", tls=config.http.scheme == "https")
        self._mqtt = listen(mqtt, "mqtt.listen")
        self.http, self.mqtt = shown(self._http), shown(self._mqtt)
        self._doors = _doors(config)
        self._stopping = False
        self._guests: list[Child] = []
        self._children = [Child("gateway", self._starter("gateway")), Child("core", self._starter("core"))]
        _prepare(layout, config)

    def _starter(self, name: str) -> Callable[[int, int], subprocess.Popen[bytes]]:
        def start(life_fd: int, ready_fd: int) -> subprocess.Popen[bytes]:
            listener = self._mqtt if name == "gateway" else self._http
            doors = {door: shown(self._doors[door]) if door in self._doors else "" for door in _DOORS}
            fds = {door: sock.fileno() if name == "gateway" else -1 for door, sock in self._doors.items()}
            order = {
                "name": name, "root": str(self._layout.root), "listen_fd": listener.fileno(), "life_fd": life_fd,
                "tls_fd": fds.get("mqtts", -1), "mllp_fd": fds.get("mllp", -1), "mllps_fd": fds.get("mllps", -1),
                "ready_fd": ready_fd, "http": self.http, "mqtt": self.mqtt,
                **doors, "config": None if self._config_file is None else str(self._config_file),
            }  # fmt: skip
            passed = [fd for fd in fds.values() if fd >= 0]
            environment = {"MALLOC_ARENA_MAX": MALLOC_ARENAS} | os.environ
            return subprocess.Popen(
                [sys.executable, "-m", "deploy.processes.entry", json.dumps(order)],
                pass_fds=(listener.fileno(), *passed, life_fd, ready_fd), env=environment, stdin=subprocess.DEVNULL,
                stdout=sys.stderr, start_new_session=True,
            )  # fmt: skip

        return start

    def _demo(self) -> None:
        """Start the simulated ward; it is a guest, never started again."""
        command = [sys.executable, "-m", "deploy.jobs.demo", str(self._layout.root)]
        ward = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
        self._guests.append(Child("demo", lambda _life, _ready: ward, process=ward))

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End at the next turn of the loop."""
        self._stopping = True

    def run(self, on_ready: Callable[[dict[str, Any]], None], *, demo: bool = False) -> None:
        """Supervise until told to stop, then end the children in order: gateway first, so that the core drains.

        ``demo`` adds a process that simulates a ward, once all is ready.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        announced = False
        try:
            for child in self._children:
                child.launch()
            while not self._stopping:
                self._turn()
                if not announced and all(child.ready is not None for child in self._children):
                    on_ready(self._children[1].ready or {})
                    announced = True
                    if demo:
                        self._demo()
        finally:
            for child in (*self._guests, *self._children):
                self._end(child)
            for sock in (self._http, self._mqtt, *self._doors.values()):
                sock.close()

    def _turn(self) -> None:
        waiting = [child for child in self._children if child.ready_fd >= 0 and child.ready is None]
        readable, _, _ = select.select([child.ready_fd for child in waiting], [], [], 0.05)
        for child in waiting:
            if child.ready_fd in readable:
                self._read_ready(child)
        for child in self._children:
            self._revive(child)

    def _read_ready(self, child: Child) -> None:
        data = os.read(child.ready_fd, 65536)
        child.buffer += data
        if b"\n" in child.buffer:
            child.ready = json.loads(child.buffer)
        elif not data:
            # It closed the pipe without a word: it is about to end. Do not spin on the closed pipe.
            os.close(child.ready_fd)
            child.ready_fd = -1

    def _revive(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                child.launch()
            return
        code = child.process.poll()
        if code is None:
            return
        child.close()
        if code == CONFIG_EXIT:
            raise ConfigError(child.name, "refused to start, see its log")
        child.pause_s = FIRST_PAUSE_S if now - child.started_at > HEALTHY_S else min(child.pause_s * 2, LONGEST_PAUSE_S)
        child.process, child.restart_at = None, now + child.pause_s
        _log.warning("process_ended", process=child.name, code=code, restart_in_s=child.pause_s)

    def _end(self, child: Child) -> None:
        if child.process is not None and child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                _log.error("process_killed", process=child.name)
                child.process.kill()
                child.process.wait()
        child.close()
