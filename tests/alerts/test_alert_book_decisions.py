"""What the alert book keeps of decisions and of incidents, on a real SQLite file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.book.sql import SqlAlertBook
from alerts.rules.protocol import document, shipped
from tests.alerts.alert_world import at, control
from tests.alerts.test_alert_book import event, record
from vitals.errors import NotFound
from vitals.glossary import AlertState, ControlKind
from vitals.model import Control
from vitals.ports import AlertDecisions, AlertReader

COPD = document(next(one for one in shipped() if one.name == "copd"))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[SqlAlertBook]:
    opened = SqlAlertBook(f"sqlite:///{tmp_path / 'book.db'}")
    yield opened
    opened.close()


def programme(version: int = 1, **changes: Any) -> Control:
    body: dict[str, Any] = {
        "programme": "copd", "version": version, "title": "COPD at home", "reason": f"reason {version}",
        "protocols": [COPD], "valid_from_ns": None, "review_ns": None,
    }  # fmt: skip
    return control(ControlKind.PROGRAMME, version, "dr_a", **(body | changes))


def enrolment(version: int = 1, **changes: Any) -> Control:
    body: dict[str, Any] = {
        "patient": "p_1", "version": version, "reason": "home", "programmes": ["copd"], "overrides": [],
    }  # fmt: skip
    return control(ControlKind.ENROLMENT, version, **(body | changes))


def context(version: int = 1, **changes: Any) -> Control:
    body: dict[str, Any] = {
        "patient": "p_1", "version": version, "reason": "asked", "age_band": "adult", "pregnancy": "no",
        "oxygen": "no", "spo2_scale": 1, "known_af": "no", "usual_confusion": False,
    }  # fmt: skip
    return control(ControlKind.CONTEXT, version, **(body | changes))


def status(seconds: float, **changes: Any) -> Control:
    body: dict[str, Any] = {"patient": "p_1", "status": "paused", "from_ns": at(seconds), "check_ns": None}
    return control(ControlKind.STATUS, seconds, **(body | changes))


def decide(book: SqlAlertBook, *controls: Control) -> None:
    """Each control is an entry of its own."""
    start = book.position()
    placed = [(start + number, one) for number, one in enumerate(controls, 1)]
    book.apply([], placed, expected=start, position=start + len(controls))


def test_nothing_was_decided(book: SqlAlertBook) -> None:
    port: AlertDecisions = book
    reader: AlertReader = book
    assert (port.programmes(), port.enrolment("p_1"), port.context("p_1"), port.statuses("p_1")) == ([], None, None, [])
    assert (port.enrolment_history("p_1"), port.context_history("p_1"), reader.incident("i_1")) == ([], [], [])
    with pytest.raises(NotFound):
        port.programme_history("copd")


def test_programmes_are_kept_with_their_history(book: SqlAlertBook) -> None:
    decide(book, programme(1), programme(2), programme(1, programme="asthma"))
    assert [(one.subject, one.version) for one in book.programmes()] == [("asthma", 1), ("copd", 2)]
    newest, oldest = book.programme_history("copd")
    assert (newest.version, newest.position, newest.set_ns, newest.author, newest.reason) == (
        2, 2, at(2), "dr_a", "reason 2",
    )  # fmt: skip
    assert oldest.body == programme(1).body


def test_a_patients_enrolment_and_context_are_kept_with_their_history(book: SqlAlertBook) -> None:
    decide(book, programme(), context(1), enrolment(1), context(2, oxygen="yes"), enrolment(2, programmes=[]))
    held, was = book.enrolment("p_1"), book.context("p_1")
    assert held is not None
    assert was is not None
    assert (held.version, held.body["programmes"], held.author) == (2, [], "nurse_b")
    assert (was.version, was.body["oxygen"]) == (2, "yes")
    assert [one.body["programmes"] for one in book.enrolment_history("p_1")] == [[], ["copd"]]
    assert [one.body["oxygen"] for one in book.context_history("p_1")] == ["yes", "no"]
    assert book.enrolment("p_2") is None


@pytest.mark.parametrize(
    ("good", "ignored"),
    [
        (programme(3), programme(3, title="the same version again")),
        (programme(3), programme(2)),
        (programme(3), programme(4, protocols="copd")),
        (programme(3), programme(4, programme="")),
        (context(3), context(3, oxygen="yes")),
        (context(3), context(4, oxygen="maybe")),
        (context(3), context(4, spo2_scale=3)),
    ],
)
def test_what_is_malformed_or_not_new_is_ignored(book: SqlAlertBook, good: Control, ignored: Control) -> None:
    decide(book, good, ignored)
    kept = book.programme_history("copd") if good.kind is ControlKind.PROGRAMME else book.context_history("p_1")
    assert [(one.version, one.body) for one in kept] == [(3, good.body)]
    assert book.position() == 2


def test_an_enrolment_that_is_malformed_or_not_new_is_ignored(book: SqlAlertBook) -> None:
    decide(book, programme(), context(), enrolment(3), enrolment(3, reason="again"), enrolment(4, programmes="copd"))
    assert [(one.version, one.reason) for one in book.enrolment_history("p_1")] == [(3, "home")]


def test_statuses_are_kept_as_they_came(book: SqlAlertBook) -> None:
    decide(book, status(0), status(5, status="asleep"), status(9, status="active", check_ns=at(50)))
    assert [(one.status, one.from_ns, one.check_ns, one.position) for one in book.statuses("p_1")] == [
        ("active", at(9), at(50), 3), ("paused", at(0), None, 1),
    ]  # fmt: skip
    assert book.statuses("p_2") == []


def test_who_is_due_is_what_the_last_event_of_the_ladder_says(book: SqlAlertBook) -> None:
    ladder: dict[str, Any] = {"role": "nurse", "due_ns": at(300), "incident": "i_1", "resolves": "back at 92 %"}
    record(book, event("a_1", **ladder))
    record(book, event("a_1", 1, "escalated", role="backup", level=1, due_ns=at(450)))
    record(book, event("a_1", 2, "noted"))
    alert = book.alert("a_1")
    assert (alert.role, alert.level, alert.due_ns, alert.incident) == ("backup", 1, at(450), "i_1")
    assert alert.resolves == "back at 92 %"
    record(book, event("a_1", 3, "acknowledged", state=AlertState.ACTIVE_ACK, role="backup", level=1))
    assert book.alert("a_1").due_ns is None
    record(book, event("a_1", 4, "still_abnormal", role="nurse", due_ns=at(900), page=False))
    assert (book.alert("a_1").due_ns, book.alert("a_1").page) == (at(900), False)
    record(book, event("a_1", 5, "resolved", state=AlertState.RESOLVED))
    assert (book.alert("a_1").due_ns, book.alert("a_1").role) == (None, "nurse")


def test_quality_is_that_of_the_readings_and_what_the_alert_is_now(book: SqlAlertBook) -> None:
    record(book, event("a_1", quality=("suspect",), values=({"value": 84.0},)))
    record(book, event("a_1", 1, "stale", quality=("stale",)))
    assert book.alert("a_1").quality == ("suspect", "stale")
    record(book, event("a_1", 2, "stale_over"))
    assert book.alert("a_1").quality == ("suspect",)
    record(book, event("a_1", 3, "recurred", quality=("chattering",), values=({"value": 85.0},)))
    assert book.alert("a_1").quality == ("chattering",)


def test_an_incident_has_its_alerts_in_the_order_of_their_raise(book: SqlAlertBook) -> None:
    record(book, event("a_2", incident="i_1", page=False), event("a_1", at_ns=at(5), incident="i_1"), event("a_3"))
    record(book, event("a_2", 1, "noted", incident="i_1"), event("a_4", at_ns=at(9), incident="i_2"))
    assert [(one.id, one.page) for one in book.incident("i_1")] == [("a_2", False), ("a_1", True)]
    assert [one.id for one in book.incident("i_2")] == ["a_4"]
    assert book.alert("a_3").incident == ""


def test_a_book_from_before_incidents_goes_on(book: SqlAlertBook, tmp_path: Path) -> None:
    record(book, event("a_1"))
    with book._transaction() as tx:
        for table in ("alert_incidents", "programme_versions", "patient_enrolments", "patient_contexts"):
            tx.exec_driver_sql(f"DROP TABLE {table}")
    again = SqlAlertBook(f"sqlite:///{tmp_path / 'book.db'}")
    record(again, event("a_1", 1, "noted", incident="i_1"), event("a_2", incident="i_1"))
    assert [one.id for one in again.incident("i_1")] == ["a_2"]
    again.close()
