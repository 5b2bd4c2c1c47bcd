"""MQTT 5 packets through the ``mqtt5`` library, with the checks that it leaves out.

The library panics on text that is not UTF-8, and lets NUL, packet id 0 and empty filter lists pass. So the layout
of each packet is walked first, by table, and every text in it checked; the library then reads what is left to read.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import mqtt5

from device_gateway.mqtt import packets
from device_gateway.mqtt.packets import Code, Malformed, Packet, Publish
from device_gateway.mqtt.wire import Fields, name_of, text_of, topic_of

_Check = Callable[[Fields], None]


def _skip(size: int) -> _Check:
    def check(fields: Fields) -> None:
        fields.raw(size)

    return check


def _text(fields: Fields) -> None:
    text_of(fields.blob())


def _name(fields: Fields) -> None:
    name_of(fields.blob())


def _topic(fields: Fields) -> None:
    topic_of(fields.blob())


def _blob(fields: Fields) -> None:
    fields.blob()


def _pair(fields: Fields) -> None:
    text_of(fields.blob())
    text_of(fields.blob())


def _varint(fields: Fields) -> None:
    fields.varint()


_U8, _U16, _U32 = _skip(1), _skip(2), _skip(4)

_PROPERTIES: Final = MappingProxyType({
    0x01: _U8, 0x02: _U32, 0x03: _text, 0x08: _topic, 0x09: _blob, 0x0B: _varint, 0x11: _U32, 0x12: _text,
    0x13: _U16, 0x15: _text, 0x16: _blob, 0x17: _U8, 0x18: _U32, 0x19: _U8, 0x1A: _text, 0x1C: _text, 0x1F: _text,
    0x21: _U16, 0x22: _U16, 0x23: _U16, 0x24: _U8, 0x25: _U8, 0x26: _pair, 0x27: _U32, 0x28: _U8, 0x29: _U8,
    0x2A: _U8,
})  # fmt: skip
"""Property id -> how its value is laid out (2.2.2.2)."""


def _properties(fields: Fields) -> None:
    size = fields.varint()
    end = fields.at + size
    if end > fields.end:
        raise Malformed("properties end after the packet")
    inner = Fields(fields.data, fields.at, end)
    while inner.at < end:
        check = _PROPERTIES.get(inner.u8())
        if check is None:
            raise Malformed("unknown property")
        check(inner)
    fields.at = end


def _packet_id(fields: Fields) -> None:
    fields.packet_id()


def _connect(fields: Fields) -> None:
    fields.raw(7)  # protocol name and level: they chose this reader
    flags = fields.u8()
    for check in (_U16, _properties, _name):
        check(fields)
    if flags & 0x04:
        for check in (_properties, _topic, _blob):
            check(fields)
    if flags & 0x80:
        _name(fields)
    if flags & 0x40:
        _blob(fields)


def _subscribe(fields: Fields) -> None:
    _packet_id(fields)
    _properties(fields)
    while True:
        _name(fields)
        options = fields.u8()
        if options & 0xC0 or options & 0x30 == 0x30:
            raise Malformed("reserved bits in subscription options", Code.PROTOCOL_ERROR)
        if fields.at == fields.end:
            return


def _unsubscribe(fields: Fields) -> None:
    _packet_id(fields)
    _properties(fields)
    while True:
        _name(fields)
        if fields.at == fields.end:
            return


def _answer(fields: Fields) -> None:
    _packet_id(fields)
    _disconnect(fields)


def _disconnect(fields: Fields) -> None:
    # Reason code and properties may both be left out (3.4.2.1, 3.14.2.1).
    for check in (_U8, _properties):
        if fields.at < fields.end:
            check(fields)


def _nothing(fields: Fields) -> None:
    fields.finish()


_LAYOUTS: Final[MappingProxyType[int, _Check]] = MappingProxyType({
    1: _connect, 4: _answer, 5: _answer, 6: _answer, 7: _answer, 8: _subscribe, 10: _unsubscribe, 12: _nothing,
    14: _disconnect,
})  # fmt: skip


def _decode(frame: bytes) -> mqtt5.Packet:
    try:
        packet, _ = mqtt5.read(frame)  # type: ignore[arg-type]  # any buffer will do
    except (ValueError, IndexError) as error:
        raise Malformed(str(error)) from error
    return packet


def _will(will: mqtt5.Will) -> packets.Will:
    return packets.Will(will.topic, will.payload or b"", int(will.qos), will.retain, will.will_delay_interval)


def _from_connect(packet: mqtt5.ConnectPacket) -> packets.Connect:
    return packets.Connect(
        version=packets.V5,
        client_id=packet.client_id,
        clean=packet.clean_start,
        keep_alive_s=packet.keep_alive,
        username=packet.username,
        password=packet.password,
        will=_will(packet.will) if packet.will is not None else None,
        session_expiry_s=packet.session_expiry_interval,
        max_packet=packet.max_packet_size or 0,
        auth_method=packet.authentication_method,
    )


_CONVERT: Final[MappingProxyType[type, Callable[[Any], Packet]]] = MappingProxyType(
    {
        mqtt5.ConnectPacket: _from_connect,
        mqtt5.PubAckPacket: lambda packet: packets.PubAck(packet.packet_id),
        mqtt5.PubRecPacket: lambda packet: packets.PubRec(packet.packet_id),
        mqtt5.PubRelPacket: lambda packet: packets.PubRel(packet.packet_id),
        mqtt5.PubCompPacket: lambda packet: packets.PubComp(packet.packet_id),
        mqtt5.SubscribePacket: lambda packet: packets.Subscribe(
            packet.packet_id, tuple((item.pattern, int(item.max_qos)) for item in packet.topic_filters)
        ),
        mqtt5.UnsubscribePacket: lambda packet: packets.Unsubscribe(packet.packet_id, tuple(packet.patterns)),
        mqtt5.PingReqPacket: lambda _: packets.PingReq(),
        mqtt5.DisconnectPacket: lambda packet: packets.Disconnect(
            int(packet.reason_code), packet.session_expiry_interval
        ),
    }
)


def read(data: bytes, at: int, body: int, end: int) -> Packet:
    """The packet in ``data[at:end]`` whose variable header starts at ``body``; anything but PUBLISH.

    Raises:
        Malformed: it is not a valid packet of MQTT 5.
    """
    _LAYOUTS[data[at] >> 4](Fields(data, body, end))
    packet = _decode(data[at:end])
    return _CONVERT[type(packet)](packet)


def read_publish(data: bytes, at: int, body: int, end: int) -> Publish:
    """The PUBLISH in ``data[at:end]``; raises ``Malformed``."""
    start = body + 2
    properties = start + int.from_bytes(data[body:start], "big")
    topic_of(data[start:properties])
    if data[at] & 0x06:
        properties += 2
        if data[properties - 2 : properties] == b"\0\0":
            raise Malformed("packet id 0")
    if properties >= end:
        raise Malformed("packet ends before its fields do")
    if data[properties]:
        _properties(Fields(data, properties, end))
    packet = _decode(data[at:end])
    assert isinstance(packet, mqtt5.PublishPacket)
    if packet.subscription_ids:
        raise Malformed("subscription identifier from a client", Code.PROTOCOL_ERROR)
    return Publish(
        packet.topic, packet.payload, int(packet.qos), packet.duplicate, packet.retain, packet.packet_id or 0,
        packet.topic_alias or 0,
    )  # fmt: skip
