"""The ``vitalgate`` command (CONTRACTS: command line). Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration,
4 backend unavailable, 5 not found."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy import settings
from deploy.layout import PRIVATE_UMASK, Layout
from deploy.settings import DEFAULT_DATA_DIR, Settings
from vitals.errors import BackendError, ConfigError, InvalidRequest, NotAuthorised, NotFound, VitalgateError

EXIT_CODES: Mapping[type[VitalgateError], int] = {
    ConfigError: 3,
    BackendError: 4,
    NotFound: 5,
    InvalidRequest: 2,
    NotAuthorised: 1,
    VitalgateError: 1,
}

app = typer.Typer(
    name="vitalgate",
    help="Remote patient monitoring: devices over MQTT in, vital signs and alerts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataDir = Annotated[Path, typer.Option("--data-dir", help="The data directory.", envvar="VITALGATE_DATA_DIR")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).", envvar="VITALGATE_CONFIG")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def locate(data_dir: Path, config: Path | None) -> tuple[Layout, Settings]:
    """The layout and settings that a command works on; kernels are cached in the directory."""
    layout = Layout(data_dir.absolute())
    os.umask(PRIVATE_UMASK)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(layout.kernels))
    return layout, settings.load(config)


def control(data_dir: Path, config: Path | None) -> AbstractContextManager[Any]:
    """The way into the data directory, with the heavy imports only when a command needs them."""
    layout, loaded = locate(data_dir, config)
    from deploy.control import open_control  # noqa: PLC0415 - backends load in a second; --help must not wait for it

    return open_control(layout, loaded)


def show(record: Any) -> None:
    """One record, as JSON on a line."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def show_list(items: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """A list: JSON, or a table of some columns."""
    if as_json:
        show({"items": list(items), "next": None})
        return
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in items:
        # Units and field paths have brackets, which are no markup.
        table.add_row(*("–" if item.get(name) in (None, "") else escape(str(item[name])) for name in columns))
    console = Console()
    console.print(table if items else "none")


@app.command(epilog="Example: vitalgate up --data-dir ./ward --http 127.0.0.1:0 --mqtt 127.0.0.1:0")
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of the API; port 0 = any free.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="HOST:PORT of the MQTT endpoint; port 0 = any free.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="With a ward of synthetic patients.")] = False,
    as_json: AsJson = False,  # noqa: ARG001 - the ready line is JSON anyway
) -> None:
    """Run the pipeline until SIGTERM; prints one line of JSON once it is ready."""
    layout, loaded = locate(data_dir, config)
    from deploy import logs  # noqa: PLC0415
    from deploy.supervise import Supervisor  # noqa: PLC0415

    logs.configure("supervisor")
    where = _address(http, loaded.http.listen, "--http"), _address(mqtt, loaded.mqtt.listen, "--mqtt")
    layout.create()
    with layout.lock("owner"):
        supervisor = Supervisor(layout, loaded, *where, None if config is None else config.absolute())
        supervisor.run(_announce, demo=demo)


def _address(given: str | None, default: str, option: str) -> str:
    try:
        settings.address(given or default)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    return given or default


def _announce(record: Mapping[str, Any]) -> None:
    show(record)
    sys.stdout.flush()


@app.command("check-config", epilog="Example: vitalgate check-config ward.toml")
def check_config(
    file: Annotated[Path, typer.Argument(help="Settings file (TOML).")],
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001 - every command takes it
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Validate a settings file: exit code 0, or 3 with one line naming the setting."""
    settings.load(file)
    if as_json:
        show({"ok": True})


def parts() -> tuple[ModuleType, ...]:
    """Modules that hang their commands on an app with ``register``."""
    from deploy import (  # noqa: PLC0415 - loads only when the command line does
        cli_adapters,
        cli_backtest,
        cli_bench,
        cli_detect,
        cli_devices,
        cli_people,
        cli_protocols,
        cli_report,
        cli_traffic,
    )

    people = cli_people, cli_protocols, cli_devices, cli_adapters
    return *people, cli_traffic, cli_report, cli_detect, cli_backtest, cli_bench


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, or raises ``SystemExit`` with it."""
    for part in parts():
        part.register(app)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="vitalgate")
    except VitalgateError as error:
        sys.stderr.write(f"vitalgate: {error}\n")
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
