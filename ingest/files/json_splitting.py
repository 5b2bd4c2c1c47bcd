"""JSON files to payloads: arrays, objects that hold a list, and values one after the other (NDJSON)."""

import codecs
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ingest.files import splitting
from ingest.files.splitting import MAX_ELEMENT, Broken, Frame, Piece, Record, Source, pack

_BLANK: Final = frozenset(" \t\r\n\ufeff\x00")
_ENVELOPE: Final = 16 * 1024
"""Characters of the members around a list, which every payload repeats, at most."""
# Numbers stay text: their value is the adapter's business, and a digit too many must not raise.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_NO_UTF8: Final = re.compile("[\udc80-\udcff]")
_TOKEN: Final = re.compile(r'"(?:[^"\\\n]|\\.)*["\n]?|[\[\]{},]')
_NEXT_VALUE: Final = re.compile(r"\n(?=[\[{])")
_NEXT_ELEMENT: Final = re.compile(r",\s*(?=[\[{])")
_CLOSERS: Final = {"{": "}", "[": "]"}
_LONGEST_WORD: Final = 16
"""Characters of a literal or an escape, at most."""

_Members = list[list[str]]
"""Per level of a path: the other members of its object, as written."""


@dataclass(frozen=True, slots=True)
class JsonRecords:
    """Records of a JSON file.

    Elements of an array, and values one after the other, go together as arrays, or one by one (``array`` False). With
    ``path``, the keys that lead to a list: an object that has it goes as it is when it fits; a larger one is cut along
    the list, and every payload repeats the members around it. An element that does not fit is cut along its own list
    ``inner``. A value that is no JSON is skipped.
    """

    path: Sequence[str] = ()
    array: bool = True
    inner: str = ""
    member: str = ""
    place: str = "value"

    def pieces(self, source: Source, limit: int, kind: str, *, alone: bool = False) -> Iterator[Piece]:
        around = deque(self._around(source, limit))
        text = _Text(source, source.problem)
        loose = Frame(b"[", b"]", b",", self.place) if self.array else Frame(place=self.place)
        single = alone or not self.array
        try:
            while first := text.peek():
                if first == "[":
                    found, frame, one = text.elements(), loose, single
                elif self._divides(text, limit):
                    frame, one = self._frame(around.popleft()), alone
                    found = text.listed(self.path, self._no_members())
                elif self._holds_list(text):
                    found, frame, one = text.values(), Frame(place=self.place), True
                else:
                    found, frame, one = self._records(text, limit), loose, single
                yield from pack(self._fitting(found, frame, limit), frame, source, limit, kind, alone=one)
        except Broken as problem:
            source.problem(str(problem))

    def _no_members(self) -> _Members:
        return [[] for _ in self.path]

    def _around(self, source: Source, limit: int) -> Iterator[_Members]:
        """The members around the list of each object that is cut, from a first pass over the file: those behind a list
        belong to its records as much as those before it. A file that breaks off is told by the second pass."""
        if not self.path:
            return
        text = _Text(source, lambda _: None)
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
                    found = text.values()
                deque(found, maxlen=0)
        except Broken:
            yield members
        source.rewind()

    def _divides(self, text: "_Text", limit: int) -> bool:
        """Whether an object comes that has the list, or may have it, and goes into no payload as it is."""
        return bool(self.path) and text.peek() == "{" and not text.fits(limit, self.path[0])

    def _holds_list(self, text: "_Text") -> bool:
        """Whether an object comes, small enough to be looked at, that has the list."""
        return bool(self.path) and self.path[0] in text.members()

    def _records(self, text: "_Text", limit: int) -> Iterator[Record]:
        """Values of the top level that are records themselves."""
        while text.peek() not in {"", "["} and not self._divides(text, limit) and not self._holds_list(text):
            yield from text.values()

    def _frame(self, members: _Members) -> Frame:
        head = "".join(
            "{" + "".join(f"{member}," for member in level) + json.dumps(key) + ":"
            for key, level in zip(self.path, members, strict=True)
        )
        return Frame(_bytes(head) + b"[", b"]" + b"}" * len(self.path), b",", self.place)

    def _fitting(self, elements: Iterator[Record], frame: Frame, limit: int) -> Iterator[Record]:
        room = limit - len(frame.head) - len(frame.tail) - len(frame.separator)
        for place, text in elements:
            if self.inner and len(text) > room:
                yield from ((place, part) for part in _parts(text, self.inner, room))
            else:
                yield place, text


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
    """A window that slides over a JSON file; a record that is no JSON or no UTF-8 is told and skipped.

    Raises:
        Broken: from every method that reads: the text is no JSON, and nothing behind it can be found.
    """

    def __init__(self, source: Source, tell: Callable[[str], None]) -> None:
        self._source, self._tell = source, tell
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

    def fits(self, limit: int, key: str) -> bool:
        """Whether the next object is complete and sound within ``limit`` bytes, or broken without a list ``key``."""
        try:
            raw, value = self._value(limit)
        except _TooLong:
            return False
        except Broken:
            self._broken = False
            end = _NEXT_VALUE.search(self._text, self._at + 1)
            listed = re.compile(re.escape(json.dumps(key)) + r"\s*:\s*[\[{]")
            return not listed.search(self._text, self._at, end.start() if end else len(self._text))
        self._at -= len(raw)
        return len(_bytes(raw)) <= limit and not (key in value and _NO_UTF8.search(raw))

    def members(self) -> dict[str, Any]:
        """The next value when it is a sound object, else nothing."""
        if self.peek() != "{":
            return {}
        try:
            raw, value = self._value()
        except Broken:
            self._broken = False
            return {}
        self._at -= len(raw)
        return value if isinstance(value, dict) else {}

    def values(self, closer: str = "") -> Iterator[Record]:
        """The next value; of a list that ``closer`` ends, or of the top level. None of one that cannot be read."""
        self._records += 1
        try:
            raw = self._value()[0]
        except Broken as problem:
            self._broken = False
            if not self._skip(closer):
                self._broken = True
                raise
            self._tell(str(problem).replace("; the rest is", ";"))
            return
        if raw.isascii() or not _NO_UTF8.search(raw):
            yield self._records, _bytes(raw)
        else:
            self._tell(f"value {self._records}: not UTF-8; left out")

    def elements(self) -> Iterator[Record]:
        """The elements of the array that comes."""
        self._at += 1
        if self._next("]"):
            return
        while True:
            yield from self.values("]")
            if self._next("]"):
                return
            if self._next(","):
                continue
            fault = self._fault("not JSON behind it")
            self._broken = False
            if not self._skip("]"):
                self._broken = True
                raise fault
            self._tell(str(fault).replace("; the rest is left out", ""))
            if self._next("]"):
                return
            self._expect(",")

    def _skip(self, closer: str) -> bool:
        """Move behind a value that is no JSON: before the comma or ``closer`` that follows it in a list, or to the next
        line that begins an object or array; False when there is none. Brackets in strings do not count; no string goes
        over a line's end."""
        while True:
            end = self._end_of_value(closer)
            if end < 0 and closer and self._ended:
                end = self._next_element(self._at)
            if end >= 0:
                self._at = end
                return True
            if self._ended or len(self._text) - self._at > MAX_ELEMENT:
                return False
            self._fill()

    def _end_of_value(self, closer: str) -> int:
        """Where ``_skip`` goes, -1 when that is not in the window."""
        if not closer:
            found = _NEXT_VALUE.search(self._text, self._at + 1)
            return found.start() + 1 if found else -1
        opened: list[str] = []
        for token in _TOKEN.finditer(self._text, self._at):
            mark = token[0]
            if not opened and mark in {",", closer}:
                return token.start()
            if mark in _CLOSERS:
                opened.append(_CLOSERS[mark])
            elif mark.endswith("\n") or (opened and mark in {"}", "]"} and opened.pop() != mark):
                # A string without an end, or a bracket without its other: those behind it are not to be counted.
                return self._next_element(token.start())
        return -1

    def _next_element(self, at: int) -> int:
        """Where a comma stands before an object or array, -1 for nowhere in the window."""
        found = _NEXT_ELEMENT.search(self._text, at)
        return found.start() if found else -1

    def listed(self, path: Sequence[str], members: _Members) -> Iterator[Record]:
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
            except json.JSONDecodeError as error:
                # A string without an end, or a word that the window cuts, may go on behind it.
                is_cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_WORD
                if self._ended or not is_cut:
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
