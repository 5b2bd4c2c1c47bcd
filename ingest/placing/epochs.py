"""Knowledge of a device's clock after a reset: records that are out of line, and shifts that live records prove.

A record is *odd* if its number rises while its time falls, or if its time lies before 2010 or far ahead of arrival. Two
odd records prove a shift (device-formats.md 8.3) if they were measured at different times, took equally long to arrive,
and no other record of their line took less: both were then sent as they were measured. The shift holds

- between the two records;
- before them, as far back as numbers have no gap and times never fall;
- after them, up to the newest record that was live by the same shift. A later record from the device's memory waits for
  the next live one, because the clock may have been reset again.

Odd records and epochs are added and never removed, so a record that comes again, in any batch, gets the same corrected
time.
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingest.placing.clocks import FUTURE_TOLERANCE_NS, LIVE_TOLERANCE_NS, RESET_LEAP_NS
from vitals.times import MINUTE_NS

HUB_KEY = "hub_time_ns"
"""Context key of the time at which a hub received a record; it replaces the arrival."""
SPAN_NS = 10 * MINUTE_NS
"""Least time between two records that prove a shift: records of one upload arrive together and prove nothing."""
_HUB_BEHIND_NS = 31 * 86_400_000_000_000
_COMPARED = 64
"""How many of the newest odd records a new one is compared with."""


Record = tuple[int, int]
"""Sequence and time as sent."""


class Epoch(NamedTuple):
    """``shift_ns`` is added to the time as sent, for records from (``from_seq``, ``first_ns``) to the newest live one,
    which is no older than (``pair_seq``, ``pair_ns``)."""

    from_seq: int
    first_ns: int
    pair_seq: int
    pair_ns: int
    shift_ns: int


class Learned(NamedTuple):
    """The result of one odd record: new epochs, and whether the time of other records is known by them."""

    epochs: list[Epoch]
    others: bool


def arrival_ns(received_ns: int, context: Mapping[str, Any]) -> int:
    """The hub's time where it is credible, else the receipt."""
    hub_ns = context.get(HUB_KEY)
    if isinstance(hub_ns, int) and received_ns - _HUB_BEHIND_NS < hub_ns <= received_ns + FUTURE_TOLERANCE_NS:
        return hub_ns
    return received_ns


@dataclass(slots=True)
class DeviceClock:
    """Odd records of one device, (sequence, time as sent) -> first arrival, and the epochs learned from them.

    ``reached`` holds the newest live record of each epoch, ``unknown`` the odd records that no shift reaches,
    ``newest`` those of the highest numbers.
    """

    odd: dict[Record, int] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    reached: list[Record] = field(default_factory=list)
    unknown: set[Record] = field(default_factory=set)
    newest: list[Record] = field(default_factory=list)

    def copy(self) -> "DeviceClock":
        """An independent copy."""
        return DeviceClock(
            self.odd.copy(), self.epochs.copy(), self.reached.copy(), self.unknown.copy(), self.newest.copy()
        )

    def is_odd(self, seq: int, source_ns: int, head_ns: int) -> bool:
        """Whether a record is odd, or precedes an odd record: far behind ``head_ns``, a lower number, no later time."""
        if (seq, source_ns) in self.odd:
            return True
        late = source_ns < head_ns - RESET_LEAP_NS
        return late and any(number > seq and time_ns >= source_ns for number, time_ns in self.odd)

    def shift_ns(self, seq: int, source_ns: int, received_ns: int) -> int | None:
        """What to add to the time as sent; None where nothing is known."""
        # Step 1: device-formats.md 8.3, step 1. A record that came before keeps its first arrival.
        arrived_ns = self.odd.get((seq, source_ns), received_ns)
        # Step 2: 8.3, step 3. A shift applies to the records of its own epoch; the newest epoch comes first.
        for epoch, (last, last_ns) in zip(reversed(self.epochs), reversed(self.reached), strict=True):
            if epoch.from_seq <= seq <= last and epoch.first_ns <= source_ns <= last_ns:
                return epoch.shift_ns if source_ns + epoch.shift_ns <= arrived_ns + FUTURE_TOLERANCE_NS else None
            # Step 3: a record past the epoch has its shift only if it is live by it.
            live = abs(arrived_ns - source_ns - epoch.shift_ns) <= LIVE_TOLERANCE_NS
            if live and seq > last and source_ns >= last_ns:
                return epoch.shift_ns
        return None

    def see(self, seq: int, source_ns: int, arrived_ns: int) -> Learned:
        """Take in an odd record. A known record changes nothing."""
        # Step 1: keep the record with its first arrival (device-formats.md 8.3, step 1).
        record = (seq, source_ns)
        if record in self.odd:
            return Learned([], False)
        self.odd[record] = arrived_ns
        self.unknown.add(record)
        insort(self.newest, record)
        del self.newest[:-_COMPARED]
        # Step 2: it may extend a known epoch (8.3, step 3).
        before = len(self.epochs)
        self._reach(record)
        # Step 3: otherwise it may prove a new shift together with another odd record (8.3, step 2).
        if self.shift_ns(*record, arrived_ns) is None:
            pair = self._pair(*record)
            if pair is not None:
                self._add(pair)
            self._extend()
        # Step 4: records whose time is known now are no longer unknown.
        found = (
            {one for one in self.unknown if self.shift_ns(*one, self.odd[one]) is not None} if self.epochs else set()
        )
        self.unknown -= found
        return Learned(self.epochs[before:], bool(found - {record}))

    def restore(self, epochs: Iterable[Epoch]) -> None:
        """Take in epochs learned before, once all odd records stand in ``odd``."""
        self.newest = sorted(self.odd)[-_COMPARED:]
        for epoch in epochs:
            self._add(epoch)
        self.unknown = {one for one in self.odd if self.shift_ns(*one, self.odd[one]) is None}

    def _add(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        self.reached.append((epoch.pair_seq, epoch.pair_ns))
        for record in sorted(self.odd):
            self._reach(record)

    def _reach(self, record: Record) -> None:
        """Make a record the newest of an epoch if it lies past the epoch's newest and is live by its shift."""
        delay_ns = self.odd[record] - record[1]
        for number, epoch in enumerate(self.epochs):
            seq, source_ns = self.reached[number]
            if record[0] > seq and record[1] >= source_ns and abs(delay_ns - epoch.shift_ns) <= LIVE_TOLERANCE_NS:
                self.reached[number] = record

    def _pair(self, seq: int, source_ns: int) -> Epoch | None:
        """The epoch that this record and another odd record prove."""
        mine_ns = self.odd[seq, source_ns] - source_ns
        for other in reversed(self.newest):
            # Step 1: both arrived equally late and lie further apart than one upload (device-formats.md 8.3, step 2).
            other_ns = self.odd[other] - other[1]
            (low, low_ns), (high, high_ns) = sorted((other, (seq, source_ns)))
            if low == high or high_ns - low_ns < SPAN_NS or abs(mine_ns - other_ns) > LIVE_TOLERANCE_NS:
                continue
            # Step 2: no record of their line arrived sooner, so that neither comes from the device's memory.
            shift_ns = min(mine_ns, other_ns)
            if self._soonest(low, low_ns, high, high_ns) >= shift_ns - LIVE_TOLERANCE_NS:
                return Epoch(low, low_ns, high, high_ns, shift_ns)
        return None

    def _soonest(self, low: int, low_ns: int, high: int, high_ns: int) -> int:
        """The least time from record to arrival between the records of a pair and on the unbroken line before it."""
        first, first_ns = self._chain(low, low_ns)
        line = (
            arrived_ns - source_ns
            for (seq, source_ns), arrived_ns in self.odd.items()
            if first <= seq <= high and first_ns <= source_ns <= high_ns
        )
        return min(line)

    def _chain(self, seq: int, source_ns: int) -> tuple[int, int]:
        """The first record from which on numbers follow each other and times never fall."""
        by_seq: dict[int, int] = {}
        for number, time_ns in self.odd:
            if number < seq and time_ns <= source_ns:
                by_seq[number] = max(time_ns, by_seq.get(number, time_ns))
        while seq - 1 in by_seq and by_seq[seq - 1] <= source_ns:
            seq, source_ns = seq - 1, by_seq[seq - 1]
        return seq, source_ns

    def _extend(self) -> None:
        """Extend each epoch back over records whose numbers have no gap (device-formats.md 8.3, step 3)."""
        for epoch in list(self.epochs):
            first, first_ns = self._chain(epoch.from_seq, epoch.first_ns)
            longer = epoch._replace(from_seq=first, first_ns=first_ns)
            if longer not in self.epochs:
                self._add(longer)


def clocks_of(
    odd: Iterable[tuple[str, int, int, int]], epochs: Iterable[tuple[str, int, int, int, int, int]]
) -> dict[str, DeviceClock]:
    """Clocks by device token, from the journal's odd records and epochs in the order in which they were learned."""
    found: dict[str, DeviceClock] = {}
    for token, seq, source_ns, arrived_ns in odd:
        found.setdefault(token, DeviceClock()).odd[seq, source_ns] = arrived_ns
    learned: dict[str, list[Epoch]] = {token: [] for token in found}
    for token, *epoch in epochs:
        learned[token].append(Epoch(*epoch))
    for token, clock in found.items():
        clock.restore(learned[token])
    return found
