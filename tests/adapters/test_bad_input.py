"""What every adapter owes to bad input: no exception, one reject a message, good neighbours unhurt, nothing quoted.

Every (adapter, kind) with a golden case takes part with its smallest good one; new adapters do so by themselves.
"""

import random
import re
import time
from typing import Final

from msgspec import structs

from ingest.adapter import Decoded
from tests.adapters.bad_input import (
    JSON_SEEDS,
    LARGEST_CUT,
    LIMIT_S,
    MARKER,
    MEBIBYTE,
    MOST_CHANGES,
    NESTED,
    SEEDS,
    TEXT_SEEDS,
    Members,
    Raw,
    Seed,
    checked,
    dumped,
    every_carriage,
    every_json_seed,
    every_seed,
    every_text_seed,
    fed,
    fed_documents,
    measured,
    nodes,
    placed,
    put,
)
from tests.adapters.decoding import ADAPTERS
from vitals.glossary import Reason

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


@every_carriage
def test_a_mebibyte_of_noise_is_one_reject(seed: Seed) -> None:
    for name, noise in NOISES.items():
        decoded = timed(seed, noise, name)
        assert len(decoded.rejects) == 1, name
        assert not len(decoded.batch), name


@every_carriage
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
