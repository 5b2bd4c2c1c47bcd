"""What goes wrong between a device and a gateway, as pure seeded transforms of a stream that say what they did.

A stream is a list of (due time in ns, payload). Each fault returns a new stream and a report that accounts for every
message of the old one, so that a test knows exactly what must arrive. Faults compose from left to right. A wrong
clock *inside* a payload is a property of the device (``simulators.devices.DeviceClock``), not of the way.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from vitals.errors import InvalidRequest

Stream = list[tuple[int, bytes]]
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """What one fault did: ``seen`` messages came in, ``sent`` went out, ``counts`` say how they differ."""

    fault: str
    seen: int
    sent: int
    counts: Mapping[str, int] = field(default_factory=dict)


class Fault(Protocol):
    """A transform of a stream; ``name`` is its word in reports and on the command line."""

    name: ClassVar[str]

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:
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

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:
        """See :class:`Fault`."""
        lost = rng.random(len(stream)) < self.probability
        kept = [item for item, gone in zip(stream, lost, strict=True) if not gone]
        return _ordered(kept), Report(self.name, len(stream), len(kept), {"dropped": int(lost.sum())})


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Messages are sent a second time, up to ``within_s`` later. Counts: ``duplicated`` (extra copies)."""

    probability: float
    within_s: float = 5.0
    name: ClassVar[str] = "duplicate"

    def __post_init__(self) -> None:
        _share(self.probability)

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:
        """See :class:`Fault`."""
        again = rng.random(len(stream)) < self.probability
        delay = (rng.random(len(stream)) * self.within_s * _SECOND_NS).astype(np.int64)
        extra = [
            (due + late, payload)
            for (due, payload), twice, late in zip(stream, again.tolist(), delay.tolist(), strict=True)
            if twice
        ]
        out = _ordered([*stream, *extra])
        return out, Report(self.name, len(stream), len(out), {"duplicated": len(extra)})


@dataclass(frozen=True, slots=True)
class Reorder:
    """Messages are held back up to ``within_s`` and overtaken. Counts: ``delayed``, and ``overtaken`` of them."""

    probability: float
    within_s: float = 5.0
    name: ClassVar[str] = "reorder"

    def __post_init__(self) -> None:
        _share(self.probability)

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:
        """See :class:`Fault`."""
        held = rng.random(len(stream)) < self.probability
        delay = np.where(held, rng.random(len(stream)) * self.within_s * _SECOND_NS, 0.0).astype(np.int64).tolist()
        moved = [(due + late, number) for number, ((due, _), late) in enumerate(zip(stream, delay, strict=True))]
        moved.sort()
        newest, overtaken = -1, 0
        for _, number in moved:
            overtaken += number < newest
            newest = max(newest, number)
        out = [(due, stream[number][1]) for due, number in moved]
        return out, Report(self.name, len(stream), len(out), {"delayed": int(held.sum()), "overtaken": overtaken})


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

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:  # noqa: ARG002 - one protocol
        """See :class:`Fault`."""
        late_ns = int(self.offset_s * _SECOND_NS)
        out = _ordered([(due + late_ns, payload) for due, payload in stream])
        return out, Report(self.name, len(stream), len(out), {"late": len(stream) if late_ns else 0})


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

    def apply(self, stream: Stream, rng: np.random.Generator) -> tuple[Stream, Report]:
        """See :class:`Fault`."""
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
        return _ordered(out), Report(self.name, len(stream), len(out), dict(counts))


FAULTS: Mapping[str, Callable[[float], Fault]] = MappingProxyType({
    Dropout.name: Dropout, Duplicate.name: Duplicate, Reorder.name: Reorder, Skew.name: Skew, Garbage.name: Garbage,
})  # fmt: skip
"""Each fault by its word; the argument is a probability, for ``skew`` seconds."""


def apply_faults(stream: Stream, faults: Sequence[Fault], rng: np.random.Generator) -> tuple[Stream, list[Report]]:
    """Apply ``faults`` in order; the reports are in the same order, each ``seen`` the ``sent`` of the one before."""
    reports = []
    for fault in faults:
        stream, report = fault.apply(stream, rng)
        reports.append(report)
    return stream, reports


def parse_faults(text: str) -> tuple[Fault, ...]:
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
