"""What a micro-batch adds, written in the transaction of its cycle."""

from typing import Final

from ingest import alarms, unclaimed
from ingest.journal import unknown_codes, worklist
from ingest.journal.identities import Cycle
from ingest.pipeline import Outcome
from vitals.glossary import EventKind

SYSTEM: Final = "system"
"""Author of what ingest decides by itself."""
_COUNTED: Final = unknown_codes.KINDS - {EventKind.CODE_CONFLICT}


def record(out: Outcome, cycle: Cycle, adapter: str, *, live: bool) -> None:
    """Write one adapter's outcome in the cycle's transaction. ``adapter`` is its name."""
    for batch in out.batches:
        cycle.append(batch)
    # Some may come every second: they are counted in the worklist, not told again and again in the log.
    told = [event for event in out.events if event.kind not in _COUNTED]
    if told:
        cycle.append(told)
    unknown_codes.note(cycle.sql, adapter, out.events)
    cycle.hold(out.held)
    idents = worklist.wait(cycle.sql, out.waiting)
    if live:
        unclaimed.tell(cycle, out.waiting, idents, out.assigned, SYSTEM)
        unclaimed.tell_doubts(cycle, out.events, out.received_ns, SYSTEM)
        unclaimed.tell_other_patients(cycle, out.other_patients, out.waiting, idents, SYSTEM)
    alarms.follow(cycle, out.alarms, SYSTEM, live=live)
    cycle.trust(out.heads)
    cycle.count(out.tally)
