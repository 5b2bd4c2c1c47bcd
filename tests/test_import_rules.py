"""DESIGN section 4: who may import whom, by reading the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("vitals", "device_gateway", "ingest", "alerts", "dashboard_api", "simulators", "deploy")
ALLOWED = {name: {name, "vitals"} for name in PACKAGES} | {"vitals": {"vitals"}, "deploy": set(PACKAGES)}
CLIENT_LIBRARIES = {
    "duckdb": {"vitals/store/duckdb.py"},
    "influxdb_client": {"vitals/store/influx.py"},
    "mqtt5": {"device_gateway/mqtt/v5.py", "device_gateway/mqtt/codec.py"},
    "aiomqtt": {"simulators/publisher.py"},
}
"""A vendor's client library is imported only in the file named after it, or the one file that wraps it."""


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert modules(package), f"{package} is empty"
    for path in modules(package):
        siblings = imported(path) & set(PACKAGES)
        assert siblings <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {siblings - ALLOWED[package]}"


def test_client_libraries_stay_in_their_file() -> None:
    for package in PACKAGES:
        for path in modules(package):
            name = str(path.relative_to(ROOT))
            for library in imported(path) & set(CLIENT_LIBRARIES):
                assert name in CLIENT_LIBRARIES[library], f"{name} imports {library}"


def test_concrete_backends_are_named_in_the_wiring_only() -> None:
    concrete = {"vitals.log.local", "vitals.store.duckdb"}
    allowed = {
        "deploy/wiring.py",
        "ingest/journal/identities.py",
        "device_gateway/sessions.py",
        "device_gateway/batcher.py",
        "device_gateway/service.py",
    }
    for package in PACKAGES:
        for path in modules(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} & concrete
            name = str(path.relative_to(ROOT))
            # The gateway's sessions and ingest's journal share the log's file and transactions: see recovery.md.
            assert not found or name in allowed, f"{name} names {found}"
