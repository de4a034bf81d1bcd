"""How a sandbox is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEBHOOK_PAUSES_S = (5, 10, 120, 300, 600, 1800, 3600, 7200, 21600, 54000)
"""Ping++'s pauses between the sends of a webhook (pingpp.md section 5), in seconds."""
DEFAULT_APP_ID = "app_MidasSandbox0000"
TEST_API_KEY = "sk_test_MidasSandbox000000000000"
LIVE_API_KEY = "sk_live_MidasSandbox000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Every field has a default that makes a sandbox on a free port of the loopback address."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port."""
    app_id: str = DEFAULT_APP_ID
    api_key: str = ""
    """The secret key; empty means a fixed well-known one of the right mode."""
    livemode: bool = False
    merchant_public_key: str | None = None
    """PEM. When present every request, GET too, must be signed by its private half."""
    strict: bool = False
    """True refuses what Ping++'s newest SDKs never send, though no document says that Ping++
    refuses it: signatures over the body alone, which older SDKs sent, and `True` in a query."""
    signing_private_key: str | None = None
    """PEM of the key that answers (and events) are signed with; made at start when absent."""
    sign_answers: bool = True
    public_key_path: Path | None = None
    """Where to write the public half, for `PINGPP_PUBLIC_KEY_PATHS`."""
    ledger_path: Path | None = None
    """A file that survives a kill; the sandbox continues from it."""
    latency_s: float = 0.0
    """Real seconds that each API call waits before it is handled."""
    time_scale: float = 1.0
    """How many seconds pass in the sandbox for each real one."""
    wx_reverse_after_s: float = 0.0
    """WeChat's online channels refuse `reverse` on charges younger than this."""
    refund_description_required: bool = True
    """Older documentation requires it, and newer calls it optional; the sandbox is strict."""
    compact_json: bool = False
    """True leaves out the 4-space layout of real answers: faster, for benchmarks."""
    webhook_urls: tuple[str, ...] = ()
    """Where every event is sent; `SandboxServer.webhooks.urls` changes it later."""
    webhook_pauses_s: tuple[float, ...] = WEBHOOK_PAUSES_S
    """Pauses of the sandbox's time before the second, third, ... send of one webhook."""
    webhook_sends_most: int = 10
    """Ping++ documents at most 10 sends and lists ten pauses, so the last pause is not used;
    11 uses all ten pauses."""
    webhook_timeout_s: float = 5.0
    """How long an answer is waited for. Ping++ documents no such time; the channels take 5 s. It is
    scaled like all time here, but to no less than a real second (or to this, if it is less)."""
    webhook_concurrency: int = 32
    """How many webhooks are under way at once, at most."""
    rng_seed: int | None = None
    """Makes ids and channel numbers repeatable, given the same clock."""

    def key(self) -> str:
        """The secret key that requests must carry."""
        return self.api_key or (LIVE_API_KEY if self.livemode else TEST_API_KEY)

    def __repr__(self) -> str:
        # Keys stay out of logs, also those of a sandbox.
        return (
            f"SandboxOptions(host={self.host!r}, port={self.port}, app_id={self.app_id!r}, "
            f"livemode={self.livemode}, ledger_path={self.ledger_path!r}, "
            f"webhook_urls={self.webhook_urls!r})"
        )
