"""The HTTP server of both ports: how much of it strangers may hold, and for how long.

aiohttp's own defaults are not for facing the internet: an idle connection may stay for an hour, a
gzip body is unpacked, an unread answer waits for ever, and errors are answered with their text
(reliability.md F6, F7).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from aiohttp import web

from midas.runtime.logs import failure
from webhook_gateway.answers import Answer
from webhook_gateway.heads import (
    HEADERS,
    LINE_BYTES,
    MALFORMED,
    BoundedParser,
    Parser,
    Refusals,
    reason_of,
)
from webhook_gateway.metrics import Metrics, Unmetered

READ_BYTES = 16 * 1024
"""Half of the bytes that aiohttp reads ahead of the handler."""
LINGERING_S = 2.0
"""How long a refused body is still read and thrown away, so that the refusal itself arrives."""
BACKLOG = 1024
"""How many connections the kernel keeps while the process is busy."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_log = logging.getLogger("midas.gateway")


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """How many connections there may be, and how long one may take for a head or be idle."""

    most: int
    header_timeout: timedelta


class Connections(web.Server):
    """Makes a Connection of each accepted one, and closes the oldest when there are too many."""

    def __init__(
        self, handler: Handler, bounds: ConnectionBounds, metrics: Metrics | Unmetered
    ) -> None:
        super().__init__(
            handler,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=bounds.header_timeout.total_seconds(),
            lingering_time=LINGERING_S,
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            max_headers=HEADERS,
            read_bufsize=READ_BYTES,
        )
        self.metrics = metrics
        self.refusals = Refusals()
        self._most = bounds.most
        self._open: dict[Connection, asyncio.Transport] = {}

    def __call__(self) -> "Connection":
        """The protocol of one connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count it, and make room for it."""
        super().connection_made(handler, transport)
        if isinstance(handler, Connection):
            self._open[handler] = transport
        if len(self._open) > self._most:
            self._evict()
        self.metrics.connections(len(self._open))

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Count it no more."""
        super().connection_lost(handler, exc)
        if isinstance(handler, Connection):
            self._open.pop(handler, None)
        self.metrics.connections(len(self._open))

    def close_idle(self) -> None:
        """Close every connection on which no request is under way."""
        for connection in list(self._open):
            if not connection.busy:
                connection.force_close()

    def _evict(self) -> None:
        """Close the oldest that has shown no valid signature; that may be the newest itself."""
        for connection, transport in self._open.items():
            if not connection.verified:
                del self._open[connection]
                transport.abort()
                self.metrics.evicted()
                return


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_connections", "busy", "verified")

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(connections, **options)
        self._connections = connections
        self._parser: Any = BoundedParser(cast(Parser, self._parser))
        self.busy = False
        """Whether a request is under way."""
        self.verified = False
        """Whether that request has a valid signature, so that it is not closed for others."""

    def pause_writing(self) -> None:
        """Close it: a sender that lets answers of a few bytes pile up does not read them."""
        super().pause_writing()
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the sender
    ) -> web.StreamResponse:
        """A fixed answer instead of aiohttp's page."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if status >= web.HTTPInternalServerError.status_code:
            answer = Answer.UNEXPECTED
            _log.error("unexpected", extra=failure(exc) if exc is not None else {})
        else:
            reason = reason_of(exc)
            answer = Answer.BAD_REQUEST if reason == MALFORMED else Answer.HEAD_TOO_LARGE
            self._connections.refusals.log(reason)
        self._connections.metrics.answered(answer.status, answer.outcome)
        return answer.response(last=True)

    def log_exception(self, *_: Any, **__: Any) -> None:
        """Log nothing: a sender breaks only its own connection, and that is counted."""
