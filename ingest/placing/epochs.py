"""What is known of a device's clock after it was reset: records out of line, and shifts that live records prove.

Records whose number rises while their time falls (or lies before 2010, or far ahead of arrival) are *odd*. Their shift
is learned from live ones among them (device-formats.md 8.3): two records of different times that took the same time to
arrive, and than which none of their line arrived sooner, were both sent as they were measured. A shift holds between
such a pair, back from it as far as numbers follow each other and times never fall, and on from it to the newest record
that was live by the same shift: what comes from memory after that waits for the next live one, since the clock may
have been reset again. Odd records and epochs are only ever added, so a record gets the same corrected time whenever
and in whatever batch it comes again.
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ingest.placing.clocks import FUTURE_TOLERANCE_NS, LIVE_TOLERANCE_NS, RESET_LEAP_NS
from vitals.times import MINUTE_NS

HUB_KEY = "hub_time_ns"
"""Context key by which a hub says when it took a record in; it stands for arrival."""
SPAN_NS = 10 * MINUTE_NS
"""Two records of one upload arrive together: only what lies further apart than any tolerance proves something."""
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
    """What an odd record taught: new epochs, and whether the time of other records is known by it."""

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
        """The same knowledge, to be learned on from here."""
        return DeviceClock(
            self.odd.copy(), self.epochs.copy(), self.reached.copy(), self.unknown.copy(), self.newest.copy()
        )

    def is_odd(self, seq: int, source_ns: int, head_ns: int) -> bool:
        """Whether a record is one of the odd ones, or older than a later one of them."""
        if (seq, source_ns) in self.odd:
            return True
        late = source_ns < head_ns - RESET_LEAP_NS
        return late and any(number > seq and time_ns >= source_ns for number, time_ns in self.odd)

    def shift_ns(self, seq: int, source_ns: int, received_ns: int) -> int | None:
        """What to add to the time as sent; None where nothing is known."""
        arrived_ns = self.odd.get((seq, source_ns), received_ns)
        for epoch, (last, last_ns) in zip(reversed(self.epochs), reversed(self.reached), strict=True):
            if epoch.from_seq <= seq <= last and epoch.first_ns <= source_ns <= last_ns:
                return epoch.shift_ns if source_ns + epoch.shift_ns <= arrived_ns + FUTURE_TOLERANCE_NS else None
            live = abs(arrived_ns - source_ns - epoch.shift_ns) <= LIVE_TOLERANCE_NS
            if live and seq > last and source_ns >= last_ns:
                return epoch.shift_ns
        return None

    def see(self, seq: int, source_ns: int, arrived_ns: int) -> Learned:
        """Take in an odd record. One that is known changes nothing."""
        record = (seq, source_ns)
        if record in self.odd:
            return Learned([], False)
        self.odd[record] = arrived_ns
        self.unknown.add(record)
        insort(self.newest, record)
        del self.newest[:-_COMPARED]
        before = len(self.epochs)
        self._reach(record)
        if self.shift_ns(*record, arrived_ns) is None:
            pair = self._pair(*record)
            if pair is not None:
                self._add(pair)
            self._extend()
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
        """A live record by the shift of an epoch, past its newest one, is its newest."""
        delay_ns = self.odd[record] - record[1]
        for number, epoch in enumerate(self.epochs):
            seq, source_ns = self.reached[number]
            if record[0] > seq and record[1] >= source_ns and abs(delay_ns - epoch.shift_ns) <= LIVE_TOLERANCE_NS:
                self.reached[number] = record

    def _pair(self, seq: int, source_ns: int) -> Epoch | None:
        """The epoch that this record and another one of its line prove."""
        mine_ns = self.odd[seq, source_ns] - source_ns
        for other in reversed(self.newest):
            other_ns = self.odd[other] - other[1]
            (low, low_ns), (high, high_ns) = sorted((other, (seq, source_ns)))
            if low == high or high_ns - low_ns < SPAN_NS or abs(mine_ns - other_ns) > LIVE_TOLERANCE_NS:
                continue
            shift_ns = min(mine_ns, other_ns)
            if self._soonest(low, low_ns, high, high_ns) >= shift_ns - LIVE_TOLERANCE_NS:
                return Epoch(low, low_ns, high, high_ns, shift_ns)
        return None

    def _soonest(self, low: int, low_ns: int, high: int, high_ns: int) -> int:
        """The least time from record to arrival on the line of a pair: between them, and without a gap before."""
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
        """Let epochs reach back as far as records follow each other."""
        for epoch in list(self.epochs):
            first, first_ns = self._chain(epoch.from_seq, epoch.first_ns)
            longer = epoch._replace(from_seq=first, first_ns=first_ns)
            if longer not in self.epochs:
                self._add(longer)


def clocks_of(
    odd: Iterable[tuple[str, int, int, int]], epochs: Iterable[tuple[str, int, int, int, int, int]]
) -> dict[str, DeviceClock]:
    """Clocks by device token, from what the journal keeps in the order it was learned."""
    found: dict[str, DeviceClock] = {}
    for token, seq, source_ns, arrived_ns in odd:
        found.setdefault(token, DeviceClock()).odd[seq, source_ns] = arrived_ns
    learned: dict[str, list[Epoch]] = {token: [] for token in found}
    for token, *epoch in epochs:
        learned[token].append(Epoch(*epoch))
    for token, clock in found.items():
        clock.restore(learned[token])
    return found
