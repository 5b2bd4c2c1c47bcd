"""The core process: ingest, store writer, engine, API and control socket, each loop in its own thread."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import httpx
import structlog
import uvicorn
from starlette.types import ASGIApp

from alerts.book.rulebook import Rulebook
from alerts.engine import Engine
from alerts.glucose.report import glucose_report
from alerts.rules.limits import parse_limits
from alerts.scores.publish import ScorePublisher
from alerts.service import AlertService, ControlDesk, Observation
from dashboard_api.app import create_app
from dashboard_api.auth.access import local_admin
from dashboard_api.auth.session import Sessions
from dashboard_api.dependencies import Dependencies
from deploy.backtest.desk import BacktestDesk
from deploy.kernels import NUMBA_DIR, Compiler
from deploy.layout import Layout
from deploy.processes.order import Order
from deploy.settings import HttpSection, Settings
from deploy.watch.canary import Canary
from deploy.watch.meters import AlertMeters, CoreCollector
from deploy.watch.status import Status
from deploy.watch.watchdog import Watchdog
from deploy.wiring import CLOCK, Core, open_core, open_raw_log, open_vault
from ingest.adapters import load_adapters
from ingest.adapters.hubs import json_schema
from vitals.canary import CANARY_PATIENT
from vitals.errors import BackendError
from vitals.times import DAY_NS

_log = structlog.get_logger(__name__)
HOUSEKEEPING_S = 3600.0
INGEST = "ingest"


@dataclass(slots=True)
class Loops:
    """The threads of the core. One that dies takes the process with it: the supervisor starts it anew."""

    on_death: Callable[[], None]
    stop: threading.Event = field(default_factory=threading.Event)
    died: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, name: str, run: Callable[[threading.Event], None]) -> None:
        """Run a loop in a thread until ``stop``."""

        def guarded() -> None:
            try:
                run(self.stop)
            except Exception:  # noqa: BLE001 - whatever ends a loop ends the process
                _log.exception("loop_died", loop=name)
                self.died.append(name)
                self.on_death()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def end(self) -> None:
        """Stop all and wait for them."""
        self.stop.set()
        for thread in self.threads:
            thread.join(10.0)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the process."""

    def install_signal_handlers(self) -> None:
        """Nothing: the process's own handlers set the stop event."""


def _server(app: ASGIApp, lifespan: Literal["on", "off"], tls: HttpSection | None = None) -> uvicorn.Server:
    cert, key = (tls.tls_cert, tls.tls_key) if tls is not None else ("", "")
    return _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan=lifespan,
            timeout_graceful_shutdown=3, ssl_certfile=cert or None, ssl_keyfile=key or None,
        )
    )  # fmt: skip


def _control_socket(layout: Layout) -> socket.socket:
    """The local control socket, for the directory's owner only."""
    layout.control.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(layout.control))
    finally:
        os.umask(before)
    sock.listen(64)
    return sock


def dependencies(core: Core, status: Status, desk: ControlDesk, backtests: BacktestDesk) -> Dependencies:
    """The API's ports."""
    return Dependencies(
        registry=core.registry,
        identities=core.identities,
        store=core.store,
        ingest=core.ingest,
        book=core.book,
        decisions=core.book,
        controls=desk,
        log=core.log,
        auth=core.tokens,
        clock=CLOCK,
        readiness=status.reasons,
        metrics=status.metrics,
        system=status.system,
        adapters={name: adapter.family for name, adapter in load_adapters().items()},
        schemas={json_schema.NAME: json_schema.json_reading_schema()},
        parse_limits=lambda payload: [limit.model_dump(mode="json") for limit in parse_limits(payload)],
        rulebook=Rulebook(core.book, CLOCK),
        glucose_report=partial(glucose_report, core.store),
        backtests=backtests,
        device_side=httpx.AsyncHTTPTransport(uds=str(core.layout.ingest)),
    )


async def serve_core(order: Order, layout: Layout, config: Settings, stop: asyncio.Event) -> None:
    """Open everything, run the loops and the servers, close in order on ``stop``."""
    loop = asyncio.get_running_loop()
    core = open_core(layout, config)
    loops = Loops(on_death=lambda: _call(loop, stop.set))
    meters = AlertMeters(core.meters)
    engine = Engine()
    desk = ControlDesk(core.log, core.book, core.book, core.registry)
    watchdog = Watchdog(core.log, core.book, CLOCK, config.alerts.lag_s, turning=CLOCK.turning)
    ingest = httpx.HTTPTransport(uds=str(layout.ingest))
    canary = Canary(core.registry, desk, core.log, core.book, core.book, CLOCK, ingest, config.alerts)

    def observe(seen: Observation) -> None:
        meters.observe(seen)
        canary.observe(seen)

    alerts = AlertService(core.log, core.book, engine, CLOCK, observe=observe)
    status = Status(core, loops.died, order.http, order.mqtt, watchdog, canary)
    core.meters.register(CoreCollector(core, status))
    backtests = BacktestDesk(core.store, core.book, CLOCK)
    app = create_app(ports := dependencies(core, status, desk, backtests))
    servers = {
        _server(app, "on", config.http): socket.socket(fileno=order.listen_fd),
        _server(local_admin(app), "off"): _control_socket(layout),
    }
    serving = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers.items()]
    sampling = asyncio.create_task(status.sample())
    compiler = Compiler(Path(os.environ[NUMBA_DIR]))
    try:
        _start(loops, core)
        loops.start("alerts", partial(_judge, compiler, engine, status, alerts))
        loops.start("watchdog", status.once_warm(watchdog.run))
        loops.start("canary", status.once_warm(canary.run if config.alerts.canary else canary.retire))
        # Where nothing is to be compiled, ready means that alerts are, too.
        waits = status.unready if compiler.done else status.closed
        await _announce(order, config.http.scheme, app.state.sessions, waits, stop)
        await stop.wait()
    finally:
        sampling.cancel()
        compiler.stop()
        # Open streams hold a server up: end them first.
        await loop.run_in_executor(None, app.state.hub.close)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving, sampling, return_exceptions=True)
        if ports.device_side is not None:
            await ports.device_side.aclose()
        await loop.run_in_executor(None, backtests.close)
        await loop.run_in_executor(None, loops.end)
        core.close()
    if loops.died:
        raise SystemExit(1)


def _start(loops: Loops, core: Core) -> None:
    """The loops that need no kernels."""
    loops.start("ingest", core.ingest.run)
    loops.start("store", core.writer.run)
    loops.start("scores", ScorePublisher(core.log, core.book).run)
    loops.start("housekeeping", lambda ended: _keep_house(core, ended))


def _judge(compiler: Compiler, engine: Engine, status: Status, alerts: AlertService, stop: threading.Event) -> None:
    """The alerts loop, once the kernels are there; what comes meanwhile waits in the log."""
    compiler.run()
    if compiler.done and not stop.is_set():
        engine.warm()
        status.warm.set()
        alerts.run(stop)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(function)


async def _announce(
    order: Order, scheme: str, sessions: Sessions, unready: Callable[[], list[str]], stop: asyncio.Event
) -> None:
    """Tell the supervisor once everything, the gateway included, is ready."""
    while unready() and not stop.is_set():
        await asyncio.sleep(0.05)
    token = await asyncio.get_running_loop().run_in_executor(None, sessions.link, "admin")
    order.tell_ready(
        {
            "event": "ready",
            "http": f"{scheme}://{order.http}",
            "mqtt": f"mqtt://{order.mqtt}",
            **{
                secured: f"{secured}://{where}"
                for secured in ("mqtts", "mllp", "mllps")
                if (where := getattr(order, secured))
            },
            "sign_in": f"{scheme}://{order.http}/sign-in?token={token}",
        }
    )


def _keep_house(core: Core, stop: threading.Event) -> None:
    """Hourly: trim entries that every consumer has passed, and compact closed days."""
    while not stop.wait(HOUSEKEEPING_S):
        try:
            keep_house(core)
        except BackendError as error:
            if not error.retryable:
                raise
            _log.error("housekeeping_waits", error=str(error))


def keep_house(core: Core) -> None:
    """One round: raw entries past retention, vitals entries a day after all passed them, closed days of the store, and
    what the canary left behind."""
    now_ns = CLOCK.now_ns()
    raw = open_raw_log(core.layout, open_vault(core.layout, core.settings), read_only=False)
    try:
        raw.commit(INGEST, raw.position(INGEST), core.ingest.position)
        removed = raw.trim(now_ns - int(core.settings.log.raw_retention_days * DAY_NS))
    finally:
        raw.close()
    trimmed = core.log.trim(now_ns - DAY_NS)
    core.book.forget(CANARY_PATIENT, now_ns - DAY_NS)
    core.store.erase(CANARY_PATIENT)
    compacted = core.store.compact(now_ns // DAY_NS * DAY_NS)
    _log.info("house_kept", raw=removed, vitals=trimmed, compacted=compacted)
