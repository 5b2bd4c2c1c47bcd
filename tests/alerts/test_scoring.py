"""Scored patients in the engine: inputs through readings and ticks, when each is due, and what scores become."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.judging.scoring import DEVICE, ScoreContext, Scored, ScoreTable, is_scores, rule_rows, score_rows
from alerts.judging.slots import rows_of
from alerts.rules.spec import CompiledScore
from alerts.scores.news2 import Latest, Programme, news2_of_one
from alerts.scores.tables import AgeBand, Parameter, Pregnancy
from tests.alerts.news2_world import WELL, points_by_hand, table
from vitals.catalog import BY_CODE, BY_KEY
from vitals.encoding import decode, encode
from vitals.glossary import NOT_SCORED, Basis, Flag, Mode, Statistic
from vitals.model import VitalBatch, batch_from_rows
from vitals.times import MINUTE_NS

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND
KEYS = ("resp_rate", "spo2", "o2_flow", "fio2", "bp_sys", "heart_rate", "pulse_rate", "acvpu", "temp")
SPOT = CompiledScore(tuple((key, False) for key in KEYS), False, False)
WORN = CompiledScore(
    tuple((key, key in {"resp_rate", "spo2", "pulse_rate", "heart_rate"}) for key in KEYS), False, False
)
HOME = CompiledScore(tuple((key, False) for key in ("resp_rate", "spo2", "bp_sys", "pulse_rate", "temp")), True, True)
ADULT = ScoreContext(AgeBand.ADULT, Pregnancy.NO, 1, 0)
VECTORS = table("2.4")
CASES = json.loads((ROOT / "tests/fixtures/news2/cases.json").read_text(encoding="utf-8"))["cases"]


def row(patient: str, key: str, time_ns: int, value: float, flags: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "device": "d", "patient": patient, "vital": BY_KEY[key].code, "time_ns": time_ns, "value": value,
        "flags": flags, "received_ns": time_ns + SECOND, "basis": Basis.DEVICE,
    } | changes  # fmt: skip


class Ward:
    """A score table; times are seconds from the start."""

    def __init__(self, rule: CompiledScore | None = SPOT, context: ScoreContext = ADULT, *patients: str) -> None:
        self.table = ScoreTable()
        for patient in patients or ("p_1",):
            self.table.expect(patient, rule, context)

    def take(self, *rows: dict[str, Any]) -> None:
        batch = batch_from_rows(rows)
        self.table.observe(batch.patients, rows_of(batch))

    def read(self, seconds: float, patient: str = "p_1", *, flags: int = 0, **values: float) -> None:
        self.take(*(row(patient, key, T0 + int(seconds * SECOND), value, flags) for key, value in values.items()))

    def tick(self, seconds: float) -> Scored:
        return self.table.tick(T0 + int(seconds * SECOND))


def ends(scored: Scored) -> list[tuple[int, int]]:
    return list(zip(scored.low.tolist(), scored.high.tolist(), strict=True))


def stored(scored: Scored) -> list[tuple[str, str, float]]:
    batch = score_rows(scored)
    columns = zip(batch.patient.tolist(), batch.vital.tolist(), batch.value.tolist(), strict=True)
    return [(batch.patients[patient], BY_CODE[vital].key, value) for patient, vital, value in columns]


def judged(scored: Scored) -> list[tuple[str, str, float, bool]]:
    rows = rule_rows(scored)
    columns = (column.tolist() for column in (rows.patient, rows.vital, rows.value, rows.flags))
    return [
        (scored.patients[patient], BY_CODE[vital].key, value, flags == Flag.ESTIMATED)
        for patient, vital, value, flags in zip(*columns, strict=True)
    ]


def vector(cells: Sequence[str]) -> tuple[dict[str, float], int]:
    rate, spo2, scale, oxygen, systolic, pulse, level, temp = cells[1:9]
    values = {
        "resp_rate": float(rate), "spo2": float(spo2), "o2_flow": 3.0 * int(oxygen), "bp_sys": float(systolic),
        "heart_rate": float(pulse), "acvpu": float(BY_KEY["acvpu"].values.index(level)), "temp": float(temp),
    }  # fmt: skip
    return values, int(scale)


@pytest.mark.parametrize("cells", VECTORS, ids=[cells[0] for cells in VECTORS])
def test_a_vector_of_the_page(cells: list[str]) -> None:
    values, scale = vector(cells)
    ward = Ward(SPOT, ADULT._replace(spo2_scale=scale))
    ward.read(0, **values)
    scored = ward.tick(10)
    total, red = int(cells[10]), cells[9].split().count("3")
    assert scored.complete.tolist() == [True]
    assert stored(scored) == [("p_1", "news2", total), ("p_1", "news2_red", red)]
    assert judged(scored) == [("p_1", "news2", total, False), ("p_1", "news2_red", red, False)]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_published_case(case: Mapping[str, Any]) -> None:
    found, expected = case["input"], case["expected"]
    values = {key: found[key] for key in ("resp_rate", "spo2", "bp_sys", "temp")}
    values |= {"fio2": 28.0 if found["oxygen"] else 21.0, "pulse_rate": found["pulse"]}
    values["acvpu"] = BY_KEY["acvpu"].values.index(found["acvpu"])
    ward = Ward(SPOT, ADULT._replace(spo2_scale=found["spo2_scale"]))
    ward.read(0, **values)
    scored = ward.tick(1)
    assert ends(scored) == [(expected["total"], expected["total"])]
    assert bool(scored.red[0]) is expected["any_three"]


def test_a_partial_score_is_stored_as_two_ends_and_judged_by_its_floor() -> None:
    ward = Ward(SPOT, ADULT, "p_1", "p_9")
    ill, _ = vector(VECTORS[8])
    well, _ = vector(VECTORS[0])
    ward.read(0, "p_9", **{key: value for key, value in ill.items() if key != "temp"})
    ward.read(0, "p_1", **{key: value for key, value in well.items() if key not in {"bp_sys", "temp"}})
    scored = ward.tick(10)
    assert stored(scored) == [
        ("p_1", "news2_min", 0), ("p_1", "news2_max", 6), ("p_1", "news2_red", 0),
        ("p_9", "news2_min", 17), ("p_9", "news2_max", 20), ("p_9", "news2_red", 5),
    ]  # fmt: skip
    assert judged(scored) == [
        ("p_1", "news2", 0, True), ("p_1", "news2_red", 0, True),
        ("p_9", "news2", 17, True), ("p_9", "news2_red", 5, True),
    ]  # fmt: skip
    context = score_rows(scored).context
    lacking = [["bp_sys", "temp"]] * 3 + [["temp"]] * 3
    assert [context[place] for place in range(6)] == [{"assumed": [], "missing": missing} for missing in lacking]
    assert ward.table.explain("p_9").startswith("NEWS2 17 to 20, high risk")
    assert "still to measure: systolic blood pressure and temperature" in ward.table.explain("p_1")


def test_a_stored_score_is_a_reading_of_its_own_device() -> None:
    ward = Ward(HOME, ADULT, "p_0", "p_1")
    ward.read(0, "p_1", **{key: WELL[key] for key, _ in HOME.measures})
    batch = decode(encode(score_rows(ward.tick(10))))
    assert isinstance(batch, VitalBatch)
    assert is_scores(batch)
    assert (batch.devices, [batch.patients[number] for number in batch.patient]) == ((DEVICE,), ["p_1", "p_1"])
    at = T0 + 10 * SECOND
    expected = {
        "source_time_ns": at, "time_ns": at, "received_ns": at, "basis": Basis.RECEIVED, "message": -1, "flags": 0,
        "statistic": Statistic.SINGLE, "seq": 1, "tz_min": 0,
    }  # fmt: skip
    assert {name: set(getattr(batch, name).tolist()) for name in expected} == {k: {v} for k, v in expected.items()}
    assert batch.value.tolist() == batch.reported.tolist() == [0.0, 0.0]
    assert batch.context == {0: {"assumed": ["oxygen", "acvpu"], "missing": []}, 1: batch.context[0]}


def test_rows_for_rules_are_like_those_of_a_batch() -> None:
    ward = Ward()
    ward.read(0, **WELL)
    made, read = rule_rows(ward.tick(1)), rows_of(batch_from_rows([row("p_1", "temp", T0, 37.0)]))
    for one, other in zip(made, read, strict=True):
        assert (one.dtype, one.flags.c_contiguous, one.flags.writeable) == (other.dtype, True, False)
        assert len(one) == 2


def test_scores_do_not_feed_scores() -> None:
    ward = Ward()
    ward.read(0, **WELL)
    batch = score_rows(ward.tick(1))
    before = msgspec.msgpack.encode(ward.table.dump())
    ward.table.observe(batch.patients, rows_of(batch))
    assert msgspec.msgpack.encode(ward.table.dump()) == before


def test_one_evaluation_a_minute_at_the_tick_after_the_reading() -> None:
    ward = Ward()
    assert len(ward.tick(0)) == 0
    ward.read(1, **WELL)
    assert ends(ward.tick(2)) == [(0, 0)]
    ward.read(3, temp=39.5)
    said = [(second, ends(scored)) for second in range(3, 200) if len(scored := ward.tick(second))]
    assert said == [(62, [(2, 2)])], "then nothing new, nothing said"


def test_validity_running_out_turns_complete_into_partial() -> None:
    ward = Ward()
    ward.read(0, **WELL)
    ward.read(6 * 3600, **{key: value for key, value in WELL.items() if key != "temp"})
    ward.tick(6 * 3600)
    said = [(second, ends(found)) for second in range(12 * 3600 - 60, 12 * 3600 + 60)
            if len(found := ward.tick(second))]  # fmt: skip
    assert said == [(12 * 3600 + 1, [(0, 3)])]
    assert ward.tick(18 * 3600 + 1).missing.tolist() == [127 - (1 << Parameter.OXYGEN)], "oxygen counts for a day"


def test_oxygen_is_carried_and_never_assumed_away() -> None:
    ward = Ward(HOME)
    at_home = {key: WELL[key] for key, _ in HOME.measures}
    ward.read(0, o2_flow=2, **at_home)
    assert ends(ward.tick(1)) == [(2, 2)]
    ward.read(20 * 3600, **at_home)
    assert ends(ward.tick(20 * 3600)) == [(2, 2)]
    assert ends(ward.tick(24 * 3600 + 1)) == [(0, 2)], "older than a day: not known, and not assumed to be air"
    ward.read(24 * 3600 + 30, fio2=21)
    assert ends(ward.tick(24 * 3600 + 90)) == [(0, 0)]


def test_what_changes_to_air_does_so_at_once() -> None:
    ward = Ward(CompiledScore(tuple((key, True) for key in KEYS), False, False))
    for second in range(0, 300, 5):
        ward.read(second, o2_flow=2, acvpu=3)
    ward.read(300, **WELL)
    assert ends(ward.tick(300)) == [(0, 0)], "states count by their newest word, not by a median"


_CONTEXTS: tuple[tuple[dict[str, int], int], ...] = (
    ({}, 6), ({"spo2_scale": 2}, 3), ({"spo2_scale": 2, "usual_confusion": 1}, 0),
)  # fmt: skip


def test_a_declared_context_decides() -> None:
    ward = Ward(SPOT, ScoreContext(AgeBand.UNKNOWN, 0, 0, 0))
    ward.read(0, **{**WELL, "spo2": 90, "acvpu": 1})
    scored = ward.tick(1)
    assert (len(scored), stored(scored), judged(scored)) == (1, [], []), "refused"
    assert ward.table.explain("p_1") == "NEWS2 does not apply: the age band is not recorded"
    for minute, (changes, total) in enumerate(_CONTEXTS, 1):
        for _ in range(2):
            ward.table.expect("p_1", SPOT, ADULT._replace(**changes))
        assert ends(ward.tick(60 * minute + 1)) == [(total, total)], changes
    ward.table.expect("p_1", SPOT, ADULT._replace(pregnancy=Pregnancy.YES))
    assert stored(ward.tick(301)) == []
    ward.table.expect("p_1", SPOT, ADULT._replace(pregnancy=Pregnancy.YES))
    assert len(ward.tick(361)) == 0, "the same again is nothing new"


def test_a_hidden_score_is_a_floor_for_rules_and_stored_nowhere() -> None:
    ward = Ward(CompiledScore((("spo2", False), ("pulse_rate", False)), True, True))
    ward.read(0, spo2=85, pulse_rate=135)
    scored = ward.tick(1)
    assert stored(scored) == []
    assert judged(scored) == [("p_1", "news2", 6, True), ("p_1", "news2_red", 2, True)]


@pytest.mark.parametrize("changes", [
    *({"flags": int(flag)} for flag in NOT_SCORED if flag is not Flag.RETRACTED),
    {"basis": Basis.DAY}, {"basis": Basis.UNKNOWN}, {"statistic": Statistic.MEAN}, {"value": float("nan")},
    {"received_ns": T0 - 6 * MINUTE_NS}, {"patient": "p_2"},
])  # fmt: skip
def test_what_is_not_current_does_not_count(changes: dict[str, Any]) -> None:
    ward = Ward()
    ward.read(-10, **WELL)
    ward.tick(0)
    before = msgspec.msgpack.encode(ward.table.dump())
    ward.take(row("p_1", "spo2", T0, 80.0) | changes)
    assert msgspec.msgpack.encode(ward.table.dump()) == before


@pytest.mark.parametrize(("key", "value", "flags"), [
    ("acvpu", 5, 0), ("acvpu", -1, 0), ("acvpu", 0.5, 0), ("acvpu", float("nan"), Flag.ABOVE_RANGE),
    ("o2_flow", 0, Flag.BELOW_RANGE),
])  # fmt: skip
def test_what_no_points_stand_for_does_not_count(key: str, value: float, flags: int) -> None:
    ward = Ward()
    ward.read(0, flags=int(flags), **{key: value})
    assert len(ward.tick(1)) == 0


def test_an_older_reading_never_replaces_a_newer() -> None:
    ward = Ward()
    ward.read(0, **WELL)
    ward.read(-60, temp=34)
    assert ends(ward.tick(1)) == [(0, 0)]
    ward.read(0, temp=39.5)
    assert ends(ward.tick(61)) == [(2, 2)], "of equal times the later word"


def test_a_value_beyond_the_sensor_takes_the_points_of_its_side() -> None:
    ward = Ward()
    ward.read(0, **{key: value for key, value in WELL.items() if key != "spo2"})
    ward.take(row("p_1", "spo2", T0, float("nan"), int(Flag.BELOW_RANGE)))
    assert ends(ward.tick(1)) == [(3, 3)]


def test_a_withdrawn_reading_is_not_scored() -> None:
    ward = Ward(WORN)
    ward.read(0, **WELL)
    ward.read(10, spo2=80)
    assert ends(ward.tick(10)) == [(3, 3)]
    ward.take(*(row("p_1", key, T0 + at * SECOND, 0.0, int(Flag.REVISION | Flag.RETRACTED))
                for key, at in (("spo2", 10), ("temp", 0))))  # fmt: skip
    scored = ward.tick(70)
    assert (ends(scored), scored.missing.tolist()) == ([(0, 3)], [1 << Parameter.TEMP]), "the sample before it counts"


def test_who_is_not_scored_any_more_is_forgotten() -> None:
    ward = Ward(WORN)
    ward.read(0, **WELL)
    ward.table.expect("p_1", None, ADULT)
    ward.read(1, temp=40)
    assert len(ward.tick(2)) == 0
    with pytest.raises(KeyError):
        ward.table.explain("p_1")
    ward.table.expect("p_1", WORN, ADULT)
    ward.read(3, pulse_rate=72)
    assert ends(ward.tick(3)) == [(0, 17)], "what was measured before may have changed unseen"


def test_the_median_of_five_minutes_is_scored() -> None:
    ward = Ward(WORN)
    ward.read(0, **WELL)
    for second, spo2 in enumerate((97, 90, 97, 90, 97, 97), 1):
        ward.read(10 * second, spo2=spo2)
    assert ends(ward.tick(60)) == [(0, 0)], "two bad samples in seven"
    for second in (70, 80, 90, 100, 110):
        ward.read(second, spo2=90)
    assert ends(ward.tick(120)) == [(3, 3)]
    ward.take(*(row("p_1", "spo2", T0 + (110 + 10 * n) * SECOND, float("nan"), int(Flag.ABOVE_RANGE))
                for n in range(1, 9)))  # fmt: skip
    assert ends(ward.tick(190)) == [(0, 0)], "above the sensor's range is above every number"


def test_samples_that_leave_the_window_change_the_score() -> None:
    ward = Ward(WORN)
    ward.read(0, **{**WELL, "spo2": 80})
    ward.read(200, resp_rate=16, spo2=97, pulse_rate=72)
    assert ends(ward.tick(240)) == [(3, 3)], "the median of 80 and 97"
    assert ends(ward.tick(301)) == [(0, 0)]
    said = [(second, ends(scored)) for second in range(302, 700) if len(scored := ward.tick(second))]
    assert said == [(501, [(0, 9)])], "nothing newer came: they count for five minutes"


def test_one_sample_in_five_seconds_counts() -> None:
    ward = Ward(WORN)
    ward.read(0, **WELL)
    ward.read(5, spo2=97)
    for tenth in range(20):
        ward.read(10 + tenth / 10, spo2=80)
    assert ends(ward.tick(20)) == [(0, 0)], "a burst is one sample of three"


def test_a_clock_set_back_blocks_nobody() -> None:
    ward = Ward(WORN)
    ward.read(3600, **{**WELL, "spo2": 80})
    assert ends(ward.tick(3600)) == [(3, 3)]
    ward.read(10, **WELL)
    scored = ward.tick(20)
    while not len(scored):
        scored = ward.tick((scored.at_ns - T0) / SECOND + 1)
    assert scored.at_ns <= T0 + 80 * SECOND
    assert ends(scored) == [(0, 0)]


READINGS = st.lists(
    st.tuples(
        st.sampled_from(["p_1", "p_2", "p_3"]), st.sampled_from(KEYS), st.integers(-900, 0),
        st.sampled_from([0.0, 1.0, 2.0, 21.0, 30.0, 36.5, 40.0, 82.0, 92.0, 96.0, 115.0, float("nan")]),
        st.sampled_from([0, 0, 0, 0, Flag.SUSPECT, Flag.LOW_QUALITY, Flag.LATE, Flag.BELOW_RANGE, Flag.ABOVE_RANGE]),
        st.sampled_from([0, 1, 2, 7, 40, 90, 400, 4000]),
    ),
    max_size=40,
)  # fmt: skip
"""Patient, vital, seconds before receipt, value, flags, seconds until the next."""


class Model:
    """What a patient is scored on, by hand: every usable reading is kept."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[int, float, int]]] = {}

    def read(self, key: str, time_ns: int, value: float, flags: int) -> None:
        levels, coded = BY_KEY[key].values, flags & (Flag.BELOW_RANGE | Flag.ABOVE_RANGE)
        usable = value in range(len(levels)) if levels else coded or not np.isnan(value)
        if key in {"o2_flow", "fio2"} and flags & Flag.BELOW_RANGE:
            usable = False
        if usable and not flags & NOT_SCORED:
            self.seen.setdefault(key, []).append((time_ns, value, flags))

    def latest(self, now_ns: int, continuous: set[str]) -> dict[str, Latest]:
        found = {}
        for key, seen in self.seen.items():
            ordered = sorted(seen, key=lambda reading: reading[0])
            found[key] = Latest(ordered[-1][1], ordered[-1][0], ordered[-1][2])
            newest_of = {time_ns // (5 * SECOND): (time_ns, value, flags) for time_ns, value, flags in ordered}
            window = [reading for reading in newest_of.values() if reading[0] >= now_ns - 5 * MINUTE_NS]
            if key in continuous and window:
                found[key] = self._median(window)
        return found

    @staticmethod
    def _median(window: list[tuple[int, float, int]]) -> Latest:
        coded = [-np.inf if f & Flag.BELOW_RANGE else np.inf if f & Flag.ABOVE_RANGE else v for _, v, f in window]
        low, high = statistics.median_low(coded), statistics.median_high(coded)
        value = low if low == -np.inf else high if high == np.inf else (low + high) / 2
        side = Flag.BELOW_RANGE if value == -np.inf else Flag.ABOVE_RANGE if value == np.inf else Flag(0)
        doubted = 2 * sum(bool(f & (Flag.SUSPECT | Flag.LOW_QUALITY)) for _, _, f in window) >= len(window)
        return Latest(value, max(t for t, _, _ in window), int(side | (Flag.SUSPECT if doubted else Flag(0))))


@given(READINGS, st.sampled_from([SPOT, WORN, HOME]), st.sampled_from([1, 2]), st.booleans())
def test_it_is_the_score_of_the_latest_values(
    readings: list[tuple[str, str, int, float, int, int]], rule: CompiledScore, scale: int, usual: bool
) -> None:
    context = ScoreContext(AgeBand.ADULT, Pregnancy.UNKNOWN, scale, usual)
    ward, models, now = Ward(rule, context, "p_1", "p_2", "p_3"), {}, 0
    programme = Programme(
        {key: Mode.CONTINUOUS if mode else Mode.SPOT for key, mode in rule.measures}, rule.assume_air, rule.assume_alert
    )
    continuous = {key for key, mode in rule.measures if mode}
    for patient, key, before, value, flags, pause in readings:
        time_ns = T0 + (now + before) * SECOND
        ward.take(row(patient, key, time_ns, value, int(flags), received_ns=T0 + now * SECOND))
        models.setdefault(patient, Model()).read(key, time_ns, value, flags)
        scored, now = ward.tick(now), now + pause
        for place, token in enumerate(scored.patients):
            expected = news2_of_one(
                models[token].latest(scored.at_ns, continuous), scored.at_ns, programme,
                age_band=AgeBand.ADULT, pregnancy=Pregnancy.UNKNOWN, spo2_scale=scale, usual_confusion=usual,
            )  # fmt: skip
            assert (scored.low[place], scored.high[place]) == (expected.low[0], expected.high[0])
            assert scored.complete[place] == expected.complete[0]
            assert scored.hidden[place] == expected.hidden[0]
            assert scored.red[place] == (expected.points_low == 3).sum()
            for bits, truth in ((scored.missing, expected.missing), (scored.assumed, expected.assumed)):
                assert [bool(bits[place] >> which & 1) for which in Parameter] == truth[:, 0].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_what_was_said_last_is_never_more_than_a_minute_behind(seed: int) -> None:
    """Second by second against the model: samples that come, leave their window, run out."""
    random, model, said = np.random.default_rng(seed), Model(), dict[str, Any]()
    ward, programme = (
        Ward(WORN),
        Programme({key: Mode.CONTINUOUS if mode else Mode.SPOT for key, mode in WORN.measures}),
    )
    continuous, now, evaluations = {key for key, mode in WORN.measures if mode}, 0, 0
    for _ in range(60):
        for key in ("spo2", "heart_rate", "pulse_rate", "resp_rate", "temp"):
            if random.random() < 0.5:
                value = float(random.choice([84, 93, 95, 97, 105] if key != "temp" else [36.5, 38.5]))
                flags = int(random.choice([0, 0, Flag.SUSPECT, Flag.LOW_QUALITY, Flag.BELOW_RANGE, Flag.ABOVE_RANGE]))
                time_ns = T0 + (now - int(random.choice([0, 0, 0, 4]))) * SECOND
                ward.take(row("p_1", key, time_ns, value, flags, received_ns=T0 + now * SECOND))
                model.read(key, time_ns, value, flags)
        for second in range(now, now + int(random.choice([2, 5, 30, 120, 300]))):
            scored, now = ward.tick(second), second + 1
            overdue = said and second >= said["at"] + 60 and second % 10 == 0
            if not len(scored) and not overdue:
                continue
            truth = news2_of_one(
                model.latest(scored.at_ns, continuous), scored.at_ns, programme,
                age_band=AgeBand.ADULT, pregnancy=Pregnancy.NO, spo2_scale=1, usual_confusion=False,
            )  # fmt: skip
            if len(scored):
                said, evaluations = {"at": second, "what": (*ends(scored)[0], scored.red[0])}, evaluations + 1
            assert said["what"] == (truth.low[0], truth.high[0], (truth.points_low == 3).sum()), second
    assert evaluations > 40


@given(st.sets(st.sampled_from(sorted(WELL))), st.integers(0, 2**32 - 1), st.sampled_from([1, 2]))
def test_with_parts_removed_the_ends_hold_the_truth(missing: set[str], seed: int, scale: int) -> None:
    random = np.random.default_rng(seed)
    spans = {"resp_rate": (2, 40), "spo2": (70, 101), "o2_flow": (0, 3), "bp_sys": (60, 260), "pulse_rate": (25, 180),
             "acvpu": (0, 5), "temp": (33, 42)}  # fmt: skip
    truth = {key: float(random.integers(*span)) for key, span in spans.items()}
    ward = Ward(SPOT, ADULT._replace(spo2_scale=scale))
    ward.read(0, **{key: value for key, value in truth.items() if key not in missing})
    scored = ward.tick(1)
    if len(missing) < len(truth):
        total = sum(points_by_hand(truth, scale))
        assert scored.low[0] <= total <= scored.high[0]
        assert bool(scored.complete[0]) is (not missing)


Entry = list[dict[str, Any]] | int | tuple[str, CompiledScore | None]


def _log(seed: int) -> list[Entry]:
    """Rows in runs, ticks, and patients who begin, change and end."""
    random, now, entries = np.random.default_rng(seed), 0, list[Entry]()
    entries += [("p_1", WORN), ("p_2", SPOT), ("p_3", HOME)]
    for _ in range(60):
        now += int(random.choice([1, 5, 20, 61, 300]))
        rows = []
        for _ in range(random.integers(0, 8)):
            key = str(random.choice(KEYS))
            flags = int(random.choice([0, 0, 0, 0, Flag.SUSPECT, Flag.BELOW_RANGE, Flag.RETRACTED | Flag.REVISION]))
            time_ns = T0 + (now - int(random.choice([0, 0, 1, 3, 5, 60, 290, 400]))) * SECOND
            value = float(random.choice([0, 1, 16, 36.5, 40, 90, 97, 120]))
            patient = f"p_{random.integers(1, 5)}"
            rows.append(row(patient, key, time_ns, value, flags, received_ns=T0 + now * SECOND))
        if rows:
            entries.append(rows)
        if random.random() < 0.1:
            entries.append((f"p_{random.integers(1, 5)}", [None, SPOT, WORN, HOME][random.integers(0, 4)]))
        # Once in a while the gateway's clock is set back.
        entries.append(T0 + (now - (200 if random.random() < 0.03 else 0)) * SECOND)
    return entries


def _fold(scores: ScoreTable, entry: Entry) -> bytes:
    match entry:
        case int():
            scored = scores.tick(entry)
            said = "".join(scores.explain(patient) for patient in scored.patients)
            judged_rows = b"".join(column.tobytes() for column in rule_rows(scored))
            return encode(score_rows(scored)) + judged_rows + said.encode() if len(scored) else b""
        case list():
            batch = batch_from_rows(entry)
            scores.observe(batch.patients, rows_of(batch))
        case (patient, rule):
            scores.expect(patient, rule, ADULT)
    return b""


def folded(seed: int) -> bytes:
    scores = ScoreTable()
    said = b"".join(_fold(scores, entry) for entry in _log(seed))
    return said + msgspec.msgpack.encode(scores.dump())


def _restored(scores: ScoreTable) -> ScoreTable:
    return ScoreTable.load(msgspec.msgpack.decode(msgspec.msgpack.encode(scores.dump())))


@pytest.mark.parametrize("seed", range(12))
def test_it_does_not_matter_how_readings_were_cut(seed: int) -> None:
    scores, said = ScoreTable(), b""
    for entry in _log(seed):
        parts: list[Entry] = [[one] for one in entry] if isinstance(entry, list) else [entry]
        said += b"".join(_fold(scores, part) for part in parts)
    assert said.count(b"news2") > 20, "the logs are eventful"
    assert said + msgspec.msgpack.encode(scores.dump()) == folded(seed)


@pytest.mark.parametrize("seed", range(12))
def test_from_a_snapshot_at_any_point_it_goes_on_the_same(seed: int) -> None:
    scores, said = ScoreTable(), b""
    for entry in _log(seed):
        said += _fold(scores, entry)
        before, scores = msgspec.msgpack.encode(scores.dump()), _restored(scores)
        assert msgspec.msgpack.encode(scores.dump()) == before
    assert said + msgspec.msgpack.encode(scores.dump()) == folded(seed)


def test_what_left_every_window_is_gone_in_and_out_of_a_snapshot() -> None:
    kept = Ward(WORN)
    kept.read(0, **{**WELL, "spo2": 80})
    kept.read(52, pulse_rate=140)
    kept.read(400, spo2=97, pulse_rate=72, resp_rate=16)
    kept.tick(400)
    restored = Ward(None)
    restored.table = _restored(kept.table)
    said = []
    for ward in (kept, restored):
        late = {"received_ns": T0 + 401 * SECOND}
        ward.take(row("p_1", "pulse_rate", T0 + 50 * SECOND, 140, **late))
        said.append([msgspec.msgpack.encode(ward.table.dump())])
        ward.take(row("p_1", "spo2", T0 + 400 * SECOND, 0.0, int(Flag.RETRACTED), **late))
        said[-1] += [msgspec.msgpack.encode(ward.table.dump()), ends(ward.tick(200)), ends(ward.tick(260))]
    assert said[0] == said[1]


def test_samples_of_before_a_clock_was_set_back_make_room() -> None:
    ward = Ward(WORN)
    ward.read(3600, **WELL)
    ward.tick(3600)
    ward.tick(79)
    ward.read(80, **{**WELL, "spo2": 80})
    ward.read(85, spo2=97)
    ward.tick(90)
    assert ends(ward.tick(150)) == [(3, 3)], "the median of 80 and 97, in the place of a sample of 3600 s"


def test_between_both_ends_of_a_sensor_the_low_one_counts() -> None:
    ward = Ward(WORN)
    ward.read(0, **{key: value for key, value in WELL.items() if key != "spo2"})
    for second, flag in ((5, Flag.BELOW_RANGE), (10, Flag.ABOVE_RANGE)):
        ward.take(row("p_1", "spo2", T0 + second * SECOND, float("nan"), int(flag)))
    assert ends(ward.tick(10)) == [(3, 3)]


def test_without_the_compiler_the_same_bytes_come_out() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.alerts.test_scoring import folded\n"
        "from numba.core.dispatcher import Dispatcher\n"
        "from alerts.judging.score_kernels import load\n"
        "assert not isinstance(load().take, Dispatcher)\n"
        "sys.stdout.buffer.write(folded(1) + folded(2))"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == folded(1) + folded(2)


def test_tables_grow() -> None:
    ward = Ward(WORN, ADULT, *(f"p_{number}" for number in range(200)))
    for number in range(200):
        ward.read(0, f"p_{number}", **{**WELL, "temp": 36.8 + 3 * (number % 2)})
    scored = _restored(ward.table).tick(T0)
    assert scored.patients == tuple(f"p_{number}" for number in range(200))
    assert scored.low.tolist() == [0, 2] * 100
    assert scored.complete.all()


@pytest.mark.parametrize("broken", [
    {}, {"columns": {}}, {"samples": {}}, {"context": b"123"}, {"rings": 0},
])  # fmt: skip
def test_an_unreadable_state_is_refused(broken: dict[str, Any]) -> None:
    ward = Ward(WORN)
    ward.read(0, **WELL)
    state = ward.table.dump() | broken if broken else {}
    with pytest.raises((KeyError, ValueError)):
        ScoreTable.load(state)
