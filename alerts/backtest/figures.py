"""The figures of a backtest, as the API and the command line give them."""

from typing import Final

import msgspec

from alerts.backtest.labelled import Detection

HOW: Final = (
    "An alert is new, or gone, when the other rules raised none for the same patient about the same vital sign and "
    "side whose time in alarm overlaps it or is less than 30 minutes away."
)
ASSUMED: Final = (
    "every alert is acknowledged a minute after it spoke",
    "nobody did anything else because of an alert: pages that repeat what was told are counted apart",
    "delays elapse in steps of 30 seconds",
)


class RuleRow(msgspec.Struct):
    """One rule in one severity. ``alarm_s``: from raised to ended, all alerts together. Near misses are those of the
    rule, in the row of its gravest severity. ``promotions``: alerts that became S1 because no second reading came."""

    rule: str
    severity: str
    alerts: int
    pages: int
    patients: int
    alerts_per_patient_day: float | None
    alarm_s: float
    near_misses: int
    promotions: int
    promotions_per_patient_week: float | None


class Noisy(msgspec.Struct):
    """The fewest ``patients`` that make more than half of all alerts, and their ``share`` of all with readings."""

    patients: list[str]
    count: int
    share: float | None


class RuleSetFigures(msgspec.Struct):
    """What one rule set said. ``repeats`` are pages again, for what nobody did; ``interruptive`` counts alerts that
    paged; ``promoting`` are rules with more than ``MOST_PROMOTIONS`` a patient-week; ``within_budget`` is None without
    any day; ``detection`` is None without labelled events."""

    name: str
    alerts: int
    pages: int
    repeats: int
    interruptive: int
    near_misses: int
    alarm_s: float
    by_severity: dict[str, int]
    alerts_per_patient_week: float | None
    pages_per_patient_week: float | None
    interruptive_per_patient_week: float | None
    promotions_per_patient_week: float | None
    promoting: list[str]
    within_budget: bool | None
    noisiest: Noisy
    rules: list[RuleRow]
    detection: Detection | None


class Comparison(msgspec.Struct):
    """``change_percent`` is that of pages; the counts by rule name the rules that raised what is new or gone."""

    change_percent: float | None
    kept: int
    new: int
    gone: int
    new_by_rule: dict[str, int]
    gone_by_rule: dict[str, int]
    how: str = HOW


class Data(msgspec.Struct):
    """The readings that were judged. ``late`` came after their paging age; ``unjudged`` says why readings were not.

    ``days_without`` are days between the first and the last of a patient without any reading.
    """

    patients: int
    patients_with_readings: int
    readings: int
    judged: int
    late: int
    unjudged: dict[str, int]
    patient_days: int
    days_without: int


class PatientRow(msgspec.Struct):
    """One patient: [candidate, reference] alerts, pages and near misses."""

    patient: str
    readings: int
    days: int
    days_without: int
    alerts: list[int]
    pages: list[int]
    near_misses: list[int]


class Telling(msgspec.Struct):
    """What an alert said at a time."""

    time: str
    severity: str
    text: str


class Item(msgspec.Struct):
    """One alert on the timeline; ``match`` is ``kept``, ``new`` (candidate) or ``gone`` (reference). ``severity`` is
    the highest that it had, ``text`` what it said last, ``history`` each telling."""

    side: str
    match: str
    patient: str
    rule: str
    severity: str
    raised: str
    ended: str | None
    pages: int
    repeats: int
    episodes: int
    text: str
    history: list[Telling]


class BacktestResult(msgspec.Struct):
    """A whole backtest. Times are RFC 3339. ``timeline`` is by patient and time."""

    start: str
    end: str
    replayed: str
    candidate: RuleSetFigures
    reference: RuleSetFigures
    compared: Comparison
    data: Data
    warnings: list[str]
    patients: list[PatientRow]
    timeline: list[Item]
    assumed: tuple[str, ...] = ASSUMED
