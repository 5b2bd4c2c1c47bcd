"""All adapters of vendor JSON alike: every field missing or of a wrong type, every byte cut off, every shape."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import decoding
from ingest.adapter import Context, Decoded, SourceClock
from tests.adapters.decoding import ADAPTERS, assert_sound, decode, decode_all, message, shown
from tests.adapters.vendor_documents import SAMPLES, Sample, copied, dumped, follow
from vitals.catalog import BY_CODE
from vitals.glossary import Flag, Reason

FIELDS = [
    pytest.param(sample, member, id=f"{sample.name}.{member}") for sample in SAMPLES for member in sorted(sample.record)
]
REQUIRED = [
    pytest.param(sample, member, id=f"{sample.name}.{member}")
    for sample in SAMPLES
    for member in sorted(sample.required)
]
NUMBERS = [
    pytest.param(sample, member, id=f"{sample.name}.{member}")
    for sample in SAMPLES
    for member, value in sorted(sample.record.items())
    if isinstance(value, int | float) and not isinstance(value, bool)
]
ABSURD = (math.nan, math.inf, -math.inf, 10**30, -(10**400), 1e308, 2**63, -(2**63) - 1)
by_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def kept(sample: Sample) -> int:
    """Readings of the untouched document."""
    return len(decode(sample.adapter, sample.payload(), sample.kind).batch)


def check(sample: Sample, payload: bytes, **configured: str) -> Decoded:
    """Decode as the pipeline does: whatever an adapter gives must pass its checks."""
    batch = [message(sample.adapter, payload, sample.kind)]
    decoded = decoding.decode(ADAPTERS[sample.adapter], batch, [Context(settings=configured)])
    assert_sound(decoded, batch)
    assert all(reject.reason is not Reason.ADAPTER_ERROR for reject in decoded.rejects)
    return decoded


def test_the_samples_cover_every_kind_of_every_vendor() -> None:
    vendors = {sample.adapter for sample in SAMPLES}
    assert vendors == {"dexcom", "nightscout", "withings", "fitbit", "ihealth", "health_auto_export"}
    for name in vendors:
        assert {sample.kind for sample in SAMPLES if sample.adapter == name} == ADAPTERS[name].kinds.keys() - {""}


@by_sample
def test_every_sample_is_good_and_has_no_unknown_member(sample: Sample) -> None:
    decoded = check(sample, sample.payload())
    assert not decoded.rejects
    assert decoded.unknown_members == 0
    assert len(decoded.batch) or decoded.events


@by_sample
def test_every_byte_cut_off_is_no_document(sample: Sample) -> None:
    payload = sample.payload()
    batch = [message(sample.adapter, payload[:length], sample.kind) for length in range(len(payload))]
    decoded = decode_all(batch)
    assert not len(decoded.batch)
    assert not decoded.events
    reasons = [reject.reason for reject in decoded.rejects]
    assert reasons == [Reason.EMPTY] + [Reason.MALFORMED] * (len(payload) - 1)


@pytest.mark.parametrize(("sample", "member"), REQUIRED)
def test_a_required_member_is_missing(sample: Sample, member: str) -> None:
    decoded = check(sample, sample.changed({}, without=member))
    (reject,) = decoded.rejects
    assert (reject.reason, reject.detail) == (Reason.MISSING_FIELD, f"{sample.shown_path}.{member}")
    assert len(decoded.batch) < kept(sample) or not kept(sample)


@by_sample
def test_members_that_are_not_required_may_be_missing(sample: Sample) -> None:
    for member in sample.record.keys() - sample.required - sample.telling:
        assert not check(sample, sample.changed({}, without=member)).rejects, member


MAIN = {
    "dexcom": {"value", "unit"},
    "nightscout": {"sgv", "mbg", "units", "isValid"},
    "withings": {"measures", "deleted"},
    "fitbit": {"minutes"},
    "ihealth": set(),
    "health_auto_export": {"totalSleep", "asleep", "startDate", "qty", "value", "units", "data"},
}
"""Members beside the required ones without which a record means something else."""
VALUES_BESIDE = {
    "fitbit": {"bmi", "fat", "min", "max"},
    "ihealth": {"HR", "BMI", "FatValue"},
    "health_auto_export": {"Min", "Avg", "Max"},
}
"""Optional members that are values of their own."""


def _is_context(sample: Sample, member: str) -> bool:
    return member not in sample.required | MAIN[sample.adapter] | VALUES_BESIDE.get(sample.adapter, set())


def main_values(decoded: Decoded) -> list[tuple[Any, ...]]:
    """Everything of the readings but the time zone, identity and flags that members of context may add."""
    batch = decoded.batch
    ids = [BY_CODE[code].key for code in batch.vital.tolist()]
    return list(zip(ids, batch.value.tolist(), batch.unit.tolist(), batch.statistic.tolist(), strict=True))


@pytest.mark.parametrize(
    ("sample", "member"),
    [field for field in FIELDS if _is_context(*field.values)],  # type: ignore[arg-type]
)
def test_a_member_of_context_that_cannot_be_read_leaves_every_value_in_place(sample: Sample, member: str) -> None:
    right = sample.record[member]
    whole = check(sample, sample.payload())
    for wrong in ({"a": 1}, [[1]], "no such thing", math.nan, 10**30):
        if isinstance(wrong, str) and isinstance(right, str) and member not in TIMES:
            continue  # any text is one
        decoded = check(sample, sample.changed({member: wrong}))
        assert not decoded.rejects, wrong
        assert main_values(decoded) == main_values(whole), wrong
        if isinstance(wrong, dict | list) and (sample.adapter, member) not in OPEN:
            assert decoded.left_out == 1, wrong


TIMES = {"displayTime", "dateString", "sysTime", "TimeZone", "endTime", "sleepStart", "sleepEnd", "endDate"}
"""Members of context that are times, as text."""
OPEN = {("fitbit", "value")}
"""Members that may hold an object."""


@pytest.mark.parametrize(
    ("sample", "member"),
    [field for field in FIELDS if not _is_context(*field.values)],  # type: ignore[arg-type]
)
def test_a_main_member_of_a_wrong_type_hurts_its_record_alone(sample: Sample, member: str) -> None:
    right = sample.record[member]
    for wrong in ({"a": 1}, [[1]], True, 1.5, "x"):
        if type(wrong) is type(right) or (isinstance(wrong, float) and isinstance(right, int | float)):
            continue
        decoded = check(sample, sample.changed({member: wrong}))
        if decoded.rejects:
            (reject,) = decoded.rejects
            assert reject.detail.startswith(f"{sample.shown_path}.{member}")
            assert reject.reason in {Reason.BAD_TYPE, Reason.BAD_VALUE, Reason.BAD_TIME, Reason.MISSING_FIELD}
        else:
            assert (sample.adapter, member) in EITHER
        if isinstance(sample.path[-1], int):
            assert len(decoded.batch) >= kept(sample) // 2


EITHER = {
    ("nightscout", "date"), ("ihealth", "TimeZone"), ("withings", "model"), ("withings", "deleted"),
    ("fitbit", "logId"),
}  # fmt: skip
"""Members that the formats send as text or as a number."""


@pytest.mark.parametrize(("sample", "member"), NUMBERS)
def test_absurd_numbers_are_rejected_or_flagged_later(sample: Sample, member: str) -> None:
    for number in ABSURD:
        decoded = check(sample, sample.changed({member: number}))
        assert all(math.isfinite(value) for value in decoded.batch.value)
        for context in decoded.batch.context.values():
            assert all(math.isfinite(value) for value in context.values() if isinstance(value, int | float))


@by_sample
def test_a_record_that_gives_a_member_twice_is_unreadable_alone(sample: Sample) -> None:
    member = sorted(sample.record)[0]
    value = json.dumps(sample.record[member])
    payload = sample.changed({"\x00": 0}).replace(b'"\\u0000": 0', f'"{member}": {value}'.encode())
    decoded = check(sample, payload)
    (reject,) = decoded.rejects
    assert (reject.reason, reject.detail) == (Reason.MALFORMED, f"{sample.shown_path}: a member is given twice")


@by_sample
def test_unknown_members_are_counted(sample: Sample) -> None:
    decoded = check(sample, sample.changed({"x": {"y": [1]}, "z": None}))
    assert not decoded.rejects
    assert decoded.unknown_members == 2
    assert len(decoded.batch) == kept(sample)


@by_sample
def test_each_level_of_a_document_may_be_anything(sample: Sample) -> None:
    for depth in range(len(sample.path)):
        for wrong in (None, 1, "x", [], {}, [None], [[]], {"x": 1}, True):
            document = copied(sample.document)
            if depth:
                follow(document, sample.path[: depth - 1])[sample.path[depth - 1]] = wrong
            else:
                document = wrong
            check(sample, dumped(document))


@pytest.mark.parametrize("adapter", sorted({sample.adapter for sample in SAMPLES}))
def test_noise_and_nesting_are_no_documents(adapter: str) -> None:
    for payload in (b"[" * 100_000, b'{"records":' * 50_000, b"9" * 10_000, b"\xff" * (1 << 20), b'"' * (1 << 20)):
        assert [reject.reason for reject in decode(adapter, payload).rejects] == [Reason.MALFORMED]
    assert [r.reason for r in decode(adapter, b"{}", "other").rejects] == [Reason.UNKNOWN_KIND]


@pytest.mark.parametrize(("sample", "member"), FIELDS)
def test_no_text_of_a_payload_is_copied(sample: Sample, member: str) -> None:
    for changes in ({member: "Schmoe"}, {"Schmoe": "Schmoe"}):
        assert "schmoe" not in repr(check(sample, sample.changed(changes))).lower()


@by_sample
def test_identity_stays_when_a_value_is_revised_and_ids_never_count_up_on_wall_time(sample: Sample) -> None:
    first, again = check(sample, sample.payload()).batch, check(sample, sample.payload()).batch
    for column in ("vital", "source_time_ns", "seq"):
        assert getattr(first, column).tolist() == getattr(again, column).tolist()
    # A positive seq on wall time is a record number that may show a reset clock.
    assert (first.seq[first.clock == SourceClock.WALL] <= 0).all()
    for member in ("value", "sgv", "HP", "BG", "BO", "WeightValue", "weight", "qty", "systolic"):
        number = sample.record.get(member)
        if isinstance(number, int | float):
            revised = check(sample, sample.changed({member: number + 1})).batch
            if not len(revised):
                continue
            assert revised.value.tolist() != first.value.tolist()
            assert revised.seq.tolist() == first.seq.tolist()
            assert revised.source_time_ns.tolist() == first.source_time_ns.tolist()


def test_what_is_withdrawn_has_the_identity_of_what_was_sent() -> None:
    def identities(decoded: Decoded, *, withdrawn: bool) -> set[tuple[int, int, int]]:
        batch = decoded.batch
        rows = ((batch.flags & int(Flag.RETRACTED)) != 0) == withdrawn
        columns = (batch.vital[rows].tolist(), batch.source_time_ns[rows].tolist(), batch.seq[rows].tolist())
        return set(zip(*columns, strict=True))

    group, entry = (next(s for s in SAMPLES if s.adapter == name) for name in ("withings", "nightscout"))
    sent = identities(check(group, group.payload()), withdrawn=False)
    assert identities(check(group, group.changed({"deleted": 1710075600})), withdrawn=True) == sent
    # Without its measures the group may have held any vital.
    emptied = check(group, group.changed({"deleted": True, "measures": []}))
    assert identities(emptied, withdrawn=True) > sent
    sent = identities(check(entry, entry.payload()), withdrawn=False)
    assert identities(check(entry, entry.changed({"isValid": False})), withdrawn=True) == sent


# Texts that make an adapter ask its settings: an ambiguous owner, remarks, a code, lists without their unit.
ASKING = ((b'"attrib": 0', b'"attrib": 1'), (b'"Note": ""', b'"Note": "x"'), (b'"comment": ""', b'"comment": "x"'),
          (b'"sgv": 118', b'"sgv": 401'), (b'"heart_rate"', b'"blood_glucose"'))  # fmt: skip
UNITS = (b"BPUnit", b"BGUnit", b"WeightUnit")


@pytest.mark.parametrize(
    ("adapter", "setting"),
    [(name, key) for name in sorted({sample.adapter for sample in SAMPLES}) for key in ADAPTERS[name].settings],
)
def test_a_setting_with_an_unknown_word_is_named_not_guessed(adapter: str, setting: str) -> None:
    details = []
    for sample in SAMPLES:
        text = sample.payload()
        for before, after in ASKING if sample.adapter == adapter else ():
            text = text.replace(before, after)
        if setting == "spo2":
            text = text.replace(b'"blood_glucose"', b'"blood_oxygen_saturation"').replace(b'"bpm"', b'"%"')
        configured = {"ambiguous_owner": "accept", setting: "Schmoe"} if setting == "notes" else {setting: "Schmoe"}
        if sample.adapter == adapter:
            for unit in (b"", *UNITS):
                payload = text.replace(b'"%s"' % unit, b'"x"') if unit else text
                details += [reject.detail for reject in check(sample, payload, **configured).rejects]
    assert any(f": setting {setting} " in detail for detail in details)
    assert "schmoe" not in repr(details).lower()


WORDS = st.sampled_from(["sgv", "mg/dL", "low", "2024-03-10T07:15:30Z", "07:30:00", "-0800", "", "é", "\ud800"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))


@settings(derandomize=True, max_examples=500, deadline=None)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_documents_near_the_format_never_raise(sample: Sample, data: st.DataObject) -> None:
    members = sorted(sample.record)
    changes = data.draw(st.dictionaries(st.sampled_from([*members, "x"]), VALUES, max_size=4))
    document = copied(sample.document)
    follow(document, sample.path).update(changes)
    check(sample, json.dumps(document).encode())


@settings(derandomize=True, max_examples=400, deadline=None)
@given(sample=st.sampled_from(SAMPLES), document=VALUES)
def test_json_of_any_shape_never_raises(sample: Sample, document: Any) -> None:
    decoded = check(sample, json.dumps(document).encode())
    assert shown(decoded) == shown(check(sample, json.dumps(document, indent=2).encode()))


@pytest.mark.parametrize(
    ("date", "source_ns"),
    [
        (1_710_075_600_000, 1_710_075_600 * 10**9),
        (1_710_075_600, 1_710_075_600 * 10**9),
        (28_900_000_000, 28_900_000 * 10**9),  # milliseconds of a clock that was never set: 1 December 1970
        (9_000_000_000, 9_000_000 * 10**9),
    ],
)
def test_nightscout_dates_are_milliseconds_or_seconds_and_no_year_beyond_what_a_time_can_have(
    date: int, source_ns: int
) -> None:
    entry = next(one for one in SAMPLES if one.adapter == "nightscout")
    sent = {"date": date, "sysTime": None, "dateString": None}
    assert check(entry, entry.changed(sent)).batch.source_time_ns.tolist()[-1] == source_ns
