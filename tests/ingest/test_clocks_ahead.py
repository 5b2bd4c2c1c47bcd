"""How far a clock is ahead is learned from arrivals; a delay is never taken for a clock that is behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.journal.ahead_clocks import ahead_clocks
from ingest.placing.ahead import AheadClock, zone_hours
from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, reading, spo2
from tests.support import SECOND
from vitals.errors import InvalidRequest
from vitals.glossary import Basis, Flag

DOUBTED = Flag.CLOCK_WRONG | Flag.SUSPECT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


def send(world: World, ahead_ns: int, value: float = 97, device: str = "d") -> dict[str, Any]:
    """A live reading whose clock is so far ahead; its row."""
    world.send(world.message(device, spo2(value, world.clock.now_ns() + ahead_ns)))
    world.drain()
    return world.rows()[-1]


def teach(world: World, ahead_ns: int, device: str = "d") -> None:
    """Three messages over ten minutes."""
    for _ in range(3):
        assert send(world, ahead_ns, device=device)["flags"] == DOUBTED
        world.clock.advance(300)


@pytest.mark.parametrize("ahead_ns", [6 * MINUTE, 17 * MINUTE, 3 * HOUR + 20 * MINUTE, DAY, 40 * DAY + 7 * MINUTE])
def test_three_messages_over_ten_minutes_prove_a_constant(world: World, ahead_ns: int) -> None:
    world.worn("d")
    teach(world, ahead_ns)
    row = send(world, ahead_ns)
    assert (row["flags"], row["basis"], row["time_ns"]) == (Flag.CLOCK_CORRECTED, Basis.DEVICE, world.clock.now_ns())
    assert row["source_time_ns"] == row["time_ns"] + ahead_ns, "as sent"
    state = world.service.device_clock("d")
    assert (state.ahead_ns, state.corrects, state.zone_hours) == (ahead_ns, True, 0)
    assert [one.ahead_ns for one in state.arrivals] == [ahead_ns] * 3
    assert [fault.detail for fault in world.service.device_state("d").faults] == ["clock_ahead"], "it is still wrong"


def test_less_proves_nothing(world: World) -> None:
    world.worn("d")
    for _ in range(2):
        send(world, HOUR // 2)
        world.clock.advance(3600)
    assert world.service.device_clock("d").ahead_ns is None
    for _ in range(4):
        send(world, 7 * MINUTE)
        world.clock.advance(60)
    assert world.service.device_clock("d").ahead_ns is None, "four messages, but within ten minutes"
    for ahead_ns in (20 * MINUTE, 40 * MINUTE, 80 * MINUTE):
        send(world, ahead_ns)
        world.clock.advance(600)
    assert world.service.device_clock("d").ahead_ns is None, "it is no constant"


def test_a_message_of_several_readings_moves_as_a_whole(world: World) -> None:
    world.worn("d")
    teach(world, 20 * MINUTE)
    now_ns = world.clock.now_ns()
    items = [reading("spo2", 90 + back, "%", now_ns + 20 * MINUTE - back * 2 * HOUR) for back in range(3)]
    world.send(world.message("d", json.dumps(items).encode()))
    world.drain()
    rows = world.rows()[-3:]
    assert {row["value"]: now_ns - row["time_ns"] for row in rows} == {
        90.0: 0, 91.0: 2 * HOUR, 92.0: 4 * HOUR,
    }  # fmt: skip
    assert all(row["flags"] & Flag.CLOCK_CORRECTED for row in rows)
    assert [bool(row["flags"] & Flag.LATE) for row in rows] == [False, False, True]


@pytest.mark.parametrize(("ahead_ns", "hours"), [(HOUR, 1), (2 * HOUR - 30 * SECOND, 2), (14 * HOUR, 14)])
def test_whole_hours_are_named_and_not_corrected(world: World, ahead_ns: int, hours: int) -> None:
    world.worn("d")
    teach(world, ahead_ns)
    assert send(world, ahead_ns)["flags"] == DOUBTED
    state = world.service.device_clock("d")
    assert (state.zone_hours, state.corrects, state.ahead_ns) == (hours, False, ahead_ns)


def test_hours_that_are_no_zone() -> None:
    assert [zone_hours(one) for one in (6 * MINUTE, 30 * MINUTE, 15 * HOUR, DAY, 0)] == [0] * 5


@pytest.mark.parametrize("late_ns", [HOUR, 3 * HOUR, 30 * MINUTE])
def test_a_constant_delay_stays_a_delay(world: World, late_ns: int) -> None:
    """The golden case: a source that is always 60 minutes late stays 60 minutes old."""
    world.worn("d")
    for _ in range(12):
        row = send(world, -late_ns)
        assert row["received_ns"] - row["time_ns"] == late_ns
        assert row["flags"] == (Flag.LATE if late_ns > 2 * HOUR else Flag(0))
        world.clock.advance(300)
    assert world.service.device_clock("d") == AheadClock().state()


def test_a_clock_that_is_set_right_is_believed_at_once_and_forgets_what_was_learned(world: World) -> None:
    world.worn("d")
    teach(world, 20 * MINUTE)
    row = send(world, 0)
    assert (row["flags"], row["time_ns"]) == (Flag(0), world.clock.now_ns())
    assert world.service.device_clock("d") == AheadClock().state()
    assert not world.service.device_state("d").faults
    world.clock.advance(60)
    assert send(world, 20 * MINUTE)["flags"] == DOUBTED, "it is learned anew"


def test_another_excess_is_not_corrected_by_the_old_one(world: World) -> None:
    """A clock that was set back in part: by the old constant its live readings would look old, and page nobody."""
    world.worn("d")
    teach(world, DAY)
    row = send(world, 10 * MINUTE)
    assert (row["flags"], row["time_ns"]) == (DOUBTED, world.clock.now_ns())
    for _ in range(2):
        world.clock.advance(300)
        send(world, 10 * MINUTE)
    world.clock.advance(300)
    assert send(world, 10 * MINUTE)["flags"] == Flag.CLOCK_CORRECTED, "the new constant is learned like the first"
    assert world.service.device_clock("d").ahead_ns == 10 * MINUTE


def test_a_person_takes_it_back(world: World) -> None:
    world.worn("d")
    with pytest.raises(InvalidRequest, match="nothing was learned"):
        world.service.undo_clock("d", "a guess", author="dr_a")
    teach(world, 20 * MINUTE)
    state = world.service.undo_clock("d", "the cuff is at another site", author="dr_a")
    assert (state.ahead_ns, state.corrects, state.undone_by) == (None, False, "dr_a")
    teach(world, 20 * MINUTE)
    assert send(world, 20 * MINUTE)["flags"] == DOUBTED, "as before, for as long as the clock is ahead"
    world.restart()
    assert world.service.device_clock("d").undone_by == "dr_a"
    world.clock.advance(7)
    send(world, 0)
    world.clock.advance(60)
    teach(world, 20 * MINUTE)
    assert send(world, 20 * MINUTE)["flags"] == Flag.CLOCK_CORRECTED, "after a right clock it may be learned again"


def test_what_was_learned_survives_a_restart(world: World) -> None:
    world.worn("d")
    send(world, 20 * MINUTE)
    world.clock.advance(300)
    send(world, 20 * MINUTE)
    world.restart()
    world.clock.advance(300)
    send(world, 20 * MINUTE)
    world.restart()
    world.clock.advance(60)
    assert send(world, 20 * MINUTE)["flags"] == Flag.CLOCK_CORRECTED


def test_a_directory_of_before_has_no_such_clocks_and_opens(world: World) -> None:
    world.worn("d")
    with world.log.transaction() as tx:
        tx.connection.execute("DROP TABLE ahead_clocks")
    world.restart()
    assert ahead_clocks(world.log.query) == {}
    teach(world, 20 * MINUTE)


def test_no_reading_moves_across_a_change_of_wearer(world: World) -> None:
    world.device("d")
    first, second = (world.registry.add_patient(zone="UTC").id for _ in range(2))
    start_ns = world.clock.now_ns()
    world.registry.assign("d", first, from_ns=None, to_ns=start_ns + 20 * MINUTE)
    world.registry.assign("d", second, from_ns=start_ns + 20 * MINUTE, to_ns=None)
    for _ in range(3):
        world.send(world.message("d", spo2(97, world.clock.now_ns() + 40 * MINUTE)))
        world.drain()
        world.clock.advance(300)
    assert {(row["patient"], row["flags"]) for row in world.rows()} == {(first, DOUBTED)}
    assert world.service.device_clock("d").corrects
    assert send(world, 40 * MINUTE)["patient"] == first
    world.clock.advance(301)
    waits = len(world.waiting())
    world.send(world.message("d", spo2(96, world.clock.now_ns() + 40 * MINUTE)))
    world.drain()
    assert len(world.waiting()) == waits + 1, "within minutes of the change it may be either's"
    world.clock.advance(300)
    assert send(world, 40 * MINUTE, 95)["patient"] == second
