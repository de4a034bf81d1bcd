"""Sends one request over pooled connections; the result is what is known about it afterwards.

Answer: the whole answer is here. NotSent: no byte of the request left. Lost: the request may have
arrived, and no whole answer came back.
"""

import ssl
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.client import ClientTimeout
from yarl import URL

from midas.immutable import record
from midas.psp.sdk import Prepared

KEEPALIVE_S = 15.0
"""How long an idle connection is kept: not long, so that Ping++ seldom closes it before its use."""

TIMEOUT = "timeout"
NO_TIME_LEFT = "no_time_left"
SIGNATURE_HEADER = "X-Pingplusplus-Signature"
_READ_BUFFER_BYTES = 64 * 1024


@record(frozen=True, slots=True)
class Answer:
    """A whole answer. `signature` is empty when there is none, or more than one.

    `date` is the header as it came, empty when there is none.
    """

    status: int
    body: bytes
    signature: str
    date: str = field(default="", compare=False)


@record(frozen=True, slots=True)
class NotSent:
    """Proven: no byte of the request left. `reason` is a constant."""

    reason: str


@record(frozen=True, slots=True)
class Lost:
    """Ping++ may have the request. `reason` is a constant."""

    reason: str


Sent = Answer | NotSent | Lost


class Wire(Protocol):
    """What sends requests: `Transport`, or a stand-in for it."""

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """End all connections."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Send once, within the limit. Raises only cancellation."""


class Transport:
    """A pool of connections to one place. Redirects, cookies and proxy variables are ignored.

    A POST leaves at most once in any case. A GET changes nothing at Ping++: if its kept connection
    turns out to be closed, it is sent once more on a fresh one.
    """

    def __init__(
        self,
        connect_timeout: timedelta,
        concurrent_calls: int,
        answer_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout.total_seconds()
        self._concurrent_calls = concurrent_calls
        self._answer_bytes = answer_bytes
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready; connections are made when they are needed."""
        connector = _Connector(
            limit=self._concurrent_calls,
            keepalive_timeout=KEEPALIVE_S,
            ssl=self._tls if self._tls is not None else True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
        )

    async def close(self) -> None:
        """Close all connections; calls under way become Lost."""
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Send once and read the whole answer, both within `limit`. Raises only cancellation."""
        if limit <= timedelta(0):
            return NotSent(NO_TIME_LEFT)
        attempt = _Attempt(request.method == "POST")
        token = _ATTEMPT.set(attempt)
        try:
            return await self._exchange(request, _timeouts(limit, self._connect_timeout_s))
        except Exception as failure:
            reason = _reason(failure)
            return Lost(reason) if attempt.connected else NotSent(reason)
        finally:
            _ATTEMPT.reset(token)

    async def _exchange(self, request: Prepared, timeout: ClientTimeout) -> Sent:
        if self._session is None:
            return NotSent("not_open")
        async with self._session.request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            body = await self._read(response)
            if body is None:
                response.close()
                return Lost("answer_too_large")
            signatures = response.headers.getall(SIGNATURE_HEADER, [])
            signature = signatures[0] if len(signatures) == 1 else ""
            date = response.headers.get(hdrs.DATE, "")
            return Answer(response.status, body, signature, date)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The body after decompression; None if it is longer than allowed."""
        length = response.content_length
        if length is not None and length <= self._answer_bytes and not _is_coded(response):
            return await response.read()
        chunks: list[bytes] = []
        room = self._answer_bytes
        async for chunk in response.content.iter_any():
            room -= len(chunk)
            if room < 0:
                return None
            chunks.append(chunk)
        return b"".join(chunks)


@lru_cache(maxsize=16)
def _timeouts(limit: timedelta, connect_s: float) -> ClientTimeout:
    """Exact timeouts: by default aiohttp rounds those of more than a few seconds up."""
    return ClientTimeout(
        total=limit.total_seconds(), connect=connect_s, ceil_threshold=float("inf")
    )


def _is_coded(response: aiohttp.ClientResponse) -> bool:
    """Whether the body may be longer than the number of its bytes on the wire."""
    return hdrs.CONTENT_ENCODING in response.headers


class _SecondAttempt(Exception):
    """A POST was about to leave a second time."""


@dataclass(slots=True)
class _Attempt:
    once: bool
    connected: bool = False


_ATTEMPT: ContextVar[_Attempt] = ContextVar("_ATTEMPT")


class _Connector(aiohttp.TCPConnector):
    """Notes when a request gets its connection: until then, no byte of it can have left.

    Connecting includes the wait for a place in the pool, DNS, TCP and the TLS handshake.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: ClientTimeout,
    ) -> aiohttp.connector.Connection:
        attempt = _ATTEMPT.get()
        if attempt.connected and attempt.once:
            raise _SecondAttempt
        connection = await super().connect(req, traces, timeout)
        attempt.connected = True
        return connection


def _reason(failure: Exception) -> str:
    for kind, reason in _REASONS.items():
        if isinstance(failure, kind):
            return reason
    return "transport_failed"


_REASONS: dict[type[Exception], str] = {
    aiohttp.ConnectionTimeoutError: "connect_timeout",
    TimeoutError: TIMEOUT,
    aiohttp.ClientConnectorDNSError: "name_not_resolved",
    aiohttp.ClientConnectorCertificateError: "tls_certificate",
    aiohttp.ClientConnectorSSLError: "tls_handshake",
    aiohttp.ClientConnectorError: "connect_failed",
    aiohttp.ClientPayloadError: "answer_cut_short",
    aiohttp.ClientResponseError: "not_http",
    aiohttp.ClientConnectionError: "connection_lost",
    _SecondAttempt: "connection_lost",
    OSError: "connection_lost",
}
"""The reason by the kind of failure. The first that fits counts: special ones come before bases."""
