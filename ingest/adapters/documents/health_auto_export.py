"""``health_auto_export``: what the iOS app posts, metrics with items (device-formats.md 5.8).

An item has ``qty``, or ``Min``, ``Avg`` and ``Max`` of its interval, or the two pressures; sleep is a night's totals or
single stages. ``date`` is text with an offset, such as ``2024-03-10 07:30:00 -0500``. Units follow the user's settings
and are read from each metric. Blood glucose does not say whether a meter or a sensor measured it, SpO2 whether it is a
fraction: settings. Workouts and metrics of other names are counted; such a metric is read when the setting ``metrics``
names its vital.

Identity (device-formats.md 5): ``date`` and ``seq`` made of the hash of ``source``, if any, and the statistic. The app
sends each day again; a total that has grown is a revision.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from ingest.adapter import Context, Decoded, unit_code, vital_code
from ingest.adapters.reading.timestamps import parse_rfc3339
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, finite
from ingest.files.json_splitting import JsonRecords
from vitals.catalog import BY_KEY, accepts
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason, Statistic
from vitals.model import Message
from vitals.times import NO_TIME
from vitals.units import UNIT_BY_NAME

_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "heart_rate": "heart_rate", "respiratory_rate": "resp_rate", "blood_oxygen_saturation": "spo2",
        "body_temperature": "temp", "weight_body_mass": "weight", "height": "height", "body_mass_index": "bmi",
        "body_fat_percentage": "body_fat", "step_count": "steps", "heart_rate_variability": "hrv_sdnn",
        "blood_glucose": "glucose", "sleep_analysis": "sleep",
    }
)  # fmt: skip
_PRESSURE: Final = "blood_pressure"
_EVENTS: Final = frozenset({"resting_heart_rate", "walking_heart_rate_average"})
_UNIT_NAMES: Final[Mapping[str, str]] = MappingProxyType({"hr": "h", "count": "{steps}", "kg/m²": "kg/m2"})
_SYS: Final = vital_code("bp_sys")
_DIA: Final = vital_code("bp_dia")
_SLEEP: Final = vital_code("sleep")
_FRACTION: Final = unit_code("{fraction}")
_GLUCOSES: Final[Mapping[str, str]] = MappingProxyType({key: key for key in ("glucose", "glucose_bg", "glucose_isf")})
_ONE: Final[Mapping[str, Statistic]] = MappingProxyType({"steps": Statistic.SUM})
_MEALS: Final = frozenset({"before meal", "after meal", "unspecified"})
_ASLEEP: Final[Mapping[str, str]] = MappingProxyType(
    {"core": "core", "deep": "deep", "rem": "rem", "asleep": "asleep", "unspecified": "asleep"}
)
_NOT_ASLEEP: Final[Mapping[str, str]] = MappingProxyType({"awake": "sleep_awake", "inbed": "sleep_in_bed"})
_DATE: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)", re.ASCII)
_STATISTIC_BITS: Final = 4


class _Root(msgspec.Struct, gc=False):
    data: Any


class _Data(msgspec.Struct, gc=False):
    metrics: list[Any]
    workouts: list[Any] = []


class _Metric(msgspec.Struct, gc=False):
    name: str
    data: list[Any]
    units: str | None = None


class _Item(
    msgspec.Struct, rename={"meal_time": "mealTime", "minimum": "Min", "mean": "Avg", "maximum": "Max"}, gc=False
):
    date: str
    qty: float | None = None
    minimum: float | None = None
    mean: float | None = None
    maximum: float | None = None
    meal_time: str | None = None
    source: str | None = None


class _PressureItem(msgspec.Struct, gc=False):
    date: str
    systolic: float
    diastolic: float
    source: str | None = None


class _SleepItem(msgspec.Struct, rename="camel", gc=False):
    date: str | None = None
    total_sleep: float | None = None
    asleep: float | None = None
    core: float | None = None
    deep: float | None = None
    rem: float | None = None
    awake: float | None = None
    in_bed: float | None = None
    sleep_start: str | None = None
    sleep_end: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    qty: float | None = None
    value: str | None = None
    source: str | None = None


@lru_cache(maxsize=256)
def _more_names(text: str) -> Mapping[str, str]:
    """Metric name -> vital of the setting ``metrics``: ``name=vital`` pairs with commas between them."""
    pairs = [part.strip().partition("=")[::2] for part in text.split(",")] if text else []
    if any(not name or vital not in ADAPTER.vitals for name, vital in pairs):
        raise DecodeError(Reason.BAD_VALUE, ": setting metrics has a part that is no name=vital")
    return dict(pairs)


def _time(text: str, member: str) -> tuple[int, int]:
    """Nanoseconds and offset of a date text. Worked: 2024-03-10 07:30:00 -0500 is 12:30Z, -300."""
    match = _DATE.fullmatch(text)
    try:
        if match is not None:
            time_ns, offset = parse_rfc3339(f"{match[1]}{match[2]}:{match[3]}")
            return time_ns, offset or 0
    except ValueError:
        pass
    raise DecodeError(Reason.BAD_TIME, member)


def _seq(source: str | None, statistic: Statistic, output: RecordOutput) -> int:
    """The hash of ``source`` with the statistic in its low bits."""
    if source is None:
        return statistic
    return records.text_id(output.message.device, source) >> _STATISTIC_BITS << _STATISTIC_BITS | statistic


@lru_cache(maxsize=1024)
def _unit(key: str, name: str) -> int | None:
    """Code of the unit that the app calls ``name`` when it measures the vital ``key``."""
    name = _UNIT_NAMES.get(name, name)
    return UNIT_BY_NAME[name].code if accepts(BY_KEY[key], name) else None


def _metric_unit(metric: _Metric, key: str, output: RecordOutput) -> int:
    if metric.units is None:
        raise DecodeError(Reason.MISSING_FIELD, ".units")
    unit = _unit(key, metric.units)
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, ".units")
    if key == "spo2" and output.choice("spo2", {"percent": False, "fraction": True}, "percent"):
        return _FRACTION
    return unit


def _add_item(item: _Item, key: str, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(item.date, ".date")
    parts = [
        (finite(value, f".{member}"), statistic)
        for member, value, statistic in (
            ("qty", item.qty, _ONE.get(key, Statistic.SINGLE)), ("Avg", item.mean, Statistic.MEAN),
            ("Min", item.minimum, Statistic.MINIMUM), ("Max", item.maximum, Statistic.MAXIMUM),
        )
        if value is not None
    ]  # fmt: skip
    if not parts:
        raise DecodeError(Reason.MISSING_FIELD, ".qty")
    context = {}
    if item.meal_time is not None:
        word = item.meal_time.lower()
        context["meal"] = word.replace(" ", "_") if word in _MEALS else "other"
    for value, statistic in parts:
        seq = _seq(item.source, statistic, output)
        output.add(
            vital_code(key), value, unit, time_ns, seq=seq, tz_min=tz_min, statistic=statistic, context=context
        )  # fmt: skip


def _add_pressure(item: _PressureItem, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(item.date, ".date")
    systolic, diastolic = finite(item.systolic, ".systolic"), finite(item.diastolic, ".diastolic")
    seq = _seq(item.source, Statistic.SINGLE, output)
    for vital, value in ((_SYS, systolic), (_DIA, diastolic)):
        output.add(vital, value, unit, time_ns, seq=seq, tz_min=tz_min)


def _add_sleep(item: _SleepItem, unit: int, output: RecordOutput) -> None:
    if item.start_date is not None:
        _add_stage(item, item.start_date, unit, output)
        return
    if item.date is None:
        raise DecodeError(Reason.MISSING_FIELD, ".date")
    time_ns, tz_min = _time(item.date, ".date")
    total = item.asleep if item.total_sleep is None else item.total_sleep
    if total is None:
        raise DecodeError(Reason.MISSING_FIELD, ".totalSleep")
    context: dict[str, Any] = {}
    for name, value in (("core", item.core), ("deep", item.deep), ("rem", item.rem), ("awake", item.awake),
                        ("in_bed", item.in_bed)):  # fmt: skip
        if value is not None:
            context[name] = finite(value, f": {name}")
    for name, text, member in (("start_ms", item.sleep_start, ".sleepStart"), ("end_ms", item.sleep_end, ".sleepEnd")):
        if text is not None:
            context[name] = _time(text, member)[0] // 1_000_000
    seq = _seq(item.source, Statistic.SUM, output)
    output.add(_SLEEP, finite(total, ".totalSleep"), unit, time_ns, seq=seq, tz_min=tz_min, statistic=Statistic.SUM,
               context=context)  # fmt: skip


def _add_stage(item: _SleepItem, start: str, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(start, ".startDate")
    ended_ns = NO_TIME if item.end_date is None else _time(item.end_date, ".endDate")[0]
    for name, member in (("qty", item.qty), ("value", item.value)):
        if member is None:
            raise DecodeError(Reason.MISSING_FIELD, f".{name}")
    hours, word = finite(item.qty or 0.0, ".qty"), (item.value or "").replace(" ", "").lower()
    if word in _NOT_ASLEEP:
        output.event(EventKind.CONTEXT, _NOT_ASLEEP[word], time_ns, vital=_SLEEP, value=hours)
        return
    if word not in _ASLEEP:
        raise DecodeError(Reason.BAD_VALUE, ".value")
    seq = _seq(item.source, Statistic.SINGLE, output)
    output.add(_SLEEP, hours, unit, time_ns, seq=seq, tz_min=tz_min, statistic=Statistic.SUM, ended_ns=ended_ns,
               context={"stage": _ASLEEP[word]})  # fmt: skip


def _add_event(item: _Item, name: str, output: RecordOutput) -> None:
    value = item.mean if item.qty is None else item.qty
    if value is None:
        raise DecodeError(Reason.MISSING_FIELD, ".qty")
    output.event(EventKind.CONTEXT, name, _time(item.date, ".date")[0], value=finite(value, ".qty"))


def _add_metric(metric: _Metric, names: Mapping[str, str], output: RecordOutput) -> None:
    key = names.get(metric.name) or _NAMES.get(metric.name)
    if metric.name == "blood_glucose":
        key = output.choice("glucose", _GLUCOSES, "glucose")
    if metric.name == _PRESSURE:
        unit = _metric_unit(metric, "bp_sys", output)
        output.each(metric.data, ".data", _PressureItem, lambda item: _add_pressure(item, unit, output))
    elif key == "sleep":
        unit = _metric_unit(metric, key, output)
        output.each(metric.data, ".data", _SleepItem, lambda item: _add_sleep(item, unit, output))
    elif key is not None:
        unit = _metric_unit(metric, key, output)
        output.each(metric.data, ".data", _Item, lambda item: _add_item(item, key, unit, output))
    elif metric.name in _EVENTS:
        output.each(metric.data, ".data", _Item, lambda item: _add_event(item, metric.name, output))
    else:
        output.unknown += len(metric.data)


def _read(content: Any, output: RecordOutput) -> None:
    root = output.typed(content, _Root)
    data = output.typed(root.data, _Data, ".data")
    output.unknown += len(data.workouts)
    names = _more_names(output.settings.get("metrics", ""))
    output.each(data.metrics, ".data.metrics", _Metric, lambda metric: _add_metric(metric, names, output))


_READERS: Final = MappingProxyType({"metrics": _read, "": _read})


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings in the units of each metric; means, extremes and totals of intervals as such."""
    return records.decode_each(messages, contexts, _READERS)


ADAPTER = records.adapter(
    "health_auto_export",
    "Health Auto Export (iOS)",
    dict.fromkeys(_READERS, "what the app posts: data with metrics"),
    frozenset({*_NAMES.values(), *_GLUCOSES, "bp_sys", "bp_dia"}),
    decode,
    {
        "glucose": "what blood_glucose is: glucose (default: sample type unknown), glucose_bg or glucose_isf",
        "spo2": "how blood_oxygen_saturation is counted: percent (default) or fraction",
        "metrics": "vitals of further metrics, as name=vital pairs with commas between them",
    },
    {"metrics": JsonRecords(("data", "metrics"), array=False, inner="data")},
    polled=False,
)
