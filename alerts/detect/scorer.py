"""A score per row of any plain series, from the rows before it: how much it looks like the start of an anomaly.

Nothing is fitted beforehand: forecasts, seasons, spreads and tail probabilities are learned from the rows themselves,
in constant memory and time per row. docs/explanation/detect.md says how and how well; clinical.md 6 has the methods
that it builds on. Unsupervised scores never page alone (clinical.md 6.2).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from alerts.detect import kernels
from alerts.judging import baseline
from vitals.errors import InvalidRequest

Array = npt.NDArray[Any]

DEFAULT: Final = "default"
GAUSSIAN: Final = "gaussian"
FIRES_AT: Final = 0.5
"""The score from which a row is worth a look."""
_FARTHEST_S: Final = 1e12
"""Times farther from 1970 than this are no times."""

_DETECTORS: Final[Mapping[str, tuple[int, float]]] = MappingProxyType({
    "point": (kernels.POINT, 1.0),
    "season": (kernels.SEASON, 1.25),
    "level": (kernels.LEVEL, 1.0),
    "cusum": (kernels.DRIFT, 0.6),
    "variance": (kernels.VARIANCE, 1.0),
    "quiet": (kernels.QUIET, 1.25),
    "flatline": (kernels.FLAT, 1.0),
    "range": (kernels.RANGE, 0.75),
})  # fmt: skip
"""Each detector, also a method of its own, and what its surprise counts in the default."""
METHODS: Final = (DEFAULT, GAUSSIAN, *_DETECTORS)


class Detector:
    """The scorer of one series; feed it rows in order, in pieces of any size.

    Raises ``InvalidRequest`` for a method that is not in ``METHODS``.
    """

    def __init__(self, method: str = DEFAULT) -> None:
        if method not in METHODS:
            raise InvalidRequest("method", f"one of {', '.join(METHODS)}")
        self.method = method
        self._weights = np.zeros(kernels.DETECTORS)
        for name, (place, weight) in _DETECTORS.items():
            self._weights[place] = weight if method == DEFAULT else float(method == name)
        self._model = kernels.Model(
            np.zeros(kernels.NUMBERS),
            np.zeros(kernels.GAUSSIAN_WINDOW if method == GAUSSIAN else kernels.RING),
            np.zeros(1, np.int64),
            np.zeros(kernels.FORECASTS),
            np.zeros(kernels.FORECASTS),
            np.zeros((kernels.DETECTORS, kernels.BINS + 1)),
            baseline.create(1, kernels.DAY_BUCKETS),
            baseline.create(1, kernels.WEEK_BUCKETS),
        )

    def score(self, values: npt.ArrayLike, seconds: npt.ArrayLike | None = None) -> Array:
        """Scores (float64, 0 to 1) of the next rows; row i depends on rows up to i alone.

        ``values``: NaN = no value (scores 0, teaches nothing); -inf, inf = what a meter calls LO, HI. ``seconds``: wall
        clock in seconds since 1970, for the hour of the day and the day of the week; NaN, or None for all = unknown.
        Their order does not matter.
        """
        taken = np.array(values, dtype=np.float64).ravel()
        clock = np.full(taken.size, np.nan) if seconds is None else np.array(seconds, dtype=np.float64).ravel()
        if clock.size != taken.size:
            raise InvalidRequest("seconds", f"{clock.size} times for {taken.size} values")
        clock[~(np.abs(clock) < _FARTHEST_S)] = np.nan
        scores = np.empty(taken.size)
        if self.method == GAUSSIAN:
            kernels.scan_gaussian(self._model.numbers, self._model.ring, taken, scores)
        else:
            kernels.scan(self._model, self._weights, taken, clock, scores)
        return scores

    def snapshot(self) -> dict[str, Array]:
        """Copies of all that was learned, for :meth:`restore` into a detector of the same method."""
        return {name: part.copy() for name, part in self._parts().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Go on where a snapshot was taken."""
        for name, part in self._parts().items():
            part[...] = state[name]

    def _parts(self) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, part in self._model._asdict().items():
            if isinstance(part, baseline.Baseline):
                found |= {f"{name}.{inner}": array for inner, array in part._asdict().items()}
            else:
                found[name] = part
        return found
