"""A relay between the two doubles, over real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from grpc import aio

from midas.order.v1 import order_payment_service_pb2_grpc as order_grpc
from midas.v1 import event_service_pb2_grpc as event_grpc
from tests.gateway.relay_doubles import ScriptedMidas, ScriptedOrders
from tests.patience import PATIENCE_S
from webhook_gateway.channel_options import MIDAS_CHANNEL, ORDER_CHANNEL
from webhook_gateway.relay import Relay, RelayOptions

Add = Callable[[Any, Any], None]


class Counted:
    """What the relay measured."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.oldest_s = 0.0
        self.parked = 0
        self._more = asyncio.Event()

    def delivered(self, kind: str, outcome: str) -> None:
        """Count it."""
        self.attempts[kind, outcome] += 1
        self._more.set()

    async def until_delivered(self, count: int) -> None:
        """Wait until the relay has had so many answers."""
        async with asyncio.timeout(PATIENCE_S):
            while self.attempts.total() < count:
                self._more.clear()
                await self._more.wait()

    def backlog(self, oldest_undelivered_s: float, parked: int) -> None:
        """Keep it."""
        self.oldest_s, self.parked = oldest_undelivered_s, parked


class Served:
    """One double on a port that stays the same when it goes down and comes back."""

    def __init__(self, double: Any, add: Add) -> None:
        self._double, self._add = double, add
        self._server: aio.Server | None = None
        self._ending: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def target(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self.port}"

    async def up(self) -> None:
        """Serve, once the server before has let go of the port, also if it is only about to."""
        await self.down()
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        self._add(self._double, self._server)
        self.port = self._server.add_insecure_port(self.target)
        await self._server.start()

    async def down(self) -> None:
        """Drop every call and connection.

        In a task of its own, because a call that is dropped may be the one that asked for it.
        """
        if self._server is not None:
            server, self._server = self._server, None
            self._ending = asyncio.create_task(server.stop(0))
        if self._ending is not None:
            await asyncio.shield(self._ending)


@dataclass
class Stage:
    """All that a test needs."""

    midas: ScriptedMidas
    orders: ScriptedOrders
    midas_server: Served
    order_server: Served
    metrics: Counted = field(default_factory=Counted)
    relay: Relay = field(init=False)
    running: asyncio.Task[None] = field(init=False)


def relay_to(midas: aio.Channel, orders: aio.Channel, metrics: Counted, **options: Any) -> Relay:
    """A relay over these channels."""
    filled = {"concurrency": 8, "order_timeout": timedelta(seconds=20), **options}
    return Relay(
        event_grpc.EventServiceStub(midas),
        order_grpc.OrderPaymentServiceStub(orders),
        RelayOptions(**filled),
        metrics,
    )


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """Both doubles, and no relay yet."""
    midas, orders = ScriptedMidas(), ScriptedOrders()
    midas_server = Served(midas, event_grpc.add_EventServiceServicer_to_server)
    order_server = Served(orders, order_grpc.add_OrderPaymentServiceServicer_to_server)
    await midas_server.up()
    await order_server.up()
    try:
        yield Stage(midas, orders, midas_server, order_server)
    finally:
        await midas_server.down()
        await order_server.down()


@asynccontextmanager
async def relaying(stage: Stage, **options: Any) -> AsyncIterator[Relay]:
    """A relay that runs; a stage may have several."""
    async with (
        aio.insecure_channel(stage.midas_server.target, options=MIDAS_CHANNEL) as midas,
        aio.insecure_channel(stage.order_server.target, options=ORDER_CHANNEL) as orders,
    ):
        relay = relay_to(midas, orders, stage.metrics, **options)
        stage.running = running = asyncio.create_task(relay.run())
        try:
            yield relay
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@asynccontextmanager
async def relayed(**options: Any) -> AsyncIterator[Stage]:
    """Both doubles with a running relay between them."""
    async with staged() as stage, relaying(stage, **options) as relay:
        stage.relay = relay
        yield stage
