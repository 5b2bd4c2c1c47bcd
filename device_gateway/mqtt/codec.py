"""MQTT 3.1.1 and 5 frames without I/O: bytes to packets of a client, and the server's packets to bytes.

Reading has three outcomes: a packet, need more, or ``Malformed`` with the reason code to answer. 3.1.1 is read here,
5 by the ``mqtt5`` library through ``device_gateway.mqtt.v5``. Section numbers are those of MQTT 3.1.1.
"""

import struct
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Final

import mqtt5

from device_gateway.mqtt import v5
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
    Will,
)
from device_gateway.mqtt.wire import Fields, name_of, topic_of

_PUBLISH = 3
_REQUIRED_FLAGS: Final = MappingProxyType({1: 0, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 10: 2, 12: 0, 14: 0})
"""Packet type -> flags of the first byte, for the types that a client may send (2.2.2); PUBLISH has its own."""


def _verdict(first: int) -> Code:
    kind, flags = first >> 4, first & 0x0F
    if kind == _PUBLISH:
        qos, dup = flags >> 1 & 3, flags & 8
        return Code.MALFORMED if qos == 3 or (dup and not qos) else Code.SUCCESS
    if kind in _REQUIRED_FLAGS:
        return Code.SUCCESS if flags == _REQUIRED_FLAGS[kind] else Code.MALFORMED
    return Code.MALFORMED if kind == 0 else Code.PROTOCOL_ERROR


_HTTP: Final = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"PRI * HTTP/2")
_FIRST_BYTE: Final = tuple(_verdict(first) for first in range(256))


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """(remaining length, where the body starts), or None while the length is incomplete (2.2.3)."""
    value = 0
    for index in range(4):
        if at + index >= len(data):
            return None
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if index and byte == 0 and value < 1 << 7 * index:
                raise Malformed("remaining length is longer than it needs to be")
            return value, at + index + 1
    raise Malformed("remaining length of more than four bytes")


def read(data: bytes, at: int, version: int, max_packet: int) -> tuple[Packet | None, int]:
    """Read one packet of a client from ``data`` at ``at``.

    Returns:
        The packet and the index after it; or None and the index up to which bytes are needed before it is worth
        trying again.

    Raises:
        Malformed: the bytes are no such packet, or it is larger than ``max_packet`` bytes, known from its fixed header.
    """
    size = len(data)
    if size - at < 2:
        if size > at and _FIRST_BYTE[data[at]]:
            raise Malformed("bad first byte", _FIRST_BYTE[data[at]])
        return None, at + 2
    first, length, body = data[at], data[at + 1], at + 2
    if _FIRST_BYTE[first]:
        raise Malformed("bad first byte", _FIRST_BYTE[first])
    if length > 0x7F:
        found = _length(data, at + 1)
        if found is None:
            return None, size + 1
        length, body = found
    end = body + length
    if end - at > max_packet:
        raise Malformed(f"packet of {end - at} bytes", Code.PACKET_TOO_LARGE)
    if end > size:
        return None, end
    if version == V5:
        if first >> 4 == _PUBLISH:
            return v5.read_publish(data, at, body, end), end
        return v5.read(data, at, body, end), end
    if first >> 4 == _PUBLISH:
        return _publish(data, first, body, end), end
    fields = Fields(data, body, end)
    packet = _READERS[first >> 4](fields)
    fields.finish()
    return packet, end


def version_of(data: bytes) -> int | None:
    """The protocol level that a connection's first bytes name; None while they are too few to tell.

    Raises:
        UnsupportedVersion: a CONNECT of another level, or of MQTT 3.1.
        Malformed: no CONNECT of MQTT.
    """
    if not data:
        return None
    if data[0] != 0x10:
        raise Malformed("the first packet is no CONNECT", Code.PROTOCOL_ERROR)
    found = _length(data, 1)
    if found is None:
        return None
    head = data[found[1] : found[1] + 9]
    for prefix in (b"\x00\x04MQTT", b"\x00\x06MQIsdp"):
        if head.startswith(prefix):
            if len(head) <= len(prefix):
                return None
            level = head[len(prefix)]
            if level not in (V311, V5) or len(prefix) > 6:
                raise UnsupportedVersion(level)
            return level
        if prefix.startswith(head):
            return None
    raise Malformed("unknown protocol name", Code.PROTOCOL_ERROR)


def foreign(data: bytes) -> str:
    """What a first packet that is no CONNECT seems to be, as the word in metrics."""
    if data[:2] == b"\x16\x03":
        return "tls_on_plaintext"
    if data.startswith(_HTTP):
        return "http"
    return "not_mqtt"


def _publish(data: bytes, first: int, body: int, end: int) -> Publish:
    start = body + 2
    at = start + (data[body] << 8 | data[body + 1]) if end >= start else end + 1
    qos = first >> 1 & 3
    packet_id = 0
    if qos:
        at += 2
        if at <= end:
            packet_id = data[at - 2] << 8 | data[at - 1]
            if not packet_id:
                raise Malformed("packet id 0")
    if at > end:
        raise Malformed("packet ends before its fields do")
    topic = topic_of(data[start : at - 2 if qos else at])
    return Publish(topic, data[at:end], qos, first & 8 != 0, first & 1 != 0, packet_id)


def _connect(fields: Fields) -> Connect:
    fields.raw(7)  # protocol name and level: they chose this reader
    flags = fields.u8()
    keep_alive_s = fields.u16()
    has_user, has_password, has_will = flags & 0x80, flags & 0x40, flags & 0x04
    if flags & 0x01 or flags & 0x18 == 0x18 or (flags & 0x38 and not has_will) or (has_password and not has_user):
        raise Malformed("inconsistent CONNECT flags")
    client_id = name_of(fields.blob())
    will = None
    if has_will:
        will = Will(topic_of(fields.blob()), fields.blob(), flags >> 3 & 3, flags & 0x20 != 0)
    username = name_of(fields.blob()) if has_user else None
    password = fields.blob() if has_password else None
    return Connect(V311, client_id, flags & 0x02 != 0, keep_alive_s, username, password, will)


def _subscribe(fields: Fields) -> Subscribe:
    packet_id = fields.packet_id()
    filters: list[tuple[str, int]] = []
    while not filters or fields.at < fields.end:
        pattern, qos = name_of(fields.blob()), fields.u8()
        if qos > 2:
            raise Malformed("reserved bits in the requested QoS")
        filters.append((pattern, qos))
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(fields: Fields) -> Unsubscribe:
    packet_id = fields.packet_id()
    filters: list[str] = []
    while not filters or fields.at < fields.end:
        filters.append(name_of(fields.blob()))
    return Unsubscribe(packet_id, tuple(filters))


_READERS: Final[MappingProxyType[int, Callable[[Fields], Packet]]] = MappingProxyType(
    {
        1: _connect,
        4: lambda fields: PubAck(fields.packet_id()),
        5: lambda fields: PubRec(fields.packet_id()),
        6: lambda fields: PubRel(fields.packet_id()),
        7: lambda fields: PubComp(fields.packet_id()),
        8: _subscribe,
        10: _unsubscribe,
        12: lambda _: PingReq(),
        14: lambda _: Disconnect(),
    }
)


# What the server sends.

PINGRESP: Final = b"\xd0\x00"
_ANSWER = struct.Struct(">BBH")
_REASONED = struct.Struct(">BBHB")


def puback(packet_id: int, code: int = 0) -> bytes:
    """PUBACK; ``code`` other than 0 in MQTT 5 only."""
    return _ANSWER.pack(0x40, 2, packet_id) if not code else _REASONED.pack(0x40, 3, packet_id, code)


def pubrec(packet_id: int, code: int = 0) -> bytes:
    """PUBREC; ``code`` other than 0 in MQTT 5 only."""
    return _ANSWER.pack(0x50, 2, packet_id) if not code else _REASONED.pack(0x50, 3, packet_id, code)


def pubcomp(packet_id: int, code: int = 0) -> bytes:
    """PUBCOMP; ``code`` other than 0 in MQTT 5 only."""
    return _ANSWER.pack(0x70, 2, packet_id) if not code else _REASONED.pack(0x70, 3, packet_id, code)


def connack_v311(code: Connack, *, present: bool = False) -> bytes:
    """CONNACK of MQTT 3.1.1."""
    return bytes((0x20, 2, present, code))


def connack_v5(
    code: Code,
    *,
    present: bool = False,
    client_id: str | None = None,
    keep_alive_s: int | None = None,
    session_expiry_s: int | None = None,
    receive_maximum: int = 65535,
    topic_alias_maximum: int = 0,
    max_packet: int | None = None,
) -> bytes:
    """CONNACK of MQTT 5; the arguments are the server's decisions for the client.

    A refusal carries no properties.
    """
    if code:
        return bytes((0x20, 3, 0, code, 0))
    return mqtt5.ConnAckPacket(
        session_present=present,
        assigned_client_id=client_id,
        server_keep_alive=keep_alive_s,
        session_expiry_interval=session_expiry_s,
        receive_max=receive_maximum,
        topic_alias_max=topic_alias_maximum,
        max_packet_size=max_packet,
        wildcard_subscription_available=False,
        subscription_id_available=False,
        shared_subscription_available=False,
    ).write()


def _framed(first: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((first, *length, size)) + body


def suback(version: int, packet_id: int, codes: Sequence[int]) -> bytes:
    """SUBACK with one code per filter."""
    properties = b"\x00" if version == V5 else b""
    return _framed(0x90, packet_id.to_bytes(2, "big") + properties + bytes(codes))


def unsuback(version: int, packet_id: int, codes: Sequence[int]) -> bytes:
    """UNSUBACK; 3.1.1 has no codes."""
    return _framed(0xB0, packet_id.to_bytes(2, "big") + (b"\x00" + bytes(codes) if version == V5 else b""))


def disconnect(code: Code) -> bytes:
    """DISCONNECT of MQTT 5; in 3.1.1 a server just closes."""
    return bytes((0xE0, 1, code))
