"""Synthetic physiology: seeded, plausible, and with the episodes that it says it has."""

from itertools import pairwise

import numpy as np
import pytest

from simulators.patients import (
    COURSES,
    ISF_LAG_NS,
    SIGNALS,
    Condition,
    Episode,
    EpisodeKind,
    SyntheticPatient,
    draw_episodes,
    synthetic_patients,
)
from vitals.catalog import BY_KEY
from vitals.times import DAY_NS, HOUR_NS, MINUTE_NS

START = 1_700_006_400 * 1_000_000_000
"""2023-11-15 00:00 UTC."""
WEEK = np.arange(START, START + 7 * DAY_NS, 5 * MINUTE_NS)


def test_a_signal_depends_on_seed_vital_and_time_alone() -> None:
    patient = SyntheticPatient(7, Condition.DIABETES)
    for vital in SIGNALS:
        whole = patient.signal(vital, WEEK)
        np.testing.assert_array_equal(whole, SyntheticPatient(7, Condition.DIABETES).signal(vital, WEEK))
        pieces = np.concatenate([patient.signal(vital, part) for part in np.array_split(WEEK, 13)])
        np.testing.assert_array_equal(whole, pieces)
        np.testing.assert_array_equal(patient.signal(vital, WEEK[::-17]), whole[::-17])
        assert not np.array_equal(whole, SyntheticPatient(8, Condition.DIABETES).signal(vital, WEEK))
    assert patient.signal("spo2", WEEK[:0]).shape == (0,)


@pytest.mark.parametrize("condition", list(Condition))
def test_signals_are_plausible_for_every_condition(condition: Condition) -> None:
    for seed in range(5):
        patient = SyntheticPatient(seed, condition)
        for vital in SIGNALS:
            value = patient.signal(vital, WEEK)
            low, high = BY_KEY[vital].suspect
            assert low <= value.min(), vital
            assert value.max() <= high, vital
            assert (np.ptp(value) > 0) == (vital != "height"), vital
        assert np.all(patient.signal("bp_sys", WEEK) > patient.signal("bp_mean", WEEK))
        assert np.all(patient.signal("bp_mean", WEEK) > patient.signal("bp_dia", WEEK))


def test_conditions_differ_as_they_should() -> None:
    def mean(condition: Condition, vital: str) -> float:
        return float(np.mean([SyntheticPatient(seed, condition).signal(vital, WEEK).mean() for seed in range(8)]))

    assert mean(Condition.COPD, "spo2") < mean(Condition.HEART_FAILURE, "spo2") < mean(Condition.HEALTHY, "spo2")
    assert mean(Condition.DIABETES, "glucose_isf") > mean(Condition.HEALTHY, "glucose_isf") + 25
    assert mean(Condition.POST_SURGICAL, "heart_rate") > mean(Condition.HEALTHY, "heart_rate") + 5


def test_glucose_rises_after_breakfast_in_local_time() -> None:
    days = np.arange(20) * DAY_NS + START
    for offset_min in (0, -300, 330):
        patient = SyntheticPatient(3, Condition.DIABETES, offset_min)
        local = days - offset_min * MINUTE_NS
        before = patient.signal("glucose_bg", local + 6 * HOUR_NS).mean()
        after = patient.signal("glucose_bg", local + 8 * HOUR_NS + 30 * MINUTE_NS).mean()
        assert after > before + 30


def test_temperature_has_a_day_and_a_night() -> None:
    patient = SyntheticPatient(3, Condition.HEALTHY)
    days = np.arange(20) * DAY_NS + START
    evening = patient.signal("temp", days + 18 * HOUR_NS).mean()
    assert evening > patient.signal("temp", days + 6 * HOUR_NS).mean() + 0.4


def test_interstitial_glucose_lags_blood() -> None:
    patient = SyntheticPatient(3, Condition.DIABETES)
    np.testing.assert_array_equal(patient.signal("glucose_isf", WEEK), patient.signal("glucose_bg", WEEK - ISF_LAG_NS))


@pytest.mark.parametrize("kind", list(EpisodeKind))
def test_an_episode_is_in_the_signal_and_nowhere_else(kind: EpisodeKind) -> None:
    target = float(np.mean(COURSES[kind].target))
    episode = Episode(kind, START + 30 * HOUR_NS, START + 32 * HOUR_NS, target)
    ill, well = SyntheticPatient(4, Condition.HEALTHY, episodes=(episode,)), SyntheticPatient(4, Condition.HEALTHY)
    begin, end = episode.plateau(episode.vital)
    during = np.arange(begin, end, MINUTE_NS)
    assert len(during) > 60
    np.testing.assert_allclose(ill.signal(episode.vital, during), target, rtol=1e-12)
    assert np.all(np.abs(well.signal(episode.vital, during) - target) > 1.5)
    outside = WEEK[(episode.start_ns > WEEK) | (episode.end_ns + ISF_LAG_NS < WEEK)]
    for vital in SIGNALS:
        np.testing.assert_array_equal(ill.signal(vital, outside), well.signal(vital, outside))
    for vital, shift in COURSES[kind].shifts.items():
        np.testing.assert_allclose(ill.signal(vital, during) - well.signal(vital, during), shift)


def test_a_hypo_reaches_the_sensor_later_than_the_meter() -> None:
    episode = Episode(EpisodeKind.HYPO, START + 30 * HOUR_NS, START + 31 * HOUR_NS, 45.0)
    patient = SyntheticPatient(4, Condition.DIABETES, episodes=(episode,))
    begin, end = episode.plateau("glucose_isf")
    assert begin == episode.plateau("glucose_bg")[0] + ISF_LAG_NS
    np.testing.assert_allclose(patient.signal("glucose_isf", np.arange(begin, end, MINUTE_NS)), 45.0)
    early = np.array([episode.start_ns + ISF_LAG_NS])
    assert patient.signal("glucose_bg", early)[0] < patient.signal("glucose_isf", early)[0] - 10


def test_episodes_never_overlap_and_stay_inside() -> None:
    found = draw_episodes(5, list(EpisodeKind), START, START + 30 * DAY_NS, per_day=1.5)
    assert len(found) == 45
    assert found == draw_episodes(5, list(EpisodeKind), START, START + 30 * DAY_NS, per_day=1.5)
    assert found != draw_episodes(6, list(EpisodeKind), START, START + 30 * DAY_NS, per_day=1.5)
    assert {episode.kind for episode in found} == set(EpisodeKind)
    assert found[0].start_ns >= START
    assert found[-1].end_ns <= START + 30 * DAY_NS
    for one, two in pairwise(found):
        assert one.end_ns <= two.start_ns
    for episode in found:
        assert COURSES[episode.kind].target[0] <= episode.target <= COURSES[episode.kind].target[1]


def test_no_episode_where_there_is_no_room_or_no_kind() -> None:
    assert draw_episodes(5, [], START, START + DAY_NS) == ()
    assert draw_episodes(5, [EpisodeKind.HYPO], START, START + HOUR_NS) == ()
    assert draw_episodes(5, [EpisodeKind.FEVER], START, START + DAY_NS, per_day=12) == ()


def test_a_population_has_all_conditions_and_fitting_episodes() -> None:
    patients = synthetic_patients(10, 1, START, START + 3 * DAY_NS)
    assert patients == synthetic_patients(10, 1, START, START + 3 * DAY_NS)
    assert [patient.condition for patient in patients] == list(Condition) * 2
    assert len({patient.seed for patient in patients}) == 10
    for patient in patients:
        kinds = {episode.kind for episode in patient.episodes}
        assert (patient.condition is Condition.HEALTHY) == (not kinds)
        assert patient.condition is not Condition.DIABETES or kinds == {EpisodeKind.HYPO}


def test_a_vital_without_a_signal_is_an_error() -> None:
    with pytest.raises(KeyError):
        SyntheticPatient(1, Condition.COPD).signal("fev1", WEEK)
