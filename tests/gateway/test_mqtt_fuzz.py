"""100,000 mutated packets of both versions: the machine never fails in any other way than by closing, keeps no memory,
and a healthy client beside it notices nothing."""

import random
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_gateway.access import SignIn
from device_gateway.mqtt.session import Session, State
from device_gateway.sessions import SessionKey, StoredSession
from device_gateway.settings import GatewaySettings
from tests.gateway.harness import Gateway, RawClient, connect, messages, puback, publish
from tests.gateway.mqtt_corpus import CASES

FRAMES = 100_000
NOW = 1_700_000_000_000_000_000
SETTINGS = GatewaySettings()


def mutated(choose: random.Random, version: int) -> Iterator[bytes]:
    """Corpus packets with bytes flipped, inserted, removed, doubled, or two packets crossed; for ever."""
    corpus = [case.data for case in CASES if case.version == version]
    while True:
        data = bytearray(choose.choice(corpus))
        for _ in range(choose.randint(1, 4)):
            at = choose.randrange(len(data) + 1)
            match choose.randrange(6):
                case 0 if at < len(data):
                    data[at] = choose.randrange(256)
                case 1 if at < len(data):
                    data[at] ^= 1 << choose.randrange(8)
                case 2:
                    data[at:at] = choose.randbytes(choose.randint(1, 8))
                case 3 if len(data) > 2:
                    del data[at : at + choose.randint(1, 8)]
                case 4:
                    data[at:at] = data[at : at + 16]
                case _:
                    other = choose.choice(corpus)
                    data[at:] = other[choose.randrange(len(other)) :]
        if choose.random() < 0.5 and 1 < len(data) < 129:
            data[1] = len(data) - 2  # a length that fits takes the mutation past the fixed header
        yield bytes(data)


def open_session(version: int) -> Session:
    session = Session(SETTINGS, lambda *_: False, lambda: "auto")
    session.receive(connect(version=version), NOW)
    session.decided(SignIn.ALLOWED)
    stored = StoredSession(SessionKey("d1", "c1"), version, 0, durable=False)
    session.opened(stored, present=False, now_ns=NOW)
    return session


def feed(version: int, count: int, seed: int) -> dict[State, int]:
    """Feed frames to sessions, fresh or connected, replaced when they close."""
    choose = random.Random(seed)
    ends = dict.fromkeys(State, 0)
    session = open_session(version)
    for number, data in zip(range(count), mutated(choose, version), strict=False):
        session.receive(data, NOW)
        session.settled(10)
        ends[session.state] += 1
        if session.state is State.CLOSED or len(session._buffer) > 2000:
            session = Session(SETTINGS, lambda *_: False, lambda: "auto") if number % 3 else open_session(version)
        if session.state is State.AUTHENTICATING:
            session = open_session(version)
    return ends


@pytest.mark.parametrize("version", [4, 5])
def test_mutated_packets_close_and_never_break(version: int, capfd: pytest.CaptureFixture[str]) -> None:
    ends = feed(version, FRAMES // 2, seed=version)
    assert ends[State.CLOSED] > FRAMES // 10
    assert ends[State.CONNECTED] > FRAMES // 50, "some mutations are harmless"
    assert capfd.readouterr().err == "", "no panic in the library"


@pytest.mark.parametrize("version", [4, 5])
def test_mutated_packets_leave_nothing_behind(version: int) -> None:
    feed(version, 2_000, seed=1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        feed(version, 4_000, seed=2)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000


@pytest.mark.parametrize("version", [4, 5])
def test_a_healthy_client_is_undisturbed_beside_mutated_ones(tmp_path: Path, version: int) -> None:
    done = threading.Event()
    acked = []

    def healthy(port: int) -> None:
        with RawClient(port) as client:
            client.sign_in("d2", version=version)
            while not done.is_set() or len(acked) < 100:
                packet_id = len(acked) % 60_000 + 1
                client.send(publish("vitals/d2/json", b"%d" % len(acked), version=version, packet_id=packet_id))
                if client.packet() != puback(packet_id):
                    return
                acked.append(packet_id)

    with Gateway(tmp_path) as gateway:
        thread = threading.Thread(target=healthy, args=(gateway.port,))
        thread.start()
        frames = mutated(random.Random(version), version)
        for _ in range(300):
            with RawClient(gateway.port) as client:
                client.sign_in("d1", version=version)
                try:
                    for _ in range(10):
                        client.send(next(frames))
                    client.socket.shutdown(socket.SHUT_WR)
                    while client.socket.recv(65536):
                        pass
                except OSError:
                    continue
        done.set()
        thread.join(10)
        assert len(acked) >= 100
        assert gateway.status()["ready"]
        found = [message.payload for message in messages(gateway.log) if message.device == "d2"]
        assert found == [b"%d" % number for number in range(len(acked))]
