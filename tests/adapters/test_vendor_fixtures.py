"""Answers of vendors as published (tests/fixtures/vendor) and the bodies of device-formats.md 5.11."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ingest.adapter import Decoded, SourceClock
from ingest.adapters.vendors.records import text_id
from ingest.doubts import convert
from tests.adapters.decoding import assert_sound, decode, iso, message, reading_rows
from vitals.catalog import BY_CODE
from vitals.glossary import Flag, Reason

FIXTURES = Path(__file__).parents[1] / "fixtures" / "vendor"
CASES = Path(__file__).parent / "cases"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
RULES = EXPECTED["rules"]
KINDS = {"bp": "bp", "glucose": "glucose", "spo2": "spo2", "weight": "weight", "body": "getmeas"}


def kind_of(name: str) -> str:
    """``ihealth/ihealth-bp-empty.json`` is of kind ``bp``."""
    return KINDS[name.split("-")[1].removesuffix(".json")]


def canonical(decoded: Decoded) -> list[float]:
    batch = decoded.batch
    return [float(value) for value in convert(batch.vital, batch.unit, batch.value)]


def seq_of(adapter: str, source_id: str) -> int:
    return int(source_id) if adapter == "withings" else text_id("d_1", source_id)


def nanoseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def test_every_fixture_is_expected() -> None:
    assert {str(path.relative_to(FIXTURES)) for path in FIXTURES.glob("*/*.json")} == set(EXPECTED["files"])


@pytest.mark.parametrize("name", sorted(EXPECTED["files"]))
def test_published_answer(name: str) -> None:
    adapter = name.partition("/")[0]
    payload = (FIXTURES / name).read_bytes()
    decoded = decode(adapter, payload, kind_of(name), notes="keep")
    assert_sound(decoded, [message(adapter, payload, kind_of(name))])
    assert not decoded.rejects
    found = {
        (BY_CODE[int(decoded.batch.vital[row])].key, int(decoded.batch.source_time_ns[row])): row
        for row in range(len(decoded.batch))
    }
    expected = EXPECTED["files"][name]["readings"]
    assert sorted(found) == sorted((reading["vital"], nanoseconds(reading["time_utc"])) for reading in expected)
    values = canonical(decoded)
    for reading in expected:
        row = found[reading["vital"], nanoseconds(reading["time_utc"])]
        context = decoded.batch.context.get(row, {})
        assert values[row] == pytest.approx(reading["value"], rel=1e-12)
        assert decoded.batch.value[row] == reading.get("reported_value", reading["value"])
        assert decoded.batch.clock[row] == SourceClock.INSTANT
        offset = datetime.fromisoformat(reading["time"]).utcoffset()
        assert offset is not None
        assert decoded.batch.tz_min[row] == offset.total_seconds() // 60
        assert decoded.batch.seq[row] == seq_of(adapter, reading["source_id"])
        assert bool(decoded.batch.flags[row] & Flag.MANUAL) == (reading["modality"] == "self-reported")
        assert context.get("note") == reading.get("user_notes")
        assert context.get("meal") == (
            reading["meal_relation"].replace(" ", "_") if "meal_relation" in reading else None
        )
        assert context.get("medication") == (reading.get("medication_relation", "").lower() or None)
        if "source_updated" in reading:
            assert context["changed_ms"] * 1_000_000 == nanoseconds(reading["source_updated"])


def test_a_record_of_zeros_leaves_an_event() -> None:
    for name, vital in (("ihealth-weight-no-weight-value", "weight"), ("ihealth-spo2-no-oxygen-saturation", "spo2")):
        payload = (FIXTURES / "ihealth" / f"{name}.json").read_bytes()
        (event,) = decode("ihealth", payload, vital).events
        assert (event.detail, BY_CODE[event.vital].key) == ("zero", vital)


@pytest.mark.parametrize("case", RULES["ihealth"]["time_cases"])
def test_ihealth_time_rule(case: dict[str, Any]) -> None:
    record = {"BO": 97, **{name: case[name] for name in ("MDate", "TimeZone") if name in case}}
    (reading,) = reading_rows(decode("ihealth", json.dumps({"BODataList": [record]}).encode(), "spo2").batch)
    if case["time"] is None:
        assert (reading["clock"], reading["source_time"]) == ("wall", iso(case["MDate"] * 1_000_000_000))
        return
    assert reading["clock"] == "instant"
    shown = datetime.fromisoformat(case["time"])
    assert reading["source_time"] == iso(round(shown.timestamp()) * 1_000_000_000)
    assert reading["tz_min"] * 60 == (shown.utcoffset() or shown - shown).total_seconds()


@pytest.mark.parametrize("case", RULES["ihealth"]["unit_cases"])
def test_ihealth_unit_rule(case: dict[str, Any]) -> None:
    when = {"MDate": 1442491463, "TimeZone": 0}
    document, kind = {
        "BP": ({"BPUnit": case["code"], "BPDataList": [{"HP": case["value"], "LP": 0, **when}]}, "bp"),
        "weight": ({"WeightUnit": case["code"], "WeightDataList": [{"WeightValue": case["value"], **when}]}, "weight"),
    }[case["list"]]
    decoded = decode("ihealth", json.dumps(document).encode(), kind)
    assert decoded.batch.value.tolist() == [case["value"]]
    assert canonical(decoded) == [pytest.approx(case["canonical"], rel=1e-12)]


@pytest.mark.parametrize(("member", "kind"), [("BGUnit", "glucose"), ("BPUnit", "bp"), ("WeightUnit", "weight")])
def test_ihealth_unit_codes(member: str, kind: str) -> None:
    lists = {"BGUnit": "BGDataList", "BPUnit": "BPDataList", "WeightUnit": "WeightDataList"}
    record = {"BG": 100, "HP": 100, "LP": 100, "WeightValue": 100, "MDate": 1442491463, "TimeZone": 0}
    codes = {int(code): unit for code, unit in RULES["ihealth"]["unit_codes"][member].items() if code != "note"}
    for code in (*codes, 99):
        payload = json.dumps({member: code, lists[member]: [record]}).encode()
        decoded = decode("ihealth", payload, kind)
        if codes.get(code, "error") == "error":
            assert [(r.reason, r.detail) for r in decoded.rejects] == [(Reason.UNKNOWN_UNIT, f"$.{member}")]
        else:
            ucum = {"mmHg": "mm[Hg]", "lb": "[lb_av]", "stone": "[stone_av]"}.get(codes[code], codes[code])
            assert {row["unit"] for row in reading_rows(decoded.batch)} == {ucum}


@pytest.mark.parametrize("attrib", ["0", "1", "2", "4", "missing or other"])
def test_withings_attrib_rule(attrib: str) -> None:
    rule = RULES["withings"]["attrib"][attrib]
    group = {"grpid": 1, "date": 1433052383, "category": 1, "measures": [{"value": 70, "type": 11, "unit": 0}]}
    for number in [int(attrib)] if attrib.isdigit() else [None, 3, 99]:
        document = {"status": 0, "body": {"measuregrps": [group if number is None else {**group, "attrib": number}]}}
        decoded = decode("withings", json.dumps(document).encode())
        if rule.startswith(("sensed", "self-reported")):
            manual = bool(decoded.batch.flags[0] & Flag.MANUAL)
            assert manual == rule.startswith("self-reported")
        else:
            assert not len(decoded.batch)
            (reject,) = decoded.rejects
            assert reject.reason == {1: Reason.OWNER_AMBIGUOUS, None: Reason.MISSING_FIELD}.get(
                number, Reason.BAD_VALUE
            )


BODIES: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("dexcom", "app_record", [("glucose_isf", 68, "mg/dL", "instant", "2024-03-10T12:00:00", -240)]),
    ("nightscout", "value_and_error_code", [("glucose_isf", 118, "mg/dL", "instant", "2024-03-10T12:00:00", 0)]),
    ("withings", "weight_and_ambiguous_owner", [("weight", 72.5, "kg", "instant", "2024-03-10T12:00:00", 0)]),
    (
        "fitbit",
        "heart_intraday",
        [
            ("heart_rate", 72, "/min", "wall", "2024-03-10T07:30:00", 0),
            ("heart_rate", 70, "/min", "wall", "2024-03-10T07:31:00", 0),
        ],
    ),
    (
        "health_auto_export",
        "heart_rate_and_pressure",
        [
            ("heart_rate", 64.5, "/min", "instant", "2024-03-10T11:30:00", -240),
            ("heart_rate", 61, "/min", "instant", "2024-03-10T11:30:00", -240),
            ("heart_rate", 70, "/min", "instant", "2024-03-10T11:30:00", -240),
            ("bp_sys", 135, "mm[Hg]", "instant", "2024-03-11T01:04:00", -240),
            ("bp_dia", 86, "mm[Hg]", "instant", "2024-03-11T01:04:00", -240),
        ],
    ),
    (
        "ihealth",
        "bp",
        [
            ("bp_sys", 120, "mm[Hg]", "instant", "2015-09-17T20:04:23", -480),
            ("bp_dia", 90, "mm[Hg]", "instant", "2015-09-17T20:04:23", -480),
            ("pulse_rate_nibp", 100, "/min", "instant", "2015-09-17T20:04:23", -480),
        ],
    ),
]


@pytest.mark.parametrize(
    ("adapter", "case", "expected"), BODIES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_body_of_the_reference(adapter: str, case: str, expected: list[tuple[Any, ...]]) -> None:
    folder = CASES / adapter / case
    kind = json.loads((folder / "case.json").read_text())["kind"]
    rows = reading_rows(decode(adapter, (folder / "input.json").read_bytes(), kind).batch)
    columns = ("vital", "value", "unit", "clock", "source_time", "tz_min")
    assert [tuple(row[name] for name in columns) for row in rows] == expected


def test_what_the_bodies_hold_beside_readings() -> None:
    def case(adapter: str, name: str) -> Decoded:
        return decode(adapter, (CASES / adapter / name / "input.json").read_bytes())

    (event,) = case("nightscout", "value_and_error_code").events
    assert event.detail == "sensor_not_calibrated"
    (reject,) = case("withings", "weight_and_ambiguous_owner").rejects
    assert (reject.reason, reject.detail) == (Reason.OWNER_AMBIGUOUS, "$.body.measuregrps[1].attrib")
    values = {event.detail: event.value for event in case("withings", "every_type").events}
    assert len(values) == 27
    assert set(values.values()) == {15.0}
