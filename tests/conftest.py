"""Every property test draws the same examples on every machine, and none fails for being slow on a busy one.

Kernels are compiled once, for all tests and for the pipelines that they start.
"""

import os
from pathlib import Path

from hypothesis import settings

from deploy.layout import kernel_sources

_CACHE = Path(__file__).parents[1] / ".pytest_cache"
os.environ.setdefault("NUMBA_CACHE_DIR", str(_CACHE / f"kernels-{kernel_sources()}"))
settings.register_profile("vitalgate", derandomize=True, deadline=None)
settings.load_profile("vitalgate")
