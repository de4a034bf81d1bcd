"""Notifications as Midas sends them, and a client for the order service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub
from midas.v1 import charge_pb2, refund_pb2

METHODS = ("PayOrderSuccess", "PayOrderClosed", "RefundSuccess", "RefundFailed")
TIMEOUT_S = 120


def notification(
    method: str,
    order_no: str,
    sequence: int,
    charge: dict[str, Any] | None = None,
    refund: dict[str, Any] | None = None,
    commit: str = "",
    **fields: Any,
) -> Any:
    """The request of one call."""
    request = {
        "PayOrderSuccess": pb.PayOrderSuccessRequest,
        "PayOrderClosed": pb.PayOrderClosedRequest,
        "RefundSuccess": pb.RefundSuccessRequest,
        "RefundFailed": pb.RefundFailedRequest,
    }[method]
    if method.startswith("Refund"):
        fields["refund"] = refund_pb2.Refund(**{"refund_no": f"r-{sequence}", **(refund or {})})
    charge = {"charge_id": "ch_1", "amount": 100, **(charge or {})}
    return request(
        notification_id=f"{order_no}/{sequence}{commit and '/'}{commit}",
        order_no=order_no,
        sequence=sequence,
        charge=charge_pb2.Charge(**{"out_trade_no": f"N{charge['charge_id']}", **charge}),
        **fields,
    )


class Caller:
    """Calls by the name of the method; the answer's status by its name."""

    def __init__(self, channel: aio.Channel) -> None:
        self.stub = OrderPaymentServiceStub(channel)

    async def notify(self, method: str, order_no: str, sequence: int, **fields: Any) -> str:
        """Send one notification."""
        return await self.send(method, notification(method, order_no, sequence, **fields))

    async def send(
        self, method: str, request: Any, timeout_s: float = TIMEOUT_S, wait: bool = False
    ) -> str:
        """Send this request; with `wait` as soon as somebody listens."""
        try:
            await getattr(self.stub, method)(request, timeout=timeout_s, wait_for_ready=wait)
        except aio.AioRpcError as error:
            return error.code().name
        return grpc.StatusCode.OK.name


@asynccontextmanager
async def caller(target: str) -> AsyncIterator[Caller]:
    """A client of the order service at this address."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
    async with aio.insecure_channel(target, options=options) as channel:
        yield Caller(channel)
