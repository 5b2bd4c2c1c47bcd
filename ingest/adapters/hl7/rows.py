"""The rows of a message: which OBX stand under which order, which of them lost their tail, and what they give."""

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from ingest.adapter import Alarm, ReadingsBuilder, Reject
from ingest.adapters.hl7.segments import NULL, Delimiters, Document, Segment
from ingest.adapters.reading.stated_patient import OTHER, stated_patient
from vitals.errors import DecodeError
from vitals.glossary import Reason
from vitals.model import DeviceEvent
from vitals.records import NamedPatient

_EUI: Final = re.compile(r"[0-9A-Fa-f]{16}", re.ASCII)
_OFFSET: Final = re.compile(r"[+-]\d{4}$", re.ASCII)


class Row(NamedTuple):
    """One OBX: its number in the message, the number of its OBR and that one's OBR-7."""

    number: int
    segment: Segment
    order: int
    start: str
    is_cut: bool


class Collected(NamedTuple):
    """The OBX rows of a message, its lines that are no segments, and the patient whom its PID names."""

    rows: list[Row]
    strays: list[DecodeError]
    named: NamedPatient | None


def collected(doc: Document) -> Collected:
    """What stands below the MSH of a message.

    Raises:
        DecodeError: MALFORMED for a second MSH, AMBIGUOUS_ENCODING for a second patient, MISSING_FIELD without an OBX.
    """
    rows: list[Row] = []
    strays: list[DecodeError] = []
    named: NamedPatient | None = None
    order, patients, start, patient, before = 0, 0, "", "", ""
    for number, segment in doc.lines:
        if segment is None:
            strays.append(DecodeError(Reason.MALFORMED, f"line {number}"))
            continue
        match segment.fields[0]:
            case "MSH":
                raise DecodeError(Reason.MALFORMED, f"line {number}: a second MSH")
            case "PID":
                patients, start = patients + 1, ""
                listed = segment.field(3)
                if patient and listed not in {"", patient}:
                    raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"PID[{patients}]-3: another patient")
                if listed and not patient:
                    patient, named = listed, stated_patient(_identifiers(segment, doc.delimiters))
            case "OBR":
                order, start = order + 1, first(doc, segment.field(7))
            case "OBX":
                usual = before or (segment.field(14) and (start or first(doc, doc.header.field(7))))
                rows.append(Row(len(rows) + 1, segment, order, start, _is_cut(segment, usual)))
                before = max(before, segment.field(14), key=len)
    if not rows:
        raise DecodeError(Reason.MISSING_FIELD, "OBX")
    return Collected(rows, strays, named)


def _identifiers(pid: Segment, marks: Delimiters) -> Iterator[tuple[str, str]]:
    """(number, type) of the identifiers of PID-3; PID-2 and PID-4 of older versions, and a number with its check digit,
    can only agree."""
    for text in marks.repetitions(pid.field(3)):
        number, check, _, _, kind = [*marks.components(text), "", "", "", "", ""][:5]
        yield number, kind
        if check:
            yield number + check, OTHER
    for place in (2, 4):
        for text in marks.repetitions(pid.field(place)):
            yield marks.components(text)[0], OTHER


def first(doc: Document, field: str) -> str:
    """Component 1 of a field, empty for the null value."""
    text = field.partition(doc.delimiters.component)[0]
    return "" if text == NULL else text


def _is_cut(segment: Segment, usual: str) -> bool:
    """Whether a last segment without its line end lost its tail: it has neither OBX-11 nor OBX-14, or an OBX-14 without
    an offset that is shorter than is ``usual`` in the message. A shorter time would be another time."""
    time = segment.field(14)
    if segment.ended:
        return False
    return not (segment.field(11) or time) or (len(time) < len(usual) and not _OFFSET.search(time))


class Hl7Output:
    """What a micro-batch gives."""

    def __init__(self) -> None:
        self.readings = ReadingsBuilder()
        self.events: list[DeviceEvent] = []
        self.rejects: list[Reject] = []
        self.alarms: list[Alarm] = []
        self.unknown = 0


def hashed(*parts: str) -> int:
    """A negative 63-bit number that is the same for the same texts, in every process."""
    digest = blake2b("\x1f".join(parts).encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def equipment_of(marks: Delimiters, segment: Segment) -> str:
    """The EUI-64 of OBX-18, empty without one."""
    return next((part for part in marks.components(segment.field(18)) if _EUI.fullmatch(part)), "")
