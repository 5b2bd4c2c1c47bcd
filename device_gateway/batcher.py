"""Group commit: messages received meanwhile become durable in one transaction, then their acks are released.

The loop collects one batch while a thread writes the one before; the next starts as soon as that commit ended. So a
lone message waits for nothing but its own fsync, and thousands share one. Order within a transaction: session changes,
messages (one row per adapter), presence, steps of the clock, heartbeat.
"""

import asyncio
import itertools
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from device_gateway.sessions import RECEIVED, Change, Ticket
from vitals.encoding import encode
from vitals.errors import BackendError
from vitals.log.local import LocalLog, LocalTransaction
from vitals.model import DeviceEvent, Heartbeat, Message
from vitals.ports import Clock

ROW_MESSAGES: Final = 4_096
"""Largest number of messages in one log row: a reader holds the whole row (an ordinal has room for 65,536)."""
STAGE_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Upper bounds of the histogram from receipt to durable."""
_OVERHEAD_BYTES = 256
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_log = structlog.get_logger(__name__)


class Accept(msgspec.Struct, frozen=True):
    """Append ``message``; once that is durable send ``ack`` in receipt order.

    ``settles`` is 1 when the ack ends the exchange (QoS 1). ``hold`` is a QoS 2 packet id to remember in the same
    transaction, or 0. ``ticket`` takes the ordinal; ``resend_of`` is the ticket of the message that this one repeats.
    """

    message: Message
    ack: bytes = b""
    settles: int = 0
    hold: int = 0
    ticket: Ticket | None = None
    resend_of: Ticket | None = None


class Receiver(Protocol):
    """A connection that waits for acks."""

    def release(self, acks: bytes, settled: int) -> None:
        """Everything before ``acks`` is durable; ``settled`` exchanges end with them."""


class _Rows:
    """Messages of one adapter, with the tickets that want to know their ordinals."""

    __slots__ = ("messages", "resends", "tickets")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tickets: list[Ticket | None] = []
        self.resends: list[tuple[int, Ticket]] = []


class _Acks:
    __slots__ = ("data", "settled")

    def __init__(self) -> None:
        self.data, self.settled = bytearray(), 0


class _Batch:
    """What is committed together."""

    def __init__(self) -> None:
        self.rows: dict[str, _Rows] = {}
        self.changes: list[Change] = []
        self.events: list[DeviceEvent] = []
        self.steps: list[DeviceEvent] = []
        self.heartbeat: Heartbeat | None = None
        self.acks: dict[Receiver, _Acks] = {}
        self.durable: list[Callable[[], None]] = []
        self.bytes = 0
        self.offered = False


class Batcher:
    """Collects on the loop, writes on a thread.

    Args:
        log: the raw log, with the tables of ``device_gateway.sessions.SCHEMA``.
        clock: of receipt times.
        high_bytes: bytes not yet durable at which ``on_pressure(True)`` is called; ``on_pressure(False)`` at half.
        on_pressure: see above; called on the loop.
        on_blocked: called on the loop when the log stops being writable (True) and when it is again (False).
    """

    def __init__(
        self,
        log: LocalLog,
        clock: Clock,
        *,
        high_bytes: int,
        on_pressure: Callable[[bool], None],
        on_blocked: Callable[[bool], None],
    ) -> None:
        self._log, self._clock, self._high_bytes = log, clock, high_bytes
        self._on_pressure, self._on_blocked = on_pressure, on_blocked
        self._loop = asyncio.get_running_loop()
        self._open = _Batch()
        self._writing: _Batch | None = None
        self._room_bytes = high_bytes
        self._scheduled = False
        self._closing = threading.Event()
        self._work = threading.Semaphore(0)
        self._next: _Batch | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.blocked = False
        self.pressed = False
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.latency_counts = [0] * (len(STAGE_BOUNDS_S) + 1)
        self.latency_sum_s = 0.0
        self._thread = threading.Thread(target=self._run, name="raw-log-writer", daemon=True)
        self._thread.start()

    # On the loop.

    def accept(self, action: Accept) -> None:
        """A message and the QoS 1 tickets around it; its ack is offered next, by ``acknowledge``."""
        batch, message = self._open, action.message
        rows = batch.rows.get(message.adapter)
        if rows is None:
            rows = batch.rows[message.adapter] = _Rows()
        if action.resend_of is not None:
            rows.resends.append((len(rows.messages), action.resend_of))
        rows.messages.append(message)
        rows.tickets.append(action.ticket)
        batch.bytes += len(message.payload) + _OVERHEAD_BYTES
        if not batch.offered or batch.bytes > self._room_bytes:
            self._offered()

    def acknowledge(self, receiver: Receiver, ack: bytes, settles: int) -> None:
        """Release ``ack`` once everything offered so far is durable."""
        batch = self._open
        acks = batch.acks.get(receiver)
        if acks is None:
            acks = batch.acks[receiver] = _Acks()
        acks.data += ack
        acks.settled += settles
        if not batch.offered:
            self._offered()

    def change(self, changes: Sequence[Change]) -> None:
        """Session changes, applied in the order offered."""
        self._open.changes += changes
        self._open.bytes += _OVERHEAD_BYTES * len(changes)
        self._offered()

    def event(self, event: DeviceEvent) -> None:
        """A presence event."""
        self._open.events.append(event)
        self._open.bytes += _OVERHEAD_BYTES
        self._offered()

    def step(self, event: DeviceEvent) -> None:
        """The gateway's clock was moved, or follows a move from now on; behind everything received so far."""
        self._open.steps.append(event)
        self._offered()

    def heartbeat(self) -> None:
        """The gateway is alive; everything received so far is in the same commit or an earlier one.

        A heartbeat that still waits (the log is not writable) is replaced by the newer one.
        """
        self._open.heartbeat = Heartbeat(self._clock.now_ns())
        self._offered()

    def when_durable(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on the loop once everything offered so far is durable, after its acks."""
        self._open.durable.append(callback)
        self._offered()

    @property
    def waiting_bytes(self) -> int:
        """Bytes taken in and not durable."""
        return self._open.bytes + (self._writing.bytes if self._writing is not None else 0)

    async def drained(self) -> None:
        """Return when nothing waits to be written and every ack has been handed out."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop the writer after its current commit; waiting messages are dropped without acknowledgement."""
        self._closing.set()
        self._work.release()
        await asyncio.to_thread(self._thread.join)
        if self.failed.done() and not self.failed.cancelled():
            self.failed.exception()

    def _offered(self) -> None:
        self._open.offered = True
        self._idle.clear()
        if not self.pressed and self.waiting_bytes > self._high_bytes:
            self.pressed = True
            self._on_pressure(True)
        if self._writing is None and not self._scheduled:
            # At the end of this turn of the loop, so that messages of other ready sockets join the batch.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        self._writing = self._next = self._open
        self._open = _Batch()
        self._room_bytes = self._high_bytes - self._writing.bytes
        self._work.release()

    def _committed(self, batch: _Batch) -> None:
        self._writing = None
        self._room_bytes = self._high_bytes
        if self.blocked:
            self.blocked = False
            _log.info("log_writable")
            self._on_blocked(False)
        if self._open.offered:
            self._start()
        for receiver, acks in batch.acks.items():
            receiver.release(bytes(acks.data), acks.settled)
        for callback in batch.durable:
            self._loop.call_soon(callback)
        if self.pressed and self.waiting_bytes <= self._high_bytes // 2:
            self.pressed = False
            self._on_pressure(False)
        if self._writing is None and not self._open.offered:
            self._idle.set()

    def _is_blocked(self, problem: str) -> None:
        if not self.blocked:
            self.blocked = True
            _log.warning("log_not_writable", problem=problem)
            self._on_blocked(True)

    def _has_failed(self, error: Exception) -> None:
        self._is_blocked(str(error))
        if not self.failed.done():
            self.failed.set_exception(error)

    # On the writer thread.

    def _run(self) -> None:
        while True:
            self._work.acquire()
            if self._closing.is_set():
                return
            batch = self._next
            assert batch is not None
            try:
                if not self._persist(batch):
                    return
                self._measure(batch)
            except Exception as error:  # noqa: BLE001 - the service ends with it, and its supervisor starts it again
                self._tell(self._has_failed, error)
                return
            self._tell(self._committed, batch)

    def _tell(self, callback: Callable[..., None], argument: object) -> None:
        # A loop that was torn down without close() has no client left to answer.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, argument)

    def _persist(self, batch: _Batch) -> bool:
        """Whether ``batch`` became durable, however long it took; False when the batcher was closed before."""
        waits = itertools.chain(_BACKOFF_S, itertools.repeat(_BACKOFF_S[-1]))
        while True:
            try:
                with self._log.transaction() as tx:
                    _write(tx, batch)
                return True
            except BackendError as error:
                if not error.retryable:
                    raise
                self._tell(self._is_blocked, str(error))
            if self._closing.wait(next(waits)):
                return False

    def _measure(self, batch: _Batch) -> None:
        now_ns = self._clock.now_ns()
        for rows in batch.rows.values():
            messages = rows.messages
            # Receipt times ascend: count how many were received after now - bound, bound by bound.
            seen = 0
            for index, bound_s in enumerate(STAGE_BOUNDS_S):
                since = now_ns - int(bound_s * 1e9)
                newer = len(messages) - bisect_right(messages, since - 1, key=lambda message: message.received_ns)
                self.latency_counts[index] += newer - seen
                seen = newer
            self.latency_counts[-1] += len(messages) - seen
            middle = messages[len(messages) // 2].received_ns
            self.latency_sum_s += len(messages) * max(0, now_ns - middle) / 1e9


def _write(tx: LocalTransaction, batch: _Batch) -> None:
    """All of ``batch`` into one transaction; may run again after a failure."""
    for sql, changes in itertools.groupby(batch.changes, key=lambda change: change.sql):
        tx.connection.executemany(sql, [change.arguments for change in changes])
    found = tx.connection.execute("SELECT seq FROM sqlite_sequence WHERE name='entries'").fetchone()
    position = int(found[0]) + 1 if found else 1
    received: Counter[str] = Counter()
    for adapter, rows in batch.rows.items():
        _number(rows, position)
        received.update(message.device for message in rows.messages)
        for start in range(0, len(rows.messages), ROW_MESSAGES):
            appended = tx.append(f"raw/{adapter}", encode(rows.messages[start : start + ROW_MESSAGES]))
            if appended != position:
                raise BackendError(f"log position {appended}, expected {position}", retryable=False)
            position += 1
    tx.connection.executemany(RECEIVED, received.items())
    if batch.events:
        tx.append("presence", encode(batch.events))
    if batch.steps:
        tx.append("clock", encode(batch.steps))
    if batch.heartbeat is not None:
        tx.append("heartbeat", encode(batch.heartbeat))


def _number(rows: _Rows, position: int) -> None:
    """Give tickets their ordinals, then resends the ordinals of what they repeat."""
    for start in range(0, len(rows.messages), ROW_MESSAGES):
        base = position + start // ROW_MESSAGES << 16
        for index, ticket in enumerate(rows.tickets[start : start + ROW_MESSAGES]):
            if ticket is not None:
                ticket.ordinal = base | index
    for index, original in rows.resends:
        rows.messages[index] = msgspec.structs.replace(rows.messages[index], resend_of=original.ordinal)
