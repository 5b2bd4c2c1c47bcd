"""An extreme value that has no patient yet, as an alert of the site (DESIGN section 2, promise 6).

Ingest writes the control; the alert stays until a person acts, whatever becomes of the readings.
"""

import math
from typing import Annotated, Any, Final

import msgspec

from alerts.rules.limits import shown
from alerts.rules.reports import value_of, words
from vitals.catalog import BY_KEY, Vital
from vitals.errors import InvalidRequest
from vitals.glossary import Flag, Severity

_Word = Annotated[str, msgspec.Meta(min_length=1)]

_WHY: Final = {
    "no_wearer": "nobody is recorded as its wearer",
    "two_wearers": "its time fits two wearers",
    "clock_reset": "its clock was reset",
    "no_time": "it sent no usable time",
    "other_patient": "it names another patient than the one it is assigned to",
}
"""Reasons of the worklist in the words of a person."""
_DOUBTS: Final = {
    "code_conflict": (
        "but its codes are those of different vital signs: look at the person, then have the device's codes checked"
    ),
    "unreadable": "but the value cannot be read as a whole: look at the person, then at its message in quarantine",
    "unit_suspect": "if it sends another unit than it names: look at the person, then check the unit of the device",
    "status_registered": "which its sender has only registered: look at the person, then ask for the result",
    "status_unknown": "and its sender does not say whether it is final: look at the person, then ask for the result",
}
"""Reasons of a value that no reading stands for."""
_VAGUE: Final = frozenset({"code_conflict", "unreadable"})
"""Doubts in which it is not known what was measured, or how severe it is."""
_UNTIMED: Final = {
    "no_time": "its clock is not set, or it did not send its time",
    "clock_reset": "its clock was reset",
    "no_wearer": "its clock is wrong",
}
"""Why it is not known when the device of a wearer measured."""


class UnclaimedBody(msgspec.Struct, frozen=True):
    """Body of ``unclaimed``: the first of a device's live extremes that wait, and the worklist's items with extremes.

    ``value`` is in the catalogue's unit, None where the device gave none; ``reason`` is why the readings wait, and
    ``assigned`` whether somebody wears the device now.
    """

    device: _Word
    vital: _Word
    value: float | None
    flags: int
    received_ns: int
    reason: _Word
    items: list[str]
    assigned: bool = False


class OtherPatientBody(msgspec.Struct, frozen=True):
    """Body of ``other_patient``: messages of a device name another patient than its wearer; ``items`` of the worklist
    hold their readings."""

    device: _Word
    received_ns: int
    items: list[str]


def unclaimed_severity(body: UnclaimedBody | OtherPatientBody) -> Severity:
    """S1 for an extreme, as if its patient were known; S2 where it is not known what was measured, or how severe."""
    doubtful = isinstance(body, OtherPatientBody) or body.reason in _VAGUE
    return Severity.S2 if doubtful else Severity.S1


def other_patient_rule(device: str) -> str:
    """Rule id of the alert: ``review:other_patient:monitor-1``; one is open per device at most."""
    return f"review:other_patient:{device}"


def other_patient_text(body: OtherPatientBody) -> str:
    """What the alert says; it names no person."""
    return (
        f"Device {body.device} names another patient than the one it is assigned to, and its readings wait: "
        "look who is on the device, correct the assignment or the patient on the device, then assign the readings"
    )


def unclaimed_rule(device: str) -> str:
    """Rule id of the alert: ``review:unclaimed:meter-1``; one is open per device at most."""
    return f"review:unclaimed:{device}"


def unclaimed_value(body: UnclaimedBody) -> dict[str, Any]:
    """The reading as events show it, at the time that it was received; raises ``InvalidRequest`` for no vital."""
    return value_of(_vital(body).code, body.received_ns, math.nan if body.value is None else body.value, body.flags)


def unclaimed_quality(body: UnclaimedBody) -> tuple[str, ...]:
    """Its flags as words."""
    return words(body.flags)


def unclaimed_text(body: UnclaimedBody) -> str:
    """What the alert says; raises ``InvalidRequest`` for no vital.

    Worked: ``Oxygen saturation 84 % from device d1, and nobody knows whose it is (its clock was reset): find the
    person, then assign the readings``.
    """
    vital, why = _vital(body), _WHY.get(body.reason, body.reason)
    if body.reason in _DOUBTS:
        seen = "without a number" if body.value is None else shown(body.value, vital.unit)
        return f"Perhaps {vital.name} {seen} from device {body.device}, {_DOUBTS[body.reason]}"
    if body.flags & (Flag.BELOW_RANGE | Flag.ABOVE_RANGE):
        seen = f"{'below' if body.flags & Flag.BELOW_RANGE else 'above'} the sensor's range"
    else:
        seen = "without a number" if body.value is None else shown(body.value, vital.unit)
    untimed = body.reason != "no_wearer" or body.flags & Flag.CLOCK_SUSPECT
    if body.assigned and untimed and body.reason in _UNTIMED:
        return (
            f"{vital.name} {seen} from device {body.device}. The device is assigned, but {_UNTIMED[body.reason]}, so "
            "nobody knows when this was measured: look at the patient who wears it, then assign the readings"
        )
    return (
        f"{vital.name} {seen} from device {body.device}, and nobody knows whose it is ({why}): "
        "find the person, then assign the readings"
    )


def _vital(body: UnclaimedBody) -> Vital:
    vital = BY_KEY.get(body.vital)
    if vital is None:
        raise InvalidRequest("vital", "is not in the catalogue")
    return vital
