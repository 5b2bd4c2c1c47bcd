"""Encoders of device payloads, written from ``device-formats.md`` only.

Nothing here is shared with the code that decodes, so that an error in one is not repeated in the other. All functions
are pure; a value that the format cannot carry raises ``ValueError`` instead of being rounded or turned into another.
All multi-byte GATT fields are little-endian (device-formats.md 0).
"""

import csv
import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

from vitals.catalog import BY_KEY, accepts


class SpecialWord(Enum):
    """Special values of the medical floats, raw words (SFLOAT, FLOAT) of device-formats.md 1.1."""

    NAN = (0x07FF, 0x007FFFFF)
    NRES = (0x0800, 0x00800000)
    POSITIVE_INFINITY = (0x07FE, 0x007FFFFE)
    NEGATIVE_INFINITY = (0x0802, 0x00800002)
    RESERVED = (0x0801, 0x00800001)


Number = Decimal | int | str | SpecialWord
"""A decimal number (text keeps its trailing zeros, which state the precision) or a special value."""


def _medical_float(value: Number, mantissa_bits: int, exponent_bits: int) -> int:
    """The raw word of ``value``: its own exponent where it fits, another exact one where it does not."""
    number = Decimal(value) if not isinstance(value, SpecialWord) else Decimal(0)
    if not number.is_finite():
        raise ValueError("a special value is asked for by name, never through a decimal NaN or infinity")
    parts = number.as_tuple()
    exponent = int(parts.exponent)
    mantissa = int("".join(map(str, parts.digits))) * (-1 if parts.sign else 1)
    lowest, highest = -(1 << (exponent_bits - 1)), (1 << (exponent_bits - 1)) - 1
    limit = 1 << (mantissa_bits - 1)
    if mantissa == 0:
        exponent = min(max(exponent, lowest), highest)
    while exponent > highest and abs(mantissa) < limit:
        mantissa, exponent = mantissa * 10, exponent - 1
    while (exponent < lowest or not -limit <= mantissa < limit) and mantissa and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    if not (lowest <= exponent <= highest and -limit <= mantissa < limit):
        raise ValueError(f"{value} cannot be written exactly in {mantissa_bits} + {exponent_bits} bits")
    # The words of the special values are mantissas next to the limits with exponent 0 (device-formats.md 1.1).
    # None of them ends in 0, so there is no other exponent to move to.
    if exponent == 0 and not -limit + 2 < mantissa < limit - 2:
        raise ValueError(f"{value} would be read as a special value")
    return (exponent & ((1 << exponent_bits) - 1)) << mantissa_bits | (mantissa & ((1 << mantissa_bits) - 1))


def sfloat(value: Number) -> bytes:
    """SFLOAT, 2 bytes: 12-bit mantissa, 4-bit exponent; worked: ``sfloat("36.5") == bytes.fromhex("6DF1")``.

    Raises:
        ValueError: the number has no exact encoding that is not a special value (2046 or 1.2345, say).
    """
    word = value.value[0] if isinstance(value, SpecialWord) else _medical_float(value, 12, 4)
    return struct.pack("<H", word)


def medical_float(value: Number) -> bytes:
    """FLOAT, 4 bytes: 24-bit mantissa, 8-bit exponent; worked: ``"36.50"`` is ``42 0E 00 FE``. Raises as `sfloat`."""
    word = value.value[1] if isinstance(value, SpecialWord) else _medical_float(value, 24, 8)
    return struct.pack("<I", word)


def date_time(wall: datetime | None) -> bytes:
    """Date Time 0x2A08, 7 bytes: wall time without a zone, ``None`` = unknown (device-formats.md 2.1)."""
    if wall is None:
        return bytes(7)
    if wall.tzinfo is not None:
        raise ValueError("Date Time carries wall time: convert to the device's zone first")
    if wall.year < 1582:
        raise ValueError("Date Time begins in 1582")
    return struct.pack("<H5B", wall.year, wall.month, wall.day, wall.hour, wall.minute, wall.second)


class GlucoseUnit(StrEnum):
    """Unit of a 2A18 concentration (device-formats.md 2.2, flag b2)."""

    KG_L = "kg/L"
    MOL_L = "mol/L"


def glucose_measurement(
    sequence: int,
    base_time: datetime,
    concentration: Number | None = None,
    *,
    unit: GlucoseUnit = GlucoseUnit.KG_L,
    sample_type: int = 1,
    location: int = 1,
    offset_min: int | None = None,
    status: int | None = None,
    context_follows: bool = False,
) -> bytes:
    """Glucose Measurement 0x2A18 (device-formats.md 2.2).

    ``concentration`` is in ``unit``: 105 mg/dL is ``"0.00105"`` kg/L. ``sample_type`` and ``location`` are the codes of
    the table there (1, 1 = capillary whole blood, finger); ``offset_min`` is added by the reader to ``base_time``.
    """
    present = concentration is not None
    flags = (
        (offset_min is not None)
        | present << 1
        | (present and unit is GlucoseUnit.MOL_L) << 2
        | (status is not None) << 3
        | context_follows << 4
    )
    out = struct.pack("<BH", flags, sequence) + date_time(base_time)
    if offset_min is not None:
        out += struct.pack("<h", offset_min)
    if concentration is not None:
        out += sfloat(concentration) + bytes([sample_type | location << 4])
    if status is not None:
        out += struct.pack("<H", status)
    return out


def _status_fields(status: int | None, sensor: int | None, amplitude: Number | None) -> bytes:
    out = b"" if status is None else struct.pack("<H", status)
    out += b"" if sensor is None else sensor.to_bytes(3, "little")
    return out + (b"" if amplitude is None else sfloat(amplitude))


def plx_spot_check(
    spo2: Number,
    pulse: Number,
    *,
    time: datetime | None = None,
    status: int | None = None,
    sensor: int | None = None,
    amplitude: Number | None = None,
    clock_not_set: bool = False,
) -> bytes:
    """PLX Spot-check 0x2A5E (device-formats.md 2.5): SpO2 in %, pulse in beats/min, pulse amplitude index in %."""
    flags = (
        (time is not None)
        | (status is not None) << 1
        | (sensor is not None) << 2
        | (amplitude is not None) << 3
        | clock_not_set << 4
    )
    out = bytes([flags]) + sfloat(spo2) + sfloat(pulse)
    if time is not None:
        out += date_time(time)
    return out + _status_fields(status, sensor, amplitude)


def plx_continuous(
    spo2: Number,
    pulse: Number,
    *,
    fast: tuple[Number, Number] | None = None,
    slow: tuple[Number, Number] | None = None,
    status: int | None = None,
    sensor: int | None = None,
    amplitude: Number | None = None,
) -> bytes:
    """PLX Continuous 0x2A5F (device-formats.md 2.6): without a time; ``fast`` and ``slow`` are (SpO2, pulse)."""
    flags = (
        (fast is not None)
        | (slow is not None) << 1
        | (status is not None) << 2
        | (sensor is not None) << 3
        | (amplitude is not None) << 4
    )
    out = bytes([flags]) + sfloat(spo2) + sfloat(pulse)
    for pair in (fast, slow):
        if pair is not None:
            out += sfloat(pair[0]) + sfloat(pair[1])
    return out + _status_fields(status, sensor, amplitude)


def heart_rate_measurement(
    rate: int,
    *,
    contact: bool | None = None,
    energy_kj: int | None = None,
    rr_1024: Sequence[int] = (),
    wide: bool = False,
) -> bytes:
    """Heart Rate Measurement 0x2A37 (device-formats.md 2.7).

    ``rate`` in beats/min, in one byte unless it needs two or ``wide`` asks for two; ``contact`` ``None`` = the strap
    cannot tell; ``rr_1024`` are R-R intervals in 1/1024 s, oldest first; ``energy_kj`` is cumulative.
    """
    two_bytes = wide or rate > 0xFF
    flags = (
        two_bytes
        | (0 if contact is None else 0b110 if contact else 0b100)
        | (energy_kj is not None) << 3
        | bool(rr_1024) << 4
    )
    out = struct.pack("<BH" if two_bytes else "<BB", flags, rate)
    if energy_kj is not None:
        out += struct.pack("<H", energy_kj)
    return out + struct.pack(f"<{len(rr_1024)}H", *rr_1024)


@dataclass(frozen=True, slots=True)
class JsonReading:
    """One reading of the ``json`` adapter: catalogue key, number, unit, instant (aware) and optional sequence."""

    vital: str
    value: float
    unit: str
    time: datetime
    seq: int | None = None


class JsonForm(StrEnum):
    """The three shapes of a ``json`` payload, and of its time."""

    SINGLE = "single"
    ARRAY = "array"
    OBJECT = "object"


def json_readings(readings: Sequence[JsonReading], *, form: JsonForm = JsonForm.ARRAY, epoch_ms: bool = False) -> bytes:
    """Payload of the ``json`` adapter: one object, an array, or ``{"readings": [...]}``; times RFC 3339 or epoch ms.

    Raises:
        ValueError: unknown vital, a unit that does not measure it, a time without offset, or ``SINGLE`` of not one.
    """
    members = [_json_member(reading, epoch_ms) for reading in readings]
    if form is JsonForm.SINGLE:
        (document,) = members
        return json.dumps(document, separators=(",", ":")).encode()
    body = members if form is JsonForm.ARRAY else {"readings": members}
    return json.dumps(body, separators=(",", ":")).encode()


def _json_member(reading: JsonReading, epoch_ms: bool) -> dict[str, Any]:
    vital = BY_KEY.get(reading.vital)
    if vital is None or not accepts(vital, reading.unit):
        raise ValueError(f"{reading.vital} is not measured in {reading.unit}")
    if reading.time.tzinfo is None:
        raise ValueError("a json reading carries an instant: give its time an offset")
    time: int | str = round(reading.time.timestamp() * 1000) if epoch_ms else reading.time.isoformat()
    member: dict[str, Any] = {"vital": reading.vital, "value": reading.value, "unit": reading.unit, "time": time}
    if reading.seq is not None:
        member["seq"] = reading.seq
    return member


BOM = "\ufeff"
CLARITY_TIME = "Timestamp (YYYY-MM-DDThh:mm:ss)"
CLARITY_HEADER = (
    f"Index,{CLARITY_TIME},Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value (mg/dL),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),"
    "Glucose Rate of Change (mg/dL/min)"
)
"""The header line of a Clarity export in mg/dL, without byte order mark and line end."""


def clarity_row(index: int, wall: datetime, glucose: int | str, *, source: str = "sensor") -> str:
    """One ``EGV`` line, no line end: wall time to the second, mg/dL or the word of the sensor's limit (Low, High)."""
    if wall.tzinfo is not None:
        raise ValueError("a Clarity row carries wall time: convert to the receiver's zone first")
    time = wall.isoformat(timespec="seconds")
    return csv_line([str(index), time, "EGV", "", "", "", source, str(glucose), "", "", "", ""])


def csv_line(fields: Sequence[str]) -> str:
    """``fields`` as one CSV record without its line end; quoted only where it must be."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()


def clarity_chunk(rows: Sequence[str], *, header: str = CLARITY_HEADER, bom: bool = False) -> bytes:
    """A header line and ``rows``, LF line ends, UTF-8, with a byte order mark on request."""
    return ((BOM if bom else "") + "\n".join([header, *rows]) + "\n").encode()
