"""The embedded store: one DuckDB file, owned by one process.

Rows are only appended, without a primary key. New rows go to ``readings_open``; ``compact`` moves closed days to
``readings_closed``, sorted by patient, vital and time, so that a window reads few row groups. ``ordinal`` numbers rows
over the life of the file. Revisions and retractions leave rows alone: ``hidden`` says from which ordinal on an
identity is valid, and readers leave out what stands before it. Device and patient tokens are integers.
"""

import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt

from vitals.days import day_starts
from vitals.errors import BackendError, PositionConflict
from vitals.glossary import Flag
from vitals.model import COLUMNS, VitalBatch, concatenate
from vitals.records import DatedZone, Trends, Window
from vitals.store import duckdb_sql as sql
from vitals.store.lock import ReadWriteLock
from vitals.store.tokens import Tokens
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS, NO_TIME

CONSUMER: Final = "store"
BUCKET_NS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "1m": MINUTE_NS,
        "1h": HOUR_NS,
        "1d": DAY_NS,
    }
)
"""Widths of the aggregated resolutions; minutes and hours start at multiples of the width since 1970-01-01 UTC, days
at midnight where the patient lives."""
OUT_OF_RANGE: Final = int(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)
NOT_AGGREGATED: Final = int(Flag.IMPLAUSIBLE | Flag.RETRACTED | Flag.CONTROL_SOLUTION | Flag.TEST_DATA)
_AGGREGATED: Final[Mapping[str, int]] = MappingProxyType({"without": NOT_AGGREGATED, "beyond": OUT_OF_RANGE})
_COMPACT_ROWS = 2_000_000
_READ_ROWS = 250_000
_BULK_ROWS = 100_000
"""DuckDB 2.0 merges appends of a row group (122,880 rows) or more into the table before it stamps them with the
transaction: a reader that runs during that commit sees them too early. Bulk commits wait for readers to finish."""

_RETRYABLE = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)

Columns = dict[str, npt.NDArray[Any]]


_Assigned = tuple[Tokens, dict[str, int]]
_DOUBTED = int(Flag.CLOCK_WRONG)


class DuckDBStore:
    """:class:`vitals.ports.Store` in one DuckDB file.

    Thread-safe: one writer at a time, any number of readers; they wait for each other only while a compaction (or a
    write of 100,000 rows) commits. ``memory_mb`` and ``threads`` bound what DuckDB may use. Every method raises
    ``BackendError``, retryable for disk, memory and transaction trouble.
    """

    def __init__(self, path: Path, *, memory_mb: int = 512, threads: int = 2) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._maintenance_lock = threading.Lock()
        self._idle: deque[duckdb.DuckDBPyConnection] = deque()
        self._gate = ReadWriteLock()
        self._closed = False
        # Whether a failed commit left it open which tokens the file holds.
        self._tokens_in_doubt = False
        config: dict[str, Any] = {
            "memory_limit": f"{memory_mb}MB",
            "threads": threads,
            # Without it, SQL could name a Python variable of the caller.
            "python_enable_replacements": False,
        }
        with self._errors():
            self._database = duckdb.connect(path, config=config)
        with self._transaction() as con:
            con.execute(sql.SCHEMA)
            self._load_tokens(con)

    def position(self) -> int:
        """Log position up to which everything is stored; 0 for a new file."""
        with self._cursor() as con:
            return _number(con, "SELECT position FROM state")

    def rows(self) -> int:
        """All rows, revisions included."""
        with self._gate.reading(), self._cursor() as con:
            return _number(con, "SELECT count(*) FROM readings")

    def write(self, batches: Sequence[VitalBatch], *, expected: int, position: int) -> None:
        """Store batches and move the position in one transaction.

        A revision hides the rows of its identity before it; one that is flagged as retracted hides itself as well.

        Raises:
            PositionConflict: the position is not ``expected``; nothing was stored.
            ValueError: a row is unassigned (patient -1); nothing was stored.
        """
        batch = concatenate(batches)
        if (batch.patient < 0).any():
            raise ValueError("unassigned readings do not belong in the store")
        with self._write_lock:
            with self._transaction(bulk=len(batch) >= _BULK_ROWS) as con:
                if self._tokens_in_doubt:
                    self._load_tokens(con)
                self._tokens_in_doubt = True
                found = _number(con, "SELECT position FROM state")
                if found != expected:
                    raise PositionConflict(CONSUMER, expected, found)
                ordinal = _number(con, "SELECT ordinal FROM state")
                con.execute("UPDATE state SET position = ?, ordinal = ?", (position, ordinal + len(batch)))
                assigned = self._insert(con, batch, ordinal) if len(batch) else []
            for tokens, fresh in assigned:
                tokens.keep(fresh)
            self._tokens_in_doubt = False

    def window(
        self, patient: str, vital: int, start_ns: int, end_ns: int, *, resolution: str = "raw", limit: int = 100_000,
        zones: Sequence[DatedZone] = (),
    ) -> Window:  # fmt: skip
        """See :class:`vitals.ports.Store`. ``flags`` of a bucket are those of its readings, OR-ed."""
        width = BUCKET_NS.get(resolution)
        if width is None and resolution != "raw":
            raise ValueError(f"resolution {resolution!r}: raw, {', '.join(BUCKET_NS)}")
        number = self._patients.ids.get(patient, -1)
        asked = {"patient": number, "vital": vital, "start": start_ns, "end": end_ns}
        arguments = asked | {"limit": limit}
        if width is not None:
            by_day = resolution == "1d"
            how = {"days": self._days(asked, zones)} if by_day else {"width": width}
            rows = self._columns(sql.DAILY if by_day else sql.BUCKETS, {**arguments, **_AGGREGATED, **how})
            value, count = rows["value"], rows["rows"]
            return Window(resolution, rows["bucket_ns"], value, rows["minimum"], rows["maximum"], count, rows["flags"])
        rows = self._columns(sql.RAW, arguments)
        value, ones = rows["value"], np.ones(len(rows["value"]), dtype=np.int64)
        devices = [self._devices.names[number] for number in rows["device"].tolist()]
        return Window(
            resolution, rows["time_ns"], value, value, value, ones, rows["flags"],
            devices, rows["seq"].tolist(), rows["basis"].tolist(), rows["unit"].tolist(),
        )  # fmt: skip

    def latest(self, patient: str) -> VitalBatch:
        """See :class:`vitals.ports.Store`."""
        return self._batch(
            sql.LATEST, {"patient": self._numbers([patient])[0], "without": NOT_AGGREGATED, "doubted": _DOUBTED}
        )

    def latest_many(self, patients: Collection[str]) -> VitalBatch:
        """See :class:`vitals.ports.Store`; one pass over the file however many patients there are."""
        return self._batch(
            sql.LATEST_MANY, {"patients": self._numbers(patients), "without": NOT_AGGREGATED, "doubted": _DOUBTED}
        )

    def trends(self, patients: Collection[str], start_ns: int, end_ns: int, width_ns: int) -> Trends:
        """See :class:`vitals.ports.Store`."""
        asked = {"patients": self._numbers(patients), "start": start_ns, "end": end_ns, "width": width_ns}
        rows = self._columns(sql.TRENDS, asked | {"without": NOT_AGGREGATED})
        tokens = [self._patients.names[number] for number in rows["patient"].tolist()]
        return Trends(tokens, rows["vital"], rows["slot"], rows["value"])

    def held(self, device: str, start_ns: int, end_ns: int) -> VitalBatch:
        """See :class:`vitals.ports.Store`."""
        return self._of_device(sql.HELD, device, start_ns, end_ns)

    def sent(self, device: str, first_ns: int, last_ns: int) -> VitalBatch:
        """See :class:`vitals.ports.Store`."""
        return self._of_device(sql.SENT, device, first_ns, last_ns)

    def stored(self) -> Mapping[str, int]:
        """First versions of readings ever stored, per device; erasing a patient does not lower it."""
        with self._cursor() as con:
            rows = con.execute("SELECT device, readings FROM stored ORDER BY device").fetchall()
        return {self._devices.names[device]: int(readings) for device, readings in rows}

    def retract(self, device: str, vital: int, source_time_ns: int, seq: int) -> None:
        """Hide a reading, and every revision of it so far, from readers; its rows stay and export flags them.

        A revision that comes later is visible again. Nothing happens for a device that was never stored.
        """
        number = self._devices.ids.get(device)
        if number is None:
            return
        with self._write_lock, self._transaction() as con:
            identity = {"device": number, "vital": vital, "source_time_ns": source_time_ns, "seq": seq}
            con.execute(sql.RETRACT, identity)

    def erase(self, patient: str) -> int:
        """Delete every row of a patient and the token; returns how many rows. Their space is used again."""
        number = self._patients.ids.get(patient)
        if number is None:
            return 0
        with self._maintenance_lock, self._write_lock:
            with self._transaction() as con:
                who = {"patient": number}
                con.execute(sql.FORGET, who)
                con.execute("DELETE FROM tokens WHERE kind = 'patient' AND id = $patient", who)
                erased = _number(con, "DELETE FROM readings_open WHERE patient = $patient", who)
                erased += _number(con, "DELETE FROM readings_closed WHERE patient = $patient", who)
            self._patients.ids.pop(patient, None)
            return erased

    def export(self, patient: str) -> VitalBatch:
        """All rows of a patient, revisions included, by vital and time; retracted readings carry the flag."""
        return self._batch(sql.EXPORT, {"patient": self._numbers([patient])[0], "retracted": int(Flag.RETRACTED)})

    def arrivals(
        self, patients: Collection[str], start_ns: int, end_ns: int, *, measured: bool = False
    ) -> Iterator[VitalBatch]:
        """See :class:`vitals.ports.Store`. No transaction spans the batches: rows erased meanwhile are left out."""
        how = sql.AS_MEASURED if measured else sql.AS_RECEIVED
        numbers = self._numbers(patients)
        asked = {"patients": numbers, "first": start_ns, "last": end_ns}
        minutes = self._columns(sql.ARRIVAL_MINUTES.format(**how), asked)
        for first, last in _runs(list(zip(*(column.tolist() for column in minutes.values()), strict=True)), _READ_ROWS):
            window = {"first": max(first, start_ns), "last": min(last + BUCKET_NS["1m"], end_ns)}
            yield self._batch(sql.ARRIVALS.format(**how), asked | window)

    def compact(self, before_ns: int) -> int:
        """Sort the UTC days that ended by ``before_ns`` by patient, vital, time; returns how many rows were moved.

        Some million rows per transaction: a crash leaves whole days moved or not. Writers and readers go on.
        """
        day = BUCKET_NS["1d"]
        limit = before_ns // day * day
        with self._maintenance_lock:
            with self._cursor() as con:
                days = con.execute(sql.DAYS, {"width": day, "limit": limit}).fetchall()
            return sum(self._move(first, last + day) for first, last in _runs(days, _COMPACT_ROWS))

    def close(self) -> None:
        """Checkpoint and release the file; waits for a write or a compaction that runs."""
        with self._maintenance_lock, self._write_lock:
            if self._closed:
                return
            self._closed = True
            with self._errors():
                try:
                    # One of DuckDB's own may be under way; then the write-ahead log is replayed at the next start.
                    with suppress(duckdb.TransactionException):
                        self._database.execute("CHECKPOINT")
                finally:
                    while self._idle:
                        self._idle.pop().close()
                    self._database.close()

    def _insert(self, con: duckdb.DuckDBPyConnection, batch: VitalBatch, ordinal: int) -> list[_Assigned]:
        columns: Columns = dict(batch.columns())
        columns["ordinal"] = np.arange(ordinal, ordinal + len(batch), dtype=np.int64)
        columns["context"] = _context_column(batch)
        assigned = []
        for name, tokens, vocabulary in (
            ("device", self._devices, batch.devices),
            ("patient", self._patients, batch.patients),
        ):
            columns[name], fresh = tokens.number(vocabulary, columns[name])
            assigned.append((tokens, fresh))
            if fresh:
                names = np.array(list(fresh), dtype=object)
                with _registered(con, {"id": np.array(list(fresh.values()), dtype=np.int32), "token": names}):
                    con.execute("INSERT INTO tokens SELECT ?, id, token FROM incoming", (name,))
                    if tokens is self._devices:
                        con.execute("INSERT INTO stored SELECT id, 0 FROM incoming")
        with _registered(con, columns):
            con.execute(sql.INSERT, {"no_time": NO_TIME})
            con.execute(sql.COUNT, {"revision": int(Flag.REVISION)})
            if (batch.flags & int(Flag.REVISION)).any():
                con.execute(sql.HIDE, {"revision": int(Flag.REVISION), "retracted": int(Flag.RETRACTED)})
        return assigned

    def _load_tokens(self, con: duckdb.DuckDBPyConnection) -> None:
        self._devices, self._patients = (
            Tokens(con.execute("SELECT id, token FROM tokens WHERE kind = ?", (kind,)).fetchall())
            for kind in ("device", "patient")
        )

    def _move(self, start_ns: int, end_ns: int) -> int:
        with self._transaction(bulk=True) as con:
            days = {"start": start_ns, "end": end_ns}
            con.execute(sql.SORT, days)
            return _number(con, sql.DROP, days)

    def _numbers(self, patients: Collection[str]) -> list[int]:
        return [self._patients.ids.get(patient, -1) for patient in patients]

    def _days(self, asked: Mapping[str, int], zones: Sequence[DatedZone]) -> list[int]:
        with self._cursor() as con:
            ((first_ns, last_ns),) = con.execute(sql.SPAN, asked).fetchall()
        return [] if first_ns is None else day_starts(zones, first_ns, last_ns)

    def _of_device(self, statement: str, device: str, first_ns: int, last_ns: int) -> VitalBatch:
        bounds = {"first": first_ns, "last": last_ns}
        return self._batch(statement, {"device": self._devices.ids.get(device, -1), **bounds})

    def _batch(self, statement: str, arguments: Mapping[str, Any]) -> VitalBatch:
        rows = self._columns(statement, arguments)
        columns: dict[str, Any] = {name: rows[name].astype(dtype, copy=False) for name, dtype in COLUMNS.items()}
        columns["device"], devices = _vocabulary(columns["device"], self._devices)
        columns["patient"], patients = _vocabulary(columns["patient"], self._patients)
        texts = rows["context"].tolist()
        context = {row: msgspec.json.decode(text) for row, text in enumerate(texts) if text is not None}
        return VitalBatch(devices, patients, **columns, context=context)

    def _columns(self, statement: str, arguments: Mapping[str, Any]) -> Columns:
        with self._gate.reading(), self._cursor() as con:
            rows = con.execute(statement, arguments).fetchnumpy()
        return {name: _filled(np.asanyarray(column)) for name, column in rows.items()}

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that no other thread uses; it goes back to the idle ones."""
        with self._errors():
            try:
                con = self._idle.pop()
            except IndexError:
                con = self._database.cursor()
            try:
                yield con
            finally:
                self._idle.append(con)

    @contextmanager
    def _transaction(self, *, bulk: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._cursor() as con:
            con.begin()
            try:
                yield con
                with self._gate.alone() if bulk else nullcontext():
                    con.commit()
            except BaseException:
                # A failed commit has rolled back by itself.
                with suppress(duckdb.Error):
                    con.rollback()
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise BackendError(f"{self._path.name}: {error}", retryable=isinstance(error, _RETRYABLE)) from error


def _vocabulary(column: npt.NDArray[Any], tokens: Tokens) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """The file's numbers as indices into their tokens."""
    numbers, index = np.unique(column, return_inverse=True)
    return index.astype(np.int32), tuple(tokens.names[number] for number in numbers.tolist())


def _number(con: duckdb.DuckDBPyConnection, statement: str, arguments: Mapping[str, int] | None = None) -> int:
    """The one number that a statement gives: rows affected, or the first column."""
    # All rows are taken: a result that is not read to its end keeps a transaction open on the pooled connection.
    rows = con.execute(statement, arguments).fetchall()
    return int(rows[0][0]) if rows else 0


def _filled(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """NULL as NaN, NO_TIME or None."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    filled = column.data.copy()
    filled[np.ma.getmaskarray(column)] = {"f": np.nan, "i": NO_TIME}.get(column.dtype.kind)
    return filled


@contextmanager
def _registered(con: duckdb.DuckDBPyConnection, columns: Columns) -> Iterator[None]:
    """``columns`` as the relation ``incoming``."""
    con.register("incoming", columns)
    try:
        yield
    finally:
        con.unregister("incoming")


def _context_column(batch: VitalBatch) -> npt.NDArray[Any]:
    column = np.full(len(batch), None, dtype=object)
    for row, value in batch.context.items():
        column[row] = msgspec.json.encode(value).decode()
    return column


def _runs(days: Sequence[tuple[int, int]], rows: int) -> Iterator[tuple[int, int]]:
    """Group (day, rows of the day) into runs (first day, last day) of about ``rows`` rows."""
    first, held = None, 0
    for day, count in days:
        first, held = (day if first is None else first), held + count
        if held >= rows:
            yield first, day
            first, held = None, 0
    if first is not None:
        yield first, days[-1][0]
