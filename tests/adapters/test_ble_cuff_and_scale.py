"""Cuffs, thermometers and scales: status bits, users, timestamps, packets in two parts (device-formats.md 2.8-2.11)."""

import struct

import pytest

from ingest.adapter import SourceClock
from ingest.adapters.ble.scale import JOIN_NS
from tests.adapters.decoding import ORDINAL, RECEIVED_NS, decode, decode_all, flag_names, message, reading_rows
from vitals.glossary import EventKind, Reason
from vitals.model import Message

FIRST = bytes.fromhex("0610E400E807030A07011401")
SECOND = bytes.fromhex("0016FFFF0014983A")
UNDATED = {
    "ble_blood_pressure": "02 7B 00 58 00 63 00", "ble_thermometer": "02 70 01 00 FF", "ble_scale": "02 A4 38",
}  # fmt: skip


def pressure(*, pulse: int = 0x48, status: int) -> bytes:
    return struct.pack("<B5H", 0x14, 123, 88, 99, pulse, status)


@pytest.mark.parametrize(
    ("status", "flags", "context"),
    [
        (1 << 0, ["low_quality"], {"findings": "body_movement"}),
        (1 << 1, ["low_quality"], {"findings": "cuff_too_loose"}),
        (1 << 2, [], {"findings": "irregular_pulse"}),
        (1 << 3, [], {"pulse_range": "above"}),
        (2 << 3, [], {"pulse_range": "below"}),
        (3 << 3, [], {"pulse_range": "reserved"}),
        (1 << 5, ["low_quality"], {"findings": "improper_position"}),
        (1 << 6, [], {}),
        (1 << 15, [], {}),
    ],
)
def test_cuff_status_bits(status: int, flags: list[str], context: dict[str, str]) -> None:
    rows = reading_rows(decode("ble_blood_pressure", pressure(status=status)).batch)
    assert len(rows) == 4
    for row in rows:
        assert row["flags"] == flags
        assert row["context"] == {"status": f"0x{status:04x}", **context}


@pytest.mark.parametrize(("pulse_range", "flag"), [(0, None), (1, "above_range"), (2, "below_range"), (3, None)])
def test_a_pulse_rate_without_a_number_takes_the_range_bits(pulse_range: int, flag: str | None) -> None:
    decoded = decode("ble_blood_pressure", pressure(pulse=0x07FF, status=pulse_range << 3))
    pulses = [row for row in reading_rows(decoded.batch) if row["vital"] == "pulse_rate_nibp"]
    assert [row["flags"] for row in pulses] == ([[flag]] if flag else [])
    assert [event.kind for event in decoded.events] == ([] if flag else [EventKind.VALUE_ABSENT])


@pytest.mark.parametrize(
    ("users", "user", "taken"),
    [
        (None, 1, True), (None, 0, False), (None, 2, False), (None, 255, False), ("2", 2, True), ("2", 1, False),
        ("1,2", 2, True), ("1, 255", 255, True), ("any", 200, True), ("any", 255, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("adapter", "kind", "text"),
    [
        ("ble_blood_pressure", "2a35", "08 7B 00 58 00 63 00"), ("ble_scale", "2a9d", "04 A4 38"),
        ("ble_scale", "2a9c", "04 00 E4 00"),
    ],
)  # fmt: skip
def test_users_of_a_shared_device(
    adapter: str, kind: str, text: str, users: str | None, user: int, taken: bool
) -> None:
    decoded = decode(adapter, bytes.fromhex(text) + bytes([user]), kind, **({} if users is None else {"users": users}))
    assert [reject.reason for reject in decoded.rejects] == ([] if taken else [Reason.UNKNOWN_USER])
    assert bool(len(decoded.batch)) == taken
    assert {context["user"] for context in decoded.batch.context.values()} <= {"unknown" if user == 255 else user}


@pytest.mark.parametrize("users", ["", "me", "1;2", "1,"])
def test_a_setting_of_users_that_lists_none_refuses_the_value(users: str) -> None:
    decoded = decode("ble_scale", bytes.fromhex("04 A4 38 01"), **{"users": users})
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(Reason.BAD_VALUE, "setting users")]


@pytest.mark.parametrize("adapter", UNDATED)
@pytest.mark.parametrize("stamp", ["00 00 00 00 0C 00 00", "E8 07 02 1F 07 1E 00", "E8 07 03 0A 18 00 00"])
def test_an_impossible_timestamp_leaves_the_order(adapter: str, stamp: str) -> None:
    payload = bytes.fromhex(UNDATED[adapter] + stamp)
    decoded = decode(adapter, payload)
    assert set(decoded.batch.clock.tolist()) == {SourceClock.STORED}
    assert set(decoded.batch.seq.tolist()) == {ORDINAL}
    assert [event.detail for event in decoded.events] == ["timestamp_unknown"]


@pytest.mark.parametrize("site", range(256))
def test_sites_of_a_temperature(site: int) -> None:
    (row,) = reading_rows(decode("ble_thermometer", bytes.fromhex("04 70 01 00 FF") + bytes([site])).batch)
    known = {1: "armpit", 2: "body", 3: "ear", 4: "finger", 5: "gastrointestinal", 6: "mouth", 7: "rectum", 8: "toe"}
    assert row["context"] == {"site": {**known, 9: "tympanum"}.get(site, f"reserved_{site}")}
    assert row["value"] == 36.8


def test_all_ones_are_no_measurement_unless_the_model_says_so() -> None:
    payload = bytes.fromhex("00 FF FF")
    (event,) = decode("ble_scale", payload).events
    assert (event.kind, event.detail) == (EventKind.VALUE_ABSENT, "measurement_unsuccessful")
    numbered = decode("ble_scale", payload, **{"all_ones": "number"})
    assert numbered.batch.value.tolist() == [327.675]
    assert flag_names(int(numbered.batch.flags[0])) == ["low_quality"]


def halves(*payloads: bytes, apart_ns: int = 10**8, **model: str) -> list[dict[str, object]]:
    batch = [
        message("ble_scale", payload, "2a9c", RECEIVED_NS + number * apart_ns, ORDINAL + number)
        for number, payload in enumerate(payloads)
    ]
    return reading_rows(decode_all(batch, **model).batch)


def test_two_packets_are_one_measurement() -> None:
    fat, weight = halves(FIRST, SECOND)
    assert fat["context"] == {"multiple_packets": True, "user": 1, "impedance_ohm": 512.0}
    assert (weight["vital"], weight["value"], weight["clock"]) == ("weight", 75.0, "wall")
    assert weight["source_time"] == fat["source_time"] == "2024-03-10T07:01:20"
    assert weight["context"] == {"multiple_packets": True, "user": 1}


@pytest.mark.parametrize("apart_ns", [JOIN_NS, JOIN_NS + 1])
def test_packets_far_apart_are_two_measurements(apart_ns: int) -> None:
    _, weight = halves(FIRST, SECOND, apart_ns=apart_ns)
    assert weight["clock"] == ("wall" if apart_ns == JOIN_NS else "stored")


def test_joining_can_be_switched_off() -> None:
    _, weight = halves(FIRST, SECOND, multiple_packets="separate")
    assert weight["clock"] == "stored"
    assert weight["context"] == {"multiple_packets": True, "impedance_ohm": 512.0}


def test_two_first_packets_do_not_join() -> None:
    later = FIRST[:4] + bytes.fromhex("E807030A070214") + FIRST[11:]
    rows = halves(FIRST, later, SECOND)
    assert [row["source_time"] for row in rows] == [
        "2024-03-10T07:01:20", "2024-03-10T07:02:20", "2024-03-10T07:02:20",
    ]  # fmt: skip


def test_the_second_packet_of_somebody_else_is_refused_with_the_first() -> None:
    batch = [message("ble_scale", payload, "2a9c") for payload in (FIRST[:-1] + b"\x03", SECOND)]
    decoded = decode_all(batch)
    assert [reject.reason for reject in decoded.rejects] == [Reason.UNKNOWN_USER] * 2
    assert not len(decoded.batch)


def test_halves_of_two_devices_do_not_mix() -> None:
    first = message("ble_scale", FIRST, "2a9c")
    other = Message("d_2", "ble_scale", "2a9c", RECEIVED_NS, SECOND, ordinal=ORDINAL + 1)
    fat, weight = reading_rows(decode_all([first, other]).batch)
    assert fat["clock"] == "wall"
    assert weight["clock"] == "stored"
