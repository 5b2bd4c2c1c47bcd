"""What the other rows of a row's message say of it. Called by the kernels only."""

from typing import Final

from alerts.judging.compiling import lean
from alerts.judging.state import Rows
from vitals.glossary import NOT_SCORED, Flag, Statistic

_SINGLE: Final = int(Statistic.SINGLE)
_MEAN: Final = int(Statistic.MEAN)
_MEDIAN: Final = int(Statistic.MEDIAN)
_MINIMUM: Final = int(Statistic.MINIMUM)
_MAXIMUM: Final = int(Statistic.MAXIMUM)
_NOT_TIMED: Final = int(NOT_SCORED | Flag.CLOCK_WRONG)


@lean
def is_average(statistic: int) -> bool:
    """Whether a statistic stands for the value of its interval: where no single readings come, it decides."""
    return bool(statistic == _MEAN or statistic == _MEDIAN)  # noqa: PLR1714, SIM109  a set is slow in the kernel


@lean
def is_lone_extreme(rows: Rows, row: int) -> bool:
    """Whether a row is the minimum or maximum of an interval, and its message has no average of the vital."""
    if rows.statistic[row] != _MINIMUM and rows.statistic[row] != _MAXIMUM:
        return False
    for step in (-1, 1):
        other = row + step
        while 0 <= other < rows.message.size and rows.message[other] == rows.message[row]:
            alike = rows.vital[other] == rows.vital[row] and rows.patient[other] == rows.patient[row]
            if alike and is_average(rows.statistic[other]):
                return False
            other += step
    return True


@lean
def is_newest(rows: Rows, row: int) -> bool:
    """Whether a row is the newest single value of its vital sign in its message: such a one a device took just now. A
    time that a wrong clock gave makes no other reading old."""
    for step in (-1, 1):
        other = row + step
        while 0 <= other < rows.message.size and rows.message[other] == rows.message[row]:
            alike = rows.vital[other] == rows.vital[row] and rows.patient[other] == rows.patient[row]
            timed = rows.statistic[other] == _SINGLE and rows.flags[other] & _NOT_TIMED == 0
            if alike and timed and rows.time_ns[other] > rows.time_ns[row]:
                return False
            other += step
    return True
