"""Good callers: what became of each of their calls, and when."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from grpc import aio

from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.rpc.scripted import charge_request

PAUSE_S = 0.02


@dataclass
class Phase:
    """Calls that began in one part of an attack."""

    served: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    def __str__(self) -> str:
        broken = sum(self.broken.values())
        whole = f"{broken} of {self.served + broken} broken, longest {self.longest_s:.2f} s"
        return f"{whole} {dict(self.broken)}" if broken else whole


class GoodCallers:
    """They call all the time, each on a channel of its own; `phase` is what counts them now."""

    def __init__(self, channels: list[aio.Channel], timeout_s: float) -> None:
        self.phase = Phase()
        self.ending = False
        self._channels = channels
        self._timeout_s = timeout_s

    async def call_all_the_time(self) -> None:
        """Call until `ending`."""
        await asyncio.gather(*(self._calls(each) for each in self._channels))

    async def _calls(self, channel: aio.Channel) -> None:
        stub = PaymentServiceStub(channel)
        while not self.ending:
            phase, began = self.phase, time.monotonic()
            try:
                await stub.Charge(charge_request(), timeout=self._timeout_s)
                phase.served += 1
            except aio.AioRpcError as error:
                phase.broken[f"{error.code().name}: {error.details()}"[:70]] += 1
            phase.longest_s = max(phase.longest_s, time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)

    async def served_again(self) -> float:
        """How many seconds from now until every caller was served once."""
        began = time.monotonic()
        for channel in self._channels:
            while True:
                try:
                    stub = PaymentServiceStub(channel)
                    await stub.Charge(charge_request(), timeout=self._timeout_s)
                    break
                except aio.AioRpcError:
                    await asyncio.sleep(PAUSE_S)
        return time.monotonic() - began


@asynccontextmanager
async def good_callers(channels: list[aio.Channel], timeout_s: float) -> AsyncIterator[GoodCallers]:
    """Callers that call until the end, each of whose calls may take so long."""
    callers = GoodCallers(channels, timeout_s)
    calling = asyncio.create_task(callers.call_all_the_time())
    try:
        yield callers
    finally:
        callers.ending = True
        await calling
