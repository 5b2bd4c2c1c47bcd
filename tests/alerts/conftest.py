"""Numba reads its cache directory when it is first imported, so it is set before any test module is."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"vitalgate-numba-{os.getuid()}"))
