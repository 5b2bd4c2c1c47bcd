"""Settings: one table, validated before anything is opened. An unknown key names the nearest known one.

A settings file is TOML with the sections below. The page docs/reference/settings.md is checked against these tables.
"""

import difflib
import socket
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from device_gateway import topics
from device_gateway.hl7.mllp import MllpEndpoint
from device_gateway.settings import GatewaySettings
from device_gateway.tls import TlsEndpoint, server_context
from vitals.errors import ConfigError

DEFAULT_HTTP = "127.0.0.1:8080"
DEFAULT_MQTT = "127.0.0.1:1883"


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` (``[::1]:1883`` for IPv6; port 0 = any free); raises ``ValueError``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("expected HOST:PORT with a port of 0 to 65535")
    return host.strip("[]"), int(port)


def _address(text: str) -> str:
    address(text)
    return text


Address = Annotated[str, AfterValidator(_address)]


def _device(text: str) -> str:
    if not topics.NAME.fullmatch(text):
        raise ValueError("expected a device id")
    return text


DeviceId = Annotated[str, AfterValidator(_device)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class HttpSection(_Section):
    """The API."""

    listen: Address = Field(DEFAULT_HTTP, description="HOST:PORT of the API and the page; loopback only without TLS")
    tls_cert: str = Field("", description="path of a certificate chain (PEM); switches to HTTPS; empty = HTTP")
    tls_key: str = Field("", description="path of the certificate's private key (PEM, without a password)")

    @property
    def scheme(self) -> Literal["http", "https"]:
        """How the API is reached."""
        return "https" if self.tls_cert else "http"

    def check(self) -> None:
        """Raise ``ConfigError`` for a certificate without its key, or for files that hold no certificate or key."""
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("http.tls_key" if self.tls_cert else "http.tls_cert", "certificate and key go together")
        if self.tls_cert:
            server_context(Path(self.tls_cert), Path(self.tls_key), None, section="http")


class MqttSection(_Section):
    """The MQTT endpoint."""

    listen: Address = Field(DEFAULT_MQTT, description="HOST:PORT of the plaintext MQTT endpoint; loopback only")
    tls_listen: Address | Literal[""] = Field("", description="HOST:PORT of MQTT over TLS, on any address; empty = off")
    tls_cert: str = Field("", description="path of the server's certificate chain (PEM)")
    tls_key: str = Field("", description="path of the certificate's private key (PEM, without a password)")
    tls_client_ca: str = Field(
        "",
        description="path of a CA (PEM); its client certificates sign in the device named by their CN; empty = off",
    )

    def tls(self, sockets: Sequence[socket.socket] = ()) -> TlsEndpoint | None:
        """TLS on ``sockets`` with these files, None when ``tls_listen`` is empty; raises ``ConfigError``."""
        if not self.tls_listen:
            return None
        for name in ("tls_cert", "tls_key"):
            if not getattr(self, name):
                raise ConfigError(f"mqtt.{name}", "is needed for mqtt.tls_listen")
        client_ca = Path(self.tls_client_ca) if self.tls_client_ca else None
        return TlsEndpoint(sockets, Path(self.tls_cert), Path(self.tls_key), client_ca)


def _code_map(file: str, setting: str) -> str:
    """The text of a code map."""
    from ingest.adapters.hl7.code_map import parse  # noqa: PLC0415 - most sites have none

    try:
        text = Path(file).read_text(encoding="utf-8")
        parse(text)
    except (OSError, UnicodeError) as error:
        raise ConfigError(setting, f"{file}: cannot be read") from error
    except ConfigError as error:
        raise ConfigError(setting, f"{file}: {error}") from error
    return text


class Hl7Sender(_Section):
    """A sender of HL7 messages, and the device that its messages belong to."""

    application: str = Field(min_length=1, description="the name in MSH-3, or its universal id when it has no name")
    facility: str = Field("", description="the name in MSH-4; empty = messages without one")
    device: DeviceId = Field(description="id of the device")
    code_map: str = Field("", description="path of the code map of its local codes (TOML); empty = none")


class Hl7Section(_Section):
    """HL7 v2 over MLLP. TLS requires a client certificate, because MLLP has no sign-in."""

    mllp: Address | Literal[""] = Field(
        "", description="HOST:PORT of the plaintext MLLP listener; loopback only; empty = off"
    )
    tls_listen: Address | Literal[""] = Field("", description="HOST:PORT of MLLP over TLS, on any address; empty = off")
    tls_cert: str = Field("", description="path of the server's certificate chain (PEM)")
    tls_key: str = Field("", description="path of the certificate's private key (PEM, without a password)")
    tls_client_ca: str = Field("", description="path of the CA (PEM) that must have signed every client's certificate")
    senders: list[Hl7Sender] = Field(
        [],
        description="accepted senders and their devices, each as"
        ' `{application = "MSH-3", facility = "MSH-4", device = "ID", code_map = "FILE"}`; leave `facility` out for'
        " messages without one, and `code_map` for a sender without local codes",
    )
    default_device: DeviceId | Literal[""] = Field(
        "", description="device for messages of all other senders; empty = such messages are refused"
    )

    def endpoint(
        self, plain: Sequence[socket.socket] = (), secured: Sequence[socket.socket] = ()
    ) -> MllpEndpoint | None:
        """MLLP on these sockets, None when it is off; raises ``ConfigError``."""
        if not self.mllp and not self.tls_listen:
            return None
        senders = {(one.application, one.facility): one.device for one in self.senders}
        if len(senders) < len(self.senders):
            raise ConfigError("hl7.senders", "two are for the same application and facility")
        if not senders and not self.default_device:
            raise ConfigError("hl7.senders", "or hl7.default_device is needed: name the accepted senders")
        return MllpEndpoint(plain, self._tls(secured), senders, self.default_device)

    def code_maps(self) -> dict[str, str]:
        """Device -> text of the code map of its senders; raises ``ConfigError`` for one that cannot be used."""
        found: dict[str, str] = {}
        for number, sender in enumerate(self.senders):
            text = _code_map(sender.code_map, f"hl7.senders.{number}.code_map") if sender.code_map else ""
            if found.setdefault(sender.device, text) != text:
                raise ConfigError(f"hl7.senders.{number}.code_map", "another than that of a sender of the same device")
        return {device: text for device, text in found.items() if text}

    def _tls(self, sockets: Sequence[socket.socket]) -> TlsEndpoint | None:
        if not self.tls_listen:
            return None
        for name in ("tls_cert", "tls_key", "tls_client_ca"):
            if not getattr(self, name):
                raise ConfigError(f"hl7.{name}", "is needed for hl7.tls_listen")
        files = Path(self.tls_cert), Path(self.tls_key), Path(self.tls_client_ca)
        return TlsEndpoint(sockets, *files, section="hl7", required=True)


class VaultSection(_Section):
    """Encryption at rest."""

    key_file: str = Field("", description="path of the master key; empty = vault.key in the data directory")


class StoreSection(_Section):
    """The embedded store."""

    memory_mb: int = Field(512, ge=64, description="memory limit of the store in MB")
    threads: int = Field(2, ge=1, le=64, description="threads of one query")


class LogSection(_Section):
    """Retention of the logs."""

    raw_retention_days: float = Field(
        30.0, gt=0, description="days for which raw messages are kept after ingest has processed them"
    )


class AlertsSection(_Section):
    """The alert engine."""

    lag_s: float = Field(
        60.0, ge=1.0, le=86_400.0, description="seconds that evaluation may lag before a technical alert is raised"
    )
    canary: bool = Field(
        True, description="whether a test reading of an artificial patient checks the whole way to the alert book"
    )
    canary_every_s: float = Field(60.0, ge=1.0, le=3_600.0, description="seconds between such checks")
    canary_s: float = Field(
        10.0,
        ge=1.0,
        le=600.0,
        description="seconds within which its alert must appear; otherwise a technical alert is raised",
    )


class Settings(_Section):
    """All settings."""

    http: HttpSection = HttpSection()
    mqtt: MqttSection = MqttSection()
    hl7: Hl7Section = Hl7Section()
    gateway: dict[str, Any] = Field(default_factory=dict, description="limits of the endpoints of devices")
    vault: VaultSection = VaultSection()
    store: StoreSection = StoreSection()
    log: LogSection = LogSection()
    alerts: AlertsSection = AlertsSection()

    def gateway_settings(self) -> GatewaySettings:
        """The gateway's own table; raises ``ConfigError``."""
        known = {item.name: item for item in fields(GatewaySettings)}
        for name, value in self.gateway.items():
            if name not in known:
                raise ConfigError(f"gateway.{name}", _nearest(name, list(known)))
            wanted = (int, float) if known[name].type in {float, "float"} else (int,)
            if isinstance(value, bool) or not isinstance(value, wanted):
                raise ConfigError(f"gateway.{name}", f"expected a number, not {value!r}")
        return GatewaySettings(**self.gateway)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown setting, did you mean {close[0]}?" if close else "unknown setting"


def known_keys() -> dict[str, list[str]]:
    """Section -> its keys."""
    sections = {
        name: list(item.annotation.model_fields)
        for name, item in Settings.model_fields.items()
        if isinstance(item.annotation, type) and issubclass(item.annotation, BaseModel)
    }
    return sections | {"gateway": [item.name for item in fields(GatewaySettings)]}


def load(path: Path | None) -> Settings:
    """Settings of a TOML file, defaults without one.

    Raises:
        ConfigError: unreadable file, unknown section or key, or a value that does not fit.
    """
    if path is None:
        return Settings()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "cannot be read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"not TOML: {error}") from error
    _check_keys(data)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(".".join(map(str, first["loc"])), first["msg"]) from error
    settings.gateway_settings()
    settings.mqtt.tls()
    settings.http.check()
    settings.hl7.endpoint()
    settings.hl7.code_maps()
    return settings


def _check_keys(data: dict[str, Any]) -> None:
    known = known_keys()
    for section, values in data.items():
        if section not in known:
            raise ConfigError(section, _nearest(section, list(known)))
        if not isinstance(values, dict):
            raise ConfigError(section, "is a section, not a value")
        for key in values:
            if key not in known[section]:
                raise ConfigError(f"{section}.{key}", _nearest(key, known[section]))
