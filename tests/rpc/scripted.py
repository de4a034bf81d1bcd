"""Flows that a test scripts, and the server over them on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio

from midas.charge import Charge, ChargeState, ChargeTerms, ObservedBy
from midas.flows.poll import PollResult
from midas.flows.terms import RefundTerms
from midas.payment import Order
from midas.ports import KeyKind, Listing, RowKind
from midas.refund import Refund, RefundState
from midas.rpc.payment_service import SERVICE, PaymentService
from midas.rpc.server import Binding, Server
from midas.v1 import errors_pb2, payment_service_pb2
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

NOW = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
CHARGE_JSON = '{"id": "ch_1", "object":"charge",  "credential": {"wx_pub_qr": "weixin://…"}}'


class ChargeResult(NamedTuple):
    """As the charge flow answers."""

    order: Order
    charge: Charge
    charge_json: str
    reused: bool


class RefundResult(NamedTuple):
    """As the refund flow answers."""

    order: Order
    refund: Refund


def a_charge(**changes: Any) -> Charge:
    """A pending charge."""
    terms: dict[str, Any] = {
        "out_trade_no": "00000000000000000001",
        "order_no": "o-1",
        "app_id": "app_1",
        "livemode": False,
        "channel": "wx_pub_qr",
        "amount": 100,
        "currency": "cny",
        "subject": "Tea",
        "body": "Two bags",
        "client_ip": "192.0.2.1",
        "extra": {},
        "metadata": {"shop": "7"},
        "terms_digest": "d",
        "created_at": NOW,
        "updated_at": NOW,
        "state": ChargeState.PENDING,
        "charge_id": "ch_1",
        "expires_at": NOW + timedelta(hours=2),
        "observed_by": ObservedBy.CREATE,
    }
    return Charge(**(terms | changes))


def a_refund(**changes: Any) -> Refund:
    """A pending refund of that charge."""
    content: dict[str, Any] = {
        "refund_no": "r-1",
        "order_no": "o-1",
        "out_trade_no": "00000000000000000001",
        "charge_id": "ch_1",
        "amount": 30,
        "currency": "cny",
        "app_id": "app_1",
        "description": "cold",
        "metadata": {},
        "content_digest": "d",
        "created_at": NOW,
        "updated_at": NOW,
        "state": RefundState.PENDING,
        "refund_id": "re_1",
    }
    return Refund(**(content | changes))


async def _nothing() -> None:
    return None


@dataclass
class ScriptedFlows:
    """Answers with fixed results after `before`, and remembers what it was asked."""

    before: Callable[[], Awaitable[None]] = _nothing
    asked: list[Any] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    order: Order = field(default_factory=lambda: Order("o-1", charges=(a_charge(),)))
    called: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first charge."""

    async def charge(self, terms: ChargeTerms) -> Any:
        """One pending charge."""
        self.asked.append(terms)
        self.called.set()
        await self.before()
        return ChargeResult(self.order, self.order.charges[0], CHARGE_JSON, reused=False)

    async def refund(self, terms: RefundTerms) -> Any:
        """One pending refund."""
        self.asked.append(terms)
        await self.before()
        return RefundResult(self.order, a_refund())

    async def query(
        self, kind: KeyKind, key: str, refresh: bool, timeout: timedelta | None
    ) -> tuple[Order, tuple[Charge, ...]]:
        """The one order."""
        self.asked.append((kind, key, refresh, timeout))
        await self.before()
        return self.order, self.order.charges

    async def poll(
        self, kinds: Collection[RowKind], limit: int, timeout: timedelta | None
    ) -> PollResult:
        """Two rows, one of which has changed."""
        self.asked.append((kinds, limit, timeout))
        await self.before()
        return PollResult(2, 1, 1, 0, 0, 1, 2, more_due=True, oldest_due_at=NOW)

    async def list_charges(self, state: ChargeState | None, page: Listing) -> list[Order]:
        """As many of the orders as asked for, after the place given."""
        self.asked.append((state, page))
        await self.before()
        rows = [(order, order.charges[0]) for order in self.orders]
        after = page.after or (datetime.max.replace(tzinfo=UTC), "")
        found = [order for order, c in rows if (c.created_at, c.out_trade_no) < after]
        return found[: page.limit]

    async def list_refunds(self, state: RefundState | None, page: Listing) -> list[Refund]:
        """As many of the refunds as asked for, after the place given."""
        self.asked.append((state, page))
        await self.before()
        after = page.after or (datetime.max.replace(tzinfo=UTC), "")
        found = [r for r in self.refunds if (r.created_at, r.refund_no) < after]
        return found[: page.limit]

    async def run(self) -> None:
        """Nothing to do in the background."""
        await asyncio.Event().wait()

    async def drain(self, timeout: timedelta) -> bool:
        """Nothing is under way outside of calls."""
        return True


@dataclass
class Served:
    """A server that runs, and a channel to it."""

    server: Server
    channel: aio.Channel
    flows: ScriptedFlows

    @property
    def stub(self) -> "PaymentServiceAsyncStub":
        """The service for a caller."""
        return PaymentServiceStub(self.channel)


@asynccontextmanager
async def served(
    flows: ScriptedFlows | None = None, binding: Binding | None = None
) -> AsyncIterator[Served]:
    """The server over these flows, ready, and a channel in the clear."""
    flows = flows or ScriptedFlows()
    server = Server(binding or Binding())
    await server.start({SERVICE: PaymentService(flows).methods})
    await server.health.set_ready(True)
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            yield Served(server, channel, flows)
        finally:
            await server.drain(timedelta(seconds=1))
            await server.stop(timedelta(seconds=0.1))


@dataclass
class ErrorStatus:
    """An error status with its details."""

    code: grpc.StatusCode
    message: str
    info: Any
    detail: errors_pb2.PaymentErrorDetail
    bad_request: Any = None
    retry: Any = None
    everything: str = ""

    @property
    def fields(self) -> list[str]:
        """The names of the refused fields."""
        return [each.field for each in self.bad_request.field_violations]


async def error_of(call: Awaitable[object]) -> ErrorStatus:
    """The error that a call ends with."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return _error_status(error)
    raise AssertionError(f"the call succeeded: {answer}")


def _error_status(error: aio.AioRpcError) -> ErrorStatus:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    code = error.code()
    assert status.code == code.value[0]
    assert status.message == error.details()
    found: dict[str, Message] = {}
    for packed in status.details:
        for kind in _DETAILS:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found[kind.DESCRIPTOR.name] = message
    return ErrorStatus(
        code,
        error.details() or "",
        found["ErrorInfo"],
        found["PaymentErrorDetail"],  # type: ignore[arg-type]
        found.get("BadRequest"),
        found.get("RetryInfo"),
        everything=f"{error!r} {trailers} {error.debug_error_string()}",
    )


_DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    errors_pb2.PaymentErrorDetail,
)


def charge_request(**changes: Any) -> payment_service_pb2.ChargeRequest:
    """A request that the flows accept."""
    terms: dict[str, Any] = {
        "order_no": "o-1",
        "channel": "wx_pub_qr",
        "amount": 100,
        "subject": "Tea",
        "body": "Two bags",
        "client_ip": "192.0.2.1",
    }
    return payment_service_pb2.ChargeRequest(**(terms | changes))
