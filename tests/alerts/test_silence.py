"""Silence: who is expected to send, what counts as contact, which time counts, and one alert for a slow pipeline."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alerts.book.sql import SqlAlertBook
from alerts.engine import Engine
from alerts.programmes.controls import check_control
from alerts.rules.own import describe_silence
from alerts.service import AlertService, ControlDesk
from tests.alerts.alert_world import SECOND, Ward, at, batch, control, kinds, limit, limits_control, reading
from tests.support import FakeClock
from vitals.catalog import BY_KEY, VITALS
from vitals.encoding import encode
from vitals.errors import BackendError, InvalidRequest
from vitals.glossary import AlertState, Basis, ControlKind, Flag, Mode, Severity
from vitals.log.local import LocalLog
from vitals.model import Tick
from vitals.records import AlertEvent
from vitals.registry.sql import SqlRegistry

MINUTE = 60
HOUR = 3600
CGM: dict[str, Any] = {"vital": "glucose_isf", "unit": "mg/dL", "low": 70.0}
LAG = {"cause": "pipeline_lag", "since_ns": 0}


class CgmWard(Ward):
    """One patient with a limit on CGM glucose set at 0 s, ticks every 20 s as time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.tick(0)
        self.set_limits(limit(**CGM))

    def set_limits(self, *limits: dict[str, Any], patient: str = "p_1") -> None:
        self.versions += 1
        body = limits_control(self.versions, *limits, patient=patient).body
        assert self.entry(control(ControlKind.LIMITS, self.now, "dr_a", **body)) == []

    def wait(self, seconds: int) -> list[AlertEvent]:
        """Time that is processed."""
        events, end = [], self.now + seconds
        while self.now < end:
            self.now = min(self.now + 20, end)
            events += self.tick(self.now)
        return events

    def outage(self, seconds: int) -> list[AlertEvent]:
        """Time without ticks, and the first one after it."""
        self.now += seconds
        return self.tick(self.now)

    def glucose(self, value: float = 110.0, *, flags: int = 0, **changes: Any) -> list[AlertEvent]:
        """A reading received now."""
        changes = {"received_ns": at(self.now), "vital": "glucose_isf"} | changes
        return self.read(self.now, value, flags=flags, **changes)


def test_windows_follow_the_usual_mode_and_are_never_shorter_than_staleness() -> None:
    windows = {vital.key: vital.silence_ns(vital.mode) // SECOND for vital in VITALS}
    assert windows["glucose_isf"] == HOUR
    assert windows["spo2"] == windows["weight"] == 48 * HOUR
    assert windows["bp_avg_sys"] == 168 * HOUR
    assert all(vital.silence_ns(mode) >= vital.staleness_ns(mode) for vital in VITALS for mode in Mode)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("glucose_isf", "No interstitial glucose (CGM) for 60 min"),
        ("weight", "No body weight for 48 h"),
        ("ecg_rhythm", "No ECG rhythm for 48 h"),
        ("rr_interval", "No R-R interval for 60 min"),
    ],
)
def test_silence_is_told_in_words(key: str, text: str) -> None:
    vital = BY_KEY[key]
    assert describe_silence(vital.code, vital.silence_ns(vital.mode)) == text


def test_a_vital_that_never_came_is_missed_from_when_its_limits_were_set() -> None:
    ward = CgmWard()
    assert ward.wait(HOUR - 1) == []
    (event,) = ward.wait(1)
    assert (event.kind, event.state, event.severity) == ("raised", AlertState.ACTIVE_UNACK, Severity.S3)
    assert (event.patient, event.rule, event.at_ns) == ("p_1", "silence:glucose_isf", at(HOUR))
    assert event.text == "No interstitial glucose (CGM) for 60 min"
    assert event.values == ()
    assert ward.wait(3 * HOUR) == [], "once"


def test_a_silence_is_told_with_the_last_reading_and_ended_by_the_next() -> None:
    ward = CgmWard()
    ward.wait(600)
    ward.glucose(123.0)
    (raised,) = ward.wait(HOUR)
    assert raised.at_ns == at(600 + HOUR)
    assert [(value["value"], value["time_ns"]) for value in raised.values] == [(123.0, at(600))]
    ended = ward.glucose(110.0)
    assert [(e.alert, e.kind, e.state, e.at_ns) for e in ended] == [
        (raised.alert, "resolved", AlertState.RESOLVED, at(ward.now))
    ]
    (again,) = ward.wait(HOUR)
    assert again.alert != raised.alert


def test_the_deadline_is_the_time_of_the_alert_however_late_the_tick() -> None:
    ward = CgmWard()
    ward.wait(HOUR - 5)
    ward.now += 30
    (event,) = ward.tick(ward.now)
    assert event.at_ns == at(HOUR)


CONTACTS: dict[str, dict[str, Any]] = {
    "plain": {}, "implausible": {"flags": int(Flag.IMPLAUSIBLE)}, "sensor_fault": {"flags": int(Flag.SENSOR_FAULT)},
    "suspect": {"flags": int(Flag.SUSPECT)}, "no_number": {"value": math.nan},
    "received_basis": {"basis": int(Basis.RECEIVED)},
}  # fmt: skip
STRANGERS: dict[str, dict[str, Any]] = {
    "late": {"flags": int(Flag.LATE)}, "replayed": {"flags": int(Flag.REPLAYED)},
    "retracted": {"flags": int(Flag.RETRACTED)}, "clock_suspect": {"flags": int(Flag.CLOCK_SUSPECT)},
    "test_data": {"flags": int(Flag.TEST_DATA)}, "control_solution": {"flags": int(Flag.CONTROL_SOLUTION)},
    "unknown_basis": {"basis": int(Basis.UNKNOWN)}, "day": {"basis": int(Basis.DAY)},
    "other_vital": {"vital": "spo2"}, "other_patient": {"patient": "p_2"}, "unassigned": {"patient": None},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONTACTS.values(), ids=CONTACTS)
def test_what_shows_that_the_device_talks(changes: dict[str, Any]) -> None:
    ward = CgmWard()
    ward.wait(HOUR)
    assert kinds(ward.glucose(**changes)) == ["resolved"]
    assert ward.wait(HOUR - 20) == []


@pytest.mark.parametrize("changes", STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_contact(changes: dict[str, Any]) -> None:
    ward = CgmWard()
    ward.wait(HOUR // 2)
    ward.glucose(**changes)
    assert kinds(ward.wait(HOUR // 2)) == ["raised"], "it does not put the alert off"
    assert ward.glucose(**changes) == [], "nor end it"


def test_a_reading_that_waited_longer_than_the_window_is_no_contact() -> None:
    ward = CgmWard()
    ward.wait(2 * HOUR)
    assert ward.glucose(received_ns=at(ward.now - HOUR)) == []
    assert kinds(ward.glucose(received_ns=at(ward.now - HOUR + 1))) == ["resolved"]


def test_a_day_without_a_pipeline_is_not_a_day_of_silence() -> None:
    ward = CgmWard()
    ward.wait(40 * MINUTE)
    assert ward.outage(24 * HOUR) == []
    assert ward.wait(20 * MINUTE - 1) == [], "what was used before the outage stays used"
    (event,) = ward.wait(1)
    assert event.at_ns == at(25 * HOUR)


def test_pauses_of_up_to_30_seconds_count() -> None:
    ward = CgmWard()
    events: list[AlertEvent] = []
    for _ in range(HOUR // 30):
        events += ward.outage(30)
    assert kinds(events) == ["raised"]
    slower = CgmWard()
    for _ in range(2 * HOUR // 31):
        assert slower.outage(31) == []


def test_a_reading_taken_in_before_the_first_tick_after_an_outage_gives_a_full_window() -> None:
    ward = CgmWard()
    ward.wait(40 * MINUTE)
    ward.now += HOUR
    ward.glucose()
    ward.now += 1
    ward.tick(ward.now)
    assert ward.wait(HOUR - 1) == []
    assert kinds(ward.wait(1)) == ["raised"]


def test_a_clock_that_is_set_back_leaves_nobody_unwatched() -> None:
    ward = CgmWard()
    ward.now += 24 * HOUR
    ward.glucose()
    ward.tick(ward.now)
    ward.now -= 24 * HOUR
    ward.tick(ward.now)
    assert kinds(ward.wait(HOUR)) == ["raised"]


def test_changing_limits_keeps_the_count_and_removing_them_ends_the_watch() -> None:
    ward = CgmWard()
    ward.wait(30 * MINUTE)
    ward.set_limits(limit(**CGM | {"low": 60.0}))
    assert kinds(ward.wait(30 * MINUTE)) == ["raised"]
    ward.set_limits()
    assert ward.glucose() == [], "a person closes what stood when its rule went"
    assert [alert.rule for alert in ward.engine.open_alerts()] == ["silence:glucose_isf"]
    ward.set_limits(limit(**CGM))
    assert ward.wait(2 * HOUR) == [], "one alert a watch"
    assert kinds(ward.glucose()) == ["resolved"]
    ward.set_limits()
    assert ward.wait(3 * HOUR) == []


def test_people_handle_a_silence_like_any_alert() -> None:
    ward = CgmWard()
    ward.wait(HOUR)
    assert kinds(ward.do(ControlKind.ACKNOWLEDGE, ward.now)) == ["acknowledged"]
    assert kinds(ward.do(ControlKind.SHELVE, ward.now, until_ns=at(ward.now + 60), reason="changing the sensor")) == [
        "shelved"
    ]
    assert kinds(ward.wait(60)) == ["unshelved"]
    assert kinds(ward.do(ControlKind.RESOLVE, ward.now)) == ["resolved"]
    assert ward.wait(HOUR - 1) == [], "a person who closes it has a window's time"
    assert kinds(ward.wait(1)) == ["raised"]


def test_events_of_one_batch_come_in_the_order_of_its_rows() -> None:
    ward = CgmWard()
    ward.set_limits(limit(**CGM), limit())
    ward.set_limits(limit(**CGM), patient="p_2")
    ward.wait(HOUR)
    now = ward.now
    rows = [
        reading(now, 60.0, vital="glucose_isf"), reading(now, 80.0),
        reading(now, 60.0, vital="glucose_isf", patient="p_2"),
    ]  # fmt: skip
    assert [(e.patient, e.rule, e.kind) for e in ward.entry(batch(*rows))] == [
        ("p_1", "silence:glucose_isf", "resolved"), ("p_1", "limit:glucose_isf:low:S2", "raised"),
        ("p_1", "limit:spo2:low:S2", "raised"), ("p_2", "silence:glucose_isf", "resolved"),
        ("p_2", "limit:glucose_isf:low:S2", "raised"),
    ]  # fmt: skip


def test_many_watches_outlive_a_snapshot_each() -> None:
    ward = CgmWard()
    for number in range(200):
        ward.engine.apply(ward.engine.position + 1, limits_control(1, limit(**CGM), patient=f"q_{number}"))
    ward.wait(HOUR // 2)
    saved = ward.engine.snapshot()
    ward.engine = Engine.restore(saved)
    assert ward.engine.snapshot() == saved
    told = ward.wait(HOUR // 2)
    silent = [event for event in told if event.rule == "silence:glucose_isf" and event.number == 0]
    assert {event.state for event in silent} == {AlertState.SUPPRESSED}
    assert len({event.patient for event in silent}) == 201
    (storm,) = (event for event in told if event.rule == "technical:storm" and event.number == 0)
    assert storm.page, "the site is told once"


def test_a_snapshot_of_another_version_is_refused() -> None:
    state = msgspec.msgpack.decode(CgmWard().engine.snapshot())
    with pytest.raises(BackendError, match="version 2"):
        Engine.restore(msgspec.msgpack.encode([2, *state[1:]]))


def test_a_snapshot_with_watch_columns_of_another_length_is_refused() -> None:
    state = msgspec.msgpack.decode(CgmWard().engine.snapshot())
    state[3]["silence"]["columns"]["live"] = b"123"
    with pytest.raises(BackendError, match="snapshot"):
        Engine.restore(msgspec.msgpack.encode(state))


def lag(ward: Ward, seconds: int, *, active: bool) -> list[AlertEvent]:
    return ward.entry(control(ControlKind.TECHNICAL, seconds, "watchdog", **LAG, active=active))


class TestPipelineLag:
    def test_is_one_alert_of_the_site_until_it_is_over(self) -> None:
        ward = CgmWard()
        (raised,) = lag(ward, 5, active=True)
        assert (raised.patient, raised.rule, raised.severity) == ("", "technical:pipeline_lag", Severity.S2)
        assert (raised.kind, raised.at_ns) == ("raised", at(5))
        assert lag(ward, 6, active=True) == []
        (over,) = lag(ward, 7, active=False)
        assert (over.alert, over.state) == (raised.alert, AlertState.RESOLVED)
        assert lag(ward, 8, active=False) == []
        (again,) = lag(ward, 8, active=True)
        assert (again.kind, again.alert) == ("reopened", raised.alert)

    def test_can_be_closed_by_a_person(self) -> None:
        ward = CgmWard()
        lag(ward, 5, active=True)
        assert kinds(ward.do(ControlKind.RESOLVE, 6)) == ["resolved"]
        assert ward.engine.open_alerts() == []

    @pytest.mark.parametrize("body", [{"cause": "other", "active": True, "since_ns": 0}, {"cause": "pipeline_lag"}])
    def test_a_body_that_is_none_changes_nothing(self, body: dict[str, Any]) -> None:
        assert CgmWard().entry(control(ControlKind.TECHNICAL, 5, **body)) == []


class Site:
    """A real log and book under an engine that catches up when told; three patients with CGM limits."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(at(0))
        self.log = LocalLog(folder / "vitals.db", self.clock)
        self.book = SqlAlertBook(f"sqlite:///{folder / 'book.db'}")
        self.registry = SqlRegistry(folder / "registry.db", self.clock)
        for patient in ("p_1", "p_2", "p_3"):
            body = limits_control(1, limit(**CGM), patient=patient).body
            self.append(control(ControlKind.LIMITS, 0, "dr_a", **body))

    def append(self, *entries: Any) -> None:
        self.log.append([("vitals", encode(entry)) for entry in entries])

    def pass_time(self, seconds: int) -> None:
        """Ticks every 20 s; one process's life of the service folds them."""
        start = (self.clock.now_ns() - at(0)) // SECOND
        self.append(*(Tick(at(start + n)) for n in range(20, seconds + 1, 20)))
        self.clock.advance(seconds)

    def evaluate(self) -> None:
        """One life of the service, from its snapshot to the end of the log."""
        end = self.log.end()
        service = AlertService(self.log, self.book, Engine(), self.clock)
        service.run(_Until(lambda: self.book.position() == end))

    def rules(self) -> list[tuple[str, str, str]]:
        return sorted((alert.patient, alert.rule, str(alert.state)) for alert in self.book.alerts())


class _Until:
    """The service's stop event, set once the condition is true."""

    def __init__(self, condition: Any) -> None:
        self.is_set = condition

    def wait(self, _timeout_s: float) -> bool:
        return bool(self.is_set())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    yield opened
    opened.registry.close()
    opened.book.close()
    opened.log.close()


def test_over_a_real_log_silence_waits_for_the_pipeline_and_survives_restarts(site: Site) -> None:
    site.pass_time(30 * MINUTE)
    site.evaluate()
    site.clock.advance(24 * HOUR)
    site.evaluate()
    assert site.rules() == [], "a day has passed, half an hour was processed"
    site.pass_time(20 * MINUTE)
    site.append(batch(reading(24 * HOUR + 50 * MINUTE, 110.0, vital="glucose_isf", patient="p_2")))
    site.evaluate()
    assert site.rules() == []
    site.pass_time(20 * MINUTE)
    site.evaluate()
    silent = ("silence:glucose_isf", "active_unack")
    assert site.rules() == [("p_1", *silent), ("p_3", *silent)]
    site.append(batch(reading(24 * HOUR + 71 * MINUTE, 110.0, vital="glucose_isf", patient="p_1")))
    site.evaluate()
    assert site.rules() == [("p_1", "silence:glucose_isf", "resolved"), ("p_3", *silent)]


def test_people_cannot_say_what_the_system_says(site: Site) -> None:
    said = control(ControlKind.TECHNICAL, 0, **LAG, active=True)
    with pytest.raises(InvalidRequest, match="system"):
        check_control(site.book, site.book, said)
    end = site.log.end()
    with pytest.raises(InvalidRequest, match="system"):
        ControlDesk(site.log, site.book, site.book, site.registry).submit(said)
    assert site.log.end() == end
