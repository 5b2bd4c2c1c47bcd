"""A real ``vitalgate up`` in a directory of its own, and the ways to talk to it and to hurt it."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from deploy.cli.main import app as APP  # noqa: N812 - the one of the process
from deploy.cli.main import main
from tests.support import eventually

CLI = [sys.executable, "-m", "deploy.cli.main"]
ROOT = Path(__file__).parents[2]
PROCESSES = ("up", "bench", "load")


class Running:
    """One ``vitalgate up``; ports are free ones."""

    def __init__(self, data: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self.process = subprocess.Popen(
            [*CLI, "up", "--data-dir", str(data), "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"did not start: {self.log()}"
        self.ready: dict[str, Any] = json.loads(line)
        self.host, port = self.ready["mqtt"].removeprefix("mqtt://").rsplit(":", 1)
        self.port = int(port)
        # As `vitalgate token create` does: the control socket speaks for the local administrator.
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(data / "control.sock")), timeout=30) as local:
            token = local.post("http://local/api/v1/tokens", json={"role": "admin"}).raise_for_status().json()["token"]
        # The supervisor holds the listening socket: while the core is down, requests wait instead of being refused.
        self._client = httpx.Client(
            base_url=self.ready["http"], headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        if environment is None:
            # The first run on a machine compiles the kernels while it serves.
            eventually(lambda: "warming" not in self.readiness(), within_s=300, what="kernels are compiled")

    def log(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def request(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._client.request(method, f"/api/v1/{path}", **options)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            # The process behind a kept connection was killed; the next one answers.
            assert method == "GET"
            answer = self._client.request(method, f"/api/v1/{path}", **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def get(self, path: str, **params: Any) -> Any:
        return self.request("GET", path, params=params)

    def readiness(self) -> list[str]:
        try:
            return list(self._client.get("/readyz").json()["reasons"])
        except httpx.TransportError:
            return ["core_unreachable"]

    def until_ready(self, within_s: float = 60) -> None:
        eventually(lambda: self.readiness() == [], within_s=within_s, what="ready")

    def child(self, name: str) -> psutil.Process | None:
        """The gateway or core process that runs now."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if f'"name": "{name}"' in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    return child
            except psutil.NoSuchProcess:
                continue
        return None

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one child and wait until the supervisor has started another."""
        child = eventually(lambda: self.child(name), within_s=30, what=f"{name} runs")
        assert isinstance(child, psutil.Process)
        os.kill(child.pid, how)

        def another() -> bool:
            now = self.child(name)
            return now is not None and now.pid != child.pid

        eventually(another, within_s=30, what=f"{name} is started again")

    def settled(self, device: str, within_s: float = 60) -> Any:
        """The device's ledger once nothing of it is in flight."""

        def still() -> Any:
            ledger = self.get(f"devices/{device}/ledger")
            return None if ledger["messages"]["in_flight"] or ledger["readings"]["in_flight"] else ledger

        return eventually(still, within_s=within_s, what=f"ledger of {device} settles")

    def cli(self, *arguments: str) -> Any:
        """A command against this directory; its JSON answer."""
        return run_cli(*arguments, "--data-dir", str(self.data))

    def stop(self) -> int:
        self._client.close()
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()
        return code


def run_cli(*arguments: str, expect: int = 0) -> Any:
    """Run the command line; its JSON answer, or standard error when it fails as expected.

    Commands run in this process, which is fast and measured by coverage. Those that start others or handle signals get
    a process of their own.
    """
    code, out, err = _in_process(arguments) if arguments[0] in PROCESSES else _here(arguments)
    assert code == expect, f"{arguments}: {code}\n{out}\n{err}"
    if expect:
        return err
    return json.loads(out) if out.strip() else None


def _in_process(arguments: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run([*CLI, *arguments], capture_output=True, cwd=ROOT, timeout=180, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _here(arguments: Sequence[str]) -> tuple[int | str | None, str, str]:
    out, err = io.StringIO(), io.StringIO()
    groups, commands, umask = [*APP.registered_groups], [*APP.registered_commands], os.umask(0o022)
    os.umask(umask)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code(arguments)
    finally:
        os.umask(umask)
        APP.registered_groups[:], APP.registered_commands[:] = groups, commands
    return code, out.getvalue(), err.getvalue()


def _exit_code(arguments: Sequence[str]) -> int | str | None:
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code or 0


@pytest.fixture
def data() -> Iterator[Path]:
    """A short path: the control socket's has room for 107 bytes."""
    root = Path(tempfile.mkdtemp(prefix="vg-"))
    yield root / "d"
    shutil.rmtree(root)


@pytest.fixture
def running(data: Path) -> Iterator[Running]:
    up = Running(data)
    yield up
    up.stop()
