"""Messages that name another patient than the wearer of their device: their readings are nobody's until a person
decides (DESIGN section 2, promise 4)."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ingest.placing.attribution import REASONS, Placed, Unplaced
from vitals.glossary import Flag
from vitals.model import UNASSIGNED, VitalBatch
from vitals.ports import PatientCheck
from vitals.records import NamedPatient
from vitals.times import HOUR_NS

Bools = npt.NDArray[np.bool_]
HISTORY_NS = 72 * HOUR_NS
"""A reading that is older comes from a memory, and says nothing of who wears the device now."""
NAMED_KEY = "named"
"""Context key of a reading that waits: digests of the identifiers by which its message names a patient."""
_OTHER = REASONS.index(Unplaced.OTHER_PATIENT)
_PAST = np.uint32(Flag.REPLAYED | Flag.RETRACTED)


def withhold(
    batch: VitalBatch, placed: Placed, named: Mapping[int, NamedPatient], patients: PatientCheck | None
) -> VitalBatch:
    """Take readings from the wearer where their message names another patient; ``named`` is by row.

    ``placed`` is changed: these rows have no patient, and the reason ``OTHER_PATIENT``. Rows that have no patient yet
    keep digests of the identifiers in their context, until they are placed. Without ``patients`` nothing is compared.
    """
    if not named or patients is None:
        return batch
    kept = {row: patients.kept(who) for row, who in named.items() if placed.patient[row] == UNASSIGNED}
    if kept:
        context = {row: {**batch.context.get(row, {}), NAMED_KEY: digests} for row, digests in kept.items() if digests}
        batch = batch.replace(context={**batch.context, **context})
    rows = [row for row in named if placed.patient[row] != UNASSIGNED]
    verdicts: dict[tuple[int, NamedPatient], bool] = {}
    others = []
    for row in rows:
        asked = int(placed.patient[row]), named[row]
        if asked not in verdicts:
            verdicts[asked] = patients.contradicts(batch.patients[asked[0]], asked[1])
        if verdicts[asked]:
            others.append(row)
    if not others:
        return batch
    placed.patient[others], placed.reason[others] = UNASSIGNED, _OTHER
    return batch.replace(patient=placed.patient)


def forgotten(batch: VitalBatch) -> VitalBatch:
    """The batch without what was kept of identifiers."""
    if not any(NAMED_KEY in items for items in batch.context.values()):
        return batch
    context = {row: {k: v for k, v in items.items() if k != NAMED_KEY} for row, items in batch.context.items()}
    return batch.replace(context={row: items for row, items in context.items() if items})


def contradicted(batch: VitalBatch, rows: Bools, patients: PatientCheck | None) -> Bools:
    """Which of ``rows``, that waited and have a patient now, name another one."""
    out = np.zeros(len(batch), np.bool_)
    if patients is None:
        return out
    for row in np.flatnonzero(rows & (batch.patient != UNASSIGNED)).tolist():
        digests = batch.context.get(row, {}).get(NAMED_KEY, "")
        if digests:
            out[row] = patients.contradicts(batch.patients[batch.patient[row]], digests)
    return out


def other_patients(batch: VitalBatch, placed: Placed, rows: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Devices with withheld readings among ``rows``, and the receipt of the first; not for readings of the past."""
    told = rows & (placed.patient == UNASSIGNED) & (placed.reason == _OTHER) & ((batch.flags & _PAST) == 0)
    told &= batch.received_ns - batch.time_ns <= HISTORY_NS
    found: dict[str, int] = {}
    for row in np.flatnonzero(told).tolist():
        found.setdefault(batch.devices[batch.device[row]], int(batch.received_ns[row]))
    return found
