"""``health_auto_export``: what the iOS app posts, metrics with items (device-formats.md 5.8).

An item has ``qty``, or ``Min``, ``Avg`` and ``Max`` of its interval, or the two pressures; sleep is a night's totals or
single stages. ``date`` is text with an offset, such as ``2024-03-10 07:30:00 -0500``. Units follow the user's settings
and are read from each metric. Blood glucose does not say whether a meter or a sensor measured it, SpO2 whether it is a
fraction: settings. Workouts and metrics of other names are counted; such a metric is read when the setting ``metrics``
names its vital.

Identity (device-formats.md 5): ``date`` and ``seq`` made of the hash of ``source``, if any, and the statistic. The app
sends each day again; a total that has grown is a revision.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from ingest.adapter import Context, Decoded, unit_code, vital_code
from ingest.adapters.reading.timestamps import parse_time
from ingest.adapters.reading.units import unit_of
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, finite
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason, Statistic
from vitals.model import Message
from vitals.times import HOUR_NS, NO_TIME

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
_DAY_LENGTH: Final = len("2024-03-10")
_STATISTIC_BITS: Final = 4
_LONGEST_NIGHT_NS: Final = 24 * HOUR_NS


class _Root(msgspec.Struct, gc=False):
    data: Any


class _Data(msgspec.Struct, gc=False):
    metrics: list[Any]
    workouts: list[Any] = []


class _Metric(msgspec.Struct, gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"units"})
    name: str
    data: list[Any]
    units: str | None = None


class _Item(
    msgspec.Struct, rename={"meal_time": "mealTime", "minimum": "Min", "mean": "Avg", "maximum": "Max"}, gc=False
):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"qty", "Min", "Avg", "Max"})
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
    DECIDES: ClassVar[frozenset[str]] = frozenset({"totalSleep", "asleep", "startDate", "qty", "value"})
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
    try:
        time_ns, offset = parse_time(text)
    except ValueError:
        offset = None
    if offset is None:
        raise DecodeError(Reason.BAD_TIME, member)
    return time_ns, offset


def _seq(source: str | None, statistic: Statistic, output: RecordOutput) -> int:
    """The hash of ``source`` with the statistic in its low bits."""
    if source is None:
        return statistic
    return records.text_id(output.message.device, source) >> _STATISTIC_BITS << _STATISTIC_BITS | statistic


def _metric_unit(metric: _Metric, key: str, output: RecordOutput) -> int:
    if metric.units is None:
        raise DecodeError(Reason.MISSING_FIELD, ".units")
    unit = unit_of(vital_code(key), metric.units)
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, ".units")
    if key == "spo2" and output.choice("spo2", {"percent": False, "fraction": True}, "percent"):
        return _FRACTION
    return unit


def _add_item(item: _Item, key: str, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(item.date, ".date")
    parts = [
        (member, sent, statistic)
        for member, sent, statistic in (
            ("qty", item.qty, _ONE.get(key, Statistic.SINGLE)), ("Avg", item.mean, Statistic.MEAN),
            ("Min", item.minimum, Statistic.MINIMUM), ("Max", item.maximum, Statistic.MAXIMUM),
        )
        if sent is not None
    ]  # fmt: skip
    if not parts:
        raise DecodeError(Reason.MISSING_FIELD, ".qty")
    context = {}
    if item.meal_time is not None:
        word = item.meal_time.lower()
        context["meal"] = word.replace(" ", "_") if word in _MEALS else "other"
    for member, sent, statistic in parts:
        value, seq = output.measure(sent, f".{member}"), _seq(item.source, statistic, output)
        if value is None:
            continue
        output.add(
            vital_code(key), value, unit, time_ns, seq=seq, tz_min=tz_min, statistic=statistic, context=context
        )  # fmt: skip


def _add_pressure(item: _PressureItem, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(item.date, ".date")
    seq = _seq(item.source, Statistic.SINGLE, output)
    for vital, sent, member in ((_SYS, item.systolic, ".systolic"), (_DIA, item.diastolic, ".diastolic")):
        value = output.measure(sent, member)
        if value is not None:
            output.add(vital, value, unit, time_ns, seq=seq, tz_min=tz_min)


def _add_sleep(item: _SleepItem, unit: int, output: RecordOutput) -> None:
    if item.start_date is not None:
        _add_stage(item, item.start_date, unit, output)
        return
    start = output.aside(item.sleep_start, ".sleepStart", _time)
    end = output.aside(item.sleep_end, ".sleepEnd", _time)
    time_ns, tz_min, ended_ns = _night(item, start, end)
    total = item.asleep if item.total_sleep is None else item.total_sleep
    if total is None:
        raise DecodeError(Reason.MISSING_FIELD, ".totalSleep")
    context: dict[str, Any] = {}
    for name, sent in (("core", item.core), ("deep", item.deep), ("rem", item.rem), ("awake", item.awake),
                       ("in_bed", item.in_bed)):  # fmt: skip
        value = output.aside(sent, f".{name}", finite)
        if value is not None:
            context[name] = value
    for name, time in (("start_ms", start), ("end_ms", end)):
        if time is not None:
            context[name] = time[0] // 1_000_000
    seq = _seq(item.source, Statistic.SUM, output)
    output.add(_SLEEP, finite(total, ".totalSleep"), unit, time_ns, seq=seq, ended_ns=ended_ns, tz_min=tz_min,
               statistic=Statistic.SUM, context=context)  # fmt: skip


def _night(item: _SleepItem, start: tuple[int, int] | None, end: tuple[int, int] | None) -> tuple[int, int, int]:
    """Time, offset and end of a night's totals: ``date``, or where that is only a day its ``sleepStart``."""
    if item.date is not None and len(item.date) > _DAY_LENGTH:
        return *_time(item.date, ".date"), NO_TIME
    if start is None:
        raise DecodeError(Reason.MISSING_FIELD if item.date is None else Reason.BAD_TIME, ".date")
    is_night = end is not None and 0 < end[0] - start[0] <= _LONGEST_NIGHT_NS
    return *start, end[0] if end is not None and is_night else NO_TIME


def _add_stage(item: _SleepItem, start: str, unit: int, output: RecordOutput) -> None:
    time_ns, tz_min = _time(start, ".startDate")
    ended = output.aside(item.end_date, ".endDate", _time)
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
    output.add(_SLEEP, hours, unit, time_ns, seq=seq, tz_min=tz_min, statistic=Statistic.SUM,
               ended_ns=NO_TIME if ended is None else ended[0], context={"stage": _ASLEEP[word]})  # fmt: skip


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
    version=2,
    polled=False,
)
