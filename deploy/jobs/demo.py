"""Synthetic wards: enrolling simulated patients and their devices, and the demo that keeps one going."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from deploy import settings
from deploy.layout import PRIVATE_UMASK, Layout
from deploy.processes.control import ApiClient, open_control, options
from deploy.wiring import CLOCK
from simulators import replay
from simulators.devices import SimulatedDevice
from simulators.faults import Garbage
from simulators.fleet import KITS, speaking
from simulators.formats import Format
from simulators.patients import Condition, SyntheticPatient, synthetic_patients
from simulators.publisher import Options, Publisher
from simulators.simulate import simulate
from vitals.times import DAY_NS

PATIENTS = 24
"""Two of them are the recording and the silent sensor."""
SPEED = 10.0
SEED = 7
EPISODES_PER_DAY = 96.0
RECORDING_NOW = datetime(2016, 10, 25, 6, 53, 46)  # noqa: DTZ001 - wall time of the recording
"""The moment of the recording that is now at the first start: half a minute before it falls under 70 mg/dL."""
FAULTY_SHARE = 0.02
WARMING = "warming"
WARM_LOOK_S = 0.5
STATE = "ward.json"
"""Ids and secrets of the demo's devices, so that a second start goes on with the same ward."""


def _limit(
    vital: str, unit: str, low: float | None, high: float | None, severity: str, deadband: float
) -> dict[str, Any]:
    return {
        "vital": vital, "unit": unit, "low": low, "high": high, "severity": severity, "deadband": deadband,
        "on_delay_s": 0.0, "off_delay_s": 0.0,
    }  # fmt: skip


OWN_LIMITS = [
    _limit("glucose_isf", "mg/dL", 54, 250, "S1", 5),
    _limit("glucose_isf", "mg/dL", 70, 180, "S2", 5),
]
"""Limits of the recording alone (clinical.md 1.3); everybody else is watched by programmes."""
PROGRAMMES: dict[Condition, tuple[str, ...]] = {
    Condition.DIABETES: ("diabetes",),
    Condition.HEART_FAILURE: ("heart_failure",),
    Condition.COPD: ("copd",),
    Condition.POST_SURGICAL: ("post_surgical", "rhythm"),
}
"""The shipped protocols that the demo adopts for a condition, each as a programme of the same name."""
FAST = ("diabetes:D3", "diabetes:D8")
"""Rules about how fast a value moves, off for synthetic patients: theirs move ``SPEED`` times as fast as real ones."""
CONTEXT = {"age_band": "adult", "pregnancy": "no", "oxygen": "no", "spo2_scale": 1, "known_af": "no"}
"""The clinical context of a synthetic patient; those with COPD have a target of 88 to 92 %."""
REASON = "the demo's synthetic ward"


def enrol(
    api: ApiClient,
    people: Sequence[SyntheticPatient],
    now_ns: int,
    *,
    watched: bool = False,
    formats: Sequence[Format] = (),
) -> list[SimulatedDevice]:
    """Add synthetic patients with their devices; ``watched`` gives them the demo's programmes as well.

    Each takes home the kit of its condition, or a device of each of ``formats``.
    """
    spoken = [speaking(chosen) for chosen in formats]
    targets: list[SimulatedDevice] = []
    for number, person in enumerate(people):
        body = {"name": f"Synthetic {number + 1}", "zone": "UTC", "condition": person.condition.value}
        token = api.request("POST", "patients", json=body)["patient"]
        if watched:
            _watch(api, token, person.condition)
        for product in spoken or KITS[person.condition]:
            adapter = product("", "", person, now_ns).adapter
            enrolled = api.request("POST", "devices", json={"adapter": adapter})
            api.request("POST", f"devices/{enrolled['device']}/assign", json={"patient": token})
            targets.append(product(enrolled["device"], enrolled["secret"], person, now_ns, seed=len(targets)))
    return targets


def _adopt(api: ApiClient) -> None:
    """The shipped protocols as programmes of the ward."""
    titles = {one["name"]: one["title"] for one in api.all("protocols")}
    for name in sorted({name for names in PROGRAMMES.values() for name in names}):
        body = {"protocols": [name], "title": titles[name], "reason": REASON}
        api.request("PUT", f"programmes/{name}", json=body)


def _watch(api: ApiClient, token: str, condition: Condition, *, synthetic: bool = True) -> None:
    """Clinical context and programmes of a patient of the demo."""
    scale = 2 if condition is Condition.COPD else 1
    api.request("PUT", f"patients/{token}/context", json=CONTEXT | {"spo2_scale": scale, "reason": REASON})
    programmes = PROGRAMMES.get(condition, ())
    why = f"synthetic values move {SPEED:g} times as fast as real ones"
    off = [rule for rule in FAST if synthetic and rule.partition(":")[0] in programmes]
    body = {
        "programmes": programmes, "reason": REASON,
        "overrides": [{"rule": rule, "off": True, "reason": why} for rule in off],
    }  # fmt: skip
    api.request("PUT", f"patients/{token}/programmes", json=body)


@dataclass(frozen=True, slots=True)
class DemoWard:
    """The demo's devices. ``faulty`` sends some garbage; ``silent`` is enrolled and worn but never heard of."""

    sound: list[SimulatedDevice]
    faulty: SimulatedDevice
    recorder: tuple[str, str]
    silent: str
    first_start_ns: int


def _people(now_ns: int) -> list[SyntheticPatient]:
    """``PATIENTS`` synthetic patients in the four conditions, with episodes soon and often."""
    drawn = synthetic_patients(2 * PATIENTS, SEED, now_ns, now_ns + DAY_NS, per_day=EPISODES_PER_DAY)
    return [person for person in drawn if person.condition is not Condition.HEALTHY][:PATIENTS]


def _enrol_extra(api: ApiClient, name: str, adapter: str) -> tuple[str, str]:
    token = api.request("POST", "patients", json={"name": name, "zone": "UTC", "condition": "diabetes"})["patient"]
    _watch(api, token, Condition.DIABETES, synthetic=False)
    api.request("PUT", f"patients/{token}/limits", json=OWN_LIMITS)
    device = api.request("POST", "devices", json={"adapter": adapter})
    api.request("POST", f"devices/{device['device']}/assign", json={"patient": token})
    return device["device"], device["secret"]


def _ward(api: ApiClient, layout: Layout) -> DemoWard:
    """The demo's devices: those of the last start, else newly enrolled ones."""
    now_ns = CLOCK.now_ns()
    people = _people(now_ns)
    kept = layout.root / STATE
    if not kept.exists():
        _adopt(api)
        devices = [[target.device, target.secret] for target in enrol(api, people[:-2], now_ns, watched=True)]
        recorder = _enrol_extra(api, "Recording of a real sensor", "clarity")
        silent, _ = _enrol_extra(api, "Silent sensor", "clarity")
        state = {"devices": devices, "recorder": recorder, "silent": silent, "first_start_ns": now_ns}
        kept.write_text(json.dumps(state))
    state = json.loads(kept.read_text())
    credentials = iter(state["devices"])
    targets = [
        product(*next(credentials), person, now_ns, seed=number)
        for person in people[:-2]
        for number, product in enumerate(KITS[person.condition])
    ]
    faulty = next(target for target in reversed(targets) if target.schedule.period_s <= 1.0)
    sound = [target for target in targets if target is not faulty]
    return DemoWard(sound, faulty, tuple(state["recorder"]), state["silent"], state["first_start_ns"])


async def _play(ward: DemoWard, reach: Options) -> None:
    """The real recording: what lies before its moment as history, the rest as it comes due.

    A later start moves the moment on by the time that has passed: the same rows get the same times again.
    """
    now_ns = CLOCK.now_ns()
    align = RECORDING_NOW + timedelta(microseconds=(now_ns - ward.first_start_ns) // 1000)
    recording = resources.files("simulators").joinpath("recordings", "clarity.csv").read_bytes()
    plan = replay.plan(recording, align, 1.0, now_ns, "UTC")
    device, secret = ward.recorder
    async with Publisher(device, secret, reach) as publisher:
        await replay.run(plan, publisher, CLOCK)


async def _simulate(ward: DemoWard, reach: Options) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_play(ward, reach))
        group.create_task(simulate(ward.sound, reach, clock=CLOCK, speed=SPEED, seed=SEED))
        faults = (Garbage(FAULTY_SHARE),)
        group.create_task(simulate([ward.faulty], reach, clock=CLOCK, speed=SPEED, faults=faults, seed=SEED))


def run_demo(root: Path) -> None:
    """Simulate a ward against the owner of ``root`` until told to stop."""
    layout = Layout(root)
    with open_control(layout, settings.load(None)) as api:
        # Programmes come into force once the alert engine answers.
        while WARMING in api.request("GET", "system")["reasons"]:
            time.sleep(WARM_LOOK_S)
        ward = _ward(api, layout)
        reach = options(api)
    asyncio.run(_simulate(ward, reach))


if __name__ == "__main__":
    os.umask(PRIVATE_UMASK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run_demo(Path(sys.argv[1]))
