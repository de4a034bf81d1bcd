"""midas.order.v1.OrderPaymentService over the book."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceServicer
from midas.sandbox.orders.book import OrderBook, Reception
from midas.sandbox.orders.faults import Fault, OrderFaults
from midas.sandbox.orders.gathering import Gathering

SEQUENCE_MOST = 2**63 - 1

_log = logging.getLogger("midas.orders")


class OrderService(OrderPaymentServiceServicer):
    """The four calls. Each answers OK only when its notification is on disk, or was before."""

    def __init__(self, book: OrderBook, faults: OrderFaults | None = None) -> None:
        self.faults = faults or OrderFaults()
        self._gathering = Gathering(book)

    async def PayOrderSuccess(  # noqa: N802
        self, request: pb.PayOrderSuccessRequest, context: Any
    ) -> pb.PayOrderSuccessResponse:
        """The order was paid."""
        await self._take("PayOrderSuccess", "pay_order_success", request, context)
        return pb.PayOrderSuccessResponse()

    async def PayOrderClosed(  # noqa: N802
        self, request: pb.PayOrderClosedRequest, context: Any
    ) -> pb.PayOrderClosedResponse:
        """A charge of the order ended without money."""
        await self._take("PayOrderClosed", "pay_order_closed", request, context)
        return pb.PayOrderClosedResponse()

    async def RefundSuccess(  # noqa: N802
        self, request: pb.RefundSuccessRequest, context: Any
    ) -> pb.RefundSuccessResponse:
        """Money went back."""
        await self._take("RefundSuccess", "refund_success", request, context)
        return pb.RefundSuccessResponse()

    async def RefundFailed(  # noqa: N802
        self, request: pb.RefundFailedRequest, context: Any
    ) -> pb.RefundFailedResponse:
        """A refund was refused."""
        await self._take("RefundFailed", "refund_failed", request, context)
        return pb.RefundFailedResponse()

    async def finish(self) -> None:
        """Wait until what was begun is written."""
        await self._gathering.finish()

    async def _take(self, method: str, kind: str, request: Any, context: Any) -> None:
        taken = self.faults.take(method, request.order_no, request.sequence)
        await _go_wrong_before(taken, context)
        if not request.order_no or not 0 < request.sequence <= SEQUENCE_MOST:
            # without them nobody knows which order this is about, or whether it is a repeat
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "order_no and sequence are needed"
            )
        await self._record(Reception(kind, request.order_no, request.sequence, request), context)
        await _go_wrong_after(taken, context)

    async def _record(self, reception: Reception, context: Any) -> None:
        try:
            decision = await self._gathering.accept(reception)
        except sqlite3.Error as error:
            _log.error("order_file_unwritable", exc_info=error)
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "cannot be recorded now; send it again"
            )
        if decision.reused_below:
            _log.error(
                "sequence_reused",
                extra={"order_no": reception.order_no, "sequence": reception.sequence},
            )
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                _REUSED,
                ((_DETAILS, _sequence_reused(decision.reused_below).SerializeToString()),),
            )
        if decision.missed:
            _log.warning(
                "notifications_missed",
                extra={"order_no": reception.order_no, "count": decision.missed},
            )


_REUSED = "something else was sent under this sequence"
_DETAILS = "grpc-status-details-bin"


def _sequence_reused(highest: int) -> Any:
    """The status that shows Midas the highest sequence, so that it sends again above that."""
    info = error_details_pb2.ErrorInfo(
        reason="SEQUENCE_REUSED", domain="midas", metadata={"sequence": str(highest)}
    )
    code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
    status = status_pb2.Status(code=code, message=_REUSED)
    status.details.add().Pack(info)
    return status


async def _go_wrong_before(taken: Sequence[Fault], context: Any) -> None:
    await _delay(taken, "before")
    for fault in taken:
        if fault.kind == "refuse":
            await context.abort(grpc.StatusCode[fault.parameters["code"]], "a fault on demand")
        if fault.kind == "stall":
            await asyncio.Event().wait()


async def _go_wrong_after(taken: Sequence[Fault], context: Any) -> None:
    await _delay(taken, "after")
    if any(fault.kind == "lose_answer" for fault in taken):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "a fault on demand: it was recorded")


async def _delay(taken: Sequence[Fault], when: str) -> None:
    delays = [fault.parameters for fault in taken if fault.kind == "delay"]
    seconds = sum(each["seconds"] for each in delays if each["when"] == when)
    if seconds:
        await asyncio.sleep(seconds)
