"""Clocks that are ahead, at rest; what is learned of them is :mod:`ingest.placing.ahead`."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest.placing.ahead import AheadClock

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AheadClock).decode


def ahead_clocks(
    query: Callable[[str, tuple[str | None]], Sequence[Any]], device: str | None = None
) -> dict[str, AheadClock]:
    """By device token; that of one device, or of all. ``query`` reads the journal's file."""
    rows = query("SELECT device, body FROM ahead_clocks WHERE ?1 IS NULL OR device=?1", (device,))
    return {token: _decode(body) for token, body in rows}


def keep_ahead_clocks(sql: sqlite3.Connection, clocks: Mapping[str, AheadClock]) -> None:
    """Write clocks as they are known now; one of which nothing is known leaves no row."""
    for device, clock in clocks.items():
        if clock == AheadClock():
            sql.execute("DELETE FROM ahead_clocks WHERE device=?", (device,))
        else:
            sql.execute("INSERT OR REPLACE INTO ahead_clocks VALUES(?,?)", (device, _encode(clock)))
