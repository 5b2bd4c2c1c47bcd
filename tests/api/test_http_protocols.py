"""Protocols and programmes over HTTP, and what of them holds for a patient."""

import threading
from typing import Any

import pytest

from tests.api.api_world import START_NS, Api, World, limit
from tests.support import SECOND
from vitals.errors import InvalidRequest
from vitals.glossary import ControlKind
from vitals.model import Control

OURS: dict[str, Any] = {
    "name": "ours",
    "title": "Our ward",
    "rules": [
        {"id": "low", "type": "limit", "title": "Oxygen saturation low", "severity": "S2", "vital": "spo2",
         "unit": "%", "at_or_below": 90, "advice": "Ask for a second reading"},
        {"id": "oxygen", "type": "limit", "title": "Too much oxygen", "severity": "S3", "vital": "spo2",
         "unit": "%", "above": 92, "requires": {"oxygen": "yes"}},
    ],
    "only_where": [{"vital": "spo2", "side": "high", "requires": {"oxygen": "yes"}, "reason": "too much oxygen"}],
}  # fmt: skip
KNOWN = {
    "age_band": "adult", "pregnancy": "no", "oxygen": "no", "spo2_scale": 1, "known_af": "no",
    "usual_confusion": False, "postpartum": "no", "mechanical_support": "no", "trained_or_paced": "yes",
    "usual_spo2": 94, "treatment_limits": "yes",
}  # fmt: skip


def changed(**members: Any) -> dict[str, Any]:
    """Our protocol with another first rule."""
    return OURS | {"rules": [OURS["rules"][0] | members, OURS["rules"][1]]}


def adopt(api: Api, programme: str, *protocols: Any, **members: Any) -> Any:
    body = {"protocols": list(protocols) or [OURS], "title": "Ours", "reason": "first"} | members
    return api.post(f"/programmes/{programme}", body, method="PUT")


def enrol(api: Api, patient: str, *programmes: str, **members: Any) -> Any:
    body = {"programmes": list(programmes), "reason": "home"} | members
    return api.post(f"/patients/{patient}/programmes", body, method="PUT")


def in_context(api: Api, patient: str, **members: Any) -> Any:
    return api.post(f"/patients/{patient}/context", KNOWN | {"reason": "asked"} | members, method="PUT")


class TestProtocols:
    def test_shipped_ones_are_listed_with_their_rules_in_words(self, api: Api) -> None:
        items = api.get("/protocols")["items"]
        assert [one["name"] for one in items] == [
            "copd", "diabetes", "heart_failure", "hypertension", "post_surgical", "rhythm",
        ]  # fmt: skip
        for one in items:
            assert one["title"]
            assert all(rule["title"] and rule["words"] and rule["severity"] for rule in one["rules"])
        page = api.get("/protocols", limit=2)
        assert [one["name"] for one in page["items"]] == ["copd", "diabetes"]
        assert api.get("/protocols", limit=4, cursor=page["next"])["items"][0]["name"] == "heart_failure"

    def test_one_is_shown_with_its_document_which_is_one(self, api: Api) -> None:
        shown = api.get("/protocols/copd")
        assert shown["document"]["name"] == "copd"
        assert api.post("/protocols/check", shown["document"]) == shown
        api.refused("GET", "/protocols/none", 404)

    def test_a_document_is_read_or_refused_with_its_path(self, api: Api) -> None:
        read = api.post("/protocols/check", OURS)
        assert (read["name"], read["title"]) == ("ours", "Our ward")
        assert [rule["id"] for rule in read["rules"]] == ["low", "oxygen"]
        api.refused("POST", "/protocols/check", 422, "rules[0].unit", json=changed(unit="kg"))
        api.refused("POST", "/protocols/check", 422, "name", json={})
        api.refused("POST", "/protocols/check", 422, "body", json=[])

    def test_a_document_with_a_gap_is_refused_with_the_context(self, api: Api) -> None:
        gap = {key: value for key, value in OURS.items() if key != "only_where"}
        problem = api.refused("POST", "/protocols/check", 422, "rules", json=gap)
        assert "oxygen saturation (high) where it is not recorded whether the patient gets oxygen" in problem["detail"]
        body = {"protocols": ["copd", gap], "reason": "first"}
        api.refused("PUT", "/programmes/gap", 422, "protocols[1].rules", json=body)
        api.refused("GET", "/programmes/gap", 404)

    def test_what_changes_is_said_in_sentences(self, api: Api) -> None:
        same = api.post("/protocols/diff", {"before": "copd", "after": "copd"})
        assert same == {"changes": []}
        said = api.post("/protocols/diff", {"before": OURS, "after": changed(at_or_below=88)})["changes"]
        assert said
        assert all(isinstance(line, str) and line for line in said)
        api.refused("POST", "/protocols/diff", 422, "before", json={"before": "none", "after": "copd"})
        api.refused(
            "POST", "/protocols/diff", 422, "after.rules[0].unit", json={"before": OURS, "after": changed(unit="kg")}
        )


class TestProgrammes:
    def test_adopting_makes_versions_with_author_reason_and_what_changed(self, shared: World, api: Api) -> None:
        made = adopt(api, "ward-a", "copd", OURS, review="2024-06-01T00:00:00Z")
        assert (made["version"], made["title"], made["reason"]) == (1, "Ours", "first")
        assert (made["author"], made["set"]) == (api_name(shared, api), "2023-11-14T22:13:20Z")
        assert (made["review"], made["valid_from"]) == ("2024-06-01T00:00:00Z", None)
        assert [one["name"] for one in made["protocols"]] == ["copd", "ours"]
        again = adopt(api, "ward-a", changed(at_or_below=88), reason="less noise")
        assert (again["version"], [one["reason"] for one in again["history"]]) == (2, ["less noise", "first"])
        assert "copd was left out" in again["history"][0]["changes"]
        assert len(again["history"][0]["changes"]) > 1
        assert again["history"][1]["changes"] == []
        (listed,) = [one for one in api.get("/programmes", limit=1000)["items"] if one["programme"] == "ward-a"]
        assert (listed["version"], listed["protocols"]) == (2, ["ours"])
        assert api.get("/programmes/ward-a") == again
        answer = api.request("GET", "/programmes/ward-a")
        assert answer.headers["etag"] == '"2"'

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"protocols": []}, "protocols"),
            ({"protocols": ["none"]}, "protocols[0]"),
            ({"protocols": ["copd", changed(unit="kg")]}, "protocols[1].rules[0].unit"),
            ({"reason": ""}, "reason"),
            ({"reason": " "}, "reason"),
            ({"review": "tomorrow"}, "review"),
            ({"version": 0}, "version"),
            ({"author": "me"}, "author"),
        ],
    )
    def test_what_is_refused_is_named_and_leaves_nothing(self, api: Api, change: dict[str, Any], field: str) -> None:
        body = {"protocols": ["copd"], "reason": "first"} | change
        api.refused("PUT", "/programmes/refused", 422, field, json=body)
        api.refused("GET", "/programmes/refused", 404)
        api.refused("PUT", "/programmes/NO", 422, "programme", json={"protocols": ["copd"], "reason": "first"})

    def test_of_two_who_change_the_same_version_one_is_told(self, api: Api) -> None:
        adopt(api, "race")
        adopt(api, "race", version=2)
        body = {"protocols": ["copd"], "reason": "late", "version": 2}
        problem = api.refused("PUT", "/programmes/race", 422, "version", json=body)
        assert "version 2 is in force" in problem["detail"]
        assert api.get("/programmes/race")["version"] == 2

    def test_a_viewer_reads_and_changes_nothing(self, shared: World, api: Api) -> None:
        adopt(api, "looked-at")
        patient, _ = shared.worn()
        viewer = shared.api("viewer")
        for path in ("/programmes", "/programmes/looked-at", "/protocols", f"/patients/{patient}/rules"):
            viewer.get(path)
        for path in ("/programmes/looked-at", f"/patients/{patient}/programmes", f"/patients/{patient}/context"):
            viewer.refused("PUT", path, 403, json={})
        shared.api("integrator").refused("GET", f"/patients/{patient}/context", 403)


class TestPatient:
    @pytest.fixture
    def patient(self, shared: World, api: Api) -> str:
        """An adult, and a programme ``ours``."""
        token, _ = shared.worn()
        if "ours" not in [one["programme"] for one in api.get("/programmes", limit=1000)["items"]]:
            adopt(api, "ours")
        return token

    def test_nobody_said_anything_yet(self, api: Api, patient: str) -> None:
        context = api.get(f"/patients/{patient}/context")
        assert (context["version"], context["age_band"], context["oxygen"]) == (0, "unknown", "unknown")
        assert (context["spo2_scale"], context["author"], context["history"]) == (0, None, [])
        enrolled = api.get(f"/patients/{patient}/programmes")
        assert (enrolled["version"], enrolled["programmes"], enrolled["overrides"]) == (0, [], [])
        assert api.get(f"/patients/{patient}/rules") == {"patient": patient, "rules": [], "gated": []}

    def test_a_context_says_who_set_it_and_keeps_what_was(self, shared: World, api: Api, patient: str) -> None:
        made = in_context(api, patient)
        assert {name: made[name] for name in KNOWN} == KNOWN
        assert (made["version"], made["author"], made["reason"]) == (1, api_name(shared, api), "asked")
        again = in_context(api, patient, oxygen="yes", reason="oxygen at home")
        assert [one["oxygen"] for one in again["history"]] == ["yes", "no"]
        assert api.get(f"/patients/{patient}/context") == again
        path = f"/patients/{patient}/context"
        api.refused("PUT", path, 422, "version", json=KNOWN | {"reason": "late", "version": 2})
        assert made["words"] == [
            "adult", "not pregnant", "on air", "SpO₂ scale 1", "no AF", "trained or paced", "usual SpO₂ 94 %",
            "limits of treatment agreed: see the record",
        ]  # fmt: skip
        for change, field in (
            ({"pregnancy": "yes", "postpartum": "yes"}, "postpartum"),
            ({"usual_spo2": 60}, "usual_spo2"),
            ({"usual_spo2": 101}, "usual_spo2"),
            ({"mechanical_support": True}, "mechanical_support"),
            ({"age_band": "child"}, "age_band"),
            ({"spo2_scale": 3}, "spo2_scale"),
            ({"reason": ""}, "reason"),
        ):
            api.refused("PUT", path, 422, field, json=KNOWN | {"reason": "wrong"} | change)

    def test_what_watches_a_patient_is_said_with_what_does_not_apply(self, api: Api, patient: str) -> None:
        in_context(api, patient)
        made = enrol(api, patient, "ours")
        assert made["programmes"] == [{"programme": "ours", "title": "Ours", "version": 1}]
        found = api.get(f"/patients/{patient}/rules")
        (low,) = found["rules"]
        assert (low["id"], low["severity"], low["version"], low["source"]) == ("ours:low", "S2", 1, "Ours")
        assert low["words"]
        (oxygen,) = found["gated"]
        assert (oxygen["id"], oxygen["reason"]) == ("ours:oxygen", "the patient gets no oxygen")
        in_context(api, patient, oxygen="yes")
        assert [one["id"] for one in api.get(f"/patients/{patient}/rules")["rules"]] == ["ours:low", "ours:oxygen"]

    def test_a_protocol_for_adults_wants_an_adult(self, api: Api, patient: str) -> None:
        path, body = f"/patients/{patient}/programmes", {"programmes": ["ours"], "reason": "home"}
        problem = api.refused("PUT", path, 422, "programmes", json=body)
        assert "age group is not recorded" in problem["detail"]
        in_context(api, patient, age_band="under_16")
        assert "under 16" in api.refused("PUT", path, 422, "programmes", json=body)["detail"]
        in_context(api, patient)
        enrol(api, patient, "ours")
        child = KNOWN | {"age_band": "under_16", "reason": "a mistake"}
        api.refused("PUT", f"/patients/{patient}/context", 422, "age_band", json=child)

    def test_support_without_a_programme_of_mean_pressure_is_refused(self, api: Api, patient: str) -> None:
        in_context(api, patient)
        enrol(api, patient, "ours")
        supported = KNOWN | {"mechanical_support": "yes", "reason": "pump implanted"}
        path = f"/patients/{patient}/context"
        problem = api.refused("PUT", path, 422, "mechanical_support", json=supported)
        assert "mean arterial pressure" in problem["detail"]
        low = {"id": "m", "type": "limit", "title": "Mean pressure low", "severity": "S1", "vital": "bp_mean",
               "unit": "mm[Hg]", "below": 60}  # fmt: skip
        adopt(api, "pump", {"name": "pump", "title": "Pump", "rules": [low]})
        enrol(api, patient, "ours", "pump")
        in_context(api, patient, mechanical_support="yes")
        found = api.get(f"/patients/{patient}/rules")
        assert [one["id"] for one in found["rules"]] == ["pump:m"]
        assert ["with mechanical support" in one["reason"] for one in found["gated"]] == [True, False]

    def test_a_programme_does_not_come_to_watch_anybody_twice(self, api: Api, patient: str) -> None:
        in_context(api, patient)
        adopt(api, "one", OURS)
        adopt(api, "two", "copd")
        enrol(api, patient, "one", "two")
        body = {"protocols": [OURS, "copd"], "reason": "both"}
        problem = api.refused("PUT", "/programmes/two", 422, "protocols", json=body)
        assert "ours would watch the patient twice" in problem["detail"]
        assert api.get("/programmes/two")["version"] == 1

    def test_own_limits_stand_beside_programmes(self, shared: World, api: Api, patient: str) -> None:
        in_context(api, patient)
        enrol(api, patient, "ours")
        shared.limits(patient, limit(on_delay_s=60.0), api=api)
        own = [one for one in api.get(f"/patients/{patient}/rules")["rules"] if one["source"] == "own limits"]
        assert [one["id"] for one in own] == ["limit:spo2:low:S2", "silence:spo2"]
        assert own[0]["words"] == "Oxygen saturation under 90 % for 60 s"

    def test_overrides_are_the_patients_own_and_end(self, shared: World, api: Api, patient: str) -> None:
        in_context(api, patient, oxygen="yes")
        changes = {"rule": "ours:low", "changes": {"at_or_below": 86}, "reason": "usual for her"}
        off = {"rule": "ours:oxygen", "off": True, "reason": "palliative", "until": "2023-11-14T22:13:21Z"}
        made = enrol(api, patient, "ours", overrides=[changes, off])
        assert [(one["rule"], one["off"], one["until"]) for one in made["overrides"]] == [
            ("ours:low", False, None), ("ours:oxygen", True, "2023-11-14T22:13:21Z"),
        ]  # fmt: skip
        found = api.get(f"/patients/{patient}/rules")
        assert [(one["id"], one["override"]) for one in found["rules"]] == [("ours:low", 1)]
        assert "switched off" in found["gated"][0]["reason"]
        shared.clock.advance(2)
        try:
            found = api.get(f"/patients/{patient}/rules")
        finally:
            shared.clock.advance(-2)
        assert [one["id"] for one in found["rules"]] == ["ours:low", "ours:oxygen"]
        path = f"/patients/{patient}/programmes"
        both = {"rule": "ours:low", "changes": {"at_or_below": 86}, "off": True, "reason": "?"}
        body = {"programmes": ["ours"], "reason": "wrong"}
        api.refused("PUT", path, 422, "overrides[0]", json=body | {"overrides": [both]})
        api.refused("PUT", path, 422, "overrides.0.reason", json=body | {"overrides": [off | {"reason": ""}]})
        api.refused("PUT", path, 422, "programmes[0]", json=body | {"programmes": ["none"]})
        past = off | {"until": "2023-11-14T22:13:20Z"}
        api.refused("PUT", path, 422, "overrides[0].until", json=body | {"overrides": [past]})
        unknown = changes | {"rule": "ours:none"}
        api.refused("PUT", path, 422, "overrides[0].rule", json=body | {"overrides": [unknown]})
        wrong = changes | {"changes": {"unit": "kg"}}
        api.refused("PUT", path, 422, "overrides[0].changes.unit", json=body | {"overrides": [wrong]})


def api_name(world: World, api: Api) -> str:
    """The author that the token of ``api`` stands for."""
    principal = world.auth.check(api.headers["Authorization"].removeprefix("Bearer "))
    assert principal is not None
    return principal.name


def test_a_version_whose_time_has_not_come_watches_nobody(shared: World, api: Api) -> None:
    patient, _ = shared.worn()
    adopt(api, "later")
    adopt(api, "later", changed(title="From tomorrow on"), valid_from="2023-11-15T22:13:20Z")
    in_context(api, patient)
    enrol(api, patient, "later")
    assert [one["title"] for one in api.get(f"/patients/{patient}/rules")["rules"]] == ["Oxygen saturation low"]


def test_unknown_patient(api: Api) -> None:
    for path in ("programmes", "context", "rules"):
        api.refused("GET", f"/patients/p_none/{path}", 404)
    api.refused("PUT", "/patients/p_none/context", 404, json=KNOWN | {"reason": "x"})
    api.refused("PUT", "/patients/p_none/programmes", 404, json={"programmes": [], "reason": "x"})


def test_a_status_reaches_the_engines_log_and_asking_again_repairs(world: World) -> None:
    api = world.api("clinician")
    patient, _ = world.worn()
    path = f"/patients/{patient}/status"
    body = {"status": "paused", "from": "2023-11-14T22:00:00Z", "check": "2023-11-15T22:00:00Z"}
    # A crash after the registry's write: the engine was never told.
    world.registry.set_status(patient, "paused", START_NS - 800 * SECOND)
    assert world.book.statuses(patient) == []
    for _ in range(2):
        assert api.post(path, body, method="PUT")["status"] == "paused"
    told = world.book.statuses(patient)
    assert [(one.status, one.from_ns, one.check_ns) for one in told] == [
        ("paused", START_NS - 800 * SECOND, START_NS + 85_600 * SECOND)
    ] * 2
    items = api.get(path)["items"]
    assert [(one["status"], one["from"]) for one in items[-1:]] == [("paused", "2023-11-14T22:00:00Z")]
    api.refused("PUT", path, 422, "check", json=body | {"check": "2023-11-14T21:00:00Z"})
    api.refused("PUT", path, 422, "status", json={"status": "asleep"})
    assert len(world.book.statuses(patient)) == 2


def test_of_two_who_make_the_same_version_at_once_one_is_told(world: World) -> None:
    """The log's first wins; no lock of one process helps against another."""
    patient, _ = world.worn()
    for version in range(1, 9):
        assert _raced(world, {"patient": patient, "version": version} | KNOWN) == ["version"]
    assert [one.version for one in world.book.context_history(patient)] == list(range(8, 0, -1))


def test_of_two_requests_for_the_same_version_at_once_one_is_refused(world: World) -> None:
    api = world.api("clinician")
    patient, _ = world.worn()
    asks: tuple[tuple[str, dict[str, Any]], ...] = (
        (f"/patients/{patient}/context", KNOWN | {"version": 1}),
        (f"/patients/{patient}/programmes", {"programmes": [], "version": 1}),
    )
    for path, body in asks:
        start, codes = threading.Barrier(2), list[int]()

        def put(reason: str, path: str = path, body: dict[str, Any] = body, start: threading.Barrier = start,
                codes: list[int] = codes) -> None:  # fmt: skip
            start.wait(10.0)
            codes.append(api.request("PUT", path, json=body | {"reason": reason}).status_code)

        threads = [threading.Thread(target=put, args=(reason,)) for reason in ("mine", "theirs")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes) == [200, 422]
        assert api.get(path)["version"] == 1


def _raced(world: World, body: dict[str, Any]) -> list[str]:
    """The fields that refusals of two equal versions named."""
    start, refused = threading.Barrier(2), list[str]()

    def decide(reason: str) -> None:
        start.wait()
        try:
            world.desk.submit(Control(ControlKind.CONTEXT, START_NS, reason, body | {"reason": reason}))
        except InvalidRequest as error:
            refused.append(error.field)

    threads = [threading.Thread(target=decide, args=(reason,)) for reason in ("mine", "theirs")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused
