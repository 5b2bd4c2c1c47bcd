"""The load generator in a separate process, started like the command."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulators.load import Credential
from vitals.errors import BackendError

WINDOW: Final = 16
"""Unacknowledged messages of a client at full speed."""


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """What the generator is asked for; see ``simulators.load.LoadPlan``."""

    mqtt: str
    credentials: Path
    connections: int
    rate: float
    seconds: float
    window: int = WINDOW
    alarming: int = 0


def write_credentials(path: Path, credentials: Sequence[Credential]) -> None:
    """A file for ``vitalgate load --credentials``, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{device},{secret}\n" for device, secret in credentials), encoding="ascii")


@asynccontextmanager
async def generating(order: LoadOrder) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
    """``vitalgate load`` from the moment on that all are connected; the task gives its answer.

    Raises:
        BackendError: it failed; its words are in the message.
    """
    words = {
        "mqtt": order.mqtt, "credentials": order.credentials, "connections": order.connections, "rate": order.rate,
        "seconds": order.seconds, "window": order.window, "alarming": order.alarming,
    }  # fmt: skip
    arguments = [part for name, value in words.items() for part in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli.main", "load", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    started = await process.stderr.readline()
    if b'"sending"' not in started:
        rest, errors = await process.communicate()
        raise BackendError(f"load: {(started + errors + rest).decode()}", retryable=False)

    async def finish() -> dict[str, Any]:
        out, errors = await process.communicate()
        if process.returncode:
            raise BackendError(f"load: {errors.decode()}", retryable=False)
        answer: dict[str, Any] = json.loads(out)
        return answer

    task = asyncio.create_task(finish())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.gather(task, return_exceptions=True)
