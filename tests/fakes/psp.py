"""The real Ping++ adapter over the sandbox's engine, without sockets.

The code that prepares, signs, judges and reads is the product's own; only the wire is missing.
"""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

from midas.psp.client import PingppClient
from midas.psp.options import PspOptions
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Sent, Wire
from midas.sandbox.ledger import Lookalike

API_BASE = "http://127.0.0.1:1"


class DirectWire:
    """Hands each request straight to the engine."""

    def __init__(self, lookalike: Lookalike) -> None:
        self._lookalike = lookalike

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Carried out and answered."""
        return deliver(self._lookalike, request)


def deliver(lookalike: Lookalike, request: Prepared) -> Answer:
    """Let the engine carry a request out; its whole answer."""
    parts = urlsplit(request.url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    status, answer = lookalike.handle(request.method, parts.path, query, request.body or b"")
    date = formatdate(lookalike.now(), usegmt=True)
    return Answer(status, json.dumps(answer, ensure_ascii=False).encode(), "", date)


def client_over(
    wire: Wire,
    app_id: str,
    total_timeout: timedelta,
    monotonic: Callable[[], float] = time.monotonic,
) -> PingppClient:
    """The adapter with this wire in place of its connections.

    `monotonic` goes as fast as Ping++'s clock, which is in the dates of its answers.
    """
    options = PspOptions(
        api_key="sk_test_000000000000000000000000",
        app_id=app_id,
        api_base=API_BASE,
        total_timeout=total_timeout,
    )
    return PingppClient(options, wire, monotonic)
