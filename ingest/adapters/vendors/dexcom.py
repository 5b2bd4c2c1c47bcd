"""``dexcom``: estimated glucose values of API v3 (device-formats.md 5.1).

``systemTime`` is UTC whether it says so or not, and stays on one line when the user changes the clock.
``displayTime`` is what the user saw: its offset, or else its distance from the system time rounded to half hours, is
``tz_min``; what is left is the drift of the shown clock. Dexcom pins values to 40 to 400 mg/dL: status ``low`` and
``high`` are below and above the range whatever number comes with them.

Identity (device-formats.md 8.4): ``systemTime`` as sent, and ``seq`` the hash of ``recordId``, 0 without one.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from ingest.adapter import Context, Decoded, unit_code, vital_code
from ingest.adapters.reading.units import unit_of
from ingest.adapters.vendors import records as vendor_json
from ingest.adapters.vendors.records import RecordOutput, finite, iso_time, whole
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason
from vitals.model import Message
from vitals.times import DAY_S, SECOND_NS

_ISF: Final = vital_code("glucose_isf")
_MG_DL: Final = unit_code("mg/dL")
_RATE_UNITS: Final[Mapping[str, str]] = MappingProxyType({name.lower(): name for name in ("mg/dL/min", "mmol/L/min")})
_STATUS_FLAGS: Final[Mapping[str, int]] = MappingProxyType(
    {"low": vendor_json.BELOW_RANGE, "high": vendor_json.ABOVE_RANGE, "ok": 0, "unknown": 0}
)
_DISPLAYS: Final = frozenset({"iOS", "android", "receiver"})
_GENERATION: Final = re.compile(r"unknown|g\d{1,2}", re.ASCII)
_DISPLAY_TIME: Final = re.compile(r"(.{16}.*?) ?([Zz]|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?(?::([0-5]\d))?)?", re.ASCII)
_HALF_HOUR_S: Final = 1_800
_DELAY_S: Final = 3_600.0
"""The service gives values of the last hour to nobody (device-formats.md 5.1: about 1 h, in some regions 3 h)."""
_ZONES_S: Final = (-12.25 * 3_600, 14.25 * 3_600)


class _Page(msgspec.Struct, rename="camel", gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"recordType", "recordVersion"})
    records: list[Any]
    record_type: str | None = None
    record_version: str | None = None
    user_id: str | None = None


class _Egv(msgspec.Struct, rename="camel", gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"value", "unit"})
    system_time: str
    display_time: str | None = None
    record_id: str | None = None
    value: float | None = None
    unit: str | None = None
    status: str | None = None
    trend: str | None = None
    trend_rate: float | None = None
    rate_unit: str | None = None
    transmitter_id: str | None = None
    transmitter_ticks: int | None = None
    transmitter_generation: str | None = None
    display_device: str | None = None


def _zone(time_ns: int, text: str, member: str) -> tuple[int, int, int]:
    """Zone of the shown clock in minutes, days and seconds that it is off beside that.

    Worked: 08:00 shown at 12:00Z is (-240, 0, 0); 08:00:05 is (-240, 0, 5); a day ahead of that (-240, 1, 5).
    """
    match = _DISPLAY_TIME.fullmatch(text)
    if match is None:
        raise DecodeError(Reason.BAD_TIME, member)
    wall_ns, offset = iso_time(match[1], member)
    if offset is not None:
        raise DecodeError(Reason.BAD_TIME, member)
    shown_s = round((wall_ns - time_ns) / SECOND_NS)
    if match[2] is None:
        days = 0 if _ZONES_S[0] <= shown_s <= _ZONES_S[1] else round(shown_s / DAY_S)
        zone_s = round((shown_s - days * DAY_S) / _HALF_HOUR_S) * _HALF_HOUR_S
    else:
        # Offsets such as -06:59:58 occur: the seconds are drift.
        sign, hours, minutes, seconds = match.group(3, 4, 5, 6)
        zone_s = (
            0 if sign is None else round((int(hours) * 3_600 + int(minutes or 0) * 60 + int(seconds or 0)) / 60) * 60
        )
        zone_s = -zone_s if sign == "-" else zone_s
    rest_s = shown_s - zone_s
    days = round(rest_s / DAY_S)
    return zone_s // 60, days, rest_s - days * DAY_S


def _context(egv: _Egv, output: RecordOutput) -> dict[str, Any]:
    context: dict[str, Any] = {}
    arrow = vendor_json.trend(egv.trend)
    if arrow is not None:
        context["trend"] = arrow
    trend_rate = output.aside(egv.trend_rate, ".trendRate", finite)
    if trend_rate is not None:
        context["trend_rate"] = trend_rate
        context["trend_rate_unit"] = _RATE_UNITS.get((egv.rate_unit or "").lower(), "other")
    if egv.status is not None and egv.status != "ok":
        context["status"] = egv.status if egv.status in _STATUS_FLAGS else "other"
    if egv.transmitter_id is not None:
        context["transmitter"] = vendor_json.token(output.message.device, egv.transmitter_id)
    ticks = output.aside(egv.transmitter_ticks, ".transmitterTicks", whole)
    if ticks is not None:
        context["transmitter_ticks"] = ticks
    if egv.transmitter_generation is not None:
        known = _GENERATION.fullmatch(egv.transmitter_generation)
        context["transmitter_generation"] = egv.transmitter_generation if known else "other"
    if egv.display_device is not None:
        context["display_device"] = egv.display_device if egv.display_device in _DISPLAYS else "other"
    return context


def _value(egv: _Egv) -> tuple[float, int]:
    """Number and unit code; NaN for a value out of range that came without a number."""
    unit = None if egv.unit is None else unit_of(_ISF, egv.unit)
    if egv.value is None:
        return vendor_json.NO_NUMBER, _MG_DL if unit is None else unit
    value = finite(egv.value, ".value")
    if unit is None:
        raise DecodeError(Reason.MISSING_FIELD if egv.unit is None else Reason.UNKNOWN_UNIT, ".unit")
    return value, unit


def _add(egv: _Egv, output: RecordOutput) -> None:
    time_ns, _ = iso_time(egv.system_time, ".systemTime")
    shown = output.aside(egv.display_time, ".displayTime", lambda text, member: _zone(time_ns, text, member))
    zone_min, days, drift_s = shown or (0, 0, 0)
    flags = _STATUS_FLAGS.get((egv.status or "ok").lower(), 0)
    value, unit = _value(egv)
    context = _context(egv, output)
    if drift_s:
        context["display_drift_s"] = drift_s
    if days:
        context["display_days_off"] = days
        output.event(EventKind.CLOCK_FAULT, "display_date_wrong", time_ns)
    if egv.value is None and not flags:
        output.event(
            EventKind.VALUE_ABSENT,
            "no_value" if egv.status is None else f"status_{context.get('status', 'ok')}",
            time_ns,
            vital=_ISF,
        )
        return
    seq = 0 if egv.record_id is None else vendor_json.text_id(output.message.device, egv.record_id)
    output.add(_ISF, value, unit, time_ns, seq=seq, tz_min=zone_min, flags=flags, context=context)


def _read(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _Page)
    for name, text, expected in (
        ("recordType", page.record_type, "egv"), ("recordVersion", (page.record_version or "3")[:1], "3"),
    ):  # fmt: skip
        if text is not None and text != expected:
            raise DecodeError(Reason.BAD_VALUE, f".{name}")
    output.each(page.records, ".records", _Egv, lambda egv: _add(egv, output))


_READERS: Final = MappingProxyType({"egvs": _read, "": _read})


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of interstitial glucose; an event for a record without a value and for a wrong date on the display."""
    return vendor_json.decode_each(messages, contexts, _READERS)


ADAPTER = vendor_json.adapter(
    "dexcom",
    "Dexcom API v3",
    dict.fromkeys(_READERS, "answer of /v3/users/self/egvs"),
    frozenset({"glucose_isf"}),
    decode,
    {},
    {"egvs": JsonRecords(("records",), array=False)},
    version=2,
    delay_s=_DELAY_S,
)
