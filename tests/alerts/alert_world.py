"""A small world for the alert tests: one ward with readings by the second, an engine, and what it said."""

from typing import Any

from alerts.engine import Engine
from vitals.catalog import BY_KEY
from vitals.glossary import ControlKind, Flag
from vitals.model import Control, Entry, Tick, VitalBatch, batch_from_rows
from vitals.records import AlertEvent

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND


def at(seconds: float) -> int:
    return START_NS + int(seconds * SECOND)


def limit(**changes: Any) -> dict[str, Any]:
    """SpO2 under 90 % is S2; left at 92."""
    return {
        "vital": "spo2", "unit": "%", "low": 90.0, "high": None, "severity": "S2", "deadband": 2.0,
        "on_delay_s": 0.0, "off_delay_s": 0.0,
    } | changes  # fmt: skip


def reading(seconds: float, value: float, *, flags: int = 0, vital: str = "spo2", **changes: Any) -> dict[str, Any]:
    row = {
        "device": "d", "patient": "p_1", "vital": BY_KEY[vital].code, "time_ns": at(seconds), "value": value,
        "flags": flags, "received_ns": at(seconds + 1), "seq": int(seconds), "message": 7,
    }  # fmt: skip
    return row | changes


def batch(*rows: dict[str, Any]) -> VitalBatch:
    return batch_from_rows(rows)


def limits_control(version: int, *limits: dict[str, Any], patient: str = "p_1") -> Control:
    body = {"patient": patient, "version": version, "reason": "test", "limits": list(limits)}
    return Control(ControlKind.LIMITS, at(-10), "dr_a", body)


def control(kind: ControlKind, seconds: float, author: str = "nurse_b", **body: Any) -> Control:
    return Control(kind, at(seconds), author, body)


class Ward:
    """An engine with the limits of one patient; each method is one entry and returns the events it caused."""

    def __init__(self, *limits: dict[str, Any]) -> None:
        self.engine = Engine()
        self.said: list[AlertEvent] = []
        self.derived: VitalBatch | None = None
        self.versions = 0
        if limits:
            self.limits(*limits)

    def entry(self, entry: Entry) -> list[AlertEvent]:
        events, self.derived = self.engine.apply(self.engine.position + 1, entry)
        self.said += events
        return events

    def limits(self, *limits: dict[str, Any]) -> list[AlertEvent]:
        self.versions += 1
        return self.entry(limits_control(self.versions, *limits))

    def read(self, seconds: float, value: float, *, flags: int = 0, **changes: Any) -> list[AlertEvent]:
        return self.entry(batch(reading(seconds, value, flags=flags, **changes)))

    def suspect(self, seconds: float, value: float, **changes: Any) -> list[AlertEvent]:
        return self.read(seconds, value, flags=int(Flag.SUSPECT), **changes)

    def tick(self, seconds: float) -> list[AlertEvent]:
        return self.entry(Tick(at(seconds)))

    def do(self, kind: ControlKind, seconds: float, **body: Any) -> list[AlertEvent]:
        """A control about the alert that spoke last, unless ``alert`` says another."""
        return self.entry(control(kind, seconds, **({"alert": self.said[-1].alert} | body)))


def kinds(events: list[AlertEvent]) -> list[str]:
    return [event.kind for event in events]
