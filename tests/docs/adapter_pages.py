"""The page of each adapter, from what it declares and from its golden cases; and the list of them."""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.jobs.trial import identity_note
from ingest.adapter import Adapter
from ingest.adapters import BUILT_IN, built_in
from ingest.adapters.hubs.json_members import MEMBERS
from tests.docs.tables import ROOT, code, table
from vitals.catalog import BY_KEY, VITALS
from vitals.sources import unpaged
from vitals.times import rfc3339

FOLDER = ROOT / "docs" / "reference" / "adapters"
CASES: Final = ROOT / "tests" / "adapters" / "cases"
MOST_EXAMPLES: Final = 12
MOST_LINES: Final = 60
MOST_ROWS: Final = 20


@dataclass(frozen=True)
class Example:
    """One golden case."""

    name: str
    about: Mapping[str, Any]
    payload: bytes
    expected: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.about["kind"])

    @property
    def vitals(self) -> set[str]:
        return {reading["vital"] for reading in self.expected["readings"]}


def _cases(adapter: Adapter) -> list[Example]:
    """Smallest first: they explain best."""
    found = []
    for case in (CASES / adapter.name).iterdir():
        (payload,) = case.glob("input.*")
        about, expected = (json.loads((case / name).read_text()) for name in ("case.json", "expected.json"))
        found.append(Example(case.name, about, payload.read_bytes(), expected))
    return sorted(found, key=lambda one: (len(one.payload), one.name))


def examples(adapter: Adapter) -> list[Example]:
    """Cases that show every kind, then vital signs not shown yet, an event and a reject; at most ``MOST_EXAMPLES``."""
    cases = _cases(adapter)
    good = [one for one in cases if one.expected["readings"] and not one.expected["rejects"]]
    chosen: list[Example] = []
    for kind in adapter.kinds:
        chosen += [one for one in good or cases if one.kind == kind][:1]
    chosen = chosen or cases[:1]
    for one in good:
        if one.vitals - {vital for other in chosen for vital in other.vitals}:
            chosen.append(one)
    chosen = chosen[: MOST_EXAMPLES - 2]
    for part in ("events", "rejects"):
        if not any(one.expected[part] for one in chosen):
            chosen += [one for one in cases if one.expected[part]][:1]
    return [one for one in cases if one in chosen]


def index_block() -> str:
    """Every built-in adapter with the way to its page."""
    rows = [
        (f"[`{adapter.name}`](adapters/{adapter.name}.md)", adapter.title, _vitals(adapter))
        for adapter in map(built_in, BUILT_IN)
    ]
    return table(("adapter", "device family", "vital signs"), rows)


def _vitals(adapter: Adapter) -> str:
    if adapter.vitals == {one.key for one in VITALS if not one.panel}:
        return "all of the [catalogue](vitals.md)"
    return ", ".join(map(code, sorted(adapter.vitals))) or "none, but events"


def json_members_block() -> str:
    """The optional members of a ``json`` reading, as its schema says them."""
    rows = []
    for name, member in MEMBERS.items():
        words = ", ".join(map(code, member.schema.get("enum", ())))
        rows.append((code(name), words or member.schema.get("type", "as `time`"), member.schema["description"]))
    return table(("member", "holds", "meaning"), rows)


def pages() -> dict[Path, str]:
    """Path -> text of every adapter's page."""
    return {FOLDER / f"{adapter.name}.md": page(adapter) for adapter in map(built_in, BUILT_IN)}


def page(adapter: Adapter) -> str:
    """The page of one adapter."""
    identity = identity_note(adapter)
    assert identity, f"{adapter.name} does not say what identifies a reading"
    module = inspect.getmodule(adapter.decode)
    first = inspect.cleandoc(str(module.__doc__)).split("\n\n")[0]
    topics = [f"vitals/DEVICE/{adapter.name}" + (f"/{kind}" if kind else "") for kind in adapter.kinds]
    settings = [(code(key), meaning) for key, meaning in adapter.settings.items()]
    vitals = [(code(key), BY_KEY[key].name, code(BY_KEY[key].unit)) for key in sorted(adapter.vitals)]
    parts = [
        f"# `{adapter.name}`: {adapter.title}",
        "Generated from the adapter and its golden cases (`python -m tests.docs.pages --write`). "
        "[All adapters](../adapters.md), [facts of the formats](../device-formats.md).",
        _prose(first),
        "## Publish",
        _fenced("\n".join(topics)),
        table(("kind", "payload"), [(code(kind) if kind else "(none)", text) for kind, text in adapter.kinds.items()]),
        *([_files(adapter)] if adapter.files else []),
        "## Vital signs",
        table(("key", "name", "unit stored"), vitals) if vitals else "None: it gives events alone.",
        *(one.reason for one in unpaged(adapter.family)),
        "## Settings",
        table(("key", "meaning"), settings) if settings else "None.",
        "## Limits",
        f"A payload has at most {adapter.max_payload} bytes. Adapter version {adapter.version}.",
        "## Identity",
        _identity(identity),
        "## Worked examples",
        "The tables are what the adapter itself reads. "
        f"`vitalgate adapter try {adapter.name}` shows a payload after conversion, zones and plausibility too.",
        *[_example(one) for one in examples(adapter)],
    ]
    return "\n\n".join(parts) + "\n"


def _files(adapter: Adapter) -> str:
    usual, *others = [code(kind) if kind else "(none)" for kind in adapter.files]
    more = f" or, said with `--kind`, {', '.join(others)}" if others else ""
    return f"`vitalgate import FILE --device DEVICE` takes whole files of kind {usual}{more}."


def _identity(note: str) -> str:
    """The note without the word that its paragraph begins with."""
    source, _, text = note.removeprefix("Identity").partition(": ")
    return f"{text[:1].upper()}{text[1:]}{source}"


def _prose(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


def _example(one: Example) -> str:
    device = one.about["device"]
    facts = [f"kind {code(one.kind) if one.kind else '(none)'}", f"received {rfc3339(one.about['received_ns'])}"]
    facts += [f"zone {device['zone']}"] if device["zone"] else []
    facts += [f"{key} = `{value}`" for key, value in device["settings"].items()]
    parts = [f"### {one.name.replace('_', ' ')}", f"{_prose(one.about['about'])}: {'; '.join(facts)}.", _input(one)]
    return "\n\n".join(parts + _results(one.expected))


def _input(one: Example) -> str:
    try:
        text = one.payload.decode()
    except UnicodeDecodeError:
        return _hex(one.payload)
    if not text or not all(char.isprintable() or char in "\t\r\n\ufeff" for char in text):
        return _hex(one.payload)
    if text.lstrip()[:1] in {"{", "["}:
        return _fenced(_cut(_pretty(text), len(one.payload)), "json")
    bare = text.replace("\r\n", "\n")
    note = "\n\nIts lines end with a carriage return." if "\r" in bare else ""
    return _fenced(_cut(bare.replace("\r", "\n").strip("\ufeff\n"), len(one.payload))) + note


def _hex(payload: bytes) -> str:
    return _fenced(payload.hex(" ").upper() or "(no bytes)")


def _pretty(text: str) -> str:
    """Indented, unless that would hide what is odd about it."""
    try:
        document = json.loads(text)
    except ValueError:
        return text.strip()
    indented = json.dumps(document, indent=1, ensure_ascii=False)
    return indented if indented.count(":") == text.count(":") and "\\u" not in text else text.strip()


def _cut(text: str, size: int) -> str:
    lines = text.split("\n")
    return text if len(lines) <= MOST_LINES else "\n".join([*lines[:MOST_LINES], f"... ({size} bytes in all)"])


def _results(expected: Mapping[str, Any]) -> list[str]:
    parts = []
    readings = expected["readings"]
    if readings:
        head = ("vital", "value", "time", "clock", "seq", "flags", "context")
        parts.append(table(head, [_reading(one) for one in readings[:MOST_ROWS]]))
    if len(readings) > MOST_ROWS:
        parts.append(f"and {len(readings) - MOST_ROWS} more readings.")
    if expected["events"]:
        rows = [(code(one["kind"]), _code(one["vital"]), _number(one.get("value")), one["time"], _code(one["detail"]))
                for one in expected["events"][:MOST_ROWS]]  # fmt: skip
        parts.append(table(("event", "vital", "value", "time", "detail"), rows))
    if expected.get("alarms"):
        alarms = [(_code(one["vital"]), _number(one["value"]), one["time"], _code(one["code"]), one["priority"],
                   one["step"]) for one in expected["alarms"]]  # fmt: skip
        parts.append(table(("alarm of", "value", "time", "code", "priority", "step"), alarms))
    if expected["rejects"]:
        rows = [(code(one["reason"]), _code(one["detail"])) for one in expected["rejects"]]
        parts.append(table(("reject", "detail"), rows))
    if expected["unknown_members"]:
        parts.append(f"Ignored and counted: {expected['unknown_members']}.")
    if expected.get("left_out"):
        parts.append(f"Left out because it cannot be read, and counted: {expected['left_out']}.")
    return parts or ["Nothing comes out, and nothing is rejected."]


def _reading(one: Mapping[str, Any]) -> Iterable[str]:
    minutes = one["tz_min"]
    offset = f" ({'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02})" if minutes else ""
    notes = [f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in one["context"].items()]
    if "statistic" in one:
        notes = [
            f"{one['statistic']}",
            *([f"until {one['ended']}"] if not one["ended"].startswith("1677") else []),
            *notes,
        ]
    value = "no number" if one["value"] is None else f"{one['value']:.10g}"
    return (code(one["vital"]), f"{value} {one['unit']}", one["source_time"] + offset, one["clock"], str(one["seq"]),
            ", ".join(one["flags"]), ", ".join(map(code, notes)))  # fmt: skip


def _code(value: object) -> str:
    return code(value) if value else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
