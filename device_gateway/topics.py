"""Topics of the ingest endpoint (CONTRACTS, MQTT)."""

import re
from types import MappingProxyType
from typing import Final, NamedTuple

from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Message

STATUS: Final = "status"
NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""Device ids and kinds."""
_INGEST = re.compile(rf"vitals/({NAME.pattern})/([a-z0-9_]{{1,32}})(?:/({NAME.pattern}))?")
_PRESENCE: Final = MappingProxyType({b"online": EventKind.ONLINE, b"offline": EventKind.OFFLINE})


class Route(NamedTuple):
    """Where a publish goes: the device that it speaks for, the adapter (or ``status``), the kind of payload."""

    device: str
    adapter: str
    kind: str


def parse(topic: str) -> Route | None:
    """The route of ``vitals/{device}/{adapter}[/{kind}]``, None for any other topic."""
    match = _INGEST.fullmatch(topic)
    return Route(match[1], match[2], match[3] or "") if match else None


def status_topic(device: str) -> str:
    """Where a device's presence is published."""
    return f"vitals/{device}/{STATUS}"


def command_topic(device: str) -> str:
    """The only topic that a device may subscribe to."""
    return f"commands/{device}"


def presence_or_message(route: Route, payload: bytes, now_ns: int) -> DeviceEvent | Message:
    """``online`` and ``offline`` on a status topic are presence. Anything else there is a message like any other: no
    adapter has that name, so that ingest quarantines it where people see it."""
    kind = _PRESENCE.get(payload) if route.adapter == STATUS and not route.kind else None
    if kind is not None:
        return DeviceEvent(route.device, kind, now_ns, STATUS)
    return Message(route.device, route.adapter, route.kind, now_ns, payload)
