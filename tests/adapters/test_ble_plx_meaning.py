"""Pulse oximeters: status bits, special values and times (device-formats.md 2.5, 2.6)."""

import math
import struct

import pytest

from ingest.adapter import SourceClock
from tests.adapters.decoding import ORDINAL, RECEIVED_NS, decode, reading_rows
from vitals.glossary import NOT_SCORED, EventKind, Flag

STAMP = bytes.fromhex("E807030A080F1E")
STAMP_NS = 1_710_058_530_000_000_000


def continuous(*, spo2: int = 97, pulse: int = 72, measurement: int | None = None, sensor: int | None = None) -> bytes:
    flags = (4 if measurement is not None else 0) | (8 if sensor is not None else 0)
    payload = struct.pack("<BHH", flags, spo2, pulse)
    if measurement is not None:
        payload += struct.pack("<H", measurement)
    if sensor is not None:
        payload += sensor.to_bytes(3, "little")
    return payload


def spot(flags: int, *, stamp: bytes = STAMP, measurement: int = 0) -> bytes:
    payload = struct.pack("<BHH", flags, 97, 72)
    if flags & 1:
        payload += stamp
    if flags & 2:
        payload += struct.pack("<H", measurement)
    return payload


@pytest.mark.parametrize(
    ("bit", "flags"),
    [
        (0, 0), (5, 0), (6, Flag.ESTIMATED), (7, 0), (8, 0), (10, Flag.TEST_DATA), (11, Flag.TEST_DATA),
        (12, Flag.LOW_QUALITY), (14, Flag.LOW_QUALITY),
    ],
)  # fmt: skip
def test_measurement_status_bits(bit: int, flags: int) -> None:
    decoded = decode("ble_plx", continuous(measurement=1 << bit))
    assert decoded.batch.flags.tolist() == [int(flags)] * 2
    assert decoded.batch.value.tolist() == [97.0, 72.0]
    assert decoded.batch.clock.tolist() == [SourceClock.NONE] * 2
    assert decoded.batch.context[0]["measurement_status"] == f"0x{1 << bit:04x}"
    assert not decoded.events


@pytest.mark.parametrize(
    ("bit", "flags", "event"),
    [
        (0, 0, None),
        (1, Flag.SENSOR_FAULT, "equipment_malfunction"),
        (2, Flag.LOW_QUALITY, None),
        (3, Flag.LOW_QUALITY, None),
        (4, Flag.LOW_QUALITY, None),
        (5, Flag.LOW_QUALITY, None),
        (6, Flag.LOW_QUALITY, None),
        (7, Flag.LOW_QUALITY, None),
        (8, Flag.LOW_QUALITY, None),
        (9, 0, None),
        (10, Flag.LOW_QUALITY, None),
        (11, Flag.LOW_QUALITY | Flag.SENSOR_FAULT, "sensor_unconnected"),
        (12, 0, None),
        (13, Flag.LOW_QUALITY | Flag.SENSOR_FAULT, "sensor_displaced"),
        (14, Flag.SENSOR_FAULT, "sensor_malfunctioning"),
        (15, Flag.LOW_QUALITY | Flag.SENSOR_FAULT, "sensor_disconnected"),
        (23, 0, None),
    ],
)
def test_sensor_status_bits(bit: int, flags: int, event: str | None) -> None:
    decoded = decode("ble_plx", continuous(sensor=1 << bit))
    assert decoded.batch.flags.tolist() == [int(flags)] * 2
    assert [(found.kind, found.detail) for found in decoded.events] == (
        [(EventKind.SENSOR_STATUS, event)] if event else []
    )
    assert decoded.batch.context[1]["sensor_status"] == f"0x{1 << bit:06x}"


@pytest.mark.parametrize("bit", [11, 13, 15])
def test_a_number_from_a_probe_that_is_off_is_never_scored(bit: int) -> None:
    decoded = decode("ble_plx", continuous(spo2=60, sensor=1 << bit))
    assert decoded.batch.value[0] == 60.0
    assert all(flags & int(NOT_SCORED) for flags in decoded.batch.flags.tolist())


@pytest.mark.parametrize(
    ("measurement", "why"), [(1 << 13, "unavailable"), (1 << 15, "invalid"), (0xA000, "unavailable,invalid")]
)
def test_unavailable_and_invalid_values_are_absent_even_when_there_is_a_number(measurement: int, why: str) -> None:
    decoded = decode("ble_plx", continuous(measurement=measurement))
    assert not len(decoded.batch)
    assert [(event.kind, event.detail, event.vital) for event in decoded.events] == [
        (EventKind.VALUE_ABSENT, why, 4),
        (EventKind.VALUE_ABSENT, why, 2),
    ]


def test_an_absent_perfusion_index_leaves_the_other_values() -> None:
    decoded = decode("ble_plx", bytes.fromhex("1061004800FF07"))
    assert [row["vital"] for row in reading_rows(decoded.batch)] == ["spo2", "pulse_rate"]
    assert [(event.kind, event.vital) for event in decoded.events] == [(EventKind.VALUE_ABSENT, 21)]


def test_infinities_are_readings_out_of_range() -> None:
    decoded = decode("ble_plx", continuous(spo2=0x0802, pulse=0x07FE))
    assert all(math.isnan(value) for value in decoded.batch.value)
    assert decoded.batch.flags.tolist() == [int(Flag.BELOW_RANGE), int(Flag.ABOVE_RANGE)]


def test_averages_that_are_no_number_are_left_out_of_the_context() -> None:
    decoded = decode("ble_plx", bytes.fromhex("03 6000 5100 FF07 5400 6100 FE07"))
    spo2, pulse = reading_rows(decoded.batch)
    assert (spo2["value"], spo2["context"]) == (96.0, {"slow": 97.0})
    assert (pulse["value"], pulse["context"]) == (81.0, {"fast": 84.0})


@pytest.mark.parametrize(
    ("payload", "clock", "time_ns", "seq"),
    [
        (spot(0x01), SourceClock.WALL, STAMP_NS, 0),
        (spot(0x03, measurement=1 << 9), SourceClock.WALL, STAMP_NS, 0),
        (spot(0x11), SourceClock.NONE, RECEIVED_NS, ORDINAL),
        (spot(0x13, measurement=1 << 9), SourceClock.STORED, STAMP_NS, 0),
        (spot(0x00), SourceClock.NONE, RECEIVED_NS, ORDINAL),
        (spot(0x10), SourceClock.NONE, RECEIVED_NS, ORDINAL),
        (spot(0x02, measurement=1 << 9), SourceClock.STORED, RECEIVED_NS, ORDINAL),
        (spot(0x01, stamp=bytes(7)), SourceClock.NONE, RECEIVED_NS, ORDINAL),
        (spot(0x11, stamp=bytes(7)), SourceClock.NONE, RECEIVED_NS, ORDINAL),
        (spot(0x03, stamp=bytes(7), measurement=1 << 9), SourceClock.STORED, RECEIVED_NS, ORDINAL),
    ],
)
def test_spot_check_times(payload: bytes, clock: SourceClock, time_ns: int, seq: int) -> None:
    decoded = decode("ble_plx", payload, "2a5e")
    assert decoded.batch.clock.tolist() == [clock] * 2
    assert decoded.batch.source_time_ns.tolist() == [time_ns] * 2
    assert decoded.batch.seq.tolist() == [seq] * 2
    # A live value of an oximeter whose clock was never set must still count as current.
    assert decoded.batch.flags.tolist() == [0, 0]
    faults = [EventKind.CLOCK_FAULT] if payload[0] & 0x10 else []
    assert [event.kind for event in decoded.events] == faults


def test_a_continuous_value_from_storage_is_not_live() -> None:
    decoded = decode("ble_plx", continuous(measurement=1 << 9))
    assert decoded.batch.clock.tolist() == [SourceClock.STORED] * 2
    assert decoded.batch.seq.tolist() == [ORDINAL] * 2


def test_the_flag_positions_of_the_two_characteristics_differ() -> None:
    payload = bytes.fromhex("0861004800") + b"\x2a\xf0"
    assert [row["vital"] for row in reading_rows(decode("ble_plx", payload, "2a5e").batch)][-1] == "perf_index"
    assert decode("ble_plx", payload, "2a5f").rejects
