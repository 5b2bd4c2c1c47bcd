"""DESIGN section 4: sizes, circles and names, by reading the source. Each gate fails on a small bad house."""

from pathlib import Path
from typing import Final

import pytest

from tests import structure

MODULE_LINES: Final = 400
FUNCTION_LINES: Final = 50
SOURCES: Final = structure.sources()

LEFT_LONG: Final = frozenset[str]()
LEFT_FUNCTIONS: Final = frozenset({"alerts.judging.kernels.scan_rows"})
LEFT_MODULE_CIRCLES: Final = frozenset[tuple[str, str]]()
LEFT_DOUBLE: Final = frozenset[str]()
"""What still breaks a rule. A test fails for whatever is added, and for whatever stands here and is mended: the lists
only shrink."""


def house(root: Path, **modules: str) -> tuple[structure.Source, ...]:
    """A small house: ``alerts__rules__limits="import x"`` is alerts/rules/limits.py."""
    for name, text in modules.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in list(path.relative_to(root).parents)[:-1]:
            (root / folder / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return structure.sources(root)


def opened(graph: structure.Graph, left: frozenset[tuple[str, str]]) -> list[str]:
    """A circle that stays without the imports of ``left``, each of which closes one."""
    rest = structure.without(graph, left)
    for edge in left:
        assert structure.circle(structure.without(graph, left - {edge})), f"{edge} closes no circle: take it out"
    return structure.circle(rest)


def test_modules_have_400_lines_at_most() -> None:
    assert set(structure.long_modules(SOURCES, MODULE_LINES)) == LEFT_LONG


def test_functions_have_50_lines_at_most() -> None:
    assert set(structure.long_functions(SOURCES, FUNCTION_LINES)) == LEFT_FUNCTIONS


def test_no_module_imports_itself_by_a_detour() -> None:
    assert opened(structure.module_graph(SOURCES), LEFT_MODULE_CIRCLES) == []


def test_no_room_imports_itself_by_a_detour() -> None:
    assert opened(structure.room_graph(SOURCES), structure.LEFT_ROOM_CIRCLES) == []


def test_a_public_class_name_means_one_thing() -> None:
    assert set(structure.double_classes(SOURCES)) == LEFT_DOUBLE


def test_the_gates_read_the_whole_product() -> None:
    assert {source.name.partition(".")[0] for source in SOURCES} == set(structure.PACKAGES)
    assert len(SOURCES) > 250


def test_a_line_too_many_is_noticed(tmp_path: Path) -> None:
    body = "def f():\n" + "    x = 1\n" * 50
    found = house(tmp_path, vitals__long="\n" * 401, vitals__fits="\n" * 400, vitals__wide=body)
    assert structure.long_modules(found, MODULE_LINES) == {"vitals.long": 401}
    assert structure.long_functions(found, FUNCTION_LINES) == {"vitals.wide.f": 51}
    assert structure.long_functions(found, 51) == {}


@pytest.mark.parametrize(
    "back",
    [
        "from alerts import engine",
        "import alerts.engine",
        "from alerts.engine import Engine",
        "def late():\n    from alerts.engine import Engine",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from alerts.engine import Engine",
    ],
)
def test_a_circle_of_modules_is_noticed(tmp_path: Path, back: str) -> None:
    found = house(tmp_path, alerts__engine="from alerts.service import run", alerts__service=back)
    assert set(structure.circle(structure.module_graph(found))) == {"alerts.engine", "alerts.service"}


def test_a_circle_of_rooms_without_one_of_modules_is_noticed(tmp_path: Path) -> None:
    found = house(
        tmp_path,
        alerts__rules__syntax="from alerts.judging.state import State",
        alerts__judging__state="",
        alerts__judging__slots="from alerts.rules.limits import Limit",
        alerts__rules__limits="",
    )
    assert structure.circle(structure.module_graph(found)) == []
    assert set(structure.circle(structure.room_graph(found))) == {"alerts.judging", "alerts.rules"}


def test_a_double_name_is_noticed(tmp_path: Path) -> None:
    found = house(tmp_path, vitals__a="class Held: ...\nclass _Own: ...", alerts__b="class Held: ...\nclass _Own: ...")
    assert structure.double_classes(found) == {"Held": ["vitals.a", "alerts.b"]}


def test_the_drawing_stands_on_the_ground() -> None:
    graph = {"vitals": frozenset[str](), "alerts.rules": frozenset({"vitals"}), "alerts": frozenset({"alerts.rules"})}
    assert structure.drawing(graph).splitlines() == [
        "floor 2", "  alerts -> alerts.rules", "floor 1", "  alerts.rules -> vitals", "floor 0", "  vitals -> -",
    ]  # fmt: skip
