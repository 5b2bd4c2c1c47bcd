"""The life of alerts: each row of the table of clinical.md 5.5, the ladder, answers, shelves."""

import msgspec
import pytest

from alerts.cases import ladder
from alerts.cases.casebook import Casebook
from alerts.cases.cases import Subject
from alerts.cases.lifecycle import TABLE, Report, Trigger
from tests.alerts.casebook_world import DAY, HOUR, MINUTE, Desk, key, ns, subject, told, when
from vitals.glossary import INTERRUPTING, AlertState, AlertStep, ControlKind, Severity
from vitals.model import Control

T = Trigger
S1, S2, S3 = subject("one", 1), subject("two", 2), subject("three", 3)
SPOT = subject("spot", 2, spot=True, recheck_s=900)
NOTE = ControlKind.NOTE


def test_a_condition_raises_one_alert_and_starts_its_ladder() -> None:
    desk = Desk()
    (event,) = desk.begin(0, S2)
    assert told([event]) == ["raised/active_unack!"]
    assert (event.role, event.level, event.due_ns) == ("nurse", 0, ns(HOUR))
    assert (event.limit, event.resolves) == ({"value": 90.0}, "resolves by itself")
    assert event.incident.startswith("i_")
    assert desk.begin(1, S2) == [], "two who see the same condition create one alert"
    assert desk.book.is_open(key(S2))
    assert not desk.book.is_open(key(S1))


def test_acknowledging_stops_the_ladder_and_is_idempotent() -> None:
    desk = Desk()
    desk.begin(0, S2)
    (event,) = desk.ack(10, S2)
    assert told([event]) == ["acknowledged/active_ack"]
    assert (event.author, event.text, event.due_ns) == ("nurse_a", "acknowledged", ns(10 + HOUR))
    assert desk.ack(11, S2) == []
    assert desk.tick(HOUR) == []


def test_a_condition_that_ends_resolves_what_does_not_latch() -> None:
    desk = Desk()
    desk.begin(0, S2)
    (event,) = desk.move(10, S2)
    assert told([event]) == ["resolved/resolved"]
    assert event.due_ns is None
    assert desk.move(11, S2) == []
    assert desk.ack(12, S2) == []


def test_an_s1_latches_and_goes_on_asking_until_a_person_acts() -> None:
    desk = Desk()
    desk.begin(0, S1)
    (event,) = desk.move(10, S1)
    assert told([event]) == ["returned/rtn_unack"]
    assert event.due_ns == ns(300)
    assert desk.move(11, S1) == [], "it cannot end twice"
    assert told(desk.tick(300)) == ["escalated/rtn_unack!"]
    assert told(desk.begin(310, S1)) == ["recurred/active_unack!"]
    desk.move(320, S1)
    (event,) = desk.ack(330, S1)
    assert (told([event]), event.text) == (["resolved/resolved"], "acknowledged after values had come back")
    assert desk.tick(HOUR) == []


def test_an_acknowledged_s1_resolves_when_it_ends() -> None:
    desk = Desk()
    desk.begin(0, S1)
    desk.ack(5, S1)
    assert told(desk.move(10, S1)) == ["resolved/resolved"]


def test_an_s1_that_is_refuted_latches_too() -> None:
    desk = Desk()
    desk.begin(0, S1)
    assert told(desk.move(10, S1, T.REFUTED)) == ["returned/rtn_unack"]


@pytest.mark.parametrize(("what", "sla"), [(S1, 300), (S2, HOUR)])
def test_the_ladder_climbs_every_half_sla_and_its_top_repeats(what: Subject, sla: int) -> None:
    desk = Desk()
    desk.begin(0, what)
    events = [event for step in range(12) for event in desk.tick(sla + step * sla // 2)]
    assert [event.role for event in events] == ["backup", "supervisor", *["catch_all"] * 10]
    assert [event.level for event in events] == [1, 2, *[3] * 10]
    assert when(events) == [sla + step * sla // 2 for step in range(12)]
    assert {(event.kind, event.page) for event in events} == {("escalated", True)}
    assert all(event.due_ns == event.at_ns + ns(sla // 2) - ns(0) for event in events)
    assert events[0].text == "not acknowledged in time, the backup is asked: low"


@pytest.mark.parametrize("what", [S3, subject("battery", 2, technical=True)])
def test_s3_and_technical_alerts_go_to_the_supervisor_once(what: Subject) -> None:
    desk = Desk()
    desk.begin(0, what)
    (event,) = desk.tick(30 * DAY)
    assert (event.kind, event.level, event.role, event.due_ns) == ("escalated", 2, "supervisor", None)


def test_a_technical_s1_climbs_like_any_other() -> None:
    desk = Desk()
    desk.begin(0, subject("gateway", 1, technical=True))
    assert [event.level for at in (300, 450, 600, 750) for event in desk.tick(at)] == [1, 2, 3, 3]


def test_after_an_outage_each_alert_climbs_one_step() -> None:
    desk = Desk()
    desk.begin(0, S1)
    assert when(desk.tick(300, whole=10 * HOUR)) == [300], "an outage that is worked through in parts"
    assert desk.tick(9 * HOUR, whole=10 * HOUR) == []
    assert desk.tick(10 * HOUR) == []
    (event,) = desk.tick(10 * HOUR + 150)
    assert (event.level, event.at_ns) == (2, ns(10 * HOUR + 150))


def test_events_of_one_advance_are_in_order_of_time() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.begin(10, S1)
    desk.begin(20, SPOT)
    desk.ack(30, SPOT)
    events = desk.tick(HOUR)
    assert when(events) == sorted(when(events)) == [310, 930, HOUR]


def test_a_doubted_s1_asks_as_an_s2_until_it_is_confirmed() -> None:
    desk = Desk()
    (event,) = desk.begin(0, S1, T.DOUBTED)
    assert (event.rule, event.severity, event.due_ns) == ("one:confirm", Severity.S2, ns(HOUR))
    (event,) = desk.move(900, S1, T.WORSENS)
    assert told([event]) == ["worsened/active_unack!"]
    assert (event.rule, event.severity, event.due_ns) == ("one", Severity.S1, ns(1200))


def test_a_doubted_alert_of_little_urgency_stays_so() -> None:
    desk = Desk()
    assert desk.begin(0, S3, T.DOUBTED)[0].severity is Severity.S3


def test_a_doubted_alert_that_is_refuted_is_over() -> None:
    desk = Desk()
    desk.begin(0, S1, T.DOUBTED)
    assert told(desk.move(60, S1, T.REFUTED)) == ["resolved/resolved"]


def test_a_doubted_alert_is_confirmed_by_a_condition_that_begins() -> None:
    desk = Desk()
    desk.begin(0, S1, T.DOUBTED)
    (event,) = desk.begin(60, S1)
    assert (event.kind, event.severity) == ("worsened", Severity.S1)


def test_worsening_keeps_an_earlier_step_of_the_ladder() -> None:
    desk = Desk()
    desk.begin(0, S2)
    (event,) = desk.move(HOUR - 10, S2, T.WORSENS, Severity.S1)
    assert (event.severity, event.due_ns, event.level) == (Severity.S1, ns(HOUR), 0)
    assert desk.move(HOUR - 5, S2, T.WORSENS) == [], "nothing new: people are being asked"
    assert desk.move(HOUR - 5, S2, T.WORSENS, Severity.S3) == [], "severity never falls"
    assert told(desk.tick(HOUR)) == ["escalated/active_unack!"]


def test_worsening_at_the_end_of_a_ladder_begins_to_climb_again() -> None:
    desk = Desk()
    desk.begin(0, S3)
    desk.tick(2 * DAY)
    (event,) = desk.move(2 * DAY, S3, T.WORSENS, Severity.S2)
    assert (event.severity, event.due_ns) == (Severity.S2, ns(2 * DAY + HOUR))
    assert [one.level for one in desk.tick(2 * DAY + HOUR)] == [3]


def test_worsening_pages_again_for_an_acknowledged_alert() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.tick(HOUR)
    desk.ack(HOUR, S2)
    (event,) = desk.begin(HOUR + 10, subject("two", 1))
    assert told([event]) == ["worsened/active_unack!"]
    assert (event.severity, event.level, event.due_ns) == (Severity.S1, 0, ns(HOUR + 310))


def test_worsening_without_a_new_severity_pages_again_for_an_acknowledged_alert() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.ack(5, S2)
    (event,) = desk.move(10, S2, T.WORSENS, Severity.S3)
    assert (told([event]), event.severity) == (["worsened/active_unack!"], Severity.S2)


def test_what_is_over_but_latched_cannot_worsen() -> None:
    desk = Desk()
    desk.begin(0, S1)
    desk.move(5, S1)
    desk.shelve(6, 600, S1)
    assert desk.move(10, S1, T.WORSENS) == []


@pytest.mark.parametrize(("what", "wait"), [(S1, 30 * MINUTE), (S2, HOUR)])
def test_what_stays_abnormal_after_an_acknowledgement_asks_again(what: Subject, wait: int) -> None:
    desk = Desk()
    desk.begin(0, what)
    desk.ack(10, what)
    assert desk.tick(9 + wait) == []
    (event,) = desk.tick(10 + wait)
    assert told([event]) == ["still_abnormal/active_unack!"]
    assert event.level == 0
    assert event.due_ns == ns(10 + wait + (300 if wait < HOUR else HOUR))
    assert event.text == "acknowledged a while ago and still abnormal: low"


def test_without_newer_readings_nothing_is_called_abnormal() -> None:
    desk = Desk()
    desk.begin(0, S1)
    desk.ack(10, S1)
    desk.stale(20, S1)
    (event,) = desk.tick(10 + 30 * MINUTE)
    assert event.text == "acknowledged a while ago, and no newer reading says that it is over: low"
    assert event.quality == ("stale",)


def test_an_acknowledged_s3_does_not_ask_again() -> None:
    desk = Desk()
    desk.begin(0, S3)
    (event,) = desk.ack(10, S3)
    assert event.due_ns is None
    assert desk.tick(30 * DAY) == []


def test_a_spot_measurement_is_due_again_after_the_acknowledgement() -> None:
    desk = Desk()
    desk.begin(0, SPOT)
    (event,) = desk.ack(10, SPOT)
    assert event.due_ns == ns(910)
    (event,) = desk.tick(2000)
    assert told([event]) == ["recheck_due/active_unack!"]
    assert (event.at_ns, event.due_ns) == (ns(910), ns(910 + HOUR))
    assert told(desk.tick(910 + HOUR)) == ["escalated/active_unack!"]


def test_a_normal_spot_reading_makes_the_recheck_moot() -> None:
    desk = Desk()
    desk.begin(0, SPOT)
    desk.ack(10, SPOT)
    assert told(desk.move(500, SPOT)) == ["resolved/resolved"]
    assert desk.tick(2000) == []


def test_what_is_measured_all_the_time_needs_no_recheck() -> None:
    desk = Desk()
    what = subject("two", 2, recheck_s=900)
    desk.begin(0, what)
    assert desk.ack(10, what)[0].due_ns == ns(10 + HOUR)


def test_a_spot_rule_without_a_recheck_time_asks_again_all_the_same() -> None:
    desk = Desk()
    what = subject("spot", 1, spot=True)
    desk.begin(0, what)
    desk.ack(10, what)
    assert told(desk.tick(10 + 30 * MINUTE)) == ["still_abnormal/active_unack!"]


@pytest.mark.parametrize("close", ["ends", "person"])
def test_a_condition_back_within_ten_minutes_reopens_its_alert(close: str) -> None:
    desk = Desk()
    (first,) = desk.begin(0, S2)
    desk.move(60, S2) if close == "ends" else desk.resolve(60, S2)
    (event,) = desk.begin(60 + 600, S2)
    assert told([event]) == ["reopened/active_unack!"]
    assert (event.alert, event.incident, event.number) == (first.alert, first.incident, 2)
    assert event.due_ns == ns(660 + HOUR)
    desk.move(700, S2)
    (event,) = desk.begin(700 + 601, S2, T.DOUBTED)
    assert (event.kind, event.number) == ("raised", 0)
    assert event.alert != first.alert
    assert event.incident != first.incident


def test_the_very_same_condition_is_the_very_same_alert_however_late() -> None:
    desk = Desk()
    (first,) = desk.begin(0, S2, same=True)
    desk.move(60, S2)
    (event,) = desk.begin(HOUR, S2, same=True)
    assert (event.kind, event.alert, event.number) == ("reopened", first.alert, 2)


def test_an_alert_is_archived_after_72_hours_and_then_nothing_changes_it() -> None:
    desk = Desk()
    (first,) = desk.begin(0, S2)
    desk.move(60, S2)
    assert desk.tick(3 * DAY + 59) == []
    (event,) = desk.tick(3 * DAY + 60)
    assert (told([event]), event.alert) == (["archived/resolved"], first.alert)
    assert desk.ack(3 * DAY + 61, first.alert) == []
    desk.reload()
    cases, *_ = msgspec.msgpack.decode(desk.book.dump()["casebook"])
    assert cases == [1, [], []]


@pytest.mark.parametrize("wrong", [{}, {"casebook": b""}, {"casebook": msgspec.msgpack.encode([1])}])
def test_what_is_no_snapshot_is_refused(wrong: dict[str, bytes]) -> None:
    with pytest.raises((KeyError, msgspec.MsgspecError)):
        Casebook.load(wrong)


def test_archiving_an_old_alert_leaves_the_newer_one_of_its_condition() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.move(60, S2)
    desk.begin(HOUR, S2)
    desk.reload()
    assert [event.kind for event in desk.tick(4 * DAY)] == ["escalated", "archived"]
    assert desk.book.is_open(key(S2))
    assert told(desk.move(4 * DAY, S2)) == ["resolved/resolved"]


def test_people_note_resolve_and_are_heard_on_open_alerts_only() -> None:
    desk = Desk()
    desk.begin(0, S1)
    assert told(desk.do(NOTE, 5, S1)) == ["noted/active_unack"]
    (event,) = desk.resolve(10, S1)
    assert (told([event]), event.text) == (["resolved/resolved"], "closed by a person")
    assert desk.closed == [key(S1)]
    assert desk.do(NOTE, 15, S1) == desk.resolve(16, S1) == desk.shelve(17, 60, S1) == []
    assert desk.ack(18, "a_unknown") == []


@pytest.mark.parametrize(
    "control",
    [
        Control(ControlKind.ACKNOWLEDGE, ns(1), "x", {}),
        Control(ControlKind.PROGRAMME, ns(1), "x", {"alert": "a"}),
        Control(ControlKind.LIMITS, ns(1), "x", {}),
    ],
)
def test_controls_that_are_malformed_or_about_something_else_change_nothing(control: Control) -> None:
    assert Desk().book.control(control) == ([], [])


def test_a_reading_that_is_withdrawn_is_told() -> None:
    desk = Desk()
    desk.begin(0, S2)
    assert told(desk.move(5, S2, T.WITHDRAWN)) == ["retracted/active_unack"]


def test_only_conditions_move_alerts() -> None:
    desk = Desk()
    desk.begin(0, S2)
    with pytest.raises(ValueError, match="acknowledge is no move"):
        desk.move(5, S2, T.ACKNOWLEDGE)


def test_absence_of_data_is_told_once_and_ends_nothing() -> None:
    desk = Desk()
    desk.begin(0, S2)
    gone = Report(text="no readings since 10:00")
    (event,) = desk.book.stale(key(S2), ns(5), gone)
    assert (told([event]), event.quality, event.text) == (["stale/active_unack"], ("stale",), gone.text)
    assert desk.book.stale(key(S2), ns(6), gone) == []
    (event,) = desk.tick(HOUR)
    assert event.quality == ("stale",)
    (event,) = desk.book.heard(key(S2), ns(HOUR), Report())
    assert (told([event]), event.quality) == (["stale_over/active_unack"], ())
    assert desk.book.heard(key(S2), ns(HOUR), Report()) == []
    assert len(desk.book.stale(key(S2), ns(HOUR + 5), gone)) == 1, "once per silence"
    (event,) = desk.move(HOUR + 6, S2, T.WITHDRAWN)
    assert event.quality == (), "what moves a condition is data"
    assert desk.book.stale("p_2|x", ns(1), gone) == desk.book.heard("p_2|x", ns(1), gone) == []


def test_a_shelf_mutes_and_its_end_asks_again() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.tick(HOUR)
    (event,) = desk.shelve(HOUR, 3 * HOUR, S2)
    assert told([event]) == ["shelved/shelved"]
    assert (event.due_ns, event.note) == (ns(3 * HOUR), "bath")
    assert desk.tick(3 * HOUR - 1) == []
    (event,) = desk.tick(3 * HOUR)
    assert told([event]) == ["unshelved/active_unack!"]
    assert (event.level, event.due_ns) == (0, ns(4 * HOUR))


def test_life_goes_on_under_a_shelf() -> None:
    desk = Desk()
    desk.begin(0, S1)
    desk.shelve(1, 1801, S1)
    assert told(desk.move(10, S1)) == ["returned/shelved"]
    assert told(desk.begin(20, S1)) == ["recurred/shelved"]
    assert told(desk.ack(30, S1)) == ["acknowledged/shelved"]
    (event,) = desk.tick(1801)
    assert told([event]) == ["unshelved/active_ack"]
    assert event.due_ns == ns(1830)
    assert told(desk.tick(1830)) == ["still_abnormal/active_unack!"]


def test_worsening_breaks_a_shelf() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.shelve(1, HOUR, S2)
    (event,) = desk.move(10, S2, T.WORSENS)
    assert told([event]) == ["worsened/active_unack!"]
    assert desk.tick(HOUR - 1) == []


def test_worsening_under_a_shelf_starts_the_ladder_anew() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.tick(HOUR)
    desk.shelve(HOUR, 2 * HOUR, S2)
    (event,) = desk.move(HOUR + 10, S2, T.WORSENS)
    assert (event.level, event.role, event.due_ns) == (0, "nurse", ns(2 * HOUR + 10))


def test_a_shelf_beyond_the_longest_is_ignored() -> None:
    desk = Desk()
    desk.begin(0, S1)
    assert desk.shelve(1, HOUR + 2, S1) == []
    assert desk.shelve(1, 1, S1) == []


def test_a_long_shelf_needs_a_second_person() -> None:
    desk = Desk()
    desk.begin(0, S2)
    (event,) = desk.shelve(10, 6 * HOUR, S2, "nurse_a")
    assert told([event]) == ["shelf_asked/active_unack"]
    assert (event.author, event.note) == ("nurse_a", "bath")
    assert told(desk.shelve(20, 6 * HOUR, S2, "nurse_a")) == ["shelf_asked/active_unack"], "alone is not enough"
    assert told(desk.shelve(30, 6 * HOUR + 11, S2, "nurse_b")) == ["shelf_asked/active_unack"], "longer: a new question"
    (event,) = desk.shelve(40, 6 * HOUR, S2, "nurse_a")
    assert (told([event]), event.text) == (["shelved/shelved"], "shelved, as nurse_b asked")


def test_a_second_person_agrees_to_as_many_minutes_a_while_later() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.shelve(10, 10 + 6 * HOUR, S2, "nurse_a")
    assert told(desk.shelve(300, 300 + 6 * HOUR, S2, "nurse_b")) == ["shelved/shelved"]


def test_a_second_person_has_fifteen_minutes() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.shelve(10, 6 * HOUR, S2, "nurse_a")
    assert told(desk.shelve(10 + 901, 6 * HOUR, S2, "nurse_b")) == ["shelf_asked/active_unack"]
    assert told(desk.shelve(10 + 1801, 6 * HOUR, S2, "nurse_a")) == ["shelved/shelved"]


def test_shelves_of_a_condition_add_up_over_a_day() -> None:
    desk = Desk()
    desk.begin(0, S2)
    assert told(desk.shelve(0, 3 * HOUR, S2)) == ["shelved/shelved"]
    assert told(desk.shelve(2 * HOUR, 4 * HOUR, S2)) == ["shelved/shelved"], "2 h gone, 2 h more: 4 in all"
    desk.move(3 * HOUR, S2)
    desk.begin(3 * HOUR + 601, S2)
    assert desk.last(S2).kind == "raised", "another alert, the same condition"
    assert told(desk.shelve(4 * HOUR, 5 * HOUR + 1, S2)) == ["shelf_asked/active_unack"]
    assert told(desk.shelve(4 * HOUR, 5 * HOUR, S2)) == ["shelved/shelved"], "3 h gone, 1 h more"
    desk.tick(5 * HOUR)
    assert told(desk.shelve(25 * HOUR, 26 * HOUR, S2)) == ["shelved/shelved"], "the day has moved on"


def test_roles_and_times_of_faces_win_over_the_defaults() -> None:
    face = subject("x", 1, role="doctor", sla_s=0).face
    s1, s2, s3 = Severity.S1, Severity.S2, Severity.S3
    assert ladder.sla_ns(face, s1, s1) == ladder.SLA_NS[s1]
    assert ladder.sla_ns(face._replace(sla_s=60), s1, s1) == 60 * 10**9
    assert ladder.sla_ns(face._replace(sla_s=DAY), s2, s1) == DAY * 10**9
    assert ladder.sla_ns(face._replace(sla_s=60), s1, s3) == 60 * 10**9, "a short one stays short when severity rises"
    assert ladder.role_at(face, ladder.OWNER) == "doctor"


def test_the_vocabulary_of_steps_is_closed() -> None:
    assert {step.kind for step in TABLE.values()} - {None} == set(AlertStep)
    assert AlertStep.ACKNOWLEDGED not in INTERRUPTING
    assert AlertState.SUPPRESSED in {step.to for step in TABLE.values()}
