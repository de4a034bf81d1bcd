"""One delivery: which call of the order service a notification is, and what its answer means."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio

from midas.order.v1 import order_payment_service_pb2 as orders
from midas.v1 import event_service_pb2 as events
from webhook_gateway.calls import CallFailed, answer_of

if TYPE_CHECKING:
    from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceAsyncStub

REFUSALS = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"})
"""The statuses after which the order service will never take the notification."""
UNIMPLEMENTED = "UNIMPLEMENTED"
"""The same, but only if it comes from the order service itself: see `_refuses`."""
KIND_UNKNOWN = "KIND_UNKNOWN"
"""The code for a notification of a newer Midas. A newer gateway can deliver it."""

SEQUENCE_REUSED = "SEQUENCE_REUSED"
"""The order service got another notification under this sequence before. A Midas that does not know
this code parks the order."""
SEQUENCE_MOST = 2**53 - 1

_Call: TypeAlias = aio.UnaryUnaryMultiCallable[Message, Message]
_Request: TypeAlias = Callable[[events.Notification], Message]


class Answer(NamedTuple):
    """What became of one attempt."""

    outcome: events.DeliveryOutcome.ValueType
    code: str
    """The name of the gRPC status, or why there was none."""
    receiver_sequence: int = 0
    """The highest sequence that the order service has, if it answered SEQUENCE_REUSED; else 0."""


class Deliveries:
    """Calls the order service."""

    def __init__(self, stub: "OrderPaymentServiceAsyncStub") -> None:
        self._calls: dict[int, tuple[_Call, _Request]] = {
            kind: (getattr(stub, method), request) for kind, (method, request) in _METHODS.items()
        }
        self._acknowledged: set[int] = set()

    async def deliver(self, notification: events.Notification, timeout_s: float) -> Answer:
        """Notify the order service. Raises nothing: every failure is an answer, too."""
        known = self._calls.get(notification.kind)
        if known is None:
            return Answer(events.DELIVERY_OUTCOME_RETRY, KIND_UNKNOWN)
        call, request = known
        try:
            await answer_of(call, request(notification), timeout_s)
        except CallFailed as failed:
            reused = receiver_sequence(failed)
            if reused:
                return Answer(events.DELIVERY_OUTCOME_REFUSED, SEQUENCE_REUSED, reused)
            refused = self._refuses(notification.kind, failed.code)
            retry, never = events.DELIVERY_OUTCOME_RETRY, events.DELIVERY_OUTCOME_REFUSED
            return Answer(never if refused else retry, failed.code)
        self._acknowledged.add(notification.kind)
        return Answer(events.DELIVERY_OUTCOME_DELIVERED, "OK")

    def _refuses(self, kind: int, code: str) -> bool:
        """Whether the notification will never be taken.

        UNIMPLEMENTED is also the answer of a wrong address, and of a server on which the service is
        not registered yet. So it counts only if the service has taken another kind of notification
        before, and never this kind. Otherwise one short moment of it would park every order.
        """
        if code == UNIMPLEMENTED:
            return bool(self._acknowledged) and kind not in self._acknowledged
        return code in REFUSALS


def receiver_sequence(failed: CallFailed) -> int:
    """The highest sequence that the order service has, if that is its answer; else 0."""
    if failed.code != "FAILED_PRECONDITION" or not failed.details:
        return 0
    status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    try:
        status.ParseFromString(failed.details)
        for detail in status.details:
            named = detail.Unpack(info) and (info.domain, info.reason)
            if named == ("midas", SEQUENCE_REUSED):
                return _sequence(info.metadata["sequence"])
    except (DecodeError, ValueError):
        pass
    return 0


def _sequence(text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(SEQUENCE_MOST))
    return int(text) if plain and int(text) <= SEQUENCE_MOST else 0


def _pay_order_success(notification: events.Notification) -> Message:
    return orders.PayOrderSuccessRequest(
        notification_id=notification.notification_id,
        order_no=notification.order_no,
        sequence=notification.sequence,
        occurred_at=notification.occurred_at,
        observed_by=notification.observed_by,
        charge=notification.charge,
        late=notification.late,
        duplicate_payment=notification.duplicate_payment,
        told_again=notification.told_again,
    )


def _pay_order_closed(notification: events.Notification) -> Message:
    return orders.PayOrderClosedRequest(
        notification_id=notification.notification_id,
        order_no=notification.order_no,
        sequence=notification.sequence,
        occurred_at=notification.occurred_at,
        observed_by=notification.observed_by,
        charge=notification.charge,
        told_again=notification.told_again,
    )


def _refund_success(notification: events.Notification) -> Message:
    return orders.RefundSuccessRequest(
        notification_id=notification.notification_id,
        order_no=notification.order_no,
        sequence=notification.sequence,
        occurred_at=notification.occurred_at,
        observed_by=notification.observed_by,
        charge=notification.charge,
        refund=notification.refund,
        told_again=notification.told_again,
    )


def _refund_failed(notification: events.Notification) -> Message:
    return orders.RefundFailedRequest(
        notification_id=notification.notification_id,
        order_no=notification.order_no,
        sequence=notification.sequence,
        occurred_at=notification.occurred_at,
        observed_by=notification.observed_by,
        charge=notification.charge,
        refund=notification.refund,
        told_again=notification.told_again,
    )


_METHODS: dict[int, tuple[str, _Request]] = {
    events.NOTIFICATION_KIND_PAY_ORDER_SUCCESS: ("PayOrderSuccess", _pay_order_success),
    events.NOTIFICATION_KIND_PAY_ORDER_CLOSED: ("PayOrderClosed", _pay_order_closed),
    events.NOTIFICATION_KIND_REFUND_SUCCESS: ("RefundSuccess", _refund_success),
    events.NOTIFICATION_KIND_REFUND_FAILED: ("RefundFailed", _refund_failed),
}
