"""``vitalgate report glucose`` on a real recording, with a running pipeline and without."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import CLI, ROOT, Running, run_cli
from tests.support import FIXTURES

RECORDING = FIXTURES / "cgm" / "clarity.csv"
EXPECTED = json.loads((FIXTURES / "cgm" / "expected.json").read_text())
PERIOD = ("--start", "2016-10-24T15:24:17Z", "--end", "2016-11-01T13:24:02Z")
"""The first and five minutes after the last reading, in the patient's zone four hours behind UTC."""


def printed(*arguments: str) -> str:
    done = subprocess.run(
        [*CLI, *arguments], capture_output=True, cwd=ROOT, timeout=120, check=True, env=os.environ | {"COLUMNS": "100"}
    )
    return done.stdout.decode()


def imported(running: Running, device: str, *zone: str) -> str:
    patient = str(running.cli("patient", "add", "--name", "Joe", *zone)["patient"])
    running.cli("device", "add", "--adapter", "clarity", "--id", device)
    running.cli("device", "assign", device, patient)
    assert running.cli("import", str(RECORDING), "--device", device)["ledger"]["readings"]["stored"] == 2148
    return patient


def test_a_recording_has_its_published_numbers_with_and_without_an_owner(running: Running) -> None:
    patient = imported(running, "cgm-1", "--zone", "America/New_York")
    asked, on = ("report", "glucose", patient, *PERIOD), ("--data-dir", str(running.data))
    found = running.cli(*asked, "--json")
    names = set(EXPECTED["expected"]) & set(found["metrics"])
    assert {"n", "mean_mg_dl", "gmi_percent", "tir_70_180_percent", "gri"} < names
    for name in sorted(names):
        assert found["metrics"][name] == pytest.approx(EXPECTED["expected"][name], rel=1e-9), name
    enough = found["sufficiency"]
    assert enough["active_percent"] == pytest.approx(EXPECTED["file"]["active_percent"], rel=1e-9)
    assert enough["expected"] == EXPECTED["file"]["expected_readings_5_min"]
    assert enough["days_worn"] == len(EXPECTED["file"]["readings_per_day"])
    assert enough["reasons"] == ["under_14_days"]
    assert found == running.get(f"patients/{patient}/reports/glucose", start=PERIOD[1], end=PERIOD[3])
    text = printed(*asked, *on)
    for line in (
        "Insufficient data: 7.92 days, sensor active 94.2 % of them; 14 days with 70 % are needed.",
        " in range 70 to 180 mg/dL           94.0 %        > 70 % ",
        " mean                            112 mg/dL",
        " low, level 1           5  165 min           49 mg/dL",
        "mg/dL by time of day, America/New_York",
    ):
        assert line in text
    assert "No sensor readings in this period" in printed("report", "glucose", patient, *on)
    assert running.stop() == 0
    assert run_cli(*asked, "--json", *on) == found
    text = printed(*asked, "--unit", "mmol/L", *on)
    for line in (
        " in range 3.9 to 10.0 mmol/L        94.0 %",
        " mean                           6.2 mmol/L",
        "9.4  10.1",
    ):
        assert line in text


def test_readings_of_no_known_time_are_left_out_and_said(running: Running) -> None:
    patient = imported(running, "cgm-2")
    asked = ("report", "glucose", patient, "--end", "2016-11-05T00:00:00Z")
    found = running.cli(*asked, "--json")
    assert found["readings"]["left_out"] == {"no_time": 2148}
    assert found["sufficiency"]["reasons"] == ["no_readings", "under_70_percent_active"]
    assert "Readings left out: no time 2148." in printed(*asked, "--data-dir", str(running.data))


def test_errors_have_their_exit_codes(data: Path) -> None:
    on = ("--data-dir", str(data))
    patient = run_cli("patient", "add", "--name", "Joe", *on)["patient"]
    assert "no such patient" in run_cli("report", "glucose", "p_none", *on, expect=5)
    assert "start" in run_cli("report", "glucose", patient, "--start", "yesterday", *on, expect=2)
    assert "either start or days" in run_cli("report", "glucose", patient, *PERIOD, "--days", "3", *on, expect=2)
    assert "--unit" in run_cli("report", "glucose", patient, "--unit", "g/L", *on, expect=2)
