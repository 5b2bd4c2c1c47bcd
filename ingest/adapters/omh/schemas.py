"""What each version of each Open mHealth schema asks of a body (device-formats.md 3.2 to 3.4).

``RULES`` holds them by (name, version). Version "" stands for a payload that does not say its version: what any version
allows, it allows; what some version leaves out, it does not require.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from ingest.adapter import unit_code, vital_code
from ingest.adapters.reading.units import unit_of
from vitals.catalog import BY_CODE
from vitals.glossary import Statistic
from vitals.times import HOUR_NS
from vitals.units import UNIT_BY_CODE, to_canonical


class SchemaUnit(NamedTuple):
    """A unit as the schemas spell it: its code after multiplication by ``factor``, the vital's canonical unit, and the
    canonical size of one step of the unit, which a spread converts by."""

    code: int
    factor: float
    canonical: int
    step: float


class SchemaValue(NamedTuple):
    """A member with a number: ``{"value", "unit"}``, and where ``plain`` also the bare number in the only unit."""

    member: str
    vital: int
    units: Mapping[str, SchemaUnit]
    required: bool = True
    quantity: bool = True
    plain: bool = False


class Word(NamedTuple):
    """A member with a word of ``allowed`` (None: any text), kept under ``key`` of a reading's context."""

    key: str
    allowed: frozenset[str] | None


class SchemaRules(NamedTuple):
    """What a body of one version of a schema must and may have."""

    name: str
    version: str
    values: tuple[SchemaValue, ...]
    words: Mapping[str, Word]
    time_required: bool
    interval_only: bool = False
    parts_of_day: bool = True


def _unit(vital: int, name: str, factor: float = 1.0) -> SchemaUnit:
    code, canonical = unit_code(name), BY_CODE[vital].unit
    ucum = UNIT_BY_CODE[code].ucum
    # Over a long way, because conversions round at the ninth decimal.
    low, high = to_canonical([0.0, 9_000.0], ucum, canonical).tolist()
    return SchemaUnit(code, factor, unit_code(canonical), factor * (high - low) / 9_000.0)


def _value(member: str, key: str, units: Mapping[str, tuple[str, float]], **more: bool) -> SchemaValue:
    vital = vital_code(key)
    spelled = {word: _unit(vital, *unit) for word, unit in units.items()}
    return SchemaValue(member, vital, MappingProxyType(spelled), **more)


def spelled(value: SchemaValue, word: str) -> SchemaUnit | None:
    """The unit that a producer writes otherwise than the schemas do, None when it names no unit of the vital."""
    code = unit_of(value.vital, word)
    return None if code is None else _unit(value.vital, UNIT_BY_CODE[code].ucum)


def _as_is(*names: str) -> dict[str, tuple[str, float]]:
    return {name: (name, 1.0) for name in names}


_MASSES: Final = {
    "fg": ("g", 1e-15), "pg": ("g", 1e-12), "ng": ("g", 1e-9), "ug": ("g", 1e-6), "mg": ("g", 1e-3),
    "g": ("g", 1.0), "kg": ("kg", 1.0), "Metric Ton": ("kg", 1_000.0),
    "gr": ("g", 0.06479891), "oz": ("g", 28.349523125), "lb": ("[lb_av]", 1.0), "Ton": ("[lb_av]", 2_000.0),
}  # fmt: skip
"""Grain, avoirdupois ounce and short ton, as the schema's UCUM codes say; all exact."""
_DURATIONS: Final = {
    "ps": ("s", 1e-12), "ns": ("s", 1e-9), "us": ("s", 1e-6), "ms": ("s", 1e-3), "sec": ("s", 1.0),
    "min": ("min", 1.0), "h": ("h", 1.0), "d": ("h", 24.0), "wk": ("h", 168.0),
}  # fmt: skip
"""Of the duration units ``Mo`` and ``yr`` have no fixed length."""

_ACTIVITIES: Final = Word(
    "activity", frozenset({"at rest", "active", "before exercise", "after exercise", "during exercise"})
)
_SLEEPS: Final = Word("sleep", frozenset({"before sleeping", "during sleep", "on waking"}))
_MEALS: Final = Word(
    "meal",
    frozenset({
        "fasting", "not fasting", "before meal", "after meal", "before breakfast", "after breakfast", "before lunch",
        "after lunch", "before dinner", "after dinner", "2 hours postprandial", "with meal", "with food",
        "not related to meals",
    }),
)  # fmt: skip
_NOTES: Final = Word("note", None)
_PER: Final = Word(
    "per",
    frozenset({"ps", "ns", "us", "ms", "sec", "min", "h", "d", "wk", "Mo", "yr", "episode", "meal", "session"}),
)
_ACTIVITY: Final = {"temporal_relationship_to_physical_activity": _ACTIVITIES}
_SLEEP: Final = {"temporal_relationship_to_sleep": _SLEEPS}
_MEAL: Final = {"temporal_relationship_to_meal": _MEALS}
_NOTE: Final = {"user_notes": _NOTES}

_BLOOD_SAMPLES: Final = frozenset({"whole blood", "plasma", "serum"})
_SAMPLES_1: Final = _BLOOD_SAMPLES | {"interstitial fluid", "capillary blood", "tears"}
_SAMPLES_2: Final = _SAMPLES_1 | {"lacrimal fluid", "breath", "saliva", "sweat", "urine"}
VITAL_BY_SAMPLE: Final = MappingProxyType(
    {
        **dict.fromkeys(_SAMPLES_2, 0),
        **dict.fromkeys({*_BLOOD_SAMPLES, "capillary blood"}, vital_code("glucose_bg")),
        "interstitial fluid": vital_code("glucose_isf"),
    }
)
"""What glucose in a sample is; 0 for a sample that no vital stands for."""

_POSTURES: Final = frozenset({"sitting", "lying down", "standing", "semi-recumbent"})
_POSTURE: Final = {"body_posture": Word("posture", _POSTURES)}
_LOCATION: Final = {
    "measurement_location": Word("site", frozenset(
        {"left ankle", "right ankle", "left hip", "right hip", "left thigh", "right thigh", "left thorax",
         "middle left thorax", "left upper arm", "right upper arm", "left wrist", "right wrist"},
    )),
}  # fmt: skip
_THERMOMETER_1: Final = {
    "measurement_location": Word("site", frozenset(
        {"oral", "rectal", "vaginal", "axillary", "otic", "wrist", "chest", "temporal"}
    )),
}  # fmt: skip
_THERMOMETER_2: Final = {
    "measurement_location": Word("site", frozenset(
        {"axillary", "finger", "forehead", "oral", "rectal", "temporal artery", "toe", "tympanic", "wrist", "vagina"},
    )),
}  # fmt: skip
_OXYGEN: Final = {
    "system": Word("system", frozenset({"peripheral capillary"})),
    "oxygen_therapy_mode_of_administration": Word("oxygen_mode", frozenset({"nasal cannula"})),
    "measurement_method": Word("method", frozenset({"pulse oximetry"})),
}

_GLUCOSE: Final = (_value("blood_glucose", "glucose_bg", _as_is("mg/dL", "mmol/L")),)
_RATE: Final = (_value("heart_rate", "heart_rate", _as_is("beats/min")),)
_SATURATION: Final = (
    _value("oxygen_saturation", "spo2", _as_is("%")),
    _value("supplemental_oxygen_flow_rate", "o2_flow", _as_is("L/min"), required=False),
)
_PRESSURES: Final = (
    _value("systolic_blood_pressure", "bp_sys", _as_is("mmHg")),
    _value("diastolic_blood_pressure", "bp_dia", _as_is("mmHg")),
)
_TEMPERATURE: Final = (_value("body_temperature", "temp", _as_is("K", "F", "C")),)
_BREATHS: Final = (_value("respiratory_rate", "resp_rate", _as_is("breaths/min")),)
_WEIGHT: Final = (_value("body_weight", "weight", _MASSES),)
_STEPS_PLAIN: Final = (_value("step_count", "steps", _as_is("steps"), quantity=False, plain=True),)
_STEPS: Final = (_value("step_count", "steps", _as_is("steps")),)
_INTERVAL: Final = (_value("rr_interval", "rr_interval", _as_is("ms")),)
_ASLEEP: Final = (_value("sleep_duration", "sleep", _DURATIONS),)

_VERSIONS: Final[tuple[SchemaRules, ...]] = (
    SchemaRules("blood-glucose", "1.0", _GLUCOSE, {
        "blood_specimen_type": Word("sample", _BLOOD_SAMPLES), **_MEAL, **_SLEEP, **_NOTE,
    }, False),
    SchemaRules("blood-glucose", "2.0", _GLUCOSE, {
        "specimen_source": Word("sample", _SAMPLES_1), **_MEAL, **_SLEEP, **_NOTE,
    }, False),
    SchemaRules("blood-glucose", "3.0", _GLUCOSE, {
        "specimen_source": Word("sample", _SAMPLES_2), **_MEAL, **_SLEEP,
    }, True),
    SchemaRules("blood-glucose", "4.0", _GLUCOSE, {
        "specimen_source": Word("sample", _SAMPLES_2), **_MEAL, **_SLEEP,
    }, True, parts_of_day=False),
    SchemaRules("heart-rate", "1.0", _RATE, {**_ACTIVITY, **_NOTE}, False),
    SchemaRules("heart-rate", "1.1", _RATE, {**_ACTIVITY, **_SLEEP, **_NOTE}, False),
    SchemaRules("heart-rate", "2.0", _RATE, {**_ACTIVITY, **_SLEEP}, True),
    SchemaRules("oxygen-saturation", "1.0", _SATURATION, _OXYGEN, False),
    SchemaRules("oxygen-saturation", "2.0", _SATURATION, _OXYGEN, True),
    SchemaRules("blood-pressure", "1.0", _PRESSURES, {
        "position_during_measurement": Word("posture", _POSTURES - {"semi-recumbent"}), **_NOTE,
    }, False),
    SchemaRules("blood-pressure", "2.0", _PRESSURES, {**_POSTURE, **_NOTE}, False),
    SchemaRules("blood-pressure", "3.0", _PRESSURES, {**_POSTURE, **_LOCATION}, True),
    SchemaRules("blood-pressure", "3.1", _PRESSURES, {**_POSTURE, **_LOCATION, **_ACTIVITY}, True),
    SchemaRules("blood-pressure", "4.0", _PRESSURES, {**_POSTURE, **_LOCATION, **_ACTIVITY}, True, parts_of_day=False),
    SchemaRules("body-temperature", "1.0", _TEMPERATURE, _THERMOMETER_1, False),
    SchemaRules("body-temperature", "2.0", _TEMPERATURE, {**_THERMOMETER_2, **_SLEEP}, False),
    SchemaRules("body-temperature", "3.0", _TEMPERATURE, {**_THERMOMETER_2, **_SLEEP}, True),
    SchemaRules("body-temperature", "4.0", _TEMPERATURE, {**_THERMOMETER_2, **_SLEEP}, True, parts_of_day=False),
    SchemaRules("respiratory-rate", "1.0", _BREATHS, _ACTIVITY, False),
    SchemaRules("respiratory-rate", "2.0", _BREATHS, _ACTIVITY, True),
    SchemaRules("body-weight", "1.0", _WEIGHT, {}, False),
    SchemaRules("body-weight", "2.0", _WEIGHT, {}, True),
    SchemaRules("body-weight", "3.0", _WEIGHT, {}, True, parts_of_day=False),
    SchemaRules("step-count", "1.0", _STEPS_PLAIN, {}, False),
    SchemaRules("step-count", "2.0", _STEPS_PLAIN, {}, True, interval_only=True),
    SchemaRules("step-count", "3.0", _STEPS, {}, True, interval_only=True),
    SchemaRules("rr-interval", "1.0", _INTERVAL, {}, False),
    # No version forbids a point in time in so many words; a duration has none.
    SchemaRules("sleep-duration", "1.0", _ASLEEP, {}, False, interval_only=True),
    SchemaRules("sleep-duration", "2.0", _ASLEEP, {}, True, interval_only=True),
)  # fmt: skip
"""Versions of a schema in rising order. The ones with ``parts_of_day=False`` take the time frame of IEEE 1752.1."""


def _any_word(versions: list[SchemaRules], member: str) -> Word:
    words = [rules.words[member] for rules in versions if member in rules.words]
    allowed = frozenset[str]().union(*(word.allowed or () for word in words))
    return Word(words[0].key, allowed or None)


def _any_version(versions: list[SchemaRules]) -> SchemaRules:
    """The rules of a body that does not say which of the ``versions`` it is."""
    newest = versions[-1]
    values = tuple(
        value._replace(
            quantity=any(rules.values[place].quantity for rules in versions),
            plain=any(rules.values[place].plain for rules in versions),
        )
        for place, value in enumerate(newest.values)
    )
    return newest._replace(
        version="",
        values=values,
        words={member: _any_word(versions, member) for rules in versions for member in rules.words},
        time_required=all(rules.time_required for rules in versions),
        interval_only=all(rules.interval_only for rules in versions),
        parts_of_day=any(rules.parts_of_day for rules in versions),
    )


def _grouped() -> dict[str, list[SchemaRules]]:
    groups: dict[str, list[SchemaRules]] = {}
    for rules in _VERSIONS:
        groups.setdefault(rules.name, []).append(rules._replace(words={**rules.words, DENOMINATOR: _PER}))
    return groups


DENOMINATOR: Final = "descriptive_statistic_denominator"
SCHEMAS: Final[Mapping[str, tuple[SchemaRules, ...]]] = MappingProxyType(
    {name: (_any_version(versions), *versions) for name, versions in _grouped().items()}
)
"""Name -> the rules without a version, then those of each version in rising order."""
RULES: Final[Mapping[tuple[str, str], SchemaRules]] = MappingProxyType(
    {(name, rules.version): rules for name, all_rules in SCHEMAS.items() for rules in all_rules}
)

STATISTICS: Final[Mapping[str, Statistic]] = MappingProxyType(
    {
        "average": Statistic.MEAN,
        "minimum": Statistic.MINIMUM,
        "maximum": Statistic.MAXIMUM,
        "sum": Statistic.SUM,
        "count": Statistic.COUNT,
        "median": Statistic.MEDIAN,
        "standard deviation": Statistic.STANDARD_DEVIATION,
        "variance": Statistic.VARIANCE,
        "quartile deviation": Statistic.QUARTILE_DEVIATION,
        "20th percentile": Statistic.QUANTILE,
        "80th percentile": Statistic.QUANTILE,
        "lower quartile": Statistic.QUANTILE,
        "upper quartile": Statistic.QUANTILE,
        "1st quintile": Statistic.QUANTILE,
        "2nd quintile": Statistic.QUANTILE,
        "3rd quintile": Statistic.QUANTILE,
        "4th quintile": Statistic.QUANTILE,
    }
)
"""``descriptive_statistic`` (device-formats.md 3.3); the order numbers them in identities."""

PARTS_OF_DAY: Final = ("morning", "afternoon", "evening", "night")

DURATION_NS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "ps": 1e-3,
        "ns": 1,
        "us": 1_000,
        "ms": 1_000_000,
        "sec": 1_000_000_000,
        "min": HOUR_NS // 60,
        "h": HOUR_NS,
        "d": 24 * HOUR_NS,
        "wk": 168 * HOUR_NS,
        "Mo": 730 * HOUR_NS,
        "yr": 8_766 * HOUR_NS,
    }
)
"""Nanoseconds of duration units; those of ``Mo`` and ``yr`` only tell intervals apart."""
CALENDAR: Final = frozenset({"d", "wk", "Mo", "yr"})
"""Units that a change of clocks makes longer or shorter: the pair is kept."""
NO_LENGTH: Final = frozenset({"Mo", "yr"})
