"""FHIR Observations that are wrong in one place: rejected alone, by the path of what is wrong."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.adapters.decoding import assert_sound, decode_all, message
from tests.adapters.fhir_documents import (
    LOINC,
    TIME,
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
from vitals.catalog import BY_CODE
from vitals.glossary import EventKind, Reason

BAD: list[tuple[Document, Reason, str]] = [
    (spo2(status=None), Reason.MISSING_FIELD, "status"),
    (spo2(status="done"), Reason.BAD_VALUE, "status"),
    (spo2(status=1), Reason.BAD_TYPE, "status"),
    (spo2(code=None), Reason.MISSING_FIELD, "code"),
    (spo2(code="59408-5"), Reason.BAD_TYPE, "code"),
    (spo2(code={"coding": {}}), Reason.BAD_TYPE, "code.coding"),
    (spo2(code={"coding": ["59408-5"]}), Reason.BAD_TYPE, "code.coding[0]"),
    (spo2(code={"coding": [{"system": LOINC, "code": 594085}]}), Reason.BAD_TYPE, "code.coding[0]"),
    (spo2(valueQuantity=None), Reason.MISSING_FIELD, "value[x]"),
    (spo2(valueQuantity=97), Reason.BAD_TYPE, "valueQuantity"),
    (spo2(valueQuantity={"code": "%"}), Reason.MISSING_FIELD, "valueQuantity.value"),
    (spo2(valueQuantity=quantity("97", "%")), Reason.BAD_TYPE, "valueQuantity.value"),
    (spo2(valueQuantity=quantity(True, "%")), Reason.BAD_TYPE, "valueQuantity.value"),
    (spo2(valueQuantity=quantity(float("nan"), "%")), Reason.BAD_VALUE, "valueQuantity.value"),
    (spo2(valueQuantity=quantity(10**400, "%")), Reason.BAD_VALUE, "valueQuantity.value"),
    (spo2(valueQuantity=quantity(1e300, "%")), Reason.BAD_VALUE, "valueQuantity.value"),
    (spo2(valueQuantity={"value": 97}), Reason.MISSING_FIELD, "valueQuantity.code"),
    (spo2(valueQuantity={"value": 97, "code": None, "unit": "%"}), Reason.BAD_TYPE, "valueQuantity.code"),
    (spo2(valueQuantity={"value": 97, "code": "Schmoe", "unit": "%"}), Reason.UNKNOWN_UNIT, "valueQuantity.code"),
    (spo2(valueQuantity={"value": 97, "unit": "Schmoe"}), Reason.UNKNOWN_UNIT, "valueQuantity.unit"),
    (spo2(valueQuantity=quantity(97, "mm[Hg]")), Reason.UNKNOWN_UNIT, "valueQuantity.code"),
    (spo2(valueQuantity=quantity(97, "%", comparator="~")), Reason.BAD_VALUE, "valueQuantity.comparator"),
    (spo2(valueQuantity=quantity(97, "%", comparator=1)), Reason.BAD_TYPE, "valueQuantity.comparator"),
    (spo2(valueString="97"), Reason.AMBIGUOUS_ENCODING, "value[x]"),
    (spo2(valueQuantity=None, valueString="97 %"), Reason.BAD_TYPE, "valueString"),
    (spo2(valueQuantity=None, valueCodeableConcept=concept("LA1-2")), Reason.BAD_TYPE, "valueCodeableConcept"),
    (observation("67775-7", valueQuantity=quantity(1, "{code}")), Reason.UNKNOWN_UNIT, "valueQuantity.code"),
    (observation("67775-7", valueCodeableConcept={"text": "Schmoe"}), Reason.BAD_VALUE, "valueCodeableConcept"),
    (spo2(dataAbsentReason=absent("unknown")), Reason.AMBIGUOUS_ENCODING, "dataAbsentReason"),
    (spo2(valueQuantity=None, dataAbsentReason=3), Reason.BAD_TYPE, "dataAbsentReason"),
    (pressure(component=None), Reason.MISSING_FIELD, "component"),
    (pressure(component={}), Reason.BAD_TYPE, "component"),
    (pressure(component=None, valueQuantity=quantity(120, "mm[Hg]")), Reason.UNKNOWN_UNIT, "valueQuantity.code"),
    (spo2(effectiveDateTime="yesterday"), Reason.BAD_TIME, "effectiveDateTime"),
    (spo2(effectiveDateTime="2024-02-30"), Reason.BAD_TIME, "effectiveDateTime"),
    (spo2(effectiveDateTime="2024-13"), Reason.BAD_TIME, "effectiveDateTime"),
    (spo2(effectiveDateTime="1600-01-01"), Reason.BAD_TIME, "effectiveDateTime"),
    (spo2(effectiveDateTime=1710054930), Reason.BAD_TYPE, "effectiveDateTime"),
    (spo2(effectiveInstant=TIME), Reason.AMBIGUOUS_ENCODING, "effective[x]"),
    (spo2(effectiveDateTime=None, effectiveInstant="2024-03-10"), Reason.BAD_TIME, "effectiveInstant"),
    (spo2(effectiveDateTime=None, effectivePeriod={}), Reason.MISSING_FIELD, "effectivePeriod.start"),
    (spo2(effectiveDateTime=None, effectivePeriod=TIME), Reason.BAD_TYPE, "effectivePeriod"),
    (spo2(effectiveDateTime=None, effectivePeriod={"start": TIME, "end": "2024-03-10T08:00:00+01:00"}),
     Reason.BAD_TIME, "effectivePeriod.end"),
    (spo2(effectiveDateTime=None, effectiveTiming={}), Reason.MISSING_FIELD, "effectiveTiming.event"),
    (spo2(effectiveDateTime=None, effectiveTiming={"event": [TIME, 3]}), Reason.BAD_TYPE, "effectiveTiming.event[1]"),
    (spo2(effectiveDateTime=None, issued="soon"), Reason.BAD_TIME, "issued"),
    (spo2(effectiveDateTime=None, status="cancelled"), Reason.MISSING_FIELD, "effective[x]"),
    (observation("68226", valueDateTime="noon"), Reason.BAD_TIME, "valueDateTime"),
    (series(None), Reason.MISSING_FIELD, "valueSampledData.data"),
    (series(""), Reason.MISSING_FIELD, "valueSampledData.data"),
    (series([1, 2]), Reason.BAD_TYPE, "valueSampledData.data"),
    (series("60 Schmoe"), Reason.BAD_VALUE, "valueSampledData.data: sample 1"),
    (series("60 nan"), Reason.BAD_VALUE, "valueSampledData.data: sample 1"),
    (series("60 1_0"), Reason.BAD_VALUE, "valueSampledData.data: sample 1"),
    (series("60 1e300"), Reason.BAD_VALUE, "valueSampledData.data: sample 1"),
    (series("60", period=None), Reason.MISSING_FIELD, "valueSampledData.period"),
    (series("60", period=0), Reason.BAD_VALUE, "valueSampledData.period"),
    (series("60", period=1e-9), Reason.BAD_VALUE, "valueSampledData.period"),
    (series("60", period=1e200), Reason.BAD_VALUE, "valueSampledData.period"),
    (series("60 61 62 63 64 65 66 67 68 69", period=1e12), Reason.BAD_TIME, "valueSampledData"),
    (series("60", dimensions=2), Reason.BAD_VALUE, "valueSampledData.dimensions"),
    (series("60", origin=None), Reason.MISSING_FIELD, "valueSampledData.origin"),
    (series("60", origin={"value": 0}), Reason.MISSING_FIELD, "valueSampledData.origin.code"),
    (series("60", factor="2"), Reason.BAD_TYPE, "valueSampledData.factor"),
    (series("60", lowerLimit="x"), Reason.BAD_TYPE, "valueSampledData.lowerLimit"),
    (series("60") | {"effectiveDateTime": "2024-03-10"}, Reason.BAD_TIME, "valueSampledData"),
    (series("60") | {"dataAbsentReason": absent("positive-infinity")}, Reason.AMBIGUOUS_ENCODING, "dataAbsentReason"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "reason", "path"), BAD)
def test_bad_observation(document: Document, reason: Reason, path: str) -> None:
    decoded = read(document)
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, path)]
    assert not len(decoded.batch)
    assert not decoded.events


@pytest.mark.parametrize(("document", "reason", "path"), BAD)
def test_a_bad_observation_is_rejected_alone(document: Document, reason: Reason, path: str) -> None:
    good = observation("8867-4", valueQuantity=quantity(72, "/min"))
    decoded = read(bundle(good, document, good))
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(reason, f"entry[1].resource.{path}")]
    assert decoded.batch.value.tolist() == [72.0, 72.0]


BAD_PARTS: list[tuple[Any, Reason, str]] = [
    (None, Reason.BAD_TYPE, ""),
    ({}, Reason.MISSING_FIELD, ".code"),
    ({"code": "8462-4"}, Reason.BAD_TYPE, ".code"),
    (component("8462-4"), Reason.MISSING_FIELD, ".value[x]"),
    (component("8462-4", valueQuantity={"value": 82}), Reason.MISSING_FIELD, ".valueQuantity.code"),
    (component("8462-4", valueQuantity=quantity("82", "mm[Hg]")), Reason.BAD_TYPE, ".valueQuantity.value"),
    (component("8480-6", valueQuantity=quantity(82, "mm[Hg]")), Reason.AMBIGUOUS_ENCODING, ".code"),
]


@pytest.mark.parametrize(("part", "reason", "path"), BAD_PARTS)
def test_a_bad_component_does_not_hurt_its_sibling(part: Any, reason: Reason, path: str) -> None:
    good = component("8480-6", valueQuantity=quantity(128, "mm[Hg]"))
    decoded = read(bundle(spo2(), spo2(), spo2(), pressure(component=[good, part])))
    assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [
        (reason, f"entry[3].resource.component[1]{path}")
    ]
    assert decoded.batch.value.tolist() == [97.0, 97.0, 97.0, 128.0]


BESIDE: list[Document] = [
    {"identifier": {}}, {"identifier": [{"value": 7}]}, {"meta": []}, {"meta": {"security": {}}},
    {"interpretation": "H"}, {"interpretation": ["H"]}, {"derivedFrom": {}}, {"bodySite": []}, {"method": 3},
    {"component": [component("150320", valueQuantity=[])]}, {"component": [component("150320", valueBoolean="yes")]},
    {"component": [component("8867-4", valueQuantity=quantity(72, "/min"), interpretation=1)]},
]  # fmt: skip


@pytest.mark.parametrize("beside", BESIDE, ids=lambda beside: str(next(iter(beside))))
def test_what_only_adds_to_a_value_never_costs_it(beside: Document) -> None:
    decoded = read(spo2(**beside))
    assert not decoded.rejects
    assert decoded.batch.value.tolist()[0] == 97.0
    assert decoded.left_out == 1


@pytest.mark.parametrize("code", [{"text": "Schmoe"}, concept("1234-5")])
def test_an_observation_of_no_vital_sign_is_counted_and_its_number_is_told(code: Any) -> None:
    decoded = read(spo2(code=code))
    assert not decoded.rejects
    assert not len(decoded.batch)
    assert decoded.unknown_members == 1
    (event,) = decoded.events
    assert (event.kind, event.value) == (EventKind.UNKNOWN_CODE, 97.0)
    assert "Schmoe" not in event.detail


def test_a_component_must_not_repeat_the_main_value() -> None:
    decoded = read(spo2(component=[component("150456", valueQuantity=quantity(80, "%"))]))
    assert [reject.detail for reject in decoded.rejects] == ["component[0].code"]
    assert decoded.batch.value.tolist() == [97.0]


# --- every member, of every wrong type ---

FULL: Document = {
    **spo2(
        identifier=[{"system": "https://hub.example", "value": "k"}],
        meta={"security": [{"code": "HTEST"}]},
        subject={"reference": "Patient/Schmoe", "display": "Schmoe"},
        performer=[{"display": "Schmoe"}],
        note=[{"text": "Schmoe"}],
        device={"reference": "Device/Schmoe"},
        interpretation=[concept("H"), concept("67911.1")],
        bodySite={"coding": [{"system": "http://snomed.info/sct", "code": "7569003"}], "text": "Schmoe"},
        method={"text": "Schmoe"},
        derivedFrom=[{"reference": "Observation/1"}],
        issued=TIME,
        category=[{"text": "Schmoe"}],
    ),
    "component": [
        component("3151-8", valueQuantity=quantity(2, "L/min")),
        component("3150-0", dataAbsentReason=absent("unknown")),
        component("68193", valueCodeableConcept=concept("150588")),
        {"code": {"coding": [{"system": "https://hub.example", "code": "Schmoe"}]}, "valueString": "Schmoe"},
    ],
}
SAMPLED = series("60 E 61", factor=1, lowerLimit=1, upperLimit=2)
WRONG: list[Any] = [None, True, 0, -1.5, 10**30, "", "Schmoe", [], ["Schmoe"], [None], [[]], {}, {"Schmoe": "Schmoe"}]


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of every member and item under ``node``."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_changed(document: Document, path: tuple[Any, ...], value: Any) -> Document:
    copy: Document = json.loads(json.dumps(document))
    node: Any = copy
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copy


@pytest.mark.parametrize("document", [FULL, SAMPLED], ids=["full", "sampled"])
def test_every_member_of_every_wrong_type(document: Document) -> None:
    variants = [with_changed(document, path, value) for path in places(document) for value in WRONG]
    assert len(variants) == len(WRONG) * len(list(places(document))) > 250
    batch = [message("fhir", dumped(variant), ordinal=number) for number, variant in enumerate(variants)]
    decoded = decode_all(batch)
    assert_sound(decoded, batch)
    said = repr(decoded.rejects) + repr(decoded.events) + repr(dict(decoded.batch.context))
    assert "Schmoe" not in said
    assert {reject.reason for reject in decoded.rejects} > {Reason.BAD_TYPE, Reason.MISSING_FIELD, Reason.BAD_VALUE}
    # What is not read cannot hurt, what is read is checked.
    unread = {"subject", "performer", "note", "device", "category"}
    spoiled = [number for number, path in enumerate(path for path in places(document) for _ in WRONG)
               if path[0] in unread]  # fmt: skip
    assert not set(spoiled) & {reject.message for reject in decoded.rejects}


def test_every_missing_member() -> None:
    required = {"resourceType", "status", "code", "valueQuantity"}
    for name in FULL:
        decoded = read({key: value for key, value in FULL.items() if key != name})
        if name == "valueQuantity":
            # Components may stand without a value of the Observation's own.
            assert [BY_CODE[int(code)].key for code in decoded.batch.vital] == ["o2_flow"]
        elif name == "code":
            assert [reject.detail for reject in decoded.rejects] == ["code"]
        elif name in required:
            assert [(reject.reason, reject.detail) for reject in decoded.rejects] == [(Reason.MISSING_FIELD, name)]
        else:
            assert not decoded.rejects
            assert decoded.batch.value[0] == 97.0
