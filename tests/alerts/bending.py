"""Bent input: every format that a device speaks, with a fault in it, through ingest and the engine."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from alerts.engine import Engine
from simulators.formats import FORMATS, CarriedTime, Format, Sample
from tests.alerts.alert_world import limit
from tests.ingest.ingest_world import World, rows_of
from tests.support import SECOND
from vitals.catalog import BY_KEY
from vitals.encoding import decode, encode
from vitals.glossary import AlertState, ControlKind, Severity
from vitals.model import Control, DeviceEvent, Message, VitalBatch
from vitals.records import AlertEvent
from vitals.visibility import Shown, ShownIn, shown_in

ZONE: Final = ZoneInfo("Europe/Berlin")
SEVERE: Final[Mapping[str, float]] = {
    "spo2": 75, "heart_rate": 160, "pulse_rate": 160, "pulse_rate_nibp": 160, "resp_rate": 32, "bp_sys": 210,
    "bp_dia": 128, "temp": 40.5, "glucose_bg": 45, "glucose_isf": 45, "glucose": 45,
}  # fmt: skip
"""Beyond the red limits of clinical.md 1.3, and no rare value that must be confirmed."""
CALM: Final[Mapping[str, float]] = {
    "spo2": 97, "heart_rate": 70, "pulse_rate": 70, "pulse_rate_nibp": 70, "resp_rate": 15, "bp_sys": 122,
    "bp_dia": 78, "bp_mean": 93, "temp": 36.8, "glucose_bg": 105, "glucose_isf": 105, "glucose": 105,
}  # fmt: skip
_OTHER: Final = 20.0
SPEAKING: Final = [one for one in FORMATS if one.vitals & SEVERE.keys()]
"""Formats that can carry a severe value."""


def limits() -> list[dict[str, object]]:
    """An S1 limit between the calm and the severe value of each vital."""
    found = []
    for key, severe in SEVERE.items():
        half = (severe + CALM[key]) / 2
        low = severe < CALM[key]
        found.append(limit(
            vital=key, unit=BY_KEY[key].unit, low=half if low else None, high=None if low else half, severity="S1",
            deadband=0.0,
        ))  # fmt: skip
    return found


def name_of(of: Format) -> str:
    """Two formats of one kind are told apart by their titles."""
    return f"{of.name} ({of.title})"


class Bent:
    """A patient with one device for each format, behind real ingest."""

    def __init__(self, path: Path, formats: Sequence[Format] = SPEAKING) -> None:
        self.world, self.engine, self.formats = World(path), Engine(), formats
        self.devices: dict[str, str] = {}
        self.patients: dict[str, str] = {}
        self.events: list[AlertEvent] = []
        for number, of in enumerate(formats):
            device, name = f"d-{number}", name_of(of)
            self.devices[name], self.patients[name] = device, self.world.worn(device, of.adapter, zone=str(ZONE))
            body = {"patient": self.patients[name], "version": 1, "reason": "test", "limits": limits()}
            self.world.log.append([("vitals", encode(Control(ControlKind.LIMITS, 0, "dr_a", body)))])

    def close(self) -> None:
        self.world.close()

    def payload(self, of: Format, values: Mapping[str, float], at_ns: int, seq: int = 1) -> bytes:
        """A payload whose device shows ``at_ns``, UTC, as its time."""
        if of.time is CarriedTime.WALL:
            shift = datetime.fromtimestamp(at_ns // SECOND, UTC).astimezone(ZONE).utcoffset()
            assert shift is not None
            at_ns += int(shift.total_seconds()) * SECOND
        known = {key: values.get(key, CALM.get(key, _OTHER)) for key in of.vitals}
        return of.encode(Sample(known, at_ns, seq, self.world.clock.now_ns()), random.Random(7))

    def send(self, of: Format, payload: bytes) -> None:
        self.world.send(self.world.message(self.devices[name_of(of)], payload, of.adapter, of.kind))

    def fold(self) -> None:
        """Process and judge everything that was sent."""
        while self.world.service.step():
            pass
        for row in self.world.log.read(self.engine.position, limit=1_000_000):
            self.events += self.engine.apply(row.position, decode(row.body)).events

    def minute(self) -> None:
        """60 seconds go by, with heartbeats."""
        for _ in range(3):
            self.world.clock.advance(20)
            self.world.heartbeat()
        self.fold()

    def told(self, of: Format) -> list[str]:
        """Rules of what pages somebody with S1, or is a review of S1 that somebody owns, by a format's device."""
        found = []
        for one in self._about(of):
            pages = one.page and one.severity is Severity.S1 and one.state is AlertState.ACTIVE_UNACK
            owned = one.rule.startswith("review:") and one.severity is Severity.S1 and bool(one.role)
            if pages or (owned and one.kind == "raised"):
                found.append(one.rule)
        return found

    def reviewed(self, of: Format) -> bool:
        """Whether somebody owns a review, however urgent."""
        return any(one.rule.startswith("review:") and one.kind == "raised" and one.role for one in self._about(of))

    def _about(self, of: Format) -> Iterator[AlertEvent]:
        device, patient = self.devices[name_of(of)], self.patients[name_of(of)]
        return (one for one in self.events if one.patient == patient or one.rule == f"review:unclaimed:{device}")

    def visible(self) -> dict[int, Counter[ShownIn]]:
        """Where each message is shown, by its ordinal."""
        items: dict[int, list[Shown]] = {}
        for ordinal, item in self._items():
            items.setdefault(ordinal, []).append(item)
        return {message.ordinal: shown_in(items.get(message.ordinal, [])) for message in self._messages()}

    def _messages(self) -> Iterator[Message]:
        for row in self.world.raw.read(0, limit=1_000_000):
            entry = decode(row.body)
            if isinstance(entry, list):
                for index, message in enumerate(entry):
                    assert isinstance(message, Message)
                    yield Message(message.device, message.adapter, message.kind, message.received_ns, message.payload,
                                  ordinal=(row.position << 16) | index)  # fmt: skip

    def _items(self) -> Iterator[tuple[int, Shown]]:
        held = [decode(body) for (body,) in self.world.log.query("SELECT body FROM unassigned")]
        for entry in (*self.world.entries(), *held):
            if isinstance(entry, VitalBatch):
                for row, reading in enumerate(rows_of(entry)):
                    yield reading["message"], entry.take(np.array([row]))
            elif isinstance(entry, list):
                yield from ((one.message, one) for one in entry if isinstance(one, DeviceEvent))
        for ident, message in self.world.log.query("SELECT id, message FROM quarantine"):
            yield message, self.world.journal.quarantine_item(str(ident))[0]


Member = str
"""Names on the way to a scalar of a JSON document, without places in lists: ``records.value``."""
WRONG: Final = {"bent": True}


def members_of(payload: bytes) -> list[Member]:
    """The scalars of a JSON document; of any other payload none."""
    if payload[:1] not in {b"{", b"["}:
        return []
    return list(dict.fromkeys(".".join(names) for names, _, _ in _scalars(json.loads(payload), ())))


def _scalars(node: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(names, container, key in it) of each scalar below ``node``."""
    pairs = list(node.items() if isinstance(node, dict) else enumerate(node))
    for key, value in pairs:
        below = (*names, key) if isinstance(key, str) else names
        if isinstance(value, dict | list):
            yield from _scalars(value, below)
        else:
            yield below, node, key


def with_wrong_type(of: Format, member: Member) -> Format:
    """The format with an object wherever ``member`` stands."""

    def encode(sample: Sample, rng: random.Random) -> bytes:
        document = json.loads(of.encode(sample, rng))
        for names, container, key in _scalars(document, ()):
            if ".".join(names) == member:
                container[key] = WRONG
        return json.dumps(document).encode()

    return replace(of, title=f"{of.title}, {member}", encode=encode)


def rewritten(of: Format, title: str, rewrite: Callable[[bytes], bytes]) -> Format:
    """The format with other bytes for the same values."""
    return replace(of, title=f"{of.title}, {title}", encode=lambda sample, rng: rewrite(of.encode(sample, rng)))
