"""Webhooks over HTTP: pooled connections, one answer or one reason why there is none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from midas.sandbox.forgery import Post

BODY_TYPE = "application/json;charset=utf-8"
TIMEOUT_LEAST_S = 1.0
"""How many real seconds a timeout has at least. With scaled time, a machine that is slow for a
moment must not lose webhooks."""
ANSWER_BYTES_MOST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: a status, or the reason why none came."""

    status: int | None
    error: str | None = None


class Poster:
    """POSTs to merchants. Call `open` before that and `close` after it."""

    def __init__(self, timeout_s: float, connections: int) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Get ready, in the running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": BODY_TYPE, "User-Agent": "midas-sandbox"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, url: str, post: Post) -> Reply:
        """Send it once. A redirect is not followed: it is an answer that is not 2xx."""
        if self._session is None:
            return Reply(None, "the sandbox is down")
        try:
            answer = await self._session.post(
                url, data=post.body, headers=post.headers, allow_redirects=False
            )
        except TimeoutError:
            return Reply(None, "timeout")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(None, f"{type(error).__name__}: {error}")
        await _read_away(answer)
        return Reply(answer.status)


async def _read_away(answer: aiohttp.ClientResponse) -> None:
    """Empty the connection for the next webhook; the content of an answer has no meaning."""
    read = 0
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        while not answer.content.at_eof() and read < ANSWER_BYTES_MOST:
            read += len(await answer.content.readany())
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()
