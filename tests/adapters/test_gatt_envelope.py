"""A hub's JSON around characteristic values: encodings, names, times, bad packets among good (device-formats.md 0)."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from ingest.adapters.ble import carriage
from tests.adapters.decoding import ORDINAL, RECEIVED_NS, assert_sound, decode, decode_all, message, reading_rows
from tests.adapters.test_gatt_packets import PACKETS, RECORDS
from vitals.glossary import Reason

CUFF = bytes.fromhex("167b0058006300e0070b0f0f342450000000")
VALUES = [
    *PACKETS.values(),
    *(("ble_cgm", "2aa7", text) for text in RECORDS.values()),
]
HUB_MS = 1_710_059_398_000
HUB_NS = HUB_MS * 1_000_000


def packet(value: str, uuid: str | int = "2A35", **more: Any) -> dict[str, Any]:
    return {"uuid": uuid, "value": value, **more}


def opened(document: Any, adapter: str = "ble_blood_pressure") -> Any:
    return decode(adapter, json.dumps(document).encode(), "envelope")


def rejected(document: Any, adapter: str = "ble_blood_pressure") -> tuple[Reason, str]:
    decoded = opened(document, adapter)
    (reject,) = decoded.rejects
    assert not len(decoded.batch)
    return reject.reason, reject.detail


@pytest.mark.parametrize(
    "value",
    [
        CUFF.hex(), CUFF.hex().upper(), CUFF.hex(" "), CUFF.hex(":"), CUFF.hex("-"), CUFF.hex(","), f"0x{CUFF.hex()}",
        " ".join(f"0x{byte:02X}" for byte in CUFF), f"  {CUFF.hex()} ", "FnsAWABjAOAHCw8PNCRQAAAA",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [lambda one: one, lambda one: [one], lambda one: {"packets": [one]}])
def test_every_spelling_of_the_same_bytes(value: str, shape: Any) -> None:
    decoded = opened(shape(packet(value)))
    assert not decoded.rejects
    assert decoded.batch.value.tolist() == [123.0, 88.0, 99.0, 80.0]


@pytest.mark.parametrize(
    "uuid", ["2A35", "2a35", "0x2A35", "10805", 10805, "00002a35-0000-1000-8000-00805f9b34fb", " 2A35 "]
)
def test_every_spelling_of_the_characteristic(uuid: str | int) -> None:
    assert len(opened(packet(CUFF.hex(), uuid)).batch) == 4


@pytest.mark.parametrize("uuid", ["2A18", "cuff", "00002a35-0000-1000-8000-00805f9b34fc", "", 2, 10**30])
def test_a_characteristic_that_the_adapter_does_not_read(uuid: str | int) -> None:
    assert rejected(packet(CUFF.hex(), uuid)) == (Reason.UNKNOWN_KIND, "$.uuid")


@pytest.mark.parametrize("padding", ["", "="])
def test_base64_of_either_alphabet_with_or_without_padding(padding: str) -> None:
    payload = bytes.fromhex("0C 62 00 4E 00 20 00 FB FF BF")
    standard, url_safe = base64.b64encode(payload).decode(), base64.urlsafe_b64encode(payload).decode()
    assert standard != url_safe
    for text in (standard, url_safe):
        decoded = opened(packet(text.rstrip("=") + padding * 2, "2a5f", encoding="base64"), "ble_plx")
        assert not decoded.rejects
        assert dict(decoded.batch.context) == dict(decode("ble_plx", payload).batch.context)
        assert decoded.batch.value.tolist() == [98.0, 78.0]


@pytest.mark.parametrize(
    ("value", "encoding"),
    [("16 7", "hex"), ("xyz", "hex"), ("16é7", "hex"), ("A", "base64"), ("AB=", "base64"), ("A*==", "base64"),
     ("AÄ==", "base64"), ("123", None), ("zz-", None), ("~", None)],
)  # fmt: skip
def test_text_that_is_no_bytes(value: str, encoding: str | None) -> None:
    assert rejected(packet(value, encoding=encoding)) == (Reason.BAD_VALUE, "$.value")


def test_both_readings_fit_and_none_is_taken() -> None:
    # device-formats.md 0: A048 decodes either way. As hex 72 /min; as base64 a u16 rate.
    assert rejected(packet("A048", "2A37"), "ble_heart_rate") == (Reason.AMBIGUOUS_ENCODING, "$.value")
    assert opened(packet("A048", "2A37", encoding="hex"), "ble_heart_rate").batch.value.tolist() == [72.0]
    assert opened(packet("A048", "2A37", encoding="base64"), "ble_heart_rate").batch.value.tolist() == [0x3C4E]


def test_neither_reading_fits() -> None:
    assert rejected(packet("167b0058")) == (Reason.MALFORMED, "$.value: as hex 4 bytes, as base64 6")


def test_a_text_that_no_encoder_of_base64_writes_is_hex() -> None:
    # "5F" as base64 leaves bits that no byte uses.
    assert [event.value for event in opened(packet("5F", "2A19")).events] == [95.0]
    assert rejected(packet("5A", "2A19")) == (Reason.AMBIGUOUS_ENCODING, "$.value")


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value[1]}-{value[2][:8]}")
def test_every_characteristic_travels_alike(value: tuple[str, str, str]) -> None:
    adapter, kind, text = value
    payload = bytes.fromhex(text)
    binary = decode(adapter, payload, kind)
    for encoding, coded in (("hex", payload.hex()), ("base64", base64.b64encode(payload).decode())):
        enveloped = opened(packet(coded, kind, encoding=encoding), adapter)
        assert enveloped.batch.value.tolist() == pytest.approx(binary.batch.value.tolist(), nan_ok=True)
        for name in ("vital", "unit", "clock", "source_time_ns", "flags"):
            assert getattr(enveloped.batch, name).tolist() == getattr(binary.batch, name).tolist()
        assert enveloped.events == binary.events
        assert dict(enveloped.batch.context) == dict(binary.batch.context)
        assert not enveloped.rejects


@pytest.mark.parametrize(
    ("ts", "time_ns"),
    [
        (HUB_MS, HUB_NS), ("2024-03-10T08:29:58Z", HUB_NS), ("2024-03-10T09:29:58+01:00", HUB_NS),
        (str(HUB_MS), HUB_NS), ("2024-03-10 09:29:58 +0100", HUB_NS), ("2024-03-10t08:29:58z", HUB_NS),
        ("2024-03-10 8:29:58\u202fAM Z", HUB_NS), (HUB_MS + 0.25, HUB_NS + 250_000),
        ("2024-03-10T08:29:58.250Z", HUB_NS + 250_000_000),
    ],
)  # fmt: skip
def test_hub_time_serves_a_value_without_one_and_stands_beside_one_that_has_it(ts: Any, time_ns: int) -> None:
    without = opened(packet("007B0058006300", ts=ts, encoding="hex")).batch
    assert without.clock.tolist() == [SourceClock.HUB] * 3
    assert without.source_time_ns.tolist() == [time_ns] * 3
    assert not without.context
    having = opened(packet(CUFF.hex(), ts=ts, encoding="hex")).batch
    assert having.clock.tolist() == [SourceClock.WALL] * 4
    assert {context["hub_time_ns"] for context in having.context.values()} == {time_ns}


@pytest.mark.parametrize("ts", ["2024-03-10T08:29:58", "soon", "", 10**19, True, [HUB_MS], {}, "1" * 20])
def test_a_hub_time_that_is_no_instant_costs_no_value(ts: Any) -> None:
    """The values are those of the same packet without one, which is of its arrival."""
    bent, plain = (
        opened(packet("007B0058006300", ts=ts, encoding="hex")),
        opened(packet("007B0058006300", encoding="hex")),
    )
    assert bent.left_out == 1
    assert not bent.rejects
    for name in ("value", "clock", "source_time_ns", "seq", "flags"):
        assert getattr(bent.batch, name).tolist() == getattr(plain.batch, name).tolist()
    assert len(opened(packet(CUFF.hex(), ts=ts)).batch) == 4


@pytest.mark.parametrize(
    ("document", "reason", "detail"),
    [
        ({"value": "00"}, Reason.MISSING_FIELD, "$.uuid"),
        ({"uuid": "2A35"}, Reason.MISSING_FIELD, "$.value"),
        ({"uuid": "2A35", "value": None}, Reason.MISSING_FIELD, "$.value"),
        ({"uuid": "2A35", "value": 5}, Reason.BAD_TYPE, "$.value"),
        ({"uuid": True, "value": "00"}, Reason.BAD_TYPE, "$.uuid"),
        ({"uuid": "2A35", "value": "00", "encoding": "rot13"}, Reason.BAD_VALUE, "$.encoding"),
        ({"uuid": "2A35", "value": ""}, Reason.EMPTY, "$.value"),
        ({"uuid": "2A35", "value": "00" * 600, "encoding": "hex"}, Reason.TRAILING_BYTES,
         "$.value: 600 bytes, at most 512"),
        ({"packets": 5}, Reason.BAD_TYPE, "$.packets"),
        ([5], Reason.BAD_TYPE, "$[0]"),
        ("2A35", Reason.BAD_TYPE, "$"),
        ({"packets": [{"uuid": "2A35", "value": "0000"}]}, Reason.MALFORMED,
         "$.packets[0].value: as hex 2 bytes, as base64 3"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_its_path(document: Any, reason: Reason, detail: str) -> None:
    assert rejected(document) == (reason, detail)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"uuid":"2A35","value":"%s","value":"%s"}' % (CUFF.hex().encode(), CUFF.hex().encode()),
        b'{"uuid":"2A35","uuid":"2A35","value":"%s"}' % CUFF.hex().encode(),
        b'[{"uuid":"2A35","value":"%s","encoding":"hex","encoding":null}]' % CUFF.hex().encode(),
        b'{"packets":[],"packets":[{"uuid":"2A35","value":"%s"}]}' % CUFF.hex().encode(),
    ],
)
def test_a_member_that_is_given_twice_makes_its_packet_unreadable(payload: bytes) -> None:
    decoded = decode("ble_blood_pressure", payload, "envelope")
    assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED]
    assert not len(decoded.batch)


def test_one_bad_packet_is_rejected_alone_and_unknown_members_are_counted() -> None:
    document = {
        "hub": "h-1",
        "packets": [
            packet(CUFF.hex(), rssi=-60), packet(CUFF.hex()[:-2], encoding="hex"), packet("5F", "2A19"), packet(""),
        ],
    }  # fmt: skip
    decoded = opened(document)
    assert decoded.batch.value.tolist() == [123.0, 88.0, 99.0, 80.0]
    assert [event.value for event in decoded.events] == [95.0]
    (reject,) = decoded.rejects
    assert (reject.reason, reject.detail) == (Reason.EMPTY, "$.packets[3].value; 1 more")
    assert decoded.unknown_members == 2


def test_values_of_one_envelope_have_identities_of_their_own_and_keep_them() -> None:
    rate = packet("16480004F603", "2A37", encoding="hex", ts=HUB_MS)
    body = json.dumps([rate] * 200).encode()
    batch = [message("ble_heart_rate", body, "envelope", ordinal=ORDINAL + number) for number in range(2)]
    columns = decode_all(batch).batch
    identities = set(zip(columns.vital.tolist(), columns.source_time_ns.tolist(), columns.seq.tolist(), strict=True))
    assert len(identities) == len(columns) == 2 * 200 * 3
    again = decode_all(batch).batch
    assert again.seq.tolist() == columns.seq.tolist()
    assert again.source_time_ns.tolist() == columns.source_time_ns.tolist()


def test_the_longest_values_of_the_largest_envelope_keep_apart_from_those_of_the_next() -> None:
    longest = base64.b64encode(b"\x10\x3c" + bytes(510)).decode()
    body = json.dumps([packet(longest, "2A37", encoding="base64")] * 88).encode()
    assert carriage.MAX_PAYLOAD - 800 < len(body) <= carriage.MAX_PAYLOAD
    batch = [message("ble_heart_rate", body, "envelope", ordinal=ORDINAL + number) for number in range(2)]
    columns = decode_all(batch).batch
    identities = set(zip(columns.vital.tolist(), columns.source_time_ns.tolist(), columns.seq.tolist(), strict=True))
    assert len(identities) == len(columns) == 2 * 88 * 256


@pytest.mark.parametrize("adapter", sorted({value[0] for value in VALUES}))
@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    documents=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
            | st.sampled_from(["2A18", "2A34", "2A35", "2A37", "2AA7", "2A9C", "0648", "5F", "hex", "base64"]),
            lambda children: st.lists(children, max_size=4)
            | st.dictionaries(st.sampled_from(["uuid", "value", "encoding", "ts", "packets"]), children, max_size=5),
            max_leaves=12,
        ),
        min_size=1,
        max_size=4,
    )
)  # fmt: skip
def test_any_document(adapter: str, documents: list[Any]) -> None:
    batch = [message(adapter, json.dumps(document).encode(), "envelope") for document in documents]
    assert_sound(decode_all(batch), batch)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    payloads=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5),
    encoding=st.sampled_from(["hex", "base64"]),
    ts=st.none() | st.integers(0, 4_000_000_000_000),
)
def test_a_declared_encoding_gives_what_the_bytes_give(payloads: list[bytes], encoding: str, ts: int | None) -> None:
    coded = [payload.hex() if encoding == "hex" else base64.b64encode(payload).decode() for payload in payloads]
    packets = [packet(text, "2AA7", encoding=encoding, ts=ts) for text in coded]
    enveloped = opened({"packets": packets}, "ble_cgm")
    binary = decode_all([message("ble_cgm", payload) for payload in payloads])
    assert [row["value"] for row in reading_rows(enveloped.batch)] == [
        row["value"] for row in reading_rows(binary.batch)
    ]
    assert bool(enveloped.rejects) == bool(binary.rejects)
    assert all(time_ns == RECEIVED_NS for time_ns in enveloped.batch.source_time_ns.tolist())
