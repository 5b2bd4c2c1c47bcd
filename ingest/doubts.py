"""Values that are no physiology, and those that would be in another unit: told as faults of their device.

A number that is impossible in its unit and possible in the other common unit of its vital sign is a doubt about the
unit (``unit_suspect``). Glucose and temperatures are read in that other unit, flagged SUSPECT, so that a severe one
asks for confirmation; the context keeps the unit that was sent. Pressures and oxygen saturations keep their unit: there
an impossibly low number may be an arrest, which the limits judge as such. Every other impossible value is told as
``implausible``. Both stand in the worklist of values that are not taken as they came.

Worked: 104 ``Cel`` is read as 104 [degF], 40 Cel; 2.2 mg/dL as 2.2 mmol/L; 120 mmol/L as 120 mg/dL; 29 mm[Hg] stays
29 mm[Hg] and is told as perhaps 29 kPa, 217.5 mm[Hg]; 400 /min stays and is told as implausible.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest import quality
from ingest.adapter import Columns, unit_code, vital_code
from vitals.catalog import BY_CODE, CODE_SPACE
from vitals.glossary import EventKind, Flag
from vitals.model import DeviceEvent, VitalBatch
from vitals.units import UNIT_BY_CODE, UNITS, to_canonical

IMPLAUSIBLE: Final = "implausible"
UNIT_SUSPECT: Final = "unit_suspect"
SENT_UNIT: Final = "sent_unit"
"""Context of a reading that is read in another unit: the one that the source named."""
_GLUCOSE: Final = ("glucose_bg", "glucose_isf", "glucose")
_PRESSURES: Final = (
    "bp_sys",
    "bp_dia",
    "bp_mean",
    "bp_avg_sys",
    "bp_avg_dia",
    "bp_art_sys",
    "bp_art_dia",
    "bp_art_mean",
)
_PAIRS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = MappingProxyType(
    {
        ("mg/dL", "mmol/L"): _GLUCOSE, ("Cel", "[degF]"): ("temp",), ("mm[Hg]", "kPa"): _PRESSURES,
        ("%", "{fraction}"): ("spo2",),
    }
)  # fmt: skip
"""Two common units -> the vital signs that are sent in either."""
GLUCOSE: Final = frozenset(map(vital_code, _GLUCOSE))
REREAD: Final = GLUCOSE | {vital_code("temp")}
"""Vital signs that are read in the unit in which they are possible."""
LOW_GLUCOSE: Final = 54.0
"""Under this value in mg/dL, 3.0 mmol/L, a glucose in doubt is asked about at once, whatever its rules wait for."""
LEAST_GLUCOSE: Final = 8.0
"""From here on a number of mg/dL may be a person's, although no meter shows it."""
_REREAD: Final = np.isin(np.arange(CODE_SPACE), list(REREAD))
_NONE: Final = 255
_NOBODY: Final = np.uint32(Flag.RETRACTED | Flag.CONTROL_SOLUTION | Flag.TEST_DATA | Flag.SENSOR_FAULT)

Bools = npt.NDArray[np.bool_]


def _others() -> npt.NDArray[np.uint8]:
    """(vital, unit) -> the other common unit, ``_NONE`` without one."""
    table = np.full((CODE_SPACE, len(UNITS)), _NONE, np.uint8)
    for (first, second), keys in _PAIRS.items():
        for vital in map(vital_code, keys):
            table[vital, unit_code(first)], table[vital, unit_code(second)] = unit_code(second), unit_code(first)
    return table


_OTHER: Final = _others()


def convert(
    vital: npt.NDArray[np.uint16], unit: npt.NDArray[np.uint8], reported: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Reported values to each vital's canonical unit."""
    value = reported.copy()
    pairs = vital.astype(np.int64) * 256 + unit
    for pair in np.unique(pairs):
        code, unit_of = divmod(int(pair), 256)
        source, target = UNIT_BY_CODE[unit_of].ucum, BY_CODE[code].unit
        if source != target:
            rows = pairs == pair
            value[rows] = to_canonical(reported[rows], source, target)
    return value


def _is_implausible(
    vital: npt.NDArray[np.uint16], value: npt.NDArray[np.float64], statistic: npt.NDArray[np.uint8]
) -> Bools:
    flags = quality.range_flags(vital, value, statistic)
    return np.asarray((flags & np.uint32(Flag.IMPLAUSIBLE)) != 0, np.bool_)


def _in_doubt(
    vital: npt.NDArray[np.uint16], unit: npt.NDArray[np.uint8], reported: npt.NDArray[np.float64],
    statistic: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.float64]]:  # fmt: skip
    """Of impossible ``rows`` those that are possible in the other common unit, that unit, and the value in it."""
    other = _OTHER[vital[rows], unit[rows]]
    rows, other = rows[other != _NONE], other[other != _NONE]
    value = convert(vital[rows], other, reported[rows])
    possible = ~_is_implausible(vital[rows], value, statistic[rows])
    return rows[possible], other[possible], value[possible]


def as_possible(vital: int, unit: int, reported: float) -> float | None:
    """The canonical value of a number in its unit, or in the other common one where it is possible in that alone; None
    where it is in neither."""
    code, single = np.array([vital], np.uint16), np.zeros(1, np.uint8)
    for one in (unit, int(_OTHER[vital, unit])):
        if one != _NONE:
            value = convert(code, np.array([one], np.uint8), np.array([reported]))
            if not _is_implausible(code, value, single)[0]:
                return float(value[0])
    return None


def reread(columns: Columns) -> Columns:
    """The columns with glucose and temperatures in the unit in which they are possible."""
    asked = np.flatnonzero(_REREAD[columns.vital] & ((columns.flags & _NOBODY) == 0))
    if not len(asked):
        return columns
    value = convert(columns.vital[asked], columns.unit[asked], columns.value[asked])
    impossible = asked[_is_implausible(columns.vital[asked], value, columns.statistic[asked])]
    rows, other, _ = _in_doubt(columns.vital, columns.unit, columns.value, columns.statistic, impossible)
    if not len(rows):
        return columns
    units, flags, context = columns.unit.copy(), columns.flags.copy(), dict(columns.context)
    units[rows], flags[rows] = other, flags[rows] | np.uint32(Flag.SUSPECT)
    for row, sent in zip(rows.tolist(), columns.unit[rows].tolist(), strict=True):
        context[row] = {**context.get(row, {}), SENT_UNIT: UNIT_BY_CODE[sent].ucum}
    return replace(columns, unit=units, flags=flags, context=context)


def events(batch: VitalBatch, fresh: Bools) -> list[DeviceEvent]:
    """What is to be told of doubtful and impossible rows that are no duplicates.

    Per row one event for the worklist; per message and vital sign a ``sensor_status``, which is a fault of the device
    while it goes on. The value of a unit in doubt is canonical as the other unit has it; a glucose that may be severely
    low as it was sent keeps the number that was sent.
    """
    asked = fresh & ((batch.flags & _NOBODY) == 0)
    impossible = np.flatnonzero(asked & ((batch.flags & np.uint32(Flag.IMPLAUSIBLE)) != 0))
    sent = [row for row, context in batch.context.items() if SENT_UNIT in context and asked[row]]
    if not len(impossible) and not sent:
        return []
    doubtful, other, value = _in_doubt(batch.vital, batch.unit, batch.reported, batch.statistic, impossible)
    units = {row: (batch.context[row][SENT_UNIT], UNIT_BY_CODE[int(batch.unit[row])].ucum) for row in sent}
    values = {row: _severer(batch, row) for row in sent}
    for row, unit, read in zip(doubtful.tolist(), other.tolist(), value.tolist(), strict=True):
        units[row] = UNIT_BY_CODE[int(batch.unit[row])].ucum, UNIT_BY_CODE[unit].ucum
        values[row] = read
    out: dict[tuple[int, int, str], DeviceEvent] = {}
    listed = list(_listed(batch, units, impossible.tolist()))
    for row in sorted({*units, *impossible.tolist()}):
        word = UNIT_SUSPECT if row in units else IMPLAUSIBLE
        told = _event(batch, row, EventKind.SENSOR_STATUS, word, values.get(row, float(batch.value[row])))
        out[told.message, told.vital, word] = told
    return list(chain(listed, out.values()))


def _severer(batch: VitalBatch, row: int) -> float:
    """What a person is asked about where a row is read in another unit than was sent: 19 mg/dL, and not 19 mmol/L."""
    as_sent = float(batch.reported[row])
    said = batch.context[row][SENT_UNIT] == "mg/dL" and int(batch.vital[row]) in GLUCOSE
    return as_sent if said and LEAST_GLUCOSE <= as_sent < LOW_GLUCOSE else float(batch.value[row])


def _listed(
    batch: VitalBatch, units: Mapping[int, tuple[str, str]], impossible: Sequence[int]
) -> Iterator[DeviceEvent]:  # fmt: skip
    """Each row as the worklist counts it: the vital sign and unit as sent, with the number as sent."""
    for row in sorted({*units, *impossible}):
        key, reported = BY_CODE[int(batch.vital[row])].key, float(batch.reported[row])
        if row in units:
            sent, other = units[row]
            yield _event(batch, row, EventKind.UNIT_SUSPECT, f"{key} in {sent}, perhaps {other}", reported)
        else:
            sent = UNIT_BY_CODE[int(batch.unit[row])].ucum
            yield _event(batch, row, EventKind.IMPLAUSIBLE, f"{key} in {sent}", reported)


def _event(batch: VitalBatch, row: int, kind: EventKind, detail: str, value: float) -> DeviceEvent:
    return DeviceEvent(
        batch.devices[batch.device[row]], kind, int(batch.received_ns[row]), detail, value,
        vital=int(batch.vital[row]), message=int(batch.message[row]),
    )  # fmt: skip
