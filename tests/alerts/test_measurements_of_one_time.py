"""Values of one minute, one message after another: a severe one pages or opens a review, whatever came before it."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.adapters.fhir_documents import dumped, quantity, spo2
from tests.alerts.bedside import Bedside, urgent
from tests.alerts.test_wrong_clocks import reviews
from tests.ingest.ingest_world import reading
from tests.ingest.test_fhir_flow import at
from tests.support import SECOND
from vitals.glossary import Flag, Severity
from vitals.records import AlertEvent

MINUTE_TIMES = Path(__file__).parents[1] / "fixtures" / "hl7_minute_times"
"""A monitor's feed with OBX-14 to the minute: 97, 96, 80, 78 in messages m1 to m4."""


def told(bed: Bedside, device: str, adapter: str, kind: str, payloads: Sequence[bytes]) -> list[list[AlertEvent]]:
    """What each message of a device that the patient wears leads to, five seconds apart."""
    bed.world.device(device, adapter)
    bed.world.registry.assign(device, bed.patient, from_ns=None, to_ns=None)
    found = []
    for payload in payloads:
        bed.world.send(bed.world.message(device, payload, adapter, kind))
        found.append(bed._fold())
        bed.world.clock.advance(5)
    return found


def test_a_monitor_feed_to_the_minute(bed: Bedside) -> None:
    """The case hl7-minute-times."""
    received = datetime(2026, 11, 30, 1, 19, 10, tzinfo=UTC)
    now = datetime.fromtimestamp(bed.world.clock.now_ns() / SECOND, UTC)
    bed.world.clock.advance((received - now) / timedelta(seconds=1))
    payloads = [path.read_bytes().replace(b"\n", b"\r") for path in sorted(MINUTE_TIMES.glob("*.hl7"))]
    first, second, third, fourth = told(bed, "monitor", "hl7v2", "oru_r01", payloads)
    assert not first
    assert not second
    assert urgent(third), "80"
    assert not urgent(fourth), "78 goes on with the same alert"


def from_json(bed: Bedside, value: float, more: str) -> bytes:
    return json.dumps(reading("spo2", value, "%", minute(bed)) | ({"note": more} if more else {})).encode()


def from_fhir(bed: Bedside, value: float, more: str) -> bytes:
    document = spo2(**at(bed.world, bed.world.clock.now_ns() - minute(bed))) | {"valueQuantity": quantity(value, "%")}
    return dumped(document | ({"language": more} if more else {}))


def minute(bed: Bedside) -> int:
    return bed.world.clock.now_ns() // (60 * SECOND) * 60 * SECOND


Writer = Callable[[Bedside, float, str], bytes]
WRITERS = pytest.mark.parametrize(
    ("adapter", "writer"), [("json", from_json), ("fhir", from_fhir)], ids=["json", "fhir"]
)


@WRITERS
def test_the_third_value_of_a_minute_pages(bed: Bedside, adapter: str, writer: Writer) -> None:
    payloads = [writer(bed, value, "") for value in (97, 96, 80, 78)]
    first, second, third, _ = told(bed, "other", adapter, "", payloads)
    assert not urgent(first + second)
    assert urgent(third)


@WRITERS
def test_a_re_send_confirms_nothing(bed: Bedside, adapter: str, writer: Writer) -> None:
    """69 is beyond the suspect limit: it asks for a second reading. The same value again is none; another one is."""
    asked, again, filed, second = told(
        bed, "other", adapter, "",
        [writer(bed, 69, ""), writer(bed, 69, ""), writer(bed, 69, "en"), writer(bed, 68, "")],
    )  # fmt: skip
    assert [one.severity for one in asked if one.kind == "raised"] == [Severity.S2]
    assert not again + filed
    assert urgent(second)


def test_a_glucose_of_the_same_time_pages(bed: Bedside) -> None:
    now_ms = bed.world.clock.now_ns() // 1_000_000
    payloads = [json.dumps({"type": "sgv", "sgv": value, "date": now_ms}).encode() for value in (120, 110, 48)]
    first, second, third = told(bed, "cloud", "nightscout", "entries", payloads)
    assert not urgent(first + second)
    assert urgent(third)


def numbered(bed: Bedside, value: float, back_s: float) -> list[AlertEvent]:
    time_ns = bed.world.clock.now_ns() - int(back_s * SECOND)
    return bed.send(json.dumps(reading("spo2", value, "%", time_ns, 1)).encode())


def test_a_severe_correction_pages_while_it_is_current(bed: Bedside) -> None:
    assert not numbered(bed, 97, 0)
    bed.wait(60)
    assert urgent(numbered(bed, 80, 60))
    assert bed.flags() == Flag.REVISION


def test_a_severe_correction_that_comes_too_late_opens_a_review(bed: Bedside) -> None:
    assert not numbered(bed, 97, 0)
    bed.wait(3 * 3600)
    events = numbered(bed, 80, 3 * 3600)
    assert bed.flags() == Flag.REVISION | Flag.LATE
    assert not urgent(events)
    assert len(reviews(events)) == 1


def sensor(bed: Bedside, value: float, age_s: float) -> list[AlertEvent]:
    """A glucose of a sensor behind a cloud that was asked so much later."""
    then = datetime.fromtimestamp(bed.world.clock.now_ns() // SECOND - int(age_s), UTC)
    record = {"recordId": f"r-{value}", "systemTime": f"{then:%Y-%m-%dT%H:%M:%SZ}", "value": value, "unit": "mg/dL",
              "status": "ok"}  # fmt: skip
    return bed.send(json.dumps({"records": [record]}).encode(), "dexcom", "egvs")


def test_a_low_behind_a_polled_cloud_pages_as_long_as_it_is_no_stale_value(bed: Bedside) -> None:
    (page,) = urgent(sensor(bed, 45, 600))
    assert page.text.endswith("10 minutes old")
    bed.wait(1200)
    late = sensor(bed, 44, 960)
    assert not urgent(late)
    assert len(reviews(late)) == 1, "older than 15 minutes"
