"""Rules to try as control entries: who is enrolled, what a rule reads, what keeps it away, what is in force."""

from typing import Any

import pytest

from alerts.backtest.rules import PROGRAMME, Decisions, in_force, rule_set
from alerts.rules.protocol import document, shipped
from tests.alerts.alert_world import at, limit
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind

DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000
SHIPPED: dict[str, dict[str, Any]] = {protocol.name: document(protocol) for protocol in shipped()}
ADULT = {"version": 3, "reason": "asked", "age_band": "adult"}


def codes(*keys: str) -> tuple[int, ...]:
    return tuple(BY_KEY[key].code for key in keys)


def context(patient: str, **members: Any) -> dict[str, Any]:
    return ADULT | {"patient": patient} | members


def known(**patients: dict[str, Any]) -> Decisions:
    return Decisions(contexts={patient: context(patient, **members) for patient, members in patients.items()})


def test_all_patients_are_enrolled_in_a_protocol_and_nothing_else() -> None:
    decided = known(p_1={}, p_2={})._replace(limits={"p_1": [limit()]})
    found = rule_set("candidate", SHIPPED["rhythm"], ["p_1", "p_2"], decided, at(0))
    assert [(control.kind, control.time_ns) for control in found.controls] == [
        (kind, at(0))
        for kind in (
            ControlKind.PROGRAMME, ControlKind.CONTEXT, ControlKind.ENROLMENT, ControlKind.CONTEXT,
            ControlKind.ENROLMENT,
        )
    ]  # fmt: skip
    enrolled = [control.body["programmes"] for control in found.controls if control.kind is ControlKind.ENROLMENT]
    assert enrolled == [[PROGRAMME]] * 2
    assert found.gated == (
        ("p_1", "rhythm:R4-af", "it is not recorded whether the patient has atrial fibrillation"),
        ("p_1", "rhythm:R5", "it is not recorded whether the patient has atrial fibrillation"),
        ("p_2", "rhythm:R4-af", "it is not recorded whether the patient has atrial fibrillation"),
        ("p_2", "rhythm:R5", "it is not recorded whether the patient has atrial fibrillation"),
    )


def test_a_protocol_is_not_tried_on_those_it_is_not_for() -> None:
    found = rule_set("candidate", SHIPPED["copd"], ["p_1", "p_2"], known(p_1={"age_band": "under_16"}), at(0))
    assert found.gated == (
        ("p_1", "copd", "is for adults: the patient's age group is under 16"),
        ("p_2", "copd", "is for adults: the patient's age group is not recorded"),
    )
    assert not any(control.kind is ControlKind.ENROLMENT for control in found.controls)


def test_what_a_rule_reads_is_one_vital_of_each_part() -> None:
    heart = rule_set("candidate", SHIPPED["heart_failure"], ["p_1"], known(p_1={}), at(0))
    reads = {watched.rule: watched.vitals for watched in heart.watched}
    pulses = codes("heart_rate", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art")
    assert reads["heart_failure:H1"] == (codes("weight"),)
    assert reads["heart_failure:H5-low"] == (pulses,)
    assert reads["heart_failure:H5-low-symptoms"] == (pulses, codes("symptoms"))
    after = rule_set("candidate", SHIPPED["post_surgical"], ["p_1"], known(p_1={}), at(0))
    assert codes("resp_rate") in {watched.rule: watched.vitals for watched in after.watched}["post_surgical:S3"]


@pytest.mark.parametrize(
    ("name", "delay_ns", "history_ns"),
    [("copd", 0, 14 * DAY_NS), ("diabetes", 2 * HOUR_NS, 15 * DAY_NS), ("rhythm", HOUR_NS // 6, 0)],
)
def test_delays_and_history_are_those_of_the_longest_rule(name: str, delay_ns: int, history_ns: int) -> None:
    found = rule_set("candidate", SHIPPED[name], ["p_1"], known(p_1={"spo2_scale": 1}), at(0))
    assert (found.longest_delay_ns, found.history_ns) == (delay_ns, history_ns)


def decided() -> Decisions:
    """A patient with limits of his own, in a programme of which a later version says one thing less."""
    programme = {
        "programme": "ward", "version": 4, "title": "Ward", "reason": "", "protocols": [SHIPPED["rhythm"]],
        "valid_from_ns": at(3600), "review_ns": at(7200),
    }  # fmt: skip
    override = {"rule": "rhythm:R4", "reason": "known", "off": True, "until_ns": at(60)}
    enrolment = {"patient": "p_1", "version": 2, "reason": "", "programmes": ["ward"], "overrides": [override]}
    return known(p_1={})._replace(
        limits={"p_1": [limit()]}, enrolments={"p_1": enrolment}, programmes={"ward": programme}
    )


def test_what_is_in_force_holds_over_the_whole_period() -> None:
    found = in_force(decided(), ["p_1", "p_2"], at(0))
    bodies = {control.kind: control.body for control in found.controls}
    assert (bodies[ControlKind.PROGRAMME]["valid_from_ns"], bodies[ControlKind.PROGRAMME]["review_ns"]) == (None, None)
    assert bodies[ControlKind.ENROLMENT]["overrides"][0]["until_ns"] is None
    assert bodies[ControlKind.LIMITS]["limits"][0]["low"] == 90.0
    rules = [watched.rule for watched in found.watched]
    assert "limit:spo2:low:S2" in rules
    assert "rhythm:R1" in rules
    assert "rhythm:R4" not in rules
    assert {patient for patient, _, _ in found.gated} == {"p_1"}


def test_limits_take_the_place_of_own_ones_beside_programmes() -> None:
    found = rule_set("candidate", [limit(low=85.0)], ["p_1", "p_2"], decided(), at(0))
    limits = [control.body for control in found.controls if control.kind is ControlKind.LIMITS]
    assert [(body["patient"], body["limits"][0]["low"]) for body in limits] == [("p_1", 85.0), ("p_2", 85.0)]
    assert any(control.kind is ControlKind.ENROLMENT for control in found.controls)
    assert found.name == "candidate"


def test_wrong_words_are_named_by_their_path() -> None:
    wrong = SHIPPED["rhythm"] | {"rules": [SHIPPED["rhythm"]["rules"][0] | {"vital": "hart_rate"}]}
    with pytest.raises(InvalidRequest) as caught:
        rule_set("candidate", wrong, ["p_1"], Decisions(), at(0))
    assert caught.value.field == "rules[0].vital"
    with pytest.raises(InvalidRequest) as caught:
        rule_set("candidate", [limit(), limit(low="x")], ["p_1"], Decisions(), at(0))
    assert caught.value.field == "[1].low"
