"""Labelled synthetic series, a family per kind of normal behaviour, with anomalies of many kinds.

Every series is a function of (family, seed). ``TUNING`` families were looked at while the detector was built,
``HELD_OUT`` families only measure it. Values have arbitrary units; times are seconds.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Random = np.random.Generator

DAY_S: Final = 86400.0


class Series(NamedTuple):
    """``windows``: (first, last) row of each labelled window, 10 % of the rows in all, as NAB draws them."""

    name: str
    seconds: Array
    values: Array
    windows: tuple[tuple[int, int], ...]


class Normal(NamedTuple):
    """Undisturbed values, their sampling interval in seconds and typical spread, and the least value there is."""

    values: Array
    interval_s: float
    spread: float
    least: float = -np.inf


def _ar(random: Random, rows: int, phi: float) -> Array:
    noise, state = random.normal(size=rows), 0.0
    found = np.empty(rows)
    for row in range(rows):
        state = phi * state + noise[row]
        found[row] = state
    return found * np.sqrt(1 - phi * phi)


def _clock(rows: int, interval_s: float) -> Array:
    return np.arange(rows) * interval_s


def _daily(rows: int, interval_s: float, sharp: float = 1.0) -> Array:
    """A day's hump, 0 to 1."""
    hump = 0.5 - 0.5 * np.cos(2 * np.pi * _clock(rows, interval_s) / DAY_S)
    return np.asarray(hump**sharp)


# Families looked at while building.


def noise(random: Random, rows: int) -> Normal:
    return Normal(np.round(50 + 4 * random.normal(size=rows), 2), 300, 4)


def walk(random: Random, rows: int) -> Normal:
    return Normal(np.round(20 + 5 * _ar(random, rows, 0.995) + 0.3 * random.normal(size=rows), 2), 3600, 4)


def traffic(random: Random, rows: int) -> Normal:
    """Counts with a daily hump and quiet weekends, every 30 minutes."""
    weekend = (_clock(rows, 1800) // DAY_S) % 7 >= 5
    mean = (4000 + 12000 * _daily(rows, 1800)) * np.where(weekend, 0.7, 1)
    return Normal(random.poisson(mean) * (1 + 0.04 * _ar(random, rows, 0.8)), 1800, 2500, 0)


def bursts(random: Random, rows: int) -> Normal:
    """Quiet with heavy-tailed bursts, as a server's disk or network."""
    busy = random.random(rows) < 0.02
    return Normal(random.gamma(2, 1.5, rows) + busy * random.pareto(3, rows) * 15, 300, 8, 0)


def load(random: Random, rows: int) -> Normal:
    """A percentage near its floor with steps, quantised to 0.1."""
    steps = np.repeat(random.normal(5, 0.6, rows // 100 + 1), 100)[:rows]
    return Normal(np.round(np.abs(steps + 0.3 * random.normal(size=rows)), 1), 300, 1, 0)


def square(random: Random, rows: int) -> Normal:
    """High by day and low by night, almost without noise."""
    high = (_clock(rows, 300) % DAY_S) > 0.4 * DAY_S
    return Normal(np.where(high, 80.0, 20.0) + 2 * random.random(rows), 300, 20)


def mentions(random: Random, rows: int) -> Normal:
    """Overdispersed counts with a weak day and bursts of their own."""
    rate = 15 * (0.4 + _daily(rows, 300)) * random.gamma(2, 0.5, rows)
    chatter = (random.random(rows) < 0.004) * random.gamma(2, 40, rows)
    return Normal(random.poisson(rate + chatter).astype(float), 300, 25, 0)


def heart(random: Random, rows: int) -> Normal:
    """Heart rate each minute: circadian, slow wander, bouts of activity."""
    active = np.convolve(random.random(rows) < 0.008, np.ones(12), "same") > 0
    return Normal(np.round(62 + 14 * _daily(rows, 60) + 3 * _ar(random, rows, 0.95) + 25 * active), 60, 9, 0)


# Families that only measure.


def sensor(random: Random, rows: int) -> Normal:
    """Room temperature each hour: yearly drift, a day's swing, slow weather."""
    season = 4 * np.sin(2 * np.pi * np.arange(rows) / rows)
    return Normal(70 + season + 2 * _daily(rows, 3600) + 2.5 * _ar(random, rows, 0.98), 3600, 3)


def machine(random: Random, rows: int) -> Normal:
    """A cycle of its own length, unrelated to the clock."""
    length = int(random.integers(40, 160))
    phase = np.arange(rows) % length / length
    return Normal(np.where(phase < 0.3, 9 * phase, 2.7 - 2 * phase) + 0.15 * random.normal(size=rows), 7, 0.8)


def latency(random: Random, rows: int) -> Normal:
    """Log-normal response times with a daily swing."""
    return Normal(np.round(np.exp(3 + 0.5 * _daily(rows, 300) + 0.35 * random.normal(size=rows)), 1), 300, 15, 0)


def trend(random: Random, rows: int) -> Normal:
    slope = random.choice([-1, 1]) * random.uniform(0.005, 0.02)
    return Normal(300 + slope * np.arange(rows) + 2 * _ar(random, rows, 0.7), 600, 3)


def idle(random: Random, rows: int) -> Normal:
    """Mostly zero, short jobs now and then."""
    job = np.convolve(random.random(rows) < 0.01, np.ones(5), "same") > 0
    return Normal(np.round(job * random.gamma(9, 3, rows), 1), 300, 12, 0)


def glucose(random: Random, rows: int) -> Normal:
    """Glucose every 5 minutes: three meals a day over a slow wander."""
    day = _clock(rows, 300) % DAY_S / 3600
    meals = sum(45 * np.exp(-(((day - hour) / 1.1) ** 2)) for hour in (8.5, 13, 19.5))
    return Normal(np.round(95 + meals + 14 * _ar(random, rows, 0.97)), 300, 20, 0)


def periods(random: Random, rows: int) -> Normal:
    """Work hours with an evening batch job, weekly; every 15 minutes."""
    clock = _clock(rows, 900)
    hour, weekday = clock % DAY_S / 3600, (clock // DAY_S) % 7 < 5
    busy = np.where((hour > 8) & (hour < 18) & weekday, 40.0, 5) + np.where((hour > 22) & (hour < 23), 60.0, 0)
    return Normal(busy * (1 + 0.06 * random.normal(size=rows)) + random.normal(size=rows), 900, 20, 0)


Family = Callable[[Random, int], Normal]
TUNING: Final[tuple[Family, ...]] = (noise, walk, traffic, bursts, load, square, mentions, heart)
HELD_OUT: Final[tuple[Family, ...]] = (sensor, machine, latency, trend, idle, glucose, periods)

# Anomalies: each changes values from ``start`` on, in place.


def _spike(x: Array, start: int, normal: Normal, random: Random) -> None:
    size = random.uniform(3, 7) * (normal.spread + np.std(x[:start]))
    x[start : start + int(random.integers(1, 4))] += random.choice([-1, 1, 1]) * size


def _dip(x: Array, start: int, normal: Normal, random: Random) -> None:
    low = max(normal.least, float(np.min(x[:start]) - random.uniform(0, 1) * normal.spread))
    x[start : start + int(random.integers(10, 60))] = low


def _shift(x: Array, start: int, normal: Normal, random: Random) -> None:
    x[start:] += random.choice([-1, 1]) * random.uniform(1.5, 4) * normal.spread


def _plateau(x: Array, start: int, normal: Normal, random: Random) -> None:
    x[start : start + int(random.integers(30, 250))] += random.uniform(1.5, 4) * normal.spread


def _ramp(x: Array, start: int, normal: Normal, random: Random) -> None:
    rows = int(random.integers(60, 300))
    size = random.uniform(3, 6) * normal.spread
    x[start : start + rows] += np.linspace(0, size, rows)[: len(x) - start]


def _noisy(x: Array, start: int, normal: Normal, random: Random) -> None:
    rows = min(int(random.integers(40, 200)), len(x) - start)
    x[start : start + rows] += random.uniform(1.5, 3) * normal.spread * random.normal(size=rows)


def _stuck(x: Array, start: int, normal: Normal, random: Random) -> None:
    x[start : start + int(random.integers(80, 300))] = x[start - 1]


def _damped(x: Array, start: int, normal: Normal, random: Random) -> None:
    """The swing of the last rows goes flat: a missing peak."""
    rows = int(random.integers(150, 320))
    part = x[start : start + rows]
    part[:] = np.median(x[max(0, start - 600) : start]) + 0.15 * (part - np.mean(part))


def _cluster(x: Array, start: int, normal: Normal, random: Random) -> None:
    rows = min(60, len(x) - start)
    x[start : start + rows] += (random.random(rows) < 0.3) * random.uniform(3, 6) * normal.spread


Kind = Callable[[Array, int, Normal, Random], None]
TUNING_KINDS: Final[tuple[Kind, ...]] = (_spike, _dip, _shift, _noisy, _stuck, _plateau)
ALL_KINDS: Final[tuple[Kind, ...]] = (*TUNING_KINDS, _ramp, _damped, _cluster)

QUIET_SHARE: Final = 0.2
"""Every so-manieth series has no anomaly at all: it only costs who fires."""


def make(family: Family, seed: int, kinds: tuple[Kind, ...]) -> Series:
    """One series of 2,000 to 6,000 rows with none to three anomalies after the first fifth."""
    random = np.random.default_rng([seed, sum(family.__name__.encode())])
    rows = int(random.integers(2000, 6000))
    normal = family(random, rows)
    values = np.array(normal.values, dtype=float)
    count = 0 if random.random() < QUIET_SHARE else int(random.integers(1, 4))
    width = rows // 10 // max(count, 1)
    starts = np.linspace(0.22, 0.9, count + 1)[:-1] * rows + random.uniform(0.02, 0.12, count) * rows
    windows = []
    for start in starts.astype(int):
        kinds[int(random.integers(len(kinds)))](values, int(start), normal, random)
        # The label is drawn around the anomaly: its onset lies in the first half of the window.
        first = int(start) - int(random.uniform(0.1, 0.5) * width)
        windows.append((first, min(first + width, rows - 1)))
    np.maximum(values, normal.least, out=values)
    return Series(f"{family.__name__}-{seed}", _clock(rows, normal.interval_s), values, tuple(windows))


def corpus(families: tuple[Family, ...], seeds: range, kinds: tuple[Kind, ...]) -> list[Series]:
    return [make(family, seed, kinds) for family in families for seed in seeds]
