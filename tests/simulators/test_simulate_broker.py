"""Simulations and replays end to end against a real broker: what was planned is what arrives."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import pairwise
from typing import Any

import aiomqtt
import pytest

from simulators import fleet, replay, simulate
from simulators.devices import SimulatedDevice
from simulators.faults import Dropout, Duplicate, Garbage, Reorder, Skew
from simulators.patients import Condition, SyntheticPatient
from simulators.publisher import Options, Outgoing, Publisher
from simulators.replay import Progress
from tests.simulators.conftest import Broker
from tests.support import FIXTURES, FakeClock, free_port
from vitals.errors import InvalidRequest

# ruff: noqa: DTZ001 - wall times have no zone
pytestmark = pytest.mark.servers

RECORDING = (FIXTURES / "cgm" / "clarity.csv").read_bytes()
SECOND = 1_000_000_000
START = 1_700_006_400 * SECOND


class VirtualTime(FakeClock):
    """A clock that its sleepers move, so that nothing has to be waited for."""

    def __init__(self) -> None:
        super().__init__(START)

    async def sleep(self, seconds: float) -> None:
        wake_ns = self.time_ns + int(seconds * SECOND) + 1
        await asyncio.sleep(0)
        self.time_ns = max(self.time_ns, wake_ns)


def options(broker: Broker, **changes: Any) -> Options:
    return Options("127.0.0.1", broker.port, **{"deadline_s": 10.0, "backoff_s": 0.02, **changes})


async def simulated(
    targets: list[SimulatedDevice], wanted: Options, seconds: float | None, **changes: Any
) -> simulate.SimulationResult:
    time = VirtualTime()
    return await simulate.simulate(targets, wanted, clock=time, sleep=time.sleep, seconds=seconds, **changes)


async def listening(broker: Broker, work: Callable[[], Awaitable[Any]]) -> tuple[Any, list[tuple[str, bytes]]]:
    """The result of ``work`` and all that a subscriber saw until a last message after it."""
    seen: list[tuple[str, bytes]] = []
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("#", qos=1)
        result = await work()
        await client.publish("end", b"", qos=1)
        async with asyncio.timeout(10):
            async for message in client.messages:
                if message.topic.value == "end":
                    break
                assert isinstance(message.payload, bytes)
                seen.append((message.topic.value, message.payload))
    return result, seen


def devices() -> list[SimulatedDevice]:
    diabetic, copd = SyntheticPatient(1, Condition.DIABETES), SyntheticPatient(2, Condition.COPD)
    return [
        fleet.oximeter("ox", "s", copd, START),
        fleet.heart_rate_strap("hr", "s", copd, START),
        fleet.cgm("cgm", "s", diabetic, START, period_s=10.0),
        fleet.glucometer("meter", "s", diabetic, START, period_s=7.0, sync_s=20.0),
        fleet.json_device("home", "s", copd, START, period_s=15.0),
    ]


def test_everything_measured_is_published_by_its_device(broker: Broker) -> None:
    async def work() -> simulate.SimulationResult:
        return await simulated(devices(), options(broker), 60)

    result, seen = asyncio.run(listening(broker, work))
    topics = Counter(topic for topic, _ in seen)
    assert topics.keys() == {
        "vitals/ox/ble_plx/2a5f", "vitals/hr/ble_heart_rate/2a37", "vitals/cgm/clarity",
        "vitals/meter/ble_glucose/2a18", "vitals/home/json",
    }  # fmt: skip
    assert 58 <= topics["vitals/ox/ble_plx/2a5f"] <= 60
    assert len(seen) == result.measured == result.messages == result.acked
    assert (result.refused, result.unsent, result.connections, result.failures) == (0, 0, 5, {})


def test_faults_account_for_every_message_that_arrives(broker: Broker) -> None:
    faults = (Dropout(0.2), Duplicate(0.2), Reorder(0.3), Skew(2.0), Garbage(0.1))
    calls: list[int] = []

    async def work() -> simulate.SimulationResult:
        return await simulated(
            devices(), options(broker), 90, faults=faults, seed=4, progress=lambda result: calls.append(result.acked)
        )

    result, seen = asyncio.run(listening(broker, work))
    counts = result.faults
    assert min(counts["dropout.dropped"], counts["duplicate.duplicated"], counts["reorder.delayed"]) > 10
    assert counts["garbage.flipped"] + counts["garbage.random"] + counts["garbage.truncated"] > 10
    expected = result.measured - counts["dropout.dropped"] + counts["duplicate.duplicated"]
    assert len(seen) == result.messages == result.acked == expected
    assert len(calls) == expected
    assert calls[-1] == expected


def test_compressed_time_makes_the_body_live_faster(broker: Broker) -> None:
    target = fleet.cgm("cgm", "s", SyntheticPatient(1, Condition.DIABETES), START)

    async def work() -> simulate.SimulationResult:
        return await simulated([target], options(broker), 60, speed=60)

    result, seen = asyncio.run(listening(broker, work))
    assert 11 <= len(seen) == result.acked <= 12
    values = {payload.decode().split(",")[-5] for _, payload in seen}
    assert len(values) > 4


def test_a_simulation_without_end_runs_until_it_is_cancelled(broker: Broker) -> None:
    async def main() -> None:
        reached = asyncio.Event()

        def progress(result: simulate.SimulationResult) -> None:
            if result.acked > 100:
                reached.set()

        task = asyncio.create_task(simulated(devices(), options(broker), None, progress=progress))
        async with asyncio.timeout(20):
            await reached.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())


def test_a_device_that_cannot_connect_is_a_failure_of_its_own() -> None:
    async def main() -> simulate.SimulationResult:
        nowhere = Options("127.0.0.1", free_port(), deadline_s=0.2, backoff_s=0.05)
        return await simulated(devices()[:2], nowhere, 5)

    result = asyncio.run(main())
    assert set(result.failures) == {"ox", "hr"}
    assert (result.messages, result.acked) == (0, 0)


@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_what_waits_when_the_server_goes_for_good_is_counted(broker: Broker, seconds: float | None) -> None:
    async def main() -> simulate.SimulationResult:
        killed = False

        def progress(result: simulate.SimulationResult) -> None:
            nonlocal killed
            if result.acked >= 20 and not killed:
                killed = True
                broker.kill()

        target = fleet.oximeter("ox", "s", SyntheticPatient(2, Condition.COPD), START, period_s=0.1)
        wanted = options(broker, deadline_s=0.3)
        return await simulated([target], wanted, seconds, progress=progress)

    result = asyncio.run(asyncio.wait_for(main(), 30))
    assert set(result.failures) == {"ox"}
    assert 20 <= result.acked < result.measured
    assert result.measured == result.messages + result.unsent


@pytest.mark.parametrize(
    ("targets", "speed", "problem"),
    [
        (devices(), 0.0, "speed: must be"),
        (devices(), 60.0, "speed: 60 is too fast for cgm"),
        (devices()[:1] * 2, 1.0, "same id"),
        (devices()[:1] * 5001, 1.0, "at most 5000"),
    ],
)
def test_impossible_simulations_are_refused(targets: list[SimulatedDevice], speed: float, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        asyncio.run(simulate.simulate(targets, Options("127.0.0.1", 1), clock=FakeClock(), speed=speed, seconds=1))


def test_more_connections_than_open_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (66, 66))
    with pytest.raises(InvalidRequest, match="limit of open files than 66"):
        asyncio.run(simulate.simulate(devices(), Options("127.0.0.1", 1), clock=FakeClock(), seconds=1))


def test_a_recording_is_replayed_as_history_then_as_it_comes_due(broker: Broker) -> None:
    clock = FakeClock(START)
    planned = replay.plan(RECORDING, datetime(2016, 10, 31, 6, 4, 5), 60.0, clock.now_ns(), None)
    ages: list[int] = []
    seen_progress: list[Progress] = []

    async def sleep(seconds: float) -> None:
        clock.advance(seconds + 0.001)
        ages.append(clock.now_ns())
        await asyncio.sleep(0)

    async def work() -> dict[str, int]:
        async with Publisher("cgm", "s", options(broker)) as publisher:
            return await replay.run(planned, publisher, clock, progress=seen_progress.append, sleep=sleep)

    result, seen = asyncio.run(listening(broker, work))
    total = len(planned.history) + len(planned.due)
    assert result == {"rows": 2159, "messages": total, "acked": total}
    assert [payload for _, payload in seen] == [*planned.history, *(payload for _, payload in planned.due)]
    assert {topic for topic, _ in seen} == {"vitals/cgm/clarity"}
    assert clock.now_ns() >= planned.due[-1][0]
    assert max(later - earlier for earlier, later in pairwise(ages)) < 1.1 * SECOND
    assert seen_progress[-1] == Progress(total, total, total)


def test_a_replay_ends_when_the_publisher_gives_up(broker: Broker) -> None:
    clock = FakeClock(START)
    planned = replay.plan(RECORDING, datetime(2016, 10, 31, 6, 4, 5), 1.0, clock.now_ns(), None)

    async def main() -> None:
        async with Publisher("cgm", "s", options(broker, deadline_s=0.2)) as publisher:
            assert await publisher.publish(Outgoing("clarity", planned.history[0]))
            await asyncio.to_thread(broker.kill)
            result = await replay.run(planned, publisher, clock)
            assert publisher.failure is not None
        assert result["acked"] == 0
        assert result["messages"] == len(planned.history)

    asyncio.run(asyncio.wait_for(main(), 10))
