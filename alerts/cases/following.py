"""From the condition of a slot to its alert: what each transition of the kernels means to the casebook."""

from typing import Final

from alerts.cases.casebook import Casebook
from alerts.cases.lifecycle import Report, Trigger
from alerts.cases.subjects import Transition, end_report, onset_report, review_reason, slot_subject
from alerts.judging import conditions
from alerts.judging.effort import AT_REST
from alerts.judging.slots import SlotTable
from alerts.judging.urgent_kernels import further
from alerts.rules.arrest import PULSES
from alerts.rules.limits import Side
from vitals.catalog import BY_CODE
from vitals.glossary import Severity
from vitals.records import AlertEvent
from vitals.times import SECOND_NS

_ASK: Final = "unusual value, please repeat the measurement now"
_REPEAT: Final = "beyond an urgent limit once: please repeat the measurement now"
_CONFIRM: Final = "confirm now"
_LOOK: Final = "sensor or arrest: look now"
_NOT_TAKEN: Final = "repeat not taken"


def follow(
    book: Casebook, key: str, table: SlotTable, move: Transition, *, by_time: bool, explained: str
) -> list[AlertEvent]:
    """The events of a transition. ``by_time``: no reading caused it, but time; ``explained`` is what a score says."""
    at_ns, face = move.at_ns, table.face(move.slot)
    match move.kind:
        case conditions.ONSET:
            return book.begin(
                key, slot_subject(table, move), Trigger.HOLDS, at_ns, onset_report(table, move, explained)
            )
        case conditions.ALARMED:
            report = onset_report(table, move, alarm_words(table, move))
            return book.begin(key, slot_subject(table, move), Trigger.HOLDS, at_ns, report)
        case conditions.DOUBTED:
            return book.begin(
                key, slot_subject(table, move), Trigger.DOUBTED, at_ns, onset_report(table, move, _asking(table, move))
            )
        case conditions.ASKED:
            asks = Trigger.DOUBTED if table.lone_is_s1(move.slot) else Trigger.AWAITS
            return book.begin(key, slot_subject(table, move), asks, at_ns, onset_report(table, move, _REPEAT))
        case conditions.UNANSWERED:
            report = onset_report(table, move, _NOT_TAKEN)
            return book.move(key, Trigger.WORSENS, at_ns, report, severity=Severity.S2)
        case conditions.WORSENED:
            report, severity = onset_report(table, move, _settled(table, move, by_time)), table.spec(move.slot).severity
            return book.move(key, Trigger.WORSENS, at_ns, report, severity=Severity(severity))
        case conditions.REFUTED:
            return book.move(key, Trigger.REFUTED, at_ns, end_report(table, move, "refuted by a second reading"))
        case conditions.ENDED:
            return book.move(key, Trigger.ENDS, at_ns, end_report(table, move, "back within the limit"))
        case conditions.REVIEWED | conditions.OVERTAKEN:
            report = onset_report(table, move, review_reason(move))
            return book.review(slot_subject(table, move), at_ns, report)
        case conditions.HEARD:
            return book.heard(key, at_ns, Report(text="readings come again"))
    return book.stale(key, at_ns, Report(text=f"{face.title}: no current reading, this may still hold"))


def _is_extreme(table: SlotTable, move: Transition) -> bool:
    spec = table.spec(move.slot)
    return further(move.value, move.flags, spec.side == Side.LOW, spec.extreme)


def _asking(table: SlotTable, move: Transition) -> str:
    return alarm_words(table, move) if _is_extreme(table, move) else _ASK


def _settled(table: SlotTable, move: Transition, by_time: bool) -> str:
    """Why a doubt is over."""
    if not by_time:
        return "a second reading confirms it"
    pulse_s = table.spec(move.slot).extreme_ns // SECOND_NS
    waited = f"{pulse_s} s" if pulse_s and _is_extreme(table, move) else "15 minutes"
    return f"no second reading within {waited}"


def alarm_words(table: SlotTable, move: Transition) -> str:
    """What an extreme reading asks for. A fast pulse says so where nobody knows whether the patient was at rest."""
    spec = table.spec(move.slot)
    if move.value <= spec.arrest and spec.side == Side.LOW:
        return _LOOK
    fast = spec.side == Side.HIGH and BY_CODE[spec.vital].key in PULSES and not move.flags & AT_REST
    return f"{_CONFIRM}, activity unknown" if fast else _CONFIRM
