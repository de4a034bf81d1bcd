"""What a call passes before any method gets it: permission first, then its message.

Every method is a stream for grpc, so that a call arrives here as soon as its headers are there. A
caller without permission is refused before anything of his message is read or unpacked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, NoReturn

import grpc
from grpc import aio

from midas.rpc import errors
from midas.rpc.arrivals import Arrivals, NoMessage, NotArrived, Shares
from midas.rpc.callers import ANYBODY, Callers, caller_of
from midas.rpc.refusals import Refusals

Context = aio.ServicerContext[Any, Any]

OPEN_CALLS = 64
"""How many calls of health may wait for their message beside those of payments."""
OPEN_STREAMS = 128
"""How many watches of health and streams of reflection there may be beside one on each connection.
A client needs no more than that one. They are all small and send little."""
CALLS_LEFT_WORTH_A_LINE = 100
"""How many calls of one caller in a minute are logged if he took them back before their message was
there. A few are deadlines that passed. This many are a defect or an attack (HTTP/2 rapid reset)."""


class Entrance:
    """Lets calls in, or ends them with an error that gives the reason; the log names the caller."""

    def __init__(self, arrivals: Arrivals, refusals: Refusals, callers: Callers = ANYBODY) -> None:
        self.arrivals = arrivals
        self.refusals = refusals
        self._callers = callers

    async def message(self, context: Context, method: str) -> tuple[str, bytes]:
        """The name under which the caller is permitted (empty if anybody is), and his request.

        Raises what grpc expects of a call that was ended: AbortError, or CancelledError when the
        caller has gone.
        """
        name: str | None = ""
        if self._callers.methods:
            name = self._callers.permitted(context.auth_context(), method)
        if name is None:
            await self.turn_away(context, method, errors.NOT_PERMITTED)
        try:
            return name, await self.arrivals.message(context)
        except NotArrived:
            await self.turn_away(context, method, errors.NOT_ARRIVED)
        except NoMessage:
            self._count_left(context, method)
            await end(context, errors.failure_in(errors.NO_REQUEST))
        except asyncio.CancelledError:
            self._count_left(context, method)
            raise

    async def turn_away(self, context: Context, method: str, row: errors.Row) -> NoReturn:
        """End the call with this error, and name the caller in the log. Raises AbortError."""
        self.refusals.log(row.reason, caller_of(context), method)
        await end(context, errors.failure_in(row, method=method))

    def _count_left(self, context: Context, method: str) -> None:
        caller = caller_of(context)
        self.refusals.log("CALLS_TAKEN_BACK", caller, method, CALLS_LEFT_WORTH_A_LINE)


class OpenMethods:
    """The methods that anybody may call, health and reflection, with bounds of their own."""

    def __init__(self, refusals: Refusals | None = None, connections: int = 0) -> None:
        self.entrance = Entrance(Arrivals(OPEN_CALLS), refusals or Refusals())
        self._shares = Shares(connections + OPEN_STREAMS)

    async def hold(self, context: Context, method: str, work: Awaitable[None]) -> None:
        """Do the work in a place of its own. The call is ended when another one needs the place."""
        try:
            caller = caller_of(context)
            holder = (caller.name or caller.address, context.peer())
            with self._shares.place(holder, Displaced()):
                await work
        except Displaced:
            await self.entrance.turn_away(context, method, errors.TOO_MANY_STREAMS)

    def bounded(self, handlers: grpc.GenericRpcHandler) -> grpc.GenericRpcHandler:
        """The handlers of these stream methods, with a place for each call."""
        return _Bounded(self, handlers)


class _Bounded(grpc.GenericRpcHandler):
    def __init__(self, place: OpenMethods, handlers: grpc.GenericRpcHandler) -> None:
        self._place = place
        self._handlers = handlers

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = self._handlers.service(handler_call_details)
        if handler is None:
            return None
        messages: Any = handler.stream_stream
        method = handler_call_details.method.removeprefix("/")

        async def serve(requests: AsyncIterator[Any], context: Context) -> None:
            async def answer() -> None:
                async for each in messages(requests, context):
                    await write(context, each)

            await self._place.hold(context, method, answer())

        return grpc.stream_stream_rpc_method_handler(
            serve, handler.request_deserializer, handler.response_serializer
        )


class Displaced(Exception):
    """Somebody else needed the place."""


async def write(context: Context, message: Any) -> None:
    """Send the whole message, even if the call is ended meanwhile.

    grpc takes no status while a message is being sent. If the caller reads nothing, this lasts
    until he goes; another call has the place by then.
    """
    sending = asyncio.ensure_future(context.write(message))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait([sending])
        if not sending.cancelled():
            sending.exception()  # the caller has gone; asyncio must not log that
        raise


async def end(context: Context, failed: errors.Failure) -> NoReturn:
    """End the call with this error. Raises AbortError, which grpc expects."""
    await context.abort(failed.code, failed.message, failed.trailers)
    raise AssertionError("abort raises")
