"""Ingest's durable state, in the file and the transactions of the vitals log (SQLite).

One transaction per cycle holds the derived entries, the position in the raw log, the identities of new readings, both
ledgers, quarantine and unassigned items: after a crash either all of a cycle happened or none of it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.journal.tally import COUNTS, Tally
from ingest.placing.epochs import DeviceClock, Epoch, clocks_of
from vitals import encoding
from vitals.catalog import CODE_SPACE
from vitals.errors import NotFound, PositionConflict
from vitals.glossary import Flag, Reason
from vitals.log.local import LocalLog, LocalTransaction
from vitals.model import Entry, VitalBatch
from vitals.ports import Sealer
from vitals.records import QuarantineItem
from vitals.times import HOUR_NS, NO_TIME

# Identities stand in the order of time: live readings of all devices fill the same few pages of a commit.
SCHEMA = """
CREATE TABLE IF NOT EXISTS progress(one INTEGER PRIMARY KEY CHECK(one = 1), position INTEGER NOT NULL);
INSERT OR IGNORE INTO progress VALUES(1, 0);
CREATE TABLE IF NOT EXISTS devices(id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS identities(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  value REAL, PRIMARY KEY(source_time_ns, device, vital, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads(
  device INTEGER PRIMARY KEY, source_time_ns INTEGER NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ledgers(
  device INTEGER PRIMARY KEY, decoded INTEGER NOT NULL, duplicate INTEGER NOT NULL, quarantined INTEGER NOT NULL,
  emitted INTEGER NOT NULL, repeated INTEGER NOT NULL, revision INTEGER NOT NULL, unassigned INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine(
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, adapter TEXT NOT NULL, adapter_version INTEGER NOT NULL,
  kind TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, received_ns INTEGER NOT NULL, size INTEGER NOT NULL,
  message INTEGER NOT NULL, payload BLOB NOT NULL, open INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS unassigned(
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, readings INTEGER NOT NULL, reason TEXT NOT NULL,
  first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS unassigned_by_device ON unassigned(device);
CREATE TABLE IF NOT EXISTS resolutions(
  item INTEGER PRIMARY KEY, outcome TEXT NOT NULL, patient TEXT, author TEXT NOT NULL, at_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS recalled(item INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS retracted(
  source_time_ns INTEGER NOT NULL, device INTEGER NOT NULL, vital INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(source_time_ns, device, vital, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wearers(device TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS odd_records(
  device INTEGER NOT NULL, seq INTEGER NOT NULL, source_time_ns INTEGER NOT NULL, arrived_ns INTEGER NOT NULL,
  PRIMARY KEY(device, seq, source_time_ns)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS epochs(
  number INTEGER PRIMARY KEY AUTOINCREMENT, device INTEGER NOT NULL, from_seq INTEGER NOT NULL,
  first_ns INTEGER NOT NULL, pair_seq INTEGER NOT NULL, pair_ns INTEGER NOT NULL, shift_ns INTEGER NOT NULL,
  learned_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ahead_clocks(device TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device_states(
  device TEXT PRIMARY KEY, last_seen_ns INTEGER, measured_ns INTEGER, window_ns INTEGER, life BLOB,
  watched INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device_events(
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS device_events_by_device ON device_events(device);
CREATE TABLE IF NOT EXISTS processed(
  one INTEGER PRIMARY KEY CHECK(one = 1), watermark_ns INTEGER NOT NULL, pause_from_ns INTEGER NOT NULL,
  pause_to_ns INTEGER NOT NULL);
INSERT OR IGNORE INTO processed VALUES(1, 0, 0, 0);
CREATE TABLE IF NOT EXISTS unclaimed(device TEXT PRIMARY KEY, told_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unknown_codes(
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, adapter TEXT NOT NULL, kind TEXT NOT NULL,
  code TEXT NOT NULL, count INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
  samples TEXT NOT NULL, UNIQUE(device, adapter, kind, code));
"""
STREAM = "vitals"
_CONTEXT = b"quarantine"

_AHEAD_NS = 26 * HOUR_NS
LARGEST_ID = 2**63 - 1

Int64 = npt.NDArray[np.int64]


class Held(msgspec.Struct, frozen=True):
    """A message on its way into quarantine."""

    device: str
    adapter: str
    adapter_version: int
    kind: str
    reason: Reason
    detail: str
    received_ns: int
    message: int
    payload: bytes


class Journal:
    """Reads and writes of the ingest tables. Writes happen inside a :class:`Cycle`."""

    def __init__(self, log: LocalLog, sealer: Sealer) -> None:
        self.log, self._sealer = log, sealer
        self.devices: dict[str, int] = {token: ident for ident, token in log.query("SELECT id, token FROM devices")}
        """Numbers of devices in this file, as far as they are known."""
        self.newest: dict[int, int] = {}
        """Newest source time seen per stream (device number x vital): a hint which readings are new, never a proof."""

    def begin(self, tx: LocalTransaction) -> "Cycle":
        """The write side, for one transaction of the log."""
        return Cycle(self, tx, self._sealer)

    def forget(self) -> None:
        """Drop what was learned in a transaction that did not commit."""
        # No reading back: the file may be failing, and a number that was rolled back must go whatever happens.
        self.devices.clear()
        self.newest.clear()

    def position(self) -> int:
        """Raw log position up to which everything is in this file."""
        return int(self.log.query("SELECT position FROM progress")[0][0])

    def heads(self) -> dict[str, tuple[int, int]]:
        """Newest trusted wall time and its sequence, of every device that has one."""
        rows = self.log.query("SELECT token, source_time_ns, seq FROM heads JOIN devices ON devices.id = heads.device")
        return {token: (int(time_ns), int(seq)) for token, time_ns, seq in rows}

    def clocks(self) -> dict[str, DeviceClock]:
        """What is known of clocks that were reset, by device token."""
        odd = "SELECT token, seq, source_time_ns, arrived_ns FROM odd_records JOIN devices ON devices.id = device"
        epochs = (
            "SELECT token, from_seq, first_ns, pair_seq, pair_ns, shift_ns FROM epochs "
            "JOIN devices ON devices.id = device ORDER BY number"
        )
        return clocks_of(self.log.query(odd), self.log.query(epochs))

    def wearers(self) -> dict[str, bytes]:
        """Who wore each device, as the readings so far were given out by it."""
        return dict(self.log.query("SELECT device, body FROM wearers"))

    def counts(self) -> dict[str, dict[str, int]]:
        """Ledger counts of every device."""
        rows = self.log.query(
            f"SELECT token, {', '.join(COUNTS)} FROM ledgers JOIN devices ON devices.id = ledgers.device"  # noqa: S608
        )
        return {token: dict(zip(COUNTS, map(int, counts), strict=True)) for token, *counts in rows}

    def quarantine(self, after: int, limit: int, *, where: Mapping[str, str] | None = None) -> list[QuarantineItem]:
        """Open items with id > ``after``, without payloads; ``where`` may name reason or adapter."""
        conditions = "".join(f" AND {column} = ?" for column in (where or {}) if column in {"reason", "adapter"})
        rows = self.log.query(
            "SELECT id, device, adapter, adapter_version, kind, reason, detail, received_ns, size FROM quarantine "  # noqa: S608
            f"WHERE open AND id > ?{conditions} ORDER BY id LIMIT ?",
            (after, *(where or {}).values(), limit),
        )
        return [_item(row) for row in rows]

    def quarantine_item(self, ident: str) -> tuple[QuarantineItem, int, bool]:
        """One item with its payload, its message ordinal, and whether it is still open; raises ``NotFound``."""
        rows = self.log.query(
            "SELECT id, device, adapter, adapter_version, kind, reason, detail, received_ns, size, "
            "payload, message, open FROM quarantine WHERE id = ?",
            (_number(ident),),
        )
        if not rows:
            raise NotFound("quarantine item", ident)
        row = rows[0]
        return _item(row, self._sealer.open(row[9], _CONTEXT)), int(row[10]), bool(row[11])


def _number(ident: str) -> int:
    """The row that an item's id names; -1, which no row has, for what is no id."""
    number = int(ident) if ident.isdecimal() else -1
    return number if number <= LARGEST_ID else -1


def _item(row: Sequence[Any], payload: bytes = b"") -> QuarantineItem:
    ident, device, adapter, version, kind, reason, detail, received_ns, size = row[:9]
    return QuarantineItem(
        str(ident), device, adapter, version, kind, Reason(reason), detail, received_ns, size, payload
    )


class Cycle:
    """The write side of one transaction."""

    def __init__(self, journal: Journal, tx: LocalTransaction, sealer: Sealer) -> None:
        self._journal, self._tx, self._sql, self._sealer = journal, tx, tx.connection, sealer

    @property
    def sql(self) -> sqlite3.Connection:
        """The transaction's connection, for tables that have a module of their own."""
        return self._sql

    def device_id(self, token: str) -> int:
        """The device's number in this file, given at first sight."""
        known = self._journal.devices.get(token)
        if known is None:
            row = self._sql.execute("SELECT id FROM devices WHERE token=?", (token,)).fetchone()
            known = (
                self._sql.execute("INSERT INTO devices(token) VALUES(?)", (token,)).lastrowid if row is None else row[0]
            )
            assert known is not None
            self._journal.devices[token] = known
        return known

    def identify(
        self, device: Int64, vital: npt.NDArray[np.uint16], source_time_ns: Int64, seq: Int64, received_ns: Int64,
        value: npt.NDArray[np.float64], flags: npt.NDArray[np.uint32],
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:  # fmt: skip
        """Recognise readings by (device, vital, source_time_ns, seq): masks of duplicates and of revisions.

        ``device`` holds numbers of :meth:`device_id`. New identities and new values are recorded. Rows past the newest
        record of their stream are taken for new and recorded together; when that meets one that is known, and for all
        other rows (resends and resyncs), each is looked up.
        """
        stored = _comparable(value, flags)
        keys = (source_time_ns, device, vital, seq)
        past = self._past_newest(device, vital, source_time_ns, received_ns) & ~_repeated(keys)
        cells = list(zip(*(column.tolist() for column in keys), stored.tolist(), strict=True))
        if not self._insert(list(compress(cells, past.tolist()))):
            past[:] = False
        duplicate, revision = np.zeros(len(value), bool), np.zeros(len(value), bool)
        for row in np.flatnonzero(~past).tolist():
            duplicate[row], revision[row] = self._compare(*cells[row])
        return duplicate, revision

    def _insert(self, cells: Sequence[tuple[int, int, int, int, float]]) -> bool:
        """Record identities, all or none; False when one of them is known."""
        if not cells:
            return True
        self._sql.execute("SAVEPOINT identities")
        added = self._sql.executemany("INSERT OR IGNORE INTO identities VALUES(?,?,?,?,?)", cells).rowcount
        if added != len(cells):
            self._sql.execute("ROLLBACK TO identities")
        self._sql.execute("RELEASE identities")
        return added == len(cells)

    def _compare(self, source_time_ns: int, device: int, vital: int, seq: int, value: float) -> tuple[bool, bool]:
        key = (source_time_ns, device, vital, seq)
        found = self._sql.execute(
            "SELECT value FROM identities WHERE source_time_ns=? AND device=? AND vital=? AND seq=?", key
        ).fetchone()
        if found is None:
            self._sql.execute("INSERT INTO identities VALUES(?,?,?,?,?)", (*key, value))
            return False, False
        # SQLite keeps NaN as NULL: a reading without a number equals itself.
        if found[0] == value or (found[0] is None and np.isnan(value)):
            return True, False
        self._sql.execute(
            "UPDATE identities SET value=? WHERE source_time_ns=? AND device=? AND vital=? AND seq=?", (value, *key)
        )
        return False, True

    def withdraw(self, device: Int64, batch: VitalBatch) -> npt.NDArray[np.bool_]:
        """Record that the identities of ``batch`` are withdrawn, now and for whatever comes later of them; the rows of
        which that was not known."""
        fresh = np.zeros(len(batch), bool)
        keys = zip(*(c.tolist() for c in (batch.source_time_ns, device, batch.vital, batch.seq)), strict=True)
        for row, key in enumerate(keys):
            fresh[row] = self._sql.execute("INSERT OR IGNORE INTO retracted VALUES(?,?,?,?)", key).rowcount == 1
            # An original that comes later is a new version of something that is known.
            self._sql.execute("INSERT OR IGNORE INTO identities VALUES(?,?,?,?,NULL)", key)
        return fresh

    def withdrawn(self, device: Int64, batch: VitalBatch) -> npt.NDArray[np.bool_]:
        """Rows whose identity was withdrawn."""
        keys = zip(*(c.tolist() for c in (batch.source_time_ns, device, batch.vital, batch.seq)), strict=True)
        found = (
            self._sql.execute(
                "SELECT count(*) FROM retracted WHERE source_time_ns=? AND device=? AND vital=? AND seq=?", key
            ).fetchone()[0]
            for key in keys
        )
        return np.fromiter(found, bool, len(batch))

    def newest(self, device: Int64, batch: VitalBatch) -> npt.NDArray[np.bool_]:
        """Rows that no later version of their reading has superseded, and that were not withdrawn."""
        keys = zip(*(c.tolist() for c in (batch.source_time_ns, device, batch.vital, batch.seq)), strict=True)
        known = [
            self._sql.execute(
                "SELECT value FROM identities WHERE source_time_ns=? AND device=? AND vital=? AND seq=?", key
            ).fetchone()[0]
            for key in keys
        ]
        value = np.array([np.nan if one is None else one for one in known], np.float64)
        waits = _comparable(batch.value, batch.flags)
        same = (value == waits) | (np.isnan(value) & np.isnan(waits))
        return np.asarray(same & ~self.withdrawn(device, batch))

    def batches_after(self, position: int) -> Iterator[VitalBatch]:
        """Readings in the log after ``position``, those of this transaction included."""
        rows = self._sql.execute("SELECT body FROM entries WHERE position>? ORDER BY position", (position,))
        for (body,) in rows.fetchall():
            entry = encoding.decode(body)
            if isinstance(entry, VitalBatch):
                yield entry

    def give_out(self, device: str, before: bytes | None, now: bytes) -> None:
        """Readings of the device have followed its wearers ``now``; raises ``PositionConflict`` when another owner of
        the file was first."""
        changed = self._sql.execute(
            "INSERT INTO wearers VALUES(?,?) ON CONFLICT(device) DO UPDATE SET body=excluded.body WHERE body IS ?",
            (device, now, before),
        ).rowcount
        if changed != 1:
            raise PositionConflict("wearers", 0, 1)

    def _past_newest(
        self, device: Int64, vital: npt.NDArray[np.uint16], source_time_ns: Int64, received_ns: Int64
    ) -> npt.NDArray[np.bool_]:
        newest = self._journal.newest
        streams, row_stream = np.unique(device * CODE_SPACE + vital, return_inverse=True)
        names = streams.tolist()
        before = np.array([newest.get(stream, NO_TIME) for stream in names], dtype=np.int64)
        past = source_time_ns > before[row_stream]
        # A clock that is years ahead for one reading would make all that follow it look old.
        credible = source_time_ns <= received_ns + _AHEAD_NS
        np.maximum.at(before, row_stream[credible], source_time_ns[credible])
        newest.update(zip(names, before.tolist(), strict=True))
        return np.asarray(past, dtype=np.bool_)

    def append(self, entry: Entry) -> int:
        """Append a derived entry to the vitals stream."""
        return self._tx.append(STREAM, encoding.encode(entry))

    def advance(self, expected: int, new: int) -> None:
        """Move the position in the raw log; raises ``PositionConflict``."""
        moved = self._sql.execute("UPDATE progress SET position=? WHERE position=?", (new, expected)).rowcount
        if moved != 1:
            found = self._sql.execute("SELECT position FROM progress").fetchone()[0]
            raise PositionConflict("ingest", expected, int(found))

    def trust(self, heads: Mapping[str, tuple[int, int]]) -> None:
        """Record the newest trusted wall time and sequence of devices."""
        self._sql.executemany(
            "INSERT INTO heads VALUES(?,?,?) ON CONFLICT(device) DO UPDATE SET source_time_ns=excluded.source_time_ns, "
            "seq=excluded.seq WHERE (excluded.source_time_ns, excluded.seq) > (heads.source_time_ns, heads.seq)",
            [(self.device_id(token), time_ns, seq) for token, (time_ns, seq) in heads.items()],
        )

    def learn(self, device: str, odd: Iterable[tuple[int, int, int]], epochs: Iterable[Epoch], now_ns: int) -> None:
        """Record odd records (sequence, time as sent, arrival) of a device, and the epochs learned from them."""
        ident = self.device_id(device)
        self._sql.executemany("INSERT OR IGNORE INTO odd_records VALUES(?,?,?,?)", [(ident, *one) for one in odd])
        self._sql.executemany(
            "INSERT INTO epochs(device, from_seq, first_ns, pair_seq, pair_ns, shift_ns, learned_ns) "
            "VALUES(?,?,?,?,?,?,?)",
            [(ident, *epoch, now_ns) for epoch in epochs],
        )

    def count(self, tally: Tally) -> None:
        """Add a cycle's counts to the ledgers."""
        added = ", ".join(f"{name}={name}+excluded.{name}" for name in COUNTS)
        self._sql.executemany(
            f"INSERT INTO ledgers VALUES(?,?,?,?,?,?,?,?) ON CONFLICT(device) DO UPDATE SET {added}",
            [(self.device_id(token), *counts) for token, counts in tally.counts.items()],
        )

    def hold(self, items: Sequence[Held]) -> None:
        """Put messages into quarantine, payloads sealed."""
        self._sql.executemany(
            "INSERT INTO quarantine(device, adapter, adapter_version, kind, reason, detail, received_ns, size, "
            "message, payload) VALUES(?,?,?,?,?,?,?,?,?,?)",
            [
                (i.device, i.adapter, i.adapter_version, i.kind, i.reason.value, i.detail, i.received_ns,
                 len(i.payload), i.message, self._sealer.seal(i.payload, _CONTEXT))
                for i in items
            ],
        )  # fmt: skip

    def close_item(self, ident: str) -> bool:
        """Take an item out of quarantine; False when somebody did before."""
        closed = self._sql.execute("UPDATE quarantine SET open=0 WHERE id=? AND open", (_number(ident),)).rowcount
        return closed == 1


def _comparable(value: npt.NDArray[np.float64], flags: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Values as identities hold them: without a number, below and above the range are two different values."""
    sides = np.where(flags & Flag.BELOW_RANGE, -np.inf, np.where(flags & Flag.ABOVE_RANGE, np.inf, np.nan))
    return np.where(np.isnan(value), sides, value)


def _repeated(keys: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
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
