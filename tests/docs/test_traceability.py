"""docs/traceability.md: no promise or point without a row, no row without a test, no test that does not exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "traceability.md").read_text(encoding="utf-8")
SPLIT_POINTS: Final = {"M1": "abc", "M2": "abcdef", "M3": "abcd", "M4": "abc", "M5": "abc", "M6": "abc", "M7": "abc",
                       "M8": "ab"}  # fmt: skip
WANTED: Final = [
    *(f"P{number}" for number in range(1, 11)),
    *(f"{point}{letter}" for point, letters in SPLIT_POINTS.items() for letter in letters),
    *(f"B{number}" for number in range(1, 7)),
    *(f"S{number}" for number in range(1, 9)),
    *(f"F1{letter}" for letter in "abcdef"),
    "F2a", "F2b", "F3", "F4a", "F4b", "F5",
    "D1a", "D1b", "D1c", "D2", "D3a", "D3b", "D3c", "D4a", "D4b", "D5a", "D5b", "D5c", "D5d", "D6a", "D6b", "D7", "D8a",
    "D8b", "D9a", "D9b", "D10a", "D10b",
    "R1a", "R1b", "R1c", "R1d", "R2a", "R2b", "R2c", "R2d", "R3a", "R3b", "R3c", "R4a", "R4b", "R4c", "R5a", "R5b",
    "R5c", "R6", "R7", "R8a", "R8b", "R9", "R10", "R11a", "R11b", "R12a", "R12b",
    *(f"R13{letter}" for letter in "abcdef"),
    "G1a", "G1b", "G1c", *(f"G2{letter}" for letter in "abcde"), "G3a", "G4a", "G4b", "G4c", "G4d", "G4e",
    *(f"G6{letter}" for letter in "abcde"),
    *(f"G5{letter}" for letter in "abcdef"),
    *(f"N3{letter}" for letter in "abcdefgh"),
    "N8a", "N8b", "N8c", "N9a", "N9b", "N9c",
    *(f"N1{letter}" for letter in "abcdefghij"),
    *(f"N2{letter}" for letter in "abcde"),
    *(f"N7{letter}" for letter in "abcd"),
    "N4a", "N4b", "N4c", "N4d", "N5a", "N5b", "N5c", "N5d", "N6a", "N6b", "N6c", "N6d",
    *(f"U2{letter}" for letter in "abcdef"),
    "N6e", "N6f", "N7e", "N7f", "N8d", "N8e", "N8f", "N5e", "N7g", "N5f", "N6g", "N6h", "N9d", "N3i",
    "N3j", "N4e", "N8g",
    "U3a", "U6a", "U4a", "U4b", "U5a", "U5b", "U5c", "U5d",
    *(f"U1{letter}" for letter in "abcdef"),
    *(f"U9{letter}" for letter in "ab"),
    "N3m", "N1o", "N6i", "N1k", "N1l", "N1m", "N1n", "N3k", "N3l", "N7h",
]  # fmt: skip
ROWS: Final = {
    row[0]: row[1:]
    for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines())
    if re.fullmatch(r"[PMBSFDRGNU]\d+[a-z]?", row[0])
}


def functions(path: Path) -> set[str]:
    """``test_x`` and ``TestY::test_z`` of a module."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            inner = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{node.name}::{one.name}" for one in inner)
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def problem(reference: str) -> str | None:
    """What is wrong with a reference, None when nothing is."""
    if reference.startswith("make "):
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return None if reference.removeprefix("make ") in targets else "no such target"
    name, _, function = reference.partition("::")
    files = sorted(ROOT.glob(name))
    if not files:
        return "no such file"
    if function and function not in functions(files[0]):
        return f"no such function in {name}"
    return None


def test_every_promise_and_point_has_one_row() -> None:
    named = re.findall(r"^\| ([PMBSFDRGNU]\d+[a-z]?) \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(WANTED)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", readme, re.MULTILINE) == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("row", WANTED)
def test_every_row_names_tests_that_exist(row: str) -> None:
    references = re.findall(r"`([^`]+)`", ROWS[row][-1])
    assert references, f"{row} names no test"
    wrong = {reference: problem(reference) for reference in references}
    assert not {reference: what for reference, what in wrong.items() if what}


def test_the_crash_points_name_tests_that_exist() -> None:
    page = (ROOT / "docs" / "internals" / "recovery.md").read_text(encoding="utf-8")
    points = re.findall(r"^\| \d+ \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    assert len(points) == 15
    for reference in re.findall(r"`(tests/[^`]+)`", " ".join(points)):
        assert problem(reference) is None, reference


def test_a_promise_says_whether_it_holds() -> None:
    for row in (name for name in WANTED if name.startswith("P")):
        assert "now" in ROWS[row][1], row


def test_a_wrong_reference_is_noticed() -> None:
    assert problem("make tea") == "no such target"
    assert problem("tests/docs/test_nothing.py") == "no such file"
    assert problem("tests/docs/test_traceability.py::test_nothing") is not None
    assert problem("tests/docs/test_traceability.py::test_a_wrong_reference_is_noticed") is None
