"""CGM Measurement: status octets, checksums, session starts (device-formats.md 2.4)."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from ingest.adapters.ble.cgm import crc
from ingest.adapters.ble.medfloat import SFLOAT
from tests.adapters.decoding import ORDINAL, RECEIVED_NS, decode, decode_all, flag_names, iso, message, reading_rows
from vitals.glossary import NOT_SCORED, EventKind, Flag, Reason

SESSION = {"session_start": "2024-03-10T10:00:00Z"}


def record(
    glucose: int = 120, minute: int = 5, *, status: int | None = None, calibration: int | None = None,
    warning: int | None = None, tail: bytes = b"", flags: int = 0,
) -> bytes:  # fmt: skip
    octets = [octet for octet in (status, calibration, warning) if octet is not None]
    present = (
        flags | 0x80 * (status is not None) | 0x40 * (calibration is not None) | 0x20 * (warning is not None)
    )  # fmt: skip
    body = struct.pack("<BHH", present, glucose, minute) + bytes(octets) + tail
    return bytes([len(body) + 1]) + body


def test_checksum_of_the_reference() -> None:
    assert crc(b"123456789") == 0x6F91
    assert crc(bytes.fromhex("080078000500")) == 0xE80D


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_checksum_is_that_of_the_definition(data: bytes) -> None:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    assert crc(data) == value


@pytest.mark.parametrize(
    ("bit", "flags", "event"),
    [
        (0, ["low_quality"], (EventKind.SENSOR_STATUS, "session_stopped")),
        (1, [], (EventKind.BATTERY, "low")),
        (2, ["sensor_fault"], (EventKind.SENSOR_STATUS, "sensor_type_incorrect")),
        (3, ["sensor_fault"], (EventKind.SENSOR_STATUS, "sensor_malfunction")),
        (4, [], (EventKind.SENSOR_STATUS, "device_specific_alert")),
        (5, ["sensor_fault"], (EventKind.SENSOR_STATUS, "general_device_fault")),
        (6, [], None),
        (7, [], None),
    ],
)
def test_status_bits(bit: int, flags: list[str], event: tuple[EventKind, str] | None) -> None:
    decoded = decode("ble_cgm", record(status=1 << bit), **SESSION)
    assert flag_names(int(decoded.batch.flags[0])) == flags
    assert [(found.kind, found.detail) for found in decoded.events] == ([event] if event else [])
    assert decoded.batch.context[0]["status"]


@pytest.mark.parametrize(
    ("bit", "flags", "event"),
    [
        (0, ["clock_suspect"], "time_sync_required"), (1, [], None), (2, [], None),
        (3, ["low_quality"], "calibration_required"), (4, ["low_quality"], "sensor_temperature_too_high"),
        (5, ["low_quality"], "sensor_temperature_too_low"), (6, [], None), (7, [], None),
    ],
)  # fmt: skip
def test_calibration_bits(bit: int, flags: list[str], event: str | None) -> None:
    decoded = decode("ble_cgm", record(calibration=1 << bit), **SESSION)
    assert flag_names(int(decoded.batch.flags[0])) == flags
    assert [found.detail for found in decoded.events] == ([event] if event else [])
    assert decoded.batch.clock[0] == (SourceClock.INSTANT if bit else SourceClock.STORED)
    assert iso(int(decoded.batch.source_time_ns[0])) == "2024-03-10T10:05:00"


@pytest.mark.parametrize("bit", range(8))
def test_warning_bits(bit: int) -> None:
    decoded = decode("ble_cgm", record(warning=1 << bit), **SESSION)
    assert decoded.batch.flags.tolist() == [{6: Flag.BELOW_RANGE, 7: Flag.ABOVE_RANGE}.get(bit, 0)]
    assert decoded.batch.context[0]["warning"]
    assert not decoded.events


def test_the_order_of_the_octets_is_a_setting() -> None:
    payload = record(60, status=0, calibration=2, warning=5)
    first = decode("ble_cgm", payload, **SESSION).batch
    assert dict(first.context[0])["warning"] == "below_patient_low,below_hypo"
    assert dict(first.context[0])["calibration"] == "calibration_not_allowed"
    other = decode("ble_cgm", payload, **{**SESSION, "status_order": "warning_first"}).batch
    assert dict(other.context[0])["status"] == "session_stopped,sensor_type_incorrect"
    assert other.flags[0] & Flag.SENSOR_FAULT
    wrong = decode("ble_cgm", payload, **{"status_order": "alphabetical"})
    assert [(reject.reason, reject.detail) for reject in wrong.rejects] == [(Reason.BAD_VALUE, "setting status_order")]


@pytest.mark.parametrize(("glucose", "warning"), [(240, 0x04), (300, 0x01), (70, 0x08), (50, 0x02), (0x07FE, 0x04)])
def test_octets_that_contradict_the_value_do_not_silence_it(glucose: int, warning: int) -> None:
    decoded = decode("ble_cgm", record(glucose, status=0x2C, warning=warning), **SESSION)
    assert decoded.batch.context[0]["status_order"] == "contradicted"
    assert "status_order_contradicted" in [event.detail for event in decoded.events]
    assert not int(decoded.batch.flags[0]) & int(NOT_SCORED)


@pytest.mark.parametrize(("glucose", "warning"), [(239, 0x04), (71, 0x08), (120, 0x0F), (300, 0x0A), (50, 0x05)])
def test_octets_that_fit_the_value_are_believed(glucose: int, warning: int) -> None:
    decoded = decode("ble_cgm", record(glucose, status=0x08, warning=warning), **SESSION)
    assert "status_order" not in decoded.batch.context[0]
    assert decoded.batch.flags[0] & Flag.SENSOR_FAULT


@pytest.mark.parametrize(
    ("mode", "with_crc", "reason"),
    [
        ("auto", True, None), ("auto", False, None), ("required", True, None), ("required", False, Reason.TRUNCATED),
        ("none", False, None), ("none", True, Reason.TRAILING_BYTES),
    ],
)  # fmt: skip
def test_the_checksum_is_a_setting(mode: str, with_crc: bool, reason: Reason | None) -> None:
    payload = bytes.fromhex("080078000500 0DE8" if with_crc else "060078000500")
    decoded = decode("ble_cgm", payload, **{**SESSION, "e2e_crc": mode})
    assert [reject.reason for reject in decoded.rejects] == ([reason] if reason else [])
    assert len(decoded.batch) == (reason is None)


@pytest.mark.parametrize("size", range(256))
def test_any_size_moves_on_or_stops(size: int) -> None:
    payload = record() + bytes([size]) + record(118, 10)[1:]
    decoded = decode("ble_cgm", payload, **SESSION)
    assert decoded.batch.value.tolist()[0] == 120.0
    assert bool(decoded.rejects) == (size != 6)


def test_a_bad_checksum_rejects_its_record_alone() -> None:
    good = bytes.fromhex("0800780005000DE8")
    for at in range(1, 8):
        bad = bytearray(good)
        bad[at] ^= 0x01
        last = bytes.fromhex("080076000A00")
        last += struct.pack("<H", crc(last))
        decoded = decode("ble_cgm", good + bytes(bad) + last, **{**SESSION, "e2e_crc": "required"})
        assert decoded.batch.value.tolist() == [120.0, 118.0]
        assert len(decoded.rejects) == 1


def test_without_a_session_start_no_instant_is_invented() -> None:
    payload = record() + record(118, 10)
    rows = reading_rows(decode("ble_cgm", payload).batch)
    assert [row["clock"] for row in rows] == ["stored", "stored"]
    assert [row["context"] for row in rows] == [{"session_min": 5}, {"session_min": 10}]
    sessions = decode_all([message("ble_cgm", payload, ordinal=ORDINAL + number) for number in range(2)]).batch
    assert len(set(sessions.seq.tolist())) == 4, "an offset of another session is no duplicate"


def test_the_newest_of_a_live_hub_is_its_arrival_whatever_the_order() -> None:
    payload = record(118, 10) + record(120, 5) + record(119, 7, calibration=1)
    decoded = decode("ble_cgm", payload, **{"without_session_start": "arrival"})
    minutes_ago = [(RECEIVED_NS - time_ns) // 60_000_000_000 for time_ns in decoded.batch.source_time_ns.tolist()]
    assert minutes_ago == [0, 5, 3]
    assert decoded.batch.clock.tolist() == [SourceClock.NONE] * 3
    assert decoded.batch.flags.tolist() == [0, Flag.ESTIMATED, Flag.ESTIMATED]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("E807030A060000EC04", '{"session_start":"2024-03-10T10:00:00Z"}'),
        ("E807030A0600000400", '{"session_start":"2024-03-10T05:00:00Z"}'),
        ("E807030A0600008000", '{"session_start":"2024-03-10T06:00:00"}'),
        ("E807030A06000004FF", '{"session_start":"2024-03-10T06:00:00"}'),
        ("E807030A0600007F00", '{"session_start":"2024-03-10T06:00:00"}'),
        ("E807000006000004FF", "session_start_unknown"),
    ],
)
def test_session_start_time(text: str, shown: str) -> None:
    decoded = decode("ble_cgm", bytes.fromhex(text), "2aaa")
    assert [event.detail for event in decoded.events] == [shown]
    assert not decoded.rejects


def test_two_session_starts_in_one_envelope_are_none() -> None:
    starts = [f'{{"uuid":"2AAA","value":"E807030A06{minute:02}00EC04","encoding":"hex"}}' for minute in (0, 1)]
    body = '{"uuid":"2AA7","value":"060078000500","encoding":"hex"}'
    one = decode("ble_cgm", f"[{body},{starts[0]},{starts[0]}]".encode(), "envelope").batch
    assert one.clock.tolist() == [SourceClock.INSTANT]
    assert one.tz_min.tolist() == [-240]
    two = decode("ble_cgm", f"[{body},{starts[0]},{starts[1]}]".encode(), "envelope").batch
    assert two.clock.tolist() == [SourceClock.STORED]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    glucose=st.integers(0, 65535), minute=st.integers(0, 65535), trend=st.none() | st.integers(0, 65535),
    quality=st.none() | st.integers(0, 65535), octets=st.lists(st.none() | st.integers(0, 255), min_size=3, max_size=3),
)  # fmt: skip
def test_random_valid_records_come_out(
    glucose: int, minute: int, trend: int | None, quality: int | None, octets: list[int | None]
) -> None:
    tail = b"".join(struct.pack("<H", word) for word in (trend, quality) if word is not None)
    payload = record(
        glucose, minute, status=octets[0], calibration=octets[1], warning=octets[2], tail=tail,
        flags=(trend is not None) | 2 * (quality is not None),
    )  # fmt: skip
    decoded = decode("ble_cgm", payload, **SESSION)
    assert not decoded.rejects
    number = SFLOAT[glucose]
    assert [value for value in decoded.batch.value.tolist() if math.isfinite(value)] == (
        [number] if math.isfinite(number) else []
    )
    for name, word in (("trend_mg_dl_min", trend), ("quality_percent", quality)):
        for context in decoded.batch.context.values():
            assert context.get(name) == (SFLOAT[word] if word is not None and math.isfinite(SFLOAT[word]) else None)
    assert decoded.batch.seq.tolist() == [minute] * len(decoded.batch)
