"""What is wrong with a message before or while its adapter reads it; one bad message is kept from the others."""

from dataclasses import fields
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from ingest.adapter import Adapter, Columns, Context, Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS
from ingest.placing.clocks import OFFSET_KEY
from vitals import encoding
from vitals.catalog import BY_CODE, CODE_SPACE, accepts
from vitals.glossary import Reason, Statistic
from vitals.model import Message
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
_Mark = TypeVar("_Mark", np.int64, np.bool_)
_log = structlog.get_logger(__name__)


def refusal(message: Message, adapter: Adapter | None) -> tuple[Reason, str] | None:
    """Why a message cannot even be given to an adapter: (reason, detail), or None."""
    if adapter is None:
        return Reason.UNKNOWN_ADAPTER, ""
    if len(message.payload) > adapter.max_payload:
        return Reason.PAYLOAD_TOO_LARGE, f"{len(message.payload)} bytes, at most {adapter.max_payload}"
    if not message.payload:
        return Reason.EMPTY, ""
    return None


def decode(adapter: Adapter, messages: list[Message], contexts: list[Context]) -> Decoded:
    """Decode a micro-batch; a message on which the adapter itself fails is rejected alone as ``adapter_error``."""
    try:
        return _sound(adapter.decode(messages, contexts), len(messages))
    except Exception as error:  # noqa: BLE001 - a third party's adapter may fail in any way; the others go on
        if len(messages) == 1:
            _log.error("adapter_failed", adapter=adapter.name, version=adapter.version, error=type(error).__name__)
            reject = Reject(0, Reason.ADAPTER_ERROR, type(error).__name__)
            return Decoded(ReadingsBuilder().build(), rejects=(reject,))
    # One of them breaks the adapter: find it by halves, so that one bad message costs log2(n) calls, not n.
    middle = len(messages) // 2
    left = decode(adapter, messages[:middle], contexts[:middle])
    right = decode(adapter, messages[middle:], contexts[middle:])
    return _joined(left, right, middle)


def _joined(left: Decoded, right: Decoded, offset: int) -> Decoded:
    moved = tuple(Reject(r.message + offset, r.reason, r.detail) for r in right.rejects)
    return Decoded(
        left.batch.joined(right.batch, offset),
        (*left.events, *right.events),
        (*left.rejects, *moved),
        left.unknown_members + right.unknown_members,
        _beside(left.document, right.document, left, right),
        _beside(left.correction, right.correction, left, right),
    )


def _beside(
    before: npt.NDArray[_Mark] | None, after: npt.NDArray[_Mark] | None, left: Decoded, right: Decoded
) -> npt.NDArray[_Mark] | None:
    """An optional column of both halves; zeros stand for the half that has none."""
    known = before if before is not None else after
    if known is None:
        return None
    halves = ((before, len(left.batch)), (after, len(right.batch)))
    return np.concatenate([np.zeros(count, known.dtype) if part is None else part for part, count in halves])


class _Unsound(ValueError):
    """An adapter gave something that no later stage could take."""


def _sound(decoded: Decoded, messages: int) -> Decoded:
    """``decoded``, when every later stage can take it: one fault of an adapter must not stop the others.

    Raises:
        _Unsound, or what the encoding raises: columns, context, events or rejects break the adapter contract.
    """
    columns = decoded.batch
    for name, dtype in _TYPES.items():
        column = getattr(columns, name)
        if column.dtype != dtype or column.shape != (len(columns),):
            raise _Unsound(name)
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
            raise _Unsound(name)
    if columns.context:
        _sound_context(columns)
    if decoded.events:
        encoding.decode(encoding.encode(list(decoded.events)))
    for reject in decoded.rejects:
        if not 0 <= reject.message < messages or not isinstance(reject.reason, Reason):
            raise _Unsound("rejects")
    return decoded


def _require(name: str, holds: npt.NDArray[np.bool_]) -> None:
    if not holds.all():
        raise _Unsound(name)


def _sound_context(columns: Columns) -> None:
    """Context goes to the log as it is, but for the time offset, which the clock stage adds."""
    context = _CONTEXT.decode(msgspec.msgpack.encode(dict(columns.context)))
    if not all(0 <= row < len(columns) for row in context):
        raise _Unsound("context")
    for values in context.values():
        offset = values.get(OFFSET_KEY, 0)
        if not isinstance(offset, int) or abs(offset) > _MAX_OFFSET_MIN:
            raise _Unsound(f"context.{OFFSET_KEY}")
