"""The web page: static files, signing in and out, and the tables that the page reads instead of repeating them."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard_api.auth.session import Sessions, cookie_name, cookie_of, from_page
from dashboard_api.problems import problem, unauthenticated
from dashboard_api.schemas import TokenEnd
from dashboard_api.shapes import Json, answer
from vitals.catalog import VITALS, Vital
from vitals.glossary import FLAG_MEANINGS, AlertState, Reason
from vitals.visibility import ShownIn

ROOT: Final = Path(__file__).parent / "static"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REVALIDATE: Final = {"Cache-Control": "no-cache"}
"""Names carry no version: the browser asks each time, and the ETag spares the bytes."""
PRIVATE: Final = {"Cache-Control": "no-store"}

router = APIRouter(include_in_schema=False)


class PageFiles(StaticFiles):
    """Files under ``/static``, revalidated by ETag."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        """A file, or 304 when the browser has it."""
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response


class SecurityHeaders:
    """ASGI: add security headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, headed if scope["type"] == "http" else send)


@router.get("/")
async def page() -> FileResponse:
    """The page holds no data: what it shows it asks the API for, with the session's rights."""
    return FileResponse(ROOT / "index.html", headers=REVALIDATE)


@router.get("/sign-in")
async def follow_link(request: Request, token: str = "") -> Response:
    """Exchange a one-time link for a session, and leave the token behind."""
    sessions: Sessions = request.app.state.sessions
    cookie = await run_in_threadpool(sessions.redeem, token)
    if cookie is not None:
        return _signed_in(request, RedirectResponse("/", 303, PRIVATE), cookie)
    held = cookie_of(request.scope)
    if held is not None and await run_in_threadpool(sessions.check, held, seen=True) is not None:
        return RedirectResponse("/", 303, PRIVATE)
    return FileResponse(ROOT / "refused.html", 403, PRIVATE)


@router.post("/sign-in")
async def sign_in(request: Request, body: TokenEnd) -> Response:
    """Open a session with the rights and the lifetime of an API token."""
    if not from_page(request.scope):
        return problem(403, "sign in from the page of this server")
    sessions: Sessions = request.app.state.sessions
    cookie = await run_in_threadpool(sessions.open, body.token)
    return unauthenticated() if cookie is None else _signed_in(request, Response(status_code=204), cookie)


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session of this browser."""
    if not from_page(request.scope):
        return problem(403, "sign out from the page of this server")
    held = cookie_of(request.scope)
    if held is not None:
        await run_in_threadpool(request.app.state.sessions.end, held)
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(request.scope), path="/", httponly=True, samesite="strict")
    return response


@router.get("/session")
async def session(request: Request) -> Response:
    """The signed-in caller and their permissions; empty without a session."""
    held = cookie_of(request.scope)
    sessions: Sessions = request.app.state.sessions
    who = None if held is None else await run_in_threadpool(sessions.check, held, seen=True)
    if who is None:
        return Response(status_code=204, headers=PRIVATE)
    return answer({"name": who.name, "role": who.role, "permissions": sorted(who.permissions)})


@router.get("/tables.json")
async def tables() -> Response:
    """Vital signs, flags, states and reasons: public words, no data."""
    body = {
        "vitals": {vital.key: _vital(vital) for vital in VITALS if not vital.panel},
        "flags": {(flag.name or "").lower(): meaning for flag, meaning in FLAG_MEANINGS.items()},
        "states": {state.value: state.meaning for state in AlertState},
        "places": {place.value: place.meaning for place in ShownIn},
        "reasons": {reason.value: reason.meaning for reason in Reason},
    }
    return answer(body, headers=REVALIDATE)


def _vital(vital: Vital) -> Json:
    return {
        "name": vital.name,
        "unit": vital.unit,
        "values": list(vital.values),
        "stale_s": vital.staleness_ns(vital.mode) / 1e9,
    }


def _signed_in(request: Request, response: Response, cookie: str) -> Response:
    # A session cookie: the browser forgets it at its end, the server after the idle time.
    secure = request.url.scheme == "https"
    response.set_cookie(cookie_name(request.scope), cookie, path="/", httponly=True, samesite="strict", secure=secure)
    return response
