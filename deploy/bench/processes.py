"""CPU and memory of process trees, from /proc."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S: Final = 0.2


def children(pid: int) -> dict[str, int]:
    """Name of a child of the supervisor (``gateway``, ``core``) -> its process id."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text(encoding="ascii").split():
            line = Path(f"/proc/{child}/cmdline").read_bytes().decode()
            found.update({name: int(child) for name in ("gateway", "core") if f'"name": "{name}"' in line})
    return found


def cpu_s(pid: int) -> float:
    """User and system time that a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS


def rss_mb(pid: int) -> float:
    """Resident memory of a process, shared pages included."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE / 2**20


def pss_mb(pid: int) -> float:
    """Memory of a process in which a page that n processes share counts as 1/n."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


class MemoryPeak:
    """Watches the summed memory of processes while its block runs: ``peak_mb`` resident, where pages that they share
    count in each, and ``used_mb`` proportional, where they count once."""

    def __init__(self, *pids: int) -> None:
        self._pids, self._stop = pids, threading.Event()
        self.peak_mb = self.used_mb = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, sum(map(rss_mb, self._pids)))
            self.used_mb = max(self.used_mb, sum(map(pss_mb, self._pids)))
            if self._stop.wait(SAMPLE_S):
                return

    def __enter__(self) -> "MemoryPeak":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
