"""Two devices at one patient: a severe value that the other device's newer one overtook on its way is not lost."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.bedside import CONTINUOUS, RULE_SETS, Bedside, urgent
from tests.alerts.test_wrong_clocks import reviews
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND
from vitals.catalog import BY_KEY
from vitals.records import AlertEvent


class Pair(Bedside):
    """A patient with a second device of the same kind."""

    def __init__(self, path: Path, rules: str = "limits") -> None:
        super().__init__(World(path), next(one for one in RULE_SETS if one.name == rules))
        self.world.device("json-2")
        self.world.registry.assign("json-2", self.patient, from_ns=None, to_ns=None)

    def spo2_of(self, device: int, *values: tuple[float, float]) -> list[AlertEvent]:
        """One message of device 1 or 2: (value, seconds before its arrival) of each reading."""
        now_ns = self.world.clock.now_ns()
        rows = [reading("spo2", value, "%", now_ns - int(age_s * SECOND)) for value, age_s in values]
        self.world.send(self.world.message(f"json-{device}", json.dumps(rows).encode()))
        return self._fold()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.world.close()


@pytest.mark.parametrize("age_s", [3.0, 10.0, 60.0, 290.0])
def test_a_severe_value_pages_although_another_device_is_newer(pair: Pair, age_s: float) -> None:
    assert not pair.spo2_of(1, (97, 0))
    pair.wait(1)
    assert urgent(pair.spo2_of(2, (70, age_s)))


def test_what_is_older_than_the_newest_value_ends_nothing(pair: Pair) -> None:
    pair.spo2_of(1, (97, 0))
    pair.wait(2)
    assert urgent(pair.spo2_of(2, (70, 10)))
    assert not pair.spo2_of(1, (97, 5)), "newer than the severe value, older than the newest one"
    pair.wait(2)
    assert "returned" in [one.kind for one in pair.spo2_of(2, (97, 0))]


def test_a_value_that_is_told_is_not_told_again(pair: Pair) -> None:
    assert urgent(pair.spo2_of(1, (71, 0)))
    pair.wait(1)
    assert not pair.spo2_of(2, (70, 10))


def test_older_members_of_a_message_are_history(pair: Pair) -> None:
    events = pair.spo2_of(1, (97, 0), (70, 3), (69, 6))
    assert not urgent(events)
    [review] = reviews(events)
    assert review.text.endswith("(low): a newer value was known when it came, so it does not page by itself")


def test_the_newest_member_of_a_message_counts_wherever_it_stands(pair: Pair) -> None:
    pair.spo2_of(1, (97, 0))
    pair.wait(1)
    events = pair.spo2_of(2, (69, 6), (96, 4), (97, 8))
    assert not urgent(events)
    assert len(reviews(events)) == 1
    assert urgent(pair.spo2_of(2, (97, 8), (70, 3), (96, 5)))


def test_a_value_older_than_the_paging_age_is_reviewed(pair: Pair) -> None:
    pair.spo2_of(1, (97, 0))
    events = pair.spo2_of(2, (70, BY_KEY["spo2"].paged_ns(polled=False) / SECOND + 1))
    assert not urgent(events)
    assert len(reviews(events)) == 1


@pytest.mark.parametrize("rules", ["delayed limits", CONTINUOUS])
@pytest.mark.parametrize("ahead_s", [360.0, 86_400.0])
def test_a_severe_run_pages_beside_a_device_whose_clock_is_wrong(tmp_path: Path, rules: str, ahead_s: float) -> None:
    """The wrong clock's values stand at their arrival, so that those of the other device are always older."""
    pair, told = Pair(tmp_path, rules), list[AlertEvent]()
    pages = pair.rules.expects("spo2", "below")
    for _ in range(int(pages.within_s // 10) + 3):
        pair.spo2_of(1, (97, -ahead_s))
        told += pair.spo2_of(2, (78, 20)) + pair.wait(10)
    assert urgent(told)
    pair.world.close()


def test_a_severe_run_outvotes_the_odd_value_of_another_device(tmp_path: Path) -> None:
    """A median takes in what another device overtook, at its place in time."""
    pair, told = Pair(tmp_path, CONTINUOUS), list[AlertEvent]()
    for number in range(40):
        if number % 6 == 0:
            pair.spo2_of(1, (97, 0))
        told += pair.spo2_of(2, (78, 15)) + pair.wait(10)
    assert urgent(told)
    pair.world.close()
