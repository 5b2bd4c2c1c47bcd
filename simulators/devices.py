"""Simulated devices: a patient's signal, sampled on a schedule, read by a clock that may be wrong, put on the wire.

A device keeps no state: what it sends in a span of time follows from its parts, so a run can be cut anywhere, resumed
and repeated. Measurement ``k`` is the same in every call, and a full resync sends the very same bytes again.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import repeat

import numpy as np
import numpy.typing as npt

from simulators import formats, wire
from simulators.formats import CarriedTime, Format
from simulators.patients import SIGNALS, SyntheticPatient
from vitals.catalog import BY_KEY
from vitals.times import SECOND_NS
from vitals.units import from_canonical

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class SimulatedClock:
    """What a device believes the time to be.

    ``utc_offset_min`` is the wall it was set to; ``offset_s`` how far it is ahead; ``drift_ppm`` how much it gains
    from ``set_ns`` on. ``resets`` are (instant, wall time it falls back to), in order: a battery change, from which
    it counts on (device-formats.md 8.1).
    """

    utc_offset_min: int = 0
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    set_ns: int = 0
    resets: tuple[tuple[int, datetime], ...] = ()

    def wall(self, at_ns: int) -> datetime:
        """The device's wall time, naive, at the true UTC instant ``at_ns``."""
        past = [reset for reset in self.resets if reset[0] <= at_ns]
        since_ns, begin = past[-1] if past else (self.set_ns, self._true_wall(self.set_ns))
        elapsed_ns = at_ns - since_ns
        gained = elapsed_ns * self.drift_ppm / 1e6
        return begin + timedelta(microseconds=(elapsed_ns + gained) // 1000)

    def _true_wall(self, at_ns: int) -> datetime:
        epoch = datetime(1970, 1, 1) + timedelta(microseconds=at_ns // 1000)  # noqa: DTZ001 - wall time has no zone
        return epoch + timedelta(minutes=self.utc_offset_min, seconds=self.offset_s)

    def instant(self, at_ns: int) -> datetime:
        """The same as an instant, in the zone that the device assumes (UTC)."""
        return (self.wall(at_ns) - timedelta(minutes=self.utc_offset_min)).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Compressed time: the body lives ``speed`` times faster than the clocks from ``start_ns`` on."""

    start_ns: int = 0
    speed: float = 1.0

    def body(self, at_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The body's time at real instants."""
        if self.speed == 1.0:
            return at_ns
        return self.start_ns + ((at_ns - self.start_ns) * self.speed).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a device measures and when it sends.

    Measurement ``k`` is at ``first_ns + k * period_s`` (+ up to ``jitter_s``). With ``sync_s`` None each goes out when
    it is made; otherwise they wait in memory and go out every ``sync_s``: those since the last sync, or, with
    ``resync``, the last ``memory`` of all, as a glucometer does (device-formats.md 8.1).
    """

    first_ns: int
    period_s: float
    jitter_s: float = 0.0
    sync_s: float | None = None
    resync: bool = False
    memory: int = 500

    def __post_init__(self) -> None:
        if self.period_s <= 0 or not 0 <= self.jitter_s < self.period_s:
            raise ValueError("a schedule needs a positive period and a jitter below it")

    def faster(self, speed: float) -> "Schedule":
        """The same schedule for a body that lives ``speed`` times faster."""
        sync_s = None if self.sync_s is None else self.sync_s / speed
        return replace(self, period_s=self.period_s / speed, jitter_s=self.jitter_s / speed, sync_s=sync_s)

    def measured(self, start_ns: int, end_ns: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(ordinals, instants), int64, of the measurements in [start, end)."""
        period_ns = int(self.period_s * SECOND_NS)
        first = max(0, (start_ns - self.first_ns) // period_ns - 1)
        last = max(first, (end_ns - self.first_ns) // period_ns + 1)
        ordinals = np.arange(first, last, dtype=np.int64)
        times = self.first_ns + ordinals * period_ns
        if self.jitter_s:
            share = _per_ordinal(ordinals, [seed, 5], lambda rng: rng.uniform(size=_BLOCK))
            times = times + (share * self.jitter_s * SECOND_NS).astype(np.int64)
        inside = (times >= start_ns) & (times < end_ns)
        return ordinals[inside], times[inside]

    def syncs(self, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """(previous sync, sync) for each sync in [start, end)."""
        assert self.sync_s is not None
        step = int(self.sync_s * SECOND_NS)
        number = max(1, -((self.first_ns - start_ns) // step))
        found = []
        while (due := self.first_ns + number * step) < end_ns:
            found.append((due - step, due))
            number += 1
        return found


def _per_ordinal(
    ordinals: npt.NDArray[np.int64], seed: list[int], draw: Callable[[np.random.Generator], npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """One random number per ordinal, the same however the ordinals are asked for: drawn in seeded blocks."""
    out = np.empty(len(ordinals))
    blocks = ordinals // _BLOCK
    for block in np.unique(blocks):
        rows = blocks == block
        out[rows] = draw(np.random.default_rng([*seed, int(block)]))[ordinals[rows] % _BLOCK]
    return out


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement: its ordinal, the true instant, and the values of the encoder's vitals as Decimals."""

    ordinal: int
    at_ns: int
    values: tuple[Decimal, ...]


@dataclass(frozen=True, slots=True)
class Encoder:
    """Turns samples into payloads.

    ``channels`` are (catalogue key, unit to write, decimals, measurement noise in the canonical unit); ``encode``
    gets all samples of one sending. ``resolution_s`` is the finest step of a format whose identity rests on time.
    """

    channels: tuple[tuple[str, str, int, float], ...]
    encode: Callable[[Sequence[Measurement], SimulatedClock], list[bytes]]
    resolution_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device with credentials, worn by ``patient``. ``kind`` is the last level of its topic, "" for none."""

    device: str
    secret: str
    adapter: str
    kind: str
    patient: SyntheticPatient
    schedule: Schedule
    encoder: Encoder
    clock: SimulatedClock = SimulatedClock()
    seed: int = 0

    def emit(self, start_ns: int, end_ns: int, timeline: Timeline | None = None) -> list[tuple[int, bytes]]:
        """(due time, payload) of everything it sends in [start, end), in order of time; instants are UTC ns."""
        line = timeline or Timeline()
        if self.schedule.sync_s is None:
            return [
                (sample.at_ns, payload)
                for sample in self.samples(start_ns, end_ns, line)
                for payload in self.encoder.encode([sample], self.clock)
            ]
        out = []
        for previous, due in self.schedule.syncs(start_ns, end_ns):
            since = self.schedule.first_ns if self.schedule.resync else previous
            kept = self.samples(since, due, line)
            if self.schedule.resync:
                kept = kept[-self.schedule.memory :]
            out += [(due, payload) for payload in self.encoder.encode(kept, self.clock)] if kept else []
        return out

    def samples(self, start_ns: int, end_ns: int, timeline: Timeline | None = None) -> list[Measurement]:
        """The measurements made in [start, end): the ground truth behind the payloads."""
        ordinals, times = self.schedule.measured(start_ns, end_ns, self.seed)
        if not len(ordinals):
            return []
        body = (timeline or Timeline()).body(times)
        columns = [self._channel(channel, ordinals, body) for channel in self.encoder.channels]
        values = zip(*columns, strict=True) if columns else repeat((), len(ordinals))
        rows = zip(ordinals.tolist(), times.tolist(), values, strict=True)
        return [Measurement(ordinal, at_ns, values) for ordinal, at_ns, values in rows]

    def _channel(
        self,
        channel: tuple[str, str, int, float],
        ordinals: npt.NDArray[np.int64],
        body_ns: npt.NDArray[np.int64],
    ) -> list[Decimal]:
        key, unit, decimals, noise = channel
        vital = BY_KEY[key]
        error = _per_ordinal(ordinals, [self.seed, 4, vital.code], lambda rng: rng.standard_normal(_BLOCK))
        value = self.patient.signal(key, body_ns) + noise * error
        if vital.unit == "%":
            value = np.minimum(value, 100.0)
        return [Decimal(f"{number:.{decimals}f}") for number in from_canonical(value, vital.unit, unit).tolist()]


def _encode_glucose(samples: Sequence[Measurement], clock: SimulatedClock) -> list[bytes]:
    return [
        wire.glucose_measurement(sample.ordinal & 0xFFFF, clock.wall(sample.at_ns), sample.values[0])
        for sample in samples
    ]


def _encode_spot(samples: Sequence[Measurement], clock: SimulatedClock) -> list[bytes]:
    return [wire.plx_spot_check(*sample.values, time=clock.wall(sample.at_ns)) for sample in samples]


def _encode_continuous(samples: Sequence[Measurement], _clock: SimulatedClock) -> list[bytes]:
    return [wire.plx_continuous(*sample.values) for sample in samples]


def _encode_heart_rate(samples: Sequence[Measurement], _clock: SimulatedClock) -> list[bytes]:
    return [
        wire.heart_rate_measurement(rate, contact=True, rr_1024=[round(60 * 1024 / rate)])
        for rate in (int(sample.values[0]) for sample in samples)
    ]


def _encode_clarity(samples: Sequence[Measurement], clock: SimulatedClock) -> list[bytes]:
    rows = [
        wire.clarity_row(sample.ordinal + 1, clock.wall(sample.at_ns), _within_sensor(sample.values[0]))
        for sample in samples
    ]
    return [wire.clarity_chunk(rows)]


def _within_sensor(value: Decimal) -> int | str:
    low, high = BY_KEY["glucose_isf"].sensor_range or (40, 400)
    return "Low" if value < low else "High" if value > high else int(value)


def json_encoder(channels: tuple[tuple[str, str, int, float], ...], *, epoch_ms: bool = False) -> Encoder:
    """Encoder of the ``json`` adapter: all channels of all samples in one array, ``seq`` = ordinal."""

    def encode(samples: Sequence[Measurement], clock: SimulatedClock) -> list[bytes]:
        readings = [
            wire.JsonReading(key, float(value), unit, clock.instant(sample.at_ns), sample.ordinal)
            for sample in samples
            for (key, unit, _, _), value in zip(channels, sample.values, strict=True)
        ]
        return [wire.json_readings(readings, epoch_ms=epoch_ms)]

    return Encoder(channels, encode)


GLUCOSE_2A18 = Encoder((("glucose_bg", "kg/L", 5, 3.0),), _encode_glucose)
PLX_2A5E = Encoder((("spo2", "%", 1, 0.3), ("pulse_rate", "/min", 0, 1.0)), _encode_spot, 1.0)
PLX_2A5F = Encoder((("spo2", "%", 0, 0.3), ("pulse_rate", "/min", 0, 1.0)), _encode_continuous)
HEART_RATE_2A37 = Encoder((("heart_rate", "/min", 0, 1.0),), _encode_heart_rate)
CLARITY = Encoder((("glucose_isf", "mg/dL", 0, 3.0),), _encode_clarity, 1.0)
HOME_KIT = json_encoder((
    ("bp_sys", "mm[Hg]", 0, 2.0), ("bp_dia", "mm[Hg]", 0, 1.5), ("temp", "Cel", 1, 0.05), ("weight", "kg", 1, 0.1),
    ("resp_rate", "/min", 0, 0.5),
))  # fmt: skip

_NOISE = {
    "heart_rate": 1.0, "pulse_rate": 1.0, "pulse_rate_nibp": 1.0, "spo2": 0.3, "resp_rate": 0.5, "bp_sys": 2.0,
    "bp_dia": 1.5, "bp_mean": 1.5, "temp": 0.05, "glucose_bg": 3.0, "glucose_isf": 3.0, "glucose": 3.0, "weight": 0.1,
    "rr_interval": 15.0,
}  # fmt: skip
"""Standard deviation of a device's error, in the canonical unit; the others are exact."""
_DECIMALS = 4


def format_encoder(spoken: Format, seed: int) -> Encoder:
    """Encoder of one of ``simulators.formats``: a payload per sample, all that a patient has a signal for.

    What a payload leaves open follows from ``seed`` and the ordinal: measurement ``k`` is the same bytes each time.
    """
    keys = sorted(spoken.vitals & set(SIGNALS))
    on_the_wall = spoken.time in {CarriedTime.WALL, CarriedTime.RELATIVE}

    def encode(samples: Sequence[Measurement], clock: SimulatedClock) -> list[bytes]:
        payloads = []
        for sample in samples:
            moment = clock.wall(sample.at_ns).replace(tzinfo=UTC) if on_the_wall else clock.instant(sample.at_ns)
            time_ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
            values = {key: float(value) for key, value in zip(keys, sample.values, strict=True)}
            measured = formats.Sample(values, time_ns, sample.ordinal, hub_ns=sample.at_ns)
            payloads.append(spoken.encode(measured, random.Random(f"{seed} {sample.ordinal}")))  # noqa: S311
        return payloads

    channels = tuple((key, BY_KEY[key].unit, _DECIMALS, _NOISE.get(key, 0.0)) for key in keys)
    return Encoder(channels, encode, 0.0 if spoken.time is CarriedTime.NONE else spoken.time_step_s)
