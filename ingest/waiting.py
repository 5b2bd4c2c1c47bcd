"""Readings that waited for a wearer, on their way to the patient whom they belong to by now."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest import unclaimed
from ingest.journal import worklist
from ingest.journal.identities import Cycle
from ingest.journal.tally import Tally
from ingest.journal.worklist import HeldItem, Waiting
from ingest.placing.attribution import Unplaced
from ingest.placing.named import HISTORY_NS, contradicted, forgotten
from vitals.glossary import Flag
from vitals.model import VitalBatch
from vitals.ports import PatientCheck

MOVED: Final = np.uint32(Flag.REVISION | Flag.LATE)
"""Flags of a reading that somebody else had before."""
AUTHOR: Final = "system"

Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Changes:
    """How many readings moved from one patient to another or to nobody, and how many came off the worklist."""

    withdrawn: int = 0
    placed: int = 0
    tally: Tally = field(default_factory=Tally)


def place_compared(
    cycle: Cycle, item: HeldItem, moved: VitalBatch, rows: Bools, done: Changes, patients: PatientCheck | None,
    now_ns: int,
) -> list[VitalBatch]:  # fmt: skip
    """:func:`place_waiting` for those of ``rows`` that name nobody else; the others go on waiting as ``other_patient``,
    and somebody is told unless they are old."""
    other = contradicted(moved, rows, patients)
    if other.any():
        waits = Waiting(item.item.device, Unplaced.OTHER_PATIENT.value, item.batch.take(other), item.recalled)
        idents = worklist.wait(cycle.sql, [waits])
        if now_ns - int(waits.batch.time_ns.max()) <= HISTORY_NS:
            unclaimed.tell_other_patients(cycle, {item.item.device: now_ns}, [waits], idents, AUTHOR)
        worklist.take(cycle.sql, item, other)
        item, moved, rows = item._replace(batch=item.batch.take(~other)), moved.take(~other), rows[~other]
    return place_waiting(cycle, item, moved, rows, done)


def place_waiting(cycle: Cycle, item: HeldItem, moved: VitalBatch, rows: Bools, done: Changes) -> list[VitalBatch]:
    """Give ``rows`` of an item to who they belong to, as ``moved`` says; what the log gets.

    A version that a newer one superseded while it waited counts as a revision and is not stored.
    """
    if not rows.any():
        return []
    device = item.item.device
    numbers = np.full(len(moved), cycle.device_id(device), np.int64)
    newest = rows & cycle.newest(numbers, moved)
    superseded = rows & ~newest
    worklist.take(cycle.sql, item, rows)
    again = newest & ((moved.flags & np.uint32(Flag.REVISION)) != 0)
    if not item.recalled:
        done.tally.add(device, "unassigned", -int(rows.sum()))
        done.tally.add(device, "revision", int((superseded | again).sum()))
    done.placed += int(newest.sum())
    kept = forgotten(moved.take(newest))
    extra = MOVED if item.recalled else np.uint32(Flag.LATE)
    return [kept.replace(flags=kept.flags | extra)] if len(kept) else []
