"""Alarms that devices raise themselves, as alerts of ours (interop.md 2.3).

The text of a monitor may name a person, so an alert says the code of the alarm and its reference name instead.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec

from alerts.rules.limits import quantity
from alerts.rules.own import plain_face
from alerts.rules.reports import value_of
from alerts.rules.spec import RuleFace
from alerts.rules.types import CAUSES
from vitals.catalog import BY_CODE
from vitals.errors import InvalidRequest
from vitals.glossary import Severity

MONITOR: Final = "monitor:"
"""Begins the rule id of such an alert."""
_SEVERITY: Final[Mapping[str, Severity]] = MappingProxyType(
    {"high": Severity.S1, "medium": Severity.S2, "unknown": Severity.S2, "low": Severity.S3}
)
_Word = Annotated[str, msgspec.Meta(min_length=1)]


class AlarmBody(msgspec.Struct, frozen=True):
    """Body of ``alarm``. ``patient`` is empty where nobody is known to wear the device, or where the alarm names
    another patient; ``about`` is the key of the vital sign, else the code; ``value`` is canonical; ``late`` is an alarm
    that comes too late to page."""

    device: _Word
    patient: str
    step: Literal["begins", "ends", "late"]
    about: _Word
    vital: int
    label: str
    value: float | None
    priority: Literal["high", "medium", "low", "unknown"]
    other_patient: bool
    time_ns: int
    message: int


def alarm_rule(body: AlarmBody) -> str:
    """Rule id: ``monitor:spo2``, ``monitor:mdc:196670``; of nobody's alarm with the device, ``monitor:d1:spo2``."""
    return MONITOR + (body.about if body.patient else f"{body.device}:{body.about}")


def alarm_face(body: AlarmBody) -> RuleFace:
    """The rule of an alarm; its incident is that of our alerts on the vital sign. Raises ``InvalidRequest``."""
    vital = BY_CODE.get(body.vital) if body.vital else None
    if body.vital and vital is None:
        raise InvalidRequest("vital", "is not in the catalogue")
    rule = alarm_rule(body)
    cause = CAUSES.get(vital.key, rule) if vital is not None and body.patient else rule
    title = "Alarm of the monitor" if vital is None else f"Alarm of the monitor: {vital.name}"
    return plain_face(rule, 0, title, cause, _SEVERITY[body.priority], technical=False)


def alarm_severity(body: AlarmBody) -> Severity:
    """High is S1, medium and unknown are S2, low is S3."""
    return _SEVERITY[body.priority]


def alarm_values(body: AlarmBody) -> tuple[dict[str, Any], ...]:
    """The measured value, if the monitor gave one."""
    if body.value is None or not body.vital:
        return ()
    return (value_of(body.vital, body.time_ns, body.value, 0),)


def alarm_text(body: AlarmBody) -> str:
    """What the alert says.

    Worked: ``The monitor alarms: Oxygen saturation 84 %, lo val (code 196670), high priority``.
    """
    code, _, name = body.label.partition(" ")
    said = []
    if body.vital:
        vital = BY_CODE[body.vital]
        said.append(vital.name if body.value is None else f"{vital.name} {quantity(vital, body.value)}")
    number = code.removeprefix("mdc:")
    if number:
        words = name.removeprefix("MDC_EVT_").replace("_", " ").lower()
        said.append(f"{words} (code {number})" if words else f"code {number}")
    said.append("priority not stated" if body.priority == "unknown" else f"{body.priority} priority")
    text = f"The monitor alarms: {', '.join(said)}"
    if body.patient:
        return text
    why = "it names another patient than its wearer" if body.other_patient else "nobody is recorded as its wearer"
    return f"{text}. Nobody knows whose alarm of device {body.device} it is ({why}): find the person"
