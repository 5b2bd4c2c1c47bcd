"""Codings of one value that name two vital signs: no reading is made of it, and it is told with what it may be."""

from collections.abc import Sequence

from ingest.adapters.fhir import codes, values
from ingest.adapters.fhir.codes import Coding, Node
from ingest.adapters.reading.units import unit_of
from ingest.adapters.reading.urgency import most_urgent
from vitals.catalog import BY_CODE
from vitals.errors import DecodeError
from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Message


def conflict(
    found: Sequence[Coding], perhaps: Sequence[int], node: Node, prefix: str, message: Message, *, is_test: bool
) -> DeviceEvent:
    """The event of a value whose codings name the vital signs ``perhaps``; of test data it names none."""
    try:
        said = values.other(node, prefix)
    except DecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    unit = said.get("unit", "")
    units = [(vital, None if BY_CODE[vital].values else unit_of(vital, unit)) for vital in perhaps]
    vital, value = most_urgent(said.get("value"), units)
    return DeviceEvent(
        message.device, EventKind.CODE_CONFLICT, message.received_ns, codes.label(found), value,
        vital=0 if is_test else vital, message=message.ordinal,
    )  # fmt: skip
