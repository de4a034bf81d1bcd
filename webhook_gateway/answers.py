"""Every answer to a sender of webhooks. It is small, fixed and repeats nothing of the request."""

from enum import Enum

from aiohttp import web

SERVER = "webhook-gateway"
"""The name that is sent instead of the names and versions of libraries."""


class Answer(Enum):
    """A status and what led to it. The name, in lower case, is the whole body and the metric."""

    # Midas has the event on disk
    ACCEPTED = (200, 1)
    DUPLICATE = (200, 2)
    IGNORED = (200, 3)
    UNREADABLE = (200, 4)
    RECORDED = (200, 5)
    """On disk, with an outcome that this version does not know."""

    # it can never be accepted
    BAD_REQUEST = (400, 1)
    TWO_SIGNATURES = (400, 2)
    BAD_BODY = (400, 3)
    EMPTY_BODY = (400, 4)
    REFUSED = (400, 5)
    """Midas finds it invalid."""
    NO_SIGNATURE = (401, 1)
    BAD_SIGNATURE = (401, 2)
    NOT_FOUND = (404, 1)
    METHOD_NOT_ALLOWED = (405, 1)
    TOO_SLOW = (408, 1)
    EVENT_ID_REUSED = (409, 1)
    TOO_LARGE = (413, 1)
    CONTENT_ENCODING = (415, 1)
    EXPECTATION = (417, 1)
    HEAD_TOO_LARGE = (431, 1)
    """One header, the number of headers, or all of them together are too much."""

    # nothing may be assumed to be recorded: send it again
    UNAVAILABLE = (503, 1)
    OVERLOADED = (503, 2)
    UNEXPECTED = (503, 3)

    def __init__(self, status: int, _number: int) -> None:
        self.status = status
        self.outcome = self.name.lower()
        self._body = f"{self.outcome}\n".encode()
        self._headers = {"Content-Type": "text/plain", "Server": SERVER}
        if status == web.HTTPMethodNotAllowed.status_code:
            self._headers["Allow"] = "POST"

    def response(self, *, last: bool) -> web.Response:
        """The answer as HTTP. After `last`, as after every refusal, the connection is closed."""
        response = web.Response(status=self.status, body=self._body, headers=self._headers)
        if last or self.status != web.HTTPOk.status_code:
            response.force_close()
        return response
