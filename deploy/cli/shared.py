"""What the commands share: their common options, the way into a data directory, and how records are printed."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.layout import PRIVATE_UMASK, Layout

if TYPE_CHECKING:
    from deploy.settings import Settings

DataDir = Annotated[Path, typer.Option("--data-dir", help="The data directory.", envvar="VITALGATE_DATA_DIR")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file (TOML).", envvar="VITALGATE_CONFIG")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def locate(data_dir: Path, config: Path | None) -> "tuple[Layout, Settings]":
    """The layout and settings that a command works on."""
    from deploy import settings  # noqa: PLC0415 - pydantic; a command loads what it uses only

    return _at(data_dir), settings.load(config)


def _at(data_dir: Path) -> Layout:
    os.umask(PRIVATE_UMASK)
    return Layout(data_dir.absolute())


def control(data_dir: Path, config: Path | None) -> AbstractContextManager[Any]:
    """The way into the data directory. Settings and backends load only when no owner runs on it, or with ``config``."""
    from deploy.processes.control import ask_owner, open_control  # noqa: PLC0415 - an HTTP client

    layout = _at(data_dir)
    if config is None and layout.lock("owner").held():
        return ask_owner(layout)
    return open_control(*locate(data_dir, config))


def show(record: Any) -> None:
    """One record, as JSON on a line."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def show_list(items: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """A list: JSON, or a table of some columns."""
    if as_json:
        show({"items": list(items), "next": None})
        return
    from rich.console import Console  # noqa: PLC0415 - for tables only
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for item in items:
        # Units and field paths have brackets, which are no markup.
        table.add_row(*("–" if item.get(name) in (None, "") else escape(str(item[name])) for name in columns))
    console = Console()
    console.print(table if items else "none")
