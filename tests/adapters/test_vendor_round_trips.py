"""Readings written as each vendor writes them (device-formats.md 5) come back as they were."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.adapter import SourceClock
from tests.adapters.decoding import decode, reading_rows
from vitals.glossary import Statistic

SECOND_NS = 1_000_000_000
FIRST_S = 1_400_000_000
SECONDS = st.integers(FIRST_S, FIRST_S + 400_000_000)
OFFSETS_MIN = st.sampled_from([-720, -480, -210, 0, 60, 330, 345, 840])
several = settings(derandomize=True, max_examples=60, deadline=None)


def wall(epoch_s: int, offset_min: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, timezone(timedelta(minutes=offset_min)))


def offset_text(offset_min: int, colon: str) -> str:
    sign, minutes = ("-" if offset_min < 0 else "+"), abs(offset_min)
    return f"{sign}{minutes // 60:02}{colon}{minutes % 60:02}"


def columns(adapter: str, document: Any, kind: str, **configured: str) -> list[tuple[Any, ...]]:
    """(nanoseconds, offset, value) of each reading, and no rejects."""
    decoded = decode(adapter, json.dumps(document).encode(), kind, **configured)
    assert not decoded.rejects
    batch = decoded.batch
    return list(zip(batch.source_time_ns.tolist(), batch.tz_min.tolist(), batch.value.tolist(), strict=True))


@several
@given(st.lists(st.tuples(SECONDS, OFFSETS_MIN, st.integers(40, 400)), max_size=8), st.booleans(), st.booleans())
def test_dexcom(readings: list[tuple[int, int, int]], is_app: bool, is_mmol: bool) -> None:
    records = []
    for number, (epoch_s, offset_min, value) in enumerate(readings):
        offset = offset_text(offset_min, ":") if is_app else ""
        # The zone of a receiver is inferred to half hours: 345 minutes would be 330 or 360 and drift.
        shown = wall(epoch_s, offset_min).strftime("%Y-%m-%dT%H:%M:%S") + offset
        records.append({
            "recordId": f"r-{number}", "systemTime": wall(epoch_s, 0).strftime("%Y-%m-%dT%H:%M:%S") + "Z" * is_app,
            "displayTime": shown, "value": value / 18 if is_mmol else value, "unit": "mmol/L" if is_mmol else "mg/dL",
        })  # fmt: skip
    found = columns("dexcom", {"recordType": "egv", "records": records}, "egvs")
    expected = [(s * SECOND_NS, o, v / 18 if is_mmol else float(v)) for s, o, v in readings]
    if is_app:
        assert found == expected
    else:
        assert [(time, value) for time, _, value in found] == [(time, value) for time, _, value in expected]
        assert all(abs(got[1] - sent[1]) <= 15 for got, sent in zip(found, expected, strict=True))


@several
@given(st.lists(st.tuples(SECONDS, OFFSETS_MIN, st.integers(40, 400)), max_size=8), st.booleans())
def test_nightscout(readings: list[tuple[int, int, int]], is_stored: bool) -> None:
    entries = []
    for epoch_s, offset_min, value in readings:
        local = wall(epoch_s, offset_min).isoformat()
        stored = {"sysTime": wall(epoch_s, 0).strftime("%Y-%m-%dT%H:%M:%S.000Z"), "utcOffset": offset_min}
        entries.append({"type": "sgv", "sgv": value, "date": epoch_s * 1_000, "dateString": local,
                        **(stored if is_stored else {})})  # fmt: skip
    assert columns("nightscout", entries, "entries") == [(s * SECOND_NS, o, float(v)) for s, o, v in readings]


@several
@given(st.lists(st.tuples(SECONDS, st.integers(1, 10**7), st.integers(-6, 3)), max_size=8))
def test_withings(readings: list[tuple[int, int, int]]) -> None:
    groups = [
        {"grpid": number, "attrib": 0, "date": epoch_s, "category": 1,
         "measures": [{"value": value, "type": 1, "unit": exponent}]}
        for number, (epoch_s, value, exponent) in enumerate(readings)
    ]  # fmt: skip
    decoded = decode("withings", json.dumps({"status": 0, "body": {"measuregrps": groups}}).encode())
    assert decoded.batch.source_time_ns.tolist() == [epoch_s * SECOND_NS for epoch_s, _, _ in readings]
    # The float nearest to the decimal number, as if it had been written out.
    assert decoded.batch.value.tolist() == [float(f"{value}e{exponent}") for _, value, exponent in readings]
    assert decoded.batch.seq.tolist() == list(range(len(readings)))


@several
@given(SECONDS, st.lists(st.integers(0, 1439), unique=True, max_size=20), st.booleans())
def test_fitbit(epoch_s: int, minutes: list[int], is_utc: bool) -> None:
    day = datetime.fromtimestamp(epoch_s, UTC).replace(hour=0, minute=0, second=0)
    dataset = [{"time": f"{minute // 60:02}:{minute % 60:02}:00", "value": 60 + minute % 60} for minute in minutes]
    document = {
        "activities-heart": [{"dateTime": day.date().isoformat(), "value": {}}],
        "activities-heart-intraday": {"dataset": dataset, "datasetInterval": 1, "datasetType": "minute"},
    }
    decoded = decode("fitbit", json.dumps(document).encode(), "heart", times="utc" if is_utc else "local")
    midnight_ns = round(day.timestamp()) * SECOND_NS
    assert decoded.batch.source_time_ns.tolist() == [midnight_ns + minute * 60 * SECOND_NS for minute in minutes]
    assert decoded.batch.value.tolist() == [60.0 + minute % 60 for minute in minutes]
    assert set(decoded.batch.clock.tolist()) <= {SourceClock.INSTANT if is_utc else SourceClock.WALL}


@several
@given(st.lists(st.tuples(SECONDS, OFFSETS_MIN, st.integers(1, 100)), max_size=8), st.booleans())
def test_ihealth(readings: list[tuple[int, int, int]], is_text: bool) -> None:
    records = [
        {"DataID": f"r-{number}", "MDate": epoch_s + offset_min * 60, "LastChangeTime": epoch_s + 7, "BO": value,
         "HR": 0, "TimeZone": offset_text(offset_min, "") if is_text else offset_min / 60, "DataSource": "FromDevice"}
        for number, (epoch_s, offset_min, value) in enumerate(readings)
    ]  # fmt: skip
    found = columns("ihealth", {"BODataList": records, "RecordCount": 5}, "spo2")
    assert found == [(s * SECOND_NS, o, float(v)) for s, o, v in readings]


@several
@given(st.lists(st.tuples(SECONDS, OFFSETS_MIN, st.integers(30, 200)), max_size=8))
def test_health_auto_export(readings: list[tuple[int, int, int]]) -> None:
    items = [
        {"date": wall(epoch_s, offset_min).strftime("%Y-%m-%d %H:%M:%S ") + offset_text(offset_min, ""),
         "Min": value - 1, "Avg": value, "Max": value + 1}
        for epoch_s, offset_min, value in readings
    ]  # fmt: skip
    document = {"data": {"metrics": [{"name": "heart_rate", "units": "count/min", "data": items}]}}
    decoded = decode("health_auto_export", json.dumps(document).encode())
    for statistic, shift in ((Statistic.MEAN, 0), (Statistic.MINIMUM, -1), (Statistic.MAXIMUM, 1)):
        rows = [
            row for row, shown in enumerate(reading_rows(decoded.batch)) if shown["statistic"] == statistic.name.lower()
        ]
        found = [
            (decoded.batch.source_time_ns[row], decoded.batch.tz_min[row], decoded.batch.value[row]) for row in rows
        ]
        assert found == [(s * SECOND_NS, o, v + shift) for s, o, v in readings]
    identities = {(row["source_time"], row["seq"]) for row in reading_rows(decoded.batch)}
    assert len(identities) == 3 * len({epoch_s for epoch_s, _, _ in readings})
