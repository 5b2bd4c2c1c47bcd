"""Noisy nights of COPD patients: sustained desaturations are told, noise and short dips mostly are not.

The same nights go through two sets of rules at the same levels; what a delay and a deadband save is measured against
the truth, not against one another.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numba
import pytest

from simulators.oximetry import Night, Oximeter, Spell, nights
from tests.alerts.alert_world import at, limit, limits_control
from tests.alerts.desaturations import Score, Standing, score, standings, total, watched
from tests.alerts.programme_world import document, enrolled, programme
from vitals.glossary import AlertState, Severity
from vitals.model import Entry
from vitals.records import AlertEvent
from vitals.times import MINUTE_NS

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="many rows, for compiled kernels only")

START = at(0)
RuleSet = Callable[[Sequence[Night]], Mapping[str, Sequence[Entry]]]
"""The entries that set up each patient of a ward: what is compared."""
SEEDS = (1, 2, 3)
WARD = 20


def level(night: Night) -> int:
    """The first level of clinical.md 4.4 (P1) for the patient's scale."""
    return 91 if night.scale == 1 else 87


def by_limits(ward: Sequence[Night], **changes: float) -> Mapping[str, Sequence[Entry]]:
    """A limit per patient that a reading of ``level`` or less violates."""
    return {
        night.patient: [limits_control(1, limit(low=level(night) + 0.5, **changes), patient=night.patient)]
        for night in ward
    }


def plain(ward: Sequence[Night]) -> Mapping[str, Sequence[Entry]]:
    return by_limits(ward, deadband=0.0)


def patient_limits(ward: Sequence[Night]) -> Mapping[str, Sequence[Entry]]:
    """What clinical.md 5.3 advises, as a person would set it today."""
    return by_limits(ward, deadband=2.0, on_delay_s=30.0, off_delay_s=30.0)


def result(ward: Sequence[Night], rules: Mapping[str, Sequence[Entry]]) -> Score:
    return score(watched(ward, rules), ward, level)


def strict_limits(ward: Sequence[Night]) -> Mapping[str, Sequence[Entry]]:
    """With the delay of clinical.md 4.4 (P1)."""
    return by_limits(ward, deadband=2.0, on_delay_s=60.0, off_delay_s=60.0)


def copd(ward: Sequence[Night]) -> Mapping[str, Sequence[Entry]]:
    """The shipped COPD protocol, saturation measured by the second."""
    first = programme("copd", [document("copd", {"spo2": "continuous"})], at(-60))
    rules: dict[str, list[Entry]] = {
        night.patient: [*enrolled(night.patient, ["copd"], at(-30), spo2_scale=night.scale)] for night in ward
    }
    rules[ward[0].patient].insert(0, first)
    return rules


WARDS = [nights(WARD, seed, START) for seed in SEEDS]


@functools.cache
def over_all(rules: RuleSet) -> Score:
    return total([result(ward, rules(ward)) for ward in WARDS])


def test_plain_limits_tell_everything_and_cry_wolf() -> None:
    found = over_all(plain)
    assert found.sustained > 100
    assert found.sensitivity >= 0.97
    assert found.pages_per_night > 60
    assert found.precision < 0.1
    assert found.worst_share > 0.2, "alarms cluster: a tenth of the patients has far more than a tenth"


@pytest.mark.parametrize(
    ("rules", "sensitivity", "precision", "fewer"), [(patient_limits, 0.9, 0.15, 10), (strict_limits, 0.85, 0.8, 40)]
)
def test_a_delay_and_a_deadband_save_pages_and_cost_little(
    rules: RuleSet, sensitivity: float, precision: float, fewer: int
) -> None:
    found, control = over_all(rules), over_all(plain)
    assert found.sensitivity >= sensitivity
    assert found.precision >= precision
    assert found.pages * fewer <= control.pages
    assert found.false * fewer <= control.false


def test_the_copd_protocol_tells_sustained_desaturations_and_little_else() -> None:
    """P1 of clinical.md 4.4 against plain limits at the same levels: none missed that the device measured."""
    found, control = over_all(copd), over_all(plain)
    seen = total([score(watched(ward, copd(ward)), ward, level, seen_only=True) for ward in WARDS])
    assert seen.sustained > 100
    assert seen.found == seen.sustained
    assert found.precision >= 0.5, "clinical.md 5.2: half of the S1 pages are worth it"
    assert found.pages * 20 <= control.pages
    assert found.false * 100 <= control.false


def test_what_lasts_for_two_minutes_is_seldom_missed() -> None:
    """Missed are those that the device slept through, and shallow ones: one noisy reading restarts the delay."""
    scores = [score(watched(ward, strict_limits(ward)), ward, level, sustained_ns=2 * MINUTE_NS) for ward in WARDS]
    assert total(scores).sensitivity > max(0.9, over_all(strict_limits).sensitivity)


def test_a_sample_a_minute_sees_the_same_truth_and_pages_less() -> None:
    ward = nights(WARD, SEEDS[0], START, oximeter=Oximeter(interval_s=60))
    found, by_the_second = result(ward, plain(ward)), result(WARDS[0], plain(WARDS[0]))
    assert found.sustained == by_the_second.sustained
    assert 0.9 * found.sustained <= found.found <= by_the_second.found
    assert 5 * found.pages < by_the_second.pages
    assert found.precision < 0.5, "whatever the interval, one low sample is no desaturation"


class TestScorer:
    """One night with a desaturation from second 1000 to 1100 and a dip from 2000 to 2020."""

    SPELLS = ((1000, 1100), (2000, 2020))

    def night(self) -> Night:
        (night,) = nights(1, 1, START, hours=1.0)
        night.saturation[:] = 95.0
        for begin, end in self.SPELLS:
            night.saturation[begin:end] = 80.0
        return night

    def event(self, seconds: float, state: AlertState, *, page: bool = True, alert: str = "a_1") -> AlertEvent:
        return AlertEvent(
            id="e", alert=alert, number=0, kind="k", at_ns=at(seconds), patient="p_0", rule="r", rule_version=1,
            severity=Severity.S2, state=state, page=page,
        )  # fmt: skip

    def told(self, *pairs: tuple[float, float]) -> Score:
        events = [
            self.event(seconds, state, alert=f"a_{number}")
            for number, pair in enumerate(pairs)
            for seconds, state in zip(pair, (AlertState.ACTIVE_UNACK, AlertState.RESOLVED), strict=True)
        ]
        return score(events, [self.night()], lambda night: 91)

    def test_the_truth_of_the_night(self) -> None:
        assert self.night().below(91) == [Spell("p_0", 91, at(begin), at(end)) for begin, end in self.SPELLS]

    @pytest.mark.parametrize(
        ("begins", "ends", "found", "brief", "false"),
        [
            (1000, 1001, 1, 0, 0),
            (1160, 1170, 1, 0, 0),
            (1160.5, 1170, 0, 0, 1),
            (900, 1000.5, 1, 0, 0),
            (900, 1000, 0, 0, 1),
            (2010, 2030, 0, 1, 0),
            (2081, 2090, 0, 0, 1),
            (1050, 2010, 1, 0, 0),
        ],
    )
    def test_an_alert_against_the_truth(self, begins: float, ends: float, found: int, brief: int, false: int) -> None:
        result = self.told((begins, ends))
        assert result == Score(1, 1, found, 1, brief, false, 1.0)
        assert result.sensitivity == found
        assert result.precision == 1 - brief - false

    def test_two_alerts_in_one_desaturation_find_it_once_and_page_twice(self) -> None:
        result = self.told((1010, 1020), (1030, 1040))
        assert (result.found, result.pages, result.pages_per_night) == (1, 2, 2.0)

    def test_silence_is_no_success(self) -> None:
        assert self.told() == Score(1, 1, 0, 0, 0, 0, 0.0)
        assert self.told().sensitivity == 0.0

    @pytest.mark.parametrize("rule", ["silence:spo2", "technical:battery:d", "review:copd:P1-red"])
    def test_what_is_about_the_means_of_monitoring_is_no_page(self, rule: str) -> None:
        event = msgspec.structs.replace(self.event(1, AlertState.ACTIVE_UNACK), rule=rule)
        assert standings([event]) == []

    def test_what_suppressors_save_is_not_the_rules_doing(self) -> None:
        quiet = self.event(1, AlertState.ACTIVE_UNACK, page=False)
        assert standings([quiet]) == [Standing("p_0", "r", at(1), 2**63 - 1)]

    def test_an_alert_stands_whatever_people_do_until_its_condition_is_over(self) -> None:
        states = [AlertState.ACTIVE_UNACK, AlertState.SHELVED, AlertState.ACTIVE_UNACK, AlertState.ACTIVE_ACK]
        events = [self.event(second, state) for second, state in enumerate(states)]
        latched = self.event(9, AlertState.RTN_UNACK)
        again = self.event(12, AlertState.ACTIVE_UNACK)
        assert standings([*events, latched, again]) == [
            Standing("p_0", "r", at(0), at(9)), Standing("p_0", "r", at(12), 2**63 - 1),
        ]  # fmt: skip
