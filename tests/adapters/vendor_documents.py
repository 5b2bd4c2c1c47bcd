"""One full document of each kind of vendor JSON, with two records; the tests change the second."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Step = str | int


@dataclass(frozen=True, slots=True)
class Sample:
    """A document whose record at ``path`` has all members that the adapter reads; ``required`` are those it needs.

    ``telling`` members say what the record is: without them it is another.
    """

    adapter: str
    kind: str
    document: Any
    path: tuple[Step, ...]
    required: frozenset[str]
    telling: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"{self.adapter}-{self.kind}-{self.shown_path}"

    @property
    def shown_path(self) -> str:
        return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)

    @property
    def record(self) -> dict[str, Any]:
        record = follow(self.document, self.path)
        assert isinstance(record, dict)
        return record

    def payload(self) -> bytes:
        return dumped(self.document)

    def changed(self, changes: Mapping[str, Any], without: str = "") -> bytes:
        """The payload with members of the record changed, or one left out."""
        document = copied(self.document)
        record = follow(document, self.path)
        record.update(changes)
        record.pop(without, None)
        return dumped(document)


def dumped(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def copied(document: Any) -> Any:
    """A copy in which equal records are no longer one object."""
    return json.loads(json.dumps(document))


def follow(document: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


EGV = {
    "recordId": "0a6f4c5e", "systemTime": "2024-03-10T12:00:00Z", "displayTime": "2024-03-10T08:00:00-04:00",
    "transmitterId": "t1", "transmitterTicks": 36600, "value": 68, "status": "ok", "trend": "flat", "trendRate": -1.4,
    "unit": "mg/dL", "rateUnit": "mg/dL/min", "displayDevice": "iOS", "transmitterGeneration": "g5",
}  # fmt: skip
ENTRY = {
    "type": "sgv", "sgv": 118, "date": 1710072000000, "dateString": "2024-03-10T12:00:00Z", "direction": "Flat",
    "noise": 1, "device": "xDrip", "sysTime": "2024-03-10T12:00:00Z", "utcOffset": 0, "filtered": 1.5,
    "unfiltered": 1.5, "rssi": 100, "units": "mg", "srvModified": 1710072000000, "isValid": True, "app": "x",
    "identifier": "e1",
}  # fmt: skip
METER = {**{key: value for key, value in ENTRY.items() if key != "sgv"}, "type": "mbg", "mbg": 101}
MEASURE = {"value": 72500, "type": 1, "unit": -3, "algo": 1, "fm": 3, "position": 2}
GROUP = {
    "grpid": 11, "attrib": 0, "date": 1710072000, "created": 1710072060, "modified": 1710072060, "category": 1,
    "deviceid": "d1", "hash_deviceid": "h1", "model": "Body", "modelid": 4, "comment": "", "deleted": False,
    "measures": [{"value": 70, "type": 11, "unit": 0}, MEASURE],
}  # fmt: skip
RECORD = {
    "DataID": "r-1", "DataSource": "FromDevice", "MDate": 1442491463, "TimeZone": "-0800",
    "LastChangeTime": 1442520270, "Note": "", "Lat": -1, "Lon": -1,
}  # fmt: skip
WEIGHT = {"WeightValue": 77.5, "BMI": 22.5, "FatValue": 10, "WaterValue": 25, "BoneValue": 1, "MuscaleValue": 2}
DAY = {"dateTime": "2024-03-10", "value": {"restingHeartRate": 58}}
MINUTE = {"value": 95, "minute": "2024-03-10T04:02:17"}
POINT = {"time": "07:30:00", "value": 72}
ITEM = {
    "date": "2024-03-10 07:30:00 -0400",
    "Min": 61,
    "Avg": 64.5,
    "Max": 70,
    "qty": 65,
    "source": "a",
    "mealTime": "",
}
PRESSURE_ITEM = {"date": "2024-03-10 07:30:00 -0400", "systolic": 120, "diastolic": 80, "source": "a"}
NIGHT = {
    "date": "2024-03-10 00:00:00 -0500", "totalSleep": 7.5, "asleep": 0, "core": 4.5, "deep": 1, "rem": 2,
    "awake": 0.25, "inBed": 8, "sleepStart": "2024-03-09 23:00:00 -0500", "sleepEnd": "2024-03-10 06:45:00 -0500",
    "source": "a",
}  # fmt: skip
STAGE = {
    "startDate": "2024-03-10 23:00:00 -0500", "endDate": "2024-03-10 23:30:00 -0500", "qty": 0.5, "value": "Core",
    "source": "a",
}  # fmt: skip
SLEEP = {
    "startTime": "2024-03-09T23:21:30.000", "endTime": "2024-03-10T07:03:30.000", "minutesAsleep": 412, "logId": 26,
    "dateOfSleep": "2024-03-10", "duration": 27720000, "timeInBed": 462, "minutesAwake": 50, "efficiency": 96,
    "isMainSleep": True,
}  # fmt: skip


def _metrics(name: str, units: str, item: Any, count: int = 1) -> Any:
    metric = {"name": name, "units": units, "data": [item, item]}
    return {"data": {"metrics": [metric] * count, "workouts": []}}


def _intraday(what: str, value: Any) -> Any:
    return {
        f"activities-{what}": [{"dateTime": "2024-03-10", "value": value}],
        f"activities-{what}-intraday": {"dataset": [POINT, POINT], "datasetInterval": 1, "datasetType": "minute"},
    }


def _ihealth(kind: str, listed: str, required: str, extra: Mapping[str, Any], **page: int) -> Sample:
    record = {**RECORD, **extra}
    return Sample(
        "ihealth", kind, {listed: [record, record], **page}, (listed, 1), frozenset({"MDate", *required.split()})
    )


_ITEMS = ("data", "metrics", 0, "data", 1)
_METRIC = ("data", "metrics", 1)
_GROUPS = {"status": 0, "body": {"measuregrps": [GROUP, GROUP], "updatetime": 1, "timezone": "Europe/Berlin"}}

SAMPLES = (
    Sample("dexcom", "egvs", {"recordType": "egv", "records": [EGV, EGV]}, ("records", 1),
           frozenset({"systemTime", "unit"})),
    Sample("nightscout", "entries", [ENTRY, ENTRY], (1,), frozenset({"type", "sgv"})),
    Sample("nightscout", "entries", [ENTRY, METER], (1,), frozenset({"type", "mbg"})),
    Sample("withings", "getmeas", _GROUPS, ("body", "measuregrps", 1),
           frozenset({"grpid", "attrib", "date", "category"})),
    Sample("withings", "getmeas", _GROUPS, ("body", "measuregrps", 1, "measures", 1),
           frozenset({"value", "type", "unit"})),
    Sample("fitbit", "heart", {"activities-heart": [DAY, DAY]}, ("activities-heart", 1), frozenset({"dateTime"})),
    Sample("fitbit", "heart", _intraday("heart", {}), ("activities-heart-intraday", "dataset", 1),
           frozenset({"time", "value"})),
    Sample("fitbit", "heart", _intraday("heart", {}), ("activities-heart-intraday",),
           frozenset({"dataset"})),
    Sample("fitbit", "steps", _intraday("steps", "12"), ("activities-steps-intraday", "dataset", 1),
           frozenset({"time", "value"})),
    Sample("fitbit", "steps", {"activities-steps": [{**DAY, "value": "7"}] * 2}, ("activities-steps", 1),
           frozenset({"dateTime", "value"})),
    Sample("fitbit", "spo2", {"dateTime": "2024-03-10", "minutes": [MINUTE, MINUTE]}, ("minutes", 1),
           frozenset({"value", "minute"})),
    Sample("fitbit", "spo2", [{"dateTime": "2024-03-10", "value": {"avg": 96, "min": 94, "max": 99}}] * 2, (1, "value"),
           frozenset({"avg"})),
    Sample("fitbit", "br", {"br": [{"dateTime": "2024-03-10", "value": {"breathingRate": 17.8}}] * 2}, ("br", 1),
           frozenset({"dateTime", "value"})),
    Sample("fitbit", "weight",
           {"weight": [{"date": "2024-03-05", "time": "23:59:59", "weight": 70.5, "logId": 1, "bmi": 23.5, "fat": 14.5,
                        "source": "Aria"}] * 2},
           ("weight", 1), frozenset({"date", "time", "weight"})),
    Sample("fitbit", "sleep", {"sleep": [SLEEP, SLEEP]}, ("sleep", 1), frozenset({"startTime", "minutesAsleep"})),
    Sample("fitbit", "temperature", {"tempCore": [{"dateTime": "2024-03-10T10:00:00", "value": 37.5}] * 2},
           ("tempCore", 1), frozenset({"dateTime", "value"})),
    Sample("fitbit", "temperature", {"tempSkin": [{"dateTime": "2024-03-10", "value": {"nightlyRelative": 0.2}}] * 2},
           ("tempSkin", 1), frozenset({"dateTime", "value"})),
    _ihealth("bp", "BPDataList", "HP LP", {"HP": 120, "LP": 80, "HR": 60, "IsArr": 1, "BPL": 2}, BPUnit=0),
    _ihealth("glucose", "BGDataList", "BG",
             {"BG": 60, "DinnerSituation": "Before_dinner", "DrugSituation": "After_taking_pills"}, BGUnit=0),
    _ihealth("spo2", "BODataList", "BO", {"BO": 97, "HR": 60}),
    _ihealth("weight", "WeightDataList", "WeightValue", {**WEIGHT, "DCI": 2035.5}, WeightUnit=0),
    _ihealth("activity", "ARDataList", "Steps", {"Steps": 2370, "Calories": 208, "DistanceTraveled": 1.6}),
    Sample("ihealth", "sleep",
           {"SRDataList": [{**{key: value for key, value in RECORD.items() if key != "MDate"}, "StartTime": 1442442600,
                            "EndTime": 1442467800, "HoursSlept": 345, "SleepEfficiency": 96, "Awaken": 1,
                            "FallSleep": 12}] * 2},
           ("SRDataList", 1), frozenset({"StartTime", "EndTime", "HoursSlept"})),
    Sample("health_auto_export", "metrics", _metrics("heart_rate", "bpm", ITEM), _ITEMS, frozenset({"date"})),
    Sample("health_auto_export", "metrics", _metrics("resting_heart_rate", "bpm", ITEM), _ITEMS, frozenset({"date"})),
    Sample("health_auto_export", "metrics", _metrics("blood_pressure", "mmHg", PRESSURE_ITEM), _ITEMS,
           frozenset({"date", "systolic", "diastolic"})),
    Sample("health_auto_export", "metrics", _metrics("sleep_analysis", "hr", NIGHT), _ITEMS, frozenset()),
    Sample("health_auto_export", "metrics", _metrics("sleep_analysis", "hr", STAGE), _ITEMS,
           frozenset({"qty", "value"}), frozenset({"startDate"})),
    Sample("health_auto_export", "metrics", _metrics("heart_rate", "bpm", ITEM, 2), _METRIC,
           frozenset({"name", "units", "data"})),
)  # fmt: skip
