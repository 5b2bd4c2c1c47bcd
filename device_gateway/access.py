"""Sign-in and permission to publish: the registry's answers, cached for a short time."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Final

import structlog

from device_gateway import topics
from vitals.errors import BackendError, NotFound
from vitals.ports import DeviceRegistry
from vitals.records import Device

_WINDOW_S: Final = 60.0
_FAILURES_LIMIT: Final = 10_000
_log = structlog.get_logger(__name__)


class SignIn(Enum):
    """Outcome of a sign-in; the value is the word in metrics."""

    ALLOWED = "allowed"
    BAD_CREDENTIALS = "bad_credentials"
    REVOKED = "revoked"
    TOO_MANY_FAILURES = "too_many_failures"
    UNAVAILABLE = "registry_unavailable"


class Access:
    """The registry as the gateway asks it. The registry works on a thread of its own, so that a slow one never holds up
    the loop; only the first publish for a child of a hub asks on the loop."""

    def __init__(
        self, registry: DeviceRegistry, failures_per_minute: int, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry, self._limit, self._monotonic = registry, failures_per_minute, monotonic
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        self._failures: dict[tuple[str, str], list[float]] = {}
        self._children: dict[tuple[str, str], bool] = {}
        self._version: int | None = None
        self.available = True

    async def authenticate(self, device: str, secret: bytes, peer: str, certified: str = "") -> SignIn:
        """Check a sign-in from address ``peer``, by secret or by the device that a certificate names. Never raises: a
        registry that is down is a decision too."""
        if not topics.NAME.fullmatch(device):
            return SignIn.BAD_CREDENTIALS
        since = self._monotonic() - _WINDOW_S
        recent = [at for at in self._failures.pop((peer, device), ()) if at > since]
        if recent:
            self._failures[peer, device] = recent
        if len(recent) >= self._limit:
            return SignIn.TOO_MANY_FAILURES
        loop = asyncio.get_running_loop()
        decision = await loop.run_in_executor(self._thread, self._decide, device, secret, certified)
        if decision in (SignIn.BAD_CREDENTIALS, SignIn.REVOKED):
            self._failures.setdefault((peer, device), []).append(self._monotonic())
            if len(self._failures) > _FAILURES_LIMIT:
                del self._failures[next(iter(self._failures))]
        return decision

    def _decide(self, device: str, secret: bytes, certified: str) -> SignIn:
        try:
            if not certified and self._registry.authenticate(device, secret):
                return SignIn.ALLOWED
            revoked = self._registry.device(device).revoked_ns is not None
        except NotFound:
            return SignIn.BAD_CREDENTIALS
        except BackendError as error:
            _log.warning("registry_unavailable", problem=str(error))
            return SignIn.UNAVAILABLE
        if certified == device and not revoked:
            return SignIn.ALLOWED
        return SignIn.REVOKED if revoked else SignIn.BAD_CREDENTIALS

    def may_publish(self, device: str, other: str) -> bool:
        """Whether ``device`` is the hub of ``other``; raises ``BackendError``."""
        known = self._children.get((device, other))
        if known is None:
            try:
                child = self._registry.device(other)
            except NotFound:
                known = False
            else:
                known = child.parent == device and child.revoked_ns is None
            self._children[device, other] = known
        return known

    async def changed(self) -> dict[str, Device] | None:
        """All devices by id when the registry changed since the last call, else None; ``available`` tells how it is.

        Answers about unknown children are forgotten at each call, so that a new child is known within one interval.
        """
        self._children = {pair: known for pair, known in self._children.items() if known}
        loop = asyncio.get_running_loop()
        try:
            version = await loop.run_in_executor(self._thread, self._registry.version)
            if version == self._version:
                devices = None
            else:
                listed = await loop.run_in_executor(self._thread, self._registry.devices)
                devices = {device.id: device for device in listed}
                self._version = version
                self._children.clear()
        except BackendError as error:
            self.available = False
            _log.warning("registry_unavailable", problem=str(error))
            return None
        self.available = True
        return devices

    def close(self) -> None:
        """End the registry's thread after what it is doing."""
        self._thread.shutdown(wait=False, cancel_futures=True)
