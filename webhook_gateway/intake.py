"""The way of a webhook from its request to an event on Midas's disk.

    method, path, headers, size, time → signature → reading → RecordEvent → 2xx

Nothing is parsed before its signature was found valid. 2xx is answered only when Midas has the
event. A body with a valid signature that cannot be read is recorded, too, because Ping++ would send
it again after any other answer.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPMethod

from aiohttp import StreamReader, hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11
from grpc import StatusCode
from multidict import istr

from midas.runtime.logs import failure, log_event
from midas.v1 import event_service_pb2 as events
from webhook_gateway import envelope
from webhook_gateway.answers import Answer
from webhook_gateway.calls import CallFailed
from webhook_gateway.connections import Connection
from webhook_gateway.metrics import Metrics
from webhook_gateway.refusals import RefusalLines
from webhook_gateway.signature import HEADER, Verifier

Record = Callable[[events.RecordEventRequest], Awaitable[events.RecordEventResponse]]
"""Lets Midas record an event; raises CallFailed."""

_log = logging.getLogger("midas.gateway")
_SIGNATURE = istr(HEADER)
_VERSIONS = (HttpVersion11, HttpVersion10)
_CHUNKED = "chunked"
NOT_MIDAS = "NOT_MIDAS"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class IntakeBounds:
    """What one webhook may take, and how many may be on their way to Midas."""

    path: str
    body_bytes: int
    body_timeout: timedelta
    concurrent: int


class Intake:
    """Handles the requests of the webhook port."""

    def __init__(
        self, verifier: Verifier, record: Record, bounds: IntakeBounds, metrics: Metrics
    ) -> None:
        self._verifier = verifier
        self._record_event = record
        self._bounds = bounds
        self._metrics = metrics
        self._under_way = 0
        self._recording = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._refusals = RefusalLines()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request. Raises nothing but CancelledError."""
        webhook = _Webhook()
        connection = request.protocol
        if isinstance(connection, Connection):
            webhook.connection = connection
            connection.busy = True
        self._under_way += 1
        try:
            answer = await self._answer(request, webhook)
        except _Refused as refused:
            answer = refused.answer
        except Exception as error:
            _log.exception("unexpected", extra=failure(error))
            answer = Answer.UNEXPECTED
        finally:
            webhook.end()
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        self._log_answer(webhook, answer)
        return answer.response(last=self._draining)

    async def drain(self, timeout: timedelta) -> bool:
        """Let requests end, each with its connection. Returns whether all ended in time."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                while self._under_way:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._refusals.close()
        return True

    async def _answer(self, request: web.BaseRequest, webhook: "_Webhook") -> Answer:
        signature = self._head(request)
        body = await self._body(request)
        signer = self._verifier.signer_of(signature, body)
        if signer is None:
            raise _Refused(Answer.BAD_SIGNATURE)
        webhook.read(body, signer)
        self._metrics.verified(webhook.type, signer)
        return await self._record(body, webhook)

    def _head(self, request: web.BaseRequest) -> str:
        """The signature, if everything before the body can be accepted. Raises _Refused."""
        if request.version not in _VERSIONS:
            raise _Refused(Answer.BAD_REQUEST)
        if request.method != HTTPMethod.POST:
            raise _Refused(Answer.METHOD_NOT_ALLOWED)
        if request.raw_path != self._bounds.path and request.rel_url.raw_path != self._bounds.path:
            raise _Refused(Answer.NOT_FOUND)
        headers = request.headers
        if headers.get(hdrs.TRANSFER_ENCODING, _CHUNKED).lower() != _CHUNKED:
            raise _Refused(Answer.BAD_REQUEST)
        if hdrs.CONTENT_ENCODING in headers:
            raise _Refused(Answer.CONTENT_ENCODING)
        if (request.content_length or 0) > self._bounds.body_bytes:
            raise _Refused(Answer.TOO_LARGE)
        signatures = headers.getall(_SIGNATURE, [])
        if len(signatures) > 1:
            raise _Refused(Answer.TWO_SIGNATURES)
        if not signatures or not signatures[0]:
            raise _Refused(Answer.NO_SIGNATURE)
        return signatures[0]

    async def _body(self, request: web.BaseRequest) -> bytes:
        content = request.content
        try:
            if content.is_eof():
                body = content.read_nowait()
            else:
                await _ask_for_body(request)
                async with asyncio.timeout(self._bounds.body_timeout.total_seconds()):
                    body = await self._collect(content)
        except TimeoutError:
            raise _Refused(Answer.TOO_SLOW) from None
        except (web.RequestPayloadError, ConnectionError):
            raise _Refused(Answer.BAD_BODY) from None
        if len(body) > self._bounds.body_bytes:
            raise _Refused(Answer.TOO_LARGE)
        if not body:
            raise _Refused(Answer.EMPTY_BODY)
        return body

    async def _collect(self, content: StreamReader) -> bytes:
        body = bytearray()
        while len(body) <= self._bounds.body_bytes and (some := await content.readany()):
            body += some
        return bytes(body)

    async def _record(self, body: bytes, webhook: "_Webhook") -> Answer:
        if self._recording >= self._bounds.concurrent:
            raise _Refused(Answer.OVERLOADED)
        request = events.RecordEventRequest(
            body=body, key_name=webhook.key_name, unreadable=webhook.unreadable
        )
        self._recording += 1
        started = time.monotonic()
        try:
            response = await self._record_event(request)
        except CallFailed as failed:
            webhook.code = failed.code
            raise _Refused(_BY_CODE.get(failed.code, Answer.UNAVAILABLE)) from None
        finally:
            self._recording -= 1
            self._metrics.recorded(time.monotonic() - started)
        if not response.outcome:
            # something that is not Midas, such as a proxy, answered OK: nothing is on disk
            webhook.code = NOT_MIDAS
            raise _Refused(Answer.UNAVAILABLE)
        webhook.reason = webhook.unreadable or response.reason
        if webhook.unreadable:
            return Answer.UNREADABLE
        return _BY_OUTCOME.get(response.outcome, Answer.RECORDED)

    def _log_answer(self, webhook: "_Webhook", answer: Answer) -> None:
        self._metrics.answered(answer.status, answer.outcome)
        if not webhook.key_name and not self._refusals.has_line(answer.outcome):
            return
        log_event(
            "webhook",
            {
                "status": answer.status,
                "verdict": answer.outcome,
                "event_id": webhook.event_id,
                "kind": webhook.type,
                "key": webhook.key_name,
                "reason": webhook.reason,
                "code": webhook.code,
                "duration_ms": round((time.monotonic() - webhook.started) * 1000, 1),
            },
        )


class _Webhook:
    """What is learnt about one request. The log needs it; nothing is decided by it."""

    __slots__ = (
        "code", "connection", "event_id", "key_name", "reason", "started", "type", "unreadable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.connection: Connection | None = None
        self.event_id = self.type = self.key_name = ""
        self.unreadable = self.reason = self.code = ""

    def read(self, body: bytes, signer: str) -> None:
        """Take the signature for valid: the connection is Ping++'s, and the body is read."""
        if self.connection is not None:
            self.connection.verified = True
        self.key_name = signer
        try:
            found = envelope.read(body)
        except envelope.Unreadable as unreadable:
            self.unreadable, self.type = unreadable.reason, envelope.OTHER
        else:
            self.event_id, self.type = found.event_id, found.label

    def end(self) -> None:
        """Mark the connection as idle again."""
        if self.connection is not None:
            self.connection.busy = self.connection.verified = False


class _Refused(Exception):
    """Ends a request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.outcome)
        self.answer = answer


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Send 100 Continue to a client that waits for it (RFC 9110, 10.1.1)."""
    expected = request.headers.get(hdrs.EXPECT)
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise _Refused(Answer.EXPECTATION)
    await request.writer.write(_CONTINUE)
    request.writer.output_size = 0  # the answer itself has not begun


_BY_OUTCOME = {
    events.EVENT_OUTCOME_ACCEPTED: Answer.ACCEPTED,
    events.EVENT_OUTCOME_DUPLICATE: Answer.DUPLICATE,
    events.EVENT_OUTCOME_IGNORED: Answer.IGNORED,
}

_BY_CODE = {
    StatusCode.ALREADY_EXISTS.name: Answer.EVENT_ID_REUSED,
    StatusCode.INVALID_ARGUMENT.name: Answer.REFUSED,
}
"""The statuses after which sending again cannot help. After every other one it may not be recorded,
so that Ping++ has to send it again."""
