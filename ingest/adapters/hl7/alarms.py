"""Alarms of monitors: ORU^R40 and ORU^R42, IHE PCD-04 (interop.md 2.3).

One OBR is one alarm, known by its OBR-3. Its OBX are facets: the event (its code names the alarm), the measured value,
the source, the phase, the state, priority and type; the last two stand in OBX-8 as well. Text of the monitor is not
copied: it may name a person. Technical alarms (ST) are status reports of the device.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapter import Alarm
from ingest.adapters.hl7 import codes
from ingest.adapters.hl7.codes import Coded
from ingest.adapters.hl7.mdc import METRICS
from ingest.adapters.hl7.rows import Row, collected, first
from ingest.adapters.hl7.segments import Document, document, time_or_none
from ingest.adapters.hl7.values import Choices, Number, number_of
from vitals.catalog import BY_CODE
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason
from vitals.model import DeviceEvent, Message
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE, to_canonical

KIND: Final = "oru_r40"
_TRIGGERS: Final = ("R40", "R42")
_MARKS: Final = tuple(trigger.encode() for trigger in _TRIGGERS)
_HEAD: Final = 512
"""Bytes of a message in which its MSH-9 stands."""
_FACETS: Final[Mapping[int, str]] = MappingProxyType(
    {68164: "source", 68165: "phase", 68481: "phase", 68166: "state", 68482: "state", 68167: "inactivation",
     68483: "inactivation", 68484: "priority", 68485: "type", 68546: "text"}
)  # fmt: skip
_NAMED_FACETS: Final[Mapping[str, str]] = MappingProxyType(
    {"MDC_ATTR_ALERT_SOURCE": "source", "MDC_ATTR_EVENT_PHASE": "phase", "MDC_ATTR_ALARM_STATE": "state",
     "MDC_ATTR_ALERT_STATE": "state", "MDC_ATTR_ALARM_INACTIVATION_STATE": "inactivation",
     "MDC_ATTR_ALARM_PRIORITY": "priority", "MDC_ATTR_ALERT_PRIORITY": "priority", "MDC_ATTR_ALERT_TYPE": "type",
     "MDC_ATTR_ALERT_TEXT": "text"}
)  # fmt: skip
_PRIORITIES: Final[Mapping[str, str]] = MappingProxyType({"PH": "high", "PM": "medium", "PL": "low", "PN": "low"})
_TYPES: Final = frozenset({"SP", "SA", "ST"})
_WORDS: Final = _TYPES.union(_PRIORITIES)
_EVENTS: Final = 3
"""Partition of MDC codes of events."""
_OVER: Final = frozenset({"end", "reset"})
_OVER_STATES: Final = frozenset({"inactive", "latched"})
_STARTS: Final = frozenset({"start", "tpoint", ""})
"""Phases whose time is that of the event; the others tell what is so when the message is sent."""
_HEARTBEAT: Final = 196614
_EVENT: Final = re.compile(r"MDC_EVT_[A-Z0-9_]{1,56}", re.ASCII)
"""Reference names of events; other text beside a code may be anything."""


class _Facets(NamedTuple):
    """What the OBX of one alarm say."""

    event: Row | None
    label: str
    vital: int
    value: float | None
    words: dict[str, str]


def read_alarms(
    index: int, message: Message, choices: Choices, alarms: list[Alarm], events: list[DeviceEvent]
) -> bool:  # fmt: skip
    """Add the alarms of a message, and technical ones as events; False for a message of another type.

    Raises:
        DecodeError: MALFORMED, AMBIGUOUS_ENCODING as any message; MISSING_FIELD without an OBX or for an OBR that names
            no alarm.
    """
    head = message.payload[:_HEAD]
    if not any(mark in head for mark in _MARKS):
        return False
    doc = document(message.payload)
    if doc.delimiters.components(doc.header.field(9))[:2] not in [["ORU", trigger] for trigger in _TRIGGERS]:
        return False
    body = collected(doc)
    if body.strays:
        raise body.strays[0]
    orders = [segment for _, segment in doc.lines if segment is not None and segment.fields[0] == "OBR"]
    for number in sorted({row.order for row in body.rows}):
        rows = [row for row in body.rows if row.order == number]
        order = orders[number - 1] if number else None
        if order is not None and codes.mdc_number(*_parts(doc, order.field(4))[:2]) == _HEARTBEAT:
            continue
        facets = _read(doc, rows, choices)
        if not facets.label and not facets.words:
            raise DecodeError(Reason.MISSING_FIELD, f"OBR[{number}]: no code of an alarm")
        ident = _ident(doc, order.field(3) if order is not None else "", rows[0], facets)
        is_over = facets.words.get("phase") in _OVER or facets.words.get("state") in _OVER_STATES
        if facets.words.get("type") == "ST":
            if not is_over:
                detail = f"alarm_{facets.label.partition(' ')[0] or 'unknown'}"
                events.append(DeviceEvent(message.device, EventKind.SENSOR_STATUS, message.received_ns, detail,
                                          message=message.ordinal))  # fmt: skip
            continue
        priority, at_ns = facets.words.get("priority", "unknown"), _time(doc, facets.event or rows[0], facets.words)
        is_instant, named = facets.words.get("phase") == "tpoint", body.named if choices.checks_patient else None
        alarms.append(
            Alarm(index, ident, facets.label, priority, at_ns, is_over, is_instant, facets.vital, facets.value, named)
        )
    return True


def _parts(doc: Document, field: str) -> list[str]:
    return doc.delimiters.components(doc.delimiters.repetitions(field)[0])


def _read(doc: Document, rows: Sequence[Row], choices: Choices) -> _Facets:
    event: Row | None = None
    label, vital, value = "", 0, None
    words: dict[str, str] = {}
    for row in rows:
        flags = list(_flags(doc, row))
        for word in flags:
            if word in _PRIORITIES:
                words.setdefault("priority", _PRIORITIES[word])
            elif word in _TYPES:
                words.setdefault("type", word)
        parts = tuple(doc.delimiters.components(row.segment.field(3)))
        coded = choices.code_map.find(parts) or codes.observation(parts)
        says_alarm = not _WORDS.isdisjoint(flags)
        if coded is None or coded.conflict is not None:
            if event is None and says_alarm and parts[0]:
                event, label = row, codes.local_label(parts)
            continue
        facet = _FACETS.get(coded.number or 0) or _NAMED_FACETS.get(coded.name)
        said = _parts(doc, row.segment.field(5))
        if facet == "source":
            vital = vital or _vital(codes.observation(tuple(said)))
        elif facet is not None:
            word = said[0].strip()
            known = _PRIORITIES.get(word.upper()) if facet == "priority" else word.upper()
            if facet in {"phase", "state"}:
                known = word.lower()
            if known:
                words.setdefault(facet, known)
        elif coded.metric is not None:
            vital = coded.metric.vital
            value = _value(doc, row, vital)
        elif event is None and coded.number is not None and (coded.number >> 16 == _EVENTS or says_alarm):
            event, label = row, f"mdc:{coded.number}" + (f" {coded.name}" if _EVENT.fullmatch(coded.name) else "")
    if not vital and event is not None:
        stem = event.segment.field(4).split(".")[3:4]
        metric = METRICS.get(int(stem[0])) if stem and stem[0].isascii() and stem[0].isdigit() else None
        vital = 0 if metric is None else metric.vital
    return _Facets(event, label, vital, value, words)


def _flags(doc: Document, row: Row) -> Iterator[str]:
    for text in doc.delimiters.repetitions(row.segment.field(8)):
        yield doc.delimiters.components(text)[0].strip().upper()


def _vital(coded: Coded | None) -> int:
    return coded.metric.vital if coded is not None and coded.metric is not None else 0


def _value(doc: Document, row: Row, vital: int) -> float | None:
    """The measured number, canonical; None for another value or an unknown unit: the alarm counts without it."""
    unit = codes.unit(vital, tuple(doc.delimiters.components(row.segment.field(6))))
    try:
        found = number_of(row.segment.field(2), _parts(doc, row.segment.field(5)))
    except DecodeError:
        return None
    if unit is None or not isinstance(found, Number) or not math.isfinite(found.value):
        return None
    return float(to_canonical([found.value], UNIT_BY_CODE[unit].ucum, BY_CODE[vital].unit)[0])


def _time(doc: Document, row: Row, words: Mapping[str, str]) -> int:
    """When an alarm began; of one that goes on or ends, when the monitor said so."""
    sent = time_or_none(first(doc, doc.header.field(7)))
    offset = None if sent is None else sent.offset
    own = time_or_none(first(doc, row.segment.field(14)) or row.start)
    times = [one.time_ns for one in (own, sent) if one is not None and one.offset is not None]
    if own is not None and own.offset is None and offset is not None:
        times.insert(0, own.in_zone(offset).time_ns)
    if not times:
        return NO_TIME
    return times[0] if words.get("phase", "") in _STARTS else max(times)


def _ident(doc: Document, order: str, row: Row, facets: _Facets) -> str:
    """By OBR-3; without one by what alarms, and where in the device."""
    stem = "" if order else f"{facets.label} {facets.vital} {row.segment.field(4).rpartition('.')[0]}"
    return blake2b("\x1f".join((doc.header.field(3), order, stem)).encode(), digest_size=12).hexdigest()
