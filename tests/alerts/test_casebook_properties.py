"""Invariants of clinical.md 5.5 over any course of events."""

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from alerts.cases.lifecycle import TABLE, Trigger
from tests.alerts.casebook_world import HOUR, Desk, key, subject
from vitals.glossary import AlertState, AlertStep, Severity
from vitals.records import AlertEvent

_CONDITIONS = [
    subject("a", 1, cause="heart"),
    subject("b", 2, cause="heart"),
    subject("c", 3, cause="oxygen"),
    subject("d", 2, spot=True, recheck_s=900),
    subject("silence:x", 3, technical=True),
    subject("e", 1, patient="p_2", cause="heart", spot=True),
    subject("silence:x", 3, patient="p_2", technical=True),
]
_WHAT = st.sampled_from(_CONDITIONS)
_KINDS_OF_TABLE = {(step.kind, state) for (state, _), step in TABLE.items()}


class CasebookMachine(RuleBasedStateMachine):
    """One script in two casebooks, one of which is restored from a snapshot whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Desk(), Desk()
        self.now = 0
        self.numbers: dict[str, int] = {}
        self.resolved_by: dict[str, str] = {}
        self.paused: set[str] = set()

    def _both(self, name: str, *arguments: Any, **named: Any) -> list[AlertEvent]:
        events: list[AlertEvent] = getattr(self.one, name)(*arguments, **named)
        again = getattr(self.two, name)(*arguments, **named)
        assert msgspec.json.encode(events) == msgspec.json.encode(again)
        self._check(events)
        return events

    def _check(self, events: Iterable[AlertEvent]) -> None:
        for event in events:
            number = self.numbers.get(event.alert, -1)
            assert event.number == number + 1, "one record per transition, no gaps"
            self.numbers[event.alert] = event.number
            AlertStep(event.kind)
            if event.severity is Severity.S1:
                assert event.state is not AlertState.SUPPRESSED
                if event.kind in ("raised", "reopened", "worsened"):
                    assert event.page, "nothing hides a new S1"
            if event.page:
                assert event.state in (AlertState.ACTIVE_UNACK, AlertState.RTN_UNACK)

    @rule(seconds=st.sampled_from([1, 60, 300, 900, 1800, HOUR, 5 * HOUR, 80 * HOUR]), parts=st.integers(1, 3))
    def tick(self, seconds: int, parts: int) -> None:
        began, self.now = self.now, self.now + seconds
        before = {case.id: case.level for case in self.one.book.open_alerts()}
        said: list[AlertEvent] = []
        for part in range(1, parts + 1):
            events = self._both("tick", began + seconds * part // parts, self.now)
            times = [event.at_ns for event in events]
            assert times == sorted(times), "in order of time"
            said += events
        steps = [event.alert for event in said if event.kind == "escalated"]
        assert len(steps) == len(set(steps)), "one step at a time"
        for event in said:
            if event.kind == "escalated" and event.severity is not Severity.S3 and not event.rule.startswith("silence"):
                restarted = {"unshelved", "still_abnormal", "recheck_due", "released", "raised", "reopened"}
                anew = any(other.alert == event.alert and other.kind in restarted for other in said)
                assert anew or event.level == min(before[event.alert] + 1, 3), "no rung is skipped"
            if event.kind == "resolved":
                assert event.severity is not Severity.S1, "time never ends an S1"

    @rule(what=_WHAT, doubted=st.booleans())
    def begin(self, what: Any, doubted: bool) -> None:
        held = self.one.book._held.get(key(what))
        known = self.one.book.is_open(key(what)) or (held is not None and held.trigger is Trigger.HOLDS)
        events = self._both("begin", self.now, what, Trigger.DOUBTED if doubted else Trigger.HOLDS)
        if what.severity is Severity.S1 and not known:
            assert any(event.page for event in events) or (not self.one.book.monitored(what.patient) and doubted)

    @rule(what=_WHAT, trigger=st.sampled_from([Trigger.ENDS, Trigger.REFUTED, Trigger.WORSENS, Trigger.WITHDRAWN]))
    def move(self, what: Any, trigger: Trigger) -> None:
        for event in self._both("move", self.now, what, trigger):
            if event.kind == "resolved" and event.severity is Severity.S1:
                assert _acknowledged(self.one.said, event.alert), "an S1 ends by a person alone"

    @rule(what=_WHAT)
    def rises(self, what: Any) -> None:
        self._both("move", self.now, what, Trigger.WORSENS, Severity.S1)

    @rule(what=_WHAT)
    def goes_silent(self, what: Any) -> None:
        before = [(case.id, case.live) for case in self.one.book.open_alerts()]
        self._both("stale", self.now, what)
        assert [(case.id, case.live) for case in self.one.book.open_alerts()] == before

    @precondition(lambda self: self.one.said)
    @rule(data=st.data(), act=st.sampled_from(["ack", "resolve", "shelve"]), author=st.sampled_from(["x", "y"]))
    def person(self, data: st.DataObject, act: str, author: str) -> None:
        alert = data.draw(st.sampled_from(sorted({event.alert for event in self.one.said})))
        if act == "shelve":
            self._both("shelve", self.now, self.now + data.draw(st.sampled_from([600, HOUR, 6 * HOUR])), alert, author)
            return
        self._both(act, self.now, alert)
        assert self._both(act, self.now, alert) == [], "idempotent"

    @rule(silent=st.integers(0, 10))
    def storm(self, silent: int) -> None:
        self._both("storm", self.now, silent, 20)

    @rule(what=_WHAT)
    def review(self, what: Any) -> None:
        assert [event.severity for event in self._both("review", self.now, what)] == [Severity.S3]

    @rule(
        patient=st.sampled_from(["p_1", "p_2"]), status=st.sampled_from(["active", "paused", "discharged"]),
        later=st.sampled_from([0, 0, HOUR]),
    )  # fmt: skip
    def status(self, patient: str, status: str, later: int) -> None:
        self._both("status", self.now, status, self.now + later, None, patient)

    @rule(count=st.integers(8, 12))
    def many(self, count: int) -> None:
        for number in range(count):
            self._both("begin", self.now, subject(f"many{number}", 3))

    @rule()
    def restart(self) -> None:
        self.two.reload()

    @invariant()
    def snapshots_are_equal(self) -> None:
        assert msgspec.msgpack.encode(self.one.book.dump()) == msgspec.msgpack.encode(self.two.book.dump())

    @invariant()
    def every_s1_that_waits_has_a_next_step(self) -> None:
        for case in self.one.book.open_alerts():
            if case.severity is Severity.S1 and case.live is not AlertState.ACTIVE_ACK:
                assert case.due_ns() is not None
                assert case.timer() is not None

    @invariant()
    def what_is_muted_is_counted(self) -> None:
        muted = [case for case in self.one.book.open_alerts() if case.state is AlertState.SUPPRESSED]
        assert self.one.book.suppressed() == len(muted)
        assert all(case.severity is not Severity.S1 for case in muted)


def _acknowledged(said: list[AlertEvent], alert: str) -> bool:
    kinds = [event.kind for event in said if event.alert == alert]
    pages = ("raised", "recurred", "reopened", "worsened", "still_abnormal", "recheck_due")
    if "acknowledged" not in kinds:
        return False
    after = kinds[len(kinds) - kinds[::-1].index("acknowledged") :]
    return not any(kind in pages for kind in after)


TestCasebook = CasebookMachine.TestCase
TestCasebook.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
