"""Every shipped protocol in every context: watched on each side, or refused with the reason."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from alerts.programmes.bodies import read_context, read_enrolment, read_programme
from alerts.programmes.in_force import Programmes
from alerts.rules.compile import compile_protocols
from alerts.rules.gates import MEMBERS, PatientContext, contradiction
from alerts.rules.protocol import check_complete, check_enrolment, document, load_protocol
from alerts.rules.spec import Compiled, Kind
from alerts.rules.types import Rule
from tests.alerts.programme_world import Enrolled, of_rule, rows
from tests.alerts.programme_world import document as shipped_document
from tests.alerts.protocol_world import ADULT, LOW, SCORE, SHIPPED, adopted, doc, parsed
from vitals.catalog import BY_CODE
from vitals.errors import InvalidRequest
from vitals.glossary import Severity

SIDES = ("low", "high")
NOT_MEASURED_WITH_SUPPORT = {
    "spo2", "bp_sys", "bp_dia", "bp_art_sys", "bp_art_dia", "pulse_rate", "pulse_rate_nibp", "pulse_rate_art",
}  # fmt: skip
UNTIL_A_MAP_PROGRAMME = {"hypertension"}
HIGH_TARGET = {("S1", "low", 91.0)}
LOW_TARGET = {("S2", "low", 87.0), ("S1", "low", 83.0)}
TOO_MUCH = {("S3", "high", 92.0), ("S2", "high", 97.0)}


def gates_of(name: str) -> set[str]:
    """Members that gates of a protocol ask about, and those that nobody has to ask about to be heard."""
    rules: tuple[Rule, ...] = SHIPPED[name].rules
    asked = {key for rule in rules for gate in (rule.requires, rule.unless) for key, _ in gate.asked()}
    return asked | {"mechanical_support"}


def contexts(name: str) -> Iterator[PatientContext]:
    """Adults in every combination of what can be recorded; members that nothing asks about stay unknown."""
    keys = sorted(gates_of(name))
    for values in product(*(MEMBERS[key] for key in keys)):
        known: dict[str, Any] = dict(zip(keys, values, strict=True))
        yield PatientContext(**{"age_band": "adult", **known})


def limits(compiled: Compiled) -> set[tuple[str, str]]:
    """(vital, side) of limits and scores in force, not of what must come together with something else."""
    return {
        (BY_CODE[rule.spec.vital].key, SIDES[rule.spec.side])
        for rule in compiled.rules
        if rule.spec.kind in (Kind.LIMIT, Kind.SCORE)
    }


def excused(vital: str, side: str, context: PatientContext) -> bool:
    """What need not be watched, as a clinician would say it."""
    if context.mechanical_support == "yes" and (vital in NOT_MEASURED_WITH_SUPPORT or vital.startswith("news2")):
        return True
    if vital.startswith("news2"):
        return context.pregnancy == "yes"
    return (vital, side) == ("spo2", "high") and (context.oxygen, context.spo2_scale) != ("yes", 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_protocol_watches_anywhere_it_watches_in_every_context_that_it_accepts(name: str) -> None:
    found = {context: limits(compile_protocols(adopted(SHIPPED[name]), context)) for context in contexts(name)}
    everywhere = set().union(*found.values())
    assert everywhere
    for context, watched in found.items():
        if context.mechanical_support == "yes" and name in UNTIL_A_MAP_PROGRAMME:
            with pytest.raises(InvalidRequest, match="mean arterial pressure"):
                check_enrolment([SHIPPED[name]], context)
            continue
        check_enrolment([SHIPPED[name]], context)
        if contradiction(context) is None:
            missing = {one for one in everywhere - watched if not excused(*one, context)}
            assert missing == set(), f"{name} in {context}"


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("age", ["unknown", "under_16"])
def test_other_age_bands_are_refused_with_the_reason(name: str, age: Any) -> None:
    with pytest.raises(InvalidRequest, match="is for adults"):
        check_enrolment([SHIPPED[name]], PatientContext(age))


@pytest.mark.parametrize("oxygen", ["unknown", "no", "yes"])
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("name", ["copd", "heart_failure", "post_surgical"])
def test_oxygen_does_not_make_a_patient_scale_2(name: str, scale: int, oxygen: Any) -> None:
    context = ADULT._replace(oxygen=oxygen, spo2_scale=scale)
    rules = compile_protocols(adopted(SHIPPED[name]), context).rules
    found = {
        (Severity(rule.spec.severity).name, SIDES[rule.spec.side], rule.spec.limit)
        for rule in rules
        if rule.spec.kind == Kind.LIMIT and BY_CODE[rule.spec.vital].key == "spo2"
    }
    expected = LOW_TARGET if scale == 2 else HIGH_TARGET
    expected = expected | (TOO_MUCH if (scale, oxygen) == (2, "yes") else set())
    assert found == expected | ({("S2", "low", 93.0)} if name == "post_surgical" and scale != 2 else set())


@pytest.mark.parametrize(("name", "rule"), [("heart_failure", "H6"), ("post_surgical", "S5-red"), ("copd", "P1-red")])
@pytest.mark.parametrize("scale", [0, 1])
def test_a_patient_on_oxygen_with_91_percent_pages(name: str, rule: str, scale: int) -> None:
    ward = Enrolled(shipped_document(name), oxygen="yes", spo2_scale=scale)
    events = ward.feed(rows("spo2", 91, 91, every=300))
    found = [*of_rule(events, f"{name}:{rule}:confirm"), *of_rule(events, f"{name}:{rule}")]
    told = [(one.kind, one.severity, one.page) for one in found]
    assert told == [("raised", Severity.S2, False), ("worsened", Severity.S1, True)], "one reading is a task, two page"


@pytest.mark.parametrize("name", ["heart_failure", "post_surgical"])
def test_a_patient_with_the_lower_target_is_watched_against_it(name: str) -> None:
    ward = Enrolled(shipped_document(name), oxygen="yes", spo2_scale=2)
    assert ward.feed(rows("spo2", 90, 88, every=300)) == []
    raised = [(one.severity, one.kind) for one in ward.feed(rows("spo2", 87, 87, start=900, every=300))]
    assert raised == [(Severity.S2, "raised")]
    found = ward.feed(rows("spo2", 83, 83, start=1800, every=300))
    told = [(Severity.S2, "raised"), (Severity.S1, "worsened")]
    assert [(one.severity, one.kind) for one in found] == told, "83 % is asked for at once, and confirmed"
    other = Enrolled(shipped_document(name), oxygen="yes", spo2_scale=2)
    raised = [(one.severity, one.kind) for one in other.feed(rows("spo2", 97, 97, every=300))]
    assert sorted(raised) == [(Severity.S2, "raised"), (Severity.S3, "raised")]


# What the compiler refuses.

ON_AIR = {**LOW, "requires": {"oxygen": "no"}}
PREGNANT_NOT = {**SCORE, "unless": {"pregnancy": "yes"}}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ((ON_AIR,), "no limit rule watches oxygen saturation (low) where it is not recorded whether"),
        (({**LOW, "unless": {"oxygen": "yes"}},), "oxygen saturation (low) where the patient gets oxygen: add a rule"),
        (({**LOW, "unless": {"oxygen": "yes", "spo2_scale": 2}}, {**LOW, "id": "B", "requires": {"spo2_scale": 2}}),
         "where the patient gets oxygen and it is not recorded which saturation target the patient has"),
        ((PREGNANT_NOT,), "no score rule watches NEWS2 score (high) where the patient is pregnant"),
        (({**LOW, "unless": {"oxygen": "yes"}}, {**LOW, "id": "B", "at_or_below": None, "above": 99,
                                                "requires": {"oxygen": "yes"}}), "(low) where the patient gets oxygen"),
    ],
)  # fmt: skip
def test_a_gap_is_refused_with_the_context_that_is_not_watched(rules: tuple[dict[str, Any], ...], words: str) -> None:
    written = ({key: value for key, value in rule.items() if value is not None} for rule in rules)
    with pytest.raises(InvalidRequest) as caught:
        check_complete(parsed(*written))
    assert caught.value.field == "rules"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "members"),
    [
        ((LOW, {**ON_AIR, "id": "B", "severity": "S1", "at_or_below": 85}), {}),
        (({**LOW, "unless": {"oxygen": "yes"}}, {**LOW, "id": "B", "requires": {"oxygen": "yes"}}), {}),
        (({**LOW, "requires": {"age_band": "adult"}},), {}),
        (({**LOW, "unless": {"oxygen": "yes"}},), {"refuses": [{"when": {"oxygen": "yes"}, "reason": "no oxygen"}]}),
        ((PREGNANT_NOT,), {"only_where": [{"vital": "news2", "side": "high", "unless": {"pregnancy": "yes"},
                                           "reason": "not for pregnancy"}]}),
        (({**LOW, "requires": {"postpartum": "yes", "pregnancy": "yes"}}, LOW | {"id": "B"}), {}),
    ],
)  # fmt: skip
def test_a_protocol_without_a_gap_is_taken(rules: tuple[dict[str, Any], ...], members: dict[str, Any]) -> None:
    check_complete(parsed(*rules, **members))


def test_a_declared_exception_excuses_no_more_than_it_says() -> None:
    only = {"vital": "spo2", "side": "low", "requires": {"oxygen": "no"}, "reason": "on air only"}
    check_complete(parsed(ON_AIR, only_where=[only]))
    with pytest.raises(InvalidRequest, match="where the patient gets no oxygen"):
        check_complete(parsed({**LOW, "requires": {"oxygen": "yes"}}, only_where=[only]))
    with pytest.raises(InvalidRequest, match="watches oxygen saturation"):
        check_complete(parsed(ON_AIR, only_where=[{**only, "side": "high"}]))


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"refuses": [{"when": {}, "reason": "x"}]}, "refuses[0].when"),
        ({"refuses": [{"when": {"oxygen": "yes"}}]}, "refuses[0].reason"),
        ({"only_where": [{"vital": "colour", "side": "low", "reason": "x"}]}, "only_where[0].vital"),
        ({"only_where": [{"vital": "spo2", "side": "both", "reason": "x"}]}, "only_where[0].side"),
    ],
)
def test_a_wrong_exception_is_refused_with_its_path(members: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(LOW, **members)
    assert caught.value.field == path


def adopting(*rules: dict[str, Any], version: int = 1) -> dict[str, Any]:
    return {"programme": "ward", "version": version, "title": "Ward", "reason": "test", "protocols": [doc(*rules)]}


def test_a_gap_keeps_a_version_from_being_adopted_and_what_was_adopted_before_stays() -> None:
    programmes = Programmes()
    before = read_programme(adopting(ON_AIR))
    with pytest.raises(InvalidRequest) as caught:
        programmes.check_programme(before)
    assert caught.value.field == "protocols[0].rules"
    programmes.adopt(before, 0)  # as an older version of the program took it
    programmes.set_context(read_context({"patient": "p", "version": 1, "reason": "", "age_band": "adult",
                                         "oxygen": "no"}))  # fmt: skip
    enrolment = read_enrolment({"patient": "p", "version": 1, "reason": "", "programmes": ["ward"]})
    programmes.check_enrolment(enrolment, 0)
    programmes.enrol(enrolment)
    assert [rule.face.name for rule in programmes.compiled("p").rules] == ["test:A1"]
    assert Programmes.load(programmes.dump()).compiled("p") == programmes.compiled("p")
    with pytest.raises(InvalidRequest, match="oxygen saturation"):
        programmes.check_programme(read_programme(adopting(ON_AIR, version=2)))
    programmes.check_programme(read_programme(adopting(LOW, version=2)))


def test_a_file_with_a_gap_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "ward.toml"
    text = 'name = "ward"\ntitle = "Ward"\n[[rules]]\nid = "A1"\ntype = "limit"\ntitle = "Low"\nseverity = "S2"\n'
    file.write_text(text + 'vital = "spo2"\nunit = "%"\nat_or_below = 90\nunless = { oxygen = "yes" }\n')
    with pytest.raises(InvalidRequest) as caught:
        load_protocol(file)
    assert caught.value.field == "ward.toml: rules"


def test_exceptions_are_part_of_the_document() -> None:
    for one in SHIPPED.values():
        again = parsed_document(document(one))
        assert again == one
        assert (again.refuses, again.only_where) == (one.refuses, one.only_where)


def parsed_document(payload: dict[str, Any]) -> Any:
    return read_programme(adopting() | {"protocols": [payload]}).adopted.protocols[0]
