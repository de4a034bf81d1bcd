"""Doubles of Midas and of the order service for the relay: gRPC servers that a test scripts."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from midas.order.v1 import order_payment_service_pb2 as orders_pb
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceServicer
from midas.v1 import charge_pb2, refund_pb2
from midas.v1 import event_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceServicer
from tests.patience import PATIENCE_S

KINDS = {
    "PayOrderSuccess": pb.NOTIFICATION_KIND_PAY_ORDER_SUCCESS,
    "PayOrderClosed": pb.NOTIFICATION_KIND_PAY_ORDER_CLOSED,
    "RefundSuccess": pb.NOTIFICATION_KIND_REFUND_SUCCESS,
    "RefundFailed": pb.NOTIFICATION_KIND_REFUND_FAILED,
}


class Changes:
    """Lets a test wait for a state instead of for a while."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()

    async def happened(self) -> None:
        """Wake all that wait."""
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait for it; TimeoutError when it does not come."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(holds)


class Settled(NamedTuple):
    """One settlement and whether it counted."""

    order_no: str
    sequence: int
    outcome: str
    code: str
    applied: bool


@dataclass
class _Order:
    notifications: list[pb.Notification] = field(default_factory=list)
    acknowledged: int = 0
    attempts: int = 0
    token: str = ""
    over_at: float = 0.0
    due_at: float = 0.0
    parked: bool = False


class ScriptedMidas(EventServiceServicer):
    """EventService in memory: the head of each order's line, leased, settled, parked."""

    def __init__(self) -> None:
        self.orders: dict[str, _Order] = {}
        self.lease_s = 60.0
        self.retry_pause_s = 0.0
        self.settled: list[Settled] = []
        self.receiver_sequences: list[int] = []
        """The order service's highest sequence in each settlement."""
        self.settle_calls: list[int] = []
        """How many settlements each accepted report held."""
        self.asked: list[tuple[int, float]] = []
        """`max` and `wait` of each lease call."""
        self.pending = 0
        """Lease calls that wait now."""
        self.changes = Changes()
        self.lease_failures: list[grpc.StatusCode] = []
        self.settle_failures: list[grpc.StatusCode] = []
        self.before_settling: Callable[[], Awaitable[None]] | None = None
        self.before_answering: Callable[[pb.LeaseNotificationsResponse], Awaitable[None]] = _at_once
        self.answers_empty_at_once = 0
        self._tokens = itertools.count(1)

    # What a test does

    async def announce(self, order_no: str, method: str = "PayOrderSuccess", **fields: Any) -> None:
        """One more notification of the order."""
        notifications = self.orders.setdefault(order_no, _Order()).notifications
        charge = charge_pb2.Charge(order_no=order_no, charge_id=f"ch_{order_no}", amount=100)
        notification = pb.Notification(
            notification_id=f"{order_no}/{len(notifications) + 1}",
            order_no=order_no,
            sequence=len(notifications) + 1,
            kind=KINDS.get(method, pb.NOTIFICATION_KIND_UNSPECIFIED),
            observed_by=charge_pb2.OBSERVED_BY_WEBHOOK,
            charge=charge,
            **fields,
        )
        if method.startswith("Refund"):
            notification.refund.CopyFrom(refund_pb2.Refund(refund_no="r-1", amount=40))
        notifications.append(notification)
        await self.changes.happened()

    async def expire_leases(self) -> None:
        """As if all of them were over."""
        for order in self.orders.values():
            order.over_at = 0.0
        await self.changes.happened()

    async def redeliver(self, order_no: str) -> None:
        """A person lets a parked order go on."""
        self.orders[order_no].parked = False
        await self.changes.happened()

    def all_delivered(self) -> bool:
        """Whether nothing waits."""
        return all(order.acknowledged == len(order.notifications) for order in self.orders.values())

    # The service

    async def RecordEvent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not the relay's."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async def RecordEvents(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not the relay's."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async def LeaseNotifications(  # noqa: N802
        self, request: pb.LeaseNotificationsRequest, context: Any
    ) -> pb.LeaseNotificationsResponse:
        """Long-poll."""
        wait_s = request.wait.seconds + request.wait.nanos / 1e9
        self.asked.append((request.max, wait_s))
        if self.lease_failures:
            await context.abort(self.lease_failures.pop(0), "scripted")
        self.pending += 1
        await self.changes.happened()
        try:
            answer = await self._due(request.max, wait_s)
            await self.before_answering(answer)
            return answer
        finally:
            self.pending -= 1
            await asyncio.shield(self.changes.happened())

    async def SettleNotifications(  # noqa: N802
        self, request: pb.SettleNotificationsRequest, context: Any
    ) -> pb.SettleNotificationsResponse:
        """Apply each that still holds its lease."""
        if self.before_settling is not None:
            await self.before_settling()
        if self.settle_failures:
            await context.abort(self.settle_failures.pop(0), "scripted")
        applied = [self._settle(each) for each in request.settlements]
        self.settle_calls.append(len(applied))
        await self.changes.happened()
        return pb.SettleNotificationsResponse(applied=applied)

    async def _due(self, most: int, wait_s: float) -> pb.LeaseNotificationsResponse:
        end = _now() + wait_s
        while True:
            due = self._ripe()[:most]
            if due or _now() >= end or self.answers_empty_at_once:
                self.answers_empty_at_once = max(0, self.answers_empty_at_once - 1)
                return self._answer([self._lease(order) for order in due])
            try:
                async with asyncio.timeout(min(self._next_s(), end - _now())):
                    async with self.changes._changed:
                        await self.changes._changed.wait()
            except TimeoutError:
                continue

    def _ripe(self) -> list[_Order]:
        now = _now()
        waiting = [
            order
            for order in self.orders.values()
            if order.acknowledged < len(order.notifications)
            and not order.parked
            and not (order.token and now < order.over_at)
            and order.due_at <= now
        ]
        return sorted(waiting, key=lambda order: order.due_at)

    def _next_s(self) -> float:
        times = [each.over_at if each.token else each.due_at for each in self.orders.values()]
        coming = [time - _now() for time in times if time > _now()]
        return max(0.001, min(coming, default=PATIENCE_S))

    def _lease(self, order: _Order) -> pb.LeasedNotification:
        order.token, order.over_at = f"t{next(self._tokens)}", _now() + self.lease_s
        return pb.LeasedNotification(
            lease_token=order.token,
            attempts=order.attempts,
            notification=order.notifications[order.acknowledged],
        )

    def _answer(self, leased: list[pb.LeasedNotification]) -> pb.LeaseNotificationsResponse:
        whole = int(self.lease_s)
        answer = pb.LeaseNotificationsResponse(
            notifications=leased,
            lease=Duration(seconds=whole, nanos=int((self.lease_s - whole) * 1e9)),
            parked_orders=sum(order.parked for order in self.orders.values()),
            backlog_known=True,
        )
        if not self.all_delivered():
            answer.oldest_undelivered_at.GetCurrentTime()
            answer.oldest_undelivered_at.seconds -= 7
        return answer

    def _settle(self, settlement: pb.Settlement) -> bool:
        order = self.orders[settlement.order_no]
        applied = order.token == settlement.lease_token
        if applied:
            order.token = ""
            self._apply(order, settlement)
        self.receiver_sequences.append(settlement.receiver_sequence)
        outcome = pb.DeliveryOutcome.Name(settlement.outcome).removeprefix("DELIVERY_OUTCOME_")
        self.settled.append(
            Settled(settlement.order_no, settlement.sequence, outcome, settlement.code, applied)
        )
        return applied

    def _apply(self, order: _Order, settlement: pb.Settlement) -> None:
        assert settlement.sequence == order.acknowledged + 1
        order.due_at = _now()
        if settlement.outcome == pb.DELIVERY_OUTCOME_DELIVERED:
            order.acknowledged, order.attempts = settlement.sequence, 0
        elif settlement.outcome == pb.DELIVERY_OUTCOME_REFUSED:
            order.parked = True
        else:
            order.attempts += 1
            order.due_at += self.retry_pause_s


class Received(NamedTuple):
    """One call as it came in."""

    method: str
    order_no: str
    sequence: int
    request: Any
    time_remaining: float


class ScriptedOrders(OrderPaymentServiceServicer):
    """The order service; `behave` may answer otherwise or take its time."""

    def __init__(self) -> None:
        self.calls: list[Received] = []
        self.answered: list[tuple[str, int]] = []
        """Those that were answered with OK."""
        self.behave: Callable[[Received, Any], Awaitable[None]] = _accept
        self.under_way = 0
        self.most_under_way = 0
        self.changes = Changes()

    def times(self) -> Counter[tuple[str, int]]:
        """How often each notification came."""
        return Counter((call.order_no, call.sequence) for call in self.calls)

    def sequences(self, order_no: str) -> list[int]:
        """In the order of arrival."""
        return [call.sequence for call in self.calls if call.order_no == order_no]

    async def PayOrderSuccess(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Paid."""
        await self._take("PayOrderSuccess", request, context)
        return orders_pb.PayOrderSuccessResponse()

    async def PayOrderClosed(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Closed."""
        await self._take("PayOrderClosed", request, context)
        return orders_pb.PayOrderClosedResponse()

    async def RefundSuccess(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Refunded."""
        await self._take("RefundSuccess", request, context)
        return orders_pb.RefundSuccessResponse()

    async def RefundFailed(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not refunded."""
        await self._take("RefundFailed", request, context)
        return orders_pb.RefundFailedResponse()

    async def _take(self, method: str, request: Any, context: Any) -> None:
        left = context.time_remaining()
        call = Received(method, request.order_no, request.sequence, request, left)
        self.calls.append(call)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.changes.happened()
        try:
            await self.behave(call, context)
            self.answered.append((call.order_no, call.sequence))
        finally:
            self.under_way -= 1
            await self.changes.happened()


async def _accept(call: Received, context: aio.ServicerContext[Any, Any]) -> None:
    """Take it at once."""


async def _at_once(answer: pb.LeaseNotificationsResponse) -> None:
    """Do not hold it back."""


def _now() -> float:
    return asyncio.get_running_loop().time()
