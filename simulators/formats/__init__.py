"""Every format that a simulated device can speak, written from ``device-formats.md`` and not from the adapters."""

import difflib
from typing import Final

from simulators.formats.bluetooth import BLUETOOTH
from simulators.formats.fhir import FHIR
from simulators.formats.files import FILES
from simulators.formats.hl7 import HL7
from simulators.formats.model import CarriedTime, Format, Sample
from simulators.formats.open_mhealth import OPEN_MHEALTH
from simulators.formats.vendors import VENDORS
from vitals.errors import InvalidRequest

__all__ = ["FORMATS", "CarriedTime", "Format", "Sample", "parse_formats"]

FORMATS: Final[tuple[Format, ...]] = (*FILES, *BLUETOOTH, *OPEN_MHEALTH, *FHIR, *HL7, *VENDORS)


def parse_formats(text: str) -> tuple[Format, ...]:
    """Read ``"fhir/bundle,ble_plx"``: an adapter alone means all its formats; an empty text means no format.

    Raises:
        InvalidRequest: an unknown name (with the nearest known one).
    """
    chosen: list[Format] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = [known for known in FORMATS if word in {known.name, known.adapter}]
        if not found:
            names = {name for known in FORMATS for name in (known.name, known.adapter)}
            near = difflib.get_close_matches(word, sorted(names), 1)
            raise InvalidRequest("format", f"no format {word!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        chosen += [known for known in found if known not in chosen]
    return tuple(chosen)
