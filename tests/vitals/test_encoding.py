"""The wire format of log entries: golden files, round trips, damage.

``python -m tests.vitals.test_encoding`` writes golden files that are not there yet; it never replaces one.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vitals.entries import ENTRIES, readings
from vitals.encoding import VERSION, CorruptEntry, EntryKind, decode, encode
from vitals.errors import BackendError
from vitals.model import COLUMNS, UNASSIGNED, Entry, Provenance, VitalBatch

SEEDED = settings(derandomize=True, deadline=None)
GOLDEN = Path(__file__).parent / "golden"


def assert_same(found: Entry, expected: Entry) -> None:
    """Equal entries; batches column by column, NaN equal to NaN."""
    if not isinstance(expected, VitalBatch):
        assert found == expected
        assert type(found) is type(expected)
        return
    assert isinstance(found, VitalBatch)
    assert (found.devices, found.patients) == (expected.devices, expected.patients)
    for name, dtype in COLUMNS.items():
        column = getattr(found, name)
        assert column.dtype == np.dtype(dtype), name
        np.testing.assert_array_equal(column, getattr(expected, name), err_msg=name)
    assert found.context == expected.context
    assert found.provenance == expected.provenance


def framed(kind: int, body: Any, version: int = VERSION) -> bytes:
    """An entry with a good checksum, whatever is in it."""
    head = struct.pack("<2sBB", b"VG", version, kind) + msgspec.msgpack.encode(body)
    return head + struct.pack("<I", zlib.crc32(head))


def test_golden_files_cover_every_kind_and_version() -> None:
    for version in range(1, VERSION + 1):
        files = {path.stem for path in (GOLDEN / f"v{version}").glob("*.bin")}
        assert ENTRIES.keys() <= files if version == VERSION else files
        kinds = {(GOLDEN / f"v{version}" / f"{name}.bin").read_bytes()[3] for name in files}
        assert kinds == {int(kind) for kind in EntryKind}


@pytest.mark.parametrize("name", ENTRIES)
def test_encoding_gives_the_golden_bytes(name: str) -> None:
    assert encode(ENTRIES[name]) == (GOLDEN / f"v{VERSION}" / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_golden_bytes_of_every_version_decode(name: str, version: int) -> None:
    assert_same(decode((GOLDEN / f"v{version}" / f"{name}.bin").read_bytes()), ENTRIES[name])


@pytest.mark.parametrize("name", ENTRIES)
def test_truncation_at_every_byte_is_corrupt(name: str) -> None:
    data = encode(ENTRIES[name])
    for length in range(len(data)):
        with pytest.raises(CorruptEntry):
            decode(data[:length])
    with pytest.raises(CorruptEntry):
        decode(data + b"\x00")


@pytest.mark.parametrize("name", ENTRIES)
def test_every_flipped_bit_is_corrupt(name: str) -> None:
    data = encode(ENTRIES[name])
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(CorruptEntry):
                decode(bytes(changed))


@settings(SEEDED)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptEntry):
        decode(data)


_ATOM = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5) | st.binary()
_KEY = st.text(max_size=3) | st.integers(-9, 9)
_BODY = st.recursive(
    _ATOM, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(_KEY, inner, max_size=3), max_leaves=12
)


@settings(SEEDED, max_examples=300)
@given(kind=st.integers(0, 8), body=_BODY)
def test_a_good_checksum_over_a_wrong_body_is_an_entry_or_corrupt(kind: int, body: object) -> None:
    """A writer with a defect must not take its readers down with another exception."""
    try:
        decode(framed(kind, body))
    except CorruptEntry:
        return


def test_corrupt_entries_are_backend_errors_that_no_retry_heals() -> None:
    with pytest.raises(BackendError) as caught:
        decode(b"")
    assert not caught.value.retryable


def test_unknown_versions_and_kinds_are_corrupt() -> None:
    body = msgspec.msgpack.decode(encode(ENTRIES["tick"])[4:-4])
    assert decode(framed(EntryKind.TICK, body)) == ENTRIES["tick"]
    with pytest.raises(CorruptEntry, match="version 2"):
        decode(framed(EntryKind.TICK, body, version=2))
    with pytest.raises(CorruptEntry, match="kind 99"):
        decode(framed(99, body))


def test_fields_a_later_writer_appends_are_ignored() -> None:
    body = msgspec.msgpack.decode(encode(ENTRIES["tick"])[4:-4])
    assert decode(framed(EntryKind.TICK, [*body, "new"])) == ENTRIES["tick"]


def changed_batch(**changes: Any) -> bytes:
    names = ("rows", "devices", "patients", "columns", "context", "provenance")
    body = dict(zip(names, msgspec.msgpack.decode(encode(readings())[4:-4], strict=False), strict=True))
    return framed(EntryKind.READINGS, list((body | changes).values()))


def columns(**changes: bytes | None) -> dict[str, bytes]:
    made = {name: column.tobytes() for name, column in readings().columns().items()} | changes
    return {name: column for name, column in made.items() if column is not None}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"columns": columns(value=None)}, "absent"),
        ({"columns": columns(value=b"\x00" * 16)}, "lengths"),
        ({"columns": columns(value=b"\x00" * 23)}, "buffer"),
        ({"rows": 2}, "lengths"),
        ({"columns": columns(device=np.array([0, 1, 2], "<i4").tobytes())}, "device outside"),
        ({"columns": columns(device=np.array([0, 1, -1], "<i4").tobytes())}, "device outside"),
        ({"columns": columns(patient=np.array([0, 2, -1], "<i4").tobytes())}, "patient outside"),
        ({"columns": columns(patient=np.array([0, 1, -2], "<i4").tobytes())}, "patient outside"),
        ({"patients": []}, "patient outside"),
        ({"context": {3: {"meal": "x"}}}, "context"),
        ({"context": {-1: {"meal": "x"}}}, "context"),
    ],
)
def test_batches_that_do_not_hold_together_are_corrupt(change: dict[str, Any], problem: str) -> None:
    assert_same(decode(changed_batch()), readings())
    with pytest.raises(CorruptEntry, match=problem):
        decode(changed_batch(**change))


def test_columns_of_other_widths_are_brought_to_the_wire_type() -> None:
    batch = readings()
    wide = batch.replace(vital=batch.vital.astype(np.int64), device=batch.device.astype(">i8"))
    assert encode(wide) == encode(batch)


# Round trips of any batch

_SPANS: dict[str, tuple[int, int]] = {
    name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for name, dtype in COLUMNS.items() if "f" not in dtype
}
_JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
_CONTEXT = st.dictionaries(st.text(max_size=8), _JSON | st.lists(_JSON, max_size=3), max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> VitalBatch:
    """Any batch: any numbers in any column, NaN and infinities, unassigned rows, context, provenance."""
    rows = draw(st.integers(0, 8))
    devices = draw(st.lists(st.text(max_size=6), min_size=1, max_size=3, unique=True))
    patients = draw(st.lists(st.text(max_size=6), max_size=3, unique=True))
    spans = _SPANS | {"device": (0, len(devices) - 1), "patient": (UNASSIGNED, len(patients) - 1)}
    made: dict[str, Any] = {}
    for name, dtype in COLUMNS.items():
        cell = st.integers(*spans[name]) if name in spans else st.floats()
        made[name] = np.array(draw(st.lists(cell, min_size=rows, max_size=rows)), dtype=dtype)
    context = draw(st.dictionaries(st.integers(0, rows - 1), _CONTEXT, max_size=rows)) if rows else {}
    provenance = draw(
        st.builds(Provenance, st.integers(-1, 2**62), st.integers(-1, 2**62), st.text(max_size=5), st.integers(0, 99))
    )
    return VitalBatch(tuple(devices), tuple(patients), **made, context=context, provenance=provenance)


@settings(SEEDED, max_examples=150)
@given(batches())
def test_any_batch_comes_back(batch: VitalBatch) -> None:
    decoded = decode(encode(batch))
    assert_same(decoded, batch)
    assert encode(decoded) == encode(batch)


def write_missing() -> None:
    """Add golden files for entries that have none."""
    folder = GOLDEN / f"v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, entry in ENTRIES.items():
        path = folder / f"{name}.bin"
        if not path.exists():
            path.write_bytes(encode(entry))


if __name__ == "__main__":
    write_missing()
