"""A patient with devices at a bedside: from a device's bytes through real ingest to the engine."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from alerts.engine import Engine
from tests.alerts.alert_world import limit
from tests.alerts.programme_world import document, enrolled, programme
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND
from vitals.encoding import decode, encode
from vitals.glossary import AlertState, ControlKind, Flag, Severity
from vitals.model import Control, VitalBatch
from vitals.records import AlertEvent

MINUTE = 60.0
ZONE = ZoneInfo("Europe/Berlin")
S1 = Severity.S1
CONFIRM_S = 15 * MINUTE
HEARTBEAT_S = 20.0
_LIMITS: tuple[dict[str, Any], ...] = (
    {"vital": "spo2", "unit": "%", "low": 90.0, "high": None, "deadband": 2.0},
    {"vital": "pulse_rate", "unit": "/min", "low": 40.0, "high": 130.0, "deadband": 5.0},
    {"vital": "glucose_bg", "unit": "mg/dL", "low": 54.0, "high": 400.0, "deadband": 5.0},
    {"vital": "glucose_isf", "unit": "mg/dL", "low": 54.0, "high": 250.0, "deadband": 5.0},
)


EVERY_S = {"spo2": 10.0, "pulse_rate": 10.0, "glucose_isf": 300.0}
"""How often a continuous device measures; others measure once."""
Vital = str
Side = str


class Expected(NamedTuple):
    """How urgent an extreme is, and how long after it began it is told at the latest."""

    severity: Severity
    within_s: float


class RuleSet(NamedTuple):
    """``entries`` set up a patient; ``expects`` is what they must do for a (vital, side), ``below`` or ``above``."""

    name: str
    entries: Callable[[str], Sequence[Control]]
    expects: Callable[[Vital, Side], Expected]


def limits(name: str, **changes: float) -> RuleSet:
    def entries(patient: str) -> Sequence[Control]:
        written = [limit(severity="S1", **(one | changes)) for one in _LIMITS]
        return [Control(ControlKind.LIMITS, 0, "dr_a", {"patient": patient, "version": 1, "reason": "test",
                                                        "limits": written})]  # fmt: skip

    told = Expected(S1, changes.get("on_delay_s", 0.0) + HEARTBEAT_S)
    return RuleSet(name, entries, lambda vital, side: told)


def shipped(name: str, mode: str) -> RuleSet:
    """The shipped protocols; ``mode`` is how SpO2 is measured."""

    def entries(patient: str) -> Sequence[Control]:
        documents = [document("copd", {"spo2": mode}), document("diabetes"), document("rhythm")]
        return [programme("ward", documents, 0), *enrolled(patient, ["ward"], 0)]

    def expects(vital: Vital, side: Side) -> Expected:
        match vital, side:
            case "glucose_isf", "below":
                return Expected(S1, 15 * MINUTE + 300.0)
            case "glucose_isf", _:
                return Expected(Severity.S2, 2 * 3600.0 + 300.0)
            case "glucose_bg", _:
                return Expected(S1, HEARTBEAT_S)
            case _:
                return Expected(S1, 10 * MINUTE)

    return RuleSet(name, entries, expects)


SPOT, CONTINUOUS = "protocols, spot", "protocols, continuous"
RULE_SETS = [
    limits("limits"), limits("delayed limits", on_delay_s=120.0, off_delay_s=60.0),
    shipped(SPOT, "spot"), shipped(CONTINUOUS, "continuous"),
]  # fmt: skip


class Bedside:
    """A patient with devices, behind real ingest; methods return what the engine says of it."""

    def __init__(self, world: World, rules: RuleSet) -> None:
        self.world, self.engine, self.rules = world, Engine(), rules
        self.patient = world.worn("json-1", "json")
        for adapter in ("ble_glucose", "dexcom"):
            world.device(f"{adapter}-1", adapter)
            world.registry.assign(f"{adapter}-1", self.patient, from_ns=None, to_ns=None)
        self.numbers = iter(range(1, 1000))
        for control in rules.entries(self.patient):
            self._append(control)

    def _append(self, control: Control) -> list[AlertEvent]:
        self.world.log.append([("vitals", encode(control))])
        return self._fold()

    def _fold(self) -> list[AlertEvent]:
        while self.world.service.step():
            pass
        events: list[AlertEvent] = []
        for row in self.world.log.read(self.engine.position, limit=100_000):
            events += self.engine.apply(row.position, decode(row.body)).events
        return events

    def send(self, payload: bytes, adapter: str = "json", kind: str = "") -> list[AlertEvent]:
        self.world.send(self.world.message(f"{adapter}-1", payload, adapter, kind))
        return self._fold()

    def read(self, *values: tuple[str, float, str]) -> list[AlertEvent]:
        """One message with readings of now."""
        now_ns = self.world.clock.now_ns()
        return self.send(json.dumps([reading(*value, now_ns) for value in values]).encode())

    def spo2(self, value: float) -> list[AlertEvent]:
        return self.read(("spo2", value, "%"))

    def wait(self, seconds: float) -> list[AlertEvent]:
        """Time passes, with a heartbeat every 20 s."""
        while seconds > 0:
            step = min(HEARTBEAT_S, seconds)
            self.world.clock.advance(step)
            self.world.heartbeat()
            seconds -= step
        return self._fold()

    def soon(self, vital: Vital = "spo2", side: Side = "below") -> list[AlertEvent]:
        """Until what must be told has been."""
        return self.wait(self.rules.expects(vital, side).within_s)

    def keep(self, vital: Vital, side: Side, send: Callable[[], list[AlertEvent]]) -> list[AlertEvent]:
        """Measure the same again and again until an alert as urgent as expected is told, or should have been; the
        alerts that were."""
        expected, events, waited_s = self.rules.expects(vital, side), list[AlertEvent](), 0.0
        while waited_s <= expected.within_s and not pages(events, expected.severity):
            step_s = EVERY_S.get(vital, expected.within_s)
            events += send() + self.wait(step_s)
            waited_s += step_s
        return pages(events, expected.severity)

    def racing(self) -> AlertEvent:
        """An alert on the pulse."""
        return self.keep("pulse_rate", "above", lambda: self.read(("pulse_rate", 150.0, "/min")))[0]

    def do(self, kind: ControlKind, alert: str, **body: Any) -> list[AlertEvent]:
        return self._append(Control(kind, self.world.clock.now_ns(), "nurse_b", {"alert": alert, **body}))

    def shelve(self, alert: str, minutes: float) -> list[AlertEvent]:
        until_ns = self.world.clock.now_ns() + int(minutes * MINUTE * SECOND)
        return self.do(ControlKind.SHELVE, alert, until_ns=until_ns, reason="probe is being changed")

    def flags(self) -> Flag:
        """Of the first row of the newest readings in the log."""
        batches = [entry for entry in self.world.entries() if isinstance(entry, VitalBatch)]
        return Flag(int(batches[-1].flags[0]))

    def open(self) -> list[str]:
        return [alert.rule for alert in self.engine.open_alerts() if alert.patient == self.patient]


def pages(events: Sequence[AlertEvent], severity: Severity = Severity.S3) -> list[AlertEvent]:
    """What interrupts somebody because of a condition that is as urgent as ``severity`` or more."""
    return [one for one in events if one.page and one.state is AlertState.ACTIVE_UNACK and one.kind != "noted"
            and one.severity <= severity and one.values]  # fmt: skip


def urgent(events: Sequence[AlertEvent]) -> list[AlertEvent]:
    return pages(events, S1)
