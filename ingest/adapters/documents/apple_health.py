"""``apple_health``: records of a phone's health export (device-formats.md 5.8).

Layout: a ``<HealthData>`` document with any of the export's ``<Record>`` elements, alone or in a ``<Correlation>``; the
export's document type declaration is left out (``ingest.files.splitting`` cuts a file so). Values keep the unit they
are written in, but for feet, which are inches. What ends after it starts is an interval; steps and sleep are sums over
it. A percentage of at most 1 is a fraction. Record types that are no vital sign of the catalogue, and time in bed or
awake, are counted as unknown. Names (of sources, devices, the person) are never copied. Control characters, which
phones write in them, are spaces.

Identity: the start as an instant, with ``seq`` 63 bits of a hash of what else tells records apart: end, value and unit
as sent, and one byte of the source's name, which keeps phone and watch apart and is too little to try names against.
Not in it: offsets (those of the phone at export, unconfirmed) and ``device``, which holds an address that each export
writes anew. A record never changes, so there are no revisions; it stands twice when it is part of a correlation.

A document type or entity declaration is refused before anything of it is read, and so is deep nesting.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from xml.parsers import expat

import numpy as np

from ingest.adapter import Adapter, Columns, Context, Decoded, Reject, SourceClock, unit_code, vital_code
from ingest.adapters.reading.marks import without_marks
from ingest.adapters.reading.timestamps import EARLIEST_NS, LATEST_NS, parse_rfc3339, parse_time
from ingest.adapters.reading.units import unit_of
from ingest.files.xml_splitting import XmlRecords, without_controls
from vitals.errors import DecodeError
from vitals.glossary import Flag, Reason, Statistic
from vitals.model import Message
from vitals.times import MINUTE_NS, NO_TIME, SECOND_NS

_MAX_DEPTH: Final = 8
_NUMBER: Final = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_FRACTION: Final = unit_code("{fraction}")
_FEET: Final = unit_code("[ft_i]")
_INCHES: Final = unit_code("[in_i]")
_INCHES_PER_FOOT: Final = 12.0
_PERCENT: Final = unit_code("%")
_SECONDS: Final = unit_code("s")
_TIME_LENGTH: Final = len("2024-03-10 07:30:00 -0500")
_HOURS: Final = {f" {hour:02}": hour * 60 * MINUTE_NS for hour in range(24)}
_MINUTES: Final = {f":{minute:02}": minute * MINUTE_NS for minute in range(60)}
_SECOND: Final = {f":{second:02}": second * SECOND_NS for second in range(60)}

# Plain numbers: numpy takes enumerations in one by one.
_SINGLE: Final = int(Statistic.SINGLE)
_SUM: Final = int(Statistic.SUM)


class _Kind(NamedTuple):
    """What a quantity type is: its vital, and what its value is over an interval."""

    vital: int
    statistic: int = _SINGLE


_QUANTITIES: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        f"HKQuantityTypeIdentifier{name}": kind
        for name, kind in {
            "HeartRate": _Kind(vital_code("heart_rate")),
            "OxygenSaturation": _Kind(vital_code("spo2")),
            "BloodPressureSystolic": _Kind(vital_code("bp_sys")),
            "BloodPressureDiastolic": _Kind(vital_code("bp_dia")),
            "RespiratoryRate": _Kind(vital_code("resp_rate")),
            "BodyTemperature": _Kind(vital_code("temp")),
            "BloodGlucose": _Kind(vital_code("glucose")),
            "BodyMass": _Kind(vital_code("weight")),
            "Height": _Kind(vital_code("height")),
            "BodyMassIndex": _Kind(vital_code("bmi")),
            "BodyFatPercentage": _Kind(vital_code("body_fat")),
            "HeartRateVariabilitySDNN": _Kind(vital_code("hrv_sdnn")),
            "PeakExpiratoryFlowRate": _Kind(vital_code("pef")),
            "ForcedExpiratoryVolume1": _Kind(vital_code("fev1")),
            "ForcedVitalCapacity": _Kind(vital_code("fvc")),
            "StepCount": _Kind(vital_code("steps"), _SUM),
        }.items()
    }
)
_SLEEP_TYPE: Final = "HKCategoryTypeIdentifierSleepAnalysis"
_SLEEP: Final = vital_code("sleep")
_SLEEP_VALUE: Final = "HKCategoryValueSleepAnalysis"
_STAGES: Final = MappingProxyType(
    {"Asleep": {}, "AsleepUnspecified": {}, "AsleepCore": {"stage": "core"}, "AsleepDeep": {"stage": "deep"},
     "AsleepREM": {"stage": "rem"}}
)  # fmt: skip
_NOT_ASLEEP: Final = frozenset({"InBed", "Awake"})
_GLUCOSE: Final = vital_code("glucose")
_GLUCOSE_TYPES: Final = MappingProxyType(
    {"capillary": vital_code("glucose_bg"), "interstitial": vital_code("glucose_isf")}
)

_CONTEXT: Final[Mapping[tuple[str, str], tuple[str, str]]] = MappingProxyType(
    {
        ("HKMetadataKeyHeartRateMotionContext", "1"): ("activity", "at rest"),
        ("HKMetadataKeyHeartRateMotionContext", "2"): ("activity", "active"),
        ("HKBloodGlucoseMealTime", "1"): ("meal", "before meal"),
        ("HKBloodGlucoseMealTime", "2"): ("meal", "after meal"),
        ("HKBodyTemperatureSensorLocation", "1"): ("site", "axilla"),
        ("HKBodyTemperatureSensorLocation", "3"): ("site", "ear"),
        ("HKBodyTemperatureSensorLocation", "4"): ("site", "finger"),
        ("HKBodyTemperatureSensorLocation", "6"): ("site", "oral"),
        ("HKBodyTemperatureSensorLocation", "7"): ("site", "rectal"),
        ("HKBodyTemperatureSensorLocation", "9"): ("site", "tympanic"),
        ("HKBodyTemperatureSensorLocation", "10"): ("site", "temporal"),
        ("HKBodyTemperatureSensorLocation", "11"): ("site", "forehead"),
    }
)
"""Metadata entry -> member of the reading's context; other entries say nothing that a reading holds."""
_USER_ENTERED: Final = ("HKWasUserEntered", "1")

_Row = tuple[int, int, int, int, int, int, float, int, int, int]
"""Message index, vital, unit, start, offset in minutes, end, value, statistic, flags, and unit as sent with the byte
of the source."""


@lru_cache(maxsize=1024)
def _source_byte(name: str) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) & 0xFF


@lru_cache(maxsize=4096)
def _day_ns(day: str) -> int:
    return parse_rfc3339(f"{day}T00:00:00Z")[0]


@lru_cache(maxsize=256)
def _offset_min(text: str) -> int:
    offset = parse_rfc3339(f"2000-01-01T00:00:00{text[1:4]}:{text[4:]}")[1]
    if offset is None or text[0] != " ":
        raise ValueError("not an offset")
    return offset


def _spoken(text: str) -> tuple[int, int]:
    """A time as a phone of another language writes it (12-hour clock, narrow spaces); its offset must be there."""
    time_ns, offset = parse_time(text)
    if offset is None:
        raise ValueError("no offset")
    return time_ns, offset


def _time(text: str, field: str) -> tuple[int, int]:
    """Nanoseconds and offset of ``2024-03-10 07:30:00 -0500``; a whole second takes four look-ups."""
    try:
        if len(text) != _TIME_LENGTH:
            return _spoken(text)
        offset = _offset_min(text[19:])
        clock = _HOURS[text[10:13]] + _MINUTES[text[13:16]] + _SECOND[text[16:19]]
        time_ns = _day_ns(text[:10]) + clock - offset * MINUTE_NS
    except (ValueError, KeyError):
        raise DecodeError(Reason.BAD_TIME, field) from None
    if not EARLIEST_NS <= time_ns <= LATEST_NS:
        raise DecodeError(Reason.BAD_TIME, field)
    return time_ns, offset


def _number(attributes: Mapping[str, str]) -> float:
    text = attributes["value"]
    if not _NUMBER.fullmatch(text):
        raise DecodeError(Reason.BAD_VALUE, "value")
    return float(text)


def _unit(attributes: Mapping[str, str], vital: int) -> int:
    unit = unit_of(vital, attributes["unit"])
    if unit is None:
        raise DecodeError(Reason.UNKNOWN_UNIT, "unit")
    return unit


class _Fragment:
    """One payload while it is parsed: rows so far and what is wrong with the others."""

    def __init__(self, index: int, context: Context, rows: list[_Row], contexts: dict[int, Mapping[str, Any]]) -> None:
        self._index, self._rows, self._contexts = index, rows, contexts
        self._glucose = _GLUCOSE_TYPES.get(context.settings.get("glucose", ""), _GLUCOSE)
        self._percent = context.settings.get("percent", "auto")
        self._record: dict[str, str] | None = None
        self._metadata: list[tuple[str, str]] = []
        self._depth = self._number = self.unknown = self._others = 0
        self._first: DecodeError | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins; raises ``DecodeError`` for a document that is no fragment."""
        self._depth += 1
        if self._record is not None:
            if name == "MetadataEntry":
                self._metadata.append((attributes.get("key", ""), attributes.get("value", "")))
            elif name == "Record":
                raise DecodeError(Reason.MALFORMED, f"record {self._number}: holds a record")
        elif name == "Record":
            self._number += 1
            self._record = attributes
        elif self._depth == 1:
            if name != "HealthData":
                raise DecodeError(Reason.MALFORMED, "the document is no HealthData")
        elif self._depth == 2 and name != "Correlation":
            self.unknown += 1
        if self._depth > _MAX_DEPTH:
            raise DecodeError(Reason.MALFORMED, "nested too deeply")

    def end(self, name: str) -> None:
        """An element ends: a record is complete with its metadata."""
        self._depth -= 1
        if name != "Record" or self._record is None:
            return
        attributes, self._record = self._record, None
        try:
            self._add(attributes)
        except KeyError as absent:
            self.problem(DecodeError(Reason.MISSING_FIELD, f"record {self._number}: {absent.args[0]}"))
        except DecodeError as problem:
            self.problem(DecodeError(problem.reason, f"record {self._number}: {problem.detail}"))
        self._metadata.clear()

    def problem(self, problem: DecodeError) -> None:
        """Remember the first problem, count the others."""
        if self._first is None:
            self._first = problem
        else:
            self._others += 1

    def reject(self) -> Reject | None:
        """The payload's reject, if anything in it was wrong."""
        if self._first is None:
            return None
        more = f"; {self._others} more" if self._others else ""
        return Reject(self._index, self._first.reason, self._first.detail + more)

    def _add(self, attributes: Mapping[str, str]) -> None:
        kind = _QUANTITIES.get(attributes["type"])
        if kind is None and attributes["type"] != _SLEEP_TYPE:
            self.unknown += 1
            return
        began, ended = attributes["startDate"], attributes["endDate"]
        start_ns, tz_min = _time(began, "startDate")
        end_ns = start_ns if ended == began else _time(ended, "endDate")[0]
        if end_ns < start_ns:
            raise DecodeError(Reason.BAD_TIME, "endDate")
        context: dict[str, str] = {}
        if kind is None:
            stage = attributes["value"].removeprefix(_SLEEP_VALUE)
            if stage in _NOT_ASLEEP:
                self.unknown += 1
                return
            if stage not in _STAGES:
                raise DecodeError(Reason.BAD_VALUE, "value")
            context |= _STAGES[stage]
            vital, statistic = _SLEEP, _SUM
            unit = sent = _SECONDS
            value = (end_ns - start_ns) / 1e9
        else:
            vital, statistic = kind.vital, kind.statistic
            unit = sent = _unit(attributes, kind.vital)
            value = _number(attributes)
            if unit == _PERCENT and (self._percent == "fraction" or (self._percent == "auto" and value <= 1)):
                unit = _FRACTION
            elif unit == _FEET:
                # Earlier versions read feet as inches: with another unit an export would add its heights again.
                unit, value = _INCHES, value * _INCHES_PER_FOOT
                sent = unit
            elif vital == _GLUCOSE:
                vital = self._glucose
        flags = 0
        for entry in self._metadata:
            if entry == _USER_ENTERED:
                flags = int(Flag.MANUAL)
            elif entry in _CONTEXT:
                member, word = _CONTEXT[entry]
                context[member] = word
        if context:
            self._contexts[len(self._rows)] = context
        # The unit as sent: how a setting reads it makes no other record.
        tells_apart = sent << 8 | _source_byte(attributes.get("sourceName", ""))
        self._rows.append((self._index, vital, unit, start_ns, tz_min, end_ns, value, statistic, flags, tells_apart))


def _refuse(what: str) -> Callable[..., None]:
    def handler(*_: object) -> None:
        raise DecodeError(Reason.MALFORMED, f"{what} is not allowed")

    return handler


def _parse(payload: bytes, fragment: _Fragment) -> None:
    """Feed a payload to ``fragment``; what is complete before a fault is kept."""
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler, parser.EndElementHandler = fragment.start, fragment.end
    parser.StartDoctypeDeclHandler = _refuse("a document type declaration")
    parser.EntityDeclHandler = _refuse("an entity declaration")
    try:
        parser.Parse(without_controls(without_marks(payload)), True)
    except expat.ExpatError:
        fragment.problem(DecodeError(Reason.MALFORMED, f"not XML at byte {parser.ErrorByteIndex}"))
    except DecodeError as problem:
        fragment.problem(problem)


_MIX: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mixed(words: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The finaliser of splitmix64: every bit of a word changes half of the result's."""
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    return words ^ (words >> np.uint64(31))


def _columns(rows: list[_Row], contexts: Mapping[int, Mapping[str, Any]]) -> Columns:
    message, vital, unit, start, offset, end, value, statistic, flags, tells_apart = (
        zip(*rows, strict=True) if rows else ((),) * 10
    )
    start_ns, end_ns, values = np.array(start, np.int64), np.array(end, np.int64), np.array(value, np.float64)
    last = np.array(tells_apart, np.uint64)
    seq = _mixed(_mixed(_mixed(end_ns.view(np.uint64)) ^ values.view(np.uint64)) ^ last) >> np.uint64(1)
    return Columns(
        message=np.array(message, np.int64),
        vital=np.array(vital, np.uint16),
        clock=np.full(len(rows), SourceClock.INSTANT, np.uint8),
        source_time_ns=start_ns,
        ended_ns=np.where(end_ns == start_ns, NO_TIME, end_ns),
        tz_min=np.array(offset, np.int16),
        seq=seq.view(np.int64),
        value=values,
        unit=np.array(unit, np.uint8),
        statistic=np.array(statistic, np.uint8),
        flags=np.array(flags, np.uint32),
        context=contexts,
    )


def decode(messages: Sequence[Message], contexts: Sequence[Context]) -> Decoded:
    """Readings of all known records; a payload with bad records keeps its good ones and is rejected once."""
    rows: list[_Row] = []
    row_contexts: dict[int, Mapping[str, Any]] = {}
    rejects: list[Reject] = []
    unknown = 0
    for index, (message, context) in enumerate(zip(messages, contexts, strict=True)):
        if message.kind not in ADAPTER.kinds:
            rejects.append(Reject(index, Reason.UNKNOWN_KIND))
            continue
        if not message.payload:
            rejects.append(Reject(index, Reason.EMPTY))
            continue
        fragment = _Fragment(index, context, rows, row_contexts)
        _parse(message.payload, fragment)
        unknown += fragment.unknown
        reject = fragment.reject()
        if reject is not None:
            rejects.append(reject)
    return Decoded(_columns(rows, row_contexts), rejects=rejects, unknown_members=unknown)


_FRAGMENT: Final = "part of an export: a HealthData document of Record and Correlation elements"
ADAPTER = Adapter(
    name="apple_health",
    version=3,
    title="Phone health export (XML)",
    kinds=MappingProxyType({"export": _FRAGMENT, "": _FRAGMENT}),
    vitals=frozenset(
        {"bmi", "body_fat", "bp_dia", "bp_sys", "fev1", "fvc", "glucose", "glucose_bg", "glucose_isf", "heart_rate",
         "height", "hrv_sdnn", "pef", "resp_rate", "sleep", "spo2", "steps", "temp", "weight"}
    ),
    decode=decode,
    max_payload=255 * 1024,
    settings=MappingProxyType(
        {
            "glucose": "`capillary` or `interstitial`: what its glucose values are; without it of unknown sample",
            "percent": "`fraction` or `percent`: how `%` is to be read; `auto`, the default, takes at most 1 for a "
            "fraction",
        }
    ),
    stored_kinds=frozenset({"export"}),
    files=MappingProxyType({"export": XmlRecords("HealthData", ("Record", "Correlation"), "export.xml")}),
)  # fmt: skip
