"""Frames: the corpus forwards and backwards, truncated anywhere, malformed in every known way, and beside paho-mqtt."""

import contextlib
import socket
import threading

import mqtt5
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device_gateway.mqtt import codec
from device_gateway.mqtt.packets import Code, Connack, Malformed, Publish, UnsupportedVersion
from tests.gateway.harness import RawClient, connect, frame, publish
from tests.gateway.mqtt_corpus import CASES, Case, ident
from tests.support import eventually

LIMIT = 256 * 1024
each_case = pytest.mark.parametrize("case", CASES, ids=ident)
versions = pytest.mark.parametrize("version", [4, 5])


@each_case
def test_corpus_reads_as_what_it_means(case: Case) -> None:
    assert codec.read(case.data, 0, case.version, LIMIT) == (case.packet, len(case.data))


@each_case
def test_reading_starts_and_ends_inside_a_buffer(case: Case) -> None:
    assert codec.read(b"zz" + case.data + b"\xc0\x00", 2, case.version, LIMIT) == (case.packet, 2 + len(case.data))


@each_case
def test_every_truncation_needs_more_and_says_how_much(case: Case) -> None:
    for size in range(len(case.data)):
        packet, needed = codec.read(case.data[:size], 0, case.version, LIMIT)
        assert packet is None
        assert size < needed <= len(case.data)


@pytest.mark.parametrize("case", [case for case in CASES if case.version == 4], ids=ident)
def test_a_body_one_byte_short_or_long_never_reads_as_the_same(case: Case) -> None:
    whole = case.data[3 if case.data[1] > 127 else 2 :]
    for body in (whole[:-1], whole + b"\x00"):
        if body != whole:
            try:
                packet, _ = codec.read(frame(case.data[0], body), 0, 4, LIMIT)
            except Malformed:
                continue
            assert packet != case.packet


MALFORMED = (
    ("reserved type", None, b"\x00\x00", 0x81),
    ("server's packet", None, b"\x20\x02\x00\x00", 0x82),
    ("auth", 5, b"\xf0\x00", 0x82),
    ("ping flags", None, b"\xc1\x00", 0x81),
    ("pubrel flags", None, b"\x60\x02\x00\x01", 0x81),
    ("subscribe flags", None, b"\x80\x06\x00\x01\x00\x01a\x00", 0x81),
    ("disconnect flags", None, b"\xe1\x00", 0x81),
    ("qos 3", None, b"\x36\x07\x00\x01a\x00\x01\x00", 0x81),
    ("dup at qos 0", None, b"\x38\x04\x00\x01a\x00", 0x81),
    ("length of five bytes", None, b"\x30\x80\x80\x80\x80\x01", 0x81),
    ("length longer than needed", None, b"\x30\x84\x00\x00\x01a\x00", 0x81),
    ("ping with a body", None, b"\xc0\x01\x00", 0x81),
    ("empty publish", None, b"\x30\x00", 0x81),
    ("publish of one byte", None, b"\x30\x01\x00", 0x81),
    ("topic longer than packet", None, b"\x30\x04\x00\x09ab", 0x81),
    ("publish without id", None, b"\x32\x03\x00\x01a", 0x81),
    ("publish id cut", None, b"\x32\x04\x00\x01a\x00", 0x81),
    ("publish id 0", 4, b"\x32\x05\x00\x01a\x00\x00", 0x81),
    ("publish id 0", 5, b"\x32\x06\x00\x01a\x00\x00\x00", 0x81),
    ("puback id 0", None, b"\x40\x02\x00\x00", 0x81),
    ("pubrel too long", 4, b"\x62\x03\x00\x01\x00", 0x81),
    ("topic with +", None, publish("a/+/b", b"", qos=0), 0x81),
    ("topic with #", None, publish("a/#", b"", qos=0), 0x81),
    ("topic with NUL", None, publish("a\0b", b"", qos=0), 0x81),
    ("topic with newline", None, publish("a\nb", b"", qos=0), 0x81),
    ("topic with C1 control", None, publish("a\x85b", b"", qos=0), 0x81),
    ("topic not UTF-8", None, b"\x30\x05\x00\x02\xff\xfe\x00", 0x81),
    ("topic a surrogate", None, b"\x30\x06\x00\x03\xed\xa0\x80\x00", 0x81),
    ("topic overlong UTF-8", None, b"\x30\x05\x00\x02\xc0\x80\x00", 0x81),
    ("subscribe nothing", 4, b"\x82\x02\x00\x01", 0x81),
    ("subscribe nothing", 5, b"\x82\x03\x00\x01\x00", 0x81),
    ("subscribe id 0", 4, b"\x82\x06\x00\x00\x00\x01a\x00", 0x81),
    ("subscribe id 0", 5, b"\x82\x07\x00\x00\x00\x00\x01a\x00", 0x81),
    ("subscribe qos 3", 4, b"\x82\x06\x00\x01\x00\x01a\x03", 0x81),
    ("subscribe qos 3", 5, b"\x82\x07\x00\x01\x00\x00\x01a\x03", 0x81),
    ("subscribe reserved bits", 5, b"\x82\x07\x00\x01\x00\x00\x01a\xc0", 0x82),
    ("subscribe retain handling 3", 5, b"\x82\x07\x00\x01\x00\x00\x01a\x30", 0x82),
    ("subscribe filter not UTF-8", 5, b"\x82\x07\x00\x01\x00\x00\x01\xff\x00", 0x81),
    ("unsubscribe nothing", 4, b"\xa2\x02\x00\x01", 0x81),
    ("unsubscribe nothing", 5, b"\xa2\x03\x00\x01\x00", 0x81),
    ("properties longer than packet", 5, b"\x30\x05\x00\x01a\x09\x01", 0x81),
    ("unknown property", 5, b"\x30\x06\x00\x01a\x02\x7f\x00", 0x81),
    ("property twice", 5, b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", 0x81),
    ("property of another packet", 5, b"\x30\x09\x00\x01a\x05\x11\x00\x00\x00\x01", 0x81),
    ("property text not UTF-8", 5, b"\x30\x08\x00\x01a\x04\x03\x00\x01\xff", 0x81),
    ("user property with NUL", 5, b"\x30\x0a\x00\x01a\x06\x26\x00\x01\x00\x00\x00", 0x81),
    ("response topic with wildcard", 5, b"\x30\x08\x00\x01a\x04\x08\x00\x01#", 0x81),
    ("alias 0", 5, b"\x30\x07\x00\x01a\x03\x23\x00\x00", 0x81),
    ("property length of five bytes", 5, b"\x30\x08\x00\x01a\x80\x80\x80\x80\x01", 0x81),
    ("subscription id from a client", 5, b"\x30\x06\x00\x01a\x02\x0b\x01", 0x82),
    ("unknown disconnect reason", 5, b"\xe0\x01\x05", 0x81),
    ("disconnect with a body", 4, b"\xe0\x01\x00", 0x81),
    ("connect reserved flag", None, connect(None).replace(b"\x04\x02\x00\x3c", b"\x04\x03\x00\x3c"), 0x81),
    ("connect will qos without will", None, connect(None).replace(b"\x04\x02\x00\x3c", b"\x04\x0a\x00\x3c"), 0x81),
    ("connect will qos 3", 4, connect(None).replace(b"\x04\x02\x00\x3c", b"\x04\x1e\x00\x3c"), 0x81),
    ("connect password without user", 4, connect(None).replace(b"\x04\x02\x00\x3c", b"\x04\x42\x00\x3c"), 0x81),
    ("connect user missing", 4, connect(None).replace(b"\x04\x02\x00\x3c", b"\x04\x82\x00\x3c"), 0x81),
    ("connect trailing bytes", 4, frame(0x10, connect(None)[2:] + b"x"), 0x81),
    ("connect user not UTF-8", 5, frame(0x10, b"\x00\x04MQTT\x05\x82\x00\x00\x00\x00\x01c\x00\x01\xff"), 0x81),
    ("connect client id with control", None, connect(None, client_id="a\nb"), 0x81),
    ("connect will on wildcard", None, connect(will=("a/#", b"")), 0x81),
    ("connect receive maximum 0", 5, connect(version=5, properties=b"\x21\x00\x00"), 0x81),
)  # fmt: skip


@pytest.mark.parametrize(
    ("version", "data", "code"),
    [
        pytest.param(version, data, code, id=f"v{version}-{name}")
        for name, only, data, code in MALFORMED
        for version in ((only,) if only else (4, 5))
    ],
)
def test_malformed_packets_say_why(version: int, data: bytes, code: int) -> None:
    with pytest.raises(Malformed) as caught:
        codec.read(data, 0, version, LIMIT)
    assert caught.value.code == code


@versions
def test_size_is_checked_before_the_body_is_there(version: int) -> None:
    with pytest.raises(Malformed) as caught:
        codec.read(b"\x30\x80\x80\x10", 0, version, LIMIT)
    assert caught.value.code is Code.PACKET_TOO_LARGE
    packet, needed = codec.read(b"\x30\xfc\xff\x0f", 0, version, LIMIT)
    assert (packet, needed) == (None, LIMIT)


def test_a_bad_first_byte_needs_no_second() -> None:
    with pytest.raises(Malformed):
        codec.read(b"\xf1", 0, 4, LIMIT)


def test_version_is_known_from_the_first_bytes_and_not_earlier() -> None:
    for version in (4, 5):
        data = connect(version=version, client_id="x" * 200)
        seen = [codec.version_of(data[:size]) for size in range(len(data) + 1)]
        assert seen.index(version) == 10
        assert set(seen[:10]) == {None}
        assert set(seen[10:]) == {version}


@pytest.mark.parametrize("level", [0, 3, 6, 0x84])
def test_other_protocol_levels_are_unsupported(level: int) -> None:
    with pytest.raises(UnsupportedVersion) as caught:
        codec.version_of(b"\x10\x0e\x00\x04MQTT" + bytes((level,)))
    assert caught.value.level == level


def test_mqtt_3_1_is_unsupported() -> None:
    data = b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01c"
    assert {codec.version_of(data[:size]) for size in range(10)} == {None}
    with pytest.raises(UnsupportedVersion) as caught:
        codec.version_of(data)
    assert caught.value.level == 3


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", b"\x30\x00", b"\x10\x0e\x00\x04HTTP\x04", b"\x10\xff\xff\xff\xff"])
def test_other_protocols_are_turned_away(data: bytes) -> None:
    with pytest.raises(Malformed):
        codec.version_of(data)


def test_a_connack_without_decisions_of_the_server_states_the_largest_values() -> None:
    packet, _ = mqtt5.read(codec.connack_v5(Code.SUCCESS))  # type: ignore[arg-type]
    assert isinstance(packet, mqtt5.ConnAckPacket)
    assert (packet.receive_max, packet.topic_alias_max, packet.max_packet_size) == (65535, 0, None)


def test_server_packets_of_mqtt_5_read_back_through_the_library() -> None:
    wire = b"".join([
        codec.connack_v5(
            Code.SUCCESS, present=True, client_id="auto-1", keep_alive_s=30, session_expiry_s=60, receive_maximum=512,
            topic_alias_maximum=16, max_packet=1000,
        ),
        codec.connack_v5(Code.BAD_CREDENTIALS),
        codec.puback(7), codec.puback(8, Code.NOT_AUTHORISED), codec.pubrec(9), codec.pubrec(10, Code.TOPIC_INVALID),
        codec.pubcomp(11), codec.pubcomp(12, Code.PACKET_ID_NOT_FOUND),
        codec.suback(5, 13, [0, 1, Code.NOT_AUTHORISED]), codec.unsuback(5, 14, [0, Code.NO_SUBSCRIPTION]),
        codec.PINGRESP, codec.disconnect(Code.TAKEN_OVER),
    ])  # fmt: skip
    read = []
    while wire:
        packet, size = mqtt5.read(wire)  # type: ignore[arg-type]
        read.append(packet)
        wire = wire[size:]
    accepted, refused, *answers = read
    assert isinstance(accepted, mqtt5.ConnAckPacket)
    assert isinstance(refused, mqtt5.ConnAckPacket)
    assert (accepted.session_present, accepted.assigned_client_id, accepted.server_keep_alive) == (True, "auto-1", 30)
    assert (accepted.session_expiry_interval, accepted.receive_max, accepted.topic_alias_max) == (60, 512, 16)
    assert accepted.max_packet_size == 1000
    assert not accepted.wildcard_subscription_available
    assert (refused.session_present, refused.reason_code) == (False, 0x86)
    codes = [
        (getattr(packet, "packet_id", None), getattr(packet, "reason_codes", None) or getattr(packet, "reason_code", 0))
        for packet in answers
    ]
    assert codes == [
        (7, 0), (8, 0x87), (9, 0), (10, 0x90), (11, 0), (12, 0x92), (13, [0, 1, 0x87]), (14, [0, 0x11]), (None, 0),
        (None, 0x8E),
    ]  # fmt: skip


def test_server_packets_of_mqtt_3_1_1() -> None:
    assert codec.connack_v311(Connack.ACCEPTED, present=True) == b"\x20\x02\x01\x00"
    assert codec.connack_v311(Connack.NOT_AUTHORISED) == b"\x20\x02\x00\x05"
    assert codec.suback(4, 258, [1, 0x80]) == b"\x90\x04\x01\x02\x01\x80"
    assert codec.unsuback(4, 258, [0]) == b"\xb0\x02\x01\x02"
    assert codec.suback(4, 1, [0] * 130)[:3] == b"\x90\x84\x01"


def _paho_packets(version: int) -> list[bytes]:
    """What paho-mqtt sends over a session of everything."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    sent: list[bytes] = []
    long = bytes(range(256)) * 2

    def serve() -> None:
        peer, _ = listener.accept()
        client = RawClient(peer)
        answers = {
            1: b"\x20\x02\x00\x00" if version == 4 else b"\x20\x03\x00\x00\x00", 6: b"\x70\x02\x00\x02",
            8: codec.suback(version, 3, [1]), 10: codec.unsuback(version, 4, [0]), 12: codec.PINGRESP,
        }  # fmt: skip
        while packet := client.packet():
            sent.append(packet)
            answer = answers.get(packet[0] >> 4)
            if packet[0] >> 4 == 3 and packet[0] & 6:
                identifier = codec.read(packet, 0, version, LIMIT)[0]
                assert isinstance(identifier, Publish)
                answer = (codec.puback if identifier.qos == 1 else codec.pubrec)(identifier.packet_id)
            if answer:
                with contextlib.suppress(ConnectionError):  # it may have sent DISCONNECT and gone
                    peer.sendall(answer)
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    protocol = paho.MQTTv311 if version == 4 else paho.MQTTv5
    client = paho.Client(CallbackAPIVersion.VERSION2, "c1", protocol=protocol)
    if version == 5:
        client.connect("127.0.0.1", port, clean_start=True)
    else:
        client.connect("127.0.0.1", port)
    client.loop_start()
    eventually(client.is_connected)
    client.publish("vitals/d1/json", b"{}", 1).wait_for_publish(5)
    client.publish("vitals/d1/json", long, 2).wait_for_publish(5)
    client.subscribe("commands/d1", 1)
    client.unsubscribe("commands/d1")
    # paho spends a packet id on QoS 0 too, so this one comes last.
    client.publish("vitals/d1/json", b"", 0).wait_for_publish(5)
    client._send_pingreq()
    eventually(lambda: len(sent) >= 8)
    client.disconnect()
    client.loop_stop()
    thread.join(5)
    listener.close()
    return sent


@versions
def test_corpus_is_what_paho_sends(version: int) -> None:
    wanted = {case.data for case in CASES if case.version == version and case.paho and case.name != "connect-full"}
    assert wanted == set(_paho_packets(version))


def test_full_connect_is_what_paho_sends() -> None:
    case = next(case for case in CASES if case.name == "connect-full" and case.version == 4)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = paho.Client(CallbackAPIVersion.VERSION2, "c1", clean_session=True)
        client.username_pw_set("d1")
        client._password = b"s\xff\x00cr\x01"
        client.will_set("vitals/d1/status", b"offline", 1, retain=True)
        client.connect("127.0.0.1", listener.getsockname()[1])
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(1000) == case.data
        client.disconnect()
        client.loop_misc()
