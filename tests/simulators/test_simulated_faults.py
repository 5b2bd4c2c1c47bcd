"""Faults: seeded, and their reports account for every message."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from simulators.faults import (
    FAULTS,
    Dropout,
    Duplicate,
    Garbage,
    Reorder,
    Skew,
    Stream,
    StreamFault,
    apply_faults,
    parse_faults,
)
from vitals.errors import InvalidRequest

SECOND = 1_000_000_000
STREAM: Stream = [(second * SECOND, f"message {second:04d}".encode()) for second in range(1000)]
ALL: tuple[StreamFault, ...] = (Dropout(0.1), Duplicate(0.1), Reorder(0.2), Skew(30.0), Garbage(0.05))


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
def test_a_fault_is_seeded_pure_and_ordered(fault: StreamFault) -> None:
    before = list(STREAM)
    out, report = fault.apply(STREAM, rng())
    assert before == STREAM
    assert (out, report) == fault.apply(STREAM, rng())
    assert [due for due, _ in out] == sorted(due for due, _ in out)
    assert (report.fault, report.seen, report.sent) == (fault.name, len(STREAM), len(out))
    if not isinstance(fault, Skew):
        assert out != fault.apply(STREAM, rng(2))[0]
    assert fault.apply([], rng())[0] == []


def test_dropout_accounts_for_what_is_missing() -> None:
    out, report = Dropout(0.1).apply(STREAM, rng())
    missing = Counter(STREAM) - Counter(out)
    assert report.counts == {"dropped": sum(missing.values())}
    assert 60 < report.counts["dropped"] < 140
    assert not Counter(out) - Counter(STREAM)


def test_duplicates_are_the_same_bytes_soon_after() -> None:
    out, report = Duplicate(0.1, within_s=5).apply(STREAM, rng())
    extra = Counter(payload for _, payload in out) - Counter(payload for _, payload in STREAM)
    assert report.counts == {"duplicated": sum(extra.values())}
    assert 60 < sum(extra.values()) < 140
    original = {payload: due for due, payload in STREAM}
    assert all(0 <= due - original[payload] <= 5 * SECOND for due, payload in out)


def test_reorder_loses_nothing_and_counts_who_was_overtaken() -> None:
    out, report = Reorder(0.2, within_s=5).apply(STREAM, rng())
    assert sorted(payload for _, payload in out) == [payload for _, payload in STREAM]
    original = {payload: due for due, payload in STREAM}
    moved = sum(due != original[payload] for due, payload in out)
    assert report.counts["delayed"] == moved > 100
    order = [payload for _, payload in out]
    overtaken = sum(payload < max(order[:place]) for place, payload in enumerate(order) if place)
    assert report.counts["overtaken"] == overtaken > 50


def test_skew_makes_all_late_and_none_early() -> None:
    out, report = Skew(30.0).apply(STREAM, rng())
    assert out == [(due + 30 * SECOND, payload) for due, payload in STREAM]
    assert report.counts == {"late": 1000}
    assert Skew(0.0).apply(STREAM, rng())[1].counts == {"late": 0}
    with pytest.raises(ValueError, match="before"):
        Skew(-1.0)


def test_garbage_is_always_different_and_counted_by_mode() -> None:
    out, report = Garbage(0.3).apply(STREAM, rng())
    pairs = list(zip(STREAM, out, strict=True))
    damaged = [(old, new) for (_, old), (_, new) in pairs if old != new]
    assert len(damaged) == sum(report.counts.values())
    assert set(report.counts) == {"truncated", "flipped", "random"}
    assert min(report.counts.values()) > 50
    truncated = [new for old, new in damaged if len(new) < len(old)]
    assert len(truncated) == report.counts["truncated"]


@pytest.mark.parametrize("mode", ["truncated", "flipped", "random"])
def test_each_kind_of_garbage(mode: str) -> None:
    one_byte: Stream = [(number, b"\x00") for number in range(500)]
    out, report = Garbage(1.0, (mode,)).apply([*one_byte, (999, b"")], rng())
    assert report.counts == {mode: 500}
    assert all(payload != b"\x00" for _, payload in out)
    assert out[-1] == (999, b"")


def test_flipped_bits_are_at_most_three() -> None:
    out, _ = Garbage(1.0, ("flipped",)).apply(STREAM, rng())
    for (_, old), (_, new) in zip(STREAM, out, strict=True):
        flips = sum((a ^ b).bit_count() for a, b in zip(old, new, strict=True))
        assert flips == 3


def test_composition_accounts_for_every_message() -> None:
    out, reports = apply_faults(STREAM, ALL, rng())
    total: Counter[str] = Counter()
    for before, after in pairwise(reports):
        assert before.sent == after.seen
    for report in reports:
        total.update(report.counts)
    assert len(out) == len(STREAM) - total["dropped"] + total["duplicated"]
    known = {payload for _, payload in STREAM}
    assert sum(payload not in known for _, payload in out) == (total["truncated"] + total["flipped"] + total["random"])
    assert apply_faults(STREAM, (), rng()) == (STREAM, [])


@pytest.mark.parametrize("make", [Dropout, Duplicate, Reorder, Garbage])
def test_probabilities_are_probabilities(make: type[Dropout]) -> None:
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            make(wrong)
    assert make(1.0).apply(STREAM, rng())[1].counts


def test_garbage_needs_known_modes() -> None:
    for modes in ((), ("eaten",)):
        with pytest.raises(ValueError, match="modes"):
            Garbage(0.1, modes)


def test_faults_are_read_from_text() -> None:
    assert parse_faults("dropout=0.1, skew=30,garbage=1") == (Dropout(0.1), Skew(30.0), Garbage(1.0))
    assert parse_faults("") == ()
    assert {type(fault).__name__ for fault in parse_faults(",".join(f"{name}=0.5" for name in FAULTS))} == {
        "Dropout", "Duplicate", "Reorder", "Skew", "Garbage", "ClockReset", "Stored", "Resync",
    }  # fmt: skip
    with pytest.raises(InvalidRequest, match="did you mean 'dropout'"):
        parse_faults("dropuot=1")
    with pytest.raises(InvalidRequest, match=r"no fault 'xyz'$"):
        parse_faults("xyz=1")
    for wrong in ("dropout=2", "dropout", "dropout=lots"):
        with pytest.raises(InvalidRequest, match="faults: dropout"):
            parse_faults(wrong)
    for wrong in ("stored=0", "stored=inf", "stored=nan", "stored=-1"):
        with pytest.raises(InvalidRequest, match="faults: stored"):
            parse_faults(wrong)
