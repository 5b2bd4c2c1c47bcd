"""kill -9 of gateway, core or both at random moments under load: nothing acknowledged is lost, nothing doubled.

``VITALGATE_CHAOS_ROUNDS`` sets the rounds: 10 in CI, 100 by ``make chaos``.
"""

import asyncio
import os
import random
from typing import Any

from tests.deploy.conftest import Running
from tests.deploy.strict_client import Publisher
from tests.support import eventually

CLIENTS = 200
ROUNDS = int(os.environ.get("VITALGATE_CHAOS_ROUNDS", "10"))
EPISODE = 12
PAUSE_S = 0.2
SEED = 20


def enrol(running: Running, number: int) -> tuple[str, str, str]:
    device = f"hr-{number}"
    secret = running.request("POST", "devices", json={"adapter": "json", "id": device})["secret"]
    patient = running.request("POST", "patients", json={"name": f"Patient {number}"})["patient"]
    running.request("POST", f"devices/{device}/assign", json={"patient": patient})
    limit = {"vital": "heart_rate", "unit": "/min", "low": None, "high": 150, "severity": "S1", "deadband": 5,
             "on_delay_s": 0, "off_delay_s": 0}  # fmt: skip
    running.request("PUT", f"patients/{patient}/limits", json=[limit])
    return device, secret, patient


async def load_while_killing(running: Running, publishers: list[Publisher]) -> list[str]:
    """Run all publishers; meanwhile kill and wait, ``ROUNDS`` times. Returns what was killed."""
    choose = random.Random(SEED)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(publisher.run(stop, PAUSE_S)) for publisher in publishers]
    async with asyncio.timeout(60):
        while not all(publisher.acked for publisher in publishers):
            await asyncio.sleep(0.05)
    killed = []
    for _ in range(ROUNDS):
        victims = choose.choice((["gateway"], ["core"], ["gateway", "core"]))
        for victim in victims:
            await asyncio.to_thread(running.kill, victim)
        killed.append("+".join(victims))
        await asyncio.sleep(choose.uniform(0.1, 2.5))
    await asyncio.to_thread(running.until_ready)
    while any(publisher.sent <= EPISODE + 3 for publisher in publishers):
        await asyncio.sleep(0.1)
    stop.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    return killed


def all_sequence_numbers(running: Running, patient: str) -> list[int]:
    found: Any = running.get(f"patients/{patient}/readings", vital="heart_rate", resolution="raw")
    assert found["next"] is None
    return list(found["seq"])


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(running: Running) -> None:
    enrolled = [enrol(running, number) for number in range(CLIENTS)]
    publishers = [
        Publisher(
            running.host, running.port, device, secret, qos=1 + number % 2, strict=number % 4 < 2, episode=EPISODE
        )
        for number, (device, secret, _) in enumerate(enrolled)
    ]
    killed = asyncio.run(load_while_killing(running, publishers))
    assert len(killed) == ROUNDS
    acked = sum(len(publisher.acked) for publisher in publishers)
    assert acked > CLIENTS * EPISODE, "the load must have come through"
    assert all(publisher.fresh_sessions == 1 for publisher in publishers), "sessions survive the gateway"
    assert sum(publisher.forgotten for publisher in publishers) == 0
    eventually(lambda: _in_flight(running) == 0, within_s=60, what="everything is stored")
    for publisher, (device, _, patient) in zip(publishers, enrolled, strict=True):
        stored = all_sequence_numbers(running, patient)
        assert len(stored) == len(set(stored)), f"{device}: stored twice"
        assert publisher.acked - set(stored) == set(), f"{device}: acknowledged and lost"
        _balanced(running.get(f"devices/{device}/ledger"), len(stored), publisher)
    _alerts_once(running, [patient for _, _, patient in enrolled])


def _in_flight(running: Running) -> int:
    conservation = running.get("system")["conservation"]
    return int(conservation["messages"]["in_flight"]) + int(conservation["readings"]["in_flight"])


def _balanced(ledger: dict[str, Any], stored: int, publisher: Publisher) -> None:
    messages, found = ledger["messages"], ledger["readings"]
    assert messages["received"] == messages["decoded"] + messages["duplicate"] + messages["quarantined"]
    assert messages["quarantined"] == 0
    assert messages["received"] >= len(publisher.acked)
    assert found["stored"] == stored
    assert found["revision"] == found["unassigned"] == 0
    assert found["emitted"] == found["stored"] + found["duplicate"]


def _alerts_once(running: Running, patients: list[str]) -> None:
    """Each publisher sent one reading over the limit: one alert each, raised once."""
    alerts: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = running.get("alerts", limit=100, **({"cursor": cursor} if cursor else {}))
        alerts += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(alert["patient"] for alert in alerts) == sorted(patients)
    for alert in alerts[:20]:
        kinds = [event["kind"] for event in running.get(f"alerts/{alert['id']}")["events"]]
        assert kinds == ["raised", "returned"], kinds
