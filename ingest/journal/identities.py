"""Ingest's durable state, in the file and the transactions of the vitals log (SQLite).

One transaction per cycle holds the derived entries, the position in the raw log, the identities of new readings, both
ledgers, quarantine and unassigned items: after a crash either all of a cycle happened or none of it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ingest.journal import recognition
from ingest.journal.cursors import row_of
from ingest.journal.recognition import Recogniser
from ingest.journal.tally import COUNTS, Tally
from ingest.placing.epochs import DeviceClock, Epoch, clocks_of
from vitals import encoding
from vitals.errors import NotFound, PositionConflict
from vitals.glossary import Reason
from vitals.log.local import LocalLog, LocalTransaction
from vitals.model import Entry, VitalBatch
from vitals.ports import Sealer
from vitals.records import QuarantineItem

SCHEMA = f"""{recognition.SCHEMA}
CREATE TABLE IF NOT EXISTS progress(one INTEGER PRIMARY KEY CHECK(one = 1), position INTEGER NOT NULL);
INSERT OR IGNORE INTO progress VALUES(1, 0);
CREATE TABLE IF NOT EXISTS devices(id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE);
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
CREATE TABLE IF NOT EXISTS alarms(
  device TEXT NOT NULL, alarm TEXT NOT NULL, patient TEXT NOT NULL, about TEXT NOT NULL, active INTEGER NOT NULL,
  time_ns INTEGER NOT NULL, told_ns INTEGER, priority INTEGER NOT NULL, PRIMARY KEY(device, alarm)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unknown_codes(
  id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, adapter TEXT NOT NULL, kind TEXT NOT NULL,
  code TEXT NOT NULL, count INTEGER NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
  samples TEXT NOT NULL, UNIQUE(device, adapter, kind, code));
"""
STREAM = "vitals"
_CONTEXT = b"quarantine"


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
            (row_of(ident),),
        )
        if not rows:
            raise NotFound("quarantine item", ident)
        row = rows[0]
        return _item(row, self._sealer.open(row[9], _CONTEXT)), int(row[10]), bool(row[11])


def _item(row: Sequence[Any], payload: bytes = b"") -> QuarantineItem:
    ident, device, adapter, version, kind, reason, detail, received_ns, size = row[:9]
    return QuarantineItem(
        str(ident), device, adapter, version, kind, Reason(reason), detail, received_ns, size, payload
    )


class Cycle(Recogniser):
    """The write side of one transaction."""

    def __init__(self, journal: Journal, tx: LocalTransaction, sealer: Sealer) -> None:
        super().__init__(tx.connection, journal.newest)
        self._journal, self._tx, self._sealer = journal, tx, sealer

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
        closed = self._sql.execute("UPDATE quarantine SET open=0 WHERE id=? AND open", (row_of(ident),)).rowcount
        return closed == 1
