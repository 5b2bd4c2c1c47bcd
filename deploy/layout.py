"""The files of a data directory, and its owner."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vitals.errors import BackendError, ConfigError

DEFAULT_DATA_DIR = Path("vitalgate-data")
PRIVATE_DIR = 0o700
PRIVATE_UMASK = 0o077
"""What is created in a data directory is its owner's alone."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one data directory (docs/internals/recovery.md)."""

    root: Path

    @property
    def key(self) -> Path:
        return self.root / "vault.key"

    @property
    def identities(self) -> Path:
        return self.root / "vault.db"

    @property
    def registry(self) -> Path:
        return self.root / "registry.db"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens.db"

    @property
    def raw(self) -> Path:
        return self.root / "raw.db"

    @property
    def vitals(self) -> Path:
        return self.root / "vitals.db"

    @property
    def alerts(self) -> Path:
        return self.root / "alerts.db"

    @property
    def store(self) -> Path:
        return self.root / "store.duckdb"

    @property
    def control(self) -> Path:
        return self.root / "control.sock"

    @property
    def gateway_status(self) -> Path:
        return self.root / "gateway.sock"

    @property
    def ingest(self) -> Path:
        return self.root / "ingest.sock"

    @property
    def imports(self) -> Path:
        """Where unfinished imports are, one small file each."""
        return self.root / "imports"

    def lock(self, name: str) -> "DirectoryLock":
        """The lock of the owner (``owner``) or of one of its processes."""
        return DirectoryLock(self.root / ("lock" if name == "owner" else f"{name}.lock"))

    def create(self) -> None:
        """Make the directory, readable by its owner only; raises ``ConfigError``."""
        try:
            self.root.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("data-dir", f"{self.root}: {error.strerror}") from error
        # A socket's path has room for 107 bytes; say so now instead of at the first command.
        if len(os.fsencode(self.control.absolute())) > 107:
            raise ConfigError("data-dir", "path is too long for its control socket (107 bytes)")


class DirectoryLock:
    """An advisory lock that the kernel drops when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def held(self) -> bool:
        """Whether some process holds it now."""
        if not self._path.exists():
            return False
        try:
            with self:
                return False
        except BackendError:
            return True

    def __enter__(self) -> "DirectoryLock":
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise BackendError(f"{self._path.parent} is in use by another process", retryable=True) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
