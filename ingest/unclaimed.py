"""Extreme values without a patient, and devices that name another patient than their wearer: written to the log, so
that an alert is raised (DESIGN, promises 4 and 6).

Readings whose wearer is not known wait as unassigned and page nobody. Among them may be a meter's LO or a value beyond
the red limits of clinical.md 1.3, from a person who is in danger now.
"""

from collections.abc import Collection, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ingest.doubts import GLUCOSE, LOW_GLUCOSE, REREAD, UNIT_SUSPECT
from ingest.journal.identities import Cycle
from ingest.journal.worklist import Waiting
from ingest.placing import clocks
from ingest.placing.attribution import Unplaced
from ingest.quality import IS_VALUE
from vitals.catalog import BY_CODE, is_urgent
from vitals.glossary import Basis, ControlKind, EventKind, Flag
from vitals.model import Control, DeviceEvent, VitalBatch
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS, NO_TIME

APART_NS: Final = 15 * MINUTE_NS
"""A device's next extreme is told of after this long: what was told stays until a person acts."""
HISTORY_NS: Final = 72 * HOUR_NS
"""What is known to be older is a memory that was read out, not somebody's state."""
NOT_FINAL: Final = frozenset({"status_registered", "status_unknown"})
"""Reasons by which adapters say that the source does not stand by a value yet."""
_CODED: Final = np.uint32(Flag.BELOW_RANGE | Flag.ABOVE_RANGE)
_NOBODY: Final = np.uint32(
    Flag.REPLAYED | Flag.RETRACTED | Flag.REVISION | Flag.CONTROL_SOLUTION | Flag.TEST_DATA | Flag.SENSOR_FAULT
)
"""History, or no value of a person."""


def tell(
    cycle: Cycle, waiting: Sequence[Waiting], idents: Sequence[str], assigned: Collection[str], author: str
) -> None:
    """Append an ``unclaimed`` control for each device with live extremes among ``waiting``, whose items are ``idents``,
    in the cycle's transaction; none within ``APART_NS`` after the one before, by the times of receipt.

    The body: device, vital (key), value (canonical; None without a number) and flags of the first of them, when it was
    received, why it waits, the items that hold extremes, and whether somebody wears the device now: ``assigned`` holds
    such devices.
    """
    bodies: dict[str, dict[str, Any]] = {}
    for item, ident in zip(waiting, idents, strict=True):
        rows = np.flatnonzero(live_extremes(item.batch))
        if len(rows):
            body = bodies.setdefault(item.device, _body(item, int(rows[0])) | {"assigned": item.device in assigned})
            body["items"].append(ident)
    for device, body in bodies.items():
        if _is_due(cycle.sql, device, body["received_ns"]):
            cycle.append(Control(ControlKind.UNCLAIMED, body["received_ns"], author, body))


def tell_doubts(cycle: Cycle, events: Sequence[DeviceEvent], received_ns: Mapping[int, int], author: str) -> None:
    """The same for a number beyond the red limits that no reading stands for: it came under a code of two vitals, or
    with a status that is not final, cannot be read as a whole, or is possible in another unit only. A person is asked
    to look. ``reason`` is ``code_conflict``, ``unreadable``, the word of the status or ``unit_suspect``, and no item
    holds it. ``received_ns`` has the messages by ordinal that are not history; a value that is known to be older than
    ``HISTORY_NS`` is history too."""
    for event in events:
        reason, at_ns = _doubt(event), received_ns.get(event.message)
        if not reason or event.value is None or not event.vital or at_ns is None or at_ns - event.time_ns > HISTORY_NS:
            continue
        if not is_urgent(np.array([event.vital], np.uint16), np.array([event.value]))[0]:
            continue
        body = {
            "device": event.device, "vital": BY_CODE[event.vital].key, "value": event.value, "flags": 0,
            "received_ns": at_ns, "reason": reason, "items": [],
        }  # fmt: skip
        if _is_due(cycle.sql, event.device, at_ns):
            cycle.append(Control(ControlKind.UNCLAIMED, at_ns, author, body))


def _doubt(event: DeviceEvent) -> str:
    """Why no reading stands for the value of an event; empty where one does, or there is none to look for."""
    match event.kind:
        case EventKind.CODE_CONFLICT | EventKind.UNREADABLE:
            return event.kind.value
        case EventKind.VALUE_ABSENT if event.detail in NOT_FINAL:
            return event.detail
        case EventKind.SENSOR_STATUS if event.detail == UNIT_SUSPECT:
            low = event.vital in GLUCOSE and event.value is not None and event.value < LOW_GLUCOSE
            return event.detail if low or event.vital not in REREAD else ""
        case _:
            return ""


def tell_other_patients(
    cycle: Cycle, devices: Mapping[str, int], waiting: Sequence[Waiting], idents: Sequence[str], author: str
) -> None:
    """Append an ``other_patient`` control for each of ``devices`` (first receipt) that name another patient than their
    wearer, with the items that wait for it; likewise at most one within ``APART_NS``."""
    for device, received_ns in devices.items():
        items = [ident for item, ident in zip(waiting, idents, strict=True)
                 if item.device == device and item.reason == Unplaced.OTHER_PATIENT]  # fmt: skip
        if _is_due(cycle.sql, f"{device} {Unplaced.OTHER_PATIENT}", received_ns):
            body = {"device": device, "received_ns": received_ns, "items": items}
            cycle.append(Control(ControlKind.OTHER_PATIENT, received_ns, author, body))


def live_extremes(batch: VitalBatch) -> npt.NDArray[np.bool_]:
    """Rows beyond the sensor's range or the red limits that may be current."""
    urgent = is_urgent(batch.vital, batch.value) & IS_VALUE[batch.statistic]
    urgent &= (batch.flags & np.uint32(Flag.IMPLAUSIBLE)) == 0
    extreme = (urgent | ((batch.flags & _CODED) != 0)) & ((batch.flags & _NOBODY) == 0)
    return np.asarray(extreme & ~_history(batch), np.bool_)


def _history(batch: VitalBatch) -> npt.NDArray[np.bool_]:
    """Rows that are older than ``HISTORY_NS`` whatever their time can mean."""
    measured_ns = np.where(batch.end_ns == NO_TIME, batch.time_ns, batch.end_ns)
    # A wall time of no known zone, and a day, may have been that much later.
    measured_ns = measured_ns + np.where(np.isin(batch.basis, (Basis.UNKNOWN, Basis.DAY)), clocks.WEST_NS, 0)
    measured_ns += np.where(batch.basis == Basis.DAY, DAY_NS, 0)
    return np.asarray(batch.received_ns - measured_ns > HISTORY_NS, np.bool_)


def _body(item: Waiting, row: int) -> dict[str, Any]:
    batch, value = item.batch, float(item.batch.value[row])
    return {
        "device": item.device, "vital": BY_CODE[int(batch.vital[row])].key, "value": None if np.isnan(value) else value,
        "flags": int(batch.flags[row]), "received_ns": int(batch.received_ns[row]), "reason": str(item.reason),
        "items": [],
    }  # fmt: skip


def _is_due(sql: Connection, device: str, received_ns: int) -> bool:
    """Whether the last entry under ``device`` is old enough; records the new one. Tokens of devices hold no space, so
    that another word behind one is a key of its own."""
    told = sql.execute("SELECT told_ns FROM unclaimed WHERE device=?", (device,)).fetchone()
    # One that lies ahead was told before the gateway's clock was set back.
    if told is not None and 0 <= received_ns - told[0] < APART_NS:
        return False
    sql.execute(
        "INSERT INTO unclaimed VALUES(?,?) ON CONFLICT(device) DO UPDATE SET told_ns=excluded.told_ns",
        (device, received_ns),
    )
    return True
