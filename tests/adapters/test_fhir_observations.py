"""FHIR R4 Observations: the published examples, every rule of device-formats.md 4, every way to be wrong."""

import json
import math
from datetime import datetime

import pytest

from ingest.adapter import SourceClock
from tests.adapters.decoding import ORDINAL, RECEIVED_NS, decode, flag_names, iso, reading_rows
from tests.adapters.fhir_documents import (
    LOINC,
    TIME,
    TIME_NS,
    Document,
    absent,
    bundle,
    component,
    concept,
    observation,
    pressure,
    quantity,
    read,
    rows,
    series,
    spo2,
)
from tests.support import FIXTURES
from vitals.catalog import BY_CODE
from vitals.glossary import EventKind, Flag, Reason
from vitals.times import NO_TIME

EXAMPLES = FIXTURES / "fhir"
EXPECTED = json.loads((EXAMPLES / "expected.json").read_text())["files"]
PRESSURE_SEQ = -7649348827788778258


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_published_example(name: str) -> None:
    expected = EXPECTED[name]
    decoded = decode("fhir", (EXAMPLES / name).read_bytes(), "observation")
    assert not decoded.rejects
    found = reading_rows(decoded.batch)
    assert len(found) == len(expected["readings"])
    for row, reading in zip(found, expected["readings"], strict=True):
        assert (row["vital"], row["value"], row["unit"]) == (
            reading["vital"], reading["reported_value"], reading["reported_unit"],
        )  # fmt: skip
        if reading["time_basis"] == "date":
            assert (row["clock"], row["source_time"]) == ("day", reading["date"] + "T00:00:00")
        else:
            offset = datetime.fromisoformat(reading["time"]).utcoffset()
            assert offset is not None
            assert (row["clock"], row["source_time"] + "Z") == ("instant", reading["time_utc"])
            assert row["tz_min"] == offset.total_seconds() / 60
    told = [{"vital": BY_CODE[event.vital].key, "reason": event.detail} for event in decoded.events]
    assert told == [{key: one[key] for key in ("vital", "reason")} for one in expected.get("absent", [])]


def test_every_published_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.json")} - {"expected.json"} == set(EXPECTED)
    assert "Amy Shaw" in (EXAMPLES / "blood-pressure.json").read_text()
    said = [repr(decode("fhir", (EXAMPLES / name).read_bytes())) for name in EXPECTED]
    assert not any(word in text for word in ("Shaw", "Bone", "Acme", "Patient") for text in said)


# --- identity ---


def identified(*keys: tuple[str | None, str]) -> Document:
    return spo2(identifier=[{"system": system, "value": value} if system else {"value": value}
                            for system, value in keys])  # fmt: skip


def test_the_identifier_decides_by_a_hash_that_never_changes() -> None:
    """Stored readings are recognised by it: another hash would make every resent reading a new one."""
    key = "0024BEFFFE804FF1-PT-0017-150020-20240310210400.00-135-86-102"
    (row,) = rows(identified((None, key)))
    assert row["seq"] == PRESSURE_SEQ
    assert rows(spo2())[0]["seq"] == 0
    assert rows(identified(("https://a.example", key)))[0]["seq"] not in {0, PRESSURE_SEQ}
    assert rows(identified((None, key + "0")))[0]["seq"] != PRESSURE_SEQ


def test_of_several_identifiers_that_of_the_device_guide_counts_else_the_first() -> None:
    guide = "http://hl7.org/fhir/uv/phd/StructureDefinition/PhdBaseObservation"
    alone = rows(identified((guide, "k")))[0]["seq"]
    assert rows(identified(("https://ehr.example", "1"), (guide, "k")))[0]["seq"] == alone
    first = rows(identified(("https://ehr.example", "1")))[0]["seq"]
    assert rows(identified(("https://ehr.example", "1"), ("https://lab.example", "2")))[0]["seq"] == first


def test_a_hash_is_never_taken_for_a_record_number() -> None:
    """A sequence above 0 that rises while wall time falls is a reset clock; a hash says nothing of the order."""
    for number in range(50):
        assert rows(identified((None, f"k{number}")))[0]["seq"] < 0


@pytest.mark.parametrize("status", ["amended", "corrected", "preliminary", "entered-in-error", "cancelled"])
def test_a_later_status_keeps_the_identity_of_the_reading(status: str) -> None:
    for document in (spo2(), identified(("https://hub.example", "k"))):
        (before,), (after,) = rows(document), rows({**document, "status": status})
        assert [before[key] for key in ("vital", "source_time", "seq")] == [
            after[key] for key in ("vital", "source_time", "seq")
        ]


def test_without_any_time_each_entry_has_an_identity_of_its_own() -> None:
    found = rows(bundle(*[spo2(effectiveDateTime=None)] * 3))
    assert [row["clock"] for row in found] == ["none"] * 3
    assert [row["seq"] for row in found] == [ORDINAL * 4096 + entry for entry in range(3)]
    assert {row["source_time"] for row in found} == {iso(RECEIVED_NS)}


# --- retraction ---


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
@pytest.mark.parametrize(
    ("members", "value"),
    [
        ({}, 97.0),
        ({"valueQuantity": None}, None),
        ({"valueQuantity": None, "dataAbsentReason": absent("error")}, None),
        ({"valueQuantity": quantity("Schmoe", "%")}, None),
        ({"valueQuantity": quantity(97, "mm[Hg]")}, None),
    ],
)
def test_a_retraction_is_a_row_with_or_without_a_value(status: str, members: Document, value: float | None) -> None:
    decoded = read(spo2(status=status, **members))
    assert not decoded.rejects
    assert not decoded.events
    (row,) = reading_rows(decoded.batch)
    assert (row["value"], row["flags"]) == (value, ["retracted"])


def test_a_retracted_panel_retracts_its_parts_or_all_that_it_can_have() -> None:
    named = rows(pressure(status="entered-in-error"))
    assert [(row["vital"], row["value"]) for row in named] == [("bp_sys", 128.0), ("bp_dia", 82.0)]
    bare = rows(pressure(status="entered-in-error", component=None))
    assert [(row["vital"], row["value"]) for row in bare] == [("bp_sys", None), ("bp_dia", None), ("bp_mean", None)]


def test_a_retracted_series_retracts_every_sample() -> None:
    found = rows(series("1 2 3") | {"status": "entered-in-error"})
    assert [row["flags"] for row in found] == [["retracted"]] * 3
    assert [row["value"] for row in found] == [1.0, 2.0, 3.0]


# --- what nothing may alert on ---


@pytest.mark.parametrize("status", ["registered", "unknown"])
def test_a_value_that_is_not_to_be_alerted_on_is_told_as_an_event(status: str) -> None:
    decoded = read(observation("8310-5", status=status, valueQuantity=quantity(104, "[degF]")))
    assert not len(decoded.batch)
    (event,) = decoded.events
    assert (event.kind, event.detail, event.value, BY_CODE[event.vital].key) == (
        EventKind.VALUE_ABSENT, f"status_{status}", 40.0, "temp",
    )  # fmt: skip
    assert event.time_ns == TIME_NS
    nothing_yet = read(observation("8310-5", status=status))
    assert [(one.detail, one.value) for one in nothing_yet.events] == [(f"status_{status}", None)]
    assert [event.value for event in read(series("1 2") | {"status": status}).events] == [1.0, 2.0]
    assert [event.detail for event in read(pressure(status=status)).events] == [f"status_{status}"] * 2


@pytest.mark.parametrize("bit", [0, 2])
def test_a_value_that_the_device_calls_unusable_is_told_as_an_event(bit: int) -> None:
    decoded = read(spo2(interpretation=[concept(f"67911.{bit}")]))
    assert not len(decoded.batch)
    assert [(event.detail, event.value) for event in decoded.events] == [(["invalid", "", "not_available"][bit], 97.0)]


# --- values ---


def test_samples_are_origin_plus_factor_times_token() -> None:
    decoded = read(series("10 -4 2.5e1", origin=quantity(50, "/min"), factor=0.5, period=250.5))
    assert decoded.batch.value.tolist() == [55.0, 48.0, 62.5]
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS + place * 250_500_000 for place in range(3)]


def test_the_tokens_of_samples_are_a_setting_of_the_model() -> None:
    decoded = read(series("- < 60 >"), {"sampled_data_tokens": "-<>"})
    assert [flag_names(int(flags)) for flags in decoded.batch.flags] == [["below_range"], [], ["above_range"]]
    assert [event.detail for event in decoded.events] == ["error in 1 of 4 samples"]
    for tokens in ("EL", "EEL", "ELUX"):
        (reject,) = read(series("60"), {"sampled_data_tokens": tokens}).rejects
        assert (reject.reason, reject.detail) == (Reason.BAD_VALUE, "setting sampled_data_tokens")


def test_the_code_of_the_measurement_status_is_a_setting_of_the_model() -> None:
    document = spo2(interpretation=[concept("12345.4")])
    assert rows(document)[0]["flags"] == []
    assert flag_names(int(read(document, {"status_code": "12345"}).batch.flags[0])) == ["test_data"]


@pytest.mark.parametrize(
    ("bit", "flags"),
    [(1, ["low_quality"]), (3, ["low_quality"]), (4, ["test_data"]), (5, ["test_data"]), (8, []), (9, ["estimated"]),
     (10, []), (14, []), (15, [])],
)  # fmt: skip
def test_bits_of_the_measurement_status(bit: int, flags: list[str]) -> None:
    code = f"67911.{bit}"
    for document in (
        spo2(interpretation=[concept(code)]),
        spo2(component=[{"code": concept(code), "valueBoolean": True}]),
        pressure(component=[component("8480-6", valueQuantity=quantity(120, "kPa"), interpretation=[concept(code)])]),
    ):
        (row,) = rows(document)
        assert row["flags"] == flags
        assert row["context"]["measurement_status"]
    (row,) = rows(spo2(component=[{"code": concept(code), "valueBoolean": False}]))
    assert (row["flags"], row["context"]) == ([], {})


def test_quality_of_one_component_is_not_that_of_another() -> None:
    parts = [component("8480-6", valueQuantity=quantity(300, "mm[Hg]"), interpretation=[concept(">")]),
             component("8462-4", valueQuantity=quantity(82, "mm[Hg]"))]  # fmt: skip
    assert [row["flags"] for row in rows(pressure(component=parts))] == [["above_range"], []]


@pytest.mark.parametrize(("comparator", "flag"), [("<", "below_range"), ("<=", "below_range"),
                                                  (">", "above_range"), (">=", "above_range")])  # fmt: skip
def test_a_comparator_is_a_value_out_of_range(comparator: str, flag: str) -> None:
    (row,) = rows(spo2(valueQuantity=quantity(70, "%", comparator=comparator)))
    assert (row["value"], row["flags"]) == (70.0, [flag])


@pytest.mark.parametrize(("reason", "flag"), [("negative-infinity", "below_range"),
                                              ("positive-infinity", "above_range")])  # fmt: skip
def test_an_infinity_is_a_reading_with_or_without_a_number(reason: str, flag: str) -> None:
    (row,) = rows(spo2(valueQuantity=None, dataAbsentReason=absent(reason)))
    assert (row["value"], row["flags"]) == (None, [flag])
    (row,) = rows(spo2(dataAbsentReason=absent(reason)))
    assert (row["value"], row["flags"]) == (97.0, [flag])


SNOMED = "http://snomed.info/sct"


@pytest.mark.parametrize(
    ("code", "unit", "vital"),
    [("271649006", "mm[Hg]", "bp_sys"), ("271650006", "mm[Hg]", "bp_dia"), ("78564009", "/min", "pulse_rate"),
     ("431314004", "%", "spo2"), ("386725007", "Cel", "temp"), ("363808001", "kg", "weight"),
     ("27113001", "kg", "weight"), ("365812005", "mg/dL", "glucose"), ("364075005", "/min", "heart_rate"),
     ("8499008", "/min", "pulse_rate"), ("86290005", "/min", "resp_rate"), ("103228002", "%", "spo2"),
     ("434912009", "mg/dL", "glucose_bg"), ("434910001", "mg/dL", "glucose_isf"), ("6797001", "mm[Hg]", "bp_mean"),
     ("276885007", "Cel", "temp"), ("307047009", "Cel", "temp"), ("415882003", "Cel", "temp"),
     ("415945006", "Cel", "temp"), ("415974002", "Cel", "temp"), ("50373000", "cm", "height"),
     ("60621009", "kg/m2", "bmi")],
)  # fmt: skip
def test_a_snomed_code_alone_names_the_vital(code: str, unit: str, vital: str) -> None:
    named = {"coding": [{"system": SNOMED, "code": code}]}
    (row,) = rows(observation(code=named, valueQuantity=quantity(40, unit)))
    assert (row["vital"], row["value"]) == (vital, 40.0)


def test_a_snomed_code_beside_a_loinc_code_says_which_of_two() -> None:
    both = {"coding": [{"system": LOINC, "code": "8867-4"}, {"system": SNOMED, "code": "78564009"}]}
    (row,) = rows(observation(code=both, valueQuantity=quantity(72, "/min")))
    assert row["vital"] == "pulse_rate"


def test_a_panel_under_its_snomed_code_alone_keeps_its_parts() -> None:
    panel = pressure(code={"coding": [{"system": SNOMED, "code": "75367002"}]})
    assert [(row["vital"], row["value"]) for row in rows(panel)] == [("bp_sys", 128.0), ("bp_dia", 82.0)]


@pytest.mark.parametrize(
    ("concept_", "value"),
    [
        ({"coding": [{"code": "A"}]}, 0),
        ({"coding": [{"system": LOINC, "code": "LA1-2", "display": "Confusion"}]}, 1),
        ({"coding": [{"system": LOINC, "code": "LA1-2"}], "text": "Voice"}, 2),
        ({"text": "unresponsive"}, 4),
    ],
)
def test_level_of_responsiveness_by_code_and_by_word(concept_: Document, value: int) -> None:
    (row,) = rows(observation("67775-7", valueCodeableConcept=concept_))
    assert (row["vital"], row["value"], row["unit"]) == ("acvpu", value, "{code}")


@pytest.mark.parametrize(("code", "value"), [("147474", 0), ("147720", 1), ("2::16648", 1), ("147984", 3)])
def test_rhythm_by_mdc_code(code: str, value: int) -> None:
    (row,) = rows(observation("8884-9", valueCodeableConcept=concept(code)))
    assert (row["vital"], row["value"]) == ("ecg_rhythm", value)


def test_a_count_needs_no_unit_and_nothing_else_may_go_without() -> None:
    (row,) = rows(observation("55423-8", valueInteger=4321))
    assert (row["vital"], row["value"], row["unit"]) == ("steps", 4321.0, "{steps}")
    (reject,) = read(observation("8867-4", valueInteger=72)).rejects
    assert (reject.reason, reject.detail) == (Reason.MISSING_FIELD, "valueQuantity.code")


@pytest.mark.parametrize(
    ("codes", "vital"),
    [
        (("8867-4",), "heart_rate"), (("8867-4", "149530"), "pulse_rate"), (("149546", "8867-4"), "pulse_rate_nibp"),
        (("8867-4", "147842"), "heart_rate"), (("8889-8", "8867-4"), "pulse_rate"), (("2::18458",), "pulse_rate"),
        (("18458",), "pulse_rate"), (("0000-0", "9279-1"), "resp_rate"),
    ],
)  # fmt: skip
def test_a_generic_code_gives_way_to_one_that_says_where_it_was_measured(codes: tuple[str, ...], vital: str) -> None:
    (row,) = rows(observation(*codes, valueQuantity=quantity(72, "/min")))
    assert row["vital"] == vital


def test_a_control_solution_is_known_by_any_of_its_codings() -> None:
    for codes in (("160208",), ("41653-7", "160208"), ("2339-0", "160208")):
        (row,) = rows(observation(*codes, valueQuantity=quantity(110, "mg/dL")))
        assert row["flags"] == ["control_solution"]


def test_a_code_without_its_system_names_nothing() -> None:
    decoded = read(spo2(code={"coding": [{"code": "59408-5"}], "text": "oxygen saturation"}))
    assert not len(decoded.batch)
    assert [(event.kind, event.detail) for event in decoded.events] == [
        (EventKind.UNKNOWN_CODE, "code of no public system %")
    ]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ({"code": "Cel", "unit": "degrees C"}, "Cel"), ({"code": "Cel", "unit": "°F"}, "Cel"),
        ({"unit": "°F"}, "[degF]"),
        ({"unit": "degF"}, "[degF]"), ({"code": "268192", "unit": "whatever"}, "Cel"), ({"code": "266560"}, "[degF]"),
    ],
)  # fmt: skip
def test_a_unit_is_read_from_its_code_and_without_one_from_its_text(unit: Document, expected: str) -> None:
    (row,) = rows(observation("8310-5", valueQuantity={"value": 40, **unit}))
    assert row["unit"] == expected


def test_members_elsewhere_may_stand_for_a_value() -> None:
    for document in (observation("85353-1", hasMember=[{"reference": "Observation/1"}]),
                     spo2(valueQuantity=None, hasMember=[])):  # fmt: skip
        decoded = read(document)
        assert not decoded.rejects
        assert not len(decoded.batch)


def test_parts_of_an_unknown_panel_are_read_and_its_own_value_is_kept_beside_them() -> None:
    part = component("8480-6", valueQuantity=quantity(120, "mm[Hg]"))
    (row,) = rows(observation("85353-1", component=[part], valueQuantity=quantity(3, "1", comparator=">")))
    assert (row["vital"], row["context"]) == (
        "bp_sys", {"loinc:85353-1": {"value": 3.0, "comparator": ">"}},
    )  # fmt: skip


def test_values_of_no_vital_go_into_the_context_or_are_counted() -> None:
    parts = [component("8327-9", valueCodeableConcept=concept("LA9367-9")), component("150320", valueInteger=7),
             component("160220", valueQuantity=quantity(6.1, "Schmoe")),
             component("1-8", valueString="Schmoe"), {"code": {"text": "Schmoe"}, "valueInteger": 3}]  # fmt: skip
    decoded = read(spo2(component=parts, method=concept("1-8")))
    assert decoded.batch.context[0] == {"site": "loinc:LA9367-9", "mdc:150320": 7.0, "mdc:160220": {"value": 6.1},
                                        "method": "loinc:1-8"}  # fmt: skip
    assert decoded.unknown_members == 2


# --- time ---


def test_a_device_clock_that_the_hub_could_not_read_leaves_the_order_alone() -> None:
    stamp = observation("67975", id="c", valueQuantity=None, dataAbsentReason=absent("unknown"))
    measured = spo2(effectiveDateTime=None, effectivePeriod={"start": TIME, "end": TIME},
                    derivedFrom=[{"reference": "Observation/c"}])  # fmt: skip
    for document in (bundle(stamp, measured), bundle(measured, stamp)):
        decoded = read(document)
        assert decoded.batch.clock.tolist() == [SourceClock.STORED]
        assert decoded.batch.source_time_ns.tolist() == [TIME_NS]
        assert decoded.batch.ended_ns.tolist() == [NO_TIME]
        assert decoded.batch.flags.tolist() == [Flag.CLOCK_SUSPECT]
        assert [event.kind for event in decoded.events] == [EventKind.CLOCK_FAULT]


@pytest.mark.parametrize("code", ["67975", "68226", "67983", "68072", "1::2439"])
def test_a_coincident_time_stamp_alone_is_no_reading(code: str) -> None:
    decoded = read(observation(code, valueDateTime="2024-03-10T08:15:00+01:00"))
    assert not decoded.rejects
    assert not len(decoded.batch)
    assert [(event.kind, event.value) for event in decoded.events] == [(EventKind.CONTEXT, 30.0)]


def test_times_that_the_hub_corrected_are_not_corrected_again() -> None:
    stamp = observation("68226", id="c", valueDateTime="2024-03-10T07:15:30+01:00")
    decoded = read(bundle(stamp, spo2(derivedFrom=[{"reference": "Observation/c"}])))
    assert decoded.batch.source_time_ns.tolist() == [TIME_NS]
    assert decoded.batch.flags.tolist() == [Flag.CLOCK_CORRECTED]
    assert decoded.batch.context[0] == {"clock_shift_s": 3600.0}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2024-03-10", "2024-03-12", ("day", "2024-03-10T00:00:00", {"days": 3})),
        ("2024-02", "2024-03", ("stored", "2024-02-01T00:00:00", {"precision": "month"})),
        ("2024-03-10T08:00:00", "2024-03-10T08:01:30", ("wall", "2024-03-10T08:00:00", {"duration_s": 90.0})),
        ("2024-03-10T08:00:00Z", "2024-03-11", ("instant", "2024-03-10T08:00:00", {})),
        ("2024-03-10", "2024-03-10T08:00:00Z", ("day", "2024-03-10T00:00:00", {})),
    ],
)
def test_a_period_is_as_exact_as_its_ends(first: str, last: str, expected: tuple[str, str, Document]) -> None:
    for members in ({"effectivePeriod": {"start": first, "end": last}}, {"effectiveTiming": {"event": [last, first]}},
                    {"effectiveTiming": {"repeat": {"boundsPeriod": {"start": first, "end": last}}}}):  # fmt: skip
        (row,) = rows(spo2(effectiveDateTime=None, **members))
        assert (row["clock"], row["source_time"], row["context"]) == expected
        assert "ended" not in row


def test_a_stamp_that_compares_no_instants_says_nothing_of_the_clock() -> None:
    for members in ({"effectiveDateTime": "2024-03-10", "valueDateTime": TIME},
                    {"effectiveDateTime": TIME, "valueDateTime": "2024-03-10"}):  # fmt: skip
        stamp = observation("68226", id="c", **members)
        decoded = read(bundle(stamp, spo2(derivedFrom=[{"reference": "Observation/c"}])))
        assert decoded.batch.flags.tolist() == [0]
        assert not decoded.events


def test_what_takes_its_time_from_receipt_has_no_device_clock_to_doubt() -> None:
    fault = observation("68226", id="c", dataAbsentReason=absent("unknown"))
    decoded = read(bundle(fault, spo2(effectiveDateTime=None, derivedFrom=[{"reference": "Observation/c"}])))
    assert decoded.batch.clock.tolist() == [SourceClock.NONE]
    assert decoded.batch.flags.tolist() == [0]


def test_values_keep_every_digit() -> None:
    for value in (36.6, 0.1, 98.60000000000001, 1e-7, 5):
        decoded = read(observation("8310-5", valueQuantity=quantity(value, "Cel")))
        assert decoded.batch.value.tolist() == [value]
        assert math.isfinite(decoded.batch.value[0])
