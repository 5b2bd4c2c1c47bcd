"""Patients under the shipped protocols, as the control entries that set them up."""

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from tests.alerts.alert_world import Ward, at, batch, reading
from vitals.glossary import ControlKind
from vitals.model import Control
from vitals.records import AlertEvent


def document(name: str, measures: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A shipped protocol as JSON; ``measures`` says how vital signs are measured where not as it says itself."""
    text = (resources.files("alerts") / "protocols" / f"{name}.toml").read_text(encoding="utf-8")
    shipped = tomllib.loads(text)
    return shipped | {"measures": shipped.get("measures", {}) | dict(measures or {})}


def programme(name: str, documents: Sequence[dict[str, Any]], time_ns: int) -> Control:
    """A programme of its first version, in force from then on."""
    body = {"programme": name, "version": 1, "title": name, "reason": "test", "protocols": list(documents),
            "valid_from_ns": None, "review_ns": None}  # fmt: skip
    return Control(ControlKind.PROGRAMME, time_ns, "dr_a", body)


def enrolled(patient: str, programmes: Sequence[str], time_ns: int, **context: Any) -> list[Control]:
    """An adult with the given clinical context, enrolled without overrides."""
    known = {"patient": patient, "version": 1, "reason": "test", "age_band": "adult", "pregnancy": "no", "oxygen": "no",
             "spo2_scale": 1, "known_af": "no", "usual_confusion": False} | context  # fmt: skip
    body = {"patient": patient, "version": 1, "reason": "test", "programmes": list(programmes), "overrides": []}
    return [Control(ControlKind.CONTEXT, time_ns, "dr_a", known), Control(ControlKind.ENROLMENT, time_ns, "dr_a", body)]


Row = tuple[float, str, float]
"""(second, vital, value); the vital ``TICK`` is a tick of the pipeline."""
TICK = "tick"


def rows(vital: str, *values: float, start: float = 0, every: float = 60) -> list[Row]:
    """A reading of each value, ``every`` seconds."""
    return [(start + number * every, vital, value) for number, value in enumerate(values)]


def day(number: int, hour: float = 7) -> float:
    """The second at which it is that hour of a whole day; the patient's clock shows UTC."""
    return 6400 + number * 86_400 + hour * 3600


def daily(vital: str, *values: float, first: int = 0, hour: float = 7) -> list[Row]:
    """A reading of each value, at the same hour of following days."""
    return [(day(first + number, hour), vital, value) for number, value in enumerate(values)]


class Enrolled(Ward):
    """A ward whose patient is in one programme, ``ward``, of the given protocols; an adult with this context."""

    def __init__(self, *documents: dict[str, Any], **context: Any) -> None:
        super().__init__()
        self.entry(programme("ward", documents, at(-20)))
        for control in enrolled("p_1", ["ward"], at(-20), **context):
            self.entry(control)

    def feed(self, script: Sequence[Row], **changes: Any) -> list[AlertEvent]:
        """Readings as one entry each, and ticks; what they caused."""
        events: list[AlertEvent] = []
        for seconds, vital, value in script:
            events += self.tick(seconds) if vital == TICK else self.read(seconds, value, vital=vital, **changes)
        return events

    def feed_at_once(self, script: Sequence[Row]) -> list[AlertEvent]:
        """Readings as one entry."""
        return self.entry(batch(*(reading(seconds, value, vital=vital) for seconds, vital, value in script)))

    def wait(self, start: float, end: float) -> list[AlertEvent]:
        """Ticks every 30 seconds."""
        events: list[AlertEvent] = []
        while start < end:
            start = min(start + 30, end)
            events += self.tick(start)
        return events

    def set_context(self, version: int, seconds: float, **context: Any) -> list[AlertEvent]:
        """The clinical context of the patient changes."""
        (changed, _) = enrolled("p_1", ["ward"], at(seconds), **({"version": version} | context))
        return self.entry(changed)

    def override(self, version: int, seconds: float, *overrides: dict[str, Any]) -> list[AlertEvent]:
        """The patient's own versions of rules are replaced."""
        body = {"patient": "p_1", "version": version, "reason": "test", "programmes": ["ward"],
                "overrides": [{"reason": "test", **one} for one in overrides]}  # fmt: skip
        return self.entry(Control(ControlKind.ENROLMENT, at(seconds), "dr_a", body))

    def adopt(self, version: int, seconds: float, *documents: dict[str, Any]) -> list[AlertEvent]:
        """The programme gets another version."""
        first = programme("ward", documents, at(seconds))
        return self.entry(Control(first.kind, first.time_ns, first.author, {**first.body, "version": version}))


def of_rule(events: Sequence[AlertEvent], rule: str) -> list[AlertEvent]:
    """What was said of one rule."""
    return [event for event in events if event.rule == rule]


def steps(events: Sequence[AlertEvent], rule: str) -> list[str]:
    """The kinds of what was said of one rule."""
    return [event.kind for event in of_rule(events, rule)]
