"""The first start on a machine, while kernels compile, and the starts after it."""

import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import httpx
import typer

from deploy import kernels
from deploy.cli import main
from tests.deploy.conftest import ROOT, Running

READING = {"vital": "spo2", "unit": "%", "value": 97, "time": "2024-03-10T07:15:30Z", "seq": 1}
HEAVY = {"alembic", "duckdb", "fastapi", "llvmlite", "numba", "numpy", "pandas", "sqlalchemy", "uvloop"}
"""What a small command must not wait for."""
SLOW_CLIENTS = {"asyncio", "httpx"}
"""What a request over the control socket does without."""


def compiled_files(cache: Path) -> dict[str, int]:
    """Files of compiled code and when they were written."""
    return {str(file): file.stat().st_mtime_ns for file in cache.rglob("*.nbc")}


def imported(*arguments: str) -> set[str]:
    """Packages that a command has loaded at its end."""
    code = (
        "import sys\nfrom deploy.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as ended: assert not ended.code, ended\n"
        "sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_while_kernels_compile_the_page_is_served_and_readings_are_taken(tmp_path: Path, data: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != kernels.NUMBA_DIR}
    up = Running(data, environment=environment | {kernels.CACHE_DIR: str(tmp_path / "cache")})
    try:
        assert up.readiness() == ["warming"]
        assert httpx.get(up.ready["http"]).status_code == 200
        assert up.get("system")["reasons"] == ["warming"]
        device = up.cli("device", "add", "--adapter", "json")
        url = f"{up.ready['http']}/v1/devices/{device['device']}/readings?adapter=json"
        answer = httpx.post(url, json=[READING], auth=(device["device"], device["secret"]))
        assert answer.is_success, answer.text
        assert up.settled(device["device"])["messages"]["received"] == 1
        assert up.readiness() == ["warming"]
    finally:
        began_s = time.monotonic()
        code = up.stop()
    assert code == 0
    assert time.monotonic() - began_s < 10, "3 s on a machine of its own"
    assert not list(tmp_path.rglob("compiled")), "it ended before all was compiled"


def test_another_data_directory_compiles_nothing(tmp_path: Path, data: Path) -> None:
    cache = Path(os.environ[kernels.NUMBA_DIR])
    kernels.Compiler(cache).run()
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    before = compiled_files(copy)
    assert before
    for directory in (data, data.parent / "e"):
        up = Running(directory, environment=os.environ | {kernels.NUMBA_DIR: str(copy)})
        assert up.readiness() == [], "ready says that alerts are, too"
        assert up.stop() == 0
        assert not (directory / "cache").exists()
    assert compiled_files(copy) == before


def test_small_commands_load_no_backend(running: Running) -> None:
    at = ("--data-dir", str(running.data))
    for command in (
        ("--help",), ("patient", "add", "--name", "Ada Example", *at), ("patient", "list", *at),
        ("device", "list", *at), ("token", "create", "--role", "viewer", *at),
    ):  # fmt: skip
        assert not imported(*command) & (HEAVY | SLOW_CLIENTS if "--data-dir" in command else HEAVY), command


def test_a_command_loads_the_module_that_makes_it_up_alone() -> None:
    for part in main.PARTS:
        app = typer.Typer()
        import_module(f"deploy.cli.{part}").register(app)
        made = {one.name for one in app.registered_commands + app.registered_groups}
        assert made == set(main.PARTS[part]) - {"patient"} | (made & {"patient"}), part
    own = {one.name or one.callback.__name__ for one in main.app.registered_commands if one.callback}
    assert set(main.OWN) <= own
    assert {"patient"} == set(main.PARTS["people"]) & set(main.PARTS["protocols"]), "protocols adds to this group"
    assert [part.__name__ for part in main.parts("adapter")] == ["deploy.cli.adapters"]
    assert len(main.parts("--help")) == len(main.parts("patinet")) == len(main.PARTS)


def test_the_trial_of_an_adapter_loads_the_stages_of_ingest_alone(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps([READING]))
    loaded = imported("adapter", "try", "json", "--payload", str(payload), "--json")
    assert "ingest" in loaded
    assert not loaded & ((HEAVY | {"starlette", "httpx"}) - {"numpy"})
