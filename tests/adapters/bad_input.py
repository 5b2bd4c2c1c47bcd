"""What bad input is fed to, and what must hold of whatever comes out. Seeds are golden cases; JSON can be bent."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from msgspec import structs

from ingest import decoding
from ingest.adapter import Context, Decoded
from ingest.adapters.reading.marks import without_marks
from tests.adapters.decoding import ADAPTERS, assert_sound, reading_rows
from tests.adapters.test_adapter_golden_cases import FOUND, load
from vitals.glossary import Reason
from vitals.model import Message

MARKER: Final = "Zyxwvutsrq Ponmlkjihg"
"""Stands for a name in the payload."""
RUN: Final = 6
"""A detail may share shorter runs with the marker by chance."""
LARGEST_CUT: Final = 4096
MEBIBYTE: Final = 1 << 20
LIMIT_S: Final = 5.0
"""CPU time for one mebibyte; a parser that looks at bytes again and again takes minutes."""
NESTED: Final = 10_000
MOST_CHANGES: Final = 1000


Decode = Callable[[Sequence[Message], Sequence[Context]], Decoded]


@dataclass(frozen=True)
class Seed:
    """A good message and what it gives alone."""

    message: Message
    context: Context
    rows: list[dict[str, Any]]

    @property
    def payload(self) -> bytes:
        return self.message.payload

    @property
    def document(self) -> Any:
        """The payload as a JSON document."""
        return json.loads(self.payload)

    @property
    def is_json(self) -> bool:
        return self.payload.lstrip()[:1] in {b"{", b"["}

    @property
    def is_text(self) -> bool:
        try:
            text = self.payload.decode()
        except UnicodeDecodeError:
            return False
        return len(text) > 20 and all(one.isprintable() or one in "\t\r\n\ufeff" for one in text)

    def __str__(self) -> str:
        return f"{self.message.adapter}/{self.message.kind or 'none'}"


def seeds() -> list[Seed]:
    """The smallest payload with readings and without rejects for each kind that has one, else with neither."""
    found: dict[tuple[str, str], tuple[tuple[bool, int], Seed]] = {}
    for case in FOUND:
        message, context, expected = load(case)
        plain = without_marks(message.payload)
        # A document with marks around it would be no document for the tests that change its parts.
        if expected["rejects"] or (plain != message.payload and plain[:1] in {b"{", b"["}):
            continue
        rows = reading_rows(ADAPTERS[message.adapter].decode([message], [context]).batch)
        key, rank = (message.adapter, message.kind), (not rows, len(message.payload))
        if key not in found or rank < found[key][0]:
            found[key] = rank, Seed(message, context, rows)
    return [seed for _, seed in found.values()]


SEEDS: Final = seeds()
JSON_SEEDS: Final = [seed for seed in SEEDS if seed.is_json]
TEXT_SEEDS: Final = [seed for seed in SEEDS if seed.is_text]
CARRIAGE_SEEDS: Final = list({(seed.message.adapter, seed.is_json): seed for seed in SEEDS}.values())
"""One of each adapter, or two where it takes JSON beside something else: for checks that cost megabytes."""
every_carriage = pytest.mark.parametrize("seed", CARRIAGE_SEEDS, ids=str)
every_seed = pytest.mark.parametrize("seed", SEEDS, ids=str)
every_json_seed = pytest.mark.parametrize("seed", JSON_SEEDS, ids=str)
every_text_seed = pytest.mark.parametrize("seed", TEXT_SEEDS, ids=str)


@dataclass(frozen=True)
class Outcome:
    """What became of each bad payload: its rows, and its reason if it was rejected."""

    rows: list[list[dict[str, Any]]]
    reasons: list[Reason | None]


def quotes(detail: str) -> bool:
    """Whether a detail holds a run of the marker."""
    text, marker = detail.lower(), MARKER.lower()
    return any(marker[start : start + RUN] in text for start in range(len(marker) - RUN + 1))


def checked(decoded: Decoded, messages: Sequence[Message]) -> Decoded:
    assert_sound(decoded, messages)
    for reject in decoded.rejects:
        assert isinstance(reject.reason, Reason)
        assert reject.reason is not Reason.ADAPTER_ERROR
        assert not quotes(reject.detail), "a detail quotes the payload"
        assert len(reject.detail) <= 200
    sent = {(message.device, message.ordinal) for message in messages}
    assert {(event.device, event.message) for event in decoded.events} <= sent
    return decoded


def fed(seed: Seed, payloads: Sequence[bytes]) -> Outcome:
    """Bad payloads in one micro-batch with good ones at both ends and between; the good ones must not notice.

    Each bad one is of a device of its own: what one device sends may belong together across messages.
    """
    every = max(1, len(payloads) // 3)
    batch: list[Message] = []
    bad: list[int] = []
    for number, payload in enumerate(payloads):
        if number % every == 0:
            batch.append(seed.message)
        bad.append(len(batch))
        batch.append(structs.replace(seed.message, payload=payload, device=f"bad_{number}"))
    batch.append(seed.message)
    adapter, contexts = ADAPTERS[seed.message.adapter], [seed.context] * len(batch)
    decoded = checked(adapter.decode(batch, contexts), batch)
    # As ingest takes it: units fit their vitals, times lie in range, context can be written.
    sound = decoding.decode(adapter, batch, contexts)
    assert not any(reject.reason is Reason.ADAPTER_ERROR for reject in sound.rejects), (
        "ingest cannot take what came out"
    )
    rows: list[list[dict[str, Any]]] = [[] for _ in batch]
    for index, row in zip(decoded.batch.message.tolist(), reading_rows(decoded.batch), strict=True):
        rows[index].append(row)
    reasons: dict[int, Reason] = {reject.message: reject.reason for reject in decoded.rejects}
    good = sorted(set(range(len(batch))) - set(bad))
    alone = adapter.decode([seed.message] * len(good), [seed.context] * len(good)).batch
    assert [row for index in good for row in rows[index]] == reading_rows(alone), "a bad neighbour hurt a good message"
    assert not reasons.keys() & set(good)
    return Outcome([rows[index] for index in bad], [reasons.get(index) for index in bad])


def measured(rows: Sequence[dict[str, Any]]) -> Counter[tuple[str, Any, str]]:
    return Counter((row["vital"], row["value"], row["unit"]) for row in rows)


def placed(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Values with their times; a sequence number may depend on the device."""
    return [tuple(row[name] for name in ("vital", "value", "unit", "clock", "source_time", "flags")) for row in rows]


# JSON that can be bent.

Path = tuple[Any, ...]


def nodes(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every node of a document with its path."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


def put(document: Any, path: Path, value: Any) -> Any:
    """The document with the node at ``path`` replaced."""
    if not path:
        return value
    key, *rest = path
    if isinstance(document, dict):
        return {name: put(child, tuple(rest), value) if name == key else child for name, child in document.items()}
    return [put(child, tuple(rest), value) if number == key else child for number, child in enumerate(document)]


class Raw(str):
    """JSON text that stands for itself."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """An object by its members, which may repeat."""


def dumped(value: Any) -> str:
    """JSON text, with :class:`Raw` and :class:`Members` as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict | Members):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ",".join(f"{json.dumps(name)}:{dumped(child)}" for name, child in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumped, value)) + "]"
    return json.dumps(value)


def fed_documents(seed: Seed, documents: Sequence[Any]) -> Outcome:
    return fed(seed, [dumped(document).encode() for document in documents])
