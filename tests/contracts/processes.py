"""Starting, watching and killing ``victim.py``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VICTIM = Path(__file__).with_name("victim.py")


def _command(mode: str, path: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, str(VICTIM), mode, str(path)], {**os.environ, "PYTHONPATH": str(ROOT)}


def kill_in_the_middle(mode: str, path: Path, reports: int) -> list[Any]:
    """Run a mode that never ends, SIGKILL it after so many reports; everything it reported."""
    command, environment = _command(mode, path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(reports)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        assert process.wait() == -signal.SIGKILL
    # The last line may have been cut by the kill.
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run(mode: str, path: Path) -> list[Any]:
    """Run a mode to its end; everything it reported."""
    command, environment = _command(mode, path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
