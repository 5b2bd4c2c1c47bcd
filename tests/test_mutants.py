"""The mutants: each is one change, the sample is seeded, and a weak test is told from a strong one."""

from pathlib import Path

import pytest

from tests import mutants

SOURCE = "@cache(size=9)\ndef late(age, most=60):\n    return age > most and age is not None\n"


def test_each_mutant_is_one_change() -> None:
    bodies = {mutant.text for mutant in mutants.mutants(SOURCE)}
    assert bodies == {
        "@cache(size=9)\ndef late(age, most=61):\n    return age > most and age is not None",
        "@cache(size=9)\ndef late(age, most=60):\n    return age >= most and age is not None",
        "@cache(size=9)\ndef late(age, most=60):\n    return age > most or age is not None",
        "@cache(size=9)\ndef late(age, most=60):\n    return age > most and age is None",
    }


def test_what_a_test_misses_survives(tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text("def late(age):\n    return age > 60\n")
    weak, strong = "assert late(99) and not late(9)", "assert late(61) and not late(60)"
    for name, body in (("weak", weak), ("strong", strong)):
        (tmp_path / f"test_{name}.py").write_text(f"from clock import late\n\ndef test_late():\n    {body}\n")
    left = mutants.survivors(tmp_path, "clock.py", ["test_weak.py"], 9, 1)
    assert [mutant and mutant.change for mutant in left] == ["age > 60  ->  age >= 60", "60  ->  61"]
    assert list(mutants.survivors(tmp_path, "clock.py", ["test_strong.py"], 9, 1)) == [None, None]
    assert (tmp_path / "clock.py").read_text() == "def late(age):\n    return age > 60\n", "as it was"


def test_a_run_ends_in_time_and_fails_for_what_is_not_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clock.py").write_text("def late(age):\n    return age > 60\n")
    (tmp_path / "test_weak.py").write_text("from clock import late\n\ndef test_late():\n    assert late(99)\n")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "TESTS", {"clock.py": "test_weak.py"})
    assert mutants.main(["--count", "2", "--minutes", "0"]) == 1
    found, last = capsys.readouterr().out.splitlines()
    assert last == "1 mutants of 2 tried, 1 survive without an explanation"
    line, _, change = found.removeprefix("clock.py:").partition(": ")
    monkeypatch.setattr(mutants, "EXPLAINED", {("clock.py", change): "for the test"})
    assert mutants.main(["--count", "2", "--minutes", "0"]) == 0
    assert capsys.readouterr().out.startswith(f"{found} (for the test)\n")
    assert line == "2"


def test_the_table_names_files_that_exist() -> None:
    for name, tests in mutants.TESTS.items():
        assert all((mutants.ROOT / path).is_file() for path in (name, *tests.split())), name
