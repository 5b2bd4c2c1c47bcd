"""Commands that print reports about one patient."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.table import Table

from deploy.cli.shared import AsJson, ConfigFile, DataDir, control, show
from deploy.layout import DEFAULT_DATA_DIR

report = typer.Typer(help="Reports about a patient.", no_args_is_help=True, rich_markup_mode=None)

Record = Mapping[str, Any]
UNITS: Final = {"mg/dL": ("54", "70", "180", "250"), "mmol/L": ("3.0", "3.9", "10.0", "13.9")}
"""Edges of the ranges as people of either unit know them (clinical.md 3.1)."""
_PROFILE_STEP: Final = 180
_EPISODES: Final = {
    "hypo_level_1": "low, level 1",
    "hypo_level_2": "low, level 2",
    "hypo_extended": "low, over 2 hours",
    "hyper_level_1": "high, level 1",
    "hyper_level_2": "high, level 2",
}


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.add_typer(report, name="report")


@report.command("glucose", epilog="Example: vitalgate report glucose p_1a2b --days 14 --unit mmol/L")
def glucose(
    patient: Annotated[str, typer.Argument(help="The patient's token.")],
    start: Annotated[str | None, typer.Option(help="RFC 3339 time; default: --days before the end.")] = None,
    end: Annotated[str | None, typer.Option(help="RFC 3339 time; default now.")] = None,
    days: Annotated[int | None, typer.Option(help="Days before the end; default 14.", min=1)] = None,
    unit: Annotated[
        Literal["mg/dL", "mmol/L"], typer.Option(help="Unit of the table; JSON is always in mg/dL.")
    ] = "mg/dL",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Report on a patient's sensor glucose: ranges, averages, variability, risk, daily profile and episodes."""
    params = {"start": start, "end": end, "days": days}
    with control(data_dir, config) as api:
        found = api.request(
            "GET",
            f"patients/{patient}/reports/glucose",
            params={name: value for name, value in params.items() if value is not None},
        )
    if as_json:
        show(found)
        return
    console = Console()
    for part in _parts(found, unit):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))
        if not isinstance(part, str):
            console.print()


def _parts(found: Record, unit: str) -> Iterator[Table | str]:
    """What is printed, from the top."""
    yield f"Glucose of {found['patient']}, {found['start']} to {found['end']}"
    yield found["sufficiency"]["text"]
    yield from _remarks(found["readings"])
    yield ""
    if found["readings"]["used"]:
        yield _metrics(found, unit)
        yield _forecast(found["forecast"], unit)
        yield _profile(found, unit)
        yield _episodes(found["episodes"], unit)
    sticks = found["fingersticks"]
    if sticks["n"]:
        yield (
            f"Fingersticks: {sticks['n']}, {sticks['below_70']} under {UNITS[unit][1]}, "
            f"{sticks['above_180']} over {UNITS[unit][2]} {unit}, mean {_glucose(sticks['mean_mg_dl'], unit)}."
        )


def _remarks(readings: Record) -> Iterator[str]:
    if beyond := readings["below_range"] + readings["above_range"]:
        yield (
            f"{beyond} of {readings['used']} readings lie beyond the sensor's range ({readings['below_range']} low, "
            f"{readings['above_range']} high): counted in ranges and episodes; without a number, not in averages."
        )
    if readings["left_out"]:
        counts = ", ".join(f"{word.replace('_', ' ')} {count}" for word, count in readings["left_out"].items())
        yield f"Readings left out: {counts}."


_NO_FORECAST: Final = {
    "too_few_readings": "No forecast: it takes seven readings in a row, five minutes apart.",
    "no_current_reading": "No forecast: the last reading is more than 15 minutes old.",
}


def _forecast(found: Record, unit: str) -> str:
    if found["reason"] is not None:
        return _NO_FORECAST[found["reason"]]
    low, value, high = (_glucose(found[f"{name}mg_dl"], unit) for name in ("low_", "value_", "high_"))
    past = f"{found['scored']} earlier forecasts"
    if found["in_band_percent"] is not None:
        past += f", of which {found['in_band_percent']:.0f} % were within theirs"
    return f"Forecast for {found['at']}: {value}, with 80 % between {low} and {high} (model {found['model']}; {past})."


def _metrics(found: Record, unit: str) -> Table:
    metrics, targets, enough = found["metrics"], found["adult_targets"], found["sufficiency"]
    very_low, low, high, very_high = UNITS[unit]
    percent, index = _digits(1, " %"), _digits(2)

    def mass(value: float | None) -> str:
        return _glucose(value, unit)

    rows: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
        (f"over {very_high} {unit}", "tar_above_250_percent", percent),
        (f"over {high} {unit}", "tar_above_180_percent", percent),
        (f"in range {low} to {high} {unit}", "tir_70_180_percent", percent),
        (f"under {low} {unit}", "tbr_below_70_percent", percent),
        (f"under {very_low} {unit}", "tbr_below_54_percent", percent),
        ("mean", "mean_mg_dl", mass),
        ("GMI", "gmi_percent", percent),
        ("GMI", "gmi_mmol_mol", _digits(0, " mmol/mol")),
        ("SD", "sd_mg_dl", mass),
        ("CV", "cv_percent", percent),
        (f"MAGE of {metrics['mage_days'] or 0:.0f} days", "mage_mg_dl", mass),
        ("MODD", "modd_mg_dl", mass),
        ("CONGA(1)", "conga_1_mg_dl", mass),
        ("ADRR", "adrr", index),
        ("eA1c", "ea1c_percent", percent),
        ("J-index", "j_index", index),
        ("low risk (LBGI)", "lbgi", index),
        ("high risk (HBGI)", "hbgi", index),
        (f"glycaemia risk (GRI), zone {metrics['gri_zone']}", "gri", _digits(0)),
    )
    table = _table("", "value", "adult target")
    active = enough["active_percent"]
    table.add_row("sensor active", percent(active), _target(targets, "active_percent"))
    table.add_row("days worn", str(enough["days_worn"]), "14")
    for title, name, shown in rows:
        table.add_row(title, shown(metrics[name]), _target(targets, name))
    table.caption = f"MAGE: {found['definitions']['mage_mg_dl']}."
    return table


def _profile(found: Record, unit: str) -> Table:
    """Every third hour of the profile; all of it is in the JSON."""
    profile = found["agp"]
    shares = [name for name in profile if name.startswith("p")]
    table = _table("daily profile", *(f"{name[1:]} %" for name in shares))
    table.caption = f"{unit} by time of day, {found['zone']}"
    for minute, *values in zip(profile["minute"], *(profile[name] for name in shares), strict=True):
        if minute % _PROFILE_STEP == 0:
            table.add_row(f"{minute // 60:02d}:00", *(_glucose(value, unit, bare=True) for value in values))
    return table


def _episodes(episodes: Record, unit: str) -> Table:
    table = _table("episodes", "count", "total", "lowest or highest", "ended by a gap or open")
    for name, title in _EPISODES.items():
        kind = episodes[name]
        extremes = [one["extreme_mg_dl"] for one in kind["items"]]
        pick = min if name.startswith("hypo") else max
        # An episode whose extreme is LO or HI has no number.
        extreme = "–" if not extremes else "beyond range" if None in extremes else _glucose(pick(extremes), unit)
        unfinished = kind["count"] - kind["recovered"]
        table.add_row(title, str(kind["count"]), f"{kind['minutes']:.0f} min", extreme, str(unfinished))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _target(targets: Record, name: str) -> str:
    return f"{targets[name]} %" if name in targets else ""


def _digits(digits: int, suffix: str = "") -> Callable[[float | None], str]:
    return lambda value: "–" if value is None else f"{value:.{digits}f}{suffix}"


def _glucose(value: float | None, unit: str, *, bare: bool = False) -> str:
    """mg/dL without decimals, mmol/L with one (clinical.md 1.2)."""
    if value is None:
        return "–"
    from vitals.units import from_canonical  # noqa: PLC0415 - numpy

    number = f"{float(from_canonical(value, 'mg/dL', unit)):.{1 if unit == 'mmol/L' else 0}f}"
    return number if bare else f"{number} {unit}"
