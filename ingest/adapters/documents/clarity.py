"""``clarity``: the CSV export of a continuous glucose monitor's reporting site (tests/fixtures/cgm).

Layout: optional byte order mark, a header line in every payload, then any rows of the file. Columns are found by
name; the glucose column's name gives the unit. Rows of event type ``EGV`` are readings of interstitial glucose; all
others (name, birth date, device, alert settings, events) are skipped and nothing of them is copied. ``Low`` and
``High`` in the glucose column mean below and above the sensor's range.

Exports in other languages have other words. Known without a setting are those of the English export; the device's
settings hold the words of any other (``SETTINGS``). Cells are separated by commas, semicolons or tabs, whichever the
header has most of; a number may have a decimal comma, with at most two digits behind it. Names of columns are compared
without regard to case and to blanks around them.

Identity: the timestamp as exported, wall time without a zone, with ``seq`` 0. ``Index`` is no identity: each export
numbers its rows anew, and one index may stand on two rows.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject, SourceClock, unit_code, vital_code
from ingest.adapters.reading.marks import without_marks
from ingest.adapters.reading.timestamps import parse_rfc3339
from ingest.files.splitting import CsvRows
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason
from vitals.model import Message

SETTINGS: Final = MappingProxyType(
    {
        "timestamp_column": "Timestamp (YYYY-MM-DDThh:mm:ss)",
        "event_type_column": "Event Type",
        "glucose_column": "Glucose Value",
        "reading_word": "EGV",
        "low_word": "Low",
        "high_word": "High",
    }
)
"""Setting of the device -> the word of the English export (tests/fixtures/cgm). The unit stands in brackets behind the
name of the glucose column."""
_UNITS: Final = MappingProxyType({unit.lower(): unit_code(unit) for unit in ("mg/dL", "mmol/L")})
_NUMBER: Final = re.compile(r"\d{1,9}(?:\.\d{1,9}|,\d{1,2})?", re.ASCII)
_NO_UTF8: Final = re.compile("[\udc80-\udcff]")
_DELIMITERS: Final = (",", ";", "\t")
_ISF: Final = vital_code("glucose_isf")
_WALL_LENGTH: Final = len("2016-10-24T11:24:17")


class _Header(NamedTuple):
    """Where the cells are, and what unit the glucose is in."""

    width: int
    timestamp: int
    event_type: int
    glucose: int
    unit: int
    reading: str
    sides: Mapping[str, int]


def _word(name: str, context: Context) -> str:
    return _plain(context.settings.get(name) or SETTINGS[name])


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _header(cells: Sequence[str], context: Context) -> _Header:
    names = [_plain(cell) for cell in cells]
    places = {}
    for name in ("timestamp_column", "event_type_column"):
        places[name] = [place for place, found in enumerate(names) if found == _word(name, context)]
    glucose = _word("glucose_column", context)
    units = {f"{glucose} ({unit})": code for unit, code in _UNITS.items()}
    places["glucose_column"] = [place for place, found in enumerate(names) if found in units]
    for name, found in places.items():
        if len(found) != 1:
            reason = Reason.AMBIGUOUS_ENCODING if found else Reason.MISSING_FIELD
            raise DecodeError(reason, f"header: {len(found)} columns {context.settings.get(name) or SETTINGS[name]!r}")
    ((timestamp,), (event_type,), (value,)) = places.values()
    sides = {_word("low_word", context): int(Flag.BELOW_RANGE), _word("high_word", context): int(Flag.ABOVE_RANGE)}
    return _Header(len(names), timestamp, event_type, value, units[names[value]], _word("reading_word", context), sides)


def _time(text: str) -> int:
    if len(text) != _WALL_LENGTH or text[10] != "T":
        raise DecodeError(Reason.BAD_TIME, "timestamp")
    try:
        return parse_rfc3339(text)[0]
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, "timestamp") from None


def _value(text: str, sides: Mapping[str, int]) -> tuple[float, int]:
    """Number and flags of a glucose cell."""
    if _NUMBER.fullmatch(text):
        return float(text.replace(",", ".")), 0
    if not text:
        raise DecodeError(Reason.MISSING_FIELD, "glucose")
    flags = sides.get(_plain(text))
    if flags is None:
        raise DecodeError(Reason.BAD_VALUE, "glucose")
    return float("nan"), flags


def _add_row(index: int, cells: list[str], header: _Header, readings: ReadingsBuilder) -> None:
    if len(cells) != header.width:
        # A cut row may end inside its number: a width that differs makes no cell of it trustworthy.
        raise DecodeError(Reason.MALFORMED, f"{len(cells)} cells, the header has {header.width}")
    if _plain(cells[header.event_type]) != header.reading:
        return
    time_ns = _time(cells[header.timestamp])
    value, flags = _value(cells[header.glucose], header.sides)
    readings.add(index, _ISF, value, header.unit, time_ns, clock=SourceClock.WALL, flags=flags)


def _text(payload: bytes) -> str:
    """The text; bytes that are no UTF-8 are lone surrogates, which no cell that is read may hold."""
    if not payload:
        raise DecodeError(Reason.EMPTY)
    text = without_marks(payload).decode("utf-8", "surrogateescape")
    found = _NO_UTF8.search(text.partition("\n")[0])
    if found:
        raise DecodeError(Reason.MALFORMED, f"header: not UTF-8 at character {found.start()}")
    return text


def _add_file(index: int, payload: bytes, context: Context, readings: ReadingsBuilder) -> None:
    """Add every good row; raise the first problem, with the number of others, after the last row."""
    # strict: an unclosed quote is an error then, instead of a cell that swallows the rest of the file.
    text = _text(payload)
    first_line = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    problems: list[DecodeError] = []
    header: _Header | None = None
    number = 0
    while True:
        try:
            cells = next(rows, None)
            if cells is None:
                break
            if header is None:
                header = _header(cells, context)
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


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of all ``EGV`` rows; a payload with bad rows keeps its good ones and is rejected once."""
    readings = ReadingsBuilder()
    rejects: list[Reject] = []
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        if message.kind not in ADAPTER.kinds:
            rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        try:
            _add_file(index, message.payload, context, readings)
        except DecodeError as problem:
            rejects.append(Reject(index, problem.reason, problem.detail))
    return Decoded(readings.build(), rejects=rejects)


ADAPTER = Adapter(
    name="clarity",
    version=2,
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
    settings=MappingProxyType(
        {
            "timestamp_column": "name of the column of times in an export that is not in English",
            "event_type_column": "likewise, of the kind of each row",
            "glucose_column": "likewise, of the glucose values, without the unit in brackets behind it",
            "reading_word": "likewise, the kind of a row that is a reading",
            "low_word": "likewise, the word for a value below the sensor's range",
            "high_word": "likewise, the word for a value above it",
        }
    ),
    files=MappingProxyType({"export": CsvRows()}),
)
