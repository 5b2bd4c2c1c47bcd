"""Commands about protocols, programmes, and what of them holds for a patient."""

import json
from pathlib import Path
from typing import Any

import pytest

from alerts.rules.protocol import document, shipped
from tests.deploy.conftest import Running, run_cli


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """The shipped COPD protocol with another limit, as a file."""
    changed = document(next(one for one in shipped() if one.name == "copd"))
    changed["rules"][0]["at_or_below"] = 90
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(changed))
    return file


def test_protocols_are_listed_shown_checked_and_compared_without_a_pipeline(ours: Path, tmp_path: Path) -> None:
    names = [one["name"] for one in run_cli("protocol", "list", "--json")["items"]]
    assert "copd" in names
    shown = run_cli("protocol", "show", "copd", "--json")
    assert shown["document"]["rules"][0]["id"] == shown["rules"][0]["id"] == "P1-red"
    assert run_cli("protocol", "check", str(ours), "--json")["name"] == "copd"
    assert run_cli("protocol", "diff", "copd", "copd", "--json") == {"changes": []}
    assert run_cli("protocol", "diff", "copd", str(ours), "--json")["changes"]
    assert "protocol" in run_cli("protocol", "show", "none", expect=5)
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "broken"\ntitle = "Broken"\n[[rules]]\nid = "a"\ntype = "limit"\n')
    assert "rules[0].vital" in run_cli("protocol", "check", str(broken), expect=2)
    gap = 'title = "Low"\nseverity = "S2"\nvital = "spo2"\nunit = "%"\nbelow = 90\nunless = { oxygen = "yes" }\n'
    broken.write_text('name = "gap"\ntitle = "Gap"\n[[rules]]\nid = "a"\ntype = "limit"\n' + gap)
    assert "where the patient gets oxygen" in run_cli("protocol", "check", str(broken), expect=2)
    broken.write_text("name =")
    assert "neither TOML nor JSON" in run_cli("protocol", "check", str(broken), expect=2)
    assert "cannot be read" in run_cli("protocol", "check", str(tmp_path / "none.toml"), expect=2)


def test_a_ward_adopts_enrols_and_reads_what_watches(running: Running, ours: Path) -> None:
    made = running.cli(
        "programme", "adopt", "copd", "--protocol", "copd", "--reason", "first ward", "--review", "2030-01-01"
    )
    assert made == {"programme": "copd", "version": 1}
    again = ("programme", "adopt", "copd", "--protocol", str(ours), "--reason", "less noise", "--title", "COPD at home")
    assert running.cli(*again)["version"] == 2
    (listed,) = running.cli("programme", "list", "--json")["items"]
    assert (listed["title"], listed["author"], listed["review"]) == ("COPD at home", "local", None)
    history = running.cli("programme", "show", "copd", "--json")["history"]
    assert [(one["version"], one["reason"]) for one in history] == [(2, "less noise"), (1, "first ward")]
    assert history[1]["review"] == "2030-01-01T00:00:00Z"

    patient = running.cli("patient", "add", "--name", "Ada Example")["patient"]
    refused = running_refuses(running, 2, "patient", "enrol", patient, "--programme", "copd", "--reason", "home")
    assert "age group is not recorded" in refused
    known = ("--age-band", "adult", "--pregnancy", "no", "--oxygen", "no", "--spo2-scale", "1", "--af", "no")
    first = running.cli("patient", "context", patient, *known, "--reason", "asked")
    assert (first["version"], first["age_band"], first["known_af"]) == (1, "adult", "no")
    then = running.cli("patient", "context", patient, "--oxygen", "yes", "--reason", "oxygen at home")
    assert (then["version"], then["oxygen"], then["age_band"]) == (2, "yes", "adult")
    more = ("--postpartum", "no", "--mechanical-support", "no", "--trained-or-paced", "yes", "--usual-spo2", "91",
            "--treatment-limits", "yes")  # fmt: skip
    third = running.cli("patient", "context", patient, *more, "--reason", "asked again")
    assert (third["trained_or_paced"], third["usual_spo2"], third["treatment_limits"]) == ("yes", 91, "yes")
    assert (third["version"], third["oxygen"], third["known_af"]) == (3, "yes", "no")
    enrolled = running.cli("patient", "enrol", patient, "--programme", "copd", "--reason", "home")
    assert enrolled == {"patient": patient, "version": 1, "programmes": ["copd"]}
    watching = running.cli("patient", "rules", patient, "--json")
    assert "copd:P1-red" in [one["id"] for one in watching["rules"]]
    assert {"copd:P3"} <= {one["id"] for one in watching["gated"]}
    assert all(one["reason"] for one in watching["gated"])

    assert running.cli("patient", "status", patient, "paused", "--check", "2030-01-01T00:00:00Z")["status"] == "paused"
    assert "programme" in running_refuses(running, 5, "programme", "show", "none")
    assert "patient" in running_refuses(running, 5, "patient", "rules", "p_none")
    running_refuses(running, 2, "patient", "context", patient, "--oxygen", "maybe", "--reason", "x")
    running_refuses(running, 2, "programme", "adopt", "x", "--protocol", "none", "--reason", "x")


def running_refuses(running: Running, code: int, *arguments: str) -> Any:
    return run_cli(*arguments, "--data-dir", str(running.data), expect=code)


def test_without_a_pipeline_versions_are_not_made_and_a_status_waits_for_it(data: Path) -> None:
    on = ("--data-dir", str(data))
    patient = run_cli("patient", "add", "--name", "Ada Example", *on)["patient"]
    for command in (
        ("programme", "adopt", "copd", "--protocol", "copd", "--reason", "x"),
        ("patient", "enrol", patient, "--programme", "copd", "--reason", "x"),
        ("patient", "context", patient, "--age-band", "adult", "--reason", "x"),
    ):
        assert "vitalgate up" in run_cli(*command, *on, expect=4)
    assert run_cli("programme", "list", "--json", *on)["items"] == []
    assert run_cli("patient", "rules", patient, "--json", *on) == {"patient": patient, "rules": [], "gated": []}
    assert run_cli("patient", "status", patient, "paused", *on) == {"patient": patient, "status": "paused"}
    up = Running(data)
    try:
        assert up.get(f"patients/{patient}")["status"] == "paused"
    finally:
        up.stop()
