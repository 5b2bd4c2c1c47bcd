"""The alert service: runs the log through the engine into the book, and appends people's decisions to the log.

Recovery (docs/internals/recovery.md): the newest snapshot at position S, the log from S to the book's position B
folded without recording anything (the book has it already), then live. Every step after a crash is one of these two.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from alerts.book.records import DECISIONS
from alerts.book.sql import CONSUMER
from alerts.engine import Engine
from alerts.programmes.controls import check_control, read_limits
from alerts.programmes.decisions import DECIDED, change_status, check_decision, next_version, prove_decision
from vitals.encoding import decode, encode
from vitals.errors import BackendError, InvalidRequest
from vitals.glossary import TELLING, ControlKind
from vitals.model import Control, Tick, VitalBatch
from vitals.ports import AlertDecisions, AlertReader, AlertRecorder, Clock, Log, Registry
from vitals.records import AlertEvent, BookedEvent, LogRow, Patient

STREAM = "vitals"
_READ_ROWS = 32
_IDLE_S = 0.25
_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 5.0
_APPLIED_WITHIN_S = 5.0


class Observation(NamedTuple):
    """A recorded event, for metrics. ``latency_s`` is receipt to record, None for what no reading caused at once."""

    event: AlertEvent
    latency_s: float | None


Observer = Callable[[Observation], None]


class _Output(NamedTuple):
    events: list[BookedEvent]
    controls: list[tuple[int, Control]]
    prompt: set[str]
    """Events that a reading caused as it came in; their ``at_ns`` is its receipt."""
    evaluated_to_ns: int | None
    derived: list[tuple[int, bytes]]
    """Readings that an entry made, encoded: (its position, body)."""


class AlertService:
    """Folds the log into the book. One owner per book; a second one stops with ``PositionConflict``.

    ``engine`` is the empty engine to start from; ``observe`` is called for each event after it is durable.
    """

    def __init__(
        self, log: Log, book: AlertRecorder, engine: Engine, clock: Clock, *, observe: Observer | None = None,
        snapshot_every_s: float = 30.0, snapshot_every_rows: int = 20_000, read_rows: int = _READ_ROWS,
    ) -> None:  # fmt: skip
        self._log, self._book, self._engine, self._clock = log, book, engine, clock
        self._observe = observe
        self._snapshot_every_s, self._snapshot_every_rows, self._read_rows = (
            snapshot_every_s, snapshot_every_rows, read_rows,
        )  # fmt: skip
        self._saved_at_s = 0.0
        self._entries_since = 0

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; leaves a snapshot.

        Raises:
            BackendError: not retryable: another owner (``PositionConflict``), an unreadable entry or snapshot.
        """
        backoff_s, position = _FIRST_BACKOFF_S, None
        self._engine.warm()
        while not stop.is_set():
            try:
                position = self._recover(stop) if position is None else self._step(position)
                backoff_s = _FIRST_BACKOFF_S
            except BackendError as error:
                if not error.retryable:
                    raise
                position = None
                stop.wait(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
        if position is not None and self._entries_since:
            # Only saves the next start some time: a full disk must not turn a stop into a failure.
            with suppress(BackendError):
                self._snapshot()

    def _recover(self, stop: threading.Event) -> int | None:
        """The engine as of the book's position, which is returned; None when stopped on the way.

        What the engine says on the way is recorded already.
        """
        saved = self._book.latest_snapshot()
        self._engine = Engine() if saved is None else Engine.restore(saved[1])
        kept_from = self._log.position(CONSUMER)
        if self._engine.position < kept_from:
            # The log may have been trimmed up to there: folding the rest would lose limits and open alerts in silence.
            raise _out_of_step(f"newest snapshot at {self._engine.position}, log kept from {kept_from}")
        # Registers the consumer too: the log is never trimmed past what a restart needs.
        self._log.commit(CONSUMER, kept_from, self._engine.position)
        recorded = self._book.position()
        while self._engine.position < recorded:
            if stop.is_set():
                return None
            rows = [row for row in self._read(self._engine.position) if row.position <= recorded]
            if not rows:
                break
            for row in rows:
                self._engine.apply(row.position, decode(row.body))
        if self._engine.position != recorded:
            raise _out_of_step(f"the book stands at {recorded}, the log leads to {self._engine.position}")
        self._saved_at_s, self._entries_since = time.monotonic(), 0
        return recorded

    def _read(self, after: int) -> list[LogRow]:
        return self._log.read(after, streams=(STREAM,), limit=self._read_rows)

    def _step(self, position: int) -> int:
        """Fold and record what stands in the log after ``position``; waits a moment when there is nothing."""
        end = self._log.end()
        rows = self._read(position)
        if not rows:
            self._log.wait(end, _IDLE_S)
            return position
        output = self._fold(rows)
        reached = rows[-1].position
        self._book.apply(
            output.events, output.controls, expected=position, position=reached,
            evaluated_to_ns=output.evaluated_to_ns, derived=output.derived,
        )  # fmt: skip
        self._tell(output)
        self._entries_since += len(rows)
        overdue = time.monotonic() - self._saved_at_s >= self._snapshot_every_s
        if overdue or self._entries_since >= self._snapshot_every_rows:
            self._snapshot()
        return reached

    def _fold(self, rows: Sequence[LogRow]) -> _Output:
        events: list[BookedEvent] = []
        controls: list[tuple[int, Control]] = []
        prompt: set[str] = set()
        evaluated_to_ns: int | None = None
        derived: list[tuple[int, bytes]] = []
        for row in rows:
            entry = decode(row.body)
            caused, made = self._engine.apply(row.position, entry)
            events += [BookedEvent(row.position, event) for event in caused]
            if made is not None:
                derived.append((row.position, encode(made)))
            match entry:
                case VitalBatch():
                    prompt.update(event.id for event in caused if event.kind in TELLING)
                case Tick():
                    evaluated_to_ns = entry.watermark_ns
                case Control():
                    controls.append((row.position, entry))
        return _Output(events, controls, prompt, evaluated_to_ns, derived)

    def _tell(self, output: _Output) -> None:
        if self._observe is None:
            return
        now_ns = self._clock.now_ns()
        for _, event in output.events:
            prompt = event.id in output.prompt
            self._observe(Observation(event, (now_ns - event.at_ns) / 1e9 if prompt else None))

    def _snapshot(self) -> None:
        self._book.save_snapshot(self._engine.position, self._engine.snapshot())
        self._log.commit(CONSUMER, self._log.position(CONSUMER), self._engine.position)
        self._saved_at_s, self._entries_since = time.monotonic(), 0


def _out_of_step(problem: str) -> BackendError:
    return BackendError(f"alert book and log do not belong together: {problem}", retryable=False)


class ControlDesk:
    """Where a person's decision enters the log: checked, appended, and waited for. Thread-safe.

    One decision after another: of two that make the same version at once, the second is refused. The log decides
    between the desks of two processes: its first entry wins, and the other desk refuses what it appended.
    """

    def __init__(
        self, log: Log, book: AlertReader, decisions: AlertDecisions, registry: Registry,
        *, applied_within_s: float = _APPLIED_WITHIN_S,
    ) -> None:  # fmt: skip
        self._log, self._book, self._decisions, self._registry = log, book, decisions, registry
        self._applied_within_s = applied_within_s
        self._versions, self._statuses = threading.Lock(), threading.Lock()

    def submit(self, control: Control) -> int:
        """Append ``control`` and return its position once the engine has applied it.

        Raises:
            InvalidRequest, NotFound: refused before it enters the log; or a newer version of the limits got in first.
            BackendError: retryable; the entry is in the log, the engine has not got there in time.
        """
        if control.kind in DECIDED:
            check_decision(self._decisions, control)
        else:
            check_control(self._book, self._decisions, control)
        (position,) = self._log.append([(STREAM, encode(control))])
        if not self._book.wait(position, self._applied_within_s):
            raise BackendError("the alert engine has not applied the decision yet", retryable=True)
        if control.kind is ControlKind.LIMITS:
            self._prove(control)
        elif control.kind in DECISIONS:
            prove_decision(self._decisions, control)
        return position

    def revise(self, control: Control, version: int | None = None) -> int:
        """Make the next version of what ``control`` decides, or ``version`` when that is still new; its number.

        Raises:
            InvalidRequest: field ``version``: another decision got in first. And as :meth:`submit`.
            BackendError: as :meth:`submit`.
        """
        with self._versions:
            made = next_version(self._decisions, control, version)
            self.submit(made)
        return int(made.body["version"])

    def set_status(self, control: Control) -> Patient:
        """Change the monitoring status of a patient in the registry and in the log; the patient afterwards.

        Raises:
            InvalidRequest, NotFound: refused, nothing was changed.
            BackendError: retryable; asking again makes registry and log agree.
        """
        with self._statuses:
            return change_status(self._registry, control, self.submit)

    def _prove(self, control: Control) -> None:
        """Two people may set the same version at once: the log's first wins, the other must be told."""
        body, limits = read_limits(control)
        version, recorded = self._decisions.limits(body.patient)
        if version == body.version and recorded != [limit.model_dump() for limit in limits]:
            raise InvalidRequest("version", f"limits were changed meanwhile: version {version} is in force")
