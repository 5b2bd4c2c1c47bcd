"""Synthetic patients: seeded, plausible physiology whose true episodes are known to the caller.

A patient's signal is a function of (seed, vital, time) alone: two devices on one patient see the same body, and asking
for one day in one call or in a hundred gives the same numbers. Levels and limits follow the bands of clinical.md 1.3;
they are made to exercise a pipeline, not to teach medicine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vitals.catalog import BY_KEY
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

FloatArray = npt.NDArray[np.float64]
TimeArray = npt.NDArray[np.int64]
ISF_LAG_NS = 8 * MINUTE_NS
"""Interstitial glucose follows blood by 5 to 15 minutes (clinical.md 1.1)."""

_KNOTS_PER_DAY = 96
_SMOOTHING = np.hanning(9)[1:-1] / np.sqrt(np.sum(np.hanning(9)[1:-1] ** 2))
_MEAL_KERNEL_MIN = 360


class Condition(StrEnum):
    """Why a patient is monitored."""

    HEALTHY = "healthy"
    DIABETES = "diabetes"
    HEART_FAILURE = "heart_failure"
    COPD = "copd"
    POST_SURGICAL = "post_surgical"


class EpisodeKind(StrEnum):
    """A true event in the body that a monitoring system should see."""

    HYPO = "hypo"
    DESATURATION = "desaturation"
    TACHYCARDIA = "tachycardia"
    FEVER = "fever"


@dataclass(frozen=True, slots=True)
class Course:
    """How a kind of episode runs: the vital that goes to ``target``, what follows it, length range, share of ramps."""

    vital: str
    target: tuple[float, float]
    minutes: tuple[int, int]
    shifts: Mapping[str, float]


COURSES: Mapping[EpisodeKind, Course] = MappingProxyType({
    EpisodeKind.HYPO: Course("glucose_bg", (38.0, 52.0), (40, 80), {"heart_rate": 15.0}),
    EpisodeKind.DESATURATION: Course("spo2", (80.0, 87.0), (10, 30), {"heart_rate": 12.0, "resp_rate": 6.0}),
    EpisodeKind.TACHYCARDIA: Course("heart_rate", (135.0, 160.0), (20, 50), {"bp_sys": -8.0}),
    EpisodeKind.FEVER: Course("temp", (39.1, 40.2), (360, 720), {"heart_rate": 16.0, "resp_rate": 4.0}),
})  # fmt: skip
_RAMP = 0.2


@dataclass(frozen=True, slots=True)
class Episode:
    """Ground truth: from ``start_ns`` to ``end_ns`` (UTC) the vital of ``kind`` moves to ``target`` and back."""

    kind: EpisodeKind
    start_ns: int
    end_ns: int
    target: float

    @property
    def vital(self) -> str:
        """The catalogue key that carries the episode."""
        return COURSES[self.kind].vital

    def plateau(self, vital: str) -> tuple[int, int]:
        """[start, end) in which the true value of ``vital`` is ``target``; lagged for interstitial glucose."""
        ramp = int((self.end_ns - self.start_ns) * _RAMP)
        lag = ISF_LAG_NS if vital == "glucose_isf" else 0
        return self.start_ns + ramp + lag, self.end_ns - ramp + lag

    def weight(self, times_ns: TimeArray) -> FloatArray:
        """How far the episode has taken over at each time, 0 to 1: raised-cosine ramps, flat in between."""
        share = (times_ns - self.start_ns) / (self.end_ns - self.start_ns)
        edge = np.clip(np.minimum(share, 1.0 - share) / _RAMP, 0.0, 1.0)
        return np.asarray(0.5 - 0.5 * np.cos(np.pi * edge), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Level:
    """One vital of the body at rest: mean and spread between people, day swing, slow noise, and hard bounds."""

    mean: float
    spread: float
    swing: float
    noise: float
    bounds: tuple[float, float]
    peak_hour: float = 16.0


_HEALTHY: Mapping[str, _Level] = MappingProxyType({
    "heart_rate": _Level(70, 5, 6, 3, (42, 125)),
    "spo2": _Level(97.6, 0.4, 0.3, 0.3, (93, 100), 14),
    "resp_rate": _Level(14.5, 1, 1, 0.7, (9, 22)),
    "bp_sys": _Level(120, 6, 6, 4, (95, 165), 17),
    "bp_dia": _Level(76, 4, 4, 3, (55, 95), 17),
    "temp": _Level(36.7, 0.15, 0.3, 0.08, (35.9, 37.6), 18),
    "glucose_bg": _Level(92, 5, 3, 4, (70, 180), 6),
    "weight": _Level(76, 9, 0.5, 0.2, (45, 160), 20),
    "height": _Level(170, 8, 0, 0, (140, 205)),
    "body_fat": _Level(27, 5, 0, 0.2, (8, 55)),
    "perf_index": _Level(4, 1, 0.5, 0.8, (0.3, 12), 15),
    "steps": _Level(180, 60, 160, 60, (0, 1500), 14),
    "sleep": _Level(7.2, 0.6, 0, 0.5, (3, 11)),
})  # fmt: skip

_CHANGES: Mapping[Condition, Mapping[str, _Level]] = MappingProxyType({
    Condition.HEALTHY: {},
    Condition.DIABETES: {"glucose_bg": _Level(130, 12, 8, 14, (72, 380), 6)},
    Condition.HEART_FAILURE: {
        "heart_rate": _Level(80, 6, 5, 4, (48, 125)),
        "spo2": _Level(95.5, 0.6, 0.4, 0.4, (92, 99), 14),
        "resp_rate": _Level(17, 1, 1, 0.9, (11, 23)),
        "weight": _Level(84, 10, 0.7, 0.4, (45, 180), 20),
    },
    Condition.COPD: {
        "spo2": _Level(91.5, 0.8, 0.5, 0.6, (88, 96), 14),
        "resp_rate": _Level(18.5, 1.2, 1, 1, (12, 24)),
        "heart_rate": _Level(82, 6, 5, 4, (50, 125)),
    },
    Condition.POST_SURGICAL: {
        "temp": _Level(36.9, 0.15, 0.25, 0.1, (36.1, 37.9), 18),
        "heart_rate": _Level(84, 6, 5, 4, (52, 125)),
    },
})  # fmt: skip

_MEAL_HEIGHT: Mapping[Condition, float] = MappingProxyType({Condition.DIABETES: 85.0})
_OWN_LEVEL: Mapping[str, str] = MappingProxyType({
    "pulse_rate": "heart_rate", "pulse_rate_nibp": "heart_rate", "glucose_isf": "glucose_bg", "glucose": "glucose_bg",
})  # fmt: skip
SIGNALS = (*_HEALTHY, "bp_mean", "bmi", "rr_interval", *_OWN_LEVEL)
"""Catalogue keys that a patient has a signal for; steps are those of the last quarter of an hour, sleep of a night."""


@dataclass(frozen=True, slots=True)
class SyntheticPatient:
    """One synthetic body. ``utc_offset_min`` sets the phase of day and meals; ``episodes`` are its ground truth."""

    seed: int
    condition: Condition
    utc_offset_min: int = 0
    episodes: tuple[Episode, ...] = ()

    def signal(self, vital: str, times_ns: TimeArray) -> FloatArray:
        """The true value of ``vital`` (canonical unit) at each UTC time, float64 of the same shape (one dimension).

        Raises:
            KeyError: there is no signal for ``vital``.
        """
        if vital == "bp_mean":
            dia = self.signal("bp_dia", times_ns)
            return dia + (self.signal("bp_sys", times_ns) - dia) / 3.0
        if vital == "bmi":
            return self.signal("weight", times_ns) / (self.signal("height", times_ns) / 100.0) ** 2
        if vital == "rr_interval":
            return 60_000.0 / self.signal("heart_rate", times_ns)
        key = _OWN_LEVEL.get(vital, vital)
        level = _CHANGES[self.condition].get(key, _HEALTHY[key])
        times = times_ns - ISF_LAG_NS if vital == "glucose_isf" else times_ns
        if times.size == 0:
            return np.zeros(0)
        value = self._mean(key, level) + self._day(level, times) + level.noise * self._slow_noise(key, times)
        if key == "glucose_bg":
            value = value + self._meals(times)
        value = np.clip(value, *level.bounds)
        return self._with_episodes(key, value, times)

    def _mean(self, key: str, level: _Level) -> float:
        return level.mean + level.spread * float(
            np.clip(np.random.default_rng([self.seed, BY_KEY[key].code]).standard_normal(), -2, 2)
        )

    def _day(self, level: _Level, times: TimeArray) -> FloatArray:
        local_hours = (times / HOUR_NS + self.utc_offset_min / 60.0) % 24.0
        return np.asarray(level.swing * np.cos((local_hours - level.peak_hour) * (np.pi / 12.0)), dtype=np.float64)

    def _days(self, times: TimeArray) -> range:
        """The UTC days of ``times`` with one more on each side, so that smoothing never sees an edge."""
        return range(int(times.min() // DAY_NS) - 1, int(times.max() // DAY_NS) + 2)

    def _slow_noise(self, key: str, times: TimeArray) -> FloatArray:
        """Unit-variance noise with a memory of about an hour: seeded knots per day, smoothed and interpolated."""
        days = self._days(times)
        seeds = ([self.seed, BY_KEY[key].code, 1, day] for day in days)
        knots = np.concatenate([np.random.default_rng(seed).standard_normal(_KNOTS_PER_DAY) for seed in seeds])
        smooth = np.convolve(knots, _SMOOTHING, mode="same")
        return _interpolate(smooth, days.start * DAY_NS, DAY_NS // _KNOTS_PER_DAY, times)

    def _meals(self, times: TimeArray) -> FloatArray:
        """Rise after three meals a day (local 7:30, 12:30, 18:30, jittered): fast up, slow down, in mg/dL."""
        days = self._days(times)
        impulses = np.zeros(len(days) * 1440)
        height = _MEAL_HEIGHT.get(self.condition, 28.0)
        for row, day in enumerate(days):
            rng = np.random.default_rng([self.seed, BY_KEY["glucose_bg"].code, 2, day])
            local = np.array([450.0, 750.0, 1110.0]) + rng.normal(0.0, 30.0, 3)
            minutes = (local - self.utc_offset_min) % 1440
            impulses[row * 1440 + minutes.astype(np.int64)] += height * rng.uniform(0.6, 1.3, 3)
        age = np.arange(_MEAL_KERNEL_MIN) / 50.0
        curve = np.convolve(impulses, age * np.exp(1.0 - age))[: len(impulses)]
        return _interpolate(curve, days.start * DAY_NS, MINUTE_NS, times)

    def _with_episodes(self, key: str, value: FloatArray, times: TimeArray) -> FloatArray:
        for episode in self.episodes:
            shift = COURSES[episode.kind].shifts.get(key, 0.0)
            if episode.vital != key and not shift:
                continue
            weight = episode.weight(times)
            value = value + weight * (episode.target - value if episode.vital == key else shift)
        return value


def _interpolate(curve: FloatArray, start_ns: int, step_ns: int, times: TimeArray) -> FloatArray:
    """``curve`` (samples from ``start_ns``, every ``step_ns``) at ``times``; whole steps are integers, so that the
    result does not depend on where the curve begins."""
    index, rest = np.divmod(times - start_ns, step_ns)
    share = rest / step_ns
    return np.asarray(curve[index] * (1.0 - share) + curve[index + 1] * share, dtype=np.float64)


_TYPICAL: Mapping[Condition, Sequence[EpisodeKind]] = MappingProxyType({
    Condition.HEALTHY: (),
    Condition.DIABETES: (EpisodeKind.HYPO,),
    Condition.HEART_FAILURE: (EpisodeKind.DESATURATION, EpisodeKind.TACHYCARDIA),
    Condition.COPD: (EpisodeKind.DESATURATION,),
    Condition.POST_SURGICAL: (EpisodeKind.FEVER, EpisodeKind.TACHYCARDIA),
})  # fmt: skip


def draw_episodes(
    seed: int, kinds: Sequence[EpisodeKind], start_ns: int, end_ns: int, *, per_day: float = 1.0
) -> tuple[Episode, ...]:
    """Seeded episodes inside [start, end), about ``per_day`` a day and never two at once, in order of time.

    The span is cut into equal slots; a slot holds one episode of a kind drawn from ``kinds``, or none when the
    episode drawn does not fit into it.
    """
    slots = round((end_ns - start_ns) / DAY_NS * per_day)
    if slots < 1 or not kinds:
        return ()
    rng = np.random.default_rng([seed, 3])
    slot_ns = (end_ns - start_ns) // slots
    found = []
    for slot in range(slots):
        kind = kinds[int(rng.integers(len(kinds)))]
        course = COURSES[kind]
        length = int(rng.integers(course.minutes[0], course.minutes[1] + 1)) * MINUTE_NS
        place, depth = float(rng.uniform()), float(rng.uniform(*course.target))
        if length < slot_ns:
            begin = start_ns + slot * slot_ns + int(place * (slot_ns - length)) // SECOND_NS * SECOND_NS
            found.append(Episode(kind, begin, begin + length, round(depth, 1)))
    return tuple(found)


def synthetic_patients(
    count: int, seed: int, start_ns: int, end_ns: int, *, per_day: float = 1.0, utc_offset_min: int = 0
) -> list[SyntheticPatient]:
    """``count`` patients, the conditions in turn, each with the episodes typical of its condition in [start, end)."""
    patients = []
    for number in range(count):
        condition = list(Condition)[number % len(Condition)]
        own = int(np.random.default_rng([seed, number]).integers(2**31))
        episodes = draw_episodes(own, _TYPICAL[condition], start_ns, end_ns, per_day=per_day)
        patients.append(SyntheticPatient(own, condition, utc_offset_min, episodes))
    return patients
