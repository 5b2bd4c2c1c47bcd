"""Optional members of ``json`` readings, and the published schema against the adapter."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.hubs.json_members import MEMBERS
from ingest.adapters.hubs.json_readings import SERIES
from ingest.adapters.hubs.json_schema import json_reading_schema
from ingest.adapters.reading.marks import without_marks
from tests.adapters.decoding import decode, reading_rows
from tests.adapters.json_schema_rules import accepts
from tests.adapters.test_adapter_golden_cases import FOUND, load
from tests.adapters.test_json_readings import BAD
from vitals.catalog import BY_KEY
from vitals.glossary import Reason

GOOD: dict[str, Any] = {"vital": "glucose_bg", "value": 104, "unit": "mg/dL", "time": "2024-03-10T08:15:30+01:00"}
SCHEMA = json_reading_schema()


def read(**members: Any) -> tuple[dict[str, Any], int]:
    """The one reading, and how many members were left out."""
    decoded = decode("json", json.dumps({**GOOD, **members}).encode())
    assert not decoded.rejects
    (row,) = reading_rows(decoded.batch)
    return row, decoded.left_out


def test_every_optional_member_has_its_place() -> None:
    row, left_out = read(
        end="2024-03-10T07:20:30Z", statistic="mean", manual=True, sample="capillary_plasma", meal="fasting",
        posture="sitting", site="finger", status="corrected", external_id="r-17", device_time_zone="Europe/Berlin",
    )  # fmt: skip
    assert left_out == 0
    assert (row["ended"], row["statistic"], row["flags"]) == ("2024-03-10T07:20:30", "mean", ["manual"])
    assert row["context"] == {
        "sample": "capillary_plasma", "meal": "fasting", "posture": "sitting", "site": "finger",
        "status": "corrected", "device_time_zone": "Europe/Berlin",
    }  # fmt: skip
    assert row["seq"] < 0


BENT: list[tuple[str, Any]] = [
    ("end", "later"), ("end", None), ("end", True), ("end", 10**18), ("end", "2024-02-30T00:00:00Z"),
    ("end", "2024-03-10T07:15:29Z"), ("end", "2024-03-10T09:00:00"),
    ("manual", "yes"), ("manual", 1),
    ("sample", "blood"), ("sample", {}), ("meal", "Brunch"), ("posture", 3), ("site", ""), ("external_id", ""),
    ("external_id", 17), ("external_id", "x" * 129), ("status", "Corrected"), ("status", None),
    ("device_time_zone", "Europe/Nowhere"), ("device_time_zone", "../etc"), ("device_time_zone", "Europe"),
    ("device_time_zone", "x" * 200), ("device_time_zone", 60),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BENT)
def test_a_bad_optional_member_is_left_out_and_the_value_stays(name: str, value: Any) -> None:
    plain, _ = read()
    bent, left_out = read(**{name: value})
    assert bent == plain
    assert left_out == 1


@pytest.mark.parametrize("word", ["mode", "p95", 1, ["mean"], None, ""])
def test_an_unknown_statistic_refuses_its_reading(word: Any) -> None:
    """A minimum must not pass for a single value; the other readings of the message stay."""
    decoded = decode("json", json.dumps([{**GOOD, "statistic": word}, GOOD]).encode())
    assert [(one.reason, one.detail) for one in decoded.rejects] == [(Reason.BAD_VALUE, "$[0].statistic")]
    assert len(decoded.batch) == 1


@pytest.mark.parametrize(("word", "means"), [("MEAN", "mean"), ("avg", "mean"), ("Min", "minimum"), ("max", "maximum")])
def test_what_people_write_for_a_statistic_is_read(word: str, means: str) -> None:
    assert read(statistic=word)[0]["statistic"] == means


VARIANTS: list[dict[str, Any]] = [
    {}, {"statistic": "mean"}, {"statistic": "minimum"}, {"statistic": "maximum"}, {"site": "finger"},
    {"site": "earlobe"}, {"posture": "sitting"}, {"posture": "standing"}, {"sample": "venous_plasma"},
    {"end": "2024-03-10T08:00:00Z"}, {"end": "2024-03-10T08:00:00Z", "statistic": "mean"}, {"seq": 7},
    {"seq": 7, "statistic": "mean"}, {"external_id": "a"},
]  # fmt: skip


def test_what_makes_another_reading_of_one_time_belongs_to_the_identity() -> None:
    assert len({read(**members)[0]["seq"] for members in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize(
    "members",
    [{"statistic": "single"}, {"meal": "fasting"}, {"manual": True}, {"status": "corrected"},
     {"device_time_zone": "Europe/Berlin"}, {"seq": 0}],
    ids=str,
)  # fmt: skip
def test_what_a_correction_may_change_is_no_part_of_the_identity(members: dict[str, Any]) -> None:
    assert read(**members)[0]["seq"] == 0


def test_a_number_or_id_of_the_sender_tells_apart_what_its_site_is() -> None:
    assert read(seq=7, site="finger")[0]["seq"] == 7
    assert read(external_id="a", site="finger")[0]["seq"] == read(external_id="a", statistic="mean")[0]["seq"]


def test_a_count_that_goes_on_keeps_its_identity() -> None:
    ends = ("2024-03-10T08:00:00Z", "2024-03-10T09:00:00Z")
    assert len({read(statistic="sum", end=end)[0]["seq"] for end in ends}) == 1


def test_a_control_solution_is_no_value_of_a_patient() -> None:
    assert read(sample="control_solution")[0]["flags"] == ["control_solution"]


def test_an_external_id_is_the_identity_in_place_of_the_number() -> None:
    first, again = read(external_id="a", seq=4)[0]["seq"], read(external_id="a", value=90)[0]["seq"]
    assert first == again < 0
    assert read(external_id="b")[0]["seq"] != first
    assert read(seq=4)[0]["seq"] == 4


def test_deleted_withdraws_with_or_without_a_value() -> None:
    assert read(status="deleted")[0]["flags"] == ["retracted"]
    bare = {name: GOOD[name] for name in ("vital", "time")}
    decoded = decode("json", json.dumps({**bare, "status": "deleted", "external_id": "a"}).encode())
    (row,) = reading_rows(decoded.batch)
    assert (row["value"], row["unit"], row["flags"]) == (None, "mg/dL", ["retracted"])
    assert row["seq"] == read(external_id="a")[0]["seq"]


@pytest.mark.parametrize(
    ("wall", "zone", "clock", "shown", "tz_min"),
    [
        ("2024-03-10T08:15:30", "Europe/Berlin", "instant", "2024-03-10T07:15:30", 60),
        ("2024-07-10T08:15:30", "Europe/Berlin", "instant", "2024-07-10T06:15:30", 120),
        ("2024-07-10T08:15:30", "Asia/Kathmandu", "instant", "2024-07-10T02:30:30", 345),
        ("2024-10-27T01:59:59", "Europe/Berlin", "instant", "2024-10-26T23:59:59", 120),
        ("2024-10-27T02:30:00", "Europe/Berlin", "wall", "2024-10-27T02:30:00", 0),
        ("2024-10-27T03:00:00", "Europe/Berlin", "instant", "2024-10-27T02:00:00", 60),
        ("2024-03-31T02:30:00", "Europe/Berlin", "wall", "2024-03-31T02:30:00", 0),
        ("2024-03-10T08:15:30Z", "Europe/Berlin", "instant", "2024-03-10T08:15:30", 0),
    ],
)
def test_the_devices_zone_makes_an_instant_of_a_time_without_one(
    wall: str, zone: str, clock: str, shown: str, tz_min: int
) -> None:
    row, left_out = read(time=wall, device_time_zone=zone, end=wall)
    assert (row["clock"], row["source_time"], row["tz_min"], left_out) == (clock, shown, tz_min, 0)
    assert row["ended"] == shown


def fits(document: Any) -> bool:
    """Whether the adapter takes a document as a whole, with nothing left out."""
    decoded = decode("json", json.dumps(document).encode())
    return not (decoded.rejects or decoded.unknown_members or decoded.left_out)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.integers(-9_200_000_000, 9_200_000_000).map(lambda s: (EPOCH + timedelta(seconds=s)).isoformat()[:19])


@st.composite
def accepted(draw: st.DrawFn) -> dict[str, Any]:
    """A reading of which every member is drawn from what the schema allows."""
    vital, unit = draw(st.sampled_from(sorted(SERIES)))
    values = BY_KEY[vital].values
    written = draw(TIMES) + draw(st.sampled_from(["", "Z", "+01:00", "-09:30"]))
    reading: dict[str, Any] = {
        "vital": vital, "unit": unit, "time": draw(st.just(written) | st.integers(-(10**12), 10**12)),
        "value": draw(st.sampled_from(values) if values else st.floats(allow_nan=False, allow_infinity=False)),
    }  # fmt: skip
    optional = {
        name: st.sampled_from(member.schema["enum"]) for name, member in MEMBERS.items() if "enum" in member.schema
    } | {
        "seq": st.integers(-(2**63), 2**63 - 1), "manual": st.booleans(), "external_id": st.text("ab-🜂", min_size=1),
        "end": st.just(reading["time"]), "device_time_zone": st.sampled_from(sorted(available_timezones())),
    }  # fmt: skip
    for name in draw(st.sets(st.sampled_from(sorted(optional)))):
        reading[name] = draw(optional[name])
    if isinstance(reading.get("external_id"), str):
        reading["external_id"] = reading["external_id"][:128]
    return reading


@settings(derandomize=True, max_examples=120, deadline=None)
@given(st.lists(accepted(), max_size=3), st.sampled_from(["one", "array", "envelope"]))
def test_what_the_schema_accepts_the_adapter_takes_whole(readings: list[dict[str, Any]], form: str) -> None:
    document: Any = {"array": readings, "envelope": {"readings": readings}, "one": (readings or [GOOD])[0]}[form]
    assert accepts(SCHEMA, document)
    assert fits(document)


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(0, 1) | st.text("aZ 9", max_size=4) | st.just([])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(accepted(), st.sampled_from(["vital", "value", "unit", "time", "seq", *MEMBERS]), SCALARS)
def test_what_the_schema_refuses_the_adapter_does_not_take_whole(
    reading: dict[str, Any], name: str, value: Any
) -> None:
    document = {**reading, name: value}
    if not accepts(SCHEMA, document):
        assert not fits(document)


UNSAID = {"2024-02-30T08:15:30Z", "2024-02-30T00:00:00Z", "1600-01-01T00:00:00Z", "2024-03-10T07:15:29Z",
          "2024-03-10T09:00:00", "Europe/Nowhere", "Europe"}  # fmt: skip
"""Shaped like a time or a zone, but none, or no end of this time: no schema can say it."""


def said(value: Any) -> bool:
    """Whether a schema can say that a value is wrong: JSON has no numbers that are not finite."""
    if isinstance(value, str):
        return value not in UNSAID
    return (
        isinstance(value, bool) or not isinstance(value, int | float) or (abs(value) < 1e300 and math.isfinite(value))
    )


def test_the_documents_that_the_adapter_refuses_are_refused_by_the_schema() -> None:
    for document in [*(document for document, _, _ in BAD), *({**GOOD, name: value} for name, value in BENT)]:
        if not isinstance(document, dict) or all(said(value) for value in document.values()):
            assert not accepts(SCHEMA, document), document


def test_the_golden_cases_that_are_taken_whole_fit_the_schema() -> None:
    seen = 0
    for case in FOUND:
        message, _, expected = load(case)
        left = expected["rejects"] or expected["unknown_members"] or expected.get("left_out")
        # Bytes around the JSON are no matter of a schema.
        if message.adapter == "json" and not left and without_marks(message.payload) == message.payload:
            assert accepts(SCHEMA, json.loads(message.payload)), case.name
            seen += 1
    assert seen >= 5


def test_every_member_of_the_schema_is_said() -> None:
    properties = SCHEMA["$defs"]["reading"]["properties"]
    assert properties.keys() == {"vital", "value", "unit", "time", "seq", *MEMBERS}
    assert all(member["description"] for member in properties.values())
