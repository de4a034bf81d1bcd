"""What reached the sandbox, so that tests can count it."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import asdict, dataclass

from midas.sandbox.errors import Json

REQUESTS_KEPT = 10_000
BODY_CHARS_KEPT = 4_000


@dataclass(slots=True)
class LoggedRequest:
    """One API request that arrived; `status` and `answer_sha256` stay None without an answer.

    The digest is over the whole body as it was to be sent, also where the connection was cut.
    """

    seq: int
    time: float
    method: str
    path: str
    query: str
    order_no: str | None
    channel: str | None
    body: str
    handled: bool = False
    status: int | None = None
    answer_sha256: str | None = None
    charge_id: str | None = None
    faults: tuple[str, ...] = ()


class RequestLog:
    """The last requests under `/v1`, oldest first, and how many there were since the start."""

    def __init__(self) -> None:
        self._kept: deque[LoggedRequest] = deque(maxlen=REQUESTS_KEPT)
        self.total = 0

    def add(
        self,
        *,
        time: float,
        method: str,
        path: str,
        query: str,
        order_no: str | None,
        channel: str | None,
        body: bytes,
    ) -> LoggedRequest:
        """Note an arrival; the caller fills in the rest as it happens."""
        self.total += 1
        text = body[:BODY_CHARS_KEPT].decode(errors="replace")
        logged = LoggedRequest(self.total, time, method, path, query, order_no, channel, text)
        self._kept.append(logged)
        return logged

    def matching(
        self, method: str | None = None, path: str | None = None, order_no: str | None = None
    ) -> list[LoggedRequest]:
        """Those with this method and order_no, whose whole path the regular expression matches."""
        pattern = re.compile(path) if path is not None else None
        return [
            logged
            for logged in self._kept
            if method in (None, logged.method)
            and (pattern is None or pattern.fullmatch(logged.path))
            and order_no in (None, logged.order_no)
        ]

    def count(
        self, method: str | None = None, path: str | None = None, order_no: str | None = None
    ) -> int:
        """How many of the requests still kept match."""
        return len(self.matching(method, path, order_no))

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()
        self.total = 0


def request_json(logged: LoggedRequest) -> Json:
    """The request as the control API shows it."""
    return asdict(logged)
