"""What simulated devices encode, the adapters decode: values, times and identities come back.

The formats are written from the reference and share no code with the adapters; by whatever units, offsets and
optional fields a payload says something, the same must be heard.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import Columns, SourceClock
from ingest.adapters import BUILT_IN
from simulators.formats import FORMATS, CarriedTime, Format, Sample
from tests.adapters.decoding import ADAPTERS, RECEIVED_NS, decode_all, message
from vitals.catalog import BY_CODE, BY_KEY
from vitals.glossary import Flag, Statistic
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE, to_canonical

SECOND_NS = 1_000_000_000
RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({
    "heart_rate": (30, 220), "pulse_rate": (30, 220), "pulse_rate_nibp": (30, 220), "spo2": (70, 100),
    "resp_rate": (4, 60), "bp_sys": (60, 260), "bp_dia": (30, 160), "bp_mean": (40, 200), "temp": (32, 42),
    "glucose_bg": (20, 800), "glucose_isf": (41, 399), "glucose": (20, 800), "weight": (20, 290), "height": (50, 220),
    "bmi": (12, 70), "body_fat": (3, 70), "perf_index": (0.1, 20), "rr_interval": (300, 2000), "steps": (0, 5000),
    "sleep": (0.5, 14), "o2_flow": (0, 15),
})  # fmt: skip
"""Values that a device may measure: those that no format cuts off."""
CLOCKS: Mapping[CarriedTime, frozenset[str]] = MappingProxyType({
    # An instant may be written without its offset, which is then wall time.
    CarriedTime.INSTANT: frozenset({"instant", "wall"}),
    CarriedTime.WALL: frozenset({"wall"}),
    CarriedTime.HUB: frozenset({"hub"}),
    # The instant is not known, the order is.
    CarriedTime.RELATIVE: frozenset({"stored"}),
    CarriedTime.NONE: frozenset({"none"}),
})  # fmt: skip
ONE_VALUE = frozenset({Statistic.SINGLE, Statistic.MEAN, Statistic.SUM, Statistic.COUNT})
WITHOUT_KEY = frozenset({"apple_health"})
"""Records that have no id: their value as sent, with its unit, tells them apart (device-formats.md 5, 8.4)."""
COUNTED = frozenset({"json", "ble_glucose"})
"""Formats that carry the device's own count."""
ESTIMATED_PLACE = frozenset({"rr_interval"})
"""Placed backwards from the packet's arrival (device-formats.md 2.7)."""


def samples(of: Format) -> st.SearchStrategy[Sample]:
    values = {key: st.floats(*RANGES[key], allow_nan=False) for key in of.vitals}
    # A week before the receipt, so that no time is in the future.
    times = st.integers(RECEIVED_NS - 7 * 86_400 * SECOND_NS, RECEIVED_NS)
    return st.builds(Sample, st.fixed_dictionaries(values), times, st.integers(0, 0xFFFF))


def canonical(batch: Columns) -> dict[str, tuple[float, int]]:
    """Catalogue key -> (value in the canonical unit, row)."""
    found: dict[str, tuple[float, int]] = {}
    for row in range(len(batch)):
        if batch.statistic[row] in ONE_VALUE:
            key = BY_CODE[int(batch.vital[row])].key
            unit = UNIT_BY_CODE[int(batch.unit[row])].ucum
            assert key not in found, f"{key} twice"
            found[key] = float(to_canonical(batch.value[row : row + 1], unit, BY_KEY[key].unit)[0]), row
    return found


def identities(batch: Columns) -> set[tuple[int, ...]]:
    """(message, vital, source time, seq) of every row, as DESIGN section 5 counts them."""
    columns = (batch.message, batch.vital, batch.source_time_ns, batch.seq)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def identity(of: Format) -> str:
    return f"{of.name} ({of.title})"


KNOWN = [of for of in FORMATS if of.adapter in ADAPTERS]


@pytest.mark.parametrize("adapter", [*BUILT_IN])
def test_every_adapter_has_a_simulated_device(adapter: str) -> None:
    assert adapter in {of.adapter for of in FORMATS}


@pytest.mark.parametrize("of", KNOWN, ids=identity)
def test_a_format_is_of_a_kind_that_its_adapter_knows(of: Format) -> None:
    assert of.kind in ADAPTERS[of.adapter].kinds
    assert of.vitals <= ADAPTERS[of.adapter].vitals


@pytest.mark.parametrize("of", KNOWN, ids=identity)
@settings(max_examples=30)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_was_measured_comes_back(of: Format, data: st.DataObject, seed: int) -> None:
    sample = data.draw(samples(of))
    decoded = decode_all([message(of.adapter, of.encode(sample, random.Random(seed)), of.kind)])
    assert not decoded.rejects
    assert not decoded.unknown_members
    batch = decoded.batch
    found = canonical(batch)
    assert found.keys() == of.vitals
    for key, (value, row) in found.items():
        assert value == pytest.approx(sample.values[key], abs=of.resolution[key] * (1 + 1e-6)), key
        assert SourceClock(int(batch.clock[row])).name.lower() in CLOCKS[of.time]
        assert not int(batch.flags[row]) & ~int(Flag.ESTIMATED), key
        if of.adapter in COUNTED:
            assert int(batch.seq[row]) == sample.seq
        if of.time is not CarriedTime.RELATIVE and key not in ESTIMATED_PLACE:
            assert time_of(batch, row) == expected_time(of, sample)


def time_of(batch: Columns, row: int) -> int:
    """When it was measured: the end of an interval."""
    ended = int(batch.ended_ns[row])
    return int(batch.source_time_ns[row]) if ended == NO_TIME else ended


def expected_time(of: Format, sample: Sample) -> int:
    if of.time is CarriedTime.NONE:
        return RECEIVED_NS
    step_ns = int(of.time_step_s * SECOND_NS)
    return sample.time_ns // step_ns * step_ns


@pytest.mark.parametrize(
    "of", [of for of in KNOWN if of.time not in {CarriedTime.NONE, CarriedTime.RELATIVE} and of.vitals], ids=identity
)
@settings(max_examples=20)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_a_measurement_is_the_same_however_it_is_written(of: Format, data: st.DataObject, seed: int) -> None:
    sample, corrected = data.draw(samples(of)), data.draw(samples(of)).values
    once, again = (of.encode(sample, random.Random(seed + number)) for number in (0, 1))
    revised = of.encode(replace(sample, values=corrected), random.Random(seed))
    first, second, third = (
        decode_all([message(of.adapter, payload, of.kind)]).batch for payload in (once, again, revised)
    )
    if of.adapter not in WITHOUT_KEY:
        assert identities(first) == identities(second) == identities(third)
    later = replace(sample, time_ns=sample.time_ns + (of.lasts_s + 60) * SECOND_NS, seq=(sample.seq + 1) & 0xFFFF)
    other = decode_all([message(of.adapter, of.encode(later, random.Random(seed)), of.kind)]).batch
    assert not identities(first) & identities(other)


@pytest.mark.parametrize("of", KNOWN, ids=identity)
def test_a_batch_decodes_as_its_messages_do(of: Format) -> None:
    rng = random.Random(5)
    middle = {key: (low + high) / 2 for key, (low, high) in RANGES.items() if key in of.vitals}
    payloads = [of.encode(Sample(middle, RECEIVED_NS - n * 3600 * SECOND_NS, n), rng) for n in range(20)]
    messages = [message(of.adapter, payload, of.kind, ordinal=n) for n, payload in enumerate(payloads)]
    together = decode_all(messages).batch
    alone = [decode_all([one]).batch for one in messages]
    np.testing.assert_array_equal(together.value, np.concatenate([batch.value for batch in alone]))
    np.testing.assert_array_equal(together.source_time_ns, np.concatenate([batch.source_time_ns for batch in alone]))
    np.testing.assert_array_equal(together.seq, np.concatenate([batch.seq for batch in alone]))
