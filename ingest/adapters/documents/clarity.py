"""``clarity``: the CSV export of a continuous glucose monitor's reporting site (tests/fixtures/cgm).

Layout: optional byte order mark, a header line in every payload, then any rows of the file. Columns are found by
name; the glucose column's name gives the unit. Rows of event type ``EGV`` are readings of interstitial glucose; all
others (name, birth date, device, alert settings, events) are skipped and nothing of them is copied. ``Low`` and
``High`` in the glucose column mean below and above the sensor's range.

Identity: the timestamp as exported, wall time without a zone, with ``seq`` 0. ``Index`` is no identity: each export
numbers its rows anew, and one index may stand on two rows.
"""

import csv
import io
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject, SourceClock, unit_code, vital_code
from ingest.adapters.reading.marks import without_marks
from ingest.adapters.reading.timestamps import parse_rfc3339
from ingest.files.splitting import CsvRows
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.model import Message

_TIMESTAMP: Final = "Timestamp (YYYY-MM-DDThh:mm:ss)"
_EVENT_TYPE: Final = "Event Type"
_GLUCOSE: Final = MappingProxyType(
    {
        "Glucose Value (mg/dL)": unit_code("mg/dL"),
        "Glucose Value (mmol/L)": unit_code("mmol/L"),
    }
)
_READING: Final = "EGV"
_NUMBER: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_WORDS: Final = MappingProxyType({"low": int(Flag.BELOW_RANGE), "high": int(Flag.ABOVE_RANGE)})
_ISF: Final = vital_code("glucose_isf")
_WALL_LENGTH: Final = len("2016-10-24T11:24:17")


class _Header(NamedTuple):
    """Where the cells are, and what unit the glucose is in."""

    width: int
    timestamp: int
    event_type: int
    glucose: int
    unit: int


def _header(names: Sequence[str]) -> _Header:
    glucose = [name for name in names if name in _GLUCOSE]
    for name, found in (
        (_TIMESTAMP, names.count(_TIMESTAMP)),
        (_EVENT_TYPE, names.count(_EVENT_TYPE)),
        ("Glucose Value", len(glucose)),
    ):
        if found != 1:
            reason = Reason.AMBIGUOUS_ENCODING if found else Reason.MISSING_FIELD
            raise DecodeError(reason, f"header: {found} columns {name!r}")
    return _Header(
        len(names), names.index(_TIMESTAMP), names.index(_EVENT_TYPE), names.index(glucose[0]), _GLUCOSE[glucose[0]]
    )


def _time(text: str) -> int:
    if len(text) != _WALL_LENGTH or text[10] != "T":
        raise DecodeError(Reason.BAD_TIME, "timestamp")
    try:
        return parse_rfc3339(text)[0]
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, "timestamp") from None


def _value(text: str) -> tuple[float, int]:
    """Number and flags of a glucose cell."""
    if _NUMBER.fullmatch(text):
        return float(text), 0
    if not text:
        raise DecodeError(Reason.MISSING_FIELD, "glucose")
    flags = _WORDS.get(text.lower())
    if flags is None:
        raise DecodeError(Reason.BAD_VALUE, "glucose")
    return float("nan"), flags


def _add_row(index: int, cells: list[str], header: _Header, readings: ReadingsBuilder) -> None:
    if len(cells) != header.width:
        # A cut row may end inside its number: a width that differs makes no cell of it trustworthy.
        raise DecodeError(Reason.MALFORMED, f"{len(cells)} cells, the header has {header.width}")
    if cells[header.event_type] != _READING:
        return
    time_ns = _time(cells[header.timestamp])
    value, flags = _value(cells[header.glucose])
    readings.add(index, _ISF, value, header.unit, time_ns, clock=SourceClock.WALL, flags=flags)


def _text(payload: bytes) -> str:
    if not payload:
        raise DecodeError(Reason.EMPTY)
    try:
        return without_marks(payload).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.MALFORMED, f"not UTF-8 at byte {error.start}") from None


def _add_file(index: int, payload: bytes, readings: ReadingsBuilder) -> None:
    """Add every good row; raise the first problem, with the number of others, after the last row."""
    # strict: an unclosed quote is an error then, instead of a cell that swallows the rest of the file.
    rows = csv.reader(io.StringIO(_text(payload), newline=""), strict=True)
    problems: list[DecodeError] = []
    header: _Header | None = None
    number = 0
    while True:
        try:
            cells = next(rows, None)
            if cells is None:
                break
            if header is None:
                header = _header(cells)
                continue
            number += 1
            if cells:
                _add_row(index, cells, header, readings)
        except csv.Error:
            if header is None:
                raise DecodeError(Reason.MALFORMED, "header: not CSV") from None
            number += 1
            problems.append(DecodeError(Reason.MALFORMED, f"row {number}: not CSV"))
        except DecodeError as problem:
            if header is None:
                raise
            problems.append(DecodeError(problem.reason, f"row {number}: {problem.detail}"))
    if header is None:
        raise DecodeError(Reason.MISSING_FIELD, "header")
    if problems:
        first, others = problems[0], len(problems) - 1
        raise DecodeError(first.reason, f"{first.detail}; {others} more" if others else first.detail)


def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
    """Readings of all ``EGV`` rows; a payload with bad rows keeps its good ones and is rejected once."""
    readings = ReadingsBuilder()
    rejects: list[Reject] = []
    for index, message in enumerate(messages):
        if message.kind not in ADAPTER.kinds:
            rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        try:
            _add_file(index, message.payload, readings)
        except DecodeError as problem:
            rejects.append(Reject(index, problem.reason, problem.detail))
    return Decoded(readings.build(), rejects=rejects)


ADAPTER = Adapter(
    name="clarity",
    version=1,
    title="CGM export (CSV)",
    kinds=MappingProxyType(
        {
            "export": "part of an export: the header line and any rows",
            "": "part of an export: the header line and any rows",
        }
    ),
    vitals=frozenset({"glucose_isf"}),
    decode=decode,
    max_payload=255 * 1024,
    stored_kinds=frozenset({"export"}),
    files=MappingProxyType({"export": CsvRows()}),
)
