"""Whether Midas serves, by its own answer.

The state of a channel does not show that. It is READY as long as something holds the connection
open: that may be a Midas whose database is away, one that hangs, or a proxy with nothing behind it.
"""

import asyncio

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from webhook_gateway.calls import CallFailed, answer_of

READY = "READY"
NOT_READY = "NOT_READY"
ANSWER_S = 0.5
"""How long Midas may take to answer. Less than the second that a probe itself usually has."""
SERVICE = "midas.v1.EventService"


class MidasHealth:
    """Asks Midas for its health; several that ask at the same time share one call."""

    def __init__(self, channel: aio.Channel) -> None:
        self._check = health_pb2_grpc.HealthStub(channel).Check
        self._asking: asyncio.Task[str] | None = None

    async def state(self) -> str:
        """READY, NOT_READY, or the code of a call that failed: UNAVAILABLE or another."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> str:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            answer = await answer_of(self._check, request, ANSWER_S)
        except CallFailed as failed:
            return failed.code
        return READY if answer.status == health_pb2.HealthCheckResponse.SERVING else NOT_READY
