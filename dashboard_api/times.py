"""RFC 3339 at the edge: UTC with ``Z``, no more digits than the time has, in groups of three."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from vitals.errors import InvalidRequest
from vitals.model import Int64
from vitals.times import DAY_S, SECOND_NS

FIRST_NS: Final = -(2**63) + 1
LAST_NS: Final = 2**63 - 1
"""The range of the int64 nanoseconds inside: years 1677 to 2262."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_WIDTHS: Final = ((SECOND_NS, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))


def rfc3339_column(times_ns: Int64) -> list[str]:
    """A column of instants as text, all with the digits that the finest of them needs."""
    unit = next(unit for width, unit in _WIDTHS if not (times_ns % width).any())
    instants: npt.NDArray[np.datetime64[datetime]] = times_ns.view("datetime64[ns]").astype(f"datetime64[{unit}]")
    texts: list[str] = np.datetime_as_string(instants, timezone="UTC").tolist()
    return texts


def parse_time(text: str, field: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time with offset; raises ``InvalidRequest`` that names ``field``."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidRequest(field, "not an RFC 3339 time with offset, such as 2026-01-05T08:30:00Z")
    day, clock, fraction, _, sign, hours, minutes = match.groups()
    try:
        local = datetime.fromisoformat(f"{day}T{clock}+00:00")
    except ValueError as error:
        raise InvalidRequest(field, "no such day or time of day") from error
    offset_s = 0 if sign is None else (int(hours) * 60 + int(minutes)) * 60 * (-1 if sign == "-" else 1)
    since = local - _EPOCH
    time_ns = (since.days * DAY_S + since.seconds - offset_s) * SECOND_NS + int((fraction or "0").ljust(9, "0"))
    if not FIRST_NS <= time_ns <= LAST_NS:
        raise InvalidRequest(field, "outside the years 1678 to 2261")
    return time_ns


@contextmanager
def times_as_words() -> Iterator[None]:
    """What refuses a control entry speaks of its members (``from_ns``); the caller's times are words (``from``)."""
    try:
        yield
    except InvalidRequest as error:
        problem = str(error).removeprefix(f"{error.field}: ")
        raise InvalidRequest(error.field.removesuffix("_ns"), problem.replace("_ns", "")) from error
