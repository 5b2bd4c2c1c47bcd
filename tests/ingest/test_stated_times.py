"""Times that a record states: of any year, and days with their own offset."""

from pathlib import Path
from typing import Any

from deploy.jobs.trial import try_payload
from ingest.adapters import BUILT_IN, built_in
from tests.adapters.test_adapter_golden_cases import CASES, load
from vitals.glossary import Flag

ADAPTERS = {adapter.name: adapter for adapter in map(built_in, BUILT_IN)}


def tried(case: str) -> dict[str, Any]:
    sent, context, _ = load(Path(CASES) / case)
    adapter = ADAPTERS[sent.adapter]
    out = try_payload(adapter, sent.payload, sent.kind, received_ns=sent.received_ns, zone=context.zone)
    return dict(out)


def test_a_record_of_2004_keeps_its_time() -> None:
    out = tried("fhir/effective_before_2010")
    (reading,) = out["readings"]
    assert reading["time"].startswith("2004-09-24T11:17:54")
    assert reading["basis"] == "device"
    assert not set(reading["flags"]) & {"clock_suspect", "clock_wrong", Flag.CLOCK_CORRECTED.name.lower()}
    assert not [event for event in out["events"] if event["kind"] == "clock_fault"]


def test_a_day_with_an_offset_is_that_day() -> None:
    (reading,) = tried("ihealth/activity_day")["readings"]
    assert reading["basis"] == "day"
    assert reading["time"].startswith("2015-11-15T19:00:00")
    assert reading["end"].startswith("2015-11-16T19:00:00")


def test_a_finger_that_is_out_is_no_reading_and_an_event() -> None:
    for case in ("ble_plx/finger_out_127_and_255", "ble_plx/finger_out_zeros"):
        out = tried(case)
        assert out["readings"] == []
        assert [(event["kind"], event["detail"]) for event in out["events"]] == [("sensor_status", "sensor_off")]
