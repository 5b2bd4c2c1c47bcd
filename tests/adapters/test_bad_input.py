"""What every adapter owes to bad input: no exception, one reject a message, good neighbours unhurt, nothing quoted.

Every (adapter, kind) with a golden case takes part with its smallest good one; new adapters do so by themselves.
"""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from msgspec import structs

from ingest import quarantine
from ingest.adapter import Context, Decoded
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
        if expected["rejects"]:
            continue
        rows = reading_rows(ADAPTERS[message.adapter].decode([message], [context]).batch)
        key, rank = (message.adapter, message.kind), (not rows, len(message.payload))
        if key not in found or rank < found[key][0]:
            found[key] = rank, Seed(message, context, rows)
    return [seed for _, seed in found.values()]


SEEDS: Final = seeds()
JSON_SEEDS: Final = [seed for seed in SEEDS if seed.is_json]
TEXT_SEEDS: Final = [seed for seed in SEEDS if seed.is_text]
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
    sound = quarantine.decode(adapter, batch, contexts)
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


# Any format.


def test_every_adapter_takes_part() -> None:
    assert {seed.message.adapter for seed in SEEDS} == set(ADAPTERS)
    assert {seed.message.adapter for seed in SEEDS if seed.rows or not ADAPTERS[seed.message.adapter].vitals} == set(
        ADAPTERS
    )
    assert "json" in {seed.message.adapter for seed in JSON_SEEDS}
    assert "clarity" in {seed.message.adapter for seed in TEXT_SEEDS}


@every_seed
def test_no_bytes(seed: Seed) -> None:
    found = fed(seed, [b""])
    assert found.reasons == [Reason.EMPTY]
    assert found.rows == [[]]


@every_seed
def test_cut_at_every_byte_it_invents_nothing(seed: Seed) -> None:
    size = len(seed.payload)
    lengths = range(1, size, -(-size // LARGEST_CUT))
    found = fed(seed, [seed.payload[:length] for length in lengths])
    whole = measured(seed.rows)
    for length, rows in zip(lengths, found.rows, strict=True):
        assert measured(rows) <= whole, f"cut after {length} bytes"
    assert any(found.reasons) or size <= 1


def noises() -> dict[str, bytes]:
    random_ = random.Random(11)
    fills = {"zero": b"\x00", "ones": b"\xff", "space": b" ", "bracket": b"[", "brace": b'{"a":', "letter": b"a",
             "digit": b"9", "quote": b'"', "backslash": b'"\\', "tag": b"<a>", "bar": b"|", "comma": b",",
             "line": b"\r\n", "marker": MARKER.encode()}  # fmt: skip
    return {name: (fill * MEBIBYTE)[:MEBIBYTE] for name, fill in fills.items()} | {
        "random": random_.randbytes(MEBIBYTE)
    }


NOISES: Final = noises()


def timed(seed: Seed, payload: bytes, what: str) -> Decoded:
    """One payload alone, within the time."""
    batch = [structs.replace(seed.message, payload=payload)]
    started_s = time.process_time()
    decoded = ADAPTERS[seed.message.adapter].decode(batch, [seed.context])
    assert time.process_time() - started_s < LIMIT_S, what
    return checked(decoded, batch)


@every_seed
def test_a_mebibyte_of_noise_is_one_reject(seed: Seed) -> None:
    for name, noise in NOISES.items():
        decoded = timed(seed, noise, name)
        assert len(decoded.rejects) == 1, name
        assert not len(decoded.batch), name


@every_seed
def test_noise_behind_and_inside_good_bytes(seed: Seed) -> None:
    middle = len(seed.payload) // 2
    for name, noise in NOISES.items():
        timed(seed, seed.payload + noise, name)
        timed(seed, seed.payload[:middle] + noise + seed.payload[middle:], name)


@every_seed
def test_nesting(seed: Seed) -> None:
    deep = [b"[" * NESTED, b"[" * NESTED + b"]" * NESTED, b'{"a":' * NESTED, b'{"a":' * NESTED + b"1" + b"}" * NESTED,
            b"<a>" * NESTED, b"<a>" * NESTED + b"</a>" * NESTED, b"(" * NESTED]  # fmt: skip
    found = fed(seed, deep)
    assert all(found.reasons)
    assert not any(found.rows)


@every_seed
def test_a_name_at_every_place_is_never_quoted(seed: Seed) -> None:
    step = -(-(len(seed.payload) + 1) // 500)
    places = range(0, len(seed.payload) + 1, step)
    marker = MARKER.encode()
    fed(seed, [seed.payload[:place] + marker + seed.payload[place:] for place in places] + [marker])


@every_seed
def test_each_byte_replaced(seed: Seed) -> None:
    step = -(-len(seed.payload) // 300)
    payloads = []
    for place in range(0, len(seed.payload), step):
        for byte in (0x00, 0x7F, 0x80, 0xFF, 0x22, 0x2D, 0x39, 0x5B, 0x7B, 0x0A):
            data = bytearray(seed.payload)
            data[place] = byte
            payloads.append(bytes(data))
    fed(seed, payloads)


# Text.

NUMBERS: Final = ("NaN", "nan", "Infinity", "-Infinity", "inf", "1e400", "-1e400", "9" * 400, "-" + "9" * 400,
                  "9" * 5000, "1_000", "\u0661\u0662", "0x10", "1e-400", "-0", "00", "+5", ".5", "5.", "", " ",
                  "true", "null", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e308",
                  "1e18")  # fmt: skip


@every_text_seed
def test_absurd_numbers(seed: Seed) -> None:
    text = seed.payload.decode()
    found = list(re.finditer(r"-?\d+(?:\.\d+)?", text))
    step = -(-len(found) // 40)
    payloads = [
        (text[: one.start()] + number + text[one.end() :]).encode() for one in found[::step] for number in NUMBERS
    ]
    fed(seed, payloads)


@every_text_seed
def test_invalid_utf8(seed: Seed) -> None:
    step = -(-len(seed.payload) // 300)
    payloads = [
        seed.payload[:place] + wrong + seed.payload[place:]
        for place in range(0, len(seed.payload), step)
        for wrong in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf5\x80\x80\x80")
    ]
    payloads += [seed.payload.decode().encode(code) for code in ("utf-16", "utf-16-le", "utf-32")]
    found = fed(seed, payloads)
    if seed.is_json:
        for rows, reason in zip(found.rows, found.reasons, strict=True):
            assert reason is not None or measured(rows) == measured(seed.rows)
    assert any(found.reasons)


# JSON.

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


VALUES: Final = (None, True, False, 0, -1, 1.5, "", "x", MARKER, "1", "NaN", [], {}, [[]], [None], {"value": 1},
                 Raw("NaN"), Raw("-Infinity"), Raw("1e400"), Raw("-1e400"), Raw("1" + "0" * 400), Raw("-0.0"),
                 Raw("9223372036854775808"), Raw('"\\ud800"'), Raw('"\\u0000"'),
                 Raw("[" * 200 + "]" * 200))  # fmt: skip


@every_json_seed
def test_every_node_of_every_wrong_type(seed: Seed) -> None:
    document = seed.document
    changes = [(path, value) for path, _ in nodes(document) for value in VALUES]
    if len(changes) > MOST_CHANGES:
        changes = random.Random(5).sample(changes, MOST_CHANGES)
    found = fed_documents(seed, [put(document, path, value) for path, value in changes])
    assert any(found.reasons)


@every_json_seed
def test_no_constant_that_json_lacks_becomes_a_value(seed: Seed) -> None:
    document = seed.document
    numbers = [
        path for path, value in nodes(document) if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    for word in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400):
        found = fed_documents(seed, [put(document, path, Raw(word)) for path in numbers])
        # assert_sound has seen that every number is finite; and none of the whole is there beside the loss.
        for rows in found.rows:
            assert measured(rows) <= measured(seed.rows)


@every_json_seed
def test_every_member_missing_or_named_otherwise(seed: Seed) -> None:
    document = seed.document
    changed = []
    for path, value in nodes(document):
        if isinstance(value, dict):
            for name in value:
                changed.append(put(document, path, {key: child for key, child in value.items() if key != name}))
                changed.append(
                    put(document, path, {MARKER if key == name else key: child for key, child in value.items()})
                )
    fed_documents(seed, changed)


@every_json_seed
def test_a_member_given_twice_is_never_a_guess(seed: Seed) -> None:
    document = seed.document
    doubled = [
        put(document, path, Members([*value.items(), (name, other)]))
        for path, value in nodes(document)
        if isinstance(value, dict)
        for name, child in value.items()
        for other in (child, MARKER, 7)
    ]
    found = fed_documents(seed, doubled)
    for text, rows, reason in zip(map(dumped, doubled), found.rows, found.reasons, strict=True):
        assert reason is not None or placed(rows) == placed(seed.rows), f"one of two was taken: {text[:500]}"
    assert any(found.reasons)


@every_json_seed
def test_unknown_members_hurt_nothing(seed: Seed) -> None:
    document = seed.document
    changed = [
        put(document, path, Members([*value.items(), ("zzUnknownMember", other)]))
        for path, value in nodes(document)
        if isinstance(value, dict)
        for other in (MARKER, None, {"a": [1, {"b": MARKER}]})
    ]
    found = fed_documents(seed, changed)
    for text, rows, reason in zip(map(dumped, changed), found.rows, found.reasons, strict=True):
        assert reason is None, f"{reason}: {text[:500]}"
        assert placed(rows) == placed(seed.rows), text[:500]


@every_json_seed
def test_depth_inside_a_good_document(seed: Seed) -> None:
    document = seed.document
    deep = [Raw("[" * NESTED + "]" * NESTED), Raw('{"a":' * NESTED + "1" + "}" * NESTED)]
    changed = [put(document, path, value) for path, _ in nodes(document) for value in deep]
    changed += [
        put(document, path, Members([*value.items(), ("zzUnknownMember", inner)]))
        for path, value in nodes(document)
        if isinstance(value, dict)
        for inner in deep
    ]
    fed_documents(seed, changed[:60])


def test_a_run_of_the_marker_is_noticed() -> None:
    assert quotes("$.name: " + MARKER)
    assert quotes(f"not {MARKER[3:9]}")
    assert not quotes(f"not {MARKER[3:8]}")
