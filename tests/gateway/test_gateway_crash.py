"""Durable sessions over ``kill -9``: a strict client resumes from any half-way state, nothing is lost or doubled."""

import random
import signal
from pathlib import Path

import pytest

from tests.gateway.harness import (
    GatewayProcess,
    RawClient,
    events,
    messages,
    payloads,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    raw_log,
    received,
)

JSON = "vitals/d1/json"
PRESENT = {4: b"\x20\x02\x01\x00", 5: b"\x01"}
versions = pytest.mark.parametrize("version", [4, 5])


def resume(gateway: GatewayProcess, version: int, **choices: object) -> tuple[RawClient, bool]:
    """A client that keeps its session, and whether it was present."""
    client = RawClient(gateway.port)
    properties = b"\x11\x00\x00\x0e\x10" if version == 5 else b""
    reply = client.sign_in(version=version, clean=False, properties=properties, **choices)
    assert reply[3] == 0
    return client, reply[2] == 1


def crash(gateway: GatewayProcess) -> None:
    assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
    gateway.start()


@versions
def test_qos_2_half_way_states_survive(tmp_path: Path, version: int) -> None:
    with GatewayProcess(tmp_path) as gateway:
        client, present = resume(gateway, version)
        assert not present
        client.send(*(publish(JSON, b"%d" % n, version=version, qos=2, packet_id=n) for n in (1, 2, 3)))
        assert client.packets(3) == [pubrec(1), pubrec(2), pubrec(3)]
        client.send(pubrel(3))
        assert client.packet() == pubcomp(3)
        crash(gateway)
        assert client.packet() == b""
        client.socket.close()

        client, present = resume(gateway, version)
        assert present
        # 1: PUBREC got lost, so it is sent again. 2: PUBREC arrived. 3: done, and its id is used anew.
        client.send(publish(JSON, b"1", version=version, qos=2, packet_id=1, dup=True), pubrel(1), pubrel(2))
        assert client.packets(3) == [pubrec(1), pubcomp(1), pubcomp(2)]
        client.send(publish(JSON, b"new 3", version=version, qos=2, packet_id=3), pubrel(3))
        assert client.packets(2) == [pubrec(3), pubcomp(3)]
        crash(gateway)
        client.socket.close()

        client, present = resume(gateway, version)
        assert present
        # PUBCOMP of 3 got lost: PUBREL comes again and has nothing left to do.
        client.send(pubrel(3))
        assert client.packet() == (pubcomp(3) if version == 4 else b"\x70\x03\x00\x03\x92")
        client.send(b"\xe0\x00")
        client.packet()
        client.socket.close()
        gateway.end(signal.SIGTERM)
        log = raw_log(tmp_path)
        assert [message.payload for message in messages(log)] == [b"1", b"2", b"3", b"new 3"]
        assert received(log) == {"d1": 4}
        assert log.query("SELECT count(*) FROM held") == [(0,)]
        log.close()


@versions
def test_kill_at_any_moment_loses_no_acknowledged_message(tmp_path: Path, version: int) -> None:
    """A strict QoS 2 client through five kills at random moments: each payload exactly once."""
    choose = random.Random(version)
    total, sent = 400, 0
    unfinished: dict[int, tuple[str, bytes]] = {}
    with GatewayProcess(tmp_path) as gateway:
        for round_ in range(6):
            client, present = resume(gateway, version)
            assert present == (round_ > 0)
            for packet_id, (step, payload) in unfinished.items():
                if step == "publish":
                    client.send(publish(JSON, payload, version=version, qos=2, packet_id=packet_id, dup=True))
                else:
                    client.send(pubrel(packet_id))
            answers = choose.randrange(50, 150) if round_ < 5 else 10**9
            while answers and (unfinished or sent < total):
                while len(unfinished) < 20 and sent < total:
                    sent += 1
                    unfinished[sent] = ("publish", b"%d" % sent)
                    client.send(publish(JSON, b"%d" % sent, version=version, qos=2, packet_id=sent))
                answer = client.packet()
                packet_id = int.from_bytes(answer[2:4], "big")
                if answer[0] == 0x50:
                    unfinished[packet_id] = ("pubrel", b"")
                    client.send(pubrel(packet_id))
                else:
                    assert answer[0] == 0x70
                    del unfinished[packet_id]
                answers -= 1
            if round_ < 5:
                crash(gateway)
            client.socket.close()
        gateway.end(signal.SIGTERM)
    log = raw_log(tmp_path)
    assert payloads(log) == {b"%d" % (1 + n): 1 for n in range(total)}
    log.close()


@versions
def test_qos_1_resend_after_a_crash_is_marked(tmp_path: Path, version: int) -> None:
    with GatewayProcess(tmp_path) as gateway:
        client, _ = resume(gateway, version)
        client.send(publish(JSON, b"x", version=version))
        assert client.packet() == puback(1)
        crash(gateway)
        client.socket.close()
        client, present = resume(gateway, version)
        assert present
        client.send(publish(JSON, b"x", version=version, dup=True))
        assert client.packet() == puback(1)
        client.socket.close()
        gateway.end(signal.SIGTERM)
    log = raw_log(tmp_path)
    assert [(message.payload, message.dup) for message in messages(log)] == [(b"x", False), (b"x", True)]
    assert ("d1", "offline", "gateway restarted") in events(log)
    log.close()


def test_sessions_end_when_they_should(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        client, _ = resume(gateway, 4)
        client.send(publish(JSON, b"x", qos=2))
        assert client.packet() == pubrec(1)
        client.socket.close()
        # A clean session forgets the held id: the same PUBLISH is a new message, for the log and after a crash.
        with RawClient(gateway.port) as clean:
            assert clean.sign_in(clean=True) == b"\x20\x02\x00\x00"
            clean.send(publish(JSON, b"y", qos=2))
            assert clean.packet() == pubrec(1)
        crash(gateway)
        client, present = resume(gateway, 4)
        assert not present
        client.send(publish(JSON, b"z", qos=2))
        assert client.packet() == pubrec(1)
        client.socket.close()
        gateway.end(signal.SIGTERM)
    log = raw_log(tmp_path)
    assert [message.payload for message in messages(log)] == [b"x", b"y", b"z"]
    log.close()
