"""Who has fallen silent: one watch per (patient, vital) that has limits in force, judged by the watermark of ticks.

A watch counts silence from its *anchor*: the receipt of the last reading that shows contact, or the time its limits
were set. Only processed time counts: over a pause of the ticks longer than ``LONGEST_BEAT_NS`` the anchors move along,
so that silence counted before an outage is kept and the outage itself is not (DESIGN section 2, promise 5).

Contact is a reading received no earlier than the anchor, less than a window behind the watermark, with a time that is
trusted and not late (``NO_CONTACT``). An implausible value or a sensor fault is contact: the device talks. A reading
with a suspect clock is not, since it may be history; meter checks and test data are no measurements of the patient.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core.dispatcher import Dispatcher

from alerts.kernels import ROW_DTYPES, Array, Rows, record_type
from vitals.catalog import BY_CODE, CODE_SPACE, HOUR_NS, MINUTE_NS
from vitals.glossary import Basis, Flag
from vitals.model import NO_TIME, Int32, Int64

LONGEST_BEAT_NS: Final = 30 * 1_000_000_000
"""A longer pause between two watermarks is an outage: nothing was processed, nobody was silent."""
NO_CONTACT: Final = (
    Flag.LATE | Flag.REPLAYED | Flag.RETRACTED | Flag.CLOCK_SUSPECT | Flag.CONTROL_SOLUTION | Flag.TEST_DATA
)
"""A reading with any of these flags does not show that the patient is being measured."""
_NO_CONTACT: Final = int(NO_CONTACT)
_DAY: Final = int(Basis.DAY)
_UNKNOWN: Final = int(Basis.UNKNOWN)
_FIRST_WATCHES: Final = 64
_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "vital": "<u2", "live": "<u1", "raised": "<u1", "episode": "<u4", "window_ns": "<i8",
    "anchor_ns": "<i8", "last_time_ns": "<i8", "last_value": "<f8", "last_flags": "<u4",
})  # fmt: skip


class Watches(NamedTuple):
    """The columns of all watches, as the kernel takes them; dtypes in ``_DTYPES``."""

    patient: Array
    vital: Array
    live: Array
    raised: Array
    episode: Array
    window_ns: Array
    anchor_ns: Array
    last_time_ns: Array
    last_value: Array
    last_flags: Array


@njit(cache=True, nogil=True)
def scan_contacts(watches: Watches, heads: Array, index: Array, rows: Rows, watermark_ns: int, ended: Array) -> int:
    """Let every row that shows contact move its watch, in order; returns how many silences ended.

    ``heads`` (patients x vital codes, int32) names the watch, ``index`` maps the batch's patient vocabulary to rows of
    it. ``ended`` (int64, at least one element of two per watch) gets watch and row of each silence that ended.
    """
    # Bound once: see kernels.scan_rows.
    patients, vitals, times, flags, bases = rows.patient, rows.vital, rows.time_ns, rows.flags, rows.basis
    received, values = rows.received_ns, rows.value
    live, raised, window_ns, anchor_ns = watches.live, watches.raised, watches.window_ns, watches.anchor_ns
    last_time_ns, last_value, last_flags = watches.last_time_ns, watches.last_value, watches.last_flags
    count = 0
    for row in range(patients.size):
        token, vital = patients[row], vitals[row]
        if token < 0 or token >= index.size or index[token] < 0 or vital >= heads.shape[1]:
            continue
        watch = heads[index[token], vital]
        if watch < 0 or live[watch] == 0 or times[row] == NO_TIME or flags[row] & _NO_CONTACT != 0:
            continue
        if bases[row] == _DAY or bases[row] == _UNKNOWN or received[row] < anchor_ns[watch]:
            continue
        if watermark_ns != NO_TIME and received[row] <= watermark_ns - window_ns[watch]:
            continue
        anchor_ns[watch] = received[row]
        last_time_ns[watch], last_value[watch], last_flags[watch] = times[row], values[row], flags[row]
        if raised[watch] != 0:
            raised[watch] = 0
            ended[count, 0], ended[count, 1] = watch, row
            count += 1
    return count


@functools.cache
def load() -> Callable[[Watches, Array, Array, Rows, int, Array], int]:
    """The kernel, compiled for its one signature or taken from numba's cache; later calls are free."""
    if isinstance(scan_contacts, Dispatcher):
        int32, int64 = numba.types.int32, numba.types.int64
        scan_contacts.compile((
            record_type(Watches, _DTYPES, readonly=False), numba.types.Array(int32, 2, "C"),
            numba.types.Array(int32, 1, "C"), record_type(Rows, ROW_DTYPES, readonly=True), int64,
            numba.types.Array(int64, 2, "C"),
        ))  # fmt: skip
    return scan_contacts


class Watch(NamedTuple):
    """One watch as an alert tells it. ``time_ns`` of the last reading is ``NO_TIME`` when there was none.

    ``episode`` numbers the silences of the watch, ``deadline_ns`` is when the window is or was over.
    """

    number: int
    patient: str
    vital: int
    episode: int
    window_ns: int
    deadline_ns: int
    time_ns: int
    value: float
    flags: int


class Contact(NamedTuple):
    """The first reading after a silence that was raised: watch, row of the batch, receipt of the row."""

    number: int
    row: int
    received_ns: int


def rule(vital: int) -> str:
    """Stable name of the rule within a patient: ``silence:glucose_isf``."""
    return f"silence:{BY_CODE[vital].key}"


def describe(vital: int, window_ns: int) -> str:
    """Worked: ``No interstitial glucose (CGM) for 60 min``, ``No body weight for 48 h``."""
    name = BY_CODE[vital].name
    spoken = name[0].lower() + name[1:] if name[1].islower() else name
    span = f"{window_ns // MINUTE_NS} min" if window_ns < 2 * HOUR_NS else f"{window_ns // HOUR_NS} h"
    return f"No {spoken} for {span}"


def _blank(size: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.zeros(size, dtype=dtype) for name, dtype in _DTYPES.items()}


class SilenceTable:
    """All watches, as arrays of which the first ``size`` elements are in use. A watch is never given away."""

    def __init__(self) -> None:
        self.size = 0
        self.watermark_ns = NO_TIME
        self._columns = _blank(_FIRST_WATCHES)
        self._tokens: list[str] = []
        self._dense: dict[str, int] = {}
        self._heads: Int32 = np.full((1, CODE_SPACE), -1, dtype=np.int32)
        self._ended: Int64 = np.empty((_FIRST_WATCHES, 2), np.int64)

    def expect(self, patient: str, vitals: Collection[int], from_ns: int) -> None:
        """The vitals of a patient that have limits in force now; ``from_ns`` is when they were set.

        One that was expected before keeps its count; one that is no longer keeps an alert that is open.
        """
        dense = self._admit(patient)
        columns = self._columns
        for vital in sorted(vitals):
            number = int(self._heads[dense, vital])
            if number < 0:
                number = self._add(dense, vital)
                columns = self._columns
            elif columns["live"][number]:
                continue
            columns["live"][number] = 1
            columns["anchor_ns"][number] = max(int(columns["anchor_ns"][number]), from_ns)
        known = self._heads[dense][self._heads[dense] >= 0]
        columns["live"][known] = np.isin(columns["vital"][known], list(vitals))

    def advance(self, watermark_ns: int) -> list[Watch]:
        """Move to a tick's watermark; the watches whose window elapsed, marked as raised, in order of deadline."""
        used = {name: column[: self.size] for name, column in self._columns.items()}
        anchor, before = used["anchor_ns"], self.watermark_ns
        self.watermark_ns = watermark_ns
        if before == NO_TIME:
            # Nothing is known to have been processed before the first tick.
            np.maximum(anchor, watermark_ns, out=anchor)
        elif watermark_ns < before:
            # The gateway's clock was set back: what counts from the future counts from now.
            np.minimum(anchor, watermark_ns, out=anchor)
        elif watermark_ns - before > LONGEST_BEAT_NS:
            gap = watermark_ns - before
            anchor[:] = np.where(anchor <= before, anchor + gap, np.maximum(anchor, watermark_ns))
        deadline = anchor + used["window_ns"]
        due = np.flatnonzero((used["live"] != 0) & (used["raised"] == 0) & (deadline <= watermark_ns))
        if not len(due):
            return []
        used["raised"][due] = 1
        used["episode"][due] += 1
        return [self.watch(number) for number in due[np.argsort(deadline[due], kind="stable")].tolist()]

    def hear(self, patients: Sequence[str], rows: Rows) -> list[Contact]:
        """Take in the rows of a batch with vocabulary ``patients``; the silences that they end, in order of row."""
        if not self.size:
            return []
        index = np.array([self._dense.get(token, -1) for token in patients], dtype=np.int32)
        if len(self._ended) < self.size:
            self._ended = np.empty((len(self._columns["patient"]), 2), np.int64)
        count = load()(Watches(**self._columns), self._heads, index, rows, self.watermark_ns, self._ended)
        return [Contact(number, row, int(rows.received_ns[row])) for number, row in self._ended[:count].tolist()]

    def rearm(self, number: int, time_ns: int) -> None:
        """A person closed the alert of this watch at ``time_ns``: another window may elapse before the next."""
        columns = self._columns
        columns["raised"][number] = 0
        columns["anchor_ns"][number] = max(int(columns["anchor_ns"][number]), time_ns, self.watermark_ns)

    def watch(self, number: int) -> Watch:
        """One watch as it stands."""
        cell = {name: column[number].item() for name, column in self._columns.items()}
        return Watch(
            number, self._tokens[cell["patient"]], cell["vital"], cell["episode"], cell["window_ns"],
            cell["anchor_ns"] + cell["window_ns"], cell["last_time_ns"], cell["last_value"], cell["last_flags"],
        )  # fmt: skip

    def _admit(self, patient: str) -> int:
        dense = self._dense.get(patient)
        if dense is not None:
            return dense
        dense = self._dense[patient] = len(self._tokens)
        self._tokens.append(patient)
        if dense == len(self._heads):
            self._heads = np.concatenate([self._heads, np.full_like(self._heads, -1)])
        return dense

    def _add(self, dense: int, vital: int) -> int:
        number = self.size
        if number == len(self._columns["patient"]):
            self._columns = {
                name: np.concatenate([column, np.zeros_like(column)]) for name, column in self._columns.items()
            }
        self.size += 1
        fields = {"patient": dense, "vital": vital, "window_ns": BY_CODE[vital].silence_ns(BY_CODE[vital].mode),
                  "anchor_ns": NO_TIME, "last_time_ns": NO_TIME}  # fmt: skip
        for name, value in fields.items():
            self._columns[name][number] = value
        self._heads[dense, vital] = number
        return number

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = {name: column[: self.size].tobytes() for name, column in self._columns.items()}
        return {"watermark_ns": self.watermark_ns, "tokens": self._tokens, "columns": columns}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "SilenceTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        stored = {name: np.frombuffer(state["columns"][name], dtype=dtype) for name, dtype in _DTYPES.items()}
        lengths = {len(column) for column in stored.values()}
        if len(lengths) != 1:
            raise ValueError("watch columns of unequal length")
        table.size, table.watermark_ns = lengths.pop(), state["watermark_ns"]
        for token in state["tokens"]:
            table._admit(token)
        table._columns = _blank(max(table.size, _FIRST_WATCHES))
        for name, column in stored.items():
            table._columns[name][: table.size] = column
        table._heads[stored["patient"], stored["vital"]] = np.arange(table.size, dtype=np.int32)
        return table
