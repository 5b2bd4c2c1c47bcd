"""``fitbit``: answers of the web API, by kind (device-formats.md 5.4).

Times are local wall time without a zone; the date of intraday values stands in the day list beside them. With the
setting ``times`` = utc (the request said ``timezone=UTC``) they are instants. Weight and temperature come in the unit
system of the request's language: settings ``weight_unit`` and ``temperature_unit``. Summaries of a day are readings of
that day, SpO2 a moving average of five minutes.

Identity (device-formats.md 8.4): the time as sent and ``seq`` 0; a summary has ``seq`` -1 - its statistic, so that it
never passes for the first value of its day; weights and sleeps have the hash of ``logId``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from ingest.adapter import Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.vendors import records
from ingest.adapters.vendors.records import RecordOutput, finite, iso_time
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason, Statistic
from vitals.model import Message
from vitals.times import NO_TIME

_HEART, _SPO2, _BREATH, _WEIGHT, _BMI, _FAT, _SLEEP, _STEPS, _TEMP = (
    vital_code(key)
    for key in ("heart_rate", "spo2", "resp_rate", "weight", "bmi", "body_fat", "sleep", "steps", "temp")
)
_PER_MIN: Final = unit_code("/min")
_PERCENT: Final = unit_code("%")
_STEPS_UNIT: Final = unit_code("{steps}")
_MINUTES: Final = unit_code("min")
_KG_M2: Final = unit_code("kg/m2")
_WEIGHT_UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {name: unit_code(name) for name in ("kg", "[lb_av]", "[stone_av]")}
)
_TEMPERATURE_UNITS: Final[Mapping[str, int]] = MappingProxyType({name: unit_code(name) for name in ("Cel", "[degF]")})
_CLOCKS: Final[Mapping[str, SourceClock]] = MappingProxyType({"local": SourceClock.WALL, "utc": SourceClock.INSTANT})
_INTERVALS_S: Final[Mapping[str, int]] = MappingProxyType({"second": 1, "minute": 60})
_SCALES: Final = frozenset({"Aria", "Aria2", "AriaAir"})
_COUNT: Final = re.compile(r"\d{1,9}", re.ASCII)
_LONGEST_INTERVAL: Final = 86_400


class _HeartPage(
    msgspec.Struct, rename={"days": "activities-heart", "intraday": "activities-heart-intraday"}, gc=False
):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"activities-heart-intraday"})
    days: list[Any]
    intraday: Any = None


class _StepsPage(
    msgspec.Struct, rename={"days": "activities-steps", "intraday": "activities-steps-intraday"}, gc=False
):
    days: list[Any]
    intraday: Any = None


class _Intraday(msgspec.Struct, rename="camel", gc=False):
    dataset: list[Any]
    dataset_interval: int | None = None
    dataset_type: str | None = None


class _Point(msgspec.Struct, gc=False):
    time: str
    value: float


class _Day(msgspec.Struct, rename="camel", gc=False):
    date_time: str
    value: Any = None


class _Summary(msgspec.Struct, rename="camel", gc=False):
    date_time: str
    value: Any


class _HeartSummary(msgspec.Struct, rename="camel", gc=False):
    resting_heart_rate: float | None = None


class _OxygenDay(msgspec.Struct, rename="camel", gc=False):
    DECIDES: ClassVar[frozenset[str]] = frozenset({"minutes"})
    date_time: str
    minutes: list[Any] | None = None
    value: Any = None


class _OxygenMinute(msgspec.Struct, gc=False):
    value: float
    minute: str


class _OxygenSummary(msgspec.Struct, gc=False):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"min", "max"})
    avg: float
    min: float | None = None
    max: float | None = None


class _BreathPage(msgspec.Struct, gc=False):
    br: list[Any]


class _BreathSummary(msgspec.Struct, rename="camel", gc=False):
    breathing_rate: float


class _WeightPage(msgspec.Struct, gc=False):
    weight: list[Any]


class _Weight(msgspec.Struct, rename="camel", gc=False):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"bmi", "fat"})
    date: str
    time: str
    weight: float
    log_id: int | str | None = None
    bmi: float | None = None
    fat: float | None = None
    source: str | None = None


class _SleepPage(msgspec.Struct, gc=False):
    sleep: list[Any]


class _Sleep(msgspec.Struct, rename="camel", gc=False):
    start_time: str
    minutes_asleep: float
    log_id: int | str | None = None
    date_of_sleep: str | None = None
    end_time: str | None = None
    duration: float | None = None
    time_in_bed: float | None = None
    minutes_awake: float | None = None
    efficiency: float | None = None
    is_main_sleep: bool | None = None


class _TemperaturePage(msgspec.Struct, rename="camel", gc=False):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"tempCore", "tempSkin"})
    temp_core: list[Any] | None = None
    temp_skin: list[Any] | None = None


class _Temperature(msgspec.Struct, rename="camel", gc=False):
    date_time: str
    value: float


class _SkinSummary(msgspec.Struct, rename="camel", gc=False):
    nightly_relative: float


def _at(text: str, member: str, output: RecordOutput) -> tuple[int, SourceClock]:
    """Nanoseconds and clock of a time text."""
    time_ns, offset = iso_time(text, member)
    return time_ns, output.choice("times", _CLOCKS, "local") if offset is None else SourceClock.INSTANT


def _day_ns(text: str, member: str) -> int:
    return iso_time(f"{text}T00:00:00", member)[0]


def _summary(output: RecordOutput, vital: int, value: float, unit: int, day_ns: int, statistic: Statistic) -> None:
    output.add(vital, value, unit, day_ns, clock=SourceClock.DAY, seq=-1 - statistic, statistic=statistic)


def _log_id(log_id: int | str | None, output: RecordOutput) -> int:
    return 0 if log_id is None else records.text_id(output.message.device, str(log_id))


class _Series(NamedTuple):
    """What intraday values are."""

    vital: int
    unit: int
    statistic: Statistic


def _intraday(content: Any, days: list[str], member: str, series: _Series, output: RecordOutput) -> None:
    """Values of one day: ``time`` has no date, the one day of the day list gives it."""
    intraday = output.typed(content, _Intraday, f".{member}-intraday")
    if len(days) != 1:
        raise DecodeError(Reason.BAD_VALUE, f".{member}: {len(days)} days")
    seconds = _INTERVALS_S.get(intraday.dataset_type or "", 0) * (intraday.dataset_interval or 0)
    known = 0 < seconds <= _LONGEST_INTERVAL
    output.left_out += not known and None not in (intraday.dataset_type, intraday.dataset_interval)
    clock, context = output.choice("times", _CLOCKS, "local"), {"interval_s": seconds} if known else None

    def add(point: _Point) -> None:
        time_ns, offset = iso_time(f"{days[0]}T{point.time}", ".time")
        if offset is not None:
            raise DecodeError(Reason.BAD_TIME, ".time")
        output.add(
            series.vital, finite(point.value, ".value"), series.unit, time_ns, clock=clock,
            statistic=series.statistic, context=context,
        )  # fmt: skip

    output.each(intraday.dataset, f".{member}-intraday.dataset", _Point, add)


def _resting(value: Any, member: str, output: RecordOutput) -> float | None:
    """The resting heart rate of a day's summary; an answer by interval has a number there, as text."""
    summary = output.typed(value, _HeartSummary, member)
    return output.aside(summary.resting_heart_rate, f"{member}.restingHeartRate", finite)


def _read_heart(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _HeartPage)
    days: list[str] = []

    def add_day(day: _Day) -> None:
        _day_ns(day.date_time, ".dateTime")
        days.append(day.date_time)
        resting = output.aside(day.value, ".value", lambda value, member: _resting(value, member, output))
        if resting is not None:
            output.event(EventKind.CONTEXT, "resting_heart_rate", vital=_HEART, value=resting)

    output.each(page.days, ".activities-heart", _Day, add_day)
    if page.intraday is not None:
        series = _Series(_HEART, _PER_MIN, Statistic.SINGLE)
        _intraday(page.intraday, days, "activities-heart", series, output)


def _read_steps(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _StepsPage)
    days: list[str] = []

    def add_day(day: _Day) -> None:
        day_ns = _day_ns(day.date_time, ".dateTime")
        days.append(day.date_time)
        _summary(output, _STEPS, _count(day.value), _STEPS_UNIT, day_ns, Statistic.SUM)

    output.each(page.days, ".activities-steps", _Day, add_day)
    if page.intraday is not None:
        series = _Series(_STEPS, _STEPS_UNIT, Statistic.SUM)
        _intraday(page.intraday, days, "activities-steps", series, output)


def _count(value: object) -> float:
    """Steps of a day, a number as text."""
    if not isinstance(value, str):
        raise DecodeError(Reason.MISSING_FIELD if value is None else Reason.BAD_TYPE, ".value")
    if _COUNT.fullmatch(value) is None:
        raise DecodeError(Reason.BAD_VALUE, ".value")
    return float(value)


def _read_spo2(content: Any, output: RecordOutput) -> None:
    def add_minute(minute: _OxygenMinute) -> None:
        time_ns, clock = _at(minute.minute, ".minute", output)
        output.add(
            _SPO2, finite(minute.value, ".value"), _PERCENT, time_ns, clock=clock, statistic=Statistic.MEAN,
            context={"window_s": 300},
        )  # fmt: skip

    def add_day(day: _OxygenDay) -> None:
        day_ns = _day_ns(day.date_time, ".dateTime")
        if day.minutes is None and day.value is None:
            raise DecodeError(Reason.MISSING_FIELD, ".minutes")
        if day.value is not None:
            summary = output.typed(day.value, _OxygenSummary, ".value")
            for name, sent, statistic in (("avg", summary.avg, Statistic.MEAN),
                    ("min", summary.min, Statistic.MINIMUM), ("max", summary.max, Statistic.MAXIMUM)):  # fmt: skip
                value = output.measure(sent, f".value.{name}")
                if value is not None:
                    _summary(output, _SPO2, value, _PERCENT, day_ns, statistic)
        output.each(day.minutes or [], ".minutes", _OxygenMinute, add_minute)

    if isinstance(content, list):
        output.each(content, "", _OxygenDay, add_day)
    else:
        add_day(output.typed(content, _OxygenDay))


def _read_breath(content: Any, output: RecordOutput) -> None:
    def add(day: _Summary) -> None:
        summary = output.typed(day.value, _BreathSummary, ".value")
        value = finite(summary.breathing_rate, ".value.breathingRate")
        _summary(output, _BREATH, value, _PER_MIN, _day_ns(day.date_time, ".dateTime"), Statistic.MEAN)

    output.each(output.typed(content, _BreathPage).br, ".br", _Summary, add)


def _read_weight(content: Any, output: RecordOutput) -> None:
    unit = output.choice("weight_unit", _WEIGHT_UNITS, "kg")

    def add(weight: _Weight) -> None:
        _day_ns(weight.date, ".date")
        time_ns, clock = _at(f"{weight.date}T{weight.time}", ".time", output)
        seq, context = _log_id(weight.log_id, output), {}
        if weight.source is not None:
            context["source"] = weight.source if weight.source in _SCALES else "other"
        for name, vital, sent, part_unit in (("weight", _WEIGHT, weight.weight, unit),
                ("bmi", _BMI, weight.bmi, _KG_M2), ("fat", _FAT, weight.fat, _PERCENT)):  # fmt: skip
            value = output.measure(sent, f".{name}")
            if value is not None:
                output.add(vital, value, part_unit, time_ns, clock=clock, seq=seq, context=context)

    output.each(output.typed(content, _WeightPage).weight, ".weight", _Weight, add)


def _read_sleep(content: Any, output: RecordOutput) -> None:
    def add(sleep: _Sleep) -> None:
        time_ns, clock = _at(sleep.start_time, ".startTime", output)
        context: dict[str, Any] = {}
        ended = output.aside(sleep.end_time, ".endTime", iso_time)
        for name, sent in (("time_in_bed_min", sleep.time_in_bed), ("awake_min", sleep.minutes_awake),
                            ("efficiency", sleep.efficiency)):  # fmt: skip
            value = output.aside(sent, f".{name}", finite)
            if value is not None:
                context[name] = value
        if sleep.is_main_sleep is not None:
            context["main"] = sleep.is_main_sleep
        output.add(
            _SLEEP, finite(sleep.minutes_asleep, ".minutesAsleep"), _MINUTES, time_ns, clock=clock,
            seq=_log_id(sleep.log_id, output), ended_ns=NO_TIME if ended is None else ended[0],
            statistic=Statistic.SUM, context=context,
        )  # fmt: skip

    output.each(output.typed(content, _SleepPage).sleep, ".sleep", _Sleep, add)


def _read_temperature(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _TemperaturePage)
    unit = output.choice("temperature_unit", _TEMPERATURE_UNITS, "Cel")
    if page.temp_core is None and page.temp_skin is None:
        raise DecodeError(Reason.MISSING_FIELD, ".tempCore")

    def add_core(core: _Temperature) -> None:
        time_ns, clock = _at(core.date_time, ".dateTime", output)
        output.add(_TEMP, finite(core.value, ".value"), unit, time_ns, clock=clock)

    def add_skin(day: _Summary) -> None:
        _day_ns(day.date_time, ".dateTime")
        summary = output.typed(day.value, _SkinSummary, ".value")
        value = finite(summary.nightly_relative, ".value.nightlyRelative")
        output.event(EventKind.CONTEXT, "skin_temperature_deviation", value=value)

    output.each(page.temp_core or [], ".tempCore", _Temperature, add_core)
    output.each(page.temp_skin or [], ".tempSkin", _Summary, add_skin)


_READERS: Final[Mapping[str, Callable[[Any, RecordOutput], None]]] = MappingProxyType(
    {
        "heart": _read_heart, "spo2": _read_spo2, "br": _read_breath, "weight": _read_weight, "sleep": _read_sleep,
        "steps": _read_steps, "temperature": _read_temperature,
    }
)  # fmt: skip


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings at wall times or of days; events for what has no vital of its own."""
    return records.decode_each(messages, contexts, _READERS)


ADAPTER = records.adapter(
    "fitbit",
    "Fitbit web API",
    {
        "heart": "heart rate of a day, with or without intraday values", "spo2": "SpO2 of a day or a range",
        "br": "breathing rate by day", "weight": "weight log", "sleep": "sleep log",
        "steps": "steps by day or intraday", "temperature": "core temperature log or skin temperature by day",
    },
    frozenset({"heart_rate", "spo2", "resp_rate", "weight", "bmi", "body_fat", "sleep", "steps", "temp"}),
    decode,
    {
        "times": "what zoneless times are: local (default), or utc when requests say timezone=UTC",
        "weight_unit": "unit of weights: kg (default), [lb_av] or [stone_av]",
        "temperature_unit": "unit of core temperatures: Cel (default) or [degF]",
    },
    {
        "heart": JsonRecords(("activities-heart-intraday", "dataset"), array=False),
        "spo2": JsonRecords(), "br": JsonRecords(("br",), array=False), "weight": JsonRecords(("weight",), array=False),
        "sleep": JsonRecords(("sleep",), array=False),
        "steps": JsonRecords(("activities-steps-intraday", "dataset"), array=False),
        "temperature": JsonRecords(array=False),
    },
    version=3,
)  # fmt: skip
