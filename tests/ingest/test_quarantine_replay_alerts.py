"""A bad message on its way to a stored reading: quarantine, an adapter after a fix, replay, no alert about the past."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine
from alerts.service import AlertService
from ingest.adapter import Adapter, Context, Decoded
from tests.ingest.ingest_world import World, spo2
from tests.support import eventually
from vitals import encoding
from vitals.glossary import ControlKind, Flag, Reason
from vitals.log.local import LocalLog
from vitals.model import Control, Message, Tick
from vitals.records import AlertEvent

LIMIT = {"vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S2", "deadband": 2.0, "on_delay_s": 0.0,
         "off_delay_s": 0.0}  # fmt: skip


def next_version(adapter: Adapter) -> Adapter:
    """The adapter after a fix: a value may be text with its unit behind it, as one model sends it."""

    def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        plain = [
            structs.replace(message, payload=re.sub(rb'"value": ?"([\d.]+) ?%"', rb'"value":\1', message.payload))
            for message in messages
        ]
        return adapter.decode(plain, contexts)

    return replace(adapter, version=adapter.version + 1, decode=decode)


def as_text(payload: bytes) -> bytes:
    """The same reading with ``"79 %"`` for a value."""
    reading: Mapping[str, Any] = json.loads(payload)
    return json.dumps({**reading, "value": f"{reading['value']} %"}).encode()


@contextmanager
def alerting(world: World, folder: Path) -> Iterator[SqlAlertBook]:
    """The alert service over the world's vitals log, in a thread."""
    log = LocalLog(folder / "vitals.db", world.clock)
    book = SqlAlertBook(f"sqlite:///{folder / 'book.db'}")
    stop = threading.Event()
    thread = threading.Thread(target=AlertService(log, book, Engine(), world.clock).run, args=(stop,))
    thread.start()
    try:
        yield book
    finally:
        stop.set()
        thread.join(10.0)
        assert not thread.is_alive()
        book.close()
        log.close()


def raised(world: World, book: SqlAlertBook) -> list[AlertEvent]:
    """What was raised, once the alert service has read everything up to now, a tick included."""
    world.log.append([("vitals", encoding.encode(Tick(world.clock.now_ns())))])
    # The first time its kernels may have to be compiled.
    eventually(lambda: book.position() == world.log.end(), within_s=60, what="the alert service to catch up")
    return [booked.event for booked in book.events_between(0, 2**60) if booked.event.kind == "raised"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_bad_message_is_stored_after_a_fix_and_alerts_nobody(world: World, tmp_path: Path) -> None:
    patient = world.worn("d")
    body = {"patient": patient, "version": 1, "reason": "test", "limits": [LIMIT]}
    world.log.append([("vitals", encoding.encode(Control(ControlKind.LIMITS, world.clock.now_ns(), "dr_a", body)))])
    measured_ns = world.clock.now_ns()
    world.send(world.message("d", as_text(spo2(79, measured_ns, 1))))
    world.drain()
    (item,) = world.service.quarantine()
    version = world.adapters["json"].version
    assert (item.reason, item.detail, item.adapter_version) == (Reason.BAD_TYPE, "$.value", version)
    assert world.rows() == []

    world.adapters["json"] = next_version(world.adapters["json"])
    world.restart()
    world.clock.advance(5)
    assert world.service.replay() == {"decoded": 1, "duplicate": 0, "quarantined": 0}
    world.drain()
    (row,) = world.rows()
    assert (row["value"], row["patient"], row["time_ns"]) == (79.0, patient, measured_ns)
    assert row["flags"] == Flag.REPLAYED
    assert world.service.quarantine() == []
    ledger = world.service.ledger("d")
    assert (ledger.messages.decoded, ledger.messages.quarantined, ledger.readings.stored) == (1, 0, 1)
    with alerting(world, tmp_path) as book:
        assert raised(world, book) == []
        # The same value, sent by the same device to the same version a moment later, does alert.
        world.send(world.message("d", as_text(spo2(79, world.clock.now_ns(), 2))))
        world.drain()
        (alert,) = raised(world, book)
        assert [row["flags"] for row in world.rows()] == [Flag.REPLAYED, Flag(0)]
        assert alert.at_ns >= world.clock.now_ns()
