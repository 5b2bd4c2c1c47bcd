"""A core that only ingests, to be killed: ``python ingest_process.py DIR``.

Each line on stdin is a number of raw entries per cycle: a worker is forked that ingests for ever, and its process id
goes to stdout; once it is dead, ``done``. Forking from a process that has nothing open spares the imports.
"""

import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from ingest import service
from ingest.adapters import load_adapters
from ingest.journal.identities import SCHEMA, Journal
from ingest.metrics import IngestMetrics
from tests.support import FakeClock
from vitals.log.local import LocalLog
from vitals.registry.sql import SqlRegistry
from vitals.store.duckdb import DuckDBStore
from vitals.vault import Vault


def ingest_forever(path: Path) -> None:
    clock, vault = FakeClock(), Vault.open(path / "vault.key")
    raw = LocalLog(path / "raw.db", clock, sealer=vault.zone("raw"), read_only=True)
    journal = Journal(LocalLog(path / "vitals.db", clock, schema=SCHEMA), vault.zone("quarantine"))
    worker = service.IngestService(
        raw, journal, SqlRegistry(path / "registry.db", clock), load_adapters(), clock,
        IngestMetrics(CollectorRegistry()), dict, DuckDBStore(Path(":memory:"), threads=1),
    )  # fmt: skip
    while True:
        worker.step(1.0)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            service.ROWS_PER_CYCLE = int(line)
            ingest_forever(Path(sys.argv[1]))
        print(child, flush=True)  # noqa: T201 - the parent reads it
        os.waitpid(child, 0)
        print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
