"""Glucose Measurement: every type, location, status bit and special value (device-formats.md 2.2)."""

import math
import struct

import pytest

from ingest.adapter import SourceClock
from tests.adapters.decoding import RECEIVED_NS, decode, flag_names, reading_rows, shown
from vitals.glossary import EventKind, Flag

BASE = bytes.fromhex("E807030A071E00")
BASE_NS = 1_710_055_800_000_000_000


def packet(
    *, word: int = 0xB078, octet: int = 0x11, status: int | None = None, base: bytes = BASE, seq: int = 5
) -> bytes:
    flags = 0x02 | (0x08 if status is not None else 0)
    tail = struct.pack("<H", status) if status is not None else b""
    return struct.pack("<BH", flags, seq) + base + struct.pack("<HB", word, octet) + tail


@pytest.mark.parametrize(
    ("kind", "vital"),
    [
        (0, "glucose"), (1, "glucose_bg"), (2, "glucose_bg"), (3, "glucose_bg"), (4, "glucose_bg"), (5, "glucose_bg"),
        (6, "glucose_bg"), (7, "glucose"), (8, "glucose"), (9, "glucose_isf"), (10, "glucose"), (11, "glucose"),
        (15, "glucose"),
    ],
)  # fmt: skip
def test_vital_by_sample_type(kind: int, vital: str) -> None:
    (row,) = reading_rows(decode("ble_glucose", packet(octet=0x10 | kind)).batch)
    assert row["vital"] == vital
    assert row["value"] == 0.0012
    assert row["flags"] == (["control_solution"] if kind == 10 else [])


@pytest.mark.parametrize(
    ("location", "site"),
    [(0, "reserved_0"), (1, "finger"), (2, "alternate_site"), (3, "earlobe"), (4, "control_solution"),
     (15, "not_available"), (9, "reserved_9")],
)  # fmt: skip
def test_site_by_location(location: int, site: str) -> None:
    (row,) = reading_rows(decode("ble_glucose", packet(octet=location << 4 | 1)).batch)
    assert row["context"]["site"] == site
    assert row["flags"] == (["control_solution"] if location == 4 else [])


@pytest.mark.parametrize(
    ("bit", "flag", "event"),
    [
        (0, None, (EventKind.BATTERY, "low")),
        (1, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "sensor_malfunction")),
        (2, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "sample_insufficient")),
        (3, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "strip_insertion_error")),
        (4, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "strip_type_incorrect")),
        (5, Flag.ABOVE_RANGE, None),
        (6, Flag.BELOW_RANGE, None),
        (7, Flag.LOW_QUALITY, (EventKind.SENSOR_STATUS, "sensor_temperature_too_high")),
        (8, Flag.LOW_QUALITY, (EventKind.SENSOR_STATUS, "sensor_temperature_too_low")),
        (9, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "read_interrupted")),
        (10, Flag.SENSOR_FAULT, (EventKind.SENSOR_STATUS, "general_device_fault")),
        (11, Flag.CLOCK_SUSPECT, (EventKind.CLOCK_FAULT, "time_fault")),
        (12, None, None),
        (15, None, None),
    ],
)
def test_each_status_bit(bit: int, flag: Flag | None, event: tuple[EventKind, str] | None) -> None:
    decoded = decode("ble_glucose", packet(status=1 << bit))
    assert decoded.batch.flags.tolist() == [int(flag or 0)], flag_names(int(decoded.batch.flags[0]))
    assert decoded.batch.value.tolist() == [0.0012]
    assert [(found.kind, found.detail) for found in decoded.events] == ([event] if event else [])
    assert decoded.batch.context[0]["status"] == f"0x{1 << bit:04x}"
    assert decoded.batch.clock[0] == (SourceClock.STORED if bit == 11 else SourceClock.WALL)
    for found in decoded.events:
        assert found.time_ns == RECEIVED_NS
        assert found.device == "d_1"


def test_high_and_low_are_readings_without_a_number() -> None:
    for word, flag in ((0x07FE, Flag.ABOVE_RANGE), (0x0802, Flag.BELOW_RANGE)):
        decoded = decode("ble_glucose", packet(word=word))
        assert math.isnan(decoded.batch.value[0])
        assert decoded.batch.flags.tolist() == [int(flag)]
        assert not decoded.events


@pytest.mark.parametrize(
    ("word", "detail"), [(0x07FF, "not_a_number"), (0x0800, "not_at_this_resolution"), (0x0801, "reserved")]
)
def test_no_number_is_an_absent_value_unless_the_status_says_out_of_range(word: int, detail: str) -> None:
    absent = shown(decode("ble_glucose", packet(word=word, status=0)))
    assert absent["readings"] == []
    assert [(event["kind"], event["detail"], event["vital"]) for event in absent["events"]] == [
        ("value_absent", detail, "glucose_bg")
    ]
    extreme = decode("ble_glucose", packet(word=word, status=1 << 5))
    assert extreme.batch.flags.tolist() == [int(Flag.ABOVE_RANGE)]
    assert math.isnan(extreme.batch.value[0])
    assert not extreme.events


@pytest.mark.parametrize("present", [0x00, 0x04])
def test_out_of_range_status_without_a_concentration_keeps_the_unit_of_the_flags(present: int) -> None:
    decoded = decode("ble_glucose", struct.pack("<BH", present | 0x08, 1) + BASE + struct.pack("<H", 1 << 6))
    (row,) = reading_rows(decoded.batch)
    assert row["vital"] == "glucose"
    assert row["value"] is None
    assert row["unit"] == ("mol/L" if present else "kg/L")
    assert row["flags"] == ["below_range"]


@pytest.mark.parametrize("minutes", [-32767, -90, 0, 60, 32766])
def test_identity_is_base_time_and_the_offset_travels_beside_it(minutes: int) -> None:
    payload = struct.pack("<BH", 0x03, 65535) + BASE + struct.pack("<hHB", minutes, 0xB078, 0x11)
    decoded = decode("ble_glucose", payload)
    assert decoded.batch.source_time_ns.tolist() == [BASE_NS]
    assert decoded.batch.seq.tolist() == [65535]
    assert decoded.batch.context[0]["time_offset_min"] == minutes
    assert decoded.batch.clock.tolist() == [SourceClock.WALL]


@pytest.mark.parametrize("minutes", [0x7FFF, -0x8000])
def test_an_offset_that_ran_over_makes_the_time_unusable_but_keeps_identity(minutes: int) -> None:
    payload = struct.pack("<BH", 0x03, 8) + BASE + struct.pack("<hHB", minutes, 0xB078, 0x11)
    decoded = decode("ble_glucose", payload)
    assert decoded.batch.source_time_ns.tolist() == [BASE_NS]
    assert decoded.batch.clock.tolist() == [SourceClock.STORED]
    assert decoded.batch.value.tolist() == [0.0012]
    assert "time_offset_min" not in decoded.batch.context[0]
    assert [event.kind for event in decoded.events] == [EventKind.CLOCK_FAULT]


@pytest.mark.parametrize("base", [bytes(7), bytes.fromhex("E807021F071E00"), bytes.fromhex("E807030A181E00")])
def test_an_unknown_base_time_leaves_the_order(base: bytes) -> None:
    decoded = decode("ble_glucose", packet(base=base, status=1 << 11, seq=9))
    assert decoded.batch.clock.tolist() == [SourceClock.STORED]
    assert decoded.batch.source_time_ns.tolist() == [0]
    assert decoded.batch.seq.tolist() == [9]
    assert decoded.batch.value.tolist() == [0.0012]
