"""Messages, readings, events and the other entries that the logs carry.

Times are int64 nanoseconds since 1970-01-01 UTC. ``vitals.times.NO_TIME`` marks an absent time, patient -1 an
unassigned reading.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from vitals.glossary import ControlKind, EventKind
from vitals.times import NO_TIME

UNASSIGNED: Final = -1

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One payload as the gateway took it in.

    ``ordinal`` numbers messages over the life of the data directory (position of the log row << 16 | index in it).
    ``dup`` is the MQTT DUP flag of a first sight; ``resend_of`` is the ordinal of the message that this one repeats
    (same session, packet id, DUP and payload), or -1.
    """

    device: str
    adapter: str
    kind: str
    received_ns: int
    payload: bytes
    dup: bool = False
    resend_of: int = -1
    ordinal: int = -1


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """The gateway was alive at ``time_ns``; everything it received before is in the log already."""

    time_ns: int


class DeviceEvent(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened to a device, or a value absent with a reason."""

    device: str
    kind: EventKind
    time_ns: int
    detail: str = ""
    value: float | None = None
    vital: int = 0
    message: int = -1


class Tick(msgspec.Struct, frozen=True, array_like=True):
    """Everything received before ``watermark_ns`` has been processed and precedes this entry in the log."""

    watermark_ns: int


class Control(msgspec.Struct, frozen=True, array_like=True):
    """What a person or the system told the engine. ``body`` per kind: see docs/internals/recovery.md."""

    kind: ControlKind
    time_ns: int
    author: str
    body: dict[str, Any]


class Provenance(msgspec.Struct, frozen=True, array_like=True):
    """Where a derived entry comes from: raw log positions (inclusive) and the adapter that decoded it."""

    first: int = -1
    last: int = -1
    adapter: str = ""
    adapter_version: int = 0


COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "device": "<i4",
        "patient": "<i4",
        "vital": "<u2",
        "source_time_ns": "<i8",
        "seq": "<i8",
        "time_ns": "<i8",
        "end_ns": "<i8",
        "basis": "<u1",
        "tz_min": "<i2",
        "value": "<f8",
        "reported": "<f8",
        "unit": "<u1",
        "statistic": "<u1",
        "flags": "<u4",
        "message": "<i8",
        "received_ns": "<i8",
    }
)
"""Column name -> numpy dtype of :class:`VitalBatch`, in wire order (DESIGN section 5)."""


@dataclass(frozen=True, slots=True, eq=False)
class VitalBatch:
    """Equal-length columns, one row per reading.

    ``device`` and ``patient`` are indices into ``devices`` and ``patients`` (opaque tokens); patient -1 is unassigned.
    ``value`` is in the vital's canonical unit, ``reported`` and ``unit`` are what the device said; NaN where a value
    is below or above the sensor's range and the device gave no number. ``end_ns`` is ``NO_TIME`` for instants.
    ``message`` is the ordinal of the raw message. ``context`` is sparse: row -> small map.
    """

    devices: tuple[str, ...]
    patients: tuple[str, ...]
    device: Int32
    patient: Int32
    vital: npt.NDArray[np.uint16]
    source_time_ns: Int64
    seq: Int64
    time_ns: Int64
    end_ns: Int64
    basis: npt.NDArray[np.uint8]
    tz_min: npt.NDArray[np.int16]
    value: Float64
    reported: Float64
    unit: npt.NDArray[np.uint8]
    statistic: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint32]
    message: Int64
    received_ns: Int64
    context: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length: {lengths}")

    def __len__(self) -> int:
        return len(self.value)

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> array, in wire order."""
        return {name: getattr(self, name) for name in COLUMNS}

    def take(self, rows: npt.NDArray[Any]) -> "VitalBatch":
        """The batch of ``rows`` (a boolean mask or row numbers), vocabularies unchanged."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        context: dict[int, Mapping[str, Any]] = {}
        if self.context:
            # Only the rows that have a context are walked: it is sparse, batches are not small.
            index = np.arange(len(self))[index]
            having = np.flatnonzero(np.isin(index, np.fromiter(self.context, dtype=np.int64)))
            context = {int(new): self.context[int(index[new])] for new in having}
        kept: dict[str, Any] = {name: column[index] for name, column in self.columns().items()}
        return VitalBatch(self.devices, self.patients, **kept, context=context, provenance=self.provenance)

    def replace(self, **changes: Any) -> "VitalBatch":
        """A copy with some fields replaced."""
        current = {item.name: getattr(self, item.name) for item in fields(self)}
        return VitalBatch(**(current | changes))


def batch_from_rows(rows: Sequence[Mapping[str, Any]]) -> VitalBatch:
    """Build a batch from dicts with token strings for ``device`` and ``patient`` (None = unassigned).

    Missing columns take neutral values. For tests, imports and other places off the hot path.
    """
    devices = tuple(dict.fromkeys(row["device"] for row in rows))
    patients = tuple(dict.fromkeys(row["patient"] for row in rows if row.get("patient") is not None))
    device_index = {token: number for number, token in enumerate(devices)}
    patient_index: dict[str | None, int] = {token: number for number, token in enumerate(patients)}
    defaults: dict[str, Any] = {"end_ns": NO_TIME, "message": -1}

    def cell(row: Mapping[str, Any], name: str) -> Any:
        if name == "device":
            return device_index[row["device"]]
        if name == "patient":
            return patient_index.get(row.get("patient"), UNASSIGNED)
        if name in {"source_time_ns", "received_ns"}:
            return row.get(name, row.get("time_ns", 0))
        if name == "reported":
            return row.get(name, row.get("value", 0))
        return row.get(name, defaults.get(name, 0))

    columns: dict[str, Any] = {
        name: np.array([cell(row, name) for row in rows], dtype=dtype) for name, dtype in COLUMNS.items()
    }
    context = {number: row["context"] for number, row in enumerate(rows) if row.get("context")}
    return VitalBatch(devices, patients, **columns, context=context)


def concatenate(batches: Iterable[VitalBatch]) -> VitalBatch:
    """One batch of all rows in order; vocabularies are merged. Provenance is that of the first batch."""
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    devices: dict[str, int] = {}
    patients: dict[str, int] = {}
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in COLUMNS}
    context: dict[int, Mapping[str, Any]] = {}
    offset = 0
    for part in parts:
        device_map = np.array([devices.setdefault(token, len(devices)) for token in part.devices], dtype=np.int32)
        # The last element serves index -1: unassigned stays unassigned.
        patient_map = np.array(
            [patients.setdefault(token, len(patients)) for token in part.patients] + [UNASSIGNED], dtype=np.int32
        )
        for name, column in part.columns().items():
            mapped = {"device": device_map, "patient": patient_map}.get(name)
            columns[name].append(column if mapped is None or not len(column) else mapped[column])
        context.update({offset + row: value for row, value in part.context.items()})
        offset += len(part)
    joined: dict[str, Any] = {
        name: np.concatenate(columns[name]) if columns[name] else np.empty(0, dtype=dtype)
        for name, dtype in COLUMNS.items()
    }
    provenance = parts[0].provenance if parts else Provenance()
    return VitalBatch(tuple(devices), tuple(patients), **joined, context=context, provenance=provenance)


Entry = list[Message] | Heartbeat | list[DeviceEvent] | VitalBatch | Tick | Control
"""What one row of a log holds."""
