"""What events of the engine say of readings and limits, as the alert book keeps it."""

import math
from typing import Any

from alerts.rules import Side, SlotSpec
from vitals.catalog import BY_CODE
from vitals.glossary import Flag
from vitals.units import UNIT_BY_CODE


def words(flags: int) -> tuple[str, ...]:
    """Flags as the words of the glossary."""
    return tuple(str(flag.name).lower() for flag in Flag if flags & flag)


def value_of(code: int, time_ns: int, value: float, flags: int) -> dict[str, Any]:
    """A reading; None where it has no number."""
    vital = BY_CODE[code]
    number = None if math.isnan(value) else value
    return {"vital": vital.key, "value": number, "unit": vital.unit, "time_ns": time_ns, "flags": list(words(flags))}


def limit_of(spec: SlotSpec) -> dict[str, Any]:
    """The parameters of a rule."""
    return {
        "vital": BY_CODE[spec.vital].key, "side": Side(spec.side).word, "value": spec.limit,
        "unit": UNIT_BY_CODE[spec.unit].ucum, "deadband": spec.deadband, "on_delay_s": spec.on_delay_ns / 1e9,
    }  # fmt: skip
