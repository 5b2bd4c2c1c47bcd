"""The documents about the code name modules and packages that exist, and architecture.md leaves no package out."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs import pages, tables

ROOT: Final = tables.ROOT
ARCHITECTURE: Final = ROOT / "docs" / "internals" / "architecture.md"
TOP: Final = (*tables.PACKAGES, "tests")
NAMED_PATH: Final = re.compile(rf"`((?:{'|'.join(TOP)})/[\w./-]*\w)(?:::\w+)*`")
"""A file or folder of the checkout in code font: ``alerts/cases/casebook.py``, ``tests/contracts``."""


def missing(text: str) -> set[str]:
    """The named paths that do not exist in the checkout."""
    return {path for path in NAMED_PATH.findall(text) if not (ROOT / path).exists()}


def packages() -> set[str]:
    """Every package and sub-package below the top-level folders, as a path."""
    inits = (path for name in tables.PACKAGES for path in (ROOT / name).rglob("__init__.py"))
    return {path.parent.relative_to(ROOT).as_posix() for path in inits}


@pytest.mark.parametrize(
    "page", [*pages.pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_named_paths_exist(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8")) == set()


def test_architecture_describes_every_package() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    described = set(re.findall(r"^ *- `([\w/]+)`: ", text, re.MULTILINE)) | set(
        re.findall(r"^## (\w+)$", text, re.MULTILINE)
    )
    assert packages() - described == set(), "without a paragraph"
    assert {name for name in described if "/" in name} - packages() == set(), "described and not there"


def test_a_path_that_does_not_exist_is_noticed() -> None:
    text = "see `alerts/lifecycle.py`, `alerts/cases/lifecycle.py` and `tests/contracts`"
    assert missing(text) == {"alerts/lifecycle.py"}
