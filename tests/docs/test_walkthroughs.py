"""The commands of the tutorial and the how-to pages, run as they stand."""

import re
from pathlib import Path

import pytest

from tests.docs import shell

DOCS = shell.ROOT / "docs"
INDEX = DOCS / "howto" / "README.md"


@pytest.mark.servers
@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    output = shell.run("\n".join(shell.blocks(DOCS / "tutorial.md")), tmp_path, shell.environment(tmp_path))
    assert '"zone": "Europe/Berlin"' in output
    assert '"messages":{"received":4,"decoded":2,"duplicate":2,"quarantined":0,"in_flight":0}' in output
    assert '"readings":{"emitted":4,"stored":2,"duplicate":2,' in output


@pytest.mark.servers
@pytest.mark.slow
def test_every_recipe(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(shell.ROOT / "tests")
    pages = [
        INDEX,
        *(
            INDEX.parent / name
            for name in re.findall(r"^- \[.*\]\((.*)\)$", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
        ),
    ]
    assert sorted(pages) == sorted(INDEX.parent.glob("*.md")), "a recipe that the index does not list"
    script = "\n".join(block for page in pages for block in shell.blocks(page))
    output = shell.run(script, tmp_path, shell.environment(tmp_path), timeout_s=600.0)
    # Replayed as history: every reading is stored once, at its own time, and again adds nothing.
    assert '"emitted": 2148, "stored": 2148, "duplicate": 0' in output
    assert '"emitted": 2148, "stored": 0, "duplicate": 2148' in output
    # Killed in between: 200 readings are 200 readings, and the ledger says what else came.
    [counted] = re.findall(r'{"device":"strap-1".*"emitted":(\d+),"stored":200,"duplicate":(\d+),', output)
    assert int(counted[0]) == 200 + int(counted[1])
