"""The scoring of the Numenta Anomaly Benchmark, version 1.1, with the weights of clinical.md 6.3.

A row at or over the threshold is a detection. The first one in a window earns up to 1, more the earlier; each one
outside costs up to the weight of a false positive, less just behind a window; a window without any costs the weight of
a miss. Rows of the probation (the first 15 %, at most 750) do not count. 0 = silent, 100 = perfect.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Windows = Sequence[tuple[int, int]]


class Weights(NamedTuple):
    """Cost of a false positive and of a missed window."""

    false_positive: float
    miss: float


STANDARD: Final = Weights(0.11, 1.0)
LOW_FP: Final = Weights(0.22, 1.0)
LOW_FN: Final = Weights(0.11, 2.0)


def probation(rows: int) -> int:
    return int(min(0.15 * rows, 0.15 * 5000))


def _sigmoid(position: Array | float) -> Any:
    return 2 / (1 + np.exp(5 * np.minimum(np.asarray(position, dtype=float), 100))) - 1


class Ledger(NamedTuple):
    """What each candidate threshold of one series gains and costs: everything a sweep needs, in descending score."""

    scores: Array
    """Distinct events of the step functions below, in descending score."""
    gains: Array
    costs: Array
    hits: Array
    windows: int


def ledger(scores: Array, windows: Windows) -> Ledger:
    """Steps by which lowering the threshold changes the sum of a series."""
    rows, begin = len(scores), probation(len(scores))
    at: list[Array] = []
    gains: list[Array] = []
    costs: list[Array] = []
    hits: list[Array] = []
    outside = np.ones(rows, dtype=bool)
    outside[:begin] = False
    cost = np.ones(rows)
    for first, last in windows:
        outside[first : last + 1] = False
        width = max(last - first, 1)
        behind = np.arange(last + 1, rows)
        cost[behind] = -_sigmoid((behind - last) / width)
        inside = scores[first : last + 1]
        # Lowering the threshold moves the first detection to ever earlier rows: the running maxima from the left.
        best = np.maximum.accumulate(inside)
        firsts = np.flatnonzero(np.r_[True, inside[1:] > best[:-1]])
        earned = _sigmoid((firsts - width) / width) / _sigmoid(-1.0)
        at.append(inside[firsts])
        # firsts ascend in score, so in descending score the earlier row replaces the later one.
        gains.append(earned - np.r_[earned[1:], 0.0])
        costs.append(np.zeros(len(firsts)))
        hits.append(np.r_[np.zeros(len(firsts) - 1), 1.0])
    fired = np.flatnonzero(outside)
    at.append(scores[fired])
    gains.append(np.zeros(len(fired)))
    costs.append(cost[fired])
    hits.append(np.zeros(len(fired)))
    return Ledger(np.concatenate(at), np.concatenate(gains), np.concatenate(costs), np.concatenate(hits), len(windows))


def joined(ledgers: Sequence[Ledger]) -> Ledger:
    return Ledger(*(np.concatenate([getattr(one, name) for one in ledgers]) for name in Ledger._fields[:4]),
                  sum(one.windows for one in ledgers))  # fmt: skip


def score(found: Ledger, threshold: float, weights: Weights) -> float:
    """The normalised score of one fixed threshold."""
    over = found.scores >= threshold
    missed = found.windows - found.hits[over].sum()
    raw = found.gains[over].sum() - weights.false_positive * found.costs[over].sum() - weights.miss * missed
    return float(100 * (raw + weights.miss * found.windows) / (found.windows * (1 + weights.miss)))


def best(found: Ledger, weights: Weights) -> tuple[float, float]:
    """(score, threshold) of the threshold that is best for all series together."""
    order = np.argsort(-found.scores, kind="stable")
    steps = found.gains[order] + weights.miss * found.hits[order] - weights.false_positive * found.costs[order]
    totals = np.cumsum(steps)
    ranked = found.scores[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True] & (ranked > 0))
    if not len(ends) or totals[ends].max() <= 0:
        return 0.0, 1.1
    place = ends[np.argmax(totals[ends])]
    return float(100 * totals[place] / (found.windows * (1 + weights.miss))), float(ranked[place])
