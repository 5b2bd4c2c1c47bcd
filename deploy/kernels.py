"""Where compiled kernels are kept: one place per user and installation, whatever the data directory.

numba's caches are pickles, so reading one runs code: a directory that is not of this user alone is not used. The folder
of a key (``kernels-...``) belongs to one state of the sources, Python, numba and the processor; a damaged file in it is
removed and its kernel compiled again.
"""

import atexit
import functools
import hashlib
import logging
import os
import pickletools
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)
CACHE_DIR: Final = "VITALGATE_CACHE_DIR"
"""Environment variable: the directory to keep compiled kernels in."""
NUMBA_DIR: Final = "NUMBA_CACHE_DIR"
"""Environment variable that numba reads when it is first imported; who sets it has chosen."""
UNUSED_S: Final = 30 * 86_400
"""What no installation used for so long is removed."""
RETRY_S: Final = 5.0
_COMPILED: Final = "compiled"
"""File of a key's folder: all kernels of the engine and of glucose forecasts are in it."""
_USED: Final = "used"
"""File of a key's folder whose time is the last start that used it."""
_WARM: Final = "from alerts.engine import Engine; from alerts.glucose.forecaster import load; Engine().warm(); load()"


@functools.cache
def kernel_sources() -> str:
    """A name that changes with any source that kernels are compiled of, with where it is and its time.

    numba looks at the file of the outermost function only: a cache of other sources would run old code unnoticed.
    """
    digest = hashlib.blake2b(digest_size=8)
    house = Path(__file__).parents[1]
    for module in sorted([*(house / "alerts").rglob("*.py"), *(house / "vitals").rglob("*.py")]):
        digest.update(f"{module} {module.stat().st_mtime_ns}".encode())
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """Name and features of the processor, as far as the system tells."""
    told = [platform.machine()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        for name in ("model name", "flags", "Features"):
            told += next(([line] for line in lines if line.startswith(name)), [])
    return "\n".join(told)


@functools.cache
def key() -> str:
    """Name of the folder: changes with the sources, Python, numba, llvmlite and the processor."""
    from importlib.metadata import version  # noqa: PLC0415 - loads the parser of mail headers

    parts = [kernel_sources(), platform.python_version(), version("numba"), version("llvmlite"), _processor()]
    return f"kernels-{hashlib.blake2b(chr(0).join(parts).encode(), digest_size=8).hexdigest()}"


def candidates(environment: Mapping[str, str], data: Path | None) -> Iterator[Path]:
    """Directories that may hold the cache, the first choice first."""
    if environment.get(CACHE_DIR):
        yield Path(environment[CACHE_DIR]).absolute()
    if environment.get("XDG_CACHE_HOME", "").startswith("/"):
        yield Path(environment["XDG_CACHE_HOME"]) / "vitalgate"
    elif environment.get("HOME", "").startswith("/"):
        yield Path(environment["HOME"]) / ".cache" / "vitalgate"
    if data is not None:
        yield data / "cache"


def _problem(folder: Path) -> str:
    """Why a directory must not be trusted; empty when it may."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return "not a directory"
    if found.st_uid != os.getuid():
        return "owned by another user"
    if stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
        return f"mode {stat.S_IMODE(found.st_mode):04o}, must be 0700"
    return ""


def _open(root: Path) -> str:
    """Make the folder of the key ready in ``root``; why it cannot be used, empty when it can."""
    folder = root / key()
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        for one in (root, folder):
            one.mkdir(mode=stat.S_IRWXU, exist_ok=True)
            problem = _problem(one)
            if problem:
                return f"{one}: {problem}"
        (folder / _USED).touch()
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{error.filename or root}: {error.strerror}"


def choose(environment: Mapping[str, str], data: Path | None) -> Path:
    """The folder for compiled kernels, ready for use: of the first candidate that is private and can be written.

    Without one it is a temporary folder that ends with this process. What was not used is logged with its reason.
    """
    for root in candidates(environment, data):
        problem = _open(root)
        if not problem:
            _forget(root)
            return root / key()
        _log.warning("kernel cache not used: %s", problem)
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _forget(root: Path) -> None:
    """Remove folders of keys that no installation has used for ``UNUSED_S``."""
    limit = time.time() - UNUSED_S
    for folder in root.glob("kernels-*"):
        with suppress(OSError):
            used = folder / _USED
            last = (used if used.exists() else folder).lstat().st_mtime
            if folder.name != key() and last < limit:
                shutil.rmtree(folder, ignore_errors=True)


def repair(folder: Path) -> list[Path]:
    """Remove files of the cache that cannot be read or are not whole, without loading any; returns them."""
    damaged = [file for file in sorted(folder.rglob("*.nb[ci]")) if not _whole(file)]
    for file in damaged:
        _log.warning("kernel cache: %s is damaged and compiled again", file.name)
        file.unlink(missing_ok=True)
    if damaged:
        (folder / _COMPILED).unlink(missing_ok=True)
    return damaged


def _whole(file: Path) -> bool:
    """Whether a file is pickles to its end. numba writes each under another name and renames it."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            while True:
                for _ in pickletools.genops(opened):
                    pass
                if opened.tell() == size:
                    return True
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, IndexError, EOFError):
        return False


def use(data: Path | None) -> Path:
    """Let numba, once it is imported, keep kernels in the chosen folder, in this process and its children."""
    if not os.environ.get(NUMBA_DIR):
        os.environ[NUMBA_DIR] = str(choose(os.environ, data))
    folder = Path(os.environ[NUMBA_DIR])
    repair(folder)
    return folder


class Compiler:
    """Fills the cache by a process of its own: what the compiler takes, about 60 MB, would stay with this one."""

    def __init__(self, folder: Path) -> None:
        self._mark = folder / _COMPILED
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    @property
    def done(self) -> bool:
        """Whether all kernels of the engine are in the cache."""
        return self._mark.exists()

    def run(self) -> None:
        """Compile unless it is done, again after a pause when the process fails; returns when :meth:`stop` was called,
        too. Another installation's start may compile at the same time: numba replaces whole files."""
        while not self.done and not self._stopped.is_set():
            self._process = subprocess.Popen([sys.executable, "-c", _WARM], stdin=subprocess.DEVNULL)
            if self._stopped.is_set():
                self._process.kill()
            code = self._process.wait()
            if code == 0:
                self._mark.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
                self._mark.touch()
            elif not self._stopped.wait(RETRY_S):
                _log.error("kernels were not compiled: exit code %s", code)

    def stop(self) -> None:
        """End the compilation, from another thread."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
