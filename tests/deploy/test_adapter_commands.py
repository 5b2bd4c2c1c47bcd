"""``vitalgate adapter``: what there is, what a payload gives, and a package for a new one."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deploy.cli import adapters
from deploy.cli.main import EXIT_CODES
from deploy.jobs.skeleton import create
from deploy.jobs.trial import identity_note, try_payload
from ingest.adapter import SourceClock
from ingest.adapters import BUILT_IN, built_in
from tests.adapters.decoding import ADAPTERS
from tests.adapters.test_adapter_golden_cases import FOUND, load
from tests.deploy.conftest import CLI, ROOT, run_cli
from tests.gateway.mllp_client import oru
from vitals.errors import ConfigError, InvalidRequest, VitalgateError
from vitals.glossary import Reason

RECEIVED_NS = 1_767_601_805 * 10**9
"""2026-01-05T08:30:05Z."""
PLX = "13 60 00 51 00 5F 00 54 00 61 00 4F 00 12 F0"
METER = "0x17 0C:00-E8 07 03 0A,07 1E 00 3C 00 3A C0 11\n"


APP = typer.Typer()
adapters.register(APP)


def adapter_cli(*arguments: str, given: bytes = b"") -> str:
    """``vitalgate adapter ...`` in this process; what it prints, or raises."""
    done = CliRunner().invoke(APP, ["adapter", *arguments], input=given, env={"COLUMNS": "200"})
    if isinstance(done.exception, VitalgateError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def beside(site: Path, *arguments: str) -> Any:
    """The same in a process of its own, with the packages in ``site`` installed; its JSON answer."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    done = subprocess.run(
        [*CLI, "adapter", *arguments, "--json"], capture_output=True, env=environment, timeout=120, check=True
    )
    return json.loads(done.stdout)


def test_list_has_every_adapter_with_its_kinds_and_vitals() -> None:
    items = run_cli("adapter", "list", "--json")["items"]
    assert items == [
        {"name": one.name, "title": one.title, "version": one.version, "kinds": list(one.kinds),
         "vitals": sorted(one.vitals)}
        for one in map(built_in, BUILT_IN)
    ]  # fmt: skip
    table = adapter_cli("list")
    assert all(f" {name} " in table for name in BUILT_IN)


def test_show_has_all_that_the_adapter_declares() -> None:
    one = ADAPTERS["ble_plx"]
    assert run_cli("adapter", "show", "ble_plx", "--json") == {
        "name": "ble_plx", "title": one.title, "version": one.version, "kinds": dict(one.kinds),
        "settings": dict(one.settings), "vitals": sorted(one.vitals), "max_payload": one.max_payload,
        "files": list(one.files), "identity": identity_note(one),
        "cannot_page": [],
    }  # fmt: skip
    text = " ".join(adapter_cli("show", "ble_plx").split())
    for word in (one.title, "kind 2a5e", "kind 2a5f", *one.vitals, "the device's timestamp as sent"):
        assert word in text


def test_try_shows_readings_as_the_api_would() -> None:
    arguments = ("try", "ble_glucose", "--payload", "-", "--hex", "--kind", "2a18", "--zone", "Europe/Berlin",
                 "--received", "2024-03-10T07:31:00Z")  # fmt: skip
    found = json.loads(adapter_cli(*arguments, "--json", given=METER.encode()))
    (reading,) = found["readings"]
    # Base time 07:30 and 60 minutes: 08:30 in Berlin.
    assert (reading["time"], reading["basis"], reading["seq"]) == ("2024-03-10T07:30:00Z", "device_assumed_zone", 12)
    assert reading["reported"] == {"value": 0.0058, "unit": "mol/L"}
    assert (round(reading["value"], 3), reading["unit"], reading["flags"]) == (104.506, "mg/dL", [])
    assert (found["rejects"], found["events"], found["duplicates"]) == ([], [], 0)
    assert set(reading) == {
        "device", "vital", "time", "end", "basis", "value", "unit", "reported", "statistic", "flags", "seq", "received",
        "context",
    }  # fmt: skip
    table = adapter_cli(*arguments, given=METER.encode())
    for words in ("104.50556 mg/dL", "2024-03-10T07:30:00Z", "device_assumed_zone", "reported 0.0058 mol/L",
                  "Events: none", "Rejects: none"):  # fmt: skip
        assert words in table


def test_try_shows_rejects_and_still_succeeds(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('[{"vital":"temp","value":98.6,"unit":"[degF]","time":"2026-01-05T08:30:00Z"},{"vital":"aura"}]')
    text = adapter_cli("try", "json", "--payload", str(payload), "--received", "2026-01-05T08:30:00Z")
    assert "37 Cel" in text
    assert "98.6 [degF]" in text, "units are no markup"
    assert re.search(r"missing_field +\$\[1\]\.value", text)


def test_try_shows_what_a_code_map_leaves_unknown_in_captured_messages(tmp_path: Path) -> None:
    capture, codes = tmp_path / "capture.hl7", tmp_path / "codes.toml"
    capture.write_bytes(
        b"".join(
            oru(f"N{number}", time=f"202403102104{number:02}-0400").replace(b"150456^MDC_PULS_OXIM_SAT_O2^MDC", code)
            for number, code in enumerate((b"SAT^^99X", b"SAT^^99X", b"RR^^99X"))
        )
    )
    arguments = ("try", "hl7v2", "--payload", str(capture), "--kind", "oru_r01", "--captured")
    without = json.loads(adapter_cli(*arguments, "--json"))
    assert [(one["code"].split()[0], one["count"]) for one in without["unknown_codes"]] == [
        ("99X:SAT", 2),
        ("99X:RR", 1),
    ]
    assert without["readings"] == []
    codes.write_text('version = 1\n[[codes]]\ncode = "SAT"\nsystem = "99X"\nvital = "spo2"\nunit = "%"\n')
    found = json.loads(adapter_cli(*arguments, "--code-map", str(codes), "--json"))
    assert [(one["code"].split()[0], one["count"]) for one in found["unknown_codes"]] == [("99X:RR", 1)]
    assert [(one["vital"], one["context"]["code_map"]) for one in found["readings"]] == [("spo2", "version 1")] * 2
    assert re.search(r"unknown_code +99X:RR", adapter_cli(*arguments, "--code-map", str(codes)))
    codes.write_text(codes.read_text() + "factor = 10\n")
    with pytest.raises(ConfigError, match=r"codes\.1\.factor"):
        adapter_cli(*arguments, "--code-map", str(codes))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["try", "telepathy", "--payload", "-"], 5, "no such adapter: telepathy"),
        (["show", "telepathy"], 5, "no such adapter: telepathy"),
        (["try", "json", "--payload", "nowhere.json"], 2, "--payload: nowhere.json: No such file"),
        (["try", "json", "--payload", "."], 2, "Is a directory"),
        (["try", "json", "--payload", "-", "--hex"], 2, "--payload: not hexadecimal text"),
        (["try", "json", "--payload", "-", "--zone", "Middle/Earth"], 2, "--zone: not an IANA time zone"),
        (["try", "json", "--payload", "-", "--received", "noon"], 2, "--received: not an RFC 3339 time"),
        (["try", "json", "--payload", "-", "--set", "quirk=1"], 2, "--set: json has no settings"),
        (["try", "json", "--payload", "-", "--set", "quirk"], 2, "--set: KEY=VALUE"),
        (["try", "json", "--payload", "-", "--code-map", "codes.toml"], 2, "--code-map: json has none"),
        (["try", "hl7v2", "--payload", "-", "--code-map", "codes.toml"], 2, "--code-map: codes.toml: cannot be read"),
        (["try", "ble_plx", "--payload", "-", "--kind", "odd", "--captured"], 2, "--captured: no kind of file"),
        (["try", "ble_plx", "--payload", "-"], 2, "--kind: one of 2a5e, 2a5f"),
        (["new", "Bad-Name"], 2, "NAME: a-z"),
        (["new", "json"], 2, "NAME: json is taken"),
    ],
)  # fmt: skip
def test_wrong_usage_is_named(
    arguments: list[str], code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VitalgateError) as caught:
        adapter_cli(*arguments, given=b"what is this")
    assert words in str(caught.value)
    assert EXIT_CODES[type(caught.value)] == code
    assert not list(tmp_path.iterdir())


def test_exit_codes_of_the_command() -> None:
    assert "no such adapter" in run_cli("adapter", "try", "telepathy", "--payload", "-", expect=5)
    assert "--payload" in run_cli("adapter", "try", "json", expect=2)


@pytest.mark.parametrize("case", FOUND, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_trial_agrees_with_the_golden_case(case: Path) -> None:
    """Every reading comes through conversion, clocks and flags; none is lost but those told twice."""
    message, context, expected = load(case)
    found = try_payload(
        ADAPTERS[message.adapter], message.payload, message.kind, received_ns=message.received_ns,
        zone=context.zone, settings=context.settings,
    )  # fmt: skip
    json.dumps(found)
    assert len(found["readings"]) + found["duplicates"] == len(expected["readings"])
    assert [reject["reason"] for reject in found["rejects"]] == [one["reason"] for one in expected["rejects"]]
    apart = [one for one in found["readings"] if "unassigned" in one or "retracted" in one["flags"]]
    if found["duplicates"] or apart:
        return  # They stand in another order.
    for reading, decoded in zip(found["readings"], expected["readings"], strict=True):
        assert reading["vital"] == decoded["vital"]
        assert reading["reported"] == {"value": decoded["value"], "unit": decoded["unit"]}
        flags = set(decoded["flags"])
        if "clock_wrong" in reading["flags"]:
            # The newest reading of a wrong clock is judged at its arrival.
            flags.discard("clock_suspect")
        assert flags <= set(reading["flags"])
        if decoded["clock"] == SourceClock.NONE.name.lower():
            assert reading["basis"] == "received"


def test_a_payload_that_is_too_large_or_empty_is_rejected_as_ingest_would() -> None:
    one = ADAPTERS["ble_plx"]
    for payload, reason in ((b"", Reason.EMPTY), (bytes(one.max_payload + 1), Reason.PAYLOAD_TOO_LARGE)):
        found = try_payload(one, payload, "2a5f", received_ns=RECEIVED_NS)
        assert [reject["reason"] for reject in found["rejects"]] == [reason]


def test_alarms_are_shown_by_their_codes() -> None:
    payload = (
        b"MSH|^~\\&|MON|W|||20260301080000+0000||ORU^R40^ORU_R40|1|P|2.6\rOBR|1|a|a\r"
        b"OBX|1|ST|196670^MDC_EVT_LO_VAL^MDC|1.3.1.150456.1|Jane Doe|||L~PH~SP|||R\r"
    )
    found = try_payload(ADAPTERS["hl7v2"], payload, "oru_r40", received_ns=RECEIVED_NS)
    assert not found["rejects"]
    [alarm] = found["alarms"]
    assert (alarm["vital"], alarm["code"], alarm["priority"], alarm["step"]) == (
        "spo2", "mdc:196670 MDC_EVT_LO_VAL", "high", "begins",
    )  # fmt: skip


def test_readings_that_would_wait_for_a_person_say_so() -> None:
    # Base time 2000, clock fault: the order is known, the time is not.
    packet = bytes.fromhex("0B 0E 00 E4 07 01 01 00 00 0C A6 FF FE 07 F1 20 08".replace(" ", ""))
    found = try_payload(ADAPTERS["ble_glucose"], packet, "2a18", received_ns=RECEIVED_NS)
    assert [reading["basis"] for reading in found["readings"]] == ["unknown"]
    live = try_payload(ADAPTERS["ble_plx"], bytes.fromhex(PLX), "2a5f", received_ns=RECEIVED_NS)
    assert {reading["basis"] for reading in live["readings"]} == {"received"}
    assert not any("unassigned" in reading for reading in live["readings"])


def installed(package: Path, site: Path) -> None:
    """Install a package into a folder of its own: the wheel that its own pyproject builds, unpacked."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(site)], cwd=package, check=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def own_tests(package: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], cwd=package, capture_output=True,
        timeout=120, check=False, env=environment | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_a_new_adapter_works_as_created_and_its_test_fails_when_the_case_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = adapter_cli("new", "acme_cuff")
    package, site = tmp_path / "acme_cuff", tmp_path / "site"
    for step in ("pytest acme_cuff", "pip install -e ./acme_cuff", "vitalgate adapter try acme_cuff --payload"):
        assert step in told
    done = own_tests(package)
    assert done.returncode == 0, done.stdout.decode()
    assert b"passed" in done.stdout

    installed(package, site)
    (one,) = [item for item in beside(site, "list")["items"] if item["name"] == "acme_cuff"]
    assert one["vitals"] == ["temp"]
    case = package / "cases" / "first"
    found = beside(
        site, "try", "acme_cuff", "--payload", str(case / "input.json"), "--received", "2026-01-05T08:30:05Z"
    )
    assert found == json.loads((case / "expected.json").read_text())
    for file, old, new in (("expected.json", "37.2", "37.3"), ("input.json", "37.2", "38.2")):
        text = (case / file).read_text()
        (case / file).write_text(text.replace(old, new, 1))
        assert own_tests(package).returncode == 1, (file, old)
        (case / file).write_text(text)


@pytest.mark.parametrize("name", ["", "9lives", "a" * 33, "acme-cuff", "../acme", "acme/cuff", "class", "é", "json\n"])
def test_bad_names_are_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^NAME: "):
        create(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_or_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cuff").mkdir()
    (tmp_path / "scale").write_text("mine")
    for name in ("cuff", "scale"):
        with pytest.raises(InvalidRequest, match="File exists"):
            create(name, tmp_path)
    assert not list((tmp_path / "cuff").iterdir())
    assert (tmp_path / "scale").read_text() == "mine"
