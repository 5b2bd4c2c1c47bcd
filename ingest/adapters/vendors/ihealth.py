"""``ihealth``: lists of the open API v2, by kind (device-formats.md 5.9).

``MDate`` is an epoch number made from **local** wall time: the instant is ``MDate`` minus ``TimeZone``, and without a
time zone ``MDate`` is wall time. Activity is that of the local day of ``MDate``. Zero means that a value is missing.
Units are codes on the list. Places (``Lat``, ``Lon``) are never copied.

Identity (device-formats.md 8.4): the instant and ``seq`` the hash of ``DataID``, 0 without one. ``LastChangeTime`` is
``context["changed_ms"]``. Worked: MDate 1442491463 with -0800 is 2015-09-17T20:04:23Z.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from ingest.adapter import Context, Decoded, SourceClock, unit_code, vital_code
from ingest.adapters.reading.timestamps import parse_offset
from ingest.adapters.vendors import records as vendor_json
from ingest.adapters.vendors.records import RecordOutput, epoch_ms, finite, whole
from ingest.files.json_splitting import JsonRecords
from vitals.errors import DecodeError
from vitals.glossary import EventKind, Reason, Statistic
from vitals.model import Message
from vitals.times import DAY_NS, DAY_S, MINUTE_NS, NO_TIME, SECOND_NS

_PRESSURES: Final[Mapping[str, int]] = MappingProxyType({"mm[Hg]": unit_code("mm[Hg]"), "kPa": unit_code("kPa")})
_GLUCOSES: Final[Mapping[str, int]] = MappingProxyType({"mg/dL": unit_code("mg/dL"), "mmol/L": unit_code("mmol/L")})
_WEIGHTS: Final[Mapping[str, int]] = MappingProxyType(
    {"kg": unit_code("kg"), "[lb_av]": unit_code("[lb_av]"), "[stone_av]": unit_code("[stone_av]")}
)
_SLEEPS: Final[Mapping[str, int]] = MappingProxyType({"min": unit_code("min"), "h": unit_code("h")})
_PER_MIN: Final = unit_code("/min")
_PERCENT: Final = unit_code("%")
_KG_M2: Final = unit_code("kg/m2")
_STEPS_UNIT: Final = unit_code("{steps}")
_SYS, _DIA, _CUFF, _BLOOD, _SPO2, _PULSE, _WEIGHT, _BMI, _FAT, _STEPS, _SLEEP = (
    vital_code(key)
    for key in ("bp_sys", "bp_dia", "pulse_rate_nibp", "glucose_bg", "spo2", "pulse_rate", "weight", "bmi", "body_fat",
                "steps", "sleep")
)  # fmt: skip
_RHYTHMS: Final[Mapping[int, str]] = MappingProxyType({1: "normal", 2: "arrhythmia", 3: "unknown"})
_MEALS: Final = frozenset(
    f"{side}_{meal}" for side in ("before", "after") for meal in ("breakfast", "lunch", "dinner", "meal")
) | {"midnight", "at_midnight", "bedtime"}
_DRUGS: Final = frozenset({"before_taking_pills", "after_taking_pills"})
_SOURCES: Final[Mapping[str, int]] = MappingProxyType({"FromDevice": 0, "Manual": vendor_json.MANUAL})
_COMMON: Final = {
    "data_id": "DataID", "m_date": "MDate", "time_zone": "TimeZone", "last_change_time": "LastChangeTime",
    "data_source": "DataSource", "note": "Note", "lat": "Lat", "lon": "Lon",
}  # fmt: skip


class _Record(msgspec.Struct, rename=_COMMON, gc=False, kw_only=True):
    time_member: ClassVar[str] = "MDate"
    m_date: int
    data_id: str | None = None
    time_zone: int | float | str | None = None
    last_change_time: int | None = None
    data_source: str | None = None
    note: str | None = None
    lat: float | None = None
    lon: float | None = None


class _Pressure(_Record, rename={"hp": "HP", "lp": "LP", "hr": "HR", "is_arr": "IsArr", "bpl": "BPL"}, kw_only=True):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"HR"})
    hp: float
    lp: float
    hr: float = 0.0
    is_arr: int | None = None
    bpl: int | None = None


class _Glucose(
    _Record, rename={"bg": "BG", "dinner_situation": "DinnerSituation", "drug_situation": "DrugSituation"}, kw_only=True
):
    bg: float
    dinner_situation: str | None = None
    drug_situation: str | None = None


class _Oxygen(_Record, rename={"bo": "BO", "hr": "HR"}, kw_only=True):
    MEASURES: ClassVar[frozenset[str]] = frozenset({"HR"})
    bo: float
    hr: float = 0.0


class _Weight(
    _Record,
    rename={
        "weight_value": "WeightValue", "bmi": "BMI", "fat_value": "FatValue", "water_value": "WaterValue",
        "bone_value": "BoneValue", "muscle_value": "MuscaleValue", "dci": "DCI",
    },
    kw_only=True,
):  # fmt: skip
    MEASURES: ClassVar[frozenset[str]] = frozenset({"BMI", "FatValue"})
    weight_value: float
    bmi: float = 0.0
    fat_value: float = 0.0
    water_value: float = 0.0
    bone_value: float = 0.0
    muscle_value: float = 0.0
    dci: float = 0.0


class _Activity(
    _Record, rename={"steps": "Steps", "calories": "Calories", "distance": "DistanceTraveled"}, kw_only=True
):
    steps: float
    calories: float = 0.0
    distance: float = 0.0


class _Sleep(
    _Record,
    rename={
        "m_date": "StartTime", "end_time": "EndTime", "slept": "HoursSlept", "efficiency": "SleepEfficiency",
        "awaken": "Awaken", "fall_sleep": "FallSleep",
    },
    kw_only=True,
):  # fmt: skip
    time_member: ClassVar[str] = "StartTime"
    m_date: int
    end_time: int
    slept: float
    efficiency: float = 0.0
    awaken: float = 0.0
    fall_sleep: float = 0.0


class _Page(
    msgspec.Struct,
    rename={
        "bp": "BPDataList", "bp_unit": "BPUnit", "glucose": "BGDataList", "glucose_unit": "BGUnit",
        "spo2": "BODataList", "weight": "WeightDataList", "weight_unit": "WeightUnit", "activity": "ARDataList",
        "distance_unit": "DistanceUnit", "sleep": "SRDataList", "current": "CurrentRecordCount",
        "next_page": "NextPageUrl", "length": "PageLength", "number": "PageNumber", "previous_page": "PrevPageUrl",
        "records": "RecordCount",
    },
    gc=False,
):  # fmt: skip
    """A page of any kind; its counters do not always equal the length of the list and are not read."""

    DECIDES: ClassVar[frozenset[str]] = frozenset(
        {"BPDataList", "BPUnit", "BGDataList", "BGUnit", "BODataList", "WeightDataList", "WeightUnit", "ARDataList",
         "SRDataList"}
    )  # fmt: skip
    bp: list[Any] | None = None
    bp_unit: int | None = None
    glucose: list[Any] | None = None
    glucose_unit: int | None = None
    spo2: list[Any] | None = None
    weight: list[Any] | None = None
    weight_unit: int | None = None
    activity: list[Any] | None = None
    distance_unit: int | None = None
    sleep: list[Any] | None = None
    current: Any = None
    next_page: Any = None
    length: Any = None
    number: Any = None
    previous_page: Any = None
    records: Any = None


class _Taken(NamedTuple):
    """What all readings of a record share."""

    time_ns: int
    clock: SourceClock
    tz_min: int
    seq: int
    flags: int
    context: dict[str, Any]


def _zone_min(zone: float | str, member: str) -> int | None:
    try:
        return parse_offset(zone)
    except ValueError:
        raise DecodeError(Reason.BAD_VALUE, member) from None


def _changed_ns(time_s: int, member: str) -> int:
    return epoch_ms(time_s * 1_000, member)


def _taken(record: _Record, output: RecordOutput) -> _Taken:
    zone = output.aside(record.time_zone, ".TimeZone", _zone_min)
    time_ns = epoch_ms((record.m_date - 60 * (zone or 0)) * 1_000, f".{record.time_member}")
    flags = _SOURCES.get(record.data_source or "FromDevice")
    context: dict[str, Any] = {}
    if flags is None:
        flags, context["data_source"] = 0, "other"
    changed_ns = output.aside(record.last_change_time, ".LastChangeTime", _changed_ns)
    if changed_ns is not None:
        context["changed_ms"] = changed_ns // 1_000_000
        if zone is not None and time_ns - changed_ns > vendor_json.TOLERANCE_NS:
            flags |= vendor_json.CLOCK_SUSPECT
            output.event(EventKind.CLOCK_FAULT, "measured_after_change")
    vendor_json.note(record.note, context, output)
    seq = 0 if record.data_id is None else vendor_json.text_id(output.message.device, record.data_id)
    clock = SourceClock.WALL if zone is None else SourceClock.INSTANT
    return _Taken(time_ns, clock, zone or 0, seq, flags, context)


def _add(
    output: RecordOutput, taken: _Taken, values: Iterable[tuple[int, float, int, str]], *,
    statistic: Statistic = Statistic.SINGLE, ended_ns: int = NO_TIME,
) -> None:  # fmt: skip
    """Add ``(vital, value, unit, member)`` that are not zero; an event when all are. One that is no number is told
    alone."""
    series = [(vital, output.measure(value, f".{member}"), unit) for vital, value, unit, member in values]
    for vital, value, unit in series:
        if value:
            output.add(
                vital, value, unit, taken.time_ns, clock=taken.clock, seq=taken.seq, tz_min=taken.tz_min,
                statistic=statistic, flags=taken.flags, ended_ns=ended_ns, context=taken.context,
            )  # fmt: skip
    if all(value == 0 for _, value, _ in series):
        time_ns = taken.time_ns if taken.clock is SourceClock.INSTANT else None
        output.event(EventKind.VALUE_ABSENT, "zero", time_ns, vital=series[0][0])


def _note(taken: _Taken, others: Iterable[tuple[str, float]], output: RecordOutput) -> None:
    """Keep numbers of no vital beside the reading."""
    found = {name: output.aside(value, f".{name}", finite) for name, value in others if value}
    taken.context.update({name: value for name, value in found.items() if value is not None})


def _pressure(record: _Pressure, unit: int, output: RecordOutput) -> None:
    taken = _taken(record, output)
    if record.is_arr is not None and record.is_arr in _RHYTHMS:
        taken.context["pulse_rhythm"] = _RHYTHMS[record.is_arr]
    level = output.aside(record.bpl, ".BPL", whole)
    if level is not None:
        taken.context["bp_level"] = level
    _add(output, taken, ((_SYS, record.hp, unit, "HP"), (_DIA, record.lp, unit, "LP"),
                         (_CUFF, record.hr, _PER_MIN, "HR")))  # fmt: skip


def _glucose(record: _Glucose, unit: int, output: RecordOutput) -> None:
    taken = _taken(record, output)
    for name, word, known in (
        ("meal", record.dinner_situation, _MEALS), ("medication", record.drug_situation, _DRUGS),
    ):  # fmt: skip
        if word:
            taken.context[name] = word.lower() if word.lower() in known else "other"
    _add(output, taken, ((_BLOOD, record.bg, unit, "BG"),))


def _oxygen(record: _Oxygen, unit: int, output: RecordOutput) -> None:
    values = ((_SPO2, record.bo, unit, "BO"), (_PULSE, record.hr, _PER_MIN, "HR"))
    _add(output, _taken(record, output), values)


def _weight(record: _Weight, unit: int, output: RecordOutput) -> None:
    taken = _taken(record, output)
    values = [(_WEIGHT, record.weight_value, unit, "WeightValue"), (_BMI, record.bmi, _KG_M2, "BMI")]
    others = [("water_value", record.water_value), ("bone_value", record.bone_value),
              ("muscle_value", record.muscle_value), ("dci", record.dci)]  # fmt: skip
    if output.choice("fat_value", {"context": False, "percent": True}, "context"):
        values.append((_FAT, record.fat_value, _PERCENT, "FatValue"))
    else:
        others.append(("fat_value", record.fat_value))
    _note(taken, others, output)
    _add(output, taken, values)


def _activity(record: _Activity, unit: int, output: RecordOutput) -> None:
    """Steps are those of the local day of ``MDate``, whatever its time of day."""
    taken = _taken(record, output)
    _note(taken, (("calories", record.calories), ("distance", record.distance)), output)
    midnight_ns = record.m_date // DAY_S * DAY_S * SECOND_NS - taken.tz_min * MINUTE_NS
    ended_ns = NO_TIME if taken.clock is SourceClock.WALL else midnight_ns + DAY_NS
    day = taken._replace(time_ns=midnight_ns, clock=SourceClock.DAY)
    _add(output, day, ((_STEPS, record.steps, unit, "Steps"),), statistic=Statistic.SUM, ended_ns=ended_ns)


def _sleep(record: _Sleep, unit: int, output: RecordOutput) -> None:
    taken = _taken(record, output)
    end_ns = epoch_ms((record.end_time - 60 * taken.tz_min) * 1_000, ".EndTime")
    others = (("efficiency", record.efficiency), ("awaken", record.awaken), ("fall_sleep", record.fall_sleep))
    _note(taken, others, output)
    _add(output, taken, ((_SLEEP, record.slept, unit, "HoursSlept"),), statistic=Statistic.SUM, ended_ns=end_ns)


class _Units(NamedTuple):
    """The unit code on a list, what it may say, and the device's setting for a list without one."""

    member: str
    codes: Mapping[int, str]
    setting: str
    units: Mapping[str, int]


_BP_UNIT: Final = _Units("BPUnit", {0: "mm[Hg]", 1: "kPa"}, "bp_unit", _PRESSURES)
_BG_UNIT: Final = _Units("BGUnit", {0: "mg/dL", 1: "mmol/L"}, "glucose_unit", _GLUCOSES)
_WEIGHT_UNIT: Final = _Units("WeightUnit", {0: "kg", 1: "[lb_av]", 2: "[stone_av]"}, "weight_unit", _WEIGHTS)


def _unit(units: _Units, code: int | None, output: RecordOutput) -> int:
    if code is None:
        if units.setting not in output.settings:
            raise DecodeError(Reason.MISSING_FIELD, f".{units.member}")
        return output.choice(units.setting, units.units, "")
    if code not in units.codes:
        raise DecodeError(Reason.UNKNOWN_UNIT, f".{units.member}")
    return units.units[units.codes[code]]


def _records(items: list[Any] | None, member: str) -> list[Any]:
    if items is None:
        raise DecodeError(Reason.MISSING_FIELD, f".{member}")
    return items


def _read_bp(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _Page)
    if items := _records(page.bp, "BPDataList"):
        unit = _unit(_BP_UNIT, page.bp_unit, output)
        output.each(items, ".BPDataList", _Pressure, lambda record: _pressure(record, unit, output))


def _read_glucose(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _Page)
    if items := _records(page.glucose, "BGDataList"):
        unit = _unit(_BG_UNIT, page.glucose_unit, output)
        output.each(items, ".BGDataList", _Glucose, lambda record: _glucose(record, unit, output))


def _read_spo2(content: Any, output: RecordOutput) -> None:
    items = _records(output.typed(content, _Page).spo2, "BODataList")
    output.each(items, ".BODataList", _Oxygen, lambda record: _oxygen(record, _PERCENT, output))


def _read_weight(content: Any, output: RecordOutput) -> None:
    page = output.typed(content, _Page)
    if items := _records(page.weight, "WeightDataList"):
        unit = _unit(_WEIGHT_UNIT, page.weight_unit, output)
        output.each(items, ".WeightDataList", _Weight, lambda record: _weight(record, unit, output))


def _read_activity(content: Any, output: RecordOutput) -> None:
    items = _records(output.typed(content, _Page).activity, "ARDataList")
    output.each(items, ".ARDataList", _Activity, lambda record: _activity(record, _STEPS_UNIT, output))


def _read_sleep(content: Any, output: RecordOutput) -> None:
    items = _records(output.typed(content, _Page).sleep, "SRDataList")
    unit = output.choice("sleep_unit", _SLEEPS, "min")
    output.each(items, ".SRDataList", _Sleep, lambda record: _sleep(record, unit, output))


_READERS: Final = MappingProxyType(
    {
        "bp": _read_bp, "glucose": _read_glucose, "spo2": _read_spo2, "weight": _read_weight,
        "activity": _read_activity, "sleep": _read_sleep,
    }
)  # fmt: skip


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings in the unit that the list names; an event for a record whose values are all zero."""
    return vendor_json.decode_each(messages, contexts, _READERS)


ADAPTER = vendor_json.adapter(
    "ihealth",
    "iHealth",
    {
        "bp": "page with BPDataList", "glucose": "page with BGDataList", "spo2": "page with BODataList",
        "weight": "page with WeightDataList", "activity": "page with ARDataList", "sleep": "page with SRDataList",
    },
    frozenset(
        {"bp_sys", "bp_dia", "pulse_rate_nibp", "glucose_bg", "spo2", "pulse_rate", "weight", "bmi", "body_fat",
         "steps", "sleep"}
    ),
    decode,
    {
        "bp_unit": "unit of a list without BPUnit: mm[Hg] or kPa; default: it is rejected",
        "glucose_unit": "unit of a list without BGUnit: mg/dL or mmol/L; default: it is rejected",
        "weight_unit": "unit of a list without WeightUnit: kg, [lb_av] or [stone_av]; default: it is rejected",
        "fat_value": "what FatValue is: context (default), a number without a unit, or percent, a reading of body fat",
        "sleep_unit": "unit of HoursSlept: min (default) or h",
        **vendor_json.NOTE_SETTING,
    },
    {
        "bp": JsonRecords(("BPDataList",), array=False), "glucose": JsonRecords(("BGDataList",), array=False),
        "spo2": JsonRecords(("BODataList",), array=False), "weight": JsonRecords(("WeightDataList",), array=False),
        "activity": JsonRecords(("ARDataList",), array=False), "sleep": JsonRecords(("SRDataList",), array=False),
    },
    version=2,
)  # fmt: skip
