"""Rules common to the GATT adapters: published packets, Date Time, exact lengths, kinds."""

import json
from typing import Any

import pytest

from ingest.adapters.ble.gatt import characteristic, date_time
from tests.adapters.decoding import DEFAULT_KINDS, assert_sound, decode, decode_all, hexed, iso, message, reading_rows
from tests.support import FIXTURES
from vitals.catalog import BY_KEY
from vitals.glossary import EventKind, Reason
from vitals.units import UNIT_BY_NAME, to_canonical

VECTORS = json.loads((FIXTURES / "gatt" / "vectors.json").read_text())["vectors"]
ADAPTER_OF = {
    "2A18": "ble_glucose", "2AA7": "ble_cgm", "2A5F": "ble_plx", "2A37": "ble_heart_rate",
    "2A35": "ble_blood_pressure", "2A1C": "ble_thermometer", "2A9D": "ble_scale",
}  # fmt: skip
OURS = [vector for vector in VECTORS if vector["characteristic"] in ADAPTER_OF]

PACKETS = {
    "glucose full": ("ble_glucose", "2a18", "1B 01 00 E3 07 02 1B 0B 0A 1E FB FF 1E 00 12 05 01"),
    "glucose worked a": ("ble_glucose", "2a18", "17 0C 00 E8 07 03 0A 07 1E 00 3C 00 3A C0 11"),
    "glucose worked b": ("ble_glucose", "2a18", "0A 0D 00 E8 07 03 0A 0C 05 09 69 B0 12 00 00"),
    "glucose worked c": ("ble_glucose", "2a18", "0B 0E 00 E4 07 01 01 00 00 0C A6 FF FE 07 F1 20 08"),
    "spot worked a": ("ble_plx", "2a5e", "17 61 00 60 00 E1 07 01 01 01 22 13 20 00 20 00 00"),
    "spot worked b": ("ble_plx", "2a5e", "09 CF F3 48 00 E8 07 03 0A 08 0F 1E 2A F0"),
    "spot worked c": ("ble_plx", "2a5e", "02 FF 07 FF 07 00 A0"),
    "continuous worked a": ("ble_plx", "2a5f", "0C 62 00 4E 00 20 00 00 00 00"),
    "continuous worked b": ("ble_plx", "2a5f", "13 60 00 51 00 5F 00 54 00 61 00 4F 00 12 F0"),
    "heart rate": ("ble_heart_rate", "2a37", "00 48"),
    "heart rate u16 energy": ("ble_heart_rate", "2a37", "0F 04 01 2C 01"),
    "context worked a": ("ble_glucose", "2a34", "06 0C 00 01 51"),
    "context worked b": ("ble_glucose", "2a34", "3B 0F 00 02 3C D0 02 08 07 28 01 32 A0"),
    "context full": ("ble_glucose", "2a34", "DF 10 00 01 06 3C D0 05 43 FF FF 64 05 0A B0 41 F0"),
    "pressure worked a": ("ble_blood_pressure", "2a35", "16 7B 00 58 00 63 00 E0 07 0B 0F 0F 34 24 50 00 00 00"),
    "pressure worked b": ("ble_blood_pressure", "2a35", "01 A0 F0 6B F0 FF 07"),
    "pressure user 1": ("ble_blood_pressure", "2a35", "1E 87 00 56 00 66 00 E8 07 03 0A 15 04 00 4D 00 01 05 00"),
    "pressure worked d": ("ble_blood_pressure", "2a35", "16 FF 07 FF 07 FF 07 E1 07 01 10 00 39 1C FF 07 00 00"),
    "temperature worked a": ("ble_thermometer", "2a1c", "06 70 01 00 FF E8 07 03 0A 06 2D 00 06"),
    "temperature worked b": ("ble_thermometer", "2a1c", "01 84 26 00 FE"),
    "temperature worked c": ("ble_thermometer", "2a1c", "00 FF FF 7F 00"),
    "weight worked a": ("ble_scale", "2a9d", "0E A4 38 E8 07 03 0A 07 01 14 01 ED 00 D6 06"),
    "weight worked b": ("ble_scale", "2a9d", "01 80 3E"),
    "composition worked a": ("ble_scale", "2a9c", "02 03 E4 00 E8 07 03 0A 07 01 14 08 20 00 14"),
    "composition worked b": ("ble_scale", "2a9c", "18 04 C3 00 F4 1A A5 01 98 3A"),
    "session start": ("ble_cgm", "2aaa", "E8 07 03 0A 06 00 00 EC 04"),
    "battery": ("ble_battery", "2a19", "5F"),
}
RECORDS = {
    "cgm worked a": "06 00 78 00 05 00",
    "cgm worked b": "0E A3 44 00 62 02 02 05 F2 FF 5F 00 83 E4",
    "cgm worked c": "06 00 78 00 05 00 06 00 76 00 0A 00",
    "cgm worked d": "08 00 78 00 05 00 0D E8",
}
"""Values that are lists: cut between two records they are whole."""
RESERVED = {
    "2a18": (0x20, 0x40, 0x80), "2a5e": (0x20, 0x40, 0x80), "2a5f": (0x20, 0x40, 0x80), "2a37": (0x20, 0x40, 0x80),
    "2a35": (0x20, 0x40, 0x80), "2a1c": (0x08, 0x10, 0x20, 0x40, 0x80), "2a9d": (0x10, 0x20, 0x40, 0x80),
    "2a9c": (0x2000, 0x4000, 0x8000),
}  # fmt: skip
"""Reserved flag bits of each characteristic."""
FLAGGED = [(name, bit) for name, (_, kind, _) in PACKETS.items() for bit in RESERVED.get(kind, ())]


def test_the_fixture_has_every_vector_we_read() -> None:
    assert {vector["characteristic"] for vector in OURS} == ADAPTER_OF.keys()
    assert len(OURS) == len(VECTORS) == 10


@pytest.mark.parametrize("vector", OURS, ids=lambda vector: vector["name"])
def test_published_packet(vector: dict[str, Any]) -> None:
    decoded = decode(ADAPTER_OF[vector["characteristic"]], hexed(vector["hex"]), vector["characteristic"])
    rows = reading_rows(decoded.batch)
    assert not decoded.rejects
    assert len(rows) == len(vector["readings"])
    for row, expected in zip(rows, vector["readings"], strict=True):
        assert row["vital"] == expected["vital"]
        assert row["value"] == pytest.approx(expected.get("reported_value", expected["value"]), rel=1e-12)
        assert row["unit"] == UNIT_BY_NAME[expected.get("reported_unit", expected["unit"])].ucum
        canonical = to_canonical([row["value"]], row["unit"], BY_KEY[row["vital"]].unit)
        assert canonical[0] == pytest.approx(expected["value"], rel=1e-9)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("E0 07 05 17 11 34 11", "2016-05-23T17:52:17"),
        ("E8 07 0C 1F 17 3B 3B", "2024-12-31T23:59:59"),
        ("B2 07 01 01 00 00 00", "1970-01-01T00:00:00"),
        ("8E 06 01 01 00 00 00", "1678-01-01T00:00:00"),
        ("D5 08 0C 1F 17 3B 3B", "2261-12-31T23:59:59"),
    ],
)
def test_date_time(text: str, shown: str) -> None:
    time_ns = date_time(b"\xff" + hexed(text), 1)
    assert time_ns is not None
    assert iso(time_ns) == shown


@pytest.mark.parametrize(
    "text",
    [
        "00 00 00 00 0C 00 00", "00 00 03 0A 0C 00 00", "E8 07 00 0A 0C 00 00", "E8 07 03 00 0C 00 00",
        "E8 07 02 1F 00 00 00", "E8 07 0D 01 00 00 00", "E8 07 03 0A 18 00 00", "E8 07 03 0A 00 3C 00",
        "E8 07 03 0A 00 00 3C", "2E 06 01 01 00 00 00", "0F 27 0C 1F 00 00 00", "FF FF 01 01 00 00 00",
    ],
)  # fmt: skip
def test_date_time_unknown_or_impossible(text: str) -> None:
    assert date_time(hexed(text), 0) is None


@pytest.mark.parametrize("kind", ["2a18", "2A18", "0x2A18", "10776", "00002A18-0000-1000-8000-00805F9B34FB"])
def test_spellings_of_a_characteristic(kind: str) -> None:
    assert characteristic(kind) == 0x2A18
    assert len(decode("ble_glucose", hexed(PACKETS["glucose worked b"][2]), kind).batch) == 1


@pytest.mark.parametrize(
    "kind", ["2a1", "2a188", "xyzw", "00002a18-0000-1000-8000-00805f9b34fc", "12342a18-0000-1000-8000-00805f9b34fb"]
)
def test_what_is_no_characteristic(kind: str) -> None:
    assert characteristic(kind) is None
    assert [reject.reason for reject in decode("ble_glucose", b"\x00", kind).rejects] == [Reason.UNKNOWN_KIND]


@pytest.mark.parametrize(
    ("adapter", "kind"), [("ble_glucose", "2a5f"), ("ble_plx", "2a18"), ("ble_plx", ""), ("ble_heart_rate", "2a5f")]
)
def test_a_characteristic_of_another_adapter_is_unknown(adapter: str, kind: str) -> None:
    decoded = decode(adapter, bytes(20), kind)
    assert [reject.reason for reject in decoded.rejects] == [Reason.UNKNOWN_KIND]
    assert not len(decoded.batch)


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
def test_cut_at_every_byte_it_is_rejected_and_gives_nothing(packet: tuple[str, str, str]) -> None:
    adapter, kind, text = packet
    whole = hexed(text)
    cut = [message(adapter, whole[:length], kind) for length in range(len(whole))]
    decoded = decode_all(cut)
    assert_sound(decoded, cut)
    assert [reject.reason for reject in decoded.rejects] == [Reason.EMPTY] + [Reason.TRUNCATED] * (len(whole) - 1)
    assert not len(decoded.batch)
    assert not decoded.events


@pytest.mark.parametrize("adapter", [name for name in sorted(DEFAULT_KINDS) if name.startswith("ble_")])
def test_every_adapter_takes_a_battery_level(adapter: str) -> None:
    for percent in range(256):
        decoded = decode(adapter, bytes([percent]), "2a19")
        (event,) = decoded.events
        if percent <= 100:
            assert (event.kind, event.value) == (EventKind.BATTERY, float(percent))
        else:
            assert (event.kind, event.detail, event.value) == (EventKind.VALUE_ABSENT, "battery_level_reserved", None)
        assert not len(decoded.batch)
    assert [reject.reason for reject in decode(adapter, b"\x5f\x00", "2A19").rejects] == [Reason.TRAILING_BYTES]


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
def test_bytes_left_over_reject_the_value(packet: tuple[str, str, str]) -> None:
    adapter, kind, text = packet
    decoded = decode(adapter, hexed(text) + b"\x00", kind)
    assert [reject.reason for reject in decoded.rejects] == [Reason.TRAILING_BYTES]
    assert not len(decoded.batch)
    assert not decoded.events


@pytest.mark.parametrize("text", RECORDS.values(), ids=RECORDS.keys())
def test_a_list_cut_at_every_byte_keeps_its_whole_records(text: str) -> None:
    whole = hexed(text)
    ends = [whole[0], whole[0] + whole[whole[0]]] if len(whole) > whole[0] else [whole[0]]
    for length in range(1, len(whole) + 1):
        decoded = decode("ble_cgm", whole[:length])
        complete = [end for end in ends if end <= length]
        assert len(decoded.batch) == len(complete)
        is_whole = length in ends
        assert [reject.reason for reject in decoded.rejects] == ([] if is_whole else [Reason.TRUNCATED])
    left_over = decode("ble_cgm", whole + b"\x00")
    assert [reject.reason for reject in left_over.rejects] == [Reason.MALFORMED]
    assert len(left_over.batch) == len(ends)


@pytest.mark.parametrize(("name", "bit"), FLAGGED)
def test_reserved_flags_are_noted_while_the_length_fits(name: str, bit: int) -> None:
    adapter, kind, text = PACKETS[name]
    whole = hexed(text)
    width = 2 if kind == "2a9c" else 1
    marked = (int.from_bytes(whole[:width], "little") | bit).to_bytes(width, "little") + whole[width:]
    plain, noted = decode(adapter, whole, kind), decode(adapter, marked, kind)
    assert not noted.rejects
    assert plain.batch.value.tolist() == pytest.approx(noted.batch.value.tolist(), nan_ok=True)
    assert all(context["reserved_flags"] == f"0x{bit:0{2 * width}x}" for context in noted.batch.context.values())
    if len(noted.batch):
        assert 0 in noted.batch.context
    for wrong in (marked[:-1], marked + b"\x00"):
        rejected = decode(adapter, wrong, kind)
        assert [reject.reason for reject in rejected.rejects] == [Reason.RESERVED_BITS]
        assert not len(rejected.batch)


def test_good_and_bad_messages_of_many_devices_in_one_batch() -> None:
    adapter, kind, text = PACKETS["continuous worked b"]
    good = hexed(text)
    batch = [message(adapter, good[: len(good) - number % 2], kind, ordinal=number) for number in range(10)]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert [reject.message for reject in decoded.rejects] == [1, 3, 5, 7, 9]
    assert decoded.batch.message.tolist() == [number for number in range(0, 10, 2) for _ in range(3)]
    assert decoded.batch.seq.tolist() == decoded.batch.message.tolist()


def test_an_empty_micro_batch_gives_empty_columns() -> None:
    for adapter in DEFAULT_KINDS.keys() - {"json", "clarity"}:
        decoded = decode_all([message(adapter, b"")])
        assert [reject.reason for reject in decoded.rejects] == [Reason.EMPTY]
        assert len(decoded.batch) == 0
        assert decoded.batch.value.dtype == "float64"
