"""NEWS2: the early-warning score of adults, for many patients at once (clinical.md 2.1 to 2.4).

Pure arithmetic over columns: no clock, no state. What is missing, or older than its validity, makes the score a range
that holds every score the patient can have; nothing is filled in with a normal value. The tables are
``alerts.scores.tables``, how a score reads in words is ``alerts.scores.words``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alerts.scores.tables import (
    AIR_FIO2,
    ALERT,
    BP_SYS,
    CONFUSED,
    MOST,
    NO_SCORE,
    NOT_ALERT_POINTS,
    OXYGEN_POINTS,
    PULSE,
    RESP_RATE,
    SCALE_2,
    SOURCES,
    SPO2_SCALE_1,
    SPO2_SCALE_2_AIR,
    SPO2_SCALE_2_OXYGEN,
    TEMP,
    TOGETHER,
    TOGETHER_NS,
    AgeBand,
    Bool,
    Int8,
    Parameter,
    Pregnancy,
    Refusal,
    Validity,
    band_of,
)
from vitals.catalog import BY_KEY
from vitals.glossary import NOT_SCORED, Flag, Mode
from vitals.model import Float64, Int64
from vitals.times import MINUTE_NS, NO_TIME

UInt8 = npt.NDArray[np.uint8]

_AHEAD_NS: Final = 5 * MINUTE_NS  # clinical.md 1.3: further in the future, a clock is wrong
_BELOW: Final = np.uint32(Flag.BELOW_RANGE)
_ABOVE: Final = np.uint32(Flag.ABOVE_RANGE)
_UNSCORED: Final = np.uint32(NOT_SCORED)
_DOUBTED: Final = np.uint32(Flag.SUSPECT | Flag.LOW_QUALITY)
_LAST_COUNTED: Final = int(Validity.ASSUMED)


@dataclass(frozen=True, slots=True, eq=False)
class VitalColumn:
    """The latest reading of one vital sign for each of n patients.

    ``value`` (n,) float64 in the canonical unit, ``time_ns`` (n,) int64 with ``NO_TIME`` where there is none, ``flags``
    (n,) uint32 of ``Flag``. Only readings whose time is an instant belong here (basis neither day nor unknown). Where a
    vital is measured continuously the value is the median of the usable samples of the last 5 minutes, the time that
    of the newest of them (clinical.md 2.3).
    """

    value: Float64
    time_ns: Int64
    flags: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class ContextColumns:
    """What is on record about each of n patients at the time of the score.

    ``age_band`` (n,) uint8 of :class:`AgeBand`; ``pregnancy`` (n,) uint8 of :class:`Pregnancy`. ``spo2_scale`` (n,)
    uint8 is 2 only where a clinician has set it, with a name and a date, for hypercapnic respiratory failure with a
    target of 88-92 %; everyone else, and where it was never set (0), is on scale 1. ``usual_confusion`` (n,) bool is
    true where a clinician has recorded long-standing confusion: then ``C`` counts as Alert.
    """

    age_band: UInt8
    pregnancy: UInt8
    spo2_scale: UInt8
    usual_confusion: Bool


@dataclass(frozen=True, slots=True)
class Programme:
    """What a programme measures: catalogue key -> mode, and what it declares for who is at home.

    Validity follows the mode of each vital (clinical.md 2.3). ``assume_air`` and ``assume_alert`` stand in only where
    nothing was ever measured, or where the last word said the same; never over one that said otherwise.
    """

    measures: Mapping[str, Mode]
    assume_air: bool = False
    assume_alert: bool = False

    def __post_init__(self) -> None:
        _known_keys(self.measures)

    def mode(self, key: str) -> Mode:
        """The mode of a vital; one that the programme does not measure has the catalogue's."""
        return self.measures.get(key, BY_KEY[key].mode)

    def unmeasured(self) -> tuple[Parameter, ...]:
        """The parameters that this programme can never fill."""
        declared = {Parameter.OXYGEN: self.assume_air, Parameter.ACVPU: self.assume_alert}
        return tuple(
            which for which in Parameter if not (declared.get(which) or self.measures.keys() & {*SOURCES[which]})
        )


@dataclass(frozen=True, slots=True, eq=False)
class News2:
    """Scores of n patients at ``now_ns`` (n,) int64. Read ``refusal`` first: where it is not NONE nothing else counts.

    ``refusal`` (n,) uint8 of :class:`Refusal`. ``low``, ``high`` (n,) int8: the total, equal where nothing is missing;
    every completion of what is missing lies between them and both ends can occur. ``band_low``, ``band_high`` (n,)
    int8 of :class:`Band`. ``red_low``, ``red_high`` (n,) bool: some parameter has 3 points for certain, or may have.
    ``hidden`` (n,) bool: a parameter that the programme does not measure was never measured, so that the score will not
    become complete; the low end is still a certain floor for rules, but no score is shown. One that was measured once
    can come again: its range is shown.

    Per parameter, (7, n): ``points_low``, ``points_high`` int8; ``validity`` uint8 of :class:`Validity`; ``vital``
    uint16, the catalogue code that was read, 0 where none was; ``value`` float64 as measured (oxygen in its own unit),
    -inf and inf beyond the sensor's range, NaN where none; ``time_ns`` int64; ``doubted`` bool: counted, but suspect or
    of low quality.
    """

    now_ns: Int64
    context: ContextColumns
    programme: Programme
    refusal: UInt8
    low: Int8
    high: Int8
    band_low: Int8
    band_high: Int8
    red_low: Bool
    red_high: Bool
    hidden: Bool
    points_low: Int8
    points_high: Int8
    validity: UInt8
    vital: npt.NDArray[np.uint16]
    value: Float64
    time_ns: Int64
    doubted: Bool

    @property
    def missing(self) -> Bool:
        """(7, n) bool: the parameter does not count; ``validity`` says why."""
        return np.asarray(self.validity > _LAST_COUNTED)

    @property
    def assumed(self) -> Bool:
        """(7, n) bool: the parameter was declared, not measured; a score carries this label."""
        return np.asarray(self.validity == Validity.ASSUMED)

    @property
    def complete(self) -> Bool:
        """(n,) bool: applicable, and one number; declared parts count, and label it.

        Only such a score may clear what a complete score raised (clinical.md 2.3).
        """
        return np.asarray((self.refusal == Refusal.NONE) & ~self.missing.any(axis=0))


class _Reading(NamedTuple):
    """One source of a parameter, columns (n,) in the order of the (7, n) arrays of :class:`News2`."""

    validity: UInt8
    vital: npt.NDArray[np.uint16]
    value: Float64
    time_ns: Int64
    doubted: Bool

    def replaced(self, where: Bool, other: "_Reading") -> "_Reading":
        names = self._fields
        return _Reading(**{name: np.where(where, getattr(other, name), getattr(self, name)) for name in names})

    @property
    def known(self) -> Bool:
        return np.asarray(self.validity == Validity.KNOWN)


def _known_keys(keys: Mapping[str, Any]) -> None:
    for key in keys:
        if key not in BY_KEY:
            raise ValueError(f"{key} is no vital sign of the catalogue")


def _reading(key: str, column: VitalColumn | None, now_ns: Int64, mode: Mode) -> _Reading:
    vital, size = BY_KEY[key], len(now_ns)
    if column is None:
        return _Reading(np.full(size, Validity.ABSENT, np.uint8), np.zeros(size, np.uint16), np.full(size, np.nan),
                        np.full(size, NO_TIME, np.int64), np.zeros(size, np.bool_))  # fmt: skip
    value, flags, measured = column.value, column.flags, column.time_ns != NO_TIME
    if vital.values:
        usable = np.isin(value, np.arange(len(vital.values)))
    else:
        value = np.where(flags & _BELOW, -np.inf, np.where(flags & _ABOVE, np.inf, value))
        usable = np.isfinite(column.value) | (flags & (_BELOW | _ABOVE) != 0)
        if key in SOURCES[Parameter.OXYGEN]:
            # Too little to be measured is neither air nor oxygen.
            usable &= flags & _BELOW == 0
    usable = usable & (flags & _UNSCORED == 0) & (column.time_ns <= now_ns + _AHEAD_NS)
    aged = column.time_ns < now_ns - vital.staleness_ns(mode)
    validity = np.select([~measured, ~usable, aged], [Validity.ABSENT, Validity.UNUSABLE, Validity.AGED],
                         Validity.KNOWN).astype(np.uint8)  # fmt: skip
    code = np.where(measured, np.uint16(vital.code), np.uint16(0))
    return _Reading(validity, code, np.where(measured, value, np.nan), column.time_ns, flags & _DOUBTED != 0)


def _apart(readings: dict[str, _Reading]) -> None:
    """Marks what is not of one set with the newest respiration, saturation and pulse."""
    oldest = NO_TIME + TOGETHER_NS
    newest = np.max([np.where(readings[key].known, readings[key].time_ns, oldest) for key in TOGETHER], axis=0)
    for key in TOGETHER:
        reading = readings[key]
        apart = reading.known & (reading.time_ns < newest - TOGETHER_NS)
        readings[key] = reading._replace(validity=np.where(apart, np.uint8(Validity.APART), reading.validity))


def _given(reading: _Reading) -> Bool:
    """Whether a statement about oxygen says that it is given."""
    flow = reading.vital == BY_KEY["o2_flow"].code
    return np.where(flow, reading.value > 0, np.floor(reading.value + 0.5) > AIR_FIO2)


def _pulse(readings: Mapping[str, _Reading]) -> _Reading:
    best, *others = (readings[key] for key in SOURCES[Parameter.PULSE])
    for other in others:
        better = np.where(best.known, other.known & best.doubted & ~other.doubted,
                          other.known | (other.time_ns > best.time_ns))  # fmt: skip
        best = best.replaced(better, other)
    return best


def _oxygen(readings: Mapping[str, _Reading]) -> _Reading:
    flow, fio2 = (readings[key] for key in SOURCES[Parameter.OXYGEN])
    tied = (fio2.time_ns == flow.time_ns) & _given(fio2) & ~_given(flow)
    newer = (fio2.time_ns > flow.time_ns) | tied
    return flow.replaced(np.where(fio2.known == flow.known, newer, fio2.known), fio2)


def _assuming(reading: _Reading, normal: Bool) -> _Reading:
    """``reading`` with the programme's declaration where nothing, or nothing but the same, was measured."""
    validity = reading.validity
    silent = (validity == Validity.ABSENT) | ((validity == Validity.AGED) & normal)
    return reading._replace(validity=np.where(silent, np.uint8(Validity.ASSUMED), validity))


def _readings(columns: Mapping[str, VitalColumn], now_ns: Int64, programme: Programme) -> list[_Reading]:
    """The reading of each parameter, in order."""
    _known_keys(columns)
    found = {}
    for key in (key for keys in SOURCES.values() for key in keys):
        column = columns.get(key)
        if column is not None and {len(column.value), len(column.time_ns), len(column.flags)} != {len(now_ns)}:
            raise ValueError(f"column {key} is not as long as the context")
        found[key] = _reading(key, column, now_ns, programme.mode(key))
    _apart(found)
    oxygen, acvpu = _oxygen(found), found["acvpu"]
    if programme.assume_air:
        oxygen = _assuming(oxygen, ~_given(oxygen))
    if programme.assume_alert:
        acvpu = _assuming(acvpu, acvpu.value == ALERT)
    single = {Parameter.OXYGEN: oxygen, Parameter.ACVPU: acvpu, Parameter.PULSE: _pulse(found)}
    return [single[which] if which in single else found[which.key] for which in Parameter]


def _points(chosen: list[_Reading], context: ContextColumns) -> tuple[Int8, Int8]:
    """Lowest and highest points of each parameter, (7, n) each; both sums are reached together."""
    value = [reading.value for reading in chosen]
    counted = np.stack([reading.validity <= _LAST_COUNTED for reading in chosen])
    oxygen = chosen[Parameter.OXYGEN]
    given = _given(oxygen) & oxygen.known
    scale_2 = context.spo2_scale == SCALE_2
    # Scale 2 reads saturation by air or oxygen: while that is unknown, air is the low end of both and oxygen the high.
    spo2 = value[Parameter.SPO2]
    air, on_oxygen = SPO2_SCALE_1.of(spo2), SPO2_SCALE_1.of(spo2)
    if scale_2.any():
        air = np.where(scale_2, SPO2_SCALE_2_AIR.of(spo2), air)
        on_oxygen = np.where(scale_2, SPO2_SCALE_2_OXYGEN.of(spo2), on_oxygen)
    acvpu = value[Parameter.ACVPU]
    alert = (acvpu == ALERT) | ((acvpu == CONFUSED) & context.usual_confusion) | ~chosen[Parameter.ACVPU].known
    points = {
        Parameter.RESP_RATE: RESP_RATE.of(value[Parameter.RESP_RATE]),
        Parameter.SPO2: np.where(given, on_oxygen, air),
        Parameter.OXYGEN: given * np.int8(OXYGEN_POINTS),
        Parameter.BP_SYS: BP_SYS.of(value[Parameter.BP_SYS]),
        Parameter.PULSE: PULSE.of(value[Parameter.PULSE]),
        Parameter.ACVPU: ~alert * np.int8(NOT_ALERT_POINTS),
        Parameter.TEMP: TEMP.of(value[Parameter.TEMP]),
    }
    low = np.stack([points[which] for which in Parameter])
    high = low.copy()
    high[Parameter.SPO2] = np.where(counted[Parameter.OXYGEN], low[Parameter.SPO2], on_oxygen)
    most = np.asarray(MOST, np.int8)[:, None]
    return np.where(counted, low, np.int8(0)), np.where(counted, high, most)


def _refusal(context: ContextColumns) -> UInt8:
    age = context.age_band
    tests = [age == AgeBand.UNDER_16, age != AgeBand.ADULT, context.pregnancy == Pregnancy.YES]
    return np.select(tests, [Refusal.UNDER_16, Refusal.AGE_UNKNOWN, Refusal.PREGNANT], Refusal.NONE).astype(np.uint8)


def news2(
    columns: Mapping[str, VitalColumn], context: ContextColumns, now_ns: int | Int64, programme: Programme
) -> News2:
    """The score of n patients of one programme at ``now_ns``, one instant or (n,) int64.

    ``columns`` by catalogue key, each n long; a vital without a column was never measured, a vital that no score reads
    is ignored. Raises ValueError for a key that is not in the catalogue and for columns of unequal length.
    """
    size = len(context.age_band)
    if {len(context.pregnancy), len(context.spo2_scale), len(context.usual_confusion)} != {size}:
        raise ValueError("the context's columns are of unequal length")
    now = np.broadcast_to(np.asarray(now_ns, dtype=np.int64), (size,))
    chosen = _readings(columns, now, programme)
    points_low, points_high = _points(chosen, context)
    refusal = _refusal(context)
    refused = refusal != Refusal.NONE
    low, high = (points.sum(axis=0, dtype=np.int8) for points in (points_low, points_high))
    red_low, red_high = ((points == 3).any(axis=0) for points in (points_low, points_high))
    stacked = _Reading(*(np.stack(part) for part in zip(*chosen, strict=True)))
    stacked = stacked._replace(doubted=stacked.doubted & stacked.known)

    def shown(scores: Int8) -> Int8:
        return np.where(refused, np.int8(NO_SCORE), scores)

    return News2(
        now_ns=now, context=context, programme=programme, refusal=refusal,
        low=shown(low), high=shown(high),
        band_low=shown(band_of(low, red_low)), band_high=shown(band_of(high, red_high)),
        red_low=red_low & ~refused, red_high=red_high & ~refused,
        hidden=(stacked.validity[list(programme.unmeasured())] == Validity.ABSENT).any(axis=0),
        points_low=shown(points_low), points_high=shown(points_high),
        **stacked._asdict(),
    )  # fmt: skip


class Latest(NamedTuple):
    """The latest reading of one vital sign of one patient: the row of a :class:`VitalColumn`."""

    value: float
    time_ns: int
    flags: int = 0


def news2_of_one(
    latest: Mapping[str, Latest],
    now_ns: int,
    programme: Programme,
    *,
    age_band: AgeBand,
    pregnancy: Pregnancy,
    spo2_scale: int,
    usual_confusion: bool,
) -> News2:
    """:func:`news2` of one patient (n = 1), for explanations and single look-ups."""
    columns = {
        key: VitalColumn(
            np.array([value], dtype=np.float64), np.array([time_ns], dtype=np.int64), np.array([flags], dtype=np.uint32)
        )
        for key, (value, time_ns, flags) in latest.items()
    }
    context = ContextColumns(
        age_band=np.array([age_band], dtype=np.uint8),
        pregnancy=np.array([pregnancy], dtype=np.uint8),
        spo2_scale=np.array([spo2_scale], dtype=np.uint8),
        usual_confusion=np.array([usual_confusion], dtype=np.bool_),
    )
    return news2(columns, context, now_ns, programme)
