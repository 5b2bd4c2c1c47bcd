"""What the raw log says of time: heartbeats and steps of the gateway's clock, as entries of the vitals log."""

from collections.abc import Sequence

from vitals.glossary import ControlKind, EventKind
from vitals.model import Control, DeviceEvent, Entry, Heartbeat, Tick
from vitals.steady import MOVED
from vitals.times import SECOND_NS

AUTHOR = "gateway"


def marks_of(entry: Entry) -> Sequence[Tick | Control]:
    """A tick of a heartbeat, ``technical`` controls of steps; nothing of other entries.

    What was received before a mark is processed before it.
    """
    if isinstance(entry, Heartbeat):
        return [Tick(entry.time_ns)]
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], DeviceEvent):
        return []
    return [_control(one) for one in entry if isinstance(one, DeviceEvent) and one.kind is EventKind.SERVER_CLOCK]


def followed_ns(control: Control) -> int:
    """By how much times move from this control on."""
    return 0 if control.body["active"] else round(control.body["moved_s"] * SECOND_NS)


def _control(event: DeviceEvent) -> Control:
    """A step that was noticed begins a trouble; it ends when times follow the step, or the step was taken back."""
    body = {"cause": "server_clock", "active": event.detail == MOVED, "since_ns": event.time_ns,
            "moved_s": event.value or 0.0}  # fmt: skip
    return Control(ControlKind.TECHNICAL, event.time_ns, AUTHOR, body)
