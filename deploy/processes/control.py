"""How a command reaches a data directory: through its owner's control socket, else by opening it under the lock.

Both ways speak the API of ``dashboard_api``, so every command is a request: one implementation of each.
"""

import http.client
import json as json_text
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urljoin

from deploy import kernels
from deploy.layout import Layout
from vitals.errors import BackendError, InvalidRequest, NotAuthorised, NotFound, VitalgateError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from deploy.settings import Settings
    from simulators.publisher import Options

TIMEOUT_S = 60.0
BASE = "/api/v1/"
BEGINNINGS: Final = ("patients", "devices", "tokens")
"""Collections whose first member begins a data directory; anything else in a folder without one is a mistyped path."""


class ApiAnswer(NamedTuple):
    """What the API said."""

    status: int
    reason: str
    body: bytes


Send = Callable[[str, str, bytes | None], ApiAnswer]
"""Sends a method, a target and a JSON body; raises ``OSError`` or ``HTTPException`` when nobody answers."""


class ApiClient:
    """Requests to the API as the local administrator."""

    def __init__(self, send: Send, *, live: bool) -> None:
        self._send = send
        self.live = live
        """Whether a running owner answers."""

    def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, str | int] | None = None
    ) -> Any:
        """The JSON answer to a path under the API or from the root; errors become the exceptions they stand for."""
        target = urljoin(BASE, quote(path)) + (f"?{urlencode(params)}" if params else "")
        try:
            answer = self._send(method, target, None if json is None else json_text.dumps(json).encode())
        except (OSError, http.client.HTTPException) as error:
            raise BackendError(f"the owner of the data directory does not answer: {error}", retryable=True) from error
        if 200 <= answer.status < 300:
            return json_text.loads(answer.body) if answer.body else None
        raise _error(answer, path)

    def all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Every item of a list route."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.request("GET", path, params=params | ({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items


def _error(answer: ApiAnswer, path: str) -> VitalgateError:
    try:
        problem = json_text.loads(answer.body)
    except ValueError:
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or answer.reason)
    match answer.status:
        case 404:
            # The API names the kind of thing, never an id that may have been mistyped into a log; the caller knows it.
            _, *ident = path.split("/")
            return NotFound(detail.removeprefix("no such "), "/".join(ident[:1]))
        case 401 | 403:
            return NotAuthorised(detail)
        case 409 | 503:
            return BackendError(detail, retryable=True)
        case 400 | 413 | 422:
            field = str(problem.get("field", "request"))
            return InvalidRequest(field, detail.removeprefix(f"{field}: "))
        case _:
            return VitalgateError(f"{answer.status}: {detail}")


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket of the file system. A client of the standard library: loading httpx takes 0.2 s."""

    def __init__(self, path: Path) -> None:
        super().__init__("local", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def ask_owner(layout: Layout) -> Iterator[ApiClient]:
    """The way to the owner that runs on a data directory; needs no settings."""

    def send(method: str, target: str, body: bytes | None) -> ApiAnswer:
        connection = _SocketConnection(layout.control)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return ApiAnswer(answer.status, answer.reason, answer.read())
        finally:
            connection.close()

    yield ApiClient(send, live=True)


def _to(app: "ASGIApp") -> Send:
    """The way to an API in this process."""
    import asyncio  # noqa: PLC0415 - a command that talks to an owner needs neither

    import httpx  # noqa: PLC0415

    async def request(method: str, target: str, body: bytes | None) -> ApiAnswer:
        headers = {"Content-Type": "application/json"} if body else {}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://local") as client:
            answer = await client.request(method, target, content=body, headers=headers)
        return ApiAnswer(answer.status_code, answer.reason_phrase, answer.content)

    return lambda *sent: asyncio.run(request(*sent))


@contextmanager
def open_control(layout: Layout, settings: "Settings") -> Iterator[ApiClient]:
    """The way into a data directory. The first patient, device or token begins one; no other request does.

    Raises:
        BackendError: another process holds the directory but its control socket does not answer.
        NotFound: by a request, when there is no data directory.
    """
    if layout.lock("owner").held():
        with ask_owner(layout) as owner:
            yield owner
        return
    with ExitStack() as opened:
        app: list[Send] = []

        def send(method: str, target: str, body: bytes | None) -> ApiAnswer:
            if not app:
                if not layout.registry.exists() and not (method == "POST" and target.removeprefix(BASE) in BEGINNINGS):
                    raise NotFound("data directory", str(layout.root))
                app.append(_to(opened.enter_context(_idle(layout, settings))))
            return app[0](method, target, body)

        yield ApiClient(send, live=False)


def _idle(layout: Layout, settings: "Settings") -> AbstractContextManager["ASGIApp"]:
    kernels.use(layout.root)
    from deploy.processes.offline import idle_api  # noqa: PLC0415 - a command that talks to an owner needs no backends

    return idle_api(layout, settings)


def options(api: ApiClient) -> "Options":
    """How to reach the gateway of a running owner."""
    from simulators.publisher import Options  # noqa: PLC0415 - an MQTT client

    host, _, port = api.request("GET", "system")["mqtt"].rpartition(":")
    return Options(host.strip("[]"), int(port), deadline_s=600.0)
