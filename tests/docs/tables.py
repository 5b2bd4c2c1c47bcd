"""Tables of the pages from the vocabularies, settings, metrics, adapters and the catalogue in the code."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from alerts.cases import ladder, lifecycle
from alerts.programmes import controls
from deploy.settings import Settings
from device_gateway.settings import GatewaySettings
from vitals import glossary
from vitals.catalog import VITALS, Vital
from vitals.glossary import Mode
from vitals.times import MINUTE_NS

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("vitals", "device_gateway", "ingest", "alerts", "dashboard_api", "simulators", "deploy")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; bars and line ends inside cells are escaped."""
    lines = [_row(head), "|".join(["", *["---"] * len(head), ""])]
    return "\n".join([*lines, *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(" ".join(str(cell).replace("|", "\\|").split()) or "–" for cell in cells) + " |"


def code(value: object) -> str:
    """A cell set as code."""
    return f"`{value}`"


def yes(holds: object) -> str:
    """A cell that holds or not."""
    return "yes" if holds else "–"


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
        rows.append((code(key), code(_toml(item.default)), item.description))
    return rows


def gateway_rows() -> list[tuple[str, str, str]]:
    """The gateway's settings; a field's meaning is the string that stands below it."""
    meanings = _documented_fields(GatewaySettings)
    return [(code(item.name), code(_toml(item.default)), meanings[item.name]) for item in fields(GatewaySettings)]


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


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
        (code(one.name), one.kind, ", ".join(map(code, one.labels)), one.meaning) for one in metrics_in_code().values()
    ]
    return table(("metric", "type", "labels", "meaning"), rows)


# Vocabularies.


def words_block(kind: type[StrEnum]) -> str:
    """A closed vocabulary whose members carry their meaning."""
    return table(("word", "meaning"), [(code(one.value), _meaning(one)) for one in kind])


def _meaning(member: object) -> str:
    meaning = getattr(member, "meaning", "")
    assert meaning, f"{member!r} has no meaning"
    return str(meaning)


def basis_block() -> str:
    """Bases of a reading's time."""
    return table(("word", "meaning"), [(code(one.name.lower()), _meaning(one)) for one in glossary.Basis])


def flags_block() -> str:
    """Flags of a reading, and whether they keep it from being scored."""
    rows = [
        (code(str(flag.name).lower()), flag.value, glossary.FLAG_MEANINGS[flag], yes(not flag & glossary.NOT_SCORED))
        for flag in glossary.Flag
    ]
    return table(("flag", "bit", "meaning", "scored"), rows)


def severities_block() -> str:
    """Severities; their meanings are the words of the enumeration's own description."""
    words = dict(re.findall(r"(S\d) (\w+)", str(glossary.Severity.__doc__)))
    return table(("severity", "priority"), [(code(one.name), words[one.name]) for one in glossary.Severity])


def plain_block(kind: type[IntEnum] | type[StrEnum]) -> str:
    """A vocabulary of words that speak for themselves."""
    return ", ".join(code(str(one.name).lower()) for one in kind)


def transitions_block() -> str:
    """What follows what in the life of an alert."""
    rows = [
        (code(state.value), trigger.value, code(step.to.value) if step.to else "same", step.kind or "none")
        for (state, trigger), step in lifecycle.TABLE.items()
    ]
    return table(("from", "trigger", "to", "event recorded"), rows)


def shelves_block() -> str:
    """How long an alert of each severity may be shelved."""
    rows = [(one.name, f"{ns // MINUTE_NS} min") for one, ns in controls.LONGEST_SHELF_NS.items()]
    return table(("severity", "longest shelf"), rows)


def ladder_block() -> str:
    """How long people have, and after what time an acknowledged alert asks again."""
    rows = [
        (one.name, f"{ns // MINUTE_NS} min",
         f"{ns / 2 / MINUTE_NS:g} min" if ladder.next_level(ladder.SUPERVISOR, one, technical=False) else "",
         f"{ladder.REALARM_NS[one] // MINUTE_NS} min" if one in ladder.REALARM_NS else "never")
        for one, ns in ladder.SLA_NS.items()
    ]  # fmt: skip
    return table(("severity", "the owner has", "each further rung has", "asks again after an acknowledgement"), rows)


# Vital signs.


def vitals_block() -> str:
    """The catalogue."""
    rows = [
        (code(one.key), one.name, ", ".join(one.loinc), one.mdc or "", code(one.unit),
         ", ".join(map(code, one.accepts)), _span(one.implausible), _span(one.suspect),
         " / ".join(word or "–" for word in one.urgent) if any(one.urgent) else "")
        for one in VITALS
    ]  # fmt: skip
    head = ("key", "name", "LOINC", "MDC", "unit", "also accepts", "implausible outside", "suspect outside",
            "urgent low / high")  # fmt: skip
    return table(head, rows)


def currency_block() -> str:
    """How long values stay current, how old they may be to page, and how long nothing may come."""
    rows = [(code(one.key), one.mode.value, *_times(one)) for one in VITALS if not one.panel]
    head = ("key", "usual mode", "current for (spot)", "current for (continuous)", "pages up to (spot)",
            "pages up to (continuous)", "silent after")  # fmt: skip
    return table(head, rows)


def coded_block() -> str:
    """Vital signs whose values are words, and panels."""
    rows = [(code(one.key), "values", ", ".join(map(code, one.values))) for one in VITALS if one.values]
    rows += [(code(one.key), "panel of", ", ".join(map(code, one.panel))) for one in VITALS if one.panel]
    return table(("key", "is", "words or parts"), rows)


def _times(one: Vital) -> list[str]:
    spans = [one.staleness_ns(Mode.SPOT), one.staleness_ns(Mode.CONTINUOUS),
             one.paging_age_ns(Mode.SPOT), one.paging_age_ns(Mode.CONTINUOUS), one.silence_ns(one.mode)]  # fmt: skip
    minutes = [span // 60_000_000_000 for span in spans]
    return [f"{span // 60} h" if span >= 60 and span % 60 == 0 else f"{span} min" for span in minutes]


def _span(span: tuple[float, float]) -> str:
    low, high = span
    return "" if low == -float("inf") else f"{low:g} to {high:g}"
