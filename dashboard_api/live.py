"""The live stream and the newest readings: one thread follows the log, all clients read what it decoded.

The thread stays behind the alert engine (the book's position), so nothing is shown before it is evaluated.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np
import structlog
from starlette.concurrency import run_in_threadpool

from dashboard_api.groups import Group, Patients, read_groups, rows_of
from dashboard_api.newest import Held, Identity, Newest, current, identity_of
from dashboard_api.shapes import readings_json
from vitals.catalog import BY_CODE
from vitals.currency import trust_of
from vitals.glossary import AlertState, Flag
from vitals.model import VitalBatch
from vitals.ports import AlertReader, Log, Store

RING_EVENTS: Final = 20_000
QUEUE_GROUPS: Final = 512
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 2_000
_WAIT_S: Final = 0.2
_BACKOFF_S: Final = 1.0
_VIEW_PATIENTS: Final = 10_000
_OPEN: Final = frozenset(AlertState) - {AlertState.NORMAL, AlertState.RESOLVED}
_MOST_ALERTS: Final = 1000
_NEVER_LATEST: Final = int(Flag.IMPLAUSIBLE | Flag.RETRACTED | Flag.CONTROL_SOLUTION | Flag.TEST_DATA)

_RETRACTED: Final = np.uint32(Flag.RETRACTED)

_log = structlog.get_logger(__name__)


class Subscriber:
    """One client of the stream; used from the event loop of its request but for ``send``."""

    def __init__(self, patients: Patients, limit: int) -> None:
        self.patients = patients
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(limit)
        self.ended = asyncio.Event()
        self.slow = False
        self._loop = asyncio.get_running_loop()

    def send(self, data: bytes) -> bool:
        """Hand ``data`` over from another thread; False when the client is gone or was too slow."""
        return not self.ended.is_set() and self._call(self._offer, data)

    def end(self) -> None:
        """Let the client send what is queued and end; from any thread."""
        self._call(self.ended.set)

    def _call(self, function: Callable[..., None], *arguments: bytes) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop was closed: its server is gone
            return False
        return True

    def _offer(self, data: bytes) -> None:
        try:
            if not self.ended.is_set():
                self.queue.put_nowait(data)
        except asyncio.QueueFull:
            # What is queued is complete up to some position: the client resumes from there.
            self.slow = True
            self.ended.set()

    async def next(self, timeout_s: float) -> bytes | None:
        """The next data; None after ``timeout_s`` of silence, and when the stream has ended and all was taken."""
        if not self.queue.empty():
            return self.queue.get_nowait()
        taking = asyncio.ensure_future(self.queue.get())
        ending = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({taking, ending}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return taking.result() if taking.done() else None
        finally:
            taking.cancel()
            ending.cancel()


class LiveView:
    """The newest reading per (patient, vital), in memory for the patients that somebody asked about.

    A patient is seeded from the store on first use and kept up to date by the stream's thread; readings that never
    count as newest are those that ``Store.latest`` leaves out. Thread-safe.
    """

    def __init__(self, store: Store, log: Log, book: AlertReader, *, capacity: int = _VIEW_PATIENTS) -> None:
        self._store, self._log, self._book, self._capacity = store, log, book, capacity
        self._lock = threading.Lock()
        self._seeding = threading.Lock()
        self._known: OrderedDict[str, Held] = OrderedDict()
        self._pending: tuple[Patients, list[VitalBatch]] | None = None

    def apply(self, batch: VitalBatch) -> None:
        """Take in a batch of the log."""
        with self._lock:
            if self._pending is not None and not self._pending[0].isdisjoint(batch.patients):
                self._pending[1].append(batch)
            if (batch.flags & _RETRACTED).any():
                # What is the newest now, only the store knows.
                for token in _losers(batch):
                    self._known.pop(token, None)
            watched = self._known.keys() & set(batch.patients)
            if watched:
                self._merge(batch, frozenset(watched))

    def latest(self, patient: str, now_ns: int) -> list[Newest]:
        """The reading of each vital of ``patient`` that is current at ``now_ns`` (UTC), by catalogue code."""
        return self.latest_many([patient], now_ns)[patient]

    def latest_many(self, patients: Sequence[str], now_ns: int) -> dict[str, list[Newest]]:
        """``latest`` of each of the patients; those that are not in memory cost one query of the store together."""
        found = self._touch(patients)
        if len(found) < len(patients):
            with self._seeding:
                found |= self._touch(patients)
                missing = [patient for patient in patients if patient not in found]
                found |= self._seed(missing) if missing else {}
        told = self._told(patients)
        return {
            patient: [
                self._alerted(patient, one, told) for one in current(held, now_ns, partial(self._alerting, patient))
            ]
            for patient, held in found.items()
        }

    def _told(self, patients: Sequence[str]) -> dict[tuple[str, str, int], float]:
        """The values of open alerts, by patient, vital (key) and time."""
        one = patients[0] if len(patients) == 1 else None
        found = self._book.alerts(states=_OPEN, patient=one, limit=_MOST_ALERTS)
        values = ((alert.patient, value) for alert in reversed(found) for value in alert.values)
        return {(patient, told["vital"], told["time_ns"]): told["value"] for patient, told in values}

    def _alerted(self, patient: str, one: Newest, told: Mapping[tuple[str, str, int], float]) -> Newest:
        """Of several readings of one time, the one that an open alert is about."""
        value = told.get((patient, BY_CODE[one.vital].key, one.time_ns))
        if value is None or value == one.reading["value"]:
            return one
        window = self._store.window(patient, one.vital, one.time_ns, one.time_ns + 1)
        for device in {of for of, seen in zip(window.device, window.value.tolist(), strict=True) if seen == value}:
            batch = self._store.held(device, one.time_ns, one.time_ns + 1)
            alike = (batch.vital == one.vital) & (batch.time_ns == one.time_ns) & (batch.value == value)
            batch = batch.take(alike & rows_of(batch, frozenset([patient])))
            if len(batch):
                return Newest.of(batch, 0, next(readings_json(batch)))
        return one

    def _alerting(self, patient: str) -> dict[str, int]:
        """Vital (key) -> time of the newest value of the patient's open alerts."""
        found = self._book.alerts(states=_OPEN, patient=patient, limit=_MOST_ALERTS)
        values = sorted((value["time_ns"], value["vital"]) for alert in found for value in alert.values)
        return {vital: time_ns for time_ns, vital in values}

    def _touch(self, patients: Sequence[str]) -> dict[str, Held]:
        with self._lock:
            known = [patient for patient in patients if patient in self._known]
            for patient in known:
                self._known.move_to_end(patient)
            return {patient: dict(self._known[patient]) for patient in known}

    def _seed(self, patients: Sequence[str]) -> dict[str, Held]:
        # The store is behind the log, and the stream's thread moves on meanwhile: what it passes from here on is put
        # aside, what stands between store and book is read from the log. Taking a batch twice changes nothing.
        aside: list[VitalBatch] = []
        with self._lock:
            self._pending = (frozenset(patients), aside)
        try:
            stored = self._store.position()
            batches = [self._store.latest_many(patients) if len(patients) > 1 else self._store.latest(patients[0])]
            upto = self._book.position()
            while stored < upto:
                groups, stored = read_groups(self._log, self._book, stored, upto)
                batches += [group.entry for group in groups if isinstance(group.entry, VitalBatch)]
            with self._lock:
                self._known |= {patient: {} for patient in patients}
                for batch in (*batches, *aside):
                    self._merge(batch, frozenset(patients))
                seeded = {patient: dict(self._known[patient]) for patient in patients}
                while len(self._known) > self._capacity:
                    self._known.popitem(last=False)
                # A reading that the store still has is taken back in the log: nothing is better than that one, and the
                # next to ask may find the one before it.
                asked = frozenset(patients)
                gone = {identity for batch in (*batches[1:], *aside) for identity in _retracted(batch, asked)}
                for patient, held in seeded.items():
                    left = {key: one for key, one in held.items() if one.identity not in gone}
                    if len(left) < len(held):
                        seeded[patient] = left
                        self._known.pop(patient, None)
                return seeded
        finally:
            with self._lock:
                self._pending = None

    def _merge(self, batch: VitalBatch, patients: Patients) -> None:
        chosen = batch.take(rows_of(batch, patients) & (batch.flags & _NEVER_LATEST == 0) & (trust_of(batch) >= 0))
        if not len(chosen):
            return
        # The newest row of each (patient, vital, trust); of equal times and numbers the later row, which is a revision.
        trust = trust_of(chosen)
        order = np.lexsort((chosen.seq, chosen.time_ns, trust, chosen.vital, chosen.patient))
        keys = np.stack([chosen.patient[order], chosen.vital[order], trust[order]])
        last = np.append((keys[:, 1:] != keys[:, :-1]).any(axis=0), True)
        newest = chosen.take(order[last])
        for row, reading in enumerate(readings_json(newest)):
            held = self._known[reading["patient"]]
            one = Newest.of(newest, row, reading)
            known = held.get((one.vital, one.trust))
            if known is None or (one.time_ns, one.seq) >= (known.time_ns, known.seq):
                held[one.vital, one.trust] = one


def _losers(batch: VitalBatch) -> set[str]:
    """Patients who lose a reading."""
    gone = np.unique(batch.patient[(batch.flags & _RETRACTED) != 0])
    return {batch.patients[number] for number in gone.tolist() if number >= 0}


def _retracted(batch: VitalBatch, patients: Patients) -> Iterator[Identity]:
    """Identities of the readings that ``patients`` lose."""
    if not (batch.flags & _RETRACTED).any():
        return
    for row in np.flatnonzero(((batch.flags & _RETRACTED) != 0) & rows_of(batch, patients)).tolist():
        yield identity_of(batch, row)


class StreamHub:
    """Follows log and book, keeps the last events, and hands them to the subscribers.

    ``start`` is called by the application, and by the first client; ``close`` ends thread and clients.
    """

    def __init__(
        self, log: Log, book: AlertReader, view: LiveView, *, ring_events: int = RING_EVENTS,
        queue_groups: int = QUEUE_GROUPS, heartbeat_s: float = HEARTBEAT_S,
    ) -> None:  # fmt: skip
        self._log, self._book, self._view = log, book, view
        self._ring_events, self._queue_groups, self._heartbeat_s = ring_events, queue_groups, heartbeat_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._ring: deque[Group] = deque()
        self._held = 0
        self._floor = self._position = 0
        self._subscribers: set[Subscriber] = set()

    def start(self) -> None:
        """Begin to follow at the book's position; a second call does nothing."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._floor = self._position = self._book.position()
                self._thread = threading.Thread(target=self._follow, name="live", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End every stream and the thread; call it before the server waits for its connections."""
        self._closing.set()
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.end()
        if self._thread is not None:
            self._thread.join()

    def clients(self) -> int:
        """How many streams are open."""
        return len(self._subscribers)

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                if self._book.wait(self._position + 1, _WAIT_S):
                    self._advance()
            except Exception as error:  # noqa: BLE001 - the loop of a service
                # No traceback: its lines and locals could hold values of patients.
                _log.error("live.failed", error=type(error).__name__)
                self._closing.wait(_BACKOFF_S)

    def _advance(self) -> None:
        groups, reached = read_groups(self._log, self._book, self._position, self._book.position())
        for group in groups:
            if isinstance(group.entry, VitalBatch):
                self._view.apply(group.entry)
        with self._lock:
            wanted = {subscriber.patients for subscriber in self._subscribers}
        # Encoded outside of the lock: clients come and go meanwhile.
        encoded = {patients: [group.encode(patients) for group in groups] for patients in wanted}
        with self._lock:
            self._publish(groups, encoded)
            self._position = reached

    def _publish(self, groups: list[Group], encoded: dict[Patients, list[bytes]]) -> None:
        for subscriber in list(self._subscribers):
            patients = subscriber.patients
            if patients not in encoded:
                encoded[patients] = [group.encode(patients) for group in groups]
            if not all(subscriber.send(data) for data in encoded[patients] if data):
                self._subscribers.discard(subscriber)
        for group in groups:
            self._ring.append(group)
            self._held += group.weight()
        while self._held > self._ring_events:
            oldest = self._ring.popleft()
            self._held -= oldest.weight()
            self._floor = oldest.position

    def _attach(self, subscriber: Subscriber, after: int) -> list[Group] | None:
        """Subscribe, and the groups since ``after``; None when they are not in memory any more."""
        with self._lock:
            if after < self._floor:
                return None
            self._subscribers.add(subscriber)
            return [group for group in self._ring if group.position > after]

    def _detach(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers.discard(subscriber)

    async def stream(
        self, after: int | None, patients: Patients, allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Server-sent events after a log position (None: from now on) until the client, the hub or its right ends.

        ``allowed`` is asked at every heartbeat whether the client may still listen.
        """
        self.start()
        subscriber = Subscriber(patients, self._queue_groups)
        yield b"retry: %d\n: connected\n\n" % RETRY_MS
        try:
            async for data in self._backlog(subscriber, after):
                yield data
            async for data in self._news(subscriber, allowed):
                yield data
        finally:
            self._detach(subscriber)

    async def _backlog(self, subscriber: Subscriber, after: int | None) -> AsyncIterator[bytes]:
        # A position from the future is that of another data directory: it would silence the client until then.
        reached = self._position if after is None else min(after, self._position)
        groups = self._attach(subscriber, reached)
        while groups is None:
            older, reached = await run_in_threadpool(read_groups, self._log, self._book, reached, self._position)
            for group in older:
                yield await run_in_threadpool(group.encode, subscriber.patients)
            groups = self._attach(subscriber, reached)
        for group in groups:
            yield await run_in_threadpool(group.encode, subscriber.patients)

    async def _news(self, subscriber: Subscriber, allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while not self._closing.is_set():
            data = await subscriber.next(self._heartbeat_s)
            if data is not None:
                yield data
            elif subscriber.ended.is_set():
                break
            else:
                yield b": heartbeat\n\n"
            if loop.time() - asked >= self._heartbeat_s:
                asked = loop.time()
                if not await allowed():
                    return
        if subscriber.slow:
            yield b": too slow, resume with Last-Event-ID\n\n"
