"""What is wrong with a message before or while its adapter reads it; one bad message is kept from the others."""

import structlog

from ingest.adapter import Adapter, Context, Decoded, ReadingsBuilder, Reject
from vitals.glossary import Reason
from vitals.model import Message

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
        return adapter.decode(messages, contexts)
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
