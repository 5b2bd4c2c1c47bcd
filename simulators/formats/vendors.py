"""What vendors' clouds and apps answer or post (device-formats.md 5.1 to 5.4, 5.8, 5.9 and the published answers)."""

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from simulators.formats.model import (
    OFFSETS_MIN,
    CarriedTime,
    Format,
    Sample,
    identifier,
    instant_text,
    number,
    signed_offset,
)

SENSOR_RANGE: Final = (40, 400)
"""To which a sensor's values are pinned, mg/dL (5.1)."""


def _bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _dexcom(sample: Sample, rng: random.Random) -> bytes:
    low, high = SENSOR_RANGE
    value = sample.values["glucose_isf"]
    status = "low" if value < low else "high" if value > high else rng.choice(("ok", None))
    unit, decimals = rng.choice((("mg/dL", 0), ("mmol/L", 1)))
    offset = rng.choice(OFFSETS_MIN)
    receiver = rng.random() < 0.3
    display = sample.instant() + timedelta(minutes=offset)
    record = {
        "recordId": identifier(sample, "egv"),
        "systemTime": instant_text(sample.instant(), None if receiver else 0),
        "displayTime": instant_text(display, None) if receiver else instant_text(sample.instant(), offset),
        "transmitterId": rng.choice(("t1", None)),
        "transmitterTicks": sample.seconds() % 10_000_000,
        "value": number("glucose_isf", min(max(value, low), high), unit, decimals),
        "status": status,
        "trend": rng.choice(("flat", "fortyFiveDown", "singleUp", "notComputable")),
        "trendRate": rng.choice((None, 0.4, -1.1)),
        "unit": unit,
        "rateUnit": f"{unit}/min",
        "displayDevice": "receiver" if receiver else rng.choice(("iOS", "android")),
        "transmitterGeneration": rng.choice(("g5", "g6")),
    }
    return _bytes({"recordType": "egv", "recordVersion": "3.0", "userId": "u-1", "records": [record]})


def _nightscout(sample: Sample, rng: random.Random) -> bytes:
    common = {
        "date": sample.time_ns // 1_000_000,
        "dateString": instant_text(sample.instant(), 0, digits=3),
        "device": "xDrip",
    }
    if rng.random() < 0.5:
        common |= {"sysTime": common["dateString"], "utcOffset": rng.choice(OFFSETS_MIN)}
    entries: list[dict[str, Any]] = []
    if "glucose_isf" in sample.values:
        sgv = round(sample.values["glucose_isf"])
        sensor = {"direction": rng.choice(("Flat", "FortyFiveUp", "NOT COMPUTABLE")), "noise": rng.choice((0, 1))}
        entries.append({"type": "sgv", "sgv": str(sgv) if rng.random() < 0.3 else sgv, **common, **sensor})
    if "glucose_bg" in sample.values:
        entries.append({"type": "mbg", "mbg": round(sample.values["glucose_bg"]), **common})
    return _bytes(entries[0] if len(entries) == 1 else entries)


_WITHINGS: Final[tuple[Mapping[str, tuple[int, str, int]], ...]] = (
    # one group each: key -> (type, unit, decimals)
    {"weight": (1, "kg", 3), "height": (4, "m", 3), "body_fat": (6, "%", 1)},
    {"bp_dia": (9, "mm[Hg]", 0), "bp_sys": (10, "mm[Hg]", 0), "pulse_rate_nibp": (11, "/min", 0)},
    {"spo2": (54, "%", 0)},
    {"temp": (71, "Cel", 1)},
)


def _withings(sample: Sample, rng: random.Random) -> bytes:
    groups = []
    for place, types in enumerate(_WITHINGS):
        measures = []
        for key, (kind, unit, decimals) in types.items():
            if key in sample.values:
                count = round(number(key, sample.values[key], unit, decimals) * 10**decimals)
                measures.append({"value": count, "type": kind, "unit": -decimals})
        if measures:
            rng.shuffle(measures)
            changed = sample.seconds() + rng.randint(0, 300)
            group = {"grpid": sample.seq * len(_WITHINGS) + place + 1, "attrib": rng.choice((0, 8, 15))}
            group |= {"date": sample.seconds(), "created": changed, "modified": changed, "category": 1}
            groups.append(group | {"deviceid": "d1", "measures": measures})
    body = {"updatetime": sample.seconds() + 600, "timezone": "Europe/Berlin", "measuregrps": groups}
    return _bytes({"status": 0, "body": body})


def _fitbit_heart(sample: Sample, _rng: random.Random) -> bytes:
    day, _, time = sample.wall().isoformat(timespec="seconds").partition("T")
    intraday = {
        "dataset": [{"time": time, "value": round(sample.values["heart_rate"])}],
        "datasetInterval": 1,
        "datasetType": "minute",
    }
    days = [{"dateTime": day, "value": {}}]
    return _bytes({"activities-heart": days, "activities-heart-intraday": intraday})


def _fitbit_spo2(sample: Sample, rng: random.Random) -> bytes:
    minute = sample.wall().isoformat(timespec="seconds")
    day = {
        "dateTime": minute[:10],
        "minutes": [{"value": number("spo2", sample.values["spo2"], "%", 1), "minute": minute}],
    }
    return _bytes([day] if rng.random() < 0.3 else day)


def export_time(moment: datetime, offset_min: int) -> str:
    """``2024-03-10 07:30:00 -0500`` of an instant in UTC."""
    shown = moment + timedelta(minutes=offset_min)
    return f"{shown:%Y-%m-%d %H:%M:%S} {signed_offset(offset_min)}"


_METRICS: Final[Mapping[str, tuple[str, tuple[tuple[str, str, int], ...]]]] = {
    # key: (metric, units as (what is written, UCUM, decimals))
    "spo2": ("blood_oxygen_saturation", (("%", "%", 0),)),
    "resp_rate": ("respiratory_rate", (("count/min", "/min", 1),)),
    "temp": ("body_temperature", (("degC", "Cel", 2), ("degF", "[degF]", 1))),
    "weight": ("weight_body_mass", (("kg", "kg", 2), ("lb", "[lb_av]", 1))),
    "glucose": ("blood_glucose", (("mg/dL", "mg/dL", 0), ("mmol/L", "mmol/L", 1))),
}


def _health_auto_export(sample: Sample, rng: random.Random) -> bytes:
    date = export_time(sample.instant(), rng.choice(OFFSETS_MIN))
    values, metrics = sample.values, []

    def add(name: str, units: str, item: dict[str, Any]) -> None:
        metrics.append({"name": name, "units": units, "data": [{"date": date, **item, "source": "Watch"}]})

    if "heart_rate" in values:
        rate = round(values["heart_rate"])
        add("heart_rate", "count/min", {"Min": rate - rng.randint(0, 5), "Avg": rate, "Max": rate + rng.randint(0, 5)})
    if "bp_sys" in values and "bp_dia" in values:
        pressures = {"systolic": round(values["bp_sys"]), "diastolic": round(values["bp_dia"])}
        add("blood_pressure", "mmHg", pressures)
    for key, (name, units) in _METRICS.items():
        if key in values:
            unit, ucum, decimals = rng.choice(units)
            meal = {"mealTime": "Unspecified"} if key == "glucose" and rng.random() < 0.5 else {}
            add(name, unit, {"qty": number(key, values[key], ucum, decimals), **meal})
    return _bytes({"data": {"metrics": metrics, "workouts": []}})


def _ihealth(name: str, unit: Mapping[str, int], record: dict[str, Any], sample: Sample, offset_min: int) -> bytes:
    """A page of one record: ``MDate`` counts local wall time, ``LastChangeTime`` is UTC (5.9)."""
    full: dict[str, Any] = {
        "DataID": identifier(sample, name).replace("-", ""),
        "DataSource": "FromDevice",
        "MDate": sample.seconds() + offset_min * 60,
        "TimeZone": signed_offset(offset_min),
        "LastChangeTime": sample.seconds() + 7,
        "Lat": -1,
        "Lon": -1,
        "Note": "",
    }
    page = {"CurrentRecordCount": 1, "NextPageUrl": "", "PageLength": 50, "PageNumber": 1, "PrevPageUrl": ""}
    return _bytes({name: [full | record], **unit, **page, "RecordCount": 1})


def _ihealth_pressure(sample: Sample, rng: random.Random) -> bytes:
    kilopascal = rng.random() < 0.3
    unit, decimals = ("kPa", 1) if kilopascal else ("mm[Hg]", 0)
    values = sample.values
    record = {
        "BPL": rng.randint(0, 3),
        "HP": number("bp_sys", values["bp_sys"], unit, decimals),
        "LP": number("bp_dia", values["bp_dia"], unit, decimals),
        "HR": round(values["pulse_rate_nibp"]) if "pulse_rate_nibp" in values else 0,
        "IsArr": rng.choice((-1, 1)),
    }
    return _ihealth("BPDataList", {"BPUnit": int(kilopascal)}, record, sample, rng.choice(OFFSETS_MIN))


def _ihealth_glucose(sample: Sample, rng: random.Random) -> bytes:
    molar = rng.random() < 0.5
    value = sample.values["glucose_bg"]
    record = {
        "BG": number("glucose_bg", value, "mmol/L", 1) if molar else number("glucose_bg", value, "mg/dL", 0),
        "DinnerSituation": rng.choice(("Before_breakfast", "After_breakfast")),
        "DrugSituation": rng.choice(("Before_taking_pills", "After_taking_pills")),
    }
    return _ihealth("BGDataList", {"BGUnit": int(molar)}, record, sample, rng.choice(OFFSETS_MIN))


def _ihealth_saturation(sample: Sample, rng: random.Random) -> bytes:
    pulse = sample.values.get("pulse_rate")
    record = {"BO": round(sample.values["spo2"]), "HR": 0 if pulse is None else round(pulse)}
    return _ihealth("BODataList", {}, record, sample, rng.choice(OFFSETS_MIN))


def _ihealth_weight(sample: Sample, rng: random.Random) -> bytes:
    code, unit, decimals = rng.choice(((0, "kg", 2), (1, "[lb_av]", 1), (2, "[stone_av]", 3)))
    bmi = sample.values.get("bmi")
    record = {
        "WeightValue": number("weight", sample.values["weight"], unit, decimals),
        "BMI": 0 if bmi is None else round(bmi, 2),
        "FatValue": rng.choice((0, 22)), "BoneValue": 0, "WaterValue": 0, "MuscaleValue": 0, "DCI": 0,
    }  # fmt: skip
    return _ihealth("WeightDataList", {"WeightUnit": code}, record, sample, rng.choice(OFFSETS_MIN))


_PRESSURE: Final = {"bp_sys": 0.5, "bp_dia": 0.5}
_EXPORTED: Final = _PRESSURE | {
    "heart_rate": 0.5, "spo2": 0.5, "resp_rate": 0.05, "temp": 0.03, "weight": 0.023, "glucose": 0.91,
}  # fmt: skip
_MEASURES: Final = _PRESSURE | {
    "weight": 0.0005, "height": 0.05, "body_fat": 0.05, "pulse_rate_nibp": 0.5, "spo2": 0.5, "temp": 0.05,
}  # fmt: skip

VENDORS: Final = (
    Format("ihealth", "bp", "pressure page", {"bp_sys": 0.51, "bp_dia": 0.51, "pulse_rate_nibp": 0.5},
           _ihealth_pressure),
    Format("ihealth", "glucose", "glucose page", {"glucose_bg": 0.91}, _ihealth_glucose),
    Format("ihealth", "spo2", "oximeter page", {"spo2": 0.5, "pulse_rate": 0.5}, _ihealth_saturation),
    Format("ihealth", "weight", "weight page", {"weight": 0.023, "bmi": 0.005}, _ihealth_weight),
    Format("withings", "getmeas", "measures", _MEASURES, _withings),
    Format("nightscout", "entries", "sensor and meter entries", {"glucose_isf": 0.5, "glucose_bg": 0.5}, _nightscout,
           time_step_s=0.001, period_s=300.0),
    Format("dexcom", "egvs", "estimated glucose", {"glucose_isf": 0.91}, _dexcom, period_s=300.0),
    Format("fitbit", "heart", "intraday heart rate", {"heart_rate": 0.5}, _fitbit_heart, CarriedTime.WALL,
           period_s=60.0),
    Format("fitbit", "spo2", "saturation asleep", {"spo2": 0.05}, _fitbit_spo2, CarriedTime.WALL, period_s=300.0),
    Format("health_auto_export", "metrics", "metrics of a phone", _EXPORTED, _health_auto_export),
)  # fmt: skip
