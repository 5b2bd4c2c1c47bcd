"""``place`` with words for numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingest.adapter import Columns, ReadingsBuilder, SourceClock, unit_code, vital_code
from ingest.placing.attribution import REASONS, place
from ingest.placing.wear import WearTable
from vitals.glossary import Basis, Flag
from vitals.model import UNASSIGNED
from vitals.records import Device

MINUTE, HOUR = 60_000_000_000, 3_600_000_000_000


@dataclass(frozen=True)
class Row:
    device: int
    clock: SourceClock
    source_ns: int
    received_ns: int
    seq: int = 0
    offset_ns: int = 0


@dataclass(frozen=True)
class Result:
    time_ns: int
    basis: Basis
    tz_min: int
    suspect: bool
    patient: str | None
    reason: str | None
    trusted: bool


def columns_of(rows: Sequence[Row]) -> Columns:
    builder = ReadingsBuilder()
    for number, row in enumerate(rows):
        builder.add(
            number, vital_code("spo2"), 97.0, unit_code("%"), row.source_ns, clock=row.clock, seq=row.seq
        )  # fmt: skip
    return builder.build()


def placed(rows: Sequence[Row], worn: WearTable, devices: Sequence[Device]) -> list[Result]:
    """What ``place`` makes of the rows in one batch; the table learns from it as the pipeline lets it."""
    columns = columns_of(rows)
    shown_ns = columns.source_time_ns + np.array([row.offset_ns for row in rows], np.int64)
    device = np.array([worn.row(devices[row.device].id) for row in rows], np.int64)
    out = place(columns, shown_ns, device, np.array([row.received_ns for row in rows], np.int64), worn)
    for number in np.flatnonzero(out.trusted).tolist():
        worn.trust({devices[rows[number].device].id: (rows[number].source_ns, rows[number].seq)})
    return [
        Result(
            int(out.time_ns[n]), Basis(int(out.basis[n])), int(out.tz_min[n]), bool(out.flags[n] & Flag.CLOCK_SUSPECT),
            worn.patients[out.patient[n]] if out.patient[n] != UNASSIGNED else None,
            REASONS[out.reason[n]].value if out.patient[n] == UNASSIGNED else None, bool(out.trusted[n]),
        )
        for n in range(len(rows))
    ]  # fmt: skip
