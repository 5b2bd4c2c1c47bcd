"""The contract of ``vitals.ports.Store`` under kills, full disks and threads, for every backend."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contracts.processes import kill_in_the_middle, run
from tests.contracts.store_rows import T0, put, reading, values
from tests.contracts.victim import ROWS
from vitals.glossary import Flag
from vitals.ports import Store

Open = Callable[[], Store]


@pytest.mark.parametrize("reports", [1, 15])
def test_what_was_written_before_a_kill_is_there_after_it(open_store: Open, tmp_path: Path, reports: int) -> None:
    reported = kill_in_the_middle("write", tmp_path / "store.db", reports)
    store = open_store()
    writes = store.position()
    # A kill between commit and report may leave one write more; never a part of one.
    assert reported[-1] <= writes <= reported[-1] + 1
    assert store.rows() == writes * ROWS
    assert dict(store.stored()) == {"d0": writes * (ROWS // 2 - 1), "d1": writes * (ROWS // 2 - 1)}
    assert sum(len(store.export(f"p_{number}")) for number in range(5)) == writes * ROWS
    put(store, reading())
    assert store.rows() == writes * ROWS + 1


def test_a_full_disk_is_retryable_and_leaves_nothing_half_written(open_store: Open, tmp_path: Path) -> None:
    full, later = run("write-full", tmp_path / "store.db")
    assert full["retryable"] is True, full
    assert full["number"] > 1
    writes = full["number"] + 1
    assert (later["position"], later["rows"]) == (writes, writes * ROWS)
    store = open_store()
    assert (store.position(), store.rows(), dict(store.stored())) == (writes, writes * ROWS, later["stored"])


def test_readers_and_the_writer_share_the_store(store: Store) -> None:
    """Every view is that of some committed write: never a reading beside its revision, never a part of a write."""
    writes, size = 40, 20
    wrong: list[list[float]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen = values(store)
            if seen and seen != [seen[0]] * size:
                wrong.append(seen)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(writes):
        flags = int(Flag.REVISION) if number else 0
        put(store, *(reading(T0 + row, float(number), flags=flags) for row in range(size)))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert values(store) == [float(writes - 1)] * size
