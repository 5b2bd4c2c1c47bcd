"""The condition of one slot: how a judged reading, or time, moves it. Called by the kernels only."""

from typing import Final

from alerts.judging.compiling import lean
from alerts.judging.state import Rows, Rules, Slots
from alerts.rules.spec import Kind
from vitals.glossary import Flag, Severity
from vitals.model import NO_TIME

CLEAR: Final = 0
SUSPECTED: Final = 1
"""One suspect row was out of limits, on a slot that does not page on one."""
PENDING: Final = 2
"""Out of limits; the on-delay runs from ``first_time_ns``, ``counted`` readings have counted."""
HOLDS: Final = 3
"""The condition is true; ``timer_ns`` is when the values came back, or NO_TIME."""
UNCONFIRMED: Final = 4
"""An S1 condition on one reading; ``timer_ns`` is the time by which a second one must refute it."""

NOTHING: Final = 0
ONSET: Final = 1
DOUBTED: Final = 2
WORSENED: Final = 3
REFUTED: Final = 4
ENDED: Final = 5
REVIEWED: Final = 6
"""An urgent value that came too late to page; the condition is as it was."""
FADED: Final = 7
"""Nothing came for longer than a value may count as current; the condition is as it was."""
HEARD: Final = 8
"""Readings come again for a condition that faded."""

CONFIRM_NS: Final = 15 * 60 * 1_000_000_000
"""How long a second reading may take to refute a suspect S1 sample (clinical.md 1.3)."""
NEVER_NS: Final = 2**63 - 1

_S1: Final = int(Severity.S1)
_SUSPECT: Final = int(Flag.SUSPECT)
_DOUBT: Final = int(Flag.SUSPECT | Flag.LOW_QUALITY)
_EXTREME: Final = int(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)
_BROKEN: Final = int(Flag.IMPLAUSIBLE | Flag.SENSOR_FAULT)
_COMBINATION: Final = int(Kind.COMBINATION)


@lean
def _persists(rules: Rules, rule: int) -> bool:
    """Whether doubt about one sample of a continuous signal is settled by the delay that the rule has anyway."""
    return bool(rules.continuous[rule] != 0 and rules.patient_limit[rule] == 0 and rules.on_delay_ns[rule] > 0)


@lean
def _begin(slots: Slots, slot: int, rows: Rows, row: int, counts: int) -> None:
    slots.first_time_ns[slot] = rows.time_ns[row]
    slots.first_value[slot] = rows.value[row]
    slots.first_flags[slot] = rows.flags[row]
    slots.first_message[slot] = rows.message[row]
    slots.first_source_ns[slot] = rows.source_time_ns[row]
    slots.first_seq[slot] = rows.seq[row]
    slots.counted[slot] = counts
    slots.counted_ns[slot] = rows.time_ns[row]
    # By then somebody is asked for the second reading that the rule waits for.
    slots.timer_ns[slot] = rows.received_ns[row] + CONFIRM_NS


@lean
def inherit(slots: Slots, parent: int, slot: int) -> None:
    """A combination that begins without a reading of its own begins on that of its member ``slot``."""
    slots.first_time_ns[parent], slots.latest_time_ns[parent] = slots.first_time_ns[slot], slots.latest_time_ns[slot]
    slots.first_value[parent], slots.latest_value[parent] = slots.first_value[slot], slots.latest_value[slot]
    slots.first_flags[parent], slots.latest_flags[parent] = slots.first_flags[slot], slots.latest_flags[slot]
    slots.latest_measured[parent] = slots.latest_measured[slot]
    slots.first_message[parent] = slots.first_message[slot]
    slots.first_source_ns[parent], slots.first_seq[parent] = slots.first_source_ns[slot], slots.first_seq[slot]


@lean
def _violation(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, suspect: bool, measured: float
) -> int:  # fmt: skip
    """A row beyond the limit moves a slot whose condition does not hold yet; the transition, or NOTHING."""
    condition, urgent, persists = slots.condition[slot], rules.severity[rule] == _S1, _persists(rules, rule)
    if condition == CLEAR and suspect and not urgent and not persists:
        slots.condition[slot] = SUSPECTED
        return NOTHING
    if condition == UNCONFIRMED and suspect and persists:
        return NOTHING
    time_ns, earlier_ns = rows.time_ns[row], slots.latest_time_ns[slot]
    slots.latest_time_ns[slot] = time_ns
    slots.latest_value[slot] = rows.value[row]
    slots.latest_flags[slot] = rows.flags[row]
    slots.latest_measured[slot] = measured
    if condition == UNCONFIRMED:
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return WORSENED
    counts = 0 if suspect and persists else 1
    if condition == PENDING and persists and time_ns - earlier_ns > rules.staleness_ns[rule]:
        # What was pending before a long gap says nothing of now.
        condition = CLEAR
    if condition != PENDING:
        _begin(slots, slot, rows, row, counts)
    elif counts == 1 and time_ns - slots.counted_ns[slot] >= rules.apart_ns[rule]:
        slots.counted[slot] += 1
        slots.counted_ns[slot] = time_ns
    lasted_ns = time_ns - slots.first_time_ns[slot]
    held = lasted_ns >= rules.on_delay_ns[rule] and slots.counted[slot] >= rules.on_count[rule]
    if suspect and urgent and not persists and not (condition == PENDING and held):
        deadline = rows.received_ns[row] + CONFIRM_NS
        if condition == PENDING and rules.on_count[rule] <= 1:
            # A sound reading was out of limits before: doubt about this one must not delay what that one would raise.
            deadline = min(deadline, slots.first_time_ns[slot] + rules.on_delay_ns[rule])
        slots.condition[slot] = UNCONFIRMED
        slots.timer_ns[slot] = deadline
        return DOUBTED
    if not held:
        slots.condition[slot] = PENDING
        return NOTHING
    slots.condition[slot] = HOLDS
    slots.timer_ns[slot] = NO_TIME
    return ONSET


@lean
def _recovery(slots: Slots, slot: int, rules: Rules, rule: int, time_ns: int, beyond: bool, suspect: bool) -> int:
    """A row within the limit moves the slot; the transition, or NOTHING."""
    condition = slots.condition[slot]
    if condition == UNCONFIRMED:
        if suspect:
            return NOTHING
        slots.condition[slot] = CLEAR
        return REFUTED
    if condition != HOLDS:
        if condition == PENDING and rules.sticky[rule] != 0 and (suspect or not beyond):
            return NOTHING
        slots.condition[slot] = CLEAR
        if condition == PENDING:
            slots.near_misses[slot] += 1
        return NOTHING
    if not beyond:
        slots.timer_ns[slot] = NO_TIME
        slots.cleared[slot] = 0
        return NOTHING
    if slots.timer_ns[slot] == NO_TIME:
        slots.timer_ns[slot] = time_ns
        slots.cleared[slot] = 0
    slots.cleared[slot] += 1
    if time_ns - slots.timer_ns[slot] < rules.off_delay_ns[rule] or slots.cleared[slot] < rules.off_count[rule]:
        return NOTHING
    slots.condition[slot] = CLEAR
    return ENDED


@lean
def move(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, verdict: int, beyond: bool, measured: float
) -> int:  # fmt: skip
    """Let a judged row (``verdict`` 1 beyond the limit, 0 within it; ``beyond`` the deadband too) move a condition."""
    flags = rows.flags[row]
    doubt = _DOUBT if rules.continuous[rule] != 0 and rules.patient_limit[rule] == 0 else _SUSPECT
    # A combination leaves doubt to its members, and a fault is what it says.
    doubtful = rules.kind[rule] != _COMBINATION and flags & _BROKEN == 0
    suspect = doubtful and flags & doubt != 0 and flags & _EXTREME == 0
    if verdict == 1:
        return _violation(slots, slot, rules, rule, rows, row, suspect, measured)
    return _recovery(slots, slot, rules, rule, rows.time_ns[row], beyond, suspect)


@lean
def _pending_elapses(slots: Slots, slot: int, rules: Rules, rule: int, watermark_ns: int) -> tuple[int, int]:
    deadline = slots.first_time_ns[slot] + rules.on_delay_ns[rule]
    fresh = watermark_ns - slots.last_time_ns[slot] <= rules.staleness_ns[rule]
    if slots.counted[slot] >= rules.on_count[rule]:
        if watermark_ns < deadline or not fresh:
            return NOTHING, 0
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return ONSET, deadline
    if rules.severity[rule] != _S1:
        return NOTHING, 0
    if _persists(rules, rule):
        if watermark_ns < deadline or not fresh:
            return NOTHING, 0
        slots.condition[slot] = UNCONFIRMED
        return DOUBTED, deadline
    if watermark_ns < slots.timer_ns[slot]:
        return NOTHING, 0
    # One urgent reading, and the second that the rule waits for has not come: somebody is asked for it.
    deadline = slots.timer_ns[slot]
    slots.condition[slot] = UNCONFIRMED
    slots.timer_ns[slot] = NEVER_NS
    return DOUBTED, deadline


@lean
def elapse(slots: Slots, slot: int, rules: Rules, rule: int, watermark_ns: int) -> tuple[int, int]:
    """Let time pass for a condition that is not clear: the transition, or NOTHING, and its deadline."""
    condition = slots.condition[slot]
    if condition == PENDING:
        return _pending_elapses(slots, slot, rules, rule, watermark_ns)
    if condition == UNCONFIRMED:
        deadline = slots.timer_ns[slot]
        if watermark_ns < deadline:
            return NOTHING, 0
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return WORSENED, deadline
    silent_ns = slots.last_time_ns[slot] + rules.staleness_ns[rule]
    if condition == HOLDS and slots.stale[slot] == 0 and watermark_ns > silent_ns:
        slots.stale[slot] = 1
        return FADED, silent_ns
    return NOTHING, 0
