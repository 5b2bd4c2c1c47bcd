"""TLS under MQTT: certificates that can be replaced while running, and the layer between a socket and a connection.

The layer is ours and not the event loop's, so that a connection is counted, admitted and timed before its handshake
costs anything, and so that a failed one is known with its reason.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

import structlog

from vitals.errors import ConfigError

_READ_BYTES: Final = 64 * 1024
_log = structlog.get_logger(__name__)


class Secured(Protocol):
    """A protocol inside a ``TlsLayer``: that of asyncio, and what the handshake told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...

    def handshaken(self, certified: str) -> None:
        """The handshake is done; ``certified`` is the CN of the client's certificate, empty without one."""


def server_context(
    cert: Path, key: Path, client_ca: Path | None, *, section: str = "mqtt", required: bool = False
) -> ssl.SSLContext:
    """TLS 1.2 or newer with a certificate chain and its key (PEM); with ``client_ca`` clients may show a certificate,
    and must when it is ``required``.

    Raises:
        ConfigError: a file cannot be read or is no such thing; names ``tls_cert`` or ``tls_client_ca`` of ``section``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # A password prompt would block a service that runs without a terminal.
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{section}.tls_cert", f"{cert} with {key}: {error}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise ConfigError(f"{section}.tls_client_ca", f"{client_ca}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


class TlsEndpoint:
    """Sockets to serve TLS on, with the certificate of the moment; ``choices`` go to ``server_context``.

    Raises:
        ConfigError: see ``server_context``.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], cert: Path, key: Path, client_ca: Path | None, **choices: Any
    ) -> None:
        self.sockets = sockets
        self._files, self._choices = (cert, key, client_ca), choices
        self.context = server_context(*self._files, **choices)
        self._seen = self._marks()

    def _marks(self) -> list[tuple[int, int, int]]:
        found = []
        for path in self._files:
            if path is not None:
                stat = os.stat(path)
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return found

    def refresh(self) -> None:
        """Take new files for new connections; while they do not fit together, the old ones stay in use."""
        with contextlib.suppress(OSError):
            marks = self._marks()
            if marks == self._seen:
                return
            self._seen = marks
            try:
                self.context = server_context(*self._files, **self._choices)
            except ConfigError as error:
                _log.warning("tls_files_refused", problem=str(error))
            else:
                _log.info("tls_files_loaded")


class TlsLayer(asyncio.Protocol):
    """Decrypts for a connection and is its transport; ``failed`` counts handshakes by why they failed."""

    def __init__(self, connection: Secured, context: ssl.SSLContext, failed: Counter[str]) -> None:
        self._connection, self._failed = connection, failed
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = self._paused = False
        self._held = b""
        self._raw: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        self._connection.connection_made(cast(asyncio.Transport, self))

    def data_received(self, data: bytes) -> None:
        if self._raw.is_closing():
            return
        if self._paused:
            # As in the connection: what comes before the handshake may begin is kept, once.
            self._held += data
            self._raw.pause_reading()
            return
        self._incoming.write(data)
        try:
            plain, ended = self._decrypted()
        except ssl.SSLError as error:
            self._refuse(error)
            return
        self._flush()
        if plain:
            self._connection.data_received(plain)
        if ended:
            self._raw.close()

    def _decrypted(self) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self._connection.handshaken(_common_name(self._tls.getpeercert()))
            while part := self._tls.read(_READ_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(parts), True

    def _refuse(self, error: ssl.SSLError) -> None:
        certificate = isinstance(error, ssl.SSLCertVerificationError)
        self._failed["tls_certificate" if certificate else "tls_handshake" if not self._shaken else "tls_broken"] += 1
        _log.debug("tls_failed", problem=error.reason)
        # The TLS alert tells the client the reason.
        self._flush()
        self._raw.close()

    def eof_received(self) -> None:
        """The client closed without saying so: so do we."""

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    # asyncio.Transport, as far as a connection uses it

    def write(self, data: bytes) -> None:
        """Encrypt and send; nothing is sent before the handshake."""
        if self._shaken:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye, flush, close."""
        if self._shaken:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closing or closed."""
        return self._raw.is_closing()

    def pause_reading(self) -> None:
        """Stop reading; also holds back a handshake."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again, what was held first."""
        self._paused = False
        self._raw.resume_reading()
        held, self._held = self._held, b""
        if held:
            self.data_received(held)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of the socket."""
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the socket."""
        return self._raw.get_extra_info(name, default)


def _common_name(certificate: Any) -> str:
    """The one CN of a verified certificate's subject (CONTRACTS, MQTT: CN = device id); empty when there is not one."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return names[0] if len(names) == 1 else ""
