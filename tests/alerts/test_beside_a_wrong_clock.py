"""Meters whose records come from a memory, and good readings beside one of a wrong clock in the same message."""

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.alerts.bedside import CONFIRM_S, Bedside, limits, urgent
from tests.alerts.test_wrong_clocks import faults, reviews
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND
from vitals.glossary import Basis, Flag, Severity
from vitals.records import AlertEvent

DAY_S = 86_400.0
CLOCKS = {"+6 min": 360.0, "+1 h": 3600.0, "+1 d": DAY_S, "1970": "1970-01-01T00:05", "2000": "2000-01-01T00:05",
          "2161": "2161-01-01T00:05"}  # fmt: skip


def shown(bed: Bedside, clock: str | float) -> datetime:
    """What the device's display says, in UTC."""
    if isinstance(clock, str):
        return datetime.fromisoformat(clock).replace(tzinfo=UTC)
    return datetime.fromtimestamp(bed.world.clock.now_ns() / SECOND, UTC) + timedelta(seconds=clock)


def record(seq: int, value: float, at: datetime) -> bytes:
    """A glucose record in mg/dL, of a meter that shows the time of Berlin."""
    wall = at + timedelta(hours=1)
    stamp = struct.pack("<HBBBBB", wall.year, wall.month, wall.day, wall.hour, wall.minute, wall.second)
    return struct.pack("<BH", 0x02, seq) + stamp + struct.pack("<HB", 0xB000 | round(value), 0x11)


def glucose(bed: Bedside, seq: int, value: float, clock: str | float) -> list[AlertEvent]:
    return bed.send(record(seq, value, shown(bed, clock)), "ble_glucose", "2a18")


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_an_extreme_of_a_meter_whose_clock_is_wrong_pages_at_once(bed: Bedside, clock: str | float) -> None:
    [page] = urgent(glucose(bed, 1, 40, clock))
    assert "clock_wrong" in page.quality
    assert "device clock wrong" in page.text
    assert faults(bed) == ["clock_unset" if clock in {"1970-01-01T00:05", "2000-01-01T00:05"} else "clock_ahead"]


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Bedside]:
    """S1 from a value on that is not beyond the red limits."""
    world = World(tmp_path)
    yield Bedside(world, limits("strict", low=70.0))
    world.close()


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_another_urgent_value_of_it_pages_when_nothing_refutes_it(strict: Bedside, clock: str | float) -> None:
    asked = glucose(strict, 1, 62, clock)
    assert [one.severity for one in asked if one.kind == "raised"] == [Severity.S2]
    assert urgent(strict.wait(CONFIRM_S + 30))


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
def test_and_on_a_repeat(strict: Bedside, clock: str | float) -> None:
    assert not urgent(glucose(strict, 1, 62, clock))
    strict.wait(40)
    later = datetime.fromisoformat(clock) + timedelta(seconds=40) if isinstance(clock, str) else clock
    assert urgent(glucose(strict, 2, 63, later if isinstance(later, float) else later.isoformat()))


def test_the_memory_of_a_meter_whose_clock_is_wrong_is_one_value_of_now(bed: Bedside) -> None:
    at = shown(bed, DAY_S)
    for seq, (value, back_h) in enumerate([(40, 9), (38, 5), (110, 0)], 1):
        payload = record(seq, value, at - timedelta(hours=back_h))
        bed.world.send(bed.world.message("ble_glucose-1", payload, "ble_glucose", "2a18"))
    events = bed._fold()
    assert not urgent(events)
    assert len(reviews(events)) == 1
    assert [row["basis"] for row in bed.world.rows()] == [Basis.UNKNOWN, Basis.UNKNOWN, Basis.RECEIVED]


def json_message(bed: Bedside, *rows: tuple[str, float, str, float]) -> list[AlertEvent]:
    now_ns = bed.world.clock.now_ns()
    return bed.send(
        json.dumps([reading(v, value, unit, now_ns + int(s * SECOND)) for v, value, unit, s in rows]).encode()
    )


def fhir_message(bed: Bedside, *rows: tuple[str, float, str, float]) -> list[AlertEvent]:
    entries = [
        {"resource": {
            "resourceType": "Observation", "status": "final", "effectiveDateTime": shown(bed, s).isoformat(),
            "code": {"coding": [{"system": "http://loinc.org", "code": {"spo2": "59408-5", "weight": "29463-7"}[v]}]},
            "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
        }}
        for v, value, unit, s in rows
    ]  # fmt: skip
    return bed.send(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode(), "fhir")


def hl7_message(bed: Bedside, *rows: tuple[str, float, str, float]) -> list[AlertEvent]:
    codes = {"spo2": "150456^MDC_PULS_OXIM_SAT_O2^MDC", "weight": "188736^MDC_MASS_BODY_ACTUAL^MDC"}
    units = {"%": "262688^MDC_DIM_PERCENT^MDC", "kg": "263875^MDC_DIM_KILO_G^MDC"}
    at = [shown(bed, s).strftime("%Y%m%d%H%M%S+0000") for _, _, _, s in rows]
    segments = [f"MSH|^~\\&|M||||{at[-1]}||ORU^R01^ORU_R01|1|P|2.6", "PID|||", f"OBR|1|||x|||{at[-1]}"]
    segments += [
        f"OBX|{number}|NM|{codes[v]}|1.0.0.{number}|{value:g}|{units[unit]}|||||F|||{time}"
        for number, ((v, value, unit, _), time) in enumerate(zip(rows, at, strict=True), 1)
    ]
    return bed.send("\r".join(segments).encode() + b"\r", "hl7v2", "oru_r01")


MESSAGES = {"json": json_message, "fhir": fhir_message, "hl7v2": hl7_message}


@pytest.mark.parametrize("ahead_s", [600.0, 3600.0, DAY_S, 30 * DAY_S])
@pytest.mark.parametrize("beside", [("weight", 80.0, "kg"), ("spo2", 97.0, "%")], ids=["weight", "spo2"])
@pytest.mark.parametrize("say", MESSAGES.values(), ids=MESSAGES)
def test_a_good_reading_beside_one_far_ahead_keeps_its_page(
    bed: Bedside, say: Callable[..., list[AlertEvent]], beside: tuple[str, float, str], ahead_s: float
) -> None:
    for adapter in ("fhir", "hl7v2"):
        bed.world.device(f"{adapter}-1", adapter)
        bed.world.registry.assign(f"{adapter}-1", bed.patient, from_ns=None, to_ns=None)
    [page] = urgent(say(bed, (*beside, ahead_s), ("spo2", 70.0, "%", -5.0)))
    assert page.severity is Severity.S1
    [row] = [row for row in bed.world.rows() if row["value"] == 70.0]
    assert (row["flags"], (row["received_ns"] - row["time_ns"]) // SECOND) == (Flag(0), 5)
    assert faults(bed) == ["clock_ahead"]


def test_only_the_newest_of_the_readings_that_may_be_of_now_keeps_its_time(bed: Bedside) -> None:
    events = json_message(
        bed,
        ("spo2", 97.0, "%", 600.0),
        ("spo2", 96.0, "%", -1.0),
        ("spo2", 70.0, "%", -61.0),
        ("spo2", 71.0, "%", -121.0),
    )
    assert not urgent(events)
    assert len(reviews(events)) == 1
    ages = {row["value"]: (row["received_ns"] - row["time_ns"]) // SECOND for row in bed.world.rows()}
    assert ages == {97.0: 0, 96.0: 1, 70.0: 661, 71.0: 721}
