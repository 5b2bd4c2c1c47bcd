"""XML files to payloads: elements that stand directly in the root, whatever stands between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from ingest.files import splitting
from ingest.files.splitting import Broken, Frame, Piece, Record, Source, pack

_HEAD: Final = 1024 * 1024
"""Bytes before the root element, at most."""
_ENDS_NAME: Final = b" \t\r\n>/"
_NO_CONTROLS: Final = bytes(code if code >= 0x20 or code in b"\t\n\r" else 0x20 for code in range(256))


def without_controls(text: bytes) -> bytes:
    """UTF-8 with a space in place of each control character that XML forbids: phones write them in names of sources
    (tests/fixtures/cases/apple-export-control-char). A number that holds one is no number any more."""
    return text.translate(_NO_CONTROLS)


@dataclass(frozen=True, slots=True)
class XmlRecords:
    """The ``records`` (element names) that stand directly in ``root``; all else, a document type above all, is left
    out. A record that is no XML (a reference to an entity, no end) is skipped; control characters become spaces."""

    root: str
    records: Sequence[str]
    member: str = ""
    place: str = "line"

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = False) -> Iterator[Piece]:
        frame = Frame(f"<{self.root}>\n".encode(), f"\n</{self.root}>\n".encode(), b"\n", self.place)
        scan = _XmlScan(self.root, frozenset(self.records), source)
        yield from pack(scan, frame, source, limit, kind, alone=alone)


class _HoldsItself(Exception):
    """A record begins inside one of the same name: the outer one lost its end."""


@dataclass(slots=True)
class _XmlScan:
    """Iterates over the elements and the lines in which they begin.

    A parser ends at the first fault. The next one is told the root's start tag and goes on at the first tag of a record
    behind the fault. ``_buffer`` begins at byte ``_base`` of the file, in its line ``_line``.
    """

    root: str
    names: frozenset[str]
    source: Source
    _buffer: bytearray = field(default_factory=bytearray)
    _base: int = 0
    _line: int = 1
    _depth: int = 0
    _event: int = 0
    _began: int = -1
    _began_line: int = 0
    _open: str = ""
    _ended: bool = False
    _found: list[Record] = field(default_factory=list)

    def __iter__(self) -> Iterator[Record]:
        self._find_root()
        (parser, shift), block, told = self._parser(), bytes(self._buffer), -1
        while not self._is_over():
            try:
                parser.Parse(block, not block)
            except (expat.ExpatError, _HoldsItself) as problem:
                yield from self._taken()
                if self._is_over():
                    return
                at = self._event if isinstance(problem, _HoldsItself) else parser.ErrorByteIndex + shift
                where = f"line {self._line_of(at)}: not XML at byte {at}"
                # An element is looked at again for records inside it, and its end tag is no fault of its own.
                is_known = at <= told or (self._depth == 1 and self._buffer[: at - self._base].endswith(b"</"))
                told = max(told, at)
                if not self._resume(at):
                    if not is_known:
                        self.source.problem(f"{where}; the rest is left out")
                    return
                if not is_known:
                    self.source.problem(f"{where}; left out")
                (parser, shift), block = self._parser(f"<{self.root}>".encode()), bytes(self._buffer)
                continue
            yield from self._taken()
            self._forget()
            block = self._read()

    def _is_over(self) -> bool:
        return self._ended

    def _read(self) -> bytes:
        block = without_controls(self.source.read())
        self._buffer += block
        return block

    def _taken(self) -> list[Record]:
        found, self._found = self._found, []
        return found

    def _parser(self, prefix: bytes = b"") -> tuple[expat.XMLParserType, int]:
        """A parser of what stands at ``_base``, told ``prefix`` before, and what to add to its byte indices."""
        parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        shift, first_line = self._base - len(prefix), self._line

        def start(name: str, _attributes: object) -> None:
            self._event = parser.CurrentByteIndex + shift
            self._depth += 1
            if self._depth == 2:
                self._open = name if name in self.names else ""
                if self._open:
                    self._began, self._began_line = self._event, first_line + parser.CurrentLineNumber - 1
            elif name == self._open:
                raise _HoldsItself

        def end(name: str) -> None:
            self._event = parser.CurrentByteIndex + shift
            self._depth -= 1
            self._ended = self._depth == 0
            if self._depth == 1:
                self._open = ""
                if self._began >= 0:
                    self._close(name)

        self._depth, self._began, self._open, self._event = 0, -1, "", self._base
        if prefix:
            parser.Parse(prefix, False)
            self._depth = 1
        parser.StartElementHandler, parser.EndElementHandler = start, end
        return parser, shift

    def _close(self, name: str) -> None:
        # The index is that of the end tag; of an empty element, that of its end.
        at = self._event - self._base
        if self._buffer.startswith(f"</{name}".encode(), at):
            at = self._buffer.index(b">", at) + 1
        self._found.append((self._began_line, bytes(self._buffer[self._began - self._base : at])))
        self._began = -1

    def _line_of(self, at: int) -> int:
        """The line of a fault: that in which the open record, or the tag that holds the fault, begins."""
        if self._began >= 0:
            return self._began_line
        end = at - self._base
        tag = self._buffer.rfind(b"<", 0, end)
        if tag >= 0 and self._buffer.find(b">", tag, end) < 0:
            end = tag
        return self._line + self._buffer.count(b"\n", 0, end)

    def _resume(self, at: int) -> bool:
        """Move on behind a fault at byte ``at``, to the next tag of a record or the end of the root; False for none."""
        # What an element without an end swallowed is looked at again.
        self._drop((self._began + 1 if self._began >= 0 else max(at, self._base + 1)) - self._base)
        marks = [f"<{name}".encode() for name in (*self.names, f"/{self.root}")]
        while True:
            found = [place for place in map(self._mark, marks) if place >= 0]
            if found:
                self._drop(min(found))
                return True
            self._drop(max(0, len(self._buffer) - max(map(len, marks))))
            if not self._read():
                return False

    def _mark(self, mark: bytes) -> int:
        """Where a tag of this name begins in the buffer, -1 where none does as yet."""
        place = self._buffer.find(mark)
        while 0 <= place < len(self._buffer) - len(mark):
            if self._buffer[place + len(mark)] in _ENDS_NAME:
                return place
            place = self._buffer.find(mark, place + 1)
        return -1

    def _drop(self, count: int) -> None:
        """Forget the first bytes of the buffer."""
        self._line += self._buffer.count(b"\n", 0, count)
        self._base += count
        del self._buffer[:count]

    def _find_root(self) -> None:
        """Read up to the root element, which begins the buffer then."""
        mark = f"<{self.root}".encode()
        while True:
            block = self._read()
            at = self._buffer.find(mark)
            if 0 <= at < len(self._buffer) - len(mark):
                if self._buffer[at + len(mark)] in _ENDS_NAME:
                    self._drop(at)
                    return
                raise Broken(f"no element {self.root}")
            if not block or len(self._buffer) > _HEAD:
                raise Broken(f"no element {self.root} in its first {len(self._buffer)} bytes")

    def _forget(self) -> None:
        """Drop bytes that were read; give up an element without an end."""
        if self._began >= 0 and len(self._buffer) > splitting.MAX_ELEMENT:
            self.source.problem(f"line {self._began_line}: over {splitting.MAX_ELEMENT} bytes; left out")
            self._began = -1
        self._drop((self._began if self._began >= 0 else self._event) - self._base)
        if len(self._buffer) > splitting.MAX_ELEMENT:
            raise Broken(f"line {self._line}: no end within {splitting.MAX_ELEMENT} bytes; the rest is left out")
