"""A clock that was reset, through the whole of ingest: who gets what, when it is proved, and whatever the batches."""

from pathlib import Path

import pytest

from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, rows_of
from tests.ingest.test_reading_flow import meter
from tests.ingest.test_year_of_a_meter import text_of
from tests.support import SECOND
from vitals.glossary import Basis, Flag
from vitals.model import Message

FACTORY_NS = 1_483_228_800 * SECOND
"""2017-01-01T00:00."""
EVER = 2**62


class Shared:
    """A meter of two people: its battery is changed an hour before it goes from the first to the second."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.device("g", "ble_glucose")
        self.first, self.second = (world.registry.add_patient(zone="UTC").id for _ in range(2))
        now_ns = world.clock.now_ns() // MINUTE * MINUTE
        self.start_ns, self.reset_ns, self.handed_ns = now_ns, now_ns + 9 * HOUR, now_ns + 10 * HOUR
        world.registry.assign("g", self.first, from_ns=None, to_ns=self.handed_ns)
        world.registry.assign("g", self.second, from_ns=self.handed_ns, to_ns=None)
        world.clock.advance(40 * HOUR / SECOND)

    def message(self, seq: int, hours: float, late_h: float = 0.0) -> Message:
        """A reading so many hours after the start, as the meter tells it."""
        time_ns = self.start_ns + int(hours * 60) * MINUTE
        told_ns = time_ns if time_ns < self.reset_ns else FACTORY_NS + time_ns - self.reset_ns
        received_ns = time_ns + int(late_h * 60) * MINUTE + 9 * SECOND
        return self.world.message("g", meter(seq, text_of(told_ns)), "ble_glucose", "2a18", received_ns=received_ns)

    def found(self) -> dict[int, tuple[str | None, int]]:
        """Sequence -> patient and time, in minutes after the start."""
        held = rows_of(self.world.store.held("g", -EVER, EVER))
        return {row["seq"]: (row["patient"], (row["time_ns"] - self.start_ns) // MINUTE) for row in held}


def test_what_waited_is_placed_when_the_shift_is_proved(world: World) -> None:
    shared = Shared(world)
    first, second = shared.first, shared.second
    world.send(shared.message(10, 1), shared.message(11, 8))
    # From memory, of both people; then one that is live, which alone proves nothing.
    world.send(shared.message(12, 9.5, late_h=10), shared.message(13, 11, late_h=8.5), shared.message(14, 24))
    world.drain()
    assert shared.found() == {10: (first, 60), 11: (first, 480)}
    assert [(row["seq"], row["reason"]) for row in world.waiting()] == [(seq, "clock_reset") for seq in (12, 13, 14)]
    assert all(row["context"]["after_ns"] == shared.start_ns - 6 * HOUR for row in world.waiting())
    world.restart()
    world.send(shared.message(15, 25))
    world.drain()
    assert world.waiting() == []
    assert shared.found() == {
        10: (first, 60), 11: (first, 480), 12: (first, 570), 13: (second, 660), 14: (second, 1440), 15: (second, 1500),
    }  # fmt: skip
    flags = {row["seq"]: row["flags"] for row in world.rows()}
    assert flags[12] == flags[13] == flags[14] == Flag.CLOCK_CORRECTED | Flag.LATE, "history: it pages nobody"
    assert flags[15] == Flag.CLOCK_CORRECTED, "this one is current"
    ledger = world.service.ledger("g").readings
    assert (ledger.emitted, ledger.stored, ledger.unassigned) == (6, 6, 0)
    # The memory once more: nothing new, and nothing is placed by a clock that is right again.
    world.clock.advance(60)
    world.restart()
    for seq, hours in ((15, 25), (12, 9.5), (14, 24), (10, 1)):
        again = shared.message(seq, hours)
        world.send(world.message("g", again.payload, "ble_glucose", "2a18"))
    world.drain()
    assert world.service.ledger("g").readings.duplicate == 4
    assert len(world.rows()) == 6


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_batches_do_not_matter(tmp_path: Path, size: int) -> None:
    world = World(tmp_path)
    shared = Shared(world)
    times = [(10, 1, 0), (11, 8, 0), (12, 9.5, 10), (13, 11, 8.5), (14, 24, 0), (15, 25, 0), (16, 26, 4), (17, 32, 0)]
    messages = [shared.message(seq, hours, late_h) for seq, hours, late_h in times]
    for start in range(0, len(messages), size):
        world.send(*messages[start : start + size])
        world.service.step()
    world.drain()
    assert shared.found() == {
        seq: (shared.first if hours < 10 else shared.second, int(hours * 60)) for seq, hours, _ in times
    }
    assert world.waiting() == []
    world.close()


def test_a_corrected_reading_follows_a_changed_assignment_by_its_corrected_time(world: World) -> None:
    shared = Shared(world)
    world.send(*(shared.message(seq, hours) for seq, hours in ((11, 8), (12, 9.5), (13, 11), (14, 24), (15, 25))))
    world.drain()
    world.registry.assign("g", shared.first, from_ns=None, to_ns=shared.start_ns + 20 * HOUR, replace=True)
    world.service.settle("dr_a")
    world.drain()
    owners = {seq: patient for seq, (patient, _) in shared.found().items()}
    assert owners == {seq: shared.first if seq < 14 else shared.second for seq in range(11, 16)}
    assert shared.found()[13][1] == 660


def test_an_unknown_time_goes_to_who_wore_the_device_over_all_of_it(world: World) -> None:
    shared = Shared(world)
    world.send(shared.message(11, 8), shared.message(12, 9.5, late_h=1))
    world.drain()
    assert [row["reason"] for row in world.waiting()] == ["clock_reset"]
    # It was the second person's all the time since before the last reading that was right.
    world.registry.assign("g", shared.second, from_ns=shared.start_ns - DAY, to_ns=None, replace=True)
    world.service.settle("dr_a")
    world.drain()
    assert world.waiting() == []
    (row,) = [row for row in rows_of(world.store.held("g", -EVER, EVER)) if row["seq"] == 12]
    assert (row["patient"], row["basis"]) == (shared.second, Basis.UNKNOWN)
    assert row["flags"] & Flag.CLOCK_SUSPECT


def test_a_device_that_the_registry_does_not_know_teaches_nothing(world: World) -> None:
    shared = Shared(world)
    for seq, hours in ((11, 8), (12, 10), (13, 11), (14, 12)):
        known = shared.message(seq, hours)
        world.send(world.message("stranger", known.payload, "ble_glucose", "2a18", received_ns=known.received_ns))
        world.service.step()
    assert {row["reason"] for row in world.waiting()} == {"no_wearer"}
    assert world.log.query("SELECT count(*) FROM odd_records") == [(0,)]
