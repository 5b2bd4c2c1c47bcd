"""What makes a condition urgent: extreme readings, and first readings whose repeat is awaited. Called by kernels only.

A value further out never waits longer than one nearer: an extreme one pages at once, also when it is doubtful.
"""

from typing import Final

import numpy as np

from alerts.judging.compiling import lean
from alerts.judging.conditions import (
    ALARMED,
    AWAITED,
    CLEAR,
    CONFIRM_NS,
    DOUBTED,
    HOLDS,
    NEVER_NS,
    NOTHING,
    OVERDUE,
    PENDING,
    PROMOTED,
    SUSPECTED,
    UNANSWERED,
    UNCONFIRMED,
    WORSENED,
)
from alerts.judging.state import Rows, Rules, Slots
from alerts.rules.spec import Kind
from vitals.glossary import Flag, Severity
from vitals.times import NO_TIME

AT_WORK: Final = 1 << 31
"""Set by the engine on rows whose source says that the patient was active: no high value is extreme then."""
_S1: Final = int(Severity.S1)
_BELOW: Final = int(Flag.BELOW_RANGE)
_ABOVE: Final = int(Flag.ABOVE_RANGE)
_LIMIT: Final = int(Kind.LIMIT)
_LOW: Final = 0
HISTORY: Final = 0b11111
"""The last five rows of ``Slots.extremes``."""


@lean
def further(value: float, flags: int, low: bool, line: float) -> bool:
    """Whether a value is beyond a line of urgency; beyond the sensor's range it is beyond every line there is."""
    if flags & (_BELOW if low else _ABOVE):
        return bool(np.isfinite(line))
    return bool(value <= line if low else value >= line)


@lean
def is_extreme(rules: Rules, rule: int, value: float, flags: int) -> bool:
    """Whether a row is beyond the extreme limit of a rule. A fast pulse in effort is not."""
    low = rules.side[rule] == _LOW
    worked = not low and flags & AT_WORK != 0
    return not worked and further(value, flags, low, rules.extreme[rule])


@lean
def notice(slots: Slots, slot: int, rules: Rules, rule: int, value: float, flags: int) -> None:
    """An extreme row that a median outvotes is remembered all the same."""
    if slots.condition[slot] == CLEAR and is_extreme(rules, rule, value, flags):
        slots.condition[slot] = SUSPECTED


@lean
def awaits(rules: Rules, rule: int) -> bool:
    """Whether a person is asked for the second reading of a rule: S1, of spot readings."""
    return bool(rules.severity[rule] == _S1 and rules.continuous[rule] == 0 and rules.on_count[rule] > 1)


@lean
def on_one(rules: Rules, rule: int) -> int:
    """The condition of an S1 that one reading made: of spot readings of a protocol the next one may refute it."""
    return PROMOTED if rules.continuous[rule] == 0 and rules.patient_limit[rule] == 0 else HOLDS


@lean
def begin(slots: Slots, slot: int, rows: Rows, row: int, counts: int) -> None:
    """The row is the first one beyond the limit; ``counts`` is whether it counts as a reading."""
    slots.first_time_ns[slot] = rows.time_ns[row]
    slots.first_value[slot] = rows.value[row]
    slots.first_flags[slot] = rows.flags[row]
    slots.first_message[slot] = rows.message[row]
    slots.first_source_ns[slot] = rows.source_time_ns[row]
    slots.first_seq[slot] = rows.seq[row]
    slots.counted[slot] = counts
    slots.counted_ns[slot] = rows.time_ns[row]
    # The rule waits for a second reading. After this time a person is asked for it.
    slots.timer_ns[slot] = rows.received_ns[row] + CONFIRM_NS


@lean
def _is_certain(slots: Slots, slot: int, rules: Rules, rule: int, time_ns: int, impossible: bool) -> bool:
    """Count an extreme row; whether so many of the last five were extreme, or for so long, that it is no artefact."""
    # Step 1: a first one, and one after a gap in which no reading was current, begins anew.
    history = slots.extremes[slot]
    if history == 0 or time_ns - slots.latest_time_ns[slot] > rules.staleness_ns[rule]:
        history, slots.extreme_ns[slot] = 0, time_ns
    # Step 2: count those of the last five rows.
    history = (history << 1 | 1) & HISTORY
    slots.extremes[slot] = history
    lasted_ns = time_ns - slots.extreme_ns[slot]
    # Step 3: an extreme that is possible takes as long as the limit itself does: dips of seconds are no emergency.
    if not impossible:
        return bool(lasted_ns >= max(rules.extreme_ns[rule], rules.on_delay_ns[rule]))
    count = 0
    for bit in range(5):
        count += history >> bit & 1
    return bool(count >= rules.extreme_of[rule] or lasted_ns >= rules.extreme_ns[rule])


@lean
def _page(slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, measured: float, sound: bool) -> int:
    """An extreme raises the condition at once; the transition, or NOTHING when it is an S1 already."""
    condition = slots.condition[slot]
    if condition < PENDING:
        begin(slots, slot, rows, row, 1)
    # A sound reading of a rule that needs one, and a second reading, settle it; else the next one may refute it.
    alone = condition < PENDING and not (sound and rules.on_count[rule] <= 1)
    slots.condition[slot] = on_one(rules, rule) if alone else HOLDS
    slots.timer_ns[slot], slots.extremes[slot] = NO_TIME, 0
    slots.latest_time_ns[slot] = rows.time_ns[row]
    slots.latest_value[slot], slots.latest_flags[slot] = rows.value[row], rows.flags[row]
    slots.latest_measured[slot] = measured
    if condition == PROMOTED:
        return NOTHING
    return WORSENED if condition > PENDING else ALARMED


@lean
def extreme_moves(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, measured: float, suspect: bool
) -> int:  # fmt: skip
    """An extreme row moves a slot whose condition does not hold yet; the transition, or -1: judge it like any other."""
    condition, time_ns = slots.condition[slot], rows.time_ns[row]
    # Step 1: spot readings. One is enough, but where the pulse is counted a second one must come, or a minute pass.
    if rules.extreme_of[rule] <= 1:
        if rules.extreme_ns[rule] == 0 or condition > PENDING:
            return _page(slots, slot, rules, rule, rows, row, measured, not suspect)
        begin(slots, slot, rows, row, 1)
        slots.condition[slot] = UNCONFIRMED
        slots.timer_ns[slot] = rows.received_ns[row] + rules.extreme_ns[rule]
        slots.latest_time_ns[slot] = time_ns
        slots.latest_value[slot], slots.latest_flags[slot] = rows.value[row], rows.flags[row]
        slots.latest_measured[slot] = measured
        return DOUBTED
    # Step 2: a continuous signal.
    impossible = further(rows.value[row], 0, rules.side[rule] == _LOW, rules.arrest[rule])
    if _is_certain(slots, slot, rules, rule, time_ns, impossible):
        return _page(slots, slot, rules, rule, rows, row, measured, False)
    # Step 3: one artefact pages nobody: what is no physiology is remembered only.
    if impossible:
        slots.latest_time_ns[slot] = time_ns
        if condition == CLEAR:
            slots.condition[slot] = SUSPECTED
        return NOTHING
    return -1


@lean
def lone_is_s1(slots: Slots, slot: int, rules: Rules, rule: int) -> bool:
    """Whether readings that wait for a repeat are so far out that they become S1 without it."""
    low, lone = rules.side[rule] == _LOW, rules.lone[rule]
    first = rules.kind[rule] == _LIMIT and further(slots.first_value[slot], slots.first_flags[slot], low, lone)
    return first or further(slots.latest_measured[slot], slots.latest_flags[slot], low, lone)


@lean
def unanswered(slots: Slots, slot: int, rules: Rules, rule: int, watermark_ns: int) -> tuple[int, int]:
    """Let time pass for a condition that waits for its repeat: the transition, or NOTHING, and its deadline."""
    deadline = slots.timer_ns[slot]
    if watermark_ns < deadline:
        return NOTHING, 0
    urgent, member = lone_is_s1(slots, slot, rules, rule), slots.parent[slot] >= 0
    # Step 1: the part of a combination counts as true, or waits for its repeat for ever.
    if member:
        slots.condition[slot] = HOLDS if urgent else AWAITED
        slots.timer_ns[slot] = NO_TIME if urgent else NEVER_NS
        return (WORSENED, deadline) if urgent else (NOTHING, 0)
    # Step 2: S1 without its repeat, or "repeat not taken".
    slots.condition[slot] = on_one(rules, rule) if urgent else OVERDUE
    slots.timer_ns[slot] = NO_TIME
    return WORSENED if urgent else UNANSWERED, deadline
