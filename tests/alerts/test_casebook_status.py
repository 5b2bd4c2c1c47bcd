"""Patients who are not monitored for a while, and severe values that come too late to page."""

import pytest

from alerts.cases.lifecycle import Trigger
from tests.alerts.casebook_world import DAY, HOUR, Desk, key, ns, subject, told, when
from vitals.glossary import Severity

T = Trigger
S1, S2, S3 = subject("one", 1), subject("two", 2), subject("three", 3)
REVIEW_1, REVIEW_2 = subject("review:one"), subject("review:two")
CHECK = subject("technical:resume_check")


# Late severe values.


def test_a_late_severe_value_is_a_task_for_a_nurse() -> None:
    desk = Desk()
    (event,) = desk.review(0, S1)
    assert told([event]) == ["raised/active_unack"], "on the list of the nurse, who is not interrupted"
    assert (event.rule, event.severity, event.role) == ("review:one", Severity.S3, "nurse")
    assert (event.due_ns, event.quality) == (ns(4 * HOUR), ("late",))
    assert event.resolves == "a person closes it"
    (event,) = desk.tick(10 * DAY)
    assert told([event]) == ["escalated/active_unack!"], "nobody has looked at it in time"
    assert (event.level, event.role, event.at_ns) == (2, "supervisor", ns(4 * HOUR))


def test_further_late_values_are_added_without_a_page() -> None:
    desk = Desk()
    (first,) = desk.review(0, S1)
    (event,) = desk.review(5, S1)
    assert (told([event]), event.alert) == (["added/active_unack"], first.alert)
    assert event.values
    assert told(desk.review(6, S2)) == ["raised/active_unack"], "another rule, the same incident"
    assert told(desk.review(7, subject("one", 1, patient="p_2"))) == ["raised/active_unack"]


def test_a_review_that_is_back_or_unshelved_interrupts_nobody_either() -> None:
    desk = Desk()
    desk.review(0, S1)
    desk.shelve(5, 60, REVIEW_1)
    assert told(desk.tick(60)) == ["unshelved/active_unack"]
    desk.resolve(70, REVIEW_1)
    assert told(desk.review(80, S1)) == ["reopened/active_unack"]


def test_only_a_person_ends_a_review() -> None:
    desk = Desk()
    desk.review(0, S1)
    desk.begin(5, S1)
    desk.move(6, S1)
    assert desk.book.is_open("p_1|review:one")
    assert desk.ack(10, REVIEW_1)[0].due_ns is None
    assert told(desk.resolve(20, REVIEW_1)) == ["resolved/resolved"]


def test_a_review_asks_for_no_new_measurement() -> None:
    desk = Desk()
    desk.review(0, subject("one", 1, spot=True, recheck_s=900))
    assert desk.ack(10, REVIEW_1)[0].due_ns is None


def test_a_review_does_not_keep_a_current_alert_from_paging() -> None:
    desk = Desk()
    desk.review(0, S3)
    assert told(desk.begin(1, S3)) == ["raised/active_unack!"]


# Status.


@pytest.mark.parametrize("status", ["paused", "hospitalised", "discharged"])
def test_nothing_is_raised_while_a_patient_is_not_monitored(status: str) -> None:
    desk = Desk()
    assert desk.status(0, status) == []
    assert desk.begin(5, S2, T.DOUBTED) == desk.begin(6, S2) == desk.begin(6, S2, T.DOUBTED) == []
    assert not desk.book.monitored("p_1")
    assert desk.book.monitored("p_2")
    assert told(desk.begin(7, subject("two", 2, patient="p_2"))) == ["raised/active_unack!"]
    assert told(desk.begin(8, subject("technical:x", 2, patient=""))) == ["raised/active_unack!"]


def test_what_still_holds_is_raised_when_monitoring_goes_on() -> None:
    desk = Desk()
    desk.status(0, "paused")
    desk.begin(5, S2)
    desk.begin(4, S3)
    desk.begin(6, subject("over", 2))
    desk.move(7, subject("over", 2))
    desk.begin(8, subject("doubt", 1), T.DOUBTED)
    desk.reload()
    events = desk.status(HOUR, "active")
    assert [event.rule for event in events] == ["three", "two", "doubt:confirm"]
    assert {(event.kind, event.at_ns, event.page) for event in events} == {("raised", ns(HOUR), True)}
    assert events[0].text == "low; began while the patient was not monitored"
    assert desk.book.monitored("p_1")
    assert desk.tick(HOUR) == []


def test_an_s1_that_is_held_back_is_a_task_at_once() -> None:
    desk = Desk()
    desk.status(0, "paused")
    (event,) = desk.begin(5, S1)
    assert told([event]) == ["raised/active_unack!"]
    assert (event.rule, event.text) == ("review:one", "low: monitoring is paused")
    assert desk.move(6, S1, T.WORSENS) == [], "it is a task already"
    assert [event.rule for event in desk.status(60, "active")] == ["one"]


def test_a_held_back_s1_is_told_aloud_whatever_tasks_are_open() -> None:
    desk = Desk()
    desk.review(0, S2)
    desk.review(1, S1)
    desk.ack(2, REVIEW_1)
    desk.status(3, "paused")
    assert told(desk.begin(5, S1)) == ["worsened/active_unack!"]
    assert told(desk.begin(6, subject("four", 1))) == ["raised/active_unack!"]


def test_a_held_back_doubt_that_is_confirmed_is_a_task() -> None:
    desk = Desk()
    desk.status(0, "hospitalised")
    assert desk.begin(5, S1, T.DOUBTED) == []
    (event,) = desk.move(6, S1, T.WORSENS)
    assert (event.rule, event.text) == ("review:one", "worsens: not monitored, in hospital")
    assert desk.begin(6, S1) == []
    assert desk.move(7, S1, T.WITHDRAWN) == []
    assert desk.move(8, S2) == []
    (event,) = desk.status(60, "active")
    assert (event.rule, event.severity) == ("one", Severity.S1)


def test_a_held_back_condition_that_becomes_an_s1_is_a_task() -> None:
    desk = Desk()
    desk.status(0, "paused")
    desk.begin(5, S2)
    (event,) = desk.move(6, S2, T.WORSENS, Severity.S1)
    assert event.rule == "review:two"
    assert desk.move(7, S2, T.REFUTED) == []
    assert desk.status(60, "active") == []


def test_open_alerts_stay_and_only_an_s1_goes_on_asking() -> None:
    desk = Desk()
    desk.begin(0, S1)
    desk.begin(1, S2)
    desk.status(10, "paused")
    assert {event.rule for at in (300, HOUR, HOUR + 150, 2 * HOUR) for event in desk.tick(at)} == {"one"}
    (event,) = desk.status(3 * HOUR, "active")
    assert (event.rule, *told([event])) == ("two", "released/active_unack!")
    assert event.due_ns == ns(4 * HOUR)
    assert told(desk.tick(4 * HOUR, whole=4 * HOUR))[-1] == "escalated/active_unack!"


def test_a_pause_does_not_end_what_a_suppressor_or_a_person_mutes() -> None:
    desk = Desk()
    for number in range(11):
        desk.begin(number, subject(f"r{number}", 3))
    desk.status(20, "paused")
    assert [(event.rule, *told([event])) for event in desk.tick(10 + 600)] == [
        ("flood", "resolved/resolved"),
        ("r10", "released/active_unack"),
    ], "no longer muted by the flood, but nobody is asked in a pause"
    events = desk.status(700, "active")
    assert [event.kind for event in events] == ["released"] * 11


def test_a_paused_alert_that_becomes_an_s1_pages() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.status(10, "paused")
    (event,) = desk.move(20, S2, T.WORSENS, Severity.S1)
    assert told([event]) == ["worsened/active_unack!"]
    assert desk.status(30, "active") == []


def test_a_status_takes_effect_when_it_was_said_to() -> None:
    desk = Desk()
    desk.status(0, "paused", start=100)
    assert told(desk.begin(50, S2)) == ["raised/active_unack!"]
    desk.tick(100)
    assert desk.begin(150, S3) == []
    assert desk.status(160, "active", start=500) == []
    desk.reload()
    assert desk.tick(499) == []
    events = desk.tick(500)
    assert [event.rule for event in events] == ["two", "three"]
    assert set(when(events)) == {500}


def test_what_was_said_of_later_times_is_replaced() -> None:
    desk = Desk()
    desk.begin(0, S2)
    desk.status(0, "paused", start=300)
    desk.status(1, "active", start=100)
    assert desk.tick(400) == [], "never paused, nothing to resume"
    desk.status(401, "paused", start=500)
    desk.status(402, "active", start=600)
    desk.status(403, "paused", start=450)
    desk.tick(1000)
    assert not desk.book.monitored("p_1")
    desk.status(1001, "active")
    desk.status(1002, "paused", start=2000)
    desk.status(1003, "active")
    desk.tick(3000)
    assert desk.book.monitored("p_1")


@pytest.mark.parametrize(("status", "after"), [("paused", DAY), ("hospitalised", 7 * DAY)])
def test_somebody_is_asked_whether_a_pause_goes_on(status: str, after: int) -> None:
    desk = Desk()
    desk.status(0, status)
    assert desk.tick(after - 1) == []
    (event,) = desk.tick(after)
    assert told([event]) == ["raised/active_unack!"]
    assert (event.rule, event.severity, event.role) == ("technical:resume_check", Severity.S3, "nurse")
    words = "monitoring paused" if status == "paused" else "in hospital"
    assert event.text == f"{words} since 2023-11-14 22:13 UTC: resume or extend?"
    assert told(desk.status(after + 60, "active")) == ["resolved/resolved"]
    assert desk.tick(20 * DAY) == [event for event in desk.said[-1:] if event.kind == "archived"]


def test_a_pause_that_is_extended_asks_later_and_counts_from_its_beginning() -> None:
    desk = Desk()
    desk.status(0, "paused", check=HOUR)
    desk.tick(HOUR)
    assert told(desk.status(2 * HOUR, "paused", check=5 * HOUR)) == ["resolved/resolved"]
    (event,) = desk.tick(5 * HOUR)
    assert "since 2023-11-14 22:13 UTC" in event.text


def test_nobody_is_asked_at_the_time_that_monitoring_goes_on_anyway() -> None:
    desk = Desk()
    desk.status(0, "paused", check=HOUR)
    desk.status(0, "active", start=HOUR)
    assert desk.tick(HOUR) == []


def test_closing_the_question_does_not_stop_the_asking() -> None:
    desk = Desk()
    desk.status(0, "paused", check=HOUR)
    desk.tick(HOUR)
    desk.resolve(HOUR + 5, CHECK)
    (event,) = desk.tick(HOUR + DAY)
    assert (event.rule, event.kind) == ("technical:resume_check", "raised")
    assert [event.kind for event in desk.tick(HOUR + 2 * DAY)] == ["escalated"], "one question at a time"


def test_nobody_is_asked_about_the_discharged() -> None:
    desk = Desk()
    desk.status(0, "discharged", check=HOUR)
    assert desk.tick(30 * DAY) == []
    assert not desk.book.is_open(key(CHECK))
    assert desk.begin(30 * DAY, S1)[0].text == "low: not monitored, discharged"
