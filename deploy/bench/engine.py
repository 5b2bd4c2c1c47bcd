"""``bench engine``: limit rules over readings in memory, on one core."""

import time
from typing import Any, Final

import numpy as np

from alerts.engine import Engine
from alerts.rules import parse_limits
from deploy.bench.fleet import LIMITS, batch_of
from deploy.bench.report import Figure, repeat
from vitals.catalog import BY_KEY
from vitals.glossary import ControlKind
from vitals.model import Control, VitalBatch

ROWS: Final = 2_000_000
PATIENTS: Final = 1000
BATCH: Final = 10_000
ALARM_EVERY: Final = 20_011
_START_NS: Final = 1_700_000_000_000_000_000
_SECOND_NS: Final = 1_000_000_000


def batches(rows: int) -> list[VitalBatch]:
    """``rows`` saturations of ``PATIENTS`` patients in turn, a second apart for each; every 20,011th violates."""
    patients = tuple(f"p_{number}" for number in range(PATIENTS))
    found = []
    for start in range(0, rows, BATCH):
        row = np.arange(start, min(start + BATCH, rows), dtype=np.int64)
        batch = batch_of(
            patients, patients, (row % PATIENTS).astype(np.int32), _START_NS + row // PATIENTS * _SECOND_NS
        )
        found.append(batch.replace(value=np.where(row % ALARM_EVERY == ALARM_EVERY - 1, 85.0, batch.value), seq=row))
    return found


def ready() -> Engine:
    """An engine with an upper and a lower limit for every patient."""
    engine = Engine()
    engine.warm()
    limits = [limit.model_dump(mode="json") for limit in parse_limits([LIMITS[0] | {"high": 100.5}])]
    assert BY_KEY["spo2"].key == LIMITS[0]["vital"]
    for number in range(PATIENTS):
        body = {"patient": f"p_{number}", "version": 1, "reason": "benchmark", "limits": limits}
        engine.apply(number + 1, Control(ControlKind.LIMITS, _START_NS, "bench", body))
    return engine


def measure(runs: int, rows: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures)."""
    prepared = batches(rows)

    def once() -> list[Figure]:
        engine, events = ready(), 0
        started_s = time.process_time()
        for number, batch in enumerate(prepared):
            events += len(engine.apply(PATIENTS + number + 1, batch))
        return [Figure("readings_per_s", rows / (time.process_time() - started_s), "1/s"),
                Figure("alert_events", events, "1")]  # fmt: skip

    workload = {"readings": rows, "patients": PATIENTS, "limits_per_patient": 2, "rows_per_entry": BATCH, "cores": 1}
    return workload, repeat(runs, once)
