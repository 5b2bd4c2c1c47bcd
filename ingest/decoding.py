"""A micro-batch through its adapter, which may be anybody's: one bad message never costs the others."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ingest import quarantine
from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject
from vitals.glossary import Reason
from vitals.model import Message

Mark = TypeVar("Mark", np.int64, np.bool_)


def decode(adapter: Adapter, messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Decode a micro-batch; a message on which the adapter itself fails is rejected alone as ``adapter_error``."""
    try:
        return quarantine.sound(adapter.decode(messages, contexts), len(messages))
    except Exception as error:  # noqa: BLE001 - a third party's adapter may fail in any way; the others go on
        if len(messages) == 1:
            import structlog  # noqa: PLC0415 - `adapter try`, which decodes one payload, does not load it

            log = structlog.get_logger(__name__)
            log.error("adapter_failed", adapter=adapter.name, version=adapter.version, error=type(error).__name__)
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
        left.left_out + right.left_out,
        _beside(left.document, right.document, left, right),
        _beside(left.correction, right.correction, left, right),
        {**left.named, **{row + len(left.batch): who for row, who in right.named.items()}},
        (*left.alarms, *(alarm._replace(message=alarm.message + offset) for alarm in right.alarms)),
    )


def _beside(
    before: npt.NDArray[Mark] | None, after: npt.NDArray[Mark] | None, left: Decoded, right: Decoded
) -> npt.NDArray[Mark] | None:
    """An optional column of both halves; zeros stand for the half that has none."""
    known = before if before is not None else after
    if known is None:
        return None
    halves = ((before, len(left.batch)), (after, len(right.batch)))
    return np.concatenate([np.zeros(count, known.dtype) if part is None else part for part, count in halves])
