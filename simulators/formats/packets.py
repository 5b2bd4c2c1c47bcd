"""Bluetooth packets beside those of ``simulators.wire``, little-endian (device-formats.md 2.3, 2.4, 2.8 to 2.12).

Pure functions of their fields; optional fields are left out when None. Numbers for medical floats are decimals, whose
exponent states the precision.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from simulators.wire import Number, date_time, medical_float, sfloat


def _bits(*present: object) -> int:
    """Flags from bit 0 upwards: set where a field is given (True, or anything but None and False)."""
    return sum(1 << bit for bit, value in enumerate(present) if value is not None and value is not False)


def _u16(*values: int | None) -> bytes:
    return b"".join(struct.pack("<H", value) for value in values if value is not None)


def _u8(value: int | None) -> bytes:
    return b"" if value is None else bytes([value])


def _stamp(time: datetime | None) -> bytes:
    return b"" if time is None else date_time(time)


@dataclass(frozen=True, slots=True)
class GlucoseContext:
    """Glucose context (2.3): pairs are (code, amount); ``carbohydrate`` in kg, ``medication`` in kg, in L with
    ``litres``; ``health`` is (tester, health); ``exercise`` (s, %)."""

    carbohydrate: tuple[int, Number] | None = None
    meal: int | None = None
    health: tuple[int, int] | None = None
    exercise: tuple[int, int] | None = None
    medication: tuple[int, Number] | None = None
    litres: bool = False
    hba1c: Number | None = None


def glucose_context(sequence: int, context: GlucoseContext) -> bytes:
    """Glucose Measurement Context 0x2A34 of the measurement with that sequence number."""
    flags = _bits(
        context.carbohydrate, context.meal, context.health, context.exercise, context.medication, context.litres,
        context.hba1c,
    )  # fmt: skip
    out = struct.pack("<BH", flags, sequence)
    if context.carbohydrate is not None:
        out += bytes([context.carbohydrate[0]]) + sfloat(context.carbohydrate[1])
    out += _u8(context.meal)
    if context.health is not None:
        out += bytes([context.health[0] | context.health[1] << 4])
    if context.exercise is not None:
        out += struct.pack("<HB", *context.exercise)
    if context.medication is not None:
        out += bytes([context.medication[0]]) + sfloat(context.medication[1])
    return out + (b"" if context.hba1c is None else sfloat(context.hba1c))


def crc(data: bytes) -> bytes:
    """E2E-CRC, CRC-16/MCRF4XX, little-endian; over ASCII ``123456789`` it is 0x6F91."""
    register = 0xFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return struct.pack("<H", register)


def cgm_measurement(
    glucose: Number,
    minute: int,
    *,
    status: int | None = None,
    calibration: int | None = None,
    warning: int | None = None,
    trend: Number | None = None,
    quality: Number | None = None,
    with_crc: bool = False,
) -> bytes:
    """One record of CGM Measurement 0x2AA7: mg/dL at a minute of the session; octets status, cal/temp, warning."""
    flags = _bits(trend, quality, None, None, None, warning, calibration, status)
    rest = sfloat(glucose) + _u16(minute) + _u8(status) + _u8(calibration) + _u8(warning)
    rest += b"".join(sfloat(value) for value in (trend, quality) if value is not None)
    record = bytes([2 + len(rest) + 2 * with_crc, flags]) + rest
    return record + (crc(record) if with_crc else b"")


def cgm_session_start(wall: datetime, zone_quarters: int, dst: int, *, with_crc: bool = False) -> bytes:
    """CGM Session Start Time 0x2AAA: wall time, zone in quarters of an hour without DST, DST code (2.1)."""
    out = date_time(wall) + struct.pack("<bB", zone_quarters, dst)
    return out + (crc(out) if with_crc else b"")


def blood_pressure(
    pressures: Sequence[Number],
    *,
    kilopascal: bool = False,
    time: datetime | None = None,
    pulse: Number | None = None,
    user: int | None = None,
    status: int | None = None,
) -> bytes:
    """Blood Pressure Measurement 0x2A35: ``pressures`` are systolic, diastolic and mean."""
    systolic, diastolic, mean = pressures
    out = bytes([_bits(kilopascal, time, pulse, user, status)])
    out += sfloat(systolic) + sfloat(diastolic) + sfloat(mean) + _stamp(time)
    return out + (b"" if pulse is None else sfloat(pulse)) + _u8(user) + _u16(status)


def temperature(
    value: Number, *, fahrenheit: bool = False, time: datetime | None = None, site: int | None = None
) -> bytes:
    """Temperature Measurement 0x2A1C: a FLOAT of four bytes; ``site`` is the type of 2.9."""
    return bytes([_bits(fahrenheit, time, site)]) + medical_float(value) + _stamp(time) + _u8(site)


def weight(
    count: int,
    *,
    imperial: bool = False,
    time: datetime | None = None,
    user: int | None = None,
    bmi_height: tuple[int, int] | None = None,
) -> bytes:
    """Weight Measurement 0x2A9D: counts of 0.005 kg or 0.01 lb; BMI in 0.1, height in 0.001 m or 0.1 in."""
    out = bytes([_bits(imperial, time, user, bmi_height)]) + _u16(count)
    return out + _stamp(time) + _u8(user) + (_u16(*bmi_height) if bmi_height is not None else b"")


@dataclass(frozen=True, slots=True)
class BodyComposition:
    """Optional counts of 0x2A9C in the order of the wire: kJ, 0.1 %, four masses, 0.1 ohm, weight and height."""

    metabolism: int | None = None
    muscle_percent: int | None = None
    muscle: int | None = None
    fat_free: int | None = None
    soft_lean: int | None = None
    water: int | None = None
    impedance: int | None = None
    weight: int | None = None
    height: int | None = None

    def counts(self) -> tuple[int | None, ...]:
        """The counts, absent ones None."""
        return (
            self.metabolism, self.muscle_percent, self.muscle, self.fat_free, self.soft_lean, self.water,
            self.impedance, self.weight, self.height,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wearer:
    """When and for whom a scale measured."""

    time: datetime | None = None
    user: int | None = None
    imperial: bool = field(default=False, kw_only=True)


def body_composition(fat: int, wearer: Wearer, body: BodyComposition) -> bytes:
    """Body Composition Measurement 0x2A9C: fat in 0.1 %, flags of two bytes."""
    flags = _bits(wearer.imperial, wearer.time, wearer.user, *body.counts())
    return _u16(flags, fat) + _stamp(wearer.time) + _u8(wearer.user) + _u16(*body.counts())


def battery_level(percent: int) -> bytes:
    """Battery Level 0x2A19, 0 to 100."""
    if not 0 <= percent <= 100:
        raise ValueError("a battery level is 0 to 100 %")
    return bytes([percent])
