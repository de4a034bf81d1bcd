"""An inbox and an announcer that a test scripts, and the service over them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from grpc import aio

from midas import limits
from midas.event import EventRecord, EventStanding
from midas.flows.announce import Leased
from midas.flows.apply_event import EventOutcome, Recorded
from midas.lease import Backlog, Lease, Settlement
from midas.payment import Notification, Order
from midas.rpc.event_service import SERVICE, EventService
from midas.rpc.server import Binding, Server
from midas.v1 import event_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.rpc.scripted import NOW, a_charge, a_refund

if TYPE_CHECKING:
    from midas.v1.event_service_pb2_grpc import EventServiceAsyncStub

EVENT = EventRecord(
    "evt_1", "o-1", "charge.succeeded", NOW, "ab" * 32, b"{}", EventStanding.APPLIED
)
PAID = Notification("o-1", 1, "PAY_ORDER_SUCCESS", NOW, "WEBHOOK", a_charge().out_trade_no)
ORDER = Order("o-1", charges=(a_charge(),), refunds=(a_refund(),))


async def _nothing() -> None:
    return None


@dataclass
class ScriptedInbox:
    """Answers by the test's script, and remembers what it was asked."""

    answer: Recorded | Exception = field(
        default_factory=lambda: Recorded(EventOutcome.ACCEPTED, EVENT)
    )
    asked: list[tuple[bytes, str]] = field(default_factory=list)

    async def record(self, body: bytes, unreadable: str) -> Recorded:
        """The one answer."""
        self.asked.append((body, unreadable))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class ScriptedAnnouncer:
    """Answers by the test's script, after `before`, and remembers what it was asked."""

    leases: Sequence[Lease] = ()
    backlog: Backlog = field(default_factory=lambda: Backlog(None, 0))
    before: Callable[[], Awaitable[None]] = _nothing
    error: Exception | None = None
    asked: list[tuple[int, timedelta]] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)

    async def lease(self, limit: int, wait: timedelta) -> Leased:
        """The same every time."""
        self.asked.append((limit, wait))
        await self.before()
        if self.error is not None:
            raise self.error
        return Leased(tuple(self.leases), limits.NOTIFICATION_LEASE, self.backlog)

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Every second one counts."""
        if self.error is not None:
            raise self.error
        self.settled.extend(settlements)
        return [number % 2 == 0 for number in range(len(settlements))]


@dataclass
class Served:
    """A server that runs, and the service for a gateway."""

    server: Server
    stub: "EventServiceAsyncStub"
    inbox: ScriptedInbox
    announcer: ScriptedAnnouncer


@asynccontextmanager
async def served(
    inbox: Any = None, announcer: Any = None, binding: Binding | None = None
) -> AsyncIterator[Served]:
    """The service over these, and a channel in the clear."""
    inbox, announcer = inbox or ScriptedInbox(), announcer or ScriptedAnnouncer()
    methods = EventService(inbox, announcer).methods
    server = Server(binding or Binding())
    await server.start({SERVICE: methods})
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            yield Served(server, EventServiceStub(channel), inbox, announcer)
        finally:
            await server.drain(timedelta(seconds=1))
            await server.stop(timedelta(seconds=0.1))


def settlement(**fields: Any) -> pb.Settlement:
    """A lease that was refused."""
    right: dict[str, Any] = {
        "lease_token": "t1",
        "order_no": "o-1",
        "sequence": 1,
        "outcome": pb.DELIVERY_OUTCOME_REFUSED,
        "code": "NOT_FOUND",
    }
    return pb.Settlement(**(right | fields))


def settle(*settlements: pb.Settlement) -> pb.SettleNotificationsRequest:
    """The report of these."""
    return pb.SettleNotificationsRequest(settlements=settlements)
