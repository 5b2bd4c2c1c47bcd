"""``bench store``: rows a second into the embedded store, and a 14-day window among all of them."""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from deploy.bench.fleet import batch_of
from deploy.bench.report import Figure, repeat
from deploy.settings import Settings
from deploy.wiring import open_store
from vitals.catalog import BY_KEY
from vitals.model import VitalBatch
from vitals.ports import Store
from vitals.times import DAY_NS, MINUTE_NS

ROWS: Final = 43_200_000
"""A thousand patients with one reading a minute for 30 days."""
PATIENTS: Final = 1000
BATCH: Final = 50_000
WINDOWS: Final = 50
SEED: Final = 7
_END_NS: Final = 20_000 * DAY_NS


def batches(rows: int, start_ns: int) -> Iterator[VitalBatch]:
    """``rows`` readings as they arrive: every patient once a minute, from ``start_ns`` on."""
    names = tuple(f"p_{number}" for number in range(PATIENTS))
    for first in range(0, rows, BATCH):
        row = np.arange(first, min(first + BATCH, rows), dtype=np.int64)
        yield batch_of(names, names, (row % PATIENTS).astype(np.int32), start_ns + row // PATIENTS * MINUTE_NS)


def _write(store: Store, rows: int, start_ns: int) -> float:
    """Write as the store writer does; the seconds spent in the store."""
    spent_s = 0.0
    for batch in batches(rows, start_ns):
        started_s = time.perf_counter()
        position = store.position()
        store.write([batch], expected=position, position=position + 1)
        spent_s += time.perf_counter() - started_s
    return spent_s


def _windows(store: Store, generator: random.Random) -> list[float]:
    """Milliseconds of 14-day windows of random patients, each a patient that was not asked for before."""
    spent = []
    for number in generator.sample(range(PATIENTS), WINDOWS):
        started_s = time.perf_counter()
        found = store.window(f"p_{number}", BY_KEY["spo2"].code, _END_NS - 14 * DAY_NS, _END_NS)
        spent.append((time.perf_counter() - started_s) * 1000)
        assert len(found.time_ns), "a window without readings measures nothing"
    return spent


def measure(runs: int, rows: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(workload, figures). The rows are written once; a run then appends a tenth of a million more and reads."""
    settings, generator = Settings(), random.Random(SEED)  # noqa: S311 - which patients, not a secret
    first_ns = _END_NS - rows // PATIENTS * MINUTE_NS
    with tempfile.TemporaryDirectory(prefix="vitalgate-bench-") as root:
        store = open_store(Path(root) / "store.duckdb", settings)
        try:
            fill_s = _write(store, rows, first_ns)
            started_s = time.perf_counter()
            store.compact(_END_NS)
            compact_s = time.perf_counter() - started_s
            held = store.rows()

            def once() -> list[Figure]:
                more = min(rows, 1_000_000)
                spent_s = _write(store, more, _END_NS)
                times = _windows(store, generator)
                return [
                    Figure("rows_per_s", more / spent_s, "1/s"),
                    Figure("window_14d_ms_p50", statistics.median(times), "ms"),
                    Figure("window_14d_ms_max", max(times), "ms"),
                ]

            found = repeat(runs, once)
        finally:
            store.close()
        size_mb = (Path(root) / "store.duckdb").stat().st_size / 2**20
    found += [
        {"metric": "fill_rows_per_s", "value": round(rows / fill_s), "unit": "1/s"},
        {"metric": "compact_s", "value": round(compact_s, 3), "unit": "s"},
        {"metric": "file_mb", "value": round(size_mb), "unit": "MB"},
    ]
    workload = {
        "rows": held, "patients": PATIENTS, "rows_per_write": BATCH, "windows_per_run": WINDOWS,
        "rows_per_window": min(14 * 1440, rows // PATIENTS), "memory_mb": settings.store.memory_mb,
        "threads": settings.store.threads, "closed_days": "compacted",
    }  # fmt: skip
    return workload, found
