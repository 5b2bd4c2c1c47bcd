"""The synthetic health export: seeded, counted, and read in full by its adapter."""

import io

from ingest.adapters.documents.apple_health import ADAPTER
from ingest.files.splitting import Source
from simulators.apple_export import write_export
from tests.adapters.decoding import decode_all, message


def written(seed: int) -> tuple[bytes, int, int]:
    stream = io.BytesIO()
    counts = write_export(stream, 3000, seed)
    return stream.getvalue(), counts.records, counts.distinct


def test_same_seed_same_bytes() -> None:
    assert written(5) == written(5)
    assert written(5)[0] != written(6)[0]


def test_every_record_is_a_reading_and_copies_have_the_identity_of_their_originals() -> None:
    data, records, distinct = written(5)
    pieces = ADAPTER.files["export"].pieces(Source(io.BytesIO(data), len(data)), ADAPTER.max_payload, "export")
    decoded = decode_all([message("apple_health", piece.payload, ordinal=n) for n, piece in enumerate(pieces)])
    batch = decoded.batch
    assert not decoded.rejects
    assert decoded.unknown_members == 0
    assert len(batch) == records
    identities = set(zip(batch.vital.tolist(), batch.source_time_ns.tolist(), batch.seq.tolist(), strict=True))
    assert len(identities) == distinct
