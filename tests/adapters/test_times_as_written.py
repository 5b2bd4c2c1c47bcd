"""Times as devices, phones and people write them: one reader for all adapters."""

import pytest

from ingest.adapters.reading.timestamps import parse_epoch, parse_time

SECOND = 1_000_000_000
NOON = 1_710_072_000 * SECOND


@pytest.mark.parametrize(
    ("text", "time_ns", "offset"),
    [
        ("2024-03-10T12:00:00Z", NOON, 0),
        ("2024-03-10t12:00:00z", NOON, 0),
        ("2024-03-10T12:00:00+0000", NOON, 0),
        ("2024-03-10T13:00:00+01", NOON, 60),
        ("2024-03-10T13:00:00+0100", NOON, 60),
        ("2024-03-10 07:00:00 -0500", NOON, -300),
        ("2024-03-10T05:00:02-06:59:58", NOON + 2 * SECOND, -420),
        ("2024-03-10T12:00Z", NOON, 0),
        ("2024-03-10T12:00", NOON, None),
        ("2024-03-10 12:00:00 UTC", NOON, 0),
        ("2024-03-10T12:00:00,5Z", NOON + SECOND // 2, 0),
        ("2024-03-10 12:00:00\u202fPM +0000", NOON, 0),
        ("2024-03-10 12:00:00\u00a0am +0000", NOON - 12 * 3_600 * SECOND, 0),
        ("2024-03-10 1:00:00 p.m. +0100", NOON, 60),
        (" 2024-03-10T12:00:00Z ", NOON, 0),
        ("2024-03-10T12:00:00\u22120000", NOON, 0),
    ],
)
def test_read(text: str, time_ns: int, offset: int | None) -> None:
    assert parse_time(text) == (time_ns, offset)


@pytest.mark.parametrize(
    "text",
    [
        "", "2024-03-10", "01/02/2024 12:00", "2024-03-10 13:00:00 pm +0000", "2024-03-10 0:00:00 am +0000",
        "2024-03-10 7:00:00", "2024-03-10T12:00:00+25", "2024-03-10T12:00:00+0160", "2024-03-10T12:00:60Z",
        "2024-02-30T12:00:00Z", "2024-03-10T12:00:00 CET", "noon", "20240310T120000Z",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@pytest.mark.parametrize(
    ("sent", "time_ns"),
    [
        (1_710_072_000_000, NOON), ("1710072000000", NOON), (1_710_072_000_000.5, NOON + 500_000),
        ("1710072000000.5", NOON + 500_000), (1_710_072_000_000.0, NOON), (-1, -1_000_000),
    ],
)  # fmt: skip
def test_epoch(sent: float | str, time_ns: int) -> None:
    assert parse_epoch(sent) == time_ns


@pytest.mark.parametrize("sent", ["20240310", "x", "", "1e12", float("nan"), float("inf"), 10**30, "9" * 40])
def test_what_is_no_epoch(sent: float | str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_epoch(sent)
