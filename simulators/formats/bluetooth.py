"""Bluetooth devices: values of their characteristics, and hubs that put packets into JSON (section 0, 2)."""

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from simulators import wire
from simulators.formats import packets
from simulators.formats.model import CarriedTime, Format, Sample, instant, instant_text, written
from vitals.times import DAY_S

SESSION_DAYS: Final = 10
"""How long a sensor's session lasts; sessions begin at midnight UTC of every tenth day since 1970."""
_SOUND_STATUS: Final = (None, 0x0020, 0x0080, 0x0100)
"""Measurement status of an oximeter that says nothing against the value: ongoing, validated, fully qualified."""


def _maybe(rng: random.Random, value: Any) -> Any:
    return value if rng.random() < 0.5 else None


def _glucose(sample: Sample, rng: random.Random) -> bytes:
    molar = rng.random() < 0.5
    value = sample.values["glucose_bg"]
    return wire.glucose_measurement(
        sample.seq & 0xFFFF,
        sample.wall(),
        written("glucose_bg", value, "mol/L", 4) if molar else written("glucose_bg", value, "kg/L", 5),
        unit=wire.GlucoseUnit.MOL_L if molar else wire.GlucoseUnit.KG_L,
        sample_type=rng.choice((1, 2)),
        location=rng.choice((1, 2, 15)),
        offset_min=_maybe(rng, 0),
        status=_maybe(rng, rng.choice((0, 1))),
    )


def _glucose_context(sample: Sample, rng: random.Random) -> bytes:
    medication = _maybe(rng, (rng.randint(1, 5), f"{rng.randint(1, 40)}E-5"))
    context = packets.GlucoseContext(
        carbohydrate=_maybe(rng, (rng.randint(1, 7), f"{rng.randint(5, 120) / 1000:.3f}")),
        meal=_maybe(rng, rng.randint(1, 5)),
        health=_maybe(rng, (1, rng.choice((1, 4, 5)))),
        exercise=_maybe(rng, (rng.randint(300, 7200), rng.randint(10, 90))),
        medication=medication,
        litres=medication is not None and rng.random() < 0.5,
    )
    return packets.glucose_context(sample.seq & 0xFFFF, context)


def session_start(sample: Sample) -> datetime:
    """Wall time (UTC) at which the session of a sample began."""
    days = sample.seconds() // DAY_S // SESSION_DAYS * SESSION_DAYS
    return datetime(1970, 1, 1) + timedelta(days=days)  # noqa: DTZ001 - wall time


def _cgm(sample: Sample, rng: random.Random) -> bytes:
    minute = (sample.wall() - session_start(sample)) // timedelta(minutes=1)
    return packets.cgm_measurement(
        written("glucose_isf", sample.values["glucose_isf"], "mg/dL", 0),
        minute,
        status=_maybe(rng, rng.choice((0, 2))),
        calibration=_maybe(rng, 0),
        warning=_maybe(rng, 0),
        trend=_maybe(rng, f"{rng.uniform(-3, 3):.1f}"),
        quality=_maybe(rng, rng.randint(80, 99)),
        with_crc=rng.random() < 0.5,
    )


def _session(sample: Sample, rng: random.Random) -> bytes:
    zone, dst = rng.choice(((0, 0), (-20, 4), (22, 0), (4, 4)))
    minutes = zone * 15 + dst * 15
    return packets.cgm_session_start(session_start(sample) + timedelta(minutes=minutes), zone, dst)


def _spot(sample: Sample, rng: random.Random) -> bytes:
    spo2, pulse, amplitude = _oximeter(sample)
    return wire.plx_spot_check(
        spo2, pulse, time=sample.wall(), amplitude=amplitude, status=rng.choice(_SOUND_STATUS), sensor=_maybe(rng, 0)
    )


def _continuous(sample: Sample, rng: random.Random) -> bytes:
    spo2, pulse, amplitude = _oximeter(sample)
    return wire.plx_continuous(
        spo2, pulse, fast=_maybe(rng, (spo2, pulse)), slow=_maybe(rng, (spo2, pulse)),
        status=rng.choice(_SOUND_STATUS), sensor=_maybe(rng, 0), amplitude=amplitude,
    )  # fmt: skip


def _oximeter(sample: Sample) -> tuple[wire.Number, wire.Number, wire.Number | None]:
    """SpO2, pulse and amplitude; a missing value is the special value NaN, a missing amplitude is left out."""
    values = sample.values
    spo2 = written("spo2", values["spo2"], "%", 1) if "spo2" in values else wire.SpecialWord.NAN
    pulse = written("pulse_rate", values["pulse_rate"], "/min", 0) if "pulse_rate" in values else wire.SpecialWord.NAN
    return spo2, pulse, written("perf_index", values["perf_index"], "%", 1) if "perf_index" in values else None


def _heart_rate(sample: Sample, rng: random.Random) -> bytes:
    beat_ms = sample.values.get("rr_interval")
    return wire.heart_rate_measurement(
        round(sample.values["heart_rate"]),
        contact=_maybe(rng, True),
        energy_kj=_maybe(rng, rng.randint(0, 3000)),
        rr_1024=[] if beat_ms is None else [round(beat_ms * 1.024)],
        wide=rng.random() < 0.2,
    )


def _pressure(sample: Sample, rng: random.Random) -> bytes:
    kilopascal = rng.random() < 0.3
    unit, decimals = ("kPa", 1) if kilopascal else ("mm[Hg]", 0)
    pressures = [
        written(key, sample.values[key], unit, decimals) if key in sample.values else wire.SpecialWord.NAN
        for key in ("bp_sys", "bp_dia", "bp_mean")
    ]
    pulse = sample.values.get("pulse_rate_nibp")
    return packets.blood_pressure(
        pressures,
        kilopascal=kilopascal,
        time=sample.wall(),
        pulse=None if pulse is None else f"{pulse:.0f}",
        status=_maybe(rng, 0),
    )


def _temperature(sample: Sample, rng: random.Random) -> bytes:
    fahrenheit = rng.random() < 0.4
    value = written("temp", sample.values["temp"], "[degF]" if fahrenheit else "Cel", rng.choice((1, 2)))
    return packets.temperature(value, fahrenheit=fahrenheit, time=sample.wall(), site=_maybe(rng, rng.randint(1, 9)))


def _count(key: str, value: float, unit: str, step: str) -> int:
    return round(float(written(key, value, unit, 6)) / float(step))


def _weight(sample: Sample, rng: random.Random) -> bytes:
    imperial = rng.random() < 0.4
    values = sample.values
    unit, step, length, tick = ("[lb_av]", "0.01", "[in_i]", "0.1") if imperial else ("kg", "0.005", "m", "0.001")
    both = None
    if "bmi" in values and "height" in values:
        both = round(values["bmi"] * 10), _count("height", values["height"], length, tick)
    return packets.weight(
        _count("weight", values["weight"], unit, step),
        imperial=imperial,
        time=sample.wall(),
        bmi_height=both,
    )


def _body(sample: Sample, rng: random.Random) -> bytes:
    imperial = rng.random() < 0.4
    unit, step = ("[lb_av]", "0.01") if imperial else ("kg", "0.005")
    body = packets.BodyComposition(
        metabolism=_maybe(rng, rng.randint(5000, 9000)),
        muscle_percent=_maybe(rng, rng.randint(250, 480)),
        water=_maybe(rng, rng.randint(7000, 9500)),
        impedance=_maybe(rng, rng.randint(4000, 6500)),
        weight=_count("weight", sample.values["weight"], unit, step) if "weight" in sample.values else None,
    )
    wearer = packets.Wearer(sample.wall(), imperial=imperial)
    return packets.body_composition(round(sample.values["body_fat"] * 10), wearer, body)


def _battery(_sample: Sample, rng: random.Random) -> bytes:
    return packets.battery_level(rng.randint(5, 100))


def uuid_text(number: int, rng: random.Random) -> str:
    """A characteristic's number as hubs spell it (section 0)."""
    spellings = (f"{number:04X}", f"{number:04x}", f"0x{number:04x}", str(number))
    return rng.choice((*spellings, f"{number:08x}-0000-1000-8000-00805f9b34fb"))


def hub_packet(number: int, value: bytes, sample: Sample, rng: random.Random) -> dict[str, Any]:
    """One packet as a hub's JSON object; the encoding is declared."""
    encoding = rng.choice(("hex", "base64"))
    text = value.hex() if encoding == "hex" else base64.b64encode(value).decode()
    hub_ns = sample.time_ns if sample.hub_ns is None else sample.hub_ns
    ts = hub_ns // 1_000_000 if rng.random() < 0.5 else instant_text(instant(hub_ns), 0, digits=3)
    return {"uuid": uuid_text(number, rng), "value": text, "encoding": encoding, "ts": ts}


Parts = Sequence[tuple[int, Callable[[Sample, random.Random], bytes]]]


def _envelope(parts: Parts) -> Callable[[Sample, random.Random], bytes]:
    def encode(sample: Sample, rng: random.Random) -> bytes:
        found = [hub_packet(number, packet(sample, rng), sample, rng) for number, packet in parts]
        return json.dumps(found[0] if len(found) == 1 else found, separators=(",", ":")).encode()

    return encode


_GLUCOSE_STEP = {"glucose_bg": 0.91}
_OXIMETER_STEP = {"spo2": 0.05, "pulse_rate": 0.5, "perf_index": 0.05}
_HEART_STEP = {"heart_rate": 0.5, "rr_interval": 0.49}
_PRESSURE_STEP = {"bp_sys": 0.51, "bp_dia": 0.51, "bp_mean": 0.51, "pulse_rate_nibp": 0.5}
_SCALE_STEP = {"weight": 0.0026, "bmi": 0.05, "height": 0.128}

_PACKETS: Final = (
    Format("ble_glucose", "2a18", "glucose meter", _GLUCOSE_STEP, _glucose, CarriedTime.WALL, period_s=14_400.0),
    Format("ble_glucose", "2a34", "glucose meter, context", {}, _glucose_context, CarriedTime.NONE, period_s=14_400.0),
    Format("ble_cgm", "2aa7", "glucose sensor", {"glucose_isf": 0.5}, _cgm, CarriedTime.RELATIVE, 60.0, period_s=300.0),
    Format("ble_plx", "2a5e", "fingertip oximeter", _OXIMETER_STEP, _spot, CarriedTime.WALL),
    Format("ble_plx", "2a5f", "worn oximeter", _OXIMETER_STEP, _continuous, CarriedTime.NONE, period_s=1.0),
    Format("ble_heart_rate", "2a37", "chest strap", _HEART_STEP, _heart_rate, CarriedTime.NONE, period_s=1.0),
    Format("ble_blood_pressure", "2a35", "cuff", _PRESSURE_STEP, _pressure, CarriedTime.WALL, period_s=3600.0),
    Format("ble_thermometer", "2a1c", "thermometer", {"temp": 0.05}, _temperature, CarriedTime.WALL, period_s=3600.0),
    Format("ble_scale", "2a9d", "scale", _SCALE_STEP, _weight, CarriedTime.WALL, period_s=3600.0),
    Format("ble_scale", "2a9c", "body composition scale", {"body_fat": 0.05, "weight": 0.0026}, _body, CarriedTime.WALL,
           period_s=3600.0),
    Format("ble_battery", "2a19", "battery", {}, _battery, CarriedTime.NONE),
)  # fmt: skip


def _hub(of: Format, parts: Parts, time: CarriedTime) -> Format:
    step = 0.001 if of.time is CarriedTime.NONE and len(parts) == 1 else of.time_step_s
    return replace(
        of, kind="envelope", title=f"{of.title} behind a hub", encode=_envelope(parts), time=time, time_step_s=step
    )


def _hubs() -> tuple[Format, ...]:
    by_kind = {packet.kind: packet for packet in _PACKETS}
    glucose, cgm = by_kind["2a18"], by_kind["2aa7"]
    pairs = (
        _hub(glucose, ((0x2A18, _glucose), (0x2A34, _glucose_context)), CarriedTime.WALL),
        _hub(cgm, ((0x2AAA, _session), (0x2AA7, _cgm)), CarriedTime.INSTANT),
    )
    alone = [of for kind, of in by_kind.items() if kind not in {"2a18", "2a34", "2aa7"}]
    times = [CarriedTime.WALL if of.time is CarriedTime.WALL else CarriedTime.HUB for of in alone]
    return pairs + tuple(
        _hub(of, ((int(of.kind, 16), of.encode),), time) for of, time in zip(alone, times, strict=True)
    )


BLUETOOTH: Final = _PACKETS + _hubs()
"""Each characteristic as its bytes, and each again as JSON of a hub, with its companion where it needs one."""
