"""Files to payloads: one splitter per container, memory bounded whatever the file's size.

A splitter cuts a file into payloads that its adapter decodes one by one, each at most ``limit`` bytes. The same bytes
always give the same pieces, so an interrupted import knows by their number where it was. What does not fit or cannot
be read becomes a problem of the source (a place and a length, never the text), and what stands before it is kept.
"""

import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Protocol
from xml.parsers import expat

from vitals.errors import InvalidRequest

BLOCK: Final = 64 * 1024
MAX_ELEMENT: Final = 16 * 1024 * 1024
"""Bytes of one record that are held at most; a longer one is skipped, or ends the file where its end is unknown."""
_HEAD: Final = 1024 * 1024
_ZIP: Final = b"PK\x03\x04"
_BOM: Final = b"\xef\xbb\xbf"
_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Piece:
    """One payload: its kind, how many records it holds, and the bytes of the file read when it was complete."""

    payload: bytes
    kind: str
    records: int
    read: int


class Broken(ValueError):
    """The rest of the file cannot be read; ``str()`` is the problem."""


class Source:
    """A file while it is split: counts bytes and gathers problems, of which it names the first few."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self.size = stream, size
        self.read_bytes = 0
        self.named: list[str] = []
        self.problems = 0

    def read(self, size: int = BLOCK) -> bytes:
        """The next bytes, none at the end; raises ``Broken`` for an archive that is damaged."""
        try:
            data = self._stream.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise Broken(f"cannot be read behind byte {self.read_bytes}: {type(error).__name__}") from None
        self.read_bytes += len(data)
        return data

    def rewind(self) -> None:
        """Begin again."""
        self._stream.seek(0)
        self.read_bytes = 0

    def problem(self, text: str) -> None:
        """Record a part of the file that is not imported."""
        self.problems += 1
        if len(self.named) < _NAMED:
            self.named.append(text)


@contextmanager
def open_source(path: Path, member: str = "") -> Iterator[Source]:
    """A file, or the ``member`` (a file's name without folders) of a ZIP archive.

    Raises:
        InvalidRequest: it cannot be opened, or the archive has no such member.
    """
    with ExitStack() as opened:
        try:
            source = _open(path, member, opened)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise InvalidRequest("FILE", f"{path}: no archive that can be read ({type(error).__name__})") from error
        except OSError as error:
            raise InvalidRequest("FILE", f"{path}: {error.strerror}") from error
        yield source


def _open(path: Path, member: str, opened: ExitStack) -> Source:
    stream = opened.enter_context(path.open("rb"))
    is_zip = member != "" and stream.read(len(_ZIP)) == _ZIP
    stream.seek(0)
    if not is_zip:
        return Source(stream, os.fstat(stream.fileno()).st_size)
    archive = opened.enter_context(zipfile.ZipFile(stream))
    found = [one for one in archive.infolist() if one.filename.rpartition("/")[2].lower() == member]
    if len(found) != 1:
        raise InvalidRequest("FILE", f"the archive has {len(found)} files {member}")
    return Source(opened.enter_context(archive.open(found[0])), found[0].file_size)


class Splitter(Protocol):
    """How a file of one kind of payload is cut."""

    @property
    def member(self) -> str:
        """The file in a ZIP archive that holds the data, "" when such files do not come in archives."""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:
        """Payloads of at most ``limit`` bytes and of ``kind``, in the order of the file; never raises for its bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes around and between the records of a payload."""

    head: bytes = b""
    tail: bytes = b""
    separator: bytes = b""


def pack(
    records: Iterable[bytes], frame: Frame, source: Source, limit: int, kind: str, *, alone: bool = False
) -> Iterator[Piece]:
    """Records in payloads, as many as fit, or one in each (``alone``); ``Broken`` ends the records and is said."""
    room = limit - len(frame.head) - len(frame.tail)
    held: list[bytes] = []
    size = number = 0

    def piece() -> Piece:
        payload = frame.head + frame.separator.join(held) + frame.tail
        return Piece(payload, kind, len(held), source.read_bytes)

    try:
        for record in records:
            number += 1
            needed = len(record) + len(frame.separator)
            if needed > room:
                source.problem(f"record {number}: {len(record)} bytes, a payload holds {max(room, 0)}")
                continue
            if held and (alone or size + needed > room):
                yield piece()
                held, size = [], 0
            held.append(record)
            size += needed
    except Broken as problem:
        source.problem(str(problem))
    if held:
        yield piece()


def lines(source: Source, longest: int) -> Iterator[bytes]:
    """Lines without their ends (LF, CRLF or CR) and without a byte order mark; one over ``longest`` is skipped."""
    rest, number, skipping = b"", 0, False
    while True:
        block = source.read()
        text = rest + block
        # A CR at the end of a block may be half of a CRLF.
        held = text[-1:] if block and text.endswith(b"\r") else b""
        parts = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = (parts[-1] if block else b"") + held
        if block or not (parts[-1] or skipping):
            parts.pop()
        for part in parts:
            number += 1
            line = part.removeprefix(_BOM) if number == 1 else part
            if skipping or len(line) > longest:
                source.problem(f"line {number}: over {longest} bytes")
                skipping = False
            else:
                yield line
        if len(rest) > longest:
            skipping, rest = True, held
        if not block:
            return


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A header line, repeated in every payload, and rows; a quoted cell may hold line ends."""

    member: str = ""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:
        found = self._records(source, limit)
        try:
            header = next(found, b"")
        except Broken as problem:
            source.problem(str(problem))
            return
        yield from pack(found, Frame(header + b"\n", b"\n", b"\n"), source, limit, kind)

    @staticmethod
    def _records(source: Source, limit: int) -> Iterator[bytes]:
        fresh = lines(source, limit)
        again: deque[bytes] = deque()
        number = -1
        while True:
            held: list[bytes] = []
            size = quotes = 0
            while True:
                line = again.popleft() if again else next(fresh, None)
                if line is None:
                    break
                held.append(line)
                size += len(line) + 1
                quotes += line.count(b'"')
                if quotes % 2 == 0 or size > limit:
                    break
            if not held:
                return
            number += 1
            if quotes % 2 == 0:
                if any(held):
                    yield b"\n".join(held)
                continue
            # A quote that nothing closes must not swallow the rows behind it.
            source.problem(f"row {number}: a quoted cell has no end")
            again.extendleft(reversed(held[1:]))


@dataclass(frozen=True, slots=True)
class Packets:
    """Bluetooth packets, one in a line: the characteristic and the bytes in hex, ``2a18 0b0e00...``; # is a remark."""

    member: str = ""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:  # noqa: ARG002 - lines have their own
        number = 0
        try:
            for line in lines(source, 4 * limit):
                number += 1
                name, _, text = line.strip().partition(b" ")
                if not name or name.startswith(b"#"):
                    continue
                try:
                    payload = bytes.fromhex(text.translate(None, b":-,").decode("ascii"))
                    uuid = f"{int(name, 16):04x}"
                except ValueError:
                    payload, uuid = b"", ""
                if not payload or len(payload) > limit or len(uuid) != 4:
                    source.problem(f"line {number}: no characteristic and packet in hex")
                    continue
                yield Piece(payload, uuid, 1, source.read_bytes)
        except Broken as problem:
            source.problem(str(problem))


@dataclass(frozen=True, slots=True)
class Hl7Messages:
    """HL7 v2 messages, one in each payload, segments ended by CR; batch and file headers around them are left out."""

    member: str = ""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:
        yield from pack(self._messages(source, limit), Frame(tail=b"\r"), source, limit, kind, alone=True)

    @staticmethod
    def _messages(source: Source, limit: int) -> Iterator[bytes]:
        held: list[bytes] = []
        size = number = 0
        for line in lines(source, limit):
            number += 1
            segment = line.strip(b"\x0b\x1c \t")
            name = segment[:3]
            if not segment or name in {b"FHS", b"BHS", b"BTS", b"FTS"}:
                continue
            if name == b"MSH":
                if held:
                    yield b"\r".join(held)
                held, size = [], 0
            elif not held:
                source.problem(f"segment {number}: before the first message")
                continue
            size += len(segment) + 1
            # What is over the limit is only counted: the message is refused by its length.
            held.append(segment if size <= limit + BLOCK else b"")
        if held:
            yield b"\r".join(held)


@dataclass(frozen=True, slots=True)
class XmlRecords:
    """The ``records`` (element names) that stand directly in ``root``; all else, a document type above all, is left
    out. References to entities of the document end the file: there are none to look up."""

    root: str
    records: Sequence[str]
    member: str = ""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:
        frame = Frame(f"<{self.root}>\n".encode(), f"\n</{self.root}>\n".encode(), b"\n")
        yield from pack(_XmlScan(self.root, frozenset(self.records), source), frame, source, limit, kind)


@dataclass(slots=True)
class _XmlScan:
    """Iterates over the bytes of elements."""

    root: str
    names: frozenset[str]
    source: Source
    _buffer: bytearray = field(default_factory=bytearray)
    _base: int = 0
    _depth: int = 0
    _number: int = 0
    _event: int = 0
    _began: int = -1
    _ended: bool = False
    _found: list[bytes] = field(default_factory=list)

    def __iter__(self) -> Iterator[bytes]:
        parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True

        def start(name: str, _attributes: object) -> None:
            self._event = parser.CurrentByteIndex
            self._depth += 1
            if self._depth == 2:
                self._number += 1
                if name in self.names:
                    self._began = self._event

        def end(name: str) -> None:
            self._event = parser.CurrentByteIndex
            self._depth -= 1
            self._ended = self._depth == 0
            if self._depth == 1 and self._began >= 0:
                # The index is that of the end tag; of an empty element, that of its end.
                at = self._event - self._base
                if self._buffer.startswith(f"</{name}".encode(), at):
                    at = self._buffer.index(b">", at) + 1
                self._found.append(bytes(self._buffer[self._began - self._base : at]))
                self._began = -1

        parser.StartElementHandler, parser.EndElementHandler = start, end
        skipped = self._find_root()
        block = bytes(self._buffer)
        while not self._ended:
            try:
                parser.Parse(block, not block)
            except expat.ExpatError:
                if not self._ended:
                    yield from self._found
                    raise Broken(f"not XML at byte {skipped + parser.ErrorByteIndex}: the rest is left out") from None
            yield from self._found
            self._found = []
            self._forget()
            block = self.source.read()
            self._buffer += block

    def _find_root(self) -> int:
        """Read up to the root element, which begins the buffer then; how many bytes stand before it."""
        mark = f"<{self.root}".encode()
        while True:
            block = self.source.read()
            self._buffer += block
            at = self._buffer.find(mark)
            if 0 <= at < len(self._buffer) - len(mark):
                if self._buffer[at + len(mark)] in b" \t\r\n>/":
                    del self._buffer[:at]
                    return at
                raise Broken(f"no element {self.root}")
            if not block or len(self._buffer) > _HEAD:
                raise Broken(f"no element {self.root} in its first {len(self._buffer)} bytes")

    def _forget(self) -> None:
        """Drop bytes that were read; give up an element without an end."""
        if self._began >= 0 and len(self._buffer) > MAX_ELEMENT:
            self.source.problem(f"element {self._number}: over {MAX_ELEMENT} bytes")
            self._began = -1
        keep = self._began if self._began >= 0 else self._event
        del self._buffer[: keep - self._base]
        self._base = keep
        if len(self._buffer) > MAX_ELEMENT:
            raise Broken(f"no end within {MAX_ELEMENT} bytes behind element {self._number}: the rest is left out")
