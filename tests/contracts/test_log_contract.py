"""The contract of ``vitals.ports.Log``, sentence by sentence, for every backend."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contracts.processes import kill_in_the_middle, run
from tests.contracts.victim import body
from tests.support import SECOND, FakeClock, eventually
from vitals.errors import BackendError, PositionConflict
from vitals.log.local import LocalLog
from vitals.ports import Log

Open = Callable[..., Log]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["local"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Open]:
    """Opens the log of this test, again and again if need be; ``read_only`` as another process would."""
    opened: list[Log] = []
    backends = {"local": LocalLog}

    def open_one(*, read_only: bool = False) -> Log:
        opened.append(backends[request.param](tmp_path / "log.db", clock, read_only=read_only))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Open) -> Log:
    return open_log()


def bodies(log: Log, after: int = 0) -> list[bytes]:
    return [row.body for row in log.read(after, limit=100_000)]


def test_a_new_log_is_empty(log: Log) -> None:
    assert (log.end(), log.read(0), log.position("reader")) == (0, [], 0)


def test_positions_start_at_one_and_rise_over_all_streams(log: Log) -> None:
    assert log.append([("a", b"1"), ("b", b"2")]) == [1, 2]
    assert log.append([("a", b"3")]) == [3]
    assert log.end() == 3


def test_appending_nothing_gives_no_positions(log: Log) -> None:
    log.append([("a", b"1")])
    assert (log.append([]), log.end()) == ([], 1)


def test_a_row_is_what_was_appended(log: Log, clock: FakeClock) -> None:
    clock.advance(5)
    log.append([("a", b"\x00\xff"), ("b", b"")])
    first, second = log.read(0)
    assert first == (1, "a", clock.now_ns(), b"\x00\xff")
    assert second == (2, "b", clock.now_ns(), b"")


def test_read_starts_behind_after_and_keeps_to_the_limit_and_the_order(log: Log) -> None:
    log.append([("a", b"%d" % number) for number in range(1, 11)])
    assert [row.position for row in log.read(3, limit=4)] == [4, 5, 6, 7]
    assert [row.position for row in log.read(8)] == [9, 10]
    assert log.read(10) == []


def test_read_of_named_streams_leaves_out_the_others(log: Log) -> None:
    log.append([("a", b"1"), ("b", b"2"), ("c", b"3"), ("a", b"4")])
    assert [row.body for row in log.read(0, streams=["a", "c"])] == [b"1", b"3", b"4"]
    assert [row.body for row in log.read(1, streams=["a"], limit=1)] == [b"4"]
    assert log.read(0, streams=[]) == []


def test_the_default_limit_is_256(log: Log) -> None:
    log.append([("a", b"")] * 300)
    assert len(log.read(0)) == 256


def test_wait_returns_at_once_when_there_is_something(log: Log) -> None:
    log.append([("a", b"1")])
    assert log.wait(0, 60.0) == 1


def test_wait_ends_with_the_time(log: Log) -> None:
    log.append([("a", b"1")])
    assert log.wait(1, 0.02) == 1


@pytest.mark.parametrize("read_only", [False, True])
def test_wait_wakes_when_somebody_appends(log: Log, open_log: Open, read_only: bool) -> None:
    waiting = open_log(read_only=True) if read_only else log
    seen: list[int] = []
    waiter = threading.Thread(target=lambda: seen.append(waiting.wait(0, 30.0)))
    waiter.start()
    log.append([("a", b"1")])
    waiter.join(10.0)
    assert seen == [1]


def test_wait_is_not_ended_by_a_commit_of_a_position(log: Log) -> None:
    seen: list[int] = []
    waiter = threading.Thread(target=lambda: seen.append(log.wait(0, 30.0)))
    waiter.start()
    log.commit("reader", 0, 0)
    assert seen == []
    log.append([("a", b"1")])
    waiter.join(10.0)
    assert seen == [1]


def test_each_consumer_has_a_position_of_its_own(log: Log) -> None:
    log.append([("a", b"")] * 5)
    log.commit("one", 0, 5)
    log.commit("two", 0, 2)
    assert (log.position("one"), log.position("two"), log.position("three")) == (5, 2, 0)


def test_a_position_moves_by_compare_and_set(log: Log) -> None:
    log.append([("a", b"")] * 5)
    log.commit("reader", 0, 3)
    with pytest.raises(PositionConflict) as caught:
        log.commit("reader", 2, 5)
    assert (caught.value.consumer, caught.value.expected, caught.value.found) == ("reader", 2, 3)
    assert not caught.value.retryable
    assert log.position("reader") == 3
    log.commit("reader", 3, 5)
    assert log.position("reader") == 5


def test_of_many_owners_one_wins_each_step(log: Log) -> None:
    conflicts: list[int] = []
    wins: list[int] = []

    def own() -> None:
        for step in range(20):
            try:
                log.commit("reader", step, step + 1)
                wins.append(step)
            except PositionConflict:
                conflicts.append(step)

    owners = [threading.Thread(target=own) for _ in range(3)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join()
    assert len(set(wins)) == len(wins)
    assert len(wins) + len(conflicts) == 60
    assert log.position("reader") == len(wins)


def test_appends_of_many_threads_lose_and_mix_nothing(log: Log) -> None:
    def append(name: str) -> None:
        for number in range(25):
            log.append([(name, b"%d" % number), (name, b"+")])

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = log.read(0, limit=1000)
    assert [row.position for row in rows] == list(range(1, 201))
    assert all(rows[i].stream == rows[i + 1].stream and rows[i + 1].body == b"+" for i in range(0, 200, 2))
    for name in "abcd":
        numbers = [row.body for row in rows if row.stream == name and row.body != b"+"]
        assert numbers == [b"%d" % number for number in range(25)]


def test_trim_deletes_what_is_old_and_passed(log: Log, clock: FakeClock) -> None:
    log.append([("a", b"1"), ("b", b"2")])
    clock.advance(10)
    log.append([("a", b"3")])
    log.commit("reader", 0, 3)
    assert log.trim(clock.now_ns()) == 2
    assert bodies(log) == [b"3"]
    assert log.trim(clock.now_ns()) == 0


def test_trim_never_passes_a_registered_consumer(log: Log, clock: FakeClock) -> None:
    log.append([("a", b"1"), ("a", b"2"), ("a", b"3")])
    log.commit("fast", 0, 3)
    log.commit("slow", 0, 1)
    assert log.trim(clock.now_ns() + SECOND) == 1
    assert bodies(log) == [b"2", b"3"]


def test_trim_waits_for_a_consumer_registered_at_zero(log: Log, clock: FakeClock) -> None:
    log.append([("a", b"1")])
    log.commit("fast", 0, 1)
    log.commit("new", 0, 0)
    assert log.trim(clock.now_ns() + SECOND) == 0


def test_trim_without_a_consumer_deletes_nothing(log: Log, clock: FakeClock) -> None:
    log.append([("a", b"1")])
    assert log.trim(clock.now_ns() + SECOND) == 0


def test_trim_finds_old_entries_behind_newer_ones(log: Log, clock: FakeClock) -> None:
    """A clock that was ahead for a while must not keep entries for ever."""
    clock.advance(1000)
    log.append([("a", b"ahead")])
    clock.advance(-1000)
    log.append([("a", b"old")])
    log.commit("reader", 0, 2)
    assert log.trim(clock.now_ns() + SECOND) == 1
    assert bodies(log) == [b"ahead"]


def test_trim_of_many_entries_is_whole(log: Log, clock: FakeClock) -> None:
    log.append([("a", b"")] * 1501)
    log.commit("reader", 0, 1501)
    assert log.trim(clock.now_ns() + SECOND) == 1501
    assert log.read(0) == []


def test_positions_are_never_used_twice(log: Log, open_log: Open, clock: FakeClock) -> None:
    log.append([("a", b"1"), ("a", b"2")])
    log.commit("reader", 0, 2)
    log.trim(clock.now_ns() + SECOND)
    assert log.end() == 2
    log.close()
    assert open_log().append([("a", b"3")]) == [3]


def test_reopening_finds_entries_and_positions(log: Log, open_log: Open) -> None:
    log.append([("a", b"1"), ("b", b"2")])
    log.commit("reader", 0, 1)
    log.close()
    again = open_log()
    assert bodies(again) == [b"1", b"2"]
    assert (again.end(), again.position("reader")) == (2, 1)


def test_a_reader_sees_appends_of_the_owner(log: Log, open_log: Open) -> None:
    reader = open_log(read_only=True)
    assert reader.end() == 0
    log.append([("a", b"1")])
    assert bodies(reader) == [b"1"]


def test_a_reader_cannot_append(log: Log, open_log: Open) -> None:
    with pytest.raises(BackendError) as caught:
        open_log(read_only=True).append([("a", b"1")])
    assert not caught.value.retryable
    assert log.end() == 0


def test_a_reader_in_another_process_sees_appends(open_log: Open, tmp_path: Path) -> None:
    open_log().close()
    reader = open_log(read_only=True)
    reported = kill_in_the_middle("append", tmp_path / "log.db", 5)
    eventually(lambda: reader.end() >= reported[-1][-1], what="the reader's view")
    assert bodies(reader)[:2] == [body(0), b"0"]


@pytest.mark.parametrize("reports", [1, 40])
def test_what_was_reported_before_a_kill_is_there_after_it(open_log: Open, tmp_path: Path, reports: int) -> None:
    reported = kill_in_the_middle("append", tmp_path / "log.db", reports)
    assert len(reported) >= reports
    log = open_log()
    rows = log.read(0, limit=100_000)
    # Appends are whole: both entries of the last one or none, and no gap.
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) % 2 == 0
    assert log.end() == len(rows) >= reported[-1][-1]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        number = int(second.body)
        assert (first.stream, first.body, second.stream) == ("a", body(number), "b")
    assert log.append([("a", b"goes on")]) == [len(rows) + 1]


def test_a_full_disk_is_retryable_and_leaves_nothing_half_written(open_log: Open, tmp_path: Path) -> None:
    (report,) = run("append-full", tmp_path / "log.db")
    assert report["retryable"] is True
    assert report["number"] > 5
    assert report["after"] == report["before"] == 2 * report["number"]
    assert report["later"] == [report["before"] + 1, report["before"] + 2]
    rows = open_log().read(0, limit=100_000)
    assert [row.body for row in rows[::2]] == [body(number) for number in range(report["number"] + 1)]
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
