"""Struct-of-arrays that the kernels take: rules, slots, rows of a batch, and the transitions that come out."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from alerts.judging.compiling import record_type

Array = npt.NDArray[Any]


class Rules(NamedTuple):
    """The rule table: columns of ``alerts.rules.spec.RuleSpec``, one row per different spec; dtypes in
    ``RULE_DTYPES``."""

    kind: Array
    vital: Array
    side: Array
    severity: Array
    unit: Array
    limit: Array
    deadband: Array
    enter: Array
    leave: Array
    inclusive: Array
    on_delay_ns: Array
    on_count: Array
    apart_ns: Array
    off_delay_ns: Array
    off_count: Array
    staleness_ns: Array
    continuous: Array
    sticky: Array
    patient_limit: Array
    median_of: Array
    op: Array
    window_ns: Array
    a: Array
    b: Array
    c: Array
    from_min: Array
    to_min: Array
    extreme: Array
    extreme_of: Array
    extreme_ns: Array
    arrest: Array
    lone: Array
    often: Array
    often_of: Array
    often_ns: Array
    steep: Array


class Slots(NamedTuple):
    """A slot is a rule of a patient: links, then its condition; dtypes in ``SLOT_DTYPES``.

    ``rule``, ``face`` and ``name`` are rows of tables; ``following`` chains the live slots of one patient and vital,
    ``sibling`` all of a patient. ``parent`` is the combination that the slot is member number ``member`` of, ``combo``
    the row of ``true_ns`` that a combination has. ``recent``, ``usual`` and ``days`` are rows of
    ``alerts.judging.series``. ``extremes`` has a bit for each of the last five rows, the newest lowest: whether it was
    extreme; ``extreme_ns`` is the time of the first of them. ``arrived``: the newest time is the arrival of a reading
    whose clock was wrong. ``history`` has a bit for each of the last readings of a rule that counts n of m, the newest
    lowest: whether it was beyond the limit; ``history_ns`` is the time of the newest of them.
    """

    patient: Array
    rule: Array
    face: Array
    name: Array
    own: Array
    live: Array
    sibling: Array
    following: Array
    parent: Array
    member: Array
    combo: Array
    recent: Array
    usual: Array
    days: Array
    condition: Array
    counted: Array
    cleared: Array
    stale: Array
    last_time_ns: Array
    timer_ns: Array
    counted_ns: Array
    first_time_ns: Array
    first_value: Array
    first_flags: Array
    first_message: Array
    first_source_ns: Array
    first_seq: Array
    latest_time_ns: Array
    latest_value: Array
    latest_flags: Array
    latest_measured: Array
    near_misses: Array
    extremes: Array
    extreme_ns: Array
    arrived: Array
    history: Array
    history_ns: Array


class Rows(NamedTuple):
    """The columns of a batch that rules read, contiguous and read-only; dtypes in ``ROW_DTYPES``."""

    patient: Array
    vital: Array
    time_ns: Array
    basis: Array
    tz_min: Array
    statistic: Array
    value: Array
    flags: Array
    message: Array
    source_time_ns: Array
    seq: Array
    received_ns: Array


class Emitted(NamedTuple):
    """Transitions in order; ``first_*`` is the first row of the condition, the plain columns the row that acted.

    ``measured`` is what the rule compared: the value, a slope, a difference, a share. ``row`` is the number of the row
    in its batch, and means nothing for what a tick caused.
    """

    slot: Array
    kind: Array
    at_ns: Array
    time_ns: Array
    value: Array
    flags: Array
    first_time_ns: Array
    first_value: Array
    first_flags: Array
    first_message: Array
    first_source_ns: Array
    first_seq: Array
    measured: Array
    row: Array


RULE_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "kind": "<u1", "vital": "<u2", "side": "<u1", "severity": "<u1", "unit": "<u1", "limit": "<f8", "deadband": "<f8",
    "enter": "<f8", "leave": "<f8", "inclusive": "<u1", "on_delay_ns": "<i8", "on_count": "<i4", "apart_ns": "<i8",
    "off_delay_ns": "<i8", "off_count": "<i4", "staleness_ns": "<i8", "continuous": "<u1", "sticky": "<u1",
    "patient_limit": "<u1", "median_of": "<u1", "op": "<u1", "window_ns": "<i8", "a": "<f8", "b": "<f8", "c": "<f8",
    "from_min": "<i4", "to_min": "<i4", "extreme": "<f8", "extreme_of": "<u1", "extreme_ns": "<i8", "arrest": "<f8",
    "lone": "<f8", "often": "<u1", "often_of": "<u1", "often_ns": "<i8", "steep": "<f8",
})  # fmt: skip
SLOT_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "rule": "<i4", "face": "<i4", "name": "<i4", "own": "<u1", "live": "<u1", "sibling": "<i4",
    "following": "<i4", "parent": "<i4", "member": "<u1", "combo": "<i4", "recent": "<i4", "usual": "<i4",
    "days": "<i4", "condition": "<u1", "counted": "<i4", "cleared": "<i4", "stale": "<u1", "last_time_ns": "<i8",
    "timer_ns": "<i8", "counted_ns": "<i8", "first_time_ns": "<i8", "first_value": "<f8", "first_flags": "<u4",
    "first_message": "<i8", "first_source_ns": "<i8", "first_seq": "<i8", "latest_time_ns": "<i8",
    "latest_value": "<f8", "latest_flags": "<u4", "latest_measured": "<f8", "near_misses": "<u4",
    "extremes": "<u1", "extreme_ns": "<i8", "arrived": "<u1", "history": "<u4", "history_ns": "<i8",
})  # fmt: skip
ROW_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "patient": "<i4", "vital": "<u2", "time_ns": "<i8", "basis": "<u1", "tz_min": "<i2", "statistic": "<u1",
    "value": "<f8", "flags": "<u4", "message": "<i8", "source_time_ns": "<i8", "seq": "<i8", "received_ns": "<i8",
})  # fmt: skip
EMITTED_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "slot": "<i4", "kind": "<u1", "at_ns": "<i8", "time_ns": "<i8", "value": "<f8", "flags": "<u4",
    "first_time_ns": "<i8", "first_value": "<f8", "first_flags": "<u4", "first_message": "<i8",
    "first_source_ns": "<i8", "first_seq": "<i8", "measured": "<f8", "row": "<i8",
})  # fmt: skip

RULES: Final = record_type(Rules, RULE_DTYPES, readonly=False)
SLOTS: Final = record_type(Slots, SLOT_DTYPES, readonly=False)
ROWS: Final = record_type(Rows, ROW_DTYPES, readonly=True)
EMITTED: Final = record_type(Emitted, EMITTED_DTYPES, readonly=False)
"""What the records are for the compiler."""


class Vocabulary:
    """Looks up a vocabulary, once for all batches in a row that share it: those of a backtest do."""

    def __init__(self) -> None:
        self._tokens: Sequence[str] = ()
        self._known = -1
        self._found = np.zeros(0, np.int32)

    def numbered(self, numbers: Mapping[str, int], tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """The number of each token, -1 for those that have none; ``numbers`` only ever grows."""
        if tokens is not self._tokens or len(numbers) != self._known or not isinstance(tokens, tuple):
            self._found = np.fromiter(map(numbers.get, tokens, repeat(-1)), np.int32, len(tokens))
            self._tokens, self._known = tokens, len(numbers)
        return self._found
