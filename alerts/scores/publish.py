"""Scores on their way into the vitals log, each exactly once.

The engine's output is recorded in the alert book, readings that it makes included, in the transaction that moves its
position. From there they go into the log in a transaction that holds the publisher's own position, and then out of the
book. What was published already is behind that position, so a crash between any two steps neither loses nor doubles
(docs/internals/recovery.md).
"""

import threading
from contextlib import AbstractContextManager
from typing import Final, Protocol

import structlog

from vitals.errors import BackendError
from vitals.ports import AlertRecorder

_log = structlog.get_logger(__name__)
CONSUMER: Final = "scores"
"""The publisher's name as a consumer of the log: its position is that of the newest entry whose readings are in it."""
STREAM: Final = "vitals"
LOOK_S: Final = 0.25
READ: Final = 64
REGISTER_EVERY: Final = 256


class Transaction(Protocol):
    """A transaction of the log."""

    def append(self, stream: str, body: bytes) -> int:
        """Append one entry; its position."""

    def commit_position(self, consumer: str, expected: int, new: int) -> None:
        """Move a consumer by compare-and-set; raises ``PositionConflict``."""


class TransactionalLog(Protocol):
    """A log whose positions and entries change together."""

    def position(self, consumer: str) -> int:
        """Where ``consumer`` stands."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """One durable transaction, rolled back when the block raises."""


class ScorePublisher:
    """Moves derived readings from the book into the log. One owner per log: a second one stops with a conflict."""

    def __init__(self, log: TransactionalLog, book: AlertRecorder) -> None:
        self._log, self._book = log, book
        # What a crash left in the book is behind the position.
        self._cleared = False

    def run(self, stop: threading.Event) -> None:
        """Publish until ``stop``.

        Raises:
            BackendError: not retryable: another owner (``PositionConflict``), an unusable file.
        """
        while not stop.is_set():
            try:
                while self.step() == READ:
                    pass
            except BackendError as error:
                if not error.retryable:
                    raise
                _log.error("scores_wait", error=str(error))
            stop.wait(LOOK_S)

    def step(self) -> int:
        """Publish up to ``READ`` entries; returns how many."""
        published = self._log.position(CONSUMER)
        reached, bodies = self._book.derived(published, READ)
        # Where nothing is scored the position follows now and then: the log is trimmed behind it.
        if bodies or reached - published >= REGISTER_EVERY:
            with self._log.transaction() as tx:
                for body in bodies:
                    tx.append(STREAM, body)
                tx.commit_position(CONSUMER, published, reached)
            published = reached
        if bodies or not self._cleared:
            self._book.forget_derived(published)
            self._cleared = True
        return len(bodies)
