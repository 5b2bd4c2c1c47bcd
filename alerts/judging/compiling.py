"""How functions over struct-of-arrays records are compiled, and which types such records have for the compiler."""

import functools
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.extending import typeof_impl

from alerts.judging.record_types import RecordType

Function = TypeVar("Function", bound=Callable[..., Any])
Array = npt.NDArray[Any]

_INT32, _INT64 = numba.types.int32, numba.types.int64
Int32Row = Annotated[Array, numba.types.Array(_INT32, 1, "C")]
Int32Table = Annotated[Array, numba.types.Array(_INT32, 2, "C")]
Int64Row = Annotated[Array, numba.types.Array(_INT64, 1, "C")]
Int64Table = Annotated[Array, numba.types.Array(_INT64, 2, "C")]
Float64Row = Annotated[Array, numba.types.Array(numba.types.float64, 1, "C")]
BoolTable = Annotated[Array, numba.types.Array(numba.types.boolean, 2, "C")]
"""Arrays that kernels take beside records, C-contiguous."""

_SCALARS: Final[Mapping[Any, Any]] = {int: _INT64, float: numba.types.float64, bool: numba.types.boolean}

_WITHOUT_RUNTIME: Final[dict[str, Any]] = {"_nrt": False}


def lean(function: Function) -> Function:
    """Compile a function that hot loops call: it may allocate nothing and counts no references to arrays.

    It reads fields of records that its caller holds, so nothing needs to be counted; counting takes 20 times as long
    as the work does. What would allocate does not compile. With ``NUMBA_DISABLE_JIT=1`` it stays a Python function.
    A row that is ``np.uintp`` halves what is left: an index that may be negative is tested at each access.
    """
    compiled: Function = njit(cache=True, nogil=True, forceinline=True, **_WITHOUT_RUNTIME)(function)
    return compiled


def record_type(cls: type[tuple[Any, ...]], dtypes: Mapping[str, str], *, readonly: bool) -> RecordType:
    """The numba type of a NamedTuple of columns, C-contiguous; dtypes like ``<i8`` (one dimension) or ``(9,)<f8``.

    From here on it is the type of every instance of ``cls`` whose columns are like that.
    """
    kinds = [np.dtype(dtypes[name]) for name in cls._fields]  # type: ignore[attr-defined]
    columns = tuple(numba.types.Array(numba.from_dtype(k.base), 1 + k.ndim, "C", readonly=readonly) for k in kinds)
    record = RecordType(cls, columns)
    typeof = functools.partial(_typeof, record=record, kinds=kinds, readonly=readonly)
    typeof_impl.register(cls)(typeof)  # type: ignore[no-untyped-call]
    return record


def _typeof(
    value: tuple[Array, ...], _context: Any, *, record: RecordType, kinds: list[np.dtype[Any]], readonly: bool
) -> RecordType | None:
    """``record`` when the columns of ``value`` are as it says, else nothing: numba refuses it."""
    alike = (
        found.dtype == kind.base and found.ndim == 1 + kind.ndim and found.flags.c_contiguous
        and (readonly or found.flags.writeable)
        for found, kind in zip(value, kinds, strict=True)
    )  # fmt: skip
    return record if all(alike) else None


def _type_of(hint: Any) -> Any:
    """The numba type of an annotation: a number, an array of this module, or a record that has a type."""
    if hint in _SCALARS:
        return _SCALARS[hint]
    if typing.get_origin(hint) is Annotated:
        return hint.__metadata__[0]
    told = typeof_impl.dispatch(hint)
    if not isinstance(told, functools.partial):
        raise TypeError(f"a kernel takes numbers, arrays of this module and records, not {hint}")
    return told.keywords["record"]


@functools.cache
def settle(kernel: Callable[..., Any]) -> None:
    """Compile a kernel and all that it calls, each for the types of its annotations, or take them from numba's cache.

    Afterwards they are compiled for no other types: numba would make a copy of each function for every literal and
    every width of an integer that it is called with, two for each that is needed. With ``NUMBA_DISABLE_JIT=1`` it does
    nothing.
    """
    if not isinstance(kernel, Dispatcher):
        return
    function = kernel.py_func
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, Dispatcher):
            settle(called)
    hints = typing.get_type_hints(function, include_extras=True)
    kernel.compile(tuple(_type_of(hint) for name, hint in hints.items() if name != "return"))
    kernel.disable_compile()
