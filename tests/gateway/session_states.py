"""Sessions in each state, and actions as plain tuples to compare."""

from typing import Any

import pytest

from device_gateway.access import SignIn
from device_gateway.batcher import Accept
from device_gateway.mqtt.actions import Action, Answer, Authenticate, Close, Expire, Open, Presence, Send
from device_gateway.mqtt.session import Session, State
from device_gateway.sessions import SessionKey, StoredSession
from device_gateway.settings import GatewaySettings
from tests.gateway.harness import connect
from vitals.errors import BackendError

NOW = 1_700_000_000_000_000_000
JSON = "vitals/d1/json"
PING, DISCONNECT = b"\xc0\x00", b"\xe0\x00"
SETTINGS = GatewaySettings(
    receive_maximum=3, topic_alias_maximum=2, resend_memory=2, max_packet=2000, session_expiry_max_s=1000
)
both = pytest.mark.parametrize("version", [4, 5])


def may_publish(device: str, other: str) -> bool:
    if other == "unknown":
        raise BackendError("registry is down", retryable=True)
    return (device, other) == ("d1", "kid")


def told(actions: list[Action]) -> list[tuple[Any, ...]]:
    """Actions as plain tuples."""
    out: list[tuple[Any, ...]] = []
    for action in actions:
        match action:
            case Send(data):
                out.append(("send", data))
            case Authenticate(device, secret):
                out.append(("authenticate", device, secret))
            case Open(_, device, client_id, expiry_s):
                out.append(("open", device, client_id, expiry_s))
            case Accept(message, ack, settles, hold, _, resend_of):
                assert message.received_ns == NOW
                path = "/".join(filter(None, (message.device, message.adapter, message.kind)))
                out.append(("accept", path, message.payload, ack, settles, hold, message.dup, resend_of is not None))
            case Answer(ack, settles, release):
                out.append(("answer", ack, settles, release))
            case Presence(event, ack, settles, hold):
                out.append(("presence", event.device, str(event.kind), ack, settles, hold))
            case Expire(expiry_s):
                out.append(("expire", expiry_s))
            case Close(_, will):
                out.append(("close", will.payload if will else None))
    return out


def fresh() -> Session:
    return Session(SETTINGS, may_publish, lambda: "auto-1")


def stored_session() -> StoredSession:
    return StoredSession(SessionKey("d1", "c1"), 4, 100, durable=True)


def opening(version: int, **choices: Any) -> Session:
    session = fresh()
    session.receive(connect(version=version, **choices), NOW)
    session.decided(SignIn.ALLOWED)
    return session


def connected(version: int, stored: StoredSession | None = None, **choices: Any) -> Session:
    session = opening(version, **choices)
    session.opened(stored or stored_session(), present=False, now_ns=NOW)
    assert session.state is State.CONNECTED
    return session
