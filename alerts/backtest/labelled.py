"""Sensitivity against labelled onsets: which of them an alert announced, and what the alerts cost.

An onset is found when an alert told something about its patient from ``BEFORE_NS`` before to ``AFTER_NS`` after it. The
points of the curve take more and more severities: what the urgent alerts alone find, and what all together find.
"""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec

from alerts.backtest.run import Raised
from vitals.glossary import Severity
from vitals.times import MINUTE_NS, SECOND_NS

BEFORE_NS: Final = 60 * MINUTE_NS
AFTER_NS: Final = 10 * MINUTE_NS
_Z: Final = 1.959963984540054
"""Standard normal quantile of 97.5 %."""


class Onset(NamedTuple):
    """When something began with a patient, by a label."""

    patient: str
    at_ns: int


class Point(msgspec.Struct):
    """One point of the curve: alerts of ``severity`` and graver.

    ``alerts_per_patient_week`` count those alerts, ``outside_per_patient_week`` those that told nothing about any onset
    while they were told. ``sensitivity`` has a 95 % interval from ``low`` to ``high`` (Wilson).
    ``lead_s`` is the median time from the first telling in the window to the onset, in seconds: negative when after.
    """

    severity: str
    alerts_per_patient_week: float | None
    outside_per_patient_week: float | None
    hits: int
    sensitivity: float
    low: float
    high: float
    lead_s: float | None


class Detection(msgspec.Struct):
    """``events`` onsets were looked for; ``curve`` runs from the gravest severity to all."""

    events: int
    curve: list[Point]


def detection(events: Sequence[Onset], alerts: Iterable[Raised], days: int) -> Detection:
    """Sensitivity and burden of ``alerts`` over ``days`` patient-days, by severity. Silence and troubles of devices
    announce nothing."""
    clinical = [one for one in alerts if not one.silent and not one.rule.startswith("technical:")]
    return Detection(len(events), [_point(severity, events, clinical, days) for severity in Severity])


def _point(severity: Severity, events: Sequence[Onset], alerts: Sequence[Raised], days: int) -> Point:
    onsets, tellings = _by_patient(events), defaultdict[str, list[int]](list)
    told = outside = 0
    for one in alerts:
        times = [at_ns for at_ns, gravity, _ in one.history if gravity <= severity]
        tellings[one.patient] += times
        told += bool(times)
        near = onsets.get(one.patient, [])
        outside += bool(times) and not any(_between(near, at_ns - AFTER_NS, at_ns + BEFORE_NS) for at_ns in times)
    for found in tellings.values():
        found.sort()
    first = [_between(tellings.get(one.patient, []), one.at_ns - BEFORE_NS, one.at_ns + AFTER_NS) for one in events]
    leads = [(one.at_ns - found[0]) / SECOND_NS for one, found in zip(events, first, strict=True) if found]
    low, high = wilson(len(leads), len(events))
    return Point(
        severity=severity.name, alerts_per_patient_week=_weekly(told, days),
        outside_per_patient_week=_weekly(outside, days), hits=len(leads),
        sensitivity=round(len(leads) / len(events), 4), low=low, high=high,
        lead_s=round(median(leads), 1) if leads else None,
    )  # fmt: skip


def _by_patient(events: Iterable[Onset]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for one in sorted(events):
        found[one.patient].append(one.at_ns)
    return found


def _between(times: Sequence[int], start_ns: int, end_ns: int) -> Sequence[int]:
    """Of sorted times those from ``start_ns`` to ``end_ns``, both included."""
    return times[bisect_left(times, start_ns) : bisect_right(times, end_ns)]


def _weekly(count: int, days: int) -> float | None:
    return round(count * 7 / days, 4) if days else None


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (E. B. Wilson, JASA 22, 1927).

    Worked: 8 of 10 is 0.4902 to 0.9433.
    """
    share, square = hits / of, _Z * _Z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = _Z * math.sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)
