"""``bench gateway``: the endpoint process alone; nobody reads its log."""

import asyncio
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy.bench.fleet import write_fleet
from deploy.bench.generator import WINDOW, LoadOrder, generating, write_credentials
from deploy.bench.processes import MemoryPeak, cpu_s
from deploy.bench.report import Figure, repeat
from deploy.layout import Layout
from deploy.processes.supervise import listen, shown
from vitals.errors import BackendError

READY_S: Final = 60.0


@contextmanager
def endpoint(root: Path) -> Iterator[tuple[str, int]]:
    """A gateway process over ``root``: (its address, its process id)."""
    with listen("127.0.0.1:0", "--mqtt") as sock:
        life_read, life_line = os.pipe()
        ready, ready_write = os.pipe()
        order = {
            "name": "gateway", "root": str(root), "listen_fd": sock.fileno(), "tls_fd": -1, "mllp_fd": -1,
            "mllps_fd": -1, "mllp": "", "mllps": "",
            "life_fd": life_read, "ready_fd": ready_write, "http": "", "mqtt": shown(sock), "mqtts": "", "config": None,
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.processes.entry", json.dumps(order)],
            pass_fds=(sock.fileno(), life_read, ready_write), stdin=subprocess.DEVNULL, stdout=sys.stderr,
        )  # fmt: skip
        os.close(life_read)
        os.close(ready_write)
        try:
            readable, _, _ = select.select([ready], [], [], READY_S)
            if not readable or not os.read(ready, 64):
                raise BackendError("the gateway did not start, see its log above", retryable=False)
            yield shown(sock), process.pid
        finally:
            os.close(ready)
            os.close(life_line)
            process.wait(30)


async def _load(order: LoadOrder, pid: int) -> tuple[dict[str, Any], float, float]:
    """(answer of the load, CPU seconds, peak memory in MB) of the process."""
    with MemoryPeak(pid) as memory:
        async with generating(order) as load:
            before_s = cpu_s(pid)
            answer = await load
            return answer, cpu_s(pid) - before_s, memory.peak_mb


def _once(template: Path, connections: int, seconds: float, rate: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
        root = Path(shutil.copytree(template, Path(scratch) / "data"))
        with endpoint(root) as (mqtt, pid):
            full = LoadOrder(mqtt, root / "fleet", connections, 0.0, seconds)
            flood, flood_cpu_s, memory_mb = asyncio.run(_load(full, pid))
            paced, paced_cpu_s, _ = asyncio.run(_load(LoadOrder(mqtt, root / "fleet", connections, rate, seconds), pid))
    found = [
        ("acked_messages_per_s", flood["acked"] / flood["seconds"], "1/s"),
        ("server_cpu_us_per_message", 1e6 * flood_cpu_s / flood["acked"], "us"),
        ("saturated_ack_ms_p50", flood["ack_ms"]["p50"], "ms"),
        ("saturated_ack_ms_p99", flood["ack_ms"]["p99"], "ms"),
        ("paced_messages_per_s", paced["acked"] / paced["seconds"], "1/s"),
        ("paced_cpu_us_per_message", 1e6 * paced_cpu_s / paced["acked"], "us"),
        ("ack_ms_p50", paced["ack_ms"]["p50"], "ms"),
        ("ack_ms_p99", paced["ack_ms"]["p99"], "ms"),
        ("peak_rss_mb", memory_mb, "MB"),
    ]
    return [Figure(metric, value, unit, connections) for metric, value, unit in found]


def measure(runs: int, counts: list[int], seconds: float, rate: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures)."""
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
        template = Path(scratch) / "t"
        fleet = write_fleet(Layout(template), max(counts), history=0)
        write_credentials(template / "fleet", [credential for credential, _ in fleet])
        found = []
        for connections in counts:
            found += repeat(runs, partial(_once, template, connections, seconds, rate))
    workload = {
        "connections": counts, "qos": 1, "payload": "json2", "window": WINDOW, "seconds": seconds,
        "paced_rate": rate, "generator": "aboard, one process",
    }  # fmt: skip
    return workload, found
