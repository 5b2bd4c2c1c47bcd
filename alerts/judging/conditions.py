"""Conditions of slots, and the transitions between them that are told; numbers that kernels and snapshots hold.

A slot is a (patient, rule). Its condition goes from CLEAR over PENDING (the on-delay), AWAITED (an S1 on the first of
several spot readings) or UNCONFIRMED (an S1 on one doubtful reading) to HOLDS, and back to CLEAR. Where no repeat
comes, it goes on as PROMOTED (S1) or OVERDUE (S2). SUSPECTED is CLEAR with a memory: of one doubtful reading beyond
the limit, or of earlier ones that count in n of m. From HOLDS on, people know of it.
"""

from typing import Final

CLEAR: Final = 0
SUSPECTED: Final = 1
"""Nothing is pending, but a row beyond the limit is remembered: a suspect one, which does not page alone, or one of
the last readings of a rule that counts n of m."""
PENDING: Final = 2
"""Beyond the limit; the on-delay runs from ``first_time_ns``, and ``counted`` readings have counted."""
HOLDS: Final = 3
"""The condition is true; ``timer_ns`` is when the values came back, or NO_TIME."""
UNCONFIRMED: Final = 4
"""An S1 condition on one reading; ``timer_ns`` is the time by which a second one must refute it."""
AWAITED: Final = 5
"""Like PENDING, but a person was asked for the next reading; ``timer_ns`` is the time by which it must be there."""
PROMOTED: Final = 6
"""S1 on one reading, without a repeat or because it is extreme: the next sound reading confirms or refutes it."""
OVERDUE: Final = 7
"""The repeat was not taken and the first reading is S2: the next sound reading confirms (S1) or refutes it."""

NOTHING: Final = 0
ONSET: Final = 1
DOUBTED: Final = 2
WORSENED: Final = 3
REFUTED: Final = 4
ENDED: Final = 5
REVIEWED: Final = 6
"""An urgent value arrived too late to page; the condition does not change."""
FADED: Final = 7
"""No reading arrived for longer than a value counts as current; the condition does not change."""
HEARD: Final = 8
"""A reading arrived for a condition that had faded."""
ASKED: Final = 9
"""One sound reading is beyond an S1 limit that needs more: a person is asked for the next."""
UNANSWERED: Final = 10
"""The repeat was not taken, and the reading is not so far out that it becomes S1."""
ALARMED: Final = 11
"""An extreme reading pages at once."""
OVERTAKEN: Final = 12
"""An urgent value that a newer one overtook raises nothing by its rule; the condition does not change."""

CONFIRM_NS: Final = 15 * 60 * 1_000_000_000
"""How long a second reading may take to refute a suspect S1 sample (clinical.md 1.3)."""
NEVER_NS: Final = 2**63 - 1
