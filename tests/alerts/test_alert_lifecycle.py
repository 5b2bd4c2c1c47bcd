"""The life of an alert: the table, what people do, shelves, and what is refused."""

from typing import Any

import pytest

from alerts.cases.lifecycle import TABLE, Trigger, alert_id
from alerts.judging import conditions
from alerts.programmes.controls import check_control, read_body, shelf_problem
from tests.alerts.alert_world import SECOND, Ward, at, control, kinds, limit, limits_control
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control
from vitals.records import Alert

S = AlertState
S1, S2 = limit(severity="S1"), limit()
ACK, SHELVE, NOTE, RESOLVE = ControlKind.ACKNOWLEDGE, ControlKind.SHELVE, ControlKind.NOTE, ControlKind.RESOLVE
HOUR = 3600


def violate(ward: Ward, second: int = 0) -> None:
    ward.read(second, 80.0)


def recover(ward: Ward, second: int = 10) -> None:
    ward.read(second, 97.0)


@pytest.mark.parametrize(
    ("rule", "steps", "expected"),
    [
        (S2, "V", ["raised/active_unack"]),
        (S2, "VR", ["raised/active_unack", "resolved/resolved"]),
        (S2, "VA", ["raised/active_unack", "acknowledged/active_ack"]),
        (S2, "VAA", ["raised/active_unack", "acknowledged/active_ack"]),
        (S2, "VAR", ["raised/active_unack", "acknowledged/active_ack", "resolved/resolved"]),
        (S2, "VRA", ["raised/active_unack", "resolved/resolved"]),
        (S2, "VN", ["raised/active_unack", "noted/active_unack"]),
        (S2, "VANC", ["raised/active_unack", "acknowledged/active_ack", "noted/active_ack", "resolved/resolved"]),
        (S2, "VC", ["raised/active_unack", "resolved/resolved"]),
        (S2, "VCV", ["raised/active_unack", "resolved/resolved", "reopened/active_unack"]),
        (S2, "VRV", ["raised/active_unack", "resolved/resolved", "reopened/active_unack"]),
        (S1, "VR", ["raised/active_unack", "returned/rtn_unack"]),
        (S1, "VRN", ["raised/active_unack", "returned/rtn_unack", "noted/rtn_unack"]),
        (S1, "VRA", ["raised/active_unack", "returned/rtn_unack", "resolved/resolved"]),
        (S1, "VRC", ["raised/active_unack", "returned/rtn_unack", "resolved/resolved"]),
        (S1, "VRV", ["raised/active_unack", "returned/rtn_unack", "recurred/active_unack"]),
        (S1, "VRVA", ["raised/active_unack", "returned/rtn_unack", "recurred/active_unack",
                      "acknowledged/active_ack"]),
        (S1, "VAR", ["raised/active_unack", "acknowledged/active_ack", "resolved/resolved"]),
        (S1, "VH", ["raised/active_unack", "shelved/shelved"]),
        (S1, "VHE", ["raised/active_unack", "shelved/shelved", "unshelved/active_unack"]),
        (S1, "VHRE", ["raised/active_unack", "shelved/shelved", "returned/shelved", "unshelved/rtn_unack"]),
        (S1, "VHAE", ["raised/active_unack", "shelved/shelved", "acknowledged/shelved", "unshelved/active_ack",
                      "recheck_due/active_unack"]),
        (S1, "VHAR", ["raised/active_unack", "shelved/shelved", "acknowledged/shelved", "resolved/resolved"]),
        (S1, "VHRV", ["raised/active_unack", "shelved/shelved", "returned/shelved", "recurred/shelved"]),
        (S1, "VHC", ["raised/active_unack", "shelved/shelved", "resolved/resolved"]),
        (S2, "VHRE", ["raised/active_unack", "shelved/shelved", "resolved/resolved"]),
        (S2, "VHH", ["raised/active_unack", "shelved/shelved", "shelved/shelved"]),
        (S2, "VHN", ["raised/active_unack", "shelved/shelved", "noted/shelved"]),
    ],
)  # fmt: skip
def test_every_path_through_the_table(rule: dict[str, Any], steps: str, expected: list[str]) -> None:
    ward = Ward(rule)
    for number, step in enumerate(steps):
        second = 10 * number
        match step:
            case "V":
                violate(ward, second)
            case "R":
                recover(ward, second)
            case "A":
                ward.do(ACK, second, note="on my way")
            case "N":
                ward.do(NOTE, second, note="called the patient")
            case "C":
                ward.do(RESOLVE, second)
            case "H":
                ward.do(SHELVE, second, until_ns=at(HOUR), reason="bath")
            case "E":
                ward.tick(HOUR)
    assert [f"{event.kind}/{event.state}" for event in ward.said] == expected
    for alert in {event.alert for event in ward.said}:
        assert [event.number for event in ward.said if event.alert == alert] == list(
            range(sum(event.alert == alert for event in ward.said))
        ), "each transition is one event, numbered without gaps"


def test_the_table_knows_open_states_and_real_targets_only() -> None:
    states = {S.NORMAL, S.PENDING, S.ACTIVE_UNACK, S.ACTIVE_ACK, S.RTN_UNACK, S.RESOLVED}
    assert {state for state, _ in TABLE} == states
    assert {trigger for _, trigger in TABLE} == set(Trigger)
    for state in (S.ACTIVE_UNACK, S.ACTIVE_ACK, S.RTN_UNACK):
        for trigger in (Trigger.SHELVE, Trigger.NOTE, Trigger.RESOLVE, Trigger.EXPIRE):
            assert (state, trigger) in TABLE
    assert (S.ACTIVE_ACK, Trigger.ACKNOWLEDGE) not in TABLE, "acknowledging is idempotent"
    assert TABLE[S.ACTIVE_UNACK, Trigger.ENDS_LATCHED].to is S.RTN_UNACK, "S1 never resolves without a person"


def test_the_kernels_take_the_steps_of_the_table() -> None:
    names = {conditions.CLEAR: S.NORMAL, conditions.PENDING: S.PENDING, conditions.HOLDS: S.ACTIVE_UNACK}
    ward = Ward(limit(on_delay_s=30.0))

    def state() -> AlertState:
        return names[int(ward.engine._watching.table.slots.condition[0])]

    assert state() is S.NORMAL
    violate(ward)
    assert state() is TABLE[S.NORMAL, Trigger.VIOLATES].to
    recover(ward)
    assert state() is TABLE[S.PENDING, Trigger.RECOVERS].to
    violate(ward, 20)
    ward.tick(50)
    assert state() is TABLE[S.PENDING, Trigger.HOLDS].to


def test_controls_carry_author_note_and_time() -> None:
    ward = Ward(S2)
    violate(ward)
    (event,) = ward.do(ACK, 5, note="on my way")
    assert (event.author, event.note, event.at_ns) == ("nurse_b", "on my way", at(5))
    (event,) = ward.do(SHELVE, 6, until_ns=at(60), reason="bath")
    assert (event.note, event.state) == ("bath", S.SHELVED)
    (event,) = ward.tick(100)
    assert (event.kind, event.at_ns, event.state) == ("unshelved", at(60), S.ACTIVE_ACK)


def test_worsening_breaks_a_shelf() -> None:
    ward = Ward(S1)
    ward.suspect(0, 65.0)
    ward.do(SHELVE, 5, until_ns=at(HOUR), reason="bath")
    (event,) = ward.read(10, 64.0)
    assert (event.kind, event.state, event.severity) == ("worsened", S.ACTIVE_UNACK, Severity.S1)
    assert "unshelved" not in kinds(ward.tick(2 * HOUR))


def test_a_shelf_that_worsening_breaks_in_the_same_tick_does_not_expire_too() -> None:
    ward = Ward(S1)
    ward.suspect(0, 65.0)
    ward.do(SHELVE, 5, until_ns=at(2 * HOUR), reason="bath")
    assert kinds(ward.tick(3 * HOUR)) == ["worsened", "escalated"]


def test_a_shelf_ends_before_a_delay_that_elapses_at_the_same_instant() -> None:
    ward = Ward(S1)
    ward.suspect(0, 65.0)
    ward.do(SHELVE, 5, until_ns=at(901), reason="bath")
    assert kinds(ward.tick(HOUR)) == ["unshelved", "worsened", "escalated"]


def test_a_person_closes_and_the_next_violation_raises_anew() -> None:
    ward = Ward(limit(on_delay_s=30.0))
    violate(ward)
    ward.tick(30)
    ward.do(RESOLVE, 40)
    violate(ward, 50)
    assert ward.tick(79) == [], "the delay runs again"
    (event,) = ward.tick(80)
    assert (event.kind, event.alert) == ("reopened", ward.said[0].alert), "within ten minutes it is the same alert"


def test_a_latched_condition_keeps_its_delay_when_it_recurs() -> None:
    ward = Ward(S1 | {"on_delay_s": 30.0})
    violate(ward)
    ward.tick(30)
    recover(ward, 40)
    violate(ward, 50)
    recover(ward, 60)
    violate(ward, 70)
    assert ward.tick(99) == []
    (event,) = ward.tick(100)
    assert (event.kind, event.alert) == ("recurred", ward.said[0].alert)


@pytest.mark.parametrize(
    "unreadable",
    [
        control(ACK, 5, alert="a_unknown"),
        control(ACK, 5),
        control(ACK, 5, alert=7),
        control(NOTE, 5, alert="a_unknown", note=""),
        control(SHELVE, 5, alert="a_unknown", until_ns="soon", reason="x"),
        control(ControlKind.LIMITS, 5, patient="p_1", version=9, reason="", limits=[{"vital": "spo2"}]),
        control(ControlKind.LIMITS, 5, patient="p_1", version=2**70, reason="", limits=[]),
        control(ControlKind.LIMITS, 5, patient="p_1", limits=[]),
    ],
)
def test_malformed_controls_and_unknown_alerts_are_ignored(unreadable: Control) -> None:
    ward = Ward(S2)
    violate(ward)
    before = [event.id for event in ward.said]
    assert ward.entry(unreadable) == []
    assert [alert.live for alert in ward.engine.open_alerts()] == [S.ACTIVE_UNACK]
    assert [event.id for event in ward.said] == before


@pytest.mark.parametrize(("until_s", "rule"), [(HOUR + 1, S1), (24 * HOUR + 1, S2), (0, S2), (-5, S2)])
def test_a_shelf_out_of_bounds_in_the_log_is_ignored(until_s: int, rule: dict[str, Any]) -> None:
    ward = Ward(rule)
    violate(ward)
    assert ward.do(SHELVE, 0, until_ns=at(until_s), reason="x") == []


def test_alert_ids_depend_on_each_part_of_the_identity() -> None:
    base = ("p_1", "limit:spo2:low:S1", 7, 4, 100, 3)
    others = [("p_2", *base[1:]), (base[0], "x", *base[2:])]
    others += [(*base[:place], 99, *base[place + 1 :]) for place in range(2, 6)]
    ids = {alert_id(*parts) for parts in [base, *others]}  # type: ignore[arg-type]
    assert len(ids) == 7
    assert all(len(ident) == 34 and ident.startswith("a_") for ident in ids)


class _Book:
    """Two alerts, one of them over, and version 3 of the limits of p_1."""

    def alert(self, ident: str) -> Alert:
        states = {"a_open": S.ACTIVE_UNACK, "a_over": S.RESOLVED}
        if ident not in states:
            raise NotFound("alert", ident)
        return Alert(ident, "p_1", "limit:spo2:low:S1", 1, Severity.S1, states[ident], 0, 0, 1)

    def limits(self, patient: str) -> tuple[int, list[dict[str, Any]]]:
        return (3, []) if patient == "p_1" else (0, [])


_BOOK: Any = _Book()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (control(ACK, 0), "body"),
        (control(ACK, 0, alert=""), "alert"),
        (control(NOTE, 0, alert="a_open", note=""), "note"),
        (control(NOTE, 0, alert="a_over", note="late"), "alert"),
        (control(SHELVE, 0, alert="a_open", until_ns=at(60), reason=""), "reason"),
        (control(SHELVE, 0, alert="a_over", until_ns=at(60), reason="x"), "alert"),
        (control(SHELVE, 0, alert="a_open", until_ns=at(HOUR) + 1, reason="x"), "until_ns"),
        (control(SHELVE, 0, alert="a_open", until_ns=at(0), reason="x"), "until_ns"),
        (limits_control(3), "version"),
        (limits_control(4, limit(low=None)), "[0]"),
        (limits_control(4, limit(), limit(low="x")), "[1].low"),
        (control(ControlKind.LIMITS, 0, patient="p_1", version=4, reason="", limits={}), "limits"),
    ],
)
def test_a_wrong_decision_is_refused_with_its_field(asked: Control, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_control(_BOOK, _BOOK, asked)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "asked",
    [
        control(ACK, 0, alert="a_open"),
        control(ACK, 0, alert="a_over"),
        control(RESOLVE, 0, alert="a_over"),
        control(NOTE, 0, alert="a_open", note="seen"),
        control(SHELVE, 0, alert="a_open", until_ns=at(HOUR), reason="bath"),
        limits_control(4, limit()),
        limits_control(1, limit(), patient="p_new"),
    ],
)
def test_a_right_decision_passes(asked: Control) -> None:
    check_control(_BOOK, _BOOK, asked)
    assert read_body(asked)


def test_an_unknown_alert_is_not_found() -> None:
    with pytest.raises(NotFound):
        check_control(_BOOK, _BOOK, control(ACK, 0, alert="a_nobody"))


def test_shelves_are_bounded_by_severity() -> None:
    day = 24 * HOUR * SECOND
    assert shelf_problem(Severity.S2, 0, day) is None
    assert shelf_problem(Severity.S3, 0, day + 1) is not None
    assert shelf_problem(Severity.S1, 0, HOUR * SECOND) is None
    assert "60 minutes" in str(shelf_problem(Severity.S1, 0, HOUR * SECOND + 1))
