"""The machine's clock is moved, in either direction; no test waits."""

import pytest

from vitals.steady import SETTLE_NS, STEP_NS, ClockStep, SteadyClock, uptime_ns
from vitals.times import HOUR_NS, SECOND_NS

START_NS = 1_700_000_000 * SECOND_NS
BOTH = pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS, STEP_NS, -STEP_NS, 366 * 24 * HOUR_NS])


class Machine:
    """Two clocks that go on together until somebody moves one."""

    def __init__(self) -> None:
        self.up_ns, self.moved_ns = 0, 0

    def wall_ns(self) -> int:
        return START_NS + self.up_ns + self.moved_ns

    def clock(self, *, follows: bool = True) -> SteadyClock:
        return SteadyClock(self.wall_ns, lambda: self.up_ns, follows=follows)

    def passes(self, time_ns: int) -> None:
        self.up_ns += time_ns


@BOTH
def test_time_goes_on_over_a_step_until_it_has_settled(step_ns: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.moved_ns = step_ns
    for _ in range(600):
        assert clock.now_ns() == START_NS + machine.up_ns
        machine.passes(SECOND_NS)
    assert clock.now_ns() == machine.wall_ns()
    machine.passes(SECOND_NS)
    assert clock.now_ns() == machine.wall_ns()


@BOTH
def test_a_step_is_told_when_it_is_noticed_and_when_it_is_followed(step_ns: int) -> None:
    machine = Machine()
    clock = machine.clock(follows=False)
    assert clock.look() == []
    machine.moved_ns = step_ns
    assert clock.look() == [ClockStep(step_ns, False)]
    machine.passes(SETTLE_NS - 1)
    assert (clock.look(), clock.now_ns()) == ([], START_NS + machine.up_ns)
    machine.passes(1)
    assert clock.now_ns() == START_NS + machine.up_ns, "only a look follows it"
    assert (clock.look(), clock.now_ns()) == ([ClockStep(step_ns, True)], machine.wall_ns())
    assert clock.look() == []


def test_a_step_that_is_taken_back_changes_nothing() -> None:
    machine = Machine()
    clock = machine.clock(follows=False)
    machine.moved_ns = HOUR_NS
    clock.look()
    machine.passes(SETTLE_NS // 2)
    machine.moved_ns = SECOND_NS
    assert (clock.look(), clock.now_ns()) == ([ClockStep(0, True)], machine.wall_ns())
    machine.passes(SETTLE_NS)
    assert clock.look() == []


def test_another_step_begins_the_wait_anew() -> None:
    machine = Machine()
    clock = machine.clock(follows=False)
    machine.moved_ns = HOUR_NS
    clock.look()
    machine.passes(SETTLE_NS - 1)
    machine.moved_ns = 2 * HOUR_NS
    assert clock.look() == [ClockStep(2 * HOUR_NS, False)]
    machine.passes(SETTLE_NS - 1)
    assert clock.look() == []
    machine.passes(1)
    assert clock.look() == [ClockStep(2 * HOUR_NS, True)]


def test_the_slow_correction_of_a_time_service_is_followed() -> None:
    machine = Machine()
    clock = machine.clock(follows=False)
    for _ in range(10_000):
        machine.passes(SECOND_NS)
        machine.moved_ns += SECOND_NS // 2000
        assert clock.now_ns() == machine.wall_ns()
    assert machine.moved_ns > STEP_NS
    assert clock.look() == []


@BOTH
def test_it_says_when_other_processes_may_go_by_another_time(step_ns: int) -> None:
    machine = Machine()
    first, second = machine.clock(), machine.clock()
    assert not first.turning()
    machine.moved_ns = step_ns
    first.now_ns()
    machine.passes(2 * SECOND_NS)
    second.now_ns()
    assert not first.turning()
    machine.passes(SETTLE_NS - 2 * SECOND_NS)
    assert first.now_ns() - second.now_ns() == step_ns
    assert (first.turning(), second.turning()) == (True, True)
    machine.passes(60 * SECOND_NS)
    assert first.now_ns() == second.now_ns()
    machine.passes(60 * SECOND_NS)
    assert (first.turning(), second.turning()) == (False, False)


def test_uptime_never_moves_back() -> None:
    looks = [uptime_ns() for _ in range(100)]
    assert looks == sorted(looks)
