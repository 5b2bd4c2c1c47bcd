"""Load: many MQTT 3.1.1 clients in one process, cheap enough to leave the machine to the server under test.

Each client writes frames that differ in packet id, values, time and ``seq`` only, and compares the acks that come
back with those that must come, in order (MQTT-4.6.0-2), a chunk at a time. With a rate the load is open loop: a
message that cannot leave in time counts from when it was due. Without one every client keeps its window full.
"""

import asyncio
import contextlib
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from simulators.load_payloads import PAYLOADS
from vitals.errors import BackendError, InvalidRequest

MAX_CONNECTIONS: Final = 50_000
MAX_SECONDS: Final = 86_400.0
MAX_WINDOW: Final = 4096
ALARM_EVERY: Final = 4
"""One of so many messages of an alarming device violates a limit: a saturation of 85 %, else 94 to 99 %."""
_IDS: Final = 65_535
_TICK_S: Final = 0.002
_DRAIN_S: Final = 30.0
_CONNECT_S: Final = 60.0
_CONNECTS_AT_ONCE: Final = 200
_BINS_PER_S: Final = 10_000
_BINS: Final = 60 * _BINS_PER_S
_ACCEPTED: Final = b"\x20\x02\x00\x00"
_DISCONNECT: Final = b"\xe0\x00"


class Credential(NamedTuple):
    """Who publishes."""

    device: str
    secret: str


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send. ``rate`` is messages per second over all connections, 0 for as many as windows of ``window``
    unacknowledged messages allow; the first ``alarming`` devices violate a limit now and then.

    Raises:
        InvalidRequest: a number is out of bounds.
    """

    host: str
    port: int
    credentials: Sequence[Credential]
    rate: float = 0.0
    seconds: float = 10.0
    qos: int = 1
    payload: str = "json2"
    window: int = 16
    alarming: int = 0

    def __post_init__(self) -> None:
        for name, fits, why in (
            ("connections", 1 <= len(self.credentials) <= MAX_CONNECTIONS, f"1 to {MAX_CONNECTIONS}"),
            ("seconds", 0 < self.seconds <= MAX_SECONDS, f"over 0, at most {MAX_SECONDS:.0f}"),
            ("rate", self.rate >= 0, "not negative"),
            ("qos", self.qos in (0, 1, 2), "0, 1 or 2"),
            ("rate", self.qos > 0 or self.rate > 0, "QoS 0 knows no window: give a rate"),
            ("payload", self.payload in PAYLOADS, ", ".join(PAYLOADS)),
            ("window", 1 <= self.window <= MAX_WINDOW, f"1 to {MAX_WINDOW}"),
        ):
            if not fits:
                raise InvalidRequest(name, why)


@dataclass(slots=True)
class LoadResult:
    """What happened. ``counts`` are acknowledged messages by latency in steps of 0.1 ms, the last one open."""

    sent: int = 0
    acked: int = 0
    lost: int = 0
    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * _BINS)
    per_device: list[tuple[str, int]] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float | None:
        """The latency that ``share`` of the acknowledged messages did not exceed; None without any."""
        left = share * self.acked
        if not self.acked:
            return None
        for number, count in enumerate(self.counts):
            left -= count
            if left <= 0:
                return (number + 1) * 1000 / _BINS_PER_S
        return _BINS * 1000 / _BINS_PER_S

    def summary(self) -> dict[str, Any]:
        """The command's answer."""
        return {
            "sent": self.sent, "acked": self.acked, "lost_connections": self.lost, "seconds": round(self.seconds, 3),
            "ack_ms": {"p50": self.quantile_ms(0.5), "p99": self.quantile_ms(0.99)},
        }  # fmt: skip

    def ledger(self, payload: str) -> Iterator[str]:
        """One line per acknowledged message: device, seq."""
        seq = PAYLOADS[payload].seq
        for device, acked in self.per_device:
            for number in range(acked):
                yield f"{device},{seq(number)}\n"


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def _length(size: int) -> bytes:
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def connect_packet(credential: Credential) -> bytes:
    """CONNECT of a clean session without keep-alive, under the device's name."""
    body = b"\x00\x04MQTT\x04\xc2\x00\x00"
    body += _text(f"{credential.device}.load") + _text(credential.device) + _text(credential.secret)
    return b"\x10" + _length(len(body)) + body


def _table(first: int) -> bytes:
    """Acks of all packet ids, twice over, so that any run of them is one slice."""
    once = b"".join(struct.pack(">BBH", first, 2, packet_id) for packet_id in range(1, _IDS + 1))
    return once * 2


class _Run:
    """What all clients share."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan, self.payload = plan, PAYLOADS[plan.payload]
        self.loop = asyncio.get_running_loop()
        self.result = LoadResult()
        self.closed_loop = plan.rate == 0
        self.sending = True
        self.last_ack_s = 0.0
        self.acks = _table(0x40 if plan.qos == 1 else 0x50) if plan.qos else b""
        self.releases, self.completions = (_table(0x62), _table(0x70)) if plan.qos == 2 else (b"", b"")

    def count(self, since_s: float, now_s: float, number: int) -> None:
        self.result.counts[min(int((now_s - since_s) * _BINS_PER_S), _BINS - 1)] += number


class _Client(asyncio.Protocol):
    """One device."""

    def __init__(self, run: _Run, credential: Credential, *, alarming: bool) -> None:
        self._run, self._credential, self._alarming = run, credential, alarming
        self.opened: asyncio.Future[None] = run.loop.create_future()
        self.sent = self.acked = self.received = 0
        self.alive = False
        self._last_ms = 0
        self._bursts: deque[list[float]] = deque()
        self._rest = b""
        self._transport: asyncio.Transport
        plan, payload = run.plan, run.payload
        topic = f"vitals/{credential.device}/{payload.adapter}" + (f"/{payload.kind}" if payload.kind else "")
        body = payload.body(0, int(time.time() * 1000), False)
        head = _text(topic)
        size = len(head) + (2 if plan.qos else 0) + len(body)
        self._head = bytes((0x30 | plan.qos << 1,)) + _length(size) + head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport and not its class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(connect_packet(self._credential))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.alive and self._run.sending:
            self._run.result.lost += 1
        self.alive = False
        if not self.opened.done():
            self.opened.set_exception(BackendError(f"connection closed before CONNACK: {exc}", retryable=True))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self.alive and not self.opened.done():
            data = self._accepted(data)
        whole = len(data) & ~3
        self._rest = data[whole:]
        if whole:
            self._acknowledged(data[:whole])

    def _accepted(self, data: bytes) -> bytes:
        if len(data) >= 4:
            if data[:4] == _ACCEPTED:
                self.alive = True
                self.opened.set_result(None)
            else:
                self.opened.set_exception(BackendError(f"refused: CONNACK {data[:4].hex(' ')}", retryable=False))
                self._transport.close()
                return b""
        return data[4:] if self.alive else data

    def _acknowledged(self, data: bytes) -> None:
        run = self._run
        if run.plan.qos == 2:
            done = self._exchange(data)
        else:
            at = self.acked % _IDS * 4
            if data != run.acks[at : at + len(data)]:
                self._unexpected(data)
                return
            done = len(data) // 4
        if done:
            self._settle(done)

    def _exchange(self, data: bytes) -> int:
        """PUBREC is answered with PUBREL; how many PUBCOMP came."""
        run, done, releases = self._run, 0, b""
        for at in range(0, len(data), 4):
            packet = data[at : at + 4]
            recorded, completed = self.received % _IDS * 4, (self.acked + done) % _IDS * 4
            if packet == run.acks[recorded : recorded + 4]:
                releases += run.releases[recorded : recorded + 4]
                self.received += 1
            elif packet == run.completions[completed : completed + 4]:
                done += 1
            else:
                self._unexpected(packet)
                break
        if releases:
            self._transport.write(releases)
        return done

    def _unexpected(self, data: bytes) -> None:
        if self.alive:
            self.alive = False
            self._run.result.lost += 1
        self._transport.abort()
        if not self.opened.done():
            self.opened.set_exception(BackendError(f"not MQTT: {data[:4].hex(' ')}", retryable=False))

    def _settle(self, done: int) -> None:
        run, now_s, bursts = self._run, self._run.loop.time(), self._bursts
        self.acked += done
        run.last_ack_s = now_s
        left = done
        while left:
            burst = bursts[0]
            taken = min(left, int(burst[1]))
            run.count(burst[0], now_s, taken)
            left -= taken
            if taken == burst[1]:
                bursts.popleft()
            else:
                burst[1] -= taken
        if run.closed_loop and run.sending:
            self.send(done, now_s)

    def room(self) -> bool:
        """Whether one more message may be under way."""
        return self.alive and (not self._run.plan.qos or self.sent - self.acked < MAX_WINDOW)

    def send(self, number: int, due_s: float) -> None:
        """Write the next ``number`` messages at once; ``due_s`` is when their latency starts."""
        run, head, frames = self._run, self._head, []
        body, qos, now_ms = run.payload.body, run.plan.qos, int(time.time() * 1000)
        for count in range(self.sent, self.sent + number):
            # No device measures twice in a millisecond.
            self._last_ms = now_ms = max(now_ms, self._last_ms + 1)
            alarm = self._alarming and count % ALARM_EVERY == ALARM_EVERY - 1
            frames.append(head)
            if qos:
                frames.append((count % _IDS + 1).to_bytes(2, "big"))
            frames.append(body(count, now_ms, alarm))
        self._transport.write(b"".join(frames))
        self.sent += number
        if qos:
            self._bursts.append([due_s, number])

    def close(self) -> None:
        """Say goodbye."""
        if self.alive:
            self.alive = False
            self._transport.write(_DISCONNECT)
            self._transport.close()


async def _open(run: _Run) -> list[_Client]:
    plan, gate = run.plan, asyncio.Semaphore(_CONNECTS_AT_ONCE)

    async def one(number: int, credential: Credential) -> _Client:
        client = _Client(run, credential, alarming=number < plan.alarming)
        async with gate:
            await run.loop.create_connection(lambda: client, plan.host, plan.port)
            await client.opened
        return client

    tasks = [asyncio.create_task(one(*item)) for item in enumerate(plan.credentials)]
    try:
        async with asyncio.timeout(_CONNECT_S + len(tasks) / 100):
            return list(await asyncio.gather(*tasks))
    except (OSError, TimeoutError) as error:
        raise BackendError(f"{plan.host}:{plan.port}: {error or 'does not answer'}", retryable=True) from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _paced(run: _Run, clients: list[_Client]) -> None:
    """Open loop: message n is due n / rate after the start, senders take turns."""
    plan, start_s, sent, turn = run.plan, run.loop.time(), 0, 0
    end_s = start_s + plan.seconds
    while (now_s := run.loop.time()) < end_s:
        due = int((now_s - start_s) * plan.rate) + 1
        skipped = 0
        while sent < due and skipped < len(clients):
            client = clients[turn % len(clients)]
            turn += 1
            if client.room():
                client.send(1, start_s + sent / plan.rate)
                sent, skipped = sent + 1, 0
            else:
                skipped += 1
        await asyncio.sleep(_TICK_S)


async def run_load(plan: LoadPlan, sending: Callable[[], None] = lambda: None) -> LoadResult:
    """Connect all, send for ``plan.seconds``, wait for what is under way; ``sending`` is called in between.

    Raises:
        BackendError: nobody answers at the address, or a connection was refused.
    """
    run = _Run(plan)
    clients = await _open(run)
    sending()
    start_s = run.loop.time()
    if run.closed_loop:
        for client in clients:
            if client.alive:
                client.send(plan.window, run.loop.time())
        await asyncio.sleep(plan.seconds)
    else:
        await _paced(run, clients)
    run.sending = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while plan.qos and any(client.alive and client.acked < client.sent for client in clients):
                await asyncio.sleep(0.01)
    result = run.result
    result.seconds = max(run.last_ack_s, start_s + plan.seconds) - start_s
    result.sent = sum(client.sent for client in clients)
    result.acked = sum(client.acked for client in clients)
    result.per_device = [
        (credential.device, client.acked) for credential, client in zip(plan.credentials, clients, strict=True)
    ]
    for client in clients:
        client.close()
    return result
