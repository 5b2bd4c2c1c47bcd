"""An extreme that is nobody's yet is told to the log when it came live, once in a while (promise 6)."""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from ingest.placing.attribution import Unplaced
from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, reading, spo2
from tests.support import SECOND
from vitals.glossary import ControlKind, Flag
from vitals.model import Control

LIMIT_CASES = [
    ("spo2", "%", 91, 92), ("heart_rate", "/min", 40, 41), ("heart_rate", "/min", 131, 130),
    ("resp_rate", "/min", 25, 24), ("bp_sys", "mm[Hg]", 90, 91), ("bp_sys", "mm[Hg]", 181, 180),
    ("bp_dia", "mm[Hg]", 121, 120),
    ("temp", "Cel", 35.0, 35.1), ("glucose_bg", "mg/dL", 53, 54), ("glucose_bg", "mmol/L", 2.9, 3.0),
    ("glucose_bg", "mg/dL", 401, 400),
]  # fmt: skip
"""Vital, unit, a value beyond its red limit, the nearest one that is not (clinical.md 1.3)."""


def told(world: World) -> list[Control]:
    entries = world.entries()
    return [one for one in entries if isinstance(one, Control) and one.kind is ControlKind.UNCLAIMED]


def say(world: World, vital: str, value: float, unit: str, *, age_ns: int = 0, device: str = "d") -> None:
    time_ns = world.clock.now_ns() - age_ns
    world.send(world.message(device, json.dumps(reading(vital, value, unit, time_ns)).encode()))
    world.drain()


@pytest.mark.parametrize(("vital", "unit", "beyond", "not_yet"), LIMIT_CASES)
def test_a_value_beyond_its_red_limit_is_told_and_one_within_is_not(
    world: World, vital: str, unit: str, beyond: float, not_yet: float
) -> None:
    world.device("d")
    say(world, vital, not_yet, unit)
    assert told(world) == []
    world.clock.advance(1)
    say(world, vital, beyond, unit)
    (control,) = told(world)
    assert (control.author, control.time_ns) == ("system", world.clock.now_ns())
    assert (control.body["device"], control.body["vital"], control.body["reason"]) == ("d", vital, "no_wearer")


def test_what_is_told_names_value_flags_receipt_and_items(world: World) -> None:
    world.device("d")
    now_ns = world.clock.now_ns()
    items = [reading("heart_rate", 70, "/min", now_ns), reading("spo2", 60, "%", now_ns)]
    world.send(world.message("d", json.dumps(items).encode()), world.message("d", spo2(85, now_ns - SECOND)))
    world.drain()
    (control,) = told(world)
    waiting = world.service.unassigned()
    assert control.body == {
        "device": "d", "vital": "spo2", "value": 60.0, "flags": int(Flag.SUSPECT), "received_ns": now_ns,
        "reason": "no_wearer", "items": [item.id for item in waiting], "assigned": False,
    }  # fmt: skip
    assert len(waiting) == 2


def test_a_meters_lo_from_a_clock_that_was_reset_is_told(world: World) -> None:
    """A LO carries no number: its side is what counts."""
    patient = world.worn("m", "ble_glucose", zone="UTC")
    world.registry.assign("m", world.registry.add_patient().id, from_ns=world.clock.now_ns() - DAY, to_ns=None)
    world.send(world.message("m", glucose(9, (2000, 1, 1), "lo"), "ble_glucose", "2a18"))
    world.drain()
    (control,) = told(world)
    assert (control.body["value"], control.body["reason"]) == (None, str(Unplaced.TWO_WEARERS))
    assert Flag(control.body["flags"]) & Flag.BELOW_RANGE
    assert control.body["vital"].startswith("glucose")
    assert patient not in json.dumps(control.body)


def glucose(seq: int, date: tuple[int, int, int], value: str) -> bytes:
    """A 0x2A18 record in kg/L with type and location; ``lo`` is the -INFINITY of an SFLOAT (device-formats.md 2.2)."""
    concentration = {"lo": 0x0802}[value]
    return struct.pack("<BHHBBBBBHB", 0b0000_0010, seq, *date, 8, 0, 0, concentration, 0x11)


def test_a_device_is_told_of_once_in_a_quarter_of_an_hour_and_each_by_itself(world: World) -> None:
    for device in ("d", "e"):
        world.device(device)
    say(world, "spo2", 80, "%")
    world.clock.advance(15 * 60 - 1)
    say(world, "spo2", 81, "%")
    assert len(told(world)) == 1
    say(world, "spo2", 82, "%", device="e")
    world.restart()
    world.clock.advance(1)
    say(world, "spo2", 83, "%")
    assert [(one.body["device"], one.body["value"]) for one in told(world)] == [("d", 80), ("e", 82), ("d", 83)]


def test_a_memory_that_is_read_out_is_history(world: World) -> None:
    world.device("d")
    say(world, "spo2", 80, "%", age_ns=72 * HOUR + MINUTE)
    assert told(world) == []
    say(world, "spo2", 80, "%", age_ns=72 * HOUR - MINUTE)
    assert len(told(world)) == 1


def test_a_wall_time_of_no_zone_is_history_only_when_it_is_in_every_zone(world: World) -> None:
    """2023-11-14T22:13:20Z is now; wall time is at most 12 h behind UTC."""
    world.device("d", zone=None)
    for wall in ("2023-11-11T10:13:19", "2023-11-11T10:13:21"):
        assert told(world) == [], wall
        world.send(world.message("d", spo2(80, wall)))
        world.drain()
    assert len(told(world)) == 1


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("implausible", lambda row: row | {"value": 20}),
        ("known already", lambda row: row),
    ],
)
def test_what_tells_nothing_of_a_person_is_not_told(
    world: World, what: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    world.device("d")
    row = reading("spo2", 80, "%", world.clock.now_ns())
    if what == "known already":
        world.send(world.message("d", json.dumps(row).encode()))
        world.drain()
        world.clock.advance(3600)
    before = len(told(world))
    world.send(world.message("d", json.dumps(change(row)).encode()))
    world.drain()
    assert len(told(world)) == before, what


def test_a_replay_from_quarantine_and_readings_of_somebody_are_not_told(world: World) -> None:
    world.worn("mine")
    say(world, "spo2", 80, "%", device="mine")
    world.device("d")
    broken = world.message("d", spo2(80, world.clock.now_ns()), adapter="not-yet")
    world.send(broken)
    world.drain()
    world.adapters["not-yet"] = world.adapters["json"]
    world.restart()
    assert world.service.replay()["decoded"] == 1
    assert len(world.waiting()) == 1
    assert told(world) == []


def test_what_is_told_is_in_the_transaction_of_the_readings(world: World) -> None:
    """A cycle that does not commit tells nothing, and the next one tells all."""
    world.device("d")
    world.send(world.message("d", spo2(80, world.clock.now_ns())))
    world.log.query("SELECT 1")
    with world.log.transaction() as tx:
        tx.connection.execute("CREATE TRIGGER no BEFORE UPDATE ON progress BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(Exception, match="disk full"):
        world.service.step()
    assert told(world) == []
    assert world.waiting() == []
    with world.log.transaction() as tx:
        tx.connection.execute("DROP TRIGGER no")
    world.drain()
    assert len(told(world)) == 1


def test_a_cuff_whose_clock_is_not_set_is_said_to_be_assigned(world: World) -> None:
    world.worn("cuff", "ble_blood_pressure")
    payload = struct.pack("<BHHHHBBBBBH", 0x16, 220, 130, 160, 0, 0, 0, 0, 0, 0, 73) + bytes(2)
    world.send(world.message("cuff", payload, "ble_blood_pressure", "2a35"))
    world.drain()
    (control,) = told(world)
    assert (control.body["vital"], control.body["reason"], control.body["assigned"]) == ("bp_sys", "no_time", True)
