"""The alert book on a real SQLite file."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts.book.sql import SqlAlertBook
from tests.alerts.alert_world import SECOND, at, control, limit, limits_control
from tests.support import eventually
from vitals.errors import BackendError, NotFound, PositionConflict
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.ports import AlertDecisions, AlertReader, AlertRecorder
from vitals.records import AlertEvent, BookedEvent


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'book.db'}"


@pytest.fixture
def book(url: str) -> Iterator[SqlAlertBook]:
    opened = SqlAlertBook(url)
    yield opened
    opened.close()


def event(alert: str, number: int = 0, kind: str = "raised", **changes: Any) -> AlertEvent:
    fields: dict[str, Any] = {
        "id": f"e_{alert}_{number}", "alert": alert, "number": number, "kind": kind, "at_ns": at(number),
        "patient": "p_1", "rule": "limit:spo2:low:S1", "rule_version": 1, "severity": Severity.S1,
        "state": AlertState.ACTIVE_UNACK, "text": kind,
    }  # fmt: skip
    return AlertEvent(**(fields | changes))


def record(book: SqlAlertBook, *events: AlertEvent) -> int:
    """Each call is one entry of the log."""
    expected = book.position()
    booked = [BookedEvent(expected + 1, item) for item in events]
    book.apply(booked, [], expected=expected, position=expected + 1)
    return expected + 1


def test_it_is_the_port(book: SqlAlertBook) -> None:
    reader: AlertReader = book
    decisions: AlertDecisions = book
    recorder: AlertRecorder = book
    assert (reader.position(), reader.evaluated_to_ns(), reader.alerts()) == (0, 0, [])
    assert (decisions.limits("p_1"), recorder.position(), recorder.latest_snapshot()) == ((0, []), 0, None)


def test_events_add_up_to_the_alert(book: SqlAlertBook) -> None:
    value = {"vital": "spo2", "value": 65.0, "unit": "%", "time_ns": at(0), "flags": ["suspect"]}
    told: dict[str, Any] = {"values": (value,), "limit": {"value": 90.0}, "quality": ("suspect",)}
    record(book, event("a_1", rule="limit:spo2:low:S1:confirm", severity=Severity.S2, text="look", **told))
    record(book, event("a_1", 1, "acknowledged", state=AlertState.ACTIVE_ACK, author="nurse_b", severity=Severity.S2))
    position = record(book, event("a_1", 2, "worsened", text="look now", **told))
    record(book, event("a_2", at_ns=at(50)))
    alert = book.alert("a_1")
    assert (alert.rule, alert.severity, alert.state) == ("limit:spo2:low:S1", Severity.S1, AlertState.ACTIVE_UNACK)
    assert (alert.raised_ns, alert.updated_ns, alert.position) == (at(0), at(2), position)
    assert (alert.text, alert.owner, alert.values, alert.quality) == ("look now", "nurse_b", (value,), ("suspect",))
    record(book, event("a_1", 3, "resolved", state=AlertState.RESOLVED, text="over", values=({"value": 97.0},)))
    after = book.alert("a_1")
    assert (after.state, after.text, after.values) == (AlertState.RESOLVED, "look now", (value,))
    assert [item.kind for item in book.events("a_1")] == ["raised", "acknowledged", "worsened", "resolved"]
    assert book.alert_after("a_1", 2) == alert
    assert book.alert_after("a_1", 3) == after
    assert (book.alert_after("a_1", 0).owner, book.alert_after("a_1", 1).owner) == ("", "nurse_b")


def test_what_does_not_exist_is_not_found(book: SqlAlertBook) -> None:
    for ask in (book.alert, book.events, lambda ident: book.alert_after(ident, 9)):
        with pytest.raises(NotFound):
            ask("a_nobody")


def test_the_position_moves_by_compare_and_set_with_the_events(book: SqlAlertBook) -> None:
    record(book, event("a_1"))
    with pytest.raises(PositionConflict) as caught:
        book.apply([BookedEvent(2, event("a_2"))], [], expected=0, position=2)
    assert (caught.value.expected, caught.value.found, caught.value.retryable) == (0, 1, False)
    assert [alert.id for alert in book.alerts()] == ["a_1"]
    assert book.position() == 1


def test_a_failed_transaction_changes_nothing(book: SqlAlertBook) -> None:
    broken = event("a_1", 0, id="e_other")
    with pytest.raises(BackendError) as caught:
        book.apply([BookedEvent(1, event("a_1")), BookedEvent(1, broken)], [], expected=0, position=1)
    assert not caught.value.retryable
    assert (book.position(), book.alerts()) == (0, [])


def test_an_event_is_recorded_once(book: SqlAlertBook) -> None:
    record(book, event("a_1"))
    record(book, event("a_1"), event("a_1", 1, "noted"))
    record(book, event("a_1", 1, "noted"))
    assert [item.number for item in book.events("a_1")] == [0, 1]


def test_events_between_positions_come_in_order(book: SqlAlertBook) -> None:
    record(book, event("a_2"), event("a_1"), event("a_2", 1, "noted"))
    record(book)
    record(book, event("a_1", 1, "noted"))
    got = [(booked.position, booked.event.id) for booked in book.events_between(0, 3)]
    assert got == [(1, "e_a_2_0"), (1, "e_a_1_0"), (1, "e_a_2_1"), (3, "e_a_1_1")]
    assert [booked.position for booked in book.events_between(1, 2)] == []


def test_events_come_back_byte_for_byte(book: SqlAlertBook) -> None:
    original = event("a_1", values=({"value": None, "flags": ["below_range"]},), note="ü", quality=("suspect",))
    record(book, original)
    assert msgspec.json.encode(book.events("a_1")[0]) == msgspec.json.encode(original)


def test_pages_are_newest_first_and_stable_while_new_alerts_come(book: SqlAlertBook) -> None:
    record(book, *(event(f"a_{n}", at_ns=at(n // 2)) for n in range(7)))
    page = book.alerts(limit=3)
    assert [alert.id for alert in page] == ["a_6", "a_5", "a_4"]
    record(book, event("a_9", at_ns=at(99)))
    rest = book.alerts(after=page[-1].id, limit=10)
    assert [alert.id for alert in rest] == ["a_3", "a_2", "a_1", "a_0"]
    with pytest.raises(NotFound):
        book.alerts(after="a_nobody")


def test_lists_are_filtered(book: SqlAlertBook) -> None:
    record(
        book,
        event("a_1", severity=Severity.S2),
        event("a_2", patient="p_2"),
        event("a_3", state=AlertState.RESOLVED),
    )
    assert [a.id for a in book.alerts(severity=Severity.S2)] == ["a_1"]
    assert [a.id for a in book.alerts(patient="p_2")] == ["a_2"]
    assert [a.id for a in book.alerts(states=[AlertState.RESOLVED])] == ["a_3"]
    assert {a.id for a in book.alerts(states={AlertState.RESOLVED, AlertState.ACTIVE_UNACK})} == {"a_1", "a_2", "a_3"}
    assert book.counts() == {
        (Severity.S2, AlertState.ACTIVE_UNACK): 1, (Severity.S1, AlertState.ACTIVE_UNACK): 1,
    }  # fmt: skip


def test_many_events_of_many_alerts_in_one_transaction(book: SqlAlertBook) -> None:
    record(book, *(event(f"a_{n:04}") for n in range(1200)))
    record(book, *(event(f"a_{n:04}", 1, "noted") for n in range(1200)))
    assert len(book.events_between(0, 2)) == 2400
    assert len(book.alerts(limit=5000)) == 1200


def test_limits_are_kept_with_their_history(book: SqlAlertBook) -> None:
    first, second = limits_control(1, limit()), limits_control(2, limit(low=88.0, severity="S1"))
    malformed = control(ControlKind.LIMITS, 0, patient="p_1", version=7, reason="", limits=[{}])
    acknowledged = control(ControlKind.ACKNOWLEDGE, 0, alert="a_1")
    decisions = [(1, first), (2, malformed), (3, acknowledged), (4, second), (5, first)]
    book.apply([], decisions, expected=0, position=5)
    version, limits = book.limits("p_1")
    assert (version, limits) == (2, [limit(low=88.0, severity="S1")])
    history = book.limits_history("p_1")
    assert [(item.version, item.position, item.author, item.reason) for item in history] == [
        (2, 4, "dr_a", "test"), (1, 1, "dr_a", "test"),
    ]  # fmt: skip
    assert history[1].limits == [limit()]


def test_evaluated_to_is_the_last_watermark(book: SqlAlertBook) -> None:
    book.apply([], [], expected=0, position=1, evaluated_to_ns=5 * SECOND)
    book.apply([], [], expected=1, position=2)
    assert book.evaluated_to_ns() == 5 * SECOND


def test_only_the_newest_two_snapshots_are_kept(book: SqlAlertBook, tmp_path: Path) -> None:
    assert book.latest_snapshot() is None
    for position in (3, 5, 9, 9):
        book.save_snapshot(position, b"state %d" % position)
    assert book.latest_snapshot() == (9, b"state 9")
    with book._reading() as tx:
        kept = tx.exec_driver_sql("SELECT position FROM alert_snapshots ORDER BY 1").scalars().all()
    assert kept == [5, 9]


def test_it_is_durable_and_reopens(book: SqlAlertBook, url: str) -> None:
    record(book, event("a_1"))
    with book._reading() as tx:
        pragmas = [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
        assert tx.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    again = SqlAlertBook(url)
    assert (again.position(), again.alert("a_1").id) == (1, "a_1")
    again.close()


def test_wait_wakes_when_the_position_is_reached(book: SqlAlertBook) -> None:
    assert book.wait(0, 0.0)
    assert not book.wait(1, 0.01)
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(book.wait(2, 10.0)))
    waiter.start()
    record(book)
    record(book)
    waiter.join(10.0)
    assert got == [True]


def test_wait_sees_another_process_move(book: SqlAlertBook, url: str) -> None:
    other = SqlAlertBook(url)
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(book.wait(1, 10.0)))
    waiter.start()
    record(other, event("a_1"))
    eventually(lambda: got == [True], what="the wait")
    waiter.join()
    other.close()


def test_of_two_owners_one_wins_each_position(book: SqlAlertBook, url: str) -> None:
    other = SqlAlertBook(url)
    conflicts: list[str] = []

    def own(mine: SqlAlertBook, name: str) -> None:
        for position in range(40):
            try:
                booked = [BookedEvent(position + 1, event(f"a_{name}_{position}"))]
                mine.apply(booked, [], expected=position, position=position + 1)
            except PositionConflict:
                conflicts.append(name)
                mine.wait(position + 1, 5.0)

    threads = [threading.Thread(target=own, args=(mine, name)) for mine, name in ((book, "x"), (other, "y"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(conflicts) == 40
    assert [booked.position for booked in book.events_between(0, 99)] == list(range(1, 41))


def test_a_database_that_cannot_be_opened_now_is_retryable(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        SqlAlertBook(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")
    assert caught.value.retryable
