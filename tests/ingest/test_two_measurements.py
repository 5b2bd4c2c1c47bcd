"""Two measurements with one timestamp are two measurements; a re-send, a correction and a withdrawal are not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from ingest.journal.recognition import Origins
from tests.adapters.fhir_documents import dumped, quantity, spo2
from tests.ingest.ingest_world import World, reading
from tests.ingest.test_fhir_flow import at
from tests.ingest.test_identity_journal import NAN, NOW, Ledger
from tests.support import SECOND
from vitals.glossary import Flag
from vitals.model import batch_from_rows

A, B, C = 7001, 7002, 7003
"""Documents."""


class Desk:
    """Readings of one device and time, one after another, each in a message of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.ordinal = ledger, 0

    def take(self, value: float, document: int = 0, *, correction: bool = False, seq: int = 0) -> str:
        """What a value is, with the number that it is stored under where that is not the one that was sent."""
        self.ordinal += 1 << 16
        one = np.ones(1, np.int64)
        with self.ledger.cycle() as cycle:
            found = cycle.identify(
                one * cycle.device_id("d"), np.array([4], np.uint16), one * NOW, one * seq, one * NOW,
                np.array([value]), np.zeros(1, np.uint32),
                Origins(one * self.ordinal, one * document, np.array([correction])),
            )  # fmt: skip
        word = "same" if found.duplicate[0] else "revision" if found.revision[0] else "new"
        stored = int(found.seq[0])
        return word if stored == seq else f"{word} of message {stored >> 16}"

    def withdraw(self, document: int = 0) -> list[int]:
        """The numbers of the readings that a withdrawal takes, as messages."""
        row = {"device": "d", "vital": 4, "source_time_ns": NOW, "seq": 0, "value": NAN, "flags": Flag.RETRACTED}
        with self.ledger.cycle() as cycle:
            one = np.ones(1, np.int64)
            _, gone = cycle.withdraw(one * cycle.device_id("d"), batch_from_rows([row]), one * document)
        return [seq >> 16 for seq in gone.seq.tolist()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger = Ledger(tmp_path)
    yield Desk(ledger)
    ledger.log.close()


def test_a_new_value_in_a_new_document_is_a_new_reading(desk: Desk) -> None:
    assert [desk.take(97, A), desk.take(96, B), desk.take(80, C)] == ["new", "new of message 2", "new of message 3"]
    assert desk.take(70, 7004, seq=5) == "new", "of another series"


def test_a_known_value_is_a_duplicate_in_whatever_document_it_comes(desk: Desk) -> None:
    desk.take(97, A)
    desk.take(80, B)
    assert desk.take(80, B) == "same of message 2", "sent again after a lost acknowledgement"
    assert desk.take(80, C) == "same of message 2", "filed again: it confirms nothing"
    assert desk.take(97, C) == "same"


def test_another_value_in_a_known_document_is_a_revision(desk: Desk) -> None:
    desk.take(97, A)
    desk.take(80, B)
    assert desk.take(81, B) == "revision of message 2"
    assert desk.take(96, A) == "revision"
    assert desk.take(97, C) == "same", "that it was corrected is known"


def test_a_correction_is_one_of_the_newest_measurement(desk: Desk) -> None:
    desk.take(97, A)
    desk.take(80, B)
    assert desk.take(90, C, correction=True) == "revision of message 2"
    assert desk.take(90, C, correction=True) == "same of message 2"
    assert desk.take(91, C, correction=True) == "revision of message 2"
    assert desk.take(97, correction=True) == "revision of message 2", "corrected to a value of before"


def test_without_documents_a_new_value_is_a_revision(desk: Desk) -> None:
    assert [desk.take(97), desk.take(96), desk.take(97)] == ["new", "revision", "revision"]


def test_a_message_that_is_its_own_document(desk: Desk) -> None:
    """What json does: nothing is recorded beside the identity, and its other values stand in the same batch."""
    assert desk.take(97, 1 << 16) == "new"
    assert desk.ledger.log.query("SELECT count(*) FROM documents") == [(0,)]
    assert desk.take(97, 2 << 16) == "same"
    assert desk.take(80, 3 << 16) == "new of message 3"
    desk.ledger.reopen()
    assert desk.take(80, 4 << 16) == "same of message 3"


def test_a_withdrawal_takes_the_reading_of_its_document_or_all(desk: Desk) -> None:
    desk.take(97, A)
    desk.take(80, B)
    assert desk.withdraw(B) == [2]
    assert desk.take(79, B) == "revision of message 2"
    desk.take(70, C)
    assert desk.withdraw() == [0, 4], "the second was taken before"
    assert desk.withdraw() == []


def test_an_original_after_its_withdrawal_is_no_new_reading(desk: Desk) -> None:
    desk.withdraw(A)
    assert desk.take(97, A) == "revision"
    assert desk.take(80, B) == "new of message 2"


def test_a_data_directory_of_before(desk: Desk) -> None:
    """Identities without documents: a re-send of an old reading is still a duplicate."""
    desk.take(97)
    desk.take(96, seq=1)
    desk.ledger.log.close()
    desk.ledger.open()
    with desk.ledger.log.transaction() as tx:
        for table in ("documents", "superseded"):
            tx.connection.execute(f"DROP TABLE {table}")
    desk.ledger.reopen()
    assert desk.take(97, A) == "same"
    assert desk.take(96, A, seq=1) == "same"
    assert desk.take(80, B) == "new of message 5"
    assert desk.take(80, B) == "same of message 5"


# Through the adapters


class Source(NamedTuple):
    """A format whose times tell two measurements of a minute apart only by their messages."""

    adapter: str
    vital: str
    message: Callable[[World, float, str], bytes]
    """Of a value at the time that is on the clock, in a document of a name or of none."""


def from_json(world: World, value: float, _name: str) -> bytes:
    return json.dumps(reading("spo2", value, "%", world.clock.now_ns())).encode()


def from_fhir(world: World, value: float, name: str) -> bytes:
    more = {"id": name} if name else {}
    return dumped(spo2(**at(world)) | {"valueQuantity": quantity(value, "%")} | more)


def from_nightscout(world: World, value: float, name: str) -> bytes:
    more = {"_id": name} if name else {}
    return json.dumps({"type": "sgv", "sgv": value, "date": world.clock.now_ns() // 1_000_000, **more}).encode()


SOURCES = [
    Source("json", "spo2", from_json), Source("fhir", "spo2", from_fhir),
    Source("nightscout", "glucose_isf", from_nightscout),
]  # fmt: skip


def take(world: World, source: Source, *values: float, name: str = "") -> None:
    for value in values:
        world.send(world.message("d", source.message(world, value, name), source.adapter))
        world.drain()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.adapter)
def test_measurements_of_one_time_are_all_stored_and_the_last_is_current(world: World, source: Source) -> None:
    patient = world.worn("d", source.adapter)
    take(world, source, 97, 96, 80, 96)
    rows = world.rows()
    assert [row["value"] for row in rows] == [97, 96, 80]
    assert {row["flags"] & Flag.REVISION for row in rows} == {Flag(0)}
    assert len({(row["source_time_ns"], row["time_ns"]) for row in rows}) == 1
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.duplicate, ledger.revision) == (3, 1, 0)
    assert world.store.latest(patient).value.tolist() == [80]


@pytest.mark.parametrize("source", SOURCES[1:], ids=lambda source: source.adapter)
def test_the_same_resource_with_another_value_is_a_revision(world: World, source: Source) -> None:
    world.worn("d", source.adapter)
    take(world, source, 97, 80, name="one")
    take(world, source, 79, name="two")
    assert [(row["value"], bool(row["flags"] & Flag.REVISION)) for row in world.rows()] == [
        (97, False), (80, True), (79, False),
    ]  # fmt: skip


def test_two_values_of_one_time_in_one_message_are_a_revision(world: World) -> None:
    world.worn("d")
    now_ns = world.clock.now_ns()
    payload = json.dumps([reading("spo2", value, "%", now_ns) for value in (97, 80)]).encode()
    for _ in range(2):
        world.send(world.message("d", payload))
        world.drain()
    ledger = world.service.ledger("d")
    assert (ledger.readings.stored, ledger.readings.revision, ledger.readings.duplicate) == (1, 1, 2)
    assert ledger.messages.duplicate == 1, "the whole message is known"


def test_a_count_that_grows_is_one_reading(world: World) -> None:
    world.worn("d")
    for steps in (100, 250, 400):
        item = reading("steps", steps, "{steps}", world.clock.now_ns())
        world.send(world.message("d", json.dumps(item).encode()))
        world.drain()
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.revision) == (1, 2)


def test_what_waits_keeps_its_own_identity_and_finds_its_wearer(world: World) -> None:
    """Wall times days apart, each measured twice: their numbers are ordinals and no sign of a clock that was reset."""
    world.device("d")
    patient = world.registry.add_patient(zone="Europe/Berlin").id
    for day, values in (("02", (97, 80)), ("12", (96, 79)), ("06", (95, 78))):
        for value in values:
            world.send(world.message("d", json.dumps(reading("spo2", value, "%", f"2023-11-{day}T10:00:00")).encode()))
    world.drain()
    assert len(world.waiting()) == 6
    world.registry.assign("d", patient, from_ns=None, to_ns=None)
    world.service.settle("nurse")
    world.drain()
    assert not world.waiting()
    assert sorted(row["value"] for row in world.rows()) == [78, 79, 80, 95, 96, 97]


def test_a_withdrawn_resource_takes_its_own_measurement_only(world: World) -> None:
    patient = world.worn("d", "fhir")
    source = SOURCES[1]
    take(world, source, 97, name="one")
    take(world, source, 80, name="two")
    gone = spo2(**at(world)) | {"id": "two", "status": "entered-in-error", "valueQuantity": quantity(80, "%")}
    world.send(world.message("d", dumped(gone), "fhir"))
    world.drain()
    assert world.store.latest(patient).value.tolist() == [97]


def test_the_order_of_the_clock_is_that_of_arrival(world: World) -> None:
    """The second measurement of a minute follows the first in every reader."""
    patient = world.worn("d")
    take(world, SOURCES[0], 97, 80, 96)
    found = world.store.window(patient, 4, world.clock.now_ns() - SECOND, world.clock.now_ns() + SECOND)
    assert found.value.tolist() == [97, 80, 96]
