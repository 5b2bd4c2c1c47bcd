"""Events of the live stream, grouped by log position, and their form as server-sent events.

An event's id is its log position. Several events can share one; they leave together, and only the last carries the id,
so a client that resumes neither loses nor doubles a position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from dashboard_api.shapes import Json, device_event_json, readings_json, to_json, transition_json
from vitals.canary import CANARY_PATIENT, is_canary
from vitals.encoding import CorruptEntry, decode
from vitals.model import DeviceEvent, Entry, Tick, VitalBatch
from vitals.ports import AlertReader, Log
from vitals.times import rfc3339

Patients = frozenset[str]
"""Whose events a client wants; empty for everybody's."""
_READ_ROWS: Final = 32
_log = structlog.get_logger(__name__)


def rows_of(batch: VitalBatch, patients: Patients) -> npt.NDArray[np.bool_]:
    """Mask of the rows of ``patients``."""
    wanted = [number for number, token in enumerate(batch.patients) if token in patients]
    return np.isin(batch.patient, wanted)


@dataclass(slots=True)
class Group:
    """All events of one log position: its entry, and the alerts (as JSON) that it caused."""

    position: int
    entry: Entry | None = None
    alerts: list[Json] = field(default_factory=list)

    def weight(self) -> int:
        """How many events it holds, about."""
        return len(self.alerts) + (len(self.entry) if isinstance(self.entry, VitalBatch | list) else 1)

    def encode(self, patients: Patients) -> bytes:
        """Server-sent events for a client of ``patients``; empty when none are for it."""
        return _framed(self.position, self._events(patients))

    def _events(self, patients: Patients) -> list[tuple[str, Json]]:
        # Alerts first: a reading is never shown before the alert that it raised.
        events = [("alert", alert) for alert in self.alerts if not patients or alert["patient"] in patients]
        match self.entry:
            case VitalBatch() as batch:
                chosen = batch.take(rows_of(batch, patients)) if patients else batch
                events += [("reading", reading) for reading in readings_json(chosen)]
            case Tick() as tick:
                events.append(("tick", {"evaluated_to": rfc3339(tick.watermark_ns)}))
            case list() as happened if not patients:
                # Who wears a device is not in the log: a stream of some patients leaves device events out.
                events += [("device", device_event_json(one)) for one in happened if isinstance(one, DeviceEvent)]
        return events


def _framed(position: int, events: Sequence[tuple[str, Json]]) -> bytes:
    frames = [b"event: %s\ndata: %s\n" % (name.encode(), to_json(data)) for name, data in events]
    return b"\n".join(frames) + b"id: %d\n\n" % position if frames else b""


def read_groups(log: Log, book: AlertReader, after: int, upto: int) -> tuple[list[Group], int]:
    """The next groups with ``after < position <= upto``, and the position that they complete.

    Call again from there until it is ``upto``. Entries that cannot be read are left out: the live view is not where
    they are kept.
    """
    rows = [row for row in log.read(after, limit=_READ_ROWS) if row.position <= upto]
    reached = rows[-1].position if len(rows) == _READ_ROWS else upto
    groups: dict[int, Group] = {}
    for row in rows:
        try:
            groups[row.position] = Group(row.position, _of_the_ward(decode(row.body)))
        except CorruptEntry:
            _log.error("live.corrupt_entry", position=row.position)
    for position, event in book.events_between(after, reached):
        if is_canary(event.patient):
            continue
        group = groups.setdefault(position, Group(position))
        group.alerts.append(transition_json(book.alert_after(event.alert, event.number), event))
    return [groups[position] for position in sorted(groups)], reached


def _of_the_ward(entry: Entry) -> Entry:
    """An entry without the readings of the canary."""
    if isinstance(entry, VitalBatch) and CANARY_PATIENT in entry.patients:
        return entry.take(~rows_of(entry, frozenset({CANARY_PATIENT})))
    return entry
