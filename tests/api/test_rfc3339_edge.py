"""Times at the edge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard_api.times import FIRST_NS, LAST_NS, parse_time, rfc3339_column
from vitals.errors import InvalidRequest
from vitals.times import NO_TIME, rfc3339

S = 1_000_000_000


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000 * S, "2023-11-14T22:13:20Z"),
        (1_700_000_000 * S + 500_000_000, "2023-11-14T22:13:20.500Z"),
        (1_700_000_000 * S + 120_000, "2023-11-14T22:13:20.000120Z"),
        (1_700_000_000 * S + 7, "2023-11-14T22:13:20.000000007Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (None, None),
        (NO_TIME, None),
    ],
)
def test_no_more_digits_than_the_time_has(time_ns: int | None, text: str | None) -> None:
    assert rfc3339(time_ns) == text


@given(st.integers(FIRST_NS, LAST_NS))
def test_round_trip(time_ns: int) -> None:
    text = rfc3339(time_ns)
    assert text is not None
    assert parse_time(text, "t") == time_ns


@given(st.lists(st.integers(FIRST_NS, LAST_NS), max_size=5), st.sampled_from([1, 1_000, 1_000_000, S]))
def test_columns_read_back_as_they_were(times_ns: list[int], width: int) -> None:
    rounded = [time_ns - time_ns % width if time_ns > 0 else 0 for time_ns in times_ns]
    texts = rfc3339_column(np.array(rounded, dtype=np.int64))
    assert [parse_time(text, "t") for text in texts] == rounded
    assert len({len(text) for text in texts}) <= 1
    assert all(text.endswith("Z") for text in texts)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1970-01-01t00:00:00.5z", S // 2),
        ("1970-01-01 00:00:01Z", S),
    ],
)
def test_offsets_and_spellings_of_rfc_3339(text: str, time_ns: int) -> None:
    assert parse_time(text, "t") == time_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-05",
        "2026-01-05T08:30:00",
        "2026-01-05T08:30Z",
        "2026-02-30T00:00:00Z",
        "2026-01-05T24:00:00Z",
        "2026-01-05T08:30:60Z",
        "2026-01-05T08:30:00 01:00",
        "2026-01-05T08:30:00+25:00",
        "2026-01-05T08:30:00.1234567890Z",
        "1600-01-01T00:00:00Z",
        "2300-01-01T00:00:00Z",
        "٢٠٢٦-01-05T08:30:00Z",
        "1767601800000",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_time(text, "start")
    assert caught.value.field == "start"
