"""The service over a real log and book: recovery, back-off, conflicts, decisions, and kill -9."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts.book.sql import CONSUMER, SqlAlertBook
from alerts.engine import Engine
from alerts.service import AlertService, ControlDesk, Observation
from tests.alerts.alert_world import at, batch, control, limit, limits_control, reading
from tests.support import FakeClock, eventually
from vitals.encoding import CorruptEntry, encode
from vitals.errors import BackendError, InvalidRequest, NotFound, PositionConflict
from vitals.glossary import AlertState, ControlKind
from vitals.log.local import LocalLog
from vitals.model import Control, Entry, Tick
from vitals.records import AlertEvent, BookedEvent
from vitals.registry.sql import SqlRegistry

ROOT = Path(__file__).parents[2]


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()


class House:
    """A log, a book, and a service in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = LocalLog(folder / "vitals.db", SystemClock())
        self.book = SqlAlertBook(f"sqlite:///{folder / 'book.db'}")
        self.clock = FakeClock(at(5))
        self.registry = SqlRegistry(folder / "registry.db", self.clock)
        self.observed: list[Observation] = []
        self.failure: list[BaseException] = []
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def service(self, **options: Any) -> AlertService:
        options = {"log": self.log, "book": self.book} | options
        return AlertService(engine=Engine(), clock=self.clock, observe=self.observed.append, **options)

    def start(self, **options: Any) -> None:
        self.stop.clear()
        service = self.service(**options)

        def run() -> None:
            try:
                service.run(self.stop)
            except BackendError as error:
                self.failure.append(error)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def halt(self) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join(10.0)
            assert not self.thread.is_alive()

    def append(self, *entries: Entry, stream: str = "vitals") -> int:
        return self.log.append([(stream, encode(entry)) for entry in entries])[-1]

    def settle(self) -> None:
        end = self.log.end()
        eventually(lambda: self.book.position() == end, what="the service to catch up")

    def told(self) -> list[BookedEvent]:
        return self.book.events_between(0, 2**60)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.halt()
    opened.registry.close()
    opened.book.close()
    opened.log.close()


def history(rounds: int, first: int = 0) -> list[Entry]:
    """Each round: readings that alert and recover, and a tick."""
    entries: list[Entry] = []
    for number in range(first, first + rounds):
        second = 100 * number
        rows = [
            reading(second + 10 * k, value, seq=second + k) for k, value in enumerate([80.0, 97.0, 85.0, 80.0, 99.0])
        ]
        entries += [batch(*rows[:2]), batch(*rows[2:]), Tick(at(second + 60))]
    return entries


RULES = limits_control(1, limit(severity="S1", low=82.0), limit(on_delay_s=5.0, severity="S2"), limit(severity="S3"))


def expected(entries: Sequence[Entry]) -> list[BookedEvent]:
    engine, out = Engine(), list[BookedEvent]()
    for position, entry in enumerate(entries, 1):
        out += [BookedEvent(position, event) for event in engine.apply(position, entry).events]
    return out


def test_the_log_becomes_alerts(house: House) -> None:
    entries = [RULES, *history(3)]
    house.start()
    for entry in entries:
        house.append(entry)
    house.settle()
    assert msgspec.json.encode(house.told()) == msgspec.json.encode(expected(entries))
    assert house.book.evaluated_to_ns() == at(260)
    assert house.book.limits("p_1")[0] == 1


def test_what_is_recorded_is_observed_with_its_latency(house: House) -> None:
    house.append(RULES, batch(reading(0, 81.0)))
    house.append(Tick(at(6)))
    house.start()
    house.settle()
    house.halt()
    seen = {(item.event.kind, item.event.rule): item.latency_s for item in house.observed}
    assert seen == {
        ("raised", "limit:spo2:low:S1"): pytest.approx(4.0),
        ("raised", "limit:spo2:low:S3"): pytest.approx(4.0),
        ("raised", "limit:spo2:low:S2"): None,
    }, "received at 1 s, recorded at 5 s; the delay of S2 is no latency"


def test_a_stopped_service_goes_on_from_its_snapshot(house: House) -> None:
    entries = [RULES, *history(4)]
    house.append(*entries[:7])
    house.start()
    house.settle()
    house.halt()
    saved = house.book.latest_snapshot()
    assert saved is not None
    assert saved[0] == 7 == house.log.position(CONSUMER)
    house.append(*entries[7:])
    house.start()
    house.settle()
    assert msgspec.json.encode(house.told()) == msgspec.json.encode(expected(entries))


def test_snapshots_are_taken_by_rows_and_by_time(house: House) -> None:
    house.append(RULES, *history(3))
    house.start(snapshot_every_rows=4, read_rows=2)
    house.settle()
    eventually(lambda: house.log.position(CONSUMER) >= 8, what="a snapshot by rows")
    house.halt()
    house.start(snapshot_every_s=0.0)
    position = house.append(Tick(at(999)))
    eventually(lambda: house.log.position(CONSUMER) == position, what="a snapshot by time")


def test_the_log_is_never_trimmed_past_the_snapshot(house: House) -> None:
    house.append(RULES, *history(2))
    house.start()
    house.settle()
    assert house.log.trim(2**62) == 0, "no snapshot yet: a restart needs everything"
    house.halt()
    assert house.log.trim(2**62) == 7
    house.append(*history(1, first=2))
    house.start()
    house.settle()
    assert house.told()[-1].position > 7


def test_other_streams_are_passed_over_without_spinning(house: House) -> None:
    house.append(RULES)
    house.append(*history(2), stream="elsewhere")
    position = house.append(batch(reading(0, 80.0)))
    house.start()
    eventually(lambda: house.book.position() == position)
    house.append(Tick(at(1)), stream="elsewhere")
    spun = time.process_time()
    house.stop.wait(0.6)
    assert time.process_time() - spun < 0.3
    assert {booked.position for booked in house.told()} == {position}


class FlakyBook:
    """A book whose disk is full at first, and once loses the answer of a commit that it made."""

    def __init__(self, book: SqlAlertBook) -> None:
        self.book = book
        self.failures = 3

    def __getattr__(self, name: str) -> Any:
        return getattr(self.book, name)

    def apply(self, *args: Any, **kwargs: Any) -> None:
        self.failures -= 1
        if self.failures >= 1:
            raise BackendError("disk full", retryable=True)
        self.book.apply(*args, **kwargs)
        if self.failures == 0:
            raise BackendError("connection lost after the commit", retryable=True)


def test_a_book_that_fails_for_a_while_costs_nothing(house: House) -> None:
    entries = [RULES, *history(3)]
    house.append(*entries)
    house.start(book=FlakyBook(house.book), read_rows=4)
    house.settle()
    assert msgspec.json.encode(house.told()) == msgspec.json.encode(expected(entries))
    assert not house.failure


def test_a_second_owner_stops_loudly(house: House) -> None:
    house.append(RULES)
    house.start()
    house.settle()
    house.book.apply([], [], expected=1, position=2)
    house.append(Tick(at(0)), Tick(at(1)))
    eventually(lambda: house.failure, what="the conflict")
    assert isinstance(house.failure[0], PositionConflict)


def test_a_corrupt_entry_stops_loudly(house: House) -> None:
    house.log.append([("vitals", b"VG garbage")])
    house.start()
    eventually(lambda: house.failure, what="the failure")
    assert isinstance(house.failure[0], CorruptEntry)


def test_a_book_ahead_of_the_log_is_refused(house: House) -> None:
    house.book.apply([], [], expected=0, position=7)
    with pytest.raises(BackendError, match="do not belong together"):
        house.service().run(threading.Event())


def test_a_new_book_on_a_trimmed_log_is_refused(house: House) -> None:
    house.append(RULES, *history(1))
    house.log.commit(CONSUMER, 0, 3)
    with pytest.raises(BackendError, match="log kept from 3"):
        house.service().run(threading.Event())


def test_a_stop_during_recovery_leaves_everything_as_it_was(house: House) -> None:
    entries = [RULES, *history(2)]
    house.append(*entries)
    house.start(snapshot_every_s=3600.0)
    house.settle()

    class StopsWhenAsked(threading.Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 2

    stop = StopsWhenAsked()
    before = house.told()
    house.halt()
    with house.book._transaction() as tx:
        tx.exec_driver_sql("DELETE FROM alert_snapshots")
    house.log.commit(CONSUMER, house.log.position(CONSUMER), 0)
    house.service(read_rows=2).run(stop)
    assert house.book.latest_snapshot() is None, "a half recovered engine is not saved"
    assert house.told() == before


def test_a_snapshot_that_cannot_be_written_at_the_end_is_done_without(house: House) -> None:
    class NoRoom(FlakyBook):
        failures = -1

        def save_snapshot(self, position: int, data: bytes) -> None:
            raise BackendError("disk full", retryable=True)

    house.append(RULES)
    book = NoRoom(house.book)
    book.failures = -1
    house.start(book=book)
    house.settle()
    house.halt()
    assert not house.failure


class TestControlDesk:
    def test_a_decision_is_applied_when_submit_returns(self, house: House) -> None:
        house.start()
        desk = ControlDesk(house.log, house.book, house.book, house.registry)
        desk.submit(RULES)
        house.append(batch(reading(0, 80.0)))
        house.settle()
        alert = next(item for item in house.book.alerts() if item.rule.endswith("S1"))
        position = desk.submit(control(ControlKind.ACKNOWLEDGE, 5, alert=alert.id, note="going"))
        after = house.book.alert(alert.id)
        assert (after.state, after.owner, after.position) == (AlertState.ACTIVE_ACK, "nurse_b", position)

    def test_what_is_refused_does_not_enter_the_log(self, house: House) -> None:
        desk = ControlDesk(house.log, house.book, house.book, house.registry)
        with pytest.raises(InvalidRequest):
            desk.submit(limits_control(1, limit(low=None)))
        with pytest.raises(NotFound):
            desk.submit(control(ControlKind.ACKNOWLEDGE, 5, alert="a_nobody"))
        assert house.log.end() == 0

    def test_an_engine_that_stands_still_is_said(self, house: House) -> None:
        desk = ControlDesk(house.log, house.book, house.book, house.registry, applied_within_s=0.05)
        with pytest.raises(BackendError, match="not applied") as caught:
            desk.submit(RULES)
        assert caught.value.retryable
        assert house.log.end() == 1, "the entry stays"

    def test_of_two_people_who_set_the_same_version_one_is_told(self, house: House) -> None:
        outcome: dict[float, str] = {}
        barrier = threading.Barrier(2)

        class Together:
            """Lets both read the book before either writes the log."""

            def __getattr__(self, name: str) -> Any:
                return getattr(house.log, name)

            def append(self, entries: Any) -> list[int]:
                barrier.wait(10.0)
                return house.log.append(entries)

        def submit(low: float) -> None:
            try:
                desk = ControlDesk(Together(), house.book, house.book, house.registry)  # type: ignore[arg-type]
                desk.submit(limits_control(1, limit(low=low)))
                outcome[low] = "set"
            except InvalidRequest as refused:
                outcome[low] = refused.field

        house.start()
        threads = [threading.Thread(target=submit, args=(low,)) for low in (85.0, 88.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcome.values()) == ["set", "version"]
        winner = next(low for low, said in outcome.items() if said == "set")
        assert house.book.limits("p_1")[1][0]["low"] == winner

    @pytest.mark.parametrize("version", [1, None])
    def test_of_two_changes_at_once_a_named_version_is_made_once(self, house: House, version: int | None) -> None:
        """Both ask one desk at the same moment. Who names no version gets the next one."""
        desk = ControlDesk(house.log, house.book, house.book, house.registry)
        start, made, refused = threading.Barrier(2), list[int](), list[str]()

        def revise(low: float) -> None:
            body = {"patient": "p_1", "reason": "", "limits": [limit(low=low)]}
            start.wait(10.0)
            try:
                made.append(desk.revise(Control(ControlKind.LIMITS, at(1), "dr_a", body), version))
            except InvalidRequest as error:
                refused.append(error.field)

        house.start()
        threads = [threading.Thread(target=revise, args=(low,)) for low in (85.0, 88.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (sorted(made), refused) == (([1], ["version"]) if version else ([1, 2], []))
        assert [one.version for one in house.book.limits_history("p_1")] == sorted(made, reverse=True)
        assert house.log.end() == len(made), "what is refused never enters the log"

    def test_only_what_has_versions_is_revised(self, house: House) -> None:
        desk = ControlDesk(house.log, house.book, house.book, house.registry)
        for kind, body, field in (
            (ControlKind.STATUS, {"patient": "p_1"}, "kind"),
            (ControlKind.CONTEXT, {"reason": "x"}, "patient"),
            (ControlKind.PROGRAMME, {"programme": 7}, "programme"),
        ):
            with pytest.raises(InvalidRequest) as caught:
                desk.revise(Control(kind, at(1), "dr_a", body))
            assert caught.value.field == field
        assert house.log.end() == 0

    def test_a_status_changes_registry_and_log_or_neither(self, house: House) -> None:
        desk = ControlDesk(house.log, house.book, house.book, house.registry)
        patient = house.registry.add_patient().id
        house.start()

        def said(**body: Any) -> Control:
            return Control(ControlKind.STATUS, at(1), "dr_a", {"patient": patient, "status": "paused"} | body)

        for body, field in (({"from_ns": -1}, "from_ns"), ({"from_ns": 5, "check_ns": 5}, "check_ns")):
            with pytest.raises(InvalidRequest) as caught:
                desk.set_status(said(**body))
            assert caught.value.field == field
        with pytest.raises(NotFound):
            desk.set_status(said(from_ns=at(0), patient="p_nobody"))
        assert (house.registry.patient(patient).status, house.log.end()) == ("active", 0)
        assert desk.set_status(said(from_ns=at(0))).status == "paused"
        assert house.registry.patient(patient).status == "paused"
        assert [(one.status, one.from_ns) for one in house.book.statuses(patient)] == [("paused", at(0))]


_WORKER = """
import sys, threading, signal, time
from pathlib import Path
sys.path.insert(0, ".")
from tests.alerts.test_alert_service import House
house = House(Path(sys.argv[1]))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("up", flush=True)
house.service(read_rows=3, snapshot_every_rows=11).run(stop)
house.book.close(); house.log.close()
"""


@contextmanager
def worker_on(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The service in a process of its own that is ready for signals; gone, however the block ends."""
    command = [sys.executable, "-c", _WORKER, str(folder)]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "up\n"
            yield worker
        finally:
            worker.kill()


def test_killed_at_any_moment_every_alert_is_there_exactly_once(house: House) -> None:
    entries: list[Entry] = [RULES]
    house.append(RULES)
    rng = random.Random(20)
    for life in range(6):
        with worker_on(house.folder) as worker:
            killed_after = house.book.position() + rng.randint(1, 25)
            for entry in history(15, first=15 * life):
                entries.append(entry)
                house.append(entry)
            assert house.book.wait(min(killed_after, house.log.end()), 20.0)
            worker.send_signal(signal.SIGKILL)
            assert worker.wait(10.0) == -signal.SIGKILL
    with worker_on(house.folder) as last:
        assert house.book.wait(house.log.end(), 20.0)
        last.terminate()
        assert last.wait(10.0) == 0
    told = house.told()
    assert msgspec.json.encode(told) == msgspec.json.encode(expected(entries))
    assert len(told) > 100
    events: list[AlertEvent] = [booked.event for booked in told]
    assert len({event.id for event in events}) == len(events)
