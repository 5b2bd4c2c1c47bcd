"""Plausibility: the ranges of clinical.md 1.3 edge by edge, and checks between parts of one measurement."""

import numpy as np
import pytest

from ingest import quality
from vitals.catalog import BY_KEY, VITALS
from vitals.glossary import Basis, Flag, Statistic

MINUTE, HOUR = 60_000_000_000, 3_600_000_000_000
INF = float("inf")
NONE = Flag(0)
RANGES = {
    # key: (implausible outside), (suspect outside)
    "heart_rate": ((0, 300), (30, 220)),
    "pulse_rate": ((20, 300), (30, 220)),
    "pulse_rate_nibp": ((20, 300), (30, 220)),
    "spo2": ((50, 100), (70, 100)),
    "resp_rate": ((0, 80), (4, 60)),
    "bp_sys": ((40, 300), (60, 260)),
    "bp_dia": ((20, 200), (30, 160)),
    "bp_mean": ((25, 250), (40, 200)),
    "bp_avg_sys": ((40, 300), (60, 260)),
    "bp_avg_dia": ((20, 200), (30, 160)),
    "bp_art_sys": ((40, 300), (60, 260)),
    "bp_art_dia": ((20, 200), (30, 160)),
    "bp_art_mean": ((25, 250), (40, 200)),
    "pulse_rate_art": ((20, 300), (30, 220)),
    "resp_rate_vent": ((2, 80), (4, 60)),
    "temp": ((25, 45), (32, 42.5)),
    "glucose_bg": ((10, 1500), (20, 800)),
    "glucose_isf": ((20, 600), (40, 400)),
    "glucose": ((10, 1500), (20, 800)),
    "weight": ((20, 500), (-INF, INF)),
    "bmi": ((8, 100), (12, 70)),
    "body_fat": ((0, 100), (-INF, INF)),
    "perf_index": ((0, 30), (0.02, 20)),
    "rr_interval": ((200, 3000), (300, 2000)),
    "hrv_sdnn": ((0, 500), (1, 300)),
    "steps": ((0, 100_000), (0, 60_000)),
    "sleep": ((0, 24), (0, 20)),
    "o2_flow": ((0, 60), (0, 15)),
    "fio2": ((15, 100), (-INF, INF)),
    "height": ((30, 260), (-INF, INF)),
    "pef": ((30, 900), (60, 800)),
    "fev1": ((0.2, 8), (0.3, 7)),
    "fev1_fvc": ((0, 100), (-INF, INF)),
    # Of the catalogue alone: bounds by definition (NEWS2 has seven parameters and 20 points), and what people answer.
    "news2": ((0, 20), (-INF, INF)),
    "news2_min": ((0, 20), (-INF, INF)),
    "news2_max": ((0, 20), (-INF, INF)),
    "news2_red": ((0, 7), (-INF, INF)),
    "pain": ((0, 10), (-INF, INF)),
    "rescue_inhaler": ((0, 100), (0, 30)),
}
WITHOUT_RANGE = {"acvpu", "fvc", "ecg_rhythm", "symptoms"}


def flags_of(key: str, value: float, statistic: Statistic = Statistic.SINGLE) -> Flag:
    columns = np.array([BY_KEY[key].code], np.uint16), np.array([value]), np.array([statistic], np.uint8)
    return Flag(int(quality.range_flags(*columns)[0]))


@pytest.mark.parametrize("statistic", Statistic)
def test_ranges_are_those_of_values_not_of_their_spread_or_number(statistic: Statistic) -> None:
    spread = statistic.name in {"COUNT", "STANDARD_DEVIATION", "VARIANCE", "QUARTILE_DEVIATION"}
    assert flags_of("heart_rate", 350.0, statistic) == (NONE if spread else Flag.IMPLAUSIBLE)


def test_every_vital_is_in_the_table() -> None:
    assert RANGES.keys() | WITHOUT_RANGE == {vital.key for vital in VITALS if not vital.panel}


@pytest.mark.parametrize("key", RANGES)
def test_ranges_include_their_edges(key: str) -> None:
    (low, high), (rare_low, rare_high) = RANGES[key]
    sensor = Flag.BELOW_RANGE | Flag.ABOVE_RANGE
    for edge, outwards in ((low, -INF), (high, INF)):
        assert flags_of(key, edge) & Flag.IMPLAUSIBLE == NONE
        assert flags_of(key, np.nextafter(edge, outwards)) == Flag.IMPLAUSIBLE, "and nothing else"
    for edge, limit, outwards in ((rare_low, low, -INF), (rare_high, high, INF)):
        if edge in (limit, outwards):
            assert flags_of(key, limit) & ~sensor == NONE
            continue
        assert flags_of(key, edge) == NONE
        assert flags_of(key, np.nextafter(edge, outwards)) & ~sensor == Flag.SUSPECT
        assert flags_of(key, limit) & ~sensor == Flag.SUSPECT, "up to the implausible"


@pytest.mark.parametrize("key", sorted(WITHOUT_RANGE))
def test_vitals_without_a_range_are_never_flagged(key: str) -> None:
    for value in (-1e9, 0.0, 1e9):
        assert flags_of(key, value) == NONE


@pytest.mark.parametrize("vital", [vital for vital in VITALS if not vital.panel], ids=lambda vital: vital.key)
def test_a_value_without_a_number_gets_no_flag(vital: object) -> None:
    assert flags_of(vital.key, float("nan")) == NONE  # type: ignore[attr-defined]


def test_beyond_the_sensor_is_a_side() -> None:
    assert flags_of("glucose_isf", 40) == NONE
    assert flags_of("glucose_isf", 39.9) == Flag.SUSPECT | Flag.BELOW_RANGE
    assert flags_of("glucose_isf", 400) == NONE
    assert flags_of("glucose_isf", 401) == Flag.SUSPECT | Flag.ABOVE_RANGE
    assert flags_of("glucose_isf", 601) == Flag.IMPLAUSIBLE
    assert flags_of("glucose_isf", 19) == Flag.IMPLAUSIBLE
    assert flags_of("glucose_bg", 19) == Flag.SUSPECT, "a strip meter has no catalogue range of its sensor"


def late(key: str, age_ns: int, basis: Basis = Basis.DEVICE) -> bool:
    received = np.array([1_700_000_000_000_000_000])
    vital = np.array([BY_KEY[key].code], np.uint16)
    found = quality.late_flags(vital, received - age_ns, received, np.array([basis], np.uint8))
    assert found[0] in (0, int(Flag.LATE))
    return bool(found[0])


@pytest.mark.parametrize(
    ("key", "age_ns"),
    [
        ("spo2", 2 * HOUR), ("bp_sys", 2 * HOUR), ("glucose_bg", 2 * HOUR), ("weight", 24 * HOUR), ("bmi", 24 * HOUR),
        ("glucose_isf", 5 * MINUTE), ("rr_interval", 5 * MINUTE),
    ],
)  # fmt: skip
def test_late_begins_after_the_paging_age(key: str, age_ns: int) -> None:
    assert not late(key, age_ns)
    assert late(key, age_ns + 1)
    assert late(key, 200 * 365 * 24 * HOUR)
    assert not late(key, 0)
    assert not late(key, -5 * MINUTE), "ahead of arrival within tolerance"


@pytest.mark.parametrize("basis", Basis)
def test_an_unknown_time_is_never_late(basis: Basis) -> None:
    assert late("spo2", 30 * 24 * HOUR, basis) is (basis is not Basis.UNKNOWN)


def cross(*rows: tuple[int, str, float] | tuple[int, str, float, int]) -> list[Flag]:
    """Flags of (message, vital, value, source time) rows."""
    padded = [(*row, 0)[:4] for row in rows]
    message, keys, value, time = zip(*padded, strict=True)
    vital = np.array([BY_KEY[key].code for key in keys], np.uint16)
    found = quality.cross_flags(np.array(message), np.array(time, np.int64), vital, np.array(value, np.float64))
    assert found.dtype == np.uint32
    return [Flag(int(flags)) for flags in found]


@pytest.mark.parametrize(
    ("systolic", "diastolic", "flag"),
    [
        (120, 80, NONE), (90, 80, NONE), (89.9, 80, Flag.SUSPECT), (80.1, 80, Flag.SUSPECT), (80, 80, Flag.IMPLAUSIBLE),
        (79, 80, Flag.IMPLAUSIBLE), (230, 80, NONE), (230.1, 80, Flag.SUSPECT), (float("nan"), 80, NONE),
    ],
)  # fmt: skip
def test_pulse_pressure(systolic: float, diastolic: float, flag: Flag) -> None:
    assert cross((0, "bp_sys", systolic), (0, "bp_dia", diastolic)) == [flag, flag]
    assert cross((0, "bp_dia", diastolic), (0, "bp_sys", systolic)) == [flag, flag], "in any order"
    assert cross((0, "bp_art_sys", systolic), (0, "bp_art_dia", diastolic)) == [flag, flag], "of an arterial line too"
    assert cross((0, "bp_art_sys", systolic), (0, "bp_dia", diastolic)) == [NONE, NONE], "but not of two methods"


@pytest.mark.parametrize(
    ("mean", "flag"), [(80, NONE), (79.9, Flag.SUSPECT), (120, NONE), (120.1, Flag.SUSPECT), (float("nan"), NONE)]
)
def test_the_mean_lies_between_its_pressures(mean: float, flag: Flag) -> None:
    assert cross((0, "bp_mean", mean), (0, "bp_sys", 120), (0, "bp_dia", 80)) == [flag, NONE, NONE]


def test_the_mean_is_checked_against_the_one_pressure_there_is() -> None:
    assert cross((0, "bp_mean", 130), (0, "bp_sys", 120)) == [Flag.SUSPECT, NONE]
    assert cross((0, "bp_mean", 70), (0, "bp_dia", 80)) == [Flag.SUSPECT, NONE]
    # What else is in the batch makes no difference.
    assert cross((0, "bp_mean", 130), (0, "bp_sys", 120), (1, "bp_sys", 120), (1, "bp_dia", 80))[0] == Flag.SUSPECT


def test_parts_of_other_messages_or_times_do_not_meet() -> None:
    assert cross((0, "bp_sys", 70), (1, "bp_dia", 80)) == [NONE, NONE]
    assert cross((0, "bp_sys", 70, 5), (0, "bp_dia", 80, 6)) == [NONE, NONE]
    assert cross((0, "perf_index", 0.1), (1, "spo2", 97)) == [NONE, NONE]
    assert cross((0, "perf_index", 0.1, 5), (0, "spo2", 97, 6)) == [NONE, NONE]


def test_several_measurements_of_one_time_pair_in_order() -> None:
    rows = (0, "bp_sys", 120), (0, "bp_dia", 80), (0, "bp_sys", 70), (0, "bp_dia", 75), (0, "bp_sys", 110)
    bad = Flag.IMPLAUSIBLE
    assert cross(*rows) == [NONE, NONE, bad, bad, NONE]
    assert cross(*rows, (7, "bp_dia", 75), (7, "bp_sys", 70)) == [NONE, NONE, bad, bad, NONE, bad, bad]


@pytest.mark.parametrize(("index", "flag"), [(0.3, NONE), (0.29, Flag.SUSPECT), (0.0, Flag.SUSPECT), (5, NONE)])
def test_low_perfusion_makes_the_spo2_beside_it_suspect(index: float, flag: Flag) -> None:
    found = cross((0, "spo2", 97), (0, "pulse_rate", 70), (0, "perf_index", index), (0, "spo2", 96), (1, "spo2", 97))
    assert found == [flag, NONE, NONE, flag, NONE]


def test_nothing_to_check() -> None:
    assert cross((0, "weight", 80), (0, "temp", 37)) == [NONE, NONE]
    empty = np.empty(0, np.int64)
    assert len(quality.cross_flags(empty, empty, empty.astype(np.uint16), empty.astype(np.float64))) == 0


@pytest.mark.parametrize("vital", ["heart_rate", "resp_rate"])
def test_a_rate_of_zero_is_a_value_that_asks_for_a_look(vital: str) -> None:
    """Asystole and apnoea are no sentinels; urgency does not fall towards zero."""
    assert [flags_of(vital, value) for value in (0.0, 1.0, 3.0)] == [Flag.SUSPECT] * 3
