"""The bad-input suite itself: adapters with one fault each, which it must notice."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest
from msgspec import structs

from ingest.adapter import Context, Decoded, ReadingsBuilder, Reject
from tests.adapters import test_bad_input as suite
from tests.adapters.bad_input import (
    MARKER,
    SEEDS,
    Decode,
    Seed,
    quotes,
)
from tests.adapters.decoding import ADAPTERS, reading_rows
from vitals.glossary import Reason
from vitals.model import Message


def test_a_run_of_the_marker_is_noticed() -> None:
    assert quotes("$.name: " + MARKER)
    assert quotes(f"not {MARKER[3:9]}")
    assert not quotes(f"not {MARKER[3:8]}")


JSON: Final = next(seed for seed in SEEDS if seed.message.adapter == "json" and seed.is_json)
Check = Callable[[Seed], None]


def raising(decode: Decode) -> Decode:
    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        for message in messages:
            message.payload.decode()
        return decode(messages, contexts)

    return faulty


def quoting(decode: Decode) -> Decode:
    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        decoded = decode(messages, contexts)
        rejects = [
            replace(one, detail=messages[one.message].payload.decode(errors="replace")[:100]) for one in decoded.rejects
        ]
        return replace(decoded, rejects=rejects)

    return faulty


def all_or_nothing(decode: Decode) -> Decode:
    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        decoded = decode(messages, contexts)
        if not decoded.rejects:
            return decoded
        return Decoded(ReadingsBuilder().build(), rejects=[Reject(n, Reason.MALFORMED) for n in range(len(messages))])

    return faulty


def last_member_wins(decode: Decode) -> Decode:
    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        single = []
        for message in messages:
            try:
                payload = json.dumps(json.loads(message.payload)).encode()
            except (ValueError, RecursionError):
                payload = message.payload
            single.append(structs.replace(message, payload=payload))
        return decode(single, contexts)

    return faulty


def mending(decode: Decode) -> Decode:
    """Closes what was cut off, and takes half a number for a number."""

    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        mended = re.compile(rb'^(\{"vital": ?"spo2", ?"value": ?)(\d+)\.?$')
        tail = rb'\1\2,"unit":"%","time":0}'
        return decode([structs.replace(one, payload=mended.sub(tail, one.payload)) for one in messages], contexts)

    return faulty


def silent(decode: Decode) -> Decode:
    def faulty(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
        return replace(decode(messages, contexts), rejects=())

    return faulty


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (raising, suite.test_invalid_utf8),
        (quoting, suite.test_a_name_at_every_place_is_never_quoted),
        (all_or_nothing, suite.test_every_node_of_every_wrong_type),
        (last_member_wins, suite.test_a_member_given_twice_is_never_a_guess),
        (mending, suite.test_cut_at_every_byte_it_invents_nothing),
        (silent, suite.test_no_bytes),
        (silent, suite.test_nesting),
    ],
)
def test_a_faulty_adapter_is_noticed(
    fault: Callable[[Decode], Decode], check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = json.dumps({"vital": "spo2", "value": 97.5, "unit": "%", "time": "2024-03-10T08:15:30Z"}).encode()
    message = structs.replace(JSON.message, payload=payload, kind="")
    adapter = ADAPTERS["json"]
    seed = Seed(message, JSON.context, reading_rows(adapter.decode([message], [JSON.context]).batch))
    check(seed)
    monkeypatch.setitem(ADAPTERS, "json", replace(adapter, decode=fault(adapter.decode)))
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        check(seed)
