"""A process that the contract suites kill or starve: ``python victim.py MODE PATH``. One JSON document per line."""

import itertools
import json
import resource
import sys
from pathlib import Path
from typing import Any

from tests.support import FakeClock
from vitals.errors import BackendError
from vitals.glossary import Flag
from vitals.log.local import LocalLog
from vitals.model import VitalBatch, batch_from_rows
from vitals.ports import Log, Store
from vitals.store.duckdb import DuckDBStore

ROWS = 50
SECOND_NS = 1_000_000_000
_HEADROOM = 1_000_000


def open_log(path: Path) -> Log:
    return LocalLog(path, FakeClock())


def open_store(path: Path) -> Store:
    return DuckDBStore(path, memory_mb=128, threads=1)


def body(number: int) -> bytes:
    """What append ``number`` holds: large enough to touch several pages."""
    return b"%d:" % number + b"x" * 9_000


def batch(number: int) -> VitalBatch:
    """Write ``number``: 50 readings of two devices, two of them revisions of earlier ones."""
    rows = [
        {
            "device": f"d{row % 2}", "patient": f"p_{row % 5}", "vital": 1, "seq": row,
            "time_ns": (number * ROWS + row) * SECOND_NS, "value": float(number), "context": {"write": number},
        }
        for row in range(ROWS)
    ]  # fmt: skip
    for row in rows[:2]:
        row.update(flags=int(Flag.REVISION), time_ns=(max(0, number - 1) * ROWS + row["seq"]) * SECOND_NS)
    return batch_from_rows(rows)


def say(document: Any) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201 - the parent reads it


def append_forever(path: Path) -> None:
    log = open_log(path)
    for number in itertools.count(log.end()):
        say(log.append([("a", body(number)), ("b", b"%d" % number)]))


def write_forever(path: Path) -> None:
    store = open_store(path)
    for number in itertools.count(store.position()):
        store.write([batch(number)], expected=number, position=number + 1)
        say(number + 1)


def limit_files(size: int) -> None:
    """No file of this process may grow beyond ``size`` bytes: writing fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def append_until_full(path: Path) -> None:
    log = open_log(path)
    limit_files(_HEADROOM)
    try:
        for number in itertools.count():
            before = log.end()
            log.append([("a", body(number)), ("b", b"%d" % number)])
    except BackendError as error:
        full = {"retryable": error.retryable, "before": before, "after": log.end(), "number": number}
    limit_files(resource.RLIM_INFINITY)
    say(full | {"later": log.append([("a", body(number)), ("b", b"%d" % number)])})


def write_until_full(path: Path) -> None:
    store = open_store(path)
    limit_files(_HEADROOM)
    try:
        for number in itertools.count(store.position()):
            store.write([batch(number)], expected=number, position=number + 1)
    except BackendError as error:
        full = {"retryable": error.retryable, "number": number, "error": str(error)}
    limit_files(resource.RLIM_INFINITY)
    say(full)
    store.write([batch(number)], expected=number, position=number + 1)
    say({"position": store.position(), "rows": store.rows(), "stored": dict(store.stored())})


MODES = {
    "append": append_forever,
    "write": write_forever,
    "append-full": append_until_full,
    "write-full": write_until_full,
}

if __name__ == "__main__":
    MODES[sys.argv[1]](Path(sys.argv[2]))
