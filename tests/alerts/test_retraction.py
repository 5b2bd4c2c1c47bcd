"""Readings that are taken back: they hold up no alert, and an alert that they raised says so."""

from typing import Any

import numpy as np
import pytest

from alerts.engine import Engine
from tests.alerts.alert_world import Ward, batch, control, kinds, limit, limits_control, reading
from vitals.glossary import AlertState, ControlKind, Flag
from vitals.model import Control, VitalBatch

GONE = int(Flag.REVISION | Flag.RETRACTED)


def gone(seconds: float, value: float, *, at: float = 500, **changes: Any) -> dict[str, Any]:
    """The row that takes a reading back, received at second ``at``."""
    received_ns = reading(at, value)["received_ns"]
    return reading(seconds, value, flags=GONE, **{"received_ns": received_ns} | changes)


def told(ward: Ward) -> list[tuple[str, str]]:
    return [(event.kind, event.state) for event in ward.said]


def test_a_medium_alert_ends_with_its_only_reading() -> None:
    ward = Ward(limit())
    ward.read(0, 85.0)
    events = ward.entry(batch(gone(0, 85.0)))
    assert [(event.kind, event.state) for event in events] == [
        ("retracted", AlertState.ACTIVE_UNACK), ("resolved", AlertState.RESOLVED),
    ]  # fmt: skip
    assert events[0].text.endswith("retracted")
    assert {event.at_ns for event in events} == {reading(500, 0)["received_ns"]}
    assert ward.engine.open_alerts() == []
    assert kinds(ward.read(600, 85.0)) == ["reopened"], "the next one within ten minutes is the same alert"


def test_a_high_alert_stays_until_a_person_acts() -> None:
    ward = Ward(limit(severity="S1"))
    ward.read(0, 85.0)
    ward.entry(batch(gone(0, 85.0)))
    assert told(ward)[1:] == [("retracted", AlertState.ACTIVE_UNACK), ("returned", AlertState.RTN_UNACK)]
    ward.do(ControlKind.ACKNOWLEDGE, 600)
    assert ward.engine.open_alerts() == []


def test_an_alert_that_other_readings_hold_up_goes_on() -> None:
    ward = Ward(limit())
    ward.read(0, 85.0)
    ward.read(60, 84.0)
    assert [(event.kind, event.state) for event in ward.entry(batch(gone(0, 85.0)))] == [
        ("retracted", AlertState.ACTIVE_UNACK)
    ]
    assert kinds(ward.read(120, 96.0)) == ["resolved"]


def test_an_alert_that_waits_for_a_person_is_told_too() -> None:
    ward = Ward(limit(severity="S1"))
    ward.read(0, 85.0)
    ward.read(60, 96.0)
    assert kinds(ward.entry(batch(gone(0, 85.0)))) == ["retracted"]
    assert [alert.state for alert in ward.engine.open_alerts()] == [AlertState.RTN_UNACK]


def test_a_question_for_a_second_reading_is_dropped() -> None:
    ward = Ward(limit(severity="S1"))
    ward.suspect(0, 60.0)
    assert kinds(ward.entry(batch(gone(0, 60.0)))) == ["retracted", "resolved"]
    assert ward.tick(2000) == [], "nothing is confirmed by silence any more"


def test_a_delay_that_only_the_withdrawn_reading_held_up_never_ends() -> None:
    ward = Ward(limit(on_delay_s=120.0))
    ward.read(0, 85.0)
    assert ward.entry(batch(gone(0, 85.0))) == []
    assert ward.tick(200) == []


def test_a_delay_goes_on_from_the_reading_that_is_left() -> None:
    ward = Ward(limit(on_delay_s=120.0))
    ward.read(0, 85.0)
    ward.read(60, 84.0)
    ward.entry(batch(gone(0, 85.0)))
    assert ward.tick(130) == []
    (event,) = ward.tick(181)
    assert [value["value"] for value in event.values] == [84.0], "what was withdrawn is no evidence"


@pytest.mark.parametrize(
    "other",
    [{"patient": "p_2"}, {"vital": "pulse_rate"}, {"seq": 9, "time_ns": 5}, {"source_time_ns": 3, "time_ns": 3}],
)
def test_another_reading_changes_nothing(other: dict[str, Any]) -> None:
    ward = Ward(limit())
    ward.read(0, 85.0)
    assert ward.entry(batch(gone(0, 85.0, **other))) == []
    assert len(ward.engine.open_alerts()) == 1


def test_the_reading_that_moved_pages_nobody_at_its_new_owner() -> None:
    ward = Ward(limit())
    ward.read(0, 85.0)
    ward.entry(limits_control(1, limit(severity="S1"), patient="p_2"))
    moved = reading(0, 85.0, patient="p_2", flags=int(Flag.REVISION | Flag.LATE))
    retracted, resolved, review = ward.entry(batch(gone(0, 85.0), moved))
    assert kinds([retracted, resolved, review]) == ["retracted", "resolved", "raised"]
    assert (review.patient, review.rule, review.page) == ("p_2", "review:limit:spo2:low:S1", False)


@pytest.mark.parametrize("kind", [ControlKind.REASSIGN, ControlKind.ASSIGN, ControlKind.DISCARD])
def test_records_of_ingest_change_nothing(kind: ControlKind) -> None:
    ward = Ward(limit())
    assert ward.entry(control(kind, 5, device="d")) == []
    assert ward.entry(Control(kind, 5, "a", {})) == []


def _cut(whole: VitalBatch, size: int) -> list[bytes]:
    engine = Engine()
    engine.apply(1, limits_control(1, limit(on_delay_s=30.0), limit(severity="S1", low=80.0)))
    said = []
    for number, start in enumerate(range(0, len(whole), size)):
        if number == 2:
            engine = Engine.restore(engine.snapshot())
        part = whole.take(np.arange(start, min(start + size, len(whole))))
        said += engine.apply(number + 2, part).events
    return [repr(event).encode() for event in said]


def test_batching_changes_nothing() -> None:
    random = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for second in range(0, 3000, 10):
        rows.append(
            reading(second, float(random.integers(75, 97)), flags=int(Flag.SUSPECT) * int(random.random() < 0.2))
        )
        if random.random() < 0.3:
            past = rows[-int(random.integers(1, min(4, len(rows)) + 1))]
            rows.append(past | {"flags": GONE, "received_ns": rows[-1]["received_ns"]})
    whole = batch(*rows)
    one = _cut(whole, 1)
    assert sum(b"retracted" in event for event in one) > 10
    for size in (2, 3, 7, len(rows)):
        assert _cut(whole, size) == one
