"""The log on one machine: SQLite in WAL mode, ``synchronous=FULL``, one row per micro-batch.

One process writes, others may read. Tables that must change together with the log (sessions, ledgers, positions) live
in the same file and the same transaction. Format and crash points: ``docs/internals/recovery.md``.
"""

import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitals.errors import BackendError, PositionConflict
from vitals.ports import Clock, LogRow, Sealer

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries(
  position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, appended_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS consumers(name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
_POLL_S = 0.005
_CACHE_KIB = 16_384


class LocalTransaction:
    """An open write transaction: appends, positions, and statements on tables that share the file."""

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer | None, context: bytes, now_ns: int) -> None:
        self.connection = connection
        self._sealer, self._context, self._now_ns = sealer, context, now_ns

    def append(self, stream: str, body: bytes) -> int:
        """Append one entry; its position. Durable when the transaction ends without an error."""
        sealed = body if self._sealer is None else self._sealer.seal(body, self._context)
        cursor = self.connection.execute(
            "INSERT INTO entries(stream, appended_ns, body) VALUES(?,?,?)", (stream, self._now_ns, sealed)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def commit_position(self, consumer: str, expected: int, new: int) -> None:
        """Move a consumer by compare-and-set; raises ``PositionConflict``."""
        row = self.connection.execute("SELECT position FROM consumers WHERE name=?", (consumer,)).fetchone()
        found = 0 if row is None else int(row[0])
        if found != expected:
            raise PositionConflict(consumer, expected, found)
        self.connection.execute(
            "INSERT INTO consumers(name, position) VALUES(?,?) ON CONFLICT(name) DO UPDATE SET position=excluded.position",
            (consumer, new),
        )


class LocalLog:
    """A log in one SQLite file; ``read_only`` for processes that do not own it.

    ``sealer`` encrypts entry bodies (the raw log holds whatever devices send). Thread-safe: one writer at a time,
    readers on a connection of their own.
    """

    def __init__(
        self, path: Path, clock: Clock, *, sealer: Sealer | None = None, read_only: bool = False, schema: str = ""
    ) -> None:
        self.path, self._clock, self._sealer = path, clock, sealer
        self._context = b"log:" + path.name.encode()
        self._write_lock = threading.Lock()
        self._appended = threading.Condition()
        self._read_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        try:
            if not read_only:
                self._writer = self._connect()
                self._writer.executescript("PRAGMA journal_mode=WAL;" + _SCHEMA + schema)
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only=1")
        except sqlite3.Error as error:
            raise BackendError(f"{path.name}: {error}", retryable=True) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10.0)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        return connection

    @contextmanager
    def transaction(self) -> Iterator[LocalTransaction]:
        """One durable transaction; rolled back when the block raises.

        Raises:
            BackendError: retryable, when the disk is full or the file is busy; nothing was changed.
        """
        if self._writer is None:
            raise BackendError(f"{self.path.name} is open for reading only", retryable=False)
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield LocalTransaction(self._writer, self._sealer, self._context, self._clock.now_ns())
                self._writer.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise BackendError(f"{self.path.name}: {error}", retryable=True) from error
                raise
        with self._appended:
            self._appended.notify_all()

    def append(self, entries: Sequence[tuple[str, bytes]]) -> list[int]:
        with self.transaction() as tx:
            return [tx.append(stream, body) for stream, body in entries]

    def read(self, after: int, *, streams: Collection[str] | None = None, limit: int = 256) -> list[LogRow]:
        where, arguments = "position > ?", [after]
        if streams is not None:
            where += f" AND stream IN ({','.join('?' * len(streams))})"
            arguments += list(streams)  # type: ignore[arg-type]
        rows = self.query(
            f"SELECT position, stream, appended_ns, body FROM entries WHERE {where} ORDER BY position LIMIT ?",  # noqa: S608
            (*arguments, limit),
        )
        if self._sealer is None:
            return [LogRow(*row) for row in rows]
        return [LogRow(p, s, at, self._sealer.open(body, self._context)) for p, s, at, body in rows]

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """Read rows of any table in the file, on the readers' connection."""
        with self._read_lock:
            try:
                return self._reader.execute(statement, arguments).fetchall()  # type: ignore[arg-type]
            except sqlite3.OperationalError as error:
                raise BackendError(f"{self.path.name}: {error}", retryable=True) from error

    def end(self) -> int:
        # The sequence table remembers the end even when every entry has been trimmed.
        row = self.query("SELECT seq FROM sqlite_sequence WHERE name='entries'")
        return int(row[0][0]) if row else 0

    def wait(self, after: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while True:
            with self._appended:
                end = self.end()
                left = deadline - time.monotonic()
                if end > after or left <= 0:
                    return end
                if self._writer is not None:
                    self._appended.wait(left)
                    continue
            # Another process writes: SQLite has no wake-up, a poll costs some 5 us.
            time.sleep(min(_POLL_S, left))

    def position(self, consumer: str) -> int:
        row = self.query("SELECT position FROM consumers WHERE name=?", (consumer,))
        return int(row[0][0]) if row else 0

    def commit(self, consumer: str, expected: int, new: int) -> None:
        with self.transaction() as tx:
            tx.commit_position(consumer, expected, new)

    def trim(self, before_ns: int) -> int:
        with self.transaction() as tx:
            row = tx.connection.execute("SELECT min(position) FROM consumers").fetchone()
            if row[0] is None:
                return 0
            cursor = tx.connection.execute(
                "DELETE FROM entries WHERE position <= ? AND appended_ns < ?", (int(row[0]), before_ns)
            )
            return cursor.rowcount

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()
