"""One MQTT connection's state machine without I/O: bytes in, actions out.

==============  ======================================  =========================================
state           what moves it on                        to
==============  ======================================  =========================================
new             CONNECT                                 authenticating (or closed: refused)
authenticating  ``decided``                             opening (or closed: refused)
opening         ``opened`` after the durable append     connected
connected       DISCONNECT, any error, ``shut``         closed
==============  ======================================  =========================================

Bytes that arrive while authenticating or opening wait. The ack of every PUBLISH and PUBREL is part of an action that
the driver completes in order and only once it is durable.
"""

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from device_gateway import topics
from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.mqtt import codec
from device_gateway.mqtt.actions import (
    REFUSALS,
    Action,
    Answer,
    Authenticate,
    Close,
    Expire,
    Open,
    Presence,
    Send,
)
from device_gateway.mqtt.packets import (
    V5,
    V311,
    Code,
    Connack,
    Connect,
    Disconnect,
    Malformed,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
    UnsupportedVersion,
)
from device_gateway.mqtt.routing import Topics
from device_gateway.sessions import StoredSession, Ticket
from device_gateway.settings import GatewaySettings
from vitals.model import DeviceEvent, Message

_CONNECT_LIMIT = 16 * 1024  # nobody has signed in yet: no large buffers
_CLIENT_ID_LIMIT = 256


class State(Enum):
    """State of a connection."""

    NEW = "new"
    AUTHENTICATING = "authenticating"
    OPENING = "opening"
    CONNECTED = "connected"
    CLOSED = "closed"


class Session:
    """State of one connection.

    Args:
        settings: limits.
        may_publish: (user name, device of the topic) -> whether the one may speak for the other; may raise
            ``BackendError`` when the registry is down.
        new_client_id: client ids for clients that bring none.

    ``published`` counts PUBLISH packets, refused ones too. ``behind``: packets may wait, one call handled its share:
    call ``receive(b"")`` soon. ``incomplete``: which packet, from 1, has begun and is not complete; 0 for none.
    ``cause``: why the gateway closed, as the word in metrics. ``certified``: the device that the certificate names.
    """

    def __init__(
        self, settings: GatewaySettings, may_publish: Callable[[str, str], bool], new_client_id: Callable[[], str]
    ) -> None:
        self._enter(State.NEW)
        self.version: int | None = None
        self.device = self.cause = self.certified = ""
        self.keep_alive_s = self.unsettled = 0
        self.published = self.incomplete = self._handled = 0
        self.behind = False
        self._settings, self._new_client_id = settings, new_client_id
        self._connect: Connect | None = None
        self._assigned: str | None = None
        self._stored: StoredSession | None = None
        self._buffer = bytearray()
        self._needed = 0
        self._topics = Topics(may_publish, settings.topic_alias_maximum)

    def _enter(self, state: State) -> None:
        self.state = state
        # Kept apart from the state: an enum's hash is a Python call, and this is asked for every packet.
        self._handlers = _HANDLERS[state]
        self._reading = bool(self._handlers)

    def receive(self, data: bytes, now_ns: int) -> list[Action]:
        """Take bytes off the wire; ``now_ns`` is their receipt time."""
        out: list[Action] = []
        if self._buffer or not self._reading:
            self._buffer += data
            if len(self._buffer) < self._needed or not self._reading:
                return out
            data = bytes(self._buffer)
            self._buffer.clear()
        at, size, self.behind = 0, len(data), False
        share = self._settings.packets_per_turn
        try:
            if self.version is None:
                self.version = codec.version_of(data)
            limit = self._settings.max_packet if self.state is State.CONNECTED else _CONNECT_LIMIT
            version = self.version or V311
            while at < size and self._reading:
                if not share:
                    self.behind, self._needed = True, 0
                    break
                share -= 1
                packet, end = codec.read(data, at, version, limit)
                if packet is None:
                    share += 1
                    self._needed = end - at
                    break
                at = end
                self._handlers.get(type(packet), Session._unexpected)(self, packet, now_ns, out)
        except Malformed as error:
            self.cause = codec.foreign(data) if self.version is None else error.code.name.lower()
            self._fail(error, out)
        self._handled += self._settings.packets_per_turn - share
        self.incomplete = 0
        if at < size and self.state is not State.CLOSED:
            self._buffer += data[at:]
            self.incomplete = 0 if self.behind else self._handled + 1
        return out

    def decided(self, outcome: SignIn) -> list[Action]:
        """The sign-in's outcome, answer to ``Authenticate``."""
        if self.state is not State.AUTHENTICATING:
            return []
        connect = self._connect
        assert connect is not None
        if outcome is not SignIn.ALLOWED:
            return self._refuse(*REFUSALS[outcome], outcome.value)
        self.device = connect.username or self.certified
        if connect.will is not None and connect.will.topic != topics.status_topic(self.device):
            return self._refuse(Connack.NOT_AUTHORISED, Code.NOT_AUTHORISED, "will on a topic of another")
        longest = self._settings.session_expiry_max_s
        if connect.session_expiry_s is not None:
            expiry_s = min(connect.session_expiry_s, longest)
        else:
            expiry_s = 0 if connect.clean else longest
        self.keep_alive_s = connect.keep_alive_s
        if connect.version == V5:
            self.keep_alive_s = min(connect.keep_alive_s or 0xFFFF, self._settings.keep_alive_max_s)
        self._enter(State.OPENING)
        return [Open(connect, self.device, connect.client_id or self._assigned or "", expiry_s)]

    def opened(self, stored: StoredSession, *, present: bool, now_ns: int) -> list[Action]:
        """The session is durable, answer to ``Open``: CONNACK, then whatever the client sent meanwhile."""
        if self.state is not State.OPENING:
            return []
        connect, settings = self._connect, self._settings
        assert connect is not None
        self._stored, self._needed = stored, 0
        self._enter(State.CONNECTED)
        if connect.version == V311:
            reply = codec.connack_v311(Connack.ACCEPTED, present=present)
        else:
            reply = codec.connack_v5(
                Code.SUCCESS,
                present=present,
                client_id=self._assigned,
                keep_alive_s=self.keep_alive_s if self.keep_alive_s != connect.keep_alive_s else None,
                session_expiry_s=stored.expiry_s if stored.expiry_s != connect.session_expiry_s else None,
                receive_maximum=settings.receive_maximum,
                topic_alias_maximum=settings.topic_alias_maximum,
                max_packet=settings.max_packet,
            )
        if 0 < connect.max_packet < len(reply):
            return self._closed([], "client takes no packet as large as CONNACK")
        return [Send(reply), *self.receive(b"", now_ns)]

    def unavailable(self) -> list[Action]:
        """The log cannot be written: a connection that is not open yet is refused."""
        if self.state not in (State.AUTHENTICATING, State.OPENING):
            return []
        return self._refuse(Connack.UNAVAILABLE, Code.UNAVAILABLE, "log_not_writable")

    def shut(self, code: Code, reason: str) -> list[Action]:
        """The server ends the connection; an MQTT 5 client is told ``code``."""
        out: list[Action] = []
        if self.state is State.CLOSED:
            return out
        self.cause = self.cause or code.name.lower()
        if self.version == V5 and self.state is State.CONNECTED:
            out.append(Send(codec.disconnect(code)))
        return self._closed(out, reason)

    def lost(self) -> list[Action]:
        """The connection broke without a DISCONNECT."""
        return [] if self.state is State.CLOSED else self._closed([], "connection lost")

    def settled(self, count: int) -> None:
        """``count`` exchanges ended: their last acks have been sent."""
        self.unsettled = max(0, self.unsettled - count)

    def forget_routes(self) -> None:
        """After a change of the registry: check again which topics the device may publish to."""
        self._topics.forget()

    # Ways to end.

    def _closed(self, out: list[Action], reason: str, *, will: bool = True) -> list[Action]:
        was = self.state
        self._enter(State.CLOSED)
        self._buffer.clear()
        publish = self._connect.will if will and self._connect is not None and was is State.CONNECTED else None
        out.append(Close(reason, publish))
        return out

    def _refuse(self, v311: Connack, v5: Code, reason: str) -> list[Action]:
        self.cause = self.cause or v5.name.lower()
        reply = codec.connack_v5(v5) if self.version == V5 else codec.connack_v311(v311)
        return self._closed([Send(reply)], reason)

    def _fail(self, error: Malformed, out: list[Action]) -> None:
        if isinstance(error, UnsupportedVersion):
            self.version = V311 if error.level < V5 else V5
            out += self._refuse(Connack.UNSUPPORTED_VERSION, Code.UNSUPPORTED_VERSION, str(error))
        elif self.state is State.NEW and self.version == V5:
            out += self._refuse(Connack.NOT_AUTHORISED, error.code, str(error))
        else:
            out += self.shut(error.code, str(error))

    # Packets.

    def _unexpected(self, packet: Packet, _now_ns: int, _out: list[Action]) -> None:
        raise Malformed(f"unexpected {type(packet).__name__}", Code.PROTOCOL_ERROR)

    def _on_connect(self, packet: Connect, _now_ns: int, out: list[Action]) -> None:
        self._connect = packet
        if packet.auth_method is not None:
            out += self._refuse(Connack.NOT_AUTHORISED, Code.BAD_AUTH_METHOD, "enhanced authentication")
        elif len(packet.client_id) > _CLIENT_ID_LIMIT or not (packet.client_id or packet.clean or packet.version == V5):
            out += self._refuse(Connack.CLIENT_ID_REJECTED, Code.CLIENT_ID_INVALID, "client id")
        else:
            if not packet.client_id:
                self._assigned = self._new_client_id()
            self._enter(State.AUTHENTICATING)
            device = packet.username or self.certified
            out.append(Authenticate(device, packet.password or b"", self.certified))

    def _on_publish(self, packet: Publish, now_ns: int, out: list[Action]) -> None:
        self.published += 1
        topic = self._topics.resolve(packet)
        route = self._topics.route(topic, self.device)
        if isinstance(route, Code):
            self._refuse_publish(packet, route, out)
            return
        if packet.qos:
            stored = self._stored
            assert stored is not None
            if packet.qos == 2 and packet.packet_id in stored.held:
                out.append(Answer(codec.pubrec(packet.packet_id)))
                return
            self._count_unsettled()
        if route.adapter == topics.STATUS:
            entry = topics.presence_or_message(route, packet.payload, now_ns)
            if isinstance(entry, DeviceEvent):
                self._accept_presence(packet, entry, out)
                return
        self._accept(packet, topic, route, now_ns, out)

    def _accept(self, packet: Publish, topic: str, route: topics.Route, now_ns: int, out: list[Action]) -> None:
        device, adapter, kind = route
        payload, packet_id = packet.payload, packet.packet_id
        if packet.qos == 0:
            out.append(Accept(Message(device, adapter, kind, now_ns, payload)))
            return
        assert self._stored is not None
        if packet.qos == 2:
            # An id that is not held was never received, whatever DUP says: the session knows.
            self._stored.held.add(packet_id)
            message = Message(device, adapter, kind, now_ns, payload)
            out.append(Accept(message, codec.pubrec(packet_id), 0, packet_id))
            return
        recent = self._stored.recent
        digest = hash((topic, payload))
        known = recent.pop(packet_id, None)
        resend_of = known if packet.dup and known is not None and known.digest == digest else None
        ticket = resend_of or Ticket(digest)
        recent[packet_id] = ticket
        if len(recent) > self._settings.resend_memory:
            del recent[next(iter(recent))]
        message = Message(device, adapter, kind, now_ns, payload, packet.dup and resend_of is None)
        new = ticket if resend_of is None else None
        out.append(Accept(message, codec.puback(packet_id), 1, 0, new, resend_of))

    def _accept_presence(self, packet: Publish, event: DeviceEvent, out: list[Action]) -> None:
        if packet.qos == 0:
            out.append(Presence(event))
        elif packet.qos == 1:
            out.append(Presence(event, codec.puback(packet.packet_id), 1))
        else:
            assert self._stored is not None
            self._stored.held.add(packet.packet_id)
            out.append(Presence(event, codec.pubrec(packet.packet_id), 0, packet.packet_id))

    def _refuse_publish(self, packet: Publish, code: Code, out: list[Action]) -> None:
        if self.version != V5 or packet.qos == 0:
            # 3.1.1 cannot say no, and nothing answers QoS 0: closing is the only way not to lose it silently.
            out += self.shut(code, "topic refused")
            return
        self._count_unsettled()
        answer = codec.puback if packet.qos == 1 else codec.pubrec
        out.append(Answer(answer(packet.packet_id, code), 1, refused=code.name.lower()))

    def _count_unsettled(self) -> None:
        self.unsettled += 1
        if self.version == V5 and self.unsettled > self._settings.receive_maximum:
            raise Malformed("receive maximum exceeded", Code.RECEIVE_MAXIMUM)

    def _on_pubrel(self, packet: PubRel, _now_ns: int, out: list[Action]) -> None:
        assert self._stored is not None
        held = self._stored.held
        if packet.packet_id in held:
            held.remove(packet.packet_id)
            out.append(Answer(codec.pubcomp(packet.packet_id), 1, packet.packet_id))
        else:
            code = Code.PACKET_ID_NOT_FOUND if self.version == V5 else Code.SUCCESS
            out.append(Answer(codec.pubcomp(packet.packet_id, code)))

    def _on_subscribe(self, packet: Subscribe, _now_ns: int, out: list[Action]) -> None:
        assert self._stored is not None
        assert self.version is not None
        own = topics.command_topic(self.device)
        refusal = Code.NOT_AUTHORISED if self.version == V5 else Code.UNSPECIFIED
        codes = [min(qos, 1) if pattern == own else refusal for pattern, qos in packet.filters]
        self._stored.subscribed |= refusal not in codes or len(set(codes)) > 1
        out.append(Send(codec.suback(self.version, packet.packet_id, codes)))

    def _on_unsubscribe(self, packet: Unsubscribe, _now_ns: int, out: list[Action]) -> None:
        assert self._stored is not None
        assert self.version is not None
        codes = []
        for pattern in packet.filters:
            known = self._stored.subscribed and pattern == topics.command_topic(self.device)
            codes.append(Code.SUCCESS if known else Code.NO_SUBSCRIPTION)
            self._stored.subscribed &= not known
        out.append(Send(codec.unsuback(self.version, packet.packet_id, codes)))

    def _on_ping(self, _packet: PingReq, _now_ns: int, out: list[Action]) -> None:
        out.append(Send(codec.PINGRESP))

    def _on_disconnect(self, packet: Disconnect, _now_ns: int, out: list[Action]) -> None:
        assert self._connect is not None
        if packet.session_expiry_s is not None:
            if packet.session_expiry_s and not self._connect.session_expiry_s:
                raise Malformed("a session without expiry cannot get one", Code.PROTOCOL_ERROR)
            out.append(Expire(min(packet.session_expiry_s, self._settings.session_expiry_max_s)))
        self._closed(out, "disconnected", will=packet.reason != 0)

    def _ignore(self, _packet: Packet, _now_ns: int, _out: list[Action]) -> None:
        """Acks of something that we never sent: the gateway has nothing under way to a client yet."""


_Handler = Callable[[Session, Any, int, list[Action]], None]
_HANDLERS: Final[MappingProxyType[State, dict[type, _Handler]]] = MappingProxyType(
    {
        State.NEW: {Connect: Session._on_connect},
        State.AUTHENTICATING: {},
        State.OPENING: {},
        State.CONNECTED: {
            Publish: Session._on_publish,
            PubRel: Session._on_pubrel,
            PubAck: Session._ignore,
            PubRec: Session._ignore,
            PubComp: Session._ignore,
            Subscribe: Session._on_subscribe,
            Unsubscribe: Session._on_unsubscribe,
            PingReq: Session._on_ping,
            Disconnect: Session._on_disconnect,
        },
        State.CLOSED: {},
    }
)
"""State -> accepted packets and their handlers; a state without handlers does not read."""
