"""What is wrong with a message before or while its adapter reads it; one bad message is kept from the others."""

from typing import Any, Final

import msgspec
import numpy as np
import structlog

from ingest.adapter import Adapter, Columns, Context, Decoded, ReadingsBuilder, Reject, SourceClock
from ingest.adapters.timestamps import EARLIEST_NS, LATEST_NS
from ingest.clocks import OFFSET_KEY
from vitals import encoding
from vitals.catalog import BY_CODE, CODE_SPACE, accepts
from vitals.glossary import Reason, Statistic
from vitals.model import Message
from vitals.units import UNIT_BY_CODE

_UNIT_SPACE: Final = 256
_MEASURES: Final = np.zeros((CODE_SPACE, _UNIT_SPACE), np.bool_)
"""[vital, unit]: whether the unit measures the vital."""
for _vital in BY_CODE.values():
    for _unit in UNIT_BY_CODE.values():
        _MEASURES[_vital.code, _unit.code] = accepts(_vital, _unit.ucum)
_TYPES: Final = {name: column.dtype for name, column in ReadingsBuilder().build().columns().items()}
_MAX_OFFSET_MIN: Final = 32_767
_contexts: Final = msgspec.msgpack.Decoder(dict[int, dict[str, Any]])

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
    )
