"""The command that scores a series of a file: detect."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final, NamedTuple

import typer

from deploy import kernels
from deploy.cli.shared import AsJson, ConfigFile, DataDir, show
from deploy.layout import DEFAULT_DATA_DIR
from vitals.errors import InvalidRequest, VitalgateError

HEADER: Final = ("time", "value", "score")
_EXTREMES: Final = {"lo": float("-inf"), "low": float("-inf"), "hi": float("inf"), "high": float("inf")}
"""What meters write where a number would be (device-formats.md 2)."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the wall clock is what a day's pattern follows
_MILLISECONDS_FROM: Final = 1e11
"""Epoch numbers from here on count milliseconds."""


class Column(NamedTuple):
    """A column of a file: texts as they stand, and what they mean (float64; NaN = nothing)."""

    times: list[str]
    texts: list[str]
    values: list[float]
    seconds: list[float] | None


def register(app: typer.Typer) -> None:
    """Hang the command on the command line."""
    app.command("detect", epilog="Example: vitalgate detect --csv heart.csv --column bpm --time-column time")(detect)


def detect(
    csv_file: Annotated[Path, typer.Option("--csv", help="File with a header line.")],
    column: Annotated[str, typer.Option(help="Column of the values; LO and HI are understood.")],
    time_column: Annotated[
        str | None, typer.Option(help="Column of RFC 3339 or epoch times; without it, times are row numbers.")
    ] = None,
    method: Annotated[str, typer.Option(help="default, gaussian, or the name of one detector.")] = "default",
    threshold: Annotated[
        float | None, typer.Option(help="List rows with at least this score on standard error.", min=0, max=1)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for the scores; default standard output. With --json no scores go there.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,  # noqa: ARG001 - every command takes it
    as_json: AsJson = False,
) -> None:
    """Score how anomalous each row of a column is, 0 to 1, from the rows up to it only."""
    kernels.use(data_dir.absolute() if data_dir.is_dir() else None)
    from alerts.detect.scorer import FIRES_AT, Detector  # noqa: PLC0415 - numba loads in a second; --help must not wait for it

    detector = Detector(method)
    found = _read(csv_file, column, time_column)
    scores = detector.score(found.values, found.seconds).tolist()
    if output is not None or not as_json:
        with _opened(output) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(zip(found.times, found.texts, map(_number, scores), strict=True))
    limit = FIRES_AT if threshold is None else threshold
    firing = [row for row, score in enumerate(scores) if score >= limit]
    if as_json:
        show(_summary(found, method, scores, limit, firing))
    elif threshold is not None:
        for row in firing:
            sys.stderr.write(f"row {row}: time {found.times[row]}, value {found.texts[row]}, score {scores[row]:.4f}\n")


def _summary(
    found: Column, method: str, scores: Sequence[float], limit: float, firing: Sequence[int]
) -> dict[str, Any]:
    fired = [{"row": row, "time": found.times[row], "value": found.texts[row], "score": scores[row]} for row in firing]
    missing = sum(value != value for value in found.values)  # noqa: PLR0124 - NaN alone differs from itself
    unread = 0 if found.seconds is None else sum(time != time for time in found.seconds)  # noqa: PLR0124
    return {
        "method": method,
        "rows": len(scores),
        "missing": missing,
        "times_unread": unread,
        "threshold": limit,
        "highest": max(scores, default=0.0),
        "fired": fired,
    }


def _number(score: float) -> str:
    """Six decimals tell scores apart, and the file stays small."""
    return f"{score:.6f}"


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise VitalgateError(f"{output}: {error.strerror}") from error


def _read(path: Path, column: str, time_column: str | None) -> Column:
    """Raises ``InvalidRequest`` for a column that is not there, ``VitalgateError`` for a file that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            if not header:
                raise VitalgateError(f"{path}: no header line")
            place = _place(header, column, "--column")
            clock = None if time_column is None else _place(header, time_column, "--time-column")
            return _column(rows, place, clock)
    except OSError as error:
        raise VitalgateError(f"{path}: {error.strerror}") from error
    except csv.Error as error:
        raise VitalgateError(f"{path}: {error}") from error


def _place(header: list[str], name: str, option: str) -> int:
    if name.strip() not in header:
        raise InvalidRequest(option, f"no column {name!r}; there are {', '.join(map(repr, header))}")
    return header.index(name.strip())


def _column(rows: Iterator[list[str]], place: int, clock: int | None) -> Column:
    """Every line that is not empty is a row; missing fields of a short line are empty."""
    times: list[str] = []
    texts: list[str] = []
    for row in rows:
        if row:
            times.append(str(len(times)) if clock is None else row[clock] if clock < len(row) else "")
            texts.append(row[place] if place < len(row) else "")
    return Column(times, texts, [*map(value_of, texts)], None if clock is None else [*map(seconds_of, times)])


def value_of(text: str) -> float:
    """The number; infinity for LO and HI, NaN for any other text."""
    try:
        return float(text)
    except ValueError:
        return _EXTREMES.get(text.strip().lower(), float("nan"))


def seconds_of(text: str) -> float:
    """Seconds of the wall clock since 1970 as written, ignoring the zone; NaN for a text that is not a time."""
    try:
        return (datetime.fromisoformat(text.strip()).replace(tzinfo=None) - _EPOCH).total_seconds()
    except ValueError:
        number = value_of(text)
        return number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
