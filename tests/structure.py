"""The code as a graph, read from its source: modules, rooms, imports, sizes, names that stand twice.

A *room* is a sub-package with its modules; a module that stands directly in a package is a room by itself, since a
package's floor holds both what its rooms share and what puts them together. Every import counts, also one inside a
function or under ``TYPE_CHECKING``.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("vitals", "device_gateway", "ingest", "alerts", "dashboard_api", "simulators", "deploy")
"""Folders that are built into the wheel."""

LEFT_ROOM_CIRCLES: Final = frozenset[tuple[str, str]]()
"""Imports (importer, imported) that still close a circle of rooms."""

Graph = Mapping[str, frozenset[str]]
"""Name -> what it imports."""


class Source(NamedTuple):
    """A module: dotted name, whether it is a package's ``__init__``, path, lines, syntax."""

    name: str
    package: bool
    path: Path
    lines: int
    tree: ast.Module


@cache
def sources(root: Path = ROOT) -> tuple[Source, ...]:
    """Every module of the product."""
    return tuple(_read(path, root) for name in PACKAGES for path in sorted((root / name).rglob("*.py")))


def _read(path: Path, root: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(root).with_suffix("").parts
    package = parts[-1] == "__init__"
    return Source(".".join(parts[:-1] if package else parts), package, path, len(text.splitlines()), ast.parse(text))


def long_modules(found: Iterable[Source], most: int) -> dict[str, int]:
    """Modules of more than ``most`` lines; every line of the file counts."""
    return {source.name: source.lines for source in found if source.lines > most}


def long_functions(found: Iterable[Source], most: int) -> dict[str, int]:
    """Functions and methods of more than ``most`` lines, from ``def`` to the last line of the body.

    Signature, docstring and nested functions count; decorators and lines that hold only a comment do not, so that
    numbered steps cost nothing.
    """
    long: dict[str, int] = {}
    for source in found:
        text = source.path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = text[node.lineno - 1 : node.end_lineno]
                lines = sum(not line.lstrip().startswith("#") for line in body)
                if lines > most:
                    long[f"{source.name}.{node.name}"] = lines
    return long


def double_classes(found: Iterable[Source]) -> dict[str, list[str]]:
    """Public classes of the same name in several modules: name -> modules."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for source in found:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(source.name)
    return {name: modules for name, modules in sorted(homes.items()) if len(modules) > 1}


def module_graph(found: Iterable[Source]) -> Graph:
    """What each module imports of the product."""
    found = tuple(found)
    names = {source.name for source in found}
    return {source.name: frozenset(_imported(source.tree, names)) - {source.name} for source in found}


def _imported(tree: ast.Module, names: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & names
            if not inner <= names and node.module in names:
                yield node.module


def room_graph(found: Iterable[Source]) -> Graph:
    """What each room imports of other rooms."""
    found = tuple(found)
    packages = {source.name for source in found if source.package}
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for module, imported in module_graph(found).items():
        here = _room(module, packages)
        rooms[here] |= {_room(other, packages) for other in imported} - {here}
    return {room: frozenset(imported) for room, imported in rooms.items()}


def _room(module: str, packages: set[str]) -> str:
    parent = module.rpartition(".")[0]
    return module if module in packages or parent in PACKAGES else parent


def circle(graph: Graph) -> list[str]:
    """One circle of a graph, from a name back to it; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def without(graph: Graph, imports: Iterable[tuple[str, str]]) -> Graph:
    """The graph without some (importer, imported)."""
    gone = set(imports)
    return {name: frozenset(one for one in found if (name, one) not in gone) for name, found in graph.items()}


def floors(graph: Graph) -> list[list[str]]:
    """The names from the ground up: each imports only from floors below its own. Raises ``CycleError``."""
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found.append(ready)
        sorter.done(*ready)
    return found


def rooms_block() -> str:
    """The rooms as a block of a page; what still closes a circle is named below, not drawn."""
    drawn = drawing(without(room_graph(sources()), LEFT_ROOM_CIRCLES))
    left = [
        f"Left to be opened: `{importer}` imports `{imported}`." for importer, imported in sorted(LEFT_ROOM_CIRCLES)
    ]
    return "\n".join(["```text", drawn, "```", *(["", *left] if left else [])])


def drawing(graph: Graph) -> str:
    """The graph as lines: floors from the top down, and on each what a name imports."""
    height = floors(graph)
    lines = []
    for level in range(len(height) - 1, -1, -1):
        lines += [f"floor {level}", *(f"  {name} -> {' '.join(sorted(graph[name])) or '-'}" for name in height[level])]
    return "\n".join(lines)
