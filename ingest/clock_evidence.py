"""What the times of a micro-batch say of its devices' clocks: faults that are told, and how far a clock is ahead."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ingest.adapter import Columns
from ingest.placing import clocks
from ingest.placing.currency import Settled
from ingest.placing.wear import WearTable
from vitals.glossary import Basis, EventKind, Flag
from vitals.model import DeviceEvent, Message, VitalBatch
from vitals.times import SECOND_NS

Bools = npt.NDArray[np.bool_]
_NOT_RIGHT = np.uint32(Flag.CLOCK_WRONG | Flag.CLOCK_SUSPECT)


def clock_faults(settled: Settled, messages: Sequence[Message], fresh: Bools) -> list[DeviceEvent]:
    """An event for each new message by which its device's clock is wrong."""
    return [
        DeviceEvent(
            messages[fault.message].device, EventKind.CLOCK_FAULT, messages[fault.message].received_ns, fault.detail,
            fault.ahead_s, message=messages[fault.message].ordinal,
        )
        for fault in settled.faults
        if fresh[fault.message]
    ]  # fmt: skip


def arrivals(
    batch: VitalBatch, columns: Columns, settled: Settled, messages: Sequence[Message], live: Bools, worn: WearTable
) -> Iterator[tuple[str, int, int | None]]:
    """How far ahead the clocks of live messages are; of devices whose clock was ahead before, those that are right."""
    found: dict[int, int | None] = {
        fault.message: round(fault.ahead_s * SECOND_NS) for fault in settled.faults if fault.ahead_s is not None
    }
    if worn.ahead:
        right = np.isin(batch.basis, (Basis.DEVICE, Basis.DEVICE_ASSUMED_ZONE)) & ((batch.flags & _NOT_RIGHT) == 0)
        right &= batch.received_ns - batch.time_ns <= clocks.FUTURE_TOLERANCE_NS
        for number in np.unique(columns.message[right]).tolist():
            if messages[number].device in worn.ahead:
                found.setdefault(number, None)
    for number in sorted(found):
        if live[number]:
            yield messages[number].device, messages[number].received_ns, found[number]
