"""What only the DuckDB store has: compaction, one owner per file, errors."""

import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tests.support import eventually
from vitals.errors import BackendError
from vitals.glossary import Flag
from vitals.model import VitalBatch, batch_from_rows
from vitals.store.duckdb import DuckDBStore
from vitals.times import NO_TIME

DAY = 86_400_000_000_000
T0 = 19_700 * DAY
STEP = 3_600_000_000_000


def hourly(hours: int, patients: int, *, start: int = T0) -> VitalBatch:
    """``hours`` hourly readings of each patient, interleaved by time as they come in."""
    number = np.arange(hours * patients)
    who = (number % patients).astype(np.int32)
    time_ns = start + number // patients * STEP
    names = tuple(f"p_{index}" for index in range(patients))
    small = np.zeros(len(number), dtype=np.uint8)
    return VitalBatch(
        names, names, who, who, np.ones(len(number), np.uint16), time_ns, number, time_ns,
        np.full(len(number), NO_TIME), small, np.zeros(len(number), np.int16), number.astype(np.float64),
        number.astype(np.float64), small, small, np.zeros(len(number), np.uint32), number, time_ns,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "store.duckdb", memory_mb=256, threads=2)


def column(path: Path, statement: str) -> list[object]:
    with duckdb.connect(path, read_only=True) as con:
        return [row[0] for row in con.execute(statement).fetchall()]


def test_compact_sorts_closed_days_and_leaves_the_open_one(store: DuckDBStore, tmp_path: Path) -> None:
    store.write([hourly(60, 3)], expected=0, position=1)
    before = [store.window(f"p_{number}", 1, 0, T0 + 9 * DAY) for number in range(3)]
    assert store.compact(T0 + 2 * DAY + STEP) == 2 * 24 * 3
    assert store.compact(T0 + 2 * DAY + STEP) == 0
    assert (store.rows(), store.position(), dict(store.stored())) == (180, 1, {f"p_{n}": 60 for n in range(3)})
    for number, window in enumerate(before):
        after = store.window(f"p_{number}", 1, 0, T0 + 9 * DAY)
        assert (after.value.tolist(), after.time_ns.tolist()) == (window.value.tolist(), window.time_ns.tolist())
    store.close()
    assert column(tmp_path / "store.duckdb", "SELECT count(*) FROM readings_open") == [36]
    patients = column(tmp_path / "store.duckdb", "SELECT patient FROM readings_closed ORDER BY rowid")
    assert patients == sorted(patients, key=int)  # type: ignore[call-overload]


def test_compact_of_a_day_that_has_not_ended_moves_nothing(store: DuckDBStore) -> None:
    store.write([hourly(24, 2)], expected=0, position=1)
    assert store.compact(T0 + DAY - 1) == 0
    assert store.compact(T0 + DAY) == 48
    store.close()


def test_compact_takes_days_in_several_transactions(
    store: DuckDBStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vitals.store.duckdb._COMPACT_ROWS", 100)
    store.write([hourly(24 * 5, 2, start=-2 * DAY)], expected=0, position=1)
    assert store.compact(3 * DAY) == 240
    assert store.rows() == 240
    store.close()
    # Three days make the first run, the rest the second; each is sorted by itself.
    times = column(tmp_path / "store.duckdb", "SELECT time_ns // 86400000000000 FROM readings_closed ORDER BY rowid")
    assert len(times) == 240
    assert column(tmp_path / "store.duckdb", "SELECT count(*) FROM readings_open") == [0]


def test_revisions_and_retractions_outlive_compaction(store: DuckDBStore) -> None:
    rows = [
        {"device": "d", "patient": "p", "vital": 1, "time_ns": T0 + number, "value": 1.0, "seq": number}
        for number in range(3)
    ]
    store.write([batch_from_rows(rows)], expected=0, position=1)
    store.retract("d", 1, T0, 0)
    store.compact(T0 + DAY)
    store.write([batch_from_rows([{**rows[1], "value": 2.0, "flags": int(Flag.REVISION)}])], expected=1, position=2)
    assert store.window("p", 1, 0, T0 + DAY).value.tolist() == [2.0, 1.0]
    assert store.compact(T0 + DAY) == 1
    assert store.window("p", 1, 0, T0 + DAY).value.tolist() == [2.0, 1.0]
    assert store.erase("p") == 4
    assert store.rows() == 0
    store.close()


def test_readers_see_each_row_once_while_a_bulk_compaction_commits(store: DuckDBStore) -> None:
    """DuckDB shows appends of whole row groups to readers before their transaction is committed."""
    patients, hours = 100, 24 * 400
    store.write([hourly(hours, patients)], expected=0, position=1)
    wrong: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen = len(store.window("p_7", 1, 0, T0 + 500 * DAY).value)
            if seen != hours:
                wrong.append(seen)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    moved = store.compact(T0 + 500 * DAY)
    done.set()
    for reader in readers:
        reader.join()
    assert moved == hours * patients
    assert wrong == []
    store.close()


def test_a_bulk_commit_waits_for_readers_and_goes_before_new_ones(store: DuckDBStore) -> None:
    store.write([hourly(24, 2)], expected=0, position=1)
    counts: list[int] = []
    with store._gate.reading():
        compaction = threading.Thread(target=store.compact, args=(T0 + DAY,))
        compaction.start()
        eventually(lambda: store._gate._shut, what="the waiting commit")
        late = threading.Thread(target=lambda: counts.append(store.rows()))
        late.start()
        late.join(0.05)
        assert compaction.is_alive()
        assert counts == []
        # A write of usual size does not wait for anybody.
        store.write([hourly(1, 2, start=T0 + DAY)], expected=1, position=2)
    compaction.join(10.0)
    late.join(10.0)
    assert counts == [50]
    store.close()


def test_writes_go_on_during_compaction(store: DuckDBStore) -> None:
    store.write([hourly(24 * 200, 20)], expected=0, position=1)
    moved: list[int] = []
    compaction = threading.Thread(target=lambda: moved.append(store.compact(T0 + 300 * DAY)))
    compaction.start()
    position = 1
    while compaction.is_alive():
        # Late readings of days that are being moved.
        late = [
            {"device": "late", "patient": "p_0", "vital": 2, "time_ns": T0 + position, "seq": position, "value": 1.0}
        ]
        store.write([batch_from_rows(late)], expected=position, position=position + 1)
        position += 1
    compaction.join()
    assert position > 1
    assert moved[0] >= 24 * 200 * 20
    assert store.rows() == 24 * 200 * 20 + position - 1
    assert len(store.window("p_0", 2, 0, T0 + DAY).value) == position - 1 == store.stored()["late"]
    store.close()


def test_a_second_owner_is_refused(store: DuckDBStore, tmp_path: Path) -> None:
    opening = "import sys; from pathlib import Path; from vitals.store.duckdb import DuckDBStore; "
    command = [sys.executable, "-c", opening + "DuckDBStore(Path(sys.argv[1]))", str(tmp_path / "store.duckdb")]
    second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "vitals.errors.BackendError" in second.stderr
    assert "lock" in second.stderr
    store.close()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        DuckDBStore(tmp_path / "nowhere" / "store.duckdb")
    assert caught.value.retryable


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.duckdb").write_bytes(b"something else entirely" * 1000)
    with pytest.raises(BackendError, match=r"store\.duckdb"):
        DuckDBStore(tmp_path / "store.duckdb")


def test_a_closed_store_says_so(store: DuckDBStore) -> None:
    store.close()
    with pytest.raises(BackendError) as caught:
        store.rows()
    assert not caught.value.retryable


def test_memory_and_threads_are_bounded(store: DuckDBStore) -> None:
    with store._cursor() as con:
        found = con.execute("SELECT current_setting('threads'), current_setting('memory_limit')").fetchone()
    assert found == (2, "244.1 MiB")
    store.close()
