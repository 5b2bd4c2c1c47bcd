"""Everything behind the API, for its tests: readings go into the log, the engine and the store follow it."""

import socket
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp

from alerts.book.rulebook import Rulebook
from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine
from alerts.glucose.report import glucose_report
from alerts.rules.limits import parse_limits
from alerts.service import AlertService, ControlDesk
from dashboard_api.app import create_app
from dashboard_api.auth.access import TokenAuth
from dashboard_api.dependencies import Dependencies
from deploy.backtest.desk import BacktestDesk
from ingest.adapters import BUILT_IN, built_in
from ingest.adapters.hubs import json_schema
from ingest.journal.identities import SCHEMA, Journal
from ingest.metrics import IngestMetrics
from ingest.service import IngestService
from ingest.writer import StoreWriter
from tests.support import SECOND, FakeClock, eventually
from vitals.catalog import BY_KEY
from vitals.encoding import encode
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent, Entry, Message, Tick, VitalBatch, batch_from_rows
from vitals.registry.sql import SqlRegistry
from vitals.store.duckdb import DuckDBStore
from vitals.units import UNIT_BY_NAME
from vitals.vault import IdentityVault, Vault

START_NS = 1_700_000_000 * SECOND
"""2023-11-14T22:13:20Z, the time of the world's clock."""
PROBLEM = "application/problem+json"


class Server:
    """An application on a port of its own, as uvicorn serves it."""

    def __init__(self, app: ASGIApp) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started, what="server")
        self.client = httpx.Client(base_url=self.url, timeout=30.0)

    def close(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class Api:
    """Requests with a token."""

    def __init__(self, client: httpx.Client, token: str | None) -> None:
        self.client = client
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = self.headers | arguments.pop("headers", {})
        full = path if not path.startswith("/") else f"/api/v1{path}"
        return self.client.request(method, full, headers=headers, **arguments)

    def get(self, path: str, status: int = 200, **params: Any) -> Any:
        """JSON of a GET that answers with ``status``."""
        response = self.request("GET", path, params=params)
        assert response.status_code == status, response.text
        return response.json()

    def post(self, path: str, body: object = None, status: int = 200, method: str = "POST") -> Any:
        """JSON of a POST that answers with ``status``."""
        response = self.request(method, path, json=body)
        assert response.status_code == status, response.text
        return response.json()

    def refused(self, method: str, path: str, status: int, field: str | None = None, **arguments: Any) -> Any:
        """The problem of a request that is refused with ``status`` and, when given, names ``field``."""
        response = self.request(method, path, **arguments)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == PROBLEM
        problem = response.json()
        assert problem["status"] == status
        assert problem["title"]
        if field is not None:
            assert problem["field"] == field
        return problem


class World:
    """One machine without its gateway and supervisor."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(START_NS)
        self.reasons: list[str] = []
        vault = Vault.open(folder / "key")
        self.registry = SqlRegistry(folder / "registry.db", self.clock)
        self.auth = TokenAuth(folder / "tokens.db", self.clock)
        self.identities = IdentityVault(folder / "identities.db", vault.zone("identities"))
        self.log = LocalLog(folder / "vitals.db", self.clock, schema=SCHEMA)
        self.raw = LocalLog(folder / "raw.db", self.clock, sealer=vault.zone("raw"))
        self.store = DuckDBStore(folder / "store.duckdb")
        self.book = SqlAlertBook(f"sqlite:///{folder / 'alerts.db'}")
        self.metrics = CollectorRegistry()
        counters = IngestMetrics(self.metrics)
        self.received: dict[str, int] = {}
        self.ingest = IngestService(
            self.raw, Journal(self.log, vault.zone("quarantine")), self.registry,
            {name: built_in(name) for name in BUILT_IN}, self.clock, counters, lambda: self.received,
            self.store,
        )  # fmt: skip
        self.writer = StoreWriter(self.log, self.store, self.clock, counters)
        self.desk = ControlDesk(self.log, self.book, self.book, self.registry, applied_within_s=10.0)
        self.backtests = BacktestDesk(self.store, self.book, self.clock)
        self.deps = Dependencies(
            registry=self.registry, identities=self.identities, store=self.store, ingest=self.ingest, book=self.book,
            decisions=self.book, controls=self.desk, log=self.log, auth=self.auth, clock=self.clock,
            readiness=lambda: self.reasons, metrics=lambda: generate_latest(self.metrics).decode(),
            system=lambda: {"rates": {"messages_per_s": 0.0}},
            adapters={name: built_in(name).family for name in BUILT_IN},
            schemas={json_schema.NAME: json_schema.json_reading_schema()},
            parse_limits=lambda raw: [limit.model_dump() for limit in parse_limits(raw)],
            rulebook=Rulebook(self.book, self.clock), glucose_report=partial(glucose_report, self.store),
            backtests=self.backtests,
        )  # fmt: skip
        self.app = create_app(self.deps)
        self._stop = threading.Event()
        engine = Engine()
        engine.warm()
        service = AlertService(self.log, self.book, engine, self.clock)
        self._engine = threading.Thread(target=service.run, args=(self._stop,), daemon=True)
        self._engine.start()
        self._servers: list[Server] = []

    def stop_engine(self) -> None:
        self._stop.set()
        self._engine.join()

    def close(self) -> None:
        self._stop.set()
        self.app.state.hub.close()
        for server in self._servers:
            server.close()
        self._engine.join()
        self.backtests.close()
        for part in (self.book, self.store, self.log, self.raw, self.identities, self.auth, self.registry):
            part.close()

    def serve(self, app: ASGIApp) -> Server:
        """Serve ``app`` until the world ends."""
        self._servers.append(Server(app))
        return self._servers[-1]

    def client(self) -> httpx.Client:
        """Of the API's server, which starts with the first client."""
        return (self._servers[0] if self._servers else self.serve(self.app)).client

    def api(self, role: str | None, scope: str = "") -> Api:
        return Api(self.client(), None if role is None else self.auth.create(role, None, scope))

    def worn(self, adapter: str = "json") -> tuple[str, str]:
        """A patient and a device that they wear, always."""
        patient = self.registry.add_patient(zone="Europe/Berlin").id
        device = self.registry.enrol(adapter)[0].id
        self.registry.assign(device, patient, from_ns=None, to_ns=None)
        return patient, device

    def append(self, *entries: Entry) -> int:
        """Entries into the vitals log; the position of the last one."""
        return self.log.append([("vitals", encode(entry)) for entry in entries])[-1]

    def evaluated(self, position: int | None = None) -> None:
        """Wait until the engine has passed ``position`` (the log's end)."""
        assert self.book.wait(self.log.end() if position is None else position, 60.0)

    def stored(self) -> None:
        """Move everything from the log into the store."""
        while self.writer.step():
            pass

    def read(self, patient: str, *values: float, start_s: float = 0.0, step_s: float = 60.0, **columns: Any) -> int:
        """Readings into the log, ``step_s`` apart from ``start_s`` after the start; the position."""
        return self.append(readings(patient, values, start_s=start_s, step_s=step_s, **columns))

    def tick(self, seconds: float) -> int:
        return self.append(Tick(START_NS + int(seconds * SECOND)))

    def happened(self, *events: DeviceEvent) -> int:
        return self.append(list(events))

    def receive(
        self, device: str, payload: bytes, adapter: str = "json", kind: str = "", *, received_ns: int | None = None
    ) -> None:
        """A message through the raw log and ingest, received now or at another time."""
        self.received[device] = self.received.get(device, 0) + 1
        message = Message(device, adapter, kind, self.clock.now_ns() if received_ns is None else received_ns, payload)
        self.raw.append([(f"raw/{adapter}", encode([message]))])
        self.ingest.step()

    def limits(self, patient: str, *limits: dict[str, Any], api: Api | None = None) -> Any:
        """Set limits through the API."""
        return (api or self.api("admin")).post(f"/patients/{patient}/limits", list(limits), method="PUT")

    def alert(self, patient: str, *, severity: str = "S2", value: float = 80.0, start_s: float = 0.0) -> str:
        """Raise an alert by one reading under a limit of SpO2; its id."""
        self.limits(patient, limit(severity=severity))
        self.read(patient, value, start_s=start_s)
        self.evaluated()
        return self.book.alerts(patient=patient)[0].id


def limit(**changes: Any) -> dict[str, Any]:
    """SpO2 under 90 % is S2."""
    return {
        "vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S2", "deadband": 2.0,
        "on_delay_s": 0.0, "off_delay_s": 0.0,
    } | changes  # fmt: skip


def readings(
    patient: str | None, values: Sequence[float], *, start_s: float = 0.0, step_s: float = 60.0, vital: str = "spo2",
    device: str = "d1", **columns: Any,
) -> VitalBatch:  # fmt: skip
    rows = [
        {
            "device": device,
            "patient": patient,
            "vital": BY_KEY[vital].code,
            "time_ns": START_NS + int((start_s + number * step_s) * SECOND),
            "value": value,
            "unit": UNIT_BY_NAME[BY_KEY[vital].unit].code,
            "received_ns": START_NS + int((start_s + number * step_s + 1) * SECOND),
            "seq": number,
        }
        | columns
        for number, value in enumerate(values)
    ]
    return batch_from_rows(rows)
