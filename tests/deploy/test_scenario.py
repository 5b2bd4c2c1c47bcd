"""The whole path on a real recording: a CGM export, ten years old, in local time without a zone."""

import csv
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import CLI, ROOT, Running
from tests.support import FIXTURES, eventually

RECORDING = FIXTURES / "cgm" / "clarity.csv"
EXPECTED = json.loads((FIXTURES / "cgm" / "expected.json").read_text())["expected"]
TIME, VALUE = "Timestamp (YYYY-MM-DDThh:mm:ss)", "Glucose Value (mg/dL)"
SPEED = 30


def rows() -> list[tuple[datetime, float]]:
    with RECORDING.open(encoding="utf-8-sig", newline="") as file:
        return [
            (datetime.fromisoformat(row[TIME]), float(row[VALUE]))
            for row in csv.DictReader(file)
            if row["Event Type"] == "EGV"
        ]


def enrol(running: Running, name: str, device: str, *options: str) -> str:
    patient = str(running.cli("patient", "add", "--name", name, *options)["patient"])
    assert running.cli("device", "add", "--adapter", "clarity", "--id", device)["secret"]
    running.cli("device", "assign", device, patient)
    return patient


def readings(running: Running, patient: str) -> dict[str, Any]:
    return dict(running.get(f"patients/{patient}/readings", vital="glucose_isf", resolution="raw"))


def glucose(running: Running, patient: str) -> list[float]:
    return list(readings(running, patient)["value"])


def no_names_in_the_clear(data: Path) -> None:
    """The header rows hold a name and a birth date."""
    for path in data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (b"Schmoe", b"1/1/1970", b"DateOfBirth", b"Second Patient"):
                assert word not in content, f"{word!r} in {path.name}"


def test_history_is_stored_once_and_pages_nobody(running: Running) -> None:
    patient = enrol(running, "Joe Schmoe", "cgm-1")
    running.request("PUT", f"patients/{patient}/limits", json=[{"vital": "glucose_isf", "unit": "mg/dL", "low": 70,
                    "high": 180, "severity": "S1", "deadband": 0, "on_delay_s": 0, "off_delay_s": 0}])  # fmt: skip
    done = running.cli("replay", str(RECORDING), "--device", "cgm-1")
    assert done["ledger"]["readings"]["stored"] == EXPECTED["n"] == 2148
    found = readings(running, patient)
    assert found["value"] == [value for _, value in rows()]
    mean = sum(found["value"]) / len(found["value"])
    assert mean == pytest.approx(EXPECTED["mean_mg_dl"], rel=1e-9)
    assert 3.31 + 0.02392 * mean == pytest.approx(EXPECTED["gmi_percent"], rel=1e-9)
    assert set(found["basis"]) == {"unknown"}, "no zone is configured, and the basis says so"
    again = running.cli("replay", str(RECORDING), "--device", "cgm-1")
    assert again["ledger"]["readings"] == {
        "emitted": 2148, "stored": 0, "duplicate": 2148, "revision": 0, "unassigned": 0, "in_flight": 0,
    }  # fmt: skip
    assert len(glucose(running, patient)) == 2148
    assert running.get("alerts")["items"] == []
    no_names_in_the_clear(running.data)
    assert "Schmoe" not in running.log()


def test_a_recording_moved_to_now_alerts_within_a_second_and_survives_kill_9(running: Running) -> None:
    patient = enrol(running, "Second Patient", "cgm-2", "--zone", "America/New_York")
    limits = {"vital": "glucose_isf", "unit": "mg/dL", "low": 70, "high": 180, "severity": "S2", "deadband": 0,
              "on_delay_s": 0, "off_delay_s": 0}  # fmt: skip
    running.request("PUT", f"patients/{patient}/limits", json=[limits])
    series = rows()
    lowest = min(series, key=lambda row: row[1])[0]
    # Two readings before the first low one: it comes due live, ten minutes and more before the lowest.
    crossing = next(i for i, (at, value) in enumerate(series) if value < 70 and at > lowest - timedelta(hours=1))
    align = min(lowest - timedelta(minutes=10), series[crossing - 1][0])
    started = datetime.now(UTC)
    replay = subprocess.Popen(
        [*CLI, "replay", str(RECORDING), "--device", "cgm-2", "--align", align.isoformat(), "--speed", str(SPEED),
         "--data-dir", str(running.data)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        raised = eventually(lambda: running.get("alerts", patient=patient)["items"], within_s=40, what="alert")
        assert isinstance(raised, list)
        (alert,) = raised
        assert alert["state"] == "active_unack"
        assert alert["severity"] == "S2"
        assert alert["values"][0]["value"] == series[crossing][1]
        assert alert["limit"]["value"] == 70
        measured = datetime.fromisoformat(alert["values"][0]["time"])
        detail = running.get(f"alerts/{alert['id']}")
        assert detail["events"][0]["kind"] == "raised"
        assert datetime.now(UTC) - started < timedelta(seconds=40)
        # Written with a resolution of one second, rounded down: within a second of the reading.
        assert datetime.fromisoformat(alert["raised"]) - measured < timedelta(seconds=2)
        history = readings(running, patient)
        before = [
            basis
            for at, basis in zip(history["time"], history["basis"], strict=True)
            if datetime.fromisoformat(at) < started.replace(microsecond=0)
        ]
        assert len(before) == sum(1 for at, _ in series if at < align)
        assert set(before) == {"device_assumed_zone"}
        acknowledged = running.request("POST", f"alerts/{alert['id']}/acknowledge", json={"note": "calling"})
        assert acknowledged["state"] == "active_ack"

        def resolved() -> bool:
            return bool(running.get(f"alerts/{alert['id']}")["state"] == "resolved")

        eventually(resolved, within_s=120, what="the rise above the limit")
    finally:
        replay.kill()
        replay.wait()
    before_kill = running.get(f"alerts/{alert['id']}")
    running.settled("cgm-2")
    stored = readings(running, patient)
    running.kill("core")
    running.kill("gateway")
    running.until_ready()
    assert running.get(f"alerts/{alert['id']}") == before_kill
    assert [event["kind"] for event in before_kill["events"]] == ["raised", "acknowledged", "resolved"]
    assert readings(running, patient) == stored
    assert len(running.get("alerts", patient=patient)["items"]) == 1
    no_names_in_the_clear(running.data)
