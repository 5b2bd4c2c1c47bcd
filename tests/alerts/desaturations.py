"""How well alerts tell of true desaturations: the scorer, and a ward of noisy nights folded through an engine.

A *page* is the moment at which an alert's condition begins to be told: an event that takes an alert from not being told
(or over) to being told. What suppressors save of them is not counted here: it is the rules that are compared. An alert
*stands* from a page until its condition is over, whatever people do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from alerts.engine import Engine
from simulators.oximetry import LATENCY_NS, Night, Spell, minutes
from vitals.glossary import AlertState, AlertStep
from vitals.model import Entry, Tick
from vitals.records import AlertEvent
from vitals.times import MINUTE_NS

SUSTAINED_NS = 60 * 1_000_000_000
GRACE_NS = 60 * 1_000_000_000
"""An alert may come this long after the desaturation is over."""
_TOLD = frozenset({AlertState.ACTIVE_UNACK, AlertState.ACTIVE_ACK, AlertState.SHELVED, AlertState.SUPPRESSED})
_TECHNICAL = ("silence:", "technical:", "review:")
"""Rules about the means of monitoring: they say nothing of the patient's saturation."""
_FOREVER = 2**63 - 1


class Standing(NamedTuple):
    """One alert as it was told from ``from_ns`` to ``to_ns``."""

    patient: str
    rule: str
    from_ns: int
    to_ns: int


class Score(NamedTuple):
    """Counts over ``nights`` patient-nights. ``sustained`` true desaturations that lasted, ``found`` those of them
    that an alert told of; ``pages`` in all, of which ``brief`` came in a true desaturation that was shorter and
    ``false`` in none. ``worst_share`` is that of the pages which the tenth of the patients with the most of them had.
    """

    nights: int
    sustained: int
    found: int
    pages: int
    brief: int
    false: int
    worst_share: float

    @property
    def sensitivity(self) -> float:
        """Share of the sustained desaturations that were told."""
        return self.found / self.sustained if self.sustained else 1.0

    @property
    def pages_per_night(self) -> float:
        """Of one patient."""
        return self.pages / self.nights

    @property
    def precision(self) -> float:
        """Share of the pages that came in a sustained desaturation."""
        return 1.0 - (self.brief + self.false) / self.pages if self.pages else 1.0


def standings(events: Iterable[AlertEvent]) -> list[Standing]:
    """When which alert was told, in order of its beginning."""
    began: dict[str, AlertEvent] = {}
    found: list[Standing] = []
    for event in events:
        before = began.get(event.alert)
        if event.rule.startswith(_TECHNICAL):
            continue
        if event.state in _TOLD and before is None:
            began[event.alert] = event
        elif (event.state not in _TOLD or event.kind == AlertStep.HELD) and before is not None:
            found.append(Standing(before.patient, before.rule, before.at_ns, event.at_ns))
            del began[event.alert]
    found += [Standing(one.patient, one.rule, one.at_ns, _FOREVER) for one in began.values()]
    return sorted(found, key=lambda one: (one.from_ns, one.patient, one.rule))


def score(
    events: Iterable[AlertEvent], nights: Sequence[Night], level_of: Callable[[Night], int], *,
    sustained_ns: int = SUSTAINED_NS, seen_only: bool = False,
) -> Score:  # fmt: skip
    """Alerts against the truth at each patient's level.

    A desaturation of ``sustained_ns`` or more is found when an alert of its patient stands in it, or begins up to 60 s
    after it. One that the device slept through counts as missed, unless ``seen_only``.
    """
    told: dict[str, list[Standing]] = {night.patient: [] for night in nights}
    for one in standings(events):
        told[one.patient].append(one)
    spells = {night.patient: night.below(level_of(night)) for night in nights}
    by_patient = {night.patient: night for night in nights}
    long = [
        spell for own in spells.values() for spell in own
        if _length_ns(spell) >= sustained_ns and not (seen_only and _unseen(by_patient[spell.patient], spell))
    ]  # fmt: skip
    found = sum(any(_tells(one, spell) for one in told[spell.patient]) for spell in long)
    lengths = [
        max((_length_ns(spell) for spell in spells[patient] if _tells(one, spell)), default=0)
        for patient, own in told.items()
        for one in own
    ]
    counts = sorted((len(own) for own in told.values()), reverse=True)
    worst = sum(counts[: -(-len(counts) // 10)])
    return Score(
        nights=len(nights), sustained=len(long), found=found, pages=len(lengths),
        brief=sum(0 < length < sustained_ns for length in lengths), false=lengths.count(0),
        worst_share=worst / max(len(lengths), 1),
    )  # fmt: skip


def _unseen(night: Night, spell: Spell) -> bool:
    """Whether the device was off for so much of it that less than a minute was measured."""
    times = night.time_ns[(night.time_ns >= spell.start_ns) & (night.time_ns <= spell.end_ns)]
    return len(times) < 2 or int(times[-1] - times[0]) < SUSTAINED_NS - 2 * LATENCY_NS


def _length_ns(spell: Spell) -> int:
    return spell.end_ns - spell.start_ns


def _tells(one: Standing, spell: Spell) -> bool:
    return one.from_ns <= spell.end_ns + GRACE_NS and one.to_ns > spell.start_ns


def total(scores: Sequence[Score]) -> Score:
    """Of several wards as one; ``worst_share`` is their mean."""
    counts = (sum(column) for column in zip(*(one[:-1] for one in scores), strict=True))
    return Score(*counts, worst_share=sum(one.worst_share for one in scores) / len(scores))


def watched(nights: Sequence[Night], rules: Mapping[str, Sequence[Entry]]) -> list[AlertEvent]:
    """Everything that an engine says over the nights; ``rules`` are the entries that set up each patient.

    A tick a minute: with a reading a second, delays elapse by readings.
    """
    engine, events = Engine(), list[AlertEvent]()

    def fold(entry: Entry) -> None:
        events.extend(engine.apply(engine.position + 1, entry).events)

    for night in nights:
        for entry in rules[night.patient]:
            fold(entry)
    for number, batch in enumerate(minutes(nights)):
        fold(batch)
        fold(Tick(nights[0].start_ns + (number + 1) * MINUTE_NS - LATENCY_NS))
    return events
