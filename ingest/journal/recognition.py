"""Which reading a value belongs to: a new one, one that is known, or a new version of one (DESIGN section 5, identity).

Identity is (device, vital, time as sent, sequence). Formats whose times are too coarse to tell measurements apart name
the document that each value came in. A value that is new for its identity and comes in a document that is new is
another measurement: the ordinal of its message becomes its sequence. A value that is known is a duplicate whatever
document it comes in, so that a re-send never confirms itself.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.adapter import Decoded, SourceClock
from vitals.catalog import BY_KEY, CODE_SPACE
from vitals.glossary import Flag, Statistic
from vitals.model import VitalBatch
from vitals.times import HOUR_NS, NO_TIME

# Identities stand in the order of time: live readings of all devices fill the same few pages of a commit.
SCHEMA = """
CREATE TABLE IF NOT EXISTS identities(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  value REAL, PRIMARY KEY(source_time_ns, device, vital, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retracted(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(source_time_ns, device, vital, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  document INTEGER NOT NULL, stored_seq INTEGER NOT NULL,
  PRIMARY KEY(source_time_ns, device, vital, seq, document)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS superseded(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  value REAL NOT NULL, PRIMARY KEY(source_time_ns, device, vital, seq, value)) WITHOUT ROWID;
"""
_AHEAD_NS = 26 * HOUR_NS
_VALUE = "SELECT value FROM identities WHERE source_time_ns=? AND device=? AND vital=? AND seq=?"
_CHANGE = "UPDATE identities SET value=? WHERE source_time_ns=? AND device=? AND vital=? AND seq=?"
_DOCUMENTS = "SELECT stored_seq, document FROM documents WHERE source_time_ns=? AND device=? AND vital=? AND seq=?"
_BEFORE = "SELECT value FROM superseded WHERE source_time_ns=? AND device=? AND vital=? AND seq=?"
_RETRACTED = "SELECT count(*) FROM retracted WHERE source_time_ns=? AND device=? AND vital=? AND seq=?"
_GROWING = np.array([BY_KEY[key].code for key in ("steps", "sleep")], np.uint16)
"""What a source counts up over a day: a larger number for the same time is the same count later on."""

Bools = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Key = tuple[int, int, int, int]
"""Time as sent, number of the device, vital, sequence."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Where readings come from, a row each: ordinal of the message, ``document`` and ``correction`` as
    ``ingest.adapter.Decoded`` has them."""

    message: Int64
    document: Int64
    correction: Bools

    @classmethod
    def of(cls, decoded: Decoded, message: Int64, twice: Bools, again: Bools) -> "Origins":
        """Origins of what an adapter gave; ``message`` holds ordinals, ``twice`` marks wall times that mean two
        instants: what comes in another message may be of the other one. ``again`` marks those of which the message
        itself has another value: it is of the other one.

        Only values of one instant are told apart by their documents: an aggregate, a day's value and a count are
        revised by every later message.
        """
        batch, none = decoded.batch, np.zeros(len(message), np.int64)
        document = none if decoded.document is None else decoded.document
        instant = (batch.statistic == Statistic.SINGLE) & (batch.ended_ns == NO_TIME) & (batch.clock != SourceClock.DAY)
        instant &= ~np.isin(batch.vital, _GROWING)
        correction = none.astype(bool) if decoded.correction is None else decoded.correction
        # Below 0 no message has its ordinal.
        document = np.where(again & twice, -1 - message, np.where(instant, document, 0))
        return cls(message, np.where(twice & (document == 0) & (batch.seq == 0), message, document), correction)

    def take(self, rows: Bools) -> "Origins":
        """The origins of ``rows``."""
        return Origins(self.message[rows], self.document[rows], self.correction[rows])


class Recognised(NamedTuple):
    """Masks of duplicates and of revisions, and the sequence that each reading is stored with."""

    duplicate: Bools
    revision: Bools
    seq: Int64


class _Value(NamedTuple):
    """A value on its way in."""

    key: Key
    value: float
    message: int
    document: int
    correction: bool


class Recogniser:
    """Knows the readings of a file, inside one transaction of it. ``newest_ns`` holds the newest source time seen per
    stream (device number x vital): a hint which readings are new, never a proof."""

    def __init__(self, sql: sqlite3.Connection, newest_ns: dict[int, int]) -> None:
        self._sql, self._newest_ns = sql, newest_ns

    @property
    def sql(self) -> sqlite3.Connection:
        """The transaction's connection, for tables that have a module of their own."""
        return self._sql

    def identify(
        self, device: Int64, vital: npt.NDArray[np.uint16], source_time_ns: Int64, seq: Int64, received_ns: Int64,
        value: npt.NDArray[np.float64], flags: npt.NDArray[np.uint32], origins: Origins,
    ) -> Recognised:  # fmt: skip
        """Recognise readings by (device, vital, source_time_ns, seq) and their documents.

        ``device`` holds numbers of ``Cycle.device_id``. New identities and new values are recorded. Rows past the
        newest record of their stream are taken for new and recorded together; when that meets one that is known, and
        for all other rows (resends and resyncs), each is looked up.
        """
        stored = _comparable(value, flags)
        keys = (source_time_ns, device, vital, seq)
        past = self._past_newest(device, vital, source_time_ns, received_ns) & ~_repeated(keys)
        cells = list(zip(*(column.tolist() for column in keys), strict=True))
        values = stored.tolist()
        if self._insert(list(compress(((*k, v) for k, v in zip(cells, values, strict=True)), past.tolist()))):
            self._note_all(cells, origins, past)
        else:
            past[:] = False
        duplicate, revision, stored_seq = np.zeros(len(value), bool), np.zeros(len(value), bool), seq.copy()
        for row in np.flatnonzero(~past).tolist():
            one = _Value(
                cells[row], values[row], int(origins.message[row]), int(origins.document[row]),
                bool(origins.correction[row]),
            )  # fmt: skip
            duplicate[row], revision[row], stored_seq[row] = self._look_up(one)
        return Recognised(duplicate, revision, stored_seq)

    def _insert(self, cells: Sequence[tuple[Any, ...]]) -> bool:
        """Record identities, all or none; False when one of them is known."""
        if not cells:
            return True
        self._sql.execute("SAVEPOINT identities")
        added = self._sql.executemany("INSERT OR IGNORE INTO identities VALUES(?,?,?,?,?)", cells).rowcount
        if added != len(cells):
            self._sql.execute("ROLLBACK TO identities")
        self._sql.execute("RELEASE identities")
        return added == len(cells)

    def _note_all(self, cells: Sequence[Key], origins: Origins, rows: Bools) -> None:
        """Record the documents of first readings. A message that is its own document comes once: its other readings
        stand in the same batch."""
        named = rows & (origins.document != 0) & (origins.document != origins.message)
        index = np.flatnonzero(named).tolist()
        if index:
            self._sql.executemany(
                "INSERT OR IGNORE INTO documents VALUES(?,?,?,?,?,?)",
                [(*cells[row], int(origins.document[row]), cells[row][3]) for row in index],
            )

    def _look_up(self, one: _Value) -> tuple[bool, bool, int]:
        """Duplicate, revision, and the stored sequence of a value whose identity may be known."""
        found = self._known(one.key)
        if found is None:
            self._sql.execute("INSERT INTO identities VALUES(?,?,?,?,?)", (*one.key, one.value))
            self._note(one, one.key[3])
            return False, False, one.key[3]
        if found[0] == one.value and one.document in (0, one.message) and not one.correction:
            return True, False, one.key[3]
        stored = [stored for stored, document in self._documents(one.key) if document == one.document]
        if stored:
            return self._compare(one, stored[0])
        if one.correction:
            return self._compare(one, self.measured(one.key)[-1])
        # SQLite keeps NaN as NULL: an original that comes after its withdrawal has no value to be compared with.
        if not one.document or found[0] is None:
            return self._compare(one, one.key[3])
        return self._measured_again(one)

    def _measured_again(self, one: _Value) -> tuple[bool, bool, int]:
        """A value in a document that is new: another measurement, unless the value is known."""
        for seq in self.measured(one.key):
            known = self._known((*one.key[:3], seq))
            if known is not None and known[0] == one.value:
                return True, False, seq
        before = self._sql.execute(_BEFORE, one.key)
        if one.value in {value for (value,) in before}:
            return True, False, one.key[3]
        seq = one.message
        while self._known((*one.key[:3], seq)) is not None:
            seq += 1
        self._sql.execute("INSERT INTO identities VALUES(?,?,?,?,?)", (*one.key[:3], seq, one.value))
        self._note(one, seq)
        return False, False, seq

    def _compare(self, one: _Value, seq: int) -> tuple[bool, bool, int]:
        """Compare a value with the reading stored as ``seq``, and keep it where it is another."""
        key = (*one.key[:3], seq)
        found = self._known(key)
        assert found is not None
        # SQLite keeps NaN as NULL: a reading without a number equals itself.
        if found[0] == one.value or (found[0] is None and np.isnan(one.value)):
            return True, False, seq
        self._sql.execute(_CHANGE, (one.value, *key))
        if one.document:
            self._note(one, seq)
            if found[0] is not None:
                self._sql.execute("INSERT OR IGNORE INTO superseded VALUES(?,?,?,?,?)", (*one.key, found[0]))
        return False, True, seq

    def _known(self, key: Key) -> tuple[float | None] | None:
        row: tuple[float | None] | None = self._sql.execute(_VALUE, key).fetchone()
        return row

    def _note(self, one: _Value, seq: int) -> None:
        if one.document:
            self._sql.execute("INSERT OR IGNORE INTO documents VALUES(?,?,?,?,?,?)", (*one.key, one.document, seq))

    def _documents(self, key: Key) -> list[tuple[int, int]]:
        """(stored sequence, document) of every document that is known of an identity."""
        return self._sql.execute(_DOCUMENTS, key).fetchall()

    def measured(self, key: Key) -> list[int]:
        """Stored sequences of the measurements of one identity, in the order of arrival."""
        return [key[3], *sorted({stored for stored, _ in self._documents(key)} - {key[3]})]

    def withdraw(self, device: Int64, batch: VitalBatch, document: Int64) -> tuple[Bools, VitalBatch]:
        """Record that readings are withdrawn, now and for whatever comes later of them.

        Returns the rows of ``batch`` of which that was not known, and the readings that it takes: of an identity that
        was measured more than once the one of the row's document, else all.
        """
        rows, seqs, fresh = [], [], np.zeros(len(batch), bool)
        for row, key in enumerate(_keys(device, batch)):
            documents = self._documents(key)
            meant = [stored for stored, known in documents if known == int(document[row])] or self.measured(key)
            for seq in meant:
                own = (*key[:3], seq)
                if self._sql.execute("INSERT OR IGNORE INTO retracted VALUES(?,?,?,?)", own).rowcount == 1:
                    fresh[row] = True
                    rows.append(row)
                    seqs.append(seq)
                # An original that comes later is a new version of something that is known.
                self._sql.execute("INSERT OR IGNORE INTO identities VALUES(?,?,?,?,NULL)", own)
        return fresh, batch.take(np.array(rows, np.int64)).replace(seq=np.array(seqs, np.int64))

    def withdrawn(self, device: Int64, batch: VitalBatch) -> Bools:
        """Rows whose identity was withdrawn."""
        found = (self._sql.execute(_RETRACTED, key).fetchone()[0] for key in _keys(device, batch))
        return np.fromiter(found, bool, len(batch))

    def newest(self, device: Int64, batch: VitalBatch) -> Bools:
        """Rows that no later version of their reading has superseded, and that were not withdrawn."""
        known = [found[0] for key in _keys(device, batch) if (found := self._known(key)) is not None]
        value = np.array([np.nan if one is None else one for one in known], np.float64)
        waits = _comparable(batch.value, batch.flags)
        same = (value == waits) | (np.isnan(value) & np.isnan(waits))
        return np.asarray(same & ~self.withdrawn(device, batch))

    def _past_newest(
        self, device: Int64, vital: npt.NDArray[np.uint16], source_time_ns: Int64, received_ns: Int64
    ) -> Bools:
        newest_ns = self._newest_ns
        streams, row_stream = np.unique(device * CODE_SPACE + vital, return_inverse=True)
        names = streams.tolist()
        before = np.array([newest_ns.get(stream, NO_TIME) for stream in names], dtype=np.int64)
        past = source_time_ns > before[row_stream]
        # A clock that is years ahead for one reading would make all that follow it look old.
        credible = source_time_ns <= received_ns + _AHEAD_NS
        np.maximum.at(before, row_stream[credible], source_time_ns[credible])
        newest_ns.update(zip(names, before.tolist(), strict=True))
        return np.asarray(past, dtype=np.bool_)


def _keys(device: Int64, batch: VitalBatch) -> Iterator[Key]:
    return zip(*(c.tolist() for c in (batch.source_time_ns, device, batch.vital, batch.seq)), strict=True)


def _comparable(value: npt.NDArray[np.float64], flags: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Values as identities hold them: without a number, below and above the range are two different values."""
    sides = np.where(flags & Flag.BELOW_RANGE, -np.inf, np.where(flags & Flag.ABOVE_RANGE, np.inf, np.nan))
    return np.where(np.isnan(value), sides, value)


def _repeated(keys: Sequence[npt.NDArray[Any]]) -> Bools:
    """Rows whose key stands more than once in the batch."""
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in keys:
        ordered = column[order]
        same &= ordered[1:] == ordered[:-1]
    repeated = np.zeros(len(order), bool)
    repeated[order[1:][same]] = True
    repeated[order[:-1][same]] = True
    return repeated
