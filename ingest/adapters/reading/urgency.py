"""Of a value that may be one of several vital signs: the one for which it matters most."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np

from ingest.doubts import as_possible
from vitals.catalog import BY_CODE, is_urgent
from vitals.units import UNIT_BY_CODE, UNIT_BY_NAME, to_canonical


def most_urgent(value: float | None, perhaps: Iterable[tuple[int, int | None]]) -> tuple[int, float | None]:
    """The vital among (vital, unit) pairs for which the value is beyond the red limits, else the first, with the value
    in its canonical unit; 0 and the value as it is without a pair that has a unit.

    Worked: 30 as a heart rate in /min or an oxygen saturation in % is a heart rate of 30 /min.
    """
    told: list[tuple[bool, int, float]] = []
    for vital, unit in perhaps:
        if value is not None and unit is not None:
            measured = to_canonical([value], UNIT_BY_CODE[unit].ucum, BY_CODE[vital].unit)
            told.append((bool(is_urgent(np.array([vital], np.uint16), measured)[0]), vital, float(measured[0])))
    if not told:
        return 0, value
    _, vital, shown = max(told, key=itemgetter(0))
    return vital, shown


def worst_of(numbers: Sequence[float], vital: int, unit: int | None) -> float | None:
    """Of numbers that a value may be, the canonical one that matters most: one beyond the red limits, else the first;
    None where none is possible. Without ``unit`` they are canonical, or in the other common unit where that alone is
    possible."""
    if BY_CODE[vital].values:
        return None
    own = UNIT_BY_NAME[BY_CODE[vital].unit].code if unit is None else unit
    possible = [found for number in numbers if (found := as_possible(vital, own, number)) is not None]
    urgent = (value for value in possible if is_urgent(np.array([vital], np.uint16), np.array([value]))[0])
    return next(urgent, possible[0] if possible else None)
