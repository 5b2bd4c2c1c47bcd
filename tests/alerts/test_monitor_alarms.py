"""Alarms that monitors raise themselves: from an ORU^R40 through ingest to the engine."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.bedside import Bedside, limits
from tests.ingest.ingest_world import World
from tests.support import SECOND
from vitals.glossary import AlertState, ControlKind, EventKind, Severity
from vitals.model import Control
from vitals.records import AlertEvent
from vitals.visibility import ShownIn, shown_in

DEVICE = "hl7v2-1"
SPO2 = "150456^MDC_PULS_OXIM_SAT_O2^MDC"
TEXT = "Jane Doe: SpO2 low"


class Monitor(Bedside):
    """A patient on a bedside monitor that tells its alarms."""

    def __init__(self, world: World) -> None:
        super().__init__(world, limits("limits"))
        world.device(DEVICE, "hl7v2")
        world.registry.assign(DEVICE, self.patient, from_ns=None, to_ns=None)

    def stamp(self, ago_s: float = 0) -> str:
        at_s = self.world.clock.now_ns() // SECOND - ago_s
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%d%H%M%S+0000")

    def message(
        self, phase: str = "start", words: str = "L~PH~SP", *, ident: str = "al_01", state: str = "", pid: str = "",
        event: str = "196670^MDC_EVT_LO_VAL^MDC", value: float | None = 84, ago_s: float = 0, trigger: str = "R40",
    ) -> bytes:  # fmt: skip
        rows = [f"OBX|1|ST|{event}|1.3.1.150456.1|{TEXT}|||{words}|||R|||{self.stamp(ago_s)}"]
        if value is not None:
            rows.append(f"OBX|2|NM|{SPO2}|1.3.1.150456.2|{value:g}|262688^MDC_DIM_PERCENT^MDC|88-92|L|||R")
        if phase:
            rows.append(f"OBX|3|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.3.1.150456.3|{phase}||||||R")
        if state:
            rows.append(f"OBX|4|ST|68482^MDC_ATTR_ALARM_STATE^MDC|1.3.1.150456.4|{state}||||||R")
        number = next(self.numbers)
        lines = [f"MSH|^~\\&|RPM|SITE|PAGER|HOSP|{self.stamp(ago_s)}||ORU^{trigger}^ORU_{trigger}|ALM{number}|P|2.6",
                 f"PID|||{pid}||Doe^Jane",
                 f"OBR|1|{ident}^RPM|{ident}^RPM|196616^MDC_EVT_ALARM^MDC|||{self.stamp(ago_s)}", *rows]  # fmt: skip
        return "\r".join([*lines, ""]).encode()

    def alarm(self, *args: Any, kind: str = "oru_r40", **parts: Any) -> list[AlertEvent]:
        return self.send(self.message(*args, **parts), "hl7v2", kind)

    def told(self) -> list[Control]:
        return [one for one in self.world.entries() if isinstance(one, Control) and one.kind is ControlKind.ALARM]

    def state(self, rule: str) -> AlertState | None:
        return next((one.state for one in self.engine.open_alerts() if one.rule == rule), None)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    world = World(tmp_path)
    yield Monitor(world)
    world.close()


def test_a_high_alarm_pages_in_the_words_of_its_code_and_its_end_waits_for_a_person(monitor: Monitor) -> None:
    [event] = monitor.alarm()
    assert (event.kind, event.rule, event.severity, event.patient, event.page) == (
        "raised", "monitor:spo2", Severity.S1, monitor.patient, True,
    )  # fmt: skip
    assert event.text == "The monitor alarms: Oxygen saturation 84 %, lo val (code 196670), high priority"
    assert [value["value"] for value in event.values] == [84]
    monitor.wait(20)
    [event] = monitor.alarm("end")
    assert (event.kind, event.state) == ("returned", AlertState.RTN_UNACK)
    [event] = monitor.do(ControlKind.ACKNOWLEDGE, event.alert)
    assert event.state is AlertState.RESOLVED
    assert not monitor.world.rows(), "an alarm is no reading"


@pytest.mark.parametrize(
    ("words", "severity"),
    [("L~PH~SP", Severity.S1), ("~PH~SA", Severity.S1), ("L~PM~SP", Severity.S2), ("L~~SP", Severity.S2),
     ("", Severity.S2), ("L~PL~SP", Severity.S3), ("L~PN~SA", Severity.S3)],
)  # fmt: skip
def test_the_priority_is_the_severity_and_every_alarm_stays_until_it_is_acknowledged(
    monitor: Monitor, words: str, severity: Severity
) -> None:
    [event] = monitor.alarm("start", words)
    assert (event.kind, event.severity) == ("raised", severity)
    monitor.wait(20)
    assert [one.state for one in monitor.alarm("end", words)] == [AlertState.RTN_UNACK]


def test_a_technical_alarm_is_an_event_of_the_device(monitor: Monitor) -> None:
    [event] = monitor.alarm("start", "~PH~ST", event="196802^MDC_EVT_LEADS_OFF^MDC", value=None)
    assert (event.rule, event.severity) == (f"technical:fault:{DEVICE}", Severity.S3)
    assert event.text == f"{DEVICE} reports a fault: alarm mdc:196802 (nobody is known to wear it)"
    assert not monitor.alarm("end", "~PH~ST", event="196802^MDC_EVT_LEADS_OFF^MDC", value=None)
    [fault] = monitor.world.service.device_state(DEVICE).faults
    assert (fault.kind, fault.detail) == (EventKind.SENSOR_STATUS, "alarm_mdc:196802")
    assert not monitor.told()


def test_it_is_one_incident_with_our_alert_on_the_vital(monitor: Monitor) -> None:
    [ours] = [event for event in monitor.spo2(80) if event.kind == "raised"]
    [theirs] = monitor.alarm("start", "L~PM~SP")
    assert theirs.incident == ours.incident
    assert not theirs.page, "somebody is asked already"


def test_a_repeated_alarm_is_told_once_and_again_when_it_goes_on_or_is_more_urgent(monitor: Monitor) -> None:
    payload = monitor.message("start", "L~PM~SP")
    [raised] = monitor.send(payload, "hl7v2", "oru_r40")
    assert not monitor.send(payload, "hl7v2", "oru_r40")
    for _ in range(3):
        monitor.wait(20)
        assert not monitor.alarm("continue", "L~PM~SP")
    assert len(monitor.told()) == 1
    [worse] = monitor.alarm("escalate", "L~PH~SP")
    assert (worse.kind, worse.alert, worse.severity) == ("worsened", raised.alert, Severity.S1)
    monitor.do(ControlKind.RESOLVE, raised.alert)
    monitor.wait(900)
    assert [one.rule for one in monitor.alarm("continue", "L~PH~SP")] == ["monitor:spo2"], "closed, and it goes on"


def test_an_alarm_that_goes_on_pages_although_it_began_long_ago(monitor: Monitor) -> None:
    payload = monitor.message("continue", ago_s=3600).replace(
        monitor.stamp(3600).encode() + b"||ORU", monitor.stamp().encode() + b"||ORU"
    )
    assert [event.kind for event in monitor.send(payload, "hl7v2", "oru_r40")] == ["raised"]


def test_two_alarms_on_one_vital_are_one_alert_until_both_are_over(monitor: Monitor) -> None:
    [raised] = monitor.alarm(ident="a")
    assert not monitor.alarm(ident="b", event="196672^MDC_EVT_DESAT^MDC")
    monitor.wait(20)
    assert not monitor.alarm("end", ident="a")
    assert [event.alert for event in monitor.alarm("end", ident="b")] == [raised.alert]


@pytest.mark.parametrize(("phase", "state"), [("reset", ""), ("continue", "inactive"), ("", "latched")])
def test_other_ways_to_say_that_it_is_over(monitor: Monitor, phase: str, state: str) -> None:
    monitor.alarm()
    monitor.wait(20)
    assert [event.kind for event in monitor.alarm(phase, state=state)] == ["returned"]


def test_an_alarm_of_an_instant_is_told_and_waits(monitor: Monitor) -> None:
    assert [event.kind for event in monitor.alarm("tpoint", "~PM~SA")] == ["raised", "returned"]


@pytest.mark.parametrize("parts", [{"phase": "end"}, {"phase": "start", "state": "latched"}])
def test_an_alarm_that_is_first_seen_when_it_is_over_is_told(monitor: Monitor, parts: dict[str, str]) -> None:
    begins = monitor.message()
    monitor.wait(20)
    raised, returned = monitor.alarm(**parts)
    assert (raised.kind, raised.rule, raised.severity, raised.page) == ("raised", "monitor:spo2", Severity.S1, True)
    assert (returned.kind, returned.state) == ("returned", AlertState.RTN_UNACK)
    assert not monitor.send(begins, "hl7v2", "oru_r40"), "its beginning comes later and adds nothing"
    monitor.wait(60)
    assert monitor.alarm(), "the next one pages"


def test_an_old_alarm_that_is_first_seen_when_it_is_over_is_reviewed(monitor: Monitor) -> None:
    [task] = monitor.alarm("end", ago_s=901)
    assert (task.rule, task.page) == ("review:monitor:spo2", False)


def test_an_end_that_never_comes_leaves_the_alert_open(monitor: Monitor) -> None:
    monitor.alarm()
    monitor.wait(6 * 3600)
    assert monitor.state("monitor:spo2") is AlertState.ACTIVE_UNACK


def test_an_alarm_older_than_the_paging_age_is_reviewed(monitor: Monitor) -> None:
    [task] = monitor.alarm(ago_s=901)
    assert (task.rule, task.page) == ("review:monitor:spo2", False)
    assert task.text.endswith("high priority: it came too late to page")


@pytest.mark.parametrize("days", [4, 40, 4000])
def test_an_alarm_of_whatever_age_is_in_a_list(monitor: Monitor, days: int) -> None:
    """A clock that is days behind looks like an alarm of days ago."""
    [task] = monitor.alarm(ago_s=days * 86_400)
    assert (task.rule, task.kind, task.role) == ("review:monitor:spo2", "raised", "nurse")
    [more] = monitor.alarm(ident="al_02", ago_s=days * 86_400 - 60)
    assert (more.alert, more.kind) == (task.alert, "added")
    assert not monitor.alarm(ident="al_02", ago_s=days * 86_400 - 60), "it repeats itself"


@pytest.mark.parametrize("year_s", [0, 946_684_800], ids=["1970", "2000"])
def test_an_alarm_of_a_clock_that_was_never_set_is_one_of_its_arrival(monitor: Monitor, year_s: int) -> None:
    def ago_s() -> float:
        return monitor.world.clock.now_ns() // SECOND - year_s

    [event] = monitor.alarm(ago_s=ago_s())
    assert (event.rule, event.page, event.severity) == ("monitor:spo2", True, Severity.S1)
    monitor.wait(30)
    assert [one.kind for one in monitor.alarm("end", ago_s=ago_s())] == ["returned"]


def test_an_imported_alarm_pages_nobody(monitor: Monitor) -> None:
    events = monitor.alarm(kind="oru_r40:history")
    assert [(event.rule, event.page) for event in events] == [("review:monitor:spo2", False)]


def test_an_alarm_of_nobody_is_an_alert_of_the_site(monitor: Monitor) -> None:
    monitor.world.device("spare", "hl7v2")
    monitor.world.send(monitor.world.message("spare", monitor.message(), "hl7v2", "oru_r40"))
    [event] = monitor._fold()
    assert (event.patient, event.rule, event.severity) == ("", "monitor:spare:spo2", Severity.S1)
    assert event.text.endswith(
        "Nobody knows whose alarm of device spare it is (nobody is recorded as its wearer): find the person"
    )
    assert not monitor.open()


def test_an_alarm_that_names_another_patient_is_an_alert_of_the_site(monitor: Monitor) -> None:
    monitor.world.known_as(monitor.patient, "12345")
    assert [event.patient for event in monitor.alarm(pid="0012345^^^HOSP^MR")] == [monitor.patient]
    [event] = monitor.alarm(ident="al_02", pid="777^^^HOSP^MR")
    assert (event.patient, event.rule) == ("", f"monitor:{DEVICE}:spo2")
    assert "(it names another patient than its wearer)" in event.text


def test_a_handed_over_device_ends_the_alarm_of_its_former_wearer(monitor: Monitor) -> None:
    [raised] = monitor.alarm()
    monitor.wait(20)
    other = monitor.world.registry.add_patient(zone="UTC").id
    monitor.world.registry.assign(DEVICE, other, from_ns=monitor.world.clock.now_ns(), to_ns=None)
    monitor.wait(20)
    events = monitor.alarm("continue")
    assert [(event.kind, event.patient) for event in events] == [("returned", monitor.patient), ("raised", other)]
    assert events[0].alert == raised.alert


def test_without_a_name_the_code_is_told_and_no_text_of_the_monitor_is_kept(monitor: Monitor) -> None:
    [event] = monitor.alarm("start", "~PM~SP", event="196616^Jane Doe is ill^MDC", value=None, trigger="R42")
    assert event.text == "The monitor alarms: Oxygen saturation, code 196616, medium priority"
    [event] = monitor.alarm("start", ident="x", event="3021^Jane Doe is ill^99X")
    assert event.text == "The monitor alarms: Oxygen saturation 84 %, code 99X:3021, high priority"
    nameless = monitor.message(ident="y", event="^^", value=None).replace(b"1.3.1.150456.", b"1.3.1.9.")
    [event] = monitor.send(nameless, "hl7v2", "oru_r40")
    assert (event.rule, event.text) == ("monitor:unknown", "The monitor alarms: high priority")
    monitor.world.close_core()
    assert b"Jane Doe" not in (monitor.world.path / "vitals.db").read_bytes()
    monitor.world.open()


def test_what_names_no_alarm_is_quarantined_and_a_heartbeat_is_none(monitor: Monitor) -> None:
    heartbeat = monitor.message().replace(b"196616^MDC_EVT_ALARM^MDC", b"196614^MDC_EVT_ACTIVE^MDC")
    assert not monitor.send(heartbeat, "hl7v2", "oru_r40")
    assert not monitor.world.service.quarantine()
    nothing = monitor.message("", "", event="^^", value=None)
    assert not monitor.send(nothing, "hl7v2", "oru_r40")
    [item] = monitor.world.service.quarantine()
    assert item.detail == "OBR[1]: no code of an alarm"


def test_an_alarm_survives_a_crash_between_two_messages_and_is_in_the_list_of_alerts(monitor: Monitor) -> None:
    monitor.alarm()
    monitor.world.restart()
    monitor.wait(20)
    assert not monitor.alarm("continue")
    assert [event.kind for event in monitor.alarm("end")] == ["returned"]
    assert +shown_in(monitor.told()) == {ShownIn.ALERTS: 2}
    ledger = monitor.world.service.ledger(DEVICE).messages
    assert (ledger.received, ledger.decoded) == (3, 3)
