"""Devices: what they send follows from patient, schedule and clock, and says what the patient's signal says."""

# ruff: noqa: DTZ001 - wall times have no zone
import json
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from simulators import fleet
from simulators.devices import CLARITY, Schedule, SimulatedClock, Timeline, json_encoder
from simulators.patients import ISF_LAG_NS, Condition, Episode, EpisodeKind, SyntheticPatient
from vitals.catalog import BY_KEY
from vitals.times import HOUR_NS, MINUTE_NS

SECOND = 1_000_000_000
START = 1_700_006_400 * SECOND
WALL = datetime(2023, 11, 15)
DIABETIC = SyntheticPatient(7, Condition.DIABETES)


def test_a_clock_is_off_drifts_and_falls_back() -> None:
    assert SimulatedClock().wall(START) == WALL
    assert SimulatedClock(60, 30.0).wall(START) == WALL + timedelta(hours=1, seconds=30)
    assert SimulatedClock(60).instant(START) == WALL.replace(tzinfo=UTC)
    assert SimulatedClock(60, 30.0).instant(START) == WALL.replace(tzinfo=UTC) + timedelta(seconds=30)
    drifting = SimulatedClock(drift_ppm=100, set_ns=START)
    assert drifting.wall(START) == WALL
    assert drifting.wall(START + 10_000 * SECOND) == WALL + timedelta(seconds=10_001)
    reset = SimulatedClock(resets=((START, datetime(2000, 1, 1)), (START + HOUR_NS, datetime(2009, 1, 1))))
    assert reset.wall(START - SECOND) == WALL - timedelta(seconds=1)
    assert reset.wall(START + 5 * SECOND) == datetime(2000, 1, 1, 0, 0, 5)
    assert reset.wall(START + HOUR_NS) == datetime(2009, 1, 1)


def test_a_schedule_is_the_same_however_it_is_cut() -> None:
    schedule = Schedule(START, 300.0, 120.0)
    ordinals, times = schedule.measured(START, START + 24 * HOUR_NS, 3)
    assert len(ordinals) in (287, 288)
    assert np.all(times - START - ordinals * 300 * SECOND < 120 * SECOND)
    assert len(np.unique((times - START) % (300 * SECOND))) > 100
    pieces = [schedule.measured(START + hour * HOUR_NS, START + (hour + 1) * HOUR_NS, 3)[1] for hour in range(24)]
    np.testing.assert_array_equal(np.concatenate(pieces), times)
    assert not np.array_equal(schedule.measured(START, START + HOUR_NS, 4)[1], pieces[0])


def test_nothing_is_measured_before_the_first_time() -> None:
    schedule = Schedule(START, 60.0)
    assert len(schedule.measured(START - HOUR_NS, START, 0)[0]) == 0
    ordinals, times = schedule.measured(START - HOUR_NS, START + 2 * MINUTE_NS, 0)
    assert ordinals.tolist() == [0, 1]
    assert times.tolist() == [START, START + MINUTE_NS]


@pytest.mark.parametrize(("period_s", "jitter_s"), [(0.0, 0.0), (-1.0, 0.0), (10.0, 10.0), (10.0, -1.0)])
def test_impossible_schedules_are_refused(period_s: float, jitter_s: float) -> None:
    with pytest.raises(ValueError, match="schedule"):
        Schedule(START, period_s, jitter_s)


def test_a_glucometer_resends_its_memory_byte_for_byte() -> None:
    meter = fleet.glucometer("m1", "s", DIABETIC, START)
    day = meter.emit(START, START + 25 * HOUR_NS)
    syncs = sorted({due for due, _ in day})
    assert syncs == [START + 12 * HOUR_NS, START + 24 * HOUR_NS]
    first = [payload for due, payload in day if due == syncs[0]]
    second = [payload for due, payload in day if due == syncs[1]]
    assert len(first) == 3
    assert len(second) == 6
    assert second[:3] == first
    assert [struct.unpack_from("<H", payload, 1)[0] for payload in second] == list(range(6))
    assert day == [*meter.emit(START, syncs[1]), *meter.emit(syncs[1], START + 25 * HOUR_NS)]


def test_a_full_memory_forgets_the_oldest_and_an_honest_meter_sends_news_only() -> None:
    small = fleet.glucometer("m1", "s", DIABETIC, START)
    small = fleet.SimulatedDevice(
        "m1", "s", small.adapter, small.kind, DIABETIC, Schedule(START, 3600.0, 0.0, 8 * 3600.0, True, memory=5),
        small.encoder,
    )  # fmt: skip
    by_sync: dict[int, list[int]] = {}
    for due, payload in small.emit(START, START + 17 * HOUR_NS):
        by_sync.setdefault((due - START) // HOUR_NS, []).append(struct.unpack_from("<H", payload, 1)[0])
    assert by_sync == {8: [3, 4, 5, 6, 7], 16: [11, 12, 13, 14, 15]}
    news = fleet.glucometer("m1", "s", DIABETIC, START, resync=False)
    assert len(news.emit(START, START + 25 * HOUR_NS)) == 6


def test_a_meter_writes_the_patients_glucose_in_its_own_time() -> None:
    clock = SimulatedClock(utc_offset_min=-300, offset_s=90)
    meter = fleet.glucometer("m1", "s", DIABETIC, START, clock=clock, sync_s=None, period_s=3600.0)
    samples = meter.samples(START, START + 48 * HOUR_NS)
    sent = meter.emit(START, START + 48 * HOUR_NS)
    assert len(sent) == len(samples) == 48
    for sample, (due, payload) in zip(samples, sent, strict=True):
        year, month, day, hour, minute, second = struct.unpack_from("<H5B", payload, 3)
        wall = clock.wall(sample.at_ns).replace(microsecond=0)
        assert (due, datetime(year, month, day, hour, minute, second)) == (sample.at_ns, wall)
        word = struct.unpack_from("<H", payload, 10)[0]
        mg_dl = Decimal(word & 0x7FF).scaleb((word >> 12) - 16 + 5)
        assert mg_dl == sample.values[0] * 100_000
        truth = DIABETIC.signal("glucose_bg", np.array([sample.at_ns]))[0]
        assert abs(float(mg_dl) - truth) < 16


def test_an_oximeter_and_a_strap_send_once_a_second() -> None:
    patient = SyntheticPatient(1, Condition.COPD)
    episode = Episode(EpisodeKind.DESATURATION, START, START + 10 * MINUTE_NS, 82.0)
    low = SyntheticPatient(1, Condition.COPD, episodes=(episode,))
    for product, length in ((fleet.oximeter, 5), (fleet.heart_rate_strap, 4)):
        sent = product("d1", "s", patient, START).emit(START + SECOND // 2, START + 60 * SECOND + SECOND // 2)
        assert [due for due, _ in sent] == [START + second * SECOND for second in range(1, 61)]
        assert {len(payload) for _, payload in sent} == {length}
    inside = START + 5 * MINUTE_NS
    (_, payload), *_ = fleet.oximeter("d1", "s", low, START).emit(inside, inside + SECOND)
    assert abs(struct.unpack_from("<H", payload, 1)[0] - 82) <= 1


def test_a_spot_oximeter_carries_its_wall_time_and_never_more_than_full_saturation() -> None:
    device = fleet.spot_oximeter("d1", "s", SyntheticPatient(1, Condition.HEALTHY), START, period_s=600.0)
    sent = device.emit(START, START + 24 * HOUR_NS)
    assert len(sent) in (143, 144)
    assert all(payload[0] == 0b1 and len(payload) == 12 for _, payload in sent)
    assert max(sample.values[0] for sample in device.samples(START, START + 24 * HOUR_NS)) <= 100


def test_a_cgm_writes_a_row_each_five_minutes_or_an_hour_at_once() -> None:
    single = fleet.cgm("c1", "s", DIABETIC, START).emit(START, START + HOUR_NS)
    assert len(single) == 12
    lines = [payload.decode().splitlines() for _, payload in single]
    assert all(len(pair) == 2 for pair in lines)
    assert [pair[1].split(",")[1] for pair in lines[:2]] == ["2023-11-15T00:00:00", "2023-11-15T00:05:00"]
    (batch,) = fleet.cgm("c1", "s", DIABETIC, START, sync_s=3600.0).emit(START, START + HOUR_NS + SECOND)
    assert batch[1].decode().splitlines()[1:] == [pair[1] for pair in lines]
    assert single[0][1].decode().splitlines()[0] == batch[1].decode().splitlines()[0]


@pytest.mark.parametrize(("target", "word"), [(35.0, "Low"), (420.0, "High")])
def test_a_cgm_beyond_its_range_says_a_word(target: float, word: str) -> None:
    episode = Episode(EpisodeKind.HYPO, START, START + 2 * HOUR_NS, target)
    patient = SyntheticPatient(7, Condition.DIABETES, episodes=(episode,))
    at = START + HOUR_NS + ISF_LAG_NS
    ((_, payload),) = fleet.cgm("c1", "s", patient, at).emit(at, at + SECOND)
    assert payload.decode().splitlines()[1].split(",")[7] == word


def test_a_json_device_names_units_of_the_catalogue() -> None:
    device = fleet.json_device("j1", "s", SyntheticPatient(2, Condition.POST_SURGICAL), START, clock=SimulatedClock(60))
    ((due, payload),) = device.emit(START, START + SECOND)
    readings = json.loads(payload)
    assert due == START
    assert [reading["vital"] for reading in readings] == ["bp_sys", "bp_dia", "temp", "weight", "resp_rate"]
    for reading in readings:
        assert reading["time"] == "2023-11-15T00:00:00+00:00"
        assert reading["seq"] == 0
        low, high = BY_KEY[reading["vital"]].implausible
        assert low < reading["value"] < high


def test_another_unit_is_the_same_body() -> None:
    encoder = json_encoder((("temp", "[degF]", 2, 0.0), ("glucose_bg", "mmol/L", 3, 0.0)), epoch_ms=True)
    device = fleet.json_device("j1", "s", DIABETIC, START, encoder=encoder)
    ((_, payload),) = device.emit(START, START + SECOND)
    fahrenheit, mmol = json.loads(payload)
    at = np.array([START])
    assert fahrenheit["value"] == pytest.approx(DIABETIC.signal("temp", at)[0] * 1.8 + 32, abs=0.006)
    assert mmol["value"] == pytest.approx(DIABETIC.signal("glucose_bg", at)[0] / 18.0182, abs=0.0006)
    assert mmol["time"] == START // 1_000_000


def test_compressed_time_shows_the_body_later() -> None:
    device = fleet.cgm("c1", "s", DIABETIC, START)
    quick = fleet.SimulatedDevice(
        "c1", "s", device.adapter, device.kind, DIABETIC, device.schedule.faster(60), CLARITY, seed=device.seed
    )
    slow_rows = [payload.decode().split(",")[-5] for _, payload in device.emit(START, START + 6 * HOUR_NS)]
    sent = quick.emit(START, START + 6 * MINUTE_NS, Timeline(START, 60.0))
    assert [payload.decode().split(",")[-5] for _, payload in sent] == slow_rows
    assert [due for due, _ in sent][:2] == [START, START + 5 * SECOND]
    assert sent[1][1].decode().splitlines()[1].split(",")[1] == "2023-11-15T00:00:05"


def test_every_condition_has_a_kit_that_emits() -> None:
    assert set(fleet.KITS) == set(Condition)
    for condition, kit in fleet.KITS.items():
        for number, product in enumerate(kit):
            device = product(f"d{number}", "s", SyntheticPatient(1, condition), START, seed=number)
            assert device.emit(START, START + 13 * HOUR_NS if device.kind == "2a18" else START + HOUR_NS)
