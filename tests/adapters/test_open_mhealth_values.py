"""``omh``: units, statistics, samples, times, identities and headers mean what the reference says."""

import json
from typing import Any

import pytest

from ingest.adapter import Context, SourceClock
from tests.adapters.decoding import ADAPTERS, ORDINAL, RECEIVED_NS, decode, decode_all, message, shown
from tests.adapters.omh_facts import MEMBERS, STATISTICS, UNITS, VERSIONS, VITALS, canonical, good
from vitals.catalog import BY_CODE
from vitals.glossary import Flag, Reason, Statistic
from vitals.times import NO_TIME

OFFSET_MIN = -300
AT_NS = 1_710_073_800_000_000_000
HOUR_NS = 3_600_000_000_000
AT = {"effective_time_frame": {"date_time": "2024-03-10T07:30:00-05:00"}}
RATE = {"heart_rate": {"value": 61, "unit": "beats/min"}}


def refused(document: Any, kind: str) -> tuple[Reason, str]:
    decoded = decode("omh", json.dumps(document).encode(), kind)
    assert not len(decoded.batch)
    (reject,) = decoded.rejects
    return reject.reason, reject.detail


def interval(**members: Any) -> dict[str, Any]:
    return {"effective_time_frame": {"time_interval": members}}


def time_of(name: str) -> dict[str, Any]:
    """A time frame that the schema ``name`` takes: a duration of sleep has no point in time."""
    return interval(start_date_time=START, end_date_time=END) if name == "sleep-duration" else AT


def test_kinds_are_every_version_of_every_schema_and_the_schema_itself() -> None:
    kinds = {f"{name}-{version}" for name, versions in VERSIONS.items() for version in versions}
    assert ADAPTERS["omh"].kinds.keys() == kinds | VERSIONS.keys() | {""}


@pytest.mark.parametrize("kind", ["blood-glucose-5.0", "blood-glucose-", "Blood-Glucose", "blood-glucose-4", "glucose"])
def test_other_kinds_are_unknown(kind: str) -> None:
    assert refused(RATE, kind) == (Reason.UNKNOWN_KIND, "")


@pytest.mark.parametrize(("name", "unit"), [(name, unit) for name, units in UNITS.items() for unit in units])
def test_every_unit_leads_to_the_canonical_one(name: str, unit: str) -> None:
    factor = UNITS[name][unit]
    sent = float(f"{50 / factor:.6g}") if factor < 1e-6 else 12.5
    (member, *others) = MEMBERS[name]
    body = {member: {"value": sent, "unit": unit}, **{other: {"value": 1, "unit": unit} for other in others}}
    batch = good({**body, **time_of(name)}, name)
    assert BY_CODE[int(batch.vital[0])].key == VITALS[member]
    # The catalogue rounds powers of ten at the ninth decimal.
    assert canonical(batch) == pytest.approx(sent * factor, rel=1e-12, abs=1e-9)
    if "reported_unit" in batch.context.get(0, {}):
        assert batch.context[0] == {"reported_value": sent, "reported_unit": unit}
    else:
        assert batch.value[0] == sent, "what the device said stands in the column"


@pytest.mark.parametrize(("unit", "sent", "celsius"), [("C", 37.1, 37.1), ("F", 98.6, 37.0), ("K", 310.15, 37.0)])
def test_every_unit_of_temperature(unit: str, sent: float, celsius: float) -> None:
    batch = good({"body_temperature": {"value": sent, "unit": unit}}, "body-temperature")
    assert batch.value.tolist() == [sent]
    assert canonical(batch) == celsius


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("unit", ["", "Mo", "yr", "mol", "Schmoe"])
def test_every_other_unit_is_refused(name: str, unit: str) -> None:
    member = MEMBERS[name][0]
    body = {name: {"value": 1, "unit": unit} for name in MEMBERS[name]}
    assert refused({**body, **time_of(name)}, name) == (Reason.UNKNOWN_UNIT, f"{member}.unit")


@pytest.mark.parametrize(("name", "member", "unit"), [("blood-glucose", "blood_glucose", "mg/dl"),
    ("body-temperature", "body_temperature", "ºF"), ("heart-rate", "heart_rate", "BPM"),
    ("blood-pressure", "systolic_blood_pressure", "mm Hg"), ("body-weight", "body_weight", "lbs")])  # fmt: skip
def test_units_are_read_as_producers_write_them(name: str, member: str, unit: str) -> None:
    body = {one: {"value": 50, "unit": unit} for one in MEMBERS[name][:2]}
    decoded = decode("omh", json.dumps({**body, **AT}).encode(), name)
    assert not decoded.rejects
    assert decoded.batch.value[0] == 50.0, member


def test_a_duration_of_sleep_has_no_point_in_time() -> None:
    body = {"sleep_duration": {"value": 7, "unit": "h"}}
    for kind in ("sleep-duration", "sleep-duration-1.0", "sleep-duration-2.0"):
        assert refused({**body, **AT}, kind) == (Reason.MISSING_FIELD, "effective_time_frame.time_interval")


@pytest.mark.parametrize(
    ("sample", "vital"),
    [
        (None, "glucose_bg"), ("capillary blood", "glucose_bg"), ("whole blood", "glucose_bg"),
        ("plasma", "glucose_bg"), ("serum", "glucose_bg"), ("interstitial fluid", "glucose_isf"),
        ("tears", None), ("lacrimal fluid", None), ("breath", None), ("saliva", None), ("sweat", None), ("urine", None),
    ],
)  # fmt: skip
def test_the_sample_decides_which_glucose_it_is(sample: str | None, vital: str | None) -> None:
    body: dict[str, Any] = {"blood_glucose": {"value": 5.5, "unit": "mmol/L"}, **AT}
    if sample is not None:
        body["specimen_source"] = sample
    out = shown(decode("omh", json.dumps(body).encode(), "blood-glucose-3.0"))
    assert not out["rejects"]
    if vital is None:
        assert not out["readings"], "a limit for blood does not judge it"
        assert [(event["kind"], event["detail"]) for event in out["events"]] == [
            ("context", f"glucose in {sample}, mmol/L")
        ]
    else:
        assert not out["events"]
        (row,) = out["readings"]
        assert (row["vital"], row["context"]) == (vital, {} if sample is None else {"sample": sample})


@pytest.mark.parametrize("word", STATISTICS)
def test_every_statistic_is_marked(word: str) -> None:
    batch = good({**RATE, **AT, "descriptive_statistic": word}, "heart-rate")
    assert batch.statistic.tolist() == [STATISTICS[word]]
    assert batch.value.tolist() == [61.0]
    named = STATISTICS[word] in {Statistic.QUANTILE, Statistic.QUARTILE_DEVIATION}
    assert batch.context.get(0, {}) == ({"statistic": word} if named else {})


@pytest.mark.parametrize(
    ("name", "unit", "statistic", "value"),
    [
        ("body-temperature", "F", "standard deviation", 5 / 9), ("body-temperature", "F", "variance", 25 / 81),
        ("body-temperature", "F", "quartile deviation", 5 / 9), ("body-temperature", "K", "variance", 1.0),
        ("body-temperature", "F", "count", 1.0), ("blood-glucose", "mmol/L", "standard deviation", 18.0182),
        ("blood-glucose", "mmol/L", "variance", 18.0182**2), ("blood-glucose", "mmol/L", "count", 1.0),
        ("body-weight", "lb", "variance", 0.45359237**2), ("body-weight", "mg", "variance", 1e-12),
        ("sleep-duration", "min", "standard deviation", 1 / 60),
    ],
)  # fmt: skip
def test_a_spread_converts_by_its_own_factor(name: str, unit: str, statistic: str, value: float) -> None:
    body = {MEMBERS[name][0]: {"value": 1, "unit": unit}, **time_of(name), "descriptive_statistic": statistic}
    batch = good(body, name)
    assert canonical(batch) == pytest.approx(value, rel=1e-12)
    assert batch.context[0]["reported_value"] == 1
    assert batch.context[0]["reported_unit"] == unit


START, END = "2024-03-10T07:30:00-05:00", "2024-03-10T08:30:00-05:00"
INSTANT, WALL, DAY = SourceClock.INSTANT, SourceClock.WALL, SourceClock.DAY


@pytest.mark.parametrize(
    ("members", "clock", "start_ns", "ended_ns", "tz_min"),
    [
        ({"start_date_time": START, "end_date_time": END}, INSTANT, AT_NS, AT_NS + HOUR_NS, -300),
        ({"start_date_time": START, "end_date_time": "2024-03-10T13:30:00Z"}, INSTANT, AT_NS, AT_NS + HOUR_NS, -300),
        ({"start_date_time": START, "end_date_time": START}, INSTANT, AT_NS, NO_TIME, -300),
        ({"start_date_time": START, "duration": {"value": 1, "unit": "h"}}, INSTANT, AT_NS, AT_NS + HOUR_NS, -300),
        ({"start_date_time": START, "duration": {"value": 0, "unit": "h"}}, INSTANT, AT_NS, NO_TIME, -300),
        ({"end_date_time": START, "duration": {"value": 0.5, "unit": "h"}}, INSTANT, AT_NS - HOUR_NS // 2, AT_NS, -300),
        ({"end_date_time": START, "duration": {"value": 1, "unit": "Mo"}}, INSTANT, AT_NS, AT_NS, -300),
        ({"start_date_time": START, "duration": {"value": 2, "unit": "yr"}}, INSTANT, AT_NS, NO_TIME, -300),
        ({"start_date_time": START[:-6], "end_date_time": END[:-6]}, WALL, AT_NS - 5 * HOUR_NS, AT_NS - 4 * HOUR_NS, 0),
        ({"start_date_time": START[:-6], "end_date_time": END}, INSTANT, AT_NS, AT_NS + HOUR_NS, -300),
        ({"start_date_time": START, "end_date_time": END[:-6]}, INSTANT, AT_NS, AT_NS + HOUR_NS, -300),
        ({"date": "2024-03-10", "part_of_day": "morning"}, DAY, AT_NS - 12.5 * HOUR_NS, NO_TIME, 0),
    ],
)  # fmt: skip
def test_time_intervals(
    members: dict[str, Any], clock: SourceClock, start_ns: float, ended_ns: int, tz_min: int
) -> None:
    batch = good({**RATE, **interval(**members)}, "heart-rate")
    found = (batch.clock[0], batch.source_time_ns[0], batch.ended_ns[0], batch.tz_min[0])
    assert found == (clock, start_ns, ended_ns, tz_min)
    assert batch.flags.tolist() == [0]


@pytest.mark.parametrize(
    ("unit", "length_ns"),
    [("ps", 0), ("ns", 3), ("us", 2_500), ("ms", 2_500_000), ("sec", 2_500_000_000), ("min", 150_000_000_000),
     ("h", 2.5 * HOUR_NS), ("d", 60 * HOUR_NS), ("wk", 420 * HOUR_NS)],
)  # fmt: skip
def test_every_unit_of_duration(unit: str, length_ns: float) -> None:
    value = 2.6 if unit == "ns" else 2.5
    batch = good({**RATE, **interval(start_date_time=START, duration={"value": value, "unit": unit})}, "heart-rate")
    assert batch.ended_ns.tolist() == [AT_NS + length_ns if length_ns else NO_TIME]
    assert batch.context.get(0, {}) == ({"duration": f"2.5 {unit}"} if unit in {"d", "wk"} else {})


@pytest.mark.parametrize("members", [
    {"start_date_time": END, "end_date_time": START}, {"start_date_time": END, "duration": {"value": -1, "unit": "h"}},
])  # fmt: skip
def test_an_interval_that_ends_before_it_starts_has_a_clock_at_fault(members: dict[str, Any]) -> None:
    batch = good({**RATE, **interval(**members)}, "heart-rate")
    assert batch.flags.tolist() == [int(Flag.CLOCK_SUSPECT)]
    assert (batch.source_time_ns.tolist(), batch.ended_ns.tolist()) == ([AT_NS + HOUR_NS], [AT_NS])


@pytest.mark.parametrize(
    ("members", "reason", "where"),
    [
        ({"start_date_time": START, "duration": {"value": 300, "unit": "yr"}}, None, ""),
        ({"start_date_time": START, "duration": {"value": 1e6, "unit": "yr"}}, Reason.BAD_VALUE, ".duration.value"),
        ({"start_date_time": START, "duration": {"value": 1e300, "unit": "d"}}, Reason.BAD_VALUE, ".duration.value"),
        ({"start_date_time": START, "duration": {"value": 15_000, "unit": "wk"}}, Reason.BAD_TIME, ""),
        ({"end_date_time": "1700-01-01T00:00:00Z", "duration": {"value": 2_000, "unit": "wk"}}, Reason.BAD_TIME, ""),
        ({"date": "2024-03-10T00:00:00Z", "part_of_day": "night"}, Reason.BAD_TIME, ".date"),
        ({"date": "1066-10-14", "part_of_day": "night"}, Reason.BAD_TIME, ".date"),
        ({"date": "2024-03-10"}, Reason.MISSING_FIELD, ".part_of_day"),
        ({"part_of_day": "night"}, Reason.MISSING_FIELD, ".date"),
        (
            {"date": "2024-03-10", "part_of_day": "night", "end_date_time": END}, Reason.BAD_TIME,
            ": a day beside a time",
        ),
        ({"start_date_time": "1678-01-01T00:00:00", "end_date_time": "1678-01-02T00:00:00+12:00"}, Reason.BAD_TIME, ""),
        ({"end_date_time": "2261-12-31T23:00:00", "start_date_time": "2261-12-31T00:00:00-12:00"}, Reason.BAD_TIME, ""),
        ({"start_date_time": "2024-03-10T07:30:60Z", "end_date_time": START}, Reason.BAD_TIME, ".start_date_time"),
        ({"start_date_time": START, "end_date_time": "2024-03-10"}, Reason.BAD_TIME, ".end_date_time"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_read(members: dict[str, Any], reason: Reason | None, where: str) -> None:
    document = {**RATE, **interval(**members)}
    if reason is None:
        assert len(good(document, "heart-rate"))
    else:
        assert refused(document, "heart-rate") == (reason, f"effective_time_frame.time_interval{where}")


def test_a_time_without_an_offset_is_wall_time_or_by_the_setting_utc() -> None:
    document = {**RATE, "effective_time_frame": {"date_time": "2024-03-10T12:30:00"}}
    for configured, clock in (({}, WALL), ({"zoneless": "wall"}, WALL), ({"zoneless": "utc"}, INSTANT)):
        batch = good(document, "heart-rate", **configured)
        assert (batch.clock[0], batch.source_time_ns[0], batch.tz_min[0]) == (clock, AT_NS, 0)
        assert batch.context.get(0, {}) == ({"zone_assumed": True} if clock == INSTANT else {})


@pytest.mark.parametrize("name", VERSIONS)
def test_a_time_frame_is_required_from_some_version_on(name: str) -> None:
    needed = {"blood-glucose": "3.0", "blood-pressure": "3.0", "body-temperature": "3.0"}.get(name, "2.0")
    for version in VERSIONS[name]:
        kind = f"{name}-{version}"
        unit = next(iter(UNITS.get(name, {"C": 1})))
        body: dict[str, Any] = {member: {"value": 1, "unit": unit} for member in MEMBERS[name]}
        if kind in {"step-count-1.0", "step-count-2.0"}:
            body = {"step_count": 1}
        if version >= needed:
            assert refused(body, kind) == (Reason.MISSING_FIELD, "effective_time_frame")
        else:
            batch = good(body, kind)
            assert set(batch.clock.tolist()) == {SourceClock.NONE}
            assert set(batch.source_time_ns.tolist()) == {RECEIVED_NS}
            assert set(batch.seq.tolist()) == {ORDINAL}
        day = interval(date="2024-03-09", part_of_day="night")
        if kind in {"blood-glucose-4.0", "blood-pressure-4.0", "body-temperature-4.0", "body-weight-3.0"}:
            path = "effective_time_frame.time_interval"
            assert refused({**body, **day}, kind) == (Reason.BAD_TIME, f"{path}: IEEE 1752.1 has no part_of_day")
        else:
            assert set(good({**body, **day}, kind).clock.tolist()) == {DAY}


def identities(documents: list[Any], kind: str = "heart-rate") -> set[tuple[int, int, int]]:
    """(vital, time, seq) of the readings of documents, each sent in a message of its own."""
    batch = [message("omh", json.dumps(item).encode(), kind, ordinal=number) for number, item in enumerate(documents)]
    columns = decode_all(batch).batch
    assert len(columns) == len(documents)
    assert (columns.seq <= 0).all() or SourceClock.NONE in columns.clock, "it is no sequence number of records"
    return set(zip(columns.vital.tolist(), columns.source_time_ns.tolist(), columns.seq.tolist(), strict=True))


def test_what_was_measured_together_is_not_one_reading() -> None:
    frames = [
        AT, interval(start_date_time=START, end_date_time=END),
        interval(start_date_time=START, duration={"value": 61, "unit": "min"}),
        interval(start_date_time=START, duration={"value": 1, "unit": "Mo"}),
        interval(start_date_time=START, duration={"value": 1, "unit": "yr"}),
        interval(start_date_time=START, duration={"value": 12, "unit": "h"}),
        *(interval(date="2024-03-09", part_of_day=part) for part in ("morning", "afternoon", "evening", "night")),
    ]  # fmt: skip
    documents = [{**RATE, **frame} for frame in frames]
    documents += [
        {**document, "descriptive_statistic": word} for document in documents for word in STATISTICS
    ]  # fmt: skip
    assert len(identities(documents)) == len(documents) == 10 * 18


def test_what_is_sent_again_in_another_form_is_the_same_reading() -> None:
    forms = [
        interval(start_date_time=START, end_date_time=END), interval(end_date_time=END, start_date_time=START),
        interval(start_date_time="2024-03-10T12:30:00Z", end_date_time=END),
        interval(start_date_time=START, duration={"value": 1, "unit": "h"}),
        interval(end_date_time=END, duration={"value": 3600, "unit": "sec"}),
    ]  # fmt: skip
    assert len(identities([{**RATE, **form} for form in forms])) == 1
    assert identities([{**RATE, **AT}, {"heart_rate": {"value": 99, "unit": "beats/min"}, **AT}]) == {(1, AT_NS, 0)}


def header(ident: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "id": ident, "creation_date_time": "2024-03-10T12:31:05Z",
        "schema_id": {"namespace": "omh", "name": "heart-rate", "version": "2.0"}, **changes,
    }  # fmt: skip


def point(body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"header": header(**changes), "body": body}


def test_a_header_s_id_tells_data_points_apart() -> None:
    body = {**RATE, **AT}
    assert len(identities([point(body, ident=name) for name in ("a", "b", "é", "\ud800")], "")) == 4
    assert len(identities([point(body), point(body, user_id="x"), point({**body, "heart_rate": {
        "value": 70, "unit": "beats/min"}})], "")) == 1, "one id, one reading and its revisions"  # fmt: skip
    ieee = {"uuid": "a", "schema_id": {"namespace": "ieee", "name": "heart-rate", "version": "1.0"}}
    assert len(identities([point(body), {"header": ieee, "body": body}], "")) == 1


def test_data_points_without_a_time_of_one_message_stay_apart() -> None:
    batch = good([RATE] * 50, "heart-rate")
    assert len(set(batch.source_time_ns.tolist())) == 50
    assert batch.source_time_ns[0] == RECEIVED_NS
    assert set(batch.seq.tolist()) == {ORDINAL}


@pytest.mark.parametrize("kind", ["", "heart-rate", "heart-rate-2.0"])
@pytest.mark.parametrize("version", ["2.0", 2.0, 2])
def test_kind_and_header_may_name_the_same_schema(kind: str, version: str | float) -> None:
    schema = {"namespace": "omh", "name": "heart-rate", "version": version}
    assert len(good(point({**RATE, **AT}, schema_id=schema), kind))


@pytest.mark.parametrize(
    ("kind", "schema", "reason", "detail"),
    [
        ("heart-rate-1.1", {}, Reason.BAD_VALUE, "version: not that of the kind"),
        ("body-weight", {}, Reason.BAD_VALUE, "name: not that of the kind"),
        ("", {"namespace": "acme"}, Reason.BAD_VALUE, "namespace"),
        ("", {"name": "heart-rates"}, Reason.UNKNOWN_KIND, "name"),
        ("", {"name": ""}, Reason.UNKNOWN_KIND, "name"),
        ("", {"version": "3.0"}, Reason.UNKNOWN_KIND, "version"),
        ("", {"version": "2"}, Reason.UNKNOWN_KIND, "version"),
        ("", {"version": ""}, Reason.UNKNOWN_KIND, "version"),
        ("", {"version": 1e99}, Reason.UNKNOWN_KIND, "version"),
        ("", {"version": True}, Reason.BAD_TYPE, "version"),
    ],
)
def test_schemas_that_are_not_known_or_not_the_kind_s(
    kind: str, schema: dict[str, Any], reason: Reason, detail: str
) -> None:
    named = {"namespace": "omh", "name": "heart-rate", "version": "2.0", **schema}
    assert refused(point({**RATE, **AT}, schema_id=named), kind) == (reason, f"header.schema_id.{detail}")


def test_the_members_that_an_ieee_header_must_have_are_a_setting() -> None:
    document = {"header": {"schema_id": header()["schema_id"], "uuid": "a", "modality": "sensed"},
                "body": {**RATE, **AT}}  # fmt: skip
    assert len(good(document, "", ieee_header="uuid modality"))
    payload = json.dumps(document).encode()
    strict = Context(settings={"ieee_header": "uuid source_creation_date_time"})
    (reject,) = ADAPTERS["omh"].decode([message("omh", payload, "")], [strict]).rejects
    assert (reject.reason, reject.detail) == (Reason.MISSING_FIELD, "header.source_creation_date_time")


@pytest.mark.parametrize(("modality", "flags"), [("sensed", 0), ("self-reported", Flag.MANUAL)])
def test_self_reported_is_typed_by_a_person(modality: str, flags: int) -> None:
    provenance = {"source_name": "x", "modality": modality}
    assert good(point({**RATE, **AT}, acquisition_provenance=provenance), "").flags.tolist() == [flags]
    assert good(point({**RATE, **AT}, modality=modality), "").flags.tolist() == [flags]
