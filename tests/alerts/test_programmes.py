"""Programmes, enrolments and context: what is in force for whom, when, and what is refused before it is."""

import sys
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.programmes.bodies import (
    MAX_CHANGES,
    MAX_OVERRIDES,
    EnrolmentBody,
    ProgrammeVersion,
    read_context,
    read_enrolment,
    read_programme,
    read_status,
)
from alerts.programmes.in_force import Due, Programmes, Reminder
from alerts.rules.gates import PatientContext
from alerts.rules.protocol import document
from alerts.rules.spec import Compiled
from tests.alerts.protocol_world import LOW, SHIPPED, doc
from vitals.errors import InvalidRequest

DAY = 86_400 * 1_000_000_000


def programme(
    name: str = "lungs", version: int = 1, protocols: tuple[str, ...] = ("copd",), **more: Any
) -> dict[str, Any]:
    documents = [document(SHIPPED[one]) for one in protocols]
    return {"programme": name, "version": version, "title": name, "reason": "test", "protocols": documents, **more}


def version_of(*args: Any, **more: Any) -> ProgrammeVersion:
    return read_programme(programme(*args, **more))


def enrolment(
    patient: str = "p_1", version: int = 1, programmes: tuple[str, ...] = ("lungs",), **more: Any
) -> dict[str, Any]:
    return {"patient": patient, "version": version, "reason": "test", "programmes": list(programmes), **more}


def context(patient: str = "p_1", version: int = 1, **more: Any) -> dict[str, Any]:
    return {"patient": patient, "version": version, "reason": "test", **more}


def own(rule: str = "copd:P1-red", **more: Any) -> dict[str, Any]:
    return {"rule": rule, "reason": "test", **more}


def world(*patients: str) -> Programmes:
    out = Programmes()
    out.adopt(version_of(), 0)
    for patient in patients or ("p_1",):
        out.set_context(read_context(context(patient, age_band="adult")))
        out.enrol(read_enrolment(enrolment(patient)))
    return out


def red(programmes: Programmes, patient: str = "p_1") -> float:
    return next(rule.spec.enter for rule in programmes.compiled(patient).rules if rule.face.name == "copd:P1-red")


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        call(*args)
    return str(caught.value)


# Bodies.


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"programme": "Lungs"}, "programme: "),
        ({"version": 0}, "version: "),
        ({"version": "1"}, "version: "),
        ({"title": ""}, "title: "),
        ({"protocols": []}, "protocols: "),
        ({"protocols": [doc(LOW)] * 2}, "protocols[1].name: there are two of test"),
        ({"protocols": [doc(LOW), doc({**LOW, "below": 3})]}, "protocols[1].rules[0]: needs exactly one"),
        (
            {"protocols": [doc(LOW, measures={"spo2": "spot"}),
                           doc(LOW, measures={"spo2": "continuous"}) | {"name": "b"}]},
            "protocols[1].measures.spo2: another protocol says spot",
        ),
        ({"valid_from_ns": -1}, "valid_from_ns: "),
        ({"valid_from_ns": 5, "review_ns": 5}, "review_ns: must be after valid_from_ns"),
        ({"review_ns": 2**63}, "review_ns: "),
        ({"colour": "red"}, "body: "),
    ],
)  # fmt: skip
def test_a_wrong_programme_is_refused(wrong: dict[str, Any], problem: str) -> None:
    assert refused(read_programme, programme() | wrong).startswith(problem)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"patient": ""}, "patient: "),
        ({"version": True}, "version: "),
        ({"programmes": ["lungs", "lungs"]}, "programmes: names a programme twice"),
        ({"programmes": ["Lungs"]}, "programmes[0]: "),
        ({"overrides": 3}, "overrides: "),
        ({"overrides": [own(off=True)] * 2}, "overrides[1].rule: there are two of copd:P1-red"),
        ({"overrides": [own()]}, "overrides[0]: needs either changes or off"),
        ({"overrides": [own(changes={})]}, "overrides[0]: needs either changes or off"),
        ({"overrides": [own(changes={"at_or_below": 3}, off=True)]}, "overrides[0]: needs either changes or off"),
        ({"overrides": [own(off=True), own("x", untl_ns=3, off=True)]}, "overrides[1]: "),
        ({"overrides": [own(off="yes")]}, "overrides[0].off: "),
        ({"overrides": [{"rule": "x", "off": True}]}, "overrides[0]: "),
        ({"overrides": [own(changes={"advice": "x" * MAX_CHANGES})]}, "overrides[0].changes: is longer"),
        ({"overrides": [own(changes={"advice": b"x"})]}, "overrides[0].changes: is no JSON"),
        ({"overrides": [own(f"copd:{n}", off=True) for n in range(MAX_OVERRIDES + 1)]}, "overrides: "),
    ],
)  # fmt: skip
def test_a_wrong_enrolment_is_refused(wrong: dict[str, Any], problem: str) -> None:
    assert refused(read_enrolment, enrolment() | wrong).startswith(problem)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"age_band": "child"}, "age_band: "),
        ({"oxygen": True}, "oxygen: "),
        ({"spo2_scale": 3}, "spo2_scale: "),
        ({"usual_confusion": "no"}, "usual_confusion: "),
        ({"mood": "good"}, "body: "),
    ],
)
def test_a_wrong_context_is_refused(wrong: dict[str, Any], problem: str) -> None:
    assert refused(read_context, context() | wrong).startswith(problem)


def test_a_context_is_read_whole() -> None:
    body = read_context(
        context(age_band="adult", pregnancy="no", oxygen="yes", spo2_scale=2, known_af="yes", usual_confusion=True)
    )
    assert body.context == PatientContext("adult", "no", "yes", 2, "yes", True)
    assert read_context(context()).context == PatientContext()


def test_a_status_is_read_and_asks_later_than_it_begins() -> None:
    body = {"patient": "p_1", "status": "paused", "from_ns": 5, "check_ns": 6}
    assert read_status(body).check_ns == 6
    assert read_status(body | {"check_ns": None}).status == "paused"
    assert refused(read_status, body | {"check_ns": 5}) == "check_ns: must be after from_ns"
    assert refused(read_status, body | {"status": "lost"}).startswith("status: ")


# What is in force.


def test_rules_follow_programmes_context_and_overrides() -> None:
    programmes = Programmes()
    assert programmes.compiled("p_1") == Compiled()
    assert programmes.enrol(read_enrolment(enrolment())) == ["p_1"]
    assert programmes.compiled("p_1").rules == ()
    assert programmes.adopt(version_of(), 0) == ["p_1"]
    assert red(programmes) == 91
    assert programmes.set_context(read_context(context(spo2_scale=2, age_band="adult"))) == ["p_1"]
    assert "copd:P1-red" not in {rule.face.name for rule in programmes.compiled("p_1").rules}
    assert programmes.set_context(read_context(context("p_2"))) == []
    changes = [own("copd:P1-red-target", changes={"at_or_below": 80})]
    assert programmes.enrol(read_enrolment(enrolment(version=2, overrides=changes))) == ["p_1"]
    rule = next(rule for rule in programmes.compiled("p_1").rules if rule.face.name == "copd:P1-red-target")
    assert (rule.spec.enter, rule.face.override, rule.face.version) == (80, 2, 1)


def test_what_is_not_newer_changes_nothing() -> None:
    programmes = world()
    before = msgspec.msgpack.encode(programmes.dump())
    assert programmes.adopt(version_of(protocols=("rhythm",)), 5) == []
    assert programmes.enrol(read_enrolment(enrolment(programmes=()))) == []
    assert programmes.set_context(read_context(context(age_band="under_16"))) == []
    assert msgspec.msgpack.encode(programmes.dump()) == before


def test_a_version_comes_into_force_at_its_time() -> None:
    programmes = world("p_1", "p_2")
    assert programmes.adopt(version_of(version=2, protocols=("rhythm",), valid_from_ns=100), 50) == []
    assert (programmes.version("lungs"), programmes.in_force("lungs")) == (2, version_of(valid_from_ns=0))
    assert programmes.due(99) == Due([], [])
    assert red(programmes) == 91
    assert programmes.due(100) == Due(["p_1", "p_2"], [])
    assert {rule.face.name.partition(":")[0] for rule in programmes.compiled("p_1").rules} == {"rhythm"}
    assert programmes.due(101) == Due([], [])


def test_a_later_version_wins_over_an_earlier_one_whose_time_comes_after() -> None:
    programmes = world()
    programmes.adopt(version_of(version=2, valid_from_ns=100, protocols=("rhythm",)), 50)
    assert programmes.adopt(version_of(version=3), 60) == ["p_1"]
    assert programmes.due(1000).patients == []
    assert red(programmes) == 91


def test_of_two_versions_whose_time_has_come_the_newer_is_in_force() -> None:
    programmes = world()
    programmes.adopt(version_of(version=2, valid_from_ns=100), 50)
    programmes.adopt(version_of(version=3, valid_from_ns=101, protocols=("rhythm",)), 50)
    assert programmes.due(500).patients == ["p_1"]
    known = programmes.in_force("lungs")
    assert known is not None
    assert known.adopted.version == 3


def test_an_override_ends_at_its_time() -> None:
    programmes = world("p_2", "p_1")
    for patient in ("p_1", "p_2"):
        overrides = [own(changes={"at_or_below": 88}, until_ns=100), own("copd:P2", off=True)]
        programmes.enrol(read_enrolment(enrolment(patient, 2, overrides=overrides)))
    assert red(programmes) == 88
    assert programmes.due(100) == Due(["p_1", "p_2"], [])
    assert red(programmes) == 91
    assert ("copd:P2", "switched off for this patient (enrolment 2)") in programmes.compiled("p_1").gated


def test_a_review_is_reminded_of_once_and_the_rules_go_on() -> None:
    programmes = Programmes()
    programmes.adopt(version_of(review_ns=100), 0)
    programmes.enrol(read_enrolment(enrolment()))
    assert programmes.due(99) == Due([], [])
    assert programmes.due(200) == Due([], [Reminder("lungs", 1, "lungs", 100)])
    assert programmes.due(300) == Due([], [])
    assert red(programmes) == 91
    programmes.adopt(version_of(version=2, review_ns=400), 310)
    assert programmes.due(400).reminders == [Reminder("lungs", 2, "lungs", 400)]


def test_unknown_names_have_nothing_in_force() -> None:
    programmes = Programmes()
    assert (programmes.version("x"), programmes.in_force("x")) == (0, None)
    assert (programmes.enrolment_version("x"), programmes.context_version("x")) == (0, 0)
    assert programmes.context("x") == PatientContext()
    assert programmes.due(2**62) == Due([], [])


def test_harm_does_not_go_silent_when_the_context_says_child() -> None:
    programmes = world()
    programmes.set_context(read_context(context(version=2, age_band="under_16")))
    assert red(programmes) == 91


def test_overrides_that_a_new_version_leaves_without_effect_are_listed() -> None:
    programmes = world("p_1", "p_2")
    programmes.adopt(version_of("heart", protocols=("rhythm",)), 0)
    overrides = [own(changes={"clear": 92}), own("copd:P2", off=True), own("rhythm:R1", off=True)]
    programmes.enrol(read_enrolment(enrolment(version=2, programmes=("lungs", "heart"), overrides=overrides)))
    assert programmes.unfit_overrides(version_of(version=2)) == []
    changed = document(SHIPPED["copd"])
    changed["rules"] = [one for one in changed["rules"] if one["id"] != "P2"]
    changed["rules"][0]["at_or_below"] = 93
    body = read_programme(programme(version=2) | {"protocols": [changed]})
    assert programmes.unfit_overrides(body) == [
        ("p_1", "copd:P1-red", "changes.clear: is on the wrong side of at_or_below"),
        ("p_1", "copd:P2", "there is no such rule any more"),
    ]


# What the desk asks before anything enters the log.


def test_a_programme_is_refused_that_is_not_new_or_would_watch_somebody_twice() -> None:
    programmes = world()
    assert (
        refused(programmes.check_programme, version_of()) == "version: was changed meanwhile: version 1 is the newest"
    )
    programmes.adopt(version_of("heart", protocols=("rhythm",)), 0)
    programmes.enrol(read_enrolment(enrolment(version=2, programmes=("lungs", "heart"))))
    problem = refused(programmes.check_programme, version_of("heart", 2, ("rhythm", "copd")))
    assert problem == "protocols: of a patient who is enrolled: copd would watch the patient twice"
    programmes.check_programme(version_of("heart", 2, ("rhythm", "diabetes")))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 1}, "version: was changed meanwhile: version 1 is in force"),
        ({"programmes": ["lungs", "bones"]}, "programmes[1]: there is no programme bones"),
        ({"programmes": ["lungs", "again"]}, "programmes: copd would watch the patient twice"),
        ({"overrides": [own(off=True, until_ns=50)]}, "overrides[0].until_ns: is not in the future"),
        ({"overrides": [own("copd:P9", off=True)]}, "overrides[0].rule: no protocol of the patient has copd:P9"),
        ({"overrides": [own(changes={"at_or_below": 95})]}, None),
        ({"overrides": [own(changes={"unit": "kg"})]}, "overrides[0].changes.unit: does not measure spo2"),
        ({"overrides": [own(changes={"id": "x"})]}, "overrides[0].changes.id: cannot be changed"),
        ({"overrides": [own(changes={"severity": "S3"})]}, None),
        (
            {"overrides": [own("copd:P1-red-target", changes={"at_or_below": 88})]},
            "overrides: copd contradicts itself: is less extreme than that of P1-amber",
        ),
        (
            {"overrides": [own("copd:P1-red-target", changes={"at_or_below": 88}), own("copd:P1-amber", off=True)]},
            None,
        ),
        ({"overrides": [own("copd:P1-red", off=True, until_ns=51)]}, None),
    ],
)  # fmt: skip
def test_an_enrolment_is_checked_against_what_it_names(changes: dict[str, Any], problem: str | None) -> None:
    programmes = world()
    programmes.adopt(version_of("again"), 0)
    body = read_enrolment(enrolment(version=2) | changes)
    if problem is None:
        programmes.check_enrolment(body, 50)
    else:
        assert refused(programmes.check_enrolment, body, 50).startswith(problem)


@pytest.mark.parametrize("age", ["unknown", "under_16"])
def test_an_enrolment_for_adults_wants_an_adult(age: str) -> None:
    programmes = world()
    programmes.set_context(read_context(context("p_9", age_band=age)))
    assert "copd is for adults" in refused(programmes.check_enrolment, read_enrolment(enrolment("p_9")), 0)


def test_a_context_is_refused_that_would_make_the_enrolment_wrong() -> None:
    programmes = world()
    assert refused(programmes.check_context, read_context(context())) == (
        "version: was changed meanwhile: version 1 is in force"
    )
    problem = refused(programmes.check_context, read_context(context(version=2, age_band="under_16")))
    assert problem.startswith("age_band: end the enrolment first: copd is for adults")
    programmes.check_context(read_context(context(version=2, age_band="adult", oxygen="yes")))
    programmes.check_context(read_context(context("p_9", age_band="under_16")))


# Groups, snapshots, speed.


def test_patients_are_grouped_by_what_watches_them() -> None:
    programmes = world("p_1", "p_2", "p_3")
    programmes.set_context(read_context(context("p_2", 2, age_band="adult", spo2_scale=2)))
    groups = programmes.groups(["p_1", "p_2", "p_3", "p_4"])
    assert [patients for _, patients in groups] == [["p_1", "p_3"], ["p_2"], ["p_4"]]
    assert groups[0][0] is programmes.compiled("p_3")


EVENTS = st.one_of(
    st.builds(
        lambda name, version, protocols, start, review: (
            "adopt", programme(name, version, protocols, valid_from_ns=start, review_ns=review),
        ),
        st.sampled_from(["lungs", "heart"]), st.integers(1, 4),
        st.sampled_from([("copd",), ("rhythm",), ("copd", "heart_failure")]), st.none() | st.integers(0, 50),
        st.none() | st.integers(51, 90),
    ),
    st.builds(
        lambda patient, version, names, limit, until: (
            "enrol",
            enrolment(patient, version, names, overrides=[own(changes={"at_or_below": limit}, until_ns=until)]),
        ),
        st.sampled_from(["p_1", "p_2", "p_3"]), st.integers(1, 4),
        st.sampled_from([(), ("lungs",), ("heart", "lungs")]), st.sampled_from([80, 88, 99]),
        st.none() | st.integers(0, 90),
    ),
    st.builds(
        lambda patient, version, scale: ("context", context(patient, version, age_band="adult", spo2_scale=scale)),
        st.sampled_from(["p_1", "p_2", "p_3"]), st.integers(1, 4), st.sampled_from([0, 1, 2]),
    ),
    st.just(("tick", {})),
)  # fmt: skip


def fold(programmes: Programmes, number: int, event: tuple[str, dict[str, Any]]) -> list[Any]:
    kind, body = event
    now = number * 10
    if kind == "adopt":
        return list(programmes.adopt(read_programme(body), now))
    if kind == "enrol":
        return list(programmes.enrol(read_enrolment(body)))
    if kind == "context":
        return list(programmes.set_context(read_context(body)))
    return list(programmes.due(now))


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=10), st.integers(0, 10))
def test_a_snapshot_anywhere_changes_nothing(events: list[tuple[str, dict[str, Any]]], cut: int) -> None:
    straight, restored = Programmes(), Programmes()
    for number, event in enumerate(events):
        if number == cut:
            saved = msgspec.msgpack.encode(restored.dump())
            restored = Programmes.load(msgspec.msgpack.decode(saved))
            assert msgspec.msgpack.encode(restored.dump()) == saved
        before = {patient: straight.compiled(patient) for patient in ("p_1", "p_2", "p_3")}
        told = fold(straight, number, event)
        assert fold(restored, number, event) == told
        patients = told[0] if event[0] == "tick" else told
        assert patients == sorted(patients)
        for patient, known in before.items():
            assert straight.compiled(patient) == restored.compiled(patient)
            assert straight.compiled(patient) is known or patient in patients
    assert msgspec.msgpack.encode(straight.dump()) == msgspec.msgpack.encode(restored.dump())


@pytest.mark.skipif(sys.gettrace() is not None, reason="tracing takes the time that is measured")
def test_ten_thousand_patients_change_their_rules_in_no_time() -> None:
    programmes = Programmes()
    programmes.adopt(version_of(protocols=("copd", "rhythm")), 0)
    patients = [f"p_{number:05}" for number in range(10_000)]
    for number, patient in enumerate(patients):
        programmes.set_context(read_context(context(patient, age_band="adult", spo2_scale=number % 3)))
        programmes.enrol(EnrolmentBody(patient, 1, "", ("lungs",)))
    taken = []
    for version in (2, 3, 4):
        body = version_of(version=version, protocols=("copd", "rhythm"))
        begin = time.perf_counter()
        groups = programmes.groups(programmes.adopt(body, 10))
        taken.append(time.perf_counter() - begin)
    assert sorted(len(members) for _, members in groups) == [3333, 3333, 3334]
    assert min(taken) < 0.15
