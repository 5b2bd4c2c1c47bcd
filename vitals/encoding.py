"""Versioned wire encoding of log entries.

An entry is ``b"VG" | version u8 | kind u8 | body | crc32 u32 LE`` (the checksum covers all before it). Bodies are
msgpack; a batch's columns travel as little-endian buffers inside it. Old versions stay readable: every version ever
written has a golden file under ``tests/vitals/golden``. The format is specified in ``docs/internals/recovery.md``.
"""

import struct
import zlib
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from vitals.errors import BackendError
from vitals.model import (
    COLUMNS,
    UNASSIGNED,
    Control,
    DeviceEvent,
    Entry,
    Heartbeat,
    Message,
    Provenance,
    Tick,
    VitalBatch,
)

VERSION = 1
_MAGIC = b"VG"
_HEAD = struct.Struct("<2sBB")
_TAIL = struct.Struct("<I")


class EntryKind(IntEnum):
    """Kinds on the wire; append-only."""

    MESSAGES = 1
    HEARTBEAT = 2
    EVENTS = 3
    READINGS = 4
    TICK = 5
    CONTROL = 6


class CorruptEntry(BackendError):
    """A log row is not a readable entry; never retryable."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"corrupt log entry: {problem}", retryable=False)


class _BatchBody(msgspec.Struct, array_like=True):
    rows: int
    devices: tuple[str, ...]
    patients: tuple[str, ...]
    columns: dict[str, bytes]
    context: dict[int, dict[str, Any]]
    provenance: Provenance


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[EntryKind, msgspec.msgpack.Decoder[Any]] = {
    EntryKind.MESSAGES: msgspec.msgpack.Decoder(list[Message]),
    EntryKind.HEARTBEAT: msgspec.msgpack.Decoder(Heartbeat),
    EntryKind.EVENTS: msgspec.msgpack.Decoder(list[DeviceEvent]),
    EntryKind.READINGS: msgspec.msgpack.Decoder(_BatchBody),
    EntryKind.TICK: msgspec.msgpack.Decoder(Tick),
    EntryKind.CONTROL: msgspec.msgpack.Decoder(Control),
}


def _body(entry: Entry) -> tuple[EntryKind, Any]:
    match entry:
        case VitalBatch():
            columns = {name: column.astype(COLUMNS[name]).tobytes() for name, column in entry.columns().items()}
            context = {row: dict(value) for row, value in entry.context.items()}
            body = _BatchBody(len(entry), entry.devices, entry.patients, columns, context, entry.provenance)
            return EntryKind.READINGS, body
        case Heartbeat():
            return EntryKind.HEARTBEAT, entry
        case Tick():
            return EntryKind.TICK, entry
        case Control():
            return EntryKind.CONTROL, entry
        case [DeviceEvent(), *_]:
            return EntryKind.EVENTS, entry
        case _:
            return EntryKind.MESSAGES, entry


def encode(entry: Entry) -> bytes:
    """The wire form of ``entry``."""
    kind, body = _body(entry)
    framed = _HEAD.pack(_MAGIC, VERSION, kind) + _encoder.encode(body)
    return framed + _TAIL.pack(zlib.crc32(framed))


def decode(data: bytes) -> Entry:
    """The entry that ``data`` holds.

    Raises:
        CorruptEntry: bad magic, unknown version or kind, wrong checksum, unreadable body.
    """
    if len(data) < _HEAD.size + _TAIL.size:
        raise CorruptEntry(f"{len(data)} bytes")
    magic, version, number = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise CorruptEntry(f"magic {magic!r}, version {version}")
    (checksum,) = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    framed = memoryview(data)[: -_TAIL.size]
    if zlib.crc32(framed) != checksum:
        raise CorruptEntry("checksum")
    try:
        kind = EntryKind(number)
        body = _decoders[kind].decode(framed[_HEAD.size :])
        return _batch(body) if isinstance(body, _BatchBody) else body
    except (ValueError, msgspec.MsgspecError) as error:
        raise CorruptEntry(f"kind {number}: {error}") from error


def _batch(body: _BatchBody) -> VitalBatch:
    absent = COLUMNS.keys() - body.columns.keys()
    if absent:
        raise CorruptEntry(f"columns {sorted(absent)} are absent")
    columns: dict[str, Any] = {name: np.frombuffer(body.columns[name], dtype=dtype) for name, dtype in COLUMNS.items()}
    if any(len(column) != body.rows for column in columns.values()):
        raise CorruptEntry("column lengths")
    for name, vocabulary, lowest in (("device", body.devices, 0), ("patient", body.patients, UNASSIGNED)):
        if not np.logical_and(columns[name] >= lowest, columns[name] < len(vocabulary)).all():
            raise CorruptEntry(f"{name} outside its vocabulary")
    if any(not 0 <= row < body.rows for row in body.context):
        raise CorruptEntry("context of a row that is not there")
    return VitalBatch(body.devices, body.patients, **columns, context=body.context, provenance=body.provenance)
