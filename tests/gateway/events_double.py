"""Midas's EventService as a scripted double on a real gRPC server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.v1 import event_service_pb2 as events
from midas.v1.event_service_pb2_grpc import (
    EventServiceServicer,
    add_EventServiceServicer_to_server,
)

SERVICE = "midas.v1.EventService"
Script = Callable[[events.RecordEventRequest], Awaitable[events.RecordEventResponse]]


class Fails(Exception):
    """Raised by a script: RecordEvent ends with this status."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(code)
        self.code = code


async def accepts(request: events.RecordEventRequest) -> events.RecordEventResponse:
    """What Midas answers when all is well."""
    outcome = events.EVENT_OUTCOME_IGNORED if request.unreadable else events.EVENT_OUTCOME_ACCEPTED
    return events.RecordEventResponse(outcome=outcome)


class EventsDouble(EventServiceServicer):
    """Keeps every RecordEvent and answers by `script`."""

    def __init__(self) -> None:
        self.recorded: list[events.RecordEventRequest] = []
        self.script: Script = accepts

    async def RecordEvent(  # noqa: N802 - named by gRPC
        self,
        request: events.RecordEventRequest,
        context: aio.ServicerContext[events.RecordEventRequest, events.RecordEventResponse],
    ) -> events.RecordEventResponse:
        """Keep it, then answer by the script."""
        self.recorded.append(request)
        try:
            return await self.script(request)
        except Fails as fails:
            await context.abort(fails.code, "details that nobody outside may see")
            raise

    async def RecordEvents(  # noqa: N802
        self,
        request: events.RecordEventsRequest,
        context: aio.ServicerContext[events.RecordEventsRequest, events.RecordEventsResponse],
    ) -> events.RecordEventsResponse:
        """Answer each by the script."""
        self.recorded.extend(request.events)
        results = await asyncio.gather(*(self._result(each) for each in request.events))
        return events.RecordEventsResponse(results=results)

    async def _result(self, request: events.RecordEventRequest) -> events.RecordEventResult:
        try:
            return events.RecordEventResult(recorded=await self.script(request))
        except Fails as fails:
            error = events.RecordEventError(reason=_REASONS.get(fails.code, "STORAGE_UNAVAILABLE"))
            error.permanent = fails.code in _REASONS
            return events.RecordEventResult(error=error)

    async def LeaseNotifications(  # noqa: N802
        self,
        request: events.LeaseNotificationsRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> events.LeaseNotificationsResponse:
        """Nothing, after the wait."""
        await asyncio.sleep(request.wait.seconds)
        return events.LeaseNotificationsResponse()

    async def SettleNotifications(  # noqa: N802
        self,
        request: events.SettleNotificationsRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> events.SettleNotificationsResponse:
        """Nothing was leased, so nothing counts."""
        return events.SettleNotificationsResponse(applied=[False] * len(request.settlements))


_REASONS = {
    grpc.StatusCode.ALREADY_EXISTS: "EVENT_ID_REUSED",
    grpc.StatusCode.INVALID_ARGUMENT: "INVALID_REQUEST",
}


@asynccontextmanager
async def served(double: EventsDouble, port: int = 0) -> AsyncIterator[int]:
    """The port on which the double answers, until the end."""
    server = aio.server(options=[("grpc.so_reuseport", 0)])
    add_EventServiceServicer_to_server(double, server)
    health_service = health.aio.HealthServicer()
    await health_service.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)
