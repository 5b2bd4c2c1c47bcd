"""``nightscout``: entries of API v1 and v3, one or an array (device-formats.md 5.2).

``sgv`` is sensor glucose, ``mbg`` a meter's, both in mg/dL unless ``units`` says mmol; ``cal`` is skipped. A whole
sensor value of 20 to 39 mg/dL is below the sensor's range. One under 20 is an error code, or, where the codes are not
known, an unknown code of the worklist. A fraction under 39 that claims to be mg/dL is a doubt about the unit: up to
22.25 (of a meter 33.3) it is read as mmol/L, flagged suspect, so that a low one asks for confirmation, and the device
event ``unit_suspect`` says so. While an uploader's unit is in doubt its whole numbers under 20 are read so too, ``2``
and ``2.0`` for 2 mmol/L and no error code, until it sends a sound value again. A number over 33.3 that claims to be
mmol/L is read as mg/dL, with the same doubt. Free text, the name of the uploading phone among it, is never copied.

``date``, ``dateString`` and ``sysTime`` say the same: one that can be read is enough.

Identity: ``date``, else ``sysTime``, else ``dateString``, with ``seq`` 0. The server keys entries by time and type; it
adds ``sysTime`` when it stores one, so that only ``date`` is the same in what was pushed and what is pulled. A new
value for a time is a revision under the same ``identifier`` or ``_id`` or in the same message, else another
measurement.
"""

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from ingest import doubts
from ingest.adapter import Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.reading.units import unit_of
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, epoch_time, finite, iso_time, whole
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import Message

_ISF: Final = vital_code("glucose_isf")
_BLOOD: Final = vital_code("glucose_bg")
_MG_DL: Final = unit_code("mg/dL")
_MMOL_L: Final = unit_code("mmol/L")
_SHORT_UNITS: Final[Mapping[str, int]] = MappingProxyType({"mg": _MG_DL, "mmol": _MMOL_L})
_LOW: Final = 39
_LOWEST_VALUE: Final = 20
"""No error code is this high: a sensor that sends 20 to 38 measured a real low."""
_MOST_MMOL_L: Final = 22.25
"""400 mg/dL, the top of a sensor's range: a larger number is no mmol/L."""
_MOST_METER_MMOL_L: Final = 33.3
"""600 mg/dL, the top of a meter's range, and of every sensor's."""
_LEAST_MMOL_L: Final = 2.2
"""40 mg/dL, the foot of it."""
_LEAST_READING_MMOL_L: Final = 1.2
_SUSPECT: Final = int(Flag.SUSPECT)
_CODES: Final[Mapping[float, str]] = MappingProxyType(
    {
        1: "sensor_not_active",
        2: "minimal_deviation",
        3: "no_antenna",
        5: "sensor_not_calibrated",
        6: "counts_deviation",
        9: "absolute_deviation",
        10: "power_deviation",
        12: "bad_rf",
    }
)
_WORDS: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(("low", "lo"), records.BELOW_RANGE),
        **dict.fromkeys(("high", "hi"), records.ABOVE_RANGE),
    }
)
_NUMBER: Final = re.compile(r"\d{1,6}(?:\.\d{1,9})?", re.ASCII)
_HIGH_CODES: Final[Mapping[str, float]] = MappingProxyType({"401": 401.0, "none": float("inf")})
_NOISE_LIMITS: Final[Mapping[str, int]] = MappingProxyType({str(level): level for level in range(1, 6)})
_SECONDS_BELOW: Final = 9 * 10**9
"""As milliseconds this is April 1970, which a clock that was never set may say; as seconds it is the year 2255, about
the last that a time can have (API v3 allows both)."""
_OFFSET_LIMIT_MIN: Final = 24 * 60


class _Entry(msgspec.Struct, rename="camel", gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"sgv", "mbg", "units", "isValid"})
    type: str
    sgv: int | float | str | None = None
    mbg: int | float | str | None = None
    date: int | float | str | None = None
    date_string: str | None = None
    sys_time: str | None = None
    utc_offset: int | float | None = None
    units: str | None = None
    direction: str | None = None
    noise: int | float | None = None
    filtered: float | None = None
    unfiltered: float | None = None
    rssi: float | None = None
    srv_modified: int | None = None
    is_valid: bool | None = None
    device: str | None = None
    app: str | None = None
    identifier: str | None = None
    stored_id: Any = msgspec.field(name="_id", default=None)


def _date(date: float | str, member: str) -> tuple[int, int | None]:
    """Nanoseconds and offset of ``date``: epoch milliseconds, seconds or ISO text."""
    if not isinstance(date, str):
        number = finite(date, member)
        return epoch_time(number * 1_000 if abs(number) < _SECONDS_BELOW else number, member), 0
    return iso_time(date, member) if date[4:5] == "-" else (epoch_time(date, member), 0)


def _times(entry: _Entry, output: RecordOutput) -> list[tuple[int, int | None]]:
    """Time and offset of each member that gives one, the one that identifies the entry first."""
    found = (
        output.aside(entry.date, ".date", _date),
        output.aside(entry.sys_time, ".sysTime", iso_time),
        output.aside(entry.date_string, ".dateString", iso_time),
    )
    times = [time for time in found if time is not None]
    if not times:
        given = entry.date is not None or entry.sys_time is not None or entry.date_string is not None
        raise DecodeError(Reason.BAD_TIME if given else Reason.MISSING_FIELD, ".date")
    return times


def _stated_offset(minutes: float, member: str) -> int:
    offset = round(finite(minutes, member))
    if abs(offset) > _OFFSET_LIMIT_MIN:
        raise DecodeError(Reason.BAD_VALUE, member)
    return offset


def _offset_min(entry: _Entry, times: list[tuple[int, int | None]], output: RecordOutput) -> int:
    """``utcOffset``, or else the offset that one of the times carries."""
    offset = output.aside(entry.utc_offset, ".utcOffset", _stated_offset)
    return next((offset for _, offset in times if offset), 0) if offset is None else offset


def _has_point(sent: object) -> bool:
    """Whether a number is written with a decimal point: ``2.0`` is no error code, which are whole numbers."""
    return isinstance(sent, float) or (isinstance(sent, str) and "." in sent)


def _glucose(sent: float | str | None, member: str) -> tuple[float, int]:
    """Number and flags: a number, a number as text, or LOW and HIGH."""
    if sent is None:
        raise DecodeError(Reason.MISSING_FIELD, member)
    if not isinstance(sent, str):
        return finite(sent, member), 0
    if _NUMBER.fullmatch(sent):
        return float(sent), 0
    flags = _WORDS.get(sent.lower())
    if flags is None:
        raise DecodeError(Reason.BAD_VALUE, member)
    return records.NO_NUMBER, flags


def _context(entry: _Entry, output: RecordOutput) -> dict[str, Any]:
    context: dict[str, Any] = {}
    arrow = records.trend(entry.direction)
    if arrow is not None:
        context["trend"] = arrow
    for name, value in (("noise", entry.noise), ("filtered", entry.filtered), ("unfiltered", entry.unfiltered),
                        ("rssi", entry.rssi)):  # fmt: skip
        number = output.aside(value, f".{name}", finite)
        if number is not None:
            context[name] = number
    changed_ms = output.aside(entry.srv_modified, ".srvModified", whole)
    if changed_ms is not None:
        context["changed_ms"] = changed_ms
    return context


def _quality(entry: _Entry, output: RecordOutput) -> int:
    limit = output.choice("low_quality_noise", _NOISE_LIMITS, "3")
    flags = records.LOW_QUALITY if entry.noise is not None and entry.noise >= limit else 0
    return flags | records.RETRACTED if entry.is_valid is False else flags


def _unit(entry: _Entry) -> int:
    text = entry.units or "mg"
    unit = _SHORT_UNITS.get(text.strip().lower()) or unit_of(_ISF, text)
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, ".units")
    return unit


class _Sensed(NamedTuple):
    """What a glucose number means: its unit and flags, and the event that is told beside it or instead."""

    unit: int = _MG_DL
    flags: int = 0
    event: tuple[EventKind, str] | None = None
    is_value: bool = True


_UNIT_DOUBT: Final = (EventKind.SENSOR_STATUS, doubts.UNIT_SUSPECT)


def _in_doubt(value: float, unit: int, *, doubted: bool, is_sensor: bool) -> _Sensed | None:
    """The reading of a number whose unit is in doubt; None where it is not. ``doubted``: the number, or another of its
    uploader, is written as no error code and no mg/dL is."""
    if unit == _MMOL_L and value <= _MOST_METER_MMOL_L:
        return None
    if unit == _MMOL_L:
        below = records.BELOW_RANGE if is_sensor and value <= _LOW else 0
        return _Sensed(_MG_DL, _SUSPECT | below, _UNIT_DOUBT)
    if not (value % 1 and value < _LOW) and not (doubted and _LEAST_READING_MMOL_L <= value < _LOWEST_VALUE):
        return None
    # No sensor sends fractions of a mg/dL: read as mmol/L where that is possible, confirmed before it is believed.
    is_molar = value <= (_MOST_MMOL_L if is_sensor else _MOST_METER_MMOL_L)
    below = records.BELOW_RANGE if is_sensor and (not is_molar or value < _LEAST_MMOL_L) else 0
    return _Sensed(_MMOL_L if is_molar else _MG_DL, _SUSPECT | below, _UNIT_DOUBT)


def _sensed(value: float, high_code: float) -> _Sensed:
    """What a sensor's number in mg/dL means. Worked: 35 is below the sensor's range, 5 an error, 4 an unknown code."""
    if value in _CODES:
        return _Sensed(event=(EventKind.VALUE_ABSENT, _CODES[value]), is_value=False)
    if value < _LOWEST_VALUE:
        return _Sensed(event=(EventKind.UNKNOWN_CODE, f"sgv:{value:g}"), is_value=False)
    if value <= _LOW:
        return _Sensed(flags=records.BELOW_RANGE)
    return _Sensed(flags=records.ABOVE_RANGE if value == high_code else 0)


def _meaning(value: float, unit: int, entry: _Entry, output: RecordOutput) -> _Sensed:
    """What a number of ``sgv`` or ``mbg`` in ``unit`` means, in the light of what its uploader sent before."""
    is_sensor, device = entry.type == "sgv", output.message.device
    has_point = value < _LOWEST_VALUE and _has_point(entry.sgv if is_sensor else entry.mbg)
    found = _in_doubt(value, unit, doubted=has_point or output.doubted[device], is_sensor=is_sensor)
    if found is not None:
        output.doubted[device] = True
        return found
    if not is_sensor or unit != _MG_DL:
        return _Sensed(unit)
    return _sensed(value, output.choice("high_code", _HIGH_CODES, "401"))


def _add(entry: _Entry, output: RecordOutput) -> None:
    if entry.type == "cal":
        return
    if entry.type not in {"sgv", "mbg"}:
        raise DecodeError(Reason.UNKNOWN_VITAL, ".type")
    unit = _unit(entry)
    times = _times(entry, output)
    time_ns, offset = times[0]
    is_sensor = entry.type == "sgv"
    value, flags = _glucose(entry.sgv if is_sensor else entry.mbg, f".{entry.type}")
    context, tz_min = _context(entry, output), _offset_min(entry, times, output)
    flags |= _quality(entry, output)
    clock = SourceClock.WALL if offset is None else SourceClock.INSTANT
    told_ns = None if offset is None else time_ns
    instants = [instant for instant, zone in times if zone is not None]
    if instants and max(instants) - min(instants) > records.TOLERANCE_NS:
        flags |= records.CLOCK_SUSPECT
        output.event(EventKind.CLOCK_FAULT, "times_differ", told_ns)
    vital = _ISF if is_sensor else _BLOOD
    if not math.isnan(value):
        sensed = _meaning(value, unit, entry, output)
        if sensed.event is not None:
            kind, detail = sensed.event
            told = value if kind is EventKind.UNKNOWN_CODE else None
            output.event(kind, detail, told_ns, vital=0 if sensed.is_value else vital, value=told)
        if not sensed.is_value:
            return
        unit, flags = sensed.unit, flags | sensed.flags
        if sensed.event is not None and unit == _MMOL_L and value < _LEAST_READING_MMOL_L:
            # As a number it would be set aside as impossible, and nobody would look.
            context["sent"], value = value, records.NO_NUMBER
    output.add(vital, value, unit, time_ns, clock=clock, tz_min=tz_min, flags=flags, context=context,
               document=_document(entry, output))  # fmt: skip


def _document(entry: _Entry, output: RecordOutput) -> int:
    """The entry's own id, else the message."""
    own = entry.identifier or entry.stored_id
    return records.text_id(output.message.device, own) if own and isinstance(own, str) else output.message.ordinal


_CLAIMS: Final = (None, "", "mg", "mg/dL", "mg/dl")
"""``units`` of an entry that claims mg/dL; whatever else stands there, a list or an object too, does not."""


def _claimed(item: Any) -> float:
    """The number of an entry that claims to be mg/dL; NaN of any other."""
    if not isinstance(item, dict) or item.get("units") not in _CLAIMS:
        return math.nan
    sent = item.get("sgv", item.get("mbg"))
    if not isinstance(sent, int | float) or isinstance(sent, bool) or not abs(sent) < _SECONDS_BELOW:
        return math.nan
    return float(sent)


def _read(content: Any, output: RecordOutput) -> None:
    entries, device = content if isinstance(content, list) else [content], output.message.device
    claimed = [_claimed(entry) for entry in entries]
    # The newest entry usually comes first: one fraction puts the others of its message in doubt too.
    if any(value % 1 and 0 < value < _LOW for value in claimed if not math.isnan(value)):
        output.doubted[device] = True
    elif any(value > _LOW for value in claimed):
        output.doubted[device] = False
    if isinstance(content, list):
        output.each(content, "", _Entry, lambda entry: _add(entry, output))
    else:
        _add(output.typed(content, _Entry), output)


_READERS: Final = MappingProxyType({"entries": _read, "": _read})


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of sensor and meter glucose; events for error codes and for times that contradict each other."""
    return records.decode_each(messages, contexts, _READERS)


ADAPTER = records.adapter(
    "nightscout",
    "Nightscout",
    dict.fromkeys(_READERS, "one entry or an array, as posted to or read from /api/v1/entries"),
    frozenset({"glucose_isf", "glucose_bg"}),
    decode,
    {
        "low_quality_noise": "`noise` from which a value is flagged low quality, 1 to 5; default 3",
        "high_code": "`sgv` that means above the sensor's range: 401 (default) or none",
    },
    {"entries": JsonRecords()},
    version=5,
)
