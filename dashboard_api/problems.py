"""Errors as ``application/problem+json`` (RFC 9457), at one boundary. Details never repeat what the caller sent."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from traceback import extract_tb
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard_api.shapes import to_json
from vitals.errors import BackendError, InvalidRequest, NotAuthorised, NotFound

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2
MAX_BODY: Final = 1024 * 1024
"""Bytes of a request body; more is a 413."""

_log = structlog.get_logger(__name__)


class Unauthenticated(NotAuthorised):
    """No token, or an unknown, revoked or expired one."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: object) -> Response:
    """A problem response; ``members`` extend it, such as ``field``."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail} | members
    kept = {"Cache-Control": "no-store"} | dict(headers or {})
    return Response(to_json(body), status, kept, MEDIA_TYPE)


def unauthenticated() -> Response:
    """401 with the challenge that RFC 6750 asks for."""
    return problem(401, "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"})


def unavailable() -> Response:
    """503: a backend is busy, full or away; the request may be sent again."""
    return problem(503, "a backend is busy or away", {"Retry-After": str(RETRY_AFTER_S)})


class LastResort:
    """ASGI: an error nobody expected is a 500 and a line in the log that says where, without the error's words.

    The framework's own handler raises it again for the server to print, and its words can be those of a request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await _unexpected(Request(scope), error)(scope, receive, send)


class BodyLimit:
    """ASGI: a request body ends with a 413 once it is over ``MAX_BODY``, declared or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                raise HTTPException(413)
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)


async def _not_found(_request: Request, error: Exception) -> Response:
    kind = error.kind if isinstance(error, NotFound) else "resource"
    return problem(404, f"no such {kind}")


async def _invalid(_request: Request, error: Exception) -> Response:
    field = error.field if isinstance(error, InvalidRequest) else None
    return problem(422, str(error), field=field)


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, Unauthenticated):
        return unauthenticated()
    return problem(403, str(error))


async def _backend(request: Request, error: Exception) -> Response:
    if isinstance(error, BackendError) and error.retryable:
        _log.warning("request.backend_unavailable", route=_route(request))
        return unavailable()
    return _unexpected(request, error)


async def _validation(_request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"field": _path(one["loc"]), "problem": one["msg"]} for one in found]
    first = errors[0]
    return problem(422, f"{first['field']}: {first['problem']}", field=first["field"], errors=errors)


async def _http(_request: Request, error: Exception) -> Response:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    return problem(status, HTTPStatus(status).phrase, headers)


def _unexpected(request: Request, error: Exception) -> Response:
    frame = extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    _log.error("request.failed", route=_route(request), error=type(error).__name__, where=where)
    return problem(500, "unexpected error")


def _path(location: tuple[int | str, ...]) -> str:
    # The first part says body, query or path; a fault of the whole body has nothing else.
    inner = location[1:] if location[0] != "body" or any(isinstance(part, str) for part in location[1:]) else ()
    return ".".join(str(part) for part in inner) or str(location[0])


def _route(request: Request) -> str:
    # The template, never the path: a path carries tokens of patients.
    return getattr(request.scope.get("route"), "path", "unknown")


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(NotFound, _not_found)
    app.add_exception_handler(InvalidRequest, _invalid)
    app.add_exception_handler(NotAuthorised, _refused)
    app.add_exception_handler(BackendError, _backend)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
