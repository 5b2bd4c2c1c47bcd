"""The adapter contract: one device family's payloads to columns. No base class, no I/O, no import side effects.

An adapter is a value, ``ADAPTER = Adapter(...)``, whose ``decode(messages, contexts)`` takes a whole micro-batch and
returns ``Decoded(batch, events, rejects)``. It says what the device said: values in the device's unit, times as
sent with the clock they were read from. Conversion, zones, attribution and plausibility come after it.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ingest.files.splitting import Splitter
from vitals.catalog import BY_KEY
from vitals.glossary import Reason, Statistic
from vitals.model import DeviceEvent, Message
from vitals.records import NamedPatient
from vitals.sources import DeviceFamily
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_NAME


class SourceClock(IntEnum):
    """What kind of time a payload carries."""

    INSTANT = 0
    """An instant with its offset, or UTC: ``source_time_ns`` is UTC."""
    WALL = 1
    """Wall time without a zone: ``source_time_ns`` is the wall time read as if it were UTC."""
    NONE = 2
    """No usable time, live: ``source_time_ns`` is the receipt time and ``seq`` the message ordinal."""
    DAY = 3
    """A day only: ``source_time_ns`` is midnight of that day read as UTC. With ``ended_ns`` the payload says the offset
    too: both are instants, at which the day began and ended."""
    STORED = 4
    """No usable time and the device says that it comes from its memory: order is known, the instant is not."""
    HUB = 5
    """An instant of the hub's clock, for a value without a usable time of its own: ``source_time_ns`` is UTC, ``seq``
    tells messages apart."""


@dataclass(frozen=True, slots=True)
class Context:
    """Configuration of a device: its IANA zone, if any, and its model settings. ``unit_doubted``: its unit is in doubt
    by what it sent before (an open fault ``unit_suspect``)."""

    zone: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    unit_doubted: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """Message ``message`` (index in the micro-batch), or a part of it, cannot be decoded. ``detail`` never quotes
    payload text, which may name a person: field paths, offsets and lengths only."""

    message: int
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Decoded readings, one row each; ``message`` is the index of the message in the micro-batch.

    ``value`` is in ``unit`` (code of ``vitals.units``), NaN for a value below or above the sensor's range.
    ``ended_ns`` is ``NO_TIME`` for instants. ``tz_min`` is the offset that the payload gave, else 0.
    """

    message: npt.NDArray[np.int64]
    vital: npt.NDArray[np.uint16]
    clock: npt.NDArray[np.uint8]
    source_time_ns: npt.NDArray[np.int64]
    ended_ns: npt.NDArray[np.int64]
    tz_min: npt.NDArray[np.int16]
    seq: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    unit: npt.NDArray[np.uint8]
    statistic: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint32]
    context: Mapping[int, Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.value)

    def joined(self, other: "Columns", offset: int) -> "Columns":
        """These rows and those of ``other``, whose message indices move up by ``offset``."""
        names = [item.name for item in fields(self) if item.name not in {"message", "context"}]
        context = {**self.context, **{row + len(self): value for row, value in other.context.items()}}
        return Columns(
            np.concatenate([self.message, other.message + offset]),
            **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names},
            context=context,
        )


_ROW: Final = struct.Struct("<qHBqqhqdBBI")
"""One reading, fields as the columns of :class:`Columns`: packed rows become arrays without a look at each value."""
pack_row: Final = _ROW.pack
"""The fields of a reading in the order of :class:`Columns` to what ``ReadingsBuilder.append`` takes: for adapters whose
budget the names of ``add`` do not fit in."""
_ROW_DTYPE: Final = np.dtype(
    [
        ("message", "<i8"), ("vital", "<u2"), ("clock", "<u1"), ("source_time_ns", "<i8"), ("ended_ns", "<i8"),
        ("tz_min", "<i2"), ("seq", "<i8"), ("value", "<f8"), ("unit", "<u1"), ("statistic", "<u1"), ("flags", "<u4"),
    ]
)  # fmt: skip


class ReadingsBuilder:
    """Collects readings while an adapter parses; ``build()`` gives the columns."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._context: dict[int, Mapping[str, Any]] = {}
        self._documents: dict[int, int] = {}
        self._corrections: list[int] = []
        self.named: dict[int, NamedPatient] = {}
        """``Decoded.named`` of the rows."""

    def add(
        self,
        message: int,
        vital: int,
        value: float,
        unit: int,
        source_time_ns: int,
        *,
        clock: SourceClock = SourceClock.INSTANT,
        seq: int = 0,
        ended_ns: int = NO_TIME,
        tz_min: int = 0,
        statistic: Statistic = Statistic.SINGLE,
        flags: int = 0,
        context: Mapping[str, Any] | None = None,
        document: int = 0,
        correction: bool = False,
        named: NamedPatient | None = None,
    ) -> None:
        """Add one reading; arguments as the columns of :class:`Columns`, the last three as those of :class:`Decoded`.

        Raises:
            struct.error: an argument does not fit its column.
        """
        if document:
            self._documents[len(self._rows)] = document
        if correction:
            self._corrections.append(len(self._rows))
        if named is not None:
            self.named[len(self._rows)] = named
        self.append(
            pack_row(message, vital, clock, source_time_ns, ended_ns, tz_min, seq, value, unit, statistic, flags),
            context,
        )

    def append(self, packed: bytes, context: Mapping[str, Any] | None) -> None:
        """Add one reading as ``pack_row`` makes it."""
        if context:
            self._context[len(self._rows)] = context
        self._rows.append(packed)

    def __len__(self) -> int:
        return len(self._rows)

    def build(self) -> Columns:
        """The rows as columns, in the order of ``add``."""
        rows = np.frombuffer(b"".join(self._rows), dtype=_ROW_DTYPE)
        arrays: dict[str, Any] = {name: rows[name].copy() for name in _ROW_DTYPE.names or ()}
        return Columns(**arrays, context=self._context)

    def documents(self) -> npt.NDArray[np.int64] | None:
        """``Decoded.document`` of the rows, None when none has one."""
        if not self._documents:
            return None
        out = np.zeros(len(self._rows), np.int64)
        out[list(self._documents)] = list(self._documents.values())
        return out

    def corrections(self) -> npt.NDArray[np.bool_] | None:
        """``Decoded.correction`` of the rows, None when none is one."""
        if not self._corrections:
            return None
        out = np.zeros(len(self._rows), np.bool_)
        out[self._corrections] = True
        return out


class Alarm(NamedTuple):
    """A physiological alarm that a device raises itself, as one message tells it.

    ``message`` is the index in the micro-batch, ``ident`` a hash by which later messages mean the same alarm. ``label``
    is its code and reference name, never free text; ``value`` is canonical. ``ends``: it is over; ``instant``: it has
    no duration. ``priority`` is high, medium, low or unknown. ``time_ns`` is UTC, ``NO_TIME`` where none can be read.
    """

    message: int
    ident: str
    label: str
    priority: str
    time_ns: int
    ends: bool = False
    instant: bool = False
    vital: int = 0
    value: float | None = None
    named: NamedPatient | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """The result of a micro-batch. A message may give readings and a reject: its good parts are kept.

    ``document`` has one number per reading: a hash of the control or document id of its message, 0 without one. A
    re-send repeats it; a later measurement has another. ``correction`` is True for a reading that the source marks as
    the correction of an earlier one. Either is None when it says nothing of any reading.

    ``named`` holds the patient of a reading, by row, where the payload names one by an identifier. The pipeline
    compares it with the assignment and forgets it; nothing else of an adapter's output may carry such an identifier.

    ``unknown_members`` counts members that no field of the adapter reads, ``left_out`` those that only add context to a
    reading and cannot be read: they never cost the value beside them.
    """

    batch: Columns
    events: Sequence[DeviceEvent] = ()
    rejects: Sequence[Reject] = ()
    unknown_members: int = 0
    left_out: int = 0
    document: npt.NDArray[np.int64] | None = None
    correction: npt.NDArray[np.bool_] | None = None
    named: Mapping[int, NamedPatient] = field(default_factory=dict)
    alarms: Sequence[Alarm] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """One device family. ``kinds`` maps each kind of payload (topic's last level, "" = none) to a sentence; ``vitals``
    are the catalogue keys it may emit; ``settings`` documents each model setting; ``version`` rises when ``decode``
    changes what it gives for the same bytes. ``files`` says how ``vitalgate import`` cuts a file into payloads of a
    kind; the first kind is the usual one. Messages of ``stored_kinds`` come from a file one by one, so that their
    arrival says nothing of when they were measured. What ``polled`` adapters give is asked of a vendor's service
    now and then: it arrives some minutes old and pages all the same, as long as it counts as current. ``delay_s`` is
    how old their values usually are on arrival because of the service itself, 0 where no delay is known."""

    name: str
    version: int
    title: str
    kinds: Mapping[str, str]
    vitals: frozenset[str]
    decode: Callable[[Sequence[Message], Sequence[Context]], Decoded]
    max_payload: int = 64 * 1024
    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Splitter] = field(default_factory=dict)
    stored_kinds: frozenset[str] = frozenset()
    polled: bool = False
    delay_s: float = 0.0

    @property
    def family(self) -> DeviceFamily:
        """What can be expected of its devices."""
        return DeviceFamily(self.vitals, self.polled, self.delay_s)


def vital_code(key: str) -> int:
    """Catalogue code of ``key``, for module-level constants of adapters."""
    return BY_KEY[key].code


def unit_code(name: str) -> int:
    """Unit code of a UCUM name, for module-level constants of adapters."""
    return UNIT_BY_NAME[name].code
