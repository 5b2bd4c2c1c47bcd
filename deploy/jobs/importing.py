"""``vitalgate import``: a file as its device would have sent it, through the gateway, in bounded memory.

Acknowledged means stored, here as for any device. How many payloads of a file are acknowledged without a gap is kept
in a file of the data directory, so that the same command goes on there after any interruption. Losing that file costs
time only: what is sent twice is recognised by the identities of its readings.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.layout import Layout
from deploy.processes.control import ApiClient, options
from deploy.settings import Settings
from ingest.adapter import Adapter, Context, Reject
from ingest.adapters import load_adapters
from ingest.decoding import decode
from ingest.files.splitting import Piece, Splitter, open_source
from ingest.history import MARK as HISTORY
from simulators.publisher import Outgoing, Publisher
from vitals.errors import BackendError, InvalidRequest
from vitals.model import Message
from vitals.times import DAY_S

UNDER_WAY: Final = 8
"""Payloads sent and not acknowledged; each may be as large as a packet."""
GRANT_TTL_S: Final = DAY_S
SETTLE_S: Final = 120.0
"""Longest time without progress while acknowledged messages become stored."""
_POLL_S: Final = 0.25
_SAVE_S: Final = 0.25
_ENDS: Final = 64 * 1024
_OVERHEAD: Final = 512
"""Of a packet: its header and topic."""

Progress = Callable[[int, int], None]


class Mark:
    """Where the import of one file for one device is: payloads acknowledged without a gap."""

    def __init__(self, layout: Layout, file: Path, *what: object) -> None:
        self._path = layout.imports / f"{_fingerprint(file, *what)}.json"
        self._saved_s = 0.0
        self.pieces, self.read = self._load()

    def _load(self) -> tuple[int, int]:
        try:
            kept = json.loads(self._path.read_text(encoding="ascii"))
            return int(kept["pieces"]), int(kept["read"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def reached(self, pieces: int, read: int) -> None:
        """The first ``pieces`` payloads, which end at ``read``, are acknowledged."""
        self.pieces, self.read = pieces, read
        if time.monotonic() - self._saved_s >= _SAVE_S:
            self.save()

    def save(self) -> None:
        """Write it down; whole or not at all."""
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"pieces": self.pieces, "read": self.read}), encoding="ascii")
        fresh.replace(self._path)
        self._saved_s = time.monotonic()

    def done(self) -> None:
        """The file is imported."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._path.parent.rmdir()


def _fingerprint(file: Path, *what: object) -> str:
    """A name for (file, how it is cut, for whom): size, time of change, and both ends of its bytes."""
    status = file.stat()
    seen = hashlib.blake2b(digest_size=16)
    seen.update(repr((*what, status.st_size, status.st_mtime_ns)).encode())
    with file.open("rb") as stream:
        seen.update(stream.read(_ENDS))
        stream.seek(max(0, status.st_size - _ENDS))
        seen.update(stream.read(_ENDS))
    return seen.hexdigest()


@dataclass(slots=True)
class ImportCounts:
    """What a call did: payloads passed over because they were acknowledged before; those sent; their records."""

    skipped: int = 0
    messages: int = 0
    acked: int = 0
    records: int = 0


@dataclass(slots=True)
class _Window:
    """Payloads under way, oldest first."""

    publisher: Publisher
    adapter: str
    mark: Mark
    counts: ImportCounts
    progress: Progress
    size: int
    _waiting: deque[tuple[Piece, asyncio.Task[bool]]] = field(default_factory=deque)

    async def send(self, piece: Piece) -> None:
        """Publish; waits for the oldest when enough are under way."""
        if len(self._waiting) >= UNDER_WAY:
            await self._oldest()
        message = Outgoing(self.adapter, piece.payload, piece.kind + HISTORY)
        self._waiting.append((piece, asyncio.create_task(self.publisher.publish(message))))
        self.counts.messages += 1

    async def drain(self) -> None:
        """Wait for all acknowledgements."""
        while self._waiting:
            await self._oldest()

    async def _oldest(self) -> None:
        piece, sent = self._waiting.popleft()
        if not await sent:
            raise self.publisher.failure or BackendError("the gateway refused a payload", retryable=True)
        self.counts.acked += 1
        self.counts.records += piece.records
        self.mark.reached(self.counts.skipped + self.counts.acked, piece.read)
        self.progress(piece.read, self.size)

    def abandon(self) -> None:
        """Forget unacknowledged messages."""
        for _, sent in self._waiting:
            sent.cancel()


async def _publish(pieces: Iterator[Piece], window: _Window) -> None:
    try:
        for piece in pieces:
            await window.send(piece)
        await window.drain()
    finally:
        window.abandon()
        window.mark.save()


def _behind(pieces: Iterator[Piece], mark: Mark, counts: ImportCounts) -> Iterator[Piece]:
    """The pieces that are not acknowledged yet; raises ``InvalidRequest`` when the mark is not where one ends."""
    read = 0
    while counts.skipped < mark.pieces and (piece := next(pieces, None)) is not None:
        counts.skipped, read = counts.skipped + 1, piece.read
    if mark.pieces and (counts.skipped, read) != (mark.pieces, mark.read):
        raise InvalidRequest("FILE", "changed while it was imported: import it again")
    yield from pieces


def splitter(adapter: Adapter, kind: str | None) -> tuple[str, Splitter]:
    """(kind, how its files are cut); raises ``InvalidRequest``."""
    if not adapter.files:
        raise InvalidRequest("--device", f"no files of {adapter.name!r} can be imported")
    chosen = next(iter(adapter.files)) if kind is None else kind
    if chosen not in adapter.files:
        raise InvalidRequest("--kind", f"one of {', '.join(adapter.files)}")
    return chosen, adapter.files[chosen]


def import_file(
    api: ApiClient, layout: Layout, settings: Settings, file: Path, device: str, kind: str | None, progress: Progress
) -> dict[str, Any]:
    """Import ``file``; returns the readings it added by the device's ledgers, and the parts that could not be read.
    ``partial``: something of the file was left out.

    Raises:
        InvalidRequest: no such file, or nothing in it that the device's adapter reads.
        BackendError: the gateway cannot be reached, or storing stands still.
    """
    record = api.request("GET", f"devices/{device}")
    adapter = load_adapters()[record["adapter"]]
    chosen, cut = splitter(adapter, kind)
    limit = min(adapter.max_payload, settings.gateway_settings().max_packet - _OVERHEAD)
    counts = ImportCounts()
    with open_source(file, cut.member) as source:
        mark = Mark(layout, file, device, adapter.name, adapter.version, chosen, limit)
        pieces = _behind(cut.pieces(source, limit, chosen), mark, counts)
        before = api.request("GET", f"devices/{device}/ledger")
        secret = api.request("POST", f"devices/{device}/grant", json={"ttl_s": GRANT_TTL_S})["secret"]
        reach = options(api)

        async def publish() -> None:
            async with Publisher(device, secret, reach, client_id=f"{device}.import") as publisher:
                await _publish(pieces, _Window(publisher, adapter.name, mark, counts, progress, source.size))

        try:
            asyncio.run(publish())
        except InvalidRequest:
            mark.done()
            raise
    if source.problems and not counts.skipped + counts.messages:
        mark.done()
        raise InvalidRequest("FILE", source.named[0])
    ledger = moved(before, settled(api, device))
    mark.done()
    refused = ledger["messages"]["quarantined"] > 0
    if refused or counts.skipped:
        # What an interrupted call sent was refused before its ledger was looked at.
        context = Context(record.get("zone"), record.get("settings") or {})
        tell_refused(file, cut, adapter, Message(device, adapter.name, chosen, 0, b""), context, limit, source.problem)
    sent = {"records": counts.records, "messages": counts.messages, "acked": counts.acked, "skipped": counts.skipped}
    problems = {"count": source.problems, "first": source.named}
    partial = refused or source.problems > 0
    return sent | {"problems": problems, "partial": partial, "device": device, "ledger": ledger}


def tell_refused(
    file: Path, cut: Splitter, adapter: Adapter, like: Message, context: Context, limit: int,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """``tell`` the place and the reason of each record of ``file`` that the adapter refuses: what ingest did with it,
    done again with each record of a refused payload by itself. ``like`` is a message of the device and kind."""

    def rejects(piece: Piece) -> Sequence[Reject]:
        message = msgspec.structs.replace(like, kind=piece.kind, payload=piece.payload, received_ns=time.time_ns())
        return decode(adapter, [message], [context]).rejects

    with open_source(file, cut.member) as source:
        places = deque((one.first, one.last) for one in cut.pieces(source, limit, like.kind) if rejects(one))
    with open_source(file, cut.member) as source:
        for piece in cut.pieces(source, limit, like.kind, alone=True):
            while places and places[0][1] < piece.first:
                places.popleft()
            if places and places[0][0] <= piece.first:
                for reject in rejects(piece):
                    detail = f": {reject.detail}" if reject.detail else ""
                    tell(f"{cut.place} {piece.first}: {reject.reason.value}{detail}")


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """What changed between two looks at a ledger."""
    return {
        part: {name: after[part][name] - before[part][name] for name in after[part]}
        for part in ("messages", "readings")
    }


def settled(api: ApiClient, device: str) -> dict[str, Any]:
    """The device's ledger once nothing of it is in flight.

    Raises:
        BackendError: nothing moved for ``SETTLE_S``.
    """
    last: dict[str, Any] = {}
    deadline = 0.0
    while True:
        ledger: dict[str, Any] = api.request("GET", f"devices/{device}/ledger")
        if not ledger["messages"]["in_flight"] and not ledger["readings"]["in_flight"]:
            return ledger
        if ledger != last:
            last, deadline = ledger, time.monotonic() + SETTLE_S
        elif time.monotonic() > deadline:
            raise BackendError("acknowledged, but not all of it is stored yet: see device ledger", retryable=True)
        time.sleep(_POLL_S)
