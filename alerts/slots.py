"""The table of slots: one per (patient, side of a limit), as arrays that grow, chained by (patient, vital).

A slot is never given away: a rule that is removed and set again finds its slot, and an alert that is still open on it.
Chains are in order of side and severity, so that one reading judges its slots in the same order on every run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alerts.kernels import (
    CLEAR,
    EMITTED_DTYPES,
    HOLDS,
    PENDING,
    ROW_DTYPES,
    SLOT_DTYPES,
    SUSPECTED,
    UNCONFIRMED,
    Emitted,
    Rows,
    Slots,
)
from alerts.rules import Side, SlotSpec, rule_id
from vitals.catalog import BY_CODE, CODE_SPACE
from vitals.glossary import Severity
from vitals.model import NO_TIME, UNASSIGNED, Int32, VitalBatch

_FIRST_SLOTS = 64
# A row without a time is older than the first.
_INITIAL: Mapping[str, int] = {"sibling": -1, "following": -1, "last_time_ns": NO_TIME + 1, "timer_ns": NO_TIME}


def _columns(size: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.full(size, _INITIAL.get(name, 0), dtype=dtype) for name, dtype in SLOT_DTYPES.items()}


def _grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    out = np.full((size, *array.shape[1:]), fill, dtype=array.dtype)
    out[: len(array)] = array
    return out


def _shared(column: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    view = np.require(column, dtype=dtype, requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def rows_of(batch: VitalBatch) -> Rows:
    """The columns the kernels read, without a copy where the batch is contiguous and aligned."""
    return Rows(**{name: _shared(getattr(batch, name), dtype) for name, dtype in ROW_DTYPES.items()})


def emitted(capacity: int) -> Emitted:
    """Room for ``capacity`` transitions."""
    return Emitted(**{name: np.zeros(capacity, dtype=dtype) for name, dtype in EMITTED_DTYPES.items()})


class SlotTable:
    """All slots. ``slots`` and ``heads`` are what the kernels take; the first ``size`` slots are in use."""

    def __init__(self) -> None:
        self.size = 0
        self.slots = Slots(**_columns(_FIRST_SLOTS))
        self.heads: Int32 = np.full((1, CODE_SPACE), -1, dtype=np.int32)
        self._dense: dict[str, int] = {}
        self._tokens: list[str] = []
        self._first: list[int] = []
        self._versions: list[int] = []

    def index(self, tokens: Sequence[str]) -> Int32:
        """Row of ``heads`` for each patient token, -1 for those without limits."""
        dense = self._dense
        return np.array([dense.get(token, UNASSIGNED) for token in tokens], dtype=np.int32)

    def token(self, slot: int) -> str:
        """The patient of a slot."""
        return self._tokens[int(self.slots.patient[slot])]

    def spec(self, slot: int) -> SlotSpec:
        """The parameters of a slot."""
        return SlotSpec(*(getattr(self.slots, name)[slot].item() for name in SlotSpec._fields))

    def rule(self, slot: int) -> str:
        """The rule id of a slot."""
        spec = self.spec(slot)
        return rule_id(BY_CODE[spec.vital].key, Side(spec.side).word, Severity(spec.severity).name)

    def version(self, patient: str) -> int:
        """Version of the patient's limits in force; 0 when none were ever set."""
        dense = self._dense.get(patient)
        return 0 if dense is None else self._versions[dense]

    def slots_of(self, patient: str) -> list[int]:
        """Every slot the patient ever had, the newest first."""
        out, dense = [], self._dense.get(patient)
        slot = -1 if dense is None else self._first[dense]
        while slot >= 0:
            out.append(slot)
            slot = int(self.slots.sibling[slot])
        return out

    def in_force(self) -> list[tuple[str, set[int]]]:
        """Every patient that ever had limits, with the vitals that have some now."""
        slots = self.slots
        return [(token, {int(slots.vital[s]) for s in self.slots_of(token) if slots.live[s]}) for token in self._tokens]

    def set_limits(self, patient: str, version: int, specs: Sequence[SlotSpec]) -> None:
        """Replace the rules of a patient.

        A slot whose parameters stay the same keeps its state. One that changes or goes forgets a condition nobody was
        told of; a condition that an open alert stands for is carried on, its clearing timer starts anew.
        """
        dense = self._admit(patient)
        self._versions[dense] = version
        slots = self.slots
        known = {(int(slots.vital[s]), int(slots.side[s]), int(slots.severity[s])): s for s in self.slots_of(patient)}
        wanted = {(spec.vital, spec.side, spec.severity): spec for spec in specs}
        for name, slot in known.items():
            spec = wanted.get(name)
            if spec is None or spec != self.spec(slot) or not slots.live[slot]:
                self._unsettle(slot)
            slots.live[slot] = spec is not None
            if spec is not None:
                self._write(slot, spec)
        for name, spec in wanted.items():
            if name not in known:
                self._add(dense, spec)
        live = [slot for slot in self.slots_of(patient) if self.slots.live[slot]]
        self.heads[dense] = -1
        self._chain(np.array(live, dtype=np.int32))

    def reset(self, slot: int) -> None:
        """Back to normal: a person closed the alert of this slot."""
        self.slots.condition[slot] = CLEAR
        self.slots.timer_ns[slot] = NO_TIME

    def withdraw(self, slot: int, vital: int, source_time_ns: int, seq: int, time_ns: int) -> tuple[bool, bool]:
        """A reading of the slot's patient is taken back.

        Whether the condition of the slot began or acted on it, and whether the condition is over because nothing else
        holds it up. One that is not told to anybody yet goes on from the newest reading beyond the limit, if any.
        """
        slots = self.slots
        if slots.vital[slot] != vital:
            return False, False
        condition, newest = slots.condition[slot], slots.last_time_ns[slot] == time_ns
        first = slots.first_source_ns[slot] == source_time_ns and slots.first_seq[slot] == seq
        acted = slots.latest_time_ns[slot] == time_ns
        if condition == SUSPECTED and newest:
            slots.condition[slot] = CLEAR
        elif condition == PENDING and first:
            if acted:
                slots.condition[slot] = CLEAR
            for name in ("time_ns", "value", "flags"):
                getattr(slots, f"first_{name}")[slot] = getattr(slots, f"latest_{name}")[slot]
        over = bool(first and (condition == UNCONFIRMED or (condition == HOLDS and newest)))
        if over:
            self.reset(slot)
        return bool(first or acted), over

    def _unsettle(self, slot: int) -> None:
        if self.slots.condition[slot] in (PENDING, SUSPECTED):
            self.slots.condition[slot] = CLEAR
        if self.slots.condition[slot] == HOLDS:
            self.slots.timer_ns[slot] = NO_TIME

    def _admit(self, patient: str) -> int:
        dense = self._dense.get(patient)
        if dense is not None:
            return dense
        dense = len(self._tokens)
        if dense == len(self.heads):
            self.heads = _grown(self.heads, 2 * dense, -1)
        self._dense[patient] = dense
        self._tokens.append(patient)
        self._first.append(-1)
        self._versions.append(0)
        return dense

    def _add(self, dense: int, spec: SlotSpec) -> None:
        if self.size == len(self.slots.patient):
            grown = {n: _grown(c, 2 * self.size, _INITIAL.get(n, 0)) for n, c in self.slots._asdict().items()}
            self.slots = Slots(**grown)
        slot = self.size
        self.size += 1
        self.slots.patient[slot] = dense
        self.slots.live[slot] = 1
        self.slots.sibling[slot] = self._first[dense]
        self._first[dense] = slot
        self._write(slot, spec)

    def _write(self, slot: int, spec: SlotSpec) -> None:
        for name, value in spec._asdict().items():
            getattr(self.slots, name)[slot] = value

    def _chain(self, live: Int32) -> None:
        """Link live slots of the same patient and vital, by side and severity."""
        slots = self.slots
        order = live[np.lexsort((slots.severity[live], slots.side[live], slots.vital[live], slots.patient[live]))]
        if not len(order):
            return
        patient, vital = slots.patient[order], slots.vital[order]
        goes_on = (patient[1:] == patient[:-1]) & (vital[1:] == vital[:-1])
        slots.following[order] = np.append(np.where(goes_on, order[1:], -1), -1)
        begins = np.insert(~goes_on, 0, True)
        self.heads[patient[begins], vital[begins]] = order[begins]

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = {name: column[: self.size].tobytes() for name, column in self.slots._asdict().items()}
        return {"tokens": self._tokens, "first": self._first, "versions": self._versions, "columns": columns}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "SlotTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        table._tokens, table._first, table._versions = state["tokens"], state["first"], state["versions"]
        table._dense = {token: number for number, token in enumerate(table._tokens)}
        stored = {name: np.frombuffer(state["columns"][name], dtype=dtype) for name, dtype in SLOT_DTYPES.items()}
        table.size = len(stored["patient"])
        room = max(table.size, _FIRST_SLOTS)
        table.slots = Slots(**{name: _grown(column, room, _INITIAL.get(name, 0)) for name, column in stored.items()})
        table.heads = np.full((max(len(table._tokens), 1), CODE_SPACE), -1, dtype=np.int32)
        table._chain(np.flatnonzero(table.slots.live[: table.size]).astype(np.int32))
        return table
