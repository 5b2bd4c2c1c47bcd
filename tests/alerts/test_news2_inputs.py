"""NEWS2 inputs: how long a value counts, which source is read, what a programme declares, and who is refused."""

import math
import re
from typing import Any

import pytest

from alerts.scores.news2 import Latest, Programme
from alerts.scores.tables import NO_SCORE, AgeBand, Parameter, Pregnancy, Refusal, Validity
from tests.alerts.news2_world import HOME, KEYS, NOW, WARD, WELL, score, table, validity
from vitals.catalog import BY_KEY
from vitals.glossary import Flag, Mode
from vitals.times import HOUR_NS, MINUTE_NS


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in WELL.items() if key not in keys} | changes


WINDOWS = {
    "RR, pulse, SpO2": ("resp_rate", "spo2", "heart_rate", "pulse_rate", "pulse_rate_nibp"), "SBP": ("bp_sys",),
    "Temperature": ("temp",), "ACVPU": ("acvpu",), "O2": ("o2_flow", "fio2"),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("mode", Mode)
def test_validity_is_that_of_the_page(name: str, mode: Mode) -> None:
    [cells] = [cells for cells in table("2.3") if cells[0] == name]
    number, unit = re.findall(r"(\d+) (h|min)", cells[1 if mode is Mode.SPOT else 2])[-1]
    valid_ns = int(number) * {"h": HOUR_NS, "min": MINUTE_NS}[unit]
    programme = Programme(dict.fromkeys(KEYS, mode))
    for key in WINDOWS[name]:
        assert BY_KEY[key].staleness_ns(mode) == valid_ns
        alone = [{key: Latest(0.0 if key in {"acvpu", "o2_flow"} else 50.0, NOW - valid_ns - late)} for late in (0, 1)]
        scores = score(*alone, programme=programme)
        known = (scores.validity == Validity.KNOWN).sum(axis=0)
        aged = (scores.validity == Validity.AGED).sum(axis=0)
        assert (known.tolist(), aged.tolist()) == ([1, 0], [0, 1]), key


def test_an_old_value_adds_nothing_certain() -> None:
    scores = score({**WELL, "bp_sys": Latest(70.0, NOW - 13 * HOUR_NS)})
    assert (scores.low[0], scores.high[0], validity(scores, Parameter.BP_SYS)) == (0, 3, Validity.AGED)
    assert (scores.value[Parameter.BP_SYS, 0], scores.time_ns[Parameter.BP_SYS, 0]) == (70.0, NOW - 13 * HOUR_NS)


def test_respiration_saturation_and_pulse_are_of_one_set() -> None:
    def old(minutes: int) -> Latest:
        return Latest(16.0, NOW - minutes * MINUTE_NS)

    scores = score({**WELL, "resp_rate": old(31)}, {**WELL, "resp_rate": old(32)}, without("spo2", resp_rate=old(600)))
    found = [validity(scores, Parameter.RESP_RATE, row) for row in range(3)]
    assert found == [Validity.KNOWN, Validity.APART, Validity.APART]
    # Whatever is old together is still a set, and other parameters may be of another time.
    together = {key: Latest(WELL[key], NOW - 11 * HOUR_NS) for key in ("resp_rate", "spo2", "pulse_rate")}
    assert score({**WELL, **together}, {**WELL, "temp": Latest(36.8, NOW - 11 * HOUR_NS)}).complete.all()


def test_pulse_prefers_the_ecg_while_its_quality_is_good() -> None:
    poor = Latest(120.0, NOW, int(Flag.LOW_QUALITY))
    stale = Latest(120.0, NOW - 13 * HOUR_NS)
    rare = Latest(60.0, NOW, int(Flag.SUSPECT))
    rows = [
        ({"heart_rate": 80, "pulse_rate": 120}, "heart_rate"), ({"heart_rate": poor, "pulse_rate": 80}, "pulse_rate"),
        ({"heart_rate": stale, "pulse_rate_nibp": 80}, "pulse_rate_nibp"), ({"heart_rate": poor}, "heart_rate"),
        ({"heart_rate": poor, "pulse_rate": rare, "pulse_rate_nibp": 80}, "pulse_rate_nibp"),
        ({"heart_rate": stale, "pulse_rate": Latest(99.0, NOW - 14 * HOUR_NS)}, "heart_rate"),
        ({"pulse_rate": stale}, "pulse_rate"), ({"heart_rate": poor, "pulse_rate": rare}, "heart_rate"),
        ({"heart_rate": Latest(60.0, NOW - 31 * MINUTE_NS, poor.flags), "pulse_rate_nibp": 80}, "pulse_rate_nibp"),
        ({"heart_rate": Latest(60.0, NOW - 13 * HOUR_NS, poor.flags)}, "heart_rate"),
    ]  # fmt: skip
    scores = score(*(without("pulse_rate", **changes) for changes, _ in rows))
    assert scores.vital[Parameter.PULSE].tolist() == [BY_KEY[key].code for _, key in rows]
    assert scores.doubted[Parameter.PULSE].tolist() == [
        False, False, False, True, False, False, False, True, False, False
    ]  # fmt: skip


def test_oxygen_is_the_newer_statement() -> None:
    def ago(hours: int, value: float) -> Latest:
        return Latest(value, NOW - hours * HOUR_NS)

    rows: list[tuple[dict[str, Any], int]] = [
        ({"o2_flow": 0.5}, 2), ({"o2_flow": 0}, 0), ({"fio2": 21}, 0), ({"fio2": 21.4}, 0), ({"fio2": 24}, 2),
        ({"o2_flow": ago(3, 2), "fio2": ago(1, 21)}, 0), ({"o2_flow": ago(1, 0), "fio2": ago(3, 28)}, 0),
        ({"o2_flow": ago(3, 0), "fio2": ago(1, 28)}, 2), ({"o2_flow": ago(1, 0), "fio2": ago(1, 28)}, 2),
        ({"o2_flow": Latest(0, NOW, int(Flag.LATE)), "fio2": ago(1, 28)}, 2),
        ({"fio2": Latest(21, NOW, int(Flag.LATE)), "o2_flow": ago(1, 2)}, 2),
        ({"o2_flow": Latest(math.nan, NOW, int(Flag.ABOVE_RANGE))}, 2),
        ({"o2_flow": ago(1, 2), "fio2": ago(1, 21)}, 2), ({"o2_flow": ago(30, 2), "fio2": ago(3, 21)}, 0),
    ]  # fmt: skip
    scores = score(*(without("o2_flow", **changes) for changes, _ in rows))
    assert scores.low.tolist() == scores.high.tolist() == [expected for _, expected in rows]


@pytest.mark.parametrize(
    "flag", [Flag.IMPLAUSIBLE, Flag.LATE, Flag.RETRACTED, Flag.TEST_DATA, Flag.CLOCK_SUSPECT, Flag.SENSOR_FAULT]
)
@pytest.mark.parametrize("key", WELL)
def test_what_is_not_for_scoring_is_missing(key: str, flag: Flag) -> None:
    scores = score({**WELL, key: Latest(WELL[key], NOW, int(flag))})
    assert (scores.validity == Validity.UNUSABLE).sum() == scores.missing.sum() == 1
    assert scores.high[0] > scores.low[0] == 0


def test_what_is_no_number_is_missing() -> None:
    rows = [{**WELL, key: Latest(value, NOW)} for key in WELL for value in (math.nan, math.inf)]
    rows += [{**WELL, "acvpu": Latest(value, NOW)} for value in (-1.0, 5.0, 0.5)]
    rows += [{**WELL, "o2_flow": Latest(value, NOW, int(Flag.BELOW_RANGE))} for value in (math.nan, 0.5)]
    rows += [{**WELL, "temp": Latest(36.8, NOW + 6 * MINUTE_NS)}]
    scores = score(*rows)
    assert (scores.missing.sum(axis=0) == 1).all()
    assert (scores.validity == Validity.UNUSABLE).sum(axis=0).tolist() == [1] * len(rows)
    assert score({**WELL, "temp": Latest(36.8, NOW + 5 * MINUTE_NS)}).complete.all()


@pytest.mark.parametrize("value", [math.nan, 98.0])
def test_beyond_the_sensor_is_the_extreme(value: float) -> None:
    below, above = Latest(value, NOW, int(Flag.BELOW_RANGE)), Latest(value, NOW, int(Flag.ABOVE_RANGE))
    keys = ("resp_rate", "spo2", "bp_sys", "pulse_rate", "temp")
    scores = score(*({**WELL, key: extreme} for extreme in (below, above) for key in keys))
    assert scores.low.tolist() == scores.high.tolist() == [3, 3, 3, 3, 3, 3, 0, 3, 3, 2]


def test_new_confusion_counts_and_usual_confusion_is_alert() -> None:
    levels = [{**WELL, "acvpu": code} for code in range(5)]
    assert score(*levels).low.tolist() == [0, 3, 3, 3, 3]
    assert score(*levels, usual_confusion=[1] * 5).low.tolist() == [0, 0, 3, 3, 3]


def test_a_declared_state_is_labelled() -> None:
    scores = score(without("acvpu", "o2_flow"), programme=HOME)
    assert (scores.low[0], scores.high[0], scores.complete[0]) == (0, 0, True)
    assert [which.key for which in Parameter if scores.assumed[which, 0]] == ["oxygen", "acvpu"]


def test_a_declaration_never_covers_another_word() -> None:
    def aged(value: float) -> Latest:
        return Latest(value, NOW - 25 * HOUR_NS)

    rows = [
        without("acvpu", "o2_flow", acvpu=aged(2)), without("acvpu", "o2_flow", o2_flow=aged(2)),
        without("acvpu", "o2_flow", acvpu=Latest(0, NOW, int(Flag.LATE))), {**WELL, "acvpu": 2, "o2_flow": 2},
        without("acvpu", "o2_flow", acvpu=aged(0), o2_flow=aged(0)),
    ]  # fmt: skip
    scores = score(*rows, programme=HOME)
    assert list(zip(scores.low.tolist(), scores.high.tolist(), strict=True)) == [(0, 3), (0, 2), (0, 3), (5, 5), (0, 0)]
    assert scores.assumed.sum(axis=0).tolist() == [1, 1, 1, 0, 2]


def test_a_programme_that_cannot_complete_it_hides_it() -> None:
    no_breath = Programme({key: Mode.SPOT for key in WELL if key != "resp_rate"})
    assert no_breath.unmeasured() == (Parameter.RESP_RATE,)
    scores = score(without("resp_rate", bp_sys=80), WELL, programme=no_breath)
    assert scores.hidden.tolist() == [True, False]
    assert (scores.low.tolist(), scores.high.tolist()) == ([3, 0], [6, 0])
    assert not score(without("resp_rate"), programme=WARD).hidden[0]
    # What was measured once can come again, and what the programme measures comes by itself.
    aged = {**WELL, "resp_rate": Latest(16.0, NOW - 25 * HOUR_NS)}
    assert score(aged, programme=no_breath).hidden.tolist() == [False]
    assert score(without("bp_sys"), programme=no_breath).hidden.tolist() == [False]
    assert Programme({}).unmeasured() == tuple(Parameter)
    assert Programme({"heart_rate": Mode.SPOT, "fio2": Mode.SPOT}, assume_alert=True).unmeasured() == (
        Parameter.RESP_RATE, Parameter.SPO2, Parameter.BP_SYS, Parameter.TEMP,
    )  # fmt: skip


def test_who_is_refused() -> None:
    rows = [
        (AgeBand.ADULT, Pregnancy.NO, Refusal.NONE), (AgeBand.ADULT, Pregnancy.UNKNOWN, Refusal.NONE),
        (AgeBand.UNDER_16, Pregnancy.NO, Refusal.UNDER_16), (AgeBand.UNKNOWN, Pregnancy.NO, Refusal.AGE_UNKNOWN),
        (AgeBand.ADULT, Pregnancy.YES, Refusal.PREGNANT), (AgeBand.UNDER_16, Pregnancy.YES, Refusal.UNDER_16),
    ]  # fmt: skip
    scores = score(
        *[{**WELL, "acvpu": 4}] * len(rows),
        age_band=[age for age, _, _ in rows], pregnancy=[pregnancy for _, pregnancy, _ in rows],
    )  # fmt: skip
    assert scores.refusal.tolist() == [refusal for _, _, refusal in rows]
    refused = scores.refusal != Refusal.NONE
    for numbers in (scores.low, scores.high, scores.band_low, scores.band_high):
        assert (numbers[refused] == NO_SCORE).all()
        assert (numbers[~refused] >= 0).all()
    assert (scores.points_low[:, refused] == NO_SCORE).all()
    assert not (scores.red_low | scores.red_high | scores.complete)[refused].any()
