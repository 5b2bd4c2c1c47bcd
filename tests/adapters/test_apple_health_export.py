"""Health exports: records alone and in correlations, what is refused, and what makes an identity."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.adapters.documents import apple_health
from tests.adapters.decoding import assert_sound, decode, decode_all, message, reading_rows
from vitals.glossary import Reason
from vitals.units import UNIT_BY_CODE

ATTRIBUTES = {
    "type": "HKQuantityTypeIdentifierHeartRate", "sourceName": "Ada’s Apple Watch", "sourceVersion": "10.3",
    "device": "&lt;&lt;HKDevice: 0x281b94eb0&gt;, name:Ada’s Watch&gt;", "unit": "count/min",
    "creationDate": "2024-03-10 08:15:31 +0100", "startDate": "2024-03-10 08:15:30 +0100",
    "endDate": "2024-03-10 08:15:30 +0100", "value": "72",
}  # fmt: skip


def record(inner: str = "", **changes: str | None) -> str:
    given = {name: value for name, value in (ATTRIBUTES | changes).items() if value is not None}
    return "<Record " + " ".join(f'{name}="{value}"' for name, value in given.items()) + f">{inner}</Record>\n"


def document(*records: str) -> bytes:
    return f"<HealthData>\n{''.join(records)}</HealthData>".encode()


GOOD = record()


def seqs(*records: str) -> list[int]:
    decoded = decode("apple_health", document(*records))
    assert not decoded.rejects
    return [int(seq) for seq in decoded.batch.seq]


def test_truncation_at_every_byte_keeps_what_is_complete() -> None:
    whole = document(record(), record(value="73", inner='<MetadataEntry key="HKWasUserEntered" value="1"/>'), GOOD)
    ends = [found.end() for found in re.finditer(b"</Record>", whole)]
    batch = [message("apple_health", whole[:length], ordinal=length) for length in range(1, len(whole))]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert [reject.message for reject in decoded.rejects] == list(range(len(batch)))
    for index, sent in enumerate(batch):
        rows = [row for row in range(len(decoded.batch)) if decoded.batch.message[row] == index]
        assert len(rows) == sum(end <= len(sent.payload) for end in ends), len(sent.payload)


@pytest.mark.parametrize(
    ("changes", "reason", "place"),
    [
        ({"value": "fast"}, Reason.BAD_VALUE, "value"),
        ({"value": "nan"}, Reason.BAD_VALUE, "value"),
        ({"value": "inf"}, Reason.BAD_VALUE, "value"),
        ({"value": "1e999"}, Reason.BAD_VALUE, "value"),
        ({"value": "٧٢"}, Reason.BAD_VALUE, "value"),
        ({"value": "7_2"}, Reason.BAD_VALUE, "value"),
        ({"value": ""}, Reason.BAD_VALUE, "value"),
        ({"value": None}, Reason.MISSING_FIELD, "value"),
        ({"unit": None}, Reason.MISSING_FIELD, "unit"),
        ({"unit": "furlong"}, Reason.UNKNOWN_UNIT, "unit"),
        ({"unit": "%"}, Reason.UNKNOWN_UNIT, "unit"),
        ({"type": None}, Reason.MISSING_FIELD, "type"),
        ({"startDate": None}, Reason.MISSING_FIELD, "startDate"),
        ({"endDate": None}, Reason.MISSING_FIELD, "endDate"),
        ({"startDate": "2024-03-10T08:15:30 +0100"}, Reason.BAD_TIME, "startDate"),
        ({"startDate": "2024-03-10 08:15:30+01:00"}, Reason.BAD_TIME, "startDate"),
        ({"startDate": "2024-02-30 08:15:30 +0100"}, Reason.BAD_TIME, "startDate"),
        ({"startDate": "2024-03-10 08:15:30 +9900"}, Reason.BAD_TIME, "startDate"),
        ({"endDate": "2024-03-10 08:15:29 +0100"}, Reason.BAD_TIME, "endDate"),
        ({"endDate": "tomorrow"}, Reason.BAD_TIME, "endDate"),
    ],
)
def test_a_bad_record_is_named_and_its_neighbours_stay(
    changes: dict[str, str | None], reason: Reason, place: str
) -> None:
    decoded = decode("apple_health", document(GOOD, record(**changes), record(value="74")))
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, f"record 2: {place}")]
    assert decoded.batch.value.tolist() == [72.0, 74.0]


ATTACKS = {
    "billion laughs": '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>',
    "external entity": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    "external subset": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
    "parameter entity": "<!DOCTYPE x [<!ENTITY % a \"<!ENTITY b 'x'>\">%a;]>",
    "plain": "<!DOCTYPE HealthData [<!ELEMENT HealthData ANY>]>",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_document_type_is_refused_before_it_is_read(name: str) -> None:
    decoded = decode("apple_health", ATTACKS[name].encode() + document(record(value="&c;&a;"), GOOD))
    (reject,) = decoded.rejects
    assert (reject.reason, reject.detail) == (Reason.MALFORMED, "a document type declaration is not allowed")
    assert not len(decoded.batch)


def test_an_unknown_entity_ends_a_payload_behind_its_good_records() -> None:
    decoded = decode("apple_health", document(GOOD, record(value="&nbsp;"), GOOD))
    assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED]
    assert len(decoded.batch) == 1


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"<Other/>", "the document is no HealthData"),
        (b"<HealthData>" + b"<a>" * 80_000, "nested too deeply"),
        (document(record(inner=GOOD)), "record 1: holds a record"),
        (b"<HealthData/><HealthData/>", "not XML at byte 13"),
        (b"\xff\xfe<\x00H\x00", "not XML at byte 2"),
    ],
)
def test_what_is_no_fragment_is_malformed(payload: bytes, detail: str) -> None:
    decoded = decode("apple_health", payload)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(Reason.MALFORMED, detail)]
    assert not len(decoded.batch)


def test_no_name_is_in_anything_returned() -> None:
    spoilt = record(value="Ada", inner='<MetadataEntry key="HKDeviceName" value="Ada"/>')
    person = '<Me name="Ada" HKCharacteristicTypeIdentifierDateOfBirth="1970-01-01"/>'
    decoded = decode("apple_health", document(person, GOOD, spoilt, record(startDate="Ada")))
    said = repr(decoded.rejects) + repr(decoded.events) + repr(reading_rows(decoded.batch))
    assert len(decoded.batch) == 1
    for secret in ("Ada", "Watch", "1970"):
        assert secret not in said


def test_what_tells_records_apart_and_what_does_not() -> None:
    first, *others = seqs(
        GOOD,
        record(value="73"),
        record(endDate="2024-03-10 08:15:31 +0100"),
        record(sourceName="Ada’s iPhone"),
    )
    assert len({first, *others}) == 4
    same = seqs(
        GOOD,
        record(device="&lt;&lt;HKDevice: 0x999999999&gt;, name:Ada’s Watch&gt;"),
        record(sourceVersion="11.0"),
        record(creationDate="2025-01-01 00:00:00 +0100"),
        record(value="72.0"),
        record(startDate="2024-03-10 02:15:30 -0500", endDate="2024-03-10 02:15:30 -0500"),
    )
    assert set(same) == {first}


def test_sequences_are_63_bits_and_spread() -> None:
    found = seqs(*(record(value=str(value)) for value in range(2000)))
    assert len(set(found)) == 2000
    assert min(found) >= 0
    assert max(found) > 2**62
    assert {seq & 1 for seq in found} == {0, 1}


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(sorted(ATTRIBUTES)),
            st.one_of(st.none(), st.text(st.characters(exclude_characters='<&"', exclude_categories=["Cs", "Cc"]))),
        ),
        max_size=4,
    ),
    st.text(max_size=8),
)
def test_nothing_raises(changes: list[dict[str, str | None]], between: str) -> None:
    payload = document(*(between + record(**change) for change in changes), GOOD).replace(b"\x00", b"")
    batch = [message("apple_health", payload)]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert len(decoded.batch) <= len(changes) + 1


def test_the_payload_limit_fits_a_packet() -> None:
    assert apple_health.ADAPTER.max_payload < 256 * 1024


HEIGHT = "HKQuantityTypeIdentifierHeight"


@pytest.mark.parametrize(
    ("changes", "seq"),
    [
        ({"type": HEIGHT, "unit": "ft", "value": "5.8"}, 1506036719698370683),
        ({"type": HEIGHT, "unit": "in", "value": "5.8"}, 6183580928474283400),
        ({"type": "HKQuantityTypeIdentifierBodyMass", "unit": "lb", "value": "5.8"}, 1756757610628749021),
        ({"type": "HKQuantityTypeIdentifierStepCount", "unit": "count", "value": "5.8"}, 2440075324596090093),
    ],
)
def test_an_export_that_an_earlier_version_imported_adds_nothing(changes: dict[str, str], seq: int) -> None:
    """The numbers are those of version 1, which read feet as inches."""
    assert seqs(record(**changes)) == [seq]


def test_feet_are_inches() -> None:
    decoded = decode("apple_health", document(record(type=HEIGHT, unit="ft", value="5.5")))
    assert decoded.batch.value.tolist() == [66.0]
    assert [UNIT_BY_CODE[code].ucum for code in decoded.batch.unit.tolist()] == ["[in_i]"]
