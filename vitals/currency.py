"""Which readings may count as a patient's current value."""

from typing import Final

import numpy as np
import numpy.typing as npt

from vitals.glossary import Basis, Flag, Statistic
from vitals.model import VitalBatch

SHOWN: Final = (Statistic.SINGLE, Statistic.SUM, Statistic.COUNT)
"""Statistics that are values of their own."""
AVERAGES: Final = (Statistic.MEAN, Statistic.MEDIAN)
"""Statistics that stand for a value where no single one comes; extremes and spreads never do."""
OF_INTERVALS: Final = (*AVERAGES, Statistic.MINIMUM, Statistic.MAXIMUM)
"""Statistics of the values of an interval: what they say is as old as its start."""


def trust_of(batch: VitalBatch) -> npt.NDArray[np.int8]:
    """Per row: 0 a value of certain time, 1 an average of certain time, 2 a value or average of uncertain time, -1 what
    never counts as current (a minimum, a maximum, a spread)."""
    value, average = np.isin(batch.statistic, SHOWN), np.isin(batch.statistic, AVERAGES)
    uncertain = (batch.basis == Basis.UNKNOWN) | ((batch.flags & np.uint32(Flag.CLOCK_WRONG)) != 0)
    return np.where(value | average, np.where(uncertain, 2, np.where(value, 0, 1)), -1).astype(np.int8)
