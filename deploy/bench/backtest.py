"""``bench backtest``: two rule sets over a month of one-minute saturations of 1,000 patients, out of memory."""

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from alerts.backtest.report import report
from alerts.backtest.rules import Decisions, rule_set
from alerts.backtest.run import Coverage, Span
from deploy.backtest.running import Workers
from deploy.bench.fleet import LIMITS, batch_of
from deploy.bench.report import Figure, repeat
from vitals.model import VitalBatch
from vitals.times import MINUTE_NS

PATIENTS: Final = 1000
DAYS: Final = 30
ROWS: Final = PATIENTS * DAYS * 1440
SEED: Final = 20_260_105
_START_NS: Final = 1_767_571_200_000_000_000
_HOUR: Final = 60
_SPELLS: Final = 0.005
"""Share of patient-hours with ten minutes of low saturation."""


def arrivals(rows: int) -> Iterator[VitalBatch]:
    """``rows`` readings, an hour of all patients at a time; each patient has a second of the minute of their own."""
    random = np.random.default_rng(SEED)
    patients = tuple(f"p_{number}" for number in range(PATIENTS))
    second_ns = np.sort(random.integers(0, 60, PATIENTS)) * 1_000_000_000
    wearer = np.tile(np.arange(PATIENTS, dtype=np.int32), _HOUR)
    usual = random.normal(95.5, 0.8, PATIENTS)
    for hour in range(rows // (PATIENTS * _HOUR)):
        minute = np.repeat(np.arange(_HOUR, dtype=np.int64), PATIENTS)
        time_ns = _START_NS + (hour * _HOUR + minute) * MINUTE_NS + second_ns[wearer]
        noise = random.standard_normal(_HOUR * PATIENTS, dtype=np.float32)
        ill = (random.random(PATIENTS) < _SPELLS)[wearer] & (minute < 10)
        value = np.rint(np.clip(usual[wearer] + 0.7 * noise - 9.0 * ill, 70.0, 100.0))
        yield batch_of(patients, patients, wearer, time_ns).replace(value=value, reported=value)


def measure(runs: int, rows: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures)."""
    patients = [f"p_{number}" for number in range(PATIENTS)]
    span = Span(_START_NS, _START_NS + rows // PATIENTS * MINUTE_NS, _START_NS)
    tried = [LIMITS[0] | {"on_delay_s": 180.0}]
    rules = (
        rule_set("candidate", tried, patients, Decisions(), _START_NS),
        rule_set("reference", LIMITS, patients, Decisions(), _START_NS),
    )

    def once() -> list[Figure]:
        started_s = time.perf_counter()
        workers, coverage = Workers(rules, span, patients), Coverage(span)
        try:
            outcomes = workers.run(arrivals(rows), coverage, lambda _: None)
        finally:
            workers.close()
        judged_s = time.perf_counter() - started_s
        result = report(span, patients, coverage, rules, outcomes, measured=False)
        return [Figure("seconds", time.perf_counter() - started_s, "s"),
                Figure("readings_per_s", rows / judged_s, "1/s"),
                Figure("alerts", result.candidate.alerts, "1", of="candidate"),
                Figure("alerts", result.reference.alerts, "1", of="reference")]  # fmt: skip

    workload = {"readings": rows, "patients": PATIENTS, "days": rows / PATIENTS / 1440, "rule_sets": 2, "processes": 3}
    return workload, repeat(runs, once)
