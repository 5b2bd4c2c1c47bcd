"""Who wore the device when it was measured: the cases that have a name."""

from typing import Any

import pytest

from ingest.adapter import SourceClock
from ingest.placing.wear import WearTable
from tests.ingest.placing import HOUR, MINUTE, Result, Row, placed
from tests.ingest.zone_reference import ns
from vitals.glossary import Basis
from vitals.records import Assignment, Device

DAY = 24 * HOUR
NOON = ns("2024-06-10T12:00Z")


def place_one(row: Row, *assignments: Assignment, zone: str | None = None) -> Result:
    devices = [Device("d", "json", zone=zone)]
    return placed([row], WearTable(devices, assignments), devices)[0]


def wall(text: str, received: str, **more: Any) -> Row:
    return Row(0, SourceClock.WALL, ns(text), ns(received), **more)


def instant(text: str, received: str | None = None) -> Row:
    return Row(0, SourceClock.INSTANT, ns(text), ns(received or text) + MINUTE)


def worn(patient: str, first: str | None, end: str | None, zone: str | None = None) -> Assignment:
    return Assignment("d", patient, ns(first) if first else None, ns(end) if end else None, zone)


def assert_waits(result: Result, reason: str) -> None:
    assert (result.patient, result.reason) == (None, reason)


def test_a_time_in_no_assignment_has_no_wearer() -> None:
    weeks = worn("p", "2024-06-01T00:00Z", "2024-06-08T00:00Z"), worn("q", "2024-06-10T00:00Z", None)
    assert place_one(instant("2024-06-07T23:59:59Z"), *weeks).patient == "p"
    assert_waits(place_one(instant("2024-06-08T00:00Z"), *weeks), "no_wearer")
    assert_waits(place_one(instant("2024-06-09T23:59:59Z"), *weeks), "no_wearer")
    assert place_one(instant("2024-06-10T00:00Z"), *weeks).patient == "q"
    assert_waits(place_one(instant("2024-05-31T23:59:59Z"), *weeks), "no_wearer")
    assert_waits(place_one(instant("2024-06-09T12:00Z")), "no_wearer")


def test_a_hub_says_when_as_an_instant_of_its_own_clock() -> None:
    weeks = worn("p", "2024-06-01T00:00Z", "2024-06-08T00:00Z"), worn("q", "2024-06-10T00:00Z", None)
    earlier = place_one(Row(0, SourceClock.HUB, ns("2024-06-07T23:59:59Z"), NOON), *weeks)
    assert (earlier.patient, earlier.basis) == ("p", Basis.HUB)
    live = place_one(Row(0, SourceClock.HUB, NOON - 3 * 10**9, NOON), *weeks)
    assert (live.patient, live.basis, live.time_ns) == ("q", Basis.HUB, NOON - 3 * 10**9)


def test_a_device_that_the_registry_does_not_know_has_no_wearer() -> None:
    devices = [Device("d", "json")]
    table = WearTable(devices, [worn("p", None, None)])
    assert table.row("stranger") != table.row("d")
    rows = [Row(0, clock, NOON, NOON, seq=1) for clock in SourceClock]
    found = placed(rows, table, [Device("stranger", "json")])
    assert {result.patient for result in found} == {None}
    table.trust({"stranger": (NOON, 5)})
    again = placed([Row(0, SourceClock.WALL, NOON - 3 * DAY, NOON, seq=9)], table, [Device("other", "json")])[0]
    assert_waits(again, "no_wearer")


def test_two_zones_around_a_hand_over_fit_two_wearers() -> None:
    berlin_then_york = (
        worn("p", None, "2024-06-10T12:00Z", "Europe/Berlin"), worn("q", "2024-06-10T12:00Z", None, "America/New_York"),
    )  # fmt: skip
    # 10:00 in Berlin is 08:00Z and p's; 10:00 in New York is 14:00Z and q's.
    assert_waits(place_one(wall("2024-06-10T10:00", "2024-06-11T00:00Z"), *berlin_then_york), "two_wearers")
    assert place_one(wall("2024-06-10T07:59:59", "2024-06-11T00:00Z"), *berlin_then_york).patient == "p"
    assert place_one(wall("2024-06-10T14:00", "2024-06-11T00:00Z"), *berlin_then_york).patient == "q"
    # The other way round nobody's clock ever showed these hours.
    york_then_berlin = (
        worn("p", None, "2024-06-10T12:00Z", "America/New_York"), worn("q", "2024-06-10T12:00Z", None, "Europe/Berlin"),
    )  # fmt: skip
    assert_waits(place_one(wall("2024-06-10T10:00", "2024-06-11T00:00Z"), *york_then_berlin), "no_wearer")


def test_no_zone_near_a_hand_over_fits_two_wearers() -> None:
    both = worn("p", None, "2024-06-10T12:00Z"), worn("q", "2024-06-10T12:00Z", None)
    assert_waits(place_one(wall("2024-06-10T23:00", "2024-06-20T00:00Z"), *both), "two_wearers")
    assert_waits(place_one(wall("2024-06-10T01:00", "2024-06-20T00:00Z"), *both), "two_wearers")
    assert place_one(wall("2024-06-11T02:00:01", "2024-06-20T00:00Z"), *both).patient == "q"
    assert place_one(wall("2024-06-09T23:59:59", "2024-06-20T00:00Z"), *both).patient == "p"


def test_the_repeated_hour_across_a_hand_over_fits_two_wearers() -> None:
    change = "2024-10-27T01:00Z"
    both = worn("p", None, change, "Europe/Berlin"), worn("q", change, None, "Europe/Berlin")
    assert_waits(place_one(wall("2024-10-27T02:30", "2024-10-28T00:00Z"), *both), "two_wearers")
    assert place_one(wall("2024-10-27T01:59:59", "2024-10-28T00:00Z"), *both).patient == "p"
    assert place_one(wall("2024-10-27T03:00", "2024-10-28T00:00Z"), *both).patient == "q"
    # Also when the device lies in a drawer afterwards: the second instant is nobody's.
    assert_waits(place_one(wall("2024-10-27T02:30", "2024-10-28T00:00Z"), both[0]), "two_wearers")


def test_the_repeated_hour_of_one_wearer_is_theirs() -> None:
    result = place_one(wall("2024-10-27T02:30", "2024-10-27T00:31Z"), worn("p", None, None, "Europe/Berlin"))
    assert (result.patient, result.time_ns, result.tz_min) == ("p", ns("2024-10-27T00:30Z"), 120)


MOVED_WEST = (
    worn("p", None, "2024-06-10T12:00Z", "Europe/Berlin"), worn("p", "2024-06-10T12:00Z", None, "America/New_York"),
)  # fmt: skip
MOVED_EAST = (
    worn("p", None, "2024-06-10T12:00Z", "America/New_York"), worn("p", "2024-06-10T12:00Z", None, "Europe/Berlin"),
)  # fmt: skip


@pytest.mark.parametrize("parts", [MOVED_WEST, MOVED_EAST], ids=["west", "east"])
def test_a_patient_who_moved_is_one_wearer(parts: tuple[Assignment, ...]) -> None:
    for hour in range(48):
        text = f"2024-06-{9 + hour // 24:02}T{hour % 24:02}:30"
        result = place_one(wall(text, "2024-06-20T00:00Z"), *parts)
        assert (result.patient, result.basis) == ("p", Basis.DEVICE_ASSUMED_ZONE), text


def test_a_time_that_the_clock_showed_twice_in_a_move_is_the_later_one_that_is_past() -> None:
    later = place_one(wall("2024-06-10T10:00", "2024-06-20T00:00Z"), *MOVED_WEST)
    assert (later.time_ns, later.tz_min) == (ns("2024-06-10T14:00Z"), -240)
    live = place_one(wall("2024-06-10T10:00", "2024-06-10T08:00:30Z"), *MOVED_WEST)
    assert (live.time_ns, live.tz_min) == (ns("2024-06-10T08:00Z"), 120)


def test_a_move_does_not_hide_the_next_wearer() -> None:
    parts = (
        worn("p", None, "2024-06-10T12:00Z", "Europe/Berlin"),
        worn("p", "2024-06-10T12:00Z", "2024-06-11T12:00Z", "America/New_York"),
        worn("q", "2024-06-11T12:00Z", None, "Europe/Berlin"),
    )
    assert place_one(wall("2024-06-11T06:00", "2024-06-20T00:00Z"), *parts).patient == "p"
    # 08:30 in New York is 12:30Z and after p; in Berlin it is 06:30Z and before q.
    assert_waits(place_one(wall("2024-06-11T08:30", "2024-06-20T00:00Z"), *parts), "no_wearer")
    assert place_one(wall("2024-06-11T14:00", "2024-06-20T00:00Z"), *parts).patient == "q"


def test_the_same_patient_with_a_break_between_is_not_one_stretch() -> None:
    twice = worn("p", None, "2024-06-10T00:00Z"), worn("p", "2024-06-10T01:00Z", None)
    # Somewhere in 26 hours around the break: it may be the hour in which nobody wore it.
    assert_waits(place_one(wall("2024-06-10T00:30", "2024-06-20T00:00Z"), *twice), "two_wearers")
    assert place_one(wall("2024-06-12T00:30", "2024-06-20T00:00Z"), *twice).patient == "p"


@pytest.mark.parametrize("years_ahead", [1, 75, 230])
@pytest.mark.parametrize("clock", [SourceClock.WALL, SourceClock.INSTANT, SourceClock.DAY, SourceClock.HUB])
def test_a_future_time_is_no_time(clock: SourceClock, years_ahead: int) -> None:
    row = Row(0, clock, ns(f"{2024 + years_ahead}-06-10T00:00Z"), NOON, seq=7)
    sole = place_one(row, worn("p", None, None, "Europe/Berlin"))
    assert sole == Result(NOON, Basis.UNKNOWN, 0, True, "p", None, trusted=False)
    assert_waits(place_one(row, worn("p", "2024-01-01T00:00Z", None, "Europe/Berlin")), "no_wearer")
    two = worn("p", None, "2024-01-01T00:00Z", "UTC"), worn("q", "2024-01-01T00:00Z", None, "UTC")
    assert_waits(place_one(row, *two), "two_wearers")


@pytest.mark.parametrize(("late_s", "trusted"), [(300, True), (301, False)])
def test_five_minutes_ahead_is_tolerated(late_s: int, trusted: bool) -> None:
    for row in (
        Row(0, SourceClock.INSTANT, NOON, NOON - late_s * 10**9),
        Row(0, SourceClock.WALL, NOON, NOON - late_s * 10**9),
    ):
        result = place_one(row, worn("p", None, None, "UTC"))
        assert result.patient == "p"
        assert (result.time_ns == NOON, result.basis is not Basis.UNKNOWN) == (trusted, trusted)
        assert result.suspect is not trusted


@pytest.mark.parametrize("clock", [SourceClock.WALL, SourceClock.INSTANT, SourceClock.HUB])
@pytest.mark.parametrize("unset", ["1678-01-01T00:00", "1970-01-01T00:00", "2000-01-01T00:00", "2009-12-31T23:59:59"])
def test_a_clock_that_was_never_set_is_not_read(clock: SourceClock, unset: str) -> None:
    row = Row(0, clock, ns(unset), NOON)
    two = worn("p", None, "2024-01-01T00:00Z", "UTC"), worn("q", "2024-01-01T00:00Z", None, "UTC")
    assert_waits(place_one(row, *two), "two_wearers")
    assert place_one(row, two[0]).reason == "no_wearer", "p gave it back before it arrived"
    sole = place_one(row, worn("p", None, None, "UTC"))
    assert (sole.patient, sole.time_ns, sole.basis, sole.suspect) == ("p", NOON, Basis.UNKNOWN, True)


def test_an_untrusted_time_goes_to_the_only_person_until_arrival() -> None:
    row = Row(0, SourceClock.INSTANT, ns("2099-01-01T00:00"), NOON)
    until_tomorrow = worn("p", None, "2024-06-11T00:00Z"), worn("q", "2024-06-11T00:00Z", None)
    assert place_one(row, *until_tomorrow).patient == "p"
    moved = worn("p", None, "2024-06-01T00:00Z", "UTC"), worn("p", "2024-06-01T00:00Z", None, "Asia/Kolkata")
    assert place_one(row, *moved).patient == "p"


def test_old_wall_time_without_a_zone_is_of_unknown_basis() -> None:
    result = place_one(wall("2024-06-08T12:00", "2024-06-10T12:00Z", seq=4), worn("p", None, None))
    assert result == Result(ns("2024-06-08T12:00"), Basis.UNKNOWN, 0, False, "p", None, trusted=False)


@pytest.mark.parametrize("off_s", [-120, -1, 0, 1, 120])
def test_wall_time_without_a_zone_within_two_minutes_of_arrival_is_live(off_s: int) -> None:
    row = Row(0, SourceClock.WALL, NOON + off_s * 10**9, NOON, seq=4)
    both = worn("p", None, "2024-06-10T11:00Z"), worn("q", "2024-06-10T11:00Z", None)
    assert place_one(row, *both) == Result(NOON + off_s * 10**9, Basis.RECEIVED, 0, False, "q", None, trusted=True)
    beyond = Row(0, SourceClock.WALL, NOON + 121 * 10**9 * (1 if off_s >= 0 else -1), NOON)
    assert_waits(place_one(beyond, *both), "two_wearers")


def test_wall_time_ahead_of_arrival_without_a_zone_may_be_an_eastern_clock() -> None:
    eastern = place_one(Row(0, SourceClock.WALL, NOON + 14 * HOUR, NOON), worn("p", None, None))
    assert (eastern.patient, eastern.time_ns, eastern.basis, eastern.suspect) == ("p", NOON, Basis.UNKNOWN, False)
    nowhere = place_one(Row(0, SourceClock.WALL, NOON + 14 * HOUR + 6 * MINUTE, NOON), worn("p", None, None))
    assert (nowhere.time_ns, nowhere.suspect) == (NOON, True)


def test_the_assignments_zone_goes_before_the_devices() -> None:
    row = wall("2024-06-10T12:00", "2024-06-10T12:00Z")
    assert place_one(row, worn("p", None, None), zone="Asia/Kolkata").time_ns == ns("2024-06-10T06:30Z")
    assert place_one(row, worn("p", None, None, "Europe/Berlin"), zone="Asia/Kolkata").time_ns == ns(
        "2024-06-10T10:00Z"
    )
    nobody = place_one(row, zone="Asia/Kolkata")
    assert (nobody.time_ns, nobody.basis, nobody.reason) == (
        ns("2024-06-10T06:30Z"), Basis.DEVICE_ASSUMED_ZONE, "no_wearer",
    )  # fmt: skip


def test_a_day_belongs_to_who_wore_the_device_all_of_it() -> None:
    noon_hand_over = (
        worn("p", None, "2024-06-10T10:00Z", "Europe/Berlin"), worn("q", "2024-06-10T10:00Z", None, "Europe/Berlin"),
    )  # fmt: skip

    def day(text: str) -> Result:
        return place_one(Row(0, SourceClock.DAY, ns(text), ns("2024-06-20T00:00Z")), *noon_hand_over)

    assert_waits(day("2024-06-10T00:00"), "two_wearers")
    assert day("2024-06-09T00:00") == Result(ns("2024-06-08T22:00Z"), Basis.DAY, 120, False, "p", None, trusted=False)
    assert day("2024-06-11T00:00").patient == "q"
    midnight = "2024-06-10T22:00Z"
    whole_days = worn("p", None, midnight, "Europe/Berlin"), worn("q", midnight, None, "Europe/Berlin")
    result = place_one(Row(0, SourceClock.DAY, ns("2024-06-10T00:00"), ns("2024-06-20T00:00Z")), *whole_days)
    assert result.patient == "p", "the last nanosecond of the day is p's too"


def test_a_day_that_arrives_at_its_midnight_is_still_a_day() -> None:
    result = place_one(
        Row(0, SourceClock.DAY, ns("2024-06-10T00:00"), ns("2024-06-10T00:00:30Z")), worn("p", None, None)
    )
    assert (result.patient, result.basis) == ("p", Basis.DAY)


def test_a_stored_record_without_time_waits_even_for_one_wearer() -> None:
    result = place_one(Row(0, SourceClock.STORED, 0, NOON, seq=3), worn("p", None, None, "UTC"))
    assert result == Result(NOON, Basis.UNKNOWN, 0, True, None, "no_time", trusted=False)


def test_a_reset_clock_waits_and_is_trusted_again_when_it_is_right() -> None:
    devices = [Device("d", "ble_glucose"), Device("other", "ble_glucose")]
    handed_over = NOON - 10 * MINUTE
    table = WearTable(
        devices,
        [
            Assignment("other", "p", None, None, "UTC"), Assignment("d", "p", None, handed_over, "UTC"),
            Assignment("d", "q", handed_over, None, "UTC"),
        ],
    )  # fmt: skip
    rows = [
        Row(0, SourceClock.WALL, NOON - 3 * DAY, NOON, seq=10),
        Row(0, SourceClock.WALL, NOON - 2 * DAY, NOON, seq=11),
        Row(1, SourceClock.WALL, NOON - 9 * DAY, NOON, seq=99),
        Row(0, SourceClock.WALL, ns("2015-01-01T00:05"), NOON, seq=12),
        Row(0, SourceClock.WALL, ns("2015-01-01T08:05"), NOON, seq=13),
        Row(0, SourceClock.WALL, NOON - 3 * DAY, NOON, seq=10),
        Row(0, SourceClock.WALL, NOON - HOUR, NOON, seq=14),
        Row(0, SourceClock.WALL, NOON - MINUTE, NOON, seq=15),
    ]
    found = placed(rows, table, devices)
    assert [result.reason for result in found] == [None, None, None, "clock_reset", "clock_reset", None, None, None]
    assert [result.trusted for result in found] == [True, True, True, False, False, True, True, True]
    assert all(result.suspect and result.basis is Basis.UNKNOWN for result in found[3:5])
    assert all(not result.suspect for result in (*found[:3], *found[5:]))


def test_a_reset_clock_is_whose_who_wore_the_device_since_the_last_time_that_was_right() -> None:
    devices = [Device("d", "ble_glucose")]
    head_ns = NOON - 2 * DAY
    rows = [
        Row(0, SourceClock.WALL, head_ns, NOON, seq=11),
        Row(0, SourceClock.WALL, ns("2015-01-01T00:05"), NOON, seq=12),
    ]
    for first_ns, patient in ((None, "p"), (head_ns - 14 * HOUR, "p"), (head_ns - 14 * HOUR + 1, None)):
        found = placed(rows, WearTable(devices, [Assignment("d", "p", first_ns, None, "UTC")]), devices)[1]
        reason = None if patient else "clock_reset"
        assert found == Result(NOON, Basis.UNKNOWN, 0, True, patient, reason, trusted=False)


def test_a_future_record_does_not_make_the_present_look_reset() -> None:
    devices = [Device("d", "ble_glucose")]
    table = WearTable(devices, [worn("p", None, None, "UTC")])
    rows = [
        Row(0, SourceClock.WALL, NOON - HOUR, NOON, seq=1),
        Row(0, SourceClock.WALL, ns("2099-01-01T00:00"), NOON, seq=2),
        Row(0, SourceClock.WALL, NOON - MINUTE, NOON, seq=3),
    ]
    found = placed(rows, table, devices)
    assert [result.trusted for result in found] == [True, False, True]
    assert (found[2].basis, found[2].suspect) == (Basis.DEVICE_ASSUMED_ZONE, False)
    assert (table.head_time_ns[0], table.head_seq[0]) == (NOON - MINUTE, 3)


def test_records_without_a_number_are_no_evidence_of_a_reset() -> None:
    devices = [Device("d", "json")]
    table = WearTable(devices, [worn("p", None, None, "UTC")])
    rows = [
        Row(0, SourceClock.WALL, NOON - MINUTE, NOON), Row(0, SourceClock.WALL, NOON - 40 * DAY, NOON),
    ]  # fmt: skip
    assert [result.patient for result in placed(rows, table, devices)] == ["p", "p"]


def test_the_offset_of_a_meter_moves_the_reading_but_not_the_line_of_its_clock() -> None:
    devices = [Device("d", "ble_glucose")]
    table = WearTable(devices, [worn("p", None, None, "Europe/Berlin")])
    base = ns("2024-06-10T08:00")
    rows = [
        Row(0, SourceClock.WALL, base, NOON, seq=1, offset_ns=2 * HOUR),
        Row(0, SourceClock.WALL, base + MINUTE, NOON, seq=2, offset_ns=-40 * HOUR),
    ]
    found = placed(rows, table, devices)
    assert found[0].time_ns == ns("2024-06-10T08:00Z"), "10:00 in Berlin"
    assert found[1].reason is None, "the base time went on: no reset"
    assert (table.head_time_ns[0], table.head_seq[0]) == (base + MINUTE, 2)
