"""A backtest in numbers: the alerts of each rule, new and gone alerts, and how reliable the result is.

Rates are per day, or week, of a patient with any reading. The budget is that of clinical.md 5.2: less than one
interruptive alert per patient-week, more than half of all alerts not from fewer than 5 % of the patients, and no rule
with more than ``MOST_PROMOTIONS``.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from alerts.backtest.figures import (
    BacktestResult,
    Comparison,
    Data,
    Item,
    Noisy,
    PatientRow,
    RuleRow,
    RuleSetFigures,
    Telling,
)
from alerts.backtest.labelled import Onset, detection
from alerts.backtest.run import Coverage, PatientData, Raised, RuleSet, RuleSetOutcome, Span
from vitals.catalog import BY_CODE
from vitals.glossary import Severity
from vitals.times import SECOND_NS, rfc3339

NEAR_NS: Final = 30 * 60 * 1_000_000_000
"""Alerts of two rule sets are the same event when their times in alarm are no further apart."""
BUDGET_PER_WEEK: Final = 1.0
MOST_PROMOTIONS: Final = 0.2
"""S1 for want of a second reading, of one rule in a patient-week: more is a burden of its own."""
FEW_PATIENTS: Final = 0.05
_NAMED: Final = 5
_SIDES: Final = ("candidate", "reference")


def report(
    span: Span, patients: Sequence[str], coverage: Coverage, rules: Sequence[RuleSet],
    outcomes: Sequence[RuleSetOutcome], *, measured: bool, events: Sequence[Onset] = (),
) -> BacktestResult:  # fmt: skip
    """The result of candidate and reference, in this order. ``measured``: readings came when they were measured;
    ``events`` are labelled onsets."""
    days = sum(len(one.days) for one in coverage.patients.values())
    candidate, reference = (_side(outcome, len(coverage.patients), days, events) for outcome in outcomes)
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


def _side(outcome: RuleSetOutcome, patients: int, days: int, events: Sequence[Onset]) -> RuleSetFigures:
    alerts = outcome.alerts
    pages, interruptive = sum(one.pages for one in alerts), sum(one.pages > 0 for one in alerts)
    severities = Counter(Severity(one.severity).name for one in alerts)
    weekly = _per(interruptive * 7, days)
    noisiest = _noisiest(alerts, patients)
    crowded = noisiest.share is None or noisiest.share >= FEW_PATIENTS or patients * FEW_PATIENTS < 1
    rules = _rules(outcome, days)
    promoting = [row.rule for row in rules if (row.promotions_per_patient_week or 0.0) > MOST_PROMOTIONS]
    return RuleSetFigures(
        name=outcome.name, alerts=len(alerts), pages=pages, repeats=sum(one.repeats for one in alerts),
        interruptive=interruptive,
        near_misses=_missed(outcome).total(), alarm_s=_seconds(alerts),
        by_severity={word.name: severities.get(word.name, 0) for word in Severity},
        alerts_per_patient_week=_per(len(alerts) * 7, days), pages_per_patient_week=_per(pages * 7, days),
        interruptive_per_patient_week=weekly,
        promotions_per_patient_week=_per(sum(one.promotions for one in alerts) * 7, days), promoting=promoting,
        within_budget=None if weekly is None else weekly < BUDGET_PER_WEEK and crowded and not promoting,
        noisiest=noisiest, rules=rules, detection=detection(events, alerts, days) if events else None,
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
            alarm_s=_seconds(found), near_misses=missed.pop(rule, 0), promotions=sum(one.promotions for one in found),
            promotions_per_patient_week=_per(sum(one.promotions for one in found) * 7, days),
        )
        for (severity, rule), found in sorted(grouped.items())
    ]  # fmt: skip
    return rows + [
        RuleRow(rule, "", 0, 0, 0, _per(0, days), 0.0, count, 0, _per(0, days))
        for rule, count in sorted(missed.items())
    ]


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
        history=[Telling(_second(at_ns), Severity(severity).name, text) for at_ns, severity, text in one.history],
    )  # fmt: skip


def _gaps(seen: PatientData) -> int:
    return max(seen.days) - min(seen.days) + 1 - len(seen.days) if seen.days else 0


def _seconds(alerts: Iterable[Raised]) -> float:
    return round(sum(one.alarm_ns for one in alerts) / SECOND_NS, 3)


def _per(count: int, of: int) -> float | None:
    return round(count / of, 4) if of else None
