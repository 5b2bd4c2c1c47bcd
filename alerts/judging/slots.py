"""The table of slots: one per (patient, rule), as arrays that grow, chained by (patient, vital).

Rules are rows of a table of their own, shared by all patients who have them. A slot is never given away: a rule that is
removed and set again finds its slot, and an alert that is still open on it. Chains are in order of side and severity,
so that one reading is judged by its slots in the same order on every run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.judging.conditions import AWAITED, CLEAR, HOLDS, NEVER_NS, PENDING, SUSPECTED, UNCONFIRMED
from alerts.judging.rule_table import RuleTable
from alerts.judging.series_table import SeriesTable
from alerts.judging.state import EMITTED_DTYPES, ROW_DTYPES, SLOT_DTYPES, Emitted, Rows, Slots, Vocabulary
from alerts.judging.urgent_kernels import lone_is_s1
from alerts.rules.spec import CompiledRule, Kind, RuleFace, RuleSpec
from vitals.catalog import CODE_SPACE
from vitals.model import Int32, Int64, VitalBatch
from vitals.times import NO_TIME

MAX_MEMBERS: Final = 4
"""Members of one combination."""
_FIRST_SLOTS: Final = 64
_FEW: Final = 64
"""Up to so many patients, their slots are found by their links; for more, by one look at all."""
# A row without a time is older than the first.
_INITIAL: Mapping[str, int] = {
    "sibling": -1, "following": -1, "parent": -1, "combo": -1, "recent": -1, "usual": -1, "days": -1,
    "last_time_ns": NO_TIME + 1, "timer_ns": NO_TIME, "latest_time_ns": NO_TIME + 1,
}  # fmt: skip


def _columns(size: int) -> dict[str, npt.NDArray[Any]]:
    return {name: np.full(size, _INITIAL.get(name, 0), dtype=dtype) for name, dtype in SLOT_DTYPES.items()}


def grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    """A longer copy of ``array``, the new elements ``fill``."""
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


def _whole(rule: CompiledRule) -> CompiledRule:
    """A combination as the kernels take it: how many members it has, and how long the slowest of them is current."""
    if not rule.members:
        return rule
    staleness_ns = max(member.spec.staleness_ns for member in rule.members)
    return rule._replace(spec=rule.spec._replace(a=float(len(rule.members)), staleness_ns=staleness_ns))


def _flat(rules: Iterable[CompiledRule]) -> list[tuple[CompiledRule, int, int]]:
    """(rule, place of its combination or -1, its number in it), combinations before their members."""
    out: list[tuple[CompiledRule, int, int]] = []
    for rule in rules:
        place = len(out)
        out.append((_whole(rule), -1, 0))
        out += [(member, place, number) for number, member in enumerate(rule.members)]
    return out


class SlotTable:
    """All slots. ``slots``, ``heads``, ``true_ns`` and the rules are what the kernels take; ``size`` are in use."""

    def __init__(self) -> None:
        self.size = 0
        self.rules = RuleTable()
        self.series = SeriesTable()
        self.slots = Slots(**_columns(_FIRST_SLOTS))
        self.heads: Int32 = np.full((1, CODE_SPACE), -1, dtype=np.int32)
        self.true_ns: Int64 = np.full((1, MAX_MEMBERS), NO_TIME, dtype=np.int64)
        self._combos = 0
        self._dense: dict[str, int] = {}
        self._vocabulary = Vocabulary()
        self._tokens: list[str] = []
        self._first: Int32 = np.full(1, -1, dtype=np.int32)

    def index(self, tokens: Sequence[str]) -> Int32:
        """Row of ``heads`` for each patient token, -1 for those without rules."""
        return self._vocabulary.numbered(self._dense, tokens)

    def token(self, slot: int) -> str:
        """The patient of a slot."""
        return self._tokens[int(self.slots.patient[slot])]

    def spec(self, slot: int) -> RuleSpec:
        """The parameters of a slot."""
        return self.rules.spec(int(self.slots.rule[slot]))

    def face(self, slot: int) -> RuleFace:
        """What people read of the rule of a slot."""
        return self.rules.face(int(self.slots.face[slot]))

    def members(self, slot: int) -> list[int]:
        """The slots that a combination stands on, in order."""
        mine = [other for other in self.slots_of(self.token(slot)) if self.slots.parent[other] == slot]
        return sorted(mine, key=lambda other: int(self.slots.member[other]))

    def slots_of(self, patient: str) -> list[int]:
        """Every slot the patient ever had, the newest first."""
        out, dense = [], self._dense.get(patient)
        slot = -1 if dense is None else int(self._first[dense])
        while slot >= 0:
            out.append(slot)
            slot = int(self.slots.sibling[slot])
        return out

    def assign(
        self, patients: Sequence[str], rules: Sequence[CompiledRule], *, own: bool
    ) -> list[tuple[str, str]]:  # fmt: skip
        """Replace the rules of patients, all by the same: their ``own`` limits, or those of their programmes.

        Returns (patient, rule) of the rules that went while their condition held.

        A slot whose parameters stay the same keeps its state. One that changes or goes forgets a condition nobody was
        told of; a condition that an open alert stands for is carried on, its clearing timer starts anew.
        """
        flat = _flat(rules)
        group = np.array([self._admit(patient) for patient in patients], dtype=np.int64)
        rule = np.array([self.rules.intern(item.spec) for item, _, _ in flat], dtype=np.int32)
        face = np.array([self.rules.intern_face(item.face) for item, _, _ in flat], dtype=np.int32)
        name = np.array([self.rules.intern_name(item.face.name) for item, _, _ in flat], dtype=np.int32)
        slots, mine = self.slots, self._slots_among(patients, group)
        mine = mine[slots.own[mine] == own]
        place = np.full(self.rules.names, -1, dtype=np.int64)
        place[name] = np.arange(len(flat))
        at = place[slots.name[mine]]
        kept, gone, at = mine[at >= 0], mine[at < 0], at[at >= 0]
        self._unsettle(kept[(slots.rule[kept] != rule[at]) | (slots.live[kept] == 0)])
        self._unsettle(gone[slots.live[gone] != 0])
        held = (slots.condition[gone] >= HOLDS) & (slots.live[gone] != 0) & (slots.parent[gone] < 0)
        retired = [(self.token(slot), self.face(slot).name) for slot in gone[held].tolist()]
        slots.live[gone] = 0
        slots.live[kept], slots.rule[kept], slots.face[kept] = 1, rule[at], face[at]
        where = np.full(len(self._tokens), -1, dtype=np.int64)
        where[group] = np.arange(len(group))
        slot_of = np.full((len(group), len(flat)), -1, dtype=np.int64)
        slot_of[where[slots.patient[kept]], at] = kept
        missing_patient, missing_place = np.nonzero(slot_of < 0)
        slot_of[missing_patient, missing_place] = self._add(
            group[missing_patient], rule[missing_place], face[missing_place], name[missing_place], own
        )
        self._join(flat, slot_of)
        self._link(patients, group)
        return retired

    def renew(self, groups: Iterable[tuple[Sequence[str], Sequence[CompiledRule]]]) -> None:
        """Give patients the same rules as a newer release compiles them; what waits, waits on."""
        conditions = self.slots.condition[: self.size].copy()
        for patients, rules in groups:
            self.assign(patients, rules, own=False)
        self.slots.condition[: len(conditions)] = conditions

    def reset(self, slot: int) -> None:
        """Back to normal: a person closed the alert of this slot."""
        self.slots.condition[slot] = CLEAR
        self.slots.timer_ns[slot], self.slots.extremes[slot], self.slots.history[slot] = NO_TIME, 0, 0

    def withdraw(self, slot: int, vital: int, source_time_ns: int, seq: int, time_ns: int) -> tuple[bool, bool]:
        """A reading of the slot's patient is taken back.

        Whether the condition of the slot began or acted on it, and whether the condition is over because nothing else
        holds it up. One that is not told to anybody yet goes on from the newest reading beyond the limit, if any.
        """
        slots = self.slots
        if self.rules.rules.vital[slots.rule[slot]] != vital:
            return False, False
        condition, newest = slots.condition[slot], slots.last_time_ns[slot] == time_ns
        first = slots.first_source_ns[slot] == source_time_ns and slots.first_seq[slot] == seq
        acted = slots.latest_time_ns[slot] == time_ns
        if slots.history_ns[slot] == time_ns:
            slots.history[slot] >>= 1
        if condition == SUSPECTED and newest:
            slots.condition[slot] = CLEAR
        elif condition in (PENDING, AWAITED) and first:
            if condition == PENDING and acted:
                slots.condition[slot] = CLEAR
            for name in ("time_ns", "value", "flags"):
                getattr(slots, f"first_{name}")[slot] = getattr(slots, f"latest_{name}")[slot]
        alone = acted if condition == AWAITED else condition >= UNCONFIRMED
        over = bool(first and (alone or (condition == HOLDS and newest)))
        if over:
            self.reset(slot)
            self.reset(self.told_as(slot))
            if slots.parent[slot] >= 0:
                self.true_ns[slots.combo[slots.parent[slot]], slots.member[slot]] = NO_TIME
        return bool(first or acted), over

    def step(self, step_ns: int) -> None:
        """The clock of receipts was moved. Deadlines that were set by it move along, and so do the times of conditions
        that wait for one. The newest time of others moves back only: no device whose clock is right is overtaken."""
        slots, used = self.slots, slice(0, self.size)
        waits = np.isin(slots.condition[used], (PENDING, UNCONFIRMED, AWAITED))
        timed = waits & (slots.timer_ns[used] != NO_TIME) & (slots.timer_ns[used] != NEVER_NS)
        slots.timer_ns[used][timed] += step_ns
        for column in (slots.first_time_ns, slots.counted_ns, slots.latest_time_ns):
            column[used][waits] += step_ns
        moved = (waits | (step_ns < 0)) & (slots.last_time_ns[used] > NO_TIME + 1)
        slots.last_time_ns[used][moved] += step_ns
        self.true_ns[self.true_ns != NO_TIME] += step_ns

    def measured(self, slot: int) -> float:
        """What the slot's rule compared when its condition acted last."""
        return float(self.slots.latest_measured[slot])

    def lone_is_s1(self, slot: int) -> bool:
        """Whether a reading that waits for its repeat becomes S1 without it."""
        return bool(lone_is_s1(self.slots, slot, self.rules.rules, int(self.slots.rule[slot])))

    def told_as(self, slot: int) -> int:
        """The slot whose alert people see: the combination that a slot is part of, or itself."""
        parent = int(self.slots.parent[slot])
        return slot if parent < 0 else parent

    def near_misses(self, patient: str) -> dict[str, int]:
        """How often conditions of a patient ended before their delay did, by rule."""
        mine = [slot for slot in self.slots_of(patient) if self.slots.parent[slot] < 0]
        missed = {self.face(slot).name: int(self.slots.near_misses[slot]) for slot in sorted(mine)}
        return {rule: count for rule, count in missed.items() if count}

    def _slots_among(self, patients: Sequence[str], group: Int64) -> Int64:
        if len(group) <= _FEW:
            return np.array([slot for patient in patients for slot in self.slots_of(patient)], dtype=np.int64)
        among = np.zeros(len(self._tokens), dtype=np.bool_)
        among[group] = True
        return np.flatnonzero(among[self.slots.patient[: self.size]])

    def _unsettle(self, some: Int64) -> None:
        slots = self.slots
        told = np.isin(slots.condition[some], (PENDING, SUSPECTED))
        slots.condition[some[told]], slots.history[some[told]] = CLEAR, 0
        slots.timer_ns[some[slots.condition[some] == HOLDS]] = NO_TIME

    def _admit(self, patient: str) -> int:
        dense = self._dense.get(patient)
        if dense is not None:
            return dense
        dense = len(self._tokens)
        if dense == len(self.heads):
            self.heads, self._first = grown(self.heads, 2 * dense, -1), grown(self._first, 2 * dense, -1)
        self._dense[patient] = dense
        self._tokens.append(patient)
        return dense

    def _add(self, patient: Int64, rule: Int32, face: Int32, name: Int32, own: bool) -> Int64:
        """New slots, given patient by patient; their numbers."""
        count = len(patient)
        numbers = np.arange(self.size, self.size + count)
        if self.size + count > len(self.slots.patient):
            room = max(2 * len(self.slots.patient), self.size + count)
            columns = {n: grown(c, room, _INITIAL.get(n, 0)) for n, c in self.slots._asdict().items()}
            self.slots = Slots(**columns)
        self.size += count
        slots = self.slots
        slots.patient[numbers], slots.rule[numbers], slots.face[numbers] = patient, rule, face
        slots.name[numbers], slots.own[numbers], slots.live[numbers] = name, own, 1
        # Each new slot is linked to the one before of the same patient, the first of them to the newest there was.
        goes_on = np.append(False, patient[1:] == patient[:-1]) if count else np.zeros(0, np.bool_)
        slots.sibling[numbers] = np.where(goes_on, numbers - 1, self._first[patient])
        last = np.append(~goes_on[1:], True) if count else goes_on
        self._first[patient[last]] = numbers[last]
        return numbers

    def _join(self, flat: Sequence[tuple[CompiledRule, int, int]], slot_of: Int64) -> None:
        """Tie members to their combinations, and give combinations a row of ``true_ns``."""
        for place, (item, parent, number) in enumerate(flat):
            mine = slot_of[:, place]
            if parent >= 0:
                self.slots.parent[mine], self.slots.member[mine] = slot_of[:, parent], number
            elif item.members:
                new = mine[self.slots.combo[mine] < 0]
                self.slots.combo[new] = np.arange(self._combos, self._combos + len(new))
                self._combos += len(new)
                if self._combos > len(self.true_ns):
                    self.true_ns = grown(self.true_ns, max(self._combos, 2 * len(self.true_ns)), NO_TIME)

    def _link(self, patients: Sequence[str], group: Int64) -> None:
        """Chain the live slots of patients anew, and give them the series that their rules read."""
        slots, rules = self.slots, self.rules.rules
        self.heads[group] = -1
        mine = self._slots_among(patients, group)
        live = mine[slots.live[mine] != 0]
        self._chain(live[rules.kind[slots.rule[live]] != Kind.COMBINATION].astype(np.int32))
        self.series.give(slots, rules, mine)

    def _chain(self, live: Int32) -> None:
        """Link live slots of the same patient and vital, by side, severity and number."""
        slots, rules = self.slots, self.rules.rules
        rule = slots.rule[live]
        order = np.lexsort((live, rules.severity[rule], rules.side[rule], rules.vital[rule], slots.patient[live]))
        if not len(order):
            return
        chained, rule = live[order], rule[order]
        patient, vital = slots.patient[chained], rules.vital[rule]
        goes_on = (patient[1:] == patient[:-1]) & (vital[1:] == vital[:-1])
        slots.following[chained] = np.append(np.where(goes_on, chained[1:], -1), -1)
        begins = np.insert(~goes_on, 0, True)
        self.heads[patient[begins], vital[begins]] = chained[begins]

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        columns = {name: column[: self.size].tobytes() for name, column in self.slots._asdict().items()}
        return {
            "tokens": self._tokens, "first": self._first[: len(self._tokens)].tobytes(), "columns": columns,
            "rules": self.rules.dump(), "series": self.series.dump(), "true_ns": self.true_ns[: self._combos].tobytes(),
        }  # fmt: skip

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "SlotTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        table.rules, table.series = RuleTable.load(state["rules"]), SeriesTable.load(state["series"])
        table._tokens = list(state["tokens"])
        table._dense = {token: number for number, token in enumerate(table._tokens)}
        columns, nothing = state["columns"], bytes(8 * len(state["columns"]["patient"]))
        # A snapshot of version 4 has no columns of extremes, one of version 5 none of n of m: nothing was seen.
        stored = {
            name: np.frombuffer(columns.get(name, nothing), dtype=dtype)[: len(columns["patient"]) // 4]
            for name, dtype in SLOT_DTYPES.items()
        }
        table.size, patients = len(stored["patient"]), max(len(table._tokens), 1)
        room = max(table.size, _FIRST_SLOTS)
        table.slots = Slots(**{name: grown(column, room, _INITIAL.get(name, 0)) for name, column in stored.items()})
        true_ns = np.frombuffer(state["true_ns"], dtype="<i8").reshape(-1, MAX_MEMBERS)
        table._combos = len(true_ns)
        table.true_ns = grown(true_ns, max(len(true_ns), 1), NO_TIME)
        table.heads = np.full((patients, CODE_SPACE), -1, dtype=np.int32)
        table._first = grown(np.frombuffer(state["first"], dtype="<i4"), patients, -1)
        live = np.flatnonzero(table.slots.live[: table.size]).astype(np.int32)
        table._chain(live[table.rules.rules.kind[table.slots.rule[live]] != Kind.COMBINATION])
        return table
