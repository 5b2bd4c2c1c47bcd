"""Change the code a little and see whether a test notices: ``make mutants``.

Each mutant is one changed operator, number or condition in a copy of the tree; the tests of that file run until the
first failure. The sample is drawn by ``--seed``, so that the same command makes the same mutants. Kernels run without
the compiler: a mutant would have to be compiled each time.

Files take turns, one mutant each, until each has had ``--count`` of them or ``--minutes`` are over; the last line says
how many were left untried. A mutant that no test can notice stands in ``EXPLAINED`` with its reason.
"""

import argparse
import ast
import copy
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
TESTS: Final[Mapping[str, str]] = MappingProxyType({
    "device_gateway/batcher.py": "tests/gateway/test_gateway_parts.py tests/gateway/test_gateway_service.py",
    "device_gateway/rates.py": "tests/gateway/test_gateway_parts.py tests/gateway/test_gateway_pressure.py",
    "device_gateway/mqtt/session.py": "tests/gateway/test_mqtt_session.py tests/gateway/test_mqtt_session_connect.py",
    "device_gateway/mqtt/codec.py": "tests/gateway/test_mqtt_codec.py",
    "ingest/placing/clocks.py": "tests/ingest/test_attribution_rules.py tests/ingest/test_clock_zones.py",
    "ingest/placing/epochs.py": "tests/ingest/test_clock_epochs.py tests/ingest/test_clock_recovery.py",
    "ingest/placing/walls.py": "tests/ingest/test_attribution_rules.py tests/ingest/test_clock_zones.py",
    "alerts/judging/slot_kernels.py": "tests/alerts/test_limit_semantics.py",
    "alerts/judging/kernels.py": "tests/alerts/test_limit_semantics.py tests/alerts/test_rule_kinds.py",
    "alerts/judging/silence.py": "tests/alerts/test_silence.py",
    "alerts/cases/casebook.py": "tests/alerts/test_casebook.py tests/alerts/test_casebook_status.py",
    "alerts/cases/suppressors.py": "tests/alerts/test_casebook_suppressors.py",
})  # fmt: skip
"""File -> the tests that have to notice."""
_SWAPS: Final[Mapping[type[ast.AST], type[ast.AST]]] = MappingProxyType({
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.And: ast.Or, ast.Or: ast.And,
})  # fmt: skip
EXPLAINED: Final[Mapping[tuple[str, str], str]] = MappingProxyType({})
"""(File, change) -> why no test can notice it."""
_SLOWER: Final = 5
"""A mutant that takes this many times as long as the code itself does not end, which is noticed too."""
_LONGEST_S: Final = 120.0
"""Nor does one that takes this long, unless the code itself does."""


class Mutant(NamedTuple):
    """The line that changed, what changed there, and the whole file with it."""

    line: int
    change: str
    text: str


def _places(tree: ast.AST) -> list[ast.AST]:
    """Nodes that can be changed. Arguments of decorators are settings of Python, not behaviour."""
    settings = {
        id(inner)
        for node in ast.walk(tree)
        for decorator in getattr(node, "decorator_list", ())
        for inner in ast.walk(decorator)
    }
    return [node for node in ast.walk(tree) if id(node) not in settings and _change(copy.copy(node))]


def _mutant(tree: ast.AST, node: ast.AST) -> Mutant:
    """The file with this node changed; the tree is as before afterwards."""
    before, shown = dict(vars(node)), ast.unparse(node)
    _change(node)
    made = Mutant(getattr(node, "lineno", 0), f"{shown}  ->  {ast.unparse(node)}", ast.unparse(tree))
    vars(node).update(before)
    return made


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a file, one change each."""
    tree = ast.parse(source)
    return (_mutant(tree, node) for node in _places(tree))


def _change(node: ast.AST) -> bool:
    """Change a node in place; False where nothing in it can be."""
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in _SWAPS:
            node.ops = [_SWAPS[type(op)](), *rest]  # type: ignore[list-item]
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op) if type(op) in _SWAPS:
            node.op = _SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() as value):
            node.value = value + 1
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.BoolOp):
            node.test = ast.UnaryOp(ast.Not(), test)
        case _:
            return False
    return True


def noticed(tree: Path, tests: Sequence[str], timeout_s: float | None) -> bool:
    """Whether a test fails, or none of them ends in time."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": ""}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def _write(path: Path, source: str) -> None:
    """A module's new source. Python tells its old bytecode by size and second, which may be the same."""
    path.write_text(source, encoding="utf-8")
    Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)


def survivors(tree: Path, name: str, tests: Sequence[str], count: int, seed: int) -> Iterator[Mutant | None]:
    """For each mutant of a sample of ``count``, in turn: the mutant where no test noticed it, else None.

    Raises:
        SystemExit: the tests fail without any change.
    """
    path = tree / name
    source = path.read_text(encoding="utf-8")
    began = time.monotonic()
    if noticed(tree, tests, None):
        raise SystemExit(f"{name}: its tests fail without a mutant")
    took_s = time.monotonic() - began
    timeout_s = max(2 * took_s, min(_SLOWER * took_s, _LONGEST_S))
    parsed = ast.parse(source)
    places = _places(parsed)
    for node in random.Random(seed).sample(places, min(count, len(places))):
        mutant = _mutant(parsed, node)
        try:
            _write(path, mutant.text)
            seen = noticed(tree, tests, timeout_s)
        finally:
            _write(path, source)
        yield None if seen else mutant


def _rounds(tree: Path, names: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, Mutant | None]]:
    """Files in turn, one mutant each."""
    running = {name: survivors(tree, name, TESTS[name].split(), count, seed) for name in names}
    while running:
        for name, found in list(running.items()):
            try:
                yield name, next(found)
            except StopIteration:
                del running[name]


def main(arguments: Sequence[str]) -> int:
    """Print survivors; the exit code is 1 when one is not explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE", help="files of the table; default all")
    parser.add_argument("--count", type=int, default=3, help="mutants per file")
    parser.add_argument("--minutes", type=float, default=12.0, help="no mutant is begun after this time")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    ends = time.monotonic() + 60 * chosen.minutes
    tried = unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "vitalgate-data"))
        for name, mutant in _rounds(tree, chosen.files, chosen.count, chosen.seed):
            tried += 1
            if mutant is not None:
                why = EXPLAINED.get((name, mutant.change))
                unexplained += why is None
                sys.stdout.write(f"{name}:{mutant.line}: {mutant.change}{f' ({why})' if why else ''}\n")
                sys.stdout.flush()
            if time.monotonic() > ends:
                break
    wanted = chosen.count * len(chosen.files)
    sys.stdout.write(f"{tried} mutants of {wanted} tried, {unexplained} survive without an explanation\n")
    return min(unexplained, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
