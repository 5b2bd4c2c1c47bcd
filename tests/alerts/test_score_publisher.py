"""Scores into the vitals log exactly once: real files, and an end at every step."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alerts import service
from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine, Folded
from alerts.judging.scoring import DEVICE, ScoreContext, ScoreTable, is_scores, score_rows
from alerts.judging.slots import rows_of
from alerts.rules.spec import CompiledScore
from alerts.scores import publish
from alerts.scores.publish import CONSUMER, READ, REGISTER_EVERY, ScorePublisher
from alerts.scores.tables import AgeBand, Pregnancy
from alerts.service import AlertService
from tests.alerts.alert_world import limit, limits_control, reading
from tests.alerts.news2_world import WELL
from tests.ingest.ingest_world import World, spo2
from tests.support import SECOND, FakeClock, eventually
from vitals.catalog import BY_CODE
from vitals.encoding import decode, encode
from vitals.errors import BackendError, InvalidRequest, PositionConflict
from vitals.log.local import LocalLog, LocalTransaction
from vitals.model import Entry, Tick, VitalBatch, batch_from_rows
from vitals.times import HOUR_NS

HOME = CompiledScore(tuple((key, False) for key in ("resp_rate", "spo2", "bp_sys", "pulse_rate", "temp")), True, True)
ADULT = ScoreContext(AgeBand.ADULT, Pregnancy.NO, 1, 0)
DAY_NS = 24 * HOUR_NS
STEPS = ("before_append", "before_commit", "before_forget", "after_forget")


class Killed(BaseException):
    """The process ends here."""


class EndingLog(LocalLog):
    """A real log at whose commit the process may end, and whose disk may be full."""

    ends = ""
    refused = 0

    @contextmanager
    def transaction(self) -> Iterator[LocalTransaction]:
        if self.ends == "full":
            self.refused += 1
            raise BackendError("disk is full", retryable=True)
        if self.ends == "before_append":
            raise Killed
        with super().transaction() as tx:
            yield tx
            if self.ends == "before_commit":
                raise Killed


class EndingBook(SqlAlertBook):
    """A real book at whose clearing the process may end."""

    ends = ""

    def forget_derived(self, upto: int) -> None:
        if self.ends == "before_forget":
            raise Killed
        super().forget_derived(upto)
        if self.ends == "after_forget":
            raise Killed

    def save_snapshot(self, position: int, data: bytes) -> None:
        if self.ends == "no_snapshots":
            raise BackendError("killed before", retryable=True)
        super().save_snapshot(position, data)


def is_scored(body: bytes) -> bool:
    entry = decode(body)
    return isinstance(entry, VitalBatch) and is_scores(entry)


def scores(second: int, value: float = 97) -> VitalBatch:
    """What one tick makes of a patient."""
    table = ScoreTable()
    table.expect("p_1", HOME, ADULT)
    rows = [reading(0, number, vital=key) for key, number in ({**WELL, "spo2": value}).items()]
    table.observe(("p_1",), rows_of(batch_from_rows(rows)))
    return score_rows(table.tick(rows[0]["time_ns"] + second * SECOND))


class House:
    """The log and the book of a core."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FakeClock()
        self.open()

    def open(self) -> None:
        self.log = EndingLog(self.folder / "vitals.db", self.clock)
        self.book = EndingBook(f"sqlite:///{self.folder / 'book.db'}")
        self.publisher = ScorePublisher(self.log, self.book)

    def close(self) -> None:
        self.log.close()
        self.book.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def derive(self, position: int, body: bytes) -> None:
        """The engine recorded what the entry at ``position`` made."""
        self.book.apply([], [], expected=self.book.position(), position=position, derived=[(position, body)])

    def fold(self) -> None:
        """The engine, until it stands at the end of the log."""
        stop = threading.Event()
        run = AlertService(self.log, self.book, Engine(), self.clock).run
        thread = threading.Thread(target=run, args=(stop,))
        thread.start()
        try:
            eventually(lambda: self.book.position() == self.log.end(), what="the engine to catch up")
        finally:
            stop.set()
            thread.join(10.0)

    def published(self) -> list[bytes]:
        return [row.body for row in self.log.read(0, limit=10_000, streams=("vitals",))]

    def waiting(self) -> list[bytes]:
        return self.book.derived(0, 1000)[1]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    opened = House(tmp_path)
    yield opened
    opened.close()


def test_scores_reach_the_log_in_order_and_leave_the_book(house: House) -> None:
    bodies = [encode(scores(second, spo2)) for second, spo2 in ((10, 97), (70, 90), (130, 94))]
    for position, body in zip((5, 9, 30), bodies, strict=True):
        house.derive(position, body)
    assert house.publisher.step() == 3
    assert (house.published(), house.waiting(), house.log.position(CONSUMER)) == (bodies, [], 30)
    assert house.publisher.step() == 0
    entry = decode(house.published()[1])
    assert isinstance(entry, VitalBatch)
    assert (entry.devices, entry.value.tolist()) == ((DEVICE,), [3.0, 1.0])


@pytest.mark.parametrize("again", STEPS)
@pytest.mark.parametrize("step", STEPS)
def test_an_end_at_any_step_neither_loses_nor_doubles(house: House, step: str, again: str) -> None:
    bodies = [encode(scores(60 * number, 97 - number)) for number in range(1, 6)]
    for position, body in enumerate(bodies[:3], 1):
        house.derive(position, body)
    for ends, later in ((step, bodies[3]), (again, bodies[4])):
        house.log.ends = house.book.ends = ends
        with pytest.raises(Killed):
            house.publisher.run(threading.Event())
        house.restart()
        house.derive(house.book.position() + 1, later)
    house.publisher.step()
    assert (house.published(), house.waiting()) == (bodies, [])


def test_what_a_crash_left_in_the_book_is_cleared_without_news(house: House) -> None:
    house.derive(1, encode(scores(1)))
    house.book.ends = "before_forget"
    with pytest.raises(Killed):
        house.publisher.step()
    house.restart()
    assert len(house.waiting()) == 1
    assert house.publisher.step() == 0
    assert (len(house.published()), house.waiting()) == (1, [])


def test_a_long_queue_is_published_in_parts(house: House) -> None:
    body = encode(scores(1))
    some = 2 * READ + 3
    derived = [(position, body) for position in range(1, some + 1)]
    house.book.apply([], [], expected=0, position=some + 100, derived=derived)
    assert [house.publisher.step() for _ in range(4)] == [READ, READ, 3, 0]
    assert house.log.position(CONSUMER) == some + 100
    assert len(house.published()) == some


def test_where_nothing_is_scored_the_log_is_trimmed_all_the_same(house: House) -> None:
    house.log.append([("vitals", b"x")] * (REGISTER_EVERY + 1))
    house.book.apply([], [], expected=0, position=1, derived=[(1, encode(scores(1)))])
    house.publisher.step()
    house.clock.advance(60)
    assert house.log.trim(house.clock.now_ns()) == 1
    house.book.apply([], [], expected=1, position=REGISTER_EVERY)
    house.publisher.step()
    assert house.log.position(CONSUMER) == 1, "not for every entry"
    house.book.apply([], [], expected=REGISTER_EVERY, position=REGISTER_EVERY + 1)
    house.publisher.step()
    assert house.log.position(CONSUMER) == REGISTER_EVERY + 1
    assert house.log.trim(house.clock.now_ns()) == REGISTER_EVERY


def test_a_second_owner_fails_instead_of_doubling(house: House) -> None:
    house.derive(1, encode(scores(1)))

    class Late(SqlAlertBook):
        """Between reading and publishing, another owner is faster."""

        def derived(self, after: int, limit: int) -> tuple[int, list[bytes]]:
            found = super().derived(after, limit)
            house.publisher.step()
            return found

    late = Late(f"sqlite:///{house.folder / 'book.db'}")
    with pytest.raises(PositionConflict, match=CONSUMER):
        ScorePublisher(house.log, late).run(threading.Event())
    late.close()
    assert len(house.published()) == 1


def test_a_full_disk_is_waited_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "LOOK_S", 0.01)
    house.derive(1, encode(scores(1)))
    house.log.ends = "full"
    stop = threading.Event()
    thread = threading.Thread(target=house.publisher.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: house.log.refused > 2, what="several tries")
        assert len(house.waiting()) == 1
        house.log.ends = ""
        eventually(lambda: not house.waiting(), what="the scores to be published")
    finally:
        stop.set()
        thread.join(10.0)
    assert len(house.published()) == 1


def test_what_a_conflicting_engine_made_is_not_kept(house: House) -> None:
    house.derive(5, encode(scores(1)))
    with pytest.raises(PositionConflict):
        house.book.apply([], [], expected=4, position=6, derived=[(6, encode(scores(2)))])
    assert len(house.waiting()) == 1


def test_scores_of_the_log_are_not_judged_again() -> None:
    engine = Engine()
    engine.apply(1, limits_control(1, limit(vital="spo2")))
    before = engine.snapshot()
    assert engine.apply(2, scores(10, 80)) == Folded([], None)
    again = Engine.restore(before)
    again.position = 2
    assert engine.snapshot() == again.snapshot()


class Scoring(Engine):
    """An engine that scores one patient, whatever protocols say."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = ScoreTable()
        self.scores.expect("p_1", HOME, ADULT)

    def apply(self, position: int, entry: Entry) -> Folded:
        folded = super().apply(position, entry)
        if isinstance(entry, VitalBatch) and not is_scores(entry):
            self.scores.observe(entry.patients, rows_of(entry))
        elif isinstance(entry, Tick) and len(scored := self.scores.tick(entry.watermark_ns)):
            return folded._replace(derived=score_rows(scored))
        return folded


def test_what_the_engine_makes_goes_through_book_and_log_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round ends in the middle of publishing, without a snapshot: the next folds everything again."""
    monkeypatch.setattr(service, "Engine", Scoring)
    start = reading(0, 0)["time_ns"]
    taken = batch_from_rows([reading(0, value, vital=key) for key, value in WELL.items()])
    rounds = [[taken, Tick(start), Tick(start + 30 * SECOND)], [Tick(start + 13 * HOUR_NS)], [Tick(start + DAY_NS)]]
    for entries in rounds:
        house.log.append([("vitals", encode(entry)) for entry in entries])
        house.book.ends = "no_snapshots"
        house.fold()
        house.book.ends = "before_forget"
        with pytest.raises(Killed):
            house.publisher.step()
        house.restart()
    house.publisher.step()
    alone, expected = Scoring(), list[bytes]()
    for position, entry in enumerate((entry for entries in rounds for entry in entries), 1):
        derived = alone.apply(position, entry).derived
        expected += [] if derived is None else [encode(derived)]
    assert [body for body in house.published() if is_scored(body)] == expected
    assert (len(expected), house.waiting()) == (2, []), "complete, then partial"


def test_the_ledgers_of_devices_do_not_count_scores(tmp_path: Path) -> None:
    world = World(tmp_path)
    patient = world.worn("d")
    with pytest.raises(InvalidRequest):
        world.device(DEVICE)
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    batch = scores(10)
    world.log.append([("vitals", encode(batch.replace(patients=(patient,))))])
    world.drain()
    held = world.store.latest(patient)
    assert {BY_CODE[vital].key for vital in held.vital.tolist()} == {"spo2", "news2", "news2_red"}
    assert [(ledger.device, ledger.readings.stored) for ledger in world.service.ledgers()] == [("d", 1)]
    world.close()
