"""Settings of the gateway."""

from dataclasses import dataclass, fields

from vitals.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits and times of the device endpoints; every field must be positive.

    Raises:
        ConfigError: a value is out of range; names ``gateway.<field>``.
    """

    max_packet: int = 256 * 1024
    """Largest MQTT packet in bytes, checked from the fixed header before the body is read."""
    connect_timeout_s: float = 10.0
    """Seconds for the TLS handshake and the CONNECT of a new connection together; over MLLP for the handshake."""
    packet_timeout_s: float = 30.0
    """Seconds within which a client must complete a packet, an HTTP body or an MLLP frame that it has begun."""
    write_timeout_s: float = 30.0
    """Seconds that a client may leave its acknowledgements unread once they fill the buffers."""
    max_connections: int = 20_000
    """Largest number of open connections; further ones are closed at once."""
    connects_per_s: float = 1000.0
    """New connections admitted per second; further ones wait, and are closed if the wait would be too long."""
    handshakes_per_s: float = 100.0
    """New TLS connections admitted per second; a TLS handshake costs a thousand times as much as a CONNECT."""
    rate_per_s: float = 2000.0
    """Messages per second of one device over all its connections; above it and the burst, its sockets are not read."""
    burst: int = 20_000
    """Messages that a device may send at once; a device that is a further burst above its rate is disconnected."""
    packets_per_turn: int = 512
    """Packets of one connection handled before other connections are served."""
    http_max_body: int = 1024 * 1024
    """Largest body of an HTTP ingest request in bytes; each payload in it is at most ``max_packet``."""
    http_connections: int = 64
    """HTTP ingest requests handled at the same time; further ones are answered with 503."""
    mllp_max_frame: int = 255 * 1024
    """Largest HL7 message over MLLP in bytes; a larger one is refused and its connection closed."""
    mllp_connections: int = 64
    """Largest number of open MLLP connections; further ones are closed at once."""
    mllp_idle_s: float = 3600.0
    """Seconds for which an MLLP connection may stay open without a message."""
    buffer_bytes: int = 64 * 1024 * 1024
    """Bytes received and not yet durable at which the gateway stops reading sockets; it resumes at half of them."""
    heartbeat_s: float = 1.0
    """Seconds between heartbeats in the log, and between checks for changes of the registry."""
    session_expiry_max_s: int = 7 * 24 * 3600
    """Longest time in seconds that a session outlives its connection; the life of an MQTT 3.1.1 session."""
    keep_alive_max_s: int = 1200
    """Longest keep-alive in seconds that an MQTT 5 client is granted; 3.1.1 clients keep what they ask for."""
    receive_maximum: int = 512
    """Largest number of unacknowledged QoS 1 and 2 messages of an MQTT 5 client."""
    topic_alias_maximum: int = 16
    """Topic aliases of an MQTT 5 connection."""
    resend_memory: int = 128
    """Number of latest QoS 1 messages of a session that are remembered to recognise a resend (DUP)."""
    auth_failures_per_minute: int = 10
    """Failed sign-ins of one device from one address in a minute; further ones are refused without a check."""
    stop_timeout_s: float = 5.0
    """Seconds for which a stop waits until the last batch is durable."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise ConfigError(f"gateway.{item.name}", "must be positive")
        for name in ("receive_maximum", "topic_alias_maximum", "keep_alive_max_s"):
            if getattr(self, name) > 0xFFFF:
                raise ConfigError(f"gateway.{name}", "must be at most 65535")
        if self.session_expiry_max_s >= 0xFFFFFFFF:
            raise ConfigError("gateway.session_expiry_max_s", "must be under 4294967295")
