"""Shell blocks of pages, run as they stand."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import free_port

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """The page's blocks marked ``sh``, in order."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def environment(where: Path) -> dict[str, str]:
    """An environment whose data directory is below ``where``, with free ports and this interpreter's commands."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    chosen = {"PATH": path, "VITALGATE_DATA_DIR": str(where / "ward"), "HTTP": f"127.0.0.1:{free_port()}"}
    return {**os.environ, **chosen, "MQTT_PORT": str(free_port())}


def run(script: str, where: Path, variables: Mapping[str, str], timeout_s: float = 300.0) -> str:
    """Run a script in bash, in ``where``; what it printed. Fails the test when any command fails."""
    guarded = f"set -euo pipefail\ntrap 'jobs -p | xargs -r kill 2>/dev/null' EXIT\n{script}"
    done = subprocess.run(
        ["bash", "-c", guarded], cwd=where, env=dict(variables), capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
