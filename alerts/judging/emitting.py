"""Transitions on their way out of the kernels, as rows of ``alerts.judging.state.Emitted``."""

from alerts.judging.compiling import lean
from alerts.judging.conditions import OVERTAKEN, REVIEWED
from alerts.judging.state import Emitted, Rows, Slots


@lean
def emit(out: Emitted, place: int, slots: Slots, slot: int, kind: int, at_ns: int) -> None:
    """Write a transition of a slot."""
    out.slot[place] = slot
    out.kind[place] = kind
    out.at_ns[place] = at_ns
    out.time_ns[place] = slots.latest_time_ns[slot]
    out.value[place] = slots.latest_value[slot]
    out.flags[place] = slots.latest_flags[slot]
    out.first_time_ns[place] = slots.first_time_ns[slot]
    out.first_value[place] = slots.first_value[slot]
    out.first_flags[place] = slots.first_flags[slot]
    out.first_message[place] = slots.first_message[slot]
    out.first_source_ns[place] = slots.first_source_ns[slot]
    out.first_seq[place] = slots.first_seq[slot]
    out.measured[place] = slots.latest_measured[slot]


@lean
def emit_row(
    out: Emitted, place: int, slots: Slots, slot: int, kind: int, rows: Rows, row: int, measured: float
) -> None:  # fmt: skip
    """Likewise, of a row that acted; a review begins with the row itself."""
    emit(out, place, slots, slot, kind, rows.received_ns[row])
    out.time_ns[place], out.value[place], out.flags[place] = rows.time_ns[row], rows.value[row], rows.flags[row]
    out.measured[place] = measured
    out.row[place] = row
    if kind == REVIEWED or kind == OVERTAKEN:  # noqa: PLR1714, SIM109  a set is slow in the kernel
        out.first_time_ns[place], out.first_value[place] = rows.time_ns[row], rows.value[row]
        out.first_flags[place], out.first_message[place] = rows.flags[row], rows.message[row]
        out.first_source_ns[place], out.first_seq[place] = rows.source_time_ns[row], rows.seq[row]
