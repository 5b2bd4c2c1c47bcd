"""Vitals log to store: batches, position, restarts, and a store that fails."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest import writer as store_writer
from ingest.metrics import IngestMetrics
from ingest.writer import CONSUMER, StoreWriter
from tests.ingest.ingest_world import World, spo2
from tests.ingest.stopping import stopped_after
from tests.support import SECOND, FakeClock, eventually
from vitals import encoding
from vitals.errors import BackendError, PositionConflict
from vitals.log.local import LocalLog
from vitals.model import Tick, VitalBatch, batch_from_rows
from vitals.store.duckdb import DuckDBStore


class ShyStore(DuckDBStore):
    """A real store that fails when it is told to, before or after its commit."""

    fails = ""
    calls = 0
    asked = 0
    """How often its position was asked for while it was away."""

    def write(self, batches: Sequence[VitalBatch], *, expected: int, position: int) -> None:
        self.calls += 1
        if self.fails == "before":
            raise BackendError("store: disk is full", retryable=True)
        super().write(batches, expected=expected, position=position)
        if self.fails == "after":
            raise BackendError("store: answer was lost", retryable=True)

    def position(self) -> int:
        if self.fails == "away":
            self.asked += 1
            raise BackendError("store: away", retryable=True)
        return super().position()


class Site:
    """A vitals log, a store and the writer between them."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock()
        self.log = LocalLog(path / "vitals.db", self.clock)
        self.open()

    def open(self) -> None:
        self.store = ShyStore(self.path / "store.duckdb", memory_mb=128, threads=1)
        self.meters = CollectorRegistry()
        self.writer = StoreWriter(self.log, self.store, self.clock, IngestMetrics(self.meters), linger_s=0.0)

    def restart(self) -> None:
        self.store.close()
        self.open()

    def close(self) -> None:
        self.store.close()
        self.log.close()

    def append(self, first: int, count: int) -> None:
        """A batch of ``count`` readings, the number of each its value and time."""
        rows = [
            {
                "device": "d",
                "patient": "p",
                "vital": 4,
                "time_ns": n * SECOND,
                "value": float(n),
                "received_ns": n * SECOND,
            }
            for n in range(first, first + count)
        ]
        self.log.append([("vitals", encoding.encode(batch_from_rows(rows)))])

    def tick(self) -> None:
        self.log.append([("vitals", encoding.encode(Tick(self.clock.now_ns())))])

    def values(self) -> list[float]:
        return self.store.export("p").value.tolist()

    def stored(self) -> Mapping[str, int]:
        return self.store.stored()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_everything_since_the_last_write_is_one_write(site: Site) -> None:
    assert site.writer.step() == 0
    for number in range(5):
        site.append(number * 10, 10)
        site.tick()
    assert site.writer.step() == 10
    assert (site.store.calls, site.values()) == (1, [float(n) for n in range(50)])
    assert site.writer.position == site.log.end() == 10
    assert site.store.position() == 10
    assert site.writer.step() == 0


def test_a_write_has_about_ten_thousand_rows(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "REGISTER_EVERY", 4)
    monkeypatch.setattr(store_writer, "MAX_ROWS", 100)
    for number in range(20):
        site.append(number * 20, 20)
    assert [site.writer.step() for _ in range(4)] == [8, 8, 4, 0]
    assert site.store.calls == 3
    assert site.values() == [float(n) for n in range(400)]


def test_entries_without_readings_move_the_position_in_memory_only(site: Site) -> None:
    for _ in range(3):
        site.tick()
    assert site.writer.step() == 3
    assert (site.writer.position, site.store.position(), site.store.calls) == (3, 0, 0)
    site.append(0, 1)
    assert site.writer.step() == 1
    assert (site.store.position(), site.values()) == (4, [0.0])


def test_a_restart_goes_on_behind_what_is_stored(site: Site) -> None:
    site.append(0, 10)
    site.writer.step()
    site.append(10, 10)
    site.restart()
    assert site.writer.position == 1
    assert site.writer.step() == 1
    site.restart()
    assert site.writer.step() == 0
    assert site.values() == [float(n) for n in range(20)]
    assert site.stored() == {"d": 20}


def test_a_second_writer_is_found_out(site: Site) -> None:
    site.append(0, 1)
    other = StoreWriter(site.log, site.store, site.clock, IngestMetrics(CollectorRegistry()))
    assert other.step() == 1
    with stopped_after(10) as stop, pytest.raises(PositionConflict):
        site.writer.run(stop)
    assert site.writer.problem == "store_position_conflict"
    assert site.values() == [0.0]


@pytest.mark.parametrize("fails", ["before", "after", "away"])
def test_a_store_that_fails_is_waited_for(site: Site, fails: str) -> None:
    stop = threading.Event()
    deaths: list[Exception] = []

    def run() -> None:
        try:
            site.writer.run(stop)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            deaths.append(error)

    site.store.fails = "before" if fails == "away" else fails
    site.append(0, 10)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: site.writer.problem == "store_not_writable", what="the problem")
        if fails == "away":
            site.store.fails = "away"
            site.append(10, 10)
            calls = site.store.calls
            # Its position cannot even be asked for: that must not end the thread.
            eventually(lambda: site.store.asked >= 2, what="it is asked again")
            assert (thread.is_alive(), site.store.calls) == (True, calls)
        site.store.fails = ""
        expected = [float(n) for n in range(20 if fails == "away" else 10)]
        eventually(lambda: site.values() == expected, what="recovery")
        eventually(lambda: not site.writer.problem, what="no problem")
    finally:
        stop.set()
        thread.join(10)
    assert deaths == []
    assert site.stored() == {"d": len(expected)}, "nothing is stored twice"
    assert site.writer.position == site.store.position() == site.log.end()


def test_the_log_learns_how_far_it_may_be_trimmed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "REGISTER_EVERY", 4)
    for number in range(3):
        site.append(number, 1)
    site.writer.step()
    assert site.log.position(CONSUMER) == 0, "not every time"
    site.append(3, 1)
    site.writer.step()
    assert site.log.position(CONSUMER) == 4
    site.restart()
    for number in range(4, 9):
        site.append(number, 1)
    site.writer.step()
    assert site.log.position(CONSUMER) == 9
    site.clock.advance(10)
    assert site.log.trim(site.clock.now_ns()) == 9
    site.append(9, 1)
    site.writer.step()
    assert site.values() == [float(n) for n in range(10)]


def test_latency_is_measured_from_receipt(site: Site) -> None:
    site.clock.time_ns = 12 * SECOND
    site.append(10, 2)
    site.writer.step()
    assert site.meters.get_sample_value("vitalgate_stage_seconds_count", {"stage": "stored"}) == 1
    assert site.meters.get_sample_value("vitalgate_stage_seconds_sum", {"stage": "stored"}) == 2.0


def test_from_the_gateway_to_the_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    patient = world.worn("d")
    stop = threading.Event()
    threads = [threading.Thread(target=run, args=(stop,)) for run in (world.service.run, world.writer.run)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        world.clock.advance(1)
        world.send(world.message("d", spo2(97, world.clock.now_ns())))
    eventually(world.stored_all, what="everything stored")
    stop.set()
    for thread in threads:
        thread.join(10)
    world.check()
    assert len(world.store.export(patient)) == 30
    world.close()
