"""Shipped protocols tried on small series: the whole way from document to report."""

from typing import Any

from alerts.backtest.report import BacktestResult, report
from alerts.backtest.rules import Decisions, in_force, rule_set
from alerts.backtest.run import Coverage, RuleSetReplay, Span, lockstep
from alerts.rules.protocol import document, shipped
from tests.alerts.alert_world import at, batch, limit, reading

DAY = 86_400.0
SHIPPED = {protocol.name: document(protocol) for protocol in shipped()}
CONTEXTS = {
    patient: {"patient": patient, "version": 1, "reason": "asked", "age_band": "adult", "spo2_scale": 1}
    for patient in ("p_1", "p_2")
}


def tried(name: str, rows: list[dict[str, Any]], *, days: float) -> BacktestResult:
    """A protocol against limits of 90 %, both patients."""
    patients, known = ["p_1", "p_2"], Decisions(contexts=CONTEXTS, limits={"p_1": [limit()], "p_2": [limit()]})
    rules = (rule_set("candidate", SHIPPED[name], patients, known, at(0)), in_force(known, patients, at(0)))
    span = Span(at(0), at(days * DAY), at(0))
    coverage = Coverage(span)
    outcomes = lockstep([batch(*rows)], coverage, [RuleSetReplay(one, span, patients) for one in rules])
    return report(span, patients, coverage, rules, outcomes, measured=False)


def test_a_protocol_asks_for_two_readings_where_limits_ask_for_one() -> None:
    """copd P1-red: 91 % or less twice, five minutes apart, over after two good readings; the limit: 90 % once."""
    rows = [
        *(reading(n * 3600.0, 95.0, patient=patient, seq=n) for n in range(4) for patient in ("p_1", "p_2")),
        reading(18_000.0, 88.0), reading(18_301.0, 89.0), reading(21_600.0, 95.0), reading(25_200.0, 95.0),
        reading(18_400.0, 88.0, patient="p_2"), reading(18_700.0, 95.0, patient="p_2"),
        reading(25_201.0, 95.0, patient="p_2"),
    ]  # fmt: skip
    found = tried("copd", sorted(rows, key=lambda row: row["received_ns"]), days=0.5)
    assert [(item.side, item.patient, item.rule, item.severity, item.match) for item in found.timeline] == [
        ("candidate", "p_1", "copd:P1-red", "S1", "kept"), ("reference", "p_1", "limit:spo2:low:S2", "S2", "kept"),
        ("candidate", "p_2", "copd:P1-red", "S2", "kept"), ("reference", "p_2", "limit:spo2:low:S2", "S2", "kept"),
    ]  # fmt: skip
    paged, task = found.candidate.rules
    assert (paged.severity, paged.alerts, paged.pages, paged.near_misses) == ("S1", 1, 1, 1)
    assert (task.severity, task.alerts, task.pages) == ("S2", 1, 0), "the repeat is asked for without a page"
    unknown = "it is not recorded whether the patient gets oxygen"
    assert f"candidate: copd:P3 could not be judged ({unknown}) for p_1, p_2" in found.warnings
    assert "candidate: copd:P4-fvc could not be judged (no fvc) for p_1, p_2" in found.warnings
    assert any("no history" in warning for warning in found.warnings)
