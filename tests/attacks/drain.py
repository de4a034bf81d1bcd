"""SIGTERM in the middle of many calls: what became of each of them.

Callers that heed health call until it is NOT_SERVING; a burst of the others comes with the signal
itself. After a call that ends without PaymentErrorDetail the caller does not know what came of it.
"""

import asyncio
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.attacks.stage import launched
from tests.rpc.scripted import charge_request

CHANNELS = 40
CALLS_EACH = 8
BURST = 100
BEFORE_S = 2.0
SERVING = health_pb2.HealthCheckResponse.SERVING
DETAILS = "grpc-status-details-bin"


@dataclass
class Ends:
    """How calls ended."""

    served: int = 0
    detailed: Counter[str] = field(default_factory=Counter)
    """Errors with details."""
    bare: Counter[str] = field(default_factory=Counter)
    """Errors without any."""
    status: int | None = None

    async def call(self, channel: aio.Channel) -> bool:
        """Make one call. False if it was not served."""
        try:
            await PaymentServiceStub(channel).Charge(charge_request(), timeout=20)
        except aio.AioRpcError as error:
            has_details = DETAILS in dict(error.trailing_metadata() or ())
            ends = self.detailed if has_details else self.bare
            ends[f"{error.code().name}: {error.details()}"[:60]] += 1
            return False
        self.served += 1
        return True


class Caller:
    """One channel, and whether health is still SERVING."""

    def __init__(self, port: int, ends: Ends) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = aio.insecure_channel(f"127.0.0.1:{port}", options)
        self.stopped = asyncio.Event()
        self._ends = ends

    async def heed(self) -> None:
        """Wait until health is NOT_SERVING."""
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest())
        was_serving = False
        async for health in watch:
            if was_serving and health.status != SERVING:
                break
            was_serving = health.status == SERVING
        self.stopped.set()

    async def call(self) -> None:
        """One call after the other, some at a time, until then."""

        async def one_after_the_other() -> None:
            while not self.stopped.is_set():
                await self._ends.call(self.channel)

        await asyncio.gather(*(one_after_the_other() for _ in range(CALLS_EACH)))

    async def burst(self, count: int) -> None:
        """Make many calls at once."""
        await asyncio.gather(*(self._ends.call(self.channel) for _ in range(count)))


def _burst(served_per_s: float, delay_s: float) -> int:
    """How many calls of each burst this machine can carry in a quarter of the delay.

    What the callers themselves have not sent by its end is no concern of Midas.
    """
    return max(1, min(BURST, int(served_per_s * delay_s / 4 / (CHANNELS / 2))))


async def drained(delay_s: float) -> Ends:
    """SIGTERM under load, with this DRAIN_DELAY_S."""
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder:
        async with launched(Path(folder), DRAIN_DELAY_S=str(delay_s)) as midas:
            port = await midas.serving()
            callers = [Caller(port, ends) for _ in range(CHANNELS)]
            heeding = [asyncio.create_task(each.heed()) for each in callers]
            calling = [asyncio.create_task(each.call()) for each in callers]
            await asyncio.sleep(BEFORE_S)
            count = _burst(ends.served / BEFORE_S, delay_s)
            bursts = [asyncio.create_task(each.burst(count)) for each in callers[::2]]
            await asyncio.sleep(0)
            midas.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*heeding, *calling, *bursts)
            ends.status = await midas.process.wait()
            for each in callers:
                await each.channel.close()
    return ends
