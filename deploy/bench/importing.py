"""``bench import``: a phone's health export through ``vitalgate import`` into a running pipeline, to the last reading
stored."""

import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from deploy.bench.e2e import serving
from deploy.bench.processes import MemoryPeak, cpu_s
from deploy.bench.report import Figure, repeat
from simulators.apple_export import Written, write_export
from vitals.errors import BackendError

RECORDS: Final = 1_000_000
SEED: Final = 7
DEVICE: Final = "phone"


async def _import(root: Path, file: Path) -> tuple[dict[str, Any], float, dict[str, float], MemoryPeak]:
    """(answer, seconds, CPU seconds by process, peak memory) of one import."""
    async with serving(root) as server:
        patient = (await server.post("patients", {"name": "Import", "zone": "Europe/Berlin"}))["patient"]
        await server.post("devices", {"adapter": "apple_health", "id": DEVICE})
        await server.post(f"devices/{DEVICE}/assign", {"patient": patient, "from": "2015-01-01T00:00:00Z"})
        before = {name: cpu_s(pid) for name, pid in server.pids.items()}
        began_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "deploy.cli.main", "import", str(file), "--device", DEVICE, "--data-dir", str(root),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        with MemoryPeak(process.pid, *server.pids.values()) as memory:
            out, errors = await process.communicate()
        took_s = time.monotonic() - began_s
        if process.returncode:
            raise BackendError(f"import: {errors.decode()}", retryable=False)
        spent = {name: cpu_s(pid) - before[name] for name, pid in server.pids.items()}
    return json.loads(out), took_s, spent, memory


def _once(file: Path, written: Written) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
        answer, took_s, spent, memory = asyncio.run(_import(Path(scratch) / "d", file))
    readings = answer["ledger"]["readings"]
    found = {name: readings[name] for name in ("emitted", "stored", "duplicate")}
    wanted = {"emitted": written.records, "stored": written.distinct, "duplicate": written.records - written.distinct}
    if found != wanted or answer["problems"]["count"]:
        raise BackendError(f"the ledgers do not add up: {answer}, written {written}", retryable=False)
    return [
        Figure("import_s", took_s, "s"),
        Figure("records_per_s", written.records / took_s, "1/s"),
        Figure("core_cpu_us_per_record", 1e6 * spent["core"] / written.records, "us"),
        Figure("gateway_cpu_us_per_record", 1e6 * spent["gateway"] / written.records, "us"),
        Figure("peak_rss_mb", memory.peak_mb, "MB"),
        Figure("peak_pss_mb", memory.used_mb, "MB"),
    ]


def measure(runs: int, records: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures): the file is written once, every run imports it into a fresh directory."""
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
        file = Path(scratch) / "export.xml"
        with file.open("wb") as stream:
            written = write_export(stream, records, SEED)
        found = repeat(runs, partial(_once, file, written))
        size_mb = round(file.stat().st_size / 2**20)
    workload = {
        "adapter": "apple_health", "records": written.records, "distinct": written.distinct, "file_mb": size_mb,
        "processes": ["supervisor", "gateway", "core", "import"],
    }  # fmt: skip
    return workload, found
