"""The device side of HTTP: passes requests on to the gateway, which alone knows secrets and acknowledges."""

from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import quote

import httpx
import structlog
from fastapi import APIRouter, Request, Response

from dashboard_api.dependencies import Deps
from dashboard_api.problems import unavailable

router = APIRouter(tags=["device side"])
_PASSED_ON: Final = ("authorization", "content-type", "content-length", "content-encoding")
_GIVEN_BACK: Final = ("content-type", "retry-after", "www-authenticate", "cache-control")
_log = structlog.get_logger(__name__)


class _Body(httpx.AsyncByteStream):
    """A request's body as it comes."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._request.stream():
            yield part


@router.post("/v1/devices/{device}/readings", status_code=202)
async def readings(deps: Deps, request: Request, device: str) -> Response:
    """Accept payloads of a device, with Basic authentication by device id and secret. `adapter` and `kind` are in the
    query. The body is one payload, or one per line as `application/x-ndjson`. 202 `{"received": n}` once all are
    durable."""
    if deps.device_side is None:
        return unavailable()
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    if "content-length" not in headers:
        headers["transfer-encoding"] = "chunked"
    headers["x-forwarded-for"] = request.client.host if request.client is not None else ""
    query = request.scope["query_string"].decode("latin-1")
    target = f"http://gateway/v1/devices/{quote(device, safe='')}/readings?{query}"
    onward = httpx.Request("POST", target, headers=headers | {"host": "gateway"}, stream=_Body(request))
    onward.extensions["timeout"] = httpx.Timeout(60.0).as_dict()
    try:
        answer = await deps.device_side.handle_async_request(onward)
        body = await answer.aread()
        await answer.aclose()
    except httpx.TransportError as error:
        _log.warning("device_side_unavailable", error=type(error).__name__)
        return unavailable()
    return Response(body, answer.status_code, _back(answer.headers))


def _back(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _GIVEN_BACK if name in headers}
