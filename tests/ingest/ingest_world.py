"""Ingest as it runs in a core: real logs, registry, store and adapters in a directory, fed as the gateway feeds it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from device_gateway.sessions import RECEIVED
from device_gateway.sessions import SCHEMA as SESSIONS_SCHEMA
from ingest.adapter import Adapter
from ingest.adapters import load_adapters
from ingest.journal.identities import SCHEMA as JOURNAL_SCHEMA
from ingest.journal.identities import Journal
from ingest.metrics import IngestMetrics
from ingest.service import IngestService
from ingest.writer import StoreWriter
from tests.support import SECOND, FakeClock
from vitals import encoding
from vitals.catalog import BY_CODE
from vitals.glossary import Basis, EventKind, Flag
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent, Entry, Heartbeat, Message, VitalBatch
from vitals.record_numbers import RecordNumbers
from vitals.registry.sql import SqlRegistry
from vitals.store.duckdb import DuckDBStore
from vitals.vault import Identity, IdentityVault, Vault

MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
MS = 1_000_000


def reading(vital: str, value: float | str, unit: str, time: int | str, seq: int | None = None) -> dict[str, Any]:
    """A reading of the ``json`` adapter; an int is nanoseconds."""
    item = {"vital": vital, "value": value, "unit": unit, "time": time // MS if isinstance(time, int) else time}
    return item if seq is None else item | {"seq": seq}


def spo2(value: float, time: int | str, seq: int | None = None) -> bytes:
    """A whole ``json`` payload with one SpO2."""
    return json.dumps(reading("spo2", value, "%", time, seq)).encode()


def rows_of(batch: VitalBatch) -> list[dict[str, Any]]:
    """Rows with words for numbers."""
    return [
        {
            "device": batch.devices[batch.device[row]],
            "patient": batch.patients[batch.patient[row]] if batch.patient[row] >= 0 else None,
            "vital": BY_CODE[int(batch.vital[row])].key,
            "value": float(batch.value[row]),
            "source_time_ns": int(batch.source_time_ns[row]),
            "seq": int(batch.seq[row]),
            "time_ns": int(batch.time_ns[row]),
            "tz_min": int(batch.tz_min[row]),
            "basis": Basis(int(batch.basis[row])),
            "flags": Flag(int(batch.flags[row])),
            "message": int(batch.message[row]),
            "received_ns": int(batch.received_ns[row]),
            "context": dict(batch.context.get(row, {})),
            "adapter": batch.provenance.adapter,
        }
        for row in range(len(batch))
    ]


class World:
    """One data directory. ``service`` and ``writer`` are stepped by the test."""

    def __init__(
        self, path: Path, *, adapters: Mapping[str, Adapter] | None = None, clock: FakeClock | None = None
    ) -> None:
        self.path = path
        self.clock = clock or FakeClock()
        self.adapters = {**load_adapters(), **(adapters or {})}
        self.vault = Vault.open(path / "vault.key")
        self.registry = SqlRegistry(path / "registry.db", self.clock)
        self.raw = LocalLog(path / "raw.db", self.clock, sealer=self.vault.zone("raw"), schema=SESSIONS_SCHEMA)
        self.open()

    def open(self) -> None:
        """What a core opens."""
        self.log = LocalLog(self.path / "vitals.db", self.clock, schema=JOURNAL_SCHEMA)
        self.store = DuckDBStore(self.path / "store.duckdb", memory_mb=128, threads=1)
        self.journal = Journal(self.log, self.vault.zone("quarantine"))
        self.identities = IdentityVault(self.path / "identities.db", self.vault.zone("identities"))
        self.meters = CollectorRegistry()
        metrics = IngestMetrics(self.meters)
        self.service = IngestService(
            self.raw, self.journal, self.registry, self.adapters, self.clock, metrics, self._received, self.store,
            patients=RecordNumbers(self.identities, self.vault.digest_key("record_numbers")),
        )  # fmt: skip
        self.writer = StoreWriter(self.log, self.store, self.clock, metrics)

    def _received(self) -> dict[str, int]:
        return dict(self.raw.query("SELECT device, n FROM received"))

    def close_core(self) -> None:
        self.log.close()
        self.store.close()
        self.identities.close()

    def restart(self) -> None:
        """The core ends and starts again."""
        self.close_core()
        self.open()

    def close(self) -> None:
        self.close_core()
        self.raw.close()
        self.registry.close()

    # The registry

    def device(self, name: str, adapter: str = "json", *, zone: str | None = None) -> str:
        return self.registry.enrol(adapter, device=name, zone=zone)[0].id

    def worn(self, name: str, adapter: str = "json", *, zone: str | None = "Europe/Berlin") -> str:
        """A device that one patient always wore; the patient."""
        self.device(name, adapter)
        patient = self.registry.add_patient(zone=zone).id
        self.registry.assign(name, patient, from_ns=None, to_ns=None)
        return patient

    def known_as(self, patient: str, record_number: str | None) -> None:
        """Give a patient a name and a record number."""
        self.identities.put(patient, Identity("Jane Doe", mrn=record_number))

    # The gateway

    def message(self, device: str, payload: bytes, adapter: str = "json", kind: str = "", **more: Any) -> Message:
        return Message(device, adapter, kind, more.pop("received_ns", self.clock.now_ns()), payload, **more)

    def send(self, *messages: Message) -> int:
        """One group commit: a row per adapter, and the received counts. The last position."""
        by_adapter: dict[str, list[Message]] = {}
        for message in messages:
            by_adapter.setdefault(message.adapter, []).append(message)
        with self.raw.transaction() as tx:
            for adapter, group in by_adapter.items():
                tx.append(f"raw/{adapter}", encoding.encode(group))
            tx.connection.executemany(RECEIVED, Counter(message.device for message in messages).items())
        return self.raw.end()

    def heartbeat(self) -> None:
        self.raw.append([("heartbeat", encoding.encode(Heartbeat(self.clock.now_ns())))])

    def presence(self, device: str, *, online: bool) -> None:
        kind = EventKind.ONLINE if online else EventKind.OFFLINE
        self.raw.append([("presence", encoding.encode([DeviceEvent(device, kind, self.clock.now_ns())]))])

    # What came out

    def drain(self) -> None:
        """Ingest and store everything, with both ledgers checked after every step."""
        self.check()
        while self.service.step():
            self.check()
        while self.writer.step():
            self.check()

    def stored_all(self) -> bool:
        """Whether threads that ingest and store have nothing left to do."""
        return self.service.position == self.raw.end() and self.writer.position == self.log.end()

    def entries(self) -> list[Entry]:
        return [encoding.decode(row.body) for row in self.log.read(0, limit=1_000_000)]

    def rows(self) -> list[dict[str, Any]]:
        """Every reading in the vitals log."""
        return [row for entry in self.entries() if isinstance(entry, VitalBatch) for row in rows_of(entry)]

    def waiting(self) -> list[dict[str, Any]]:
        """Every reading on the unassigned worklist, with its reason."""
        found = []
        for reason, body in self.log.query("SELECT reason, body FROM unassigned ORDER BY id"):
            batch = encoding.decode(body)
            assert isinstance(batch, VitalBatch)
            found += [row | {"reason": reason} for row in rows_of(batch)]
        return found

    def events(self) -> list[DeviceEvent]:
        return [event for entry in self.entries() if isinstance(entry, list) for event in entry]  # type: ignore[misc]

    def messages(self, after: int = 0) -> Iterable[Message]:
        """Messages in the raw log."""
        for row in self.raw.read(after, limit=1_000_000):
            entry = encoding.decode(row.body)
            if isinstance(entry, list) and isinstance(entry[0], Message):
                yield from entry  # type: ignore[misc]

    def check(self) -> None:
        """Conservation, against counts made from the logs themselves."""
        received = Counter(message.device for message in self.messages())
        in_flight = Counter(message.device for message in self.messages(self.service.position))
        unstored: Counter[str] = Counter()
        for row in self.log.read(self.store.position(), limit=1_000_000):
            entry = encoding.decode(row.body)
            if isinstance(entry, VitalBatch):
                unstored.update(r["device"] for r in rows_of(entry) if Flag.REVISION not in r["flags"])
        for ledger in self.service.ledgers():
            messages, readings = ledger.messages, ledger.readings
            assert messages.received == received[ledger.device]
            assert messages.in_flight == in_flight[ledger.device], ledger
            settled = messages.decoded + messages.duplicate + messages.quarantined
            assert messages.received == settled + messages.in_flight
            assert readings.in_flight == unstored[ledger.device], ledger
            kept = readings.stored + readings.duplicate + readings.revision + readings.unassigned
            assert readings.emitted == kept + readings.in_flight
            assert min(readings.in_flight, messages.in_flight) >= 0
