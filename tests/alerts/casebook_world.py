"""A casebook with conditions by short names, seconds instead of nanoseconds, and what it said."""

from typing import Any

import msgspec

from alerts.cases.casebook import Casebook
from alerts.cases.cases import Subject
from alerts.cases.lifecycle import Report, Trigger
from alerts.rules.spec import RuleFace
from vitals.glossary import ControlKind, Severity
from vitals.model import Control
from vitals.records import AlertEvent

S = 1_000_000_000
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600
T0 = 1_700_000_000
SLA_S = {1: 300, 2: 3600, 3: DAY}


def ns(seconds: float) -> int:
    return (T0 + int(seconds)) * S


def subject(name: str = "copd:P1", severity: int = 2, **changes: Any) -> Subject:
    """A condition of p_1, continuous and of the patient, unless ``changes`` say otherwise (fields of face too)."""
    quiet = name.startswith("silence:")
    face = RuleFace(name, 1, name.upper(), name, "nurse", SLA_S[severity], 0, technical=False, silence=quiet)
    face = face._replace(**{key: changes.pop(key) for key in list(changes) if key in RuleFace._fields})
    own = Subject("p_1", face, Severity(severity), False, {"value": 90.0}, (7, 4, 0, 0), "resolves by itself")
    return own._replace(**changes)


class Desk:
    """Each method is one call of the casebook at a second, and returns the events it caused."""

    def __init__(self) -> None:
        self.book = Casebook()
        self.said: list[AlertEvent] = []
        self.seq = 0
        self.closed: list[str] = []

    def _keep(self, events: list[AlertEvent]) -> list[AlertEvent]:
        self.said += events
        return events

    def begin(
        self, at: float, what: Subject, trigger: Trigger = Trigger.HOLDS, text: str = "low", *, same: bool = False
    ) -> list[AlertEvent]:
        """A new reading begins it, unless ``same``."""
        if not same:
            self.seq += 1
            what = what._replace(identity=(7, 4, ns(at), self.seq))
        report = Report(({"vital": "spo2", "value": 80.0},), (), text)
        return self._keep(self.book.begin(key(what), what, trigger, ns(at), report))

    def move(
        self, at: float, what: Subject, trigger: Trigger = Trigger.ENDS, severity: Severity | None = None
    ) -> list[AlertEvent]:
        report = Report(text=trigger.value)
        return self._keep(self.book.move(key(what), trigger, ns(at), report, severity=severity))

    def tick(self, at: float, whole: float | None = None) -> list[AlertEvent]:
        return self._keep(self.book.advance(ns(at), None if whole is None else ns(whole)))

    def do(
        self, kind: ControlKind, at: float, what: Subject | str, author: str = "nurse_a", **body: Any
    ) -> list[AlertEvent]:
        """A person does something to the newest alert of a condition, or the one with that id."""
        ident = what if isinstance(what, str) else self.last(what).alert
        if kind is ControlKind.SHELVE:
            body = {"until_ns": ns(body["until"]), "reason": "bath"}
        if kind is ControlKind.NOTE:
            body = {"note": "seen"}
        events, closed = self.book.control(Control(kind, ns(at), author, {"alert": ident} | body))
        self.closed += closed
        return self._keep(events)

    def ack(self, at: float, what: Subject | str) -> list[AlertEvent]:
        return self.do(ControlKind.ACKNOWLEDGE, at, what)

    def shelve(self, at: float, until: float, what: Subject | str, author: str = "nurse_a") -> list[AlertEvent]:
        return self.do(ControlKind.SHELVE, at, what, author, until=until)

    def resolve(self, at: float, what: Subject | str) -> list[AlertEvent]:
        return self.do(ControlKind.RESOLVE, at, what)

    def storm(self, at: float, silent: int, watched: int) -> list[AlertEvent]:
        return self._keep(self.book.storm(silent, watched, ns(at)))

    def stale(self, at: float, what: Subject) -> list[AlertEvent]:
        return self._keep(self.book.stale(key(what), ns(at), Report(text="no readings")))

    def review(self, at: float, what: Subject) -> list[AlertEvent]:
        report = Report(({"vital": "spo2", "value": 70.0},), ("late",), "severe, but late")
        return self._keep(self.book.review(what, ns(at), report))

    def status(
        self, at: float, status: str, start: float | None = None, check: float | None = None, patient: str = "p_1"
    ) -> list[AlertEvent]:
        start_ns = ns(at if start is None else start)
        return self._keep(self.book.status(patient, status, start_ns, None if check is None else ns(check), ns(at)))

    def last(self, what: Subject) -> AlertEvent:
        """The newest event of a condition's alert."""
        rule = what.face.name
        return next(event for event in reversed(self.said) if event.rule.removesuffix(":confirm") == rule)

    def reload(self) -> None:
        """Through a snapshot and back."""
        self.book = Casebook.load(msgspec.msgpack.decode(msgspec.msgpack.encode(self.book.dump())))


def key(what: Subject) -> str:
    return f"{what.patient}|{what.face.name}"


def told(events: list[AlertEvent]) -> list[str]:
    """``kind/state``, with a ``!`` when somebody is paged."""
    return [f"{event.kind}/{event.state}{'!' if event.page else ''}" for event in events]


def when(events: list[AlertEvent]) -> list[float]:
    return [event.at_ns / S - T0 for event in events]
