"""Actions that a session asks of its connection, in order."""

from types import MappingProxyType
from typing import Final

import msgspec

from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.mqtt.packets import Code, Connack, Connect, Will
from vitals.model import DeviceEvent

REFUSALS: Final = MappingProxyType(
    {
        SignIn.BAD_CREDENTIALS: (Connack.NOT_AUTHORISED, Code.BAD_CREDENTIALS),
        SignIn.REVOKED: (Connack.NOT_AUTHORISED, Code.NOT_AUTHORISED),
        SignIn.TOO_MANY_FAILURES: (Connack.NOT_AUTHORISED, Code.RATE),
        SignIn.UNAVAILABLE: (Connack.UNAVAILABLE, Code.UNAVAILABLE),
    }
)
"""What is answered to a sign-in that fails: CONNACK of 3.1.1 and of 5."""


class Send(msgspec.Struct, frozen=True):
    """Write ``data`` now."""

    data: bytes


class Authenticate(msgspec.Struct, frozen=True):
    """Check a device's secret, or that ``certified`` (the device that its certificate names) is it; then call
    ``Session.decided``."""

    device: str
    secret: bytes
    certified: str = ""


class Open(msgspec.Struct, frozen=True):
    """Take over from an older connection of (device, client id), make the session durable, call ``Session.opened``."""

    connect: Connect
    device: str
    client_id: str
    expiry_s: int


class Answer(msgspec.Struct, frozen=True):
    """Send ``ack`` in receipt order with the others, after everything before it is durable.

    ``release`` is a QoS 2 packet id to forget durably before that, or 0. ``refused`` is why a publish was not taken, as
    the word in metrics; empty when it was.
    """

    ack: bytes
    settles: int = 0
    release: int = 0
    refused: str = ""


class Presence(msgspec.Struct, frozen=True):
    """Append a presence event; once that is durable send ``ack`` in receipt order. ``hold`` as in ``Accept``."""

    event: DeviceEvent
    ack: bytes = b""
    settles: int = 0
    hold: int = 0


class Expire(msgspec.Struct, frozen=True):
    """The client changed the session's expiry as it left."""

    expiry_s: int


class Close(msgspec.Struct, frozen=True):
    """Close the connection. ``reason`` is for people; ``will`` is to be published (after its delay)."""

    reason: str
    will: Will | None = None


Action = Send | Authenticate | Open | Accept | Answer | Presence | Expire | Close
