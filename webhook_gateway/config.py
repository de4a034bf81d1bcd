"""The settings of the gateway: environment first, then the config server, then the defaults.

The text under each setting of `Settings` is the manual. This is the only module that reads the
environment. No setting holds a secret of Ping++ or the address of a database.
"""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from midas import config_sources
from midas.config_sources import ConfigServer
from midas.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]

RECORD_EVENT_BYTES = 256 * 1024
"""What RecordEvent takes, less a few bytes (protos/midas/v1/event_service.proto)."""


class Settings(BaseSettings):
    """What the gateway needs to know. Made by `load()`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    env: Literal["development", "test", "production"] = "development"
    """Where this process runs. `production` refuses to call Midas or the order service without
    TLS."""

    config_url: SecretStr = SecretStr("")
    """Base URL of the config server (Spring Cloud Config): `GET {CONFIG_URL}/midas/{ENV}` is asked
    once, at the start. May hold a user and a password. Empty: there is none. Environment only."""

    ip: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` for all."""

    webhook_port: Port = 6013
    """Port for Ping++'s webhooks, HTTP. Whatever faces the internet in front of it ends the TLS. 0
    lets the system choose one; the log line `serving` tells which."""

    webhook_mport: Port = 6014
    """Port for health, readiness and metrics; not for the internet. Each process needs its own."""

    webhook_path: str = "/pingpp/webhooks"
    """The path of the URL that is entered in Ping++'s dashboard."""

    webhook_reuse_port: bool = False
    """True: several gateways on this machine share WEBHOOK_PORT (SO_REUSEPORT). Each needs a
    WEBHOOK_MPORT of its own."""

    pingpp_public_key_paths: Annotated[tuple[Path, ...], NoDecode] = ()
    """Files with the public keys of the Ping++ account (PEM, RSA), separated by commas; several
    during a rotation. The name of a file without its ending is the key's name in the log.
    Required."""

    webhook_body_bytes: Annotated[int, Field(ge=1, le=RECORD_EVENT_BYTES - 1024)] = 64 * 1024
    """The largest body that is read; larger ones are answered with 413."""

    header_timeout_s: Seconds = 10.0
    """How long a connection may take to send the head of a request, and how long it may be idle."""

    body_timeout_s: Seconds = 10.0
    """How long a body may take to arrive after its head; then 408."""

    record_event_timeout_s: Seconds = 4.0
    """How long Midas may take to record an event; then 503, and Ping++ sends it again. How long
    Ping++ itself waits is not documented."""

    concurrent_webhooks: Annotated[int, Field(ge=1, le=10_000)] = 256
    """How many events may be on their way to Midas; one more is answered with 503 at once."""

    webhook_connections: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """How many connections may be open. One more closes the oldest of those that have shown no
    valid signature. Each needs an open file: where the process may open too few (`ulimit -n`) there
    are fewer, and the log says how many (`connections_limited`)."""

    midas_target: str = "127.0.0.1:6011"
    """Where Midas serves midas.v1.EventService, as gRPC names targets: `host:port`, `dns:///…`."""

    order_target: str = ""
    """Where the order service serves midas.order.v1.OrderPaymentService. Empty: nothing is relayed
    to it by this process; notifications wait in Midas."""

    relay_concurrency: Annotated[int, Field(ge=1, le=256)] = 64
    """How many notifications may be on their way to the order service."""

    order_timeout_s: Seconds = 10.0
    """How long the order service may take to answer; then the notification is sent again later."""

    tls_ca_path: Path | None = None
    """File with the authorities (PEM) that sign the certificates of Midas and of the order service.
    Turns on TLS towards both."""

    tls_cert_path: Path | None = None
    """File with the gateway's own certificate chain (PEM), shown to both for mutual TLS."""

    tls_key_path: Path | None = None
    """File with the private key of that certificate (PEM)."""

    tls_by_mesh: bool = False
    """True: a service mesh encrypts what this process speaks in the clear."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important of the gateway's own log lines to write. Every webhook is one INFO
    line."""

    drain_timeout_s: Seconds = 10.0
    """How long webhooks and deliveries may go on after SIGTERM. The container's stop time must be
    longer."""

    @property
    def drain_timeout(self) -> timedelta:
        """DRAIN_TIMEOUT_S as a length of time."""
        return timedelta(seconds=self.drain_timeout_s)

    @field_validator("pingpp_public_key_paths", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        return value

    @field_validator("tls_ca_path", "tls_cert_path", "tls_key_path", mode="before")
    @classmethod
    def _maybe_path(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        _check_addresses(self)
        _check_keys(self)
        _check_tls(self)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no such files are read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment, then the config server; what a test passes to the constructor wins."""
        return init_settings, env_settings, ConfigServer(settings_cls, {})


def load() -> Settings:
    """The settings of this process. Raises SettingsError with a sentence for every mistake."""
    return config_sources.load(Settings)


def read(path: Path, name: str) -> bytes:
    """The content of the file that the setting names. Raises SettingsError, also when empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name}: cannot read {path}: {error.strerror}") from None
    if not content.strip():
        raise SettingsError(f"{name}: {path} is empty")
    return content


def _check_addresses(settings: Settings) -> None:
    try:
        ip_address(settings.ip)
    except ValueError:
        raise ValueError("IP: give an address such as 127.0.0.1 or 0.0.0.0") from None
    path = settings.webhook_path
    if not path.startswith("/") or not path.isascii() or set(path) & set("?#% ") or "//" in path:
        raise ValueError("WEBHOOK_PATH: give a plain path such as /pingpp/webhooks")
    if not settings.midas_target.strip():
        raise ValueError("MIDAS_TARGET is empty: say where Midas is, such as 127.0.0.1:6011")
    if settings.webhook_port and settings.webhook_port == settings.webhook_mport:
        raise ValueError("WEBHOOK_MPORT must not be the same as WEBHOOK_PORT")


def _check_keys(settings: Settings) -> None:
    if not settings.pingpp_public_key_paths:
        raise ValueError(
            "PINGPP_PUBLIC_KEY_PATHS is not set: give the file with the Ping++ public key of the "
            "account, from Ping++'s dashboard"
        )


def _check_tls(settings: Settings) -> None:
    if (settings.tls_cert_path is None) != (settings.tls_key_path is None):
        raise ValueError("TLS_CERT_PATH and TLS_KEY_PATH go together: set both or none")
    if settings.tls_ca_path is not None:
        return
    if settings.tls_cert_path is not None:
        raise ValueError("TLS_CERT_PATH needs TLS_CA_PATH: it says whom the certificate is shown")
    if settings.env == "production" and not settings.tls_by_mesh:
        raise ValueError(
            "TLS_CA_PATH is not set: production calls Midas and the order service over TLS, "
            "or sets TLS_BY_MESH=true where a mesh encrypts"
        )
