"""``omh``: the published documents, and every way in which a data point can be wrong (device-formats.md 3)."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import decoding
from ingest.adapter import Columns, Context, SourceClock
from ingest.adapters.reading.timestamps import parse_rfc3339
from ingest.doubts import convert
from tests.adapters.decoding import ADAPTERS, RECEIVED_NS, assert_sound, decode, decode_all, message, shown
from tests.adapters.omh_facts import MEMBERS as MEASURED
from vitals.catalog import BY_CODE
from vitals.glossary import Flag, Reason, Statistic
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_CODE, UNIT_BY_NAME, to_canonical

FIXTURES = Path(__file__).parents[1] / "fixtures" / "omh"
PUBLISHED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "expected.json").read_text())["documents"]
CONTEXT_KEYS = {
    "blood_specimen_type": "sample", "specimen_source": "sample", "temporal_relationship_to_meal": "meal",
    "temporal_relationship_to_sleep": "sleep", "temporal_relationship_to_physical_activity": "activity",
    "user_notes": "note", "body_posture": "posture", "position_during_measurement": "posture",
    "measurement_location": "site", "system": "system", "measurement_method": "method",
    "oxygen_therapy_mode_of_administration": "oxygen_mode",
}  # fmt: skip
STATISTICS = {
    None: Statistic.SINGLE, "average": Statistic.MEAN, "minimum": Statistic.MINIMUM, "maximum": Statistic.MAXIMUM,
}  # fmt: skip

TIME = {"date_time": "2024-03-10T07:30:00-05:00"}
DAY = {
    "time_interval": {
        "start_date_time": "2024-03-09T00:00:00-05:00",
        "duration": {"value": 1, "unit": "d"},
    }
}
HEADER = {
    "id": "7d0a1f0e-6a1a-4f0e-9a5e-2b1f3c4d5e6f",
    "creation_date_time": "2024-03-10T12:31:05Z",
    "schema_id": {"namespace": "omh", "name": "heart-rate", "version": "2.0", "url": "https://example.org"},
    "acquisition_provenance": {
        "source_name": "home-hub",
        "source_creation_date_time": "2024-03-10T07:30:00-05:00",
        "modality": "sensed",
        "source_data_point_id": "17",
        "source_last_modification_date_time": "2024-03-10T07:31:00-05:00",
    },
    "user_id": "patient-17",
}
IEEE_HEADER = {
    "uuid": "7d0a1f0e-6a1a-4f0e-9a5e-2b1f3c4d5e6f",
    "schema_id": {"namespace": "ieee", "name": "heart-rate", "version": "1.0"},
    "source_creation_date_time": "2024-03-10T12:30:02Z",
    "external_datasheets": [{"datasheet_type": "manufacturer", "datasheet_reference": "https://example.org"}],
    "modality": "sensed",
    "acquisition_rate": {},
    "patient_id": "17",
}
RATE = {"heart_rate": {"value": 61, "unit": "beats/min"}, "effective_time_frame": TIME}


def pair(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit}


FULL: dict[str, dict[str, Any]] = {
    "blood-glucose-1.0": {
        "blood_glucose": pair(5.5, "mmol/L"), "blood_specimen_type": "plasma", "effective_time_frame": TIME,
        "temporal_relationship_to_meal": "fasting", "temporal_relationship_to_sleep": "on waking",
        "descriptive_statistic": "average", "descriptive_statistic_denominator": "d", "user_notes": "fine",
    },
    "blood-glucose-4.0": {
        "blood_glucose": pair(105, "mg/dL"), "specimen_source": "capillary blood", "effective_time_frame": TIME,
        "temporal_relationship_to_meal": "fasting", "temporal_relationship_to_sleep": "on waking",
        "descriptive_statistic": "average",
    },
    "heart-rate-2.0": {
        **RATE, "temporal_relationship_to_physical_activity": "at rest", "temporal_relationship_to_sleep": "on waking",
    },
    "oxygen-saturation-2.0": {
        "oxygen_saturation": pair(96, "%"), "supplemental_oxygen_flow_rate": pair(2.5, "L/min"),
        "oxygen_therapy_mode_of_administration": "nasal cannula", "system": "peripheral capillary",
        "measurement_method": "pulse oximetry", "effective_time_frame": {"time_interval": {
            "start_date_time": "2024-03-09T23:00:00-05:00", "end_date_time": "2024-03-10T06:30:00-05:00"}},
    },
    "blood-pressure-4.0": {
        "systolic_blood_pressure": pair(128, "mmHg"), "diastolic_blood_pressure": pair(82, "mmHg"),
        "body_posture": "sitting", "measurement_location": "left upper arm", "effective_time_frame": TIME,
        "temporal_relationship_to_physical_activity": "at rest",
    },
    "body-temperature-3.0": {
        "body_temperature": pair(98.6, "F"), "measurement_location": "oral",
        "temporal_relationship_to_sleep": "on waking",
        "effective_time_frame": {"time_interval": {"date": "2024-03-09", "part_of_day": "night"}},
    },
    "respiratory-rate-2.0": {
        "respiratory_rate": pair(14, "breaths/min"), "temporal_relationship_to_physical_activity": "at rest",
        "effective_time_frame": {"time_interval": {
            "end_date_time": "2024-03-10T07:30:00-05:00", "duration": pair(90, "sec")}},
    },
    "body-weight-3.0": {"body_weight": pair(80.2, "kg"), "effective_time_frame": TIME},
    "step-count-2.0": {"step_count": 6210, "effective_time_frame": DAY},
    "step-count-3.0": {"step_count": pair(6210, "steps"), "effective_time_frame": DAY},
    "rr-interval-1.0": {"rr_interval": pair(812.5, "ms"), "effective_time_frame": TIME},
    "sleep-duration-2.0": {"sleep_duration": pair(7.5, "h"), "effective_time_frame": {"time_interval": {
        "start_date_time": "2024-03-09T23:00:00-05:00", "end_date_time": "2024-03-10T06:30:00-05:00"}}},
}  # fmt: skip
"""Kind -> a body with all that its schema names."""
REQUIRED = {
    "blood-glucose-1.0": {"blood_glucose"},
    "oxygen-saturation-2.0": {"oxygen_saturation", "effective_time_frame"},
    "rr-interval-1.0": {"rr_interval"},
    "blood-pressure-4.0": {"systolic_blood_pressure", "diastolic_blood_pressure", "effective_time_frame"},
}
"""Members of a body that its schema requires, where they are not the measure and the time."""
ALWAYS = {"date_time", "time_interval", "start_date_time", "end_date_time", "duration", "date", "part_of_day", "value",
          "unit"}  # fmt: skip
"""Members that what they stand in cannot do without."""
HEADERS_REQUIRED = {
    "header", "body", "header.id", "header.creation_date_time", "header.schema_id", "header.schema_id.namespace",
    "header.schema_id.name", "header.schema_id.version",
    "body.heart_rate", "body.heart_rate.value", "body.heart_rate.unit", "body.effective_time_frame",
    "body.effective_time_frame.date_time",
}  # fmt: skip
POINTS = {"omh": {"header": HEADER, "body": RATE}, "ieee": {"header": IEEE_HEADER, "body": RATE}}
WHOLE = [*FULL.items(), ("", POINTS["omh"]), ("", POINTS["ieee"])]
NAMES = [*FULL, *POINTS]


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def rejected(payload: bytes, kind: str) -> tuple[Reason, str]:
    """Why a message with nothing good in it is refused."""
    batch = [message("omh", payload, kind)]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    assert not len(decoded.batch)
    (reject,) = decoded.rejects
    return reject.reason, reject.detail


def good(document: Any, kind: str, **configured: str) -> Columns:
    """The readings of a message with nothing wrong in it."""
    decoded = ADAPTERS["omh"].decode([message("omh", dumped(document), kind)], [Context(settings=configured)])
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == []
    return decoded.batch


def parts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every part of a document with its path, but for the document itself."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key), part
        yield from parts(part, (*path, key))


def spelled(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def changed(document: Any, path: tuple[str | int, ...], *replacement: Any) -> Any:
    """A copy with the part at ``path`` replaced, or left out when there is no replacement."""
    copied = copy.deepcopy(document)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    if replacement:
        parent[path[-1]] = replacement[0]
    else:
        del parent[path[-1]]
    return copied


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_document_gives_its_expected_readings(name: str) -> None:
    expected = PUBLISHED[name]
    decoded = decode("omh", (FIXTURES / name).read_bytes(), "-".join(name.split("/")[:2]))
    assert not decoded.rejects
    assert not decoded.unknown_members
    batch = decoded.batch
    assert len(batch) == len(expected["readings"])
    context = {CONTEXT_KEYS[member]: word for member, word in expected.get("context", {}).items()}
    for row, reading in enumerate(expected["readings"]):
        vital, unit = BY_CODE[int(batch.vital[row])], UNIT_BY_CODE[int(batch.unit[row])]
        assert vital.key == reading["vital"]
        assert (batch.value[row], unit) == (reading["reported_value"], UNIT_BY_NAME[reading["reported_unit"]])
        canonical = to_canonical(batch.value[row], unit.ucum, vital.unit)
        # The catalogue rounds temperatures at the ninth decimal.
        assert float(canonical) == pytest.approx(reading["value"], rel=1e-10)
        assert vital.unit == reading["unit"]
        assert batch.statistic[row] == STATISTICS[reading["statistic"]]
        day = {"part_of_day": reading["part_of_day"]} if "part_of_day" in reading else {}
        assert batch.context.get(row, {}) == context | day
        assert (batch.clock[row], batch.source_time_ns[row], batch.ended_ns[row], batch.tz_min[row]) == when(reading)
        is_reversed = name == "body-temperature/4.0/valid-temperature-with-statistic.json"
        assert batch.flags[row] == (Flag.CLOCK_SUSPECT if is_reversed else 0)


def when(reading: dict[str, Any]) -> tuple[SourceClock, int, int, int]:
    """Clock, time, end and offset that an expected reading stands for."""
    match reading["time_basis"]:
        case "date_time":
            time_ns, offset = parse_rfc3339(reading["time"])
            assert offset is not None
            return SourceClock.INSTANT, time_ns, NO_TIME, offset
        case "interval":
            start_ns, offset = parse_rfc3339(reading["interval"]["start"])
            assert offset is not None
            return SourceClock.INSTANT, start_ns, parse_rfc3339(reading["interval"]["end"])[0], offset
        case "date_and_part_of_day":
            return SourceClock.DAY, parse_rfc3339(f"{reading['date']}T00:00:00Z")[0], NO_TIME, 0
        case _:
            return SourceClock.NONE, RECEIVED_NS, NO_TIME, 0


def test_the_published_documents_are_all_there() -> None:
    found = {str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/*/*.json")}
    assert found == PUBLISHED.keys()
    assert len(found) == 76


@pytest.mark.parametrize(("kind", "document"), WHOLE, ids=NAMES)
def test_cut_at_every_byte_it_is_no_document(kind: str, document: dict[str, Any]) -> None:
    payload = dumped(document)
    assert len(good(document, kind))
    for length in range(len(payload)):
        reason, _ = rejected(payload[:length], kind)
        assert reason is (Reason.MALFORMED if length else Reason.EMPTY)


DECIDE = ("effective_time_frame", "descriptive_statistic", "specimen_source", "blood_specimen_type")
UNREAD = {("header", "external_datasheets"), ("header", "schema_id")}
"""Where parts that only add to a value are not looked at one by one."""


def only_adds(path: tuple[str | int, ...]) -> bool:
    """Whether a part only adds to a value: words of a body but those that decide, a header but its schema."""
    if path[0] == "header":
        return path[1:2] != () and (path[1] != "schema_id" or path[2:] == ("url",))
    path = path[1:] if path[0] == "body" else path
    return len(path) == 1 and path[0] not in DECIDE and path[0] not in set().union(*MEASURED.values())  # fmt: skip


@pytest.mark.parametrize(("kind", "document"), WHOLE, ids=NAMES)
def test_every_part_of_a_wrong_type_is_named(kind: str, document: dict[str, Any]) -> None:
    for path, part in parts(document):
        for wrong in (None, True, "x", 7, [], {}):
            is_number = isinstance(wrong, int) and not isinstance(wrong, bool)
            if type(part) is type(wrong) or (is_number and (isinstance(part, float) or path[-1] == "version")):
                continue
            payload = dumped(changed(document, path, wrong))
            if path[0] == "supplemental_oxygen_flow_rate":
                decoded = decode("omh", payload, kind)
                assert [reject.detail for reject in decoded.rejects] == [spelled(path)]
                assert decoded.batch.value.tolist() == [96.0], "the saturation stays"
            elif only_adds(path):
                decoded = decode("omh", payload, kind)
                assert not decoded.rejects
                assert len(decoded.batch) == len(good(document, kind))
                assert decoded.left_out == (len(path) == 2 or path[:2] not in UNREAD), (path, wrong)
            else:
                assert rejected(payload, kind) == (Reason.BAD_TYPE, spelled(path)), wrong


OWN_VALUES = {"supplemental_oxygen_flow_rate"}
"""Members with a value of their own: a bad one is rejected, and the value of the body stays."""


@pytest.mark.parametrize(("kind", "body"), FULL.items(), ids=FULL)
def test_every_required_part_of_a_body_is_missed_and_no_other(kind: str, body: dict[str, Any]) -> None:
    required = REQUIRED.get(kind, {next(iter(body)), "effective_time_frame"})
    for path, _ in parts(body):
        document = changed(body, path)
        if path[0] in OWN_VALUES and path[-1] in ALWAYS:
            decoded = decode_all([message("omh", dumped(document), kind)])
            assert [(one.reason, one.detail) for one in decoded.rejects] == [(Reason.MISSING_FIELD, spelled(path))]
            assert len(decoded.batch) == 1
        elif path[-1] in ALWAYS or spelled(path) in required:
            reason, detail = rejected(dumped(document), kind)
            assert reason is Reason.MISSING_FIELD
            assert detail.startswith(spelled(path) if path[-1] in {"value", "unit"} else spelled(path[:1]))
        else:
            assert len(good(document, kind))


def test_every_required_part_of_a_data_point_is_missed_and_no_other() -> None:
    paths = {spelled(path): path for path, _ in parts(POINTS["omh"])}
    assert paths.keys() > HEADERS_REQUIRED
    for name, path in paths.items():
        document = changed(POINTS["omh"], path)
        if name in HEADERS_REQUIRED:
            reason, detail = rejected(dumped(document), "")
            assert reason is Reason.MISSING_FIELD
            assert detail.removesuffix(": neither date_time nor time_interval") in {name, spelled(path[:-1])}
        else:
            assert len(good(document, ""))


@pytest.mark.parametrize(("kind", "document"), WHOLE, ids=NAMES)
def test_a_member_given_twice_makes_a_data_point_unreadable(kind: str, document: dict[str, Any]) -> None:
    for path, part in [((), document), *parts(document)]:
        if not isinstance(part, dict) or not part or (path and only_adds(path)):
            continue
        name = next(iter(part))
        marked = dumped(changed({"all": document}, ("all", *path), {"twice": 0} | part)["all"])
        twice = marked.replace(b'"twice"', dumped(name))
        assert rejected(twice, kind) == (Reason.MALFORMED, f"{spelled(path) or '$'}: a member is given twice")
        beside = decode("omh", b"[" + dumped(document) + b"," + twice + b"]", kind)
        assert len(beside.batch) == len(good(document, kind)), "the neighbour is kept"
        assert [reject.detail for reject in beside.rejects] == [
            f"[1]{'.' * bool(path)}{spelled(path)}: a member is given twice"
        ]


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("NaN", Reason.BAD_VALUE, "heart_rate.value"),
        ("Infinity", Reason.BAD_VALUE, "heart_rate.value"),
        ("-Infinity", Reason.BAD_VALUE, "heart_rate.value"),
        ("1e400", Reason.BAD_VALUE, "heart_rate.value"),
        ("1e300", Reason.BAD_VALUE, "heart_rate: over 1e+12"),
        ("-1000000000001", Reason.BAD_VALUE, "heart_rate: over 1e+12"),
        ("9" * 400, Reason.BAD_VALUE, "heart_rate.value"),
        ("9" * 10_000, Reason.MALFORMED, "a number has too many digits"),
        ("[" * 20_000, Reason.MALFORMED, "nested too deeply"),
        ('{"a":' * 10_000, Reason.MALFORMED, "nested too deeply"),
        ('"61"', Reason.BAD_TYPE, "heart_rate.value"),
        ("061", Reason.MALFORMED, "not JSON at character 26"),
    ],
)
def test_numbers_that_are_none(text: str, reason: Reason, detail: str) -> None:
    payload = b'{"heart_rate": {"value": ' + text.encode() + b', "unit": "beats/min"}}'
    assert rejected(payload, "heart-rate") == (reason, detail)


@pytest.mark.parametrize("value", [-40, 0, 0.1, 61.123456789012, 1e-300, 999_999_999_999])
def test_numbers_keep_their_digits(value: float) -> None:
    assert good({**RATE, "heart_rate": pair(value, "beats/min")}, "heart-rate").value.tolist() == [value]


@pytest.mark.parametrize("payload", [b"null", b"1", b'"x"', b"[null]", b'[[{"heart_rate":1}]]'])
def test_what_is_no_data_point(payload: bytes) -> None:
    assert rejected(payload, "heart-rate") == (Reason.BAD_TYPE, "[0]" if payload.startswith(b"[") else "$")


def test_an_empty_array_is_a_message_with_nothing_in_it() -> None:
    assert not len(good([], "heart-rate"))


def test_unknown_members_are_ignored_and_counted_where_they_stand() -> None:
    body = {"extra": 1, "heart_rate": {**RATE["heart_rate"], "extra": 1}, "body_posture": "sitting",
            "effective_time_frame": {**TIME, "extra": {"a": 1}}}  # fmt: skip
    header = {**HEADER, "timezone": "pst", "acquistion_rate": {}, "schema_id": {**HEADER["schema_id"], "extra": 1},
              "acquisition_provenance": {"source_name": "x", "extra": 1}}  # fmt: skip
    decoded = decode("omh", dumped({"header": header, "body": body, "extra": 1}), "")
    assert not decoded.rejects
    assert decoded.unknown_members == 4 + 4 + 1
    inner = {"start_date_time": "2024-03-10T07:30:00Z", "duration": {"value": 1, "unit": "h", "extra": 1}, "extra": 1}
    spanned = {**RATE, "effective_time_frame": {"time_interval": inner}}
    assert decode("omh", dumped([spanned, spanned]), "heart-rate").unknown_members == 2 * 2


def test_nothing_that_may_name_a_person_is_copied() -> None:
    name = "Schmoe"
    documents: list[tuple[Any, str]] = [
        ({"header": {**HEADER, "user_id": name, "id": name, "note": name,
                     "acquisition_provenance": {"source_name": name, "source_data_point_id": name}}, "body": RATE}, ""),
        ({"header": {**IEEE_HEADER, "patient_id": name, "uuid": name}, "body": {**RATE, name: name}}, ""),
    ]  # fmt: skip
    documents += [
        (changed(document, path, name), kind) for kind, document in WHOLE for path, _ in parts(document)
        if path[-1] != "user_notes"
    ]  # fmt: skip
    for document, kind in documents:
        assert name.lower() not in repr(shown(decode("omh", dumped(document), kind))).lower()


WORDS = st.sampled_from(
    ["heart-rate", "2.0", "omh", "ieee", "beats/min", "mg/dL", "urine", "average", "self-reported", "sec", "yr",
     "2024-03-10T07:30:00Z", "2024-03-10T07:30:00", "2261-12-31T23:59:59Z", "1678-01-01T00:00:00+12:00", "2024-03-09",
     "night", "", "\ud800"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6)
MEMBERS = st.sampled_from(
    sorted({str(path[-1]) for _, document in WHOLE for path, _ in parts(document)} | {"date", "x"})
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=6),
    max_leaves=16,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(ADAPTERS["omh"].kinds)), ANY)
def test_json_of_any_shape_never_raises(kind: str, document: Any) -> None:
    batch = [message("omh", dumped(document), kind)]
    assert_sound(decode_all(batch), batch)


@settings(max_examples=400)
@given(st.data())
def test_documents_that_are_nearly_right_never_raise(data: st.DataObject) -> None:
    kind, document = data.draw(st.sampled_from(WHOLE))
    for _ in range(data.draw(st.integers(1, 3))):
        path, _ = data.draw(st.sampled_from([*parts(document), ((), None)]))
        if path:
            document = changed(document, path, data.draw(ANY))
    batch = [message("omh", dumped(document), kind)]
    # As the pipeline calls it: an exception, or what no later stage could take, would be an adapter error.
    decoded = decoding.decode(ADAPTERS["omh"], batch, [Context()])
    assert_sound(decoded, batch)
    assert all(reject.reason is not Reason.ADAPTER_ERROR for reject in decoded.rejects)
    columns = decoded.batch
    assert all(math.isfinite(value) for value in convert(columns.vital, columns.unit, columns.value))
