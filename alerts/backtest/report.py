"""A backtest in numbers: the alerts of each rule, new and gone alerts, and how reliable the result is.

Rates are per day, or week, of a patient with any reading. The budget is that of clinical.md 5.2: less than one
interruptive alert per patient-week, and more than half of all alerts not from fewer than 5 % of the patients.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from alerts.backtest.run import Coverage, PatientData, Raised, RuleSet, RuleSetOutcome, Span
from vitals.catalog import BY_CODE
from vitals.glossary import Severity
from vitals.times import SECOND_NS, rfc3339

NEAR_NS: Final = 30 * 60 * 1_000_000_000
"""Alerts of two rule sets are the same event when their times in alarm are no further apart."""
BUDGET_PER_WEEK: Final = 1.0
FEW_PATIENTS: Final = 0.05
HOW: Final = (
    "An alert is new, or gone, when the other rules raised none for the same patient about the same vital sign and "
    "side whose time in alarm overlaps it or is less than 30 minutes away."
)
ASSUMED: Final = (
    "every alert is acknowledged a minute after it spoke",
    "nobody did anything else because of an alert: pages that repeat what was told are counted apart",
    "delays elapse in steps of 30 seconds",
)
_NAMED: Final = 5
_SIDES: Final = ("candidate", "reference")


class RuleRow(msgspec.Struct):
    """One rule in one severity. ``alarm_s``: from raised to ended, all alerts together. Near misses are those of the
    rule, in the row of its gravest severity."""

    rule: str
    severity: str
    alerts: int
    pages: int
    patients: int
    alerts_per_patient_day: float | None
    alarm_s: float
    near_misses: int


class Noisy(msgspec.Struct):
    """The fewest ``patients`` that make more than half of all alerts, and their ``share`` of all with readings."""

    patients: list[str]
    count: int
    share: float | None


class RuleSetFigures(msgspec.Struct):
    """What one rule set said. ``repeats`` are pages again, for what nobody did; ``interruptive`` counts alerts that
    paged; ``within_budget`` is None without any day."""

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
    within_budget: bool | None
    noisiest: Noisy
    rules: list[RuleRow]


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


class Item(msgspec.Struct):
    """One alert on the timeline; ``match`` is ``kept``, ``new`` (candidate) or ``gone`` (reference)."""

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


def report(
    span: Span, patients: Sequence[str], coverage: Coverage, rules: Sequence[RuleSet],
    outcomes: Sequence[RuleSetOutcome], *, measured: bool,
) -> BacktestResult:  # fmt: skip
    """The result of candidate and reference, in this order. ``measured``: readings came when they were measured."""
    days = sum(len(one.days) for one in coverage.patients.values())
    candidate, reference = (_side(outcome, len(coverage.patients), days) for outcome in outcomes)
    ours, theirs = (outcome.alerts for outcome in outcomes)
    matches = compared(ours, theirs, span.end_ns)
    timeline = [
        _item(side, match, one)
        for side, outcome, found in zip(_SIDES, outcomes, matches, strict=True)
        for match, one in zip(found, outcome.alerts, strict=True)
    ]
    timeline.sort(key=lambda item: (item.patient, item.raised, item.side, item.rule))
    return BacktestResult(
        start=_second(span.start_ns), end=_second(span.end_ns),
        replayed="as measured" if measured else "in order of arrival",
        candidate=candidate, reference=reference, compared=_compared(outcomes, matches, candidate, reference),
        data=_data(patients, coverage, days), warnings=[*_warnings(span, patients, coverage, rules, measured)],
        patients=_patients(patients, coverage, outcomes), timeline=timeline,
    )  # fmt: skip


def _second(time_ns: int) -> str:
    """To the second, UTC."""
    return rfc3339(time_ns // SECOND_NS * SECOND_NS)


def compared(candidate: Sequence[Raised], reference: Sequence[Raised], end_ns: int) -> tuple[list[str], list[str]]:
    """``kept`` or ``new`` for each alert of the candidate, ``kept`` or ``gone`` for each of the reference."""
    ours, theirs = _Times(candidate, end_ns), _Times(reference, end_ns)
    return (
        ["kept" if theirs.near(one, end_ns) else "new" for one in candidate],
        ["kept" if ours.near(one, end_ns) else "gone" for one in reference],
    )


class _Times:
    """Times in alarm by (patient, family): starts in order, and the latest end up to each."""

    def __init__(self, alerts: Iterable[Raised], end_ns: int) -> None:
        grouped: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for one in alerts:
            grouped[one.patient, one.family].append((one.raised_ns, _until(one, end_ns)))
        self._starts: dict[tuple[str, str], list[int]] = {}
        self._ends: dict[tuple[str, str], list[int]] = {}
        for key, spans in grouped.items():
            spans.sort()
            self._starts[key] = [start for start, _ in spans]
            self._ends[key] = [*accumulate((end for _, end in spans), max)]

    def near(self, one: Raised, end_ns: int) -> bool:
        key = one.patient, one.family
        before = bisect_right(self._starts.get(key, []), _until(one, end_ns) + NEAR_NS)
        return before > 0 and self._ends[key][before - 1] >= one.raised_ns - NEAR_NS


def _until(one: Raised, end_ns: int) -> int:
    return max(one.raised_ns, end_ns if one.ended_ns is None else one.ended_ns)


def _side(outcome: RuleSetOutcome, patients: int, days: int) -> RuleSetFigures:
    alerts = outcome.alerts
    pages, interruptive = sum(one.pages for one in alerts), sum(one.pages > 0 for one in alerts)
    severities = Counter(Severity(one.severity).name for one in alerts)
    weekly = _per(interruptive * 7, days)
    noisiest = _noisiest(alerts, patients)
    crowded = noisiest.share is None or noisiest.share >= FEW_PATIENTS or patients * FEW_PATIENTS < 1
    return RuleSetFigures(
        name=outcome.name, alerts=len(alerts), pages=pages, repeats=sum(one.repeats for one in alerts),
        interruptive=interruptive,
        near_misses=_missed(outcome).total(), alarm_s=_seconds(alerts),
        by_severity={word.name: severities.get(word.name, 0) for word in Severity},
        alerts_per_patient_week=_per(len(alerts) * 7, days), pages_per_patient_week=_per(pages * 7, days),
        interruptive_per_patient_week=weekly,
        within_budget=None if weekly is None else weekly < BUDGET_PER_WEEK and crowded,
        noisiest=noisiest, rules=_rules(outcome, days),
    )  # fmt: skip


def _rules(outcome: RuleSetOutcome, days: int) -> list[RuleRow]:
    """By severity and rule; a rule that only came near to an alert has a row without severity."""
    grouped: dict[tuple[int, str], list[Raised]] = defaultdict(list)
    for one in outcome.alerts:
        grouped[one.severity, one.rule].append(one)
    missed = _missed(outcome)
    rows = [
        RuleRow(
            rule=rule, severity=Severity(severity).name, alerts=len(found), pages=sum(one.pages for one in found),
            patients=len({one.patient for one in found}), alerts_per_patient_day=_per(len(found), days),
            alarm_s=_seconds(found), near_misses=missed.pop(rule, 0),
        )
        for (severity, rule), found in sorted(grouped.items())
    ]  # fmt: skip
    return rows + [RuleRow(rule, "", 0, 0, 0, _per(0, days), 0.0, count) for rule, count in sorted(missed.items())]


def _missed(outcome: RuleSetOutcome) -> Counter[str]:
    """Near misses by rule."""
    missed: Counter[str] = Counter()
    for counts in outcome.near_misses.values():
        missed.update(counts)
    return missed


def _noisiest(alerts: Iterable[Raised], patients: int) -> Noisy:
    """The fewest patients with more than half of the alerts; of equals those whose token comes first."""
    counts = sorted(Counter(one.patient for one in alerts).items(), key=lambda item: (-item[1], item[0]))
    total, reached, names = sum(count for _, count in counts), 0, []
    for patient, count in counts:
        if 2 * reached > total:
            break
        reached += count
        names.append(patient)
    return Noisy(names[:_NAMED], len(names), _per(len(names), patients) if names else None)


def _compared(
    outcomes: Sequence[RuleSetOutcome], matches: Sequence[Sequence[str]], now: RuleSetFigures, before: RuleSetFigures
) -> Comparison:
    new, gone = (
        Counter(one.rule for match, one in zip(found, outcome.alerts, strict=True) if match != "kept")
        for found, outcome in zip(matches, outcomes, strict=True)
    )
    return Comparison(
        change_percent=round(100 * (now.pages - before.pages) / before.pages, 1) if before.pages else None,
        kept=sum(match == "kept" for match in matches[0]), new=new.total(), gone=gone.total(),
        new_by_rule=dict(sorted(new.items())), gone_by_rule=dict(sorted(gone.items())),
    )  # fmt: skip


def _data(patients: Sequence[str], coverage: Coverage, days: int) -> Data:
    return Data(
        patients=len(patients), patients_with_readings=len(coverage.patients), readings=coverage.readings,
        judged=coverage.judged, late=coverage.late, unjudged=dict(sorted(coverage.unjudged.items())), patient_days=days,
        days_without=sum(_gaps(one) for one in coverage.patients.values()),
    )  # fmt: skip


def _patients(patients: Sequence[str], coverage: Coverage, outcomes: Sequence[RuleSetOutcome]) -> list[PatientRow]:
    alerts = [Counter(one.patient for one in outcome.alerts) for outcome in outcomes]
    pages: list[Counter[str]] = [Counter() for _ in outcomes]
    for counter, outcome in zip(pages, outcomes, strict=True):
        for one in outcome.alerts:
            counter[one.patient] += one.pages
    rows = []
    for patient in patients:
        seen = coverage.patients.get(patient, PatientData())
        rows.append(
            PatientRow(
                patient=patient, readings=seen.readings, days=len(seen.days), days_without=_gaps(seen),
                alerts=[counter[patient] for counter in alerts], pages=[counter[patient] for counter in pages],
                near_misses=[sum(outcome.near_misses.get(patient, {}).values()) for outcome in outcomes],
            )
        )  # fmt: skip
    return rows


def _warnings(
    span: Span, patients: Sequence[str], coverage: Coverage, rules: Sequence[RuleSet], measured: bool
) -> Iterator[str]:
    """What keeps the numbers from being the whole truth."""
    silent = [patient for patient in patients if patient not in coverage.patients]
    if silent:
        yield f"no readings at all of {_who(silent)}"
    short = sum(len(one.days) < 7 for one in coverage.patients.values())
    if short:
        yield f"{short} of {len(coverage.patients)} patients have readings on fewer than 7 days: rates are unsure"
    if coverage.late and not measured:
        yield f"{coverage.late} readings came late and were not judged; --as-measured judges them as of their time"
    if span.start_ns - span.from_ns < max(rule.history_ns for rule in rules):
        yield "rules that compare with a patient's usual values had no history before the first reading"
    for side, rule_set in zip(_SIDES, rules, strict=True):
        for rule, reason, who in _unjudged(rule_set, coverage.patients):
            yield f"{side}: {rule} could not be judged ({reason}) for {_who(who)}"


def _unjudged(rules: RuleSet, seen: Mapping[str, PatientData]) -> Iterator[tuple[str, str, list[str]]]:
    """(rule, why, patients) for rules without the context or the vitals that they need."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for patient, rule, reason in rules.gated:
        found[rule, reason].append(patient)
    for patient, rule, vitals in rules.watched:
        there = seen[patient].vitals if patient in seen else None
        if there is not None and (missing := [some for some in vitals if there.isdisjoint(some)]):
            found[rule, "no " + ", no ".join(_either(some) for some in missing)].append(patient)
    for (rule, reason), who in found.items():
        yield rule, reason, who


def _either(vitals: Sequence[int]) -> str:
    return " or ".join(BY_CODE[code].key for code in vitals)


def _who(patients: Sequence[str]) -> str:
    names = ", ".join(patients[:_NAMED])
    return names if len(patients) <= _NAMED else f"{len(patients)} patients ({names}, ...)"


def _item(side: str, match: str, one: Raised) -> Item:
    return Item(
        side=side, match=match, patient=one.patient, rule=one.rule, severity=Severity(one.severity).name,
        raised=_second(one.raised_ns), ended=None if one.ended_ns is None else _second(one.ended_ns),
        pages=one.pages, repeats=one.repeats, episodes=one.episodes, text=one.text,
    )  # fmt: skip


def _gaps(seen: PatientData) -> int:
    return max(seen.days) - min(seen.days) + 1 - len(seen.days) if seen.days else 0


def _seconds(alerts: Iterable[Raised]) -> float:
    return round(sum(one.alarm_ns for one in alerts) / SECOND_NS, 3)


def _per(count: int, of: int) -> float | None:
    return round(count / of, 4) if of else None
