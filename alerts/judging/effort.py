"""Readings that their source took while the patient was active or at rest, as marks that the kernels read."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from alerts.judging.state import Rows
from alerts.judging.urgent_kernels import AT_WORK

AT_REST: Final = 1 << 30
"""Set on rows whose source says that the patient was at rest. Neither mark is a flag of the reading."""
_WORKING: Final = frozenset({"active", "before exercise", "after exercise", "during exercise"})


def with_effort(rows: Rows, context: Mapping[int, Mapping[str, Any]]) -> Rows:
    """``rows`` with the marks ``AT_WORK`` and ``AT_REST`` in its flags, by the ``activity`` of their contexts."""
    told = [(row, said["activity"]) for row, said in context.items() if "activity" in said] if context else []
    if not told:
        return rows
    flags = rows.flags.copy()
    for row, activity in told:
        flags[row] |= np.uint32(AT_WORK if activity in _WORKING else AT_REST if activity == "at rest" else 0)
    flags.flags.writeable = False
    return rows._replace(flags=flags)
