"""A clock that is wrong silences nothing: from a device's bytes through ingest to the engine (DESIGN section 5)."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.alert_world import limit
from tests.alerts.bedside import CONFIRM_S, Bedside, limits, urgent
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND
from vitals.glossary import Basis, ControlKind, EventKind, Flag, Severity
from vitals.model import Control, DeviceEvent
from vitals.records import AlertEvent


def spo2(bed: Bedside, value: float, ahead_s: float = 0.0) -> list[AlertEvent]:
    """A reading whose device shows a time ``ahead_s`` seconds ahead."""
    return bed.send(json.dumps(reading("spo2", value, "%", bed.world.clock.now_ns() + int(ahead_s * SECOND))).encode())


def clock_events(bed: Bedside) -> list[DeviceEvent]:
    found: list[DeviceEvent] = []
    for entry in bed.world.entries():
        events: Sequence[Any] = entry if isinstance(entry, list) else []
        found += [one for one in events if isinstance(one, DeviceEvent) and one.kind is EventKind.CLOCK_FAULT]
    return found


def faults(bed: Bedside) -> list[str]:
    return [one.detail for one in clock_events(bed)]


def reviews(events: Sequence[AlertEvent]) -> list[AlertEvent]:
    return [one for one in events if one.rule.startswith("review:") and one.kind == "raised"]


@pytest.mark.parametrize("ahead_s", [3.0, 240.0, 299.0])
def test_a_reading_a_little_ahead_silences_nothing(bed: Bedside, ahead_s: float) -> None:
    assert not spo2(bed, 97, ahead_s)
    bed.wait(1)
    assert urgent(spo2(bed, 70)), "the true time of this one is earlier than the time that the one before stated"
    ahead, now = bed.world.rows()
    assert ahead["time_ns"] == ahead["received_ns"]
    assert ahead["flags"] == Flag.CLOCK_CORRECTED
    assert now["flags"] == Flag(0)
    assert not faults(bed), "within the tolerance"


@pytest.mark.parametrize("ahead_s", [301.0, 360.0, 3600.0, 86_400.0, 365 * 135 * 86_400.0])
def test_an_extreme_of_a_clock_far_ahead_pages_at_once_and_every_day(bed: Bedside, ahead_s: float) -> None:
    [page] = urgent(spo2(bed, 70, ahead_s))
    assert "clock_wrong" in page.quality
    assert faults(bed) == ["clock_ahead"]
    row = bed.world.rows()[-1]
    assert (row["basis"], row["time_ns"]) == (Basis.RECEIVED, row["received_ns"])
    bed.wait(10)
    assert "returned" in [one.kind for one in spo2(bed, 97)], "a right clock is believed after it"
    bed.wait(600)
    assert urgent(spo2(bed, 71, ahead_s)), "the next time as well"


@pytest.mark.parametrize("ahead_s", [10.0, 180.0, 360.0, 86_400.0, 365 * 135 * 86_400.0])
@pytest.mark.parametrize("age_s", [5.0, 20.0, 240.0])
def test_a_right_clock_pages_although_its_value_was_on_the_way_meanwhile(
    bed: Bedside, ahead_s: float, age_s: float
) -> None:
    spo2(bed, 97, ahead_s)
    bed.wait(2)
    assert urgent(spo2(bed, 70, -age_s)), "where the reading before it stands says nothing of when it was measured"


def test_what_may_be_older_than_a_severe_value_of_a_wrong_clock_clears_nothing(bed: Bedside) -> None:
    assert urgent(spo2(bed, 70, 3600.0))
    bed.wait(2)
    assert not spo2(bed, 97, -20.0)
    bed.wait(10)
    assert "returned" in [one.kind for one in spo2(bed, 97)]


@pytest.mark.parametrize("ahead_s", [600.0, 3600.0, 86_400.0, 365 * 135 * 86_400.0])
def test_a_good_value_of_a_wrong_clock_ends_nothing_that_a_right_clock_began(bed: Bedside, ahead_s: float) -> None:
    assert urgent(spo2(bed, 70))
    for _ in range(5):
        bed.wait(30)
        assert "returned" not in [one.kind for one in spo2(bed, 97, ahead_s)]
    bed.wait(30)
    assert "returned" in [one.kind for one in spo2(bed, 97)], "a right clock ends it"


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Bedside]:
    """S1 from a value on that is not beyond the red limits."""
    world = World(tmp_path)
    try:
        yield Bedside(world, limits("strict", low=95.0))
    finally:
        world.close()


def test_another_urgent_value_is_confirmed_first(strict: Bedside) -> None:
    asked = spo2(strict, 93, 600.0)
    assert [one.severity for one in asked if one.kind == "raised"] == [Severity.S2], "somebody is asked at once"
    strict.wait(30)
    assert urgent(spo2(strict, 93.5, 600.0)), "a repeat pages"


def test_and_pages_when_nothing_refutes_it(strict: Bedside) -> None:
    assert not urgent(spo2(strict, 93, 600.0))
    assert urgent(strict.wait(CONFIRM_S + 30))


def test_a_right_clock_refutes_it(strict: Bedside) -> None:
    spo2(strict, 93, 600.0)
    strict.wait(30)
    spo2(strict, 97)
    assert not urgent(strict.wait(CONFIRM_S + 30))


@pytest.mark.parametrize("year", [1970, 2000, 2009])
def test_a_clock_that_was_never_set_pages_too(bed: Bedside, year: int) -> None:
    then = datetime(year, 1, 1, 0, 5, tzinfo=UTC)
    payload = reading("spo2", 70, "%", int(then.timestamp()) * SECOND)
    assert urgent(bed.send(json.dumps(payload).encode()))
    assert faults(bed) == ["clock_unset"]


def test_one_wild_time_moves_no_other_reading_of_its_message(bed: Bedside) -> None:
    now_ns = bed.world.clock.now_ns()
    wild = reading("weight", 80, "kg", now_ns + 365 * 135 * 86_400 * SECOND)
    assert urgent(bed.send(json.dumps([wild, reading("spo2", 70, "%", now_ns - 30 * SECOND)]).encode()))
    assert [row["time_ns"] for row in bed.world.rows() if row["value"] == 70.0] == [now_ns - 30 * SECOND]
    assert faults(bed) == ["clock_ahead"]


def test_a_memory_read_from_a_fast_clock_is_one_value_of_now_and_a_review(bed: Bedside) -> None:
    now_ns = bed.world.clock.now_ns() + 3600 * SECOND
    values = [(97.0, 0), (70.0, 60), (69.0, 120), (68.0, 180)]
    events = bed.send(
        json.dumps([reading("spo2", value, "%", now_ns - back * SECOND) for value, back in values]).encode()
    )
    assert not urgent(events), "97 is the value of now"
    assert len(reviews(events)) == 1
    times = {row["value"]: (row["received_ns"] - row["time_ns"]) / SECOND for row in bed.world.rows()}
    assert times == {97.0: 0, 70.0: 60, 69.0: 120, 68.0: 180}, "the spacing stays"


def test_fast_messages_that_come_together_are_each_a_value_of_now(bed: Bedside) -> None:
    for value in (70.0, 97.0):
        at_ns = bed.world.clock.now_ns() + 360 * SECOND
        bed.world.send(bed.world.message("json-1", json.dumps(reading("spo2", value, "%", at_ns)).encode(), "json", ""))
        bed.world.clock.advance(1)
    assert urgent(bed._fold()), "a backlog hides none of them"
    assert faults(bed) == ["clock_ahead", "clock_ahead"]


def test_a_fast_memory_in_messages_of_its_own_is_one_value_of_now(bed: Bedside) -> None:
    """Records from a clock that is a day fast, each in a message: the newest counts, the others are history."""
    for back_s, value in ((7200, 70.0), (3600, 69.0), (0, 97.0)):
        at_ns = bed.world.clock.now_ns() + 86_400 * SECOND - back_s * SECOND
        bed.world.send(bed.world.message("json-1", json.dumps(reading("spo2", value, "%", at_ns)).encode(), "json", ""))
    events = bed._fold()
    assert not urgent(events)
    assert len(reviews(events)) == 1
    assert [row["basis"] for row in bed.world.rows()] == [Basis.UNKNOWN, Basis.UNKNOWN, Basis.RECEIVED]


def test_a_severe_value_that_another_overtook_pages(bed: Bedside) -> None:
    spo2(bed, 97)
    bed.wait(1)
    assert urgent(spo2(bed, 70, -3.0)), "a clock that was set back a little looks the same"
    bed.wait(1)
    assert not spo2(bed, 70, -5.0), "it is told already"


def test_a_clock_that_was_set_right_is_believed_at_once(bed: Bedside) -> None:
    for _ in range(2):
        spo2(bed, 97, 360.0)
        bed.wait(10)
    assert urgent(spo2(bed, 70)), "the right time of this one lies after the arrivals before"


def test_a_fault_is_one_episode(bed: Bedside) -> None:
    """Told once, however many messages are wrong; over when a message with a right clock comes."""
    for value in (97, 96, 97):
        spo2(bed, value, 360.0)
        bed.wait(10)
    [fault] = bed.world.service.device_state("json-1").faults
    assert (fault.kind, fault.detail, fault.count) == (EventKind.CLOCK_FAULT, "clock_ahead", 3)
    told = [one.event.kind for one in bed.world.service.device_events("json-1")]
    assert told.count(EventKind.FAULT) == 1
    spo2(bed, 97)
    assert not bed.world.service.device_state("json-1").faults
    spo2(bed, 97, 360.0)
    assert [one.event.kind for one in bed.world.service.device_events("json-1")].count(EventKind.FAULT) == 2


def test_a_step_back_of_the_servers_own_clock_silences_nobody(bed: Bedside) -> None:
    spo2(bed, 97)
    bed.world.clock.advance(-3600)
    assert urgent(spo2(bed, 70))


def test_an_hour_of_delay_stays_an_hour(bed: Bedside) -> None:
    for value in (97, 96, 98, 97):
        spo2(bed, value, -3600.0)
        bed.wait(60)
    assert {(row["received_ns"] - row["time_ns"]) / SECOND for row in bed.world.rows()} == {3600.0}
    assert not faults(bed)


def test_a_cuff_with_a_fast_clock(tmp_path: Path) -> None:
    """The case cuff-clock-ahead: 220/130 from a home cuff six minutes, or an hour, fast."""
    for name, payload, ahead_s in (
        ("fast", "16dc008200a000ea070b0208100649000000", 956),
        ("dst", "16dc008200a000ea070b0209000049000000", 3590),
    ):
        folder = tmp_path / name
        folder.mkdir()
        world = World(folder)
        bed = Bedside(world, limits("limits"))
        world.device("cuff", "ble_blood_pressure")
        world.registry.update_patient(bed.patient, zone="America/New_York")
        world.registry.assign("cuff", bed.patient, from_ns=None, to_ns=None)
        received = datetime(2026, 11, 2, 13, 0, 10, tzinfo=UTC)
        world.clock.advance(
            (received - datetime.fromtimestamp(world.clock.now_ns() / SECOND, UTC)) / timedelta(seconds=1)
        )
        written = [limit(vital="bp_sys", unit="mm[Hg]", low=None, high=180.0, severity="S1")]
        body = {"patient": bed.patient, "version": 2, "reason": "test", "limits": written}
        bed._append(Control(ControlKind.LIMITS, 0, "dr_a", body))
        world.send(world.message("cuff", bytes.fromhex(payload), "ble_blood_pressure", "2a35"))
        assert urgent(bed._fold()), name
        assert faults(bed) == ["clock_ahead"]
        assert [round(told.value or 0) for told in clock_events(bed)] == [ahead_s], "in the zone of the wearer"
        world.close()


@pytest.mark.parametrize("ahead_s", [0.0, 86_400.0])
def test_a_message_of_history_pages_nobody_and_says_nothing_of_the_clock(bed: Bedside, ahead_s: float) -> None:
    at_ns = bed.world.clock.now_ns() + int(ahead_s * SECOND)
    told = bed.send(json.dumps(reading("spo2", 70, "%", at_ns)).encode(), kind=":history")
    assert not urgent(told)
    assert len(reviews(told)) == 1, "a severe value is looked at"
    (row,) = bed.world.rows()
    assert row["flags"] & Flag.LATE
    assert not row["flags"] & Flag.CLOCK_WRONG
    assert not faults(bed)
    bed.wait(1)
    assert urgent(spo2(bed, 70)), "and hides no reading of now"
