"""Where the publishes of one connection go: topic aliases of MQTT 5, and the topics that its device may use."""

from collections.abc import Callable

from device_gateway.mqtt.packets import Code, Malformed, Publish
from device_gateway.topics import Route, parse
from vitals.errors import BackendError

_ROUTES_LIMIT = 256


class Topics:
    """The topics of one connection: its aliases (MQTT 5), and where it may publish.

    ``may_publish`` takes the connection's device and the topic's device; it may raise ``BackendError``.
    """

    def __init__(self, may_publish: Callable[[str, str], bool], alias_maximum: int) -> None:
        self._may_publish, self._alias_maximum = may_publish, alias_maximum
        self._aliases: dict[int, str] = {}
        self._routes: dict[str, Route | Code] = {}

    def forget(self) -> None:
        """Ask again who may publish where."""
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
