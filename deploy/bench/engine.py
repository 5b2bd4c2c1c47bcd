"""``bench engine``: rules over readings in memory, on one core."""

import time
from typing import Any, Final

import numpy as np

from alerts.engine import Engine
from alerts.glucose.forecaster import GlucoseForecaster
from alerts.rules.limits import parse_limits
from alerts.rules.protocol import shipped
from deploy.bench import ward
from deploy.bench.fleet import LIMITS, batch_of
from deploy.bench.report import Figure, repeat
from vitals.catalog import BY_KEY
from vitals.glossary import ControlKind
from vitals.model import Control, Tick, VitalBatch
from vitals.times import SECOND_NS

ROWS: Final = 2_000_000
PATIENTS: Final = 1000
BATCH: Final = 10_000
ALARM_EVERY: Final = 20_011
_START_NS: Final = 1_700_000_000_000_000_000


def batches(rows: int) -> list[VitalBatch]:
    """``rows`` saturations of ``PATIENTS`` patients in turn, a second apart for each; every 20,011th violates."""
    patients = tuple(f"p_{number}" for number in range(PATIENTS))
    found = []
    for start in range(0, rows, BATCH):
        row = np.arange(start, min(start + BATCH, rows), dtype=np.int64)
        batch = batch_of(patients, patients, (row % PATIENTS).astype(np.int32), _START_NS + row // PATIENTS * SECOND_NS)
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


def limits(prepared: list[VitalBatch]) -> list[Figure]:
    """Two limits of a patient's own, on one vital sign."""
    engine, events = ready(), 0
    started_s = time.process_time()
    for number, batch in enumerate(prepared):
        events += len(engine.apply(PATIENTS + number + 1, batch).events)
    taken_s = time.process_time() - started_s
    rows = sum(map(len, prepared))
    return [Figure("limits_readings_per_s", rows / taken_s, "1/s"),
            Figure("alert_events", events, "1", of="limits")]  # fmt: skip


def mixed(rows: int) -> list[Figure]:
    """All shipped programmes at once; a tick after each entry is measured by itself."""
    one = ward.Ward()
    while one.patients < PATIENTS:
        one.enrol()
    engine, events, ticks_s = one.engine, 0, 0.0
    prepared = list(ward.readings(one, rows, BATCH))
    started_s = time.process_time()
    for batch in prepared:
        events += len(engine.apply(engine.position + 1, batch).events)
        tick_s = time.process_time()
        events += len(engine.apply(engine.position + 1, Tick(int(batch.received_ns[-1]))).events)
        ticks_s += time.process_time() - tick_s
    taken_s = time.process_time() - started_s - ticks_s
    return [Figure("readings_per_s", sum(map(len, prepared)) / taken_s, "1/s"),
            Figure("tick_ms", ticks_s / len(prepared) * 1000, "ms"),
            Figure("alert_events", events, "1", of="programmes")]  # fmt: skip


def forecasts(rows: int) -> list[Figure]:
    """Glucose forecasts of all patients' sensors, a reading of each every five minutes, in entries."""
    row = np.arange(rows)
    series, time_ns = (row % PATIENTS).astype(np.int32), _START_NS + row // PATIENTS * 300 * SECOND_NS
    value = 150.0 + 40.0 * np.sin(row // PATIENTS / 20.0 + series) + np.random.default_rng(1).normal(0.0, 3.0, rows)
    forecaster, made = GlucoseForecaster(), 0
    forecaster.add(PATIENTS)
    started_s = time.process_time()
    for start in range(0, rows, BATCH):
        part = slice(start, start + BATCH)
        made += int((forecaster.observe(series[part], time_ns[part], value[part]).model >= 0).sum())
    taken_s = time.process_time() - started_s
    return [Figure("forecast_us_per_reading", taken_s / rows * 1e6, "us"), Figure("forecasts", made, "1")]


def measure(runs: int, rows: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures); ``rows`` readings, half as many slots, a change for a 200th as many patients."""
    prepared = batches(rows)
    found = repeat(runs, lambda: [*mixed(rows), *limits(prepared), *forecasts(rows)])
    found += repeat(1, lambda: [*ward.changed(max(rows // 200, 1)), *ward.enrolled(rows // 2)])
    workload = {"readings": rows, "patients": PATIENTS, "programmes": len(shipped()), "limits_per_patient": 2,
                "rows_per_entry": BATCH, "patients_changed": max(rows // 200, 1), "cores": 1}  # fmt: skip
    return workload, found
