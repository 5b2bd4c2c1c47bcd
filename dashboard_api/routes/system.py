"""The live stream, the state of the system, tokens, and the routes outside of ``/api``."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from dashboard_api.auth.access import Caller, Permission, bearer, needs, permissions_of
from dashboard_api.auth.session import SESSION
from dashboard_api.dependencies import Deps, Hub
from dashboard_api.schemas import NewToken, StreamQuery, TokenEnd
from dashboard_api.shapes import answer
from vitals.errors import InvalidRequest, NotAuthorised, NotFound
from vitals.records import total
from vitals.times import rfc3339

router = APIRouter(tags=["system"])
beside = APIRouter(tags=["operations"])
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_MAX_POSITION: Final = 2**63 - 1


@router.get("/stream", **needs(Permission.STREAM_READ))
async def stream(
    request: Request,
    deps: Deps,
    hub: Hub,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Server-sent events `reading`, `alert`, `device` and `tick`. The id is the log position; `Last-Event-ID` resumes
    after it."""
    after = None if not last_event_id else _position(last_event_id)
    token, session = bearer(request.scope), request.scope.get(SESSION)

    async def allowed() -> bool:
        if session is not None:
            return await run_in_threadpool(request.app.state.sessions.check, session) is not None
        return token is None or await run_in_threadpool(deps.auth.check, token) is not None

    await run_in_threadpool(hub.start)
    return StreamingResponse(
        hub.stream(after, frozenset(query.patient), allowed),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _position(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_POSITION))):
        raise InvalidRequest("Last-Event-ID", "not a log position")
    return min(int(text), _MAX_POSITION)


@router.get("/system", **needs(Permission.SYSTEM_READ))
def system(deps: Deps) -> Response:
    """Rates, lags, ledgers, and the time up to which alerts were evaluated."""
    return answer(
        {
            **deps.system(),
            "evaluated_to": rfc3339(deps.book.evaluated_to_ns() or None),
            "ledger": msgspec.structs.asdict(total(deps.ingest.ledgers())),
        }
    )


@router.post("/tokens", status_code=201, **needs(Permission.TOKENS_WRITE))
def create_token(deps: Deps, caller: Caller, body: NewToken) -> Response:
    """Create a bearer token, shown only in this answer. It has no more permissions than the caller."""
    if not permissions_of(body.role, body.scope) <= caller.permissions:
        raise NotAuthorised("nobody grants what they do not have")
    return answer({"token": deps.auth.create(body.role, body.ttl_s, body.scope)}, 201)


@router.post("/tokens/revoke", **needs(Permission.TOKENS_WRITE))
def revoke_token(deps: Deps, body: TokenEnd) -> Response:
    """Revoke a token."""
    if not deps.auth.revoke(body.token):
        raise NotFound("token", "")
    return answer({"revoked": True})


@beside.get("/healthz")
async def healthz() -> Response:
    """Liveness: the process answers."""
    return answer({"ok": True})


@beside.get("/readyz")
def readyz(deps: Deps) -> Response:
    """Readiness: whether the process does its work, with reasons if not."""
    reasons = deps.readiness()
    return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


@beside.get("/schemas/{name}.json")
def schema(deps: Deps, name: str) -> Response:
    """A published JSON Schema: `json-reading` is that of the payloads of the `json` adapter."""
    if name not in deps.schemas:
        raise NotFound("schema", name)
    return answer(deps.schemas[name])


@beside.get("/metrics")
def metrics(deps: Deps) -> Response:
    """Metrics as Prometheus text."""
    return Response(deps.metrics(), media_type=PROMETHEUS)
