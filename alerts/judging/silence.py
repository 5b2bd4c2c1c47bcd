"""Silence: watches of (patient, vital), one per silence rule, judged by the watermark of ticks.

A watch counts silence from its *anchor*: the receipt of the last reading that shows contact, or the time its rule
was set. Only processed time counts: over a pause of the ticks longer than ``LONGEST_BEAT_NS`` the anchors move along,
so that silence counted before an outage is kept and the outage itself is not (DESIGN section 2, promise 5).

Contact is a reading received no earlier than the anchor, less than a window behind the watermark, with a time that is
trusted and not late (``NO_CONTACT``). An implausible value or a sensor fault is contact: the device talks. A reading
with a suspect clock is not, since it may be history; meter checks and test data are no measurements of the patient.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alerts.judging.compiling import Int32Row, Int32Table, Int64Table, record_type, settle
from alerts.judging.rule_table import RuleTable
from alerts.judging.state import Array, Rows, Vocabulary
from alerts.rules.spec import CompiledSilence, RuleFace
from vitals.catalog import CODE_SPACE
from vitals.glossary import Basis, Flag
from vitals.model import Int32, Int64
from vitals.times import NO_TIME

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
    "patient": "<i4", "vital": "<u2", "name": "<i4", "face": "<i4", "severity": "<u1", "following": "<i4",
    "live": "<u1", "raised": "<u1", "episode": "<u4", "window_ns": "<i8",
    "anchor_ns": "<i8", "last_time_ns": "<i8", "last_value": "<f8", "last_flags": "<u4",
})  # fmt: skip


class Watches(NamedTuple):
    """The columns of all watches, as the kernel takes them; dtypes in ``_DTYPES``."""

    patient: Array
    vital: Array
    name: Array
    face: Array
    severity: Array
    following: Array
    live: Array
    raised: Array
    episode: Array
    window_ns: Array
    anchor_ns: Array
    last_time_ns: Array
    last_value: Array
    last_flags: Array


WATCHES: Final = record_type(Watches, _DTYPES, readonly=False)


@njit(cache=True, nogil=True)
def scan_contacts(
    watches: Watches, heads: Int32Table, index: Int32Row, rows: Rows, watermark_ns: int, ended: Int64Table
) -> int:
    """Let every row that shows contact move its watch, in order; returns how many silences ended.

    ``heads`` (patients x vital codes, int32) starts the chain of watches, ``index`` maps the batch's patient
    vocabulary to rows of it. ``ended`` (int64, at least one element of two per watch) gets watch and row of each
    silence that ended.
    """
    # Bound once: see kernels.scan_rows.
    patients, vitals, times, flags, bases = rows.patient, rows.vital, rows.time_ns, rows.flags, rows.basis
    received, values = rows.received_ns, rows.value
    live, raised, window_ns, anchor_ns = watches.live, watches.raised, watches.window_ns, watches.anchor_ns
    following = watches.following
    last_time_ns, last_value, last_flags = watches.last_time_ns, watches.last_value, watches.last_flags
    count = 0
    for row in range(patients.size):
        token, vital = patients[row], vitals[row]
        if token < 0 or token >= index.size or index[token] < 0 or vital >= heads.shape[1]:
            continue
        if times[row] == NO_TIME or flags[row] & _NO_CONTACT != 0 or bases[row] == _DAY or bases[row] == _UNKNOWN:
            continue
        watch = heads[index[token], vital]
        while watch >= 0:
            late = watermark_ns != NO_TIME and received[row] <= watermark_ns - window_ns[watch]
            if live[watch] != 0 and not late and received[row] >= anchor_ns[watch]:
                anchor_ns[watch] = received[row]
                last_time_ns[watch], last_value[watch], last_flags[watch] = times[row], values[row], flags[row]
                if raised[watch] != 0:
                    raised[watch] = 0
                    ended[count, 0], ended[count, 1] = watch, row
                    count += 1
            watch = following[watch]
    return count


def load() -> Callable[[Watches, Array, Array, Rows, int, Array], int]:
    """The kernel, compiled or taken from numba's cache; later calls are free."""
    settle(scan_contacts)
    return scan_contacts


class Watch(NamedTuple):
    """One watch as an alert tells it. ``time_ns`` of the last reading is ``NO_TIME`` when there was none.

    ``episode`` numbers the silences of the watch, ``deadline_ns`` is when the window is or was over.
    """

    number: int
    patient: str
    face: RuleFace
    severity: int
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


def _blank(size: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.zeros(size, dtype=dtype) for name, dtype in _DTYPES.items()}


class SilenceTable:
    """All watches, as arrays of which the first ``size`` elements are in use. A watch is never given away."""

    def __init__(self, rules: RuleTable) -> None:
        self.size = 0
        self._rules = rules
        self.watermark_ns = NO_TIME
        self._columns = _blank(_FIRST_WATCHES)
        self._tokens: list[str] = []
        self._dense: dict[str, int] = {}
        self._vocabulary = Vocabulary()
        self._heads: Int32 = np.full((1, CODE_SPACE), -1, dtype=np.int32)
        self._ended: Int64 = np.empty((_FIRST_WATCHES, 2), np.int64)

    def expect(self, patient: str, rules: Sequence[CompiledSilence], from_ns: int) -> None:
        """The silence rules of a patient that are in force now; ``from_ns`` is when they were set.

        One that was expected before keeps its count; one that is no longer keeps an alert that is open.
        """
        dense = self._dense.get(patient, -1)
        if dense < 0 and not rules:
            return
        dense = self._admit(patient)
        known = {int(self._columns["name"][number]): number for number in self._of(dense)}
        wanted = {self._rules.intern_name(rule.face.name): rule for rule in rules}
        for name in known.keys() - wanted.keys():
            self._columns["live"][known[name]] = 0
        for name, rule in wanted.items():
            number = known[name] if name in known else self._add(dense, rule.vital, name)
            columns = self._columns
            columns["face"][number], columns["severity"][number] = self._rules.intern_face(rule.face), rule.severity
            columns["window_ns"][number] = rule.window_ns
            if not columns["live"][number]:
                columns["anchor_ns"][number] = max(int(columns["anchor_ns"][number]), from_ns)
            columns["live"][number] = 1

    def restart(self, patient: str, time_ns: int) -> None:
        """Monitoring of a patient goes on from ``time_ns``: silence is counted anew where it was not told yet."""
        for number in self._of(self._dense.get(patient, -1)):
            if not self._columns["raised"][number]:
                self.rearm(number, time_ns)

    def raised(self, patient: str) -> list[Watch]:
        """The silences of a patient that last."""
        mine = self._of(self._dense.get(patient, -1))
        return [self.watch(number) for number in mine if self._columns["raised"][number]]

    def number_of(self, patient: str, name: str) -> int | None:
        """The watch of a rule of a patient."""
        for number in self._of(self._dense.get(patient, -1)):
            if self.watch(number).face.name == name:
                return number
        return None

    def share(self) -> tuple[int, int]:
        """Patients of whom a watch is silent, and patients who are watched (counted while some are silent)."""
        patient, live = self._columns["patient"][: self.size], self._columns["live"][: self.size] != 0
        silent = live & (self._columns["raised"][: self.size] != 0)
        if not silent.any():
            return 0, 1
        return len(np.unique(patient[silent])), len(np.unique(patient[live]))

    def _of(self, dense: int) -> list[int]:
        """The watches of a patient, in order of their number."""
        out = []
        for head in self._heads[dense][self._heads[dense] >= 0].tolist() if dense >= 0 else ():
            number = head
            while number >= 0:
                out.append(number)
                number = int(self._columns["following"][number])
        return sorted(out)

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

    def step(self, step_ns: int) -> None:
        """The clock of receipts and ticks was moved: silence that was counted stays counted."""
        if self.watermark_ns != NO_TIME:
            self.watermark_ns += step_ns
        anchor = self._columns["anchor_ns"][: self.size]
        anchor[anchor != NO_TIME] += step_ns

    def hear(self, patients: Sequence[str], rows: Rows) -> list[Contact]:
        """Take in the rows of a batch with vocabulary ``patients``; the silences that they end, in order of row."""
        if not self.size:
            return []
        index = self._vocabulary.numbered(self._dense, patients)
        if len(self._ended) < self.size:
            self._ended = np.empty((len(self._columns["patient"]), 2), np.int64)
        count = load()(Watches(**self._columns), self._heads, index, rows, self.watermark_ns, self._ended)
        return [Contact(number, row, int(rows.received_ns[row])) for number, row in self._ended[:count].tolist()]

    def rearm(self, number: int, time_ns: int) -> None:
        """Count anew from ``time_ns``: another window may elapse before the next silence."""
        columns = self._columns
        columns["raised"][number] = 0
        columns["anchor_ns"][number] = max(int(columns["anchor_ns"][number]), time_ns, self.watermark_ns)

    def watch(self, number: int) -> Watch:
        """One watch as it stands."""
        cell = {name: column[number].item() for name, column in self._columns.items()}
        return Watch(
            number, self._tokens[cell["patient"]], self._rules.face(cell["face"]), cell["severity"], cell["vital"],
            cell["episode"], cell["window_ns"], cell["anchor_ns"] + cell["window_ns"], cell["last_time_ns"],
            cell["last_value"], cell["last_flags"],
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

    def _add(self, dense: int, vital: int, name: int) -> int:
        number = self.size
        if number == len(self._columns["patient"]):
            self._columns = {
                name: np.concatenate([column, np.zeros_like(column)]) for name, column in self._columns.items()
            }
        self.size += 1
        fields = {"patient": dense, "vital": vital, "name": name, "anchor_ns": NO_TIME, "last_time_ns": NO_TIME,
                  "following": self._heads[dense, vital]}  # fmt: skip
        for column, value in fields.items():
            self._columns[column][number] = value
        self._heads[dense, vital] = number
        return number

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = {name: column[: self.size].tobytes() for name, column in self._columns.items()}
        return {"watermark_ns": self.watermark_ns, "tokens": self._tokens, "columns": columns}

    @classmethod
    def load(cls, state: Mapping[str, Any], rules: RuleTable) -> "SilenceTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls(rules)
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
        # The newest watch of a (patient, vital) is the head of its chain.
        table._heads[stored["patient"], stored["vital"]] = np.arange(table.size, dtype=np.int32)
        return table
