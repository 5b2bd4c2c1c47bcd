"""The environment line and the report of a benchmark: medians over runs."""

import os
import platform
import sqlite3
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

PACKAGES: Final = ("numpy", "numba", "duckdb", "msgspec", "uvloop")


class Figure(NamedTuple):
    """One measured value; ``connections`` is 0 without connections, ``of`` the subject if there are several."""

    metric: str
    value: float
    unit: str
    connections: int = 0
    of: str = ""


def environment() -> dict[str, Any]:
    """Processor, cores, versions, and the load of the machine before the benchmark."""
    versions = {name: metadata.version(name) for name in PACKAGES}
    return {
        "cpu": _processor(), "cores": len(os.sched_getaffinity(0)), "memory_mb": _memory_mb(),
        "python": platform.python_version(), "kernel": platform.release(), "sqlite": sqlite3.sqlite_version,
        "packages": versions, "load": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def repeat(runs: int, once: Callable[[], Sequence[Figure]]) -> list[dict[str, Any]]:
    """Call ``once`` ``runs`` times: the median of each metric, with every value beside it."""
    found: dict[tuple[str, str, int, str], list[float]] = {}
    for _ in range(runs):
        for figure in once():
            found.setdefault((figure.metric, figure.unit, figure.connections, figure.of), []).append(figure.value)
    return [
        {"metric": metric, "value": _rounded(statistics.median(values)), "unit": unit}
        | ({"connections": connections} if connections else {})
        | ({"of": of} if of else {})
        | {"all": [_rounded(value) for value in values]}
        for (metric, unit, connections, of), values in found.items()
    ]


def _rounded(value: float) -> float:
    return round(value) if abs(value) >= 1000 else round(value, 3)
