"""What tests of alerts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.bedside import Bedside, limits
from tests.ingest.ingest_world import World


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bedside]:
    """A patient with S1 limits alone."""
    world = World(tmp_path)
    try:
        yield Bedside(world, limits("limits"))
    finally:
        world.close()
