"""``vitalgate detect`` against its contract: header, rows, range, exit codes."""

import csv
import io
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from deploy.cli.detect import seconds_of, value_of
from tests.deploy.conftest import CLI, ROOT, run_cli

ROWS: Final = 1200
SPIKE: Final = 1000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heart rates every five minutes with a spike, and everything that is no number."""
    values = [f"{value:.1f}" for value in 70 + 3 * np.random.default_rng(0).normal(size=ROWS)]
    values[SPIKE] = "190"
    values[1], values[50], values[60], values[70], values[80] = "", "NaN", "LO", "HI", "n/a"
    path = tmp_path_factory.mktemp("detect") / "heart.csv"
    lines = [
        f"2026-03-{1 + n // 288:02d} {n % 288 // 12:02d}:{n % 12 * 5:02d}:00,é,{value}"
        for n, value in enumerate(values)
    ]
    lines[90] = "2026-03-01 07:30:00"
    lines[91] = "soon,x,71.0"
    path.write_text("\ufefftime, note ,bpm\n" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def run(*arguments: str) -> tuple[list[list[str]], str]:
    """Rows of the CSV on standard output, and standard error."""
    done = subprocess.run([*CLI, "detect", *arguments], capture_output=True, cwd=ROOT, timeout=180, check=True)
    return list(csv.reader(io.StringIO(done.stdout.decode()))), done.stderr.decode()


def test_a_row_per_row_with_a_score(recording: Path, tmp_path: Path) -> None:
    rows, said = run("--csv", str(recording), "--column", "bpm", "--time-column", "time")
    assert rows[0] == ["time", "value", "score"]
    assert len(rows) == 1 + ROWS
    with recording.open(encoding="utf-8-sig") as file:
        given = [row for row in csv.reader(file) if row][1:]
    assert [row[0] for row in rows[1:]] == [row[0] for row in given]
    assert [row[1] for row in rows[1:]] == [row[2] if len(row) > 2 else "" for row in given]
    scores = np.array([float(row[2]) for row in rows[1:]])
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[SPIKE] == scores.max() > 0.5
    assert said == ""
    # The first rows of the file alone have the same scores.
    part = tmp_path / "part.csv"
    part.write_text("\n".join(recording.read_text(encoding="utf-8").splitlines()[:401]), encoding="utf-8")
    assert run("--csv", str(part), "--column", "bpm", "--time-column", "time")[0] == rows[:401]


def test_rows_are_numbered_without_a_time_column(recording: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"
    rows, said = run("--csv", str(recording), "--column", "bpm", "--output", str(output), "--threshold", "0.5")
    assert rows == []
    with output.open(encoding="utf-8") as file:
        written = list(csv.reader(file))
    assert [row[0] for row in written] == ["time", *map(str, range(ROWS))]
    firing = [number for number, row in enumerate(written[1:]) if float(row[2]) >= 0.5]
    assert SPIKE in firing
    assert [line.split(":")[0] for line in said.splitlines()] == [f"row {number}" for number in firing]


def test_a_summary(recording: Path) -> None:
    found = run_cli("detect", "--csv", str(recording), "--column", "bpm", "--time-column", "time", "--json",
                    "--method", "point", "--threshold", "0.6")  # fmt: skip
    assert {name: found[name] for name in ("method", "rows", "missing", "times_unread", "threshold")} == {
        "method": "point", "rows": ROWS, "missing": 4, "times_unread": 1, "threshold": 0.6,
    }  # fmt: skip
    assert found["highest"] == max(one["score"] for one in found["fired"])
    assert {"row": SPIKE, "time": "2026-03-04 11:20:00", "value": "190"}.items() <= found["fired"][-1].items()


def test_what_is_wrong_is_said(recording: Path, tmp_path: Path) -> None:
    said = run_cli("detect", "--csv", str(recording), "--column", "pulse", expect=2)
    assert said == "vitalgate: --column: no column 'pulse'; there are 'time', 'note', 'bpm'\n"
    said = run_cli("detect", "--csv", str(recording), "--column", "bpm", "--time-column", "t", expect=2)
    assert said.startswith("vitalgate: --time-column: no column 't'; there are")
    said = run_cli("detect", "--csv", str(recording), "--column", "bpm", "--method", "magic", expect=2)
    assert "method: one of default, gaussian" in said
    run_cli("detect", "--csv", str(recording), "--column", "bpm", "--threshold", "1.5", expect=2)
    run_cli("detect", "--column", "bpm", expect=2)
    assert "No such file" in run_cli("detect", "--csv", str(tmp_path / "none.csv"), "--column", "bpm", expect=1)
    assert "directory" in run_cli("detect", "--csv", str(tmp_path), "--column", "bpm", expect=1)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    assert "no header line" in run_cli("detect", "--csv", str(empty), "--column", "bpm", expect=1)
    nowhere = tmp_path / "no" / "folder.csv"
    said = run_cli("detect", "--csv", str(recording), "--column", "bpm", "--output", str(nowhere), expect=1)
    assert "No such file" in said


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_short_files(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "short.csv"
    path.write_text("v\n" + "1\n" * rows)
    found, _ = run("--csv", str(path), "--column", "v")
    assert found == [["time", "value", "score"], *([str(row), "1", "0.000000"] for row in range(rows))]


def test_binary_is_refused_or_scored_but_never_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "binary.csv"
    path.write_bytes(b"v\n" + b"\x00\xff\xfe" * 100_000)
    done = subprocess.run(
        [*CLI, "detect", "--csv", str(path), "--column", "v"], capture_output=True, cwd=ROOT, timeout=180, check=False
    )
    assert done.returncode in {0, 1}
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-02", 86400), ("1970-01-01T01:00:00+05:00", 3600), ("1970-01-01 00:00:01.5", 1.5), ("86400", 86400),
     ("1767225600000", 1767225600), ("1767225600", 1767225600), (" 1970-01-01T00:01:00Z ", 60)],
)  # fmt: skip
def test_times_are_read_as_the_wall_clock(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "noon", "32.13.2026", "nan"])
def test_what_is_no_time_is_unknown(text: str) -> None:
    assert np.isnan(seconds_of(text))


def test_values_are_read() -> None:
    assert [value_of(text) for text in ("1.5", " -2e3 ", "LO", "high", "Low")] == [1.5, -2000, -np.inf, np.inf, -np.inf]
    assert np.isnan([value_of(text) for text in ("", "n/a", "1,5", "nan")]).all()
