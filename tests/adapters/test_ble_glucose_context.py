"""Glucose Measurement Context: members, and how it joins its measurement (device-formats.md 2.3)."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.ble.medfloat import SFLOAT, SFLOAT_SPECIALS
from tests.adapters.decoding import RECEIVED_NS, decode, decode_all, message
from vitals.glossary import EventKind
from vitals.model import Message

MEASURED = bytes.fromhex("170C00E807030A071E003C003AC011")
CONTEXT = bytes.fromhex("060C000151")
JOINED = {"meal": "preprandial", "tester": "self", "health": "no_issue"}


def context_of(payload: bytes, **model: str) -> dict[str, Any]:
    """The members of a context that comes without its measurement."""
    decoded = decode("ble_glucose", payload, "2a34", **model)
    assert not decoded.rejects
    (event,) = [event for event in decoded.events if event.kind is EventKind.CONTEXT]
    members: dict[str, Any] = json.loads(event.detail)
    return members


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_in_one_batch_it_joins_its_measurement_in_either_order(order: tuple[int, int]) -> None:
    pair = [message("ble_glucose", MEASURED, "2a18"), message("ble_glucose", CONTEXT, "2a34")]
    decoded = decode_all([pair[number] for number in order])
    assert not decoded.events
    assert JOINED.items() <= dict(decoded.batch.context[0]).items()
    assert len(decoded.batch) == 1


def test_it_joins_by_device_and_sequence_only() -> None:
    other_seq = MEASURED[:1] + b"\x0d" + MEASURED[2:]
    batch = [message("ble_glucose", other_seq, "2a18"), message("ble_glucose", CONTEXT, "2a34")]
    stranger = Message("d_2", "ble_glucose", "2a18", RECEIVED_NS, MEASURED)
    decoded = decode_all([*batch, stranger])
    assert all("meal" not in context for context in decoded.batch.context.values())
    assert [event.kind for event in decoded.events] == [EventKind.CONTEXT]
    assert json.loads(decoded.events[0].detail) == {"seq": 12} | JOINED
    assert decoded.events[0].device == "d_1"


def test_a_measurement_without_a_value_leaves_its_context_to_the_event() -> None:
    nothing = bytes.fromhex("000C00E807030A071E00")
    batch = [message("ble_glucose", nothing, "2a18"), message("ble_glucose", CONTEXT, "2a34")]
    kinds = [event.kind for event in decode_all(batch).events]
    assert kinds == [EventKind.VALUE_ABSENT, EventKind.CONTEXT]


def test_two_contexts_of_one_sequence_add_up() -> None:
    exercise = bytes.fromhex("080C00 0807 28".replace(" ", ""))
    batch = [message("ble_glucose", payload, "2a34") for payload in (CONTEXT, exercise)]
    (event,) = decode_all(batch).events
    assert json.loads(event.detail) == {"seq": 12, **JOINED, "exercise_s": 1800, "exercise_percent": 40}
    with_reading = decode_all([*batch, message("ble_glucose", MEASURED, "2a18")])
    assert with_reading.batch.context[0]["exercise_s"] == 1800
    assert not with_reading.events


@pytest.mark.parametrize(
    ("flags", "tail", "members"),
    [
        (0x02, "00", {"meal": "reserved_0"}),
        (0x02, "06", {"meal": "reserved_6"}),
        (0x04, "FF", {"tester": "not_available", "health": "not_available"}),
        (0x04, "60", {"tester": "reserved_0", "health": "reserved_6"}),
        (0x08, "FFFF00", {"exercise": "overrun", "exercise_percent": 0}),
        (0x10, "0332A0", {"medication": "intermediate_acting_insulin", "medication_mg": 50.0}),
        (0x20, "", {}),
        (0x80, "00", {}),
    ],
)
def test_codes(flags: int, tail: str, members: dict[str, Any]) -> None:
    assert context_of(struct.pack("<BH", flags, 7) + bytes.fromhex(tail)) == {"seq": 7, **members}


def test_the_scale_is_a_setting_and_impossible_kilograms_are_marked() -> None:
    sixty = bytes.fromhex("010700023C00")
    assert context_of(sixty)["scale_suspect"] is True
    grams = context_of(sixty, context_scale="g_mg_ml")
    assert grams == {"seq": 7, "carbohydrate": "lunch", "carbohydrate_g": 60.0}
    decoded = decode("ble_glucose", sixty, "2a34", context_scale="stone")
    assert [(reject.reason.value, reject.detail) for reject in decoded.rejects] == [
        ("bad_value", "setting context_scale")
    ]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(present=st.integers(0, 255), seq=st.integers(0, 65535), data=st.data())
def test_random_valid_contexts_come_out(present: int, seq: int, data: st.DataObject) -> None:
    words = st.integers(0, 65535)
    carbohydrate, medication, hba1c, seconds = (data.draw(words) for _ in range(4))
    payload = struct.pack("<BH", present, seq)
    expected: dict[str, Any] = {}
    if present & 0x80:
        payload += b"\x00"
    if present & 0x01:
        payload += struct.pack("<BH", 4, carbohydrate)
        expected["carbohydrate_g"] = carbohydrate
    payload += b"\x02" * bool(present & 0x02) + b"\x12" * bool(present & 0x04)
    if present & 0x08:
        payload += struct.pack("<HB", seconds, 55)
    if present & 0x10:
        payload += struct.pack("<BH", 1, medication)
        expected["medication_ml" if present & 0x20 else "medication_mg"] = medication
    if present & 0x40:
        payload += struct.pack("<H", hba1c)
        expected["hba1c_percent"] = hba1c
    members = context_of(payload, context_scale="g_mg_ml")
    assert members["seq"] == seq
    for name, word in expected.items():
        assert members.get(name) == (None if word in SFLOAT_SPECIALS else SFLOAT[word])
    assert ("meal" in members) == bool(present & 0x02)
    assert ("exercise_percent" in members) == bool(present & 0x08)
