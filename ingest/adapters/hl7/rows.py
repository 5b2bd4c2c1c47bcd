"""The rows of a message: which OBX stand under which order, and which of them lost their tail."""

import re
from typing import Final, NamedTuple

from ingest.adapters.hl7.segments import NULL, Document, Segment
from vitals.errors import DecodeError
from vitals.glossary import Reason

_OFFSET: Final = re.compile(r"[+-]\d{4}$", re.ASCII)


class Row(NamedTuple):
    """One OBX: its number in the message, the number of its OBR and that one's OBR-7."""

    number: int
    segment: Segment
    order: int
    start: str
    is_cut: bool


def collected(doc: Document) -> tuple[list[Row], list[DecodeError]]:
    """The OBX rows of a message, and its lines that are no segments.

    Raises:
        DecodeError: MALFORMED for a second MSH, AMBIGUOUS_ENCODING for a second patient, MISSING_FIELD without an OBX.
    """
    rows: list[Row] = []
    strays: list[DecodeError] = []
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
                named = segment.field(3)
                if patient and named not in {"", patient}:
                    raise DecodeError(Reason.AMBIGUOUS_ENCODING, f"PID[{patients}]-3: another patient")
                patient = patient or named
            case "OBR":
                order, start = order + 1, first(doc, segment.field(7))
            case "OBX":
                usual = before or (segment.field(14) and (start or first(doc, doc.header.field(7))))
                rows.append(Row(len(rows) + 1, segment, order, start, _is_cut(segment, usual)))
                before = max(before, segment.field(14), key=len)
    if not rows:
        raise DecodeError(Reason.MISSING_FIELD, "OBX")
    return rows, strays


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
