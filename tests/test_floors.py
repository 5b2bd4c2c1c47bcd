"""The coverage gate can fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import floors
from tests.structure import PACKAGES


def report(**covered: int) -> dict[str, Any]:
    """A report of one file per package: so many of 100 lines, and half of them of 100 branches."""
    return {
        "files": {
            f"{package}/part/file.py": {
                "summary": {
                    "covered_lines": lines, "num_statements": 100, "covered_branches": lines // 2, "num_branches": 100,
                }
            }
            for package, lines in covered.items()
        }
    }  # fmt: skip


def test_floors_are_of_packages() -> None:
    assert set(floors.FLOORS) == set(PACKAGES) - {"deploy"}


def test_lines_and_branches_count() -> None:
    assert floors.covered(report(alerts=80)) == {"alerts": pytest.approx(60.0)}


def test_a_package_below_its_floor_is_named() -> None:
    high = dict.fromkeys(PACKAGES, 200)
    assert floors.below(report(**high)) == []
    [line] = floors.below(report(**{**high, "ingest": 60}))
    assert line.startswith("ingest: 45.0 % covered, floor")


def test_a_package_that_was_not_run_is_at_nothing() -> None:
    others = {package: 200 for package in PACKAGES if package != "vitals"}
    assert floors.below(report(**others))[0].startswith("vitals: 0.0 %")


def test_the_command_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(report(ingest=1)))
    assert floors.main(path) == 1
    assert "ingest: 0.5 % covered" in capsys.readouterr().err
