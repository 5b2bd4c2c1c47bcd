"""A registry in memory: what the gateway asks of one, and switches for tests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitals.errors import BackendError, NotFound
from vitals.records import Device


class MemoryRegistry:
    """Devices by id; the secret of device ``d`` is ``secret-d``. ``down`` makes every call fail."""

    def __init__(self, *devices: str, children: Mapping[str, str] | None = None) -> None:
        self.down = False
        self.calls = 0
        self._version = 1
        self._devices = {name: Device(name, "json") for name in devices}
        for child, hub in (children or {}).items():
            self._devices[child] = Device(child, "json", parent=hub)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the gateway has no business with {name}")

    def _ask(self) -> None:
        self.calls += 1
        if self.down:
            raise BackendError("registry is down", retryable=True)

    def version(self) -> int:
        self._ask()
        return self._version

    def authenticate(self, device: str, secret: bytes) -> bool:
        self._ask()
        known = self._devices.get(device)
        return known is not None and known.revoked_ns is None and secret == secret_of(device)

    def device(self, device: str) -> Device:
        self._ask()
        if device not in self._devices:
            raise NotFound("device", device)
        return self._devices[device]

    def devices(self) -> list[Device]:
        self._ask()
        return list(self._devices.values())

    def enrol_child(self, child: str, hub: str) -> None:
        self._devices[child] = Device(child, "json", parent=hub)
        self._version += 1

    def revoke(self, device: str) -> Device:
        self._devices[device] = replace(self._devices[device], revoked_ns=1)
        self._version += 1
        return self._devices[device]


def secret_of(device: str) -> bytes:
    """The secret of every test device."""
    return f"secret-{device}".encode()
