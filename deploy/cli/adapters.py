"""Commands about adapters: list them, try one on a payload, create a package for a new one."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.shared import AsJson, ConfigFile, DataDir, show, show_list
from deploy.layout import DEFAULT_DATA_DIR
from vitals.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from ingest.adapter import Adapter

adapter = typer.Typer(
    help="Adapters: what turns payloads of a device family into readings.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="The adapter's name, as in the third level of the topic.")]


def register(app: typer.Typer) -> None:
    """Hang these commands on the command line."""
    app.add_typer(adapter, name="adapter")


def _all() -> "dict[str, Adapter]":
    """Adapters, built in and installed."""
    from ingest.adapters import load_adapters  # noqa: PLC0415 - a command loads what it uses only

    return load_adapters()


def _known(name: str) -> "Adapter":
    from ingest.adapters import BUILT_IN, built_in  # noqa: PLC0415

    found = built_in(name) if name in BUILT_IN else _all().get(name)
    if found is None:
        raise NotFound("adapter", name)
    return found


@adapter.command("list", epilog="Example: vitalgate adapter list")
def list_adapters(
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001 - every command takes it
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """List adapters, built in and installed."""
    items: list[dict[str, Any]] = [
        {"name": one.name, "title": one.title, "version": one.version, "kinds": list(one.kinds),
         "vitals": sorted(one.vitals)}
        for one in _all().values()
    ]  # fmt: skip
    if not as_json:
        for item in items:
            item["kinds"] = ", ".join(kind or "(none)" for kind in item["kinds"])
            item["vitals"] = ", ".join(item["vitals"])
    show_list(items, ("name", "title", "version", "kinds", "vitals"), as_json)


@adapter.command("show", epilog="Example: vitalgate adapter show ble_glucose")
def show_adapter(
    name: Name,
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Show an adapter's kinds, settings, vital signs, limits, and the identity of its readings."""
    one = _known(name)
    from deploy.jobs.trial import identity_note  # noqa: PLC0415 - loads the stages of ingest
    from vitals.sources import unpaged  # noqa: PLC0415

    reasons = [vital.reason for vital in unpaged(one.family)]
    record = {
        "name": one.name, "title": one.title, "version": one.version, "kinds": dict(one.kinds),
        "settings": dict(one.settings), "vitals": sorted(one.vitals), "max_payload": one.max_payload,
        "files": list(one.files), "identity": identity_note(one),
        "cannot_page": reasons,
    }  # fmt: skip
    if as_json:
        show(record)
        return
    lines = [("name", one.name), ("title", one.title), ("version", one.version)]
    lines += [("kind " + (kind or "(none)"), meaning) for kind, meaning in one.kinds.items()]
    lines += [(f"setting {key}", meaning) for key, meaning in one.settings.items()]
    lines += [("vitals", ", ".join(sorted(one.vitals))), ("largest payload", f"{one.max_payload} bytes")]
    lines += [("files for import", ", ".join(kind or "(none)" for kind in one.files))] if one.files else []
    lines += [("identity", str(record["identity"]).removeprefix("Identity: "))] if record["identity"] else []
    lines += [("cannot page", reason) for reason in reasons]
    show_list([{"what": what, "value": value} for what, value in lines], ("what", "value"), as_json=False)


@adapter.command(
    "try", epilog="Example: vitalgate adapter try ble_plx --payload value.txt --hex --kind 2a5f --zone Europe/Berlin"
)
def try_adapter(
    name: Name,
    payload: Annotated[str, typer.Option(help="File with one payload; - is standard input.")],
    kind: Annotated[str | None, typer.Option(help="Kind of payload; needed if the adapter has several.")] = None,
    as_hex: Annotated[bool, typer.Option("--hex", help="The file holds the bytes as hexadecimal text.")] = False,
    zone: Annotated[str | None, typer.Option(help="IANA zone of the wearer and the device's clock.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Model setting KEY=VALUE; may be repeated.")
    ] = None,
    code_map: Annotated[Path | None, typer.Option(help="Code map of the sender (TOML), for hl7v2.")] = None,
    captured: Annotated[
        bool, typer.Option("--captured", help="The file holds several payloads, cut as `vitalgate import` does.")
    ] = False,
    received: Annotated[str | None, typer.Option(help="RFC 3339 time of receipt; default now.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Show the readings, events and rejects of a payload. Nothing is stored, and no pipeline is needed."""
    one = _known(name)
    chosen = _kind(one, kind)
    settings = _settings(one, setting or [])
    if code_map is not None:
        settings["code_map"] = _code_map(one, code_map)
    from dashboard_api.times import parse_time  # noqa: PLC0415 - a command loads what it uses only

    received_ns = time.time_ns() if received is None else parse_time(received, "--received")
    body = _read(payload, as_hex)
    from deploy.jobs.trial import try_payload  # noqa: PLC0415 - loads the stages of ingest

    result = try_payload(one, body, chosen, received_ns=received_ns, zone=zone, settings=settings, captured=captured)
    if as_json:
        show(result)
    else:
        _print(result)


def _kind(one: "Adapter", given: str | None) -> str:
    """The kind of the payload; the adapter rejects an unknown kind."""
    if given is not None:
        return given
    if "" in one.kinds:
        return ""
    if len(one.kinds) > 1:
        raise InvalidRequest("--kind", f"one of {', '.join(one.kinds)}")
    return next(iter(one.kinds))


def _settings(one: "Adapter", pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest("--set", "KEY=VALUE")
        if key not in one.settings:
            raise InvalidRequest("--set", f"{one.name} has " + (", ".join(one.settings) or "no settings"))
        found[key] = value
    return found


def _code_map(one: "Adapter", file: Path) -> str:
    """The text of a code map that can be used; raises ``ConfigError`` naming the row that is wrong."""
    from ingest.adapters.hl7.code_map import parse  # noqa: PLC0415 - a command loads what it uses only

    if "code_map" not in one.settings:
        raise InvalidRequest("--code-map", f"{one.name} has none")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidRequest("--code-map", f"{file}: cannot be read") from error
    parse(text)
    return text


def _read(payload: str, as_hex: bool) -> bytes:
    try:
        body = sys.stdin.buffer.read() if payload == "-" else Path(payload).read_bytes()
    except OSError as error:
        raise InvalidRequest("--payload", f"{payload}: {error.strerror}") from error
    if not as_hex:
        return body
    try:
        return bytes.fromhex(re.sub(r"0[xX]|[\s:,-]", "", body.decode("ascii")))
    except ValueError as error:
        raise InvalidRequest("--payload", "not hexadecimal text") from error


def _print(result: Mapping[str, Any]) -> None:
    """Tables as people read them; an empty part is one line."""
    from rich.console import Console  # noqa: PLC0415 - for tables only

    console = Console()
    for title, rows, columns in (
        ("Readings", [_row(reading) for reading in result["readings"]],
         ("vital", "value", "time", "basis", "seq", "flags", "note")),
        ("Events", result["events"], ("kind", "vital", "value", "time", "detail")),
        ("Alarms", result.get("alarms", ()), ("vital", "value", "time", "code", "priority", "step")),
        ("Rejects", result["rejects"], ("reason", "detail")),
        ("Unknown codes", result["unknown_codes"], ("kind", "code", "count")),
    ):  # fmt: skip
        if rows:
            console.print(title, style="bold")
            show_list(rows, columns, as_json=False)
        else:
            console.print(f"{title}: none")
    for count, words in (
        (result["duplicates"], "readings that are in it twice"), (result["unknown_members"], "unknown members"),
        (result["left_out"], "members beside values that cannot be read and are left out"),
    ):  # fmt: skip
        if count:
            console.print(f"{count} {words}")


def _row(reading: Mapping[str, Any]) -> dict[str, Any]:
    reported = reading["reported"]
    notes = {key: reading[key] for key in ("unassigned",) if key in reading} | reading["context"]
    if reading["statistic"] != "single":
        notes = {"statistic": reading["statistic"]} | notes
    if reading["end"]:
        notes = {"until": reading["end"]} | notes
    if (reported["value"], reported["unit"]) != (reading["value"], reading["unit"]):
        notes = {"reported": f"{_number(reported['value'])} {reported['unit']}"} | notes
    return {
        "vital": reading["vital"], "value": f"{_number(reading['value'])} {reading['unit']}", "time": reading["time"],
        "basis": reading["basis"], "seq": reading["seq"], "flags": ", ".join(reading["flags"]),
        "note": "; ".join(f"{key} {value}" for key, value in notes.items()),
    }  # fmt: skip


def _number(value: float | None) -> str:
    return "no number" if value is None else f"{value:.10g}"


@adapter.command("new", epilog="Example: vitalgate adapter new acme_cuff")
def new_adapter(
    name: Annotated[str, typer.Argument(help="Name of the new adapter: a-z, 0-9 and _, at most 32.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,  # noqa: ARG001
    config: ConfigFile = None,  # noqa: ARG001
    as_json: AsJson = False,
) -> None:
    """Create ./NAME: a package with a working adapter, a golden case and a test, as a starting point."""
    if name in _all():
        raise InvalidRequest("NAME", f"{name} is taken by an adapter that is installed")
    from deploy.jobs.skeleton import create  # noqa: PLC0415 - a command loads what it uses only

    files = create(name, Path.cwd())
    if as_json:
        show({"name": name, "folder": str(Path.cwd() / name), "files": files})
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    console.print(f"Created {name}/ with {', '.join(files)}", soft_wrap=True)
    for step in (
        f"pytest {name}                    # its golden case passes",
        f"edit {name}/vitalgate_{name}.py  # decode what your device sends",
        f"pip install -e ./{name}          # beside vitalgate; then restart vitalgate up",
        f"vitalgate adapter try {name} --payload {name}/cases/first/input.json",
    ):
        console.print("  " + step, soft_wrap=True, markup=False)
