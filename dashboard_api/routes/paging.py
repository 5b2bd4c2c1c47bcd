"""Pages of lists that are in memory."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from dashboard_api.schemas import Paging
from vitals.errors import InvalidRequest

Record = TypeVar("Record")


def after_cursor(records: Sequence[Record], query: Paging, cursor: Callable[[Record], str]) -> Sequence[Record]:
    """Up to ``limit + 1`` records after the one that the cursor names; raises ``InvalidRequest`` for an unknown one."""
    start = 0
    if query.cursor:
        start = next((place for place, one in enumerate(records, 1) if cursor(one) == query.cursor), 0)
        if not start:
            raise InvalidRequest("cursor", "is not of this list")
    return records[start : start + query.limit + 1]
