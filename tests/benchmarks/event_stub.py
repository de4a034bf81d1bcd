"""In place of Midas: RecordEvent answered at once, nothing stored, and health that serves."""

import grpc
import uvloop
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from midas.v1 import event_service_pb2 as pb
from tests.benchmarks.child import only, serve_at

_ACCEPTED = pb.RecordEventResponse(
    outcome=pb.EVENT_OUTCOME_ACCEPTED, event_id=f"evt_{'4' * 24}", type="charge.succeeded"
)


async def accept(_request: pb.RecordEventRequest, _: object) -> pb.RecordEventResponse:
    """Answer that it was recorded."""
    return _ACCEPTED


async def accept_all(request: pb.RecordEventsRequest, _: object) -> pb.RecordEventsResponse:
    """The same of each."""
    result = pb.RecordEventResult(recorded=_ACCEPTED)
    return pb.RecordEventsResponse(results=[result] * len(request.events))


async def check(
    _request: health_pb2.HealthCheckRequest, _: object
) -> health_pb2.HealthCheckResponse:
    """Answer that it serves: a gateway is ready only once Midas is."""
    return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def _main() -> None:
    server = grpc.aio.server()
    service = "midas.v1.EventService"
    one = only("RecordEvent", pb.RecordEventRequest, accept, service)
    several = only("RecordEvents", pb.RecordEventsRequest, accept_all, service)
    health = only("Check", health_pb2.HealthCheckRequest, check, "grpc.health.v1.Health")
    server.add_generic_rpc_handlers((one, several, health))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await serve_at(port)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_main())
