"""Strict RFC 3339: what is read, and that nothing near it is."""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS, from_milliseconds, parse_rfc3339

SECOND = 1_000_000_000
NOON = 1_710_072_000 * SECOND


@pytest.mark.parametrize(
    ("text", "time_ns", "offset"),
    [
        ("2024-03-10T12:00:00Z", NOON, 0),
        ("2024-03-10t12:00:00z", NOON, 0),
        ("2024-03-10 12:00:00Z", NOON, 0),
        ("2024-03-10T12:00:00", NOON, None),
        ("2024-03-10T12:00:00-00:00", NOON, 0),
        ("2024-03-10T13:00:00+01:00", NOON, 60),
        ("2024-03-10T06:30:00-05:30", NOON, -330),
        ("2024-03-10T12:00:00.5Z", NOON + SECOND // 2, 0),
        ("2024-03-10T12:00:00.000000001Z", NOON + 1, 0),
        ("2024-03-10T12:00:00.0000000019", NOON + 1, None),
        ("1969-12-31T23:59:59Z", -SECOND, 0),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND, 0),
        ("1678-01-01T00:00:00Z", EARLIEST_NS, 0),
        ("2261-12-31T23:59:59.999999999Z", LATEST_NS, 0),
    ],
)
def test_read(text: str, time_ns: int, offset: int | None) -> None:
    assert parse_rfc3339(text) == (time_ns, offset)


@pytest.mark.parametrize(
    "text",
    [
        "", "2024-03-10", "2024-03-10T12:00", "2024-03-10T12:00Z", "20240310T120000Z", "2024-W10-7T12:00:00Z",
        "2024-03-10T12:00:60Z", "2024-03-10T24:00:00Z", "2024-03-10T12:60:00Z", "2024-02-30T12:00:00Z",
        "2023-02-29T12:00:00Z", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "0000-01-01T00:00:00Z",
        "2024-03-10T12:00:00,5Z", "2024-03-10T12:00:00.Z", "2024-03-10T12:00:00+0100", "2024-03-10T12:00:00+01",
        "2024-03-10T12:00:00+24:00", "2024-03-10T12:00:00+01:60", "2024-03-10T12:00:00 Z", "2024-03-10T12:00:00Z ",
        "2024-03-10X12:00:00Z", " 2024-03-10T12:00:00Z", "٢٠٢٤-03-10T12:00:00Z", "2024-03-10T12:00:0٠Z",
        "1677-12-31T23:59:59Z", "2262-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1678-01-01T00:00:00+01:00",
        "2024-03-10T12:00:00Z\n", "2024-03-10T12:00:00.5\u0660Z",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.datetimes(*(datetime(year, 1, 1) for year in (1700, 2200)), timezones=st.timezones()))  # noqa: DTZ001
def test_agrees_with_the_standard_library(moment: datetime) -> None:
    offset = moment.utcoffset()
    assert offset is not None
    seconds = int(offset.total_seconds())
    if seconds % 60:
        return  # local mean time: not expressible in RFC 3339
    since = moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    assert parse_rfc3339(moment.isoformat()) == (micros * 1_000, seconds // 60)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        time_ns, _ = parse_rfc3339(text)
    except ValueError:
        return
    assert EARLIEST_NS <= time_ns <= LATEST_NS


def test_milliseconds() -> None:
    assert from_milliseconds(1_710_072_000_500) == NOON + SECOND // 2
    assert from_milliseconds(-1) == -1_000_000
    for beyond in (LATEST_NS // 1_000_000 + 1, EARLIEST_NS // 1_000_000 - 1, 10**30):
        with pytest.raises(ValueError, match="1678"):
            from_milliseconds(beyond)
