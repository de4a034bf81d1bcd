"""grpc.health.v1: SERVING only while Midas can take money. A drain begins with NOT_SERVING.

The servicer of grpcio-health-checking answers SERVING from the start, and keeps its watchers
waiting through a shutdown. So every drain would take as long as it may.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from midas.rpc import errors
from midas.rpc.entrance import OpenMethods, end, write

Context = aio.ServicerContext[Any, Any]
_Response = health_pb2.HealthCheckResponse

SERVICE = "grpc.health.v1.Health"


class Health:
    """One state for the server as a whole (the empty name) and for each of its services."""

    def __init__(self, services: Iterable[str] = ()) -> None:
        self.know(services)
        self._ready = False
        self._draining = False
        self._changed = asyncio.Condition()

    def know(self, services: Iterable[str]) -> None:
        """Set the services that are served beside health itself."""
        self._services = frozenset({"", *services})

    @property
    def status(self) -> Any:
        """SERVING or NOT_SERVING."""
        return _Response.SERVING if self._ready else _Response.NOT_SERVING

    async def set_ready(self, ready: bool) -> None:
        """Set whether calls can be served. It has no effect once the drain has begun."""
        async with self._changed:
            self._ready = ready and not self._draining
            self._changed.notify_all()

    async def drain(self) -> None:
        """Set NOT_SERVING for good. Watchers get that as their last message."""
        async with self._changed:
            self._ready = False
            self._draining = True
            self._changed.notify_all()

    async def Check(  # noqa: N802 - the name of the RPC
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The present state; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            failed = errors.failure_in(errors.NO_SUCH_SERVICE, service=request.service)
            await context.abort(failed.code, failed.message, failed.trailers)
        return _Response(status=self.status)

    def list(self) -> health_pb2.HealthListResponse:
        """The present state of the server and of each of its services."""
        now = _Response(status=self.status)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._services, now))

    async def Watch(  # noqa: N802 - the name of the RPC
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """Send the present state and every change, until the drain."""
        known = request.service in self._services
        sent: Any = None
        while True:
            status = self.status if known else _Response.SERVICE_UNKNOWN
            if status != sent:
                await write(context, _Response(status=status))
                sent = status
            async with self._changed:
                if self._draining and sent != _Response.SERVING:
                    return
                if not known or sent == self.status:
                    await self._changed.wait()


def handlers(health: Health, open_methods: OpenMethods | None = None) -> grpc.GenericRpcHandler:
    """The handlers that serve health to anybody, with bounds of their own."""
    anybody = open_methods or OpenMethods()

    async def check(_: object, context: Context) -> bytes:
        _, raw = await anybody.entrance.message(context, f"{SERVICE}/Check")
        answer = await health.Check(await _request(raw, context), context)
        written: bytes = answer.SerializeToString()
        return written

    async def listed(_: object, context: Context) -> bytes:
        await anybody.entrance.message(context, f"{SERVICE}/List")
        written: bytes = health.list().SerializeToString()
        return written

    async def watch(_: object, context: Context) -> None:
        _, raw = await anybody.entrance.message(context, f"{SERVICE}/Watch")
        request = await _request(raw, context)
        await anybody.hold(context, f"{SERVICE}/Watch", health.Watch(request, context))

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.stream_unary_rpc_method_handler(check),
            "List": grpc.stream_unary_rpc_method_handler(listed),
            "Watch": grpc.stream_stream_rpc_method_handler(
                watch, response_serializer=_Response.SerializeToString
            ),
        },
    )


async def _request(raw: bytes, context: Context) -> health_pb2.HealthCheckRequest:
    try:
        return health_pb2.HealthCheckRequest.FromString(raw)
    except DecodeError:
        name = health_pb2.HealthCheckRequest.DESCRIPTOR.full_name
        await end(context, errors.failure_in(errors.UNREADABLE, message=name))
