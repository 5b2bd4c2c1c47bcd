"""The mutants: each is one change, the sample is seeded, and a weak test is told from a strong one."""

from pathlib import Path

from tests import mutants

SOURCE = "def late(age, most=60):\n    return age > most and age is not None\n"


def test_each_mutant_is_one_change() -> None:
    bodies = {mutant.text for mutant in mutants.mutants(SOURCE)}
    assert bodies == {
        "def late(age, most=61):\n    return age > most and age is not None",
        "def late(age, most=60):\n    return age >= most and age is not None",
        "def late(age, most=60):\n    return age > most or age is not None",
        "def late(age, most=60):\n    return age > most and age is None",
    }


def test_what_a_test_misses_survives(tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text("def late(age):\n    return age > 60\n")
    weak, strong = "assert late(99) and not late(9)", "assert late(61) and not late(60)"
    for name, body in (("weak", weak), ("strong", strong)):
        (tmp_path / f"test_{name}.py").write_text(f"from clock import late\n\ndef test_late():\n    {body}\n")
    left = mutants.survivors(tmp_path, "clock.py", ["test_weak.py"], 9, 1)
    assert [mutant.change for mutant in left] == ["age > 60  ->  age >= 60", "60  ->  61"]
    assert mutants.survivors(tmp_path, "clock.py", ["test_strong.py"], 9, 1) == []


def test_the_table_names_files_that_exist() -> None:
    for name, tests in mutants.TESTS.items():
        assert all((mutants.ROOT / path).is_file() for path in (name, *tests.split())), name
