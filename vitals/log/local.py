"""The log on one machine: SQLite in WAL mode, ``synchronous=FULL``, one row per micro-batch.

One process writes, others may read. Tables that must change together with the log (sessions, ledgers, positions) live
in the same file and the same transaction. Format and crash points: ``docs/internals/recovery.md``.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitals.errors import BackendError, PositionConflict
from vitals.ports import Clock, Sealer
from vitals.records import LogRow

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries(
  position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, appended_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS entries_by_age ON entries(appended_ns);
CREATE TABLE IF NOT EXISTS consumers(name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""
# Without a consumer the limit is NULL and nothing goes.
_TRIM = """
DELETE FROM entries WHERE position IN (
  SELECT position FROM entries WHERE appended_ns < ? AND position <= (SELECT min(position) FROM consumers)
  ORDER BY appended_ns LIMIT ?)
"""
_POLL_S = 0.005
_CACHE_KIB = 16_384
# A log is read once and in order, so pages that were read are not needed again.
_READ_CACHE_KIB = 2_048
_TRIM_ROWS = 500
# What passes by itself or with an operator's help: full disk, locks of another process, failing I/O.
_RETRYABLE = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL,
})  # fmt: skip
_PRIMARY_CODE = 0xFF


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
            "INSERT INTO consumers(name, position) VALUES(?,?) ON CONFLICT DO UPDATE SET position=excluded.position",
            (consumer, new),
        )


class LocalLog:
    """A log in one SQLite file; ``read_only`` for processes that do not own it.

    ``sealer`` encrypts entry bodies (the raw log holds whatever devices send). ``schema`` creates the tables that share
    the file; it may hold no transaction of its own. Thread-safe: one writer at a time, readers on a connection of
    their own.

    Raises:
        BackendError: the file cannot be opened or made; retryable when it does not exist yet (``read_only``).
    """

    def __init__(
        self, path: Path, clock: Clock, *, sealer: Sealer | None = None, read_only: bool = False, schema: str = ""
    ) -> None:
        self.path, self._clock, self._sealer = path, clock, sealer
        self._context = b"log:" + path.name.encode()
        # Reentrant only so that a transaction inside a transaction fails instead of waiting for itself.
        self._write_lock = threading.RLock()
        self._committed = threading.Condition()
        self._commits = 0
        self._read_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        with self._errors():
            if not read_only:
                self._create()
                self._writer = self._connect(_CACHE_KIB)
                self._writer.execute("PRAGMA journal_mode=WAL")
                self._writer.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}{schema};COMMIT;")
            self._reader = self._connect(_READ_CACHE_KIB)
            self._reader.execute("PRAGMA query_only=1")
        if not self.query("SELECT 1 FROM sqlite_master WHERE name='entries'"):
            raise BackendError(f"{path.name} is no log yet", retryable=True)

    def _create(self) -> None:
        try:
            # SQLite gives its side files the mode of the file they belong to.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise BackendError(f"{self.path.name}: {error.strerror}", retryable=True) from error

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        # A reader that comes before the owner must not create the file; it may have to recover the WAL of a dead owner.
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            # A violated constraint is the caller's own and keeps its type.
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            raise BackendError(f"{self.path.name}: {error}", retryable=code in _RETRYABLE) from error

    @contextmanager
    def transaction(self) -> Iterator[LocalTransaction]:
        """One durable transaction; rolled back when the block raises.

        Raises:
            BackendError: nothing was changed; retryable when the disk is full or the file is busy.
        """
        if self._writer is None:
            raise BackendError(f"{self.path.name} is open for reading only", retryable=False)
        with self._write_lock, self._errors():
            nested = self._writer.in_transaction
            if nested:
                raise BackendError(f"{self.path.name}: a transaction is open in this thread", retryable=False)
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield LocalTransaction(self._writer, self._sealer, self._context, self._clock.now_ns())
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        with self._committed:
            self._commits += 1
            self._committed.notify_all()

    def append(self, entries: Sequence[tuple[str, bytes]]) -> list[int]:
        with self.transaction() as tx:
            return [tx.append(stream, body) for stream, body in entries]

    def read(self, after: int, *, streams: Collection[str] | None = None, limit: int = 256) -> list[LogRow]:
        where, arguments = "position > ?", (after, *(streams or ()))
        if streams is not None:
            where += f" AND stream IN ({','.join('?' * len(streams))})"
        rows = self.query(
            f"SELECT position, stream, appended_ns, body FROM entries WHERE {where} ORDER BY position LIMIT ?",  # noqa: S608
            (*arguments, limit),
        )
        if self._sealer is None:
            return [LogRow(*row) for row in rows]
        return [LogRow(p, s, at, self._sealer.open(body, self._context)) for p, s, at, body in rows]

    def query(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """Read rows of any table in the file, on the readers' connection."""
        with self._read_lock, self._errors():
            return self._reader.execute(statement, arguments).fetchall()

    def end(self) -> int:
        # The sequence table remembers the end even when every entry has been trimmed.
        row = self.query("SELECT seq FROM sqlite_sequence WHERE name='entries'")
        return int(row[0][0]) if row else 0

    def wait(self, after: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while True:
            commits = self._commits
            end = self.end()
            left = deadline - time.monotonic()
            if end > after or left <= 0:
                return end
            if self._writer is None:
                # Another process writes: SQLite has no wake-up, a poll costs some 5 us.
                time.sleep(min(_POLL_S, left))
                continue
            self._await_commit(commits, left)

    def _await_commit(self, seen: int, timeout_s: float) -> None:
        # The file is not read under this lock: a long read must not keep a commit from returning.
        with self._committed:
            self._committed.wait_for(lambda: self._commits != seen, timeout_s)

    def position(self, consumer: str) -> int:
        row = self.query("SELECT position FROM consumers WHERE name=?", (consumer,))
        return int(row[0][0]) if row else 0

    def commit(self, consumer: str, expected: int, new: int) -> None:
        with self.transaction() as tx:
            tx.commit_position(consumer, expected, new)

    def trim(self, before_ns: int) -> int:
        # In portions: one transaction over a month of entries would hold up appends, and with them acknowledgements.
        trimmed = 0
        while True:
            with self.transaction() as tx:
                portion = tx.connection.execute(_TRIM, (before_ns, _TRIM_ROWS)).rowcount
            trimmed += portion
            if portion < _TRIM_ROWS:
                return trimmed

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()
