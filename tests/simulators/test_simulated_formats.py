"""Documents of simulated devices against the reference's examples, and devices that speak any format."""

# ruff: noqa: DTZ001 - wall times have no zone
import json
import random
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest

from simulators import fleet
from simulators.devices import SimulatedClock
from simulators.faults import ClockReset, Resync, Stored
from simulators.formats import FORMATS, CarriedTime, Format, Sample, parse_formats
from simulators.patients import SIGNALS, Condition, SyntheticPatient
from tests.support import FIXTURES
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.times import HOUR_NS

SECOND = 1_000_000_000
NOON = 1_710_072_000 * SECOND
"""2024-03-10T12:00:00Z, the time of the reference's examples."""
START = 1_700_006_400 * SECOND
PATIENT = SyntheticPatient(7, Condition.HEART_FAILURE)


def named(name: str, title: str = "") -> Format:
    (found,) = [of for of in parse_formats(name) if title in of.title]
    return found


def within(part: Any, whole: Any) -> bool:
    """Whether ``whole`` says all that ``part`` says: members of objects, items of lists in their order."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and within(value, whole[name]) for name, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(within, part, whole))
    return bool(part == whole)


EXAMPLES: Mapping[str, tuple[str, str, Mapping[str, float], int, Any]] = MappingProxyType({
    # device-formats.md 5.11, 3.5 and 4.6: format, title, values, time, what the reference writes of it
    "dexcom": ("dexcom/egvs", "", {"glucose_isf": 68}, NOON, {"recordType": "egv", "recordVersion": "3.0", "records": [{
        "systemTime": "2024-03-10T12:00:00Z", "value": 68, "status": "ok", "trend": "fortyFiveDown",
        "unit": "mg/dL", "rateUnit": "mg/dL/min", "displayDevice": "iOS", "transmitterGeneration": "g5",
    }]}),
    "nightscout": ("nightscout/entries", "", {"glucose_isf": 118}, NOON, {
        "type": "sgv", "sgv": 118, "date": 1710072000000, "dateString": "2024-03-10T12:00:00.000Z",
        "direction": "Flat", "noise": 1, "device": "xDrip",
    }),
    "withings": ("withings/getmeas", "", {"weight": 72.5}, NOON, {"status": 0, "body": {
        "timezone": "Europe/Berlin", "measuregrps": [{
            "attrib": 0, "date": 1710072000, "category": 1, "measures": [{"value": 72500, "type": 1, "unit": -3}],
        }],
    }}),
    "fitbit": ("fitbit/heart", "", {"heart_rate": 72}, NOON - 16_200 * SECOND, {
        "activities-heart": [{"dateTime": "2024-03-10", "value": {}}],
        "activities-heart-intraday": {
            "dataset": [{"time": "07:30:00", "value": 72}], "datasetInterval": 1, "datasetType": "minute",
        },
    }),
    "health_auto_export": (
        "health_auto_export", "", {"bp_sys": 135, "bp_dia": 86}, NOON,
        {"data": {"metrics": [{"name": "blood_pressure", "units": "mmHg", "data": [
            {"date": "2024-03-10 12:00:00 +0000", "systolic": 135, "diastolic": 86},
        ]}]}},
    ),
    "ihealth": (
        "ihealth/bp", "", {"bp_sys": 120, "bp_dia": 90, "pulse_rate_nibp": 100}, 1_442_520_263 * SECOND,
        {"BPUnit": 0, "BPDataList": [{
            "BPL": 2, "DataSource": "FromDevice", "HP": 120, "LP": 90, "HR": 100, "IsArr": -1, "MDate": 1442491463,
            "TimeZone": "-0800", "LastChangeTime": 1442520270,
        }]},
    ),
    "omh": ("omh/blood-glucose-3.0", "", {"glucose_bg": 105}, NOON + 1800 * SECOND, {
        "header": {"schema_id": {"namespace": "omh", "name": "blood-glucose", "version": "3.0"},
                   "acquisition_provenance": {"source_name": "home-hub", "modality": "sensed"},
                   "user_id": "patient-17"},
        "body": {"blood_glucose": {"value": 105, "unit": "mg/dL"}, "specimen_source": "capillary blood",
                 "effective_time_frame": {"date_time": "2024-03-10T07:30:00-05:00"},
                 "temporal_relationship_to_meal": "fasting"},
    }),
    "fhir": ("fhir/observation", "pressure", {"bp_sys": 135, "bp_dia": 86}, NOON, {
        "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/PT-0017"},
        "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "150020"},
                            {"system": "http://loinc.org", "code": "85354-9"}]},
        "component": [
            {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
             "valueQuantity": {"value": 135, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
            {"valueQuantity": {"value": 86, "unit": "mmHg", "code": "mm[Hg]"}},
            {"dataAbsentReason": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-a-number",
            }]}},
        ],
    }),
})  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_device_may_write_the_reference_s_example(name: str) -> None:
    wanted, title, values, time_ns, example = EXAMPLES[name]
    of, sample = named(wanted, title), Sample(values, time_ns, 10)
    written = (json.loads(of.encode(sample, random.Random(seed))) for seed in range(3000))
    assert any(within(example, document) for document in written)


@pytest.mark.parametrize(
    ("kind", "file", "values"),
    [
        ("bp", "ihealth-bp.json", {"bp_sys": 120, "bp_dia": 90, "pulse_rate_nibp": 100}),
        ("glucose", "ihealth-glucose.json", {"glucose_bg": 60}),
        ("spo2", "ihealth-spo2.json", {"spo2": 99, "pulse_rate": 80}),
        ("weight", "ihealth-weight.json", {"weight": 77.56, "bmi": 22.56}),
    ],
)
def test_a_page_has_the_members_of_a_published_one(kind: str, file: str, values: Mapping[str, float]) -> None:
    real = json.loads((FIXTURES / "vendor" / "ihealth" / file).read_text())
    page = json.loads(named(f"ihealth/{kind}").encode(Sample(values, NOON, 3), random.Random(1)))
    assert page.keys() == real.keys()
    (name,) = [name for name, value in real.items() if isinstance(value, list)]
    assert real[name][0].keys() <= page[name][0].keys() | {"Lat", "Lon"}


HL7_ROWS = {
    "PID|1||PT-0017^^^HOSP^MR||Doe^Jane",
    "OBX|2||150020^MDC_PRESS_BLD_NONINV^MDC|1.0.1|||||||X|||20240310210400-0400",
    "OBX|3|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.0.1.1|135|266016^MDC_DIM_MMHG^MDC|||||R|||20240310210400-0400",
    "OBX|4|NM|150022^MDC_PRESS_BLD_NONINV_DIA^MDC|1.0.1.2|86|266016^MDC_DIM_MMHG^MDC|||||R|||20240310210400-0400",
    "OBX|5|NM|150023^MDC_PRESS_BLD_NONINV_MEAN^MDC|1.0.1.3|102|266016^MDC_DIM_MMHG^MDC|||||R|||20240310210400-0400",
    "OBX|6|NM|149546^MDC_PULS_RATE_NON_INV^MDC|1.0.0.1|77|264864^MDC_DIM_BEAT_PER_MIN^MDC|||||R|||20240310210400-0400",
    "OBX|1||528391^MDC_DEV_SPEC_PROFILE_BP^MDC|1.0.0.0|||||||X|||||||0024BEFFFE804FF1^^0024BEFFFE804FF1^EUI-64",
}
"""As in device-formats.md 6.4."""


def test_rows_of_the_reference_s_hl7_message() -> None:
    values = {"bp_sys": 135, "bp_dia": 86, "bp_mean": 102, "pulse_rate_nibp": 77}
    sample = Sample(values, NOON + (13 * 60 + 4) * 60 * SECOND, 42)
    seen: set[str] = set()
    for seed in range(500):
        message = named("hl7v2", "cuff").encode(sample, random.Random(seed)).decode("ascii")
        seen.update(message.replace("\n", "\r").split("\r"))
    assert seen >= HL7_ROWS
    assert any(line.startswith("MSH|^~\\&|HUB17^0024BEFFFE804FF1^EUI-64||RPM||20240310210") for line in seen)


def test_a_metric_that_was_not_measured_has_no_value() -> None:
    message = named("hl7v2", "oximeter").encode(Sample({"spo2": 97}, NOON, 1), random.Random(1)).decode("ascii")
    (pulse,) = [line for line in message.replace("\n", "\r").split("\r") if "149530" in line]
    assert pulse.split("|")[5] == ""
    assert pulse.split("|")[11] == "X"


@pytest.mark.parametrize(("value", "shown", "status"), [(35, 40, "low"), (420, 400, "high")])
def test_a_sensor_s_values_are_pinned_to_its_range(value: float, shown: int, status: str) -> None:
    records = [
        json.loads(named("dexcom").encode(Sample({"glucose_isf": value}, NOON, 1), random.Random(seed)))["records"][0]
        for seed in range(20)
    ]
    assert {record["status"] for record in records} == {status}
    assert {record["value"] for record in records if record["unit"] == "mg/dL"} == {shown}


def test_formats_are_chosen_by_name() -> None:
    assert parse_formats("") == ()
    assert [of.name for of in parse_formats("json, ble_plx/2a5f")] == ["json", "ble_plx/2a5f"]
    assert {of.kind for of in parse_formats("ble_scale")} == {"2a9d", "2a9c", "envelope"}
    assert parse_formats("json,json") == parse_formats("json")
    with pytest.raises(InvalidRequest, match="did you mean 'ble_plx/2a5f'"):
        parse_formats("ble_plx/2a5ff")
    with pytest.raises(InvalidRequest, match=r"no format 'zzz'$"):
        parse_formats("zzz")


def identity(of: Format) -> str:
    return f"{of.name} ({of.title})"


@pytest.mark.parametrize("of", FORMATS, ids=identity)
def test_a_patient_s_device_may_speak_it(of: Format) -> None:
    device = fleet.speaking(of)("d1", "s", PATIENT, START, seed=3)
    assert (device.adapter, device.kind) == (of.adapter, of.kind)
    assert of.vitals <= BY_KEY.keys()
    assert not of.vitals or of.vitals & set(SIGNALS)
    day = int(of.period_s * SECOND)
    sent = device.emit(START, START + 3 * day)
    assert [due for due, _ in sent] == [START, START + day, START + 2 * day]
    assert all(payload for _, payload in sent)
    assert sent == [*device.emit(START, START + day), *device.emit(START + day, START + 3 * day)]
    assert len({payload for _, payload in sent}) > 1 or of.adapter == "ble_battery"


@pytest.mark.parametrize("of", FORMATS, ids=identity)
def test_a_full_memory_goes_out_each_time_in_the_same_bytes(of: Format) -> None:
    device = fleet.speaking(of)("d1", "s", PATIENT, START, seed=3, period_s=60.0)
    again = Resync(300.0).afflict(device, START).emit(START, START + 601 * SECOND)
    first, second = ([payload for due, payload in again if due == START + at * SECOND] for at in (300, 600))
    assert (len(first), len(second)) == (5, 10)
    assert second[:5] == first
    later = Stored(300.0).afflict(device, START).emit(START, START + 601 * SECOND)
    assert [due for due, _ in later] == [START + 300 * SECOND] * 5 + [START + 600 * SECOND] * 5
    assert [payload for _, payload in later] == second == [payload for _, payload in device.emit(START, later[-1][0])]


@pytest.mark.parametrize("of", FORMATS, ids=identity)
def test_a_clock_that_falls_back_is_heard_where_the_device_s_time_is_sent(of: Format) -> None:
    made = fleet.speaking(of)("d1", "s", PATIENT, START, seed=3, clock=SimulatedClock(60))
    device = ClockReset(HOUR_NS / SECOND).afflict(made, START)
    assert device.emit(START, START + HOUR_NS) == made.emit(START, START + HOUR_NS)
    step = int(of.period_s * SECOND)
    at = START + (HOUR_NS // step + 1) * step
    ((_, wrong),), ((_, right),) = device.emit(at, at + 1), made.emit(at, at + 1)
    assert (wrong != right) == (of.time not in {CarriedTime.NONE, CarriedTime.HUB})
    assert device.clock.wall(START + 2 * HOUR_NS) == datetime(2000, 1, 1, 1)
