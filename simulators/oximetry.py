"""Nights of home patients with COPD and an oximeter: the device's values and the true ones.

The true saturation is a baseline with slow drift and desaturations; the device averages it, rounds it to whole
percent and adds what oximeters add: noise, motion, spikes, gaps, resends. How often and how deep is drawn from ranges
that know nothing of any rule; few patients have most of the desaturations (clinical.md 5.2). Flags are those that
ingest gives (``ingest/quality.py``): a perfusion index under the gate makes the SpO2 of the message SUSPECT, the
device's own "poor signal" bit is LOW_QUALITY and no more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from vitals.catalog import BY_KEY
from vitals.glossary import Basis, Flag
from vitals.model import VitalBatch
from vitals.times import MINUTE_NS, NO_TIME, SECOND_NS
from vitals.units import UNIT_BY_NAME

FloatArray = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
LEVELS: Final = (91, 87, 83)
"""Percent; the urgent and warning levels of clinical.md 4.4, at which truth is told."""
LOWEST_SCALE_1: Final = 93.0
"""A patient with a lower baseline has the 88-92 target (SpO2 scale 2)."""
PERFUSION_GATE: Final = 0.3
"""%; the gate of ``ingest/quality.py`` (clinical.md 1.3)."""
LATENCY_NS: Final = 200_000_000
"""From measurement to receipt."""
_SPO2: Final = BY_KEY["spo2"]
_SUSPECT, _LOW_QUALITY = np.uint32(Flag.SUSPECT), np.uint32(Flag.LOW_QUALITY)
_LOWEST: Final = 72.0
_DRIFT_SD, _DRIFT_KNOT_S, _DRIFT_MOST = 0.3, 1200, 0.7


class DesaturationKind(StrEnum):
    """What a desaturation is like; ``COURSES`` has the numbers."""

    SUSTAINED = "sustained"
    BRIEF = "brief"
    CLUSTER = "cluster"


class Cause(IntEnum):
    """Why a row differs from the true saturation."""

    NOISE = 0
    """No more than averaging, rounding and sensor noise."""
    MOTION = 1
    SPIKE = 2
    RESENT = 3


class DesaturationCourse(NamedTuple):
    """``per_night`` (8 h, mean) of a kind, with the range of seconds of way down, at the nadir and way up, and of
    points from the baseline down to the nadir; a cluster has ``members`` with ``apart_s`` between them."""

    per_night: float
    fall_s: tuple[int, int]
    hold_s: tuple[int, int]
    rise_s: tuple[int, int]
    depth: tuple[float, float]
    members: tuple[int, int] = (1, 1)
    apart_s: tuple[int, int] = (0, 0)


COURSES: Final[Mapping[DesaturationKind, DesaturationCourse]] = MappingProxyType({
    DesaturationKind.SUSTAINED: DesaturationCourse(2.0, (20, 60), (50, 280), (10, 30), (4.0, 16.0)),
    DesaturationKind.BRIEF: DesaturationCourse(5.0, (5, 12), (5, 25), (4, 10), (3.0, 12.0)),
    DesaturationKind.CLUSTER: DesaturationCourse(1.0, (10, 25), (5, 40), (5, 12), (4.0, 14.0), (4, 12), (30, 90)),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Oximeter:
    """How a device measures. ``averaging_s`` is the window over which it averages, ``noise_sd`` what is left of its
    noise, in points, with the memory of that window. Motion lasts 5 to 40 s and reads 4 to 30 points low; of such
    bursts ``low_perfusion`` (share) show a perfusion index under the gate and ``poor_signal`` the quality bit.
    Spikes are single low samples. Counts per hour are means."""

    interval_s: int = 1
    averaging_s: int = 8
    noise_sd: float = 1.0
    motion_per_h: float = 3.0
    low_perfusion: float = 0.45
    poor_signal: float = 0.2
    spikes_per_h: float = 3.0
    gaps_per_h: float = 0.4
    resends_per_h: float = 0.5


@dataclass(frozen=True, slots=True)
class Desaturation:
    """Onset, end of the way back, and lowest true value in %, as drawn; others may overlap it."""

    kind: DesaturationKind
    start_ns: int
    end_ns: int
    nadir: float


class Spell(NamedTuple):
    """``start_ns <= time < end_ns``: an exact device would show ``level`` percent or less."""

    patient: str
    level: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One patient's night. ``saturation`` is the truth by the second from ``start_ns`` on; ``time_ns``, ``value``,
    ``flags``, ``perf_index`` and ``cause`` (:class:`Cause`) are the rows in the order of receipt."""

    patient: str
    device: str
    baseline: float
    start_ns: int
    desaturations: tuple[Desaturation, ...]
    saturation: FloatArray = field(repr=False)
    time_ns: Int64 = field(repr=False)
    value: FloatArray = field(repr=False)
    flags: npt.NDArray[np.uint32] = field(repr=False)
    perf_index: FloatArray = field(repr=False)
    cause: npt.NDArray[np.uint8] = field(repr=False)

    @property
    def scale(self) -> int:
        """The patient's SpO2 scale (clinical.md 2.1): 1, or 2 for a target of 88 to 92."""
        return 1 if self.baseline >= LOWEST_SCALE_1 else 2

    def below(self, level: int) -> list[Spell]:
        """When the true saturation was under ``level`` + 0.5, in order of time."""
        under = np.concatenate([[False], self.saturation < level + 0.5, [False]])
        edges = np.flatnonzero(under[1:] != under[:-1]) * SECOND_NS + self.start_ns
        pairs = edges.reshape(-1, 2).tolist()
        return [Spell(self.patient, level, start_ns, end_ns) for start_ns, end_ns in pairs]


def nights(
    count: int, seed: int, start_ns: int, *, hours: float = 8.0, oximeter: Oximeter | None = None
) -> list[Night]:
    """One night of each of ``count`` patients, all from ``start_ns`` (whole seconds) on; the same seed gives the same
    nights, and a patient's does not depend on ``count``."""
    device = oximeter or Oximeter()
    return [_night(f"p_{number}", f"oximeter-{number}", [seed, number], start_ns, hours, device)
            for number in range(count)]  # fmt: skip


def truth(patients: Sequence[Night]) -> list[Spell]:
    """When which true saturation was low, at every one of ``LEVELS``."""
    return [spell for night in patients for level in LEVELS for spell in night.below(level)]


def minutes(patients: Sequence[Night]) -> Iterator[VitalBatch]:
    """The rows of all patients as ingest would store them, one batch per minute of receipt, in order of it."""
    devices, tokens = tuple(night.device for night in patients), tuple(night.patient for night in patients)
    lengths = [len(night.time_ns) for night in patients]
    who = np.repeat(np.arange(len(patients), dtype=np.int32), lengths)
    own = np.concatenate([np.arange(length) for length in lengths])
    time_ns, value, flags = (
        np.concatenate([getattr(night, name) for night in patients]) for name in ("time_ns", "value", "flags")
    )
    order = np.lexsort((own, who, time_ns))
    columns: dict[str, Any] = {
        "device": who, "patient": who, "vital": np.full(len(who), _SPO2.code, np.uint16), "source_time_ns": time_ns,
        "seq": own, "time_ns": time_ns, "end_ns": np.full(len(who), NO_TIME), "value": value, "reported": value,
        "basis": np.full(len(who), Basis.RECEIVED, np.uint8), "tz_min": np.zeros(len(who), np.int16),
        "unit": np.full(len(who), UNIT_BY_NAME[_SPO2.unit].code, np.uint8), "statistic": np.zeros(len(who), np.uint8),
        "flags": flags, "message": np.arange(len(who)), "received_ns": time_ns + LATENCY_NS,
    }  # fmt: skip
    columns = {name: column if name == "message" else column[order] for name, column in columns.items()}
    received = columns["received_ns"]
    first = min(night.start_ns for night in patients)
    cuts = np.searchsorted(received, np.arange(first, int(received[-1]) + MINUTE_NS, MINUTE_NS))
    for begin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield VitalBatch(devices, tokens, **{name: column[begin:end] for name, column in columns.items()})


def _night(patient: str, device: str, seed: list[int], start_ns: int, hours: float, oximeter: Oximeter) -> Night:
    seconds = round(hours * 3600)
    rng, body = np.random.default_rng([*seed, 1]), np.random.default_rng([*seed, 0])
    baseline = round(float(body.uniform(90.0, 96.0)), 1)
    found = _draw(body, baseline, seconds)
    saturation = np.minimum(baseline + _drift(body, seconds) - _dips(found, baseline, seconds), 100.0)
    shown = _measured(rng, saturation, oximeter)
    perfusion = np.exp(rng.normal(np.log(3.0), 0.3)) * np.exp(0.1 * _coloured(rng, seconds, 30))
    perfusion = np.maximum(perfusion, 1.5 * PERFUSION_GATE)
    poor, cause = np.zeros(seconds, bool), np.zeros(seconds, np.uint8)
    _move_about(rng, shown, perfusion, poor, cause, oximeter)
    spikes = rng.integers(0, seconds, rng.poisson(oximeter.spikes_per_h * hours))
    shown[spikes] -= rng.uniform(8.0, 45.0, len(spikes))
    cause[spikes] = Cause.SPIKE
    value = np.clip(np.rint(shown), 0.0, 100.0)
    sent = np.arange(seconds) % oximeter.interval_s == 0
    for begin, end in _bursts(rng, seconds, oximeter.gaps_per_h * hours, (30, 600)):
        sent[begin:end] = False
    rows = np.flatnonzero(sent)
    row, late_ns = _resent(rng, rows, hours, oximeter)
    flags = _flags(value[row], perfusion[row], poor[row])
    flags[late_ns > 0] |= np.uint32(Flag.POSSIBLE_DUPLICATE)
    reason = np.where(late_ns > 0, np.uint8(Cause.RESENT), cause[row])
    time_ns = start_ns + row * SECOND_NS + late_ns
    desaturations = tuple(
        Desaturation(one.kind, start_ns + one.start * SECOND_NS, start_ns + one.end * SECOND_NS, one.nadir)
        for one in found
    )
    return Night(
        patient, device, baseline, start_ns, desaturations, saturation, time_ns, value[row], flags, perfusion[row],
        reason,
    )  # fmt: skip


class _Dip(NamedTuple):
    kind: DesaturationKind
    start: int
    fall: int
    hold: int
    rise: int
    nadir: float

    @property
    def end(self) -> int:
        return self.start + self.fall + self.hold + self.rise


def _draw(rng: np.random.Generator, baseline: float, seconds: int) -> list[_Dip]:
    """Desaturations of a night, by onset, all of them over before it ends. A few patients have most of them."""
    burden = float(rng.lognormal(-0.3, 0.8))
    found: list[_Dip] = []
    for kind, course in COURSES.items():
        for _ in range(rng.poisson(course.per_night * burden * seconds / 28_800)):
            start = int(rng.integers(0, seconds))
            for _ in range(rng.integers(course.members[0], course.members[1] + 1)):
                fall, hold, rise = (int(rng.integers(low, high + 1)) for low, high in course[1:4])
                nadir = max(baseline - float(rng.uniform(*course.depth)), _LOWEST)
                found.append(_Dip(kind, start, fall, hold, rise, round(nadir, 1)))
                start = found[-1].end + int(rng.integers(course.apart_s[0], course.apart_s[1] + 1))
    return sorted(dip for dip in found if dip.end <= seconds)


def _dips(found: Sequence[_Dip], baseline: float, seconds: int) -> FloatArray:
    """Points under the baseline by the second; of overlapping desaturations the deeper one shows."""
    under = np.zeros(seconds)
    for dip in found:
        down = 0.5 - 0.5 * np.cos(np.pi * np.arange(dip.fall) / dip.fall)
        up = 0.5 + 0.5 * np.cos(np.pi * np.arange(dip.rise) / dip.rise)
        shape = np.concatenate([down, np.ones(dip.hold), up]) * (baseline - dip.nadir)
        np.maximum(under[dip.start : dip.end], shape, out=under[dip.start : dip.end])
    return under


def _drift(rng: np.random.Generator, seconds: int) -> FloatArray:
    """Slow drift, at most ``_DRIFT_MOST`` points either way."""
    knots = np.clip(rng.normal(0.0, _DRIFT_SD, seconds // _DRIFT_KNOT_S + 2), -_DRIFT_MOST, _DRIFT_MOST)
    return np.asarray(np.interp(np.arange(seconds), np.arange(len(knots)) * _DRIFT_KNOT_S, knots), np.float64)


def _coloured(rng: np.random.Generator, seconds: int, memory_s: int) -> FloatArray:
    """Noise of unit variance with a memory of ``memory_s``."""
    mean = _trailing_mean(rng.standard_normal(seconds + memory_s - 1), memory_s)[memory_s - 1 :]
    return np.asarray(mean * np.sqrt(memory_s), np.float64)


def _trailing_mean(series: FloatArray, length: int) -> FloatArray:
    """Mean of the last ``length`` samples; of those there are at the start."""
    total = np.cumsum(series)
    total[length:] -= total[:-length].copy()
    return np.asarray(total / np.minimum(np.arange(1, len(series) + 1), length), np.float64)


def _measured(rng: np.random.Generator, saturation: FloatArray, oximeter: Oximeter) -> FloatArray:
    window = oximeter.averaging_s
    return _trailing_mean(saturation, window) + oximeter.noise_sd * _coloured(rng, len(saturation), window)


def _bursts(rng: np.random.Generator, seconds: int, mean: float, length_s: tuple[int, int]) -> list[tuple[int, int]]:
    count = rng.poisson(mean)
    begin = rng.integers(0, seconds, count)
    end = np.minimum(begin + rng.integers(length_s[0], length_s[1] + 1, count), seconds)
    return list(zip(begin.tolist(), end.tolist(), strict=True))


def _move_about(
    rng: np.random.Generator, shown: FloatArray, perfusion: FloatArray, poor: npt.NDArray[np.bool_],
    cause: npt.NDArray[np.uint8], oximeter: Oximeter,
) -> None:  # fmt: skip
    """Motion: low readings in a burst, with a sign of it or without."""
    for begin, end in _bursts(rng, len(shown), oximeter.motion_per_h * len(shown) / 3600, (5, 40)):
        shown[begin:end] -= rng.uniform(4.0, 30.0) + rng.normal(0.0, 2.0, end - begin)
        sign = rng.uniform()
        if sign < oximeter.low_perfusion:
            perfusion[begin:end] = rng.uniform(0.03, 0.9 * PERFUSION_GATE, end - begin)
        elif sign < oximeter.low_perfusion + oximeter.poor_signal:
            poor[begin:end] = True
        cause[begin:end] = Cause.MOTION


def _flags(value: FloatArray, perfusion: FloatArray, poor: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    flags = np.zeros(len(value), np.uint32)
    implausible = value < _SPO2.implausible[0]
    flags[implausible] |= np.uint32(Flag.IMPLAUSIBLE)
    flags[~implausible & (value < _SPO2.suspect[0])] |= _SUSPECT
    flags[perfusion < PERFUSION_GATE] |= _SUSPECT
    flags[poor] |= _LOW_QUALITY
    return flags


def _resent(rng: np.random.Generator, rows: Int64, hours: float, oximeter: Oximeter) -> tuple[Int64, Int64]:
    """The rows sent, in order of receipt, and for those that come a second time how much later (ns). The format has no
    time, so a resend has that of its receipt: between two others."""
    again = [np.zeros(0, np.int64)]
    for begin, end in _bursts(rng, len(rows), oximeter.resends_per_h * hours, (2, 8)):
        again.append(rows[begin:end])
    copies = np.unique(np.concatenate(again))
    late_ns = rng.integers(2, 9, len(copies)) * SECOND_NS + SECOND_NS // 2
    row = np.concatenate([rows, copies])
    late = np.concatenate([np.zeros(len(rows), np.int64), late_ns])
    order = np.argsort(row * SECOND_NS + late, kind="stable")
    return row[order], late[order]
