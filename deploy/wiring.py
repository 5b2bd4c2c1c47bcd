"""The one place that names concrete backends: ports to classes, for gateway, core, and commands without a core."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.layout import Layout
from vitals.log.local import LocalLog
from vitals.ports import PatientCheck, Registry, Store
from vitals.steady import SteadyClock
from vitals.vault import IdentityVault, Vault

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from alerts.book.sql import SqlAlertBook
    from dashboard_api.auth.access import TokenAuth
    from deploy.settings import Settings
    from ingest.journal.identities import Journal
    from ingest.metrics import IngestMetrics
    from ingest.service import IngestService
    from ingest.writer import StoreWriter
    from vitals.registry.sql import SqlRegistry
    from vitals.store.duckdb import DuckDBStore

# What only the core needs is imported where it is opened: it would cost supervisor and gateway 100 MB each. To open an
# empty journal needs no settings.


CLOCK = SteadyClock()
"""The machine's clock, without its steps until they have settled."""


def open_vault(layout: Layout, settings: "Settings") -> Vault:
    """The vault, its key created at first use; raises ``ConfigError``."""
    return Vault.open(Path(settings.vault.key_file) if settings.vault.key_file else layout.key)


def open_registry(layout: Layout) -> "SqlRegistry":
    """The registry in its own file, shared by gateway and core."""
    from vitals.registry.sql import SqlRegistry  # noqa: PLC0415 - SQLAlchemy, which the trial of an adapter needs not

    return SqlRegistry(layout.registry, CLOCK)


def open_raw_log(layout: Layout, vault: Vault, *, read_only: bool) -> LocalLog:
    """The raw log with the tables of the gateway's sessions in it."""
    from device_gateway.sessions import SCHEMA  # noqa: PLC0415 - see above

    schema = "" if read_only else SCHEMA
    return LocalLog(layout.raw, CLOCK, sealer=vault.zone("raw"), read_only=read_only, schema=schema)


def open_store(path: Path, settings: "Settings") -> "DuckDBStore":
    """The embedded store in its own file."""
    from vitals.store.duckdb import DuckDBStore  # noqa: PLC0415 - see above

    return DuckDBStore(path, memory_mb=settings.store.memory_mb, threads=settings.store.threads)


def prepare(layout: Layout, settings: "Settings") -> None:
    """Create what is missing in a data directory, before any process needs it; raises ``ConfigError``."""
    layout.create()
    vault = open_vault(layout, settings)
    open_raw_log(layout, vault, read_only=False).close()
    open_registry(layout).close()


@dataclass(slots=True)
class Core:
    """Everything of the core process but its threads and its web server."""

    layout: Layout
    settings: "Settings"
    registry: "SqlRegistry"
    identities: IdentityVault
    tokens: "TokenAuth"
    raw: LocalLog
    log: LocalLog
    store: "DuckDBStore"
    book: "SqlAlertBook"
    journal: "Journal"
    ingest: "IngestService"
    writer: "StoreWriter"
    meters: "CollectorRegistry"
    closers: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """Close the opened backends, in reverse order."""
        for close in reversed(self.closers):
            close()


def open_core(layout: Layout, settings: "Settings") -> Core:
    """Open every backend of the core. The caller holds the core's lock."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - see above

    from alerts.book.sql import SqlAlertBook  # noqa: PLC0415
    from dashboard_api.auth.access import TokenAuth  # noqa: PLC0415
    from ingest.journal.identities import SCHEMA as JOURNAL_SCHEMA  # noqa: PLC0415
    from ingest.journal.identities import Journal  # noqa: PLC0415
    from ingest.metrics import IngestMetrics  # noqa: PLC0415
    from ingest.writer import StoreWriter  # noqa: PLC0415
    from vitals.record_numbers import RecordNumbers  # noqa: PLC0415

    given = {device: {"code_map": text} for device, text in settings.hl7.code_maps().items()}
    vault = open_vault(layout, settings)
    meters = CollectorRegistry()
    metrics = IngestMetrics(meters)
    registry = open_registry(layout)
    identities = IdentityVault(layout.identities, vault.zone("identities"))
    tokens = TokenAuth(layout.tokens, CLOCK)
    raw = open_raw_log(layout, vault, read_only=True)
    log = LocalLog(layout.vitals, CLOCK, schema=JOURNAL_SCHEMA)
    store = open_store(layout.store, settings)
    book = SqlAlertBook(f"sqlite:///{layout.alerts}")
    journal = Journal(log, vault.zone("quarantine"))
    ingest = open_ingest(raw, journal, registry, metrics, store, RecordNumbers(identities), given)
    writer = StoreWriter(log, store, CLOCK, metrics)
    closers = [registry.close, identities.close, tokens.close, raw.close, log.close, book.close, store.close]
    return Core(
        layout, settings, registry, identities, tokens, raw, log, store, book, journal, ingest, writer, meters, closers
    )


def open_journal(folder: Path) -> "Journal":
    """An empty ingest journal in a separate folder; the caller closes its log."""
    from ingest.journal.identities import SCHEMA as JOURNAL_SCHEMA  # noqa: PLC0415 - see above
    from ingest.journal.identities import Journal  # noqa: PLC0415

    log = LocalLog(folder / "vitals.db", CLOCK, schema=JOURNAL_SCHEMA)
    return Journal(log, Vault.open(folder / "vault.key").zone("quarantine"))


def open_ingest(
    raw: LocalLog,
    journal: "Journal",
    registry: Registry,
    metrics: "IngestMetrics",
    store: Store,
    patients: PatientCheck,
    given: Mapping[str, Mapping[str, str]] | None = None,
) -> "IngestService":
    """Ingest over an open raw log and journal."""
    from ingest.adapters import load_adapters  # noqa: PLC0415 - see above
    from ingest.service import IngestService  # noqa: PLC0415

    def received() -> dict[str, int]:
        return {token: int(count) for token, count in raw.query("SELECT device, n FROM received")}

    return IngestService(raw, journal, registry, load_adapters(), CLOCK, metrics, received, store, given, patients)
