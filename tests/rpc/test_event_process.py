"""The real process with a gateway waiting at it."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.v1 import event_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.rpc.test_process import midas_serve, serving

if TYPE_CHECKING:
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

POLLS = 3
LONGER_THAN_THE_TEST = Duration(seconds=60)


async def test_a_waiting_gateway_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """SIGTERM: the long polls are answered at once, and the process ends with exit status 0.

    Both the polls and the drain may take a minute, which is three times as long as this test may.
    """
    settings = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/midas.db",
        "DRAIN_TIMEOUT_S": "60",
        "CONCURRENT_RPCS": str(POLLS),
    }
    async with midas_serve(**settings) as midas:
        port = (await midas.logged("serving"))["port"]
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await serving(watch)
            stub: EventServiceAsyncStub = EventServiceStub(channel)
            ending = asyncio.Event()
            polls = [asyncio.ensure_future(_poll(stub, ending)) for _ in range(POLLS)]
            await _all_places_taken(stub)
            assert not any(each.done() for each in polls)
            ending.set()
            midas.process.send_signal(signal.SIGTERM)
            for answer in await asyncio.gather(*polls):
                assert not answer.notifications
        assert await midas.ended() == 0
    assert midas.log[-1]["drained"] is True
    assert not [line for line in midas.log if line["level"] in ("error", "warning")]


async def _poll(
    stub: "EventServiceAsyncStub", ending: asyncio.Event
) -> pb.LeaseNotificationsResponse:
    """Wait there; again, if there was no place because of the one that looks if there is one."""
    request = pb.LeaseNotificationsRequest(wait=LONGER_THAN_THE_TEST)
    while True:
        try:
            return await stub.LeaseNotifications(request)
        except aio.AioRpcError as error:
            if ending.is_set() or error.code() is not StatusCode.UNAVAILABLE:
                raise


async def _all_places_taken(stub: "EventServiceAsyncStub") -> None:
    """Until one call more is one too many: then every poll is under way."""
    code = StatusCode.OK
    while code is StatusCode.OK:
        code = await stub.LeaseNotifications(pb.LeaseNotificationsRequest()).code()
    assert code is StatusCode.UNAVAILABLE
