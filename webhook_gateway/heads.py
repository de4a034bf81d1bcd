"""The head of a request: how much of one is taken, and the log lines of heads that are refused.

The bounds are those of the servers and proxies that may stand in front, so that no head that they
pass on is refused here. They are wide: aiohttp bounds each header and their number, which together
would be 800 kB on every connection, so BoundedParser bounds the whole.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

LINE_BYTES = 8190
"""The most bytes of the first line, and of one header with its name."""
HEADERS = 100
HEAD_BYTES = 32 * 1024
"""The most bytes of all headers together, and again of all that stands between and behind the
chunks of a body. An endless head holds that much on each connection until HEADER_TIMEOUT_S."""
PIECE_BYTES = 8 * 1024
"""How many bytes are parsed before HEAD_BYTES is checked again. It may be exceeded by as many."""
LOG_EVERY_S = 60.0

TOO_LONG = "head_too_long"
LINE_TOO_LONG = "line_too_long"
TOO_MANY = "too_many_headers"
MALFORMED = "malformed"

Parsed = tuple[Sequence[tuple[Any, StreamReader]], bool, bytes]
"""Requests whose heads are complete, whether another protocol begins, and what is left for it."""

_TOO_MANY_OF_AIOHTTP = "Too many headers"
_log = logging.getLogger("midas.gateway")


class Parser(Protocol):
    """What a connection of aiohttp asks of its parser."""

    def feed_data(self, data: bytes) -> Parsed:
        """Parse what has come."""

    def feed_eof(self) -> object:
        """Nothing more comes."""

    def pause_reading(self) -> None:
        """The body is not read as fast as it comes."""

    def message_consumed(self) -> None:
        """One of the requests is taken up."""

    def set_upgraded(self, val: bool) -> None:
        """Whether another protocol is spoken."""


class HeadTooLong(BadHttpMessage):
    """All headers together are too long."""


class BoundedParser:
    """Feeds a parser piece by piece, and ends a request with too much beside its body."""

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._body: StreamReader = EMPTY_PAYLOAD
        self._beside = 0
        self._refused = False
        self.feed_eof = parser.feed_eof
        self.pause_reading = parser.pause_reading
        self.message_consumed = parser.message_consumed
        self.set_upgraded = parser.set_upgraded

    def feed_data(self, data: bytes) -> Parsed:
        """Parse what has come. Raises BadHttpMessage for what is not HTTP, or too much of it."""
        messages, upgraded, tail = self._parse(data[:PIECE_BYTES])
        for start in range(PIECE_BYTES, len(data), PIECE_BYTES):
            if upgraded:
                return messages, upgraded, tail + data[start:]
            more, upgraded, tail = self._parse(data[start : start + PIECE_BYTES])
            messages = (*messages, *more)
        return messages, upgraded, tail

    def _parse(self, piece: bytes) -> Parsed:
        if self._refused:
            return (), False, b""
        before = self._body.total_bytes
        parsed = self._parser.feed_data(piece)
        messages = parsed[0]
        if messages:
            self._body, self._beside = messages[-1][1], 0
            return parsed
        # bytes that the parser keeps for later are counted one piece too early
        self._beside += len(piece) - (self._body.total_bytes - before)
        if self._beside > HEAD_BYTES:
            self._refuse()
        return parsed

    def _refuse(self) -> None:
        self._refused = True
        if self._body.is_eof():
            raise HeadTooLong(TOO_LONG)
        self._body.set_exception(web.RequestPayloadError(TOO_LONG))


def reason_of(refusal: BaseException | None) -> str:
    """Why a head was refused, as a constant that quotes nothing of it."""
    match refusal:
        case HeadTooLong():
            return TOO_LONG
        case LineTooLong():
            return LINE_TOO_LONG
        case BadHttpMessage(message=str(text)) if text.startswith(_TOO_MANY_OF_AIOHTTP):
            return TOO_MANY
    return MALFORMED


class Refusals:
    """Logs refused heads: each reason at once, and then once a minute how often.

    A head that is too large is a warning: a proxy in front may cause it, and nobody would know.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: dict[str, int] = {}
        self._logged_at: dict[str, float] = {}

    def log(self, reason: str) -> None:
        """Count one more, and log how many there were when it is time."""
        count = self._counts[reason] = self._counts.get(reason, 0) + 1
        now, logged_at = self._now(), self._logged_at.get(reason)
        if logged_at is None or now - logged_at >= LOG_EVERY_S:
            level = logging.INFO if reason == MALFORMED else logging.WARNING
            _log.log(level, "head_refused", extra={"reason": reason, "count": count})
            self._counts[reason], self._logged_at[reason] = 0, now
