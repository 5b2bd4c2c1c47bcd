"""Glucose episodes (the events of clinical.md 3.4, not samples): a level held long enough, and left long enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from alerts.glucose.metrics import MAX_INTERPOLATED_S, Level, covered_s, levels, seconds

Rows = npt.NDArray[np.intp]

RECOVERED: Final = "recovered"
BY_GAP: Final = "by_gap"
OPEN: Final = "open"
_HOLD_S: Final = 15 * 60.0
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class EpisodeDefinition:
    """``levels`` are those within the episode. It starts once they are held for 15 minutes, or for more than ``over_s``
    seconds when given, and ends once they are left for 15 minutes."""

    levels: tuple[Level, ...]
    over_s: float | None = None


EPISODES: Final[Mapping[str, EpisodeDefinition]] = MappingProxyType(
    {
        "hypo_level_1": EpisodeDefinition((Level.VERY_LOW, Level.LOW)),
        "hypo_level_2": EpisodeDefinition((Level.VERY_LOW,)),
        "hypo_extended": EpisodeDefinition((Level.VERY_LOW, Level.LOW), over_s=120 * 60.0),
        "hyper_level_1": EpisodeDefinition((Level.HIGH, Level.VERY_HIGH)),
        "hyper_level_2": EpisodeDefinition((Level.VERY_HIGH,)),
    }
)
"""Level 2 is counted inside level 1; :func:`level_1_only` counts the rest."""


class _Runs(NamedTuple):
    """Runs that last long enough to start or end an episode: ``first`` row, whether ``inside``, and ``stretch``."""

    first: Rows
    inside: npt.NDArray[np.bool_]
    stretch: Rows


def episodes(frame: pd.DataFrame, kind: EpisodeDefinition) -> pd.DataFrame:
    """Episodes of one kind in a trace (:func:`alerts.glucose.metrics.trace`), by start.

    Returns ``start``, ``end`` (when the recovery begins, else when the last reading's interval is over), ``minutes``,
    ``extreme_mg_dl`` (nadir or peak; NaN when that has no number) and ``ended``: ``recovered``, ``by_gap`` (more than
    45 minutes without a reading; not counted as recovered) or ``open`` (the trace ends).

    A reading stands for one interval at most. Lengths are taken within a tenth of an interval: three readings five
    minutes apart are 15 minutes, though their times jitter by seconds.
    """
    stretch = _stretches(frame)
    runs = _runs(frame, kind, stretch)
    follows = np.zeros(len(runs.first), np.bool_)
    follows[1:] = runs.inside[:-1] & (runs.stretch[1:] == runs.stretch[:-1])
    starts, ends = np.flatnonzero(runs.inside & ~follows), np.flatnonzero(~runs.inside & follows)
    # Starts and ends take turns, but for those that a gap or the end of the trace leaves open.
    place = np.searchsorted(ends, starts)
    next_end = np.append(ends, len(runs.first))[place]
    recovered = next_end < np.append(starts[1:], len(runs.first))
    first = runs.first[starts]
    beyond = np.searchsorted(stretch, stretch[first], side="right")  # the row after the stretch
    after = np.where(recovered, np.append(runs.first, len(frame))[next_end], beyond)
    at = frame["time"].dt.tz_localize(None).to_numpy()
    stands = covered_s(frame)[after - 1] * 1e9
    end = np.where(recovered, at[np.minimum(after, len(frame) - 1)], at[after - 1] + stands.astype("timedelta64[ns]"))
    return pd.DataFrame(
        {
            "start": pd.Series(at[first]).dt.tz_localize("UTC"),
            "end": pd.Series(end).dt.tz_localize("UTC"),
            "minutes": (end - at[first]) / np.timedelta64(1, "m"),
            "extreme_mg_dl": _extremes(frame, first, after, low=Level.VERY_LOW in kind.levels),
            "ended": np.where(recovered, RECOVERED, np.where(beyond < len(frame), BY_GAP, OPEN)),
        }
    )


def level_1_only(level_1: pd.DataFrame, level_2: pd.DataFrame) -> int:
    """How many level-1 episodes hold no level-2 episode."""
    inside = np.searchsorted(level_1["start"].to_numpy(), level_2["start"].to_numpy(), side="right")
    return len(level_1) - len(np.unique(inside))


def summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The episodes of every kind by name."""
    return {name: episodes(frame, kind) for name, kind in EPISODES.items()}


def _stretches(frame: pd.DataFrame) -> Rows:
    """Number of each reading's stretch; a gap of more than 45 minutes begins a new one."""
    return np.cumsum(np.diff(seconds(frame), prepend=np.inf) > MAX_INTERPOLATED_S)


def _runs(frame: pd.DataFrame, kind: EpisodeDefinition, stretch: Rows) -> _Runs:
    inside = np.isin(levels(frame), kind.levels)
    changes = (np.diff(inside, prepend=False) != 0) | (np.diff(stretch, prepend=-1) != 0)
    first = np.flatnonzero(changes)
    last = np.append(first[1:], len(frame))[: len(first)] - 1
    at_s, interval_s = seconds(frame), frame["interval_s"].to_numpy(np.float64)[first]
    length_s = at_s[last] + covered_s(frame)[last] - at_s[first]
    jitter_s = interval_s * _JITTER
    enough = length_s >= _HOLD_S - jitter_s
    if kind.over_s is not None:
        enough = np.where(inside[first], length_s > kind.over_s + jitter_s, enough)
    first = first[enough]
    return _Runs(first, inside[first], stretch[first])


def _extremes(frame: pd.DataFrame, first: Rows, after: Rows, *, low: bool) -> npt.NDArray[np.float64]:
    """Lowest or highest of each ``first <= row < after``; NaN when that is a LO or HI without a number."""
    if len(first) == 0:
        return np.empty(0)
    value = frame["value"].to_numpy(np.float64)
    shown = np.where(np.isnan(value), np.where(frame["side"].to_numpy() < 0, -np.inf, np.inf), value)
    bounds = np.stack([first, after], axis=1).ravel()
    pick: Any = np.minimum if low else np.maximum
    extreme = pick.reduceat(np.append(shown, np.nan), bounds)[::2]
    return np.where(np.isfinite(extreme), extreme, np.nan)
