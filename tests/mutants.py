"""Change the code a little and see whether a test notices: ``make mutants``.

Each mutant is one changed operator, number or condition in a copy of the tree; the tests of that file run until the
first failure. The sample is drawn by ``--seed``, so that the same command makes the same mutants. Kernels run without
the compiler: a mutant would have to be compiled each time.
"""

import argparse
import ast
import copy
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
_SLOWER: Final = 5
"""A mutant that takes this many times as long as the code itself does not end, which is noticed too."""


class Mutant(NamedTuple):
    """The line that changed, what changed there, and the whole file with it."""

    line: int
    change: str
    text: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a file, one change each."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        changed = copy.deepcopy(tree)
        twin = next(found for at, found in enumerate(ast.walk(changed)) if at == number)
        if _change(twin):
            yield Mutant(
                getattr(node, "lineno", 0), f"{ast.unparse(node)}  ->  {ast.unparse(twin)}", ast.unparse(changed)
            )


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
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def survivors(tree: Path, name: str, tests: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """Mutants of a sample of ``count`` that no test noticed.

    Raises:
        SystemExit: the tests fail without any change.
    """
    path = tree / name
    source = path.read_text(encoding="utf-8")
    began = time.monotonic()
    if noticed(tree, tests, None):
        raise SystemExit(f"{name}: its tests fail without a mutant")
    timeout_s = _SLOWER * (time.monotonic() - began)
    every = list(mutants(source))
    sample = random.Random(seed).sample(every, min(count, len(every)))
    left = []
    for mutant in sample:
        path.write_text(mutant.text, encoding="utf-8")
        if not noticed(tree, tests, timeout_s):
            left.append(mutant)
    path.write_text(source, encoding="utf-8")
    return left


def main(arguments: Sequence[str]) -> int:
    """Print survivors; the exit code is 1 when there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE", help="files of the table; default all")
    parser.add_argument("--count", type=int, default=8, help="mutants per file")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    left = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "vitalgate-data"))
        for name in chosen.files:
            found = survivors(tree, name, TESTS[name].split(), chosen.count, chosen.seed)
            left += len(found)
            sys.stdout.write(f"{name}: {len(found)} of {chosen.count} survive\n")
            sys.stdout.writelines(f"  {mutant.line}: {mutant.change}\n" for mutant in found)
    return min(left, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
