"""Identity of readings and the ledgers, against a dict: duplicates, revisions, resyncs, rollbacks, restarts."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from ingest.journal.identities import SCHEMA, Cycle, Journal
from ingest.journal.recognition import Origins
from ingest.journal.tally import COUNTS, Tally
from tests.ingest.ingest_world import World, spo2
from tests.support import SECOND, FakeClock
from vitals.errors import NotFound, PositionConflict
from vitals.glossary import Flag
from vitals.log.local import LocalLog
from vitals.vault import Vault

NOW = 1_700_000_000 * SECOND
NAN = float("nan")
Row = tuple[str, int, int, int, float, Flag]
"""device, vital, source time, seq, value, flags"""


class Broken(Exception):
    """What a test raises inside a cycle."""


class Ledger:
    """An open journal on a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock(NOW)
        self.sealer = Vault.open(path / "vault.key").zone("quarantine")
        self.open()

    def open(self) -> None:
        self.log = LocalLog(self.path / "vitals.db", self.clock, schema=SCHEMA)
        self.journal = Journal(self.log, self.sealer)

    def reopen(self) -> None:
        self.log.close()
        self.open()

    @contextmanager
    def cycle(self) -> Iterator[Cycle]:
        """A transaction as ingest runs it."""
        try:
            with self.log.transaction() as tx:
                yield self.journal.begin(tx)
        except BaseException:
            self.journal.forget()
            raise

    def identify(self, rows: list[Row], *, fail: bool = False) -> list[str]:
        """What each row is."""
        with self.cycle() as cycle:
            device, vital, time, seq, value, flags = zip(*rows, strict=True)
            numbers = np.array([cycle.device_id(token) for token in device], np.int64)
            times = np.array(time, np.int64)
            none = np.zeros(len(rows), np.int64)
            duplicate, revision, stored_seq = cycle.identify(
                numbers, np.array(vital, np.uint16), times, np.array(seq, np.int64), np.full(len(rows), NOW, np.int64),
                np.array(value, np.float64), np.array(flags, np.uint32), Origins(none, none, none.astype(bool)),
            )  # fmt: skip
            assert stored_seq.tolist() == list(seq), "without documents readings keep their numbers"
            if fail:
                raise Broken
        assert not (duplicate & revision).any()
        return ["same" if d else "revision" if r else "new" for d, r in zip(duplicate, revision, strict=True)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    yield made
    made.log.close()


def at(
    minute: int, value: float = 97.0, *, seq: int = 0, device: str = "d", vital: int = 4, flags: Flag = Flag(0)
) -> Row:
    return device, vital, NOW + minute * 60 * SECOND, seq, value, flags


def test_the_same_again_is_a_duplicate_and_another_value_a_revision(ledger: Ledger) -> None:
    assert ledger.identify([at(0), at(1)]) == ["new", "new"]
    assert ledger.identify([at(1), at(0, 96.0)]) == ["same", "revision"]
    assert ledger.identify([at(0, 96.0)]) == ["same"]
    assert ledger.identify([at(0)]) == ["revision"], "A, B and A again are two revisions"


def test_every_part_of_the_identity_tells_readings_apart(ledger: Ledger) -> None:
    rows = [at(0), at(1), at(0, seq=1), at(0, device="e"), at(0, vital=2)]
    assert ledger.identify(rows) == ["new"] * 5
    assert ledger.identify(rows) == ["same"] * 5


def test_repeats_inside_a_batch(ledger: Ledger) -> None:
    rows = [at(0), at(0), at(0, 95.0), at(1), at(0, 95.0), at(0)]
    assert ledger.identify(rows) == ["new", "same", "revision", "new", "same", "revision"]


def test_values_without_a_number(ledger: Ledger) -> None:
    low, high, none = at(0, NAN, flags=Flag.BELOW_RANGE), at(0, NAN, flags=Flag.ABOVE_RANGE), at(0, NAN)
    assert ledger.identify([low]) == ["new"]
    assert ledger.identify([low, low]) == ["same", "same"]
    assert ledger.identify([high]) == ["revision"], "LO became HI"
    assert ledger.identify([at(0, 35.0, flags=Flag.BELOW_RANGE)]) == ["revision"]
    assert ledger.identify([at(0, 35.0)]) == ["same"], "with a number, the number counts"
    assert ledger.identify([none, none]) == ["revision", "same"]
    ledger.reopen()
    assert ledger.identify([none, at(0, 35.0)]) == ["same", "revision"]


def test_older_readings_that_are_new_are_no_duplicates(ledger: Ledger) -> None:
    assert ledger.identify([at(10)]) == ["new"]
    assert ledger.identify([at(5), at(7), at(10)]) == ["new", "new", "same"]
    assert ledger.identify([at(5), at(6)]) == ["same", "new"]


def test_a_resync_of_thousands_also_after_a_restart(ledger: Ledger) -> None:
    history = [at(minute, float(90 + minute % 10)) for minute in range(5_000)]
    assert set(ledger.identify(history)) == {"new"}
    assert set(ledger.identify(history)) == {"same"}
    ledger.reopen()
    mixed = [at(5_000), *history[4_000:], at(5_001), at(4_500, 1.0)]
    assert ledger.identify(mixed) == ["new", *["same"] * 1_000, "new", "revision"]


def test_a_reading_from_the_future_leaves_the_present_new(ledger: Ledger) -> None:
    future = at(40_000_000)
    assert ledger.identify([at(0), future]) == ["new", "new"]
    assert ledger.journal.newest == {next(iter(ledger.journal.newest)): NOW}, "not the future one"
    assert ledger.identify([at(1), future, at(2)]) == ["new", "same", "new"]


def test_a_cycle_that_failed_leaves_no_trace(ledger: Ledger) -> None:
    assert ledger.identify([at(0)]) == ["new"]
    with pytest.raises(Broken):
        ledger.identify([at(9), at(0, 50.0), at(9, device="lost")], fail=True)
    assert ledger.journal.newest == {}, "what was learned is not to be trusted"
    # A number that was rolled back goes to the next device that comes: nothing may still think it is the lost one's.
    assert ledger.identify([at(9, device="next")]) == ["new"]
    assert ledger.identify([at(9, device="lost"), at(9), at(5), at(0)]) == ["new", "new", "new", "same"]
    ledger.reopen()
    assert ledger.identify([at(9, device="lost"), at(9, device="next")]) == ["same", "same"]


def test_the_position_moves_only_from_where_it_is(ledger: Ledger) -> None:
    with ledger.cycle() as cycle:
        cycle.advance(0, 7)

    def advance_again() -> None:
        with ledger.cycle() as cycle:
            cycle.device_id("not kept")
            cycle.advance(0, 9)

    with pytest.raises(PositionConflict) as conflict:
        advance_again()
    assert (conflict.value.expected, conflict.value.found) == (0, 7)
    ledger.reopen()
    assert ledger.journal.position() == 7
    assert ledger.journal.devices == {}


def test_heads_move_forward_only(ledger: Ledger) -> None:
    for head, expected in (
        ((100, 5), (100, 5)),
        ((90, 9), (100, 5)),
        ((100, 4), (100, 5)),
        ((100, 6), (100, 6)),
        ((101, 1), (101, 1)),
    ):
        with ledger.cycle() as cycle:
            cycle.trust({"d": head})
        assert ledger.journal.heads() == {"d": expected}
    ledger.reopen()
    assert ledger.journal.heads() == {"d": (101, 1)}


def test_tallies_add_up() -> None:
    tally = Tally()
    tally.add("d", "decoded")
    tally.add("d", "quarantined", -1)
    tally.add_rows(("d", "e", "silent"), "decoded", np.array([0, 1, 1, 0], np.int32))
    assert tally.counts.keys() == {"d", "e"}
    assert (tally.total("decoded"), tally.total("quarantined"), tally.total("emitted")) == (5, -1, 0)
    assert [dict(zip(COUNTS, tally.counts[token], strict=True))["decoded"] for token in ("d", "e")] == [3, 2]


@pytest.mark.parametrize("ident", ["1", "", "x", "-1", "٣", "9" * 30])
def test_no_such_item(ledger: Ledger, ident: str) -> None:
    with pytest.raises(NotFound):
        ledger.journal.quarantine_item(ident)
    with ledger.cycle() as cycle:
        assert not cycle.close_item(ident)


def test_a_device_that_was_never_seen_has_no_state(world: World) -> None:
    assert world.service.device_state("never").last_seen_ns is None
    assert world.service.ledger("never").messages.received == 0
    world.worn("d")
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    assert world.service.ledger("d").messages.in_flight == 1


class IdentityMachine(RuleBasedStateMachine):
    """Any mix of readings, failures and restarts; the model is a dict."""

    rows = Bundle("rows")

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Path(self.directory.name))
        self.model: dict[tuple[Any, ...], Any] = {}
        self.counts: dict[str, list[int]] = {}

    def expected(self, batch: list[Row], model: dict[tuple[Any, ...], Any]) -> list[str]:
        found = []
        for device, vital, time, seq, value, flags in batch:
            side = "low" if Flag.BELOW_RANGE in flags else "high" if Flag.ABOVE_RANGE in flags else "none"
            kept = side if np.isnan(value) else value
            key = (device, vital, time, seq)
            found.append("new" if key not in model else "same" if model[key] == kept else "revision")
            model[key] = kept
        return found

    @rule(
        target=rows,
        batch=st.lists(
            st.tuples(
                st.sampled_from(["d", "e", "f"]), st.sampled_from([2, 4]),
                st.sampled_from([-60, 0, 1, 2, 3, 4, 5, 90_000, 9_000_000]).map(lambda s: NOW + s * SECOND),
                st.sampled_from([0, 0, 1]), st.sampled_from([97.0, 97.0, 96.0, 0.0, -0.0, NAN]),
                st.sampled_from([Flag(0), Flag.BELOW_RANGE, Flag.ABOVE_RANGE]),
            ),
            min_size=1, max_size=8,
        ),
    )  # fmt: skip
    def ingest(self, batch: list[Row]) -> list[Row]:
        assert self.ledger.identify(batch) == self.expected(batch, self.model)
        return batch

    @rule(batch=rows)
    def resync(self, batch: list[Row]) -> None:
        assert self.ledger.identify(batch) == self.expected(batch, self.model)

    @rule(batch=rows)
    def fail(self, batch: list[Row]) -> None:
        changed = [(*row[:4], 42.0, row[5]) for row in batch] + [("never", 4, NOW, 0, 1.0, Flag(0))]
        with pytest.raises(Broken):
            self.ledger.identify(changed, fail=True)

    @rule(device=st.sampled_from(["d", "e", "new"]), number=st.integers(1, 5), what=st.sampled_from(COUNTS))
    def count(self, device: str, number: int, what: str) -> None:
        tally = Tally()
        tally.add(device, what, number)
        with self.ledger.cycle() as cycle:
            cycle.count(tally)
        self.counts.setdefault(device, [0] * len(COUNTS))[COUNTS.index(what)] += number

    @rule()
    def restart(self) -> None:
        self.ledger.reopen()

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "ledger"):
            expected = {device: dict(zip(COUNTS, counts, strict=True)) for device, counts in self.counts.items()}
            assert self.ledger.journal.counts() == expected

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            kept = self.ledger.log.query("SELECT count(*) FROM identities")[0][0]
            assert kept == len(self.model)
            self.ledger.log.close()
            self.directory.cleanup()


TestIdentityMachine = IdentityMachine.TestCase
TestIdentityMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True)
