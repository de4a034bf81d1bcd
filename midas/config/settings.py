"""The settings of the server: environment first, then the config server, then the defaults.

The text under each setting of `Settings` is the manual. `config_sources`, the only module that
reads the environment, has the rest.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from midas import limits
from midas.runtime import setting_rules
from midas.runtime.config_sources import Env, Sourced

PSP_API_BASE = "https://api.pingxx.com"

Seconds = Annotated[float, Field(gt=0, le=24 * 3600)]


class Settings(Sourced):
    """What the server needs to know. Made by `load()`; secrets do not show in its repr."""

    env: Env = "development"
    """Where this process runs. `production` refuses to start with a test key, without a private
    key, without Ping++'s public keys, with Ping++, PostgreSQL or the password of CONFIG_URL in the
    clear, without TLS, or with SQLite and several workers."""

    ip: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` for all."""

    port: Annotated[int, Field(ge=0, le=65535)] = 6011
    """Port for gRPC. 0 lets the system choose one; the log line `serving` has it."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important of Midas's own log lines to write. Every call is one INFO line."""

    database_url: SecretStr = SecretStr("sqlite:///midas.sqlite3")
    """Where payments are stored: `sqlite:///path` or `postgresql://user:password@host/name`.
    Production wants `?sslmode=verify-full` (or verify-ca or require) in it, unless PostgreSQL is on
    this machine.

    Where PostgreSQL has replicas, replication must be synchronous (Patroni: `synchronous_mode`):
    with asynchronous replication a failover loses the last commits, and with them what Midas had
    promised. An order may then be paid or a refund made twice, and notifications that were
    delivered may have to be delivered again. The log has `failover_may_lose_commits`, at the start
    and each hour, where replicas are connected or have a slot and none is synchronous, and where a
    crash alone loses commits (`synchronous_commit = off`). An ordinary role cannot distinguish
    replicas from backups that are being taken, so those count as replicas."""

    database_tls_by_network: bool = False
    """True: the network between here and PostgreSQL encrypts by itself, or is nobody else's.
    TLS_BY_MESH does not mean this: many a mesh leaves the protocol of a database alone."""

    workers: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many processes of Midas use this database. SQLite serves one in production."""

    pingpp_api_key: SecretStr = SecretStr("")
    """Ping++'s secret key, `sk_live_…` or `sk_test_…`; it decides whether real money moves."""

    pingpp_app_id: str = ""
    """The Ping++ application that charges belong to, `app_…`."""

    pingpp_private_key_path: Path | None = None
    """File with the merchant's RSA private key (PEM, PKCS#1 or PKCS#8), which signs requests. Its
    public half is uploaded in Ping++'s dashboard. Required in production."""

    pingpp_private_key: SecretStr = SecretStr("")
    r"""The same key as text, instead of a file; `\n` stands for a line break."""

    pingpp_public_key_paths: tuple[Path, ...] = ()
    """Files with Ping++'s public keys (PEM), separated by commas; several during a rotation. If
    set, the signature of every answer of Ping++ must match one of them. Required in production."""

    pingpp_api_base: str = PSP_API_BASE
    """Where Ping++ is: a scheme and a host. Unencrypted `http://` is accepted on the loopback
    interface only, and not in production."""

    psp_connect_timeout_s: Seconds = limits.PSP_CONNECT_TIMEOUT.total_seconds()
    """How long connecting to Ping++ may take. A call that fails here was certainly not sent."""

    psp_total_timeout_s: Seconds = limits.PSP_TOTAL_TIMEOUT.total_seconds()
    """How long one call of Ping++ may take in all. After that its outcome is unknown."""

    psp_concurrent_calls: Annotated[int, Field(ge=1, le=10_000)] = limits.PSP_CONCURRENT_CALLS
    """How many charges, refunds and refreshes may be under way; one more gets OVERLOADED."""

    connections: Annotated[int, Field(ge=1, le=100_000)] = limits.CONNECTIONS
    """How many connections the gRPC port may have; one more is closed at once. Each needs an open
    file: where the process may open too few (`ulimit -n`) there are fewer, and the log has their
    number (`connections_limited`)."""

    concurrent_rpcs: Annotated[int, Field(ge=1, le=100_000)] = limits.CONCURRENT_RPCS
    """How many calls of any kind may be under way; one more gets OVERLOADED."""

    settle_window_s: Seconds = limits.SETTLE_WINDOW.total_seconds()
    """How long Ping++ may still carry out a request that got no answer. Nothing counts as not done
    before this has passed."""

    declined_settle_s: Seconds = limits.DECLINED_SETTLE.total_seconds()
    """How long a payer may still confirm a bar code that the channel declined, where Ping++ does
    not list it. The order takes no other code meanwhile. One that is listed is reversed at once."""

    poll_overdue_s: Seconds = limits.POLL_OVERDUE.total_seconds()
    """A look at Ping++ that is due for longer than this is a warning in the log, `poll_overdue`:
    nobody calls PollPending, or Ping++ is away. It is checked once in as long."""

    commit_patience_s: Seconds = limits.COMMIT_PATIENCE.total_seconds()
    """How long a write is tried again while the database is locked, restarting or failing over.

    If this is longer than the cluster's failover, callers only wait for it. If it is shorter, calls
    of that time end with STORAGE_UNAVAILABLE, or with OUTCOME_UNKNOWN where Ping++ had been asked.
    Nothing is lost, but charges and refunds stay unknown until Midas has found them out. With
    Patroni a failover takes up to its `ttl`, two of its `loop_wait` and the promotion: a minute
    with its defaults of 30 and 10 seconds, about ten seconds with 6 and 1. Callers must be ready to
    wait for as long, and for Ping++'s answer besides."""

    expiry_grace_s: Seconds = limits.EXPIRY_GRACE.total_seconds()
    """How long after its expiry a charge may still turn out to be paid before it is closed."""

    drain_delay_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    """How long calls are served after SIGTERM has turned health to NOT_SERVING, so that their
    senders have learnt of it before this process stops; 0 in development and 5 elsewhere. It must
    be longer than a load balancer, or Kubernetes, takes to notice. A second SIGTERM ends it."""

    drain_timeout_s: Seconds = limits.DRAIN_TIMEOUT.total_seconds()
    """How long calls under way may go on after that. The container's stop time must be longer than
    DRAIN_DELAY_S and this together."""

    tls_cert_path: Path | None = None
    """File with the server's certificate chain (PEM). Together with TLS_KEY_PATH turns on TLS."""

    tls_key_path: Path | None = None
    """File with the private key of that certificate (PEM)."""

    tls_client_ca_path: Path | None = None
    """File with the authorities (PEM) that sign client certificates. Turns on mutual TLS: a
    client without a certificate of theirs cannot connect."""

    tls_callers: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Who may call what under mutual TLS, as JSON: `{"order-service":
    ["midas.v1.PaymentService/*"], "audit": ["midas.v1.PaymentService/Query"]}`. A name is the
    common name or a DNS name of the client's certificate. With its kind in front it is that alone:
    `CN:order-service`, `DNS:orders.internal`, `URI:spiffe://shop/orders`, `EMAIL:…`, `IP:…`, and
    names that look like one of the last three need it. `*` as the method means everything.
    Everybody else gets PERMISSION_DENIED. Empty: every client that can connect may call."""

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""
        return self.pingpp_api_key.get_secret_value().startswith("sk_live_")

    @property
    def drain_delay(self) -> timedelta:
        """DRAIN_DELAY_S as a length of time, or its default if it is not set."""
        if self.drain_delay_s is not None:
            return timedelta(seconds=self.drain_delay_s)
        return timedelta(0) if self.env == "development" else limits.DRAIN_DELAY

    @property
    def drain_timeout(self) -> timedelta:
        """DRAIN_TIMEOUT_S as a length of time."""
        return timedelta(seconds=self.drain_timeout_s)

    def private_key(self) -> str | None:
        """The merchant's private key as PEM, or None if requests are not signed.

        Raises SettingsError if the file cannot be read.
        """
        if self.pingpp_private_key_path is not None:
            return _text(self.pingpp_private_key_path, "PINGPP_PRIVATE_KEY_PATH")
        text = self.pingpp_private_key.get_secret_value()
        return text.replace("\\n", "\n") or None

    def public_keys(self) -> tuple[str, ...]:
        """Ping++'s public keys as PEM. Raises SettingsError if a file cannot be read."""
        paths = self.pingpp_public_key_paths
        return tuple(_text(each, "PINGPP_PUBLIC_KEY_PATHS") for each in paths)

    @field_validator("pingpp_public_key_paths", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        return value

    @field_validator("tls_callers", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError:
            raise ValueError("must be JSON such as " + '{"order-service": ["*"]}') from None

    @field_validator(
        "pingpp_private_key_path", "tls_cert_path", "tls_key_path", "tls_client_ca_path",
        "drain_delay_s",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _maybe_unset(cls, value: object) -> object:
        return None if value == "" else value


def _text(path: Path, name: str) -> str:
    return setting_rules.read(path, name).decode(errors="replace")


class MigrationSettings(Sourced):
    """What `midas migrate` needs to know: settings of the server, by the same names."""

    database_url: SecretStr = SecretStr("")
    database_tls_by_network: bool = False
