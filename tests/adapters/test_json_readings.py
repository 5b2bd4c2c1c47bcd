"""The ``json`` adapter: forms, units, times, and every way to be wrong."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from ingest.adapters.hubs import json_readings
from ingest.adapters.reading.units import unit_of
from tests.adapters.decoding import assert_sound, decode, decode_all, message, reading_rows, shown
from vitals.catalog import VITALS, accepts
from vitals.glossary import Reason
from vitals.units import UNIT_BY_NAME

GOOD: dict[str, Any] = {"vital": "spo2", "value": 97.5, "unit": "%", "time": "2024-03-10T08:15:30+01:00", "seq": 12}
TIME_NS = 1_710_054_930_000_000_000


def dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def test_every_vital_in_every_unit_that_fits_it() -> None:
    pairs = [(vital, unit) for vital in VITALS for unit in UNIT_BY_NAME if accepts(vital, unit)]
    document = [
        {"vital": vital.key, "unit": unit, "value": vital.values[-1] if vital.values else 1.5, "time": 0}
        for vital, unit in pairs
    ]
    decoded = decode("json", dumped(document))
    assert not decoded.rejects
    for row, (vital, unit) in zip(reading_rows(decoded.batch), pairs, strict=True):
        assert (row["vital"], row["unit"]) == (vital.key, UNIT_BY_NAME[unit].ucum)
        assert row["value"] == (len(vital.values) - 1 if vital.values else 1.5)
    assert {row["vital"] for row in reading_rows(decoded.batch)} == json_readings.ADAPTER.vitals


def test_every_vital_refuses_every_unit_that_does_not_fit_it() -> None:
    for vital, unit in itertools.product(VITALS, UNIT_BY_NAME):
        if vital.panel or vital.derived or (not vital.values and unit_of(vital.code, unit) is not None):
            continue
        if accepts(vital, unit):
            continue
        decoded = decode("json", dumped({"vital": vital.key, "unit": unit, "value": 1, "time": 0}))
        assert [reject.reason for reject in decoded.rejects] == [Reason.UNKNOWN_UNIT], (vital.key, unit)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "wrap",
    [lambda item: item, lambda item: [item], lambda item: {"readings": [item]}],
    ids=["one", "array", "envelope"],
)
def test_the_three_forms_mean_the_same(wrap: Any, indent: int | None) -> None:
    decoded = decode("json", json.dumps(wrap(GOOD), indent=indent).encode())
    assert not decoded.rejects
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS]
    assert decoded.batch.tz_min.tolist() == [60]
    assert decoded.batch.clock.tolist() == [SourceClock.INSTANT]
    assert decoded.batch.seq.tolist() == [12]
    assert decoded.batch.value.tolist() == [97.5]


@pytest.mark.parametrize(
    ("time", "clock", "time_ns", "tz_min"),
    [
        ("2024-03-10T07:15:30Z", SourceClock.INSTANT, TIME_NS, 0),
        ("2024-03-10T02:15:30-05:00", SourceClock.INSTANT, TIME_NS, -300),
        ("2024-03-10T07:15:30", SourceClock.WALL, TIME_NS, 0),
        (1_710_054_930_000, SourceClock.INSTANT, TIME_NS, 0),
        (0, SourceClock.INSTANT, 0, 0),
        (-1, SourceClock.INSTANT, -1_000_000, 0),
    ],
)
def test_times(time: str | int, clock: SourceClock, time_ns: int, tz_min: int) -> None:
    decoded = decode("json", dumped({**GOOD, "time": time}))
    assert decoded.batch.clock.tolist() == [clock]
    assert decoded.batch.source_time_ns.tolist() == [time_ns]
    assert decoded.batch.tz_min.tolist() == [tz_min]


@pytest.mark.parametrize("seq", [0, -(2**63), 2**63 - 1])
def test_seq_is_any_int64_and_optional(seq: int) -> None:
    assert decode("json", dumped({**GOOD, "seq": seq})).batch.seq.tolist() == [seq]
    assert decode("json", dumped(without("seq"))).batch.seq.tolist() == [0]


@pytest.mark.parametrize("seq", [1.0, False, None, 2**63, "Schmoe", {}])
def test_a_number_that_is_none_is_left_out_and_the_value_stays(seq: Any) -> None:
    decoded = decode("json", dumped([{**GOOD, "seq": seq}, GOOD]))
    assert not decoded.rejects
    assert decoded.batch.value.tolist() == [97.5, 97.5]
    assert decoded.batch.seq.tolist() == [0, 12]
    assert decoded.left_out == 1


@pytest.mark.parametrize("time", [TIME_NS / 1e6 + 0.25, f"{TIME_NS // 1_000_000}.25", "2024-03-10T08:15:30.00025+0100"])
def test_times_as_programs_write_them(time: Any) -> None:
    decoded = decode("json", dumped({**GOOD, "time": time}))
    assert not decoded.rejects
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS + 250_000]


BAD: list[tuple[Any, Reason, str]] = [
    (without("vital"), Reason.MISSING_FIELD, "$.vital"),
    (without("value"), Reason.MISSING_FIELD, "$.value"),
    (without("unit"), Reason.MISSING_FIELD, "$.unit"),
    (without("time"), Reason.MISSING_FIELD, "$.time"),
    ({}, Reason.MISSING_FIELD, "$.vital"),
    ({**GOOD, "vital": 4}, Reason.BAD_TYPE, "$.vital"),
    ({**GOOD, "vital": None}, Reason.BAD_TYPE, "$.vital"),
    ({**GOOD, "vital": "aura"}, Reason.UNKNOWN_VITAL, "$.vital"),
    ({**GOOD, "vital": "SPO2"}, Reason.UNKNOWN_VITAL, "$.vital"),
    ({**GOOD, "vital": "bp", "unit": "mm[Hg]"}, Reason.UNKNOWN_VITAL, "$.vital"),
    ({**GOOD, "unit": ["%"]}, Reason.BAD_TYPE, "$.unit"),
    ({**GOOD, "unit": "mmHg"}, Reason.UNKNOWN_UNIT, "$.unit"),
    ({**GOOD, "unit": ""}, Reason.UNKNOWN_UNIT, "$.unit"),
    ({**GOOD, "value": True}, Reason.BAD_TYPE, "$.value"),
    ({**GOOD, "value": "97.5"}, Reason.BAD_TYPE, "$.value"),
    ({**GOOD, "value": None}, Reason.BAD_TYPE, "$.value"),
    ({**GOOD, "value": [97]}, Reason.BAD_TYPE, "$.value"),
    ({**GOOD, "value": float("nan")}, Reason.BAD_VALUE, "$.value"),
    ({**GOOD, "value": float("-inf")}, Reason.BAD_VALUE, "$.value"),
    ({**GOOD, "value": 10**400}, Reason.BAD_VALUE, "$.value"),
    ({**GOOD, "time": True}, Reason.BAD_TYPE, "$.time"),
    ({**GOOD, "time": [1]}, Reason.BAD_TYPE, "$.time"),
    ({**GOOD, "time": "20240310"}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "time": None}, Reason.BAD_TYPE, "$.time"),
    ({**GOOD, "time": "yesterday"}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "time": "2024-02-30T08:15:30Z"}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "time": "1600-01-01T00:00:00Z"}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "time": 10**15}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "time": -(10**30)}, Reason.BAD_TIME, "$.time"),
    ({**GOOD, "vital": "acvpu", "unit": "{code}", "value": "X"}, Reason.BAD_VALUE, "$.value"),
    ({**GOOD, "vital": "acvpu", "unit": "{code}", "value": 1}, Reason.BAD_TYPE, "$.value"),
    ({**GOOD, "vital": "acvpu", "unit": "{code}", "value": ["A"]}, Reason.BAD_TYPE, "$.value"),
    (None, Reason.BAD_TYPE, "$"),
    (97.5, Reason.BAD_TYPE, "$"),
    ("spo2", Reason.BAD_TYPE, "$"),
    ({"readings": GOOD}, Reason.BAD_TYPE, "$.readings"),
    ({"readings": None}, Reason.BAD_TYPE, "$.readings"),
    ([[GOOD]], Reason.BAD_TYPE, "$[0]"),
    ([None], Reason.BAD_TYPE, "$[0]"),
]


@pytest.mark.parametrize(("document", "reason", "detail"), BAD)
def test_bad_reading(document: Any, reason: Reason, detail: str) -> None:
    decoded = decode("json", dumped(document))
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, detail)]
    assert not len(decoded.batch)


@pytest.mark.parametrize(("document", "reason", "detail"), [bad for bad in BAD if isinstance(bad[0], dict)])
def test_a_bad_reading_does_not_hurt_its_neighbours(document: Any, reason: Reason, detail: str) -> None:
    if "readings" in document:
        reason, detail = Reason.MISSING_FIELD, "$.vital"
    decoded = decode("json", dumped([GOOD, document, GOOD, document]))
    (reject,) = decoded.rejects
    assert (reject.reason, reject.detail) == (reason, detail.replace("$", "$[1]", 1) + "; 1 more")
    assert decoded.batch.value.tolist() == [97.5, 97.5]


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"", Reason.EMPTY, ""),
        (b" ", Reason.MALFORMED, "not JSON at character 1"),
        (b"{", Reason.MALFORMED, "not JSON at character 1"),
        (b'{"vital":"spo2"', Reason.MALFORMED, "not JSON at character 15"),
        (dumped(GOOD) + b"x", Reason.MALFORMED, f"not JSON at character {len(dumped(GOOD))}"),
        (dumped(GOOD) * 2, Reason.MALFORMED, f"not JSON at character {len(dumped(GOOD))}"),
        (b'{"vital":"s\xffo2"}', Reason.MALFORMED, "not UTF-8 at byte 11"),
        ("spo2".encode("utf-16"), Reason.MALFORMED, "not UTF-8 at byte 0"),
        (b"[" * 100_000, Reason.MALFORMED, "nested too deeply"),
        (b'{"a":' * 100_000, Reason.MALFORMED, "nested too deeply"),
        (b'{"readings":[' + b"[" * 100_000, Reason.MALFORMED, "nested too deeply"),
        (b"9" * 10_000, Reason.MALFORMED, "a number has too many digits"),
    ],
)
def test_payload_that_is_no_document(payload: bytes, reason: Reason, detail: str) -> None:
    decoded = decode("json", payload)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, detail)]
    assert not len(decoded.batch)


@pytest.mark.parametrize("fill", [b"\x00", b"a", b'"', b"\xff", b" ", b"1", b"[1,", b'{"vital":'])
def test_a_mebibyte_of_noise(fill: bytes) -> None:
    decoded = decode("json", (fill * (1 << 20))[: 1 << 20])
    assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"vital":"spo2","value":97,"value":79,"unit":"%","time":0}',
        b'{"vital":"spo2","value":97,"unit":"%","time":0,"seq":1,"seq":2}',
        b'{"vital":"spo2","value":97,"unit":"%","time":0,"time":"2024-03-10T07:15:30Z"}',
        b'{"vital":"spo2","value":97,"unit":"%","time":"2024-03-10T07:15:30Z","time":"2024-03-10T07:15:30Z"}',
        b'{"vital":"spo2","vital":"pulse_rate","value":97,"unit":"%","time":0}',
        b'{"vital":"spo2","value":97,"v\\u0061lue":79,"unit":"%","time":0}',
        # The escaped colon would balance the colon of the second member, were colons counted in escaped text.
        b'{"vital":"spo2","value":97,"value":79,"unit":"%","time":"2024-03-10T07\\u003a15:30Z"}',
        b'{"vital":"spo2","value":97,"unit":"%","time":0,"note":1,"note":2}',
    ],
)
def test_a_member_given_twice_makes_the_reading_unreadable(payload: bytes) -> None:
    alone = decode("json", payload)
    assert [(reject.reason, reject.detail) for reject in alone.rejects] == [
        (Reason.MALFORMED, "$: a member is given twice")
    ]
    assert not len(alone.batch)
    beside = decode("json", b"[" + dumped(GOOD) + b"," + payload + b"]")
    assert [reject.detail for reject in beside.rejects] == ["$[1]: a member is given twice"]
    assert beside.batch.value.tolist() == [97.5]


def test_an_envelope_that_gives_readings_twice_is_unreadable() -> None:
    decoded = decode("json", b'{"readings":[' + dumped(GOOD) + b'],"readings":[]}')
    assert [reject.reason for reject in decoded.rejects] == [Reason.MALFORMED]
    assert not len(decoded.batch)


def test_unknown_members_are_ignored_and_counted_over_the_batch() -> None:
    batch = [
        message("json", dumped({**GOOD, "battery": 80})),
        message("json", dumped({"readings": [{**GOOD, "a": {"b": 1}, "c": []}], "hub": "x", "fw": 2})),
        message("json", dumped(GOOD)),
        message("json", b"["),
    ]
    decoded = decode_all(batch)
    assert decoded.unknown_members == 1 + 2 + 2
    assert decoded.batch.message.tolist() == [0, 1, 2]
    assert [reject.message for reject in decoded.rejects] == [3]


def test_escapes_in_known_words_are_read() -> None:
    decoded = decode("json", b'{"vital":"spo\\u0032","value":97,"unit":"\\u0025","time":"2024-03-10T07\\u003a15:30Z"}')
    assert not decoded.rejects
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS]


@pytest.mark.parametrize("document", [[], {"readings": []}])
def test_no_readings_is_a_message_with_nothing_in_it(document: Any) -> None:
    decoded = decode("json", dumped(document))
    assert not decoded.rejects
    assert not len(decoded.batch)


def test_a_kind_is_unknown() -> None:
    decoded = decode("json", dumped(GOOD), "v2")
    assert [reject.reason for reject in decoded.rejects] == [Reason.UNKNOWN_KIND]


def test_no_payload_text_in_details() -> None:
    name = "Schmoe"
    for document in ({name: name}, {**GOOD, "vital": name}, {**GOOD, "unit": name}, {**GOOD, "time": name},
                     {**GOOD, "value": name}, [name], name, {"readings": name}):  # fmt: skip
        decoded = decode("json", dumped(document))
        assert decoded.rejects
        assert name.lower() not in repr(decoded).lower()
    assert name not in repr(decode("json", b'{"' + name.encode() + b'":\xff}'))


WORDS = st.sampled_from(
    ["spo2", "heart_rate", "acvpu", "bp", "%", "/min", "{code}", "A", "2024-03-10T07:15:30Z", "", "é"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
READINGS = st.dictionaries(st.sampled_from(["vital", "value", "unit", "time", "seq", "x"]), SCALARS, max_size=6)
NEAR = st.fixed_dictionaries(
    {}, optional={"vital": WORDS, "value": SCALARS, "unit": WORDS, "time": SCALARS, "seq": SCALARS, "x": SCALARS}
).map(lambda changes: {**GOOD, **changes})
KEYS = st.sampled_from(["readings", "vital", "x"])
DOCUMENTS = st.recursive(
    SCALARS | READINGS | NEAR,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(DOCUMENTS)
def test_json_of_any_shape_never_raises(document: Any) -> None:
    batch = [message("json", dumped(document))]
    assert_sound(decode_all(batch), batch)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.lists(NEAR, max_size=3), st.sampled_from(["array", "envelope", "one"]))
def test_the_typed_decode_and_the_step_by_step_one_agree(readings: list[dict[str, Any]], form: str) -> None:
    if form == "one" and len(readings) != 1:
        return
    document = {"array": readings, "envelope": {"readings": readings}, "one": readings[0] if readings else None}[form]
    direct = decode("json", dumped(document))
    # An escape takes the long way; its result is the reference.
    spelled = dumped(document).replace(b'"vital"', b'"v\\u0069tal"')
    assert shown(direct) == shown(decode("json", spelled))
