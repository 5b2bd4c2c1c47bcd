"""The worklist of unknown codes and doubtful values: what came under a code which is no vital sign here, or under two
at once, numbers that are impossible in their unit, and values of vital signs that cannot be read.

It is fed by events of ``KINDS``, whoever in ingest tells them, and is kept per device and code: how often, since when,
and the newest numbers. Samples are numbers alone: text may name a person. Its table stands in the file of
:mod:`ingest.journal.identities` and changes in the transactions of a cycle.
"""

import math
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any, Final

import msgspec

from ingest.journal.worklist import Query
from vitals.glossary import EventKind
from vitals.model import DeviceEvent
from vitals.records import UnknownCode

KINDS: Final = frozenset(
    {
        EventKind.UNKNOWN_CODE,
        EventKind.CODE_CONFLICT,
        EventKind.IMPLAUSIBLE,
        EventKind.UNIT_SUSPECT,
        EventKind.UNREADABLE,
    }
)
MOST_CODES: Final = 500
"""Codes of a device that are kept apart; those that come after them are counted together as ``OTHERS``."""
OTHERS: Final = "others"
_SAMPLES: Final = 5
_MOST_CHARACTERS: Final = 120
_FIND: Final = "SELECT id, samples FROM unknown_codes WHERE device=? AND adapter=? AND kind=? AND code=?"
_COLUMNS: Final = "id, device, adapter, kind, code, count, first_ns, last_ns, samples"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[float]).decode


def note(sql: Connection, adapter: str, events: Sequence[DeviceEvent]) -> None:
    """Count events of ``KINDS`` that an adapter told, in a cycle's transaction."""
    told: dict[tuple[str, str, str], list[DeviceEvent]] = {}
    for event in events:
        if event.kind in KINDS:
            told.setdefault((event.device, event.kind.value, event.detail[:_MOST_CHARACTERS]), []).append(event)
    for (device, kind, code), found in told.items():
        row = sql.execute(_FIND, (device, adapter, kind, code)).fetchone()
        if row is None and _is_full(sql, device):
            code = OTHERS  # noqa: PLW2901 - counted with the others
            row = sql.execute(_FIND, (device, adapter, kind, code)).fetchone()
        times = [event.time_ns for event in found]
        numbers = [event.value for event in found if event.value is not None and math.isfinite(event.value)]
        if row is None:
            sql.execute(
                "INSERT INTO unknown_codes(device, adapter, kind, code, count, first_ns, last_ns, samples) "
                "VALUES(?,?,?,?,?,?,?,?)",
                (
                    device,
                    adapter,
                    kind,
                    code,
                    len(found),
                    min(times),
                    max(times),
                    _encode(numbers[-_SAMPLES:]).decode(),
                ),
            )
            continue
        samples = [*_decode(row[1]), *numbers][-_SAMPLES:]
        sql.execute(
            "UPDATE unknown_codes SET count=count+?, first_ns=min(first_ns, ?), last_ns=max(last_ns, ?), samples=? "
            "WHERE id=?",
            (len(found), min(times), max(times), _encode(samples).decode(), row[0]),
        )


def _is_full(sql: Connection, device: str) -> bool:
    return bool(sql.execute("SELECT count(*) FROM unknown_codes WHERE device=?", (device,)).fetchone()[0] >= MOST_CODES)


def listed(query: Query, device: str | None, after: int, limit: int) -> list[UnknownCode]:
    """Codes with id > ``after``, by id; of one device when it is given."""
    mine, values = ("device=? AND ", [device]) if device is not None else ("", [])
    rows = query(
        f"SELECT {_COLUMNS} FROM unknown_codes WHERE {mine}id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (*values, after, limit),
    )
    return [_shown(row) for row in rows]


def _shown(row: Sequence[Any]) -> UnknownCode:
    ident, device, adapter, kind, code, count, first_ns, last_ns, samples = row
    return UnknownCode(
        str(ident), device, adapter, EventKind(kind), code, count, first_ns, last_ns, tuple(_decode(samples))
    )
