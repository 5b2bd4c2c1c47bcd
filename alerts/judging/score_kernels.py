"""The inputs of scores, per reading: the newest usable value of each source, and the median of a window.

State is struct-of-arrays, a row per patient and a column per source (``KEYS``). A series that a programme measures
continuously has a ring of samples beside its newest reading: one per 5 seconds, the newest of each, whatever order they
came in. Rows are taken strictly in order and each depends on nothing but the state, so it is the same however the rows
were cut into batches. With ``NUMBA_DISABLE_JIT=1`` the same functions run as Python.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alerts.judging.compiling import BoolTable, Float64Row, Int32Row, Int64Row, Int64Table, record_type, settle
from alerts.judging.state import Array, Rows
from alerts.scores.tables import SOURCES, Parameter
from vitals.catalog import BY_KEY, CODE_SPACE
from vitals.glossary import NOT_SCORED, Basis, Flag, Statistic
from vitals.times import MINUTE_NS, NO_TIME

KEYS: Final = tuple(key for keys in SOURCES.values() for key in keys)
"""Catalogue keys of the columns of every (patients, sources) array."""
WINDOW_NS: Final = 5 * MINUTE_NS
"""What is measured continuously is scored on the median of this span (clinical.md 2.3)."""
AHEAD_NS: Final = 5 * MINUTE_NS
"""Further in the future, a clock is wrong (clinical.md 1.3)."""
EVERY_NS: Final = MINUTE_NS
"""A patient is scored at most once in this time (clinical.md 2.3)."""
SAMPLES: Final = 64
SAMPLE_NS: Final = 5_000_000_000
NEVER: Final = 2**63 - 1

MEASURED: Final = 0
FLOW: Final = 1
"""Oxygen: a state that somebody sets, the newest word counts; too little to be measured is neither air nor oxygen."""
LEVELS: Final = 2
"""An enumeration: the newest word counts; ``LEVELS`` + n is one with n codes."""

DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "programme": "<i4", "evaluated_ns": "<i8", "due_ns": "<i8", "time_ns": "<i8", "value": "<f8", "flags": "<u4",
    "ring": "<i4", "sample_ns": "<i8", "sample": "<f8", "doubted": "<u1",
})  # fmt: skip
BLANK: Final[Mapping[str, float]] = MappingProxyType({
    "programme": -1, "evaluated_ns": NO_TIME, "due_ns": NEVER, "time_ns": NO_TIME, "value": np.nan, "flags": 0,
    "ring": -1, "sample_ns": NO_TIME, "sample": np.nan, "doubted": 0,
})  # fmt: skip

_SINGLE: Final = int(Statistic.SINGLE)
_DAY: Final = int(Basis.DAY)
_UNKNOWN: Final = int(Basis.UNKNOWN)
_RETRACTED: Final = int(Flag.RETRACTED)
_UNSCORED: Final = int(NOT_SCORED | Flag.CLOCK_WRONG)
_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
_SUSPECT: Final = int(Flag.SUSPECT)
_DOUBTED: Final = int(Flag.SUSPECT | Flag.LOW_QUALITY)


class Inputs(NamedTuple):
    """Patients: ``programme`` (-1: not scored), ``evaluated_ns``, ``due_ns`` (n,). Newest usable readings: ``time_ns``,
    ``value``, ``flags``, ``ring`` (-1: none) (n, sources). Rings: ``sample_ns``, ``sample`` (-inf and inf beyond the
    sensor's range), ``doubted`` (rings, SAMPLES). Dtypes in ``DTYPES``."""

    programme: Array
    evaluated_ns: Array
    due_ns: Array
    time_ns: Array
    value: Array
    flags: Array
    ring: Array
    sample_ns: Array
    sample: Array
    doubted: Array


class Gathered(NamedTuple):
    """What patients are scored on: ``time_ns``, ``value``, ``flags`` (sources, n); ``until_ns`` (n,) is when time alone
    next changes it."""

    time_ns: Array
    value: Array
    flags: Array
    until_ns: Array


_WIDE: Final[Mapping[str, int]] = MappingProxyType(
    dict.fromkeys(("time_ns", "value", "flags", "ring"), len(KEYS))
    | dict.fromkeys(("sample_ns", "sample", "doubted"), SAMPLES)
)
"""Columns of two dimensions, and how many values a row has."""
INPUTS: Final = record_type(
    Inputs, {name: f"({_WIDE[name]},){dtype}" if name in _WIDE else dtype for name, dtype in DTYPES.items()},
    readonly=False,
)  # fmt: skip
GATHERED: Final = record_type(
    Gathered, {"time_ns": "(1,)<i8", "value": "(1,)<f8", "flags": "(1,)<u4", "until_ns": "<i8"}, readonly=False
)
"""What the records are for the compiler."""


def _kind(key: str) -> int:
    levels = len(BY_KEY[key].values)
    return LEVELS + levels if levels else FLOW if key in SOURCES[Parameter.OXYGEN] else MEASURED


KINDS: Final = np.array([_kind(key) for key in KEYS], dtype=np.int64)
SOURCE_OF: Final = np.full(CODE_SPACE, -1, dtype=np.int64)
SOURCE_OF[[BY_KEY[key].code for key in KEYS]] = range(len(KEYS))


def blank(patients: int, rings: int) -> Inputs:
    """Room for that many."""
    shapes: dict[str, tuple[int, ...]] = {name: (patients, width) for name, width in _WIDE.items()}
    shapes |= dict.fromkeys(("sample_ns", "sample", "doubted"), (rings, SAMPLES))
    return Inputs(**{
        name: np.full(shapes.get(name, (patients,)), BLANK[name], dtype) for name, dtype in DTYPES.items()
    })  # fmt: skip


@njit(cache=True, nogil=True)
def _usable(value: float, flags: int, kind: int) -> bool:
    """Whether there is something to give points for."""
    if kind > LEVELS:
        return 0 <= value < kind - LEVELS and value == np.floor(value)
    if kind == FLOW and flags & _BELOW:
        return False
    return bool(flags & (_BELOW | _ABOVE)) or np.isfinite(value)


@njit(cache=True, nogil=True)
def _withdraw(inputs: Inputs, patient: int, source: int, time_ns: int, first_ns: int) -> None:
    """The reading of that time is taken back: a ring falls back on a sample of its window, else nothing is known."""
    ring, newest = inputs.ring[patient, source], -1
    if ring >= 0:
        slot = (time_ns // SAMPLE_NS) % SAMPLES
        if inputs.sample_ns[ring, slot] == time_ns:
            inputs.sample_ns[ring, slot] = NO_TIME
        newest = int(np.argmax(inputs.sample_ns[ring]))
    if inputs.time_ns[patient, source] != time_ns:
        return
    inputs.time_ns[patient, source] = NO_TIME
    inputs.value[patient, source] = np.nan
    inputs.flags[patient, source] = 0
    if newest >= 0 and inputs.sample_ns[ring, newest] >= first_ns:
        value = inputs.sample[ring, newest]
        inputs.time_ns[patient, source] = inputs.sample_ns[ring, newest]
        inputs.value[patient, source] = value
        inputs.flags[patient, source] = _flags(value, inputs.doubted[ring, newest] != 0)


@njit(cache=True, nogil=True)
def _flags(value: float, doubted: bool) -> int:
    side = _BELOW if value == -np.inf else _ABOVE if value == np.inf else 0
    return side | _SUSPECT if doubted else side


@njit(cache=True, nogil=True)
def take(inputs: Inputs, index: Int32Row, source_of: Int64Row, kinds: Int64Row, first_ns: int, rows: Rows) -> None:
    """Take in the rows of a batch, in order; a patient with a new input is due a minute after the last score.

    ``index`` maps the batch's patient vocabulary to rows of ``inputs``, ``source_of`` vital codes to columns. Samples
    before ``first_ns`` have left every window.
    """
    # Bound once: see kernels.scan_rows.
    patients, vitals, times, values, flags = rows.patient, rows.vital, rows.time_ns, rows.value, rows.flags
    statistics, bases, received = rows.statistic, rows.basis, rows.received_ns
    newest_ns, newest, newest_flags, rings = inputs.time_ns, inputs.value, inputs.flags, inputs.ring
    sample_ns, sample, doubted = inputs.sample_ns, inputs.sample, inputs.doubted
    programme, evaluated_ns, due_ns = inputs.programme, inputs.evaluated_ns, inputs.due_ns
    for row in range(patients.size):
        token, vital = patients[row], vitals[row]
        if token < 0 or token >= index.size or index[token] < 0 or vital >= source_of.size or source_of[vital] < 0:
            continue
        patient, source, time_ns, flag = index[token], source_of[vital], times[row], flags[row]
        if programme[patient] < 0:
            continue
        ahead_ns, new = received[row] + AHEAD_NS, False
        instant = time_ns != NO_TIME and bases[row] != _DAY and bases[row] != _UNKNOWN
        if flag & _RETRACTED != 0:
            _withdraw(inputs, patient, source, time_ns, first_ns)
            new = True
        elif flag & _UNSCORED == 0 and statistics[row] == _SINGLE and instant and time_ns <= ahead_ns:
            if not _usable(values[row], flag, kinds[source]):
                continue
            # A time far ahead of this receipt was of a clock that has been set back since.
            if time_ns >= newest_ns[patient, source] or newest_ns[patient, source] > ahead_ns:
                newest_ns[patient, source], newest[patient, source] = time_ns, values[row]
                newest_flags[patient, source] = flag
                new = True
            ring, slot = rings[patient, source], (time_ns // SAMPLE_NS) % SAMPLES
            if ring < 0 or time_ns < first_ns:
                pass
            elif time_ns >= sample_ns[ring, slot] or sample_ns[ring, slot] > ahead_ns:
                sample_ns[ring, slot] = time_ns
                sample[ring, slot] = -np.inf if flag & _BELOW else np.inf if flag & _ABOVE else values[row]
                doubted[ring, slot] = 1 if flag & _DOUBTED else 0
                new = True
        if new:
            due_ns[patient] = min(due_ns[patient], evaluated_ns[patient] + EVERY_NS)


@njit(cache=True, nogil=True)
def _median(inputs: Inputs, ring: int, now_ns: int, ordered: Float64Row) -> tuple[int, float, int, int]:
    """(newest time, median, flags, when a sample leaves or enters the window); NO_TIME where the window is empty."""
    count, doubts, oldest_ns, newest_ns, until_ns = 0, 0, NEVER, NO_TIME, NEVER
    for slot in range(SAMPLES):
        time_ns = inputs.sample_ns[ring, slot]
        if time_ns > now_ns + AHEAD_NS:
            until_ns = min(until_ns, time_ns - AHEAD_NS)
        elif time_ns >= now_ns - WINDOW_NS:
            place, value = count, inputs.sample[ring, slot]
            while place > 0 and ordered[place - 1] > value:
                ordered[place] = ordered[place - 1]
                place -= 1
            ordered[place] = value
            count += 1
            doubts += inputs.doubted[ring, slot]
            oldest_ns, newest_ns = min(oldest_ns, time_ns), max(newest_ns, time_ns)
    if count == 0:
        return NO_TIME, np.nan, 0, until_ns
    if oldest_ns < newest_ns:
        until_ns = min(until_ns, oldest_ns + WINDOW_NS + 1)
    low, high = ordered[(count - 1) // 2], ordered[count // 2]
    middle = low if low == -np.inf else high if high == np.inf else (low + high) / 2
    return newest_ns, middle, _flags(middle, 2 * doubts >= count), until_ns


@njit(cache=True, nogil=True)
def gather(
    inputs: Inputs,
    chosen: Int64Row,
    continuous: BoolTable,
    staleness_ns: Int64Table,
    kinds: Int64Row,
    now_ns: int,
    out: Gathered,
) -> None:
    """What each of the patients ``chosen`` (rows of ``inputs``) is scored on at ``now_ns``; changes only ``out``.

    ``continuous`` and ``staleness_ns`` are (programmes, sources). The window of what is measured continuously holds the
    samples of the last 5 minutes, or the newest where there are none.
    """
    ordered = np.empty(SAMPLES, np.float64)
    for place in range(chosen.size):
        patient, until_ns = chosen[place], NEVER
        programme = inputs.programme[patient]
        for source in range(kinds.size):
            time_ns, value = inputs.time_ns[patient, source], inputs.value[patient, source]
            flags = int(inputs.flags[patient, source])
            ring = inputs.ring[patient, source]
            if ring >= 0 and continuous[programme, source]:
                sampled_ns, middle, coded, changes_ns = _median(inputs, ring, now_ns, ordered)
                until_ns = min(until_ns, changes_ns)
                if sampled_ns != NO_TIME:
                    time_ns, value, flags = sampled_ns, middle, coded
            out.time_ns[source, place], out.value[source, place], out.flags[source, place] = time_ns, value, flags
            if time_ns > now_ns + AHEAD_NS:
                until_ns = min(until_ns, time_ns - AHEAD_NS)
            elif time_ns != NO_TIME and time_ns + staleness_ns[programme, source] >= now_ns:
                until_ns = min(until_ns, time_ns + staleness_ns[programme, source] + 1)
        out.until_ns[place] = until_ns


def gathered(size: int) -> Gathered:
    """Room for that many patients."""
    shape = (len(KEYS), size)
    return Gathered(
        np.empty(shape, np.int64), np.empty(shape, np.float64), np.empty(shape, np.uint32), np.empty(size, np.int64)
    )


class ScoreKernels(NamedTuple):
    """Both kernels, compiled."""

    take: Callable[[Inputs, Array, Array, Array, int, Rows], None]
    gather: Callable[[Inputs, Array, Array, Array, Array, int, Gathered], None]


def load() -> ScoreKernels:
    """Compile both, or take them from numba's cache; later calls are free."""
    settle(take)
    settle(gather)
    return ScoreKernels(take, gather)


def grown(array: npt.NDArray[Any], size: int, name: str) -> npt.NDArray[Any]:
    """``array`` with room for ``size`` rows, the new ones blank."""
    out = np.full((size, *array.shape[1:]), BLANK[name], dtype=array.dtype)
    out[: len(array)] = array
    return out
