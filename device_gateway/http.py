"""HTTP ingest (CONTRACTS, HTTP, device side): the same path into the log as MQTT, with the same promise.

``POST /v1/devices/{device}/readings?adapter=A&kind=K`` with Basic device:secret. 202 leaves after the durable append.
It is served on a private Unix socket; the API's process passes requests on and names the caller's address in
``X-Forwarded-For``, which nobody else can reach this socket to forge.
"""

import asyncio
import base64
import binascii
import math
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import uvicorn

from device_gateway import topics
from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.intake import Intake
from vitals.errors import BackendError
from vitals.model import Message

NDJSON: Final = "application/x-ndjson"
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_PATH: Final = re.compile(rf"/v1/devices/({topics.NAME.pattern})/readings")
_RETRY_S: Final = 2
_THROTTLED_S: Final = 60
_CHALLENGE: Final = MappingProxyType({"WWW-Authenticate": 'Basic realm="vitalgate", charset="UTF-8"'})


class Refused(Exception):
    """The request is answered with ``status``; ``headers`` go with it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.headers = status, dict(headers or {})


class _Gone(Exception):
    """The caller hung up before its request was complete."""


_REFUSALS: Final[Mapping[SignIn, tuple[int, str, Mapping[str, str]]]] = MappingProxyType(
    {
        SignIn.BAD_CREDENTIALS: (401, "device id and secret are needed", _CHALLENGE),
        SignIn.REVOKED: (403, "the device is revoked", {}),
        SignIn.TOO_MANY_FAILURES: (429, "too many failures", {"Retry-After": str(_THROTTLED_S)}),
        SignIn.UNAVAILABLE: (503, "the registry is away", {"Retry-After": str(_RETRY_S)}),
    }
)


class IngestApp:
    """ASGI: payloads in, 202 once they are durable."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._settings, self._batcher = intake, intake.settings, intake.batcher
        self._busy = 0

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        self._busy += 1
        try:
            status, body, headers = 202, {"received": await self._taken(scope, receive)}, {}
        except Refused as refused:
            status, headers = refused.status, refused.headers
            body = _problem(status, str(refused))
            self._intake.closed[f"http_{status}"] += 1
        except _Gone:
            return
        finally:
            self._busy -= 1
        data = msgspec.json.encode(body)
        kind = "application/json" if status == 202 else "application/problem+json"
        fields = {"Content-Type": kind, "Content-Length": str(len(data)), "Cache-Control": "no-store"} | headers
        encoded = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": data})

    async def _taken(self, scope: _Scope, receive: _Receive) -> int:
        """How many messages of the request are durable now; raises ``Refused``."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        match = _PATH.fullmatch(scope["path"])
        if match is None:
            raise Refused(404, "no such resource")
        if scope["method"] != "POST":
            raise Refused(405, "POST only", {"Allow": "POST"})
        if self._busy > self._settings.http_connections:
            raise _unavailable("too many requests at a time")
        user = await self._caller(headers)
        route = self._route(match[1], user, scope["query_string"])
        self._check_room(user)
        body = await self._body(headers, receive)
        payloads = list(_lines(body)) if _media_type(headers) == NDJSON else [body]
        if any(len(payload) > self._settings.max_packet for payload in payloads):
            raise Refused(413, f"a payload is over {self._settings.max_packet} bytes")
        await self._append(user, route, payloads)
        return len(payloads)

    async def _caller(self, headers: Mapping[str, str]) -> str:
        user, secret = _basic(headers.get("authorization", ""))
        outcome = await self._intake.access.authenticate(user, secret, headers.get("x-forwarded-for", ""))
        if outcome is SignIn.ALLOWED:
            return user
        self._intake.signed_in(outcome)
        raise Refused(*_REFUSALS[outcome])

    def _route(self, device: str, user: str, query: bytes) -> topics.Route:
        try:
            allowed = device == user or self._intake.access.may_publish(user, device)
        except BackendError as error:
            raise _unavailable("the registry is away") from error
        if not allowed:
            raise Refused(403, "not this device's readings")
        asked = parse_qs(query.decode("latin-1"))
        names = [device, *asked.get("adapter", [""])[:1], *asked.get("kind", [])[:1]]
        route = topics.parse("/".join(["vitals", *names]))
        # A slash in a name would make it two.
        if route is None or route.adapter == topics.STATUS or list(route) != [*names, ""][:3]:
            raise Refused(422, "adapter and kind: letters, digits, _ . : -")
        return route

    def _check_room(self, user: str) -> None:
        if self._batcher.blocked or self._batcher.pressed:
            raise _unavailable("the log cannot take more now")
        over_s = self._intake.meter(user).over_s(self._intake.loop.time())
        if over_s:
            self._intake.rate_pauses += 1
            raise Refused(429, "over the device's rate", {"Retry-After": str(math.ceil(over_s))})

    async def _body(self, headers: Mapping[str, str], receive: _Receive) -> bytes:
        limit = self._settings.http_max_body
        too_large = Refused(413, f"a body is at most {limit} bytes")
        if headers.get("content-encoding", "identity") != "identity":
            raise Refused(415, "no content encoding is taken")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise too_large
        data = bytearray()
        try:
            async with asyncio.timeout(self._settings.packet_timeout_s):
                more = True
                while more:
                    part = await receive()
                    if part["type"] == "http.disconnect":
                        raise _Gone
                    data += part.get("body", b"")
                    more = part.get("more_body", False)
                    if len(data) > limit:
                        raise too_large
        except TimeoutError as error:
            raise Refused(408, "the body did not come in time") from error
        return bytes(data)

    async def _append(self, user: str, route: topics.Route, payloads: list[bytes]) -> None:
        now_ns = self._intake.clock.now_ns()
        messages = [Message(route.device, route.adapter, route.kind, now_ns, payload) for payload in payloads]
        durable = self._intake.take(user, [Accept(message) for message in messages])
        try:
            async with asyncio.timeout(self._settings.write_timeout_s):
                await durable.wait()
        except TimeoutError as error:
            raise _unavailable("the log cannot be written") from error


def _unavailable(detail: str) -> Refused:
    return Refused(503, detail, {"Retry-After": str(_RETRY_S)})


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def _basic(authorization: str) -> tuple[str, bytes]:
    """User and password (RFC 7617); empty when there are none."""
    scheme, _, coded = authorization.partition(" ")
    try:
        # From the right: a device id may hold colons, a secret never does.
        user, _, secret = base64.b64decode(coded.strip(), validate=True).rpartition(b":")
        return (user.decode("ascii"), secret) if scheme.lower() == "basic" else ("", b"")
    except (binascii.Error, UnicodeDecodeError):
        return "", b""


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _lines(body: bytes) -> Iterator[bytes]:
    for line in body.split(b"\n"):
        if payload := line.strip(b" \t\r"):
            yield payload


class _HttpServer(uvicorn.Server):
    """Signals are the process's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serve_http(intake: Intake, path: Path | None) -> AsyncIterator[None]:
    """Serve HTTP ingest on a Unix socket at ``path`` for its owner alone; nothing when it is None."""
    if path is None:
        yield
        return
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(os.fspath(path))
        path.chmod(0o600)
        sock.listen(64)
        config = uvicorn.Config(
            IngestApp(intake), log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        http = _HttpServer(config)
        serving = asyncio.create_task(http.serve(sockets=[sock]), name="http-ingest")
        try:
            yield
        finally:
            http.should_exit = True
            await serving
            path.unlink(missing_ok=True)
