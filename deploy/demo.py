"""Synthetic wards: enrolling simulated patients and their devices, and the demo that keeps one going."""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy import settings
from deploy.control import Control, open_control
from deploy.layout import Layout
from deploy.wiring import CLOCK
from simulators.devices import SimulatedDevice
from simulators.fleet import KITS
from simulators.patients import Condition, Patient, synthetic_patients
from simulators.publisher import Options
from simulators.simulate import simulate

PATIENTS = 10
SPEED = 10.0
SEED = 7
EPISODES_PER_DAY = 96.0
STATE = "demo.json"
"""Ids and secrets of the demo's devices, so that a second start goes on with the same ward."""
_DAY_NS = 86_400_000_000_000


def _limit(
    vital: str, unit: str, low: float | None, high: float | None, severity: str, deadband: float
) -> dict[str, Any]:
    return {
        "vital": vital, "unit": unit, "low": low, "high": high, "severity": severity, "deadband": deadband,
        "on_delay_s": 0.0, "off_delay_s": 0.0,
    }  # fmt: skip


LIMITS: dict[Condition, list[dict[str, Any]]] = {
    Condition.HEALTHY: [_limit("heart_rate", "/min", 40, 131, "S1", 5)],
    Condition.DIABETES: [
        _limit("glucose_isf", "mg/dL", 54, 250, "S1", 5),
        _limit("glucose_isf", "mg/dL", 70, 180, "S2", 5),
    ],
    Condition.HEART_FAILURE: [_limit("spo2", "%", 91, None, "S2", 2), _limit("weight", "kg", 40, 160, "S3", 1)],
    Condition.COPD: [_limit("spo2", "%", 84, None, "S1", 2), _limit("spo2", "%", 88, None, "S2", 2)],
    Condition.POST_SURGICAL: [
        _limit("temp", "Cel", 35, 39.1, "S2", 0.3),
        _limit("heart_rate", "/min", 40, 131, "S1", 5),
    ],
}
"""The demo's limits, after clinical.md 1.3: for synthetic patients only."""


def options(api: Control) -> Options:
    """How to reach the gateway of a running owner."""
    host, _, port = api.request("GET", "system")["mqtt"].rpartition(":")
    return Options(host.strip("[]"), int(port), deadline_s=600.0)


def enrol(api: Control, people: Sequence[Patient], now_ns: int, *, limits: bool = False) -> list[SimulatedDevice]:
    """Add synthetic patients with their devices; ``limits`` gives them the demo's limits as well."""
    targets: list[SimulatedDevice] = []
    for number, person in enumerate(people):
        body = {"name": f"Synthetic {number + 1}", "zone": "UTC", "condition": person.condition.value}
        token = api.request("POST", "patients", json=body)["patient"]
        if limits:
            api.request("PUT", f"patients/{token}/limits", json=LIMITS[person.condition])
        for product in KITS[person.condition]:
            adapter = product("", "", person, now_ns).adapter
            enrolled = api.request("POST", "devices", json={"adapter": adapter})
            api.request("POST", f"devices/{enrolled['device']}/assign", json={"patient": token})
            targets.append(product(enrolled["device"], enrolled["secret"], person, now_ns, seed=len(targets)))
    return targets


def _ward(api: Control, layout: Layout) -> list[SimulatedDevice]:
    """The demo's devices: those of the last start, else newly enrolled ones."""
    now_ns = CLOCK.now_ns()
    people = synthetic_patients(PATIENTS, SEED, now_ns, now_ns + _DAY_NS, per_day=EPISODES_PER_DAY)
    kept = layout.root / STATE
    if not kept.exists():
        targets = enrol(api, people, now_ns, limits=True)
        kept.write_text(json.dumps([[target.device, target.secret] for target in targets]))
        return targets
    credentials = iter(json.loads(kept.read_text()))
    return [
        product(*next(credentials), person, now_ns, seed=number)
        for person in people
        for number, product in enumerate(KITS[person.condition])
    ]


def run_demo(root: Path) -> None:
    """Simulate a ward against the owner of ``root`` until told to stop."""
    layout = Layout(root)
    with open_control(layout, settings.load(None)) as api:
        targets = _ward(api, layout)
        reach = options(api)
    asyncio.run(simulate(targets, reach, clock=CLOCK, speed=SPEED, seed=SEED))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run_demo(Path(sys.argv[1]))
