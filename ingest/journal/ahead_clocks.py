"""Clocks that are ahead, at rest; what is learned of them is :mod:`ingest.placing.ahead`."""

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.placing.ahead import AheadClock
from vitals.log.local import LocalLog

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AheadClock).decode


def ahead_clocks(log: LocalLog, device: str | None = None) -> dict[str, AheadClock]:
    """By device token; that of one device, or of all."""
    rows = log.query("SELECT device, body FROM ahead_clocks WHERE ?1 IS NULL OR device=?1", (device,))
    return {token: _decode(body) for token, body in rows}


def keep_ahead_clocks(sql: sqlite3.Connection, clocks: Mapping[str, AheadClock]) -> None:
    """Write clocks as they are known now; one of which nothing is known leaves no row."""
    for device, clock in clocks.items():
        if clock == AheadClock():
            sql.execute("DELETE FROM ahead_clocks WHERE device=?", (device,))
        else:
            sql.execute("INSERT OR REPLACE INTO ahead_clocks VALUES(?,?)", (device, _encode(clock)))
