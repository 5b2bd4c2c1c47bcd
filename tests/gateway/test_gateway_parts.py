"""Parts of the gateway on their own: sessions at rest, row limits and ordinals, deadlines, sign-in memory."""

import asyncio
from pathlib import Path

import pytest

from device_gateway import batcher as batching
from device_gateway.access import Access, SignIn
from device_gateway.batcher import Accept, Batcher
from device_gateway.mqtt.wheel import Wheel
from device_gateway.sessions import Change, SessionKey, SessionStore, Ticket
from tests.gateway.harness import messages, raw_log, received, registry
from tests.support import SECOND, FakeClock
from vitals.errors import BackendError
from vitals.log.local import LocalLog
from vitals.model import Message

KEY = SessionKey("d1", "c1")
NOW = FakeClock().now_ns()


def write(log: LocalLog, changes: list[Change]) -> None:
    with log.transaction() as tx:
        for change in changes:
            tx.connection.execute(*change)


def test_sessions_come_back_with_their_held_ids_until_they_expire(tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    store, changes, vanished = SessionStore.load(log, NOW)
    assert (list(store), changes, vanished) == ([], [], [])
    session, present, changes = store.open(KEY, 5, 100, NOW)
    assert not present
    write(log, [*changes, *session.hold(7), *session.hold(9), *session.release(9)])

    store, changes, _ = SessionStore.load(log, NOW)
    [again] = store
    assert (again.key, again.held, again.ended_ns) == (KEY, {7}, NOW)
    write(log, changes)
    again, present, changes = store.open(KEY, 5, 50, NOW + 99 * SECOND)
    assert present
    assert again.held == {7}
    write(log, [*changes, *store.end(again, NOW + 99 * SECOND)])

    store, changes, _ = SessionStore.load(log, NOW + 120 * SECOND)
    assert changes == [], "it had ended before"
    assert store.expire(NOW + 148 * SECOND) == []
    write(log, store.expire(NOW + 149 * SECOND))
    assert list(store) == []
    assert log.query("SELECT * FROM sessions") == log.query("SELECT * FROM held") == []
    log.close()


def test_an_expired_session_is_not_present_and_neither_is_one_without_expiry(tmp_path: Path) -> None:
    store = SessionStore()
    session, _, _ = store.open(KEY, 5, 10, NOW)
    session.held.add(1)
    store.end(session, NOW)
    fresh, present, _ = store.open(KEY, 5, 0, NOW + 10 * SECOND)
    assert (present, fresh.held, fresh.durable) == (False, set(), False)
    assert fresh.hold(5) == fresh.release(5) == []
    # The session is being taken over while it is still connected: it has no expiry, so it ends.
    taken, present, _ = store.open(KEY, 5, 0, NOW + 11 * SECOND)
    assert not present
    assert taken is not fresh
    assert store.end(taken, NOW + 12 * SECOND) == []
    assert list(store) == []


def test_clean_start_forgets_durably(tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    store = SessionStore()
    session, _, changes = store.open(KEY, 5, 10, NOW)
    write(log, [*changes, *session.hold(7)])
    _, present, changes = store.open(KEY, 5, 10, NOW, clean=True)
    write(log, changes)
    assert not present
    assert log.query("SELECT device, client, ended_ns FROM sessions") == [("d1", "c1", None)]
    assert log.query("SELECT * FROM held") == []
    log.close()


def test_rows_are_split_and_ordinals_are_what_readers_derive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "ROW_MESSAGES", 10)
    log = raw_log(tmp_path)
    tickets = [Ticket(0) for _ in range(25)]

    async def run() -> None:
        batcher = Batcher(log, FakeClock(), high_bytes=10**6, on_pressure=print, on_blocked=print)
        batcher.accept(Accept(Message("d2", "other", "", NOW, b"first")))
        for number, ticket in enumerate(tickets):
            batcher.accept(Accept(Message("d1", "json", "", NOW, b"%d" % number), ticket=ticket))
        batcher.accept(Accept(Message("d1", "json", "", NOW, b"again"), resend_of=tickets[13]))
        await batcher.drained()
        assert batcher.waiting_bytes == 0
        await batcher.close()

    asyncio.run(run())
    by_payload = {message.payload: message for message in messages(log)}
    assert [ticket.ordinal for ticket in tickets] == [by_payload[b"%d" % number].ordinal for number in range(25)]
    assert by_payload[b"again"].resend_of == by_payload[b"13"].ordinal
    assert {ticket.ordinal >> 16 for ticket in tickets} == {2, 3, 4}
    assert max(ticket.ordinal & 0xFFFF for ticket in tickets) == 9
    assert received(log) == {"d1": 26, "d2": 1}
    log.close()


def test_what_was_offered_behind_a_closed_batcher_is_dropped_unacknowledged(tmp_path: Path) -> None:
    log = raw_log(tmp_path)

    async def run() -> None:
        batcher = Batcher(log, FakeClock(), high_bytes=10**6, on_pressure=print, on_blocked=print)
        with log.transaction():
            batcher.heartbeat()
            await asyncio.sleep(0)
            batcher.accept(Accept(Message("d1", "json", "", NOW, b"second batch")))
            closing = asyncio.create_task(batcher.close())
            await asyncio.sleep(0)
        await closing

    asyncio.run(run())
    assert messages(log) == []
    log.close()


def test_a_fault_that_is_not_retryable_fails_the_batcher(tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    log.close()
    reader = LocalLog(log.path, FakeClock(), read_only=True)
    seen: list[bool] = []

    async def run() -> None:
        batcher = Batcher(reader, FakeClock(), high_bytes=10**6, on_pressure=print, on_blocked=seen.append)
        batcher.heartbeat()
        with pytest.raises(BackendError, match="reading only"):
            await batcher.failed
        await batcher.close()

    asyncio.run(run())
    assert seen == [True]
    reader.close()


class Item:
    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s


def test_wheel() -> None:
    wheel: Wheel[Item] = Wheel()
    soon, later, never, gone = Item(1.5), Item(1.5), Item(float("inf")), Item(1.5)
    for item in (soon, later, never, gone):
        wheel.add(item, 0.0)
    later.deadline_s = 7.2  # moved away: nobody has to tell the wheel
    wheel.remove(gone)
    wheel.remove(gone)
    assert wheel.due(1.0) == []
    assert wheel.due(2.0) == [soon]
    assert wheel.due(7.0) == []
    never.deadline_s = 7.5
    wheel.add(never, 7.0)  # moved nearer: added again
    assert set(wheel.due(8.0)) == {later, never}
    assert wheel.due(1e9) == []
    never.deadline_s = float("inf")
    wheel.add(never, 8.0)
    assert wheel.due(1e6) == []


def test_failed_sign_ins_are_forgotten_after_a_minute() -> None:
    now_s = 0.0

    async def run() -> None:
        nonlocal now_s
        access = Access(registry(), 2, monotonic=lambda: now_s)

        async def sign_in(secret: bytes, peer: str = "a") -> SignIn:
            return await access.authenticate("d1", secret, peer)

        assert await sign_in(b"secret-d1") is SignIn.ALLOWED
        assert [await sign_in(b"no") for _ in range(3)] == [
            SignIn.BAD_CREDENTIALS,
            SignIn.BAD_CREDENTIALS,
            SignIn.TOO_MANY_FAILURES,
        ]
        assert await sign_in(b"secret-d1") is SignIn.TOO_MANY_FAILURES
        assert await sign_in(b"secret-d1", "b") is SignIn.ALLOWED
        now_s = 61.0
        assert await sign_in(b"secret-d1") is SignIn.ALLOWED
        access.close()

    asyncio.run(run())


def test_the_memory_of_failures_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        access = Access(registry(), 1)
        monkeypatch.setattr("device_gateway.access._FAILURES_LIMIT", 3)
        for number in range(10):
            await access.authenticate("d1", b"no", f"peer{number}")
        assert len(access._failures) == 3
        access.close()

    asyncio.run(run())
