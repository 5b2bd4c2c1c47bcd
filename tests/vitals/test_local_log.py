"""What only the local log has: shared tables, sealing, one file, SQLite's errors."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from tests.support import FakeClock, eventually
from vitals.errors import BackendError, PositionConflict
from vitals.log.local import LocalLog
from vitals.vault import Vault, VaultError

SCHEMA = "CREATE TABLE IF NOT EXISTS counters(device TEXT PRIMARY KEY, received INTEGER NOT NULL);"
SEALER = Vault(bytes(32)).zone("raw")


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    return LocalLog(tmp_path / "raw.db", FakeClock(), schema=SCHEMA)


def test_tables_that_share_the_file_change_with_the_log_or_not_at_all(log: LocalLog) -> None:
    with log.transaction() as tx:
        assert tx.append("a", b"1") == 1
        tx.connection.execute("INSERT INTO counters VALUES('d1', 1)")
        tx.commit_position("reader", 0, 1)

    def conflict() -> None:
        with log.transaction() as tx:
            tx.append("a", b"2")
            tx.connection.execute("UPDATE counters SET received = 2")
            tx.commit_position("reader", 0, 2)

    with pytest.raises(PositionConflict):
        conflict()
    assert (log.end(), log.position("reader")) == (1, 1)
    assert log.query("SELECT device, received FROM counters WHERE device = ?", ("d1",)) == [("d1", 1)]
    assert log.append([("a", b"3")]) == [2]
    log.close()


def test_a_foreign_exception_rolls_back_and_passes(log: LocalLog) -> None:
    def fail() -> None:
        with log.transaction() as tx:
            tx.append("a", b"1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert log.end() == 0
    assert log.append([("a", b"1")]) == [1]
    log.close()


def test_a_transaction_inside_a_transaction_is_refused_instead_of_hanging(log: LocalLog) -> None:
    with log.transaction() as tx:
        tx.append("a", b"1")
        with pytest.raises(BackendError, match="in this thread") as caught:
            log.append([("a", b"2")])
        assert not caught.value.retryable
    assert [row.body for row in log.read(0)] == [b"1"]
    log.close()


def test_a_violated_constraint_keeps_its_type(log: LocalLog) -> None:
    def violate() -> None:
        with log.transaction() as tx:
            tx.append("a", b"1")
            tx.connection.execute("INSERT INTO counters VALUES('d1', NULL)")

    with pytest.raises(sqlite3.IntegrityError):
        violate()
    assert log.end() == 0
    log.close()


def test_a_wrong_statement_is_not_worth_a_retry(log: LocalLog) -> None:
    with pytest.raises(BackendError) as caught, log.transaction() as tx:
        tx.connection.execute("INSERT INTO nowhere VALUES(1)")
    assert not caught.value.retryable
    with pytest.raises(BackendError) as caught:
        log.query("SELECT nonsense")
    assert not caught.value.retryable
    log.close()


def test_readers_cannot_write_by_query(log: LocalLog) -> None:
    with pytest.raises(BackendError):
        log.query("DELETE FROM entries")
    log.close()


def test_a_full_database_is_retryable_and_whole(log: LocalLog) -> None:
    log.append([("a", b"first")])
    with log.transaction() as tx:
        (pages,) = tx.connection.execute("PRAGMA page_count").fetchone()
        tx.connection.execute(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(BackendError, match="full") as caught:
        log.append([("a", b"small"), ("a", bytes(200_000))])
    assert caught.value.retryable
    assert [row.body for row in log.read(0)] == [b"first"]
    with log.transaction() as tx:
        tx.connection.execute("PRAGMA max_page_count=100000")
    assert log.append([("a", b"small"), ("a", bytes(200_000))]) == [2, 3]
    log.close()


def test_a_locked_file_is_retryable(log: LocalLog, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "raw.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with log._write_lock:
        assert log._writer is not None
        log._writer.execute("PRAGMA busy_timeout=1")
    with pytest.raises(BackendError, match="locked") as caught:
        log.append([("a", b"1")])
    assert caught.value.retryable
    other.execute("ROLLBACK")
    assert log.append([("a", b"1")]) == [1]
    other.close()
    log.close()


def test_commits_are_synchronous_and_in_wal_mode(log: LocalLog) -> None:
    with log.transaction() as tx:
        assert tx.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        # 2 = FULL: the log is flushed to the disk by every commit.
        assert tx.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    log.close()


def test_a_commit_does_not_wait_for_a_reader_in_wait(log: LocalLog) -> None:
    """A read that takes long may hold up who waits for entries, never who appends them."""
    seen: list[int] = []
    with log._read_lock:
        waiter = threading.Thread(target=lambda: seen.append(log.wait(0, 30.0)))
        waiter.start()
        appender = threading.Thread(target=lambda: log.append([("a", b"1")]))
        appender.start()
        appender.join(10.0)
        assert not appender.is_alive()
    waiter.join(10.0)
    assert seen == [1]
    log.close()


def test_an_append_between_look_and_wait_is_not_missed(log: LocalLog) -> None:
    for position in range(1, 200):
        appender = threading.Thread(target=log.append, args=([("a", b"")],))
        appender.start()
        assert log.wait(position - 1, 10.0) == position
        appender.join()
    log.close()


# Reading from another process


@pytest.mark.parametrize("read_only", [True, False])
def test_a_log_that_cannot_be_opened_is_retryable(tmp_path: Path, read_only: bool) -> None:
    with pytest.raises(BackendError) as caught:
        LocalLog(tmp_path / "nowhere" / "raw.db", FakeClock(), read_only=read_only)
    assert caught.value.retryable


def test_a_reader_that_comes_first_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        LocalLog(tmp_path / "raw.db", FakeClock(), read_only=True)
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_a_file_that_is_no_log_yet_may_come_again(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "raw.db").close()
    (tmp_path / "raw.db").touch()
    with pytest.raises(BackendError, match="no log yet") as caught:
        LocalLog(tmp_path / "raw.db", FakeClock(), read_only=True)
    assert caught.value.retryable
    LocalLog(tmp_path / "raw.db", FakeClock()).close()
    LocalLog(tmp_path / "raw.db", FakeClock(), read_only=True).close()


def test_a_reader_finds_the_shared_tables(log: LocalLog, tmp_path: Path) -> None:
    reader = LocalLog(tmp_path / "raw.db", FakeClock(), read_only=True)
    with log.transaction() as tx:
        tx.connection.execute("INSERT INTO counters VALUES('d1', 5)")
    assert reader.query("SELECT received FROM counters") == [(5,)]
    reader.close()
    log.close()


def test_a_file_of_something_else_is_refused_for_good(tmp_path: Path) -> None:
    (tmp_path / "raw.db").write_bytes(b"this is not a database at all" * 500)
    with pytest.raises(BackendError, match="not a database") as caught:
        LocalLog(tmp_path / "raw.db", FakeClock())
    assert not caught.value.retryable


def test_a_path_with_special_characters_is_a_path(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "a b%20?mode=ro#ü.db", FakeClock())
    assert log.append([("a", b"1")]) == [1]
    assert (tmp_path / "a b%20?mode=ro#ü.db").exists()
    log.close()


def test_the_files_are_for_the_owner_only(log: LocalLog, tmp_path: Path) -> None:
    log.append([("a", b"1")])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"raw.db": 0o600, "raw.db-wal": 0o600, "raw.db-shm": 0o600}
    log.close()


def test_a_closed_log_says_so(log: LocalLog) -> None:
    log.close()
    log.close()
    for use in (log.end, lambda: log.append([("a", b"1")])):
        with pytest.raises(BackendError) as caught:
            use()
        assert not caught.value.retryable


# Sealing


def test_sealed_bodies_are_read_back_and_not_on_disk(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "raw.db", FakeClock(), sealer=SEALER)
    log.append([("a", b"glucose of Marianne"), ("b", b"")])
    assert [row.body for row in log.read(0)] == [b"glucose of Marianne", b""]
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert all(b"Marianne" not in path.read_bytes() for path in files)
    log.close()


@pytest.mark.parametrize("sealer", [Vault(bytes(32)).zone("quarantine"), Vault(b"\x01" * 32).zone("raw")])
def test_another_zone_or_key_opens_no_entry(tmp_path: Path, sealer: object) -> None:
    LocalLog(tmp_path / "raw.db", FakeClock(), sealer=SEALER).append([("a", b"payload")])
    log = LocalLog(tmp_path / "raw.db", FakeClock(), sealer=sealer)  # type: ignore[arg-type]
    with pytest.raises(VaultError):
        log.read(0)
    log.close()


def test_an_entry_does_not_open_in_another_log(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "raw.db", FakeClock(), sealer=SEALER)
    log.append([("a", b"payload")])
    log.close()
    (tmp_path / "raw.db").rename(tmp_path / "vitals.db")
    other = LocalLog(tmp_path / "vitals.db", FakeClock(), sealer=SEALER)
    with pytest.raises(VaultError):
        other.read(0)
    other.close()


def test_trimming_leaves_room_for_appends_between_its_portions(log: LocalLog) -> None:
    log.append([("a", b"")] * 3000)
    log.commit("reader", 0, 3000)
    done: list[int] = []
    trimmer = threading.Thread(target=lambda: done.append(log.trim(2**62)))
    trimmer.start()
    assert log.append([("a", b"new")]) == [3001]
    trimmer.join(10.0)
    assert done == [3000]
    assert [row.body for row in eventually(lambda: log.read(0))] == [b"new"]  # type: ignore[attr-defined]
    log.close()
