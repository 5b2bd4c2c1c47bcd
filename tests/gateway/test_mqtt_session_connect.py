"""From CONNECT to CONNACK, as tables of (bytes, actions)."""

import pytest

from device_gateway.access import SignIn
from device_gateway.mqtt.actions import Action, Authenticate
from device_gateway.mqtt.session import State
from device_gateway.sessions import SessionKey, StoredSession
from tests.gateway.harness import connect, frame, puback, publish, text
from tests.gateway.session_states import JSON, NOW, PING, both, connected, fresh, opening, stored_session, told


def test_connect_goes_through_sign_in_and_durable_session_to_connack() -> None:
    session = fresh()
    assert told(session.receive(connect(secret=b"s"), NOW)) == [("authenticate", "d1", b"s")]
    assert session.state is State.AUTHENTICATING
    assert told(session.decided(SignIn.ALLOWED)) == [("open", "d1", "c1", 0)]
    assert session.state is State.OPENING
    assert told(session.opened(stored_session(), present=True, now_ns=NOW)) == [("send", b"\x20\x02\x01\x00")]
    assert session.state is State.CONNECTED
    assert session.keep_alive_s == 60


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@both
def test_bytes_may_come_in_any_pieces_and_before_connack(version: int, size: int) -> None:
    data = b"".join((
        connect(version=version), publish(JSON, b"x" * 300, version=version),
        publish(JSON, b"y", version=version, packet_id=2), PING,
    ))  # fmt: skip
    session = fresh()
    seen: list[Action] = []
    for at in range(0, len(data), size):
        for action in session.receive(data[at : at + size], NOW):
            seen.append(action)
            if isinstance(action, Authenticate):
                assert session.receive(b"", NOW) == []
                session.decided(SignIn.ALLOWED)
    seen += session.opened(stored_session(), present=False, now_ns=NOW)
    assert [entry[0] for entry in told(seen)] == ["authenticate", "send", "accept", "accept", "send"]
    assert told(seen)[2:] == [
        ("accept", "d1/json", b"x" * 300, puback(1), 1, 0, False, False),
        ("accept", "d1/json", b"y", puback(2), 1, 0, False, False),
        ("send", b"\xd0\x00"),
    ]


REFUSED_CONNECTS = (
    ("empty client id needs a clean session", connect(client_id="", clean=False), b"\x20\x02\x00\x02"),
    ("client id too long", connect(client_id="x" * 257), b"\x20\x02\x00\x02"),
    ("client id too long", connect(version=5, client_id="x" * 257), b"\x20\x03\x00\x85\x00"),
    ("enhanced authentication", connect(version=5, properties=b"\x15" + text("SCRAM")), b"\x20\x03\x00\x8c\x00"),
    ("level 3", connect(version=3), b"\x20\x02\x00\x01"),
    ("level 6", connect(version=6), b"\x20\x03\x00\x84\x00"),
    ("malformed", frame(0x10, connect(version=5)[2:] + b"!"), b"\x20\x03\x00\x81\x00"),
    ("too large for a stranger", frame(0x10, connect(version=5)[2:] + bytes(17_000)), b"\x20\x03\x00\x95\x00"),
)


@pytest.mark.parametrize(("data", "reply"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED_CONNECTS])
def test_connects_that_are_refused_before_sign_in(data: bytes, reply: bytes) -> None:
    session = fresh()
    assert told(session.receive(data, NOW)) == [("send", reply), ("close", None)]
    assert session.state is State.CLOSED


@both
def test_a_client_id_of_exactly_256_characters_is_taken(version: int) -> None:
    for character in "x", "\u00e9":
        session = fresh()
        asked = session.receive(connect(version=version, client_id=character * 256), NOW)
        assert [entry[0] for entry in told(asked)] == ["authenticate"]


def test_a_connack_of_exactly_the_clients_largest_packet_is_sent() -> None:
    def answered(limit: int) -> list[tuple[object, ...]]:
        session = opening(5, properties=b"\x27" + limit.to_bytes(4))
        return told(session.opened(stored_session(), present=False, now_ns=NOW))

    [(_, reply)] = answered(1000)
    assert isinstance(reply, bytes)
    assert answered(len(reply)) == [("send", reply)]
    assert answered(len(reply) - 1) == [("close", None)]


DECISIONS = (
    (SignIn.BAD_CREDENTIALS, b"\x20\x02\x00\x05", b"\x20\x03\x00\x86\x00"),
    (SignIn.REVOKED, b"\x20\x02\x00\x05", b"\x20\x03\x00\x87\x00"),
    (SignIn.TOO_MANY_FAILURES, b"\x20\x02\x00\x05", b"\x20\x03\x00\x9f\x00"),
    (SignIn.UNAVAILABLE, b"\x20\x02\x00\x03", b"\x20\x03\x00\x88\x00"),
)


@pytest.mark.parametrize(("decision", "v311", "v5"), DECISIONS)
def test_sign_ins_that_fail(decision: SignIn, v311: bytes, v5: bytes) -> None:
    for version, reply in ((4, v311), (5, v5)):
        session = fresh()
        session.receive(connect(version=version), NOW)
        assert told(session.decided(decision)) == [("send", reply), ("close", None)]


@both
def test_a_connect_without_a_user_name_is_checked_like_any_other(version: int) -> None:
    assert told(fresh().receive(connect(None, version=version), NOW)) == [("authenticate", "", b"")]


@pytest.mark.parametrize(("version", "reply"), [(4, b"\x20\x02\x00\x05"), (5, b"\x20\x03\x00\x87\x00")])
@pytest.mark.parametrize("topic", ["vitals/d2/status", "vitals/d1/json", "elsewhere"])
def test_a_will_may_only_be_the_devices_own_presence(version: int, reply: bytes, topic: str) -> None:
    session = fresh()
    session.receive(connect(version=version, will=(topic, b"offline")), NOW)
    assert told(session.decided(SignIn.ALLOWED)) == [("send", reply), ("close", None)]


@pytest.mark.parametrize(("version", "reply"), [(4, b"\x20\x02\x00\x03"), (5, b"\x20\x03\x00\x88\x00")])
def test_a_log_that_cannot_be_written_refuses_who_is_not_in_yet(version: int, reply: bytes) -> None:
    for decide in (False, True):
        session = fresh()
        session.receive(connect(version=version), NOW)
        if decide:
            session.decided(SignIn.ALLOWED)
        assert told(session.unavailable()) == [("send", reply), ("close", None)]
        assert session.decided(SignIn.ALLOWED) == []
        assert session.opened(stored_session(), present=False, now_ns=NOW) == []
    assert connected(version).unavailable() == []


EXPIRIES = (
    (4, True, b"", 0),
    (4, False, b"", 1000),
    (5, True, b"", 0),
    (5, True, b"\x11\x00\x00\x00\x0a", 10),
    (5, False, b"\x11\xff\xff\xff\xff", 1000),
)


@pytest.mark.parametrize(("version", "clean", "properties", "expiry_s"), EXPIRIES)
def test_how_long_a_session_lives(version: int, clean: bool, properties: bytes, expiry_s: int) -> None:
    session = fresh()
    session.receive(connect(version=version, clean=clean, properties=properties), NOW)
    assert told(session.decided(SignIn.ALLOWED)) == [("open", "d1", "c1", expiry_s)]


def test_mqtt_5_is_told_what_the_server_decided() -> None:
    session = fresh()
    session.receive(connect(version=5, client_id="", keep_alive=0, properties=b"\x11\x00\x00\xff\xff"), NOW)
    assert told(session.decided(SignIn.ALLOWED)) == [("open", "d1", "auto-1", 1000)]
    stored = StoredSession(SessionKey("d1", "auto-1"), 5, 1000, durable=True)
    [(_, reply)] = told(session.opened(stored, present=False, now_ns=NOW))
    assert b"\x12" + text("auto-1") in reply
    assert b"\x13\x04\xb0" in reply  # server keep-alive 1200
    assert b"\x11\x00\x00\x03\xe8" in reply  # session expiry 1000
    assert b"\x21\x00\x03" in reply  # receive maximum
    assert b"\x22\x00\x02" in reply  # topic alias maximum
    assert session.keep_alive_s == 1200


def test_a_connack_over_the_clients_limit_is_not_sent() -> None:
    session = fresh()
    session.receive(connect(version=5, properties=b"\x27\x00\x00\x00\x05"), NOW)
    session.decided(SignIn.ALLOWED)
    assert told(session.opened(stored_session(), present=False, now_ns=NOW)) == [("close", None)]


def test_an_assigned_client_id_in_3_1_1() -> None:
    session = fresh()
    session.receive(connect(client_id=""), NOW)
    assert told(session.decided(SignIn.ALLOWED)) == [("open", "d1", "auto-1", 0)]
