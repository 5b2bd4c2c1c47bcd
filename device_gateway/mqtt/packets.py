"""MQTT packets that a client sends, one set of types for 3.1.1 and 5, and the reasons for refusing them.

Section numbers are those of OASIS MQTT 5.0; reason codes: device-formats.md 7.2.
"""

from enum import IntEnum

import msgspec

V311 = 4
"""Protocol level of MQTT 3.1.1."""
V5 = 5
"""Protocol level of MQTT 5."""


class Code(IntEnum):
    """Reason codes of MQTT 5 that the gateway sends (device-formats.md 7.2)."""

    SUCCESS = 0x00
    NO_SUBSCRIPTION = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_INVALID = 0x85
    BAD_CREDENTIALS = 0x86
    NOT_AUTHORISED = 0x87
    UNAVAILABLE = 0x88
    SHUTTING_DOWN = 0x8B
    BAD_AUTH_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    TOPIC_INVALID = 0x90
    PACKET_ID_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM = 0x93
    ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE = 0x96
    ADMINISTRATIVE = 0x98
    RATE = 0x9F


class Connack(IntEnum):
    """CONNACK return codes of MQTT 3.1.1 (3.2.2.3 there)."""

    ACCEPTED = 0
    UNSUPPORTED_VERSION = 1
    CLIENT_ID_REJECTED = 2
    UNAVAILABLE = 3
    NOT_AUTHORISED = 5


class Malformed(Exception):
    """The bytes are not a packet that a client may send; ``code`` is the reason code for an MQTT 5 client."""

    def __init__(self, problem: str, code: Code = Code.MALFORMED) -> None:
        super().__init__(problem)
        self.code = code


class UnsupportedVersion(Malformed):
    """CONNECT names a protocol level that is neither 4 nor 5."""

    def __init__(self, level: int) -> None:
        super().__init__(f"protocol level {level}", Code.UNSUPPORTED_VERSION)
        self.level = level


class Will(msgspec.Struct, frozen=True):
    """What to publish when the connection is lost; ``delay_s`` is 0 in 3.1.1."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    delay_s: int = 0


class Connect(msgspec.Struct, frozen=True):
    """CONNECT. ``session_expiry_s`` is None in 3.1.1, where clean session alone decides; ``max_packet`` 0: no limit."""

    version: int
    client_id: str
    clean: bool
    keep_alive_s: int
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    session_expiry_s: int | None = None
    max_packet: int = 0
    auth_method: str | None = None


class Publish(msgspec.Struct, frozen=True):
    """PUBLISH; ``packet_id`` is 0 at QoS 0, ``alias`` 0 for a packet without an alias."""

    topic: str
    payload: bytes
    qos: int = 0
    dup: bool = False
    retain: bool = False
    packet_id: int = 0
    alias: int = 0


class PubAck(msgspec.Struct, frozen=True):
    """PUBACK of something that we sent."""

    packet_id: int


class PubRec(msgspec.Struct, frozen=True):
    """PUBREC of something that we sent."""

    packet_id: int


class PubRel(msgspec.Struct, frozen=True):
    """PUBREL: the client will not send this QoS 2 message again."""

    packet_id: int


class PubComp(msgspec.Struct, frozen=True):
    """PUBCOMP of something that we sent."""

    packet_id: int


class Subscribe(msgspec.Struct, frozen=True):
    """SUBSCRIBE; ``filters`` are (topic filter, requested QoS)."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    """UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...]


class PingReq(msgspec.Struct, frozen=True):
    """PINGREQ."""


class Disconnect(msgspec.Struct, frozen=True):
    """DISCONNECT; any ``reason`` but 0 publishes the will (3.14.4)."""

    reason: int = 0
    session_expiry_s: int | None = None


Packet = (
    Connect | Publish | PubAck | PubRec | PubRel | PubComp | Subscribe | Unsubscribe | PingReq | Disconnect
)  # fmt: skip
