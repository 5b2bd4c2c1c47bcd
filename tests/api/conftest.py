"""A running world per test: real registry, vault, logs, store, alert engine and ingest."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Numba reads its cache directory when it is first imported.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"vitalgate-numba-{os.getuid()}"))

from tests.api.api_world import Api, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    opened = World(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def api(world: World) -> Api:
    """The API as an administrator sees it."""
    return world.api("admin")
