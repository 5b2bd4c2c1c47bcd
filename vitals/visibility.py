"""Which list shows a reading, a message or an event: nothing that a device sends is in none."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from vitals.currency import AVERAGES
from vitals.glossary import NOT_SCORED, Basis, Described, Flag, Statistic
from vitals.model import UNASSIGNED, Control, DeviceEvent, VitalBatch
from vitals.records import Ledger, QuarantineItem


class ShownIn(Described):
    """Where people find what a device sent."""

    CURRENT = "current", "judged by the rules as it arrived; among the latest values and in the patient's history"
    HISTORY = "history", "stored, in the patient's history; a severe value that is not current opens a review"
    DOUBTFUL = (
        "doubtful",
        "no physiology: stored, in the worklist of doubtful values with its number; while it goes on, a fault of its "
        "device",
    )
    UNASSIGNED = "unassigned", "in the worklist of readings that wait for a patient"
    QUARANTINE = "quarantine", "in the list of messages that cannot be decoded"
    ALERTS = "alerts", "in the list of alerts"
    EVENTS = "events", "in the history of the device"
    KNOWN = "known", "the same as what was shown before"
    IN_FLIGHT = "in_flight", "received, and in a list as soon as it has been processed"


Shown = Control | DeviceEvent | Ledger | QuarantineItem | VitalBatch


def shown_in(items: Iterable[Shown]) -> Counter[ShownIn]:
    """How much of ``items`` each list shows: readings, events, quarantined messages and what ingest tells of alarms one
    by one, those of a ledger by its counts (stored readings count as history, whatever they were judged as)."""
    found: Counter[ShownIn] = Counter()
    for item in items:
        if isinstance(item, VitalBatch):
            found += _readings(item)
        elif isinstance(item, Ledger):
            found += _ledger(item)
        elif isinstance(item, Control):
            found[ShownIn.ALERTS] += 1
        else:
            found[ShownIn.EVENTS if isinstance(item, DeviceEvent) else ShownIn.QUARANTINE] += 1
    return found


def _readings(batch: VitalBatch) -> Counter[ShownIn]:
    waits = batch.patient == UNASSIGNED
    doubtful = ~waits & ((batch.flags & np.uint32(Flag.IMPLAUSIBLE)) != 0)
    judged = (batch.flags & np.uint32(NOT_SCORED)) == 0
    judged &= np.isin(batch.statistic, (Statistic.SINGLE, *AVERAGES)) & ~np.isin(
        batch.basis, (Basis.UNKNOWN, Basis.DAY)
    )
    return Counter({
        ShownIn.UNASSIGNED: int(waits.sum()), ShownIn.CURRENT: int((judged & ~waits).sum()),
        ShownIn.DOUBTFUL: int(doubtful.sum()), ShownIn.HISTORY: int((~judged & ~waits & ~doubtful).sum()),
    })  # fmt: skip


def _ledger(ledger: Ledger) -> Counter[ShownIn]:
    messages, readings = ledger.messages, ledger.readings
    return Counter({
        ShownIn.QUARANTINE: messages.quarantined, ShownIn.UNASSIGNED: readings.unassigned,
        ShownIn.HISTORY: readings.stored + readings.revision, ShownIn.KNOWN: messages.duplicate + readings.duplicate,
        ShownIn.IN_FLIGHT: messages.in_flight + readings.in_flight,
    })  # fmt: skip
