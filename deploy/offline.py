"""The API over a data directory that nothing runs on, for commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from starlette.types import ASGIApp

from alerts.glucose_report import glucose_report
from alerts.service import ControlDesk
from dashboard_api.app import create_app
from dashboard_api.auth import local_admin
from dashboard_api.dependencies import Dependencies
from deploy.backtest_desk import BacktestDesk
from deploy.layout import Layout
from deploy.settings import Settings
from deploy.wiring import CLOCK, Core, open_core, prepare
from ingest.adapters import load_adapters


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


def _offline(core: Core, backtests: BacktestDesk) -> Dependencies:
    """No loops run; ``replay`` of quarantine works on the spot."""
    return Dependencies(
        registry=core.registry, identities=core.identities, store=core.store, ingest=core.ingest, book=core.book,
        controls=ControlDesk(core.log, core.book), log=core.log, auth=core.tokens, clock=CLOCK,
        readiness=lambda: ["not_running"], metrics=str, system=dict, adapters=tuple(load_adapters()),
        parse_limits=list, glucose_report=partial(glucose_report, core.store), backtests=backtests,
    )  # fmt: skip
