"""Raw log to vitals log: what comes out, in which order, and who is told."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest import service as ingest_service
from tests.ingest.ingest_world import DAY, HOUR, MINUTE, World, reading, spo2
from tests.support import SECOND
from vitals import encoding
from vitals.errors import InvalidRequest
from vitals.glossary import NOT_SCORED, Basis, ControlKind, EventKind, Flag
from vitals.model import Control, Tick, VitalBatch
from vitals.records import Device
from vitals.registry.sql import SqlRegistry


def two(world: World, seq: int = 0, *, age_ns: int = 0) -> bytes:
    time = world.clock.now_ns() - age_ns
    return json.dumps([reading("spo2", 97, "%", time, seq), reading("pulse_rate", 71, "/min", time, seq)]).encode()


def test_a_message_becomes_readings_of_who_wears_the_device(world: World) -> None:
    patient = world.worn("d")
    world.clock.advance(0.123456)
    now_ns = world.clock.now_ns()
    world.send(world.message("d", two(world, seq=3)))
    world.drain()

    found = world.rows()
    assert [(row["vital"], row["value"]) for row in found] == [("spo2", 97.0), ("pulse_rate", 71.0)]
    for row in found:
        assert (row["device"], row["patient"], row["seq"], row["adapter"]) == ("d", patient, 3, "json")
        assert (row["basis"], row["flags"], row["received_ns"]) == (Basis.DEVICE, Flag(0), now_ns)
        assert row["time_ns"] == row["source_time_ns"] == now_ns // 1_000_000 * 1_000_000
        assert row["message"] == 1 << 16
    batch = next(entry for entry in world.entries() if isinstance(entry, VitalBatch))
    assert (batch.provenance.first, batch.provenance.last, batch.provenance.adapter_version) == (1, 1, 3)
    assert batch.patients == (patient,)
    assert world.store.rows() == 2
    assert world.service.ledger("d").readings.stored == 2


def test_units_are_converted_and_what_the_device_said_is_kept(world: World) -> None:
    world.worn("d")
    now_ns = world.clock.now_ns()
    items = [
        reading("glucose_bg", 5.5, "mmol/L", now_ns), reading("temp", 98.6, "[degF]", now_ns),
        reading("spo2", 0.97, "{fraction}", now_ns), reading("weight", 80, "kg", now_ns),
    ]  # fmt: skip
    world.send(world.message("d", json.dumps(items).encode()))
    world.drain()
    values = {row["vital"]: row["value"] for row in world.rows()}
    assert values == pytest.approx({"glucose_bg": 5.5 * 18.0182, "temp": 37.0, "spo2": 97.0, "weight": 80.0})
    batch = next(entry for entry in world.entries() if isinstance(entry, VitalBatch))
    assert batch.reported.tolist() == [5.5, 98.6, 0.97, 80.0]


def test_the_end_of_an_interval_is_on_the_same_clock_as_its_beginning(world: World) -> None:
    world.worn("wall", "omh", zone="Asia/Kolkata")
    world.worn("zoned", "omh", zone="Asia/Kolkata")
    world.worn("nowhere", "omh", zone=None)
    now_ns = world.clock.now_ns() // SECOND * SECOND
    start, end = (datetime.fromtimestamp((now_ns - hours * HOUR) / 1e9, UTC).isoformat() for hours in (48, 47))
    for device, cut in (("wall", -6), ("zoned", None), ("nowhere", -6)):
        interval = {"start_date_time": start[:cut], "end_date_time": end[:cut]}
        body = {"heart_rate": {"value": 61, "unit": "beats/min"}, "effective_time_frame": {"time_interval": interval}}
        world.send(world.message(device, json.dumps(body).encode(), "omh", "heart-rate-2.0"))
    world.drain()
    batch = next(entry for entry in world.entries() if isinstance(entry, VitalBatch))
    found = {
        batch.devices[number]: (int(batch.time_ns[row]), int(batch.end_ns[row]))
        for row, number in enumerate(batch.device)
    }
    east_ns = 5 * HOUR + 30 * MINUTE
    assert found == {
        "wall": (now_ns - 48 * HOUR - east_ns, now_ns - 47 * HOUR - east_ns),
        "zoned": (now_ns - 48 * HOUR, now_ns - 47 * HOUR),
        "nowhere": (now_ns - 48 * HOUR, now_ns - 47 * HOUR),
    }


def test_statistics_of_one_interval_are_no_revisions_of_each_other(world: World) -> None:
    patient = world.worn("w", "omh")
    now_ns = world.clock.now_ns()
    end = datetime.fromtimestamp(now_ns // SECOND, UTC).isoformat()
    frame = {"time_interval": {"end_date_time": end, "duration": {"value": 1, "unit": "h"}}}
    payload = [
        {"heart_rate": {"value": value, "unit": "beats/min"}, "effective_time_frame": frame} | statistic
        for value, statistic in (
            (48, {"descriptive_statistic": "minimum"}), (61, {"descriptive_statistic": "average"}), (62, {}),
        )
    ]  # fmt: skip
    for _ in range(2):
        world.send(world.message("w", json.dumps(payload).encode(), "omh", "heart-rate-2.0"))
        world.drain()
    payload[1]["heart_rate"]["value"] = 60
    world.send(world.message("w", json.dumps(payload).encode(), "omh", "heart-rate-2.0"))
    world.drain()
    readings = world.service.ledger("w").readings
    assert (readings.emitted, readings.stored, readings.duplicate, readings.revision) == (9, 3, 5, 1)
    assert {row["patient"] for row in world.rows()} == {patient}


def test_flags_come_from_all_stages(world: World) -> None:
    world.worn("d")
    now_ns = world.clock.now_ns()
    items = [
        reading("bp_sys", 80, "mm[Hg]", now_ns), reading("bp_dia", 85, "mm[Hg]", now_ns),
        reading("spo2", 40, "%", now_ns), reading("spo2", 96, "%", now_ns - 3 * HOUR),
    ]  # fmt: skip
    world.send(world.message("d", json.dumps(items).encode()))
    world.drain()
    found = [row["flags"] for row in world.rows()]
    assert found == [Flag.IMPLAUSIBLE, Flag.IMPLAUSIBLE, Flag.IMPLAUSIBLE, Flag.LATE]


def test_resends_are_counted_and_stored_once(world: World) -> None:
    world.worn("d")
    first = world.message("d", two(world))
    world.send(first)
    world.drain()
    # The same reading in a message of its own, a resend that the gateway recognised, and both beside something new.
    world.clock.advance(1)
    world.send(world.message("d", first.payload), world.message("d", first.payload, dup=True, resend_of=1 << 16))
    world.send(world.message("d", first.payload), world.message("d", spo2(95, world.clock.now_ns())))
    world.drain()
    ledger = world.service.ledger("d")
    assert (ledger.messages.received, ledger.messages.decoded, ledger.messages.duplicate) == (5, 2, 3)
    readings = ledger.readings
    assert (readings.emitted, readings.stored, readings.duplicate) == (7, 3, 4), "what is known is not decoded again"
    assert world.store.rows() == 3


def test_a_new_value_is_a_revision_that_is_judged_while_it_is_current(world: World) -> None:
    patient = world.worn("d")
    time = world.clock.now_ns()
    for value in (97, 91, 97):
        world.send(world.message("d", spo2(value, time, 1)))
        world.drain()
    assert [row["flags"] for row in world.rows()] == [Flag(0), Flag.REVISION, Flag.REVISION]
    assert not Flag.REVISION & NOT_SCORED, "a late one has LATE as well"
    ledger = world.service.ledger("d").readings
    assert (ledger.stored, ledger.revision, ledger.emitted) == (1, 2, 3)
    assert world.store.latest(patient).value.tolist() == [97.0]


def test_a_live_format_without_time_flags_what_may_be_a_resend(world: World) -> None:
    world.worn("d", "ble_heart_rate")
    for dup in (False, True):
        world.clock.advance(1)
        world.send(world.message("d", bytes([0x00, 72]), "ble_heart_rate", "2a37", dup=dup))
    world.worn("j")
    world.send(world.message("j", spo2(97, world.clock.now_ns()), dup=True))
    world.drain()
    flags = [row["flags"] for row in world.rows()]
    assert flags == [Flag(0), Flag.POSSIBLE_DUPLICATE, Flag(0)], "a reading with a time is told apart by it"
    assert [row["basis"] for row in world.rows()][:2] == [Basis.RECEIVED] * 2
    seconds = [row["seq"] for row in world.rows()][:2]
    assert seconds == [1 << 16, 2 << 16], "two equal rates are two readings"


def test_a_hub_time_is_the_time_of_a_value_without_one(world: World) -> None:
    patient = world.worn("d", "ble_heart_rate")
    world.clock.advance(100)
    seen_ns = world.clock.now_ns() - 30 * 10**9
    for dup, ts in (
        (False, seen_ns // 10**6),
        (True, seen_ns // 10**6),
        (False, world.clock.now_ns() // 10**6 + 10**7),
    ):
        body = f'{{"uuid":"2A37","value":"0048","encoding":"hex","ts":{ts}}}'
        world.send(world.message("d", body.encode(), "ble_heart_rate", "envelope", dup=dup))
    world.drain()
    rows = world.rows()
    assert [row["basis"] for row in rows] == [Basis.HUB, Basis.HUB, Basis.RECEIVED]
    assert [row["time_ns"] for row in rows] == [seen_ns, seen_ns, world.clock.now_ns()]
    assert [row["flags"] for row in rows] == [Flag(0), Flag.POSSIBLE_DUPLICATE, Flag.CLOCK_WRONG | Flag.SUSPECT]
    assert {row["patient"] for row in rows} == {patient}


def test_a_context_joins_within_a_cycle_and_is_an_event_apart_from_its_reading(world: World) -> None:
    world.worn("g", "ble_glucose")
    context = bytes.fromhex("0601000151")
    together = [("2a18", meter(1, "2023-11-14T22:00")), ("2a34", context)]
    world.send(*(world.message("g", payload, "ble_glucose", kind) for kind, payload in together))
    world.drain()
    (row,) = world.rows()
    assert row["context"]["meal"] == "preprandial"
    assert not world.events()
    world.send(world.message("g", b"\x06\x02" + context[2:], "ble_glucose", "2a34"))
    world.drain()
    (event,) = world.events()
    assert (event.kind, event.device) == (EventKind.CONTEXT, "g")
    assert event.detail == '{"seq":2,"meal":"preprandial","tester":"self","health":"no_issue"}'


def test_ticks_follow_what_was_received_before_them(world: World) -> None:
    patient = world.worn("d")
    world.worn("e", "ble_heart_rate")
    for second in range(150):
        world.clock.advance(1)
        world.send(world.message("d", spo2(97, world.clock.now_ns())))
        world.send(world.message("e", bytes([0x00, 60 + second % 60]), "ble_heart_rate", "2a37"))
        if second % 3 == 2:
            world.heartbeat()
    world.drain()
    last_ns = 0
    received: list[int] = []
    for entry in world.entries():
        if isinstance(entry, Tick):
            assert entry.watermark_ns > last_ns
            assert sum(at <= entry.watermark_ns for at in received) == len(received)
            last_ns = entry.watermark_ns
        elif isinstance(entry, VitalBatch):
            assert (entry.received_ns > last_ns).all(), "it was received after the tick before it"
            received += entry.received_ns.tolist()
    assert last_ns == world.clock.now_ns()
    assert len(received) == 300
    assert patient


def test_an_idle_step_passes_nothing(world: World) -> None:
    assert world.service.step(0.01) == 0
    world.heartbeat()
    assert world.service.step() == 1
    assert (world.service.position, world.journal.position()) == (1, 1)
    assert [entry for entry in world.entries() if isinstance(entry, Tick)]


def test_a_cycle_is_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.worn("d")
    monkeypatch.setattr(ingest_service, "BYTES_PER_CYCLE", 1_000)
    for number in range(9):
        world.clock.advance(1)
        padding = {"note": "x" * (50 if number % 3 else 2_000)}
        payload = json.dumps(reading("spo2", 97, "%", world.clock.now_ns()) | padding).encode()
        world.send(world.message("d", payload))
    steps = []
    while passed := world.service.step():
        steps.append(passed)
    assert steps == [1, 2, 1, 2, 1, 2]
    assert world.service.ledger("d").messages.decoded == 9
    assert world.meters.get_sample_value("vitalgate_unknown_members_total", {"adapter": "json"}) == 9


def test_readings_of_nobody_wait_and_are_counted(world: World) -> None:
    world.device("d")
    patient = world.registry.add_patient(zone="Europe/Berlin").id
    noon = world.clock.now_ns()
    world.registry.assign("d", patient, from_ns=noon, to_ns=None)
    world.clock.advance(3600)
    world.send(
        world.message("d", two(world, age_ns=2 * HOUR)), world.message("d", two(world)),
        world.message("d", two(world, seq=1, age_ns=3 * HOUR)),
    )  # fmt: skip
    world.drain()
    assert {row["patient"] for row in world.rows()} == {patient}
    waiting = world.waiting()
    assert [(row["patient"], row["reason"]) for row in waiting] == [(None, "no_wearer")] * 4
    items = world.service.unassigned()
    assert [(item.device, item.readings, item.reason) for item in items] == [("d", 2, "no_wearer")] * 2
    assert [item.first_ns for item in items] == [noon - HOUR, noon - 2 * HOUR]
    assert world.service.unassigned(after=items[0].id) == items[1:]
    ledger = world.service.ledger("d").readings
    assert (ledger.emitted, ledger.stored, ledger.unassigned) == (6, 2, 4)


def test_a_history_upload_around_a_hand_over_is_split(world: World) -> None:
    world.device("d")
    first, second = (world.registry.add_patient(zone="Europe/Berlin").id for _ in range(2))
    hand_over = world.clock.now_ns()
    world.registry.assign("d", first, from_ns=None, to_ns=hand_over)
    world.registry.assign("d", second, from_ns=hand_over, to_ns=None)
    world.clock.advance(DAY / SECOND)
    times = [hand_over - 2 * HOUR, hand_over - 1_000_000, hand_over, hand_over + HOUR]
    items = [reading("spo2", 90 + number, "%", time) for number, time in enumerate(times)]
    wall = {"vital": "spo2", "value": 80, "unit": "%", "time": "2099-01-01T00:00:00"}
    world.send(world.message("d", json.dumps([*items, wall]).encode()))
    world.drain()
    assert [(row["patient"], row["value"]) for row in world.rows()] == [
        (first, 90.0), (first, 91.0), (second, 92.0), (second, 93.0),
    ]  # fmt: skip
    assert [(row["value"], row["reason"]) for row in world.waiting()] == [(80.0, "two_wearers")]


def test_a_record_of_2099_does_not_make_what_follows_old(world: World) -> None:
    patient = world.worn("d")
    world.send(world.message("d", spo2(94, "2099-01-01T00:00:00Z", 1)))
    world.send(world.message("d", spo2(93, "2099-01-01T00:00:00", 2)))
    world.drain()
    world.clock.advance(60)
    world.send(world.message("d", spo2(97, world.clock.now_ns(), 3)))
    world.send(world.message("d", spo2(96, "2023-11-14T23:14:20", 4)))
    world.drain()
    old, wall_old, now, wall_now = world.rows()
    assert (old["flags"], old["basis"]) == (Flag.CLOCK_WRONG | Flag.SUSPECT, Basis.RECEIVED)
    assert (wall_old["flags"], wall_old["basis"]) == (Flag.CLOCK_SUSPECT, Basis.UNKNOWN), (
        "in the wearer's zone an hour ago"
    )
    for row in (old, wall_old):
        assert (row["patient"], row["time_ns"]) == (patient, row["received_ns"])
    assert (now["flags"], now["basis"], now["time_ns"]) == (Flag(0), Basis.DEVICE, world.clock.now_ns())
    assert (wall_now["flags"], wall_now["basis"]) == (Flag(0), Basis.DEVICE_ASSUMED_ZONE)
    assert wall_now["time_ns"] == world.clock.now_ns()


def test_a_record_of_a_reset_clock_moves_none_beside_it(world: World) -> None:
    """Only a time ahead of arrival proves that a whole message is ahead."""
    world.worn("d", zone="UTC")
    start = world.clock.now_ns()

    def wall(seconds: float) -> str:
        return datetime.fromtimestamp(start / SECOND + seconds, UTC).replace(tzinfo=None).isoformat()

    world.send(world.message("d", spo2(97, wall(0), 4)))
    world.drain()
    world.clock.advance(60)
    items = [reading("spo2", 96, "%", wall(60), 5), reading("spo2", 95, "%", wall(-3 * 86_400), 6)]
    world.send(world.message("d", json.dumps(items).encode()))
    world.drain()
    [row] = [row for row in world.rows() if row["value"] == 96]
    assert (row["time_ns"], row["basis"], row["flags"]) == (world.clock.now_ns(), Basis.DEVICE_ASSUMED_ZONE, Flag(0))


def meter(seq: int, text: str, *, offset: int | None = None, flags: int = 0x02, status: int | None = None) -> bytes:
    """A 0x2A18 value of 100 mg/dL."""
    year, month, day, hour, minute = (int(text[a:b]) for a, b in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16)))
    flags |= (offset is not None) | (8 if status is not None else 0)
    body = (
        bytes([flags]) + seq.to_bytes(2, "little") + year.to_bytes(2, "little") + bytes([month, day, hour, minute, 0])
    )
    body += b"" if offset is None else offset.to_bytes(2, "little", signed=True)
    # SFLOAT 100e-5 kg/L, capillary plasma, finger.
    body += (0xB000 | 100).to_bytes(2, "little") + bytes([0x12])
    return body + (b"" if status is None else status.to_bytes(2, "little"))


def test_a_meter_whose_battery_was_changed(world: World) -> None:
    patient = world.worn("g", "ble_glucose", zone="Europe/Berlin")

    def send(*payloads: bytes) -> None:
        world.send(*(world.message("g", payload, "ble_glucose", "2a18") for payload in payloads))
        world.drain()

    send(meter(10, "2023-11-14T22:00"), meter(11, "2023-11-14T23:00"))
    world.restart()
    send(meter(12, "2017-01-01T01:34"), meter(10, "2023-11-14T22:00"))
    send(meter(13, "2023-11-14T23:10"), meter(14, "2017-01-01T02:00"), meter(15, "2023-11-14T23:12"))
    # One person wore it all the time: theirs it is, but not when.
    assert [(row["seq"], row["patient"]) for row in world.rows()] == [(seq, patient) for seq in range(10, 16)]
    arrived = [row for row in world.rows() if row["flags"] & Flag.CLOCK_WRONG]
    assert [(row["seq"], row["basis"]) for row in arrived] == [(12, Basis.RECEIVED), (14, Basis.RECEIVED)]
    assert all(row["context"]["after_ns"] < row["time_ns"] == row["received_ns"] for row in arrived)
    assert world.waiting() == []
    ledger = world.service.ledger("g")
    assert (ledger.readings.stored, ledger.readings.unassigned, ledger.readings.duplicate) == (6, 0, 1)
    assert (ledger.messages.decoded, ledger.messages.duplicate) == (6, 1)


def test_the_user_facing_time_of_a_meter_is_base_time_and_offset(world: World) -> None:
    world.worn("g", "ble_glucose", zone="Europe/Berlin")
    world.send(world.message("g", meter(1, "2023-11-14T20:00", offset=190), "ble_glucose", "2a18"))
    world.drain()
    (row,) = world.rows()
    assert row["time_ns"] == row["source_time_ns"] + (190 - 60) * MINUTE
    assert (row["tz_min"], row["context"]["time_offset_min"]) == (60, 190)


def test_presence_battery_and_last_contact(world: World) -> None:
    world.worn("d")
    start = world.clock.now_ns()
    assert world.service.device_state("d").online is None
    world.presence("d", online=True)
    world.clock.advance(5)
    world.send(world.message("d", spo2(97, start)))
    world.send(world.message("d", spo2(96, start + SECOND), received_ns=start + SECOND))
    world.clock.advance(5)
    world.presence("d", online=False)
    world.service.step()
    state = world.service.device_state("d")
    assert (state.online, state.last_seen_ns, state.battery) == (False, start + 5 * SECOND, None)
    kinds = [event.kind for event in world.events()]
    assert kinds == [EventKind.ONLINE, EventKind.OFFLINE]
    # A message that waited in the log, or a clock that was set back.
    world.send(world.message("d", spo2(97, start), received_ns=start - HOUR))
    world.presence("d", online=True)
    world.service.step()
    state = world.service.device_state("d")
    assert (state.online, state.last_seen_ns) == (True, start + 5 * SECOND)


def test_events_beside_known_readings_are_not_told_again(world: World) -> None:
    world.worn("g", "ble_glucose")
    low = meter(1, "2023-11-14T23:00", status=0x0001)
    for payload in (low, low, meter(2, "2023-11-14T23:05", status=0x0001)):
        world.send(world.message("g", payload, "ble_glucose", "2a18"))
        world.drain()
    said = [(event.kind, event.detail) for event in world.events()]
    assert said == [(EventKind.BATTERY, "low"), (EventKind.BATTERY_LOW, ""), (EventKind.BATTERY, "low")]
    assert world.service.ledger("g").messages.duplicate == 1


def test_the_registry_may_change_between_cycles(world: World) -> None:
    world.device("d")
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    assert [row["reason"] for row in world.waiting()] == ["no_wearer"]
    patient = world.registry.add_patient(zone="Europe/Berlin").id
    world.registry.assign("d", patient, from_ns=None, to_ns=None)
    world.clock.advance(1)
    world.send(world.message("d", spo2(96, world.clock.now_ns())))
    world.drain()
    # What was in the log when the device was revoked is still its wearer's.
    world.registry.revoke("d")
    world.clock.advance(1)
    world.send(world.message("d", spo2(95, world.clock.now_ns())))
    world.drain()
    assert [(row["patient"], row["value"]) for row in world.rows()] == [
        (patient, 97.0),
        (patient, 96.0),
        (patient, 95.0),
    ]
    assert [row["flags"] for row in world.rows()] == [Flag.LATE, Flag(0), Flag(0)], "what waited is history"


def test_the_context_of_a_device_reaches_its_adapter(world: World) -> None:
    world.registry.enrol("json", device="k", zone="Asia/Kolkata")
    patient = world.registry.add_patient().id
    world.registry.assign("k", patient, from_ns=None, to_ns=None)
    world.send(world.message("k", spo2(97, "2023-11-15T03:43:00")))
    world.drain()
    (row,) = world.rows()
    assert (row["basis"], row["tz_min"]) == (Basis.DEVICE_ASSUMED_ZONE, 330)
    assert row["time_ns"] == world.clock.now_ns() - 20 * SECOND


class _BusyRegistry(SqlRegistry):
    """Somebody enrols and assigns a device just after the devices were read."""

    raced = False

    def devices(self) -> list[Device]:
        found = super().devices()
        if not self.raced:
            self.raced = True
            self.enrol("json", device="late")
            self.assign("late", self.add_patient(zone="Europe/Berlin").id, from_ns=None, to_ns=None)
        return found


def test_a_device_that_is_enrolled_meanwhile(world: World) -> None:
    world.worn("d")
    world.registry.close()
    world.registry = _BusyRegistry(world.path / "registry.db", world.clock)
    world.restart()
    world.send(world.message("d", spo2(97, world.clock.now_ns())))
    world.drain()
    world.send(world.message("late", spo2(96, world.clock.now_ns())))
    world.drain()
    assert [row["device"] for row in world.rows()] == ["d", "late"]


def test_what_is_no_raw_entry_is_passed(world: World) -> None:
    odd = [Tick(5), Control(ControlKind.NOTE, 5, "a", {})]
    world.raw.append([("raw/json", encoding.encode(entry)) for entry in odd] + [("raw/json", encoding.encode([]))])
    assert world.service.step() == 3
    assert world.entries() == []


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 25])
def test_a_cursor_of_no_page_is_refused(world: World, cursor: str) -> None:
    for page in (world.service.quarantine, world.service.unassigned):
        assert page() == []
        with pytest.raises(InvalidRequest, match="cursor"):
            page(after=cursor)


def test_metrics_count_what_the_ledgers_count(world: World) -> None:
    world.worn("d")
    good = world.message("d", two(world))
    bad = [world.message("d", b"{"), world.message("d", b"x", "no_such_adapter")]
    world.send(good, *bad)
    world.send(good)
    world.drain()

    def sample(name: str, **labels: str) -> Any:
        return world.meters.get_sample_value(f"vitalgate_{name}_total", labels)

    assert sample("messages", adapter="json", result="decoded", reason="") == 1
    assert sample("messages", adapter="json", result="duplicate", reason="") == 1
    assert sample("messages", adapter="json", result="quarantined", reason="malformed") == 1
    assert sample("messages", adapter="unknown", result="quarantined", reason="unknown_adapter") == 1
    assert sample("readings", adapter="json", result="emitted") == 4
    assert sample("readings", adapter="json", result="duplicate") == 2
    for stage in ("ingested", "stored"):
        assert world.meters.get_sample_value("vitalgate_stage_seconds_count", {"stage": stage}) == 1


def test_conservation_over_everything_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("a", "b"):
        world.worn(name)
    world.device("nobody")
    world.worn("g", "ble_glucose")
    sent: Counter[str] = Counter()
    for second in range(90):
        world.clock.advance(1)
        payloads = {
            "a": two(world), "b": b"{" if second % 7 == 0 else two(world, age_ns=second % 4 * MINUTE),
            "nobody": spo2(97, world.clock.now_ns()),
        }  # fmt: skip
        batch = [world.message(name, payload) for name, payload in payloads.items()]
        batch += [world.message("a", payloads["a"], dup=True)] * (second % 2)
        batch += [world.message("g", meter(second // 2, "2023-11-14T23:00"), "ble_glucose", "2a18")]
        world.send(*batch)
        sent.update(message.device for message in batch)
        if second % 10 == 0:
            world.heartbeat()
        if second in {30, 60}:
            world.drain()
            world.restart()
    world.drain()
    for ledger in world.service.ledgers():
        assert ledger.messages.received == sent[ledger.device]
        assert ledger.messages.in_flight == ledger.readings.in_flight == 0
    total = {ledger.device: ledger for ledger in world.service.ledgers()}
    assert total["b"].messages.quarantined == 13
    assert total["nobody"].readings.unassigned == 90
    assert (total["g"].readings.stored, total["g"].readings.duplicate) == (45, 45)
    assert total["a"].readings.duplicate == 90
    world.close()
