"""The contract between protocols and engine: the kernels' numbers of a rule, and its words for people.

Protocols and limits are compiled into :class:`Compiled` for one patient's context; equal specs are one row of the rule
table, however many patients have them.
"""

from enum import IntEnum
from typing import Final, NamedTuple

from vitals.times import HOUR_NS

REVIEW_AGE_NS: Final = 72 * HOUR_NS
"""An urgent value that arrives too late to page becomes a person's task if it was measured no longer ago than this; an
older one is history."""


class Kind(IntEnum):
    """What a rule compares; append-only: it is in snapshots."""

    LIMIT = 0
    """The value itself, or the median of the last ``median_of``."""
    RATE = 1
    """Least-squares slope per minute over ``window_ns`` (clinical.md 3.2)."""
    FORECAST = 2
    """The value that the slope leads to ``a`` minutes ahead (clinical.md 3.5); only while the value is beyond ``b`` and
    the slope beyond ``c`` on the rule's side. A slope beyond ``steep`` raises on one evaluation (0: none does)."""
    DEVIATION = 3
    """The value against the patient's usual one at this hour of the day; ``op`` is an :class:`Op`."""
    TREND = 4
    """Over days of the patient's calendar; ``op`` is an :class:`Op`."""
    STUCK = 5
    """Minutes for which the value has not changed at all."""
    FAULT = 6
    """1 where the reading is implausible or the device reports a sensor fault, else 0."""
    SCORE = 7
    """A score; a row with ``Flag.ESTIMATED`` is the certain floor of one that lacks parts: it raises, never clears."""
    COMBINATION = 8
    """All members true within ``window_ns`` of each other."""


class Op(IntEnum):
    """How a DEVIATION or TREND is measured; append-only. ``n`` is ``window_ns`` in days."""

    NONE = 0
    DIFFERENCE = 1
    """DEVIATION: value minus usual value."""
    RATIO = 2
    """DEVIATION: value over usual value."""
    ROBUST_Z = 3
    """DEVIATION: difference in robust standard deviations; ``a`` is the least spread (device noise)."""
    CHANGE = 4
    """TREND: today's value minus that of ``n`` days before."""
    MEAN = 5
    """TREND: mean of the last ``n`` days without the first of them; at least ``a`` readings on ``b`` days."""
    BELOW_MEAN_SD = 6
    """TREND: (value - mean) / SD of the ``n`` days before."""
    FRACTION = 7
    """TREND: yesterday's value over that of the first day on record."""
    SHARE_BELOW = 8
    """TREND: percent of the readings of the last ``n`` days under ``a``; only with at least ``b`` readings."""


class RuleSpec(NamedTuple):
    """The parameters of one rule, hashable; times in nanoseconds.

    ``side`` 0 low, 1 high (``limits.Side``); ``limit`` and ``deadband`` in ``unit`` (code of ``vitals.units``) as
    written. ``enter`` and ``leave`` are in the unit of what is measured (canonical; per minute for rates; canonical
    differences, ratios, SDs, percent for the others). ``inclusive``: reaching ``enter`` is enough. The condition holds
    after ``on_count`` readings beyond ``enter`` that are at least ``apart_ns`` from one another and ``on_delay_ns``
    after the first, and ends after ``off_count`` readings beyond ``leave`` and ``off_delay_ns``. ``sticky``: while it
    is pending only a reading beyond ``leave`` cancels it. ``patient_limit``: a person set it for this patient: doubt
    about one urgent sample is told at once; else, with a delay, it is told when the delay is over.
    Readings count from ``from_min`` to ``to_min`` of the patient's local day only (both 0: always; may pass midnight).

    The lines of urgency lie beyond ``enter`` on the same side; a value at a line is beyond it, and an infinite line is
    beyond every value. ``extreme`` pages at once, also in doubt: after ``extreme_of`` of five readings, or
    ``extreme_ns`` after the first. At ``arrest`` and beyond an implausible value does so too. ``lone``: a first reading
    beyond it becomes S1 when its repeat is not taken, another one S2.

    The condition also holds once ``often`` of the last ``often_of`` readings, ``often_ns`` or more from one another,
    are beyond ``enter`` (0: only without a break).
    """

    kind: int
    vital: int
    side: int
    severity: int
    unit: int
    limit: float
    deadband: float
    enter: float
    leave: float
    inclusive: int
    on_delay_ns: int
    on_count: int
    apart_ns: int
    off_delay_ns: int
    off_count: int
    staleness_ns: int
    continuous: int
    sticky: int
    patient_limit: int
    median_of: int
    op: int
    window_ns: int
    a: float
    b: float
    c: float
    from_min: int
    to_min: int
    extreme: float
    extreme_of: int
    extreme_ns: int
    arrest: float
    lone: float
    often: int = 0
    often_of: int = 0
    often_ns: int = 0
    steep: float = 0.0


class RuleFace(NamedTuple):
    """What people read of a rule, and who owns it. ``name`` is the rule id of alerts: ``copd:P1-red``.

    ``cause`` groups alerts of a patient into incidents (``oxygenation``, ``glucose``, ...). ``role`` is the owner,
    ``sla_s`` how long it may wait for a person; ``recheck_s`` when a spot-measured alert that was acknowledged
    asks for a new measurement. ``technical``: about the means of monitoring, not the patient. ``advice`` is what to do.
    ``silence``: nothing came, which is what a storm of the site mutes.
    """

    name: str
    version: int
    title: str
    cause: str
    role: str
    sla_s: int
    recheck_s: int
    technical: bool
    advice: str = ""
    override: int = 0
    silence: bool = False


class CompiledRule(NamedTuple):
    """``members`` is empty but for a COMBINATION (two to four; their faces are named ``copd:P6#1``)."""

    face: RuleFace
    spec: RuleSpec
    members: tuple["CompiledRule", ...] = ()


class CompiledSilence(NamedTuple):
    """Nothing of ``vital`` (catalogue code) for ``window_ns``."""

    face: RuleFace
    vital: int
    window_ns: int
    severity: int


class TroubleRule(NamedTuple):
    """A trouble of a patient's device: ``cause`` is ``battery``, ``clock``, ``fault``, ``flapping`` or ``gateway``
    (offline), raised after it lasted ``after_ns``."""

    face: RuleFace
    cause: str
    after_ns: int
    severity: int


class CompiledScore(NamedTuple):
    """What a score of the patient needs: catalogue key -> continuous, and what the programme declares."""

    measures: tuple[tuple[str, bool], ...]
    assume_air: bool
    assume_alert: bool


class Compiled(NamedTuple):
    """Everything that watches one patient; patients with the same are given the same object."""

    rules: tuple[CompiledRule, ...] = ()
    silences: tuple[CompiledSilence, ...] = ()
    troubles: tuple[TroubleRule, ...] = ()
    score: CompiledScore | None = None
    gated: tuple[tuple[str, str], ...] = ()
    """Rules that do not apply, with the reason in words: ``("copd:P3", "oxygen is not recorded")``."""
    arrests: tuple[CompiledRule, ...] = ()
    """Rules for impossibly low values of vitals that no S1 rule watches on the low side."""

    @property
    def on_readings(self) -> tuple[CompiledRule, ...]:
        """All rules that judge readings."""
        return (*self.rules, *self.arrests)
