"""Devices whose clock is wrong, from the socket to the alert and to what counts as the current value."""

import json
import subprocess
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.deploy.conftest import Running, run_cli
from tests.support import FIXTURES, eventually

CLOCKS = FIXTURES / "clocks"
_TIME_AT = 7
"""Where the 7-byte time stands in a blood pressure measurement (0x2A35)."""


def expected(case: str) -> Any:
    return json.loads((CLOCKS / case / "expected.json").read_text())


def worn(running: Running, device: str, adapter: str, *limits: dict[str, Any], zone: str = "UTC") -> tuple[str, str]:
    """A patient with limits who wears a device; the patient and the device's secret."""
    patient = str(running.request("POST", "patients", json={"name": f"Wearer of {device}", "zone": zone})["patient"])
    secret = str(running.request("POST", "devices", json={"adapter": adapter, "id": device})["secret"])
    running.request("POST", f"devices/{device}/assign", json={"patient": patient})
    running.request("PUT", f"patients/{patient}/limits", json=list(limits))
    return patient, secret


def publish(running: Running, device: str, secret: str, topic: str, payload: bytes) -> None:
    subprocess.run(
        ["mosquitto_pub", "-h", running.host, "-p", str(running.port), "-q", "1", "-u", device, "-P", secret, "-t",
         f"vitals/{device}/{topic}", "-s"],
        check=True, timeout=20, input=payload,
    )  # fmt: skip


def shown(payload: bytes, received: datetime, now: datetime) -> bytes:
    """The case's measurement as a cuff sends it now whose clock is as far ahead as it was in the case."""
    year, wall = int.from_bytes(payload[_TIME_AT : _TIME_AT + 2], "little"), payload[_TIME_AT + 2 : _TIME_AT + 7]
    ahead = datetime(year, *wall, tzinfo=received.tzinfo) - received
    moved = now + ahead
    time = moved.year.to_bytes(2, "little") + bytes([moved.month, moved.day, moved.hour, moved.minute, moved.second])
    return payload[:_TIME_AT] + time + payload[_TIME_AT + 7 :]


@pytest.mark.slow
def test_the_cases_of_wrong_clocks_live(running: Running) -> None:
    a_cuff_ahead_pages(running)
    a_reading_of_2161_hides_no_current_one(running)


def a_cuff_ahead_pages(running: Running) -> None:
    case = expected("cuff-clock-ahead")
    zone, bound = ZoneInfo(case["zone"]), case["limit"]
    received = datetime.fromisoformat(case["received"]).astimezone(zone)
    limit = {"vital": bound["vital"], "unit": "mm[Hg]", "low": None, "high": bound["high"], "severity": "S1",
             "deadband": 0, "on_delay_s": 0, "off_delay_s": 0}  # fmt: skip
    for name in ("input", "input-dst-not-set-back"):
        device = f"cuff-{name}"
        patient, secret = worn(running, device, case["adapter"], limit, zone=case["zone"])
        payload = bytes.fromhex((CLOCKS / "cuff-clock-ahead" / f"{name}.hex").read_text())
        sent = shown(payload, received, datetime.now(zone))
        publish(running, device, secret, f"{case['adapter']}/{case['kind']}", sent)

        def paged(patient: str = patient) -> list[Any]:
            return [one for one in running.get("alerts", patient=patient)["items"] if one["severity"] == "S1"]

        [alert] = eventually(paged, within_s=20, what=f"{name} pages")
        assert "clock_wrong" in alert["quality"]
        [fault] = running.get(f"devices/{device}")["faults"]
        assert (fault["kind"], fault["detail"]) == ("clock_fault", "clock_ahead")
        shown_by_command = running.cli("device", "clock", device)
        assert (shown_by_command["ahead_s"], len(shown_by_command["arrivals"])) == (None, 1), "one proves nothing yet"
        assert "nothing was learned" in run_cli(
            "device", "clock", device, "--undo", "a guess", "--data-dir", str(running.data), expect=2
        )
        ahead = timedelta(seconds=fault["value"])
        assert timedelta(minutes=15) < ahead < timedelta(hours=1), "in the wearer's zone"


def a_reading_of_2161_hides_no_current_one(running: Running) -> None:
    wanted = expected("future-hides-current")["latest"]
    patient, secret = worn(running, "cgm-2161", "nightscout")
    now_ms = str(int(datetime.now(ZoneInfo("UTC")).timestamp() * 1000))
    for name in ("first", "second"):
        payload = (CLOCKS / "future-hides-current" / f"{name}.json").read_text().replace('"NOW"', now_ms)
        publish(running, "cgm-2161", secret, "nightscout", payload.encode())
    running.settled("cgm-2161")

    def latest() -> dict[str, Any] | None:
        readings = running.get(f"patients/{patient}/latest")["items"]
        return {key: readings[0][key] for key in wanted} if readings else None

    eventually(lambda: latest() == wanted, within_s=20, what="the current reading is shown")
    stored = running.get(f"patients/{patient}/readings", vital="glucose_isf", resolution="raw")
    assert sorted(stored["value"]) == [90, 120], "nothing is lost"
