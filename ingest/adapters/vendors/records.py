"""What the adapters of vendor JSON share: records with paths, settings, ids and times.

A vendor's answer is one document with lists of records. Each record is converted alone to a msgspec Struct, so that a
bad one is rejected alone with its path (``$.records[3].value``) and the others are kept. Members that no Struct names
are counted. Free text, names of phones and apps, places and user ids are never copied: what tells two sources apart
goes into ``seq`` or a token as a hash.

An optional member of a Struct only adds context, unless the Struct says otherwise: one that cannot be read is left out
and counted, and the values beside it are kept. ``DECIDES`` names optional members without which a value has another
meaning (they reject the record), ``MEASURES`` those that are values of their own (they are told as a problem, and the
others of the record are kept).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.reading.json_document import Repeated, parse
from ingest.adapters.reading.timestamps import from_milliseconds, parse_epoch, parse_time
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason, Statistic
from vitals.model import DeviceEvent, Message
from vitals.times import NO_TIME, SECOND_NS

MAX_PAYLOAD: Final = 255 * 1024
"""A page of records; the gateway takes packets of 256 KiB."""
BELOW_RANGE: Final = int(Flag.BELOW_RANGE)
ABOVE_RANGE: Final = int(Flag.ABOVE_RANGE)
CLOCK_SUSPECT: Final = int(Flag.CLOCK_SUSPECT)
LOW_QUALITY: Final = int(Flag.LOW_QUALITY)
MANUAL: Final = int(Flag.MANUAL)
RETRACTED: Final = int(Flag.RETRACTED)
NO_NUMBER: Final = float("nan")
TOLERANCE_NS: Final = 120 * SECOND_NS
"""Two clocks that differ by less agree (device-formats.md 8.3, step 3)."""
TRENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        word.replace("_", ""): word
        for word in ("triple_up", "double_up", "single_up", "forty_five_up", "flat", "forty_five_down", "single_down",
                     "double_down", "triple_down", "not_computable", "rate_out_of_range")
    }
)  # fmt: skip
"""Arrows of device-formats.md 5.1 and 5.2 by their letters: ``doubleUp``, ``DoubleUp`` and ``NOT COMPUTABLE`` are
all known."""
_NOTES: Final[Mapping[str, bool]] = MappingProxyType({"omit": False, "keep": True})
_NO_TREND: Final = frozenset({"", "none", "unknown"})
_INT64: Final = 2**63
_AT: Final = re.compile(r" - at `\$([^`]*)`$")
_MISSING: Final = "Object missing required field `"
_MEMBERS: Final[dict[type[msgspec.Struct], frozenset[str]]] = {}
_Record = TypeVar("_Record", bound=msgspec.Struct)
_Choice = TypeVar("_Choice")
_Taken = TypeVar("_Taken")
_UNREADABLE: Final = object()


def _fault(text: str, member: str) -> DecodeError:
    """What a msgspec message says, without the words of it that could be the payload's."""
    at = _AT.search(text)
    path = member + at[1] if at else member
    if text.startswith(_MISSING):
        return DecodeError(Reason.MISSING_FIELD, f"{path}.{text[len(_MISSING) :].partition('`')[0]}")
    return DecodeError(Reason.BAD_VALUE if text.startswith("Number out of range") else Reason.BAD_TYPE, path)


def _members(kind: type[msgspec.Struct]) -> frozenset[str]:
    return _MEMBERS.setdefault(kind, frozenset(kind.__struct_encode_fields__))


def _optional(kind: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    """Name and type of the members that a record may lack without being another one."""
    decides: frozenset[str] = getattr(kind, "DECIDES", frozenset())
    found = msgspec.structs.fields(kind)
    return [(one.encode_name, one.type) for one in found if not one.required and one.encode_name not in decides]


def _readable(value: Any, kind: Any, *, strict: bool) -> Any:
    """``value`` as ``kind``, or ``_UNREADABLE``; not strict: a number as text is one."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return _UNREADABLE


class RecordOutput:
    """Collects what the messages of a micro-batch give. ``message`` and ``settings`` are those of the one that is being
    read. Details of a ``DecodeError`` raised in a reader are paths below the record: ``.value``."""

    message: Message
    settings: Mapping[str, str]

    def __init__(self) -> None:
        self.readings = ReadingsBuilder()
        self.events: list[DeviceEvent] = []
        self.rejects: list[Reject] = []
        self.unknown = 0
        self.left_out = 0
        self.doubted: dict[str, bool] = {}
        """Devices of the micro-batch -> whether their unit is in doubt by what came before the record."""
        self._index = 0
        self._trail: list[str | int] = []
        self._problems: list[tuple[Reason, str]] = []

    def read(self, index: int, message: Message, settings: Mapping[str, str], reader: "Reader") -> None:
        """Add what ``reader`` finds in message ``index``; its first problem rejects it, with the number of others."""
        self._index, self.message, self.settings = index, message, settings
        try:
            content = parse(message.payload)
        except DecodeError as problem:
            self.rejects.append(Reject(index, problem.reason, problem.detail))
            return
        try:
            reader(content, self)
        except DecodeError as problem:
            self.problem(problem)
        if self._problems:
            (reason, detail), others = self._problems[0], len(self._problems) - 1
            self.rejects.append(Reject(index, reason, f"{detail}; {others} more" if others else detail))
            self._problems.clear()

    def problem(self, problem: DecodeError) -> None:
        """Note a problem of the record that is being read."""
        path = "".join(f"[{step}]" if isinstance(step, int) else step for step in self._trail)
        self._problems.append((problem.reason, f"${path}{problem.detail}"))

    def typed(self, item: object, kind: type[_Record], member: str = "") -> _Record:
        """``item`` as ``kind``; raises ``DecodeError`` with the path below ``member``. Unknown members are counted.

        Objects in a record are ``Any`` in its Struct and read by a call of their own, which sees what they repeat.
        """
        if item.__class__ is Repeated:
            raise DecodeError(Reason.MALFORMED, f"{member}: a member is given twice")
        try:
            record = msgspec.convert(item, kind)
        except (msgspec.ValidationError, UnicodeEncodeError):
            record = self._mended(item, kind, member)
        self.unknown += len(item.keys() - _members(kind))  # type: ignore[attr-defined]
        return record

    def _mended(self, item: object, kind: type[_Record], member: str) -> _Record:
        """``item`` without the members that it can do without and that cannot be read."""
        problems: list[DecodeError] = []
        left_out = 0
        if isinstance(item, dict):
            measures: frozenset[str] = getattr(kind, "MEASURES", frozenset())
            item = dict(item)
            for name, its_type in _optional(kind):
                if name not in item or _readable(item[name], its_type, strict=True) is not _UNREADABLE:
                    continue
                sent = item.pop(name)
                if name in measures:
                    problems.append(DecodeError(Reason.BAD_TYPE, f"{member}.{name}"))
                elif (value := _readable(sent, its_type, strict=False)) is _UNREADABLE:
                    left_out += 1
                else:
                    item[name] = value
        try:
            record = msgspec.convert(item, kind)
        except msgspec.ValidationError as error:
            raise _fault(str(error), member) from None
        except UnicodeEncodeError:
            raise DecodeError(Reason.BAD_VALUE, f"{member}: half a surrogate pair in a text") from None
        self.left_out += left_out
        for problem in problems:
            self.problem(problem)
        return record

    def aside(self, sent: Any, member: str, read: Callable[[Any, str], _Taken]) -> _Taken | None:
        """``read(sent, member)`` for a member that only adds context; None, and counted, when it cannot be read."""
        if sent is None:
            return None
        try:
            return read(sent, member)
        except DecodeError:
            self.left_out += 1
            return None

    def measure(self, sent: float | None, member: str) -> float | None:
        """A number that is a value beside others: None, and told as a problem, when it is no finite number."""
        if sent is None:
            return None
        try:
            return finite(sent, member)
        except DecodeError as problem:
            self.problem(problem)
            return None

    def each(self, items: list[Any], member: str, kind: type[_Record], take: Callable[[_Record], None]) -> None:
        """Give each of ``items`` as ``kind`` to ``take``; one that either refuses is noted alone, with its path."""
        self._trail += (member, 0)
        for number, item in enumerate(items):
            self._trail[-1] = number
            try:
                take(self.typed(item, kind))
            except DecodeError as problem:
                self.problem(problem)
        del self._trail[-2:]

    def choice(self, name: str, values: Mapping[str, _Choice], default: str) -> _Choice:
        """What the device's setting ``name`` stands for; a word that is none of its values rejects the record."""
        word = self.settings.get(name, default)
        if word not in values:
            raise DecodeError(Reason.BAD_VALUE, f": setting {name} is none of {', '.join(values)}")
        return values[word]

    def add(
        self, vital: int, value: float, unit: int, time_ns: int, *, clock: SourceClock = SourceClock.INSTANT,
        seq: int = 0, ended_ns: int = NO_TIME, tz_min: int = 0, statistic: Statistic = Statistic.SINGLE,
        flags: int = 0, context: Mapping[str, Any] | None = None, document: int = 0,
    ) -> None:  # fmt: skip
        """Add a reading of the message; arguments as ``ReadingsBuilder.add``."""
        self.readings.add(
            self._index, vital, value, unit, time_ns, clock=clock, seq=seq, ended_ns=ended_ns, tz_min=tz_min,
            statistic=statistic, flags=flags, context=context, document=document,
        )  # fmt: skip

    def event(
        self, kind: EventKind, detail: str, time_ns: int | None = None, *, vital: int = 0, value: float | None = None
    ) -> None:
        """Add an event at ``time_ns``, or at receipt where no instant is known in UTC."""
        message = self.message
        when = message.received_ns if time_ns is None else time_ns
        self.events.append(DeviceEvent(message.device, kind, when, detail, value, vital, message.ordinal))


Reader = Callable[[Any, RecordOutput], None]
"""``reader(document, output)``; raises ``DecodeError`` for a document of which nothing can be read."""


def decode_each(messages: Sequence[Message], contexts: Sequence[Context], readers: Mapping[str, Reader]) -> Decoded:
    """Decode a micro-batch, each message by the reader of its kind."""
    output = RecordOutput()
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        reader = readers.get(message.kind)
        if reader is None:
            output.rejects.append(Reject(index, Reason.UNKNOWN_KIND))
        else:
            output.doubted.setdefault(message.device, context.unit_doubted)
            output.read(index, message, context.settings, reader)
    readings = output.readings
    return Decoded(
        readings.build(), output.events, output.rejects, output.unknown, output.left_out, readings.documents()
    )


def adapter(
    name: str, title: str, kinds: Mapping[str, str], vitals: frozenset[str],
    decode: Callable[[Sequence[Message], Sequence[Context]], Decoded], settings: Mapping[str, str],
    files: Mapping[str, JsonRecords], *, version: int = 1, polled: bool = True, delay_s: float = 0.0,
) -> Adapter:  # fmt: skip
    """An adapter of vendor JSON, which is asked of the vendor's service unless a device or app sends it."""
    return Adapter(name, version, title, MappingProxyType(dict(kinds)), vitals, decode, MAX_PAYLOAD,
                   MappingProxyType(dict(settings)), MappingProxyType(dict(files)), polled=polled,
                   delay_s=delay_s)  # fmt: skip


def text_id(device: str, text: str) -> int:
    """A stable ``seq`` for a vendor's id: 63 bits of a hash, negative, so that it never passes for a record number
    that counts up. The device's token is hashed with it: the same name gives other ids elsewhere."""
    return ~(int.from_bytes(_digest(device, text)) >> 1)


def token(device: str, text: str) -> str:
    """Eight hex digits that tell two texts of one device apart without showing them."""
    return _digest(device, text)[:4].hex()


def _digest(device: str, text: str) -> bytes:
    return blake2b(f"{device}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def finite(value: float, member: str) -> float:
    """``value``; raises ``DecodeError`` for NaN, infinities and integers that int64 cannot hold."""
    if isinstance(value, int):
        return whole(value, member)
    if math.isfinite(value):
        return value
    raise DecodeError(Reason.BAD_VALUE, member)


def whole(value: int, member: str) -> int:
    """``value``; raises ``DecodeError`` when int64 cannot hold it."""
    if -_INT64 <= value < _INT64:
        return value
    raise DecodeError(Reason.BAD_VALUE, member)


def epoch_ms(milliseconds: int, member: str) -> int:
    """Nanoseconds of epoch milliseconds."""
    try:
        return from_milliseconds(milliseconds)
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, member) from None


def epoch_time(sent: int | float | str, member: str) -> int:
    """Nanoseconds of epoch milliseconds as ``parse_epoch`` takes them."""
    try:
        return parse_epoch(sent)
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, member) from None


def iso_time(text: str, member: str) -> tuple[int, int | None]:
    """Nanoseconds and offset as ``parse_time``."""
    try:
        return parse_time(text)
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, member) from None


def trend(word: str | None) -> str | None:
    """The arrow that a vendor's word means: ``double_up`` and so on, ``other`` for an unknown one, None for none."""
    if word is None:
        return None
    letters = word.replace(" ", "").lower()
    return None if letters in _NO_TREND else TRENDS.get(letters, "other")


NOTE_SETTING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "notes": "remarks that people typed, which may name a person: omit (default; the context says that there was "
        "one) or keep"
    }
)


def note(text: str | None, context: dict[str, Any], output: RecordOutput) -> None:
    """Put a remark into ``context`` as the setting ``notes`` says; an empty one is none."""
    if text:
        # A lone surrogate is legal in JSON and in no encoding.
        kept = text.encode("utf-8", "replace").decode() if output.choice("notes", _NOTES, "omit") else "omitted"
        context["note"] = kept
