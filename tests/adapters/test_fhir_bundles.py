"""FHIR payloads as a whole: kinds, Bundles, JSON that is none, any shape of JSON, and a round trip."""

import copy
import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.fhir import r4
from tests.adapters.decoding import assert_sound, decode, decode_all, message, reading_rows, shown
from tests.adapters.fhir_documents import (
    TIME,
    TIME_NS,
    Document,
    absent,
    bundle,
    component,
    concept,
    dumped,
    observation,
    pressure,
    quantity,
    read,
    series,
    spo2,
)
from vitals.catalog import VITALS, accepts
from vitals.glossary import Reason
from vitals.units import UNIT_BY_NAME

PATIENT: Document = {"resourceType": "Patient", "name": [{"family": "Schmoe"}]}


@pytest.mark.parametrize(
    ("kind", "document", "accepted"),
    [
        ("", spo2(), True), ("", bundle(spo2()), True), ("observation", spo2(), True), ("bundle", bundle(spo2()), True),
        ("observation", bundle(spo2()), False), ("bundle", spo2(), False),
    ],
)  # fmt: skip
def test_the_kind_says_what_may_come(kind: str, document: Document, accepted: bool) -> None:
    decoded = decode("fhir", dumped(document), kind)
    assert len(decoded.batch) == accepted
    problems = [(reject.reason, reject.detail) for reject in decoded.rejects]
    assert problems == ([] if accepted else [(Reason.BAD_VALUE, "resourceType")])


def test_a_resource_of_no_vital_sign_is_counted_and_no_reject() -> None:
    for kind in ("", "observation", "bundle"):
        decoded = decode("fhir", dumped(PATIENT), kind)
        assert (decoded.unknown_members, len(decoded.batch), list(decoded.rejects)) == (1, 0, [])


def test_another_kind_is_unknown() -> None:
    assert [reject.reason for reject in decode("fhir", dumped(spo2()), "patient").rejects] == [Reason.UNKNOWN_KIND]


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection"])
def test_bundles_that_are_taken(kind: str) -> None:
    assert len(read(bundle(spo2(), spo2(), kind=kind)).batch) == 2


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"type": None}, Reason.BAD_TYPE, "type"),
        ({"type": "searchset"}, Reason.BAD_VALUE, "type"),
        ({"type": "transaction-response"}, Reason.BAD_VALUE, "type"),
        ({"entry": {}}, Reason.BAD_TYPE, "entry"),
        ({"entry": [None]}, Reason.BAD_TYPE, "entry[0]"),
        ({"entry": [{}]}, Reason.MISSING_FIELD, "entry[0].resource"),
        ({"entry": [{"request": {"method": "DELETE", "url": "Observation/1"}}]}, Reason.MISSING_FIELD,
         "entry[0].resource"),
        ({"entry": [{"resource": "Schmoe"}]}, Reason.BAD_TYPE, "entry[0].resource"),
        ({"entry": [{"resource": {}}]}, Reason.MISSING_FIELD, "entry[0].resource.resourceType"),
        ({"entry": [{"resource": {"resourceType": 1}}]}, Reason.BAD_TYPE, "entry[0].resource.resourceType"),
    ],
)  # fmt: skip
def test_bad_bundle(changes: Document, reason: Reason, detail: str) -> None:
    decoded = read({**bundle(), **changes})
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, detail)]


def test_a_bundle_without_a_type_is_refused_and_one_without_entries_is_empty() -> None:
    assert [reject.detail for reject in read({"resourceType": "Bundle"}).rejects] == ["type"]
    decoded = read({"resourceType": "Bundle", "type": "batch"})
    assert not decoded.rejects
    assert not len(decoded.batch)


def test_other_resources_are_ignored_and_counted() -> None:
    decoded = read(bundle(PATIENT, spo2(), {"resourceType": "Device"}, bundle(spo2())))
    assert not decoded.rejects
    assert (len(decoded.batch), decoded.unknown_members) == (1, 3)


def test_the_first_problem_is_told_with_the_number_of_others() -> None:
    bad = pressure(component=[component("8480-6"), component("8462-4")])
    decoded = read(bundle(spo2(), bad, spo2(status="x"), {}, spo2()))
    (reject,) = decoded.rejects
    assert reject.detail == "entry[1].resource.component[0].value[x]; 3 more"
    assert len(decoded.batch) == 2


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(range(6))), max_size=12))
def test_good_entries_are_what_they_are_without_the_bad_ones(plan: list[tuple[bool, int]]) -> None:
    good = [spo2(), pressure(), observation("8310-5", valueQuantity=quantity(98.6, "[degF]")), series("1 2 L"),
            spo2(identifier=[{"value": "k"}]), spo2(status="entered-in-error")]  # fmt: skip
    bad = [spo2(status="x"), pressure(component=[None]), {}, None, spo2(effectiveDateTime="x"), series("x")]
    mixed = bundle(*[(good if is_good else bad)[which] for is_good, which in plan])
    alone = bundle(*[good[which] for is_good, which in plan if is_good])
    decoded = read(mixed)
    assert reading_rows(decoded.batch) == reading_rows(read(alone).batch)
    assert len(decoded.rejects) == any(not is_good for is_good, _ in plan)


# --- JSON that is none ---


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"", Reason.EMPTY, ""),
        (b"[]", Reason.BAD_TYPE, "$"),
        (b"null", Reason.BAD_TYPE, "$"),
        (b'"Observation"', Reason.BAD_TYPE, "$"),
        (b"{}", Reason.MISSING_FIELD, "resourceType"),
        (b'{"resourceType":7}', Reason.BAD_TYPE, "resourceType"),
        (dumped(spo2()) * 2, Reason.MALFORMED, f"not JSON at character {len(dumped(spo2()))}"),
        (b'{"resourceType":"Observation\xff"}', Reason.MALFORMED, "not UTF-8 at byte 28"),
        (b'{"a":' * 100_000, Reason.MALFORMED, "nested too deeply"),
        (b'{"resourceType":"Observation","code":' + b"[" * 100_000, Reason.MALFORMED, "nested too deeply"),
        (dumped(spo2()).replace(b": 97,", b": " + b"9" * 5_000 + b","), Reason.MALFORMED,
         "a number has too many digits"),
        (dumped(spo2()).replace(b": 97,", b": 1e999,"), Reason.BAD_VALUE, "valueQuantity.value"),
        (dumped(spo2()).replace(b": 97,", b": NaN,"), Reason.BAD_VALUE, "valueQuantity.value"),
        (dumped(spo2()).replace(b": 97,", b": 0x61,"), Reason.MALFORMED, "not JSON at character 252"),
    ],
)  # fmt: skip
def test_payload_that_is_no_document(payload: bytes, reason: Reason, detail: str) -> None:
    decoded = decode("fhir", payload)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, detail)]
    assert not len(decoded.batch)


@pytest.mark.parametrize("fill", [b"\x00", b"a", b'"', b"\xff", b" ", b"1", b"[1,", b'{"resourceType":', b'{"a":1,'])
def test_a_mebibyte_of_noise(fill: bytes) -> None:
    decoded = decode("fhir", (fill * (1 << 20))[: 1 << 20])
    assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED]


def test_truncated_at_every_byte() -> None:
    for document in (bundle(PATIENT, spo2(identifier=[{"value": "k é"}]), pressure()), series("60 E 61 L")):
        whole = dumped(document)
        batch = [message("fhir", whole[:end], ordinal=end) for end in range(1, len(whole))]
        decoded = decode_all(batch)
        assert_sound(decoded, batch)
        assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED] * len(batch)
        assert not len(decoded.batch)
        assert len(decode("fhir", whole).batch) == 3


def twice(payload: bytes, member: bytes) -> bytes:
    """The payload with one member written again."""
    assert payload.count(member) == 1
    return payload.replace(member, member + b", " + member)


@pytest.mark.parametrize(
    "member", [b'"status": "final"', b'"value": 97', b'"code": "2708-6"', b'"unit": "%"', f'"{TIME}"'.encode()]
)
@pytest.mark.parametrize("escape", [False, True])
def test_a_member_given_twice_makes_its_observation_unreadable(member: bytes, escape: bool) -> None:
    if member.startswith(b'"2024'):
        member = b'"effectiveDateTime": ' + member
    payload = twice(dumped(spo2()), member)
    if escape:
        payload = payload.replace(b'"Observation"', b'"Observ\\u0061tion"')
    alone = decode("fhir", payload)
    assert [reject.detail for reject in alone.rejects] == ["$: a member is given twice"]
    assert not len(alone.batch)
    good = observation("8867-4", valueQuantity=quantity(72, "/min"))
    beside = dumped(bundle(good, {"x": 0}, good)).replace(b'{"x": 0}', payload)
    decoded = decode("fhir", beside)
    assert [reject.detail for reject in decoded.rejects] == ["entry[1].resource: a member is given twice"]
    assert decoded.batch.value.tolist() == [72.0, 72.0]


def test_an_escaped_colon_does_not_stand_in_for_one_of_a_member_given_twice() -> None:
    for colon in (b"\\u003a", b"\\u003A"):
        payload = twice(dumped(spo2()), b'"value": 97').replace(b"T08:15:30", b"T08" + colon + b"15:30")
        assert [reject.detail for reject in decode("fhir", payload).rejects] == ["$: a member is given twice"]


def test_a_member_given_twice_around_observations() -> None:
    whole = dumped(bundle(spo2(), PATIENT))
    for payload, detail, count in (
        (twice(whole, b'"type": "transaction"'), "$: a member is given twice", 0),
        (whole.replace(b'{"resource": {"resourceType": "Obs', b'{"resource": 1, "resource": {"resourceType": "Obs'),
         "entry[0]: a member is given twice", 0),
        (whole.replace(b'"family":', b'"family": "Schmoe", "family":'), None, 1),
    ):  # fmt: skip
        decoded = decode("fhir", payload)
        assert [reject.detail for reject in decoded.rejects] == ([] if detail is None else [detail])
        assert len(decoded.batch) == count


def test_escapes_and_spaces_do_not_matter() -> None:
    plain = bundle(spo2(identifier=[{"system": "a:b", "value": "x:y"}]), pressure())
    expected = shown(read(plain))
    for text in (json.dumps(plain, indent=3), json.dumps(plain, separators=(" ,\t", "\n :")),
                 json.dumps(plain).replace('"code"', '"c\\u006fde"')):  # fmt: skip
        assert shown(decode("fhir", text.encode())) == expected


# --- any shape ---

MEMBERS = ["resourceType", "type", "entry", "resource", "status", "code", "coding", "system", "component", "value",
           "valueQuantity", "valueSampledData", "valueCodeableConcept", "dataAbsentReason", "effectiveDateTime",
           "effectivePeriod", "start", "end", "identifier", "interpretation", "derivedFrom", "meta", "data", "period",
           "origin", "unit", "comparator", "issued", "fullUrl", "id", "x"]  # fmt: skip
WORDS = ["Observation", "Bundle", "transaction", "final", "entered-in-error", "unknown", "http://loinc.org", "8867-4",
         "85354-9", "150456", "67975", "67911.0", "%", "/min", TIME, "2024-03-10", "2024", "60 E L U", "A", "<",
         "error", "positive-infinity", "", "\ud800", "é"]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=8)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6),
    max_leaves=20,
)
SEEDS = [
    spo2(identifier=[{"system": "s", "value": "k"}], interpretation=[concept("H", "67911.1")], issued=TIME,
         component=[component("3151-8", valueQuantity=quantity(2, "L/min"))]),
    pressure(), series("60 E L U"), observation("67975", id="c", valueDateTime=TIME), bundle(spo2(), pressure()),
    bundle(observation("67975", id="c", dataAbsentReason=absent("unknown")),
           spo2(derivedFrom=[{"reference": "Observation/c"}])),
    spo2(status="entered-in-error", dataAbsentReason=absent("error")),
    observation("67775-7", valueCodeableConcept={"text": "pain"}),
]  # fmt: skip


def dumped_any(document: Any) -> bytes:
    """As JSON, lone surrogates as escapes."""
    return json.dumps(document).encode()


@settings(derandomize=True, max_examples=250, deadline=None)
@given(DOCUMENTS)
def test_json_of_any_shape_never_raises(document: Any) -> None:
    batch = [message("fhir", dumped_any(document)), message("fhir", dumped_any({**SEEDS[0], "component": document}))]
    assert_sound(decode_all(batch), batch)


def spots(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything under ``node``."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [spot for key in keys for spot in [(node, key), *spots(node[key])]]


@settings(derandomize=True, max_examples=500, deadline=None)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.randoms(use_true_random=False), DOCUMENTS), min_size=1, max_size=3)
)
def test_observations_with_anything_in_place_of_anything_never_raise(
    seed: Document, edits: list[tuple[random.Random, Any]]
) -> None:
    document = copy.deepcopy(seed)
    for random_, value in edits:
        container, key = random_.choice(spots(document))
        container[key] = value
        if not spots(document):
            break
    batch = [message("fhir", dumped_any(document)), message("fhir", dumped(spo2()))]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert decoded.batch.value[decoded.batch.message == 1].tolist() == [97.0]


# --- round trip ---

PAIRS = [(vital, unit.ucum) for vital in VITALS for unit in set(UNIT_BY_NAME.values())
         if not vital.values and vital.loinc and accepts(vital, unit.ucum)]  # fmt: skip
MOMENTS = st.datetimes(datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2100-01-01"))
VALUES = st.floats(-1e12, 1e12, allow_subnormal=False)
READINGS = st.tuples(
    st.sampled_from(sorted(PAIRS, key=lambda pair: (pair[0].code, pair[1]))), VALUES, MOMENTS,
    st.integers(-23 * 60, 23 * 60), st.sampled_from(["", "<", ">"]),
)  # fmt: skip


def encoded(reading: Any) -> Document:
    """An Observation of one reading, with the MDC coding where there is one: it alone names a vital for certain."""
    (vital, unit), value, moment, offset, comparator = reading
    codes = (*([] if vital.mdc is None else [str(vital.mdc)]), *vital.loinc)
    time = moment.replace(tzinfo=timezone(timedelta(minutes=offset))).isoformat()
    members = {"comparator": comparator} if comparator else {}
    return observation(*codes, effectiveDateTime=time, valueQuantity=quantity(value, unit, **members))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(READINGS, max_size=5))
def test_what_is_written_as_fhir_is_read_as_it_was(readings: list[Any]) -> None:
    decoded = read(bundle(*map(encoded, readings), kind="batch"))
    assert not decoded.rejects
    assert len(decoded.batch) == len(readings)
    for row, ((vital, unit), value, moment, offset, comparator) in zip(
        reading_rows(decoded.batch), readings, strict=True
    ):
        instant = (moment - timedelta(minutes=offset)).replace(tzinfo=UTC)
        assert (row["vital"], row["value"], row["unit"]) == (vital.key, value, unit)
        assert (row["clock"], row["tz_min"], row["seq"]) == ("instant", offset, 0)
        assert datetime.fromisoformat(row["source_time"][:26]).replace(tzinfo=UTC) == instant
        assert row["flags"] == {"": [], "<": ["below_range"], ">": ["above_range"]}[comparator]


SAMPLES = st.lists(st.integers(-5000, 5000) | st.sampled_from("ELU"), min_size=1, max_size=40)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(SAMPLES, st.integers(1, 60_000), st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.integers(-100, 100))
def test_series_are_read_as_they_were_sampled(tokens: list[Any], period: int, factor: float, origin: int) -> None:
    decoded = read(series(" ".join(map(str, tokens)), period=period, factor=factor, origin=quantity(origin, "/min")))
    kept = [(place, token) for place, token in enumerate(tokens) if token != "E"]
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS + place * period * 1_000_000 for place, _ in kept]
    for row, (_, token) in zip(reading_rows(decoded.batch), kept, strict=True):
        side = {"L": ["below_range"], "U": ["above_range"]}.get(token)
        assert row["flags"] == (side or [])
        assert row["value"] == (None if side else origin + factor * token)
    assert len(decoded.events) == ("E" in tokens)


def test_a_batch_of_many_messages_keeps_them_apart() -> None:
    documents = [spo2(), PATIENT, pressure(), bundle(spo2(), spo2(status="x"))]
    batch = [message("fhir", dumped(document), ordinal=number) for number, document in enumerate(documents)]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert decoded.batch.message.tolist() == [0, 2, 2, 3]
    assert [reject.message for reject in decoded.rejects] == [3]
    assert decoded.unknown_members == 1


def test_a_full_bundle_fits_the_payload_limit_and_the_limit_the_packet_limit() -> None:
    assert r4.ADAPTER.max_payload == 255 * 1024
    assert len(dumped(bundle(*[pressure()] * 200))) < r4.ADAPTER.max_payload


def test_members_of_a_panel_are_read_where_they_stand() -> None:
    sys = {**observation("8480-6", valueQuantity=quantity(191, "mm[Hg]")), "id": "s"}
    dia = {**observation("8462-4", valueQuantity=quantity(122, "mm[Hg]")), "id": "d"}
    panel = {**pressure(component=None), "hasMember": [{"reference": "#s"}, {"reference": "#d"}]}
    inside = [{key: value for key, value in one.items() if not key.startswith("effective")} for one in (sys, dia)]
    decoded = read({**panel, "contained": [*inside, {"resourceType": "Patient", "id": "p"}]})
    assert not decoded.rejects
    assert decoded.batch.value.tolist() == [191.0, 122.0]
    assert len(set(decoded.batch.source_time_ns.tolist())) == 1
    beside = read(bundle({**panel, "hasMember": [{"reference": "Observation/s"}]}, sys, dia))
    assert not beside.rejects
    assert beside.batch.value.tolist() == [191.0, 122.0]
