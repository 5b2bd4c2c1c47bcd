"""The ``vitalgate`` command (CONTRACTS: command line). Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration,
4 backend unavailable, 5 not found."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from deploy.cli.shared import AsJson, ConfigFile, DataDir, locate, show
from deploy.layout import DEFAULT_DATA_DIR
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
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - loads the parser of mail headers

        typer.echo(f"vitalgate {version('vitalgate')}")
        raise typer.Exit


@app.callback()
def vitalgate(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Remote patient monitoring: devices over MQTT in, vital signs and alerts out."""


@app.command(epilog="Example: vitalgate up --data-dir ./ward --http 127.0.0.1:0 --mqtt 127.0.0.1:0")
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    config: ConfigFile = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT of the API; port 0 = any free.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="HOST:PORT of the MQTT endpoint; port 0 = any free.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Also run a ward of synthetic patients.")] = False,
    as_json: AsJson = False,  # noqa: ARG001 - the ready line is JSON anyway
) -> None:
    """Run the pipeline until SIGTERM; prints one line of JSON once it is ready."""
    layout, loaded = locate(data_dir, config)
    from deploy import kernels, logs  # noqa: PLC0415 - structlog
    from deploy.processes.supervise import Supervisor  # noqa: PLC0415

    logs.configure("supervisor")
    where = _address(http, loaded.http.listen, "--http"), _address(mqtt, loaded.mqtt.listen, "--mqtt")
    layout.create()
    with layout.lock("owner"):
        kernels.use(layout.root)
        supervisor = Supervisor(layout, loaded, *where, None if config is None else config.absolute())
        supervisor.run(_announce, demo=demo)


def _address(given: str | None, default: str, option: str) -> str:
    from deploy import settings  # noqa: PLC0415 - pydantic; a command loads what it uses only

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
    from deploy import settings  # noqa: PLC0415

    settings.load(file)
    if as_json:
        show({"ok": True})


OWN = ("up", "check-config")
"""Commands of this module."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "people": ("token", "patient"),
    "protocols": ("protocol", "programme", "patient"),
    "devices": ("device", "quarantine", "unassigned"),
    "adapters": ("adapter",),
    "traffic": ("import", "replay", "simulate"),
    "report": ("report",),
    "detect": ("detect",),
    "backtest": ("backtest",),
    "bench": ("load", "bench"),
}
"""Modules of ``deploy.cli`` that hang their commands on an app with ``register``, and the commands of each."""


def parts(command: str = "") -> tuple[ModuleType, ...]:
    """The modules that make up a command; all of them for what is no command, such as ``--help`` or a typing error."""
    named = [part for part, commands in PARTS.items() if command in commands]
    if command in OWN:
        return ()
    return tuple(import_module(f"deploy.cli.{part}") for part in named or PARTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, or raises ``SystemExit`` with it."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    for part in parts(given[0] if given else ""):
        part.register(app)
    try:
        app(args=given, prog_name="vitalgate")
    except VitalgateError as error:
        sys.stderr.write(f"vitalgate: {error}\n")
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
