"""``clarity``: the CSV export of a continuous glucose monitor's reporting site (tests/fixtures/cgm).

Layout: optional byte order mark, a header line in every payload, then any rows of the file. Columns are found by
name; the glucose column's name gives the unit. Rows of event type ``EGV`` are readings of interstitial glucose; all
others (name, birth date, device, alert settings, events) are skipped and nothing of them is copied. ``Low`` and
``High`` in the glucose column mean below and above the sensor's range.

Exports in other languages have other words. Known without a setting are those of the English export; the device's
settings hold the words of any other (``SETTINGS``): no reference confirms them, and what is refused for a word names
its setting. The text is UTF-8, UTF-16 with its mark, or else Windows-1252. Cells are separated by commas, semicolons or
tabs, whichever the header has most of; a number may have a decimal comma, with at most two digits behind it. Names of
columns are compared without regard to case and to blanks around them.

Identity: the timestamp as exported, wall time without a zone, with ``seq`` 0. ``Index`` is no identity: each export
numbers its rows anew, and one index may stand on two rows. Another value for a time that stands in an earlier row, or
in another payload, is another measurement: of the hour that the clocks showed twice, also where the zone that is set
for the device does not repeat it. Such a row is marked.
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
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_LEAST_FOREIGN: Final = 12
"""So many readings of one other kind are an hour of a sensor, not a few alert settings."""
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
            word = context.settings.get(name) or SETTINGS[name]
            raise DecodeError(reason, f"header: {len(found)} columns {word!r}: setting {name} has its name")
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
        words = ": no number, and no word of the settings low_word and high_word" if text.strip().isalpha() else ""
        raise DecodeError(Reason.BAD_VALUE, f"glucose{words}")
    return float("nan"), flags


class _Rows:
    """The rows of one payload."""

    def __init__(self, index: int, message: Message, header: _Header, readings: ReadingsBuilder) -> None:
        self._index, self._message, self._header, self._readings = index, message, header, readings
        self._others = 0
        self.added = 0

    def add(self, cells: list[str]) -> None:
        """One row; raises ``DecodeError``."""
        header = self._header
        if len(cells) != header.width:
            # A cut row may end inside its number: a width that differs makes no cell of it trustworthy.
            raise DecodeError(Reason.MALFORMED, f"{len(cells)} cells, the header has {header.width}")
        if _plain(cells[header.event_type]) != header.reading:
            is_like = len(cells[header.timestamp]) == _WALL_LENGTH and _NUMBER.fullmatch(cells[header.glucose])
            self._others += bool(is_like)
            return
        time_ns = _time(cells[header.timestamp])
        value, flags = _value(cells[header.glucose], header.sides)
        self.added += 1
        self._readings.add(
            self._index, _ISF, value, header.unit, time_ns, clock=SourceClock.WALL, flags=flags,
            document=self._message.ordinal,
        )  # fmt: skip

    def check(self) -> None:
        """Raise ``DecodeError`` where every row that looks like a reading is of another kind than readings are."""
        if not self.added and self._others >= _LEAST_FOREIGN:
            raise DecodeError(Reason.BAD_VALUE, "no row is a reading: setting reading_word has their kind")


def _text(payload: bytes) -> str:
    """The text of a payload in any of its encodings."""
    if not payload:
        raise DecodeError(Reason.EMPTY)
    if payload.startswith(_UTF_16):
        return payload.decode("utf-16", "replace")
    plain = without_marks(payload)
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("cp1252", "replace")


def _add_file(index: int, message: Message, context: Context, readings: ReadingsBuilder) -> None:
    """Add every good row; raise the first problem, with the number of others, after the last row."""
    # strict: an unclosed quote is an error then, instead of a cell that swallows the rest of the file.
    text = _text(message.payload)
    first_line = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first_line.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    problems: list[DecodeError] = []
    found: _Rows | None = None
    number = 0
    while True:
        try:
            cells = next(rows, None)
            if cells is None:
                break
            if found is None:
                found = _Rows(index, message, _header(cells, context), readings)
                continue
            number += 1
            if cells:
                found.add(cells)
        except csv.Error:
            if found is None:
                raise DecodeError(Reason.MALFORMED, "header: not CSV") from None
            number += 1
            problems.append(DecodeError(Reason.MALFORMED, f"row {number}: not CSV"))
        except DecodeError as problem:
            if found is None:
                raise
            problems.append(DecodeError(problem.reason, f"row {number}: {problem.detail}"))
    if found is None:
        raise DecodeError(Reason.MISSING_FIELD, "header")
    if problems:
        first, others = problems[0], len(problems) - 1
        raise DecodeError(first.reason, f"{first.detail}; {others} more" if others else first.detail)
    found.check()


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of all ``EGV`` rows; a payload with bad rows keeps its good ones and is rejected once."""
    readings = ReadingsBuilder()
    rejects: list[Reject] = []
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        if message.kind not in ADAPTER.kinds:
            rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        try:
            _add_file(index, message, context, readings)
        except DecodeError as problem:
            rejects.append(Reject(index, problem.reason, problem.detail))
    return Decoded(readings.build(), rejects=rejects, document=readings.documents())


ADAPTER = Adapter(
    name="clarity",
    version=3,
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
