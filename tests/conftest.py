"""Every property test draws the same examples on every machine, and none fails for being slow on a busy one.

Kernels are compiled once, for all tests and for the pipelines that they start.
"""

from pathlib import Path

import pytest
from hypothesis import settings

from deploy import kernels

_KERNELS = kernels.use(Path(__file__).parents[1] / ".pytest_cache")
settings.register_profile("vitalgate", derandomize=True, deadline=None)
settings.load_profile("vitalgate")


def pytest_configure(config: pytest.Config) -> None:
    """Before workers start: each would compile the kernels for itself."""
    if getattr(config.option, "numprocesses", None):
        kernels.Compiler(_KERNELS).run()
