"""The condition of one slot: how a judged reading, or the passing of time, moves it. Called by the kernels only.

The conditions and transitions are those of ``alerts.judging.conditions``.
"""

from typing import Final

from alerts.judging.compiling import lean
from alerts.judging.conditions import (
    ASKED,
    AWAITED,
    CLEAR,
    CONFIRM_NS,
    DOUBTED,
    ENDED,
    FADED,
    HOLDS,
    NEVER_NS,
    NOTHING,
    ONSET,
    OVERDUE,
    PENDING,
    PROMOTED,
    REFUTED,
    SUSPECTED,
    UNCONFIRMED,
    WORSENED,
)
from alerts.judging.state import Rows, Rules, Slots
from alerts.judging.urgent_kernels import HISTORY, awaits, begin, extreme_moves, is_extreme, on_one, unanswered
from alerts.rules.spec import Kind
from vitals.glossary import Flag, Severity
from vitals.times import NO_TIME

_S1: Final = int(Severity.S1)
_SUSPECT: Final = int(Flag.SUSPECT)
_CLOCK_WRONG: Final = int(Flag.CLOCK_WRONG)
_DOUBT: Final = int(Flag.SUSPECT | Flag.LOW_QUALITY)
_CODED: Final = int(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)
_BROKEN: Final = int(Flag.IMPLAUSIBLE | Flag.SENSOR_FAULT)
_COMBINATION: Final = int(Kind.COMBINATION)
_FORECAST: Final = int(Kind.FORECAST)
_LOW: Final = 0


@lean
def _persists(rules: Rules, rule: int) -> bool:
    """Whether the on-delay of a continuous rule also settles doubt about one sample."""
    return bool(rules.continuous[rule] != 0 and rules.patient_limit[rule] == 0 and rules.on_delay_ns[rule] > 0)


@lean
def step_back(slots: Slots, slot: int, by_ns: int) -> None:
    """Times of a slot that were taken by a clock which was ahead by ``by_ns`` and has been set back since."""
    if slots.condition[slot] < PENDING:
        return
    slots.first_time_ns[slot] -= by_ns
    slots.counted_ns[slot] -= by_ns
    slots.latest_time_ns[slot] -= by_ns
    if slots.timer_ns[slot] != NO_TIME and slots.timer_ns[slot] != NEVER_NS:
        slots.timer_ns[slot] -= by_ns


@lean
def inherit(slots: Slots, parent: int, slot: int) -> None:
    """Copy the readings of the member ``slot`` to its combination, which a tick raises without a reading."""
    slots.first_time_ns[parent], slots.latest_time_ns[parent] = slots.first_time_ns[slot], slots.latest_time_ns[slot]
    slots.first_value[parent], slots.latest_value[parent] = slots.first_value[slot], slots.latest_value[slot]
    slots.first_flags[parent], slots.latest_flags[parent] = slots.first_flags[slot], slots.latest_flags[slot]
    slots.latest_measured[parent] = slots.latest_measured[slot]
    slots.first_message[parent] = slots.first_message[slot]
    slots.first_source_ns[parent], slots.first_seq[parent] = slots.first_source_ns[slot], slots.first_seq[slot]


@lean
def _is_often(slots: Slots, slot: int, rules: Rules, rule: int, time_ns: int, verdict: int) -> bool:
    """Let a sound reading into the history of a slot; whether so many of the last ones are beyond the limit."""
    # Step 1: a gap begins anew, half as long again as a reading is current: the slowest sensor's own spacing jitters.
    # So does a clock that was set back.
    history, since_ns = int(slots.history[slot]), time_ns - slots.history_ns[slot]
    if 2 * since_ns > 3 * rules.staleness_ns[rule] or since_ns < 0:
        history = 0
    elif history != 0 and since_ns < rules.often_ns[rule]:
        return False
    # Step 2: count those beyond the limit.
    history = (history << 1 | verdict) & ((1 << int(rules.often_of[rule])) - 1)
    slots.history[slot], slots.history_ns[slot] = history, time_ns
    count = 0
    while history != 0:
        count += history & 1
        history >>= 1
    return bool(verdict == 1 and count >= rules.often[rule])


@lean
def _is_steep(rules: Rules, rule: int, value: float, measured: float) -> bool:
    """Whether a forecast follows so steep a slope that it waits for no second evaluation."""
    steep = rules.steep[rule]
    if rules.kind[rule] != _FORECAST or steep == 0.0:
        return False
    per_minute = (measured - value) / rules.a[rule]
    return bool(per_minute < steep if rules.side[rule] == _LOW else per_minute > steep)


@lean
def _violation(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, suspect: bool, measured: float,
    certain: bool,
) -> int:  # fmt: skip
    """A row beyond the limit moves a slot whose condition does not hold yet; the transition, or NOTHING. A ``certain``
    one does not wait."""
    condition, urgent, persists = slots.condition[slot], rules.severity[rule] == _S1, _persists(rules, rule)
    # Step 1: clinical.md 1.3. One suspect row below S1 raises nothing; the next row beyond the limit counts.
    if condition == CLEAR and suspect and not urgent and not persists:
        slots.condition[slot] = SUSPECTED
        return NOTHING
    # Step 2: a doubtful row of a continuous signal does not confirm an S1 that waits for confirmation.
    if condition == UNCONFIRMED and suspect and persists:
        return NOTHING
    # Step 3: the row becomes the newest row beyond the limit.
    time_ns, earlier_ns = rows.time_ns[row], slots.latest_time_ns[slot]
    slots.latest_time_ns[slot] = time_ns
    slots.latest_value[slot] = rows.value[row]
    slots.latest_flags[slot] = rows.flags[row]
    slots.latest_measured[slot] = measured
    # Step 4: clinical.md 1.3. A second reading beyond the limit confirms an S1; a known S1 is not told again.
    if condition == UNCONFIRMED or condition == PROMOTED or condition == OVERDUE:  # noqa: PLR1714, SIM109
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return NOTHING if condition == PROMOTED else WORSENED
    # Step 5: begin or continue the on-delay. A doubtful row of a continuous signal does not count as a reading, a gap
    # longer than the staleness starts again, and readings count only ``apart_ns`` after the last one that counted.
    counts = 0 if suspect and persists else 1
    if condition == PENDING and persists and time_ns - earlier_ns > rules.staleness_ns[rule]:
        condition = CLEAR
    waiting = condition == PENDING or condition == AWAITED  # noqa: PLR1714
    if not waiting:
        begin(slots, slot, rows, row, counts)
    elif counts == 1 and time_ns - slots.counted_ns[slot] >= rules.apart_ns[rule]:
        slots.counted[slot] += 1
        slots.counted_ns[slot] = time_ns
    # Step 6: the condition has held when the on-delay is over and enough readings have counted.
    lasted_ns = time_ns - slots.first_time_ns[slot]
    held = certain or (lasted_ns >= rules.on_delay_ns[rule] and slots.counted[slot] >= rules.on_count[rule])
    # Step 7: clinical.md 1.3. A suspect S1 asks for a second reading at once, within CONFIRM_NS.
    if suspect and urgent and not persists and not (waiting and held):
        deadline = rows.received_ns[row] + CONFIRM_NS
        # An earlier good reading was beyond the limit: the doubtful one must not delay the alert of that reading.
        if condition == AWAITED:
            deadline = min(deadline, slots.timer_ns[slot])
        elif condition == PENDING and rules.on_count[rule] <= 1:
            deadline = min(deadline, slots.first_time_ns[slot] + rules.on_delay_ns[rule])
        slots.condition[slot] = UNCONFIRMED
        slots.timer_ns[slot] = deadline
        return DOUBTED
    # Step 8: wait for the rest of the on-delay, for the next reading, or raise.
    if not held:
        slots.condition[slot] = AWAITED if awaits(rules, rule) else PENDING
        return ASKED if awaits(rules, rule) and not waiting else NOTHING
    slots.condition[slot] = HOLDS
    slots.timer_ns[slot] = NO_TIME
    return WORSENED if condition == AWAITED else ONSET


@lean
def _recovery(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, beyond: bool, suspect: bool
) -> int:
    """A row within the limit moves the slot; the transition, or NOTHING."""
    condition, time_ns = slots.condition[slot], rows.time_ns[row]
    # Step 0: a value whose clock was wrong may be older than what a right clock began: it ends and refutes nothing.
    began = condition >= PENDING
    if began and rows.flags[row] & _CLOCK_WRONG != 0 and slots.first_flags[slot] & _CLOCK_WRONG == 0:
        return NOTHING
    # Step 1: clinical.md 1.3. A good reading within the limit refutes an S1 that stands on one reading, whenever it
    # comes; a suspect one does not.
    if condition >= UNCONFIRMED:
        if suspect:
            return NOTHING
        if condition == AWAITED:
            slots.near_misses[slot] += 1
        slots.condition[slot] = CLEAR
        slots.timer_ns[slot] = NO_TIME
        return REFUTED
    # Step 2: a condition that does not hold yet is cleared: a near miss. With a sticky rule, only a good reading beyond
    # the deadband clears a pending condition, so that one outlier does not restart the on-delay (clinical.md 5.2).
    if condition != HOLDS:
        if condition == PENDING and rules.sticky[rule] != 0 and (suspect or not beyond):
            return NOTHING
        slots.condition[slot] = CLEAR if slots.extremes[slot] == 0 and slots.history[slot] == 0 else SUSPECTED
        if condition == PENDING:
            slots.near_misses[slot] += 1
        return NOTHING
    # Step 3: between limit and deadband the condition goes on, and the off-delay starts again.
    if not beyond:
        slots.timer_ns[slot] = NO_TIME
        slots.cleared[slot] = 0
        return NOTHING
    # Step 4: beyond the deadband the off-delay runs; the condition ends after ``off_delay_ns`` and ``off_count`` rows.
    if slots.timer_ns[slot] == NO_TIME:
        slots.timer_ns[slot] = time_ns
        slots.cleared[slot] = 0
    slots.cleared[slot] += 1
    if time_ns - slots.timer_ns[slot] < rules.off_delay_ns[rule] or slots.cleared[slot] < rules.off_count[rule]:
        return NOTHING
    slots.condition[slot], slots.history[slot] = CLEAR, 0
    return ENDED


@lean
def move(
    slots: Slots, slot: int, rules: Rules, rule: int, rows: Rows, row: int, verdict: int, beyond: bool, measured: float
) -> int:  # fmt: skip
    """Let a judged row move a condition; the transition, or NOTHING.

    ``verdict`` is 1 for a value beyond the limit and 0 for one within it; ``beyond`` says that a value within the limit
    is beyond the deadband too.
    """
    flags = rows.flags[row]
    # Step 1: a poor signal makes a row of a continuous protocol rule doubtful, a suspect value one of any rule.
    doubt = _DOUBT if rules.continuous[rule] != 0 and rules.patient_limit[rule] == 0 else _SUSPECT
    # Step 2: no doubt about a combination (its members have judged it), a sensor fault, or a LO or HI (promise 6).
    doubtful = rules.kind[rule] != _COMBINATION and flags & _BROKEN == 0
    suspect = doubtful and flags & doubt != 0 and flags & _CODED == 0
    # Step 3: an extreme value does not wait for what others wait for.
    if slots.condition[slot] != HOLDS:
        if is_extreme(rules, rule, rows.value[row], flags):
            broken = flags & _BROKEN != 0
            moved = extreme_moves(slots, slot, rules, rule, rows, row, measured, suspect or broken)
            if moved >= 0:
                return moved
        elif slots.extremes[slot] != 0:
            slots.extremes[slot] = slots.extremes[slot] << 1 & HISTORY
    # Step 4: so many of the last readings beyond the limit, or a steep forecast, do not wait either.
    certain = verdict == 1 and _is_steep(rules, rule, rows.value[row], measured)
    if rules.often[rule] != 0 and slots.condition[slot] != HOLDS and not suspect:
        certain = _is_often(slots, slot, rules, rule, rows.time_ns[row], verdict)
    # Step 5: move the condition.
    if verdict == 1:
        return _violation(slots, slot, rules, rule, rows, row, suspect, measured, certain)
    return _recovery(slots, slot, rules, rule, rows, row, beyond, suspect)


@lean
def _pending_elapses(slots: Slots, slot: int, rules: Rules, rule: int, watermark_ns: int) -> tuple[int, int]:
    """Let time pass for a pending condition: the transition, or NOTHING, and its deadline."""
    deadline = slots.first_time_ns[slot] + rules.on_delay_ns[rule]
    fresh = watermark_ns - slots.last_time_ns[slot] <= rules.staleness_ns[rule]
    # Step 1: enough readings have counted: raise at the end of the on-delay, while the last reading is current.
    if slots.counted[slot] >= rules.on_count[rule]:
        if watermark_ns < deadline or not fresh:
            return NOTHING, 0
        slots.condition[slot] = HOLDS
        slots.timer_ns[slot] = NO_TIME
        return ONSET, deadline
    # Step 2: below S1 a missing reading raises nothing.
    if rules.severity[rule] != _S1:
        return NOTHING, 0
    # Step 3: an S1 of a continuous signal has only doubtful readings at the end of the on-delay: ask for confirmation.
    if _persists(rules, rule):
        if watermark_ns < deadline or not fresh:
            return NOTHING, 0
        slots.condition[slot] = UNCONFIRMED
        return DOUBTED, deadline
    # Step 4: an S1 waits for its second reading, which has not come in time: ask a person for it.
    if watermark_ns < slots.timer_ns[slot]:
        return NOTHING, 0
    slots.condition[slot] = AWAITED
    return ASKED, slots.timer_ns[slot]


@lean
def elapse(slots: Slots, slot: int, rules: Rules, rule: int, watermark_ns: int) -> tuple[int, int]:
    """Let time pass for a condition that is not clear: the transition, or NOTHING, and its deadline."""
    condition = slots.condition[slot]
    # Step 1: the on-delay of a pending condition may be over.
    if condition == PENDING:
        return _pending_elapses(slots, slot, rules, rule, watermark_ns)
    if condition == AWAITED:
        return unanswered(slots, slot, rules, rule, watermark_ns)
    # Step 2: clinical.md 1.3. An unconfirmed S1 that no reading refuted in time becomes an alert.
    if condition == UNCONFIRMED:
        deadline = slots.timer_ns[slot]
        if watermark_ns < deadline:
            return NOTHING, 0
        slots.condition[slot] = HOLDS if slots.parent[slot] >= 0 else on_one(rules, rule)
        slots.timer_ns[slot] = NO_TIME
        return WORSENED, deadline
    # Step 3: clinical.md 2.3. A condition whose last reading is no longer current fades once; it never ends by silence.
    silent_ns = slots.last_time_ns[slot] + rules.staleness_ns[rule]
    held = condition == HOLDS or condition == PROMOTED or condition == OVERDUE  # noqa: PLR1714
    if held and slots.stale[slot] == 0 and watermark_ns > silent_ns:
        slots.stale[slot] = 1
        return FADED, silent_ns
    return NOTHING, 0
