"""Scripts of a ward under programmes as entries of the log: seeded or drawn items, each one thing that happens."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from alerts.judging.scoring import DEVICE
from tests.alerts.alert_world import Ward, at, batch, control, limit, limits_control, reading
from tests.alerts.programme_world import document
from tests.alerts.protocol_world import STUCK, doc
from vitals.glossary import ControlKind, EventKind, Flag
from vitals.model import Control, DeviceEvent, Entry, Tick

Item = tuple[Any, ...]
PATIENTS = ("p_1", "p_2")
VALUES: dict[str, Sequence[float]] = {
    "spo2": (82.0, 88.0, 92.0, 97.0, math.nan), "heart_rate": (38.0, 72.0, 115.0, 135.0),
    "glucose_isf": (50.0, 65.0, 80.0, 95.0, 110.0, 260.0), "weight": (80.0, 80.95, 81.4, 82.3, 78.0),
    "bp_sys": (75.0, 85.0, 122.0, 185.0), "symptoms": (0.0, 1.0, 2.0), "resp_rate": (16.0, 25.0), "temp": (36.8, 39.2),
    "o2_flow": (0.0, 2.0), "acvpu": (0.0, 1.0), "steps": (900.0, 5000.0),
}  # fmt: skip
"""What a story may measure: values on both sides of the shipped limits."""
FLAGS = (0, 0, 0, 0, 0, 0, Flag.SUSPECT, Flag.LOW_QUALITY, Flag.BELOW_RANGE, Flag.LATE, Flag.IMPLAUSIBLE,
         Flag.SENSOR_FAULT)  # fmt: skip
STEPS = (0, 10, 60, 300, 300, 3600, 43_200)
STATUSES = ("active", "paused", "hospitalised")
DECISIONS = ("acknowledge", "shelve", "note", "resolve")
EVENTS = (EventKind.BATTERY_LOW, EventKind.BATTERY_OK, EventKind.OFFLINE, EventKind.ONLINE)
PROGRAMMES = 3
CHANGES: Sequence[dict[str, Any]] = (
    {"rule": "heart_failure:H4-low", "changes": {"below": 90}}, {"rule": "heart_failure:H6", "off": True},
    {"rule": "rhythm:R1", "changes": {"at_or_above": 110}},
)  # fmt: skip


@functools.cache
def _documents(which: int) -> tuple[dict[str, Any], ...]:
    technical = [
        STUCK | {"after_s": 600},
        {"id": "F", "type": "technical", "title": "Faulty", "severity": "T", "trouble": "sensor_fault",
         "vital": "spo2", "after_s": 30},
        {"id": "B", "type": "technical", "title": "Battery", "severity": "T", "trouble": "battery"},
        {"id": "G", "type": "technical", "title": "Offline", "severity": "T", "trouble": "gateway", "after_s": 600},
    ]  # fmt: skip
    named = (
        (document("copd", {"spo2": "continuous"}), document("heart_failure"), document("post_surgical")),
        (document("diabetes"), document("rhythm"), document("hypertension"), doc(*technical)),
        (document("heart_failure"), document("rhythm"), document("post_surgical")),
    )
    return named[which]


class Story:
    """Turns items into entries of one row each, playing them to know which alerts there are to decide about."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._ward, self._now, self._version, self._readings = Ward(), 0, 0, list[dict[str, Any]]()
        for patient in PATIENTS:
            self._add(limits_control(1, limit(severity="S3", low=92.0), patient=patient))
        self._add(self._programme(0))
        for patient in PATIENTS:
            self._add(self._enrolment(patient, 0))
            self._add(self._context(patient, 1, "no", "no"))

    def _add(self, entry: Entry) -> None:
        self._ward.entry(entry)
        self.entries.append(entry)
        derived = self._ward.derived
        if derived is not None:
            assert derived.devices == (DEVICE,)
            self._add(derived)

    def _control(self, kind: ControlKind, **body: Any) -> Control:
        self._version += 1
        return control(kind, self._now, "dr_a", **({"version": self._version, "reason": "test"} | body))

    def _programme(self, which: int) -> Control:
        return self._control(
            ControlKind.PROGRAMME, programme="ward", title="Ward", protocols=list(_documents(which)),
            valid_from_ns=None, review_ns=at(self._now + 86_400),
        )  # fmt: skip

    def _enrolment(self, patient: str, changes: int) -> Control:
        own = [{"reason": "test", "until_ns": at(self._now + 3600), **one} for one in CHANGES[:changes]]
        return self._control(ControlKind.ENROLMENT, patient=patient, programmes=["ward"], overrides=own)

    def _context(self, patient: str, scale: int, oxygen: str, known_af: str) -> Control:
        return self._control(
            ControlKind.CONTEXT, patient=patient, age_band="adult", pregnancy="no", oxygen=oxygen, spo2_scale=scale,
            known_af=known_af, usual_confusion=False,
        )  # fmt: skip

    def _decision(self, kind: str, back: int) -> Control:
        alerts = list(dict.fromkeys(event.alert for event in self._ward.said))
        body: dict[str, Any] = {"alert": alerts[-1 - back] if back < len(alerts) else "a_unknown"}
        body |= {"note": "n"} if kind != "shelve" else {"until_ns": at(self._now + 300), "reason": "r"}
        return control(ControlKind(kind), self._now, **body)

    def _measured(self, patient: str, vital: str, value: float, flags: int, step: int) -> Entry:
        """``step`` seconds after the last reading; where it is less than nothing, of that time ago."""
        self._now += max(step, 0)
        row = reading(self._now + min(step, 0), value, flags=flags, patient=patient, vital=vital,
                      seq=len(self._readings), received_ns=at(self._now + 1), device=f"d-{patient}")  # fmt: skip
        self._readings.append(row)
        return batch(row)

    def _taken_back(self, back: int) -> Entry:
        gone = self._readings[-1 - back % len(self._readings)]
        return batch(gone | {"flags": int(Flag.RETRACTED | Flag.REVISION), "received_ns": at(self._now + 1)})

    def tell(self, item: Item) -> None:
        """One item; those that do not fit yet are passed over."""
        match item:
            case ("row", patient, vital, value, flags, step):
                self._add(self._measured(patient, vital, value, int(flags), step))
            case ("gone", back) if self._readings:
                self._add(self._taken_back(back))
            case ("tick", step):
                self._now += step
                self._add(Tick(at(self._now)))
            case ("beats", count):
                for _ in range(count):
                    self._now += 30
                    self._add(Tick(at(self._now)))
            case ("programme", which):
                self._add(self._programme(which))
            case ("enrol", patient, changes):
                self._add(self._enrolment(patient, changes))
            case ("context", patient, scale, oxygen, known_af):
                self._add(self._context(patient, scale, oxygen, known_af))
            case ("status", patient, status):
                body = {"patient": patient, "status": status, "from_ns": at(self._now), "check_ns": None}
                self._add(control(ControlKind.STATUS, self._now, "dr_a", **body))
            case ("device", patient, kind):
                self._add([DeviceEvent(f"d-{patient}", kind, at(self._now), value=12.0)])
            case (kind, back) if kind in DECISIONS:
                self._add(self._decision(kind, back))


def told(script: Sequence[Item]) -> list[Entry]:
    """A script as entries."""
    story = Story()
    for item in script:
        story.tell(item)
    return story.entries
