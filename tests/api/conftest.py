"""A running world per test: real registry, vault, logs, store, alert engine and ingest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.api_world import Api, World


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for the tests of a module that make patients and devices of their own."""
    opened = World(tmp_path_factory.mktemp("world"))
    yield opened
    opened.close()


@pytest.fixture
def api(shared: World) -> Api:
    """The shared world's API as an administrator sees it."""
    return shared.api("admin")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world of its own, for a test that moves the clock or counts everything."""
    opened = World(tmp_path)
    yield opened
    opened.close()
