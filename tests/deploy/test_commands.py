"""The command line against its contract: results, exit codes, with and without an owner."""

import json
import os
import stat
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.devices import in_words
from tests.deploy.conftest import CLI, Running, run_cli
from tests.support import FIXTURES

RECORDING = FIXTURES / "cgm" / "clarity.csv"


def on(data: Path) -> tuple[str, str]:
    return "--data-dir", str(data)


def test_the_version_is_that_of_the_package() -> None:
    done = subprocess.run([*CLI, "--version"], capture_output=True, text=True, timeout=180, check=True)
    assert done.stdout == f"vitalgate {version('vitalgate')}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "ward.toml"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[gateway]\nmax_packets = 1\n", "gateway.max_packets: unknown setting, did you mean max_packet?"),
        ("[gatway]\nmax_packet = 1\n", "gatway: unknown setting, did you mean gateway?"),
        ("[http]\nlisten = 'nowhere'\n", "http.listen: "),
        ("[store]\nmemory_mb = 'lots'\n", "store.memory_mb: "),
        ("[store]\nmemory_mb = 1\n", "store.memory_mb: "),
        ("[gateway]\nmax_connections = 0\n", "gateway.max_connections: must be positive"),
        ("[gateway]\nmax_connections = true\n", "gateway.max_connections: expected a number"),
        ("[mqtt]\ntls_listen = '127.0.0.1:0'\n", "mqtt.tls_cert: is needed for mqtt.tls_listen"),
        (
            "[mqtt]\ntls_listen = '127.0.0.1:0'\ntls_cert = '/nowhere'\ntls_key = '/nowhere'\n",
            "mqtt.tls_cert: /nowhere",
        ),
        ("[mqtt]\ntls_listen = 'nowhere'\n", "mqtt.tls_listen"),
        ("http = 1\n", "http: is a section"),
        ("[http\n", "not TOML"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(config: Path, data: Path, text: str, named: str) -> None:
    config.write_text(text)
    for arguments in (("check-config", str(config)), ("up", *on(data), "--config", str(config))):
        said = run_cli(*arguments, expect=3)
        assert named in said
        assert len(said.splitlines()) == 1
    assert not data.exists(), "nothing is opened before the settings are known to be right"


def test_a_right_settings_file_passes(config: Path) -> None:
    config.write_text("[gateway]\nmax_packet = 65536\nheartbeat_s = 0.5\n[http]\nlisten = '127.0.0.1:0'\n")
    assert run_cli("check-config", str(config), "--json") == {"ok": True}
    assert "No such file" in run_cli("check-config", str(config) + ".missing", expect=3)


def test_usage_errors_exit_2(data: Path) -> None:
    assert "No such command" in run_cli("frobnicate", expect=2)
    assert "Missing option" in run_cli("patient", "add", *on(data), expect=2)
    assert "--http" in run_cli("up", *on(data), "--http", "nonsense", expect=2)


@pytest.mark.parametrize("door", ["--mqtt", "--http"])
def test_beyond_loopback_without_tls_is_refused(data: Path, door: str) -> None:
    assert "loopback" in run_cli("up", *on(data), door, "0.0.0.0:0", expect=3)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("tls_cert = 'server.crt'", "http.tls_key"),
        ("tls_key = 'server.key'", "http.tls_cert"),
        ("tls_cert = 'none.crt'\ntls_key = 'none.key'", "http.tls_cert"),
    ],
)
def test_half_a_certificate_is_refused(tmp_path: Path, lines: str, named: str) -> None:
    config = tmp_path / "ward.toml"
    config.write_text(f"[http]\n{lines}\n")
    assert named in run_cli("check-config", str(config), expect=3)


def test_commands_without_an_owner_work_on_the_directory(data: Path) -> None:
    given = ("--name", "Ada Example", "--birth-date", "1970-01-01", "--zone", "Europe/Berlin")
    patient = run_cli("patient", "add", *given, *on(data))["patient"]
    assert patient.startswith("p_")
    (listed,) = run_cli("patient", "list", "--json", *on(data))["items"]
    assert listed["name"] == "Ada Example"
    assert listed["birth_date"] == "1970-01-01"
    assert run_cli("patient", "status", patient, "paused", *on(data)) == {"patient": patient, "status": "paused"}
    added = run_cli("device", "add", "--adapter", "ble_glucose", "--id", "meter-1", *on(data))
    assert added["device"] == "meter-1"
    assert run_cli("device", "set", "meter-1", "--expect", "8h", *on(data))["expected_interval_s"] == 8 * 3600
    assert "15m" in run_cli("device", "set", "meter-1", "--expect", "soon", *on(data), expect=2)
    assert run_cli("device", "rotate", "meter-1", *on(data))["secret"] != added["secret"]
    assert run_cli("device", "assign", "meter-1", patient, *on(data))["patient"] == patient
    assert run_cli("device", "revoke", "meter-1", *on(data))["revoked"]
    (device,) = run_cli("device", "list", "--json", *on(data))["items"]
    assert device["revoked"] is not None
    assert (device["online"], device["overdue"], device["faults"]) == (None, None, [])
    cloud = run_cli("device", "add", "--adapter", "dexcom", "--id", "cloud-1", *on(data))
    assert "cannot page" in cloud["cannot_page"][0]["reason"]
    run_cli("device", "revoke", "cloud-1", *on(data))
    run_cli("device", "add", "--adapter", "json", "--id", "watch-1", "--expect", "15m", *on(data))
    listed = {one["device"]: one for one in run_cli("device", "list", "--json", *on(data))["items"]}
    assert (listed["watch-1"]["expected_interval_s"], listed["watch-1"]["overdue"]) == (900, False)
    assert run_cli("token", "create", "--role", "viewer", *on(data))["token"].startswith("vg_")
    assert run_cli("quarantine", "list", "--json", *on(data)) == {"items": [], "next": None}
    assert run_cli("unassigned", "list", "--json", *on(data)) == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, {"online": None, "overdue": None, "battery": "", "faults": ""}),
        ({"online": True, "overdue": False, "battery": 80.0, "battery_low": False},
         {"online": "yes", "overdue": "no", "battery": "80 %"}),
        ({"battery": 12.5, "battery_low": True}, {"battery": "12.5 % low"}),
        ({"battery_low": True}, {"battery": "low"}),
        ({"faults": [{"kind": "clock_fault", "detail": "time_fault"}, {"kind": "flapping", "detail": "reconnects"}]},
         {"faults": "clock_fault: time_fault, flapping: reconnects"}),
    ],
)  # fmt: skip
def test_a_device_in_words(change: dict[str, Any], shown: dict[str, Any]) -> None:
    item = {"device": "d", "online": None, "overdue": None, "battery": None, "battery_low": None, "faults": []}
    said = in_words(item | change)
    assert {name: said[name] for name in shown} == shown


def test_errors_have_their_exit_codes(data: Path) -> None:
    run_cli("patient", "add", "--name", "First Patient", *on(data))
    assert "meter-9" in run_cli("device", "rotate", "meter-9", *on(data), expect=5)
    assert "item" in run_cli("quarantine", "show", "17", *on(data), expect=5)
    assert "item" in run_cli("unassigned", "show", "17", *on(data), expect=5)
    assert "patient" in run_cli("unassigned", "assign", "17", "p_none", *on(data), expect=5)
    assert "item" in run_cli("unassigned", "discard", "17", "--reason", "a drill", *on(data), expect=5)
    assert "adapter" in run_cli("device", "add", "--adapter", "abacus", *on(data), expect=2)
    assert "vitalgate up" in run_cli("replay", str(RECORDING), "--device", "cgm-1", *on(data), expect=4)
    assert "role" in run_cli("token", "create", "--role", "emperor", *on(data), expect=2)


@pytest.mark.parametrize("command", [
    ("patient", "list"), ("patient", "status", "p_none", "paused"), ("device", "list"), ("device", "rotate", "meter-9"),
    ("device", "assign", "meter-9", "p_none"), ("quarantine", "list"), ("unassigned", "list"), ("programme", "list"),
    ("report", "glucose", "p_none"), ("import", str(RECORDING), "--device", "cgm-1"),
])  # fmt: skip
@pytest.mark.parametrize("there", [False, True])
def test_a_mistyped_directory_is_told_and_nothing_is_made(
    tmp_path: Path, command: tuple[str, ...], there: bool
) -> None:
    mistyped = tmp_path / "wrad"
    if there:
        mistyped.mkdir()
    assert "no such data directory: " in run_cli(*command, *on(mistyped), expect=5)
    assert not mistyped.exists() or not [*mistyped.iterdir()]


def test_files_are_their_owners_alone(data: Path) -> None:
    run_cli("patient", "add", "--name", "Ada", *on(data))
    assert stat.S_IMODE(os.stat(data).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(data / "vault.key").st_mode) == 0o600
    for path in data.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name


def test_import_stores_a_file_as_history_and_again_adds_nothing(data: Path) -> None:
    patient = run_cli("patient", "add", "--name", "Joe", *on(data))["patient"]
    run_cli("device", "add", "--adapter", "clarity", "--id", "cgm-1", *on(data))
    run_cli("device", "assign", "cgm-1", patient, *on(data))
    first = run_cli("import", str(RECORDING), "--device", "cgm-1", *on(data))
    assert first["ledger"]["readings"]["stored"] == 2148
    second = run_cli("import", str(RECORDING), "--device", "cgm-1", *on(data))
    assert second["ledger"]["readings"]["stored"] == 0
    assert second["ledger"]["readings"]["duplicate"] == 2148
    assert "FILE" in run_cli("import", str(data / "nothing.csv"), "--device", "cgm-1", *on(data), expect=2)


def test_simulate_fills_a_running_ward(running: Running) -> None:
    faults = "dropout=0.1,duplicate=0.1,garbage=0.1,reorder=0.1,skew=0.2"
    options = ("--patients", "5", "--seconds", "3", "--speed", "20", "--seed", "3")
    done = running.cli("simulate", *options, "--faults", faults)
    assert done["patients"] == 5
    assert done["acked"] == done["messages"] > 20
    assert done["failures"] == {}
    ledger = running.get("system")["conservation"]["messages"]
    assert ledger["received"] == done["messages"]
    assert ledger["quarantined"] > 0, "garbage ends in quarantine"
    assert ledger["decoded"] > 0


def test_simulated_devices_speak_the_formats_that_are_asked_for(running: Running) -> None:
    formats = "fhir/bundle,ble_blood_pressure/2a35,omh/step-count-3.0,withings"
    done = running.cli("simulate", "--patients", "2", "--seconds", "3", "--format", formats, "--faults", "resync=1.5")
    assert done["devices"] == 8
    assert done["acked"] == done["messages"] == 8
    messages = running.get("system")["conservation"]["messages"]
    assert (messages["received"], messages["quarantined"]) == (8, 0)
    assert "did you mean" in run_cli("simulate", "--format", "fhir/bundel", *on(running.data), expect=2)


def test_undecodable_is_listed_shown_and_replayed(running: Running) -> None:
    device = running.cli("device", "add", "--adapter", "json", "--id", "meter-1")
    running.cli(
        "simulate", "--patients", "1", "--seconds", "1", "--faults", "garbage=1.0", "--seed", "1", "--speed", "30"
    )
    items = running.cli("quarantine", "list", "--json")["items"]
    assert items
    shown = running.cli("quarantine", "show", items[0]["id"])
    assert shown["reason"] == items[0]["reason"]
    assert "payload_base64" in shown
    counts = running.cli("quarantine", "replay", items[0]["id"])
    assert counts == {"decoded": 0, "duplicate": 0, "quarantined": 1}, "nothing was fixed, so it stays"
    assert device["secret"] not in json.dumps(items)
