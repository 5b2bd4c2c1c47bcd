"""Changes of the ledgers in one cycle (docs/internals/recovery.md)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vitals.records import Ledger, MessageLedger, ReadingLedger

COUNTS = ("decoded", "duplicate", "quarantined", "emitted", "repeated", "revision", "unassigned")


@dataclass(slots=True)
class Tally:
    """Ledger changes of a cycle: device token -> counts in the order of ``COUNTS``, and their sums."""

    counts: dict[str, list[int]] = field(default_factory=dict)
    _sums: list[int] = field(default_factory=lambda: [0] * len(COUNTS))

    def add(self, device: str, what: str, number: int = 1) -> None:
        """Count ``number`` more of ``what`` for a device."""
        self._add(COUNTS.index(what), ((device, number),))

    def add_rows(self, devices: Sequence[str], what: str, rows: npt.NDArray[np.int32]) -> None:
        """Count one more of ``what`` for each of ``rows``, which are indices into ``devices``."""
        numbers = np.bincount(rows, minlength=len(devices)).tolist()
        self._add(
            COUNTS.index(what), ((token, number) for token, number in zip(devices, numbers, strict=True) if number)
        )

    def _add(self, place: int, added: Iterable[tuple[str, int]]) -> None:
        for device, number in added:
            counts = self.counts.get(device)
            if counts is None:
                counts = self.counts[device] = [0] * len(COUNTS)
            counts[place] += number
            self._sums[place] += number

    def total(self, what: str) -> int:
        """The sum of one count over all devices."""
        return self._sums[COUNTS.index(what)]


def ledger_of(device: str, counts: Mapping[str, int], received: int, stored: int) -> Ledger:
    """Both ledgers of a device: its counts by outcome, messages received and readings stored."""

    def count(name: str) -> int:
        return counts.get(name, 0)

    settled = count("decoded") + count("duplicate") + count("quarantined")
    kept = stored + count("repeated") + count("revision") + count("unassigned")
    return Ledger(
        device,
        MessageLedger(received, count("decoded"), count("duplicate"), count("quarantined"), received - settled),
        ReadingLedger(
            count("emitted"), stored, count("repeated"), count("revision"), count("unassigned"),
            count("emitted") - kept,
        ),
    )  # fmt: skip
