"""Plans of replays: the recorded rows, moved so that a moment is now, never in the future, each second once."""

# ruff: noqa: DTZ001 - wall times have no zone
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from simulators.replay import CHUNK_BYTES, Plan, plan
from simulators.wire import CLARITY_HEADER
from tests.support import FIXTURES
from vitals.errors import InvalidRequest

SECOND = 1_000_000_000
RECORDING = (FIXTURES / "cgm" / "clarity.csv").read_bytes()
ORIGINAL = RECORDING.decode("utf-8-sig").splitlines()
ALIGN = datetime(2016, 10, 31, 6, 4, 5)
NOW = 1_700_000_000 * SECOND + 123_456_789


def rows_of(payloads: Iterable[bytes]) -> list[str]:
    return [row for payload in payloads for row in payload.decode("utf-8-sig").splitlines()[1:]]


def times_of(rows: Iterable[str]) -> list[datetime]:
    return [datetime.fromisoformat(row.split(",")[1]) for row in rows if row.split(",")[1]]


def everything(planned: Plan) -> list[str]:
    return rows_of([*planned.history, *(payload for _, payload in planned.due)])


def without_time(row: str) -> list[str]:
    fields = row.split(",")
    return [fields[0], *fields[2:]]


def small(*times: str) -> bytes:
    rows = [f"{number},{time},EGV,,,,s,{100 + number},,,," for number, time in enumerate(times, start=1)]
    return ("\n".join([CLARITY_HEADER, *rows]) + "\n").encode()


def test_without_alignment_the_file_is_sent_as_it_is() -> None:
    planned = plan(RECORDING, None, 1.0, NOW, None)
    assert planned.due == []
    assert (planned.rows, planned.spaced) == (2159, 0)
    assert len(planned.history) == 2
    assert rows_of(planned.history) == ORIGINAL[1:]
    assert all(len(payload) <= CHUNK_BYTES for payload in planned.history)
    assert all(payload.decode("utf-8-sig").startswith(CLARITY_HEADER + "\n") for payload in planned.history)
    assert [payload.startswith(b"\xef\xbb\xbf") for payload in planned.history] == [True, False]
    assert sum(",EGV," in row for row in rows_of(planned.history)) == 2148


def test_a_small_file_goes_out_byte_for_byte() -> None:
    recording = b"".join(RECORDING.splitlines(keepends=True)[:40])
    assert plan(recording, None, 1.0, NOW, None).history == [recording]


def test_alignment_moves_every_row_and_changes_nothing_else() -> None:
    planned = plan(RECORDING, ALIGN, 1.0, NOW, None)
    rows = everything(planned)
    assert [without_time(row) for row in rows] == [without_time(row) for row in ORIGINAL[1:]]
    assert sum(",EGV," in row for row in rows) == 2148
    assert planned.rows == 2159
    shift = datetime.fromtimestamp(NOW // SECOND, UTC).replace(tzinfo=None) - ALIGN
    assert times_of(rows) == [time + shift for time in times_of(ORIGINAL[1:])]
    assert planned.spaced == 0
    assert rows_of(planned.history)[:11] == ORIGINAL[1:12]
    before = sum(time < ALIGN for time in times_of(ORIGINAL[1:]))
    assert len(rows_of(planned.history)) == before + 11
    assert len(planned.due) == 2148 - before > 300


def test_the_aligned_row_is_due_now_and_later_rows_when_their_time_comes() -> None:
    align = datetime(2016, 10, 31, 6, 9, 4)
    planned = plan(RECORDING, align, 1.0, NOW, None)
    original = [time for time in times_of(ORIGINAL[1:]) if time >= align]
    assert original[0] == align
    assert planned.due[0][0] == NOW
    assert [due for due, _ in planned.due] == [NOW + int((time - align).total_seconds()) * SECOND for time in original]
    assert all(len(rows_of([payload])) == 1 for _, payload in planned.due)


@pytest.mark.parametrize("speed", [1.0, 7.5, 300.0, 600.0, 100_000.0])
@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Kolkata"])
def test_no_row_is_ever_in_the_future_and_no_second_is_used_twice(speed: float, zone: str | None) -> None:
    planned = plan(RECORDING, ALIGN, speed, NOW, zone)
    place = ZoneInfo(zone or "UTC")
    for due_ns, payload in planned.due:
        (written,) = times_of(rows_of([payload]))
        age_ns = due_ns - int(written.replace(tzinfo=place).timestamp()) * SECOND
        assert 0 <= age_ns < SECOND
    for written in times_of(rows_of(planned.history)):
        assert written.replace(tzinfo=place).timestamp() * SECOND <= NOW
    times = times_of(everything(planned))
    assert len(set(times)) == len(times) == 2148
    assert times == sorted(times)


def test_speed_compresses_what_is_to_come_but_not_the_past() -> None:
    slow, quick = (plan(RECORDING, ALIGN, speed, NOW, None) for speed in (1.0, 10.0))
    assert quick.history == slow.history
    assert quick.spaced == 0
    for (due, _), (early, _) in zip(slow.due, quick.due, strict=True):
        assert early - NOW == (due - NOW) // 10


def test_rows_that_would_share_a_second_are_spaced_and_counted() -> None:
    planned = plan(RECORDING, ALIGN, 600.0, NOW, None)
    times = times_of(rows_of(payload for _, payload in planned.due))
    assert planned.spaced > 300
    gaps = {(two - one).total_seconds() for one, two in pairwise(times)}
    assert gaps == {1.0}
    assert planned.due == sorted(planned.due, key=lambda item: item[0])
    assert plan(RECORDING, ALIGN, 298.0, NOW, None).spaced == 0


def test_the_repeated_hour_in_autumn_costs_no_reading() -> None:
    # 2023-11-05 06:00 UTC: New York falls back from 02:00 EDT to 01:00 EST.
    after = int(datetime(2023, 11, 5, 6, 45, tzinfo=UTC).timestamp()) * SECOND
    times = [(datetime(2020, 1, 1, 12) + timedelta(minutes=15 * step)).isoformat() for step in range(-8, 9)]
    planned = plan(small(*times), datetime(2020, 1, 1, 12), 1.0, after, "America/New_York")
    written = times_of(everything(planned))
    assert len(set(written)) == len(written) == 17
    assert planned.spaced == 4
    # Of two rows an hour apart in the past the older gives way; a row to come waits for its free second.
    past = times_of(rows_of(planned.history))
    assert [time for time in past if time.hour == 1 and time.minute in (29, 30)] == [
        datetime(2023, 11, 5, 1, 29, 59),
        datetime(2023, 11, 5, 1, 30),
    ]
    assert times_of(rows_of([planned.due[0][1]])) == [datetime(2023, 11, 5, 1, 45, 1)]
    assert planned.due[0][0] == after + SECOND


def test_rows_to_come_through_the_repeated_hour_are_not_lost_either() -> None:
    before = int(datetime(2023, 11, 5, 5, 30, tzinfo=UTC).timestamp()) * SECOND
    times = [(datetime(2020, 1, 1, 12) + timedelta(minutes=15 * step)).isoformat() for step in range(8)]
    planned = plan(small(*times), datetime(2020, 1, 1, 12), 1.0, before, "America/New_York")
    written = times_of(everything(planned))
    assert len(set(written)) == 8
    assert planned.spaced == 2
    assert planned.due[4][0] == before + 3600 * SECOND + SECOND
    assert written[4] == datetime(2023, 11, 5, 1, 30, 1)


def test_duplicates_of_the_recording_stay_duplicates() -> None:
    times = ("2020-01-01T11:55:00", "2020-01-01T11:55:00", "2020-01-01T12:00:00", "2020-01-01T12:00:00")
    planned = plan(small(*times), datetime(2020, 1, 1, 12), 1.0, NOW, None)
    past, now = rows_of(planned.history), rows_of(payload for _, payload in planned.due)
    assert len(set(times_of(past))) == 1
    assert len(past) == len(now) == 2
    assert len(set(times_of(now))) == 1
    assert planned.spaced == 0


def test_an_unsorted_recording_is_sent_when_due() -> None:
    times = ("2020-01-01T12:10:00", "2020-01-01T12:05:00", "2020-01-01T11:00:00")
    planned = plan(small(*times), datetime(2020, 1, 1, 12), 1.0, NOW, None)
    assert [due - NOW for due, _ in planned.due] == [300 * SECOND, 600 * SECOND]
    assert len(rows_of(planned.history)) == 1


def test_metadata_is_sent_even_when_nothing_is_history() -> None:
    planned = plan(RECORDING, datetime(2016, 10, 1), 1.0, NOW, None)
    (chunk,) = planned.history
    assert rows_of([chunk]) == ORIGINAL[1:12]
    assert len(planned.due) == 2148


def test_line_ends_and_separators_inside_fields() -> None:
    windows = b"".join(RECORDING.splitlines(keepends=True)[:40])
    assert plan(windows.replace(b"\n", b"\r\n"), None, 1.0, NOW, None).history == [windows]
    blank = windows.replace(b"\n", b"\n\n")
    assert plan(blank, None, 1.0, NOW, None).history == [windows]
    odd = small("2020-01-01T12:00:00").decode().replace(",s,", ",s\u2028\x0bx,").encode()
    assert plan(odd, None, 1.0, NOW, None).history == [odd]


def test_quoted_fields_survive() -> None:
    quoted = (
        CLARITY_HEADER + '\n1,,Note,,"Doe, ""J""\nsecond line",,,,,,,\n2,2020-01-01T12:00:00,EGV,,"a,b",,s,100,,,,\n'
    )
    as_is = plan(quoted.encode(), None, 1.0, NOW, None)
    assert as_is.history == [quoted.encode()]
    assert as_is.rows == 2
    moved = plan(quoted.encode(), datetime(2020, 1, 1, 12), 1.0, NOW, None)
    assert b'"Doe, ""J""\nsecond line"' in moved.history[0]
    assert moved.due[0][1].decode().splitlines()[1] == '2,2023-11-14T22:13:20,EGV,,"a,b",,s,100,,,,'


@pytest.mark.parametrize(
    ("recording", "change", "problem"),
    [
        (RECORDING, {"adapter": "json"}, "adapter: no recordings of 'json'"),
        (RECORDING, {"speed": 0.0}, "speed"),
        (RECORDING, {"speed": float("nan")}, "speed"),
        (RECORDING, {"zone": "Mars/Olympus"}, "zone: no time zone"),
        (RECORDING, {"zone": "../etc/passwd"}, "zone: no time zone"),
        (RECORDING, {"align": datetime(2016, 10, 31, tzinfo=UTC)}, "align"),
        (b"a,b,c\n1,2,3\n", {}, "no Clarity export"),
        (b"", {}, "no Clarity export"),
        (b"\xff\xfe\x00", {}, "not UTF-8"),
        (small("yesterday"), {}, "row 1: its time cannot be read"),
        (small("2020-01-01T12:00:00", "2020-01-01T12:00:00+01:00"), {}, "row 2: its time has an offset"),
        (CLARITY_HEADER.encode() + b'\n1,,Note,"open\n', {}, "ends inside a quoted field"),
        (CLARITY_HEADER.encode() + b"\n1,,Note," + b"x" * CHUNK_BYTES + b"\n", {}, "row 1 does not fit"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_its_reason(
    recording: bytes, change: dict[str, object], problem: str
) -> None:
    arguments = {"align": ALIGN, "speed": 1.0, "now_ns": NOW, "zone": None, **change}
    with pytest.raises(InvalidRequest, match=problem):
        plan(recording, **arguments)  # type: ignore[arg-type]


def test_a_header_alone_is_an_empty_plan() -> None:
    assert plan(CLARITY_HEADER.encode(), None, 1.0, NOW, None) == Plan([], [], 0)
