"""Row ids of the journal as text: cursors of its lists, names of its items."""

from typing import Final

from vitals.errors import InvalidRequest

LARGEST_ID: Final = 2**63 - 1
"""The largest row id of SQLite."""


def place(cursor: str) -> int:
    """The id that a page before ended with; raises ``InvalidRequest`` for what no page ends with."""
    if not cursor:
        return 0
    if not cursor.isdecimal() or int(cursor) > LARGEST_ID:
        raise InvalidRequest("cursor", "is not of this list")
    return int(cursor)


def row_of(ident: str) -> int:
    """The row that an item's id names; -1, which no row has, for what is no id."""
    number = int(ident) if ident.isdecimal() else -1
    return number if number <= LARGEST_ID else -1
