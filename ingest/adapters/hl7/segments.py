"""HL7 v2 as it is written: segments, fields, components, escapes, times (device-formats.md 6.4, interop.md 2.1).

Layout: segments end with CR, LF or CRLF; the first is ``MSH``, whose fourth byte separates fields and whose second
field names the other delimiters. Text is read byte by byte as ISO 8859-1: everything that an adapter reads is ASCII,
and in UTF-8 no byte of another character is one of a delimiter.
"""

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from ingest.adapter import SourceClock
from ingest.adapters.reading.marks import without_marks
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS
from vitals.errors import DecodeError
from vitals.glossary import Reason
from vitals.times import MINUTE_NS, SECOND_NS

NULL: Final = '""'
"""A field that says that there is no value."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_CHARSETS: Final = re.compile(r"|ASCII|UNICODE|(?:UNICODE )?UTF-?8|8859/\d{1,2}")
# A fraction after a dot or a comma; three digits alone are milliseconds.
_TIME: Final = re.compile(
    r"(\d{8})(?:(\d\d)(?:([0-5]\d)(?:([0-5]\d)(?:[.,](\d{1,9})|(\d{3}))?)?)?)?(?:([+-])(0\d|1[0-4])([0-5]\d))?",
    re.ASCII,
)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class Delimiters(NamedTuple):
    """The characters of MSH-1 and MSH-2; the optional ones are empty when the message names none."""

    field: str
    component: str
    repetition: str = ""
    escape: str = ""
    subcomponent: str = ""

    def components(self, text: str) -> list[str]:
        """Components of a field, escapes undone; the parts of a component stay together."""
        if not self.escape or self.escape not in text:
            return text.split(self.component)
        return [self.plain(part) for part in text.split(self.component)]

    def repetitions(self, text: str) -> list[str]:
        """Repetitions of a field."""
        return text.split(self.repetition) if self.repetition else [text]

    def plain(self, text: str) -> str:
        r"""``text`` with its escapes undone: ``\F\ \S\ \T\ \R\ \E\``, ``\Xdd..\`` and ``\.br\``; others stay."""
        mark = self.escape
        if not mark or mark not in text:
            return text
        pattern = re.compile(f"{re.escape(mark)}([^{re.escape(mark)}]*){re.escape(mark)}")
        return pattern.sub(lambda found: self._unescaped(found[1], found[0]), text)

    def _unescaped(self, code: str, whole: str) -> str:
        known = {
            "F": self.field, "S": self.component, "T": self.subcomponent, "R": self.repetition, "E": self.escape,
            ".br": "\n",
        }  # fmt: skip
        if code in known:
            return known[code]
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            return bytes.fromhex(code[1:]).decode("latin-1")
        return whole


class Segment(NamedTuple):
    """One segment: ``fields[n]`` is field n, ``fields[0]`` the name. ``ended`` tells whether a line end followed."""

    fields: list[str]
    ended: bool

    def field(self, number: int) -> str:
        """Field ``number``, empty when the segment ends before it."""
        return self.fields[number] if number < len(self.fields) else ""


class Document(NamedTuple):
    """A message: its delimiters and MSH; ``lines`` are the others with their number, None for one that is none."""

    delimiters: Delimiters
    header: Segment
    lines: list[tuple[int, Segment | None]]


def document(payload: bytes) -> Document:
    """Split a message, with or without its MLLP frame.

    Raises:
        DecodeError: EMPTY; MALFORMED when it does not begin with an MSH that names its delimiters, or is in a
            character set whose bytes can be taken for delimiters.
    """
    framed = without_marks(payload)
    if not framed:
        raise DecodeError(Reason.EMPTY)
    bare = framed.removeprefix(b"\x0b")
    if framed.endswith((b"\x1c", b"\x1c\r")):
        bare = bare[: bare.rfind(b"\x1c")]
    text = without_marks(bare).lstrip(b"\r\n").decode("latin-1")
    if not text.startswith("MSH"):
        raise DecodeError(Reason.MALFORMED, "MSH")
    ends = list(_ends(text))
    delimiters = _delimiters(text[: ends[0][1]])
    segments = [(text[start:end], ended) for start, end, ended in ends]
    head = segments[0][0].split(delimiters.field)
    # MSH-1 is the separator itself: without it in its place all numbers would be off by one.
    header = Segment(["MSH", delimiters.field, *head[1:]], segments[0][1])
    charsets = [text.strip().upper() for text in delimiters.repetitions(header.field(18))]
    if not _CHARSETS.fullmatch(next(filter(None, charsets), "")):
        raise DecodeError(Reason.MALFORMED, "MSH-18")
    lines = [
        (number, _segment(line, ended, delimiters.field))
        for number, (line, ended) in enumerate(segments[1:], 2)
        if line.strip()
    ]
    return Document(delimiters, header, lines)


def _ends(text: str) -> Iterator[tuple[int, int, bool]]:
    """Start, end and whether a line end follows, of every line."""
    start = 0
    for found in _LINE_END.finditer(text):
        yield start, found.start(), True
        start = found.end()
    if start < len(text):
        yield start, len(text), False


def _delimiters(line: str) -> Delimiters:
    field = line[3:4]
    marks = line[4:].partition(field)[0] if field else ""
    found = field + marks[:4]
    # Letters and digits are content; a fifth mark (version 2.7) only tells that text was cut.
    if len(found) < 2 or len(marks) > 5 or len(set(found)) < len(found) or any(c.isalnum() or c <= " " for c in found):
        raise DecodeError(Reason.MALFORMED, "MSH-2")
    return Delimiters(*found)


def _segment(line: str, ended: bool, separator: str) -> Segment | None:
    fields = line.split(separator)
    return Segment(fields, ended) if _NAME.fullmatch(fields[0]) else None


class Time(NamedTuple):
    """A time as sent: UTC with its offset in minutes, or wall time or a day read as UTC with ``offset`` None."""

    time_ns: int
    offset: int | None
    clock: SourceClock

    def in_zone(self, offset: int) -> "Time":
        """Wall time read with the offset of another field; others stay."""
        if self.clock is not SourceClock.WALL:
            return self
        return Time(self.time_ns - offset * MINUTE_NS, offset, SourceClock.INSTANT)


@lru_cache(maxsize=4096)
def _day(text: str) -> int:
    return date(int(text[:4]), int(text[4:6]), int(text[6:])).toordinal() - _EPOCH_DAY


def time_or_none(text: str) -> Time | None:
    """The time that ``parse_time`` reads, None for a text that is none."""
    try:
        return parse_time(text)
    except ValueError:
        return None


def parse_time(text: str) -> Time:
    """``YYYYMMDD[HH[MM[SS[.S…]]]][±ZZZZ]``; a day alone is DAY, without an offset WALL, else INSTANT.

    A comma may stand for the dot, milliseconds may follow without one, and ``24:00`` is the next day's midnight.
    Worked: ``20240310210522-0400`` is 2024-03-11T01:05:22Z at -240.

    Raises:
        ValueError: not such a time (a month or year alone included), no such day, or outside 1678 to 2261.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time")
    day, hour, minute, second, fraction, millis, sign, zone_hours, zone_minutes = found.groups()
    fraction = fraction or millis
    time_ns = _day(day) * 86_400 * SECOND_NS
    offset = None if sign is None else (int(zone_hours) * 60 + int(zone_minutes)) * (-1 if sign == "-" else 1)
    clock = SourceClock.DAY
    if hour is not None:
        is_end_of_day = hour == "24" and not any(int(part or 0) for part in (minute, second, fraction))
        if hour > "23" and not is_end_of_day:
            raise ValueError("no such hour")
        time_ns += (int(hour) * 3600 + int(minute or 0) * 60 + int(second or 0)) * SECOND_NS
        time_ns += int(fraction.ljust(9, "0")) if fraction else 0
        clock = SourceClock.WALL if offset is None else SourceClock.INSTANT
        time_ns -= (offset or 0) * MINUTE_NS
    if EARLIEST_NS <= time_ns <= LATEST_NS:
        return Time(time_ns, offset if hour is not None else None, clock)
    raise ValueError("outside the years 1678 to 2261")
