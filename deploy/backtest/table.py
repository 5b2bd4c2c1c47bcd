"""CSV files by row and column: what cannot be read is named. Labelled onsets are such a file."""

import csv
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from dashboard_api.times import parse_time
from vitals.errors import InvalidRequest
from vitals.times import MILLISECOND_NS

_LONGEST_MS: Final = 2**63 // MILLISECOND_NS - 1


class WrongCell(Exception):
    """A cell that cannot be read."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(problem)
        self.column, self.problem = column, problem


def read_events(path: Path) -> list[tuple[str, int]]:
    """Labelled onsets, (patient, time_ns), of a CSV file with the columns ``patient`` and ``time``; other columns are
    passed over.

    Raises:
        InvalidRequest: no such file, a wrong header, the first cell that cannot be read, or no rows.
    """
    table = rows_of(path, "--events")
    _, header = next(table)
    if not {"patient", "time"} <= {*header}:
        raise InvalidRequest("--events", "row 1: the header has no patient, or no time")
    who, when = header.index("patient"), header.index("time")
    found = []
    for number, row in table:
        try:
            found.append((row[who].strip(), time_of(row[when], "time")))
        except WrongCell as wrong:
            raise InvalidRequest("--events", f"row {number}, column time: {wrong.problem}") from wrong
    if not found:
        raise InvalidRequest("--events", f"{path}: no rows")
    return found


def rows_of(path: Path, option: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, numbered as an editor does: first the header, in lower case, as row 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(rows, [])]
            yield 1, header
            for number, row in enumerate(rows, 2):
                if len(row) == len(header):
                    yield number, row
                elif row:
                    raise InvalidRequest(option, f"row {number}: {len(row)} cells, the header has {len(header)}")
    except OSError as error:
        raise InvalidRequest(option, f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(option, f"{path}: is no CSV file in UTF-8") from error


@lru_cache(maxsize=65_536)
def time_of(text: str, column: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time or of milliseconds; raises ``WrongCell``."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        if len(text) > 15 or int(text) > _LONGEST_MS:
            raise WrongCell(column, "milliseconds since 1970 beyond the year 2261")
        return int(text) * MILLISECOND_NS
    try:
        return parse_time(text, column)
    except InvalidRequest as error:
        raise WrongCell(column, str(error).removeprefix(f"{column}: ")) from error
