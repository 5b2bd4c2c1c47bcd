"""Run simulated devices against a gateway: every device on its own connection, in real or compressed time."""

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simulators.devices import SimulatedDevice, Timeline
from simulators.faults import AnyFault, DeviceFault, Stream, StreamFault, apply_faults
from simulators.publisher import Options, Outgoing, Publisher
from vitals.errors import InvalidRequest, VitalgateError
from vitals.ports import Clock
from vitals.times import SECOND_NS

MAX_CONNECTIONS = 5_000
_CONNECTING_AT_ONCE = 64
_WINDOW_S = 30.0
_SPARE_FILES = 64
_LONGEST_WAIT_S = 1.0
Sleep = Callable[[float], Awaitable[None]]
"""Waits for seconds of ``clock``; tests pass a function that moves the clock."""


@dataclass(slots=True)
class SimulationResult:
    """Totals over all devices: ``measured`` payloads the devices made, ``messages`` left after faults and handed to
    a publisher, ``acked``, ``refused``; ``connections`` made; ``faults`` as ``"dropout.dropped": n``; ``failures``
    device -> why it gave up. ``measured`` - dropped + duplicated = ``messages`` unless a device failed or was
    stopped: what was still waiting then is ``unsent``.
    """

    measured: int = 0
    messages: int = 0
    acked: int = 0
    refused: int = 0
    unsent: int = 0
    connections: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


async def simulate(
    targets: Sequence[SimulatedDevice],
    options: Options,
    *,
    clock: Clock,
    speed: float = 1.0,
    faults: Sequence[AnyFault] = (),
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[SimulationResult], None] | None = None,
    sleep: Sleep = asyncio.sleep,
) -> SimulationResult:
    """Publish what ``targets`` measure from now on, for ``seconds`` (None: until cancelled).

    With ``speed`` X the bodies live X times faster: schedules run X times as often, and the times in the payloads are
    the real ones, so that nothing is ever in the future. ``seed`` decides the faults; those of devices count real
    seconds. A device that cannot connect is
    a failure of its own and does not stop the others. Messages that a fault delays beyond the end are sent at the
    end.

    Raises:
        InvalidRequest: more than 5,000 devices, two with one id, more than the process may open files for, a speed
            that is not positive or that would write two measurements of one device into the same second.
    """
    _check(targets, speed)
    start_ns = clock.now_ns()
    end_ns = None if seconds is None else start_ns + int(seconds * SECOND_NS)
    line = Timeline(start_ns, speed)
    result = SimulationResult()
    on_the_way = [fault for fault in faults if not isinstance(fault, DeviceFault)]
    in_devices = [fault for fault in faults if isinstance(fault, DeviceFault)]
    connecting = asyncio.Semaphore(_CONNECTING_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for number, target in enumerate(targets):
            quick = replace(target, schedule=target.schedule.faster(speed))
            for fault in in_devices:
                quick = fault.afflict(quick, start_ns)
            rng = np.random.default_rng([seed, number])
            source = _Source(quick, line, on_the_way, rng, result, _Waiter(clock, sleep))
            group.create_task(_run(source, options, end_ns, connecting, progress), name=target.device)
    return result


def _check(targets: Sequence[SimulatedDevice], speed: float) -> None:
    if not speed > 0:
        raise InvalidRequest("speed", "must be greater than 0")
    if len(targets) > MAX_CONNECTIONS:
        raise InvalidRequest("targets", f"at most {MAX_CONNECTIONS} devices, one connection each")
    if len({target.device for target in targets}) < len(targets):
        raise InvalidRequest("targets", "two devices have the same id")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and len(targets) + _SPARE_FILES > limit:
        raise InvalidRequest("targets", f"{len(targets)} connections need a higher limit of open files than {limit}")
    for target in targets:
        step_s = (target.schedule.period_s - target.schedule.jitter_s) / speed
        if step_s < target.encoder.resolution_s:
            apart = f"its format tells times {target.encoder.resolution_s:g} s apart"
            raise InvalidRequest("speed", f"{speed:g} is too fast for {target.device}: {apart}")


@dataclass(slots=True)
class _Waiter:
    """Waits for instants of a clock."""

    clock: Clock
    sleep: Sleep

    async def until(self, due_ns: int, stopped: Callable[[], bool]) -> bool:
        """True when the clock has reached ``due_ns``, False if ``stopped`` is set first."""
        while not stopped():
            left_s = (due_ns - self.clock.now_ns()) / SECOND_NS
            if left_s <= 0:
                return True
            await self.sleep(min(left_s, _LONGEST_WAIT_S))
        return False


@dataclass(slots=True)
class _Source:
    """What one device sends, window by window."""

    target: SimulatedDevice
    line: Timeline
    faults: Sequence[StreamFault]
    rng: np.random.Generator
    result: SimulationResult
    waiter: _Waiter

    def window(self, start_ns: int, end_ns: int) -> Stream:
        stream = self.target.emit(start_ns, end_ns, self.line)
        self.result.measured += len(stream)
        stream, reports = apply_faults(stream, self.faults, self.rng)
        for report in reports:
            self.result.faults.update({f"{report.fault}.{word}": count for word, count in report.counts.items()})
        return stream

    async def due(self, end_ns: int | None, stopped: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Payloads when they are due, the delayed ones at the end; when ``stopped``, what is left is counted."""
        begin = self.line.start_ns
        waiting: Stream = []
        while end_ns is None or begin < end_ns:
            close = begin + int(_WINDOW_S * SECOND_NS)
            close = close if end_ns is None else min(close, end_ns)
            waiting = sorted(waiting + self.window(begin, close), key=lambda item: item[0])
            begin = close
            sent = 0
            for due_ns, payload in waiting:
                if due_ns >= close != end_ns or not await self.waiter.until(min(due_ns, close), stopped):
                    break
                yield payload
                sent += 1
            waiting = waiting[sent:]
            if not await self.waiter.until(close, stopped):
                break
        self.result.unsent += len(waiting)


async def _run(
    source: _Source,
    options: Options,
    end_ns: int | None,
    connecting: asyncio.Semaphore,
    progress: Callable[[SimulationResult], None] | None,
) -> None:
    """Run one device: connect, send due payloads, wait for the acknowledgements."""
    target, result = source.target, source.result
    publisher = Publisher(target.device, target.secret, options)

    async def send(payload: bytes) -> None:
        result.messages += 1
        acked = await publisher.publish(Outgoing(target.adapter, payload, target.kind))
        result.acked += acked
        if progress is not None:
            progress(result)

    try:
        async with connecting:
            await publisher.__aenter__()
    except VitalgateError as failure:
        result.failures[target.device] = str(failure)
        return
    try:
        async with asyncio.TaskGroup() as group:
            async for payload in source.due(end_ns, lambda: publisher.failure is not None):
                group.create_task(send(payload))
    finally:
        await publisher.__aexit__(None, None, None)
        result.connections += publisher.counts.connections
        result.refused += publisher.counts.refused
        if publisher.failure is not None:
            result.failures[target.device] = str(publisher.failure)
