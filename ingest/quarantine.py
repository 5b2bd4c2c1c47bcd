"""Faults of a message before or while its adapter reads it; a bad message never affects the others."""

from dataclasses import fields
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ingest.adapter import Adapter, Columns, Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS
from ingest.journal.identities import Held
from ingest.placing.clocks import OFFSET_KEY
from vitals import encoding
from vitals.catalog import BY_CODE, CODE_SPACE, accepts
from vitals.glossary import Reason, Statistic
from vitals.model import Message
from vitals.records import NamedPatient
from vitals.units import UNIT_BY_CODE

_UNIT_SPACE: Final = 256
_TYPES: Final[dict[str, np.dtype[Any]]] = {
    item.name: getattr(ReadingsBuilder().build(), item.name).dtype for item in fields(Columns) if item.name != "context"
}
_MAX_OFFSET_MIN: Final = 32_767
_CONTEXT: Final = msgspec.msgpack.Decoder(dict[int, dict[str, Any]])


def _measures() -> npt.NDArray[np.bool_]:
    """[vital, unit]: whether the unit measures the vital."""
    out = np.zeros((CODE_SPACE, _UNIT_SPACE), np.bool_)
    for vital in BY_CODE.values():
        for unit in UNIT_BY_CODE.values():
            out[vital.code, unit.code] = accepts(vital, unit.ucum)
    return out


_MEASURES: Final = _measures()


def refusal(message: Message, adapter: Adapter | None) -> tuple[Reason, str] | None:
    """The reason why a message is not given to an adapter: (reason, detail), or None."""
    if adapter is None:
        return Reason.UNKNOWN_ADAPTER, ""
    if len(message.payload) > adapter.max_payload:
        return Reason.PAYLOAD_TOO_LARGE, f"{len(message.payload)} bytes, at most {adapter.max_payload}"
    if not message.payload:
        return Reason.EMPTY, ""
    return None


def held(message: Message, version: int, reject: Reject) -> Held:
    """A message as it goes into quarantine; ``version`` is that of its adapter, 0 without one."""
    return Held(
        message.device, message.adapter, version, message.kind, reject.reason, reject.detail, message.received_ns,
        message.ordinal, message.payload,
    )  # fmt: skip


class Unsound(ValueError):
    """An adapter returned values that no later stage can process."""


def sound(decoded: Decoded, messages: int) -> Decoded:
    """``decoded``, when every later stage can take it: one fault of an adapter must not stop the others.

    Raises:
        Unsound, or what the encoding raises: columns, context, events or rejects break the adapter contract.
    """
    columns = decoded.batch
    for name, dtype in _TYPES.items():
        column = getattr(columns, name)
        if column.dtype != dtype or column.shape != (len(columns),):
            raise Unsound(name)
    _require("message", (columns.message >= 0) & (columns.message < messages))
    _require("vital", columns.vital < CODE_SPACE)
    _require("unit", _MEASURES[columns.vital, columns.unit])
    _require("clock", columns.clock <= max(SourceClock))
    _require("statistic", columns.statistic <= max(Statistic))
    _require("value", ~np.isinf(columns.value))
    _require("source_time_ns", (columns.source_time_ns >= EARLIEST_NS) & (columns.source_time_ns <= LATEST_NS))
    for name, marks, dtype in (
        ("document", decoded.document, np.dtype(np.int64)), ("correction", decoded.correction, np.dtype(np.bool_)),
    ):  # fmt: skip
        if marks is not None and (marks.dtype != dtype or marks.shape != (len(columns),)):
            raise Unsound(name)
    if columns.context:
        _sound_context(columns)
    if not all(0 <= row < len(columns) and isinstance(who, NamedPatient) for row, who in decoded.named.items()):
        raise Unsound("named")
    if not all(0 <= alarm.message < messages and 0 <= alarm.vital < CODE_SPACE for alarm in decoded.alarms):
        raise Unsound("alarms")
    if decoded.events:
        encoding.decode(encoding.encode(list(decoded.events)))
    for reject in decoded.rejects:
        if not 0 <= reject.message < messages or not isinstance(reject.reason, Reason):
            raise Unsound("rejects")
    return decoded


def _require(name: str, holds: npt.NDArray[np.bool_]) -> None:
    if not holds.all():
        raise Unsound(name)


def _sound_context(columns: Columns) -> None:
    """Context goes to the log as it is, but for the time offset, which the clock stage adds."""
    context = _CONTEXT.decode(msgspec.msgpack.encode(dict(columns.context)))
    if not all(0 <= row < len(columns) for row in context):
        raise Unsound("context")
    for values in context.values():
        offset = values.get(OFFSET_KEY, 0)
        if not isinstance(offset, int) or abs(offset) > _MAX_OFFSET_MIN:
            raise Unsound(f"context.{OFFSET_KEY}")
