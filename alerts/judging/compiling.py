"""How functions over struct-of-arrays records are compiled, and which types such records have for the compiler."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

_WITHOUT_RUNTIME: Final[dict[str, Any]] = {"_nrt": False}


def lean(function: Function) -> Function:
    """Compile a function that hot loops call: it may allocate nothing and counts no references to arrays.

    It reads fields of records that its caller holds, so nothing needs to be counted; counting takes 20 times as long
    as the work does. What would allocate does not compile. With ``NUMBA_DISABLE_JIT=1`` it stays a Python function.
    A row that is ``np.uintp`` halves what is left: an index that may be negative is tested at each access.
    """
    compiled: Function = njit(cache=True, nogil=True, forceinline=True, **_WITHOUT_RUNTIME)(function)
    return compiled


def record_type(cls: type[tuple[Any, ...]], dtypes: Mapping[str, str], *, readonly: bool) -> Any:
    """The numba type of a NamedTuple of columns, C-contiguous; dtypes like ``<i8`` (one dimension) or ``(9,)<f8``."""
    kinds = [np.dtype(dtype) for dtype in dtypes.values()]
    columns = [numba.types.Array(numba.from_dtype(k.base), 1 + k.ndim, "C", readonly=readonly) for k in kinds]
    return numba.types.NamedTuple(columns, cls)  # type: ignore[no-untyped-call]
