"""What surrounds every method: bounds, deadline, rich errors and one log line.

The outermost wrapper of a method takes and gives bytes. So a request that is no protobuf, or too
large, is answered with the same rich details as every other error. No exception reaches a caller as
text.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from midas import limits
from midas.errors import MidasError, Overloaded
from midas.rpc import errors
from midas.rpc.entrance import Entrance, end
from midas.runtime.logs import failure, log_event
from midas.v1 import errors_pb2 as pb

Request = TypeVar("Request", bound=Message)
Context = aio.ServicerContext[Any, Any]

REPLY_MARGIN_S = 0.05
"""How many seconds of the caller's time are kept for the answer itself, at most a tenth of it. An
answer with what is known is worth more than DEADLINE_EXCEEDED."""

QUIET_S = 0.02
QUIET_TURNS = 10
"""grpc hands over one call in a turn of the event loop. If no call came for QUIET_S, and then in
QUIET_TURNS turns, there is none left."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Call:
    """One call under way, as a method gets it."""

    context: Context
    ids: dict[str, str | int] = field(default_factory=dict)
    """What the call is about, for its log line: order_no, refund_no, amount, channel, state, …"""

    @property
    def timeout(self) -> timedelta | None:
        """How long the method may still take; None when the caller set no deadline."""
        return _time_for(self.context)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request]):
    """One method. `name` is `package.Service/Method`."""

    name: str
    request: type[Request]
    answer: Callable[[Request, Call], Awaitable[Message]]
    moves_money: bool = False
    """Whether an unforeseen end leaves the outcome unknown. For other methods nothing happened."""


class Calls:
    """All calls of a server: wraps its methods and knows what is under way."""

    def __init__(self, entrance: Entrance, concurrent_max: int) -> None:
        self._entrance = entrance
        self._concurrent_max = concurrent_max
        self._active: set[asyncio.Task[Any]] = set()
        """All calls, also those that wait for their message and those that are being refused."""
        self._with_message = 0
        self._begun = 0
        self._interrupting = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def caught_up(self, longest: timedelta) -> None:
        """Wait until grpc hands over no more calls, for at most `longest`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest.total_seconds()):
                begun = -1
                while begun != self._begun:
                    begun = self._begun
                    await asyncio.sleep(QUIET_S)
                    for _ in range(QUIET_TURNS):
                        await asyncio.sleep(0)

    async def finished(self, timeout: timedelta) -> int:
        """Wait until no call is under way, for at most `timeout`. Gives the number left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout.total_seconds()):
                await self._idle.wait()
        return len(self._active)

    def interrupt(self) -> None:
        """Answer every call under way at once with the error of an interrupted call."""
        self._interrupting = True
        for task in self._active - self._entrance.arrivals.end_all():
            task.cancel()

    def handler(self, method: Method[Any]) -> "grpc.RpcMethodHandler[Any, Any]":
        """What grpc calls for this method, with bytes in and out."""

        async def serve(_: object, context: Context) -> bytes:
            task = _this_task()
            self._active.add(task)
            self._begun += 1
            self._idle.clear()
            try:
                caller, raw = await self._entrance.message(context, method.name)
                self._with_message += 1
                try:
                    return await self._serve(method, raw, Call(context, _ids(caller)), task)
                finally:
                    self._with_message -= 1
            finally:
                self._active.discard(task)
                if not self._active:
                    self._idle.set()

        return grpc.stream_unary_rpc_method_handler(serve)

    async def _serve(
        self, method: Method[Any], raw: bytes, call: Call, task: asyncio.Task[Any]
    ) -> bytes:
        started = perf_counter()
        try:
            answer = await self._answer(method, raw, call)
            _log_call(method, call, started)
        except BaseException as error:
            failed = _failure(method, error, gone=task.cancelling() > 0 and not self._interrupting)
            if failed is None:
                _log_call(method, call, started, code="CANCELLED")
                raise
            _log_failed_call(method, call, started, failed, error)
            await end(call.context, failed)
        return answer

    async def _answer(self, method: Method[Any], raw: bytes, call: Call) -> bytes:
        if self._with_message > self._concurrent_max:
            raise Overloaded
        if len(raw) > limits.REQUEST_BYTES:
            size, most = len(raw), limits.REQUEST_BYTES
            raise Refused(errors.failure_in(errors.TOO_LARGE, bytes=size, bytes_max=most))
        try:
            request = method.request.FromString(raw)
        except DecodeError:
            message = method.request.DESCRIPTOR.full_name
            raise Refused(errors.failure_in(errors.UNREADABLE, message=message)) from None
        answer = await method.answer(request, call)
        return answer.SerializeToString()


class Refused(Exception):
    """A call that ends before any method of Midas gets it."""

    def __init__(self, failure: errors.Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class UnknownMethods(grpc.GenericRpcHandler):
    """Answers calls of methods that do not exist, without reading them. It comes last."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler of any method."""
        method = handler_call_details.method.removeprefix("/")

        async def serve(_: object, context: Context) -> bytes:
            await self._entrance.turn_away(context, method, errors.NO_SUCH_METHOD)

        return grpc.stream_unary_rpc_method_handler(serve)


def _ids(caller: str) -> dict[str, str | int]:
    return {"caller": caller} if caller else {}


def _time_for(context: Context) -> timedelta | None:
    left: float | None = context.time_remaining()
    if left is None:
        return None
    return timedelta(seconds=left - min(REPLY_MARGIN_S, left / 10))


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - grpc.aio runs every handler in a task
    return task


def _failure(method: Method[Any], error: BaseException, *, gone: bool) -> errors.Failure | None:
    """The error for the caller; None if he has gone (`gone`), so that nobody waits for one."""
    if isinstance(error, MidasError):
        return errors.failure_of(error)
    if isinstance(error, Refused):
        return error.failure
    if isinstance(error, asyncio.CancelledError):
        if gone:
            return None
        # grpc.aio takes any CancelledError for the caller's own and answers without any details
        row = errors.INTERRUPTED_PAYMENT if method.moves_money else errors.INTERRUPTED
        return errors.failure_in(row)
    if isinstance(error, Exception):
        error_id = secrets.token_hex(8)
        unknown = method.moves_money
        return errors.failure_in(errors.INTERNAL, unknown=unknown, error_id=error_id)
    return None


def _log_call(method: Method[Any], call: Call, started: float, code: str = "OK") -> None:
    took = round((perf_counter() - started) * 1000, 3)
    log_event("call", {"method": method.name, "code": code, "duration_ms": took, **call.ids})


def _log_failed_call(
    method: Method[Any],
    call: Call,
    started: float,
    failed: errors.Failure,
    error: BaseException,
) -> None:
    more: dict[str, str] = {}
    if failed.code is grpc.StatusCode.INTERNAL:
        more = failure(error) | {"error_id": failed.message.rpartition(" ")[2]}
    _log_failure(method.name, call.ids | more, started, failed)


def _log_failure(
    method: str, more: Mapping[str, str | int], started: float, failed: errors.Failure
) -> None:
    extra = {
        "method": method,
        "code": failed.code.name,
        "duration_ms": round((perf_counter() - started) * 1000, 3),
        "reason": failed.reason,
        "money_moved": pb.MoneyMoved.Name(failed.money_moved).removeprefix("MONEY_MOVED_"),
        **more,
    }
    level = logging.ERROR if failed.code in _OURS else logging.INFO
    _log.log(level, "call", extra=extra)


_OURS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
"""The codes of errors that somebody who runs Midas should look at."""
