"""``vitalgate import`` against a real pipeline: large files, interruptions, files of several kinds."""

import json
import os
import re
import signal
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from simulators.apple_export import Written, write_export
from tests.deploy.conftest import CLI, ROOT, Running, run_cli
from tests.support import eventually

RECORDS = 30_000
CASE = ROOT / "tests" / "fixtures" / "cases" / "apple-export-control-char"


def export(path: Path, records: int = RECORDS) -> Written:
    with path.open("wb") as stream:
        return write_export(stream, records, seed=3)


def enrol(running: Running, adapter: str, device: str) -> None:
    patient = running.request("POST", "patients", json={"name": "Ada", "zone": "Europe/Berlin"})["patient"]
    running.request("POST", "devices", json={"adapter": adapter, "id": device})
    body = {"patient": patient, "from": "2015-01-01T00:00:00Z"}
    running.request("POST", f"devices/{device}/assign", json=body)


def start(running: Running, file: Path, device: str) -> "subprocess.Popen[bytes]":
    command = [*CLI, "import", str(file), "--device", device, "--data-dir", str(running.data)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def partly(running: Running, file: Path, device: str) -> Any:
    """An import that leaves something out: exit code 1, each problem on standard error; its answer."""
    done = start(running, file, device)
    answer, said = done.communicate(timeout=180)
    assert done.returncode == 1, said.decode()
    found = json.loads(answer)
    assert found["partial"] is True
    assert all(problem in said.decode() for problem in found["problems"]["first"])
    return found


def marks(running: Running) -> list[dict[str, int]]:
    return [json.loads(path.read_text()) for path in (running.data / "imports").glob("*.json")]


def readings(answer: Any) -> tuple[int, int]:
    found = answer["ledger"]["readings"]
    return found["stored"], found["duplicate"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_is_stopped_goes_on_and_again_adds_nothing(
    running: Running, tmp_path: Path, how: signal.Signals
) -> None:
    enrol(running, "apple_health", "phone")
    file = tmp_path / "export.xml"
    written = export(file, 300_000)
    process = start(running, file, "phone")
    eventually(lambda: any(mark["pieces"] >= 4 for mark in marks(running)), within_s=60, what="some is acknowledged")
    os.kill(process.pid, how)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert (b"run the same command again to continue" in said) == (how is signal.SIGINT)
    (mark,) = marks(running)
    acknowledged = mark["pieces"]
    between = running.settled("phone")
    assert between["messages"]["received"] >= acknowledged > 0, "nothing is passed over that was not acknowledged"
    done = running.cli("import", str(file), "--device", "phone")
    assert done["skipped"] == acknowledged, "it goes on where it was"
    ledger = running.settled("phone")
    assert ledger["readings"]["stored"] == written.distinct
    assert ledger["messages"]["quarantined"] == 0
    assert not (running.data / "imports").exists(), "nothing is left of a finished import"
    again = running.cli("import", str(file), "--device", "phone")
    assert again["skipped"] == 0
    assert readings(again) == (0, written.records)
    assert running.get("alerts")["items"] == [], "history pages nobody"


def test_an_archive_and_its_file_are_the_same_history(running: Running, tmp_path: Path) -> None:
    enrol(running, "apple_health", "phone")
    file, archive = tmp_path / "export.xml", tmp_path / "export.zip"
    written = export(file)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(file, "apple_health_export/export.xml")
    first = running.cli("import", str(archive), "--device", "phone")
    assert readings(first) == (written.distinct, written.records - written.distinct)
    assert first["records"] == written.records - 4 * (RECORDS // 1000), "a correlation is one element"
    assert first["problems"] == {"count": 0, "first": []}
    assert first["partial"] is False
    assert readings(running.cli("import", str(file), "--device", "phone")) == (0, written.records)


def test_a_file_that_breaks_off_is_imported_up_to_there_and_said(running: Running, tmp_path: Path) -> None:
    enrol(running, "apple_health", "phone")
    file = tmp_path / "export.xml"
    export(file, 1000)
    file.write_bytes(file.read_bytes()[:-60_000])
    done = partly(running, file, "phone")
    assert done["problems"]["count"] == 1
    assert ": not XML at byte " in done["problems"]["first"][0]
    assert done["ledger"]["readings"]["stored"] > 500
    assert done["ledger"]["messages"]["quarantined"] == 0


def test_a_control_character_in_a_name_costs_nothing_and_a_broken_record_itself(
    running: Running, tmp_path: Path
) -> None:
    expected = json.loads((CASE / "expected.json").read_text())
    enrol(running, "apple_health", "phone")
    done = running.cli("import", str(CASE / "export.xml"), "--device", "phone")
    assert (done["partial"], done["problems"]["count"]) == (False, 0)
    patient = running.get("devices/phone")["patient"]

    def values() -> Any:
        return running.get(f"patients/{patient}/readings", vital="heart_rate", resolution="raw")["value"]

    assert values() == expected["readings"]
    file = tmp_path / "export.xml"
    later = (CASE / "export.xml").read_bytes().replace(b"2022-11-01", b"2022-11-02")
    file.write_bytes(later.replace(b'value="62"', b"value=62"))
    done = partly(running, file, "phone")
    assert values() == [*expected["readings"], 61, 63]
    assert done["problems"]["count"] == 1
    assert re.fullmatch(r"line 20: not XML at byte \d+; left out", done["problems"]["first"][0])


def test_records_that_the_adapter_refuses_are_named_by_their_place(running: Running, tmp_path: Path) -> None:
    enrol(running, "clarity", "cgm")
    rows = [f"2024-01-01T{number // 60:02}:{number % 60:02}:00,EGV,{100 + number % 50}" for number in range(900)]
    rows[400], rows[700] = "2024-01-01T99:00:00,EGV,120", "2024-01-01T11:40:00,EGV,1l0"
    file = tmp_path / "clarity.csv"
    file.write_text("\n".join(["Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Glucose Value (mg/dL)", *rows]))
    done = partly(running, file, "cgm")
    assert done["problems"] == {
        "count": 2, "first": ["line 402: bad_time: row 1: timestamp", "line 702: bad_value: row 1: glucose"],
    }  # fmt: skip
    assert done["ledger"]["readings"]["stored"] == 898


def test_other_containers(running: Running, tmp_path: Path) -> None:
    enrol(running, "json", "hub")
    lines = tmp_path / "readings.ndjson"
    lines.write_text("".join(
        f'{{"vital":"weight","value":70.{number % 10},"unit":"kg","time":"2024-01-01T00:00:{number:02}Z"}}\n'
        for number in range(60)
    ))  # fmt: skip
    assert readings(running.cli("import", str(lines), "--device", "hub")) == (60, 0)
    enrol(running, "ble_glucose", "meter")
    packets = tmp_path / "meter.txt"
    packets.write_text("# a reading, with its location\n2a18 0a 2a00 e807030a081e00 69b0 11 0000\nno packet\n")
    done = partly(running, packets, "meter")
    assert done["records"] == done["acked"] == 1
    assert done["problems"] == {"count": 1, "first": ["line 3: no characteristic and packet in hex"]}


def test_what_cannot_be_imported_is_refused(running: Running, tmp_path: Path) -> None:
    enrol(running, "apple_health", "phone")
    file = tmp_path / "export.xml"
    file.write_text("Index,Timestamp\n1,2\n")
    on = ("--data-dir", str(running.data))
    assert "no element HealthData" in run_cli("import", str(file), "--device", "phone", *on, expect=2)
    assert "one of export" in run_cli("import", str(file), "--device", "phone", "--kind", "x", *on, expect=2)
    assert "FILE" in run_cli("import", str(tmp_path), "--device", "phone", *on, expect=2)
    assert "nobody" in run_cli("import", str(file), "--device", "nobody", *on, expect=5)
    assert not (running.data / "imports").exists()
