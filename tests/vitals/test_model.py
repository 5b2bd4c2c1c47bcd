"""Batches: rows taken, replaced, joined, built from dicts."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.entries import readings
from vitals.model import COLUMNS, UNASSIGNED, Provenance, VitalBatch, batch_from_rows, concatenate
from vitals.times import NO_TIME

T0 = 1_700_000_000_000_000_000


def row(value: float, device: str = "d1", patient: str | None = "p_1", **columns: Any) -> dict[str, Any]:
    return {"device": device, "patient": patient, "vital": 1, "time_ns": T0, "value": value, **columns}


def told(batch: VitalBatch) -> list[tuple[str, str | None, float, Any]]:
    """Device, patient, value and context of each row, by name."""
    return [
        (
            batch.devices[batch.device[i]],
            None if batch.patient[i] == UNASSIGNED else batch.patients[batch.patient[i]],
            float(batch.value[i]),
            batch.context.get(i),
        )
        for i in range(len(batch))
    ]


FIVE = [
    row(0.0, context={"n": 0}),
    row(1.0, device="d2", patient=None),
    row(2.0, patient="p_2", context={"n": 2}),
    row(3.0, device="d3"),
    row(4.0, patient=None, context={"n": 4}),
]
TOLD = [(r["device"], r["patient"], r["value"], r.get("context")) for r in FIVE]


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="unequal length"):
        readings().replace(value=np.zeros(2))


def test_rows_become_columns_of_the_wire_types() -> None:
    batch = batch_from_rows(FIVE)
    assert told(batch) == TOLD
    assert {name: column.dtype for name, column in batch.columns().items()} == {
        name: np.dtype(dtype) for name, dtype in COLUMNS.items()
    }
    assert list(batch.columns()) == list(COLUMNS)


def test_missing_columns_are_neutral() -> None:
    batch = batch_from_rows([row(70.0)])
    assert (batch.source_time_ns[0], batch.received_ns[0], batch.end_ns[0]) == (T0, T0, NO_TIME)
    assert (batch.reported[0], batch.message[0], batch.seq[0], batch.flags[0], batch.basis[0]) == (70.0, -1, 0, 0, 0)
    assert batch.provenance == Provenance(-1, -1, "", 0)


def test_given_columns_are_kept() -> None:
    given_columns = {
        "source_time_ns": 1,
        "received_ns": 2,
        "end_ns": 3,
        "reported": 4.0,
        "message": 5,
        "seq": 6,
        "flags": 7,
    }
    batch = batch_from_rows([row(70.0, **given_columns)])
    assert {name: getattr(batch, name)[0] for name in given_columns} == given_columns


def test_no_rows_make_an_empty_batch() -> None:
    batch = batch_from_rows([])
    assert (len(batch), batch.devices, batch.patients) == (0, (), ())


@pytest.mark.parametrize(
    "rows",
    [[], [2], [0, 4], [4, 0], [2, 2], [-1], [3, -5]],
)
def test_take_row_numbers(rows: list[int]) -> None:
    taken = batch_from_rows(FIVE).take(np.array(rows, dtype=np.int64))
    assert told(taken) == [TOLD[number] for number in rows]


def test_take_a_mask() -> None:
    batch = batch_from_rows(FIVE)
    taken = batch.take(batch.patient == UNASSIGNED)
    assert told(taken) == [TOLD[1], TOLD[4]]
    assert (taken.devices, taken.patients) == (batch.devices, batch.patients)
    assert told(batch.take(np.zeros(5, dtype=bool))) == []


def test_take_keeps_provenance() -> None:
    assert readings().take(np.array([0])).provenance == readings().provenance


def test_take_refuses_rows_that_are_not_there() -> None:
    with pytest.raises(IndexError):
        batch_from_rows(FIVE).take(np.array([5]))


def test_replace_changes_only_what_is_named() -> None:
    batch = readings()
    changed = batch.replace(value=np.array([1.0, 2.0, 3.0]))
    assert changed.value.tolist() == [1.0, 2.0, 3.0]
    assert all(getattr(changed, name) is getattr(batch, name) for name in COLUMNS if name != "value")
    assert (changed.context, changed.provenance) == (batch.context, batch.provenance)
    assert batch.value[0] == 180.182


def test_replace_refuses_an_unknown_field() -> None:
    with pytest.raises(TypeError):
        readings().replace(colour=1)


def test_concatenate_merges_vocabularies() -> None:
    first, second = batch_from_rows(FIVE[:2]), batch_from_rows(FIVE[2:])
    joined = concatenate([first, batch_from_rows([]), second])
    assert told(joined) == TOLD
    assert joined.devices == ("d1", "d2", "d3")
    assert joined.patients == ("p_1", "p_2")
    assert {name: column.dtype for name, column in joined.columns().items()} == {
        name: np.dtype(dtype) for name, dtype in COLUMNS.items()
    }


def test_concatenate_of_none_is_empty_and_of_one_is_the_same() -> None:
    batch = readings()
    assert len(concatenate([])) == 0
    assert concatenate(iter([batch])) is batch


def test_concatenate_takes_the_first_provenance() -> None:
    assert concatenate([readings(), batch_from_rows(FIVE)]).provenance == readings().provenance


_ROW = st.builds(
    row,
    st.floats(allow_nan=False),
    st.sampled_from(["d1", "d2", "d3"]),
    st.sampled_from(["p_1", "p_2", None]),
    context=st.none() | st.dictionaries(st.text(max_size=2), st.integers(), min_size=1, max_size=2),
)


@settings(derandomize=True, deadline=None)
@given(st.lists(_ROW, max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_cutting_and_joining_changes_nothing(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    whole = batch_from_rows(rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [whole.take(np.arange(first, last)) for first, last in itertools.pairwise(edges)]
    assert told(concatenate(parts)) == told(whole)
