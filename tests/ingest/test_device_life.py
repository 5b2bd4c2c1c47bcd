"""The fold of what devices say and do into presence, battery and faults."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.journal import device_life
from ingest.journal.device_life import SUPERSEDED, TAKEN_OVER, Life, Sound
from tests.support import SECOND
from vitals.device_state import Processed
from vitals.glossary import EventKind
from vitals.model import DeviceEvent

MINUTE, DAY = 60 * SECOND, 86_400 * SECOND
T0 = 1_700_000_000 * SECOND
SPO2, GLUCOSE = 4, 14


def said(kind: EventKind, at_ns: int = T0, detail: str = "", **more: float) -> DeviceEvent:
    return DeviceEvent("d", kind, at_ns, detail, more.get("value"), int(more.get("vital", 0)), int(more.get("n", 1)))


def came(at_ns: int, detail: str = "connected") -> DeviceEvent:
    return said(EventKind.ONLINE, at_ns, detail)


def went(at_ns: int, detail: str = "connection lost") -> DeviceEvent:
    return said(EventKind.OFFLINE, at_ns, detail)


def lived(*events: DeviceEvent) -> Life:
    life = Life()
    for event in events:
        device_life.presence(life, event)
    return life


def words(events: list[DeviceEvent]) -> list[tuple[str, str]]:
    return [(event.kind.value, event.detail) for event in events]


@pytest.mark.parametrize(
    ("events", "online", "since", "by"),
    [
        ([], None, None, ""),
        ([came(T0)], True, T0, "connection"),
        ([came(T0), came(T0 + 5, "status")], True, T0, "connection"),
        ([came(T0), went(T0 + 5)], False, T0 + 5, "connection"),
        ([came(T0), went(T0 + 5, "will, connection lost")], False, T0 + 5, "will"),
        ([came(T0), went(T0 + 5, "will")], False, T0 + 5, "will"),
        ([came(T0), went(T0 + 5, "status")], False, T0 + 5, "status"),
        ([came(T0), went(T0 + 5, SUPERSEDED)], True, T0, "connection"),
        ([came(T0), went(T0 - 1)], True, T0, "connection"),
        ([went(T0), came(T0 - 1)], False, T0, "connection"),
        ([came(T0), went(T0 - DAY)], False, T0 - DAY, "connection"),
    ],
)
def test_presence(events: list[DeviceEvent], online: bool | None, since: int | None, by: str) -> None:
    life = lived(*events)
    assert (life.online, life.since_ns, life.by) == (online, since, by)


@given(st.lists(st.tuples(st.integers(0, 599), st.booleans()), unique_by=lambda one: one[0]), st.randoms())
def test_presence_is_that_of_the_newest_event_in_whatever_order(
    steps: list[tuple[int, bool]], chance: random.Random
) -> None:
    events = [came(T0 + s * SECOND, TAKEN_OVER if s % 7 else "connected") if on else went(T0 + s * SECOND)
              for s, on in steps]  # fmt: skip
    sorted_life = lived(*sorted(events, key=lambda event: event.time_ns))
    chance.shuffle(events)
    life = lived(*events)
    assert (life.online, life.presence_ns) == (sorted_life.online, sorted_life.presence_ns)
    assert (life.connects, life.takeovers) == (sorted_life.connects, sorted_life.takeovers)
    assert device_life.flapping_until(life) == device_life.flapping_until(sorted_life)


def test_two_clients_that_take_each_other_over_are_flapping_until_they_stop() -> None:
    life = Life()
    follows = [event for n in range(6) for event in device_life.presence(life, came(T0 + n * MINUTE, TAKEN_OVER))]
    assert words(follows) == [("fault", "flapping: taken_over")]
    assert [(one.kind, one.first_ns, one.last_ns, one.count) for one in life.faults()] == [
        (EventKind.FLAPPING, T0 + 3 * MINUTE, T0 + 5 * MINUTE, 3)
    ]
    assert device_life.passed(life, "d", T0 + 12 * MINUTE - 1) == []
    assert words(device_life.passed(life, "d", T0 + 12 * MINUTE)) == [("fault_over", "flapping: taken_over")]
    assert (life.faults(), life.watched) == ((), False)


@pytest.mark.parametrize(("every_s", "flaps"), [(59, True), (61, False)])
def test_more_than_ten_connects_in_ten_minutes_are_flapping(every_s: int, flaps: bool) -> None:
    life = Life()
    for n in range(40):
        device_life.presence(life, came(T0 + n * every_s * SECOND))
        device_life.presence(life, went(T0 + n * every_s * SECOND + SECOND))
    assert [one.detail for one in life.faults()] == ["reconnects"] * flaps


def levels(*told: float | str | tuple[float | str, int], low: float = 20.0) -> list[str]:
    """Crossings of a battery that was told so, a minute apart or at a time."""
    life, crossings = Life(), []
    for n, one in enumerate(told):
        level, at_ns = one if isinstance(one, tuple) else (one, T0 + n * MINUTE)
        event = (
            said(EventKind.BATTERY, at_ns, level)
            if isinstance(level, str)
            else said(EventKind.BATTERY, at_ns, value=level)
        )
        crossings += device_life.report(life, event, low)[0]
    return [event.kind.value for event in crossings]


def test_a_battery_is_one_event_when_it_crosses() -> None:
    assert levels(80, 40, 21, 20) == []
    assert levels(80, 19, 18, 5) == ["battery_low"]
    assert levels(19, 21, 24.9, 19) == ["battery_low"]
    assert levels(19, 25, 19) == ["battery_low", "battery_ok", "battery_low"]
    assert levels("low", "low", 90) == ["battery_low", "battery_ok"]
    assert levels(40, low=50) == ["battery_low"]
    assert levels(80, (10, T0 - 1)) == [], "older than what is known"
    assert levels("fine") == []


@given(st.lists(st.integers(0, 100)))
def test_crossings_alternate_and_leave_the_state(told: list[int]) -> None:
    crossings = levels(*told)
    assert crossings == ["battery_low", "battery_ok"] * (len(crossings) // 2) + ["battery_low"] * (len(crossings) % 2)
    if told and told[-1] < 20:
        assert crossings[-1] == "battery_low"
    if told and told[-1] >= 25:
        assert len(crossings) % 2 == 0


def test_a_low_without_a_level_ends_by_sound_readings_after_a_day() -> None:
    life = Life()
    assert device_life.report(life, said(EventKind.BATTERY, detail="low"), 20.0)[1]
    assert not device_life.report(life, said(EventKind.BATTERY, T0 + MINUTE, "low"), 20.0)[1], "said before"
    assert life.watched
    assert device_life.sound(life, "d", Sound(9, SPO2, T0 + DAY, True)) == []
    assert words(device_life.sound(life, "d", Sound(9, SPO2, T0 + MINUTE + DAY, True))) == [("battery_ok", "")]
    assert (life.battery_low, life.watched) == (None, False)


def test_a_status_word_is_a_fault_until_a_later_message_is_sound() -> None:
    life = Life()
    both = said(EventKind.SENSOR_STATUS, detail="sensor_malfunction,read_interrupted", n=5)
    follows, news = device_life.report(life, both, 20.0)
    assert words(follows) == [
        ("fault", "sensor_status: sensor_malfunction"),
        ("fault", "sensor_status: read_interrupted"),
    ]
    assert news
    assert device_life.sound(life, "d", Sound(5, GLUCOSE, T0, True)) == [], "the message that reports it"
    again = said(EventKind.SENSOR_STATUS, T0 + MINUTE, "read_interrupted", n=6)
    assert device_life.report(life, again, 20.0) == ([], False)
    assert words(device_life.sound(life, "d", Sound(6, GLUCOSE, T0, True))) == [
        ("fault_over", "sensor_status: sensor_malfunction")
    ]
    assert [(one.detail, one.first_ns, one.last_ns, one.count) for one in life.faults()] == [
        ("read_interrupted", T0, T0 + MINUTE, 2)
    ]


def test_a_clock_fault_ends_by_a_time_of_the_devices_own_clock() -> None:
    life = Life()
    device_life.report(life, said(EventKind.CLOCK_FAULT, detail="time_fault"), 20.0)
    assert device_life.sound(life, "d", Sound(2, GLUCOSE, T0, False)) == []
    assert words(device_life.sound(life, "d", Sound(3, GLUCOSE, T0, True))) == [
        ("fault_over", "clock_fault: time_fault")
    ]


def test_a_value_that_is_absent_again_and_again_is_a_fault() -> None:
    life = Life()

    def absent(n: int) -> list[tuple[str, str]]:
        event = said(EventKind.VALUE_ABSENT, detail="nan", vital=SPO2, n=n)
        return words(device_life.report(life, event, 20.0)[0])

    assert [absent(1), absent(2)] == [[], []]
    assert device_life.sound(life, "d", Sound(3, SPO2, T0, True)) == [], "it was no fault yet"
    assert [absent(4), absent(5)] == [[], []]
    assert device_life.sound(life, "d", Sound(6, GLUCOSE, T0, True)) == [], "another vital"
    assert life.faults() == ()
    assert absent(7) == [("fault", "value_absent: nan")]
    assert [one.vital for one in life.faults()] == [SPO2]
    assert words(device_life.sound(life, "d", Sound(8, SPO2, T0, True))) == [("fault_over", "value_absent: nan")]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "a,b", "sound"]), st.integers(0, 2))))
def test_every_fault_begins_and_ends_in_turn(steps: list[tuple[str, int]]) -> None:
    life, told, message = Life(), [], 1
    for what, step in steps:
        message += step
        if what == "sound":
            told += device_life.sound(life, "d", Sound(message, SPO2, T0, True))
        else:
            told += device_life.report(life, said(EventKind.SENSOR_STATUS, detail=what, n=message), 20.0)[0]
    is_open = {one.detail for one in life.faults()}
    for word in "ab":
        kinds = [event.kind for event in told if event.detail.endswith(word)]
        assert all(one is not other for one, other in pairwise(kinds))
        assert kinds[:1] in ([], [EventKind.FAULT])
        assert (word in is_open) == (kinds[-1:] == [EventKind.FAULT])


def test_an_outage_is_no_silence() -> None:
    assert Processed().since(T0) == 0
    assert Processed(T0 + 100).since(T0) == 100
    assert Processed(T0 + 100).since(T0 + 200) == 0
    outage = Processed(T0 + 100, T0 + 20, T0 + 90)
    assert [outage.since(T0 + at) for at in (0, 20, 50, 90, 95)] == [30, 10, 10, 10, 5]
