"""How characteristic values travel: binary, or as JSON of a hub around one or more of them (device-formats.md 0).

An envelope is ``{"uuid","value","encoding"?,"ts"?}``, an array of such objects, or ``{"packets":[…]}``. ``uuid`` is any
spelling of the characteristic; ``value`` its bytes as hex or base64; ``encoding`` says which. Without one that is
a text both are tried and the one whose length is that of the flags is taken; when both fit, none is. ``ts`` is the
hub's time: a time with an offset as ``parse_time`` reads it, or epoch milliseconds; one that cannot be read is left out
and counted, and its value is one of its arrival. Unknown members are ignored and counted; a bad packet is rejected
alone.

A value in an envelope without a time of its own has the number ``ordinal * 65536 + offset``, where ``offset`` counts
the bytes of the values before it: no two values share an identity, and the same message gives the same ones again.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from ingest.adapter import Context, Decoded, Reject
from ingest.adapters.ble.gatt import BATTERY, HUB, MAX_VALUE, NO_CLOCK, Output, Packet, Profile, characteristic
from ingest.adapters.reading.json_document import Repeated, parse
from ingest.adapters.reading.timestamps import parse_epoch, parse_time
from ingest.files.splitting import Packets
from vitals.errors import DecodeError
from vitals.glossary import Reason
from vitals.model import Message

MAX_PAYLOAD: Final = 64 * 1024
"""Of an envelope; its values are shorter."""
ENVELOPE: Final = "envelope"
_PARTS_PER_VALUE: Final = 256
"""More than the intervals or records of the longest value."""
_PARTS_PER_ENVELOPE: Final = MAX_PAYLOAD

_NOT_HEX: Final = re.compile(r"0[xX]|[\s:,-]", re.ASCII)
_ENDS: Final[Mapping[int, str]] = MappingProxyType({2: "AQgw", 3: "AEIMQUYcgkosw048"})
"""Last digits of base64 text by what is left of its length after whole fours: the bits that no byte uses are zero."""
_BACKSLASH: Final = ord("\\")
_COLON: Final = ord(":")


class _Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One packet of an envelope."""

    uuid: str | int
    value: str
    encoding: Any = None
    ts: Any = None


class _Packets(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    packets: list[_Item]


_ONE: Final = msgspec.json.Decoder(_Item)
_MANY: Final = msgspec.json.Decoder(list[_Item])
_PACKETS: Final = msgspec.json.Decoder(_Packets)
_PACKETS_START: Final = b'{"p'
_MEMBERS: Final = frozenset(_Item.__struct_fields__)

_Found = tuple[str, _Item | DecodeError]
"""JSON path and packet, or what is wrong with it."""


class Carriage(NamedTuple):
    """The characteristics of an adapter, by number and by the usual spellings of their kinds."""

    profiles: Mapping[int, Profile]
    by_kind: Mapping[str, Profile]


def carriage(profiles: Mapping[int, Profile], default: int | None = None) -> Carriage:
    """Of ``profiles`` and Battery Level; a message without a kind is ``default``."""
    everything = {**profiles, **BATTERY}
    by_kind = {form.format(number): profile for number, profile in everything.items() for form in ("{:04x}", "{:04X}")}
    if default is not None:
        by_kind[""] = everything[default]
    return Carriage(everything, by_kind)


def files(kind: str) -> Mapping[str, Packets]:
    """How a file of packets divides; each line names its own characteristic, ``kind`` is the usual one."""
    return MappingProxyType({kind: Packets()})


def kinds(titles: Mapping[str, str], default: str = "") -> Mapping[str, str]:
    """What an adapter of the characteristics ``titles`` takes; without a kind it is ``default``, "" for none."""
    named = {kind: f"{title} characteristic, binary" for kind, title in titles.items()}
    named["2a19"] = "Battery Level characteristic, binary"
    if default:
        named[""] = named[default]
    named[ENVELOPE] = "one or more of these characteristics as JSON of a hub"
    return MappingProxyType(named)


def collect(messages: Sequence[Message], contexts: Sequence[Context], carried: Carriage) -> Output:
    """Everything that the messages of a micro-batch give."""
    output = Output()
    profiles, by_kind = carried
    for index, message in enumerate(messages):
        profile = by_kind.get(message.kind)
        if profile is None:
            if message.kind == ENVELOPE:
                _open(index, message, contexts[index], carried, output)
                continue
            number = characteristic(message.kind)
            profile = None if number is None else profiles.get(number)
        if profile is None:
            output.rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        ordinal, payload = message.ordinal, message.payload
        packet = Packet(
            index, message, payload, contexts[index].settings, message.received_ns, NO_CLOCK, ordinal,
            ordinal * _PARTS_PER_VALUE,
        )  # fmt: skip
        try:
            if not 0 < len(payload) <= MAX_VALUE:
                raise _wrong_size(payload)
            profile.parse(packet, output)
        except DecodeError as problem:
            output.rejects.append(Reject(index, problem.reason, problem.detail))
    return output


def decode_each(messages: Sequence[Message], contexts: Sequence[Context], carried: Carriage) -> Decoded:
    """Decode a micro-batch."""
    return collect(messages, contexts, carried).decoded()


def _wrong_size(payload: bytes) -> DecodeError:
    if not payload:
        return DecodeError(Reason.EMPTY)
    return DecodeError(Reason.TRAILING_BYTES, f"{len(payload)} bytes, at most {MAX_VALUE}")


def _open(index: int, message: Message, context: Context, carried: Carriage, output: Output) -> None:
    """Read an envelope; its bad packets make one reject."""
    problems: list[str] = []
    first: DecodeError | None = None
    try:
        found = _fast(message.payload)
        if found is None:
            found, unknown = _slow(message.payload)
            output.unknown_members += unknown
    except DecodeError as problem:
        output.rejects.append(Reject(index, problem.reason, problem.detail))
        return
    packets: list[tuple[str, Profile, Packet]] = []
    beside: dict[int, bytes] = {}
    offset = message.ordinal * _PARTS_PER_ENVELOPE
    for path, item in found:
        try:
            if isinstance(item, DecodeError):
                raise item
            number, payload = _read(path, item, carried.profiles)
        except DecodeError as problem:
            first = first or problem
            problems.append(problem.detail)
            continue
        time_ns = _hub_time(item.ts)
        output.left_out += (time_ns is None and item.ts is not None) + (not isinstance(item.encoding, str | None))
        clock = NO_CLOCK if time_ns is None else HUB
        # Two different ones of a kind contradict each other: neither is taken.
        beside[number] = payload if beside.get(number, payload) == payload else b""
        packet = Packet(
            index, message, payload, context.settings, message.received_ns if time_ns is None else time_ns, clock,
            offset, offset, beside,
        )  # fmt: skip
        offset += len(payload)
        packets.append((path, carried.profiles[number], packet))
    for path, profile, packet in packets:
        try:
            profile.parse(packet, output)
        except DecodeError as problem:
            first = first or problem
            problems.append(f"{path}: {problem.detail}" if problem.detail else path)
    if first is not None:
        detail = f"{problems[0]}; {len(problems) - 1} more" if len(problems) > 1 else problems[0]
        output.rejects.append(Reject(index, first.reason, detail))


def _fast(payload: bytes) -> list[_Found] | None:
    """The packets of an envelope that is right in every way, None for one that needs a closer look.

    The typed decoder takes the last of two equal members without a word. With no unknown members and no escapes,
    colons tell: one per member and those inside the texts.
    """
    if _BACKSLASH in payload:
        return None
    items: Sequence[_Item]
    colons = 0
    try:
        start = payload[:3]
        if start == _PACKETS_START:
            items, colons, root = _PACKETS.decode(payload).packets, 1, "$.packets"
        elif start[:1] == b"[":
            items, root = _MANY.decode(payload), "$"
        else:
            items, root = (_ONE.decode(payload),), ""
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if payload.count(_COLON) != colons + sum(map(_colons, items)):
        return None
    return [(f"{root}[{number}]", item) for number, item in enumerate(items)] if root else [("$", items[0])]


def _colons(item: _Item) -> int:
    """Members and colons in texts of ``item``; a member that is null is none here, which a closer look settles."""
    count = 2 + item.value.count(":")
    if isinstance(item.uuid, str):
        count += item.uuid.count(":")
    for aside in (item.encoding, item.ts):
        if aside is not None:
            count += 1 + (aside.count(":") if isinstance(aside, str) else 0)
    return count


def _slow(payload: bytes) -> tuple[list[_Found], int]:
    """Packets of an envelope, each with its own fault if it has one, and the number of unknown members."""
    found, path, unknown = parse(payload), "$", 0
    if isinstance(found, Repeated):
        raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
    if isinstance(found, dict) and "packets" not in found:
        return [(path, _item(path, found))], len(found.keys() - _MEMBERS)
    if isinstance(found, dict):
        path, unknown, found = "$.packets", len(found) - 1, found["packets"]
    if not isinstance(found, list):
        raise DecodeError(Reason.BAD_TYPE, path)
    unknown += sum(len(item.keys() - _MEMBERS) for item in found if isinstance(item, dict))
    return [(f"{path}[{number}]", _item(f"{path}[{number}]", item)) for number, item in enumerate(found)], unknown


def _item(path: str, members: Any) -> _Item | DecodeError:
    if not isinstance(members, dict):
        return DecodeError(Reason.BAD_TYPE, path)
    if isinstance(members, Repeated):
        return DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
    for name in ("uuid", "value"):
        if members.get(name) is None:
            return DecodeError(Reason.MISSING_FIELD, f"{path}.{name}")
    for name, types in (("uuid", str | int), ("value", str)):
        value = members.get(name)
        if isinstance(value, bool) or not isinstance(value, types):
            return DecodeError(Reason.BAD_TYPE, f"{path}.{name}")
    return _Item(members["uuid"], members["value"], members.get("encoding"), members.get("ts"))


@lru_cache(maxsize=1024)
def _number(uuid: str) -> int | None:
    return characteristic(uuid.strip())


def _read(path: str, item: _Item, profiles: Mapping[int, Profile]) -> tuple[int, bytes]:
    """Characteristic and bytes of a packet."""
    number = _number(item.uuid) if isinstance(item.uuid, str) else item.uuid
    profile = None if number is None else profiles.get(number)
    if number is None or profile is None:
        raise DecodeError(Reason.UNKNOWN_KIND, f"{path}.uuid")
    payload = _bytes(path, item, profile)
    if not 0 < len(payload) <= MAX_VALUE:
        problem = _wrong_size(payload)
        raise DecodeError(problem.reason, f"{path}.value: {problem.detail}" if problem.detail else f"{path}.value")
    return number, payload


def _hub_time(sent: Any) -> int | None:
    """The hub's instant, None for what is none: a wall time of no zone says nothing of when."""
    with suppress(ValueError):
        if isinstance(sent, int | float) and not isinstance(sent, bool):
            return parse_epoch(sent)
        if isinstance(sent, str):
            if not sent.isdecimal():
                time_ns, offset = parse_time(sent)
                return None if offset is None else time_ns
            return parse_epoch(sent)
    return None


def _bytes(path: str, item: _Item, profile: Profile) -> bytes:
    """The value of a packet; raises ``DecodeError`` when it is no text of bytes, or can be two."""
    text = item.value.strip()
    where = f"{path}.value"
    if isinstance(item.encoding, str):
        if item.encoding not in _DECODERS:
            raise DecodeError(Reason.BAD_VALUE, f"{path}.encoding")
        declared = _DECODERS[item.encoding](text)
        if declared is None:
            raise DecodeError(Reason.BAD_VALUE, where)
        return declared
    from_hex, from_base64 = _hex(text), _base64(text)
    if from_base64 is not None and not _is_canonical(text):
        from_base64 = None
    if from_hex is None or from_base64 is None:
        known = from_hex if from_base64 is None else from_base64
        if known is None:
            raise DecodeError(Reason.BAD_VALUE, where)
        return known
    if not text:
        return b""
    fitting = [payload for payload in (from_hex, from_base64) if profile.fits(payload)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DecodeError(Reason.AMBIGUOUS_ENCODING, where)
    raise DecodeError(Reason.MALFORMED, f"{where}: as hex {len(from_hex)} bytes, as base64 {len(from_base64)}")


def _hex(text: str) -> bytes | None:
    """Bytes of hex digits with optional separators and ``0x`` prefixes, None for any other text."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        return bytes.fromhex(_NOT_HEX.sub("", text))
    except ValueError:
        return None


def _base64(text: str) -> bytes | None:
    """Bytes of base64 in either alphabet, with or without padding, None for any other text."""
    digits = text.rstrip("=")
    if len(digits) % 4 == 1 or (digits != text and len(text) % 4):
        return None
    if "-" in digits or "_" in digits:
        digits = digits.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    except ValueError:
        return None


def _is_canonical(text: str) -> bool:
    """Whether base64 ``text`` ends as every encoder leaves it."""
    digits = text.rstrip("=")
    rest = len(digits) % 4
    return rest == 0 or digits[-1] in _ENDS[rest]


_DECODERS: Final = MappingProxyType({"hex": _hex, "base64": _base64})
