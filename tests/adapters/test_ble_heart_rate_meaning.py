"""Heart Rate Measurement: contact, R-R intervals, identities (device-formats.md 2.7)."""

import struct

import pytest

from tests.adapters.decoding import ORDINAL, RECEIVED_NS, decode, decode_all, message, reading_rows
from vitals.glossary import EventKind, Flag, Reason


@pytest.mark.parametrize("contact", [0, 1, 3])
def test_rate_with_contact_or_none_known(contact: int) -> None:
    (row,) = reading_rows(decode("ble_heart_rate", bytes([contact << 1, 72])).batch)
    assert (row["vital"], row["value"], row["seq"], row["flags"]) == ("heart_rate", 72.0, ORDINAL, [])


def test_without_contact_nothing_is_read() -> None:
    decoded = decode("ble_heart_rate", bytes.fromhex("1C 48 2C01 0004"))
    assert not len(decoded.batch)
    assert [(event.kind, event.detail) for event in decoded.events] == [(EventKind.SENSOR_STATUS, "no_contact")]
    assert not decoded.rejects


def test_intervals_are_placed_backwards_from_receipt() -> None:
    ticks = [1024, 512, 1014]
    decoded = decode("ble_heart_rate", bytes([0x10, 60]) + struct.pack("<3H", *ticks))
    rate, *intervals = reading_rows(decoded.batch)
    assert rate["vital"] == "heart_rate"
    assert [row["value"] for row in intervals] == [1000.0, 500.0, 990.234375]
    assert {row["unit"] for row in intervals} == {"ms"}
    assert decoded.batch.source_time_ns.tolist() == [
        RECEIVED_NS, RECEIVED_NS - 500_000_000 - 990_234_375, RECEIVED_NS - 990_234_375, RECEIVED_NS,
    ]  # fmt: skip
    assert decoded.batch.flags.tolist() == [0] + [int(Flag.ESTIMATED)] * 3


def test_identities_stay_apart_even_for_zero_intervals_of_neighbouring_messages() -> None:
    longest = bytes([0x10, 60]) + bytes(510)
    batch = [message("ble_heart_rate", longest, ordinal=ORDINAL + number) for number in range(3)]
    decoded = decode_all(batch)
    columns = decoded.batch
    identities = set(zip(columns.vital.tolist(), columns.source_time_ns.tolist(), columns.seq.tolist(), strict=True))
    assert len(identities) == len(columns) == 3 * 256
    assert not decoded.rejects


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("10 48 00", Reason.TRUNCATED),
        ("10 48 00 04 F6", Reason.TRUNCATED),
        ("30 48 00", Reason.RESERVED_BITS),
        ("10", Reason.TRUNCATED),
        ("19 48 00 2C", Reason.TRUNCATED),
        ("00 48 00", Reason.TRAILING_BYTES),
        ("20 48 00", Reason.RESERVED_BITS),
    ],
)
def test_lengths_that_do_not_fit(payload: str, reason: Reason) -> None:
    decoded = decode("ble_heart_rate", bytes.fromhex(payload))
    assert [reject.reason for reject in decoded.rejects] == [reason]
    assert not len(decoded.batch)


def test_an_announced_interval_list_is_neither_empty_nor_endless() -> None:
    empty = decode("ble_heart_rate", b"\x10\x48")
    assert [reject.reason for reject in empty.rejects] == [Reason.TRUNCATED]
    assert not len(empty.batch)
    endless = decode("ble_heart_rate", b"\x10\x48" + bytes(512))
    assert [reject.reason for reject in endless.rejects] == [Reason.TRAILING_BYTES]
    assert not len(endless.batch)


def test_cut_at_every_byte_it_never_reads_more_than_is_there() -> None:
    whole = bytes.fromhex("1F 0401 2C01 EC00 ED00")
    for length in range(len(whole)):
        decoded = decode("ble_heart_rate", whole[:length])
        whole_intervals = length - 5 if length > 5 and length % 2 else None
        if whole_intervals is None:
            assert len(decoded.rejects) == 1
            assert not len(decoded.batch)
        else:
            assert decoded.batch.value.tolist()[0] == 260.0
            assert len(decoded.batch) == 1 + whole_intervals // 2
