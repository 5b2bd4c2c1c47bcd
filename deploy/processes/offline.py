"""The API over a data directory that nothing runs on, for commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.types import ASGIApp

from alerts.book.rulebook import Rulebook
from alerts.glucose.report import glucose_report
from alerts.programmes.decisions import change_status
from alerts.service import STREAM
from dashboard_api.app import create_app
from dashboard_api.auth.access import local_admin
from dashboard_api.dependencies import Dependencies
from deploy.backtest.desk import BacktestDesk
from deploy.layout import Layout
from deploy.settings import Settings
from deploy.wiring import CLOCK, Core, open_core, prepare
from ingest.adapters import load_adapters
from vitals.encoding import encode
from vitals.errors import BackendError
from vitals.model import Control
from vitals.records import Patient


@contextmanager
def idle_api(layout: Layout, settings: Settings) -> Iterator[ASGIApp]:
    """Take the directory's lock and open it; the API speaks to the local administrator."""
    layout.create()
    with layout.lock("owner"), layout.lock("core"):
        prepare(layout, settings)
        core = open_core(layout, settings)
        backtests = BacktestDesk(core.store, core.book, CLOCK)
        try:
            yield local_admin(create_app(_offline(core, backtests)))
        finally:
            backtests.close()
            core.close()


class _Letterbox:
    """Where decisions wait while nothing runs: the next start applies them."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def submit(self, control: Control) -> int:  # noqa: ARG002 - the port
        """Raises ``BackendError``, retryable: the engine's answer needs the pipeline to run."""
        raise BackendError("the pipeline does not run", retryable=True)

    def revise(self, control: Control, version: int | None = None) -> int:  # noqa: ARG002 - the port
        """Likewise."""
        return self.submit(control)

    def set_status(self, control: Control) -> Patient:
        """Change a status; raises ``InvalidRequest`` and ``NotFound`` before anything changed."""
        return change_status(self._core.registry, control, self._append)

    def _append(self, control: Control) -> None:
        self._core.log.append([(STREAM, encode(control))])


def _offline(core: Core, backtests: BacktestDesk) -> Dependencies:
    """No loops run; ``replay`` of quarantine works on the spot."""
    return Dependencies(
        registry=core.registry, identities=core.identities, store=core.store, ingest=core.ingest, book=core.book,
        decisions=core.book, controls=_Letterbox(core), log=core.log, auth=core.tokens, clock=CLOCK,
        readiness=lambda: ["not_running"], metrics=str, system=dict,
        adapters={name: adapter.family for name, adapter in load_adapters().items()}, schemas={}, parse_limits=list,
        rulebook=Rulebook(core.book, CLOCK), glucose_report=partial(glucose_report, core.store),
        backtests=backtests,
    )  # fmt: skip
