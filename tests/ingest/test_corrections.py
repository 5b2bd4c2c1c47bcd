"""Readings that are withdrawn, that follow a changed assignment, and that a person takes off the worklist."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, SourceClock, unit_code, vital_code
from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, rows_of, spo2
from tests.support import SECOND
from vitals.errors import InvalidRequest, NotFound
from vitals.glossary import Basis, ControlKind, Flag
from vitals.model import Control, Message, VitalBatch

SPO2, PERCENT = vital_code("spo2"), unit_code("%")
MOVED = Flag.REVISION | Flag.LATE
GONE = Flag.REVISION | Flag.RETRACTED


def decode_records(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """``time_ns seq value`` per line; value ``-`` withdraws the record, as vendors tell of deleted ones."""
    builder = ReadingsBuilder()
    for index, (message, _) in enumerate(zip(messages, contexts, strict=True)):
        for line in message.payload.decode().splitlines():
            time_ns, seq, value = line.split()
            gone = value == "-"
            number = float("nan") if gone else float(value)
            builder.add(index, SPO2, number, PERCENT, int(time_ns), seq=int(seq), flags=Flag.RETRACTED if gone else 0)
    return Decoded(builder.build())


RECORDS = Adapter("records", 1, "Records", {"": "records"}, frozenset({"spo2"}), decode_records)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path, adapters={"records": RECORDS})
    yield made
    made.close()


def send(world: World, *lines: str) -> None:
    """One message; ledgers are checked at every step."""
    world.send(world.message("d", "\n".join(lines).encode(), "records"))
    world.drain()


def seen(world: World, patient: str) -> list[float]:
    """What readers see of a patient, by time."""
    window = world.store.window(patient, SPO2, -(2**62), 2**62)
    return [float(value) for value in window.value]


def counts(world: World) -> tuple[int, int, int, int, int]:
    ledger = world.service.ledger("d").readings
    assert ledger.in_flight == 0
    return ledger.emitted, ledger.stored, ledger.duplicate, ledger.revision, ledger.unassigned


class TestWithdrawn:
    def test_a_withdrawn_reading_is_hidden_for_good(self, world: World) -> None:
        patient = world.worn("d", "records")
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns} 1 97", f"{now_ns + SECOND} 2 91")
        send(world, f"{now_ns + SECOND} 2 -")
        assert seen(world, patient) == [97.0]
        assert world.store.latest(patient).value.tolist() == [97.0]
        (gone,) = world.rows()[2:]
        assert (gone["patient"], gone["flags"], gone["value"]) == (patient, GONE, 91.0), "the log says whose and what"
        # A resync tells both again, then the source changes its mind about the value: it stays withdrawn.
        world.restart()
        send(world, f"{now_ns} 1 97", f"{now_ns + SECOND} 2 91", f"{now_ns + SECOND} 2 -")
        send(world, f"{now_ns + SECOND} 2 92")
        assert seen(world, patient) == [97.0]
        assert counts(world) == (7, 2, 3, 2, 0)

    def test_a_withdrawal_that_comes_first(self, world: World) -> None:
        patient = world.worn("d", "records")
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns} 1 -")
        send(world, f"{now_ns} 1 97", f"{now_ns} 2 95")
        send(world, f"{now_ns} 1 97")
        assert seen(world, patient) == [95.0]
        assert counts(world) == (4, 1, 1, 2, 0)

    @pytest.mark.parametrize("order", [("97", "-"), ("-", "97")])
    def test_both_in_one_message(self, world: World, order: tuple[str, str]) -> None:
        patient = world.worn("d", "records")
        send(world, *(f"{world.clock.now_ns()} 1 {value}" for value in order))
        assert seen(world, patient) == []
        assert counts(world) == (2, 1, 0, 1, 0)

    def test_a_revised_reading(self, world: World) -> None:
        patient = world.worn("d", "records")
        now_ns = world.clock.now_ns()
        for value in ("97", "91", "-"):
            send(world, f"{now_ns} 1 {value}")
        assert seen(world, patient) == []
        assert world.rows()[-1]["value"] == 91.0
        assert counts(world) == (3, 1, 0, 2, 0)

    def test_before_the_store_has_it(self, world: World) -> None:
        patient = world.worn("d", "records")
        now_ns = world.clock.now_ns()
        for value in ("97", "-"):
            world.send(world.message("d", f"{now_ns} 1 {value}".encode(), "records"))
            world.service.step()
        assert [row["flags"] for row in world.rows()] == [Flag(0), GONE]
        world.drain()
        assert seen(world, patient) == []

    def test_a_reading_that_waits_leaves_the_worklist(self, world: World) -> None:
        world.device("d", "records")
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns} 1 97", f"{now_ns} 2 96")
        assert counts(world) == (2, 0, 0, 0, 2)
        send(world, f"{now_ns} 2 -")
        assert [row["value"] for row in world.waiting()] == [97.0]
        assert counts(world) == (3, 0, 0, 2, 1)
        send(world, f"{now_ns} 1 -")
        assert world.service.unassigned() == []
        send(world, f"{now_ns} 1 95")
        assert world.service.unassigned() == [], "nobody is asked about what was withdrawn"
        assert counts(world) == (5, 0, 0, 5, 0)


def decode_spans(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """``start end`` in ns, wall time."""
    builder = ReadingsBuilder()
    for index, (message, _) in enumerate(zip(messages, contexts, strict=True)):
        start, end = map(int, message.payload.split())
        builder.add(index, SPO2, 97.0, PERCENT, start, clock=SourceClock.WALL, ended_ns=end)
    return Decoded(builder.build())


class TestIntervals:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Any:
        made = World(tmp_path, adapters={"spans": replace(RECORDS, name="spans", decode=decode_spans)})
        yield made
        made.close()

    def span(self, world: World, start_ns: int, end_ns: int) -> None:
        world.send(world.message("d", f"{start_ns} {end_ns}".encode(), "spans"))
        world.drain()

    def test_the_end_is_read_in_the_zone_of_the_start(self, world: World) -> None:
        world.worn("d", "spans", zone="Europe/Berlin")
        now_ns = world.clock.now_ns()
        self.span(world, now_ns, now_ns + 50 * MINUTE)
        (batch,) = (entry for entry in world.entries() if isinstance(entry, VitalBatch))
        assert (batch.time_ns.tolist(), batch.end_ns.tolist()) == ([now_ns - HOUR], [now_ns - 10 * MINUTE])

    def test_an_end_years_ahead_makes_nothing_look_old(self, world: World) -> None:
        patient = world.worn("d", "spans", zone="UTC")
        now_ns = world.clock.now_ns()
        self.span(world, now_ns - MINUTE, now_ns + 3000 * DAY)
        latest = world.store.latest(patient)
        assert latest.end_ns.tolist() == [now_ns]
        assert latest.flags.tolist() == [int(Flag.CLOCK_SUSPECT)]


class TestReassigned:
    def two(self, world: World) -> tuple[str, str]:
        world.device("d", "records")
        first, second = (world.registry.add_patient(zone="Europe/Berlin").id for _ in range(2))
        world.registry.assign("d", first, from_ns=None, to_ns=None)
        return first, second

    def test_readings_follow_a_corrected_stretch(self, world: World) -> None:
        first, second = self.two(world)
        start = world.clock.now_ns() - 10 * DAY
        send(world, *(f"{start + day * DAY} {day} {90 + day}" for day in range(10)))
        world.registry.assign("d", second, from_ns=start + 3 * DAY, to_ns=start + 5 * DAY, replace=True)
        world.service.settle("dr_a")
        world.drain()
        assert seen(world, first) == [90.0, 91.0, 92.0, 95.0, 96.0, 97.0, 98.0, 99.0]
        assert seen(world, second) == [93.0, 94.0]
        assert counts(world) == (10, 10, 0, 0, 0)
        moved = world.rows()[10:]
        assert [row["flags"] & ~Flag.LATE for row in moved] == [GONE] * 2 + [Flag.REVISION] * 2
        assert all(Flag.LATE in row["flags"] for row in moved[2:]), "what moves pages nobody"
        (told,) = [entry for entry in world.entries() if isinstance(entry, Control)]
        assert (told.kind, told.author) == (ControlKind.REASSIGN, "dr_a")
        assert told.body == {"device": "d", "moved": 2, "placed": 0}
        # A resync changes nothing, and back is back.
        send(world, *(f"{start + day * DAY} {day} {90 + day}" for day in range(10)))
        world.registry.assign("d", first, from_ns=start + 3 * DAY, to_ns=start + 5 * DAY, replace=True)
        world.restart()
        world.heartbeat()
        world.drain()
        assert (seen(world, first), seen(world, second)) == ([90.0 + day for day in range(10)], [])
        assert counts(world) == (20, 10, 10, 0, 0)

    def test_readings_of_a_stretch_that_nobody_wore_wait_and_come_back(self, world: World) -> None:
        first, second = self.two(world)
        start = world.clock.now_ns() - 10 * DAY
        send(world, *(f"{start + day * DAY} {day} {90 + day}" for day in range(4)))
        # It ends the open one at its own beginning: nobody wore the device after it.
        world.registry.assign("d", second, from_ns=start + DAY, to_ns=start + 2 * DAY)
        world.service.settle("dr_a")
        world.drain()
        assert (seen(world, first), seen(world, second)) == ([90.0], [91.0])
        assert [row["value"] for row in world.waiting()] == [92.0, 93.0]
        assert counts(world) == (4, 4, 0, 0, 0), "they were stored once"
        world.registry.assign("d", second, from_ns=start + 2 * DAY, to_ns=None)
        world.service.settle("dr_a")
        world.drain()
        assert seen(world, second) == [91.0, 92.0, 93.0]
        assert (world.waiting(), counts(world)) == ([], (4, 4, 0, 0, 0))

    def test_what_waited_is_placed_when_it_becomes_clear(self, world: World) -> None:
        world.device("d", "records")
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns - 2 * HOUR} 1 97", f"{now_ns} 2 96")
        send(world, f"{now_ns} 2 95")
        assert counts(world) == (3, 0, 0, 0, 3)
        patient = world.registry.add_patient().id
        world.registry.assign("d", patient, from_ns=now_ns - HOUR, to_ns=None)
        world.service.settle("dr_a")
        world.drain()
        assert seen(world, patient) == [95.0]
        assert counts(world) == (3, 0, 0, 2, 1), "the value that was revised while it waited is a version of it"
        assert all(row["flags"] & Flag.LATE for row in world.rows())

    def test_wall_time_is_read_in_the_zone_of_who_gets_it(self, world: World) -> None:
        world.device("d")
        first = world.registry.add_patient(zone="Europe/Berlin").id
        second = world.registry.add_patient(zone="America/New_York").id
        world.registry.assign("d", first, from_ns=None, to_ns=None)
        world.send(world.message("d", spo2(97, "2023-11-10T12:00:00")))
        world.drain()
        assert world.rows()[0]["tz_min"] == 60
        world.registry.assign("d", second, from_ns=None, to_ns=None, replace=True)
        world.service.settle("dr_a")
        world.drain()
        (row,) = rows_of(world.store.held("d", -(2**62), 2**62))
        assert (row["patient"], row["tz_min"], row["basis"]) == (second, -300, Basis.DEVICE_ASSUMED_ZONE)
        assert row["time_ns"] == world.rows()[0]["time_ns"] + 6 * HOUR

    def test_a_crash_between_registry_and_readings(self, world: World) -> None:
        first, second = self.two(world)
        send(world, f"{world.clock.now_ns() - DAY} 1 97")
        world.registry.assign("d", second, from_ns=None, to_ns=None, replace=True)
        world.restart()
        world.heartbeat()
        world.drain()
        assert (seen(world, first), seen(world, second)) == ([], [97.0])
        (told,) = [entry for entry in world.entries() if isinstance(entry, Control)]
        assert told.author == "system"

    def test_a_withdrawn_reading_stays_withdrawn(self, world: World) -> None:
        first, second = self.two(world)
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns} 1 97")
        send(world, f"{now_ns} 1 -")
        world.registry.assign("d", second, from_ns=None, to_ns=None, replace=True)
        world.service.settle("dr_a")
        world.drain()
        assert (seen(world, first), seen(world, second)) == ([], [])

    def test_a_withdrawal_of_what_moved(self, world: World) -> None:
        first, second = self.two(world)
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns} 1 97")
        world.registry.assign("d", second, from_ns=None, to_ns=None, replace=True)
        world.service.settle("dr_a")
        send(world, f"{now_ns} 1 -")
        assert (seen(world, first), seen(world, second)) == ([], [])
        assert world.rows()[-1]["patient"] == second


class TestDecided:
    def waiting(self, world: World) -> tuple[str, str]:
        world.device("d", "records")
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns - HOUR} 1 97", f"{now_ns} 2 96")
        return world.registry.add_patient(zone="Europe/Berlin").id, world.service.unassigned()[0].id

    def test_given_to_a_patient(self, world: World) -> None:
        patient, item = self.waiting(world)
        assert world.service.assign_unassigned(item, patient, author="dr_a") == 2
        world.drain()
        assert seen(world, patient) == [97.0, 96.0]
        assert (world.service.unassigned(), counts(world)) == ([], (2, 2, 0, 0, 0))
        assert [row["flags"] for row in world.rows()] == [Flag.LATE] * 2
        (told,) = [entry for entry in world.entries() if isinstance(entry, Control)]
        assert (told.kind, told.author) == (ControlKind.ASSIGN, "dr_a")
        assert told.body == {"item": item, "device": "d", "patient": patient, "readings": 2}
        with pytest.raises(NotFound):
            world.service.assign_unassigned(item, patient, author="dr_a")
        # Who wore the device is said later: what a person has decided stays.
        other = world.registry.add_patient().id
        world.registry.assign("d", other, from_ns=None, to_ns=None)
        world.registry.assign("d", world.registry.add_patient().id, from_ns=None, to_ns=None, replace=True)
        world.service.settle("dr_b")
        world.drain()
        assert (seen(world, patient), seen(world, other)) == ([97.0, 96.0], [])

    def test_with_a_shift(self, world: World) -> None:
        patient, item = self.waiting(world)
        now_ns = world.clock.now_ns()
        with pytest.raises(InvalidRequest, match="shift_s"):
            world.service.assign_unassigned(item, patient, author="dr_a", shift_s=3600.0)
        assert len(world.service.unassigned()) == 1
        world.service.assign_unassigned(item, patient, author="dr_a", shift_s=-1800.5)
        world.drain()
        found = world.rows()
        assert [row["time_ns"] - now_ns for row in found] == [
            -HOUR - 30 * MINUTE - SECOND // 2,
            -30 * MINUTE - SECOND // 2,
        ]
        assert all(row["flags"] == Flag.LATE | Flag.CLOCK_CORRECTED for row in found)
        assert [row["source_time_ns"] for row in found] == [now_ns - HOUR, now_ns], "identity stays as sent"

    def test_discarded(self, world: World) -> None:
        _, item = self.waiting(world)
        assert world.service.discard_unassigned(item, "a drill", author="dr_a") == 2
        now_ns = world.clock.now_ns()
        send(world, f"{now_ns - HOUR} 1 97", f"{now_ns} 2 96")
        assert (world.service.unassigned(), counts(world)) == ([], (4, 0, 2, 0, 2))
        (told,) = [entry for entry in world.entries() if isinstance(entry, Control)]
        assert (told.kind, told.body["reason"]) == (ControlKind.DISCARD, "a drill")
        with pytest.raises(NotFound):
            world.service.discard_unassigned(item, "again", author="dr_a")
        # Nobody gets them when the device is assigned later.
        patient = world.registry.add_patient().id
        world.registry.assign("d", patient, from_ns=None, to_ns=None)
        world.service.settle("dr_a")
        world.drain()
        assert seen(world, patient) == []

    @pytest.mark.parametrize("item", ["0", "7", "x", "-1", "9" * 30])
    def test_no_such_item(self, world: World, item: str) -> None:
        patient, _ = self.waiting(world)
        for act in (
            lambda: world.service.assign_unassigned(item, patient, author="a"),
            lambda: world.service.discard_unassigned(item, "r", author="a"),
            lambda: world.service.unassigned_item(item),
        ):
            with pytest.raises(NotFound):
                act()
        with pytest.raises(NotFound):
            world.service.assign_unassigned("1", "p_none", author="a")
        assert counts(world) == (2, 0, 0, 0, 2)
