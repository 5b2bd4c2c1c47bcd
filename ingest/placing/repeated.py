"""The hour that the end of summer time repeats: which of its two passes a wall time is of.

Such a wall time means two instants. The order of the readings of its message tells them apart: where the time goes back
by an hour, one pass ends and the other begins; without that, the readings before and after the hour. A wall time that
arrives as it is shown is live. Of any other only the two instants are known: the later is taken, and it is marked.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns, SourceClock
from ingest.placing import clocks
from vitals.glossary import Statistic
from vitals.times import MINUTE_NS

HOUR_KEY: Final = "repeated_hour"
"""Context key of a reading of the repeated hour: ``first`` or ``second`` pass, ``unsure`` when nothing tells."""
_NEAR_NS: Final = 30 * MINUTE_NS
"""A reading this near to the hour is of the pass beside it."""

Int8 = npt.NDArray[np.int8]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Pass(IntEnum):
    """Which pass of the repeated hour a wall time is of; NONE for any other time."""

    NONE = 0
    FIRST = 1
    SECOND = 2
    UNSURE = 3


_WORDS: Final = {one.name.lower(): one for one in Pass}


def passes(columns: Columns, rows: Int64, early_ns: Int64, late_ns: Int64, time_ns: Int64, received_ns: Int64) -> Int8:
    """The ``Pass`` of each of ``rows``, the rows of ``columns`` that the other arrays, equally long, speak of.

    ``early_ns`` and ``late_ns`` are the instants that a wall time can mean, ``time_ns`` the one taken so far.
    """
    found = np.zeros(len(rows), np.int8)
    twice = early_ns != late_ns
    if not twice.any():
        return found
    found[twice] = Pass.UNSURE
    found[twice & (late_ns > received_ns + clocks.FUTURE_TOLERANCE_NS)] = Pass.FIRST
    found[twice & (np.abs(received_ns - late_ns) <= clocks.LIVE_TOLERANCE_NS)] = Pass.SECOND
    keys = np.stack([columns.message[rows], columns.vital[rows], columns.statistic[rows], columns.seq[rows] < 0])
    _, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.ravel()
    for number in np.unique(group[twice]).tolist():
        members = np.flatnonzero(group == number)
        if len(members) > 1:
            _by_order(members, twice, early_ns, late_ns, time_ns, found)
    for place in np.flatnonzero(twice).tolist():
        known = columns.context.get(int(rows[place]), {}).get(HOUR_KEY)
        if known in _WORDS:
            found[place] = _WORDS[known]
    return found


def _by_order(members: Int64, twice: Bools, early_ns: Int64, late_ns: Int64, time_ns: Int64, found: Int8) -> None:
    """Readings of one vital in one message, in their order: oldest or newest first."""
    steps = np.diff(early_ns[members])
    if (steps < 0).sum() > (steps > 0).sum():
        members = members[::-1]
    inside = np.flatnonzero(twice[members])
    # Each stretch of ambiguous readings is one change of the clocks.
    for stretch in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
        here = members[stretch]
        back = np.flatnonzero(np.diff(early_ns[here]) < 0)
        if len(back) == 1:
            found[here[: back[0] + 1]], found[here[back[0] + 1 :]] = Pass.FIRST, Pass.SECOND
        elif not len(back) and (found[here] == Pass.UNSURE).any():
            before, after = int(stretch[0]) - 1, int(stretch[-1]) + 1
            gap = early_ns[here[0]] - time_ns[members[before]] if before >= 0 else _NEAR_NS + 1
            rest = time_ns[members[after]] - late_ns[here[-1]] if after < len(members) else _NEAR_NS + 1
            if min(gap, rest) <= _NEAR_NS and gap != rest:
                found[here] = Pass.FIRST if gap < rest else Pass.SECOND


def numbered(seq: Int64, found: Int8) -> Int64:
    """Sequences as identities have them: -1 tells an unnumbered reading of the second pass from that of the first."""
    return np.where((found == Pass.SECOND) & (seq == 0), np.int64(-1), seq)


def marked(context: Mapping[int, Mapping[str, Any]], found: Int8) -> Mapping[int, Mapping[str, Any]]:
    """``context`` with the pass of readings of the repeated hour."""
    rows = np.flatnonzero(found).tolist()
    if not rows:
        return context
    return {**context, **{row: {**context.get(row, {}), HOUR_KEY: Pass(int(found[row])).name.lower()} for row in rows}}


def again(columns: Columns) -> Bools:
    """Rows of wall time that stand in their message a second time with another value: of an hour that the clocks showed
    twice, whether the zone that is set repeats it or not. No such row corrects the one before it."""
    out = np.zeros(len(columns), bool)
    asked = np.flatnonzero((columns.clock == SourceClock.WALL) & (columns.statistic == Statistic.SINGLE))
    if len(asked) < 2:
        return out
    keys = (columns.seq[asked], columns.source_time_ns[asked], columns.vital[asked], columns.message[asked])
    order = np.lexsort((asked, *keys))
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    value = columns.value[asked][order]
    out[asked[order[1:][same & (value[1:] != value[:-1])]]] = True
    return out
