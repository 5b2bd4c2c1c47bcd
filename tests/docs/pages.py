"""The generated blocks of the pages under docs/: each from the one table that the code itself reads.

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``python -m tests.docs.pages --write`` rewrites
all of them; a test fails when one is stale.
"""

import ast
import inspect
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import IntEnum, IntFlag, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.core import TyperArgument, TyperCommand, TyperGroup

from alerts import lifecycle
from dashboard_api.auth import ROLES, Permission
from deploy import cli, cli_bench, cli_devices, cli_people, cli_traffic
from deploy.control import open_control
from deploy.layout import Layout
from deploy.settings import Settings
from device_gateway.mqtt.actions import Decision
from device_gateway.mqtt.packets import Code, Connack
from device_gateway.settings import GatewaySettings
from ingest.adapter import Adapter
from ingest.adapters import BUILT_IN
from ingest.attribution import Unplaced
from vitals import glossary
from vitals.catalog import VITALS, Vital
from vitals.glossary import Mode

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "docs"
PACKAGES: Final = ("vitals", "device_gateway", "ingest", "alerts", "dashboard_api", "simulators", "deploy")
COMMON_OPTIONS: Final = frozenset({"data_dir", "config", "as_json"})
BLOCK: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; bars and line ends inside cells are escaped."""
    lines = [_row(head), "|".join(["", *["---"] * len(head), ""])]
    return "\n".join([*lines, *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) or "–" for cell in cells) + " |"


def _code(value: object) -> str:
    return f"`{value}`"


# Settings.


def settings_blocks() -> str:
    """Every section of a settings file with its keys, defaults and meanings."""
    parts = []
    for name, item in Settings.model_fields.items():
        annotation = item.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            text, rows = str(annotation.__doc__), _model_rows(annotation)
        else:
            text, rows = str(GatewaySettings.__doc__).splitlines()[0], gateway_rows()
        parts += [f"### `[{name}]`", text, table(("key", "default", "meaning"), rows)]
    return "\n\n".join(parts)


def _model_rows(section: type[BaseModel]) -> list[tuple[str, str, str]]:
    rows = []
    for key, item in section.model_fields.items():
        assert item.default is not PydanticUndefined, f"{section.__name__}.{key} has no default"
        assert item.description, f"{section.__name__}.{key} has no description"
        rows.append((_code(key), _code(_toml(item.default)), item.description))
    return rows


def gateway_rows() -> list[tuple[str, str, str]]:
    """The gateway's settings; a field's meaning is the string that stands below it."""
    meanings = _documented_fields(GatewaySettings)
    return [(_code(item.name), _code(_toml(item.default)), meanings[item.name]) for item in fields(GatewaySettings)]


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _documented_fields(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            assert isinstance(following, ast.Expr), f"{kind.__name__}.{statement.target.id} is undocumented"
            assert isinstance(following.value, ast.Constant)
            found[statement.target.id] = str(following.value.value)
    return found


# Metrics.


class Metric(NamedTuple):
    """One family as the code declares it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics_in_code() -> dict[str, Metric]:
    """Every family that a call like ``Counter("vitalgate_…", "meaning", labels)`` declares, by exposed name."""
    found: dict[str, Metric] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for metric in _metrics_of(path):
                found.setdefault(metric.name, metric)
    return dict(sorted(found.items()))


def _metrics_of(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        name, call = node.args[0].value, ast.unparse(node.func).rpartition(".")[2]
        kind = re.fullmatch(r"(Counter|Gauge|Histogram)(MetricFamily)?", call)
        if kind is None or not isinstance(name, str) or not name.startswith("vitalgate_"):
            continue
        meaning = ast.literal_eval(node.args[1])
        if kind[1] == "Counter" and not name.endswith("_total"):
            name += "_total"
        yield Metric(name, kind[1].lower(), _labels(node), meaning)


def _labels(call: ast.Call) -> tuple[str, ...]:
    given = [word.value for word in call.keywords if word.arg == "labels"]
    given += [argument for argument in call.args[2:] if isinstance(argument, ast.Tuple)]
    return tuple(ast.literal_eval(given[0])) if given else ()


def metrics_block() -> str:
    """All metrics."""
    rows = [
        (_code(one.name), one.kind, ", ".join(map(_code, one.labels)), one.meaning)
        for one in metrics_in_code().values()
    ]
    return table(("metric", "type", "labels", "meaning"), rows)


# Vocabularies.


def words_block(kind: type[StrEnum]) -> str:
    """A closed vocabulary whose members carry their meaning."""
    return table(("word", "meaning"), [(_code(one.value), _meaning(one)) for one in kind])


def _meaning(member: object) -> str:
    meaning = getattr(member, "meaning", "")
    assert meaning, f"{member!r} has no meaning"
    return str(meaning)


def basis_block() -> str:
    """Bases of a reading's time."""
    return table(("word", "meaning"), [(_code(one.name.lower()), _meaning(one)) for one in glossary.Basis])


def flags_block() -> str:
    """Flags of a reading, and whether they keep it from being scored."""
    rows = [
        (_code(str(flag.name).lower()), flag.value, glossary.FLAG_MEANINGS[flag], _yes(not flag & glossary.NOT_SCORED))
        for flag in glossary.Flag
    ]
    return table(("flag", "bit", "meaning", "scored"), rows)


def severities_block() -> str:
    """Severities; their meanings are the words of the enumeration's own description."""
    words = dict(re.findall(r"(S\d) (\w+)", str(glossary.Severity.__doc__)))
    return table(("severity", "priority"), [(_code(one.name), words[one.name]) for one in glossary.Severity])


def plain_block(kind: type[IntEnum] | type[StrEnum] | type[IntFlag]) -> str:
    """A vocabulary of words that speak for themselves."""
    return ", ".join(_code(one.name.lower()) for one in kind)


def transitions_block() -> str:
    """What follows what in the life of an alert."""
    rows = [
        (_code(state.value), trigger.value, _code(step.to.value) if step.to else "same", step.kind or "none")
        for (state, trigger), step in lifecycle.TABLE.items()
    ]
    return table(("from", "trigger", "to", "event recorded"), rows)


def shelves_block() -> str:
    """How long an alert of each severity may be shelved."""
    rows = [(one.name, f"{ns // lifecycle.MINUTE_NS} min") for one, ns in lifecycle.LONGEST_SHELF_NS.items()]
    return table(("severity", "longest shelf"), rows)


# Adapters and vital signs.


def adapters_block() -> str:
    """Every built-in adapter."""
    return "\n\n".join(_adapter(adapter) for adapter in BUILT_IN)


def _adapter(adapter: Adapter) -> str:
    module = inspect.getmodule(adapter.decode)
    paragraphs = inspect.cleandoc(str(module.__doc__)).split("\n\n")
    identity = next((text for text in paragraphs if text.startswith("Identity")), None)
    assert identity, f"{adapter.name} does not say what identifies a reading"
    text = identity.replace("``", "`").replace("\n", " ")
    rows = [
        ("version", adapter.version),
        ("vital signs", ", ".join(map(_code, sorted(adapter.vitals)))),
        ("largest payload", f"{adapter.max_payload} bytes"),
        *[("kind " + (_code(kind) if kind else "(none)"), meaning) for kind, meaning in adapter.kinds.items()],
        *[("setting " + _code(key), meaning) for key, meaning in adapter.settings.items()],
    ]
    return f"### `{adapter.name}`: {adapter.title}\n\n" + table(("what", "value"), rows) + f"\n\n{text}"


def vitals_block() -> str:
    """The catalogue."""
    rows = [
        (_code(one.key), one.name, ", ".join(one.loinc), one.mdc or "", _code(one.unit),
         ", ".join(map(_code, one.accepts)), _span(one.implausible), _span(one.suspect))
        for one in VITALS
    ]  # fmt: skip
    head = ("key", "name", "LOINC", "MDC", "unit", "also accepts", "implausible outside", "suspect outside")
    return table(head, rows)


def currency_block() -> str:
    """How long values stay current, and how old they may be to page."""
    rows = [(_code(one.key), one.mode.value, *_times(one)) for one in VITALS if not one.panel]
    head = ("key", "usual mode", "current for (spot)", "current for (continuous)", "pages up to (spot)",
            "pages up to (continuous)")  # fmt: skip
    return table(head, rows)


def coded_block() -> str:
    """Vital signs whose values are words, and panels."""
    rows = [(_code(one.key), "values", ", ".join(map(_code, one.values))) for one in VITALS if one.values]
    rows += [(_code(one.key), "panel of", ", ".join(map(_code, one.panel))) for one in VITALS if one.panel]
    return table(("key", "is", "words or parts"), rows)


def _times(one: Vital) -> list[str]:
    spans = [one.staleness_ns(Mode.SPOT), one.staleness_ns(Mode.CONTINUOUS),
             one.paging_age_ns(Mode.SPOT), one.paging_age_ns(Mode.CONTINUOUS)]  # fmt: skip
    minutes = [span // 60_000_000_000 for span in spans]
    return [f"{span // 60} h" if span >= 60 and span % 60 == 0 else f"{span} min" for span in minutes]


def _span(span: tuple[float, float]) -> str:
    low, high = span
    return "" if low == -float("inf") else f"{low:g} to {high:g}"


# Commands.


def commands() -> dict[str, TyperCommand]:
    """``"patient add"`` -> its command, for every leaf of the command line."""
    app = typer.Typer(name="vitalgate", add_completion=False)
    app.registered_commands += cli.app.registered_commands
    for part in (cli_people, cli_devices, cli_traffic, cli_bench):
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
            rows.append((_code(name), "argument" if one.required else "optional argument", meaning))
        else:
            default = "required" if one.required else _default(one.default)
            rows.append((", ".join(map(_code, one.opts)), default, meaning))
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
    return "off" if value is False else "–" if value is None or value == "" or callable(value) else _code(value)


def exit_codes_block() -> str:
    """Exit codes, as the command line's own description has them."""
    listed = " ".join(str(cli.__doc__).split()).partition("Exit codes: ")[2].rstrip(".")
    return table(("code", "meaning"), [part.split(" ", 1) for part in listed.split(", ")])


# HTTP and roles.


def routes() -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, OpenAPI operation) of every route of the application."""
    document = _openapi()
    return [
        (method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def _openapi() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch, open_control(Layout(Path(scratch)), Settings()) as api:
        document: dict[str, Any] = api.request("GET", "http://local/openapi.json")
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
            rows.append((_code(f"{method.upper()} {path}"), _code(permission) if permission else "none",
                         _taken(operation, schemas), text.replace("``", "`")))  # fmt: skip
    return table(("route", "permission", "takes", "does"), rows)


def _taken(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    query = [_code(one["name"]) for one in operation.get("parameters", ()) if one["in"] == "query"]
    headers = [_code(one["name"]) for one in operation.get("parameters", ()) if one["in"] == "header"]
    parts = [f"{where}: {', '.join(names)}" for where, names in (("query", query), ("header", headers)) if names]
    if "requestBody" in operation:
        parts.append("body: " + _body(operation["requestBody"]["content"]["application/json"]["schema"], schemas))
    return "; ".join(parts)


def _body(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return _body(schema["anyOf"][0], schemas)
    if schema.get("type") == "array":
        return "a list"
    properties = schemas[schema["$ref"].rpartition("/")[2]]
    required = properties.get("required", ())
    return ", ".join(_code(name if name in required else f"{name}?") for name in properties["properties"])


def roles_block() -> str:
    """Who may do what."""
    rows = [(_code(one.value), *(_yes(one in granted) for granted in ROLES.values())) for one in Permission]
    return table(("permission", *ROLES), rows)


def _yes(holds: object) -> str:
    return "yes" if holds else "–"


# MQTT.


def mqtt_codes_block() -> str:
    """Reason codes of MQTT 5 that the gateway sends."""
    return table(("code", "name"), [(f"0x{one.value:02X}", one.name.lower().replace("_", " ")) for one in Code])


def connack_block() -> str:
    """Return codes of an MQTT 3.1.1 CONNACK."""
    return table(("code", "name"), [(f"0x{one.value:02X}", one.name.lower().replace("_", " ")) for one in Connack])


def sign_ins_block() -> str:
    """Outcomes of a sign-in, the words of ``vitalgate_auth_failures_total``."""
    return ", ".join(_code(one.value) for one in Decision if one is not Decision.ALLOWED)


BLOCKS: Final[Mapping[str, Callable[[], str]]] = MappingProxyType({
    "settings": settings_blocks,
    "metrics": metrics_block,
    "reasons": lambda: words_block(glossary.Reason),
    "unplaced": lambda: words_block(Unplaced),
    "alert-states": lambda: words_block(glossary.AlertState),
    "transitions": transitions_block,
    "shelves": shelves_block,
    "severities": severities_block,
    "flags": flags_block,
    "basis": basis_block,
    "event-kinds": lambda: words_block(glossary.EventKind),
    "control-kinds": lambda: words_block(glossary.ControlKind),
    "modes": lambda: plain_block(glossary.Mode),
    "statistics": lambda: plain_block(glossary.Statistic),
    "adapters": adapters_block,
    "vitals": vitals_block,
    "currency": currency_block,
    "coded": coded_block,
    "cli": cli_block,
    "exit-codes": exit_codes_block,
    "http": http_block,
    "roles": roles_block,
    "mqtt-codes": mqtt_codes_block,
    "connack": connack_block,
    "sign-ins": sign_ins_block,
})  # fmt: skip
"""Block name -> what makes it."""


def pages() -> list[Path]:
    """Every page that can hold blocks."""
    return sorted(PAGES.rglob("*.md"))


def refreshed(text: str) -> str:
    """The page with every generated block as the code has it now; raises ``KeyError`` for an unknown block."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found['name']]()}\n{found['end']}", text)


def main(arguments: Sequence[str]) -> int:
    """List stale pages, or with ``--write`` rewrite them."""
    stale = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        fresh = refreshed(text)
        if fresh == text:
            continue
        stale += 1
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
        if "--write" in arguments:
            page.write_text(fresh, encoding="utf-8")
    return 0 if "--write" in arguments else min(stale, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
