"""Topics of the ingest endpoint (CONTRACTS, MQTT)."""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, NamedTuple

from device_gateway.mqtt.packets import Code, Malformed, Publish
from vitals.errors import BackendError
from vitals.glossary import EventKind
from vitals.model import DeviceEvent, Message

STATUS: Final = "status"
NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
"""Device ids and kinds."""
_INGEST = re.compile(rf"vitals/({NAME.pattern})/([a-z0-9_]{{1,32}})(?:/({NAME.pattern}))?")
_PRESENCE: Final = MappingProxyType({b"online": EventKind.ONLINE, b"offline": EventKind.OFFLINE})
_ROUTES_LIMIT = 256


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


class Topics:
    """The topics of one connection: its aliases (MQTT 5), and where it may publish.

    ``may_publish`` takes the connection's device and the topic's device; it may raise ``BackendError``.
    """

    def __init__(self, may_publish: Callable[[str, str], bool], alias_maximum: int) -> None:
        self._may_publish, self._alias_maximum = may_publish, alias_maximum
        self._aliases: dict[int, str] = {}
        self._routes: dict[str, Route | Code] = {}

    def forget(self) -> None:
        """Check permissions to publish again."""
        self._routes.clear()

    def resolve(self, packet: Publish) -> str:
        """The topic of a PUBLISH, its alias resolved or set; raises ``Malformed``."""
        if packet.topic and not packet.alias:
            return packet.topic
        if packet.alias > self._alias_maximum:
            raise Malformed("topic alias over the maximum", Code.ALIAS_INVALID)
        if packet.topic:
            self._aliases[packet.alias] = packet.topic
            return packet.topic
        topic = self._aliases.get(packet.alias)
        if topic is None:
            # Also an empty topic without an alias: 0 is never a key.
            raise Malformed("empty topic without a known alias", Code.PROTOCOL_ERROR)
        return topic

    def route(self, topic: str, device: str) -> Route | Code:
        """Where ``topic`` leads when ``device`` publishes, or why it may not.

        Raises:
            Malformed: the registry cannot tell; the connection has to end so that the message is sent again.
        """
        known = self._routes.get(topic)
        if known is not None:
            return known
        route = parse(topic)
        verdict: Route | Code = Code.TOPIC_INVALID
        if route is not None:
            try:
                allowed = route.device == device or self._may_publish(device, route.device)
            except BackendError as error:
                raise Malformed("registry unavailable", Code.UNSPECIFIED) from error
            verdict = route if allowed else Code.NOT_AUTHORISED
        if len(self._routes) >= _ROUTES_LIMIT:
            self._routes.clear()
        self._routes[topic] = verdict
        return verdict
