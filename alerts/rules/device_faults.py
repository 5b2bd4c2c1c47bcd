"""Rules about faults of devices that need no programme, and their words (clinical.md 5.1, technical)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from alerts.rules.limits import shown
from alerts.rules.spec import RuleFace, TroubleRule
from vitals.catalog import BY_CODE
from vitals.glossary import EventKind, Severity
from vitals.times import HOUR_NS, MINUTE_NS

BATTERY, CLOCK, FAULT, FLAPPING, GATEWAY = "battery", "clock", "fault", "flapping", "gateway"
UNIT: Final = "unit"
"""Cause of a device whose values may be in another unit. No programme has to watch for it (:data:`ALWAYS`)."""
IMPLAUSIBLE: Final = "implausible"
"""Cause of a device that sends impossible values for some time; likewise."""
IMPLAUSIBLE_NS: Final = 2 * MINUTE_NS
"""A sensor that moved sends an impossible value now and then; what goes on is told (design default)."""
_SITE_AFTER_NS: Final[Mapping[str, int]] = MappingProxyType(
    {BATTERY: 0, CLOCK: 0, FAULT: 0, FLAPPING: 0, GATEWAY: HOUR_NS, UNIT: 0, IMPLAUSIBLE: IMPLAUSIBLE_NS}
)
_SITE_SLA_S: Final = 86_400
_CAUSES: Final[Mapping[str, str]] = MappingProxyType({EventKind.CLOCK_FAULT: CLOCK, EventKind.FLAPPING: FLAPPING})
"""Kinds of a report that faults are made of; the others are faults of the device itself."""
_OF_DETAIL: Final[Mapping[str, str]] = MappingProxyType({"unit_suspect": UNIT, "implausible": IMPLAUSIBLE})
"""Status words of a device that are causes of their own."""
_EITHER: Final[Mapping[str, str]] = MappingProxyType({
    "mg/dL": "mg/dL or mmol/L", "Cel": "°C or °F", "mm[Hg]": "mmHg or kPa", "%": "percent or a fraction of 1",
})  # fmt: skip
"""Canonical unit of a vital sign -> the two that are mistaken for each other."""


def _rule(name: str, title: str, cause: str, after_ns: int) -> TroubleRule:
    face = RuleFace(name, 0, title, "monitoring", "technical", _SITE_SLA_S, 0, True)
    return TroubleRule(face, cause, after_ns, int(Severity.S3))


ALWAYS: Final = (
    _rule("technical:unit", "Unit of a device in doubt", UNIT, 0),
    _rule("technical:implausible", "A device sends impossible values", IMPLAUSIBLE, IMPLAUSIBLE_NS),
)
"""Rules of every patient, beside those of programmes."""


def site_rules(device: str) -> tuple[TroubleRule, ...]:
    """Those of a device that nobody is known to wear: S3, the site's, ``technical:battery:<device>``."""
    return tuple(
        _rule(f"technical:{cause}:{device}", f"{device}: {cause}", cause, after_ns)
        for cause, after_ns in _SITE_AFTER_NS.items()
    )


def describe(device: str, cause: str, detail: str, value: float | None, vital: int = 0) -> str:
    """Worked: ``Battery of oximeter-1 is low (12 %)``, ``hub-2 is offline: connection lost``. ``vital`` is the code of
    the vital sign that it is about, 0 for none."""
    words = detail.replace("_", " ")
    match cause:
        case "battery":
            return f"Battery of {device} is low" + ("" if value is None else f" ({value:.0f} %)")
        case "clock":
            return f"Clock of {device} is wrong: {words}"
        case "flapping":
            again = "two clients are taken for it" if words == "taken over" else "it connects again and again"
            return f"Connection of {device} is not stable: {again}"
        case "gateway":
            return f"{device} is offline: {words}"
        case "unit":
            either = _EITHER[BY_CODE[vital].unit if vital else "mg/dL"]
            return f"The unit of {device} is in doubt: check whether it sends {either}"
        case "implausible" if vital:
            seen = "" if value is None else f" {shown(value, BY_CODE[vital].unit)}"
            return f"{device} sends what cannot be: {BY_CODE[vital].name}{seen}; look at the person, then at the device"
        case _:
            return f"{device} reports a fault: {words}"


def cause_of(kind: str, detail: str) -> str:
    """The cause that a fault belongs to, by the kind and the word of its reports."""
    return _OF_DETAIL.get(detail) or _CAUSES.get(kind, FAULT)


def fault_name(kind: str, detail: str, vital: int) -> str:
    """What tells faults of a device apart: absent values by their vital, flapping not at all, others by their word;
    by their vital too those that are about the values of one."""
    match kind:
        case EventKind.FLAPPING:
            return kind
        case EventKind.VALUE_ABSENT:
            return f"{kind}:{vital}"
        case _:
            return f"{kind}:{detail}:{vital}" if vital and detail in _OF_DETAIL else f"{kind}:{detail}"
