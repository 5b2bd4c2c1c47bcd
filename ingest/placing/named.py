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

HISTORY_NS = 72 * HOUR_NS
"""A reading that is older comes from a memory, and says nothing of who wears the device now."""
_OTHER = REASONS.index(Unplaced.OTHER_PATIENT)
_PAST = np.uint32(Flag.REPLAYED | Flag.RETRACTED)


def withhold(
    batch: VitalBatch, placed: Placed, named: Mapping[int, NamedPatient], patients: PatientCheck | None
) -> VitalBatch:
    """Take readings from the wearer where their message names another patient; ``named`` is by row.

    ``placed`` is changed: these rows have no patient, and the reason ``OTHER_PATIENT``. Without ``patients`` nothing is
    compared.
    """
    if not named or patients is None:
        return batch
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


def other_patients(batch: VitalBatch, placed: Placed, rows: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Devices with withheld readings among ``rows``, and the receipt of the first; not for readings of the past."""
    told = rows & (placed.patient == UNASSIGNED) & (placed.reason == _OTHER) & ((batch.flags & _PAST) == 0)
    told &= batch.received_ns - batch.time_ns <= HISTORY_NS
    found: dict[str, int] = {}
    for row in np.flatnonzero(told).tolist():
        found.setdefault(batch.devices[batch.device[row]], int(batch.received_ns[row]))
    return found
