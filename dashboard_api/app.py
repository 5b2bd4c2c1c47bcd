"""The application: routes, errors, the gate, and the thread behind the live stream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware

from dashboard_api.auth.access import AuthMiddleware
from dashboard_api.auth.session import SessionGate, Sessions
from dashboard_api.dependencies import Dependencies
from dashboard_api.live import LiveView, StreamHub
from dashboard_api.pages import ROOT, PageFiles, SecurityHeaders
from dashboard_api.pages import router as pages
from dashboard_api.problems import BodyLimit, LastResort, install
from dashboard_api.routes import (
    alerts,
    backtests,
    device_side,
    devices,
    patients,
    programmes,
    quarantine,
    readings,
    reports,
    system,
)

API = "/api/v1"
DESCRIPTION = "Patients, devices, readings and alerts of one organisation. Errors are application/problem+json."


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: StreamHub = app.state.hub
    await run_in_threadpool(hub.start)
    yield
    await run_in_threadpool(hub.close)


def create_app(deps: Dependencies) -> FastAPI:
    """The ASGI application over ``deps``, which stay the caller's to close.

    ``app.state.hub`` is the live stream: call its ``close()`` when the server begins to stop, else open streams hold
    it up. Serve ``dashboard_api.auth.access.local_admin(app)`` on the control socket.
    """
    app = FastAPI(
        title="vitalgate",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.deps = deps
    app.state.live = LiveView(deps.store, deps.log, deps.book)
    app.state.hub = StreamHub(deps.log, deps.book, app.state.live)
    app.state.sessions = Sessions(deps.auth)
    install(app)
    for module in (patients, programmes, readings, reports, devices, alerts, backtests, quarantine, system):
        app.include_router(module.router, prefix=API)
    app.include_router(system.beside)
    app.include_router(device_side.router)
    app.include_router(pages)
    app.mount("/static", GZipMiddleware(PageFiles(directory=ROOT)))
    app.add_middleware(BodyLimit)
    app.add_middleware(AuthMiddleware, auth=deps.auth)
    app.add_middleware(SessionGate, sessions=app.state.sessions)
    app.add_middleware(LastResort)
    app.add_middleware(SecurityHeaders)
    return app
