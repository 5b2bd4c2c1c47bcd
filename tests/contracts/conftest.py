"""The stores under contract: a new backend is a new parameter."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitals.ports import Store
from vitals.store.duckdb import DuckDBStore

Open = Callable[[], Store]


@pytest.fixture(params=["duckdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store of this test; a second call after ``close`` is a restart."""
    opened: list[Store] = []
    backends = {"duckdb": lambda: DuckDBStore(tmp_path / "store.db", memory_mb=128, threads=1)}

    def open_one() -> Store:
        opened.append(backends[request.param]())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()
