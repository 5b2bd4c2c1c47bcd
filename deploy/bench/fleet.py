"""Devices to publish as: enrolled with a running owner, or written into a fresh directory that serves many runs."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from alerts.rules.limits import parse_limits
from deploy.layout import Layout
from deploy.settings import Settings
from deploy.wiring import CLOCK, open_core, prepare
from simulators.load import Credential
from vitals.catalog import BY_KEY
from vitals.encoding import encode
from vitals.errors import BackendError
from vitals.glossary import ControlKind
from vitals.model import Control, VitalBatch
from vitals.times import MINUTE_NS, NO_TIME
from vitals.units import UNIT_BY_NAME

AT_ONCE: Final = 8
LIMITS: Final = [{"vital": "spo2", "unit": "%", "low": 90.0, "severity": "S2", "deadband": 2.0}]
"""What every patient of a benchmark has: the load's alarms violate it, the next reading ends it."""
HISTORY_DAYS: Final = 14
HISTORY_PATIENTS: Final = 50
_DAY_MINUTES: Final = 1440


async def _enrol(client: httpx.AsyncClient, adapter: str) -> Credential:
    async def post(path: str, body: dict[str, Any]) -> Any:
        answer = await client.post(path, json=body)
        if not answer.is_success:
            raise BackendError(f"{path}: {answer.status_code} {answer.text}", retryable=False)
        return answer.json()

    patient = await post("patients", {"name": "Load", "zone": "UTC"})
    device = await post("devices", {"adapter": adapter})
    await post(f"devices/{device['device']}/assign", {"patient": patient["patient"]})
    return Credential(device["device"], device["secret"])


async def enrol_live(control: Path, count: int, adapter: str) -> list[Credential]:
    """Enrol ``count`` devices, each worn by its own synthetic patient, over an owner's control socket.

    Raises:
        BackendError: the owner refused.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    transport = httpx.AsyncHTTPTransport(uds=str(control))
    async with httpx.AsyncClient(transport=transport, base_url="http://local/api/v1/", timeout=60.0) as client:

        async def one() -> Credential:
            async with gate:
                return await _enrol(client, adapter)

        return list(await asyncio.gather(*(one() for _ in range(count))))


def write_fleet(layout: Layout, count: int, *, history: int = HISTORY_PATIENTS) -> list[tuple[Credential, str]]:
    """(credential, patient) of ``count`` devices in a fresh directory, with limits for every patient and
    ``HISTORY_DAYS`` of one reading a minute in the store for the first ``history`` of them."""
    settings = Settings()
    prepare(layout, settings)
    core = open_core(layout, settings)
    try:
        fleet = []
        for number in range(count):
            patient = core.registry.add_patient(zone="UTC").id
            device, secret = core.registry.enrol("json", device=f"bench-{number:05}")
            core.registry.assign(device.id, patient, from_ns=None, to_ns=None)
            fleet.append((Credential(device.id, secret), patient))
        limits = [limit.model_dump(mode="json") for limit in parse_limits(LIMITS)]
        now_ns = CLOCK.now_ns()
        core.log.append([("vitals", encode(_limits(patient, limits, now_ns))) for _, patient in fleet])
        for number, (_, patient) in enumerate(fleet[:history]):
            # Of another device: these readings passed no gateway, so they must not stand in a ledger that is checked.
            batch = series(f"history-{number}", patient, now_ns, HISTORY_DAYS * _DAY_MINUTES)
            core.store.write([batch], expected=0, position=0)
        core.store.compact(now_ns)
    finally:
        core.close()
    return fleet


def _limits(patient: str, limits: Sequence[dict[str, Any]], now_ns: int) -> Control:
    body = {"patient": patient, "version": 1, "reason": "benchmark", "limits": list(limits)}
    return Control(ControlKind.LIMITS, now_ns, "bench", body)


def series(device: str, patient: str, end_ns: int, minutes: int) -> VitalBatch:
    """Oxygen saturation of one patient, one reading a minute up to ``end_ns``."""
    time_ns = end_ns - np.arange(minutes, 0, -1, dtype=np.int64) * MINUTE_NS
    return batch_of((device,), (patient,), np.zeros(minutes, np.int32), time_ns)


def batch_of(
    devices: tuple[str, ...], patients: tuple[str, ...], wearer: np.ndarray[Any, np.dtype[np.int32]],
    time_ns: np.ndarray[Any, np.dtype[np.int64]],
) -> VitalBatch:  # fmt: skip
    """Saturations of 94 to 99 %, row by row of device and patient number ``wearer`` at ``time_ns``."""
    rows = len(time_ns)
    value = 94 + (np.arange(rows) % 6).astype(np.float64)
    ordinal = np.arange(rows, dtype=np.int64)
    return VitalBatch(
        devices, patients, wearer, wearer, np.full(rows, BY_KEY["spo2"].code, np.uint16), time_ns,
        np.zeros(rows, np.int64), time_ns, np.full(rows, NO_TIME, np.int64), np.zeros(rows, np.uint8),
        np.zeros(rows, np.int16), value, value, np.full(rows, UNIT_BY_NAME["%"].code, np.uint8),
        np.zeros(rows, np.uint8), np.zeros(rows, np.uint32), ordinal, time_ns,
    )  # fmt: skip
