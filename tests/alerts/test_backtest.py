"""Replays of small series, counted by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from alerts.backtest import run
from alerts.backtest.report import BacktestResult, report
from alerts.backtest.rules import Decisions, rule_set
from alerts.backtest.run import Coverage, RuleSet, RuleSetOutcome, RuleSetReplay, Span, as_measured, lockstep
from tests.alerts.alert_world import SECOND, at, batch, limit, reading
from vitals.errors import InvalidRequest
from vitals.glossary import Basis, Flag
from vitals.model import VitalBatch

WELL = [95.0] * 15
"""Minutes after which a condition that comes back is an alert of its own."""
MINUTE = 60.0
HOUR = 3600.0
DAY = 86_400.0


def rules(*limits: dict[str, Any], name: str = "candidate", patients: Sequence[str] = ("p_1",)) -> RuleSet:
    return rule_set(name, list(limits), patients, Decisions(), at(0))


def replay(rule_set: RuleSet, *batches: VitalBatch, to: float = HOUR, start: float = 0.0) -> RuleSetOutcome:
    span = Span(at(start), at(to), at(0))
    [outcome] = lockstep(batches, Coverage(span), [RuleSetReplay(rule_set, span, ["p_1", "p_2"])])
    return outcome


def result(
    candidate: RuleSet, reference: RuleSet, *batches: VitalBatch, to: float = HOUR, **options: Any
) -> BacktestResult:
    span = Span(at(0), at(to), at(0))
    coverage, sets = Coverage(span), (candidate, reference)
    patients = options.pop("patients", ["p_1"])
    outcomes = lockstep(batches, coverage, [RuleSetReplay(one, span, patients) for one in sets])
    return report(
        span,
        patients,
        coverage,
        sets,
        outcomes,
        measured=options.get("measured", False),
        events=options.get("events", ()),
    )


def minutes(*values: float, first: float = 0.0, **changes: Any) -> list[dict[str, Any]]:
    """A reading a minute, received a second later."""
    return [reading(first + MINUTE * n, value, **changes) for n, value in enumerate(values)]


def test_an_episode_is_one_alert_with_its_time_in_alarm() -> None:
    found = replay(rules(limit()), batch(*minutes(95, 85, 85, 91, 92, *WELL, 85, 93)))
    # Raised at minutes 1 and 20; 91 is inside the deadband, 92 leaves it.
    assert [(one.rule, one.severity, one.raised_ns, one.ended_ns) for one in found.alerts] == [
        ("limit:spo2:low:S2", 2, at(61), at(241)),
        ("limit:spo2:low:S2", 2, at(1201), at(1261)),
    ]
    assert [one.alarm_ns // SECOND for one in found.alerts] == [180, 60]
    assert [(one.pages, one.episodes) for one in found.alerts] == [(1, 1), (1, 1)]


def test_an_urgent_alert_does_not_latch_for_ever_since_the_replay_answers() -> None:
    found = replay(rules(limit(severity="S1")), batch(*minutes(85, *WELL, 85, 95, 95)))
    assert [(one.raised_ns, one.ended_ns, one.pages) for one in found.alerts] == [
        (at(1), at(61), 1),
        (at(961), at(1021), 1),
    ]


def test_a_condition_that_is_over_before_its_delay_is_a_near_miss() -> None:
    found = replay(rules(limit(on_delay_s=120.0)), batch(*minutes(85, 85, 95, 85, 95, 85, 85, 85, 95)))
    assert found.near_misses == {"p_1": {"limit:spo2:low:S2": 2}}
    # Minute 5 is the first reading of the third; two minutes later a reading comes before the next tick does.
    assert [(one.raised_ns, one.alarm_ns // SECOND) for one in found.alerts] == [(at(421), 60)]


def test_what_lasts_at_the_end_is_in_alarm_up_to_it() -> None:
    found = replay(rules(limit()), batch(*minutes(95, 85)), to=10 * MINUTE)
    assert [(one.ended_ns, one.alarm_ns) for one in found.alerts] == [(None, (600 - 61) * SECOND)]


def test_a_delay_that_began_before_the_end_elapses_after_it() -> None:
    found = replay(rules(limit(on_delay_s=300.0)), batch(*minutes(95, 85)), to=2 * MINUTE)
    assert [(one.raised_ns, one.pages, one.alarm_ns) for one in found.alerts] == [(at(360), 1, 0)]


def test_a_doubted_extreme_that_nothing_refutes_is_urgent_after_the_end_too() -> None:
    found = replay(rules(limit(severity="S1")), batch(reading(0, 60.0, flags=int(Flag.SUSPECT))), to=MINUTE)
    assert [(one.rule, one.severity, one.pages) for one in found.alerts] == [("limit:spo2:low:S1", 1, 2)]


def test_silence_counts_within_the_period_only() -> None:
    two_days = batch(reading(0, 95.0), reading(3 * DAY, 95.0))
    found = replay(rules(limit()), two_days, to=3 * DAY + HOUR)
    # Oxygen is silent after 48 hours, until the next reading; what follows the last one is not known.
    assert [(one.rule, one.raised_ns, one.ended_ns) for one in found.alerts] == [
        ("silence:spo2", at(1 + 2 * DAY), at(3 * DAY + 1))
    ]


def test_alerts_raised_before_the_period_do_not_count() -> None:
    rows = batch(*minutes(85, *WELL, 85, *WELL, 85, 95))
    found = replay(rules(limit()), rows, start=90.0)
    assert [one.raised_ns for one in found.alerts] == [at(961), at(1921)]


def test_late_readings_are_not_judged_unless_taken_as_measured() -> None:
    late = [reading(60.0 * n, 85.0, flags=int(Flag.LATE), received_ns=at(10 * HOUR)) for n in range(3)]
    rows = batch(reading(5 * MINUTE, 95.0), *late)
    assert replay(rules(limit()), rows, to=11 * HOUR).alerts == []
    found = replay(rules(limit()), as_measured(rows), to=11 * HOUR)
    assert [(one.raised_ns, one.ended_ns) for one in found.alerts] == [(at(0), at(5 * MINUTE))]


def test_a_late_revision_judges_nothing_and_a_withdrawn_reading_ends_what_it_held_up() -> None:
    first = reading(0, 85.0)
    corrected = reading(0, 95.0, flags=int(Flag.REVISION), received_ns=at(60))
    assert [one.ended_ns for one in replay(rules(limit()), batch(first, corrected)).alerts] == [at(60)]
    changed = reading(0, 95.0, flags=int(Flag.REVISION | Flag.LATE), received_ns=at(60))
    gone = reading(0, 85.0, flags=int(Flag.REVISION | Flag.RETRACTED), received_ns=at(120))
    assert [one.ended_ns for one in replay(rules(limit()), batch(first, changed)).alerts] == [None]
    assert [one.ended_ns for one in replay(rules(limit()), batch(first, changed, gone)).alerts] == [at(120)]


@pytest.mark.parametrize("seed", range(5))
def test_the_outcome_does_not_depend_on_how_the_readings_were_cut(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 300
    second = np.sort(random.integers(0, int(HOUR), count))
    rows = batch(
        *(
            reading(
                float(second[n]), float(random.integers(84, 97)), patient=f"p_{random.integers(1, 3)}", seq=n,
                flags=int(random.choice([0, 0, 0, int(Flag.SUSPECT), int(Flag.RETRACTED | Flag.REVISION)])),
                context={"posture": "lying"} if n % 7 == 0 else {},
            )
            for n in range(count)
        )
    )  # fmt: skip
    strict = [limit(on_delay_s=90.0), limit(low=88.0, severity="S1", off_delay_s=60.0)]
    tried = rules(*strict, patients=("p_1", "p_2"))
    whole = replay(tried, rows)
    assert len(whole.alerts) > 5
    for cuts in (1, 7, 100):
        parts = [rows.take(np.arange(n, min(n + cuts, count))) for n in range(0, count, cuts)]
        again = replay(tried, *parts)
        assert (again.alerts, again.near_misses) == (whole.alerts, whole.near_misses)


def test_near_misses_stand_beside_the_rule_that_they_are_of() -> None:
    found = result(rules(limit(on_delay_s=120.0)), rules(limit()), batch(*minutes(85, 95, 85, 95)))
    [row] = found.candidate.rules
    assert (row.rule, row.severity, row.alerts, row.near_misses) == ("limit:spo2:low:S2", "", 0, 2)
    assert (found.candidate.near_misses, found.patients[0].near_misses) == (2, [2, 0])


def test_readings_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order of arrival"):
        replay(rules(limit()), batch(reading(60, 95.0), reading(0, 95.0)))
    with pytest.raises(ValueError, match="order of arrival"):
        replay(rules(limit()), batch(reading(600, 95.0)), batch(reading(0, 95.0)))


def test_rules_that_nobody_could_follow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_ALERTS", 2)
    with pytest.raises(InvalidRequest, match="more than 2 alerts"):
        replay(rules(limit()), batch(*minutes(85, *WELL, 85, *WELL, 85, 95)))


def test_the_report_compares_two_rule_sets() -> None:
    day = [95.0] * 20
    values = [85.0, 89.5, 95.0] + day * 2 + [89.5, 95.0] + day * 2 + [87.0, 87.0, 95.0]
    found = result(
        rules(limit(low=88.0)), rules(limit(), limit(vital="pulse_rate", unit="/min", low=50.0), name="now"),
        batch(*minutes(*values)), to=3 * HOUR,
    )  # fmt: skip
    assert (found.candidate.alerts, found.reference.alerts) == (2, 3)
    # The spell at minute 43 is above 88 %: nothing of the candidate is within half an hour of it.
    assert (found.compared.kept, found.compared.new, found.compared.gone) == (2, 0, 1)
    assert found.compared.gone_by_rule == {"limit:spo2:low:S2": 1}
    assert found.compared.change_percent == pytest.approx(-33.3)
    assert [(item.side, item.match) for item in found.timeline] == [
        ("candidate", "kept"), ("reference", "kept"), ("reference", "gone"), ("candidate", "kept"),
        ("reference", "kept"),
    ]  # fmt: skip
    [row] = found.candidate.rules
    assert (row.rule, row.severity, row.alerts, row.pages, row.patients) == ("limit:spo2:low:S2", "S2", 2, 2, 1)
    # 61 s to 121 s within the deadband of the first; both episodes end with the reading at 95.
    assert (row.alarm_s, row.near_misses) == (240.0, 0)
    assert "reference: limit:pulse_rate:low:S2 could not be judged (no pulse_rate) for p_1" in found.warnings


def test_rates_are_per_day_and_week_of_patients_with_readings() -> None:
    rows = [reading(n * DAY, value, tz_min=0) for n, value in enumerate((85.0, 95.0, 85.0, 95.0))]
    found = result(rules(limit()), rules(limit(low=80.0), name="now"), batch(*rows), to=4 * DAY)
    assert found.data.patient_days == 4
    side = found.candidate
    assert (side.alerts, side.alerts_per_patient_week, side.within_budget) == (2, 3.5, False)
    assert side.rules[0].alerts_per_patient_day == 0.5
    assert (found.reference.within_budget, found.reference.alerts_per_patient_week) == (True, 0.0)
    assert found.compared.change_percent is None
    assert (found.compared.new, found.compared.gone) == (2, 0)


def test_days_are_those_of_the_patients_calendar() -> None:
    # 22:13 UTC on the 14th; three hours east of Greenwich it is the 15th already.
    rows = [reading(0, 95.0, tz_min=180), reading(HOUR, 95.0, tz_min=180), reading(2 * DAY, 95.0, tz_min=180)]
    data = result(rules(limit()), rules(limit()), batch(*rows), to=3 * DAY).data
    assert (data.patient_days, data.days_without) == (2, 1)
    assert result(rules(limit()), rules(limit()), batch(*minutes(95, 95)), to=HOUR).data.patient_days == 1


def test_the_data_says_what_was_not_judged_and_why() -> None:
    rows = [
        reading(0, 95.0), reading(60, 95.0, flags=int(Flag.LATE)), reading(120, 95.0, flags=int(Flag.IMPLAUSIBLE)),
        reading(180, 95.0, basis=int(Basis.UNKNOWN)), reading(240, 95.0, statistic=1),
    ]  # fmt: skip
    found = result(rules(limit()), rules(limit()), batch(*rows), patients=["p_1", "p_2"])
    assert (found.data.readings, found.data.judged, found.data.late) == (5, 1, 1)
    assert found.data.unjudged == {"implausible": 1, "late": 1, "no_time": 1, "not_single": 1}
    assert (found.data.patients, found.data.patients_with_readings) == (2, 1)
    assert "no readings at all of p_2" in found.warnings
    assert any("1 readings came late" in warning for warning in found.warnings)
    quiet = result(rules(limit()), rules(limit()), batch(*rows), measured=True)
    assert not any("came late" in warning for warning in quiet.warnings)


def test_the_noisiest_patients_are_the_fewest_that_make_most_alerts() -> None:
    patients = [f"p_{n}" for n in range(40)]
    noisy = [reading(900.0 * n, 85.0 if n % 2 else 95.0, patient="p_7", seq=n) for n in range(20)]
    others = [reading(18_000 + n, 85.0, patient=f"p_{n}", seq=n) for n in range(40) if n % 5 == 0]
    quiet = [reading(18_100 + n, 95.0, patient=f"p_{n}", seq=n) for n in range(40) if n % 5]
    tried = rules(limit(), patients=patients)
    found = result(tried, tried, batch(*noisy, *others, *quiet), to=6 * HOUR, patients=patients)
    assert found.candidate.alerts == 18
    side = found.candidate.noisiest
    assert (side.patients, side.count, side.share) == (["p_7"], 1, 0.025)
    assert found.candidate.within_budget is False
    row = next(one for one in found.patients if one.patient == "p_7")
    assert (row.alerts, row.pages, row.readings, row.days) == ([10, 10], [10, 10], 21, 2)


def test_equal_rules_change_nothing() -> None:
    found = result(rules(limit()), rules(limit(), name="now"), batch(*minutes(85, *WELL, 85, 95)))
    assert (found.compared.change_percent, found.compared.new, found.compared.gone) == (0.0, 0, 0)
    assert [item.match for item in found.timeline] == ["kept"] * 4
