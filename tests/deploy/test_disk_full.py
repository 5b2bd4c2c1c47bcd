"""A real full disk: a small file system in memory that a neighbour fills up."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Running
from tests.deploy.strict_client import Publisher
from tests.support import eventually

SIZE_MB = 48


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A tmpfs where the kernel lets us mount one, else a file system of a fixed size is not to be had."""
    where = Path(tempfile.mkdtemp(prefix="vg-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.fail(f"cannot mount a small file system: {mounted.stderr.decode()}")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)
    shutil.rmtree(where, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk_acknowledges_nothing_says_why_and_recovers_by_itself(small_disk: Path) -> None:
    running = Running(small_disk / "d")
    try:
        secret = running.request("POST", "devices", json={"adapter": "json", "id": "hr-1"})["secret"]
        patient = running.request("POST", "patients", json={"name": "Full Disk"})["patient"]
        running.request("POST", "devices/hr-1/assign", json={"patient": patient})
        asyncio.run(_fill_and_free(running, small_disk / "ballast", secret))
        running.until_ready()
        ledger = running.settled("hr-1")
        assert ledger["messages"]["quarantined"] == 0
    finally:
        assert running.stop() == 0


async def _fill_and_free(running: Running, ballast: Path, secret: str) -> None:
    publisher = Publisher(running.host, running.port, "hr-1", secret, qos=1, strict=True, episode=-1)
    stop = asyncio.Event()
    task = asyncio.create_task(publisher.run(stop, 0.02))

    async def until(condition: object, what: str) -> None:
        await asyncio.to_thread(eventually, condition, within_s=60, what=what)  # type: ignore[arg-type]

    await until(lambda: len(publisher.acked) > 20, "the first acknowledgements")
    _fill(ballast)
    await until(lambda: "log_not_writable" in running.readiness(), "readiness says why")
    held = len(publisher.acked)
    window = publisher.sent
    await asyncio.sleep(1.0)
    assert len(publisher.acked) == held, "acknowledged although nothing can be written"
    assert publisher.sent <= window + 8, "the client's window is all that is outstanding"
    ballast.unlink()
    await until(lambda: len(publisher.acked) > held + 20, "acknowledgements after space came back")
    stop.set()
    async with asyncio.timeout(30):
        await task
    stored = json.dumps(sorted(publisher.acked))
    assert stored == json.dumps(list(range(publisher.sent)))


def _fill(ballast: Path) -> None:
    """Take every free byte."""
    with ballast.open("wb", buffering=0) as file:
        block = bytes(1 << 16)
        while True:
            try:
                file.write(block)
            except OSError:
                if len(block) == 1:
                    return
                block = bytes(len(block) // 16 or 1)
