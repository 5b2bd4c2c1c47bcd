"""Settings of the gateway."""

from dataclasses import dataclass, fields

from vitals.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits and times of the endpoints of devices; every field must be positive.

    Raises:
        ConfigError: a value is out of range; names ``gateway.<field>``.
    """

    max_packet: int = 256 * 1024
    """Largest MQTT packet in bytes, checked from the fixed header before the body is read."""
    connect_timeout_s: float = 10.0
    """Seconds a new connection has for its TLS handshake and its CONNECT together; over MLLP for the handshake."""
    packet_timeout_s: float = 30.0
    """Seconds that a client has to complete a packet, an HTTP body or an MLLP frame that it has begun."""
    write_timeout_s: float = 30.0
    """Seconds that a client may leave its acknowledgements unread once they fill the buffers."""
    max_connections: int = 20_000
    """Connections at a time; further ones are closed at once."""
    connects_per_s: float = 1000.0
    """New connections looked at in a second; further ones wait, and are closed when that would be too long."""
    handshakes_per_s: float = 100.0
    """The same for connections over TLS, whose handshake costs a thousand times a CONNECT."""
    rate_per_s: float = 2000.0
    """Messages per second of one device, over all its connections; over it and the burst its sockets are not read."""
    burst: int = 20_000
    """Messages that a device may send at once; one that owes another burst is disconnected."""
    packets_per_turn: int = 512
    """Packets of one connection handled before the others have their turn."""
    http_max_body: int = 1024 * 1024
    """Largest body of an HTTP ingest request in bytes; one payload in it is at most ``max_packet``."""
    http_connections: int = 64
    """HTTP ingest requests at a time; further ones are answered 503."""
    mllp_max_frame: int = 255 * 1024
    """Largest HL7 message over MLLP in bytes; a larger one is refused and its connection closed."""
    mllp_connections: int = 64
    """MLLP connections at a time; further ones are closed at once."""
    mllp_idle_s: float = 3600.0
    """Seconds that an MLLP connection may be open without a message."""
    buffer_bytes: int = 64 * 1024 * 1024
    """Bytes received and not yet durable at which the gateway stops reading sockets; it resumes at half of it."""
    heartbeat_s: float = 1.0
    """Seconds between heartbeats in the log and between looks at the registry."""
    session_expiry_max_s: int = 7 * 24 * 3600
    """Longest time in seconds that a session outlives its connection; the life of an MQTT 3.1.1 session."""
    keep_alive_max_s: int = 1200
    """Longest keep-alive in seconds that an MQTT 5 client is granted; 3.1.1 clients keep what they ask for."""
    receive_maximum: int = 512
    """Unacknowledged QoS 1 and 2 messages that an MQTT 5 client may have under way."""
    topic_alias_maximum: int = 16
    """Topic aliases of an MQTT 5 connection."""
    resend_memory: int = 128
    """Latest QoS 1 messages of a session that a resend (DUP) is recognised against."""
    auth_failures_per_minute: int = 10
    """Failed sign-ins of one device from one address in a minute before further ones are refused unseen."""
    stop_timeout_s: float = 5.0
    """Seconds that a stop waits for the last batch to become durable."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise ConfigError(f"gateway.{item.name}", "must be positive")
        for name in ("receive_maximum", "topic_alias_maximum", "keep_alive_max_s"):
            if getattr(self, name) > 0xFFFF:
                raise ConfigError(f"gateway.{name}", "must be at most 65535")
        if self.session_expiry_max_s >= 0xFFFFFFFF:
            raise ConfigError("gateway.session_expiry_max_s", "must be under 4294967295")
