"""Packets of clients, both versions, byte by byte; one place that feeds every codec test."""

from typing import NamedTuple

from device_gateway.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
    Will,
)


class Case(NamedTuple):
    """``data`` is what travels, ``packet`` what it means; ``paho`` says that paho-mqtt sends exactly these bytes."""

    name: str
    version: int
    data: bytes
    packet: Packet
    paho: bool = False


_LONG = bytes(range(256)) * 2

CASES = (
    Case(
        "connect-minimal", 4, b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02c1", Connect(4, "c1", True, 60), paho=True
    ),
    Case(
        "connect-anonymous-resumable", 4, b"\x10\x0e\x00\x04MQTT\x04\x00\x00\x00\x00\x02c1", Connect(4, "c1", False, 0)
    ),
    Case(
        "connect-full",
        4,
        b"\x10\x35\x00\x04MQTT\x04\xee\x00\x3c\x00\x02c1\x00\x10vitals/d1/status\x00\x07offline\x00\x02d1\x00\x06s\xff\x00cr\x01",
        Connect(4, "c1", True, 60, "d1", b"s\xff\x00cr\x01", Will("vitals/d1/status", b"offline", 1, True)),
        paho=True,
    ),
    Case("publish-qos0", 4, b"\x30\x10\x00\x0evitals/d1/json", Publish("vitals/d1/json", b""), paho=True),
    Case(
        "publish-qos1",
        4,
        b"\x32\x14\x00\x0evitals/d1/json\x00\x01{}",
        Publish("vitals/d1/json", b"{}", 1, packet_id=1),
        paho=True,
    ),
    Case(
        "publish-qos2-long",
        4,
        b"\x34\x92\x04\x00\x0evitals/d1/json\x00\x02" + _LONG,
        Publish("vitals/d1/json", _LONG, 2, packet_id=2),
        paho=True,
    ),
    Case(
        "publish-dup-retain",
        4,
        b"\x3b\x13\x00\x0evitals/d1/json\xff\xff!",
        Publish("vitals/d1/json", b"!", 1, True, True, 65535),
    ),
    Case("publish-utf8-topic", 4, b"\x30\x05\x00\x03" + "€".encode(), Publish("€", b"")),
    Case("puback", 4, b"\x40\x02\x00\x07", PubAck(7)),
    Case("pubrec", 4, b"\x50\x02\x00\x07", PubRec(7)),
    Case("pubrel", 4, b"\x62\x02\x00\x02", PubRel(2), paho=True),
    Case("pubcomp", 4, b"\x70\x02\x00\x07", PubComp(7)),
    Case("subscribe", 4, b"\x82\x10\x00\x03\x00\x0bcommands/d1\x01", Subscribe(3, (("commands/d1", 1),)), paho=True),
    Case("subscribe-two", 4, b"\x82\x0a\x00\x03\x00\x01a\x00\x00\x01b\x02", Subscribe(3, (("a", 0), ("b", 2)))),
    Case("unsubscribe", 4, b"\xa2\x0f\x00\x04\x00\x0bcommands/d1", Unsubscribe(4, ("commands/d1",)), paho=True),
    Case("ping", 4, b"\xc0\x00", PingReq(), paho=True),
    Case("disconnect", 4, b"\xe0\x00", Disconnect(), paho=True),
    Case(
        "connect-minimal",
        5,
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02c1",
        Connect(5, "c1", True, 60, session_expiry_s=0),
        paho=True,
    ),
    Case(
        "connect-full",
        5,
        b"\x10\x4d\x00\x04MQTT\x05\xee\x00\x3c\x11\x11\x00\x00\x01\x00\x27\x00\x00\x10\x00\x26\x00\x01k\x00\x01v"
        b"\x00\x02c1\x05\x18\x00\x00\x00\x05\x00\x10vitals/d1/status\x00\x07offline\x00\x02d1\x00\x06s\xff\x00cr\x01",
        Connect(
            5, "c1", True, 60, "d1", b"s\xff\x00cr\x01", Will("vitals/d1/status", b"offline", 1, True, 5), 256, 4096
        ),
    ),
    Case(
        "connect-enhanced-auth",
        5,
        b"\x10\x15\x00\x04MQTT\x05\x02\x00\x3c\x06\x15\x00\x03SCR\x00\x02c1",
        Connect(5, "c1", True, 60, session_expiry_s=0, auth_method="SCR"),
    ),
    Case("publish-qos0", 5, b"\x30\x11\x00\x0evitals/d1/json\x00", Publish("vitals/d1/json", b""), paho=True),
    Case(
        "publish-qos1",
        5,
        b"\x32\x15\x00\x0evitals/d1/json\x00\x01\x00{}",
        Publish("vitals/d1/json", b"{}", 1, packet_id=1),
        paho=True,
    ),
    Case(
        "publish-qos2-long",
        5,
        b"\x34\x93\x04\x00\x0evitals/d1/json\x00\x02\x00" + _LONG,
        Publish("vitals/d1/json", _LONG, 2, packet_id=2),
        paho=True,
    ),
    Case(
        "publish-properties",
        5,
        b"\x3b\x38\x00\x0evitals/d1/json\x00\x09\x24\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x05a/jsn\x08\x00\x03r/t\x09\x00\x02\xff\x00"
        b"\x26\x00\x01k\x00\x01v\x23\x00\x03!",
        Publish("vitals/d1/json", b"!", 1, True, True, 9, 3),
    ),
    Case("publish-alias-only", 5, b"\x30\x07\x00\x00\x03\x23\x00\x03!", Publish("", b"!", alias=3)),
    Case("puback", 5, b"\x40\x02\x00\x07", PubAck(7)),
    Case("puback-reason", 5, b"\x40\x0a\x00\x07\x80\x06\x1f\x00\x03why", PubAck(7)),
    Case("pubrec", 5, b"\x50\x03\x00\x07\x10", PubRec(7)),
    Case("pubrel", 5, b"\x62\x02\x00\x02", PubRel(2), paho=True),
    Case("pubrel-properties", 5, b"\x62\x04\x00\x07\x92\x00", PubRel(7)),
    Case("pubcomp", 5, b"\x70\x02\x00\x07", PubComp(7)),
    Case(
        "subscribe", 5, b"\x82\x11\x00\x03\x00\x00\x0bcommands/d1\x01", Subscribe(3, (("commands/d1", 1),)), paho=True
    ),
    Case(
        "subscribe-options",
        5,
        b"\x82\x0d\x00\x03\x02\x0b\x01\x00\x01a\x2d\x00\x01b\x00",
        Subscribe(3, (("a", 1), ("b", 0))),
    ),
    Case("unsubscribe", 5, b"\xa2\x10\x00\x04\x00\x00\x0bcommands/d1", Unsubscribe(4, ("commands/d1",)), paho=True),
    Case("ping", 5, b"\xc0\x00", PingReq(), paho=True),
    Case("disconnect", 5, b"\xe0\x00", Disconnect(), paho=True),
    Case("disconnect-with-will", 5, b"\xe0\x01\x04", Disconnect(4)),
    Case("disconnect-expiry", 5, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x2a", Disconnect(0, 42)),
)


def ident(case: Case) -> str:
    """Test id."""
    return f"v{case.version}-{case.name}"
