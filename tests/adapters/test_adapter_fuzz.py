"""Whatever bytes arrive: nothing raises, every message gives a result or a reject, details quote nothing."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import Adapter
from ingest.adapters import BUILT_IN, built_in
from tests.adapters.decoding import ADAPTERS, DEFAULT_KINDS, assert_sound, decode, decode_all, message
from vitals.glossary import Reason

CASES = Path(__file__).parent / "cases"
MUTATIONS = 20_000


@pytest.mark.parametrize("adapter", [*map(built_in, BUILT_IN)], ids=lambda adapter: adapter.name)
@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.data())
def test_arbitrary_bytes(adapter: Adapter, data: st.DataObject) -> None:
    payloads = st.tuples(st.sampled_from(sorted(adapter.kinds)), st.binary(max_size=64))
    drawn = data.draw(st.lists(payloads, min_size=1, max_size=8))
    batch = [message(adapter.name, payload, kind, ordinal=number) for number, (kind, payload) in enumerate(drawn)]
    assert_sound(decode_all(batch), batch)


@pytest.mark.parametrize("adapter", [*BUILT_IN])
@settings(derandomize=True, max_examples=50, deadline=None)
@given(kind=st.text(max_size=40))
def test_arbitrary_kinds(adapter: str, kind: str) -> None:
    decoded = decode(adapter, b"\x00\x01", kind)
    assert len(decoded.rejects) <= 1


def mutated(random_: random.Random, payload: bytes, others: list[bytes]) -> bytes:
    data = bytearray(payload)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(6):
            case 0 if at < len(data):
                data[at] = random_.randrange(256)
            case 1 if at < len(data):
                data[at] ^= 1 << random_.randrange(8)
            case 2:
                del data[at : at + random_.randint(1, 8)]
            case 3:
                data[at:at] = random_.randbytes(random_.randint(1, 8))
            case 4:
                data[at:at] = data[max(0, at - 12) : at]
            case _:
                other = random_.choice(others)
                data[at:] = other[min(at, len(other)) :]
    return bytes(data)


def seed_kind(path: Path) -> str:
    kind: str = json.loads((path.parent / "case.json").read_text())["kind"]
    return kind


def test_twenty_thousand_mutated_payloads() -> None:
    random_ = random.Random(20_240_310)
    accepted = rejected = 0
    for adapter in map(built_in, BUILT_IN):
        seeds = [
            (seed_kind(path), path.read_bytes()[:2_000]) for path in sorted(CASES.glob(f"{adapter.name}/*/input.*"))
        ]
        others = [payload for _, payload in seeds]
        chosen = [random_.choice(seeds) for _ in range(MUTATIONS // len(BUILT_IN) + 1)]
        payloads = [(kind, mutated(random_, payload, others)) for kind, payload in chosen]
        for start in range(0, len(payloads), 500):
            part = payloads[start : start + 500]
            batch = [message(adapter.name, data, kind, ordinal=number) for number, (kind, data) in enumerate(part)]
            decoded = decode_all(batch)
            assert_sound(decoded, batch)
            rejected += len(decoded.rejects)
            accepted += len(part) - len(decoded.rejects)
    # Both sides are exercised, or the mutations test nothing.
    assert accepted > MUTATIONS // 10
    assert rejected > MUTATIONS // 10
    assert accepted + rejected >= MUTATIONS


@pytest.mark.parametrize("adapter", [name for name in sorted(DEFAULT_KINDS) if name.startswith("ble_")])
def test_a_mebibyte_of_noise_is_not_read(adapter: str) -> None:
    random_ = random.Random(7)
    for fill in (b"\x00" * (1 << 20), b"\xff" * (1 << 20), random_.randbytes(1 << 20)):
        decoded = decode(adapter, fill)
        (reject,) = decoded.rejects
        assert reject.reason in {Reason.TRAILING_BYTES, Reason.RESERVED_BITS}
        assert not len(decoded.batch)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_empty_payload_is_empty_and_an_empty_batch_gives_nothing(name: str) -> None:
    assert [reject.reason for reject in decode(name, b"", DEFAULT_KINDS[name]).rejects] == [Reason.EMPTY]
    nothing = ADAPTERS[name].decode([], [])
    assert len(nothing.batch) == 0
    assert not nothing.rejects
