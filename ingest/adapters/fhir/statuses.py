"""What the status of an Observation makes of its values (device-formats.md 4.4)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from vitals.glossary import Flag


class ObservationStatus(NamedTuple):
    """What a status makes of the values; ``is_withheld``: they are told as events, nothing may alert on them."""

    flags: int = 0
    is_withheld: bool = False
    is_noted: bool = True
    is_correction: bool = False


STATUSES: Final[Mapping[str, ObservationStatus]] = MappingProxyType(
    {
        "final": ObservationStatus(is_noted=False),
        "amended": ObservationStatus(is_correction=True),
        "corrected": ObservationStatus(is_correction=True),
        "preliminary": ObservationStatus(int(Flag.ESTIMATED)),
        "entered-in-error": ObservationStatus(int(Flag.RETRACTED)),
        "cancelled": ObservationStatus(int(Flag.RETRACTED)),
        "registered": ObservationStatus(is_withheld=True),
        "unknown": ObservationStatus(is_withheld=True),
    }
)
