"""``nightscout``: entries of API v1 and v3, one or an array (device-formats.md 5.2).

``sgv`` is sensor glucose, ``mbg`` a meter's, both in mg/dL unless ``units`` says mmol; ``cal`` is skipped. A whole
sensor value of 20 to 39 mg/dL is below the sensor's range; one under 20 is an error code. A fraction under 22.3 that
claims to be mg/dL is mmol/L in all likelihood: it is read as mmol/L, flagged suspect, so that a low one asks for
confirmation, and the device event ``unit_suspect`` says so. Free text, the name of the uploading phone among it, is
never copied.

Identity: ``date``, else ``sysTime``, else ``dateString``, with ``seq`` 0. The server keys entries by time and type; it
adds ``sysTime`` when it stores one, so that only ``date`` is the same in what was pushed and what is pulled. A new
value for a time is a revision under the same ``identifier`` or ``_id`` or in the same message, else another
measurement.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.adapter import Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, epoch_ms, finite, iso_time, whole
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Flag, Reason
from vitals.model import Message

_ISF: Final = vital_code("glucose_isf")
_BLOOD: Final = vital_code("glucose_bg")
_MG_DL: Final = unit_code("mg/dL")
_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {**dict.fromkeys(("mg", "mg/dl"), _MG_DL), **dict.fromkeys(("mmol", "mmol/l"), unit_code("mmol/L"))}
)
_LOW: Final = 39
_LOWEST_VALUE: Final = 20
"""No error code is this high: a sensor that sends 20 to 38 measured a real low."""
_MOST_MMOL_L: Final = 22.25
"""400 mg/dL, the top of a sensor's range: a larger number is no mmol/L."""
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
_SECONDS_BELOW: Final = 10**11
"""As milliseconds this is March 1973, as seconds the year 5138 (API v3 allows both)."""
_OFFSET_LIMIT_MIN: Final = 24 * 60


class _Entry(msgspec.Struct, rename="camel", gc=False):
    type: str
    sgv: float | str | None = None
    mbg: float | str | None = None
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


def _date(date: float | str) -> tuple[int, int | None]:
    """Nanoseconds and offset of ``date``: epoch milliseconds, seconds or ISO text."""
    if isinstance(date, str):
        return iso_time(date, ".date")
    number = finite(date, ".date")
    return epoch_ms(round(number * 1_000 if abs(number) < _SECONDS_BELOW else number), ".date"), 0


def _times(entry: _Entry) -> list[tuple[int, int | None]]:
    """Time and offset of each member that gives one, the one that identifies the entry first."""
    times = [] if entry.date is None else [_date(entry.date)]
    for text, member in ((entry.sys_time, ".sysTime"), (entry.date_string, ".dateString")):
        if text is not None:
            times.append(iso_time(text, member))
    if not times:
        raise DecodeError(Reason.MISSING_FIELD, ".date")
    return times


def _offset_min(entry: _Entry, times: list[tuple[int, int | None]]) -> int:
    """``utcOffset``, or else the offset that one of the times carries."""
    if entry.utc_offset is None:
        return next((offset for _, offset in times if offset), 0)
    offset = round(finite(entry.utc_offset, ".utcOffset"))
    if abs(offset) > _OFFSET_LIMIT_MIN:
        raise DecodeError(Reason.BAD_VALUE, ".utcOffset")
    return offset


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


def _context(entry: _Entry) -> dict[str, Any]:
    context: dict[str, Any] = {}
    arrow = records.trend(entry.direction)
    if arrow is not None:
        context["trend"] = arrow
    for name, value in (("noise", entry.noise), ("filtered", entry.filtered), ("unfiltered", entry.unfiltered),
                        ("rssi", entry.rssi)):  # fmt: skip
        if value is not None:
            context[name] = finite(value, f".{name}")
    if entry.srv_modified is not None:
        context["changed_ms"] = whole(entry.srv_modified, ".srvModified")
    return context


def _quality(entry: _Entry, output: RecordOutput) -> int:
    limit = output.choice("low_quality_noise", _NOISE_LIMITS, "3")
    flags = records.LOW_QUALITY if entry.noise is not None and entry.noise >= limit else 0
    return flags | records.RETRACTED if entry.is_valid is False else flags


def _add(entry: _Entry, output: RecordOutput) -> None:
    if entry.type == "cal":
        return
    if entry.type not in {"sgv", "mbg"}:
        raise DecodeError(Reason.UNKNOWN_VITAL, ".type")
    unit = _UNITS.get((entry.units or "mg").lower())
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, ".units")
    times = _times(entry)
    time_ns, offset = times[0]
    is_sensor = entry.type == "sgv"
    value, flags = _glucose(entry.sgv if is_sensor else entry.mbg, f".{entry.type}")
    context, tz_min = _context(entry), _offset_min(entry, times)
    flags |= _quality(entry, output)
    clock = SourceClock.WALL if offset is None else SourceClock.INSTANT
    instants = [instant for instant, zone in times if zone is not None]
    if instants and max(instants) - min(instants) > records.TOLERANCE_NS:
        flags |= records.CLOCK_SUSPECT
        output.event(EventKind.CLOCK_FAULT, "times_differ", None if offset is None else time_ns)
    if is_sensor and unit == _MG_DL:
        if value % 1 and value <= _MOST_MMOL_L:
            flags, unit = flags | _SUSPECT, _UNITS["mmol"]
            output.event(EventKind.SENSOR_STATUS, "unit_suspect", None if offset is None else time_ns)
        elif value < _LOWEST_VALUE:
            detail = _CODES.get(value, f"error_code_{value:g}")
            output.event(EventKind.VALUE_ABSENT, detail, None if offset is None else time_ns, vital=_ISF)
            return
        elif value <= _LOW:
            flags |= records.BELOW_RANGE
        elif value == output.choice("high_code", _HIGH_CODES, "401"):
            flags |= records.ABOVE_RANGE
    vital = _ISF if is_sensor else _BLOOD
    output.add(vital, value, unit, time_ns, clock=clock, tz_min=tz_min, flags=flags, context=context,
               document=_document(entry, output))  # fmt: skip


def _document(entry: _Entry, output: RecordOutput) -> int:
    """The entry's own id, else the message."""
    own = entry.identifier or entry.stored_id
    return records.text_id(output.message.device, own) if own and isinstance(own, str) else output.message.ordinal


def _read(content: Any, output: RecordOutput) -> None:
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
    version=3,
)
