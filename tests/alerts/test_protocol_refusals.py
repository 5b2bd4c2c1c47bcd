"""Protocols as people write them: refused with the path of the wrong word, read back as they were."""

import math
from pathlib import Path
from typing import Any

import pytest

from alerts.rules.gates import PatientContext
from alerts.rules.protocol import MAX_RULES, check_enrolment, document, load_protocol, parse_protocol, patched
from alerts.rules.types import RULE_TYPES
from tests.alerts.protocol_world import (
    BOTH,
    FALL,
    LOW,
    MEMBERS,
    RATE,
    SCORE,
    SHIPPED,
    SILENT,
    STUCK,
    USUAL,
    WEIGHT,
    doc,
    parsed,
)
from vitals.errors import InvalidRequest

EVERY = (LOW, WEIGHT, BOTH, FALL, STUCK, SCORE, SILENT, USUAL, RATE)
RED = {**LOW, "id": "B1", "severity": "S1", "at_or_below": 85}


@pytest.mark.parametrize(
    ("rule", "wrong", "path", "words"),
    [
        (LOW, {"vital": "pulse"}, ".vital", "no vital sign of the catalogue"),
        (LOW, {"vital": "bp", "unit": "mm[Hg]"}, ".vital", "bp_sys, bp_dia"),
        (LOW, {"vital": "news2", "unit": "{score}"}, ".vital", "of type score"),
        (LOW, {"unit": "kg"}, ".unit", "does not measure spo2"),
        (LOW, {"unit": "furlong"}, ".unit", "does not measure spo2"),
        (LOW, {"unit": None}, ".unit", "string"),
        (LOW, {"also_on": ["weight"]}, ".unit", "does not measure weight"),
        (LOW, {"also_on": ["colour"]}, ".also_on", "colour is no vital sign"),
        (LOW, {"also_on": ["spo2"]}, ".also_on", "twice"),
        (LOW, {"also_on": ["temp"] * 4}, ".also_on", "at most 3"),
        (LOW, {"at_or_below": math.nan}, ".at_or_below", "finite"),
        (LOW, {"at_or_below": -math.inf}, ".at_or_below", "finite"),
        (LOW, {"at_or_below": 1e10}, ".at_or_below", "less than or equal to"),
        (LOW, {"at_or_below": "90"}, ".at_or_below", "number"),
        (LOW, {"at_or_below": True}, ".at_or_below", "number"),
        (LOW, {"below": 90}, "", "exactly one of below"),
        (LOW, {"at_or_below": None}, "", "exactly one of below"),
        (LOW, {"clear": 89}, ".clear", "wrong side of at_or_below"),
        (LOW, {"at_or_below": None, "above": 90, "clear": 91}, ".clear", "wrong side of above"),
        (LOW, {"clear": 92, "deadband": 2}, ".deadband", "not both"),
        (LOW, {"deadband": -1}, ".deadband", "greater than or equal to 0"),
        (LOW, {"severity": "S4"}, ".severity", "'S1'"),
        (LOW, {"id": "A 1"}, ".id", "pattern"),
        (LOW, {"title": ""}, ".title", "at least 1"),
        (LOW, {"title": "x" * 161}, ".title", "at most 160"),
        (LOW, {"advice": "x" * 1001}, ".advice", "at most 1000"),
        (LOW, {"cause": "bad luck"}, ".cause", "'oxygenation'"),
        (LOW, {"sla_s": 1}, ".sla_s", "greater than or equal to 30"),
        (LOW, {"sla_s": 60.5}, ".sla_s", "integer"),
        (LOW, {"colour": "red"}, ".colour", "not permitted"),
        (LOW, {"type": "hunch"}, "", "'limit'"),
        (LOW, {"continuous": {"for_s": 1e6}}, ".continuous.for_s", "less than or equal to 86400"),
        (LOW, {"continuous": {"median_of": 99}}, ".continuous.median_of", "less than or equal to 9"),
        (LOW, {"spot": {"readings": 0}}, ".spot.readings", "greater than or equal to 1"),
        (LOW, {"spot": {"often": 2}}, ".spot.often", "not permitted"),
        (LOW, {"spot": {"readings": 3, "apart_s": 21601}}, ".spot.apart_s", "longer than staleness (43200 s for spo2)"),
        (LOW, {"from_min": 1440}, ".from_min", "less than 1440"),
        (LOW, {"from_min": 60, "to_min": 60}, ".to_min", "must differ"),
        (LOW, {"requires": {"oxygen": "maybe"}}, ".requires.oxygen", "'no' or 'yes'"),
        (LOW, {"requires": {"shoes": "yes"}}, ".requires.shoes", "not permitted"),
        (LOW, {"requires": {"oxygen": "yes"}, "unless": {"oxygen": "yes"}}, ".unless", "never apply"),
        (USUAL, {"unit": None}, "", "difference needs a unit"),
        (USUAL, {"measure": "ratio"}, "", "ratio has no unit"),
        (USUAL, {"measure": "mood"}, ".measure", "'difference'"),
        (WEIGHT, {"unit": None}, "", "change needs a unit"),
        (WEIGHT, {"measure": "fraction"}, "", "fraction has no unit"),
        (WEIGHT, {"measure": "share_below"}, "", "share_below needs under"),
        (WEIGHT, {"under": 3}, "", "under is for share_below"),
        (WEIGHT, {"readings": 3}, "", "readings is for mean and share_below"),
        (WEIGHT, {"on_days": 3}, "", "on_days is for mean"),
        (WEIGHT, {"measure": "fraction", "unit": None, "days": 3}, "", "days is for change"),
        (USUAL, {"least_spread": 3}, "", "least_spread is for robust_z"),
        (WEIGHT, {"days": 32}, ".days", "less than or equal to 31"),
        (FALL, {"at_or_below": None, "above": 9}, "", "of a rise needs while_above and slope_above only"),
        (FALL, {"slope_below": None}, "", "of a fall needs while_below and slope_below only"),
        (FALL, {"slope_above": 1}, "", "of a fall needs while_below and slope_below only"),
        (FALL, {"slope_below": 1}, ".slope_below", "less than 0"),
        (FALL, {"at_once_slope": -0.05}, "", "at least as steep as -0.1"),
        (FALL, {"continuous": {"often": {"readings": 4, "of": 3}}}, ".continuous.often.of", "fewer than readings"),
        (FALL, {"continuous": {"often": {"readings": 4, "of": 33}}}, ".continuous.often.of", "equal to 32"),
        (FALL, {"ahead_min": 0}, ".ahead_min", "greater than 0"),
        (SCORE, {"any_red": True}, "", "either any_red or exactly one"),
        (SCORE, {"at_or_above": None}, "", "either any_red or exactly one"),
        (SCORE, {"at_or_above": None, "below": 3}, "", "not below"),
        (SCORE, {"score": "apgar"}, ".score", "'news2'"),
        (SILENT, {"vital": "bp"}, ".vital", "is a panel"),
        (SILENT, {"after_s": 0}, ".after_s", "greater than or equal to 60"),
        (STUCK, {"vital": None}, "", "stuck needs a vital"),
        (STUCK, {"trouble": "battery"}, "", "battery has no vital"),
        (STUCK, {"trouble": "gremlins"}, ".trouble", "'battery'"),
        (STUCK, {"after_s": 30}, "", "60 or more"),
        (BOTH, {"members": MEMBERS[:1]}, ".members", "at least 2"),
        (BOTH, {"members": MEMBERS * 3}, ".members", "at most 4"),
        (BOTH, {"members": [*MEMBERS, {"type": "hunch"}]}, ".members[2]", "'limit'"),
        (BOTH, {"members": [*MEMBERS, {**MEMBERS[0], "vital": "x"}]}, ".members[2].vital", "no vital sign"),
        (BOTH, {"members": [*MEMBERS, {**MEMBERS[0], "severity": "S1"}]}, ".members[2].severity", "not permitted"),
        (BOTH, {"members": [{**MEMBERS[0], "also_on": ["bp_dia"]}] * 2}, ".members", "only one member"),
        (
            BOTH, {"members": [{**MEMBERS[0], "spot": {"apart_s": 43201}}, MEMBERS[1]]}, ".members[0].spot.apart_s",
            "longer than staleness",
        ),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_with_its_path(
    rule: dict[str, Any], wrong: dict[str, Any], path: str, words: str
) -> None:
    changed = {key: value for key, value in {**rule, **wrong}.items() if value is not None}
    if wrong.get("unit", "") is None and rule is LOW:
        changed["unit"] = None
    with pytest.raises(InvalidRequest) as caught:
        parse_protocol(doc(SILENT, changed))
    assert caught.value.field == f"rules[1]{path}"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("members", "path", "words"),
    [
        ({"name": "COPD"}, "name", "pattern"),
        ({"rules": []}, "rules", "at least 1"),
        ({"rules": [LOW] * (MAX_RULES + 1)}, "rules", f"at most {MAX_RULES}"),
        ({"rules": {"A1": LOW}}, "rules", "tuple"),
        ({"rules": None}, "rules", "tuple"),
        ({"ages": ["child"]}, "ages[0]", "'adult'"),
        ({"ages": []}, "ages", "at least 1"),
        ({"version": 0}, "version", "greater than or equal to 1"),
        ({"measures": {"spo2": "often"}}, "measures.spo2", "'spot' or 'continuous'"),
        ({"measures": {"colour": "spot"}}, "measures", "colour is no vital sign"),
        ({"measures": {"bp": "spot"}}, "measures", "is a panel"),
        ({"score": {"assume_air": 1}}, "score.assume_air", "boolean"),
        ({"left_out": [{"id": "A9"}]}, "left_out[0].reason", "required"),
        ({"author": "me"}, "author", "not permitted"),
    ],
)
def test_a_wrong_member_of_the_document_is_refused(members: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_protocol(doc(LOW) | members)
    assert caught.value.field == path
    assert words in str(caught.value)


@pytest.mark.parametrize("payload", [None, [], "rules", 3])
def test_what_is_no_document_is_refused(payload: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_protocol(payload)
    assert caught.value.field == "protocol"


@pytest.mark.parametrize(
    ("rules", "path", "words"),
    [
        ((LOW, LOW), "rules[1].id", "two of A1"),
        ((LOW, {**RED, "at_or_below": 91}), "rules[1].at_or_below", "less extreme than that of A1, which is S2"),
        (({**RED, "at_or_below": 91}, LOW), "rules[1].at_or_below", "more extreme than that of B1, which is S1"),
        ((LOW, {**RED, "at_or_below": 0.91, "unit": "{fraction}"}), "rules[1].at_or_below", "less extreme"),
        ((LOW, {**LOW, "id": "B1", "at_or_below": None, "above": 90}), "rules[1].above", "every value"),
        (({**LOW, "at_or_below": None, "above": 89}, {**LOW, "id": "B1"}), "rules[1].at_or_below", "every value"),
        (({**USUAL, "severity": "S1"},), "rules[0].severity", "only S1 for oxygenation"),
        (({**USUAL, "severity": "S1"}, {**RED, "cause": "lungs"}), "rules[0].severity", "only S1 for oxygenation"),
        (({**FALL, "severity": "S1"},), "rules[0].severity", "only S1 for glucose"),
        (
            ({**BOTH, "members": [{key: value for key, value in USUAL.items()
                                   if key not in {"id", "title", "severity"}}] * 2},),
            "rules[0].severity", "only S1 for oxygenation",
        ),
    ],
)  # fmt: skip
def test_rules_that_contradict_each_other_are_refused(rules: tuple[dict[str, Any], ...], path: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_protocol(doc(*({key: value for key, value in rule.items() if value is not None} for rule in rules)))
    assert caught.value.field == path
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "rules",
    [
        (LOW, RED),
        (LOW, {**RED, "at_or_below": 91, "cause": "lungs"}),
        ({**LOW, "requires": {"spo2_scale": 2}}, {**RED, "at_or_below": 91, "unless": {"spo2_scale": 2}}),
        ({**LOW, "unless": {"spo2_scale": 2}}, {**RED, "at_or_below": 91, "requires": {"spo2_scale": 2}}),
        ({**LOW, "requires": {"oxygen": "no"}}, {**RED, "at_or_below": 91, "requires": {"oxygen": "yes"}}),
        ({**USUAL, "severity": "S1"}, RED),
        ({**USUAL, "measure": "ratio", "unit": None},),
        ({**FALL, "severity": "S1"}, {**BOTH, "cause": "glucose"}),
        ({**LOW, "spot": {"readings": 3, "apart_s": 21600}},),
        ({**WEIGHT, "spot": {"readings": 3, "apart_s": 86400 * 2}},),
    ],
)
def test_rules_that_go_together_are_taken(rules: tuple[dict[str, Any], ...]) -> None:
    assert len(parsed(*rules).rules) == len(rules)


def test_gates_that_can_both_be_open_do_not_excuse_a_contradiction() -> None:
    with pytest.raises(InvalidRequest, match="less extreme"):
        parsed({**LOW, "requires": {"oxygen": "yes"}}, {**RED, "at_or_below": 91, "unless": {"spo2_scale": 2}})


def test_every_type_of_rule_reads_back_as_it_was_written() -> None:
    protocol = parsed(*EVERY, measures={"spo2": "continuous"}, score={"assume_air": True})
    assert parse_protocol(document(protocol)) == protocol
    assert {rule.type for rule in protocol.rules} == set(RULE_TYPES)


def test_equal_documents_are_equal_and_hash_alike() -> None:
    assert parsed(*EVERY) == parsed(*EVERY)
    assert len({parsed(*EVERY), parsed(*EVERY), parsed(LOW)}) == 2


def test_units_are_kept_in_ucum() -> None:
    assert (
        document(parsed({**BOTH, "members": [{**MEMBERS[0], "unit": "mmHg"}, MEMBERS[1]]}))["rules"][0]["members"][0][
            "unit"
        ]
        == "mm[Hg]"
    )


def test_a_file_is_refused_with_its_name_and_the_path_inside(tmp_path: Path) -> None:
    file = tmp_path / "ward.toml"
    file.write_text('name = "ward"\ntitle = "Ward"\n[[rules]]\nid = "A1"\n', encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        load_protocol(file)
    assert caught.value.field == "ward.toml: rules[0]"
    file.write_text("name = ", encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        load_protocol(file)
    assert caught.value.field == "ward.toml"
    assert "no TOML" in str(caught.value)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidRequest, match="no TOML"):
        load_protocol(file)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "ward.toml"
    file.write_text(
        'name = "ward"\ntitle = "Ward"\n[[rules]]\nid = "A1"\ntype = "limit"\ntitle = "Low saturation"\n'
        'severity = "S2"\nvital = "spo2"\nunit = "%"\nat_or_below = 90\n', encoding="utf-8",
    )  # fmt: skip
    assert load_protocol(file) == parse_protocol(doc(LOW) | {"name": "ward", "title": "Ward"})


@pytest.mark.parametrize(("age", "words"), [("unknown", "is not recorded"), ("under_16", "under 16")])
def test_a_protocol_for_adults_is_refused_for_others(age: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_enrolment([SHIPPED["copd"]], PatientContext(age))


def test_a_protocol_that_comes_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="watch the patient twice"):
        check_enrolment([SHIPPED["copd"], SHIPPED["rhythm"], SHIPPED["copd"]], PatientContext("adult"))
    check_enrolment(SHIPPED.values(), PatientContext("adult"))


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"id": "A2"}, "changes.id", "cannot be changed"),
        ({"type": "rate"}, "changes.type", "cannot be changed"),
        ({"at_or_below": "low"}, "changes.at_or_below", "number"),
        ({"clear": 80}, "changes.clear", "wrong side"),
        ({"spot": {"readings": 0}}, "changes.spot.readings", "greater than"),
        ({"above": 99}, "changes", "exactly one"),
        ({"colour": "red"}, "changes.colour", "not permitted"),
    ],
)
def test_a_wrong_change_of_a_rule_is_refused(changes: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        patched(parsed(LOW).rules[0], changes)
    assert caught.value.field == path
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"at_or_below": 88}, {"at_or_below": 88}),
        ({"at_or_below": None, "below": 88}, {"at_or_below": None, "below": 88}),
        ({"spot": {"apart_s": 60}}, {"spot": {"readings": 3, "apart_s": 60}}),
        ({"spot": {"readings": None}}, {"spot": {}}),
        ({"spot": None, "continuous": {"for_s": 5, "median_of": None}}, {"spot": {}, "continuous": {"for_s": 5}}),
    ],
)
def test_a_change_is_merged_into_the_rule(changes: dict[str, Any], whole: dict[str, Any]) -> None:
    rule = {**LOW, "spot": {"readings": 3}}
    expected = {key: value for key, value in {**rule, **whole}.items() if value is not None}
    assert patched(parsed(rule).rules[0], changes) == parsed(expected).rules[0]
