"""What a limit does with readings, one sentence of its definition a test."""

import math
from typing import Any

import msgspec
import pytest

from tests.alerts.alert_world import START_NS, Ward, at, batch, kinds, limit, limits_control, reading
from vitals.glossary import NOT_SCORED, AlertState, Basis, ControlKind, EventKind, Flag, Severity, Statistic
from vitals.model import DeviceEvent, Heartbeat, Tick
from vitals.times import NO_TIME
from vitals.units import to_canonical

LOW_S1 = limit(severity="S1")
DELAYED = limit(on_delay_s=30.0)
BELOW, ABOVE, SUSPECT = int(Flag.BELOW_RANGE), int(Flag.ABOVE_RANGE), int(Flag.SUSPECT)


def test_without_delay_the_first_violating_row_raises() -> None:
    (event,) = Ward(limit()).read(0, 89.0)
    assert (event.kind, event.state, event.severity) == ("raised", AlertState.ACTIVE_UNACK, Severity.S2)
    assert (event.patient, event.rule, event.rule_version, event.number) == ("p_1", "limit:spo2:low:S2", 1, 0)
    assert event.at_ns == at(1), "the time is the receipt of the reading"
    assert event.text == "Oxygen saturation 89 %, limit 90 % (low)"
    assert event.values == ({"vital": "spo2", "value": 89.0, "unit": "%", "time_ns": at(0), "flags": []},)
    assert event.limit == {
        "vital": "spo2", "side": "low", "value": 90.0, "unit": "%", "deadband": 2.0, "on_delay_s": 0.0,
        "kind": "limit", "inclusive": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "value", "raises"),
    [
        (limit(), 90.0, False),
        (limit(), 89.999, True),
        (limit(low=None, high=97.0), 97.0, False),
        (limit(low=None, high=97.0), 97.001, True),
    ],
)
def test_a_reading_equal_to_the_limit_is_no_violation(rule: dict[str, Any], value: float, raises: bool) -> None:
    assert bool(Ward(rule).read(0, value)) is raises


def test_a_mmol_limit_meets_a_mmol_reading_exactly() -> None:
    ward = Ward(limit(vital="glucose_isf", unit="mmol/L", low=3.9, deadband=0.3))
    exactly = float(to_canonical(3.9, "mmol/L", "mg/dL"))
    assert ward.read(0, exactly, vital="glucose_isf") == []
    assert kinds(ward.read(1, math.nextafter(exactly, 0), vital="glucose_isf")) == ["raised"]


@pytest.mark.parametrize("flag", list(NOT_SCORED), ids=lambda flag: str(flag.name))
def test_rows_that_are_not_scored_neither_raise_nor_clear(flag: Flag) -> None:
    ward = Ward(limit())
    assert ward.read(0, 80.0, flags=int(flag)) == []
    ward.read(1, 80.0)
    assert ward.read(2, 99.0, flags=int(flag)) == []
    assert kinds(ward.read(3, 99.0)) == ["resolved"]


@pytest.mark.parametrize(
    "changes",
    [
        {"patient": None}, {"patient": "p_other"}, {"basis": int(Basis.DAY)}, {"basis": int(Basis.UNKNOWN)},
        {"time_ns": NO_TIME},
        {"statistic": int(Statistic.MINIMUM)}, {"vital": "pulse_rate"}, {"value": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_do_not_speak_for_the_slot_leave_no_trace(changes: dict[str, Any]) -> None:
    ward = Ward(limit())
    before = ward.engine.snapshot()
    row = reading(5, 80.0, **({"vital": "spo2"} | {k: v for k, v in changes.items() if k != "value"}))
    assert ward.entry(batch(row | {k: v for k, v in changes.items() if k == "value"})) == []
    _, _, _, watching, casebook = msgspec.msgpack.decode(before)
    _, _, _, watching_now, casebook_now = msgspec.msgpack.decode(ward.engine.snapshot())
    assert (watching["table"], casebook) == (watching_now["table"], casebook_now)


@pytest.mark.parametrize("basis", [Basis.DEVICE, Basis.DEVICE_ASSUMED_ZONE, Basis.HUB, Basis.RECEIVED])
def test_every_trusted_basis_is_scored(basis: Basis) -> None:
    assert kinds(Ward(limit()).read(0, 80.0, basis=int(basis))) == ["raised"]


def test_out_of_order_rows_neither_raise_nor_clear() -> None:
    ward = Ward(limit())
    ward.read(100, 95.0)
    assert ward.read(99, 80.0) == []
    assert kinds(ward.read(100, 80.0)) == ["raised"], "the same instant is in order"
    assert ward.read(99, 99.0) == []
    assert kinds(ward.read(101, 99.0)) == ["resolved"]


@pytest.mark.parametrize("value", [math.nan, 95.0, 10.0])
def test_coded_extremes_satisfy_every_limit_on_their_side(value: float) -> None:
    both = limit(low=90.0, high=97.0)
    (low,) = Ward(both).read(0, value, flags=BELOW)
    (high,) = Ward(both).read(0, value, flags=ABOVE)
    assert (low.rule, high.rule) == ("limit:spo2:low:S2", "limit:spo2:high:S2")
    assert low.quality == ("below_range",)
    assert low.values[0]["value"] == (None if math.isnan(value) else value)
    assert "below the sensor's range" in low.text


def test_a_coded_extreme_on_the_other_side_ends_the_condition() -> None:
    ward = Ward(limit())
    ward.read(0, math.nan, flags=BELOW)
    assert kinds(ward.read(1, math.nan, flags=ABOVE)) == ["resolved"]


def test_a_coded_extreme_is_never_held_for_suspect() -> None:
    (event,) = Ward(LOW_S1).read(0, math.nan, flags=BELOW | SUSPECT)
    assert (event.severity, event.rule) == (Severity.S1, "limit:spo2:low:S1")


def test_a_condition_is_left_beyond_the_deadband_only() -> None:
    ward = Ward(limit(), limit(low=None, high=97.0, deadband=1.0))
    ward.read(0, 89.0)
    assert ward.read(1, 91.999) == []
    assert kinds(ward.read(2, 92.0)) == ["resolved"]
    ward.read(3, 98.0)
    assert ward.read(4, 96.5) == []
    (event,) = ward.read(5, 96.0)
    assert (event.kind, event.rule) == ("resolved", "limit:spo2:high:S2")


def test_the_on_delay_counts_from_the_first_violating_row_to_a_later_one() -> None:
    ward = Ward(DELAYED)
    assert ward.read(0, 88.0) == []
    assert ward.read(29, 87.0) == []
    (event,) = ward.read(30, 86.0)
    assert (event.kind, event.at_ns) == ("raised", at(31))
    assert [value["value"] for value in event.values] == [88.0, 86.0]


def test_the_on_delay_elapses_by_a_tick_while_the_reading_is_fresh() -> None:
    ward = Ward(DELAYED)
    ward.read(0, 88.0)
    assert ward.tick(29.999) == []
    (event,) = ward.tick(45)
    assert (event.kind, event.at_ns) == ("raised", at(30)), "the deadline, not the tick"
    assert ward.tick(60) == []


def test_a_stale_reading_is_never_raised_by_a_tick() -> None:
    glucose = limit(vital="glucose_isf", unit="mg/dL", low=70.0, on_delay_s=600.0)
    ward, other = Ward(glucose), Ward(glucose)
    for each in (ward, other):
        each.read(0, 60.0, vital="glucose_isf")
    assert ward.tick(15 * 60 + 0.001) == []
    assert kinds(other.tick(15 * 60)) == ["raised"]
    assert kinds(ward.read(15 * 60 + 1, 60.0, vital="glucose_isf")) == ["raised"], "a fresh row proves that it held"


@pytest.mark.parametrize("back", [90.0, 95.0])
def test_a_condition_that_ends_before_its_delay_is_a_near_miss(back: float) -> None:
    ward = Ward(DELAYED)
    ward.read(0, 88.0)
    assert ward.read(10, back) == []
    assert ward.tick(60) == []
    assert ward.engine.near_misses("p_1") == 1
    assert ward.engine.near_misses("p_nobody") == 0


def test_clearing_is_judged_by_rows_over_the_off_delay() -> None:
    ward = Ward(limit(off_delay_s=60.0))
    ward.read(0, 88.0)
    assert ward.read(10, 95.0) == []
    assert ward.tick(3600) == [], "nothing resolves on absence of data"
    assert ward.read(69, 95.0) == []
    (event,) = ward.read(70, 95.0)
    assert (event.kind, event.at_ns) == ("resolved", at(71))


@pytest.mark.parametrize("between", [88.0, 91.0], ids=["violating", "inside the deadband"])
def test_what_is_not_beyond_the_deadband_restarts_the_clearing(between: float) -> None:
    ward = Ward(limit(off_delay_s=60.0))
    ward.read(0, 88.0)
    ward.read(10, 95.0)
    ward.read(40, between)
    assert ward.read(71, 95.0) == []
    assert ward.read(130, 95.0) == []
    assert kinds(ward.read(131, 95.0)) == ["resolved"]


def test_a_tick_never_resolves_anything() -> None:
    ward = Ward(limit(), LOW_S1)
    ward.read(0, 88.0)
    told = ward.tick(10 * 365 * 86_400)
    assert {event.kind for event in told} == {"escalated", "stale"}
    assert len(ward.engine.open_alerts()) == 2


class TestSuspectOnS1:
    def test_asks_for_confirmation_at_once(self) -> None:
        (event,) = Ward(LOW_S1).suspect(0, 65.0)
        assert (event.kind, event.severity, event.rule) == ("raised", Severity.S2, "limit:spo2:low:S1:confirm")
        assert event.quality == ("suspect",)
        assert "repeat the measurement now" in event.text

    def test_asks_without_waiting_for_the_on_delay(self) -> None:
        assert kinds(Ward(LOW_S1 | {"on_delay_s": 30.0}).suspect(0, 65.0)) == ["raised"]

    @pytest.mark.parametrize("flags", [0, SUSPECT])
    def test_a_second_violating_row_makes_it_s1(self, flags: int) -> None:
        ward = Ward(LOW_S1)
        (first,) = ward.suspect(0, 65.0)
        (second,) = ward.read(60, 66.0, flags=flags)
        assert (second.kind, second.severity, second.rule) == ("worsened", Severity.S1, "limit:spo2:low:S1")
        assert second.alert == first.alert
        assert [value["value"] for value in second.values] == [65.0, 66.0]
        assert "confirms" in second.text

    def test_silence_for_15_minutes_makes_it_s1(self) -> None:
        ward = Ward(LOW_S1)
        ward.suspect(0, 65.0)
        assert ward.tick(15 * 60 + 0.5) == [], "received a second after it was measured"
        (event,) = ward.tick(16 * 60)
        assert (event.kind, event.severity, event.at_ns) == ("worsened", Severity.S1, at(15 * 60 + 1))
        assert "no second reading within 15 minutes" in event.text

    def test_after_silence_made_it_s1_the_off_delay_runs_from_the_first_good_row(self) -> None:
        ward = Ward(LOW_S1 | {"off_delay_s": 60.0})
        ward.suspect(0, 65.0)
        ward.tick(3600)
        assert ward.read(3700, 97.0) == []
        assert kinds(ward.read(3760, 97.0)) == ["returned"]

    @pytest.mark.parametrize("value", [90.0, 97.0])
    def test_a_valid_reading_within_the_limit_refutes_it(self, value: float) -> None:
        ward = Ward(LOW_S1)
        ward.suspect(0, 65.0)
        (event,) = ward.read(60, value)
        assert (event.kind, event.state) == ("resolved", AlertState.RESOLVED)
        assert event.text.endswith("refuted by a second reading")
        assert ward.tick(3600) == []

    def test_a_suspect_reading_within_the_limit_refutes_nothing(self) -> None:
        ward = Ward(LOW_S1)
        ward.suspect(0, 65.0)
        assert ward.suspect(60, 97.0) == []
        assert kinds(ward.tick(901)) == ["worsened"]

    def test_an_acknowledged_request_still_escalates_and_asks_again(self) -> None:
        ward = Ward(LOW_S1)
        ward.suspect(0, 65.0)
        ward.do(ControlKind.ACKNOWLEDGE, 30)
        (event,) = ward.read(60, 66.0)
        assert (event.kind, event.state) == ("worsened", AlertState.ACTIVE_UNACK)

    def test_doubt_never_delays_what_a_sound_reading_began(self) -> None:
        ward = Ward(LOW_S1 | {"on_delay_s": 30.0})
        ward.read(0, 88.0)
        assert kinds(ward.suspect(10, 65.0)) == ["raised"]
        (event,) = ward.tick(31)
        assert (event.kind, event.severity, event.at_ns) == ("worsened", Severity.S1, at(30))

    def test_a_suspect_row_after_the_delay_raises_at_s1(self) -> None:
        ward = Ward(LOW_S1 | {"on_delay_s": 30.0})
        ward.read(0, 88.0)
        (event,) = ward.suspect(30, 65.0)
        assert (event.kind, event.severity) == ("raised", Severity.S1)

    def test_doubt_about_a_latched_alert_recurs_on_it_and_latches_again(self) -> None:
        ward = Ward(LOW_S1)
        (first,) = ward.read(0, 80.0)
        ward.read(10, 97.0)
        (again,) = ward.suspect(20, 65.0)
        assert (again.kind, again.alert, again.severity) == ("recurred", first.alert, Severity.S1)
        (back,) = ward.read(30, 97.0)
        assert (back.kind, back.state) == ("returned", AlertState.RTN_UNACK)
        ward.suspect(40, 65.0)
        assert ward.read(50, 65.0) == [], "it is S1 already"
        assert kinds(ward.read(60, 97.0)) == ["returned"]


class TestSuspectOnLowerSeverities:
    @pytest.mark.parametrize("severity", ["S2", "S3"])
    @pytest.mark.parametrize("second", [0, SUSPECT])
    def test_two_in_a_row_count_from_the_second(self, severity: str, second: int) -> None:
        ward = Ward(limit(severity=severity))
        assert ward.suspect(0, 65.0) == []
        (event,) = ward.read(10, 66.0, flags=second)
        assert (event.kind, event.severity.name) == ("raised", severity)
        assert [value["value"] for value in event.values] == [66.0]

    def test_the_delay_runs_from_the_second(self) -> None:
        ward = Ward(DELAYED)
        ward.suspect(0, 65.0)
        ward.read(20, 66.0)
        assert ward.tick(49) == []
        assert kinds(ward.tick(50)) == ["raised"]

    def test_a_good_row_between_forgets_the_first(self) -> None:
        ward = Ward(limit())
        ward.suspect(0, 65.0)
        ward.read(10, 95.0)
        assert ward.suspect(20, 65.0) == []
        assert ward.engine.near_misses("p_1") == 0

    def test_alone_it_never_raises(self) -> None:
        ward = Ward(limit())
        ward.suspect(0, 65.0)
        assert ward.tick(86_400) == []


class TestLimitsControl:
    def test_unchanged_slots_keep_their_state(self) -> None:
        ward = Ward(DELAYED)
        ward.read(0, 88.0)
        ward.limits(DELAYED, limit(vital="pulse_rate", unit="/min", low=50.0))
        assert kinds(ward.tick(30)) == ["raised"]

    def test_a_changed_rule_forgets_what_nobody_was_told(self) -> None:
        ward = Ward(DELAYED)
        ward.read(0, 88.0)
        ward.limits(DELAYED | {"low": 89.0})
        assert ward.tick(60) == []
        ward.limits(limit())
        ward.suspect(61, 80.0)
        ward.limits(limit(low=89.0))
        assert ward.suspect(62, 80.0) == [], "the remembered suspect row went with the rule"

    def test_an_open_alert_is_carried_to_the_changed_rule(self) -> None:
        ward = Ward(limit())
        (raised,) = ward.read(0, 88.0)
        assert ward.limits(limit(low=85.0, deadband=1.0)) == []
        (event,) = ward.read(10, 88.0)
        assert (event.kind, event.alert, event.rule_version) == ("resolved", raised.alert, 1)
        (new,) = ward.read(20, 84.0)
        assert (new.kind, new.alert, new.rule_version, new.limit["value"]) == ("reopened", raised.alert, 2, 85.0)

    def test_a_changed_rule_restarts_the_clearing(self) -> None:
        ward = Ward(limit(off_delay_s=60.0))
        ward.read(0, 88.0)
        ward.read(10, 95.0)
        ward.limits(limit(off_delay_s=30.0))
        assert ward.read(69, 95.0) == []
        assert kinds(ward.read(99, 95.0)) == ["resolved"]

    def test_an_alert_of_a_removed_rule_is_closed_by_a_person_only(self) -> None:
        ward = Ward(limit())
        ward.read(0, 88.0)
        assert kinds(ward.limits()) == ["stale"], "nothing can end it any more, and it says so"
        assert ward.read(10, 99.0) == []
        assert ward.do(ControlKind.ACKNOWLEDGE, 20)[0].state is AlertState.ACTIVE_ACK
        assert ward.read(30, 99.0) == []
        assert ward.do(ControlKind.RESOLVE, 40)[0].state is AlertState.RESOLVED
        assert ward.read(50, 80.0) == []

    def test_a_rule_that_comes_back_finds_its_open_alert(self) -> None:
        ward = Ward(limit())
        (raised,) = ward.read(0, 88.0)
        ward.limits()
        ward.limits(limit())
        assert ward.read(10, 88.0) == []
        (event,) = ward.read(20, 99.0)
        assert (event.kind, event.alert) == ("resolved", raised.alert)
        assert ward.engine.slot_count() == 1

    def test_a_request_to_confirm_outlives_its_rule(self) -> None:
        ward = Ward(LOW_S1)
        ward.suspect(0, 65.0)
        ward.limits()
        assert kinds(ward.tick(901)) == ["worsened"]

    def test_an_older_version_changes_nothing(self) -> None:
        ward = Ward(limit(), limit(low=None, high=99.0))
        ward.limits(limit())
        ward.entry(limits_control(1))
        ward.entry(limits_control(2))
        assert kinds(ward.read(0, 88.0)) == ["raised"]

    def test_patients_do_not_share_rules(self) -> None:
        ward = Ward(limit())
        for number in range(200):
            ward.entry(limits_control(1, limit(low=80.0, high=99.0), patient=f"p_x{number}"))
        assert ward.read(0, 85.0, patient="p_x150") == []
        (event,) = ward.read(0, 79.0, patient="p_x150")
        assert event.patient == "p_x150"
        assert kinds(ward.read(0, 85.0)) == ["raised"]


def test_severities_of_one_side_alert_apart_in_order() -> None:
    ward = Ward(limit(severity="S2", low=92.0), limit(severity="S1", low=88.0))
    assert [event.rule for event in ward.read(0, 85.0)] == ["limit:spo2:low:S1", "limit:spo2:low:S2"]
    (event,) = ward.read(10, 91.0)
    assert (event.rule, event.kind) == ("limit:spo2:low:S1", "returned")


def test_one_row_tells_the_low_side_before_the_high_side() -> None:
    ward = Ward(limit(severity="S1", low=None, high=97.0), limit(severity="S2"))
    ward.read(0, 99.0)
    assert [event.rule for event in ward.read(10, 80.0)] == ["limit:spo2:low:S2", "limit:spo2:high:S1"]


def test_ticks_tell_what_elapsed_in_order_of_deadline() -> None:
    pulse = limit(vital="pulse_rate", unit="/min", low=50.0, on_delay_s=10.0)
    ward = Ward(DELAYED, pulse)
    ward.read(0, 88.0)
    ward.read(5, 40.0, vital="pulse_rate")
    assert [event.at_ns for event in ward.tick(100)] == [at(15), at(30)]


def test_more_transitions_than_fit_the_buffer_all_come_out_in_order() -> None:
    ward = Ward(limit(), limit(low=None, high=97.0, deadband=1.0))
    values = [80.0, 99.0] * 6000
    events = ward.entry(batch(*(reading(n, value) for n, value in enumerate(values))))
    assert len(events) == 1 + 2 * (len(values) - 1)
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)


def test_more_deadlines_than_fit_the_buffer_all_elapse() -> None:
    ward = Ward()
    count = 5000
    for number in range(count):
        ward.entry(limits_control(1, DELAYED, patient=f"p_{number}"))
    ward.entry(batch(*(reading(0, 80.0, patient=f"p_{number}") for number in range(count))))
    assert len({event.patient for event in ward.tick(30)}) == count
    assert ward.tick(31) == []


@pytest.mark.parametrize("entry", [[DeviceEvent("d", EventKind.BATTERY, START_NS, value=10.0)], Heartbeat(START_NS)])
def test_other_entries_only_move_the_position(entry: Any) -> None:
    ward = Ward(limit())
    position = ward.engine.position
    assert ward.entry(entry) == []
    assert ward.engine.position == position + 1


def test_an_empty_engine_takes_readings_and_ticks() -> None:
    ward = Ward()
    assert ward.read(0, 10.0) == []
    assert ward.entry(Tick(START_NS)) == []


def test_entries_are_folded_in_order() -> None:
    ward = Ward(limit())
    with pytest.raises(ValueError, match="entry 1 after 1"):
        ward.engine.apply(1, Tick(START_NS))
