"""Alerts of many patients rise and clear while the core is killed: each is recorded once, and so is its every step."""

import asyncio
import json
import random
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from alerts.book.sql import SqlAlertBook
from alerts.cases.suppressors import CYCLES
from alerts.engine import Engine
from simulators.publisher import Options, Outgoing, Publisher
from tests.deploy.conftest import Running
from tests.support import FakeClock, eventually
from vitals.encoding import decode
from vitals.log.local import LocalLog
from vitals.records import AlertEvent, BookedEvent

SEED = 27
KILL, TERM = signal.SIGKILL, signal.SIGTERM
HUB = "hub-1"
LIMIT = {"vital": "heart_rate", "unit": "/min", "low": None, "high": 150, "deadband": 5, "off_delay_s": 0}
DELAY_S = 0.4
HIGH, CALM = 180, 72

Script = list[list[int]]
"""Round -> the value of each device."""


def device(number: int) -> str:
    return f"hr-{number}"


def delayed(number: int) -> bool:
    """Every fourth patient's limit waits before it raises; ticks and readings end the wait."""
    return number % 4 == 3


def enrol(running: Running, count: int) -> tuple[str, list[str]]:
    """A hub with a child on each patient; its secret, and the patients."""
    secret = str(running.request("POST", "devices", json={"adapter": "json", "id": HUB, "hub": True})["secret"])
    patients = []
    for number in range(count):
        running.request("POST", "devices", json={"adapter": "json", "id": device(number), "parent": HUB})
        patients.append(str(running.request("POST", "patients", json={"name": f"Patient {number}"})["patient"]))
        running.request("POST", f"devices/{device(number)}/assign", json={"patient": patients[-1]})
        limit = LIMIT | {"severity": "S1" if number % 2 else "S2", "on_delay_s": DELAY_S if delayed(number) else 0}
        running.request("PUT", f"patients/{patients[-1]}/limits", json=[limit])
    return secret, patients


def draw(choose: random.Random, count: int, rounds: int) -> Script:
    """Every device is high in the second round and calm in the last; between them it goes up and down at random."""
    middle = [[choose.choice((HIGH, CALM)) for _ in range(count)] for _ in range(rounds - 3)]
    return [[CALM] * count, [HIGH] * count, *middle, [CALM] * count]


async def drive(running: Running, secret: str, script: Script, choose: random.Random, doomed: Sequence[int]) -> int:
    """Publish round after round, each acknowledged before the next; end the core in the ``doomed`` ones, unless it is
    just being started again. Returns how often it was ended: the first time it may leave a snapshot, which the next
    lives start from; then it is killed."""
    kills: list[asyncio.Task[None]] = []
    options = Options(running.host, running.port, inflight=100)
    async with Publisher(HUB, secret, options) as hub:
        for number, values in enumerate(script):
            now_ms = time.time_ns() // 1_000_000
            messages = [
                Outgoing("json", json.dumps({"vital": "heart_rate", "value": value, "unit": "/min", "time": now_ms,
                                             "seq": number}).encode(), device=device(which))
                for which, value in enumerate(values)
            ]  # fmt: skip
            sending = asyncio.create_task(hub.publish_all(messages))
            if number in doomed and all(kill.done() for kill in kills):
                await asyncio.sleep(choose.uniform(0.0, 0.15))
                kills.append(asyncio.create_task(asyncio.to_thread(running.kill, "core", KILL if kills else TERM)))
            assert len(await sending) == len(values), "acknowledged whatever happens to the core"
            await asyncio.sleep(choose.uniform(0.3, 0.9))
        await asyncio.gather(*kills)
    return len(kills)


def evaluated(running: Running, upto_s: float) -> bool:
    found = running.get("system")["evaluated_to"]
    return found is not None and datetime.fromisoformat(found).timestamp() > upto_s


def recorded(data: Path) -> tuple[list[BookedEvent], list[BookedEvent]]:
    """What the book holds, and what a fresh engine says of the same log from its beginning."""
    book = SqlAlertBook(f"sqlite:///{data / 'alerts.db'}")
    log = LocalLog(data / "vitals.db", FakeClock(), read_only=True)
    try:
        upto = book.position()
        held, engine, again = book.events_between(0, upto), Engine(), list[BookedEvent]()
        rows = [row for row in log.read(0, streams=("vitals",), limit=1_000_000) if row.position <= upto]
        assert rows[0].position == 1, "the log is whole"
        for row in rows:
            again += [BookedEvent(row.position, event) for event in engine.apply(row.position, decode(row.body)).events]
        return held, again
    finally:
        log.close()
        book.close()


def expected(script: Script, number: int) -> list[str]:
    """What happens to the alerts of a patient whose limit does not wait, by the values alone."""
    steps, high, ends = list[str](), False, 0
    for value in (values[number] for values in script):
        if (value == HIGH) == high:
            continue
        high, rises = value == HIGH, "raised"
        # Nobody acknowledges: S1 latches. All this takes less than 10 minutes: what is back is the same alert, and what
        # ends for the fourth time comes and goes, and is held.
        latched, held = number % 2 == 1, ends > CYCLES
        if steps:
            rises = "recurred" if latched or held else "reopened"
        if not high:
            ends += 1
        falls = "returned" if latched else "held" if ends > CYCLES else "resolved"
        steps.append(rises if high else falls)
    return steps


def steps_of(events: Sequence[AlertEvent]) -> dict[str, list[str]]:
    by_patient: dict[str, list[str]] = defaultdict(list)
    for event in events:
        by_patient[event.patient].append(event.kind)
    return by_patient


@pytest.mark.parametrize(
    ("count", "rounds", "doomed"),
    [
        pytest.param(40, 8, (1, 4, 6), id="slice"),
        pytest.param(200, 14, (1, 4, 7, 10, 12), id="200 alerts", marks=pytest.mark.slow),
    ],
)
def test_alerts_rise_and_clear_under_kill_9_and_every_step_is_recorded_once(
    running: Running, count: int, rounds: int, doomed: Sequence[int]
) -> None:
    choose = random.Random(SEED)
    secret, patients = enrol(running, count)
    script = draw(choose, count, rounds)
    assert asyncio.run(drive(running, secret, script, choose, doomed)) >= 2
    running.until_ready()
    ended_s = time.time()
    eventually(lambda: evaluated(running, ended_s), within_s=30, what="everything is evaluated")
    assert running.get("alerts", limit=1)["items"], "people see them too"
    assert running.stop() == 0
    held, again = recorded(running.data)
    assert msgspec.json.encode(held) == msgspec.json.encode(again), "byte for byte what the log says"
    events = [booked.event for booked in held if booked.event.patient]
    assert len({event.id for event in events}) == len(events)
    numbers: dict[str, int] = defaultdict(int)
    for event in events:
        assert event.number == numbers[event.alert], "no step of an alert twice, none left out"
        numbers[event.alert] += 1
    steps = steps_of(events)
    for number, patient in enumerate(patients):
        if not delayed(number):
            assert steps[patient] == expected(script, number), device(number)
    rises = sum(kind in ("raised", "recurred", "reopened") for kinds in steps.values() for kind in kinds)
    assert rises > count, "most of them more than once"
    assert any(steps[patient] for number, patient in enumerate(patients) if delayed(number))
