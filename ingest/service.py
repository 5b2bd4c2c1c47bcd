"""Raw log to vitals log: the loop around the pipeline, and what people ask of ingest.

One cycle reads raw entries after the position, runs each adapter's messages through the pipeline, and commits
everything with the new position in one transaction. A heartbeat becomes a tick behind all that was received before it.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import structlog
from msgspec import structs

from ingest import corrections, pipeline
from ingest.adapter import Adapter, Context
from ingest.corrections import Archive
from ingest.journal import unknown_codes, worklist
from ingest.journal.ahead_clocks import ahead_clocks, keep_ahead_clocks
from ingest.journal.cursors import LARGEST_ID, place
from ingest.journal.identities import Cycle, Journal
from ingest.journal.lives import LifeJournal
from ingest.journal.tally import Tally, ledger_of
from ingest.marks import followed_ns, marks_of
from ingest.metrics import IngestMetrics
from ingest.pipeline import Outcome
from ingest.placing.ahead import AheadClock
from ingest.placing.wear import WearTable
from ingest.recording import SYSTEM, record
from vitals import encoding
from vitals.canary import is_canary
from vitals.device_state import AheadState, DeviceState, Processed, ToldEvent
from vitals.errors import BackendError, InvalidRequest, PositionConflict, VitalgateError
from vitals.glossary import Flag
from vitals.model import DeviceEvent, Entry, Message, Provenance, Tick, VitalBatch
from vitals.ports import Clock, Log, PatientCheck, Registry
from vitals.records import (
    Assignment,
    Device,
    Ledger,
    LogRow,
    MessageLedger,
    QuarantineItem,
    ReadingLedger,
    UnassignedItem,
    UnknownCode,
)

Result = TypeVar("Result")
_log = structlog.get_logger(__name__)
ROWS_PER_CYCLE = 64
ROWS_PER_READ = 2
BYTES_PER_CYCLE = 2 * 1024 * 1024
"""A cycle holds up other writers of the vitals log, and its readings are in memory: after a standstill, many cycles."""
IDLE_S = BACK_OFF_S = 0.5
MAX_REPLAY = 10_000
UNKNOWN_LABEL = "unknown"


class IngestService:
    """Owns the ingest position. ``received`` and ``store`` give the other sides of the ledgers, per device; ``given``
    holds model settings of devices that do not stand in the registry; ``patients`` knows whom messages name."""

    def __init__(
        self,
        raw: Log,
        journal: Journal,
        registry: Registry,
        adapters: Mapping[str, Adapter],
        clock: Clock,
        metrics: IngestMetrics,
        received: Callable[[], Mapping[str, int]],
        store: Archive,
        given: Mapping[str, Mapping[str, str]] | None = None,
        patients: PatientCheck | None = None,
    ) -> None:
        self._raw, self._journal, self._registry = raw, journal, registry
        self._adapters, self._clock, self._metrics = dict(adapters), clock, metrics
        self._received, self._store, self._given, self._patients = received, store, given or {}, patients
        self._position, self._large_rows = journal.position(), False
        self._lives = LifeJournal(journal)
        self._lock = threading.Lock()
        self._registry_version = self._settled_version = -1
        self._worn = WearTable([], [])
        self._contexts: dict[str, Context] = {}
        self.problem = ""
        """Why ingest stands still, for readiness; empty while it runs."""

    @property
    def position(self) -> int:
        """Raw log position up to which everything is in the vitals log."""
        return self._position

    def run(self, stop: threading.Event) -> None:
        """Process until ``stop``; backs off while a backend fails."""
        while not stop.is_set():
            try:
                self.step(IDLE_S)
                self.problem = ""
            except PositionConflict:
                self.problem = "ingest_position_conflict"
                raise
            except VitalgateError as error:
                passes = isinstance(error, BackendError) and error.retryable
                self.problem = "ingest_log_not_writable" if passes else "ingest_log_unreadable"
                _log.error("ingest_waits", error=str(error))
                stop.wait(BACK_OFF_S)

    def step(self, timeout_s: float = 0.0) -> int:
        """One cycle; waits up to ``timeout_s`` for something to do. Returns how many raw entries it passed."""
        if self._raw.wait(self._position, timeout_s) <= self._position:
            return 0
        rows = _bounded(self._next_rows())
        with self._lock:
            self._settle(SYSTEM)
            done = self._commit(lambda cycle: self._pass(rows, cycle))
            self._position = rows[-1].position
        self._count(done)
        return len(rows)

    def _next_rows(self) -> list[LogRow]:
        rows: list[LogRow] = []
        position, size = self._position, 0
        limit = 1 if self._large_rows else ROWS_PER_READ
        while len(rows) < ROWS_PER_CYCLE and size < BYTES_PER_CYCLE:
            more = self._raw.read(position, limit=limit)
            rows += more
            if len(more) < limit:
                break
            position, size = more[-1].position, size + sum(len(row.body) for row in more)
        # Rows beyond a cycle are read for nothing; a history's are megabytes each.
        self._large_rows = size * ROWS_PER_READ > BYTES_PER_CYCLE * len(rows)
        return rows

    def _commit(self, work: Callable[[Cycle], Result]) -> Result:
        self._refresh()
        try:
            with self._journal.log.transaction() as tx:
                return work(self._journal.begin(tx))
        except BaseException:
            self._journal.forget()
            self._lives.forget()
            self._registry_version = -1
            raise

    def _count(self, done: Sequence[tuple[str, Outcome]]) -> None:
        now_ns = self._clock.now_ns()
        for adapter, out in done:
            self._metrics.outcome(adapter if adapter in self._adapters else UNKNOWN_LABEL, out)
            for batch in out.batches:
                self._metrics.stage.labels("ingested").observe((now_ns - int(batch.received_ns.min())) / 1e9)

    def settle(self, author: str) -> None:
        """Let readings follow what the registry says by now of who wore their device."""
        with self._lock:
            self._settle(author)

    def _settle(self, author: str) -> None:
        version = self._registry.version()
        if version == self._settled_version:
            return
        assignments: dict[str, list[Assignment]] = {}
        for one in self._registry.assignments():
            assignments.setdefault(one.device, []).append(one)
        given, now_ns = self._journal.wearers(), self._clock.now_ns()
        changed = []
        for device in self._registry.devices():
            worn = assignments.get(device.id, [])
            now = corrections.write_worn(corrections.worn_by(worn))
            if now != given.get(device.id):
                changed.append((device, worn, given.get(device.id), now))
        if changed:
            self._commit_settled(changed, author, now_ns)
        self._settled_version = version

    def _commit_settled(
        self, changed: Sequence[tuple[Device, list[Assignment], bytes | None, bytes]], author: str, now_ns: int
    ) -> None:
        clocks = self._journal.clocks()

        def follow(cycle: Cycle) -> None:
            for device, worn, before, now in changed:
                cycle.give_out(device.id, before, now)
                known = None if before is None else corrections.read_worn(before)
                corrections.reassign(self._store, cycle, device, worn, known, author, now_ns, self._patients)
                if (clock := clocks.get(device.id)) is not None and clock.epochs:
                    corrections.recover(self._store, cycle, device, worn, clock, now_ns, self._patients)

        self._commit(follow)

    def _refresh(self) -> None:
        """Rebuild what is cached of the registry when it changed."""
        version = self._registry.version()
        if version == self._registry_version:
            return
        # Devices never go away: every assignment read before them is of one of them, whoever enrols meanwhile.
        assignments = self._registry.assignments()
        devices = self._registry.devices()
        self._worn = WearTable(devices, assignments)
        self._worn.trust(self._journal.heads())
        known = self._journal.clocks()
        self._worn.clocks = {
            self._worn.rows[token]: clock for token, clock in known.items() if token in self._worn.rows
        }
        self._worn.ahead = ahead_clocks(self._journal.log.query)
        self._contexts = {
            device.id: Context(device.zone, {**device.settings, **self._given.get(device.id, {})}) for device in devices
        }
        self._registry_version = version

    def _pass(self, rows: Sequence[LogRow], cycle: Cycle) -> list[tuple[str, Outcome]]:
        done: list[tuple[str, Outcome]] = []
        pending: dict[str, list[Message]] = {}
        seen: dict[str, int] = {}
        first = rows[0].position
        for row in rows:
            entry = encoding.decode(row.body)
            marks = marks_of(entry)
            if marks:
                done += self._flush(pending, cycle, Provenance(first, row.position))
                first = row.position + 1
            for mark in marks:
                cycle.append(mark)
                if isinstance(mark, Tick):
                    self._lives.passed(cycle, mark.watermark_ns)
                elif step_ns := followed_ns(mark):
                    self._lives.stepped(cycle, step_ns)
            if not marks:
                self._sort(entry, row.position, pending, seen, cycle)
        done += self._flush(pending, cycle, Provenance(first, rows[-1].position))
        self._lives.write(cycle, seen)
        cycle.advance(self._position, rows[-1].position)
        return done

    def _sort(
        self, entry: Entry, position: int, pending: dict[str, list[Message]], seen: dict[str, int], cycle: Cycle
    ) -> None:
        """Messages to their adapters, presence events straight on."""
        if not isinstance(entry, list) or not entry:
            return
        if isinstance(entry[0], Message):
            for index, message in enumerate(entry):
                assert isinstance(message, Message)
                numbered = structs.replace(message, ordinal=(position << 16) | index)
                pending.setdefault(message.adapter, []).append(numbered)
                if message.received_ns > seen.get(message.device, 0):
                    seen[message.device] = message.received_ns
        else:
            cycle.append(entry)
            self._lives.presence(cycle, [event for event in entry if isinstance(event, DeviceEvent)])

    def _flush(
        self, pending: dict[str, list[Message]], cycle: Cycle, provenance: Provenance, extra: Flag = Flag(0)
    ) -> list[tuple[str, Outcome]]:
        done = []
        for name, messages in pending.items():
            version = 0 if (adapter := self._adapters.get(name)) is None else adapter.version
            source = Provenance(provenance.first, provenance.last, name, version)
            out = pipeline.run(
                adapter, messages, self._lives.doubted(cycle, self._contexts), self._worn, cycle, provenance=source,
                extra=extra, patients=self._patients,
            )  # fmt: skip
            self._worn.learn({device: lesson.clock for device, lesson in out.clocks.items()})
            self._worn.trust(out.heads)
            self._keep_ahead(out.ahead, cycle)
            record(out, cycle, name, live=not extra)
            for device, lesson in out.clocks.items():
                cycle.learn(device, lesson.odd, lesson.epochs, self._clock.now_ns())
                if lesson.others:
                    self._recover(device, cycle)
            for batch in out.withdrawn:
                corrections.withdraw(self._store, cycle, batch)
            done.append((name, out))
        pending.clear()
        self._lives.flushed(cycle, [(out.known, out.events) for _, out in done], self._contexts, live=not extra)
        return done

    def _keep_ahead(self, clocks: Mapping[str, AheadClock], cycle: Cycle) -> None:
        keep_ahead_clocks(cycle.sql, clocks)
        known = {device: clock for device, clock in clocks.items() if clock != AheadClock()}
        self._worn.ahead = {device: one for device, one in self._worn.ahead.items() if device not in clocks} | known

    def _recover(self, device: str, cycle: Cycle) -> None:
        """A shift of the device's clock is known now: what came before gets its time."""
        known, worn = self._registry.device(device), self._registry.assignments(device=device)
        clock, now_ns = self._worn.clock_of(device), self._clock.now_ns()
        corrections.recover(self._store, cycle, known, worn, clock, now_ns, self._patients)

    # What people ask (vitals.ports.IngestView)

    def quarantine(self, *, after: str = "", limit: int = 100) -> list[QuarantineItem]:
        return self._journal.quarantine(place(after), limit)

    def quarantine_item(self, ident: str) -> QuarantineItem:
        return self._journal.quarantine_item(ident)[0]

    def replay(
        self, *, ident: str | None = None, reason: str | None = None, adapter: str | None = None
    ) -> dict[str, int]:
        """Decode open items again; those that fail again stay in quarantine as new items with today's reason."""
        counts = {"decoded": 0, "duplicate": 0, "quarantined": 0}
        if ident is not None:
            chosen = [self._journal.quarantine_item(ident)[0].id]
        else:
            where = {key: value for key, value in (("reason", reason), ("adapter", adapter)) if value is not None}
            chosen = [item.id for item in self._journal.quarantine(0, MAX_REPLAY, where=where)]
        for item in chosen:
            with self._lock:
                done = self._commit(lambda cycle, item=item: self._again(item, cycle))  # type: ignore[misc]
            self._count(done)
            for _, out in done:
                for name in counts:
                    counts[name] += out.tally.total(name)
        return counts

    def _again(self, ident: str, cycle: Cycle) -> list[tuple[str, Outcome]]:
        item, ordinal, is_open = self._journal.quarantine_item(ident)
        if not is_open or not cycle.close_item(ident):
            return []
        message = Message(item.device, item.adapter, item.kind, item.received_ns, item.payload, ordinal=ordinal)
        done = self._flush({item.adapter: [message]}, cycle, Provenance(ordinal >> 16, ordinal >> 16), Flag.REPLAYED)
        released = Tally()
        released.add(item.device, "quarantined", -1)
        cycle.count(released)
        self._lives.write(cycle, {})
        return done

    def unknown_codes(self, *, device: str | None = None, after: str = "", limit: int = 100) -> list[UnknownCode]:
        return unknown_codes.listed(self._journal.log.query, device, place(after), limit)

    def unassigned(self, *, after: str = "", limit: int = 100) -> list[UnassignedItem]:
        return worklist.listed(self._journal.log.query, place(after), limit)

    def unassigned_item(self, ident: str) -> tuple[UnassignedItem, VitalBatch]:
        return worklist.shown(self._journal.log.query, ident)

    def assign_unassigned(self, ident: str, patient: str, *, author: str, shift_s: float | None = None) -> int:
        owner = self._registry.patient(patient)
        shift_ns = None if shift_s is None else round(shift_s * 1e9)

        def give(cycle: Cycle) -> int:
            item = worklist.held(cycle.sql, ident)
            device = self._registry.device(item.item.device)
            return corrections.assign(cycle, item, device, owner, shift_ns, author, self._clock.now_ns())

        with self._lock:
            return self._commit(give)

    def discard_unassigned(self, ident: str, reason: str, *, author: str) -> int:
        def drop(cycle: Cycle) -> int:
            return corrections.discard(cycle, worklist.held(cycle.sql, ident), reason, author, self._clock.now_ns())

        with self._lock:
            return self._commit(drop)

    def ledger(self, device: str) -> Ledger:
        found = (ledger for ledger in self._ledgers() if ledger.device == device)
        return next(found, Ledger(device, MessageLedger(), ReadingLedger()))

    def ledgers(self) -> list[Ledger]:
        return [ledger for ledger in self._ledgers() if not is_canary(ledger.device)]

    def _ledgers(self) -> list[Ledger]:
        # Downstream first: what moves on meanwhile is then in flight, never negative.
        stored = self._store.stored()
        counts = self._journal.counts()
        received = self._received()
        return [
            ledger_of(device, counts.get(device, {}), received[device], stored.get(device, 0)) for device in received
        ]

    def device_state(self, device: str) -> DeviceState:
        return self._lives.state(device)

    def device_clock(self, device: str) -> AheadState:
        return ahead_clocks(self._journal.log.query, device).get(device, AheadClock()).state()

    def undo_clock(self, device: str, reason: str, *, author: str) -> AheadState:
        def undo(cycle: Cycle) -> AheadState:
            clock = structs.replace(self._worn.ahead.get(device, AheadClock()))
            if clock.ahead_ns is None:
                raise InvalidRequest("device", "nothing was learned of its clock")
            clock.undo(author, self._clock.now_ns(), reason)
            self._keep_ahead({device: clock}, cycle)
            return clock.state()

        with self._lock:
            return self._commit(undo)

    def device_events(self, device: str, *, after: str = "", limit: int = 100) -> list[ToldEvent]:
        return self._lives.events(device, place(after) if after else LARGEST_ID, limit)

    def processed(self) -> Processed:
        return self._lives.processed()


def _bounded(rows: list[LogRow]) -> list[LogRow]:
    """The first rows that fit in a cycle, at least one."""
    return rows[: max(1, bisect_right(list(accumulate(len(row.body) for row in rows)), BYTES_PER_CYCLE))]
