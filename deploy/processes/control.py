"""How a command reaches a data directory: through its owner's control socket, else by opening it under the lock.

Both ways speak the API of ``dashboard_api``, so every command is a request: one implementation of each.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from deploy import kernels
from deploy.layout import Layout
from vitals.errors import BackendError, InvalidRequest, NotAuthorised, NotFound, VitalgateError

if TYPE_CHECKING:
    from deploy.settings import Settings
    from simulators.publisher import Options

TIMEOUT_S = 60.0


class ApiClient:
    """Requests to the API as the local administrator."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, live: bool) -> None:
        self._transport = transport
        self.live = live
        """Whether a running owner answers."""

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer; errors of the API become the exceptions that they stand for."""
        return asyncio.run(self._request(method, path, **options))

    async def _request(self, method: str, path: str, **options: Any) -> Any:
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://local/api/v1/", timeout=TIMEOUT_S
        ) as client:
            try:
                answer = await client.request(method, path, **options)
            except httpx.TransportError as error:
                raise BackendError(
                    f"the owner of the data directory does not answer: {error}", retryable=True
                ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _error(answer)

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


def _error(answer: httpx.Response) -> VitalgateError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    detail = str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
    match answer.status_code:
        case 404:
            # The API names the kind of thing, never an id that may have been mistyped into a log; the caller knows it.
            _, _, _, _, *ident = answer.request.url.path.split("/")
            return NotFound(detail.removeprefix("no such "), "/".join(ident[:1]))
        case 401 | 403:
            return NotAuthorised(detail)
        case 409 | 503:
            return BackendError(detail, retryable=True)
        case 400 | 413 | 422:
            field = str(problem.get("field", "request"))
            return InvalidRequest(field, detail.removeprefix(f"{field}: "))
        case _:
            return VitalgateError(f"{answer.status_code}: {detail}")


@contextmanager
def ask_owner(layout: Layout) -> Iterator[ApiClient]:
    """The way to the owner that runs on a data directory; needs no settings."""
    yield ApiClient(httpx.AsyncHTTPTransport(uds=str(layout.control)), live=True)


@contextmanager
def open_control(layout: Layout, settings: "Settings") -> Iterator[ApiClient]:
    """The way into a data directory.

    Raises:
        BackendError: another process holds the directory but its control socket does not answer.
    """
    if layout.lock("owner").held():
        with ask_owner(layout) as owner:
            yield owner
        return
    kernels.use(layout.root)
    from deploy.processes.offline import idle_api  # noqa: PLC0415 - a command that talks to an owner needs no backends

    with idle_api(layout, settings) as app:
        yield ApiClient(httpx.ASGITransport(app), live=False)


def options(api: ApiClient) -> "Options":
    """How to reach the gateway of a running owner."""
    from simulators.publisher import Options  # noqa: PLC0415 - an MQTT client

    host, _, port = api.request("GET", "system")["mqtt"].rpartition(":")
    return Options(host.strip("[]"), int(port), deadline_s=600.0)
