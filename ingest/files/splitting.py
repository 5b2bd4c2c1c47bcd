"""Files to payloads: one splitter per container, memory bounded whatever the file's size.

A splitter cuts a file into payloads that its adapter decodes one by one, each at most ``limit`` bytes. The same bytes
always give the same pieces, so an interrupted import knows by their number where it was. A record that does not fit or
cannot be read becomes a problem of the source (its place, never its text); the records around it are kept.
"""

import codecs
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from vitals.errors import InvalidRequest

BLOCK: Final = 64 * 1024
MAX_ELEMENT: Final = 16 * 1024 * 1024
"""Bytes of one record that are held at most; a longer one is skipped, or ends the file where its end is unknown."""
_ZIP: Final = b"PK\x03\x04"
_BOM: Final = b"\xef\xbb\xbf"
_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Piece:
    """One payload: its kind, how many records it holds, the bytes of the file read when it was complete, and the places
    of its first and last record."""

    payload: bytes
    kind: str
    records: int
    read: int
    first: int
    last: int


Record = tuple[int, bytes]
"""Place in the file, as its splitter counts (lines, elements, values), and the bytes."""


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

    @property
    def place(self) -> str:
        """What places count: line, element, value."""

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = False) -> Iterator[Piece]:
        """Payloads of at most ``limit`` bytes and of ``kind``, in the order of the file, each record in one of its own
        with ``alone``; never raises for its bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The bytes around and between the records of a payload, and what their places count."""

    head: bytes = b""
    tail: bytes = b""
    separator: bytes = b""
    place: str = "line"


def pack(
    records: Iterable[Record], frame: Frame, source: Source, limit: int, kind: str, *, alone: bool = False
) -> Iterator[Piece]:
    """Records in payloads, as many as fit, or one in each (``alone``); ``Broken`` ends the records and is said."""
    room = limit - len(frame.head) - len(frame.tail)
    held: list[bytes] = []
    size = first = last = 0

    def piece() -> Piece:
        payload = frame.head + frame.separator.join(held) + frame.tail
        return Piece(payload, kind, len(held), source.read_bytes, first, last)

    try:
        for place, record in records:
            needed = len(record) + len(frame.separator)
            if needed > room:
                source.problem(f"{frame.place} {place}: {len(record)} bytes, a payload holds {max(room, 0)}")
                continue
            if held and (alone or size + needed > room):
                yield piece()
                held, size = [], 0
            first, last = (first if held else place), place
            held.append(record)
            size += needed
    except Broken as problem:
        source.problem(str(problem))
    if held:
        yield piece()


class Blocks(Protocol):
    """Where lines come from: a :class:`Source`, or one in another encoding."""

    def read(self) -> bytes: ...

    def problem(self, text: str) -> None: ...


def lines(source: Blocks, longest: int) -> Iterator[Record]:
    """Lines without their ends (LF, CRLF or CR, NUL) and without a byte order mark; one over ``longest`` is skipped."""
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
            line = (part.removeprefix(_BOM) if number == 1 else part).rstrip(b"\0")
            if skipping or len(line) > longest:
                source.problem(f"line {number}: over {longest} bytes")
                skipping = False
            else:
                yield number, line
        if len(rest) > longest:
            skipping, rest = True, held
        if not block:
            return


class _AsUtf8:
    """A source as UTF-8, whatever its byte order mark says; bytes without one of UTF-16 are passed on as they are."""

    def __init__(self, source: Source) -> None:
        self._source, self.problem = source, source.problem
        self._first: bytes | None = source.read()
        is_wide = self._first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._decoder = codecs.getincrementaldecoder("utf-16")("replace") if is_wide else None

    def read(self) -> bytes:
        """The next bytes, none at the end; raises ``Broken``."""
        while True:
            block = self._source.read() if self._first is None else self._first
            self._first = None
            text = block if self._decoder is None else self._decoder.decode(block, final=not block).encode()
            if text or not block:
                return text


@dataclass(frozen=True, slots=True)
class CsvRows:
    """A header line, repeated in every payload, and rows; a quoted cell may hold line ends. UTF-16 becomes UTF-8."""

    member: str = ""
    place: str = "line"

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = False) -> Iterator[Piece]:
        found = self._records(source, limit)
        try:
            header = next(found, (0, b""))[1]
        except Broken as problem:
            source.problem(str(problem))
            return
        yield from pack(found, Frame(header + b"\n", b"\n", b"\n"), source, limit, kind, alone=alone)

    @staticmethod
    def _records(source: Source, limit: int) -> Iterator[Record]:
        fresh = lines(_AsUtf8(source), limit)
        again: deque[Record] = deque()
        while True:
            held: list[Record] = []
            size = quotes = 0
            while True:
                found = again.popleft() if again else next(fresh, None)
                if found is None:
                    break
                held.append(found)
                size += len(found[1]) + 1
                quotes += found[1].count(b'"')
                if quotes % 2 == 0 or size > limit:
                    break
            if not held:
                return
            if quotes % 2 == 0:
                if any(line for _, line in held):
                    yield held[0][0], b"\n".join(line for _, line in held)
                continue
            # A quote that nothing closes must not swallow the rows behind it.
            source.problem(f"line {held[0][0]}: a quoted cell has no end")
            again.extendleft(reversed(held[1:]))


@dataclass(frozen=True, slots=True)
class Packets:
    """Bluetooth packets, one in a line: the characteristic and the bytes in hex, ``2a18 0b0e00...``; # is a remark."""

    member: str = ""
    place: str = "line"

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = True) -> Iterator[Piece]:  # noqa: ARG002 - lines have their own kind, and are alone
        try:
            for number, line in lines(source, 4 * limit):
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
                yield Piece(payload, uuid, 1, source.read_bytes, number, number)
        except Broken as problem:
            source.problem(str(problem))


@dataclass(frozen=True, slots=True)
class Hl7Messages:
    """HL7 v2 messages, one in each payload, segments ended by CR; batch and file headers around them are left out."""

    member: str = ""
    place: str = "segment"

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = True) -> Iterator[Piece]:  # noqa: ARG002 - each message is alone
        frame = Frame(tail=b"\r", place=self.place)
        yield from pack(self._messages(source, limit), frame, source, limit, kind, alone=True)

    @staticmethod
    def _messages(source: Source, limit: int) -> Iterator[Record]:
        held: list[bytes] = []
        size = began = 0
        for number, line in lines(source, limit):
            segment = line.strip(b"\x0b\x1c \t")
            name = segment[:3]
            if not segment or name in {b"FHS", b"BHS", b"BTS", b"FTS"}:
                continue
            if name == b"MSH":
                if held:
                    yield began, b"\r".join(held)
                held, size, began = [], 0, number
            elif not held:
                source.problem(f"segment {number}: before the first message")
                continue
            size += len(segment) + 1
            # What is over the limit is only counted: the message is refused by its length.
            held.append(segment if size <= limit + BLOCK else b"")
        if held:
            yield began, b"\r".join(held)
