"""Noisy nights: the truth is what they say it is, and the noise as documented."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ingest import quality
from simulators.oximetry import (
    COURSES,
    LATENCY_NS,
    LEVELS,
    LOWEST_SCALE_1,
    PERFUSION_GATE,
    Cause,
    DesaturationKind,
    Night,
    Oximeter,
    minutes,
    nights,
    truth,
)
from vitals.catalog import BY_KEY
from vitals.glossary import Flag
from vitals.model import COLUMNS, concatenate
from vitals.times import MINUTE_NS, SECOND_NS

START = 1_700_000_000 * SECOND_NS
SPO2, PERFUSION = BY_KEY["spo2"].code, BY_KEY["perf_index"].code
WARD = nights(30, 5, START)


def second(night: Night) -> npt.NDArray[np.int64]:
    """Row -> second of the night of its measurement; of a resend, that of its receipt."""
    return np.asarray((night.time_ns - night.start_ns) // SECOND_NS)


def same(first: Night, other: Night) -> bool:
    names = ("saturation", "time_ns", "value", "flags", "perf_index", "cause")
    arrays = all(np.array_equal(getattr(first, name), getattr(other, name)) for name in names)
    return arrays and first.desaturations == other.desaturations and first.baseline == other.baseline


def test_the_seed_decides_and_a_night_does_not_depend_on_its_neighbours() -> None:
    again = nights(3, 5, START)
    assert all(same(*pair) for pair in zip(again, WARD[:3], strict=True))
    other = nights(3, 6, START)
    assert not any(same(*pair) for pair in zip(again, other, strict=True))


def test_the_body_does_not_depend_on_the_device_that_watches_it() -> None:
    for night, slow in zip(WARD[:5], nights(5, 5, START, oximeter=Oximeter(interval_s=60, noise_sd=3.0)), strict=True):
        np.testing.assert_array_equal(night.saturation, slow.saturation)
        assert night.desaturations == slow.desaturations


def test_baselines_are_stable_and_decide_the_scale() -> None:
    assert all(90.0 <= night.baseline <= 96.0 for night in WARD)
    assert {night.scale for night in WARD} == {1, 2}
    for night in WARD:
        assert night.scale == (1 if night.baseline >= LOWEST_SCALE_1 else 2)
        calm = np.ones(len(night.saturation), bool)
        for one in night.desaturations:
            calm[(one.start_ns - START) // SECOND_NS : (one.end_ns - START) // SECOND_NS] = False
        assert np.abs(night.saturation[calm] - night.baseline).max() < 0.701


@pytest.mark.parametrize("level", LEVELS)
def test_spells_are_the_seconds_at_which_the_truth_is_low(level: int) -> None:
    for night in WARD:
        low = np.zeros(len(night.saturation), bool)
        ended = -1
        for spell in night.below(level):
            assert (spell.patient, spell.level) == (night.patient, level)
            begin, end = ((at - START) // SECOND_NS for at in (spell.start_ns, spell.end_ns))
            assert ended < begin < end, "in order, and apart"
            low[begin:end], ended = True, end
        np.testing.assert_array_equal(low, night.saturation < level + 0.5)


def test_the_truth_of_a_ward_is_that_of_its_nights() -> None:
    assert truth(WARD[:2]) == [spell for night in WARD[:2] for level in LEVELS for spell in night.below(level)]
    lengths = [(spell.end_ns - spell.start_ns) / SECOND_NS for spell in truth(WARD) if spell.level == 91]
    assert sum(60 <= length <= 300 for length in lengths) > 30
    assert sum(length < 60 for length in lengths) > 60


def test_desaturations_run_as_their_kind_says() -> None:
    seen = dict.fromkeys(DesaturationKind, 0)
    for night in WARD:
        for one in night.desaturations:
            seen[one.kind] += 1
            begin, end = ((at - START) // SECOND_NS for at in (one.start_ns, one.end_ns))
            course = COURSES[one.kind]
            shortest, longest = (sum(part[n] for part in course[1:4]) for n in (0, 1))
            assert shortest <= end - begin <= longest
            assert night.saturation[begin:end].min() <= one.nadir + 0.7
            assert night.baseline - course.depth[1] - 0.1 <= one.nadir <= night.baseline - course.depth[0] + 0.1
    assert all(count > 20 for count in seen.values()), seen


def test_few_patients_have_most_of_the_desaturations() -> None:
    counts = np.sort([len(night.desaturations) for night in WARD])[::-1]
    assert counts[: len(WARD) // 5].sum() > 0.4 * counts.sum()


def expected(night: Night, averaging_s: int) -> npt.NDArray[Any]:
    """What a device without noise shows at each row."""
    padded = np.concatenate([np.full(averaging_s - 1, np.nan), night.saturation])
    windows = np.lib.stride_tricks.sliding_window_view(padded, averaging_s)
    return np.asarray(np.nanmean(windows, axis=1))[second(night)]


@pytest.mark.parametrize(("averaging_s", "noise_sd"), [(8, 1.0), (4, 0.5), (16, 2.0)])
def test_sound_rows_differ_by_the_noise_and_rounding_alone(averaging_s: int, noise_sd: float) -> None:
    found = []
    for night in nights(6, 9, START, oximeter=Oximeter(averaging_s=averaging_s, noise_sd=noise_sd)):
        exact = expected(night, averaging_s)
        far_from_100 = exact < 93
        found.append((night.value - exact)[(night.cause == Cause.NOISE) & far_from_100])
        np.testing.assert_array_equal(night.value, np.rint(night.value))
        assert night.value.max() <= 100
    errors = np.concatenate(found)
    assert abs(errors.mean()) < 0.1
    assert errors.std() == pytest.approx(np.hypot(noise_sd, np.sqrt(1 / 12)), rel=0.06)


def runs(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return np.asarray(edges[1::2] - edges[::2])


def test_motion_reads_low_for_seconds_and_only_part_of_it_shows() -> None:
    signs = np.zeros(3)
    for night in nights(20, 11, START, oximeter=Oximeter(gaps_per_h=0, resends_per_h=0, spikes_per_h=0)):
        moved = night.cause == Cause.MOTION
        assert (night.value - expected(night, 8))[moved].mean() < -8
        assert runs(moved).min() >= 5, "a burst that the end of the night cuts apart"
        assert np.median(runs(moved)) < 40
        weak, poor = night.perf_index < PERFUSION_GATE, (night.flags & np.uint32(Flag.LOW_QUALITY)) != 0
        assert not (weak & ~moved).any()
        assert not (poor & ~moved).any()
        signs += [(moved & weak).sum(), (moved & poor).sum(), (moved & ~weak & ~poor).sum()]
    np.testing.assert_allclose(signs / signs.sum(), [0.45, 0.2, 0.35], atol=0.08)


def test_spikes_are_single_samples_that_read_low() -> None:
    per_hour = []
    for night in nights(10, 12, START, oximeter=Oximeter(motion_per_h=0, gaps_per_h=0, resends_per_h=0)):
        spikes = night.cause == Cause.SPIKE
        assert (night.value - expected(night, 8))[spikes].max() < -3
        per_hour.append(spikes.sum() / 8)
    assert np.mean(per_hour) == pytest.approx(3.0, rel=0.25)


def test_gaps_have_no_rows() -> None:
    gaps = np.concatenate([np.diff(second(night)[night.cause != Cause.RESENT]) - 1 for night in WARD])
    gaps = gaps[gaps > 0]
    assert len(gaps) > 40
    assert gaps.min() >= 30
    whole = nights(1, 5, START, oximeter=Oximeter(gaps_per_h=0, resends_per_h=0))[0]
    np.testing.assert_array_equal(second(whole), np.arange(8 * 3600))


def test_a_resend_is_an_older_value_at_the_time_of_its_receipt() -> None:
    count = 0
    for night in WARD[:10]:
        resent = night.cause == Cause.RESENT
        np.testing.assert_array_equal(resent, (night.flags & np.uint32(Flag.POSSIBLE_DUPLICATE)) != 0)
        first = dict(zip(second(night)[~resent].tolist(), night.value[~resent].tolist(), strict=True))
        for at, value in zip(second(night)[resent].tolist(), night.value[resent].tolist(), strict=True):
            assert value in [first.get(at - late) for late in range(2, 9)]
        assert (np.diff(night.time_ns) >= 0).all()
        count += int(resent.sum())
    assert count > 50


@pytest.mark.parametrize("interval_s", [1, 60])
def test_flags_are_those_that_ingest_gives(interval_s: int) -> None:
    for night in nights(6, 13, START, oximeter=Oximeter(interval_s=interval_s, spikes_per_h=40.0)):
        rows = len(night.value)
        vital = np.repeat(np.array([SPO2, PERFUSION], np.uint16), rows)
        values = np.concatenate([night.value, night.perf_index])
        message = np.tile(np.arange(rows), 2)
        found = quality.range_flags(vital, values, np.zeros(2 * rows, np.uint8))
        found |= quality.cross_flags(message, np.tile(night.time_ns, 2), vital, values)
        by_device = np.uint32(Flag.LOW_QUALITY | Flag.POSSIBLE_DUPLICATE)
        np.testing.assert_array_equal(found[:rows], night.flags & ~by_device)
        assert PERFUSION_GATE == quality.PERFUSION_GATE
    assert night.flags.any()


def test_minutes_are_every_row_once_in_order_of_receipt() -> None:
    ward = WARD[:4]
    batches = list(minutes(ward))
    assert len(batches) == 480
    for number, batch in enumerate(batches):
        from_ns = START + number * MINUTE_NS
        assert ((batch.received_ns >= from_ns) & (batch.received_ns < from_ns + MINUTE_NS)).all()
    whole = concatenate(batches)
    assert (np.diff(whole.received_ns) >= 0).all()
    np.testing.assert_array_equal(whole.received_ns, whole.time_ns + LATENCY_NS)
    np.testing.assert_array_equal(np.sort(whole.message), np.arange(len(whole)))
    for number, night in enumerate(ward):
        own = whole.patient == number
        for column in ("time_ns", "value", "flags"):
            np.testing.assert_array_equal(getattr(whole, column)[own], getattr(night, column))
        identity = np.stack([whole.source_time_ns[own], whole.seq[own]])
        assert len(np.unique(identity, axis=1).T) == own.sum()
    for name, dtype in COLUMNS.items():
        assert getattr(batches[0], name).dtype == np.dtype(dtype), name


def test_one_sample_a_minute() -> None:
    (night,) = nights(1, 5, START, oximeter=Oximeter(interval_s=60, gaps_per_h=0))
    first_sight = night.cause != Cause.RESENT
    np.testing.assert_array_equal(second(night)[first_sight], np.arange(0, 8 * 3600, 60))
    assert sum(len(batch) for batch in minutes([night])) == len(night.value)


def test_ten_nights_by_the_second_take_well_under_a_second() -> None:
    began = time.process_time()
    rows = sum(len(batch) for batch in minutes(nights(10, 3, START)))
    assert rows > 250_000
    assert time.process_time() - began < 1.0
