"""The server's own clock is moved: the same things are told after the same time, whichever way it was moved."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.alerts.alert_world import Ward, at, limit
from tests.alerts.bedside import Bedside, limits, urgent
from tests.ingest.ingest_world import World, reading
from tests.support import SECOND, FakeClock
from vitals.encoding import encode
from vitals.glossary import ControlKind, EventKind, Flag
from vitals.model import Control, DeviceEvent, Tick
from vitals.records import AlertEvent
from vitals.steady import MOVED, SETTLE_NS, SETTLED, SteadyClock
from vitals.times import HOUR_NS

STEPS = (3600, -3600, 86_400, -86_400)
RULE = "technical:server_clock"


class Told(Ward):
    """A ward whose clock is moved at some second of a story: by ``step`` seconds, or by none."""

    def __init__(self, *limits: dict[str, object]) -> None:
        super().__init__(*limits)
        self.now, self.step = 0.0, 0.0

    def until(self, seconds: float) -> None:
        """A tick every 20 s."""
        while self.now < seconds:
            self.now += min(20.0, seconds - self.now)
            self.tick(self.now + self.step)

    def moves(self, step: float) -> None:
        body = {"cause": "server_clock", "active": False, "since_ns": 0, "moved_s": step}
        self.step += step
        self.entry(Control(ControlKind.TECHNICAL, at(self.now + self.step), "gateway", body))

    def measures(self, value: float, *, flags: int = 0, vital: str = "spo2") -> None:
        self.read(self.now + self.step, value, flags=flags, vital=vital)


Story = Callable[[Told, Callable[[], None]], None]


def confirmation(ward: Told, moves: Callable[[], None]) -> None:
    """A doubtful S1 value that nothing refutes pages after 15 minutes."""
    ward.limits(limit(severity="S1"))
    ward.measures(80, flags=int(Flag.SUSPECT))
    ward.until(300)
    moves()
    ward.until(1200)


def ladder(ward: Told, moves: Callable[[], None]) -> None:
    """Nobody answers an S1."""
    ward.limits(limit(severity="S1"))
    ward.measures(80)
    ward.until(40)
    moves()
    ward.until(3000)


def on_delay(ward: Told, moves: Callable[[], None]) -> None:
    ward.limits(limit(severity="S1", on_delay_s=120.0))
    ward.measures(80)
    ward.until(60)
    moves()
    ward.until(300)


def silence(ward: Told, moves: Callable[[], None]) -> None:
    """A patient with limits who is not measured any more."""
    ward.limits(limit(vital="glucose_isf", unit="mg/dL", low=54.0, severity="S1"))
    ward.measures(97, vital="glucose_isf")
    ward.until(600)
    moves()
    ward.until(5000)


def told(story: Story, step: float) -> Told:
    ward = Told()
    ward.until(20)
    story(ward, lambda: ward.moves(step) if step else None)
    return ward


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("story", [confirmation, ladder, on_delay, silence])
def test_timers_neither_jump_nor_run_back(story: Story, step: float) -> None:
    as_usual = [one for one in told(story, 0).said if one.kind != "stale"]
    moved = [one for one in told(story, step).said if one.kind != "stale"]
    assert as_usual
    assert [(one.kind, one.rule, one.state) for one in moved] == [(one.kind, one.rule, one.state) for one in as_usual]
    after = int(step * SECOND)
    assert {(one.at_ns - usual.at_ns) for one, usual in zip(moved, as_usual, strict=True)} <= {0, after}
    assert moved[-1].at_ns - as_usual[-1].at_ns == after, "the last one came after the move"


@pytest.mark.parametrize("step", STEPS)
def test_a_snapshot_after_a_move_goes_on_alike(step: float) -> None:
    one, other = told(ladder, step), told(ladder, step)
    other.engine = type(other.engine).restore(one.engine.snapshot())
    assert other.engine.apply(10_000, Tick(at(9000 + step))) == one.engine.apply(10_000, Tick(at(9000 + step)))


@pytest.mark.parametrize(("step", "words"), [(3600, "3600 s ahead"), (-7.5, "8 s back")])
def test_a_move_is_one_alert_of_the_site_until_it_is_followed(step: float, words: str) -> None:
    ward = Ward()
    body = {"cause": "server_clock", "active": True, "since_ns": at(5), "moved_s": step}
    [raised] = ward.entry(Control(ControlKind.TECHNICAL, at(5), "gateway", body))
    assert (raised.patient, raised.rule, raised.kind) == ("", RULE, "raised")
    assert words in raised.text
    [over] = ward.entry(Control(ControlKind.TECHNICAL, at(605 + step), "gateway", body | {"active": False}))
    assert over.alert == raised.alert


class Machine(FakeClock):
    """The receipt clock of a machine whose wall clock is moved; a ``FakeClock`` for the world around it."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_ns = 0
        self.steady = SteadyClock(lambda: self.time_ns + self.moved_ns, lambda: self.time_ns, follows=False)

    def now_ns(self) -> int:
        return self.steady.now_ns()


class Moved(Bedside):
    """A bedside whose gateway tells of its clock at every heartbeat."""

    @property
    def machine(self) -> Machine:
        assert isinstance(self.world.clock, Machine)
        return self.world.clock

    def look(self) -> list[AlertEvent]:
        for step in self.machine.steady.look():
            event = DeviceEvent("", EventKind.SERVER_CLOCK, self.machine.now_ns(),
                                SETTLED if step.settled else MOVED, step.moved_ns / SECOND)  # fmt: skip
            self.world.raw.append([("clock", encode([event]))])
        return self._fold()

    def true_spo2(self, value: float) -> list[AlertEvent]:
        """By a device whose clock is right."""
        return self.send(json.dumps(reading("spo2", value, "%", self.machine.time_ns)).encode())


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Moved]:
    world = World(tmp_path, clock=Machine())
    try:
        yield Moved(world, limits("limits"))
    finally:
        world.close()


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
def test_nobody_is_late_or_ahead_while_a_move_settles(bed: Moved, step_ns: int) -> None:
    bed.true_spo2(97)
    bed.wait(20)
    bed.machine.moved_ns = step_ns
    assert [one.rule for one in bed.look()] == [RULE]
    assert urgent(bed.true_spo2(70)), "a right clock is believed"
    assert bed.flags() == Flag(0)
    assert not bed.world.service.device_state("json-1").faults
    bed.wait(SETTLE_NS / SECOND)
    [over] = bed.look()
    assert (over.rule, over.state.value) == (RULE, "resolved")
    assert bed.machine.now_ns() == bed.machine.time_ns + step_ns
    bed.wait(20)
    assert bed.world.service.processed().watermark_ns == bed.machine.now_ns(), "what was processed moves along"


def test_a_move_that_is_taken_back_is_no_more_than_told(bed: Moved) -> None:
    bed.true_spo2(97)
    bed.machine.moved_ns = HOUR_NS
    bed.look()
    bed.wait(60)
    bed.machine.moved_ns = 0
    assert [one.rule for one in bed.look()] == [RULE]
    assert bed.machine.now_ns() == bed.machine.time_ns
    assert urgent(bed.true_spo2(70))
