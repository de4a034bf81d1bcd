"""What a Ping++ client needs to know: one account and its bounds."""

import ipaddress
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from midas.errors import SettingsError
from midas.limits import (
    PSP_ANSWER_BYTES,
    PSP_CONCURRENT_CALLS,
    PSP_CONNECT_TIMEOUT,
    PSP_TOTAL_TIMEOUT,
)
from midas.psp.breaker import BreakerLimits
from midas.psp.sdk import DEFAULT_API_BASE


@dataclass(frozen=True, slots=True, kw_only=True)
class PspOptions:
    """One Ping++ account. Secrets do not show in its repr.

    Raises SettingsError, whose sentence names what to set.
    """

    api_key: str = field(repr=False)
    """`sk_live_…` or `sk_test_…`: it selects the mode."""
    app_id: str
    private_key: str | None = field(default=None, repr=False)
    """PEM text; None sends requests without a signature, which Ping++ may refuse."""
    public_keys: tuple[str, ...] = field(default=(), repr=False)
    """PEM texts. With one or more, an answer that none of them signed is not believed."""
    api_base: str = DEFAULT_API_BASE
    connect_timeout: timedelta = PSP_CONNECT_TIMEOUT
    """The longest time for a place in the pool, DNS, TCP and TLS together."""
    total_timeout: timedelta = PSP_TOTAL_TIMEOUT
    """The longest time for a whole call."""
    concurrent_calls: int = PSP_CONCURRENT_CALLS
    """The most connections at once."""
    concurrent_flows: int = PSP_CONCURRENT_CALLS
    """The most places that `admit` gives at once."""
    answer_bytes: int = PSP_ANSWER_BYTES
    breaker: BreakerLimits = field(default_factory=BreakerLimits)

    def __post_init__(self) -> None:
        if not self.api_key.startswith((_LIVE, _TEST)) or not _is_word(self.api_key):
            raise SettingsError(
                "PINGPP_API_KEY must be the secret key of the Ping++ account, "
                f"which begins with {_LIVE} or {_TEST}."
            )
        if not _is_word(self.app_id):
            raise SettingsError("PINGPP_APP_ID must be the application's id, such as app_….")
        _require_base(self.api_base, livemode=self.livemode)
        _require_bounds(self)

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""
        return self.api_key.startswith(_LIVE)


_LIVE = "sk_live_"
_TEST = "sk_test_"


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and bool(text)


def _require_base(base: str, *, livemode: bool) -> None:
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.path or parts.query:
        raise SettingsError(
            f"PINGPP_API_BASE must be a scheme and a host, such as {DEFAULT_API_BASE}."
        )
    if livemode and parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError("PINGPP_API_BASE must be https: a live key is never sent in the clear.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_bounds(options: PspOptions) -> None:
    for name in ("connect_timeout", "total_timeout"):
        if getattr(options, name) <= timedelta(0):
            raise SettingsError(f"The Ping++ {name} must be longer than 0.")
    for name in ("concurrent_calls", "concurrent_flows", "answer_bytes"):
        if getattr(options, name) <= 0:
            raise SettingsError(f"The Ping++ bound {name} must be greater than 0.")
