"""Tables of the pages from what the program shows to others: commands, routes, roles, MQTT codes."""

import inspect
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from dashboard_api.auth.access import ROLES, Permission
from deploy.cli import main
from deploy.layout import Layout
from deploy.processes.control import open_control
from deploy.settings import Settings
from deploy.wiring import prepare
from device_gateway.access import SignIn
from device_gateway.mqtt.packets import Code, Connack
from tests.docs.tables import code, table, yes

COMMON_OPTIONS: Final = frozenset({"data_dir", "config", "as_json"})


# Commands.


def commands() -> dict[str, TyperCommand]:
    """``"patient add"`` -> its command, for every leaf of the command line."""
    app = typer.Typer(name="vitalgate", add_completion=False)
    app.registered_commands += main.app.registered_commands
    for part in main.parts():
        part.register(app)
    return dict(_leaves("", typer.main.get_command(app)))


def _leaves(prefix: str, command: object) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from _leaves(f"{prefix} {name}".strip(), child)
    else:
        assert isinstance(command, TyperCommand)
        yield prefix, command


def options(command: TyperCommand) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of a command's arguments and own options; those that all commands have are left out."""
    rows = []
    for one in command.params:
        if one.name in COMMON_OPTIONS:
            continue
        meaning = str(getattr(one, "help", None) or "")
        if isinstance(one, TyperArgument):
            name = one.metavar or str(one.name).upper()
            rows.append((code(name), "argument" if one.required else "optional argument", meaning))
        else:
            default = "required" if one.required else _default(one.default)
            rows.append((", ".join(map(code, one.opts)), default, meaning))
    return rows


def cli_block() -> str:
    """Every command with its own options."""
    return "\n\n".join(_command(name, command) for name, command in commands().items())


def _command(name: str, command: TyperCommand) -> str:
    parts = [f"### `vitalgate {name}`", inspect.cleandoc(command.help or "")]
    rows = options(command)
    if rows:
        parts.append(table(("option", "default", "meaning"), rows))
    if command.epilog:
        parts.append(command.epilog.replace("Example: ", "Example: `", 1) + "`")
    return "\n\n".join(parts)


def _default(value: object) -> str:
    return "off" if value is False else "–" if value is None or value == "" or callable(value) else code(value)


def exit_codes_block() -> str:
    """Exit codes, as the command line's own description has them."""
    listed = " ".join(str(main.__doc__).split()).partition("Exit codes: ")[2].rstrip(".")
    return table(("code", "meaning"), [part.split(" ", 1) for part in listed.split(", ")])


# HTTP and roles.


def _openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        layout = Layout(Path(scratch))
        prepare(layout, Settings())
        with open_control(layout, Settings()) as api:
            document: dict[str, Any] = api.request("GET", "/openapi.json")
            return document


def http_block() -> str:
    """Every route with its permission, parameters and body."""
    document = _openapi()
    schemas = document.get("components", {}).get("schemas", {})
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            permission = operation.get("x-permission")
            text = " ".join(str(operation.get("description", "")).split())
            rows.append((code(f"{method.upper()} {path}"), code(permission) if permission else "none",
                         _taken(operation, schemas), text.replace("``", "`")))  # fmt: skip
    return table(("route", "permission", "takes", "does"), rows)


def _taken(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    query = [code(one["name"]) for one in operation.get("parameters", ()) if one["in"] == "query"]
    headers = [code(one["name"]) for one in operation.get("parameters", ()) if one["in"] == "header"]
    parts = [f"{where}: {', '.join(names)}" for where, names in (("query", query), ("header", headers)) if names]
    if "requestBody" in operation:
        parts.append("body: " + _body(operation["requestBody"]["content"]["application/json"]["schema"], schemas))
    return "; ".join(parts)


def _body(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return _body(schema["anyOf"][0], schemas)
    if schema.get("type") == "array":
        return "a list"
    if "$ref" not in schema:
        return "a document"
    properties = schemas[schema["$ref"].rpartition("/")[2]]
    required = properties.get("required", ())
    return ", ".join(code(name if name in required else f"{name}?") for name in properties["properties"])


def roles_block() -> str:
    """Who may do what."""
    rows = [(code(one.value), *(yes(one in granted) for granted in ROLES.values())) for one in Permission]
    return table(("permission", *ROLES), rows)


# MQTT.


def mqtt_codes_block() -> str:
    """Reason codes of MQTT 5 that the gateway sends."""
    return table(("code", "name"), [(f"0x{one.value:02X}", one.name.lower().replace("_", " ")) for one in Code])


def connack_block() -> str:
    """Return codes of an MQTT 3.1.1 CONNACK."""
    return table(("code", "name"), [(f"0x{one.value:02X}", one.name.lower().replace("_", " ")) for one in Connack])


def sign_ins_block() -> str:
    """Outcomes of a sign-in, the words of ``vitalgate_auth_failures_total``."""
    return ", ".join(code(one.value) for one in SignIn if one is not SignIn.ALLOWED)
