"""The settings of the gateway: environment first, then the config server, then the defaults.

The text under each setting of `Settings` is the manual. `midas.runtime.config_sources`, the only
module that reads the environment, has the rest. No setting holds a secret of Ping++ or the address
of a database.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from midas.runtime.config_sources import Env, Sourced

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]

RECORD_EVENT_BYTES = 256 * 1024
"""How large RecordEvent's request may be, but for a few bytes (see event_service.proto)."""


class Settings(Sourced):
    """What the gateway needs to know. Made by `load()`."""

    env: Env = "development"
    """Where this process runs. `production` refuses to call Midas or the order service without
    TLS, and to send the password of CONFIG_URL in the clear."""

    ip: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` for all."""

    webhook_port: Port = 6013
    """Port for Ping++'s webhooks, HTTP. The proxy that faces the internet in front of it ends the
    TLS. 0 lets the system choose one; the log line `serving` has it."""

    webhook_mport: Port = 6014
    """Port for health, readiness and metrics; not for the internet. Each process needs its own."""

    webhook_mip: str = "127.0.0.1"
    """Address that WEBHOOK_MPORT listens on. Probes and Prometheus on another machine need it to be
    one that they can reach, such as `0.0.0.0`, which the image sets."""

    webhook_path: str = "/pingpp/webhooks"
    """The path of the URL that is entered in Ping++'s dashboard."""

    webhook_reuse_port: bool = False
    """True: several gateways on this machine share WEBHOOK_PORT (SO_REUSEPORT). Each needs a
    WEBHOOK_MPORT of its own."""

    pingpp_public_key_paths: tuple[Path, ...] = ()
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
    are fewer, and the log has their number (`connections_limited`)."""

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

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important of the gateway's own log lines to write. Every webhook is one INFO
    line."""

    drain_delay_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    """How long webhooks are taken after SIGTERM has turned readiness off, so that their senders
    have learnt of it; 0 in development and 5 elsewhere. A second SIGTERM ends it."""

    drain_timeout_s: Seconds = 10.0
    """How long webhooks and deliveries under way may go on after that. The container's stop time
    must be longer than DRAIN_DELAY_S and this together."""

    @property
    def drain_delay(self) -> timedelta:
        """DRAIN_DELAY_S as a length of time, or its default if it is not set."""
        if self.drain_delay_s is not None:
            return timedelta(seconds=self.drain_delay_s)
        return timedelta(seconds=0 if self.env == "development" else 5)

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

    @field_validator("tls_ca_path", "tls_cert_path", "tls_key_path", "drain_delay_s", mode="before")
    @classmethod
    def _maybe_unset(cls, value: object) -> object:
        return None if value == "" else value
