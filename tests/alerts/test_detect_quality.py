"""How well the scorer does on labelled series that it was not built on; run as a program, it prints the tables.

``python -m tests.alerts.test_detect_quality [SEEDS]`` from the checkout: docs/explanation/detect.md quotes it.
"""

import sys
from collections.abc import Mapping
from typing import Final

import numba
import numpy as np
import pytest

from alerts.detect.scorer import DEFAULT, FIRES_AT, GAUSSIAN, METHODS, Detector
from tests.alerts import labelled_series as labelled
from tests.alerts import nab_score as nab

SETS: Final[Mapping[str, tuple[tuple[labelled.Family, ...], tuple[labelled.Kind, ...], int]]] = {
    "tuning": (labelled.TUNING, labelled.TUNING_KINDS, 0),
    "held-out seeds": (labelled.TUNING, labelled.TUNING_KINDS, 1000),
    "held-out families": (labelled.HELD_OUT, labelled.ALL_KINDS, 2000),
}
"""Families, kinds of anomaly and first seed; only the first was looked at while the detector was built."""
compiled: Final = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="many rows, for compiled kernels only")
PROFILES: Final = (nab.STANDARD, nab.LOW_FP, nab.LOW_FN)


def ledgers(name: str, seeds: int, method: str) -> nab.Ledger:
    families, kinds, first = SETS[name]
    series = labelled.corpus(families, range(first, first + seeds), kinds)
    return nab.joined([nab.ledger(Detector(method).score(one.values, one.seconds), one.windows) for one in series])


@compiled
@pytest.mark.parametrize("name", ["held-out seeds", "held-out families"])
def test_the_default_beats_a_sliding_gaussian(name: str) -> None:
    found, yardstick = ledgers(name, 3, DEFAULT), ledgers(name, 3, GAUSSIAN)
    for weights in PROFILES:
        assert nab.best(found, weights)[0] > nab.best(yardstick, weights)[0] + 15
    assert nab.best(found, nab.STANDARD)[0] > 45


@compiled
def test_the_fixed_threshold_is_near_the_best_one() -> None:
    found = ledgers("held-out families", 3, DEFAULT)
    assert nab.score(found, FIRES_AT, nab.STANDARD) > nab.best(found, nab.STANDARD)[0] - 8


@pytest.mark.parametrize(
    ("fired", "points"),
    [
        ([], 0.0),
        ([300], 100.0),
        ([300, 350], 100.0),
        ([340], 100 - 50 * (1 - (2 / (1 + np.exp(-3)) - 1) / (2 / (1 + np.exp(-5)) - 1))),
        ([250, 300], 100 - 50 * 0.11),
        ([10, 300], 100.0),
        ([900], 50 * -0.11 * (1 - 2 / (1 + np.exp(5 * 500 / 100)))),
    ],
    ids=["silent", "perfect", "once is enough", "late", "false before", "probation", "false behind"],
)
def test_the_scoring_is_that_of_the_benchmark(fired: list[int], points: float) -> None:
    scores = np.zeros(1000)
    scores[fired] = 0.9
    assert nab.score(nab.ledger(scores, [(300, 400)]), 0.5, nab.STANDARD) == pytest.approx(points, abs=1e-6)


def test_the_best_threshold_is_found() -> None:
    random = np.random.default_rng(0)
    found = nab.joined([nab.ledger(random.random(400).round(2), [(100, 140), (300, 320)]) for _ in range(5)])
    for weights in PROFILES:
        points, threshold = nab.best(found, weights)
        assert nab.score(found, threshold, weights) == pytest.approx(points)
        assert points == pytest.approx(max(nab.score(found, at, weights) for at in np.linspace(0.01, 1.1, 110)))


def main(seeds: int) -> None:
    for name, (families, _, _) in SETS.items():
        sys.stdout.write(f"\n{name}: {len(families)} families x {seeds} series\n")
        for method in METHODS:
            found = ledgers(name, seeds, method)
            best = [nab.best(found, weights)[0] for weights in PROFILES]
            fixed = nab.score(found, FIRES_AT, nab.STANDARD)
            sys.stdout.write(f"| `{method}` | {' | '.join(f'{one:.1f}' for one in best)} | {fixed:.1f} |\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
