"""``bench e2e``: a real ``vitalgate up`` from the device's socket to the stored reading and the alert on the stream.

A run has two parts, each on a fresh copy of the same directory: at full speed (every client keeps a window of
unacknowledged messages), and paced, where a share of the devices violates a limit, one client follows the event stream
of those patients and another reads 14-day windows, five a second at most.
"""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from deploy.bench.fleet import HISTORY_PATIENTS, write_fleet
from deploy.bench.generator import WINDOW, LoadOrder, generating, write_credentials
from deploy.bench.processes import MemoryPeak, children, cpu_s
from deploy.bench.report import Figure, repeat
from deploy.layout import Layout
from simulators.load import Credential
from vitals.errors import BackendError

ALARMING: Final = 50
WINDOW_EVERY_S: Final = 0.2
"""Pause of the client that reads windows, after each."""
CAUGHT_UP_S: Final = 2.0
"""The watermark moves once a second."""
SETTLE_S: Final = 300.0
_DAYS: Final = 14
_FRAME: Final = "event: alert"


@dataclass(slots=True)
class RunningPipeline:
    """A running pipeline."""

    http: str
    mqtt: str
    client: httpx.AsyncClient
    pids: dict[str, int]

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON answer of a route of the API."""
        answer = await self.client.get(f"/api/v1/{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer of a route that changes something."""
        answer = await self.client.post(f"/api/v1/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def ledger(self) -> Any:
        """Both ledgers, summed over all devices."""
        return (await self.get("system"))["conservation"]


async def _token(root: Path) -> str:
    """A bearer token of a running owner, from its control socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(Layout(root).control))
    async with httpx.AsyncClient(transport=transport, base_url="http://local/api/v1/") as local:
        answer = await local.post("tokens", json={"role": "admin"})
        answer.raise_for_status()
        return str(answer.json()["token"])


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[RunningPipeline]:
    """``vitalgate up`` over ``root`` until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.cli.main", "up", "--data-dir", str(root), "--http", "127.0.0.1:0",
        "--mqtt", "127.0.0.1:0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise BackendError("vitalgate up did not start", retryable=False)
        ready = json.loads(line)
        headers = {"Authorization": f"Bearer {await _token(root)}"}
        async with httpx.AsyncClient(base_url=ready["http"], headers=headers, timeout=60.0) as client:
            pids = children(process.pid) | {"supervisor": process.pid}
            server = RunningPipeline(ready["http"], ready["mqtt"].removeprefix("mqtt://"), client, pids)
            await _caught_up(server)
            yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _caught_up(server: RunningPipeline) -> None:
    """Wait until the engine has passed the prepared entries of the directory: thousands of limits, set at once."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        reached = (await server.get("system"))["evaluated_to"]
        if reached and time.time() - datetime.fromisoformat(reached).timestamp() < CAUGHT_UP_S:
            return
        if time.monotonic() > deadline:
            raise BackendError(f"alerts are evaluated to {reached} only", retryable=True)
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Seen:
    """What clients saw beside the load: milliseconds from the device's time to the alert, and of each window."""

    alerts_ms: list[float] = field(default_factory=list)
    windows_ms: list[float] = field(default_factory=list)


async def _follow(server: RunningPipeline, patients: Sequence[str], seen: Seen) -> None:
    """Alerts of ``patients`` from the event stream, as they are raised."""
    async with server.client.stream(
        "GET", "/api/v1/stream", params={"patient": list(patients)}, timeout=None
    ) as answer:
        alert = False
        async for line in answer.aiter_lines():
            if line == _FRAME:
                alert = True
            elif alert and line.startswith("data: "):
                alert, now_s = False, time.time()
                event = json.loads(line[6:])["event"]
                if event["kind"] in {"raised", "recurred", "reopened"}:
                    measured = datetime.fromisoformat(event["values"][0]["time"])
                    seen.alerts_ms.append((now_s - measured.timestamp()) * 1000)


async def _read_windows(server: RunningPipeline, patients: Sequence[str], seen: Seen) -> None:
    """14-day windows of one patient after the other, a chart's worth of points each."""
    start = datetime.fromtimestamp(time.time() - _DAYS * 86_400, UTC).isoformat().replace("+00:00", "Z")
    number = 0
    while True:
        patient = patients[number % len(patients)]
        began_s = time.perf_counter()
        found = await server.get(f"patients/{patient}/readings", vital="spo2", start=start, resolution="auto")
        seen.windows_ms.append((time.perf_counter() - began_s) * 1000)
        assert found["time"], "a window without readings measures nothing"
        number += 1
        await asyncio.sleep(WINDOW_EVERY_S)


async def _settled(server: RunningPipeline) -> tuple[Any, float]:
    """(the ledgers, the time) when nothing is in flight any more."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        ledger = await server.ledger()
        if not ledger["messages"]["in_flight"] and not ledger["readings"]["in_flight"]:
            return ledger, time.monotonic()
        if time.monotonic() > deadline:
            raise BackendError(f"still in flight after {SETTLE_S:.0f} s: {ledger}", retryable=False)
        await asyncio.sleep(0.1)


def _account(ledger: Any, load: Any) -> None:
    """Figures of a run that lost or doubled anything are worth nothing."""
    messages, readings = ledger["messages"], ledger["readings"]
    if load["sent"] != load["acked"] or messages["decoded"] != load["acked"] or readings["stored"] != 2 * load["acked"]:
        raise BackendError(f"the ledgers do not add up: {ledger}, load {load}", retryable=False)


async def _stage_counts(server: RunningPipeline, stage: str) -> list[tuple[float, float]]:
    """(upper bound in seconds, cumulative count) of a stage's histogram."""
    text = (await server.client.get("/metrics")).text
    head = 'vitalgate_stage_seconds_bucket{le="'
    return [
        (float(line.split('le="')[1].split('"')[0]), float(line.rsplit(" ", 1)[1]))
        for line in text.splitlines()
        if line.startswith(head) and f'stage="{stage}"' in line
    ]


def quantile_s(counts: Sequence[tuple[float, float]], share: float) -> float:
    """A quantile of a cumulative histogram, linear within its bucket; the open bucket counts as its lower bound."""
    wanted, lower_s, below = share * counts[-1][1], 0.0, 0.0
    for upper_s, count in counts:
        if count >= wanted:
            if upper_s == float("inf") or count == below:
                return lower_s
            return lower_s + (upper_s - lower_s) * (wanted - below) / (count - below)
        lower_s, below = upper_s, count
    return lower_s


async def _full_speed(root: Path, connections: int, seconds: float) -> list[tuple[str, float, str]]:
    async with serving(root) as server:
        with MemoryPeak(*server.pids.values()) as memory:
            async with generating(LoadOrder(server.mqtt, root / "fleet", connections, 0.0, seconds)) as load:
                before = {name: cpu_s(pid) for name, pid in server.pids.items()}
                answer = await load
                ended_s = time.monotonic()
                ledger, settled_s = await _settled(server)
            spent = {name: cpu_s(pid) - before[name] for name, pid in server.pids.items()}
        _account(ledger, answer)
    acked, taken_s = answer["acked"], answer["seconds"] + settled_s - ended_s
    return [
        ("acked_messages_per_s", acked / answer["seconds"], "1/s"),
        ("stored_messages_per_s", acked / taken_s, "1/s"),
        ("catch_up_s", settled_s - ended_s, "s"),
        ("server_cpu_us_per_message", 1e6 * sum(spent.values()) / acked, "us"),
        ("gateway_cpu_us_per_message", 1e6 * spent["gateway"] / acked, "us"),
        ("core_cpu_us_per_message", 1e6 * spent["core"] / acked, "us"),
        ("saturated_ack_ms_p50", answer["ack_ms"]["p50"], "ms"),
        ("saturated_ack_ms_p99", answer["ack_ms"]["p99"], "ms"),
        ("peak_rss_mb", memory.peak_mb, "MB"),
        ("peak_pss_mb", memory.used_mb, "MB"),
    ]


async def _paced(
    root: Path, fleet: Sequence[tuple[Credential, str]], connections: int, seconds: float, rate: float
) -> list[tuple[str, float, str]]:
    alarming, seen = min(ALARMING, connections), Seen()
    watched = [patient for _, patient in fleet[:alarming]]
    async with serving(root) as server:
        order = LoadOrder(server.mqtt, root / "fleet", connections, rate, seconds, alarming=alarming)
        clients = [
            asyncio.create_task(_follow(server, watched, seen)),
            asyncio.create_task(_read_windows(server, [patient for _, patient in fleet[:HISTORY_PATIENTS]], seen)),
        ]
        with MemoryPeak(*server.pids.values()) as memory:
            async with generating(order) as load:
                before = {name: cpu_s(pid) for name, pid in server.pids.items()}
                await asyncio.wait((load, *clients), return_when=asyncio.FIRST_COMPLETED)
                answer = await load
            spent = {name: cpu_s(pid) - before[name] for name, pid in server.pids.items()}
            ledger, _ = await _settled(server)
        stored = await _stage_counts(server, "stored")
        for client in clients:
            client.cancel()
        for problem in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(problem, Exception):
                raise problem
        _account(ledger, answer)
    alerts, windows = np.array(seen.alerts_ms), np.array(seen.windows_ms)
    if not len(alerts):
        raise BackendError("no alert reached the event stream", retryable=False)
    return [
        ("paced_messages_per_s", answer["acked"] / answer["seconds"], "1/s"),
        ("paced_gateway_cpu_us_per_message", 1e6 * spent["gateway"] / answer["acked"], "us"),
        ("paced_core_cpu_us_per_message", 1e6 * spent["core"] / answer["acked"], "us"),
        ("ack_ms_p50", answer["ack_ms"]["p50"], "ms"),
        ("ack_ms_p99", answer["ack_ms"]["p99"], "ms"),
        ("device_to_stored_ms_p99", 1000 * quantile_s(stored, 0.99), "ms"),
        ("device_to_alert_ms_p50", float(np.percentile(alerts, 50)), "ms"),
        ("device_to_alert_ms_p99", float(np.percentile(alerts, 99)), "ms"),
        ("alerts", len(alerts), "1"),
        ("window_14d_ms_p50", float(np.percentile(windows, 50)), "ms"),
        ("windows", len(windows), "1"),
        ("paced_peak_rss_mb", memory.peak_mb, "MB"),
        ("paced_peak_pss_mb", memory.used_mb, "MB"),
    ]


def _once(
    template: Path, fleet: Sequence[tuple[Credential, str]], connections: int, seconds: float, rate: float
) -> list[Figure]:
    found = []
    for part in ("full", "paced"):
        with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
            root = Path(shutil.copytree(template, Path(scratch) / "d"))
            if part == "full":
                found += asyncio.run(_full_speed(root, connections, seconds))
            else:
                found += asyncio.run(_paced(root, fleet, connections, seconds, rate))
    return [Figure(metric, value, unit, connections) for metric, value, unit in found]


def measure(runs: int, counts: list[int], seconds: float, rate: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures)."""
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as scratch:
        template = Path(scratch) / "t"
        fleet = write_fleet(Layout(template), max(counts))
        write_credentials(template / "fleet", [credential for credential, _ in fleet])
        found = []
        for connections in counts:
            found += repeat(runs, partial(_once, template, fleet, connections, seconds, rate))
    workload = {
        "connections": counts, "qos": 1, "payload": "json2", "window": WINDOW, "seconds": seconds,
        "paced_rate": rate, "alarming_devices": min(ALARMING, *counts), "history_days": _DAYS,
        "generator": "aboard, one process", "clients": ["event stream", "14-day windows"],
    }  # fmt: skip
    return workload, found
