"""The connected state as tables: (version, bytes, actions)."""

from typing import Any

import pytest

from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.mqtt.packets import Code
from device_gateway.mqtt.session import Session, State
from tests.gateway.harness import connect, frame, puback, pubcomp, publish, pubrec, pubrel, text
from tests.gateway.session_states import (
    DISCONNECT,
    JSON,
    NOW,
    PING,
    SETTINGS,
    both,
    connected,
    fresh,
    stored_session,
    told,
)


def published(*args: Any, **choices: Any) -> dict[int, bytes]:
    """The same PUBLISH in both versions."""
    return {version: publish(*args, version=version, **choices) for version in (4, 5)}


CONNECTED_BOTH = (
    ("ping", {4: PING, 5: PING}, [("send", b"\xd0\x00")]),
    ("qos 0", published(JSON, b"x", qos=0), [("accept", "d1/json", b"x", b"", 0, 0, False, False)]),
    ("qos 1", published(JSON, b"x", packet_id=7), [("accept", "d1/json", b"x", puback(7), 1, 0, False, False)]),
    (
        "qos 1 with a kind",
        published(f"{JSON}/a.B-1:_", b"", packet_id=7),
        [("accept", "d1/json/a.B-1:_", b"", puback(7), 1, 0, False, False)],
    ),
    (
        "qos 1 resend of something unknown",
        published(JSON, b"x", packet_id=7, dup=True),
        [("accept", "d1/json", b"x", puback(7), 1, 0, True, False)],
    ),
    ("qos 2", published(JSON, b"x", qos=2), [("accept", "d1/json", b"x", pubrec(1), 0, 1, False, False)]),
    (
        "qos 2 resend of something never received is new",
        published(JSON, b"x", qos=2, dup=True),
        [("accept", "d1/json", b"x", pubrec(1), 0, 1, False, False)],
    ),
    (
        "child of a hub",
        published("vitals/kid/json", b"x", qos=0),
        [("accept", "kid/json", b"x", b"", 0, 0, False, False)],
    ),
    ("presence qos 0", published("vitals/d1/status", b"online", qos=0), [("presence", "d1", "online", b"", 0, 0)]),
    ("presence qos 1", published("vitals/d1/status", b"offline"), [("presence", "d1", "offline", puback(1), 1, 0)]),
    (
        "presence of a child qos 2",
        published("vitals/kid/status", b"online", qos=2),
        [("presence", "kid", "online", pubrec(1), 0, 1)],
    ),
    (
        "presence of another kind goes to quarantine",
        published("vitals/d1/status", b"asleep"),
        [("accept", "d1/status", b"asleep", puback(1), 1, 0, False, False)],
    ),
    (
        "kind below status",
        published("vitals/d1/status/x", b"online"),
        [("accept", "d1/status/x", b"online", puback(1), 1, 0, False, False)],
    ),
    ("ack of nothing", {4: puback(1) + pubrec(1) + pubcomp(1), 5: puback(1) + pubrec(1) + pubcomp(1)}, []),
    ("disconnect", {4: DISCONNECT + PING, 5: DISCONNECT + PING}, [("close", None)]),
)


@pytest.mark.parametrize(
    ("version", "data", "wanted"),
    [
        pytest.param(version, data[version], wanted, id=f"v{version}-{name}")
        for name, data, wanted in CONNECTED_BOTH
        for version in (4, 5)
    ],
)
def test_what_a_connected_client_may_send(version: int, data: bytes, wanted: list[Any]) -> None:
    assert told(connected(version).receive(data, NOW)) == wanted


def _subscribe(version: int, *filters: tuple[str, int]) -> bytes:
    body = b"\x00\x09" + (b"\x00" if version == 5 else b"")
    return frame(0x82, body + b"".join(text(pattern) + bytes((qos,)) for pattern, qos in filters))


def _unsubscribe(version: int, *filters: str) -> bytes:
    return frame(0xA2, b"\x00\x09" + (b"\x00" if version == 5 else b"") + b"".join(map(text, filters)))


CONNECTED_ONE = (
    (4, "second connect", connect(), [("close", None)]),
    (5, "second connect", connect(version=5), [("send", b"\xe0\x01\x82"), ("close", None)]),
    (4, "malformed", b"\x00\x00", [("close", None)]),
    (5, "malformed", b"\x00\x00", [("send", b"\xe0\x01\x81"), ("close", None)]),
    (5, "auth", b"\xf0\x02\x18\x00", [("send", b"\xe0\x01\x82"), ("close", None)]),
    (4, "too large", b"\x30\xd1\x0f", [("close", None)]),
    (5, "too large", b"\x30\xd1\x0f", [("send", b"\xe0\x01\x95"), ("close", None)]),
    (4, "device of another", publish("vitals/d2/json", b""), [("close", None)]),
    (
        5,
        "device of another",
        publish("vitals/d2/json", b"", version=5),
        [("answer", puback(1)[:1] + b"\x03\x00\x01\x87", 1, 0)],
    ),
    (
        5,
        "device of another qos 2",
        publish("vitals/d2/json", b"", version=5, qos=2),
        [("answer", b"\x50\x03\x00\x01\x87", 1, 0)],
    ),
    (
        5,
        "device of another qos 0",
        publish("vitals/d2/json", b"", version=5, qos=0),
        [("send", b"\xe0\x01\x87"), ("close", None)],
    ),
    (4, "no ingest topic", publish("home/kitchen", b""), [("close", None)]),
    (5, "no ingest topic", publish("home/kitchen", b"", version=5), [("answer", b"\x40\x03\x00\x01\x90", 1, 0)]),
    (5, "no ingest topic qos 0", publish("a", b"", version=5, qos=0), [("send", b"\xe0\x01\x90"), ("close", None)]),
    (4, "empty topic", publish("", b"", qos=0), [("close", None)]),
    (5, "adapter in capitals", publish("vitals/d1/JSON", b"", version=5), [("answer", b"\x40\x03\x00\x01\x90", 1, 0)]),
    (5, "level too many", publish("vitals/d1/json/a/b", b"", version=5), [("answer", b"\x40\x03\x00\x01\x90", 1, 0)]),
    (5, "registry down", publish("vitals/unknown/json", b"", version=5), [("send", b"\xe0\x01\x80"), ("close", None)]),
    (4, "subscribe own", _subscribe(4, ("commands/d1", 2)), [("send", b"\x90\x03\x00\x09\x01")]),
    (5, "subscribe own", _subscribe(5, ("commands/d1", 0)), [("send", b"\x90\x04\x00\x09\x00\x00")]),
    (4, "subscribe other", _subscribe(4, ("#", 1), ("commands/d1", 1)), [("send", b"\x90\x04\x00\x09\x80\x01")]),
    (5, "subscribe other", _subscribe(5, ("commands/d2", 1)), [("send", b"\x90\x04\x00\x09\x00\x87")]),
    (4, "unsubscribe", _unsubscribe(4, "commands/d1"), [("send", b"\xb0\x02\x00\x09")]),
    (5, "unsubscribe unknown", _unsubscribe(5, "commands/d1"), [("send", b"\xb0\x04\x00\x09\x00\x11")]),
    (
        5,
        "subscribe, unsubscribe twice",
        _subscribe(5, ("commands/d1", 1)) + _unsubscribe(5, "commands/d1", "commands/d1"),
        [("send", b"\x90\x04\x00\x09\x00\x01"), ("send", b"\xb0\x05\x00\x09\x00\x00\x11")],
    ),
    (4, "pubrel of nothing", pubrel(9), [("answer", pubcomp(9), 0, 0)]),
    (5, "pubrel of nothing", pubrel(9), [("answer", b"\x70\x03\x00\x09\x92", 0, 0)]),
    (
        5,
        "alias over the maximum",
        publish(JSON, b"", version=5, properties=b"\x23\x00\x03"),
        [("send", b"\xe0\x01\x94"), ("close", None)],
    ),
    (
        5,
        "alias unknown",
        publish("", b"", version=5, properties=b"\x23\x00\x01"),
        [("send", b"\xe0\x01\x82"), ("close", None)],
    ),
    (
        5,
        "alias set, used, changed",
        publish(JSON, b"1", version=5, qos=0, properties=b"\x23\x00\x01")
        + publish("", b"2", version=5, qos=0, properties=b"\x23\x00\x01")
        + publish(JSON + "/k", b"3", version=5, qos=0, properties=b"\x23\x00\x01")
        + publish("", b"4", version=5, qos=0, properties=b"\x23\x00\x01"),
        [
            ("accept", path, payload, b"", 0, 0, False, False)
            for path, payload in (("d1/json", b"1"), ("d1/json", b"2"), ("d1/json/k", b"3"), ("d1/json/k", b"4"))
        ],
    ),
    (
        5,
        "receive maximum",
        b"".join(publish(JSON, b"", version=5, packet_id=1 + n) for n in range(4)),
        [
            *[("accept", "d1/json", b"", puback(1 + n), 1, 0, False, False) for n in range(3)],
            ("send", b"\xe0\x01\x93"),
            ("close", None),
        ],
    ),
    (
        4,
        "no receive maximum in 3.1.1",
        b"".join(publish(JSON, b"", packet_id=1 + n) for n in range(4)),
        [("accept", "d1/json", b"", puback(1 + n), 1, 0, False, False) for n in range(4)],
    ),
    (5, "expiry out of nothing", b"\xe0\x07\x00\x05\x11\x00\x00\x00\x05", [("send", b"\xe0\x01\x82"), ("close", None)]),
    (5, "expiry stays nothing", b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00", [("expire", 0), ("close", None)]),
)


@pytest.mark.parametrize(
    ("version", "data", "wanted"),
    [pytest.param(v, data, wanted, id=f"v{v}-{name}") for v, name, data, wanted in CONNECTED_ONE],
)
def test_what_the_versions_answer_differently(version: int, data: bytes, wanted: list[Any]) -> None:
    assert told(connected(version).receive(data, NOW)) == wanted


def test_expiry_may_be_changed_on_leaving_within_the_limit() -> None:
    session = connected(5, properties=b"\x11\x00\x00\x00\x05")
    assert told(session.receive(b"\xe0\x07\x00\x05\x11\xff\xff\xff\xff", NOW)) == [("expire", 1000), ("close", None)]


@both
def test_a_qos_2_id_that_is_held_gives_pubrec_and_no_second_message(version: int) -> None:
    stored = stored_session()
    first = connected(version, stored)
    once = publish(JSON, b"x", version=version, qos=2, packet_id=5)
    assert told(first.receive(once, NOW))[0][0] == "accept"
    again = connected(version, stored)
    repeated = publish(JSON, b"x", version=version, qos=2, packet_id=5, dup=True)
    assert told(again.receive(repeated, NOW)) == [("answer", pubrec(5), 0, 0)]
    assert again.unsettled == 0
    assert told(again.receive(pubrel(5), NOW)) == [("answer", pubcomp(5), 1, 5)]
    assert told(again.receive(once, NOW))[0] == ("accept", "d1/json", b"x", pubrec(5), 0, 5, False, False)


@both
def test_a_qos_1_resend_is_recognised_by_id_dup_topic_and_payload(version: int) -> None:
    def send(session: Session, payload: bytes, packet_id: int, topic: str = JSON) -> tuple[bool, bool]:
        data = publish(topic, payload, version=version, packet_id=packet_id, dup=True)
        entry = told(session.receive(data, NOW))[0]
        session.settled(1)
        return entry[6], entry[7]

    stored = stored_session()
    first = connected(version, stored)
    [original] = first.receive(publish(JSON, b"a", version=version, packet_id=1), NOW)
    again = connected(version, stored)
    [repeat] = again.receive(publish(JSON, b"a", version=version, packet_id=1, dup=True), NOW)
    assert isinstance(original, Accept)
    assert isinstance(repeat, Accept)
    assert repeat.resend_of is original.ticket is not None
    again.settled(1)
    assert send(again, b"a", 1) == (False, True), "a second resend repeats the same original"
    assert send(again, b"b", 1) == (True, False), "other payload"
    assert send(again, b"b", 2) == (True, False), "other id"
    assert send(again, b"b", 2, JSON + "/k") == (True, False), "other topic"
    assert send(again, b"c", 3) == (True, False)
    assert send(again, b"b", 1) == (True, False), "older than the memory"


@both
def test_the_memory_of_resends_holds_as_many_as_its_limit(version: int) -> None:
    def repeats(sent: int) -> bool:
        session = connected(version)
        for packet_id in range(1, sent + 1):
            session.receive(publish(JSON, b"x", version=version, packet_id=packet_id), NOW)
            session.settled(1)
        [again] = session.receive(publish(JSON, b"x", version=version, packet_id=1, dup=True), NOW)
        assert isinstance(again, Accept)
        return again.resend_of is not None

    assert repeats(SETTINGS.resend_memory), "the first of as many as are remembered"
    assert not repeats(SETTINGS.resend_memory + 1)


def test_acks_settle_the_receive_maximum() -> None:
    session = connected(5)
    for number in range(10):
        session.receive(publish(JSON, b"", version=5, packet_id=1 + number), NOW)
        session.settled(1)
    session.settled(1)
    assert (session.unsettled, session.state) == (0, State.CONNECTED)


WILLS = (
    ("3.1.1 disconnect", 4, lambda s: s.receive(DISCONNECT, NOW), None),
    ("5 disconnect", 5, lambda s: s.receive(DISCONNECT, NOW), None),
    ("5 disconnect with will", 5, lambda s: s.receive(b"\xe0\x01\x04", NOW), b"offline"),
    ("connection lost", 4, lambda s: s.lost(), b"offline"),
    ("connection lost", 5, lambda s: s.lost(), b"offline"),
    ("protocol error", 4, lambda s: s.receive(b"\x00\x00", NOW), b"offline"),
    ("keep-alive", 5, lambda s: s.shut(Code.KEEP_ALIVE_TIMEOUT, "keep-alive timeout"), b"offline"),
)


@pytest.mark.parametrize(("version", "end", "payload"), [pytest.param(*row[1:], id=row[0]) for row in WILLS])
def test_when_the_will_is_published(version: int, end: Any, payload: bytes | None) -> None:
    session = connected(version, will=("vitals/d1/status", b"offline"))
    assert told(end(session))[-1] == ("close", payload)
    assert session.lost() == []
    assert session.shut(Code.SHUTTING_DOWN, "again") == []
    assert session.receive(PING, NOW) == []


def test_nothing_is_said_of_a_will_before_the_connection_is_open() -> None:
    session = fresh()
    session.receive(connect(will=("vitals/d1/status", b"offline")), NOW)
    assert told(session.lost()) == [("close", None)]


def test_routes_are_asked_once_and_again_when_the_registry_changed() -> None:
    asked = []

    def ask(device: str, other: str) -> bool:
        asked.append((device, other))
        return len(asked) == 1

    session = Session(SETTINGS, ask, lambda: "")
    session.receive(connect(version=5), NOW)
    session.decided(SignIn.ALLOWED)
    session.opened(stored_session(), present=False, now_ns=NOW)
    data = publish("vitals/kid/json", b"", version=5)
    assert [told(session.receive(data, NOW))[0][0] for _ in range(2)] == ["accept", "accept"]
    session.settled(2)
    session.forget_routes()
    assert told(session.receive(data, NOW))[0][0] == "answer"
    assert asked == [("d1", "kid")] * 2


def test_the_memory_of_topics_is_bounded() -> None:
    session = connected(4)
    for number in range(1000):
        session.receive(publish(f"{JSON}/k{number}", b"", qos=0), NOW)
    assert len(session._topics._routes) <= 256
