"""Faults between a device and a gateway, as pure seeded transforms of a stream that report their changes.

A stream is a list of (due time in ns, payload). Each fault returns a new stream and a report that accounts for every
message of the old one, so that a test knows exactly what must arrive. Faults compose from left to right. What goes
wrong in a device itself (device-formats.md 8.1: its clock falls back, it keeps what it measures and sends it later, or
sends its whole memory each time) makes another device of it.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from simulators.devices import SimulatedDevice
from vitals.errors import InvalidRequest
from vitals.times import SECOND_NS

Stream = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class FaultReport:
    """What one fault did: ``seen`` messages came in, ``sent`` went out, ``counts`` say how they differ."""

    fault: str
    seen: int
    sent: int
    counts: Mapping[str, int] = field(default_factory=dict)


class StreamFault(Protocol):
    """A transform of a stream; ``name`` is its word in reports and on the command line."""

    name: ClassVar[str]

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:
        """The faulty stream, ordered by due time, and what was done. ``stream`` itself is left alone."""


def _share(value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError("a probability is between 0 and 1")


def _ordered(stream: Stream) -> Stream:
    return sorted(stream, key=lambda item: item[0])


@dataclass(frozen=True, slots=True)
class Dropout:
    """Messages are lost: each on its own, with ``probability``. Counts: ``dropped``."""

    probability: float
    name: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        _share(self.probability)

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:
        """See :class:`StreamFault`."""
        lost = rng.random(len(stream)) < self.probability
        kept = [item for item, gone in zip(stream, lost, strict=True) if not gone]
        return _ordered(kept), FaultReport(self.name, len(stream), len(kept), {"dropped": int(lost.sum())})


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Messages are sent a second time, up to ``within_s`` later. Counts: ``duplicated`` (extra copies)."""

    probability: float
    within_s: float = 5.0
    name: ClassVar[str] = "duplicate"

    def __post_init__(self) -> None:
        _share(self.probability)

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:
        """See :class:`StreamFault`."""
        again = rng.random(len(stream)) < self.probability
        delay = (rng.random(len(stream)) * self.within_s * SECOND_NS).astype(np.int64)
        extra = [
            (due + late, payload)
            for (due, payload), twice, late in zip(stream, again.tolist(), delay.tolist(), strict=True)
            if twice
        ]
        out = _ordered([*stream, *extra])
        return out, FaultReport(self.name, len(stream), len(out), {"duplicated": len(extra)})


@dataclass(frozen=True, slots=True)
class Reorder:
    """Messages are held back up to ``within_s`` and overtaken. Counts: ``delayed``, and ``overtaken`` of them."""

    probability: float
    within_s: float = 5.0
    name: ClassVar[str] = "reorder"

    def __post_init__(self) -> None:
        _share(self.probability)

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:
        """See :class:`StreamFault`."""
        held = rng.random(len(stream)) < self.probability
        delay = np.where(held, rng.random(len(stream)) * self.within_s * SECOND_NS, 0.0).astype(np.int64).tolist()
        moved = [(due + late, number) for number, ((due, _), late) in enumerate(zip(stream, delay, strict=True))]
        moved.sort()
        newest, overtaken = -1, 0
        for _, number in moved:
            overtaken += number < newest
            newest = max(newest, number)
        out = [(due, stream[number][1]) for due, number in moved]
        return out, FaultReport(self.name, len(stream), len(out), {"delayed": int(held.sum()), "overtaken": overtaken})


@dataclass(frozen=True, slots=True)
class Skew:
    """The way is slow: all messages arrive ``offset_s`` late. Counts: ``late``.

    Never early: a message cannot arrive before it was measured.
    """

    offset_s: float
    name: ClassVar[str] = "skew"

    def __post_init__(self) -> None:
        if not self.offset_s >= 0:
            raise ValueError("a message cannot arrive before it is sent")

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:  # noqa: ARG002 - one protocol
        """See :class:`StreamFault`."""
        late_ns = int(self.offset_s * SECOND_NS)
        out = _ordered([(due + late_ns, payload) for due, payload in stream])
        return out, FaultReport(self.name, len(stream), len(out), {"late": len(stream) if late_ns else 0})


def _truncated(payload: bytes, rng: np.random.Generator) -> bytes:
    return payload[: int(rng.integers(len(payload)))]


def _flipped(payload: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(payload)
    bits = rng.choice(len(payload) * 8, size=min(3, len(payload) * 8), replace=False)
    for bit in bits.tolist():
        out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def _random(payload: bytes, rng: np.random.Generator) -> bytes:
    out = rng.bytes(len(payload))
    return out if out != payload else _flipped(payload, rng)


_DAMAGE: Mapping[str, Callable[[bytes, np.random.Generator], bytes]] = MappingProxyType({
    "truncated": _truncated,
    "flipped": _flipped,
    "random": _random,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Garbage:
    """Payloads are damaged: cut short, up to three bits flipped, or replaced by random bytes; always different.

    Counts: ``truncated``, ``flipped``, ``random``. A flipped payload may still be readable: a bit of a value
    is a value. An empty payload has nothing to damage and stays.
    """

    probability: float
    modes: tuple[str, ...] = tuple(_DAMAGE)
    name: ClassVar[str] = "garbage"

    def __post_init__(self) -> None:
        _share(self.probability)
        if not self.modes or set(self.modes) - set(_DAMAGE):
            raise ValueError(f"garbage modes are {', '.join(_DAMAGE)}")

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, FaultReport]:
        """See :class:`StreamFault`."""
        hit = rng.random(len(stream)) < self.probability
        counts = Counter(dict.fromkeys(self.modes, 0))
        out: Stream = []
        for (due, payload), damaged in zip(stream, hit.tolist(), strict=True):
            if not damaged or not payload:
                out.append((due, payload))
                continue
            mode = self.modes[int(rng.integers(len(self.modes)))]
            counts[mode] += 1
            out.append((due, _DAMAGE[mode](payload, rng)))
        return _ordered(out), FaultReport(self.name, len(stream), len(out), dict(counts))


FACTORY_TIME = datetime(2000, 1, 1)  # noqa: DTZ001 - wall time
"""To which a clock falls back (device-formats.md 8.1)."""


def _positive(seconds: float) -> None:
    if not 0 < seconds < float("inf"):
        raise ValueError("expected seconds greater than 0")


@dataclass(frozen=True, slots=True)
class ClockReset:
    """A battery change ``after_s`` into the run: the wall clock falls back to `FACTORY_TIME` and counts on."""

    after_s: float
    name: ClassVar[str] = "clock_reset"

    def __post_init__(self) -> None:
        _positive(self.after_s)

    def afflict(self, device: SimulatedDevice, start_ns: int) -> SimulatedDevice:
        """``device`` with this in it, in a run from ``start_ns`` on."""
        reset = (start_ns + int(self.after_s * SECOND_NS), FACTORY_TIME)
        return replace(device, clock=replace(device.clock, resets=(*device.clock.resets, reset)))


@dataclass(frozen=True, slots=True)
class Stored:
    """Measurements wait in the device and go out every ``sync_s``, oldest first."""

    sync_s: float
    name: ClassVar[str] = "stored"

    def __post_init__(self) -> None:
        _positive(self.sync_s)

    def afflict(self, device: SimulatedDevice, start_ns: int) -> SimulatedDevice:  # noqa: ARG002 - one shape
        """See `ClockReset.afflict`."""
        return replace(device, schedule=replace(device.schedule, sync_s=self.sync_s, resync=False))


@dataclass(frozen=True, slots=True)
class Resync:
    """The device sends its whole memory every ``sync_s``, the same bytes each time."""

    sync_s: float
    name: ClassVar[str] = "resync"

    def __post_init__(self) -> None:
        _positive(self.sync_s)

    def afflict(self, device: SimulatedDevice, start_ns: int) -> SimulatedDevice:  # noqa: ARG002 - one shape
        """See `ClockReset.afflict`."""
        return replace(device, schedule=replace(device.schedule, sync_s=self.sync_s, resync=True))


DeviceFault = ClockReset | Stored | Resync
AnyFault = StreamFault | DeviceFault

FAULTS: Mapping[str, Callable[[float], AnyFault]] = MappingProxyType({
    Dropout.name: Dropout, Duplicate.name: Duplicate, Reorder.name: Reorder, Skew.name: Skew, Garbage.name: Garbage,
    ClockReset.name: ClockReset, Stored.name: Stored, Resync.name: Resync,
})  # fmt: skip
"""Each fault by its word; the argument is a probability, for ``skew`` and the faults of devices seconds."""


def apply_faults(
    stream: Stream, faults: Sequence[StreamFault], rng: np.random.Generator
) -> tuple[Stream, list[FaultReport]]:
    """Apply ``faults`` in order; the reports are in the same order, each ``seen`` the ``sent`` of the one before."""
    reports = []
    for fault in faults:
        stream, report = fault.apply(stream, rng)
        reports.append(report)
    return stream, reports


def parse_faults(text: str) -> tuple[AnyFault, ...]:
    """Read ``"dropout=0.1,garbage=0.02,skew=30"``; an empty text is no fault.

    Raises:
        InvalidRequest: an unknown word (with the nearest known one) or a number out of range.
    """
    faults = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        word, _, number = part.partition("=")
        make = FAULTS.get(word)
        if make is None:
            near = difflib.get_close_matches(word, FAULTS, 1)
            raise InvalidRequest("faults", f"no fault {word!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        try:
            faults.append(make(float(number)))
        except ValueError as error:
            raise InvalidRequest("faults", f"{word}: {error}") from error
    return tuple(faults)
