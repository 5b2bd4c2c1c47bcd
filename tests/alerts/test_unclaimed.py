"""What an alert says of an extreme that is nobody's yet."""

from typing import Any

import msgspec
import pytest

from alerts.engine import Engine
from alerts.programmes.controls import check_control, read_body
from alerts.rules.unclaimed import (
    OtherPatientBody,
    UnclaimedBody,
    unclaimed_quality,
    unclaimed_rule,
    unclaimed_severity,
    unclaimed_text,
    unclaimed_value,
)
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import ControlKind, Flag, Severity
from vitals.model import Control
from vitals.records import Alert

LO = UnclaimedBody("meter-1", "glucose_bg", None, int(Flag.BELOW_RANGE), 5, "clock_reset", ["7"])


def changed(**members: object) -> UnclaimedBody:
    return msgspec.convert(msgspec.to_builtins(LO) | members, UnclaimedBody)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (LO, "Capillary blood glucose below the sensor's range from device meter-1, and nobody knows whose it is (its "
             "clock was reset): find the person, then assign the readings"),
        (changed(flags=int(Flag.ABOVE_RANGE), reason="no_time"),
         "Capillary blood glucose above the sensor's range from device meter-1, and nobody knows whose it is (it sent "
         "no usable time): find the person, then assign the readings"),
        (changed(vital="spo2", value=84.0, flags=0, reason="no_wearer"),
         "Oxygen saturation 84 % from device meter-1, and nobody knows whose it is (nobody is recorded as its wearer): "
         "find the person, then assign the readings"),
        (changed(vital="temp", value=39.14, flags=0, reason="two_wearers"),
         "Body temperature 39.1 °C from device meter-1, and nobody knows whose it is (its time fits two wearers): "
         "find the person, then assign the readings"),
        (changed(vital="bp_sys", value=220.0, flags=0, reason="no_time", assigned=True),
         "Systolic blood pressure 220 mmHg from device meter-1. The device is assigned, but its clock is not set, or "
         "it did not send its time, so nobody knows when this was measured: look at the patient who wears it, then "
         "assign the readings"),
        (changed(vital="spo2", value=84.0, flags=int(Flag.CLOCK_SUSPECT), reason="no_wearer", assigned=True),
         "Oxygen saturation 84 % from device meter-1. The device is assigned, but its clock is wrong, so nobody knows "
         "when this was measured: look at the patient who wears it, then assign the readings"),
        (changed(vital="spo2", value=84.0, flags=0, reason="no_wearer", assigned=True),
         "Oxygen saturation 84 % from device meter-1, and nobody knows whose it is (nobody is recorded as its wearer): "
         "find the person, then assign the readings"),
    ],
)  # fmt: skip
def test_the_text_says_what_was_seen_where_and_what_to_do(body: UnclaimedBody, text: str) -> None:
    assert unclaimed_text(body) == text


def test_an_extreme_is_as_urgent_as_if_its_patient_were_known() -> None:
    assert unclaimed_severity(LO) is Severity.S1
    assert unclaimed_severity(changed(reason="code_conflict")) is Severity.S2, "which vital sign it is is not known"
    assert unclaimed_severity(OtherPatientBody("monitor-1", 5, ["7"])) is Severity.S2


def test_value_quality_and_rule_are_those_of_the_reading() -> None:
    assert unclaimed_value(LO) == {
        "vital": "glucose_bg", "value": None, "unit": "mg/dL", "time_ns": 5, "flags": ["below_range"],
    }  # fmt: skip
    assert unclaimed_quality(LO) == ("below_range",)
    assert unclaimed_rule("meter-1") == "review:unclaimed:meter-1"
    with pytest.raises(InvalidRequest, match="catalogue"):
        unclaimed_text(changed(vital="mood"))


class _NoAlerts:
    def alert(self, ident: str) -> Alert:
        raise NotFound("alert", ident)

    def limits(self, _patient: str) -> tuple[int, list[dict[str, object]]]:
        return 0, []


def test_only_ingest_may_say_it_and_the_engine_can_read_it() -> None:
    control = Control(ControlKind.UNCLAIMED, 5, "system", msgspec.to_builtins(LO))
    assert read_body(control) == LO
    Engine().apply(1, control)
    nobody: Any = _NoAlerts()
    with pytest.raises(InvalidRequest, match="not for people"):
        check_control(nobody, nobody, control)
