"""The clinical context: one table, what each member does, what contradicts, and contexts that were recorded before."""

import inspect
from typing import Any, get_args

import pytest

from alerts.programmes.bodies import ContextBody, read_context, read_enrolment, read_programme
from alerts.programmes.in_force import Programmes
from alerts.rules.compile import compile_protocols
from alerts.rules.gates import MEMBERS, Gate, PatientContext
from alerts.rules.protocol import document
from dashboard_api.schemas import ClinicalContext
from deploy.cli.protocols import set_context
from tests.alerts.programme_world import TICK, Enrolled
from tests.alerts.programme_world import document as shipped_document
from tests.alerts.protocol_world import ADULT, LOW, SHIPPED, adopted, doc, parsed
from vitals.context import CONTEXT, CONTEXT_BY_KEY, NEVER_SET, context_words
from vitals.errors import InvalidRequest

MAP = {
    "id": "M1", "type": "limit", "title": "Mean pressure low", "severity": "S1", "vital": "bp_mean", "unit": "mm[Hg]",
    "below": 60,
}  # fmt: skip
WITH_SUPPORT = {"mechanical_support": "yes", "age_band": "adult"}
KEYS = [one.key for one in CONTEXT]


def context(version: int = 1, **members: Any) -> dict[str, Any]:
    return {"patient": "p", "version": version, "reason": "test", "age_band": "adult"} | members


def ward(*documents: dict[str, Any]) -> Programmes:
    """A programme ``ward``."""
    out = Programmes()
    body = {"programme": "ward", "version": 1, "title": "Ward", "reason": "test", "protocols": list(documents)}
    out.adopt(read_programme(body), 0)
    return out


def enrolment(version: int = 1) -> Any:
    return read_enrolment({"patient": "p", "version": version, "reason": "test", "programmes": ["ward"]})


# One table.


def test_log_entry_api_and_commands_have_the_members_of_the_table() -> None:
    aside = {"patient", "version", "reason"}
    assert [key for key in ContextBody.__struct_fields__ if key not in aside] == KEYS
    assert [key for key in ClinicalContext.model_fields if key not in aside] == KEYS
    options = inspect.signature(set_context).parameters
    assert set(KEYS) - {"known_af"} <= set(options)
    assert "af" in options
    assert {key: getattr(ContextBody(patient="p", version=1, reason=""), key) for key in KEYS} == NEVER_SET


def test_rules_ask_about_members_of_the_table_with_its_values() -> None:
    assert set(Gate.model_fields) <= set(PatientContext._fields) <= set(KEYS)
    for key in PatientContext._fields:
        assert PatientContext._field_defaults[key] == CONTEXT_BY_KEY[key].unset
    for key, item in Gate.model_fields.items():
        (wanted, _) = get_args(item.annotation)
        assert [*get_args(wanted)] == [value for value in MEMBERS[key] if value != CONTEXT_BY_KEY[key].unset]


@pytest.mark.parametrize("member", CONTEXT, ids=lambda one: one.key)
def test_every_value_of_the_table_is_taken_by_the_log_entry_and_the_api(member: Any) -> None:
    values = [*member.values, *(member.span or ())]
    assert values[0] == member.unset
    known = {key: value for key, value in NEVER_SET.items() if key != "age_band"}
    for value in values:
        assert getattr(read_context(context() | {member.key: value}), member.key) == value
        given = {**known, "age_band": "adult", "reason": "asked", member.key: value}
        assert ClinicalContext.model_validate(given).model_dump()[member.key] == value
    for wrong in ("maybe", 1000, -1):
        with pytest.raises(InvalidRequest, match=member.key):
            read_context(context() | {member.key: wrong})
    assert member.effect


def test_what_no_rule_asks_about_is_shown_to_clinicians() -> None:
    shown = [one for one in CONTEXT if one.key not in PatientContext._fields]
    assert [one.key for one in shown] == ["usual_spo2", "treatment_limits"]
    assert list(context_words({"usual_spo2": 89, "treatment_limits": "yes"})) == [
        "usual SpO₂ 89 %", "limits of treatment agreed: see the record",
    ]  # fmt: skip
    assert list(context_words({"usual_spo2": 0, "treatment_limits": "unknown"})) == []


def test_the_words_of_a_patient_of_whom_nothing_is_recorded() -> None:
    assert list(context_words(NEVER_SET)) == [
        "age not recorded", "pregnancy not recorded", "oxygen not recorded", "SpO₂ scale not set", "AF not recorded",
    ]  # fmt: skip


def test_a_usual_saturation_that_would_be_doubtful_is_refused() -> None:
    assert read_context(context(usual_spo2=70)).usual_spo2 == 70
    for wrong in (69, 1):
        with pytest.raises(InvalidRequest, match=r"usual_spo2: is outside of 70 to 100 %"):
            read_context(context(usual_spo2=wrong))


# Contradictions.


def test_a_context_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_context(context(pregnancy="yes", postpartum="yes"))
    assert str(caught.value) == "postpartum: contradicts pregnancy: record one of the two"
    for pregnancy, postpartum in (("yes", "no"), ("no", "yes"), ("unknown", "yes"), ("yes", "unknown")):
        assert read_context(context(pregnancy=pregnancy, postpartum=postpartum)).postpartum == postpartum


# Mechanical circulatory support.


def test_support_without_a_programme_of_mean_pressure_is_refused_at_enrolment_and_later() -> None:
    programmes = ward(document(SHIPPED["heart_failure"]))
    programmes.set_context(read_context(context(**WITH_SUPPORT)))
    with pytest.raises(InvalidRequest, match="low limit of mean arterial pressure is required") as caught:
        programmes.check_enrolment(enrolment(), 0)
    assert caught.value.field == "programmes"
    programmes.set_context(read_context(context(2)))
    programmes.check_enrolment(enrolment(), 0)
    programmes.enrol(enrolment())
    with pytest.raises(InvalidRequest, match="change the enrolment first") as caught:
        programmes.check_context(read_context(context(3, **WITH_SUPPORT)))
    assert caught.value.field == "mechanical_support"


@pytest.mark.parametrize(
    ("rule", "enough"),
    [
        (MAP, True),
        ({**MAP, "vital": "bp_art_mean"}, True),
        ({key: value for key, value in MAP.items() if key != "below"} | {"above": 100}, False),
        ({**MAP, "requires": {"oxygen": "yes"}}, False),
    ],
)
def test_which_rule_is_a_programme_of_mean_pressure(rule: dict[str, Any], enough: bool) -> None:
    programmes = ward(document(SHIPPED["heart_failure"]), doc(rule))
    programmes.set_context(read_context(context(**WITH_SUPPORT)))
    if enough:
        programmes.check_enrolment(enrolment(), 0)
        return
    with pytest.raises(InvalidRequest, match="mean arterial pressure"):
        programmes.check_enrolment(enrolment(), 0)


def test_a_version_without_mean_pressure_is_not_adopted_for_a_patient_with_support() -> None:
    programmes = ward(document(SHIPPED["heart_failure"]), doc(MAP))
    programmes.set_context(read_context(context(**WITH_SUPPORT)))
    programmes.enrol(enrolment())
    body = {"programme": "ward", "version": 2, "title": "Ward", "reason": "test",
            "protocols": [document(SHIPPED["heart_failure"])]}  # fmt: skip
    with pytest.raises(InvalidRequest, match=r"of a patient who is enrolled: .*mean arterial pressure"):
        programmes.check_programme(read_programme(body))


def test_support_shuts_pressure_pulse_saturation_and_scores_with_the_reason_and_keeps_the_rest() -> None:
    usual = PatientContext("adult", "no", "no", 1, "no")
    protocols = [SHIPPED[name] for name in ("heart_failure", "post_surgical", "rhythm", "copd")]
    before = compile_protocols(adopted(*protocols), usual)
    found = compile_protocols(adopted(*protocols), usual._replace(mechanical_support="yes"))
    names = {rule.face.name for rule in found.rules}
    assert {"heart_failure:H1", "heart_failure:H7", "post_surgical:S2-high", "copd:P5-rr"} <= names
    assert {"heart_failure:H5-low", "rhythm:R1", "post_surgical:S4"} <= names, "an ECG counts the heart"
    gone = {rule.face.name for rule in before.rules} - names
    assert {
        "heart_failure:H4-low", "heart_failure:H4-low-symptoms", "heart_failure:H6", "post_surgical:S3-red",
        "post_surgical:S6", "copd:P2", "rhythm:R1@pulse_rate", "post_surgical:S4@pulse_rate_nibp",
    } <= gone  # fmt: skip
    shut = dict(found.gated)
    for name in gone:
        if "@" not in name:
            assert "with mechanical support" in shut[name]
    assert not names & shut.keys()
    assert before.score is not None
    assert found.score is None, "a score of saturation and systolic pressure is not computed"


def test_a_patient_with_support_is_judged_by_mean_pressure_and_temperature_alone() -> None:
    ward = Enrolled(shipped_document("post_surgical"), doc({**MAP, "spot": {"readings": 1}}))
    unwell = [("resp_rate", 25.0), ("o2_flow", 0.0), ("spo2", 60.0), ("bp_sys", 60.0), ("pulse_rate", 25.0),
              ("acvpu", 0.0), ("temp", 37.0)]  # fmt: skip
    twice = [(start, vital, value) for start in (0.0, 300.0) for vital, value in unwell]
    ward.set_context(2, -10, mechanical_support="yes")
    assert ward.feed([*twice, (400, TICK, 0)]) == []
    ward.feed([(500, "bp_mean", 55), (500, "temp", 39.5)])
    assert {one.rule for one in ward.said} == {"test:M1", "post_surgical:S2-high", "post_surgical:S1-once"}
    ward.set_context(3, 600, mechanical_support="no")
    ward.feed([*((start + 700, vital, value) for start, vital, value in twice), (1100, TICK, 0)])
    assert {"post_surgical:S5-red", "post_surgical:S6", "post_surgical:S3-red"} <= {one.rule for one in ward.said}


def test_silence_of_what_is_not_measured_is_not_told() -> None:
    silent = {"id": "T", "type": "silence", "title": "Silent", "severity": "T", "vital": "spo2", "after_s": 600}
    protocol = adopted(parsed(LOW, silent))
    assert len(compile_protocols(protocol, ADULT).silences) == 1
    assert compile_protocols(protocol, ADULT._replace(mechanical_support="yes")).silences == ()


# Trained, paced.


def test_a_low_pulse_by_training_or_pacemaker_keeps_only_the_urgent_limit() -> None:
    def low(**members: Any) -> list[tuple[float, int]]:
        rules = compile_protocols(adopted(SHIPPED["rhythm"]), ADULT._replace(**members)).rules
        names = {"rhythm:R3", "rhythm:R3-red"}
        return [(rule.spec.limit, rule.spec.severity) for rule in rules if rule.face.name in names]

    assert low() == low(trained_or_paced="no") == [(40, 1), (50, 3)]
    assert low(trained_or_paced="yes") == [(40, 1)]


# Contexts that were recorded before there were the newer members.


def test_old_entries_and_snapshots_open_as_they_were() -> None:
    old = {"patient": "p", "version": 3, "reason": "asked", "age_band": "adult", "pregnancy": "no", "oxygen": "yes",
           "spo2_scale": 2, "known_af": "no", "usual_confusion": True}  # fmt: skip
    expected = PatientContext("adult", "no", "yes", 2, "no", True)
    body = read_context(old)
    assert (body.context, body.usual_spo2, body.treatment_limits) == (expected, 0, "unknown")
    state = {"programmes": [], "enrolments": [], "contexts": [["p", 3, "adult", "no", "yes", 2, "no", True]]}
    loaded = Programmes.load(state)
    assert (loaded.context("p"), loaded.context_version("p")) == (expected, 3)
    assert Programmes.load(loaded.dump()).context("p") == expected
