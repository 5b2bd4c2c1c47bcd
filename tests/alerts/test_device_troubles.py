"""Troubles of devices become alerts of who wears them, by rule; nothing is silent, nothing depends on batches."""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alerts.judging import troubles
from alerts.judging.troubles import GOODBYE, HISTORY, SUPERSEDED, DeviceTroubles, TroubleMove
from alerts.rules.device_faults import describe, site_rules
from alerts.rules.spec import RuleFace, TroubleRule
from ingest.journal import device_life
from tests.alerts.alert_world import SECOND, START_NS, at, batch, reading
from tests.ingest.ingest_world import World
from vitals.glossary import EventKind, Flag
from vitals.model import DeviceEvent, Tick, VitalBatch, concatenate

E = EventKind
MINUTE = 60


def rule(cause: str, after_s: float = 0, name: str = "", version: int = 1) -> TroubleRule:
    face = RuleFace(name or f"copd:T-{cause}", version, cause, "monitoring", "technical", 3600, 0, True)
    return TroubleRule(face, cause, int(after_s * SECOND), 3)


ALL = tuple(rule(cause, after) for cause, after in
            (("battery", 0), ("clock", 0), ("fault", 60), ("flapping", 0), ("gateway", 600)))  # fmt: skip


def event(kind: EventKind, seconds: float, detail: str = "", device: str = "d", **more: Any) -> DeviceEvent:
    return DeviceEvent(device, kind, at(seconds), detail, **more)


def worn(device: str = "d", patient: str | None = "p_1", seconds: float = 0, flags: int = 0) -> VitalBatch:
    return batch(reading(seconds, 95.0, device=device, patient=patient, flags=flags))


class Devices(DeviceTroubles):
    """Device ``d`` worn by ``p_1`` with all rules, watermark 0 s; methods return what moved."""

    def __init__(self, *rules: TroubleRule, wearer: str | None = "p_1") -> None:
        super().__init__()
        self.expect("p_1", rules or ALL)
        if wearer:
            self.observe(worn(patient=wearer))
        self.tick(0)

    def tick(self, seconds: float) -> list[TroubleMove]:
        return self.advance(at(seconds))

    def pass_to(self, seconds: float, step: float = 20) -> list[TroubleMove]:
        """Ticks, one every ``step`` seconds, none of which is an outage."""
        moves: list[TroubleMove] = []
        now = (self._watermark_ns - START_NS) / SECOND
        while now < seconds:
            now = min(now + step, seconds)
            moves += self.tick(now)
        return moves

    def say(self, *what: Any, **more: Any) -> list[TroubleMove]:
        return self.events([event(*what, **more)])


def told(moves: Sequence[TroubleMove]) -> list[tuple[str, bool, float]]:
    return [(move.key, move.begins, (move.at_ns - START_NS) / SECOND) for move in moves]


@pytest.mark.parametrize(
    ("cause", "begin", "end"),
    [
        ("battery", (E.BATTERY_LOW, ""), (E.BATTERY_OK, "")),
        ("clock", (E.FAULT, "clock_fault: clock_not_set"), (E.FAULT_OVER, "clock_fault: clock_not_set")),
        ("fault", (E.FAULT, "sensor_status: sensor_displaced"), (E.FAULT_OVER, "sensor_status: sensor_displaced")),
        ("flapping", (E.FAULT, "flapping: reconnects"), (E.FAULT_OVER, "flapping: taken_over")),
        ("gateway", (E.OFFLINE, "connection lost"), (E.ONLINE, "connected")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after_s", [0, 90])
def test_a_trouble_of_each_cause_begins_after_its_delay_and_ends(
    cause: str, begin: tuple[EventKind, str], end: tuple[EventKind, str], after_s: int
) -> None:
    devices = Devices(rule(cause, after_s))
    key = f"p_1|copd:T-{cause}"
    moves = devices.say(begin[0], 5, begin[1])
    assert told(moves) == ([(key, True, 5)] if not after_s else [])
    moves += devices.pass_to(200)
    assert told(moves) == [(key, True, 5 + after_s)], "the deadline, not the tick"
    over = devices.say(end[0], 210, end[1])
    assert told(over) == [(key, False, 210)]
    assert (over[0].rule, over[0].patient, over[0].device) == (rule(cause, after_s), "p_1", "d")
    identity = ("message", "vital", "since_ns", "number")
    assert [getattr(moves[0], n) for n in identity] == [getattr(over[0], n) for n in identity]
    assert devices.pass_to(400) == []


def test_what_is_over_before_its_delay_is_told_to_nobody() -> None:
    devices = Devices()
    assert devices.say(E.OFFLINE, 5, "connection lost") == []
    assert devices.pass_to(600) == []
    assert devices.say(E.ONLINE, 601, "connected") == []
    assert devices.pass_to(2000) == []


def test_every_alert_has_an_identity_of_its_own() -> None:
    devices = Devices()
    first = devices.say(E.BATTERY_LOW, 5, value=12.0, message=7)
    devices.say(E.BATTERY_OK, 6)
    second = devices.say(E.BATTERY_LOW, 5, value=11.0, message=7)
    assert (first[0].message, first[0].since_ns) == (second[0].message, second[0].since_ns) == (7, at(5))
    assert first[0].number != second[0].number


@pytest.mark.parametrize(
    ("cause", "detail", "value", "text"),
    [
        ("battery", "", 12.4, "Battery of oximeter-1 is low (12 %)"),
        ("battery", "low", None, "Battery of oximeter-1 is low"),
        ("clock", "clock_not_set", None, "Clock of oximeter-1 is wrong: clock not set"),
        ("fault", "sensor_displaced", None, "oximeter-1 reports a fault: sensor displaced"),
        ("flapping", "reconnects", None, "Connection of oximeter-1 is not stable: it connects again and again"),
        ("flapping", "taken_over", None, "Connection of oximeter-1 is not stable: two clients are taken for it"),
        ("gateway", "will, timeout", None, "oximeter-1 is offline: will, timeout"),
    ],
)
def test_words(cause: str, detail: str, value: float | None, text: str) -> None:
    assert describe("oximeter-1", cause, detail, value) == text


class TestWearers:
    def test_nobodys_device_is_the_sites_under_a_rule_of_its_own(self) -> None:
        devices = Devices(wearer=None)
        (move,) = devices.say(E.BATTERY_LOW, 5, value=9.0)
        assert (move.key, move.patient, move.rule.face.name) == ("|technical:battery:d", "", "technical:battery:d")
        assert move.text == "Battery of d is low (9 %) (nobody is known to wear it)"
        (over,) = devices.say(E.BATTERY_OK, 9)
        assert over.text == "Battery of d is low (9 %) (nobody is known to wear it): over"

    def test_the_sites_rules_are_technical_and_low(self) -> None:
        rules = site_rules("hub-1")
        causes = {"battery", "clock", "fault", "flapping", "gateway", "unit", "implausible"}
        assert {one.cause for one in rules} == causes
        assert all(one.face.technical and one.severity == 3 for one in rules)
        assert len({one.face.name for one in rules}) == len(rules)

    def test_a_hub_that_said_goodbye_is_told_by_a_programme_only(self) -> None:
        devices = Devices(wearer=None)
        devices.say(E.OFFLINE, 5, GOODBYE)
        assert devices.pass_to(2 * 3600) == []
        assert told(devices.say(E.OFFLINE, 7201, "connection lost")) == [("|technical:gateway:d", True, 7201)]
        devices = Devices()
        devices.say(E.OFFLINE, 5, GOODBYE)
        assert told(devices.pass_to(700)) == [("p_1|copd:T-gateway", True, 605)]

    @pytest.mark.parametrize("flag", [flag for flag in Flag if flag & int(HISTORY)], ids=lambda flag: str(flag.name))
    def test_history_says_nothing_of_who_wears_a_device_now(self, flag: Flag) -> None:
        devices = Devices()
        devices.observe(worn(patient="p_2", flags=int(flag)))
        assert told(devices.say(E.BATTERY_LOW, 5)) == [("p_1|copd:T-battery", True, 5)]

    def test_readings_of_nobody_take_no_device_away(self) -> None:
        devices = Devices()
        devices.observe(worn(patient=None))
        assert [move.patient for move in devices.say(E.BATTERY_LOW, 5)] == ["p_1"]

    def test_the_last_row_of_a_batch_counts(self) -> None:
        devices = Devices(wearer=None)
        pairs = [("d", "p_1"), ("e", "p_1"), ("d", "p_2"), ("e", "p_1")]
        devices.observe(batch(*(reading(0, 95.0, device=device, patient=patient) for device, patient in pairs)))
        devices.expect("p_2", [rule("battery", name="other:T")])
        assert [move.key for move in devices.say(E.BATTERY_LOW, 5)] == ["p_2|other:T"]
        assert [move.key for move in devices.say(E.BATTERY_LOW, 5, device="e")] == ["p_1|copd:T-battery"]

    def test_a_device_that_changes_hands_takes_its_trouble_along_with_the_next_tick(self) -> None:
        devices = Devices()
        devices.expect("p_2", [rule("battery")])
        devices.say(E.BATTERY_LOW, 5)
        devices.observe(worn(patient="p_2"))
        moves = devices.tick(10)
        assert told(moves) == [("p_1|copd:T-battery", False, 10), ("p_2|copd:T-battery", True, 10)]
        assert moves[0].text == "Battery of d is low: worn by somebody else now"
        assert told(devices.say(E.BATTERY_OK, 15)) == [("p_2|copd:T-battery", False, 15)]

    def test_an_event_of_the_device_is_time_enough_to_see_that_it_changed_hands(self) -> None:
        devices = Devices()
        devices.expect("p_2", [rule("battery"), rule("clock")])
        devices.say(E.BATTERY_LOW, 5)
        devices.observe(worn(patient="p_2"))
        assert told(devices.say(E.FAULT, 7, "clock_fault: drift")) == [
            ("p_1|copd:T-battery", False, 7), ("p_2|copd:T-battery", True, 7), ("p_2|copd:T-clock", True, 7),
        ]  # fmt: skip

    def test_there_and_back_between_two_ticks_is_nothing(self) -> None:
        devices = Devices()
        devices.say(E.BATTERY_LOW, 5)
        devices.observe(worn(patient="p_2"))
        devices.observe(worn(patient="p_1"))
        assert devices.tick(10) == []

    def test_a_wearer_who_becomes_known_takes_over_from_the_site(self) -> None:
        devices = Devices(wearer=None)
        devices.say(E.BATTERY_LOW, 5)
        devices.observe(worn())
        assert told(devices.tick(10)) == [("p_1|copd:T-battery", True, 10), ("|technical:battery:d", False, 10)]


class TestRules:
    def test_without_a_rule_for_it_nothing_is_raised_for_the_patient(self) -> None:
        devices = Devices(rule("clock"))
        assert devices.say(E.BATTERY_LOW, 5) == []
        assert devices.pass_to(4000) == []
        assert devices.say(E.BATTERY_OK, 4001) == []

    def test_a_patient_without_any_rules_is_left_alone(self) -> None:
        devices = Devices()
        devices.expect("p_1", [])
        assert devices.say(E.BATTERY_LOW, 5) == []
        devices.expect("p_1", ALL)
        assert told(devices.tick(9)) == [("p_1|copd:T-battery", True, 9)], "a new rule sees what is there"

    def test_a_rule_that_goes_leaves_what_stands_until_it_is_over(self) -> None:
        devices = Devices()
        devices.say(E.BATTERY_LOW, 5)
        devices.expect("p_1", [rule("battery", version=2)])
        assert devices.tick(9) == [], "the same alert, also under a new version"
        devices.expect("p_1", [])
        assert devices.tick(10) == []
        (over,) = devices.say(E.BATTERY_OK, 11)
        assert (over.begins, over.rule.face.version) == (False, 1)

    def test_two_rules_of_one_cause_stand_apart(self) -> None:
        devices = Devices(rule("gateway", 60, "copd:T1"), rule("gateway", 600, "copd:T2"))
        devices.say(E.OFFLINE, 5, "timeout")
        assert told(devices.pass_to(700)) == [("p_1|copd:T1", True, 65), ("p_1|copd:T2", True, 605)]
        assert told(devices.say(E.ONLINE, 705)) == [("p_1|copd:T1", False, 705), ("p_1|copd:T2", False, 705)]

    def test_one_alert_for_all_devices_of_a_patient_until_the_last_is_well(self) -> None:
        devices = Devices()
        devices.observe(worn("e"))
        assert len(devices.say(E.BATTERY_LOW, 5)) == 1
        assert devices.say(E.BATTERY_LOW, 6, device="e") == []
        assert devices.say(E.BATTERY_OK, 7) == []
        (over,) = devices.say(E.BATTERY_OK, 8, device="e")
        assert over.text == "Battery of d is low: over"

    def test_a_patients_delay_counts_from_the_trouble_that_lasts_longest(self) -> None:
        devices = Devices(rule("fault", 60))
        devices.observe(worn("e"))
        devices.say(E.FAULT, 5, "sensor_status: displaced")
        devices.say(E.FAULT, 35, "sensor_status: broken", device="e")
        assert told(devices.pass_to(100)) == [("p_1|copd:T-fault", True, 65)]
        devices = Devices(rule("fault", 60))
        devices.say(E.FAULT, 5, "sensor_status: displaced")
        devices.say(E.FAULT, 35, "sensor_status: broken")
        devices.say(E.FAULT_OVER, 40, "sensor_status: displaced")
        assert told(devices.pass_to(100)) == [("p_1|copd:T-fault", True, 95)]


class TestReports:
    def test_absent_values_are_told_apart_by_vital_and_not_by_reason(self) -> None:
        devices = Devices(rule("fault"))
        assert len(devices.say(E.FAULT, 1, "value_absent: unavailable", vital=4)) == 1
        assert devices.say(E.FAULT, 2, "value_absent: unavailable", vital=2) == []
        assert devices.say(E.FAULT_OVER, 3, "value_absent: invalid", vital=4) == []
        assert len(devices.say(E.FAULT_OVER, 4, "value_absent: invalid", vital=2)) == 1

    @pytest.mark.parametrize(
        "what",
        [(E.BATTERY_OK, 5), (E.FAULT_OVER, 5, "clock_fault: drift"), (E.ONLINE, 5), (E.BATTERY, 5), (E.CLOCK_FAULT, 5),
         (E.SENSOR_STATUS, 5, "displaced"), (E.VALUE_ABSENT, 5), (E.CONTEXT, 5)],
        ids=lambda what: str(what[0]),
    )  # fmt: skip
    def test_what_opens_nothing(self, what: tuple[Any, ...]) -> None:
        devices = Devices()
        before = devices.dump()
        assert devices.say(*what) == []
        after = devices.dump()
        assert {**after, "presence": before["presence"]} == before

    def test_a_trouble_that_is_said_again_stands_once_with_its_first_words(self) -> None:
        devices = Devices()
        devices.say(E.BATTERY_LOW, 5, value=15.0)
        assert devices.say(E.BATTERY_LOW, 50, value=9.0) == []
        (over,) = devices.say(E.BATTERY_OK, 60)
        assert over.text == "Battery of d is low (15 %): over"

    def test_one_fault_over_leaves_the_others_of_the_device(self) -> None:
        devices = Devices(rule("clock"))
        devices.say(E.FAULT, 1, "clock_fault: drift")
        devices.say(E.FAULT, 2, "clock_fault: not_set")
        assert devices.say(E.FAULT_OVER, 3, "clock_fault: drift") == []
        assert len(devices.say(E.FAULT_OVER, 4, "clock_fault: not_set")) == 1

    @pytest.mark.parametrize(("seconds", "detail", "counts"), [
        (-100, "timeout", False), (100, SUPERSEDED, False), (-700, "timeout", True), (100, "timeout", True),
    ])  # fmt: skip
    def test_presence_is_ordered_as_ingest_orders_it(self, seconds: float, detail: str, counts: bool) -> None:
        devices = Devices(rule("gateway"))
        devices.say(E.ONLINE, 0, "connected")
        assert bool(devices.say(E.OFFLINE, seconds, detail)) is counts
        life = device_life.Life()
        device_life.presence(life, event(E.ONLINE, 0, "connected"))
        device_life.presence(life, event(E.OFFLINE, seconds, detail))
        assert (life.online is False) is counts

    def test_the_words_of_ingest_are_the_same_here(self) -> None:
        assert device_life.DISORDER_NS == troubles.DISORDER_NS
        assert device_life.SUPERSEDED == SUPERSEDED
        life = device_life.Life()
        for seconds in range(12):
            told_by_ingest = device_life.presence(life, event(E.ONLINE, seconds, device_life.TAKEN_OVER))
            if told_by_ingest:
                break
        (fault,) = told_by_ingest
        (move,) = Devices().events([fault])
        assert (move.key, move.text) == (
            "p_1|copd:T-flapping", "Connection of d is not stable: two clients are taken for it",
        )  # fmt: skip


class TestBehindIngest:
    """An oximeter's own bytes and the gateway's events, in the order of the vitals log."""

    SOUND, PROBE_OFF = bytes.fromhex("0060004e00"), bytes.fromhex("083c004e00008800")

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        made = World(tmp_path)
        yield made
        made.close()

    def fold(self, world: World, devices: DeviceTroubles) -> list[TroubleMove]:
        while world.service.step():
            pass
        moves: list[TroubleMove] = []
        for entry in world.entries()[self.seen :]:
            self.seen += 1
            match entry:
                case VitalBatch():
                    devices.observe(entry)
                case Tick():
                    moves += devices.advance(entry.watermark_ns)
                case [DeviceEvent(), *_]:
                    moves += devices.events(entry)  # type: ignore[arg-type]
        return moves

    def test_what_a_device_says_and_does_reaches_its_wearer(self, world: World) -> None:
        self.seen, devices = 0, DeviceTroubles()
        patient = world.worn("o", "ble_plx")
        devices.expect(patient, [rule("battery"), rule("fault"), rule("gateway", 60)])

        def sends(payload: bytes, adapter: str = "ble_plx", kind: str = "2a5f") -> list[tuple[str, bool]]:
            world.clock.advance(5)
            world.send(world.message("o", payload, adapter, kind))
            world.heartbeat()
            return [(move.key, move.begins) for move in self.fold(world, devices)]

        def key(cause: str) -> str:
            return f"{patient}|copd:T-{cause}"

        assert sends(self.SOUND) == []
        assert sends(bytes([12]), "ble_battery", "2a19") == [(key("battery"), True)]
        assert sends(self.PROBE_OFF) == [(key("fault"), True)]
        assert sends(self.PROBE_OFF) == []
        assert sends(self.SOUND) == [(key("fault"), False)]
        assert sends(bytes([60]), "ble_battery", "2a19") == [(key("battery"), False)]
        world.presence("o", online=False)
        for _ in range(4):
            world.clock.advance(20)
            world.heartbeat()
        assert [(move.key, move.begins) for move in self.fold(world, devices)] == [(key("gateway"), True)]
        world.presence("o", online=True)
        assert [(move.key, move.begins) for move in self.fold(world, devices)] == [(key("gateway"), False)]


class TestTime:
    @pytest.mark.parametrize(("seconds", "since"), [(-86_400, -300), (86_400, 300), (-300, -300), (0.5, 0.5)])
    def test_a_wrong_clock_moves_no_deadline_far(self, seconds: float, since: float) -> None:
        devices = Devices(rule("battery", 600))
        devices.say(E.BATTERY_LOW, seconds)
        assert told(devices.pass_to(1000)) == [("p_1|copd:T-battery", True, since + 600)]

    def test_before_the_first_tick_only_rules_without_delay_speak(self) -> None:
        devices = DeviceTroubles()
        devices.expect("p_1", [rule("battery"), rule("fault", 60)])
        devices.observe(worn())
        assert told(devices.events([event(E.BATTERY_LOW, 5), event(E.FAULT, 5, "sensor_status: broken")])) == [
            ("p_1|copd:T-battery", True, 5)
        ]  # fmt: skip
        assert told(devices.advance(at(100))) == [("p_1|copd:T-fault", True, 65)]

    def test_an_outage_makes_nobody_longer_offline(self) -> None:
        devices = Devices(rule("gateway", 600), rule("fault", 600))
        devices.say(E.OFFLINE, 0, "timeout")
        devices.say(E.FAULT, 0, "sensor_status: broken")
        devices.pass_to(100)
        assert told(devices.tick(3700)) == [("p_1|copd:T-fault", True, 600)], "a fault lasts, watched or not"
        assert told(devices.pass_to(4300)) == [("p_1|copd:T-gateway", True, 600 + 3600)]

    def test_what_happened_in_an_outage_counts_from_its_end(self) -> None:
        devices = Devices(rule("gateway", 600))
        devices.say(E.OFFLINE, 3590, "gateway restarted")
        assert devices.tick(3600) == []
        assert told(devices.pass_to(4300)) == [("p_1|copd:T-gateway", True, 4200)]

    def test_a_clock_set_back_restarts_what_lies_ahead_of_it(self) -> None:
        devices = Devices(rule("gateway", 600))
        devices.pass_to(4000, step=30)
        devices.say(E.OFFLINE, 4000, "timeout")
        assert devices.tick(100) == []
        assert told(devices.pass_to(800)) == [("p_1|copd:T-gateway", True, 700)]

    def test_what_elapses_together_is_told_in_order_of_time(self) -> None:
        devices = Devices(rule("fault", 300), rule("gateway", 300))
        devices.observe(worn("e"))
        devices.say(E.OFFLINE, 5, "timeout")
        devices.say(E.FAULT, 4, "sensor_status: broken", device="e")
        assert devices.pass_to(290) == []
        assert told(devices.tick(315)) == [("p_1|copd:T-fault", True, 304), ("p_1|copd:T-gateway", True, 305)]

    def test_what_is_due_at_once_is_numbered_in_order_of_patients(self) -> None:
        devices = Devices()
        for number in range(60):
            devices.observe(worn(f"d{number}", f"p_{number:02}"))
            devices.expect(f"p_{number:02}", [rule("gateway", 60)])
        devices.events([event(E.OFFLINE, 5, "timeout", f"d{number}") for number in range(60)])
        moves = devices.pass_to(100)
        assert [move.patient for move in moves] == [f"p_{number:02}" for number in range(60)]
        assert [move.number for move in moves] == list(range(1, 61)), "not in the order of a set"


_KINDS = (
    (E.BATTERY_LOW, ""), (E.BATTERY_OK, ""), (E.OFFLINE, "timeout"), (E.ONLINE, "connected"), (E.OFFLINE, GOODBYE),
    (E.FAULT, "clock_fault: drift"), (E.FAULT_OVER, "clock_fault: drift"), (E.FAULT, "sensor_status: broken"),
    (E.FAULT_OVER, "sensor_status: broken"), (E.FAULT, "flapping: reconnects"), (E.FAULT_OVER, "flapping: taken_over"),
)  # fmt: skip
_devices, _people = st.sampled_from(["d", "e", "hub"]), st.sampled_from(["p_1", "p_2", None])
_steps = st.one_of(
    st.tuples(st.just("read"), st.lists(st.tuples(_devices, _people, st.sampled_from([0, 0, int(Flag.LATE)])),
                                        min_size=1, max_size=4)),
    st.tuples(st.just("say"), _devices, st.sampled_from(_KINDS), st.sampled_from([-700, -5, 0, 20])),
    st.tuples(st.just("tick"), st.sampled_from([1, 25, 25, 25, 700, -300])),
    st.tuples(st.just("expect"), st.sampled_from(["p_1", "p_2"]),
              st.sampled_from([(), ALL, ALL[:2], (rule("gateway", 50), rule("fault", 20))])),
)  # fmt: skip


def _run(script: Sequence[tuple[Any, ...]], *, merged: bool, restore_at: int = -1) -> tuple[list[TroubleMove], bytes]:
    """Fold a script, reading batches merged or row by row; moves, and the state at the end."""
    devices, moves, now = DeviceTroubles(), list[TroubleMove](), 0.0
    held: list[VitalBatch] = []
    for number, step in enumerate(script):
        if number == restore_at:
            wire = msgspec.msgpack.encode(devices.dump())
            devices = DeviceTroubles.load(msgspec.msgpack.decode(wire))
            assert msgspec.msgpack.encode(devices.dump()) == wire
        if step[0] != "read" and held:
            devices.observe(concatenate(held))
            held = []
        match step:
            case ("read", rows):
                batches = [worn(device, patient, now, flags) for device, patient, flags in rows]
                if merged:
                    held += batches
                else:
                    for one in batches:
                        devices.observe(one)
            case ("say", device, (kind, detail), skew):
                moves += devices.events([event(kind, now + skew, detail, device)])
            case ("tick", step_s):
                now += step_s
                moves += devices.advance(at(now))
            case ("expect", patient, rules):
                devices.expect(patient, rules)
    if held:
        devices.observe(concatenate(held))
    return moves, msgspec.msgpack.encode(devices.dump())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(_steps, min_size=4, max_size=50), st.integers(0, 49))
def test_moves_depend_on_the_log_alone(script: list[tuple[Any, ...]], restore_at: int) -> None:
    expected = _run(script, merged=False)
    assert _run(script, merged=True) == expected
    assert _run(script, merged=False, restore_at=restore_at % len(script)) == expected


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(_steps, min_size=4, max_size=50))
def test_alerts_begin_and_end_in_turn_and_none_is_left_when_all_is_well(script: list[tuple[Any, ...]]) -> None:
    moves, state = _run(script, merged=False)
    devices = DeviceTroubles.load(msgspec.msgpack.decode(state))
    for device in ("d", "e", "hub"):
        for kind, detail in _KINDS:
            if kind in (E.BATTERY_OK, E.ONLINE, E.FAULT_OVER):
                moves += devices.events([event(kind, 10**6, detail, device)])
    moves += devices.advance(at(10**6))
    standing: dict[str, TroubleMove] = {}
    for move in moves:
        assert move.begins is (move.key not in standing)
        if move.begins:
            standing[move.key] = move
        else:
            begin = standing.pop(move.key)
            assert (begin.rule, begin.number, begin.since_ns) == (move.rule, move.number, move.since_ns)
    assert standing == {}
    assert len({move.number for move in moves}) == sum(move.begins for move in moves)
    left = devices.dump()
    assert (left["open"], left["placed"], left["standing"]) == ([], [], [])


def test_the_order_of_a_snapshot_is_not_that_of_events() -> None:
    def state(seed: int) -> bytes:
        devices = DeviceTroubles()
        names = [f"d{number}" for number in range(20)]
        random.Random(seed).shuffle(names)
        for name in names:
            devices.observe(worn(name, f"p_{name}"))
            devices.expect(f"p_{name}", [rule("gateway", 600)])
            devices.events([event(E.OFFLINE, 1, "timeout", name)])
        return msgspec.msgpack.encode(devices.dump())

    assert state(1) == state(2)


@pytest.mark.parametrize("damage", [{"watermark_ns": "x"}, {"patients": [["p_1", 5]]}, {"open": None}], ids=str)
def test_a_damaged_state_is_refused(damage: dict[str, Any]) -> None:
    devices = Devices()
    devices.say(E.BATTERY_LOW, 5)
    with pytest.raises((msgspec.ValidationError, KeyError)):
        DeviceTroubles.load(devices.dump() | damage)


def test_rules_that_patients_share_are_stored_once() -> None:
    devices = DeviceTroubles()
    for number in range(1000):
        devices.expect(f"p_{number}", tuple(ALL))
    assert len(devices.dump()["rules"]) == 1


def test_observing_and_waiting_cost_next_to_nothing() -> None:
    devices = DeviceTroubles()
    rows = [reading(0, 95.0, device=f"d{number}", patient=f"p_{number}") for number in range(1000)]
    many = batch(*rows)
    devices.observe(many)
    devices.events([event(E.OFFLINE, 1, "timeout", f"d{number}") for number in range(1000)])
    devices.advance(at(2))
    began = time.process_time()
    for number in range(100):
        devices.observe(many)
        devices.advance(at(3) + number)
    assert (time.process_time() - began) / 100_000 < 1e-6, "a microsecond a reading, with a thousand in trouble"
