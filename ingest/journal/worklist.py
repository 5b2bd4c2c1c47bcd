"""The unassigned worklist: readings that wait for a wearer, and what became of them.

Its tables stand in the file of :mod:`ingest.journal.identities` and change in the transactions of a cycle. An item's
readings are counted as unassigned in the ledger, but for *recalled* ones: those were stored for somebody before and
stay counted as stored. What a person discards keeps its item and its count.
"""

from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.journal.cursors import row_of
from ingest.placing.named import forgotten
from vitals import encoding
from vitals.errors import NotFound
from vitals.model import VitalBatch
from vitals.records import UnassignedItem

_COLUMNS = "id, device, readings, reason, first_ns, last_ns, received_ns"
_OPEN = "id NOT IN (SELECT item FROM resolutions)"

Query = Callable[[str, Sequence[object]], list[tuple[Any, ...]]]
"""Reads rows of the file outside of any transaction."""


class Waiting(msgspec.Struct, frozen=True):
    """Readings of one device on their way to the unassigned worklist."""

    device: str
    reason: str
    batch: VitalBatch
    recalled: bool = False


class HeldItem(NamedTuple):
    """An open item with its readings."""

    item: UnassignedItem
    batch: VitalBatch
    recalled: bool


def _opened(row: Sequence[object]) -> HeldItem:
    *fields, body, recalled = row
    batch = encoding.decode(body)  # type: ignore[arg-type]
    assert isinstance(batch, VitalBatch)
    return HeldItem(UnassignedItem(str(fields[0]), *fields[1:]), batch, bool(recalled))  # type: ignore[arg-type]


_WHOLE = f"SELECT {_COLUMNS}, body, id IN (SELECT item FROM recalled) FROM unassigned WHERE {_OPEN}"  # noqa: S608


def listed(query: Query, after: int, limit: int) -> list[UnassignedItem]:
    """Open items with id > ``after``, by id."""
    rows = query(f"SELECT {_COLUMNS} FROM unassigned WHERE id > ? AND {_OPEN} ORDER BY id LIMIT ?", (after, limit))  # noqa: S608
    return [UnassignedItem(str(row[0]), *row[1:]) for row in rows]


def shown(query: Query, ident: str) -> tuple[UnassignedItem, VitalBatch]:
    """An open item and its readings; raises ``NotFound``."""
    rows = query(f"{_WHOLE} AND id=?", (row_of(ident),))
    if not rows:
        raise NotFound("unassigned item", ident)
    held = _opened(rows[0])
    return held.item, forgotten(held.batch)


def held(sql: Connection, ident: str) -> HeldItem:
    """The same, in a transaction."""
    row = sql.execute(f"{_WHOLE} AND id=?", (row_of(ident),)).fetchone()
    if row is None:
        raise NotFound("unassigned item", ident)
    return _opened(row)


def of_device(sql: Connection, device: str) -> list[HeldItem]:
    """Every open item of a device, by id."""
    return [_opened(row) for row in sql.execute(f"{_WHOLE} AND device=? ORDER BY id", (device,)).fetchall()]


def wait(sql: Connection, items: Sequence[Waiting]) -> list[str]:
    """Put readings on the worklist; their items' ids."""
    idents = []
    for item in items:
        ident = sql.execute(
            "INSERT INTO unassigned(device, readings, reason, first_ns, last_ns, received_ns, body) "
            "VALUES(?,?,?,?,?,?,?)",
            (item.device, *_summary(item.batch, item.reason)),
        ).lastrowid
        if item.recalled:
            sql.execute("INSERT INTO recalled VALUES(?)", (ident,))
        idents.append(str(ident))
    return idents


def take(sql: Connection, item: HeldItem, rows: npt.NDArray[np.bool_]) -> None:
    """Take ``rows`` off an item; one that is left with none goes away."""
    ident, rest = int(item.item.id), item.batch.take(~rows)
    if len(rest):
        sql.execute(
            "UPDATE unassigned SET readings=?, reason=?, first_ns=?, last_ns=?, received_ns=?, body=? WHERE id=?",
            (*_summary(rest, item.item.reason), ident),
        )
        return
    sql.execute("DELETE FROM unassigned WHERE id=?", (ident,))
    sql.execute("DELETE FROM recalled WHERE item=?", (ident,))


def resolve(sql: Connection, ident: str, outcome: str, patient: str | None, author: str, at_ns: int) -> None:
    """Close an item: who decided what."""
    sql.execute("INSERT INTO resolutions VALUES(?,?,?,?,?)", (row_of(ident), outcome, patient, author, at_ns))


def _summary(batch: VitalBatch, reason: str) -> tuple[int, str, int, int, int, bytes]:
    return (
        len(batch), reason, int(batch.time_ns.min()), int(batch.time_ns.max()), int(batch.received_ns.max()),
        encoding.encode(batch),
    )  # fmt: skip
