"""Run a backtest: the alert engine over stored readings, in order of arrival.

The readings go through the same :class:`~alerts.engine.Engine` that watches patients, under the rules of a
:class:`RuleSet`, with a tick every ``TICK_NS`` of arrival time. Nobody acknowledged these alerts, so the replay does,
in a person's place, ``ANSWERED_AFTER_NS`` after each one spoke: otherwise S1, which latches, would be one alert for
ever. Equal readings and rules give equal outcomes, however the readings were cut into batches.
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from alerts.cases.lifecycle import CONFIRM_SUFFIX
from alerts.engine import Engine
from alerts.judging.silence import LONGEST_BEAT_NS
from vitals.catalog import CODE_SPACE
from vitals.errors import InvalidRequest
from vitals.glossary import NOT_SCORED, TELLING, AlertState, Basis, ControlKind, Flag, Severity, Statistic
from vitals.model import COLUMNS, Control, Entry, Tick, VitalBatch
from vitals.records import AlertEvent
from vitals.times import DAY_NS, MINUTE_NS, NO_TIME

TICK_NS: Final = LONGEST_BEAT_NS
"""The longest pause between ticks that silence does not take for an outage of the pipeline."""
ANSWERED_AFTER_NS: Final = 60 * 1_000_000_000
MOST_ALERTS: Final = 200_000
"""Of one rule set; more are no alerts that anybody could read, and are refused."""
LAST_WORDS_NS: Final = 20 * 60 * 1_000_000_000
"""How long after the last reading rules may speak at least: an extreme that is doubted waits 15 minutes for a second
reading (clinical.md 1.3)."""
AUTHOR: Final = "backtest"
_IN_ALARM: Final = frozenset(
    {AlertState.ACTIVE_UNACK, AlertState.ACTIVE_ACK, AlertState.SHELVED, AlertState.SUPPRESSED}
)
_WANTS_ANSWER: Final = frozenset({AlertState.ACTIVE_UNACK, AlertState.RTN_UNACK})
_HISTORY: Final = Flag.LATE | Flag.REPLAYED | Flag.REVISION


class Watched(NamedTuple):
    """A rule of a patient and what it reads: of each of ``vitals`` one (catalogue codes)."""

    patient: str
    rule: str
    vitals: tuple[tuple[int, ...], ...]


class RuleSet(NamedTuple):
    """Rules as the control entries that put them in force. ``gated``: (patient, rule, why it does not apply).

    ``longest_delay_ns`` is how long after the last reading a rule may still speak, ``history_ns`` how much history the
    rules need before they can judge, ``silences`` the rules about readings that do not come.
    """

    name: str
    controls: tuple[Control, ...]
    watched: tuple[Watched, ...] = ()
    gated: tuple[tuple[str, str, str], ...] = ()
    longest_delay_ns: int = 0
    history_ns: int = 0
    silences: tuple[str, ...] = ()


class Span(NamedTuple):
    """Alerts that are raised in ``start_ns <= time < end_ns`` count; readings from ``from_ns`` on prepare them.

    ``whole``: nothing is known of a patient after the last reading, as in a file; silence is not told from there on.
    """

    start_ns: int
    end_ns: int
    from_ns: int
    whole: bool = False


class Raised(msgspec.Struct, array_like=True):
    """One alert of a replay. ``severity`` is the highest that it had, ``ended_ns`` None while it held at the end.

    ``text`` is its sentence when it was last told, ``history`` (time, severity, sentence) of each telling in order.
    ``pages`` counts calls because it began, came back or got worse, ``repeats`` those because nobody did anything,
    ``promotions`` those that became S1 because no second reading came. ``read_ns`` is the time of the newest reading
    behind it, ``silent`` that it is about readings that do not come. ``alarm_ns`` is the time from raised to ended, all
    its episodes together; ``family`` what it is about, for comparing.
    """

    patient: str
    rule: str
    family: str
    severity: int
    raised_ns: int
    text: str
    pages: int = 0
    repeats: int = 0
    episodes: int = 0
    alarm_ns: int = 0
    ended_ns: int | None = None
    since_ns: int | None = None
    asked: bool = False
    promotions: int = 0
    read_ns: int = NO_TIME
    silent: bool = False
    history: list[tuple[int, int, str]] = msgspec.field(default_factory=list)


class RuleSetOutcome(msgspec.Struct, array_like=True):
    """What one rule set said: alerts in the order they were raised, near misses by patient and rule, entries folded."""

    name: str
    alerts: list[Raised]
    near_misses: dict[str, dict[str, int]]
    entries: int


def family_of(event: AlertEvent) -> str:
    """What an alert is about, whatever rule raised it: ``spo2 low``; else its rule id."""
    if event.limit.get("vital"):
        return f"{event.limit['vital']} {event.limit.get('side', '')}".rstrip()
    return event.rule.removesuffix(CONFIRM_SUFFIX)


def part(batch: VitalBatch, start: int, end: int) -> VitalBatch:
    """Rows ``start`` to ``end``, columns shared where there is no context."""
    if batch.context:
        return batch.take(np.arange(start, end))
    columns: dict[str, Any] = {name: getattr(batch, name)[start:end] for name in COLUMNS}
    return VitalBatch(batch.devices, batch.patients, **columns)


def as_measured(batch: VitalBatch) -> VitalBatch:
    """The readings as if each had come when it was measured, in the order of that."""
    flags = batch.flags & ~np.uint32(_HISTORY)
    order = np.lexsort((batch.seq, batch.message, batch.time_ns))
    return batch.replace(received_ns=batch.time_ns, flags=flags).take(order)


class RuleSetReplay:
    """One rule set over readings. Feed every batch in order of arrival, then ``finish`` once.

    Raises:
        InvalidRequest: the rules raise more than ``MOST_ALERTS``.
    """

    def __init__(self, rules: RuleSet, span: Span, patients: Collection[str]) -> None:
        self._rules, self._span, self._patients = rules, span, tuple(patients)
        self._engine = Engine()
        self._engine.warm()
        self._alerts: dict[str, Raised] = {}
        self._answers: list[tuple[int, str]] = []
        self._before: dict[str, dict[str, int]] = {}
        self._silences = frozenset(rules.silences)
        self._heard_ns: dict[str, int] = {}
        self._started, self._over = span.from_ns >= span.start_ns, False
        self._next_tick_ns = span.from_ns // TICK_NS * TICK_NS
        self._now_ns = self._next_tick_ns
        for control in rules.controls:
            self._apply(control)

    def feed(self, batch: VitalBatch) -> None:
        """Readings in order of arrival; raises ``ValueError`` when one comes before what was judged already."""
        if not len(batch):
            return
        beat = batch.received_ns // TICK_NS
        if beat[0] * TICK_NS < self._next_tick_ns - TICK_NS or (np.diff(batch.received_ns) < 0).any():
            raise ValueError("readings are not in order of arrival")
        starts = [0, *(np.flatnonzero(np.diff(beat)) + 1).tolist(), len(batch)]
        for number, start in enumerate(starts[:-1]):
            self._pass(int(beat[start]) * TICK_NS)
            self._apply(part(batch, start, starts[number + 1]))
        if self._span.whole:
            there = batch.patient >= 0
            last = np.full(len(batch.patients), NO_TIME, dtype=np.int64)
            np.maximum.at(last, batch.patient[there], batch.received_ns[there])
            self._heard_ns.update((one, int(at)) for one, at in zip(batch.patients, last, strict=True) if at > NO_TIME)

    def finish(self) -> RuleSetOutcome:
        """Let every delay elapse that began before the end."""
        end_ns = self._span.end_ns
        self._pass(end_ns)
        near = {patient: self._engine.near_misses_by_rule(patient) for patient in self._patients}
        self._over = True
        self._pass(end_ns + max(self._rules.longest_delay_ns, LAST_WORDS_NS) + TICK_NS)
        alerts = [one for one in self._alerts.values() if one.raised_ns >= self._span.start_ns and self._known(one)]
        for one in alerts:
            if one.since_ns is not None:
                one.alarm_ns += max(0, end_ns - one.since_ns)
        missed = {patient: _since(found, self._before.get(patient, {})) for patient, found in near.items()}
        kept = {patient: found for patient, found in missed.items() if found}
        return RuleSetOutcome(self._rules.name, alerts, kept, self._engine.position)

    def _known(self, one: Raised) -> bool:
        """Whether readings tell of it: in a file a silence behind a patient's last one is the end of the file."""
        return not (self._span.whole and one.silent) or one.raised_ns < self._heard_ns.get(one.patient, NO_TIME)

    def _pass(self, until_ns: int) -> None:
        """Every tick up to ``until_ns``."""
        while self._next_tick_ns <= until_ns:
            self._now_ns = self._next_tick_ns
            if not self._started and self._now_ns >= self._span.start_ns:
                self._started = True
                self._before = {one: self._engine.near_misses_by_rule(one) for one in self._patients}
            self._answer()
            self._apply(Tick(self._now_ns))
            self._next_tick_ns += TICK_NS

    def _answer(self) -> None:
        while self._answers and self._answers[0][0] <= self._now_ns:
            _, alert = heapq.heappop(self._answers)
            self._alerts[alert].asked = False
            self._apply(Control(ControlKind.ACKNOWLEDGE, self._now_ns, AUTHOR, {"alert": alert}))

    def _apply(self, entry: Entry) -> None:
        for event in self._engine.apply(self._engine.position + 1, entry).events:
            self._hear(event)

    def _hear(self, event: AlertEvent) -> None:
        found = self._alerts.get(event.alert)
        fresh = found is None
        if found is None:
            silent = event.rule in self._silences or event.rule.startswith("silence:")
            if self._over and silent:
                # Nothing is known of what came after the end.
                return
            if len(self._alerts) >= MOST_ALERTS:
                raise InvalidRequest("protocol", f"raises more than {MOST_ALERTS} alerts: take fewer patients or days")
            rule = event.rule.removesuffix(CONFIRM_SUFFIX)
            found = Raised(event.patient, rule, family_of(event), int(event.severity), event.at_ns, event.text)
            found.silent = silent
            self._alerts[event.alert] = found
        worse = event.severity < found.severity
        if event.kind in TELLING:
            self._tell(found, event, worse)
        found.severity = min(found.severity, int(event.severity))
        begins = fresh or worse or (found.since_ns is None and not self._over)
        if event.page and event.state is AlertState.ACTIVE_UNACK:
            found.pages += begins
            found.repeats += not (begins or self._over)
        self._time(found, event)
        if event.state in _WANTS_ANSWER and not found.asked:
            found.asked = True
            heapq.heappush(self._answers, (max(event.at_ns, self._now_ns) + ANSWERED_AFTER_NS, event.alert))

    @staticmethod
    def _tell(found: Raised, event: AlertEvent, worse: bool) -> None:
        """Note what is said now. Worse without a newer reading: time alone made it S1."""
        read_ns = max((value["time_ns"] for value in event.values), default=NO_TIME)
        found.promotions += worse and event.severity == Severity.S1 and read_ns <= found.read_ns
        found.read_ns, found.text = max(found.read_ns, read_ns), event.text
        found.history.append((event.at_ns, int(event.severity), event.text))

    def _time(self, found: Raised, event: AlertEvent) -> None:
        """Count the time between raised and ended; after the end of the readings nothing ends."""
        if event.state in _IN_ALARM and found.since_ns is None:
            found.episodes += 1
            found.since_ns, found.ended_ns = event.at_ns, None
        elif event.state not in _IN_ALARM and found.since_ns is not None and not self._over:
            found.alarm_ns += max(0, event.at_ns - found.since_ns)
            found.since_ns, found.ended_ns = None, event.at_ns


def _since(counts: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """What was counted after ``before``."""
    return {rule: count - before.get(rule, 0) for rule, count in counts.items() if count > before.get(rule, 0)}


class PatientData(msgspec.Struct, array_like=True):
    """Readings of one patient in the period; ``days`` are days of the patient's calendar with any of them."""

    readings: int = 0
    days: set[int] = msgspec.field(default_factory=set)
    vitals: set[int] = msgspec.field(default_factory=set)


class Coverage:
    """Counts the readings that a replay judges, and why others were not judged."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.patients: dict[str, PatientData] = {}
        self.readings = self.judged = self.late = 0
        self.unjudged: dict[str, int] = {}

    def feed(self, batch: VitalBatch) -> None:
        """Readings of the period itself; those that prepare it are passed over."""
        rows = (batch.received_ns >= self._span.start_ns) & (batch.patient >= 0)
        if not rows.all():
            batch = batch.take(rows)
        if not len(batch):
            return
        self.readings += len(batch)
        self._judge(batch)
        seen_ns = np.where(
            (batch.basis == Basis.UNKNOWN) | (batch.time_ns == NO_TIME), batch.received_ns, batch.time_ns
        )
        day = (seen_ns + batch.tz_min.astype(np.int64) * MINUTE_NS) // DAY_NS
        key = (batch.patient.astype(np.int64) << 32) + ((day + (1 << 24)) << 7) + batch.vital
        assert CODE_SPACE < 1 << 7
        for packed, count in zip(*(column.tolist() for column in np.unique(key, return_counts=True)), strict=True):
            found = self.patients.setdefault(batch.patients[packed >> 32], PatientData())
            found.readings += count
            found.days.add((packed & 0xFFFFFFFF) >> 7)
            found.vitals.add(packed & 0x7F)

    def _judge(self, batch: VitalBatch) -> None:
        history = batch.flags & np.uint32(NOT_SCORED)
        untimed = (batch.basis == Basis.DAY) | (batch.basis == Basis.UNKNOWN)
        interval = batch.statistic != Statistic.SINGLE
        self.judged += int((~((history != 0) | untimed | interval)).sum())
        self.late += int((batch.flags & np.uint32(Flag.LATE | Flag.REPLAYED) != 0).sum())
        words = {str(flag.name).lower(): batch.flags & np.uint32(flag) != 0 for flag in Flag if flag & NOT_SCORED}
        for word, mask in {**words, "no_time": untimed, "not_single": interval}.items():
            if count := int(mask.sum()):
                self.unjudged[word] = self.unjudged.get(word, 0) + count


def lockstep(
    batches: Iterable[VitalBatch], coverage: Coverage, replays: Collection[RuleSetReplay]
) -> list[RuleSetOutcome]:
    """One pass over the readings for all replays, in this process."""
    for batch in batches:
        coverage.feed(batch)
        for replay in replays:
            replay.feed(batch)
    return [replay.finish() for replay in replays]
