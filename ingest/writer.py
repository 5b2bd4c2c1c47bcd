"""Vitals log to store, in batches of about half a second or 10,000 rows: the log already made them durable."""

import threading

import numpy as np
import structlog

from ingest.metrics import IngestMetrics
from vitals import encoding
from vitals.errors import BackendError, PositionConflict
from vitals.glossary import Flag
from vitals.model import VitalBatch
from vitals.ports import Clock, Log, Store
from vitals.records import LogRow

_log = structlog.get_logger(__name__)
CONSUMER = "store"
LINGER_S = 0.5
MAX_ROWS = 10_000
ENTRIES_PER_READ = 8
REGISTER_EVERY = 256
BACK_OFF_S = 0.5
_HISTORY = np.uint32(Flag.REVISION | Flag.LATE)


class StoreWriter:
    """Owns the store's position in the vitals log."""

    def __init__(self, log: Log, store: Store, clock: Clock, metrics: IngestMetrics, *, linger_s: float = LINGER_S):
        self._log, self._store, self._clock, self._metrics, self._linger_s = log, store, clock, metrics, linger_s
        self._position = self._durable = store.position()
        self._registered = log.position(CONSUMER)
        self._failed = False
        self.problem = ""
        """Why the writer stands still, for readiness; empty while it runs."""

    @property
    def position(self) -> int:
        """Vitals log position up to which everything is stored."""
        return self._position

    def run(self, stop: threading.Event) -> None:
        """Write until ``stop``; backs off while the store fails."""
        while not stop.is_set():
            try:
                if self.step(timeout_s=0.5):
                    stop.wait(self._linger_s)
                self.problem = ""
            except PositionConflict:
                self.problem = "store_position_conflict"
                raise
            except BackendError as error:
                self.problem = "store_not_writable"
                _log.error("store_waits", error=str(error))
                self._failed = True
                stop.wait(BACK_OFF_S)

    def step(self, timeout_s: float = 0.0) -> int:
        """Store waiting rows, up to about ``MAX_ROWS``; returns the number of log entries it passed."""
        if self._failed:
            # Whether the write that failed took effect, only the store knows.
            self._position = self._durable = self._store.position()
            self._failed = False
        if self._log.wait(self._position, timeout_s) <= self._position:
            return 0
        batches: list[VitalBatch] = []
        count, position = 0, self._position
        while sum(map(len, batches)) < MAX_ROWS:
            rows = self._log.read(position, limit=ENTRIES_PER_READ)
            if not rows:
                break
            batches += self._batches(rows)
            count, position = count + len(rows), rows[-1].position
        if batches:
            self._store.write(batches, expected=self._durable, position=position)
            self._durable = position
            self._observe(batches)
        self._position = position
        self._register()
        return count

    def _batches(self, rows: list[LogRow]) -> list[VitalBatch]:
        entries = (encoding.decode(row.body) for row in rows)
        return [entry for entry in entries if isinstance(entry, VitalBatch)]

    def _observe(self, batches: list[VitalBatch]) -> None:
        now_ns = self._clock.now_ns()
        for batch in batches:
            # What moved or waited was received long before.
            fresh = (batch.flags & _HISTORY) == 0
            if fresh.any():
                self._metrics.stage.labels("stored").observe((now_ns - int(batch.received_ns[fresh].min())) / 1e9)

    def _register(self) -> None:
        """Register the position up to which the log may be trimmed, from time to time: a lagging one is safe."""
        if self._durable - self._registered >= REGISTER_EVERY:
            self._log.commit(CONSUMER, self._registered, self._durable)
            self._registered = self._durable
