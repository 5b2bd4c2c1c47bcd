"""A synthetic health export of a phone (device-formats.md 5.8): same seed, same bytes.

Nobody wears it: heart rate every half minute or so, and beside it what a phone, a watch, a cuff, a scale and a meter
add in such a file. It is written as the real one is: a document type with its declarations at the head, records type
by type and in time within each, blood pressures once more inside correlations, a workout and a summary at the end.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import BinaryIO, Final

_HEAD: Final = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 12 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation|Workout|ActivitySummary)*)>
<!ATTLIST HealthData locale CDATA #REQUIRED>
<!ELEMENT Record ((MetadataEntry|HeartRateVariabilityMetadataList)*)>
<!ATTLIST Record type CDATA #REQUIRED unit CDATA #IMPLIED value CDATA #IMPLIED>
]>
<HealthData locale="en_GB">
 <ExportDate value="2024-03-10 18:00:00 +0100"/>
 <Me HKCharacteristicTypeIdentifierDateOfBirth="1970-01-01" HKCharacteristicTypeIdentifierBiologicalSex="HKBiologicalSexFemale"/>
"""  # noqa: E501 - as it is written
_TAIL: Final = """ <Workout workoutActivityType="HKWorkoutActivityTypeWalking" duration="31.5" durationUnit="min" sourceName="Ada’s Apple Watch" startDate="2024-03-09 10:00:00 +0100" endDate="2024-03-09 10:31:30 +0100">
  <MetadataEntry key="HKIndoorWorkout" value="0"/>
 </Workout>
 <ActivitySummary dateComponents="2024-03-09" activeEnergyBurned="312.5" activeEnergyBurnedUnit="kcal"/>
</HealthData>
"""  # noqa: E501
_ZONE: Final = timezone(timedelta(hours=1))
_END: Final = datetime(2024, 3, 10, 17, tzinfo=UTC)
_WATCH: Final = "Ada’s Apple Watch"
_PHONE: Final = "Ada’s iPhone"
_ADDRESS: Final = 0x2815_0000


@dataclass(frozen=True, slots=True)
class _Series:
    """One type of records: how many of a thousand, unit, decimals, range of values, source and seconds it lasts."""

    share: int
    name: str
    unit: str
    decimals: int
    low: float
    high: float
    source: str = _WATCH
    lasts_s: int = 0
    metadata: tuple[str, ...] = ()


_SERIES: Final = (
    _Series(1, "BodyMass", "kg", 1, 61.0, 64.0, _PHONE, 0, ('key="HKWasUserEntered" value="1"',)),
    _Series(
        760, "HeartRate", "count/min", 0, 48, 130, _WATCH, 0,
        tuple(f'key="HKMetadataKeyHeartRateMotionContext" value="{value}"' for value in (0, 1, 2)),
    ),
    _Series(60, "OxygenSaturation", "%", 2, 0.93, 0.99),
    _Series(70, "RespiratoryRate", "count/min", 1, 11, 19),
    _Series(2, "BodyTemperature", "degC", 1, 36.2, 37.4, _PHONE),
    _Series(5, "BloodGlucose", "mmol&lt;180.1558800000541&gt;/L", 1, 4.2, 8.9, _PHONE, 0,
            ('key="HKBloodGlucoseMealTime" value="1"',)),
    _Series(90, "StepCount", "count", 0, 4, 800, _PHONE, 580),
)  # fmt: skip
_PRESSURES: Final = 4
"""Of a thousand records: pairs of a systolic and a diastolic one; each record stands twice."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: ``records`` elements, of which ``distinct`` are no copies inside a correlation."""

    records: int
    distinct: int


def write_export(stream: BinaryIO, records: int, seed: int) -> Written:
    """Write an export of about ``records`` records, at least a thousand, ending on 10 March 2024."""
    generator = random.Random(seed)  # noqa: S311 - synthetic values
    thousands = max(1, records // 1000)
    stream.write(_HEAD.encode())
    written = pairs = 0
    for series in _SERIES:
        count = series.share * thousands
        written += count
        _write(stream, _records(series, count, generator))
    measured = [(120 + generator.randrange(30), 70 + generator.randrange(18)) for _ in range(_PRESSURES * thousands)]
    pairs = len(measured)
    for place, name in enumerate(("Systolic", "Diastolic")):
        _write(stream, (_pressure(name, number, pairs, pair[place]) for number, pair in enumerate(measured)))
    _write(stream, (_correlation(number, pairs, *pair) for number, pair in enumerate(measured)))
    stream.write(_TAIL.encode())
    return Written(written + 4 * pairs, written + 2 * pairs)


def _write(stream: BinaryIO, texts: Iterator[str]) -> None:
    held: list[str] = []
    for text in texts:
        held.append(text)
        if len(held) == 1000:
            stream.write("".join(held).encode())
            held.clear()
    stream.write("".join(held).encode())


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} +0100"


def _moment(number: int, count: int, step_s: int) -> datetime:
    """The time of record ``number`` of ``count`` that are ``step_s`` seconds apart and end with the export."""
    return (_END - timedelta(seconds=step_s * (count - number))).astimezone(_ZONE)


def _records(series: _Series, count: int, generator: random.Random) -> Iterator[str]:
    step_s = max(31, 31 * 760 // series.share) if series.share > 1 else 43_200
    head = f' <Record type="HKQuantityTypeIdentifier{series.name}" sourceName="{series.source}" sourceVersion="10.3.1"'
    for number in range(count):
        moment = _moment(number, count, step_s)
        began = _at(moment)
        ended = _at(moment + timedelta(seconds=series.lasts_s)) if series.lasts_s else began
        value = f"{generator.uniform(series.low, series.high):.{series.decimals}f}"
        device = (
            f"&lt;&lt;HKDevice: 0x{_ADDRESS + generator.randrange(1 << 16):x}&gt;, name:Apple Watch, model:Watch&gt;"
        )
        text = (
            f'{head} device="{device}" unit="{series.unit}" creationDate="{ended}" startDate="{began}" '
            f'endDate="{ended}" value="{value}"'
        )
        if series.metadata:
            yield f"{text}>\n  <MetadataEntry {series.metadata[number % len(series.metadata)]}/>\n </Record>\n"
        else:
            yield f"{text}/>\n"


def _pressure(name: str, number: int, count: int, value: int, indent: str = " ") -> str:
    at = _at(_moment(number, count, 21_600))
    return (
        f'{indent}<Record type="HKQuantityTypeIdentifierBloodPressure{name}" sourceName="Cuff" sourceVersion="3.1" '
        f'unit="mmHg" creationDate="{at}" startDate="{at}" endDate="{at}" value="{value}"/>\n'
    )


def _correlation(number: int, count: int, systolic: int, diastolic: int) -> str:
    at = _at(_moment(number, count, 21_600))
    inside = _pressure("Systolic", number, count, systolic, "  ") + _pressure(
        "Diastolic", number, count, diastolic, "  "
    )
    return (
        f' <Correlation type="HKCorrelationTypeIdentifierBloodPressure" sourceName="Cuff" sourceVersion="3.1" '
        f'creationDate="{at}" startDate="{at}" endDate="{at}">\n{inside} </Correlation>\n'
    )
