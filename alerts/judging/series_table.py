"""Which slot reads which series: recent points and usual values are shared by the slots of one patient and vital, days
are a slot's own."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from alerts.judging.series import Table, days_table, recent_table, usual_table
from alerts.judging.state import Array, Rules, Slots
from alerts.rules.spec import Kind
from vitals.catalog import CODE_SPACE
from vitals.model import Int64

_OF_RECENT: Final = (Kind.RATE, Kind.FORECAST, Kind.STUCK)


class SeriesTable:
    """The three tables of series; ``state`` of each is what the kernels take."""

    def __init__(self) -> None:
        self.recent, self.usual, self.days = recent_table(), usual_table(), days_table()

    def give(self, slots: Slots, rules: Rules, mine: Int64) -> None:
        """Give the live slots among ``mine`` (all slots of some patients) the series that their rules read."""
        live, rule = slots.live[mine] != 0, slots.rule[mine]
        kind = rules.kind[rule]
        recent = live & (np.isin(kind, _OF_RECENT) | ((kind == Kind.LIMIT) & (rules.median_of[rule] > 1)))
        pair = slots.patient[mine].astype(np.int64) * CODE_SPACE + rules.vital[rule]
        _share(self.recent, slots.recent, mine, pair, recent)
        _share(self.usual, slots.usual, mine, pair, live & (kind == Kind.DEVIATION))
        new = mine[live & (kind == Kind.TREND) & (slots.days[mine] < 0)]
        slots.days[new] = _added(self.days, len(new))

    def dump(self) -> dict[str, Any]:
        """Everything, as msgpack can hold it; equal tables give equal bytes."""
        return {"recent": self.recent.dump(), "usual": self.usual.dump(), "days": self.days.dump()}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "SeriesTable":
        """The inverse of :meth:`dump`. Raises ``KeyError`` or ``ValueError`` when ``state`` is not one."""
        table = cls()
        table.recent.load(state["recent"])
        table.usual.load(state["usual"])
        table.days.load(state["days"])
        return table


def _added(table: Table[Any], count: int) -> Int64:
    return table.add(count) + np.arange(count)


def _share(table: Table[Any], column: Array, mine: Int64, pair: Int64, asks: Array) -> None:
    """One series for all slots of a pair of which one asks for it."""
    if not asks.any():
        return
    pairs, place = np.unique(pair, return_inverse=True)
    held = np.full(len(pairs), -1, dtype=np.int64)
    np.maximum.at(held, place, column[mine])
    asked = np.zeros(len(pairs), dtype=np.bool_)
    asked[place[asks]] = True
    new = np.flatnonzero(asked & (held < 0))
    held[new] = _added(table, len(new))
    column[mine] = held[place]
