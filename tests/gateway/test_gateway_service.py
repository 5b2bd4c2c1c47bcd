"""The running gateway: heartbeats, presence, keep-alive, revocation, takeover, back-pressure, readiness, stop."""

import socket
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from device_gateway.mqtt.server import require_loopback
from device_gateway.settings import GatewaySettings
from tests.gateway.harness import (
    Gateway,
    RawClient,
    connect,
    events,
    heartbeats,
    messages,
    puback,
    publish,
    raw_log,
    received,
    wait_for_messages,
)
from tests.support import eventually
from vitals.encoding import decode
from vitals.errors import ConfigError
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent
from vitals.steady import SETTLE_NS, SteadyClock
from vitals.times import HOUR_NS

PING, PONG, DISCONNECT = b"\xc0\x00", b"\xd0\x00", b"\xe0\x00"
JSON = "vitals/d1/json"


def test_status_socket_is_private_and_tells_readiness_and_metrics(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as client:
        assert stat.S_IMODE(gateway.status_path.stat().st_mode) == 0o600
        client.sign_in()
        client.send(publish(JSON, b"", qos=0), publish(JSON, b""), publish(JSON, b"", qos=2, packet_id=2))
        client.packets(2)
        status = gateway.status()
        assert (status["ready"], status["reasons"]) == (True, [])
        lines = status["metrics"].splitlines()
        assert "vitalgate_connections 1.0" in lines
        for qos in (0, 1, 2):
            assert f'vitalgate_messages_received_total{{qos="{qos}"}} 1.0' in lines
        assert 'vitalgate_stage_seconds_count{stage="durable"} 3.0' in lines
        assert 'vitalgate_stage_seconds_bucket{le="+Inf",stage="durable"} 3.0' in lines
        assert "d1" not in status["metrics"]
    assert not gateway.status_path.exists()


def test_the_ledgers_left_side_counts_messages_per_device(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as hub:
        hub.sign_in("hub")
        for number, child in enumerate(("kid", "kid", "kid2", "hub"), 1):
            hub.send(publish(f"vitals/{child}/json", b"", packet_id=number))
            hub.packet()
        hub.send(publish("vitals/kid/status", b"online", packet_id=9))
        hub.packet()
        assert received(gateway.log) == {"kid": 2, "kid2": 1, "hub": 1}


def test_heartbeats_stand_after_everything_received_before_them(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(heartbeat_s=0.02)) as gateway, RawClient(gateway.port) as client:
        client.sign_in()
        for number in range(200):
            client.send(publish(JSON, b"", packet_id=1 + number))
            client.packet()
        eventually(lambda: len(heartbeats(gateway.log)) > 5)
        beats = heartbeats(gateway.log)
        assert beats == sorted(beats, key=lambda beat: beat[1])
        for message in messages(gateway.log):
            for position, time_ns in beats:
                assert message.received_ns >= time_ns or message.ordinal >> 16 < position


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
def test_a_step_of_the_machines_clock_is_told_and_followed_when_it_has_settled(tmp_path: Path, step_ns: int) -> None:
    up_and_wall_ns = [(0, 0)]
    clock = SteadyClock(
        lambda: time.time_ns() + up_and_wall_ns[0][1], lambda: time.time_ns() + up_and_wall_ns[0][0], follows=False
    )
    with Gateway(tmp_path, GatewaySettings(heartbeat_s=0.02), clock=clock) as gateway:
        eventually(lambda: len(heartbeats(gateway.log)) > 2)
        up_and_wall_ns[0] = (0, step_ns)
        eventually(lambda: len(clock_steps(gateway.log)) == 2, what="the step is told")
        told = gateway.log.end()
        up_and_wall_ns[0] = (SETTLE_NS, step_ns + SETTLE_NS)
        eventually(lambda: len(clock_steps(gateway.log)) == 3, what="the step is followed")
        eventually(lambda: heartbeats(gateway.log)[-1][0] > clock_steps(gateway.log)[-1][0], what="a beat after it")
        started, noticed, followed = clock_steps(gateway.log)
        assert started[1:] == ("settled", 0.0), "a start forgets what was noticed before"
        assert (noticed[1], followed[1]) == ("moved", "settled")
        for step in (noticed, followed):
            assert step[2] == pytest.approx(step_ns / 1e9, abs=0.5)
        beats = heartbeats(gateway.log)
        before = [time_ns for position, time_ns in beats if position < told]
        after = [time_ns for position, time_ns in beats if position > followed[0]]
        assert before == sorted(before)
        assert after[0] - before[-1] == pytest.approx(step_ns + SETTLE_NS, abs=20e9), "by the new time behind the step"


def clock_steps(log: LocalLog) -> list[tuple[int, str, float]]:
    """(position, detail, seconds) of every step of the clock."""
    found = []
    for row in log.read(0, streams=["clock"], limit=1000):
        entry = decode(row.body)
        assert isinstance(entry, list)
        found += [(row.position, one.detail, one.value or 0.0) for one in entry if isinstance(one, DeviceEvent)]
    return found


def test_presence_is_told_when_the_last_connection_of_a_device_ends(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as one:
        one.sign_in(client_id="one")
        with RawClient(gateway.port) as two:
            two.sign_in(client_id="two")
        one.send(PING)
        one.packet()
        one.send(DISCONNECT)
        eventually(lambda: len(events(gateway.log)) == 3)
        assert events(gateway.log) == [
            ("d1", "online", "connected"),
            ("d1", "online", "connected"),
            ("d1", "offline", "disconnected"),
        ]


def test_a_will_is_presence_and_told_once(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        with RawClient(gateway.port) as client:
            client.sign_in(will=("vitals/d1/status", b"offline"))
        eventually(lambda: len(events(gateway.log)) == 2)
        with RawClient(gateway.port) as client:
            client.sign_in(will=("vitals/d1/status", b"battery died"))
        [message] = wait_for_messages(gateway.log, 1)
        assert (message.adapter, message.payload) == ("status", b"battery died")
        with RawClient(gateway.port) as client, RawClient(gateway.port) as other:
            client.sign_in(client_id="other")
            other.sign_in(will=("vitals/d1/status", b"offline"))
            other.socket.close()
            eventually(lambda: ("d1", "offline", "will") in events(gateway.log))
        assert [kind for _, kind, _ in events(gateway.log)][:2] == ["online", "offline"]


def test_a_delayed_will_is_not_published_when_the_device_is_back_in_time(tmp_path: Path) -> None:
    choices: dict[str, Any] = {
        "version": 5,
        "will": ("vitals/d1/status", b"offline"),
        "properties": b"\x11\x00\x00\x00\x64",
        "clean": False,
    }
    with Gateway(tmp_path) as gateway:
        with RawClient(gateway.port) as client:
            client.sign_in(**choices, will_properties=b"\x18\x00\x00\x00\x3c")
        eventually(lambda: "vitalgate_connections 0.0" in gateway.status()["metrics"])
        with RawClient(gateway.port) as client:
            assert client.sign_in(**choices, will_properties=b"\x18\x00\x00\x00\x01")[2] == 1
            assert [kind for _, kind, _ in events(gateway.log)] == ["online", "online"]
        eventually(lambda: events(gateway.log)[-1] == ("d1", "offline", "will, connection lost"))
        with RawClient(gateway.port) as client:
            client.sign_in(**choices, will_properties=b"\x18\x00\x00\x00\x3c")
        eventually(lambda: "vitalgate_connections 0.0" in gateway.status()["metrics"])
        gateway.stop()
        assert [kind for _, kind, _ in events(gateway.log)] == ["online", "online", "offline", "online", "offline"]


def test_takeover_keeps_what_the_old_connection_had_accepted(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as old:
        old.sign_in(clean=False)
        old.send(publish(JSON, b"1", packet_id=1), publish(JSON, b"2", qos=2, packet_id=2))
        assert old.packets(2) == [puback(1), b"\x50\x02\x00\x02"]
        with RawClient(gateway.port) as new:
            assert new.sign_in(clean=False) == b"\x20\x02\x01\x00"
            assert old.packet() == b""
            new.send(publish(JSON, b"2", qos=2, packet_id=2, dup=True), publish(JSON, b"1", packet_id=1, dup=True))
            assert new.packets(2) == [b"\x50\x02\x00\x02", puback(1)]
        found = messages(gateway.log)
        assert [message.payload for message in found] == [b"1", b"2", b"1"]
        assert found[2].resend_of == found[0].ordinal
        assert not found[2].dup
        assert [kind for _, kind, _ in events(gateway.log)][:2] == ["online", "online"]


def test_a_resend_in_the_same_commit_points_at_its_original(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as client:
        client.sign_in()
        client.send(*(publish(JSON, b"%d" % n, packet_id=1 + n) for n in range(3)))
        client.send(publish(JSON, b"1", packet_id=2, dup=True))
        client.packets(4)
        found = messages(gateway.log)
        assert [message.resend_of for message in found] == [-1, -1, -1, found[1].ordinal]


def test_silent_clients_are_closed_after_one_and_a_half_keep_alives(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, RawClient(gateway.port) as v5, RawClient(gateway.port) as v311:
        v5.sign_in("d1", version=5, keep_alive=1)
        v311.sign_in("d2", keep_alive=1)
        with RawClient(gateway.port) as patient:
            patient.sign_in("d3", keep_alive=0)
            assert v5.packet() == b"\xe0\x01\x8d"
            assert v5.packet() == v311.packet() == b""
            patient.send(PING)
            assert patient.packet() == PONG
        eventually(lambda: ("d1", "offline", "timeout") in events(gateway.log))


def test_a_connection_without_connect_is_closed(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(connect_timeout_s=0.5)) as gateway, RawClient(gateway.port) as client:
        client.send(connect()[:5])
        assert client.packet() == b""


def test_connections_are_limited(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(max_connections=2)) as gateway:
        with RawClient(gateway.port) as one, RawClient(gateway.port) as two:
            one.sign_in("d1")
            two.sign_in("d2")
            with RawClient(gateway.port) as three:
                assert three.packet() == b""
            one.send(PING)
            assert one.packet() == PONG
        with RawClient(gateway.port) as again:
            assert eventually(lambda: _signs_in(gateway.port))
            assert again.socket.fileno() > 0


def _signs_in(port: int) -> bool:
    with RawClient(port) as client:
        try:
            return client.sign_in("d3") == b"\x20\x02\x00\x00"
        except ConnectionError:
            return False


def test_revoked_devices_are_disconnected(tmp_path: Path) -> None:
    with Gateway(tmp_path, GatewaySettings(heartbeat_s=0.05)) as gateway:
        with RawClient(gateway.port) as one, RawClient(gateway.port) as other:
            one.sign_in("d1", version=5)
            other.sign_in("d2")
            gateway.registry.revoke("d1")
            assert one.packet() == b"\xe0\x01\x87"
            assert one.packet() == b""
            other.send(PING)
            assert other.packet() == PONG
        eventually(lambda: ("d1", "offline", "revoked") in events(gateway.log))


def test_stop_makes_everything_durable_and_says_goodbye(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    with gateway, RawClient(gateway.port) as v5, RawClient(gateway.port) as v311, RawClient(gateway.port) as silent:
        v5.sign_in("d1", version=5)
        v311.sign_in("d2")
        v5.send(publish(JSON, b"last", version=5))
        assert v5.packet() == puback(1)
        gateway.stop()
        assert v5.packet() == b"\xe0\x01\x8b"
        assert v5.packet() == v311.packet() == silent.packet() == b""
        assert sorted(events(gateway.log)[-2:]) == [
            ("d1", "offline", "gateway stopped"),
            ("d2", "offline", "gateway stopped"),
        ]
        assert gateway.log.query("SELECT count(*) FROM online") == [(0,)]


def test_the_gateway_does_not_listen_beyond_loopback_without_tls(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.socket.close()
    gateway.socket = socket.socket()
    gateway.socket.bind(("0.0.0.0", 0))
    with pytest.raises(ConfigError, match="loopback"), gateway:
        pass
    gateway.socket.close()
    gateway.log.close()
    with socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        require_loopback([sock])


def test_a_log_that_is_broken_for_good_ends_the_service(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)

    def publish_into_it() -> None:
        with gateway, RawClient(gateway.port) as client:
            client.sign_in()
            with gateway.log.transaction() as tx:
                tx.connection.execute(
                    "CREATE TRIGGER broken BEFORE INSERT ON received BEGIN SELECT RAISE(ABORT, 'broken'); END"
                )
            client.send(publish(JSON, b"x"))
            assert client.packet() == b"", "closed, not acknowledged"

    with pytest.raises(sqlite3.IntegrityError, match="broken"):
        publish_into_it()


def test_settings_are_checked() -> None:
    for choices in ({"max_packet": 0}, {"receive_maximum": 65536}, {"session_expiry_max_s": 2**32 - 1}):
        with pytest.raises(ConfigError, match=f"gateway.{next(iter(choices))}"):
            GatewaySettings(**choices)  # type: ignore[arg-type]


def test_devices_connected_at_a_crash_go_offline_at_the_next_start(tmp_path: Path) -> None:
    log = raw_log(tmp_path)
    with log.transaction() as tx:
        tx.connection.execute("INSERT INTO online VALUES('d2')")
    with Gateway(tmp_path, log=log) as gateway:
        eventually(lambda: events(gateway.log) == [("d2", "offline", "gateway restarted")])
        assert gateway.log.query("SELECT * FROM online") == []


def test_presence_published_at_qos_2_is_told_once(tmp_path: Path) -> None:
    online = publish("vitals/d1/status", b"online", qos=2, packet_id=4)
    with Gateway(tmp_path) as gateway:
        with RawClient(gateway.port) as client:
            client.sign_in(clean=False)
            client.send(online)
            assert client.packet() == b"\x50\x02\x00\x04"
        assert gateway.log.query("SELECT * FROM held") == [("d1", "c1", 4)]
        with RawClient(gateway.port) as client:
            client.sign_in(clean=False)
            client.send(online, b"\x62\x02\x00\x04")
            assert client.packets(2) == [b"\x50\x02\x00\x04", b"\x70\x02\x00\x04"]
        assert events(gateway.log).count(("d1", "online", "status")) == 1
        assert gateway.log.query("SELECT * FROM held") == []


def test_sessions_are_swept_when_their_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_gateway.service._EXPIRE_EVERY", 1)
    with Gateway(tmp_path, GatewaySettings(heartbeat_s=0.05)) as gateway:
        with RawClient(gateway.port) as client:
            client.sign_in(version=5, clean=False, properties=b"\x11\x00\x00\x00\x64")
            assert gateway.log.query("SELECT device, client, expiry_s FROM sessions") == [("d1", "c1", 100)]
            client.send(b"\xe0\x07\x00\x05\x11\x00\x00\x00\x01")
            assert client.packet() == b""
        eventually(lambda: gateway.log.query("SELECT expiry_s FROM sessions") == [(1,)])
        eventually(lambda: gateway.log.query("SELECT * FROM sessions") == [])


def test_a_bug_in_the_heartbeat_ends_the_service(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, GatewaySettings(heartbeat_s=0.05))

    def break_it() -> None:
        with gateway:
            gateway.registry.version = None  # type: ignore[assignment, method-assign]
            eventually(lambda: gateway.error is not None)

    with pytest.raises(TypeError):
        break_it()
