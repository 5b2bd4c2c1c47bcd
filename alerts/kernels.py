"""The hot loop: conditions of all slots over the rows of a batch, and over a tick, as numba kernels.

State is struct-of-arrays, one element per slot (a side of a limit of a patient). The kernels run the *condition* of a
slot only (clear, pending, holding, ...); alerts are opened and closed from the transitions that they emit, which are
few. Rows are taken strictly in order and each depends on nothing but the slot's state, so the transitions are the same
however the rows were cut into batches. With ``NUMBA_DISABLE_JIT=1`` the same functions run as Python.

``NUMBA_CACHE_DIR`` is read by numba when it is first imported: whoever starts the process sets it before.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core.dispatcher import Dispatcher

from vitals.glossary import NOT_SCORED, Basis, Flag, Severity, Statistic
from vitals.model import NO_TIME

Array = npt.NDArray[Any]

CLEAR: Final = 0
SUSPECTED: Final = 1
"""One suspect row was out of limits, on a slot that does not page on one."""
PENDING: Final = 2
"""Out of limits, the on-delay runs from ``first_time_ns``."""
HOLDS: Final = 3
"""The condition is true; ``timer_ns`` is when the values came back, or NO_TIME."""
UNCONFIRMED: Final = 4
"""An S1 condition on one suspect row; ``timer_ns`` is the time by which a second reading must refute it."""

NOTHING: Final = 0
ONSET: Final = 1
DOUBTED: Final = 2
WORSENED: Final = 3
REFUTED: Final = 4
ENDED: Final = 5

CONFIRM_NS: Final = 15 * 60 * 1_000_000_000
"""How long a second reading may take to refute a suspect S1 sample (clinical.md 1.3)."""
SLOTS_PER_READING: Final = 6
"""A vital of a patient has at most two sides in three severities."""

_LOW: Final = 0
_S1: Final = int(Severity.S1)
_SINGLE: Final = int(Statistic.SINGLE)
_DAY: Final = int(Basis.DAY)
_UNKNOWN: Final = int(Basis.UNKNOWN)
_UNSCORED: Final = int(NOT_SCORED)
_SUSPECT: Final = int(Flag.SUSPECT)
_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
_EXTREME: Final = _BELOW | _ABOVE


class Slots(NamedTuple):
    """Parameters, links and condition of every slot; dtypes in ``SLOT_DTYPES``."""

    patient: Array
    vital: Array
    side: Array
    severity: Array
    unit: Array
    limit: Array
    deadband: Array
    enter: Array
    leave: Array
    on_delay_ns: Array
    off_delay_ns: Array
    staleness_ns: Array
    live: Array
    sibling: Array
    following: Array
    condition: Array
    last_time_ns: Array
    timer_ns: Array
    first_time_ns: Array
    first_value: Array
    first_flags: Array
    first_message: Array
    first_source_ns: Array
    first_seq: Array
    latest_time_ns: Array
    latest_value: Array
    latest_flags: Array
    near_misses: Array


class Rows(NamedTuple):
    """The columns of a batch that rules read, contiguous and read-only; dtypes in ``ROW_DTYPES``."""

    patient: Array
    vital: Array
    time_ns: Array
    basis: Array
    statistic: Array
    value: Array
    flags: Array
    message: Array
    source_time_ns: Array
    seq: Array
    received_ns: Array


class Emitted(NamedTuple):
    """Transitions in order; ``first_*`` is the first row of the condition, the plain columns the row that acted.

    ``row`` is the number of that row in its batch, and means nothing for what a tick caused.
    """

    slot: Array
    kind: Array
    at_ns: Array
    time_ns: Array
    value: Array
    flags: Array
    first_time_ns: Array
    first_value: Array
    first_flags: Array
    first_message: Array
    first_source_ns: Array
    first_seq: Array
    row: Array


SLOT_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "vital": "<u2", "side": "<u1", "severity": "<u1", "unit": "<u1", "limit": "<f8",
    "deadband": "<f8", "enter": "<f8", "leave": "<f8", "on_delay_ns": "<i8", "off_delay_ns": "<i8",
    "staleness_ns": "<i8", "live": "<u1", "sibling": "<i4", "following": "<i4", "condition": "<u1",
    "last_time_ns": "<i8", "timer_ns": "<i8", "first_time_ns": "<i8", "first_value": "<f8", "first_flags": "<u4",
    "first_message": "<i8", "first_source_ns": "<i8", "first_seq": "<i8", "latest_time_ns": "<i8",
    "latest_value": "<f8", "latest_flags": "<u4", "near_misses": "<u4",
})  # fmt: skip
ROW_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "vital": "<u2", "time_ns": "<i8", "basis": "<u1", "statistic": "<u1", "value": "<f8",
    "flags": "<u4", "message": "<i8", "source_time_ns": "<i8", "seq": "<i8", "received_ns": "<i8",
})  # fmt: skip
EMITTED_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "slot": "<i4", "kind": "<u1", "at_ns": "<i8", "time_ns": "<i8", "value": "<f8", "flags": "<u4",
    "first_time_ns": "<i8", "first_value": "<f8", "first_flags": "<u4", "first_message": "<i8",
    "first_source_ns": "<i8", "first_seq": "<i8", "row": "<i8",
})  # fmt: skip


@njit(cache=True, nogil=True)
def _violation(slots: Slots, slot: int, rows: Rows, row: int, suspect: bool) -> int:
    """A row beyond the limit moves a slot whose condition does not hold yet; the transition, or NOTHING."""
    condition = slots.condition[slot]
    urgent = slots.severity[slot] == _S1
    if condition == CLEAR and suspect and not urgent:
        slots.condition[slot] = SUSPECTED
        return NOTHING
    time_ns = rows.time_ns[row]
    slots.latest_time_ns[slot] = time_ns
    slots.latest_value[slot] = rows.value[row]
    slots.latest_flags[slot] = rows.flags[row]
    if condition == UNCONFIRMED:
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return WORSENED
    if condition != PENDING:
        slots.first_time_ns[slot] = time_ns
        slots.first_value[slot] = rows.value[row]
        slots.first_flags[slot] = rows.flags[row]
        slots.first_message[slot] = rows.message[row]
        slots.first_source_ns[slot] = rows.source_time_ns[row]
        slots.first_seq[slot] = rows.seq[row]
    held = time_ns - slots.first_time_ns[slot] >= slots.on_delay_ns[slot]
    if suspect and urgent and not (condition == PENDING and held):
        deadline = rows.received_ns[row] + CONFIRM_NS
        if condition == PENDING:
            # A sound reading was out of limits before: doubt about this one must not delay what that one would raise.
            deadline = min(deadline, slots.first_time_ns[slot] + slots.on_delay_ns[slot])
        slots.condition[slot] = UNCONFIRMED
        slots.timer_ns[slot] = deadline
        return DOUBTED
    if not held:
        slots.condition[slot] = PENDING
        return NOTHING
    slots.condition[slot] = HOLDS
    slots.timer_ns[slot] = NO_TIME
    return ONSET


@njit(cache=True, nogil=True)
def _recovery(slots: Slots, slot: int, time_ns: int, beyond_deadband: bool, suspect: bool) -> int:
    """A row within the limit moves the slot; the transition, or NOTHING."""
    condition = slots.condition[slot]
    if condition == UNCONFIRMED:
        if suspect:
            return NOTHING
        slots.condition[slot] = CLEAR
        return REFUTED
    if condition != HOLDS:
        slots.condition[slot] = CLEAR
        if condition == PENDING:
            slots.near_misses[slot] += 1
        return NOTHING
    if not beyond_deadband:
        slots.timer_ns[slot] = NO_TIME
        return NOTHING
    if slots.timer_ns[slot] == NO_TIME:
        slots.timer_ns[slot] = time_ns
    if time_ns - slots.timer_ns[slot] < slots.off_delay_ns[slot]:
        return NOTHING
    slots.condition[slot] = CLEAR
    return ENDED


@njit(cache=True, nogil=True)
def _outside(value: float, flags: int, low: bool, limit: float) -> int:
    """1 when a value is beyond ``limit``, 0 when it is not, -1 when there is nothing to compare."""
    if flags & (_BELOW if low else _ABOVE):
        return 1
    if flags & _EXTREME:
        return 0
    if np.isnan(value):
        return -1
    return 1 if (value < limit if low else value > limit) else 0


@njit(cache=True, nogil=True)
def _current(flags: int, statistic: int, basis: int) -> bool:
    """Whether rules read a row at all."""
    return flags & _UNSCORED == 0 and statistic == _SINGLE and basis != _DAY and basis != _UNKNOWN  # noqa: PLR1714


@njit(cache=True, nogil=True)
def _move(slots: Slots, slot: int, rows: Rows, row: int, outside: bool) -> int:
    """Let a row move the condition of a slot; the transition, or NOTHING."""
    value, flags = rows.value[row], rows.flags[row]
    coded = flags & _EXTREME != 0
    suspect = flags & _SUSPECT != 0 and not coded
    if outside:
        return _violation(slots, slot, rows, row, suspect)
    leave = slots.leave[slot]
    beyond = coded or (value >= leave if slots.side[slot] == _LOW else value <= leave)
    return _recovery(slots, slot, rows.time_ns[row], beyond, suspect)


@njit(cache=True, nogil=True)
def _emit(out: Emitted, place: int, slots: Slots, slot: int, kind: int, at_ns: int) -> None:
    out.slot[place] = slot
    out.kind[place] = kind
    out.at_ns[place] = at_ns
    out.time_ns[place] = slots.latest_time_ns[slot]
    out.value[place] = slots.latest_value[slot]
    out.flags[place] = slots.latest_flags[slot]
    out.first_time_ns[place] = slots.first_time_ns[slot]
    out.first_value[place] = slots.first_value[slot]
    out.first_flags[place] = slots.first_flags[slot]
    out.first_message[place] = slots.first_message[slot]
    out.first_source_ns[place] = slots.first_source_ns[slot]
    out.first_seq[place] = slots.first_seq[slot]


@njit(cache=True, nogil=True)
def scan_rows(slots: Slots, heads: Array, index: Array, rows: Rows, start: int, out: Emitted) -> tuple[int, int]:
    """Judge rows from ``start`` in order, each by all slots of its (patient, vital).

    ``heads`` (patients x vital codes, int32) starts the chain of slots, ``index`` maps the batch's patient vocabulary
    to rows of it. Returns the next row (the batch's length when done; less when ``out`` is full) and how many
    transitions stand in ``out``.
    """
    # Arrays used for every row are bound once: a field access inside the loop counts references, 60 times the work.
    patients, vitals, times, values, flags = rows.patient, rows.vital, rows.time_ns, rows.value, rows.flags
    statistics, bases = rows.statistic, rows.basis
    side, enter, following = slots.side, slots.enter, slots.following
    last_time_ns, condition, timer_ns = slots.last_time_ns, slots.condition, slots.timer_ns
    size, room, count = patients.size, out.slot.size - SLOTS_PER_READING, 0
    for row in range(start, size):
        if count > room:
            return row, count
        token, vital = patients[row], vitals[row]
        if token < 0 or token >= index.size or index[token] < 0 or vital >= heads.shape[1]:
            continue
        slot = heads[index[token], vital]
        if slot < 0 or not _current(flags[row], statistics[row], bases[row]):
            continue
        time_ns = times[row]
        while slot >= 0:
            outside = _outside(values[row], flags[row], side[slot] == _LOW, enter[slot])
            if outside >= 0 and time_ns >= last_time_ns[slot]:
                last_time_ns[slot] = time_ns
                if outside == 1 and condition[slot] == HOLDS:
                    timer_ns[slot] = NO_TIME
                elif outside == 1 or condition[slot] != CLEAR:
                    kind = _move(slots, slot, rows, row, outside == 1)
                    if kind != NOTHING:
                        _emit(out, count, slots, slot, kind, rows.received_ns[row])
                        out.time_ns[count], out.value[count], out.flags[count] = time_ns, values[row], flags[row]
                        out.row[count] = row
                        count += 1
            slot = following[slot]
    return size, count


@njit(cache=True, nogil=True)
def scan_tick(slots: Slots, watermark_ns: int, start: int, out: Emitted) -> tuple[int, int]:
    """Let delays elapse up to ``watermark_ns``, for all slots from ``start``; returns as :func:`scan_rows`.

    A pending condition is raised only while its last reading is not stale; nothing is ever cleared here.
    """
    size = slots.condition.size
    count = 0
    for slot in range(start, size):
        condition = slots.condition[slot]
        if condition != PENDING and condition != UNCONFIRMED:  # noqa: PLR1714  a set is slow in the kernel
            continue
        if count == out.slot.size:
            return slot, count
        if condition == PENDING:
            deadline = slots.first_time_ns[slot] + slots.on_delay_ns[slot]
            due = watermark_ns >= deadline and watermark_ns - slots.last_time_ns[slot] <= slots.staleness_ns[slot]
        else:
            deadline = slots.timer_ns[slot]
            due = watermark_ns >= deadline
        if due:
            _emit(out, count, slots, slot, ONSET if condition == PENDING else WORSENED, deadline)
            slots.condition[slot] = HOLDS
            slots.timer_ns[slot] = NO_TIME
            count += 1
    return size, count


class Kernels(NamedTuple):
    """The two kernels, compiled."""

    scan_rows: Callable[[Slots, Array, Array, Rows, int, Emitted], tuple[int, int]]
    scan_tick: Callable[[Slots, int, int, Emitted], tuple[int, int]]


def record_type(cls: Any, dtypes: Mapping[str, str], *, readonly: bool) -> Any:
    """The numba type of a NamedTuple of one-dimensional columns."""
    fields = [
        numba.types.Array(numba.from_dtype(np.dtype(dtypes[name])), 1, "C", readonly=readonly) for name in cls._fields
    ]
    return numba.types.NamedTuple(fields, cls)  # type: ignore[no-untyped-call]


@functools.cache
def load() -> Kernels:
    """Compile both kernels for their one signature, or take them from numba's cache; later calls are free."""
    if isinstance(scan_rows, Dispatcher) and isinstance(scan_tick, Dispatcher):
        slots = record_type(Slots, SLOT_DTYPES, readonly=False)
        rows = record_type(Rows, ROW_DTYPES, readonly=True)
        out = record_type(Emitted, EMITTED_DTYPES, readonly=False)
        int32 = numba.types.int32
        heads, index = numba.types.Array(int32, 2, "C"), numba.types.Array(int32, 1, "C")
        scan_rows.compile((slots, heads, index, rows, numba.types.int64, out))
        scan_tick.compile((slots, numba.types.int64, numba.types.int64, out))
    return Kernels(scan_rows, scan_tick)
