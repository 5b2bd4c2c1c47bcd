"""Device states and histories as ingest keeps them, from the raw log to what people ask."""

import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingest.adapter import Context
from ingest.journal import lives as life_journal
from ingest.journal.device_life import SUPERSEDED
from tests.gateway.harness import Gateway, RawClient, frame, puback, publish, raw_log, text
from tests.gateway.harness import events as gateway_events
from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, spo2
from tests.ingest.test_reading_flow import meter
from tests.support import SECOND, eventually
from vitals.catalog import BY_KEY
from vitals.device_state import BATTERY_LOW_PERCENT
from vitals.glossary import EventKind, Mode
from vitals.log.local import LocalLog
from vitals.model import DeviceEvent

STRAP_OFF, STRAP_ON = b"\x04\x50", b"\x06\x50"
"""Heart rate 80 with sensor contact supported: not detected, detected (device-formats.md 2.7)."""


def told(world: World, device: str) -> list[tuple[str, str]]:
    """The history of a device, oldest first."""
    return [(one.event.kind.value, one.event.detail) for one in reversed(world.service.device_events(device))]


def strap(world: World, *payloads: bytes) -> None:
    for payload in payloads:
        world.clock.advance(1)
        world.send(world.message("h", payload, "ble_heart_rate", "2a37"))
    world.drain()


def sync(world: World, *payloads: bytes) -> None:
    world.send(*(world.message("g", payload, "ble_glucose", "2a18") for payload in payloads))
    world.drain()


def test_a_fault_lasts_until_a_sound_reading_and_over_a_restart(world: World) -> None:
    world.worn("h", "ble_heart_rate")
    strap(world, STRAP_ON, STRAP_OFF)
    began = world.clock.now_ns()
    world.restart()
    strap(world, STRAP_OFF)
    (fault,) = world.service.device_state("h").faults
    assert (fault.kind, fault.detail, fault.count) == (EventKind.SENSOR_STATUS, "no_contact", 2)
    assert (fault.first_ns, fault.last_ns) == (began, world.clock.now_ns())
    strap(world, STRAP_ON, STRAP_ON)
    assert world.service.device_state("h").faults == ()
    name = "sensor_status: no_contact"
    assert told(world, "h") == [("sensor_status", "no_contact"), ("fault", name), ("fault_over", name)]
    assert [e.kind.value for e in world.events()] == ["sensor_status", "fault", "sensor_status", "fault_over"]


def test_faults_of_a_stretch_of_the_log_are_folded_in_its_order(world: World) -> None:
    world.worn("h", "ble_heart_rate")
    world.send(*(world.message("h", p, "ble_heart_rate", "2a37") for p in (STRAP_OFF, STRAP_ON, STRAP_OFF, STRAP_OFF)))
    world.drain()
    assert [kind for kind, _ in told(world, "h")] == ["sensor_status", "fault", "fault_over", "sensor_status", "fault"]
    assert world.service.device_state("h").faults[0].count == 2


def test_a_dump_of_old_records_changes_no_state(world: World) -> None:
    world.worn("g", "ble_glucose")
    now = meter(9, "2023-11-14T23:10")
    sync(world, now)
    before = world.service.device_state("g")
    world.clock.advance(60)
    # Battery low and a strip error, days ago: first seen now, and seen again.
    old = [meter(1, "2023-11-10T08:00", status=0x0001), meter(2, "2023-11-11T08:00", status=0x0008)]
    sync(world, *old)
    sync(world, *old, now)
    state = world.service.device_state("g")
    assert state.measured_ns == before.measured_ns
    assert state.last_seen_ns == world.clock.now_ns()
    assert (state.battery_low, state.faults, told(world, "g")) == (None, (), [])


def test_battery_low_is_told_once(world: World) -> None:
    world.worn("g", "ble_glucose")
    sync(world, *(meter(n, "2023-11-14T23:05", status=0x0001) for n in range(3)))
    sync(world, meter(7, "2023-11-14T23:06", status=0x0001))
    assert told(world, "g") == [("battery", "low"), ("battery_low", "")]
    state = world.service.device_state("g")
    assert (state.battery, state.battery_low, state.battery_ns) == (None, True, world.clock.now_ns())


def test_last_measured_is_the_newest_trusted_time(world: World) -> None:
    world.worn("d")
    now = world.clock.now_ns()

    def measured(time_ns: int | str) -> int | None:
        world.send(world.message("d", spo2(97, time_ns)))
        world.drain()
        return world.service.device_state("d").measured_ns

    assert measured(now - HOUR) == now - HOUR
    assert measured(now - 3 * DAY) == now - HOUR, "an old record"
    assert measured(now + DAY) == now - HOUR, "a clock that is ahead"
    assert measured(now - MINUTE) == now - MINUTE
    window = world.service.device_state("d").window_ns
    assert window == BY_KEY["spo2"].silence_ns(Mode.SPOT)


def test_what_is_on_the_worklist_was_measured_too(world: World) -> None:
    world.device("d")
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    assert len(world.waiting()) == 1
    assert world.service.device_state("d").measured_ns == world.clock.now_ns()


def test_replayed_messages_change_no_state(world: World) -> None:
    world.worn("h", "ble_heart_rate")
    adapter = world.adapters.pop("ble_heart_rate")
    world.restart()
    strap(world, STRAP_ON, STRAP_OFF)
    world.adapters["ble_heart_rate"] = adapter
    world.restart()
    assert world.service.replay() == {"decoded": 2, "duplicate": 0, "quarantined": 0}
    state = world.service.device_state("h")
    assert (state.faults, told(world, "h"), state.measured_ns) == ((), [], world.clock.now_ns() - SECOND)


def test_processed_time_leaves_an_outage_out(world: World) -> None:
    start = world.clock.now_ns()
    for pause_s in (1, 1, 3600, 1):
        world.clock.advance(pause_s)
        world.heartbeat()
        world.drain()
    assert world.service.processed().watermark_ns == start + 3603 * SECOND
    assert world.service.processed().since(start) == 3 * SECOND
    world.restart()
    assert world.service.processed().since(start) == 3 * SECOND
    world.clock.advance(-60)
    world.heartbeat()
    world.drain()
    assert world.service.processed().watermark_ns == start + 3603 * SECOND, "a clock that was set back"


def battery(world: World, level: float) -> None:
    """A report of the level, as an adapter's event, through a transaction of its own."""
    event = DeviceEvent("d", EventKind.BATTERY, world.clock.now_ns(), value=level)
    lives = life_journal.LifeJournal(world.journal)
    with world.log.transaction() as tx:
        cycle = world.journal.begin(tx)
        contexts = {"d": Context(settings=world.registry.device("d").settings)}
        lives.flushed(cycle, [((), [event])], contexts, live=True)


@pytest.mark.parametrize(("setting", "low"), [(None, False), ("60", True), ("high", False), ("nan", False)])
def test_the_threshold_of_a_battery_is_a_setting_of_the_device(world: World, setting: str | None, low: bool) -> None:
    world.worn("d")
    world.registry.configure("d", {BATTERY_LOW_PERCENT: setting})
    battery(world, 50.0)
    assert world.service.device_state("d").battery_low is low


def test_histories_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life_journal, "KEPT_EVENTS", 20)
    monkeypatch.setattr(life_journal, "_SLACK_EVENTS", 5)
    world.device("d")
    world.device("other")
    world.presence("other", online=True)
    for number in range(60):
        world.clock.advance(100)
        world.presence("d", online=number % 2 == 0)
    world.drain()
    first = world.service.device_events("d", limit=7)
    rest = world.service.device_events("d", after=str(first[-1].id), limit=100)
    times = [one.event.time_ns for one in first + rest]
    assert times == sorted(times, reverse=True)
    assert times[0] == world.clock.now_ns()
    assert 20 <= len(times) <= 25
    assert len(told(world, "other")) == 1


def test_a_file_of_an_earlier_version_opens(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "vitals.db") as old:
        old.execute(
            "CREATE TABLE device_states(device TEXT PRIMARY KEY, last_seen_ns INTEGER, online INTEGER, battery REAL) "
            "WITHOUT ROWID"
        )
        old.execute("INSERT INTO device_states VALUES('d', 5, 1, 80.0)")
    old.close()
    world = World(tmp_path)
    assert world.service.device_state("d").last_seen_ns == 5
    world.worn("d")
    world.presence("d", online=True)
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    state = world.service.device_state("d")
    assert (state.online, state.last_seen_ns, state.measured_ns) == (True, *[world.clock.now_ns()] * 2)
    world.close()


class Follower:
    """Takes what a real gateway logs about presence into a world."""

    def __init__(self, world: World, log: LocalLog) -> None:
        self.world, self._log, self._after = world, log, 0

    def presence(self) -> tuple[bool | None, str]:
        """Of ``d1``, as far as the gateway has told."""
        for row in self._log.read(self._after, streams=["presence"]):
            self._after = row.position
            self.world.raw.append([("presence", row.body)])
        self.world.drain()
        state = self.world.service.device_state("d1")
        return state.online, state.online_by


def test_presence_of_a_device_at_a_real_gateway(world: World, tmp_path: Path) -> None:
    """Will, status message, the will of an older connection."""
    folder = tmp_path / "gateway"
    folder.mkdir()
    log = raw_log(folder)
    follower = Follower(world, log)
    will = ("vitals/d1/status", b"offline")
    with Gateway(folder, log=log) as gateway:
        with RawClient(gateway.port) as client:
            client.sign_in(will=will)
            assert follower.presence() == (True, "connection")
        eventually(lambda: follower.presence() == (False, "will"), what="the will")
        with RawClient(gateway.port) as lost, RawClient(gateway.port) as back:
            lost.sign_in(client_id="before", will=will)
            back.sign_in(client_id="after")
            lost.socket.close()
            eventually(lambda: ("d1", "offline", SUPERSEDED) in gateway_events(log), what="the will")
            assert follower.presence() == (True, "connection")
            back.send(publish("vitals/d1/status", b"offline", packet_id=1))
            assert back.packet() == puback(1)
            assert follower.presence() == (False, "status")
            back.send(frame(0x33, text("vitals/d1/status") + b"\0\2online"))  # retained, as such clients do
            assert back.packet() == puback(2)
            assert follower.presence() == (True, "status")


def test_a_cloned_client_at_a_real_gateway_is_flapping(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    log = raw_log(folder)
    follower = Follower(world, log)
    with Gateway(folder, log=log) as gateway, ExitStack() as clients:
        for _ in range(5):
            clients.enter_context(RawClient(gateway.port)).sign_in()
        assert follower.presence() == (True, "connection")
    (fault,) = world.service.device_state("d1").faults
    assert (fault.kind, fault.detail) == (EventKind.FLAPPING, "taken_over")
    assert ("fault", "flapping: taken_over") in [(event.kind.value, event.detail) for event in world.events()]
    world.restart()
    world.clock.time_ns = fault.last_ns + 11 * MINUTE
    world.heartbeat()
    world.drain()
    assert world.service.device_state("d1").faults == ()
    assert world.events()[-1].kind is EventKind.FAULT_OVER
