"""``json``: readings as JSON, for hubs and programs that can write a line of it.

Layout (CONTRACTS, "JSON"): ``{"vital","value","unit","time","seq"?}``, an array of such objects, or
``{"readings":[…]}``; ``/schemas/json-reading.json`` of a running pipeline is its JSON Schema. ``vital`` is a catalogue
key that is no panel and no score. ``unit`` is UCUM or a known spelling that fits the vital; it is never assumed.
``time`` is RFC 3339 (``+0100`` for an offset is taken too) or epoch milliseconds, also as text of digits; without an
offset it is wall time. A ``seq`` that is no whole number is left out. ``value`` is a finite number, and for a coded
vital one of its code words. Unknown members are ignored and counted. A member given twice makes its reading unreadable:
which of the two was meant is a guess.

Optional members (``json_members``): ``end``, ``statistic``, ``manual``, ``sample``, ``meal``, ``posture``, ``site``,
``external_id``, ``status`` (``final``, ``corrected``, ``deleted``), ``device_time_zone``. One that cannot be read is
left out and counted like an unknown member; the reading stays. A reading with an unknown ``statistic`` is refused: a
minimum must not pass for a single value. ``device_time_zone`` makes an instant of a time without an offset; an hour
that the zone's clocks show twice or skip stays wall time.

Identity: the time as sent (UTC, or wall time read as UTC) and ``seq``, 0 when there is none, or the hash of
``external_id`` in its place. Without either, ``sample``, ``posture``, ``site`` and ``end`` (but for sums and counts,
which go on) belong to it, and ``statistic`` wherever there is no ``external_id``: minimum, mean and maximum of an
interval are three readings. Two single values of one identity in different messages are two measurements, in one
message the later is a revision. A correction repeats the time and what belongs to the identity of the reading that it
corrects. ``deleted`` withdraws the reading, needs neither ``value`` nor ``unit`` and repeats the same members.

Most messages take a typed decode that builds no intermediate objects. Whatever that cannot vouch for, a duplicate
included, is decoded again step by step, where each fault gets its reason and path.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from ingest.adapter import Adapter, Columns, Context, Decoded, Reject, SourceClock
from ingest.adapters.hubs.json_members import CORRECTED, DELETED, MEMBERS, WALL, Extras, read, time
from ingest.adapters.reading.json_document import Repeated, number, parse
from ingest.adapters.reading.units import unit_of
from ingest.files.json_splitting import JsonRecords
from vitals.catalog import BY_KEY, VITALS, accepts
from vitals.errors import DecodeError
from vitals.glossary import Reason
from vitals.model import Message
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_NAME

SEQ_MIN: Final = -(2**63)
SEQ_MAX: Final = 2**63 - 1


class _Series(NamedTuple):
    """What (vital, unit) of a reading stand for; ``codes`` maps the words of a coded vital to its values."""

    vital: int
    unit: int
    codes: Mapping[str, float]


SERIES: Final[dict[tuple[str, str], _Series]] = {
    (vital.key, name): _Series(vital.code, unit.code, {word: float(n) for n, word in enumerate(vital.values)})
    for vital in VITALS
    for name, unit in UNIT_BY_NAME.items()
    if accepts(vital, name)
}

_NAN: Final = float("nan")
_Row = tuple[int, int, int, int, int, int, float]
"""Message index, vital, unit, time, offset in minutes or ``WALL``, seq, value."""


class _Reading(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    vital: str
    value: float | str
    unit: str
    time: int | str
    seq: Annotated[int, msgspec.Meta(ge=SEQ_MIN, le=SEQ_MAX)] | UnsetType = UNSET


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    readings: list[_Reading]


_ONE: Final = msgspec.json.Decoder(_Reading)
_MANY: Final = msgspec.json.Decoder(list[_Reading])
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_ENVELOPE_START: Final = b'{"r'
"""No member of a reading starts with this letter."""
_BACKSLASH: Final = ord("\\")
_COLON: Final = ord(":")


def _fast(index: int, payload: bytes) -> list[_Row] | None:
    """The rows of a message that is right in every way, None for one that needs a closer look.

    The typed decoder takes the last of two equal members without a word. With no unknown members and no escapes,
    colons tell: one per member and those inside the times; known vitals, units and code words have none.
    """
    if _BACKSLASH in payload:
        return None
    rows: list[_Row] = []
    readings: Sequence[_Reading]
    colons = 0
    try:
        start = payload[:3]
        if start == _ENVELOPE_START:
            readings, colons = _ENVELOPE.decode(payload).readings, 1
        elif start[:1] == b"[":
            readings = _MANY.decode(payload)
        else:
            readings = (_ONE.decode(payload),)
        for reading in readings:
            sent, value, seq = reading.time, reading.value, reading.seq
            vital, unit, codes = SERIES[reading.vital, reading.unit]
            if codes or value.__class__ is str:  # a number is no code word: KeyError
                value = codes[value]  # type: ignore[index]
            colons += 4
            if sent.__class__ is str:
                colons += sent.count(":")
            if seq is UNSET:
                seq = 0
            else:
                colons += 1
            rows.append((index, vital, unit, *time(sent), seq, value))  # type: ignore[arg-type]
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None
    return rows if payload.count(_COLON) == colons else None


def _code(item: dict[str, Any], codes: Mapping[str, float], path: str) -> float:
    value = item["value"]
    if not isinstance(value, str):
        raise DecodeError(Reason.BAD_TYPE, f"{path}.value")
    if value not in codes:
        raise DecodeError(Reason.BAD_VALUE, f"{path}.value")
    return codes[value]


def _slow_time(item: dict[str, Any], path: str) -> tuple[int, int]:
    try:
        return time(item["time"])
    except TypeError:
        raise DecodeError(Reason.BAD_TYPE, f"{path}.time") from None
    except ValueError:
        raise DecodeError(Reason.BAD_TIME, f"{path}.time") from None


def _seq(item: dict[str, Any]) -> tuple[int, int]:
    """The number of the reading, and 1 when it is left out because it is no whole number of 64 bits."""
    seq = item.get("seq", 0)
    is_number = isinstance(seq, int) and not isinstance(seq, bool) and SEQ_MIN <= seq <= SEQ_MAX
    return (seq, 0) if is_number else (0, 1)


def _series(item: dict[str, Any], path: str) -> _Series:
    vital = item["vital"]
    unit = item.get("unit", BY_KEY[vital].unit if isinstance(vital, str) and vital in BY_KEY else "")
    for name, member in (("vital", vital), ("unit", unit)):
        if not isinstance(member, str):
            raise DecodeError(Reason.BAD_TYPE, f"{path}.{name}")
    if vital not in BY_KEY or BY_KEY[vital].panel or BY_KEY[vital].derived:
        raise DecodeError(Reason.UNKNOWN_VITAL, f"{path}.vital")
    series = SERIES.get((vital, unit))
    if series is not None:
        return series
    measured = BY_KEY[vital]
    code = None if measured.values else unit_of(measured.code, unit)
    if code is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, f"{path}.unit")
    return _Series(measured.code, code, {})


def _slow_row(index: int, item: Any, path: str) -> tuple[_Row, Extras, int]:
    """One reading with its optional members and how many of these were left out, or the ``DecodeError`` that says what
    is wrong with it."""
    if not isinstance(item, dict):
        raise DecodeError(Reason.BAD_TYPE, path)
    if isinstance(item, Repeated):
        raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
    is_deleted = item.get("status") == DELETED
    for name in ("vital", "time") if is_deleted else ("vital", "value", "unit", "time"):
        if name not in item:
            raise DecodeError(Reason.MISSING_FIELD, f"{path}.{name}")
    series = _series(item, path)
    if "value" not in item:
        value = _NAN
    else:
        value = _code(item, series.codes, path) if series.codes else number(item["value"], f"{path}.value")
    sent, (seq, unread) = _slow_time(item, path), _seq(item)
    try:
        extras, left_out = read(item, *sent, seq)
    except ValueError as error:
        raise DecodeError(Reason.BAD_VALUE, f"{path}.{error}") from None
    if extras.seq is not None:
        seq = extras.seq
    return (index, series.vital, series.unit, extras.time_ns, extras.offset, seq, value), extras, left_out + unread


def _items(document: Any) -> tuple[list[tuple[str, Any]], int]:
    """(path, reading) pairs of a document, and the number of unknown members around them."""
    path, unknown = "$", 0
    if isinstance(document, dict):
        if "readings" not in document:
            return [(path, document)], 0
        if isinstance(document, Repeated):
            raise DecodeError(Reason.MALFORMED, f"{path}: a member is given twice")
        path, unknown, document = "$.readings", len(document) - 1, document["readings"]
    if not isinstance(document, list):
        raise DecodeError(Reason.BAD_TYPE, path)
    return [(f"{path}[{place}]", item) for place, item in enumerate(document)], unknown


_MEMBERS: Final = frozenset(_Reading.__struct_fields__) | MEMBERS.keys()


def _slow(index: int, payload: bytes) -> tuple[list[_Row], list[Extras], Reject | None, int, int]:
    """Rows, what their optional members say, the reject and the numbers of members unknown and left out of a message,
    step by step."""
    rows: list[_Row] = []
    extras: list[Extras] = []
    problems: list[DecodeError] = []
    unknown = left_out = 0
    try:
        items, unknown = _items(parse(payload))
    except DecodeError as problem:
        return rows, extras, Reject(index, problem.reason, problem.detail), unknown, left_out
    for path, item in items:
        if isinstance(item, dict):
            unknown += len(item.keys() - _MEMBERS)
        try:
            row, extra, unread = _slow_row(index, item, path)
        except DecodeError as problem:
            problems.append(problem)
        else:
            rows.append(row)
            extras.append(extra)
            left_out += unread
    if not problems:
        return rows, extras, None, unknown, left_out
    first, others = problems[0], len(problems) - 1
    detail = f"{first.detail}; {others} more" if others else first.detail
    return rows, extras, Reject(index, first.reason, detail), unknown, left_out


def _columns(rows: list[_Row], extras: Mapping[int, Extras]) -> Columns:
    """``extras`` by row, for those that have any."""
    count = len(rows)
    ended_ns = np.full(count, NO_TIME, dtype=np.int64)
    statistic, flags = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint32)
    for row, extra in extras.items():
        ended_ns[row], statistic[row], flags[row] = extra.ended_ns, extra.statistic, extra.flags
    message, vital, unit, time_ns, zone, seq, value = zip(*rows, strict=True) if rows else ((),) * 7
    tz_min = np.array(zone, dtype=np.int16)
    is_wall = tz_min == WALL
    tz_min[is_wall] = 0
    return Columns(
        message=np.array(message, dtype=np.int64),
        vital=np.array(vital, dtype=np.uint16),
        clock=np.where(is_wall, np.uint8(SourceClock.WALL), np.uint8(SourceClock.INSTANT)),
        source_time_ns=np.array(time_ns, dtype=np.int64),
        ended_ns=ended_ns,
        tz_min=tz_min,
        seq=np.array(seq, dtype=np.int64),
        value=np.array(value, dtype=np.float64),
        unit=np.array(unit, dtype=np.uint8),
        statistic=statistic,
        flags=flags,
        context={row: extra.context for row, extra in extras.items() if extra.context},
    )


def decode(messages: Sequence[Message], _contexts: Sequence[Context]) -> Decoded:
    """Readings as sent; a message with a bad reading keeps its good ones and is rejected once."""
    rows: list[_Row] = []
    extras: dict[int, Extras] = {}
    rejects: list[Reject] = []
    unknown = left_out = 0
    for index, message in enumerate(messages):
        if message.kind:
            rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        good = _fast(index, message.payload)
        if good is None:
            good, noted, reject, ignored, unread = _slow(index, message.payload)
            unknown += ignored
            left_out += unread
            extras.update(enumerate(noted, len(rows)))
            if reject is not None:
                rejects.append(reject)
        rows += good
    columns = _columns(rows, extras)
    ordinal = np.array([message.ordinal for message in messages], np.int64)
    document = np.where(columns.seq == 0, ordinal[columns.message], 0)
    untold = [row for row, extra in extras.items() if extra.seq is not None and not extra.is_numbered]
    document[untold] = ordinal[columns.message[untold]]
    correction = np.zeros(len(columns), np.bool_)
    correction[[row for row, extra in extras.items() if extra.context.get("status") == CORRECTED]] = True
    return Decoded(columns, (), rejects, unknown, left_out, document, correction)


ADAPTER = Adapter(
    name="json",
    version=3,
    title="Readings as JSON",
    kinds=MappingProxyType({"": "one reading, an array of readings, or an object with the member readings"}),
    vitals=frozenset(vital.key for vital in VITALS if not vital.panel and not vital.derived),
    decode=decode,
    files=MappingProxyType({"": JsonRecords(("readings",))}),
)
