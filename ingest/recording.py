"""What a micro-batch adds, written in the transaction of its cycle."""

from typing import Final

from ingest import unclaimed
from ingest.journal import worklist
from ingest.journal.identities import Cycle
from ingest.pipeline import Outcome

SYSTEM: Final = "system"
"""Author of what ingest decides by itself."""


def record(out: Outcome, cycle: Cycle, *, live: bool) -> None:
    """Write one adapter's outcome in the cycle's transaction."""
    for batch in out.batches:
        cycle.append(batch)
    if out.events:
        cycle.append(out.events)
    cycle.hold(out.held)
    idents = worklist.wait(cycle.sql, out.waiting)
    if live:
        unclaimed.tell(cycle, out.waiting, idents, SYSTEM)
    cycle.trust(out.heads)
    cycle.count(out.tally)
