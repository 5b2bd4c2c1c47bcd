"""``omh``: Open mHealth and IEEE 1752.1 data points as JSON (device-formats.md 3).

Layout: ``{"header", "body"}`` or a body alone, one or an array of them. The kind names the schema of a body
(``blood-glucose-4.0``, or ``blood-glucose`` for any version); a header names its own, and both must agree. What the
schemas forbid in values and times makes a data point unreadable; its neighbours in the array are kept. What only adds
to a value (words of a body, members of a header beside ``schema_id``) is left out and counted when it cannot be read.
Units are taken in other spellings too. Members that a schema does not name are ignored and counted. Nothing of
``user_id``, ``source_name`` and other members that may name a person is copied.

Times: ``date_time`` and the start of ``time_interval``, whose end is ``ended_ns``; an end at the start is a point. A
date with a part of the day is a day. Without an offset a time is wall time, since producers often mean that, or UTC as
the schema says (setting ``zoneless``). Without a time frame the time is that of receipt: the header tells when the
record was made, not the value. Days and weeks are taken as 24 and 168 hours; months and years have no end, or where
only the end is given no start. The pair is kept in ``context["duration"]``.

Values: a statistic is marked as such. A spread or count is given in the canonical unit, which its own factor leads to,
not the vital's; masses and durations in units of no vital are multiplied into one. In both cases the context has
``reported_value`` and ``reported_unit``. Glucose in a sample that is neither blood nor interstitial fluid is an event.

Identity (device-formats.md 8.4): the time as sent, and ``seq``: a negative hash of the header's id; without an id 0 for
a single value at an instant, else a negative number made of length, part of the day and statistic. It is never
positive, because it is no sequence number. Without a time: the receipt time and the message ordinal.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.omh import header as omh_header
from ingest.adapters.omh import times
from ingest.adapters.omh.header import NO_HEADER, Header
from ingest.adapters.omh.schemas import (
    SCHEMAS,
    STATISTICS,
    VITAL_BY_SAMPLE,
    SchemaRules,
    SchemaUnit,
    SchemaValue,
    Word,
    spelled,
)
from ingest.adapters.omh.times import Notes, When
from ingest.adapters.reading.json_document import members, number, one_of, parse, required, text
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason, Statistic
from vitals.model import DeviceEvent, Message
from vitals.units import UNIT_BY_CODE

_LARGEST: Final = 1e12
"""No quantity of a body is larger in any unit; conversion could make an infinity of it."""
_STATISTIC_NUMBER: Final = {word: place for place, word in enumerate(STATISTICS, 1)}
_NAMED: Final = frozenset({Statistic.QUANTILE, Statistic.QUARTILE_DEVIATION})
"""Statistics whose word says more than the column."""
_SPREADS: Final = frozenset({Statistic.STANDARD_DEVIATION, Statistic.VARIANCE, Statistic.QUARTILE_DEVIATION})
_TIME_FRAME: Final = "effective_time_frame"
_STATISTIC: Final = "descriptive_statistic"


class _Amount(NamedTuple):
    """A number in a unit that the vital accepts."""

    vital: int
    value: float
    unit: int
    reported: tuple[float, str] | None


def _quantity(body: dict[str, Any], path: str, value: SchemaValue, notes: Notes) -> tuple[float, str, SchemaUnit]:
    """Number, and unit as sent, of a body's member."""
    path = f"{path}{value.member}"
    found = body[value.member]
    if value.plain and not (value.quantity and isinstance(found, dict)):
        (word,) = value.units
        return number(found, path), word, value.units[word]
    pair = members(found, path)
    amount = number(required(pair, "value", path), f"{path}.value")
    word = text(required(pair, "unit", path), f"{path}.unit")
    unit = value.units.get(word) or spelled(value, word)
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, f"{path}.unit")
    notes.unknown += len(pair) - 2
    return amount, word, unit


def _amount(body: dict[str, Any], path: str, value: SchemaValue, statistic: Statistic, notes: Notes) -> _Amount:
    sent, word, unit = _quantity(body, path, value, notes)
    factor, code = unit.factor, unit.code
    if statistic in _SPREADS or statistic is Statistic.COUNT:
        # The zero of the unit's scale means nothing to these: a spread of 1.8 F is one of 1 Cel.
        factor = {Statistic.COUNT: 1.0, Statistic.VARIANCE: unit.step**2}.get(statistic, unit.step)
        code = unit.canonical
    amount = sent * factor
    if abs(amount) > _LARGEST:
        raise DecodeError(Reason.BAD_VALUE, f"{path}{value.member}: over {_LARGEST:g}")
    as_sent = unit.factor == 1.0 and code == unit.code
    return _Amount(value.vital, amount, code, None if as_sent else (sent, word))


def _word(found: Any, path: str, word: Word) -> str:
    if word.allowed is not None:
        return one_of(found, path, word.allowed)
    note = text(found, path)
    try:
        note.encode()
    except UnicodeEncodeError:
        raise DecodeError(Reason.BAD_VALUE, f"{path}: half a surrogate pair") from None
    return note


def _note(found: Any, path: str, word: Word, notes: Notes) -> None:
    """Keep a word beside the values. What cannot be read is left out, unless it decides which vital is meant."""
    try:
        notes.context[word.key] = _word(found, path, word)
    except DecodeError:
        if word.key == "sample":
            raise
        notes.left_out += 1


def _statistic(body: dict[str, Any], path: str, notes: Notes) -> tuple[Statistic, int]:
    """The statistic, and its number in identities."""
    if _STATISTIC not in body:
        return Statistic.SINGLE, 0
    word = one_of(body[_STATISTIC], f"{path}{_STATISTIC}", STATISTICS)
    statistic = STATISTICS[word]
    if statistic in _NAMED:
        notes.context["statistic"] = word
    return statistic, _STATISTIC_NUMBER[word]


class _Body(NamedTuple):
    """What a body says. ``seq`` is its identity beside the time when no header gives one."""

    amounts: list[_Amount]
    when: When | None
    statistic: Statistic
    seq: int


def _read_body(body: dict[str, Any], path: str, rules: SchemaRules, is_utc: bool, notes: Notes) -> _Body:
    """Everything of a body, checked; ``path`` is empty or ends in a dot."""
    statistic, statistic_number = _statistic(body, path, notes)
    known = {_TIME_FRAME, _STATISTIC}
    amounts = []
    for value in rules.values:
        if value.member in body:
            known.add(value.member)
            try:
                amounts.append(_amount(body, path, value, statistic, notes))
            except DecodeError as problem:
                if value.required:
                    raise
                notes.problem = problem
        elif value.required:
            raise DecodeError(Reason.MISSING_FIELD, f"{path}{value.member}")
    for name, found in body.items():
        word = rules.words.get(name)
        if word is not None:
            _note(found, f"{path}{name}", word, notes)
        elif name not in known:
            notes.unknown += 1
    when = times.read(body, path, rules, is_utc, notes)
    shape = 0 if when is None else when.shape
    return _Body(amounts, when, statistic, -(shape * 32 + statistic_number))


class _Output:
    """Collects what the data points of a micro-batch give."""

    def __init__(self) -> None:
        self.readings = ReadingsBuilder()
        self.events: list[DeviceEvent] = []
        self.rejects: list[Reject] = []
        self.unknown = 0
        self.left_out = 0

    def add(self, index: int, message: Message, place: int, header: Header, body: _Body, notes: Notes) -> None:
        """Add a data point that is right in every way, the ``place``-th of its message."""
        # The times of receipt of data points without a time of their own differ, or they would be one reading.
        when = body.when or When(SourceClock.NONE, message.received_ns + place)
        seq = message.ordinal if body.when is None else header.seq or body.seq
        sample = notes.context.get("sample")
        vital_of_sample = None if sample is None else VITAL_BY_SAMPLE[sample]
        self.unknown += header.unknown + notes.unknown
        self.left_out += header.left_out + notes.left_out
        for amount in body.amounts:
            context = {**header.context, **notes.context}
            if amount.reported is not None:
                context["reported_value"], context["reported_unit"] = amount.reported
            if vital_of_sample == 0:
                self._no_vital(message, amount, f"glucose in {sample}")
                continue
            self.readings.add(
                index, vital_of_sample or amount.vital, amount.value, amount.unit, when.source_ns,
                clock=when.clock, seq=seq, ended_ns=when.ended_ns, tz_min=when.tz_min, statistic=body.statistic,
                flags=header.flags | when.flags, context=context,
            )  # fmt: skip

    def _no_vital(self, message: Message, amount: _Amount, what: str) -> None:
        unit = UNIT_BY_CODE[amount.unit].ucum
        self.events.append(
            DeviceEvent(
                message.device, EventKind.CONTEXT, message.received_ns, f"{what}, {unit}", amount.value,
                message=message.ordinal,
            )
        )  # fmt: skip


class _Payload(NamedTuple):
    """The ``number``-th message, the rules that its kind asks for, and how its times without an offset are read."""

    number: int
    message: Message
    asked: SchemaRules | None
    settings: Mapping[str, str]


def _add_point(payload: _Payload, item: Any, place: int, where: str, output: _Output) -> None:
    """Add one data point, or raise ``DecodeError``; ``where`` is its path, empty for a payload that is one point."""
    point = members(item, where or "$")
    prefix, notes, header = f"{where}." if where else "", Notes(), NO_HEADER
    rules = payload.asked
    if "header" in point or "body" in point:
        for name in ("header", "body"):
            if name not in point:
                raise DecodeError(Reason.MISSING_FIELD, f"{prefix}{name}")
        header = omh_header.read(point["header"], f"{prefix}header", rules, payload.settings)
        rules = header.rules
        notes.unknown = len(point) - 2
        point, prefix = members(point["body"], f"{prefix}body"), f"{prefix}body."
    if rules is None:
        raise DecodeError(Reason.MISSING_FIELD, f"{prefix}header")
    body = _read_body(point, prefix, rules, payload.settings.get("zoneless") == "utc", notes)
    output.add(payload.number, payload.message, place, header, body, notes)
    if notes.problem is not None:
        raise notes.problem


def _add_payload(payload: _Payload, output: _Output) -> None:
    """Add every good data point; raise the first problem, with the number of others, after the last."""
    document = parse(payload.message.payload)
    if not isinstance(document, list):
        _add_point(payload, document, 0, "", output)
        return
    problems: list[DecodeError] = []
    for place, item in enumerate(document):
        try:
            _add_point(payload, item, place, f"[{place}]", output)
        except DecodeError as problem:
            problems.append(problem)
    if problems:
        first, others = problems[0], len(problems) - 1
        raise DecodeError(first.reason, f"{first.detail}; {others} more" if others else first.detail)


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings in the unit that was sent; a payload with bad data points keeps its good ones and is rejected once."""
    output = _Output()
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        try:
            if message.kind not in _ASKED:
                raise DecodeError(Reason.UNKNOWN_KIND)
            _add_payload(_Payload(index, message, _ASKED[message.kind], context.settings), output)
        except DecodeError as problem:
            output.rejects.append(Reject(index, problem.reason, problem.detail))
    return Decoded(output.readings.build(), output.events, output.rejects, output.unknown, output.left_out)


def _kinds() -> dict[str, tuple[SchemaRules | None, str]]:
    """Kind -> the rules that it asks for, and a sentence."""
    kinds: dict[str, tuple[SchemaRules | None, str]] = {"": (None, "data points whose headers name their schema")}
    for name, all_rules in SCHEMAS.items():
        for rules in all_rules:
            kind = f"{name}-{rules.version}" if rules.version else name
            version = f"version {rules.version}" if rules.version else "any version"
            kinds[kind] = (rules, f"{name.replace('-', ' ')}, {version}: data points or bodies")
    return kinds


_ASKED: Final = {kind: rules for kind, (rules, _) in _kinds().items()}

ADAPTER = Adapter(
    name="omh",
    version=2,
    title="Open mHealth and IEEE 1752.1 data points",
    kinds=MappingProxyType({kind: sentence for kind, (_, sentence) in _kinds().items()}),
    vitals=frozenset(
        {
            "glucose_bg", "glucose_isf", "heart_rate", "spo2", "o2_flow", "bp_sys", "bp_dia", "temp", "resp_rate",
            "weight", "steps", "rr_interval", "sleep",
        }
    ),
    decode=decode,
    settings=MappingProxyType(
        {
            "zoneless": "how a time without an offset is read: `wall` (default), in the wearer's zone; `utc`, as the"
            " schemas say",
            "ieee_header": "members that an IEEE 1752.1 header must have beside `schema_id`, separated by spaces;"
            " none by default",
        }
    ),
    files=MappingProxyType({"": JsonRecords()}),
)  # fmt: skip
