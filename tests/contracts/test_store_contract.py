"""The contract of ``vitals.ports.Store``, sentence by sentence, for every backend."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tests.contracts.store_rows import ALL_TIME, DAY, HOUR, HR, MINUTE, SPO2, T0, put, reading, values
from vitals.errors import PositionConflict
from vitals.glossary import Basis, Flag, Statistic
from vitals.model import COLUMNS, VitalBatch, batch_from_rows
from vitals.ports import Store
from vitals.records import DatedZone
from vitals.times import NO_TIME, SECOND_NS
from vitals.units import UNIT_BY_NAME

Open = Callable[[], Store]

# Positions


def test_a_new_store_is_empty(store: Store) -> None:
    assert (store.position(), store.rows(), dict(store.stored())) == (0, 0, {})
    assert values(store) == []
    assert len(store.latest("p_1")) == len(store.export("p_1")) == 0


def test_write_moves_the_position(store: Store) -> None:
    store.write([batch_from_rows([reading()])], expected=0, position=17)
    assert (store.position(), store.rows()) == (17, 1)


@pytest.mark.parametrize("batches", [[], [batch_from_rows([])]], ids=["none", "empty"])
def test_write_without_readings_moves_the_position(store: Store, batches: list[VitalBatch]) -> None:
    store.write(batches, expected=0, position=4)
    assert (store.position(), store.rows()) == (4, 0)


def test_write_from_another_position_conflicts_and_stores_nothing(store: Store) -> None:
    put(store, reading())
    with pytest.raises(PositionConflict) as caught:
        store.write([batch_from_rows([reading(T0 + 1, device="d2")])], expected=0, position=9)
    assert (caught.value.expected, caught.value.found) == (0, 1)
    assert (store.position(), store.rows(), dict(store.stored())) == (1, 1, {"d1": 1})
    # What the refused write brought along for the first time is told apart from what comes next.
    put(store, reading(T0 + 2, device="d3"))
    put(store, reading(T0 + 3, device="d2"))
    assert dict(store.stored()) == {"d1": 1, "d3": 1, "d2": 1}
    assert list(store.window("p_1", HR, *ALL_TIME).device) == ["d1", "d3", "d2"]


def test_unassigned_readings_are_refused_whole(store: Store) -> None:
    with pytest.raises(ValueError, match="unassigned"):
        store.write([batch_from_rows([reading(), reading(patient=None)])], expected=0, position=1)
    assert (store.position(), store.rows()) == (0, 0)


def test_several_batches_are_one_write(store: Store) -> None:
    first = batch_from_rows([reading(T0, device="a", patient="p_2"), reading(T0 + 1, device="b")])
    second = batch_from_rows([reading(T0 + 2, device="c"), reading(T0 + 3, device="a", patient="p_2")])
    store.write([first, second], expected=0, position=1)
    assert dict(store.stored()) == {"a": 2, "b": 1, "c": 1}
    assert list(store.window("p_2", HR, *ALL_TIME).device) == ["a", "a"]
    assert list(store.window("p_1", HR, *ALL_TIME).device) == ["b", "c"]


# Raw windows


def test_window_is_from_start_to_before_end_of_one_vital_of_one_patient(store: Store) -> None:
    put(
        store,
        *(reading(T0 + minute * MINUTE, float(minute)) for minute in range(5)),
        reading(T0 + MINUTE, 99.0, vital=SPO2),
        reading(T0 + MINUTE, 98.0, patient="p_2"),
    )
    assert store.window("p_1", HR, T0 + MINUTE, T0 + 3 * MINUTE).value.tolist() == [1.0, 2.0]
    assert store.window("p_1", HR, T0 + 3 * MINUTE, T0 + 3 * MINUTE).value.tolist() == []
    assert values(store, "p_9") == []


def test_raw_windows_are_ordered_by_time_then_seq(store: Store) -> None:
    put(store, reading(T0 + 1, 3.0), reading(T0, 2.0, seq=2), reading(T0, 1.0, seq=1))
    window = store.window("p_1", HR, *ALL_TIME)
    assert window.value.tolist() == [1.0, 2.0, 3.0]
    assert list(window.seq) == [1, 2, 0]


def test_raw_windows_tell_device_seq_basis_unit_and_flags(store: Store) -> None:
    put(
        store,
        reading(T0, 1.0, seq=7, basis=Basis.HUB, flags=int(Flag.MANUAL), unit=UNIT_BY_NAME["/min"].code),
        reading(T0 + 1, 2.0, device="d2", seq=8, basis=Basis.RECEIVED, unit=UNIT_BY_NAME["%"].code),
    )
    window = store.window("p_1", HR, *ALL_TIME)
    assert window.resolution == "raw"
    assert (list(window.device), list(window.seq), list(window.basis)) == (
        ["d1", "d2"],
        [7, 8],
        [Basis.HUB, Basis.RECEIVED],
    )
    assert list(window.unit) == [UNIT_BY_NAME["/min"].code, UNIT_BY_NAME["%"].code]
    assert window.flags.tolist() == [Flag.MANUAL, 0]
    assert window.time_ns.tolist() == [T0, T0 + 1]
    assert window.count.tolist() == [1, 1]
    assert window.minimum.tolist() == window.maximum.tolist() == [1.0, 2.0]
    assert (window.time_ns.dtype, window.value.dtype, window.count.dtype, window.flags.dtype) == (
        np.int64, np.float64, np.int64, np.uint32,
    )  # fmt: skip


def test_raw_windows_show_what_aggregates_leave_out(store: Store) -> None:
    flags = (Flag.IMPLAUSIBLE, Flag.CONTROL_SOLUTION, Flag.TEST_DATA, Flag.RETRACTED)
    put(
        store,
        *(reading(T0 + number, 500.0 + number, flags=int(flag)) for number, flag in enumerate(flags)),
        reading(T0 + 10, float("nan"), flags=int(Flag.BELOW_RANGE)),
        reading(T0 + 11, 70.0, flags=int(Flag.SUSPECT)),
    )
    window = store.window("p_1", HR, *ALL_TIME)
    assert window.flags.tolist() == [*(int(flag) for flag in flags), int(Flag.BELOW_RANGE), int(Flag.SUSPECT)]
    assert np.isnan(window.value[4])
    bucket = store.window("p_1", HR, *ALL_TIME, resolution="1m")
    beyond = int(Flag.SUSPECT | Flag.BELOW_RANGE)
    assert (bucket.value.tolist(), bucket.count.tolist(), bucket.flags.tolist()) == ([70.0], [2], [beyond])


def test_limit_keeps_the_oldest(store: Store) -> None:
    put(store, *(reading(T0 + minute * MINUTE, float(minute)) for minute in (3, 1, 2, 0)))
    assert store.window("p_1", HR, *ALL_TIME, limit=2).value.tolist() == [0.0, 1.0]
    assert store.window("p_1", HR, *ALL_TIME, resolution="1m", limit=3).value.tolist() == [0.0, 1.0, 2.0]


def test_an_unknown_resolution_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="2h"):
        store.window("p_1", HR, *ALL_TIME, resolution="2h")


# Aggregates


@pytest.mark.parametrize(("resolution", "width"), [("1m", MINUTE), ("1h", HOUR), ("1d", DAY)])
def test_buckets_are_aligned_to_the_epoch(store: Store, resolution: str, width: int) -> None:
    times = (-1, 0, width - 1, width, 3 * width + 5)
    put(store, *(reading(time, float(number)) for number, time in enumerate(times)))
    window = store.window("p_1", HR, *ALL_TIME, resolution=resolution)
    assert window.resolution == resolution
    assert window.time_ns.tolist() == [-width, 0, width, 3 * width]
    assert window.count.tolist() == [1, 2, 1, 1]
    assert (window.device, window.seq, window.basis, window.unit) == ((), (), (), ())


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS


def daily(store: Store, zones: Sequence[DatedZone], first: str, last: str) -> list[tuple[str, int]]:
    """One reading per hour from first to last: (start, readings) of each day."""
    times = range(ns(first), ns(last) + 1, HOUR)
    put(store, *(reading(time, 70.0) for time in times))
    window = store.window("p_1", HR, *ALL_TIME, resolution="1d", zones=zones)
    starts = (datetime.fromtimestamp(time // SECOND_NS, UTC) for time in window.time_ns.tolist())
    return [(f"{start:%m-%dT%H:%M}", count) for start, count in zip(starts, window.count.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("zone", "first", "last", "days"),
    [
        ("Europe/Berlin", "2024-03-29T23:00Z", "2024-04-01T21:00Z",
         [("03-29T23:00", 24), ("03-30T23:00", 23), ("03-31T22:00", 24)]),
        ("America/New_York", "2026-10-31T04:00Z", "2026-11-03T04:00Z",
         [("10-31T04:00", 24), ("11-01T04:00", 25), ("11-02T05:00", 24)]),
        ("Asia/Kathmandu", "2024-03-29T18:00Z", "2024-03-30T19:00Z",
         [("03-28T18:15", 1), ("03-29T18:15", 24), ("03-30T18:15", 1)]),
        # Clocks that change at midnight: 00:00 becomes 01:00, or 23:00 again.
        ("America/Sao_Paulo", "2018-11-03T03:00Z", "2018-11-05T01:00Z", [("11-03T03:00", 24), ("11-04T03:00", 23)]),
        ("America/Sao_Paulo", "2018-02-17T02:00Z", "2018-02-19T02:00Z", [("02-17T02:00", 25), ("02-18T03:00", 24)]),
    ],
)  # fmt: skip
def test_a_day_is_the_patients_also_where_clocks_change(
    store: Store, zone: str, first: str, last: str, days: list[tuple[str, int]]
) -> None:
    assert daily(store, [DatedZone(zone, None, None)], first, last) == days


def test_the_day_of_a_move_goes_from_midnight_there_to_midnight_here(store: Store) -> None:
    move_ns = ns("2024-06-02T12:00Z")
    moved = [DatedZone("Europe/Berlin", None, move_ns), DatedZone("America/New_York", move_ns, None)]
    assert daily(store, moved, "2024-05-31T22:00Z", "2024-06-04T03:00Z") == [
        ("05-31T22:00", 24), ("06-01T22:00", 30), ("06-03T04:00", 24),
    ]  # fmt: skip


@pytest.mark.parametrize("flag", [Flag.BELOW_RANGE, Flag.ABOVE_RANGE])
def test_a_value_beyond_the_sensor_is_in_every_resolution(store: Store, flag: Flag) -> None:
    nan = float("nan")
    put(
        store,
        reading(T0, nan, flags=int(flag)),
        reading(T0 + DAY, nan),
        reading(T0 + 2 * DAY, nan, flags=int(flag | Flag.RETRACTED)),
    )
    for resolution in ("1m", "1h", "1d"):
        window = store.window("p_1", HR, *ALL_TIME, resolution=resolution)
        assert (window.time_ns.tolist(), window.flags.tolist(), window.count.tolist()) == ([T0], [int(flag)], [1])
        assert np.isnan([window.value[0], window.minimum[0], window.maximum[0]]).all()


def test_a_bucket_has_mean_extremes_count_and_all_flags(store: Store) -> None:
    put(
        store,
        reading(T0, 60.0, flags=int(Flag.SUSPECT)),
        reading(T0 + 1, 90.0, flags=int(Flag.MANUAL | Flag.LATE)),
        reading(T0 + 2, 66.0),
    )
    window = store.window("p_1", HR, T0, T0 + HOUR, resolution="1h")
    assert (window.value.tolist(), window.minimum.tolist(), window.maximum.tolist()) == ([72.0], [60.0], [90.0])
    assert (window.count.tolist(), window.flags.tolist()) == ([3], [int(Flag.SUSPECT | Flag.MANUAL | Flag.LATE)])


def test_a_bucket_at_the_edge_holds_only_what_was_asked_for(store: Store) -> None:
    put(store, *(reading(T0 + minute * MINUTE, float(minute)) for minute in range(60)))
    window = store.window("p_1", HR, T0 + 30 * MINUTE, T0 + 40 * MINUTE, resolution="1h")
    assert (window.time_ns.tolist(), window.minimum.tolist(), window.count.tolist()) == ([T0], [30.0], [10])


# Revisions and retractions


def test_readers_see_the_newest_revision(store: Store) -> None:
    put(store, reading(T0, 70.0), reading(T0 + 1, 80.0))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    put(store, reading(T0, 72.0, flags=int(Flag.REVISION)))
    assert values(store) == [72.0, 80.0]
    assert store.window("p_1", HR, *ALL_TIME, resolution="1m").minimum.tolist() == [72.0]
    assert store.rows() == 4


def test_a_revision_in_the_same_write_as_its_original(store: Store) -> None:
    put(store, reading(T0, 70.0), reading(T0, 71.0, flags=int(Flag.REVISION)))
    assert (values(store), store.rows(), dict(store.stored())) == ([71.0], 2, {"d1": 1})


def test_a_revision_with_another_corrected_time_moves_the_reading(store: Store) -> None:
    put(store, reading(T0, 70.0, source_time_ns=5))
    put(store, reading(T0 + DAY, 71.0, source_time_ns=5, flags=int(Flag.REVISION)))
    assert store.window("p_1", HR, T0, T0 + 1).value.tolist() == []
    assert values(store) == [71.0]


@pytest.mark.parametrize(
    "other",
    [{"device": "d2"}, {"vital": SPO2}, {"source_time_ns": T0 + 1}, {"seq": 1}],
    ids=lambda other: next(iter(other)),
)
def test_a_revision_hides_no_other_identity(store: Store, other: dict[str, Any]) -> None:
    put(store, reading(T0, 70.0), reading(T0, 50.0, **other))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    assert values(store, vital=other.get("vital", HR))[-1] in (50.0, 71.0)
    assert sorted(values(store) + values(store, vital=SPO2)) == [50.0, 71.0]


def test_a_revision_for_another_wearer_takes_the_reading_along(store: Store) -> None:
    put(store, reading(T0, 70.0))
    put(store, reading(T0, 70.0, patient="p_2", flags=int(Flag.REVISION)))
    assert (values(store), values(store, "p_2")) == ([], [70.0])


def test_retract_hides_a_reading_and_keeps_its_rows(store: Store) -> None:
    put(store, reading(T0, 70.0), reading(T0 + 1, 80.0))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    store.retract("d1", HR, T0, 0)
    assert (values(store), store.rows(), dict(store.stored())) == ([80.0], 3, {"d1": 2})
    assert store.latest("p_1").value.tolist() == [80.0]
    assert store.window("p_1", HR, *ALL_TIME, resolution="1h").count.tolist() == [1]
    flagged = store.export("p_1").flags & int(Flag.RETRACTED) != 0
    assert flagged.tolist() == [True, True, False]


def test_a_revision_after_a_retraction_is_seen(store: Store) -> None:
    put(store, reading(T0, 70.0))
    store.retract("d1", HR, T0, 0)
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    assert values(store) == [71.0]


def test_retracting_what_is_not_there_changes_nothing(store: Store) -> None:
    put(store, reading(T0, 70.0))
    store.retract("nobody", HR, T0, 0)
    store.retract("d1", HR, T0 + 1, 0)
    store.retract("d1", HR, T0, 1)
    assert values(store) == [70.0]


GONE = int(Flag.REVISION | Flag.RETRACTED)


def test_a_withdrawal_in_the_log_hides_the_reading_and_itself(store: Store) -> None:
    put(store, reading(T0, 70.0), reading(T0 + 1, 80.0))
    put(store, reading(T0 + 1, 80.0, flags=GONE))
    assert (values(store), dict(store.stored())) == ([70.0], {"d1": 2})
    assert store.latest("p_1").value.tolist() == [70.0]
    assert store.window("p_1", HR, *ALL_TIME, resolution="1m").count.tolist() == [1]
    assert (store.export("p_1").flags & int(Flag.RETRACTED) != 0).tolist() == [False, True, True]


@pytest.mark.parametrize("together", [True, False])
def test_a_reading_moves_to_another_patient(store: Store, together: bool) -> None:
    put(store, reading(T0, 70.0))
    rows = [
        reading(T0, 70.0, flags=GONE), reading(T0 + 5, 70.0, source_time_ns=T0, patient="p_2", flags=int(Flag.REVISION))
    ]  # fmt: skip
    for part in [rows] if together else [rows[:1], rows[1:]]:
        put(store, *part)
    assert (values(store), values(store, "p_2")) == ([], [70.0])
    assert dict(store.stored()) == {"d1": 1}
    assert store.held("d1", T0, T0 + 5).time_ns.tolist() == []
    held = store.held("d1", T0, T0 + 6)
    assert (held.patients, held.time_ns.tolist(), held.value.tolist()) == (("p_2",), [T0 + 5], [70.0])
    # Whoever of the two is erased, the other keeps what is theirs and nothing else comes back.
    store.erase("p_2")
    assert (values(store), values(store, "p_2")) == ([], [])


def test_erasing_who_had_a_reading_before(store: Store) -> None:
    put(store, reading(T0, 70.0))
    put(store, reading(T0, 70.0, flags=GONE), reading(T0, 70.0, patient="p_2", flags=int(Flag.REVISION)))
    assert store.erase("p_1") == 2
    assert values(store, "p_2") == [70.0]


def test_readings_of_a_device_by_time_and_by_time_as_sent(store: Store) -> None:
    put(
        store,
        reading(T0, 70.0, source_time_ns=5, patient="p_2"), reading(T0 + 9, 71.0, source_time_ns=6, vital=SPO2),
        reading(T0 + 99, 72.0, source_time_ns=7, basis=int(Basis.UNKNOWN)), reading(T0, 73.0, device="d2"),
    )  # fmt: skip
    put(store, reading(T0, 74.0, source_time_ns=5, patient="p_2", flags=int(Flag.REVISION)))
    assert store.held("d1", T0, T0 + 1).value.tolist() == [72.0, 74.0], "a time that is unknown can be any"
    assert store.held("d1", T0 + 9, T0 + 10).value.tolist() == [71.0, 72.0]
    assert store.sent("d1", 5, 6).value.tolist() == [71.0, 74.0]
    assert set(store.sent("d1", 5, 6).patients) == {"p_1", "p_2"}
    assert len(store.held("nobody", T0, T0 + 99)) == 0


# Latest, export, erase


def test_latest_is_the_newest_usable_reading_of_each_vital(store: Store) -> None:
    put(
        store,
        reading(T0 + 5, 75.0), reading(T0, 70.0), reading(T0, 98.0, vital=SPO2), reading(T0 + 9, 60.0, patient="p_2"),
        *(
            reading(T0 + 6, 400.0, flags=int(flag), seq=int(flag))
            for flag in (Flag.IMPLAUSIBLE, Flag.RETRACTED, Flag.CONTROL_SOLUTION, Flag.TEST_DATA)
        ),
    )  # fmt: skip
    latest = store.latest("p_1")
    assert dict(zip(latest.vital.tolist(), latest.value.tolist(), strict=True)) == {HR: 75.0, SPO2: 98.0}


def test_latest_shows_a_value_beyond_the_sensor(store: Store) -> None:
    put(store, reading(T0, 100.0), reading(T0 + 1, float("nan"), flags=int(Flag.BELOW_RANGE)))
    latest = store.latest("p_1")
    assert (np.isnan(latest.value).tolist(), latest.flags.tolist()) == ([True], [int(Flag.BELOW_RANGE)])


def test_latest_takes_the_higher_seq_at_the_same_time(store: Store) -> None:
    put(store, reading(T0, 2.0, seq=2), reading(T0, 1.0, seq=1))
    assert store.latest("p_1").value.tolist() == [2.0]


def test_latest_of_many_patients_is_what_each_has(store: Store) -> None:
    put(
        store,
        reading(T0, 2.0, seq=2), reading(T0, 1.0, seq=1), reading(T0 + 1, 98.0, vital=SPO2),
        reading(T0, 9.0, patient="p_3"),
        reading(T0 + 5, 400.0, flags=int(Flag.IMPLAUSIBLE)), reading(T0 + 4, 60.0, patient="p_2", device="d2"),
    )  # fmt: skip
    put(store, reading(T0, 3.0, seq=2, flags=int(Flag.REVISION), context={"site": "ear"}))
    store.retract("d2", HR, T0 + 4, 0)
    found = store.latest_many(["p_3", "p_1", "p_2", "p_none"])
    rows = zip(
        (found.patients[number] for number in found.patient), found.vital.tolist(), found.value.tolist(), strict=True
    )
    assert sorted(rows) == [("p_1", HR, 3.0), ("p_1", SPO2, 98.0), ("p_3", HR, 9.0)]
    assert list(found.context.values()) == [{"site": "ear"}]
    assert len(store.latest_many([])) == 0


def test_trends_are_means_per_slot_of_each_series(store: Store) -> None:
    put(
        store,
        reading(T0 - 1, 1.0), reading(T0, 70.0), reading(T0 + HOUR - 1, 80.0), reading(T0 + 3 * HOUR, 90.0),
        reading(T0, 97.0, vital=SPO2), reading(T0 + HOUR, 60.0, patient="p_2"), reading(T0 + 4 * HOUR, 2.0),
        reading(T0, 400.0, flags=int(Flag.IMPLAUSIBLE), seq=1), reading(T0 + HOUR, 5.0, patient="p_3"),
        reading(T0 + HOUR, float("nan"), flags=int(Flag.BELOW_RANGE)),
    )  # fmt: skip
    found = store.trends(["p_2", "p_1", "p_none"], T0, T0 + 4 * HOUR, HOUR)
    rows = zip(found.patient, found.vital.tolist(), found.slot.tolist(), found.value.tolist(), strict=True)
    assert sorted(rows) == [("p_1", HR, 0, 75.0), ("p_1", HR, 3, 90.0), ("p_1", SPO2, 0, 97.0), ("p_2", HR, 1, 60.0)]


def every_column() -> list[dict[str, Any]]:
    return [
        {
            "device": "d1", "patient": "p_1", "vital": HR, "source_time_ns": -5, "seq": 2**62, "time_ns": T0,
            "end_ns": T0 + 7, "basis": Basis.DAY, "tz_min": -570, "value": 70.25, "reported": 1.1, "unit": 9,
            "statistic": Statistic.MEAN, "flags": 0xFFFF & ~int(Flag.REVISION), "message": (5 << 16) | 3,
            "received_ns": T0 + 9, "context": {"meal": "fasting", "note": "a'b;\"c\"", "deep": {"x": [1, None, 2.5]}},
        },
        {
            "device": "d2", "patient": "p_1", "vital": SPO2, "source_time_ns": 3, "seq": -1, "time_ns": T0 + 1,
            "end_ns": NO_TIME, "basis": 5, "tz_min": 840, "value": float("nan"), "reported": float("nan"), "unit": 255,
            "statistic": 8, "flags": 0, "message": -1, "received_ns": 0,
        },
    ]  # fmt: skip


def test_export_gives_every_column_back(store: Store) -> None:
    written = batch_from_rows(every_column())
    store.write([written], expected=0, position=1)
    exported = store.export("p_1")
    for name, column in written.columns().items():
        np.testing.assert_array_equal(getattr(exported, name), column, err_msg=name)
        assert getattr(exported, name).dtype == COLUMNS[name]
    assert (exported.devices, exported.patients) == (("d1", "d2"), ("p_1",))
    assert exported.context == written.context


def test_export_is_all_rows_of_one_patient_by_vital_and_time(store: Store) -> None:
    put(store, reading(T0 + 1, 2.0), reading(T0, 97.0, vital=SPO2), reading(T0, 1.0), reading(T0, 9.0, patient="p_2"))
    put(store, reading(T0, 1.5, flags=int(Flag.REVISION)))
    assert store.export("p_1").value.tolist() == [1.0, 1.5, 2.0, 97.0]


def test_erase_deletes_one_patient_and_says_how_much(store: Store, open_store: Open) -> None:
    put(store, reading(T0), reading(T0 + 1), reading(T0, patient="p_2", seq=5))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    assert store.erase("p_1") == 3
    assert (store.rows(), values(store), values(store, "p_2"), len(store.export("p_1"))) == (1, [], [70.0], 0)
    assert dict(store.stored()) == {"d1": 3}
    assert store.erase("p_1") == store.erase("never seen") == 0
    store.close()
    assert values(open_store(), "p_2") == [70.0]


def test_an_erased_patient_may_come_back(store: Store, open_store: Open) -> None:
    put(store, reading(T0, 70.0), reading(T0, 60.0, patient="p_2", seq=1))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)))
    store.erase("p_1")
    put(store, reading(T0, 80.0), reading(T0, 65.0, patient="p_3", seq=2))
    store.close()
    again = open_store()
    assert [values(again, patient) for patient in ("p_1", "p_2", "p_3")] == [[80.0], [60.0], [65.0]]


# Counting


def test_stored_counts_first_versions_per_device_also_after_reopening(store: Store, open_store: Open) -> None:
    put(store, *(reading(T0 + number) for number in range(3)), reading(T0, device="d2"))
    put(store, reading(T0, 71.0, flags=int(Flag.REVISION)), reading(T0 + 3))
    assert dict(store.stored()) == {"d1": 4, "d2": 1}
    store.close()
    again = open_store()
    assert (dict(again.stored()), again.rows(), again.position()) == ({"d1": 4, "d2": 1}, 6, 2)
    put(again, reading(T0 + 4))
    assert dict(again.stored()) == {"d1": 5, "d2": 1}


def test_close_twice_is_once(store: Store) -> None:
    store.close()
    store.close()


# Arrivals


def arrived(store: Store, *patients: str, span: tuple[int, int] = ALL_TIME, measured: bool = False) -> list[float]:
    batches = list(store.arrivals(patients, *span, measured=measured))
    assert all(len(batch) for batch in batches)
    return [value for batch in batches for value in batch.value.tolist()]


def test_arrivals_come_in_order_of_receipt_then_message(store: Store) -> None:
    put(
        store,
        reading(T0, 3.0, received_ns=T0 + HOUR, message=2),
        reading(T0 + 1, 1.0, received_ns=T0 + MINUTE, message=9),
        reading(T0 + 2, 2.0, received_ns=T0 + HOUR, message=1, patient="p_2"),
        reading(T0 + 3, 9.0, received_ns=T0 + MINUTE, patient="p_3"),
    )
    assert arrived(store, "p_1", "p_2") == [1.0, 2.0, 3.0]
    assert arrived(store, "p_2", "p_9") == [2.0]
    assert arrived(store) == []


def test_arrivals_are_from_start_to_before_end_of_receipt(store: Store) -> None:
    put(store, *(reading(T0 - DAY, float(n), seq=n, received_ns=T0 + n * MINUTE) for n in range(5)))
    assert arrived(store, "p_1", span=(T0 + MINUTE, T0 + 3 * MINUTE)) == [1.0, 2.0]
    # Bounds inside a minute count to the nanosecond.
    assert arrived(store, "p_1", span=(T0 + 1, T0 + 2 * MINUTE + 1)) == [1.0, 2.0]


def test_arrivals_have_every_version_as_it_came(store: Store) -> None:
    put(store, reading(T0, 1.0, received_ns=T0), reading(T0 + 1, 5.0, received_ns=T0 + 1, context={"meal": "fasting"}))
    put(store, reading(T0, 2.0, received_ns=T0 + HOUR, flags=int(Flag.REVISION)))
    put(store, reading(T0, 2.0, received_ns=T0 + 2 * HOUR, flags=int(Flag.REVISION | Flag.RETRACTED)))
    batches = list(store.arrivals(["p_1"], *ALL_TIME))
    assert [value for batch in batches for value in batch.value.tolist()] == [1.0, 5.0, 2.0, 2.0]
    flags = [flag for batch in batches for flag in batch.flags.tolist()]
    assert flags == [0, 0, Flag.REVISION, Flag.REVISION | Flag.RETRACTED]
    assert [dict(one) for batch in batches for one in batch.context.values()] == [{"meal": "fasting"}]


def test_arrivals_as_measured_are_the_visible_versions_by_time(store: Store) -> None:
    put(store, reading(T0 + HOUR, 2.0, received_ns=T0 + HOUR), reading(T0, 1.0, received_ns=T0 + 9 * HOUR))
    put(store, reading(T0 + HOUR, 3.0, received_ns=T0 + 10 * HOUR, flags=int(Flag.REVISION)))
    assert arrived(store, "p_1", measured=True) == [1.0, 3.0]
    assert arrived(store, "p_1", measured=True, span=(T0, T0 + HOUR)) == [1.0]


def test_arrivals_come_in_several_batches_however_many_there_are(store: Store) -> None:
    rows = 300_000
    one = batch_from_rows([reading(T0, received_ns=T0)])
    number = np.arange(rows, dtype=np.int64)
    many = one.take(np.zeros(rows, dtype=np.int64))
    many = many.replace(value=number.astype(np.float64), received_ns=T0 + number[::-1] * 10_000_000, seq=number)
    store.write([many], expected=0, position=1)
    batches = list(store.arrivals(["p_1"], *ALL_TIME))
    assert len(batches) > 1
    received = np.concatenate([batch.received_ns for batch in batches])
    assert len(received) == rows
    assert (np.diff(received) > 0).all()
