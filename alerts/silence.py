"""Who has fallen silent: one watch per (patient, vital) that has limits in force, judged by the watermark of ticks.

A watch counts silence from its *anchor*: the receipt of the last reading that shows contact, or the time its limits
were set. Only processed time counts: over a pause of the ticks longer than ``LONGEST_BEAT_NS`` the anchors move along,
so that silence counted before an outage is kept and the outage itself is not (DESIGN section 2, promise 5).

Contact is a reading received no earlier than the anchor, less than a window behind the watermark, with a time that is
trusted and not late (``NO_CONTACT``). An implausible value or a sensor fault is contact: the device talks. A reading
with a suspect clock is not, since it may be history; meter checks and test data are no measurements of the patient.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alerts.kernels import Rows
from vitals.catalog import BY_CODE, CODE_SPACE, HOUR_NS, MINUTE_NS
from vitals.glossary import Basis, Flag
from vitals.model import NO_TIME, Int32, Int64

LONGEST_BEAT_NS: Final = 30 * 1_000_000_000
"""A longer pause between two watermarks is an outage: nothing was processed, nobody was silent."""
NO_CONTACT: Final = (
    Flag.LATE | Flag.REPLAYED | Flag.RETRACTED | Flag.CLOCK_SUSPECT | Flag.CONTROL_SOLUTION | Flag.TEST_DATA
)
"""A reading with any of these flags does not show that the patient is being measured."""
_FIRST_WATCHES: Final = 64
_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "vital": "<u2", "live": "<u1", "raised": "<u1", "episode": "<u4", "window_ns": "<i8",
    "anchor_ns": "<i8", "last_time_ns": "<i8", "last_value": "<f8", "last_flags": "<u4",
})  # fmt: skip


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
        number, row = self._contacts(patients, rows)
        if not len(row):
            return []
        columns, received = self._columns, rows.received_ns[row]
        contacts = self._ended(number, row, received)
        # Of rows that were received at once the later one counts, as when they come one by one. Batches come in the
        # order of receipt but for merged ones, and of an index that stands twice numpy assigns the last.
        if not (received[1:] >= received[:-1]).all():
            order = np.lexsort((row, received))
            number, row, received = number[order], row[order], received[order]
        columns["anchor_ns"][number] = received
        for name, values in (("last_time_ns", rows.time_ns), ("last_value", rows.value), ("last_flags", rows.flags)):
            columns[name][number] = values[row]
        return contacts

    def _ended(self, number: Int32, row: Int64, received_ns: Int64) -> list[Contact]:
        """The silences that these contacts end, in order of row."""
        raised = self._columns["raised"]
        silent = np.flatnonzero(raised[number])
        if not len(silent):
            return []
        ended, first = np.unique(number[silent], return_index=True)
        raised[ended] = 0
        at = np.sort(silent[first])
        found = zip(number[at].tolist(), row[at].tolist(), received_ns[at].tolist(), strict=True)
        return [Contact(*contact) for contact in found]

    def _contacts(self, patients: Sequence[str], rows: Rows) -> tuple[Int32, Int64]:
        """Watch and row of every row that shows contact."""
        index = np.array([*(self._dense.get(token, -1) for token in patients), -1], dtype=np.int32)
        # The last element serves the unassigned.
        assigned = (rows.patient >= 0) & (rows.patient < len(patients))
        dense = index[np.where(assigned, rows.patient, len(patients))]
        known = (dense >= 0) & (rows.vital < CODE_SPACE) & (rows.time_ns != NO_TIME)
        known &= (rows.flags & np.uint32(NO_CONTACT)) == 0
        known &= (rows.basis != Basis.DAY) & (rows.basis != Basis.UNKNOWN)
        row = np.flatnonzero(known)
        number = self._heads[dense[row], rows.vital[row]]
        row, number = row[number >= 0], number[number >= 0]
        columns, received = self._columns, rows.received_ns[row]
        current = (received >= columns["anchor_ns"][number]) & (columns["live"][number] != 0)
        if self.watermark_ns != NO_TIME:
            current &= received > self.watermark_ns - columns["window_ns"][number]
        return number[current], row[current]

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
