"""What the API needs from the other services, as ports; wired where the services are composed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol

import httpx
from fastapi import Depends, Request

from dashboard_api.auth.access import TokenAuth
from dashboard_api.live import LiveView, StreamHub
from vitals.ports import AlertDecisions, AlertReader, Clock, Controls, IngestView, Log, Registry, Store
from vitals.records import Alert, DatedZone, Patient
from vitals.sources import DeviceFamily
from vitals.vault import Identity


class Identities(Protocol):
    """Who patient tokens stand for."""

    def put(self, patient: str, identity: Identity) -> None:
        """Store or replace; durable on return."""

    def get(self, patient: str) -> Identity | None:
        """None if there is none yet."""

    def all(self) -> dict[str, Identity]:
        """Every identity by patient token."""


class PatientRegistry(Registry, Protocol):
    """The registry with the history of statuses and zones and with short-lived secrets."""

    def statuses(self, patient: str) -> Sequence[tuple[str, int | None, int | None]]:
        """(status, from_ns, to_ns) by time; raises ``NotFound``."""

    def zones(self, patient: str) -> Sequence[DatedZone]:
        """Time zones by time; raises ``NotFound``."""

    def grant(self, device: str, ttl_s: int) -> str:
        """A second secret of a device for some seconds; raises ``NotFound``, ``InvalidRequest``."""


class BacktestOrder(NamedTuple):
    """A backtest that somebody asks for; ``against`` None is what is in force. ``measured``: each reading as if it had
    come when it was measured; ``events``: labelled onsets as (patient, time)."""

    author: str
    protocol: object
    against: object | None
    patients: tuple[str, ...]
    start_ns: int
    end_ns: int
    measured: bool
    events: tuple[tuple[str, int], ...] = ()


class Backtests(Protocol):
    """Backtests beside the pipeline, as JSON."""

    def start(self, order: BacktestOrder) -> dict[str, Any] | None:
        """Begin; None while another one runs. Raises ``InvalidRequest`` for rules that are not right."""

    def states(self) -> list[dict[str, Any]]:
        """The last few, newest first, without results."""

    def state(self, backtest: str) -> dict[str, Any]:
        """One, with its result; raises ``NotFound``."""

    def timeline(
        self, backtest: str, *, patient: str | None, match: str | None, after: int, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Its alerts by patient and time, from number ``after`` on; raises ``NotFound``."""


class RulebookView(Protocol):
    """Protocols and what they mean for a patient, in words. Documents are protocols as JSON."""

    def shipped(self) -> list[dict[str, Any]]:
        """The protocols that come with the program: ``{"name", "title", "rules"}``; a rule is ``{"id", "title",
        "words", "severity"}``."""

    def protocol(self, name: str) -> dict[str, Any]:
        """One of them, with its ``document``; raises ``NotFound``."""

    def read(self, document: object) -> dict[str, Any]:
        """``{"name", "title", "rules", "document"}``; raises ``InvalidRequest`` with the path of the first wrong
        member."""

    def check(self, document: object) -> dict[str, Any]:
        """Like ``read`` for a protocol that may be adopted: a gap raises ``InvalidRequest`` too."""

    def diff(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        """What changes from one document to the other, as sentences; raises ``InvalidRequest``."""

    def watching(self, patient: Patient) -> dict[str, Any]:
        """What watches a patient now: ``{"rules": [{"id", "title", "words", "severity", "version", "source"}],
        "gated": [{"id", "title", "words", "reason", ...}]}``."""

    def rule(self, alert: Alert) -> dict[str, Any]:
        """The rule behind an alert as it was: ``{"id", "title", "words", "version", "source", "advice"}``."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Ports of the API.

    ``log`` is the vitals log. ``readiness`` gives the reasons why the process is not ready, ``metrics`` Prometheus
    text, ``system`` rates and lags. ``adapters`` are what a device may be enrolled with, by name. ``parse_limits``
    checks and completes the limits of one patient and raises ``InvalidRequest``. ``rulebook`` knows protocols and
    rules. ``schemas`` are published JSON Schemas by name.
    ``glucose_report`` is the report of a patient, who lived in these zones, over ``start_ns <= time < end_ns``.
    ``device_side`` leads to the gateway's HTTP ingest; None where no gateway runs.
    """

    registry: PatientRegistry
    identities: Identities
    store: Store
    ingest: IngestView
    book: AlertReader
    decisions: AlertDecisions
    controls: Controls
    log: Log
    auth: TokenAuth
    clock: Clock
    readiness: Callable[[], list[str]]
    metrics: Callable[[], str]
    system: Callable[[], Mapping[str, Any]]
    adapters: Mapping[str, DeviceFamily]
    schemas: Mapping[str, Mapping[str, Any]]
    parse_limits: Callable[[list[Any]], list[dict[str, Any]]]
    rulebook: RulebookView
    glucose_report: Callable[[Patient, Sequence[DatedZone], int, int], dict[str, Any]]
    backtests: Backtests
    device_side: httpx.AsyncBaseTransport | None = None


def _deps(request: Request) -> Dependencies:
    found: Dependencies = request.app.state.deps
    return found


def _hub(request: Request) -> StreamHub:
    found: StreamHub = request.app.state.hub
    return found


def _live(request: Request) -> LiveView:
    found: LiveView = request.app.state.live
    return found


Deps = Annotated[Dependencies, Depends(_deps)]
Hub = Annotated[StreamHub, Depends(_hub)]
Live = Annotated[LiveView, Depends(_live)]
