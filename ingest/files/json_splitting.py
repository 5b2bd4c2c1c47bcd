"""JSON files to payloads: arrays, objects that hold a list, and values one after the other (NDJSON)."""

import codecs
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ingest.files import splitting
from ingest.files.splitting import MAX_ELEMENT, Broken, Frame, Piece, Source, pack

_BLANK: Final = frozenset(" \t\r\n\ufeff")
_ENVELOPE: Final = 16 * 1024
"""Characters of the members around a list, which every payload repeats, at most."""
# Numbers stay text: their value is the adapter's business, and a digit too many must not raise.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)

_Members = list[list[str]]
"""Per level of a path: the other members of its object, as written."""


@dataclass(frozen=True, slots=True)
class JsonRecords:
    """Records of a JSON file.

    Elements of an array, and values one after the other, go together as arrays, or one by one (``array`` False). With
    ``path``, the keys that lead to a list: an object that has it goes as it is when it fits; a larger one is cut along
    the list, and every payload repeats the members around it. An element that does not fit is cut along its own list
    ``inner``.
    """

    path: Sequence[str] = ()
    array: bool = True
    inner: str = ""
    member: str = ""

    def pieces(self, source: Source, limit: int, kind: str) -> Iterator[Piece]:
        around = deque(self._around(source, limit))
        text = _Text(source)
        loose = Frame(b"[", b"]", b",") if self.array else Frame()
        try:
            while first := text.peek():
                if first == "[":
                    found, frame, alone = text.elements(), loose, not self.array
                elif self._divides(text, limit):
                    frame, alone = self._frame(around.popleft()), False
                    found = text.listed(self.path, self._no_members())
                elif self._holds_list(text):
                    found, frame, alone = text.values(1), Frame(), True
                else:
                    found, frame, alone = self._records(text, limit), loose, not self.array
                yield from pack(self._fitting(found, frame, limit), frame, source, limit, kind, alone=alone)
        except Broken as problem:
            source.problem(str(problem))

    def _no_members(self) -> _Members:
        return [[] for _ in self.path]

    def _around(self, source: Source, limit: int) -> Iterator[_Members]:
        """The members around the list of each object that is cut, from a first pass over the file: those behind a list
        belong to its records as much as those before it. A file that breaks off is told by the second pass."""
        if not self.path:
            return
        text = _Text(source)
        members = self._no_members()
        try:
            while first := text.peek():
                if first == "[":
                    found = text.elements()
                elif self._divides(text, limit):
                    members = self._no_members()
                    found = text.listed(self.path, members)
                    deque(found, maxlen=0)
                    yield members
                    continue
                else:
                    found = text.values(1)
                deque(found, maxlen=0)
        except Broken:
            yield members
        source.rewind()

    def _divides(self, text: "_Text", limit: int) -> bool:
        """Whether an object comes that is too large for a payload."""
        return bool(self.path) and text.peek() == "{" and not text.fits(limit)

    def _holds_list(self, text: "_Text") -> bool:
        """Whether an object comes, small enough to be looked at, that has the list."""
        return bool(self.path) and self.path[0] in text.members()

    def _records(self, text: "_Text", limit: int) -> Iterator[bytes]:
        """Values of the top level that are records themselves."""
        while text.peek() not in {"", "["} and not self._divides(text, limit) and not self._holds_list(text):
            yield from text.values(1)

    def _frame(self, members: _Members) -> Frame:
        head = "".join(
            "{" + "".join(f"{member}," for member in level) + json.dumps(key) + ":"
            for key, level in zip(self.path, members, strict=True)
        )
        return Frame(_bytes(head) + b"[", b"]" + b"}" * len(self.path), b",")

    def _fitting(self, elements: Iterator[bytes], frame: Frame, limit: int) -> Iterator[bytes]:
        room = limit - len(frame.head) - len(frame.tail) - len(frame.separator)
        for text in elements:
            if self.inner and len(text) > room:
                yield from _parts(text, self.inner, room)
            else:
                yield text


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parts(text: bytes, key: str, room: int) -> Iterator[bytes]:
    """An object in parts of at most ``room`` bytes, each with all members but a share of the list ``key``."""
    whole = json.loads(text.decode("utf-8", "surrogateescape"))
    items = whole.pop(key, None) if isinstance(whole, dict) else None
    if not isinstance(items, list):
        yield text
        return
    head = _bytes(json.dumps(whole, ensure_ascii=False)[:-1] + (", " if whole else "") + json.dumps(key) + ": [")
    held: list[bytes] = []
    size = len(head) + 2
    for item in items:
        written = _bytes(json.dumps(item, ensure_ascii=False))
        if held and size + len(written) + 1 > room:
            yield head + b",".join(held) + b"]}"
            held, size = [], len(head) + 2
        held.append(written)
        size += len(written) + 1
    if held:
        yield head + b",".join(held) + b"]}"


class _Text:
    """A window that slides over a JSON file; bytes that are no UTF-8 are passed on as they are.

    Raises:
        Broken: from every method that reads: the text is no JSON, and nothing behind it can be found.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._records = "", 0, 0
        self._ended = self._broken = False

    def peek(self) -> str:
        """The next character that is no blank, "" at the end and behind a fault."""
        while not self._broken:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                break
            self._fill()
        return ""

    def fits(self, limit: int) -> bool:
        """Whether the next value is complete and sound within ``limit`` bytes."""
        try:
            raw, _ = self._value(limit)
        except _TooLong:
            return False
        except Broken:
            self._broken = False
            return False
        self._at -= len(raw)
        return len(_bytes(raw)) <= limit

    def members(self) -> dict[str, Any]:
        """The next value when it is an object, else nothing."""
        if self.peek() != "{":
            return {}
        raw, value = self._value()
        self._at -= len(raw)
        return value if isinstance(value, dict) else {}

    def values(self, count: int) -> Iterator[bytes]:
        """The next values."""
        for _ in range(count):
            self._records += 1
            yield _bytes(self._value()[0])

    def elements(self) -> Iterator[bytes]:
        """The elements of the array that comes."""
        self._at += 1
        if self._next("]"):
            return
        while True:
            yield from self.values(1)
            if self._next("]"):
                return
            self._expect(",")

    def listed(self, path: Sequence[str], members: _Members) -> Iterator[bytes]:
        """The elements of the list at ``path`` in the object that comes; ``members`` get what stands around it."""
        self._at += 1
        if self._next("}"):
            return
        while True:
            key, name = self._value()
            self._expect(":")
            first = self.peek()
            if name == path[0] and first == ("[" if len(path) == 1 else "{"):
                yield from self.elements() if len(path) == 1 else self.listed(path[1:], members[1:])
            else:
                members[0].append(f"{key}:{self._value()[0]}")
                if sum(map(len, members[0])) > _ENVELOPE:
                    raise self._fault(f"over {_ENVELOPE} characters around its list")
            if self._next("}"):
                return
            self._expect(",")

    def _next(self, character: str) -> bool:
        found = self.peek() == character
        self._at += found
        return found

    def _expect(self, character: str) -> None:
        if not self._next(character):
            raise self._fault("not JSON")

    def _value(self, longest: int = MAX_ELEMENT) -> tuple[str, Any]:
        """The next value as written and as read."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._fault("nested too deeply") from None
            except ValueError:
                if self._ended:
                    raise self._fault("not JSON") from None
            else:
                # A number that ends the window may go on behind it.
                if end < len(self._text) or self._ended:
                    raw = self._text[self._at : end]
                    self._at = end
                    return raw, value
            if len(self._text) - self._at > longest:
                if longest < MAX_ELEMENT:
                    raise _TooLong
                raise self._fault(f"no end within {MAX_ELEMENT} characters")
            self._fill()

    def _fill(self) -> None:
        # As much again as is held: a long value is read anew with every filling.
        block = self._source.read(max(splitting.BLOCK, len(self._text) - self._at))
        self._ended = not block
        self._text = self._text[self._at :] + self._bytes.decode(block, final=self._ended)
        self._at = 0

    def _fault(self, what: str) -> Broken:
        self._broken = True
        return Broken(f"value {self._records}: {what}; the rest is left out")


class _TooLong(Exception):
    """The next value does not end within the characters that it may have."""
