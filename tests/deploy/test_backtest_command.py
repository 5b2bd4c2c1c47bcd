"""``vitalgate backtest``: on files, on a running pipeline, and on a directory that nothing runs on."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from deploy.backtest.csv import read
from tests.deploy.conftest import CLI, ROOT, Running, run_cli
from tests.support import eventually
from vitals.catalog import BY_KEY
from vitals.errors import InvalidRequest
from vitals.glossary import Flag

LIMIT = {"vital": "spo2", "unit": "%", "low": 90.0, "severity": "S2", "deadband": 2.0}
SHORT = """time,value
2026-01-05T08:00:00Z,95
2026-01-05T08:01:00Z,85
2026-01-05T08:02:00Z,89
2026-01-05T08:03:00Z,95
2026-01-05T08:24:00Z,89
2026-01-05T08:25:00Z,95
"""
LONG = """patient,time,vital,value,unit,received
ada,2026-01-05T08:00:00Z,spo2,0.85,{fraction},2026-01-05T08:00:05Z
ada,1767600060000,spo2,95,%,1767600065000
ben,2026-01-05T08:00:30+00:00,glucose_isf,LO,mmol/L,2026-01-05T08:00:40Z
ben,2026-01-05T09:00:30+01:00,pulse_rate,70,bpm,2026-01-05T08:00:40Z
ada,2026-01-05T07:00:00Z,spo2,80,%,2026-01-05T11:30:00Z
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return written(tmp_path / "limits.json", [LIMIT])


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def printed(*arguments: str) -> str:
    done = subprocess.run(
        [*CLI, "backtest", *arguments], capture_output=True, cwd=ROOT, timeout=120, check=True,
        env=os.environ | {"COLUMNS": "120"},
    )  # fmt: skip
    return done.stdout.decode()


def on_file(path: Path, *arguments: str, expect: int = 0) -> Any:
    """Needs no data directory: the default one does not exist."""
    nowhere = str(path.parent / "none")
    return run_cli("backtest", "--csv", str(path), *arguments, "--json", "--data-dir", nowhere, expect=expect)


def test_a_file_of_times_and_values(tmp_path: Path, rules: Path) -> None:
    file = written(tmp_path / "spo2.csv", SHORT)
    found = on_file(file, "--protocol", str(rules), "--vital", "spo2", "--unit", "%")
    assert (found["start"], found["end"], found["replayed"]) == (
        "2026-01-05T08:00:00Z", "2026-01-05T08:25:00Z", "as measured",
    )  # fmt: skip
    assert [(item["raised"], item["ended"]) for item in found["timeline"]["items"]] == [
        ("2026-01-05T08:01:00Z", "2026-01-05T08:03:00Z"), ("2026-01-05T08:24:00Z", "2026-01-05T08:25:00Z"),
    ]  # fmt: skip
    assert (found["candidate"]["pages"], found["candidate"]["alarm_s"]) == (2, 180.0)
    assert not (tmp_path / "none").exists()


def test_the_report_is_in_words(tmp_path: Path, rules: Path) -> None:
    file, stricter = written(tmp_path / "spo2.csv", SHORT), written(tmp_path / "88.json", [LIMIT | {"low": 88.0}])
    asked = ("--csv", str(file), "--vital", "spo2", "--unit", "%")
    text = printed("--protocol", str(stricter), "--against", str(rules), *asked)
    for line in (
        "These rules would have paged 7.0 times a week per patient, 50 % fewer than the others (14.0).",
        "6 readings on 1 patient-day, 6 judged; 0 days between them without any.",
        " limit:spo2:low:S2  S2        1      1   1.00         1     0.0 h            0           0",
        " limit:spo2:low:S2  S2        2      2   2.00         1     0.1 h            0           0",
        "The others: 14.00, over the budget.",
        "New: 0.",
        "1 of 1 patient make more than half of the alerts: patient.",
    ):
        assert line in text
    alone = printed("--protocol", str(stricter), *asked)
    assert "would have paged 7.0 times a week per patient.\n" in alone
    assert "Not raised any more" not in alone


def test_labelled_onsets_say_what_the_alerts_found(tmp_path: Path, rules: Path) -> None:
    file, mild = written(tmp_path / "spo2.csv", SHORT), written(tmp_path / "70.json", [LIMIT | {"low": 70.0}])
    onsets = "kind,patient,time\nfall,patient,2026-01-05T08:10:00Z\nfall,patient,2026-01-05T12:00:00Z\n"
    events = written(tmp_path / "events.csv", onsets)
    asked = ("--vital", "spo2", "--unit", "%", "--events", str(events))
    found = on_file(file, "--protocol", str(rules), "--against", str(mild), *asked)
    [_, medium, _] = found["candidate"]["detection"]["curve"]
    assert (medium["hits"], medium["sensitivity"], medium["lead_s"]) == (1, 0.5, 540.0)
    assert (medium["low"], medium["high"]) == (0.0945, 0.9055)
    assert found["reference"]["detection"]["curve"][1]["hits"] == 0
    text = printed("--csv", str(file), "--protocol", str(rules), *asked)
    assert "Rules to try: 2 labelled onsets, found from 60 min before to 10 min after" in text
    assert "S2 1 50 % 9 to 91 % 9 min 14.00 7.00" in " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("patient,when\np,2026-01-05T08:00:00Z\n", "--events: row 1: the header has no patient, or no time"),
        ("patient,time\np,yesterday\n", "--events: row 2, column time: not an RFC 3339 time"),
        ("patient,time\n", "no rows"),
        ("patient,time\np\n", "--events: row 2: 1 cells, the header has 2"),
    ],
)
def test_events_that_cannot_be_read_are_named(tmp_path: Path, rules: Path, text: str, problem: str) -> None:
    file, events = written(tmp_path / "spo2.csv", SHORT), written(tmp_path / "events.csv", text)
    asked = ("--protocol", str(rules), "--vital", "spo2", "--unit", "%", "--events", str(events))
    assert problem in on_file(file, *asked, expect=2)


def test_a_file_of_patients_vitals_and_receipts(tmp_path: Path, rules: Path) -> None:
    low = {"vital": "glucose_isf", "unit": "mmol/L", "low": 3.9, "severity": "S1"}
    file, both = written(tmp_path / "ward.csv", LONG), written(tmp_path / "both.json", [LIMIT, low])
    found = on_file(file, "--protocol", str(both))
    assert found["replayed"] == "in order of arrival"
    assert [(item["patient"], item["rule"], item["raised"]) for item in found["timeline"]["items"]] == [
        ("ada", "limit:spo2:low:S2", "2026-01-05T08:00:05Z"),
        # Of her no glucose came at all while other readings did; his readings end with the first.
        ("ada", "silence:glucose_isf", "2026-01-05T09:00:00Z"),
        ("ben", "limit:glucose_isf:low:S1", "2026-01-05T08:00:40Z"),
    ]
    assert found["data"]["unjudged"] == {"late": 1}
    measured = on_file(file, "--protocol", str(both), "--as-measured", "--patients", "ada")
    assert [(item["rule"], item["raised"]) for item in measured["timeline"]["items"]] == [
        ("limit:spo2:low:S2", "2026-01-05T07:00:00Z"), ("silence:glucose_isf", "2026-01-05T08:00:00Z"),
    ]  # fmt: skip
    assert measured["data"]["patients"] == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time,value\n2026-01-05T08:00:00Z,95\nyesterday,95\n", "row 3, column time: not an RFC 3339 time"),
        ("time,value\n2026-01-05T08:00:00,95\n", "row 2, column time: not an RFC 3339 time"),
        ("time,value\n\n2026-01-05T08:00:00Z,95 %\n", "row 3, column value: is no number"),
        ("time,value\n2026-01-05T08:00:00Z,nan\n", "row 2, column value: is no finite number"),
        ("time,value\n2026-01-05T08:00:00Z,\n", "row 2, column value: is no number"),
        ("time,value\n2026-01-05T08:00:00Z\n", "row 2: 1 cells, the header has 2"),
        ("time,value\n99999999999999,95\n", "row 2, column time: milliseconds since 1970 beyond the year 2261"),
        ("when,value\n2026-01-05T08:00:00Z,95\n", "row 1: the header is time,value, or patient,time,vital,value,unit"),
        ("time,value\n", "no rows"),
        ("", "row 1: the header is"),
        ('time,value\n"2026,95\n', "is no CSV file"),
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_read_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(written(tmp_path / "wrong.csv", text), "spo2", "%")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("ada,2026-01-05T08:00:00Z,spo3,95,%,", "row 2, column vital: is no vital sign of the catalogue"),
        ("ada,2026-01-05T08:00:00Z,bp,95,mm[Hg],", "row 2, column vital: is no vital sign of the catalogue"),
        ("ada,2026-01-05T08:00:00Z,spo2,95,mmol/L,", "row 2, column unit: does not measure spo2"),
        (",2026-01-05T08:00:00Z,spo2,95,%,", "row 2, column patient: is empty or has control characters"),
        ("ada,2026-01-05T08:00:00Z,spo2,95,%,", "row 2, column received: not an RFC 3339 time"),
        ("ada,2026-01-05T08:00:00Z,spo2,95,%,2026-01-05T07:00:00Z", "row 2, column received: is before the"),
        ("ada,2026-01-05T08:00:00Z,acvpu,7,{code},2026-01-05T08:00:00Z", "row 2, column value: is none of A, C, V"),
    ],
)  # fmt: skip
def test_rows_of_patients_are_checked_too(tmp_path: Path, row: str, problem: str) -> None:
    file = written(tmp_path / "wrong.csv", f"patient,time,vital,value,unit,received\n{row}\n")
    with pytest.raises(InvalidRequest) as caught:
        read(file, None, None)
    assert problem in str(caught.value)


def test_readings_are_flagged_and_converted_as_ingest_does(tmp_path: Path) -> None:
    batch = read(written(tmp_path / "ward.csv", LONG), None, None)
    assert batch.patients == ("ada", "ben")
    spo2 = batch.vital == BY_KEY["spo2"].code
    assert batch.value[spo2].tolist() == [85.0, 95.0, 80.0]
    assert batch.flags[spo2].tolist() == [0, 0, Flag.LATE]
    assert batch.flags[batch.vital == BY_KEY["glucose_isf"].code].tolist() == [Flag.BELOW_RANGE]
    assert (np.diff(batch.received_ns) >= 0).all()
    rare = written(tmp_path / "rare.csv", "time,value\n2026-01-05T08:00:00Z,60\n2026-01-05T08:01:00Z,30\n")
    assert read(rare, "spo2", "%").flags.tolist() == [Flag.SUSPECT, Flag.IMPLAUSIBLE]
    with pytest.raises(InvalidRequest, match="needs --vital and --unit"):
        read(rare, None, None)
    with pytest.raises(InvalidRequest, match="says vital and unit itself"):
        read(tmp_path / "ward.csv", "spo2", "%")
    with pytest.raises(InvalidRequest, match="missing"):
        read(tmp_path / "missing.csv", "spo2", "%")


def test_wrong_options_and_rules_are_usage_errors(tmp_path: Path, rules: Path) -> None:
    file = written(tmp_path / "spo2.csv", SHORT)
    measure = ("--vital", "spo2", "--unit", "%")
    assert "--from" in on_file(file, "--protocol", str(rules), "--from", "2026-01-05T08:00:00Z", *measure, expect=2)
    assert "not in the file" in on_file(file, "--protocol", str(rules), "--patients", "p_1", *measure, expect=2)
    assert "none.json" in on_file(file, "--protocol", str(tmp_path / "none.json"), *measure, expect=2)
    broken = written(tmp_path / "broken.toml", "rules = [")
    assert "is no TOML" in on_file(file, "--protocol", str(broken), *measure, expect=2)
    wrong = written(tmp_path / "wrong.json", [LIMIT | {"low": "x"}])
    assert "[0].low" in on_file(file, "--protocol", str(wrong), *measure, expect=2)


def test_readings_of_a_ward_with_and_without_an_owner(running: Running, rules: Path, tmp_path: Path) -> None:
    patient = str(running.cli("patient", "add", "--name", "Ada")["patient"])
    device = running.cli("device", "add", "--adapter", "json")
    running.cli("device", "assign", device["device"], patient)
    running.request("PUT", f"patients/{patient}/limits", json=[LIMIT])
    now = datetime.now(UTC).replace(microsecond=0)
    values = (95, 85, 95, 89, 95)
    body = [
        {"vital": "spo2", "value": value, "unit": "%", "time": (now - timedelta(minutes=5 - n)).isoformat()}
        for n, value in enumerate(values)
    ]
    sent = httpx.post(
        f"{running.ready['http']}/v1/devices/{device['device']}/readings?adapter=json", json=body,
        auth=(device["device"], device["secret"]), timeout=30,
    )  # fmt: skip
    assert sent.status_code == 202
    received = datetime.now(UTC)
    running.settled(device["device"])
    # A period ends with a whole second that is over.
    eventually(lambda: datetime.now(UTC) > received + timedelta(seconds=1), what="the second of the receipt is over")
    stricter = written(tmp_path / "88.json", [LIMIT | {"low": 88.0}])
    asked = ("backtest", "--protocol", str(stricter), "--from", (now - timedelta(hours=1)).isoformat())
    found = running.cli(*asked, "--json")
    # All came at once: what is back within ten minutes is the same alert, and pages again.
    assert (found["candidate"]["pages"], found["reference"]["pages"]) == (1, 2)
    events = written(tmp_path / "events.csv", f"patient,time\n{patient},{now.isoformat()}\n")
    labelled = running.cli(*asked, "--events", str(events), "--json")
    assert labelled["candidate"]["detection"]["curve"][1]["hits"] == 1
    assert found["compared"]["change_percent"] == -50.0
    assert [row["patient"] for row in found["patients"] if row["readings"]] == [patient]
    # What really happened is what the replay of the rules in force says.
    real = [alert["rule"] for alert in running.get("alerts", patient=patient)["items"]]
    assert real == [item["rule"] for item in found["timeline"]["items"] if item["side"] == "reference"]
    text = printed(*asked[1:], "--patients", patient, "--data-dir", str(running.data))
    assert "50 % fewer than those in force" in text
    assert "no such patient" in run_cli(*asked, "--patients", "p_none", "--data-dir", str(running.data), expect=5)
    assert running.stop() == 0
    again = run_cli(*asked, "--to", found["end"], "--json", "--data-dir", str(running.data))
    assert again == found
