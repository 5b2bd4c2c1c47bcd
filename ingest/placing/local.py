"""The wearer's own clock at a reading: the offset by which rules know the patient's days and hours."""

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from ingest.placing.attribution import Placed
from ingest.placing.wear import NO_ZONE, WearTable
from vitals.glossary import Basis
from vitals.model import UNASSIGNED
from vitals.times import DAY_NS, MINUTE_NS, SECOND_NS

_SLOT_NS: Final = 15 * MINUTE_NS
"""Offsets change at quarters of an hour only."""
_OF_INSTANTS: Final = (Basis.DEVICE, Basis.HUB, Basis.RECEIVED)
_MINUTE: Final = timedelta(minutes=1)

Int16 = npt.NDArray[np.int16]
Int64 = npt.NDArray[np.int64]


def offsets(placed: Placed, device: Int64, worn: WearTable) -> Int16:
    """Minutes east of UTC per row of ``placed``. ``device`` are rows of ``worn``.

    A wall time has the offset of the zone that it was read in, and an instant that states an offset keeps it. An
    instant in UTC says nothing of the clock on the wall: it gets the offset of its assignment's zone at that time.
    Worked: 2024-07-01T23:30Z of a patient in Europe/Berlin is 120, a reading of 2 July.
    """
    return _zoned(placed, device, worn, placed.tz_min == 0)


def offsets_anew(placed: Placed, device: Int64, worn: WearTable) -> Int16:
    """The same for readings that get another wearer: offsets of instants are those of the wearer before."""
    return _zoned(placed, device, worn, np.ones(len(device), bool))


def _zoned(placed: Placed, device: Int64, worn: WearTable, rows: npt.NDArray[np.bool_]) -> Int16:
    out = placed.tz_min.copy()
    index = np.flatnonzero(rows & np.isin(placed.basis, _OF_INSTANTS) & (placed.patient != UNASSIGNED))
    for column in range(worn.first_ns.shape[1]):
        # Rows whose time lies in the column's assignment of their device.
        index = index[worn.parts[device[index]] > column]
        time_ns, number = placed.time_ns[index], device[index]
        held = (time_ns >= worn.first_ns[number, column]) & (time_ns < worn.end_ns[number, column])
        zone = np.where(held, worn.zone[number, column], NO_ZONE)
        for known in np.unique(zone[zone != NO_ZONE]).tolist():
            here = index[zone == known]
            out[here] = minutes_east(placed.time_ns[here], worn.zones[known])
    return out


def minutes_east(time_ns: Int64, zone: str) -> Int16:
    """Offsets of ``zone`` in minutes: that of the UTC day, on a day of a change that of the quarter of an hour."""
    days, place = np.unique(time_ns // DAY_NS, return_inverse=True)
    first, last = _looked_up(days * DAY_NS, zone), _looked_up((days + 1) * DAY_NS, zone)
    out = first[place.ravel()]
    changing = np.flatnonzero((first != last)[place.ravel()])
    if len(changing):
        slots, place = np.unique(time_ns[changing] // _SLOT_NS, return_inverse=True)
        out[changing] = _looked_up(slots * _SLOT_NS, zone)[place.ravel()]
    return out


def _looked_up(time_ns: Int64, zone: str) -> Int16:
    known = ZoneInfo(zone)
    shown = (datetime.fromtimestamp(seconds, known) for seconds in (time_ns // SECOND_NS).tolist())
    return np.array([(moment.utcoffset() or timedelta()) // _MINUTE for moment in shown], np.int16)
