"""Records for the compiler, and what functions are compiled for."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from alerts.judging.compiling import Array, Int64Row, lean, record_type, settle

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="not compiled")


class Pair(NamedTuple):
    """Two columns, one of two dimensions."""

    flat: Array
    wide: Array


DTYPES = {"flat": "<i4", "wide": "(3,)<f8"}
PAIR = record_type(Pair, DTYPES, readonly=False)


@lean
def _bump(pair: Pair, row: int, by: int) -> int:
    pair.flat[row] += by
    return int(pair.flat[row])


@lean
def total(pair: Pair, rows: Int64Row) -> float:
    """Adds one to every second row; the sum of what is there then."""
    found = 0.0
    for row in range(rows.size):
        found += _bump(pair, rows[row], 1) + _bump(pair, np.int32(0), np.uint8(0))
        for column in range(pair.wide.shape[1]):
            found += pair.wide[rows[row], column]
    return found


def pair() -> Pair:
    return Pair(np.arange(4, dtype=np.int32), np.arange(12, dtype=np.float64).reshape(4, 3))


def test_a_kernel_reads_and_writes_the_columns_of_a_record() -> None:
    settle(total)
    one, rows = pair(), np.array([1, 3], dtype=np.int64)
    assert total(one, rows) == (2 + 3 + 4 + 5) + (4 + 9 + 10 + 11)
    assert one.flat.tolist() == [0, 2, 2, 4]


def test_a_kernel_is_compiled_for_its_annotations_alone() -> None:
    settle(total)
    assert isinstance(total, Dispatcher)
    assert isinstance(_bump, Dispatcher)
    assert total.signatures == [(PAIR, numba.types.Array(numba.types.int64, 1, "C"))]
    assert _bump.signatures == [(PAIR, numba.types.int64, numba.types.int64)]


@pytest.mark.parametrize("broken", [
    Pair(np.arange(4, dtype=np.int64), pair().wide), Pair(pair().flat, pair().flat),
    Pair(pair().flat[::2], pair().wide), Pair(np.frombuffer(bytes(16), np.int32), pair().wide),
])  # fmt: skip
def test_columns_that_are_not_as_declared_are_refused(broken: Pair) -> None:
    settle(total)
    with pytest.raises(TypeError):
        total(broken, np.array([0], dtype=np.int64))


def test_a_record_without_a_type_is_refused() -> None:
    @lean
    def lost(words: str) -> int:
        return len(words)

    with pytest.raises(TypeError, match="a kernel takes numbers"):
        settle(lost)
