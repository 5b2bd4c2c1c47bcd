"""What is learned of a clock that was reset: when a shift is proved, which records it reaches, and that it stays."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from ingest.placing.attribution import place
from ingest.placing.epochs import HUB_KEY, DeviceClock, Epoch, Learned, arrival_ns, clocks_of
from ingest.placing.wear import WearTable
from tests.ingest.placing import HOUR, MINUTE, Row, columns_of, placed
from tests.ingest.zone_reference import ns
from vitals.glossary import Basis
from vitals.records import Assignment, Device

DAY, SECOND = 24 * HOUR, MINUTE // 60
RESET = ns("2017-01-01T00:00")
TRUE = ns("2024-06-10T12:00Z")
SHIFT = TRUE - RESET
"""The clock was reset at ``TRUE``."""


def seen(*records: tuple[int, int, int]) -> DeviceClock:
    """A clock after records of (sequence, minutes since the reset, minutes on the way)."""
    clock = DeviceClock()
    for seq, minute, late in records:
        clock.see(seq, RESET + minute * MINUTE, TRUE + (minute + late) * MINUTE)
    return clock


def known(clock: DeviceClock, seq: int, minute: int) -> int | None:
    """The error of a record's corrected time in minutes."""
    shift = clock.shift_ns(seq, RESET + minute * MINUTE, TRUE + 9999 * DAY)
    return None if shift is None else (shift - SHIFT) // MINUTE


def test_two_live_records_prove_the_shift() -> None:
    clock = seen((12, 5, 0), (13, 65, 0))
    assert clock.epochs == [Epoch(12, RESET + 5 * MINUTE, 13, RESET + 65 * MINUTE, SHIFT)]
    assert [known(clock, seq, minute) for seq, minute in ((12, 5), (13, 65))] == [0, 0]
    clock.see(15, RESET + 500 * MINUTE, TRUE + 501 * MINUTE)
    assert [known(clock, seq, minute) for seq, minute in ((14, 400), (15, 500))] == [0, 0]
    assert known(clock, 16, 600) is None, "from memory: the clock may have been reset since"
    assert clock.shift_ns(16, RESET + 600 * MINUTE, TRUE + 600 * MINUTE) == SHIFT, "live"
    assert len(clock.epochs) == 1


def test_two_live_records_of_the_same_time() -> None:
    clock = seen((12, 5, 0), (13, 65, 0))
    assert clock.shift_ns(14, RESET + 65 * MINUTE, TRUE + 65 * MINUTE) == SHIFT, "live, at the time of the newest"
    clock.see(14, RESET + 65 * MINUTE, TRUE + 65 * MINUTE)
    assert clock.reached == [(14, RESET + 65 * MINUTE)], "the shift reaches on to the higher number"
    assert known(clock, 14, 64) == 0


@pytest.mark.parametrize(
    "records",
    [
        [(12, 5, 0)], [(12, 5, 60), (13, 65, 0)], [(12, 5, 4), (13, 9, 0)], [(12, 5, 3), (13, 65, 0)],
        [(12, 65, 0), (13, 5, 0)], [(12, 5, 700), (13, 300, 405)],
    ],
    ids=["one", "one upload", "too close", "not as soon", "fell", "one upload of a day"],
)  # fmt: skip
def test_what_proves_nothing(records: list[tuple[int, int, int]]) -> None:
    assert seen(*records).epochs == []


def test_uploads_of_the_same_hour_prove_nothing_while_something_came_sooner() -> None:
    clock = seen((12, 0, 720), (13, 715, 5), (14, 1440, 720), (15, 2100, 60))
    assert clock.epochs == []


def test_a_shift_reaches_back_as_far_as_records_follow_each_other() -> None:
    clock = seen((10, 1, 900), (11, 2, 900), (12, 3, 900), (14, 300, 0), (13, 200, 100), (15, 400, 0), (8, 0, 910))
    assert [known(clock, seq, minute) for seq, minute in ((10, 1), (12, 3), (13, 200), (15, 400))] == [0] * 4
    assert known(clock, 8, 0) is None, "the clock may have been reset at 9"
    clock.see(9, RESET, TRUE + 1000 * MINUTE)
    assert (known(clock, 9, 0), known(clock, 8, 0)) == (0, 0), "now nothing is missing"


def test_a_step_back_is_another_reset() -> None:
    clock = seen((10, 400, 1500), (11, 5, 0), (12, 65, 0))
    assert known(clock, 10, 400) is None
    assert known(clock, 11, 5) == 0


def test_a_second_reset_has_a_shift_of_its_own() -> None:
    clock = seen((10, 5, 0), (11, 65, 0))
    again = TRUE + 10 * DAY
    for seq, minute in ((20, 3), (21, 63)):
        clock.see(seq, RESET + minute * MINUTE, again + minute * MINUTE)
    assert known(clock, 10, 5) == known(clock, 11, 65) == 0
    assert known(clock, 20, 3) == known(clock, 21, 63) == 10 * DAY // MINUTE


def test_records_from_memory_wait_for_the_next_live_one() -> None:
    clock = seen((10, 5, 0), (11, 65, 0))
    for seq, minute in ((12, 100), (13, 200)):
        assert clock.see(seq, RESET + minute * MINUTE, TRUE + 900 * MINUTE) == Learned([], False)
        assert known(clock, seq, minute) is None
    assert clock.see(14, RESET + 1000 * MINUTE, TRUE + 1001 * MINUTE) == Learned([], True)
    assert [known(clock, seq, minute) for seq, minute in ((12, 100), (13, 200))] == [0, 0]


def test_what_is_kept_gives_the_same_clock() -> None:
    clock = seen((10, 1, 900), (11, 2, 900), (14, 300, 0), (15, 400, 0), (18, 600, 100), (20, 900, 1), (8, 0, 910))
    odd = [("d", *record, arrived) for record, arrived in clock.odd.items()]
    (kept,) = clocks_of(odd, [("d", *epoch) for epoch in clock.epochs]).values()
    assert kept == clock


def test_a_time_after_arrival_is_not_taken() -> None:
    clock = seen((10, 5, 0), (11, 65, 0))
    assert clock.shift_ns(12, RESET + 500 * MINUTE, TRUE + 400 * MINUTE) is None


def test_what_is_known_changes_nothing() -> None:
    clock = seen((10, 5, 0), (11, 65, 0))
    before = list(clock.epochs)
    assert clock.see(10, RESET + 5 * MINUTE, TRUE + 90 * DAY) == Learned([], False)
    assert (clock.epochs, clock.odd[10, RESET + 5 * MINUTE]) == (before, TRUE + 5 * MINUTE)


def test_the_hub_says_when_it_took_a_record_in() -> None:
    assert arrival_ns(TRUE, {}) == TRUE
    assert arrival_ns(TRUE, {HUB_KEY: TRUE - 5 * DAY}) == TRUE - 5 * DAY
    for odd in (TRUE + HOUR, TRUE - 40 * DAY, "soon", None, 0):
        assert arrival_ns(TRUE, {HUB_KEY: odd}) == TRUE


@dataclass(frozen=True)
class History:
    """Records of a meter whose battery was changed some times: (sequence, as sent, received, true time or None)."""

    rows: list[Row]
    truth: dict[int, int]


def history(seed: int) -> History:
    random_ = random.Random(seed)
    rows, truth = [], {}
    now_ns, shift_ns, reset = TRUE, 0, False
    for seq in range(1, 40):
        now_ns += random_.randrange(11, 600) * MINUTE
        # Nobody changes a battery twice between two records.
        reset = seq > 3 and not reset and random_.random() < 0.1
        if reset:
            shift_ns = now_ns - RESET - random_.randrange(5) * MINUTE
        late = random_.choice([0, 0, 0, random_.randrange(HOUR, 3 * DAY)]) if seq > 3 else 0
        rows.append(
            Row(0, SourceClock.WALL, now_ns - shift_ns, now_ns + late + random_.randrange(60) * SECOND, seq=seq)
        )
        truth[seq] = now_ns
    return History(sorted(rows, key=lambda row: row.received_ns), truth)


def learn(rows: Sequence[Row], worn: WearTable, devices: list[Device], size: int) -> None:
    """The rows through ``place`` in batches, learned from as the pipeline does."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        columns = columns_of(part)
        device = columns.message * 0
        received = columns.source_time_ns * 0
        received[:] = [row.received_ns for row in part]
        odd = place(columns, columns.source_time_ns, device, received, worn).odd
        for row, is_odd in zip(part, odd.tolist(), strict=True):
            if is_odd:
                worn.clocks.setdefault(0, DeviceClock()).see(row.seq, row.source_ns, row.received_ns)
        placed(part, worn, devices)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), size=st.integers(1, 40))
def test_a_resync_gets_the_corrected_times_it_got_before(seed: int, order: random.Random, size: int) -> None:
    devices = [Device("d", "ble_glucose")]
    worn = WearTable(devices, [Assignment("d", "p", None, None, "UTC")])
    made = history(seed)
    learn(made.rows, worn, devices, 4)

    def times(rows: list[Row], batch: int) -> dict[int, int | None]:
        found = {}
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            for row, result in zip(part, placed(part, worn, devices), strict=True):
                found[row.seq] = None if result.basis is Basis.UNKNOWN else result.time_ns
        return found

    resync = [Row(0, row.clock, row.source_ns, TRUE + 400 * DAY, seq=row.seq) for row in made.rows]
    first = times(resync, len(resync))
    order.shuffle(resync)
    assert times(resync, size) == first
    # Whatever has a time has the right one: nothing is guessed.
    for seq, time_ns in first.items():
        assert time_ns is None or abs(time_ns - made.truth[seq]) <= 2 * MINUTE, seq


def test_histories_have_resets_that_are_corrected() -> None:
    devices = [Device("d", "ble_glucose")]
    epochs = 0
    for seed in range(10):
        worn = WearTable(devices, [Assignment("d", "p", None, None, "UTC")])
        learn(history(seed).rows, worn, devices, 7)
        epochs += sum(len(clock.epochs) for clock in worn.clocks.values())
    assert epochs > 10


def test_a_long_memory_is_taken_in_fast() -> None:
    clock = DeviceClock()
    for seq in range(20_000):
        clock.see(seq, RESET + seq * MINUTE, TRUE + 30_000 * MINUTE)
    assert clock.epochs == []
    for seq, minute in ((20_000, 30_001), (20_001, 30_061)):
        learned = clock.see(seq, RESET + minute * MINUTE, TRUE + minute * MINUTE)
    assert learned.others
    assert known(clock, 0, 0) == known(clock, 19_999, 19_999) == 0
