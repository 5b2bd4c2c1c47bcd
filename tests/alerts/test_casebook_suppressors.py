"""What keeps alerts from drowning one another, and that none of it hides a new S1 (clinical.md 5.3)."""

import time

from alerts.cases import suppressors
from alerts.cases.casebook import Casebook
from alerts.cases.cases import Subject
from alerts.cases.lifecycle import Report, Trigger
from tests.alerts.casebook_world import DAY, HOUR, MINUTE, Desk, key, ns, subject, told, when
from vitals.glossary import AlertState, Severity

T = Trigger
S1, S2, S3 = subject("one", 1), subject("two", 2), subject("three", 3)
FLOOD = subject("flood")
STORM = subject("technical:storm", patient="")


def of_cause(name: str, severity: int, cause: str = "oxygenation", **changes: object) -> Subject:
    return subject(name, severity, cause=cause, **changes)


# Grouping.


def test_alerts_of_one_cause_are_one_incident_and_page_once() -> None:
    desk = Desk()
    (first,) = desk.begin(0, of_cause("a", 2))
    (second,) = desk.begin(5, of_cause("b", 2))
    (third,) = desk.begin(6, of_cause("c", 3))
    assert told([first, second, third]) == ["raised/active_unack!", "raised/active_unack", "raised/active_unack"]
    (other,) = desk.begin(7, of_cause("d", 2, "heart"))
    (foreign,) = desk.begin(8, of_cause("a", 2, patient="p_2"))
    assert first.incident == second.incident == third.incident
    assert len({first.incident, other.incident, foreign.incident}) == 3
    assert other.page
    assert foreign.page


def test_a_more_urgent_alert_pages_in_its_incident() -> None:
    desk = Desk()
    desk.begin(0, of_cause("a", 3))
    assert told(desk.begin(5, of_cause("b", 2))) == ["raised/active_unack!"]


def test_grouping_never_hides_a_new_s1_nor_what_may_be_one() -> None:
    desk = Desk()
    desk.begin(0, of_cause("a", 1))
    assert told(desk.begin(5, of_cause("b", 1))) == ["raised/active_unack!"]
    assert told(desk.begin(6, of_cause("c", 1), T.DOUBTED)) == ["raised/active_unack!"]
    desk.ack(7, of_cause("a", 1))
    desk.shelve(8, 600, of_cause("b", 1))
    assert told(desk.begin(9, of_cause("d", 1))) == ["raised/active_unack!"]


def test_only_the_first_of_equals_climbs_aloud_until_somebody_takes_it() -> None:
    desk = Desk()
    first, second = of_cause("a", 2), of_cause("b", 2)
    desk.begin(0, first)
    desk.begin(1, second)
    assert [event.page for event in desk.tick(HOUR + 1)] == [True, False]
    desk.ack(HOUR + 2, first)
    assert [event.page for event in desk.tick(HOUR + HOUR // 2 + 1)] == [True], "what is left asks for itself"


def test_a_technical_alert_does_not_speak_for_the_patient() -> None:
    desk = Desk()
    desk.begin(0, of_cause("stuck", 2, technical=True))
    assert told(desk.begin(1, of_cause("a", 2))) == ["raised/active_unack!"]
    assert told(desk.begin(2, of_cause("lead", 2, technical=True))) == ["raised/active_unack"]


def test_an_alert_whose_ladder_is_over_speaks_for_no_other() -> None:
    desk = Desk()
    desk.begin(0, of_cause("a", 3))
    assert told(desk.begin(DAY - 1, of_cause("b", 3))) == ["raised/active_unack"]
    desk.tick(DAY)
    assert told(desk.begin(DAY + 1, of_cause("c", 3))) == ["raised/active_unack"], "the second still climbs"
    assert [event.page for event in desk.tick(3 * DAY)] == [True, True]
    assert told(desk.begin(3 * DAY, of_cause("d", 3))) == ["raised/active_unack!"]


def test_an_incident_is_open_for_ten_minutes_after_its_last_alert() -> None:
    desk = Desk()
    (first,) = desk.begin(0, of_cause("a", 2))
    desk.move(60, of_cause("a", 2))
    (second,) = desk.begin(660, of_cause("b", 2))
    assert (second.incident, second.page) == (first.incident, True)
    desk.move(700, of_cause("b", 2))
    (third,) = desk.begin(700 + 601, of_cause("c", 2))
    assert third.incident != first.incident


def test_an_incident_keeps_the_cause_that_it_began_with() -> None:
    desk = Desk()
    (first,) = desk.begin(0, of_cause("a", 1))
    desk.move(5, of_cause("a", 1))
    (again,) = desk.begin(10, of_cause("a", 1, "heart"))
    desk.resolve(700, of_cause("a", 1))
    (second,) = desk.begin(1000, of_cause("b", 2))
    assert first.incident == again.incident == second.incident


# Chatter.


def chatter(desk: Desk, what: Subject, cycles: int, start: int = 0) -> None:
    for cycle in range(cycles):
        desk.begin(start + 120 * cycle, what)
        desk.move(start + 120 * cycle + 60, what)


def test_a_condition_that_comes_and_goes_is_held_until_it_is_quiet() -> None:
    desk = Desk()
    chatter(desk, S2, 4)
    held = desk.said[-1]
    assert [event.kind for event in desk.said] == [
        "raised", "resolved", "reopened", "resolved", "reopened", "resolved", "reopened", "held",
    ]  # fmt: skip
    assert (told([held]), held.quality) == (["held/active_unack"], ("chattering",))
    (event,) = desk.begin(500, S2)
    assert (told([event]), event.quality) == (["recurred/active_unack"], ("chattering",))
    assert desk.tick(420 + 30 * MINUTE) == [], "true again: the wait is over"
    assert told(desk.move(2500, S2)) == ["held/active_unack"]
    *escalated, event = desk.tick(2500 + 30 * MINUTE)
    assert told(escalated) == ["escalated/active_unack!"], "nobody has looked at it yet"
    assert (told([event]), event.text) == (["resolved/resolved"], "has been quiet for 30 minutes")
    assert event.quality == ()


def test_three_cycles_in_half_an_hour_are_no_chatter() -> None:
    desk = Desk()
    chatter(desk, S2, 3)
    chatter(desk, S2, 1, start=60 + 30 * MINUTE)
    assert desk.said[-1].kind == "resolved"


def test_an_acknowledged_alert_that_chatters_waits_without_asking() -> None:
    desk = Desk()
    chatter(desk, S2, 4)
    (event,) = desk.ack(430, S2)
    assert event.due_ns == ns(420 + 30 * MINUTE), "nothing but its end"
    assert told(desk.begin(500, S2)) == ["recurred/active_ack"]
    assert desk.last(S2).due_ns == ns(430 + HOUR)
    assert told(desk.tick(430 + HOUR)) == ["still_abnormal/active_unack!"]


def test_the_chatter_guard_never_holds_back_an_s1() -> None:
    desk = Desk()
    for at in range(0, 1200, 120):
        (event,) = desk.begin(at, S1)
        assert event.page
        assert event.state is AlertState.ACTIVE_UNACK
        desk.ack(at + 30, S1)
        assert told(desk.move(at + 60, S1)) == ["resolved/resolved"]


def test_a_normal_reading_of_a_chattering_alert_makes_the_recheck_moot() -> None:
    desk = Desk()
    spot = subject("spot", 2, spot=True, recheck_s=900)
    chatter(desk, spot, 4)
    desk.ack(430, spot)
    assert told(desk.tick(420 + 30 * MINUTE)) == ["resolved/resolved"]


def test_a_chattering_alert_that_becomes_an_s1_pages() -> None:
    desk = Desk()
    chatter(desk, S2, 4)
    (event,) = desk.begin(500, subject("two", 1))
    assert (told([event]), event.quality) == (["worsened/active_unack!"], ())
    assert told(desk.move(510, S2)) == ["returned/rtn_unack"]


def test_a_doubted_recurrence_of_a_held_alert_ends_like_any() -> None:
    desk = Desk()
    chatter(desk, S2, 4)
    assert told(desk.begin(500, S2, T.DOUBTED)) == ["recurred/active_unack"]
    assert told(desk.move(510, S2, T.REFUTED)) == ["held/active_unack"]


# Flood.


def flood(desk: Desk, count: int = 11, severity: int = 3, start: int = 0) -> list[Subject]:
    what = [subject(f"r{number}", severity) for number in range(count)]
    for number, one in enumerate(what):
        desk.begin(start + number, one)
    return what


def test_many_alerts_of_a_patient_become_one_summary() -> None:
    desk = Desk()
    what = flood(desk, 10)
    assert all(event.page for event in desk.said)
    summary, muted = desk.begin(10, subject("last", 2))
    assert told([summary, muted]) == ["raised/active_unack!", "raised/suppressed"]
    assert (summary.rule, summary.patient, summary.severity) == ("flood", "p_1", Severity.S2)
    assert summary.text == "More than 10 alerts within 10 minutes: R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, LAST"
    assert summary.limit == {"alerts": [event.alert for event in desk.said[:10]]}
    assert muted.due_ns is None
    assert desk.book.suppressed() == 1
    assert told(desk.begin(11, subject("two", 2, patient="p_2"))) == ["raised/active_unack!"], "of this patient alone"
    assert told(desk.move(12, what[0])) == ["resolved/resolved"]


def test_after_a_flood_what_still_holds_asks() -> None:
    desk = Desk()
    flood(desk, 11)
    late = [subject(f"late{number}", 2) for number in range(3)]
    for number, one in enumerate(late):
        assert told(desk.begin(300 + number, one)) == ["raised/suppressed"]
    desk.move(400, late[0])
    desk.ack(401, late[1])
    assert desk.tick(302 + 599) == []
    events = desk.tick(302 + 600)
    assert [(event.rule, *told([event])) for event in events] == [
        ("flood", "resolved/resolved"),
        ("r10", "released/active_unack!"),
        ("late1", "released/active_ack"),
        ("late2", "released/active_unack!"),
    ]
    assert events[-1].due_ns == ns(902 + HOUR)
    assert desk.book.suppressed() == 0
    assert told(desk.begin(910, subject("next", 2))) == ["raised/active_unack!"]


def test_a_flood_never_hides_a_new_s1() -> None:
    desk = Desk()
    flood(desk, 11)
    assert told(desk.begin(20, S1)) == ["raised/active_unack!"]
    assert told(desk.begin(21, subject("maybe", 1), T.DOUBTED)) == ["raised/active_unack!"]
    (event,) = desk.move(22, subject("r10"), T.WORSENS, Severity.S1)
    assert told([event]) == ["worsened/active_unack!"]
    assert desk.tick(600) != []


def test_the_summary_of_a_flood_with_an_s1_latches_and_recurs() -> None:
    desk = Desk()
    desk.begin(0, S1)
    flood(desk, 10, start=1)
    summary = desk.last(FLOOD)
    assert (summary.severity, summary.due_ns) == (Severity.S1, ns(10 + 300))
    desk.tick(HOUR)
    assert desk.last(FLOOD).state is AlertState.RTN_UNACK
    for number in range(11):
        desk.begin(HOUR + number, subject(f"again{number}", 3))
    assert told([desk.last(FLOOD)]) == ["recurred/active_unack!"]
    assert desk.last(FLOOD).alert == summary.alert


def test_closing_the_summary_ends_the_flood() -> None:
    desk = Desk()
    flood(desk, 11)
    events = desk.resolve(30, FLOOD)
    assert told(events) == ["resolved/resolved", "released/active_unack!"]
    assert desk.tick(HOUR) == []
    desk.resolve(HOUR, subject("r1"))


def test_a_flood_is_as_urgent_as_what_came_in_it() -> None:
    desk = Desk()
    desk.begin(0, S1)
    flood(desk, 11, start=HOUR)
    summary = desk.last(FLOOD)
    assert (summary.severity, len(summary.limit["alerts"])) == (Severity.S3, 10)


def test_ten_alerts_in_ten_minutes_are_no_flood() -> None:
    desk = Desk()
    for number in range(40):
        desk.begin(61 * number, subject(f"r{number}", 3))
    assert all(event.page for event in desk.said)


# Storm.


def silence(patient: str, severity: int = 3, vital: str = "spo2") -> Subject:
    return subject(f"silence:{vital}", severity, patient=patient, technical=True, cause="silence")


def hush(desk: Desk, patients: int, start: int = 0) -> list[Subject]:
    what = [silence(f"p_{number}") for number in range(patients)]
    for number, one in enumerate(what):
        desk.begin(start + number, one)
    return what


def test_many_silent_patients_are_one_alert_of_the_site_that_lists_them() -> None:
    desk = Desk()
    hush(desk, 5)
    desk.begin(6, S2)
    raised, *muted = desk.storm(10, 5, 20)
    assert told([raised]) == ["raised/active_unack!"]
    assert (raised.patient, raised.rule, raised.role) == ("", "technical:storm", "technician")
    assert raised.limit == {"patients": ["p_0", "p_1", "p_2", "p_3", "p_4"]}
    assert raised.text == "5 of 20 patients are silent at once; muted: p_0, p_1, p_2, p_3, p_4"
    assert told(muted) == ["suppressed/suppressed"] * 5
    assert desk.book.suppressed() == 5
    assert desk.storm(11, 5, 20) == []
    assert not [event for event in desk.tick(40 * MINUTE) if event.rule.startswith("silence")]


def test_patients_that_fall_silent_in_a_storm_are_listed_too() -> None:
    desk = Desk()
    hush(desk, 5)
    desk.storm(10, 5, 20)
    assert told(desk.begin(11, silence("p_8"))) == ["raised/suppressed"]
    assert told(desk.begin(11, silence("p_8", vital="pulse"))) == ["raised/suppressed"]
    assert told(desk.begin(12, silence("p_9"))) == ["raised/suppressed"]
    assert told(desk.begin(12, subject("two", 2, patient="p_8"))) == ["raised/active_unack!"], "silences only"
    (event,) = desk.storm(13, 7, 20)
    assert told([event]) == ["added/active_unack"]
    assert event.text == "7 of 20 patients are silent at once; muted: p_8, p_9"
    assert desk.storm(14, 7, 20) == []


def test_when_the_storm_is_over_those_still_silent_page() -> None:
    desk = Desk()
    what = hush(desk, 5)
    desk.storm(10, 5, 20)
    assert told(desk.move(20, what[0])) == ["resolved/resolved"]
    assert desk.storm(30, 2, 20) == []
    events = desk.storm(40, 1, 20)
    assert told(events) == ["resolved/resolved", *["released/active_unack!"] * 4]
    assert desk.book.suppressed() == 0
    assert desk.tick(2 * HOUR) == []
    assert told(desk.storm(3 * HOUR, 5, 20))[0] == "raised/active_unack!", "another one may begin"


def test_a_storm_expires_and_does_not_begin_again_before_it_is_over() -> None:
    desk = Desk()
    hush(desk, 6)
    desk.storm(10, 6, 20)
    events = desk.tick(10 + HOUR)
    # Its own S2 has waited for an hour by then, too; what ends it comes first.
    assert told(events) == ["resolved/resolved", *["released/active_unack!"] * 6]
    assert set(when(events)) == {10 + HOUR}
    assert desk.storm(2 * HOUR, 6, 20) == []
    assert desk.storm(3 * HOUR, 1, 20) == []
    assert told(desk.storm(4 * HOUR, 6, 20))[0] == "raised/active_unack!"


def test_a_storm_needs_five_patients_and_a_fifth_of_them() -> None:
    desk = Desk()
    assert desk.storm(0, 4, 8) == desk.storm(1, 5, 25) == desk.storm(2, 0, 0) == []
    (event,) = desk.storm(3, 6, 25)
    assert event.text == "6 of 25 patients are silent at once; muted: nobody yet"
    assert told(desk.storm(4, 0, 0)) == ["resolved/resolved"]


def test_closing_the_storm_alert_ends_the_storm() -> None:
    desk = Desk()
    hush(desk, 5)
    desk.storm(10, 5, 20)
    assert told(desk.resolve(20, STORM)) == ["resolved/resolved", *["released/active_unack!"] * 5]
    assert desk.storm(30, 5, 20) == []


def test_a_storm_never_hides_an_s1_nor_what_people_have_in_hand() -> None:
    desk = Desk()
    what = hush(desk, 5)
    desk.ack(6, desk.said[0].alert)
    desk.shelve(7, HOUR, desk.said[1].alert)
    desk.begin(8, silence("p_8", 1))
    _, *muted = desk.storm(10, 6, 20)
    assert [event.patient for event in muted] == ["p_2", "p_3", "p_4"]
    assert told(desk.begin(11, silence("p_9", 1))) == ["raised/active_unack!"]
    (event,) = desk.move(12, what[2], T.WORSENS, Severity.S1)
    assert told([event]) == ["worsened/active_unack!"]


def test_suppressors_survive_a_restart() -> None:
    desk = Desk()
    hush(desk, 5)
    desk.storm(10, 5, 20)
    flood(desk, 11, start=20)
    desk.reload()
    assert [event.rule for event in desk.tick(20 + 10 + 600) if event.kind == "released"] == ["r9", "r10"]
    assert [event.patient for event in desk.tick(10 + HOUR) if event.kind == "released"] == [
        f"p_{number}" for number in range(5)
    ]


def test_time_costs_nothing_while_nothing_is_due() -> None:
    book = Casebook()
    for number in range(20_000):
        what = subject("x", 3, patient=f"p_{number}", identity=(1, 1, number, 0))
        book.begin(key(what), what, T.HOLDS, ns(0), Report(text="low"))
    least_s = min(_timed(book, second) for second in range(20))
    assert least_s < 0.0005
    assert len(book.open_alerts()) == 20_000
    assert len(book.advance(ns(DAY))) == 20_000
    assert suppressors.FLOOD_RAISES == 10


def _timed(book: Casebook, second: int) -> float:
    began = time.perf_counter()
    assert book.advance(ns(second)) == []
    return time.perf_counter() - began
