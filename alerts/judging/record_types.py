"""Records for the compiler: a NamedTuple of columns is one pointer, by numba's interface for extensions."""

from collections.abc import Iterator
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.core.pythonapi import NativeValue
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, lower_getattr_generic, models, register_model, unbox
from numba.np.arrayobj import populate_array


class RecordType(numba.types.Type):
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


@register_model(RecordType)
class _RecordModel(models.PrimitiveModel):
    def __init__(self, manager: Any, record: RecordType) -> None:
        super().__init__(manager, record, record.room().as_pointer())


@infer_getattr
class _RecordAttributes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, record: RecordType, name: str) -> Any:  # type: ignore[override]
        return record.columns.get(name)


@lower_getattr_generic(RecordType)
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


@unbox(RecordType)
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
