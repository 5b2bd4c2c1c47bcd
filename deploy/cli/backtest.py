"""The command that tries rules on stored readings: backtest."""

import json
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from deploy import kernels
from deploy.backtest import NO_RULES
from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, show
from deploy.layout import DEFAULT_DATA_DIR
from vitals.errors import InvalidRequest, VitalgateError
from vitals.times import HOUR_S, rfc3339

Record = Mapping[str, Any]
_NAMES: Final = {"in force": "those in force", "against": "the others"}
SHOWN: Final = 1000
"""Alerts of the timeline in the JSON."""
_COLUMNS: Final = ("rule", "sev", "alerts", "pages", "a day", "patients", "in alarm", "near misses", "unanswered")
_CURVE: Final = ("up to", "found", "sensitivity", "95 % interval", "lead", "alerts a week", "of them outside")
_POLL_S: Final = 0.2


def register(app: typer.Typer) -> None:
    """Hang the command on the command line."""
    app.command("backtest", epilog="Example: vitalgate backtest --protocol copd.toml --from 2026-01-05T00:00:00Z")(
        backtest
    )


def backtest(
    protocol: Annotated[Path, typer.Option(help="Rules to try: a protocol (name or TOML file) or limits (JSON file).")],
    against: Annotated[
        Path | None, typer.Option(help="Rules to compare with; default: the rules in force, or none with --csv.")
    ] = None,
    patients: Annotated[str, typer.Option(help="Patient tokens, separated by commas; default: all.")] = "",
    start: Annotated[str | None, typer.Option("--from", help="RFC 3339 time; default 7 days before --to.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="RFC 3339 time; default now.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Judge the readings of this file; needs no data directory.")
    ] = None,
    vital: Annotated[str | None, typer.Option(help="Vital sign of a --csv with the columns time,value.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of a --csv with the columns time,value.")] = None,
    as_measured: Annotated[
        bool, typer.Option("--as-measured", help="Judge each reading as if it had arrived when it was measured.")
    ] = False,
    assume: Annotated[
        list[str] | None, typer.Option(help="Clinical context of all patients of a --csv, such as age_band=adult.")
    ] = None,
    events_file: Annotated[
        Path | None, typer.Option("--events", help="Labelled onsets (CSV: patient,time): says how many alerts found.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Report which alerts other rules would have raised on stored readings, and which would be new or gone."""
    rules = document(protocol, "--protocol")
    other = None if against is None else document(against, "--against")
    chosen = [token.strip() for token in patients.split(",") if token.strip()]
    events = _onsets(events_file)
    if csv_file is not None:
        if start is not None or end is not None:
            raise InvalidRequest("--csv", "is judged whole: without --from and --to")
        kernels.use(data_dir.absolute() if data_dir.is_dir() else None)
        asked = (vital, unit), chosen, rules, other, _context(assume or []), as_measured, events
        result, timeline = _of_file(csv_file, *asked)
    else:
        if vital is not None or unit is not None or assume:
            raise InvalidRequest("--assume" if assume else "--vital", "is for --csv")
        body = {"protocol": rules, "against": other, "patients": chosen, "from": start, "to": end}
        body |= {"as_measured": as_measured, "events": [{"patient": one, "time": rfc3339(at)} for one, at in events]}
        result, timeline = _of_store(data_dir, config, body)
    if as_json:
        show({**result, "timeline": timeline})
        return
    console = Console()
    for part in words(result):
        console.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))


def document(path: Path, option: str) -> Any:
    """A protocol as TOML, or a protocol or a list of limits as JSON, of a file or one that comes with the program;
    raises ``InvalidRequest``."""
    try:
        shipped = resources.files("alerts") / "protocols" / f"{path.name}.toml"
        data = shipped.read_bytes() if shipped.is_file() and not path.exists() else path.read_bytes()
        return json.loads(data) if path.suffix == ".json" else tomllib.loads(data.decode())
    except OSError as error:
        raise InvalidRequest(option, f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InvalidRequest(option, f"{path}: is no {kind}: {error}") from error


def _onsets(file: Path | None) -> list[tuple[str, int]]:
    """Labelled onsets of a file; none without one."""
    if file is None:
        return []
    from deploy.backtest.table import read_events  # noqa: PLC0415 - numpy

    return read_events(file)


def _of_file(file: Path, *asked: Any) -> tuple[dict[str, Any], Record]:
    """``asked`` are the members of ``Asked``."""
    # numba loads in a second; --help must not wait for it
    from deploy.backtest.csv import Asked, replay_file  # noqa: PLC0415

    result = replay_file(file, Asked(*asked))
    items = result.pop("timeline")
    return result, {"items": items[:SHOWN], "next": str(SHOWN) if len(items) > SHOWN else None}


def _of_store(data_dir: Path, config: Path | None, body: Record) -> tuple[dict[str, Any], Record]:
    given = {name: value for name, value in body.items() if value is not None}
    with control(data_dir, config) as api:
        state = api.request("POST", "backtests", json=given)
        path = f"backtests/{state['backtest']}"
        while state["state"] == "running":
            time.sleep(_POLL_S)
            state = api.request("GET", path)
        if state["state"] == "failed":
            raise VitalgateError(f"backtest: {state['error']}")
        return state["result"], api.request("GET", f"{path}/timeline", params={"limit": SHOWN})


def _context(assumed: Sequence[str]) -> dict[str, Any]:
    """``spo2_scale=1`` as a member of the clinical context."""
    context: dict[str, Any] = {}
    for text in assumed:
        name, _, value = text.partition("=")
        context[name] = int(value) if value.isdigit() else value == "yes" if name == "usual_confusion" else value
    return context


def words(result: Record) -> Iterator[str | Table]:
    """What is printed, from the top."""
    candidate, reference, data = result["candidate"], result["reference"], result["data"]
    days = data["patient_days"]
    yield f"{_count(data['patients'], 'patient')}, {result['start']} to {result['end']}, readings {result['replayed']}."
    yield (
        f"{_count(data['readings'], 'reading')} on {_count(days, 'patient-day')}, {data['judged']:,} judged; "
        f"{_count(data['days_without'], 'day')} between them without any."
    )
    yield ""
    if not days:
        yield "Nothing to judge."
    else:
        yield from _verdict(result)
        yield from (_rules(side) for side in (candidate, reference) if side["rules"])
        yield from (_detection(side) for side in (candidate, reference) if side["detection"] and side["rules"])
        if reference["name"] != NO_RULES:
            yield from _changes(result["compared"])
        yield from _noisy(candidate, data)
    yield from (f"Mind: {warning}." for warning in result["warnings"])
    yield f"Taken as given: {'; '.join(result['assumed'])}."


def _verdict(result: Record) -> Iterator[str]:
    candidate, reference = result["candidate"], result["reference"]
    pages = f"{candidate['pages_per_patient_week']:.1f}"
    yield f"These rules would have paged {pages} times a week per patient{_change(result)}."
    interruptive = f"{candidate['interruptive_per_patient_week']:.2f}"
    budget = "within" if candidate["within_budget"] else "over"
    yield (
        f"Alerts that interrupt somebody: {interruptive} a week per patient, {budget} the budget (less than 1, not "
        "most of them from a few patients, and no rule that a missing second reading makes urgent more often than once "
        "in five weeks)."
    )
    if candidate["promoting"]:
        yield f"Urgent for want of a second reading too often: {', '.join(candidate['promoting'])}."
    if reference["name"] != NO_RULES:
        those = "within" if reference["within_budget"] else "over"
        yield f"{_title(reference['name'])}: {reference['interruptive_per_patient_week']:.2f}, {those} the budget."
    if candidate["repeats"]:
        yield f"Pages that repeat what was told, since nobody did anything: {candidate['repeats']}."
    other = "" if reference["name"] == NO_RULES else f" ({reference['name']}: {reference['near_misses']})"
    yield f"Near misses, over before their delay was: {candidate['near_misses']}{other}."
    yield ""


def _change(result: Record) -> str:
    """Against the other rules: ``, 62 % fewer than in force (8.2)``."""
    reference, change = result["reference"], result["compared"]["change_percent"]
    if reference["name"] == NO_RULES:
        return ""
    those = f"{_NAMES.get(reference['name'], reference['name'])} ({reference['pages_per_patient_week']:.1f})"
    if not change:
        return f"; {those}" if change is None else f", as often as {those}"
    return f", {abs(change):.0f} % {'more' if change > 0 else 'fewer'} than {those}"


def _rules(side: Record) -> Table:
    table = Table(box=None, header_style="bold", title=_title(side["name"]), title_justify="left", title_style="bold")
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if number > 1 else "left", no_wrap=not number)
    for row in side["rules"]:
        table.add_row(
            row["rule"], row["severity"], str(row["alerts"]), str(row["pages"]), f"{row['alerts_per_patient_day']:.2f}",
            str(row["patients"]), f"{row['alarm_s'] / HOUR_S:.1f} h", str(row["near_misses"]), str(row["promotions"]),
        )  # fmt: skip
    return table


def _detection(side: Record) -> Table:
    found = side["detection"]
    title = (
        f"{_title(side['name'])}: {_count(found['events'], 'labelled onset')}, found from 60 min before to 10 min after"
    )
    table = Table(box=None, header_style="bold", title=title, title_justify="left", title_style="bold")
    for column in _CURVE:
        table.add_column(column, justify="right")
    for one in found["curve"]:
        lead = "–" if one["lead_s"] is None else f"{one['lead_s'] / 60:.0f} min"
        table.add_row(
            one["severity"], str(one["hits"]), f"{100 * one['sensitivity']:.0f} %",
            f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %",
            lead, f"{one['alerts_per_patient_week']:.2f}", f"{one['outside_per_patient_week']:.2f}",
        )  # fmt: skip
    return table


def _title(name: str) -> str:
    return f"Rules {name}" if name == "in force" else "Rules to try" if name == "candidate" else "The others"


def _changes(compared: Record) -> Iterator[str]:
    yield ""
    for title, count, by_rule in (
        ("New", compared["new"], compared["new_by_rule"]),
        ("Not raised any more", compared["gone"], compared["gone_by_rule"]),
    ):
        listed = ", ".join(f"{rule} {number}" for rule, number in by_rule.items())
        yield f"{title}: {count}{f' ({listed})' if listed else ''}."
    yield compared["how"]


def _noisy(candidate: Record, data: Record) -> Iterator[str]:
    noisy = candidate["noisiest"]
    if noisy["count"]:
        of = _count(data["patients_with_readings"], "patient")
        more = ", ..." if noisy["count"] > len(noisy["patients"]) else ""
        yield f"{noisy['count']} of {of} make more than half of the alerts: {', '.join(noisy['patients'])}{more}."


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
