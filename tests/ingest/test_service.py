"""What becomes of ingest when it is killed, when its disk is full, and when somebody else is at its file."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.journal.identities import Journal
from ingest.metrics import IngestMetrics
from ingest.service import IngestService
from tests.ingest.ingest_world import MINUTE, World, reading, rows_of, spo2
from tests.ingest.stopping import stopped_after
from tests.support import SECOND, eventually
from vitals import encoding
from vitals.errors import BackendError, PositionConflict
from vitals.glossary import EventKind
from vitals.log.local import LocalLog
from vitals.model import Control, Tick, VitalBatch
from vitals.records import Device
from vitals.registry.sql import SqlRegistry
from vitals.vault import Vault

ROOT = Path(__file__).parents[2]
ROUNDS = 15
APART = {
    "presence": {EventKind.ONLINE, EventKind.OFFLINE},
    "follows": {EventKind.FAULT, EventKind.FAULT_OVER},
}


class Victims:
    """Workers of ``ingest_process.py``."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("ingest_process.py")), str(path)]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @contextmanager
    def worker(self, rows_per_cycle: int) -> Iterator[None]:
        """A worker that is killed at the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rows_per_cycle}\n")
        self._process.stdin.flush()
        worker = int(self._line())
        try:
            yield
        finally:
            os.kill(worker, signal.SIGKILL)
            assert self._line() == "done"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0
        self._process.stdout.close()


def traffic(world: World, chance: random.Random, rows: int) -> None:
    """Good, bad, repeated, revised, late, stored and unassigned messages of several devices, ticks and presence."""
    for _ in range(rows):
        world.clock.advance(chance.random())
        now_ns = world.clock.now_ns()
        kind = chance.random()
        if kind < 0.1:
            world.heartbeat()
        elif kind < 0.15:
            world.presence("a", online=chance.random() < 0.5)
        else:
            messages = []
            for _ in range(chance.randrange(1, 30)):
                device = chance.choice("abcn")
                if device == "c":
                    # Contact is supported: detected, or for a while not.
                    contact = bytes([chance.choice([6, 6, 4]), chance.randrange(60, 99)])
                    messages.append(world.message("c", contact, "ble_heart_rate", "2a37"))
                    continue
                time_ns = now_ns - chance.choice([0, 1, 2, 60, 90_000]) * SECOND // 1_000_000_000 * 1_000_000_000
                wall = f"2023-11-14T{chance.randrange(24):02}:{chance.randrange(4):02}:00"
                items = [
                    reading("spo2", chance.randrange(90, 99), "%", chance.choice([time_ns, wall]), chance.randrange(3))
                    for _ in range(chance.randrange(1, 4))
                ]
                payload = b"{" if chance.random() < 0.05 else json.dumps(items).encode()
                messages.append(world.message(device, payload, dup=chance.random() < 0.1))
            world.send(*messages)


def await_position(world: World, position: int) -> None:
    """Return as soon as ingest, in another process, has got so far."""
    log = LocalLog(world.path / "vitals.db", world.clock, read_only=True)
    deadline = time.monotonic() + 20
    while log.query("SELECT position FROM progress")[0][0] < position:
        assert time.monotonic() < deadline, "the worker does not get on"
    log.close()


def in_order(world: World) -> list[Any]:
    """The vitals log apart from batch boundaries: between two ticks, the rows of each adapter, and of each device its
    presence, its reports and what follows from them."""
    found: list[Any] = [{}]
    for entry in world.entries():
        if isinstance(entry, Tick):
            found += [entry.watermark_ns, {}]
        elif isinstance(entry, VitalBatch):
            found[-1].setdefault(entry.provenance.adapter, []).extend(rows_of(entry))
        elif isinstance(entry, Control):
            # Which items hold the readings depends on the batches.
            told = (entry.kind, entry.time_ns, {**entry.body, "items": None})
            found[-1].setdefault(entry.body["device"], []).append(told)
        else:
            for event in entry:
                what = next((name for name, kinds in APART.items() if event.kind in kinds), "reports")
                found[-1].setdefault((event.device, what), []).append(event)
    return found


def lives(world: World) -> list[Any]:
    """State and history of every device, and the time that was processed."""
    found: list[Any] = [world.service.processed()]
    for device in "abcn":
        history = [one.event for one in world.service.device_events(device, limit=10_000)]
        found += [world.service.device_state(device), sorted(history, key=repr)]
    return found


def held(world: World) -> list[Any]:
    return world.log.query(
        "SELECT device, adapter, kind, reason, detail, received_ns, message FROM quarantine ORDER BY message"
    )


def test_killed_at_any_moment_every_message_is_accounted_for_once(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    world = World(killed)
    world.worn("a")
    world.worn("b", zone=None)
    world.worn("c", "ble_heart_rate")
    world.device("n")
    world.close_core()
    chance = random.Random(20_231_114)
    victims = Victims(killed)
    unfinished = 0
    for _ in range(ROUNDS):
        traffic(world, chance, 30)
        with victims.worker(chance.randrange(1, 4)):
            await_position(world, world.raw.end() - chance.randrange(18, 29))
            # A random moment is the point: no condition says "in the middle of a cycle".
            threading.Event().wait(chance.uniform(0.0, 0.002))
        world.open()
        unfinished += 0 < world.service.position < world.raw.end()
        world.check()
        world.close_core()
    victims.close()
    assert unfinished >= 6, f"{unfinished}: the kills came too late to mean anything"

    world.open()
    world.drain()
    for ledger in world.service.ledgers():
        assert ledger.messages.in_flight == ledger.readings.in_flight == 0
    ledgers = world.service.ledgers()
    world.registry.close()
    world.raw.close()
    for name in ("vault.key", "registry.db", "raw.db"):
        shutil.copy(killed / name, whole / name)
    uninterrupted = World(whole, clock=world.clock)
    uninterrupted.drain()
    assert in_order(uninterrupted) == in_order(world)
    assert sorted(map(repr, uninterrupted.waiting())) == sorted(map(repr, world.waiting()))
    assert held(uninterrupted) == held(world)
    assert uninterrupted.service.ledgers() == ledgers
    assert lives(uninterrupted) == lives(world)
    assert sum(event.kind is EventKind.FAULT_OVER for event in world.events()) > 20
    assert len(uninterrupted.rows()) > 1_000
    assert len(uninterrupted.waiting()) > 500
    uninterrupted.close()
    world.close_core()


@contextmanager
def running(world: World) -> Iterator[list[Exception]]:
    """Ingest and writer in threads, as in a core; what ended a thread."""
    stop, deaths = threading.Event(), []

    def guarded(run: Any) -> None:
        try:
            run(stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            deaths.append(error)

    threads = [threading.Thread(target=guarded, args=(run,)) for run in (world.service.run, world.writer.run)]
    for thread in threads:
        thread.start()
    try:
        yield deaths
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def limit_pages(log: LocalLog, pages: int) -> None:
    """No more than so many pages, as on a full disk; 0 lifts the limit."""
    with log.transaction() as tx:
        tx.connection.execute(f"PRAGMA max_page_count={pages or 2**30}")


def test_a_full_disk_is_waited_for(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    before = world.service.position
    limit_pages(world.log, 1)
    with running(world) as deaths:
        for number in range(200):
            world.clock.advance(1)
            items = [reading("spo2", 97, "%", world.clock.now_ns() - n * MINUTE, n) for n in range(50)]
            world.send(world.message("d", json.dumps(items).encode()), world.message("d", b"{%d" % number))
        eventually(lambda: world.service.problem == "ingest_log_not_writable", what="the problem")
        assert world.service.position == world.journal.position()
        assert world.service.position < world.raw.end()
        limit_pages(world.log, 0)
        eventually(world.stored_all, within_s=30, what="recovery")
        eventually(lambda: not world.service.problem, what="no problem")
    assert deaths == []
    assert before < world.service.position == world.raw.end()
    assert world.store.rows() == 10_001
    world.check()
    ledger = world.service.ledger("d")
    assert (ledger.messages.decoded, ledger.messages.quarantined) == (201, 200)


def test_a_cycle_that_cannot_commit_is_run_again_whole(world: World) -> None:
    world.worn("d")
    world.drain()
    limit_pages(world.log, 1)
    for part in range(4):
        items = [reading("spo2", 97, "%", world.clock.now_ns() - n * MINUTE, part) for n in range(500)]
        world.send(world.message("d", json.dumps(items).encode()), world.message("new", b"{"))
    for _ in range(3):
        with pytest.raises(BackendError) as full:
            world.service.step()
        assert full.value.retryable
        assert (world.service.position, world.rows(), world.journal.counts()) == (0, [], {})
    limit_pages(world.log, 0)
    world.drain()
    assert len(world.rows()) == 2_000
    assert world.service.ledger("d").readings.stored == 2_000
    assert world.journal.counts().keys() == {"d", "new"}


def test_a_cycle_that_cannot_commit_teaches_nothing_about_clocks(world: World) -> None:
    patient = world.worn("d")
    world.drain()
    limit_pages(world.log, 1)
    # Numbers started again between the two: taken for the head, the second would make the first look reset.
    for text, seq in (("2023-11-11T12:00:00", 20), ("2023-11-14T23:00:00", 5)):
        world.send(world.message("d", spo2(97, text, seq)))
    world.send(*(world.message("new", b"{" * 5_000) for _ in range(20)))
    with pytest.raises(BackendError):
        world.service.step()
    limit_pages(world.log, 0)
    world.drain()
    assert [(row["seq"], row["patient"]) for row in world.rows()] == [(20, patient), (5, patient)]


def test_a_second_owner_is_found_out(world: World) -> None:
    world.worn("d")
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    with LocalLog(world.path / "vitals.db", world.clock).transaction() as tx:
        tx.connection.execute("UPDATE progress SET position = 1")
    with stopped_after(10) as stop, pytest.raises(PositionConflict) as conflict:
        world.service.run(stop)
    assert (conflict.value.expected, conflict.value.found) == (0, 1)
    assert world.service.problem == "ingest_position_conflict"
    assert world.rows() == []


def test_two_owners_never_double(world: World) -> None:
    world.worn("d")
    other_log = LocalLog(world.path / "vitals.db", world.clock)
    other = IngestService(
        world.raw, Journal(other_log, world.vault.zone("quarantine")), world.registry, world.adapters, world.clock,
        IngestMetrics(type(world.meters)()), dict, world.store,
    )  # fmt: skip
    for number in range(4):
        world.send(world.message("d", spo2(90 + number, world.clock.now_ns() - number * SECOND)))
    assert other.step() == 4
    with pytest.raises(PositionConflict):
        world.service.step()
    assert [row["value"] for row in world.rows()] == [90.0, 91.0, 92.0, 93.0]
    other_log.close()


@pytest.mark.parametrize("what", ["not an entry", "sealed with another key"])
def test_a_raw_log_that_cannot_be_read_stops_ingest_and_nothing_else(world: World, tmp_path: Path, what: str) -> None:
    world.worn("d")
    body = b"VG garbage" if what == "not an entry" else encoding.encode([world.message("d", spo2(97, 5))])
    sealer = world.vault if what == "not an entry" else Vault.open(tmp_path / "other.key")
    with LocalLog(world.path / "raw.db", world.clock, sealer=sealer.zone("raw")).transaction() as tx:
        tx.append("raw/json", body)
    with running(world) as deaths:
        eventually(lambda: world.service.problem == "ingest_log_unreadable", what="the problem")
        assert world.service.unassigned() == []
    assert (deaths, world.service.position) == ([], 0)


class _AwayRegistry(SqlRegistry):
    away = True

    def devices(self) -> list[Device]:
        if self.away:
            raise BackendError("registry: away", retryable=True)
        return super().devices()


def test_a_registry_that_is_away_is_waited_for(world: World) -> None:
    world.worn("d")
    world.registry.close()
    world.registry = registry = _AwayRegistry(world.path / "registry.db", world.clock)
    world.restart()
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    with running(world) as deaths:
        eventually(lambda: world.service.problem == "ingest_log_not_writable", what="the problem")
        registry.away = False
        eventually(world.stored_all, what="recovery")
    assert (deaths, len(world.rows())) == ([], 1)
