"""The hot loop: conditions of all slots over the rows of a batch, and over a tick, as numba kernels.

The kernels change the *condition* of slots only (clear, pending, holding, ...). They emit few transitions, and the
casebook opens and closes alerts from these. Rows are judged strictly in order, and the result for a row depends only on
the state of its patient's slots, so the transitions do not depend on the division of rows into batches. With
``NUMBA_DISABLE_JIT=1`` the same functions run as Python.

``NUMBA_CACHE_DIR`` is read by numba when it is first imported: whoever starts the process sets it before.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from alerts.judging.companions import is_average, is_lone_extreme, is_newest
from alerts.judging.compiling import Int32Row, Int32Table, Int64Table, lean, settle
from alerts.judging.conditions import (
    CLEAR,
    HEARD,
    HOLDS,
    NOTHING,
    ONSET,
    OVERTAKEN,
    REVIEWED,
    SUSPECTED,
    WORSENED,
)
from alerts.judging.days import Days
from alerts.judging.emitting import emit, emit_row
from alerts.judging.measures import JUDGED, judge, outside, within
from alerts.judging.series import Recent, Usual, insert_recent, learn_usual, push_recent
from alerts.judging.slot_kernels import elapse, inherit, move, step_back
from alerts.judging.state import (
    Emitted,
    Rows,
    Rules,
    Slots,
)
from alerts.judging.urgent_kernels import further, is_extreme
from alerts.rules.spec import REVIEW_AGE_NS, Kind
from vitals.glossary import NOT_SCORED, Basis, Flag, Severity, Statistic
from vitals.times import NO_TIME

LONGEST_CHAIN: Final = 256
"""Largest number of slots that judge one reading."""

_LOW: Final = 0
_S1: Final = int(Severity.S1)
_SINGLE: Final = int(Statistic.SINGLE)
_DAY: Final = int(Basis.DAY)
_UNKNOWN: Final = int(Basis.UNKNOWN)
_UNSCORED: Final = int(NOT_SCORED)
_LATE: Final = int(Flag.LATE | Flag.REPLAYED | Flag.CLOCK_SUSPECT)
_REFUSED: Final = _UNSCORED & ~_LATE
_BROKEN: Final = int(Flag.IMPLAUSIBLE | Flag.SENSOR_FAULT)
_SENSOR_FAULT: Final = int(Flag.SENSOR_FAULT)
_MISUSED: Final = _UNSCORED & ~_BROKEN
_NOT_LEARNED: Final = int(
    Flag.SUSPECT | Flag.LOW_QUALITY | Flag.BELOW_RANGE | Flag.ABOVE_RANGE | Flag.ESTIMATED | Flag.CLOCK_WRONG
)
_LIMIT: Final = int(Kind.LIMIT)
_CLOCK: Final = int(Flag.CLOCK_WRONG | Flag.CLOCK_CORRECTED)
_FAULT: Final = int(Kind.FAULT)
_STUCK: Final = int(Kind.STUCK)


@lean
def _together(slots: Slots, rules: Rules, true_ns: Int64Table, slot: int, verdict: int, time_ns: int) -> int:
    """After a member was judged: whether its combination is true (1), not true (0), or unknown (-1)."""
    parent = slots.parent[slot]
    combo, rule = slots.combo[parent], slots.rule[parent]
    # Step 1: ``true_ns`` holds the latest time at which each member was true, NO_TIME while it is not.
    if verdict == 1 and slots.condition[slot] == HOLDS:
        true_ns[combo, slots.member[slot]] = max(true_ns[combo, slots.member[slot]], time_ns)
    elif verdict == 0 and slots.condition[slot] == CLEAR:
        true_ns[combo, slots.member[slot]] = NO_TIME
    # Step 2: true if all members were true within ``window_ns``; unknown if one was true longer ago.
    answer = 1
    for member in range(int(rules.a[rule])):
        since = true_ns[combo, member]
        if since == NO_TIME:
            return 0
        if time_ns - since > rules.window_ns[rule]:
            answer = -1
    return answer


@lean
def _heard(slots: Slots, slot: int, rows: Rows, row: int, out: Emitted, count: int) -> int:
    """Emit that a reading arrived for a condition that had faded; the number of transitions in ``out`` by now."""
    slots.stale[slot] = 0
    if slots.parent[slot] >= 0:
        return count
    emit_row(out, count, slots, slot, HEARD, rows, row, rows.value[row])
    return count + 1


@lean
def _moved(
    slots: Slots, slot: int, rules: Rules, rows: Rows, row: int, verdict: int, beyond: bool, measured: float,
    out: Emitted, count: int,
) -> int:  # fmt: skip
    """Let a row move a slot; the number of transitions in ``out`` by now. Members of a combination raise no alerts."""
    moved = move(slots, slot, rules, slots.rule[slot], rows, row, verdict, beyond, measured)
    if moved == NOTHING or slots.parent[slot] >= 0:
        return count
    emit_row(out, count, slots, slot, moved, rows, row, measured)
    return count + 1


@lean
def _joined(
    slots: Slots, slot: int, rules: Rules, true_ns: Int64Table, rows: Rows, row: int, verdict: int, measured: float,
    out: Emitted, count: int,
) -> int:  # fmt: skip
    """Let a combination move after a member was judged; the number of transitions in ``out`` by now."""
    parent, time_ns = slots.parent[slot], rows.time_ns[row]
    answer = _together(slots, rules, true_ns, slot, verdict, time_ns)
    slots.last_time_ns[parent] = max(slots.last_time_ns[parent], time_ns)
    if slots.stale[parent] != 0:
        count = _heard(slots, parent, rows, row, out, count)
    if answer == 1 and slots.condition[parent] == HOLDS:
        slots.timer_ns[parent] = NO_TIME
        return count
    if answer == 1 or (answer == 0 and slots.condition[parent] != CLEAR):
        return _moved(slots, parent, rules, rows, row, answer, True, measured, out, count)
    return count


@lean
def _follows(slots: Slots, slot: int, rows: Rows, row: int) -> bool:
    """Whether an impossible row is not older than the slot's newest one, unless that one's time says nothing: it lies
    ahead of the row's receipt, or is the arrival of a reading whose clock was wrong."""
    newest_ns, unsure = slots.last_time_ns[slot], slots.arrived[slot] != 0
    return bool(rows.time_ns[row] >= newest_ns or newest_ns > rows.received_ns[row] or unsure)


@lean
def _stands_still(slots: Slots, slot: int, rules: Rules, rows: Rows, row: int, out: Emitted, count: int) -> int:
    """Let an impossibly low value move an S1 limit; the number of transitions in ``out`` by now."""
    slots.last_time_ns[slot] = rows.time_ns[row]
    if slots.stale[slot] != 0:
        count = _heard(slots, slot, rows, row, out, count)
    if slots.condition[slot] == HOLDS:
        slots.timer_ns[slot], slots.cleared[slot] = NO_TIME, 0
        return count
    return _moved(slots, slot, rules, rows, row, 1, False, rows.value[row], out, count)


@lean
def _aside(slots: Slots, rules: Rules, slot: int, rows: Rows, row: int, out: Emitted, count: int) -> int:
    """Judge a row that no rule reads as current; the number of transitions in ``out`` by now.

    A late value, one of a day alone, and the minimum or maximum of an interval, beyond an S1 limit asks for a review
    (clinical.md 5.5); a sensor fault counts for fault rules. A value that is no physiology is an extreme: it may be an
    arrest.
    """
    # Step 1: what the row can be: late but recent enough for a review, an extreme of an interval, or broken.
    flags, age_ns = rows.flags[row], rows.received_ns[row] - rows.time_ns[row]
    single = rows.statistic[row] == _SINGLE
    untimed = rows.basis[row] == _UNKNOWN or rows.basis[row] == _DAY
    extreme = is_lone_extreme(rows, row)
    late = (flags & _LATE != 0 or untimed or extreme) and flags & _REFUSED == 0 and abs(age_ns) <= REVIEW_AGE_NS
    broken = single and flags & _BROKEN != 0 and flags & _MISUSED == 0 and not untimed
    if not (single or extreme or is_average(rows.statistic[row])):
        return count
    impossible = broken and flags & _SENSOR_FAULT == 0
    # Step 2: go through the slots of the (patient, vital): fault rules take a broken row, S1 limits a late one.
    while slot >= 0:
        rule = slots.rule[slot]
        kind = rules.kind[rule]
        if broken and kind == _FAULT and _follows(slots, slot, rows, row):
            slots.last_time_ns[slot] = rows.time_ns[row]
            if slots.stale[slot] != 0:
                count = _heard(slots, slot, rows, row, out, count)
            if slots.condition[slot] != HOLDS:
                count = _moved(slots, slot, rules, rows, row, 1, False, rows.value[row], out, count)
        elif impossible and kind == _LIMIT and further(rows.value[row], 0, True, rules.arrest[rule]):
            if rules.side[rule] == _LOW and slots.parent[slot] < 0 and _follows(slots, slot, rows, row):
                count = _stands_still(slots, slot, rules, rows, row, out, count)
        elif late and kind == _LIMIT and rules.severity[rule] == _S1 and slots.parent[slot] < 0:
            low = rules.side[rule] == _LOW
            if outside(rows.value[row], flags, low, rules.enter[rule], rules.inclusive[rule]) == 1:
                emit_row(out, count, slots, slot, REVIEWED, rows, row, rows.value[row])
                count += 1
        slot = slots.following[slot]
    return count


@lean
def _overtaken(
    slots: Slots, slot: int, rules: Rules, recent: Recent, usual: Usual, days: Days, rows: Rows, row: int, sound: bool,
    out: Emitted, count: int,
) -> int:  # fmt: skip
    """A current row that is older than the slot's newest one, by another device or a wrong clock, ends no condition,
    but a severe one is not lost. Returns the number of transitions in ``out`` by now."""
    rule, condition = slots.rule[slot], slots.condition[slot]
    low, value, flags = rules.side[rule] == _LOW, rows.value[row], rows.flags[row]
    # Step 1: only a row beyond an S1 or an extreme limit is severe. A condition that holds is told already.
    if rules.kind[rule] != _LIMIT or slots.parent[slot] >= 0 or condition == HOLDS:
        return count
    urgent = rules.severity[rule] == _S1
    if outside(value, flags, low, rules.enter[rule], rules.inclusive[rule]) != 1:
        return count
    if not urgent and not is_extreme(rules, rule, value, flags):
        return count
    # Step 2: the newest reading of its message may raise the condition as if it had come in time.
    before = count
    if rows.statistic[row] == _SINGLE and is_newest(rows, row):
        if sound and slots.recent[slot] >= 0:
            insert_recent(recent, slots.recent[slot], rows.time_ns[row], value)
        verdict, measured, _ = judge(slots, slot, rules, rule, recent, usual, days, rows, row, sound)
        if verdict == 1:
            count = _moved(slots, slot, rules, rows, row, 1, False, measured, out, count)
    # Step 3: one that nobody is told of asks for a review.
    if count == before and urgent and condition < HOLDS:
        emit_row(out, count, slots, slot, OVERTAKEN, rows, row, value)
        count += 1
    return count


@lean
def _calm(condition: int, kind: int) -> bool:
    """Whether a slot allows learning a value: its condition is clear, or is about the sensor and not the patient."""
    return bool(condition == CLEAR or kind == _FAULT or kind == _STUCK)  # noqa: PLR1714, SIM109


@lean
def _head(heads: Int32Table, index: Int32Row, token: int, vital: int) -> int:
    """The first slot that judges a vital of a patient of the batch's vocabulary, -1 if no slot does."""
    if token < 0 or token >= index.size or index[token] < 0 or vital >= heads.shape[1]:
        return -1
    return int(heads[index[token], vital])


@lean
def scan_rows(
    slots: Slots, rules: Rules, recent: Recent, usual: Usual, days: Days, true_ns: Int64Table, heads: Int32Table,
    index: Int32Row, rows: Rows, start: int, out: Emitted,
) -> tuple[int, int]:  # fmt: skip
    """Judge rows from ``start`` in order, each by all slots of its (patient, vital).

    ``heads`` (patients x vital codes, int32) starts the chain of slots, ``index`` maps the batch's patient vocabulary
    to rows of it. Returns the next row (the batch's length when done; less when ``out`` is full) and how many
    transitions stand in ``out``.
    """
    # Bind the arrays once: a field access inside the loop counts references, which costs 60 times the work.
    patients, vitals, times, values, flags = rows.patient, rows.vital, rows.time_ns, rows.value, rows.flags
    statistics, bases, received = rows.statistic, rows.basis, rows.received_ns
    rule_of, following, last_time_ns, condition = slots.rule, slots.following, slots.last_time_ns, slots.condition
    parent_of, recent_of, usual_of = slots.parent, slots.recent, slots.usual
    timer_ns, cleared, stale, arrived = slots.timer_ns, slots.cleared, slots.stale, slots.arrived
    kinds, sides, enters, inclusive = rules.kind, rules.side, rules.enter, rules.inclusive
    medians, from_min, to_min = rules.median_of, rules.from_min, rules.to_min
    size, room, count = patients.size, out.slot.size - 2 * LONGEST_CHAIN, 0
    for row in range(start, size):
        # Step 1: stop while ``out`` still has room for every transition of a row, and skip rows that no slot judges.
        if count > room:
            return row, count
        slot = first = _head(heads, index, patients[row], vitals[row])
        if slot < 0:
            continue
        # Step 2: clinical.md 1.3. History, faults, day values and extremes are not judged as current.
        flag, single, average = flags[row], statistics[row] == _SINGLE, is_average(statistics[row])
        if flag & _UNSCORED != 0 or not (single or average) or bases[row] == _DAY or bases[row] == _UNKNOWN:
            count = _aside(slots, rules, slot, rows, row, out, count)
            continue
        # Step 3: clinical.md 5.2. A good value extends the recent points, which slopes and medians are computed from.
        time_ns, value, quiet = times[row], values[row], True
        sound = single and flag & _NOT_LEARNED == 0 and not np.isnan(value)
        if sound and recent_of[first] >= 0:
            push_recent(recent, recent_of[first], time_ns, value)
        # Step 4: judge the row by each slot of the chain.
        while slot >= 0:
            rule, kind = rule_of[slot], kinds[rule_of[slot]]
            # Step 4a: a plain limit (no median, no hours of the day) is compared here, everything else by ``judge``.
            plain = kind == _LIMIT and (medians[rule] <= 1 or not single) and from_min[rule] == to_min[rule]
            beyond, measured, verdict, newest_ns = False, value, -1, last_time_ns[slot]
            if plain:
                verdict = outside(value, flag, sides[rule] == _LOW, enters[rule], inclusive[rule])
            # Step 4b: only a row that is not older than the slot's newest one is judged; a newest one that lies ahead
            # of this row's receipt was taken by a clock that has been set back since, and silences nothing. Nor does
            # one that stands at its arrival because its clock was wrong, but what may be older than it clears nothing.
            # A severe older row of another device can raise, but not end.
            follows = (single or kind == _LIMIT) and (
                time_ns >= newest_ns or newest_ns > received[row] or (arrived[slot] != 0 and plain and verdict == 1)
            )
            if follows and not (plain and verdict < 0):
                if newest_ns > received[row] and time_ns < newest_ns:
                    step_back(slots, slot, newest_ns - time_ns)
                last_time_ns[slot], arrived[slot] = time_ns, flag & _CLOCK != 0 and time_ns == received[row]
                if stale[slot] != 0:
                    count = _heard(slots, slot, rows, row, out, count)
                if not plain:
                    verdict, measured, beyond = judge(slots, slot, rules, rule, recent, usual, days, rows, row, sound)
                # Step 4c: a value still beyond the limit restarts the off-delay; other changes are for ``move``.
                if verdict == 1 and condition[slot] == HOLDS:
                    timer_ns[slot], cleared[slot] = NO_TIME, 0
                elif verdict == 1 or (verdict == 0 and condition[slot] != CLEAR):
                    if plain:
                        beyond = flag & JUDGED != 0 or within(value, rules.leave[rule], sides[rule] == _LOW)
                    count = _moved(slots, slot, rules, rows, row, verdict, beyond, measured, out, count)
                # Step 4d: the member of a combination moves the combination.
                if parent_of[slot] >= 0 and verdict >= 0:
                    count = _joined(slots, slot, rules, true_ns, rows, row, verdict, measured, out, count)
            elif not follows:
                count = _overtaken(slots, slot, rules, recent, usual, days, rows, row, sound, out, count)
            # A row out of order was not judged by this slot, so it may be abnormal and is not learned.
            quiet = quiet and last_time_ns[slot] <= time_ns and _calm(condition[slot], kind)
            slot = following[slot]
        # Step 5: clinical.md 6.1. A good value that raises nothing teaches the patient's usual values.
        if quiet and sound and usual_of[first] >= 0:
            learn_usual(usual, usual_of[first], time_ns, rows.tz_min[row], value)
    return size, count


@lean
def scan_tick(
    slots: Slots, rules: Rules, true_ns: Int64Table, watermark_ns: int, start: int, out: Emitted
) -> tuple[int, int]:
    """Let delays elapse up to ``watermark_ns``, for all slots from ``start``; returns the same as :func:`scan_rows`.

    A pending condition is raised only while its last reading is current. Time alone never clears a condition.
    """
    conditions, size, room, count = slots.condition, slots.condition.size, out.slot.size - 2, 0
    for slot in range(start, size):
        # Step 1: time changes only conditions that are pending, unconfirmed or holding.
        condition = conditions[slot]
        if condition == CLEAR or condition == SUSPECTED:  # noqa: PLR1714, SIM109  a set is slow in the kernel
            continue
        if count > room:
            return slot, count
        # Step 2: let the slot's delays elapse.
        rule = slots.rule[slot]
        moved, at_ns = elapse(slots, slot, rules, rule, watermark_ns)
        if moved == NOTHING:
            continue
        # Step 3: emit the transition; that of a combination's member may raise the combination instead.
        if slots.parent[slot] < 0:
            emit(out, count, slots, slot, moved, at_ns)
            count += 1
        elif moved == ONSET or moved == WORSENED:  # noqa: PLR1714, SIM109
            parent = slots.parent[slot]
            answer = _together(slots, rules, true_ns, slot, 1, max(at_ns, slots.latest_time_ns[slot]))
            if answer == 1 and conditions[parent] == CLEAR:
                inherit(slots, parent, slot)
                conditions[parent] = HOLDS
                slots.timer_ns[parent] = NO_TIME
                emit(out, count, slots, parent, ONSET, at_ns)
                count += 1
    return size, count


class Kernels(NamedTuple):
    """The two kernels, compiled."""

    scan_rows: Callable[..., tuple[int, int]]
    scan_tick: Callable[..., tuple[int, int]]


def load() -> Kernels:
    """Compile both kernels, or take them from numba's cache; later calls are free."""
    settle(scan_rows)
    settle(scan_tick)
    return Kernels(scan_rows, scan_tick)
