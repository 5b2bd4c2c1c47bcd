"""A year in the life of one glucose meter: every reading is whose it was, when it was, or waits for a person.

The meter keeps a base time on one line and a user-facing offset beside it (device-formats.md 2.2). Its year has both
changes of the clock, a flight across zones, a user who sets it wrong, two changes of the battery, a week without a
phone, three full uploads of its memory, and a second wearer.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, rows_of
from tests.ingest.test_reading_flow import meter
from tests.support import SECOND
from vitals.glossary import Basis, Flag
from vitals.model import Message

EVER = 2**62
FACTORY = "2017-01-01T00:00"


def at(text: str) -> int:
    """Nanoseconds of a UTC minute."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def text_of(wall_ns: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall_ns // 1000)).isoformat()


@dataclass
class Truth:
    """What really happened: who was measured, when, and whether the meter can tell."""

    patient: str
    time_ns: int
    told: str = "exactly"
    error_ns: int = 0


@dataclass
class Meter:
    """The meter as its wearer has it: ``line_ns`` is from UTC to its base time, ``offset_min`` what is seen beyond."""

    line_ns: int = HOUR
    offset_min: int = 0
    seq: int = 0
    memory: list[bytes] = field(default_factory=list)

    def measure(self, now_ns: int) -> bytes:
        self.seq += 1
        payload = meter(self.seq, text_of(now_ns + self.line_ns), offset=self.offset_min)
        self.memory.append(payload)
        return payload

    def reset(self, now_ns: int) -> None:
        """A new battery: the clock starts at its factory date."""
        self.line_ns, self.offset_min = at(FACTORY) - now_ns, 0


class Year:
    """The world around the meter."""

    def __init__(self, world: World) -> None:
        self.world, self.meter, self.random = world, Meter(), random.Random(2024)
        self.truth: dict[int, Truth] = {}
        self.pending: list[Message] = []
        self.wearer = ""
        self.uploads = 0

    def pass_to(self, text: str) -> None:
        """Let the world's clock reach a time, with everything received until then taken in."""
        while self.pending:
            size = self.random.randrange(1, 40)
            self.world.send(*self.pending[:size])
            self.world.service.step()
            self.pending = self.pending[size:]
        behind_s = (at(text) - self.world.clock.now_ns()) / SECOND
        assert behind_s >= 0
        self.world.clock.advance(behind_s)
        self.world.heartbeat()
        self.world.drain()

    def receive(self, payload: bytes, received_ns: int) -> None:
        self.pending.append(self.world.message("g", payload, "ble_glucose", "2a18", received_ns=received_ns))

    def live(self, start: str, end: str, told: str = "exactly") -> None:
        """Readings some hours apart, each sent at once."""
        for time_ns in self.times(start, end):
            self.take(time_ns, time_ns + self.random.randrange(2, 50) * SECOND, told)

    def late(self, start: str, end: str, upload: str, told: str = "exactly") -> None:
        """The same without a phone, uploaded together."""
        for number, time_ns in enumerate(self.times(start, end)):
            self.take(time_ns, at(upload) + number * SECOND, told)

    def times(self, start: str, end: str) -> list[int]:
        out, now_ns = [], at(start)
        while now_ns < at(end):
            out.append(now_ns)
            now_ns += self.random.randrange(7 * 60, 40 * 60) * MINUTE
        return out

    def take(self, time_ns: int, received_ns: int, told: str) -> None:
        payload = self.meter.measure(time_ns)
        self.truth[self.meter.seq] = Truth(self.wearer, time_ns, told, MINUTE if told == "corrected" else 0)
        self.receive(payload, received_ns)

    def resync(self, text: str) -> None:
        """The whole memory again, the newest first."""
        for number, payload in enumerate(reversed(self.meter.memory)):
            self.receive(payload, at(text) + number * 1_000_000)
        self.uploads += len(self.meter.memory)
        self.pass_to(text)

    def assert_as_it_was(self, *, waiting: int) -> None:
        """Every reading once: at the right patient and time, of unknown time, or on the worklist."""
        rows = {row["seq"]: row for row in rows_of(self.world.store.held("g", -EVER, EVER))}
        waits = {row["seq"] for row in self.world.waiting()}
        assert rows.keys() | waits == self.truth.keys()
        assert not rows.keys() & waits
        assert len(waits) == waiting
        for seq, truth in self.truth.items():
            if seq in waits:
                assert truth.told == "waits", (seq, truth)
                continue
            row = rows[seq]
            assert row["patient"] == truth.patient, (seq, truth, row)
            arrived = bool(row["flags"] & Flag.CLOCK_WRONG)
            if truth.told == "unknown":
                assert row["basis"] is Basis.UNKNOWN or arrived, (seq, row)
                continue
            assert abs(row["time_ns"] - truth.time_ns) <= truth.error_ns, (seq, truth, row)
            assert row["basis"] is not Basis.UNKNOWN
            if arrived:
                # Live, of a clock whose shift was proved later.
                assert truth.told == "corrected", (seq, row)
                continue
            assert bool(row["flags"] & Flag.CLOCK_CORRECTED) == (truth.told in {"corrected", "waits"}), (seq, row)
        ledger = self.world.service.ledger("g").readings
        assert (ledger.emitted, ledger.stored) == (len(self.truth) + self.uploads, len(rows))
        assert (ledger.duplicate, ledger.unassigned, ledger.revision) == (self.uploads, waiting, 0)
        assert ledger.in_flight == 0


def test_a_year_in_the_life_of_one_meter(world: World) -> None:
    year = Year(world)
    ada = year.wearer = world.worn("g", "ble_glucose", zone="Europe/Berlin")
    year.live("2023-11-15T07:00", "2024-02-05T09:00")
    year.pass_to("2024-02-05T12:00")

    # To New York and back: the user sets the clock on landing, the zone of the patient is dated.
    world.registry.update_patient(ada, zone="America/New_York")
    year.meter.offset_min = -6 * 60
    year.live("2024-02-05T13:00", "2024-02-19T10:00")
    year.pass_to("2024-02-19T12:00")
    world.registry.update_patient(ada, zone="Europe/Berlin")
    year.meter.offset_min = 0
    year.live("2024-02-19T13:00", "2024-03-31T00:50")
    year.resync("2024-03-31T01:00")
    year.assert_as_it_was(waiting=0)

    # Summer time; a week without a phone.
    year.meter.offset_min = 60
    year.live("2024-03-31T01:05", "2024-04-10T00:00")
    year.late("2024-04-10T07:00", "2024-04-17T00:00", upload="2024-04-18T09:00")
    year.live("2024-04-18T10:00", "2024-05-20T00:00")
    year.pass_to("2024-05-20T06:00")

    # A new battery: the first readings come from memory, then some live ones prove how far the clock is off.
    year.meter.reset(at("2024-05-20T07:30"))
    year.late("2024-05-20T08:00", "2024-05-23T00:00", upload="2024-05-23T06:00", told="corrected")
    year.pass_to("2024-05-23T07:00")
    unknown = [row for row in rows_of(world.store.held("g", -EVER, EVER)) if row["basis"] is Basis.UNKNOWN]
    assert len(unknown) >= 2
    assert {row["patient"] for row in unknown} == {ada}, "theirs, though not yet when"
    year.live("2024-05-23T08:00", "2024-05-30T00:00", told="corrected")
    year.pass_to("2024-05-30T01:00")
    current = [row for row in rows_of(world.store.held("g", -EVER, EVER)) if row["flags"] == Flag.CLOCK_CORRECTED]
    assert len(current) >= 5, "once it is proved, a live reading of a wrong clock counts as any other"
    year.meter.line_ns, year.meter.offset_min = HOUR, 60
    year.live("2024-05-30T07:00", "2024-06-10T00:00")

    # The user sets the clock to the day after tomorrow, and back.
    year.meter.offset_min += 2 * 24 * 60
    year.live("2024-06-10T07:00", "2024-06-12T00:00", told="unknown")
    year.meter.offset_min -= 2 * 24 * 60
    year.live("2024-06-12T07:00", "2024-06-29T00:00")
    year.resync("2024-06-29T06:00")
    year.assert_as_it_was(waiting=0)

    # A battery again, no phone, and the meter goes to Ben: nothing tells his readings from hers.
    year.meter.reset(at("2024-06-29T07:00"))
    year.late("2024-06-29T08:00", "2024-07-01T11:00", upload="2024-07-03T18:00", told="waits")
    ben = world.registry.add_patient(zone="Europe/Berlin").id
    world.registry.assign("g", ben, from_ns=at("2024-07-01T12:00"), to_ns=None)
    year.wearer = ben
    shift_s = -year.meter.line_ns / SECOND
    year.late("2024-07-01T13:00", "2024-07-03T10:00", upload="2024-07-03T18:10", told="waits")
    year.pass_to("2024-07-03T19:00")
    year.meter.line_ns, year.meter.offset_min = HOUR, 60
    year.live("2024-07-04T06:00", "2024-10-27T00:25")
    # The hour that is there twice.
    year.take(at("2024-10-27T00:30"), at("2024-10-27T00:30") + SECOND, "exactly")
    year.pass_to("2024-10-27T01:00")
    year.meter.offset_min = 0
    year.take(at("2024-10-27T01:30"), at("2024-10-27T01:30") + SECOND, "exactly")
    year.live("2024-10-27T07:00", "2024-11-14T00:00")
    world.restart()
    year.pass_to("2024-11-14T06:00")
    lost = sum(truth.told == "waits" for truth in year.truth.values())
    assert lost >= 3
    year.assert_as_it_was(waiting=lost)
    assert all(item.reason == "clock_reset" for item in world.service.unassigned())

    # A person knows when the battery was changed.
    for item in world.service.unassigned():
        _, batch = world.service.unassigned_item(item.id)
        (seq,) = batch.seq.tolist()
        world.service.assign_unassigned(item.id, year.truth[seq].patient, author="nurse", shift_s=shift_s)
    year.resync("2024-11-15T06:00")
    year.assert_as_it_was(waiting=0)
    assert {truth.patient for truth in year.truth.values()} == {ada, ben}
    pages = [row for row in world.rows() if not row["flags"] & (Flag.LATE | Flag.REVISION)]
    assert all(row["received_ns"] - row["time_ns"] < 2 * DAY for row in pages)
