"""Which reading of a vital sign counts as its current value."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from vitals.catalog import BY_CODE
from vitals.currency import trust_of
from vitals.glossary import Statistic
from vitals.model import VitalBatch
from vitals.times import NO_TIME

UNCERTAIN: Final = 2
Identity = tuple[str, int, int, int]
"""Device, vital, time as sent, sequence."""


def identity_of(batch: VitalBatch, row: int) -> Identity:
    """The identity of row ``row``."""
    return (
        batch.devices[batch.device[row]], int(batch.vital[row]), int(batch.source_time_ns[row]), int(batch.seq[row]),
    )  # fmt: skip


class Newest(NamedTuple):
    """A reading as JSON with what its age is computed from; ``trusted`` is the newest reading of a certain time where
    ``reading`` has none."""

    vital: int
    time_ns: int
    seq: int
    measured_ns: int
    trust: int
    reading: Mapping[str, Any]
    identity: Identity
    trusted: Mapping[str, Any] | None = None

    @property
    def timed(self) -> bool:
        """Whether the time of the reading is certain."""
        return self.trust != UNCERTAIN and self.time_ns != NO_TIME

    @classmethod
    def of(cls, batch: VitalBatch, row: int, reading: Mapping[str, Any]) -> "Newest":
        """Row ``row``. A single value over an interval is as old as its end, an aggregate as old as its start."""
        time_ns, end_ns = int(batch.time_ns[row]), int(batch.end_ns[row])
        from_start = end_ns == NO_TIME or int(batch.statistic[row]) != Statistic.SINGLE
        trust = int(trust_of(batch.take(np.array([row])))[0])
        measured_ns = time_ns if from_start else end_ns
        return cls(
            int(batch.vital[row]), time_ns, int(batch.seq[row]), measured_ns, trust, reading, identity_of(batch, row)
        )


Held = dict[tuple[int, int], Newest]
"""The newest reading of each vital and trust (``vitals.currency.trust_of``)."""


def current(held: Held, now_ns: int, alerting: Callable[[], Mapping[str, int]] = dict) -> list[Newest]:
    """One reading per vital, by catalogue code.

    A single value of certain time counts while it is not stale, then an average that is not stale. Otherwise the newest
    one counts; where its time is uncertain, it carries the newest one of a certain time beside it. ``alerting`` gives
    the time of the newest value of an open alert by vital (key): where that is later than the certain value, the newest
    one is not hidden by it.
    """
    return [_chosen(held, vital, now_ns, alerting) for vital in sorted({vital for vital, _ in held})]


def _chosen(held: Held, vital: int, now_ns: int, alerting: Callable[[], Mapping[str, int]]) -> Newest:
    row = BY_CODE[vital]
    certain = [held[vital, trust] for trust in (0, 1) if (vital, trust) in held]
    newest = max((held[key] for key in held if key[0] == vital), key=lambda one: (one.time_ns, one.seq))
    for one in certain:
        if now_ns - one.measured_ns <= row.staleness_ns(row.mode):
            if newest.time_ns <= one.time_ns or alerting().get(row.key, NO_TIME) <= one.time_ns:
                return one
            break
    if newest.timed or not certain:
        return newest
    return newest._replace(trusted=max(certain, key=lambda one: one.time_ns).reading)
