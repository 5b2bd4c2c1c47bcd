"""How functions over struct-of-arrays records are compiled, and which types such records have for the compiler."""

import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.core.pythonapi import NativeValue
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model, typeof_impl, unbox
from numba.np.arrayobj import populate_array

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


class RecordType(numba.types.Type):  # type: ignore[misc]
    """The type of a NamedTuple of columns for the compiler: one pointer to where the columns are.

    numba's own type of a NamedTuple hands on seven values for each column, hundreds at each call: compiling took four
    times as long. The columns are the caller's; a compiled function must not return one.
    """

    def __init__(self, cls: type[tuple[Any, ...]], columns: tuple[Any, ...]) -> None:
        self.columns = dict(zip(cls._fields, columns, strict=True))  # type: ignore[attr-defined]
        super().__init__(name=f"{cls.__module__}.{cls.__qualname__}({', '.join(map(str, columns))})")

    def room(self) -> Any:
        """The struct that the pointer points to: of each column its data and its shape."""
        return ir.LiteralStructType([part for column in self.columns.values() for part in _parts(column)])

    def places(self) -> Iterator[tuple[str, Any, int]]:
        """Name and type of each column, and the number of its first member of the struct."""
        place = 0
        for name, column in self.columns.items():
            yield name, column, place
            place += 1 + column.ndim


def _parts(column: Any) -> list[Any]:
    return [cgutils.voidptr_t, *[cgutils.intp_t] * column.ndim]


@register_model(RecordType)  # type: ignore[untyped-decorator]
class _RecordModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, record: RecordType) -> None:
        super().__init__(manager, record, record.room().as_pointer())


@infer_getattr  # type: ignore[untyped-decorator]
class _RecordAttributes(AttributeTemplate):  # type: ignore[misc]
    key = RecordType

    def generic_resolve(self, record: RecordType, name: str) -> Any:
        return record.columns.get(name)


@lower_getattr_generic(RecordType)  # type: ignore[untyped-decorator]
def _column(context: Any, builder: Any, record: RecordType, value: Any, name: str) -> Any:
    """The array of a column. It has no owner to count references to."""
    column, place = next((column, place) for field, column, place in record.places() if field == name)
    data, *shape = (builder.load(cgutils.gep_inbounds(builder, value, 0, place + n)) for n in range(1 + column.ndim))
    array = context.make_array(column)(context, builder)
    itemsize = context.get_constant(numba.types.intp, context.get_abi_sizeof(context.get_data_type(column.dtype)))
    strides = [itemsize]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(array, builder.bitcast(data, array.data.type), shape, strides, itemsize, meminfo=None)
    return array._getvalue()


@unbox(RecordType)  # type: ignore[untyped-decorator]
def _unbox_record(record: RecordType, value: Any, c: Any) -> NativeValue:
    """Put data and shapes of all columns into room of the outermost call."""
    builder, failed = c.builder, cgutils.false_bit
    room = cgutils.alloca_once(builder, record.room())
    adapt = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.IntType(32), [cgutils.voidptr_t, cgutils.voidptr_t]), "numba_adapt_ndarray"
    )
    for number, (_, column, place) in enumerate(record.places()):
        array = c.context.make_array(column)(c.context, builder)
        item = c.pyapi.tuple_getitem(value, number)
        code = builder.call(adapt, [item, builder.bitcast(array._getpointer(), cgutils.voidptr_t)])
        failed = builder.or_(failed, cgutils.is_not_null(builder, code))
        parts = [builder.bitcast(array.data, cgutils.voidptr_t), *cgutils.unpack_tuple(builder, array.shape)]
        for n, part in enumerate(parts):
            builder.store(part, cgutils.gep_inbounds(builder, room, 0, place + n))
    with builder.if_then(failed, likely=False):
        c.pyapi.err_set_string("PyExc_TypeError", "a column of a record is no array")
    return NativeValue(room, is_error=failed)


def record_type(cls: type[tuple[Any, ...]], dtypes: Mapping[str, str], *, readonly: bool) -> RecordType:
    """The numba type of a NamedTuple of columns, C-contiguous; dtypes like ``<i8`` (one dimension) or ``(9,)<f8``.

    From here on it is the type of every instance of ``cls`` whose columns are like that.
    """
    kinds = [np.dtype(dtypes[name]) for name in cls._fields]  # type: ignore[attr-defined]
    columns = tuple(numba.types.Array(numba.from_dtype(k.base), 1 + k.ndim, "C", readonly=readonly) for k in kinds)
    record = RecordType(cls, columns)

    typeof_impl.register(cls)(functools.partial(_typeof, record=record, kinds=kinds, readonly=readonly))
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
    return typeof_impl.dispatch(hint).keywords["record"]


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
