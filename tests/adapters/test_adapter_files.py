"""Files that people import: what an adapter's splitter cuts, its decoder reads as it would have read the whole."""

import io

import pytest

from ingest.adapter import Context, Decoded
from ingest.adapters import BUILT_IN, built_in
from ingest.files.splitting import Piece, Source
from tests.adapters.decoding import ADAPTERS
from tests.adapters.test_adapter_golden_cases import FOUND, load
from vitals.model import Message

KEYS = ("vital", "clock", "source_time_ns", "seq", "value", "unit", "statistic", "flags")
WHOLE = {
    f"{case.parent.name}/{case.name}": case
    for case in FOUND
    if not load(case)[2]["rejects"] and load(case)[0].kind in ADAPTERS[case.parent.name].files
}


def as_file(message: Message) -> bytes:
    """The file whose one record is a golden input: packets become a line of hex."""
    if not message.adapter.startswith("ble_"):
        return message.payload
    return f"{message.kind} {message.payload.hex()}\n".encode()


def pieces(message: Message) -> list[Piece]:
    adapter, data = ADAPTERS[message.adapter], as_file(message)
    source = Source(io.BytesIO(data), len(data))
    return list(adapter.files[message.kind].pieces(source, adapter.max_payload, message.kind))


def rows(decoded: Decoded) -> list[str]:
    """Readings as text, in which NaN equals itself."""
    assert not decoded.rejects, decoded.rejects
    columns = [getattr(decoded.batch, key).astype(object).tolist() for key in KEYS]
    return sorted(map(repr, zip(*columns, strict=True)))


def test_every_adapter_says_how_its_files_divide() -> None:
    for adapter in map(built_in, BUILT_IN):
        assert adapter.files.keys() <= adapter.kinds.keys() | {""}, adapter.name
        assert adapter.files, adapter.name
        assert any(name.startswith(f"{adapter.name}/") for name in WHOLE), adapter.name


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_golden_input_as_a_file_gives_its_readings(name: str) -> None:
    message, context, _ = load(WHOLE[name])
    adapter = ADAPTERS[message.adapter]
    cut = [
        Message("d_1", adapter.name, piece.kind, message.received_ns, piece.payload, ordinal=message.ordinal)
        for piece in pieces(message)
    ]
    assert cut
    again = adapter.decode(cut, [Context(context.zone, context.settings)] * len(cut))
    whole = adapter.decode([message], [context])
    assert rows(again) == rows(whole)
